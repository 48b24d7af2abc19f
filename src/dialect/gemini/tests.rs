//! Goldens and laws of Gemini, and what Converse's tests share with them.
//!
//! `FOREBAY_BLESS=1` writes the golden files anew; read the difference before it is committed.

use std::fmt::Write;

use serde_json::Value;

use crate::dialect::ir::{
    Block, Delivery, Event, Facts, Fold, Notes, Reply, ReplyTo, Request, Stop, Target, Whole,
};
use crate::dialect::translate::{Client, Stream, Upstream};
use crate::error::{Error, Kind};
use crate::frame::{eventstream, sse};

mod replies;
mod requests;

pub(in crate::dialect) use replies::{CASES as GEMINI, FOREIGN};
pub(in crate::dialect) use requests::CHAT;

/// A dialect, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Wire {
    Chat,
    Messages,
    Gemini,
    Converse,
}

pub(in crate::dialect) const ALL: [Wire; 4] = [Wire::Chat, Wire::Messages, Wire::Gemini, Wire::Converse];

impl Wire {
    fn client(self) -> Client {
        match self {
            Self::Chat => Client::Chat,
            Self::Messages => Client::Messages,
            Self::Gemini => Client::Gemini,
            Self::Converse => Client::Converse,
        }
    }

    fn upstream(self) -> Upstream {
        match self {
            Self::Chat => Upstream::Chat,
            Self::Messages => Upstream::Messages,
            Self::Gemini => Upstream::Gemini,
            Self::Converse => Upstream::Converse,
        }
    }

    pub(in crate::dialect) fn read(self, body: &[u8]) -> Result<Request<'_>, Error> {
        self.client().request(body)
    }

    pub(in crate::dialect) fn write(
        self,
        request: &Request<'_>,
        facts: &Facts,
        notes: &mut Notes,
    ) -> Result<String, Error> {
        let target = Target { model: "u", facts };
        let body = String::from_utf8(self.upstream().request(request, &target, notes)?).unwrap();
        assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
        Ok(body)
    }

    pub(in crate::dialect) fn whole(self, body: &[u8]) -> Result<Reply, Error> {
        self.upstream().reply(body)
    }

    pub(in crate::dialect) fn say(self, reply: &Reply, notes: &mut Notes) -> Vec<u8> {
        self.client().reply(reply, &to(Delivery::Whole), notes)
    }

    /// Tells the events of a stream that comes in these pieces.
    fn hear<'p>(self, pieces: impl IntoIterator<Item = &'p [u8]>, sink: &mut impl FnMut(Event<'_>)) {
        let mut decoder = self.upstream().decoder();
        pieces.into_iter().for_each(|piece| decoder.push(piece, sink));
        decoder.finish(sink);
    }

    /// What a client is sent of a stream of `upstream` that comes in these pieces.
    pub(in crate::dialect) fn sent<'p>(
        self,
        upstream: Self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stream = Stream::new(upstream.upstream(), self.client(), to(Delivery::StreamWithUsage));
        pieces.into_iter().for_each(|piece| stream.push(piece, &mut out));
        stream.finish(&mut out);
        assert!(stream.is_over());
        out
    }

    /// The reply that a stream adds up to.
    pub(in crate::dialect) fn folded(self, stream: &[u8]) -> Result<Reply, Error> {
        let mut fold = Fold::default();
        self.hear([stream], &mut |event| fold.push(event));
        fold.finish()
    }

    /// A stream of these events: data of server-sent events, or frames as `{"<event type>":<payload>}`.
    pub(in crate::dialect) fn stream(self, events: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for data in events {
            match self {
                Self::Converse => frame(&mut out, data),
                Self::Gemini => out.extend_from_slice(format!("data: {data}\r\n\r\n").as_bytes()),
                Self::Chat | Self::Messages => out.extend_from_slice(format!("data: {data}\n\n").as_bytes()),
            }
        }
        out
    }

    /// A stream as text.
    pub(in crate::dialect) fn shown(self, stream: &[u8]) -> String {
        if self != Self::Converse {
            return String::from_utf8(stream.to_vec()).unwrap();
        }
        frames(stream).iter().map(|(kind, payload)| format!("{kind} {payload}\n")).collect()
    }
}

fn to(delivery: Delivery) -> ReplyTo {
    ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery }
}

fn frame(out: &mut Vec<u8>, data: &str) {
    use eventstream::Value::Text;
    let (kind, payload) = data.strip_prefix("{\"").unwrap().split_once("\":").unwrap();
    let payload = payload.strip_suffix('}').unwrap();
    let is_error = kind.ends_with("Exception");
    let (name, class) = if is_error { (":exception-type", "exception") } else { (":event-type", "event") };
    let headers =
        [(name, Text(kind)), (":content-type", Text("application/json")), (":message-type", Text(class))];
    eventstream::message(out, &headers, payload.as_bytes()).unwrap();
}

/// The frames of a stream: their types and payloads.
pub(in crate::dialect) fn frames(stream: &[u8]) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut reader = eventstream::Reader::default();
    let mut tell = |message: eventstream::Message<'_>| {
        let kind =
            message.headers.text(":event-type").or_else(|| message.headers.text(":exception-type")).unwrap();
        told.push((kind.to_owned(), String::from_utf8(message.payload.to_vec()).unwrap()));
    };
    reader.push(stream, &mut tell).unwrap();
    reader.finish().unwrap();
    told
}

/// The data of a stream of server-sent events.
pub(in crate::dialect) fn data(stream: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |event: sse::Event<'_>| told.push(String::from_utf8(event.data.to_vec()).unwrap());
    let mut reader = sse::Reader::default();
    reader.push(stream, &mut tell).unwrap();
    reader.finish(&mut tell);
    told
}

/// Compares what was told with a golden file, or writes it.
pub(in crate::dialect) fn golden(name: &str, told: &str, golden: &str) {
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        let path = format!("{}/src/dialect/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, told).unwrap();
        return;
    }
    for (line, (told, golden)) in told.lines().zip(golden.lines()).enumerate() {
        assert_eq!(told, golden, "{name}, line {}", line + 1);
    }
    assert_eq!(told.len(), golden.len(), "{name}");
}

// === Requests ===

/// A request, by name.
pub(in crate::dialect) type Asked = (&'static str, &'static str);

/// What requests become in other dialects, and what is said of losses.
pub(in crate::dialect) fn carried(
    client: Wire,
    requests: &[Asked],
    upstreams: &[Wire],
    facts: &Facts,
) -> String {
    let mut told = String::new();
    for (name, body) in requests {
        let request = client.read(body.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for upstream in upstreams {
            let mut notes = Notes::default();
            let written = match upstream.write(&request, facts, &mut notes) {
                Ok(written) => written,
                Err(error) => format!("refused: {}", error.public),
            };
            writeln!(told, "=== {name}: {client:?} to {upstream:?}\n{written}").unwrap();
            for note in notes.list() {
                writeln!(told, "{}: {}: {}", note.loss.name(), note.path, note.why).unwrap();
            }
        }
    }
    told
}

/// Checks the path that each wrong request is refused with.
pub(in crate::dialect) fn refused(client: Wire, cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        let error = client.read(body.as_bytes()).map(drop).unwrap_err();
        assert_eq!((error.kind, error.public.as_ref()), (Kind::InvalidRequest, *expected), "{body}");
    }
}

// === Replies ===

/// A reply of an upstream, streamed and, where it can be, whole.
pub(in crate::dialect) struct Case {
    pub(in crate::dialect) name: &'static str,
    pub(in crate::dialect) upstream: Wire,
    pub(in crate::dialect) stream: &'static [&'static str],
    pub(in crate::dialect) whole: Option<&'static str>,
}

impl Case {
    pub(in crate::dialect) fn bytes(&self) -> Vec<u8> {
        self.upstream.stream(self.stream)
    }
}

/// What clients are sent of replies.
pub(in crate::dialect) fn told(cases: &[Case], clients: &[Wire]) -> String {
    let mut told = String::new();
    for case in cases {
        for client in clients {
            let title = format!("=== {}: {:?} to {client:?}", case.name, case.upstream);
            let sent = client.sent(case.upstream, [case.bytes().as_slice()]);
            writeln!(told, "{title}, streamed\n{}", client.shown(&sent).trim_end()).unwrap();
            let Some(whole) = case.whole else { continue };
            let mut notes = Notes::default();
            let reply = client.say(&case.upstream.whole(whole.as_bytes()).unwrap(), &mut notes);
            let noted: Vec<&str> = notes.list().iter().map(|note| note.path.as_str()).collect();
            writeln!(told, "{title}, whole, without {noted:?}\n{}", String::from_utf8(reply).unwrap())
                .unwrap();
        }
    }
    told
}

/// Checks the laws of streams on each of these replies, for each of these clients.
pub(in crate::dialect) fn lawful(cases: &[Case], clients: &[Wire]) {
    for case in cases {
        let bytes = case.bytes();
        adds_up(case, &bytes);
        for client in clients {
            let sent = client.sent(case.upstream, [bytes.as_slice()]);
            reads_back(case, *client, &bytes, &sent);
            for cut in 0..bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert!(client.sent(case.upstream, [a, b]) == sent, "{} at {cut}", case.name);
            }
            assert!(client.sent(case.upstream, bytes.chunks(1)) == sent, "{} in bytes", case.name);
        }
    }
}

/// A stream adds up to the whole reply.
fn adds_up(case: &Case, bytes: &[u8]) {
    if let Some(whole) = case.whole {
        let whole = case.upstream.whole(whole.as_bytes()).unwrap();
        let mut stream = case.upstream.folded(bytes).unwrap();
        stream.start.usage = whole.start.usage;
        assert_eq!(stream, whole, "{}", case.name);
    }
}

/// What a client is sent reads as the same reply.
fn reads_back(case: &Case, client: Wire, bytes: &[u8], sent: &[u8]) {
    let Ok(reply) = case.upstream.folded(bytes) else {
        assert!(client.folded(sent).is_err(), "{}", case.name);
        return;
    };
    let again = client.folded(sent).unwrap_or_else(|error| panic!("{} to {client:?}: {error}", case.name));
    assert_eq!(kept(&again).but(&kept(&reply)), kept(&reply), "{} to {client:?}", case.name);
}

/// What must survive.
#[derive(Debug, PartialEq)]
pub(in crate::dialect) struct Kept {
    pub(in crate::dialect) text: String,
    pub(in crate::dialect) reasoning: String,
    pub(in crate::dialect) calls: Vec<(String, String, Value)>,
    stop: Stop,
    input: Option<u64>,
    cached: u64,
    output: u64,
}

impl Kept {
    /// A call without an id gets one, and usage that nobody knows is told as none.
    pub(in crate::dialect) fn but(mut self, expected: &Self) -> Self {
        for ((id, ..), (wanted, ..)) in self.calls.iter_mut().zip(&expected.calls) {
            if wanted.is_empty() {
                id.clear();
            }
        }
        self.input = self.input.filter(|count| *count > 0 || expected.input.is_some());
        self
    }
}

pub(in crate::dialect) fn kept(reply: &Reply) -> Kept {
    let joined = |is: fn(&Block<'_>) -> bool| -> String {
        let blocks = reply.blocks.iter().filter(|whole| is(&whole.block));
        blocks.map(|whole| whole.text().plain().into_owned()).collect()
    };
    let call = |whole: &Whole| match &whole.block {
        Block::ToolCall { id, name } => {
            let arguments = serde_json::from_str(&whole.text().plain()).unwrap();
            Some((id.plain().into_owned(), name.plain().into_owned(), arguments))
        }
        _ => None,
    };
    let refuses = reply.blocks.iter().any(|whole| matches!(whole.block, Block::Refusal));
    let usage = reply.usage.unwrap_or_default();
    Kept {
        text: joined(|block| matches!(block, Block::Text | Block::Refusal)),
        reasoning: joined(|block| matches!(block, Block::Reasoning(_))),
        calls: reply.blocks.iter().filter_map(call).collect(),
        stop: match reply.finish.stop {
            // Not every dialect has a word for each of these.
            Stop::Sequence | Stop::Paused | Stop::Malformed => Stop::End,
            // A refusal is an end in some, and a filtered answer in others.
            Stop::End if refuses => Stop::Filtered,
            stop => stop,
        },
        input: usage.input.total,
        cached: usage.input.cached.unwrap_or(0),
        output: usage.output.total.unwrap_or(0),
    }
}

/// Checks that no broken bytes upset a stream, and that every client is told of one end.
pub(in crate::dialect) fn survive_noise(cases: &[Case], clients: &[Wire], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for case in cases {
        for _ in 0..200 {
            let mut bytes = case.bytes();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"{}[]\",:\n"[random.usize(..8)]),
                }
            }
            for client in clients {
                one_end(*client, &client.sent(case.upstream, [bytes.as_slice()]));
            }
        }
    }
}

/// Checks that a stream has one end, and nothing after it.
pub(in crate::dialect) fn one_end(client: Wire, sent: &[u8]) {
    match client {
        Wire::Gemini => {
            let told = data(sent);
            let is_end = |data: &String| {
                let value: Value = serde_json::from_str(data).unwrap();
                let finished = value["candidates"][0]["finishReason"].is_string();
                finished || value["error"].is_object() || value["promptFeedback"].is_object()
            };
            let ends = told.iter().filter(|data| is_end(data)).count();
            assert!(ends == 1 && is_end(told.last().unwrap()), "{told:?}");
        }
        Wire::Converse => {
            let told = frames(sent);
            let names: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
            let (last, before) = names.split_last().unwrap();
            match *last {
                "metadata" => {
                    assert_eq!(before.iter().filter(|name| **name == "messageStop").count(), 1, "{names:?}");
                    assert_eq!(names.iter().find(|name| name.ends_with("Start")), Some(&"messageStart"));
                }
                name => assert!(name.ends_with("Exception"), "{names:?}"),
            }
            assert!(
                !before.iter().any(|name| name.ends_with("Exception") || *name == "metadata"),
                "{names:?}"
            );
        }
        Wire::Chat | Wire::Messages => assert!(!data(sent).is_empty()),
    }
}

#[test]
fn errors_are_worded_as_the_api_does() {
    let error = Error::policy(Kind::RateLimited, "slow \"down\"").after(5);
    assert_eq!(
        String::from_utf8(super::error(&error)).unwrap(),
        "{\"error\":{\"code\":429,\"message\":\"slow \\\"down\\\"\",\"status\":\"RESOURCE_EXHAUSTED\",\
         \"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"5s\"}]}}"
    );
    let error = Error::client(Kind::InvalidRequest, "no").param("contents");
    let body: Value = serde_json::from_slice(&super::error(&error)).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&400.into(), &"INVALID_ARGUMENT".into()));
    assert_eq!(body["error"]["details"][0]["fieldViolations"][0]["field"], "contents");
    let read = crate::dialect::error::read(&super::error(&error), None).unwrap();
    assert_eq!((read.message.as_str(), read.class.as_deref()), ("no", Some("INVALID_ARGUMENT")));
}
