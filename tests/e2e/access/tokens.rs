//! Tokens of an identity provider whose keys change, and that is away now and then.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{chat, until};
use crate::support::scripted::{Scripted, Turn, json as reply};
use crate::support::{Edge, fleet, sim};

struct Signer {
    id: &'static str,
    key: EcdsaKeyPair,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self { id, key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn public(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    fn token(&self, issuer: &str, more: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": issuer, "aud": "edge", "sub": "alice", "exp": now + 600, "iat": now});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.raw(&json!({"alg": "ES256", "kid": self.id}), &claims)
    }

    fn raw(&self, head: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", text(head.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", text(signature.as_ref()))
    }
}

/// An identity provider: the keys that it shows now, nothing while it is away.
struct Provider {
    keys: Arc<Mutex<Option<Vec<Value>>>>,
    server: Scripted,
}

impl Provider {
    async fn start(signers: &[&Signer]) -> Self {
        let keys = Arc::new(Mutex::new(None));
        let shown: Arc<Mutex<Option<Vec<Value>>>> = Arc::clone(&keys);
        let server = Scripted::start(move |asked| {
            let Some(keys) = shown.lock().unwrap().clone() else {
                return Turn::SayAndClose(reply(503, "{}"));
            };
            let host = asked.text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
            let document = if asked.text.starts_with("GET /.well-known/") {
                json!({"issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys")})
            } else {
                json!({ "keys": keys })
            };
            Turn::SayAndClose(reply(200, &document.to_string()))
        })
        .await;
        let provider = Self { keys, server };
        provider.show(signers);
        provider
    }

    fn show(&self, signers: &[&Signer]) {
        *self.keys.lock().unwrap() = Some(signers.iter().map(|signer| signer.public()).collect());
    }

    fn leave(&self) {
        *self.keys.lock().unwrap() = None;
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.server.addr)
    }
}

async fn edge(fleet: &str, provider: &Provider, more: &str) -> Edge {
    let issuer = provider.issuer();
    Edge::start(&format!(
        "{fleet}access:\n  jwt:\n    corp: {{issuer: \"{issuer}\", audiences: [edge], min_refresh: 1ms{more}}}\n\
         \x20 guessing: {{window: off}}\n\
         teams: {{search: {{models: [m]}}, ads: {{models: [other]}}}}\n"
    ))
    .await
}

#[tokio::test]
async fn a_token_is_taken_while_its_issuer_changes_keys_and_while_it_is_away() {
    let sim = sim(forebay::sim::Config::default()).await;
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let provider = Provider::start(&[&old]).await;
    let edge = edge(&fleet(&sim), &provider, "").await;
    let issuer = provider.issuer();
    let nothing = json!({});
    let first = old.token(&issuer, &nothing);
    assert_eq!(chat(&edge, &first).await.status, 200);
    let line = edge.access(|line| line["status"] == 200).await;
    assert_eq!(line["principal"], "corp/alice");

    provider.show(&[&old, &new]);
    assert_eq!(chat(&edge, &new.token(&issuer, &nothing)).await.status, 200, "its keys were fetched for it");
    provider.leave();
    for signer in [&old, &new] {
        let fresh = signer.token(&issuer, &json!({"jti": "1"}));
        assert_eq!(chat(&edge, &fresh).await.status, 200, "the keys from before count");
    }
    let stranger = Signer::new("stranger");
    let away = chat(&edge, &stranger.token(&issuer, &nothing)).await;
    assert_eq!((away.status, away.header("retry-after")), (503, Some("10")), "its key may be there by now");
    provider.show(&[&new]);
    // A key that is not known has the others fetched, and with them the old one goes.
    assert_eq!(chat(&edge, &stranger.token(&issuer, &nothing)).await.status, 401);
    until(&edge, &first, 401).await;
    assert!(!edge.said().contains(&first), "a token is in the log");
}

#[tokio::test]
async fn a_token_that_is_not_good_is_told_nothing_and_one_that_lacks_something_is() {
    let sim = sim(forebay::sim::Config::default()).await;
    let signer = Signer::new("a");
    let provider = Provider::start(&[&signer]).await;
    let more = ", scopes: [llm], team_claim: team, team: search";
    let edge = edge(&fleet(&sim), &provider, more).await;
    let issuer = provider.issuer();
    let token = |more: Value| signer.token(&issuer, &more);
    assert_eq!(chat(&edge, &token(json!({"scope": "llm"}))).await.status, 200);
    assert_eq!(
        chat(&edge, &token(json!({"scope": "llm", "team": "ads"}))).await.status,
        404,
        "not that model"
    );
    let unscoped = chat(&edge, &token(json!({}))).await;
    assert!(unscoped.status == 403 && unscoped.json().to_string().contains("scope"), "{unscoped:?}");
    let good = json!({"iss": issuer, "aud": "edge", "sub": "x", "exp": 9_999_999_999_u64, "scope": "llm"});
    let public = signer.public()["x"].as_str().unwrap().to_owned();
    let wrong = [
        signer.raw(&json!({"alg": "none", "kid": "a"}), &good),
        signer.raw(&json!({"alg": "HS256", "kid": "a", "k": public}), &good),
        format!("{}.", signer.raw(&json!({"alg": "none"}), &good).rsplit_once('.').unwrap().0),
        token(json!({"scope": "llm", "exp": 1})),
        token(json!({"scope": "llm", "aud": "other"})),
        token(json!({"scope": "llm", "iss": "http://evil.example"})),
        Signer::new("a").token(&issuer, &json!({"scope": "llm"})),
        format!("{}x", token(json!({"scope": "llm"}))),
        token(json!({"scope": "llm", "pad": "x".repeat(8 << 10)})),
        "eyJ.eyJ.x".to_owned(),
    ];
    let mut told = Vec::new();
    for token in &wrong {
        let got = chat(&edge, token).await;
        assert_eq!(got.status, 401, "{token}");
        told.push(super::without_id(&got));
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:#?}");
    for reason in
        ["token_algorithm", "token_expired", "token_audience", "token_issuer", "token_signature", "oversized"]
    {
        let label = format!("reason=\"{reason}\"");
        assert!(edge.total("forebay_access_failures_total", &[&label]).await > 0.0, "{reason}");
    }
}
