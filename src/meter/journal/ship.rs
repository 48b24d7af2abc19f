//! Lines on their way to somebody else, in batches over HTTP.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::meter::metrics::METRICS;

/// Sends one batch of lines.
pub type Post = dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// How lines are shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipping {
    /// The most of a batch, bytes.
    pub batch: usize,
    /// How long a line may wait for company.
    pub linger: Duration,
    /// The most that waits to be sent, bytes; then the oldest is dropped and counted.
    pub buffer: usize,
}

/// The first wait after a batch was not taken; it doubles with each.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

/// The near end of the way.
#[derive(Clone, Debug)]
pub struct Tee {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    shipping: Shipping,
    lines: Mutex<Waiting>,
    filled: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    /// Whether the process ends: what waits goes at once.
    hurry: bool,
    /// Whether a batch is on its way.
    busy: bool,
}

impl Tee {
    /// Starts a thread that ships what is pushed, in the order in which it was, until the process ends.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(name: &'static str, shipping: Shipping, post: Box<Post>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { name, shipping, lines: Mutex::default(), filled: Notify::new() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let far = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("{name}-ship"))
            .spawn(move || runtime.block_on(far.ship(&*post)))?;
        Ok(Self { shared })
    }

    /// Adds a line, without its end.
    pub(super) fn push(&self, line: String) {
        let mut waiting = self.shared.lock();
        waiting.bytes += line.len() + 1;
        waiting.lines.push_back(line);
        let mut dropped = 0;
        while waiting.bytes > self.shared.shipping.buffer
            && let Some(oldest) = waiting.lines.pop_front()
        {
            waiting.bytes -= oldest.len() + 1;
            dropped += 1;
        }
        drop(waiting);
        if dropped > 0 {
            METRICS.journal.with_label_values(&[self.shared.name, "unshipped"]).inc_by(dropped);
        }
        self.shared.filled.notify_one();
    }

    /// Waits until all is shipped, at most so long. Says whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        self.shared.lock().hurry = true;
        self.shared.filled.notify_one();
        let until = std::time::Instant::now() + limit;
        loop {
            let waiting = self.shared.lock();
            if waiting.lines.is_empty() && !waiting.busy {
                return true;
            }
            drop(waiting);
            if std::time::Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ship(&self, post: &Post) {
        loop {
            while self.lock().lines.is_empty() {
                self.filled.notified().await;
            }
            if !self.lock().hurry {
                tokio::time::sleep(self.shipping.linger).await;
            }
            let batch = self.batch();
            self.send(post, batch).await;
            self.lock().busy = false;
        }
    }

    /// The oldest lines, as many as fit into a batch.
    fn batch(&self) -> Bytes {
        let mut waiting = self.lock();
        let mut batch = Vec::new();
        while let Some(line) = waiting.lines.front()
            && (batch.is_empty() || batch.len() + line.len() < self.shipping.batch)
        {
            batch.extend_from_slice(line.as_bytes());
            batch.push(b'\n');
            waiting.bytes -= line.len() + 1;
            waiting.lines.pop_front();
        }
        waiting.busy = true;
        batch.into()
    }

    /// Sends a batch until it is taken.
    async fn send(&self, post: &Post, batch: Bytes) {
        let mut wait = FIRST;
        loop {
            match post(batch.clone()).await {
                Ok(()) => {
                    if wait > FIRST {
                        log::info!("{}: what was noted is taken again", self.name);
                    }
                    return;
                }
                Err(why) if wait == FIRST => {
                    log::error!("{}: what was noted cannot be sent, and is tried again: {why}", self.name);
                }
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }
}
