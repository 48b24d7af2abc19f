//! Told to stop, the edge turns new work away in time, lets what runs come to its end, and is gone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::sim::{Config, EngineConfig, Sim};
use http::Request;

use crate::dialects::Dialect;
use crate::support::h2client::H2Client;
use crate::support::{Client, Edge, Reply, cluster_of, get, listener, post, sim, soon};

/// An edge whose upstream makes 200 tokens a second.
async fn site(server: &str) -> (Edge, Sim) {
    let engine = EngineConfig { decode_tps: Some(200.0), ..EngineConfig::default() };
    let sim = sim(Config { engine, ..Config::default() }).await;
    let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
    let config =
        [&listener("h2c: true"), &cluster_of(&[sim.addr()], ""), routes, &format!("server: {{{server}}}\n")];
    (Edge::start(&config.concat()).await, sim)
}

/// What the exit may take beyond what it has to wait for, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

async fn not_ready(edge: &Edge) {
    soon("not being ready", async { while edge.look("/health/ready").await.status != 503 {} }).await;
}

/// Waits until nobody listens any more.
async fn closed(edge: &Edge) {
    let refused = async || Client::try_connect(edge.addr).await.is_err();
    soon("the listener's end", async {
        while !refused().await {
            tokio::task::yield_now().await
        }
    })
    .await;
}

/// Waits for the exit, which must be an orderly one, and come soon after `since`.
async fn gone(edge: &mut Edge, since: Instant) {
    let status = edge.ended().await;
    let took = since.elapsed();
    assert_eq!(status.code(), Some(0), "{status}: {}", edge.said());
    assert!(took < SLACK, "it took {took:?}:\n{}", edge.said());
    assert!(edge.said().contains("\"stopped\""), "the last lines are written: {}", edge.said());
}

fn is_complete(reply: &Reply) -> bool {
    reply.status == 200 && reply.whole && String::from_utf8_lossy(&reply.body).contains("data: [DONE]")
}

fn stream(fields: &str) -> Vec<u8> {
    post(Dialect::Chat.path(), fields, Dialect::Chat.ask("m", true))
}

const LONG: &str = "x-sim-tokens: 200\r\n";
const ENDLESS: &str = "x-sim-fault: stall=3\r\nx-sim-text: canary sings\r\n";

#[tokio::test]
async fn an_idle_edge_is_gone_at_once() {
    for signal in ["TERM", "INT"] {
        let (mut edge, _sim) = site("lame_duck: 0s").await;
        // Connections that carry nothing are not waited for.
        let mut idle = edge.connect().await;
        assert_eq!(idle.ask(&get("/v1/models", "")).await.status, 200);
        let _fresh = edge.connect().await;
        let _h2 = H2Client::connect(edge.addr).await;
        let since = Instant::now();
        edge.signal(signal);
        gone(&mut edge, since).await;
    }
}

#[tokio::test]
async fn a_lame_duck_is_not_ready_and_still_serves() {
    let (mut edge, _sim) = site("lame_duck: 1s").await;
    let mut kept = edge.connect().await;
    assert_eq!(kept.ask(&get("/v1/models", "")).await.status, 200);
    let since = Instant::now();
    edge.signal("TERM");
    not_ready(&edge).await;
    let health = edge.look("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("stopping")));
    assert_eq!(edge.look("/health/live").await.status, 200);
    for mut client in [kept, edge.connect().await] {
        let reply = client.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
        assert!(reply.status == 200 && reply.whole, "{reply:?}");
        assert_eq!(
            reply.header("connection").map(str::to_ascii_lowercase).as_deref(),
            Some("close"),
            "{reply:?}"
        );
        assert_eq!(client.rest().await, b"");
    }
    closed(&edge).await;
    assert!(since.elapsed() >= Duration::from_secs(1), "the lame duck was cut short");
    gone(&mut edge, since + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_runs_comes_to_its_end() {
    let (mut edge, sim) = site("lame_duck: 0s").await;
    let mut one = edge.connect().await;
    one.send(&stream(LONG)).await;
    let mut raw = edge.connect().await;
    raw.send(&post("/raw/v1/chat/completions", LONG, Dialect::Chat.ask("m", true))).await;
    let mut whole = edge.connect().await;
    whole.send(&post(Dialect::Chat.path(), LONG, Dialect::Chat.ask("m", false))).await;
    let addr = edge.addr;
    let over_h2 = tokio::spawn(async move {
        let request =
            Request::post(format!("http://edge{}", Dialect::Chat.path())).header("x-sim-tokens", "200");
        let body = Bytes::from(Dialect::Chat.ask("m", true));
        H2Client::connect(addr).await.ask(request.body(body).unwrap()).await
    });
    sim.stats().wait_until(|stats| stats.active == 4, SLACK).await.unwrap();
    edge.signal("TERM");
    closed(&edge).await;
    assert_eq!(sim.stats().snapshot().active, 4, "all of them still run");
    let (one, raw, whole, over_h2) = tokio::join!(one.reply(), raw.reply(), whole.reply(), over_h2);
    let since = Instant::now();
    assert!(is_complete(&one) && is_complete(&raw), "{one:?} {raw:?}");
    assert!(whole.status == 200 && whole.whole, "{whole:?}");
    assert!(is_complete(&over_h2.unwrap()));
    gone(&mut edge, since).await;
    assert_eq!(sim.stats().snapshot().cancelled.total(), 0);
    for line in edge.accesses(4).await {
        assert_eq!((line["end"].as_str(), line["status"].as_u64()), (Some("--"), Some(200)), "{line}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_lame_duck_and_a_third_everything() {
    let (mut edge, sim) = site("lame_duck: 1h").await;
    let mut client = edge.connect().await;
    client.send(&stream(ENDLESS)).await;
    client.saw("canary").await;
    edge.signal("TERM");
    not_ready(&edge).await;
    assert!(Client::try_connect(edge.addr).await.is_ok(), "still accepting");
    edge.signal("TERM");
    closed(&edge).await;
    assert_eq!(sim.stats().snapshot().active, 1, "the stream still runs");
    let since = Instant::now();
    edge.signal("INT");
    gone(&mut edge, since).await;
    let reply = client.reply().await;
    assert!(!reply.whole, "what is cut must not look complete: {reply:?}");
    sim.stats().wait_until(|stats| stats.cancelled.total() == 1, SLACK).await.unwrap();
}

#[tokio::test]
async fn the_drain_has_a_limit() {
    let (mut edge, sim) = site("lame_duck: 0s, drain: 500ms").await;
    let mut client = edge.connect().await;
    client.send(&stream(ENDLESS)).await;
    client.saw("canary").await;
    let since = Instant::now();
    edge.signal("TERM");
    let reply = client.reply().await;
    assert!(!reply.whole, "what is cut must not look complete: {reply:?}");
    assert!(since.elapsed() >= Duration::from_millis(500), "it was cut before its time");
    gone(&mut edge, since + Duration::from_millis(500)).await;
    sim.stats().wait_until(|stats| stats.cancelled.total() == 1, SLACK).await.unwrap();
}

#[tokio::test]
async fn a_request_on_a_kept_connection_is_served_or_the_connection_closed_while_draining() {
    let (mut edge, sim) = site("lame_duck: 0s").await;
    let mut kept = edge.connect().await;
    assert_eq!(kept.ask(&get("/v1/models", "")).await.status, 200);
    let mut running = edge.connect().await;
    running.send(&stream(LONG)).await;
    sim.stats().wait_until(|stats| stats.active == 1, SLACK).await.unwrap();
    edge.signal("TERM");
    closed(&edge).await;
    let _ = kept.try_send(&get("/v1/models", "")).await;
    if let Some(reply) = kept.reply_or_end().await {
        assert!(reply.status == 200 && reply.whole, "{reply:?}");
    }
    assert!(is_complete(&running.reply().await));
    let since = Instant::now();
    gone(&mut edge, since).await;
}
