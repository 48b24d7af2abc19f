//! A message to the store: what counts have taken, and what exchanges ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::Part;
use super::share::{Report, Share};

/// A message about limits whose keys one script may use.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Where the entry of a count is, by its number.
    places: HashMap<u64, usize>,
    pub(super) asks: Vec<Asked>,
}

/// What is told of one count.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) share: Arc<Share>,
    pub(super) report: Report,
    /// It is of a period that is over.
    pub(super) is_late: bool,
}

/// An ask, or that of its parts whose keys are here.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its number among the asks of the round.
    pub(super) ask: usize,
    /// Entries, and how much is asked of each.
    pub(super) of: Vec<(usize, u64)>,
    /// Which parts of the ask these are.
    pub(super) parts: Vec<usize>,
}

/// What the store says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// For each ask 0, or which of `of` is short, from 1.
    pub(super) asks: Vec<usize>,
    /// For each entry what is taken in all, ahead of use, and how the limit stands.
    pub(super) states: Vec<(i64, i64, u64)>,
}

impl Batch {
    /// The entry of a count; `report` says what is told of it, where there is none yet.
    pub(super) fn entry(&mut self, share: &Arc<Share>, report: impl FnOnce() -> Report) -> usize {
        if let Some(place) = self.places.get(&share.identity.serial) {
            return *place;
        }
        let place = self.entries.len();
        self.places.insert(share.identity.serial, place);
        self.entries.push(Entry { share: Arc::clone(share), report: report(), is_late: false });
        for report in share.late() {
            self.entries.push(Entry { share: Arc::clone(share), report, is_late: true });
        }
        place
    }

    /// Adds a part of an ask.
    pub(super) fn ask(&mut self, ask: usize, part: (usize, &Part), entry: usize) {
        let (number, part) = part;
        match self.asks.last_mut().filter(|last| last.ask == ask) {
            Some(last) => {
                last.of.push((entry, part.amount));
                last.parts.push(number);
            }
            None => self.asks.push(Asked { ask, of: vec![(entry, part.amount)], parts: vec![number] }),
        }
    }

    /// The script's keys and arguments. Places of nodes that are silent for longer than `lease` are free.
    pub(super) fn write(&self, number: u64, lease: Duration) -> (Vec<String>, Vec<String>) {
        let keys = self.entries.iter().map(|entry| entry.report.key.clone()).collect();
        let mut args = Vec::with_capacity(3 + 8 * self.entries.len() + 3 * self.asks.len());
        args.extend([number.to_string(), lease.as_micros().to_string(), self.asks.len().to_string()]);
        for Entry { share, report, .. } in &self.entries {
            let (kind, most, per, keep) = share.terms();
            args.extend([kind.to_owned(), most.to_string(), per.to_string(), share.identity.field.clone()]);
            args.extend([report.own, report.known, report.want].map(|amount| amount.to_string()));
            args.push(keep.to_string());
        }
        for asked in &self.asks {
            args.push(asked.of.len().to_string());
            for (entry, amount) in &asked.of {
                args.extend([(entry + 1).to_string(), amount.to_string()]);
            }
        }
        (keys, args)
    }

    /// Reads the answer; nothing where it is none.
    pub(super) fn read(&self, value: &Value) -> Option<Reply> {
        let Value::Array(parts) = value else { return None };
        let [Value::Array(asks), Value::Array(states)] = parts.as_slice() else { return None };
        let ask = |value: &Value| match value {
            Value::Int(short) => usize::try_from(*short).ok(),
            _ => None,
        };
        let reply = Reply {
            asks: asks.iter().map(ask).collect::<Option<_>>()?,
            states: states.iter().map(state).collect::<Option<_>>()?,
        };
        (reply.asks.len() == self.asks.len() && reply.states.len() == self.entries.len()).then_some(reply)
    }
}

fn state(value: &Value) -> Option<(i64, i64, u64)> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(own), Value::BulkString(ahead), Value::BulkString(level)] = parts.as_slice()
    else {
        return None;
    };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let level: i64 = text(level)?.parse().ok()?;
    Some((text(own)?.parse().ok()?, text(ahead)?.parse().ok()?, level.max(0).unsigned_abs()))
}
