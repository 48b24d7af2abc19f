//! A file that is only added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{FileSpec, Sync};

/// The most of a file's end in which its last line is sought, bytes.
const TAIL: u64 = 1 << 20;

/// A file that is only added to, in whole lines.
#[derive(Debug)]
pub struct LogFile {
    spec: FileSpec,
    file: File,
    /// Where the next line goes.
    length: u64,
    /// Where the first that was noted goes: what stands before it began the file.
    begun: u64,
    /// Since when something is written and not synced.
    unsynced: Option<Instant>,
    /// Held for as long as the process writes here.
    _lock: File,
}

/// A file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: LogFile,
    /// Its last line, or where it has none, that of the file before it.
    pub last: Option<String>,
    /// How many bytes of a torn line were cut off.
    pub torn: u64,
}

impl LogFile {
    /// Opens it for adding. A line without an end, which a crash left behind, is cut off.
    ///
    /// # Errors
    /// Where it cannot be opened, read or cut, or where somebody else writes it.
    pub fn open(spec: &FileSpec) -> io::Result<Opened> {
        let lock = lock(&spec.path)?;
        let mut file = create(&spec.path)?;
        let length = file.metadata()?.len();
        let tail = tail(&mut file, length)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        let length = length - torn;
        if torn > 0 {
            file.set_len(length)?;
            file.sync_data()?;
        }
        let mut last = last_line(tail.get(..whole).unwrap_or_default());
        if last.is_none()
            && let Some(before) = numbered(&spec.path).last()
        {
            let mut before = File::open(before)?;
            let length = before.metadata()?.len();
            last = last_line(&self::tail(&mut before, length)?);
        }
        let file = Self { spec: spec.clone(), file, length, begun: 0, unsynced: None, _lock: lock };
        Ok(Opened { file, last, torn })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.spec.path
    }

    /// Adds whole lines. If that fails, none of them is there.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // What was written of them goes again; where that fails, too, the next opening cuts it off.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Syncs it to the disk, if that is due or it must be `now`.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn sync(&mut self, at_once: bool, now: Instant) -> io::Result<()> {
        let Some(since) = self.unsynced else { return Ok(()) };
        let within = match self.spec.sync {
            Sync::Always => Duration::ZERO,
            Sync::Within(time) => time,
        };
        if at_once || now.saturating_duration_since(since) >= within {
            self.file.sync_data()?;
            self.unsynced = None;
        }
        Ok(())
    }

    /// What stands in it now is only its beginning.
    pub fn begin(&mut self) {
        self.begun = self.length;
    }

    /// Whether another is to be begun: never before something was noted in this one.
    pub fn is_full(&self) -> bool {
        self.length > self.begun && self.length >= self.spec.rotate
    }

    /// Puts it aside under the next number, and begins another. Gives the last line of the old one.
    ///
    /// # Errors
    /// Where one of both fails; the old file then stays in use.
    pub fn rotate(&mut self) -> io::Result<Option<String>> {
        self.file.sync_data()?;
        let older = numbered(&self.spec.path);
        let next = older.last().and_then(|path| number(&self.spec.path, path)).unwrap_or(0) + 1;
        let mut aside = self.spec.path.clone().into_os_string();
        aside.push(format!(".{next:06}"));
        let tail = tail(&mut self.reread()?, self.length)?;
        std::fs::rename(&self.spec.path, &aside)?;
        self.file = create(&self.spec.path)?;
        (self.length, self.begun, self.unsynced) = (0, 0, None);
        if let Some(folder) = self.spec.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        if let Some(keep) = self.spec.keep {
            let gone = (older.len() + 1).saturating_sub(keep);
            older.iter().take(gone).for_each(|path| {
                let _ = std::fs::remove_file(path);
            });
        }
        Ok(last_line(&tail))
    }

    fn reread(&self) -> io::Result<File> {
        File::open(&self.spec.path)
    }
}

/// A file for adding, which nobody but its owner and group may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)
}

/// Makes sure that nobody else writes a file: two writers would each go on from the other's lines. What is locked is a
/// file beside it, for it is renamed itself.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o640).open(beside)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another process writes this file"))?;
    Ok(lock)
}

/// The end of a file.
fn tail(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The last whole line, without its end.
fn last_line(tail: &[u8]) -> Option<String> {
    let lines = tail.strip_suffix(b"\n")?;
    let from = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    String::from_utf8(lines.get(from..)?.to_vec()).ok()
}

/// The files that were put aside, the oldest first.
fn numbered(path: &Path) -> Vec<PathBuf> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter_map(|other| number(path, &other).map(|number| (number, other)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The number behind the name of a file that was put aside.
fn number(path: &Path, other: &Path) -> Option<u64> {
    let (name, other) = (path.file_name()?.to_str()?, other.file_name()?.to_str()?);
    let digits = other.strip_prefix(name)?.strip_prefix('.')?;
    (digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
