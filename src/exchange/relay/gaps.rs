//! What is counted and timed of a stream while it passes.

use std::time::Instant;

use prometheus::local::LocalHistogram;

use crate::meter::metrics::METRICS;
use crate::meter::series::DeploymentSeries;

/// Counts a stream while it lives.
pub(super) struct Counted;

impl Counted {
    /// One more.
    pub(super) fn new() -> Self {
        METRICS.http.streams.inc();
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.http.streams.dec();
    }
}

/// Times between events, kept aside until the stream is over: an event costs no shared counter.
pub(super) struct Gaps {
    inter_token: LocalHistogram,
    added: LocalHistogram,
    /// When something was last read.
    pub(super) read: Instant,
    /// When the last content was.
    pub(super) last: Option<Instant>,
    /// How often something was sent.
    sent: u32,
}

/// Of so many events one is looked at for what Forebay adds to it: reading the clock costs as much as the rest.
const SAMPLED: u32 = 8;

impl Gaps {
    /// Notes content that was read at `read`. Says whether it is the first.
    pub(super) fn token(&mut self, read: Instant) -> bool {
        match self.last.replace(read) {
            Some(last) => {
                self.inter_token.observe(read.saturating_duration_since(last).as_secs_f64());
                false
            }
            None => true,
        }
    }

    /// What was read last is sent.
    pub(super) fn sent(&mut self) {
        if self.sent.is_multiple_of(SAMPLED) {
            self.added.observe(self.read.elapsed().as_secs_f64());
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// At the start of a stream of that deployment's.
    pub(super) fn new(series: &DeploymentSeries) -> Self {
        Self {
            inter_token: series.inter_token().local(),
            added: METRICS.http.added.event.local(),
            read: Instant::now(),
            last: None,
            sent: 0,
        }
    }
}
