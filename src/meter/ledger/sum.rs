//! Sums over the ledger's files, exact, for `forebay usage`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::files::{Position, replay};
use super::line::{Entry, time};
use crate::meter::price::Money;

/// What is summed up apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The day, in UTC.
    Day,
    /// The month, in UTC.
    Month,
    /// Who paid.
    Principal,
    /// Whose team.
    Team,
    /// Whose organisation.
    Organisation,
    /// The model alias.
    Model,
    /// The model's name upstream.
    Upstream,
    /// The cluster.
    Cluster,
    /// The provider.
    Provider,
    /// The provider's key.
    Key,
    /// The route.
    Route,
    /// The operation.
    Operation,
    /// How it is known.
    Known,
}

impl By {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Day,
        Self::Month,
        Self::Principal,
        Self::Team,
        Self::Organisation,
        Self::Model,
        Self::Upstream,
        Self::Cluster,
        Self::Provider,
        Self::Key,
        Self::Route,
        Self::Operation,
        Self::Known,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Principal => "principal",
            Self::Team => "team",
            Self::Organisation => "organisation",
            Self::Model => "model",
            Self::Upstream => "upstream_model",
            Self::Cluster => "cluster",
            Self::Provider => "provider",
            Self::Key => "key",
            Self::Route => "route",
            Self::Operation => "operation",
            Self::Known => "known",
        }
    }

    fn of(self, entry: &Entry) -> String {
        let dated = |length| entry.ts.get(..length).unwrap_or_default();
        match self {
            Self::Day => dated(10),
            Self::Month => dated(7),
            Self::Principal => &entry.principal,
            Self::Team => &entry.team,
            Self::Organisation => &entry.organisation,
            Self::Model => &entry.alias,
            Self::Upstream => &entry.model,
            Self::Cluster => &entry.cluster,
            Self::Provider => &entry.provider,
            Self::Key => &entry.key,
            Self::Route => &entry.route,
            Self::Operation => &entry.operation,
            Self::Known => &entry.known,
        }
        .to_owned()
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|by| by.name() == text);
        found.ok_or_else(|| format!("`{text}` is not one of {}", names()))
    }
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Not before.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
    /// What is summed up apart; all together where it is empty.
    pub by: Vec<By>,
}

/// A sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Attempts.
    pub attempts: u64,
    /// Those of them that nobody knows the price of.
    pub unpriced: u64,
    /// Tokens of prompts.
    pub input: u64,
    /// Those of them that were read from caches.
    pub cached: u64,
    /// Those of them that were written to caches.
    pub written: u64,
    /// Tokens of replies.
    pub output: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// What it cost, as far as that is known.
    pub cost: Money,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.attempts += 1;
        self.unpriced += u64::from(entry.cost.is_none());
        self.input += entry.input_tokens.unwrap_or(0);
        self.cached += entry.cached_tokens.unwrap_or(0);
        self.written += entry.written_tokens.unwrap_or(0);
        self.output += entry.output_tokens.unwrap_or(0);
        self.reasoning += entry.reasoning_tokens.unwrap_or(0);
        self.cost += entry.money().unwrap_or_default();
    }

    fn and(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.unpriced += other.unpriced;
        self.input += other.input;
        self.cached += other.cached;
        self.written += other.written;
        self.output += other.output;
        self.reasoning += other.reasoning;
        self.cost += other.cost;
    }

    fn counts(&self) -> [(&'static str, u64); 7] {
        [
            ("attempts", self.attempts),
            ("unpriced", self.unpriced),
            ("input_tokens", self.input),
            ("cached_tokens", self.cached),
            ("written_tokens", self.written),
            ("output_tokens", self.output),
            ("reasoning_tokens", self.reasoning),
        ]
    }
}

/// The sums of a ledger.
#[derive(Debug)]
pub struct Sums {
    by: Vec<By>,
    rows: BTreeMap<Vec<String>, Sum>,
}

impl Sums {
    /// Sums the files in that directory up.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn of(directory: &Path, query: &Query) -> io::Result<Self> {
        let mut rows: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
        replay(directory, Position::default(), &mut |entry| {
            let at = time(&entry.ts);
            let late = at.is_none_or(|at| query.since.is_none_or(|since| at >= since));
            let early = at.is_none_or(|at| query.until.is_none_or(|until| at < until));
            if late && early {
                rows.entry(query.by.iter().map(|by| by.of(entry)).collect()).or_default().add(entry);
            }
        })?;
        Ok(Self { by: query.by.clone(), rows })
    }

    /// All rows together.
    pub fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.rows.values().for_each(|sum| total.and(sum));
        total
    }

    /// The row of these values, in the order that was asked for.
    pub fn row(&self, values: &[&str]) -> Option<&Sum> {
        self.rows.get(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    /// As a table for people.
    pub fn text(&self) -> String {
        let mut table: Vec<Vec<String>> = vec![self.head()];
        table.extend(self.rows.iter().map(|(values, sum)| cells(values, sum)));
        if self.rows.len() != 1 {
            let mut total = vec![String::new(); self.by.len()];
            if let Some(first) = total.first_mut() {
                "total".clone_into(first);
            }
            table.push(cells(&total, &self.total()));
        }
        let widths: Vec<usize> = (0..table.first().map_or(0, Vec::len))
            .map(|column| table.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in table {
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if index == 0 { "" } else { "  " };
                // Words stand to the left, numbers to the right. Writing to a String cannot fail.
                let _ = if index < self.by.len() {
                    write!(out, "{gap}{cell:<width$}")
                } else {
                    write!(out, "{gap}{cell:>width$}")
                };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// As comma-separated values (RFC 4180).
    pub fn csv(&self) -> String {
        let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        };
        let line = |cells: Vec<String>| cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
        let rows = self.rows.iter().map(|(values, sum)| line(cells(values, sum)));
        std::iter::once(line(self.head())).chain(rows).collect()
    }

    /// As JSON: a list of objects. Sums of money are strings, and exact.
    pub fn json(&self) -> Value {
        let row = |(values, sum): (&Vec<String>, &Sum)| {
            let mut object = Map::new();
            for (by, value) in self.by.iter().zip(values) {
                object.insert(by.name().to_owned(), value.clone().into());
            }
            for (name, count) in sum.counts() {
                object.insert(name.to_owned(), count.into());
            }
            object.insert("cost_usd".to_owned(), sum.cost.to_string().into());
            Value::Object(object)
        };
        self.rows.iter().map(row).collect()
    }

    fn head(&self) -> Vec<String> {
        let counts = Sum::default().counts();
        let names = self.by.iter().map(|by| by.name()).chain(counts.iter().map(|(name, _)| *name));
        names.chain(["cost_usd"]).map(str::to_owned).collect()
    }
}

fn cells(values: &[String], sum: &Sum) -> Vec<String> {
    let counts = sum.counts();
    let counts = counts.iter().map(|(_, count)| count.to_string());
    values.iter().cloned().chain(counts).chain([sum.cost.to_string()]).collect()
}
