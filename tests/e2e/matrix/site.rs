//! The upstreams of a row's cells, and the edge before them.

use std::fmt;
use std::net::SocketAddr;

use forebay::sim::{Config, FaultRule, Sim};

use crate::support::absent::{BlackHole, Closed};
use crate::support::{Edge, sim};

/// What is wrong with the upstream that is asked first.
#[derive(Clone, Copy)]
pub(super) enum Sick {
    /// A simulator with that fault, at every request.
    Always(&'static str),
    /// A simulator with that fault at one request, on a connection that has served before.
    Pooled(&'static str),
    /// Nobody listens.
    Refuses,
    /// Nobody answers: the queue of connections is full.
    BlackHole,
}

impl fmt::Display for Sick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(fault) => f.write_str(fault),
            Self::Pooled(fault) => write!(f, "{fault} on a pooled connection"),
            Self::Refuses => f.write_str("connections are refused"),
            Self::BlackHole => f.write_str("a black hole"),
        }
    }
}

/// What the upstream speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Http {
    One,
    Two,
}

/// What is left beside the sick upstream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Endpoint,
    Deployment,
    Nothing,
}

/// One cell's upstreams.
pub(super) struct Case {
    /// Its model, and its cluster; that of a second deployment has a `b` behind it.
    pub(super) name: String,
    pub(super) stream: bool,
    pub(super) http: Http,
    pub(super) left: Left,
    pub(super) sick: Upstream,
    pub(super) spare: Option<Sim>,
}

/// An upstream that can be cured.
pub(super) struct Upstream {
    addr: SocketAddr,
    state: State,
}

enum State {
    Sim(Sim),
    Closed { _keeps: Closed },
    BlackHole { _keeps: BlackHole },
    Cured,
}

/// An edge, and the cells that are tried on it.
pub(super) struct Site {
    pub(super) edge: Edge,
    pub(super) cases: Vec<Case>,
}

/// Breakers are left out: they have tests of their own.
pub(super) const SETTINGS: &str =
    "balance: priority, breaker: {failures: 0, failure_rate: 0}, health: {check: none}";

/// Clocks for what would last for ever.
pub(super) const SHORT: &str =
    ", clocks: {connect: 800ms, head: 800ms, first_token: 800ms, gap: 800ms, attempt: 1200ms}";

impl Site {
    /// The cells of a fault, for streams or for whole replies, in clusters with these clocks.
    pub(super) async fn start(sick: Sick, stream: bool, clocks: &str) -> Self {
        let mut cases = Vec::new();
        for http in [Http::One, Http::Two] {
            for left in [Left::Endpoint, Left::Deployment, Left::Nothing] {
                let spare = match left {
                    Left::Nothing => None,
                    Left::Endpoint | Left::Deployment => Some(sim(Config::default()).await),
                };
                let (name, sick) = (format!("c{}", cases.len()), Upstream::start(sick).await);
                cases.push(Case { name, stream, http, left, sick, spare });
            }
        }
        let (clusters, models): (Vec<String>, Vec<String>) =
            cases.iter().map(|case| (case.clusters(clocks), case.model())).unzip();
        let config = format!(
            "retry: {{attempts: 3, delay: 1ms}}\nclusters:\n{}models:\n{}",
            clusters.concat(),
            models.concat()
        );
        Self { edge: Edge::start(&config).await, cases }
    }
}

impl Case {
    fn clusters(&self, clocks: &str) -> String {
        let http = match self.http {
            Http::One => "1.1",
            Http::Two => "2",
        };
        let cluster = |name: &str, addresses: &[SocketAddr]| {
            let endpoints: Vec<String> = addresses
                .iter()
                .enumerate()
                .map(|(number, address)| format!("{{url: \"http://{address}\", priority: {number}}}"))
                .collect();
            let endpoints = endpoints.join(", ");
            format!(
                "  {name}: {{provider: simulator, http: \"{http}\", endpoints: [{endpoints}], {SETTINGS}{clocks}}}\n"
            )
        };
        let (name, first) = (&self.name, self.sick.addr);
        match (self.left, &self.spare) {
            (Left::Endpoint, Some(spare)) => cluster(name, &[first, spare.addr()]),
            (Left::Deployment, Some(spare)) => {
                cluster(name, &[first]) + &cluster(&format!("{name}b"), &[spare.addr()])
            }
            _ => cluster(name, &[first]),
        }
    }

    fn model(&self) -> String {
        let name = &self.name;
        match self.left {
            Left::Deployment => {
                format!(
                    "  {name}: {{deployments: [{{cluster: {name}}}, {{cluster: {name}b, priority: 1}}]}}\n"
                )
            }
            Left::Endpoint | Left::Nothing => format!("  {name}: {{deployments: [{{cluster: {name}}}]}}\n"),
        }
    }

    /// How many connections the edge may keep when all is over.
    pub(super) fn upstreams(&self) -> f64 {
        if self.spare.is_some() { 2.0 } else { 1.0 }
    }
}

impl Upstream {
    async fn start(sick: Sick) -> Self {
        match sick {
            Sick::Always(fault) => Self::of(FaultRule { fault: fault.into(), ..FaultRule::default() }).await,
            Sick::Pooled(fault) => {
                let rule = FaultRule { fault: fault.into(), first: Some(1), ..FaultRule::default() };
                let upstream = Self::of(rule).await;
                upstream.strikes(false);
                upstream
            }
            Sick::Refuses => {
                let closed = Closed::new();
                Self { addr: closed.addr, state: State::Closed { _keeps: closed } }
            }
            Sick::BlackHole => {
                let hole = BlackHole::new().await;
                Self { addr: hole.addr, state: State::BlackHole { _keeps: hole } }
            }
        }
    }

    async fn of(rule: FaultRule) -> Self {
        let sim = sim(Config { faults: vec![rule], ..Config::default() }).await;
        Self { addr: sim.addr(), state: State::Sim(sim) }
    }

    fn strikes(&self, on: bool) {
        if let State::Sim(sim) = &self.state {
            sim.strikes(on);
        }
    }

    /// From now on it is sick, if it was not before. Forgets what it was asked.
    pub(super) fn sicken(&self) {
        self.strikes(true);
        if let State::Sim(sim) = &self.state {
            sim.stats().reset();
        }
    }

    /// From now on nothing is wrong with it.
    pub(super) async fn cure(&mut self) {
        self.strikes(false);
        if self.sim().is_none() {
            // What keeps the address must be gone before another can have it.
            self.state = State::Cured;
            self.state = State::Sim(Sim::start(Config::default(), self.addr).await.unwrap());
        }
    }

    /// The simulator, if it is one.
    pub(super) fn sim(&self) -> Option<&Sim> {
        match &self.state {
            State::Sim(sim) => Some(sim),
            State::Closed { .. } | State::BlackHole { .. } | State::Cured => None,
        }
    }
}
