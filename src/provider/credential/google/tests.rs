use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::script::{Script, start};
use super::*;

fn pem(key: &RsaKeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()))
}

fn file(pem: &str) -> Value {
    json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": pem,
        "client_email": "edge@p.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

async fn run(source: &Source, script: Script) -> (Result<Expiring<Secret>, Error>, Vec<Request>) {
    let script = Arc::new(script);
    let obtained = obtain(source, &script.outside()).await;
    let asked = script.asked();
    assert!(!format!("{obtained:?} {asked:?}").contains("hidden"), "a secret is shown");
    (obtained, asked)
}

fn configured() -> Source {
    Source::File("/key.json".into())
}

const ANSWER: &str = r#"{"access_token":"hidden-token...","expires_in":3599,"token_type":"Bearer"}"#;

#[tokio::test]
async fn a_key_signs_a_statement_that_is_exchanged_for_a_token() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let script = Script::new(&[], &[("/key.json", &file(&pem(&key)).to_string())]).answering(200, ANSWER);
    let (obtained, asked) = run(&configured(), script).await;
    let obtained = obtained.unwrap();
    assert_eq!(obtained.value.expose(), "hidden-token...");
    assert_eq!(obtained.expires, Some(start() + Duration::from_secs(3599)));
    assert_eq!(
        (asked[0].method.as_str(), asked[0].url.as_str()),
        ("POST", "https://oauth2.googleapis.com/token")
    );
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let statement = asked[0].body.expose().strip_prefix(grant).unwrap();
    let (signed, signature) = statement.rsplit_once('.').unwrap();
    let decoded = |part| URL_SAFE_NO_PAD.decode(part).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key())
        .verify(signed.as_bytes(), &decoded(signature))
        .unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let read = |part| serde_json::from_slice::<Value>(&decoded(part)).unwrap();
    assert_eq!(read(header), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(
        read(claims),
        json!({
            "iss": "edge@p.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_795_252_087, "exp": 1_795_255_687,
        })
    );
}

#[tokio::test]
async fn a_key_file_that_is_wrong_or_not_supported_says_so() {
    let good = file(&pem(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
    let with = |name: &str, value: Value| {
        let mut file = good.clone();
        file[name] = value;
        file.to_string()
    };
    for (text, says) in [
        (with("type", json!("authorized_user")), "a user's login (`authorized_user`) is not supported"),
        (with("type", json!("external_account")), "(`external_account`) is not supported"),
        (with("type", json!("impersonated_service_account")), "is not supported"),
        (with("type", Value::Null), "its `type` must be `service_account`"),
        (with("client_email", Value::Null), "it has no `client_email`"),
        (with("private_key", Value::Null), "it has no `private_key`"),
        (with("private_key", json!("hidden")), "its `private_key` is no RSA key"),
        (with("private_key", json!(["hidden"])), "is no key file, at line 1"),
        (with("token_uri", json!("http://x/")), "its `token_uri` must begin with https://"),
        ("hidden".to_owned(), "is no key file, at line 1"),
    ] {
        let (obtained, asked) = run(&configured(), Script::new(&[], &[("/key.json", &text)])).await;
        let error = obtained.unwrap_err().to_string();
        assert!(error.starts_with("/key.json: ") && error.contains(says), "{error}");
        assert!(asked.is_empty());
    }
    let (missing, _) = run(&configured(), Script::new(&[], &[])).await;
    assert!(missing.unwrap_err().to_string().starts_with("/key.json: "));
}

#[tokio::test]
async fn the_default_is_the_variable_then_gclouds_file_then_the_metadata_server() {
    let text = file(&pem(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap())).to_string();
    let gcloud = "/home/me/.config/gcloud/application_default_credentials.json";
    let named = ("GOOGLE_APPLICATION_CREDENTIALS", "/named.json");
    let home = ("HOME", "/home/me");
    let token = "https://oauth2.googleapis.com/token";
    let metadata =
        "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    for (variables, files, url) in [
        (&[named, home][..], &[("/named.json", &*text), (gcloud, "{}")][..], token),
        (&[home], &[(gcloud, &text)], token),
        (&[home], &[], metadata),
        (&[], &[], metadata),
        (
            &[("GCE_METADATA_HOST", "h:1")],
            &[],
            "http://h:1/computeMetadata/v1/instance/service-accounts/default/token",
        ),
    ] {
        let (obtained, asked) =
            run(&Source::Default, Script::new(variables, files).answering(200, ANSWER)).await;
        assert_eq!(obtained.unwrap().value.expose(), "hidden-token...");
        assert_eq!(asked[0].url, url);
        let flavor = asked[0].headers.get("metadata-flavor").map(|value| value.to_str().unwrap());
        assert_eq!(flavor, (url != token).then_some("Google"));
    }
    let (nowhere, _) = run(&Source::Default, Script::new(&[], &[]).silent("no such host")).await;
    assert!(nowhere.unwrap_err().to_string().contains("looked for GOOGLE_APPLICATION_CREDENTIALS"));
}

#[tokio::test]
async fn an_answer_must_be_whole() {
    for (status, body, says) in [
        (200, ANSWER.replace("access_token", "x"), "has no `access_token`"),
        (200, ANSWER.replace("hidden-token...", ""), "has no `access_token`"),
        (200, ANSWER.replace("token_type", "x"), "has no `token_type`"),
        (200, ANSWER.replace("Bearer", "mac"), "has a `token_type` that is not Bearer"),
        (200, ANSWER.replace("expires_in", "x"), "has no `expires_in`"),
        (200, ANSWER.replace("3599", "\"hidden\""), "is not the JSON expected, at line 1"),
        (200, ANSWER.replace("3599", "-1"), "is not the JSON expected, at line 1"),
        (200, "<html>hidden".into(), "is not the JSON expected"),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#.into(),
            "answered 400: invalid_grant: Invalid JWT Signature.",
        ),
        (503, "hidden".into(), "answered 503"),
    ] {
        let (obtained, _) = run(&Source::Default, Script::new(&[], &[]).answering(status, body)).await;
        let error = obtained.unwrap_err().to_string();
        assert!(error.contains("Google's metadata server") && error.contains(says), "{error}");
    }
}
