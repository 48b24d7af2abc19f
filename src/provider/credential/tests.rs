use super::*;

#[test]
fn an_error_is_the_gateways_and_lets_another_provider_be_tried() {
    let error = Error::Refused { whom: "AWS STS", status: 403, says: "AccessDenied: no".into() };
    let exchange = crate::error::Error::from(&error);
    assert_eq!(exchange.blame, crate::error::Blame::Gateway);
    assert_eq!(exchange.retry, crate::error::Retry::Elsewhere);
    assert_eq!(exchange.private, "AWS STS answered 403: AccessDenied: no");
    assert!(!exchange.public.contains("STS"));
}

#[test]
fn a_credential_that_cannot_be_sent_is_none() {
    for bad in ["a\r\nb", "caf\u{e9}", "\0"] {
        let error = needed("the service", "Token", Some(bad.to_owned())).unwrap_err();
        assert!(error.to_string().contains("cannot be sent") && !error.to_string().contains(bad), "{error}");
    }
    assert!(needed("the service", "Token", Some("a+/= b".to_owned())).is_ok());
}

#[tokio::test]
async fn a_service_that_repeats_a_secret_is_not_repeated() {
    let outside = Outside {
        variable: Box::new(|_| None),
        file: Box::new(|_| Err(io::ErrorKind::NotFound.into())),
        fetch: Box::new(|_| {
            Box::pin(async { Ok(Reply { status: 500, body: Secret::new("what is token-1?") }) })
        }),
        now: Box::new(SystemTime::now),
    };
    let request = Request::get("http://x/".into(), PATIENCE);
    let request = request.with_secret("authorization", &Secret::new("token-1"), "a test").unwrap();
    let error = outside.ask("the service", request, |said| Some(said.to_owned())).await.unwrap_err();
    assert_eq!(error.to_string(), "the service answered 500: what is ***?");
}

#[test]
fn a_request_shows_no_secret() {
    let request = Request::form("https://sts.example/".into(), &[("Token", "hidden value+")])
        .with_secret("authorization", &Secret::new("hidden"), "a test")
        .unwrap();
    assert_eq!(request.body.expose(), "Token=hidden%20value%2B");
    assert!(!format!("{request:?}").contains("hidden"));
    let wrong = request.with_secret("authorization", &Secret::new("a\r\nb"), "TOKEN_FILE").unwrap_err();
    assert_eq!(wrong.to_string(), "TOKEN_FILE: it holds characters that a header cannot carry");
}
