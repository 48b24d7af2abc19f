//! A strict RFC 8259 scanner that finds where values are and builds nothing.

use std::ops::Range;

use super::DEPTH;
use crate::json::{Fault, What};

/// A position in a body, and the containers it is inside of.
pub(super) struct Scanner<'a> {
    text: &'a str,
    body: &'a [u8],
    /// The offset of the next byte.
    pub(super) at: usize,
    /// One bit per open container, the innermost lowest: 1 for an object, 0 for an array.
    stack: u128,
    depth: u32,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { text, body: text.as_bytes(), at, stack: 0, depth: 0 }
    }

    /// Goes to the opening brace of the body.
    pub(super) fn head(&mut self) -> Result<(), Fault> {
        if self.body.starts_with(b"\xef\xbb\xbf") {
            return self.fault(What::ByteOrderMark);
        }
        self.space();
        match self.peek() {
            Some(b'{') => Ok(()),
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.fault(What::NotObject),
            Some(_) => self.fault(What::Expected("an object")),
            None => self.fault(What::Empty),
        }
    }

    /// Makes sure that nothing follows.
    pub(super) fn tail(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.body.len() { Ok(()) } else { self.fault(What::Trailing) }
    }

    /// Reads the object that begins here and tells of each member: the inside of its name, where the name is, and
    /// where its value is.
    pub(super) fn members(
        &mut self,
        mut visit: impl FnMut(&'a str, usize, Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.open(true)?;
        self.space();
        if self.eat(b'}') {
            self.close();
            return Ok(());
        }
        loop {
            let named_at = self.at;
            let name = self.name()?;
            let start = self.at;
            self.value()?;
            visit(name, named_at, start..self.at)?;
            self.space();
            if self.eat(b',') {
                self.space();
            } else if self.eat(b'}') {
                self.close();
                return Ok(());
            } else {
                return self.expected("',' or '}'");
            }
        }
    }

    /// Reads the array that begins here and tells where each of its values is, for as long as `visit` wants to know.
    pub(super) fn items(&mut self, mut visit: impl FnMut(Range<usize>) -> bool) -> Result<(), Fault> {
        self.open(false)?;
        self.space();
        if self.eat(b']') {
            self.close();
            return Ok(());
        }
        loop {
            let start = self.at;
            self.value()?;
            if !visit(start..self.at) {
                return Ok(());
            }
            self.space();
            if self.eat(b',') {
                self.space();
            } else if self.eat(b']') {
                self.close();
                return Ok(());
            } else {
                return self.expected("',' or ']'");
            }
        }
    }

    /// Skips the value that begins here, without recursion.
    fn value(&mut self) -> Result<(), Fault> {
        let floor = self.depth;
        loop {
            let opened = self.scalar_or_open()?;
            if opened {
                continue;
            }
            if self.after_value(floor)? {
                return Ok(());
            }
        }
    }

    /// Skips a scalar or an empty container, or enters a container and stops before its first value. Returns whether
    /// it entered one.
    fn scalar_or_open(&mut self) -> Result<bool, Fault> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{') => {
                self.open(true)?;
                self.space();
                if !self.eat(b'}') {
                    self.name()?;
                    return Ok(true);
                }
                self.close();
            }
            Some(b'[') => {
                self.open(false)?;
                self.space();
                if !self.eat(b']') {
                    return Ok(true);
                }
                self.close();
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => return self.expected("a value"),
        }
        Ok(false)
    }

    /// Goes on after a value: out of every container that ends here, then to the next value. Returns whether the
    /// value that was begun at depth `floor` is over.
    fn after_value(&mut self, floor: u32) -> Result<bool, Fault> {
        while self.depth > floor {
            self.space();
            let in_object = self.stack & 1 == 1;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    if in_object {
                        self.name()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if in_object => self.at += 1,
                Some(b']') if !in_object => self.at += 1,
                _ => return self.expected(if in_object { "',' or '}'" } else { "',' or ']'" }),
            }
            self.close();
        }
        Ok(true)
    }

    /// Reads a member's name and the colon, and goes to its value. Returns the inside of the name.
    fn name(&mut self) -> Result<&'a str, Fault> {
        if self.peek() != Some(b'"') {
            return self.expected("a member name in double quotes");
        }
        let start = self.at + 1;
        self.string()?;
        let inside = self.text.get(start..self.at - 1).unwrap_or_default();
        self.space();
        if !self.eat(b':') {
            return self.expected("':'");
        }
        self.space();
        Ok(inside)
    }

    /// Skips a string, checking it.
    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.at += plain(self.body.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault(What::ControlCharacter),
                None => return self.fault(What::Unfinished),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.body.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.body.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return self.fault(What::BadEscape);
                }
                self.at += 6;
            }
            Some(_) => return self.fault(What::BadEscape),
            None => return self.fault(What::Unfinished),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fault(What::BadNumber);
        }
        Ok(())
    }

    /// Skips one or more digits.
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fault(What::BadNumber) } else { Ok(()) }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if !self.body.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        const { assert!(DEPTH <= u128::BITS) };
        if self.depth == DEPTH {
            return self.fault(What::TooDeep);
        }
        self.at += 1;
        self.depth += 1;
        self.stack = self.stack << 1 | u128::from(object);
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.stack >>= 1;
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The fault of not finding `wants` here.
    fn expected<T>(&self, wants: &'static str) -> Result<T, Fault> {
        self.fault(if self.at < self.body.len() { What::Expected(wants) } else { What::Unfinished })
    }

    fn fault<T>(&self, what: What) -> Result<T, Fault> {
        Err(Fault { at: self.at, what })
    }
}

/// How many bytes from the start are string content that needs no look: no quote, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    // The compiler turns the fold over a block of fixed size into vector instructions.
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        if block.iter().fold(false, |found, &byte| found | is_special(byte)) {
            break;
        }
        at += 32;
    }
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let marks = specials(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// A word with the top bit set in each byte that is special. Bytes above the lowest such one may be marked falsely,
/// because the subtractions borrow.
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c)) | controls) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_wherever_they_are() {
        for length in 0..80 {
            for special in [b'"', b'\\', 0, 0x1f] {
                for place in 0..length {
                    let mut text = vec![b'!'; length];
                    text[place] = special;
                    assert_eq!(plain(&text), place);
                }
            }
            for harmless in [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff, b'a'] {
                assert_eq!(plain(&vec![harmless; length]), length);
            }
        }
    }
}
