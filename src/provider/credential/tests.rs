use super::*;

#[test]
fn times_are_read() {
    let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", at(0)),
        ("2000-02-29T00:00:00.007Z", at(951_782_400)),
        ("2026-11-21T09:08:07Z", at(1_795_252_087)),
        ("2100-02-28T23:59:59Z", at(4_107_542_399)),
        ("2100-03-01T00:00:00.000Z", at(4_107_542_400)),
        ("2026-11-21T09:08:07", None),
        ("2026-11-21T09:08:07+00:00", None),
        ("2026-11-21 09:08:07Z", None),
        ("2026-13-21T09:08:07Z", None),
        ("2026-00-21T09:08:07Z", None),
        ("2026-11-00T09:08:07Z", None),
        ("2026-11-21T24:08:07Z", None),
        ("2026-11-21T09:08Z", None),
        ("2026-11-21T09:08:07:01Z", None),
        ("2026-11-21T09:08:07.Z", None),
        ("2026-11-21T09:08:07.xZ", None),
        ("1969-12-31T23:59:59Z", None),
        ("+026-11-21T09:08:07Z", None),
        ("", None),
    ] {
        assert_eq!(time(text), expected, "{text}");
    }
}

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
