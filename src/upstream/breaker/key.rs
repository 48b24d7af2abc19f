//! The breaker of a credential: what refuses it once refuses it for all.

use std::sync::Arc;
use std::time::Duration;

use super::{Gate, Pass, Phase, Policy, in_millis, jittered};

/// Why a credential is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was not accepted: 401, 403.
    Credential,
    /// There is no money on its account: 402.
    Payment,
    /// Its quota is used up.
    Quota,
}

impl Fault {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Payment => "payment",
            Self::Quota => "quota",
        }
    }
}

/// A credential: a cluster's only one, or one of its several. It is left alone at once when it is refused, for as long as there is another to use;
/// after its time one real exchange tries it.
#[derive(Debug, Default)]
pub struct Key {
    gate: Gate,
}

/// How many exchanges may try a credential at once.
const TRIES: u16 = 1;

impl Key {
    /// Its state.
    pub fn look(&self) -> Phase {
        self.gate.look()
    }

    /// Whether it was accepted when it was last used.
    pub fn is_accepted(&self) -> bool {
        self.gate.is_closed()
    }

    /// Whether it is worth being tried.
    pub fn admits(&self, now: u64) -> bool {
        self.gate.admits(now, TRIES)
    }

    /// An exchange uses it; says so to those that try whether it is accepted again.
    pub fn enter(self: &Arc<Self>, now: u64) -> Option<Trial> {
        match self.gate.enter(now, TRIES)? {
            Pass::Try { period, .. } => Some(Trial { key: Arc::clone(self), period }),
            Pass::Through(_) | Pass::Tried(_) | Pass::Beside => None,
        }
    }

    /// It is another now, so that nothing is said of it yet. Says whether it was left alone.
    pub fn renewed(&self, now: u64) -> bool {
        self.gate.reset(now)
    }

    /// It was refused. Says for how long it is left alone, unless it is already; `chance` is from 0 to 1.
    pub fn refused(&self, policy: &Policy, now: u64, chance: f64) -> Option<Duration> {
        let time = jittered(policy.key, chance);
        let until = now.saturating_add(in_millis(time));
        self.gate.open(None, |phase| (phase.trips.saturating_add(1), until)).map(|_| time)
    }
}

/// An exchange that tries whether a credential is accepted again. Its place is free again when this is dropped.
#[derive(Debug)]
pub struct Trial {
    key: Arc<Key>,
    period: u16,
}

impl Trial {
    /// It was accepted. Says whether it is used again for that.
    pub fn passed(&self, now: u64) -> bool {
        self.key.gate.passed(self.period, 1, now)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.key.gate.leave(self.period);
    }
}
