//! Connections to endpoints.
//!
//! Where an endpoint speaks HTTP/1.1 only, its connections are Forebay's own ([`super::http1`]) with a pool of its own
//! ([`super::pool`]). Whatever may turn out to be HTTP/2 is left to Pingora's connector. TLS is Pingora's for both.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::UniqueIDType;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{ErrorType, RetryType};
use pingora_http::RequestHeader;
use pingora_timeout::timeout;
use prometheus::IntGauge;
use tokio::net::TcpStream;

use super::connector::Connector;
use super::endpoint::PeerHandle;
use super::http1::{Http1, Pieces, Wire};
use super::outgoing::Outgoing;
use super::pool::Pool;
use crate::frame::chunked::Fault;
use crate::frame::http1::Reply;
use crate::meter::metrics::METRICS;

/// Why a connection is of no use any more.
#[derive(Clone, Debug)]
pub enum Broken {
    /// The request did not get through: the peer says that it did nothing with it.
    Refused(String),
    /// It ended, or could not be written to.
    Closed(String),
    /// It failed in another way.
    Failed(String),
    /// What came is not what the protocol allows.
    Rude(&'static str),
    /// The peer did not take what it was sent in time.
    Slow,
}

impl Broken {
    /// The peer has ended it.
    pub(super) fn ended() -> Self {
        Self::Closed("the peer closed the connection".to_owned())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Closed(why) | Self::Failed(why) => f.write_str(why),
            Self::Rude(why) => f.write_str(why),
            Self::Slow => f.write_str("it does not take what it is sent"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.to_string())
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Rude(match fault {
            Fault::Malformed(why) => why,
            Fault::Trailers => "the trailer section is too large",
        })
    }
}

impl From<Box<pingora_core::Error>> for Broken {
    fn from(error: Box<pingora_core::Error>) -> Self {
        let text = error.to_string();
        match (&error.retry, &error.etype) {
            (RetryType::Decided(true), _) => Self::Refused(text),
            (RetryType::ReusedOnly, _) | (_, ErrorType::WriteError | ErrorType::ConnectionClosed) => {
                Self::Closed(text)
            }
            _ => Self::Failed(text),
        }
    }
}

/// A connection with room for one exchange.
#[derive(Debug)]
pub enum Link {
    /// Forebay's own HTTP/1.1.
    One(Box<Http1>),
    /// Pingora's, of the version that was agreed on.
    Any(Box<Any>),
}

/// The head of a request, ready to be written.
#[derive(Debug)]
pub enum Head {
    /// As bytes.
    One(BytesMut),
    /// For Pingora to write.
    Any(Box<RequestHeader>),
}

/// A session of Pingora's.
pub struct Any(pub HttpSession);

impl fmt::Debug for Any {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Any").field("h2", &self.is_h2()).finish_non_exhaustive()
    }
}

impl Any {
    fn is_h2(&self) -> bool {
        matches!(self.0, HttpSession::H2(_))
    }

    async fn send(&mut self, head: Box<RequestHeader>, body: Pieces, limit: Duration) -> Result<(), Broken> {
        within(limit, self.0.write_request_header(head)).await?;
        for mut piece in body {
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(WRITE));
                within(limit, self.0.write_request_body(part, false)).await?;
            }
        }
        within(limit, self.0.finish_request_body()).await
    }

    async fn head(&mut self) -> Result<Reply, Broken> {
        self.0.read_response_header().await?;
        let head = self.0.response_header().ok_or(Broken::Rude("it has no head"))?;
        let fields = head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Reply { status: head.status.as_u16(), fields })
    }

    fn ends_by_close(&self) -> bool {
        let framed = |head: &pingora_http::ResponseHeader| {
            head.headers.contains_key(http::header::CONTENT_LENGTH)
                || head.headers.contains_key(http::header::TRANSFER_ENCODING)
        };
        !self.is_h2() && !self.0.response_header().is_some_and(framed)
    }
}

impl Link {
    /// Whether it speaks HTTP/2.
    pub fn is_h2(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Any(session) => session.is_h2(),
        }
    }

    /// The head of a request as this connection has it.
    ///
    /// # Errors
    /// Only if a configured path or name is none, which `check` refuses.
    pub fn head_of(&self, head: &Outgoing<'_>) -> Result<Head, Broken> {
        Ok(match self {
            Self::One(_) => Head::One(head.one()),
            Self::Any(session) => Head::Any(head.any(session.is_h2())?),
        })
    }

    /// Sends a request, whose head is one of this connection. Each write may take as long as `limit`.
    ///
    /// # Errors
    /// [`Broken::Closed`] where the connection does not take it, [`Broken::Slow`] where it does not in time.
    pub async fn send(&mut self, head: Head, body: Pieces, limit: Duration) -> Result<(), Broken> {
        match (self, head) {
            (Self::One(session), Head::One(head)) => session.send(head, body, limit).await,
            (Self::Any(session), Head::Any(head)) => session.send(head, body, limit).await,
            _ => Err(Broken::Rude("the head is for another connection")),
        }
    }

    /// Whether the peer said in its last head that the connection ends with its reply.
    pub fn closes(&self) -> bool {
        match self {
            Self::One(session) => session.closes(),
            Self::Any(_) => false,
        }
    }

    /// The next response head, an interim one too. May be dropped and called again.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn head(&mut self) -> Result<Reply, Broken> {
        match self {
            Self::One(session) => session.head().await,
            Self::Any(session) => session.head().await,
        }
    }

    /// The next piece of the body, `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Broken`] where it breaks off.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::One(session) => session.body().await,
            Self::Any(session) => Ok(session.0.read_response_body().await?),
        }
    }

    /// Whether the end of the body is told only by the end of the connection, so that a cut looks like an end.
    pub fn ends_by_close(&self) -> bool {
        match self {
            Self::One(session) => session.ends_by_close(),
            Self::Any(session) => session.ends_by_close(),
        }
    }
}

/// How much Pingora is given to write at a time, bytes.
const WRITE: usize = 64 << 10;

/// What Pingora does, if it does it in time.
async fn within(limit: Duration, work: impl Future<Output = pingora_core::Result<()>>) -> Result<(), Broken> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Broken::Slow),
    }
}

/// The connections of a cluster.
pub struct Links {
    open: IntGauge,
    options: ConnectorOptions,
    idle: Duration,
    any: OnceLock<Connector>,
    tls: OnceLock<TransportConnector>,
    pool: Arc<Pool>,
}

impl Links {
    /// The links of the cluster of that name. At most `pool` idle connections are kept of each address, for `idle` at
    /// most; the system's roots are trusted, or those in the file `ca`.
    pub fn new(cluster: &str, pool: usize, idle: Duration, ca: Option<&str>) -> Arc<Self> {
        let mut options = ConnectorOptions::new(pool);
        options.ca_file = ca.map(str::to_owned);
        let open = METRICS.upstream.open.with_label_values(&[cluster]);
        let (any, tls) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { open, options, idle, any, tls, pool: Pool::new(pool, idle) })
    }

    fn any(&self) -> &Connector {
        self.any.get_or_init(|| Connector::new(&self.options))
    }

    fn tls(&self) -> &TransportConnector {
        self.tls.get_or_init(|| TransportConnector::new(Some(self.options.clone())))
    }

    /// A connection to `peer` from the pool, if there is one. Takes no time worth a clock.
    pub fn reuse(&self, peer: &Prepared) -> Option<Link> {
        let connection = is_one(&peer.peer).then(|| self.pool.take(peer.key))?;
        connection.map(Link::One)
    }

    /// A connection to `peer`, and whether it was used before.
    ///
    /// # Errors
    /// What is said of a peer that cannot be reached.
    pub async fn connect(&self, peer: &HttpPeer) -> Result<(Link, bool), String> {
        // Connecting takes a future of 18 KiB, which no stream shall carry with it for its whole life.
        if !is_one(peer) {
            let found = Box::pin(self.any().session(peer)).await.map_err(text)?;
            return Ok((Link::Any(Box::new(Any(found.0))), found.1));
        }
        let wire = match peer._address.as_inet() {
            Some(address) if !peer.is_tls() => {
                let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                Wire::Plain(stream)
            }
            _ => Wire::Tls(Box::pin(self.tls().new_stream(peer)).await.map_err(text)?),
        };
        Ok((Link::One(Box::new(Http1::new(wire, &self.open))), false))
    }

    /// Keeps the connection of a finished exchange for the next.
    pub async fn release(&self, link: Link, peer: &Prepared) {
        match link {
            Link::One(connection) => self.pool.put(peer.key, connection),
            Link::Any(session) => Box::pin(self.any().release(session.0, &peer.peer, self.idle)).await,
        }
    }

    /// What looks after the connection of an exchange that may be given up. To be dropped after `link`; nothing where
    /// there is nothing to look after.
    pub fn lease(self: &Arc<Self>, link: &Link, peer: &PeerHandle) -> Option<Box<Lease>> {
        let Link::Any(session) = link else { return None };
        let HttpSession::H2(session) = &session.0 else { return None };
        Some(Box::new(Lease { links: Some(Arc::clone(self)), peer: peer.clone(), id: session.fd() }))
    }

    /// Lets no other exchange onto the connection of this one, which may be dead without anybody having said so.
    pub fn retire(&self, link: &Link, peer: &Prepared) {
        match link {
            // It carries nothing else.
            Link::One(_) => {}
            Link::Any(session) => self.any().retire(&session.0, &peer.peer),
        }
    }
}

/// A place on an HTTP/2 connection.
pub struct Lease {
    /// None once there is nothing to look after.
    links: Option<Arc<Links>>,
    peer: PeerHandle,
    id: UniqueIDType,
}

impl Lease {
    /// The connection is released in the proper way: there is nothing to look after any more.
    pub fn returned(mut self) {
        self.links = None;
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(links) = self.links.take() {
            links.any().given_up(self.id, &self.peer.peer, links.idle);
        }
    }
}

/// A peer, and the key of its connections in a pool, which costs a hash of all of it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Whom to connect to, and how.
    pub peer: HttpPeer,
    key: u64,
}

impl Prepared {
    /// Prepares a peer.
    pub fn new(peer: HttpPeer) -> Self {
        Self { key: peer.reuse_hash(), peer }
    }
}

fn text(error: Box<pingora_core::Error>) -> String {
    error.to_string()
}

fn is_one(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 1
}
/// Whether there was no connection only because this process may open no more files (`EMFILE`, `ENFILE`): that is no fault
/// of the peer's. The libraries between give it as text alone.
pub fn lacks_files(why: &str) -> bool {
    ["os error 24)", "os error 23)"].iter().any(|sign| why.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::tests::endpoint;
    use super::*;

    #[test]
    fn a_place_that_is_returned_is_looked_after_no_more() {
        for returned in [true, false] {
            let links = Links::new("leased", 4, Duration::from_secs(1), None);
            let peer = endpoint("http://127.0.0.1:1", 1, 0).peer().unwrap();
            let lease = Lease { links: Some(Arc::clone(&links)), peer, id: 1 };
            if returned {
                lease.returned()
            } else {
                drop(lease)
            }
            assert_eq!(links.any.get().is_none(), returned, "the pools are asked for one given up alone");
        }
    }

    #[test]
    fn what_the_process_lacks_is_told_from_what_the_peer_does() {
        let text = |number| io::Error::from_raw_os_error(number).to_string();
        assert!(lacks_files(&text(24)) && lacks_files(&text(23)));
        assert!(!lacks_files(&text(111)) && !lacks_files("os error 2"));
    }
}
