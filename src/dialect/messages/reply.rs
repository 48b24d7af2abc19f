//! Whole Messages replies, and what they share with streams.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::sealed;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Arguments, Attachment, Block, Event, Finish, Json, Notes, Opaque, Origin, Reply, ReplyTo, Start, Stop,
    Text, Whole, broken, reported, update,
};
use crate::dialect::usage::{Input, Kinds, Output, Usage};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let message: Message<'_> = match serde_json::from_slice(body) {
        Ok(message) => message,
        Err(error) => return sink(Event::Failed(broken(error))),
    };
    if message.kind.text().is_some_and(|kind| kind == *"error") || message.error.get().is_some() {
        return sink(Event::Failed(reported(body)));
    }
    let mut counts = Counts::default();
    sink(Event::Start(message.start(&mut counts)));
    message.blocks(sink);
    if let Some(finish) = message.end().finish() {
        sink(Event::Finish(finish));
    }
    sink(Event::End);
}

/// Tells of a block that begins, with what it holds already.
pub(super) fn open(block: u32, raw: &str, sink: &mut impl FnMut(Event<'_>)) {
    let Ok(content) = serde_json::from_str::<Content<'_>>(raw) else {
        return sink(Event::Failed(broken(format_args!("block {block} is no object"))));
    };
    let kind = content.kind.text().unwrap_or_default();
    let (kind, text) = match kind.plain().as_ref() {
        "text" => (Block::Text, content.text.text()),
        "thinking" => (Block::Reasoning(Origin::Messages), content.thinking.text()),
        "redacted_thinking" => {
            let data = content.data.text().unwrap_or_default();
            (Block::Redacted { origin: Origin::Messages, data }, None)
        }
        "tool_use" => {
            let (id, name) = (content.id.text().unwrap_or_default(), content.name.text().unwrap_or_default());
            let input = content.input.get().filter(|input| !matches!(*input, "{}" | "\"\""));
            (Block::ToolCall { id, name }, input.map(Text::new))
        }
        _ => {
            let json = Node::parse(raw.as_bytes()).map(|node| node.json());
            let Ok(json) = json else { return sink(Event::Failed(broken("a block is no JSON"))) };
            (Block::Opaque(Opaque { origin: Origin::Messages, kind: kind.borrowed(), json }), None)
        }
    };
    sink(Event::Open { block, kind });
    if let Some(text) = text {
        sink(Event::Delta { block, text });
    }
    if let Some(text) = content.signature.some_text() {
        let what = Attachment::Signature { origin: Origin::Messages, text };
        sink(Event::Attach { block, what });
    }
    if let Some(json) = content.citations.json().filter(|json| json.get() != "[]") {
        for citation in Node::parse(json.get().as_bytes()).iter().filter_map(Node::as_array).flatten() {
            let what =
                Opaque { origin: Origin::Messages, kind: Text::from("citation"), json: citation.json() };
            sink(Event::Attach { block, what: Attachment::Opaque(what) });
        }
    }
}

/// What a stop reason means.
fn stop(raw: &str) -> Stop {
    match raw {
        "stop_sequence" => Stop::Sequence,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::ToolCalls,
        "refusal" => Stop::Filtered,
        "pause_turn" => Stop::Paused,
        _ => Stop::End,
    }
}

// === Writing ===

/// Writes a whole reply.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut body = Object::begin(&mut out);
    head_into(&mut body, &reply.start, to);
    let mut list = body.array("content");
    let mut tone = Tone::Answer;
    for (index, whole) in (0..).zip(&reply.blocks) {
        if matches!(whole.block, Block::Refusal) {
            tone = Tone::Refusal;
        }
        if let Block::Opaque(opaque) = &whole.block
            && opaque.origin != Origin::Messages
        {
            unsaid(&opaque.kind, notes);
            continue;
        }
        block_into(list.item(), whole, index, to, notes);
    }
    list.end();
    if reply.seals_a_call_alone() {
        unsaid(&Text::from("signature of a tool call"), notes);
    }
    end_into(&mut body, &reply.finish, tone);
    usage_into(body.object("usage"), &reply.usage.unwrap_or_default());
    body.end();
    out
}

/// Whether the model gave its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Answer,
    /// It said why it would not.
    Refusal,
}

/// Notes something that Messages has no words for.
pub(super) fn unsaid(kind: &Text<'_>, notes: &mut Notes) {
    notes.unsaid(format_args!("reply: {}", kind.plain()), "has no equal in Messages");
}

/// Writes `id`, `type`, `role` and `model`.
pub(super) fn head_into(body: &mut Object<'_>, start: &Start<'_>, to: &ReplyTo) {
    let id = start.id.plain();
    match id.starts_with("msg_") {
        true => body.string("id", &id),
        false => body.string("id", &format!("msg_{}", if to.id.is_empty() { &id } else { to.id.as_str() })),
    }
    body.string("type", "message");
    body.string("role", "assistant");
    match to.model.as_str() {
        "" => body.text("model", &start.model),
        model => body.string("model", model),
    }
}

/// Writes `stop_reason`, `stop_sequence` and `stop_details`.
pub(super) fn end_into(object: &mut Object<'_>, finish: &Finish<'_>, tone: Tone) {
    match (finish.raw_of(Origin::Messages), tone) {
        (Some(raw), _) => object.text("stop_reason", raw),
        (None, Tone::Refusal) if finish.stop == Stop::End => object.string("stop_reason", "refusal"),
        (None, _) => object.string("stop_reason", stop_reason(finish)),
    }
    match &finish.sequence {
        Some(sequence) => object.text("stop_sequence", sequence),
        None => object.raw("stop_sequence", "null"),
    }
    if let Some(details) = finish.details.as_ref().filter(|details| details.origin == Origin::Messages) {
        object.raw("stop_details", &details.json.one_line());
    }
}

fn stop_reason(finish: &Finish<'_>) -> &'static str {
    match finish.stop {
        Stop::End | Stop::Malformed => "end_turn",
        // The client is to be told which sequence it was.
        Stop::Sequence if finish.sequence.is_none() => "end_turn",
        Stop::Sequence => "stop_sequence",
        Stop::Length => "max_tokens",
        Stop::ToolCalls => "tool_use",
        Stop::Filtered => "refusal",
        Stop::Paused => "pause_turn",
    }
}

fn block_into(out: &mut Vec<u8>, whole: &Whole, index: u64, to: &ReplyTo, notes: &mut Notes) {
    if let Block::Opaque(opaque) = &whole.block {
        return opaque_into(out, opaque, &whole.text());
    }
    let mut block = Object::begin(out);
    start_into(&mut block, &whole.block, index, to);
    match &whole.block {
        Block::Text | Block::Refusal => block.text("text", &whole.text()),
        Block::Reasoning(_) => {
            block.text("thinking", &whole.text());
            block.text("signature", &signature_of(whole));
        }
        Block::ToolCall { .. } => {
            if !Arguments::Text(whole.text()).object_into(block.key("input")) {
                notes.unsaid("reply: arguments", "are no JSON object; they are given inside one");
            }
        }
        Block::Redacted { .. } | Block::Opaque(_) => {}
    }
    citations_into(&mut block, whole, notes);
    block.end();
}

fn signature_of(whole: &Whole) -> Text<'_> {
    let seal = whole.attached.iter().find_map(|what| match what {
        Attachment::Signature { origin, text } => Some(sealed(*origin, text)),
        Attachment::Logprobs(_) | Attachment::Opaque(_) => None,
    });
    seal.unwrap_or_else(|| unsealed_mark(&whole.block))
}

/// What stands for a seal where a block of reasoning has none.
pub(super) fn unsealed_mark(block: &Block<'_>) -> Text<'static> {
    match block {
        Block::Reasoning(origin) => sealed(*origin, &Text::default()).into_owned(),
        _ => Text::default(),
    }
}

fn citations_into(block: &mut Object<'_>, whole: &Whole, notes: &mut Notes) {
    let mut own = Vec::new();
    for what in &whole.attached {
        match what {
            Attachment::Opaque(opaque) if opaque.origin == Origin::Messages => own.push(&opaque.json),
            Attachment::Opaque(opaque) => unsaid(&opaque.kind, notes),
            Attachment::Logprobs(_) => unsaid(&Text::from("logprobs"), notes),
            Attachment::Signature { .. } => {}
        }
    }
    if matches!(whole.block, Block::Text) && !own.is_empty() {
        let mut list = block.array("citations");
        for json in own {
            list.item().extend_from_slice(json.one_line().as_bytes());
        }
        list.end();
    }
}

/// Writes a block of Messages' own as it came, with the input that was streamed after it.
fn opaque_into(out: &mut Vec<u8>, opaque: &Opaque<'_>, input: &Text<'_>) {
    let node = Node::parse(opaque.json.get().as_bytes());
    match node.as_ref().map(|node| &node.value) {
        Ok(Value::Object(members)) if !input.is_empty() => {
            let mut block = Object::begin(out);
            for (name, node) in members.iter().filter(|(name, _)| *name != *"input") {
                block.raw(&name.plain(), node.raw);
            }
            Arguments::Text(input.borrowed()).object_into(block.key("input"));
            block.end();
        }
        _ => out.extend_from_slice(opaque.json.get().as_bytes()),
    }
}

/// Writes the members of a block that are known when it begins. Its text is not among them.
pub(super) fn start_into(block: &mut Object<'_>, kind: &Block<'_>, index: u64, to: &ReplyTo) {
    match kind {
        Block::Text | Block::Refusal => block.string("type", "text"),
        Block::Reasoning(_) => block.string("type", "thinking"),
        Block::Redacted { origin, data } => {
            block.string("type", "redacted_thinking");
            block.text("data", &sealed(*origin, data));
        }
        Block::ToolCall { id, name } => {
            block.string("type", "tool_use");
            if id.is_empty() {
                block.string("id", &format!("toolu_{}_{index}", to.id));
            } else {
                block.text("id", id);
            }
            block.text("name", name);
        }
        Block::Opaque(_) => {}
    }
}

/// Writes usage. What the cache held is not part of `input_tokens`.
pub(super) fn usage_into(mut object: Object<'_>, usage: &Usage) {
    let Usage { input, output, .. } = usage;
    let total = input.total.unwrap_or(0);
    // Some hosts report more from the cache than there was altogether, and the parts here have to add up.
    let cached = input.cached.map(|cached| cached.min(total));
    let cache = cached.unwrap_or(0).saturating_add(input.written.unwrap_or(0));
    object.count("input_tokens", total.saturating_sub(cache));
    for (name, count) in [("cache_creation_input_tokens", input.written), ("cache_read_input_tokens", cached)]
    {
        if let Some(count) = count {
            object.count(name, count);
        }
    }
    object.count("output_tokens", output.total.unwrap_or(0));
    if let Some(reasoning) = output.reasoning {
        let mut details = object.object("output_tokens_details");
        details.count("thinking_tokens", reasoning);
        details.end();
    }
    object.end();
}

// === The wire ===

/// A whole reply, or the head of a streamed one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    stop_reason: Raw<'a>,
    #[serde(borrow)]
    stop_sequence: Raw<'a>,
    #[serde(borrow)]
    stop_details: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

impl<'a> Message<'a> {
    /// The head; its usage is noted in `counts`.
    pub(super) fn start(&self, counts: &mut Counts) -> Start<'a> {
        let usage = counts.report(self.usage);
        let (id, model) = (self.id.text().unwrap_or_default(), self.model.text().unwrap_or_default());
        Start { id, model, created: None, usage }
    }

    /// Tells of the blocks that are there already.
    pub(super) fn blocks(&self, sink: &mut impl FnMut(Event<'_>)) {
        for (block, content) in (0..).zip(self.content.items::<&RawValue>()) {
            open(block, content.get(), sink);
            sink(Event::Close { block });
        }
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> End<'a> {
        let (stop_reason, stop_sequence) = (self.stop_reason, self.stop_sequence);
        End { stop_reason, stop_sequence, stop_details: self.stop_details }
    }
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End<'a> {
    pub(super) stop_reason: Raw<'a>,
    pub(super) stop_sequence: Raw<'a>,
    pub(super) stop_details: Raw<'a>,
}

impl<'a> End<'a> {
    /// The end; nothing if the model is not done.
    pub(super) fn finish(self) -> Option<Finish<'a>> {
        let raw = self.stop_reason.some_text()?;
        let mut finish = Finish::new(stop(&raw.plain()), Origin::Messages, raw);
        finish.sequence = self.stop_sequence.text();
        let details = self.stop_details.json().filter(Json::is_object);
        finish.details =
            details.map(|json| Opaque { origin: Origin::Messages, kind: Text::from("stop_details"), json });
        Some(finish)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
    #[serde(borrow)]
    data: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    input: Raw<'a>,
    #[serde(borrow)]
    citations: Raw<'a>,
}

/// What was reported of usage so far. Reports are cumulative and may hold only what changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    uncached: Option<u64>,
    rest: Usage,
}

impl Counts {
    /// Takes in a usage object, and returns the usage so far.
    pub(super) fn report(&mut self, raw: Raw<'_>) -> Option<Usage> {
        let wire: WireCounts<'_> = raw.object()?;
        self.uncached = wire.input_tokens.count().or(self.uncached);
        let details = wire.output_tokens_details.object::<OutputDetails<'_>>().unwrap_or_default();
        let later = Usage {
            input: Input {
                total: None,
                cached: wire.cache_read_input_tokens.count(),
                written: wire.cache_creation_input_tokens.count(),
            },
            output: Output { total: wire.output_tokens.count(), reasoning: details.thinking_tokens.count() },
            kinds: Kinds::anthropic(wire.cache_creation),
        };
        update(&mut self.rest, later);
        let Input { cached, written, .. } = self.rest.input;
        let cache = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        self.rest.input.total = self.uncached.map(|uncached| uncached.saturating_add(cache));
        Some(self.rest)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireCounts<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_read_input_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_creation_input_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_creation: Raw<'a>,
    #[serde(borrow)]
    output_tokens_details: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails<'a> {
    #[serde(borrow)]
    thinking_tokens: Raw<'a>,
}

/// Whether a value is the string `name`. Names have no escapes, so hardly any is decoded.
pub(super) fn is(raw: Raw<'_>, name: &str) -> bool {
    raw.text().is_some_and(|text| match &text {
        Text::Escaped(Cow::Borrowed(inside)) => *inside == name,
        _ => text == *name,
    })
}
