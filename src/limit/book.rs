//! Every count there is, by whose it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use super::meter::{Count, Meter};
use super::remote::Remote;
use super::{Limit, Limits, Measure, Now, Outage, Per, Sharing, Subject};
use crate::meter::spending::Spending;
use crate::pattern::Pattern;

/// The counts of every subject. They stay as they are when a configuration is replaced: a limit that is raised goes on from
/// what is used.
#[derive(Debug, Default)]
pub struct Book {
    counts: Mutex<Counts>,
    spending: OnceLock<Arc<Spending>>,
    /// Where limits are shared with other nodes.
    remote: Option<Arc<Remote>>,
}

/// What a count is known by.
type Name = (Subject, Option<Arc<str>>, Measure, Per, Sharing);

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<Name, Arc<Count>>,
    /// At how many they are looked through for what nobody needs any more.
    next_sweep: usize,
}

/// How many counts there may be before they are looked through: names come from tokens and addresses, too.
const SWEEP: usize = 16_384;

type Meters = Box<[Arc<Meter>]>;

/// The meters of one subject.
#[derive(Debug, Default)]
pub struct Bound {
    all: Meters,
    models: Box<[(Pattern, Meters)]>,
    counts_money: bool,
}

impl Bound {
    /// Those that count for requests of that model.
    pub fn meters<'b>(&'b self, model: &'b str) -> impl Iterator<Item = &'b Arc<Meter>> {
        let such = self.models.iter().filter(|(pattern, _)| pattern.matches(model));
        self.all.iter().chain(such.flat_map(|(_, meters)| meters))
    }

    /// Those that count for one model and not for another, which it takes over from.
    pub fn besides<'b>(&'b self, model: &'b str, other: &'b str) -> impl Iterator<Item = &'b Arc<Meter>> {
        let such =
            self.models.iter().filter(|(pattern, _)| pattern.matches(model) && !pattern.matches(other));
        such.flat_map(|(_, meters)| meters)
    }

    /// Whether any of them counts money.
    pub fn counts_money(&self) -> bool {
        self.counts_money
    }

    /// Whether any of those for that model is a budget that cannot do without a price.
    pub fn needs_price(&self, model: &str) -> bool {
        let must_hold = |meter: &Arc<Meter>| {
            let reached = &meter.limit.reached;
            meter.limit.measure == Measure::Money && reached.refuse && !reached.serves_unpriced
        };
        self.counts_money && self.meters(model).any(must_hold)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.models.is_empty()
    }
}

impl Book {
    /// A book whose limits are shared, but for those that are a node's own.
    pub fn shared(remote: Option<Arc<Remote>>) -> Self {
        Self { remote, ..Self::default() }
    }

    /// Where limits are shared with other nodes.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// The meters of what is configured of a subject.
    pub fn bind(&self, subject: &Subject, limits: &Limits) -> Arc<Bound> {
        if limits.is_empty() {
            return Arc::default();
        }
        let outage = limits.outage;
        let meters = |models: Option<&Arc<str>>, limits: &[Limit]| {
            limits.iter().map(|limit| self.meter(subject, models, (limit, outage))).collect::<Meters>()
        };
        let such = limits.models.iter().map(|(pattern, limits)| {
            let name = Arc::from(pattern.to_string());
            (pattern.clone(), meters(Some(&name), limits))
        });
        let (all, models): (Meters, Box<[_]>) = (meters(None, &limits.all), such.collect());
        let is_money = |meter: &Arc<Meter>| meter.limit.measure == Measure::Money;
        let counts_money = all.iter().chain(models.iter().flat_map(|(_, meters)| meters)).any(is_money);
        Arc::new(Bound { all, models, counts_money })
    }

    fn meter(
        &self,
        subject: &Subject,
        models: Option<&Arc<str>>,
        (limit, outage): (&Limit, Outage),
    ) -> Arc<Meter> {
        let remote = self.remote.as_ref().filter(|_| limit.sharing != Sharing::Local);
        let sharing = remote.map_or(Sharing::Local, |_| limit.sharing);
        let name = (subject.clone(), models.cloned(), limit.measure, limit.per, sharing);
        let new = || match remote {
            Some(remote) => Count::Shared(remote.share(subject, models, limit)),
            None => Count::new(limit.measure),
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.sweep();
        let count = counts.of.entry(name).or_insert_with_key(|name| {
            let count = new();
            if let Some(spending) = self.spending.get() {
                recall(&count, name, spending);
            }
            Arc::new(count)
        });
        let count = Arc::clone(count);
        if let Count::Shared(share) = &*count {
            share.set(limit);
        }
        Meter::new(subject.clone(), models.cloned(), (limit.clone(), outage), count)
    }

    /// From now on budgets begin with what was spent before the process did; those that there are do so now. Only the first
    /// call has an effect.
    pub fn remember(&self, spending: Arc<Spending>) {
        if self.spending.set(Arc::clone(&spending)).is_ok() {
            let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.of.iter().for_each(|(name, count)| recall(count, name, &spending));
        }
    }

    /// How many counts there are.
    pub fn len(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).of.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A budget begins with what was spent of it before the process did.
fn recall(count: &Count, (subject, models, _, per, _): &Name, spending: &Spending) {
    let Count::Budget(budget) = count else { return };
    let now = SystemTime::now();
    let subject = subject.to_string();
    let spent = match models {
        None => spending.spent(&subject, now),
        Some(models) => {
            let Some(pattern) = Pattern::parse(models) else { return };
            spending.spent_on(&subject, |model| pattern.matches(model), now)
        }
    };
    let amount = match per {
        Per::Day => spent.day,
        Per::Month => spent.month,
        Per::Second | Per::Minute | Per::Ever => spent.total,
    };
    budget.recall(*per, u64::try_from(amount.count()).unwrap_or(u64::MAX), now);
}

impl Counts {
    /// Forgets counts that nobody holds and that say nothing. Where that leaves many, it is not done again before there are
    /// twice as many.
    fn sweep(&mut self) {
        if self.of.len() < self.next_sweep.max(SWEEP) {
            return;
        }
        let now = Now::at(Instant::now());
        self.of.retain(|(.., per, _), count| Arc::strong_count(count) > 1 || !count.is_full(*per, now));
        self.next_sweep = self.of.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Demand, Hold, Reached};
    use super::*;

    fn limits(most: u64) -> Limits {
        let limit = |measure, most| Limit {
            measure,
            per: Per::Minute,
            most,
            reached: Reached::default(),
            sharing: Sharing::Local,
        };
        Limits {
            all: vec![limit(Measure::Requests, most)],
            models: vec![(Pattern::parse("gpt-*").unwrap(), vec![limit(Measure::Requests, 1)])],
            ..Limits::default()
        }
    }

    fn key(name: &str) -> Subject {
        Subject::Key(name.into())
    }

    fn ask(bound: &Bound, model: &str, now: Now) -> bool {
        let mut hold = Hold::default();
        let took = hold.take(bound.meters(model), &Demand::default(), now).is_ok();
        hold.sent();
        took
    }

    #[test]
    fn a_limit_for_some_models_counts_beside_that_for_all() {
        let (book, now) = (Book::default(), Now::at(Instant::now()));
        let bound = book.bind(&key("alice"), &limits(3));
        assert!(ask(&bound, "gpt-5", now));
        assert!(!ask(&bound, "gpt-5-mini", now), "all such models share one limit");
        assert!(ask(&bound, "claude", now) && ask(&bound, "claude", now));
        assert!(!ask(&bound, "claude", now));
    }

    #[test]
    fn counts_stay_when_limits_are_bound_anew_and_subjects_have_their_own() {
        let (book, now) = (Book::default(), Now::at(Instant::now()));
        let before = book.bind(&key("alice"), &limits(2));
        assert!(ask(&before, "m", now) && ask(&before, "m", now) && !ask(&before, "m", now));
        let after = book.bind(&key("alice"), &limits(2));
        assert!(!ask(&after, "m", now));
        assert!(ask(&book.bind(&key("bob"), &limits(2)), "m", now));
        assert!(ask(&book.bind(&Subject::Team("alice".into()), &limits(2)), "m", now));
    }

    #[test]
    fn what_nobody_needs_is_forgotten() {
        let (book, now) = (Book::default(), Now::at(Instant::now()));
        let kept = book.bind(&key("kept"), &limits(1));
        let used = book.bind(&key("used"), &limits(1));
        assert!(ask(&used, "m", now));
        drop(used);
        for number in 0..2 * SWEEP {
            book.bind(&Subject::Address(number.to_string().into()), &limits(1));
        }
        assert!(book.len() < SWEEP + 16, "{}", book.len());
        assert!(ask(&kept, "m", now));
        assert!(!ask(&book.bind(&key("kept"), &limits(1)), "m", now));
        assert!(!ask(&book.bind(&key("used"), &limits(1)), "m", now), "what is used is not forgotten");
    }
}
