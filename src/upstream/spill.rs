//! When a cluster's requests go elsewhere although it could be asked: its queue is long, its first token is late, too many
//! of its endpoints are sick, too much of what it answers is a failure. And when they come back: not at the first good sign,
//! and a tenth of them first.
//!
//! A long queue sends away only what finds no free place, so that the cluster stays in full use. All else sets the whole
//! cluster aside for a while; then a tenth of the requests try it. It is worked out as requests pass, there is no timer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// When requests go elsewhere. What is not set sends none away.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// From what expected wait on those go elsewhere that would have to wait.
    pub wait: Option<Duration>,
    /// From what average time to first token on.
    pub first_token: Option<Duration>,
    /// From what share of failures on, 0 to 1.
    pub error_rate: Option<f64>,
    /// After how many failures in a row, whichever endpoints they are of.
    pub failures: Option<u32>,
    /// From what share of sick endpoints on, 0 to 1.
    pub sick: Option<f64>,
    /// Over what time averages and shares are taken.
    pub over: Duration,
    /// How long they go elsewhere at least.
    pub back: Duration,
}

/// Why a cluster is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its first token is late.
    FirstToken,
    /// Too large a share of failures.
    ErrorRate,
    /// Too many failures in a row.
    Failures,
    /// Too many endpoints are sick.
    Sick,
}

impl Reason {
    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstToken => "first_token",
            Self::ErrorRate => "error_rate",
            Self::Failures => "failures",
            Self::Sick => "sick",
        }
    }
}

/// Where a cluster's requests go. Times are milliseconds since the process's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Here.
    Here,
    /// Elsewhere.
    Away {
        /// Until when at least.
        until: u64,
        /// Why.
        why: Reason,
    },
    /// A tenth of them here, to see how they fare.
    Trying {
        /// Since when.
        since: u64,
    },
}

/// What was seen over some time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    good: u32,
    bad: u32,
    /// Microseconds to first token, all together.
    micros: u64,
    tokens: u32,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
        self.micros += other.micros;
        self.tokens += other.tokens;
    }
}

/// A window moves on by this share of itself.
const PARTS: u64 = 10;
/// An average or a share of fewer says nothing.
const LEAST: u32 = 10;
/// Of so many requests one tries a cluster that may come back.
const TRIED: u32 = 10;

#[derive(Debug)]
struct Inner {
    state: State,
    parts: [Seen; PARTS as usize],
    /// The number of the part that is being filled.
    part: u64,
}

/// The way of a cluster's requests.
#[derive(Debug)]
pub struct Spill {
    policy: Policy,
    /// Failures in a row.
    row: AtomicU32,
    /// Whether those go elsewhere that would have to wait.
    waits_elsewhere: AtomicBool,
    /// Requests that came while it was tried.
    tries: AtomicU32,
    /// When the state is to be thought over again.
    next: AtomicU64,
    inner: Mutex<Inner>,
}

/// How often the state is thought over, milliseconds.
const LOOK: u64 = 100;

impl Spill {
    /// Everything goes here.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            row: AtomicU32::new(0),
            waits_elsewhere: AtomicBool::new(false),
            tries: AtomicU32::new(0),
            next: AtomicU64::new(0),
            inner: Mutex::new(Inner { state: State::Here, parts: Default::default(), part: 0 }),
        }
    }

    /// An attempt ended well, or by the upstream's fault.
    pub fn outcome(&self, good: bool, now: u64) {
        if good {
            // Written only where it changes: every exchange passes here.
            if self.row.load(Relaxed) > 0 {
                self.row.store(0, Relaxed);
            }
        } else {
            self.row.fetch_add(1, Relaxed);
        }
        self.note(Seen { good: good.into(), bad: (!good).into(), ..Seen::default() }, now);
    }

    /// A first token took that long.
    pub fn first_token(&self, took: Duration, now: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.note(Seen { micros, tokens: 1, ..Seen::default() }, now);
    }

    fn note(&self, seen: Seen, now: u64) {
        let mut inner = self.lock();
        inner.move_on(self.part(now));
        let at = (inner.part % PARTS) as usize;
        inner.parts[at].add(seen);
    }

    /// Whether one who would have to wait for `expected` goes elsewhere. Once they do, they do so until the wait is less
    /// than half of what it took. What changed is told to `changed`.
    pub fn spares_the_wait(&self, expected: Duration, changed: impl FnOnce(bool)) -> bool {
        let Some(limit) = self.policy.wait else { return false };
        let was = self.waits_elsewhere.load(Relaxed);
        let is = expected >= if was { limit / 2 } else { limit };
        if was != is {
            self.waits_elsewhere.store(is, Relaxed);
            changed(is);
        }
        is
    }

    /// Whether a request should rather go elsewhere. `sick` is the share of endpoints that are; it is asked seldom. What
    /// changed is told to `changed`.
    pub fn is_away(&self, now: u64, sick: impl FnOnce() -> f64, changed: impl FnOnce(State)) -> bool {
        let due = self.next.load(Relaxed) <= now;
        let mut inner = self.lock();
        if due {
            self.next.store(now + LOOK, Relaxed);
            inner.move_on(self.part(now));
            let next = self.next_state(&inner, now, sick());
            if next != inner.state {
                if !matches!((next, inner.state), (State::Away { .. }, State::Away { .. })) {
                    changed(next);
                    self.row.store(0, Relaxed);
                    inner.parts = Default::default();
                }
                inner.state = next;
            }
        }
        match inner.state {
            State::Here => false,
            State::Away { .. } => true,
            State::Trying { .. } => !self.tries.fetch_add(1, Relaxed).is_multiple_of(TRIED),
        }
    }

    /// Where requests go as of when that was last thought over.
    pub fn state(&self) -> State {
        self.lock().state
    }

    fn next_state(&self, inner: &Inner, now: u64, sick: f64) -> State {
        let back = in_millis(self.policy.back);
        let over = self.over(inner, sick);
        let away = |why| State::Away { until: now + back, why };
        match (inner.state, over) {
            (State::Here | State::Trying { .. }, Some(why)) => away(why),
            // Half of what it took: one that stands at the threshold does not come and go.
            (State::Away { .. }, _) if self.policy.sick.is_some_and(|most| sick > most / 2.0) => {
                away(Reason::Sick)
            }
            (State::Away { until, .. }, _) if until <= now => State::Trying { since: now },
            (State::Trying { since }, None) if since + back <= now || inner.total().good >= 2 * LEAST => {
                State::Here
            }
            (state, _) => state,
        }
    }

    /// What is over its threshold.
    fn over(&self, inner: &Inner, sick: f64) -> Option<Reason> {
        let policy = &self.policy;
        let Seen { good, bad, micros, tokens } = inner.total();
        let average = Duration::from_micros(micros / u64::from(tokens.max(1)));
        let share = f64::from(bad) / f64::from((good + bad).max(1));
        let row = self.row.load(Relaxed);
        if policy.sick.is_some_and(|most| sick > 0.0 && sick >= most) {
            Some(Reason::Sick)
        } else if policy.failures.is_some_and(|most| row >= most) {
            Some(Reason::Failures)
        } else if policy.error_rate.is_some_and(|most| good + bad >= LEAST && share >= most) {
            Some(Reason::ErrorRate)
        } else if policy.first_token.is_some_and(|most| tokens >= LEAST && average >= most) {
            Some(Reason::FirstToken)
        } else {
            None
        }
    }

    fn part(&self, now: u64) -> u64 {
        now / (in_millis(self.policy.over) / PARTS).max(1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Counts that a panic left half done are those of one exchange.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Empties the parts that time has passed over.
    fn move_on(&mut self, part: u64) {
        let passed = part.saturating_sub(self.part).min(PARTS);
        for number in 0..passed {
            self.parts[((part - number) % PARTS) as usize] = Seen::default();
        }
        self.part = self.part.max(part);
    }

    fn total(&self) -> Seen {
        let mut total = Seen::default();
        self.parts.iter().for_each(|part| total.add(*part));
        total
    }
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        wait: Some(Duration::from_secs(2)),
        first_token: Some(Duration::from_secs(1)),
        error_rate: Some(0.5),
        failures: Some(5),
        sick: Some(0.5),
        over: Duration::from_secs(10),
        back: Duration::from_secs(30),
    };

    fn is_away(spill: &Spill, now: u64, sick: f64) -> bool {
        spill.is_away(now, || sick, |_| {})
    }

    #[test]
    fn those_who_would_wait_go_elsewhere_until_the_wait_is_half() {
        let spill = Spill::new(POLICY);
        let at = |millis| spill.spares_the_wait(Duration::from_millis(millis), |_| {});
        assert!(!at(1900) && at(2000) && at(1100) && !at(900) && !at(1500) && at(2500));
        assert!(!Spill::new(Policy { wait: None, ..POLICY }).spares_the_wait(Duration::MAX, |_| {}));
    }

    #[test]
    fn failures_in_a_row_set_it_aside_and_a_tenth_tries_it_after_a_while() {
        let spill = Spill::new(POLICY);
        (0..4).for_each(|_| spill.outcome(false, 1000));
        spill.outcome(true, 1000);
        (0..4).for_each(|_| spill.outcome(false, 1000));
        assert!(!is_away(&spill, 1000, 0.0), "not in a row");
        spill.outcome(false, 1000);
        assert!(is_away(&spill, 1200, 0.0));
        assert!(is_away(&spill, 31_000, 0.0));
        let tried = (0..100).filter(|_| !is_away(&spill, 31_300, 0.0)).count();
        assert_eq!(tried, 10);
        (0..20).for_each(|_| spill.outcome(true, 31_400));
        assert!(!is_away(&spill, 31_500, 0.0) && spill.state() == State::Here);
    }

    #[test]
    fn what_fails_again_when_it_is_tried_stays_aside() {
        let spill = Spill::new(POLICY);
        (0..5).for_each(|_| spill.outcome(false, 1000));
        assert!(is_away(&spill, 1000, 0.0));
        is_away(&spill, 31_100, 0.0);
        assert!(matches!(spill.state(), State::Trying { .. }));
        (0..5).for_each(|_| spill.outcome(false, 31_200));
        assert!(is_away(&spill, 31_300, 0.0));
        assert_eq!(spill.state(), State::Away { until: 61_300, why: Reason::Failures });
    }

    #[test]
    fn an_average_and_a_share_count_over_their_time_alone() {
        let slow = Spill::new(POLICY);
        (0..10).for_each(|_| slow.first_token(Duration::from_secs(2), 1000));
        assert!(!is_away(&slow, 15_000, 0.0), "that is long ago");
        (0..9).for_each(|_| slow.first_token(Duration::from_secs(2), 15_000));
        assert!(!is_away(&slow, 15_200, 0.0), "too few to say");
        slow.first_token(Duration::from_secs(2), 15_200);
        assert!(is_away(&slow, 15_400, 0.0));
        let failing = Spill::new(Policy { failures: None, ..POLICY });
        (0..10).for_each(|n| failing.outcome(n % 2 == 0, 1000));
        assert!(is_away(&failing, 1000, 0.0));
        assert_eq!(failing.state(), State::Away { until: 31_000, why: Reason::ErrorRate });
    }

    #[test]
    fn sick_endpoints_keep_it_aside_for_as_long_as_they_are() {
        let spill = Spill::new(POLICY);
        assert!(!is_away(&spill, 1000, 0.4) && is_away(&spill, 2000, 0.5));
        assert!(is_away(&spill, 40_000, 0.3), "over half of the threshold");
        assert!(is_away(&spill, 60_000, 0.0), "not back at the first good sign");
        let tried = (0..10).filter(|_| !is_away(&spill, 71_000, 0.0)).count();
        assert_eq!(tried, 1);
        is_away(&spill, 101_500, 0.0);
        assert_eq!(spill.state(), State::Here, "nothing bad was seen for so long");
    }

    #[test]
    fn a_policy_that_says_nothing_sends_nothing_away() {
        let spill = Spill::new(Policy { over: Duration::from_secs(10), ..Policy::default() });
        (0..100).for_each(|_| spill.outcome(false, 1000));
        (0..100).for_each(|_| spill.first_token(Duration::from_secs(100), 1000));
        assert!(!is_away(&spill, 1500, 1.0));
    }
}
