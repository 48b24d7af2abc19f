//! The clocks of an exchange: what is too slow is ended, and nobody waits in silence.

use std::time::{Duration, Instant};

use forebay::sim::{Config, EngineConfig, Sim};
use serde_json::Value;

use crate::dialects::{Dialect, events};
use crate::support::scripted::{Scripted, Turn};
use crate::support::{DEADLINE, Edge, ONE_TRY, Reply, cluster_of, listener, post, sim, soon};

async fn site(clocks: &str) -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let config = cluster_of(&[sim.addr()], &format!("clocks: {{{clocks}}}")) + ONE_TRY;
    (Edge::start(&config).await, sim)
}

async fn ask(edge: &Edge, dialect: Dialect, stream: bool, fault: &str) -> Reply {
    let fields = format!("x-sim-fault: {fault}\r\nx-sim-text: one two three four\r\n");
    edge.connect().await.ask(&post(dialect.path(), &fields, dialect.ask("m", stream))).await
}

/// Longer than any clock set here may take to strike, on a busy machine.
const LATE: Duration = Duration::from_secs(5);

/// Asks with that fault under that clock of 200 ms, in every dialect, and says how each exchange ended.
async fn struck(clock: &str, stream: bool, fault: &str) -> Vec<(Dialect, Reply, Value)> {
    let (edge, sim) = site(&format!("{clock}: 200ms, heartbeat: off")).await;
    let mut all = Vec::new();
    for dialect in Dialect::ALL {
        let began = Instant::now();
        let reply = tokio::time::timeout(LATE, ask(&edge, dialect, stream, fault)).await;
        let reply = reply.unwrap_or_else(|_| panic!("{clock} does not strike at {fault}"));
        let took = began.elapsed();
        assert!((Duration::from_millis(200)..LATE).contains(&took), "{clock} {fault}: after {took:?}");
        let operation = dialect.path();
        let line = edge.access(|line| line["path"] == operation).await;
        assert_eq!(line["attempts"], 1, "{line}");
        all.push((dialect, reply, line));
    }
    // What is too slow is not left to run on.
    sim.stats().wait_until(|stats| stats.cancelled.total() == 3, DEADLINE).await.unwrap();
    edge.idle().await;
    all
}

/// It is a status, since nothing was sent.
async fn refused(clock: &str, stream: bool, fault: &str, end: &str) {
    for (dialect, reply, line) in struck(clock, stream, fault).await {
        assert_eq!(
            (reply.status, line["end"].as_str()),
            (504, Some(end)),
            "{clock} {fault}: {reply:?} {line}"
        );
        assert!(dialect.refusal(&reply).is_some(), "{reply:?}");
    }
}

/// It is an event, since the stream had begun.
async fn told(clock: &str, fault: &str, end: &str) {
    for (dialect, reply, line) in struck(clock, true, fault).await {
        assert!(reply.status == 200 && reply.whole, "{reply:?}");
        assert_eq!(line["end"], end, "{clock} {fault}: {line}");
        let message = dialect.error_in(&events(&reply.body));
        assert!(message.is_some_and(|message| message.contains("upstream")), "{clock} {fault}: {reply:?}");
    }
}

// === Each clock ===

#[tokio::test]
async fn a_head_that_does_not_come_is_a_504() {
    refused("head", false, "stall=head", "uH").await;
    refused("head", true, "stall=head", "uH").await;
}

#[tokio::test]
async fn a_first_token_that_does_not_come_is_a_504_while_nothing_was_sent() {
    refused("first_token", true, "stall=head", "uH").await;
    refused("first_token", true, "stall=0", "uT").await;
}

#[tokio::test]
async fn events_without_content_are_no_first_token() {
    // And nothing of them is sent, so that another upstream could still take over.
    refused("first_token", true, "stall=1", "uT").await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_an_error() {
    told("gap", "stall=5", "uD").await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_after_a_slow_start_ends_with_an_error() {
    told("gap", "stall=1,150;stall=5", "uD").await;
}

#[tokio::test]
async fn a_whole_reply_that_falls_silent_is_a_504() {
    refused("gap", false, "stall=1", "uT").await;
}

#[tokio::test]
async fn attempts_and_exchanges_end_however_lively_they_are() {
    let engine = EngineConfig { decode_tps: Some(100.0), ..EngineConfig::default() };
    let sim = sim(Config { engine, ..Config::default() }).await;
    for clock in ["attempt", "exchange"] {
        let config = cluster_of(&[sim.addr()], &format!("clocks: {{{clock}: 300ms}}")) + ONE_TRY;
        let edge = Edge::start(&config).await;
        for (stream, status) in [(true, 200), (false, 504)] {
            let fields = "x-sim-tokens: 100000\r\n";
            let reply = edge
                .connect()
                .await
                .ask(&post(Dialect::Chat.path(), fields, Dialect::Chat.ask("m", stream)))
                .await;
            assert_eq!(reply.status, status, "{clock}: {reply:?}");
            if stream {
                assert!(Dialect::Chat.error_in(&events(&reply.body)).unwrap().contains("took too long"));
            }
        }
        let ends: Vec<Value> = edge.accesses(2).await.iter().map(|line| line["end"].clone()).collect();
        assert_eq!(ends, ["uD", "uH"], "{clock}");
    }
    sim.stats().wait_until(|stats| stats.cancelled.total() == 4, DEADLINE).await.unwrap();
}

/// A client asks for more than all the buffers on the way hold, and reads nothing.
async fn reads_nothing(config: &str, sim: &Sim) {
    let edge = Edge::start(config).await;
    let mut client = edge.connect().await;
    let fields = "x-sim-fault: huge_event=50000000\r\n";
    client.send(&post(Dialect::Chat.path(), fields, Dialect::Chat.ask("m", true))).await;
    let dropped = sim.stats().wait_until(|stats| stats.cancelled.total() == 1, LATE).await;
    assert!(dropped.is_ok(), "a client that reads nothing is served for ever: {dropped:?}");
    let line = edge.access(|_| true).await;
    assert!(line["end"].as_str().unwrap().to_ascii_lowercase().starts_with('c'), "{line}");
    edge.idle().await;
    drop(client);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let sim = sim(Config::default()).await;
    reads_nothing(&[&cluster_of(&[sim.addr()], ""), "clocks: {client_write: 300ms}\n"].concat(), &sim).await;
}

#[tokio::test]
async fn an_http2_client_that_does_not_read_is_dropped() {
    let sim = sim(Config::default()).await;
    let cluster = cluster_of(&[sim.addr()], "");
    let edge =
        Edge::start(&[&listener("h2c: true"), cluster.as_str(), "clocks: {client_write: 300ms}\n"].concat())
            .await;
    let stream = tokio::net::TcpStream::connect(edge.addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://edge{}", Dialect::Chat.path()))
        .header("x-sim-fault", "huge_event=1000000")
        .body(())
        .unwrap();
    let (response, mut upload) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    upload.send_data(Dialect::Chat.ask("m", true).into(), true).unwrap();
    // Its window is never opened again.
    let reply = soon("a head", response).await.unwrap();
    let line = tokio::time::timeout(LATE, edge.access(|_| true)).await;
    let line = line.expect("a client that reads nothing is served for ever");
    assert!(line["end"].as_str().unwrap().to_ascii_lowercase().starts_with('c'), "{line}");
    edge.idle().await;
    drop((reply, connection));
}

#[tokio::test]
async fn a_clusters_own_client_write_clock_holds() {
    let sim = sim(Config::default()).await;
    reads_nothing(&cluster_of(&[sim.addr()], "clocks: {client_write: 300ms}"), &sim).await;
}

#[tokio::test]
async fn the_most_specific_clock_holds() {
    let sim = sim(Config::default()).await;
    let cluster = |name: &str, clocks: &str| {
        format!(
            "  {name}: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}, clocks: {{{clocks}}}}}\n",
            sim.addr()
        )
    };
    let edge = Edge::start(&format!(
        "clocks: {{head: 150ms}}\nclusters:\n{}{}\
         models: {{a: {{deployments: [{{cluster: a}}]}}, b: {{deployments: [{{cluster: b}}]}}, \
         own: {{deployments: [{{cluster: b}}], clocks: {{head: 900ms}}}}}}\n\
         routes: [{{name: plain}}, {{name: slow, path: /slow, clocks: {{head: 600ms}}}}]\n{ONE_TRY}",
        cluster("a", ""),
        cluster("b", "head: 350ms"),
    ))
    .await;
    let took = async |base: &str, model: &str| {
        let path = format!("{base}{}", Dialect::Chat.path());
        let request = post(&path, "x-sim-fault: stall=head\r\n", Dialect::Chat.ask(model, false));
        let began = Instant::now();
        assert_eq!(edge.connect().await.ask(&request).await.status, 504);
        began.elapsed().as_millis()
    };
    // Each is longer than all that it goes before: that it was waited for proves that it holds.
    let (global, cluster, route, model) =
        tokio::join!(took("", "a"), took("", "b"), took("/slow", "b"), took("/slow", "own"));
    assert!((150..350).contains(&global), "global: {global} ms");
    for (level, took, least) in [("cluster", cluster, 350), ("route", route, 600), ("model", model, 900)] {
        assert!((least..least + 4000).contains(&took), "{level}: {took} ms");
    }
}

// === Heartbeats ===

const BEAT: &str = "heartbeat: 100ms";

fn beat(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Dialect::Chat | Dialect::Responses => ": keep-alive\n\n",
    }
}

/// The body without its heartbeats, and how many they were.
fn without_beats(dialect: Dialect, reply: &Reply) -> (String, usize) {
    let text = String::from_utf8(reply.body.clone()).unwrap();
    (text.replace(beat(dialect), ""), text.matches(beat(dialect)).count())
}

#[tokio::test]
async fn a_silent_stream_is_kept_awake_before_and_between_tokens_and_stays_as_it_is() {
    let (edge, _sim) = site(BEAT).await;
    for dialect in Dialect::ALL {
        let plain = ask(&edge, dialect, true, "").await;
        assert_eq!(without_beats(dialect, &plain).1, 0, "a lively stream needs none");
        for fault in ["stall=head,550", "stall=0,550", "stall=1,550", "stall=5,550"] {
            let reply = ask(&edge, dialect, true, fault).await;
            assert!(reply.status == 200 && reply.whole, "{reply:?}");
            assert_eq!(
                reply.header("content-type").map(|media| media.starts_with("text/event-stream")),
                Some(true)
            );
            let (text, beats) = without_beats(dialect, &reply);
            assert!((3..=6).contains(&beats), "{dialect:?} {fault}: {beats} in {reply:?}");
            let events = events(text.as_bytes());
            assert!(dialect.is_complete(&events) && dialect.error_in(&events).is_none(), "{fault}: {text}");
            assert_eq!(events.len(), self::events(&plain.body).len(), "{fault}: {text}");
        }
    }
}

#[tokio::test]
async fn a_whole_reply_gets_no_heartbeat_and_neither_does_a_stream_where_they_are_off() {
    let (edge, _sim) = site(BEAT).await;
    let reply = ask(&edge, Dialect::Chat, false, "stall=head,350").await;
    assert!(Dialect::Chat.is_answer(&reply), "{reply:?}");
    let (edge, _sim) = site("heartbeat: off").await;
    for fault in ["stall=head,350", "stall=3,350"] {
        let reply = ask(&edge, Dialect::Chat, true, fault).await;
        assert_eq!(without_beats(Dialect::Chat, &reply).1, 0, "{reply:?}");
    }
}

#[tokio::test]
async fn a_failure_after_a_heartbeat_is_an_event() {
    let (edge, _sim) = site(BEAT).await;
    for dialect in Dialect::ALL {
        for failure in
            ["status=500", "status=429", "html", "reset_after_head", "empty_stream", "close_delimited;cut=0"]
        {
            let reply = ask(&edge, dialect, true, &format!("stall=head,250;{failure}")).await;
            assert!(reply.status == 200 && reply.whole, "{failure}: {reply:?}");
            let (text, beats) = without_beats(dialect, &reply);
            let message = dialect.error_in(&events(text.as_bytes()));
            assert!(beats >= 1 && message.is_some(), "{dialect:?} {failure}: {text}");
        }
    }
    edge.idle().await;
}

#[tokio::test]
async fn heartbeats_reset_no_clock() {
    for (clock, fault, end) in [
        ("head", "stall=head", "uH"),
        ("first_token", "stall=head", "uH"),
        ("first_token", "stall=0", "uT"),
        ("first_token", "stall=1", "uT"),
        ("gap", "stall=5", "uD"),
    ] {
        let (edge, _sim) = site(&format!("heartbeat: 100ms, {clock}: 350ms")).await;
        for dialect in Dialect::ALL {
            let began = Instant::now();
            let reply = soon("the end of a stalled stream", ask(&edge, dialect, true, fault)).await;
            let took = began.elapsed();
            assert!((Duration::from_millis(350)..LATE).contains(&took), "{clock} {fault}: {took:?}");
            let (text, beats) = without_beats(dialect, &reply);
            assert!(reply.status == 200 && reply.whole && beats >= 2, "{clock} {fault}: {reply:?}");
            assert!(dialect.error_in(&events(text.as_bytes())).is_some(), "{clock} {fault}: {text}");
        }
        for line in edge.accesses(3).await {
            assert_eq!(line["end"], end, "{clock} {fault}: {line}");
        }
    }
}

#[tokio::test]
async fn no_heartbeat_comes_inside_an_event() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    const STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\
        \"role\":\"assistant\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"one\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
        \"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let first = STREAM.find("\n\n").unwrap() + 2;
    // Inside a line, at the end of one, and between the two line ends of an event.
    for split in [first + 30, first + 27, first - 1] {
        let (start, rest) = STREAM.split_at(split);
        let pieces = vec![[HEAD, start].concat(), rest.to_owned()];
        let upstream =
            Scripted::start(move |_| Turn::Pieces(pieces.clone(), Duration::from_millis(400))).await;
        let edge = Edge::start(&cluster_of(&[upstream.addr], "clocks: {heartbeat: 100ms}")).await;
        let reply =
            edge.connect().await.ask(&post("/v1/messages", "", Dialect::Messages.ask("m", true))).await;
        assert!(reply.whole, "{reply:?}");
        assert_eq!(String::from_utf8_lossy(&reply.body), STREAM, "split at {split}");
    }
}
