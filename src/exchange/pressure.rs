//! How near the process is to its own bounds, and whom it refuses meanwhile: the least important first, so that it never
//! falls over.
//!
//! Three things are looked at: memory, open files, and how late the event loop runs what is due. The nearest of them to its
//! bound counts.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::meter::metrics::METRICS;
use crate::priority::Priority;
use crate::snapshot::Overload;

/// From this share of a bound on the least important are refused, thousandths.
const FIRST: u32 = 900;
/// From this share on all but the most important are.
const NEXT: u32 = 1000;

/// How near the process is to its bounds.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Thousandths of the nearest bound.
    share: AtomicU32,
    /// Whether somebody looks.
    watched: OnceLock<()>,
}

impl Pressure {
    /// Lets a request in, unless it is not important enough for the state of things.
    ///
    /// # Errors
    /// [`Kind::Overloaded`].
    pub fn admit(&self, priority: Priority) -> Result<(), Error> {
        let share = self.share.load(Relaxed);
        if share < FIRST || least(share) <= priority {
            return Ok(());
        }
        METRICS.admission.shed.with_label_values(&[priority.name()]).inc();
        let public =
            "the gateway is at the end of its means and serves more important requests; try again later";
        Err(Error::policy(Kind::Overloaded, public).after(RETRY))
    }

    /// Looks from now on, on the event loop that this is called on. Whoever calls later finds it done.
    pub fn watch(self: &Arc<Self>, overload: Overload) {
        self.watched.get_or_init(|| {
            // All series are there from the first request on: a scrape shows what is looked at.
            tell([0.0; 3]);
            tokio::spawn(watch(Arc::clone(self), overload));
        });
    }

    fn set(&self, share: f64) {
        let thousandths = (share * 1000.0).clamp(0.0, 1e6) as u32;
        let before = self.share.swap(thousandths, Relaxed);
        if least(before) != least(thousandths) {
            match least(thousandths) {
                Priority::Low => log::info!("the process has room again: every request is let in"),
                least => log::warn!(
                    "the process is near its bounds: nothing below priority {} is let in",
                    least.name()
                ),
            }
        }
    }
}

/// After what time one that was refused may come again, seconds.
const RETRY: u32 = 2;

/// Who is let in at least.
fn least(share: u32) -> Priority {
    match share {
        ..FIRST => Priority::Low,
        FIRST..NEXT => Priority::Normal,
        NEXT.. => Priority::High,
    }
}

/// How often it is looked how late the event loop is.
const LOOK: Duration = Duration::from_millis(100);
/// In so many of those looks memory and files are counted.
const COUNTED: u32 = 10;

async fn watch(pressure: Arc<Pressure>, overload: Overload) {
    let bounds = Bounds::of(&overload);
    let (mut late, mut counted) = (0.0_f64, [0.0_f64; 2]);
    for turn in 0_u32.. {
        if turn.is_multiple_of(COUNTED) {
            // Counting files walks a folder, where the system cannot tell their number.
            counted = tokio::task::spawn_blocking(move || bounds.counted(counted)).await.unwrap_or(counted);
        }
        let due = Instant::now() + LOOK;
        tokio::time::sleep_until(due.into()).await;
        // One late turn is no state of things: it counts a quarter.
        late += (due.elapsed().as_secs_f64() - late) / 4.0;
        let shares = [late / overload.delay.as_secs_f64(), counted[0], counted[1]];
        tell(shares);
        pressure.set(shares.into_iter().fold(0.0, f64::max));
    }
}

/// Shows how late the loop is, and how much of memory and files is taken, as shares of their bounds.
fn tell(shares: [f64; 3]) {
    for (name, share) in ["delay", "memory", "files"].into_iter().zip(shares) {
        METRICS.admission.pressure.with_label_values(&[name]).set(share);
    }
}

/// What the process may have; nothing where that is not known, or not bounded.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    memory: Option<f64>,
    files: Option<f64>,
}

impl Bounds {
    fn of(overload: &Overload) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self {
            memory: overload.memory.or_else(usable_memory).map(|bytes| bytes as f64),
            files: files.map(|files| files as f64 * overload.files),
        }
    }

    /// The shares of memory and of files that are taken; `before` they were that.
    fn counted(&self, before: [f64; 2]) -> [f64; 2] {
        let share = |bound: Option<f64>, taken: Option<u64>| {
            Some(taken? as f64 / bound.filter(|bound| *bound > 0.0)?)
        };
        // Where even looking takes a file that is not to be had, there are none left.
        let files = if self.files.is_some() { share(self.files, open_files()).unwrap_or(1.0) } else { 0.0 };
        [share(self.memory, resident()).unwrap_or(before[0]), files]
    }
}

/// Nine tenths of what the process may use: of its control group, or of the machine.
fn usable_memory() -> Option<u64> {
    let machine = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? * 1024;
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?.trim().parse::<u64>().ok()
    });
    Some(group.map_or(machine, |group| group.min(machine)) / 10 * 9)
}

/// The process's resident memory, bytes.
fn resident() -> Option<u64> {
    Some(field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")? * 1024)
}

/// The number behind a name, as files below `/proc` have it.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// How many files the process has open: connections, nearly all.
fn open_files() -> Option<u64> {
    // Since Linux 6.2 the size of the folder is their number; before, they must be counted one by one.
    let told = std::fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 { Some(told) } else { Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_are_refused_first_and_the_most_important_never() {
        let pressure = Pressure::default();
        let admitted = |share| {
            pressure.set(share);
            Priority::ALL.map(|priority| pressure.admit(priority).is_ok())
        };
        assert_eq!(admitted(0.5), [true, true, true]);
        assert_eq!(admitted(0.95), [false, true, true]);
        assert_eq!(admitted(1.0), [false, false, true]);
        assert_eq!(admitted(50.0), [false, false, true]);
        assert_eq!(admitted(0.1), [true, true, true]);
    }

    #[test]
    fn what_the_process_has_is_found() {
        let bounds = Bounds::of(&Overload { memory: None, files: 0.9, delay: Duration::from_secs(1) });
        let [memory, files] = bounds.counted([0.0; 2]);
        assert!(memory > 0.0 && memory < 1.0, "{memory}");
        assert!(files > 0.0 && files < 1.0, "{files}");
        assert_eq!(field("VmRSS:\t  1234 kB\n", "VmRSS:"), Some(1234));
    }
}
