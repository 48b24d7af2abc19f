//! HTTP/1 itself, replays and the fixed mode.

use super::*;
use crate::sim::{Chunking, Fixed, Recorded};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    let one =
        |text: &str| post("/v1/chat/completions", &format!("x-sim-text: {text}\r\n"), &chat("x").to_string());
    client.send([one("first"), one("second"), "GET /health HTTP/1.1\r\n\r\n".into()].concat()).await;
    for text in ["first", "second"] {
        assert_eq!(client.reply().await.json()["choices"][0]["message"]["content"], text);
    }
    assert_eq!(client.reply().await.json()["status"], "ok");
    assert_eq!(sim.stats().snapshot().connections_accepted, 1);
}

#[tokio::test]
async fn bodies_come_by_length_or_in_chunks_after_100_continue() {
    let sim = sim(|_| {}).await;
    let body = chat(&"long ".repeat(20_000)).to_string();
    let mut client = Client::new(&sim).await;
    client
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 100);
    for piece in body.as_bytes().chunks(777) {
        client.send([format!("{:x};ext=1\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
    }
    client.send("0\r\ntrailer: x\r\n\r\n").await;
    assert_eq!(client.reply().await.json()["usage"]["prompt_tokens"], 20_002);
    client.post("/v1/chat/completions", "", &chat(&"long ".repeat(20_000))).await;
    assert_eq!(client.reply().await.json()["usage"]["prompt_tokens"], 20_002);
    assert_eq!(sim.requests()[0].body_len, body.len());
    assert_eq!(sim.requests()[0].body.len(), 64 << 10);
}

#[tokio::test]
async fn head_and_old_versions() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    client.send("HEAD /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let (status, head) = client.head().await;
    assert!(status == 200 && head.contains("content-length: 194"), "{head}");
    client.send("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(client.reply().await.header("connection"), Some("close"));
    assert_eq!(client.rest().await, (Vec::new(), Ending::Closed));
    let mut old = Client::new(&sim).await;
    let body = streamed(chat("x")).to_string();
    old.send(format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        .await;
    let (bytes, ending) = old.rest().await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(ending == Ending::Closed && text.ends_with("data: [DONE]\n\n") && !text.contains("chunked"));
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let sim = sim(|config| config.max_body = 1000).await;
    let cases = [
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx".to_owned(), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), "400"),
        ("POST /x HTTP/1.1\r\ncontent-length: 1001\r\n\r\n".to_owned(), "413"),
        ("POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n".to_owned(), "413"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(300)), "431"),
    ];
    for (bytes, status) in cases {
        let mut client = Client::new(&sim).await;
        client.send(&bytes).await;
        let (got, ending) = client.rest().await;
        let text = String::from_utf8(got).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {text}");
        assert_eq!(ending, Ending::Closed);
    }
}

#[tokio::test]
async fn connections_end_when_told() {
    let counted = sim(|config| config.keep_alive_requests = Some(2)).await;
    let mut client = Client::new(&counted).await;
    client.send("GET /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.reply().await.header("connection"), None);
    assert_eq!(client.reply().await.header("connection"), Some("close"));
    assert_eq!(client.rest().await.0, b"");
    let timed = sim(|config| config.keep_alive_ms = Some(5)).await;
    assert_eq!(Client::new(&timed).await.rest().await, (Vec::new(), Ending::Closed));
}

#[tokio::test]
async fn replays_are_exact_at_every_chunking() {
    let body: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let sse = Recorded {
        path: Some("/v1/responses".into()),
        status: 200,
        headers: vec![("Content-Type".into(), "text/event-stream".into()), ("X-Kept".into(), "yes".into())],
        body: body.clone(),
    };
    let error = Recorded {
        path: None,
        status: 418,
        headers: vec![("content-length".into(), "9".into())],
        body: b"{\"no\": 1}".to_vec(),
    };
    for chunking in [Chunking::Whole, Chunking::Every(7), Chunking::OneByte, Chunking::Random(3)] {
        let sim = Sim::start_replay(vec![sse.clone(), error.clone()], chunking).await.unwrap();
        let got = ask(&sim, "/v1/responses?x=1", "", &json!({})).await;
        assert_eq!((got.status, got.header("x-kept"), &got.body), (200, Some("yes"), &body));
        assert_eq!((got.header("x-request-id"), got.header("transfer-encoding")), (None, Some("chunked")));
        let got = ask(&sim, "/other", "", &json!({})).await;
        assert_eq!(
            (got.status, got.header("content-length"), got.text().as_str()),
            (418, Some("9"), "{\"no\": 1}")
        );
    }
}

#[tokio::test]
async fn fixed_replies_have_their_sizes() {
    let fixed = Fixed { body_bytes: 900, event_bytes: 300, events: 5, interval_ms: 1, stamp: false };
    let sim = sim(|config| config.fixed = Some(fixed)).await;
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"] {
        let whole = ask(&sim, path, "", &json!({"model": "any", "messages": []})).await;
        assert!(
            whole.body.len().abs_diff(900) < 4 || path.ends_with("responses"),
            "{path} {}",
            whole.body.len()
        );
        assert!(whole.json().is_object());
        let mut client = Client::new(&sim).await;
        client.send(post(path, "", "{\"stream\" : true}")).await;
        let (status, _) = client.head().await;
        let mut sizes = Vec::new();
        while let Some(chunk) = client.chunk().await {
            sizes.push(chunk.len());
        }
        assert_eq!((status, sizes.len()), (200, 5), "{path}");
        assert!(
            sizes[1..4].iter().all(|size| size.abs_diff(300) < 4 || path.ends_with("responses")),
            "{path} {sizes:?}"
        );
    }
    assert_eq!(get(&sim, "/health", "").await.status, 200);
}

#[tokio::test]
async fn fixed_replies_speak_every_dialect_that_streams() {
    let fixed = Fixed { body_bytes: 900, event_bytes: 600, events: 5, interval_ms: 0, stamp: false };
    let sim = sim(|config| config.fixed = Some(fixed)).await;
    for (whole, stream, media) in [
        (
            "/v1beta/models/g:generateContent",
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            "text/event-stream",
        ),
        ("/model/c/converse", "/model/c/converse-stream", "application/vnd.amazon.eventstream"),
        ("/model/c/invoke", "/model/c/invoke-with-response-stream", "application/vnd.amazon.eventstream"),
        ("/v2/chat", "/v2/chat", "text/event-stream"),
        ("/api/chat", "/api/chat", "application/x-ndjson"),
    ] {
        let got = ask(&sim, whole, "", &json!({"stream": false})).await;
        assert!(got.body.len().abs_diff(900) < 4 && got.json().is_object(), "{whole} {got:?}");
        let mut client = Client::new(&sim).await;
        client.post(stream, "", &json!({"stream": true})).await;
        let (_, head) = client.head().await;
        assert!(head.contains(media), "{stream} {head}");
        let mut sizes = Vec::new();
        while let Some(chunk) = client.chunk().await {
            sizes.push(chunk.len());
        }
        assert_eq!(sizes.len(), 5, "{stream}");
        assert!(sizes[1..4].iter().all(|size| size.abs_diff(600) < 10), "{stream} {sizes:?}");
    }
}

#[tokio::test]
async fn fixed_sizes_are_small_by_default() {
    let sim =
        sim(|config| config.fixed = Some(Fixed { interval_ms: 0, stamp: true, ..Fixed::default() })).await;
    assert_eq!(ask(&sim, "/v1/chat/completions", "", &chat("x")).await.body.len().abs_diff(340), 0);
    let got = ask(&sim, "/v1/chat/completions", "", &streamed(chat("x"))).await;
    assert_eq!(got.text().split_inclusive("\n\n").nth(50).unwrap().len(), 180);
    assert_eq!(got.chunks().len(), 1 + 100 + 2);
}

#[tokio::test]
async fn stamped_events_carry_the_time_of_sending() {
    let fixed = Fixed { events: 3, interval_ms: 1, stamp: true, ..Fixed::default() };
    let sim = sim(|config| config.fixed = Some(fixed)).await;
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let got = ask(&sim, "/v1/chat/completions", "", &streamed(chat("x"))).await;
    let stamps: Vec<u128> = got
        .chunks()
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().filter(|text| text.len() >= 19))
        .map(|text| text.trim_start().get(..19).unwrap().parse().unwrap())
        .collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps[0] >= before && stamps.is_sorted() && stamps[2] > stamps[0], "{stamps:?}");
}
