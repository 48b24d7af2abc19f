//! A file of lines that is only ever added to, written by a thread of its own: no exchange waits for the disk.
//!
//! What is noted goes through a bounded queue to the thread, which makes lines of it ([`Lines`]), writes them in batches,
//! syncs and rotates the file, and hands them to whoever else wants them ([`Tee`]). What does not fit into the queue is
//! counted, and the count is a line of its own once there is room. A line that was torn by a crash is cut off when the file
//! is next opened.

mod file;
mod ship;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::metrics::METRICS;
pub use file::{LogFile, Opened};
pub use ship::{Post, Shipping, Tee};

/// How a journal's file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// The file that is written; the older ones stand beside it with a number behind their name.
    pub path: PathBuf,
    /// How often it is synced to the disk.
    pub sync: Sync,
    /// From which size on another file is begun, bytes.
    pub rotate: u64,
    /// How many older files are kept; nothing for all.
    pub keep: Option<usize>,
}

/// How often a file is synced to the disk: what may be lost in a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After every batch, before anything else is written: at once while little is noted.
    Always,
    /// At most so long after a line was written.
    Within(Duration),
}

/// What makes lines of what is noted. It lives in the writer's thread, so that a line may depend on those before it.
pub trait Lines: Send + 'static {
    /// What is noted.
    type Record: Send + 'static;

    /// The line that comes first in a file, and first of a process, if one does. `last` is the last line written before, into
    /// this file or the one before it.
    fn begin(&mut self, last: Option<&str>, now: SystemTime) -> Option<String>;

    /// The line of a record, without its end.
    fn line(&mut self, record: Self::Record) -> String;

    /// The line that tells of so many records lost.
    fn lost(&mut self, count: u64, now: SystemTime) -> Option<String>;

    /// What is to be noted because time has passed.
    fn tick(&mut self, now: SystemTime) -> Vec<String>;
}

/// The most records that wait to be written.
const BOUND: usize = 16 << 10;
/// How long a record may wait for company.
const LINGER: Duration = Duration::from_millis(5);
/// How often the thread looks what time has brought.
const TICK: Duration = Duration::from_millis(500);
/// How long a file that cannot be written is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// A journal.
#[derive(Debug)]
pub struct Journal<R> {
    shared: Arc<Shared<R>>,
    name: &'static str,
    thread: Option<JoinHandle<()>>,
}

/// What was noted is written; then nobody holds the file any more.
impl<R> Drop for Journal<R> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // One that panicked has been told of.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared<R> {
    queue: Mutex<Queue<R>>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug)]
struct Queue<R> {
    records: VecDeque<R>,
    lost: u64,
    /// How many were ever taken in, and how many of them are written and synced.
    taken: u64,
    done: u64,
    /// Whether somebody waits for the disk.
    flushing: bool,
    /// Whether nothing more will be noted.
    closed: bool,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        // A queue is whole between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Send + 'static> Journal<R> {
    /// Opens the file, if there is to be one, and starts the thread. `name` stands in logs and metrics.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the thread not started.
    pub fn start<L: Lines<Record = R>>(
        name: &'static str,
        file: Option<&FileSpec>,
        tee: Option<Tee>,
        lines: L,
    ) -> io::Result<Self> {
        let opened = file.map(LogFile::open).transpose()?;
        let queue =
            Queue { records: VecDeque::new(), lost: 0, taken: 0, done: 0, flushing: false, closed: false };
        let shared =
            Arc::new(Shared { queue: Mutex::new(queue), filled: Condvar::new(), written: Condvar::new() });
        let mut writer = Writer::new(name, opened, tee, lines, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, name, thread: Some(thread) })
    }

    /// Notes something. Says whether there was room for it.
    pub fn note(&self, record: R) -> bool {
        let mut queue = self.shared.lock();
        if queue.records.len() >= BOUND {
            queue.lost += 1;
            METRICS.journal.with_label_values(&[self.name, "lost"]).inc();
            return false;
        }
        let was_empty = queue.records.is_empty();
        queue.records.push_back(record);
        queue.taken += 1;
        drop(queue);
        if was_empty {
            self.shared.filled.notify_one();
        }
        true
    }

    /// Waits until everything noted so far is on the disk, at most five seconds. Says whether it is.
    pub fn flush(&self) -> bool {
        let mut queue = self.shared.lock();
        queue.flushing = true;
        let target = queue.taken;
        self.shared.filled.notify_one();
        let waited = self.shared.written.wait_timeout_while(queue, FLUSH, |queue| queue.done < target);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.flushing = false;
        queue.done >= target
    }
}

/// The thread.
struct Writer<L: Lines> {
    name: &'static str,
    file: Option<LogFile>,
    tee: Option<Tee>,
    lines: L,
    shared: Arc<Shared<L::Record>>,
    /// What could not be written yet.
    pending: Vec<u8>,
    ticked: Instant,
    failing: bool,
}

impl<L: Lines> Writer<L> {
    fn new(
        name: &'static str,
        opened: Option<Opened>,
        tee: Option<Tee>,
        lines: L,
        shared: Arc<Shared<L::Record>>,
    ) -> io::Result<Self> {
        let (file, last) = match opened {
            Some(Opened { file, last, torn }) => {
                if torn > 0 {
                    log::warn!(
                        "{name}: {torn} bytes of a line that was torn are cut off {}",
                        file.path().display()
                    );
                }
                (Some(file), last)
            }
            None => (None, None),
        };
        let now = Instant::now();
        let mut writer =
            Self { name, file, tee, lines, shared, pending: Vec::new(), ticked: now, failing: false };
        if let Some(line) = writer.lines.begin(last.as_deref(), SystemTime::now()) {
            writer.add(line);
        }
        writer.write()?;
        Ok(writer)
    }

    fn run(&mut self) {
        loop {
            let (records, lost, taken, flushing) = self.next();
            for record in records {
                let line = self.lines.line(record);
                self.add(line);
            }
            if lost > 0
                && let Some(line) = self.lines.lost(lost, SystemTime::now())
            {
                self.add(line);
            }
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                self.lines.tick(SystemTime::now()).into_iter().for_each(|line| self.add(line));
            }
            let written = self.write().and_then(|()| match &mut self.file {
                Some(file) => file.sync(flushing, Instant::now()),
                None => Ok(()),
            });
            self.told(written.err());
            if self.is_over(taken) {
                return;
            }
            if self.failing {
                // What comes meanwhile waits in the queue, which is bounded.
                std::thread::sleep(PAUSE);
                continue;
            }
            self.rotate();
            self.shared.lock().done = taken;
            self.shared.written.notify_all();
        }
    }

    /// Whether everything that ever will be noted was written, or cannot be.
    fn is_over(&self, taken: u64) -> bool {
        let mut queue = self.shared.lock();
        queue.done = if self.failing { queue.done } else { taken };
        queue.closed && (self.failing || queue.records.is_empty())
    }

    /// What was noted since, how much was lost, and how much was ever taken; after a while, whether there is any or not.
    fn next(&self) -> (VecDeque<L::Record>, u64, u64, bool) {
        let mut queue = self.shared.lock();
        if queue.records.is_empty() && !queue.flushing && !queue.closed {
            let waited = self.shared.filled.wait_timeout(queue, TICK);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !queue.records.is_empty() && !queue.flushing {
                drop(queue);
                std::thread::sleep(LINGER);
                queue = self.shared.lock();
            }
        }
        // While nothing can be written, what is noted waits where its bound is.
        let records = if self.failing && !self.pending.is_empty() {
            VecDeque::new()
        } else {
            std::mem::take(&mut queue.records)
        };
        let taken = queue.taken - queue.records.len() as u64;
        (records, std::mem::take(&mut queue.lost), taken, queue.flushing)
    }

    fn add(&mut self, line: String) {
        METRICS.journal.with_label_values(&[self.name, "written"]).inc();
        if self.file.is_some() {
            self.pending.extend_from_slice(line.as_bytes());
            self.pending.push(b'\n');
        }
        if let Some(tee) = &self.tee {
            tee.push(line);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && !self.pending.is_empty()
        {
            file.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Says once that the file cannot be written, and once that it can again.
    fn told(&mut self, failure: Option<io::Error>) {
        match failure {
            Some(error) if !self.failing => {
                log::error!("{}: the file cannot be written, and what is noted waits: {error}", self.name);
                self.failing = true;
            }
            None if self.failing => {
                log::info!("{}: the file can be written again", self.name);
                self.failing = false;
            }
            _ => {}
        }
    }

    /// Begins another file where this one is large enough.
    fn rotate(&mut self) {
        let Some(file) = self.file.as_mut().filter(|file| file.is_full()) else { return };
        match file.rotate() {
            Ok(last) => {
                if let Some(line) = self.lines.begin(last.as_deref(), SystemTime::now()) {
                    self.add(line);
                }
                let written = self.write();
                if let Some(file) = &mut self.file {
                    file.begin();
                }
                self.told(written.err());
            }
            Err(error) => self.told(Some(error)),
        }
    }
}

#[cfg(test)]
mod tests;
