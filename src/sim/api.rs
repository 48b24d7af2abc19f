//! The APIs as a server speaks them: from a request to a reply or to a job for the engine.

pub(crate) mod ask;
mod chat;
mod cohere;
mod completions;
mod converse;
mod embeddings;
pub(crate) mod family;
mod gemini;
mod invoke;
mod messages;
mod models;
mod ollama;
mod ops;
mod place;
pub(crate) mod refusal;
mod responses;
mod rules;
mod shape;
mod wire;

use super::Shared;
use super::config::Config;
use super::stats::Request;
use super::text::Prompt;
use ask::{Ask, Knobs};
use bytes::Bytes;
use family::Family;
use http::{HeaderName, HeaderValue, Method, header};
use place::{Api, Place};
use refusal::Refusal;
use serde_json::Value;
use std::time::{Duration, SystemTime};

pub(crate) use wire::{Media, sse};

/// A header of a reply.
pub(crate) type Header = (HeaderName, HeaderValue);

/// What to send back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Body,
}

/// The body of a reply.
pub(crate) enum Body {
    Whole(Bytes),
    Stream(Stream),
}

/// A body sent piece by piece.
pub(crate) struct Stream {
    pub(crate) events: Events,
    /// The length of all pieces, if it is to be announced.
    pub(crate) length: Option<u64>,
    pub(crate) pace: Pace,
}

/// The pieces of a stream, made as they are needed.
pub(crate) type Events = Box<dyn Iterator<Item = Event> + Send>;

/// What a stream waits for between its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The engine, which makes the tokens.
    Engine,
    /// The clock.
    Every(Duration),
}

/// One piece of a stream.
pub(crate) struct Event {
    pub(crate) bytes: Bytes,
    pub(crate) kind: Kind,
}

/// What a piece stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing that the engine made.
    Frame,
    /// So many tokens.
    Tokens(u64),
    /// The end of a stream as its API writes it.
    Last,
}

impl Event {
    pub(crate) fn frame(bytes: Bytes) -> Self {
        Self { bytes, kind: Kind::Frame }
    }

    pub(crate) fn token(bytes: Bytes) -> Self {
        Self { bytes, kind: Kind::Tokens(1) }
    }

    pub(crate) fn last(bytes: Bytes) -> Self {
        Self { bytes, kind: Kind::Last }
    }
}

/// What a request comes to.
pub(crate) enum Routed {
    /// An answer that needs no engine.
    Reply(Reply),
    /// Work for the engine.
    Job(Box<Job>),
}

/// A model call.
pub(crate) struct Job {
    pub(crate) family: Family,
    call: Box<dyn Call>,
}

/// What an API makes of a request: how its reply is written.
pub(crate) trait Call: Send + Sync {
    fn ask(&self) -> &Ask;

    fn ask_mut(&mut self) -> &mut Ask;

    /// Makes up the reply.
    fn render(&self, config: &Config, usage: Usage) -> Rendered;

    /// An error inside a stream of which `sent` events are out.
    fn error_event(&self, config: &Config, sent: u64) -> Bytes;
}

/// What an engine says that fails while it answers.
pub(crate) const FAILED: &str = "The simulated engine failed in the midst of this stream.";

/// What the engine says of a prompt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// All prompt tokens.
    pub(crate) prompt: u64,
    /// Of those, found in the prefix cache.
    pub(crate) cached: u64,
}

/// A reply's body and how many tokens it holds if it comes in one piece.
pub(crate) struct Rendered {
    pub(crate) body: Body,
    pub(crate) media: Media,
    pub(crate) tokens: u64,
}

impl Rendered {
    fn whole(value: &Value, tokens: u64) -> Self {
        Self { body: Body::Whole(value.to_string().into()), media: Media::Json, tokens }
    }

    fn stream(media: Media, events: impl Iterator<Item = Event> + Send + 'static) -> Self {
        let stream = Stream { events: Box::new(events), length: None, pace: Pace::Engine };
        Self { body: Body::Stream(stream), media, tokens: 0 }
    }
}

impl Job {
    pub(crate) fn model(&self) -> &str {
        &self.call.ask().model
    }

    pub(crate) fn prompt(&self) -> &Prompt {
        &self.call.ask().prompt
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.call.ask().stream
    }

    pub(crate) fn knobs(&mut self) -> &mut Knobs {
        &mut self.call.ask_mut().knobs
    }

    pub(crate) fn render(&self, config: &Config, usage: Usage) -> Rendered {
        self.call.render(config, usage)
    }

    pub(crate) fn error_event(&self, config: &Config, sent: u64) -> Bytes {
        self.call.error_event(config, sent)
    }
}

/// Finds what a request asks for.
pub(crate) fn route(shared: &Shared, request: &Request) -> Routed {
    match dispatch(shared, request) {
        Ok(routed) => routed,
        Err(refusal) => Routed::Reply(refusal.reply(family(request))),
    }
}

/// The conventions for this request.
pub(crate) fn family(request: &Request) -> Family {
    Place::family(request)
}

/// Whether this is a call of a model, as opposed to a list, a check or the simulator's own pages.
pub(crate) fn is_model_call(request: &Request) -> bool {
    request.method == Method::POST && !request.path().starts_with("/sim/")
}

fn dispatch(shared: &Shared, request: &Request) -> Result<Routed, Refusal> {
    if let Some(reply) = ops::reply(shared, request) {
        return Ok(Routed::Reply(reply));
    }
    authorise(&shared.config, request)?;
    let unknown = || Refusal::unknown_path(&request.method, request.path());
    let place = Place::of(request).ok_or_else(unknown)?;
    if !place.api.takes(&request.method) {
        return Err(Refusal::method(&request.method, request.path()));
    }
    if place.family == Family::Azure && request.member("api-version").is_none() {
        return Err(unknown());
    }
    let env = Env { config: &shared.config, request, place: &place };
    match at_once(&env) {
        Some(value) => Ok(Routed::Reply(json_reply(200, &value?))),
        None => job(&env),
    }
}

/// What is answered without an engine: lists and counts.
fn at_once(env: &Env<'_>) -> Option<Result<Value, Refusal>> {
    let count = |count: fn(&Value, &Env<'_>) -> Result<Value, Refusal>| {
        read_json(env.request).and_then(|body| count(&body, env))
    };
    Some(match env.place.api {
        Api::Models => models::list(env),
        Api::Model => models::one(env),
        Api::OllamaTags => Ok(models::tags(env)),
        Api::OllamaVersion => Ok(serde_json::json!({"version": "0.31.1"})),
        Api::InputTokens => count(responses::count),
        Api::CountTokens => count(messages::count),
        Api::GenerateCount => count(gemini::count),
        Api::ConverseCount => count(converse::count),
        _ => return None,
    })
}

fn job(env: &Env<'_>) -> Result<Routed, Refusal> {
    let job = Job { family: env.place.family, call: call(&read_json(env.request)?, env)? };
    if let Some(limit) = env.config.context_tokens.filter(|limit| job.prompt().tokens > *limit) {
        return Err(Refusal::context(job.family, job.prompt().tokens, limit));
    }
    Ok(Routed::Job(Box::new(job)))
}

fn call(body: &Value, env: &Env<'_>) -> Result<Box<dyn Call>, Refusal> {
    Ok(match env.place.api {
        Api::Chat => Box::new(chat::parse(body, env)?),
        Api::Completions => Box::new(completions::parse(body, env)?),
        Api::Embeddings
        | Api::Predict
        | Api::EmbedContent
        | Api::BatchEmbedContents
        | Api::CohereEmbed
        | Api::OllamaEmbed => Box::new(embeddings::parse(body, env)?),
        Api::Responses => Box::new(responses::parse(body, env)?),
        Api::Messages => Box::new(messages::parse(body, env)?),
        Api::Invoke | Api::RawPredict => Box::new(invoke::parse(body, env)?),
        Api::Generate => Box::new(gemini::parse(body, env)?),
        Api::Converse => Box::new(converse::parse(body, env)?),
        Api::CohereChat => Box::new(cohere::parse(body, env)?),
        Api::CohereRerank => Box::new(cohere::rerank::parse(body, env)?),
        Api::OllamaChat => Box::new(ollama::parse(body, env)?),
        Api::Models
        | Api::Model
        | Api::OllamaTags
        | Api::OllamaVersion
        | Api::InputTokens
        | Api::CountTokens
        | Api::GenerateCount
        | Api::ConverseCount => return Err(Refusal::unknown_path(&env.request.method, env.request.path())),
    })
}

fn authorise(config: &Config, request: &Request) -> Result<(), Refusal> {
    let Some(key) = &config.api_key else { return Ok(()) };
    let authorization = request.header("authorization").unwrap_or_default();
    // Of a signature only whose it is: what it is over is for its own tests.
    let signer = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=");
    let offered = [
        authorization.strip_prefix("Bearer "),
        signer.and_then(|rest| rest.split('/').next()),
        request.header("x-api-key"),
        request.header("api-key"),
        request.header("x-goog-api-key"),
        request.member("key"),
    ];
    if offered.into_iter().flatten().any(|offered| key.is(offered.trim())) {
        return Ok(());
    }
    Err(Refusal::key(family(request), offered.iter().all(Option::is_none)))
}

/// What a parser may look at besides the body.
pub(crate) struct Env<'a> {
    pub(crate) config: &'a Config,
    pub(crate) request: &'a Request,
    pub(crate) place: &'a Place,
}

fn read_json(request: &Request) -> Result<Value, Refusal> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::invalid(format!("The request body is not valid JSON: {error}."), None))?;
    if body.is_object() {
        Ok(body)
    } else {
        Err(Refusal::invalid("The request body must be a JSON object.", None))
    }
}

/// The model that the path or the body names; in `strict` mode one of the configured.
pub(crate) fn model_of(body: &Value, env: &Env<'_>) -> Result<String, Refusal> {
    let model = match (&env.place.model, body.get("model")) {
        (Some(model), _) => model.clone(),
        (None, Some(Value::String(model))) if !model.is_empty() => model.clone(),
        (None, Some(_)) => {
            return Err(Refusal::invalid("`model` must be a string that is not empty.", Some("model")));
        }
        (None, None) => return Err(Refusal::invalid("You must provide a `model`.", Some("model"))),
    };
    if env.config.strict && !env.config.models.contains(&model) {
        return Err(Refusal::unknown_model(env.place.family, &model));
    }
    Ok(model)
}

/// A whole JSON reply.
pub(crate) fn json_reply(status: u16, value: &Value) -> Reply {
    let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Reply { status, headers, body: Body::Whole(value.to_string().into()) }
}

/// Unix seconds for `created`: the clock's if configured, else made up from `identity`.
pub(crate) fn created(config: &Config, identity: u64) -> u64 {
    if config.wall_clock {
        return SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    }
    1_760_000_000 + identity % 10_000_000
}

/// Adds what a `content` member holds: a string, or parts with text in them. Images and files count as
/// [`PART_TOKENS`] tokens.
pub(crate) fn add_content(prompt: &mut Prompt, content: &Value) {
    match content {
        Value::String(text) => prompt.text(text),
        Value::Array(parts) => parts.iter().for_each(|part| add_part(prompt, part)),
        _ => {}
    }
}

/// Prompt tokens of a part that is not text.
const PART_TOKENS: u64 = 256;

/// Members of a part that are calls, or belong to one.
const CALLS: [&str; 9] = [
    "input",
    "arguments",
    "name",
    "json",
    "toolUse",
    "functionCall",
    "function_call",
    "functionResponse",
    "function_response",
];

fn add_part(prompt: &mut Prompt, part: &Value) {
    if let Value::String(text) = part {
        return prompt.text(text);
    }
    let media = [
        "image",
        "image_url",
        "input_image",
        "input_audio",
        "audio",
        "video",
        "document",
        "file",
        "input_file",
    ];
    let tagged = part.get("type").and_then(Value::as_str).is_some_and(|tag| media.contains(&tag));
    // Bedrock and Gemini name a part's kind by its member.
    let held = ["image", "document", "audio", "video", "inlineData", "inline_data", "fileData", "file_data"];
    if tagged || held.iter().any(|key| part.get(key).is_some_and(Value::is_object)) {
        return prompt.fill(part.to_string().as_bytes(), PART_TOKENS);
    }
    for key in ["text", "content", "thinking", "refusal", "toolResult"] {
        match part.get(key) {
            Some(inner @ Value::Object(_)) => add_part(prompt, inner),
            Some(inner) => add_content(prompt, inner),
            None => {}
        }
    }
    for key in CALLS {
        if let Some(inner) = part.get(key) {
            prompt.text(&inner.to_string());
        }
    }
}

/// Adds a message: a token for its role and one for its end, its content, and the tools it calls.
pub(crate) fn add_message(prompt: &mut Prompt, message: &Value) {
    let role = message.get("role").or_else(|| message.get("type")).and_then(Value::as_str).unwrap_or("user");
    prompt.push(role.as_bytes());
    for key in ["content", "output", "parts"] {
        if let Some(content) = message.get(key) {
            add_content(prompt, content);
        }
    }
    for key in ["tool_calls", "arguments"] {
        if let Some(calls) = message.get(key).filter(|calls| !calls.is_null()) {
            prompt.text(&calls.to_string());
        }
    }
    prompt.push(b"<end>");
}

/// A string, or an array of strings, as a list.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A member that is a number of tokens, or nothing; 0 and what is no whole number are refused.
pub(crate) fn limit(body: &Value, key: &'static str) -> Result<Option<u64>, Refusal> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|n| *n > 0) {
            Some(n) => Ok(Some(n)),
            None => {
                Err(Refusal::invalid(format!("`{key}` must be a whole number of at least 1."), Some(key)))
            }
        },
    }
}

/// Whether a member is `true`.
pub(crate) fn flag(body: &Value, key: &str) -> bool {
    body.get(key).and_then(Value::as_bool).unwrap_or(false)
}
