//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use super::ask::{Answer, Ask, Finish, Thinking, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::rules;
use super::wire::{exception, frame};
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_content, add_message, limit, model_of, sse,
    strings,
};
use crate::sim::config::Config;
use crate::sim::text::{BLOCK, Prompt, id, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// A request.
pub(crate) struct Message {
    ask: Ask,
    /// Who runs the model.
    host: Family,
    /// Whether it marks something to be cached, so that what is new is reported as written.
    writes_cache: bool,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Message, Refusal> {
    let ask = parse_ask(body, env)?;
    if ask.max_tokens.is_none() {
        return Err(Refusal::invalid("max_tokens: Field required", Some("max_tokens")));
    }
    let writes_cache = env.request.body.windows(15).any(|bytes| bytes == b"\"cache_control\"");
    Ok(Message { ask, host: env.place.family, writes_cache })
}

/// The reply to `count_tokens`.
pub(crate) fn count(body: &Value, env: &Env<'_>) -> Result<Value, Refusal> {
    Ok(json!({"input_tokens": parse_ask(body, env)?.prompt.tokens}))
}

fn parse_ask(body: &Value, env: &Env<'_>) -> Result<Ask, Refusal> {
    let direct = env.place.family == Family::Anthropic;
    if direct && env.config.strict && !env.request.headers.contains_key("anthropic-version") {
        return Err(Refusal::invalid("anthropic-version: header is required", None));
    }
    let model = model_of(body, env)?;
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        _ => return Err(Refusal::invalid("messages: at least one message is required", Some("messages"))),
    };
    if env.config.strict {
        rules::messages(body)?;
        check_signatures(messages)?;
    }
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    if let Some(system) = body.get("system") {
        add_content(&mut prompt, system);
    }
    messages.iter().for_each(|message| add_message(&mut prompt, message));
    let thinking = body.pointer("/thinking/type").and_then(Value::as_str);
    Ok(Ask {
        max_tokens: limit(body, "max_tokens")?,
        stops: strings(body.get("stop_sequences")),
        want: want(body, messages),
        thinking: Thinking::shown_if(matches!(thinking, Some("enabled" | "adaptive"))),
        ..Ask::new(model, prompt, body, env)
    })
}

/// Thoughts come back as they were sent, or not at all.
fn check_signatures(messages: &[Value]) -> Result<(), Refusal> {
    for (turn, message) in messages.iter().enumerate() {
        let parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
        for (at, part) in parts.enumerate() {
            let Some(thought) = part.get("thinking").and_then(Value::as_str) else { continue };
            if part.get("signature").and_then(Value::as_str) != Some(&sign(thought)) {
                let place = format!("messages.{turn}.content.{at}");
                return Err(Refusal::invalid(
                    format!("{place}: Invalid `signature` in `thinking` block"),
                    None,
                ));
            }
        }
    }
    Ok(())
}

fn want(body: &Value, messages: &[Value]) -> Want {
    let parts = messages.last().and_then(|last| last.get("content")).and_then(Value::as_array);
    let is_result = |part: &Value| part.get("type").and_then(Value::as_str) == Some("tool_result");
    let answered = parts.is_some_and(|parts| parts.iter().any(is_result));
    let mode = body.pointer("/tool_choice/type").and_then(Value::as_str).unwrap_or("auto");
    let named = body.pointer("/tool_choice/name").and_then(Value::as_str);
    let mode = if mode == "tool" { "required" } else { mode };
    if let Some(want) = want_calls(tools(body.get("tools"), |tool| tool), named, mode, answered) {
        return want;
    }
    let format = body.pointer("/output_config/format").or_else(|| body.get("output_format"));
    match format.and_then(|format| format.get("schema")) {
        Some(schema) => Want::Json(Some(schema.clone())),
        None => Want::Text,
    }
}

impl Call for Message {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let ask = &self.ask;
        let prefix = match self.host {
            Family::Bedrock => "msg_bdrk_01",
            Family::VertexClaude => "msg_vrtx_01",
            _ => "msg_01",
        };
        let id = id(&mut ask.rng(config.seed), prefix, 22);
        let answer = ask.only_answer(config);
        let bill = Bill::new(self, usage, &answer);
        if ask.stream {
            let host = self.host;
            let pieces = stream(message(&id, &ask.model, &bill), answer, &bill, host);
            let media = if host == Family::Bedrock { Media::Chunks } else { Media::Events };
            return Rendered::stream(
                media,
                pieces.map(move |(value, kind)| Event { bytes: event(host, &value), kind }),
            );
        }
        let mut whole = message(&id, &ask.model, &bill);
        whole["content"] = content(&answer);
        whole["stop_reason"] = json!(stop_reason(&answer));
        whole["stop_sequence"] = stop_sequence(&answer);
        whole["usage"]["output_tokens"] = json!(bill.output);
        whole["usage"]["output_tokens_details"] = json!({"thinking_tokens": bill.thought});
        Rendered::whole(&whole, bill.output)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        match self.host {
            Family::Bedrock => exception("modelStreamErrorException", FAILED),
            _ => event(self.host, &Refusal::overloaded(529).body(Family::Anthropic, None)),
        }
    }
}

/// An event, named as its `type`; Bedrock wraps it.
fn event(host: Family, value: &Value) -> Bytes {
    if host == Family::Bedrock {
        return frame("chunk", &json!({"bytes": STANDARD.encode(value.to_string()), "p": "abcdefgh"}));
    }
    sse(value.get("type").and_then(Value::as_str), value)
}

/// Tokens as this API counts them: the prompt's without those read from or written to the cache.
struct Bill {
    input: u64,
    read: u64,
    written: u64,
    output: u64,
    /// Of the output, what was thought.
    thought: u64,
}

impl Bill {
    fn new(call: &Message, usage: Usage, answer: &Answer) -> Self {
        let whole_blocks = usage.prompt / BLOCK * BLOCK;
        let written = if call.writes_cache { whole_blocks.saturating_sub(usage.cached) } else { 0 };
        Self {
            input: usage.prompt - usage.cached - written,
            read: usage.cached,
            written,
            output: answer.tokens(),
            thought: answer.thought(),
        }
    }
}

/// The message before anything is said.
fn message(id: &str, model: &str, bill: &Bill) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "usage": {
            "input_tokens": bill.input,
            "cache_creation_input_tokens": bill.written,
            "cache_read_input_tokens": bill.read,
            "cache_creation": {"ephemeral_5m_input_tokens": bill.written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": bill.output.min(1),
            "service_tier": "standard",
        },
    })
}

fn content(answer: &Answer) -> Value {
    let thought = (!answer.reasoning.is_empty()).then(|| {
        let thought = answer.reasoning.concat();
        json!({"type": "thinking", "thinking": thought, "signature": sign(&thought)})
    });
    let text = (!answer.text.is_empty())
        .then(|| json!({"type": "text", "text": answer.full_text(), "citations": null}));
    let calls = answer.calls.iter().map(|call| tool_use(call, &call.input()));
    thought.into_iter().chain(text).chain(calls).collect()
}

fn tool_use(call: &ToolCall, input: &Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_01{}", call.id), "name": call.name, "input": input})
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
    }
}

fn stop_sequence(answer: &Answer) -> Value {
    match &answer.finish {
        Finish::StopSequence(stop) => json!(stop),
        _ => Value::Null,
    }
}

type Piece = (Value, Kind);

/// The events: start, a block for the thoughts, for the text and for each call, the delta with the cumulative usage,
/// stop.
fn stream(
    message: Value,
    answer: Answer,
    bill: &Bill,
    host: Family,
) -> impl Iterator<Item = Piece> + Send + use<> {
    let end = json!({
        "type": "message_delta",
        "delta": {
            "stop_reason": stop_reason(&answer),
            "stop_sequence": stop_sequence(&answer),
            "stop_details": null,
        },
        "usage": {
            "input_tokens": bill.input,
            "cache_creation_input_tokens": bill.written,
            "cache_read_input_tokens": bill.read,
            "output_tokens": bill.output,
            "output_tokens_details": {"thinking_tokens": bill.thought},
        },
    });
    let mut last = json!({"type": "message_stop"});
    if host == Family::Bedrock {
        last["amazon-bedrock-invocationMetrics"] = json!({
            "inputTokenCount": bill.input,
            "outputTokenCount": bill.output,
            "invocationLatency": 10 * bill.output,
            "firstByteLatency": 10,
        });
    }
    let start = (json!({"type": "message_start", "message": message}), Kind::Frame);
    let mut blocks: Vec<Box<dyn FnOnce(usize) -> Block + Send>> = Vec::new();
    if !answer.reasoning.is_empty() {
        blocks.push(Box::new(move |at| Box::new(thought_block(at, answer.reasoning))));
    }
    if !answer.text.is_empty() {
        blocks.push(Box::new(move |at| Box::new(text_block(at, answer.text))));
    }
    for call in answer.calls {
        blocks.push(Box::new(move |at| Box::new(call_block(at, call))));
    }
    let blocks = blocks.into_iter().enumerate().flat_map(|(at, block)| block(at));
    std::iter::once(start).chain(blocks).chain([(end, Kind::Frame), (last, Kind::Last)])
}

type Block = Box<dyn Iterator<Item = Piece> + Send>;

fn thought_block(index: usize, tokens: Vec<String>) -> impl Iterator<Item = Piece> + Send {
    let signature = json!({"type": "signature_delta", "signature": sign(&tokens.concat())});
    let start = opened(index, &json!({"type": "thinking", "thinking": "", "signature": ""}));
    let deltas = tokens.into_iter().map(move |token| {
        (delta(index, &json!({"type": "thinking_delta", "thinking": token})), Kind::Tokens(1))
    });
    let ends = [(delta(index, &signature), Kind::Frame), stop(index)];
    std::iter::once((start, Kind::Frame)).chain(deltas).chain(ends)
}

fn text_block(index: usize, tokens: Vec<String>) -> impl Iterator<Item = Piece> + Send {
    let start = opened(index, &json!({"type": "text", "text": ""}));
    let starts = [(start, Kind::Frame), (json!({"type": "ping"}), Kind::Frame)];
    let deltas = tokens
        .into_iter()
        .map(move |token| (delta(index, &json!({"type": "text_delta", "text": token})), Kind::Tokens(1)));
    starts.into_iter().chain(deltas).chain([stop(index)])
}

fn call_block(index: usize, mut call: ToolCall) -> impl Iterator<Item = Piece> + Send {
    let pieces = std::mem::take(&mut call.arguments);
    let start = opened(index, &tool_use(&call, &json!({})));
    let fragment =
        move |piece: &str| delta(index, &json!({"type": "input_json_delta", "partial_json": piece}));
    // The real API opens with an empty fragment.
    let starts = [(start, Kind::Tokens(1)), (fragment(""), Kind::Frame)];
    let deltas = pieces.into_iter().map(move |piece| (fragment(&piece), Kind::Tokens(1)));
    starts.into_iter().chain(deltas).chain([stop(index)])
}

fn opened(index: usize, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: usize, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: usize) -> Piece {
    (json!({"type": "content_block_stop", "index": index}), Kind::Frame)
}
