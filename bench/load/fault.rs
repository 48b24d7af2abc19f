//! What went wrong with replies: counted by kind, the first ones told.

use std::fmt;
use std::io;

use serde_json::{Value, json};

/// Why a reply is not the one it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It did not come, or not whole.
    Lost(String),
    /// It came with other bytes, or not as HTTP.
    Damaged(String),
    /// It was an error reply.
    Refused(u16),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "lost: {why}"),
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::Refused(status) => write!(f, "answered with status {status}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// How many faults are told in words.
const TOLD: usize = 5;
/// After how many faults a run is given up.
const HOPELESS: u64 = 100;

/// All faults of a run.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: u64,
    damaged: u64,
    refused: u64,
    first: Vec<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: &Fault) {
        match fault {
            Fault::Lost(_) => self.lost += 1,
            Fault::Damaged(_) => self.damaged += 1,
            Fault::Refused(_) => self.refused += 1,
        }
        if self.first.len() < TOLD {
            self.first.push(fault.to_string());
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.lost += other.lost;
        self.damaged += other.damaged;
        self.refused += other.refused;
        self.first.extend(other.first);
        self.first.truncate(TOLD);
    }

    pub(crate) fn none(&self) -> bool {
        self.lost + self.damaged + self.refused == 0
    }

    /// Whether going on would only repeat what is known.
    pub(crate) fn hopeless(&self) -> bool {
        self.lost + self.damaged + self.refused >= HOPELESS
    }

    pub(crate) fn summary(&self) -> Value {
        json!({
            "lost": self.lost,
            "damaged": self.damaged,
            "refused": self.refused,
            "first": self.first,
        })
    }
}
