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
fn a_request_shows_no_secret() {
    let request = Request::form("https://sts.example/".into(), &[("Token", "hidden value+")])
        .with_secret("authorization", &Secret::new("hidden"), "a test")
        .unwrap();
    assert_eq!(request.body.expose(), "Token=hidden%20value%2B");
    assert!(!format!("{request:?}").contains("hidden"));
    let wrong = request.with_secret("authorization", &Secret::new("a\r\nb"), "TOKEN_FILE").unwrap_err();
    assert_eq!(wrong.to_string(), "TOKEN_FILE: it holds characters that a header cannot carry");
}
