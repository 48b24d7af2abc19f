//! Converse streams, in AWS's frames.

use serde::Deserialize;
use smallvec::SmallVec;

use super::reply::{
    Tone, ToolUse, attached, call_into, end_into, finish, metrics_into, no_seal, own_citation, redacted,
    seal_of, sealed, unsaid, unsaid_beside, usage, usage_into,
};
use crate::dialect::error::{Meaning, read};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Attachment, Block, Event, Finish, Json, Law, Notes, Opaque, Origin, ReplyTo, Start, Text, broken,
    truncated, update,
};
use crate::dialect::usage::Usage;
use crate::error::{Error, Kind};
use crate::frame::eventstream::{Message, Reader, Value, message};

/// Reads a Converse stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: Reader,
    wire: Wire,
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Wire {
    stage: Stage,
    open: SmallVec<[Slot; 2]>,
    next: u32,
}

/// Both the end and the usage have to come. Usage comes last, but is taken before the end as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Speaking,
    Metered,
    Stopped,
    Over,
}

/// A block that is open.
#[derive(Debug)]
struct Slot {
    /// Its number on the wire.
    index: u64,
    block: u32,
    kind: Holds,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Text,
    Thought,
    Call,
    Own,
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = reader.push(bytes, &mut |message| wire.message(&message, sink)) {
            sink(Event::Failed(broken(error)));
        }
    }

    /// The upstream closed the stream, which before its last two events is too early.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = std::mem::take(reader).finish() {
            sink(Event::Failed(truncated().because(error)));
        } else if wire.stage != Stage::Over {
            sink(Event::Failed(truncated()));
        }
    }
}

impl Wire {
    fn message(&mut self, message: &Message<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(error) = reported(message) {
            return sink(Event::Failed(error));
        }
        let headers = message.headers;
        let data: Data<'_> = match serde_json::from_slice(message.payload) {
            Ok(data) => data,
            Err(error) => return sink(Event::Failed(broken(error))),
        };
        match headers.text(":event-type").unwrap_or_default() {
            "contentBlockDelta" => self.delta(&data, sink),
            "messageStart" => sink(Event::Start(Start::default())),
            "contentBlockStart" => self.start(&data, sink),
            "contentBlockStop" => {
                let index = data.index();
                if let Some(at) = self.open.iter().position(|slot| slot.index == index) {
                    sink(Event::Close { block: self.open.remove(at).block });
                }
            }
            "messageStop" => {
                self.open.clear();
                if let Some(finish) = finish(data.stop_reason, data.fields) {
                    sink(Event::Finish(finish));
                }
                self.comes(Stage::Metered, Stage::Stopped, sink);
            }
            "metadata" => {
                if let Some(usage) = usage(data.usage) {
                    sink(Event::Usage(usage));
                }
                self.comes(Stage::Stopped, Stage::Metered, sink);
            }
            // New events may appear at any time, and are to be ignored.
            _ => {}
        }
    }

    /// One of the two last events came: the stream is over if the other one did before.
    fn comes(&mut self, other: Stage, this: Stage, sink: &mut impl FnMut(Event<'_>)) {
        if self.stage == other {
            self.stage = Stage::Over;
            sink(Event::End);
        } else {
            self.stage = this;
        }
    }

    fn start(&mut self, data: &Data<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let start: Begins<'_> = data.start.object().unwrap_or_default();
        let call = start.tool_use.object::<ToolUse<'_>>().filter(|call| !call.is_the_providers());
        if let Some(call) = call {
            let (id, name) = (call.id.text().unwrap_or_default(), call.name.text().unwrap_or_default());
            self.begin(data.index(), Holds::Call, Block::ToolCall { id, name }, sink);
            return;
        }
        let named = [("toolUse", start.tool_use), ("toolResult", start.tool_result), ("image", start.image)];
        let own = named.into_iter().find(|(_, raw)| raw.get().is_some());
        // An empty start tells nothing; the first delta will.
        if let (Some((kind, _)), Some(json)) = (own, data.start.json()) {
            let opaque = Opaque::new(Origin::Converse, kind, json);
            self.begin(data.index(), Holds::Own, Block::Opaque(opaque), sink);
        }
    }

    fn delta(&mut self, data: &Data<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let (index, delta) = (data.index(), &data.delta);
        if let Some(text) = delta.text.text() {
            self.add(index, Holds::Text, Block::Text, text, sink);
        } else if let Some(call) = delta.tool_use.object::<ToolUse<'_>>() {
            let text = call.input.text().unwrap_or_default();
            match self.open.iter().find(|slot| slot.index == index) {
                Some(Slot { block, kind: Holds::Call | Holds::Own, .. }) => {
                    sink(Event::Delta { block: *block, text });
                }
                _ => sink(Event::Failed(broken(format_args!("block {index} is added to, but no call")))),
            }
        } else if let Some(thought) = delta.reasoning.object::<Thought<'_>>() {
            self.thought(index, &thought, sink);
        } else if let Some(json) = delta.citation.json() {
            let block = self.find(index, Holds::Text, Block::Text, sink);
            sink(attached(block, "citation", json));
        } else {
            let named = [("toolResult", delta.tool_result), ("image", delta.image)];
            let own = named.into_iter().find_map(|(kind, raw)| Some((kind, raw.json()?)));
            let slot = self.open.iter().find(|slot| slot.index == index && slot.kind == Holds::Own);
            if let (Some((kind, json)), Some(slot)) = (own, slot) {
                sink(attached(slot.block, kind, json));
            }
        }
    }

    fn thought(&mut self, index: u64, thought: &Thought<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let kind = Block::Reasoning(Origin::Converse);
        if let Some(data) = thought.redacted.text() {
            let kind = Block::Redacted { origin: Origin::Converse, data };
            self.begin(index, Holds::Thought, kind, sink);
        } else if let Some(text) = thought.text.text() {
            self.add(index, Holds::Thought, kind, text, sink);
        } else if let Some(seal) = thought.signature.some_text() {
            let block = self.find(index, Holds::Thought, kind, sink);
            sink(sealed(block, seal));
        }
    }

    fn add(
        &mut self,
        index: u64,
        holds: Holds,
        kind: Block<'_>,
        text: Text<'_>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let block = self.find(index, holds, kind, sink);
        sink(Event::Delta { block, text });
    }

    /// The block at `index`, which begins here if it did not before: answers and thoughts have no event for that.
    fn find(&mut self, index: u64, holds: Holds, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        let known = self.open.iter().find(|slot| slot.index == index && slot.kind == holds);
        match known {
            Some(slot) => slot.block,
            None => self.begin(index, holds, kind, sink),
        }
    }

    /// Begins a block, and ends what is open under the same number.
    fn begin(&mut self, index: u64, kind: Holds, block: Block<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        if let Some(at) = self.open.iter().position(|slot| slot.index == index) {
            sink(Event::Close { block: self.open.remove(at).block });
        }
        let number = self.next;
        self.next += 1;
        self.open.push(Slot { index, block: number, kind });
        sink(Event::Open { block: number, kind: block });
        number
    }
}

/// The error that a frame reports, if it is one that does.
pub fn reported(message: &Message<'_>) -> Option<Error> {
    let text = |name| message.headers.text(name).unwrap_or_default();
    match message.headers.text(":message-type") {
        Some("exception") => Some(failure(text(":exception-type"), message.payload)),
        Some("error") => Some(failure(text(":error-code"), text(":error-message").as_bytes())),
        _ => None,
    }
}

/// The error that a frame reports under the name of its class.
fn failure(class: &str, payload: &[u8]) -> Error {
    let reported = read(payload, None).unwrap_or_default();
    let kind = match class.to_ascii_lowercase().trim_end_matches("exception") {
        "throttling" => Kind::RateLimited,
        "serviceunavailable" | "modelnotready" => Kind::Overloaded,
        "validation" => Kind::InvalidRequest,
        "modeltimeout" => Kind::UpstreamTimeout,
        _ => Kind::UpstreamFailed,
    };
    let kind = match reported.meaning(kind.status()) {
        Meaning::ContextLength => Kind::InvalidRequest,
        _ => kind,
    };
    // What is said of a credential is said of Forebay's own.
    let is_told = !matches!(
        class.to_ascii_lowercase().as_str(),
        "accessdeniedexception" | "unrecognizedclientexception"
    );
    let public = match reported.message {
        message if is_told && !message.is_empty() => message,
        _ => "the upstream reported an error; try again".to_owned(),
    };
    Error::upstream(kind, public).because(format_args!("reported in the stream: {class}"))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow, rename = "contentBlockIndex")]
    index: Raw<'a>,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(borrow)]
    start: Raw<'a>,
    #[serde(borrow, rename = "stopReason")]
    stop_reason: Raw<'a>,
    #[serde(borrow, rename = "additionalModelResponseFields")]
    fields: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
}

impl Data<'_> {
    fn index(&self) -> u64 {
        self.index.count().unwrap_or(0)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Begins<'a> {
    #[serde(borrow, rename = "toolUse")]
    tool_use: Raw<'a>,
    #[serde(borrow, rename = "toolResult")]
    tool_result: Raw<'a>,
    #[serde(borrow)]
    image: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow, rename = "toolUse")]
    tool_use: Raw<'a>,
    #[serde(borrow, rename = "reasoningContent")]
    reasoning: Raw<'a>,
    #[serde(borrow)]
    citation: Raw<'a>,
    #[serde(borrow, rename = "toolResult")]
    tool_result: Raw<'a>,
    #[serde(borrow)]
    image: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Thought<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
    #[serde(borrow, rename = "redactedContent")]
    redacted: Raw<'a>,
}

// === Writing ===

/// Writes a Converse stream.
#[derive(Debug, Default)]
pub struct Encoder {
    law: Law,
    writer: Writer,
}

#[derive(Debug, Default)]
struct Writer {
    to: ReplyTo,
    current: Current,
    /// How many blocks were begun. Those that cannot be said are not counted.
    begun: u64,
    tone: Tone,
    /// The seal of the last thought.
    thought: Text<'static>,
    usage: Usage,
    notes: Notes,
}

/// The block that is open.
#[derive(Debug, Default)]
enum Current {
    /// One that Converse has no words for.
    #[default]
    Silent,
    Text,
    /// Reasoning, with the seal that it ends with.
    Thought(Option<Text<'static>>),
    Call,
    /// A block of Converse's own.
    Own,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        Self { law: Law::default(), writer: Writer { to, ..Writer::default() } }
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
            Event::Start(start) => {
                self.usage = start.usage.unwrap_or_default();
                frame(out, "messageStart", |data| data.string("role", "assistant"));
            }
            Event::Open { kind, .. } => self.open(&kind, out),
            Event::Delta { text, .. } => self.delta(&text, out),
            Event::Attach { what, .. } => self.attach(&what, out),
            Event::Close { .. } => self.close(out),
            Event::Usage(usage) => update(&mut self.usage, usage),
            Event::Finish(finish) => self.finish(&finish, out),
            Event::Failed(error) => exception(out, &error),
            // There is no frame that says nothing.
            Event::KeepAlive | Event::End => {}
        }
    }

    fn open(&mut self, kind: &Block<'_>, out: &mut Vec<u8>) {
        self.current = match kind {
            Block::Text => Current::Text,
            Block::Refusal => {
                self.tone = Tone::Refusal;
                Current::Text
            }
            Block::Reasoning(origin) => Current::Thought(no_seal(*origin)),
            Block::Redacted { .. } => Current::Thought(None),
            Block::ToolCall { .. } => Current::Call,
            Block::Opaque(opaque) if opaque.origin == Origin::Converse => Current::Own,
            Block::Opaque(opaque) => {
                unsaid(&opaque.kind, &mut self.notes);
                self.current = Current::Silent;
                return;
            }
        };
        let index = self.begun;
        self.begun += 1;
        match kind {
            Block::ToolCall { id, name } => frame(out, "contentBlockStart", |data| {
                data.count("contentBlockIndex", index);
                let mut start = data.object("start");
                let mut call = start.object("toolUse");
                call_into(&mut call, id, name, index, &self.to);
                call.end();
                start.end();
            }),
            Block::Opaque(opaque) => frame(out, "contentBlockStart", |data| {
                data.count("contentBlockIndex", index);
                data.json("start", &opaque.json);
            }),
            Block::Redacted { origin, data } => self.said(out, |delta| {
                let mut thought = delta.object("reasoningContent");
                thought.text("redactedContent", &redacted(*origin, data));
                thought.end();
            }),
            Block::Text | Block::Refusal | Block::Reasoning(_) => {}
        }
    }

    fn delta(&self, text: &Text<'_>, out: &mut Vec<u8>) {
        match self.current {
            Current::Silent => {}
            Current::Text => self.said(out, |delta| delta.text("text", text)),
            Current::Thought(_) => self.thought(out, "text", text),
            Current::Call | Current::Own => self.said(out, |delta| {
                let mut call = delta.object("toolUse");
                call.text("input", text);
                call.end();
            }),
        }
    }

    fn attach(&mut self, what: &Attachment<'_>, out: &mut Vec<u8>) {
        match (&mut self.current, what) {
            (Current::Silent, _) => {}
            (Current::Thought(seal), Attachment::Signature { origin, text }) => {
                *seal = Some(seal_of(*origin, text).into_owned());
                self.thought = text.borrowed().into_owned();
            }
            (Current::Own, Attachment::Opaque(opaque)) if opaque.origin == Origin::Converse => {
                self.said(out, |delta| delta.json(&opaque.kind.plain(), &opaque.json));
            }
            (Current::Text, what) if own_citation(what).is_some() => {
                let json: Option<&Json<'_>> = own_citation(what);
                self.said(out, |delta| json.into_iter().for_each(|json| delta.json("citation", json)));
            }
            // Gemini's seal of a call is that of the thought before it as well.
            (_, Attachment::Signature { text, .. }) if *text == self.thought => {}
            (_, Attachment::Signature { .. }) => {
                unsaid(&Text::from("signature of a tool call"), &mut self.notes);
            }
            (_, what) => unsaid_beside(what, &mut self.notes),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.current) {
            Current::Silent => return,
            Current::Thought(Some(seal)) => self.thought(out, "signature", &seal),
            Current::Thought(None) | Current::Text | Current::Call | Current::Own => {}
        }
        frame(out, "contentBlockStop", |data| data.count("contentBlockIndex", self.index()));
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        frame(out, "messageStop", |data| end_into(data, finish, self.tone));
        frame(out, "metadata", |data| {
            usage_into(data.object("usage"), &self.usage);
            metrics_into(data);
        });
    }

    /// The number of the open block.
    fn index(&self) -> u64 {
        self.begun.saturating_sub(1)
    }

    fn said(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
        frame(out, "contentBlockDelta", |data| {
            data.count("contentBlockIndex", self.index());
            let mut delta = data.object("delta");
            write(&mut delta);
            delta.end();
        });
    }

    fn thought(&self, out: &mut Vec<u8>, name: &str, text: &Text<'_>) {
        self.said(out, |delta| {
            let mut thought = delta.object("reasoningContent");
            thought.text(name, text);
            thought.end();
        });
    }
}

/// Appends an event.
fn frame(out: &mut Vec<u8>, kind: &str, write: impl FnOnce(&mut Object<'_>)) {
    let mut payload = Vec::with_capacity(128);
    let mut data = Object::begin(&mut payload);
    write(&mut data);
    data.end();
    let headers = [
        (":event-type", Value::Text(kind)),
        (":content-type", Value::Text("application/json")),
        (":message-type", Value::Text("event")),
    ];
    if let Err(error) = message(out, &headers, &payload) {
        exception(out, &broken(error));
    }
}

/// Appends the exception that ends a stream.
pub fn exception(out: &mut Vec<u8>, error: &Error) {
    let kind = match error.kind {
        Kind::RateLimited | Kind::QuotaSpent => "throttlingException",
        Kind::Overloaded => "serviceUnavailableException",
        Kind::Internal => "internalServerException",
        Kind::UpstreamFailed | Kind::UpstreamTimeout => "modelStreamErrorException",
        _ => "validationException",
    };
    let headers = [
        (":exception-type", Value::Text(kind)),
        (":content-type", Value::Text("application/json")),
        (":message-type", Value::Text("exception")),
    ];
    // A message of a few KiB fits, and where it did not, the client would see a stream without an end.
    let _ = message(out, &headers, &super::error(error));
}
