//! Gemini: `:generateContent`, `:streamGenerateContent` and `:countTokens`, on AI Studio's paths and on Vertex AI's.

mod shapes;

use super::ask::{Answer, Ask, Finish, Thinking, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::shape::check;
use super::wire::crlf_sse;
use super::{Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_message, limit, model_of, strings};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, id, sign};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use shapes::{COUNT, GENERATE};

/// A request.
pub(crate) struct Generate {
    ask: Ask,
    form: Form,
}

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Events,
    /// Without `alt=sse`: one array that comes in pieces.
    Array,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Generate, Refusal> {
    check(body, &GENERATE, Family::Google)?;
    let form = if env.request.member("alt") == Some("sse") { Form::Events } else { Form::Array };
    Ok(Generate { ask: read(body, env)?, form })
}

/// The reply to `countTokens`.
pub(crate) fn count(body: &Value, env: &Env<'_>) -> Result<Value, Refusal> {
    check(body, &COUNT, Family::Google)?;
    let tokens = read(member(body, "generateContentRequest").unwrap_or(body), env)?.prompt.tokens;
    Ok(json!({
        "totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }))
}

/// A member, written in camel case or in snake case.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let snake = || {
        let letters =
            name.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain(c.to_lowercase()));
        letters.collect::<String>()
    };
    value.get(name).or_else(|| value.get(snake())).filter(|value| !value.is_null())
}

fn read(body: &Value, env: &Env<'_>) -> Result<Ask, Refusal> {
    let model = model_of(body, env)?;
    let contents = member(body, "contents").and_then(Value::as_array).filter(|contents| !contents.is_empty());
    let contents = contents
        .ok_or_else(|| invalid("* GenerateContentRequest.contents: contents is not specified", "contents"))?;
    check_turns(contents, &model, env.config.strict)?;
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("tools") {
        prompt.text(&tools.to_string());
    }
    if let Some(system) = member(body, "systemInstruction") {
        add_message(&mut prompt, system);
    }
    contents.iter().for_each(|content| add_message(&mut prompt, content));
    let config = member(body, "generationConfig").cloned().map_or_else(Map::new, |config| match config {
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (super::shape::camel(&key), value)).collect()
        }
        _ => Map::new(),
    });
    let config = Value::Object(config);
    let stops = strings(config.get("stopSequences"));
    if stops.len() > 5 {
        return Err(invalid(
            "The number of stop sequences must be at most 5.",
            "generation_config.stop_sequences",
        ));
    }
    if config.get("temperature").and_then(Value::as_f64).is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        return Err(invalid("temperature must be in the range [0.0, 2.0].", "generation_config.temperature"));
    }
    let thoughts = config.get("thinkingConfig").and_then(|config| member(config, "includeThoughts"));
    let answered = contents
        .last()
        .is_some_and(|last| parts(last).any(|part| member(part, "functionResponse").is_some()));
    Ok(Ask {
        choices: limit(&config, "candidateCount")?.unwrap_or(1).min(8),
        max_tokens: limit(&config, "maxOutputTokens")?,
        stops,
        want: want(body, &config, answered),
        thinking: Thinking::shown_if(thoughts == Some(&json!(true))),
        ..Ask::new(model, prompt, body, env)
    })
}

fn invalid(message: &str, field: &'static str) -> Refusal {
    Refusal::invalid(message, None).about(field)
}

fn parts(content: &Value) -> impl Iterator<Item = &Value> {
    content.get("parts").and_then(Value::as_array).into_iter().flatten()
}

/// Roles, parts with something in them, and as many responses as there were calls. In `strict` mode a Gemini 3 also
/// wants the signature of each step's first call back.
fn check_turns(contents: &[Value], model: &str, strict: bool) -> Result<(), Refusal> {
    let mut calls = 0;
    for content in contents {
        let role = content.get("role").and_then(Value::as_str).unwrap_or("user");
        if !matches!(role, "user" | "model" | "function") {
            return Err(invalid("Please use a valid role: user, model.", "contents.role"));
        }
        if parts(content).next().is_none() || !parts(content).all(has_one_kind) {
            return Err(invalid(
                "* GenerateContentRequest.contents.parts: contents.parts must not be empty, and each has one kind of data.",
                "contents.parts",
            ));
        }
        let responses = parts(content).filter(|part| member(part, "functionResponse").is_some()).count();
        if responses != calls && (calls > 0 || responses > 0) {
            return Err(invalid(
                "Please ensure that the number of function response parts is equal to the number of function call \
                 parts of the function call turn.",
                "contents",
            ));
        }
        let mut called = parts(content).filter(|part| member(part, "functionCall").is_some()).peekable();
        let first_signed = called.peek().is_none_or(|part| member(part, "thoughtSignature").is_some());
        if strict && model.starts_with("gemini-3") && !first_signed {
            return Err(invalid(
                "Function call is missing a thought_signature in functionCall parts.",
                "contents",
            ));
        }
        calls = called.count();
    }
    Ok(())
}

/// Whether a part has data of one kind. A signature may stand alone.
fn has_one_kind(part: &Value) -> bool {
    let kinds = [
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
    ];
    let held = kinds.iter().filter(|kind| member(part, kind).is_some()).count();
    held == 1 || (held == 0 && member(part, "thoughtSignature").is_some())
}

fn want(body: &Value, config: &Value, answered: bool) -> Want {
    let declared = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let declared = declared.filter_map(|tool| member(tool, "functionDeclarations")?.as_array()).flatten();
    let declared: Value = declared.cloned().collect();
    let choice = member(body, "toolConfig").and_then(|config| member(config, "functionCallingConfig"));
    let mode = choice.and_then(|choice| choice.get("mode")).and_then(Value::as_str).unwrap_or("AUTO");
    let named = choice.and_then(|choice| member(choice, "allowedFunctionNames"));
    let named = strings(named).into_iter().next();
    let offered = tools(Some(&declared), |tool| tool);
    if let Some(want) = want_calls(offered, named.as_deref(), &mode.to_lowercase(), answered) {
        return want;
    }
    let schema = config.get("responseJsonSchema").or_else(|| config.get("responseSchema"));
    match (schema, config.get("responseMimeType").and_then(Value::as_str)) {
        (Some(schema), _) => Want::Json(Some(schema.clone())),
        (None, Some("application/json")) => Want::Json(None),
        _ => Want::Text,
    }
}

impl Call for Generate {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let ask = &self.ask;
        let stamp = Stamp { id: id(&mut ask.rng(config.seed), "", 23), model: ask.model.clone(), usage };
        let answers = ask.answers(config);
        let tokens = answers.iter().map(Answer::tokens).sum();
        if ask.stream {
            let form = self.form;
            let media = if form == Form::Array { Media::Json } else { Media::Events };
            let pieces = stream(stamp, answers).enumerate();
            return Rendered::stream(
                media,
                pieces.map(move |(at, (value, kind))| Event { bytes: form.write(at, &value, kind), kind }),
            );
        }
        let thought = answers.iter().map(Answer::thought).sum();
        let whole = answers.iter().enumerate().map(|(index, answer)| {
            let mut parts: Vec<Value> =
                [thought_part(&answer.reasoning.concat()), text_part(&answer.full_text())]
                    .into_iter()
                    .flatten()
                    .collect();
            parts.extend(answer.calls.iter().enumerate().map(|(at, call)| call_part(at, call)));
            candidate(index, parts, Some(finish_reason(answer)))
        });
        Rendered::whole(&stamp.reply(whole.collect(), thought, tokens - thought), tokens)
    }

    fn error_event(&self, _config: &Config, sent: u64) -> Bytes {
        let mut refusal = Refusal::server(FAILED);
        refusal.status = 503;
        self.form.write(usize::from(sent > 0), &refusal.body(Family::Google, None), Kind::Last)
    }
}

impl Form {
    fn write(self, at: usize, value: &Value, kind: Kind) -> Bytes {
        let (open, close) = (if at == 0 { "[" } else { ",\r\n" }, if kind == Kind::Last { "]" } else { "" });
        match self {
            Self::Events => crlf_sse(value),
            Self::Array => format!("{open}{value}{close}").into(),
        }
    }
}

/// What every piece of a reply repeats.
struct Stamp {
    id: String,
    model: String,
    usage: Usage,
}

impl Stamp {
    fn reply(&self, candidates: Vec<Value>, thought: u64, said: u64) -> Value {
        let mut usage = json!({
            "promptTokenCount": self.usage.prompt,
            "candidatesTokenCount": said,
            "totalTokenCount": self.usage.prompt + thought + said,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": self.usage.prompt}],
        });
        for (name, count) in [("thoughtsTokenCount", thought), ("cachedContentTokenCount", self.usage.cached)]
        {
            if count > 0 {
                usage[name] = json!(count);
            }
        }
        json!({
            "candidates": candidates,
            "usageMetadata": usage,
            "modelVersion": self.model,
            "responseId": self.id,
        })
    }
}

fn candidate(index: usize, parts: Vec<Value>, finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    candidate
}

fn thought_part(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"text": text, "thought": true}))
}

fn text_part(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"text": text}))
}

/// The first call of a step carries the signature of what was thought before it.
fn call_part(at: usize, call: &ToolCall) -> Value {
    let mut part = json!({"functionCall": {"name": call.name, "args": call.input()}});
    if at == 0 {
        part["thoughtSignature"] = json!(sign(&call.name));
    }
    part
}

/// Calls end as text does: only their parts tell.
fn finish_reason(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "MAX_TOKENS" } else { "STOP" }
}

type Piece = (Value, Kind);

/// Replies of a part each, the usage growing; then one with the reason for the end.
fn stream(stamp: Stamp, answers: Vec<Answer>) -> impl Iterator<Item = Piece> + Send {
    let last = answers.len().saturating_sub(1);
    let pieces = answers.into_iter().enumerate().flat_map(move |(index, answer)| {
        let end = Part {
            index,
            part: json!({"text": ""}),
            tokens: 0,
            thought: 0,
            end: Some(finish_reason(&answer)),
        };
        let thoughts = answer.reasoning.into_iter();
        let thoughts =
            thoughts.map(move |token| Part::of(index, json!({"text": token, "thought": true}), 1, 1));
        let text = answer.text.into_iter().map(move |token| Part::of(index, json!({"text": token}), 1, 0));
        let calls = answer.calls.into_iter().enumerate();
        let calls = calls.map(move |(at, call)| Part::of(index, call_part(at, &call), call.tokens(), 0));
        thoughts.chain(text).chain(calls).chain([end])
    });
    let (mut thought, mut said) = (0, 0);
    pieces.map(move |piece| {
        thought += piece.thought;
        said += piece.tokens - piece.thought;
        let kind = match piece.end {
            Some(_) if piece.index == last => Kind::Last,
            Some(_) => Kind::Frame,
            None => Kind::Tokens(piece.tokens),
        };
        (stamp.reply(vec![candidate(piece.index, vec![piece.part], piece.end)], thought, said), kind)
    })
}

struct Part {
    index: usize,
    part: Value,
    tokens: u64,
    /// Of the tokens, those that were thought.
    thought: u64,
    end: Option<&'static str>,
}

impl Part {
    fn of(index: usize, part: Value, tokens: u64, thought: u64) -> Self {
        Self { index, part, tokens, thought, end: None }
    }
}
