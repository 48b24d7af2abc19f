//! The events of Gemini, each of which is a reply of its own. None of them is the last by its kind.

use serde::Deserialize;

use super::chat::Choices;
use super::{Carries, Finish, Usage};
use crate::dialect::gemini::reply::usage;
use crate::dialect::ir::lenient::Raw;
use crate::frame::sse::Event;

/// How far a Gemini stream has come.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    stage: Stage,
    candidates: Choices,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Speaking,
    /// The prompt was blocked: there are no candidates.
    Blocked,
    /// There was an error.
    Failed,
}

impl Gemini {
    pub(super) fn event(&mut self, event: &Event<'_>) -> Carries {
        match serde_json::from_slice::<Chunk<'_>>(event.data.trim_ascii()) {
            Ok(chunk) => self.chunk(&chunk),
            // Whatever it is, the client will have to deal with it.
            Err(_) => Carries::Content,
        }
    }

    pub(super) fn finish(&self) -> Finish {
        match self.stage {
            Stage::Failed => Finish::Failed,
            Stage::Blocked => Finish::Done,
            Stage::Speaking if self.candidates.all_finished() => Finish::Done,
            Stage::Speaking => Finish::Open,
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Carries {
        self.usage = usage(chunk.usage_metadata).or(self.usage);
        if chunk.error.get().is_some() {
            self.stage = Stage::Failed;
            return Carries::Other;
        }
        let candidates = chunk.candidates.items::<Candidate<'_>>();
        let feedback = chunk.prompt_feedback.object::<Feedback<'_>>();
        if candidates.is_empty()
            && feedback.is_some_and(|feedback| feedback.block_reason.some_text().is_some())
            && self.stage == Stage::Speaking
        {
            self.stage = Stage::Blocked;
        }
        let mut carries = Carries::Other;
        for candidate in candidates {
            let reason = candidate.finish_reason.some_text();
            let is_last = reason.is_some_and(|reason| reason != *"FINISH_REASON_UNSPECIFIED");
            self.candidates.note(candidate.index.count().unwrap_or(0), is_last);
            let content = candidate.content.object::<Content<'_>>().unwrap_or_default();
            if content.parts.items::<Part<'_>>().iter().any(Part::holds) {
                carries = Carries::Content;
            }
        }
        carries
    }
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Raw<'a>,
    #[serde(borrow)]
    usage_metadata: Raw<'a>,
    #[serde(borrow)]
    prompt_feedback: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    #[serde(borrow)]
    index: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
}

impl Part<'_> {
    /// Whether it is more than an empty text, which only carries a seal.
    fn holds(&self) -> bool {
        self.text.text().is_none_or(|text| !text.is_empty())
    }
}
