//! A failure of one upstream is none of the client's, as long as the client was told nothing.

use std::time::{Duration, Instant};

use forebay::sim::{Config, FaultRule, Sim};
use serde_json::json;

use crate::dialects::{Dialect, events};
use crate::support::scripted::{Scripted, Turn};
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
const IN_ORDER: &str = "balance: priority, breaker: {failures: 0, failure_rate: 0}";

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
            "  {name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: none}}, api_key: k-0123456789abcdef}}\n"
        )
    };
    let clusters = ["clusters:\n", &cluster("a", &limited), &cluster("b", &spare)].concat();
    let models = "models:\n  m: {deployments: [{cluster: a}, {cluster: b, priority: 1}]}\n  \
                  only: {deployments: [{cluster: a}]}\n  same: {deployments: [{cluster: a, model: m}]}\n";
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
        assert!(reply.status == 429 && (28..=33).contains(&wait), "{reply:?}");
        assert_eq!(requests(&limited), asked);
    }
    // Another name for the same model there has the same rate.
    let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("same", false));
    assert_eq!(edge.connect().await.ask(&request).await.status, 429);
    assert_eq!(requests(&limited), 2);
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

/// Two clusters, the second of which goes in for the first.
async fn with_spare(first: &Sim, spare: &Sim, more: &str) -> Edge {
    let cluster = |name: &str, sim: &Sim| {
        let addr = sim.addr();
        format!(
            "  {name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: none}}}}\n"
        )
    };
    let clusters = ["clusters:\n", &cluster("a", first), &cluster("b", spare)].concat();
    let models = "models:\n  m: {deployments: [{cluster: a}, {cluster: b, priority: 1}]}\n";
    Edge::start(&(clusters + models + more)).await
}

#[tokio::test]
async fn a_spare_takes_over_for_as_long_as_the_first_fails() {
    for fault in ["status=500", "status=401"] {
        let (bad, good) = (failing(fault).await, sim(Config::default()).await);
        let edge = with_spare(&bad, &good, "").await;
        let mut client = edge.connect().await;
        for number in 0..40 {
            let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false));
            assert_eq!(client.ask(&request).await.status, 200, "{fault}: request {number}");
        }
        assert_eq!(requests(&good), 40);
    }
}

#[tokio::test]
async fn an_impatient_client_sets_no_endpoint_aside() {
    let slow = [failing("stall=head,400").await, failing("stall=head,400").await];
    let addresses = [slow[0].addr(), slow[1].addr()];
    let edge = Edge::start(&cluster_of(&addresses, "breaker: {failures: 2}")).await;
    for _ in 0..8 {
        assert_eq!(ask(&edge, Dialect::Chat, false, "x-stainless-timeout: 0.05\r\n").await.status, 504);
    }
    assert_eq!(ask(&edge, Dialect::Chat, false, "").await.status, 200);
    let snapshot = edge.look("/snapshot").await.json().to_string();
    assert!(!snapshot.contains("\"state\":\"open\""), "{snapshot}");
}

#[tokio::test]
async fn a_status_counts_though_its_body_breaks_off() {
    let error = |status: u16, fields: &str| {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{fields}");
        (head + "content-length: 100\r\n\r\n{\"error\":").into_bytes()
    };
    let (bad, limited) = (error(400, ""), error(429, "retry-after: 60\r\n"));
    let upstream = Scripted::start(move |asked| {
        Turn::SayAndClose(if asked.text.contains("limited") { limited.clone() } else { bad.clone() })
    })
    .await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], IN_ORDER)).await;
    let reply = ask(&edge, Dialect::Chat, false, "").await;
    assert_eq!((reply.status, upstream.received().len()), (400, 1), "{reply:?}");
    let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("limited", false));
    let reply = edge.connect().await.ask(&request).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("60")), "{reply:?}");
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn an_error_event_of_the_clients_own_making_is_asked_once() {
    let upstream = Scripted::start(|_| {
        let event =
            "data: {\"error\":{\"message\":\"prompt is too long\",\"code\":\"context_length_exceeded\"}}\n\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        Turn::SayAndClose([head, event].concat().into_bytes())
    })
    .await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], IN_ORDER)).await;
    let reply = ask(&edge, Dialect::Chat, true, "").await;
    assert!(reply.status == 200 && Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    assert_eq!(upstream.received().len(), 1);
    // The log says so, though the reply passed as it was.
    let line = edge.access(|_| true).await;
    assert!(line["error"].as_str().unwrap().contains("context_length_exceeded"), "{line}");
}

#[tokio::test]
async fn a_deployment_that_cannot_be_asked_so_is_passed_over() {
    let (bad, spare) = (failing("status=503").await, sim(Config::default()).await);
    let more = "routes: [{name: default, path: /, loss: strict}]\nretry: {attempts: 2, delay: 0s}\n";
    let config = |speaks: &str| {
        format!(
            "clusters:\n  a: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}\n  \
             b: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}, speaks: [{speaks}]}}\n\
             models:\n  m: {{deployments: [{{cluster: a}}, {{cluster: b, priority: 1}}]}}\n{more}",
            bad.addr(),
            spare.addr()
        )
    };
    let body = json!({"model": "m", "logit_bias": {"1": 2}, "messages": [{"role": "user", "content": "x"}]});
    let request = post(Dialect::Chat.path(), "", body.to_string());
    let edge = Edge::start(&config("messages")).await;
    let reply = edge.connect().await.ask(&request).await;
    assert_eq!(reply.status, 503, "the upstream's failure, not what another could not be asked: {reply:?}");
    assert_eq!(requests(&spare), 0);
    let edge = Edge::start(&config("chat_completions")).await;
    assert_eq!(edge.connect().await.ask(&request).await.status, 200);
}

#[tokio::test]
async fn a_node_of_ones_own_is_limited_for_itself_and_a_clouds_endpoints_share_one_rate() {
    for (provider, asked) in [("simulator", [1, 5]), ("openai", [1, 0])] {
        let (limited, well) = (failing("status=429;retry_after=30").await, sim(Config::default()).await);
        let config = format!(
            "clusters:\n  sim: {{provider: {provider}, api_key: env:KEY, balance: priority, health: {{check: none}}, \
             http: \"1.1\", endpoints: [{{url: \"http://{}\"}}, {{url: \"http://{}\", priority: 1}}]}}\n\
             models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\nanonymous: true\n",
            limited.addr(),
            well.addr()
        );
        let edge = Edge::start_with(&config, &[("KEY", "a-key-0123456789")]).await;
        for _ in 0..5 {
            let reply = ask(&edge, Dialect::Chat, false, "").await;
            assert_eq!(reply.status, if provider == "simulator" { 200 } else { 429 }, "{reply:?}");
        }
        assert_eq!([requests(&limited), requests(&well)], asked, "{provider}");
    }
}

#[tokio::test]
async fn a_streams_client_is_kept_awake_during_a_wait() {
    let bad = failing("status=429;retry_after=2").await;
    let settings = format!("{IN_ORDER}, clocks: {{heartbeat: 300ms}}");
    let edge = Edge::start(&(cluster_of(&[bad.addr()], &settings) + "clocks: {heartbeat: 300ms}\n")).await;
    let reply = ask(&edge, Dialect::Chat, true, "").await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(
        text.starts_with(": keep-alive") && Dialect::Chat.error_in(&events(&reply.body)).is_some(),
        "{text}"
    );
    edge.idle().await;
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
