//! What the edge's log says of exchanges and breakers.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::client::ID;
use crate::edge::until;

/// What was heard of the log of one edge.
pub(crate) struct Journal {
    /// One moment on both clocks.
    anchor: (Instant, SystemTime),
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    exchanges: HashMap<u64, Line>,
    /// When breakers opened, and the line that says so.
    opened: Vec<(Instant, String)>,
}

/// A line of the log.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    ts: String,
    id: String,
    message: String,
    passed: String,
    /// How often it was tried.
    pub(crate) attempts: u64,
}

impl Journal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { anchor: (Instant::now(), SystemTime::now()), notes: Mutex::default() })
    }

    /// Takes a line down.
    pub(crate) fn hear(&self, line: &str) {
        let Ok(line) = serde_json::from_str::<Line>(line) else { return };
        if let Some(number) = line.id.strip_prefix(ID).and_then(|number| number.parse().ok()) {
            self.notes().exchanges.insert(number, line);
        } else if line.message.contains(" is left alone for ")
            && let Some(at) = self.moment(&line.ts)
        {
            self.notes().opened.push((at, line.message));
        }
    }

    /// Waits until every one of so many exchanges stands there.
    ///
    /// # Errors
    /// Where one is missing.
    pub(crate) async fn all(&self, exchanges: u64) -> io::Result<()> {
        until("the log of all exchanges", async || Ok(self.notes().exchanges.len() as u64 == exchanges)).await
    }

    /// When breakers opened, and what the log says of it, the first first.
    pub(crate) fn opened(&self) -> Vec<(Instant, String)> {
        let mut opened = self.notes().opened.clone();
        opened.sort_unstable();
        opened
    }

    /// How often those exchanges were tried, all together.
    pub(crate) fn attempts(&self, numbers: impl Iterator<Item = u64>) -> u64 {
        let notes = self.notes();
        numbers.filter_map(|number| notes.exchanges.get(&number)).map(|line| line.attempts).sum()
    }

    /// How long an exchange waited for a place.
    pub(crate) fn queued(&self, number: u64) -> Duration {
        let notes = self.notes();
        let seconds = notes.exchanges.get(&number).and_then(|line| {
            let (_, rest) = line.passed.split_once("queued for ")?;
            rest.split_once(" s")?.0.parse().ok()
        });
        seconds.map(Duration::from_secs_f64).unwrap_or_default()
    }

    /// The moment of a time of the log, of which the day is known.
    fn moment(&self, stamp: &str) -> Option<Instant> {
        const DAY: f64 = 86_400.0;
        let (_, time) = stamp.trim_end_matches('Z').split_once('T')?;
        let seconds =
            time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?;
        let (anchor, at) = self.anchor;
        let anchored = at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() % DAY;
        // The log has whole milliseconds: it was at most one later.
        let later = Duration::from_secs_f64((seconds - anchored).rem_euclid(DAY)) + Duration::from_millis(1);
        Some(anchor + later)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
