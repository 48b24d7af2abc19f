//! Chunked bodies, read as strictly as heads (RFC 9112 §7.1).
//!
//! [`Chunks`] follows a body on its way. It finds the exact end, so that what is sent behind it is left for the next
//! message, and whatever two servers could read in two ways is a fault. Extensions and trailers are bounded and then
//! ignored: nothing beyond here ever sees them.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// A 64-bit size has no more digits.
const DIGITS: u8 = 16;
/// Bytes of extensions in all of a body. Nobody is known to send any.
const EXTENSIONS: usize = 8 << 10;
/// Bytes of the trailer section.
const TRAILERS: usize = 8 << 10;

/// Why a body is not well chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not what the standard allows.
    Malformed(&'static str),
    /// Its trailer section is over its bound.
    Trailers,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) => why,
            Self::Trailers => "the trailer section is too large",
        })
    }
}

impl std::error::Error for Fault {}

/// A chunked body, followed up to some byte.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    place: Place,
    extensions: usize,
    trailers: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A digit of a chunk's size, or what may follow the digits there are.
    Size { size: u64, digits: u8 },
    /// Blanks behind a size.
    Blank { size: u64 },
    /// More of an extension.
    Extension { size: u64 },
    /// The LF of a line with a size.
    SizeEnd { size: u64 },
    /// This many bytes of data.
    Data(u64),
    /// The CR behind the data.
    DataCr,
    /// The LF behind the data.
    DataLf,
    /// A trailer field, or the CR of the line that ends the body.
    Trailer,
    /// More of a trailer field's name.
    Name,
    /// More of a trailer field's value.
    Value,
    /// The LF of a trailer field.
    TrailerLf,
    /// The last LF.
    LastLf,
    /// The next request.
    End,
}

impl Chunks {
    /// A body of which nothing has come.
    pub fn begin() -> Self {
        Self { place: Place::Size { size: 0, digits: 0 }, extensions: 0, trailers: 0 }
    }

    /// Whether the whole body has come.
    pub fn ended(&self) -> bool {
        self.place == Place::End
    }

    /// Follows the body through `bytes`. Says how many of them belong to it: all, unless it ends before.
    ///
    /// # Errors
    /// A [`Fault`]: the connection must be closed.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while !self.ended() && at < bytes.len() {
            let (framing, data) = self.step(bytes.get(at..).unwrap_or_default())?;
            at += framing + data;
        }
        Ok(at)
    }

    /// Takes the data out of `input`, as far as it has come, in one piece; what follows the body is left there. The
    /// piece is empty where no data has come, or none is to come.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Bytes, Fault> {
        let (framing, mut end) = self.step(input)?;
        input.advance(framing);
        let mut read = end;
        // Chunks that came together leave together: their data moves up over the framing in between.
        while !self.ended() && read < input.len() {
            let before = *self;
            let Ok((framing, data)) = self.step(input.get(read..).unwrap_or_default()) else {
                // What came before the fault is given out first.
                *self = before;
                break;
            };
            input.copy_within(read + framing..read + framing + data, end);
            (read, end) = (read + framing + data, end + data);
        }
        let data = input.split_to(end);
        input.advance(read - end);
        Ok(if data.is_empty() { Bytes::new() } else { data.freeze() })
    }

    /// Follows `bytes` through framing up to data, and through that. Says how many bytes each takes.
    fn step(&mut self, bytes: &[u8]) -> Result<(usize, usize), Fault> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self.place {
                Place::End => break,
                Place::Data(left) => {
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.place = match left - size as u64 {
                        0 => Place::DataCr,
                        left => Place::Data(left),
                    };
                    return Ok((at, size));
                }
                place => {
                    self.place = self.after(place, *byte)?;
                    at += 1;
                }
            }
        }
        Ok((at, 0))
    }

    /// The place after `byte`, which stands at `place`.
    fn after(&mut self, place: Place, byte: u8) -> Result<Place, Fault> {
        match place {
            Place::Size { .. } | Place::Blank { .. } | Place::Extension { .. } | Place::SizeEnd { .. } => {
                self.after_size(place, byte)
            }
            Place::DataCr if byte == b'\r' => Ok(Place::DataLf),
            Place::DataLf if byte == b'\n' => Ok(Place::Size { size: 0, digits: 0 }),
            Place::DataCr | Place::DataLf => Err(bad("a chunk of the body is not as long as it says")),
            _ => self.after_trailer(place, byte),
        }
    }

    /// Within the line that begins a chunk.
    fn after_size(&mut self, place: Place, byte: u8) -> Result<Place, Fault> {
        match (place, byte) {
            (Place::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Place::Size { digits: 0, .. }, _) => Err(bad("a chunk of the body has no size")),
            (Place::Size { size, .. } | Place::Blank { size } | Place::Extension { size }, b'\r') => {
                Ok(Place::SizeEnd { size })
            }
            (Place::Size { size, .. } | Place::Blank { size }, b' ' | b'\t') => {
                self.count_extension()?;
                Ok(Place::Blank { size })
            }
            (Place::Size { size, .. } | Place::Blank { size }, b';') => Ok(Place::Extension { size }),
            (Place::Extension { size }, byte) if is_text(byte) => {
                self.count_extension()?;
                Ok(Place::Extension { size })
            }
            (Place::Extension { .. }, _) => Err(bad("a chunk extension has a control character")),
            (Place::SizeEnd { size: 0 }, b'\n') => Ok(Place::Trailer),
            (Place::SizeEnd { size }, b'\n') => Ok(Place::Data(size)),
            _ => Err(bad("a chunk of the body has a malformed size")),
        }
    }

    /// Behind the last chunk.
    fn after_trailer(&mut self, place: Place, byte: u8) -> Result<Place, Fault> {
        self.trailers += 1;
        if self.trailers > TRAILERS {
            return Err(Fault::Trailers);
        }
        match (place, byte) {
            (Place::Trailer, b'\r') => Ok(Place::LastLf),
            (Place::LastLf, b'\n') => Ok(Place::End),
            (Place::Trailer | Place::Name, byte) if super::http1::is_token(byte) => Ok(Place::Name),
            (Place::Name, b':') => Ok(Place::Value),
            (Place::Value, b'\r') => Ok(Place::TrailerLf),
            (Place::Value, byte) if is_text(byte) => Ok(Place::Value),
            (Place::TrailerLf, b'\n') => Ok(Place::Trailer),
            _ => Err(bad("the trailer section is malformed")),
        }
    }

    fn count_extension(&mut self) -> Result<(), Fault> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS {
            return Err(bad("the chunk extensions are too large"));
        }
        Ok(())
    }
}

fn bad(why: &'static str) -> Fault {
    Fault::Malformed(why)
}

/// What may stand in a line: anything but control characters.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes the body takes of these; `None` if it goes on.
    fn follow(bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let mut chunks = Chunks::begin();
        let size = chunks.advance(bytes)?;
        assert!(chunks.ended() || size == bytes.len());
        Ok(chunks.ended().then_some(size))
    }

    #[test]
    fn the_end_is_found_to_the_byte() {
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
            "3 \t\r\nabc\r\n0\r\n\r\n",
            "3;\r\nabc\r\n0;a=\"b\r\n\r\n",
            "3 ; a=b;c\r\nabc\r\n0\r\nX-A: b\r\nContent-Length:5\r\n\r\n",
        ] {
            assert_eq!(follow(body.as_bytes()), Ok(Some(body.len())), "{body:?}");
            let ahead = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(follow(ahead.as_bytes()), Ok(Some(body.len())), "{body:?}");
            assert_eq!(follow(&body.as_bytes()[..body.len() - 1]), Ok(None), "{body:?}");
        }
    }

    #[test]
    fn every_split_gives_the_same() {
        let body = b"3;x\r\nabc\r\n0b \r\n0123456789a\r\n0\r\nX: y\r\n\r\nGET";
        for split in 0..body.len() {
            let (first, second) = body.split_at(split);
            let mut chunks = Chunks::begin();
            let taken = chunks.advance(first).unwrap() + chunks.advance(second).unwrap();
            assert_eq!((taken, chunks.ended()), (body.len() - 3, true), "{split}");
        }
    }

    #[test]
    fn the_data_is_the_same_at_every_split_and_what_follows_stays() {
        let body = b"3;x\r\nabc\r\n0b \r\n0123456789a\r\n1\r\nZ\r\n0\r\nX: y\r\n\r\nGET";
        for split in 0..=body.len() {
            let (mut chunks, mut input, mut data) = (Chunks::begin(), BytesMut::new(), Vec::new());
            for part in [&body[..split], &body[split..]] {
                input.extend_from_slice(part);
                data.extend_from_slice(&chunks.take(&mut input).unwrap());
            }
            assert!(chunks.ended());
            assert_eq!((&data[..], &input[..]), (&b"abc0123456789aZ"[..], &b"GET"[..]), "{split}");
        }
    }

    #[test]
    fn chunks_that_come_together_leave_together() {
        let (mut chunks, mut input) = (Chunks::begin(), BytesMut::from(&b"1\r\na\r\n2\r\nbc\r\n5\r\nde"[..]));
        assert_eq!(chunks.take(&mut input).unwrap(), "abcde");
        assert!(input.is_empty());
        input.extend_from_slice(b"fgh\r\n0\r\n\r\n");
        assert_eq!(chunks.take(&mut input).unwrap(), "fgh");
        assert!(chunks.ended());
    }

    #[test]
    fn what_came_before_a_fault_is_given_out() {
        let (mut chunks, mut input) = (Chunks::begin(), BytesMut::from(&b"2\r\nab\r\n1\r\nc\r\nzz\r\n"[..]));
        assert_eq!(chunks.take(&mut input).unwrap(), "abc");
        assert!(chunks.take(&mut input).is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for body in [
            "\r\nabc\r\n0\r\n\r\n",
            "x\r\n",
            " 3\r\nabc\r\n",
            "+3\r\n",
            "-3\r\n",
            "0x3\r\n",
            "0_3\r\n",
            "3 3\r\n",
            "3\nabc",
            "3\r\rabc",
            "3;a\nb\r\n",
            "3;a\0\r\n",
            "3;a\rb\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc0\r\n\r\n",
            "10000000000000003\r\n",
            "00000000000000003\r\n",
            "0\n\n",
            "0\r\n\n",
            "0\r\nX\r\n\r\n",
            "0\r\n: a\r\n\r\n",
            "0\r\nX : a\r\n\r\n",
            "0\r\nX: a\n\r\n",
            "0\r\nX: a\r\n b\r\n\r\n",
            "0\r\nX: \x01\r\n\r\n",
        ] {
            assert!(matches!(follow(body.as_bytes()), Err(Fault::Malformed(_))), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded_over_the_whole_body() {
        let one = "1;aaaaaaaaa\r\nx\r\n";
        assert_eq!(follow(one.repeat(EXTENSIONS / 9).as_bytes()), Ok(None));
        assert!(matches!(follow(one.repeat(EXTENSIONS / 9 + 1).as_bytes()), Err(Fault::Malformed(_))));
        assert_eq!(follow(format!("0\r\nX: {}", "a".repeat(TRAILERS - 3)).as_bytes()), Ok(None));
        assert_eq!(follow(format!("0\r\nX: {}", "a".repeat(TRAILERS - 2)).as_bytes()), Err(Fault::Trailers));
    }

    #[test]
    fn a_size_of_sixteen_digits_does_not_overflow() {
        let mut chunks = Chunks::begin();
        assert_eq!(chunks.advance(b"ffffffffffffffff\r\nabc").unwrap(), 21);
        assert_eq!(chunks.place, Place::Data(u64::MAX - 3));
    }
}
