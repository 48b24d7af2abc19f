//! Takes connections and hands their requests on: LLM exchanges to Forebay's own server, the rest to Pingora's proxy.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::protocols::{ALPN, Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use pingora_timeout::timeout;
use tokio::sync::Notify;

use crate::exchange::guard::Guarded;
use crate::exchange::serve::{is_raw, is_raw_head, serve, serve_h2};
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
    app: Arc<App>,
    listeners: Vec<Listener>,
    stop: Notify,
}

/// Serves requests: LLM exchanges by itself, what raw routes match through Pingora's pipeline.
struct App {
    proxy: Arc<HttpProxy<Edge>>,
    shared: Arc<Shared>,
}

impl Front {
    pub(super) fn new(conf: &Arc<ServerConf>, shared: &Arc<Shared>, listeners: &[Listener]) -> Self {
        let mut proxy = http_proxy(conf, Edge::new(Arc::clone(shared)));
        let mut options = HttpServerOptions::default();
        options.h2c = listeners.iter().any(|listener| listener.h2c);
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
        let app = Arc::new(App { proxy: Arc::new(proxy), shared: Arc::clone(shared) });
        Self { app, listeners: listeners.to_vec(), stop: Notify::new() }
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
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let head = session.req_header();
        if is_raw(&self.shared.snapshot.load(), &head.uri, &head.headers) {
            return self.proxy.process_new_http(session, shutdown).await;
        }
        serve_h2(&self.shared, session).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options.as_ref()
    }
}

impl Front {
    /// Serves an HTTP/1 connection, request by request.
    async fn serve_http1(&self, mut guarded: Box<Guarded>, listener: &Listener, shutdown: &ShutdownWatch) {
        let mut left = listener.keepalive_requests;
        while self.next_head(&mut guarded, listener.keepalive).await {
            left = left.saturating_sub(1);
            let look = |head: &[u8]| is_raw_head(&self.app.shared.snapshot.load(), head);
            let kept = if guarded.show_head(look).unwrap_or(false) {
                self.serve_raw(guarded, listener, left, shutdown).await
            } else {
                serve(&self.app.shared, guarded, left == 0).await
            };
            match kept {
                Some(known) => guarded = known,
                None => return,
            }
        }
        guarded.shutdown().await;
    }

    /// Serves a request of a raw route in Pingora's pipeline.
    async fn serve_raw(
        &self,
        mut guarded: Box<Guarded>,
        listener: &Listener,
        left: u32,
        shutdown: &ShutdownWatch,
    ) -> Option<Box<Guarded>> {
        guarded.cork(true);
        let mut session = ServerSession::new_http1(guarded);
        session.set_keepalive(Some(listener.keepalive.as_secs().max(1)));
        session.set_keepalive_reuses_remaining(Some(left));
        let reused = Box::pin(self.app.proxy.process_new_http(session, shutdown)).await?;
        let mut guarded = reused.consume().0.into_any().downcast::<Guarded>().ok()?;
        guarded.cork(false);
        Some(guarded)
    }

    /// Waits for the head of a next request, as long as an idle connection is kept and the process serves.
    async fn next_head(&self, guarded: &mut Guarded, keepalive: Duration) -> bool {
        let waited = tokio::select! {
            biased;
            head = timeout(keepalive, guarded.head_ready()) => head.ok(),
            () = self.stop.notified() => None,
        };
        match waited {
            Some(head) => matches!(head, Ok(true)),
            None if guarded.is_idle() => false,
            // A head that has begun is waited for: the guard's own deadline is short.
            None => matches!(guarded.head_ready().await, Ok(true)),
        }
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = Open::count();
        let is_h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let listener = self.listener(&stream).filter(|_| !is_h2);
        let Some(listener) = listener else {
            return Box::pin(self.app.process_new(stream, shutdown)).await;
        };
        let mut guarded = Box::new(Guarded::new(stream, listener.head, listener.h2c));
        if listener.h2c && matches!(timeout(listener.keepalive, guarded.is_h2()).await, Ok(true)) {
            return Box::pin(self.app.process_new(guarded, shutdown)).await;
        }
        self.serve_http1(guarded, listener, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.stop.notify_waiters();
        self.app.proxy.http_cleanup().await;
    }
}
