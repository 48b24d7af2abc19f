//! A client of one dialect before an upstream that speaks only another.

use forebay::sim::{Config, Sim};
use serde_json::{Value, json};

use crate::dialects::{Dialect, events};
use crate::support::scripted::{self, Scripted, Turn};
use crate::support::{Edge, ONE_TRY, Reply, cluster_of, get, post, sim};

/// Who asks, and what the only upstream speaks.
const PAIRS: [(Dialect, &str); 2] = [(Dialect::Chat, "messages"), (Dialect::Messages, "chat_completions")];

async fn site(speaks: &str, more: &str) -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let edge = Edge::start(&(cluster_of(&[sim.addr()], &format!("speaks: [{speaks}]")) + more)).await;
    (edge, sim)
}

async fn ask(edge: &Edge, dialect: Dialect, fields: &str, body: &Value) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), fields, body.to_string())).await
}

/// A request with a system prompt, and something that only its own dialect has.
fn rich(dialect: Dialect, stream: bool) -> Value {
    match dialect {
        Dialect::Messages => json!({
            "model": "m", "max_tokens": 64, "stream": stream, "system": "Be brief.",
            "messages": [{"role": "user", "content": "Say something."}],
            "container": "c1",
        }),
        _ => json!({
            "model": "m", "stream": stream, "stream_options": {"include_usage": true}, "logit_bias": {"1": 2},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Say something."},
            ],
        }),
    }
}

/// The words of a reply, and its tokens of input and output.
fn said(dialect: Dialect, reply: &Reply, stream: bool) -> (String, u64, u64) {
    let words = |values: Vec<&Value>| values.iter().filter_map(|value| value.as_str()).collect::<String>();
    let events = events(&reply.body);
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    match (dialect, stream) {
        (Dialect::Messages, false) => {
            let body = reply.json();
            let usage = &body["usage"];
            let text = words(vec![&body["content"][0]["text"]]);
            (text, count(&usage["input_tokens"]), count(&usage["output_tokens"]))
        }
        (Dialect::Messages, true) => {
            let usage = |key: &str| {
                let reported = events.iter().filter_map(|(_, data)| {
                    data["usage"][key].as_u64().or_else(|| data["message"]["usage"][key].as_u64())
                });
                reported.max().unwrap_or_default()
            };
            let text = words(events.iter().map(|(_, data)| &data["delta"]["text"]).collect());
            (text, usage("input_tokens"), usage("output_tokens"))
        }
        (_, false) => {
            let body = reply.json();
            let usage = &body["usage"];
            let text = words(vec![&body["choices"][0]["message"]["content"]]);
            (text, count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]))
        }
        (_, true) => {
            let text =
                words(events.iter().map(|(_, data)| &data["choices"][0]["delta"]["content"]).collect());
            let usage =
                events.iter().map(|(_, data)| &data["usage"]).find(|usage| usage.is_object()).unwrap();
            (text, count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]))
        }
    }
}

#[tokio::test]
async fn a_reply_reads_as_if_it_came_from_the_clients_own_kind_of_upstream() {
    for (dialect, speaks) in PAIRS {
        let (edge, sim) = site(speaks, "").await;
        let mut texts = Vec::new();
        for stream in [false, true] {
            sim.stats().reset();
            let reply = ask(&edge, dialect, "", &rich(dialect, stream)).await;
            assert_eq!(reply.status, 200, "{dialect:?} {reply:?}");
            let (text, input, output) = said(dialect, &reply, stream);
            assert!(!text.is_empty(), "{reply:?}");
            let right = if stream {
                reply.header("content-type").unwrap().starts_with("text/event-stream")
                    && dialect.is_complete(&events(&reply.body))
            } else {
                reply.header("content-type") == Some("application/json") && dialect.is_answer(&reply)
            };
            assert!(right, "{dialect:?}: {reply:?}");
            let lost = if dialect == Dialect::Chat { "logit_bias" } else { "container" };
            assert_eq!(reply.header("x-forebay-dropped"), Some(lost));
            let line = edge.access(|line| line["stream"] == u64::from(stream)).await;
            assert_eq!(
                (&line["input_tokens"], &line["output_tokens"]),
                (&json!(input), &json!(output)),
                "{line}"
            );
            assert!(input > 0 && output > 0 && line["end"] == "--", "{line}");
            texts.push(text);
        }
        edge.idle().await;
    }
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_understood() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    for stream in [false, true] {
        let (edge, _sim) = site("messages", "").await;
        let function = json!({"name": "weather", "description": "The weather.", "parameters": schema});
        let mut body: Value = serde_json::from_str(&Dialect::Chat.ask("m", stream)).unwrap();
        body["tools"] = json!([{"type": "function", "function": function}]);
        let reply = ask(&edge, Dialect::Chat, "", &body).await;
        let call = if stream {
            let events = events(&reply.body);
            let calls = events.iter().map(|(_, data)| &data["choices"][0]["delta"]["tool_calls"][0]);
            let mut calls = calls.filter(|call| call.is_object());
            let mut call = calls.next().unwrap().clone();
            let more: String = calls.filter_map(|call| call["function"]["arguments"].as_str()).collect();
            let whole = call["function"]["arguments"].as_str().unwrap_or_default().to_owned() + &more;
            call["function"]["arguments"] = json!(whole);
            assert!(events.iter().any(|(_, data)| data["choices"][0]["finish_reason"] == "tool_calls"));
            call
        } else {
            assert_eq!(reply.json()["choices"][0]["finish_reason"], "tool_calls");
            reply.json()["choices"][0]["message"]["tool_calls"][0].clone()
        };
        assert_eq!(call["function"]["name"], "weather");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object(), "{arguments}");
        // The conversation goes on with what the tool said.
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": call["id"], "type": "function", "function": call["function"]},
        ]}));
        messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "It rains."}));
        let reply = ask(&edge, Dialect::Chat, "", &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[tokio::test]
async fn a_strict_route_refuses_what_would_be_lost_and_a_bad_request_goes_nowhere() {
    let strict = "routes: [{name: default, path: /, loss: strict}]\n";
    for (dialect, speaks) in PAIRS {
        let (edge, sim) = site(speaks, strict).await;
        let reply = ask(&edge, dialect, "", &rich(dialect, false)).await;
        let lost = if dialect == Dialect::Chat { "logit_bias" } else { "container" };
        let message = dialect.refusal(&reply).unwrap();
        assert!(reply.status == 400 && message.starts_with(lost), "{reply:?}");
        let mut bad = rich(dialect, false);
        bad["messages"][0]["role"] = json!("nobody");
        let reply = ask(&edge, dialect, "", &bad).await;
        let message = dialect.refusal(&reply).unwrap();
        assert!(reply.status == 400 && message.contains("messages[0].role"), "{reply:?}");
        assert_eq!(sim.stats().snapshot().requests, 0);
    }
}

#[tokio::test]
async fn an_error_of_the_upstream_is_one_of_the_clients_dialect() {
    for (dialect, speaks) in PAIRS {
        let (edge, _sim) = site(speaks, ONE_TRY).await;
        for (status, chat, messages) in [
            (400, 400, 400),
            (404, 404, 404),
            (413, 413, 413),
            (429, 429, 429),
            (500, 502, 500),
            (503, 503, 529),
            (529, 503, 529),
        ] {
            for stream in [false, true] {
                let fault = format!("x-sim-fault: status={status};retry_after=7\r\n");
                let body = serde_json::from_str(&dialect.ask("m", stream)).unwrap();
                let reply = ask(&edge, dialect, &fault, &body).await;
                let expected = if dialect == Dialect::Chat { chat } else { messages };
                assert_eq!(reply.status, expected, "{dialect:?} {status}: {reply:?}");
                assert!(dialect.refusal(&reply).is_some_and(|message| !message.is_empty()), "{reply:?}");
                assert_eq!(reply.header("retry-after"), Some("7"), "{status}");
            }
        }
        edge.idle().await;
    }
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_an_error_of_the_clients_dialect() {
    for (dialect, speaks) in PAIRS {
        let (edge, _sim) = site(speaks, ONE_TRY).await;
        let body = serde_json::from_str(&dialect.ask("m", true)).unwrap();
        for fault in ["cut=4", "reset=4", "bad_chunk=4", "error_event=4", "no_done"] {
            let id = fault.replace('=', "-");
            let fields = format!("x-sim-fault: {fault}\r\nx-request-id: {id}\r\n");
            let reply = ask(&edge, dialect, &fields, &body).await;
            let events = events(&reply.body);
            let told = dialect.error_in(&events);
            if reply.status >= 500 {
                // It came before anything was said.
                assert!(dialect.refusal(&reply).is_some(), "{fault}: {reply:?}");
                continue;
            }
            assert!(reply.status == 200 && reply.whole, "{fault}: {reply:?}");
            // Chat says why it stopped before its terminal event, which some upstreams never send.
            if told.is_none() {
                assert!(fault == "no_done" && dialect.is_complete(&events), "{dialect:?} {fault}: {reply:?}");
            }
            let line = edge.access(|line| line["id"] == id.as_str()).await;
            assert!(told.is_none() == (line["end"] == "--"), "{dialect:?} {fault}: {line}");
        }
        for fault in ["empty_stream", "error_event=0", "refuse", "reset=0"] {
            let reply = ask(&edge, dialect, &format!("x-sim-fault: {fault}\r\n"), &body).await;
            assert!(reply.status >= 500 && dialect.refusal(&reply).is_some(), "{fault}: {reply:?}");
        }
        edge.idle().await;
    }
}

// === Dialects whose path names the model ===

/// The events of a stream of AWS frames: their names and payloads.
fn frames(bytes: &[u8]) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    let mut reader = forebay::frame::eventstream::Reader::default();
    let tell = &mut |message: forebay::frame::eventstream::Message<'_>| {
        let name = message.headers.text(":event-type");
        let name = name.or_else(|| message.headers.text(":exception-type")).unwrap();
        told.push((name.to_owned(), serde_json::from_slice(message.payload).unwrap()));
    };
    reader.push(bytes, tell).unwrap();
    reader.finish().unwrap();
    told
}

#[tokio::test]
async fn clients_of_google_and_of_aws_reach_any_upstream() {
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "Say something."}]}]});
    for speaks in ["chat_completions", "messages", "responses"] {
        let (edge, _sim) = site(speaks, "").await;
        let mut client = edge.connect().await;
        let whole = client.ask(&post("/v1beta/models/m:generateContent", "", gemini.to_string())).await;
        assert_eq!(whole.status, 200, "{whole:?}");
        let text = whole.json()["candidates"][0]["content"]["parts"][0]["text"].clone();
        let path = "/v1beta/models/m:streamGenerateContent?alt=sse&key=secret";
        let stream = client.ask(&post(path, "", gemini.to_string())).await;
        assert!(stream.header("content-type").unwrap().starts_with("text/event-stream"), "{stream:?}");
        let events = events(&String::from_utf8_lossy(&stream.body).replace("\r\n", "\n").into_bytes());
        let parts =
            |data: &Value| data["candidates"][0]["content"]["parts"][0]["text"].as_str().map(str::to_owned);
        let said: String = events.iter().filter_map(|(_, data)| parts(data)).collect();
        assert_eq!(json!(said).as_str().map(str::len), text.as_str().map(str::len), "{stream:?}");
        assert_eq!(events.last().unwrap().1["candidates"][0]["finishReason"], "STOP");

        let whole = client.ask(&post("/model/m/converse", "", converse.to_string())).await;
        assert_eq!(whole.json()["output"]["message"]["role"], "assistant", "{whole:?}");
        assert!(whole.json()["usage"]["totalTokens"].as_u64() > Some(0));
        let stream = client.ask(&post("/model/m/converse-stream", "", converse.to_string())).await;
        assert_eq!(stream.header("content-type"), Some("application/vnd.amazon.eventstream"));
        let told = frames(&stream.body);
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.starts_with(&["messageStart"]) && names.ends_with(&["messageStop", "metadata"]),
            "{names:?}"
        );
        // What a name hides is its own; what SDKs escape of it is understood.
        let hidden = client.ask(&post("/model/org%2Fm%3A1/converse", "", converse.to_string())).await;
        assert_eq!(hidden.status, 200, "{hidden:?}");
        let hidden =
            client.ask(&post("/v1beta/models/org%2Fm:generateContent", "", gemini.to_string())).await;
        assert_eq!(hidden.status, 200, "{hidden:?}");
        let array = client.ask(&post("/v1beta/models/m:streamGenerateContent", "", gemini.to_string())).await;
        assert!(
            array.status == 400 && array.json()["error"]["message"].as_str().unwrap().contains("alt=sse")
        );
        let list = client.ask(&get("/v1beta/models", "x-goog-api-key: any\r\n")).await;
        assert!(list.status == 200 && list.json()["models"].is_array(), "{list:?}");
        // Errors are those of each dialect.
        let unknown = client.ask(&post("/model/m/converse", "", "{}")).await;
        assert!(unknown.status == 400 && unknown.header("x-amzn-errortype").is_some(), "{unknown:?}");
        let unknown = client.ask(&post("/v1beta/models/m:generateContent", "", "{\"contents\":1}")).await;
        assert_eq!(unknown.json()["error"]["status"], "INVALID_ARGUMENT", "{unknown:?}");
        edge.idle().await;
    }
}

#[tokio::test]
async fn tokens_are_counted_for_an_upstream_that_counts_none() {
    let (edge, sim) = site("chat_completions", "").await;
    let ask = |text: &str| json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string();
    let mut client = edge.connect().await;
    let mut counts = Vec::new();
    for text in ["hello", &"hello ".repeat(1000)] {
        let reply = client.ask(&post("/v1/messages/count_tokens", "", ask(text))).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        counts.push(reply.json()["input_tokens"].as_u64().unwrap());
    }
    assert!(counts[0] > 0 && (1000..2000).contains(&counts[1]), "{counts:?}");
    assert_eq!(sim.stats().snapshot().requests, 0, "nobody is asked");
    let line = edge.access(|line| line["operation"] == "count_tokens").await;
    assert_eq!((&line["status"], &line["end"]), (&json!(200), &json!("--")), "{line}");
}

#[tokio::test]
async fn an_aws_stream_that_breaks_ends_with_an_exception() {
    let (edge, _sim) = site("chat_completions", ONE_TRY).await;
    let body = json!({"messages": [{"role": "user", "content": [{"text": "Say something."}]}]}).to_string();
    let request = post("/model/m/converse-stream", "x-sim-fault: cut=6\r\n", body);
    let stream = edge.connect().await.ask(&request).await;
    let told = frames(&stream.body);
    assert!(stream.whole && told.last().unwrap().0.ends_with("Exception"), "{told:?}");
}

#[tokio::test]
async fn upstreams_of_google_and_of_aws_are_asked_by_path_and_answer_any_client() {
    let upstream = Scripted::start(|asked| {
        let target = asked.text.lines().next().unwrap();
        if target.contains("/model/eu.anthropic.claude%3A0/converse ") {
            Turn::Say(scripted::json(
                200,
                r#"{"output":{"message":{"role":"assistant","content":[{"text":"from aws"}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5},"metrics":{"latencyMs":1}}"#,
            ))
        } else if target.contains("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse ") {
            let event = r#"data: {"candidates":[{"content":{"role":"model","parts":[{"text":"from google"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            Turn::SayAndClose(format!("{head}{event}\r\n\r\n").into_bytes())
        } else {
            Turn::Say(scripted::json(404, "{}"))
        }
    })
    .await;
    let cluster = |name: &str, provider: &str, base: &str| {
        let addr = upstream.addr;
        format!(
            "  {name}: {{provider: {provider}, api_key: file:key, base_url: \"http://{addr}{base}\", health: {{check: none}}}}\n"
        )
    };
    let clusters =
        ["clusters:\n", &cluster("aws", "bedrock-converse", ""), &cluster("google", "gemini", "/v1beta")];
    let models = "models:\n  claude: {deployments: [{cluster: aws, model: \"eu.anthropic.claude:0\"}]}\n  \
                  gemini: {deployments: [{cluster: google, model: gemini-3-pro}]}\n";
    let config = (clusters.concat() + models).replace("file:key", "env:TEST_KEY");
    let edge = Edge::start_with(&config, &[("TEST_KEY", "hidden")]).await;
    for dialect in Dialect::ALL {
        let mut client = edge.connect().await;
        let reply = client.ask(&post(dialect.path(), "", dialect.ask("claude", false))).await;
        assert!(
            dialect.is_answer(&reply) && reply.body.windows(8).any(|part| part == b"from aws"),
            "{reply:?}"
        );
        let reply = client.ask(&post(dialect.path(), "", dialect.ask("gemini", true))).await;
        assert!(dialect.is_complete(&events(&reply.body)), "{reply:?}");
        assert!(reply.body.windows(11).any(|part| part == b"from google"), "{reply:?}");
    }
    for text in upstream.received() {
        let aws = text.contains("/converse ");
        let credential = if aws { "authorization: Bearer hidden" } else { "x-goog-api-key: hidden" };
        assert!(text.contains(credential) && !text.contains("\"model\""), "{text}");
    }
}

#[tokio::test]
async fn upstreams_of_cohere_and_of_ollama_answer_any_client() {
    let upstream = Scripted::start(|asked| {
        let stream = asked.text.contains("\"stream\":true");
        let (media, body) = match (asked.text.lines().next().unwrap(), stream) {
            ("POST /v2/chat HTTP/1.1", false) => (
                "application/json",
                r#"{"id":"c1","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"from cohere"}]},"usage":{"tokens":{"input_tokens":3,"output_tokens":2}}}"#.to_owned(),
            ),
            ("POST /v2/chat HTTP/1.1", true) => (
                "text/event-stream",
                [
                    r#"{"type":"message-start","id":"c1","delta":{"message":{"role":"assistant","content":[]}}}"#,
                    r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
                    r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"from cohere"}}}}"#,
                    r#"{"type":"content-end","index":0}"#,
                    r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":3,"output_tokens":2}}}}"#,
                ]
                .map(|data| format!("data: {data}\n\n"))
                .concat(),
            ),
            ("POST /api/chat HTTP/1.1", false) => (
                "application/json",
                r#"{"model":"o","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"from ollama"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#.to_owned(),
            ),
            ("POST /api/chat HTTP/1.1", true) => (
                "application/x-ndjson",
                [
                    r#"{"model":"o","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"from ollama"},"done":false}"#,
                    r#"{"model":"o","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#,
                ]
                .map(|line| format!("{line}\n"))
                .concat(),
            ),
            _ => return Turn::Say(scripted::json(404, "{}")),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n");
        Turn::Say((head + &body).into_bytes())
    })
    .await;
    let cluster = |name: &str, provider: &str| {
        let addr = upstream.addr;
        format!(
            "  {name}: {{provider: {provider}, api_key: env:TEST_KEY, base_url: \"http://{addr}\", health: {{check: none}}}}\n"
        )
    };
    let clusters =
        ["clusters:\n", &cluster("cohere", "cohere-v2"), &cluster("ollama", "ollama-native")].concat();
    let models = "models:\n  cohere: {deployments: [{cluster: cohere}]}\n  ollama: {deployments: [{cluster: ollama}]}\n";
    let edge = Edge::start_with(&(clusters + models), &[("TEST_KEY", "hidden")]).await;
    for dialect in Dialect::ALL {
        for model in ["cohere", "ollama"] {
            for stream in [false, true] {
                let request = post(dialect.path(), "", dialect.ask(model, stream));
                let reply = edge.connect().await.ask(&request).await;
                let right = match stream {
                    true => dialect.is_complete(&events(&reply.body)),
                    false => dialect.is_answer(&reply),
                };
                let words = format!("from {model}");
                let told = reply.body.windows(words.len()).any(|part| part == words.as_bytes());
                assert!(right && told, "{dialect:?} {model} {stream}: {reply:?}");
            }
        }
    }
    // No client can ask what only they are asked.
    for path in ["/v2/chat", "/v1/v2/chat", "/api/chat"] {
        assert_eq!(edge.connect().await.ask(&post(path, "", "{}")).await.status, 404, "{path}");
    }
    for line in edge.accesses(12).await {
        if line["status"] == 200 {
            assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&json!(3), &json!(2)), "{line}");
        }
    }
}

#[tokio::test]
async fn every_split_of_the_upstreams_stream_gives_the_same() {
    for (dialect, speaks) in PAIRS {
        let (edge, _sim) = site(speaks, "").await;
        let body = rich(dialect, true);
        let whole = ask(&edge, dialect, "", &body).await;
        let split = ask(&edge, dialect, "x-sim-fault: one_byte\r\n", &body).await;
        let text = |reply: &Reply| said(dialect, reply, true).0;
        assert!(!text(&whole).is_empty() && text(&split).len() == text(&whole).len(), "{split:?}");
    }
}

#[tokio::test]
async fn rates_are_told_in_the_clients_own_headers() {
    let rates = "x-ratelimit-limit-requests: 50\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 2m0s\r\n";
    let with_rates = move |reply: Vec<u8>| {
        let text = String::from_utf8(reply).unwrap();
        text.replacen("content-type", &format!("{rates}content-type"), 1).into_bytes()
    };
    let full = r#"{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let upstream = Scripted::start(move |asked| {
        let reply = if asked.number == 0 { scripted::answer("Hi.") } else { scripted::json(429, full) };
        Turn::Say(with_rates(reply))
    })
    .await;
    let edge =
        Edge::start(&(cluster_of(&[upstream.addr], "speaks: [chat_completions]") + "retry: {attempts: 1}\n"))
            .await;
    for status in [200, 429] {
        let reply = ask(&edge, Dialect::Messages, "", &rich(Dialect::Messages, false)).await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("anthropic-ratelimit-requests-limit"), Some("50"));
        assert_eq!(reply.header("anthropic-ratelimit-requests-remaining"), Some("0"));
        assert!(reply.header("anthropic-ratelimit-requests-reset").unwrap().ends_with('Z'));
        assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
        if status == 429 {
            assert_eq!(reply.json()["error"], json!({"type": "rate_limit_error", "message": "Slow down"}));
        }
    }
}

#[tokio::test]
async fn a_picture_by_url_is_fetched_only_where_that_is_allowed() {
    let host = Scripted::start(|asked| {
        let moved = "HTTP/1.1 302 Found\r\nlocation: /real.png\r\ncontent-length: 0\r\n\r\n";
        let png = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 11\r\n\r\n\x89PNG\r\n\x1a\nabc";
        Turn::Say(if asked.text.starts_with("GET /moved.png") { moved.as_bytes().to_vec() } else { png.to_vec() })
    })
    .await;
    let reply = r#"{"model":"m","created_at":"2026-11-21T00:00:00Z","message":{"role":"assistant","content":"A cat."},
        "done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#;
    let upstream = Scripted::start(move |_| Turn::Say(scripted::json(200, reply))).await;
    let picture =
        json!({"type": "image_url", "image_url": {"url": format!("http://{}/moved.png", host.addr)}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}]});
    let fleet = format!(
        "clusters: {{there: {{provider: ollama-native, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
         models: {{m: {{deployments: [{{cluster: there}}]}}}}\n",
        upstream.addr
    );
    let sent = |number: usize| -> Value {
        serde_json::from_str(upstream.received()[number].split_once("\r\n\r\n").unwrap().1).unwrap()
    };

    let edge = Edge::start(&fleet).await;
    let reply = ask(&edge, Dialect::Chat, "", &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("x-forebay-dropped").unwrap().contains("image"), "{reply:?}");
    assert!(sent(0)["messages"][0].get("images").is_none() && host.received().is_empty());

    let guarded = Edge::start(&(fleet.clone() + "intake: {media: {fetch: true}}\n")).await;
    let reply = ask(&guarded, Dialect::Chat, "", &body).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let why = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("not one that may be asked") && host.received().is_empty(), "{why}");

    let open = Edge::start(&(fleet + "intake: {media: {fetch: true, networks: [127.0.0.0/8]}}\n")).await;
    let reply = ask(&open, Dialect::Chat, "", &body).await;
    assert!(reply.status == 200 && reply.header("x-forebay-dropped").is_none(), "{reply:?}");
    assert_eq!(sent(1)["messages"][0]["images"], json!(["iVBORw0KGgphYmM="]));
    assert_eq!(host.received().len(), 2, "a redirect is followed");
}

#[tokio::test]
async fn a_legacy_completion_is_answered_by_an_upstream_that_knows_none() {
    let (edge, sim) = site("messages", "").await;
    for stream in [false, true] {
        let body = json!({"model": "m", "prompt": "Say something.", "max_tokens": 16, "stream": stream});
        let reply = edge.connect().await.ask(&post("/v1/completions", "", body.to_string())).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let text = if stream {
            let said = events(&reply.body);
            let text = |data: &Value| data["choices"][0]["text"].as_str().map(str::to_owned);
            assert!(said.iter().all(|(_, data)| data["object"] != "chat.completion.chunk"), "{said:?}");
            assert_eq!(said.last().unwrap().1, "[DONE]");
            said.iter().filter_map(|(_, data)| text(data)).collect()
        } else {
            let body = reply.json();
            assert_eq!(body["object"], "text_completion");
            body["choices"][0]["text"].as_str().unwrap().to_owned()
        };
        assert!(!text.is_empty(), "{reply:?}");
    }
    assert_eq!(sim.stats().snapshot().statuses[&200], 2, "it was the upstream that answered");
    edge.idle().await;
}
