//! What one upstream alone knows goes back to it, ahead of every other choice, or nowhere.

use std::net::SocketAddr;

use forebay::sim::{Config, Sim};
use serde_json::{Value, json};

use crate::dialects::events;
use crate::support::{Edge, Reply, cluster_of, post, sim, soon};

const PATH: &str = "/v1/responses";

/// Two clusters for one model, each with a key of its own.
fn two(one: SocketAddr, other: SocketAddr) -> String {
    let cluster = |name: &str, address: SocketAddr| {
        format!(
            "  {name}: {{provider: simulator, endpoints: [\"http://{address}\"], health: {{check: none}}, api_key: \
             {name}-0123456789abcdef}}\n"
        )
    };
    format!(
        "clusters:\n{}{}models: {{\"*\": {{deployments: [{{cluster: east}}, {{cluster: west}}]}}}}\n",
        cluster("east", one),
        cluster("west", other)
    )
}

async fn sims() -> (Sim, Sim) {
    let with = |seed| sim(Config { seed, ..Config::default() });
    (with(1).await, with(2).await)
}

async fn ask(edge: &Edge, body: &Value) -> Reply {
    edge.connect().await.ask(&post(PATH, "", body.to_string())).await
}

fn first(stream: bool) -> Value {
    json!({"model": "m", "input": "Say something.", "stream": stream, "reasoning": {"effort": "low"}})
}

/// The response as the client has it in the end.
fn response(reply: &Reply) -> Value {
    assert!(reply.status == 200 && reply.whole, "{reply:?}");
    match serde_json::from_slice(&reply.body) {
        Ok(whole) => whole,
        Err(_) => events(&reply.body).pop().unwrap().1["response"].clone(),
    }
}

/// What a simulator was asked last.
fn last_asked(sim: &Sim) -> Value {
    serde_json::from_slice(&sim.requests().last().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_conversation_stays_with_whoever_keeps_it() {
    let (east, west) = sims().await;
    let edge = Edge::start(&two(east.addr(), west.addr())).await;
    let mut seen = [0; 2];
    for number in 0..12 {
        let stream = number % 2 == 0;
        let before = [&east, &west].map(|sim| sim.stats().snapshot().requests);
        let id = response(&ask(&edge, &first(stream)).await)["id"].as_str().unwrap().to_owned();
        let owner = usize::from(east.stats().snapshot().requests == before[0]);
        seen[owner] += 1;
        let keeps = [&east, &west][owner];
        for turn in 1..4 {
            let next = json!({"model": "m", "input": "Go on.", "previous_response_id": id, "stream": stream});
            response(&ask(&edge, &next).await);
            assert_eq!(keeps.stats().snapshot().requests, before[owner] + 1 + turn);
            let asked = last_asked(keeps)["previous_response_id"].as_str().unwrap().to_owned();
            assert!(
                id.starts_with(&asked) && id.len() > asked.len(),
                "{asked} is the upstream's own of {id}"
            );
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "the first of each goes anywhere: {seen:?}");
}

#[tokio::test]
async fn every_event_of_a_stream_names_the_same_response() {
    let (east, west) = sims().await;
    let edge = Edge::start(&two(east.addr(), west.addr())).await;
    let reply = ask(&edge, &first(true)).await;
    let events = events(&reply.body);
    let named = events.iter().filter_map(|(_, data)| data["response"]["id"].as_str());
    let ids: std::collections::BTreeSet<_> = named.collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(events.iter().any(|(_, data)| data["delta"].is_string()));
}

#[tokio::test]
async fn what_nobody_here_keeps_is_refused_and_nobody_is_asked() {
    let (east, west) = sims().await;
    let edge = Edge::start(&two(east.addr(), west.addr())).await;
    let id = response(&ask(&edge, &first(false)).await)["id"].as_str().unwrap().to_owned();
    let asked = || east.stats().snapshot().requests + west.stats().snapshot().requests;
    let before = asked();
    let mut forged = id.clone();
    let last = forged.pop();
    forged.push(if last == Some('A') { 'B' } else { 'A' });
    let moved = id.replacen("resp_", "resp_0", 1);
    for unknown in ["resp_123", forged.as_str(), moved.as_str()] {
        let body = json!({"model": "m", "input": "Go on.", "previous_response_id": unknown});
        let reply = ask(&edge, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!("previous_response_id")),
            "{reply:?}"
        );
    }
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn an_owner_that_is_down_is_not_replaced() {
    let (east, west) = sims().await;
    let config = format!("retry: {{attempts: 2, delay: 0s}}\n{}", two(east.addr(), west.addr()));
    let edge = Edge::start(&config).await;
    let id = soon("a response of the west", async {
        loop {
            let before = west.stats().snapshot().requests;
            let id = response(&ask(&edge, &first(false)).await)["id"].as_str().unwrap().to_owned();
            if west.stats().snapshot().requests > before {
                return id;
            }
        }
    })
    .await;
    west.shutdown().await;
    let before = east.stats().snapshot().requests;
    let reply = ask(&edge, &json!({"model": "m", "input": "Go on.", "previous_response_id": id})).await;
    assert!(reply.status >= 502, "{reply:?}");
    assert_eq!(east.stats().snapshot().requests, before, "it knows nothing of it");
    edge.idle().await;
}

#[tokio::test]
async fn of_a_clusters_nodes_the_one_that_has_it_is_asked() {
    let (one, other) = sims().await;
    let edge = Edge::start(&cluster_of(&[one.addr(), other.addr()], "balance: round_robin")).await;
    for _ in 0..6 {
        let before = one.stats().snapshot().requests;
        let id = response(&ask(&edge, &first(true)).await)["id"].as_str().unwrap().to_owned();
        let keeps = if one.stats().snapshot().requests > before { &one } else { &other };
        let kept = keeps.stats().snapshot().requests;
        for turn in 1..4 {
            response(
                &ask(&edge, &json!({"model": "m", "input": "Go on.", "previous_response_id": id})).await,
            );
            assert_eq!(keeps.stats().snapshot().requests, kept + turn);
        }
    }
}

#[tokio::test]
async fn a_lone_upstream_is_asked_as_it_is() {
    let sim = sim(Config::default()).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "")).await;
    let id = response(&ask(&edge, &first(true)).await)["id"].as_str().unwrap().to_owned();
    assert!(!id.contains("_fb1"), "{id}");
    let next = json!({"model": "m", "input": "Go on.", "previous_response_id": "resp_of_long_ago"});
    response(&ask(&edge, &next).await);
    assert_eq!(last_asked(&sim)["previous_response_id"], "resp_of_long_ago");
}
