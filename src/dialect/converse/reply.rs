//! Whole Converse replies, and what they share with streams.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::own::{Later, join, split};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::seal::{marked, marked_base64, sealed as kept};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Arguments, Attachment, Block, Event, Finish, Json, Notes, Opaque, Origin, Reply, ReplyTo, Start, Stop,
    Text, Whole, broken, reported,
};
use crate::dialect::usage::{Input, Kinds, Output, Usage};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let reply: Wire<'_> = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(error) => return sink(Event::Failed(broken(error))),
    };
    let Some(message) = reply.output.object::<WireOutput<'_>>().and_then(|output| output.message.object())
    else {
        return sink(Event::Failed(reported(body)));
    };
    let message: Message<'_> = message;
    sink(Event::Start(Start::default()));
    for (block, content) in (0..).zip(message.content.items::<&RawValue>()) {
        whole(block, content.get(), sink);
    }
    if let Some(usage) = usage(reply.usage) {
        sink(Event::Usage(usage));
    }
    if let Some(finish) = finish(reply.stop_reason, reply.fields) {
        sink(Event::Finish(finish));
    }
    sink(Event::End);
}

fn whole(block: u32, raw: &str, sink: &mut impl FnMut(Event<'_>)) {
    let Ok(content) = serde_json::from_str::<Content<'_>>(raw) else {
        return sink(Event::Failed(broken(format_args!("block {block} is no object"))));
    };
    let call = content.tool_use.object::<ToolUse<'_>>().filter(|call| !call.is_the_providers());
    if let Some(text) = content.text.text() {
        sink(Event::Open { block, kind: Block::Text });
        sink(Event::Delta { block, text });
    } else if let Some(cited) = content.citations_content.object::<Cited<'_>>() {
        sink(Event::Open { block, kind: Block::Text });
        for piece in cited.content.items::<Content<'_>>() {
            sink(Event::Delta { block, text: piece.text.text().unwrap_or_default() });
        }
        for citation in cited.citations.items::<Raw<'_>>() {
            citation.json().into_iter().for_each(|json| sink(attached(block, "citation", json)));
        }
    } else if let Some(call) = call {
        let (id, name) = (call.id.text().unwrap_or_default(), call.name.text().unwrap_or_default());
        sink(Event::Open { block, kind: Block::ToolCall { id, name } });
        if let Some(input) = call.input.get() {
            sink(Event::Delta { block, text: Text::new(input) });
        }
    } else if let Some(reasoning) = content.reasoning.object::<Reasoning<'_>>() {
        thought(block, &reasoning, sink);
    } else {
        let Some(own) = split(raw) else {
            return sink(Event::Failed(broken(format_args!("block {block} is empty"))));
        };
        let opaque = Opaque::new(Origin::Converse, own.kind.as_str(), own.start);
        sink(Event::Open { block, kind: Block::Opaque(opaque) });
        match own.later {
            Later::Nothing => {}
            Later::Input(input) => sink(Event::Delta { block, text: Text::new(input) }),
            Later::Delta(json) => sink(attached(block, &own.kind, json)),
        }
    }
    sink(Event::Close { block });
}

fn thought(block: u32, reasoning: &Reasoning<'_>, sink: &mut impl FnMut(Event<'_>)) {
    if let Some(data) = reasoning.redacted.text() {
        return sink(Event::Open { block, kind: Block::Redacted { origin: Origin::Converse, data } });
    }
    let said: Sealed<'_> = reasoning.text.object().unwrap_or_default();
    sink(Event::Open { block, kind: Block::Reasoning(Origin::Converse) });
    if let Some(text) = said.text.text() {
        sink(Event::Delta { block, text });
    }
    if let Some(text) = said.signature.some_text() {
        sink(sealed(block, text));
    }
}

pub(super) fn sealed(block: u32, text: Text<'_>) -> Event<'_> {
    Event::Attach { block, what: Attachment::Signature { origin: Origin::Converse, text } }
}

pub(super) fn attached<'e>(block: u32, kind: &'e str, json: Json<'e>) -> Event<'e> {
    Event::Attach { block, what: Attachment::Opaque(Opaque::new(Origin::Converse, kind, json)) }
}

/// The end; nothing if the model is not done.
pub(super) fn finish<'a>(reason: Raw<'a>, fields: Raw<'a>) -> Option<Finish<'a>> {
    let raw = reason.some_text()?;
    let mut finish = Finish::new(stop(&raw.plain()), Origin::Converse, raw);
    finish.sequence = fields.object::<Fields<'a>>().and_then(|fields| fields.sequence());
    let details = fields.json().filter(|json| json.is_object() && json.get() != "{}");
    finish.details = details.map(|json| Opaque::new(Origin::Converse, "additionalModelResponseFields", json));
    Some(finish)
}

/// What a stop reason means.
fn stop(raw: &str) -> Stop {
    match raw {
        "stop_sequence" => Stop::Sequence,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::ToolCalls,
        "guardrail_intervened" | "content_filtered" | "refusal" => Stop::Filtered,
        "malformed_tool_use" | "malformed_model_output" => Stop::Malformed,
        "pause_turn" => Stop::Paused,
        _ => Stop::End,
    }
}

/// The usage that a reply reports. `inputTokens` holds nothing of the cache; a total that leaves the cache out says
/// that it does.
pub(in super::super) fn usage(raw: Raw<'_>) -> Option<Usage> {
    let counts: Counts<'_> = raw.object()?;
    let input = counts.input.count()?;
    let (cached, written) = (counts.read.count(), counts.written.count());
    let cache = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
    let output = counts.output.count();
    let holds_cache = cache > 0 && counts.total.count() == Some(input.saturating_add(output.unwrap_or(0)));
    let total = if holds_cache { input } else { input.saturating_add(cache) };
    Some(Usage {
        input: Input { total: Some(total), cached, written },
        output: Output { total: output, reasoning: None },
        kinds: Kinds::bedrock(counts.details),
    })
}

// === Writing ===

/// Writes a whole reply.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut body = Object::begin(&mut out);
    let mut output = body.object("output");
    let mut message = output.object("message");
    message.string("role", "assistant");
    let mut list = message.array("content");
    let mut tone = Tone::Answer;
    for (index, whole) in (0..).zip(&reply.blocks) {
        if matches!(whole.block, Block::Refusal) {
            tone = Tone::Refusal;
        }
        match &whole.block {
            Block::Opaque(opaque) if opaque.origin != Origin::Converse => unsaid(&opaque.kind, notes),
            Block::Opaque(opaque) => join(list.item(), opaque, &whole.attached, &whole.text()),
            _ => block_into(list.object(), whole, index, to, notes),
        }
    }
    list.end();
    if reply.seals_a_call_alone() {
        unsaid(&Text::from("signature of a tool call"), notes);
    }
    message.end();
    output.end();
    end_into(&mut body, &reply.finish, tone);
    usage_into(body.object("usage"), &reply.usage.unwrap_or_default());
    metrics_into(&mut body);
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

/// Notes something that Converse has no words for.
pub(super) fn unsaid(kind: &Text<'_>, notes: &mut Notes) {
    notes.unsaid(format_args!("reply: {}", kind.plain()), "has no equal in Converse");
}

fn block_into(mut block: Object<'_>, whole: &Whole, index: u64, to: &ReplyTo, notes: &mut Notes) {
    for what in &whole.attached {
        unsaid_beside(what, notes);
    }
    match &whole.block {
        Block::Text | Block::Refusal => text_into(&mut block, whole),
        Block::Reasoning(origin) => {
            let mut reasoning = block.object("reasoningContent");
            let mut said = reasoning.object("reasoningText");
            said.text("text", &whole.text());
            let seal = whole.attached.iter().find_map(|what| match what {
                Attachment::Signature { origin, text } => Some(seal_of(*origin, text)),
                Attachment::Logprobs(_) | Attachment::Opaque(_) => None,
            });
            said.maybe_text("signature", seal.or_else(|| no_seal(*origin)).as_ref());
            said.end();
            reasoning.end();
        }
        Block::Redacted { origin, data } => {
            let mut reasoning = block.object("reasoningContent");
            reasoning.text("redactedContent", &redacted(*origin, data));
            reasoning.end();
        }
        Block::ToolCall { id, name } => {
            let mut call = block.object("toolUse");
            call_into(&mut call, id, name, index, to);
            if !Arguments::Text(whole.text()).object_into(call.key("input")) {
                notes.unsaid("reply: arguments", "are no JSON object; they are given inside one");
            }
            call.end();
        }
        Block::Opaque(_) => {}
    }
    block.end();
}

/// Writes an answer, with what it cites.
fn text_into(block: &mut Object<'_>, whole: &Whole) {
    let mut citations = whole.attached.iter().filter_map(own_citation).peekable();
    if citations.peek().is_none() {
        return block.text("text", &whole.text());
    }
    let mut cited = block.object("citationsContent");
    let mut content = cited.array("content");
    let mut piece = content.object();
    piece.text("text", &whole.text());
    piece.end();
    content.end();
    let mut list = cited.array("citations");
    for json in citations {
        list.item().extend_from_slice(json.get().as_bytes());
    }
    list.end();
    cited.end();
}

pub(super) fn own_citation<'w>(what: &'w Attachment<'_>) -> Option<&'w Json<'w>> {
    match what {
        Attachment::Opaque(opaque) if opaque.origin == Origin::Converse && opaque.kind == *"citation" => {
            Some(&opaque.json)
        }
        _ => None,
    }
}

/// Notes an attachment that Converse has no words for.
pub(super) fn unsaid_beside(what: &Attachment<'_>, notes: &mut Notes) {
    match what {
        Attachment::Opaque(opaque) if opaque.origin != Origin::Converse => unsaid(&opaque.kind, notes),
        Attachment::Logprobs(_) => unsaid(&Text::from("logprobs"), notes),
        _ => {}
    }
}

/// A seal as Converse's clients keep it.
pub(super) fn seal_of<'t>(origin: Origin, seal: &'t Text<'_>) -> Text<'t> {
    kept(Origin::Converse, origin, seal)
}

/// What stands for a seal where reasoning of another origin has none.
pub(super) fn no_seal(origin: Origin) -> Option<Text<'static>> {
    (origin != Origin::Converse).then(|| Text::new(marked(origin, &Text::default())))
}

/// Sealed reasoning as Converse's clients keep it: in base64.
pub(super) fn redacted<'t>(origin: Origin, data: &'t Text<'_>) -> Text<'t> {
    if origin == Origin::Converse { data.borrowed() } else { Text::new(marked_base64(origin, data)) }
}

/// Writes the head of a tool call.
pub(super) fn call_into(call: &mut Object<'_>, id: &Text<'_>, name: &Text<'_>, index: u64, to: &ReplyTo) {
    if id.is_empty() {
        call.string("toolUseId", &format!("tooluse_{}_{index}", to.id));
    } else {
        super::request::IDS.write(call, "toolUseId", id);
    }
    call.text("name", name);
}

/// Writes `stopReason` and `additionalModelResponseFields`.
pub(super) fn end_into(object: &mut Object<'_>, finish: &Finish<'_>, tone: Tone) {
    match finish.raw_of(Origin::Converse) {
        Some(raw) => object.text("stopReason", raw),
        None => object.string("stopReason", stop_reason(finish, tone)),
    }
    match (finish.details.as_ref().filter(|details| details.origin == Origin::Converse), &finish.sequence) {
        (Some(details), _) => object.raw("additionalModelResponseFields", &details.json.one_line()),
        (None, Some(sequence)) => {
            let mut fields = object.object("additionalModelResponseFields");
            fields.text("stop_sequence", sequence);
            fields.end();
        }
        (None, None) => {}
    }
}

fn stop_reason(finish: &Finish<'_>, tone: Tone) -> &'static str {
    match finish.stop {
        Stop::End if tone == Tone::Refusal => "content_filtered",
        Stop::End | Stop::Paused => "end_turn",
        Stop::Sequence => "stop_sequence",
        Stop::Length => "max_tokens",
        Stop::ToolCalls => "tool_use",
        Stop::Filtered => "content_filtered",
        Stop::Malformed => "malformed_tool_use",
    }
}

/// Writes usage. What the cache held is not part of `inputTokens`.
pub(super) fn usage_into(mut object: Object<'_>, usage: &Usage) {
    let Usage { input, output, .. } = usage;
    let (prompt, said) = (input.total.unwrap_or(0), output.total.unwrap_or(0));
    // Some hosts report more from the cache than there was altogether.
    let cached = input.cached.map(|cached| cached.min(prompt));
    let rest = prompt.saturating_sub(cached.unwrap_or(0));
    let written = input.written.map(|written| written.min(rest));
    object.count("inputTokens", rest.saturating_sub(written.unwrap_or(0)));
    object.count("outputTokens", said);
    object.count("totalTokens", prompt.saturating_add(said));
    for (name, count) in [("cacheReadInputTokens", cached), ("cacheWriteInputTokens", written)] {
        if let Some(count) = count {
            object.count(name, count);
        }
    }
    object.end();
}

/// Writes `metrics`, which has to be there; the time is not known here.
pub(super) fn metrics_into(object: &mut Object<'_>) {
    object.raw("metrics", "{\"latencyMs\":0}");
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    output: Raw<'a>,
    #[serde(borrow)]
    stop_reason: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow, rename = "additionalModelResponseFields")]
    fields: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireOutput<'a> {
    #[serde(borrow)]
    message: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Content<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    tool_use: Raw<'a>,
    #[serde(borrow, rename = "reasoningContent")]
    reasoning: Raw<'a>,
    #[serde(borrow)]
    citations_content: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cited<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    citations: Raw<'a>,
}

/// A call, or the head of one that streams.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolUse<'a> {
    #[serde(borrow, rename = "toolUseId")]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
}

impl ToolUse<'_> {
    /// Whether the provider itself runs the tool.
    pub(super) fn is_the_providers(&self) -> bool {
        self.kind.text().is_some_and(|kind| kind == *"server_tool_use")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reasoning<'a> {
    #[serde(borrow, rename = "reasoningText")]
    text: Raw<'a>,
    #[serde(borrow, rename = "redactedContent")]
    redacted: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sealed<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
}

/// What a client may ask to be told of the model's own reply: Claude's has the stop sequence, streamed in a `delta`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(borrow)]
    stop_sequence: Raw<'a>,
    #[serde(borrow)]
    delta: Raw<'a>,
}

impl<'a> Fields<'a> {
    fn sequence(&self) -> Option<Text<'a>> {
        let streamed = || self.delta.object::<Self>()?.stop_sequence.some_text();
        self.stop_sequence.some_text().or_else(streamed)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts<'a> {
    #[serde(borrow, rename = "inputTokens")]
    input: Raw<'a>,
    #[serde(borrow, rename = "outputTokens")]
    output: Raw<'a>,
    #[serde(borrow, rename = "totalTokens")]
    total: Raw<'a>,
    #[serde(borrow, rename = "cacheReadInputTokens")]
    read: Raw<'a>,
    #[serde(borrow, rename = "cacheWriteInputTokens")]
    written: Raw<'a>,
    #[serde(borrow, rename = "cacheDetails")]
    details: Raw<'a>,
}
