//! What may be tried next, where, and how often.

mod keys;
mod room;
mod story;

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::affinity::Owner;
use crate::dialect::Operation;
use crate::route::alias::{Alias, Deployment, Named, Order, Wanted};
use crate::snapshot::{Cause, Retry};
use crate::upstream::admission::{Gate, Permit, Refusal};
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::{Endpoint, InFlight};
use crate::upstream::keys::{Call, KeyUse, ProviderKey, Trust};
pub(super) use room::NoRoom;
use story::Story;
pub use story::{Hedged, Passed};

/// The deployments and endpoints of one exchange that are still to be tried.
#[derive(Debug)]
pub struct Plan<'a> {
    alias: &'a Alias,
    order: Order,
    rules: Rules<'a>,
    made: u32,
    /// The clusters that were asked.
    asked_before: SmallVec<[&'a Cluster; 4]>,
    /// How the last attempt failed.
    last: Option<Cause>,
    /// Whether the next attempt replaces work that is lost, and so is nobody's further one.
    replaces: bool,
    /// How long one that is tired asks to be left alone.
    asked: Duration,
    /// How often it was waited.
    waits: u32,
    /// Where no connection was to be had: not tried again.
    dead: Vec<Arc<Endpoint>>,
    /// What failed since the last wait: not tried again before the next.
    tired: Vec<Arc<Endpoint>>,
    /// Deployments whose limits have no room for the exchange before then.
    limited: SmallVec<[(usize, Instant); 2]>,
    /// Deployments that cannot serve the exchange.
    barred: SmallVec<[usize; 4]>,
    /// Whom alone it can ask, where it is no matter of choice.
    only: Option<Arc<Owner>>,
    /// Keys that were refused.
    refused_keys: Vec<Arc<ProviderKey>>,
    /// Keys whose limits have no room for the exchange before then.
    full_keys: Vec<(Arc<ProviderKey>, Instant)>,
    /// Whether the cluster that was last picked had not been asked before.
    is_new: bool,
    /// The place that it has at a cluster's gate, which it keeps for as long as it stays with the cluster.
    held: Option<(&'a Cluster, Arc<Permit>)>,
    /// The deployment for whose place it has waited: the next to be tried.
    next_at: Option<usize>,
    /// The deployments that had no place: after what time there may be one, and from which priority number on others are not
    /// there to take its load.
    full: Option<Full>,
    story: Story,
}

/// How often an exchange may be tried, and where.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The model, as the client named it.
    pub named: Named<'a>,
    /// What keys are chosen by.
    pub call: Call,
    /// How often, and after what.
    pub retry: Retry,
    /// No attempt begins after it.
    pub deadline: Instant,
    /// Whether it may go to a later deployment because of load.
    pub spills: bool,
    /// Whether its caller is told of everything that was passed over.
    pub explained: bool,
}

/// Where an attempt was made.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'t> {
    /// The endpoint.
    pub endpoint: &'t Arc<Endpoint>,
    /// The key, where the cluster has several or one that changes.
    pub key: Option<&'t KeyUse>,
}

/// What a stream has lost that is to be gone on with elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost<'c> {
    /// The cluster that it came from.
    pub(super) cluster: &'c Cluster,
    /// The endpoint.
    pub(super) endpoint: &'c Arc<Endpoint>,
    /// Why.
    pub(super) cause: Cause,
    /// Whether it is the first loss of that stream. That is made good whatever the budget: of a node with many streams all
    /// are lost at once, and there are never more such attempts than streams that had begun.
    pub(super) is_first: bool,
}

/// What is known of deployments without a free place.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// The soonest that one may be free.
    after: Duration,
    /// Their lowest priority number.
    priority: u32,
}

/// Where an exchange can go at once, or wait.
enum Pick<'a> {
    There(usize, &'a Deployment, InFlight),
    InLine(usize, &'a Arc<Gate>),
}

/// Where an exchange is to wait that finds no free place.
#[derive(Clone, Copy)]
enum Line<'a> {
    /// It has met no gate that is full.
    Nowhere,
    /// There, and what comes behind that priority is not for it.
    Here(usize, u32, &'a Arc<Gate>),
    /// There, if nothing behind it has a place.
    Rather(usize, &'a Arc<Gate>),
}

/// What to do next.
#[derive(Debug)]
pub enum Next<'a> {
    /// Try there.
    Try(&'a Deployment, InFlight),
    /// Wait that long, then ask again.
    Wait(Duration),
    /// Wait for a place at that gate, and say what came of it.
    Queue(usize, &'a Arc<Gate>),
    /// Nothing: no place or no attempt is left.
    Over(Nowhere),
}

/// Why there is no place to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// None is healthy, or none may be tried again.
    Left,
    /// All rest, the shortest for that long.
    Rests(Duration),
    /// As many exchanges are under way as may be; expected to be over after that time.
    Full(Duration),
}

/// How long a deployment rests whose upstream does not say for how long.
const RATE: Duration = Duration::from_secs(1);
/// The longest rest: an upstream that asks for more is asked again to see whether it still does.
const LONGEST: Duration = Duration::from_secs(60);
/// By how much of itself a rest may be longer.
const JITTER: f64 = 0.1;
/// How long one rests that has no quota left, or whose credential is refused.
const UNSERVED: Duration = Duration::from_secs(30);

/// Why a deployment is none that the exchange could go to.
fn why_not(alias: &Alias, index: usize, operation: Operation) -> Passed {
    let deployment = alias.deployments.get(index);
    let can = deployment.is_some_and(|place| place.cluster.spec.passage(operation).is_some());
    if can { Passed::Forbidden } else { Passed::Unwritten }
}

impl<'a> Plan<'a> {
    /// A plan over the deployments of `alias` that can be asked `operation`.
    pub fn new(
        alias: &'a Alias,
        (operation, sticky): (Operation, Option<&str>),
        permitted: &dyn Fn(&Cluster) -> bool,
        rules: Rules<'a>,
        now: Instant,
    ) -> Self {
        let Rules { named, spills, .. } = rules;
        let wanted = Wanted { operation, named, sticky, permitted, spills };
        let mut story = Story::default();
        let order = alias.order(&wanted, now, &mut |index| story.tell(index, Passed::Away));
        if rules.explained {
            let left_out = (0..alias.deployments.len()).filter(|index| !order.contains(index));
            left_out.for_each(|index| story.tell(index, why_not(alias, index, operation)));
        }
        Self {
            alias,
            order,
            rules,
            made: 0,
            asked_before: SmallVec::new(),
            last: None,
            replaces: false,
            asked: Duration::ZERO,
            waits: 0,
            dead: Vec::new(),
            tired: Vec::new(),
            limited: SmallVec::new(),
            barred: SmallVec::new(),
            only: None,
            refused_keys: Vec::new(),
            full_keys: Vec::new(),
            is_new: false,
            held: None,
            next_at: None,
            full: None,
            story,
        }
    }

    /// A plan for the rest of a stream that its place has `lost`, after so many attempts: over the deployments that `fit`,
    /// and within the budget of the cluster that was asked.
    pub(super) fn resuming(mut self, made: u32, lost: &Lost<'_>, fit: impl Fn(&Deployment) -> bool) -> Self {
        let Lost { cluster, endpoint, cause, is_first } = *lost;
        self.made = made;
        self.last = Some(cause);
        self.replaces = is_first;
        if cause == Cause::Evicted { &mut self.dead } else { &mut self.tired }.push(Arc::clone(endpoint));
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
        self.story.text(self.alias)
    }

    /// What to do next: another endpoint of the same deployment first, then the next deployment, then a wait.
    pub fn next(&mut self, now: Instant) -> Next<'a> {
        if self.made >= self.rules.retry.attempts.max(1) || (self.made > 0 && now >= self.rules.deadline) {
            return Next::Over(Nowhere::Left);
        }
        let (deployment, flight) = loop {
            let (index, deployment, flight) = match self.pick(now) {
                Some(Pick::There(index, deployment, flight)) => (index, deployment, flight),
                Some(Pick::InLine(index, gate)) => return Next::Queue(index, gate),
                None => return self.wait(now),
            };
            if self.may_ask(&deployment.cluster) {
                break (deployment, flight);
            }
            log::debug!("cluster {}: no budget is left for another attempt", deployment.cluster.name());
            self.story.tell(index, Passed::NoBudget);
            self.barred.push(index);
        };
        self.made += 1;
        Next::Try(deployment, flight)
    }

    /// Whether a cluster may be asked. Once by every exchange, whichever failed before; again, only within its budget.
    fn may_ask(&mut self, cluster: &'a Cluster) -> bool {
        let replaces = std::mem::take(&mut self.replaces);
        self.is_new = !self.asked_before.iter().any(|known| std::ptr::eq(*known, cluster));
        if self.is_new {
            self.asked_before.push(cluster);
            cluster.budget.pay_in(self.rules.retry.budget);
            return true;
        }
        // What never reached an upstream burdens none, and what one is taken from had its place elsewhere from the first.
        replaces || matches!(self.last, Some(Cause::Unsent | Cause::Evicted)) || cluster.budget.take()
    }

    /// The request cannot be written for that deployment: it is out, and was not asked.
    pub fn unwritten(&mut self, deployment: &'a Deployment) {
        self.bar(deployment);
        if let Some(index) = self.index_of(deployment) {
            self.story.tell(index, Passed::Unwritten);
        }
        self.made -= 1;
    }

    /// It waited so long for a place at that deployment, and got it or not.
    pub fn turned(&mut self, index: usize, turn: Result<Permit, Refusal>, waited: Duration) {
        match turn {
            Ok(permit) => self.admitted(index, permit, waited),
            Err(refusal) => self.refused(index, refusal),
        }
    }

    /// A place at that deployment came free after so long: it is the next to be tried.
    fn admitted(&mut self, index: usize, permit: Permit, waited: Duration) {
        self.story.tell(index, Passed::Queued(waited));
        if let Some(deployment) = self.alias.deployments.get(index) {
            self.held = Some((&deployment.cluster, Arc::new(permit)));
            self.next_at = Some(index);
        }
    }

    /// There is no place at that deployment for this exchange: another may have one.
    fn refused(&mut self, index: usize, refusal: Refusal) {
        self.story.tell(index, Passed::Refused(refusal));
        self.barred.push(index);
        let priority = self.alias.deployments.get(index).map_or(0, |deployment| deployment.priority);
        let known = self.full.unwrap_or(Full { after: Duration::MAX, priority: u32::MAX });
        let (after, priority) = (known.after.min(refusal.after()), known.priority.min(priority));
        self.full = Some(Full { after, priority });
    }

    /// Whether a deployment is not there for an exchange that found no place before it. Where something failed, it is.
    fn is_spare(&self, deployment: &Deployment) -> bool {
        let is_behind = self.full.is_some_and(|full| deployment.priority > full.priority);
        !self.rules.spills && is_behind && self.last.is_none()
    }

    fn bar(&mut self, deployment: &'a Deployment) {
        self.barred.extend(self.index_of(deployment));
    }

    fn index_of(&self, deployment: &Deployment) -> Option<usize> {
        self.alias.deployments.iter().position(|known| std::ptr::eq(known, deployment))
    }

    fn pick(&mut self, now: Instant) -> Option<Pick<'a>> {
        if let Some(there) = self.pick_admitted(now) {
            return Some(there);
        }
        // One whose credential was refused is better than none.
        self.pick_among(now, Trust::Accepted).or_else(|| self.pick_among(now, Trust::Any))
    }

    /// Goes where a place was waited for, if there is an endpoint still.
    fn pick_admitted(&mut self, now: Instant) -> Option<Pick<'a>> {
        let index = self.next_at.take()?;
        let deployment = self.alias.deployments.get(index)?;
        let key = self.any_key(deployment, now)?;
        let flight = deployment.cluster.pick(now, &mut fastrand::Rng::new(), &self.out(deployment, now))?;
        let permit = self.held.as_ref().map(|(_, permit)| Arc::clone(permit));
        Some(Pick::There(index, deployment, flight.permitted(permit).keyed(key)))
    }

    /// A place at a cluster: the one that it has, or another that is free. Nothing where there is none.
    fn place(&self, cluster: &Cluster) -> Option<Option<Arc<Permit>>> {
        let Some(gate) = &cluster.gate else { return Some(None) };
        match &self.held {
            Some((at, permit)) if std::ptr::eq(*at, cluster) => Some(Some(Arc::clone(permit))),
            _ => gate.enter().map(Arc::new).map(Some),
        }
    }

    /// The endpoints of a deployment that are not tried for now.
    fn out(&self, deployment: &Deployment, now: Instant) -> SmallVec<[Arc<Endpoint>; 4]> {
        let mut out: SmallVec<_> = self.dead.iter().chain(&self.tired).cloned().collect();
        deployment.leave_out(self.rules.named, now, &mut out);
        if let Some(only) = self.only.as_ref().and_then(|owner| owner.endpoint.as_ref()) {
            let endpoints = deployment.cluster.endpoints();
            out.extend(endpoints.iter().filter(|endpoint| endpoint.name != *only).cloned());
        }
        out
    }

    fn pick_among(&mut self, now: Instant, trust: Trust) -> Option<Pick<'a>> {
        let mut line = Line::Nowhere;
        for at in 0..self.order.len() {
            let index = self.order[at];
            let Some(deployment) =
                self.alias.deployments.get(index).filter(|_| !self.barred.contains(&index))
            else {
                continue;
            };
            if let Some(left) = self.left_alone(index, now) {
                self.story.tell(index, Passed::Rests(left));
                continue;
            }
            if trust == Trust::Accepted && !deployment.cluster.has_key(now) {
                self.story.tell(index, Passed::NoKey);
                continue;
            }
            // Whoever waits for a place does not take one behind it.
            if self.is_spare(deployment) {
                continue;
            }
            if matches!(line, Line::Here(_, priority, _) if deployment.priority > priority) {
                continue;
            }
            let out = self.out(deployment, now);
            // Whoever would wait for a place must know that there is somewhere to go with it.
            let is_simple = out.is_empty() && deployment.cluster.gate.is_none();
            if !is_simple && !deployment.cluster.has_besides(&out) {
                self.pass_empty(index, deployment);
                continue;
            }
            let Some(permit) = self.place(&deployment.cluster) else {
                line = self.line_up(line, index, deployment);
                continue;
            };
            let Some(key) = self.key(deployment, trust, now) else {
                self.story.tell(index, Passed::NoKey);
                continue;
            };
            if let Some(flight) = deployment.cluster.pick(now, &mut fastrand::Rng::new(), &out) {
                self.held = permit.clone().map(|permit| (&*deployment.cluster, permit));
                return Some(Pick::There(index, deployment, flight.permitted(permit).keyed(key)));
            }
            self.pass_empty(index, deployment);
        }
        match line {
            Line::Nowhere => None,
            Line::Here(index, _, gate) | Line::Rather(index, gate) => Some(Pick::InLine(index, gate)),
        }
    }

    /// Tells that a deployment has no endpoint. Where one has failed, that is told already.
    fn pass_empty(&mut self, index: usize, deployment: &Deployment) {
        if !self.story.knows(index) {
            let why = if deployment.cluster.is_draining() { Passed::Draining } else { Passed::NoEndpoint };
            self.story.tell(index, why);
        }
    }

    /// There is no free place at that deployment: the exchange waits at the first such, or looks elsewhere first.
    fn line_up(&mut self, line: Line<'a>, index: usize, deployment: &'a Deployment) -> Line<'a> {
        let Some(gate) = &deployment.cluster.gate else { return line };
        if self.rules.spills && deployment.cluster.spares_the_wait() {
            self.story.tell(index, Passed::Full);
            return if matches!(line, Line::Nowhere) { Line::Rather(index, gate) } else { line };
        }
        if matches!(line, Line::Here(..)) { line } else { Line::Here(index, deployment.priority, gate) }
    }

    /// Where a second attempt may be made while the one at that endpoint of `deployment` goes on: at another endpoint of it,
    /// or at another deployment of the same priority that `takes` the request. Only where all is well, and nothing failed
    /// yet: it is no remedy, and must not become a burden.
    pub fn beside(
        &self,
        deployment: &'a Deployment,
        endpoint: &Arc<Endpoint>,
        now: Instant,
        takes: impl Fn(&Deployment) -> bool,
    ) -> Option<(&'a Deployment, InFlight)> {
        if self.only.is_some() || self.last.is_some() || self.made >= self.rules.retry.attempts.max(1) {
            return None;
        }
        let equal =
            |other: &&Deployment| other.priority == deployment.priority && !std::ptr::eq(*other, deployment);
        let usable = self.order.iter().filter(|index| !self.barred.contains(index));
        let others = usable.filter_map(|index| self.alias.deployments.get(*index)).filter(equal);
        std::iter::once(deployment).chain(others).find_map(|place| {
            let cluster = &place.cluster;
            let is_well = place.weight > 0
                && self.model_rests(place, now).is_none()
                && cluster.has_accepted_key()
                && cluster.is_here();
            if !is_well || !takes(place) {
                return None;
            }
            let mut out = self.out(place, now);
            out.push(Arc::clone(endpoint));
            let key = self.key(place, Trust::Accepted, now)?;
            let flight = cluster.pick_well(now, &mut fastrand::Rng::new(), &out)?;
            // It takes a place like any other, and waits for none.
            let permit = match &cluster.gate {
                Some(gate) => Some(Arc::new(gate.enter()?)),
                None => None,
            };
            Some((place, flight.permitted(permit).keyed(key)))
        })
    }

    /// Notes what became of a second attempt, made there beside one at `deployment`.
    pub fn hedged(
        &mut self,
        deployment: &'a Deployment,
        hedged: Hedged,
        (other, endpoint): (&'a Deployment, &Endpoint),
    ) {
        self.made += 1;
        // Should it have failed, asking there again is a further attempt.
        self.asked_before.push(&other.cluster);
        if let Some(index) = self.index_of(deployment) {
            self.story.tell(index, Passed::Hedged(hedged, endpoint.name.clone()));
        }
    }

    /// No place is left for now: how long until there is one again?
    fn wait(&mut self, now: Instant) -> Next<'a> {
        let usable = self.order.iter().filter(|index| !self.barred.contains(index));
        let places = usable.filter_map(|index| self.left_alone(*index, now));
        let keys = self.full_keys.iter().map(|(_, until)| until.saturating_duration_since(now));
        let rest = places.chain(keys).min();
        let tired = (!self.tired.is_empty()).then(|| self.backoff().max(self.asked));
        let wait = match (tired, rest) {
            (Some(tired), Some(rest)) => tired.min(rest),
            (Some(wait), None) | (None, Some(wait)) => wait,
            (None, None) => {
                return Next::Over(self.full.map_or(Nowhere::Left, |full| Nowhere::Full(full.after)));
            }
        };
        let Rules { retry, deadline, .. } = self.rules;
        if wait > retry.max_delay || now + wait >= deadline || self.waits >= retry.attempts {
            return Next::Over(rest.map_or(Nowhere::Left, Nowhere::Rests));
        }
        self.waits += 1;
        // Nobody waits for an upstream and keeps others from another.
        self.held = None;
        self.asked = Duration::ZERO;
        self.tired.clear();
        self.full_keys.retain(|(_, until)| *until > now + wait);
        Next::Wait(wait)
    }

    /// Anything from nothing to the delay, which doubles with every wait: so those who failed together do not come back
    /// together.
    fn backoff(&self) -> Duration {
        let Retry { delay, max_delay, .. } = self.rules.retry;
        let most = delay.saturating_mul(1 << self.waits.min(16)).min(max_delay);
        most.mul_f64(fastrand::f64())
    }

    /// Leaves the model alone at that deployment, a little longer than it is asked for: so those who were refused together do
    /// not come back together.
    fn rest(&mut self, deployment: &Deployment, tried: Tried<'_>, wait: Duration, now: Instant) {
        let at = now + wait.mul_f64(1.0 + JITTER * fastrand::f64());
        if !self.rest_key(deployment, tried.key, at, now) {
            deployment.rest_until((self.rules.named, tried.endpoint), at, now);
        }
    }

    /// Notes how an attempt failed. `connected` says whether there was a connection. Says whether another may be made.
    pub fn failed(
        &mut self,
        deployment: &'a Deployment,
        tried: Tried<'_>,
        connected: bool,
        (cause, wait): (Option<Cause>, Option<Duration>),
        now: Instant,
    ) -> bool {
        self.last = cause;
        if let (Some(cause), Some(index)) = (cause, self.index_of(deployment)) {
            self.story.tell(index, Passed::Failed(cause));
        }
        let endpoint = tried.endpoint;
        let Some(cause) = cause.filter(|cause| self.rules.retry.causes.has(*cause)) else { return false };
        match cause {
            // A stale connection says nothing of its endpoint, which is tried again on a fresh one.
            Cause::Unsent if connected => {}
            Cause::Unsent | Cause::Evicted => self.dead.push(Arc::clone(endpoint)),
            Cause::Limited => self.rest(deployment, tried, wait.unwrap_or(RATE).min(LONGEST), now),
            Cause::Broken | Cause::Slow | Cause::Failed => {
                self.tired.push(Arc::clone(endpoint));
                self.asked = self.asked.max(wait.unwrap_or_default());
            }
            // Another key of the same cluster is another place.
            Cause::Unserved if self.leave_key(deployment, tried.key) => {}
            Cause::Unserved => {
                self.bar(deployment);
                if let Some(wait) = wait {
                    self.rest(deployment, tried, wait.min(UNSERVED), now);
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
    use crate::upstream::admission;
    use crate::upstream::cluster::Outcome;
    use crate::upstream::cluster::tests::{cluster, keyed};
    use crate::upstream::endpoint::Health;
    use crate::upstream::spill::{self, Spill};

    pub(super) const RETRY: Retry = Retry {
        attempts: 10,
        delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(1),
        budget: 100,
        causes: Causes::ALL,
    };

    const CHAT: (Operation, Option<&str>) = (Operation::ChatCompletions, None);
    const NAMED: Named<'_> = Named { model: "m", starred: "" };

    pub(super) fn at(flight: &InFlight) -> Tried<'_> {
        Tried { endpoint: flight.endpoint(), key: flight.key() }
    }

    pub(super) fn rules(retry: Retry, deadline: Instant) -> Rules<'static> {
        Rules { named: NAMED, call: Call::default(), retry, deadline, spills: true, explained: false }
    }

    pub(super) fn alias() -> Alias {
        let deployment = |name: &str, urls: &[&str], priority| Deployment {
            priority,
            ..Deployment::new("m", Arc::new(keyed(name, urls)), UpstreamModel::AsSent)
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
            limits: Arc::default(),
            forecast: Arc::default(),
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
        let rests = |nowhere| match nowhere {
            Nowhere::Rests(rest) => Some(rest),
            Nowhere::Left | Nowhere::Full(_) => None,
        };
        let mut now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let mut plan = Plan::new(alias, CHAT, &|_| true, rules(retry, deadline), now);
        let mut seen = Vec::new();
        loop {
            match plan.next(now) {
                Next::Try(deployment, flight) => {
                    seen.push(deployment.cluster.name().to_owned());
                    if !plan.failed(deployment, at(&flight), false, (cause, wait), now) {
                        return (seen, None);
                    }
                }
                Next::Wait(wait) => {
                    assert!(wait <= retry.max_delay);
                    seen.push("wait".to_owned());
                    now += wait;
                }
                Next::Queue(..) => panic!("there is no gate"),
                Next::Over(nowhere) => return (seen, rests(nowhere)),
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
        let seek = |made, (cause, is_first), fit: fn(&Deployment) -> bool| {
            let lost = Lost { cluster: first, endpoint: &lost, cause, is_first };
            let rules = rules(Retry { attempts: 3, ..RETRY }, now + Duration::from_secs(60));
            let plan = Plan::new(&alias, CHAT, &|_| true, rules, now);
            let mut plan = plan.resuming(made, &lost, fit);
            match plan.next(now) {
                Next::Try(deployment, flight) => {
                    assert!(!Arc::ptr_eq(flight.endpoint(), lost.endpoint), "not where it broke off");
                    Some(deployment.cluster.name().to_owned())
                }
                Next::Queue(..) | Next::Wait(_) | Next::Over(_) => None,
            }
        };
        let (again, moved) = ((Cause::Broken, false), (Cause::Evicted, false));
        let only_first: fn(&Deployment) -> bool = |deployment| deployment.cluster.name() == "first";
        assert_eq!(seek(1, again, |_| true).as_deref(), Some("first"));
        assert_eq!(
            seek(1, again, |deployment| deployment.cluster.name() == "spare").as_deref(),
            Some("spare")
        );
        assert_eq!(seek(1, again, |_| false), None);
        assert_eq!(seek(3, again, |_| true), None, "all attempts are made");
        while first.budget.take() {}
        assert_eq!(seek(1, again, only_first), None, "its budget is used up");
        for _ in 0..100 {
            assert!(seek(1, moved, only_first).is_some(), "its place was taken from it");
            assert!(seek(1, (Cause::Broken, true), only_first).is_some(), "what is lost is made good once");
        }
    }

    #[test]
    fn what_is_lost_is_made_good_by_one_attempt_that_no_budget_pays() {
        let alias = alias();
        let (now, first) = (Instant::now(), &alias.deployments[1].cluster);
        while first.budget.take() {}
        let lost =
            Lost { cluster: first, endpoint: &first.endpoints()[0], cause: Cause::Slow, is_first: true };
        let plan = Plan::new(&alias, CHAT, &|_| true, rules(RETRY, now + Duration::from_secs(60)), now);
        let mut plan = plan.resuming(1, &lost, |deployment| deployment.cluster.name() == "first");
        let Next::Try(deployment, flight) = plan.next(now) else { panic!("it is free") };
        assert!(plan.failed(deployment, at(&flight), true, (Some(Cause::Failed), None), now));
        plan.tired.clear();
        assert!(matches!(plan.next(now), Next::Over(_)), "the next is a further attempt as ever");
    }

    #[test]
    fn without_a_key_only_the_node_rests_that_refused() {
        let mut alias = alias();
        alias.deployments[1].cluster =
            Arc::new(cluster("first", &["http://127.0.0.1:1", "http://127.0.0.1:2"]));
        let (seen, _) = visit(&alias, RETRY, Some(Cause::Limited), Some(Duration::from_secs(7)));
        assert_eq!(seen, ["first", "first", "spare"]);
    }

    #[test]
    fn a_short_rest_is_waited_for() {
        let wait = Duration::from_millis(300);
        let retry = Retry { attempts: 4, ..RETRY };
        let (mut seen, _) = visit(&alias(), retry, Some(Cause::Limited), Some(wait));
        assert_eq!(seen[..3], ["first", "spare", "wait"]);
        // Rests are a little longer at random: which is over first is not known.
        seen.retain(|place| place != "wait");
        seen.sort();
        assert_eq!(seen, ["first", "first", "spare", "spare"]);
    }

    #[test]
    fn what_cannot_serve_is_left_and_what_helps_nowhere_is_not_tried_again() {
        assert_eq!(visit(&alias(), RETRY, Some(Cause::Unserved), None).0, ["first", "spare"]);
        assert_eq!(visit(&alias(), RETRY, None, None).0, ["first"]);
        let only = Retry { causes: Causes::of([Cause::Unsent]), ..RETRY };
        assert_eq!(visit(&alias(), only, Some(Cause::Failed), None).0, ["first"]);
    }

    /// Where a second attempt would go beside the first one's, and where beside that.
    fn beside(alias: &Alias, takes: impl Fn(&Deployment) -> bool + Copy) -> (String, Vec<String>) {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let mut plan = Plan::new(alias, CHAT, &|_| true, rules(RETRY, deadline), now);
        let Next::Try(first, flight) = plan.next(now) else { panic!("there is a place") };
        let (mut at, mut seen) = (Arc::clone(flight.endpoint()), Vec::new());
        while let Some((place, flight)) = plan.beside(first, &at, now, takes) {
            seen.push(place.cluster.name().to_owned());
            assert!(!Arc::ptr_eq(&at, flight.endpoint()));
            plan.dead.push(at);
            at = Arc::clone(flight.endpoint());
        }
        (first.cluster.name().to_owned(), seen)
    }

    #[test]
    fn a_second_attempt_stays_at_the_deployment_or_goes_to_its_equal() {
        let mut alias = alias();
        assert_eq!(beside(&alias, |_| true), ("first".into(), vec!["first".into()]), "a spare is no equal");
        alias.deployments[0].priority = 0;
        alias.deployments[0].weight = 1;
        alias.deployments[1].weight = u32::MAX;
        assert_eq!(beside(&alias, |_| true).1, ["first", "spare"]);
        assert_eq!(beside(&alias, |place| place.cluster.name() == "first").1, ["first"]);
        let now = Instant::now();
        let endpoint = Arc::clone(&alias.deployments[0].cluster.endpoints()[0]);
        alias.deployments[0].rest_until((NAMED, &endpoint), now + Duration::from_secs(9), now);
        assert_eq!(beside(&alias, |_| true).1, ["first"]);
        alias.deployments[1].cluster.endpoints()[1].probed(Health::Down, Duration::ZERO);
        assert!(beside(&alias, |_| true).1.is_empty());
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
        let mut plan = Plan::new(&alias, CHAT, &|_| true, rules(retry, now), now);
        let Next::Try(first, _) = plan.next(now) else { panic!("there is a place") };
        plan.unwritten(first);
        let Next::Try(second, _) = plan.next(now) else { panic!("there is another") };
        assert!(!std::ptr::eq(first, second));
        plan.unwritten(second);
        assert!(matches!(plan.next(now), Next::Over(Nowhere::Left)));
    }

    /// An alias whose first deployment lets one exchange in at a time, and where what would wait goes to the spare if it
    /// may.
    fn gated() -> Alias {
        let mut alias = alias();
        let policy =
            admission::Policy { limit: admission::Limit::Fixed(1), queue: 1, wait: Duration::from_secs(10) };
        let spill = spill::Policy {
            wait: Some(Duration::ZERO),
            over: Duration::from_secs(10),
            ..spill::Policy::default()
        };
        let mut first = cluster("first", &["http://127.0.0.1:1"]);
        first.gate = Some(Arc::new(Gate::new("first", policy)));
        first.spill = Some(Spill::new(spill));
        alias.deployments[1].cluster = Arc::new(first);
        alias
    }

    fn plan(alias: &Alias, spills: bool, now: Instant) -> Plan<'_> {
        let rules = Rules { spills, ..rules(RETRY, now + Duration::from_secs(60)) };
        Plan::new(alias, CHAT, &|_| true, rules, now)
    }

    fn place(next: Next<'_>) -> (String, InFlight) {
        match next {
            Next::Try(deployment, flight) => (deployment.cluster.name().to_owned(), flight),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_finds_no_place_waits_and_goes_there_in_its_turn() {
        let (alias, now) = (gated(), Instant::now());
        let (name, held) = place(plan(&alias, false, now).next(now));
        assert_eq!(name, "first");
        let mut waits = plan(&alias, false, now);
        let Next::Queue(index, gate) = waits.next(now) else { panic!("it is full") };
        drop(held);
        waits.admitted(index, gate.enter().unwrap(), Duration::from_secs(1));
        let (name, held) = place(waits.next(now));
        assert_eq!((name.as_str(), gate.counts().used), ("first", 1));
        assert_eq!(waits.story(), "first: queued for 1.000 s");
        drop(held);
        assert_eq!(gate.counts().used, 1, "the place is kept for another attempt there");
        drop(waits);
        assert_eq!(gate.counts().used, 0);
    }

    #[test]
    fn what_may_goes_elsewhere_and_what_may_not_is_told_when_to_come_again() {
        let (alias, now) = (gated(), Instant::now());
        let (_, _held) = place(plan(&alias, true, now).next(now));
        let mut spills = plan(&alias, true, now);
        assert_eq!(place(spills.next(now)).0, "spare");
        assert_eq!(spills.story(), "first: no free place");
        let mut stays = plan(&alias, false, now);
        let Next::Queue(index, _) = stays.next(now) else { panic!("it is full") };
        let after = Duration::from_secs(3);
        stays.refused(index, Refusal::Full(after));
        assert!(matches!(stays.next(now), Next::Over(Nowhere::Full(told)) if told == after));
    }

    #[test]
    fn what_may_go_elsewhere_waits_all_the_same_where_there_is_nothing_else() {
        let (mut alias, now) = (gated(), Instant::now());
        alias.deployments.remove(0);
        let (_, _held) = place(plan(&alias, true, now).next(now));
        let mut waits = plan(&alias, true, now);
        assert!(matches!(waits.next(now), Next::Queue(0, _)));
        waits.refused(0, Refusal::Late(Duration::ZERO));
        assert!(matches!(waits.next(now), Next::Over(Nowhere::Full(_))));
    }

    #[test]
    fn a_cluster_that_is_set_aside_is_asked_last() {
        let (alias, now) = (gated(), Instant::now());
        let spill = spill::Policy {
            failures: Some(1),
            over: Duration::from_secs(10),
            back: Duration::from_secs(30),
            ..spill::Policy::default()
        };
        let mut first = cluster("first", &["http://127.0.0.1:1"]);
        first.spill = Some(Spill::new(spill));
        let mut alias = alias;
        alias.deployments[1].cluster = Arc::new(first);
        let (_, mut flight) = place(plan(&alias, true, now).next(now));
        alias.deployments[1].cluster.report(&mut flight, Outcome::Bad, || now);
        assert_eq!(place(plan(&alias, true, now).next(now)).0, "first", "it is thought over now and then");
        let later = now + Duration::from_millis(200);
        assert_eq!(place(plan(&alias, true, later).next(later)).0, "spare");
        assert_eq!(place(plan(&alias, false, later).next(later)).0, "first", "it may not");
    }

    #[test]
    fn nothing_begins_after_the_deadline_and_no_storm_is_made() {
        let (alias, now) = (alias(), Instant::now());
        let mut plan = Plan::new(&alias, CHAT, &|_| true, rules(RETRY, now), now);
        assert!(matches!(plan.next(now), Next::Try(..)), "the first attempt is always made");
        assert!(matches!(plan.next(now), Next::Over(Nowhere::Left)));
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
