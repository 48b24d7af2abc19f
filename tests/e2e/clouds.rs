//! Providers that want more than a key: signatures, tokens, paths and frames of their own.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay::frame::eventstream::{Value as Header, message};
use forebay::provider::sigv4::{self, Credentials, Payload, Scope, Segments};
use forebay::secret::Secret;
use serde_json::{Value, json};

use crate::dialects::{Dialect, events};
use crate::support::scripted::{Scripted, Turn, json as answer};
use crate::support::{Edge, post};

const CLAUDE: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    ("AWS_SESSION_TOKEN", "session"),
];

/// A cluster of that provider at the scripted upstream, for every model.
fn site(provider: &str, upstream: &Scripted, more: &str) -> String {
    format!(
        "clusters: {{there: {{provider: {provider}, base_url: \"http://{}\", http: \"1.1\", health: {{check: none}}{more}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: there}}]}}}}\n",
        upstream.addr
    )
}

/// The value of a field of a request as it came.
fn field<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let head = request.split("\r\n\r\n").next().unwrap();
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn line(request: &str) -> &str {
    request.lines().next().unwrap()
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// What Converse answers.
fn converse() -> Vec<u8> {
    answer(
        200,
        r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi."}]}},"stopReason":"end_turn",
            "usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5},"metrics":{"latencyMs":1}}"#,
    )
}

/// What Messages answers.
fn messages() -> Vec<u8> {
    answer(
        200,
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"Hi."}],
            "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#,
    )
}

fn chat(model: &str, stream: bool) -> String {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello: wörld"}]})
        .to_string()
}

fn claude(stream: bool) -> String {
    json!({"model": CLAUDE, "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
        .to_string()
}

/// Whether the signature of a request is the one that AWS would make of what came.
fn is_signed(request: &str, region: &str) -> bool {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let path = line(request).split(' ').nth(1).unwrap();
    let date = field(head, "x-amz-date").unwrap();
    let keys = Credentials {
        id: KEYS[0].1.to_owned(),
        secret: Secret::new(KEYS[1].1),
        token: field(head, "x-amz-security-token").map(Secret::new),
    };
    let content = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let asked = sigv4::Request {
        method: "POST",
        host: field(head, "host").unwrap(),
        path,
        query: "",
        headers: &http::HeaderMap::from_iter([content]),
        payload: Payload::of([body.as_bytes()]),
    };
    let scope = Scope { region, service: "bedrock", segments: Segments::Resolved };
    // The time is in the request, to the second.
    let now = SystemTime::now();
    let around = (0..120).map(|back| now - Duration::from_secs(back));
    let mut signed = around.map(|time| sigv4::sign(&asked, &keys, &scope, time));
    let same = signed.find(|signed| signed.date == date).expect("the date is now");
    field(head, "authorization") == Some(&same.authorization)
}

#[tokio::test]
async fn requests_to_bedrock_are_signed_over_what_is_sent() {
    let upstream = Scripted::start(|_| Turn::Say(converse())).await;
    let edge = Edge::start_with(&site("bedrock-converse", &upstream, ", region: us-east-1"), &KEYS).await;
    let reply = edge.connect().await.ask(&post("/v1/chat/completions", "", chat(CLAUDE, false))).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hi.", "{reply:?}");
    let got = upstream.received().remove(0);
    assert_eq!(line(&got), format!("POST /model/{}/converse HTTP/1.1", CLAUDE.replace(':', "%3A")));
    assert_eq!(field(&got, "x-amz-security-token"), Some("session"));
    assert!(is_signed(&got, "us-east-1"), "{got}");
    let wrong = got.replace("Hello", "Hallo");
    assert!(!is_signed(&wrong, "us-east-1"), "the signature is over the body");
    assert!(!edge.said().contains(KEYS[1].1), "the secret is in the log");
}

#[tokio::test]
async fn a_container_gives_credentials_and_their_loss_is_told() {
    let expires = "2099-01-01T00:00:00Z";
    let given =
        json!({"AccessKeyId": KEYS[0].1, "SecretAccessKey": KEYS[1].1, "Token": "t", "Expiration": expires});
    let service = Scripted::start(move |asked| {
        assert_eq!(field(asked.text, "authorization"), Some("pod-token"));
        Turn::Say(answer(200, &given.to_string()))
    })
    .await;
    let upstream = Scripted::start(|_| Turn::Say(converse())).await;
    let url = format!("http://{}/creds", service.addr);
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"),
        ("AWS_REGION", "eu-west-1"),
        ("HOME", "/nonexistent"),
    ];
    let edge = Edge::start_with(&site("bedrock-converse", &upstream, ""), &env).await;
    let reply = edge.connect().await.ask(&post("/v1/chat/completions", "", chat("m", false))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(is_signed(&upstream.received()[0], "eu-west-1"));
    assert_eq!(service.received().len(), 1, "credentials are asked for once, not for every request");

    let nobody = Scripted::start(|_| Turn::Say(answer(403, "{\"Message\":\"no\"}"))).await;
    let url = format!("http://{}/creds", nobody.addr);
    let env =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()), ("AWS_REGION", "eu-west-1"), ("HOME", "/")];
    let edge = Edge::start_with(&site("bedrock-converse", &upstream, ""), &env).await;
    let reply = edge.connect().await.ask(&post("/v1/chat/completions", "", chat("m", false))).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("credential"), "{reply:?}");
    edge.access(|line| line["status"] == 502).await;
    assert!(edge.said().contains("cluster there: no new credential"), "{}", edge.said());
    assert_eq!(upstream.received().len(), 1, "nothing is sent without a proof");
}

#[tokio::test]
async fn claude_on_vertex_is_asked_with_a_token_at_the_models_path() {
    let metadata = Scripted::start(|asked| {
        assert!(asked.text.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token"));
        Turn::Say(answer(200, r#"{"access_token":"ya29.t","token_type":"Bearer","expires_in":3600}"#))
    })
    .await;
    let upstream = Scripted::start(|_| Turn::Say(messages())).await;
    let host = metadata.addr.to_string();
    let env = [("GCE_METADATA_HOST", host.as_str()), ("HOME", "/nonexistent")];
    let config = site("vertex-anthropic", &upstream, ", project: p-1, region: europe-west4");
    let edge = Edge::start_with(&config, &env).await;
    let place = "/v1/projects/p-1/locations/europe-west4/publishers/anthropic/models/";
    for (dialect, body, verb) in [
        (Dialect::Messages, claude(false).replace(CLAUDE, "claude-opus-4@20250514"), "rawPredict"),
        (Dialect::Chat, chat("claude-opus-4@20250514", false), "rawPredict"),
    ] {
        let fields = "anthropic-beta: context-1m\r\n";
        let reply = edge.connect().await.ask(&post(dialect.path(), fields, &body)).await;
        assert!(reply.status == 200 && dialect.is_answer(&reply), "{reply:?}");
        let got = upstream.received().pop().unwrap();
        assert_eq!(line(&got), format!("POST {place}claude-opus-4@20250514:{verb} HTTP/1.1"));
        assert_eq!(field(&got, "authorization"), Some("Bearer ya29.t"));
        let sent = self::body(&got);
        assert_eq!(sent["anthropic_version"], "vertex-2023-10-16");
        assert!(sent.get("model").is_none() && sent["messages"].is_array(), "{sent}");
        let verbatim = dialect == Dialect::Messages;
        assert_eq!(field(&got, "anthropic-beta"), verbatim.then_some("context-1m"));
    }
    let counted = edge.connect().await.ask(&post("/v1/messages/count_tokens", "", claude(false))).await;
    assert_eq!(counted.status, 200, "{counted:?}");
    assert_eq!(
        line(&upstream.received().pop().unwrap()),
        format!("POST {place}count-tokens:rawPredict HTTP/1.1")
    );
    assert_eq!(metadata.received().len(), 1);
}

/// A frame of `InvokeModelWithResponseStream`.
fn frame(kind: (&str, &str, &str), payload: &str) -> Vec<u8> {
    let headers = [(kind.0, Header::Text(kind.1)), (":message-type", Header::Text(kind.2))];
    let mut out = Vec::new();
    message(&mut out, &headers, payload.as_bytes()).unwrap();
    out
}

fn chunk(event: &Value) -> Vec<u8> {
    let bytes = STANDARD.encode(event.to_string());
    frame((":event-type", "chunk", "event"), &json!({"bytes": bytes}).to_string())
}

fn invoked(frames: &[Vec<u8>]) -> Vec<u8> {
    let body = frames.concat();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

fn claude_says(text: &str) -> Vec<Vec<u8>> {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(chunk)
    .collect()
}

#[tokio::test]
async fn claude_on_bedrock_streams_in_frames_and_clients_see_events() {
    let upstream = Scripted::start(|_| Turn::Say(invoked(&claude_says("Hi there.")))).await;
    let edge = Edge::start_with(&site("bedrock-anthropic", &upstream, ", region: us-east-1"), &KEYS).await;
    for (dialect, request) in [(Dialect::Messages, claude(true)), (Dialect::Chat, chat(CLAUDE, true))] {
        let fields = "anthropic-beta: a-1, b-2\r\n";
        let reply = edge.connect().await.ask(&post(dialect.path(), fields, &request)).await;
        assert!(reply.header("content-type").unwrap().starts_with("text/event-stream"), "{reply:?}");
        let said = events(&reply.body);
        assert!(
            dialect.is_complete(&said) && String::from_utf8_lossy(&reply.body).contains("Hi there."),
            "{said:?}"
        );
        let got = upstream.received().pop().unwrap();
        let path = format!("POST /model/{}/invoke-with-response-stream HTTP/1.1", CLAUDE.replace(':', "%3A"));
        assert_eq!(line(&got), path);
        let sent = body(&got);
        assert_eq!(sent["anthropic_version"], "bedrock-2023-05-31");
        assert!(sent.get("model").is_none() && sent.get("stream").is_none(), "{sent}");
        let betas = (dialect == Dialect::Messages).then(|| json!(["a-1", "b-2"]));
        assert_eq!(sent.get("anthropic_beta"), betas.as_ref());
        assert!(is_signed(&got, "us-east-1"));
        let line = edge.access(|line| line["path"] == dialect.path()).await;
        assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&json!(3), &json!(2)), "{line}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn what_goes_wrong_at_bedrock_is_told_as_anthropic_would() {
    let throttled =
        frame((":exception-type", "throttlingException", "exception"), r#"{"message":"Slow down"}"#);
    let mut late = claude_says("Hi.");
    late.truncate(3);
    late.push(throttled.clone());
    let mut broken = claude_says("Hi.").concat();
    *broken.last_mut().unwrap() ^= 1;
    let refused = answer(400, r#"{"message":"max_tokens: too large"}"#);
    let replies = [invoked(&[throttled]), invoked(&late), invoked(&[broken]), refused];
    let upstream = Scripted::start(move |asked| Turn::Say(replies[asked.number % 4].clone())).await;
    let config = site("bedrock-anthropic", &upstream, ", region: us-east-1") + "retry: {attempts: 1}\n";
    let edge = Edge::start_with(&config, &KEYS).await;
    let ask = async || edge.connect().await.ask(&post("/v1/messages", "", claude(true))).await;

    let early = ask().await;
    assert!(
        early.status != 500 && String::from_utf8_lossy(&early.body).contains("rate_limit_error"),
        "{early:?}"
    );
    let late = ask().await;
    let said = events(&late.body);
    assert_eq!(said.last().unwrap().1["error"]["type"], "rate_limit_error", "{said:?}");
    assert_eq!(said.last().unwrap().1["error"]["message"], "Slow down");
    let broken = ask().await;
    assert!(String::from_utf8_lossy(&broken.body).contains("\"type\":\"error\""), "{broken:?}");
    let refused = ask().await;
    let error = refused.json();
    assert_eq!((refused.status, &error["error"]["type"]), (400, &json!("invalid_request_error")), "{error}");
    assert_eq!(error["error"]["message"], "max_tokens: too large");
    edge.idle().await;
}

#[tokio::test]
async fn azures_dated_api_has_deployments_in_its_paths() {
    let upstream = Scripted::start(|_| Turn::Say(crate::support::scripted::answer("Hi."))).await;
    let env = [("KEY", "azure-key-0123456789")];
    let config = site("azure", &upstream, ", api_key: env:KEY, api_version: 2024-10-21");
    let edge = Edge::start_with(&config, &env).await;
    let reply = edge.connect().await.ask(&post("/v1/chat/completions?x=1", "", chat("my gpt", false))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let got = upstream.received().remove(0);
    let path = "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21";
    assert_eq!(line(&got), format!("POST {path} HTTP/1.1"));
    assert_eq!(field(&got, "api-key"), Some("azure-key-0123456789"));
}
