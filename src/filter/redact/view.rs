//! A text as far as it has come.

/// A text as far as it has come, and the two bytes before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'t> {
    /// The text.
    pub(super) bytes: &'t [u8],
    /// Where it begins, behind what was taken out.
    pub(super) base: usize,
    /// What was let out before that.
    pub(super) before: [u8; 2],
    /// Whether nothing follows.
    pub(super) ends: bool,
}

/// Whether something begins at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It does not.
    No,
    /// It cannot be said before more of the text has come.
    More,
    /// It does, and has that many bytes, beside what belongs to it behind those.
    Match(usize, Rest),
}

/// What behind a match belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// The rest of its word.
    Token,
    /// The rest of a key in PEM.
    Pem,
}

impl Found {
    /// A match that ends there.
    pub(super) fn to(start: usize, end: usize) -> Self {
        Self::Match(end - start, Rest::Nothing)
    }
}

/// Letters, digits and `_` of ASCII.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first byte of a Latin letter beyond ASCII (U+00C0 to U+024F).
pub(super) fn is_latin(byte: u8) -> bool {
    (0xc3..=0xc9).contains(&byte)
}

impl View<'_> {
    /// The byte there.
    pub(super) fn get(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The byte so far before `at`.
    pub(super) fn behind(&self, at: usize, back: usize) -> u8 {
        match at.checked_sub(back) {
            Some(place) if place >= self.base => self.get(place).unwrap_or(b' '),
            _ => {
                // The last of them stands directly before the base.
                let into = back - (at - self.base);
                let [two, one] = self.before;
                if into <= 1 { one } else { two }
            }
        }
    }

    /// What is said where the text ends before the question is decided.
    pub(super) fn cut(&self) -> Found {
        if self.ends { Found::No } else { Found::More }
    }

    /// Whether something may begin there: nothing does in the midst of a word.
    pub(super) fn may_begin(&self, at: usize, byte: u8) -> bool {
        let (one, two) = (self.behind(at, 1), self.behind(at, 2));
        let starts = byte.is_ascii_alphanumeric() || is_latin(byte) || matches!(byte, b'+' | b'(' | b'-');
        // What stands in JSON inside of a text has escapes: `\n` is no word's beginning, and a word may begin behind it.
        let is_escape = one == b'\\' && matches!(byte, b'n' | b'r' | b't' | b'b' | b'f');
        let behind_escape = two == b'\\' && matches!(one, b'n' | b'r' | b't' | b'b' | b'f');
        let inside = is_word(one) || (one & 0xc0 == 0x80 && is_latin(two));
        starts && !is_escape && (!inside || behind_escape)
    }

    /// Whether the number that begins there goes on from one before it: `1.4111...`.
    pub(super) fn is_joined(&self, at: usize) -> bool {
        matches!(self.behind(at, 1), b'.' | b'-') && self.behind(at, 2).is_ascii_digit()
    }

    /// A number that ends there: a match, unless it goes on behind.
    pub(super) fn closed(&self, start: usize, end: usize) -> Found {
        let joins = |byte: u8| matches!(byte, b'.' | b'-');
        match (self.get(end), self.get(end + 1)) {
            (None, _) if !self.ends => Found::More,
            (Some(byte), None) if joins(byte) && !self.ends => Found::More,
            (Some(byte), _) if is_word(byte) => Found::No,
            // A label stands for what was joined before it was taken out.
            (Some(byte), Some(next)) if joins(byte) && (next.is_ascii_digit() || next == b'[') => Found::No,
            _ => Found::to(start, end),
        }
    }

    /// Whether these bytes stand there; nothing where the text ends before that is known.
    pub(super) fn has(&self, at: usize, what: &[u8]) -> Option<bool> {
        let there = self.bytes.get(at..).unwrap_or_default();
        if there.len() >= what.len() {
            return Some(there.starts_with(what));
        }
        if what.starts_with(there) && !self.ends { None } else { Some(false) }
    }
}
