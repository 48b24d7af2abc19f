//! The simulator's own bill: what came in, what was really generated, who left and when.

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Counters of one simulator. Shared; every method may be called at any time.
#[derive(Debug, Default)]
pub struct Stats {
    counters: [AtomicU64; Counter::ALL],
    models: Mutex<BTreeMap<String, ModelBill>>,
    statuses: Mutex<BTreeMap<u16, u64>>,
    received: Mutex<VecDeque<Arc<Request>>>,
    charges: Mutex<VecDeque<Charge>>,
    changed: Notify,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// TCP connections accepted.
    pub connections_accepted: u64,
    /// Of those, open now.
    pub connections_open: u64,
    /// Requests that arrived whole.
    pub requests: u64,
    /// Model calls that hold a slot of the engine now.
    pub active: u64,
    /// Model calls that wait for a slot now.
    pub queued: u64,
    /// Replies written to their end, whatever their status.
    pub completed: u64,
    /// Requests whose client left before the end, by what was going on.
    pub cancelled: Cancelled,
    /// Replies that a fault broke off.
    pub broken: u64,
    /// Prompt tokens read by the engine (cached ones included).
    pub prompt_tokens: u64,
    /// Of those, found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated, wanted or not.
    pub output_tokens: u64,
    /// Tokens that the running requests keep in the KV cache now.
    pub kv_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Replies by status, counted when the status is decided.
    pub statuses: BTreeMap<u16, u64>,
    /// The bill by model.
    pub models: BTreeMap<String, ModelBill>,
}

/// Clients that left, by the phase they left in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// While the request's body was still arriving.
    pub receiving: u64,
    /// Before a slot of the engine was free (or during the provider's latency).
    pub queued: u64,
    /// While the prompt was read.
    pub prefilling: u64,
    /// While tokens were made or sent.
    pub decoding: u64,
    /// During a `stall` fault.
    pub stalled: u64,
}

impl Cancelled {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.receiving + self.queued + self.prefilling + self.decoding + self.stalled
    }
}

/// What one model is owed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ModelBill {
    /// Calls that reached the engine.
    pub calls: u64,
    /// Prompt tokens read.
    pub prompt_tokens: u64,
    /// Of those, cached.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
}

/// What one request is charged for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// Its `x-request-id`, empty where it had none.
    pub id: String,
    /// The model, empty where no model was called.
    pub model: String,
    /// The status that was decided on, 0 before.
    pub status: u16,
    /// Whether the reply was written to its end.
    pub whole: bool,
    /// What was made for it; nothing where no model was called.
    pub bill: ModelBill,
}

/// How many charges are kept at least.
const CHARGES: usize = 4096;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its target: path and query.
    pub target: String,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Its headers; for HTTP/2 `host` holds the authority.
    pub headers: HeaderMap,
    /// Its body, decoded from chunks; a kept request holds `Config::record_body` bytes of it at most.
    pub body: Bytes,
    /// How long the body was.
    pub body_len: usize,
    /// The number of its connection, from 1.
    pub connection: u64,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A member of the query, as it stands there.
    pub fn member(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }
}

/// Index of a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    ConnectionsAccepted,
    ConnectionsOpen,
    Requests,
    Active,
    Queued,
    Completed,
    Broken,
    Receiving,
    LeftQueued,
    LeftPrefilling,
    LeftDecoding,
    LeftStalled,
    PromptTokens,
    CachedTokens,
    OutputTokens,
    KvTokens,
    PrefixQueries,
}

impl Counter {
    const ALL: usize = Self::PrefixQueries as usize + 1;
}

impl Stats {
    /// All counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            connections_accepted: self.get(Counter::ConnectionsAccepted),
            connections_open: self.get(Counter::ConnectionsOpen),
            requests: self.get(Counter::Requests),
            active: self.get(Counter::Active),
            queued: self.get(Counter::Queued),
            completed: self.get(Counter::Completed),
            cancelled: Cancelled {
                receiving: self.get(Counter::Receiving),
                queued: self.get(Counter::LeftQueued),
                prefilling: self.get(Counter::LeftPrefilling),
                decoding: self.get(Counter::LeftDecoding),
                stalled: self.get(Counter::LeftStalled),
            },
            broken: self.get(Counter::Broken),
            prompt_tokens: self.get(Counter::PromptTokens),
            cached_tokens: self.get(Counter::CachedTokens),
            output_tokens: self.get(Counter::OutputTokens),
            kv_tokens: self.get(Counter::KvTokens),
            prefix_queries: self.get(Counter::PrefixQueries),
            statuses: locked(&self.statuses).clone(),
            models: locked(&self.models).clone(),
        }
    }

    /// Waits until `reached` holds of the counters and returns them; after `timeout`, returns them as the error.
    pub async fn wait_until(
        &self,
        reached: impl Fn(&StatsSnapshot) -> bool,
        timeout: Duration,
    ) -> Result<StatsSnapshot, Box<StatsSnapshot>> {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let now = self.snapshot();
                if reached(&now) {
                    return now;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| Box::new(self.snapshot()))
    }

    /// The latest requests, oldest first, as many as `Config::record` says. They hold the clients' credentials.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        locked(&self.received).iter().cloned().collect()
    }

    /// The latest charges in the order in which their requests ended.
    pub fn charges(&self) -> Vec<Charge> {
        locked(&self.charges).iter().cloned().collect()
    }

    pub(crate) fn charge(&self, charge: Charge, keep: usize) {
        if keep == 0 {
            return;
        }
        let mut charges = locked(&self.charges);
        while charges.len() >= keep.max(CHARGES) {
            charges.pop_front();
        }
        charges.push_back(charge);
    }

    /// Forgets totals, bills and requests. What is going on (open, active, queued, KV) stays.
    pub fn reset(&self) {
        use Counter as C;
        for counter in
            [C::ConnectionsAccepted, C::Requests, C::Completed, C::Broken, C::Receiving, C::LeftQueued]
        {
            self.counter(counter).store(0, Ordering::Relaxed);
        }
        for counter in [C::LeftPrefilling, C::LeftDecoding, C::LeftStalled, C::PromptTokens, C::CachedTokens]
        {
            self.counter(counter).store(0, Ordering::Relaxed);
        }
        for counter in [C::OutputTokens, C::PrefixQueries] {
            self.counter(counter).store(0, Ordering::Relaxed);
        }
        locked(&self.models).clear();
        locked(&self.statuses).clear();
        locked(&self.received).clear();
        locked(&self.charges).clear();
        self.changed.notify_waiters();
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.counter(counter).load(Ordering::Acquire)
    }

    /// Adds `n` and wakes whoever waits; returns the value before.
    pub(crate) fn add(&self, counter: Counter, n: u64) -> u64 {
        let before = self.counter(counter).fetch_add(n, Ordering::AcqRel);
        self.changed.notify_waiters();
        before
    }

    pub(crate) fn sub(&self, counter: Counter, n: u64) {
        self.counter(counter).fetch_sub(n, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Counts one in for as long as the guard lives.
    pub(crate) fn hold(self: &Arc<Self>, counter: Counter) -> Held {
        let before = self.add(counter, 1);
        Held { stats: Arc::clone(self), counter, before }
    }

    pub(crate) fn bill(&self, model: &str, bill: ModelBill) {
        let mut models = locked(&self.models);
        if !models.contains_key(model) {
            models.insert(model.into(), ModelBill::default());
        }
        if let Some(entry) = models.get_mut(model) {
            entry.calls += bill.calls;
            entry.prompt_tokens += bill.prompt_tokens;
            entry.cached_tokens += bill.cached_tokens;
            entry.output_tokens += bill.output_tokens;
        }
        drop(models);
        self.changed.notify_waiters();
    }

    pub(crate) fn status(&self, status: u16) {
        *locked(&self.statuses).entry(status).or_default() += 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn record(&self, request: &Arc<Request>, keep: usize, body: usize) {
        if keep == 0 {
            return;
        }
        let kept = if request.body.len() > body {
            let mut short = Request::clone(request);
            short.body = Bytes::copy_from_slice(request.body.get(..body).unwrap_or_default());
            Arc::new(short)
        } else {
            Arc::clone(request)
        };
        let mut received = locked(&self.received);
        while received.len() >= keep {
            received.pop_front();
        }
        received.push_back(kept);
    }

    fn counter(&self, counter: Counter) -> &AtomicU64 {
        let [first, ..] = &self.counters;
        self.counters.get(counter as usize).unwrap_or(first)
    }
}

/// One counted in; dropping it counts it out.
#[derive(Debug)]
pub(crate) struct Held {
    stats: Arc<Stats>,
    counter: Counter,
    /// How many were counted in already.
    pub(crate) before: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.sub(self.counter, 1);
    }
}

/// Locks, whether or not another holder panicked: counters stay true.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, body: &'static [u8]) -> Arc<Request> {
        Arc::new(Request {
            method: Method::POST,
            target: target.into(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body),
            body_len: body.len(),
            connection: 1,
        })
    }

    #[test]
    fn guards_count_in_and_out() {
        let stats = Arc::new(Stats::default());
        let held = stats.hold(Counter::Active);
        assert_eq!(stats.snapshot().active, 1);
        drop(held);
        assert_eq!(stats.snapshot().active, 0);
    }

    #[test]
    fn records_are_bounded_in_number_and_size() {
        let stats = Stats::default();
        for target in ["/a", "/b", "/c?x=1"] {
            stats.record(&request(target, b"0123456789"), 2, 4);
        }
        let kept = stats.requests();
        assert_eq!(kept.iter().map(|r| r.target.as_str()).collect::<Vec<_>>(), ["/b", "/c?x=1"]);
        assert_eq!((&kept[1].body[..], kept[1].body_len, kept[1].path()), (&b"0123"[..], 10, "/c"));
        stats.record(&request("/d", b""), 0, 4);
        assert_eq!(stats.requests().len(), 2);
    }

    #[tokio::test]
    async fn waiting_sees_a_change_from_another_task() {
        let stats = Arc::new(Stats::default());
        let other = Arc::clone(&stats);
        let task = tokio::spawn(async move { other.add(Counter::Requests, 2) });
        let seen = stats.wait_until(|s| s.requests == 2, Duration::from_secs(5)).await.unwrap();
        assert_eq!(seen.requests, 2);
        task.await.unwrap();
        let late = stats.wait_until(|s| s.requests == 3, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.requests, 2);
        stats.reset();
        assert_eq!(stats.snapshot(), StatsSnapshot::default());
    }
}
