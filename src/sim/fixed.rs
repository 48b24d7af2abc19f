//! Replies rendered once, for benchmarks: one write an event and next to no work between.

use super::Shared;
use super::api::{self, Body, Event, Kind, Pace, Reply, Routed, Stream};
use super::config::{Config, Fixed};
use super::stats::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The rendered replies, one pair for each API that streams.
pub(crate) struct Rendered {
    fixed: Fixed,
    by_path: Vec<(&'static str, Pair)>,
}

struct Pair {
    whole: Bytes,
    events: Arc<[Bytes]>,
}

impl Rendered {
    /// Renders by asking the simulator itself, with a text of the wanted length.
    pub(crate) fn new(config: &Config, fixed: &Fixed) -> Self {
        let paths = ["/chat/completions", "/completions", "/responses", "/messages"];
        Self {
            fixed: fixed.clone(),
            by_path: paths.map(|path| (path, Pair::new(config, fixed, path))).into(),
        }
    }

    /// The reply, if the request is for one of these APIs.
    pub(crate) fn reply(&self, request: &Request) -> Option<Reply> {
        let path = request.path();
        let pair = self.by_path.iter().find(|(end, _)| path.ends_with(end)).map(|(_, pair)| pair)?;
        if !wants_stream(&request.body) {
            let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            return Some(Reply { status: 200, headers, body: Body::Whole(pair.whole.clone()) });
        }
        let (events, stamp) = (Arc::clone(&pair.events), self.fixed.stamp);
        let events = (0..events.len()).map(move |at| {
            let event = events.get(at).cloned().unwrap_or_default();
            Event::frame(if stamp { stamped(&event) } else { event })
        });
        let pace = Pace::Every(Duration::from_millis(self.fixed.interval_ms));
        let body = Body::Stream(Stream { events: Box::new(events), length: None, pace });
        Some(Reply { status: 200, headers: event_stream(), body })
    }
}

/// The headers of a stream of events.
pub(crate) fn event_stream() -> Vec<api::Header> {
    vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]
}

impl Pair {
    fn new(config: &Config, fixed: &Fixed, path: &'static str) -> Self {
        let whole = |text: String| {
            render(config, path, false, vec![text]).into_iter().map(|event| event.bytes).next()
        };
        let one = whole("x".into()).map_or(0, |bytes| bytes.len());
        let whole = whole("x".repeat(1 + fixed.body_bytes.saturating_sub(one)));
        let tokens = vec![token(config, fixed, path); fixed.events.max(1)];
        let events = merge(render(config, path, true, tokens));
        Self { whole: whole.unwrap_or_default(), events: events.into() }
    }
}

/// A token that makes an event of about the wanted length, with room for a stamp if there is to be one.
fn token(config: &Config, fixed: &Fixed, path: &'static str) -> String {
    let least = if fixed.stamp { STAMP } else { "x" };
    let one = render(config, path, true, vec![least.into()]);
    let bare = one.iter().find(|event| event.kind != Kind::Frame).map_or(0, |event| event.bytes.len());
    format!("{least}{}", "x".repeat(fixed.event_bytes.saturating_sub(bare)))
}

/// Where the time of sending goes: as many digits as nanoseconds since 1970 have.
const STAMP: &str = "0000000000000000000";

fn position(event: &[u8]) -> Option<usize> {
    event.windows(STAMP.len()).position(|bytes| bytes == STAMP.as_bytes())
}

fn stamped(event: &Bytes) -> Bytes {
    let Some(at) = position(event) else { return event.clone() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let digits = format!("{:019}", now.as_nanos());
    let mut out = BytesMut::from(&event[..]);
    if let Some(place) = out.get_mut(at..at + STAMP.len())
        && digits.len() == STAMP.len()
    {
        place.copy_from_slice(digits.as_bytes());
    }
    out.freeze()
}

/// Joins what is not a token to the token before or after it, so that the pace is that of the tokens.
fn merge(events: Vec<Event>) -> Vec<Bytes> {
    let mut out: Vec<BytesMut> = Vec::new();
    let mut lead = BytesMut::new();
    for event in events {
        match (event.kind, out.last_mut()) {
            (Kind::Tokens(_), _) => {
                lead.extend_from_slice(&event.bytes);
                out.push(std::mem::take(&mut lead));
            }
            (_, None) => lead.extend_from_slice(&event.bytes),
            (_, Some(last)) => last.extend_from_slice(&event.bytes),
        }
    }
    out.into_iter().map(BytesMut::freeze).collect()
}

fn render(config: &Config, path: &str, stream: bool, tokens: Vec<String>) -> Vec<Event> {
    let body = serde_json::json!({
        "model": config.models.first(),
        "messages": [{"role": "user", "content": "benchmark"}],
        "input": "benchmark",
        "prompt": "benchmark",
        "max_tokens": 1 << 20,
        "stream": stream,
        "stream_options": {"include_usage": true},
    });
    let config = Config { fixed: None, api_key: None, strict: false, context_tokens: None, ..config.clone() };
    let request = Request {
        method: Method::POST,
        target: format!("/v1{path}"),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: body.to_string().into(),
        body_len: 0,
        connection: 0,
    };
    let shared = Shared::plain(config);
    let Routed::Job(mut job) = api::route(&shared, &request) else { return Vec::new() };
    job.knobs().exact = Some(tokens);
    let usage = api::Usage { prompt: job.prompt().tokens, cached: 0 };
    match job.render(&shared.config, usage).body {
        Body::Whole(bytes) => vec![slim(Event::frame(bytes))],
        Body::Stream(stream) => stream.events.map(slim).collect(),
    }
}

/// A chat reply or chunk without what many engines leave out, so that small ones are possible.
fn slim(event: Event) -> Event {
    let (json, lead) = match event.bytes.strip_prefix(b"data: ") {
        Some(json) => (json, true),
        None => (&event.bytes[..], false),
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(json) else { return event };
    if !value.get("object").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("chat.completion")) {
        return event;
    }
    prune(&mut value);
    value["id"] = "c1".into();
    let bytes = if lead { api::sse(None, &value) } else { value.to_string().into() };
    Event { bytes, kind: event.kind }
}

fn prune(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(prune),
        Value::Object(members) => {
            members.retain(|key, value| {
                let spare = key.ends_with("_details")
                    || matches!(
                        key.as_str(),
                        "service_tier" | "system_fingerprint" | "annotations" | "logprobs"
                    );
                // A finish reason is null on purpose.
                !spare && (!value.is_null() || key == "finish_reason")
            });
            members.values_mut().for_each(prune);
        }
        _ => {}
    }
}

/// Whether a body says `"stream": true`, told without parsing it.
fn wants_stream(body: &[u8]) -> bool {
    const KEY: &[u8] = b"\"stream\"";
    let mut rest = body;
    while let Some(at) = rest.windows(KEY.len()).position(|bytes| bytes == KEY) {
        rest = rest.get(at + KEY.len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if value.is_some_and(|value| value.starts_with(b"true")) {
            return true;
        }
    }
    false
}
