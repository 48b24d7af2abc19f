//! The ledger: one record an attempt that may have been billed, appended to files that nobody changes any more.
//!
//! Records are handed over in memory and written by a thread of their own (`writer`), in batches. No exchange waits for
//! the disk. When more than [`BOUND`] records wait, the ledger is full ([`Ledger::is_full`]) and nothing new is let in, so
//! that what waits is bounded by what is under way: nothing is lost, and nothing stalls.
//!
//! What is under way is known, too ([`Ticket`]): where the process must end before an attempt does, the attempt's record is
//! written as far as it is known. Only the process's sudden death loses those that have not ended.

mod files;
mod line;
mod ship;
pub mod sum;
mod ticket;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::access_log::{When, Who};
use super::metrics::METRICS;
use super::price::{Money, Quote};
use super::spending::Spending;
use crate::dialect::usage::Usage;

pub use files::{Position, list};
pub(super) use files::{replay, sync_directory};
pub use line::Entry;
pub use ship::Send;
use ticket::Heard;
pub use ticket::{Evidence, Ticket, cost};

/// How many records may wait before nothing new is let in; each is about half a KiB.
pub const BOUND: usize = 1 << 16;

/// The operation of what nobody reads.
pub const RAW: &str = "raw";

/// The longest name from a client that is kept, bytes.
pub const LONGEST_NAME: usize = 256;

/// How what was used is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// The upstream refused the request with a status, for which nobody charges.
    Refused,
    /// The connection was found closed before the upstream could read the request.
    Unsent,
    /// The upstream said so at the end of a whole reply.
    Reported,
    /// The reply was cut, and of what had come there is a count: the upstream's own so far, or one token an event.
    Counted,
    /// The prompt is estimated by its bytes, and what came of the reply is counted, if anything.
    Estimated,
    /// Nothing is known: a raw route's bodies are not read.
    Unknown,
}

impl Known {
    /// Each of them, the most certain first.
    pub const ALL: [Self; 6] =
        [Self::Refused, Self::Unsent, Self::Reported, Self::Counted, Self::Estimated, Self::Unknown];

    /// The name used in logs and the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unsent => "unsent",
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of an attempt when it begins.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The exchange's id.
    pub exchange: String,
    /// Which of its attempts it is, from 1.
    pub attempt: u32,
    /// When it began: what it cost belongs to that day.
    pub began: SystemTime,
    /// Who pays.
    pub payer: Payer,
    /// The route's name.
    pub route: String,
    /// The operation's name.
    pub operation: &'static str,
    /// The cluster's name.
    pub cluster: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// The provider's name.
    pub provider: String,
    /// The name of the provider's key, where it has several.
    pub key: String,
    /// The model alias's configured name.
    pub alias: String,
    /// The model's name as the client sent it, where that is not the alias's.
    pub asked: String,
    /// The model's name upstream.
    pub model: String,
    /// What it costs.
    pub quote: Quote,
    /// The prompt in tokens, by its bytes.
    pub prompt: u64,
}

/// Who pays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payer {
    /// The principal's name.
    pub principal: String,
    /// Its team.
    pub team: String,
    /// The team's organisation.
    pub organisation: String,
    /// What else it is marked with.
    pub tags: Vec<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// When.
    pub at: SystemTime,
    /// What was used; nothing where nothing can be said.
    pub usage: Option<Usage>,
    /// How that is known.
    pub known: Known,
    /// What it cost; nothing where nobody knows.
    pub cost: Option<Money>,
    /// The upstream's status, 0 before there was one.
    pub status: u16,
    /// Who ended it, and when.
    pub end: (Who, When),
    /// The upstream's own request id.
    pub upstream_id: String,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// The attempt.
    pub facts: Facts,
    /// Its end.
    pub ending: Ending,
}

/// When what was written is made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// At least once in that time while something is written.
    Every(Duration),
    /// With every batch.
    Always,
    /// Whenever the system likes.
    Never,
}

/// How the ledger is kept.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where its files are; nothing for none.
    pub directory: Option<PathBuf>,
    /// When they are made sure of.
    pub sync: Sync,
    /// The size from which a new file is begun, bytes.
    pub size: u64,
    /// The age from which a new file is begun.
    pub age: Duration,
    /// How long old files are kept; for ever, where it says nothing.
    pub keep: Option<Duration>,
    /// Whether records go to standard output.
    pub stdout: bool,
    /// Where they are sent; nowhere, where it says nothing.
    pub http: Option<Http>,
}

/// Where records are sent.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where.
    pub url: String,
    /// What proves who sends them.
    pub token: Option<crate::secret::Secret>,
    /// The most that may wait for it, bytes.
    pub buffer: u64,
}

impl Spec {
    /// Whether records go anywhere.
    pub fn is_on(&self) -> bool {
        self.directory.is_some() || self.stdout || self.http.is_some()
    }
}

/// The ledger of the process.
#[derive(Debug)]
pub struct Ledger {
    queue: Queue,
    open: [Mutex<HashMap<u64, Open>>; SHARDS],
    next: AtomicU64,
    /// What is spent so far.
    pub spending: Arc<Spending>,
}

const SHARDS: usize = 16;

/// An attempt under way.
#[derive(Debug)]
struct Open {
    facts: Facts,
    heard: Arc<Heard>,
}

/// Records on their way to the writer.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    filled: Condvar,
    written: Condvar,
    full: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    /// How many were ever taken in, and how many are dealt with.
    taken: u64,
    done: u64,
    phase: Phase,
}

/// How long the writer goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// It ends once all is written.
    Closing,
    Closed,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What waits is whole between any two statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: Record) {
        let mut waiting = self.lock();
        if waiting.phase == Phase::Closed {
            METRICS.money.records.with_label_values(&["lost"]).inc();
            return;
        }
        waiting.records.push(record);
        waiting.taken += 1;
        let count = waiting.records.len();
        drop(waiting);
        if count == 1 {
            self.filled.notify_one();
        }
        if count >= BOUND && !self.full.swap(true, Relaxed) {
            log::error!("the ledger is full: {count} records wait to be written, and nothing new is let in");
        }
    }
}

impl Ledger {
    /// Opens the ledger and starts its writer; `sends` are what goes besides to its sinks, by their names.
    ///
    /// # Errors
    /// Where its files cannot be read, locked or written.
    pub fn start(spec: &Spec, sends: Vec<(&'static str, u64, Send)>) -> io::Result<Arc<Self>> {
        let (files, spending) = match &spec.directory {
            Some(directory) => {
                let files = files::Files::open(directory, spec, SystemTime::now())?;
                (Some(files), Spending::load(directory)?)
            }
            None => (None, Arc::default()),
        };
        let open = std::array::from_fn(|_| Mutex::default());
        let ledger = Arc::new(Self { queue: Queue::default(), open, next: AtomicU64::new(0), spending });
        let ships = sends
            .into_iter()
            .map(|(name, bound, send)| ship::Ship::start(name, bound, send))
            .collect::<io::Result<Vec<_>>>()?;
        writer::start(Arc::clone(&ledger), files, ships, spec.sync)?;
        Ok(ledger)
    }

    /// Whether so much waits that nothing new may be let in.
    pub fn is_full(&self) -> bool {
        self.queue.full.load(Relaxed)
    }

    /// An attempt begins.
    pub fn begin(self: &Arc<Self>, facts: Facts) -> Ticket {
        let number = self.next.fetch_add(1, Relaxed);
        let heard: Arc<Heard> = Arc::default();
        let open = Open { facts, heard: Arc::clone(&heard) };
        self.shard(number).insert(number, open);
        Ticket::new(Arc::clone(self), number, heard)
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Open>> {
        let [first, ..] = &self.open;
        let shard = self.open.get(number as usize % SHARDS).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known of every attempt that has not ended: the process ends before them.
    pub fn cut(&self) {
        for number in 0..SHARDS as u64 {
            let open: Vec<Open> = self.shard(number).drain().map(|(_, open)| open).collect();
            for Open { facts, heard } in open {
                let ending = heard.ending(&facts, SystemTime::now());
                self.queue.push(Record { facts, ending });
            }
        }
    }

    /// Has everything written and made sure of, for at most that long. Says whether it was; what comes later is lost.
    pub fn close(&self, limit: Duration) -> bool {
        let mut waiting = self.queue.lock();
        if waiting.phase == Phase::Open {
            waiting.phase = Phase::Closing;
        }
        self.queue.filled.notify_one();
        let running = |waiting: &mut Waiting| waiting.phase != Phase::Closed;
        let ended = self.queue.written.wait_timeout_while(waiting, limit, running);
        let (waiting, _) = ended.unwrap_or_else(PoisonError::into_inner);
        waiting.phase == Phase::Closed && waiting.taken == waiting.done
    }
}

#[cfg(test)]
mod tests;
