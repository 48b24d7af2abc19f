//! What keeps failing is left alone, and real requests find out when it is well again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use serde_json::Value;

use crate::dialects::Dialect;
use crate::support::edge::endpoints;
use crate::support::scripted::{Scripted, Turn, answer, json};
use crate::support::{DEADLINE, Edge, cluster_of, heard, post, soon};

/// A node that answers with its name, or fails in its way, as it is told.
struct Node {
    node: Scripted,
    mood: Arc<AtomicU8>,
}

const WELL: u8 = 0;
const SICK: u8 = 1;
const MUTE: u8 = 2;
const REFUSES: u8 = 3;
const OUT_OF_QUOTA: u8 = 4;

impl Node {
    async fn start(name: &'static str) -> Self {
        let mood = Arc::new(AtomicU8::new(WELL));
        let feels = Arc::clone(&mood);
        let node = Scripted::start(move |_| match feels.load(SeqCst) {
            WELL => Turn::Say(answer(name)),
            SICK => Turn::Say(json(500, "{\"error\":{\"message\":\"sick\"}}")),
            MUTE => Turn::CloseAfter(DEADLINE),
            REFUSES => Turn::Say(json(401, "{\"error\":{\"message\":\"who are you\"}}")),
            _ => Turn::Say(json(
                429,
                "{\"error\":{\"message\":\"you exceeded your current quota\",\"code\":\"insufficient_quota\"}}",
            )),
        })
        .await;
        Self { node, mood }
    }

    fn feels(&self, mood: u8) {
        self.mood.store(mood, SeqCst);
    }

    fn addr(&self) -> SocketAddr {
        self.node.addr
    }

    fn asked(&self) -> usize {
        self.node.received().len()
    }
}

fn request() -> Vec<u8> {
    post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", false))
}

/// Who answers; the client must see nothing of any failure.
async fn who(edge: &Edge) -> String {
    let reply = edge.connect().await.ask(&request()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// Asks until the node was asked so often.
async fn ask_until(edge: &Edge, node: &Node, count: usize) {
    soon("its try", async {
        while node.asked() < count {
            who(edge).await;
        }
    })
    .await;
    assert_eq!(node.asked(), count);
}

fn breaker(snapshot: &Value, addr: SocketAddr) -> Value {
    let name = format!("http://{addr}");
    endpoints(snapshot).find(|endpoint| endpoint["endpoint"] == name.as_str()).unwrap()["breaker"].clone()
}

#[tokio::test]
async fn a_sick_node_is_left_alone_after_the_threshold_and_no_client_sees_it() {
    let (sick, well) = (Node::start("sick").await, Node::start("well").await);
    sick.feels(SICK);
    let edge =
        Edge::start(&cluster_of(&[sick.addr(), well.addr()], "balance: round_robin, breaker: {failures: 3}"))
            .await;
    for _ in 0..50 {
        assert_eq!(who(&edge).await, "well");
    }
    assert_eq!(sick.asked(), 3);
    let snapshot = edge.look("/snapshot").await.json();
    let state = breaker(&snapshot, sick.addr());
    assert_eq!((&state["state"], &state["trips"]), (&"open".into(), &1.into()), "{snapshot}");
    let left = state["left_ms"].as_u64().unwrap();
    assert!((1000..=66_000).contains(&left), "a minute, and a tenth at random: {left}");
    assert_eq!(breaker(&snapshot, well.addr())["state"], "closed");
    let of = |addr| format!("forebay_breaker_state{{cluster=\"sim\",endpoint=\"http://{addr}\"}}");
    assert_eq!((edge.metric(&of(sick.addr())).await, edge.metric(&of(well.addr())).await), (1.0, 0.0));
    assert_eq!(edge.metric("forebay_breaker_trips_total{cluster=\"sim\",reason=\"row\"}").await, 1.0);
    heard(&edge, "is left alone for 6", 1).await;
}

#[tokio::test]
async fn a_share_of_failures_is_enough() {
    let (sick, well) = (Node::start("sick").await, Node::start("well").await);
    let settings = "balance: round_robin, breaker: {failures: 0, min_outcomes: 6, window: 1m}";
    let edge = Edge::start(&cluster_of(&[sick.addr(), well.addr()], settings)).await;
    for number in 0..40 {
        sick.feels(if number % 4 < 2 { WELL } else { SICK });
        who(&edge).await;
    }
    assert!((6..20).contains(&sick.asked()), "{}", sick.asked());
    assert_eq!(edge.metric("forebay_breaker_trips_total{cluster=\"sim\",reason=\"rate\"}").await, 1.0);
}

#[tokio::test]
async fn each_relapse_takes_one_request_and_twice_the_time_until_the_node_is_well() {
    let (sick, well) = (Node::start("sick").await, Node::start("well").await);
    sick.feels(SICK);
    let settings =
        "balance: round_robin, breaker: {failures: 2, for: 100ms, max_for: 1m, successes: 2, slow_start: 0s}";
    let edge = Edge::start(&cluster_of(&[sick.addr(), well.addr()], settings)).await;
    ask_until(&edge, &sick, 2).await;
    for (count, time) in [(3, "0.2"), (4, "0.4")] {
        ask_until(&edge, &sick, count).await;
        let why = format!("is left alone for {time} s: it failed again when it was tried");
        heard(&edge, &why, 1).await;
    }
    assert_eq!(breaker(&edge.look("/snapshot").await.json(), sick.addr())["trips"], 3);
    assert_eq!(edge.metric("forebay_breaker_trips_total{cluster=\"sim\",reason=\"try\"}").await, 2.0);
    sick.feels(WELL);
    ask_until(&edge, &sick, 5).await;
    let state = breaker(&edge.look("/snapshot").await.json(), sick.addr());
    assert_eq!((&state["state"], &state["passed"]), (&"half-open".into(), &1.into()), "{state}");
    assert_eq!(who(&edge).await, "sick", "the next request tries it at once");
    assert_eq!(breaker(&edge.look("/snapshot").await.json(), sick.addr())["state"], "closed");
    let mut back = 0;
    for _ in 0..20 {
        back += usize::from(who(&edge).await == "sick");
    }
    assert_eq!(back, 10, "it has its share again");
    heard(&edge, "is well again", 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_the_place_of_its_try_back() {
    let (sick, well) = (Node::start("sick").await, Node::start("well").await);
    sick.feels(SICK);
    let settings = "balance: round_robin, breaker: {failures: 2, for: 100ms, successes: 1}";
    let edge = Edge::start(&cluster_of(&[sick.addr(), well.addr()], settings)).await;
    ask_until(&edge, &sick, 2).await;
    sick.feels(MUTE);
    let mut leaver = soon("a try that hangs", async {
        loop {
            let mut client = edge.connect().await;
            client.send(&request()).await;
            let asked = async {
                while sick.asked() < 3 {
                    tokio::task::yield_now().await;
                }
            };
            let hangs = tokio::select! {
                () = asked => true,
                reply = client.reply() => reply.status != 200,
            };
            if hangs {
                return Some(client);
            }
        }
    })
    .await;
    let addr = sick.addr();
    let trying = |count: u64| move |all: &Value| breaker(all, addr)["trying"] == count;
    edge.snapshot("the try", trying(1)).await;
    for _ in 0..10 {
        assert_eq!(who(&edge).await, "well", "one at a time");
    }
    sick.feels(WELL);
    leaver.take();
    edge.snapshot("its end", trying(0)).await;
    assert_eq!(who(&edge).await, "sick");
    assert_eq!(breaker(&edge.look("/snapshot").await.json(), sick.addr())["state"], "closed");
    edge.idle().await;
}

// === Keys ===

fn two_deployments(first: SocketAddr, spare: SocketAddr, key_for: &str) -> String {
    let cluster = |name: &str, addr: SocketAddr| {
        format!(
            "  {name}: {{provider: simulator, api_key: canary, endpoints: [\"http://{addr}\"], health: {{check: none}}, \
             breaker: {{key_for: {key_for}}}}}\n"
        )
    };
    format!(
        "clusters:\n{}{}models:\n  m: {{deployments: [{{cluster: first}}, {{cluster: spare, priority: 1}}]}}\n",
        cluster("first", first),
        cluster("spare", spare)
    )
}

fn key(snapshot: &Value) -> &str {
    let clusters = snapshot["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["name"] == "first").unwrap()["key"]["state"].as_str().unwrap()
}

#[tokio::test]
async fn a_key_that_is_refused_is_passed_over_until_one_request_finds_it_accepted() {
    for (mood, reason) in [(REFUSES, "credential"), (OUT_OF_QUOTA, "quota")] {
        let (first, spare) = (Node::start("first").await, Node::start("spare").await);
        first.feels(mood);
        let edge = Edge::start(&two_deployments(first.addr(), spare.addr(), "300ms")).await;
        assert_eq!(who(&edge).await, "spare");
        assert_eq!(first.asked(), 1);
        heard(&edge, "its credential was refused", 1).await;
        ask_until(&edge, &first, 2).await;
        let trips = format!("forebay_breaker_trips_total{{cluster=\"first\",reason=\"{reason}\"}}");
        assert_eq!(edge.metric(&trips).await, 2.0);
        first.feels(WELL);
        soon("its return", async { while who(&edge).await != "first" {} }).await;
        assert_eq!(key(&edge.look("/snapshot").await.json()), "closed");
        assert_eq!(edge.metric("forebay_key_state{cluster=\"first\"}").await, 0.0);
        for _ in 0..5 {
            assert_eq!(who(&edge).await, "first");
        }
        heard(&edge, "its credential is accepted again", 1).await;
    }
}

#[tokio::test]
async fn a_refused_key_is_used_nevertheless_where_there_is_no_other() {
    let (first, spare) = (Node::start("first").await, Node::start("spare").await);
    first.feels(REFUSES);
    spare.feels(REFUSES);
    let edge = Edge::start(&two_deployments(first.addr(), spare.addr(), "1m")).await;
    for count in 1..=5 {
        let reply = edge.connect().await.ask(&request()).await;
        assert!(reply.status >= 400, "{reply:?}");
        assert_eq!((first.asked(), spare.asked()), (count, count), "both are asked, once each");
    }
    assert_eq!(key(&edge.look("/snapshot").await.json()), "open");
    heard(&edge, "its credential was refused", 2).await;
    spare.feels(WELL);
    let other = edge.connect().await.ask(&request()).await;
    assert_eq!(other.status, 200, "{other:?}");
}
