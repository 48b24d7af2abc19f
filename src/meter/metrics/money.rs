//! Families of what is spent.

use prometheus::{CounterVec, IntCounterVec, IntGauge};

use super::Builder;

/// Families of what is spent.
#[derive(Debug)]
pub struct Money {
    /// Dollars, by provider, cluster and model alias. A float: the ledger is exact.
    pub cost: CounterVec,
    /// Attempts that nobody knows the price of, by cluster.
    pub unpriced: IntCounterVec,
    /// Records of the ledger by what became of them: `written`, `lost`.
    pub records: IntCounterVec,
    /// Records that wait to be written.
    pub waiting: IntGauge,
    /// Writes of the ledger that failed, and were tried again.
    pub errors: IntCounterVec,
    /// Records that a sink beside the files had no room for, by sink.
    pub spilled: IntCounterVec,
}

impl Money {
    pub(super) fn new(make: &Builder) -> Self {
        Self {
            cost: make.float_counters(
                "forebay_cost_usd_total",
                "What attempts cost, dollars; rounded, unlike the ledger",
                &["provider", "cluster", "model"],
            ),
            unpriced: make.counters(
                "forebay_unpriced_requests_total",
                "Attempts that nobody knows the price of",
                &["cluster"],
            ),
            records: make.counters(
                "forebay_ledger_records_total",
                "Records of the ledger, by what became of them: written, lost",
                &["outcome"],
            ),
            waiting: make.gauge("forebay_ledger_waiting", "Records that wait to be written"),
            errors: make.counters(
                "forebay_ledger_errors_total",
                "Writes of the ledger that failed and are tried again, by sink: file, stdout, http",
                &["sink"],
            ),
            spilled: make.counters(
                "forebay_ledger_spilled_total",
                "Records that a sink beside the files had no room for, by sink: stdout, http",
                &["sink"],
            ),
        }
    }
}
