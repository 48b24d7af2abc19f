//! What is written of keys: their hashes, and when they end.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::Wrong;
use crate::access::key::Hash;
use crate::moment::{read_rfc3339, rfc3339};

/// The hash of a key: `sha256:` and 64 digits, as `forebay key new` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub Hash);

impl FromStr for KeyHash {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        text.parse().map(Self).map_err(|()| {
            let help =
                "write `sha256:` and 64 hexadecimal digits; `forebay key new` prints a key with its hash";
            Wrong::new("not the hash of a key", help)
        })
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment in UTC (RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub SystemTime);

impl FromStr for Moment {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        read_rfc3339(text).map(Self).ok_or_else(|| {
            Wrong::new("not a moment", "write it in UTC as RFC 3339 has it, such as `2027-01-31T12:00:00Z`")
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_moments_print_as_they_are_written() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(hash.parse::<KeyHash>().unwrap().to_string(), hash);
        assert!("sha256:0a".parse::<KeyHash>().is_err() && "fb-abc".parse::<KeyHash>().is_err());
        let moment = "2027-01-31T12:00:00Z";
        assert_eq!(moment.parse::<Moment>().unwrap().to_string(), moment);
        assert!("2027-01-31".parse::<Moment>().is_err() && "tomorrow".parse::<Moment>().is_err());
    }
}
