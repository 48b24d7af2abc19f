//! What may be tried next, where, and how often.

use std::sync::Arc;
use std::time::Instant;

use crate::dialect::Operation;
use crate::route::alias::{Alias, Deployment, Order};
use crate::snapshot::Retry;
use crate::upstream::endpoint::{Endpoint, InFlight};

/// The deployments and endpoints of one exchange that are still to be tried.
#[derive(Debug)]
pub struct Plan<'a> {
    alias: &'a Alias,
    order: Order,
    tried: Vec<Arc<Endpoint>>,
    left: u32,
}

impl<'a> Plan<'a> {
    /// A plan over the deployments of `alias` that speak `operation`.
    pub fn new(
        alias: &'a Alias,
        operation: Operation,
        sticky: Option<&str>,
        retry: Retry,
        now: Instant,
    ) -> Self {
        Self {
            alias,
            order: alias.order(operation, sticky, now),
            tried: Vec::new(),
            left: retry.attempts.max(1),
        }
    }

    /// The next place to try: another endpoint of the same deployment first, then the next deployment. `None` once
    /// there is none left, or no attempt.
    pub fn next(&mut self, now: Instant) -> Option<(&'a Deployment, InFlight)> {
        self.left = self.left.checked_sub(1)?;
        self.order.iter().find_map(|index| {
            let deployment = self.alias.deployments.get(*index)?;
            let flight = deployment.cluster.pick(now, &mut fastrand::Rng::new(), &self.tried)?;
            Some((deployment, flight))
        })
    }

    /// Strikes an endpoint that failed.
    pub fn strike(&mut self, endpoint: &Arc<Endpoint>) {
        self.tried.push(Arc::clone(endpoint));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clocks::Overrides;
    use crate::route::alias::{Sticky, UpstreamModel};
    use crate::route::pattern::Pattern;
    use crate::upstream::cluster::tests::cluster;

    #[test]
    fn every_endpoint_is_tried_once_and_attempts_are_bounded() {
        let deployment = |name: &str, urls: &[&str], priority| Deployment {
            priority,
            ..Deployment::new("m", Arc::new(cluster(name, urls)), UpstreamModel::AsSent)
        };
        let alias = Alias {
            pattern: Pattern::parse("m").unwrap(),
            name: "m".into(),
            deployments: vec![
                deployment("spare", &["http://127.0.0.1:3"], 1),
                deployment("first", &["http://127.0.0.1:1", "http://127.0.0.1:2"], 0),
            ],
            sticky: Sticky::No,
            clocks: Overrides::default(),
            listed: true,
        };
        let visit = |attempts| {
            let now = Instant::now();
            let retry = Retry { attempts, delay: Duration::ZERO };
            let mut plan = Plan::new(&alias, Operation::ChatCompletions, None, retry, now);
            let mut seen = Vec::new();
            while let Some((deployment, flight)) = plan.next(now) {
                seen.push(deployment.cluster.name().to_owned());
                plan.strike(flight.endpoint());
            }
            seen
        };
        assert_eq!(visit(10), ["first", "first", "spare"]);
        assert_eq!(visit(2), ["first", "first"]);
        assert_eq!(visit(0).len(), 1, "there is always one attempt");
    }
}
