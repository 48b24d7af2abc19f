//! `POST /v1/responses` and `POST /v1/responses/input_tokens`.

use super::ask::{Answer, Ask, Finish, Thinking, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_message, created, limit, model_of, sse,
};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, id};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// A request.
pub(crate) struct Response {
    ask: Ask,
    /// Members of the request that the response repeats.
    echo: Map<String, Value>,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Response, Refusal> {
    let ask = parse_ask(body, env)?;
    let defaults = [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("store", json!(true)),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("user", Value::Null),
    ];
    let echo = defaults.into_iter().map(|(key, default)| {
        let asked = body.get(key).filter(|value| !value.is_null()).cloned();
        (key.to_owned(), asked.unwrap_or(default))
    });
    Ok(Response { ask, echo: echo.collect() })
}

/// The reply to `input_tokens`.
pub(crate) fn count(body: &Value, env: &Env<'_>) -> Result<Value, Refusal> {
    Ok(json!({"object": "response.input_tokens", "input_tokens": parse_ask(body, env)?.prompt.tokens}))
}

fn parse_ask(body: &Value, env: &Env<'_>) -> Result<Ask, Refusal> {
    let model = model_of(body, env)?;
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(text) = body.get("instructions").and_then(Value::as_str) {
        prompt.text(text);
    }
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    let answered = match body.get("input") {
        Some(Value::String(text)) => {
            add_message(&mut prompt, &json!({"role": "user", "content": text}));
            false
        }
        Some(Value::Array(items)) => {
            items.iter().for_each(|item| add_message(&mut prompt, item));
            let last = items.last().and_then(|item| item.get("type")).and_then(Value::as_str);
            last == Some("function_call_output")
        }
        _ => return Err(Refusal::invalid("`input` must be a string or an array of items.", Some("input"))),
    };
    let summary = body.pointer("/reasoning/summary").is_some_and(Value::is_string);
    Ok(Ask {
        max_tokens: limit(body, "max_output_tokens")?,
        want: want(body, answered),
        thinking: Thinking::shown_if(summary),
        ..Ask::new(model, prompt, body, env)
    })
}

fn want(body: &Value, answered: bool) -> Want {
    let choice = body.get("tool_choice");
    let named = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
    let default = if named.is_some() { "required" } else { "auto" };
    let mode = choice.and_then(Value::as_str).unwrap_or(default);
    if let Some(want) = want_calls(tools(body.get("tools"), |tool| tool), named, mode, answered) {
        return want;
    }
    match body.pointer("/text/format/type").and_then(Value::as_str) {
        Some("json_object") => Want::Json(None),
        Some("json_schema") => Want::Json(body.pointer("/text/format/schema").cloned()),
        _ => Want::Text,
    }
}

impl Call for Response {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let ask = &self.ask;
        let mut rng = ask.rng(config.seed);
        let frame = Frame::new(self, config, &mut rng);
        let answer = ask.only_answer(config);
        let (tokens, thought) = (answer.tokens(), answer.thought());
        let items = items(answer, &mut rng);
        let done: Vec<_> = items.iter().map(|item| item.json(item.ending())).collect();
        let state = if items.iter().any(|item| item.cut) { State::Incomplete } else { State::Completed };
        let usage = json!({
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": usage.prompt + tokens,
        });
        let last = frame.response(state, done, usage);
        if ask.stream {
            return Rendered::stream(Media::Events, stream(&frame, items, state, last));
        }
        Rendered::whole(&last, tokens)
    }

    fn error_event(&self, config: &Config, sent: u64) -> Bytes {
        // A nested `error` event, then `response.failed`.
        let frame = Frame::new(self, config, &mut self.ask.rng(config.seed));
        let error = Refusal::server(FAILED).body(Family::OpenAi, None);
        let error = json!({"type": "error", "error": error.get("error")});
        let failed = json!({"type": "response.failed", "response": frame.response(State::Failed, Vec::new(), Value::Null)});
        let mut out = BytesMut::from(&numbered(error, sent)[..]);
        out.extend_from_slice(&numbered(failed, sent + 1));
        out.freeze()
    }
}

/// How a response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// What the response object holds from first to last.
struct Frame {
    id: String,
    created: u64,
    model: String,
    echo: Map<String, Value>,
}

impl Frame {
    fn new(call: &Response, config: &Config, rng: &mut Rng) -> Self {
        Self {
            id: id(rng, "resp_", 48),
            created: created(config, call.ask.prompt.identity()),
            model: call.ask.model.clone(),
            echo: call.echo.clone(),
        }
    }

    fn response(&self, state: State, output: Vec<Value>, usage: Value) -> Value {
        let incomplete = (state == State::Incomplete).then(|| json!({"reason": "max_output_tokens"}));
        let error = (state == State::Failed).then(|| json!({"code": "server_error", "message": FAILED}));
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": state.name(),
            "background": false,
            "completed_at": if state == State::Completed { json!(self.created + 1) } else { Value::Null },
            "error": error,
            "incomplete_details": incomplete,
            "model": self.model,
            "output": output,
            "service_tier": "default",
            "usage": usage,
        });
        if let Some(members) = response.as_object_mut() {
            members.extend(self.echo.clone());
        }
        response
    }
}

/// A part of the output, with the identity it keeps from its first event to the final response.
struct Item {
    id: String,
    /// Whether the token limit ended it.
    cut: bool,
    what: What,
}

enum What {
    Reasoning(Vec<String>),
    Message(Vec<String>),
    Call(ToolCall),
}

fn items(answer: Answer, rng: &mut Rng) -> Vec<Item> {
    let cut = answer.finish == Finish::Length;
    let mut items = Vec::new();
    if !answer.reasoning.is_empty() {
        items.push(Item { id: id(rng, "rs_", 48), cut: false, what: What::Reasoning(answer.reasoning) });
    }
    if answer.calls.is_empty() {
        items.push(Item { id: id(rng, "msg_", 48), cut, what: What::Message(answer.text) });
    }
    let calls = answer.calls.into_iter();
    items.extend(calls.map(|call| Item { id: id(rng, "fc_", 48), cut, what: What::Call(call) }));
    items
}

impl Item {
    fn ending(&self) -> State {
        if self.cut { State::Incomplete } else { State::Completed }
    }

    fn json(&self, state: State) -> Value {
        let open = state == State::InProgress;
        match &self.what {
            What::Reasoning(text) => {
                let summary = if open { json!([]) } else { json!([summary(&text.concat())]) };
                json!({"id": self.id, "type": "reasoning", "summary": summary})
            }
            What::Message(text) => {
                let content = if open { json!([]) } else { json!([part(&text.concat())]) };
                json!({
                    "id": self.id,
                    "type": "message",
                    "status": state.name(),
                    "role": "assistant",
                    "content": content,
                })
            }
            What::Call(call) => json!({
                "id": self.id,
                "type": "function_call",
                "status": state.name(),
                "arguments": if open { String::new() } else { call.arguments.concat() },
                "call_id": format!("call_{}", call.id),
                "name": call.name,
            }),
        }
    }
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// The events, numbered from 0.
fn stream(
    frame: &Frame,
    items: Vec<Item>,
    state: State,
    last: Value,
) -> impl Iterator<Item = Event> + Send + use<> {
    let open = frame.response(State::InProgress, Vec::new(), Value::Null);
    let starts = ["response.created", "response.in_progress"]
        .map(|name| (json!({"type": name, "response": open}), Kind::Frame));
    let middle = items.into_iter().enumerate().flat_map(|(at, item)| item_events(at, item));
    let name = if state == State::Incomplete { "response.incomplete" } else { "response.completed" };
    let end = (json!({"type": name, "response": last}), Kind::Last);
    let all = starts.into_iter().chain(middle).chain([end]).enumerate();
    all.map(|(number, (event, kind))| Event { bytes: numbered(event, number as u64), kind })
}

type Piece = (Value, Kind);

fn item_events(at: usize, item: Item) -> Box<dyn Iterator<Item = Piece> + Send> {
    let added = json!({"type": "response.output_item.added", "output_index": at, "item": item.json(State::InProgress)});
    let done =
        json!({"type": "response.output_item.done", "output_index": at, "item": item.json(item.ending())});
    let inner: Box<dyn Iterator<Item = Piece> + Send> = match item.what {
        What::Reasoning(text) => Box::new(reasoning_events(at, item.id, text)),
        What::Message(text) => Box::new(message_events(at, item.id, text)),
        What::Call(call) => Box::new(call_events(at, item.id, call)),
    };
    Box::new(std::iter::once((added, Kind::Frame)).chain(inner).chain([(done, Kind::Frame)]))
}

fn message_events(at: usize, item: String, text: Vec<String>) -> impl Iterator<Item = Piece> + Send {
    let full = text.concat();
    let place = json!({"item_id": item, "output_index": at, "content_index": 0});
    let opened = with(&place, "response.content_part.added", &[("part", part(""))]);
    let ends = [
        with(&place, "response.output_text.done", &[("text", json!(full)), ("logprobs", json!([]))]),
        with(&place, "response.content_part.done", &[("part", part(&full))]),
    ];
    let deltas = text.into_iter().map(move |token| {
        let delta = [("delta", json!(token)), ("logprobs", json!([]))];
        (with(&place, "response.output_text.delta", &delta), Kind::Tokens(1))
    });
    std::iter::once((opened, Kind::Frame)).chain(deltas).chain(ends.map(|end| (end, Kind::Frame)))
}

fn reasoning_events(at: usize, item: String, text: Vec<String>) -> impl Iterator<Item = Piece> + Send {
    let full = text.concat();
    let place = json!({"item_id": item, "output_index": at, "summary_index": 0});
    let opened = with(&place, "response.reasoning_summary_part.added", &[("part", summary(""))]);
    let ends = [
        with(&place, "response.reasoning_summary_text.done", &[("text", json!(full))]),
        with(&place, "response.reasoning_summary_part.done", &[("part", summary(&full))]),
    ];
    let deltas = text.into_iter().map(move |token| {
        let delta = with(&place, "response.reasoning_summary_text.delta", &[("delta", json!(token))]);
        (delta, Kind::Tokens(1))
    });
    std::iter::once((opened, Kind::Frame)).chain(deltas).chain(ends.map(|end| (end, Kind::Frame)))
}

fn call_events(at: usize, item: String, call: ToolCall) -> impl Iterator<Item = Piece> + Send {
    let place = json!({"item_id": item, "output_index": at});
    let full = json!(call.arguments.concat());
    let done = with(
        &place,
        "response.function_call_arguments.done",
        &[("arguments", full), ("name", json!(call.name))],
    );
    let deltas = call.arguments.into_iter().map(move |piece| {
        (with(&place, "response.function_call_arguments.delta", &[("delta", json!(piece))]), Kind::Tokens(1))
    });
    deltas.chain([(done, Kind::Frame)])
}

/// An event of that type at that place.
fn with(place: &Value, name: &str, members: &[(&str, Value)]) -> Value {
    let mut event = json!({"type": name});
    if let (Some(event), Some(place)) = (event.as_object_mut(), place.as_object()) {
        event.extend(place.clone());
        event.extend(members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    event
}

fn numbered(mut event: Value, number: u64) -> Bytes {
    event["sequence_number"] = json!(number);
    sse(event.get("type").and_then(Value::as_str), &event)
}
