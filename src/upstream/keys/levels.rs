//! What is known of the rates of a cluster's keys: what their provider last said was left, less what was sent since, and
//! which of them rest because they were refused for a rate. All of it is of a key and a model, as the provider calls it.
//!
//! A level is a guess that ages: it holds until the time at which the provider said that all is there again, and no longer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dialect::quota::{Measure, Quota};

/// No more models are remembered: names come from clients where an alias has a star.
const MODELS: usize = 512;
/// How long a level holds of which it is not said when all is there again, milliseconds: rates are mostly of a minute.
const WINDOW: u64 = 60_000;

/// What requests take of rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// How many they are.
    pub(super) requests: u64,
    /// Tokens of their prompts.
    pub(super) input: u64,
    /// Tokens of their replies, as much as they may have.
    pub(super) output: u64,
    /// Tokens of their replies, as much as they will likely have.
    pub(super) likely: u64,
}

impl Need {
    /// What it is in that measure. OpenAI and Azure charge the bound of a reply before it is there; Anthropic, who has a
    /// rate of replies besides (`by_reply`), charges what they turn out to be (their pages on rate limits).
    fn of(self, measure: Measure, by_reply: bool) -> u64 {
        match measure {
            Measure::Requests => self.requests,
            Measure::Tokens if by_reply => self.input.saturating_add(self.likely),
            Measure::Tokens => self.input.saturating_add(self.output),
            Measure::Input => self.input,
            Measure::Output => self.likely,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            likely: self.likely.saturating_add(other.likely),
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            likely: self.likely.saturating_sub(other.likely),
        }
    }
}

/// What the provider last said of one rate. Times are milliseconds since the process's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// How much may be asked in a window.
    pub(super) limit: u64,
    /// How much of that was left.
    pub(super) left: u64,
    /// When all of it is there again.
    pub(super) until: u64,
    /// When it was read.
    at: u64,
}

/// What is known of one key for one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// What was sent and not answered yet.
    pub(super) open: Need,
    /// Until when it is left alone for its rate; past, mostly.
    rests: u64,
    readings: [Option<Reading>; Measure::ALL.len()],
}

impl Level {
    /// The share of its rates that would be left after that request, of the one of which there is least: 1 where nothing is
    /// known, below 0 where it would not do.
    pub(super) fn room(&self, need: Need, now: u64) -> f64 {
        let by_reply = self.reading(Measure::Output, now).is_some();
        let room = |measure: Measure| {
            let reading = self.reading(measure, now)?;
            let taken = self.open.of(measure, by_reply) as f64 + need.of(measure, by_reply) as f64;
            Some((reading.left as f64 - taken) / reading.limit as f64)
        };
        Measure::ALL.into_iter().filter_map(room).fold(1.0, f64::min)
    }

    /// What was last said of a rate, as long as that holds.
    pub(super) fn reading(&self, measure: Measure, now: u64) -> Option<Reading> {
        let reading = (*self.readings.get(measure as usize)?)?;
        (now < reading.until).then_some(reading)
    }

    /// How much longer it is left alone, milliseconds.
    pub(super) fn rest(&self, now: u64) -> Option<u64> {
        Some(self.rests.saturating_sub(now)).filter(|left| *left > 0)
    }

    /// It is left alone until then, or longer if it was to be already.
    pub(super) fn rest_until(&mut self, at: u64) {
        self.rests = self.rests.max(at);
    }

    /// A request is sent.
    pub(super) fn book(&mut self, need: Need) {
        self.open = self.open.and(need);
    }

    /// It was answered, or never will be: what the provider says from now on has it counted in.
    pub(super) fn settle(&mut self, need: Need) {
        self.open = self.open.less(need);
    }

    /// Takes in what the answer to a request says that was sent at that time. Answers overtake each other: one to a request
    /// that had not been sent after the last reading was taken counts only where it says less.
    pub(super) fn note(&mut self, quotas: &[Quota], sent: u64, now: u64) {
        for quota in quotas {
            // Azure says 0 of 0 where it means nothing.
            let (Some(limit), Some(left)) = (quota.limit.filter(|limit| *limit > 0), quota.remaining) else {
                continue;
            };
            let window =
                quota.reset.map_or(WINDOW, |reset| u64::try_from(reset.as_millis()).unwrap_or(WINDOW));
            let known = self.reading(quota.of, now).filter(|known| sent <= known.at && known.left < left);
            let Some(slot) = self.readings.get_mut(quota.of as usize) else { continue };
            if known.is_none() {
                *slot = Some(Reading { limit, left, until: now.saturating_add(window), at: now });
            }
        }
    }

    /// Whether nothing is known that would be lost with it.
    fn is_blank(&self, now: u64) -> bool {
        let says_nothing = |measure| self.reading(measure, now).is_none();
        self.open == Need::default() && self.rest(now).is_none() && Measure::ALL.into_iter().all(says_nothing)
    }
}

/// The levels of every key, by model.
#[derive(Debug)]
pub(super) struct Levels {
    keys: usize,
    models: HashMap<Arc<str>, Box<[Level]>>,
}

impl Levels {
    /// Nothing is known yet of so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { keys, models: HashMap::new() }
    }

    /// What is known for a model, one level a key; nothing where no more models can be remembered.
    pub(super) fn of(&mut self, model: &str, now: u64) -> Option<(Arc<str>, &mut [Level])> {
        if !self.models.contains_key(model) {
            if self.models.len() >= MODELS {
                self.models.retain(|_, levels| !levels.iter().all(|level| level.is_blank(now)));
            }
            if self.models.len() >= MODELS {
                return None;
            }
            self.models.insert(Arc::from(model), vec![Level::default(); self.keys].into());
        }
        let name = Arc::clone(self.models.get_key_value(model)?.0);
        Some((name, self.models.get_mut(model)?))
    }

    /// What is known of one key for a model that is remembered.
    pub(super) fn known(&mut self, model: &str, key: usize) -> Option<&mut Level> {
        self.models.get_mut(model)?.get_mut(key)
    }

    /// All that is known of one key, by model.
    pub(super) fn by_model(&self, key: usize) -> impl Iterator<Item = (&str, &Level)> {
        self.models.iter().filter_map(move |(model, levels)| Some((&**model, levels.get(key)?)))
    }

    /// Forgets what is known of a key: it is another account's now, perhaps. What is under way stays counted.
    pub(super) fn forget(&mut self, key: usize) {
        for level in self.models.values_mut().filter_map(|levels| levels.get_mut(key)) {
            *level = Level { open: level.open, ..Level::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    pub(super) fn quota(of: Measure, limit: u64, remaining: u64, reset: Option<u64>) -> Quota {
        Quota { of, limit: Some(limit), remaining: Some(remaining), reset: reset.map(Duration::from_secs) }
    }

    const ONE: Need = Need { requests: 1, input: 100, output: 50, likely: 20 };

    #[test]
    fn what_is_left_less_what_is_under_way_must_do_for_the_next() {
        let mut level = Level::default();
        assert_eq!(level.room(ONE, 0), 1.0, "nothing is known");
        level.note(
            &[quota(Measure::Requests, 10, 2, Some(5)), quota(Measure::Tokens, 1000, 400, Some(9))],
            0,
            0,
        );
        assert!((level.room(ONE, 0) - 0.1).abs() < 1e-9);
        level.book(ONE);
        level.book(ONE);
        assert!(level.room(ONE, 0) < 0.0, "two are under way");
        assert!(
            (level.room(ONE, 5000) - -0.05).abs() < 1e-9,
            "the requests are all there again, the tokens not"
        );
        level.settle(ONE);
        assert!(level.room(ONE, 5000) > 0.0);
        assert_eq!(level.room(ONE, 9000), 1.0, "it has faded");
        let input = [quota(Measure::Input, 1000, 90, None), quota(Measure::Output, 1000, 900, None)];
        level.note(&input, 9000, 9000);
        assert!(level.room(ONE, 9000 + WINDOW - 1) < 0.0 && level.room(ONE, 9000 + WINDOW) == 1.0);
    }

    #[test]
    fn a_bound_is_charged_only_where_the_provider_charges_it() {
        let long = Need { output: 32_000, likely: 1024, ..ONE };
        let mut level = Level::default();
        level.note(&[quota(Measure::Tokens, 40_000, 30_000, None)], 0, 0);
        assert!(level.room(long, 0) < 0.0);
        level.note(&[quota(Measure::Output, 8000, 8000, None)], 0, 0);
        assert!(level.room(long, 0) > 0.5);
    }

    #[test]
    fn an_answer_that_was_overtaken_says_nothing_new() {
        let mut level = Level::default();
        let left = |level: &Level| level.reading(Measure::Requests, 100).unwrap().left;
        level.note(&[quota(Measure::Requests, 10, 3, Some(60))], 10, 20);
        level.note(&[quota(Measure::Requests, 10, 5, Some(60))], 5, 30);
        assert_eq!(left(&level), 3);
        level.note(&[quota(Measure::Requests, 10, 2, Some(60))], 5, 40);
        assert_eq!(left(&level), 2, "less is less");
        level.note(&[quota(Measure::Requests, 10, 9, Some(60))], 50, 60);
        assert_eq!(left(&level), 9, "it was asked after that: the window is another");
        level.note(&[quota(Measure::Requests, 0, 0, Some(60))], 70, 80);
        assert_eq!(left(&level), 9, "none of none is no answer");
    }

    #[test]
    fn the_models_that_are_remembered_are_bounded() {
        let mut levels = Levels::new(2);
        for number in 0..2 * MODELS {
            if let Some((_, level)) = levels.of(&format!("m{number}"), 0) {
                level[1].rest_until(1000);
            }
        }
        assert_eq!(levels.models.len(), MODELS);
        assert!(levels.of("new", 999).is_none());
        assert!(levels.of("new", 1000).is_some());
        assert_eq!(levels.models.len(), 1);
    }

    #[test]
    fn a_rest_is_of_one_key_and_one_model_and_ends() {
        let mut levels = Levels::new(2);
        levels.of("a", 0).unwrap().1[0].rest_until(50);
        levels.known("a", 0).unwrap().rest_until(20);
        let rest =
            |levels: &mut Levels, model, key, now| levels.known(model, key).and_then(|level| level.rest(now));
        assert_eq!(rest(&mut levels, "a", 0, 10), Some(40));
        assert_eq!((rest(&mut levels, "a", 1, 10), rest(&mut levels, "b", 0, 10)), (None, None));
        assert_eq!(rest(&mut levels, "a", 0, 50), None);
        levels.known("a", 0).unwrap().book(ONE);
        levels.forget(0);
        assert_eq!(rest(&mut levels, "a", 0, 10), None);
        assert_eq!(levels.known("a", 0).unwrap().open, ONE);
    }
}
