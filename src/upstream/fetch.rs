//! A request now and then to a service beside the providers: one that gives credentials, say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;

use super::endpoint::{Endpoint, EndpointSpec, HttpVersion, TlsPolicy};
use super::http1::Pieces;
use super::link::{Broken, Link, Links};
use super::origin::Origin;
use super::outgoing::Outgoing;
use super::resolve::Resolver;
use crate::provider::credential::{Outside, Reply, Request};
use crate::secret::Secret;

/// The most of a reply that is read, bytes.
const BODY: usize = 1 << 20;

/// The world as it is: the process's environment, its files, its clock, and HTTP. Names are asked of `resolver`.
pub fn outside(resolver: Option<Arc<Resolver>>) -> Outside {
    let links = Links::new("credentials", 0, Duration::ZERO, None);
    Outside {
        variable: Box::new(|name| std::env::var(name).ok()),
        file: Box::new(|path| std::fs::read_to_string(path)),
        fetch: Box::new(move |request| {
            let (links, resolver) = (Arc::clone(&links), resolver.clone());
            Box::pin(async move { fetch(&links, resolver.as_deref(), request).await })
        }),
        now: Box::new(SystemTime::now),
    }
}

async fn fetch(links: &Links, resolver: Option<&Resolver>, request: Request) -> Result<Reply, String> {
    let limit = request.timeout;
    match tokio::time::timeout(limit, send(links, resolver, request)).await {
        Ok(reply) => reply,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// Sends a request to the first address of its host that takes a connection. No redirect is followed.
async fn send(links: &Links, resolver: Option<&Resolver>, request: Request) -> Result<Reply, String> {
    let (endpoint, target) = place(&request.url)?;
    resolve(&endpoint, resolver).await?;
    let (method, body) = (request.method, bytes::Bytes::copy_from_slice(request.body.expose().as_bytes()));
    let length = (method != http::Method::GET).then_some(body.len());
    let mut head = Outgoing::new(&method, &endpoint, [&target, "", ""], length);
    head.text("user-agent", "forebay");
    head.text("connection", "close");
    for (name, value) in &request.headers {
        head.set(name, value);
    }
    let mut link = connect(links, &endpoint).await?;
    let text = |broken: Broken| broken.to_string();
    let head = link.head_of(&head).map_err(text)?;
    let pieces = if body.is_empty() { Pieces::new() } else { Pieces::from_iter([body]) };
    link.send(head, pieces, request.timeout).await.map_err(text)?;
    read(&mut link).await
}

async fn read(link: &mut Link) -> Result<Reply, String> {
    let text = |broken: Broken| broken.to_string();
    let mut head = link.head().await.map_err(text)?;
    while head.status < 200 {
        head = link.head().await.map_err(text)?;
    }
    let mut body = Vec::new();
    while let Some(piece) = link.body().await.map_err(text)? {
        if body.len() + piece.len() > BODY {
            return Err("its answer is too large".to_owned());
        }
        body.extend_from_slice(&piece);
    }
    // What fails to be text is told without showing it: it may hold a secret.
    let body = String::from_utf8(body).map_err(|_| "its answer is no text".to_owned())?;
    Ok(Reply { status: head.status, body: Secret::new(body) })
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

async fn resolve(endpoint: &Endpoint, resolver: Option<&Resolver>) -> Result<(), String> {
    let origin = &endpoint.spec.origin;
    if origin.ip().is_none() {
        let resolver = resolver.ok_or("names cannot be resolved")?;
        let found = resolver.resolve(&origin.host).await?;
        let at = |ip: &std::net::IpAddr| SocketAddr::new(*ip, origin.port);
        endpoint.resolved(&found.addresses.iter().map(at).collect::<Vec<_>>());
    }
    Ok(())
}

async fn connect(links: &Links, endpoint: &Endpoint) -> Result<Link, String> {
    let mut last = "its name has no address".to_owned();
    for _ in 0..endpoint.address_count() {
        let Some(peer) = endpoint.peer() else { break };
        match links.connect(&peer.peer).await {
            Ok((link, _)) => return Ok(link),
            Err(why) => last = why,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use http::Method;
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
        let headers = http::HeaderMap::new();
        Request { method, url, headers, body: Secret::new(body), timeout: Duration::from_millis(500) }
    }

    #[tokio::test]
    async fn a_request_is_sent_and_its_reply_read() {
        let (url, served) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let fetch = outside(None).fetch;
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
        let fetch = outside(None).fetch;
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
        let fetch = outside(None).fetch;
        for (url, says) in [
            ("ftp://x/", "must begin with http"),
            ("http://name.invalid/", "names cannot be resolved"),
            ("nonsense", "URL"),
        ] {
            let error = fetch(request(Method::GET, url.to_owned(), "")).await.unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
