//! Where requests go: by load, by health, by priority, by what a file says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use forebay::sim::{Config, FaultRule, Sim};
use serde_json::Value;

use crate::dialects::Dialect;
use crate::support::absent::BlackHole;
use crate::support::edge::endpoints;
use crate::support::scripted::{Scripted, Turn, answer, json};
use crate::support::{Client, DEADLINE, Edge, Reply, cluster_of, post, sim, soon};

/// A node that answers with its name, and to `/health` as it feels.
async fn node(name: &'static str) -> (Scripted, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let feels = Arc::clone(&well);
    let node = Scripted::start(move |asked| {
        let ask = asked.text.starts_with("GET /health ");
        Turn::Say(match feels.load(SeqCst) {
            true if ask => json(200, "{\"mood\":\"well\"}"),
            false if ask => json(503, "{}"),
            _ => answer(name),
        })
    })
    .await;
    (node, well)
}

/// A simulator that answers with its name.
async fn named(name: &str) -> Sim {
    sim(Config { text: Some(name.to_owned()), ..Config::default() }).await
}

async fn ask(edge: &Edge, model: &str, fields: &str) -> Reply {
    edge.connect().await.ask(&post(Dialect::Chat.path(), fields, Dialect::Chat.ask(model, false))).await
}

/// Who answers.
async fn who(edge: &Edge, model: &str, fields: &str) -> String {
    let reply = ask(edge, model, fields).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

async fn shares(edge: &Edge, count: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..count {
        *shares.entry(who(edge, "m", "").await).or_default() += 1;
    }
    shares
}

fn at(snapshot: &Value, addr: SocketAddr) -> &Value {
    let name = format!("http://{addr}");
    endpoints(snapshot).find(|endpoint| endpoint["endpoint"] == name.as_str()).unwrap()
}

async fn turns(edge: &Edge, addr: SocketAddr, health: &str) {
    edge.snapshot(health, |all| at(all, addr)["health"] == health).await;
}

const CHECK: &str = "interval: 100ms, jitter: 0, timeout: 300ms, rise: 2, fall: 2";

// === Active checks ===

#[tokio::test]
async fn a_node_that_fails_its_checks_is_left_alone_until_it_passes_them() {
    let ((a, a_well), (b, b_well)) = (node("a").await, node("b").await);
    let check = format!(
        "api_key: canary, health: {{check: http, path: /health, headers: {{x-probe: forebay}}, body: well, {CHECK}}}"
    );
    let edge = Edge::start(&cluster_of(&[a.addr, b.addr], &check)).await;
    assert_eq!(shares(&edge, 30).await.len(), 2, "both are used");
    a_well.store(false, SeqCst);
    turns(&edge, a.addr, "down").await;
    let sample = |health: &Scripted| {
        format!(
            "llm_provider_health_status{{cluster=\"sim\",endpoint=\"http://{}\",provider=\"simulator\"}}",
            health.addr
        )
    };
    assert_eq!((edge.metric(&sample(&a)).await, edge.metric(&sample(&b)).await), (0.0, 1.0));
    assert_eq!(shares(&edge, 20).await, HashMap::from([("b".to_owned(), 20)]));
    b_well.store(false, SeqCst);
    turns(&edge, b.addr, "down").await;
    let health = edge.look("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("unhealthy")), "{health:?}");
    assert_eq!(health.json()["providers"][0]["healthy"], false);
    shares(&edge, 3).await;
    a_well.store(true, SeqCst);
    turns(&edge, a.addr, "up").await;
    assert_eq!(shares(&edge, 20).await, HashMap::from([("a".to_owned(), 20)]));
    let probe = a
        .received()
        .into_iter()
        .find(|request| request.starts_with("GET /health "))
        .unwrap()
        .to_ascii_lowercase();
    assert!(probe.contains("authorization: bearer canary") && probe.contains("x-probe: forebay"), "{probe}");
    assert!(edge.said().contains("is down: it answered 503"), "{}", edge.said());
}

#[tokio::test]
async fn a_node_that_speaks_http_2_is_checked_in_it() {
    let sim = sim(Config::default()).await;
    let settings = format!("http: \"2\", health: {{check: http, path: /health, {CHECK}}}");
    let edge = Edge::start(&cluster_of(&[sim.addr()], &settings)).await;
    let checks = || sim.requests().iter().filter(|request| request.path() == "/health").count();
    soon("a few checks", async {
        while checks() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    turns(&edge, sim.addr(), "up").await;
    assert!(!edge.said().contains("is down"), "{}", edge.said());
}

#[tokio::test]
async fn a_node_that_says_the_wrong_thing_or_nothing_is_down() {
    let wrong = Scripted::start(|_| Turn::Say(json(200, "{\"mood\":\"poor\"}"))).await;
    let mute = Scripted::start(|_| Turn::CloseAfter(DEADLINE)).await;
    let check = format!("health: {{check: http, path: /health, body: well, {CHECK}}}");
    let edge = Edge::start(&cluster_of(&[wrong.addr, mute.addr], &check)).await;
    turns(&edge, wrong.addr, "down").await;
    turns(&edge, mute.addr, "down").await;
}

#[tokio::test]
async fn a_node_that_takes_no_connections_is_down_until_it_does() {
    let first = named("first").await;
    let addr = first.addr();
    let other = named("other").await;
    let check = format!("health: {{check: tcp, {CHECK}}}");
    let edge = Edge::start(&cluster_of(&[addr, other.addr()], &check)).await;
    first.shutdown().await;
    turns(&edge, addr, "down").await;
    assert_eq!(shares(&edge, 10).await, HashMap::from([("other".to_owned(), 10)]));
    let back = Sim::start(Config { text: Some("back".into()), ..Config::default() }, addr).await.unwrap();
    turns(&edge, addr, "up").await;
    assert!(shares(&edge, 30).await.contains_key("back"));
    drop(back);
}

// === Breakers ===

/// A simulator that fails every call of a model.
async fn failing() -> Sim {
    let faults = vec![FaultRule { fault: "status=500".into(), ..FaultRule::default() }];
    sim(Config { faults, ..Config::default() }).await
}

#[tokio::test]
async fn never_are_more_left_alone_than_the_share_allows() {
    let sims = [failing().await, failing().await, failing().await, failing().await];
    let addresses: Vec<_> = sims.iter().map(Sim::addr).collect();
    let settings = "balance: round_robin, breaker: {failures: 2, for: 1m, max_share: 0.5}";
    let edge = Edge::start(&cluster_of(&addresses, settings)).await;
    for _ in 0..40 {
        assert_eq!(ask(&edge, "m", "").await.status, 500);
    }
    let snapshot = edge.look("/snapshot").await.json();
    let open = endpoints(&snapshot).filter(|endpoint| endpoint["breaker"]["state"] == "open").count();
    assert_eq!(open, 2, "{snapshot}");
}

#[tokio::test]
async fn nobody_is_left_alone_for_what_the_client_is_to_blame_for() {
    let (one, other) = (named("one").await, named("other").await);
    let settings = "breaker: {failures: 1, for: 1m, max_share: 1}";
    let edge = Edge::start(&cluster_of(&[one.addr(), other.addr()], settings)).await;
    for status in [400, 401, 404, 429] {
        assert_eq!(ask(&edge, "m", &format!("x-sim-fault: status={status}\r\n")).await.status, status);
    }
    let mut client = edge.connect().await;
    client
        .send(&post(Dialect::Chat.path(), "x-sim-fault: stall=head\r\n", Dialect::Chat.ask("m", false)))
        .await;
    let stalls = async || one.stats().snapshot().active + other.stats().snapshot().active == 1;
    soon("the stall", async {
        while !stalls().await {
            tokio::task::yield_now().await
        }
    })
    .await;
    drop(client);
    edge.idle().await;
    let snapshot = edge.look("/snapshot").await.json();
    assert!(endpoints(&snapshot).all(|endpoint| endpoint["breaker"]["state"] == "closed"), "{snapshot}");
}

// === Shares ===

#[tokio::test]
async fn nobody_is_left_alone_for_a_client_without_patience() {
    let (hole, spare) = (BlackHole::new().await, named("spare").await);
    let settings = "balance: priority, breaker: {failures: 1, for: 1m, max_share: 1}";
    let edge = Edge::start(&cluster_of(&[hole.addr, spare.addr()], settings)).await;
    for _ in 0..3 {
        let hurried = post(Dialect::Chat.path(), "x-request-timeout: 0.1\r\n", Dialect::Chat.ask("m", false));
        assert_eq!(edge.connect().await.ask(&hurried).await.status, 504);
    }
    let snapshot = edge.look("/snapshot").await.json();
    assert!(endpoints(&snapshot).all(|endpoint| endpoint["breaker"]["state"] == "closed"), "{snapshot}");
}

#[tokio::test]
async fn least_connections_follow_the_weights_exactly() {
    let sims = [sim(Config::default()).await, sim(Config::default()).await, sim(Config::default()).await];
    let endpoint = |sim: &Sim, weight: u32| format!("{{url: \"http://{}\", weight: {weight}}}", sim.addr());
    let list = [endpoint(&sims[0], 1), endpoint(&sims[1], 2), endpoint(&sims[2], 3)].join(", ");
    let edge = Edge::start(&format!(
        "clusters: {{sim: {{provider: simulator, endpoints: [{list}], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\n"
    ))
    .await;
    let request = post(
        Dialect::Chat.path(),
        "x-sim-fault: stall=3\r\nx-sim-text: canary sings\r\n",
        Dialect::Chat.ask("m", true),
    );
    let mut held = Vec::new();
    for _ in 0..30 {
        let mut client = edge.connect().await;
        client.send(&request).await;
        client.saw("canary").await;
        held.push(client);
    }
    let active = sims.each_ref().map(|sim| sim.stats().snapshot().active);
    assert_eq!(active, [5, 10, 15]);
    let snapshot = edge.look("/snapshot").await.json();
    assert_eq!(
        sims.each_ref().map(|sim| at(&snapshot, sim.addr())["in_flight"].as_u64().unwrap()),
        [5, 10, 15]
    );
    assert_eq!(edge.metric("forebay_streams").await, 30.0);
    // All leave at once, and as many come anew.
    held.clear();
    edge.idle().await;
    assert_eq!(edge.metric("forebay_streams").await, 0.0);
    let mut together = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (addr, request) = (edge.addr, request.clone());
        together.spawn(async move {
            let mut client = Client::try_connect(addr).await.unwrap();
            client.send(&request).await;
            client.saw("canary").await;
            client
        });
    }
    let held = together.join_all().await;
    let active = sims.each_ref().map(|sim| sim.stats().snapshot().active);
    assert_eq!(active.iter().sum::<u64>(), 30);
    for (active, fair) in active.iter().zip([5, 10, 15]) {
        assert!(active.abs_diff(fair) <= 3, "{active} is far from {fair}");
    }
    drop(held);
    edge.idle().await;
}

// === Discovery ===

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-e2e-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Replaces a file whole.
fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

#[tokio::test]
async fn endpoints_follow_their_file() {
    let (a, b) = (named("a").await, named("b").await);
    let directory = Directory::new("discovery");
    let file = directory.0.join("endpoints");
    replace(&file, &format!("# the first\nhttp://{}\n", a.addr()));
    let edge = Edge::start(&format!(
        "clusters: {{sim: {{provider: simulator, discover: {{file: \"{}\", refresh: 100ms}}, health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\n",
        file.display()
    ))
    .await;
    let count = |count: usize| move |all: &Value| endpoints(all).count() == count;
    edge.snapshot("the first list", count(1)).await;
    assert_eq!(shares(&edge, 5).await, HashMap::from([("a".to_owned(), 5)]));
    // A stream that runs when its endpoint goes.
    let mut client = edge.connect().await;
    let fields = "x-sim-fault: stall=2,1500\r\nx-sim-text: canary sings on\r\n";
    client.send(&post(Dialect::Chat.path(), fields, Dialect::Chat.ask("m", true))).await;
    client.saw("canary").await;
    replace(&file, &format!("http://{} weight=1\nhttp://{} weight=3\n", a.addr(), b.addr()));
    edge.snapshot("the second list", count(2)).await;
    replace(&file, &format!("http://{}\n", b.addr()));
    edge.snapshot("the third list", count(1)).await;
    assert_eq!(shares(&edge, 5).await, HashMap::from([("b".to_owned(), 5)]));
    for bad in
        ["nonsense here\n", "http://127.0.0.1:1\nhttp://127.0.0.1:1\n", "http://127.0.0.1:1 weight=heavy\n"]
    {
        replace(&file, bad);
        let warned = edge.said().matches("is not taken over").count();
        soon("a warning", async {
            while edge.said().matches("is not taken over").count() == warned {
                tokio::task::yield_now().await
            }
        })
        .await;
        assert_eq!(shares(&edge, 3).await, HashMap::from([("b".to_owned(), 3)]), "{bad}");
    }
    std::fs::remove_file(&file).unwrap();
    soon("a warning", async {
        while !edge.said().contains("cannot read") {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(shares(&edge, 3).await, HashMap::from([("b".to_owned(), 3)]));
    let reply = client.reply().await;
    assert!(reply.whole && String::from_utf8_lossy(&reply.body).contains("[DONE]"), "{reply:?}");
    edge.idle().await;
}

// === Several clusters ===

fn two_clusters(first: (&str, SocketAddr), second: (&str, SocketAddr), model: &str) -> String {
    let cluster = |(name, addr): (&str, SocketAddr)| {
        format!(
            "  {name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: http, path: /health, {CHECK}}}}}\n"
        )
    };
    format!("clusters:\n{}{}models:\n  m: {model}\n", cluster(first), cluster(second))
}

#[tokio::test]
async fn a_spare_cluster_is_used_only_while_the_first_is_down() {
    let ((first, well), (spare, _)) = (node("first").await, node("spare").await);
    let model = "{deployments: [{cluster: first}, {cluster: spare, priority: 1}]}";
    let edge = Edge::start(&two_clusters(("first", first.addr), ("spare", spare.addr), model)).await;
    for (feels, health, name) in [(true, "up", "first"), (false, "down", "spare"), (true, "up", "first")] {
        well.store(feels, SeqCst);
        turns(&edge, first.addr, health).await;
        assert_eq!(shares(&edge, 10).await, HashMap::from([(name.to_owned(), 10)]));
    }
}

#[tokio::test]
async fn a_split_sticks_to_a_header_and_follows_the_weights() {
    let (stable, canary) = (named("stable").await, named("canary").await);
    let model = "{deployments: [{cluster: stable, weight: 3}, {cluster: canary, weight: 1}], sticky: \"header:x-user\"}";
    let edge = Edge::start(&two_clusters(("stable", stable.addr()), ("canary", canary.addr()), model)).await;
    let mut users = HashMap::new();
    for round in 0..3 {
        for user in 0..80 {
            let by = who(&edge, "m", &format!("x-user: user-{user}\r\n")).await;
            let first = users.entry(user).or_insert_with(|| by.clone());
            assert_eq!(*first, by, "user {user} in round {round}");
        }
    }
    let canaries = users.values().filter(|by| *by == "canary").count();
    assert!((8..=36).contains(&canaries), "{canaries} of 80 where 20 are fair");
    let mut strangers = HashMap::<String, usize>::new();
    for _ in 0..80 {
        *strangers.entry(who(&edge, "m", "").await).or_default() += 1;
    }
    assert_eq!(strangers.len(), 2, "without the header each request is drawn anew");
}
