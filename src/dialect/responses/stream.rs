//! Responses streams.

use serde::Deserialize;

use super::items::{Items, Section};
use super::output::Output;
use super::reply::Response;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Block, Event, Law, Notes, Origin, ReplyTo, broken, reported};
use crate::frame::sse;

/// Reads a Responses stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: sse::Reader,
    wire: Wire,
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Wire {
    stage: Stage,
    items: Items,
    events: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    Speaking,
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
    /// Reads an event by the type in its data: not every host names events.
    fn event(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.events += 1;
        let data = data.trim_ascii();
        // OpenRouter ends as chat does.
        if matches!(data, b"[DONE]" | b"") {
            return;
        }
        let wire: Data<'_> = match serde_json::from_slice(data) {
            Ok(wire) => wire,
            Err(error) => {
                let why = format_args!("event {} is no Responses event: {error}", self.events);
                return sink(Event::Failed(broken(why)));
            }
        };
        let kind = wire.kind.text().unwrap_or_default();
        match kind.plain().as_ref() {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.start(&wire.response(), sink);
            }
            "response.completed" | "response.incomplete" => self.end(&wire.response(), sink),
            "response.failed" | "response.cancelled" => {
                sink(Event::Failed(reported(wire.response.get().unwrap_or_default().as_bytes())));
            }
            "error" => sink(Event::Failed(reported(data))),
            // Some hosts report errors without a type.
            "" if wire.error.get().is_some() => sink(Event::Failed(reported(data))),
            kind => self.item(kind, &wire, sink),
        }
    }

    fn item(&mut self, kind: &str, wire: &Data<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let index = wire.output_index.count().unwrap_or(0);
        let place = (index, wire.content_index.count().unwrap_or(0));
        let items = &mut self.items;
        match kind {
            "response.output_text.delta" => {
                items.delta(place, Block::Text, Section::Text(0), wire.delta.text(), sink);
            }
            "response.refusal.delta" => {
                items.delta(place, Block::Refusal, Section::Text(0), wire.delta.text(), sink);
            }
            "response.reasoning_summary_text.delta" => {
                let section = Section::Summary(wire.summary_index.count().unwrap_or(0));
                let kind = Block::Reasoning(Origin::Responses);
                items.delta((index, 0), kind, section, wire.delta.text(), sink);
            }
            "response.reasoning_text.delta" => {
                let kind = Block::Reasoning(Origin::Responses);
                items.delta((index, 0), kind, Section::Text(place.1), wire.delta.text(), sink);
            }
            "response.function_call_arguments.delta" => items.arguments(index, wire.delta.text(), sink),
            "response.output_item.added" => items.added(index, wire.item, sink),
            "response.content_part.done" => items.part_done(place, wire.part, sink),
            "response.output_item.done" => items.done(index, wire.item, sink),
            // The rest repeats these, or tells how a tool of the provider's fares.
            _ => {}
        }
    }

    fn start(&mut self, response: &Response<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if self.stage == Stage::Silent {
            self.stage = Stage::Speaking;
            sink(Event::Start(response.start()));
        }
    }

    fn end(&mut self, response: &Response<'_>, sink: &mut impl FnMut(Event<'_>)) {
        self.start(response, sink);
        if self.items.is_empty() {
            response.items(&mut self.items, sink);
        }
        response.end(sink);
        sink(Event::End);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    response: Raw<'a>,
    #[serde(borrow)]
    item: Raw<'a>,
    #[serde(borrow)]
    part: Raw<'a>,
    #[serde(borrow)]
    delta: Raw<'a>,
    #[serde(borrow)]
    output_index: Raw<'a>,
    #[serde(borrow)]
    content_index: Raw<'a>,
    #[serde(borrow)]
    summary_index: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

impl<'a> Data<'a> {
    fn response(&self) -> Response<'a> {
        self.response.object().unwrap_or_default()
    }
}

// === Writing ===

/// Writes a Responses stream.
#[derive(Debug)]
pub struct Encoder {
    law: Law,
    output: Output,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        Self { law: Law::default(), output: Output::new(to) }
    }

    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        let Self { law, output } = self;
        law.push(event, &mut |event| output.event(event, out));
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        self.output.notes()
    }
}
