//! What a cluster cannot take at once waits in front of it, in order, and no longer than it makes sense.

use std::time::{Duration, Instant};

use forebay::sim::{Config, EngineConfig, FaultRule, Sim, Span};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::dialects::Dialect;
use crate::support::{Client, Edge, Reply, cluster_of, post, sim, soon};

const CHAT: Dialect = Dialect::Chat;

/// A simulator whose streams take long enough to be met under way.
async fn slow() -> Sim {
    let engine = EngineConfig { decode_tps: Some(60.0), ..EngineConfig::default() };
    sim(Config { engine, output_tokens: Span { min: 20, max: 20 }, ..Config::default() }).await
}

async fn ask(edge: &Edge, fields: &str) -> Reply {
    edge.connect().await.ask(&post(CHAT.path(), fields, CHAT.ask("m", true))).await
}

/// Asks, and hands the client back to be read from or left.
async fn begin(edge: &Edge, path: &str, fields: &str) -> Client {
    let mut client = edge.connect().await;
    client.send(&post(&format!("{path}{}", CHAT.path()), fields, CHAT.ask("m", true))).await;
    client
}

/// Reads on to the end.
fn finish(mut client: Client) -> JoinHandle<Reply> {
    tokio::spawn(async move { client.reply().await })
}

/// Waits until so many are under way at that cluster, and so many wait.
async fn until(edge: &Edge, cluster: &str, in_flight: u32, waiting: u32) {
    let is = |snapshot: &Value| {
        let clusters = snapshot["clusters"].as_array().unwrap();
        let gate = &clusters.iter().find(|known| known["name"] == cluster).unwrap()["admission"];
        gate["in_flight"] == in_flight && gate["waiting"] == waiting
    };
    edge.snapshot("the gate's counts", is).await;
}

#[tokio::test]
async fn what_finds_no_place_waits_for_one_and_is_served() {
    let sim = slow().await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "admission: {limit: 1, queue: 8}")).await;
    let first = begin(&edge, "", "").await;
    until(&edge, "sim", 1, 0).await;
    let second = finish(begin(&edge, "", "").await);
    until(&edge, "sim", 1, 1).await;
    assert_eq!(sim.stats().snapshot().requests, 1, "nothing is sent before its turn");
    let (first, second) = (finish(first).await.unwrap(), second.await.unwrap());
    assert!(first.whole && second.whole && second.status == 200);
    let lines = edge.accesses(2).await;
    let passed = lines.iter().find_map(|line| line["passed"].as_str().filter(|passed| !passed.is_empty()));
    assert!(passed.is_some_and(|passed| passed.starts_with("sim: queued for")), "{lines:?}");
    until(&edge, "sim", 0, 0).await;
    edge.idle().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_again() {
    let sim = slow().await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "admission: {limit: 1, queue: 0}")).await;
    let first = begin(&edge, "", "").await;
    until(&edge, "sim", 1, 0).await;
    let asked = Instant::now();
    let refused = ask(&edge, "").await;
    assert!(asked.elapsed() < Duration::from_millis(500), "nobody waits");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok_and(|s| s >= 1)));
    assert!(finish(first).await.unwrap().whole);
    let again = ask(&edge, "").await;
    assert!(again.status == 200 && again.whole);
    let lines = edge.accesses(3).await;
    let shed = lines.iter().find(|line| line["status"] == json!(503)).unwrap();
    assert_eq!((&shed["attempts"], &shed["end"]), (&json!(0), &json!("PQ")), "{shed}");
    edge.idle().await;
}

#[tokio::test]
async fn one_who_leaves_the_queue_is_gone_at_once_and_costs_nothing() {
    let sim = slow().await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "admission: {limit: 1, queue: 8}")).await;
    let first = begin(&edge, "", "").await;
    until(&edge, "sim", 1, 0).await;
    let waiting = begin(&edge, "", "").await;
    until(&edge, "sim", 1, 1).await;
    drop(waiting);
    until(&edge, "sim", 1, 0).await;
    assert!(finish(first).await.unwrap().whole);
    edge.idle().await;
    assert_eq!(sim.stats().snapshot().requests, 1);
    let lines = edge.accesses(2).await;
    assert!(lines.iter().any(|line| line["end"] == json!("CQ") && line["attempts"] == json!(0)), "{lines:?}");
}

#[tokio::test]
async fn the_more_important_go_first_and_a_request_may_say_less_of_itself_but_not_more() {
    let sim = slow().await;
    let config = format!(
        "{}routes:\n  - {{name: batch, path: /batch, priority: low}}\n  - {{name: all, path: /}}\n",
        cluster_of(&[sim.addr()], "admission: {limit: 1, queue: 8}")
    );
    let edge = Edge::start(&config).await;
    let first = begin(&edge, "", "").await;
    until(&edge, "sim", 1, 0).await;
    let mut waiting = Vec::new();
    let asked = [("/batch", "x-forebay-priority: high"), ("", "x-forebay-priority: low"), ("", "x-none: 1")];
    for (number, (path, said)) in asked.into_iter().enumerate() {
        let fields = format!("{said}\r\nx-request-id: asked-{number}\r\n");
        waiting.push(finish(begin(&edge, path, &fields).await));
        until(&edge, "sim", 1, waiting.len() as u32).await;
    }
    assert!(finish(first).await.unwrap().whole);
    for reply in waiting {
        assert!(reply.await.unwrap().whole);
    }
    let ids: Vec<_> = edge.accesses(4).await.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids[1..], [json!("asked-2"), json!("asked-0"), json!("asked-1")]);
}

#[tokio::test]
async fn callers_take_turns_however_much_one_asks() {
    let sim = slow().await;
    let config = format!(
        "{}keys: {{greedy: {{key: greedy-0123456789abcdef}}, modest: {{key: modest-0123456789abcdef}}}}\n",
        cluster_of(&[sim.addr()], "admission: {limit: 1, queue: 20}")
    );
    let edge = Edge::start(&config).await;
    let key = |name: &str| format!("authorization: Bearer {name}-0123456789abcdef\r\n");
    let mut clients = vec![finish(begin(&edge, "", &key("greedy")).await)];
    until(&edge, "sim", 1, 0).await;
    for name in ["greedy", "greedy", "greedy", "modest", "modest"] {
        clients.push(finish(begin(&edge, "", &key(name)).await));
        until(&edge, "sim", 1, clients.len() as u32 - 1).await;
    }
    for client in clients {
        assert!(client.await.unwrap().whole);
    }
    let order: Vec<_> = edge.accesses(6).await.iter().map(|line| line["principal"].clone()).collect();
    assert_eq!(order[1..], ["greedy", "modest", "greedy", "modest", "greedy"].map(|name| json!(name)));
}

#[tokio::test]
async fn what_would_wait_goes_to_the_spare_where_it_may_and_waits_where_not() {
    let (gpu, cloud) = (slow().await, sim(Config::default()).await);
    let config = format!(
        "clusters:\n  gpu: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}, \
         admission: {{limit: 1}}, spill: {{wait: 1ms}}}}\n  cloud: {{provider: simulator, endpoints: [\"http://{}\"], \
         health: {{check: none}}}}\nmodels: {{\"*\": {{deployments: [{{cluster: gpu}}, {{cluster: cloud, priority: 1}}]}}}}\n\
         routes:\n  - {{name: stays, path: /stays, spill: false}}\n  - {{name: goes, path: /}}\n",
        gpu.addr(),
        cloud.addr()
    );
    let edge = Edge::start(&config).await;
    // How long a place is held is learnt from the first that comes back.
    assert!(ask(&edge, "").await.whole);
    let first = begin(&edge, "", "").await;
    until(&edge, "gpu", 1, 0).await;
    let elsewhere = ask(&edge, "").await;
    assert!(elsewhere.whole && cloud.stats().snapshot().requests == 1, "{elsewhere:?}");
    let client = begin(&edge, "/stays", "").await;
    until(&edge, "gpu", 1, 1).await;
    assert!(finish(first).await.unwrap().whole && finish(client).await.unwrap().whole);
    assert_eq!((gpu.stats().snapshot().requests, cloud.stats().snapshot().requests), (3, 1));
    edge.idle().await;
}

#[tokio::test]
async fn a_region_that_fails_is_left_for_another_and_tried_again_after_a_while() {
    let bad = sim(Config {
        faults: vec![FaultRule { fault: "status=503".into(), ..Default::default() }],
        ..Config::default()
    })
    .await;
    let good = sim(Config::default()).await;
    let config = |back: &str| {
        format!(
            "retry: {{delay: 0s, budget: 1.0}}\nclusters:\n  west: {{provider: simulator, endpoints: [\"http://{}\"], \
             health: {{check: none}}, breaker: {{failures: 0, failure_rate: 0}}, \
             spill: {{failures: 3, back: {back}, over: 1s}}}}\n  \
             east: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}\n\
             models: {{\"*\": {{deployments: [{{cluster: west}}, {{cluster: east, priority: 1}}]}}}}\n",
            bad.addr(),
            good.addr()
        )
    };
    let asked = || bad.stats().snapshot().requests;
    let left = async |edge: &Edge| {
        soon("the region's being left", async {
            let is_away = |cluster: &Value| cluster["spill"]["state"] == "away";
            while !edge.look("/snapshot").await.json()["clusters"].as_array().unwrap().iter().any(is_away) {
                assert!(ask(edge, "").await.whole);
            }
        })
        .await;
        asked()
    };
    let edge = Edge::start(&config("1h")).await;
    let before = left(&edge).await;
    assert!(before >= 3, "not before so many have failed: {before}");
    for _ in 0..5 {
        assert!(ask(&edge, "").await.whole);
    }
    assert_eq!(asked(), before, "the whole region is left");

    let edge = Edge::start(&config("1s")).await;
    let before = left(&edge).await;
    soon("another try", async {
        while asked() == before {
            assert!(ask(&edge, "").await.whole);
        }
    })
    .await;
}

#[tokio::test]
async fn a_process_at_the_end_of_its_means_serves_the_most_important_alone() {
    let sim = sim(Config::default()).await;
    let config = format!(
        "{}server: {{overload: {{memory: 1MiB}}}}\nroutes:\n  - {{name: urgent, path: /urgent, priority: high}}\n  \
         - {{name: all, path: /}}\n",
        cluster_of(&[sim.addr()], "admission: {limit: 8}")
    );
    let edge = Edge::start(&config).await;
    // It begins to look with the first request.
    let refused = soon("a refusal", async {
        loop {
            let reply = ask(&edge, "").await;
            if reply.status != 200 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "{refused:?}");
    let served = finish(begin(&edge, "/urgent", "").await).await.unwrap();
    assert!(served.status == 200 && served.whole);
    let lesser = begin(&edge, "/urgent", "x-forebay-priority: normal\r\n").await;
    assert_eq!(finish(lesser).await.unwrap().status, 503);
    assert!(edge.metric("forebay_shed_total{priority=\"normal\"}").await >= 2.0);
    assert!(edge.metric("forebay_pressure{bound=\"memory\"}").await > 1.0);
}
