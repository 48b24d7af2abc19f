//! The thread that writes: files, then sinks, then what is spent.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::files::Files;
use super::ship::Ship;
use super::{BOUND, Ledger, Phase, Record, Sync, line};
use crate::meter::metrics::METRICS;

/// How long a record may wait for company. It is part of what a sudden death may lose.
const LINGER: Duration = Duration::from_millis(20);
/// How long the disk is left alone after it refused.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that it does.
const SAID: Duration = Duration::from_secs(10);
/// How often what is spent is summed up in a file, so that a start need not read far back.
const CHECKPOINT: Duration = Duration::from_secs(30);
/// How long each sink may take at the end.
const SINKS: Duration = Duration::from_secs(3);

struct Writer {
    ledger: Arc<Ledger>,
    files: Option<Files>,
    ships: Vec<Ship>,
    sync: Sync,
    /// When what is written and not made sure of is to be.
    unsure: Option<Instant>,
    /// When what is spent was last summed up, if anything was since.
    summed: Instant,
    changed: bool,
    said: Option<Instant>,
}

/// Starts the thread.
pub(super) fn start(
    ledger: Arc<Ledger>,
    files: Option<Files>,
    ships: Vec<Ship>,
    sync: Sync,
) -> io::Result<()> {
    let mut writer = Writer {
        ledger,
        files,
        ships,
        sync,
        unsure: None,
        summed: Instant::now(),
        // What was read back at the start is worth keeping.
        changed: true,
        said: None,
    };
    std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run()).map(drop)
}

impl Writer {
    fn run(&mut self) {
        loop {
            let (batch, phase) = self.take();
            METRICS.money.waiting.set(0);
            self.write(&batch, phase);
            self.keep_sure(phase == Phase::Closing);
            let count = batch.len() as u64;
            let mut waiting = self.ledger.queue.lock();
            waiting.done += count;
            let left = waiting.records.len();
            if phase == Phase::Closing && left == 0 {
                drop(waiting);
                return self.end();
            }
            drop(waiting);
            METRICS.money.waiting.set(i64::try_from(left).unwrap_or(i64::MAX));
            if left < BOUND / 2 && self.ledger.queue.full.swap(false, Relaxed) {
                log::info!("the ledger has room again");
            }
        }
    }

    /// Waits for records, or for what else is due.
    fn take(&self) -> (Vec<Record>, Phase) {
        let queue = &self.ledger.queue;
        let idle = self.unsure.map_or(CHECKPOINT, |due| due.saturating_duration_since(Instant::now()));
        let waiting = queue.lock();
        let nothing =
            |waiting: &mut super::Waiting| waiting.records.is_empty() && waiting.phase == Phase::Open;
        let waited = queue.filled.wait_timeout_while(waiting, idle, nothing);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let wanted = !waiting.records.is_empty() && waiting.phase == Phase::Open;
        drop(waiting);
        if wanted {
            std::thread::sleep(LINGER);
        }
        let mut waiting = queue.lock();
        (std::mem::take(&mut waiting.records), waiting.phase)
    }

    /// When what is written now is to be made sure of, if ever.
    fn due(&self) -> Option<Instant> {
        match self.sync {
            Sync::Every(window) => Some(Instant::now() + window),
            Sync::Always => Some(Instant::now()),
            Sync::Never => None,
        }
    }

    fn write(&mut self, batch: &[Record], phase: Phase) {
        if batch.is_empty() {
            return;
        }
        let (mut lines, mut ends) = (Vec::with_capacity(batch.len() * 512), Vec::with_capacity(batch.len()));
        for record in batch {
            line::write(record, &mut lines);
            ends.push(lines.len());
        }
        if !self.append(&lines, phase) {
            METRICS.money.records.with_label_values(&["lost"]).inc_by(batch.len() as u64);
            return;
        }
        METRICS.money.records.with_label_values(&["written"]).inc_by(batch.len() as u64);
        batch.iter().for_each(|record| self.ledger.spending.add(&line::spent(record)));
        self.changed = true;
        let mut start = 0;
        for end in ends {
            let line = lines.get(start..end).unwrap_or_default();
            self.ships.iter().for_each(|ship| ship.push(line));
            start = end;
        }
    }

    /// Appends to the files, for as long as it takes. At the process's end it is tried for a while only.
    fn append(&mut self, lines: &[u8], mut phase: Phase) -> bool {
        let mut last = Instant::now() + SINKS;
        loop {
            let due = self.due();
            let Some(files) = &mut self.files else { return true };
            let Err(error) = files.append(lines) else {
                self.unsure = self.unsure.or(due);
                return true;
            };
            METRICS.money.errors.with_label_values(&["file"]).inc();
            let waiting = self.ledger.queue.lock();
            METRICS.money.waiting.set(i64::try_from(waiting.records.len()).unwrap_or(i64::MAX));
            if phase == Phase::Open && waiting.phase != Phase::Open {
                (phase, last) = (waiting.phase, Instant::now() + SINKS);
            }
            drop(waiting);
            if self.said.is_none_or(|said| said.elapsed() > SAID) {
                self.said = Some(Instant::now());
                log::error!("the ledger cannot be written, and what is spent waits in memory: {error}");
            }
            if phase != Phase::Open && Instant::now() > last {
                log::error!("the ledger's last records are lost: {error}");
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Makes sure of what was written, where that is due, and begins a new file.
    fn keep_sure(&mut self, at_once: bool) {
        let summed = self.summed.elapsed() > CHECKPOINT;
        let Some(files) = &mut self.files else { return };
        if self.unsure.is_some_and(|due| at_once || Instant::now() >= due) {
            self.unsure = files.sync().err().map(|error| {
                METRICS.money.errors.with_label_values(&["file"]).inc();
                log::error!("the ledger's files cannot be made sure of, and are tried again: {error}");
                Instant::now() + PAUSE
            });
        }
        let now = SystemTime::now();
        let rotated = files.is_due(now) && {
            let rotated = files.rotate(now);
            if let Err(error) = &rotated {
                METRICS.money.errors.with_label_values(&["file"]).inc();
                log::error!("a new file of the ledger cannot be begun: {error}");
            }
            rotated.is_ok()
        };
        if rotated || (self.changed && (at_once || summed)) {
            self.sum_up();
        }
    }

    /// Writes down what is spent, and how far the files go that it is of.
    fn sum_up(&mut self) {
        let Some(files) = &self.files else { return };
        let kept = files.sync().and_then(|()| self.ledger.spending.keep(files.directory(), files.position()));
        if let Err(error) = kept {
            METRICS.money.errors.with_label_values(&["file"]).inc();
            log::error!("what is spent cannot be summed up, which only makes the next start slower: {error}");
        }
        (self.summed, self.changed) = (Instant::now(), false);
    }

    fn end(&self) {
        self.ships.iter().for_each(|ship| ship.close(SINKS));
        let mut waiting = self.ledger.queue.lock();
        waiting.phase = Phase::Closed;
        drop(waiting);
        self.ledger.queue.written.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::meter::ledger::Spec;

    #[test]
    fn what_the_disk_did_not_make_sure_of_is_tried_again() {
        let folder = std::env::temp_dir().join(format!("forebay-ledger-unsure-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let spec = Spec {
            directory: Some(folder.clone()),
            sync: Sync::Always,
            size: 1 << 20,
            age: Duration::from_secs(3600),
            keep: None,
            stdout: false,
            http: None,
        };
        let mut files = Files::open(&folder, &spec, SystemTime::now()).unwrap();
        // Nothing makes sure of what is written there.
        let disk = files.replace(fs::OpenOptions::new().write(true).open("/dev/null").unwrap());
        let ledger = Ledger::start(&Spec { directory: None, ..spec.clone() }, Vec::new()).unwrap();
        let mut writer = Writer {
            ledger,
            files: Some(files),
            ships: Vec::new(),
            sync: spec.sync,
            unsure: None,
            summed: Instant::now(),
            changed: false,
            said: None,
        };
        assert!(writer.append(b"{}\n", Phase::Open));
        writer.keep_sure(false);
        let due = writer.unsure.expect("it is not sure");
        assert!(due > Instant::now(), "and the disk is left alone for a while");
        writer.files.as_mut().unwrap().replace(disk);
        writer.keep_sure(true);
        assert_eq!(writer.unsure, None);
        let _ = fs::remove_dir_all(&folder);
    }
}
