use std::sync::Arc;

use super::super::script::{Script, start};
use super::*;

fn vault(logins: Vec<Login>) -> Vault {
    Vault {
        address: "https://vault".to_owned(),
        namespace: Some("team".to_owned()),
        ca: None,
        logins,
        refresh: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
        token: Mutex::default(),
    }
}

fn by_token() -> Vault {
    vault(vec![Login::Token(Source::Fixed(Secret::new("s.token")))])
}

fn place() -> Place {
    Place::read("secret/openai/main#key").unwrap()
}

fn renewed(seconds: u64) -> String {
    format!(r#"{{"auth":{{"client_token":"s.token","lease_duration":{seconds},"renewable":true}}}}"#)
}

const KEPT: &str =
    r#"{"data":{"data":{"key":"sk-1"},"metadata":{"created_time":"2026-11-20T09:08:07.5Z","version":3}}}"#;

/// Reads once; says what came and what was asked: methods and URLs.
async fn read(vault: &Vault, script: Script, later: u64) -> (Result<Kept, Error>, Vec<String>) {
    let script = Arc::new(script);
    let mut outside = script.outside();
    outside.now = Box::new(move || start() + Duration::from_secs(later));
    let kept = vault.read(&outside, &place()).await;
    let asked = script.asked();
    for request in &asked {
        assert_eq!(request.headers["x-vault-namespace"], "team");
        let token = request.headers.get("x-vault-token");
        assert!(token.is_none_or(HeaderValue::is_sensitive));
    }
    (kept, asked.iter().map(|request| format!("{} {}", request.method, request.url)).collect())
}

const RENEW: &str = "POST https://vault/v1/auth/token/renew-self";
const GET: &str = "GET https://vault/v1/secret/data/openai/main";

#[tokio::test]
async fn a_secret_is_read_and_its_token_renewed_ahead_of_its_end() {
    let vault = by_token();
    let (kept, asked) =
        read(&vault, Script::default().answering(200, renewed(300)).answering(200, KEPT), 0).await;
    let kept = kept.unwrap();
    assert_eq!((kept.secret.expose(), kept.created), ("sk-1", read_rfc3339("2026-11-20T09:08:07Z")));
    assert_eq!(asked, [RENEW, GET]);
    assert_eq!(read(&vault, Script::default().answering(200, KEPT), 199).await.1, [GET]);
    let due = Script::default().answering(200, renewed(300)).answering(200, KEPT);
    assert_eq!(read(&vault, due, 201).await.1, [RENEW, GET], "with a third of its time left");
    let pause = |later| vault.pause(start() + Duration::from_secs(later));
    assert_eq!((pause(201).await.as_secs(), pause(391).await.as_secs()), (60, 10), "nor later than that");
}

#[tokio::test]
async fn a_token_that_is_not_renewed_is_used_as_it_is() {
    let refused = r#"{"errors":["lease is not renewable"]}"#;
    let (kept, asked) =
        read(&by_token(), Script::default().answering(400, refused).answering(200, KEPT), 0).await;
    assert_eq!((kept.is_ok(), asked), (true, vec![RENEW.to_owned(), GET.to_owned()]));
}

#[tokio::test]
async fn logins_are_tried_in_their_order_and_again_when_the_token_is_refused() {
    let files = [("/jwt", "ey.account\n")];
    let kubernetes =
        Login::Kubernetes { mount: "k8s/eu".to_owned(), role: "edge".to_owned(), file: "/jwt".into() };
    let secret_id = Source::Fixed(Secret::new("sid"));
    let app_role = Login::AppRole { mount: "approle".to_owned(), role_id: "rid".to_owned(), secret_id };
    let vault = vault(vec![Login::Token(Source::File("/none".into())), kubernetes, app_role]);
    let script = Script::new(&[], &files)
        .answering(403, r#"{"errors":["permission denied"]}"#)
        .answering(200, renewed(60))
        .answering(200, KEPT);
    let (kept, asked) = read(&vault, script, 0).await;
    assert!(kept.is_ok(), "{kept:?}");
    assert_eq!(
        asked,
        ["POST https://vault/v1/auth/k8s/eu/login", "POST https://vault/v1/auth/approle/login", GET]
    );
    let revoked = Script::new(&[], &files)
        .answering(403, r#"{"errors":["permission denied"]}"#)
        .answering(200, renewed(60))
        .answering(200, KEPT);
    let (kept, asked) = read(&vault, revoked, 1).await;
    assert!(kept.is_ok(), "{kept:?}");
    assert_eq!(asked, [GET, "POST https://vault/v1/auth/k8s/eu/login", GET]);
}

#[tokio::test]
async fn what_is_missing_is_said_and_what_is_there_is_not() {
    for (status, body, says) in [
        (404, r#"{"errors":[]}"#, "Vault's secret/openai/main#key: there is nothing"),
        (403, r#"{"errors":["permission denied"]}"#, "Vault answered 403: permission denied"),
        (200, r#"{"data":{"key":"sk-canary"}}"#, "holds no data; is it the second version"),
        (200, r#"{"data":{"data":{"other":"sk-canary"},"metadata":{}}}"#, "there is no such field"),
        (200, r#"{"data":{"data":{"key":7},"metadata":{}}}"#, "there is no such field"),
        (200, "sk-canary", "not the JSON expected"),
        (503, r#"{"errors":["Vault is sealed"]}"#, "Vault is sealed"),
    ] {
        let script = Script::default().answering(200, renewed(300)).answering(status, body);
        let why = read(&by_token(), script, 0).await.0.unwrap_err().to_string();
        assert!(why.contains(says) && !why.contains("canary") && !why.contains("s.token"), "{why}");
    }
    let why = read(&by_token(), Script::default().silent("refused"), 0).await.0.unwrap_err();
    assert!(matches!(why, Error::Unreachable { .. }), "{why}");
}

#[tokio::test]
async fn an_outage_at_the_time_of_renewal_costs_no_token() {
    let vault = by_token();
    let fresh = Script::default().answering(200, renewed(300)).answering(200, KEPT);
    assert!(read(&vault, fresh, 0).await.0.is_ok());
    let (kept, asked) = read(&vault, Script::default().silent("down"), 250).await;
    assert!(kept.is_err());
    assert_eq!(asked, [RENEW]);
    let (kept, asked) =
        read(&vault, Script::default().answering(200, renewed(300)).answering(200, KEPT), 261).await;
    assert!(kept.is_ok());
    assert_eq!(asked, [RENEW, GET]);
    assert!(!format!("{vault:?}").contains("s.token"));
}
