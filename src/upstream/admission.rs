//! How many exchanges a cluster has under way at once, and who waits for the rest.
//!
//! An engine that is given more than it can work on makes everyone wait; here the wait is in front of it, where it is
//! bounded, fair, in the order of importance, and over at once when a client leaves. Where a place is free and nobody
//! waits, an exchange passes without a lock.

mod limit;
mod queue;
mod slots;

use std::sync::atomic::{self, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::breaker::millis;
use crate::meter::series::AdmissionSeries;
use crate::priority::Priority;
pub use limit::Adaptive;
use limit::Search;
use queue::{Queue, Ticket};
use slots::Slots;

/// How a cluster admits exchanges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How many may be under way.
    pub limit: Limit,
    /// How many may wait.
    pub queue: u32,
    /// How long each may wait.
    pub wait: Duration,
}

/// How many exchanges may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many.
    Fixed(u32),
    /// As many as leave the time to first token short.
    Adaptive(Adaptive),
}

/// Why an exchange is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may, or it could not be its turn in time; expected to be over after that time.
    Full(Duration),
    /// It waited for as long as it may; expected to go on for that time.
    Late(Duration),
    /// It had to make room for someone more important.
    Shed(Duration),
}

impl Refusal {
    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::Late(_) => "late",
            Self::Shed(_) => "shed",
        }
    }

    /// After what time there may be a place.
    pub fn after(self) -> Duration {
        match self {
            Self::Full(after) | Self::Late(after) | Self::Shed(after) => after,
        }
    }
}

/// The gate of a cluster.
pub struct Gate {
    policy: Policy,
    slots: Slots,
    queue: Mutex<Queue<oneshot::Sender<Permit>>>,
    /// There is one where the limit is sought.
    search: Option<Mutex<Search>>,
    /// How long a place is held on average, microseconds; 0 while that is not known.
    held_micros: AtomicU64,
    series: AdmissionSeries,
}

/// A place among those under way. It is given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    /// When an exchange began to make use of it.
    began: OnceLock<Instant>,
}

impl Permit {
    fn new(gate: &Arc<Gate>) -> Self {
        Self { gate: Arc::clone(gate), began: OnceLock::new() }
    }

    /// An exchange makes use of it from now on.
    pub fn begins(&self) {
        self.began.get_or_init(Instant::now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // One that was never used says nothing of how long a place is held.
        if let Some(began) = self.began.get() {
            self.gate.held(began.elapsed());
        }
        if self.gate.slots.give_back() {
            self.gate.serve();
        }
    }
}

/// One who waits. Dropping this leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    ticket: Ticket,
    turn: oneshot::Receiver<Permit>,
    since: Instant,
    until: Instant,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("policy", &self.policy).field("counts", &self.counts()).finish()
    }
}

impl Gate {
    /// A gate of the cluster of that name.
    pub fn new(cluster: &str, policy: Policy) -> Self {
        let (limit, search) = match policy.limit {
            Limit::Fixed(limit) => (limit, None),
            Limit::Adaptive(bounds) => (bounds.min, Some(Mutex::new(Search::new(bounds)))),
        };
        Self {
            policy,
            slots: Slots::new(limit.max(1)),
            queue: Mutex::default(),
            search,
            held_micros: AtomicU64::new(0),
            series: AdmissionSeries::new(cluster),
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        self.slots.take().then(|| Permit::new(self))
    }

    /// Stands in the queue for a place, at most until `deadline`.
    ///
    /// # Errors
    /// [`Refusal::Full`] where nobody has less right to wait, or the wait would be too long.
    pub fn queue(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        priority: Priority,
        (now, deadline): (Instant, Instant),
    ) -> Result<Waiting, Refusal> {
        let until = (now + self.policy.wait).min(deadline);
        let mut queue = self.lock();
        let expected = self.expected(queue.ahead(priority));
        if now + expected > until {
            return Err(self.refused(Refusal::Full(expected)));
        }
        let full = queue.len() >= self.policy.queue as usize;
        let given_up = full.then(|| queue.make_room(priority, tenant)).flatten();
        if full && given_up.is_none() {
            return Err(self.refused(Refusal::Full(expected)));
        }
        if given_up.is_some() {
            self.slots.leave();
        }
        let (sender, turn) = oneshot::channel();
        let ticket = queue.push(priority, tenant, sender);
        self.slots.begin_to_wait();
        drop(queue);
        // Whoever is told to go, and gives its place back, must not meet the lock.
        drop(given_up);
        // A place may have become free meanwhile.
        self.serve();
        Ok(Waiting { gate: Arc::clone(self), ticket, turn, since: now, until })
    }

    /// Notes a time to first token: the limit may follow it.
    pub fn first_token(self: &Arc<Self>, took: Duration, now: Instant) {
        let Some(search) = &self.search else { return };
        let used = self.slots.counts().0;
        // There is nothing behind the lock that a panic could have left half done.
        let mut search = search.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = search.sample(took, used, millis(now)) else { return };
        self.slots.set_limit(limit);
        drop(search);
        self.serve();
    }

    /// How long one who comes now would wait, as far as is known.
    pub fn expected_wait(&self) -> Duration {
        let (used, waiting) = self.slots.counts();
        if used < self.slots.limit() && waiting == 0 {
            Duration::ZERO
        } else {
            self.expected(waiting as usize)
        }
    }

    /// How many are under way, how many may be, and how many wait.
    pub fn counts(&self) -> Counts {
        let (used, waiting) = self.slots.counts();
        Counts { used, limit: self.slots.limit(), waiting }
    }

    /// The wait of one with so many before it: places come back one by one, each after the time it is held on average.
    fn expected(&self, ahead: usize) -> Duration {
        let held = self.held_micros.load(Relaxed);
        let micros = held.saturating_mul(ahead as u64 + 1) / u64::from(self.slots.limit().max(1));
        Duration::from_micros(micros)
    }

    /// A place was held for that time.
    fn held(&self, time: Duration) {
        let sample = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        // A lost update between threads loses one sample of an average.
        let old = self.held_micros.load(Relaxed);
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        self.held_micros.store(new.max(1), Relaxed);
    }

    /// Gives every free place to one who waits.
    fn serve(self: &Arc<Self>) {
        let mut missed = Vec::new();
        let mut queue = self.lock();
        while self.slots.take_for_waiter() {
            let permit = Permit::new(self);
            // Whoever waits is in the queue for as long as it is counted, both under the lock.
            let Some(next) = queue.pop() else {
                missed.push(permit);
                break;
            };
            missed.extend(next.send(permit).err());
        }
        drop(queue);
        // A place that nobody took is given back outside the lock, which may serve the next.
        drop(missed);
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        self.series.refused(refusal.name());
        refusal
    }

    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Permit>>> {
        // Every change of the queue is whole before anything else can fail.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Under way.
    pub used: u32,
    /// How many may be.
    pub limit: u32,
    /// Waiting.
    pub waiting: u32,
}

impl Waiting {
    /// Waits for a place.
    ///
    /// # Errors
    /// [`Refusal::Late`] and [`Refusal::Shed`].
    pub async fn turn(mut self) -> Result<Permit, Refusal> {
        let until = self.until.into();
        let came = tokio::time::timeout_at(until, &mut self.turn).await;
        let expected = self.gate.expected(self.gate.slots.counts().1 as usize);
        match came {
            Ok(Ok(permit)) => {
                self.gate.series.waited.observe(self.since.elapsed().as_secs_f64());
                Ok(permit)
            }
            Ok(Err(_)) => Err(self.gate.refused(Refusal::Shed(expected))),
            Err(_) => Err(self.gate.refused(Refusal::Late(expected))),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = self.gate.lock();
        // A place that was on its way to it goes back with the channel, outside the lock.
        let left = queue.remove(&self.ticket);
        if left.is_some() {
            self.gate.slots.leave();
        }
    }
}

#[cfg(test)]
mod tests;
