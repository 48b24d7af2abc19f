//! Server-sent events, as the WHATWG HTML standard has them (§9.2.6), on bytes.
//!
//! Three readers of growing price: [`Blocks`] only finds where events end, [`Event::read`] reads one whole event, and
//! [`Reader`] turns chunks cut anywhere into events. All take LF, CR and CRLF, mixed. `id` and `retry` are ignored:
//! no LLM API uses them.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;

/// The largest event a [`Reader`] takes unless told otherwise, in bytes: image parts and signatures run to megabytes.
pub const LIMIT: usize = 16 << 20;

/// The UTF-8 byte order mark, which may begin a stream.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of `event`; empty if there was none.
    pub name: Cow<'a, [u8]>,
    /// The values of `data`, joined by LF.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Event<'a> {
    /// Reads the event in `block`, which is everything from the end of one blank line to the end of the next (or to
    /// the end of the stream). Nothing is copied unless the event has several `data` lines.
    ///
    /// Returns nothing where the block has no `data`: a comment, a lone `event`, a blank line.
    pub fn read(block: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::default();
        let mut rest = block.strip_prefix(BOM).unwrap_or(block);
        while !rest.is_empty() {
            let (line, next) = match memchr2(b'\n', b'\r', rest) {
                Some(end) => rest.split_at(end),
                None => (rest, [].as_slice()),
            };
            fields.line(line, Cow::Borrowed);
            rest = next.strip_prefix(b"\r\n").unwrap_or_else(|| next.get(1..).unwrap_or_default());
        }
        fields.take()
    }
}

// === Blocks ===

/// Finds the ends of events in a stream that is cut anywhere, in constant memory.
#[derive(Debug, Default)]
pub struct Blocks(Place);

/// Where the byte after the last one seen would stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the start of an event.
    #[default]
    Event,
    /// At the start of a line inside an event.
    Line,
    /// Inside a line.
    Inside,
    /// After a CR that ended a line inside an event; an LF would belong to it.
    LineCr,
    /// After a CR that ended an event; an LF would belong to it.
    EventCr,
}

impl Blocks {
    /// Whether the bytes seen so far end between two events, and no LF can come that belongs to the last one.
    pub fn at_boundary(&self) -> bool {
        self.0 == Place::Event
    }

    /// Whether `bytes`, the next of the stream, begin with the LF of a line end whose CR ended the last event.
    /// To be asked once, before [`Self::end`], which must then be asked from offset 1.
    pub fn owes_lf(&mut self, bytes: &[u8]) -> bool {
        let (Place::EventCr, Some(first)) = (self.0, bytes.first()) else { return false };
        self.0 = Place::Event;
        *first == b'\n'
    }

    /// The end of the event that `bytes` go on with at offset `at`: the offset after its blank line. Returns nothing
    /// where it does not end in `bytes`.
    pub fn end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            if self.0 == Place::LineCr {
                self.0 = Place::Line;
                if rest.first() == Some(&b'\n') {
                    at += 1;
                    continue;
                }
            }
            let Some(line) = memchr2(b'\n', b'\r', rest) else {
                self.0 = Place::Inside;
                return None;
            };
            let blank = line == 0 && self.0 != Place::Inside;
            at += line + 1;
            self.0 = if blank { Place::Event } else { Place::Line };
            if rest.get(line) == Some(&b'\r') {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.0 = if blank { Place::EventCr } else { Place::LineCr },
                }
            }
            if blank {
                return Some(at);
            }
        }
    }
}

// === Reader ===

/// Turns a stream cut anywhere into events. An event that lies within one pushed piece is borrowed from it.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    start: Start,
    /// Whether the last byte was a CR, so that an LF would belong to it.
    after_cr: bool,
    /// The line begun in earlier pieces.
    line: Vec<u8>,
    fields: Fields<'static>,
}

/// Whether a byte order mark may still come.
#[derive(Debug)]
enum Start {
    /// This many of its bytes have come.
    Bom(usize),
    Over,
}

/// An event or a line is larger than the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The bound, in bytes.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server-sent event is larger than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

impl Default for Reader {
    fn default() -> Self {
        Self::new(LIMIT)
    }
}

impl Reader {
    /// A reader at the start of a stream that takes events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, start: Start::Bom(0), after_cr: false, line: Vec::new(), fields: Fields::default() }
    }

    /// Reads the next piece of the stream and tells of each event that ends in it.
    ///
    /// # Errors
    ///
    /// [`TooLong`] where a line or an event is over the bound. The reader is of no use after that.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(Event<'_>)) -> Result<(), TooLong> {
        let mut rest = self.skip_bom(bytes);
        let mut fields = std::mem::take(&mut self.fields);
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                break;
            };
            let (tail, next) = rest.split_at(end);
            self.after_cr = next.first() == Some(&b'\r');
            rest = next.get(1..).unwrap_or_default();
            self.check(fields.len() + self.line.len() + tail.len())?;
            if self.line.is_empty() {
                fields.line(tail, Cow::Borrowed);
                if tail.is_empty()
                    && let Some(event) = fields.take()
                {
                    tell(event);
                }
            } else {
                self.line.extend_from_slice(tail);
                fields.line(&self.line, |value| Cow::Owned(value.to_vec()));
                self.line.clear();
            }
        }
        self.fields = fields.into_owned();
        self.check(self.fields.len() + self.line.len())
    }

    /// Ends the stream. The standard drops an event without its blank line; here it is told if its data are `[DONE]`
    /// or whole JSON, because some servers leave the last blank line out.
    pub fn finish(mut self, tell: &mut impl FnMut(Event<'_>)) {
        if !self.line.is_empty() {
            self.fields.line(&self.line, |value| Cow::Owned(value.to_vec()));
        }
        if let Some(event) = self.fields.take()
            && is_whole(&event.data)
        {
            tell(event);
        }
    }

    /// `bytes` without what of them belongs to a byte order mark at the start of the stream.
    fn skip_bom<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Start::Bom(seen) = self.start else { return bytes };
        let wanted = BOM.get(seen..).unwrap_or_default();
        let matching = wanted.iter().zip(bytes).take_while(|(wanted, byte)| wanted == byte).count();
        if matching == bytes.len() && matching < wanted.len() {
            self.start = Start::Bom(seen + matching);
            return &[];
        }
        self.start = Start::Over;
        if matching == wanted.len() {
            return bytes.get(matching..).unwrap_or_default();
        }
        // It only began like one: those bytes are the start of the first line.
        self.line.extend_from_slice(BOM.get(..seen).unwrap_or_default());
        bytes
    }

    fn check(&self, len: usize) -> Result<(), TooLong> {
        if len > self.limit { Err(TooLong { limit: self.limit }) } else { Ok(()) }
    }
}

/// Whether the data of an event that was cut off by the end of the stream are complete all the same.
pub fn is_whole(data: &[u8]) -> bool {
    data == b"[DONE]" || serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

/// The fields of an event that has begun.
#[derive(Debug, Default)]
struct Fields<'a> {
    name: Cow<'a, [u8]>,
    data: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    /// Takes in one line, without its end. `keep` makes a piece of the line last as long as the fields.
    fn line<'b>(&mut self, line: &'b [u8], keep: impl Fn(&'b [u8]) -> Cow<'a, [u8]>) {
        let (name, value) = match memchr(b':', line) {
            Some(colon) => {
                let value = line.get(colon + 1..).unwrap_or_default();
                (line.get(..colon).unwrap_or_default(), value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, [].as_slice()),
        };
        match (name, &mut self.data) {
            (b"data", None) => self.data = Some(keep(value)),
            (b"data", Some(data)) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            (b"event", _) => self.name = keep(value),
            _ => {}
        }
    }

    /// The event, if there is one, on a blank line. The fields are empty afterwards.
    fn take(&mut self) -> Option<Event<'a>> {
        let name = std::mem::take(&mut self.name);
        self.data.take().map(|data| Event { name, data })
    }

    fn len(&self) -> usize {
        self.name.len() + self.data.as_ref().map_or(0, |data| data.len())
    }

    fn into_owned(self) -> Fields<'static> {
        Fields {
            name: Cow::Owned(self.name.into_owned()),
            data: self.data.map(|data| Cow::Owned(data.into_owned())),
        }
    }
}

// === Writer ===

/// Appends an event. `data` should be one line; where it is not, each of its lines becomes a `data` line.
///
/// The rules that keep every SDK's reader content: LF only, no `id`, no `retry`, never an event without data.
pub fn event(out: &mut Vec<u8>, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend(name.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        out.push(b'\n');
    }
    let mut rest = data;
    loop {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, next) = rest.split_at(end);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        if next.is_empty() {
            break;
        }
        rest = next.strip_prefix(b"\r\n").unwrap_or_else(|| next.get(1..).unwrap_or_default());
    }
    out.push(b'\n');
}

/// Appends a comment, which every reader skips. Line ends in `text` become spaces.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Told = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(pieces: &[&[u8]]) -> Told {
        let mut told = Vec::new();
        let mut tell = |event: Event<'_>| told.push((event.name.to_vec(), event.data.to_vec()));
        let mut reader = Reader::default();
        for piece in pieces {
            reader.push(piece, &mut tell).unwrap();
        }
        reader.finish(&mut tell);
        told
    }

    fn events(list: &[(&str, &str)]) -> Told {
        list.iter().map(|(name, data)| (name.as_bytes().to_vec(), data.as_bytes().to_vec())).collect()
    }

    /// The text with the ends of its events marked, found piece by piece.
    fn ends(pieces: &[&[u8]]) -> Vec<usize> {
        let (mut blocks, mut before, mut found) = (Blocks::default(), 0, Vec::new());
        for piece in pieces {
            let mut at = 0;
            if blocks.owes_lf(piece) {
                at = 1;
                *found.last_mut().unwrap() += 1;
            }
            while let Some(end) = blocks.end(piece, at) {
                found.push(before + end);
                at = end;
            }
            before += piece.len();
        }
        found
    }

    #[test]
    fn the_standard_is_followed() {
        for (stream, expected) in [
            ("data: a\n\n", vec![("", "a")]),
            ("data:a\n\ndata:  b\n\n", vec![("", "a"), ("", " b")]),
            ("event: x\ndata: a\n\ndata: b\n\n", vec![("x", "a"), ("", "b")]),
            ("data: a\r\rdata: b\r\n\r\ndata: c\n\r\n", vec![("", "a"), ("", "b"), ("", "c")]),
            ("data: a\ndata: b\ndata\ndata:\n\n", vec![("", "a\nb\n\n")]),
            ("data\n\n", vec![("", "")]),
            (": note\n\nevent: x\n\ndata: a\n\n", vec![("", "a")]),
            ("id: 7\nretry: 5\nfoo: bar\ndata: a\nDATA: b\n data: c\n\n", vec![("", "a")]),
            ("\n\n\r\n\rdata: a\n\n\n", vec![("", "a")]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", vec![("", "a")]),
            ("event: x\nevent: y\ndata: a:b: c\n\n", vec![("y", "a:b: c")]),
            ("event\ndata: a\n\n", vec![("", "a")]),
        ] {
            assert_eq!(read(&[stream.as_bytes()]), events(&expected), "{stream:?}");
        }
    }

    #[test]
    fn the_last_blank_line_may_be_missing() {
        assert_eq!(read(&[b"data: {\"a\":1}"]), events(&[("", "{\"a\":1}")]));
        assert_eq!(read(&[b"data: {\"a\":1}\n"]), events(&[("", "{\"a\":1}")]));
        assert_eq!(read(&[b"data: {}\n\ndata: [DONE]\r"]), events(&[("", "{}"), ("", "[DONE]")]));
        assert_eq!(read(&[b"data: {\"a\":"]), events(&[]));
        assert_eq!(read(&[b"event: x\n"]), events(&[]));
    }

    #[test]
    fn every_split_point_gives_the_same_events() {
        let streams = [
            "\u{feff}: hi\r\n\r\nevent: x\r\ndata: {\"é\":\r\ndata: 1}\r\n\r\ndata: [DONE]\r\n\r\n",
            "data: a\n\ndata: b\n\n: c\n\n\ndata: {}",
            "data: a\r\rdata: b\n\r\ndata\r\n\n",
            "\u{feff}data: a\n\n",
            "\u{fee0}data: a\n\n",
        ];
        for stream in streams {
            let bytes = stream.as_bytes();
            let (whole, whole_ends) = (read(&[bytes]), ends(&[bytes]));
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(read(&pieces), whole, "{pieces:?}");
                    assert_eq!(ends(&pieces), whole_ends, "{pieces:?}");
                }
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&single), whole);
            assert_eq!(ends(&single), whole_ends);
        }
    }

    #[test]
    fn a_whole_event_is_borrowed() {
        let bytes = b"event: x\ndata: hello\n\n";
        let mut reader = Reader::default();
        let mut seen = 0;
        let mut tell = |event: Event<'_>| {
            seen += 1;
            assert!(matches!((event.name, event.data), (Cow::Borrowed(b"x"), Cow::Borrowed(b"hello"))));
        };
        reader.push(bytes, &mut tell).unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let push = |limit, pieces: &[&[u8]]| {
            let mut reader = Reader::new(limit);
            pieces.iter().try_for_each(|piece| reader.push(piece, &mut |_| ()))
        };
        let long = Err(TooLong { limit: 10 });
        assert_eq!(push(10, &[b"data: 1234\n\n", b"data: 1234\n\n"]), Ok(()));
        assert_eq!(push(10, &[b"data: 123456\n\n"]), long);
        assert_eq!(push(10, &[b"data:", b" 1234", b"56"]), long);
        assert_eq!(push(10, &[b"data:1\n", b"data:2\n", b"data:3\n", b"data:4\n", b"data:5\n"]), long);
    }

    #[test]
    fn the_blank_line_is_complete_before_anything_goes_between() {
        let mut blocks = Blocks::default();
        assert!(blocks.at_boundary());
        assert_eq!(blocks.end(b"data: a\r\n\r", 0), Some(10));
        assert!(!blocks.at_boundary());
        assert!(blocks.owes_lf(b"\n"));
        assert!(blocks.at_boundary());
        assert_eq!(blocks.end(b"\ndata", 1), None);
        assert!(!blocks.at_boundary());
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        comment(&mut out, "keep\nalive");
        event(&mut out, None, b"[DONE]");
        event(&mut out, Some("e\rx"), b"{\n\"a\":1\r\n}");
        assert_eq!(
            out,
            b": keep alive\n\ndata: [DONE]\n\nevent: ex\ndata: {\ndata: \"a\":1\ndata: }\n\n".as_slice()
        );
        assert_eq!(read(&[&out]), events(&[("", "[DONE]"), ("ex", "{\n\"a\":1\n}")]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn split_equals_whole(stream in "(\u{feff})?(data|event|:|id| |:|x|\\{\\}|\r|\n|\r\n|é){0,40}", size in 1..9usize) {
            let bytes = stream.as_bytes();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(read(&pieces), read(&[bytes]));
            prop_assert_eq!(ends(&pieces), ends(&[bytes]));
        }

        #[test]
        fn reading_block_by_block_equals_reading_the_stream(stream in "((data|event)(: ?[a-z]{0,3})?(\r|\n|\r\n){1,2}){0,12}") {
            let bytes = stream.as_bytes();
            let mut told = Vec::new();
            let mut start = 0;
            for end in ends(&[bytes]) {
                let event = Event::read(&bytes[start..end]);
                told.extend(event.map(|event| (event.name.into_owned(), event.data.into_owned())));
                start = end;
            }
            let last = Event::read(&bytes[start..]).filter(|event| is_whole(&event.data));
            told.extend(last.map(|event| (event.name.into_owned(), event.data.into_owned())));
            prop_assert_eq!(told, read(&[bytes]));
        }

        #[test]
        fn any_event_survives_writing(name in "[a-z._]{1,9}", data in "[^\r]{0,30}") {
            let mut out = Vec::new();
            event(&mut out, Some(&name), data.as_bytes());
            prop_assert_eq!(read(&[&out]), events(&[(&name, &data)]));
        }
    }
}
