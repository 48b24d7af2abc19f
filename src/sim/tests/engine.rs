//! The engine and the provider as a client meets them, and what becomes of clients that leave.

use super::*;
use crate::sim::Latency;
use std::time::Instant;

#[tokio::test]
async fn leaving_while_tokens_flow_frees_the_slot_and_bills_what_was_made() {
    let sim = sim(|config| {
        config.engine.decode_tps = Some(200.0);
        config.engine.slots = Some(1);
    })
    .await;
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-tokens: 100000\r\n", &streamed(chat("hi"))).await;
    client.see("content").await;
    until(&sim, |s| s.output_tokens >= 3 && s.active == 1).await;
    drop(client);
    let end = until(&sim, |s| s.cancelled.decoding == 1).await;
    assert_eq!((end.active, end.kv_tokens, end.completed), (0, 0, 0));
    let bill = end.models["m"];
    assert_eq!(bill.prompt_tokens, 3);
    assert!(
        bill.output_tokens >= 3 && bill.output_tokens == end.output_tokens && bill.output_tokens < 10_000
    );
    assert_eq!(ask(&sim, "/v1/chat/completions", "x-sim-tokens: 1\r\n", &chat("next")).await.status, 200);
}

#[tokio::test]
async fn leaving_a_whole_reply_bills_what_was_made() {
    let sim = sim(|config| config.engine.decode_tps = Some(500.0)).await;
    let mut client = Client::new(&sim).await;
    client
        .post(
            "/v1/messages",
            "x-sim-tokens: 1000000\r\n",
            &json!({
                "model": "m", "max_tokens": 1_000_000, "messages": [{"role": "user", "content": "hi"}],
            }),
        )
        .await;
    until(&sim, |s| s.output_tokens >= 10).await;
    drop(client);
    let end = until(&sim, |s| s.cancelled.decoding == 1).await;
    assert!(end.output_tokens < 100_000, "{end:?}");
    assert_eq!(end.active, 0);
}

#[tokio::test]
async fn leaving_while_the_prompt_is_read_or_in_line() {
    let sim = sim(|config| {
        config.engine.prefill_tps = Some(0.001);
        config.engine.slots = Some(1);
    })
    .await;
    let mut first = Client::new(&sim).await;
    first.post("/v1/chat/completions", "", &chat("hi")).await;
    until(&sim, |s| s.active == 1).await;
    let mut second = Client::new(&sim).await;
    second.post("/v1/responses", "", &json!({"model": "m", "input": "x"})).await;
    until(&sim, |s| s.queued == 1).await;
    drop(second);
    let seen = until(&sim, |s| s.cancelled.queued == 1).await;
    assert_eq!((seen.queued, seen.active), (0, 1));
    // A reset is noticed as an end is.
    first.stream.set_zero_linger().unwrap();
    drop(first);
    let seen = until(&sim, |s| s.cancelled.prefilling == 1).await;
    assert_eq!((seen.active, seen.prompt_tokens, seen.cancelled.total()), (0, 0, 2));
}

#[tokio::test]
async fn leaving_a_stall_or_an_upload() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-fault: stall=2\r\n", &streamed(chat("hi"))).await;
    client.see("content").await;
    until(&sim, |s| s.active == 1).await;
    drop(client);
    let seen = until(&sim, |s| s.cancelled.stalled == 1).await;
    assert_eq!(seen.active, 0);
    let mut client = Client::new(&sim).await;
    client
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\"")
        .await;
    drop(client);
    until(&sim, |s| s.cancelled.receiving == 1).await;
    let seen = until(&sim, |s| s.connections_open == 0).await;
    assert_eq!((seen.connections_accepted, seen.requests), (2, 1));
}

#[tokio::test]
async fn a_full_queue_is_503() {
    let sim = sim(|config| {
        config.engine.slots = Some(1);
        config.engine.queue = Some(1);
    })
    .await;
    let mut first = Client::new(&sim).await;
    first.post("/v1/chat/completions", "x-sim-fault: stall\r\n", &chat("hi")).await;
    until(&sim, |s| s.active == 1).await;
    let mut second = Client::new(&sim).await;
    second.post("/v1/chat/completions", "", &chat("hi")).await;
    until(&sim, |s| s.queued == 1).await;
    let full = ask(&sim, "/v1/chat/completions", "", &chat("hi")).await;
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert_eq!(full.json()["error"]["code"], "server_is_overloaded");
    let metrics = get(&sim, "/metrics", "").await.text();
    assert!(metrics.contains("vllm:num_requests_waiting{engine=\"0\",model_name=\"sim-model\"} 1\n"));
    drop(first);
    assert_eq!(second.reply().await.status, 200);
}

#[tokio::test]
async fn time_is_taken_by_prompt_and_tokens() {
    let sim = sim(|config| {
        config.engine.prefill_tps = Some(1000.0);
        config.engine.decode_tps = Some(500.0);
        config.provider.latency = Latency::Fixed(20.0);
    })
    .await;
    let begun = Instant::now();
    // 20 ms latency, 53 ms for 50 words with their role and end, 38 ms for 20 tokens after the first.
    ask(&sim, "/v1/chat/completions", "x-sim-tokens: 20\r\n", &streamed(chat(&"word ".repeat(50)))).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(105), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn cached_prefixes_are_reported_by_each_api() {
    let sim = sim(|config| config.engine.prefix_blocks = 100).await;
    let text = "word ".repeat(40);
    let cached = |got: Got| got.json()["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    assert_eq!(cached(ask(&sim, "/v1/chat/completions", "", &chat(&text)).await), 0);
    assert_eq!(cached(ask(&sim, "/v1/chat/completions", "", &chat(&text)).await), 32);
    let usage = ask(&sim, "/v1/messages", "", &message(&text)).await.json()["usage"].clone();
    assert_eq!((&usage["cache_read_input_tokens"], &usage["input_tokens"]), (&json!(32), &json!(10)));
    let mut fresh = message(&"other ".repeat(40));
    fresh["cache_control"] = json!({"type": "ephemeral"});
    let usage = ask(&sim, "/v1/messages", "", &fresh).await.json()["usage"].clone();
    assert_eq!((&usage["cache_creation_input_tokens"], &usage["input_tokens"]), (&json!(32), &json!(10)));
    let stats = sim.stats().snapshot();
    assert_eq!((stats.cached_tokens, stats.prefix_queries), (64, 168));
}

#[tokio::test]
async fn the_provider_limits_and_fails() {
    let limited = sim(|config| config.provider.requests_per_minute = Some(1)).await;
    let first = ask(&limited, "/v1/chat/completions", "", &chat("hi")).await;
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"));
    let second = ask(&limited, "/v1/chat/completions", "", &chat("hi")).await;
    assert_eq!((second.status, &second.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    let wait: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");

    let failing = sim(|config| config.provider.errors = [(529, 1.0)].into()).await;
    let failed = ask(&failing, "/v1/messages", "", &message("hi")).await;
    assert_eq!((failed.status, &failed.json()["error"]["type"]), (529, &json!("overloaded_error")));
    assert_eq!(failed.header("x-should-retry"), Some("true"));
    assert_eq!(get(&failing, "/v1/models", "").await.status, 200);
}

#[tokio::test]
async fn shutdown_ends_connections() {
    let sim = sim(|_| {}).await;
    let mut client = Client::new(&sim).await;
    client.post("/v1/chat/completions", "x-sim-fault: stall=1\r\n", &streamed(chat("hi"))).await;
    client.see("role").await;
    let addr = sim.addr();
    sim.shutdown().await;
    client.rest().await;
    assert!(TcpStream::connect(addr).await.is_err());
}
