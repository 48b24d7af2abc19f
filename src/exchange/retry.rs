//! What may be tried next, where, and how often.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::dialect::Operation;
use crate::route::alias::{Alias, Deployment, Order};
use crate::snapshot::{Cause, Retry};
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::{Endpoint, InFlight};

/// The deployments and endpoints of one exchange that are still to be tried.
#[derive(Debug)]
pub struct Plan<'a> {
    alias: &'a Alias,
    order: Order,
    retry: Retry,
    /// No attempt begins after it.
    deadline: Instant,
    made: u32,
    /// The clusters that were asked.
    asked_before: SmallVec<[&'a Cluster; 4]>,
    /// How the last attempt failed.
    last: Option<Cause>,
    /// How long one that is tired asks to be left alone.
    asked: Duration,
    /// How often it was waited.
    waits: u32,
    /// Where no connection was to be had: not tried again.
    dead: Vec<Arc<Endpoint>>,
    /// What failed since the last wait: not tried again before the next.
    tired: Vec<Arc<Endpoint>>,
    /// Deployments that cannot serve the exchange.
    barred: SmallVec<[usize; 4]>,
    /// Which deployments were passed over or failed, and why, in this order.
    story: Vec<(usize, Passed)>,
}

/// Why the exchange went on from a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It rests after a refusal for a rate or a quota, for that long.
    Rests(Duration),
    /// Its credential was refused a moment ago.
    NoKey,
    /// None of its endpoints is healthy and was not tried.
    NoEndpoint,
    /// Its cluster's budget for further attempts is used up.
    NoBudget,
    /// The request cannot be written for it.
    Unwritten,
    /// It failed.
    Failed(Cause),
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rests(left) => write!(f, "rests for {:.1} s more", left.as_secs_f64()),
            Self::NoKey => f.write_str("no key"),
            Self::NoEndpoint => f.write_str("no endpoint"),
            Self::NoBudget => f.write_str("no budget for another attempt"),
            Self::Unwritten => f.write_str("cannot be asked this"),
            Self::Failed(cause) => f.write_str(cause.name()),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Next<'a> {
    /// Try there.
    Try(&'a Deployment, InFlight),
    /// Wait that long, then ask again.
    Wait(Duration),
    /// Nothing: no place or no attempt is left. Where every place only rests, it does for that long.
    Over(Option<Duration>),
}

/// How long a deployment rests whose upstream does not say for how long.
const RATE: Duration = Duration::from_secs(1);
/// The longest rest: an upstream that asks for more is asked again to see whether it still does.
const LONGEST: Duration = Duration::from_secs(60);
/// How long one rests that has no quota left, or whose credential is refused.
const UNSERVED: Duration = Duration::from_secs(30);

impl<'a> Plan<'a> {
    /// A plan over the deployments of `alias` that can be asked `operation`.
    pub fn new(
        alias: &'a Alias,
        operation: Operation,
        sticky: Option<&str>,
        permitted: &dyn Fn(&Cluster) -> bool,
        (retry, deadline): (Retry, Instant),
        now: Instant,
    ) -> Self {
        Self {
            alias,
            order: alias.order(operation, sticky, permitted, now),
            retry,
            deadline,
            made: 0,
            asked_before: SmallVec::new(),
            last: None,
            asked: Duration::ZERO,
            waits: 0,
            dead: Vec::new(),
            tired: Vec::new(),
            barred: SmallVec::new(),
            story: Vec::new(),
        }
    }

    /// A plan for the rest of a stream that broke off at `lost`, after so many attempts: over the deployments that `fit`,
    /// and within the budget of the cluster that was asked.
    pub(super) fn resuming(
        mut self,
        made: u32,
        (cluster, lost): (&Cluster, &Arc<Endpoint>),
        fit: impl Fn(&Deployment) -> bool,
    ) -> Self {
        self.made = made;
        self.last = Some(Cause::Broken);
        self.tired.push(Arc::clone(lost));
        for (index, deployment) in self.alias.deployments.iter().enumerate() {
            if !fit(deployment) {
                self.barred.push(index);
            }
            if std::ptr::eq(&*deployment.cluster, cluster) {
                self.asked_before.push(&deployment.cluster);
            }
        }
        self
    }

    /// Whether no deployment can be asked at all.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Why it went on from where, one deployment after the other; empty where the first served.
    pub fn story(&self) -> String {
        let name = |index: usize| self.alias.deployments.get(index).map_or("", |d| d.cluster.name());
        let told: Vec<String> =
            self.story.iter().map(|(index, passed)| format!("{}: {passed}", name(*index))).collect();
        told.join("; ")
    }

    fn tell(&mut self, index: usize, passed: Passed) {
        let same = |(known, why): &(usize, Passed)| {
            *known == index && std::mem::discriminant(why) == std::mem::discriminant(&passed)
        };
        // A failure is told each time; whatever else holds is told once.
        if matches!(passed, Passed::Failed(_)) || !self.story.iter().any(same) {
            self.story.push((index, passed));
        }
    }

    /// What to do next: another endpoint of the same deployment first, then the next deployment, then a wait.
    pub fn next(&mut self, now: Instant) -> Next<'a> {
        if self.made >= self.retry.attempts.max(1) || (self.made > 0 && now >= self.deadline) {
            return Next::Over(None);
        }
        let (deployment, flight) = loop {
            let Some((index, deployment, flight)) = self.pick(now) else { return self.wait(now) };
            if self.may_ask(&deployment.cluster) {
                break (deployment, flight);
            }
            log::debug!("cluster {}: no budget is left for another attempt", deployment.cluster.name());
            self.tell(index, Passed::NoBudget);
            self.barred.push(index);
        };
        self.made += 1;
        Next::Try(deployment, flight)
    }

    /// Whether a cluster may be asked. Once by every exchange, whichever failed before; again, only within its budget.
    fn may_ask(&mut self, cluster: &'a Cluster) -> bool {
        if !self.asked_before.iter().any(|known| std::ptr::eq(*known, cluster)) {
            self.asked_before.push(cluster);
            cluster.budget.pay_in(self.retry.budget);
            return true;
        }
        // What never reached an upstream burdens none.
        self.last == Some(Cause::Unsent) || cluster.budget.take()
    }

    /// The request cannot be written for that deployment: it is out, and was not asked.
    pub fn unwritten(&mut self, deployment: &'a Deployment) {
        self.bar(deployment);
        if let Some(index) = self.index_of(deployment) {
            self.tell(index, Passed::Unwritten);
        }
        self.made -= 1;
    }

    fn bar(&mut self, deployment: &'a Deployment) {
        self.barred.extend(self.index_of(deployment));
    }

    fn index_of(&self, deployment: &Deployment) -> Option<usize> {
        self.alias.deployments.iter().position(|known| std::ptr::eq(known, deployment))
    }

    fn pick(&mut self, now: Instant) -> Option<(usize, &'a Deployment, InFlight)> {
        // One whose credential was refused is better than none.
        self.pick_among(now, Cluster::has_key).or_else(|| self.pick_among(now, |_, _| true))
    }

    fn pick_among(
        &mut self,
        now: Instant,
        usable: impl Fn(&Cluster, Instant) -> bool,
    ) -> Option<(usize, &'a Deployment, InFlight)> {
        let out: SmallVec<[Arc<Endpoint>; 4]> = self.dead.iter().chain(&self.tired).cloned().collect();
        for at in 0..self.order.len() {
            let index = self.order[at];
            let Some(deployment) =
                self.alias.deployments.get(index).filter(|_| !self.barred.contains(&index))
            else {
                continue;
            };
            if let Some(left) = deployment.rest.left(now) {
                self.tell(index, Passed::Rests(left));
                continue;
            }
            if !usable(&deployment.cluster, now) {
                self.tell(index, Passed::NoKey);
                continue;
            }
            match deployment.cluster.pick(now, &mut fastrand::Rng::new(), &out) {
                Some(flight) => return Some((index, deployment, flight)),
                // Where one has failed, that is told already.
                None if self.story.iter().any(|(known, _)| *known == index) => {}
                None => self.tell(index, Passed::NoEndpoint),
            }
        }
        None
    }

    /// No place is left for now: how long until there is one again?
    fn wait(&mut self, now: Instant) -> Next<'a> {
        let usable = self.order.iter().filter(|index| !self.barred.contains(index));
        let rests = usable.filter_map(|index| self.alias.deployments.get(*index)?.rest.left(now));
        let rest = rests.min();
        let tired = (!self.tired.is_empty()).then(|| self.backoff().max(self.asked));
        let wait = match (tired, rest) {
            (Some(tired), Some(rest)) => tired.min(rest),
            (Some(wait), None) | (None, Some(wait)) => wait,
            (None, None) => return Next::Over(None),
        };
        if wait > self.retry.max_delay || now + wait >= self.deadline || self.waits >= self.retry.attempts {
            return Next::Over(rest);
        }
        self.waits += 1;
        self.asked = Duration::ZERO;
        self.tired.clear();
        Next::Wait(wait)
    }

    /// Anything from nothing to the delay, which doubles with every wait: so those who failed together do not come back
    /// together.
    fn backoff(&self) -> Duration {
        let most = self.retry.delay.saturating_mul(1 << self.waits.min(16)).min(self.retry.max_delay);
        most.mul_f64(fastrand::f64())
    }

    /// Notes how an attempt failed. `connected` says whether there was a connection. Says whether another may be made.
    pub fn failed(
        &mut self,
        deployment: &'a Deployment,
        endpoint: &Arc<Endpoint>,
        connected: bool,
        (cause, wait): (Option<Cause>, Option<Duration>),
        now: Instant,
    ) -> bool {
        self.last = cause;
        if let (Some(cause), Some(index)) = (cause, self.index_of(deployment)) {
            self.tell(index, Passed::Failed(cause));
        }
        let Some(cause) = cause.filter(|cause| self.retry.causes.has(*cause)) else { return false };
        match cause {
            // A stale connection says nothing of its endpoint, which is tried again on a fresh one.
            Cause::Unsent if connected => {}
            Cause::Unsent => self.dead.push(Arc::clone(endpoint)),
            Cause::Broken | Cause::Slow | Cause::Failed => {
                self.tired.push(Arc::clone(endpoint));
                self.asked = self.asked.max(wait.unwrap_or_default());
            }
            Cause::Limited => deployment.rest.until(now + wait.unwrap_or(RATE).min(LONGEST)),
            Cause::Unserved => {
                self.bar(deployment);
                if let Some(wait) = wait {
                    deployment.rest.until(now + wait.min(UNSERVED));
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::Overrides;
    use crate::pattern::Pattern;
    use crate::route::alias::{Fallbacks, Sticky, UpstreamModel};
    use crate::snapshot::Causes;
    use crate::upstream::cluster::tests::cluster;

    const RETRY: Retry = Retry {
        attempts: 10,
        delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(1),
        budget: 100,
        causes: Causes::ALL,
    };

    fn alias() -> Alias {
        let deployment = |name: &str, urls: &[&str], priority| Deployment {
            priority,
            ..Deployment::new("m", Arc::new(cluster(name, urls)), UpstreamModel::AsSent)
        };
        Alias {
            pattern: Pattern::parse("m").unwrap(),
            name: "m".into(),
            deployments: vec![
                deployment("spare", &["http://127.0.0.1:3"], 1),
                deployment("first", &["http://127.0.0.1:1", "http://127.0.0.1:2"], 0),
            ],
            sticky: Sticky::No,
            clocks: Overrides::default(),
            fallback: Fallbacks::default(),
            listed: true,
        }
    }

    /// Where attempts go that all fail for `cause`, and the waits between them, up to the end.
    fn visit(
        alias: &Alias,
        retry: Retry,
        cause: Option<Cause>,
        wait: Option<Duration>,
    ) -> (Vec<String>, Option<Duration>) {
        let mut now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let mut plan = Plan::new(alias, Operation::ChatCompletions, None, &|_| true, (retry, deadline), now);
        let mut seen = Vec::new();
        loop {
            match plan.next(now) {
                Next::Try(deployment, flight) => {
                    seen.push(deployment.cluster.name().to_owned());
                    if !plan.failed(deployment, flight.endpoint(), false, (cause, wait), now) {
                        return (seen, None);
                    }
                }
                Next::Wait(wait) => {
                    assert!(wait <= retry.max_delay);
                    seen.push("wait".to_owned());
                    now += wait;
                }
                Next::Over(rest) => return (seen, rest),
            }
        }
    }

    #[test]
    fn what_is_dead_is_tried_once() {
        let (seen, _) = visit(&alias(), RETRY, Some(Cause::Unsent), None);
        assert_eq!(seen, ["first", "first", "spare"]);
    }

    #[test]
    fn attempts_are_bounded_and_there_is_always_one() {
        let attempts = |attempts| visit(&alias(), Retry { attempts, ..RETRY }, Some(Cause::Unsent), None).0;
        assert_eq!(attempts(2), ["first", "first"]);
        assert_eq!(attempts(0), ["first"]);
    }

    #[test]
    fn every_place_is_tried_before_a_wait_and_again_after_it() {
        let (seen, _) = visit(&alias(), Retry { attempts: 6, ..RETRY }, Some(Cause::Failed), None);
        assert_eq!(seen, ["first", "first", "spare", "wait", "first", "first", "spare"]);
    }

    #[test]
    fn what_is_limited_rests_and_the_client_is_told_for_how_long() {
        let alias = alias();
        let (seen, rest) = visit(&alias, RETRY, Some(Cause::Limited), Some(Duration::from_secs(7)));
        assert_eq!(seen, ["first", "spare"], "a rate is a deployment's, not an endpoint's");
        assert!(rest.is_some_and(|rest| rest > Duration::from_secs(6)), "{rest:?}");
        let (seen, rest) = visit(&alias, RETRY, None, None);
        assert!(seen.is_empty() && rest.is_some(), "the next exchange does not even ask");
    }

    #[test]
    fn the_rest_of_a_stream_is_sought_elsewhere_within_attempts_and_budget() {
        let alias = alias();
        let (now, first) = (Instant::now(), &alias.deployments[1].cluster);
        let lost = Arc::clone(&first.endpoints()[0]);
        let seek = |made, fit: fn(&Deployment) -> bool| {
            let bounds = (Retry { attempts: 3, ..RETRY }, now + Duration::from_secs(60));
            let plan = Plan::new(&alias, Operation::ChatCompletions, None, &|_| true, bounds, now);
            let mut plan = plan.resuming(made, (first, &lost), fit);
            match plan.next(now) {
                Next::Try(deployment, flight) => {
                    assert!(!Arc::ptr_eq(flight.endpoint(), &lost), "not where it broke off");
                    Some(deployment.cluster.name().to_owned())
                }
                Next::Wait(_) | Next::Over(_) => None,
            }
        };
        assert_eq!(seek(1, |_| true).as_deref(), Some("first"));
        assert_eq!(seek(1, |deployment| deployment.cluster.name() == "spare").as_deref(), Some("spare"));
        assert_eq!(seek(1, |_| false), None);
        assert_eq!(seek(3, |_| true), None, "all attempts are made");
        while first.budget.take() {}
        assert_eq!(seek(1, |deployment| deployment.cluster.name() == "first"), None, "its budget is used up");
    }

    #[test]
    fn a_short_rest_is_waited_for() {
        let wait = Duration::from_millis(300);
        let retry = Retry { attempts: 4, ..RETRY };
        let (seen, _) = visit(&alias(), retry, Some(Cause::Limited), Some(wait));
        assert_eq!(seen, ["first", "spare", "wait", "first", "spare"]);
    }

    #[test]
    fn what_cannot_serve_is_left_and_what_helps_nowhere_is_not_tried_again() {
        assert_eq!(visit(&alias(), RETRY, Some(Cause::Unserved), None).0, ["first", "spare"]);
        assert_eq!(visit(&alias(), RETRY, None, None).0, ["first"]);
        let only = Retry { causes: Causes::of([Cause::Unsent]), ..RETRY };
        assert_eq!(visit(&alias(), only, Some(Cause::Failed), None).0, ["first"]);
    }

    #[test]
    fn a_spare_takes_over_for_as_long_as_the_first_fails() {
        let alias = alias();
        let retry = Retry { attempts: 3, ..RETRY };
        for exchange in 0..100 {
            let (seen, _) = visit(&alias, retry, Some(Cause::Unserved), None);
            assert_eq!(seen, ["first", "spare"], "{exchange}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_no_attempt() {
        let (alias, now) = (alias(), Instant::now());
        let retry = Retry { attempts: 1, ..RETRY };
        let mut plan = Plan::new(&alias, Operation::ChatCompletions, None, &|_| true, (retry, now), now);
        let Next::Try(first, _) = plan.next(now) else { panic!("there is a place") };
        plan.unwritten(first);
        let Next::Try(second, _) = plan.next(now) else { panic!("there is another") };
        assert!(!std::ptr::eq(first, second));
        plan.unwritten(second);
        assert!(matches!(plan.next(now), Next::Over(None)));
    }

    #[test]
    fn nothing_begins_after_the_deadline_and_no_storm_is_made() {
        let (alias, now) = (alias(), Instant::now());
        let mut plan = Plan::new(&alias, Operation::ChatCompletions, None, &|_| true, (RETRY, now), now);
        assert!(matches!(plan.next(now), Next::Try(..)), "the first attempt is always made");
        assert!(matches!(plan.next(now), Next::Over(None)));
        let attempts: usize = (0..1000)
            .map(|_| {
                let tries = visit(&alias, Retry { attempts: 3, ..RETRY }, Some(Cause::Failed), None).0;
                tries.iter().filter(|place| *place != "wait").count()
            })
            .sum();
        // Each exchange asks either cluster once; beyond that a tenth more at each, and what was saved.
        assert!((2000..=2230).contains(&attempts), "{attempts}");
    }
}
