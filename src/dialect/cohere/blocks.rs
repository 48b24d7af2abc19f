//! Blocks out of Cohere's messages: what a whole reply and a stream share.

use serde::Deserialize;

use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Attachment, Block, Event, Finish, Opaque, Origin, Stop, Text, reported};
use crate::dialect::usage::{Input, Kinds, Output, Usage};
use crate::error::{Error, Kind};

/// Numbers blocks. Content items and tool calls are counted apart on the wire.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    next: u32,
    current: Current,
    /// Tool calls: their numbers on the wire, and their blocks.
    calls: Vec<(u64, u32)>,
}

/// The block that is open, beside those of tool calls. It ends where the next one begins: citations may come late.
#[derive(Clone, Copy, Debug, Default)]
enum Current {
    #[default]
    None,
    Plan(u32),
    /// A content item, by its number on the wire.
    Thought(u64, u32),
    Answer(u64, u32),
}

impl Blocks {
    /// What the model plans before it calls tools.
    pub(super) fn plan(&mut self, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let block = match self.current {
            Current::Plan(block) => block,
            _ => {
                let block = self.begin(Block::Reasoning(Origin::Cohere), sink);
                self.current = Current::Plan(block);
                block
            }
        };
        sink(Event::Delta { block, text });
    }

    /// More of a content item, which begins if it is not the open one.
    pub(super) fn content(&mut self, index: u64, content: &Content<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let block = match self.current {
            Current::Thought(open, block) | Current::Answer(open, block) if open == index => block,
            _ => self.begin_content(index, content, sink),
        };
        if let Some(text) = content.text.some_text().or_else(|| content.thinking.some_text()) {
            sink(Event::Delta { block, text });
        }
    }

    fn begin_content(&mut self, index: u64, content: &Content<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        if content.thinking.text().is_some() {
            let block = self.begin(Block::Reasoning(Origin::Cohere), sink);
            self.current = Current::Thought(index, block);
            block
        } else {
            let block = self.begin(Block::Text, sink);
            self.current = Current::Answer(index, block);
            block
        }
    }

    /// Ends the open block and begins another.
    fn begin(&mut self, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        match std::mem::take(&mut self.current) {
            Current::None => {}
            Current::Plan(block) | Current::Thought(_, block) | Current::Answer(_, block) => {
                sink(Event::Close { block });
            }
        }
        let block = self.next;
        self.next += 1;
        sink(Event::Open { block, kind });
        block
    }

    /// A tool call begins, with what it holds already.
    pub(super) fn call(&mut self, index: u64, call: &ToolCall<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let (id, name) = (call.id.text().unwrap_or_default(), call.function.name.text().unwrap_or_default());
        let block = self.begin(Block::ToolCall { id, name }, sink);
        self.calls.push((index, block));
        self.arguments(index, call, sink);
    }

    /// More of a call's arguments. `null` stands for none.
    pub(super) fn arguments(&self, index: u64, call: &ToolCall<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let text = call.function.arguments.some_text().filter(|text| *text != *"null");
        if let (Some(block), Some(text)) = (self.call_block(index), text) {
            sink(Event::Delta { block, text });
        }
    }

    /// A tool call ends.
    pub(super) fn end_call(&self, index: u64, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(block) = self.call_block(index) {
            sink(Event::Close { block });
        }
    }

    fn call_block(&self, index: u64) -> Option<u32> {
        self.calls.iter().rev().find(|(known, _)| *known == index).map(|(_, block)| *block)
    }

    /// A citation in the answer.
    pub(super) fn citation(&self, citation: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if let (Current::Answer(_, block), Some(json)) = (self.current, citation.json()) {
            let what = Attachment::Opaque(Opaque::new(Origin::Cohere, "citation", json));
            sink(Event::Attach { block, what });
        }
    }
}

/// How a reply ended. `body` is where an error would stand.
pub(super) fn end<'a>(raw: Text<'a>, body: &[u8]) -> Result<Finish<'a>, Error> {
    let stop = match raw.plain().as_ref() {
        "STOP_SEQUENCE" => Stop::Sequence,
        "MAX_TOKENS" => Stop::Length,
        "TOOL_CALL" => Stop::ToolCalls,
        "ERROR_TOXIC" => Stop::Filtered,
        "ERROR" | "ERROR_LIMIT" => return Err(reported(body)),
        "TIMEOUT" => {
            let public = "the upstream took too long to answer; try again";
            return Err(Error::upstream(Kind::UpstreamTimeout, public).because("finish_reason TIMEOUT"));
        }
        _ => Stop::End,
    };
    Ok(Finish::new(stop, Origin::Cohere, raw))
}

// === The wire ===

/// A content item, or a piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
}

/// A tool call, or a piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolCall<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

/// A usage object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts<'a> {
    #[serde(borrow)]
    tokens: Raw<'a>,
    #[serde(borrow)]
    billed_units: Raw<'a>,
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    reasoning_tokens: Raw<'a>,
}

impl Counts<'_> {
    /// The usage, if there is any.
    pub(super) fn usage(&self) -> Option<Usage> {
        let tokens: Tokens<'_> = self.tokens.object().or_else(|| self.billed_units.object())?;
        let usage = Usage {
            input: Input {
                total: tokens.input_tokens.count(),
                cached: self.cached_tokens.count(),
                written: None,
            },
            output: Output {
                total: tokens.output_tokens.count(),
                reasoning: tokens.reasoning_tokens.count(),
            },
            kinds: Kinds::cohere(self.billed_units),
        };
        (usage.input.total.is_some() || usage.output.total.is_some()).then_some(usage)
    }
}
