//! Model aliases: the names clients send, and the deployments they stand for.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::HeaderName;
use smallvec::SmallVec;

use crate::clocks::Overrides;
use crate::dialect::Operation;
use crate::meter::series::DeploymentSeries;
use crate::pattern::Pattern;
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::hedge::Waits;

/// A place an alias can go.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Where.
    pub cluster: Arc<Cluster>,
    /// What the model is called there.
    pub model: UpstreamModel,
    /// Its share of the traffic relative to its neighbours of the same priority.
    pub weight: u32,
    /// Lower goes first; higher is used when nothing lower is available.
    pub priority: u32,
    /// Its series.
    pub series: Arc<DeploymentSeries>,
    /// Until when its rate is used up.
    pub rest: Arc<Rest>,
    /// How long its attempts took of late; kept only where its cluster makes second attempts beside slow ones.
    pub waits: Option<Arc<Waits>>,
}

/// Until when a model is left alone that its upstream has refused for a rate or a quota. It is the model's at that
/// cluster's credential, never the host's; at nodes that people run themselves, each of which refuses for itself, it is
/// the model's at that node.
#[derive(Debug, Default)]
pub struct Rest {
    /// Milliseconds since [`EPOCH`]; 0 is never.
    until: AtomicU64,
    /// When the last of the nodes is back that are left alone each for itself; 0 where none ever was.
    nodes_until: AtomicU64,
    /// They, and until when. Few ever are.
    nodes: Mutex<Vec<(Weak<Endpoint>, u64)>>,
}

/// The zero of the times kept in atomics.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_millis(1));

fn millis(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_millis()).unwrap_or(u64::MAX)
}

impl Rest {
    /// It is left alone until then, or longer if it was to be already.
    pub fn until(&self, at: Instant) {
        self.until.fetch_max(millis(at), Relaxed);
    }

    /// How much longer it is left alone.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return None;
        }
        (*EPOCH + Duration::from_millis(until)).checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It is left alone at that node until then.
    fn node(&self, node: &Arc<Endpoint>, at: Instant, now: Instant) {
        let (at, now) = (millis(at), millis(now));
        let mut nodes = self.nodes();
        nodes.retain(|(known, until)| *until > now && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(node)));
        nodes.push((Arc::downgrade(node), at));
        self.nodes_until.fetch_max(at, Relaxed);
    }

    /// The nodes at which it is left alone, and for how much longer.
    pub fn resting(&self, now: Instant) -> Vec<(Arc<Endpoint>, Duration)> {
        let now = millis(now);
        if self.nodes_until.load(Relaxed) <= now {
            return Vec::new();
        }
        let left = |(node, until): &(Weak<Endpoint>, u64)| {
            let left = until.checked_sub(now).filter(|left| *left > 0)?;
            Some((node.upgrade()?, Duration::from_millis(left)))
        };
        self.nodes().iter().filter_map(left).collect()
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<(Weak<Endpoint>, u64)>> {
        // Whatever a panic left behind is a list of nodes still.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deployment {
    /// A deployment of the alias of that configured name, of weight 1 and priority 0.
    pub fn new(alias: &str, cluster: Arc<Cluster>, model: UpstreamModel) -> Self {
        let series = Arc::new(DeploymentSeries::new(&cluster.spec.provider.name, cluster.name(), alias));
        let waits = cluster.spec.hedge.map(|_| Arc::default());
        Self { cluster, model, weight: 1, priority: 0, series, rest: Arc::default(), waits }
    }

    /// It was refused at that endpoint for a rate: it is left alone until then, there or everywhere.
    pub fn limited(&self, endpoint: &Arc<Endpoint>, at: Instant, now: Instant) {
        if !self.cluster.spec.provider.limits_by_node() {
            return self.rest.until(at);
        }
        self.rest.node(endpoint, at, now);
        let resting = self.rest.resting(now);
        let soonest = resting.iter().map(|(_, left)| *left).min();
        let resting: Vec<_> = resting.into_iter().map(|(node, _)| node).collect();
        if let Some(soonest) = soonest.filter(|_| !self.cluster.has_besides(&resting)) {
            self.rest.until(now + soonest);
        }
    }
}

/// What a model is called upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamModel {
    /// As the client calls it: the body is not touched.
    AsSent,
    /// By another name; a `*` in it stands for what the alias's star matched.
    Named(Pattern),
}

impl UpstreamModel {
    /// The name to put in the place of the client's; `None` leaves it.
    pub fn resolve(&self, starred: &str) -> Option<String> {
        match self {
            Self::AsSent => None,
            Self::Named(Pattern::Exact(name)) => Some(name.clone()),
            Self::Named(Pattern::Star(before, behind)) => Some(format!("{before}{starred}{behind}")),
        }
    }
}

/// What keeps a caller on one deployment of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Nothing: every exchange draws anew.
    No,
    /// The caller's identity.
    Principal,
    /// The value of a request header.
    Header(HeaderName),
}

/// A model alias.
#[derive(Clone, Debug)]
pub struct Alias {
    /// What clients send.
    pub pattern: Pattern,
    /// The pattern as text: its name in logs and metric labels.
    pub name: String,
    /// Where it goes.
    pub deployments: Vec<Deployment>,
    /// What keeps a caller on one of them.
    pub sticky: Sticky,
    /// Clocks of its own.
    pub clocks: Overrides,
    /// Which other aliases take over what this one cannot serve.
    pub fallback: Fallbacks,
    /// Whether model lists show it. A pattern is never shown.
    pub listed: bool,
}

/// Names of models that take over what an alias cannot serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// Where the prompt is longer than the model takes.
    pub too_long: Option<String>,
    /// Where the upstream's content policy refuses it.
    pub filtered: Option<String>,
}

/// Indexes into [`Alias::deployments`], in the order in which they are to be tried.
pub type Order = SmallVec<[usize; 4]>;

/// Whether it is unavailable, its priority, its draw: what sorts lower is tried first.
type Rank = (bool, u32, f64);

impl Alias {
    /// The deployments that can be asked `operation` and are permitted, in the order in which they are to be tried: by priority, then drawn by
    /// weight; those without an available endpoint last, and where it `spills`, those whose requests go elsewhere. With `sticky` the draw is the same for the same value.
    pub fn order(
        &self,
        operation: Operation,
        sticky: Option<&str>,
        (permitted, spills): (&dyn Fn(&Cluster) -> bool, bool),
        now: Instant,
    ) -> Order {
        let carries = |index: &usize| {
            let cluster = &self.deployments[*index].cluster;
            cluster.spec.passage(operation).is_some() && permitted(cluster)
        };
        let mut order: Order = (0..self.deployments.len()).filter(carries).collect();
        if order.len() > 1 {
            let mut keyed: SmallVec<[(Rank, usize); 4]> =
                order.iter().map(|index| (self.rank(*index, sticky, spills, now), *index)).collect();
            keyed.sort_by(|(a, _), (b, _)| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
            order = keyed.into_iter().map(|(_, index)| index).collect();
        }
        order
    }

    /// Lower is tried first. Drawing an exponential deviate over the weight for each and sorting by it orders them as
    /// repeated weighted draws without replacement would; with a hash in the place of chance it is a rendezvous hash.
    fn rank(&self, index: usize, sticky: Option<&str>, spills: bool, now: Instant) -> Rank {
        let deployment = &self.deployments[index];
        let uniform = match sticky {
            Some(value) => {
                let mut hasher = DefaultHasher::new();
                (value, deployment.cluster.name(), index, &self.name).hash(&mut hasher);
                hasher.finish() as f64 / u64::MAX as f64
            }
            None => fastrand::f64(),
        };
        let draw = -uniform.max(f64::MIN_POSITIVE).ln() / f64::from(deployment.weight);
        let unavailable = !deployment.cluster.available(now)
            || !deployment.cluster.has_key(now)
            || deployment.weight == 0
            || deployment.rest.left(now).is_some()
            || (spills && deployment.cluster.is_away(now));
        (unavailable, deployment.priority, draw)
    }

    /// Whether any deployment can be asked `operation`, in its own dialect or in another.
    pub fn carries(&self, operation: Operation) -> bool {
        self.deployments.iter().any(|deployment| deployment.cluster.spec.passage(operation).is_some())
    }
}

/// Every alias of a configuration.
#[derive(Debug, Default)]
pub struct Aliases {
    exact: HashMap<String, Arc<Alias>>,
    /// The most specific first.
    patterns: Vec<Arc<Alias>>,
    listed: Vec<String>,
}

impl Aliases {
    /// Indexes `aliases`; a name that is there twice is the last one's.
    pub fn new(aliases: Vec<Alias>) -> Self {
        let mut all = Self::default();
        for alias in aliases {
            let alias = Arc::new(alias);
            match &alias.pattern {
                Pattern::Exact(name) => {
                    if alias.listed {
                        all.listed.push(name.clone());
                    }
                    all.exact.insert(name.clone(), alias);
                }
                Pattern::Star(..) => all.patterns.push(alias),
            }
        }
        all.patterns.sort_by_key(|alias| std::cmp::Reverse(alias.pattern.specificity()));
        all
    }

    /// The alias that `model` means, and what its star stands for.
    pub fn find<'a>(&self, model: &'a str) -> Option<(&Arc<Alias>, &'a str)> {
        if let Some(alias) = self.exact.get(model) {
            return Some((alias, ""));
        }
        self.patterns.iter().find_map(|alias| Some((alias, alias.pattern.matched(model)?)))
    }

    /// The names that model lists show, sorted.
    pub fn listed(&self) -> &[String] {
        &self.listed
    }

    /// Every alias.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Alias>> {
        self.exact.values().chain(&self.patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::tests::cluster;
    use crate::upstream::endpoint::Health;

    fn alias(pattern: &str, deployments: Vec<Deployment>) -> Alias {
        Alias {
            pattern: Pattern::parse(pattern).unwrap(),
            name: pattern.to_owned(),
            deployments,
            sticky: Sticky::No,
            clocks: Overrides::default(),
            fallback: Fallbacks::default(),
            listed: true,
        }
    }

    fn deployment(name: &str, weight: u32, priority: u32) -> Deployment {
        let cluster = Arc::new(cluster(name, &["http://127.0.0.1:1"]));
        Deployment { weight, priority, ..Deployment::new("m", cluster, UpstreamModel::AsSent) }
    }

    const CHAT: Operation = Operation::ChatCompletions;

    #[test]
    fn the_most_specific_alias_wins() {
        let all = ["*", "gpt-*", "gpt-4o", "gpt-*-mini"];
        let aliases = Aliases::new(all.iter().map(|p| alias(p, Vec::new())).collect());
        let found = |model| aliases.find(model).map(|(alias, star)| (alias.name.clone(), star));
        assert_eq!(found("gpt-4o"), Some(("gpt-4o".into(), "")));
        assert_eq!(found("gpt-5-mini"), Some(("gpt-*-mini".into(), "5")));
        assert_eq!(found("gpt-5"), Some(("gpt-*".into(), "5")));
        assert_eq!(found("claude"), Some(("*".into(), "claude")));
        assert_eq!(aliases.listed(), ["gpt-4o"]);
    }

    #[test]
    fn a_star_is_carried_into_the_upstream_name() {
        let named = |text| UpstreamModel::Named(Pattern::parse(text).unwrap());
        assert_eq!(named("*").resolve("gpt-4o").as_deref(), Some("gpt-4o"));
        assert_eq!(named("eu.*-v1").resolve("nova").as_deref(), Some("eu.nova-v1"));
        assert_eq!(named("fixed").resolve("nova").as_deref(), Some("fixed"));
        assert_eq!(UpstreamModel::AsSent.resolve("nova"), None);
    }

    #[test]
    fn weights_split_within_a_priority_and_priorities_order() {
        let alias =
            alias("m", vec![deployment("spare", 1, 1), deployment("most", 9, 0), deployment("few", 1, 0)]);
        let mut first = [0; 3];
        for _ in 0..10_000 {
            let order = alias.order(CHAT, None, (&|_| true, true), Instant::now());
            assert_eq!(order[2], 0, "the spare is last");
            first[order[0]] += 1;
        }
        assert!((8800..=9200).contains(&first[1]), "{first:?}");
    }

    #[test]
    fn a_sticky_value_always_draws_the_same_and_values_spread() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 0)]);
        let now = Instant::now();
        let pick = |value: &str| alias.order(CHAT, Some(value), (&|_| true, true), now)[0];
        assert!((0..20).all(|_| pick("alice") == pick("alice")));
        let on_a = (0..1000).filter(|i| pick(&format!("user-{i}")) == 0).count();
        assert!((430..=570).contains(&on_a), "{on_a}");
    }

    #[test]
    fn a_node_that_is_limited_rests_for_itself_and_the_deployment_once_all_do() {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
        let place = Deployment::new("m", Arc::new(cluster("a", &urls)), UpstreamModel::AsSent);
        let (now, nodes) = (Instant::now(), place.cluster.endpoints());
        let after = |seconds| now + Duration::from_secs(seconds);
        let resting =
            |at| place.rest.resting(at).into_iter().map(|(node, _)| node.name.clone()).collect::<Vec<_>>();
        place.limited(&nodes[0], after(9), now);
        assert_eq!((resting(now), place.rest.left(now)), (vec![nodes[0].name.clone()], None));
        place.limited(&nodes[0], after(5), now);
        place.limited(&nodes[1], after(7), now);
        assert_eq!(resting(now).len(), 2);
        let left = place.rest.left(now).unwrap();
        assert!(
            left > Duration::from_secs(4) && left <= Duration::from_secs(5),
            "until the first is back: {left:?}"
        );
        assert_eq!((resting(after(6)), place.rest.left(after(6))), (vec![nodes[1].name.clone()], None));
        assert!(resting(after(8)).is_empty());
    }

    #[test]
    fn a_deployment_that_is_down_goes_last() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 5)]);
        alias.deployments[0].cluster.endpoints()[0].probed(Health::Down, Duration::ZERO);
        assert_eq!(alias.order(CHAT, None, (&|_| true, true), Instant::now()).as_slice(), [1, 0]);
    }

    #[test]
    fn a_deployment_that_rests_goes_last_and_comes_back() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 5)]);
        let now = Instant::now();
        alias.deployments[0].rest.until(now + Duration::from_secs(10));
        alias.deployments[0].rest.until(now + Duration::from_secs(2));
        assert_eq!(alias.order(CHAT, None, (&|_| true, true), now).as_slice(), [1, 0]);
        let left = alias.deployments[0].rest.left(now).unwrap();
        assert!(left > Duration::from_secs(9) && left <= Duration::from_secs(10), "{left:?}");
        assert_eq!(
            alias.order(CHAT, None, (&|_| true, true), now + Duration::from_secs(11)).as_slice(),
            [0, 1]
        );
    }

    #[test]
    fn only_deployments_that_speak_the_operation_are_tried() {
        let alias = alias("m", vec![deployment("a", 1, 0)]);
        assert!(alias.carries(CHAT) && !alias.carries(Operation::Models));
        assert!(alias.order(Operation::Models, None, (&|_| true, true), Instant::now()).is_empty());
    }
}
