//! What is tried again, and what must not be.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use forebay::sim::{Config, EngineConfig, FaultRule, Sim};

use crate::dialects::Dialect;
use crate::support::scripted::{Scripted, Turn, answer};
use crate::support::{Client, DEADLINE, Edge, ONE_TRY, Reply, cluster_of, post, sim};

/// An address that nobody listens at.
fn dead() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

async fn ask(edge: &Edge, dialect: Dialect, fields: &str) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), fields, dialect.ask("m", false))).await
}

const IN_ORDER: &str = "balance: priority, breaker: {failures: 0, failure_rate: 0}";

// === Nobody there ===

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let sim = sim(Config::default()).await;
    let edge = Edge::start(&cluster_of(&[dead(), sim.addr()], IN_ORDER)).await;
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            let reply = edge.connect().await.ask(&post(dialect.path(), "", dialect.ask("m", stream))).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }
    for line in edge.accesses(6).await {
        assert_eq!((line["attempts"].as_u64(), line["end"].as_str()), (Some(2), Some("--")), "{line}");
        assert_eq!(line["endpoint"], format!("http://{}", sim.addr()), "{line}");
    }
    assert_eq!(sim.stats().snapshot().requests, 6);
    edge.idle().await;
}

#[tokio::test]
async fn where_all_are_dead_each_is_tried_once_and_the_client_told_in_its_dialect() {
    let edge = Edge::start(&cluster_of(&[dead(), dead()], "breaker: {failures: 0, failure_rate: 0}")).await;
    for dialect in Dialect::ALL {
        let reply = ask(&edge, dialect, "").await;
        let status = if dialect == Dialect::Messages { 500 } else { 502 };
        assert_eq!(reply.status, status, "{reply:?}");
        let said = dialect.refusal(&reply).unwrap();
        assert!(said.contains("cannot be reached") && !said.contains("127.0.0.1"), "{said}");
    }
    for line in edge.accesses(3).await {
        assert_eq!((line["attempts"].as_u64(), line["end"].as_str()), (Some(2), Some("UC")), "{line}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn the_next_deployment_follows_a_dead_cluster() {
    let spare = sim(Config::default()).await;
    let edge = Edge::start(&format!(
        "clusters:\n  first: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}\n  \
         spare: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}\n\
         models: {{m: {{deployments: [{{cluster: first, model: a}}, {{cluster: spare, model: b, priority: 1}}]}}}}\n",
        dead(),
        spare.addr()
    ))
    .await;
    let reply = ask(&edge, Dialect::Chat, "").await;
    assert_eq!((reply.status, &reply.json()["model"]), (200, &"b".into()), "{reply:?}");
    let line = edge.access(|_| true).await;
    assert_eq!((line["attempts"].as_u64(), line["cluster"].as_str()), (Some(2), Some("spare")), "{line}");
}

#[tokio::test]
async fn attempts_are_bounded() {
    let sim = sim(Config::default()).await;
    let config = [&cluster_of(&[dead(), sim.addr()], IN_ORDER), "retry: {attempts: 1}\n"].concat();
    let edge = Edge::start(&config).await;
    assert_eq!(ask(&edge, Dialect::Chat, "").await.status, 502);
    assert_eq!(edge.access(|_| true).await["attempts"], 1);
    assert_eq!(sim.stats().snapshot().requests, 0);
}

// === Connections that were closed in the pool ===

/// Pauses around the time after which the upstream closes an idle connection.
const PAUSES: [u64; 8] = [0, 22, 23, 24, 25, 26, 27, 30];

#[tokio::test]
async fn connections_that_the_upstream_closes_idle_are_no_clients_trouble() {
    let sim = sim(Config { keep_alive_ms: Some(25), ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "")).await;
    let mut client = edge.connect().await;
    for number in 0..64 {
        let reply = client.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
        assert_eq!(reply.status, 200, "request {number}: {reply:?}");
        tokio::time::sleep(Duration::from_millis(PAUSES[number % PAUSES.len()])).await;
    }
    let stats = sim.stats().snapshot();
    assert_eq!((stats.requests, stats.completed), (64, 64), "each was taken once");
    assert!(stats.connections_accepted > 1, "the upstream closed some: {stats:?}");
}

#[tokio::test]
async fn connections_that_carry_few_requests_are_no_clients_trouble() {
    let sim = sim(Config { keep_alive_requests: Some(3), ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "")).await;
    let mut client = edge.connect().await;
    for number in 0..60 {
        let stream = number % 2 == 0;
        let reply = client.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", stream))).await;
        assert!(reply.status == 200 && reply.whole, "request {number}: {reply:?}");
    }
    let stats = sim.stats().snapshot();
    assert_eq!((stats.requests, stats.connections_accepted), (60, 20));
}

#[tokio::test]
async fn connections_that_are_closed_without_a_word_are_no_clients_trouble() {
    let upstream = Scripted::start(|_| Turn::SayAndClose(answer("mine"))).await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], "")).await;
    let mut client = edge.connect().await;
    for number in 0..100 {
        let reply = client.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
        assert_eq!(reply.status, 200, "request {number}: {reply:?}");
    }
    assert_eq!(upstream.received().len(), 100);
}

#[tokio::test]
async fn connections_that_died_in_the_pool_do_not_use_up_the_attempts() {
    // Six at once leave six connections in the pool, each of which breaks at its next use.
    let upstream = Scripted::start(|asked| match asked.turn {
        0 => Turn::SayAfter(Duration::from_millis(200), answer("mine")),
        _ => Turn::CloseAfter(Duration::ZERO),
    })
    .await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], "breaker: {failures: 0, failure_rate: 0}")).await;
    let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false));
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = edge.connect().await;
        client.send(&request).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    let reply = ask(&edge, Dialect::Chat, "").await;
    assert_eq!(reply.status, 200, "a new connection would have done: {reply:?}");
}

#[tokio::test]
async fn many_connections_that_are_closed_together_are_no_clients_trouble() {
    let sim = sim(Config { keep_alive_ms: Some(25), ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "")).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let addr = edge.addr;
        clients.spawn(async move {
            let mut connection = Client::try_connect(addr).await.unwrap();
            for number in 0..32 {
                let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", number % 2 == 0));
                let reply = connection.ask(&request).await;
                if reply.status != 200 || !reply.whole {
                    return Some(format!("client {client}, request {number}: {reply:?}"));
                }
                tokio::time::sleep(Duration::from_millis(PAUSES[number % PAUSES.len()])).await;
            }
            None
        });
    }
    if let Some(trouble) = clients.join_all().await.into_iter().flatten().next() {
        panic!("{trouble}\n{}", edge.access(|line| line["status"] != 200).await);
    }
    assert_eq!(sim.stats().snapshot().completed, 8 * 32);
}

#[tokio::test]
async fn an_upstream_that_starts_anew_is_no_clients_trouble() {
    let engine = EngineConfig { prefill_tps: Some(100.0), ..EngineConfig::default() };
    let before = sim(Config { engine, ..Config::default() }).await;
    let addr = before.addr();
    let edge = Edge::start(&cluster_of(&[addr], "breaker: {failures: 0, failure_rate: 0}")).await;
    let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false));
    // Twelve at once leave twelve connections in the pool.
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = edge.connect().await;
        client.send(&request).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    assert!(before.stats().snapshot().connections_open >= 6);
    before.shutdown().await;
    let after = Sim::start(Config::default(), addr).await.unwrap();
    for client in &mut clients {
        let reply = client.ask(&request).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(after.stats().snapshot().completed, 12);
}

/// An HTTP/2 upstream that ends each connection politely after three requests, as load balancers do.
async fn polite() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut served = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let body = answer("mine");
                    let start = body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                    let head = http::Response::builder()
                        .header("content-type", "application/json")
                        .body(())
                        .unwrap();
                    let mut stream = respond.send_response(head, false).unwrap();
                    stream.send_data(bytes::Bytes::copy_from_slice(&body[start..]), true).unwrap();
                    served += 1;
                    if served == 3 {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn an_http2_connection_that_is_ended_politely_is_no_clients_trouble() {
    let edge = Edge::start(&cluster_of(&[polite().await], "http: \"2\"")).await;
    let mut client = edge.connect().await;
    for number in 0..60 {
        let reply = client.ask(&post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))).await;
        if reply.status != 200 {
            panic!("request {number}: {reply:?}\n{}", edge.access(|line| line["status"] != 200).await);
        }
    }
    edge.idle().await;
}

#[tokio::test]
async fn an_http2_connection_whose_peer_has_vanished_is_found_out_while_clients_come_and_go() {
    let rule = FaultRule { fault: "vanish".into(), first: Some(1), ..FaultRule::default() };
    let sim = sim(Config { faults: vec![rule], ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "http: \"2\"")).await;
    let request = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false));
    // The first client leaves long before a clock runs out, which says nothing of the upstream.
    let mut impatient = edge.connect().await;
    impatient.send(&request).await;
    sim.stats().wait_until(|stats| stats.requests == 1, DEADLINE).await.unwrap();
    drop(impatient);
    // The second comes onto the same connection, and is given another as soon as that is seen to be dead.
    let reply = ask(&edge, Dialect::Chat, "").await;
    assert_eq!((reply.status, sim.stats().snapshot().requests), (200, 2), "{reply:?}");
    let line = edge.access(|line| line["status"] == 200).await;
    assert_eq!((&line["attempts"], &line["passed"]), (&2.into(), &"sim: broken".into()), "{line}");
    edge.idle().await;
}

// === Requests that were taken ===

#[tokio::test]
async fn a_request_that_was_taken_on_a_new_connection_is_not_sent_again() {
    let sims = [sim(Config::default()).await, sim(Config::default()).await];
    let edge = Edge::start(&(cluster_of(&[sims[0].addr(), sims[1].addr()], IN_ORDER) + ONE_TRY)).await;
    for (fault, requests) in [("reset_before_head", 1), ("refuse", 2), ("garbage_head", 3)] {
        let reply = ask(&edge, Dialect::Chat, &format!("x-sim-fault: {fault}\r\n")).await;
        assert_eq!(reply.status, 502, "{fault}: {reply:?}");
        assert_eq!(sims[0].stats().snapshot().requests, requests, "{fault}");
    }
    assert_eq!(sims[1].stats().snapshot().requests, 0, "nor anywhere else");
}

#[tokio::test]
async fn a_request_that_was_worked_on_over_a_pooled_connection_is_not_sent_again() {
    // The second request is taken on the connection of the first, worked on for a while, and lost with its worker.
    let upstream = Scripted::start(|asked| match asked.number {
        0 => Turn::Say(answer("first")),
        1 => Turn::CloseAfter(Duration::from_millis(400)),
        _ => Turn::Say(answer("again")),
    })
    .await;
    let edge = Edge::start(&(cluster_of(&[upstream.addr], "") + ONE_TRY)).await;
    assert_eq!(ask(&edge, Dialect::Chat, "").await.status, 200);
    let reply = ask(&edge, Dialect::Chat, "").await;
    assert_eq!((reply.status, upstream.received().len()), (502, 2), "it may have been billed: {reply:?}");
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_not_asked_for_again_where_that_is_off() {
    let sims = [sim(Config::default()).await, sim(Config::default()).await];
    let edge = Edge::start(&(cluster_of(&[sims[0].addr(), sims[1].addr()], IN_ORDER) + ONE_TRY)).await;
    for status in [400, 429, 500, 503] {
        let reply = ask(&edge, Dialect::Chat, &format!("x-sim-fault: status={status}\r\n")).await;
        assert_eq!(reply.status, status);
    }
    assert_eq!(sims.map(|sim| sim.stats().snapshot().requests), [4, 0]);
}
