//! Who may ask what on the admin listener, and how much may be said.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use tokio::time::timeout;

use super::{Answer, JSON};
use crate::secret::Secret;
use crate::snapshot;

/// What orchestrators ask, who have no secrets.
const OPEN: [&str; 3] = ["/health/live", "/health/ready", "/health/startup"];
/// The most of a body that is read, bytes.
const MOST: usize = 64 << 10;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Who may do what.
pub(super) enum Gate {
    /// Whoever has the token, everything.
    Token(Secret),
    /// Everyone everything: only this machine can call.
    Local,
    /// Everyone may look.
    Looking,
}

impl Gate {
    pub(super) fn new(settings: &snapshot::Admin) -> Self {
        match &settings.token {
            Some(token) => Self::Token(token.clone()),
            None if settings.address.ip().is_loopback() => Self::Local,
            None => Self::Looking,
        }
    }

    /// By what callers are let in, for the audit log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Local => "loopback",
            Self::Looking => "nothing",
        }
    }

    /// Whether a request is let in.
    pub(super) fn lets_in(&self, head: &Parts) -> Result<(), Answer> {
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        if !changes && OPEN.contains(&head.uri.path()) {
            return Ok(());
        }
        match self {
            Self::Token(token) if !shows(head, token) => {
                let message = "send `authorization: Bearer TOKEN` with the token of `admin.token`";
                return Err(Answer::error(StatusCode::UNAUTHORIZED, message));
            }
            Self::Looking if changes || is_private(head.uri.path()) => {
                let message = "nothing can be changed here, and no keys be listed, without a token: set `admin.token`, or let `admin.address` be \
                               on the loopback";
                return Err(Answer::error(StatusCode::FORBIDDEN, message));
            }
            Self::Local if !is_for_this_machine(head) => {
                let message = "ask for this listener as localhost or by its address: a web page could have led another name here";
                return Err(Answer::error(StatusCode::FORBIDDEN, message));
            }
            Self::Token(_) | Self::Local | Self::Looking => {}
        }
        if changes { from_no_page(head) } else { Ok(()) }
    }
}

/// Whether what is shown there is not for everyone who can reach the listener.
fn is_private(path: &str) -> bool {
    path.starts_with("/keys")
}

fn shows(head: &Parts, token: &Secret) -> bool {
    let shown = head.headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let (scheme, shown) = shown.split_at_checked(7).unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"bearer ")
        && verify_slices_are_equal(shown.trim_ascii(), token.expose().as_bytes()).is_ok()
}

/// Whether a request names this machine, if anything. A page's own name can be made to lead to the loopback, and the page
/// may then read what it is answered. A name without a dot is no page's: such names are given on the machine itself.
fn is_for_this_machine(head: &Parts) -> bool {
    let is_local = |authority: &str| {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.map_or_else(|_| !host.contains('.'), |address| address.to_canonical().is_loopback())
    };
    let fields = head.headers.get_all(HOST).iter();
    head.uri.authority().is_none_or(|authority| is_local(authority.as_str()))
        && fields.map(|value| value.to_str().unwrap_or_default()).all(is_local)
}

/// A browser sends an `Origin` with every POST, and JSON to a stranger only after asking, which is refused.
fn from_no_page(head: &Parts) -> Result<(), Answer> {
    if head.headers.contains_key(ORIGIN) {
        return Err(Answer::error(StatusCode::FORBIDDEN, "no web page may change anything here"));
    }
    let media = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case(JSON) {
        return Ok(());
    }
    Err(Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `content-type: application/json`"))
}

/// The body of a request.
pub(super) async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Answer> {
    let reading = async {
        let mut body = Vec::new();
        while let Ok(piece) = session.read_request_body().await {
            let Some(piece) = piece else { return Ok(body) };
            if body.len() + piece.len() > MOST {
                let message = format!("the body is larger than {MOST} bytes");
                return Err(Answer::error(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            body.extend_from_slice(&piece);
        }
        Err(Answer::error(StatusCode::BAD_REQUEST, "the body cannot be read"))
    };
    timeout(LIMIT, reading)
        .await
        .unwrap_or_else(|_| Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(address: &str, token: Option<&str>) -> Gate {
        Gate::new(&snapshot::Admin { address: address.parse().unwrap(), token: token.map(Secret::new) })
    }

    /// The status that a request is refused with, 200 where it is let in.
    fn asked(gate: &Gate, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        gate.lets_in(&head).map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    const AS_JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn a_token_is_asked_of_everyone_but_an_orchestrator() {
        let gate = gate("0.0.0.0:9090", Some("0123456789abcdef"));
        for path in ["/health", "/metrics", "/snapshot", "/endpoints", "/nowhere"] {
            assert_eq!(asked(&gate, "GET", path, &[]), 401, "{path}");
        }
        for path in OPEN {
            assert_eq!(asked(&gate, "GET", path, &[]), 200, "{path}");
            assert_eq!(asked(&gate, "POST", path, &[AS_JSON]), 401, "{path}");
        }
        for (value, status) in [
            ("Bearer 0123456789abcdef", 200),
            ("bearer  0123456789abcdef ", 200),
            ("Bearer 0123456789abcdeg", 401),
            ("Bearer 0123456789abcdef0", 401),
            ("Bearer 0123456789abcde", 401),
            ("Bearer ", 401),
            ("Basic 0123456789abcdef", 401),
            ("", 401),
        ] {
            let fields = [AS_JSON, ("authorization", value)];
            assert_eq!(asked(&gate, "POST", "/endpoints/drain", &fields), status, "{value}");
        }
    }

    #[test]
    fn without_a_token_only_this_machine_may_change_anything() {
        for (address, status) in
            [("127.0.0.1:1", 200), ("[::1]:1", 200), ("10.0.0.1:1", 403), ("[::]:1", 403)]
        {
            let gate = gate(address, None);
            assert_eq!(asked(&gate, "POST", "/endpoints/drain", &[AS_JSON]), status, "{address}");
            assert_eq!(asked(&gate, "GET", "/endpoints", &[]), 200, "{address}");
            assert_eq!(asked(&gate, "GET", "/keys", &[]), status, "{address}");
        }
    }

    #[test]
    fn no_name_of_somebody_elses_leads_here() {
        let local = gate("127.0.0.1:1", None);
        for (host, status) in [
            ("127.0.0.1:9090", 200),
            ("LocalHost:9090", 200),
            ("localhost", 200),
            ("edge:9090", 200),
            ("[::1]:9090", 200),
            ("rebound.example:9090", 403),
            ("localhost.example", 403),
            ("10.0.0.1", 403),
            ("", 403),
        ] {
            for path in ["/snapshot", "/keys", "/metrics"] {
                assert_eq!(asked(&local, "GET", path, &[("host", host)]), status, "{host} {path}");
            }
            assert_eq!(asked(&local, "POST", "/keys/create", &[AS_JSON, ("host", host)]), status, "{host}");
            assert_eq!(asked(&local, "GET", "/health/live", &[("host", host)]), 200, "{host}");
        }
        assert_eq!(asked(&local, "GET", "http://rebound.example/keys", &[]), 403);
        let token = gate("127.0.0.1:1", Some("0123456789abcdef"));
        let fields = [("host", "edge.example"), ("authorization", "Bearer 0123456789abcdef")];
        assert_eq!(asked(&token, "GET", "/snapshot", &fields), 200);
    }

    #[test]
    fn no_web_page_changes_anything() {
        let gate = gate("127.0.0.1:1", None);
        let post = |fields: &[(&str, &str)]| asked(&gate, "POST", "/endpoints/drain", fields);
        assert_eq!(post(&[AS_JSON, ("origin", "http://127.0.0.1:1")]), 403);
        assert_eq!(post(&[AS_JSON, ("origin", "null")]), 403);
        for media in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"] {
            assert_eq!(post(&[("content-type", media)]), 415, "{media}");
        }
        assert_eq!(post(&[]), 415);
        assert_eq!(post(&[AS_JSON]), 200);
    }
}
