//! What becomes of a cluster's several keys within one exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let wanted = Wanted {
            model: &deployment.model.name(self.rules.named),
            call: self.rules.call,
            only: self.only_key().filter(|_| pool.is_several()),
            tried: &self.refused_keys,
            trust,
        };
        pool.lend(&wanted, now).map(|loan| Some(Box::new(loan)))
    }

    /// The same; one that was refused is better than none.
    pub(super) fn any_key(&self, deployment: &Deployment, now: Instant) -> Option<Key> {
        self.key(deployment, Trust::Accepted, now).or_else(|| self.key(deployment, Trust::Any, now))
    }

    /// How much longer the model is left alone at a deployment, with whichever key it can be asked.
    pub(super) fn rests(&self, deployment: &Deployment, now: Instant) -> Option<Duration> {
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
