//! Money of a calendar period: what is spent, and what is set aside for exchanges under way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Per, Short, Standing};
use crate::moment::{day_of, month_of, month_start};

/// What is left of a budget, by its period. All amounts are in picodollars.
#[derive(Debug, Default)]
pub struct Budget {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The period that the amounts are of.
    period: u32,
    spent: u64,
    held: u64,
}

/// The number of the period in which that moment is.
pub(super) fn period_of(per: Per, at: SystemTime) -> u32 {
    match per {
        Per::Day => day_of(at),
        Per::Month => month_of(at),
        Per::Second | Per::Minute | Per::Ever => 0,
    }
}

/// When the period ends in which that moment is, if it ever does.
pub(super) fn end_of(per: Per, at: SystemTime) -> Option<SystemTime> {
    match per {
        Per::Day => {
            let days = u64::from(day_of(at)) + 1;
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400))
        }
        Per::Month => Some(month_start(month_of(at) + 1)),
        Per::Second | Per::Minute | Per::Ever => None,
    }
}

impl Budget {
    /// So much of the present period was spent before the process began.
    pub fn recall(&self, per: Per, amount: u64, at: SystemTime) {
        let mut state = self.state();
        state.roll(period_of(per, at));
        state.spent = state.spent.saturating_add(amount);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets so much aside, or more than there is where it may be exceeded. Gives the period, and how much of the budget is
    /// spoken for after it.
    ///
    /// # Errors
    /// Says when there will be enough, if ever.
    pub fn take(
        &self,
        (per, most, may_exceed): (Per, u64, bool),
        amount: u64,
        at: SystemTime,
    ) -> Result<(u32, u64), Short> {
        let period = period_of(per, at);
        let mut state = self.state();
        state.roll(period);
        let after = state.spent.saturating_add(state.held).saturating_add(amount);
        if after > most && !may_exceed {
            let is_ever = amount <= most;
            let wait = end_of(per, at).and_then(|end| end.duration_since(at).ok());
            return Err(wait.filter(|_| is_ever).map_or(Short::Never, Short::Wait));
        }
        state.held = state.held.saturating_add(amount);
        // Another may have begun the next period meanwhile.
        Ok((state.period, after))
    }

    /// What was set aside in that period turns out to be something else. What belongs to a period that is over counts there.
    pub fn settle(&self, per: Per, (taken, period): (u64, u32), used: u64, at: SystemTime) {
        let mut state = self.state();
        state.roll(period_of(per, at));
        if state.period == period {
            state.held = state.held.saturating_sub(taken);
            state.spent = state.spent.saturating_add(used);
        }
    }

    /// How it stands now.
    pub fn standing(&self, (per, most): (Per, u64), at: SystemTime) -> Standing {
        let mut state = self.state();
        state.roll(period_of(per, at));
        let reset = end_of(per, at).and_then(|end| end.duration_since(at).ok()).unwrap_or(Duration::MAX);
        Standing {
            limit: most,
            remaining: most.saturating_sub(state.spent.saturating_add(state.held)),
            reset,
        }
    }

    /// Whether nothing of it is spent or set aside.
    pub fn is_full(&self, per: Per, at: SystemTime) -> bool {
        let mut state = self.state();
        state.roll(period_of(per, at));
        state.spent == 0 && state.held == 0
    }
}

impl State {
    /// A new period begins with nothing; one that is over does not come back where clocks differ.
    fn roll(&mut self, period: u32) {
        if period > self.period {
            *self = Self { period, spent: 0, held: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number * 86_400)
    }

    const HARD: (Per, u64, bool) = (Per::Day, 100, false);

    #[test]
    fn what_is_set_aside_counts_until_it_is_settled() {
        let (budget, at) = (Budget::default(), day(20_000));
        let (period, after) = budget.take(HARD, 60, at).unwrap();
        assert_eq!((period, after), (20_000, 60));
        let midnight = Short::Wait(Duration::from_secs(86_400));
        assert_eq!(budget.take(HARD, 60, at), Err(midnight));
        budget.settle(Per::Day, (60, period), 10, at);
        assert!(budget.take(HARD, 60, at).is_ok());
        assert_eq!(budget.standing((Per::Day, 100), at).remaining, 30);
    }

    #[test]
    fn more_than_the_whole_budget_is_never_there_unless_it_may_be_exceeded() {
        let (budget, at) = (Budget::default(), day(20_000));
        assert_eq!(budget.take(HARD, 101, at), Err(Short::Never));
        assert_eq!(budget.take((Per::Ever, 100, false), 50, at).map(|taken| taken.1), Ok(50));
        assert_eq!(budget.take((Per::Ever, 100, false), 51, at), Err(Short::Never), "all time has no end");
        let (_, after) = Budget::default().take((Per::Day, 100, true), 500, at).unwrap();
        assert_eq!(after, 500);
    }

    #[test]
    fn a_day_begins_with_nothing_and_what_belongs_to_the_last_stays_there() {
        let (budget, at) = (Budget::default(), day(20_000));
        let (period, _) = budget.take(HARD, 100, at).unwrap();
        let next = day(20_001);
        assert!(budget.is_full(Per::Day, next));
        budget.settle(Per::Day, (100, period), 100, next);
        assert_eq!(budget.standing((Per::Day, 100), next).remaining, 100);
        // A clock that is late does not bring the last day back.
        assert_eq!(budget.standing((Per::Day, 100), at).remaining, 100);
    }

    #[test]
    fn a_month_ends_with_its_last_day() {
        // 2024-02-28T00:00:00Z: a leap year.
        let (budget, at) = (Budget::default(), day(19_781));
        let taken = budget.take((Per::Month, 10, false), 10, at);
        assert!(taken.is_ok());
        let wait = Duration::from_secs(2 * 86_400);
        assert_eq!(budget.take((Per::Month, 10, false), 1, at), Err(Short::Wait(wait)));
        assert!(budget.take((Per::Month, 10, false), 1, at + wait).is_ok());
    }

    #[test]
    fn what_was_spent_before_a_restart_is_spent() {
        let at = day(20_000);
        let budget = Budget::default();
        budget.recall(Per::Day, 70, at);
        assert!(budget.take(HARD, 40, at).is_err() && budget.take(HARD, 30, at).is_ok());
        assert!(budget.take(HARD, 100, day(20_001)).is_ok());
    }
}
