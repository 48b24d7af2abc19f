//! Rates by the generic cell rate algorithm: one atomic number for each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Short, Standing};

/// How much may pass in what time, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    most: u64,
    /// Nanoseconds.
    per: u64,
}

impl Pace {
    /// So much in that time; nothing is taken for one.
    pub fn new(most: u64, per: Duration) -> Self {
        Self { most: most.max(1), per: u64::try_from(per.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// How much may pass at once.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// The time in which that much comes back, nanoseconds.
    pub(super) fn span(&self, amount: u64) -> u64 {
        match amount.checked_mul(self.per) {
            Some(product) => product / self.most,
            None => {
                let span = u128::from(amount) * u128::from(self.per) / u128::from(self.most);
                u64::try_from(span).unwrap_or(u64::MAX)
            }
        }
    }

    /// The time, nanoseconds, in which what was not used would still come back, of what was taken to come back `from` then on.
    /// Whoever took before has its time first: none of it may be counted twice.
    pub(super) fn unused(&self, (taken, from): (u64, u64), used: u64, now: u64) -> u64 {
        let end = from.saturating_add(self.span(taken));
        end.saturating_sub(now.max(from.saturating_add(self.span(used))))
    }

    /// How much comes back in that time, nanoseconds.
    pub(super) fn amount(&self, span: u64) -> u64 {
        let amount = u128::from(span) * u128::from(self.most) / u128::from(self.per.max(1));
        u64::try_from(amount).unwrap_or(u64::MAX)
    }
}

/// How much of a rate is used: the time, nanoseconds, at which all of it will have come back.
#[derive(Debug, Default)]
pub struct Rate(AtomicU64);

impl Rate {
    /// Takes so much, if it is there. It is `now`, nanoseconds. Gives from when on it comes back: later than now where others
    /// have taken before.
    ///
    /// # Errors
    /// Says when it will be there.
    pub fn take(&self, pace: &Pace, amount: u64, now: u64) -> Result<u64, Short> {
        if amount > pace.most {
            return Err(Short::Never);
        }
        let (span, last) = (pace.span(amount), now.saturating_add(pace.per));
        let mut full = self.0.load(Relaxed);
        loop {
            let from = full.max(now);
            let next = from.saturating_add(span);
            if next > last {
                return Err(Short::Wait(Duration::from_nanos(next - last)));
            }
            match self.0.compare_exchange_weak(full, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(from),
                Err(other) => full = other,
            }
        }
    }

    /// What was taken, to come back `from` then on, turns out to be something else. More is taken whether or not it is there;
    /// what is too much is given back as far as it has not come back by itself.
    pub fn settle(&self, pace: &Pace, (taken, from): (u64, u64), used: u64, now: u64) {
        if used > taken {
            let more = pace.span(used - taken);
            self.change(|full| full.max(now).saturating_add(more));
        } else if used < taken {
            let less = pace.unused((taken, from), used, now);
            self.change(|full| full.saturating_sub(less));
        }
    }

    /// Forgets what is used, and says how much of it has not come back.
    pub(super) fn take_out(&self, pace: &Pace, now: u64) -> u64 {
        let debt = self.0.swap(0, Relaxed).saturating_sub(now);
        let begun = if debt > 0 { pace.span(1).saturating_sub(1) } else { 0 };
        pace.amount(debt.saturating_add(begun))
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let mut full = self.0.load(Relaxed);
        while let Err(other) = self.0.compare_exchange_weak(full, change(full), Relaxed, Relaxed) {
            full = other;
        }
    }

    /// How it stands now.
    pub fn standing(&self, pace: &Pace, now: u64) -> Standing {
        let debt = self.0.load(Relaxed).saturating_sub(now);
        let remaining = pace.amount(pace.per.saturating_sub(debt));
        Standing { limit: pace.most, remaining, reset: Duration::from_nanos(debt) }
    }

    /// Whether all of it is there.
    pub fn is_full(&self, now: u64) -> bool {
        self.0.load(Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn minute(most: u64) -> Pace {
        Pace::new(most, Duration::from_secs(60))
    }

    #[test]
    fn as_much_as_the_limit_passes_at_once_and_then_as_fast_as_it_says() {
        let (rate, pace) = (Rate::default(), minute(100));
        let passed = (0..1000).filter(|_| rate.take(&pace, 1, SECOND).is_ok()).count();
        assert_eq!(passed, 100);
        assert_eq!(rate.take(&pace, 1, SECOND), Err(Short::Wait(Duration::from_millis(600))));
        let later = SECOND + 600_000_000;
        assert!(rate.take(&pace, 1, later).is_ok());
        assert!(rate.take(&pace, 1, later).is_err());
        assert_eq!(rate.standing(&pace, later).remaining, 0);
        assert_eq!(
            rate.standing(&pace, later + 60 * SECOND),
            Standing { limit: 100, remaining: 100, reset: Duration::ZERO }
        );
    }

    #[test]
    fn threads_together_take_no_more() {
        let (rate, pace) = (Rate::default(), minute(1000));
        let take = || (0..1000).filter(|_| rate.take(&pace, 1, SECOND).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }

    #[test]
    fn more_than_there_can_be_is_never_there() {
        let (rate, pace) = (Rate::default(), minute(100));
        assert_eq!(rate.take(&pace, 101, 0), Err(Short::Never));
        assert!(rate.take(&pace, 100, 0).is_ok());
        assert_eq!(rate.take(&pace, 50, 0), Err(Short::Wait(Duration::from_secs(30))));
    }

    #[test]
    fn what_was_not_used_comes_back_and_what_was_more_is_owed() {
        let (rate, pace) = (Rate::default(), minute(60));
        rate.take(&pace, 60, 0).unwrap();
        rate.settle(&pace, (60, 0), 20, 0);
        assert_eq!(rate.standing(&pace, 0).remaining, 40);
        rate.settle(&pace, (20, 0), 90, 0);
        assert_eq!(rate.standing(&pace, 0).remaining, 0);
        assert_eq!(
            rate.take(&pace, 1, 0),
            Err(Short::Wait(Duration::from_secs(31))),
            "the debt is paid first"
        );
    }

    #[test]
    fn what_has_come_back_by_itself_does_not_come_back_twice() {
        let (rate, pace) = (Rate::default(), minute(60));
        rate.take(&pace, 60, 0).unwrap();
        let later = 60 * SECOND;
        rate.take(&pace, 60, later).unwrap();
        // The first used nothing, but its minute is over.
        rate.settle(&pace, (60, 0), 0, later);
        assert_eq!(rate.standing(&pace, later).remaining, 0);
    }

    #[test]
    fn under_load_it_is_what_is_used_that_counts_and_not_what_was_reserved() {
        // Each reserves twelve times what it uses, and knows that after three seconds.
        let (rate, pace) = (Rate::default(), minute(100_000));
        let (reserved, used, took) = (4_200, 350, 3 * SECOND);
        let mut under_way = std::collections::VecDeque::new();
        let mut served = 0;
        let (step, minutes) = (SECOND / 200, 5);
        for now in (0..minutes * 60 * SECOND).step_by(step as usize) {
            while under_way.front().is_some_and(|(at, _)| *at <= now) {
                let (_, from) = under_way.pop_front().unwrap();
                rate.settle(&pace, (reserved, from), used, now);
                served += used;
            }
            if let Ok(from) = rate.take(&pace, reserved, now) {
                under_way.push_back((now + took, from));
            }
        }
        let most = 100_000 * (minutes + 1);
        assert!((100_000 * minutes * 8 / 10..=most).contains(&served), "{served} of {most}");
    }

    #[test]
    fn odd_and_very_large_rates_are_kept() {
        let (rate, pace) = (Rate::default(), minute(7));
        assert_eq!((0..20).filter(|_| rate.take(&pace, 1, 0).is_ok()).count(), 7);
        let (rate, pace) = (Rate::default(), Pace::new(1_000_000_000_000, Duration::from_secs(86_400)));
        rate.take(&pace, 999_999_999_999, 0).unwrap();
        assert_eq!(rate.take(&pace, 2, 0).is_err(), pace.span(2) > 0);
        rate.settle(&pace, (999_999_999_999, 0), 0, 0);
        assert_eq!(rate.standing(&pace, 0).remaining, 1_000_000_000_000);
    }

    proptest! {
        #[test]
        fn over_a_long_time_no_more_passes_than_the_limit_says(
            most in 1_u64..1000,
            asks in prop::collection::vec((0_u64..2_000_000_000, 1_u64..50, 0_u64..50), 1..300),
        ) {
            let (rate, pace) = (Rate::default(), minute(most));
            let (mut now, mut used_in_all) = (0, 0_u64);
            for (pause, amount, used) in asks {
                now += pause;
                if let Ok(from) = rate.take(&pace, amount, now) {
                    let used = used.min(amount);
                    rate.settle(&pace, (amount, from), used, now);
                    used_in_all += used;
                }
            }
            // As much as there is at once, and what came back since; a unit for each rounding.
            prop_assert!(used_in_all <= most + pace.amount(now) + 1, "{used_in_all} of {most}");
        }
    }
}
