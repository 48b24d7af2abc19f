//! Chat streams.

use super::reply::{
    Wire, finish_reason, head_into, id_into, redacted_into, sealed_into, unsaid, unsaid_beside, usage_into,
};
use super::request::signature_into;
use crate::dialect::Operation;
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Attachment, Block, Delivery, Event, Finish, Law, Notes, Origin, ReplyTo, Start, Text, broken, reported,
};
use crate::dialect::stream::{error_event, heartbeat};
use crate::dialect::usage::{Mark, Usage};
use crate::error::Error;
use crate::frame::sse;

const OPERATION: Operation = Operation::ChatCompletions;

/// Reads a chat stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: sse::Reader,
    wire: Wire,
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = reader.push(bytes, &mut |event| one(wire, &event, sink)) {
            sink(Event::Failed(broken(error)));
        }
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        std::mem::take(reader).finish(&mut |event| one(wire, &event, sink));
        sink(Event::End);
    }
}

fn one(wire: &mut Wire, event: &sse::Event<'_>, sink: &mut impl FnMut(Event<'_>)) {
    match event.data.trim_ascii() {
        b"" => {}
        b"[DONE]" => sink(Event::End),
        data if *event.name == *b"error" => sink(Event::Failed(reported(data))),
        data => wire.chunk(data, sink),
    }
}

/// Writes a chat stream.
#[derive(Debug)]
pub struct Encoder {
    law: Law,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    to: ReplyTo,
    /// All of a chunk before its delta.
    head: Vec<u8>,
    current: Current,
    calls: u64,
    details: u64,
    usage: Option<Usage>,
    notes: Notes,
}

/// The block that is open.
#[derive(Debug)]
enum Current {
    /// One whose text is said under this name.
    Said(&'static str),
    /// Reasoning, and its text so far as the inside of a JSON string: its seal repeats it.
    Reasoning(String),
    /// The tool call of this number.
    Call(u64),
    /// One that chat has no words for, or that has no text.
    Silent,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        let writer = Writer {
            to,
            head: Vec::new(),
            current: Current::Silent,
            calls: 0,
            details: 0,
            usage: None,
            notes: Notes::default(),
        };
        Self { law: Law::default(), writer }
    }

    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        let Self { law, writer } = self;
        law.push(event, &mut |event| writer.event(event, out));
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        &self.writer.notes
    }
}

impl Writer {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { kind, .. } => self.open(&kind, out),
            Event::Delta { text, .. } => self.delta(&text, out),
            Event::Attach { what, .. } => self.attach(&what, out),
            Event::Close { .. } => self.current = Current::Silent,
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish(finish) => self.finish(&finish, out),
            Event::Failed(error) => self.failed(&error, out),
            Event::KeepAlive => out.extend_from_slice(heartbeat(OPERATION)),
            Event::End => {}
        }
    }

    fn start(&mut self, start: &Start<'_>, out: &mut Vec<u8>) {
        self.head.extend_from_slice(b"data: ");
        let mut body = Object::begin(&mut self.head);
        head_into(&mut body, "chat.completion.chunk", start, &self.to);
        body.key("choices").extend_from_slice(b"[{\"index\":0,\"delta\":");
        // The object goes on in every chunk.
        let _ = body;
        self.said(out, |delta| {
            delta.string("role", "assistant");
            delta.string("content", "");
        });
    }

    fn open(&mut self, kind: &Block<'_>, out: &mut Vec<u8>) {
        unsaid(kind, &mut self.notes);
        self.current = match kind {
            Block::Text => Current::Said("content"),
            Block::Refusal => Current::Said("refusal"),
            Block::Reasoning(_) => Current::Reasoning(String::new()),
            Block::Redacted { origin, data } => {
                self.detail(out, |list, index| redacted_into(list, index, *origin, data));
                Current::Silent
            }
            Block::ToolCall { id, name } => {
                let index = self.calls;
                self.calls += 1;
                self.call(out, index, id, name);
                Current::Call(index)
            }
            Block::Opaque(_) => Current::Silent,
        };
    }

    fn call(&self, out: &mut Vec<u8>, index: u64, id: &Text<'_>, name: &Text<'_>) {
        self.one_call(out, index, |call| {
            id_into(call, id, index, &self.to);
            call.string("type", "function");
            let mut function = call.object("function");
            function.text("name", name);
            function.string("arguments", "");
            function.end();
        });
    }

    fn delta(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        match &mut self.current {
            Current::Said(name) => {
                let name = *name;
                self.said(out, |delta| delta.text(name, text));
            }
            Current::Reasoning(sofar) => {
                text.escape_into(sofar);
                self.said(out, |delta| delta.text("reasoning_content", text));
            }
            Current::Call(index) => {
                let index = *index;
                self.one_call(out, index, |call| {
                    let mut function = call.object("function");
                    function.text("arguments", text);
                    function.end();
                });
            }
            Current::Silent => {}
        }
    }

    fn attach(&mut self, what: &Attachment<'_>, out: &mut Vec<u8>) {
        unsaid_beside(what, &mut self.notes);
        match (what, &mut self.current) {
            (Attachment::Signature { origin, text }, Current::Reasoning(sofar)) => {
                let whole = Text::Escaped(std::mem::take(sofar).into());
                self.detail(out, |list, index| sealed_into(list, index, *origin, &whole, text));
            }
            (Attachment::Signature { origin: Origin::Gemini, text }, Current::Call(index)) => {
                let index = *index;
                self.one_call(out, index, |call| {
                    // The official SDK's helper asserts that there is a function in each piece of a call.
                    call.raw("function", "{\"arguments\":\"\"}");
                    signature_into(call, text);
                });
            }
            (Attachment::Opaque(opaque), Current::Said(_)) if opaque.origin == Origin::Chat => {
                let (kind, json) = (opaque.kind.plain(), opaque.json.one_line());
                self.said(out, |delta| delta.raw(&kind, &json));
            }
            (Attachment::Logprobs(list), Current::Said(name)) => {
                let (name, list) = (*name, list.one_line());
                let both = |choice: &mut Object<'_>| {
                    let mut logprobs = choice.object("logprobs");
                    let of = |member| if member == name { &*list } else { "null" };
                    logprobs.raw("content", of("content"));
                    logprobs.raw("refusal", of("refusal"));
                    logprobs.end();
                };
                self.chunk(out, b"{}", both, b"null");
            }
            _ => {}
        }
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let reason = [b"\"", finish_reason(finish).as_bytes(), b"\""].concat();
        self.chunk(out, b"{}", |_| {}, &reason);
        if let (Delivery::StreamWithUsage, Some(usage)) = (self.to.delivery, &self.usage) {
            // The head ends in the open array of choices; this chunk has none.
            let head = self.head.strip_suffix(b"[{\"index\":0,\"delta\":").unwrap_or(&self.head);
            out.extend_from_slice(head);
            out.extend_from_slice(b"[],\"usage\":");
            usage_into(Object::begin(out), usage);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn failed(&self, error: &Error, out: &mut Vec<u8>) {
        out.extend_from_slice(&error_event(OPERATION, error, &self.to.id, Mark::default()));
    }

    /// A chunk with a delta.
    fn said(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Object<'_>)) {
        out.extend_from_slice(&self.head);
        let mut object = Object::begin(out);
        delta(&mut object);
        object.end();
        self.tail(out, b"null");
    }

    fn chunk(&self, out: &mut Vec<u8>, delta: &[u8], beside: impl FnOnce(&mut Object<'_>), reason: &[u8]) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(delta);
        let mut more = Vec::new();
        let mut object = Object::begin(&mut more);
        beside(&mut object);
        object.end();
        if let Some(members) = more.strip_prefix(b"{").and_then(|more| more.strip_suffix(b"}"))
            && !members.is_empty()
        {
            out.push(b',');
            out.extend_from_slice(members);
        }
        self.tail(out, reason);
    }

    fn tail(&self, out: &mut Vec<u8>, reason: &[u8]) {
        out.extend_from_slice(b",\"finish_reason\":");
        out.extend_from_slice(reason);
        out.extend_from_slice(b"}]");
        if self.to.delivery == Delivery::StreamWithUsage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn one_call(&self, out: &mut Vec<u8>, index: u64, write: impl FnOnce(&mut Object<'_>)) {
        self.said(out, |delta| {
            let mut list = delta.array("tool_calls");
            let mut call = list.object();
            call.count("index", index);
            write(&mut call);
            call.end();
            list.end();
        });
    }

    fn detail(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Array<'_>, u64)) {
        let index = self.details;
        self.details += 1;
        self.said(out, |delta| {
            let mut list = delta.array("reasoning_details");
            write(&mut list, index);
            list.end();
        });
    }
}
