//! From the first signal to the end of the process.
//!
//! ```text
//! serving --SIGTERM/SIGINT--> lame duck --> draining --> exit 0
//!                 readiness off,     listeners   once the last exchange is over,
//!                 still accepting    closed      or at the limit
//! ```
//!
//! A second signal ends the lame duck at once, a third the process. Pingora's own shutdown sleeps for a fixed time;
//! this one takes no longer than the streams need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exchange::Shared;
use crate::lifecycle::Lifecycle;
use crate::limit::Remote;
use crate::meter::metrics::METRICS;
use crate::meter::{audit, logger};
use crate::snapshot::{Process, Snapshot};

/// Waits for signals and drains.
pub(super) struct Drain {
    shared: Arc<Shared>,
    lifecycle: Arc<Lifecycle>,
    process: Process,
    remote: Option<Arc<Remote>>,
}

impl Drain {
    pub(super) fn new(shared: Arc<Shared>, lifecycle: Arc<Lifecycle>, snapshot: &Snapshot) -> Self {
        Self { shared, lifecycle, process: snapshot.process, remote: snapshot.book.remote().cloned() }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        let Ok(mut signals) = Signals::new() else {
            // Without handlers the signals' defaults end the process, which is all that is left.
            return std::future::pending().await;
        };
        signals.next().await;
        self.lifecycle.stopping();
        self.shared.close_connections();
        let live = self.shared.live();
        log::info!("told to stop: not ready any more, {live} exchanges under way");
        tokio::select! {
            () = tokio::time::sleep(self.process.lame_duck) => {}
            () = signals.next() => log::info!("told again: the lame duck is over"),
        }
        let (shared, limit) = (Arc::clone(&self.shared), self.process.drain);
        let remote = self.remote.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = wait(&shared, limit) => {}
                () = signals.next() => log::warn!("told again: {} exchanges are cut", shared.live()),
            }
            if let Some(remote) = remote {
                remote.leave().await;
            }
            exit(&shared);
        });
        ShutdownSignal::GracefulTerminate
    }
}

/// How long the ledger may take for its last records.
const RECORD: Duration = Duration::from_secs(10);
/// How often it is looked whether all is over.
const LOOK: Duration = Duration::from_millis(10);
/// How long connections that carry no exchange are waited for: an HTTP/2 one still flushes the end of its last.
const FLUSH: Duration = Duration::from_millis(500);

/// Returns once no exchange runs, or at the limit.
async fn wait(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    while shared.live() > 0 {
        if Instant::now() >= deadline {
            log::warn!("the drain's limit is reached: {} exchanges are cut", shared.live());
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    let flushed = Instant::now() + FLUSH;
    while METRICS.http.connections.get() > 0 && Instant::now() < flushed {
        tokio::time::sleep(LOOK).await;
    }
}

/// Pingora's main thread sleeps by now, and nothing but this wakes it before its time.
#[expect(clippy::exit, reason = "the one orderly end of the process; see the module's head")]
fn exit(shared: &Shared) {
    if let Some(ledger) = shared.ledger.get() {
        // What is cut was asked for, and is billed.
        ledger.cut();
        if !ledger.close(RECORD) {
            log::error!("the ledger's last records are not all written");
        }
    }
    log::info!("stopped");
    audit::stop();
    logger::flush();
    std::process::exit(0);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
