//! Lines that are all there, once and whole, whatever happens to the file.

use std::fs;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

use super::*;

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("forebay-journal-{}-{}", std::process::id(), NUMBER.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn spec(&self) -> FileSpec {
        FileSpec { path: self.0.join("log"), sync: Sync::Always, rotate: u64::MAX, keep: None }
    }

    /// Every file, the oldest first.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
        // The one without a number is the newest.
        files.sort_by_key(|path| (path.extension().is_none(), path.clone()));
        files
    }

    pub(crate) fn text(&self) -> String {
        self.files().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers, and what came before.
struct Numbers;

impl Lines for Numbers {
    type Record = u64;

    fn begin(&mut self, last: Option<&str>, _: SystemTime) -> Option<String> {
        Some(format!("after {}", last.unwrap_or("nothing")))
    }

    fn line(&mut self, record: u64) -> String {
        record.to_string()
    }

    fn lost(&mut self, count: u64, _: SystemTime) -> Option<String> {
        Some(format!("lost {count}"))
    }

    fn tick(&mut self, _: SystemTime) -> Vec<String> {
        Vec::new()
    }
}

fn start(spec: &FileSpec) -> Journal<u64> {
    Journal::start("test", Some(spec), None, Numbers).unwrap()
}

#[test]
fn what_is_noted_is_on_the_disk_when_the_flush_returns() {
    let folder = Folder::new();
    let journal = start(&folder.spec());
    for number in 0..1000 {
        assert!(journal.note(number));
    }
    assert!(journal.flush());
    let expected: String = std::iter::once("after nothing\n".to_owned())
        .chain((0..1000).map(|number| format!("{number}\n")))
        .collect();
    assert_eq!(folder.text(), expected);
}

#[test]
fn a_torn_line_is_cut_off_and_the_rest_goes_on() {
    let folder = Folder::new();
    let spec = folder.spec();
    fs::write(&spec.path, "1\n2\n{\"torn").unwrap();
    let journal = start(&spec);
    journal.note(3);
    assert!(journal.flush());
    assert_eq!(folder.text(), "1\n2\nafter 2\n3\n");
    let other = LogFile::open(&spec).unwrap_err();
    assert!(
        other.to_string().contains("another process"),
        "two would each go on from the same line: {other}"
    );
    drop(journal);
    let mut again = LogFile::open(&spec).unwrap();
    assert_eq!((again.last.as_deref(), again.torn), (Some("3"), 0));
    again.file.append(b"4\n").unwrap();
    assert_eq!(folder.text(), "1\n2\nafter 2\n3\n4\n");
}

#[test]
fn files_follow_on_each_other_and_the_oldest_go() {
    let folder = Folder::new();
    let spec = FileSpec { rotate: 20, keep: Some(2), ..folder.spec() };
    let journal = start(&spec);
    for number in 1..=20 {
        journal.note(number);
        assert!(journal.flush());
    }
    let files = folder.files();
    assert_eq!(files.len(), 3, "{files:?}");
    let numbered: Vec<u64> = folder.text().lines().filter_map(|line| line.parse().ok()).collect();
    let first = numbered[0];
    assert_eq!(numbered, (first..=20).collect::<Vec<_>>(), "nothing is missing and nothing is twice");
    // The first line of each says what the last of the one before was.
    for pair in files.windows(2) {
        let [before, after] = pair else { unreachable!() };
        let (before, after) = (fs::read_to_string(before).unwrap(), fs::read_to_string(after).unwrap());
        assert_eq!(after.lines().next().unwrap(), format!("after {}", before.lines().last().unwrap()));
    }
    drop(journal);
    let opened = LogFile::open(&FileSpec { keep: None, ..spec }).unwrap();
    assert!(opened.last.is_some());
}

#[test]
fn what_no_room_is_left_for_is_counted() {
    let folder = Folder::new();
    let queue =
        Queue { records: VecDeque::new(), lost: 0, taken: 0, done: 0, flushing: false, closed: false };
    let shared =
        Arc::new(Shared { queue: Mutex::new(queue), filled: Condvar::new(), written: Condvar::new() });
    let journal = Journal { shared: Arc::clone(&shared), name: "test", thread: None };
    let noted = (0..BOUND as u64 + 7).filter(|number| journal.note(*number)).count();
    assert_eq!(noted, BOUND);
    let mut writer =
        Writer::new("test", Some(LogFile::open(&folder.spec()).unwrap()), None, Numbers, shared).unwrap();
    std::thread::spawn(move || writer.run());
    assert!(journal.flush());
    assert!(folder.text().ends_with("\nlost 7\n"));
}

#[test]
fn what_is_shipped_arrives_once_and_in_order_although_some_batches_are_refused() {
    let taken: Arc<Mutex<String>> = Arc::default();
    let (times, into) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&taken));
    let post: Box<Post> = Box::new(move |batch| {
        let (into, refuses) = (Arc::clone(&into), times.fetch_add(1, SeqCst).is_multiple_of(2));
        Box::pin(async move {
            if refuses {
                return Err("not now".to_owned());
            }
            into.lock().unwrap().push_str(std::str::from_utf8(&batch).unwrap());
            Ok(())
        })
    });
    let shipping = Shipping { batch: 400, linger: Duration::ZERO, buffer: 1 << 20 };
    let tee = Tee::start("test", shipping, post).unwrap();
    let journal = Journal::start("test", None, Some(tee.clone()), Numbers).unwrap();
    (0..100).for_each(|number| assert!(journal.note(number)));
    assert!(journal.flush() && tee.flush(Duration::from_secs(20)));
    let expected: String = std::iter::once("after nothing\n".to_owned())
        .chain((0..100).map(|number| format!("{number}\n")))
        .collect();
    assert_eq!(*taken.lock().unwrap(), expected);
}

#[test]
fn what_nobody_takes_is_bounded_and_the_newest_stays() {
    let post: Box<Post> = Box::new(|_| Box::pin(std::future::pending()));
    let tee = Tee::start("test", Shipping { batch: 10, linger: Duration::ZERO, buffer: 50 }, post).unwrap();
    (0..1000).for_each(|number| tee.push(format!("{number:04}")));
    assert!(!tee.flush(Duration::ZERO));
    let text = format!("{tee:?}");
    assert!(text.contains("Tee"));
}
