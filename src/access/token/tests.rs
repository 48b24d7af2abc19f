use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaKeyPair,
};
use serde_json::{Value, json};

use super::super::grants::tests::{group, patterns};
use super::super::grants::{Known, Rank};
use super::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs, with its public side.
pub(crate) struct Signer {
    id: &'static str,
    key: Private,
}

enum Private {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    pub(crate) fn p256(id: &'static str) -> Self {
        Self { id, key: Private::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    fn p384(id: &'static str) -> Self {
        Self { id, key: Private::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()) }
    }

    fn ed25519(id: &'static str) -> Self {
        Self { id, key: Private::Ed25519(Ed25519KeyPair::generate().unwrap()) }
    }

    fn rsa(id: &'static str) -> Self {
        Self { id, key: Private::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())) }
    }

    pub(crate) fn public(&self) -> Value {
        let point = |key: &EcdsaKeyPair, size: usize, curve: &str| {
            let bytes = key.public_key().as_ref();
            let (x, y) = (text(&bytes[1..=size]), text(&bytes[size + 1..]));
            json!({"kty": "EC", "crv": curve, "kid": self.id, "use": "sig", "x": x, "y": y})
        };
        match &self.key {
            Private::P256(key) => point(key, 32, "P-256"),
            Private::P384(key) => point(key, 48, "P-384"),
            Private::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": text(key.public_key().as_ref())})
            }
            Private::Rsa(key) => {
                // RFC 8017 A.1.1: a sequence of two numbers; the first has 2048 bits and a zero before them.
                let n = &key.public_key().as_ref()[9..9 + 256];
                json!({"kty": "RSA", "kid": self.id, "n": text(n), "e": "AQAB"})
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Private::P256(_) => "ES256",
            Private::P384(_) => "ES384",
            Private::Ed25519(_) => "EdDSA",
            Private::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Private::P256(key) | Private::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Private::Rsa(key) => {
                let how = if algorithm == "PS384" {
                    &RSA_PSS_SHA384 as &dyn aws_lc_rs::signature::RsaEncoding
                } else {
                    &RSA_PKCS1_SHA256
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(how, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with that head beside its algorithm and key, and these claims.
    fn token_as(&self, algorithm: &str, head: Value, claims: &Value) -> String {
        let mut full = json!({"alg": algorithm, "typ": "JWT", "kid": self.id});
        for (name, value) in head.as_object().unwrap() {
            full[name] = value.clone();
        }
        let signed = format!("{}.{}", text(full.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", text(&signature))
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_as(self.algorithm(), json!({}), claims)
    }
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "edge"], "sub": "alice", "exp": NOW + 300, "iat": NOW - 5,
        "nbf": NOW - 5, "scope": "openid llm",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

pub(crate) fn spec() -> IssuerSpec {
    let mut groups = Groups::default();
    let acme = group("acme", None, Grants::everything());
    for name in ["search", "ads"] {
        let team = group(
            name,
            Some(Arc::clone(&acme)),
            Grants { models: patterns(&["gpt-*"]), ..Grants::everything() },
        );
        groups.teams.insert(name.to_owned(), team);
    }
    groups.organisations.insert("acme".to_owned(), acme);
    groups.organisations.insert("globex".to_owned(), group("globex", None, Grants::everything()));
    IssuerSpec {
        name: Arc::from("corp"),
        issuer: "https://id.example".to_owned(),
        jwks: None,
        audiences: vec!["edge".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        scopes: vec!["llm".to_owned()],
        skew: Duration::from_secs(60),
        refresh: Duration::from_secs(900),
        least: Duration::from_secs(10),
        places: Places { name: "sub".to_owned(), team: None, organisation: None, models: None },
        groups,
        group: None,
        grants: Grants::everything(),
    }
}

pub(crate) fn issuer(spec: IssuerSpec, signers: &[&Signer]) -> Issuer {
    let issuer = Issuer::new(spec);
    issuer.learn(&document(signers)).unwrap();
    issuer
}

fn document(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.public()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn verify(issuer: &Issuer, token: &str) -> Result<Arc<Principal>, Fault> {
    let parts = Parts::of(token.as_bytes())?;
    issuer.verify(&parts, &Hash::of(token.as_bytes()), now())
}

#[test]
fn every_kind_of_key_verifies_what_it_has_signed() {
    let signers = [Signer::p256("a"), Signer::p384("b"), Signer::ed25519("c"), Signer::rsa("d")];
    let issuer = issuer(spec(), &signers.iter().collect::<Vec<_>>());
    for signer in &signers {
        let who = verify(&issuer, &signer.token(&claims())).unwrap();
        assert_eq!((&*who.name, &*who.label), ("corp/alice", "corp"));
    }
    let pss = signers[3].token_as("PS384", json!({}), &claims());
    assert!(verify(&issuer, &pss).is_ok());
}

#[test]
fn what_a_token_says_of_its_algorithm_never_goes_over_the_kind_of_the_key() {
    let (ec, rsa) = (Signer::p256("ec"), Signer::rsa("rsa"));
    let issuer = issuer(spec(), &[&ec, &rsa]);
    let reheaded = |token: &str, alg: &str, kid: Option<&str>| {
        let rest = token.split_once('.').unwrap().1;
        let head = json!({"alg": alg, "kid": kid});
        format!("{}.{rest}", text(head.to_string().as_bytes()))
    };
    for signer in [&ec, &rsa] {
        let token = signer.token(&claims());
        for alg in ["none", "None", "", "HS256", "HS512", "RS1", "ES256K", "es256"] {
            assert_eq!(
                verify(&issuer, &reheaded(&token, alg, Some(signer.id))).unwrap_err(),
                Fault::Algorithm
            );
        }
    }
    // Signed by HMAC with the public key as its secret: the old trick.
    let public = rsa.public()["n"].as_str().unwrap().to_owned();
    let signed = reheaded(&rsa.token(&claims()), "HS256", Some("rsa"));
    let signed = signed.rsplit_once('.').unwrap().0.to_owned();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let forged = format!("{signed}.{}", text(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()));
    assert_eq!(verify(&issuer, &forged).unwrap_err(), Fault::Algorithm);
    // One kind's algorithm with the other kind's key.
    assert_eq!(
        verify(&issuer, &reheaded(&ec.token(&claims()), "RS256", Some("ec"))).unwrap_err(),
        Fault::Algorithm
    );
    assert_eq!(
        verify(&issuer, &reheaded(&rsa.token(&claims()), "ES256", Some("rsa"))).unwrap_err(),
        Fault::Algorithm
    );
    assert_eq!(
        verify(&issuer, &reheaded(&rsa.token(&claims()), "RS384", Some("rsa"))).unwrap_err(),
        Fault::Signature
    );
    // An empty signature, and one of another key.
    let token = ec.token(&claims());
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verify(&issuer, &format!("{signed}.")).unwrap_err(), Fault::Signature);
    let stranger = Signer::p256("ec").token(&claims());
    assert_eq!(verify(&issuer, &stranger).unwrap_err(), Fault::Signature);
}

#[test]
fn only_the_algorithms_that_are_allowed_are_taken() {
    let (ec, rsa) = (Signer::p256("ec"), Signer::rsa("rsa"));
    let issuer = issuer(IssuerSpec { algorithms: vec![Algorithm::Rs256], ..spec() }, &[&ec, &rsa]);
    assert!(verify(&issuer, &rsa.token(&claims())).is_ok());
    assert_eq!(verify(&issuer, &ec.token(&claims())).unwrap_err(), Fault::Algorithm);
    assert_eq!(verify(&issuer, &rsa.token_as("PS384", json!({}), &claims())).unwrap_err(), Fault::Algorithm);
}

#[test]
fn keys_that_are_not_for_signatures_are_never_used() {
    let signer = Signer::p256("a");
    let public = signer.public();
    let changed = |name: &str, value: Value| {
        let mut key = public.clone();
        key[name] = value;
        json!({ "keys": [key] }).to_string()
    };
    for document in [
        changed("use", json!("enc")),
        changed("key_ops", json!(["encrypt"])),
        changed("alg", json!("HS256")),
        changed("kty", json!("oct")),
        changed("crv", json!("secp256k1")),
        changed("x", json!("AA")),
        json!({"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}).to_string(),
        json!({"keys": []}).to_string(),
        "{}".to_owned(),
        "<html>".to_owned(),
    ] {
        assert!(Keys::read(document.as_bytes()).is_err(), "{document}");
    }
    let issuer = Issuer::new(spec());
    issuer.learn(changed("alg", json!("ES384")).as_bytes()).unwrap();
    assert_eq!(verify(&issuer, &signer.token(&claims())).unwrap_err(), Fault::Algorithm);
}

#[test]
fn times_are_kept_to_within_the_skew() {
    let signer = Signer::p256("a");
    let issuer = issuer(spec(), &[&signer]);
    let said = |name: &str, value: Value| verify(&issuer, &signer.token(&with(name, value))).map(drop);
    assert_eq!(said("exp", json!(NOW - 59)), Ok(()));
    for exp in [json!(NOW - 60), json!(0), json!(-1), Value::Null, json!("soon"), json!(1e300)] {
        assert_eq!(said("exp", exp), Err(Fault::Expired));
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().shift_remove("exp");
    assert_eq!(verify(&issuer, &signer.token(&endless)).unwrap_err(), Fault::Expired);
    for name in ["nbf", "iat"] {
        assert_eq!(said(name, json!(NOW + 60)), Ok(()));
        assert_eq!(said(name, json!(NOW as f64 + 60.5)), Err(Fault::Early));
        assert_eq!(said(name, json!("now")), Err(Fault::Early));
    }
}

#[test]
fn a_token_for_somebody_else_is_not_taken() {
    let signer = Signer::p256("a");
    let issuer = issuer(spec(), &[&signer]);
    let said = |name: &str, value: Value| verify(&issuer, &signer.token(&with(name, value))).map(drop);
    assert_eq!(said("aud", json!("edge")), Ok(()));
    for audience in [json!("other"), json!([]), json!(["Edge"]), Value::Null, json!({"edge": 1})] {
        assert_eq!(said("aud", audience), Err(Fault::Audience));
    }
    assert_eq!(said("scope", json!("openid")), Err(Fault::Scope));
    assert_eq!(said("scope", json!("llmx")), Err(Fault::Scope));
    assert_eq!(said("scope", json!(["llm"])), Ok(()));
    let mut listed = with("scope", Value::Null);
    listed["scp"] = json!(["llm"]);
    assert!(verify(&issuer, &signer.token(&listed)).is_ok());
    for name in [json!(""), Value::Null, json!(7), json!("a\nb"), json!("x".repeat(129))] {
        assert_eq!(said("sub", name), Err(Fault::Name));
    }
}

#[test]
fn what_cannot_be_read_is_no_token() {
    let signer = Signer::p256("a");
    let issuer = issuer(spec(), &[&signer]);
    let token = signer.token(&claims());
    let head = |head: &str| format!("{}.{}", text(head.as_bytes()), token.split_once('.').unwrap().1);
    for wrong in [
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        token.replace('.', "="),
        format!("{token}="),
        format!("{token}.x"),
        head("{}"),
        head(r#"{"alg":"ES256","alg":"none"}"#),
        signer.token_as("ES256", json!({"crit": ["b64"], "b64": false}), &claims()),
        signer.token_as("ES256", json!({"cty": "JWT"}), &claims()),
        signer.token(&json!([1])),
    ] {
        assert_eq!(verify(&issuer, &wrong).unwrap_err(), Fault::Malformed, "{wrong}");
    }
    assert!(looks_like_token(token.as_bytes()) && !looks_like_token(b"fb-x") && !looks_like_token(b"ey.x"));
}

#[test]
fn claims_say_whose_the_bearer_is() {
    let signer = Signer::p256("a");
    let places = Places {
        name: "/user/id".to_owned(),
        team: Some("groups".to_owned()),
        organisation: Some("https://x.example/org".to_owned()),
        models: Some("models".to_owned()),
    };
    let issuer = issuer(IssuerSpec { places, ..spec() }, &[&signer]);
    let said = |more: Value| {
        let mut claims = with("user", json!({"id": "u1"}));
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        verify(&issuer, &signer.token(&claims))
    };
    let who = said(json!({"groups": ["unknown", "search", "ads"], "models": "gpt-5* o3"})).unwrap();
    assert_eq!((&*who.name, &*who.label, who.known), ("corp/u1", "search", Known::Token));
    let groups: Vec<(&str, Rank)> = who.groups().map(|group| (&*group.name, group.rank)).collect();
    assert_eq!(groups, [("search", Rank::Team), ("acme", Rank::Organisation)]);
    assert!(who.may_use("gpt-5-mini") && !who.may_use("gpt-4") && !who.may_use("o3"), "the team has no o3");
    let org = said(json!({"https://x.example/org": "globex"})).unwrap();
    assert_eq!(&*org.group.as_ref().unwrap().name, "globex");
    assert_eq!(said(json!({})).unwrap_err(), Fault::Group);
    assert_eq!(said(json!({"groups": "unknown"})).unwrap_err(), Fault::Group);
    let torn = json!({"groups": "search", "https://x.example/org": "globex"});
    assert_eq!(said(torn).unwrap_err(), Fault::Group, "the team is another organisation's");
}

#[test]
fn however_many_bearers_there_are_their_labels_are_few() {
    let signer = Signer::p256("a");
    let places = Places { team: Some("team".to_owned()), ..spec().places };
    let own = spec().groups.teams.get("ads").cloned();
    let issuer = issuer(IssuerSpec { places, group: own, ..spec() }, &[&signer]);
    let mut labels = std::collections::HashSet::new();
    for number in 0..200 {
        let mut claims = with("sub", json!(format!("user-{number}")));
        claims["team"] = json!(format!("team-{number}"));
        labels.insert(verify(&issuer, &signer.token(&claims)).unwrap().label.to_string());
    }
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["ads"]);
}

#[test]
fn a_token_is_known_until_it_ends_or_the_keys_change() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let issuer = issuer(spec(), &[&old]);
    let token = old.token(&claims());
    let hash = Hash::of(token.as_bytes());
    assert!(issuer.known(&hash, now()).is_none(), "it was not seen yet");
    verify(&issuer, &token).unwrap();
    assert!(issuer.known(&hash, now()).is_some());
    assert!(issuer.known(&hash, now() + Duration::from_secs(359)).is_some());
    assert!(issuer.known(&hash, now() + Duration::from_secs(360)).is_none());
    issuer.learn(&document(&[&old])).unwrap();
    assert!(issuer.known(&hash, now()).is_some(), "the same keys again");
    issuer.learn(b"{}").unwrap_err();
    assert!(issuer.known(&hash, now()).is_some(), "what cannot be read changes nothing");
    issuer.learn(&document(&[&new])).unwrap();
    assert!(issuer.known(&hash, now()).is_none());
    assert_eq!(verify(&issuer, &token).unwrap_err(), Fault::UnknownKey);
}

#[test]
fn what_is_kept_of_tokens_is_bounded() {
    let good = Good::default();
    let principal = Arc::new(Principal::anonymous());
    for number in 0..(KEPT as u64 * 3) {
        let mut hash = Hash::of(&number.to_be_bytes());
        hash.0[0] = 0;
        let kept =
            Kept { principal: Arc::clone(&principal), ends: now() + Duration::from_secs(9), generation: 0 };
        good.keep(hash, kept, now());
        assert!(good.find(&hash, 0, now()).is_some(), "the last is always there");
    }
    assert_eq!(good.parts[0].lock().unwrap().len(), KEPT);
}

#[tokio::test]
async fn keys_are_fetched_again_only_so_often() {
    let issuer = Arc::new(Issuer::new(spec()));
    issuer.note_fetch(now(), true);
    let soon = now() + Duration::from_secs(9);
    assert!(!issuer.refreshed(soon, Duration::from_secs(60)).await, "that was just done");
    let later = now() + Duration::from_secs(10);
    let keeper = Arc::clone(&issuer);
    let fetching = tokio::spawn(async move {
        keeper.wanted().await;
        keeper.note_fetch(later, true);
    });
    assert!(issuer.refreshed(later, Duration::from_secs(60)).await);
    fetching.await.unwrap();
    let much_later = later + Duration::from_secs(10);
    assert!(!issuer.refreshed(much_later, Duration::from_millis(1)).await, "nobody answers");
}
