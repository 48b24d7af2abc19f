//! The chain of hashes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use serde::Deserialize;

use super::entry::Entry;
use super::floods::Floods;
use crate::meter::journal::Lines;
use crate::secret::Secret;

/// A hash.
pub(super) type Hash = [u8; 32];

/// What stands before a line's hash, and behind it.
const BEFORE: &str = ",\"hash\":\"";
const BEHIND: &str = "\"}";

/// How hashes are made.
#[derive(Clone, Debug)]
pub(super) enum Mac {
    /// By anyone.
    Plain,
    /// By whoever has the key.
    Keyed(Box<hmac::Key>),
}

impl Mac {
    pub(super) fn keyed(key: &Secret) -> Self {
        Self::Keyed(Box::new(hmac::Key::new(HMAC_SHA256, key.expose().as_bytes())))
    }

    /// The name that a file's first line has.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Plain => "sha256",
            Self::Keyed(_) => "hmac-sha256",
        }
    }

    /// The hash of a line whose members before the hash are `content`.
    pub(super) fn hash(&self, before: &Hash, content: &str) -> Hash {
        let mut hash = Hash::default();
        match self {
            Self::Plain => {
                let mut context = digest::Context::new(&SHA256);
                context.update(before);
                context.update(content.as_bytes());
                hash.copy_from_slice(context.finish().as_ref());
            }
            Self::Keyed(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(before);
                context.update(content.as_bytes());
                hash.copy_from_slice(context.sign().as_ref());
            }
        }
        hash
    }
}

/// The SHA-256 of a text, in hexadecimal digits.
pub fn fingerprint(text: &str) -> String {
    hex(digest::digest(&SHA256, text.as_bytes()).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(super) fn unhex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A line, taken apart.
#[derive(Debug)]
pub(super) struct Link<'l> {
    /// Everything before the hash.
    pub(super) content: &'l str,
    pub(super) hash: Hash,
    pub(super) seq: u64,
    /// What the first line of a file says: how hashes are made, and the last before.
    pub(super) file: Option<(String, Hash)>,
}

#[derive(Deserialize)]
struct Head {
    seq: u64,
    #[serde(default)]
    event: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    prev: String,
}

impl<'l> Link<'l> {
    pub(super) fn read(line: &'l str) -> Option<Self> {
        let (content, hash) = line.strip_suffix(BEHIND)?.rsplit_once(BEFORE)?;
        let Head { seq, event, mac, prev } = serde_json::from_str(line).ok()?;
        let file = if event == "file" { Some((mac, unhex(&prev)?)) } else { None };
        Some(Self { content, hash: unhex(hash)?, seq, file })
    }
}

/// The members of a line to be.
#[derive(Debug)]
pub(super) enum Noted {
    /// Of one among others.
    Event(String),
    /// Of the last one of the process.
    Last(String),
}

/// Makes a chain of what is noted.
pub(super) struct Chain {
    mac: Mac,
    /// The number of the next line.
    next: u64,
    hash: Hash,
    floods: Arc<Mutex<Floods>>,
    anchor: Option<Duration>,
    /// When the last hash went to the log, and what the next line was then.
    anchored: (SystemTime, u64),
}

impl Chain {
    pub(super) fn new(mac: Mac, floods: Arc<Mutex<Floods>>, anchor: Option<Duration>) -> Self {
        Self { mac, next: 0, hash: Hash::default(), floods, anchor, anchored: (SystemTime::now(), 0) }
    }

    fn link(&mut self, members: &str) -> String {
        let mut line = format!("{{\"seq\":{},{members}", self.next);
        self.hash = self.mac.hash(&self.hash, &line);
        self.next += 1;
        line.push_str(BEFORE);
        line.push_str(&hex(&self.hash));
        line.push_str(BEHIND);
        line
    }

    /// The line that says how the following ones are made.
    fn file(&mut self, now: SystemTime) -> String {
        let entry = Entry::new("file", now).text("mac", self.mac.name()).text("prev", &hex(&self.hash));
        self.link(&entry.finish())
    }

    /// Tells the log the last hash, so that a chain that is cut shows.
    fn tell(&mut self, now: SystemTime) {
        self.anchored = (now, self.next);
        if let Some(last) = self.next.checked_sub(1) {
            log::info!("audit: anchor {last}:{}", hex(&self.hash));
        }
    }
}

impl Lines for Chain {
    type Record = Noted;

    fn begin(&mut self, last: Option<&str>, now: SystemTime) -> Option<String> {
        let Some(last) = last else { return Some(self.file(now)) };
        (self.next, self.hash) = match Link::read(last) {
            Some(link) => (link.seq + 1, link.hash),
            // What cannot be gone on with is gone on from nothing, for all to see.
            None => {
                log::error!("audit: the last line is none of the chain's: a chain is begun anew behind it");
                (0, Hash::default())
            }
        };
        // Every process says how its lines are made: it may have another key than the last one.
        Some(self.file(now))
    }

    fn line(&mut self, record: Noted) -> String {
        match record {
            Noted::Event(members) => self.link(&members),
            Noted::Last(members) => {
                let line = self.link(&members);
                if self.anchor.is_some() {
                    self.tell(SystemTime::now());
                }
                line
            }
        }
    }

    fn lost(&mut self, count: u64, now: SystemTime) -> Option<String> {
        Some(self.link(&Entry::new("lost", now).number("count", count).finish()))
    }

    fn tick(&mut self, now: SystemTime) -> Vec<String> {
        let sums = self.floods.lock().unwrap_or_else(PoisonError::into_inner).sums(now, false);
        let lines = sums.into_iter().map(|entry| self.link(&entry.finish())).collect();
        let is_due = |every: Duration| now.duration_since(self.anchored.0).is_ok_and(|since| since >= every);
        if self.anchor.is_some_and(is_due) && self.next > self.anchored.1 {
            self.tell(now);
        }
        lines
    }
}
