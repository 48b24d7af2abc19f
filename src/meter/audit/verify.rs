//! Whether a chain is whole.

use std::fmt;
use std::io::{self, BufRead};

use super::chain::{Hash, Link, Mac, hex, unhex};
use crate::secret::Secret;

/// The longest line that is read, bytes.
const LONGEST: u64 = 4 << 20;

/// A line that is known from elsewhere, as the log has it: `NUMBER:HASH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    seq: u64,
    hash: Hash,
}

impl std::str::FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (seq, hash) = text.split_once(':')?;
            Some(Self { seq: seq.parse().ok()?, hash: unhex(&hash.to_ascii_lowercase())? })
        };
        read().ok_or_else(|| "write NUMBER:HASH, as the log has it behind `audit: anchor`".to_owned())
    }
}

/// What was found of a chain that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many lines there are.
    pub lines: u64,
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// Its hash.
    hash: Hash,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines, {} to {}, are whole", self.lines, self.first, self.last)?;
        if self.first > 0 {
            write!(f, "; what came before {} is in other files", self.first)?;
        }
        write!(f, "\nthe last is {}:{}", self.last, hex(&self.hash))
    }
}

/// Goes through files, the oldest first.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<Mac>,
    anchors: Vec<Anchor>,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    mac: Mac,
    whole: Whole,
}

impl Verifier {
    /// Looks with those keys, of which each file has one, or none if none is given; and for those anchors.
    pub fn new(keys: &[Secret], anchors: Vec<Anchor>) -> Self {
        Self { keys: keys.iter().map(Mac::keyed).collect(), anchors, state: None }
    }

    /// Goes through the next file.
    ///
    /// # Errors
    /// Names the first line that does not fit.
    pub fn file(&mut self, name: &str, mut from: impl BufRead) -> Result<(), String> {
        let mut number = 0_u64;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::take(&mut from, LONGEST).read_until(b'\n', &mut line);
            let wrong = |why: String| format!("{name}: line {}: {why}", number + 1);
            if read.map_err(|error| wrong(error.to_string()))? == 0 {
                return if number > 0 { Ok(()) } else { Err(format!("{name}: there is nothing in it")) };
            }
            let Some(text) = line.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok()) else {
                return Err(wrong("it was cut, or is no text".to_owned()));
            };
            self.line(text).map_err(wrong)?;
            number += 1;
        }
    }

    fn line(&mut self, text: &str) -> Result<(), String> {
        let link = Link::read(text).ok_or("it is no line of an audit log, or was changed")?;
        let (seq, hash) = (link.seq, link.hash);
        match (&self.state, &link.file) {
            (None, None) => return Err("a chain begins with a line of the event `file`".to_owned()),
            (Some(State { whole, .. }), _) if seq != whole.last + 1 => {
                let last = whole.last;
                return Err(format!(
                    "its number is {seq}, and that of the line before {last}: lines were taken out, put in or put elsewhere"
                ));
            }
            (Some(State { whole, .. }), Some((_, before))) if *before != whole.hash => {
                return Err("it goes on from another line than the one before".to_owned());
            }
            (Some(State { mac, whole }), None) if mac.hash(&whole.hash, link.content) != hash => {
                return Err("it was changed, or is not the one that followed on the line before".to_owned());
            }
            _ => {}
        }
        let mac = match &link.file {
            Some((name, before)) => Some(self.mac(name, before, &link)?),
            None => None,
        };
        if let Some(anchor) = self.anchors.iter().find(|anchor| anchor.seq == seq && anchor.hash != hash) {
            return Err(format!("its hash was {} once: the chain was made anew", hex(&anchor.hash)));
        }
        match (&mut self.state, mac) {
            (Some(state), mac) => {
                state.whole = Whole { lines: state.whole.lines + 1, last: seq, hash, ..state.whole };
                state.mac = mac.unwrap_or_else(|| state.mac.clone());
            }
            (state @ None, Some(mac)) => {
                *state = Some(State { mac, whole: Whole { lines: 1, first: seq, last: seq, hash } });
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// How the hashes behind a line `file` are made.
    fn mac(&self, name: &str, before: &Hash, link: &Link<'_>) -> Result<Mac, String> {
        let fits = |mac: &&Mac| mac.hash(before, link.content) == link.hash;
        let changed = "it was changed".to_owned();
        match (name, self.keys.as_slice()) {
            ("sha256", []) => Some(&Mac::Plain).filter(fits).cloned().ok_or(changed),
            ("sha256", _) => Err("its chain has no key, so anyone could have made it".to_owned()),
            ("hmac-sha256", []) => Err("its chain has a key: give it with --key".to_owned()),
            ("hmac-sha256", keys) => keys
                .iter()
                .find(fits)
                .cloned()
                .ok_or_else(|| "it was changed, or made with another key".to_owned()),
            _ => Err(format!("its hashes are made in a way that is not known here: {name}")),
        }
    }

    /// What all files together are.
    ///
    /// # Errors
    /// Where there was none, or an anchor is of a line that is not there.
    pub fn finish(self) -> Result<Whole, String> {
        let State { whole, .. } = self.state.ok_or("no file was given")?;
        let beyond = self.anchors.iter().find(|anchor| anchor.seq > whole.last);
        match beyond {
            Some(anchor) => Err(format!(
                "the chain ends with line number {}, and {} was once there: its end was cut off",
                whole.last, anchor.seq
            )),
            None => Ok(whole),
        }
    }
}
