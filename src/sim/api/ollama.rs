//! Ollama's `POST /api/chat`.

use super::ask::{Answer, Ask, Finish, Thinking, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::shape::{Shape, check};
use super::wire::line;
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_message, created, model_of, strings,
};
use crate::sim::config::Config;
use crate::sim::provider::rfc3339;
use crate::sim::text::Prompt;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// A request.
pub(crate) struct Chat(Ask);

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Chat, Refusal> {
    check(body, &BODY, Family::Ollama)?;
    let model = model_of(body, env)?;
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    messages.iter().for_each(|message| add_message(&mut prompt, message));
    let options = body.get("options");
    let limit = options.and_then(|options| options.get("num_predict")).and_then(Value::as_i64);
    let thinks = match body.get("think") {
        Some(Value::Bool(thinks)) => *thinks,
        Some(Value::String(level)) => level != "none",
        _ => false,
    };
    Ok(Chat(Ask {
        // This API streams unless told otherwise.
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(true),
        // Numbers below 1 are no limit.
        max_tokens: limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0),
        stops: strings(options.and_then(|options| options.get("stop"))),
        want: want(body, messages),
        thinking: Thinking::shown_if(thinks),
        ..Ask::new(model, prompt, body, env)
    }))
}

fn want(body: &Value, messages: &[Value]) -> Want {
    let last = messages.last().and_then(|last| last.get("role")).and_then(Value::as_str);
    let offered = tools(body.get("tools"), |tool| tool.get("function").unwrap_or(tool));
    if let Some(want) = want_calls(offered, None, "auto", last == Some("tool")) {
        return want;
    }
    match body.get("format") {
        Some(Value::String(format)) if format == "json" => Want::Json(None),
        Some(schema @ Value::Object(_)) => Want::Json(Some(schema.clone())),
        _ => Want::Text,
    }
}

static BODY: Shape = Shape::Members(&[
    ("model", Shape::Must(&Shape::Text)),
    ("messages", Shape::List(&MESSAGE)),
    ("stream", Shape::Flag),
    ("format", Shape::Either(&[Shape::Text, Shape::Object])),
    ("options", Shape::Members(OPTIONS)),
    ("tools", Shape::List(&TOOL)),
    ("think", Shape::Either(&[Shape::Flag, Shape::Text])),
    ("keep_alive", Shape::Any),
    ("logprobs", Shape::Flag),
    ("top_logprobs", Shape::Whole),
]);

const OPTIONS: &[(&str, Shape)] = &[
    ("num_predict", Shape::Whole),
    ("num_ctx", Shape::Whole),
    ("num_keep", Shape::Whole),
    ("seed", Shape::Whole),
    ("top_k", Shape::Whole),
    ("top_p", Shape::Number),
    ("min_p", Shape::Number),
    ("temperature", Shape::Number),
    ("repeat_penalty", Shape::Number),
    ("presence_penalty", Shape::Number),
    ("frequency_penalty", Shape::Number),
    ("stop", Shape::List(&Shape::Text)),
];

static MESSAGE: Shape = Shape::Members(&[
    ("role", Shape::Must(&Shape::Text)),
    ("content", Shape::Text),
    ("thinking", Shape::Text),
    ("images", Shape::List(&Shape::Text)),
    ("tool_calls", Shape::List(&TOOL_CALL)),
    ("tool_name", Shape::Text),
    ("tool_call_id", Shape::Text),
]);

static TOOL_CALL: Shape = Shape::Members(&[
    ("id", Shape::Text),
    (
        "function",
        Shape::Must(&Shape::Members(&[
            ("index", Shape::Whole),
            ("name", Shape::Must(&Shape::Text)),
            ("arguments", Shape::Must(&Shape::Object)),
        ])),
    ),
]);

static TOOL: Shape = Shape::Members(&[
    ("type", Shape::Text),
    (
        "function",
        Shape::Must(&Shape::Members(&[
            ("name", Shape::Must(&Shape::Text)),
            ("description", Shape::Text),
            ("parameters", Shape::Object),
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
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(created(config, self.0.prompt.identity()));
        let stamp = Stamp { model: self.0.model.clone(), at: rfc3339(at) };
        if self.0.stream {
            return Rendered::stream(Media::Lines, stream(stamp, answer, usage));
        }
        let mut message = json!({"role": "assistant", "content": answer.full_text()});
        if !answer.reasoning.is_empty() {
            message["thinking"] = json!(answer.reasoning.concat());
        }
        if !answer.calls.is_empty() {
            message["tool_calls"] =
                answer.calls.iter().enumerate().map(|(at, call)| tool_call(at, call)).collect();
        }
        Rendered::whole(&stamp.end(message, finish_reason(&answer), tokens, usage), tokens)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        line(&Refusal::server(FAILED).body(Family::Ollama, None))
    }
}

/// What every line repeats.
struct Stamp {
    model: String,
    at: String,
}

impl Stamp {
    fn line(&self, message: Value) -> Value {
        json!({"model": self.model, "created_at": self.at, "message": message, "done": false})
    }

    fn end(&self, message: Value, reason: &str, tokens: u64, usage: Usage) -> Value {
        json!({
            "model": self.model,
            "created_at": self.at,
            "message": message,
            "done": true,
            "done_reason": reason,
            "total_duration": 10_000_000 * (tokens + 1),
            "load_duration": 1_000_000,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": 5_000_000,
            "eval_count": tokens,
            "eval_duration": 10_000_000 * tokens,
        })
    }
}

fn tool_call(index: usize, call: &ToolCall) -> Value {
    json!({
        "id": format!("call_{}", call.id.get(..8).unwrap_or_default()),
        "function": {"index": index, "name": call.name, "arguments": call.input()},
    })
}

/// Calls end as text does: only their members tell.
fn finish_reason(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "length" } else { "stop" }
}

fn stream(stamp: Stamp, answer: Answer, usage: Usage) -> impl Iterator<Item = Event> + Send {
    let (reason, tokens) = (finish_reason(&answer), answer.tokens());
    let thoughts = answer.reasoning.into_iter();
    let thoughts = thoughts.map(|token| (json!({"role": "assistant", "content": "", "thinking": token}), 1));
    let text = answer.text.into_iter().map(|token| (json!({"role": "assistant", "content": token}), 1));
    let calls = answer.calls.into_iter().enumerate().map(|(at, call)| {
        (json!({"role": "assistant", "content": "", "tool_calls": [tool_call(at, &call)]}), call.tokens())
    });
    let pieces = thoughts.chain(text).chain(calls).map(Some).chain([None]);
    pieces.map(move |piece| match piece {
        Some((message, tokens)) => Event { bytes: line(&stamp.line(message)), kind: Kind::Tokens(tokens) },
        None => {
            let message = json!({"role": "assistant", "content": ""});
            Event::last(line(&stamp.end(message, reason, tokens, usage)))
        }
    })
}
