//! The state of a breaker in one word, so that requests pass it without a lock.
//!
//! Every state has a period of its own: a number that changes with every change of state. Whoever passes takes the
//! number along, and what is said of another period than the present one is old news. A place among the tries belongs to
//! its period too, so that none can be given back twice or to the wrong one.

use super::atomic::AtomicU64;
use super::atomic::Ordering::{AcqRel, Acquire};

/// What a breaker lets pass. Times are milliseconds since the process's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed {
        /// Since when, after it had been open; 0 if it never was.
        since: u64,
    },
    /// Nothing.
    Open {
        /// Until when.
        until: u64,
    },
    /// A few, to see how they fare.
    HalfOpen {
        /// How many are under way.
        trying: u16,
        /// How many went well.
        passed: u16,
    },
}

/// A state, its number, and how often it has opened without having been well for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The state.
    pub state: State,
    /// How often it has opened in a row.
    pub trips: u8,
    /// The number of this state among all that there were; it wraps around.
    pub period: u16,
}

/// What a request took along when it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It passed in that closed period.
    Through(u16),
    /// It holds a place among the tries of that half-open period.
    Try {
        /// The period.
        period: u16,
        /// Whether the period began with it.
        first: bool,
    },
    /// It was a try of that period and went well so far; its place is given back.
    Tried(u16),
    /// It did not pass, and goes there because there is no better place. It says nothing.
    Beside,
}

/// The word. Two bits for the state, six for the trips, sixteen for the period, forty for what the state holds.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU64,
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const TAG: u64 = 0b11;
/// The most trips that are counted.
const TRIPS: u8 = 0x3f;
/// The latest time that a word can hold: 34 years after the start.
const LATEST: u64 = (1 << 40) - 1;

impl Default for Gate {
    fn default() -> Self {
        Self { word: AtomicU64::new(CLOSED) }
    }
}

impl Phase {
    fn of(word: u64) -> Self {
        let held = word >> 24;
        let state = match word & TAG {
            OPEN => State::Open { until: held },
            HALF_OPEN => {
                State::HalfOpen { trying: (held & 0xffff) as u16, passed: (held >> 16 & 0xffff) as u16 }
            }
            _ => State::Closed { since: held },
        };
        Self { state, trips: (word >> 2) as u8 & TRIPS, period: (word >> 8 & 0xffff) as u16 }
    }

    fn word(self) -> u64 {
        let (tag, held) = match self.state {
            State::Closed { since } => (CLOSED, since.min(LATEST)),
            State::Open { until } => (OPEN, until.min(LATEST)),
            State::HalfOpen { trying, passed } => (HALF_OPEN, u64::from(passed) << 16 | u64::from(trying)),
        };
        held << 24 | u64::from(self.period) << 8 | u64::from(self.trips.min(TRIPS)) << 2 | tag
    }

    /// The next state, in a period of its own.
    fn then(self, state: State) -> Self {
        Self { state, trips: self.trips, period: self.period.wrapping_add(1) }
    }

    /// With one place less taken.
    fn without_a_try(self) -> Option<Self> {
        match self.state {
            State::HalfOpen { trying, passed } if trying > 0 => {
                Some(Self { state: State::HalfOpen { trying: trying - 1, passed }, ..self })
            }
            _ => None,
        }
    }

    /// The state after one request more has passed, if it may, and what it takes along.
    fn entered(self, now: u64, tries: u16) -> Option<(Self, Pass)> {
        match self.state {
            State::Closed { .. } => Some((self, Pass::Through(self.period))),
            State::Open { until } if now >= until => {
                let next = self.then(State::HalfOpen { trying: 1, passed: 0 });
                Some((next, Pass::Try { period: next.period, first: true }))
            }
            State::HalfOpen { trying, passed } if trying < tries => {
                let next = Self { state: State::HalfOpen { trying: trying + 1, passed }, ..self };
                Some((next, Pass::Try { period: self.period, first: false }))
            }
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }
}

impl Gate {
    /// The state as of now.
    pub fn look(&self) -> Phase {
        Phase::of(self.word.load(Acquire))
    }

    /// Whether everything passes.
    pub fn is_closed(&self) -> bool {
        self.word.load(Acquire) & TAG == CLOSED
    }

    /// Whether a request would pass, with so many `tries` at once.
    pub fn admits(&self, now: u64, tries: u16) -> bool {
        self.look().entered(now, tries).is_some()
    }

    /// Lets a request pass, if it may. What is not closed lets so many `tries` pass at once, once its time has come.
    pub fn enter(&self, now: u64, tries: u16) -> Option<Pass> {
        let phase = self.look();
        if matches!(phase.state, State::Closed { .. }) {
            return Some(Pass::Through(phase.period));
        }
        let mut pass = None;
        self.change(|phase| {
            let (next, with) = phase.entered(now, tries)?;
            pass = Some(with);
            Some(next)
        })
        .and(pass)
    }

    /// Gives back the place of a try of that period.
    pub fn leave(&self, period: u16) {
        self.change(|phase| phase.without_a_try().filter(|_| phase.period == period));
    }

    /// A try of that period went well, and its place is given back. Closes the gate at the last of `successes`; says
    /// whether it did.
    pub fn passed(&self, period: u16, successes: u16, now: u64) -> bool {
        let changed = self.change(|phase| {
            let State::HalfOpen { passed, .. } = phase.state else { return None };
            let left = phase.without_a_try().filter(|_| phase.period == period)?;
            let State::HalfOpen { trying, .. } = left.state else { return None };
            Some(match passed + 1 {
                passed if passed < successes => Phase { state: State::HalfOpen { trying, passed }, ..left },
                _ => left.then(State::Closed { since: now.max(1) }),
            })
        });
        changed.is_some_and(|phase| matches!(phase.state, State::Closed { .. }))
    }

    /// Opens the gate if it is still in `period` — in any, if that is none — and not open already. `next` says from
    /// the present state the count of trips and until when. Says the new state if it opened.
    pub fn open(&self, period: Option<u16>, next: impl Fn(&Phase) -> (u8, u64)) -> Option<Phase> {
        self.change(|phase| {
            let is_open = matches!(phase.state, State::Open { .. });
            if is_open || period.is_some_and(|period| period != phase.period) {
                return None;
            }
            let (trips, until) = next(&phase);
            Some(Phase { trips: trips.min(TRIPS), ..phase.then(State::Open { until: until.min(LATEST) }) })
        })
    }

    /// Closes the gate, whatever it was, and forgets why it had opened. Says whether it was not closed.
    pub fn reset(&self, now: u64) -> bool {
        let changed = self.change(|phase| {
            let is_closed = matches!(phase.state, State::Closed { .. });
            (!is_closed).then(|| Phase { trips: 0, ..phase.then(State::Closed { since: now.max(1) }) })
        });
        changed.is_some()
    }

    /// Changes the word as a whole; says what it is afterwards.
    fn change(&self, mut next: impl FnMut(Phase) -> Option<Phase>) -> Option<Phase> {
        let mut after = None;
        self.word
            .fetch_update(AcqRel, Acquire, |word| {
                after = next(Phase::of(word));
                after.map(Phase::word)
            })
            .ok()
            .and(after)
    }
}
