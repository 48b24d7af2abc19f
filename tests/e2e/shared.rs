//! Three edges that count limits together, in a real Redis.

use serde_json::json;
use tokio::task::JoinSet;

use crate::redis::Server;
use crate::support::{Edge, fleet, heard, post, sim, soon};

const KEYS: [(&str, &str); 3] = [
    ("ALICE", "key-of-alice-0123456789"),
    ("BOB", "key-of-bob-0123456789"),
    ("STORE", "canary-of-the-store"),
];
const ALICE: &str = "authorization: Bearer key-of-alice-0123456789\r\n";
const BOB: &str = "authorization: Bearer key-of-bob-0123456789\r\n";

/// How many of so many requests at once at each edge were served; the rest was answered with that status.
async fn served(edges: &[Edge], each: usize, (key, refused): (&'static str, u16)) -> usize {
    let mut clients = Vec::new();
    for edge in edges {
        for _ in 0..each {
            clients.push(edge.connect().await);
        }
    }
    let mut asked = JoinSet::new();
    for mut client in clients {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Well?"}], "max_tokens": 1});
        let request = post("/v1/chat/completions", key, body.to_string());
        asked.spawn(async move { client.ask(&request).await.status });
    }
    let answered = soon("every answer", asked.join_all()).await;
    let served = answered.iter().filter(|status| **status == 200).count();
    assert_eq!(
        answered.iter().filter(|status| **status == refused).count() + served,
        3 * each,
        "{answered:?}"
    );
    served
}

#[tokio::test]
async fn three_edges_serve_as_many_as_the_limit_says_and_their_shares_without_the_store() {
    let upstream = sim(forebay::sim::Config::default()).await;
    let mut server = Server::start(&["--requirepass", "canary-of-the-store"]);
    let config = format!(
        "{}store: {{redis: {{urls: [redis://127.0.0.1:{}], password: env:STORE, deadline: 2s, nodes: 3}}}}\n\
         keys:\n  alice: {{key: env:ALICE, limits: {{requests_per_day: 99, sharing: exact}}}}\n  \
         bob: {{key: env:BOB, limits: {{requests_per_day: 99, sharing: leased, outage: fail_closed}}}}\n",
        fleet(&upstream),
        server.port
    );
    let mut edges = Vec::new();
    for _ in 0..3 {
        let edge = Edge::start_with(&config, &KEYS).await;
        heard(&edge, "the shared store at", 1).await;
        edges.push(edge);
    }
    assert_eq!(served(&edges, 100, (ALICE, 429)).await, 99);
    server.kill();
    for edge in &edges {
        heard(edge, "the shared store fails", 1).await;
    }
    assert_eq!(served(&edges, 100, (ALICE, 429)).await, 99, "each lets through its share, once");
    assert_eq!(served(&edges, 5, (BOB, 503)).await, 0);
    for edge in &edges {
        assert_eq!(edge.metric("forebay_store_away").await, 1.0);
        assert!(!edge.said().contains("canary"), "{}", edge.said());
    }
}
