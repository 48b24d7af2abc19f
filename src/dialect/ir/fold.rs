//! A whole reply: the fold of its events.

use std::borrow::Cow;

use super::{Attachment, Block, Event, Finish, Law, Start, Stop, Text, broken};
use crate::dialect::usage::Usage;
use crate::error::Error;

/// A whole reply. It borrows from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its head.
    pub start: Start<'static>,
    /// Its blocks, in order.
    pub blocks: Vec<Whole>,
    /// What it used, if that was said.
    pub usage: Option<Usage>,
    /// How it ended.
    pub finish: Finish<'static>,
}

/// A block with all of its text. Two are equal if their texts decode to the same characters.
#[derive(Clone, Debug)]
pub struct Whole {
    /// What it is.
    pub block: Block<'static>,
    /// What it holds beside its text.
    pub attached: Vec<Attachment<'static>>,
    /// Its text, as the inside of a JSON string: pieces can be put together without decoding them.
    text: String,
}

impl Whole {
    pub(super) fn new(block: Block<'static>) -> Self {
        Self { block, attached: Vec::new(), text: String::new() }
    }

    pub(super) fn add(&mut self, text: &Text<'_>) {
        text.escape_into(&mut self.text);
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Its text: the answer, the reasoning, a tool call's arguments.
    pub fn text(&self) -> Text<'_> {
        Text::Escaped(Cow::Borrowed(&self.text))
    }

    fn seal(&self) -> Option<&Text<'static>> {
        self.attached.iter().find_map(|what| match what {
            Attachment::Signature { text, .. } => Some(text),
            Attachment::Logprobs(_) | Attachment::Opaque(_) => None,
        })
    }
}

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block && self.attached == other.attached && self.text() == other.text()
    }
}

impl Eq for Whole {}

/// Puts the events of a reply together. It keeps [`Law`], so any decoder's events may be pushed as they come.
#[derive(Debug, Default)]
pub struct Fold {
    law: Law,
    reply: Partial,
}

#[derive(Debug, Default)]
struct Partial {
    start: Start<'static>,
    blocks: Vec<Whole>,
    usage: Option<Usage>,
    end: Option<Result<Finish<'static>, Error>>,
}

impl Fold {
    /// Takes the next event.
    pub fn push(&mut self, event: Event<'_>) {
        let Self { law, reply } = self;
        law.push(event, &mut |event| reply.take(event));
    }

    /// The law that it keeps, which knows whether the reply is over, and why.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// The reply, once all its events were pushed.
    ///
    /// # Errors
    ///
    /// The one that ended the reply; or [`crate::error::Kind::UpstreamFailed`] where it broke off.
    pub fn finish(mut self) -> Result<Reply, Error> {
        self.push(Event::End);
        let Partial { start, blocks, usage, end } = self.reply;
        let finish = end.unwrap_or_else(|| Err(broken("the reply has no end")))?;
        Ok(Reply { start, blocks, usage, finish })
    }
}

impl Partial {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(start) => self.start = start.into_owned(),
            Event::Open { kind, .. } => self.blocks.push(Whole::new(kind.into_owned())),
            Event::Delta { text, .. } => {
                if let Some(block) = self.blocks.last_mut() {
                    block.add(&text);
                }
            }
            Event::Attach { what, .. } => {
                if let Some(block) = self.blocks.last_mut() {
                    block.attached.push(what.into_owned());
                }
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish(finish) => self.end = Some(Ok(finish.into_owned())),
            Event::Failed(error) => self.end = Some(Err(error)),
            Event::Close { .. } | Event::End | Event::KeepAlive => {}
        }
    }
}

impl Reply {
    /// Tells the reply as a stream would.
    pub fn events(&self, sink: &mut impl FnMut(Event<'_>)) {
        let Start { id, model, created, usage } = &self.start;
        let (id, model) = (id.borrowed(), model.borrowed());
        sink(Event::Start(Start { id, model, created: *created, usage: *usage }));
        for (block, whole) in (0..).zip(&self.blocks) {
            sink(Event::Open { block, kind: whole.block.borrowed() });
            sink(Event::Delta { block, text: whole.text() });
            for what in &whole.attached {
                sink(Event::Attach { block, what: what.borrowed() });
            }
            sink(Event::Close { block });
        }
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Finish(self.finish.borrowed()));
        sink(Event::End);
    }

    /// Whether a call has a seal that no thought has: where calls have no place for one, it is lost. Gemini's stands on
    /// both.
    pub fn seals_a_call_alone(&self) -> bool {
        let thoughts = self.blocks.iter().filter(|whole| matches!(whole.block, Block::Reasoning(_)));
        let calls = self.blocks.iter().filter(|whole| matches!(whole.block, Block::ToolCall { .. }));
        let mut seals = calls.filter_map(Whole::seal);
        seals.any(|seal| !thoughts.clone().any(|thought| thought.seal() == Some(seal)))
    }

    /// Whether the model called a tool.
    pub fn calls_tools(&self) -> bool {
        self.finish.stop == Stop::ToolCalls
            || self.blocks.iter().any(|whole| matches!(whole.block, Block::ToolCall { .. }))
    }
}
