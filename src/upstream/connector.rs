//! Pingora's connectors of both versions. Pingora's own union of them gives no way to take a connection out of use.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::{v1, v2};
use pingora_core::protocols::UniqueIDType;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::{HttpPeer, Peer};

/// Connections whose version is agreed on as they are made.
pub(super) struct Connector {
    one: v1::Connector,
    two: v2::Connector,
}

impl Connector {
    pub(super) fn new(options: &ConnectorOptions) -> Self {
        let one = v1::Connector::new(Some(options.clone()));
        Self { one, two: v2::Connector::new(Some(options.clone())) }
    }

    /// A session with `peer`, and whether its connection was used before.
    pub(super) async fn session(&self, peer: &HttpPeer) -> pingora_core::Result<(HttpSession, bool)> {
        if let Some(session) = self.two.reused_http_session(peer).await? {
            return Ok((HttpSession::H2(session), true));
        }
        // A peer that was asked for HTTP/2 may have turned out to speak HTTP/1.1 only.
        let may_be_one = peer.options.alpn.get_min_http_version() == 1;
        if may_be_one && let Some(session) = self.one.reused_http_session(peer).await {
            return Ok((HttpSession::H1(session), true));
        }
        Ok((self.two.new_http_session(peer).await?, false))
    }

    /// Keeps the connection of a finished session for `idle` at most.
    pub(super) async fn release(&self, session: HttpSession, peer: &HttpPeer, idle: Duration) {
        match session {
            HttpSession::H1(session) => self.one.release_http_session(session, peer, Some(idle)).await,
            HttpSession::H2(session) => self.two.release_http_session(session, peer, Some(idle)),
            HttpSession::Custom(()) => {}
        }
    }

    /// The connection with that number has lost a session that was given up, not released. Where it was the last, the
    /// connection is idle from now on, which Pingora notices of released sessions only: without this it would stay open
    /// for as long as its peer lets it.
    pub(super) fn given_up(&self, id: UniqueIDType, peer: &HttpPeer, idle: Duration) {
        let key = peer.reuse_hash();
        let connection = loop {
            let Some(connection) = self.two.in_use_pool().release(key, id).filter(|c| !c.is_closed()) else {
                return;
            };
            if connection.is_idle() {
                break connection;
            }
            self.two.in_use_pool().insert(key, connection.clone());
            // Its last session may have been given up meanwhile, by one who did not find it in the pool.
            if !connection.is_idle() {
                return;
            }
        };
        // Nothing is sent for a session that is released unused.
        let taken = pin!(connection.spawn_stream()).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Ok(Some(session))) = taken {
            self.two.release_http_session(session, peer, Some(idle));
        }
    }

    /// Lets no other session onto the connection of this one. Those that are on it go on; then it is closed.
    pub(super) fn retire(&self, session: &HttpSession, peer: &HttpPeer) {
        if let HttpSession::H2(session) = session
            && let Some(connection) = self.two.in_use_pool().release(peer.reuse_hash(), session.fd())
        {
            connection.mark_shutdown();
        }
    }
}
