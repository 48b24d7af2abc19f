//! AWS event streams (`application/vnd.amazon.eventstream`), on bytes.
//!
//! A message, all numbers big-endian:
//!
//! ```text
//! u32 length of it all │ u32 length of the headers │ u32 CRC of these 8 bytes │ headers │ payload │ u32 CRC of it all
//! ```
//!
//! A header is `u8 length, name, u8 type, value`. Both sums are CRC-32 as zlib has it. A message whose sums do not hold
//! is never told: after it nothing says where the next one begins, so the stream is over.
//!
//! Source: the "Event Stream Encoding" pages of the Amazon Transcribe and S3 guides; the bounds are botocore's.

use std::fmt;

use crc32fast::hash;

/// The largest payload a [`Reader`] takes unless told otherwise, and the largest that is written, in bytes.
pub const PAYLOAD: usize = 24 << 20;
/// The most that the headers of a message take, in bytes.
pub const HEADERS: usize = 128 << 10;

/// The two lengths and their sum.
const PRELUDE: usize = 12;
/// What a message has beside headers and payload: the prelude and the sum at its end.
const FRAME: usize = PRELUDE + 4;

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it is: `:message-type`, `:event-type`, `:content-type` and the like.
    pub headers: Headers<'a>,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The headers of a message, which were read once and found whole.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(&'a [u8]);

/// The value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Types 0 (true) and 1 (false).
    Bool(bool),
    /// Type 2.
    Byte(i8),
    /// Type 3.
    Short(i16),
    /// Type 4.
    Integer(i32),
    /// Type 5.
    Long(i64),
    /// Type 6.
    Bytes(&'a [u8]),
    /// Type 7.
    Text(&'a str),
    /// Type 8: milliseconds since 1970.
    Timestamp(i64),
    /// Type 9.
    Uuid([u8; 16]),
}

impl<'a> Headers<'a> {
    /// Every header, in the order they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, value, next) = header(rest).ok()?;
            rest = next;
            Some((name, value))
        })
    }

    /// The header of that name; the first of them if there are several.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The header of that name, if it is text.
    pub fn text(self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

// === Fault ===

/// A stream that is no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where the part at fault begins, in bytes from the start of the stream.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sum over the two lengths does not hold.
    Prelude,
    /// The sum over the message does not hold.
    Checksum,
    /// The lengths contradict each other: this many bytes are too few for the headers announced.
    Length(u32),
    /// The headers take more than [`HEADERS`].
    Headers(u32),
    /// The payload is over the reader's bound.
    Payload {
        /// What was announced.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A header is not whole or not of the format.
    Header(&'static str),
    /// The stream ended inside the message.
    Truncated,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event stream is broken at byte {}: ", self.offset)?;
        match self.fault {
            Fault::Prelude => f.write_str("the lengths do not match their checksum"),
            Fault::Checksum => f.write_str("the message does not match its checksum"),
            Fault::Length(length) => write!(f, "a message of {length} bytes cannot hold its headers"),
            Fault::Headers(length) => write!(f, "headers of {length} bytes are over {HEADERS}"),
            Fault::Payload { length, limit } => write!(f, "a payload of {length} bytes is over {limit}"),
            Fault::Header(why) => write!(f, "a header {why}"),
            Fault::Truncated => f.write_str("it ends inside a message"),
        }
    }
}

impl std::error::Error for Broken {}

// === Reader ===

/// Turns a stream cut anywhere into messages. A message that lies within one pushed piece is borrowed from it.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    /// Where the current message begins.
    offset: u64,
    /// The message begun in earlier pieces.
    held: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(PAYLOAD)
    }
}

impl Reader {
    /// A reader at the start of a stream that takes payloads of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, offset: 0, held: Vec::new() }
    }

    /// Reads the next piece of the stream and tells of each message that ends in it.
    ///
    /// # Errors
    ///
    /// [`Broken`] says where and why the stream cannot be read on. The messages before it were told; the reader is of
    /// no use after that.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(Message<'_>)) -> Result<(), Broken> {
        let mut rest = bytes;
        while !self.held.is_empty() && !rest.is_empty() {
            let missing = self.wanted(&self.held)?.saturating_sub(self.held.len());
            let (now, later) = rest.split_at(missing.min(rest.len()));
            self.held.extend_from_slice(now);
            rest = later;
            if self.wanted(&self.held)? == self.held.len() {
                let held = std::mem::take(&mut self.held);
                self.tell(&held, tell)?;
            }
        }
        while !rest.is_empty() {
            let wanted = self.wanted(rest)?;
            let Some((message, next)) = rest.split_at_checked(wanted) else {
                self.held.extend_from_slice(rest);
                break;
            };
            self.tell(message, tell)?;
            rest = next;
        }
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`] where it ended inside a message.
    pub fn finish(self) -> Result<(), Broken> {
        if self.held.is_empty() {
            return Ok(());
        }
        Err(self.broken(0, Fault::Truncated))
    }

    /// How many bytes the message that begins with `bytes` has, or its prelude where even that is not whole.
    fn wanted(&self, bytes: &[u8]) -> Result<usize, Broken> {
        let Some(([total, headers, sum], _)) = words(bytes) else { return Ok(PRELUDE) };
        if hash(bytes.get(..8).unwrap_or_default()) != sum {
            return Err(self.broken(8, Fault::Prelude));
        }
        let (length, wanted) = (headers as usize, total as usize);
        if length > HEADERS {
            return Err(self.broken(4, Fault::Headers(headers)));
        }
        match wanted.checked_sub(FRAME + length) {
            None => Err(self.broken(0, Fault::Length(total))),
            Some(length) if length > self.limit => {
                Err(self.broken(0, Fault::Payload { length, limit: self.limit }))
            }
            Some(_) => Ok(wanted),
        }
    }

    /// Checks a whole message and tells of it.
    fn tell(&mut self, bytes: &[u8], tell: &mut impl FnMut(Message<'_>)) -> Result<(), Broken> {
        let end = bytes.len().saturating_sub(4);
        let (summed, sum) = bytes.split_at(end);
        if sum != hash(summed).to_be_bytes() {
            return Err(self.broken(end, Fault::Checksum));
        }
        let Some(([_, length, _], body)) = words(summed) else {
            return Err(self.broken(0, Fault::Truncated));
        };
        let (headers, payload) = body.split_at(body.len().min(length as usize));
        check(headers).map_err(|(at, why)| self.broken(PRELUDE + at, Fault::Header(why)))?;
        tell(Message { headers: Headers(headers), payload });
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn broken(&self, inside: usize, fault: Fault) -> Broken {
        Broken { offset: self.offset + inside as u64, fault }
    }
}

/// The three words that a message begins with, and what follows them.
fn words(bytes: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (prelude, rest) = bytes.split_first_chunk::<PRELUDE>()?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *prelude;
    let word = |bytes| u32::from_be_bytes(bytes);
    Some(([word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l])], rest))
}

/// Reads headers through. Says where the first is that is wrong, and how.
fn check(headers: &[u8]) -> Result<(), (usize, &'static str)> {
    let mut rest = headers;
    while !rest.is_empty() {
        let at = headers.len() - rest.len();
        (_, _, rest) = header(rest).map_err(|why| (at, why))?;
    }
    Ok(())
}

/// Reads the first header of `bytes`, and gives what follows it.
fn header(bytes: &[u8]) -> Result<(&str, Value<'_>, &[u8]), &'static str> {
    let (length, rest) = bytes.split_first().ok_or(CUT)?;
    let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(CUT)?;
    if name.is_empty() {
        return Err("has no name");
    }
    let name = str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    let (kind, rest) = rest.split_first().ok_or(CUT)?;
    let (value, rest) = value(*kind, rest)?;
    Ok((name, value, rest))
}

const CUT: &str = "is cut short";

fn value(kind: u8, bytes: &[u8]) -> Result<(Value<'_>, &[u8]), &'static str> {
    Ok(match kind {
        0 => (Value::Bool(true), bytes),
        1 => (Value::Bool(false), bytes),
        2 => fixed(bytes, |bytes| Value::Byte(i8::from_be_bytes(bytes)))?,
        3 => fixed(bytes, |bytes| Value::Short(i16::from_be_bytes(bytes)))?,
        4 => fixed(bytes, |bytes| Value::Integer(i32::from_be_bytes(bytes)))?,
        5 => fixed(bytes, |bytes| Value::Long(i64::from_be_bytes(bytes)))?,
        6 => {
            let (value, rest) = counted(bytes)?;
            (Value::Bytes(value), rest)
        }
        7 => {
            let (value, rest) = counted(bytes)?;
            (Value::Text(str::from_utf8(value).map_err(|_| "has a text that is not UTF-8")?), rest)
        }
        8 => fixed(bytes, |bytes| Value::Timestamp(i64::from_be_bytes(bytes)))?,
        9 => fixed(bytes, Value::Uuid)?,
        _ => return Err("has a type that does not exist"),
    })
}

/// Reads a value of a fixed size.
fn fixed<const N: usize>(
    bytes: &[u8],
    make: impl Fn([u8; N]) -> Value<'static>,
) -> Result<(Value<'static>, &[u8]), &'static str> {
    let (value, rest) = bytes.split_first_chunk::<N>().ok_or(CUT)?;
    Ok((make(*value), rest))
}

/// Reads a value that stands behind its length.
fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(CUT)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(CUT)
}

// === Cuts ===

/// Finds where messages end in a stream that passes, by their lengths alone. Neither headers nor the sum at the end of
/// a message are looked at.
#[derive(Debug, Default)]
pub struct Cuts(Place);

/// Where the byte after the last one seen would stand.
#[derive(Debug)]
enum Place {
    /// In the prelude, of which this much has come.
    Prelude([u8; PRELUDE], usize),
    /// This many bytes before the end of a message.
    Inside(usize),
    /// Nowhere that is known: a prelude did not hold.
    Lost,
}

impl Default for Place {
    fn default() -> Self {
        Self::Prelude([0; PRELUDE], 0)
    }
}

impl Cuts {
    /// Whether the bytes seen so far end between two messages.
    pub fn at_boundary(&self) -> bool {
        matches!(self.0, Place::Prelude(_, 0))
    }

    /// The end of the message that `bytes` go on with at offset `at`. Returns nothing where it does not end in `bytes`.
    pub fn end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            match &mut self.0 {
                Place::Lost => return None,
                Place::Inside(left) if *left > rest.len() => {
                    *left -= rest.len();
                    return None;
                }
                Place::Inside(left) => {
                    at += *left;
                    self.0 = Place::default();
                    return Some(at);
                }
                Place::Prelude(prelude, seen) => {
                    for (place, byte) in prelude.iter_mut().skip(*seen).zip(rest) {
                        (*place, *seen, at) = (*byte, *seen + 1, at + 1);
                    }
                    if *seen == PRELUDE {
                        self.0 = inside(prelude).map_or(Place::Lost, Place::Inside);
                    }
                }
            }
        }
    }
}

/// What a message has after its prelude; nothing if the prelude does not hold.
fn inside(prelude: &[u8; PRELUDE]) -> Option<usize> {
    let ([total, headers, sum], _) = words(prelude)?;
    let holds = hash(prelude.get(..8)?) == sum && total as usize >= FRAME + headers as usize;
    holds.then(|| total as usize - PRELUDE)
}

// === Writer ===

/// A message that the format has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// The name of a header is empty or over 255 bytes.
    Name,
    /// The value of a header is over 65,535 bytes.
    Value,
    /// The headers together are over [`HEADERS`].
    Headers,
    /// The payload is over [`PAYLOAD`].
    Payload,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("the name of an event-stream header must have 1 to 255 bytes"),
            Self::Value => f.write_str("the value of an event-stream header is over 65535 bytes"),
            Self::Headers => write!(f, "the headers of an event-stream message are over {HEADERS} bytes"),
            Self::Payload => write!(f, "the payload of an event-stream message is over {PAYLOAD} bytes"),
        }
    }
}

impl std::error::Error for TooLarge {}

/// Appends a message.
///
/// # Errors
///
/// [`TooLarge`] names the part that does not fit; nothing is appended then.
pub fn message(out: &mut Vec<u8>, headers: &[(&str, Value<'_>)], payload: &[u8]) -> Result<(), TooLarge> {
    let start = out.len();
    let written = write(out, headers, payload);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write(out: &mut Vec<u8>, headers: &[(&str, Value<'_>)], payload: &[u8]) -> Result<(), TooLarge> {
    if payload.len() > PAYLOAD {
        return Err(TooLarge::Payload);
    }
    // The lengths are known only once the headers are written.
    let start = out.len();
    out.extend_from_slice(&[0; PRELUDE]);
    for (name, value) in headers {
        write_header(out, name, *value)?;
    }
    let length = out.len() - start - PRELUDE;
    if length > HEADERS {
        return Err(TooLarge::Headers);
    }
    let total = u32::try_from(FRAME + length + payload.len()).map_err(|_| TooLarge::Payload)?;
    let length = u32::try_from(length).map_err(|_| TooLarge::Headers)?;
    let lengths = (u64::from(total) << 32 | u64::from(length)).to_be_bytes();
    let prelude = lengths.into_iter().chain(hash(&lengths).to_be_bytes());
    for (place, byte) in out.iter_mut().skip(start).zip(prelude) {
        *place = byte;
    }
    out.extend_from_slice(payload);
    let sum = hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_be_bytes());
    Ok(())
}

fn write_header(out: &mut Vec<u8>, name: &str, value: Value<'_>) -> Result<(), TooLarge> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length > 0).ok_or(TooLarge::Name)?;
    out.push(length);
    out.extend_from_slice(name.as_bytes());
    match value {
        Value::Bool(value) => out.push(u8::from(!value)),
        Value::Byte(value) => tagged(out, 2, &value.to_be_bytes()),
        Value::Short(value) => tagged(out, 3, &value.to_be_bytes()),
        Value::Integer(value) => tagged(out, 4, &value.to_be_bytes()),
        Value::Long(value) => tagged(out, 5, &value.to_be_bytes()),
        Value::Bytes(value) => write_counted(out, 6, value)?,
        Value::Text(value) => write_counted(out, 7, value.as_bytes())?,
        Value::Timestamp(value) => tagged(out, 8, &value.to_be_bytes()),
        Value::Uuid(value) => tagged(out, 9, &value),
    }
    Ok(())
}

fn tagged(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend_from_slice(value);
}

fn write_counted(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), TooLarge> {
    let length = u16::try_from(value.len()).map_err(|_| TooLarge::Value)?;
    tagged(out, kind, &length.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests;
