//! Replies of another kind than the client asked for: whole for a stream, a stream for whole, an error for good.

use serde_json::json;

use crate::dialects::{Dialect, events};
use crate::support::scripted::{Scripted, Turn, answer, json as reply};
use crate::support::{Edge, Reply, cluster_of, post};

const STREAM: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi.\"},\"finish_reason\":null}]}\n\n\
    data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\n\n";

fn typed(media: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let media = if media.is_empty() { String::new() } else { format!("content-type: {media}\r\n") };
    format!("HTTP/1.1 200 OK\r\n{media}content-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn edge(upstream: &Scripted, spare: Option<&Scripted>) -> Edge {
    let addresses: Vec<_> =
        [Some(upstream), spare].into_iter().flatten().map(|scripted| scripted.addr).collect();
    let settings = "balance: priority, speaks: [chat_completions]";
    Edge::start(&(cluster_of(&addresses, settings) + "retry: {delay: 1ms}\n")).await
}

async fn ask(edge: &Edge, dialect: Dialect, stream: bool) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), "", dialect.ask("m", stream))).await
}

const DIALECTS: [Dialect; 2] = [Dialect::Chat, Dialect::Messages];

#[tokio::test]
async fn a_whole_reply_to_a_request_for_a_stream_becomes_one() {
    let upstream = Scripted::start(|_| Turn::Say(answer("Hi there."))).await;
    let edge = edge(&upstream, None).await;
    for dialect in DIALECTS {
        let got = ask(&edge, dialect, true).await;
        assert!(got.header("content-type").unwrap().starts_with("text/event-stream"), "{got:?}");
        let said = events(&got.body);
        assert!(dialect.is_complete(&said), "{said:?}");
        assert!(String::from_utf8_lossy(&got.body).contains("Hi there."), "{got:?}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_stream_for_a_request_for_a_whole_reply_is_put_together() {
    for media in ["text/event-stream", "text/event-stream; charset=utf-8"] {
        let upstream = Scripted::start(move |_| Turn::Say(typed(media, STREAM))).await;
        let edge = edge(&upstream, None).await;
        for dialect in DIALECTS {
            let got = ask(&edge, dialect, false).await;
            assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")), "{got:?}");
            assert!(dialect.is_answer(&got) && String::from_utf8_lossy(&got.body).contains("Hi."), "{got:?}");
        }
        edge.idle().await;
    }
}

#[tokio::test]
async fn a_stream_whose_type_says_nothing_is_a_stream() {
    for media in ["", "text/plain", "application/octet-stream"] {
        let upstream = Scripted::start(move |_| Turn::Say(typed(media, STREAM))).await;
        let edge = edge(&upstream, None).await;
        for dialect in DIALECTS {
            let got = ask(&edge, dialect, true).await;
            assert!(got.status == 200 && dialect.is_complete(&events(&got.body)), "{media} {got:?}");
        }
    }
}

#[tokio::test]
async fn what_only_pretends_to_be_good_is_tried_elsewhere() {
    let well = || {
        Scripted::start(|asked| {
            Turn::Say(if asked.text.contains("\"stream\":true") {
                typed("text/event-stream", STREAM)
            } else {
                answer("Hi.")
            })
        })
    };
    for body in [
        typed("text/html", "<html>Welcome to nginx!</html>"),
        reply(200, r#"{"error":{"message":"out of memory","type":"server_error"}}"#),
        reply(200, r#"{ "error" : "out of memory" }"#),
    ] {
        let sick = Scripted::start(move |_| Turn::Say(body.clone())).await;
        let spare = well().await;
        let edge = edge(&sick, Some(&spare)).await;
        for (dialect, stream) in DIALECTS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)])
        {
            let got = ask(&edge, dialect, stream).await;
            assert!(
                got.status == 200 && String::from_utf8_lossy(&got.body).contains("Hi."),
                "{stream} {got:?}"
            );
        }
        edge.idle().await;
    }
    let alone = Scripted::start(|_| Turn::Say(reply(200, r#"{"error":{"message":"out of memory"}}"#))).await;
    let edge = edge(&alone, None).await;
    let got = ask(&edge, Dialect::Chat, false).await;
    assert_eq!((got.status, &got.json()["error"]["message"]), (502, &json!("out of memory")), "{got:?}");
}

#[tokio::test]
async fn an_error_that_came_compressed_is_not_shown() {
    let upstream = Scripted::start(|_| {
        let body = b"\x1f\x8b\x08\x00garbage";
        let head = format!(
            "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Turn::Say([head.as_bytes(), body].concat())
    })
    .await;
    let edge = edge(&upstream, None).await;
    for dialect in DIALECTS {
        let got = ask(&edge, dialect, false).await;
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(got.status == 400 && message.contains("nothing that can be passed on"), "{got:?}");
    }
}

#[tokio::test]
async fn what_was_lost_is_logged() {
    let upstream = Scripted::start(|_| Turn::Say(answer("Hi."))).await;
    let edge = edge(&upstream, None).await;
    let body = json!({"model": "m", "max_tokens": 9, "container": "c", "messages": [{"role": "user", "content": "x"}]});
    let got = edge.connect().await.ask(&post("/v1/messages", "", body.to_string())).await;
    assert_eq!(got.header("x-forebay-dropped"), Some("container"));
    let line = edge.access(|line| line["status"] == 200).await;
    assert_eq!(line["dropped"], "container");
}
