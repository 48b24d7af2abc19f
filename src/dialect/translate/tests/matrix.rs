//! Every client before every upstream, in every case of a list: what upstreams are asked, and what clients are answered.
//!
//! `tests/golden/dialects/requests/` holds what each client asks, `replies/` what each upstream answers, whole and
//! streamed; from them every pair's golden file is made, which stands beside them. `FOREBAY_BLESS=1` writes them anew; read
//! the difference before it is committed. With `FOREBAY_MATRIX_OUT=dir`, all that clients are answered is written there,
//! for the official SDKs to read.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::replies::lawful;
use super::*;
use crate::dialect::error;
use crate::dialect::gemini::tests::frames;
use crate::dialect::ir::{Text, digest};
use crate::dialect::loss::typical;
use crate::frame::eventstream;

mod pretty;

use pretty::pretty;

/// The cases. Some have but one side: an error is answered, and not asked for.
const CASES: [&str; 20] = [
    "text",
    "multi-turn",
    "system",
    "tools",
    "parallel tools",
    "tool results",
    "forced tool",
    "image",
    "document",
    "structured output",
    "reasoning",
    "refusal",
    "length stop",
    "stop sequence",
    "usage with cache",
    "error before the stream",
    "error inside the stream",
    "empty reply",
    "unicode",
    "1,000 deltas",
];

/// The most events of a stream that a golden file holds.
const MOST: usize = 100;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dialects")
}

/// A file's name of a dialect or of a case.
fn slug(name: impl std::fmt::Debug) -> String {
    format!("{name:?}").replace(['"', ','], "").replace(' ', "-").to_ascii_lowercase()
}

/// The cases of a file, by name.
fn cases(kind: &str, of: impl std::fmt::Debug) -> Value {
    let path = folder().join(kind).join(slug(of)).with_extension("json");
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

// === Upstreams ===

/// An upstream's stream of these events, as it is on its wire.
fn wire(upstream: Upstream, events: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        match event.get("repeat").and_then(Value::as_u64) {
            Some(times) => (0..times).for_each(|_| event_into(&mut out, upstream, &event["event"])),
            None => event_into(&mut out, upstream, event),
        }
    }
    out
}

fn event_into(out: &mut Vec<u8>, upstream: Upstream, event: &Value) {
    // `[DONE]` is no JSON.
    let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
    let named = |name: &str| format!("event: {name}\ndata: {data}\n\n");
    let text = match upstream {
        Upstream::Chat => format!("data: {data}\n\n"),
        Upstream::Messages | Upstream::Responses | Upstream::Cohere => {
            event["type"].as_str().map_or_else(|| format!("data: {data}\n\n"), named)
        }
        Upstream::Gemini => format!("data: {data}\r\n\r\n"),
        Upstream::Ollama => format!("{data}\n"),
        Upstream::Converse => return frame_into(out, event),
    };
    out.extend_from_slice(text.as_bytes());
}

fn frame_into(out: &mut Vec<u8>, event: &Value) {
    use eventstream::Value::Text;
    let (kind, payload) = event.as_object().unwrap().iter().next().unwrap();
    let (name, class) = match kind.ends_with("Exception") {
        true => (":exception-type", "exception"),
        false => (":event-type", "event"),
    };
    let headers =
        [(name, Text(kind)), (":content-type", Text("application/json")), (":message-type", Text(class))];
    eventstream::message(out, &headers, payload.to_string().as_bytes()).unwrap();
}

// === Pairs ===

/// A pair, what it says, and where what its client is answered is written to, if anywhere.
struct Pair {
    client: Client,
    upstream: Upstream,
    told: String,
    out: Option<PathBuf>,
}

impl Pair {
    fn new(client: Client, upstream: Upstream) -> Self {
        let out = env::var_os("FOREBAY_MATRIX_OUT").map(PathBuf::from);
        let out = out.map(|out| out.join(slug(client)).join(slug(upstream)));
        if let Some(out) = &out {
            fs::create_dir_all(out).unwrap();
        }
        Self { client, upstream, told: String::new(), out }
    }

    fn section(&mut self, case: &str, what: &str, notes: &Notes, body: &str) {
        writeln!(self.told, "=== {case}: {what}").unwrap();
        for note in notes.list() {
            writeln!(self.told, "# {} {}: {}", note.loss.name(), note.path, note.why).unwrap();
        }
        writeln!(self.told, "{body}\n").unwrap();
    }

    fn keep(&self, case: &str, what: &str, bytes: &[u8]) {
        if let Some(out) = &self.out {
            fs::write(out.join(format!("{}.{what}", slug(case))), bytes).unwrap();
        }
    }

    fn asks(&mut self, case: &str, body: &Value) {
        let body = body.to_string();
        let mut request = self.client.request(body.as_bytes()).unwrap();
        if self.client.operation().names_model() {
            request.model = Text::from("alias");
        }
        let (model, facts) = typical(self.upstream);
        let mut notes = Notes::new(Policy::Lenient);
        let sent = self.upstream.request(&request, &Target { model, facts: &facts }, &mut notes);
        let sent = match sent {
            Ok(sent) => pretty(&serde_json::from_slice(&sent).unwrap()),
            Err(error) => format!("{} {}", error.kind.status(), error.public),
        };
        self.section(case, "request", &notes, &sent);
    }

    fn answers(&mut self, case: &str, reply: &Value) {
        if let Some(body) = reply.get("error") {
            self.fails(case, body);
        }
        if let Some(body) = reply.get("whole") {
            let whole = self.upstream.reply(body.to_string().as_bytes()).unwrap();
            let mut notes = Notes::default();
            let sent = self.client.reply(&whole, &to(Delivery::Whole), &mut notes);
            self.keep(case, "json", &sent);
            self.section(case, "reply", &notes, &pretty(&serde_json::from_slice(&sent).unwrap()));
        }
        if let Some(events) = reply.get("stream").and_then(Value::as_array) {
            self.streams(case, &wire(self.upstream, events));
        }
    }

    /// An error that comes before anything else, in a body that should have been a reply, is answered as one. What the
    /// upstream's own status adds to it is no concern of a dialect.
    fn fails(&mut self, case: &str, body: &Value) {
        let error = self.upstream.reply(body.to_string().as_bytes()).unwrap_err();
        let dialect = self.client.operation().dialect();
        let sent = error::render(dialect, &error, "req_1");
        let status = error::status(dialect, error.kind);
        let class = error::class(dialect, error.kind).map(|class| format!("\nx-amzn-errortype: {class}"));
        self.keep(case, &format!("{status}.json"), &sent);
        let body = pretty(&serde_json::from_slice(&sent).unwrap());
        self.section(
            case,
            "reply",
            &Notes::default(),
            &format!("{status}{}\n{body}", class.unwrap_or_default()),
        );
    }

    fn streams(&mut self, case: &str, bytes: &[u8]) {
        let mut stream = Stream::new(self.upstream, self.client, to(Delivery::StreamWithUsage));
        let mut sent = Vec::new();
        stream.push(bytes, &mut sent);
        stream.finish(&mut sent);
        assert!(stream.is_over());
        lawful(self.client, &sent);
        self.keep(case, "stream", &sent);
        let shown = match self.client {
            Client::Converse => {
                frames(&sent).into_iter().map(|(kind, data)| format!("{kind} {data}")).collect()
            }
            _ => lines(&sent),
        };
        self.section(case, "stream", stream.notes(), &some(&shown));
    }

    /// The golden file, which is written or compared.
    fn judge(&self) -> Result<(), String> {
        let path = folder().join(format!("{}-{}.golden", slug(self.client), slug(self.upstream)));
        if env::var_os("FOREBAY_BLESS").is_some() {
            fs::write(path, &self.told).unwrap();
            return Ok(());
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        let lines = self.told.lines().zip(golden.lines()).enumerate();
        match lines.into_iter().find(|(_, (told, golden))| told != golden) {
            Some((line, (told, golden))) => {
                Err(format!("{}, line {}:\n  is {told}\n  was {golden}", path.display(), line + 1))
            }
            None if self.told == golden => Ok(()),
            None => Err(format!("{} ends elsewhere", path.display())),
        }
    }
}

/// The events of a stream of server-sent events, a line each.
fn lines(stream: &[u8]) -> Vec<String> {
    let stream = std::str::from_utf8(stream).unwrap();
    let events = stream.split_terminator("\n\n").flat_map(|event| event.split_terminator("\r\n\r\n"));
    events.map(|event| event.replace("\r\n", "\n").replace("\ndata: ", " ").replace("event: ", "")).collect()
}

/// A stream's events; of a long one the ends, and a digest of it all.
fn some(events: &[String]) -> String {
    if events.len() <= MOST {
        return events.join("\n");
    }
    let (first, last) = (events[..2].join("\n"), events[events.len() - 2..].join("\n"));
    let digest = digest(events.concat().as_bytes());
    format!("{first}\n... {} events, digest {digest:016x} ...\n{last}", events.len())
}

#[test]
fn every_pair_says_what_its_golden_file_says() {
    let mut wrong = Vec::new();
    for client in Client::ALL {
        let requests = cases("requests", client);
        for upstream in Upstream::ALL {
            let replies = cases("replies", upstream);
            let mut pair = Pair::new(client, upstream);
            for case in CASES {
                if let Some(body) = requests.get(case) {
                    pair.asks(case, body);
                }
                if let Some(reply) = replies.get(case) {
                    pair.answers(case, reply);
                }
            }
            wrong.extend(pair.judge().err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_is_asked_or_answered_by_all() {
    let lists = [
        // Completions know little but text.
        readable().map(|client| cases("requests", client)).collect(),
        Upstream::ALL.map(|upstream| cases("replies", upstream)).to_vec(),
    ];
    for list in &lists {
        for name in list.iter().flat_map(|cases| cases.as_object().unwrap().keys()) {
            assert!(CASES.contains(&name.as_str()), "{name}");
        }
    }
    for case in CASES {
        // Responses has no stop sequences, on either side.
        let most = usize::from(case == "stop sequence");
        let without = |list: &Vec<Value>| list.iter().filter(|cases| cases.get(case).is_none()).count();
        let side = lists.iter().any(|list| without(list) <= most);
        assert!(side, "{case} is neither asked by every client nor answered by every upstream");
    }
}
