//! Leaves alone what keeps failing real exchanges, and lets a few of them find out when it is well again.
//!
//! An endpoint's breaker opens when too many exchanges fail in a row or too large a share of the last ones, by the
//! upstream's own fault. It stays open for a time that doubles with every relapse; then a few real exchanges try, and
//! close it or open it again. All of that is decided as requests pass; there is no timer.

mod gate;
pub mod key;
mod window;

use std::sync::atomic::{self, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use gate::{Gate, Pass, Phase, State};
use window::{PARTS, Traffic, Window};

/// When a breaker opens, for how long, and how it closes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Failures in a row that open it; 0 for never.
    pub failures: u32,
    /// The share of failures in the window that opens it, 0 to 1; 0 for never.
    pub failure_rate: f64,
    /// How many exchanges must have ended in the window for their share to say anything.
    pub min_outcomes: u32,
    /// The window's length. It moves on by tenths.
    pub window: Duration,
    /// For how long it opens the first time.
    pub open: Duration,
    /// For how long at most. What has been well for so long is forgiven earlier relapses.
    pub longest: Duration,
    /// How many exchanges may try at once after that.
    pub tries: u16,
    /// How many of them must go well.
    pub successes: u16,
    /// Over what time an endpoint comes back to its full share.
    pub slow_start: Duration,
    /// The largest share of a cluster's endpoints that may be left alone at once, 0 to 1.
    pub max_share: f64,
    /// For how long a credential is left alone that was refused.
    pub key: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_rate: 0.5,
            min_outcomes: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(60),
            longest: Duration::from_secs(600),
            tries: 1,
            successes: 3,
            slow_start: Duration::from_secs(30),
            max_share: 0.5,
            key: Duration::from_secs(60),
        }
    }
}

/// By how much of itself a time to be open may be longer at random, so that a fleet does not come back in step.
const JITTER: f64 = 0.1;
/// The share, of a hundred, that an endpoint comes back with.
const FIRST_SHARE: u64 = 10;

impl Policy {
    /// For how long it opens for the `trips`th time in a row; `chance` is from 0 to 1.
    pub fn open_for(&self, trips: u8, chance: f64) -> Duration {
        let doubled = self.open.saturating_mul(1 << trips.saturating_sub(1).min(20));
        jittered(doubled.min(self.longest), chance)
    }

    fn part(&self, now: u64) -> u64 {
        now / (in_millis(self.window) / PARTS).max(1)
    }
}

fn jittered(time: Duration, chance: f64) -> Duration {
    time.mul_f64(1.0 + JITTER * chance)
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many failures in a row.
    Row,
    /// Too large a share of failures.
    Rate,
    /// It was half-open, and a try failed.
    Try,
}

impl Reason {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Rate => "rate",
            Self::Try => "try",
        }
    }
}

/// The breaker of one endpoint, and the count of its exchanges.
#[derive(Debug, Default)]
pub struct Breaker {
    gate: Gate,
    traffic: Traffic,
    /// Failures in a row in the lower half, the period in which they happened in the upper.
    row: AtomicU32,
    /// When the next part of the window begins.
    next_part: AtomicU64,
    window: Mutex<Window>,
}

/// The zero of the times kept in atomics.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_millis(1));

/// Milliseconds since the process's epoch.
pub fn millis(at: Instant) -> u64 {
    in_millis(at.saturating_duration_since(*EPOCH))
}

fn in_millis(time: Duration) -> u64 {
    // Not `as_millis`, whose division of 128 bits takes longer than all else here.
    time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_millis()))
}

impl Breaker {
    /// Its state.
    pub fn look(&self) -> Phase {
        self.gate.look()
    }

    /// Whether every exchange may pass.
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Whether an exchange may pass.
    pub fn admits(&self, now: u64, policy: &Policy) -> bool {
        self.gate.admits(now, policy.tries)
    }

    /// Lets an exchange pass, if it may. What it gets is for [`Self::enter`].
    pub fn pass(&self, now: u64, policy: &Policy) -> Option<Pass> {
        self.gate.enter(now, policy.tries)
    }

    /// Counts an exchange in. It must be counted out by [`Self::leave`].
    pub fn enter(&self) {
        self.traffic.enter();
    }

    /// Counts an exchange out that went well, or not; the place of a try is free again.
    pub fn leave(&self, pass: Pass, good: bool) {
        if let Pass::Try { period, .. } = pass {
            self.gate.leave(period);
        }
        self.traffic.leave(good && matches!(pass, Pass::Through(_)));
    }

    /// Exchanges under way.
    pub fn in_flight(&self) -> u32 {
        self.traffic.under_way()
    }

    /// Failures in a row, as far as the present period goes.
    pub fn failures(&self) -> u32 {
        let row = self.row.load(Relaxed);
        if row >> 16 == u32::from(self.look().period) { row & 0xffff } else { 0 }
    }

    /// Moves the window on, if it is time to; to be called after each [`Self::enter`].
    pub fn advance(&self, now: impl Fn() -> u64, policy: &Policy) {
        if policy.failure_rate <= 0.0 || !self.traffic.is_fourth() {
            return;
        }
        let now = now();
        if now < self.next_part.load(Relaxed) {
            return;
        }
        if let Ok(mut window) = self.window.try_lock() {
            // Whoever comes second finds it done.
            self.move_on(&mut window, now, policy);
        }
    }

    fn move_on(&self, window: &mut Window, now: u64, policy: &Policy) {
        let part = policy.part(now);
        window.advance(part, self.traffic.good());
        let length = (in_millis(policy.window) / PARTS).max(1);
        self.next_part.store((part + 1).saturating_mul(length), Relaxed);
    }

    /// An exchange went well. What it holds afterwards is in `pass`. Says whether the breaker closed for it.
    pub fn succeeded(&self, pass: &mut Pass, policy: &Policy, now: impl Fn() -> u64) -> bool {
        match *pass {
            Pass::Through(period) => {
                let row = self.row.load(Relaxed);
                if row & 0xffff != 0 && row >> 16 == u32::from(period) {
                    self.row.store(u32::from(period) << 16, Relaxed);
                }
                false
            }
            Pass::Try { period, .. } => {
                let now = now();
                *pass = Pass::Tried(period);
                let closed = self.gate.passed(period, policy.successes, now);
                if closed {
                    self.window().clear(policy.part(now), self.traffic.good());
                }
                closed
            }
            Pass::Tried(_) | Pass::Beside => false,
        }
    }

    /// An exchange failed by the upstream's fault. Says why the breaker is to open for it, if it is.
    pub fn failed(&self, pass: Pass, policy: &Policy, now: u64) -> Option<Reason> {
        let present = self.look().period;
        match pass {
            Pass::Try { period, .. } | Pass::Tried(period) if period == present => Some(Reason::Try),
            Pass::Through(period) if period == present => {
                let in_a_row = self.one_more(period);
                let (bad, all) = {
                    let mut window = self.window();
                    self.move_on(&mut window, now, policy);
                    window.failed(policy.part(now), self.traffic.good())
                };
                let share = f64::from(bad) / f64::from(all.max(1));
                if policy.failures > 0 && in_a_row >= policy.failures {
                    Some(Reason::Row)
                } else if policy.failure_rate > 0.0
                    && all >= policy.min_outcomes
                    && share >= policy.failure_rate
                {
                    Some(Reason::Rate)
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// Opens the breaker for what [`Self::failed`] said of that exchange, unless it has changed meanwhile. Says for how
    /// long; `chance` is from 0 to 1.
    pub fn open(&self, pass: Pass, policy: &Policy, now: u64, chance: f64) -> Option<Duration> {
        let (Pass::Through(period) | Pass::Try { period, .. } | Pass::Tried(period)) = pass else {
            return None;
        };
        let trips = |phase: &Phase| match phase.state {
            State::Closed { since } if now.saturating_sub(since) >= in_millis(policy.longest) => 1,
            _ => phase.trips.saturating_add(1),
        };
        let opened = self.gate.open(Some(period), |phase| {
            let trips = trips(phase);
            (trips, now.saturating_add(in_millis(policy.open_for(trips, chance))))
        })?;
        match opened.state {
            State::Open { until } => Some(Duration::from_millis(until.saturating_sub(now))),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Whether it is closed, and its endpoint has all of its weight.
    pub fn is_settled(&self, now: u64, policy: &Policy) -> bool {
        self.is_closed() && self.share(now, policy) == 100
    }

    /// The share of its weight that an endpoint gets, of a hundred: it comes back little by little.
    pub fn share(&self, now: u64, policy: &Policy) -> u32 {
        let State::Closed { since: since @ 1.. } = self.look().state else { return 100 };
        let (passed, whole) = (now.saturating_sub(since), in_millis(policy.slow_start));
        if passed >= whole {
            return 100;
        }
        (FIRST_SHARE + (100 - FIRST_SHARE) * passed / whole) as u32
    }

    /// One failure more in a row, in that period.
    fn one_more(&self, period: u16) -> u32 {
        let first = u32::from(period) << 16 | 1;
        let more = |row: u32| {
            if row >> 16 != u32::from(period) { first } else { row + u32::from(row & 0xffff != 0xffff) }
        };
        let before = self.row.fetch_update(Relaxed, Relaxed, |row| Some(more(row)));
        before.map_or(1, |row| more(row) & 0xffff)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Counts that a panic left behind are still counts.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
