//! The ledger's files: `ledger-000001.jsonl` and so on, of which only the last is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::Spec;
use super::line::{Entry, time};

/// A place in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Position {
    /// The file's number.
    pub file: u64,
    /// How far it goes, bytes.
    pub offset: u64,
}

/// The files of a directory, the oldest first.
///
/// # Errors
/// Where it cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("ledger-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Calls `each` with every record behind a place, and says where they end. A last line that is not whole is left out; one
/// in the midst that cannot be read is passed over, and told of.
///
/// # Errors
/// Where a file cannot be read.
pub(in crate::meter) fn replay(
    directory: &Path,
    from: Position,
    each: &mut impl FnMut(&Entry),
) -> io::Result<Position> {
    let mut at = from;
    for (number, path) in list(directory)?.into_iter().filter(|(number, _)| *number >= from.file) {
        let mut file = File::open(&path)?;
        let start = if number == from.file { from.offset.min(file.metadata()?.len()) } else { 0 };
        file.seek(SeekFrom::Start(start))?;
        let (mut reader, mut line, mut offset) = (BufReader::with_capacity(1 << 16, file), Vec::new(), start);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            offset += read as u64;
            match Entry::read(&line) {
                Some(entry) => each(&entry),
                None => log::warn!("{}: a line that ends at byte {offset} cannot be read", path.display()),
            }
        }
        at = Position { file: number, offset };
    }
    Ok(at)
}

/// The file that is written, and those before it.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    file: File,
    number: u64,
    /// Its whole lines, bytes.
    length: u64,
    born: SystemTime,
    size: u64,
    age: Duration,
    keep: Option<Duration>,
    /// Held for as long as the process writes here.
    _lock: File,
}

impl Files {
    /// Opens the last file, mended where it ends in the midst of a line, or begins the first.
    pub(super) fn open(directory: &Path, spec: &Spec, now: SystemTime) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another process writes this ledger"))?;
        let last = list(directory)?.pop();
        let number = last.as_ref().map_or(1, |(number, _)| *number);
        let file = opened(directory, number)?;
        let length = mend(&file, &path(directory, number))?;
        let born = first_time(&path(directory, number)).unwrap_or(now);
        if last.is_none() {
            sync_directory(directory)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            file,
            number,
            length,
            born,
            size: spec.size,
            age: spec.age,
            keep: spec.keep,
            _lock: lock,
        })
    }

    /// Where the next record will be.
    pub(super) fn position(&self) -> Position {
        Position { file: self.number, offset: self.length }
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends whole lines, or nothing.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.file.write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written of them would stand in the way of the next try.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Has another file written.
    #[cfg(test)]
    pub(super) fn replace(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Makes sure of what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether a new file is due.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let old = now.duration_since(self.born).is_ok_and(|age| age >= self.age);
        self.length > 0 && (self.length >= self.size || old)
    }

    /// Begins a new file, and removes those that are too old.
    pub(super) fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        self.sync()?;
        let number = self.number + 1;
        self.file = opened(&self.directory, number)?;
        (self.number, self.length, self.born) = (number, 0, now);
        sync_directory(&self.directory)?;
        if let Some(keep) = self.keep {
            self.forget(keep, now)?;
        }
        Ok(())
    }

    fn forget(&self, keep: Duration, now: SystemTime) -> io::Result<()> {
        for (_, path) in list(&self.directory)?.into_iter().filter(|(number, _)| *number < self.number) {
            let changed = fs::metadata(&path)?.modified()?;
            if now.duration_since(changed).is_ok_and(|age| age > keep) {
                log::info!("{} is older than the ledger is kept, and removed", path.display());
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("ledger-{number:06}.jsonl"))
}

fn opened(directory: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path(directory, number))
}

/// Makes sure that the files of a directory are found again.
pub(in crate::meter) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Takes off a last line that the process's end cut short, or ends it where only its end is missing. Says how long the
/// file is then.
fn mend(mut file: &File, path: &Path) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut at = length;
    let mut tail: Vec<u8> = Vec::new();
    while at > 0 && !tail.contains(&b'\n') {
        let start = at.saturating_sub(1 << 16);
        let mut block = vec![0; usize::try_from(at - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&tail);
        (tail, at) = (block, start);
    }
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let torn = tail.get(whole..).unwrap_or_default();
    if torn.is_empty() {
        return Ok(length);
    }
    if Entry::read(torn).is_some() {
        file.write_all(b"\n")?;
        return Ok(length + 1);
    }
    log::warn!("{}: the last {} bytes are half a record, and taken off", path.display(), torn.len());
    let mended = length - torn.len() as u64;
    file.set_len(mended)?;
    Ok(mended)
}

/// When the first record of a file was written.
fn first_time(path: &Path) -> Option<SystemTime> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?).read_until(b'\n', &mut line).ok()?;
    time(&Entry::read(&line)?.ts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::ledger::Sync;

    /// A directory of its own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("forebay-ledger-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn spec(size: u64) -> Spec {
        Spec {
            directory: None,
            sync: Sync::Always,
            size,
            age: Duration::from_secs(3600),
            keep: None,
            stdout: false,
            http: None,
        }
    }

    fn ids(folder: &Folder, from: Position) -> (Vec<String>, Position) {
        let mut ids = Vec::new();
        let end = replay(&folder.0, from, &mut |entry| ids.push(entry.id.clone())).unwrap();
        (ids, end)
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn records_go_on_through_the_files_and_are_read_from_any_place() {
        let folder = Folder::new("files");
        let mut files = Files::open(&folder.0, &spec(30), NOW).unwrap();
        files.append(b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n").unwrap();
        assert!(!files.is_due(NOW));
        let middle = files.position();
        files.append(b"{\"id\":\"c\"}\n").unwrap();
        assert!(files.is_due(NOW), "it is over its size");
        files.rotate(NOW).unwrap();
        files.append(b"not a record\n{\"id\":\"d\"}\n").unwrap();
        assert_eq!(ids(&folder, Position::default()).0, ["a", "b", "c", "d"]);
        assert_eq!(ids(&folder, middle), (vec!["c".to_owned(), "d".to_owned()], files.position()));
        assert!(files.is_due(NOW + Duration::from_secs(3600)), "it is over its age");
        let other = Files::open(&folder.0, &spec(30), NOW).unwrap_err();
        assert!(other.to_string().contains("another process"), "{other}");
    }

    #[test]
    fn half_a_record_is_taken_off_and_a_whole_one_without_its_end_is_ended() {
        for (torn, left) in [
            ("{\"id\":\"a\"}\n{\"id\":\"b", "{\"id\":\"a\"}\n"),
            ("{\"id\":\"a\"}\n{\"id\":\"b\"}", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n"),
            ("{\"id\":\"a", ""),
            ("{\"id\":\"a\"}\n", "{\"id\":\"a\"}\n"),
            ("", ""),
        ] {
            let folder = Folder::new("torn");
            fs::create_dir_all(&folder.0).unwrap();
            fs::write(path(&folder.0, 1), torn).unwrap();
            let mut files = Files::open(&folder.0, &spec(1000), NOW).unwrap();
            files.append(b"{\"id\":\"z\"}\n").unwrap();
            let is = fs::read_to_string(path(&folder.0, 1)).unwrap();
            assert_eq!(is, format!("{left}{{\"id\":\"z\"}}\n"), "{torn}");
            assert_eq!(files.position().offset, is.len() as u64);
        }
    }

    #[test]
    fn a_long_torn_line_is_found_from_its_beginning() {
        let folder = Folder::new("long");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(path(&folder.0, 1), format!("{{}}\n{{\"id\":\"{}", "x".repeat(200_000))).unwrap();
        let files = Files::open(&folder.0, &spec(1000), NOW).unwrap();
        assert_eq!(files.position(), Position { file: 1, offset: 3 });
    }

    #[test]
    fn a_full_disk_takes_all_of_a_batch_or_nothing() {
        let folder = Folder::new("full");
        let mut files = Files::open(&folder.0, &spec(1000), NOW).unwrap();
        files.append(b"{\"id\":\"a\"}\n").unwrap();
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            return println!("skipped: there is no /dev/full");
        };
        let before = files.position();
        let disk = files.replace(full);
        assert_eq!(files.append(b"{\"id\":\"b\"}\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(files.position(), before);
        files.replace(disk);
        files.append(b"{\"id\":\"b\"}\n").unwrap();
        assert_eq!(ids(&folder, Position::default()).0, ["a", "b"]);
    }

    #[test]
    fn old_files_are_removed_where_that_is_asked_for() {
        let folder = Folder::new("keep");
        let keep = Some(Duration::from_secs(60));
        let mut files = Files::open(&folder.0, &Spec { keep, ..spec(1) }, NOW).unwrap();
        files.append(b"{\"id\":\"a\"}\n").unwrap();
        files.rotate(SystemTime::now()).unwrap();
        assert_eq!(list(&folder.0).unwrap().len(), 2);
        files.append(b"{\"id\":\"b\"}\n").unwrap();
        files.rotate(SystemTime::now() + Duration::from_secs(120)).unwrap();
        assert_eq!(list(&folder.0).unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3]);
    }
}
