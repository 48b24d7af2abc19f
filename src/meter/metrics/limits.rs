//! Families of what callers may use, and of the store in which nodes share it.

use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::Builder;

/// Second buckets for waits on the shared store, whose deadline is some milliseconds.
const STORE: &[f64] = &[0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5];

/// Families of limits.
#[derive(Debug)]
pub struct Limits {
    /// Exchanges refused, by the kind of subject, the measure and the period.
    pub refused: IntCounterVec,
    /// Shares of budgets that were reached, by the kind of subject and the period.
    pub warned: IntCounterVec,
}

impl Limits {
    pub(super) fn new(make: &Builder) -> Self {
        Self {
            refused: make.counters(
                "forebay_limit_refused_total",
                "Exchanges refused for a limit, by whose it is, what it counts and its period",
                &["of", "measure", "per"],
            ),
            warned: make.counters(
                "forebay_budget_warnings_total",
                "Shares of budgets that were reached, by whose it is and its period",
                &["of", "per"],
            ),
        }
    }
}

/// Families of the store that nodes share.
#[derive(Debug)]
pub struct Store {
    /// Commands by outcome: `ok`, `error`, `late`.
    pub commands: IntCounterVec,
    /// 1 while nobody asks it, because it failed or was late.
    pub away: IntGauge,
    /// How long exchanges waited for its answer, seconds.
    pub wait: Histogram,
    /// What nodes took ahead of use, by measure.
    pub slices: IntCounterVec,
    /// What nodes let through on their own while it was away, by measure.
    pub alone: IntCounterVec,
    /// Nodes that share it, as it said last.
    pub nodes: IntGauge,
}

impl Store {
    pub(super) fn new(make: &Builder) -> Self {
        Self {
            commands: make.counters(
                "forebay_store_commands_total",
                "Commands to the shared store, by outcome: ok, error, late",
                &["outcome"],
            ),
            away: make.gauge("forebay_store_away", "1 while the shared store is not asked, because it failed or was late"),
            wait: make
                .histograms(
                    "forebay_store_wait_seconds",
                    "How long exchanges waited for the shared store, those included that got no answer in time",
                    &[],
                    STORE,
                )
                .with_label_values::<&str>(&[]),
            slices: make.counters(
                "forebay_limit_slices_total",
                "Slices of shared limits that were taken ahead of use, by measure",
                &["measure"],
            ),
            alone: make.counters(
                "forebay_limit_alone_total",
                "What was let through by a node's own share of a limit while the shared store was away, by measure",
                &["measure"],
            ),
            nodes: make.gauge("forebay_store_nodes", "Nodes that share limits, as the store said last"),
        }
    }
}
