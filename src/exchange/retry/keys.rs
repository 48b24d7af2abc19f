//! What becomes of a cluster's several keys within one exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{Passed, Plan};
use crate::exchange::affinity::Owner;
use crate::route::alias::Deployment;
use crate::upstream::keys::{KeyUse, Loan, Trust, Wanted};

/// A key where one is needed.
type Key = Option<Box<Loan>>;

impl Plan<'_> {
    /// Nothing but that owner can be asked, whatever becomes of it.
    pub fn only_of(&mut self, owner: &Arc<Owner>) {
        self.only = Some(Arc::clone(owner));
    }

    /// The one key that can be asked, where it is no matter of choice.
    fn only_key(&self) -> Option<&str> {
        self.only.as_ref()?.key.as_deref()
    }

    /// A key of a deployment's cluster, where it has several or one that changes. Nothing where there is none that will do.
    pub(super) fn key(&self, deployment: &Deployment, trust: Trust, now: Instant) -> Option<Key> {
        let Some(pool) = &deployment.cluster.pool else { return Some(None) };
        let full = self.full_keys.iter().map(|(key, _)| key);
        let tried: SmallVec<[_; 4]> = self.refused_keys.iter().chain(full).cloned().collect();
        let wanted = Wanted {
            model: &deployment.model.name(self.rules.named),
            call: self.rules.call,
            only: self.only_key().filter(|_| pool.is_several()),
            tried: &tried,
            trust,
        };
        pool.lend(&wanted, now).map(|loan| Some(Box::new(loan)))
    }

    /// The same; one that was refused is better than none.
    pub(super) fn any_key(&self, deployment: &Deployment, now: Instant) -> Option<Key> {
        self.key(deployment, Trust::Accepted, now).or_else(|| self.key(deployment, Trust::Any, now))
    }

    /// How much longer the model is left alone at a deployment, with whichever key it can be asked.
    pub(super) fn model_rests(&self, deployment: &Deployment, now: Instant) -> Option<Duration> {
        match (self.only_key(), deployment.cluster.choice()) {
            (Some(only), Some(pool)) if pool.any_rests(now) => {
                pool.rests(&deployment.model.name(self.rules.named), Some(only), now)
            }
            (Some(_), Some(_)) => None,
            _ => deployment.rests(self.rules.named, now),
        }
    }

    /// Leaves the model alone with that key, where there is a choice: the others have rates of their own. Says whether it did.
    pub(super) fn rest_key(
        &mut self,
        deployment: &Deployment,
        used: Option<&KeyUse>,
        at: Instant,
        now: Instant,
    ) -> bool {
        let (Some(used), Some(pool)) = (used, deployment.cluster.choice()) else { return false };
        pool.rest_until((&deployment.model.name(self.rules.named), &used.key), at, now);
        self.tell_key(deployment, used, "is at its rate");
        // Those who refuse it so are spared: there are no more such attempts than keys.
        self.replaces = true;
        true
    }

    /// The attempt could not be served. Where that is because its key was refused, the deployment may serve it with another
    /// key, or with what has taken its place meanwhile. Says whether it is so.
    pub(super) fn leave_key(&mut self, deployment: &Deployment, used: Option<&KeyUse>) -> bool {
        let Some(used) = used else { return false };
        let outdated = used.is_outdated();
        if !outdated && (deployment.cluster.choice().is_none() || used.key.breaker.is_accepted()) {
            return false;
        }
        if !outdated {
            self.refused_keys.push(Arc::clone(&used.key));
        }
        self.tell_key(deployment, used, if outdated { "has been replaced" } else { "was refused" });
        self.replaces = true;
        true
    }

    fn tell_key(&mut self, deployment: &Deployment, used: &KeyUse, why: &'static str) {
        if let Some(index) = self.index_of(deployment) {
            self.story.tell(index, Passed::Key(used.key.name.clone(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::tests::{RETRY, alias, at, rules};
    use super::super::{Next, Nowhere};
    use super::*;
    use crate::dialect::Operation;
    use crate::route::alias::Alias;
    use crate::secret::Secret;
    use crate::snapshot::Cause;
    use crate::upstream::breaker::key::Fault;
    use crate::upstream::cluster::Cluster;
    use crate::upstream::cluster::tests::pooled;

    const CHAT: (Operation, Option<&str>) = (Operation::ChatCompletions, None);

    /// A first deployment with three keys at one endpoint, and a spare.
    fn three() -> Alias {
        let mut alias = alias();
        alias.deployments[1].cluster = Arc::new(pooled("first", &["http://127.0.0.1:1"], &["a", "b", "c"]));
        alias
    }

    fn cluster(alias: &Alias) -> &Cluster {
        &alias.deployments[1].cluster
    }

    /// Where attempts go that all fail so, up to the end: clusters and keys, and why no more were made.
    fn visit(
        alias: &Alias,
        owner: Option<Owner>,
        cause: Cause,
        fault: Option<Fault>,
    ) -> (Vec<String>, Nowhere, String) {
        let now = Instant::now();
        let mut plan = Plan::new(alias, CHAT, &|_| true, rules(RETRY, now + Duration::from_secs(60)), now);
        if let Some(owner) = owner {
            plan.only_of(&Arc::new(owner));
        }
        let mut seen = Vec::new();
        loop {
            match plan.next(now) {
                Next::Try(deployment, flight) => {
                    let key = flight.key().map_or(String::new(), |used| format!(" {}", used.key.name));
                    seen.push(format!("{}{key}", deployment.cluster.name()));
                    if let Some(fault) = fault {
                        deployment.cluster.refused(fault, flight.key(), now);
                    }
                    assert!(plan.failed(
                        deployment,
                        at(&flight),
                        true,
                        (Some(cause), Some(Duration::from_secs(9))),
                        now
                    ));
                }
                Next::Over(nowhere) => return (seen, nowhere, plan.story()),
                Next::Wait(_) | Next::Queue(..) => panic!("there is nothing to wait for"),
            }
        }
    }

    #[test]
    fn every_key_is_another_place_before_the_next_deployment_and_costs_no_budget() {
        for (cause, fault) in [(Cause::Unserved, Some(Fault::Payment)), (Cause::Limited, None)] {
            let alias = three();
            while cluster(&alias).budget.take() {}
            let (seen, nowhere, story) = visit(&alias, None, cause, fault);
            let mut keys = seen[..3].to_vec();
            keys.sort();
            assert_eq!(
                (keys.join(","), &*seen[3]),
                ("first a,first b,first c".to_owned(), "spare"),
                "{seen:?}"
            );
            assert_eq!(seen.len(), 4, "each once: {seen:?}");
            let is_rest = matches!(nowhere, Nowhere::Rests(left) if left > Duration::from_secs(8));
            assert_eq!(is_rest, cause == Cause::Limited, "{nowhere:?}");
            let told = if cause == Cause::Limited { "key b is at its rate" } else { "key b was refused" };
            assert!(story.contains(told), "{story}");
        }
    }

    #[test]
    fn a_model_that_is_not_there_is_so_with_every_key() {
        assert_eq!(visit(&three(), None, Cause::Unserved, None).0.len(), 2);
    }

    #[test]
    fn an_owner_is_asked_with_its_key_or_not_at_all() {
        let owner = || Owner { cluster: "first".to_owned(), endpoint: None, key: Some("b".to_owned()) };
        let mut alias = three();
        alias.deployments.remove(0);
        let (seen, nowhere, _) = visit(&alias, Some(owner()), Cause::Limited, None);
        assert_eq!(seen, ["first b"]);
        assert!(matches!(nowhere, Nowhere::Rests(_)), "the others that do not rest are not its: {nowhere:?}");
        let alias = three();
        let mut gone = owner();
        gone.key = Some("z".to_owned());
        let seen = visit(&alias, Some(gone), Cause::Limited, None).0;
        assert!(!seen.iter().any(|place| place.starts_with("first")), "{seen:?}");
    }

    #[test]
    fn a_second_attempt_takes_only_a_key_that_is_accepted() {
        let mut alias = alias();
        alias.deployments[1].cluster =
            Arc::new(pooled("first", &["http://127.0.0.1:1", "http://127.0.0.1:2"], &["a", "b"]));
        let now = Instant::now();
        let mut plan = Plan::new(&alias, CHAT, &|_| true, rules(RETRY, now + Duration::from_secs(60)), now);
        let Next::Try(first, flight) = plan.next(now) else { panic!("there is a place") };
        let endpoint = Arc::clone(flight.endpoint());
        let refuse = |used: &KeyUse| cluster(&alias).refused(Fault::Credential, Some(used), now);
        let beside =
            || plan.beside(first, &endpoint, now, |_| true).map(|(_, flight)| flight.key().unwrap().clone());
        refuse(flight.key().unwrap());
        let second = beside().unwrap();
        assert_ne!(second.key.name, flight.key().unwrap().key.name);
        refuse(&second);
        assert!(beside().is_none());
    }

    #[test]
    fn what_was_refused_with_a_secret_that_is_replaced_is_asked_again_with_the_new_one() {
        for keys in [&["a"][..], &["a", "b"]] {
            let mut alias = alias();
            alias.deployments.remove(0);
            alias.deployments[0].cluster = Arc::new(pooled("first", &["http://127.0.0.1:1"], keys));
            let (now, cluster) = (Instant::now(), &alias.deployments[0].cluster);
            let mut plan =
                Plan::new(&alias, CHAT, &|_| true, rules(RETRY, now + Duration::from_secs(60)), now);
            let Next::Try(deployment, flight) = plan.next(now) else { panic!("there is a place") };
            let used = flight.key().unwrap();
            let pool = cluster.pool.as_ref().unwrap();
            assert_eq!(pool.renew(&used.key, &Secret::new("new"), SystemTime::now(), now), Ok(true));
            cluster.refused(Fault::Credential, Some(used), now);
            assert!(used.key.breaker.is_accepted(), "the new one was not refused");
            assert!(plan.failed(deployment, at(&flight), true, (Some(Cause::Unserved), None), now));
            assert!(matches!(plan.next(now), Next::Try(..)));
            assert_eq!(
                plan.story(),
                "first: unserved; first: key a has been replaced"
                    .replace(" a ", &format!(" {} ", used.key.name))
            );
        }
    }
}
