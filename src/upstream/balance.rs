//! Which endpoint of a cluster takes the next exchange.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::breaker::{Pass, Policy};
use super::endpoint::{Endpoint, InFlight};

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The fewest exchanges under way for its weight; ties are broken at random.
    #[default]
    LeastConnections,
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// The lowest priority number that is available; least connections among equals.
    Priority,
    /// The shortest wait expected: average time to first token times exchanges under way.
    Latency,
    /// At random, by weight.
    Random,
}

/// Up to this many endpoints every one is compared; above it two drawn at random are.
const EXACT: usize = 8;

/// Draws below this bound come from the caller, so that tests are deterministic.
pub trait Chance {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize;
}

impl Chance for fastrand::Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.usize(..bound)
    }
}

/// The moment of a pick.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Milliseconds since the epoch of [`millis`](super::breaker::millis); any where there is nothing to be tried.
    pub now: u64,
    /// How endpoints are left alone and come back.
    pub policy: &'a Policy,
    /// Which breakers may be looked at for a try.
    pub trials: Trials,
}

/// Whether an endpoint that was left alone may be tried before one that is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trials {
    /// It may: an exchange that fails there has others to go to.
    First,
    /// Only where none is well.
    Last,
    /// There is none to be tried: every endpoint is well, and takes its whole share.
    None,
}

/// The state of a strategy.
#[derive(Debug, Default)]
pub struct Balancer {
    /// The strategy.
    pub strategy: Strategy,
    turn: AtomicUsize,
}

impl Balancer {
    /// A balancer with that strategy.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, turn: AtomicUsize::new(0) }
    }

    /// Picks an endpoint that `usable` allows, and counts the exchange in. Where none is available, one that is not is
    /// picked: sending an exchange to an endpoint thought sick is better than refusing every client. One that drains is
    /// never picked.
    pub fn pick(
        &self,
        endpoints: &[Arc<Endpoint>],
        moment: Moment<'_>,
        chance: &mut impl Chance,
        usable: impl Fn(&Endpoint) -> bool,
    ) -> Option<InFlight> {
        let well = |endpoint: &Endpoint| endpoint.is_up() && endpoint.breaker.is_closed() && usable(endpoint);
        let sick =
            |endpoint: &Endpoint| endpoint.is_up() && !endpoint.breaker.is_closed() && usable(endpoint);
        if moment.trials == Trials::First
            && let Some(flight) = self.trial(endpoints, moment, &sick, &well)
        {
            return Some(flight);
        }
        let enter = |endpoint: &Arc<Endpoint>| {
            let pass = endpoint.breaker.pass(moment.now, moment.policy);
            endpoint.enter(pass.unwrap_or(Pass::Beside))
        };
        if let Some(endpoint) = self.among(endpoints, moment, chance, &well) {
            return Some(enter(endpoint));
        }
        if moment.trials == Trials::Last
            && let Some(flight) = self.trial(endpoints, moment, &sick, &well)
        {
            return Some(flight);
        }
        let any =
            |endpoint: &Endpoint| endpoint.spec.weight > 0 && !endpoint.is_draining() && usable(endpoint);
        self.among(endpoints, moment, chance, &any).map(enter)
    }

    /// Enters an endpoint that was left alone and may be tried. One that would take nothing if it were well, because of
    /// its priority, can wait.
    fn trial(
        &self,
        endpoints: &[Arc<Endpoint>],
        moment: Moment<'_>,
        sick: &impl Fn(&Endpoint) -> bool,
        well: &impl Fn(&Endpoint) -> bool,
    ) -> Option<InFlight> {
        let admits =
            |endpoint: &Endpoint| sick(endpoint) && endpoint.breaker.admits(moment.now, moment.policy);
        let mut last = u32::MAX;
        if self.strategy == Strategy::Priority {
            let eligible = endpoints.iter().filter(|endpoint| well(endpoint) || admits(endpoint));
            last = eligible.map(|endpoint| endpoint.spec.priority).min()?;
        }
        let mut due = endpoints.iter().filter(|endpoint| endpoint.spec.priority <= last && admits(endpoint));
        due.find_map(|endpoint| Some(endpoint.enter(endpoint.breaker.pass(moment.now, moment.policy)?)))
    }

    fn among<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        moment: Moment<'_>,
        chance: &mut impl Chance,
        usable: &impl Fn(&Endpoint) -> bool,
    ) -> Option<&'a Arc<Endpoint>> {
        let weight = |endpoint: &Endpoint| match moment.trials {
            Trials::None => u64::from(endpoint.spec.weight) * 100,
            Trials::First | Trials::Last => endpoint.weight(moment.now, moment.policy),
        };
        let load = |a: &Endpoint, b: &Endpoint| by_load((a, weight(a)), (b, weight(b)));
        let wait = |a: &Endpoint, b: &Endpoint| by_wait((a, weight(a)), (b, weight(b)));
        match self.strategy {
            Strategy::LeastConnections => least(endpoints, chance, usable, load),
            Strategy::Latency => least(endpoints, chance, usable, wait),
            Strategy::Priority => {
                let first = endpoints.iter().filter(|e| usable(e)).map(|e| e.spec.priority).min()?;
                exact(endpoints, chance, &|e: &Endpoint| e.spec.priority == first && usable(e), load)
            }
            Strategy::Random => by_weight(endpoints, usable, weight, |total| chance.below(total)),
            Strategy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Relaxed);
                by_weight(endpoints, usable, weight, |total| spread(turn, total))
            }
        }
    }
}

/// Visits 0..total once in every `total` turns, with a stride that keeps the turns of one weight apart.
fn spread(turn: usize, total: usize) -> usize {
    let mut stride = (total * 618 / 1000).max(1);
    while greatest_common_divisor(stride, total) != 1 {
        stride += 1;
    }
    (turn % total) * stride % total
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// An endpoint and its weight.
type Weighed<'a> = (&'a Endpoint, u64);

/// `(in_flight + 1) / weight`, compared without dividing. The lesser takes the exchange.
fn by_load(a: Weighed<'_>, b: Weighed<'_>) -> Ordering {
    let load = |mine: Weighed<'_>, other: Weighed<'_>| burden(mine.0).saturating_mul(other.1);
    load(a, b).cmp(&load(b, a))
}

/// What counts against an endpoint: what it has to do, and what it has failed in a row. One that fails at once would
/// otherwise always seem to be the idlest, and take most of what comes, where its breaker may not open.
fn burden(endpoint: &Endpoint) -> u64 {
    u64::from(endpoint.in_flight()) + u64::from(endpoint.breaker.failures()) + 1
}

/// Average time to first token times `(in_flight + 1) / weight`; an endpoint that was never tried goes first.
fn by_wait(a: Weighed<'_>, b: Weighed<'_>) -> Ordering {
    let wait = |mine: Weighed<'_>, other: Weighed<'_>| {
        mine.0.average_first_token().as_micros() * u128::from(burden(mine.0)) * u128::from(other.1)
    };
    wait(a, b).cmp(&wait(b, a)).then_with(|| by_load(a, b))
}

fn least<'a>(
    endpoints: &'a [Arc<Endpoint>],
    chance: &mut impl Chance,
    usable: &impl Fn(&Endpoint) -> bool,
    compare: impl Fn(&Endpoint, &Endpoint) -> Ordering,
) -> Option<&'a Arc<Endpoint>> {
    if endpoints.len() <= EXACT {
        return exact(endpoints, chance, usable, compare);
    }
    // Where most are usable, two of a few draws are; where not, the scan finds the rest.
    let mut drawn: Option<&Arc<Endpoint>> = None;
    for _ in 0..6 {
        let candidate = &endpoints[chance.below(endpoints.len())];
        match drawn {
            _ if !usable(candidate) => {}
            None => drawn = Some(candidate),
            Some(first) if Arc::ptr_eq(first, candidate) => {}
            Some(first) => {
                return Some(if compare(candidate, first) == Ordering::Less { candidate } else { first });
            }
        }
    }
    exact(endpoints, chance, usable, compare)
}

fn exact<'a>(
    endpoints: &'a [Arc<Endpoint>],
    chance: &mut impl Chance,
    usable: &impl Fn(&Endpoint) -> bool,
    compare: impl Fn(&Endpoint, &Endpoint) -> Ordering,
) -> Option<&'a Arc<Endpoint>> {
    let mut best: Option<&Arc<Endpoint>> = None;
    let mut equals = 1;
    for endpoint in endpoints.iter().filter(|endpoint| usable(endpoint)) {
        match best.map_or(Ordering::Less, |best| compare(endpoint, best)) {
            Ordering::Less => (best, equals) = (Some(endpoint), 1),
            Ordering::Equal => {
                // Reservoir of one: each of k equals is kept with a chance of 1/k.
                equals += 1;
                if chance.below(equals) == 0 {
                    best = Some(endpoint);
                }
            }
            Ordering::Greater => {}
        }
    }
    best
}

fn by_weight<'a>(
    endpoints: &'a [Arc<Endpoint>],
    usable: &impl Fn(&Endpoint) -> bool,
    weight: impl Fn(&Endpoint) -> u64,
    draw: impl FnOnce(usize) -> usize,
) -> Option<&'a Arc<Endpoint>> {
    let usable = || endpoints.iter().filter(|endpoint| usable(endpoint));
    // In whole weights, so that turns come round soon; in hundredths while one of them comes back.
    let is_whole = |endpoint: &Arc<Endpoint>| weight(endpoint) == u64::from(endpoint.spec.weight) * 100;
    let unit = if usable().all(is_whole) { 100 } else { 1 };
    let weight = |endpoint: &Endpoint| (weight(endpoint) / unit) as usize;
    let total: usize = usable().map(|endpoint| weight(endpoint)).sum();
    if total == 0 {
        return None;
    }
    let mut left = draw(total);
    for endpoint in usable() {
        let weight = weight(endpoint);
        if left < weight {
            return Some(endpoint);
        }
        left -= weight;
    }
    // Health changed between the two walks: the first that is left will do.
    usable().next()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::super::endpoint::tests::endpoint;
    use super::super::endpoint::{By, Health};
    use super::*;

    fn fleet(weights: &[u32]) -> Vec<Arc<Endpoint>> {
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| endpoint(&format!("http://127.0.0.1:{}", 8000 + i), *weight, i as u32))
            .collect()
    }

    fn shares(balancer: &Balancer, fleet: &[Arc<Endpoint>], picks: usize, hold: bool) -> Vec<usize> {
        shares_at(balancer, fleet, picks, hold, 1000)
    }

    /// As of that time.
    fn shares_at(
        balancer: &Balancer,
        fleet: &[Arc<Endpoint>],
        picks: usize,
        hold: bool,
        now: u64,
    ) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(7);
        let policy = Policy::default();
        let moment = Moment { now, policy: &policy, trials: Trials::Last };
        let (mut held, mut counts) = (Vec::new(), HashMap::new());
        for _ in 0..picks {
            let picked = balancer.pick(fleet, moment, &mut rng, |_| true).unwrap();
            *counts.entry(picked.endpoint().name.clone()).or_insert(0) += 1;
            if hold {
                held.push(picked);
            }
        }
        fleet.iter().map(|e| counts.get(&e.name).copied().unwrap_or(0)).collect()
    }

    /// Leaves an endpoint alone, as of that time.
    fn open(endpoint: &Endpoint, now: u64) {
        let policy = Policy::default();
        let pass = endpoint.breaker.pass(now, &policy).unwrap();
        endpoint.breaker.open(pass, &policy, now, 0.0).unwrap();
    }

    /// Closes a breaker that was open until `now`, by as many tries as it takes.
    fn close(endpoint: &Endpoint, now: u64) {
        let policy = Policy::default();
        while !endpoint.breaker.is_closed() {
            let mut pass = endpoint.breaker.pass(now, &policy).unwrap();
            endpoint.breaker.succeeded(&mut pass, &policy, || now);
        }
    }

    #[test]
    fn least_connections_follow_the_weights_exactly() {
        let fleet = fleet(&[1, 2, 5]);
        assert_eq!(shares(&Balancer::default(), &fleet, 80, true), [10, 20, 50]);
    }

    #[test]
    fn one_that_fails_at_once_does_not_attract_what_comes() {
        let fleet = fleet(&[1, 1]);
        let policy = Policy { failures: 0, failure_rate: 0.0, ..Policy::default() };
        for _ in 0..5 {
            let pass = fleet[0].breaker.pass(1000, &policy).unwrap();
            assert_eq!(fleet[0].breaker.failed(pass, &policy, 1000), None);
        }
        let _busy: Vec<_> = (0..3).map(|_| fleet[1].enter(Pass::Beside)).collect();
        assert_eq!(shares(&Balancer::default(), &fleet, 20, false), [0, 20]);
    }

    #[test]
    fn two_choices_stay_near_the_weights_above_eight_endpoints() {
        let fleet = fleet(&[1; 20]);
        let shares = shares(&Balancer::default(), &fleet, 2000, true);
        assert!(shares.iter().all(|share| (90..=110).contains(share)), "{shares:?}");
    }

    #[test]
    fn round_robin_follows_the_weights_in_every_round() {
        let fleet = fleet(&[3, 1, 2]);
        let balancer = Balancer::new(Strategy::RoundRobin);
        assert_eq!(shares(&balancer, &fleet, 6, false), [3, 1, 2]);
        assert_eq!(shares(&balancer, &fleet, 6, false), [3, 1, 2]);
    }

    #[test]
    fn random_comes_within_five_points_of_the_weights() {
        let fleet = fleet(&[1, 3]);
        let shares = shares(&Balancer::new(Strategy::Random), &fleet, 10_000, false);
        assert!((2000..=3000).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn priority_uses_the_lowest_number_that_is_available() {
        let fleet = fleet(&[1, 1, 1]);
        let balancer = Balancer::new(Strategy::Priority);
        assert_eq!(shares(&balancer, &fleet, 5, false), [5, 0, 0]);
        fleet[0].probed(Health::Down, Duration::ZERO);
        assert_eq!(shares(&balancer, &fleet, 5, false), [0, 5, 0]);
    }

    #[test]
    fn latency_prefers_the_shortest_expected_wait_and_tries_the_unknown() {
        let fleet = fleet(&[1, 1, 1]);
        fleet[0].first_token(Duration::from_millis(100));
        fleet[1].first_token(Duration::from_millis(50));
        let balancer = Balancer::new(Strategy::Latency);
        assert_eq!(shares(&balancer, &fleet, 1, false), [0, 0, 1]);
        fleet[2].first_token(Duration::from_millis(400));
        let _held = fleet[1].enter(Pass::Beside);
        let _more = fleet[1].enter(Pass::Beside);
        assert_eq!(shares(&balancer, &fleet, 1, false), [1, 0, 0]);
    }

    #[test]
    fn sick_endpoints_are_passed_over_unless_all_are_sick() {
        for size in [3, 12] {
            let fleet = fleet(&vec![1; size]);
            for endpoint in &fleet[1..] {
                open(endpoint, 1000);
            }
            assert_eq!(shares(&Balancer::default(), &fleet, 5, false)[0], 5);
            fleet[0].probed(Health::Down, Duration::ZERO);
            assert_eq!(shares(&Balancer::default(), &fleet, 50, false).iter().sum::<usize>(), 50);
        }
    }

    #[test]
    fn what_comes_back_takes_a_tenth_at_first_and_its_whole_share_in_the_end() {
        for strategy in [Strategy::LeastConnections, Strategy::Random, Strategy::RoundRobin] {
            let fleet = fleet(&[1, 1]);
            open(&fleet[0], 1000);
            close(&fleet[0], 61_000);
            let share = |now| shares_at(&Balancer::new(strategy), &fleet, 1100, true, now)[0];
            let (first, half, whole) = (share(61_000), share(76_000), share(91_000));
            assert!((70..=130).contains(&first), "{strategy:?}: {first} of 1100 where 100 are fair");
            assert!((340..=440).contains(&half), "{strategy:?}: {half} of 1100 where 390 are fair");
            assert!((500..=600).contains(&whole), "{strategy:?}: {whole} of 1100 where 550 are fair");
        }
    }

    #[test]
    fn one_exchange_at_a_time_tries_what_was_left_alone_and_only_a_first_attempt_goes_out_of_its_way() {
        let fleet = fleet(&[1, 1, 1]);
        open(&fleet[1], 1000);
        let (policy, mut rng) = (Policy::default(), fastrand::Rng::with_seed(1));
        let mut pick = |balancer: &Balancer, now, trials| {
            let moment = Moment { now, policy: &policy, trials };
            balancer.pick(&fleet, moment, &mut rng, |_| true).unwrap()
        };
        let name = |flight: &InFlight| flight.endpoint().name.clone();
        let balancer = Balancer::new(Strategy::Latency);
        assert!((0..20).all(|_| name(&pick(&balancer, 60_999, Trials::First)) != fleet[1].name));
        assert!((0..20).all(|_| name(&pick(&balancer, 61_000, Trials::Last)) != fleet[1].name));
        let first = Balancer::new(Strategy::Priority);
        assert_eq!(name(&pick(&first, 61_000, Trials::First)), fleet[0].name, "it is a spare, and can wait");
        let trial = pick(&balancer, 61_000, Trials::First);
        assert_eq!(name(&trial), fleet[1].name);
        assert!((0..20).all(|_| name(&pick(&balancer, 61_000, Trials::First)) != fleet[1].name));
        drop(trial);
        assert_eq!(name(&pick(&balancer, 61_000, Trials::First)), fleet[1].name, "its place was given back");
        fleet[0].probed(Health::Down, Duration::ZERO);
        fleet[2].probed(Health::Down, Duration::ZERO);
        assert_eq!(name(&pick(&balancer, 61_000, Trials::Last)), fleet[1].name);
    }

    #[test]
    fn what_drains_is_never_picked_however_sick_the_others_are() {
        let now = std::time::Instant::now();
        for strategy in [
            Strategy::LeastConnections,
            Strategy::RoundRobin,
            Strategy::Priority,
            Strategy::Latency,
            Strategy::Random,
        ] {
            let fleet = fleet(&[1, 1, 1]);
            let balancer = Balancer::new(strategy);
            fleet[0].drain(By::Operator, None, now);
            assert_eq!(shares(&balancer, &fleet, 50, true)[0], 0, "{strategy:?}");
            fleet[1].probed(Health::Down, Duration::ZERO);
            open(&fleet[2], 1000);
            assert_eq!(shares(&balancer, &fleet, 50, true)[0], 0, "{strategy:?}: worse ones are there");
            // Not even to be tried, after it was left alone for long enough.
            open(&fleet[0], 1000);
            assert_eq!(shares_at(&balancer, &fleet, 50, true, 100_000)[0], 0, "{strategy:?}");
            assert_eq!(fleet.iter().filter(|endpoint| endpoint.drain(By::Operator, None, now)).count(), 2);
            let policy = Policy::default();
            for trials in [Trials::First, Trials::Last, Trials::None] {
                let moment = Moment { now: 100_000, policy: &policy, trials };
                let mut rng = fastrand::Rng::with_seed(1);
                assert!(balancer.pick(&fleet, moment, &mut rng, |_| true).is_none(), "{strategy:?}");
            }
            fleet[0].resume(By::Operator);
            assert!(shares(&balancer, &fleet, 5, false)[0] == 5, "{strategy:?}");
        }
    }

    #[test]
    fn what_is_not_usable_is_never_picked_and_weight_zero_takes_nothing() {
        let fleet = fleet(&[0, 1]);
        let mut rng = fastrand::Rng::with_seed(1);
        let name = fleet[1].name.clone();
        let policy = Policy::default();
        let moment = Moment { now: 1000, policy: &policy, trials: Trials::First };
        let picked = Balancer::default().pick(&fleet, moment, &mut rng, |e| e.name != name);
        assert!(picked.is_none());
    }
}
