//! One address of a cluster, with its live state.

mod drain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;

use super::admission::Permit;
use super::breaker::key::Trial;
use super::breaker::{Breaker, Pass, Policy};
use super::keys::{KeyUse, Loan};
use super::link::Prepared;
use super::origin::Origin;
use drain::Drain;
pub use drain::{Asked, By, Deadline, Draining, Duty, Eviction, Moving, Stage, Turn};

/// Which HTTP versions are spoken with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 only; without TLS by prior knowledge.
    Two,
    /// HTTP/2 where TLS negotiates it, HTTP/1.1 otherwise.
    Auto,
}

/// How TLS is spoken with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// The name sent as SNI and expected in the certificate; the host's where `None`.
    pub server_name: Option<String>,
    /// Whether the certificate is verified.
    pub verify: bool,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self { server_name: None, verify: true }
    }
}

/// Everything about an endpoint that is configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// Where it is.
    pub origin: Origin,
    /// Its share of the traffic relative to its neighbours; 0 takes none.
    pub weight: u32,
    /// Lower goes first under the priority strategy.
    pub priority: u32,
    /// Which HTTP versions are spoken.
    pub http: HttpVersion,
    /// How TLS is spoken.
    pub tls: TlsPolicy,
}

/// What the active check last found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Passing, or not checked yet.
    Up,
    /// Failing.
    Down,
}

/// One address of a cluster. Its counters survive a reload as long as its specification stays the same.
#[derive(Debug)]
pub struct Endpoint {
    /// What was configured.
    pub spec: EndpointSpec,
    /// `scheme://host:port`: its name in logs and metrics.
    pub name: String,
    /// The value of the `Host` header.
    pub authority: String,
    /// Whether it is left alone for its failures, and its exchanges under way.
    pub breaker: Breaker,
    down: AtomicBool,
    drain: Drain,
    probe_micros: AtomicU64,
    first_token_micros: AtomicU64,
    peers: ArcSwap<Vec<Prepared>>,
    turn: AtomicUsize,
    /// One bit for each of the first 64 addresses that could not be connected to when last tried.
    unreachable: AtomicU64,
}

impl Endpoint {
    /// An endpoint that is thought healthy. A numeric address is ready at once, a name once it is resolved.
    pub fn new(spec: EndpointSpec) -> Self {
        let endpoint = Self {
            name: spec.origin.to_string(),
            authority: spec.origin.authority(),
            breaker: Breaker::default(),
            down: AtomicBool::new(false),
            drain: Drain::default(),
            probe_micros: AtomicU64::new(0),
            first_token_micros: AtomicU64::new(0),
            peers: ArcSwap::from_pointee(Vec::new()),
            turn: AtomicUsize::new(0),
            unreachable: AtomicU64::new(0),
            spec,
        };
        if let Some(ip) = endpoint.spec.origin.ip() {
            endpoint.resolved(&[SocketAddr::new(ip, endpoint.spec.origin.port)]);
        }
        endpoint
    }

    /// The endpoint that takes the place of another at the same address: where that one drains, so does this.
    pub fn instead_of(spec: EndpointSpec, other: &Self) -> Self {
        Self { drain: Drain::like(&other.drain), ..Self::new(spec) }
    }

    /// Takes over the addresses its name resolves to. An empty list is ignored: the last good one stays.
    pub fn resolved(&self, addresses: &[SocketAddr]) {
        // An answer, even the same, is the time to try again what could not be reached.
        self.unreachable.store(0, Relaxed);
        let known = self.peers.load();
        let same = known.len() == addresses.len()
            && addresses
                .iter()
                .all(|address| known.iter().any(|known| known.peer._address.as_inet() == Some(address)));
        if addresses.is_empty() || same {
            return;
        }
        let peers = addresses.iter().map(|address| Prepared::new(peer(*address, &self.spec)));
        self.peers.store(Arc::new(peers.collect()));
    }

    /// The next address to connect to, in turn, past those that could not be reached; `None` while the name is not
    /// resolved.
    pub fn peer(&self) -> Option<PeerHandle> {
        let peers = self.peers.load_full();
        let count = peers.len();
        if count <= 1 {
            return (count == 1).then_some(PeerHandle { peers, turn: 0 });
        }
        let first = self.turn.fetch_add(1, Relaxed);
        let unreachable = self.unreachable.load(Relaxed);
        let turns = (first..first + count).map(|turn| turn % count);
        let turn = turns.clone().find(|turn| unreachable & bit(*turn) == 0).unwrap_or(first % count);
        Some(PeerHandle { peers, turn })
    }

    /// Notes whether that address could be connected to.
    pub fn reached(&self, peer: &PeerHandle, reached: bool) {
        if !reached {
            self.unreachable.fetch_or(bit(peer.turn), Relaxed);
        } else if self.unreachable.load(Relaxed) & bit(peer.turn) != 0 {
            self.unreachable.fetch_and(!bit(peer.turn), Relaxed);
        }
    }

    /// How many addresses there are to try.
    pub fn address_count(&self) -> usize {
        self.peers.load().len()
    }

    /// The resolved addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.load().iter().filter_map(|known| known.peer._address.as_inet().copied()).collect()
    }

    /// Exchanges under way.
    pub fn in_flight(&self) -> u32 {
        self.breaker.in_flight()
    }

    /// What the active check last found.
    pub fn health(&self) -> Health {
        if self.down.load(Relaxed) { Health::Down } else { Health::Up }
    }

    /// Notes what the active check found, and how long it took.
    pub fn probed(&self, health: Health, took: Duration) {
        self.down.store(health == Health::Down, Relaxed);
        self.probe_micros.store(micros(took), Relaxed);
    }

    /// How long the last active check took.
    pub fn probe_latency(&self) -> Duration {
        Duration::from_micros(self.probe_micros.load(Relaxed))
    }

    /// Whether it is in service and passes its checks, whatever its breaker says.
    pub fn is_up(&self) -> bool {
        self.health() == Health::Up && self.spec.weight > 0 && !self.is_draining()
    }

    /// Whether new exchanges may be sent here. It is `now`, in milliseconds since the epoch of [`millis`].
    ///
    /// [`millis`]: super::breaker::millis
    pub fn available(&self, now: u64, policy: &Policy) -> bool {
        self.is_up() && (self.breaker.is_closed() || self.breaker.admits(now, policy))
    }

    /// Its weight as of now, in hundredths: less for a while after it was left alone.
    pub fn weight(&self, now: u64, policy: &Policy) -> u64 {
        u64::from(self.spec.weight) * u64::from(self.breaker.share(now, policy))
    }

    /// Notes the time to first token of an exchange: an exponential average with a weight of 1/8 for the newest.
    pub fn first_token(&self, took: Duration) {
        let sample = micros(took).max(1);
        // A lost update between threads loses one sample of an average.
        let old = self.first_token_micros.load(Relaxed);
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        self.first_token_micros.store(new.max(1), Relaxed);
    }

    /// The average time to first token; zero while there is none.
    pub fn average_first_token(&self) -> Duration {
        Duration::from_micros(self.first_token_micros.load(Relaxed))
    }

    /// Counts an exchange in, with what its breaker let it pass with; it is counted out when the guard is dropped,
    /// whatever happened to it.
    pub fn enter(self: &Arc<Self>, pass: Pass) -> InFlight {
        self.breaker.enter();
        InFlight { endpoint: Arc::clone(self), pass, stage: Step::Open, trial: None, permit: None, key: None }
    }
}

/// How an attempt at an endpoint ended, as far as the endpoint's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Good,
    /// It failed by its own fault.
    Bad,
    /// The client left or was refused: says nothing of the endpoint.
    Neutral,
}

/// How far an exchange has come at its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing is said of it yet.
    Open,
    /// It was judged.
    Judged(Outcome),
    /// It is counted out.
    Left,
}

/// One exchange at one endpoint.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    pass: Pass,
    stage: Step,
    /// There is one while it is tried whether the credential is accepted again.
    trial: Option<Trial>,
    /// Its place among those that its cluster lets in, where not all are.
    permit: Option<Arc<Permit>>,
    /// The key that it has taken, where its cluster has several or one that changes.
    key: Option<Box<Loan>>,
}

impl InFlight {
    /// The exchange is over before this is dropped.
    pub fn leave(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Step::Left);
        if stage != Step::Left {
            self.endpoint.breaker.leave(self.pass, stage == Step::Judged(Outcome::Good));
            self.permit = None;
        }
    }

    /// Notes how the endpoint did. Says whether that counts: only the first judgement does.
    pub(super) fn judge(&mut self, outcome: Outcome) -> bool {
        let counts = self.stage == Step::Open;
        if counts {
            self.stage = Step::Judged(outcome);
        }
        counts
    }

    /// Whether it was judged, or has left.
    pub fn is_judged(&self) -> bool {
        self.stage != Step::Open
    }

    /// What its breaker let it pass with.
    pub(super) fn pass(&mut self) -> &mut Pass {
        &mut self.pass
    }

    /// Makes it a trial of its credential.
    pub(super) fn trying(mut self, trial: Option<Trial>) -> Self {
        self.trial = trial;
        self
    }

    /// It is sent: from now on its place is in use.
    pub fn begins(&self) {
        if let Some(permit) = &self.permit {
            permit.begins();
        }
    }

    /// It holds that place until it is over.
    #[must_use]
    pub fn permitted(mut self, permit: Option<Arc<Permit>>) -> Self {
        self.permit = permit;
        self
    }

    /// It is proved with that key, and tries it where that was refused before.
    #[must_use]
    pub fn keyed(mut self, key: Option<Box<Loan>>) -> Self {
        self.key = key;
        if let Some(trial) = self.key.as_mut().and_then(|key| key.take_trial()) {
            self.trial = Some(trial);
        }
        self
    }

    /// The key that it has taken.
    pub fn key(&self) -> Option<&KeyUse> {
        self.key.as_ref().map(|key| key.used())
    }

    /// What it has taken of its cluster's keys.
    pub fn loan(&self) -> Option<&Loan> {
        self.key.as_deref()
    }

    /// The same, to tell it what was answered.
    pub fn loan_mut(&mut self) -> Option<&mut Loan> {
        self.key.as_deref_mut()
    }

    /// The trial of its credential, which ends with this.
    pub(super) fn take_trial(&mut self) -> Option<Trial> {
        self.trial.take()
    }

    /// Where the exchange is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A prepared peer, borrowed from its endpoint without copying it.
#[derive(Clone, Debug)]
pub struct PeerHandle {
    peers: Arc<Vec<Prepared>>,
    turn: usize,
}

impl std::ops::Deref for PeerHandle {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.peers[self.turn]
    }
}

fn bit(turn: usize) -> u64 {
    u32::try_from(turn).ok().and_then(|turn| 1_u64.checked_shl(turn)).unwrap_or(0)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Windows: a stream may hold 1 MiB of what its client has not read, a connection 16 MiB, so that one stalled
/// stream does not stop its neighbours.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 1 << 24;

/// How often an HTTP/2 peer is asked whether it is still there; Pingora waits 5 seconds for the answer. One that has
/// vanished would otherwise be given every exchange of its endpoint, as long as clients leave before a clock runs out.
const H2_PING: Duration = Duration::from_secs(10);

fn peer(address: SocketAddr, spec: &EndpointSpec) -> HttpPeer {
    let name = spec.tls.server_name.as_ref().unwrap_or(&spec.origin.host);
    let mut peer = HttpPeer::new(address, spec.origin.tls, name.clone());
    let options = &mut peer.options;
    options.verify_cert = spec.tls.verify;
    options.verify_hostname = spec.tls.verify;
    options.alpn = match spec.http {
        HttpVersion::One => ALPN::H1,
        HttpVersion::Two => ALPN::H2,
        // Without TLS nothing negotiates, and a node that speaks h2c is asked for by name.
        HttpVersion::Auto if spec.origin.tls => ALPN::H2H1,
        HttpVersion::Auto => ALPN::H1,
    };
    options.max_h2_streams = 100;
    options.h2_stream_window_size = Some(H2_STREAM_WINDOW);
    options.h2_connection_window_size = Some(H2_CONNECTION_WINDOW);
    options.h2_ping_interval = Some(H2_PING);
    // The pool's key holds neither the HTTP version nor the CA: keep such connections apart.
    peer.group_key = spec.http as u64;
    peer
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn endpoint(url: &str, weight: u32, priority: u32) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(EndpointSpec {
            origin: Origin::parse(url, "/v1").unwrap(),
            weight,
            priority,
            http: HttpVersion::One,
            tls: TlsPolicy::default(),
        }))
    }

    #[test]
    fn in_flight_is_released_by_drop() {
        let endpoint = endpoint("http://127.0.0.1:1", 1, 0);
        let first = endpoint.enter(Pass::Beside);
        let second = endpoint.enter(Pass::Beside);
        assert_eq!(endpoint.in_flight(), 2);
        drop(first);
        assert_eq!(second.endpoint().in_flight(), 1);
        let mut second = second;
        second.leave();
        assert_eq!(endpoint.in_flight(), 0);
        drop(second);
        assert_eq!(endpoint.in_flight(), 0, "it left once");
    }

    #[test]
    fn a_name_has_no_peer_until_it_is_resolved_and_keeps_its_last_addresses() {
        let endpoint = endpoint("http://node.example:8000", 1, 0);
        assert!(endpoint.peer().is_none());
        let addresses: [SocketAddr; 2] =
            ["127.0.0.2:8000".parse().unwrap(), "127.0.0.3:8000".parse().unwrap()];
        endpoint.resolved(&addresses);
        let seen: Vec<_> =
            (0..4).map(|_| endpoint.peer().unwrap().peer._address.as_inet().copied().unwrap()).collect();
        assert_eq!(seen, [addresses[0], addresses[1], addresses[0], addresses[1]]);
        endpoint.resolved(&[]);
        assert_eq!(endpoint.addresses(), addresses);
    }

    #[test]
    fn an_address_that_cannot_be_reached_is_passed_over_until_the_name_is_resolved_again() {
        let endpoint = endpoint("http://node.example:8000", 1, 0);
        let addresses: [SocketAddr; 2] = ["127.0.0.2:1".parse().unwrap(), "127.0.0.3:1".parse().unwrap()];
        endpoint.resolved(&addresses);
        let next = || endpoint.peer().unwrap();
        let address = |handle: &PeerHandle| handle.peer._address.as_inet().copied().unwrap();
        let bad = next();
        endpoint.reached(&bad, false);
        assert!((0..6).all(|_| address(&next()) != address(&bad)));
        let other = next();
        endpoint.reached(&other, false);
        assert!(endpoint.peer().is_some(), "where none can be reached, any is tried");
        endpoint.reached(&other, true);
        assert!((0..6).all(|_| address(&next()) == address(&other)));
        endpoint.resolved(&addresses);
        let seen: Vec<_> = (0..2).map(|_| address(&next())).collect();
        assert!(seen.contains(&address(&bad)));
    }

    #[test]
    fn the_first_token_average_follows_its_samples() {
        let endpoint = endpoint("http://127.0.0.1:1", 1, 0);
        endpoint.first_token(Duration::from_millis(80));
        assert_eq!(endpoint.average_first_token(), Duration::from_millis(80));
        endpoint.first_token(Duration::from_millis(160));
        assert_eq!(endpoint.average_first_token(), Duration::from_millis(90));
    }
}
