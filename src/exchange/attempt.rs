//! One try of an exchange at one endpoint: connect, send, await the response head.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::{Error as PingoraError, ErrorSource, ErrorType, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;

use super::headers::{self, Request, Wire};
use crate::clocks::Clocks;
use crate::error::{Error, Kind};
use crate::meter::metrics::METRICS;
use crate::upstream::cluster::{Cluster, Outcome};
use crate::upstream::endpoint::{Endpoint, InFlight, PeerHandle};

/// A connection with a request on it. Dropping it closes an HTTP/1 connection and resets an HTTP/2 stream, so that
/// the upstream stops at once; [`Upstream::release`] keeps it for the next.
pub struct Upstream {
    /// Boxed, because an attempt is handed on several times.
    session: Box<HttpSession>,
    peer: PeerHandle,
    flight: InFlight,
    cluster: Arc<Cluster>,
    reused: bool,
    sent: Option<Instant>,
    judged: bool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.flight.endpoint().name).finish_non_exhaustive()
    }
}

/// A pooled connection that its peer had closed breaks at once; one that breaks later carried a request that was worked
/// on, and sending that again could bill it twice.
const STALE: Duration = Duration::from_millis(100);
/// How long an answer that came before the whole request was sent is looked for.
const EARLY: Duration = Duration::from_millis(200);
/// How much of a request was sent when its connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Part,
    Whole,
}

/// The most interim responses (1xx) that are passed over.
const INTERIM: usize = 8;

impl Upstream {
    /// Takes a connection from the pool, unless it is to be `fresh`, or connects.
    ///
    /// # Errors
    /// Always one that another endpoint may do better than: nothing was sent.
    pub async fn connect(
        cluster: &Arc<Cluster>,
        flight: InFlight,
        clocks: &Clocks,
        fresh: bool,
    ) -> Result<Self, Error> {
        let endpoint = Arc::clone(flight.endpoint());
        let (session, peer, reused) = open(cluster, &endpoint, clocks, fresh).await.inspect_err(|error| {
            judge(cluster, &endpoint, Outcome::Bad, Some(error));
        })?;
        let series = &cluster.series;
        if reused { &series.reused_connections } else { &series.new_connections }.inc();
        let (session, cluster) = (Box::new(session), Arc::clone(cluster));
        Ok(Self { session, peer, flight, cluster, reused, sent: None, judged: false })
    }

    /// The head of a request, as this connection's version of HTTP has it.
    ///
    /// # Errors
    /// As [`headers::request`].
    pub fn request(&self, request: &Request<'_>) -> Result<Box<RequestHeader>, Error> {
        let wire = match *self.session {
            HttpSession::H2(_) => Wire::Two,
            HttpSession::H1(_) | HttpSession::Custom(_) => Wire::One,
        };
        headers::request(request, &self.cluster, self.flight.endpoint(), wire)
    }

    /// Sends a whole request.
    ///
    /// # Errors
    /// One that may be tried elsewhere only where a pooled connection proved stale.
    pub async fn send(
        &mut self,
        head: Box<RequestHeader>,
        body: SmallVec<[Bytes; 5]>,
        clocks: &Clocks,
    ) -> Result<(), Error> {
        self.sent = Some(Instant::now());
        let sending = async {
            self.session.write_request_header(head).await?;
            for piece in body {
                self.session.write_request_body(piece, false).await?;
            }
            self.session.finish_request_body().await
        };
        match tokio::time::timeout(clocks.write, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if !self.answered_early().await => Err(self.broken(&error, Sent::Part)),
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(self.slow("the upstream did not take the request in time")),
        }
    }

    /// Whether the upstream has answered without reading the whole request: it may refuse a body for its size.
    async fn answered_early(&mut self) -> bool {
        let read = tokio::time::timeout(EARLY, self.session.read_response_header()).await;
        matches!(read, Ok(Ok(()))) && self.response().is_some_and(|head| head.status.as_u16() >= 400)
    }

    /// Waits for the final response head, under no clock of its own. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Self::send`]; and where the head breaks the protocol.
    pub async fn head(&mut self) -> Result<(), Error> {
        if self.response().is_some_and(|head| !head.status.is_informational()) {
            return Ok(());
        }
        for _ in 0..INTERIM {
            if let Err(error) = self.session.read_response_header().await {
                return Err(self.broken(&error, Sent::Whole));
            }
            match self.session.response_header().map(|head| head.status.as_u16()) {
                Some(100 | 102..=199) if matches!(*self.session, HttpSession::H1(_)) => {}
                Some(200..=599) => return Ok(()),
                other => return Err(self.rude(&format!("it answered with status {other:?}"))),
            }
        }
        Err(self.rude("it sent interim responses without end"))
    }

    /// The response head; there is one once [`Self::head`] returned.
    pub fn response(&self) -> Option<&ResponseHeader> {
        self.session.response_header()
    }

    /// The next piece of the body, `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Kind::UpstreamFailed`] where the body broke off.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Error> {
        let read = self.session.read_response_body().await;
        read.map_err(|error| {
            self.judge(Outcome::Bad);
            Error::upstream(Kind::UpstreamFailed, "the upstream broke off its reply")
                .because(format!("{}: {error}", self.flight.endpoint().name))
        })
    }

    /// Whether the end of the body is told only by the end of the connection, so that a cut looks like an end.
    pub fn ends_by_close(&self) -> bool {
        let framed = |head: &ResponseHeader| {
            head.headers.contains_key(http::header::CONTENT_LENGTH)
                || head.headers.contains_key(http::header::TRANSFER_ENCODING)
        };
        matches!(*self.session, HttpSession::H1(_)) && !self.response().is_some_and(framed)
    }

    /// Notes how the endpoint did; the first judgement of an attempt counts.
    pub fn judge(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.judged, true) {
            judge(&self.cluster, self.flight.endpoint(), outcome, None);
        }
    }

    /// Where the request is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.flight.endpoint()
    }

    /// The cluster of the endpoint.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Keeps the connection for the next exchange. Only after the end of the body.
    pub async fn release(self) {
        let idle = self.cluster.spec.pool_idle;
        drop(self.flight);
        self.cluster.links.release(*self.session, &self.peer, idle).await;
    }

    /// The upstream was too slow.
    pub fn slow(&mut self, public: &'static str) -> Error {
        self.judge(Outcome::Bad);
        Error::upstream(Kind::UpstreamTimeout, public).because(&self.flight.endpoint().name)
    }

    /// The upstream broke HTTP.
    fn rude(&mut self, what: &str) -> Error {
        self.judge(Outcome::Bad);
        Error::upstream(Kind::UpstreamFailed, "the upstream's answer cannot be read")
            .because(format!("{}: {what}", self.flight.endpoint().name))
    }

    /// A connection broke before the response head. A pooled one may have been closed by its peer before the request
    /// was on it; then the request can be sent again.
    fn broken(&mut self, error: &PingoraError, sent: Sent) -> Error {
        let closed = matches!(error.retry, RetryType::ReusedOnly)
            || matches!(error.etype, ErrorType::WriteError | ErrorType::ConnectionClosed)
            || (sent == Sent::Part && error.etype == ErrorType::H2Error);
        let at_once = self.sent.is_none_or(|sent| sent.elapsed() < STALE);
        let refused = matches!(error.retry, RetryType::Decided(true));
        let untouched = refused || (self.reused && closed && at_once);
        if untouched {
            self.judge(Outcome::Neutral);
        } else {
            self.judge(Outcome::Bad);
        }
        let failed =
            Error::upstream(Kind::UpstreamFailed, "the upstream closed the connection without an answer")
                .because(format!("{}: {error}", self.flight.endpoint().name));
        if untouched { failed.elsewhere() } else { failed }
    }
}

/// A session with an endpoint: on a pooled connection, or on a new one to the first of its addresses that takes it.
async fn open(
    cluster: &Cluster,
    endpoint: &Endpoint,
    clocks: &Clocks,
    fresh: bool,
) -> Result<(HttpSession, PeerHandle, bool), Error> {
    let mut failed = None;
    for _ in 0..endpoint.address_count() {
        let Some(peer) = endpoint.peer() else { break };
        if !fresh && let Some(session) = cluster.links.reuse(&peer).await {
            return Ok((session, peer, true));
        }
        let connected = connect(cluster, endpoint, &peer, clocks).await;
        endpoint.reached(&peer, connected.is_ok());
        match connected {
            Ok((session, reused)) => return Ok((session, peer, reused)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| {
        Error::upstream(Kind::UpstreamFailed, "the upstream cannot be reached")
            .because(format!("the name of {} is not resolved", endpoint.name))
            .elsewhere()
    }))
}

async fn connect(
    cluster: &Cluster,
    endpoint: &Endpoint,
    peer: &PeerHandle,
    clocks: &Clocks,
) -> Result<(HttpSession, bool), Error> {
    let limit = clocks.connect + if endpoint.spec.origin.tls { clocks.tls } else { Duration::ZERO };
    match tokio::time::timeout(limit, cluster.links.connect(peer)).await {
        Ok(connected) => connected.map_err(|error| unreachable(endpoint, &error)),
        Err(_) => {
            Err(Error::upstream(Kind::UpstreamTimeout, "the upstream did not accept a connection in time")
                .because(format!("{} did not connect within {limit:?}", endpoint.name))
                .elsewhere())
        }
    }
}

fn judge(cluster: &Cluster, endpoint: &Endpoint, outcome: Outcome, error: Option<&Error>) {
    if outcome == Outcome::Bad {
        let kind = error.map_or("broken", |error| match error.kind {
            Kind::UpstreamTimeout => "timeout",
            _ => "connect",
        });
        let labels = [cluster.spec.provider.name, cluster.name(), kind];
        METRICS.upstream.errors.with_label_values(&labels).inc();
    }
    if cluster.report(endpoint, outcome, Instant::now) {
        log::warn!("cluster {}: {} is set aside after repeated failures", cluster.name(), endpoint.name);
    }
}

fn unreachable(endpoint: &Endpoint, error: &PingoraError) -> Error {
    debug_assert!(matches!(
        error.esource,
        ErrorSource::Upstream | ErrorSource::Unset | ErrorSource::Internal
    ));
    Error::upstream(Kind::UpstreamFailed, "the upstream cannot be reached")
        .because(format!("{}: {error}", endpoint.name))
        .elsewhere()
}
