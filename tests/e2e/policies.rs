//! What a route's requests must keep to, what is put into them, and what is taken out of them and of their replies.

use serde_json::{Value, json};

use crate::dialects::{Dialect, events};
use crate::support::scripted::{Scripted, Turn, answer};
use crate::support::{Edge, Reply, post};

/// An edge with that policy, before an upstream of chat that answers every request with the same.
async fn site(policy: &str, says: impl Fn(bool) -> Turn + Send + Sync + 'static) -> (Edge, Scripted) {
    let upstream = Scripted::start(move |asked| says(asked.text.contains("\"stream\":true"))).await;
    let config = format!(
        "clusters: {{c: {{provider: vllm, endpoints: [\"http://{}\"], speaks: [chat_completions, completions], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: c}}]}}}}\n\
         routes:\n  - {{name: free, path: /free}}\n  - name: held\n    path: /\n    policy: {policy}\n",
        upstream.addr
    );
    (Edge::start(&config).await, upstream)
}

async fn ask(edge: &Edge, path: &str, body: &Value) -> Reply {
    edge.connect().await.ask(&post(path, "", body.to_string())).await
}

fn sent(upstream: &Scripted) -> Value {
    let text = upstream.received().pop().unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_clients_words_and_goes_nowhere() {
    let policy = "{max_messages: 1, parameters: {bounds: {temperature: {max: 1}}}, redact: {request: [card], action: refuse}}";
    let (edge, upstream) = site(policy, |_| Turn::Say(answer("x"))).await;
    let said = json!([{"role": "user", "content": "x"}]);
    for (path, body, field) in [
        ("/v1/chat/completions", json!({"model": "m", "messages": said, "temperature": 2}), "temperature"),
        (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": said, "temperature": 2}),
            "temperature",
        ),
        ("/v1/responses", json!({"model": "m", "input": said, "temperature": 2}), "temperature"),
        ("/v1/chat/completions", json!({"model": "m", "messages": [{}, {}]}), "messages"),
    ] {
        let got = ask(&edge, path, &body).await;
        let told = got.json();
        assert_eq!(got.status, 400, "{path}: {got:?}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
        if !path.ends_with("messages") {
            assert_eq!(told["error"]["param"], field);
        }
    }
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}], "generationConfig": {"temperature": 2}});
    let got = ask(&edge, "/v1beta/models/m:generateContent", &gemini).await;
    assert_eq!(got.status, 400);
    assert_eq!(
        got.json()["error"]["details"][0]["fieldViolations"][0]["field"],
        "generationConfig.temperature"
    );
    let card = json!({"model": "m", "messages": [{"role": "user", "content": "4111 1111 1111 1111"}]});
    let got = ask(&edge, "/v1/chat/completions", &card).await;
    assert_eq!(got.status, 403);
    assert!(
        String::from_utf8_lossy(&got.body).contains("(card)")
            && !String::from_utf8_lossy(&got.body).contains("4111")
    );
    assert!(upstream.received().is_empty());
    let line = edge.access(|line| line["status"] == 403).await;
    assert_eq!((&line["end"], &line["error"]), (&json!("PR"), &json!("rule redact.request: card")));
    // The other route is held to nothing.
    assert_eq!(ask(&edge, "/free/v1/chat/completions", &card).await.status, 200);
}

#[tokio::test]
async fn a_request_is_changed_as_its_route_says_whatever_its_dialect() {
    let policy = "{system: {prefix: Be kind.}, redact: {request: [email]}}";
    let (edge, upstream) = site(policy, |_| Turn::Say(answer("x"))).await;
    let text = "I am jane@example.com.";
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "m", "messages": [{"role": "user", "content": text}]})),
        (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}),
        ),
        ("/v1/responses", json!({"model": "m", "input": text})),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        ),
        ("/model/m/converse", json!({"messages": [{"role": "user", "content": [{"text": text}]}]})),
    ] {
        let got = ask(&edge, path, &body).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        let sent = sent(&upstream);
        let messages = sent["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 2, "{path}: {sent}");
        let role = messages[0]["role"].as_str().unwrap();
        assert!(matches!(role, "system" | "developer"), "{path}: {sent}");
        let said = messages.iter().map(|message| message["content"].to_string()).collect::<String>();
        assert!(said.contains("Be kind.") && said.contains("I am [EMAIL]."), "{path}: {sent}");
    }
    assert_eq!(edge.total("forebay_redactions_total", &["side=\"request\"", "kind=\"email\""]).await, 5.0);
}

/// A stream of chat that says these pieces, an event each.
fn stream(pieces: &[&str]) -> Vec<String> {
    let event = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
        )
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    let said = pieces.iter().map(|piece| event(json!({"content": piece}), Value::Null));
    let usage = json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}});
    let last = event(json!({}), json!("stop")) + &format!("data: {usage}\n\ndata: [DONE]\n\n");
    std::iter::once(head).chain(said).chain([last]).collect()
}

#[tokio::test]
async fn a_reply_tells_nothing_of_it_whole_or_streamed_in_every_dialect() {
    let pieces = ["Write to jane.do", "e@exam", "ple.com or +49 30 12", "34567", " today."];
    let turn = move |streams: bool| match streams {
        true => Turn::Pieces(stream(&pieces), std::time::Duration::ZERO),
        false => Turn::Say(answer(&pieces.concat())),
    };
    let (edge, _upstream) = site("{redact: {reply: [email, phone]}}", turn).await;
    for dialect in Dialect::ALL {
        for streams in [false, true] {
            let asked = post(dialect.path(), "", dialect.ask("m", streams));
            let got = edge.connect().await.ask(&asked).await;
            let text = String::from_utf8_lossy(&got.body).into_owned();
            assert_eq!(got.status, 200, "{dialect:?}: {got:?}");
            for secret in ["jane", "exam", "1234", "34567", "+49"] {
                assert!(!text.contains(secret), "{dialect:?}, {streams}: {secret} is told: {text}");
            }
            if streams {
                assert!(dialect.is_complete(&events(&got.body)), "{dialect:?}: {text}");
                assert!(text.contains("[EMAIL]") && text.contains("[PHONE]"), "{dialect:?}: {text}");
            } else {
                assert!(text.contains("Write to [EMAIL] or [PHONE] today."), "{dialect:?}: {text}");
            }
        }
    }
    // Usage that the client did not ask for stays out of its stream, and is counted all the same.
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let got = ask(&edge, "/v1/chat/completions", &body).await;
    assert!(!String::from_utf8_lossy(&got.body).contains("prompt_tokens"), "{got:?}");
    let line = edge.access(|line| line["operation"] == "chat_completions" && line["stream"] == 1).await;
    assert_eq!(line["output_tokens"], 5);
    // What cannot be looked through is not let through.
    let legacy = json!({"model": "m", "prompt": "x"});
    assert_eq!(ask(&edge, "/v1/completions", &legacy).await.status, 403);
    // A client of the free route gets it as it is.
    let free = ask(&edge, "/free/v1/chat/completions", &json!({"model": "m", "messages": []})).await;
    assert!(String::from_utf8_lossy(&free.body).contains("jane.doe@example.com"));
}

#[tokio::test]
async fn what_of_a_stream_can_become_nothing_is_told_at_once() {
    let let_go = std::sync::Arc::new(tokio::sync::Notify::new());
    let held = std::sync::Arc::clone(&let_go);
    let pieces = stream(&["All is well. But jane", "@example.com is not."]);
    let (first, rest) = (pieces[..2].concat(), pieces[2..].concat());
    let turn = move |_| Turn::Held(first.clone(), std::sync::Arc::clone(&held), rest.clone());
    let (edge, _upstream) = site("{redact: {reply: [email]}}", turn).await;
    let mut client = edge.connect().await;
    client.send(&post("/v1/chat/completions", "", Dialect::Chat.ask("m", true))).await;
    // The name could still become an address: all before it is there while the upstream says nothing more.
    client.saw("All is well. But ").await;
    let_go.notify_one();
    let text = String::from_utf8(client.reply().await.body).unwrap();
    assert!(text.contains("[EMAIL]") && text.contains("not.") && !text.contains("jane"), "{text}");
}
