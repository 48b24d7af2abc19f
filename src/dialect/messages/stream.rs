//! Messages streams.

use serde::Deserialize;

use super::reply::{
    Counts, End, Message, Tone, end_into, head_into, is, open, start_into, unsaid, unsealed_mark, usage_into,
};
use super::sealed;
use crate::dialect::Operation;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Attachment, Block, Event, Finish, Law, Notes, Opaque, Origin, ReplyTo, Start, Text, broken, reported,
    truncated, update,
};
use crate::dialect::stream::{error_event, heartbeat};
use crate::dialect::usage::{Mark, Usage};
use crate::frame::sse;

const OPERATION: Operation = Operation::Messages;

/// Reads a Messages stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: sse::Reader,
    wire: Wire,
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Wire {
    stage: Stage,
    counts: Counts,
    /// The end, where the head told it already: of a turn that a tool of the provider's called for.
    end: Option<Finish<'static>>,
    events: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    /// The message of this id is told.
    Speaking(String),
    Stopped,
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = reader.push(bytes, &mut |event| wire.event(&event.data, sink)) {
            sink(Event::Failed(broken(error)));
        }
    }

    /// The upstream closed the stream, which without `message_stop` is too early.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        std::mem::take(reader).finish(&mut |event| wire.event(&event.data, sink));
        if wire.stage != Stage::Stopped {
            sink(Event::Failed(truncated()));
        }
    }
}

impl Wire {
    fn event(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.events += 1;
        let data = data.trim_ascii();
        // Some hosts end as chat does.
        if matches!(data, b"[DONE]" | b"") {
            return;
        }
        let wire: Data<'_> = match serde_json::from_slice(data) {
            Ok(wire) => wire,
            Err(error) => {
                let why = format_args!("event {} is no Messages event: {error}", self.events);
                return sink(Event::Failed(broken(why)));
            }
        };
        let kind = wire.kind.text().unwrap_or_default();
        match kind.plain().as_ref() {
            "content_block_delta" => delta(&wire, sink),
            "message_start" => self.start(wire.message, sink),
            "content_block_start" => open(wire.block(), wire.content_block.get().unwrap_or_default(), sink),
            "content_block_stop" => sink(Event::Close { block: wire.block() }),
            "message_delta" => self.end(&wire, sink),
            "message_stop" => {
                self.stage = Stage::Stopped;
                if let Some(finish) = self.end.take() {
                    sink(Event::Finish(finish));
                }
                sink(Event::End);
            }
            "ping" => sink(Event::KeepAlive),
            "error" => sink(Event::Failed(reported(data))),
            // New events may appear at any time, and are to be ignored.
            _ => {}
        }
    }

    fn start(&mut self, message: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let message: Message<'_> = message.object().unwrap_or_default();
        let id = message.id.text().unwrap_or_default();
        match &self.stage {
            Stage::Silent => {
                self.stage = Stage::Speaking(id.plain().into_owned());
                sink(Event::Start(message.start(&mut self.counts)));
                message.blocks(sink);
                self.end = message.end().finish().map(Finish::into_owned);
            }
            // Some upstreams repeat it.
            Stage::Speaking(known) if id == **known => {}
            Stage::Speaking(_) | Stage::Stopped => {
                sink(Event::Failed(broken("a second message begins inside the first")));
            }
        }
    }

    fn end(&mut self, wire: &Data<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(usage) = self.counts.report(wire.usage) {
            sink(Event::Usage(usage));
        }
        let Delta { stop_reason, stop_sequence, stop_details, .. } = wire.delta;
        if let Some(finish) = (End { stop_reason, stop_sequence, stop_details }).finish() {
            self.end = None;
            sink(Event::Finish(finish));
        }
    }
}

fn delta(wire: &Data<'_>, sink: &mut impl FnMut(Event<'_>)) {
    let block = wire.block();
    let delta = &wire.delta;
    if let Some(text) = delta.text_of() {
        return sink(Event::Delta { block, text });
    }
    let own = |kind: &'static str, raw: Raw<'_>, sink: &mut dyn FnMut(Event<'_>)| {
        if let Some(json) = raw.json() {
            let what = Opaque { origin: Origin::Messages, kind: Text::from(kind), json };
            sink(Event::Attach { block, what: Attachment::Opaque(what) });
        }
    };
    if is(delta.kind, "signature_delta") {
        if let Some(text) = delta.signature.some_text() {
            let what = Attachment::Signature { origin: Origin::Messages, text };
            sink(Event::Attach { block, what });
        }
    } else if is(delta.kind, "citations_delta") {
        own("citation", delta.citation, sink);
    } else if is(delta.kind, "compaction_delta") {
        own("compaction", delta.content, sink);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    index: Raw<'a>,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(borrow)]
    message: Raw<'a>,
    #[serde(borrow)]
    content_block: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
    #[serde(borrow)]
    partial_json: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
    #[serde(borrow)]
    citation: Raw<'a>,
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    stop_reason: Raw<'a>,
    #[serde(borrow)]
    stop_sequence: Raw<'a>,
    #[serde(borrow)]
    stop_details: Raw<'a>,
}

impl Data<'_> {
    fn block(&self) -> u32 {
        self.index.count().and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
    }
}

impl<'a> Delta<'a> {
    fn text_of(&self) -> Option<Text<'a>> {
        let named = [
            ("text_delta", self.text),
            ("input_json_delta", self.partial_json),
            ("thinking_delta", self.thinking),
        ];
        named.into_iter().find(|(kind, _)| is(self.kind, kind)).map(|(_, raw)| raw.text().unwrap_or_default())
    }
}

// === Writing ===

/// Writes a Messages stream.
#[derive(Debug)]
pub struct Encoder {
    law: Law,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    to: ReplyTo,
    current: Current,
    /// How many blocks were begun. Those that cannot be said are not counted.
    begun: u32,
    tone: Tone,
    /// The seal of the last thought.
    thought: Text<'static>,
    usage: Usage,
    notes: Notes,
}

/// The block that is open.
#[derive(Debug)]
enum Current {
    /// One whose text is said in deltas of this type, under this name.
    Said(&'static str, &'static str),
    /// Reasoning, with the seal that it ends with.
    Reasoning(Text<'static>),
    /// One that Messages has no words for.
    Silent,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        let writer = Writer {
            to,
            current: Current::Silent,
            begun: 0,
            tone: Tone::Answer,
            thought: Text::default(),
            usage: Usage::default(),
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
            Event::Delta { text, .. } => match &self.current {
                Current::Said(kind, name) => self.delta(out, kind, name, &text),
                Current::Reasoning(_) => self.delta(out, "thinking_delta", "thinking", &text),
                Current::Silent => {}
            },
            Event::Attach { what, .. } => self.attach(what, out),
            Event::Close { .. } => self.close(out),
            Event::Usage(usage) => update(&mut self.usage, usage),
            Event::Finish(finish) => self.finish(&finish, out),
            Event::Failed(error) => {
                out.extend_from_slice(&error_event(OPERATION, &error, &self.to.id, Mark::default()));
            }
            Event::KeepAlive => out.extend_from_slice(heartbeat(OPERATION)),
            Event::End => {}
        }
    }

    fn start(&mut self, start: &Start<'_>, out: &mut Vec<u8>) {
        self.usage = start.usage.unwrap_or_default();
        let mut event = begin(out, "message_start");
        let mut message = event.object("message");
        head_into(&mut message, start, &self.to);
        message.raw("content", "[]");
        message.raw("stop_reason", "null");
        message.raw("stop_sequence", "null");
        usage_into(message.object("usage"), &self.usage);
        message.end();
        end(event);
    }

    fn open(&mut self, kind: &Block<'_>, out: &mut Vec<u8>) {
        self.current = match kind {
            Block::Text => Current::Said("text_delta", "text"),
            Block::Refusal => {
                self.tone = Tone::Refusal;
                Current::Said("text_delta", "text")
            }
            Block::Reasoning(_) => Current::Reasoning(unsealed_mark(kind)),
            Block::ToolCall { .. } => Current::Said("input_json_delta", "partial_json"),
            Block::Redacted { .. } => Current::Said("text_delta", "text"),
            Block::Opaque(opaque) if opaque.origin == Origin::Messages => {
                Current::Said("input_json_delta", "partial_json")
            }
            Block::Opaque(opaque) => {
                unsaid(&opaque.kind, &mut self.notes);
                self.current = Current::Silent;
                return;
            }
        };
        let index = self.begun;
        self.begun += 1;
        let mut event = begin(out, "content_block_start");
        event.count("index", index.into());
        if let Block::Opaque(opaque) = kind {
            event.raw("content_block", &opaque.json.one_line());
        } else {
            let mut block = event.object("content_block");
            start_into(&mut block, kind, index.into(), &self.to);
            match kind {
                Block::Text | Block::Refusal => block.string("text", ""),
                Block::Reasoning(_) => {
                    block.string("thinking", "");
                    block.string("signature", "");
                }
                Block::ToolCall { .. } => block.raw("input", "{}"),
                Block::Redacted { .. } | Block::Opaque(_) => {}
            }
            block.end();
        }
        end(event);
    }

    /// The number of the open block.
    fn index(&self) -> u64 {
        u64::from(self.begun.saturating_sub(1))
    }

    fn delta(&self, out: &mut Vec<u8>, kind: &str, name: &str, text: &Text<'_>) {
        let mut event = begin(out, "content_block_delta");
        event.count("index", self.index());
        let mut delta = event.object("delta");
        delta.string("type", kind);
        delta.text(name, text);
        delta.end();
        end(event);
    }

    fn attach(&mut self, what: Attachment<'_>, out: &mut Vec<u8>) {
        match (what, &mut self.current) {
            (_, Current::Silent) => {}
            // SDKs replace the seal with every delta that has one, so it is sent whole, at the end.
            (Attachment::Signature { origin, text }, Current::Reasoning(seal)) => {
                *seal = sealed(origin, &text).into_owned();
                self.thought = text.into_owned();
            }
            // Gemini's seal of a call is that of the thought before it as well.
            (Attachment::Signature { text, .. }, _) if text == self.thought => {}
            (Attachment::Signature { .. }, _) => {
                unsaid(&Text::from("signature of a tool call"), &mut self.notes);
            }
            (Attachment::Opaque(opaque), _) if opaque.origin == Origin::Messages => {
                let (kind, name) = match opaque.kind.plain().as_ref() {
                    "compaction" => ("compaction_delta", "content"),
                    _ => ("citations_delta", "citation"),
                };
                let mut event = begin(out, "content_block_delta");
                event.count("index", self.index());
                let mut delta = event.object("delta");
                delta.string("type", kind);
                delta.raw(name, &opaque.json.one_line());
                delta.end();
                end(event);
            }
            (Attachment::Opaque(opaque), _) => unsaid(&opaque.kind, &mut self.notes),
            (Attachment::Logprobs(_), _) => unsaid(&Text::from("logprobs"), &mut self.notes),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.current, Current::Silent) {
            Current::Silent => return,
            Current::Reasoning(seal) => self.delta(out, "signature_delta", "signature", &seal),
            Current::Said(..) => {}
        }
        let mut event = begin(out, "content_block_stop");
        event.count("index", self.index());
        end(event);
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let mut event = begin(out, "message_delta");
        let mut delta = event.object("delta");
        end_into(&mut delta, finish, self.tone);
        delta.end();
        usage_into(event.object("usage"), &self.usage);
        end(event);
        end(begin(out, "message_stop"));
    }
}

/// Begins an event: SDKs skip one without a name, and read its type from its data.
fn begin<'o>(out: &'o mut Vec<u8>, kind: &str) -> Object<'o> {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut event = Object::begin(out);
    event.string("type", kind);
    event
}

/// Ends an event.
fn end(event: Object<'_>) {
    event.end().extend_from_slice(b"\n\n");
}
