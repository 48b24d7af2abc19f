//! Model aliases: the names clients send, and the deployments they stand for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderName;
use smallvec::SmallVec;

use crate::clocks::Overrides;
use crate::dialect::Operation;
use crate::limit::{Bound, Forecast};
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
    /// How long its attempts took of late; kept only where its cluster makes second attempts beside slow ones.
    pub waits: Option<Arc<Waits>>,
}

impl Deployment {
    /// A deployment of the alias of that configured name, of weight 1 and priority 0.
    pub fn new(alias: &str, cluster: Arc<Cluster>, model: UpstreamModel) -> Self {
        let series = Arc::new(DeploymentSeries::new(&cluster.spec.provider.name, cluster.name(), alias));
        let waits = cluster.spec.hedge.map(|_| Arc::default());
        Self { cluster, model, weight: 1, priority: 0, series, waits }
    }

    /// How much longer the model is left alone there for its rate.
    pub fn rests(&self, named: Named<'_>, now: Instant) -> Option<Duration> {
        self.cluster.rests(&|| self.model.name(named), now)
    }

    /// The model is left alone there until then, by what was said at that endpoint.
    pub fn rest_until(&self, (named, endpoint): (Named<'_>, &Endpoint), at: Instant, now: Instant) {
        self.cluster.rest_until((&self.model.name(named), endpoint), at, now);
    }

    /// Adds the endpoints at which the model is left alone for its rate.
    pub fn leave_out(&self, named: Named<'_>, now: Instant, out: &mut impl Extend<Arc<Endpoint>>) {
        self.cluster.leave_out(&|| self.model.name(named), now, out);
    }
}

/// A model as a client named it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The name.
    pub model: &'a str,
    /// What the alias's star stands for.
    pub starred: &'a str,
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
    /// Its name upstream.
    pub fn name<'a>(&'a self, named: Named<'a>) -> Cow<'a, str> {
        match self {
            Self::AsSent => Cow::Borrowed(named.model),
            Self::Named(Pattern::Exact(name)) => Cow::Borrowed(name),
            Self::Named(Pattern::Star(..)) => Cow::Owned(self.resolve(named.starred).unwrap_or_default()),
        }
    }

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
    /// What everyone together may use of it.
    pub limits: Arc<Bound>,
    /// What its exchanges use.
    pub forecast: Arc<Forecast>,
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

/// What is wanted of an alias, and by whom.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is asked for.
    pub operation: Operation,
    /// The model, as the client named it.
    pub named: Named<'a>,
    /// What the draw goes by: the same for the same value. Nothing for chance.
    pub sticky: Option<&'a str>,
    /// Where the request may go.
    pub permitted: &'a dyn Fn(&Cluster) -> bool,
    /// Whether it goes past clusters whose requests go elsewhere.
    pub spills: bool,
}

/// Indexes into [`Alias::deployments`], in the order in which they are to be tried.
pub type Order = SmallVec<[usize; 4]>;

/// Whether it is unavailable, its priority, its draw: what sorts lower is tried first.
type Rank = (bool, u32, f64);

impl Alias {
    /// The deployments that can be asked what is wanted, and are permitted, in the order in which they are to be tried: by
    /// priority, then drawn by weight; those without an available endpoint last. `away` is told of those whose requests go
    /// elsewhere.
    pub fn order(&self, wanted: &Wanted<'_>, now: Instant, away: &mut dyn FnMut(usize)) -> Order {
        let carries = |index: &usize| {
            let cluster = &self.deployments[*index].cluster;
            cluster.spec.passage(wanted.operation).is_some() && (wanted.permitted)(cluster)
        };
        let mut order: Order = (0..self.deployments.len()).filter(carries).collect();
        if order.len() > 1 {
            let mut keyed: SmallVec<[(Rank, usize); 4]> =
                order.iter().map(|index| (self.rank(*index, wanted, now), *index)).collect();
            self.put_aside(&mut keyed, wanted, now, away);
            keyed.sort_by(|(a, _), (b, _)| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
            order = keyed.into_iter().map(|(_, index)| index).collect();
        }
        order
    }

    /// Ranks those last whose requests go elsewhere. A cluster is asked once, however many of its deployments there are: each
    /// time it is, one request more may try it.
    fn put_aside(
        &self,
        keyed: &mut [(Rank, usize)],
        wanted: &Wanted<'_>,
        now: Instant,
        away: &mut dyn FnMut(usize),
    ) {
        let mut known = SmallVec::<[(&Cluster, bool); 4]>::new();
        for (rank, index) in keyed {
            let cluster = &*self.deployments[*index].cluster;
            if !wanted.spills || cluster.spill.is_none() {
                continue;
            }
            let before = known.iter().find(|(other, _)| std::ptr::eq(*other, cluster)).map(|(_, is)| *is);
            let is_away = before.unwrap_or_else(|| cluster.is_away(now));
            if before.is_none() {
                known.push((cluster, is_away));
            }
            if is_away {
                rank.0 = true;
                away(*index);
            }
        }
    }

    /// Lower is tried first. Drawing an exponential deviate over the weight for each and sorting by it orders them as
    /// repeated weighted draws without replacement would; with a hash in the place of chance it is a rendezvous hash.
    fn rank(&self, index: usize, wanted: &Wanted<'_>, now: Instant) -> Rank {
        let deployment = &self.deployments[index];
        let uniform = match wanted.sticky {
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
            || deployment.rests(wanted.named, now).is_some();
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
            limits: Arc::default(),
            forecast: Arc::default(),
            listed: true,
        }
    }

    fn deployment(name: &str, weight: u32, priority: u32) -> Deployment {
        let cluster = Arc::new(cluster(name, &["http://127.0.0.1:1"]));
        Deployment { weight, priority, ..Deployment::new("m", cluster, UpstreamModel::AsSent) }
    }

    const NAMED: Named<'_> = Named { model: "m", starred: "" };

    fn wanted(operation: Operation, sticky: Option<&str>) -> Wanted<'_> {
        Wanted { operation, named: NAMED, sticky, permitted: &|_| true, spills: true }
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
            let order = alias.order(&wanted(CHAT, None), Instant::now(), &mut |_| {});
            assert_eq!(order[2], 0, "the spare is last");
            first[order[0]] += 1;
        }
        assert!((8800..=9200).contains(&first[1]), "{first:?}");
    }

    #[test]
    fn a_sticky_value_always_draws_the_same_and_values_spread() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 0)]);
        let now = Instant::now();
        let pick = |value: &str| alias.order(&wanted(CHAT, Some(value)), now, &mut |_| {})[0];
        assert!((0..20).all(|_| pick("alice") == pick("alice")));
        let on_a = (0..1000).filter(|i| pick(&format!("user-{i}")) == 0).count();
        assert!((430..=570).contains(&on_a), "{on_a}");
    }

    #[test]
    fn a_deployment_that_is_down_goes_last() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 5)]);
        alias.deployments[0].cluster.endpoints()[0].probed(Health::Down, Duration::ZERO);
        assert_eq!(alias.order(&wanted(CHAT, None), Instant::now(), &mut |_| {}).as_slice(), [1, 0]);
    }

    #[test]
    fn a_deployment_that_rests_goes_last_and_comes_back() {
        let alias = alias("m", vec![deployment("a", 1, 0), deployment("b", 1, 5)]);
        let now = Instant::now();
        let endpoint = Arc::clone(&alias.deployments[0].cluster.endpoints()[0]);
        let until = |seconds| {
            let at = now + Duration::from_secs(seconds);
            alias.deployments[0].rest_until((NAMED, &endpoint), at, now);
        };
        until(10);
        until(2);
        assert_eq!(alias.order(&wanted(CHAT, None), now, &mut |_| {}).as_slice(), [1, 0]);
        let left = alias.deployments[0].rests(NAMED, now).unwrap();
        assert!(left > Duration::from_secs(9) && left <= Duration::from_secs(10), "{left:?}");
        assert_eq!(
            alias.order(&wanted(CHAT, None), now + Duration::from_secs(11), &mut |_| {}).as_slice(),
            [0, 1]
        );
    }

    #[test]
    fn only_deployments_that_speak_the_operation_are_tried() {
        let alias = alias("m", vec![deployment("a", 1, 0)]);
        assert!(alias.carries(CHAT) && !alias.carries(Operation::Models));
        assert!(alias.order(&wanted(Operation::Models, None), Instant::now(), &mut |_| {}).is_empty());
    }
}
