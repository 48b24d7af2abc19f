//! A cluster's several keys: which is asked, which is left alone, and where their secrets come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::scripted::{Asked, Scripted, Turn, answer, json as reply};
use crate::support::{Edge, Reply, cluster_of, heard, post, soon};

const PATH: &str = "/v1/chat/completions";
const ENV: [(&str, &str); 3] = [
    ("KEY_A", "canary-of-a-0123456789"),
    ("KEY_B", "canary-of-b-0123456789"),
    ("KEY_C", "canary-of-c-0123456789"),
];
const TWO: &str = "{name: a, key: env:KEY_A}, {name: b, key: env:KEY_B}";

/// The secret that a request bears.
fn bearer(text: &str) -> &str {
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:")).unwrap();
    line.split_once("Bearer ").unwrap().1.trim()
}

/// The name of the key that a request bears: of `canary-of-a-...` that is `a`.
fn name(text: &str) -> String {
    bearer(text).split('-').nth(2).unwrap().to_owned()
}

/// A conversation's beginning.
fn says(model: &str, said: &str) -> Vec<u8> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": said}]});
    post(PATH, "", body.to_string())
}

/// Asks something that nobody asked before. Says who answered; the client must see nothing of any failure.
async fn who(edge: &Edge) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let said = format!("question {}", NUMBER.fetch_add(1, SeqCst));
    told(&edge.connect().await.ask(&says("m", &said)).await)
}

fn told(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn count(node: &Scripted, key: &str) -> usize {
    node.received().iter().filter(|text| name(text) == key).count()
}

fn state(key: &str) -> String {
    format!("forebay_provider_key_state{{cluster=\"sim\",key=\"{key}\"}}")
}

/// Waits until the edge has said that, however often.
async fn hears(edge: &Edge, what: &str) {
    soon(what, async {
        while !edge.said().contains(what) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Nothing of a secret is in anything that the edge says.
async fn tells_no_secret(edge: &Edge) {
    let mut all = edge.said();
    for path in ["/metrics", "/snapshot"] {
        all.push_str(&String::from_utf8_lossy(&edge.look(path).await.body));
    }
    assert!(!all.contains("canary"), "{all}");
}

/// With headers, and a body of JSON.
fn with(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

async fn start(addr: SocketAddr, keys: &str, more: &str) -> Edge {
    Edge::start_with(&cluster_of(&[addr], &format!("keys: [{keys}]{more}")), &ENV).await
}

#[tokio::test]
async fn a_refused_key_is_set_aside_alone_and_another_serves_at_once() {
    const QUOTA: &str = r#"{"error":{"message":"exceeded","code":"insufficient_quota"}}"#;
    const NO: &str = r#"{"error":{"message":"no"}}"#;
    for (status, body, fault) in
        [(401, NO, "credential"), (402, NO, "payment"), (403, NO, "credential"), (429, QUOTA, "quota")]
    {
        let refuses = Arc::new(AtomicBool::new(true));
        let mood = Arc::clone(&refuses);
        let node = Scripted::start(move |asked| match name(asked.text).as_str() {
            "a" if mood.load(SeqCst) => Turn::Say(reply(status, body)),
            other => Turn::Say(answer(other)),
        })
        .await;
        let edge = start(node.addr, TWO, ", breaker: {key_for: 400ms}").await;
        soon("the refusal", async {
            while count(&node, "a") == 0 {
                assert_eq!(who(&edge).await, "b", "{status}");
            }
        })
        .await;
        heard(&edge, "its key a was refused", 1).await;
        hears(&edge, "\"level\":\"ERROR\"").await;
        assert_eq!((edge.metric(&state("a")).await, edge.metric(&state("b")).await), (1.0, 0.0));
        let trips = format!("forebay_breaker_trips_total{{cluster=\"sim\",reason=\"{fault}\"}}");
        assert_eq!(edge.metric(&trips).await, 1.0);
        let passed = edge.access(|line| line["passed"].is_string()).await;
        assert!(passed["passed"].as_str().unwrap().contains("key a was refused"), "{passed}");
        assert_eq!((&passed["provider_key"], &passed["attempts"]), (&json!("b"), &json!(2)));
        refuses.store(false, SeqCst);
        soon("its return", async { while who(&edge).await != "a" {} }).await;
        assert_eq!(edge.metric(&state("a")).await, 0.0);
        heard(&edge, "its key a is accepted again", 1).await;
        tells_no_secret(&edge).await;
    }
}

#[tokio::test]
async fn a_rate_is_a_keys_and_a_models_and_the_cluster_goes_on() {
    let node = Scripted::start(|asked| match (name(asked.text).as_str(), asked.text.contains("\"busy\"")) {
        ("a", true) => Turn::Say(with(429, "retry-after: 50\r\n", "{\"error\":{\"message\":\"slow down\"}}")),
        (other, _) => Turn::Say(answer(other)),
    })
    .await;
    let edge = start(node.addr, TWO, "").await;
    let ask = |model: &'static str, number: usize| {
        let edge = &edge;
        async move { told(&edge.connect().await.ask(&says(model, &format!("busy or not {number}"))).await) }
    };
    for number in 0..40 {
        assert_eq!(ask("busy", number).await, "b");
    }
    assert_eq!(count(&node, "a"), 1, "it rests after the first refusal");
    let mut others = BTreeSet::new();
    for number in 0..40 {
        others.insert(ask("idle", number).await);
    }
    assert_eq!(others.len(), 2, "another model of the same key does not");
    let snapshot = edge.look("/snapshot").await.json();
    let a = &snapshot["clusters"][0]["keys"][0];
    assert!(a["models"]["busy"]["rests_ms"].as_f64().unwrap() > 10_000.0, "{a}");
    assert_eq!(a["breaker"]["state"], "closed");
    edge.idle().await;
}

#[tokio::test]
async fn where_all_keys_rest_the_client_is_told_for_how_long() {
    let node = Scripted::start(|_| {
        Turn::Say(with(429, "retry-after: 50\r\n", "{\"error\":{\"message\":\"slow\"}}"))
    })
    .await;
    let edge = start(node.addr, TWO, "").await;
    let first = edge.connect().await.ask(&says("m", "one")).await;
    assert_eq!((first.status, node.received().len()), (429, 2), "both keys were asked: {first:?}");
    let second = edge.connect().await.ask(&says("m", "two")).await;
    assert_eq!((second.status, node.received().len()), (429, 2));
    let after: u32 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((40..=60).contains(&after), "{after}");
}

/// An upstream that lets each key ask so often, and says how often it still may.
async fn counting(limit: usize, refused: &Arc<AtomicUsize>) -> Scripted {
    let (used, refused): (Mutex<BTreeMap<String, usize>>, _) = (Mutex::default(), Arc::clone(refused));
    Scripted::start(move |asked| {
        let key = name(asked.text);
        let mut used = used.lock().unwrap();
        let used = used.entry(key.clone()).or_default();
        *used += 1;
        let left = limit.saturating_sub(*used);
        let told = format!(
            "x-ratelimit-limit-requests: {limit}\r\nx-ratelimit-remaining-requests: {left}\r\nx-ratelimit-reset-requests: 5m0s\r\n"
        );
        if *used > limit {
            refused.fetch_add(1, SeqCst);
            return Turn::Say(with(429, &told, "{\"error\":{\"message\":\"too many\"}}"));
        }
        let body = json!({"id": "c", "object": "chat.completion", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": key}}]});
        Turn::Say(with(200, &told, &body.to_string()))
    })
    .await
}

#[tokio::test]
async fn a_key_is_left_before_it_answers_429() {
    let refused = Arc::new(AtomicUsize::new(0));
    let node = counting(20, &refused).await;
    let keys = format!("{TWO}, {{name: c, key: env:KEY_C, weight: 3}}");
    let edge = start(node.addr, &keys, "").await;
    // Until a key has answered once, nothing is known of it.
    let mut known = BTreeSet::new();
    let mut asked = 0;
    while known.len() < 3 {
        known.insert(who(&edge).await);
        asked += 1;
    }
    let left = Arc::new(AtomicUsize::new(60 - asked));
    let next = |left: &AtomicUsize| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    let worker = || async {
        while next(&left) {
            who(&edge).await;
        }
    };
    tokio::join!(worker(), worker(), worker(), worker());
    assert_eq!((refused.load(SeqCst), node.received().len()), (0, 60), "all that there was, and no more");
    let snapshot = edge.look("/snapshot").await.json();
    for key in snapshot["clusters"][0]["keys"].as_array().unwrap() {
        assert_eq!(key["models"]["m"]["rates"]["requests"]["remaining"], 0, "{key}");
    }
    let reply = edge.connect().await.ask(&says("m", "one more")).await;
    assert!(reply.status == 429 && refused.load(SeqCst) > 0, "it is the provider that decides: {reply:?}");
}

#[tokio::test]
async fn a_conversation_stays_on_its_key() {
    let node = Scripted::start(|asked| Turn::Say(answer(&name(asked.text)))).await;
    let edge = start(node.addr, &format!("{TWO}, {{name: c, key: env:KEY_C}}"), "").await;
    let mut all = BTreeSet::new();
    for number in 0..12 {
        let mut messages = vec![
            json!({"role": "system", "content": "You are what all conversations begin with."}),
            json!({"role": "user", "content": format!("conversation {number}")}),
        ];
        let mut keys = BTreeSet::new();
        for turn in 0..4 {
            let body = json!({"messages": messages, "model": "m", "temperature": turn});
            keys.insert(told(&edge.connect().await.ask(&post(PATH, "", body.to_string())).await));
            messages.push(json!({"role": "assistant", "content": "Well."}));
            messages.push(json!({"role": "user", "content": format!("turn {turn}")}));
        }
        assert_eq!(keys.len(), 1, "{keys:?}");
        all.extend(keys);
    }
    assert_eq!(all.len(), 3, "different ones are spread");
    let mut named = BTreeSet::new();
    for number in 0..6 {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": format!("any {number}")}]});
        let request = post(PATH, "x-session-id: 7\r\n", body.to_string());
        named.insert(told(&edge.connect().await.ask(&request).await));
    }
    assert_eq!(named.len(), 1, "a client that names its conversation is believed");
}

#[tokio::test]
async fn what_an_account_keeps_is_asked_of_its_key_alone() {
    let refuses = Arc::new(Mutex::new(String::new()));
    let mood = Arc::clone(&refuses);
    let node = Scripted::start(move |asked| {
        let key = name(asked.text);
        if *mood.lock().unwrap() == key {
            return Turn::Say(reply(401, r#"{"error":{"message":"no"}}"#));
        }
        let body = json!({"id": format!("resp_{key}"), "object": "response", "status": "completed", "model": "m",
            "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": key, "annotations": []}]}]});
        Turn::Say(reply(200, &body.to_string()))
    })
    .await;
    let edge = start(node.addr, TWO, "").await;
    let ask = |body: Value| {
        let edge = &edge;
        async move { edge.connect().await.ask(&post("/v1/responses", "", body.to_string())).await }
    };
    let mut seen = BTreeMap::new();
    for number in 0..20 {
        let id = ask(json!({"model": "m", "input": format!("q{number}")})).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let owner = id.split('_').nth(1).unwrap().to_owned();
        for turn in 0..3 {
            let next =
                ask(json!({"model": "m", "input": format!("t{turn}"), "previous_response_id": id})).await;
            assert_eq!(next.json()["output"][0]["content"][0]["text"], owner.as_str(), "{next:?}");
        }
        seen.insert(owner, id);
    }
    assert_eq!(seen.len(), 2);
    "a".clone_into(&mut refuses.lock().unwrap());
    let before = count(&node, "b");
    let lost = ask(json!({"model": "m", "input": "?", "previous_response_id": seen["a"]})).await;
    assert!(
        lost.status >= 500 && count(&node, "b") == before,
        "another account knows nothing of it: {lost:?}"
    );
}

/// A file of this test's own.
struct Secret(PathBuf);

impl Secret {
    fn new(name: &str, secret: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("forebay-key-{name}-{}", std::process::id())));
        file.becomes(secret);
        file
    }

    /// Replaces it whole, as one should.
    fn becomes(&self, secret: &str) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, format!("{secret}\n")).unwrap();
        std::fs::rename(&beside, &self.0).unwrap();
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_key_is_replaced_under_load_and_no_exchange_fails() {
    let is_new = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&is_new);
    let node = Scripted::start(move |asked| match (bearer(asked.text), mood.load(SeqCst)) {
        ("canary-of-a-old", true) | ("canary-of-a-new", false) => {
            Turn::Say(reply(401, r#"{"error":{"message":"no such key"}}"#))
        }
        (key, _) => Turn::Say(answer(key)),
    })
    .await;
    let file = Secret::new("load", "canary-of-a-old");
    let keys = format!(
        "{{name: a, key: \"file:{}\", rotate_every: 90d}}, {{name: b, key: env:KEY_B}}",
        file.0.display()
    );
    let edge = start(node.addr, &keys, "").await;
    let (seen, done) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    let worker = || async {
        while !done.load(SeqCst) {
            let key = who(&edge).await;
            seen.lock().unwrap().insert(key);
        }
    };
    let has = |key: &'static str| {
        let seen = &seen;
        soon(key, async move {
            while !seen.lock().unwrap().contains(key) {
                tokio::task::yield_now().await;
            }
        })
    };
    let replace = async {
        has("canary-of-a-old").await;
        is_new.store(true, SeqCst);
        heard(&edge, "its key a was refused", 1).await;
        file.becomes("canary-of-a-new");
        // Long before the minute is over for which it was set aside.
        has("canary-of-a-new").await;
        done.store(true, SeqCst);
    };
    tokio::join!(worker(), worker(), worker(), replace);
    heard(&edge, "its key a has a new secret, and it is used again", 1).await;
    assert_eq!(edge.metric(&state("a")).await, 0.0);
    let of = |family: &str| format!("forebay_provider_key_{family}{{cluster=\"sim\",key=\"a\"}}");
    assert_eq!(edge.metric(&of("rotations_total")).await, 1.0);
    assert_eq!((edge.metric(&of("overdue")).await, edge.metric(&of("readable")).await), (0.0, 1.0));
    tells_no_secret(&edge).await;
}

#[tokio::test]
async fn a_lone_key_in_a_file_is_replaced_and_what_cannot_be_read_changes_nothing() {
    let node = Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await;
    let file = Secret::new("lone", "canary-1");
    let settings = format!("api_key: \"file:{}\"", file.0.display());
    let edge = Edge::start(&cluster_of(&[node.addr], &settings)).await;
    assert_eq!(who(&edge).await, "canary-1");
    std::fs::remove_file(&file.0).unwrap();
    heard(&edge, "its key api_key stays what it was", 1).await;
    let readable = "forebay_provider_key_readable{cluster=\"sim\",key=\"api_key\"}";
    assert_eq!((who(&edge).await.as_str(), edge.metric(readable).await), ("canary-1", 0.0));
    file.becomes("canary-2");
    soon("the new key", async { while who(&edge).await != "canary-2" {} }).await;
    assert_eq!(edge.metric(readable).await, 1.0);
    tells_no_secret(&edge).await;
}

#[tokio::test]
async fn an_old_key_is_told_of() {
    let node = Scripted::start(|asked| Turn::Say(answer(&name(asked.text)))).await;
    let file = Secret::new("old", "canary-of-a-old");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(24 * 100);
    std::fs::File::options().write(true).open(&file.0).unwrap().set_modified(old).unwrap();
    let keys = format!(
        "{{name: a, key: \"file:{}\", rotate_every: 90d}}, {{name: b, key: env:KEY_B, rotate_every: 90d}}",
        file.0.display()
    );
    let edge = start(node.addr, &keys, "").await;
    heard(&edge, "its key a is 100 days old and should be replaced every 90", 1).await;
    let overdue = |key: &str| format!("forebay_provider_key_overdue{{cluster=\"sim\",key=\"{key}\"}}");
    assert_eq!((edge.metric(&overdue("a")).await, edge.metric(&overdue("b")).await), (1.0, 0.0));
    assert!(
        edge.metric("forebay_provider_key_age_seconds{cluster=\"sim\",key=\"a\"}").await > 99.0 * 86_400.0
    );
}

// === Vault ===

const WELL: u8 = 0;
const DOWN: u8 = 1;

/// A Vault with one secret; its tokens last for that many seconds.
struct Vault {
    node: Scripted,
    mood: Arc<AtomicU8>,
    version: Arc<AtomicUsize>,
}

impl Vault {
    async fn start(lease: u64) -> Self {
        let (mood, version) = (Arc::new(AtomicU8::new(WELL)), Arc::new(AtomicUsize::new(1)));
        let (feels, has) = (Arc::clone(&mood), Arc::clone(&version));
        let node = Scripted::start(move |asked| match feels.load(SeqCst) {
            WELL => Turn::Say(Self::answer(&asked, lease, has.load(SeqCst))),
            _ => Turn::Say(reply(503, r#"{"errors":["Vault is sealed"]}"#)),
        })
        .await;
        Self { node, mood, version }
    }

    fn answer(asked: &Asked<'_>, lease: u64, version: usize) -> Vec<u8> {
        let line = asked.text.lines().next().unwrap();
        let lower = asked.text.to_ascii_lowercase();
        if !lower.contains("x-vault-token: canary-token") || !lower.contains("x-vault-namespace: team") {
            return reply(403, r#"{"errors":["permission denied"]}"#);
        }
        if line.starts_with("POST /v1/auth/token/renew-self ") {
            let auth =
                json!({"auth": {"client_token": "canary-token", "lease_duration": lease, "renewable": true}});
            return reply(200, &auth.to_string());
        }
        if line.starts_with("GET /v1/secret/data/openai/main ") {
            let kept = json!({"data": {"data": {"key": format!("canary-{version}")},
                "metadata": {"created_time": "2025-01-01T00:00:00.123Z", "version": version}}});
            return reply(200, &kept.to_string());
        }
        reply(404, r#"{"errors":[]}"#)
    }

    fn asked(&self, what: &str) -> usize {
        self.node.received().iter().filter(|text| text.starts_with(what)).count()
    }

    /// A cluster `sim` whose keys are in it.
    fn config(&self, node: &Scripted, keys: &str) -> String {
        let addr = self.node.addr;
        format!(
            "vault: {{address: \"http://{addr}\", token: env:TOKEN, namespace: team, refresh: 100ms, timeout: 2s}}\n\
             server: {{seal: env:TOKEN}}\n{}",
            cluster_of(&[node.addr], keys)
        )
    }
}

const TOKEN: [(&str, &str); 1] = [("TOKEN", "canary-token")];

#[tokio::test]
async fn a_key_in_a_vault_is_replaced_and_an_outage_changes_nothing() {
    let (vault, node) =
        (Vault::start(3600).await, Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await);
    let edge =
        Edge::start_with(&vault.config(&node, "api_key: \"vault:secret/openai/main#key\""), &TOKEN).await;
    assert_eq!(who(&edge).await, "canary-1", "it is there before anything is served");
    let age = "forebay_provider_key_age_seconds{cluster=\"sim\",key=\"api_key\"}";
    assert!(edge.metric(age).await > 300.0 * 86_400.0, "since its version was made");
    vault.version.store(2, SeqCst);
    soon("the new key", async { while who(&edge).await != "canary-2" {} }).await;
    vault.mood.store(DOWN, SeqCst);
    let readable = "forebay_provider_key_readable{cluster=\"sim\",key=\"api_key\"}";
    soon("the outage", async { while edge.metric(readable).await != 0.0 {} }).await;
    hears(&edge, "its key api_key stays what it was: Vault answered 503: Vault is sealed").await;
    assert_eq!(who(&edge).await, "canary-2", "the last one stays in force");
    vault.version.store(3, SeqCst);
    vault.mood.store(WELL, SeqCst);
    soon("the third key", async { while who(&edge).await != "canary-3" {} }).await;
    assert_eq!(edge.metric(readable).await, 1.0);
    tells_no_secret(&edge).await;
}

#[tokio::test]
async fn the_token_is_renewed_ahead_of_its_end() {
    let (vault, node) =
        (Vault::start(1).await, Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await);
    let edge =
        Edge::start_with(&vault.config(&node, "api_key: \"vault:secret/openai/main#key\""), &TOKEN).await;
    soon("three renewals", async {
        while vault.asked("POST /v1/auth/token/renew-self") < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(vault.asked("GET /v1/secret/data/openai/main") > 3);
    assert_eq!(who(&edge).await, "canary-1");
}

#[tokio::test]
async fn what_is_missing_is_said_at_the_start_and_the_other_keys_serve() {
    let (vault, node) =
        (Vault::start(3600).await, Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await);
    let keys = "keys: [{name: good, key: \"vault:secret/openai/main#key\"}, {name: lost, key: \"vault:secret/nowhere#key\"}]";
    let edge = Edge::start_with(&vault.config(&node, keys), &TOKEN).await;
    hears(&edge, "there is no secret for its key lost yet: Vault's secret/nowhere#key: there is nothing")
        .await;
    for _ in 0..20 {
        assert_eq!(who(&edge).await, "canary-1");
    }
    assert_eq!((edge.metric(&state("good")).await, edge.metric(&state("lost")).await), (0.0, 3.0));
    tells_no_secret(&edge).await;
}

#[tokio::test]
async fn without_any_secret_nobody_is_asked_until_there_is_one() {
    let (vault, node) =
        (Vault::start(3600).await, Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await);
    vault.mood.store(DOWN, SeqCst);
    let edge =
        Edge::start_with(&vault.config(&node, "api_key: \"vault:secret/openai/main#key\""), &TOKEN).await;
    let refused = edge.connect().await.ask(&says("m", "hello")).await;
    assert_eq!((refused.status, node.received().len()), (503, 0), "{refused:?}");
    hears(&edge, "there is no secret for its key api_key yet").await;
    vault.mood.store(WELL, SeqCst);
    soon("the first key", async {
        while edge.connect().await.ask(&says("m", "hello")).await.status != 200 {}
    })
    .await;
}

#[tokio::test]
async fn a_raw_route_and_a_health_check_bear_a_key_too() {
    let node = Scripted::start(|asked| Turn::Say(answer(bearer(asked.text)))).await;
    let config = format!(
        "clusters: {{sim: {{provider: simulator, endpoints: [\"http://{}\"], health: {{path: /health}}, keys: [{TWO}]}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\nroutes: [{{name: all}}, {{name: raw, path: /files, raw: true, cluster: sim}}]\n",
        node.addr
    );
    let edge = Edge::start_with(&config, &ENV).await;
    let mine = "authorization: Bearer of-the-client\r\n";
    let raw = edge.connect().await.ask(&post("/files/1", mine, "{}")).await;
    assert!(told(&raw).starts_with("canary-of-"), "{raw:?}");
    soon("a check", async {
        while !node.received().iter().any(|text| text.starts_with("GET /health")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(node.received().iter().all(|text| bearer(text).starts_with("canary-of-")));
}
