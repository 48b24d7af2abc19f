//! Takes connections: guards HTTP/1 ones, and hands all of them to Pingora's proxy.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};

use crate::exchange::guard::Guarded;
use crate::exchange::{Edge, Shared};
use crate::meter::metrics::METRICS;
use crate::snapshot::Listener;

/// Streams of one HTTP/2 connection.
const H2_STREAMS: u32 = 256;
/// What a client may send ahead on one HTTP/2 stream, and on a connection: h2's own 64 KiB make an upload wait for a
/// round trip after each.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 4 << 20;

/// The application of the edge's listeners.
pub(super) struct Front {
    proxy: Arc<HttpProxy<Edge>>,
    listeners: Vec<Listener>,
}

impl Front {
    pub(super) fn new(conf: &Arc<ServerConf>, shared: &Arc<Shared>, listeners: &[Listener]) -> Self {
        let mut proxy = http_proxy(conf, Edge::new(Arc::clone(shared)));
        let mut options = HttpServerOptions::default();
        options.h2c = listeners.iter().any(|listener| listener.h2c);
        options.keepalive_request_limit = listeners.iter().map(|listener| listener.keepalive_requests).max();
        options.h2_idle_timeout = listeners.iter().map(|listener| listener.keepalive).max();
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(H2_STREAMS)
            .initial_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW);
        if let Some(bytes) = listeners.iter().map(|listener| listener.head.bytes).max() {
            h2.max_header_list_size(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        proxy.h2_options = Some(h2);
        Self { proxy: Arc::new(proxy), listeners: listeners.to_vec() }
    }

    fn listener(&self, stream: &Stream) -> Option<&Listener> {
        if let [only] = self.listeners.as_slice() {
            return Some(only);
        }
        let digest = stream.get_socket_digest()?;
        let port = digest.local_addr()?.as_inet()?.port();
        self.listeners.iter().find(|listener| listener.address.port() == port)
    }
}

/// Counts an open connection.
struct Open;

impl Open {
    fn count() -> Self {
        METRICS.http.connections.inc();
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        METRICS.http.connections.dec();
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = Open::count();
        let is_h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let stream: Stream = match self.listener(&stream) {
            Some(listener) if !is_h2 => Box::new(Guarded::new(stream, listener.head, listener.h2c)),
            _ => stream,
        };
        self.proxy.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
