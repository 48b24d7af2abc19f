//! Finds out how many exchanges a cluster can have under way at once: as many as leave the time to first token near to what
//! it is without a crowd.
//!
//! The time of a quiet cluster is learnt where few are under way, and never from a crowd: a limit that took a crowd's time
//! for the usual one would grow for ever. Only a cluster at its least limit, where the crowd cannot be the reason, may
//! become slower for good.

use std::time::Duration;

/// Between what and what a limit is sought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// No less than this; what it begins with.
    pub min: u32,
    /// No more than this.
    pub max: u32,
    /// How many times longer than in a quiet cluster the first token may take; more than 1.
    pub tolerance: f64,
}

/// What was seen since the limit was last thought over.
#[derive(Debug, Default)]
struct Window {
    /// When it began, milliseconds.
    began: u64,
    /// Seconds, all samples together.
    sum: f64,
    samples: u32,
    /// The most that were under way.
    busiest: u32,
}

/// A limit that is sought.
#[derive(Debug)]
pub(super) struct Search {
    bounds: Adaptive,
    limit: u32,
    /// The time to first token of a quiet cluster, seconds, once it is known.
    quiet: Option<f64>,
    window: Window,
}

/// A limit is thought over after so many samples, ...
const SAMPLES: u32 = 10;
/// ... and not before so long, milliseconds.
const LENGTH: u64 = 250;

impl Search {
    /// Begins with the least limit.
    pub(super) fn new(bounds: Adaptive) -> Self {
        Self { bounds, limit: bounds.min, quiet: None, window: Window::default() }
    }

    /// Notes a time to first token, with so many under way. It is `now`, in milliseconds. Says how many may be under way
    /// from now on, where that changes.
    pub(super) fn sample(&mut self, took: Duration, used: u32, now: u64) -> Option<u32> {
        let window = &mut self.window;
        if window.samples == 0 {
            window.began = now;
        }
        window.sum += took.as_secs_f64();
        window.samples += 1;
        window.busiest = window.busiest.max(used);
        if window.samples < SAMPLES || now < window.began + LENGTH {
            return None;
        }
        let window = std::mem::take(window);
        let average = window.sum / f64::from(window.samples);
        let next = self.next(average, window.busiest);
        let changed = next != self.limit;
        self.limit = next;
        changed.then_some(next)
    }

    fn next(&mut self, average: f64, busiest: u32) -> u32 {
        let quiet = self.learn(average, busiest);
        let room = self.bounds.tolerance * quiet / average.max(f64::MIN_POSITIVE);
        let limit = f64::from(self.limit);
        let next = if room < 1.0 {
            // Never less than half at once: one slow window is no measure.
            (limit * room.max(0.5)).floor()
        } else if f64::from(busiest) >= limit * 0.9 {
            limit + limit.sqrt().ceil()
        } else {
            // What is not used says nothing of what could be.
            limit
        };
        (next as u32).clamp(self.bounds.min, self.bounds.max)
    }

    /// The time of a quiet cluster, with what this window says of it.
    fn learn(&mut self, average: f64, busiest: u32) -> f64 {
        let uncrowded = self.limit == self.bounds.min || busiest <= self.limit / 2;
        let quiet = match self.quiet {
            None => average,
            Some(quiet) if average < quiet => average,
            Some(quiet) if uncrowded => quiet + (average - quiet) / 8.0,
            Some(quiet) => quiet,
        };
        self.quiet = Some(quiet);
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Adaptive = Adaptive { min: 4, max: 200, tolerance: 2.0 };

    /// Runs a cluster for that many windows whose first token takes 100 ms for up to `room` exchanges, and longer in
    /// proportion for more, with as many waiting as the limit allows. Gives the limits.
    fn run(search: &mut Search, room: u32, scale: f64, windows: usize) -> Vec<u32> {
        let mut now = 1;
        (0..windows)
            .map(|_| {
                let used = search.limit;
                let crowd = (f64::from(used) / f64::from(room)).max(1.0);
                for _ in 0..SAMPLES {
                    now += 30;
                    search.sample(Duration::from_secs_f64(0.1 * scale * crowd), used, now);
                }
                search.limit
            })
            .collect()
    }

    #[test]
    fn the_limit_settles_where_the_first_token_takes_as_long_as_is_tolerated() {
        let mut search = Search::new(BOUNDS);
        let limits = run(&mut search, 20, 1.0, 300);
        let settled = &limits[100..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!(*least >= 30 && *most <= 48, "{least} to {most}: twice of twenty is forty");
    }

    #[test]
    fn it_does_not_creep_upwards_in_a_crowd_that_never_ends() {
        let mut search = Search::new(BOUNDS);
        let limits = run(&mut search, 20, 1.0, 5000);
        assert!(limits[4900..].iter().all(|limit| *limit <= 48), "{:?}", &limits[4990..]);
    }

    #[test]
    fn a_cluster_that_becomes_slower_for_good_is_given_another_measure_in_the_end() {
        let mut search = Search::new(BOUNDS);
        run(&mut search, 20, 1.0, 100);
        let limits = run(&mut search, 20, 5.0, 400);
        assert!(limits.contains(&BOUNDS.min), "at first it seems crowded");
        assert!(limits[399] >= 25, "then it is known to be slow: {}", limits[399]);
    }

    #[test]
    fn what_is_not_used_is_not_raised_and_nothing_passes_the_bounds() {
        let mut search = Search::new(BOUNDS);
        let mut now = 1;
        for _ in 0..1000 {
            now += 30;
            search.sample(Duration::from_millis(100), 2, now);
        }
        assert_eq!(search.limit, BOUNDS.min);
        let limits = run(&mut search, 10_000, 1.0, 200);
        assert_eq!(limits[199], BOUNDS.max);
        let limits = run(&mut search, 1, 1.0, 200);
        assert!(limits.iter().all(|limit| (BOUNDS.min..=BOUNDS.max).contains(limit)));
    }
}
