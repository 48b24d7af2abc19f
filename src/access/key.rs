//! A virtual key: how it looks, how a fresh one is made, and the hash that is kept of it.
//!
//! `fb-`, 43 characters for 256 random bits, and 6 for a checksum of what stands before them, all letters and digits: it is
//! selected with a double click, needs no escape anywhere, and a scanner that finds one in a repository can tell it from
//! noise without asking anybody.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What every key that Forebay makes begins with.
pub const PREFIX: &str = "fb-";
/// Letters and digits that 256 bits take.
const SECRET: usize = 43;
/// Letters and digits that the checksum takes.
const CHECK: usize = 6;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes a fresh key.
///
/// # Errors
/// The system gives no random bytes.
pub fn fresh() -> Result<Secret, Unspecified> {
    let mut bits = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bits.as_mut_slice())?;
    Ok(written(&bits))
}

fn written(bits: &[u8; 32]) -> Secret {
    let mut text = String::with_capacity(PREFIX.len() + SECRET + CHECK);
    text.push_str(PREFIX);
    text.push_str(&in_letters(bits, SECRET));
    let check = crc32fast::hash(text.as_bytes());
    text.push_str(&in_letters(&check.to_be_bytes(), CHECK));
    Secret::new(text)
}

/// A number, its highest byte first, in so many letters and digits.
fn in_letters(number: &[u8], count: usize) -> Zeroizing<String> {
    let mut left = Zeroizing::new(number.to_vec());
    let mut letters = Zeroizing::new(vec![b'0'; count]);
    for letter in letters.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in left.iter_mut() {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *letter = LETTERS.get(rest as usize).copied().unwrap_or(b'0');
    }
    Zeroizing::new(letters.iter().copied().map(char::from).collect())
}

/// Whether a text begins like a key of ours and yet is none: a letter was mistaken or lost on its way.
pub fn is_mistyped(text: &[u8]) -> bool {
    let Some(body) = text.strip_prefix(PREFIX.as_bytes()) else { return false };
    let whole = body.len() == SECRET + CHECK && body.iter().all(u8::is_ascii_alphanumeric);
    let Some((before, check)) = text.split_last_chunk::<CHECK>().filter(|_| whole) else { return true };
    in_letters(&crc32fast::hash(before).to_be_bytes(), CHECK).as_bytes() != check
}

/// What is kept of a key: its SHA-256. A key of 256 random bits needs no salt and no slow hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart, too little to look a weak key up by.
        let [a, b, ..] = self.0;
        write!(f, "sha256:{a:02x}{b:02x}..")
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(())?;
        // A number may have a sign; a hash has none.
        if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(drop)?;
            *byte = u8::from_str_radix(pair, 16).map_err(drop)?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_like_no_other_and_can_be_told() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), 52);
        assert!(!is_mistyped(one.expose().as_bytes()));
    }

    #[test]
    fn the_form_never_changes() {
        // Kept keys must go on being told from typing errors.
        let highest = written(&[0xff; 32]);
        assert!(highest.expose().starts_with("fb-"), "{}", highest.expose());
        assert!(!is_mistyped(highest.expose().as_bytes()));
        let lowest = written(&[0; 32]);
        assert_eq!(lowest.expose().get(..46), Some(format!("fb-{}", "0".repeat(43)).as_str()));
        assert_eq!(*in_letters(&[0, 0, 0, 61], 2), "0z");
        assert_eq!(*in_letters(&[0, 0, 0, 62], 2), "10");
    }

    #[test]
    fn a_mistyped_key_is_told_from_one_of_somebody_else() {
        let key = fresh().unwrap();
        let key = key.expose();
        for at in 3..key.len() {
            let mut wrong = key.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            assert!(is_mistyped(&wrong), "{at}");
        }
        assert!(is_mistyped(&key.as_bytes()[..51]) && is_mistyped(b"fb-") && is_mistyped(b"fb-abc"));
        for other in ["sk-live-0123456789", "", "fb_x"] {
            assert!(!is_mistyped(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = Hash::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(format!("{hash:?}"), "sha256:ba78..");
        for wrong in
            ["", "sha256:", "ba78", text.split_at(70).0, &text.replace('b', "+"), &text.replace("ba", "g+")]
        {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }
}
