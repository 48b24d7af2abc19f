//! `POST /v1/chat/completions`.

use super::ask::{Answer, Ask, Finish, Tool, ToolCall, Want};
use super::family::Family;
use super::refusal::Refusal;
use super::rules;
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_message, created, flag, limit, model_of, sse,
    strings,
};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, id};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request, and who is asked: Azure adds what its filters say.
pub(crate) struct Chat {
    ask: Ask,
    family: Family,
    /// Whether every chunk of a stream tells the usage so far, as vLLM and SGLang do when asked to.
    counts: bool,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Chat, Refusal> {
    let model = model_of(body, env)?;
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        _ => {
            return Err(Refusal::invalid(
                "`messages` must be an array with at least one message.",
                Some("messages"),
            ));
        }
    };
    if env.config.strict {
        rules::chat(body)?;
    }
    let begun = begun(body, messages)?;
    let asked = messages.get(..messages.len() - usize::from(begun.is_some())).unwrap_or_default();
    let mut prompt = Prompt::new(env.config.seed, &model);
    asked.iter().for_each(|message| add_message(&mut prompt, message));
    for key in ["tools", "functions"] {
        if let Some(tools) = body.get(key) {
            prompt.text(&tools.to_string());
        }
    }
    if let Some(begun) = &begun {
        prompt.begun(begun);
    }
    let answered = asked.last().and_then(|last| last.get("role")).and_then(Value::as_str) == Some("tool");
    let max_tokens = match limit(body, "max_completion_tokens")? {
        None => limit(body, "max_tokens")?,
        some => some,
    };
    let ask = Ask {
        include_usage: body.get("stream_options").is_some_and(|options| flag(options, "include_usage")),
        choices: limit(body, "n")?.unwrap_or(1).min(128),
        max_tokens,
        stops: strings(body.get("stop")),
        begun,
        want: want(body, answered),
        ..Ask::new(model, prompt, body, env)
    };
    let counts = body.get("stream_options").is_some_and(|options| flag(options, "continuous_usage_stats"));
    Ok(Chat { ask, family: env.place.family, counts })
}

/// The beginning of the answer that is to be gone on with, as engines are told of it.
fn begun(body: &Value, messages: &[Value]) -> Result<Option<String>, Refusal> {
    const FLAG: &str = "continue_final_message";
    if !flag(body, FLAG) {
        return Ok(None);
    }
    if body.get("add_generation_prompt") != Some(&Value::Bool(false)) {
        let why = "Cannot set both `continue_final_message` and `add_generation_prompt` to True.";
        return Err(Refusal::invalid(why, Some(FLAG)));
    }
    let last = messages.last().filter(|last| last.get("role").and_then(Value::as_str) == Some("assistant"));
    match last.and_then(|last| last.get("content")).and_then(Value::as_str) {
        Some(begun) => Ok(Some(begun.to_owned())),
        None => Err(Refusal::invalid("The last message must be the assistant's, and text.", Some(FLAG))),
    }
}

/// A call where tools are offered and none was just answered; else text, or JSON where that is asked for.
fn want(body: &Value, answered: bool) -> Want {
    let tools = tools(body.get("tools"), |tool| tool.get("function").unwrap_or(tool));
    let choice = body.get("tool_choice");
    let named = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
    let default = if named.is_some() { "required" } else { "auto" };
    let mode = choice.and_then(Value::as_str).unwrap_or(default);
    if let Some(want) = want_calls(tools, named, mode, answered) {
        return want;
    }
    match body.pointer("/response_format/type").and_then(Value::as_str) {
        Some("json_object") => Want::Json(None),
        Some("json_schema") => Want::Json(body.pointer("/response_format/json_schema/schema").cloned()),
        _ => Want::Text,
    }
}

/// The tools of a request; `inner` finds where a tool keeps its name and its schema.
pub(crate) fn tools<'a>(tools: Option<&'a Value>, inner: impl Fn(&'a Value) -> &'a Value) -> Vec<Tool> {
    let all = tools.and_then(Value::as_array).into_iter().flatten().map(inner);
    all.filter_map(|tool| {
        let name = tool.get("name")?.as_str()?.to_owned();
        let names = ["parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema"];
        let schema =
            names.iter().find_map(|name| tool.get(name)).or_else(|| tool.pointer("/inputSchema/json"));
        let schema = schema.cloned().unwrap_or_default();
        Some(Tool { name, schema })
    })
    .collect()
}

/// Whether tools are called, and which: the named one alone, else all in turn.
pub(crate) fn want_calls(
    mut tools: Vec<Tool>,
    named: Option<&str>,
    mode: &str,
    answered: bool,
) -> Option<Want> {
    if let Some(name) = named {
        tools.retain(|tool| tool.name == name);
    }
    let forced = matches!(mode, "required" | "any");
    let calls = !tools.is_empty() && mode != "none" && (forced || !answered);
    calls.then_some(Want::Calls(tools))
}

impl Call for Chat {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let ask = &self.ask;
        let mut rng = ask.rng(config.seed);
        let stamp = Stamp {
            id: id(&mut rng, "chatcmpl-", 29),
            created: created(config, ask.prompt.identity()),
            model: ask.model.clone(),
            family: self.family,
        };
        let answers = ask.answers(config);
        let tokens = answers.iter().map(Answer::tokens).sum();
        let running = Some(usage).filter(|_| self.counts && ask.include_usage);
        let usage = usage_json(usage, tokens, answers.iter().map(Answer::thought).sum());
        if ask.stream {
            let usage = ask.include_usage.then_some(usage);
            return Rendered::stream(Media::Events, stream(stamp, answers, usage, running));
        }
        let choices: Vec<_> =
            answers.iter().enumerate().map(|(index, answer)| choice(index, answer)).collect();
        Rendered::whole(&stamp.whole(&choices, &usage), tokens)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        sse(None, &Refusal::server(FAILED).body(Family::OpenAi, None))
    }
}

/// What every chunk of a stream repeats.
struct Stamp {
    id: String,
    created: u64,
    model: String,
    family: Family,
}

/// What Azure's filters say of a prompt.
fn filtered() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!([{
        "prompt_index": 0,
        "content_filter_results": {"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe},
    }])
}

impl Stamp {
    fn whole(&self, choices: &[Value], usage: &Value) -> Value {
        let mut whole = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        });
        if self.family == Family::Azure {
            whole["prompt_filter_results"] = filtered();
        }
        whole
    }

    /// Azure's first chunk: no choice, only what its filters say of the prompt.
    fn prologue(&self) -> Option<Bytes> {
        let chunk = json!({
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": filtered(),
        });
        (self.family == Family::Azure).then(|| sse(None, &chunk))
    }

    fn chunk(&self, choices: &Value, usage: Option<&Value>) -> Bytes {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        });
        if let (Some(usage), Some(members)) = (usage, chunk.as_object_mut()) {
            members.insert("usage".into(), usage.clone());
        }
        sse(None, &chunk)
    }
}

const FINGERPRINT: &str = "fp_forebay_sim";

fn choice(index: usize, answer: &Answer) -> Value {
    let content = if answer.calls.is_empty() { json!(answer.full_text()) } else { Value::Null };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = json!(answer.reasoning.concat());
    }
    if !answer.calls.is_empty() {
        message["tool_calls"] = answer.calls.iter().map(whole_call).collect();
    }
    json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(answer)})
}

fn whole_call(call: &ToolCall) -> Value {
    json!({
        "id": format!("call_{}", call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.concat()},
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

fn usage_json(usage: Usage, output: u64, thought: u64) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": output,
        "total_tokens": usage.prompt + output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// The chunks: a role for each choice, then the choices' tokens in turn, their ends, usage, `[DONE]`. Where usage
/// is asked for, every chunk before it carries `usage: null`, or what it is by then where that is to be `running`.
fn stream(
    stamp: Stamp,
    answers: Vec<Answer>,
    usage: Option<Value>,
    running: Option<Usage>,
) -> impl Iterator<Item = Event> + Send {
    let deltas = interleave(answers.iter().map(deltas).collect());
    let roles = (0..answers.len()).map(|index| (index, role(), Kind::Frame)).collect::<Vec<_>>();
    let null = usage.as_ref().map(|_| Value::Null);
    let bodies = roles.into_iter().chain(deltas).map(|(index, delta, kind)| {
        let choices = json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": null}]);
        Chunk::Choices(choices, kind)
    });
    let ends = answers.into_iter().enumerate().map(|(index, answer)| {
        let reason = finish_reason(&answer);
        let choices = json!([{"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}]);
        Chunk::Choices(choices, Kind::Frame)
    });
    let tail = [usage.map(Chunk::Usage), Some(Chunk::Done)].into_iter().flatten();
    let prologue = stamp.prologue().map(Event::frame);
    let mut told = 0;
    prologue.into_iter().chain(bodies.chain(ends).chain(tail).map(move |chunk| match chunk {
        Chunk::Choices(choices, kind) => {
            if let Kind::Tokens(tokens) = kind {
                told += tokens;
            }
            let so_far = running.map(|usage| usage_json(usage, told, 0));
            Event { bytes: stamp.chunk(&choices, so_far.as_ref().or(null.as_ref())), kind }
        }
        Chunk::Usage(usage) => Event::frame(stamp.chunk(&json!([]), Some(&usage))),
        Chunk::Done => Event::last(Bytes::from_static(b"data: [DONE]\n\n")),
    }))
}

enum Chunk {
    Choices(Value, Kind),
    Usage(Value),
    Done,
}

fn role() -> Value {
    json!({"role": "assistant", "content": "", "refusal": null})
}

type Delta = (Value, Kind);

/// An answer's deltas, made as they are taken.
fn deltas(answer: &Answer) -> Box<dyn Iterator<Item = Delta> + Send> {
    let thoughts = answer.reasoning.clone().into_iter();
    let thoughts = thoughts.map(|token| (json!({"reasoning_content": token}), Kind::Tokens(1)));
    let text = answer.text.clone().into_iter().map(|token| (json!({"content": token}), Kind::Tokens(1)));
    let calls = answer.calls.clone().into_iter().enumerate().flat_map(|(index, call)| {
        let start = json!({"tool_calls": [{
            "index": index,
            "id": format!("call_{}", call.id),
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }]});
        let rest = call.arguments.into_iter().map(move |piece| {
            (json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), Kind::Tokens(1))
        });
        std::iter::once((start, Kind::Tokens(1))).chain(rest)
    });
    Box::new(thoughts.chain(text).chain(calls))
}

/// One delta of each choice in turn, as a batch decodes them.
fn interleave(
    mut choices: Vec<Box<dyn Iterator<Item = Delta> + Send>>,
) -> impl Iterator<Item = (usize, Value, Kind)> + Send {
    let mut at = 0;
    std::iter::from_fn(move || {
        for _ in 0..choices.len() {
            let index = at % choices.len();
            at += 1;
            if let Some((delta, kind)) = choices.get_mut(index).and_then(Iterator::next) {
                return Some((index, delta, kind));
            }
        }
        None
    })
}
