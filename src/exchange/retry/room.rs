//! Limits of this gateway's own that have no room for an exchange at a place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Plan;
use crate::route::alias::Deployment;
use crate::upstream::keys::KeyUse;

/// As good as never, and not beyond any clock.
const FAR: Duration = Duration::from_secs(86_400);

/// Where the limits of this gateway's own have no room for an exchange, and for how long.
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) enum NoRoom<'k> {
    /// At a deployment.
    There(Duration),
    /// With that key.
    WithKey(&'k KeyUse, Duration),
}

impl<'a> Plan<'a> {
    /// The limits of that deployment, or of the key, have no room for the exchange for so long: it was not asked.
    pub(in crate::exchange) fn has_no_room(
        &mut self,
        deployment: &'a Deployment,
        no_room: NoRoom<'_>,
        now: Instant,
    ) {
        self.made -= 1;
        // To come back later is no further attempt.
        if self.is_new {
            self.asked_before.pop();
        }
        match no_room {
            NoRoom::There(wait) => {
                if let Some(index) = self.index_of(deployment) {
                    self.limited.push((index, now + wait.min(FAR)));
                }
            }
            // Others may have less to ask of it.
            NoRoom::WithKey(used, wait) => self.full_keys.push((Arc::clone(&used.key), now + wait.min(FAR))),
        }
    }

    /// How much longer an exchange leaves a deployment alone for its rate: as its API asked, or as its limits here say.
    pub(super) fn left_alone(&self, index: usize, now: Instant) -> Option<Duration> {
        let of = self.limited.iter().filter(|(limited, until)| *limited == index && *until > now);
        let here = of.map(|(_, until)| until.saturating_duration_since(now)).max();
        here.max(self.model_rests(self.alias.deployments.get(index)?, now))
    }
}
