//! Who may call, and what for: every credential at every place, and what those are told who may not.

mod certificates;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::access::key::{Hash, fresh};
use forebay::sim::Config;
use serde_json::{Value, json};

use crate::dialects::Dialect;
use crate::support::client::Client;
use crate::support::scripted::{Scripted, Turn, answer};
use crate::support::{Edge, Reply, fleet, get, heard, post, sim, soon};

/// A directory that goes with its test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-access-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        // As an editor does it: nobody reads half of it.
        std::fs::write(self.path("beside"), text).unwrap();
        std::fs::rename(self.path("beside"), self.path(name)).unwrap();
        self.path(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key() -> (String, String) {
    let key = fresh().unwrap();
    let hash = Hash::of(key.expose().as_bytes()).to_string();
    (key.expose().to_owned(), hash)
}

/// A request of each dialect: its path and body, and an answer to which of it is one of an error.
const ASKED: [(&str, &str); 5] = [
    ("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#),
    ("/v1/messages", r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#),
    ("/v1/responses", r#"{"model":"m","input":"x"}"#),
    ("/v1beta/models/m:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}]}"#),
    ("/model/m/converse", r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#),
];

async fn send(edge: &Edge, path: &str, fields: &str, body: &str) -> Reply {
    edge.connect().await.ask(&post(path, fields, body)).await
}

async fn chat(edge: &Edge, key: &str) -> Reply {
    let fields = format!("authorization: Bearer {key}\r\n");
    send(edge, "/v1/chat/completions", &fields, &Dialect::Chat.ask("m", false)).await
}

/// Asks again and again until the status is as wanted.
pub(super) async fn until(edge: &Edge, key: &str, status: u16) {
    soon("the status", async {
        while chat(edge, key).await.status != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The same text with what differs from one request to the next taken out.
fn without_id(reply: &Reply) -> String {
    let text = String::from_utf8(reply.body.clone()).unwrap();
    match reply.header("x-request-id") {
        Some(id) => text.replace(id, "ID"),
        None => text,
    }
}

#[tokio::test]
async fn a_key_is_taken_wherever_an_sdk_puts_it_in_every_dialect() {
    let sim = sim(Config::default()).await;
    let (key, hash) = key();
    let edge = Edge::start(&format!("{}keys: {{app: {{hash: \"{hash}\"}}}}\n", fleet(&sim))).await;
    for (path, body) in ASKED {
        for fields in [
            format!("authorization: Bearer {key}\r\n"),
            format!("x-api-key: {key}\r\n"),
            format!("api-key: {key}\r\n"),
            format!("x-goog-api-key: {key}\r\n"),
        ] {
            let got = send(&edge, path, &fields, body).await;
            assert_eq!(got.status, 200, "{path} {fields}: {got:?}");
        }
        assert_eq!(send(&edge, &format!("{path}?key={key}"), "", body).await.status, 200, "{path}");
    }
    assert!(!edge.said().contains(&key), "a key is in the log");
}

#[tokio::test]
async fn a_key_in_the_query_goes_no_further() {
    let upstream = Scripted::start(|_| Turn::Say(answer("hi"))).await;
    let (key, hash) = key();
    let address = upstream.addr;
    let edge = Edge::start(&format!(
        "clusters: {{up: {{provider: vllm, endpoints: [\"http://{address}\"], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\nkeys: {{app: {{hash: \"{hash}\"}}}}\n\
         routes:\n  - {{name: all, path: /}}\n  - {{name: raw, path: /raw, raw: true, cluster: up}}\n"
    ))
    .await;
    let path = format!("/v1/chat/completions?a=1&key={key}&b=2");
    assert_eq!(send(&edge, &path, "", &Dialect::Chat.ask("m", false)).await.status, 200);
    let path = format!("/raw/files?a=1&key={key}");
    assert_eq!(send(&edge, &path, "", "{}").await.status, 200);
    // Beside a key in a header it is the upstream's own parameter.
    let fields = format!("x-api-key: {key}\r\n");
    assert_eq!(send(&edge, "/raw/files?key=theirs", &fields, "{}").await.status, 200);
    let received = upstream.received();
    assert!(received[0].starts_with("POST /v1/chat/completions?a=1&b=2 "), "{}", received[0]);
    assert!(received[1].contains("files?a=1 "), "{}", received[1]);
    assert!(received[2].contains("files?key=theirs "), "{}", received[2]);
    assert!(received.iter().all(|request| !request.contains(&key)), "{received:?}");
    edge.accesses(3).await;
    assert!(!edge.said().contains(&key), "a key is in the log");
}

#[tokio::test]
async fn a_wrong_an_ended_and_a_disabled_key_are_told_the_same_in_every_dialect() {
    let sim = sim(Config::default()).await;
    let [(ended, ended_hash), (disabled, disabled_hash), (wrong, _)] = [key(), key(), key()];
    let edge = Edge::start(&format!(
        "{}keys:\n  ended: {{hash: \"{ended_hash}\", expires: \"2020-01-01T00:00:00Z\"}}\n\
         \x20 disabled: {{hash: \"{disabled_hash}\", enabled: false}}\naccess: {{guessing: {{window: off}}}}\n",
        fleet(&sim)
    ))
    .await;
    for (path, body) in ASKED {
        let mut told = Vec::new();
        for key in [&ended, &disabled, &wrong] {
            let got = send(&edge, path, &format!("x-api-key: {key}\r\n"), body).await;
            assert_eq!(got.status, if path.contains("converse") { 403 } else { 401 }, "{path}: {got:?}");
            let names: Vec<String> = got.headers.iter().map(|(name, _)| name.clone()).collect();
            told.push((without_id(&got), names));
        }
        assert!(told[0] == told[1] && told[1] == told[2], "{told:#?}");
        assert!(told[0].0.contains("not valid here"), "{}", told[0].0);
        assert_eq!(
            send(&edge, path, "", body).await.status,
            if path.contains("converse") { 403 } else { 401 }
        );
    }
    for (reason, count) in [("expired", 5.0), ("disabled", 5.0), ("unknown", 5.0), ("missing", 5.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(edge.total("forebay_access_failures_total", &[&label]).await, count, "{reason}");
    }
    edge.access(|line| line["error"].as_str().is_some_and(|why| why.contains("expired ended"))).await;
    for secret in [&ended, &disabled, &wrong] {
        assert!(!edge.said().contains(secret.as_str()), "a key is in the log");
    }
}

#[tokio::test]
async fn two_keys_that_differ_and_signatures_of_aws_are_refused_with_a_reason() {
    let sim = sim(Config::default()).await;
    let [(one, one_hash), (other, other_hash)] = [key(), key()];
    let edge = Edge::start(&format!(
        "{}keys: {{one: {{hash: \"{one_hash}\"}}, other: {{hash: \"{other_hash}\"}}}}\n",
        fleet(&sim)
    ))
    .await;
    let (path, body) = ASKED[0];
    for fields in [
        format!("x-api-key: {one}\r\nauthorization: Bearer {other}\r\n"),
        format!("x-api-key: {one}\r\nx-api-key: {other}\r\n"),
        format!("x-api-key: {one}\r\napi-key: {other}\r\n"),
    ] {
        let got = send(&edge, path, &fields, body).await;
        // The screen may refuse a header that is there twice before anybody looks at what is in it.
        assert!(got.status == 401 || got.status == 400, "{fields}: {got:?}");
    }
    let both =
        send(&edge, path, &format!("x-api-key: {one}\r\nauthorization: Bearer {other}\r\n"), body).await;
    assert!(both.status == 401 && without_id(&both).contains("differ"), "{both:?}");
    let same = format!("x-api-key: {one}\r\nauthorization: Bearer {one}\r\n");
    assert_eq!(send(&edge, path, &same, body).await.status, 200);
    let signed = "authorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/bedrock/aws4_request, Signature=00\r\n";
    let (path, body) = ASKED[4];
    let got = send(&edge, path, signed, body).await;
    assert!(without_id(&got).contains("signatures of AWS cannot be verified"), "{got:?}");
    assert_eq!(send(&edge, path, &format!("{signed}x-api-key: {one}\r\n"), body).await.status, 200);
}

#[tokio::test]
async fn who_guesses_is_stopped_and_who_was_good_there_goes_on() {
    let sim = sim(Config::default()).await;
    let [(good, good_hash), (unused, unused_hash)] = [key(), key()];
    let edge = Edge::start(&format!(
        "{}keys: {{good: {{hash: \"{good_hash}\"}}, unused: {{hash: \"{unused_hash}\"}}}}\n\
         access: {{guessing: {{failures: 3, window: 1h}}}}\n",
        fleet(&sim)
    ))
    .await;
    assert_eq!(chat(&edge, &good).await.status, 200);
    for _ in 0..3 {
        assert_eq!(chat(&edge, "guess").await.status, 401);
    }
    for key in ["guess", &unused] {
        let got = chat(&edge, key).await;
        assert_eq!(got.status, 429, "{got:?}");
        let after: u64 = got.header("retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&after), "{after}");
    }
    assert_eq!(chat(&edge, &good).await.status, 200);
    assert_eq!(edge.total("forebay_access_failures_total", &["reason=\"shielded\""]).await, 2.0);
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_and_a_broken_one_changes_nothing() {
    let sim = sim(Config::default()).await;
    let folder = Folder::new("file");
    let [(old, old_hash), (new, new_hash)] = [key(), key()];
    let file = folder.write("keys.yaml", &format!("keys: {{app: {{hash: \"{old_hash}\"}}}}\n"));
    let access = format!("access: {{keys_file: \"{file}\", guessing: {{window: off}}}}\n");
    let edge = Edge::start(&(fleet(&sim) + &access)).await;
    assert_eq!((chat(&edge, &old).await.status, chat(&edge, &new).await.status), (200, 401));
    // Rotation: both are good, then the new one alone.
    let both = format!("keys: {{app: {{hash: \"{new_hash}\", previous: [{{hash: \"{old_hash}\"}}]}}}}\n");
    folder.write("keys.yaml", &both);
    until(&edge, &new, 200).await;
    assert_eq!(chat(&edge, &old).await.status, 200);
    folder.write("keys.yaml", "keys: {app: {hsh: 1}}\n");
    soon("the complaint", async {
        while edge.metric("forebay_keys_file_broken").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((chat(&edge, &old).await.status, chat(&edge, &new).await.status), (200, 200));
    heard(&edge, "did you mean `hash`?", 1).await;
    // What is left of a file that was cut short is no file without keys.
    for cut in ["", "{}", "# keys"] {
        folder.write("keys.yaml", cut);
    }
    heard(&edge, "the keys before it count", 2).await;
    assert_eq!(chat(&edge, &new).await.status, 200);
    folder.write("keys.yaml", &format!("keys: {{app: {{hash: \"{new_hash}\"}}}}\n"));
    until(&edge, &old, 401).await;
    assert_eq!(chat(&edge, &new).await.status, 200);
    assert_eq!(edge.metric("forebay_keys_file_broken").await, 0.0);
}

async fn operate(edge: &Edge, path: &str, body: Value) -> Reply {
    Client::try_connect(edge.admin).await.unwrap().ask(&post(path, "", body.to_string())).await
}

fn files(directory: &Path) -> String {
    let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[tokio::test]
async fn keys_made_by_operators_outlive_the_edge() {
    let sim = sim(Config::default()).await;
    let folder = Folder::new("store");
    let state = folder.path("state");
    let config = format!(
        "{}server: {{state: \"{}\"}}\nteams: {{search: {{models: [\"m\"]}}}}\n",
        fleet(&sim),
        state.display()
    );
    let edge = Edge::start(&config).await;
    assert_eq!(chat(&edge, "whatever").await.status, 200, "nobody has a key yet");
    heard(&edge, "served without a key", 1).await;
    let made = operate(&edge, "/keys/create", json!({"name": "app", "team": "search", "tags": ["x"]})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let first = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!((chat(&edge, &first).await.status, chat(&edge, "whatever").await.status), (200, 401));
    let turned = operate(&edge, "/keys/rotate", json!({"name": "app", "keep_s": 3600})).await;
    let second = turned.json()["key"].as_str().unwrap().to_owned();
    for key in [&first, &second] {
        assert_eq!(chat(&edge, key).await.status, 200);
    }
    for (path, body, status) in [
        ("/keys/create", json!({"name": "app"}), 409),
        ("/keys/create", json!({"name": "other", "hash": "sha256:00"}), 400),
        ("/keys/create", json!({"name": "other", "metadata": {"x": "${PATH}"}}), 400),
        ("/keys/create", json!({"name": "other", "team": "serch"}), 400),
        ("/keys/create", json!({"name": "../x"}), 400),
        ("/keys/change", json!({"name": "nobody"}), 404),
        ("/keys/delete", json!({"name": "app", "x": 1}), 400),
        ("/keys/rotate", json!({"name": "app", "keep_s": -1}), 400),
        ("/keys/rotate", json!([]), 400),
    ] {
        let got = operate(&edge, path, body.clone()).await;
        assert_eq!(got.status, status, "{path} {body}: {got:?}");
    }
    drop(edge);

    let edge = Edge::start(&config).await;
    for key in [&first, &second] {
        assert_eq!(chat(&edge, key).await.status, 200, "after a restart");
    }
    let listed = edge.look("/keys").await.json();
    let app = &listed["keys"][0];
    assert_eq!(
        (&app["name"], &app["team"], &app["origin"]),
        (&json!("app"), &json!("search"), &json!("store"))
    );
    assert!(app["keys"][0]["last_used"].is_string(), "{app}");
    assert_eq!(operate(&edge, "/keys/disable", json!({"name": "app"})).await.status, 200);
    assert_eq!(chat(&edge, &second).await.status, 401);
    assert_eq!(operate(&edge, "/keys/enable", json!({"name": "app"})).await.status, 200);
    assert_eq!(chat(&edge, &second).await.status, 200);
    assert_eq!(operate(&edge, "/keys/change", json!({"name": "app", "models": ["none"]})).await.status, 200);
    assert_eq!(chat(&edge, &second).await.status, 404);
    assert_eq!(operate(&edge, "/keys/delete", json!({"name": "app"})).await.status, 200);
    assert_eq!(chat(&edge, &second).await.status, 401, "deleting the last key opens nothing");
    let kept = files(&state);
    for secret in [&first, &second] {
        assert!(!kept.contains(secret.as_str()) && !edge.said().contains(secret.as_str()), "a key is kept");
        assert!(!listed.to_string().contains(secret.as_str()), "{listed}");
    }
}

#[tokio::test]
async fn what_a_key_its_team_or_its_organisation_does_not_permit_is_refused() {
    let sim = sim(Config::default()).await;
    let [(app, app_hash), (free, free_hash)] = [key(), key()];
    let edge = Edge::start(&format!(
        "{}keys:\n  app: {{hash: \"{app_hash}\", team: search, models: [\"m*\"], max_body: 1KiB}}\n\
         \x20 free: {{hash: \"{free_hash}\"}}\n\
         teams: {{search: {{organisation: acme, tools: false, endpoints: [chat_completions, messages]}}}}\n\
         organisations: {{acme: {{models: [\"*-ok\", m], routes: [main], max_output_tokens: 50}}}}\n\
         routes:\n  - {{name: main, path: /}}\n  - {{name: side, path: /side}}\n",
        fleet(&sim)
    ))
    .await;
    let said = json!([{"role": "user", "content": "x"}]);
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let long = "x".repeat(2000);
    let refused = [
        ("/v1/responses", json!({"model": "m", "input": "x"}), 403, "may not ask for responses"),
        ("/side/v1/chat/completions", json!({"model": "m", "messages": said}), 403, "route `side`"),
        ("/v1/chat/completions", json!({"model": "m", "messages": said, "tools": tools}), 403, "`tools`"),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": said, "max_tokens": 51}),
            400,
            "at most 50",
        ),
        ("/v1/chat/completions", json!({"model": "m2", "messages": said}), 404, "m2"),
        ("/v1/chat/completions", json!({"model": "x-ok", "messages": said}), 404, "x-ok"),
        ("/v1/chat/completions", json!({"model": "m", "messages": said, "user": long}), 413, "1024 bytes"),
    ];
    for (path, body, status, says) in refused {
        let asked = |key: &str| post(path, &format!("authorization: Bearer {key}\r\n"), body.to_string());
        let got = edge.connect().await.ask(&asked(&app)).await;
        assert!(got.status == status && without_id(&got).contains(says), "{path} {body}: {got:?}");
        let got = edge.connect().await.ask(&asked(&free)).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
    }
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "m-ok", "messages": said, "max_tokens": 50})),
        ("/v1/chat/completions", json!({"model": "m", "messages": said, "tools": []})),
        ("/v1/messages", json!({"model": "m", "messages": said, "max_tokens": 50})),
    ] {
        let fields = format!("x-api-key: {app}\r\n");
        let got = send(&edge, path, &fields, &body.to_string()).await;
        assert_eq!(got.status, 200, "{path} {body}: {got:?}");
    }
    let models = get("/v1/models", &format!("authorization: Bearer {app}\r\n"));
    assert_eq!(edge.connect().await.ask(&models).await.status, 200, "models may always be listed");
    for permission in ["endpoint", "route", "tools", "output", "body"] {
        let label = format!("permission=\"{permission}\"");
        assert_eq!(edge.total("forebay_access_refusals_total", &[&label]).await, 1.0, "{permission}");
    }
}

#[tokio::test]
async fn a_request_that_says_nothing_is_sent_with_its_callers_bound() {
    let upstream = Scripted::start(|_| Turn::Say(answer("hi"))).await;
    let (key, hash) = key();
    let address = upstream.addr;
    let edge = Edge::start(&format!(
        "clusters: {{up: {{provider: vllm, endpoints: [\"http://{address}\"], speaks: [chat_completions], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\nkeys: {{app: {{hash: \"{hash}\", max_output_tokens: 7}}}}\n"
    ))
    .await;
    for (path, body) in ASKED.iter().filter(|(path, _)| *path != "/v1/messages") {
        let got = send(&edge, path, &format!("x-api-key: {key}\r\n"), body).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
    }
    for request in upstream.received() {
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["max_tokens"], 7, "{body}");
    }
}

#[tokio::test]
async fn names_that_callers_choose_make_no_labels() {
    let sim = sim(Config::default()).await;
    let (key, hash) = key();
    let edge = Edge::start(&format!(
        "{}keys: {{app: {{hash: \"{hash}\"}}}}\naccess: {{guessing: {{window: off}}}}\n",
        fleet(&sim)
    ))
    .await;
    for number in 0..20 {
        let marked = format!("canary-{number}");
        chat(&edge, &marked).await;
        let fields = format!("x-api-key: {key}\r\n");
        let path = format!("/v1/chat/completions?x={marked}");
        send(&edge, &path, &fields, &Dialect::Chat.ask("m", false)).await;
        send(&edge, &format!("/{marked}"), &fields, "{}").await;
    }
    let metrics = String::from_utf8(edge.look("/metrics").await.body).unwrap();
    assert!(!metrics.contains("canary"), "{metrics}");
}
