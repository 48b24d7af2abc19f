//! The APIs as a server speaks them: from a request to a reply or to a job for the engine.

pub(crate) mod ask;
mod chat;
mod completions;
mod embeddings;
mod messages;
mod models;
mod ops;
pub(crate) mod refusal;
mod responses;

use super::Shared;
use super::config::Config;
use super::stats::Request;
use super::text::Prompt;
use ask::{Ask, Knobs};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use refusal::Refusal;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A header of a reply.
pub(crate) type Header = (HeaderName, HeaderValue);

/// Whose conventions hold for errors, keys and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    OpenAi,
    Anthropic,
}

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
    call: Call,
}

enum Call {
    Chat(Ask),
    Completions(completions::Call),
    Embeddings(embeddings::Call),
    Responses(responses::Call),
    Messages(messages::Call),
}

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
    pub(crate) tokens: u64,
}

impl Rendered {
    fn whole(value: &Value, tokens: u64) -> Self {
        Self { body: Body::Whole(value.to_string().into()), tokens }
    }

    fn stream(events: impl Iterator<Item = Event> + Send + 'static) -> Self {
        let stream = Stream { events: Box::new(events), length: None, pace: Pace::Engine };
        Self { body: Body::Stream(stream), tokens: 0 }
    }
}

impl Job {
    pub(crate) fn model(&self) -> &str {
        &self.ask().model
    }

    pub(crate) fn prompt(&self) -> &Prompt {
        &self.ask().prompt
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.ask().stream
    }

    pub(crate) fn knobs(&mut self) -> &mut Knobs {
        match &mut self.call {
            Call::Chat(ask) => &mut ask.knobs,
            Call::Completions(call) => &mut call.ask.knobs,
            Call::Embeddings(call) => &mut call.ask.knobs,
            Call::Responses(call) => &mut call.ask.knobs,
            Call::Messages(call) => &mut call.ask.knobs,
        }
    }

    /// Makes up the reply.
    pub(crate) fn render(&self, config: &Config, usage: Usage) -> Rendered {
        match &self.call {
            Call::Chat(ask) => chat::render(ask, config, usage),
            Call::Completions(call) => completions::render(call, config, usage),
            Call::Embeddings(call) => embeddings::render(call, config, usage),
            Call::Responses(call) => responses::render(call, config, usage),
            Call::Messages(call) => messages::render(call, config, usage),
        }
    }

    /// An error inside a stream of which `sent` events are out.
    pub(crate) fn error_event(&self, config: &Config, sent: u64) -> Bytes {
        match &self.call {
            Call::Responses(call) => responses::error_event(call, config, sent),
            Call::Messages(_) => sse(Some("error"), &Refusal::overloaded(529).body(Family::Anthropic, None)),
            _ => sse(
                None,
                &Refusal::server("The simulated engine failed in the midst of this stream.")
                    .body(self.family, None),
            ),
        }
    }

    fn ask(&self) -> &Ask {
        match &self.call {
            Call::Chat(ask) => ask,
            Call::Completions(call) => &call.ask,
            Call::Embeddings(call) => &call.ask,
            Call::Responses(call) => &call.ask,
            Call::Messages(call) => &call.ask,
        }
    }
}

/// Finds what a request asks for.
pub(crate) fn route(shared: &Shared, request: &Request) -> Routed {
    let family = family(request);
    match dispatch(shared, request) {
        Ok(routed) => routed,
        Err(refusal) => Routed::Reply(refusal.reply(family)),
    }
}

/// The conventions for this request: Anthropic's on its own paths, and where its version header is.
pub(crate) fn family(request: &Request) -> Family {
    let messages = resource(request.path()).starts_with("/messages");
    if messages || request.headers.contains_key("anthropic-version") {
        Family::Anthropic
    } else {
        Family::OpenAi
    }
}

/// Whether this is a call of a model, as opposed to a list, a check or the simulator's own pages.
pub(crate) fn is_model_call(request: &Request) -> bool {
    request.method == Method::POST && !request.path().starts_with("/sim/")
}

fn dispatch(shared: &Shared, request: &Request) -> Result<Routed, Refusal> {
    let path = resource(request.path());
    if let Some(reply) = ops::reply(shared, request) {
        return Ok(Routed::Reply(reply));
    }
    authorise(&shared.config, request)?;
    match (&request.method, path) {
        (&Method::POST, "/chat/completions") => {
            job(shared, request, |body, env| chat::parse(body, env).map(Call::Chat))
        }
        (&Method::POST, "/completions") => {
            job(shared, request, |body, env| completions::parse(body, env).map(Call::Completions))
        }
        (&Method::POST, "/embeddings") => {
            job(shared, request, |body, env| embeddings::parse(body, env).map(Call::Embeddings))
        }
        (&Method::POST, "/responses") => {
            job(shared, request, |body, env| responses::parse(body, env).map(Call::Responses))
        }
        (&Method::POST, "/messages") => {
            job(shared, request, |body, env| messages::parse(body, env).map(Call::Messages))
        }
        (&Method::POST, "/responses/input_tokens") => count(shared, request, responses::count),
        (&Method::POST, "/messages/count_tokens") => count(shared, request, messages::count),
        (&Method::GET | &Method::HEAD, "/models") => Ok(Routed::Reply(models::list(shared, request)?)),
        (&Method::GET | &Method::HEAD, path) if path.starts_with("/models/") => {
            Ok(Routed::Reply(models::one(shared, request, path)?))
        }
        (_, path) if PATHS.contains(&path) => Err(Refusal::method(&request.method, request.path())),
        _ => Err(Refusal::unknown_path(&request.method, request.path())),
    }
}

const PATHS: [&str; 8] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/responses/input_tokens",
    "/messages",
    "/messages/count_tokens",
    "/models",
];

/// The path without the version before it.
fn resource(path: &str) -> &str {
    match path.strip_prefix("/v1") {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn authorise(config: &Config, request: &Request) -> Result<(), Refusal> {
    let Some(key) = &config.api_key else { return Ok(()) };
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let offered = [bearer, request.header("x-api-key"), request.header("api-key")];
    if offered.into_iter().flatten().any(|offered| key.is(offered.trim())) {
        return Ok(());
    }
    Err(Refusal::key(offered.iter().all(Option::is_none)))
}

/// What a parser may look at besides the body.
pub(crate) struct Env<'a> {
    pub(crate) config: &'a Config,
    pub(crate) request: &'a Request,
}

fn job(
    shared: &Shared,
    request: &Request,
    parse: impl FnOnce(&Value, &Env<'_>) -> Result<Call, Refusal>,
) -> Result<Routed, Refusal> {
    let body = read_json(request)?;
    let env = Env { config: &shared.config, request };
    let job = Job { family: family(request), call: parse(&body, &env)? };
    if let Some(limit) = shared.config.context_tokens.filter(|limit| job.prompt().tokens > *limit) {
        return Err(Refusal::context(job.family, job.prompt().tokens, limit));
    }
    Ok(Routed::Job(Box::new(job)))
}

fn count(
    shared: &Shared,
    request: &Request,
    count: impl FnOnce(&Value, &Env<'_>) -> Result<Value, Refusal>,
) -> Result<Routed, Refusal> {
    let body = read_json(request)?;
    let env = Env { config: &shared.config, request };
    Ok(Routed::Reply(json_reply(200, &count(&body, &env)?)))
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

/// The model a body names; in `strict` mode one of the configured.
pub(crate) fn model_of(body: &Value, env: &Env<'_>) -> Result<String, Refusal> {
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        Some(_) => {
            return Err(Refusal::invalid("`model` must be a string that is not empty.", Some("model")));
        }
        None => return Err(Refusal::invalid("You must provide a `model`.", Some("model"))),
    };
    if env.config.strict && !env.config.models.contains(&model) {
        return Err(Refusal::unknown_model(&model));
    }
    Ok(model)
}

/// A whole JSON reply.
pub(crate) fn json_reply(status: u16, value: &Value) -> Reply {
    let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Reply { status, headers, body: Body::Whole(value.to_string().into()) }
}

/// One server-sent event; `name` is its `event:` line.
pub(crate) fn sse(name: Option<&str>, data: &Value) -> Bytes {
    let mut out = Vec::with_capacity(256);
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    // Writing a `Value` to memory cannot fail: its keys are strings and a Vec takes all.
    let _ = serde_json::to_writer(&mut out, data);
    out.extend_from_slice(b"\n\n");
    out.into()
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

fn add_part(prompt: &mut Prompt, part: &Value) {
    if let Value::String(text) = part {
        return prompt.text(text);
    }
    match part.get("type").and_then(Value::as_str) {
        Some("image" | "image_url" | "input_image" | "input_audio" | "document" | "file" | "input_file") => {
            prompt.fill(part.to_string().as_bytes(), PART_TOKENS);
        }
        _ => {
            for key in ["text", "content", "thinking", "refusal"] {
                if let Some(inner) = part.get(key) {
                    add_content(prompt, inner);
                }
            }
            for key in ["input", "arguments", "name"] {
                if let Some(inner) = part.get(key) {
                    prompt.text(&inner.to_string());
                }
            }
        }
    }
}

/// Adds a message: a token for its role and one for its end, its content, and the tools it calls.
pub(crate) fn add_message(prompt: &mut Prompt, message: &Value) {
    let role = message.get("role").or_else(|| message.get("type")).and_then(Value::as_str).unwrap_or("user");
    prompt.push(role.as_bytes());
    for key in ["content", "output"] {
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
