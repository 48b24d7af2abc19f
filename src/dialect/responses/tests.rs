//! Goldens and laws of Responses, and what the tests of Cohere and Ollama share with them.
//!
//! `FOREBAY_BLESS=1` writes the golden files anew; read the difference before it is committed.

use std::fmt::Write;

use serde_json::Value;

use crate::dialect::ir::{
    Block, Delivery, Event, Facts, Fold, Notes, Policy, Reply, ReplyTo, Request, Stop, Target, Whole,
};
use crate::dialect::{chat, cohere, messages, ollama, responses};
use crate::error::Error;
use crate::frame::sse;

mod recorded;
mod replies;
mod requests;

pub(in crate::dialect) use recorded::{Found, array, recorded_at, survives_recordings, word};
pub(in crate::dialect) use requests::CHAT;

/// A dialect, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Wire {
    Chat,
    Messages,
    Responses,
    Cohere,
    Ollama,
}

/// The dialects of clients.
pub(in crate::dialect) const CLIENTS: [Wire; 3] = [Wire::Chat, Wire::Messages, Wire::Responses];

fn to(delivery: Delivery) -> ReplyTo {
    ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery }
}

impl Wire {
    pub(in crate::dialect) fn read(self, body: &[u8]) -> Result<Request<'_>, Error> {
        match self {
            Self::Chat => chat::request::decode(body),
            Self::Messages => messages::request::decode(body),
            Self::Responses => responses::request::decode(body),
            Self::Cohere | Self::Ollama => panic!("{self:?} has no clients"),
        }
    }

    pub(in crate::dialect) fn write(
        self,
        request: &Request<'_>,
        facts: &Facts,
        notes: &mut Notes,
    ) -> Result<String, Error> {
        let target = Target { model: "u", facts };
        let body = match self {
            Self::Chat => chat::request::encode(request, &target, notes),
            Self::Messages => messages::request::encode(request, &target, notes),
            Self::Responses => responses::request::encode(request, &target, notes),
            Self::Cohere => cohere::request::encode(request, &target, notes),
            Self::Ollama => ollama::request::encode(request, &target, notes),
        };
        Ok(String::from_utf8(body?).unwrap())
    }

    /// What `body` of this client becomes in `upstream`, and what is noted.
    pub(in crate::dialect) fn asked(self, body: &str, upstream: Self, facts: &Facts) -> (Value, Vec<String>) {
        let mut notes = Notes::new(Policy::Lenient);
        let request = self.read(body.as_bytes()).unwrap();
        let sent = upstream.write(&request, facts, &mut notes).unwrap();
        let noted = notes.list().iter().map(|note| format!("{} {}", note.loss.name(), note.path)).collect();
        (serde_json::from_str(&sent).unwrap(), noted)
    }

    pub(in crate::dialect) fn whole(self, body: &[u8]) -> Result<Reply, Error> {
        let mut fold = Fold::default();
        let mut sink = |event: Event<'_>| fold.push(event);
        match self {
            Self::Chat => chat::reply::decode(body, &mut sink),
            Self::Messages => messages::reply::decode(body, &mut sink),
            Self::Responses => responses::reply::decode(body, &mut sink),
            Self::Cohere => cohere::reply::decode(body, &mut sink),
            Self::Ollama => ollama::reply::decode(body, &mut sink),
        }
        fold.finish()
    }

    pub(in crate::dialect) fn say(self, reply: &Reply, notes: &mut Notes) -> Vec<u8> {
        let to = to(Delivery::Whole);
        match self {
            Self::Chat => chat::reply::encode(reply, &to, notes),
            Self::Messages => messages::reply::encode(reply, &to, notes),
            Self::Responses => responses::reply::encode(reply, &to, notes),
            Self::Cohere | Self::Ollama => panic!("{self:?} has no clients"),
        }
    }

    /// Tells the events of a stream that comes in these pieces.
    fn hear<'p>(self, pieces: impl IntoIterator<Item = &'p [u8]>, sink: &mut impl FnMut(Event<'_>)) {
        macro_rules! hear {
            ($decoder:expr) => {{
                let mut decoder = $decoder;
                pieces.into_iter().for_each(|piece| decoder.push(piece, sink));
                decoder.finish(sink);
            }};
        }
        match self {
            Self::Chat => hear!(chat::stream::Decoder::default()),
            Self::Messages => hear!(messages::stream::Decoder::default()),
            Self::Responses => hear!(responses::stream::Decoder::default()),
            Self::Cohere => hear!(cohere::stream::Decoder::default()),
            Self::Ollama => hear!(ollama::stream::Decoder::default()),
        }
    }

    /// What a client is sent of a stream of `upstream` that comes in these pieces.
    pub(in crate::dialect) fn sent<'p>(
        self,
        upstream: Self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> Vec<u8> {
        let (mut out, to) = (Vec::new(), to(Delivery::StreamWithUsage));
        macro_rules! sent {
            ($encoder:expr) => {{
                let mut encoder = $encoder;
                upstream.hear(pieces, &mut |event| encoder.push(event, &mut out));
                assert!(encoder.law().is_over());
            }};
        }
        match self {
            Self::Chat => sent!(chat::stream::Encoder::new(to)),
            Self::Messages => sent!(messages::stream::Encoder::new(to)),
            Self::Responses => sent!(responses::stream::Encoder::new(to)),
            Self::Cohere | Self::Ollama => panic!("{self:?} has no clients"),
        }
        out
    }

    /// The reply that a stream adds up to.
    pub(in crate::dialect) fn folded(self, stream: &[u8]) -> Result<Reply, Error> {
        let mut fold = Fold::default();
        self.hear([stream], &mut |event| fold.push(event));
        fold.finish()
    }

    /// A stream of these events.
    pub(in crate::dialect) fn stream(self, events: &[&str]) -> Vec<u8> {
        let one = |data: &&str| match self {
            Self::Ollama => format!("{data}\n"),
            _ => format!("data: {data}\n\n"),
        };
        events.iter().map(one).collect::<String>().into_bytes()
    }
}

/// The events of a stream of server-sent events: their names, and their data as JSON where they are.
fn events(bytes: &[u8]) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    let mut tell = |event: sse::Event<'_>| {
        let text = String::from_utf8(event.data.to_vec()).unwrap();
        let data = serde_json::from_str(&text).unwrap_or(Value::String(text));
        told.push((String::from_utf8(event.name.to_vec()).unwrap(), data));
    };
    let mut reader = sse::Reader::default();
    reader.push(bytes, &mut tell).unwrap();
    reader.finish(&mut tell);
    told
}

/// Compares what is told with a golden file of this folder, or writes it anew.
pub(in crate::dialect) fn golden(told: &str, file: &str, golden: &str) {
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        let path = format!("{}/src/dialect/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, told).unwrap();
        return;
    }
    for (line, (told, golden)) in told.lines().zip(golden.lines()).enumerate() {
        assert_eq!(told, golden, "{file}, line {}", line + 1);
    }
    assert_eq!(told.len(), golden.len(), "{file}");
}

// === Requests ===

/// What a request is called, and its body.
pub(in crate::dialect) type Asked = (&'static str, &'static str);

/// What requests of `client` become in `upstream`, under `policy`.
pub(in crate::dialect) fn asked(client: Wire, cases: &[Asked], upstream: Wire, facts: &Facts) -> String {
    let mut told = String::new();
    for (name, body) in cases {
        let mut notes = Notes::new(Policy::Lenient);
        let request = client.read(body.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let sent = upstream.write(&request, facts, &mut notes);
        writeln!(told, "=== {name}: {client:?} to {upstream:?}").unwrap();
        for note in notes.list() {
            writeln!(told, "{} {}: {}", note.loss.name(), note.path, note.why).unwrap();
        }
        match sent {
            Ok(sent) => {
                assert!(serde_json::from_str::<Value>(&sent).is_ok(), "{name}: {sent}");
                writeln!(told, "{sent}").unwrap();
            }
            Err(error) => writeln!(told, "{}", error.public).unwrap(),
        }
        strict(name, &request, upstream, facts, &notes);
    }
    told
}

/// A strict route refuses what a lenient one drops.
fn strict(name: &str, request: &Request<'_>, upstream: Wire, facts: &Facts, lenient: &Notes) {
    let dropped = lenient.list().iter().find(|note| note.loss.name() != "mapped");
    let mut notes = Notes::new(Policy::Strict);
    match (dropped, upstream.write(request, facts, &mut notes)) {
        (None, Ok(_)) => {}
        (Some(note), Err(error)) => assert!(error.public.starts_with(&note.path), "{name}: {}", error.public),
        (dropped, result) => panic!("{name} to {upstream:?}: {dropped:?}, {result:?}"),
    }
}

/// Cuts and breaks requests; whatever is still read must be written as JSON.
pub(in crate::dialect) fn nothing_upsets_requests(client: Wire, cases: &[Asked], upstreams: &[Wire]) {
    let mut random = fastrand::Rng::with_seed(7);
    for (_, body) in cases {
        for _ in 0..200 {
            let mut bytes = body.as_bytes().to_vec();
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = random.u8(..),
                _ => drop(bytes.remove(at)),
            }
            let Ok(request) = client.read(&bytes) else { continue };
            for upstream in upstreams {
                let mut notes = Notes::new(Policy::Lenient);
                if let Ok(sent) = upstream.write(&request, &Facts::default(), &mut notes) {
                    let text = String::from_utf8_lossy(&bytes);
                    let read = serde_json::from_str::<Value>(&sent);
                    assert!(read.is_ok() || text.contains("\\u"), "{text} became {sent}");
                }
            }
        }
    }
}

// === Replies ===

/// A reply of an upstream, streamed and, where it can be, whole.
pub(in crate::dialect) struct Case {
    pub(in crate::dialect) name: &'static str,
    /// The data of its events.
    pub(in crate::dialect) stream: &'static [&'static str],
    pub(in crate::dialect) whole: Option<&'static str>,
}

/// What clients are sent of replies of `upstream`, streamed and whole.
pub(in crate::dialect) fn told(upstream: Wire, cases: &[Case], clients: &[Wire]) -> String {
    let mut told = String::new();
    for case in cases {
        for client in clients {
            let stream = client.sent(upstream, [upstream.stream(case.stream).as_slice()]);
            checked(*client, &stream);
            let title = format!("=== {}: {upstream:?} to {client:?}", case.name);
            write!(told, "{title}, streamed\n{}", String::from_utf8(stream).unwrap()).unwrap();
            let Some(whole) = case.whole else { continue };
            let mut notes = Notes::default();
            let reply = client.say(&upstream.whole(whole.as_bytes()).unwrap(), &mut notes);
            let noted: Vec<&str> = notes.list().iter().map(|note| note.path.as_str()).collect();
            let reply = String::from_utf8(reply).unwrap();
            assert!(serde_json::from_str::<Value>(&reply).is_ok(), "{reply}");
            writeln!(told, "{title}, whole, without {noted:?}\n{reply}\n").unwrap();
        }
    }
    told
}

/// The laws of replies: a stream adds up to the whole, a reply tells its own events, every split gives the same, and
/// what a client is sent reads as the same reply.
pub(in crate::dialect) fn keeps_the_laws(upstream: Wire, cases: &[Case]) {
    for case in cases {
        let wire = upstream.stream(case.stream);
        for client in CLIENTS {
            let whole = client.sent(upstream, [wire.as_slice()]);
            for cut in 0..wire.len() {
                let (a, b) = wire.split_at(cut);
                assert!(client.sent(upstream, [a, b]) == whole, "{} to {client:?} at {cut}", case.name);
            }
            assert!(client.sent(upstream, wire.chunks(1)) == whole, "{} in bytes", case.name);
        }
        let Ok(stream) = upstream.folded(&wire) else { continue };
        if let Some(whole) = case.whole {
            assert_eq!(stream, upstream.whole(whole.as_bytes()).unwrap(), "{}", case.name);
        }
        let mut fold = Fold::default();
        stream.events(&mut |event| fold.push(event));
        assert_eq!(fold.finish().unwrap(), stream, "{}", case.name);
        for client in CLIENTS {
            let again = client.folded(&client.sent(upstream, [wire.as_slice()])).unwrap();
            assert_eq!(kept(&again).but(&kept(&stream)), kept(&stream), "{} to {client:?}", case.name);
            let again = client.whole(&client.say(&stream, &mut Notes::default())).unwrap();
            assert_eq!(kept(&again).but(&kept(&stream)), kept(&stream), "{} whole to {client:?}", case.name);
        }
    }
}

/// Breaks streams; what clients are sent stays lawful.
pub(in crate::dialect) fn no_bytes_upset(upstream: Wire, cases: &[Case]) {
    let mut random = fastrand::Rng::with_seed(5);
    for case in cases {
        for _ in 0..300 {
            let mut bytes = upstream.stream(case.stream);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"{}[]\",:\n"[random.usize(..8)]),
                }
            }
            for client in CLIENTS {
                checked(client, &client.sent(upstream, [bytes.as_slice()]));
            }
        }
    }
}

/// What must survive.
#[derive(Debug, PartialEq)]
pub(in crate::dialect) struct Kept {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, Value)>,
    stop: Option<Stop>,
    usage: crate::dialect::usage::Usage,
}

impl Kept {
    /// What a dialect has to say although nothing is known of it is no loss.
    fn but(mut self, expected: &Self) -> Self {
        let (usage, wanted) = (&mut self.usage, &expected.usage);
        let counts = [
            (&mut usage.input.total, wanted.input.total),
            (&mut usage.input.cached, wanted.input.cached),
            (&mut usage.input.written, wanted.input.written),
            (&mut usage.output.total, wanted.output.total),
            (&mut usage.output.reasoning, wanted.output.reasoning),
        ];
        for (count, wanted) in counts {
            *count = count.filter(|count| *count > 0 || wanted.is_some());
        }
        self.stop = self.stop.filter(|_| expected.stop.is_some());
        // A call without an id gets one.
        for ((id, ..), (wanted, ..)) in self.calls.iter_mut().zip(&expected.calls) {
            if wanted.is_empty() {
                id.clear();
            }
        }
        self
    }
}

pub(in crate::dialect) fn kept(reply: &Reply) -> Kept {
    let joined = |is: fn(&Block<'_>) -> bool| -> String {
        let texts = reply.blocks.iter().filter(|whole| is(&whole.block));
        texts.map(|whole| whole.text().plain().into_owned()).collect()
    };
    let call = |whole: &Whole| match &whole.block {
        Block::ToolCall { id, name } => {
            let text = whole.text().plain().into_owned();
            let arguments = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Some((id.plain().into_owned(), name.plain().into_owned(), arguments))
        }
        _ => None,
    };
    let refused = reply.blocks.iter().any(|whole| matches!(whole.block, Block::Refusal));
    Kept {
        text: joined(|block| matches!(block, Block::Text | Block::Refusal)),
        reasoning: joined(|block| matches!(block, Block::Reasoning(_))),
        calls: reply.blocks.iter().filter_map(call).collect(),
        stop: match reply.finish.stop {
            // Messages tells a refusal by its end alone.
            _ if refused => None,
            // Not every dialect has a word for these.
            Stop::Sequence | Stop::Paused | Stop::Malformed => Some(Stop::End),
            stop => Some(stop),
        },
        // What is priced apart is for Forebay alone.
        usage: crate::dialect::usage::Usage { kinds: Default::default(), ..reply.usage.unwrap_or_default() },
    }
}

/// The other dialects have their tests elsewhere.
fn checked(client: Wire, stream: &[u8]) {
    if client == Wire::Responses {
        lawful(stream);
    }
}

/// Checks what the SDKs of Responses rely on: a head first, numbers without gaps, items that are opened once, in
/// order, complete and told again at the end, and one end.
pub(in crate::dialect) fn lawful(stream: &[u8]) {
    let told = events(stream);
    let (mut items, mut open) = (Vec::new(), None::<Open>);
    let mut ended = 0;
    for (number, (name, data)) in told.iter().enumerate() {
        assert_eq!(
            (&data["type"], &data["sequence_number"]),
            (&Value::from(name.as_str()), &Value::from(number))
        );
        assert_eq!(ended, 0, "{name} after the end");
        match name.as_str() {
            "response.created" => assert_eq!(number, 0),
            "response.in_progress" => assert_eq!(number, 1),
            "response.output_item.added" => {
                assert!(open.is_none() && data["output_index"] == items.len());
                open = Some(Open { id: data["item"]["id"].clone(), parts: 0, part: None });
            }
            "response.output_item.done" => {
                let open = open.take().unwrap();
                assert_eq!((&open.id, open.part), (&data["item"]["id"], None));
                assert_eq!(data["output_index"], items.len());
                items.push(data["item"].clone());
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                ended += 1;
                assert_eq!(data["response"]["output"], Value::Array(items.clone()));
                assert_eq!(data["response"]["id"], told[0].1["response"]["id"]);
                assert_eq!(data["response"]["error"].is_object(), name == "response.failed");
                assert!(open.is_none() || name == "response.failed");
            }
            "error" => assert!(data["error"]["message"].is_string()),
            name => open.as_mut().unwrap().takes(name, data, items.len()),
        }
    }
    assert_eq!(ended, 1);
}

/// An item that is not done.
struct Open {
    id: Value,
    parts: u64,
    part: Option<String>,
}

impl Open {
    fn takes(&mut self, name: &str, data: &Value, index: usize) {
        assert_eq!((&data["item_id"], &data["output_index"]), (&self.id, &Value::from(index)), "{name}");
        let at = data.get("content_index").or_else(|| data.get("summary_index"));
        if name.ends_with("part.added") {
            assert_eq!((at.unwrap().as_u64(), &self.part), (Some(self.parts), &None));
            self.part = Some(String::new());
        } else if name.ends_with("part.done") {
            assert_eq!(at.unwrap().as_u64(), Some(self.parts));
            let part = &data["part"];
            let text = part.get("text").or_else(|| part.get("refusal")).unwrap();
            assert_eq!(text.as_str(), self.part.take().as_deref());
            self.parts += 1;
        } else if let Some(at) = at {
            assert_eq!(at.as_u64(), Some(self.parts));
            if name.ends_with(".delta") {
                self.part.as_mut().unwrap().push_str(data["delta"].as_str().unwrap());
            }
        }
    }
}
