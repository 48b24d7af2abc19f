//! Passive ejection: an endpoint that keeps failing real exchanges is set aside for a while.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// When and for how long an endpoint is set aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Consecutive failures after which it is; 0 never sets one aside.
    pub failures: u32,
    /// For how long.
    pub duration: Duration,
    /// The largest share of a cluster that may be aside at once, 0 to 1.
    pub max_share: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, duration: Duration::from_secs(30), max_share: 0.5 }
    }
}

/// The failures of one endpoint.
#[derive(Debug, Default)]
pub struct Record {
    consecutive: AtomicU32,
    /// Milliseconds since [`EPOCH`]; 0 is never.
    until: AtomicU64,
}

/// The zero of the times kept in atomics.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_millis(1));

fn millis(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// An exchange went well.
    pub fn success(&self) {
        if self.consecutive.load(Relaxed) != 0 {
            self.consecutive.store(0, Relaxed);
        }
    }

    /// An exchange failed by the upstream's fault. Says whether that is one failure too many.
    pub fn failure(&self, policy: &Ejection) -> bool {
        let failures = self.consecutive.fetch_add(1, Relaxed).saturating_add(1);
        policy.failures > 0 && failures >= policy.failures
    }

    /// Sets the endpoint aside. It comes back with a clean record.
    pub fn eject(&self, now: Instant, policy: &Ejection) {
        self.until.store(millis(now + policy.duration), Relaxed);
        self.consecutive.store(0, Relaxed);
    }

    /// Whether the endpoint is set aside.
    pub fn ejected(&self, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        until != 0 && millis(now) < until
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.consecutive.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_failures_eject_for_the_stated_time() {
        let policy = Ejection { failures: 3, ..Ejection::default() };
        let (record, now) = (Record::default(), Instant::now());
        assert!(!record.failure(&policy) && !record.failure(&policy));
        record.success();
        assert!(!record.failure(&policy) && !record.failure(&policy));
        assert!(record.failure(&policy));
        record.eject(now, &policy);
        assert!(record.ejected(now) && record.ejected(now + Duration::from_secs(29)));
        assert!(!record.ejected(now + Duration::from_secs(31)));
        assert_eq!(record.failures(), 0);
    }

    #[test]
    fn zero_failures_never_eject() {
        let policy = Ejection { failures: 0, ..Ejection::default() };
        let record = Record::default();
        assert!((0..100).all(|_| !record.failure(&policy)));
    }
}
