//! Whole replies that are asked for as streams.

use forebay::sim::Config;
use serde_json::{Value, json};

use crate::dialects::Dialect;
use crate::support::scripted::{Scripted, Turn, answer, json as reply};
use crate::support::{DEADLINE, Edge, Reply, cluster_of, post, sim};

async fn ask(edge: &Edge, dialect: Dialect, fields: &str) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), fields, dialect.ask("m", false))).await
}

/// What must be equal, whichever way a reply came: everything but ids and times.
fn lasting(reply: &Reply) -> Value {
    let mut body = reply.json();
    for key in ["id", "created", "created_at", "system_fingerprint", "completed_at"] {
        body.as_object_mut().unwrap().remove(key);
    }
    body
}

#[tokio::test]
async fn a_folded_reply_says_what_the_unstreamed_one_does() {
    let sim = sim(Config::default()).await;
    for dialect in [Dialect::Chat, Dialect::Messages] {
        let mut replies = Vec::new();
        for fold in ["false", "true"] {
            let edge = Edge::start(&cluster_of(&[sim.addr()], &format!("fold: {fold}"))).await;
            sim.stats().reset();
            let reply = ask(&edge, dialect, "").await;
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, Some("application/json")),
                "{reply:?}"
            );
            let line = edge.access(|line| line["status"] == 200).await;
            assert_eq!((&line["stream"], &line["end"]), (&json!(0), &json!("--")));
            replies.push((lasting(&reply), line["input_tokens"].clone(), line["output_tokens"].clone()));
            edge.idle().await;
        }
        let (plain, folded) = (&replies[0], &replies[1]);
        let said = |body: &Value| match dialect {
            Dialect::Chat => body["choices"][0]["message"]["content"].clone(),
            _ => body["content"][0]["text"].clone(),
        };
        assert_eq!(said(&plain.0), said(&folded.0));
        assert_eq!((&plain.1, &plain.2), (&folded.1, &folded.2), "the usage is the same");
        assert_eq!(plain.0["usage"]["total_tokens"], folded.0["usage"]["total_tokens"]);
    }
}

const EVENT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\n";

fn stream(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_tried_elsewhere_and_nobody_sees_a_part() {
    let cut = Scripted::start(|_| Turn::SayAndClose(stream(EVENT)[..].to_vec())).await;
    let error = Scripted::start(|_| {
        let failed = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}\n\n";
        Turn::Say(stream(&(EVENT.to_owned() + failed)))
    })
    .await;
    let whole = Scripted::start(|_| Turn::Say(answer("Hello."))).await;
    for sick in [&cut, &error] {
        let settings = "balance: priority, fold: true";
        let edge =
            Edge::start(&(cluster_of(&[sick.addr, whole.addr], settings) + "retry: {delay: 1ms}\n")).await;
        let reply = ask(&edge, Dialect::Chat, "").await;
        let said = reply.json()["choices"][0]["message"]["content"].clone();
        assert_eq!((reply.status, said), (200, json!("Hello.")), "{reply:?}");
        let line = edge.access(|line| line["status"] == 200).await;
        assert_eq!(line["attempts"], 2);
        edge.idle().await;
    }
    let asked = cut.received().remove(0);
    assert!(asked.contains("\"stream\":true") && asked.contains("\"include_usage\":true"), "{asked}");
}

#[tokio::test]
async fn an_error_comes_as_the_upstream_said_it() {
    let upstream = Scripted::start(|_| Turn::Say(reply(400, r#"{"error":{"message":"bad","x":1}}"#))).await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], "fold: true")).await;
    let got = ask(&edge, Dialect::Chat, "").await;
    assert_eq!((got.status, got.json()), (400, json!({"error": {"message": "bad", "x": 1}})));
}

#[tokio::test]
async fn several_choices_are_asked_for_as_they_are() {
    let upstream = Scripted::start(|_| Turn::Say(answer("Hi."))).await;
    let edge = Edge::start(&cluster_of(&[upstream.addr], "fold: true")).await;
    let body = json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let got = edge.connect().await.ask(&post("/v1/chat/completions", "", body)).await;
    assert_eq!(got.status, 200);
    assert!(!upstream.received()[0].contains("\"stream\""));
}

#[tokio::test]
async fn the_upstream_sees_at_once_that_the_client_has_left() {
    let sim = sim(Config::default()).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "fold: true, clocks: {gap: 60s}")).await;
    let mut client = edge.connect().await;
    let fields = "x-sim-fault: stall=3\r\n";
    client.send(&post("/v1/chat/completions", fields, Dialect::Chat.ask("m", false))).await;
    sim.stats().wait_until(|stats| stats.output_tokens >= 2, DEADLINE).await.unwrap();
    drop(client);
    sim.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
    let gone = edge.access(|line| line["status"] == 499).await;
    assert_eq!(gone["stream"], 0);
    edge.idle().await;
}
