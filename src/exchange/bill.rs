//! What the attempts of an exchange cost. This is the one place where an attempt that may have been billed is closed: it
//! begins as its request is sent, and whatever ends it, it is counted and recorded once; by its end being dropped, if by
//! nothing else.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use super::context::Context;
use super::limits;
use crate::access::grants::Rank;
use crate::dialect::Operation;
use crate::dialect::usage::{Input, Usage};
use crate::error::Error;
use crate::limit::{Hold, Now, Used};
use crate::meter::access_log::{Cost, When, Who};
use crate::meter::ledger::{self, Ending, Evidence, Facts, Known, LONGEST_NAME, Payer, RAW, Ticket};
use crate::meter::metrics::METRICS;
use crate::meter::price::{Money, Quote};
use crate::meter::series::DeploymentSeries;
use crate::snapshot::Cause;
use crate::upstream::cluster::Cluster;

/// What an exchange has cost so far, and the attempt under way.
#[derive(Debug, Default)]
pub struct Bill {
    /// Shared by attempts that are made beside one another; there is none before the first that may cost something.
    sums: OnceLock<Arc<Sums>>,
    entry: Option<Box<Entry>>,
}

/// What the attempts that are over have cost.
#[derive(Debug, Default)]
struct Sums {
    /// How many attempts were begun.
    opened: AtomicU64,
    tokens: AtomicU64,
    spent: AtomicU64,
    /// How many of them there are, and of how many nobody knows the price.
    attempts: AtomicU64,
    unpriced: AtomicU64,
    /// How the least certain of them is known: its place in [`Known::ALL`].
    known: AtomicU8,
}

/// An attempt under way that may be billed.
#[derive(Debug)]
struct Entry {
    cluster: Arc<Cluster>,
    series: Option<Arc<DeploymentSeries>>,
    quote: Quote,
    sums: Arc<Sums>,
    ticket: Option<Ticket>,
    /// What was taken of the limits of the place.
    hold: Hold,
    operation: Option<Operation>,
    /// The prompt in tokens, by its bytes.
    prompt: u64,
    /// The upstream's status, 0 before there is one.
    status: u16,
    /// Events with content.
    events: u64,
    /// Bytes of a whole reply.
    bytes: u64,
    /// What was reported before the end.
    usage: Option<Usage>,
    /// The upstream's own prompt, where that is not what the client is told.
    input: Option<Input>,
    /// Whether the upstream's reply came to its end, whatever became of it behind.
    complete: bool,
    closed: bool,
}

/// Bytes of a whole reply to a token, where it says nothing of usage.
const BYTES_PER_TOKEN: u64 = 4;

/// How an attempt ended, for its entry.
struct End<'a> {
    usage: Option<Usage>,
    known: Option<Known>,
    end: (Who, When),
    upstream_id: &'a str,
}

impl Bill {
    /// That of an attempt beside this one.
    pub(super) fn beside(&self) -> Self {
        let sums = OnceLock::new();
        let _ = sums.set(Arc::clone(self.sums()));
        Self { sums, entry: None }
    }

    fn sums(&self) -> &Arc<Sums> {
        self.sums.get_or_init(Arc::default)
    }

    /// The upstream has answered with that status.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(entry) = &mut self.entry {
            entry.status = status;
            if let Some(ticket) = &entry.ticket {
                ticket.answered(status);
            }
        }
    }

    /// So many events with content have come.
    pub(super) fn counted(&mut self, events: u32) {
        if let Some(entry) = &mut self.entry {
            entry.events += u64::from(events);
            entry.tell_made();
        }
    }

    /// So many bytes of a whole reply have come.
    pub(super) fn passed(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.bytes += bytes as u64;
            entry.tell_made();
        }
    }

    /// That was reported, though the reply is not over.
    pub(super) fn reported(&mut self, usage: Option<Usage>) {
        if let Some(entry) = &mut self.entry {
            entry.usage = usage.or(entry.usage);
            entry.tell_usage();
        }
    }

    /// The upstream's own prompt, where that is not what the client is told.
    pub(super) fn prompt(&mut self, input: Option<Input>) {
        if let Some(entry) = &mut self.entry {
            entry.input = input.or(entry.input);
            entry.tell_usage();
        }
    }

    /// The upstream's reply has come to its end, and that was used.
    pub(super) fn complete(&mut self, usage: Option<Usage>) {
        if let Some(entry) = &mut self.entry {
            entry.complete = true;
        }
        self.reported(usage);
    }

    fn close(&mut self, end: &End<'_>) {
        if let Some(mut entry) = self.entry.take() {
            entry.close(end);
        }
    }

    /// What the exchange has cost so far; nothing where none of its attempts could cost anything.
    pub(super) fn cost(&self) -> Option<Cost> {
        let sums = self.sums.get()?;
        if sums.attempts.load(Relaxed) == 0 {
            return None;
        }
        let known = Known::ALL.get(usize::from(sums.known.load(Relaxed))).copied().unwrap_or(Known::Unknown);
        let spent = Money::picodollars(sums.spent.load(Relaxed).into());
        Some(Cost { sum: (sums.unpriced.load(Relaxed) == 0).then_some(spent), known })
    }

    /// What the attempts that are over have used; nothing where none was sent anything.
    pub(super) fn used(&self) -> Option<Used> {
        let sums = self.sums.get().filter(|sums| sums.opened.load(Relaxed) > 0)?;
        Some(Used { tokens: Some(sums.tokens.load(Relaxed)), money: Some(sums.spent.load(Relaxed)) })
    }

    /// What it will have cost once the attempt under way has used that; nothing where nobody knows, or where it is an
    /// engine's that has no price.
    pub(super) fn with(&self, usage: &Usage) -> Option<Money> {
        let entry = self.entry.as_ref().filter(|entry| entry.quote != Quote::Free)?;
        let so_far = self.cost().map_or(Some(Money::ZERO), |cost| cost.sum)?;
        Some(so_far + entry.quote.cost(usage)?)
    }
}

impl Entry {
    fn close(&mut self, end: &End<'_>) {
        self.closed = true;
        let (usage, known) = self.used(end);
        let cost = ledger::cost(&self.quote, usage.as_ref(), known);
        let used = Used { tokens: usage.as_ref().map(tokens), money: cost.map(picodollars) };
        add(&self.sums.tokens, used.tokens.unwrap_or(0));
        if !self.hold.is_empty() {
            self.hold.settle(&used, Now::at(Instant::now()));
        }
        self.count(cost, known);
        if let Some(ticket) = self.ticket.take() {
            ticket.end(Ending {
                at: SystemTime::now(),
                usage,
                known,
                cost,
                status: self.status,
                end: end.end,
                upstream_id: end.upstream_id.to_owned(),
            });
        }
    }

    /// What was used, and how that is known.
    fn used(&self, end: &End<'_>) -> (Option<Usage>, Known) {
        if let Some(known) = end.known.filter(|_| self.status < 400) {
            return (Some(Usage::default()), known);
        }
        let evidence = Evidence {
            status: self.status,
            is_read: self.operation.is_some(),
            usage: self.own(end.usage.or(self.usage)),
            complete: self.complete,
            prompt: self.prompt,
            made: self.made(),
        };
        evidence.used()
    }

    /// A usage with the upstream's own prompt.
    fn own(&self, usage: Option<Usage>) -> Option<Usage> {
        usage.map(|usage| Usage { input: self.input.unwrap_or(usage.input), ..usage })
    }

    /// The ledger writes down what it was told, where the process ends before the attempt.
    fn tell_made(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.made(self.made());
        }
    }

    fn tell_usage(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.reported(self.own(self.usage), self.complete);
        }
    }

    /// Tokens of the reply that have come, one an event, or by bytes. Vectors and rankings have none.
    fn made(&self) -> u64 {
        match self.operation {
            Some(Operation::Embeddings | Operation::Rerank) => 0,
            _ => self.events.max(self.bytes / BYTES_PER_TOKEN),
        }
    }

    fn count(&self, cost: Option<Money>, known: Known) {
        if self.quote == Quote::Free {
            return;
        }
        self.sums.attempts.fetch_add(1, Relaxed);
        let place = Known::ALL.iter().position(|other| *other == known).unwrap_or(0);
        self.sums.known.fetch_max(u8::try_from(place).unwrap_or(u8::MAX), Relaxed);
        match cost {
            Some(cost) => {
                add(&self.sums.spent, picodollars(cost));
                if let Some(series) = &self.series {
                    series.spend(cost);
                }
            }
            None => {
                self.sums.unpriced.fetch_add(1, Relaxed);
                METRICS.money.unpriced.with_label_values(&[self.cluster.name()]).inc();
            }
        }
    }
}

/// Adds what an upstream may have made up: a sum that went round would be a small one.
fn add(sum: &AtomicU64, more: u64) {
    let _ = sum.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(more)));
}

/// All tokens of a usage.
fn tokens(usage: &Usage) -> u64 {
    usage.input.total.unwrap_or(0).saturating_add(usage.output.total.unwrap_or(0))
}

pub(super) fn picodollars(cost: Money) -> u64 {
    u64::try_from(cost.count()).unwrap_or(u64::MAX)
}

/// An attempt whose end nobody told: another was stayed with, or its client's task has ended.
impl Drop for Entry {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let when = match (self.status, self.events) {
            (0, _) => When::Head,
            (_, 0) => When::FirstToken,
            _ => When::Data,
        };
        self.close(&End { usage: None, known: None, end: (Who::Gateway, when), upstream_id: "" });
    }
}

impl Context {
    /// The present attempt's request is about to be sent. What is never billed has no entry: counting tokens is free
    /// wherever it is offered.
    pub(super) fn open_entry(&mut self, operation: Option<Operation>) {
        if matches!(operation, Some(Operation::CountTokens | Operation::GeminiCount)) {
            return self.send_free();
        }
        let Some(place) = &self.place else { return };
        let cluster = Arc::clone(&place.cluster);
        let model = place.model.as_deref().unwrap_or(&self.model);
        let quote = self.snapshot.prices.find(cluster.seller(), model);
        let ledger = self.ledger().cloned();
        if quote == Quote::Free && ledger.is_none() && !self.used.is_limited() {
            return;
        }
        let hold = self.used.sent();
        let prompt = self.tally.prompt;
        let ticket = ledger.map(|ledger| ledger.begin(self.facts(operation, quote.clone(), model)));
        let series = place.series.clone();
        let entry = Entry {
            cluster,
            series,
            quote,
            sums: Arc::clone(self.bill.sums()),
            ticket,
            hold,
            operation,
            prompt,
            status: 0,
            events: 0,
            bytes: 0,
            usage: None,
            input: None,
            complete: false,
            closed: false,
        };
        entry.sums.opened.fetch_add(1, Relaxed);
        self.bill.entry = Some(Box::new(entry));
    }

    /// Something is sent that costs a request and nothing else.
    pub(super) fn send_free(&mut self) {
        self.used.sent().settle(&limits::NOTHING, Now::at(Instant::now()));
    }

    fn facts(&self, operation: Option<Operation>, quote: Quote, model: &str) -> Facts {
        let (cluster, endpoint, provider) = self.place.as_ref().map_or(("", "", ""), |place| {
            (place.cluster.name(), place.endpoint.name.as_str(), &*place.cluster.spec.provider.name)
        });
        let alias = self.alias.as_ref().map_or("", |alias| alias.name.as_str());
        let asked = if self.model == alias || self.model.len() > LONGEST_NAME { "" } else { &self.model };
        Facts {
            exchange: self.id.clone(),
            attempt: self.attempts,
            began: SystemTime::now(),
            payer: self.payer(),
            route: self.route.as_ref().map_or_else(String::new, |route| route.name.clone()),
            operation: operation.map_or(RAW, Operation::name),
            cluster: cluster.to_owned(),
            endpoint: endpoint.to_owned(),
            provider: provider.to_owned(),
            key: self
                .place
                .as_ref()
                .and_then(|place| place.key.as_ref())
                .map_or_else(String::new, |used| used.key.name.clone()),
            alias: alias.to_owned(),
            asked: asked.to_owned(),
            model: model.to_owned(),
            quote,
            prompt: self.tally.prompt,
        }
    }

    fn payer(&self) -> Payer {
        let Some(principal) = &self.principal else { return Payer::default() };
        let of =
            |rank| principal.groups().find(|group| group.rank == rank).map(|group| group.name.to_string());
        Payer {
            principal: principal.name.to_string(),
            team: of(Rank::Team).unwrap_or_default(),
            organisation: of(Rank::Organisation).unwrap_or_default(),
            tags: principal.tags.clone(),
        }
    }

    /// The present attempt has failed, and the client was told nothing of it.
    pub(super) fn fail_entry(&mut self, error: &Error, cause: Option<Cause>) {
        let known = (cause == Some(Cause::Unsent)).then_some(Known::Unsent);
        let end = (Who::of(error), self.phase);
        self.close_entry(End { usage: None, known, end, upstream_id: "" });
    }

    /// The present attempt has made its part of a stream, which others may go on with. `used` is what all so far have.
    pub(super) fn part_entry(&mut self, used: Option<Usage>, error: &Error) {
        let usage = used.map(|used| used.less(&self.tally.settled));
        let end = (Who::of(error), When::Data);
        self.close_entry(End { usage, known: None, end, upstream_id: "" });
    }

    /// The exchange is over.
    pub(super) fn settle_entry(&mut self) {
        if self.bill.entry.is_none() {
            return;
        }
        let usage = self.tally.usage.map(|usage| usage.less(&self.tally.settled));
        let end = self.end();
        self.close_entry(End { usage, known: None, end, upstream_id: "" });
    }

    fn close_entry(&mut self, end: End<'_>) {
        let id = std::mem::take(&mut self.upstream_id);
        self.bill.close(&End { upstream_id: &id, ..end });
        self.upstream_id = id;
    }

    /// What the exchange has cost so far, with every attempt that is over; nothing where nobody knows.
    pub fn spent(&self) -> Option<Money> {
        self.bill.cost().map_or(Some(Money::ZERO), |cost| cost.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_what_upstreams_say_does_not_go_round() {
        let sum = AtomicU64::new(7);
        add(&sum, u64::MAX - 3);
        add(&sum, 1);
        assert_eq!(sum.load(Relaxed), u64::MAX);
    }
}
