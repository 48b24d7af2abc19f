//! Newline-delimited JSON (`application/x-ndjson`), on bytes: a line is a value, whatever is in it.
//!
//! LF and CRLF end a line; blank lines are skipped, and the last line needs no end. A CR alone is part of its line:
//! JSON takes it for white space.

use std::fmt;

use memchr::memchr;

/// The longest line a [`Reader`] takes unless told otherwise, in bytes: as much as an event of server-sent events.
pub const LIMIT: usize = super::sse::LIMIT;

/// Turns a stream cut anywhere into lines. A line that lies within one pushed piece is borrowed from it.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    /// Where the current line begins.
    offset: u64,
    /// The line begun in earlier pieces.
    held: Vec<u8>,
}

/// A line is longer than the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Where the line begins, in bytes from the start of the stream.
    pub offset: u64,
    /// The bound, in bytes.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line at byte {} is longer than {} bytes", self.offset, self.limit)
    }
}

impl std::error::Error for TooLong {}

impl Default for Reader {
    fn default() -> Self {
        Self::new(LIMIT)
    }
}

impl Reader {
    /// A reader at the start of a stream that takes lines of at most `limit` bytes, without their ends.
    pub fn new(limit: usize) -> Self {
        Self { limit, offset: 0, held: Vec::new() }
    }

    /// Reads the next piece of the stream and tells of each line that ends in it.
    ///
    /// # Errors
    ///
    /// [`TooLong`] where a line is over the bound. The lines before it were told; the reader is of no use after that.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (tail, next) = rest.split_at(end);
            rest = next.get(1..).unwrap_or_default();
            let length = self.held.len() + tail.len() + 1;
            if self.held.is_empty() {
                self.line(tail, tell)?;
            } else {
                let mut line = std::mem::take(&mut self.held);
                line.extend_from_slice(tail);
                self.line(&line, tell)?;
                line.clear();
                self.held = line;
            }
            self.offset += length as u64;
        }
        self.held.extend_from_slice(rest);
        self.check(&self.held)
    }

    /// Ends the stream, and tells of the last line if it has no end.
    pub fn finish(self, tell: &mut impl FnMut(&[u8])) {
        if !is_blank(&self.held) {
            tell(without_cr(&self.held));
        }
    }

    fn line(&self, line: &[u8], tell: &mut impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.check(line)?;
        if !is_blank(line) {
            tell(without_cr(line));
        }
        Ok(())
    }

    fn check(&self, line: &[u8]) -> Result<(), TooLong> {
        if without_cr(line).len() > self.limit {
            return Err(TooLong { offset: self.offset, limit: self.limit });
        }
        Ok(())
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |line: &[u8]| told.push(String::from_utf8(line.to_vec()).unwrap());
        let mut reader = Reader::default();
        for piece in pieces {
            reader.push(piece, &mut tell).unwrap();
        }
        reader.finish(&mut tell);
        told
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_the_last_with_nothing() {
        for (stream, lines) in [
            ("", &[][..]),
            ("\n\r\n  \t\n", &[]),
            ("{}\n", &["{}"]),
            ("{\"a\":1}\n{\"b\":2}\r\n\n{\"é\":3}", &["{\"a\":1}", "{\"b\":2}", "{\"é\":3}"]),
            ("{}\r", &["{}"]),
            ("\r\r\n", &[]),
            (" {\r} \n\r\n[1]\r\r\n", &[" {\r} ", "[1]\r"]),
        ] {
            assert_eq!(read(&[stream.as_bytes()]), lines, "{stream:?}");
        }
    }

    #[test]
    fn every_split_point_gives_the_same_lines() {
        let stream = "{\"a\":\"é\"}\r\n\r\n\n{\"b\":2}\n \r\n[]\r\r\n{\"last\":true}\r".as_bytes();
        let whole = read(&[stream]);
        assert_eq!(whole.len(), 4);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(read(&pieces), whole, "{pieces:?}");
            }
        }
        assert_eq!(read(&stream.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn a_whole_line_is_borrowed() {
        let bytes = b"{\"a\":1}\r\n[2]\n";
        let mut at = Vec::new();
        let mut reader = Reader::default();
        reader.push(bytes, &mut |line| at.push(line.as_ptr().addr() - bytes.as_ptr().addr())).unwrap();
        assert_eq!(at, [0, 9]);
    }

    #[test]
    fn a_line_is_bounded_wherever_it_is_cut() {
        let too_long = TooLong { offset: 5, limit: 4 };
        let long = Err(too_long);
        for (stream, expected) in [
            ("1234\n5678\r\n9", Ok(())),
            ("1234\n5678\r", Ok(())),
            ("1234\n56789\n", long),
            ("1234\n56789", long),
            ("1234\n5678\rx\n", long),
            ("1234\n     \n", long),
        ] {
            let bytes = stream.as_bytes();
            for split in 0..=bytes.len() {
                let mut reader = Reader::new(4);
                let mut told = 0;
                let pushed = [&bytes[..split], &bytes[split..]]
                    .iter()
                    .try_for_each(|piece| reader.push(piece, &mut |_| told += 1));
                assert_eq!(pushed, expected, "{stream:?} cut at {split}");
                assert!(told >= 1, "{stream:?} cut at {split}");
            }
        }
        assert_eq!(too_long.to_string(), "the line at byte 5 is longer than 4 bytes");
    }
}
