//! Errors that Forebay answers itself, in the exact shape of each dialect.

use forebay::sim::{Config, Sim};
use serde_json::{Value, json};

use crate::support::{Edge, Reply, get, post, sim};

/// An edge that serves the model `m` to whom has the key, and `bare`, which knows nothing but chat and completions.
async fn site() -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let endpoint = format!("endpoints: [\"http://{}\"], health: {{check: none}}", sim.addr());
    let config = format!(
        "clusters: {{sim: {{provider: simulator, {endpoint}}}, tgi: {{provider: tgi, {endpoint}}}}}\n\
         models: {{m: {{deployments: [{{cluster: sim}}]}}, bare: {{deployments: [{{cluster: tgi}}]}}}}\n\
         keys: {{app: {{key: sk-app-0123456789}}}}\n\
         routes: [{{name: llm, path: /llm}}]\n"
    );
    (Edge::start(&config).await, sim)
}

const KEY: &str = "Authorization: Bearer sk-app-0123456789\r\n";
const ANTHROPIC_KEY: &str = "x-api-key: sk-app-0123456789\r\nanthropic-version: 2023-06-01\r\n";

const CHAT: &str = "/llm/v1/chat/completions";
const COMPLETIONS: &str = "/llm/v1/completions";
const EMBEDDINGS: &str = "/llm/v1/embeddings";
const RESPONSES: &str = "/llm/v1/responses";
const MESSAGES: &str = "/llm/v1/messages";
const COUNT_TOKENS: &str = "/llm/v1/messages/count_tokens";

/// An error of OpenAI's.
fn openai(message: &str, class: &str, param: Value, code: Value) -> Value {
    json!({"error": {"message": message, "type": class, "param": param, "code": code}})
}

/// An invalid request, as OpenAI says it.
fn invalid(message: &str, param: Value) -> Value {
    openai(message, "invalid_request_error", param, Value::Null)
}

/// An error of Anthropic's, but for the request's id.
fn anthropic(message: &str, class: &str) -> Value {
    json!({"type": "error", "error": {"type": class, "message": message}})
}

/// The reply is this error, and the same id is in its head and, in Anthropic's shape, in its body.
fn assert_error(reply: &Reply, status: u16, expected: &Value, what: &str) {
    let mut body = reply.json();
    let id = reply.header("x-request-id").unwrap_or_default();
    assert!(id.starts_with("req_"), "{what}: {reply:?}");
    if body["type"] == "error" {
        assert_eq!(body.as_object_mut().unwrap().remove("request_id"), Some(json!(id)), "{what}");
    }
    assert_eq!((reply.status, &body), (status, expected), "{what}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    for (path, fields, expected) in [
        ("/nothing", KEY, invalid("nothing is served at GET /nothing", Value::Null)),
        ("/llm/v1/nothing", "", invalid("nothing is served at GET /llm/v1/nothing", Value::Null)),
        ("/llm/v1/models2?a=b", "", invalid("nothing is served at GET /llm/v1/models2", Value::Null)),
        (
            "/llm/v1/nothing",
            ANTHROPIC_KEY,
            anthropic("nothing is served at GET /llm/v1/nothing", "not_found_error"),
        ),
    ] {
        assert_error(&client.ask(&get(path, fields)).await, 404, &expected, path);
    }
    for path in [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES] {
        let message = format!("GET {path} is not allowed; use POST");
        let expected = openai(&message, "invalid_request_error", Value::Null, json!("method_not_supported"));
        let reply = client.ask(&get(path, KEY)).await;
        assert_error(&reply, 405, &expected, path);
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    for path in [MESSAGES, COUNT_TOKENS] {
        let expected = anthropic(&format!("GET {path} is not allowed; use POST"), "invalid_request_error");
        assert_error(&client.ask(&get(path, KEY)).await, 405, &expected, path);
    }
    let reply = client.ask(&post("/llm/models", KEY, "{}")).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")));
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn missing_and_wrong_keys() {
    let (edge, sim) = site().await;
    let ask = async |request: Vec<u8>| edge.connect().await.ask(&request).await;
    let none = "no API key was sent; send one as `Authorization: Bearer KEY` or `x-api-key: KEY`";
    let wrong = "the API key is not valid here";
    for (fields, message) in [
        ("", none),
        ("Authorization: Basic c2stYXBw\r\n", none),
        ("Authorization: Bearer sk-other\r\n", wrong),
        ("Authorization: Bearer sk-app-0123456789x\r\n", wrong),
        ("x-api-key: sk-other\r\n", wrong),
        (&format!("{KEY}x-api-key: sk-other\r\n"), "two API keys were sent that differ; send one"),
    ] {
        let unauthenticated = openai(message, "invalid_request_error", Value::Null, json!("invalid_api_key"));
        for path in [CHAT, RESPONSES] {
            let reply = ask(post(path, fields, r#"{"model":"m"}"#)).await;
            assert_error(&reply, 401, &unauthenticated, fields);
        }
        let reply = ask(post(MESSAGES, fields, r#"{"model":"m"}"#)).await;
        assert_error(&reply, 401, &anthropic(message, "authentication_error"), fields);
        assert_eq!(ask(get("/llm/v1/models", fields)).await.status, 401);
    }
    assert_eq!(sim.requests().len(), 0);
    let line = edge.access(|line| line["status"] == 401).await;
    assert_eq!((&line["end"], &line["principal"]), (&json!("PR"), &Value::Null), "{line}");
}

#[tokio::test]
async fn an_error_before_the_body_says_truly_whether_the_connection_goes_on() {
    let (edge, _sim) = site().await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    for (path, key, status) in [(CHAT, "", 401), ("/llm/v1/nothing", KEY, 404), ("/llm/models", KEY, 405)] {
        let mut client = edge.connect().await;
        let reply = client.ask(&post(path, key, body)).await;
        assert_eq!(reply.status, status);
        if reply.header("connection") == Some("close") {
            assert_eq!(client.rest().await, b"");
        } else {
            let _ = client.try_send(&post(CHAT, KEY, body)).await;
            let next = client.reply_or_end().await;
            assert_eq!(next.map(|next| next.status), Some(200), "after {status}, which was: {reply:?}");
        }
    }
}

#[tokio::test]
async fn unknown_models() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    let message = "the model `no-such` does not exist or you do not have access to it";
    let missing = openai(message, "invalid_request_error", json!("model"), json!("model_not_found"));
    let body = r#"{"model":"no-such","stream":true}"#;
    for (path, status) in [(CHAT, 404), (COMPLETIONS, 404), (EMBEDDINGS, 404), (RESPONSES, 400)] {
        assert_error(&client.ask(&post(path, KEY, body)).await, status, &missing, path);
    }
    for path in [MESSAGES, COUNT_TOKENS] {
        let expected = anthropic(message, "not_found_error");
        assert_error(&client.ask(&post(path, ANTHROPIC_KEY, body)).await, 404, &expected, path);
    }
    let forged = json!({"model": format!("\"}},\n{}", "é".repeat(500))}).to_string();
    let reply = client.ask(&post(CHAT, KEY, forged)).await;
    let said = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(reply.status == 404 && said.starts_with("the model `\"},\né"), "{said}");
    assert!(said.chars().count() < 250, "only the start of a name is repeated: {said}");
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn a_model_that_cannot_be_asked_for_this() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    // What has no translation.
    for (path, name) in [(EMBEDDINGS, "embeddings")] {
        let expected = invalid(&format!("the model `bare` cannot be asked for {name} here"), json!("model"));
        let reply = client.ask(&post(path, KEY, r#"{"model":"bare","input":"x","prompt":"x"}"#)).await;
        assert_error(&reply, 400, &expected, path);
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn a_missing_model() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    for body in ["{}", r#"{"model":null}"#, r#"{"messages":[{"model":"m"}]}"#] {
        for path in [CHAT, COMPLETIONS, EMBEDDINGS] {
            let expected = invalid("you must provide a model parameter", Value::Null);
            assert_error(&client.ask(&post(path, KEY, body)).await, 400, &expected, body);
        }
        let expected = invalid("Missing required parameter: 'model'.", json!("model"));
        assert_error(&client.ask(&post(RESPONSES, KEY, body)).await, 400, &expected, body);
        let expected = anthropic("model: Field required", "invalid_request_error");
        assert_error(&client.ask(&post(MESSAGES, KEY, body)).await, 400, &expected, body);
    }
    let reply = client.ask(&post(MESSAGES, KEY, r#"{"model":""}"#)).await;
    let expected = anthropic("model: String should have at least 1 character", "invalid_request_error");
    assert_error(&reply, 400, &expected, "an empty name");
    assert_eq!(sim.requests().len(), 0);
}

/// Bodies that are not one JSON object, and what is said of each.
fn unreadable() -> Vec<(Vec<u8>, &'static str)> {
    let deep = format!(r#"{{"model":"m","x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    vec![
        (b"".to_vec(), "the body is empty; send a JSON object"),
        (b" \n".to_vec(), "the body is empty; send a JSON object"),
        (b"{".to_vec(), "the JSON ends unexpectedly at byte 1"),
        (br#"{"model":"m""#.to_vec(), "the JSON ends unexpectedly at byte 12"),
        (b"[]".to_vec(), "the body must be a JSON object"),
        (b"\"m\"".to_vec(), "the body must be a JSON object"),
        (br#"{"model":"m"} {}"#.to_vec(), "unexpected data after the JSON object at byte 14"),
        (b"\xef\xbb\xbf{}".to_vec(), "the body begins with a byte order mark; send it without one"),
        (b"{\"model\":\"\xff\"}".to_vec(), "the body is not valid UTF-8 at byte 10"),
        (
            b"{\"model\":\"a\nb\"}".to_vec(),
            "invalid JSON at byte 11: a control character in a string must be escaped",
        ),
        (br#"{"model":"\x"}"#.to_vec(), "invalid JSON at byte 10: unknown escape in a string"),
        (br#"{"model":"m","n":01}"#.to_vec(), "invalid JSON at byte 18: malformed number"),
        (deep.into_bytes(), "the JSON is nested deeper than 128 levels at byte 144"),
    ]
}

#[tokio::test]
async fn bodies_that_are_no_json_objects() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    for (body, fault) in unreadable() {
        for path in [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES] {
            let message = format!("We could not parse the JSON body of your request: {fault}.");
            assert_error(
                &client.ask(&post(path, KEY, &body)).await,
                400,
                &invalid(&message, Value::Null),
                fault,
            );
        }
        for path in [MESSAGES, COUNT_TOKENS] {
            let message = format!("The request body is not valid JSON: {fault}");
            let expected = anthropic(&message, "invalid_request_error");
            assert_error(&client.ask(&post(path, KEY, &body)).await, 400, &expected, fault);
        }
    }
    assert_eq!(sim.requests().len(), 0);
    let line = edge.access(|line| line["status"] == 400).await;
    assert_eq!((&line["end"], &line["principal"]), (&json!("CR"), &json!("app")), "{line}");
}

#[tokio::test]
async fn members_that_two_readers_could_read_in_two_ways() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    let twice = |field: &str| format!("'{field}' is given more than once; send it once");
    let miscased =
        |field: &str| format!("a member differs from '{field}' in letter case only; write it as '{field}'");
    let typed = |field: &str, wants: &str| format!("'{field}' must be {wants}");
    for (body, field, fault) in [
        (r#"{"model":"m","model":"n"}"#, "model", twice("model")),
        (r#"{"model":"m","mod\u0065l":"m"}"#, "model", twice("model")),
        (r#"{"model":"m","stream":false,"stream":true}"#, "stream", twice("stream")),
        (r#"{"model":"m","max_tokens":1,"max_tokens":1000000}"#, "max_tokens", twice("max_tokens")),
        (r#"{"model":"m","messages":[],"messages":[]}"#, "messages", twice("messages")),
        (r#"{"model":"m","Model":"n"}"#, "model", miscased("model")),
        (r#"{"model":"m","ſtream":true}"#, "stream", miscased("stream")),
        (r#"{"model":1}"#, "model", typed("model", "a string")),
        (r#"{"model":"m","stream":"true"}"#, "stream", typed("stream", "a boolean")),
        (r#"{"model":"m","max_tokens":-1}"#, "max_tokens", typed("max_tokens", "a non-negative integer")),
        (r#"{"model":"m","max_tokens":1.5}"#, "max_tokens", typed("max_tokens", "a non-negative integer")),
        (r#"{"model":"m","stream_options":[]}"#, "stream_options", typed("stream_options", "an object")),
    ] {
        for path in [CHAT, RESPONSES] {
            let expected = invalid(&format!("Invalid request: {fault}."), json!(field));
            assert_error(&client.ask(&post(path, KEY, body)).await, 400, &expected, body);
        }
        let expected = anthropic(&format!("{field}: {fault}"), "invalid_request_error");
        assert_error(&client.ask(&post(MESSAGES, KEY, body)).await, 400, &expected, body);
    }
    assert_eq!(sim.requests().len(), 0);
}
