//! An attempt under way, and what is said of its use, whether it ends or is cut.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{Ending, Facts, Known, Ledger, Open, RAW, Record};
use crate::dialect::usage::{Input, Output, Usage};
use crate::meter::access_log::{When, Who};
use crate::meter::price::{Money, Quote};

/// What speaks for how much an attempt used.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The upstream's status, 0 before there is one.
    pub status: u16,
    /// Whether its bodies are read.
    pub is_read: bool,
    /// What the upstream reported, so far or at the end.
    pub usage: Option<Usage>,
    /// Whether its reply has come to its end.
    pub complete: bool,
    /// The prompt in tokens, by its bytes.
    pub prompt: u64,
    /// Tokens of the reply that were counted.
    pub made: u64,
}

impl Evidence {
    /// What was used, and how that is known.
    pub fn used(&self) -> (Option<Usage>, Known) {
        if self.status >= 400 {
            return (Some(Usage::default()), Known::Refused);
        }
        // What no one reads tells nothing.
        if !self.is_read {
            return (None, Known::Unknown);
        }
        if let Some(usage) = self.usage.filter(|_| self.complete) {
            return (Some(usage), Known::Reported);
        }
        let usage = self.usage.unwrap_or_default();
        let known = if usage.input.total.is_some() { Known::Counted } else { Known::Estimated };
        let made = usage.output.total.unwrap_or(0).max(self.made);
        let input = Input { total: usage.input.total.or(Some(self.prompt)), ..usage.input };
        (Some(Usage { input, output: Output { total: Some(made), ..usage.output }, ..usage }), known)
    }
}

/// What that costs; nothing where nobody knows.
pub fn cost(quote: &Quote, usage: Option<&Usage>, known: Known) -> Option<Money> {
    match (known, quote) {
        (Known::Refused | Known::Unsent, _) | (_, Quote::Free) => Some(Money::ZERO),
        (_, quote) => usage.and_then(|usage| quote.cost(usage)),
    }
}

/// What has come of an attempt so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    status: AtomicU16,
    made: AtomicU64,
    /// What was reported, and whether that was the end.
    usage: Mutex<(Option<Usage>, bool)>,
}

impl Heard {
    /// The end of an attempt that the process's own end cuts.
    pub(super) fn ending(&self, facts: &Facts, at: SystemTime) -> Ending {
        let (usage, complete) = *self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let status = self.status.load(Relaxed);
        let evidence = Evidence {
            status,
            is_read: facts.operation != RAW,
            usage,
            complete,
            prompt: facts.prompt,
            made: self.made.load(Relaxed),
        };
        let (usage, known) = evidence.used();
        let cost = cost(&facts.quote, usage.as_ref(), known);
        let end = (Who::Gateway, When::Data);
        Ending { at, usage, known, cost, status, end, upstream_id: String::new() }
    }
}

/// An attempt that the ledger knows of.
#[derive(Debug)]
pub struct Ticket {
    ledger: Arc<Ledger>,
    number: u64,
    heard: Arc<Heard>,
}

impl Ticket {
    pub(super) fn new(ledger: Arc<Ledger>, number: u64, heard: Arc<Heard>) -> Self {
        Self { ledger, number, heard }
    }

    /// So many tokens of the reply have come, all together.
    pub fn made(&self, tokens: u64) {
        self.heard.made.store(tokens, Relaxed);
    }

    /// The upstream has answered with that status.
    pub fn answered(&self, status: u16) {
        self.heard.status.store(status, Relaxed);
    }

    /// That was reported so far, and whether the reply has come to its end.
    pub fn reported(&self, usage: Option<Usage>, complete: bool) {
        *self.heard.usage.lock().unwrap_or_else(PoisonError::into_inner) = (usage, complete);
    }

    /// The attempt has ended: it is recorded, unless the process was at its end before.
    pub fn end(self, ending: Ending) {
        let open = self.ledger.shard(self.number).remove(&self.number);
        if let Some(Open { facts, .. }) = open {
            self.ledger.queue.push(Record { facts, ending });
        }
    }
}
