//! The items of a response that are open, and their JSON.

use std::borrow::Cow;

use crate::dialect::ir::Text;
use crate::dialect::ir::write::Object;

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// How many parts are complete, and their JSON, with commas between.
    pub(super) count: u64,
    pub(super) parts: Vec<u8>,
    pub(super) part: Option<Part>,
}

/// The open part of a message. Texts are kept as the insides of JSON strings.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) words: Words,
    pub(super) text: String,
    pub(super) annotations: Vec<String>,
    pub(super) logprobs: Option<String>,
}

/// What a text is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// The type of its part.
    pub(super) part: &'static str,
    /// The member of its part that holds it.
    pub(super) member: &'static str,
    /// The names of its events.
    pub(super) delta: &'static str,
    pub(super) done: &'static str,
    /// What counts the parts of its item.
    pub(super) index: &'static str,
    pub(super) added_part: &'static str,
    pub(super) done_part: &'static str,
}

pub(super) const ANSWER: Words = Words {
    part: "output_text",
    member: "text",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
    index: "content_index",
    added_part: "response.content_part.added",
    done_part: "response.content_part.done",
};
pub(super) const REFUSAL: Words = Words {
    part: "refusal",
    member: "refusal",
    delta: "response.refusal.delta",
    done: "response.refusal.done",
    ..ANSWER
};
pub(super) const SUMMARY: Words = Words {
    part: "summary_text",
    delta: "response.reasoning_summary_text.delta",
    done: "response.reasoning_summary_text.done",
    index: "summary_index",
    added_part: "response.reasoning_summary_part.added",
    done_part: "response.reasoning_summary_part.done",
    ..ANSWER
};

/// Reasoning: a summary, whoever thought it, because that is what clients show.
#[derive(Debug, Default)]
pub(super) struct Reasoning {
    pub(super) text: String,
    pub(super) seal: Option<String>,
}

/// A function call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: Text<'static>,
    pub(super) arguments: String,
    pub(super) seal: Option<String>,
}

impl Part {
    pub(super) fn new(words: Words, text: String) -> Self {
        Self { words, text, annotations: Vec::new(), logprobs: None }
    }

    pub(super) fn write(&self, mut object: Object<'_>) {
        object.string("type", self.words.part);
        if self.words.part == ANSWER.part {
            let mut list = object.array("annotations");
            for annotation in &self.annotations {
                list.item().extend_from_slice(annotation.as_bytes());
            }
            list.end();
            object.raw("logprobs", self.logprobs.as_deref().unwrap_or("[]"));
        }
        object.text(self.words.member, &inside(&self.text));
        object.end();
    }
}

impl Reasoning {
    /// A text of it as a part.
    pub(super) fn part(text: String) -> Part {
        Part::new(SUMMARY, text)
    }

    /// Writes `summary`.
    pub(super) fn sections_into(&self, item: &mut Object<'_>) {
        let mut list = item.array("summary");
        if !self.text.is_empty() {
            Self::part(self.text.clone()).write(list.object());
        }
        list.end();
    }
}

impl Call {
    pub(super) fn item(&self, item: &mut Object<'_>, id: &str, status: &str) {
        item.string("id", id);
        item.string("type", "function_call");
        item.string("status", status);
        item.text("arguments", &inside(&self.arguments));
        item.string("call_id", &self.id);
        item.text("name", &self.name);
    }
}

/// A text out of the inside of its JSON string.
pub(super) fn inside(text: &str) -> Text<'_> {
    Text::Escaped(Cow::Borrowed(text))
}
