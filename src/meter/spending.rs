//! What is spent, by whom, in the present day, the present month and in all, in UTC's calendar. It is what the ledger
//! comes to, and outlives the process with it: a file beside the ledger holds the sums and how far the ledger goes that
//! they are of, and what was written behind that is read again at the start. So nothing is forgotten that the ledger has,
//! and nothing is counted twice.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::AddAssign;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Position, replay, sync_directory};
use super::price::Money;
use crate::moment::{day_of, month_of, read_rfc3339};

/// The file of the sums.
const FILE: &str = "spending.json";
/// Its form. What one of another has left out is in the ledger.
const VERSION: u32 = 2;
/// Of how many models each payer's spending is known apart: clients may name as many as they like where an alias has a
/// star. What is spent on more counts under their alias.
const MODELS: usize = 256;
/// How long a subject is known on which nothing is spent, days.
const KEPT: u32 = 400;

/// What a subject has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the present day.
    pub day: Money,
    /// In the present month.
    pub month: Money,
    /// In all.
    pub total: Money,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.day += other.day;
        self.month += other.month;
        self.total += other.total;
    }
}

/// What each subject has spent. A subject is `key:NAME` for a principal, `team:NAME`, `organisation:NAME`, each of them with
/// what it spent on each model by the client's name for it; and what was spent on it is that of `model:ALIAS`,
/// `cluster:NAME` and `provider_key:CLUSTER/KEY`.
#[derive(Debug, Default)]
pub struct Spending {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subjects: HashMap<String, Subject>,
    /// The last day on which anything was spent.
    today: u32,
}

#[derive(Debug, Default)]
struct Subject {
    all: Account,
    models: HashMap<String, Account>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    day: u32,
    month: u32,
    spent: Spent,
}

impl Account {
    fn add(&mut self, cost: Money, at: SystemTime) {
        let (day, month) = (day_of(at), month_of(at));
        // A record of yesterday that comes after midnight is none of today's.
        if day > self.day {
            (self.day, self.spent.day) = (day, Money::ZERO);
        }
        if month > self.month {
            (self.month, self.spent.month) = (month, Money::ZERO);
        }
        if day == self.day {
            self.spent.day += cost;
        }
        if month == self.month {
            self.spent.month += cost;
        }
        self.spent.total += cost;
    }

    fn at(&self, at: SystemTime) -> Spent {
        let (day, month) = (day_of(at), month_of(at));
        Spent {
            day: if day == self.day { self.spent.day } else { Money::ZERO },
            month: if month == self.month { self.spent.month } else { Money::ZERO },
            total: self.spent.total,
        }
    }
}

impl Spending {
    /// What the ledger in that directory comes to.
    ///
    /// # Errors
    /// Where its files cannot be read. Sums that cannot be are made anew from all of them.
    pub fn load(directory: &Path) -> io::Result<Arc<Self>> {
        let (subjects, from) = match fs::read(directory.join(FILE)) {
            Ok(text) => read(&text).unwrap_or_else(|why| {
                log::warn!("{FILE} cannot be read ({why}): what is spent is summed up from the whole ledger");
                (HashMap::new(), Position::default())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (HashMap::new(), Position::default()),
            Err(error) => return Err(error),
        };
        let today = subjects.values().map(|subject| subject.all.day).max().unwrap_or(0);
        let spending = Self { state: Mutex::new(State { subjects, today }) };
        replay(directory, from, &mut |entry| spending.add(entry))?;
        Ok(Arc::new(spending))
    }

    /// What a subject has spent, as of that time.
    pub fn spent(&self, subject: &str, at: SystemTime) -> Spent {
        self.lock().subjects.get(subject).map_or_else(Spent::default, |subject| subject.all.at(at))
    }

    /// What a subject has spent on such models, as of that time.
    pub fn spent_on(&self, subject: &str, such: impl Fn(&str) -> bool, at: SystemTime) -> Spent {
        let (state, mut spent) = (self.lock(), Spent::default());
        let models = state.subjects.get(subject).into_iter().flat_map(|subject| &subject.models);
        models.filter(|(name, _)| such(name)).for_each(|(_, account)| spent += account.at(at));
        spent
    }

    /// How many subjects there are.
    pub fn len(&self) -> usize {
        self.lock().subjects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a record of the ledger.
    pub(super) fn add(&self, entry: &Entry) {
        let Some(cost) = entry.money().filter(|cost| *cost > Money::ZERO) else { return };
        // It counts where it was reserved, which is when it began. Older records do not say when that was.
        let Some(at) = read_rfc3339(&entry.began).or_else(|| read_rfc3339(&entry.ts)) else { return };
        let mut state = self.lock();
        state.roll(day_of(at));
        for (name, has_models) in subjects(entry) {
            let subject = state.subjects.entry(name).or_default();
            subject.all.add(cost, at);
            if let Some(model) = subject.model(entry).filter(|_| has_models) {
                subject.models.entry(model.to_owned()).or_default().add(cost, at);
            }
        }
    }

    /// Writes the sums down, and how far the ledger goes that they are of.
    pub(super) fn keep(&self, directory: &Path, position: Position) -> io::Result<()> {
        let line = |(name, subject): (&String, &Subject)| (name.clone(), Line::of(subject));
        let subjects = self.lock().subjects.iter().map(line).collect();
        let text = serde_json::to_vec(&Sums { version: VERSION, position, subjects })?;
        let (new, old) = (directory.join(format!("{FILE}.new")), directory.join(FILE));
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &old)?;
        sync_directory(directory)
    }
}

impl State {
    /// Forgets whoever has spent nothing for long.
    fn roll(&mut self, day: u32) {
        if day <= self.today {
            return;
        }
        self.today = day;
        let is_late = |account: &Account| account.day.saturating_add(KEPT) >= day;
        self.subjects.retain(|_, subject| {
            subject.models.retain(|_, account| is_late(account));
            is_late(&subject.all)
        });
    }
}

impl Subject {
    /// Under which name a record counts among its models, if under any.
    fn model<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        let is_kept = |name: &str| self.models.contains_key(name) || self.models.len() < MODELS;
        let asked = Some(entry.asked.as_str()).filter(|name| !name.is_empty() && is_kept(name));
        asked.or(Some(&entry.alias)).filter(|name| !name.is_empty())
    }
}

/// Whose spending a record is, and whether theirs is known by model.
fn subjects(entry: &Entry) -> impl Iterator<Item = (String, bool)> {
    // Bearers of tokens have no limits by model, and there may be any number of them.
    let is_configured = !entry.principal.contains('/');
    let of = |kind: &str, name: &str, has_models| {
        (!name.is_empty()).then(|| (format!("{kind}:{name}"), has_models))
    };
    let key =
        (!entry.key.is_empty()).then(|| (format!("provider_key:{}/{}", entry.cluster, entry.key), false));
    let all = [
        of("key", &entry.principal, is_configured),
        of("team", &entry.team, true),
        of("organisation", &entry.organisation, true),
        of("model", &entry.alias, false),
        of("cluster", &entry.cluster, false),
        key,
    ];
    all.into_iter().flatten()
}

/// The file.
#[derive(Deserialize, Serialize)]
struct Sums {
    version: u32,
    position: Position,
    subjects: HashMap<String, Line>,
}

/// A subject in the file, or one of its models. Sums are strings: readers of JSON hold no whole number of that size.
#[derive(Deserialize, Serialize)]
struct Line {
    day: u32,
    month: u32,
    in_day: String,
    in_month: String,
    total: String,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    models: HashMap<String, Self>,
}

impl Line {
    fn of(subject: &Subject) -> Self {
        let models = subject.models.iter().map(|(name, account)| (name.clone(), Self::sums(account)));
        Self { models: models.collect(), ..Self::sums(&subject.all) }
    }

    fn sums(account: &Account) -> Self {
        let Account { day, month, spent } = *account;
        Self {
            day,
            month,
            in_day: spent.day.count().to_string(),
            in_month: spent.month.count().to_string(),
            total: spent.total.count().to_string(),
            models: HashMap::new(),
        }
    }

    fn account(&self) -> Option<Account> {
        let sum = |text: &str| text.parse().ok().map(Money::picodollars);
        let spent = Spent { day: sum(&self.in_day)?, month: sum(&self.in_month)?, total: sum(&self.total)? };
        Some(Account { day: self.day, month: self.month, spent })
    }

    fn subject(&self) -> Option<Subject> {
        let model = |(name, line): (&String, &Self)| Some((name.clone(), line.account()?));
        Some(Subject { all: self.account()?, models: self.models.iter().map(model).collect::<Option<_>>()? })
    }
}

fn read(text: &[u8]) -> Result<(HashMap<String, Subject>, Position), String> {
    let sums: Sums = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if sums.version != VERSION {
        return Err(format!("it is of version {}", sums.version));
    }
    let subject = |(name, line): (String, Line)| {
        line.subject().map(|subject| (name, subject)).ok_or_else(|| "a sum is no number".to_owned())
    };
    let subjects = sums.subjects.into_iter().map(subject).collect::<Result<_, _>>()?;
    Ok((subjects, sums.position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ts: &str, cost: Option<u64>) -> Entry {
        Entry {
            ts: ts.to_owned(),
            principal: "alice".to_owned(),
            team: "x".to_owned(),
            alias: "gpt-*".to_owned(),
            cost,
            ..Entry::default()
        }
    }

    fn at(text: &str) -> SystemTime {
        read_rfc3339(text).unwrap()
    }

    #[test]
    fn a_day_and_a_month_are_over_when_they_are() {
        let spending = Spending::default();
        for (ts, cost) in [
            ("2026-11-30T23:59:59.900Z", 1),
            ("2026-12-01T00:00:00.100Z", 10),
            ("2026-11-30T23:59:59.950Z", 100),
            ("2026-12-02T08:00:00.000Z", 1_000),
        ] {
            spending.add(&entry(ts, Some(cost)));
        }
        spending.add(&entry("2026-12-02T08:00:00.000Z", None));
        let spent = |subject, time| {
            let Spent { day, month, total } = spending.spent(subject, at(time));
            [day.count(), month.count(), total.count()]
        };
        assert_eq!(spent("key:alice", "2026-12-02T09:00:00Z"), [1_000, 1_010, 1_111]);
        assert_eq!(spent("key:alice", "2026-12-03T00:00:00Z"), [0, 1_010, 1_111]);
        assert_eq!(spent("team:x", "2027-01-01T00:00:00Z"), [0, 0, 1_111]);
        let on = spending.spent_on("key:alice", |model| model == "gpt-*", at("2026-12-02T09:00:00Z"));
        assert_eq!([on.day.count(), on.month.count(), on.total.count()], [1_000, 1_010, 1_111]);
        assert_eq!(spent("organisation:", "2026-12-02T09:00:00Z"), [0, 0, 0]);
        assert_eq!(spent("model:gpt-*", "2026-12-02T09:00:00Z"), [1_000, 1_010, 1_111]);
        assert_eq!(spending.len(), 3);
    }

    #[test]
    fn what_an_attempt_cost_is_of_the_day_on_which_it_began() {
        let spending = Spending::default();
        let began = "2026-11-30T23:59:58.000Z".to_owned();
        spending.add(&entry("2026-12-01T00:00:03.000Z", Some(1)));
        spending.add(&Entry { began, ..entry("2026-12-01T00:00:04.000Z", Some(10)) });
        let spent = spending.spent("key:alice", at("2026-12-01T01:00:00Z"));
        assert_eq!([spent.day.count(), spent.month.count(), spent.total.count()], [1, 1, 11]);
    }

    #[test]
    fn models_count_by_what_clients_call_them_as_far_as_there_are_not_too_many() {
        let (spending, now) = (Spending::default(), "2026-12-01T00:00:00.000Z");
        let on = |such: &dyn Fn(&str) -> bool| spending.spent_on("key:alice", such, at(now)).total.count();
        for number in 0..2 * MODELS {
            let asked = format!("gpt-{number}");
            spending.add(&Entry { asked, ..entry(now, Some(1)) });
        }
        spending.add(&Entry { asked: "gpt-0".to_owned(), ..entry(now, Some(1)) });
        assert_eq!(on(&|model| model == "gpt-0"), 2);
        assert_eq!(on(&|model| model == "gpt-*"), MODELS as u128, "the rest");
        assert_eq!(on(&|_| true), 2 * MODELS as u128 + 1);
        assert_eq!(spending.spent("model:gpt-*", at(now)).total.count(), 2 * MODELS as u128 + 1);
    }

    #[test]
    fn bearers_of_tokens_have_one_sum_each_and_whoever_is_away_for_long_none() {
        let spending = Spending::default();
        let of = |ts: &str, principal: &str| Entry { principal: principal.to_owned(), ..entry(ts, Some(1)) };
        spending.add(&of("2025-10-01T00:00:00.000Z", "corp/u1"));
        spending.add(&of("2025-12-01T00:00:00.000Z", "corp/u2"));
        let now = at("2025-12-01T00:00:00Z");
        assert_eq!(spending.spent("key:corp/u2", now).total.count(), 1);
        assert_eq!(spending.spent_on("key:corp/u2", |_| true, now), Spent::default());
        spending.add(&of("2026-12-01T00:00:00.000Z", "bob"));
        assert_eq!(spending.spent("key:corp/u1", now).total, Money::ZERO, "it is forgotten");
        assert_eq!(spending.spent("key:corp/u2", now).total.count(), 1);
        assert_eq!(spending.len(), 4, "with the team and the model");
    }

    #[test]
    fn sums_of_an_older_form_are_not_believed() {
        let text = br#"{"version":1,"position":{"file":1,"offset":9},"subjects":{}}"#;
        assert_eq!(read(text).unwrap_err(), "it is of version 1");
    }
}
