//! The heads of requests and replies, rebuilt from allow-lists: nothing crosses Forebay because nobody thought of it.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::access::KEY_HEADERS;
use crate::dialect::Operation;
use crate::error::{Error, Kind};
use crate::snapshot::Network;
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::Endpoint;

/// What an exchange's request carries beyond its body.
pub struct Request<'a> {
    /// The client's headers.
    pub client: &'a HeaderMap,
    /// What is asked.
    pub operation: Operation,
    /// The client's query, with its question mark; may be empty.
    pub query: &'a str,
    /// The exchange's id.
    pub id: &'a str,
    /// The value of `x-forwarded-for`.
    pub forwarded: &'a str,
    /// The length of the body, bytes.
    pub length: usize,
}

/// Whether a header of the client is one that an LLM API reads. Credentials, cookies and hop-by-hop headers are not.
fn is_passed(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "user-agent"
            | "anthropic-version"
            | "anthropic-beta"
            | "openai-beta"
            | "idempotency-key"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "x-session-id"
            | "x-conversation-id"
    )
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which version of HTTP the upstream's connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// The head of one attempt.
///
/// # Errors
/// Only if a configured path is no path, which `check` refuses.
pub fn request(
    request: &Request<'_>,
    cluster: &Cluster,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<Box<RequestHeader>, Error> {
    let provider = cluster.spec.provider;
    let prefix = &endpoint.spec.origin.prefix;
    let path = [prefix.as_str(), request.operation.path(), request.query].concat();
    let mut head = empty(&Method::POST, &path, endpoint, wire)?;
    set(&mut head, CONTENT_TYPE, HeaderValue::from_static("application/json"));
    set(&mut head, CONTENT_LENGTH, HeaderValue::from(request.length));
    // The usage of a reply is read on its way, so it has to come in the clear.
    set(&mut head, ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    set_text(&mut head, X_REQUEST_ID, request.id);
    if !provider.is_cloud() {
        set_text(&mut head, X_FORWARDED_FOR, request.forwarded);
    }
    for (name, value) in request.client.iter().filter(|(name, _)| is_passed(name.as_str())) {
        set(&mut head, name.clone(), value.clone());
    }
    for (name, value) in provider.headers {
        if !head.headers.contains_key(*name) {
            set(&mut head, HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if provider.name == "simulator" {
        pass_prefix(&mut head, request.client, "x-sim-");
    }
    for (name, value) in &cluster.spec.headers {
        set(&mut head, name.clone(), value.clone());
    }
    Ok(head)
}

/// A request without headers but that which says where it goes.
fn empty(method: &Method, path: &str, endpoint: &Endpoint, wire: Wire) -> Result<Box<RequestHeader>, Error> {
    let built = RequestHeader::build_no_case(method.clone(), path.as_bytes(), Some(16));
    let mut head = Box::new(built.map_err(|error| {
        Error::gateway(Kind::Internal, "the request cannot be written for the upstream").because(error)
    })?);
    address(&mut head, endpoint, wire)?;
    Ok(head)
}

/// Puts the endpoint's authority where the version of HTTP has it.
pub fn address(head: &mut RequestHeader, endpoint: &Endpoint, wire: Wire) -> Result<(), Error> {
    if wire == Wire::One {
        set_text(head, HOST, &endpoint.authority);
        return Ok(());
    }
    head.remove_header(&HOST);
    let scheme = if endpoint.spec.origin.tls { "https" } else { "http" };
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(endpoint.authority.as_str())
        .path_and_query(path)
        .build()
        .map_err(|error| {
            Error::gateway(Kind::Internal, "the endpoint has no valid authority").because(error)
        })?;
    head.set_uri(uri);
    head.set_version(http::Version::HTTP_2);
    Ok(())
}

fn set(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Inserting a typed name and value cannot fail.
    let _ = head.insert_header(name, value);
}

fn set_text(head: &mut RequestHeader, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        set(head, name, value);
    }
}

fn pass_prefix(head: &mut RequestHeader, client: &HeaderMap, prefix: &str) {
    for (name, value) in client.iter().filter(|(name, _)| name.as_str().starts_with(prefix)) {
        set(head, name.clone(), value.clone());
    }
}

/// What a proxy says of a client, and any client may say of itself. The one chain that is vouched for is put there anew.
const FORGEABLE: [&str; 5] =
    ["forwarded", "x-real-ip", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];

/// Makes the client's own request fit to be passed on by a raw route: its credentials and cookies go, ours come.
pub fn raw_request(head: &mut RequestHeader, cluster: &Cluster, id: &str, forwarded: &str) {
    for name in KEY_HEADERS.into_iter().chain(["authorization", "proxy-authorization"]).chain(FORGEABLE) {
        head.remove_header(name);
    }
    head.remove_header(&COOKIE);
    set_text(head, X_REQUEST_ID, id);
    if cluster.spec.provider.is_cloud() {
        head.remove_header(&X_FORWARDED_FOR);
    } else {
        set_text(head, X_FORWARDED_FOR, forwarded);
    }
    for (name, value) in &cluster.spec.headers {
        set(head, name.clone(), value.clone());
    }
}

/// Whether a header of an upstream's reply is one that a client is shown.
fn is_shown(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["openai-", "anthropic-", "x-ratelimit-", "x-sim-", "azureai-"];
    let named = matches!(
        name,
        "content-type"
            | "content-language"
            | "cache-control"
            | "retry-after"
            | "retry-after-ms"
            | "x-should-retry"
            | "request-id"
            | "warning"
            | "server-timing"
    );
    named || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The head of a reply that passes through, without its framing.
pub fn reply(upstream: &ResponseHeader, id: &str) -> Result<Box<ResponseHeader>, Error> {
    let mut head = status(upstream.status.as_u16(), id)?;
    for (name, value) in upstream.headers.iter().filter(|(name, _)| is_shown(name.as_str())) {
        let _ = head.append_header(name.clone(), value.clone());
    }
    Ok(head)
}

/// A head with that status and the exchange's id.
pub fn status(status: u16, id: &str) -> Result<Box<ResponseHeader>, Error> {
    let built = ResponseHeader::build_no_case(status, Some(12));
    let mut head =
        Box::new(built.map_err(|error| {
            Error::gateway(Kind::Internal, "the reply has no valid status").because(error)
        })?);
    put(&mut head, X_REQUEST_ID, id);
    Ok(head)
}

/// Puts the exchange's id where Anthropic's SDKs look for it, unless the upstream's own is there.
pub fn name_for_anthropic(head: &mut ResponseHeader) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    if !head.headers.contains_key(REQUEST_ID)
        && let Some(id) = head.headers.get(X_REQUEST_ID).cloned()
    {
        let _ = head.insert_header(REQUEST_ID, id);
    }
}

/// Sets a header of a reply; a value that is none is left out.
pub fn put(head: &mut ResponseHeader, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        let _ = head.insert_header(name, value);
    }
}

/// Turns a head into that of a stream: not cached, not buffered by a proxy in between, and in chunks where the
/// client's version of HTTP has them.
pub fn as_stream(head: &mut ResponseHeader, client: http::Version) {
    if !head.headers.contains_key(CONTENT_TYPE) {
        put(head, CONTENT_TYPE, "text/event-stream; charset=utf-8");
    }
    put(head, http::header::CACHE_CONTROL, "no-cache");
    put(head, HeaderName::from_static("x-accel-buffering"), "no");
    in_chunks(head, client);
}

/// Says that a body of unknown length follows.
pub fn in_chunks(head: &mut ResponseHeader, client: http::Version) {
    if client == http::Version::HTTP_11 {
        put(head, TRANSFER_ENCODING, "chunked");
    }
}

/// Removes from a raw reply what must not reach the client.
pub fn raw_reply(head: &mut ResponseHeader, id: &str) {
    for name in ["server", "via", "alt-svc", "set-cookie", "keep-alive", "proxy-authenticate", "x-powered-by"]
    {
        head.remove_header(name);
    }
    if head.status.as_u16() != 101 {
        head.remove_header(&CONNECTION);
    }
    if head.status.as_u16() == 204 {
        // RFC 9110 §8.6: a 204 has no length.
        head.remove_header(&CONTENT_LENGTH);
    }
    put(head, X_REQUEST_ID, id);
}

/// The exchange's id: the client's own where it is a harmless one, a fresh one otherwise.
pub fn request_id(client: &HeaderMap) -> String {
    let sent = client.get(&X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/@".contains(&b))
    };
    sent.filter(harmless).map_or_else(|| format!("req_{:032x}", fastrand::u128(..)), str::to_owned)
}

/// The client's address and the chain to pass on: a trusted peer's chain is believed up to its last untrusted entry.
pub fn client_address(
    client: &HeaderMap,
    peer: Option<IpAddr>,
    trusted: &[Network],
) -> (Option<IpAddr>, String) {
    let Some(peer) = peer else { return (None, String::new()) };
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(*address));
    if !is_trusted(&peer) {
        return (Some(peer), peer.to_string());
    }
    let mut chain: Vec<IpAddr> = client
        .get_all(&X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| entry.trim().parse().ok())
        .collect();
    chain.push(peer);
    let first = chain.iter().rposition(|address| !is_trusted(address)).unwrap_or(0);
    let text: Vec<String> = chain[first..].iter().map(IpAddr::to_string).collect();
    (chain.get(first).copied(), text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::tests::cluster;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn credentials_cookies_and_hops_do_not_cross() {
        let cluster = cluster("gpu", &["http://127.0.0.1:9/base"]);
        let client = map(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "a=b"),
            ("connection", "keep-alive"),
            ("x-forwarded-for", "6.6.6.6"),
            ("anthropic-beta", "x"),
            ("accept-encoding", "gzip"),
            ("x-sim-fault", "refuse"),
        ]);
        let made = Request {
            client: &client,
            operation: Operation::Messages,
            query: "?beta=true",
            id: "id-1",
            forwarded: "10.0.0.1",
            length: 5,
        };
        let head = request(&made, &cluster, &cluster.endpoints()[0], Wire::One).unwrap();
        let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        let expected = [
            "accept-encoding",
            "anthropic-beta",
            "content-length",
            "content-type",
            "host",
            "x-forwarded-for",
            "x-request-id",
        ];
        assert_eq!(names, expected);
        assert_eq!(head.headers["accept-encoding"], "identity");
        assert_eq!(head.headers["x-forwarded-for"], "10.0.0.1");
        assert_eq!(head.uri.to_string(), "/base/messages?beta=true");
        let head = request(&made, &cluster, &cluster.endpoints()[0], Wire::Two).unwrap();
        assert_eq!(head.uri.to_string(), "http://127.0.0.1:9/base/messages?beta=true");
        assert!(!head.headers.contains_key(HOST));
    }

    #[test]
    fn only_harmless_ids_are_kept() {
        assert_eq!(request_id(&map(&[("x-request-id", "abc-1")])), "abc-1");
        for bad in ["", "a b", &"x".repeat(129), "a\"b"] {
            let fresh = request_id(&map(&[("x-request-id", bad)]));
            assert!(fresh.starts_with("req_") && fresh.len() == 36, "{fresh}");
        }
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let trusted = [Network::parse("10.0.0.0/8").unwrap()];
        let forged = map(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.9")]);
        let seen = |peer: &str| client_address(&forged, peer.parse().ok(), &trusted);
        assert_eq!(seen("9.9.9.9"), ("9.9.9.9".parse().ok(), "9.9.9.9".into()));
        assert_eq!(seen("10.0.0.1"), ("2.2.2.2".parse().ok(), "2.2.2.2, 10.0.0.9, 10.0.0.1".into()));
        assert_eq!(client_address(&forged, None, &trusted), (None, String::new()));
    }

    #[test]
    fn a_reply_shows_what_sdks_read_and_nothing_else() {
        let mut upstream = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Content-Type", "application/json"),
            ("Set-Cookie", "a=b"),
            ("Server", "internal-7"),
            ("X-RateLimit-Remaining-Tokens", "7"),
            ("Connection", "close"),
            ("X-Request-Id", "theirs"),
        ] {
            upstream.append_header(name, value).unwrap();
        }
        let head = reply(&upstream, "ours").unwrap();
        let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["content-type", "x-ratelimit-remaining-tokens", "x-request-id"]);
        assert_eq!(head.headers["x-request-id"], "ours");
    }
}
