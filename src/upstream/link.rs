//! Connections to endpoints.
//!
//! Pingora's HTTP connector serves whatever may turn out to be HTTP/2. Where an endpoint speaks HTTP/1.1 only, its
//! transport connector is used directly, with a corked stream on it: Pingora's HTTP/1 client flushes the head of a
//! request before it takes the body. In a profile three sends were 40 % of an exchange; now there are two.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::{Peek, Shutdown, Stream};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wrap::identify_by_inner;
use crate::meter::metrics::METRICS;

/// The connections of a cluster.
pub struct Links {
    open: IntGauge,
    options: ConnectorOptions,
    any: OnceLock<Connector>,
    one: OnceLock<TransportConnector>,
}

impl Links {
    /// The links of the cluster of that name. Its pools hold at most `pool` idle connections each; the system's roots
    /// are trusted, or those in the file `ca`.
    pub fn new(cluster: &str, pool: usize, ca: Option<&str>) -> Arc<Self> {
        let mut options = ConnectorOptions::new(pool);
        options.ca_file = ca.map(str::to_owned);
        let open = METRICS.upstream.open.with_label_values(&[cluster]);
        Arc::new(Self { open, options, any: OnceLock::new(), one: OnceLock::new() })
    }

    fn any(&self) -> &Connector {
        self.any.get_or_init(|| Connector::new(Some(self.options.clone())))
    }

    fn one(&self) -> &TransportConnector {
        self.one.get_or_init(|| TransportConnector::new(Some(self.options.clone())))
    }

    /// A session on a connection to `peer` from the pool, if there is one. Takes no time worth a clock.
    pub async fn reuse(&self, peer: &HttpPeer) -> Option<HttpSession> {
        if !is_one(peer) {
            return None;
        }
        let stream = self.one().reused_stream(peer).await?;
        Some(self.session(stream, peer))
    }

    /// A session with `peer`, and whether its connection was used before.
    ///
    /// # Errors
    /// What Pingora says of a peer that cannot be reached.
    pub async fn connect(&self, peer: &HttpPeer) -> pingora_core::Result<(HttpSession, bool)> {
        // Connecting takes a future of 18 KiB, which no stream shall carry with it for its whole life.
        if !is_one(peer) {
            return Box::pin(self.any().get_http_session(peer)).await;
        }
        let stream = Box::pin(self.one().new_stream(peer)).await?;
        Ok((self.session(stream, peer), false))
    }

    fn session(&self, stream: Stream, peer: &HttpPeer) -> HttpSession {
        HttpSession::H1(Http1Session::new_with_options(Corked::around(stream, &self.open), peer))
    }

    /// Keeps the connection of a finished session for the next.
    pub async fn release(&self, session: HttpSession, peer: &HttpPeer, idle: Duration) {
        match session {
            HttpSession::H1(mut session) if is_one(peer) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    self.one().release_stream(stream, peer.reuse_hash(), Some(idle));
                }
            }
            session => Box::pin(self.any().release_http_session(session, peer, Some(idle))).await,
        }
    }
}

fn is_one(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 1
}

/// Requests up to this size leave in one write, bytes.
const HELD: usize = 64 << 10;

/// A stream that holds what is written until the second flush: the first comes between a request's head and its body.
struct Corked {
    inner: Stream,
    held: BytesMut,
    corked: bool,
    _open: Open,
}

/// Counts an open connection.
struct Open(IntGauge);

impl Open {
    fn count(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl std::fmt::Debug for Corked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Corked").finish_non_exhaustive()
    }
}

impl Corked {
    /// Corks a stream for the next request; one from the pool is corked again.
    fn around(stream: Stream, open: &IntGauge) -> Stream {
        if !stream.as_any().is::<Self>() {
            return Box::new(Self {
                inner: stream,
                held: BytesMut::new(),
                corked: true,
                _open: Open::count(open),
            });
        }
        match stream.into_any().downcast::<Self>() {
            Ok(mut known) => {
                known.corked = true;
                known
            }
            // It is of that type, as was asked a line above.
            Err(_) => unreachable!("a stream changed its type"),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(sent);
        }
        // A request is not kept while its reply streams.
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, out)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= HELD {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.corked) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Corked {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl Peek for Corked {
    async fn try_peek(&mut self, wanted: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(wanted).await
    }
}

identify_by_inner!(Corked);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn gauge() -> IntGauge {
        IntGauge::new("open", "connections").unwrap()
    }

    /// What arrives in one read after `write` was done to a corked stream.
    async fn request(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (client, mut server) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::around(Box::new(client), &gauge());
        let mut seen = Vec::new();
        let mut chunk = vec![0; 1 << 20];
        for piece in pieces {
            corked.write_all(piece).await.unwrap();
            corked.flush().await.unwrap();
            let arrived = tokio::time::timeout(Duration::ZERO, server.read(&mut chunk)).await;
            seen.push(arrived.map_or(Vec::new(), |size| chunk[..size.unwrap()].to_vec()));
        }
        seen
    }

    #[tokio::test]
    async fn head_and_body_leave_together_and_what_follows_at_once() {
        let seen = request(&[b"head ", b"body", b"more"]).await;
        assert_eq!(seen, [b"".to_vec(), b"head body".to_vec(), b"more".to_vec()]);
    }

    #[tokio::test]
    async fn a_large_body_is_not_held() {
        let body = vec![b'x'; HELD + 1];
        let (client, mut server) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::around(Box::new(client), &gauge());
        corked.write_all(b"head").await.unwrap();
        corked.flush().await.unwrap();
        corked.write_all(&body).await.unwrap();
        let mut all = vec![0; 4 + body.len()];
        server.read_exact(&mut all).await.unwrap();
        assert!(all.starts_with(b"headxxx"));
    }

    #[tokio::test]
    async fn a_stream_from_the_pool_is_corked_again() {
        let (client, mut server) = tokio::io::duplex(1 << 10);
        let gauge = gauge();
        let mut stream = Corked::around(Box::new(client), &gauge);
        for _ in 0..2 {
            stream = Corked::around(stream, &gauge);
            stream.write_all(b"head").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"body").await.unwrap();
            stream.flush().await.unwrap();
            let mut all = [0; 16];
            let size = server.read(&mut all).await.unwrap();
            assert_eq!(&all[..size], b"headbody");
            assert_eq!(gauge.get(), 1);
        }
        drop(stream);
        assert_eq!(gauge.get(), 0);
    }
}
