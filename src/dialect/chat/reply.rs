//! Whole chat replies, and what they share with streams.

use serde::Deserialize;

use super::blocks::{Blocks, Delta};
use super::format_of;
use super::request::signature_into;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::{Array, Object, join};
use crate::dialect::ir::{
    Attachment, Block, Event, Finish, Notes, Origin, Reply, ReplyTo, Start, Stop, Text, Whole, broken,
    reported,
};
use crate::dialect::usage::{Input, Kinds, Output, Usage};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let mut wire = Wire::default();
    wire.chunk(body, sink);
    sink(Event::End);
}

/// How far a reply has come: the events of a stream one after the other, or a whole reply as the only one.
#[derive(Debug, Default)]
pub(super) struct Wire {
    blocks: Blocks,
    stage: Stage,
    chunks: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    Speaking,
    Finished,
}

impl Wire {
    /// Reads a chunk, or a whole reply.
    pub(super) fn chunk(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.chunks += 1;
        // Google's compatible route wraps errors in an array.
        let data = data.trim_ascii();
        let data = data.strip_prefix(b"[").and_then(|data| data.strip_suffix(b"]")).unwrap_or(data);
        let chunk: Chunk<'_> = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                let why = format_args!("event {} is no chat chunk: {error}", self.chunks);
                return sink(Event::Failed(broken(why)));
            }
        };
        if chunk.is_error() {
            return sink(Event::Failed(reported(data)));
        }
        self.start(&chunk, sink);
        for choice in chunk.choices.iter().flatten().filter(|choice| choice.index.count().unwrap_or(0) == 0) {
            self.choice(choice, data, sink);
        }
        if let Some(usage) = chunk.usage() {
            sink(Event::Usage(usage));
        }
    }

    fn start(&mut self, chunk: &Chunk<'_>, sink: &mut impl FnMut(Event<'_>)) {
        // Azure's first chunk has no choices, and neither id nor model.
        let is_empty = chunk.choices.as_ref().is_none_or(Vec::is_empty);
        if self.stage != Stage::Silent || is_empty {
            return;
        }
        self.stage = Stage::Speaking;
        let id = chunk.id.text().unwrap_or_default();
        let model = chunk.model.text().unwrap_or_default();
        sink(Event::Start(Start { id, model, created: chunk.created.count(), usage: None }));
    }

    fn choice(&mut self, choice: &Choice<'_>, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        if let Some(delta) = choice.delta.as_ref().or(choice.message.as_ref()) {
            self.blocks.delta(delta, sink);
        }
        self.blocks.logprobs(choice.logprobs, sink);
        let usage = choice.usage.object::<Counts<'_>>().and_then(|counts| counts.usage());
        if let Some(usage) = usage {
            sink(Event::Usage(usage));
        }
        let Some(raw) = choice.finish_reason.some_text().filter(|_| self.stage != Stage::Finished) else {
            return;
        };
        self.stage = Stage::Finished;
        self.blocks.finish(sink);
        let Some(stop) = stop(&raw.plain()) else { return sink(Event::Failed(reported(data))) };
        let mut finish = Finish::new(stop, Origin::Chat, raw);
        finish.sequence = choice.stop_reason.some_text().or_else(|| choice.matched_stop.some_text());
        if finish.sequence.is_some() && stop == Stop::End {
            finish.stop = Stop::Sequence;
        }
        sink(Event::Finish(finish));
    }
}

/// What a finish reason means; nothing if it is an error.
fn stop(raw: &str) -> Option<Stop> {
    match raw {
        "error" | "abort" => None,
        "length" | "model_length" | "max_tokens" => Some(Stop::Length),
        "tool_calls" | "function_call" | "tool_use" => Some(Stop::ToolCalls),
        "content_filter" => Some(Stop::Filtered),
        "stop_sequence" => Some(Stop::Sequence),
        _ => Some(Stop::End),
    }
}

/// What chat calls the end of a reply.
pub(super) fn finish_reason(finish: &Finish<'_>) -> &'static str {
    match finish.stop {
        Stop::End | Stop::Sequence | Stop::Paused | Stop::Malformed => "stop",
        Stop::Length => "length",
        Stop::ToolCalls => "tool_calls",
        Stop::Filtered => "content_filter",
    }
}

// === Writing ===

/// Writes a whole reply.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut body = Object::begin(&mut out);
    head_into(&mut body, "chat.completion", &reply.start, to);
    let mut choices = body.array("choices");
    let mut choice = choices.object();
    choice.count("index", 0);
    message_into(choice.object("message"), &reply.blocks, to, notes);
    logprobs_into(&mut choice, &reply.blocks);
    choice.string("finish_reason", finish_reason(&reply.finish));
    choice.end();
    choices.end();
    if let Some(usage) = &reply.usage {
        usage_into(body.object("usage"), usage);
    }
    body.end();
    out
}

/// Writes `id`, `object`, `created` and `model`.
pub(super) fn head_into(body: &mut Object<'_>, object: &str, start: &Start<'_>, to: &ReplyTo) {
    let id = start.id.plain();
    match id.starts_with("chatcmpl-") {
        true => body.string("id", &id),
        false => {
            body.string("id", &format!("chatcmpl-{}", if to.id.is_empty() { &id } else { to.id.as_str() }))
        }
    }
    body.string("object", object);
    body.count("created", start.created.unwrap_or(to.created));
    match to.model.as_str() {
        "" => body.text("model", &start.model),
        model => body.string("model", model),
    }
}

fn message_into(mut message: Object<'_>, blocks: &[Whole], to: &ReplyTo, notes: &mut Notes) {
    let joined = |is: fn(&Block<'_>) -> bool| {
        let texts: Vec<Text<'_>> = blocks.iter().filter(|whole| is(&whole.block)).map(Whole::text).collect();
        (!texts.is_empty()).then(|| Text::join(&texts, ""))
    };
    message.string("role", "assistant");
    match joined(|block| matches!(block, Block::Text)) {
        Some(text) => message.text("content", &text),
        None => message.raw("content", "null"),
    }
    match joined(|block| matches!(block, Block::Refusal)) {
        Some(refusal) => message.text("refusal", &refusal),
        None => message.raw("refusal", "null"),
    }
    // A seal may stand alone.
    let thoughts = joined(|block| matches!(block, Block::Reasoning(_))).filter(|text| !text.is_empty());
    message.maybe_text("reasoning_content", thoughts.as_ref());
    details_into(&mut message, blocks);
    calls_into(&mut message, blocks, to);
    if let Some(annotations) = beside(blocks, "annotations") {
        message.raw("annotations", annotations);
    }
    message.end();
    for whole in blocks {
        unsaid(&whole.block, notes);
        whole.attached.iter().for_each(|what| unsaid_beside(what, notes));
    }
}

/// Notes a block that chat has no words for.
pub(super) fn unsaid(block: &Block<'_>, notes: &mut Notes) {
    if let Block::Opaque(opaque) = block {
        notes.unsaid(format_args!("reply: {}", opaque.kind.plain()), "has no equal in chat");
    }
}

/// Notes an attachment that chat has no words for.
pub(super) fn unsaid_beside(what: &Attachment<'_>, notes: &mut Notes) {
    if let Attachment::Opaque(opaque) = what
        && opaque.origin != Origin::Chat
    {
        notes.unsaid(format_args!("reply: {}", opaque.kind.plain()), "has no equal in chat");
    }
}

/// Writes how likely the tokens of the answer were, and those of the refusal.
fn logprobs_into(choice: &mut Object<'_>, blocks: &[Whole]) {
    let list = |is: fn(&Block<'_>) -> bool| {
        let whole = blocks.iter().filter(|whole| is(&whole.block));
        join(whole.flat_map(|whole| &whole.attached).filter_map(Attachment::logprobs))
    };
    let content = list(|block| matches!(block, Block::Text));
    let refusal = list(|block| matches!(block, Block::Refusal));
    if content.is_none() && refusal.is_none() {
        return choice.raw("logprobs", "null");
    }
    let mut logprobs = choice.object("logprobs");
    logprobs.raw("content", content.as_deref().unwrap_or("null"));
    logprobs.raw("refusal", refusal.as_deref().unwrap_or("null"));
    logprobs.end();
}

/// What chat itself said beside its answer.
fn beside<'b>(blocks: &'b [Whole], kind: &str) -> Option<&'b str> {
    blocks.iter().flat_map(|whole| &whole.attached).find_map(|what| match what {
        Attachment::Opaque(opaque) if opaque.origin == Origin::Chat && opaque.kind == *kind => {
            Some(opaque.json.get())
        }
        _ => None,
    })
}

/// Seals, and reasoning that only its origin can read, for the client to send back.
fn details_into(message: &mut Object<'_>, blocks: &[Whole]) {
    let sealed = |whole: &&Whole| match whole.block {
        Block::Redacted { .. } => true,
        Block::Reasoning(_) => !whole.attached.is_empty(),
        _ => false,
    };
    let mut sealed = blocks.iter().filter(sealed).peekable();
    if sealed.peek().is_none() {
        return;
    }
    let mut list = message.array("reasoning_details");
    for (index, whole) in (0..).zip(sealed) {
        match &whole.block {
            Block::Redacted { origin, data } => redacted_into(&mut list, index, *origin, data),
            _ => {
                for what in &whole.attached {
                    if let Attachment::Signature { origin, text } = what {
                        sealed_into(&mut list, index, *origin, &whole.text(), text);
                    }
                }
            }
        }
    }
    list.end();
}

/// Writes a detail of reasoning that only its origin can read.
pub(super) fn redacted_into(list: &mut Array<'_>, index: u64, origin: Origin, data: &Text<'_>) {
    let mut detail = list.object();
    detail.count("index", index);
    detail.string("type", "reasoning.encrypted");
    detail.text("data", data);
    detail.string("format", format_of(origin));
    detail.end();
}

/// Writes a detail of reasoning with its seal.
pub(super) fn sealed_into(
    list: &mut Array<'_>,
    index: u64,
    origin: Origin,
    text: &Text<'_>,
    signature: &Text<'_>,
) {
    let mut detail = list.object();
    detail.count("index", index);
    detail.string("type", "reasoning.text");
    detail.text("text", text);
    detail.text("signature", signature);
    detail.string("format", format_of(origin));
    detail.end();
}

fn calls_into(message: &mut Object<'_>, blocks: &[Whole], to: &ReplyTo) {
    let mut calls = blocks.iter().filter(|whole| matches!(whole.block, Block::ToolCall { .. })).peekable();
    if calls.peek().is_none() {
        return;
    }
    let mut list = message.array("tool_calls");
    for (index, whole) in (0..).zip(calls) {
        let Block::ToolCall { id, name } = &whole.block else { continue };
        let mut call = list.object();
        id_into(&mut call, id, index, to);
        call.string("type", "function");
        let mut function = call.object("function");
        function.text("name", name);
        function.text("arguments", &whole.text());
        function.end();
        for what in &whole.attached {
            if let Attachment::Signature { origin: Origin::Gemini, text } = what {
                signature_into(&mut call, text);
            }
        }
        call.end();
    }
    list.end();
}

/// Writes a call's id, and makes one where there is none.
pub(super) fn id_into(call: &mut Object<'_>, id: &Text<'_>, index: u64, to: &ReplyTo) {
    if id.is_empty() {
        call.string("id", &format!("call_{}_{index}", to.id));
    } else {
        call.text("id", id);
    }
}

/// Writes usage.
pub(in super::super) fn usage_into(mut object: Object<'_>, usage: &Usage) {
    let Usage { input, output, .. } = usage;
    let (prompt, completion) = (input.total.unwrap_or(0), output.total.unwrap_or(0));
    object.count("prompt_tokens", prompt);
    object.count("completion_tokens", completion);
    object.count("total_tokens", prompt.saturating_add(completion));
    if input.cached.is_some() || input.written.is_some() {
        let mut details = object.object("prompt_tokens_details");
        details.count("cached_tokens", input.cached.unwrap_or(0));
        if let Some(written) = input.written {
            details.count("cache_write_tokens", written);
        }
        details.end();
    }
    if let Some(reasoning) = output.reasoning {
        let mut details = object.object("completion_tokens_details");
        details.count("reasoning_tokens", reasoning);
        details.end();
    }
    object.end();
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    object: Raw<'a>,
    #[serde(borrow)]
    created: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    x_groq: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
    /// What some hosts report an error with, bare.
    #[serde(borrow)]
    message: Raw<'a>,
    /// The same on FastAPI.
    #[serde(borrow)]
    detail: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    index: Raw<'a>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    #[serde(borrow)]
    logprobs: Raw<'a>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    /// The stop sequence that was met, on vLLM.
    #[serde(borrow)]
    stop_reason: Raw<'a>,
    /// The same on SGLang.
    #[serde(borrow)]
    matched_stop: Raw<'a>,
    /// Some servers put usage here.
    #[serde(borrow)]
    usage: Raw<'a>,
}

impl Chunk<'_> {
    fn is_error(&self) -> bool {
        let holds = self.error.get().is_some_and(|error| !matches!(error, "\"\"" | "{}" | "[]"));
        let is_bare = self.choices.is_none() && (self.message.get().is_some() || self.detail.get().is_some());
        holds || is_bare || self.object.text().is_some_and(|object| object == *"error")
    }

    fn usage(&self) -> Option<Usage> {
        let groq = || self.x_groq.object::<Groq<'_>>()?.usage.object();
        self.usage.object::<Counts<'_>>().or_else(groq)?.usage()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Groq<'a> {
    #[serde(borrow)]
    usage: Raw<'a>,
}

/// A usage object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts<'a> {
    #[serde(borrow)]
    prompt_tokens: Raw<'a>,
    #[serde(borrow)]
    completion_tokens: Raw<'a>,
    #[serde(borrow)]
    prompt_tokens_details: Raw<'a>,
    #[serde(borrow)]
    completion_tokens_details: Raw<'a>,
    #[serde(borrow)]
    prompt_cache_hit_tokens: Raw<'a>,
    #[serde(borrow)]
    cost: Raw<'a>,
    #[serde(borrow)]
    cost_in_usd_ticks: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_write_tokens: Raw<'a>,
    #[serde(borrow)]
    reasoning_tokens: Raw<'a>,
}

impl Counts<'_> {
    fn usage(&self) -> Option<Usage> {
        let input = self.prompt_tokens_details.object::<Details<'_>>().unwrap_or_default();
        let output = self.completion_tokens_details.object::<Details<'_>>().unwrap_or_default();
        let usage = Usage {
            input: Input {
                total: self.prompt_tokens.count(),
                cached: input.cached_tokens.count().or_else(|| self.prompt_cache_hit_tokens.count()),
                written: input.cache_write_tokens.count(),
            },
            output: Output {
                total: self.completion_tokens.count(),
                reasoning: output.reasoning_tokens.count(),
            },
            kinds: Kinds::openai(self.prompt_tokens_details, self.completion_tokens_details)
                .told(self.cost, self.cost_in_usd_ticks),
        };
        (usage.input.total.is_some() || usage.output.total.is_some()).then_some(usage)
    }
}
