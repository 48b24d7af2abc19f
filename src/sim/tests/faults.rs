//! Each fault as the client on the other side sees it.

use super::*;
use crate::sim::FaultRule;

async fn strike(sim: &Sim, fault: &str, body: &Value) -> (String, Ending) {
    let mut client = Client::new(sim).await;
    client
        .post(
            "/v1/chat/completions",
            &format!("x-sim-text: one two three four\r\nx-sim-fault: {fault}\r\n"),
            body,
        )
        .await;
    let (bytes, ending) = client.rest().await;
    (String::from_utf8_lossy(&bytes).into_owned(), ending)
}

/// As [`strike`], for faults after which the connection lives on.
async fn survive(sim: &Sim, fault: &str, path: &str, body: &Value) -> Got {
    ask(sim, path, &format!("x-sim-text: one two three four\r\nx-sim-fault: {fault}\r\n"), body).await
}

fn events(text: &str) -> usize {
    text.matches("data: ").count()
}

#[tokio::test]
async fn faults_before_the_head() {
    let sim = sim(|_| {}).await;
    assert_eq!(strike(&sim, "refuse", &chat("x")).await, (String::new(), Ending::Closed));
    assert_eq!(strike(&sim, "reset_before_head", &chat("x")).await, (String::new(), Ending::Reset));
    let (text, ending) = strike(&sim, "garbage_head", &chat("x")).await;
    assert!(!text.starts_with("HTTP") && text.contains("garbage") && ending == Ending::Closed);
    assert_eq!(until(&sim, |s| s.broken == 3).await.cancelled.total(), 0);
}

#[tokio::test]
async fn faults_within_the_body() {
    let sim = sim(|_| {}).await;
    let (text, ending) = strike(&sim, "reset_after_head", &streamed(chat("x"))).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n") && ending == Ending::Reset);
    for (fault, wanted) in
        [("cut=2", Ending::Closed), ("reset=2", Ending::Reset), ("goaway=2", Ending::Closed)]
    {
        let (text, ending) = strike(&sim, fault, &streamed(chat("x"))).await;
        assert_eq!((events(&text), ending), (2, wanted), "{fault}");
        assert!(!text.contains("\r\n0\r\n"), "{fault}");
    }
    let (text, ending) = strike(&sim, "bad_chunk=1", &streamed(chat("x"))).await;
    assert!(events(&text) == 1 && text.contains("\r\nzz\r\n") && ending == Ending::Closed);
    let stats = until(&sim, |s| s.broken == 5).await;
    assert_eq!((stats.active, stats.completed), (0, 0));
    assert_eq!(stats.models["m"].output_tokens, 1 + 1 + 1, "what was made before the fault is billed");
}

#[tokio::test]
async fn a_whole_body_breaks_in_the_middle() {
    let sim = sim(|_| {}).await;
    let whole = ask(&sim, "/v1/chat/completions", "x-sim-text: one two three four\r\n", &chat("x")).await;
    let (text, ending) = strike(&sim, "cut=1", &chat("x")).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", whole.body.len())));
    assert_eq!((body.len(), ending), (whole.body.len() / 2, Ending::Closed));
    assert_eq!(strike(&sim, "reset=1", &chat("x")).await.1, Ending::Reset);
    let stalled = survive(&sim, "stall=1,5", "/v1/chat/completions", &chat("x")).await;
    assert_eq!(stalled.json(), whole.json());
}

#[tokio::test]
async fn stalls_that_end() {
    let sim = sim(|_| {}).await;
    for fault in ["stall=head,20", "stall=0,20", "stall=first,20", "stall=3,20"] {
        let begun = std::time::Instant::now();
        let got = survive(&sim, fault, "/v1/chat/completions", &streamed(chat("x"))).await;
        assert_eq!(got.events().last().unwrap().1, "[DONE]", "{fault}");
        assert!(begun.elapsed() >= Duration::from_millis(20), "{fault}");
    }
}

#[tokio::test]
async fn stalls_come_where_they_are_asked_for() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-fault: stall=0\r\n", &streamed(chat("x"))).await;
    let (status, _) = client.head().await;
    assert_eq!((status, client.buffer.len()), (200, 0));
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-fault: stall\r\n", &streamed(chat("x"))).await;
    until(&sim, |s| s.active == 2).await;
    drop(client);
    assert_eq!(until(&sim, |s| s.cancelled.stalled == 1).await.active, 1);
}

#[tokio::test]
async fn error_events_speak_the_dialect() {
    let sim = sim(|_| {}).await;
    let chat = survive(&sim, "error_event=2", "/v1/chat/completions", &streamed(chat("x"))).await;
    let chunks = chat.chunks();
    assert_eq!((chunks.len(), &chunks[2]["error"]["type"]), (3, &json!("server_error")));
    assert!(!chat.text().contains("[DONE]"));
    let messages = survive(&sim, "error_event", "/v1/messages", &streamed(message("x"))).await;
    let events = messages.events();
    assert_eq!((events.len(), events[0].0.as_str()), (1, "error"));
    assert_eq!(messages.chunks()[0]["error"]["type"], "overloaded_error");
    let body = json!({"model": "m", "input": "x", "stream": true});
    let responses = survive(&sim, "error_event=4", "/v1/responses", &body).await;
    let chunks = responses.chunks();
    assert_eq!((&chunks[4]["type"], &chunks[5]["type"]), (&json!("error"), &json!("response.failed")));
    assert_eq!((&chunks[4]["sequence_number"], &chunks[5]["sequence_number"]), (&json!(4), &json!(5)));
    assert_eq!(chunks[5]["response"]["id"], chunks[0]["response"]["id"]);
    assert_eq!((&chunks[5]["response"]["status"], chunks.len()), (&json!("failed"), 6));
}

#[tokio::test]
async fn streams_of_odd_content() {
    let sim = sim(|_| {}).await;
    let empty = survive(&sim, "empty_stream", "/v1/chat/completions", &streamed(chat("x"))).await;
    assert!(empty.body.is_empty() && empty.header("content-type").unwrap().starts_with("text/event-stream"));
    for (path, body, last) in [
        ("/v1/chat/completions", streamed(chat("x")), "[DONE]"),
        ("/v1/messages", streamed(message("x")), "message_stop"),
        ("/v1/responses", json!({"model": "m", "input": "x", "stream": true}), "response.completed"),
    ] {
        let ends = |got: Got| got.events().last().unwrap().1.contains(last);
        assert!(ends(survive(&sim, "stall=0,1", path, &body).await), "{path}");
        assert!(!ends(survive(&sim, "no_done", path, &body).await), "{path}");
    }
    let huge = survive(&sim, "huge_event=100000", "/v1/chat/completions", &streamed(chat("x"))).await;
    assert_eq!(huge.chunks()[1]["choices"][0]["delta"]["content"].as_str().unwrap().len(), 100_000);
}

#[tokio::test]
async fn lengths_that_lie() {
    let sim = sim(|_| {}).await;
    let whole =
        ask(&sim, "/v1/chat/completions", "x-sim-text: one two three four\r\n", &chat("x")).await.body.len();
    for (fault, announced) in [("wrong_length=long", whole + 10), ("wrong_length=-3", whole - 3)] {
        let (text, ending) = strike(&sim, fault, &chat("x")).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {announced}\r\n")), "{head}");
        assert_eq!((body.len(), ending), (whole, Ending::Closed));
    }
    let (text, _) = strike(&sim, "wrong_length=short", &streamed(chat("x"))).await;
    assert!(text.contains("content-length: 10\r\n") && text.contains("[DONE]"));
    let (text, ending) = strike(&sim, "close_delimited", &streamed(chat("x"))).await;
    assert!(
        !text.contains("chunked") && !text.contains("content-length") && text.ends_with("data: [DONE]\n\n")
    );
    assert_eq!(ending, Ending::Closed);
}

#[tokio::test]
async fn heads_before_the_head() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-fault: info_flood=50\r\n", &chat("x")).await;
    for _ in 0..50 {
        assert_eq!(client.head().await.0, 103);
    }
    assert_eq!(client.reply().await.status, 200);
    client.post("/v1/chat/completions", "x-sim-fault: switching\r\n", &chat("x")).await;
    assert_eq!(client.head().await.0, 101);
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn slow_heads_and_single_bytes_arrive_whole() {
    let sim = sim(|_| {}).await;
    let begun = std::time::Instant::now();
    let slow = survive(&sim, "slow_head=1", "/v1/chat/completions", &chat("x")).await;
    assert!(slow.status == 200 && begun.elapsed() >= Duration::from_millis(100));
    let mut client = Client::new(&sim).await;
    client.stream.set_nodelay(true).unwrap();
    client.post("/v1/chat/completions", "x-sim-fault: one_byte\r\n", &streamed(chat("x"))).await;
    client.more().await.unwrap();
    assert!(client.buffer.len() < 100, "the head does not come at once");
    assert_eq!(client.reply().await.events().last().unwrap().1, "[DONE]");
}

#[tokio::test]
async fn whole_replies_of_another_kind() {
    let sim = sim(|_| {}).await;
    let got = survive(&sim, "status=429;retry_after=7", "/v1/messages", &message("x")).await;
    assert_eq!((got.status, got.header("retry-after")), (429, Some("7")));
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
    let got = survive(&sim, "html=503", "/v1/chat/completions", &chat("x")).await;
    assert_eq!((got.status, got.header("content-type")), (503, Some("text/html; charset=utf-8")));
    assert!(got.text().starts_with("<!DOCTYPE html>"));
    let plain =
        ask(&sim, "/v1/chat/completions", "x-sim-text: one two three four\r\n", &streamed(chat("x"))).await;
    let zipped = survive(&sim, "gzip", "/v1/chat/completions", &streamed(chat("x"))).await;
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(inflate(&zipped.body), plain.body);
    let zipped = survive(&sim, "gzip", "/v1/chat/completions", &chat("x")).await;
    assert!(serde_json::from_slice::<Value>(&inflate(&zipped.body)).unwrap()["choices"].is_array());
    let wrong = survive(&sim, "cutt", "/v1/chat/completions", &chat("x")).await;
    assert!(wrong.status == 400 && wrong.text().contains("known are"));
}

/// Reads stored blocks, which is all that the simulator writes.
fn inflate(gzip: &[u8]) -> Vec<u8> {
    let mut rest = gzip.strip_prefix(&[0x1f, 0x8b, 8]).unwrap().get(7..).unwrap();
    let mut out = Vec::new();
    loop {
        let (last, length) = (rest[0], usize::from(u16::from_le_bytes([rest[1], rest[2]])));
        assert_eq!(u16::from_le_bytes([rest[3], rest[4]]), !(length as u16));
        out.extend_from_slice(&rest[5..5 + length]);
        rest = &rest[5 + length..];
        if last == 1 {
            assert_eq!(rest[4..], (out.len() as u32).to_le_bytes());
            return out;
        }
    }
}

#[tokio::test]
async fn faults_by_rule_and_by_body() {
    let rule = |fault: &str, first, path: Option<&str>| FaultRule {
        fault: fault.into(),
        rate: None,
        first,
        path: path.map(str::to_owned),
    };
    let sim = sim(|config| {
        config.faults = vec![rule("refuse", Some(1), None), rule("status=500", Some(2), None)];
        config.faults.push(rule("status=503", None, Some("/health")));
    })
    .await;
    assert_eq!(Client::new(&sim).await.rest().await.0, b"");
    assert_eq!(get(&sim, "/health", "").await.status, 503);
    assert_eq!(get(&sim, "/v1/models", "").await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(&sim, "/v1/chat/completions", "", &chat("x")).await.status);
    }
    assert_eq!(statuses, [500, 500, 200]);
    let mut body = chat("x");
    body["sim"] = json!({"fault": "status=418"});
    assert_eq!(ask(&sim, "/v1/chat/completions", "", &body).await.status, 418);
}

#[tokio::test]
async fn rates_are_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let sim = sim(|config| {
            config.seed = 3;
            config.faults =
                vec![FaultRule { fault: "status=500".into(), rate: Some(0.5), ..FaultRule::default() }];
        })
        .await;
        let mut statuses = Vec::new();
        for _ in 0..20 {
            statuses.push(ask(&sim, "/v1/chat/completions", "", &chat("x")).await.status);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&500) && runs[0].contains(&200));
}

#[tokio::test]
async fn nonsense_settings_are_refused_with_help() {
    let start = |fault: &str| {
        let rule = FaultRule { fault: fault.into(), ..FaultRule::default() };
        Sim::start(Config { faults: vec![rule], ..Config::default() }, SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    assert!(start("cut=soon").await.unwrap_err().to_string().contains("whole number"));
    assert!(start("").await.unwrap_err().to_string().contains("cut=3"));
}

#[tokio::test]
async fn what_is_good_by_its_status_alone() {
    let sim = sim(|_| {}).await;
    let path = "/v1/chat/completions";
    for body in [chat("x"), streamed(chat("x"))] {
        let error = survive(&sim, "error_body", path, &body).await;
        assert!(error.status == 200 && error.json()["error"]["message"].is_string(), "{error:?}");
        let empty = survive(&sim, "empty_body", path, &body).await;
        assert_eq!((empty.status, empty.body.len()), (200, 0), "{empty:?}");
    }
    let quota = survive(&sim, "quota;retry_after=3", path, &chat("x")).await;
    assert_eq!((quota.status, quota.json()["error"]["code"].clone()), (429, json!("insufficient_quota")));
}

#[tokio::test]
async fn a_body_comes_byte_by_byte_and_its_head_at_once() {
    let sim = sim(|_| {}).await;
    let began = std::time::Instant::now();
    let got = survive(&sim, "slow_body=1", "/v1/chat/completions", &chat("x")).await;
    assert_eq!(got.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(got.body.len() as u64));
}

#[tokio::test]
async fn configured_faults_strike_when_they_are_to() {
    let rule = FaultRule { fault: "status=500".into(), ..FaultRule::default() };
    let sim = sim(|config| config.faults = vec![rule]).await;
    for on in [true, false, true] {
        sim.strikes(on);
        let got = ask(&sim, "/v1/chat/completions", "", &chat("x")).await;
        assert_eq!(got.status, if on { 500 } else { 200 });
    }
}
