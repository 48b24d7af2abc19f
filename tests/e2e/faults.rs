//! What clients see of an upstream that fails, in every way that the simulator knows.

use bytes::Bytes;
use forebay::sim::{Config, Sim};
use http::Request;
use serde_json::Value;

use crate::dialects::{Dialect, events};
use crate::support::h2client::H2Client;
use crate::support::scripted::{Scripted, Turn, answer};
use crate::support::{Edge, ONE_TRY, Reply, cluster_of, listener, post, sim};

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// What it asked for, complete.
    Answer,
    /// An error in its dialect, with this status (that of OpenAI's dialects).
    Status(u16),
    /// A stream that ends properly, with Forebay's error in its dialect.
    Failing,
    /// A stream that ends properly, with the upstream's own error in its dialect.
    Told,
    /// A reply without its end.
    Cut,
    /// Anything that an SDK takes for complete, or cannot read.
    Wrong,
}

use Sees::{Answer, Cut, Failing, Status, Told, Wrong};

/// A fault, and what is seen of it: in a stream from an HTTP/1 upstream and from an HTTP/2 one, then in a whole reply
/// from each.
type Row = (&'static str, [Sees; 2], [Sees; 2]);

const BAD: Sees = Status(502);

const TABLE: &[Row] = &[
    // No reply, or none that can be read.
    ("refuse", [BAD; 2], [BAD; 2]),
    ("reset_before_head", [BAD; 2], [BAD; 2]),
    ("garbage_head", [BAD; 2], [BAD; 2]),
    ("switching", [BAD, Answer], [BAD, Answer]),
    ("info_flood", [BAD, Answer], [BAD, Answer]),
    ("info_flood=3", [Answer; 2], [Answer; 2]),
    // A reply that breaks off: before it has anything, before its first content, then in its midst. A whole reply has two
    // pieces.
    ("reset_after_head", [BAD; 2], [BAD; 2]),
    ("reset=0", [BAD; 2], [BAD; 2]),
    ("reset=1", [BAD; 2], [BAD; 2]),
    ("reset=6", [Failing; 2], [Answer; 2]),
    ("cut=1", [BAD; 2], [BAD; 2]),
    ("cut=6", [Failing; 2], [Answer; 2]),
    ("goaway=0", [BAD; 2], [BAD; 2]),
    ("goaway=1", [BAD; 2], [BAD; 2]),
    ("goaway=6", [Failing; 2], [Answer; 2]),
    ("bad_chunk=1", [BAD; 2], [BAD; 2]),
    ("bad_chunk=6", [Failing; 2], [Answer; 2]),
    ("close_delimited", [Answer; 2], [Answer; 2]),
    ("close_delimited;cut=1", [BAD; 2], [BAD; 2]),
    ("close_delimited;cut=6", [Failing; 2], [Answer; 2]),
    ("wrong_length=long", [Answer; 2], [BAD; 2]),
    // Errors that are told.
    ("html", [BAD; 2], [BAD; 2]),
    ("html=503", [Status(503); 2], [Status(503); 2]),
    ("status=400", [Status(400); 2], [Status(400); 2]),
    ("status=401", [Status(401); 2], [Status(401); 2]),
    ("status=429;retry_after=7", [Status(429); 2], [Status(429); 2]),
    ("status=500", [Status(500); 2], [Status(500); 2]),
    ("status=503", [Status(503); 2], [Status(503); 2]),
    ("status=529", [Status(529); 2], [Status(529); 2]),
    ("error_event", [Told; 2], [Answer; 2]),
    ("error_event=6", [Told; 2], [Answer; 2]),
    // Odd, but right.
    ("huge_event", [Answer; 2], [Answer; 2]),
    ("one_byte", [Answer; 2], [Answer; 2]),
    ("slow_head=1", [Answer; 2], [Answer; 2]),
];

/// An edge with an upstream behind HTTP/1 (the model `h1`) and the same behind HTTP/2 (`h2`).
async fn site() -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let cluster = |name: &str, http: &str| {
        format!(
            "  {name}: {{provider: simulator, http: \"{http}\", endpoints: [\"http://{}\"], \
             health: {{check: none}}, breaker: {{failures: 0, failure_rate: 0}}}}\n",
            sim.addr()
        )
    };
    let clusters = ["clusters:\n", &cluster("h1", "1.1"), &cluster("h2", "2")].concat();
    let models = "models:\n  h1: {deployments: [{cluster: h1}]}\n  h2: {deployments: [{cluster: h2}]}\n";
    (Edge::start(&[&listener("h2c: true"), &clusters, models, ONE_TRY].concat()).await, sim)
}

/// The client's side of a case.
pub(crate) struct Asker<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) dialect: Dialect,
    pub(crate) over_h2: bool,
}

impl Asker<'_> {
    pub(crate) async fn ask(&self, model: &str, stream: bool, fields: &[(&str, &str)]) -> Reply {
        let (path, body) = (self.dialect.path(), self.dialect.ask(model, stream));
        let version = [("anthropic-version", "2023-06-01")];
        let version = if self.dialect == Dialect::Messages { &version[..] } else { &[] };
        let fields = fields.iter().chain(version);
        if self.over_h2 {
            let mut request = Request::post(format!("http://edge{path}"));
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let client = H2Client::connect(self.edge.addr).await;
            return client.ask(request.body(Bytes::from(body)).unwrap()).await;
        }
        let lines: String = fields.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.edge.connect().await.ask(&post(path, &lines, body)).await
    }

    pub(crate) fn sees(&self, stream: bool, reply: &Reply) -> Sees {
        let events = events(&reply.body);
        match (reply.status, stream) {
            (200, _) if !reply.whole => Cut,
            (200, true) => match self.dialect.error_in(&events) {
                Some(message) if message.starts_with("the upstream") => Failing,
                Some(_) => Told,
                None if self.dialect.is_complete(&events) => Answer,
                None => Wrong,
            },
            (200, false) if self.dialect.is_answer(reply) => Answer,
            (200, _) => Wrong,
            _ if !reply.whole || self.dialect.refusal(reply).is_none() => Wrong,
            // Anthropic's API has statuses of its own for these two.
            (500, _) if self.is_ours(reply) => Status(502),
            (529, _) if self.is_ours(reply) => Status(503),
            (status, _) => Status(status),
        }
    }

    fn is_ours(&self, reply: &Reply) -> bool {
        let message = self.dialect.refusal(reply).unwrap_or_default();
        self.dialect == Dialect::Messages && message.starts_with("the upstream")
    }
}

/// How often a request may have been sent upstream: once, unless it certainly was not taken there.
fn most_attempts(fault: &str, model: &str) -> u64 {
    match (fault, model) {
        // REFUSED_STREAM says that nothing was done.
        ("refuse", "h2") => 3,
        // The connection is a pooled one, which may have been closed before.
        ("refuse" | "reset_before_head", "h1") => 2,
        _ => 1,
    }
}

/// What is wrong with what is seen of one fault, if anything.
async fn judge(
    asker: &Asker<'_>,
    sim: &Sim,
    fault: &str,
    model: &str,
    stream: bool,
    expected: Sees,
) -> Option<String> {
    sim.stats().reset();
    let id = case_id(fault, model, stream);
    let reply = asker.ask(model, stream, &[("x-sim-fault", fault), ("x-request-id", &id)]).await;
    let seen = asker.sees(stream, &reply);
    if seen != expected {
        return Some(format!("{id}: {seen:?} should be {expected:?}: {reply:?}"));
    }
    if fault.contains("retry_after=7") && reply.header("retry-after") != Some("7") {
        return Some(format!("{id}: when to come again is lost: {reply:?}"));
    }
    let sent = sim.stats().snapshot().requests;
    if !(1..=most_attempts(fault, model)).contains(&sent) {
        return Some(format!("{id}: it was sent upstream {sent} times"));
    }
    asker.edge.idle().await;
    let next = asker.ask(model, stream, &[]).await;
    let seen = asker.sees(stream, &next);
    (seen != Answer).then(|| format!("after {id} the next request saw {seen:?}: {next:?}"))
}

fn case_id(fault: &str, model: &str, stream: bool) -> String {
    let kind = if stream { "stream" } else { "whole" };
    format!("{}.{model}.{kind}", fault.replace(['=', ';'], "-"))
}

/// What is wrong with the line that the log has of a case.
fn misjudged(line: &Value, expected: Sees, fault: &str) -> Option<String> {
    let end = line["end"].as_str().unwrap();
    let passed_on = fault.starts_with("status=");
    let right = match expected {
        Answer | Told => end == "--",
        Status(_) if passed_on => end == "--",
        Status(_) => matches!(end, "UH" | "UT" | "UD"),
        Failing | Cut => matches!(end, "UT" | "UD"),
        Wrong => false,
    };
    let attempts = line["attempts"].as_u64().unwrap();
    let counted = attempts >= 1 && attempts <= most_attempts(fault, line["model"].as_str().unwrap());
    (!right || !counted).then(|| format!("the log is wrong about it: {line}"))
}

async fn judge_all(dialect: Dialect, over_h2: bool) {
    let (edge, sim) = site().await;
    let asker = Asker { edge: &edge, dialect, over_h2 };
    // From the first case on there is a pooled connection.
    for model in ["h1", "h2"] {
        assert_eq!(asker.ask(model, false, &[]).await.status, 200);
    }
    let cases = TABLE.iter().flat_map(|(fault, streams, wholes)| {
        let both = [(true, streams), (false, wholes)];
        both.into_iter().flat_map(move |(stream, expected)| {
            [("h1", expected[0]), ("h2", expected[1])]
                .map(|(model, expected)| (*fault, model, stream, expected))
        })
    });
    let mut wrong = Vec::new();
    for (fault, model, stream, expected) in cases.clone() {
        wrong.extend(judge(&asker, &sim, fault, model, stream, expected).await);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let lines = edge.accesses(cases.clone().count() * 2 + 2).await;
    for (fault, model, stream, expected) in cases {
        let id = case_id(fault, model, stream);
        let line = lines.iter().find(|line| line["id"] == id.as_str()).unwrap();
        wrong.extend(misjudged(line, expected, fault));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_fault_is_told_in_chat() {
    judge_all(Dialect::Chat, false).await;
}

#[tokio::test]
async fn every_fault_is_told_in_messages() {
    judge_all(Dialect::Messages, false).await;
}

#[tokio::test]
async fn every_fault_is_told_in_responses() {
    judge_all(Dialect::Responses, false).await;
}

#[tokio::test]
async fn every_fault_is_told_over_http2() {
    judge_all(Dialect::Chat, true).await;
}

// === What the table has no room for ===

#[tokio::test]
async fn a_stream_that_ends_before_its_first_event_is_an_error_with_a_status() {
    let (edge, _sim) = site().await;
    for dialect in Dialect::ALL {
        let asker = Asker { edge: &edge, dialect, over_h2: false };
        for (fault, model) in
            [("empty_stream", "h1"), ("cut=0", "h1"), ("empty_stream", "h2"), ("cut=0", "h2")]
        {
            let reply = asker.ask(model, true, &[("x-sim-fault", fault)]).await;
            assert_eq!(asker.sees(true, &reply), BAD, "{fault} {model}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_complete_in_chat_alone() {
    let (edge, _sim) = site().await;
    for (dialect, expected) in [
        // Many engines send no `[DONE]`; the finish reason was there.
        (Dialect::Chat, Answer),
        (Dialect::Messages, Failing),
        (Dialect::Responses, Failing),
    ] {
        let asker = Asker { edge: &edge, dialect, over_h2: false };
        for model in ["h1", "h2"] {
            let reply = asker.ask(model, true, &[("x-sim-fault", "no_done")]).await;
            assert_eq!(asker.sees(true, &reply), expected, "{dialect:?} {model}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_reply_compressed_unasked_can_be_read_or_is_an_error() {
    let (edge, _sim) = site().await;
    let mut wrong = Vec::new();
    for dialect in Dialect::ALL {
        let asker = Asker { edge: &edge, dialect, over_h2: false };
        for (model, stream) in [("h1", true), ("h1", false), ("h2", true), ("h2", false)] {
            let reply = asker.ask(model, stream, &[("x-sim-fault", "gzip")]).await;
            let readable = reply.header("content-encoding") == Some("gzip");
            let seen = asker.sees(stream, &reply);
            if !readable && !matches!(seen, Answer | Status(502)) {
                wrong.push(format!("{dialect:?} {model} stream={stream}: {seen:?}: {reply:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_stream_cut_inside_an_event_does_not_look_complete() {
    let (edge, _sim) = site().await;
    for dialect in Dialect::ALL {
        let asker = Asker { edge: &edge, dialect, over_h2: false };
        for model in ["h1", "h2"] {
            let reply = asker.ask(model, true, &[("x-sim-fault", "wrong_length=short")]).await;
            let seen = asker.sees(true, &reply);
            assert!(matches!(seen, Failing | Cut | BAD), "{dialect:?} {model}: {seen:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_credential_that_is_refused_is_the_gateways_fault() {
    let sim = sim(Config { api_key: Some("right".into()), ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "api_key: canary-wrong")).await;
    for dialect in Dialect::ALL {
        let asker = Asker { edge: &edge, dialect, over_h2: false };
        for stream in [true, false] {
            let reply = asker.ask("m", stream, &[]).await;
            assert_eq!(asker.sees(stream, &reply), BAD, "{reply:?}");
            assert!(!String::from_utf8_lossy(&reply.body).contains("canary"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_body_refused_before_it_was_sent_whole_is_refused_to_the_client() {
    let sim = sim(Config { max_body: 64 << 10, ..Config::default() }).await;
    let mut wrong = Vec::new();
    for http in ["1.1", "2"] {
        let edge = Edge::start(&cluster_of(&[sim.addr()], &format!("http: \"{http}\""))).await;
        for size in [100 << 10, 8 << 20] {
            let body = Dialect::Chat.ask("m", false).replace("Say something.", &"x".repeat(size));
            let reply = edge.connect().await.ask(&post(Dialect::Chat.path(), "", body)).await;
            if reply.status != 413 || Dialect::Chat.refusal(&reply).is_none() {
                wrong.push(format!("{size} bytes over HTTP/{http}: {reply:?}"));
            }
            edge.idle().await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_follows_a_reply_on_its_connection_is_nobodys_reply() {
    // The first reply is followed by another that nobody asked for.
    let surplus = [answer("mine"), answer("smuggled")].concat();
    let upstream = Scripted::start(move |asked| {
        Turn::Say(if asked.number == 0 { surplus.clone() } else { answer("mine") })
    })
    .await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], "")).await;
    for _ in 0..5 {
        let reply =
            edge.connect().await.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
        let said = &reply.json()["choices"][0]["message"]["content"];
        assert_eq!(said, "mine", "a client got what was left on a pooled connection");
    }
}
