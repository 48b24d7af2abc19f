//! The marks of what one owner alone knows ([`crate::dialect::owned`]): who it is, and a code over that and the value
//! (HMAC-SHA-256, RFC 2104, cut to 8 bytes) that nobody without the secret can make.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::dialect::owned::{MARK, Mark, Marked, SIGN};

/// The owner's name, shortened, bytes.
const NAME: usize = 4;

/// What an owner marks its own with.
#[derive(Clone, Debug)]
pub struct Seal {
    key: hmac::Key,
    owner: [u8; NAME],
}

impl Seal {
    /// The seal of the owner of that name. Every node that knows the secret has the same.
    pub fn new(secret: &[u8], owner: &str) -> Self {
        let mut short = [0; NAME];
        let long = digest(&SHA256, owner.as_bytes());
        short.iter_mut().zip(long.as_ref()).for_each(|(short, long)| *short = *long);
        Self { key: hmac::Key::new(HMAC_SHA256, secret), owner: short }
    }

    /// Whether the value was marked with this seal.
    pub fn marked(&self, value: &Marked<'_>) -> bool {
        let Some((owner, code)) = value.mark.split_at_checked(NAME) else { return false };
        if owner != self.owner {
            return false;
        }
        // A code that is cut is compared in the same time wherever it differs.
        let full = self.code(value.plain);
        let own = full.as_ref().get(..MARK - NAME).unwrap_or_default();
        verify_slices_are_equal(own, code).is_ok()
    }

    fn code(&self, value: &str) -> hmac::Tag {
        hmac::sign(&self.key, &[&self.owner[..], value.as_bytes()].concat())
    }
}

impl Mark for Seal {
    fn mark(&self, value: &str) -> String {
        let mut mark = self.owner.to_vec();
        mark.extend(self.code(value).as_ref().iter().take(MARK - NAME));
        format!("{value}{SIGN}{}", URL_SAFE_NO_PAD.encode(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(owner: &str) -> Seal {
        Seal::new(b"a secret of the fleet", owner)
    }

    #[test]
    fn a_mark_is_its_owners_and_nobody_can_make_or_move_it() {
        let (mine, other) = (seal("east"), seal("west"));
        let marked = mine.mark("resp_68");
        assert!(marked.starts_with("resp_68_fb1") && marked.len() == 7 + 4 + MARK / 3 * 4, "{marked}");
        let read = Marked::read(&marked).unwrap();
        assert_eq!(read.plain, "resp_68");
        assert!(mine.marked(&read) && !other.marked(&read));
        assert!(!Seal::new(b"another secret", "east").marked(&read));
        let moved = marked.replace("resp_68", "resp_69");
        assert!(!mine.marked(&Marked::read(&moved).unwrap()), "a mark is of one value");
    }
}
