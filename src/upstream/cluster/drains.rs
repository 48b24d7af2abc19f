//! How a cluster's endpoints drain: new exchanges go elsewhere, what runs ends, and that is told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Cluster;
use crate::upstream::endpoint::{By, Deadline, Duty, Endpoint, Stage, Turn};
use crate::upstream::origin::Origin;

/// What of a cluster drains.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Endpoints that were taken off the list while they drained: as long as something runs there, and beyond that for the
    /// case that they come back.
    leaving: Mutex<Vec<Arc<Endpoint>>>,
    /// Told when a drain begins.
    begun: Notify,
}

impl Drains {
    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Endpoint>>> {
        // There is nothing behind the lock that a panic could have left half done.
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of those that were known, keeps in sight what drains and is not among the new ones.
    pub(super) fn leave(&self, known: Vec<Arc<Endpoint>>, new: &[Arc<Endpoint>]) {
        let mut leaving = known;
        leaving
            .retain(|endpoint| endpoint.is_draining() && !new.iter().any(|new| Arc::ptr_eq(new, endpoint)));
        forget(&mut leaving, new);
        *self.leaving() = leaving;
    }
}

/// So many idle endpoints are kept in mind that were taken off the list while they drained. One costs about a kilobyte.
const KEPT: usize = 1024;

/// Forgets those where nothing runs and that need not be known when they come back: they are among the `present` ones, or
/// were put back into service, or others have left after them and are enough to be kept.
fn forget(leaving: &mut Vec<Arc<Endpoint>>, present: &[Arc<Endpoint>]) {
    let mut kept: HashSet<Origin> = present.iter().map(|endpoint| endpoint.spec.origin.clone()).collect();
    let most = kept.len() + KEPT;
    leaving.retain(|endpoint| {
        let is_wanted =
            endpoint.is_draining() && kept.len() < most && kept.insert(endpoint.spec.origin.clone());
        is_wanted || endpoint.in_flight() > 0
    });
}

/// An endpoint where exchanges may run.
#[derive(Clone, Debug)]
pub struct Somewhere {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Whether it is among those of its cluster, or was taken off the list while it drained.
    pub listed: bool,
}

impl Cluster {
    /// Every endpoint where exchanges may run or that drains: the present ones, and those that have left.
    pub fn everywhere(&self) -> Vec<Somewhere> {
        let present = self.endpoints();
        let listed =
            present.iter().map(|endpoint| Somewhere { endpoint: Arc::clone(endpoint), listed: true });
        let leaving = self.drains.leaving();
        let left = leaving.iter().map(|endpoint| Somewhere { endpoint: Arc::clone(endpoint), listed: false });
        listed.chain(left).collect()
    }

    /// Whether there are endpoints, and all of them drain.
    pub fn is_draining(&self) -> bool {
        let endpoints = self.endpoints.load();
        !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.is_draining())
    }

    /// Sends nothing new to an endpoint from now on. What runs there has until the deadline, if there is one.
    pub fn drain(&self, endpoint: &Arc<Endpoint>, by: By, deadline: Deadline, now: Instant) {
        let _changing = self.changing();
        self.at_each(endpoint, |endpoint| self.drain_one(endpoint, by, deadline, now));
        // It may have left the list since it was looked up.
        let (present, mut leaving) = (self.endpoints.load(), self.drains.leaving());
        if !present.iter().chain(leaving.iter()).any(|known| Arc::ptr_eq(known, endpoint)) {
            leaving.insert(0, Arc::clone(endpoint));
            forget(&mut leaving, &present);
        }
    }

    fn drain_one(&self, endpoint: &Endpoint, by: By, deadline: Deadline, now: Instant) {
        if !endpoint.drain(by, deadline, now) {
            return;
        }
        let left = endpoint.time_left(now).map_or_else(String::new, |left| {
            format!("; what still runs then is ended in {:.1} s", left.as_secs_f64())
        });
        log::info!(
            "cluster {}: {} is drained ({}): {} under way{left}",
            self.name(),
            endpoint.name,
            by.name(),
            endpoint.in_flight()
        );
        self.drains.begun.notify_one();
    }

    /// Sends new exchanges to an endpoint again, unless another wants it drained, too.
    pub fn resume(&self, endpoint: &Endpoint, by: By) {
        let _changing = self.changing();
        self.at_each(endpoint, |endpoint| {
            if endpoint.resume(by) {
                log::info!("cluster {}: {} is back in service", self.name(), endpoint.name);
            }
        });
        forget(&mut self.drains.leaving(), &self.endpoints.load());
    }

    /// Does something at an endpoint, and at one that has taken its place since it was looked up. To be called with the
    /// lock held that its replacement takes.
    fn at_each(&self, endpoint: &Endpoint, work: impl Fn(&Endpoint)) {
        work(endpoint);
        let endpoints = self.endpoints.load();
        let is_heir = |other: &&Arc<Endpoint>| {
            other.spec.origin == endpoint.spec.origin && !std::ptr::eq(&***other, endpoint)
        };
        endpoints.iter().filter(is_heir).for_each(|heir| work(heir));
    }

    /// Takes the next turn of every drain. Says whether there is any to look after, and how soon.
    fn tend(&self, now: Instant) -> Option<Duration> {
        let mut soonest = None;
        for Somewhere { endpoint, .. } in self.everywhere() {
            match endpoint.take_turn(now) {
                Some(Turn::Idle(took)) => log::info!(
                    "cluster {}: {} is idle after {:.1} s of draining",
                    self.name(),
                    endpoint.name,
                    took.as_secs_f64()
                ),
                Some(Turn::Evicting(count)) => log::info!(
                    "cluster {}: the time of {} is over: {count} exchanges are evicted",
                    self.name(),
                    endpoint.name
                ),
                None => {}
            }
            if let Duty::Draining(draining) = endpoint.duty() {
                let left = match draining.stage {
                    Stage::Idle => RARE,
                    Stage::Emptying | Stage::Evicting => {
                        endpoint.time_left(now).filter(|left| !left.is_zero()).unwrap_or(LOOK).min(LOOK)
                    }
                };
                soonest = Some(soonest.map_or(left, |soonest: Duration| soonest.min(left)));
            }
        }
        // Half way through a replacement, who has just left would be taken for present.
        let _changing = self.changing();
        forget(&mut self.drains.leaving(), &self.endpoints.load());
        soonest
    }
}

/// How often it is looked whether what drains is idle.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether what is idle still is: whoever had picked it before it drained may come late.
const RARE: Duration = Duration::from_secs(1);

/// Looks after the drains of `cluster`: tells when an endpoint is idle, and ends what still runs at its deadline.
pub async fn keep_draining(cluster: Arc<Cluster>) {
    loop {
        let begun = cluster.drains.begun.notified();
        match cluster.tend(Instant::now()) {
            // Another drain need not wait for the turn of one that is idle.
            Some(wait) => {
                let _ = tokio::time::timeout(wait, begun).await;
            }
            None => begun.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, spec};
    use super::*;
    use crate::upstream::breaker::Pass;
    use crate::upstream::endpoint::EndpointSpec;

    const TWO: [&str; 2] = ["http://127.0.0.1:1", "http://127.0.0.1:2"];

    fn draining(cluster: &Cluster) -> Vec<(String, bool)> {
        let of = |somewhere: &Somewhere| (somewhere.endpoint.name.clone(), somewhere.listed);
        let all = cluster.everywhere();
        all.iter().filter(|somewhere| somewhere.endpoint.is_draining()).map(of).collect()
    }

    #[test]
    fn a_cluster_is_available_until_the_last_endpoint_drains() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let endpoints = cluster.endpoints();
        cluster.drain(&endpoints[0], By::Operator, None, now);
        assert!(cluster.available(now) && !cluster.is_draining());
        cluster.drain(&endpoints[1], By::Operator, None, now);
        assert!(!cluster.available(now) && cluster.is_draining());
        assert!(cluster.pick(now, &mut fastrand::Rng::with_seed(1), &[]).is_none());
        cluster.resume(&endpoints[0], By::Operator);
        assert!(cluster.available(now) && !cluster.is_draining());
    }

    #[test]
    fn rediscovery_puts_nothing_back_into_service() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let first = Arc::clone(&cluster.endpoints()[0]);
        cluster.drain(&first, By::Operator, None, now);
        cluster.replace(vec![spec(TWO[1]), spec(TWO[0])]);
        assert!(Arc::ptr_eq(&first, &cluster.endpoints()[1]));
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true)]);
        // Another weight is another endpoint, at the same place.
        let flight = first.enter(Pass::Beside);
        cluster.replace(vec![EndpointSpec { weight: 7, ..spec(TWO[0]) }, spec(TWO[1])]);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true), (TWO[0].to_owned(), false)]);
        drop(flight);
        assert!(cluster.tend(now).is_some());
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true)]);
    }

    #[test]
    fn what_leaves_the_list_while_it_drains_is_seen_to_its_end() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let first = Arc::clone(&cluster.endpoints()[0]);
        let flight = first.enter(Pass::Beside);
        cluster.drain(&first, By::Operator, Some(now + LOOK / 2), now);
        cluster.replace(vec![spec(TWO[1])]);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), false)]);
        assert_eq!(cluster.tend(now), Some(LOOK / 2), "not later than its deadline");
        assert!(!first.is_evicting());
        cluster.tend(now + LOOK);
        assert!(first.is_evicting());
        cluster.replace(vec![spec(TWO[0])]);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true)], "it came back as it was");
        cluster.replace(vec![spec(TWO[1])]);
        drop(flight);
        cluster.tend(now + LOOK);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), false)], "it may come back");
        assert_eq!(cluster.tend(now), Some(RARE), "there is no hurry");
    }

    #[test]
    fn what_is_idle_and_gone_drains_still_when_it_comes_back_until_it_is_put_back() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let first = Arc::clone(&cluster.endpoints()[0]);
        cluster.drain(&first, By::Operator, None, now);
        cluster.tend(now + LOOK);
        for weight in [1, 5] {
            for _ in 0..2 {
                cluster.replace(vec![spec(TWO[1])]);
                cluster.tend(now + LOOK);
            }
            assert_eq!(draining(&cluster), [(TWO[0].to_owned(), false)]);
            cluster.replace(vec![spec(TWO[1]), EndpointSpec { weight, ..spec(TWO[0]) }]);
            cluster.tend(now + LOOK);
            assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true)]);
        }
        cluster.replace(vec![spec(TWO[1])]);
        let gone = cluster.everywhere().into_iter().find(|somewhere| !somewhere.listed).unwrap();
        cluster.resume(&gone.endpoint, By::Operator);
        assert_eq!((cluster.everywhere().len(), cluster.tend(now)), (1, None));
        cluster.replace(TWO.map(spec).to_vec());
        assert!(draining(&cluster).is_empty());
    }

    #[test]
    fn only_so_many_of_the_gone_are_kept_in_mind_the_last_first() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let busy = Arc::clone(&cluster.endpoints()[1]);
        let _flight = busy.enter(Pass::Beside);
        cluster.endpoints().iter().for_each(|endpoint| cluster.drain(endpoint, By::File, None, now));
        let many = (0..KEPT).map(|port| spec(&format!("http://10.0.0.1:{}", port + 1)));
        cluster.replace(many.collect());
        cluster.endpoints().iter().for_each(|endpoint| cluster.drain(endpoint, By::File, None, now));
        assert_eq!(draining(&cluster).len(), KEPT + 2);
        cluster.replace(vec![]);
        cluster.tend(now + LOOK);
        let left = draining(&cluster);
        assert_eq!(left.len(), KEPT + 1);
        assert!(!left.contains(&(TWO[0].to_owned(), false)), "the first that has left is forgotten");
        assert!(left.contains(&(TWO[1].to_owned(), false)), "something runs there");
    }

    #[test]
    fn an_order_reaches_what_has_taken_the_place_of_whom_it_was_for() {
        let (cluster, now) = (cluster("gpu", &TWO), Instant::now());
        let before = Arc::clone(&cluster.endpoints()[0]);
        cluster.replace(vec![EndpointSpec { weight: 7, ..spec(TWO[0]) }, spec(TWO[1])]);
        cluster.drain(&before, By::Operator, None, now);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), true)]);
        cluster.resume(&before, By::Operator);
        assert!(draining(&cluster).is_empty() && !before.is_draining());
        cluster.replace(vec![spec(TWO[1])]);
        cluster.drain(&before, By::Operator, None, now);
        assert_eq!(draining(&cluster), [(TWO[0].to_owned(), false)], "it is kept in mind");
    }

    #[test]
    fn what_drains_takes_no_part_in_how_many_may_be_left_alone() {
        let (cluster, now) =
            (cluster("gpu", &["http://127.0.0.1:1", TWO[1], "http://127.0.0.1:3"]), Instant::now());
        let endpoints = cluster.endpoints();
        let fail = |endpoint: &Arc<Endpoint>| {
            for _ in 0..2 {
                let pass = endpoint.breaker.pass(super::super::millis(now), &cluster.spec.breaker);
                let mut flight = endpoint.enter(pass.unwrap_or(Pass::Beside));
                cluster.report(&mut flight, super::super::Outcome::Bad, || now);
            }
        };
        cluster.drain(&endpoints[0], By::Operator, None, now);
        fail(&endpoints[0]);
        fail(&endpoints[1]);
        fail(&endpoints[2]);
        let open = |index: usize| !endpoints[index].breaker.is_closed();
        assert!(open(1) && !open(2), "one of the two that serve, whatever the third does");
    }
}
