//! A request now and then to a service beside the providers: one that gives credentials, or a picture's host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::endpoint::{Endpoint, EndpointSpec, HttpVersion, TlsPolicy};
use super::http1::Pieces;
use super::link::{Broken, Link, Links};
use super::origin::Origin;
use super::outgoing::Outgoing;
use crate::frame::http1::Fields;
use crate::provider::credential::{Outside, Reply, Request};
use crate::secret::Secret;

/// The most of a credential service's reply that is read, bytes.
const CREDENTIAL: usize = 1 << 20;

/// The world as it is: the process's environment, its files, its clock, and HTTP.
pub fn outside() -> Outside {
    outside_trusting(None)
}

/// The same, where HTTPS trusts the authorities in that file instead of the system's.
pub fn outside_trusting(ca: Option<&str>) -> Outside {
    let links = Links::new("credentials", 0, Duration::ZERO, ca);
    let fetcher = Arc::new(Fetcher { links, allowed: Box::new(|_| true) });
    Outside {
        variable: Box::new(|name| std::env::var(name).ok()),
        file: Box::new(|path| std::fs::read_to_string(path)),
        fetch: Box::new(move |request| {
            let fetcher = Arc::clone(&fetcher);
            Box::pin(async move { fetcher.credential(request).await })
        }),
        now: Box::new(SystemTime::now),
    }
}

/// A request.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// An absolute URL.
    pub url: String,
    /// The headers, less `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long it may take from the first packet to the last byte of the reply.
    pub limit: Duration,
    /// The most of a body that is read, bytes; more is an error.
    pub most: usize,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    /// The status. A redirect is one like any other: it is not followed.
    pub status: u16,
    /// The headers.
    pub fields: Fields,
    /// The body.
    pub body: Vec<u8>,
}

/// Whether an address may be connected to.
type Allowed = dyn Fn(IpAddr) -> bool + Send + Sync;

/// Sends requests, each on a connection of its own.
pub struct Fetcher {
    links: Arc<Links>,
    allowed: Box<Allowed>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetcher")
    }
}

impl Fetcher {
    /// A fetcher, by its name in metrics, that connects to addresses that are `allowed` and to no other.
    pub fn new(name: &str, allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { links: Links::new(name, 0, Duration::ZERO, None), allowed: Box::new(allowed) }
    }

    async fn credential(&self, request: Request) -> Result<Reply, String> {
        let got = self.call(Call {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: Bytes::copy_from_slice(request.body.expose().as_bytes()),
            limit: request.timeout,
            most: CREDENTIAL,
        });
        let got = got.await?;
        // What fails to be text is told without showing it: it may hold a secret.
        let body = String::from_utf8(got.body).map_err(|_| "its answer is no text".to_owned())?;
        Ok(Reply { status: got.status, body: Secret::new(body) })
    }

    /// Sends a request to the first address of its host that takes a connection.
    ///
    /// # Errors
    /// Says why no answer came.
    pub async fn call(&self, call: Call) -> Result<Got, String> {
        let limit = call.limit;
        match tokio::time::timeout(limit, self.send(call)).await {
            Ok(got) => got,
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    async fn send(&self, call: Call) -> Result<Got, String> {
        let (endpoint, target) = place(&call.url)?;
        self.resolve(&endpoint).await?;
        let length = (call.method != Method::GET).then_some(call.body.len());
        let mut head = Outgoing::new(&call.method, &endpoint, [&target, "", ""], length);
        head.text("user-agent", "forebay");
        head.text("connection", "close");
        for (name, value) in &call.headers {
            head.set(name, value);
        }
        let mut link = self.connect(&endpoint).await?;
        let text = |broken: Broken| broken.to_string();
        let head = link.head_of(&head).map_err(text)?;
        let pieces = if call.body.is_empty() { Pieces::new() } else { Pieces::from_iter([call.body]) };
        link.send(head, pieces, call.limit).await.map_err(text)?;
        read(&mut link, call.most).await
    }

    /// Finds the addresses of the host that are allowed.
    async fn resolve(&self, endpoint: &Endpoint) -> Result<(), String> {
        let origin = &endpoint.spec.origin;
        let found: Vec<SocketAddr> = match origin.ip() {
            Some(ip) => vec![SocketAddr::new(ip, origin.port)],
            None => {
                let looked_up = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
                looked_up.map_err(|_| "its name is not known".to_owned())?.collect()
            }
        };
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|address| (self.allowed)(address.ip())).collect();
        if allowed.is_empty() {
            return Err("its address is not one that may be asked".to_owned());
        }
        endpoint.resolved(&allowed);
        Ok(())
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Link, String> {
        let mut last = "it has no address".to_owned();
        for _ in 0..endpoint.address_count() {
            let Some(peer) = endpoint.peer() else { break };
            match self.links.connect(&peer.peer).await {
                Ok((link, _)) => return Ok(link),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

async fn read(link: &mut Link, most: usize) -> Result<Got, String> {
    let text = |broken: Broken| broken.to_string();
    let mut head = link.head().await.map_err(text)?;
    while head.status < 200 {
        head = link.head().await.map_err(text)?;
    }
    let mut body = Vec::new();
    while let Some(piece) = link.body().await.map_err(text)? {
        if body.len() + piece.len() > most {
            return Err(format!("its answer is larger than {most} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Got { status: head.status, fields: head.fields, body })
}

/// An endpoint for the host of a URL, and the rest of the URL.
fn place(url: &str) -> Result<(Endpoint, String), String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let rest = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let base = url.split_once("://").and_then(|(scheme, after)| {
        let host = after.split(['/', '?', '#']).next()?;
        Some(format!("{scheme}://{host}"))
    });
    let origin = Origin::parse(&base.unwrap_or_default(), "").map_err(|error| error.to_string())?;
    let (http, tls) = (HttpVersion::One, TlsPolicy::default());
    Ok((Endpoint::new(EndpointSpec { origin, weight: 1, priority: 0, http, tls }), rest))
}

/// Whether an address is one of the public internet: of no private network, no machine's own, and none that is set aside
/// for something else (RFC 6890), however it is written.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let set_aside = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || matches!((a, b, c), (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) | (240.., ..));
    !set_aside
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in other clothes: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // 2000::/3 is all that is given out; Teredo and documentation are parts of it.
        [0x2001, 0 | 0xdb8, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves one connection: answers `with`, and gives what it was sent.
    async fn server(with: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(with.as_bytes()).await.unwrap();
            String::from_utf8(buffer[..read].to_vec()).unwrap()
        });
        (url, served)
    }

    fn request(method: Method, url: String, body: &str) -> Request {
        let headers = HeaderMap::new();
        Request { method, url, headers, body: Secret::new(body), timeout: Duration::from_millis(500) }
    }

    #[tokio::test]
    async fn a_request_is_sent_and_its_reply_read() {
        let (url, served) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let fetch = outside().fetch;
        let reply = fetch(request(Method::POST, format!("{url}/token?a=b"), "x=1")).await.unwrap();
        assert_eq!((reply.status, reply.body.expose()), (200, "hi"));
        let sent = served.await.unwrap();
        assert!(sent.starts_with("POST /token?a=b HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("content-length: 3\r\n") && sent.ends_with("\r\n\r\nx=1"), "{sent}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_silence_an_error() {
        let (url, _served) =
            server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
        let fetch = outside().fetch;
        assert_eq!(fetch(request(Method::GET, url, "")).await.unwrap().status, 302);
        let (silent, _served) = server("").await;
        // The connection is closed without an answer.
        assert!(fetch(request(Method::GET, silent, "")).await.is_err());
        let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", deaf.local_addr().unwrap());
        assert!(fetch(request(Method::GET, url, "")).await.unwrap_err().contains("no answer within"));
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_said() {
        let fetch = outside().fetch;
        for (url, says) in [
            ("ftp://x/", "must begin with http"),
            ("http://name.invalid/", "name is not known"),
            ("nonsense", "URL"),
        ] {
            let error = fetch(request(Method::GET, url.to_owned(), "")).await.unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_allowed_is_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let guarded = Fetcher::new("test", is_public);
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("http://{host}:{}/", listener.local_addr().unwrap().port());
            let (headers, limit) = (HeaderMap::new(), Duration::from_secs(5));
            let call = Call { method: Method::GET, url, headers, body: Bytes::new(), limit, most: 1 };
            assert!(guarded.call(call).await.unwrap_err().contains("not one that may be asked"));
        }
        let nobody = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
        assert!(nobody.is_err(), "a connection was made");
    }

    #[test]
    fn public_addresses_are_told_from_all_others() {
        for (ip, public) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("::ffff:8.8.8.8", true),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("172.31.0.1", false),
            ("192.168.0.1", false),
            ("169.254.169.254", false),
            ("100.100.100.200", false),
            ("192.0.0.192", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:169.254.169.254", false),
            ("::127.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }
}
