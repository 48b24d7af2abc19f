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

/// What each subject has spent. A subject is `key:NAME` for a principal, `team:NAME`, `organisation:NAME`, and each of
/// them with `/model:ALIAS` behind it for one model; and what was spent on it is that of `model:ALIAS`, `cluster:NAME` and
/// `provider_key:CLUSTER/KEY`.
#[derive(Debug, Default)]
pub struct Spending {
    accounts: Mutex<HashMap<String, Account>>,
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
        let (accounts, from) = match fs::read(directory.join(FILE)) {
            Ok(text) => read(&text).unwrap_or_else(|why| {
                log::warn!("{FILE} cannot be read ({why}): what is spent is summed up from the whole ledger");
                (HashMap::new(), Position::default())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (HashMap::new(), Position::default()),
            Err(error) => return Err(error),
        };
        let spending = Self { accounts: Mutex::new(accounts) };
        replay(directory, from, &mut |entry| spending.add(entry))?;
        Ok(Arc::new(spending))
    }

    /// What a subject has spent, as of that time.
    pub fn spent(&self, subject: &str, at: SystemTime) -> Spent {
        self.lock().get(subject).map_or_else(Spent::default, |account| account.at(at))
    }

    /// Every subject there is.
    pub fn subjects(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a record of the ledger.
    pub(super) fn add(&self, entry: &Entry) {
        let Some(cost) = entry.money().filter(|cost| *cost > Money::ZERO) else { return };
        let Some(at) = read_rfc3339(&entry.ts) else { return };
        let mut accounts = self.lock();
        for subject in subjects(entry) {
            accounts.entry(subject).or_default().add(cost, at);
        }
    }

    /// Writes the sums down, and how far the ledger goes that they are of.
    pub(super) fn keep(&self, directory: &Path, position: Position) -> io::Result<()> {
        let subjects = self.lock().iter().map(|(name, account)| (name.clone(), Line::of(account))).collect();
        let text = serde_json::to_vec(&Sums { version: 1, position, subjects })?;
        let (new, old) = (directory.join(format!("{FILE}.new")), directory.join(FILE));
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &old)?;
        sync_directory(directory)
    }
}

/// Whose spending a record is.
fn subjects(entry: &Entry) -> impl Iterator<Item = String> {
    let named = [
        ("key", entry.principal.as_str()),
        ("team", entry.team.as_str()),
        ("organisation", entry.organisation.as_str()),
    ];
    let payers = named.into_iter().filter(|(_, name)| !name.is_empty()).flat_map(|(kind, name)| {
        let subject = format!("{kind}:{name}");
        let model = (!entry.alias.is_empty()).then(|| format!("{subject}/model:{}", entry.alias));
        [Some(subject), model].into_iter().flatten()
    });
    let of = |kind: &str, name: &str| (!name.is_empty()).then(|| format!("{kind}:{name}"));
    let key = (!entry.key.is_empty()).then(|| format!("provider_key:{}/{}", entry.cluster, entry.key));
    payers.chain([of("model", &entry.alias), of("cluster", &entry.cluster), key].into_iter().flatten())
}

/// The file.
#[derive(Deserialize, Serialize)]
struct Sums {
    version: u32,
    position: Position,
    subjects: HashMap<String, Line>,
}

/// A subject in the file. Sums are strings: readers of JSON hold no whole number of that size.
#[derive(Deserialize, Serialize)]
struct Line {
    day: u32,
    month: u32,
    in_day: String,
    in_month: String,
    total: String,
}

impl Line {
    fn of(account: &Account) -> Self {
        let Account { day, month, spent } = *account;
        Self {
            day,
            month,
            in_day: spent.day.count().to_string(),
            in_month: spent.month.count().to_string(),
            total: spent.total.count().to_string(),
        }
    }

    fn account(&self) -> Option<Account> {
        let sum = |text: &str| text.parse().ok().map(Money::picodollars);
        let spent = Spent { day: sum(&self.in_day)?, month: sum(&self.in_month)?, total: sum(&self.total)? };
        Some(Account { day: self.day, month: self.month, spent })
    }
}

fn read(text: &[u8]) -> Result<(HashMap<String, Account>, Position), String> {
    let sums: Sums = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if sums.version != 1 {
        return Err(format!("it is of version {}", sums.version));
    }
    let account = |(name, line): (String, Line)| {
        line.account().map(|account| (name, account)).ok_or_else(|| "a sum is no number".to_owned())
    };
    let accounts = sums.subjects.into_iter().map(account).collect::<Result<_, _>>()?;
    Ok((accounts, sums.position))
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
        assert_eq!(spent("key:alice/model:gpt-*", "2026-12-02T09:00:00Z"), [1_000, 1_010, 1_111]);
        assert_eq!(spent("organisation:", "2026-12-02T09:00:00Z"), [0, 0, 0]);
        assert_eq!(spent("model:gpt-*", "2026-12-02T09:00:00Z"), [1_000, 1_010, 1_111]);
        assert_eq!(spending.subjects().len(), 5);
    }
}
