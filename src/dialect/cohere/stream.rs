//! Cohere streams.

use serde::Deserialize;

use super::blocks::{Blocks, Content, Counts, ToolCall, end};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Event, Start, Text, broken, reported};
use crate::frame::sse;

/// Reads a Cohere stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: sse::Reader,
    wire: Wire,
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Wire {
    blocks: Blocks,
    events: u64,
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = reader.push(bytes, &mut |event| wire.event(&event.data, sink)) {
            sink(Event::Failed(broken(error)));
        }
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        std::mem::take(reader).finish(&mut |event| wire.event(&event.data, sink));
        sink(Event::End);
    }
}

impl Wire {
    fn event(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.events += 1;
        let data = data.trim_ascii();
        if matches!(data, b"[DONE]" | b"") {
            return;
        }
        let wire: Data<'_> = match serde_json::from_slice(data) {
            Ok(wire) => wire,
            Err(error) => {
                let why = format_args!("event {} is no Cohere event: {error}", self.events);
                return sink(Event::Failed(broken(why)));
            }
        };
        let kind = wire.kind.text().unwrap_or_default();
        let delta = wire.delta.object::<Delta<'_>>().unwrap_or_default();
        let message = delta.message.object::<Message<'_>>().unwrap_or_default();
        let index = wire.index.count().unwrap_or(0);
        let blocks = &mut self.blocks;
        match kind.plain().as_ref() {
            "message-start" => {
                let id = wire.id.text().unwrap_or_default();
                sink(Event::Start(Start { id, ..Start::default() }));
            }
            "tool-plan-delta" => blocks.plan(message.tool_plan.text(), sink),
            "content-start" | "content-delta" => {
                if let Some(content) = message.content.object::<Content<'_>>() {
                    blocks.content(index, &content, sink);
                }
            }
            "tool-call-start" => blocks.call(index, &message.call(), sink),
            "tool-call-delta" => blocks.arguments(index, &message.call(), sink),
            "tool-call-end" => blocks.end_call(index, sink),
            "citation-start" => blocks.citation(message.citations, sink),
            "message-end" => message_end(&delta, sink),
            // An error has a message and no type.
            "" => sink(Event::Failed(reported(data))),
            _ => {}
        }
    }
}

fn message_end(delta: &Delta<'_>, sink: &mut impl FnMut(Event<'_>)) {
    if let Some(usage) = delta.usage.object::<Counts<'_>>().and_then(|counts| counts.usage()) {
        sink(Event::Usage(usage));
    }
    let error = delta.error.get().unwrap_or_default();
    let raw = delta.finish_reason.some_text().unwrap_or_else(|| Text::from("COMPLETE"));
    // It is a text, or an object with a message.
    match end(raw, error.trim_matches('"').as_bytes()) {
        Ok(finish) => sink(Event::Finish(finish)),
        Err(error) => return sink(Event::Failed(error)),
    }
    sink(Event::End);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    index: Raw<'a>,
    #[serde(borrow)]
    delta: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    message: Raw<'a>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    tool_plan: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Raw<'a>,
    #[serde(borrow)]
    citations: Raw<'a>,
}

impl<'a> Message<'a> {
    /// The call of an event: an object, though its name is plural.
    fn call(&self) -> ToolCall<'a> {
        self.tool_calls.object().unwrap_or_default()
    }
}
