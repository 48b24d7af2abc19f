//! Replies rendered once, for benchmarks: one write an event and next to no work between.

use super::Shared;
use super::api::{self, Body, Event, Kind, Media, Pace, Reply, Routed, Stream};
use super::config::{Config, Fixed};
use super::stats::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The rendered replies, one pair for each API that streams.
pub(crate) struct Rendered {
    fixed: Fixed,
    pairs: Vec<(Place, Pair)>,
}

struct Pair {
    whole: Bytes,
    events: Arc<[Bytes]>,
    media: Media,
}

/// An API that streams, by how its paths end.
#[derive(Debug, Clone, Copy)]
struct Place {
    whole: &'static str,
    stream: &'static str,
    /// What stands before that, where a request for it is made up.
    base: &'static str,
}

/// An API whose body says whether its reply streams.
const fn plain(path: &'static str, base: &'static str) -> Place {
    Place { whole: path, stream: path, base }
}

const PLACES: [Place; 9] = [
    plain("/chat/completions", "/v1"),
    plain("/completions", "/v1"),
    plain("/responses", "/v1"),
    plain("/messages", "/v1"),
    plain("/v2/chat", ""),
    plain("/api/chat", ""),
    Place { whole: ":generateContent", stream: ":streamGenerateContent", base: "/v1beta/models/m" },
    Place { whole: "/converse", stream: "/converse-stream", base: "/model/m" },
    Place { whole: "/invoke", stream: "/invoke-with-response-stream", base: "/model/m" },
];

impl Place {
    /// Whether a request here wants a stream; nothing if it is for another place.
    fn wants_stream(&self, request: &Request) -> Option<bool> {
        let path = request.path();
        match (path.ends_with(self.whole), path.ends_with(self.stream)) {
            // This API streams unless told otherwise.
            (true, true) if self.whole == "/api/chat" => Some(!says(&request.body, b"false")),
            (true, true) => Some(says(&request.body, b"true")),
            (false, false) => None,
            (_, stream) => Some(stream),
        }
    }

    fn target(&self, stream: bool) -> String {
        let end = if stream { self.stream } else { self.whole };
        format!("{}{end}?alt=sse", self.base)
    }

    /// The body of a request: what the strict ones of these APIs know, and what the others know all together.
    fn body(&self, model: &str, stream: bool) -> Value {
        match self.whole {
            ":generateContent" => json!({"contents": [{"parts": [{"text": "benchmark"}]}]}),
            "/converse" => json!({"messages": [{"role": "user", "content": [{"text": "benchmark"}]}]}),
            "/invoke" => json!({
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 1 << 20,
                "messages": [{"role": "user", "content": "benchmark"}],
            }),
            "/v2/chat" | "/api/chat" => {
                json!({"model": model, "messages": [{"role": "user", "content": "benchmark"}], "stream": stream})
            }
            _ => json!({
                "model": model,
                "messages": [{"role": "user", "content": "benchmark"}],
                "input": "benchmark",
                "prompt": "benchmark",
                "max_tokens": 1 << 20,
                "stream": stream,
                "stream_options": {"include_usage": true},
            }),
        }
    }
}

impl Rendered {
    /// Renders by asking the simulator itself, with a text of the wanted length.
    pub(crate) fn new(config: &Config, fixed: &Fixed) -> Self {
        Self {
            fixed: fixed.clone(),
            pairs: PLACES.map(|place| (place, Pair::new(config, fixed, place))).into(),
        }
    }

    /// The reply, if the request is for one of these APIs.
    pub(crate) fn reply(&self, request: &Request) -> Option<Reply> {
        let mut pairs = self.pairs.iter();
        let (pair, stream) = pairs.find_map(|(place, pair)| Some((pair, place.wants_stream(request)?)))?;
        if !stream {
            let headers = Media::Json.headers();
            return Some(Reply { status: 200, headers, body: Body::Whole(pair.whole.clone()) });
        }
        let (events, stamp) = (Arc::clone(&pair.events), self.fixed.stamp && pair.media.is_text());
        let events = (0..events.len()).map(move |at| {
            let event = events.get(at).cloned().unwrap_or_default();
            Event::frame(if stamp { stamped(&event) } else { event })
        });
        let pace = Pace::Every(Duration::from_millis(self.fixed.interval_ms));
        let body = Body::Stream(Stream { events: Box::new(events), length: None, pace });
        Some(Reply { status: 200, headers: pair.media.headers(), body })
    }
}

impl Pair {
    fn new(config: &Config, fixed: &Fixed, place: Place) -> Self {
        let whole = |text: String| {
            render(config, place, false, vec![text]).1.into_iter().map(|event| event.bytes).next()
        };
        let one = whole("x".into()).map_or(0, |bytes| bytes.len());
        let whole = whole("x".repeat(1 + fixed.body_bytes.saturating_sub(one)));
        let tokens = vec![token(config, fixed, place); fixed.events.max(1)];
        let (media, events) = render(config, place, true, tokens);
        Self { whole: whole.unwrap_or_default(), events: merge(events).into(), media }
    }
}

/// A token that makes an event of about the wanted length, with room for a stamp if there is to be one.
fn token(config: &Config, fixed: &Fixed, place: Place) -> String {
    let least = if fixed.stamp { STAMP } else { "x" };
    let (media, one) = render(config, place, true, vec![least.into()]);
    let bare = one.iter().find(|event| event.kind != Kind::Frame).map_or(0, |event| event.bytes.len());
    let room = fixed.event_bytes.saturating_sub(bare);
    // In base64 three bytes are four.
    format!("{least}{}", "x".repeat(if media == Media::Chunks { room / 4 * 3 } else { room }))
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

fn render(config: &Config, place: Place, stream: bool, tokens: Vec<String>) -> (Media, Vec<Event>) {
    let model = config.models.first().map_or("m", String::as_str);
    let request = Request {
        method: Method::POST,
        target: place.target(stream),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: place.body(model, stream).to_string().into(),
        body_len: 0,
        connection: 0,
    };
    let config = Config { fixed: None, api_key: None, strict: false, context_tokens: None, ..config.clone() };
    let shared = Shared::plain(config);
    let Routed::Job(mut job) = api::route(&shared, &request) else { return (Media::Json, Vec::new()) };
    job.knobs().exact = Some(tokens);
    let usage = api::Usage { prompt: job.prompt().tokens, cached: 0 };
    let rendered = job.render(&shared.config, usage);
    let events = match rendered.body {
        Body::Whole(bytes) => vec![slim(Event::frame(bytes))],
        Body::Stream(stream) => stream.events.map(slim).collect(),
    };
    (rendered.media, events)
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

/// Whether a body says of `"stream"` what `word` says, told without parsing it.
fn says(body: &[u8], word: &[u8]) -> bool {
    const KEY: &[u8] = b"\"stream\"";
    let mut rest = body;
    while let Some(at) = rest.windows(KEY.len()).position(|bytes| bytes == KEY) {
        rest = rest.get(at + KEY.len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if value.is_some_and(|value| value.starts_with(word)) {
            return true;
        }
    }
    false
}
