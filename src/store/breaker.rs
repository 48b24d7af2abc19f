//! When the store is left alone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Counts late answers; open from the start, until the store was found.
#[derive(Debug)]
pub(super) struct Breaker {
    /// How many in a row open it.
    most: u32,
    failures: AtomicU32,
    is_open: AtomicBool,
}

impl Breaker {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most.max(1), failures: AtomicU32::new(0), is_open: AtomicBool::new(true) }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.is_open.store(false, Relaxed);
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Relaxed);
    }

    /// One more was late. Says whether this one opened it.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Relaxed) + 1 >= self.most && self.open()
    }

    /// Opens it. Says whether it was closed.
    pub(super) fn open(&self) -> bool {
        !self.is_open.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_once() {
        let breaker = Breaker::new(3);
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.failed() && !breaker.failed());
        breaker.succeeded();
        assert!(!breaker.failed() && !breaker.failed() && !breaker.is_open());
        assert!(breaker.failed() && breaker.is_open());
        assert!(!breaker.failed(), "only one opens it");
        breaker.close();
        assert!(breaker.open() && !breaker.open());
    }
}
