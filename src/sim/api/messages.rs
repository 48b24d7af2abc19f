//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use super::ask::{Answer, Ask, Finish, Knobs, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::refusal::Refusal;
use super::{Env, Event, Rendered, Usage, add_content, add_message, flag, limit, model_of, sse, strings};
use crate::sim::config::Config;
use crate::sim::text::{BLOCK, Prompt, id};
use serde_json::{Value, json};

/// A request.
pub(crate) struct Call {
    pub(crate) ask: Ask,
    /// Whether it marks something to be cached, so that what is new is reported as written.
    writes_cache: bool,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Call, Refusal> {
    let ask = parse_ask(body, env)?;
    if ask.max_tokens.is_none() {
        return Err(Refusal::invalid("max_tokens: Field required", Some("max_tokens")));
    }
    let writes_cache = env.request.body.windows(15).any(|bytes| bytes == b"\"cache_control\"");
    Ok(Call { ask, writes_cache })
}

/// The reply to `count_tokens`.
pub(crate) fn count(body: &Value, env: &Env<'_>) -> Result<Value, Refusal> {
    Ok(json!({"input_tokens": parse_ask(body, env)?.prompt.tokens}))
}

fn parse_ask(body: &Value, env: &Env<'_>) -> Result<Ask, Refusal> {
    if env.config.strict && !env.request.headers.contains_key("anthropic-version") {
        return Err(Refusal::invalid("anthropic-version: header is required", None));
    }
    let model = model_of(body, env)?;
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        _ => return Err(Refusal::invalid("messages: at least one message is required", Some("messages"))),
    };
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    if let Some(system) = body.get("system") {
        add_content(&mut prompt, system);
    }
    messages.iter().for_each(|message| add_message(&mut prompt, message));
    Ok(Ask {
        model,
        prompt,
        stream: flag(body, "stream"),
        include_usage: true,
        choices: 1,
        max_tokens: limit(body, "max_tokens")?,
        stops: strings(body.get("stop_sequences")),
        want: want(body, messages),
        knobs: Knobs::read(env.request, Some(body), env.config),
    })
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

/// Makes up the reply.
pub(crate) fn render(call: &Call, config: &Config, usage: Usage) -> Rendered {
    let ask = &call.ask;
    let id = id(&mut ask.rng(config.seed), "msg_01", 22);
    let Some(answer) = ask.answers(config).pop() else { return Rendered::whole(&Value::Null, 0) };
    let bill = Bill::new(call, usage, answer.tokens());
    if ask.stream {
        return Rendered::stream(stream(message(&id, &ask.model, &bill), answer, &bill));
    }
    let mut whole = message(&id, &ask.model, &bill);
    whole["content"] = content(&answer);
    whole["stop_reason"] = json!(stop_reason(&answer));
    whole["stop_sequence"] = stop_sequence(&answer);
    whole["usage"]["output_tokens"] = json!(bill.output);
    Rendered::whole(&whole, bill.output)
}

/// Tokens as this API counts them: the prompt's without those read from or written to the cache.
struct Bill {
    input: u64,
    read: u64,
    written: u64,
    output: u64,
}

impl Bill {
    fn new(call: &Call, usage: Usage, output: u64) -> Self {
        let whole_blocks = usage.prompt / BLOCK * BLOCK;
        let written = if call.writes_cache { whole_blocks.saturating_sub(usage.cached) } else { 0 };
        Self { input: usage.prompt - usage.cached - written, read: usage.cached, written, output }
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
    let text = (!answer.text.is_empty())
        .then(|| json!({"type": "text", "text": answer.full_text(), "citations": null}));
    let calls = answer.calls.iter().map(|call| {
        // Arguments cut short by `max_tokens` are no JSON any more, but `input` must be an object.
        let input = serde_json::from_str(&call.arguments.concat()).unwrap_or_else(|_| json!({}));
        tool_use(call, &input)
    });
    text.into_iter().chain(calls).collect()
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

/// The events: start, a block for the text and one for each call, the delta with the cumulative usage, stop.
fn stream(message: Value, answer: Answer, bill: &Bill) -> impl Iterator<Item = Event> + Send + use<> {
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
        },
    });
    let start = Event::frame(typed(&json!({"type": "message_start", "message": message})));
    let blocks = usize::from(!answer.text.is_empty());
    let text = (blocks > 0).then_some(answer.text).into_iter().flat_map(text_block);
    let calls =
        answer.calls.into_iter().enumerate().flat_map(move |(at, call)| call_block(blocks + at, call));
    let ends = [Event::frame(typed(&end)), Event::last(typed(&json!({"type": "message_stop"})))];
    std::iter::once(start).chain(text).chain(calls).chain(ends)
}

fn text_block(tokens: Vec<String>) -> impl Iterator<Item = Event> + Send {
    let start =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let starts = [Event::frame(typed(&start)), Event::frame(typed(&json!({"type": "ping"})))];
    let deltas = tokens.into_iter().map(|token| {
        let delta = json!({"type": "text_delta", "text": token});
        Event::token(typed(&json!({"type": "content_block_delta", "index": 0, "delta": delta})))
    });
    starts.into_iter().chain(deltas).chain([stop(0)])
}

fn call_block(index: usize, mut call: ToolCall) -> impl Iterator<Item = Event> + Send {
    let pieces = std::mem::take(&mut call.arguments);
    let block = tool_use(&call, &json!({}));
    let start = json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = move |piece: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": piece});
        typed(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    // The real API opens with an empty fragment.
    let starts = [Event::token(typed(&start)), Event::frame(delta(""))];
    let deltas = pieces.into_iter().map(move |piece| Event::token(delta(&piece)));
    starts.into_iter().chain(deltas).chain([stop(index)])
}

fn stop(index: usize) -> Event {
    Event::frame(typed(&json!({"type": "content_block_stop", "index": index})))
}

/// An event named as its `type`.
fn typed(value: &Value) -> bytes::Bytes {
    sse(value.get("type").and_then(Value::as_str), value)
}
