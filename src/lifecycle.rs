//! Where the process is in its life: what readiness says, and the drain decides.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Where the process is in its life.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
}

/// A phase of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Names are being resolved for the first time.
    Starting,
    /// All is well.
    Serving,
    /// Told to stop: new work should go elsewhere.
    Stopping,
}

impl Lifecycle {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// The process serves from now on, unless it has been told to stop.
    pub fn started(&self) {
        let _ = self.phase.compare_exchange(0, 1, Relaxed, Relaxed);
    }

    /// The process has been told to stop.
    pub fn stopping(&self) {
        self.phase.store(2, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_told_to_stop_before_it_started_stays_told() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.started();
        assert_eq!(lifecycle.phase(), Phase::Serving);
        lifecycle.stopping();
        lifecycle.started();
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }
}
