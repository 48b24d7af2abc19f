//! Sinks beside the files: each has a thread, and a buffer that is bounded. What does not fit is counted, and the files
//! have it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::meter::metrics::METRICS;

/// Takes whole lines. What it says did not go is tried again.
pub type Send = Box<dyn FnMut(&[u8]) -> Result<(), String> + std::marker::Send>;

/// The most that is sent at once, bytes.
const BATCH: usize = 1 << 20;
/// How long lines wait for company.
const LINGER: Duration = Duration::from_millis(200);
/// The shortest and the longest wait before the next try.
const WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(15)];

/// A sink.
pub(super) struct Ship {
    name: &'static str,
    bound: usize,
    shared: Arc<Shared>,
}

impl fmt::Debug for Ship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ship").field(&self.name).finish()
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// What waits is sent once more, and no oftener.
    Closing,
    Closed,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ship {
    /// Starts a sink whose buffer holds so many bytes.
    pub(super) fn start(name: &'static str, bound: u64, send: Send) -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("ledger-{name}"));
        thread.spawn(move || run(name, &theirs, send))?;
        Ok(Self { name, bound: usize::try_from(bound).unwrap_or(usize::MAX), shared })
    }

    /// Hands over a whole line.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.bytes + line.len() > self.bound {
            METRICS.money.spilled.with_label_values(&[self.name]).inc();
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Has what waits sent, for at most that long.
    pub(super) fn close(&self, limit: Duration) {
        let mut state = self.shared.lock();
        state.phase = Phase::Closing;
        self.shared.changed.notify_all();
        let ended =
            self.shared.changed.wait_timeout_while(state, limit, |state| state.phase != Phase::Closed);
        let (state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if !state.lines.is_empty() {
            log::error!("{} records of the ledger did not go to {}", state.lines.len(), self.name);
        }
    }
}

fn run(name: &'static str, shared: &Shared, mut send: Send) {
    let mut wait = WAITS[0];
    loop {
        let mut state = shared.lock();
        while state.lines.is_empty() && state.phase == Phase::Open {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.phase == Phase::Open {
            drop(state);
            std::thread::sleep(LINGER);
            state = shared.lock();
        }
        let (batch, count) = batch(&state.lines);
        let last = state.phase != Phase::Open;
        drop(state);
        // What a sink takes is one write or one request: a sink that is slow holds nobody up but itself.
        let sent = if count == 0 { Ok(()) } else { send(&batch) };
        let mut state = shared.lock();
        if sent.is_ok() {
            wait = WAITS[0];
            let sent = state.lines.drain(..count).map(|line| line.len()).sum::<usize>();
            state.bytes -= sent;
        }
        if last && (state.lines.is_empty() || sent.is_err()) {
            state.phase = Phase::Closed;
            shared.changed.notify_all();
            return;
        }
        if let Err(why) = sent {
            METRICS.money.errors.with_label_values(&[name]).inc();
            log::warn!("the ledger's {name} sink took nothing, and is tried again in {wait:?}: {why}");
            let closing = |state: &mut State| state.phase == Phase::Open;
            drop(shared.changed.wait_timeout_while(state, wait, closing));
            wait = (wait * 2).min(WAITS[1]);
        }
    }
}

/// The first lines, as one piece, and how many they are.
fn batch(lines: &VecDeque<Vec<u8>>) -> (Vec<u8>, usize) {
    let (mut batch, mut count) = (Vec::new(), 0);
    for line in lines {
        if count > 0 && batch.len() + line.len() > BATCH {
            break;
        }
        batch.extend_from_slice(line);
        count += 1;
    }
    (batch, count)
}
