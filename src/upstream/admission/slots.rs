//! How many are under way, and how many wait, in one word: whoever gives a place back learns in the same step whether
//! anyone waits for it, so that no place stays free while someone does.

use super::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use super::atomic::{AtomicU32, AtomicU64};

/// The places of a cluster.
#[derive(Debug)]
pub(super) struct Slots {
    /// Those under way in the lower half, those that wait in the upper.
    counts: AtomicU64,
    limit: AtomicU32,
}

const WAITER: u64 = 1 << 32;

fn split(counts: u64) -> (u32, u32) {
    ((counts & (WAITER - 1)) as u32, (counts >> 32) as u32)
}

impl Slots {
    /// So many places, all free.
    pub(super) fn new(limit: u32) -> Self {
        Self { counts: AtomicU64::new(0), limit: AtomicU32::new(limit) }
    }

    /// How many are under way, and how many wait.
    pub(super) fn counts(&self) -> (u32, u32) {
        split(self.counts.load(Relaxed))
    }

    /// How many places there are.
    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// There are so many places from now on. Where there were fewer, those who wait are to be served.
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Release);
    }

    /// Takes a place, unless none is free or someone waits already.
    pub(super) fn take(&self) -> bool {
        let limit = self.limit.load(Acquire);
        let free = |counts| {
            let (used, waiting) = split(counts);
            (used < limit && waiting == 0).then(|| counts + 1)
        };
        self.counts.fetch_update(AcqRel, Acquire, free).is_ok()
    }

    /// Takes a place for one who waits, if there is one of each.
    pub(super) fn take_for_waiter(&self) -> bool {
        let limit = self.limit.load(Acquire);
        let free = |counts| {
            let (used, waiting) = split(counts);
            (used < limit && waiting > 0).then(|| counts + 1 - WAITER)
        };
        self.counts.fetch_update(AcqRel, Acquire, free).is_ok()
    }

    /// Gives a place back. Says whether anyone waits.
    pub(super) fn give_back(&self) -> bool {
        split(self.counts.fetch_sub(1, AcqRel)).1 > 0
    }

    /// One more waits.
    pub(super) fn begin_to_wait(&self) {
        self.counts.fetch_add(WAITER, AcqRel);
    }

    /// One who waited has gone.
    pub(super) fn leave(&self) {
        self.counts.fetch_sub(WAITER, AcqRel);
    }
}
