//! As much of HTTP/1.1 as the benchmark speaks, read as strictly as damage must be noticed.

use memchr::memmem;

use crate::fault::Fault;

/// The head of a request or reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// The first line.
    pub(crate) line: &'a [u8],
    /// `content-length`.
    pub(crate) length: Option<usize>,
    /// Whether the body comes in chunks.
    pub(crate) chunked: bool,
    /// Whether the connection ends after it.
    pub(crate) close: bool,
    /// The size of the head itself.
    pub(crate) size: usize,
}

impl<'a> Head<'a> {
    /// Reads a head; `None` while it is not whole.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let size = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let mut lines = bytes.get(..size - 4)?.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line = lines.next()?;
        let mut head = Self { line, length: None, chunked: false, close: false, size };
        for header in lines {
            let colon = memchr::memchr(b':', header)?;
            let (name, value) = header.split_at(colon);
            head.note(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
        Some(head)
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.close = value.eq_ignore_ascii_case(b"close");
        }
    }

    /// The status of a reply.
    pub(crate) fn status(&self) -> Option<u16> {
        let rest = self.line.strip_prefix(b"HTTP/1.1 ")?;
        std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
    }
}

/// A reply as it arrives.
#[derive(Debug)]
pub(crate) struct Incoming {
    head: Vec<u8>,
    state: State,
    /// What has come of the body and was not taken yet.
    pub(crate) body: Vec<u8>,
    /// Whether the connection ends after it.
    pub(crate) close: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Counted(usize),
    Chunked(Chunk),
    Whole,
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size(usize),
    Extension(usize),
    SizeEnd(usize),
    Data(usize),
    DataReturn,
    DataEnd,
    /// In the trailer, after so many bytes of a line.
    Trailer(usize),
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { head: Vec::new(), state: State::Head, body: Vec::new(), close: false }
    }

    /// Forgets a whole reply, to read the next.
    pub(crate) fn reset(&mut self) {
        self.head.clear();
        self.body.clear();
        self.state = State::Head;
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// Takes what arrived.
    ///
    /// # Errors
    /// Where it is no reply with status 200 to one request.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<(), Fault> {
        if !matches!(self.state, State::Head) {
            return self.take_body(input);
        }
        self.head.extend_from_slice(input);
        let Some(head) = Head::read(&self.head) else { return Ok(()) };
        match head.status() {
            Some(200) => {}
            Some(status) => return Err(Fault::Refused(status)),
            None => return Err(damaged("no status line")),
        }
        self.close = head.close;
        self.state = match (head.chunked, head.length) {
            (true, None) => State::Chunked(Chunk::Size(0)),
            (false, Some(0)) => State::Whole,
            (false, Some(length)) => State::Counted(length),
            _ => return Err(damaged("neither one length nor chunks")),
        };
        let size = head.size;
        let rest = self.head.split_off(size);
        self.take_body(&rest)
    }

    fn take_body(&mut self, mut input: &[u8]) -> Result<(), Fault> {
        while let Some(first) = input.first() {
            input = match &mut self.state {
                State::Head | State::Whole => return Err(damaged("bytes after the end of a reply")),
                State::Counted(left) => {
                    let (now, later) = input.split_at(input.len().min(*left));
                    self.body.extend_from_slice(now);
                    *left -= now.len();
                    if *left == 0 {
                        self.state = State::Whole;
                    }
                    later
                }
                State::Chunked(Chunk::Data(left)) => {
                    let (now, later) = input.split_at(input.len().min(*left));
                    self.body.extend_from_slice(now);
                    *left -= now.len();
                    if *left == 0 {
                        self.state = State::Chunked(Chunk::DataReturn);
                    }
                    later
                }
                State::Chunked(chunk) => {
                    self.state = chunk.next(*first)?.map_or(State::Whole, State::Chunked);
                    input.get(1..).unwrap_or_default()
                }
            };
        }
        Ok(())
    }
}

impl Chunk {
    /// What follows after a byte of the framing; `None` after the last.
    fn next(self, byte: u8) -> Result<Option<Self>, Fault> {
        let next = match (self, byte) {
            (Self::Size(size), byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default() as usize;
                Self::Size(size.checked_mul(16).ok_or_else(|| damaged("an endless chunk"))? + digit)
            }
            (Self::Size(size), b';') => Self::Extension(size),
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeEnd(0), b'\n') => Self::Trailer(0),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::Trailer(0), b'\n') => return Ok(None),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(length), b'\r') => Self::Trailer(length),
            (Self::Trailer(length), _) => Self::Trailer(length + 1),
            _ => return Err(damaged("the chunks are out of step")),
        };
        Ok(Some(next))
    }
}

fn damaged(why: &str) -> Fault {
    Fault::Damaged(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\na: b\r\n\r\n";

    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), Fault> {
        let mut reply = Incoming::new();
        for piece in pieces {
            reply.take(piece)?;
        }
        Ok((reply.body.clone(), reply.is_whole()))
    }

    #[test]
    fn replies_are_read_however_they_are_split() {
        for reply in [COUNTED, CHUNKED] {
            for at in 0..=reply.len() {
                let (one, two) = reply.split_at(at);
                assert_eq!(read(&[one, two]), Ok((b"hello".to_vec(), true)), "split at {at}");
            }
        }
    }

    #[test]
    fn a_reply_that_is_cut_is_not_whole() {
        for reply in [COUNTED, CHUNKED] {
            let (most, _) = reply.split_at(reply.len() - 1);
            assert!(!read(&[most]).unwrap().1);
        }
    }

    #[test]
    fn a_second_reply_is_damage() {
        assert!(matches!(read(&[COUNTED, b"H"]), Err(Fault::Damaged(_))));
        assert!(matches!(read(&[CHUNKED, b"H"]), Err(Fault::Damaged(_))));
    }

    #[test]
    fn bad_framing_is_damage() {
        let bad: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ];
        for reply in bad {
            assert!(matches!(read(&[reply]), Err(Fault::Damaged(_))), "{reply:?}");
        }
    }

    #[test]
    fn an_error_reply_is_told_by_its_status() {
        assert_eq!(read(&[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"]), Err(Fault::Refused(502)));
    }
}
