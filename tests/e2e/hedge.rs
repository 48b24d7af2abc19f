//! A second attempt beside one that is slow: the client gets whichever begins first, and the other is let go at once.

use std::net::SocketAddr;
use std::time::Duration;

use forebay::sim::{Config, FaultRule, Sim};
use serde_json::{Value, json};

use crate::dialects::{Dialect, events};
use crate::support::edge::endpoints;
use crate::support::scripted::{Scripted, Turn, answer, json as reply_of};
use crate::support::{DEADLINE, Edge, Reply, cluster_of, post, sim, soon};

/// The first endpoint goes first, and one failure by its fault would open its breaker.
const IN_ORDER: &str = "balance: priority, breaker: {failures: 1}";

/// A simulator to which that happens at every call.
async fn failing(fault: &str) -> Sim {
    let fault = FaultRule { fault: fault.into(), ..FaultRule::default() };
    sim(Config { faults: vec![fault], ..Config::default() }).await
}

/// A node that answers with its name after so long.
async fn node(name: &'static str, after: u64) -> Scripted {
    Scripted::start(move |_| Turn::SayAfter(Duration::from_millis(after), answer(name))).await
}

fn request(stream: bool) -> Vec<u8> {
    post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", stream))
}

async fn ask(edge: &Edge) -> Reply {
    edge.connect().await.ask(&request(false)).await
}

/// Who has answered.
fn said(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

async fn hedges(edge: &Edge, cluster: &str, outcome: &str) -> f64 {
    edge.metric(&format!("forebay_hedges_total{{cluster=\"{cluster}\",outcome=\"{outcome}\"}}")).await
}

/// Waits until so many calls of a simulator were left by their client.
async fn left(sim: &Sim, count: u64) {
    sim.stats().wait_until(|stats| stats.cancelled.total() == count, DEADLINE).await.unwrap();
}

/// Nothing is left of any exchange, and no endpoint is blamed.
async fn settled(edge: &Edge) {
    edge.idle().await;
    soon("the end of all streams", async { while edge.metric("forebay_streams").await > 0.0 {} }).await;
    soon("the end of all exchanges", async { while edge.metric("forebay_in_flight").await > 0.0 {} }).await;
    let snapshot = edge.look("/snapshot").await.json();
    assert!(endpoints(&snapshot).all(|endpoint| endpoint["breaker"]["state"] == "closed"), "{snapshot}");
}

fn told(line: &Value) -> (u64, &str, &str) {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    (line["attempts"].as_u64().unwrap(), text("passed"), text("endpoint"))
}

// === Who is first ===

#[tokio::test]
async fn a_slow_endpoint_is_overtaken_and_let_go() {
    for (fault, http) in [("stall=head", "1.1"), ("stall=0", "1.1"), ("stall=head", "2"), ("stall=0", "2")] {
        let (slow, quick) = (failing(fault).await, sim(Config::default()).await);
        let settings = format!("{IN_ORDER}, http: \"{http}\", hedge: {{delay: 50ms}}");
        let edge = Edge::start(&cluster_of(&[slow.addr(), quick.addr()], &settings)).await;
        let mut count = 0;
        for dialect in Dialect::ALL {
            for stream in [true, false] {
                let request = post(dialect.path(), "", dialect.ask("m", stream));
                let reply = edge.connect().await.ask(&request).await;
                let right = match stream {
                    true => dialect.is_complete(&events(&reply.body)),
                    false => dialect.is_answer(&reply),
                };
                assert!(reply.status == 200 && reply.whole && right, "{fault} {http} {dialect:?}: {reply:?}");
                count += 1;
                left(&slow, count).await;
            }
        }
        let quick_at = format!("http://{}", quick.addr());
        let story = format!("sim: hedged: won at {quick_at}");
        let mut output = 0;
        for line in edge.accesses(count as usize).await {
            assert_eq!(told(&line), (2, story.as_str(), quick_at.as_str()), "{fault} {http}: {line}");
            assert_eq!(line["end"], "--", "{line}");
            let at = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("no {name}: {line}"));
            assert!(at("t_connect") >= 50.0 && at("t_first") >= at("t_head"), "the winner's times: {line}");
            output += line["output_tokens"].as_u64().unwrap();
        }
        let bill = quick.stats().snapshot();
        assert_eq!((bill.requests, bill.output_tokens), (count, output), "the winner's usage, once");
        assert_eq!(slow.stats().snapshot().requests, count);
        assert_eq!(hedges(&edge, "sim", "won").await, count as f64);
        settled(&edge).await;
    }
}

#[tokio::test]
async fn what_begins_first_after_all_is_stayed_with() {
    let (first, second) = (node("first", 400).await, failing("stall=head").await);
    let settings = format!("{IN_ORDER}, hedge: {{delay: 50ms}}");
    let edge = Edge::start(&cluster_of(&[first.addr, second.addr()], &settings)).await;
    for count in 1..=3 {
        assert_eq!(said(&ask(&edge).await), "first");
        left(&second, count).await;
    }
    let story = format!("sim: hedged: lost at http://{}", second.addr());
    for line in edge.accesses(3).await {
        assert_eq!(told(&line), (2, story.as_str(), format!("http://{}", first.addr).as_str()), "{line}");
    }
    assert_eq!(hedges(&edge, "sim", "lost").await, 3.0);
    settled(&edge).await;
}

#[tokio::test]
async fn a_second_attempt_that_fails_is_no_harm_and_one_that_outlives_the_first_is_its_remedy() {
    let sick = Scripted::start(|_| Turn::Say(reply_of(503, "{\"error\":{\"message\":\"sick\"}}"))).await;
    let first = node("first", 400).await;
    let settings = "balance: priority, hedge: {delay: 50ms}";
    let edge = Edge::start(&cluster_of(&[first.addr, sick.addr], settings)).await;
    assert_eq!(said(&ask(&edge).await), "first");
    let line = edge.access(|_| true).await;
    let story = format!("sim: failed; sim: hedged: failed at http://{}", sick.addr);
    assert_eq!(told(&line).1, story, "{line}");
    assert_eq!(hedges(&edge, "sim", "failed").await, 1.0);
    settled(&edge).await;

    let breaks = Scripted::start(|_| Turn::CloseAfter(Duration::from_millis(300))).await;
    let second = node("second", 900).await;
    let edge = Edge::start(&cluster_of(&[breaks.addr, second.addr], settings)).await;
    assert_eq!(said(&ask(&edge).await), "second");
    let line = edge.access(|_| true).await;
    let story = format!("sim: broken; sim: hedged: won at http://{}", second.addr);
    assert_eq!((told(&line).0, told(&line).1), (2, story.as_str()), "{line}");
    assert_eq!((breaks.received().len(), second.received().len()), (1, 1), "nothing was sent again");
    settled(&edge).await;
}

#[tokio::test]
async fn where_both_fail_a_third_is_tried_and_without_one_the_client_is_told() {
    let sick = |status, after| async move {
        let body = format!("{{\"error\":{{\"message\":\"sick {status}\"}}}}");
        let turn = move |_: crate::support::scripted::Asked<'_>| {
            Turn::SayAfter(Duration::from_millis(after), reply_of(status, &body))
        };
        Scripted::start(turn).await
    };
    for (first_after, second_after) in [(600, 0), (300, 600)] {
        let (first, second) = (sick(500, first_after).await, sick(503, second_after).await);
        let third = node("third", 0).await;
        let settings = "balance: priority, hedge: {delay: 100ms}";
        let edge = Edge::start(&cluster_of(&[first.addr, second.addr, third.addr], settings)).await;
        assert_eq!(said(&ask(&edge).await), "third");
        let line = edge.access(|_| true).await;
        let story = format!("sim: failed; sim: hedged: failed at http://{}; sim: failed", second.addr);
        assert_eq!((told(&line).0, told(&line).1), (3, story.as_str()), "{line}");
        settled(&edge).await;

        let alone = cluster_of(&[first.addr, second.addr], settings) + "retry: {attempts: 2}\n";
        let edge = Edge::start(&alone).await;
        let reply = ask(&edge).await;
        assert!(reply.status == 500 && reply.json()["error"]["message"] == "sick 500", "{reply:?}");
        assert_eq!(reply.header("x-should-retry"), Some("false"), "{reply:?}");
        assert_eq!(told(&edge.access(|_| true).await).0, 2);
        settled(&edge).await;
    }
}

#[tokio::test]
async fn what_the_second_refuses_is_told_however_far_the_client_is() {
    let breaks = Scripted::start(|_| Turn::CloseAfter(Duration::from_millis(700))).await;
    let refuses =
        Scripted::start(|_| Turn::Say(reply_of(400, "{\"error\":{\"message\":\"no such tool\"}}"))).await;
    let settings = "balance: priority, clocks: {heartbeat: 100ms}, hedge: {delay: 300ms}";
    let edge = Edge::start(&cluster_of(&[breaks.addr, refuses.addr], settings)).await;
    let reply = ask(&edge).await;
    assert!(reply.status == 400 && reply.json()["error"]["message"] == "no such tool", "{reply:?}");
    // A stream was begun by a heartbeat meanwhile: there is no place for another head.
    let mut client = edge.connect().await;
    client.send(&request(true)).await;
    let reply = client.reply().await;
    assert!(reply.status == 200 && reply.body.starts_with(b":"), "{reply:?}");
    let told_why = Dialect::Chat.error_in(&events(&reply.body)).unwrap();
    assert!(told_why.contains("no such tool"), "{told_why}");
    let story = format!("sim: broken; sim: hedged: failed at http://{}", refuses.addr);
    for line in edge.accesses(2).await {
        assert_eq!((told(&line).0, told(&line).1), (2, story.as_str()), "{line}");
    }
    assert_eq!((breaks.received().len(), refuses.received().len()), (2, 2), "nothing was sent again");
    settled(&edge).await;
}

#[tokio::test]
async fn without_another_endpoint_an_equal_deployment_is_asked_and_a_spare_is_not() {
    let (slow, quick) = (node("slow", 600).await, node("quick", 0).await);
    for (priority, who, attempts) in [(0, "quick", 2), (1, "slow", 1)] {
        let cluster = |name: &str, addr: SocketAddr, more: &str| {
            format!(
                "  {name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: none}}{more}}}\n"
            )
        };
        let edge = Edge::start(&format!(
            "clusters:\n{}{}models:\n  m:\n    deployments:\n      - {{cluster: one, weight: 1000000}}\n      \
             - {{cluster: two, model: other, priority: {priority}}}\n",
            cluster("one", slow.addr, ", hedge: {delay: 50ms}"),
            cluster("two", quick.addr, "")
        ))
        .await;
        assert_eq!(said(&ask(&edge).await), who);
        let line = edge.access(|_| true).await;
        assert_eq!(line["attempts"], attempts, "{line}");
        if who == "quick" {
            assert_eq!(
                (&line["cluster"], &line["upstream_model"]),
                (&json!("two"), &json!("other")),
                "{line}"
            );
            assert_eq!(hedges(&edge, "one", "won").await, 1.0);
        }
        settled(&edge).await;
    }
}

// === When, and how often ===

/// A node that answers its first so many requests at once, and no other.
async fn mute_after(count: usize) -> Scripted {
    Scripted::start(move |asked| match asked.number < count {
        true => Turn::Say(answer("quick")),
        false => Turn::CloseAfter(DEADLINE),
    })
    .await
}

#[tokio::test]
async fn what_is_slow_is_learned_from_the_replies_of_late() {
    let (first, second) = (mute_after(50).await, node("second", 0).await);
    let settings = format!("{IN_ORDER}, hedge: {{percentile: 90, min_delay: 200ms}}");
    let edge = Edge::start(&cluster_of(&[first.addr, second.addr], &settings)).await;
    for _ in 0..50 {
        assert_eq!(said(&ask(&edge).await), "quick");
    }
    assert!(second.received().is_empty());
    assert_eq!(said(&ask(&edge).await), "second");
    let line = edge.access(|line| line["attempts"] == 2).await;
    assert_eq!(told(&line).1, format!("sim: hedged: won at http://{}", second.addr), "{line}");
    settled(&edge).await;
}

#[tokio::test]
async fn of_too_few_nothing_is_learned_and_streams_do_not_learn_from_whole_replies() {
    let (first, second) = (mute_after(49).await, node("second", 0).await);
    let settings =
        "balance: priority, clocks: {head: 1500ms}, hedge: {percentile: 90, min_delay: 100ms}".to_owned();
    let edge = Edge::start(&cluster_of(&[first.addr, second.addr], &settings)).await;
    for _ in 0..49 {
        assert_eq!(said(&ask(&edge).await), "quick");
    }
    assert_eq!(said(&ask(&edge).await), "second", "its clock has run out");
    let line = edge.access(|line| line["attempts"] == 2).await;
    assert_eq!(told(&line).1, "sim: slow", "{line}");

    let (first, second) = (mute_after(60).await, node("second", 0).await);
    let edge = Edge::start(&cluster_of(&[first.addr, second.addr], &settings)).await;
    for _ in 0..60 {
        assert_eq!(said(&ask(&edge).await), "quick");
    }
    edge.connect().await.ask(&request(true)).await;
    let line = edge.access(|line| line["attempts"] == 2).await;
    assert_eq!(told(&line).1, "sim: slow", "{line}");
}

#[tokio::test]
async fn the_budget_bounds_second_attempts() {
    let (first, second) = (node("first", 60).await, node("second", 0).await);
    let settings = format!("{IN_ORDER}, hedge: {{delay: 10ms, budget: 0.1}}");
    let edge = Edge::start(&cluster_of(&[first.addr, second.addr], &settings)).await;
    for _ in 0..100 {
        said(&ask(&edge).await);
    }
    assert_eq!(first.received().len(), 100);
    let hedged = second.received().len();
    assert!((15..=20).contains(&hedged), "ten are saved, and a tenth is added: {hedged}");
    assert!(first.received().len() + hedged <= 120);
    settled(&edge).await;
}

// === The client meanwhile ===

#[tokio::test]
async fn a_client_that_leaves_ends_both() {
    for http in ["1.1", "2"] {
        let sims = [failing("stall=head").await, failing("stall=head").await];
        let settings = format!("{IN_ORDER}, http: \"{http}\", hedge: {{delay: 50ms}}");
        let edge = Edge::start(&cluster_of(&[sims[0].addr(), sims[1].addr()], &settings)).await;
        for (count, stream) in [(1, true), (2, false)] {
            let mut client = edge.connect().await;
            client.send(&request(stream)).await;
            for sim in &sims {
                sim.stats().wait_until(|stats| stats.requests == count, DEADLINE).await.unwrap();
            }
            drop(client);
            left(&sims[0], count).await;
            left(&sims[1], count).await;
        }
        for line in edge.accesses(2).await {
            assert_eq!((&line["attempts"], &line["end"]), (&json!(2), &json!("CH")), "{line}");
            assert_eq!(line["status"], 499, "{line}");
        }
        settled(&edge).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_once_the_first_has_failed_ends_the_second() {
    let breaks = Scripted::start(|_| Turn::CloseAfter(Duration::from_millis(300))).await;
    let second = failing("stall=head").await;
    let settings = "balance: priority, hedge: {delay: 50ms}";
    let edge = Edge::start(&cluster_of(&[breaks.addr, second.addr()], settings)).await;
    let mut client = edge.connect().await;
    client.send(&request(true)).await;
    second.stats().wait_until(|stats| stats.requests == 1, DEADLINE).await.unwrap();
    let first = format!("http://{}", breaks.addr);
    let is_over = |all: &Value| {
        endpoints(all).all(|endpoint| endpoint["endpoint"] != first.as_str() || endpoint["in_flight"] == 0)
    };
    edge.snapshot("the first's failure", is_over).await;
    drop(client);
    left(&second, 1).await;
    assert_eq!(edge.access(|_| true).await["status"], 499);
    settled(&edge).await;
}

#[tokio::test]
async fn heartbeats_go_on_whoever_is_waited_for_and_commit_to_nobody() {
    // The client is kept awake by the first attempt, then beside the second alone.
    let breaks = Scripted::start(|_| Turn::CloseAfter(Duration::from_millis(700))).await;
    for (first, slow) in [(failing("stall=0").await, true), (sim(Config::default()).await, false)] {
        let second = failing("stall=0,1500").await;
        let first_addr = if slow { first.addr() } else { breaks.addr };
        let settings = format!("{IN_ORDER}, clocks: {{heartbeat: 100ms}}, hedge: {{delay: 300ms}}");
        let edge = Edge::start(&cluster_of(&[first_addr, second.addr()], &settings)).await;
        let mut client = edge.connect().await;
        client.send(&request(true)).await;
        client.saw(": ").await;
        let reply = client.reply().await;
        assert!(reply.status == 200 && reply.whole, "{reply:?}");
        assert!(Dialect::Chat.is_complete(&events(&reply.body)), "{reply:?}");
        let beats = String::from_utf8_lossy(&reply.body).matches("\n\n").count() - events(&reply.body).len();
        assert!(beats >= 8, "{beats} heartbeats in 1.5 s");
        let line = edge.access(|_| true).await;
        assert!(told(&line).1.ends_with(&format!("hedged: won at http://{}", second.addr())), "{line}");
        edge.idle().await;
    }
}
