//! A histogram of times that forgets.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How long things took of late. Noting one costs two additions, and nobody waits for anybody.
///
/// Times are counted in steps of 256 µs up to 4 ms, and of a sixteenth of a power of two above: what is read is at most
/// 256 µs or 1/16 more than what was noted, and never less. What takes longer than 18 minutes counts as that. Once 1024
/// are counted, half of each count goes: so a time weighs half as much after 512 more, and a quarter after 1024.
#[derive(Debug)]
pub struct Times {
    counts: [AtomicU32; STEPS],
    noted: AtomicU32,
}

/// So many times are counted at most.
const KEPT: u32 = 1024;
/// Of fewer nothing is said.
const FEW: u32 = 50;

/// Each power of two is split into two to the power of this.
const FINE: u32 = 4;
/// Below it every unit has a step of its own.
const EXACT: usize = 1 << FINE;
/// Powers of two that are split.
const POWERS: usize = 18;
const STEPS: usize = EXACT * (POWERS + 1);
/// What the steps are counted in, µs.
const UNIT: u64 = 256;

impl Default for Times {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), noted: AtomicU32::new(0) }
    }
}

impl Times {
    /// Notes one.
    pub fn note(&self, took: Duration) {
        let Some(count) = self.counts.get(step(took)) else { return };
        count.fetch_add(1, Relaxed);
        // Of those who note at once, one halves; should it be late, another does at the next multiple.
        if (self.noted.fetch_add(1, Relaxed) + 1).is_multiple_of(KEPT) {
            self.halve();
        }
    }

    /// Within what time that share of them came; nothing where there are too few.
    pub fn within(&self, share: f64) -> Option<Duration> {
        let total: u32 = self.counts.iter().map(|count| count.load(Relaxed)).sum();
        if total < FEW {
            return None;
        }
        let rank = (f64::from(total) * share).ceil().max(1.0) as u32;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count.load(Relaxed);
            seen >= rank
        });
        // Where others have halved meanwhile, the longest step answers.
        Some(end(found.unwrap_or(STEPS - 1)))
    }

    /// Takes half of each count. What is left over of one goes to the next, so that a long tail of single times is neither
    /// lost nor left as it is.
    fn halve(&self) {
        let (mut over, mut gone) = (0, 0);
        for count in &self.counts {
            let now = count.load(Relaxed);
            let half = (now + over) / 2;
            over = (now + over) % 2;
            if count.fetch_update(Relaxed, Relaxed, |latest| latest.checked_sub(now - half)).is_ok() {
                gone += now - half;
            }
        }
        self.noted.fetch_sub(gone, Relaxed);
    }
}

/// The step in which a time is counted.
fn step(took: Duration) -> usize {
    let units = usize::try_from(took.as_micros() / u128::from(UNIT)).unwrap_or(usize::MAX);
    let power = units.max(1).ilog2();
    if power < FINE {
        return units;
    }
    let split = (units >> (power - FINE)) % EXACT;
    ((power - FINE + 1) as usize * EXACT + split).min(STEPS - 1)
}

/// The least time that is longer than all of a step.
fn end(step: usize) -> Duration {
    let units = match step / EXACT {
        0 => step + 1,
        power => (EXACT + step % EXACT + 1) << (power - 1),
    };
    Duration::from_micros(units as u64 * UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of a service with a long tail, from tenths of a millisecond to minutes.
    fn sample(rng: &mut fastrand::Rng) -> Duration {
        let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        Duration::from_secs_f64(0.2 * (1.5 * normal).exp())
    }

    #[test]
    fn a_share_is_that_of_the_sorted_times_to_a_sixteenth() {
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..50 {
            let (times, count) = (Times::default(), rng.usize(FEW as usize..KEPT as usize));
            let mut all: Vec<_> = (0..count).map(|_| sample(&mut rng)).collect();
            all.iter().for_each(|took| times.note(*took));
            all.sort_unstable();
            for share in [0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
                let exact = all[((count as f64 * share).ceil() as usize).max(1) - 1];
                let read = times.within(share).unwrap();
                let most = exact.mul_f64(1.0 + 1.0 / 16.0) + Duration::from_micros(UNIT);
                assert!(read > exact && read <= most, "{round} {share}: {exact:?} is read as {read:?}");
            }
        }
    }

    #[test]
    fn every_step_ends_where_the_next_begins() {
        for number in 0..STEPS - 1 {
            assert_eq!(step(end(number)), number + 1);
            assert_eq!(step(end(number) - Duration::from_micros(1)), number);
        }
        assert_eq!(step(Duration::ZERO), 0);
        assert_eq!(step(Duration::MAX), STEPS - 1);
    }

    #[test]
    fn of_too_few_nothing_is_said() {
        let times = Times::default();
        for _ in 1..FEW {
            times.note(Duration::from_millis(5));
        }
        assert_eq!(times.within(0.95), None);
        times.note(Duration::from_millis(5));
        assert!(times.within(0.95).is_some());
    }

    #[test]
    fn what_was_long_ago_is_forgotten_and_a_tail_of_single_times_is_kept() {
        let times = Times::default();
        (0..2000).for_each(|_| times.note(Duration::from_secs(10)));
        (0..3000).for_each(|_| times.note(Duration::from_millis(10)));
        assert!(times.within(0.95).unwrap() < Duration::from_millis(11));
        // As many times as there are steps: each step counts few, and halving must not move the middle.
        let (times, mut rng) = (Times::default(), fastrand::Rng::with_seed(3));
        let mut all: Vec<_> = (0..10_000).map(|_| sample(&mut rng)).collect();
        all.iter().for_each(|took| times.note(*took));
        all.sort_unstable();
        for (share, low, high) in [(0.5, 4500, 5500), (0.95, 9200, 9700)] {
            let read = times.within(share).unwrap();
            assert!(read > all[low] && read < all[high], "{share}: {read:?}");
        }
    }

    #[test]
    fn threads_lose_no_time_and_keep_the_bound() {
        let times = Times::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..20_000).for_each(|number| times.note(Duration::from_millis(number % 4 * 10)))
                });
            }
        });
        let counted: u32 = times.counts.iter().map(|count| count.load(Relaxed)).sum();
        assert_eq!(counted, times.noted.load(Relaxed));
        assert!((KEPT / 4..=3 * KEPT).contains(&counted), "{counted}");
        assert!(times.within(0.99).unwrap() >= Duration::from_millis(30));
    }
}
