//! The heads of requests and replies, rebuilt from allow-lists: nothing crosses Forebay because nobody thought of it.

use std::net::IpAddr;
use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::access::KEY_HEADERS;
use crate::dialect::{Dialect, quota};
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::provider;
use crate::snapshot::Network;
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::outgoing::Outgoing;

/// What an exchange's request carries beyond its body.
pub struct Request<'a> {
    /// The client's headers.
    pub client: &'a HeaderMap,
    /// Where the upstream is asked, below its base.
    pub path: &'a str,
    /// The client's query, with its question mark; may be empty.
    pub query: &'a str,
    /// Whether the client speaks another dialect than the upstream, so that what its dialect's headers ask for is not
    /// asked of it.
    pub is_translated: bool,
    /// The exchange's id.
    pub id: &'a str,
    /// The value of `x-forwarded-for`.
    pub forwarded: &'a str,
    /// The length of the body, bytes.
    pub length: usize,
}

/// Whether a header of the client is one that an LLM API reads. Credentials, cookies and hop-by-hop headers are not.
fn is_passed(name: &str, is_translated: bool) -> bool {
    if matches!(name, "accept" | "anthropic-version" | "anthropic-beta" | "openai-beta") {
        return !is_translated;
    }
    matches!(
        name,
        "user-agent"
            | "idempotency-key"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "x-session-id"
            | "x-conversation-id"
    )
}

/// Asks where a request went and why, and answers that.
pub const X_FOREBAY_EXPLAIN: HeaderName = HeaderName::from_static("x-forebay-explain");
/// Says how important a request is, at most as much as its caller may.
pub const X_FOREBAY_PRIORITY: HeaderName = HeaderName::from_static("x-forebay-priority");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Puts into the head of an attempt what the client, the provider and the cluster have to say.
pub fn request<'a>(request: &'a Request<'_>, cluster: &'a Cluster, head: &mut Outgoing<'a>) {
    let provider = &cluster.spec.provider;
    head.text("content-type", "application/json");
    // The usage of a reply is read on its way, so it has to come in the clear.
    head.text("accept-encoding", "identity");
    head.text("x-request-id", request.id);
    if provider.kind == provider::Kind::Engine && !request.forwarded.is_empty() {
        head.text("x-forwarded-for", request.forwarded);
    }
    let is_simulator = provider.name == "simulator";
    for (name, value) in request.client {
        if is_passed(name.as_str(), request.is_translated)
            || (is_simulator && name.as_str().starts_with("x-sim-"))
        {
            head.set(name, value);
        }
    }
    for (name, value) in &provider.headers {
        if !head.has(name.as_str()) {
            head.set(name, value);
        }
    }
    for (name, value) in &cluster.spec.headers {
        head.set(name, value);
    }
}

/// Which version of HTTP the upstream's connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
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
    if cluster.spec.provider.kind != provider::Kind::Engine {
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
            | "x-amzn-errortype"
    );
    named || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes the head of an upstream's reply fit for the client, without its framing.
pub fn reply(mut upstream: Reply, id: &str) -> Reply {
    upstream.fields.retain(is_shown);
    put(&mut upstream, X_REQUEST_ID, id);
    upstream
}

/// Says in the words of the client's dialect what an upstream of another says of its rates.
pub fn translate_quotas(head: &mut Reply, dialect: Dialect) {
    let now = SystemTime::now();
    let texts = head.fields.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let quotas = quota::read(texts, now);
    put_quotas(head, &quotas, dialect);
}

/// Says in the words of a dialect how rates stand, and nothing of any other.
pub fn put_quotas(head: &mut Reply, quotas: &[quota::Quota], dialect: Dialect) {
    head.fields.retain(|name| !quota::is_quota(name));
    quota::tell(quotas, dialect, SystemTime::now(), |name, value| {
        put(head, HeaderName::from_static(name), value);
    });
}

/// A head with that status and the exchange's id.
pub fn status(status: u16, id: &str) -> Reply {
    let mut head = Reply::new(status);
    put(&mut head, X_REQUEST_ID, id);
    head
}

/// Puts the exchange's id where Anthropic's SDKs look for it, unless the upstream's own is there.
pub fn name_for_anthropic(head: &mut Reply) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    if !head.fields.contains(&REQUEST_ID)
        && let Some(id) = head.fields.get(&X_REQUEST_ID).cloned()
    {
        head.fields.append(REQUEST_ID, id);
    }
}

/// Sets a field of a reply; a value that is none is left out.
pub fn put(head: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        head.fields.set(name, value);
    }
}

/// Turns a head into that of a stream: not cached, not buffered by a proxy in between.
pub fn as_stream(head: &mut Reply) {
    let set = |head: &mut Reply, name, value| head.fields.set(name, HeaderValue::from_static(value));
    if !head.fields.contains(&CONTENT_TYPE) {
        set(head, CONTENT_TYPE, "text/event-stream; charset=utf-8");
    }
    set(head, http::header::CACHE_CONTROL, "no-cache");
    set(head, HeaderName::from_static("x-accel-buffering"), "no");
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
    let _ = head.insert_header(X_REQUEST_ID, id);
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
            path: "/messages",
            query: "?beta=true",
            is_translated: false,
            id: "id-1",
            forwarded: "10.0.0.1",
            length: 5,
        };
        let endpoints = cluster.endpoints();
        let mut head = Outgoing::new(&http::Method::POST, &endpoints[0], ["/base", "/messages", ""], Some(5));
        request(&made, &cluster, &mut head);
        let expected =
            ["content-type", "accept-encoding", "x-request-id", "x-forwarded-for", "anthropic-beta"];
        assert_eq!(head.names(), expected);
        assert_eq!(head.value("accept-encoding"), Some(&b"identity"[..]));
        assert_eq!(head.value("x-forwarded-for"), Some(&b"10.0.0.1"[..]));
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
        let fields = [
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("server", "internal-7"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("connection", "close"),
            ("x-request-id", "theirs"),
        ];
        let fields = fields.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let head = reply(Reply { status: 200, fields: fields.into_iter().collect() }, "ours");
        let names: Vec<_> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "x-ratelimit-remaining-tokens", "x-request-id"]);
        assert_eq!(head.fields.text(&X_REQUEST_ID), Some("ours"));
    }
}
