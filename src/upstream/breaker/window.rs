//! How many of the exchanges of late have failed.

use super::atomic::Ordering::Relaxed;
use super::atomic::{AtomicU32, AtomicU64};

/// Counts of exchanges that began, are under way, and did not end well. A success costs nothing beyond being counted in
/// and out, which it is anyhow.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Those under way in the lower half, all that ever began in the upper.
    load: AtomicU64,
    /// Those that ended otherwise than well.
    odd: AtomicU32,
}

const ONE_MORE: u64 = (1 << 32) + 1;

impl Traffic {
    /// One begins.
    pub(super) fn enter(&self) {
        self.load.fetch_add(ONE_MORE, Relaxed);
    }

    /// One ends; well if it is `good`.
    pub(super) fn leave(&self, good: bool) {
        if !good {
            self.odd.fetch_add(1, Relaxed);
        }
        self.load.fetch_sub(1, Relaxed);
    }

    /// Those under way.
    pub(super) fn under_way(&self) -> u32 {
        self.load.load(Relaxed) as u32
    }

    /// Whether this many have begun that the time is to be looked at: every fourth, as looking takes longer than counting.
    pub(super) fn is_fourth(&self) -> bool {
        (self.load.load(Relaxed) >> 32) % 4 == 1
    }

    /// All that ever ended well; the count wraps around. Among threads it may be short by those that just end.
    pub(super) fn good(&self) -> u32 {
        let load = self.load.load(Relaxed);
        let ended = ((load >> 32) as u32).wrapping_sub(load as u32);
        ended.wrapping_sub(self.odd.load(Relaxed))
    }
}

/// Into how many parts a window is divided: it moves on by one of them at a time.
pub(super) const PARTS: u64 = 10;

/// What ended within one part of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    good: u32,
    bad: u32,
}

/// The last [`PARTS`] parts. Failures count where they happen; successes, which nobody reports, where the window was last
/// moved on before them: at the last failure, or when the last fourth exchange began.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The number of the present part since the epoch.
    at: u64,
    /// [`Traffic::good`] as far as it is counted in.
    counted: u32,
    parts: [Part; PARTS as usize],
}

impl Window {
    /// Moves on to that part. `good` is [`Traffic::good`] as of now.
    pub(super) fn advance(&mut self, to: u64, good: u32) {
        self.count(good);
        let past = to.saturating_sub(self.at).min(PARTS);
        for part in (self.at + 1..).take(past as usize) {
            *self.part(part) = Part::default();
        }
        self.at = self.at.max(to);
    }

    /// An exchange failed in that part. Says how many have failed in the window, and how many have ended.
    pub(super) fn failed(&mut self, at: u64, good: u32) -> (u32, u32) {
        self.advance(at, good);
        self.part(self.at).bad += 1;
        let bad = self.parts.iter().map(|part| part.bad).sum();
        let good: u32 = self.parts.iter().map(|part| part.good).sum();
        (bad, good + bad)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, at: u64, good: u32) {
        *self = Self { at, counted: good, ..Self::default() };
    }

    /// Counts in what went well since the last time.
    fn count(&mut self, good: u32) {
        let more = good.wrapping_sub(self.counted);
        // Half of all numbers ahead is behind: the count was short for a moment.
        if more < u32::MAX / 2 {
            self.part(self.at).good += more;
            self.counted = good;
        }
    }

    fn part(&mut self, number: u64) -> &mut Part {
        &mut self.parts[(number % PARTS) as usize]
    }
}
