//! Endpoints that share a provider, a credential, a balancing strategy and a health policy.

mod breakers;
mod drains;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};

use super::admission::{self, Gate};
use super::balance::{Balancer, Chance, Moment, Strategy, Trials};
use super::breaker::key::Key;
use super::breaker::{Policy, millis};
use super::discover::Discovery;
pub use super::endpoint::Outcome;
use super::endpoint::{Endpoint, EndpointSpec, InFlight};
use super::hedge::Hedging;
use super::link::Links;
use super::probe::Probing;
use super::rest::Rests;
use super::spill::{self, Spill};
use crate::clocks::Overrides;
use crate::dialect::Operation;
use crate::dialect::form::Form;
use crate::dialect::translate::Passage;
use crate::limit::Bound;
use crate::meter::series::ClusterSeries;
use crate::provider::credential::Source;
use crate::provider::{Kind, Provider};
use drains::Drains;
pub use drains::{Somewhere, keep_draining};

/// Everything about a cluster that is configured.
#[derive(Debug)]
pub struct ClusterSpec {
    /// Its name in configuration, logs and metric labels.
    pub name: String,
    /// Who runs the API.
    pub provider: Arc<Provider>,
    /// Where it is, as far as that is known: what residency goes by.
    pub region: Option<String>,
    /// What it can be asked, the best first: what its provider speaks, or what the configuration says.
    pub speaks: Vec<Operation>,
    /// The form in which it is asked.
    pub form: Form,
    /// Whether it is asked for a stream where a client asks for a whole reply.
    pub fold: bool,
    /// Whether a stream of it that breaks off is gone on with elsewhere.
    pub continues: bool,
    /// Where the proof comes from that requests carry besides the headers below.
    pub credential: Source,
    /// Headers put on every request: the credential, and what the configuration adds. Marked sensitive where secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What ids are signed with that only it knows. It says nothing of the credential that it may come from.
    pub seal: [u8; 32],
    /// Where it is, to begin with.
    pub endpoints: Vec<EndpointSpec>,
    /// Where its endpoints are found later.
    pub discovery: Discovery,
    /// How an endpoint is chosen.
    pub strategy: Strategy,
    /// When an endpoint, or the credential, is left alone.
    pub breaker: Policy,
    /// How many exchanges may be under way at once; nothing where as many as come.
    pub admission: Option<admission::Policy>,
    /// When requests go to other deployments although it could be asked; nothing where they never do.
    pub spill: Option<spill::Policy>,
    /// How much may be used of it.
    pub limits: Arc<Bound>,
    /// When a second attempt is made beside one that is slow; never, where it says nothing.
    pub hedge: Option<Hedging>,
    /// How endpoints are checked.
    pub probing: Probing,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// Clocks of its own.
    pub clocks: Overrides,
}

impl ClusterSpec {
    /// How an operation gets there and back; nothing where it cannot.
    pub fn passage(&self, asked: Operation) -> Option<Passage> {
        Passage::of(asked, &self.speaks)
    }
}

/// A cluster at run time.
pub struct Cluster {
    /// What was configured.
    pub spec: ClusterSpec,
    /// Its connections.
    pub links: Arc<Links>,
    /// Its series.
    pub series: ClusterSeries,
    /// What may be sent again.
    pub budget: Budget,
    /// What may be sent a second time while the first is waited for.
    pub hedges: Budget,
    /// Whether its credential is accepted.
    pub key: Arc<Key>,
    /// Who lets exchanges in, where not all are.
    pub gate: Option<Arc<Gate>>,
    /// Whether requests go elsewhere, where they ever do.
    pub spill: Option<Spill>,
    rests: Rests,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    drains: Drains,
    /// Whether any endpoint is left alone, tried or still coming back, as of when the lock below was last held.
    unsettled: AtomicBool,
    /// Held while a breaker opens or closes, so that no two open that may not both.
    changing: Mutex<()>,
    balancer: Balancer,
}

/// What may be sent again of a cluster's requests: each first attempt pays in a share of an attempt, each further one
/// takes a whole one out. So a cluster whose every request fails gets little more than it would without retries.
#[derive(Debug)]
pub struct Budget {
    /// Thousandths of an attempt.
    saved: AtomicI64,
}

/// What a cluster begins with, and what it can save: a few failures in a quiet hour are always tried again.
const SAVED: i64 = 10_000;

impl Default for Budget {
    fn default() -> Self {
        Self { saved: AtomicI64::new(SAVED) }
    }
}

impl Budget {
    /// A first attempt is made; `share` is in thousandths.
    pub fn pay_in(&self, share: u32) {
        if self.saved.load(Relaxed) < SAVED {
            let more = |saved: i64| (saved < SAVED).then(|| (saved + i64::from(share)).min(SAVED));
            let _ = self.saved.fetch_update(Relaxed, Relaxed, more);
        }
    }

    /// Whether another attempt may be made; it is paid for.
    pub fn take(&self) -> bool {
        let less = |saved: i64| (saved >= 1000).then(|| saved - 1000);
        self.saved.fetch_update(Relaxed, Relaxed, less).is_ok()
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster whose endpoints are thought healthy.
    pub fn new(spec: ClusterSpec, links: Arc<Links>) -> Self {
        let endpoints = spec.endpoints.iter().cloned().map(Endpoint::new).map(Arc::new).collect();
        Self {
            budget: Budget::default(),
            hedges: Budget::default(),
            key: Arc::default(),
            rests: Rests::new(is_limited_by_node(&spec)),
            gate: spec.admission.map(|policy| Arc::new(Gate::new(&spec.name, policy))),
            spill: spec.spill.map(Spill::new),
            drains: Drains::default(),
            unsettled: AtomicBool::new(false),
            changing: Mutex::default(),
            balancer: Balancer::new(spec.strategy),
            endpoints: ArcSwap::from_pointee(endpoints),
            links,
            series: ClusterSeries::new(&spec.provider.name, &spec.name),
            spec,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its endpoints as of now.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Picks an endpoint that was not tried yet and counts the exchange in. One that was left alone for long enough is
    /// tried first, by an exchange that has not failed anywhere yet.
    pub fn pick(&self, now: Instant, chance: &mut impl Chance, tried: &[Arc<Endpoint>]) -> Option<InFlight> {
        let trials = if tried.is_empty() { Trials::First } else { Trials::Last };
        self.pick_among(now, chance, trials, |endpoint| is_untried(endpoint, tried))
    }

    /// As [`Self::pick`], for a second attempt beside another: only an endpoint that is well is troubled with one.
    pub fn pick_well(
        &self,
        now: Instant,
        chance: &mut impl Chance,
        tried: &[Arc<Endpoint>],
    ) -> Option<InFlight> {
        self.pick_among(now, chance, Trials::Last, |endpoint| {
            endpoint.is_up() && endpoint.breaker.is_closed() && is_untried(endpoint, tried)
        })
    }

    fn pick_among(
        &self,
        now: Instant,
        chance: &mut impl Chance,
        trials: Trials,
        usable: impl Fn(&Endpoint) -> bool,
    ) -> Option<InFlight> {
        let endpoints = self.endpoints.load();
        let trials = if self.unsettled.load(Relaxed) { trials } else { Trials::None };
        let time = if trials == Trials::None { 0 } else { millis(now) };
        let moment = Moment { now: time, policy: &self.spec.breaker, trials };
        let flight = self.balancer.pick(&endpoints, moment, chance, usable)?;
        Some(self.entered(flight, now, trials))
    }

    /// Whether any endpoint may take new exchanges.
    pub fn available(&self, now: Instant) -> bool {
        let endpoints = self.endpoints.load();
        let is_well = |endpoint: &Arc<Endpoint>| endpoint.is_up() && endpoint.breaker.is_closed();
        endpoints.iter().any(is_well) || {
            let now = millis(now);
            endpoints.iter().any(|endpoint| endpoint.available(now, &self.spec.breaker))
        }
    }

    /// Whether it has an endpoint in service that is none of these.
    pub fn has_besides(&self, tried: &[Arc<Endpoint>]) -> bool {
        let is_new = |endpoint: &Arc<Endpoint>| !tried.iter().any(|known| Arc::ptr_eq(known, endpoint));
        let takes = |endpoint: &Arc<Endpoint>| endpoint.spec.weight > 0 && !endpoint.is_draining();
        self.endpoints.load().iter().any(|endpoint| takes(endpoint) && is_new(endpoint))
    }

    /// Whether its credential is accepted, or due to be tried.
    pub fn has_key(&self, now: Instant) -> bool {
        self.key.is_accepted() || self.key.admits(millis(now))
    }

    /// Whether requests that may go elsewhere should.
    pub fn is_away(&self, now: Instant) -> bool {
        let Some(spill) = &self.spill else { return false };
        let now = millis(now);
        spill.is_away(now, || self.sick_share(now), |state| self.tell_spill(state))
    }

    /// Whether its requests come here, all of them.
    pub fn is_here(&self) -> bool {
        self.spill.as_ref().is_none_or(|spill| spill.state() == spill::State::Here)
    }

    /// Whether one that would have to wait for a place should rather go elsewhere.
    pub fn spares_the_wait(&self) -> bool {
        let (Some(spill), Some(gate)) = (&self.spill, &self.gate) else { return false };
        spill.spares_the_wait(gate.expected_wait(), |spares| self.tell_wait(spares))
    }

    /// A first token has come after that time.
    pub fn first_token(&self, took: Duration, now: Instant) {
        if let Some(gate) = &self.gate {
            gate.first_token(took, now);
        }
        if let Some(spill) = &self.spill {
            spill.first_token(took, millis(now));
        }
    }

    /// How much longer a model is left alone for its rate, wherever it could be asked.
    pub fn rests<'m>(&self, model: &dyn Fn() -> Cow<'m, str>, now: Instant) -> Option<Duration> {
        if self.rests.any(now) { self.rests.left(model, &self.endpoints.load(), now) } else { None }
    }

    /// A model is left alone until then, by what was said at that endpoint.
    pub fn rest_until(&self, (model, endpoint): (&str, &Endpoint), at: Instant, now: Instant) {
        self.rests.until((model, endpoint), at, now);
    }

    /// Adds the endpoints at which a model is left alone for its rate.
    pub fn leave_out<'m>(
        &self,
        model: &dyn Fn() -> Cow<'m, str>,
        now: Instant,
        out: &mut impl Extend<Arc<Endpoint>>,
    ) {
        if self.rests.any(now) {
            self.rests.leave_out(model, &self.endpoints.load(), now, out);
        }
    }

    /// Takes over a new set of endpoints. One that was there before keeps its counters, health and exchanges. One that
    /// drains goes on draining, also where its weight has changed, and is kept in mind where it leaves.
    pub fn replace(&self, specs: Vec<EndpointSpec>) {
        let _changing = self.changing();
        let known: Vec<Arc<Endpoint>> = self.everywhere().into_iter().map(|known| known.endpoint).collect();
        let named = |spec: &EndpointSpec| known.iter().find(|endpoint| endpoint.spec.origin == spec.origin);
        let endpoints: Vec<Arc<Endpoint>> = specs
            .into_iter()
            .map(|spec| match known.iter().find(|endpoint| endpoint.spec == spec) {
                Some(endpoint) => Arc::clone(endpoint),
                None => Arc::new(match named(&spec) {
                    Some(endpoint) => Endpoint::instead_of(spec, endpoint),
                    None => Endpoint::new(spec),
                }),
            })
            .collect();
        self.drains.leave(known, &endpoints);
        self.endpoints.store(Arc::new(endpoints));
        self.count_sick(millis(Instant::now()));
    }
}

fn is_untried(endpoint: &Endpoint, tried: &[Arc<Endpoint>]) -> bool {
    !tried.iter().any(|tried| std::ptr::eq(&**tried, endpoint))
}

/// Whether what refuses its requests for a rate is a node, and not an account: where engines of one's own run, or no key is
/// sent.
fn is_limited_by_node(spec: &ClusterSpec) -> bool {
    let bears_none = !spec.headers.iter().any(|(_, value)| value.is_sensitive());
    spec.provider.kind == Kind::Engine || (bears_none && matches!(spec.credential, Source::Headers))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::breaker::Pass;
    use super::super::endpoint::{Health, HttpVersion, TlsPolicy};
    use super::super::origin::Origin;
    use super::*;

    pub(crate) fn spec(url: &str) -> EndpointSpec {
        EndpointSpec {
            origin: Origin::parse(url, "/v1").unwrap(),
            weight: 1,
            priority: 0,
            http: HttpVersion::One,
            tls: TlsPolicy::default(),
        }
    }

    pub(crate) fn cluster(name: &str, urls: &[&str]) -> Cluster {
        Cluster::new(cluster_spec(name, urls), Links::new(name, 4, Duration::from_secs(1), None))
    }

    /// A cloud's, whose requests are proved by a key.
    pub(crate) fn keyed(name: &str, urls: &[&str]) -> Cluster {
        let mut key = HeaderValue::from_static("Bearer key");
        key.set_sensitive(true);
        let headers = vec![(http::header::AUTHORIZATION, key)];
        let provider = Arc::clone(crate::provider::find("openai").unwrap());
        let spec = ClusterSpec { headers, provider, ..cluster_spec(name, urls) };
        Cluster::new(spec, Links::new(name, 4, Duration::from_secs(1), None))
    }

    fn cluster_spec(name: &str, urls: &[&str]) -> ClusterSpec {
        ClusterSpec {
            name: name.to_owned(),
            provider: Arc::clone(crate::provider::find("vllm").unwrap()),
            region: None,
            form: Form::Own,
            fold: false,
            continues: false,
            credential: Source::Headers,
            seal: [0; 32],
            speaks: crate::provider::find("vllm").unwrap().speaks.to_vec(),
            headers: Vec::new(),
            endpoints: urls.iter().map(|url| spec(url)).collect(),
            discovery: Discovery::Static,
            strategy: Strategy::default(),
            breaker: Policy { failures: 2, ..Policy::default() },
            admission: None,
            spill: None,
            limits: Arc::default(),
            hedge: None,
            probing: Probing::off(),
            pool_idle: Duration::from_secs(1),
            clocks: Overrides::default(),
        }
    }

    /// So many exchanges fail there.
    fn fail(cluster: &Cluster, endpoint: &Arc<Endpoint>, times: usize, now: Instant) {
        for _ in 0..times {
            let pass = endpoint.breaker.pass(millis(now), &cluster.spec.breaker);
            let mut flight = endpoint.enter(pass.unwrap_or(Pass::Beside));
            cluster.report(&mut flight, Outcome::Bad, || now);
        }
    }

    /// How many endpoints are left alone.
    fn open(cluster: &Cluster) -> usize {
        cluster.endpoints().iter().filter(|endpoint| !endpoint.breaker.is_closed()).count()
    }

    #[test]
    fn a_budget_is_a_share_of_what_was_paid_in_and_a_reserve() {
        let budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
        (0..1000).for_each(|_| budget.pay_in(100));
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10, "no more is saved than the reserve");
        let again = (0..1000).filter(|_| {
            budget.pay_in(100);
            budget.take()
        });
        assert_eq!(again.count(), 100);
    }

    #[test]
    fn no_more_are_left_alone_than_the_largest_share() {
        let cluster = cluster("gpu", &["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]);
        let (now, endpoints) = (Instant::now(), cluster.endpoints());
        for endpoint in endpoints.iter() {
            fail(&cluster, endpoint, 2, now);
        }
        assert_eq!(open(&cluster), 1, "half of three, rounded down");
        assert!(cluster.available(now));
    }

    #[test]
    fn threads_that_see_failures_at_once_do_not_pass_the_largest_share() {
        let urls: Vec<_> = (1..=6).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        for _ in 0..50 {
            let (cluster, now) = (cluster("gpu", &urls), Instant::now());
            let start = std::sync::Barrier::new(urls.len());
            std::thread::scope(|scope| {
                for endpoint in cluster.endpoints().iter() {
                    let (cluster, start, endpoint) = (&cluster, &start, Arc::clone(endpoint));
                    scope.spawn(move || {
                        start.wait();
                        fail(cluster, &endpoint, 20, now);
                    });
                }
            });
            assert_eq!(open(&cluster), 3, "half of six");
        }
    }

    #[test]
    fn a_lone_endpoint_is_never_left_alone() {
        let cluster = cluster("one", &["http://127.0.0.1:1"]);
        let now = Instant::now();
        let endpoint = Arc::clone(&cluster.endpoints()[0]);
        fail(&cluster, &endpoint, 10, now);
        assert_eq!(open(&cluster), 0);
        assert!(cluster.available(now));
    }

    #[test]
    fn replacing_endpoints_keeps_the_state_of_those_that_stay() {
        let cluster = cluster("gpu", &["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let kept = Arc::clone(&cluster.endpoints()[1]);
        let guard = kept.enter(Pass::Beside);
        cluster.replace(vec![spec("http://127.0.0.1:2"), spec("http://127.0.0.1:9")]);
        let now = cluster.endpoints();
        assert!(Arc::ptr_eq(&now[0], &kept));
        assert_eq!((now[0].in_flight(), now[1].in_flight()), (1, 0));
        drop(guard);
        assert_eq!(now[0].in_flight(), 0);
    }

    #[test]
    fn a_second_attempt_goes_only_where_all_is_well() {
        let cluster = cluster("gpu", &["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]);
        let (mut rng, now, endpoints) = (fastrand::Rng::with_seed(3), Instant::now(), cluster.endpoints());
        let tried = vec![Arc::clone(&endpoints[0])];
        fail(&cluster, &endpoints[1], 2, now);
        for _ in 0..10 {
            let second = cluster.pick_well(now, &mut rng, &tried).unwrap();
            assert!(Arc::ptr_eq(second.endpoint(), &endpoints[2]));
        }
        endpoints[2].probed(Health::Down, Duration::ZERO);
        assert!(cluster.pick_well(now, &mut rng, &tried).is_none());
        assert!(
            cluster.pick(now, &mut rng, &tried).is_some(),
            "a failed one is picked where there is no other"
        );
    }

    #[test]
    fn what_was_tried_is_not_picked_again() {
        let cluster = cluster("gpu", &["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let mut rng = fastrand::Rng::with_seed(3);
        let first = cluster.pick(Instant::now(), &mut rng, &[]).unwrap();
        let tried = vec![Arc::clone(first.endpoint())];
        let second = cluster.pick(Instant::now(), &mut rng, &tried).unwrap();
        assert!(!Arc::ptr_eq(first.endpoint(), second.endpoint()));
        let tried = vec![Arc::clone(first.endpoint()), Arc::clone(second.endpoint())];
        assert!(cluster.pick(Instant::now(), &mut rng, &tried).is_none());
    }
}
