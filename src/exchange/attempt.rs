//! One try of an exchange at one endpoint: connect, send, await the response head.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use pingora_timeout::timeout;

use super::headers::{self, Request};
use crate::clocks::Clocks;
use crate::dialect::form::Unframed;
use crate::dialect::quota;
use crate::error::{Error, Kind, Retry};
use crate::frame::http1::Reply;
use crate::meter::metrics::METRICS;
use crate::provider::credential::{self, Proof, Proved};
use crate::upstream::cluster::{Cluster, Outcome};
use crate::upstream::endpoint::{Endpoint, InFlight, PeerHandle};
use crate::upstream::http1::Pieces;
use crate::upstream::keys::Loan;
use crate::upstream::link::{Broken, Head, Lease, Link, lacks_files};
use crate::upstream::outgoing::Outgoing;

/// A connection with a request on it. Dropping it closes an HTTP/1 connection and resets an HTTP/2 stream, so that
/// the upstream stops at once; [`Upstream::release`] keeps it for the next.
#[derive(Debug)]
pub struct Upstream {
    link: Link,
    /// Dropped after the link.
    lease: Option<Box<Lease>>,
    peer: PeerHandle,
    flight: InFlight,
    cluster: Arc<Cluster>,
    reused: bool,
    sent: Option<Instant>,
    reply: Option<Reply>,
    /// Takes the frames off a stream that comes in others than its dialect's.
    unframed: Option<Box<Unframed>>,
}

/// A pooled connection that its peer had closed breaks at once; one that breaks later carried a request that was worked
/// on, and sending that again could bill it twice.
const STALE: Duration = Duration::from_millis(100);
/// How long an answer that came before the whole request was sent is looked for.
const EARLY: Duration = Duration::from_millis(200);
/// How long a reply is waited for at a stretch: Pingora's cheap timers live until they fire, and those of ten minutes
/// would pile up.
const STRETCH: Duration = Duration::from_secs(2);
/// The shortest stretch, where an endpoint's time runs out.
const LEAST: Duration = Duration::from_millis(20);
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
    /// One that another endpoint may do better than, since nothing was sent; unless the exchange's time is over, or the
    /// process can open no connection at all.
    pub async fn connect(
        cluster: Arc<Cluster>,
        mut flight: InFlight,
        (clocks, deadline): (&Clocks, Instant),
        fresh: bool,
    ) -> Result<Self, Error> {
        flight.begins();
        let opened = open(&cluster, flight.endpoint(), (clocks, deadline), fresh).await;
        let (link, peer, reused) = opened.inspect_err(|error| {
            let outcome = if is_its_fault(error) { Outcome::Bad } else { Outcome::Neutral };
            judge(&cluster, &mut flight, outcome, Some(error));
        })?;
        let series = &cluster.series;
        if reused { &series.reused_connections } else { &series.new_connections }.inc();
        let lease = cluster.links.lease(&link, &peer);
        Ok(Self { link, lease, peer, flight, cluster, reused, sent: None, reply: None, unframed: None })
    }

    /// Whether the connection carried other exchanges before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The head of a request with that body, as this connection has it.
    ///
    /// # Errors
    /// Only if a configured path is no path, which `check` refuses.
    pub fn request(&self, request: &Request<'_>, proof: &Proof<'_>, body: &[Bytes]) -> Result<Head, Error> {
        let endpoint = self.flight.endpoint();
        let target = [endpoint.spec.origin.prefix.as_str(), request.path, request.query];
        let proven = proven(proof, endpoint, target, body);
        let mut head = Outgoing::new(&Method::POST, endpoint, target, Some(request.length));
        headers::request(request, &self.cluster, &mut head);
        if let Some((name, value)) = self.flight.loan().map(Loan::header) {
            head.set(name, value);
        }
        for (name, value) in &proven {
            head.set(name, value);
        }
        self.link.head_of(&head).map_err(|broken| {
            Error::gateway(Kind::Internal, "the request cannot be written for the upstream").because(broken)
        })
    }

    /// Sends a whole request. It is `now`.
    ///
    /// # Errors
    /// One that may be tried elsewhere only where a pooled connection proved stale.
    pub async fn send(
        &mut self,
        head: Head,
        body: Pieces,
        (clocks, deadline): (&Clocks, Instant),
        now: Instant,
    ) -> Result<(), Error> {
        self.sent = Some(now);
        match self.link.send(head, body, clocks.write).await {
            Ok(()) => Ok(()),
            Err(Broken::Slow) if Instant::now() >= deadline => {
                Err(self.late("the upstream did not take the request in time"))
            }
            Err(Broken::Slow) => Err(self.slow("the upstream did not take the request in time")),
            Err(broken) => {
                let at = Instant::now();
                if self.answered_early().await { Ok(()) } else { Err(self.broken(&broken, Sent::Part, at)) }
            }
        }
    }

    /// Whether the upstream has answered without reading the whole request: it may refuse a body for its size.
    async fn answered_early(&mut self) -> bool {
        // Forebay's own HTTP/1 has looked for it already.
        let Link::Any(_) = self.link else { return false };
        let Ok(Ok(reply)) = timeout(EARLY, self.link.head()).await else { return false };
        let answered = reply.status >= 200;
        self.reply = Some(reply).filter(|_| answered);
        answered
    }

    /// Waits for the final response head, under no clock of its own. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Self::send`]; and where the head breaks the protocol.
    pub async fn head(&mut self) -> Result<(), Error> {
        if self.reply.is_some() {
            return Ok(());
        }
        for _ in 0..INTERIM {
            let reply = match self.link.head().await {
                Ok(reply) => reply,
                Err(broken) => return Err(self.broken(&broken, Sent::Whole, Instant::now())),
            };
            match reply.status {
                100 | 102..=199 if !self.link.is_h2() => {}
                // RFC 9110 §15.5.9: the peer has grown tired of an idle connection as the request was sent on it.
                408 if self.reused && self.link.closes() => {
                    return Err(self.broken(
                        &Broken::Refused("it answered 408".to_owned()),
                        Sent::Whole,
                        Instant::now(),
                    ));
                }
                200..=599 => {
                    self.learn(&reply);
                    self.reply = Some(self.unframe(reply));
                    return Ok(());
                }
                other => return Err(self.rude(&format!("it answered with status {other}"))),
            }
        }
        Err(self.rude("it sent interim responses without end"))
    }

    /// Takes in what the provider says of the rates of the key that was used, where another could be.
    fn learn(&mut self, reply: &Reply) {
        let Some(loan) = self.flight.loan_mut().filter(|loan| loan.listens()) else { return };
        let texts =
            reply.fields.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        loan.answered(&quota::read(texts, SystemTime::now()), Instant::now());
    }

    /// Looks whether the body comes in frames that its dialect does not have.
    fn unframe(&mut self, mut reply: Reply) -> Reply {
        if reply.fields.text(&CONTENT_TYPE).is_some_and(|media| self.cluster.spec.form.frames(media)) {
            self.unframed = Some(Box::default());
            headers::put(&mut reply, CONTENT_TYPE, "text/event-stream");
        }
        reply
    }

    /// The response head; there is one once [`Self::head`] returned, until it is taken.
    pub fn response(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }

    /// Takes the response head, so that what it was read into is not held for as long as its body.
    ///
    /// # Errors
    /// Where there is none, or it was taken before.
    pub fn take_response(&mut self) -> Result<Reply, Error> {
        self.reply.take().ok_or_else(|| Error::gateway(Kind::Internal, "the reply has no head"))
    }

    /// The next piece of the body, `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Kind::UpstreamFailed`] where the body broke off.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let piece = self.piece().await?;
            let Some(unframed) = &mut self.unframed else { return Ok(piece) };
            let mut out = Vec::new();
            let read = match &piece {
                Some(piece) => unframed.push(piece, &mut out),
                None => unframed.finish(),
            };
            read.map_err(|error| {
                self.judge(Outcome::Bad);
                error.again()
            })?;
            if piece.is_none() || !out.is_empty() {
                return Ok(piece.map(|_| out.into()));
            }
        }
    }

    /// The next piece of the body, as it is.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let read = self.link.body().await;
        read.map_err(|broken| {
            self.judge(Outcome::Bad);
            Error::upstream(Kind::UpstreamFailed, "the upstream broke off its reply")
                .because(format!("{}: {broken}", self.flight.endpoint().name))
                .again()
        })
    }

    /// Whether the end of the body is told only by the end of the connection, so that a cut looks like an end.
    pub fn ends_by_close(&self) -> bool {
        self.link.ends_by_close()
    }

    /// Notes how the endpoint did; the first judgement of an attempt counts.
    pub fn judge(&mut self, outcome: Outcome) {
        judge(&self.cluster, &mut self.flight, outcome, None);
    }

    /// The first content has come after that time; it is `now`.
    pub fn first_token(&mut self, took: Duration, now: Instant) {
        self.flight.endpoint().first_token(took);
        self.cluster.first_token(took, now);
        self.cluster.goes_well(&mut self.flight, Instant::now);
    }

    /// Where the request is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.flight.endpoint()
    }

    /// The cluster of the endpoint.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The exchange is over, and its place is free; only the end of the body is still to come.
    pub fn leave(&mut self) {
        self.flight.leave();
    }

    /// Keeps the connection for the next exchange. Only after the end of the body.
    pub async fn release(self) {
        drop(self.flight);
        self.cluster.links.release(self.link, &self.peer).await;
        // Where this is dropped before, the connection is looked after all the same.
        if let Some(lease) = self.lease {
            lease.returned();
        }
    }

    /// The upstream was too slow, or its connection is dead: nobody else is to wait on it.
    pub fn slow(&mut self, public: &'static str) -> Error {
        self.judge(Outcome::Bad);
        self.cluster.links.retire(&self.link, &self.peer);
        Error::upstream(Kind::UpstreamTimeout, public).because(&self.flight.endpoint().name).again()
    }

    /// The exchange's time is over, which says nothing of the upstream.
    pub fn late(&mut self, public: &'static str) -> Error {
        self.judge(Outcome::Neutral);
        Error::upstream(Kind::UpstreamTimeout, public).because(&self.flight.endpoint().name)
    }

    /// How long it may be waited for what comes next, `until` then at the most, before it is looked again whether the
    /// endpoint is still in service. It is `now`.
    ///
    /// # Errors
    /// It is not: its time is over.
    pub fn stretch(&mut self, now: Instant, until: Instant) -> Result<Duration, Error> {
        let endpoint = self.flight.endpoint();
        if endpoint.is_evicting() {
            return Err(self.evicted());
        }
        let stretch = until.saturating_duration_since(now).min(STRETCH);
        Ok(endpoint.time_left(now).map_or(stretch, |left| stretch.min(left.max(LEAST))))
    }

    /// The endpoint's time is over, which says nothing of how it did.
    pub fn evicted(&mut self) -> Error {
        self.judge(Outcome::Neutral);
        METRICS.drains.evicted.with_label_values(&[self.cluster.name()]).inc();
        Error::upstream(
            Kind::UpstreamFailed,
            "the upstream was taken out of service before its answer was over",
        )
        .because(format!("{}: its drain's deadline has come", self.flight.endpoint().name))
        .moved()
    }

    /// The exchange ends with this error, where the client sees it.
    pub fn ended_by(&self, error: &Error) {
        if error.retry == Retry::Moved {
            self.flight.endpoint().count_ended();
        }
    }

    /// The upstream broke HTTP.
    fn rude(&mut self, what: &str) -> Error {
        self.judge(Outcome::Bad);
        Error::upstream(Kind::UpstreamFailed, "the upstream's answer cannot be read")
            .because(format!("{}: {what}", self.flight.endpoint().name))
            .again()
    }

    /// A connection broke before the response head, `at` that time. A pooled one may have been closed by its peer before the request
    /// was on it; then the request can be sent again.
    fn broken(&mut self, broken: &Broken, sent: Sent, at: Instant) -> Error {
        let untouched = match broken {
            Broken::Refused(_) => true,
            Broken::Rude(what) => return self.rude(what),
            Broken::Slow => false,
            // A reset of an HTTP/2 stream may come in the middle of a request; after the whole of it, it is an answer.
            Broken::Failed(_) if sent == Sent::Whole || !self.link.is_h2() => false,
            Broken::Closed(_) | Broken::Failed(_) => {
                self.reused && self.sent.is_none_or(|sent| at.saturating_duration_since(sent) < STALE)
            }
        };
        if untouched {
            self.judge(Outcome::Neutral);
        } else {
            self.judge(Outcome::Bad);
        }
        let failed =
            Error::upstream(Kind::UpstreamFailed, "the upstream closed the connection without an answer")
                .because(format!("{}: {broken}", self.flight.endpoint().name));
        if untouched { failed.elsewhere() } else { failed.again() }
    }
}

/// The headers that prove a request to that target.
fn proven(proof: &Proof<'_>, endpoint: &Endpoint, target: [&str; 3], body: &[Bytes]) -> credential::Headers {
    if matches!(proof, Proof::None) {
        return credential::Headers::new();
    }
    let target = target.concat();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    proof.headers(&Proved { host: &endpoint.authority, path, query, body }, SystemTime::now())
}

/// A session with an endpoint: on a pooled connection, or on a new one to the first of its addresses that takes it.
async fn open(
    cluster: &Cluster,
    endpoint: &Endpoint,
    (clocks, deadline): (&Clocks, Instant),
    fresh: bool,
) -> Result<(Link, PeerHandle, bool), Error> {
    let mut failed = None;
    for _ in 0..endpoint.address_count() {
        let Some(peer) = endpoint.peer() else { break };
        if !fresh && let Some(link) = cluster.links.reuse(&peer) {
            return Ok((link, peer, true));
        }
        match connect(cluster, endpoint, &peer, (clocks, deadline)).await {
            Ok((link, reused)) => {
                endpoint.reached(&peer, true);
                return Ok((link, peer, reused));
            }
            // No other address would do better.
            Err(error) if !is_its_fault(&error) => return Err(error),
            Err(error) => {
                endpoint.reached(&peer, false);
                failed = Some(error);
            }
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
    (clocks, deadline): (&Clocks, Instant),
) -> Result<(Link, bool), Error> {
    let limit = clocks.connect + if endpoint.spec.origin.tls { clocks.tls } else { Duration::ZERO };
    match tokio::time::timeout(limit, cluster.links.connect(&peer.peer)).await {
        Ok(connected) => connected.map_err(|why| unreachable(endpoint, &why)),
        Err(_) => {
            let slow =
                Error::upstream(Kind::UpstreamTimeout, "the upstream did not accept a connection in time")
                    .because(format!("{} did not connect within {limit:?}", endpoint.name));
            // A client that has no patience says nothing of the upstream.
            Err(if Instant::now() >= deadline { slow } else { slow.elsewhere() })
        }
    }
}

/// Whether it is the endpoint that could not be connected to: not the exchange whose time was over, nor the process that
/// may open no more files.
fn is_its_fault(error: &Error) -> bool {
    error.retry != Retry::Never
}

fn judge(cluster: &Cluster, flight: &mut InFlight, outcome: Outcome, error: Option<&Error>) {
    if outcome == Outcome::Bad && !flight.is_judged() {
        let kind = error.map_or("broken", |error| match error.kind {
            Kind::UpstreamTimeout => "timeout",
            _ => "connect",
        });
        let labels = [&*cluster.spec.provider.name, cluster.name(), kind];
        METRICS.upstream.errors.with_label_values(&labels).inc();
    }
    cluster.report(flight, outcome, Instant::now);
}

fn unreachable(endpoint: &Endpoint, why: &str) -> Error {
    if lacks_files(why) {
        let public = "the gateway has no room for another connection; try again in a moment";
        return Error::gateway(Kind::Overloaded, public).because(why).after(1);
    }
    Error::upstream(Kind::UpstreamFailed, "the upstream cannot be reached")
        .because(format!("{}: {why}", endpoint.name))
        .elsewhere()
}
