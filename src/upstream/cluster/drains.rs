//! How a cluster's endpoints drain: new exchanges go elsewhere, what runs ends, and that is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Cluster;
use crate::upstream::endpoint::{By, Duty, Endpoint, Turn};

/// What of a cluster drains.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Endpoints that were taken off the list while they drained, as long as something runs there.
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
        let leaves = |endpoint: &Arc<Endpoint>| {
            endpoint.is_draining()
                && endpoint.in_flight() > 0
                && !new.iter().any(|new| Arc::ptr_eq(new, endpoint))
        };
        *self.leaving() = known.into_iter().filter(leaves).collect();
    }
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
    /// Every endpoint where exchanges may run: the present ones, and those that have left and still drain.
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
    pub fn drain(&self, endpoint: &Endpoint, by: By, deadline: Option<Instant>, now: Instant) {
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

    /// Sends new exchanges to an endpoint again.
    pub fn resume(&self, endpoint: &Endpoint) {
        if endpoint.resume() {
            log::info!("cluster {}: {} is back in service", self.name(), endpoint.name);
        }
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
            if matches!(endpoint.duty(), Duty::Draining(_)) {
                let left = endpoint.time_left(now).filter(|left| !left.is_zero()).unwrap_or(LOOK);
                soonest = Some(soonest.map_or(left, |soonest: Duration| soonest.min(left)));
            }
        }
        self.drains.leaving().retain(|endpoint| endpoint.in_flight() > 0);
        soonest.map(|left| left.min(LOOK))
    }
}

/// How often it is looked whether what drains is idle.
const LOOK: Duration = Duration::from_millis(50);

/// Looks after the drains of `cluster`: tells when an endpoint is idle, and ends what still runs at its deadline.
pub async fn keep_draining(cluster: Arc<Cluster>) {
    loop {
        match cluster.tend(Instant::now()) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => cluster.drains.begun.notified().await,
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
        cluster.resume(&endpoints[0]);
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
        assert!(draining(&cluster).is_empty() && cluster.tend(now).is_none());
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
