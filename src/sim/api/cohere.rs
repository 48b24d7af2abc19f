//! Cohere's `POST /v2/chat`.

pub(crate) mod rerank;

use super::ask::{Answer, Ask, Finish, Thinking, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::shape::{Shape, check};
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_message, limit, model_of, sse, strings,
};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, uuid};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request.
pub(crate) struct Chat(Ask);

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Chat, Refusal> {
    check(body, &BODY, Family::Cohere)?;
    let model = model_of(body, env)?;
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        return Err(Refusal::invalid(
            "invalid request: list of messages must not be empty",
            Some("messages"),
        ));
    }
    check_tools(messages)?;
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    messages.iter().for_each(|message| add_message(&mut prompt, message));
    let thinking = body.pointer("/thinking/type").and_then(Value::as_str);
    Ok(Chat(Ask {
        max_tokens: limit(body, "max_tokens")?,
        stops: strings(body.get("stop_sequences")),
        want: want(body, messages),
        thinking: Thinking::shown_if(thinking == Some("enabled")),
        ..Ask::new(model, prompt, body, env)
    }))
}

/// What a tool said must be about a call before it.
fn check_tools(messages: &[Value]) -> Result<(), Refusal> {
    let mut called = Vec::new();
    for message in messages {
        let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        called.extend(calls.filter_map(|call| call.get("id")));
        if message.get("role").and_then(Value::as_str) == Some("tool") {
            let id = message.get("tool_call_id");
            if !id.is_some_and(|id| called.contains(&id)) {
                return Err(Refusal::invalid(
                    "invalid request: tool call id not found in previous tool calls",
                    Some("messages"),
                ));
            }
        }
    }
    Ok(())
}

fn want(body: &Value, messages: &[Value]) -> Want {
    let last = messages.last().and_then(|last| last.get("role")).and_then(Value::as_str);
    let mode = body.get("tool_choice").and_then(Value::as_str).unwrap_or("auto").to_lowercase();
    let offered = tools(body.get("tools"), |tool| tool.get("function").unwrap_or(tool));
    if let Some(want) = want_calls(offered, None, &mode, last == Some("tool")) {
        return want;
    }
    let format = body.get("response_format");
    match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_object") => {
            let schema = format.and_then(|format| format.get("json_schema").or_else(|| format.get("schema")));
            Want::Json(schema.cloned())
        }
        _ => Want::Text,
    }
}

static BODY: Shape = Shape::Members(&[
    ("model", Shape::Must(&Shape::Text)),
    ("messages", Shape::Must(&Shape::List(&MESSAGE))),
    ("stream", Shape::Flag),
    ("tools", Shape::List(&TOOL)),
    ("strict_tools", Shape::Flag),
    ("tool_choice", Shape::Choice(&["REQUIRED", "NONE"])),
    ("documents", Shape::List(&Shape::Any)),
    ("citation_options", Shape::Object),
    (
        "response_format",
        Shape::Members(&[
            ("type", Shape::Must(&Shape::Choice(&["text", "json_object"]))),
            ("json_schema", Shape::Object),
            ("schema", Shape::Object),
        ]),
    ),
    ("safety_mode", Shape::Choice(&["CONTEXTUAL", "STRICT", "OFF"])),
    ("max_tokens", Shape::Whole),
    ("stop_sequences", Shape::List(&Shape::Text)),
    ("temperature", Shape::Number),
    ("seed", Shape::Whole),
    ("frequency_penalty", Shape::Number),
    ("presence_penalty", Shape::Number),
    ("k", Shape::Whole),
    ("p", Shape::Number),
    ("logprobs", Shape::Flag),
    (
        "thinking",
        Shape::Members(&[
            ("type", Shape::Must(&Shape::Choice(&["enabled", "disabled"]))),
            ("token_budget", Shape::Whole),
        ]),
    ),
    ("priority", Shape::Whole),
    ("raw_prompting", Shape::Flag),
]);

static MESSAGE: Shape = Shape::Members(&[
    ("role", Shape::Must(&Shape::Choice(&["user", "assistant", "system", "tool"]))),
    ("content", Shape::Either(&[Shape::Text, Shape::List(&PART)])),
    ("tool_calls", Shape::List(&TOOL_CALL)),
    ("tool_plan", Shape::Text),
    ("tool_call_id", Shape::Text),
    ("citations", Shape::List(&Shape::Object)),
]);

static PART: Shape = Shape::Members(&[
    ("type", Shape::Must(&Shape::Choice(&["text", "image_url", "thinking", "document"]))),
    ("text", Shape::Text),
    ("thinking", Shape::Text),
    ("image_url", Shape::Members(&[("url", Shape::Must(&Shape::Text)), ("detail", Shape::Text)])),
    ("document", Shape::Object),
]);

static TOOL_CALL: Shape = Shape::Members(&[
    ("id", Shape::Must(&Shape::Text)),
    ("type", Shape::Must(&Shape::Choice(&["function"]))),
    (
        "function",
        Shape::Must(&Shape::Members(&[
            ("name", Shape::Must(&Shape::Text)),
            ("arguments", Shape::Must(&Shape::Text)),
        ])),
    ),
]);

static TOOL: Shape = Shape::Members(&[
    ("type", Shape::Must(&Shape::Choice(&["function"]))),
    (
        "function",
        Shape::Must(&Shape::Members(&[
            ("name", Shape::Must(&Shape::Text)),
            ("description", Shape::Text),
            ("parameters", Shape::Must(&Shape::Object)),
        ])),
    ),
]);

impl Call for Chat {
    fn ask(&self) -> &Ask {
        &self.0
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.0
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let answer = self.0.only_answer(config);
        let tokens = answer.tokens();
        let id = uuid(&mut self.0.rng(config.seed));
        let usage = usage_json(usage, &answer);
        if self.0.stream {
            let events =
                stream(&id, answer, usage).chain([Event::last(Bytes::from_static(b"data: [DONE]\n\n"))]);
            return Rendered::stream(Media::Events, events);
        }
        let mut message = json!({"role": "assistant"});
        let thought = (!answer.reasoning.is_empty())
            .then(|| json!({"type": "thinking", "thinking": answer.reasoning.concat()}));
        let text = (!answer.text.is_empty()).then(|| json!({"type": "text", "text": answer.full_text()}));
        let content: Vec<_> = thought.into_iter().chain(text).collect();
        if !content.is_empty() {
            message["content"] = content.into();
        }
        if !answer.calls.is_empty() {
            message["tool_calls"] =
                answer.calls.iter().map(|call| tool_call(call, &call.arguments.concat())).collect();
        }
        let reason = finish_reason(&answer);
        let whole = json!({"id": id, "message": message, "finish_reason": reason, "usage": usage});
        Rendered::whole(&whole, tokens)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        let delta = json!({"finish_reason": "ERROR", "error": FAILED});
        typed("message-end", None, delta)
    }
}

fn tool_call(call: &ToolCall, arguments: &str) -> Value {
    json!({
        "id": format!("{}_{}", call.name, call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "COMPLETE",
        Finish::StopSequence(_) => "STOP_SEQUENCE",
        Finish::Length => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
    }
}

fn usage_json(usage: Usage, answer: &Answer) -> Value {
    let mut tokens = json!({"input_tokens": usage.prompt, "output_tokens": answer.tokens()});
    if answer.thought() > 0 {
        tokens["reasoning_tokens"] = json!(answer.thought());
    }
    json!({
        "billed_units": {"input_tokens": usage.prompt, "output_tokens": answer.tokens()},
        "tokens": tokens,
        "cached_tokens": usage.cached,
    })
}

/// An event named as its `type`; those of a part or a call have its index.
fn typed(name: &str, index: Option<usize>, delta: Value) -> Bytes {
    let mut event = json!({"type": name});
    if let Some(index) = index {
        event["index"] = json!(index);
    }
    event["delta"] = delta;
    sse(Some(name), &event)
}

fn stream(id: &str, answer: Answer, usage: Value) -> impl Iterator<Item = Event> + Send + use<> {
    let message =
        json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
    let start = json!({"id": id, "type": "message-start", "delta": {"message": message}});
    let end = typed("message-end", None, json!({"finish_reason": finish_reason(&answer), "usage": usage}));
    let thoughts = usize::from(!answer.reasoning.is_empty());
    let parts = [("thinking", 0, answer.reasoning), ("text", thoughts, answer.text)].into_iter();
    let parts = parts.filter(|(_, _, tokens)| !tokens.is_empty());
    let parts = parts.flat_map(|(kind, at, tokens)| part_events(kind, at, tokens));
    let calls = answer.calls.into_iter().enumerate().flat_map(|(at, call)| call_events(at, call));
    std::iter::once(Event::frame(sse(Some("message-start"), &start)))
        .chain(parts)
        .chain(calls)
        .chain([Event::frame(end)])
}

fn part_events(kind: &'static str, at: usize, tokens: Vec<String>) -> impl Iterator<Item = Event> + Send {
    let start = json!({"message": {"content": {"type": kind, kind: ""}}});
    let deltas = tokens.into_iter().map(move |token| {
        Event::token(typed("content-delta", Some(at), json!({"message": {"content": {kind: token}}})))
    });
    let end = Event::frame(sse(Some("content-end"), &json!({"type": "content-end", "index": at})));
    std::iter::once(Event::frame(typed("content-start", Some(at), start))).chain(deltas).chain([end])
}

fn call_events(at: usize, call: ToolCall) -> impl Iterator<Item = Event> + Send {
    let start = json!({"message": {"tool_calls": tool_call(&call, "")}});
    let deltas = call.arguments.into_iter().map(move |piece| {
        let delta = json!({"message": {"tool_calls": {"function": {"arguments": piece}}}});
        Event::token(typed("tool-call-delta", Some(at), delta))
    });
    let end = Event::frame(sse(Some("tool-call-end"), &json!({"type": "tool-call-end", "index": at})));
    let start = Event { bytes: typed("tool-call-start", Some(at), start), kind: Kind::Tokens(1) };
    std::iter::once(start).chain(deltas).chain([end])
}
