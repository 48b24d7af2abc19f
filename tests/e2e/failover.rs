//! A failure of one upstream is none of the client's, as long as the client was told nothing.

use std::time::{Duration, Instant};

use forebay::sim::{Config, FaultRule, Sim};
use serde_json::json;

use crate::dialects::{Dialect, events};
use crate::support::{Edge, Reply, cluster_of, post, sim};

/// A simulator that fails every call in that way.
async fn failing(fault: &str) -> Sim {
    sim(Config {
        faults: vec![FaultRule { fault: fault.into(), ..FaultRule::default() }],
        ..Config::default()
    })
    .await
}

/// The first endpoint goes first, and stays in use however often it fails.
const IN_ORDER: &str = "balance: priority, ejection: {failures: 0}";

async fn ask(edge: &Edge, dialect: Dialect, stream: bool, fields: &str) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), fields, dialect.ask("m", stream))).await
}

fn requests(sim: &Sim) -> u64 {
    sim.stats().snapshot().requests
}

#[tokio::test]
async fn whatever_one_endpoint_does_wrong_the_next_makes_good() {
    for (fault, whole_too) in [
        ("refuse", true),
        ("reset_before_head", true),
        ("reset_after_head", true),
        ("garbage_head", true),
        ("status=408", true),
        ("status=500", true),
        ("status=502", true),
        ("status=503;retry_after=60", true),
        ("status=529", true),
        ("html=502", true),
        ("reset=0", true),
        ("cut=0", true),
        ("bad_chunk=0", true),
        ("wrong_length=short", true),
        ("gzip", true),
        ("stall=head", true),
        // Before the first content of a stream.
        ("error_event", false),
        ("empty_stream", false),
        ("stall=0", false),
    ] {
        let (bad, good) = (failing(fault).await, sim(Config::default()).await);
        let clocks = "clocks: {head: 300ms, first_token: 300ms}";
        let settings = format!("{IN_ORDER}, {clocks}");
        let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], &settings)).await;
        let mut count = 0;
        for dialect in Dialect::ALL {
            for stream in [true, false] {
                if !stream && !whole_too {
                    continue;
                }
                let reply = ask(&edge, dialect, stream, "").await;
                let right = match stream {
                    true => dialect.is_complete(&events(&reply.body)),
                    false => dialect.is_answer(&reply),
                };
                assert!(reply.status == 200 && reply.whole && right, "{fault} {dialect:?}: {reply:?}");
                count += 1;
            }
        }
        for line in edge.accesses(count).await {
            assert_eq!((&line["attempts"], &line["end"]), (&json!(2), &json!("--")), "{fault}: {line}");
        }
        assert_eq!(requests(&good), count as u64, "{fault}");
        edge.idle().await;
    }
}

#[tokio::test]
async fn what_is_the_clients_own_doing_is_asked_once() {
    let (bad, good) = (failing("status=400").await, sim(Config::default()).await);
    let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], IN_ORDER)).await;
    let reply = ask(&edge, Dialect::Chat, false, "").await;
    assert_eq!((reply.status, reply.header("x-should-retry")), (400, None), "{reply:?}");
    assert_eq!((requests(&bad), requests(&good)), (1, 0));
}

#[tokio::test]
async fn a_stream_that_has_said_something_is_not_begun_again() {
    let (bad, good) = (failing("cut=8").await, sim(Config::default()).await);
    let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], IN_ORDER)).await;
    for dialect in Dialect::ALL {
        let reply =
            ask(&edge, dialect, true, "x-sim-text: one two three four five six seven eight nine ten\r\n")
                .await;
        let events = events(&reply.body);
        assert!(reply.status == 200 && dialect.error_in(&events).is_some(), "{reply:?}");
    }
    assert_eq!(requests(&good), 0);
}

#[tokio::test]
async fn a_rate_is_a_models_at_a_cluster_and_another_deployment_takes_over() {
    let (limited, spare) = (failing("status=429;retry_after=30").await, sim(Config::default()).await);
    let cluster = |name: &str, sim: &Sim| {
        let addr = sim.addr();
        format!(
            "  {name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: none}}}}\n"
        )
    };
    let clusters = ["clusters:\n", &cluster("a", &limited), &cluster("b", &spare)].concat();
    let models = "models:\n  m: {deployments: [{cluster: a}, {cluster: b, priority: 1}]}\n  \
                  only: {deployments: [{cluster: a}]}\n";
    let edge = Edge::start(&(clusters + models)).await;
    for _ in 0..3 {
        assert_eq!(ask(&edge, Dialect::Chat, false, "").await.status, 200);
    }
    assert_eq!((requests(&limited), requests(&spare)), (1, 3), "it is left alone for as long as it asks");
    // Another alias has a rate of its own: the upstream is asked once, then the client told for how long.
    for asked in [2, 2] {
        let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("only", false));
        let reply = edge.connect().await.ask(&request).await;
        let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!(reply.status == 429 && (28..=30).contains(&wait), "{reply:?}");
        assert_eq!(requests(&limited), asked);
    }
}

#[tokio::test]
async fn where_no_other_place_is_left_the_same_is_asked_after_a_wait() {
    let bad = failing("status=500").await;
    let retry = "retry: {attempts: 3, delay: 100ms}\n";
    let edge = Edge::start(&(cluster_of(&[bad.addr()], IN_ORDER) + retry)).await;
    let reply = ask(&edge, Dialect::Chat, false, "").await;
    // The upstream's own words, and no invitation to multiply the attempts.
    assert_eq!((reply.status, reply.header("x-should-retry")), (500, Some("false")), "{reply:?}");
    assert_eq!(requests(&bad), 3);
    let line = edge.access(|_| true).await;
    assert_eq!(line["attempts"], 3, "{line}");
}

#[tokio::test]
async fn a_client_that_leaves_during_a_wait_ends_it() {
    let bad = failing("status=500;retry_after=4").await;
    let edge = Edge::start(&cluster_of(&[bad.addr()], IN_ORDER)).await;
    let mut client = edge.connect().await;
    client.send(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
    bad.stats().wait_until(|stats| stats.requests == 1, Duration::from_secs(10)).await.unwrap();
    let began = Instant::now();
    drop(client);
    let line = edge.access(|_| true).await;
    assert!(began.elapsed() < Duration::from_secs(3) && line["status"] == 499, "{line}");
    assert_eq!(requests(&bad), 1);
    edge.idle().await;
}

#[tokio::test]
async fn a_client_that_says_how_long_it_waits_is_answered_within_that() {
    let bad = failing("status=503;retry_after=3").await;
    let edge = Edge::start(&cluster_of(&[bad.addr()], IN_ORDER)).await;
    let began = Instant::now();
    let reply = ask(&edge, Dialect::Chat, false, "x-stainless-read-timeout: 2\r\n").await;
    assert!(began.elapsed() < Duration::from_secs(2) && reply.status == 503, "{reply:?}");
    assert_eq!(requests(&bad), 1, "an answer after that would be for nobody");
    let stalled = failing("stall=head").await;
    let edge = Edge::start(&cluster_of(&[stalled.addr()], IN_ORDER)).await;
    let reply = ask(&edge, Dialect::Chat, false, "x-stainless-timeout: 1\r\n").await;
    assert_eq!(reply.status, 504, "{reply:?}");
}

#[tokio::test]
async fn retries_make_no_storm() {
    let bad = failing("status=500").await;
    let edge = Edge::start(&(cluster_of(&[bad.addr()], IN_ORDER) + "retry: {delay: 0s}\n")).await;
    let mut client = edge.connect().await;
    for _ in 0..200 {
        let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false));
        assert_eq!(client.ask(&request).await.status, 500);
    }
    // A tenth more, and the ten that were saved.
    assert!((210..=231).contains(&requests(&bad)), "{}", requests(&bad));
}
