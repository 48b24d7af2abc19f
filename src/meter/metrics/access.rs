//! Families of who may call.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::Builder;

/// Families of who may call.
#[derive(Debug)]
pub struct Access {
    /// Requests whose caller was not known, by reason.
    pub failures: IntCounterVec,
    /// Requests of a known caller for what it may not have, by what that was.
    pub refusals: IntCounterVec,
    /// Principals with keys in force, by where they were defined.
    pub principals: IntGaugeVec,
    /// 1 while the watched file of keys cannot be read, so that the last good one counts.
    pub file_broken: IntGauge,
    /// Fetches of an issuer's keys, by issuer and outcome.
    pub fetches: IntCounterVec,
}

impl Access {
    pub(super) fn new(make: &Builder) -> Self {
        Self {
            failures: make.counters(
                "forebay_access_failures_total",
                "Requests whose caller was not known, by reason: missing, several, signed, unknown, mistyped, oversized, \
                 disabled, expired, shielded, or what was wrong with a token",
                &["reason"],
            ),
            refusals: make.counters(
                "forebay_access_refusals_total",
                "Requests for what their caller may not have: route, endpoint, model, tools, body, output",
                &["permission"],
            ),
            principals: make.gauges(
                "forebay_principals",
                "Principals with keys in force, by where they were defined: configuration, file, store",
                &["origin"],
            ),
            file_broken: make.gauge(
                "forebay_keys_file_broken",
                "1 while the file of keys cannot be read, so that the last good one counts",
            ),
            fetches: make.counters(
                "forebay_jwks_fetches_total",
                "Fetches of an issuer's public keys, by outcome: ok, failed",
                &["issuer", "outcome"],
            ),
        }
    }
}
