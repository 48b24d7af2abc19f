//! Families of the keys of providers, by cluster and by the key's configured name.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::Builder;

/// Families of keys.
#[derive(Debug)]
pub struct ProviderKeys {
    /// Whether it is in use: 0 it is, 1 refused and set aside, 2 tried again, 3 without a secret yet.
    pub state: IntGaugeVec,
    /// Attempts made with it.
    pub attempts: IntCounterVec,
    /// How often its secret was replaced.
    pub rotations: IntCounterVec,
    /// How often its secret could not be read.
    pub failures: IntCounterVec,
    /// 1 where its secret could be read when that was last tried.
    pub readable: IntGaugeVec,
    /// How old its secret is, seconds.
    pub age: GaugeVec,
    /// 1 where it is older than it should get.
    pub overdue: IntGaugeVec,
}

impl ProviderKeys {
    pub(super) fn new(make: &Builder) -> Self {
        const OF: &[&str] = &["cluster", "key"];
        Self {
            state: make.gauges(
                "forebay_provider_key_state",
                "Whether a provider's key is in use: 0 it is, 1 refused and set aside, 2 tried again, 3 it has no secret yet",
                OF,
            ),
            attempts: make.counters("forebay_provider_key_attempts_total", "Attempts made with a provider's key", OF),
            rotations: make.counters(
                "forebay_provider_key_rotations_total",
                "How often the secret of a provider's key was replaced while it was in use",
                OF,
            ),
            failures: make.counters(
                "forebay_provider_key_read_failures_total",
                "How often the secret of a provider's key could not be read; the last one stays in force",
                OF,
            ),
            readable: make.gauges(
                "forebay_provider_key_readable",
                "1 where the secret of a provider's key could be read when that was last tried",
                OF,
            ),
            age: make.float_gauges(
                "forebay_provider_key_age_seconds",
                "How old the secret of a provider's key is",
                OF,
            ),
            overdue: make.gauges(
                "forebay_provider_key_overdue",
                "1 where a provider's key is older than its rotate_every",
                OF,
            ),
        }
    }
}
