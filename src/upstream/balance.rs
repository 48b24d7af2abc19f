//! Which endpoint of a cluster takes the next exchange.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::endpoint::Endpoint;

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

    /// Picks an endpoint that `usable` allows. Where none is available, one that is not is picked: sending an
    /// exchange to an endpoint thought sick is better than refusing every client.
    pub fn pick<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        now: Instant,
        chance: &mut impl Chance,
        usable: impl Fn(&Endpoint) -> bool,
    ) -> Option<&'a Arc<Endpoint>> {
        let healthy = |endpoint: &Endpoint| endpoint.available(now) && usable(endpoint);
        self.among(endpoints, chance, &healthy).or_else(|| {
            let any = |endpoint: &Endpoint| endpoint.spec.weight > 0 && usable(endpoint);
            self.among(endpoints, chance, &any)
        })
    }

    fn among<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        chance: &mut impl Chance,
        usable: &impl Fn(&Endpoint) -> bool,
    ) -> Option<&'a Arc<Endpoint>> {
        match self.strategy {
            Strategy::LeastConnections => least(endpoints, chance, usable, by_load),
            Strategy::Latency => least(endpoints, chance, usable, by_wait),
            Strategy::Priority => {
                let first = endpoints.iter().filter(|e| usable(e)).map(|e| e.spec.priority).min()?;
                exact(endpoints, chance, &|e: &Endpoint| e.spec.priority == first && usable(e), by_load)
            }
            Strategy::Random => by_weight(endpoints, usable, |total| chance.below(total)),
            Strategy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Relaxed);
                by_weight(endpoints, usable, |total| spread(turn, total))
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

/// Compares two endpoints; the lesser takes the exchange.
type Compare = fn(&Endpoint, &Endpoint) -> Ordering;

/// `(in_flight + 1) / weight`, compared without dividing.
fn by_load(a: &Endpoint, b: &Endpoint) -> Ordering {
    let load =
        |mine: &Endpoint, other: &Endpoint| (u64::from(mine.in_flight()) + 1) * u64::from(other.spec.weight);
    load(a, b).cmp(&load(b, a))
}

/// Average time to first token times `(in_flight + 1) / weight`; an endpoint that was never tried goes first.
fn by_wait(a: &Endpoint, b: &Endpoint) -> Ordering {
    let wait = |mine: &Endpoint, other: &Endpoint| {
        mine.average_first_token().as_micros()
            * (u128::from(mine.in_flight()) + 1)
            * u128::from(other.spec.weight)
    };
    wait(a, b).cmp(&wait(b, a)).then_with(|| by_load(a, b))
}

fn least<'a>(
    endpoints: &'a [Arc<Endpoint>],
    chance: &mut impl Chance,
    usable: &impl Fn(&Endpoint) -> bool,
    compare: Compare,
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
    compare: Compare,
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
    draw: impl FnOnce(usize) -> usize,
) -> Option<&'a Arc<Endpoint>> {
    let usable = || endpoints.iter().filter(|endpoint| usable(endpoint));
    let total: usize = usable().map(|endpoint| endpoint.spec.weight as usize).sum();
    if total == 0 {
        return None;
    }
    let mut left = draw(total);
    for endpoint in usable() {
        let weight = endpoint.spec.weight as usize;
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

    use super::super::ejection::Ejection;
    use super::super::endpoint::Health;
    use super::super::endpoint::tests::endpoint;
    use super::*;

    fn fleet(weights: &[u32]) -> Vec<Arc<Endpoint>> {
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| endpoint(&format!("http://127.0.0.1:{}", 8000 + i), *weight, i as u32))
            .collect()
    }

    fn shares(balancer: &Balancer, fleet: &[Arc<Endpoint>], picks: usize, hold: bool) -> Vec<usize> {
        let (mut rng, now) = (fastrand::Rng::with_seed(7), Instant::now());
        let (mut held, mut counts) = (Vec::new(), HashMap::new());
        for _ in 0..picks {
            let picked = balancer.pick(fleet, now, &mut rng, |_| true).unwrap();
            *counts.entry(picked.name.clone()).or_insert(0) += 1;
            if hold {
                held.push(picked.enter());
            }
        }
        fleet.iter().map(|e| counts.get(&e.name).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn least_connections_follow_the_weights_exactly() {
        let fleet = fleet(&[1, 2, 5]);
        assert_eq!(shares(&Balancer::default(), &fleet, 80, true), [10, 20, 50]);
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
        let _held = fleet[1].enter();
        let _more = fleet[1].enter();
        assert_eq!(shares(&balancer, &fleet, 1, false), [1, 0, 0]);
    }

    #[test]
    fn sick_endpoints_are_passed_over_unless_all_are_sick() {
        for size in [3, 12] {
            let fleet = fleet(&vec![1; size]);
            for endpoint in &fleet[1..] {
                endpoint.record.eject(Instant::now(), &Ejection::default());
            }
            assert_eq!(shares(&Balancer::default(), &fleet, 5, false)[0], 5);
            fleet[0].probed(Health::Down, Duration::ZERO);
            assert_eq!(shares(&Balancer::default(), &fleet, 50, false).iter().sum::<usize>(), 50);
        }
    }

    #[test]
    fn what_is_not_usable_is_never_picked_and_weight_zero_takes_nothing() {
        let fleet = fleet(&[0, 1]);
        let mut rng = fastrand::Rng::with_seed(1);
        let name = fleet[1].name.clone();
        let picked = Balancer::default().pick(&fleet, Instant::now(), &mut rng, |e| e.name != name);
        assert!(picked.is_none());
    }
}
