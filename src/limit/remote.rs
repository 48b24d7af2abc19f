//! Limits that nodes share, in a Redis or Valkey ([`crate::store`]).
//!
//! # What is where
//!
//! The store has one hash for each limit: how it stands, and how much each node's count has taken of it in all. A node's
//! own numbers are absolute: it tells the sum of what it has taken, never a difference. A message that arrives twice, or
//! whose answer is lost, thus counts once; what was used while the store was away is counted with the next message; and a
//! store that lost its keys learns a budget's spending and the places in use anew from the nodes that are there.
//! `remote/reckon.lua` is all that runs there.
//!
//! # Leased and exact
//!
//! With [`super::Sharing::Leased`], a node takes a slice of a limit ahead of use, and exchanges take from it without asking
//! anybody. A background task, the courier, takes the next slice when half of it is gone. A slice grows to at most
//! [`Spec::slice`] of the limit, divided by the nodes, while it is used, and is given back when it is not. So at most that
//! share of a limit is ahead of use at all nodes together: over any window no more passes than without slices and that
//! share, and a node may be refused while the others hold that share. Where a slice is too small for what an exchange needs,
//! the exchange asks.
//!
//! With [`super::Sharing::Exact`], each exchange asks. What all exchanges of a node ask at one time goes in one message, and
//! all limits of an exchange are decided at one moment (in a cluster: those of one subject).
//!
//! Requests under way are places that a node holds, in either mode: they come back by themselves when it is not heard of for
//! [`Spec::lease`]. With `exact`, it gives a free place back at once; it may be refused elsewhere until then.
//!
//! # When the store is away
//!
//! An exchange waits no longer than the store's deadline. Then, or at once while the breaker is open, the limit's
//! [`super::Outage`] decides: `Open` lets through the limit divided by the nodes, counted here, and told to the store when it
//! is back; `Closed` lets nothing through ([`super::Short::Away`]). What a node holds of a slice is used up in either case.

mod batch;
mod courier;
mod share;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::{Limit, Measure, Per, Short, Subject};
use crate::meter::metrics::METRICS;
use crate::store::{self, Client};
pub(super) use share::{Lack, Origin, Share, Source};

/// How many exchanges may ask at once. More are as those to whom the store does not answer.
const ASKING: usize = 16_384;

/// How limits are shared.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The store.
    pub store: store::Spec,
    /// The most of a limit that all nodes together take ahead of use, from 0 to 1.
    pub slice: f64,
    /// How many nodes there are; nothing where they are counted.
    pub nodes: Option<u64>,
    /// How long the places of a node that is not heard of are kept, and the node is counted. Some seconds at least: a node
    /// is heard every second, and tells its places in every third of this.
    pub lease: Duration,
}

impl Default for Spec {
    fn default() -> Self {
        Self { store: store::Spec::default(), slice: 0.1, nodes: None, lease: Duration::from_secs(15) }
    }
}

/// The limits of all nodes, as one of them sees them.
#[derive(Debug)]
pub struct Remote {
    spec: Spec,
    client: Arc<Client>,
    /// This node's name: another one for each process.
    node: String,
    /// How many nodes there are.
    nodes: AtomicU64,
    /// For how many beats there have been fewer.
    fewer: AtomicU64,
    /// The number of the next count.
    serial: AtomicU64,
    asking: AtomicUsize,
    outbox: mpsc::UnboundedSender<Message>,
    /// The courier's end, until it is started.
    inbox: std::sync::Mutex<Option<mpsc::UnboundedReceiver<Message>>>,
}

/// What the courier is told.
#[derive(Debug)]
enum Message {
    /// An exchange waits for an answer.
    Ask(Ask),
    /// There is something to tell of that count, or to take for it.
    Touch(Arc<Share>),
    /// Everything is to be given back: the process ends.
    Leave(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Ask {
    parts: Vec<Part>,
    answer: oneshot::Sender<Answer>,
}

/// How much of one limit is asked.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) share: Arc<Share>,
    pub(super) amount: u64,
}

/// What became of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it was taken.
    Taken,
    /// Nothing was taken; the part of that number is short.
    Short(usize, Short),
    /// It is not known: the store did not answer in time. If something was taken there, it is given back.
    Away,
}

impl Remote {
    /// Limits shared that way. Nothing is connected before [`Self::start`]; until then the store counts as away.
    pub fn new(spec: Spec) -> Arc<Self> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let mut seed = [0; 8];
        // Where the system has no randomness, TLS does not work either.
        let _ = SystemRandom::new().fill(&mut seed);
        Arc::new(Self {
            client: Client::new(spec.store.clone()),
            node: format!("{:016x}", u64::from_be_bytes(seed)),
            nodes: AtomicU64::new(spec.nodes.unwrap_or(1).max(1)),
            fewer: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            asking: AtomicUsize::new(0),
            spec,
            outbox,
            inbox: std::sync::Mutex::new(Some(inbox)),
        })
    }

    /// Starts the client's thread and the courier on it. A store that is away is a warning in the log, no error. A second
    /// call changes nothing.
    ///
    /// # Errors
    /// Where the thread cannot be made.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let inbox = self.inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(inbox) = inbox else { return Ok(()) };
        self.client.start()?;
        self.client.spawn(courier::Courier::new(Arc::clone(self), inbox).run());
        Ok(())
    }

    /// Gives everything back that is ahead of use, and ends. It takes no longer than a second.
    pub async fn leave(&self) {
        let (done, wait) = oneshot::channel();
        if self.outbox.send(Message::Leave(done)).is_ok() {
            let _ = timeout(Duration::from_secs(1), wait).await;
        }
        self.client.stop();
    }

    /// The store's client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether the store is asked.
    pub fn is_up(&self) -> bool {
        self.client.is_up()
    }

    /// How many nodes there are, as it was configured or counted last.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Relaxed)
    }

    /// So many nodes are there, the store says. That there are fewer is not believed at once: a store that lost its keys has
    /// yet to hear of them.
    fn counted(&self, nodes: u64) {
        let is_fewer = nodes < self.nodes();
        let beats = if is_fewer { self.fewer.fetch_add(1, Relaxed) + 1 } else { 0 };
        let is_believed = !is_fewer || beats > self.spec.lease.as_secs();
        if self.spec.nodes.is_none() && nodes > 0 && is_believed {
            self.nodes.store(nodes, Relaxed);
            self.fewer.store(0, Relaxed);
        }
        METRICS.store.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    /// The most that this node takes ahead of use.
    fn slice(&self, most: u64) -> i64 {
        let slice = most as f64 * self.spec.slice.clamp(0.0, 1.0) / self.nodes() as f64;
        slice as i64
    }

    /// A count of this node for that limit.
    pub(super) fn share(
        self: &Arc<Self>,
        subject: &Subject,
        models: Option<&Arc<str>>,
        limit: &Limit,
    ) -> Arc<Share> {
        let serial = self.serial.fetch_add(1, Relaxed);
        let (group, key) = self.key(subject, models, limit.measure, limit.per);
        let identity = share::Identity { group, key, field: format!("n{}.{serial}", self.node), serial };
        Arc::new(Share::new(identity, limit, Arc::clone(self)))
    }

    /// The slot group of a subject, and the name of a key. Names come from callers' tokens, too: they are hashed.
    fn key(&self, subject: &Subject, models: Option<&Arc<str>>, measure: Measure, per: Per) -> (u64, String) {
        let whose = hash(&subject.to_string());
        let mut key =
            format!("{}limit:{{{whose}}}:{}:{}", self.spec.store.prefix, measure.name(), per.name());
        if let Some(models) = models {
            // Writing to a string does not fail.
            let _ = write!(key, ":{}", hash(models));
        }
        let group = u64::from_str_radix(whose.get(..16).unwrap_or_default(), 16).unwrap_or_default();
        (if self.client.is_cluster() { group } else { 0 }, key)
    }

    /// Asks the store, and waits for at most the deadline.
    pub(super) async fn ask(&self, parts: Vec<Part>) -> Answer {
        let began = Instant::now();
        let (answer, wait) = oneshot::channel();
        let asking = Asking::new(&self.asking);
        let is_sent = self.is_up()
            && asking.before < ASKING
            && self.outbox.send(Message::Ask(Ask { parts, answer })).is_ok();
        if !is_sent {
            return Answer::Away;
        }
        let answer = timeout(self.spec.store.deadline, wait).await;
        METRICS.store.wait.observe(began.elapsed().as_secs_f64());
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Away,
        }
    }

    fn touch(&self, share: &Arc<Share>) {
        // The courier ends with the process.
        let _ = self.outbox.send(Message::Touch(Arc::clone(share)));
    }
}

/// Counts an exchange that asks, until it has its answer or leaves.
struct Asking<'r> {
    count: &'r AtomicUsize,
    before: usize,
}

impl<'r> Asking<'r> {
    fn new(count: &'r AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Relaxed) }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

/// Half of a SHA-256, in hexadecimal: enough that nobody finds two names with the same.
fn hash(name: &str) -> String {
    let hash = digest(&SHA256, name.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
