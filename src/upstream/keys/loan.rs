//! A key in the hands of an attempt.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use super::levels::Need;
use super::{KeyUse, Pool};
use crate::dialect::quota::Quota;
use crate::upstream::breaker::key::Trial;
use crate::upstream::breaker::millis;

/// A key that an attempt has taken. What the attempt takes of the key's rates is counted for as long as the provider has not
/// answered it.
#[derive(Debug)]
pub struct Loan {
    pub(super) pool: Arc<Pool>,
    pub(super) used: KeyUse,
    pub(super) trial: Option<Trial>,
    pub(super) booked: Option<Booked>,
}

/// What an attempt takes of rates.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) model: Arc<str>,
    pub(super) need: Need,
    /// When it was sent, milliseconds of [`millis`].
    pub(super) sent: u64,
}

impl Loan {
    /// The key, with its secret.
    pub fn used(&self) -> &KeyUse {
        &self.used
    }

    /// The header that proves a request.
    pub fn header(&self) -> (&HeaderName, &HeaderValue) {
        (&self.pool.header, &self.used.bearer.value)
    }

    /// Whether what its provider says of rates matters to anyone.
    pub fn listens(&self) -> bool {
        self.booked.is_some()
    }

    /// The provider has answered, and said that of its rates.
    pub fn answered(&mut self, quotas: &[Quota], now: Instant) {
        let Some(Booked { model, need, sent }) = self.booked.take() else { return };
        // What was asked with the secret before says nothing of the one after.
        let says = !quotas.is_empty() && !self.used.is_outdated();
        let mut levels = self.pool.levels();
        if let Some(level) = levels.known(&model, self.used.key.index) {
            level.settle(need);
            if says {
                level.note(quotas, sent, millis(now));
            }
        }
    }

    /// The trial of a key that was refused, which ends with what is returned.
    pub(in crate::upstream) fn take_trial(&mut self) -> Option<Trial> {
        self.trial.take()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.settle(self.used.key.index, self.booked.take().as_ref());
    }
}
