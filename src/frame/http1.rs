//! The heads of HTTP/1.1 messages (RFC 9112).
//!
//! Reading one copies no value: each shares the bytes that the head was read into.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AsHeaderName, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

/// The most fields of a head that is read.
const FIELDS: usize = 256;

/// Which bytes a token is made of (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
            | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// Whether a token may hold this byte.
pub fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// The length of the head at the front of `bytes`, if its end is there. One that ends its lines with a bare LF is found
/// too, so that it is refused at once. What lies before `from` was looked through before.
pub fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    memchr::memchr_iter(b'\n', bytes.get(start..)?).find_map(|at| match bytes.get(start + at + 1..)? {
        [b'\n', ..] => Some(start + at + 2),
        [b'\r', b'\n', ..] => Some(start + at + 3),
        _ => None,
    })
}

/// What a read asks for: little where little comes, since what it is read into is held whole for as long as any of it is.
#[derive(Clone, Copy, Debug)]
pub struct Stride(usize);

impl Stride {
    /// The least, bytes.
    pub const LEAST: usize = 4 << 10;
    /// The most, bytes.
    const MOST: usize = 64 << 10;

    /// What the next read asks for, bytes.
    pub fn size(self) -> usize {
        self.0
    }

    /// So many bytes came.
    pub fn came(&mut self, size: usize) {
        if size >= self.0 {
            self.0 = (self.0 * 4).min(Self::MOST);
        } else if size < self.0 / 4 {
            self.0 = Self::LEAST;
        }
    }
}

impl Default for Stride {
    fn default() -> Self {
        Self(Self::LEAST)
    }
}

/// The fields of a head, in their order. There are few: looking through them is cheaper than a map.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// No fields yet.
    pub fn new() -> Self {
        Self(Vec::with_capacity(16))
    }

    /// The first field of that name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of the first field of that name; nothing where it is not ASCII.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Sets a field, in the place of any of that name.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.append(name, value),
        }
    }

    /// Keeps the fields whose names are wanted.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name.as_str()));
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Every value of the fields of that name.
    fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    }

    /// Writes every field with its line end.
    pub fn write(&self, out: &mut BytesMut) {
        for (name, value) in self.iter() {
            field(out, name.as_str(), value.as_bytes());
        }
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// Writes one field with its line end.
pub fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The head of a reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: Fields,
}

/// Where the body of a reply ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What a reply's head says of its body and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request after it.
    pub keep: bool,
}

impl Reply {
    /// A head without fields.
    pub fn new(status: u16) -> Self {
        Self { status, fields: Fields::new() }
    }

    /// Reads a whole head, which ends with its empty line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(head: &Bytes) -> Result<(Self, Terms), &'static str> {
        if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r')) {
            return Err("a line of its head ends without a CR");
        }
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let mut reply = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut reply,
            head,
            &mut fields,
        );
        if !matches!(parsed, Ok(httparse::Status::Complete(size)) if size == head.len()) {
            return Err("its head is malformed");
        }
        let fields = reply.headers.iter().map(|field| shared(head, field)).collect::<Option<_>>();
        let fields = fields.ok_or("its head has a malformed field")?;
        let status = reply.code.filter(|code| *code >= 100).ok_or("its status is none")?;
        let reply_head = Self { status, fields };
        let terms = reply_head.terms(reply.version == Some(1))?;
        Ok((reply_head, terms))
    }

    /// How the body of a reply to a POST or a GET is framed.
    fn terms(&self, is_11: bool) -> Result<Terms, &'static str> {
        let says = |wanted: &[u8]| {
            let options = self.fields.all(&CONNECTION).flat_map(|value| value.split(|byte| *byte == b','));
            options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(wanted))
        };
        let mut keep = !says(b"close") && (is_11 || says(b"keep-alive"));
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Terms { framing: Framing::Length(0), keep });
        }
        let length = length(self.fields.all(&CONTENT_LENGTH))?;
        let mut codings = self.fields.all(&TRANSFER_ENCODING);
        let framing = match (codings.next(), length) {
            (Some(_), Some(_)) => return Err("its head has both Content-Length and Transfer-Encoding"),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Framing::Chunked
            }
            (Some(_), None) => return Err("its transfer coding is not chunked"),
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        // RFC 9112 §6.1: a chunked reply of HTTP/1.0 may have been framed by somebody who does not know chunks.
        keep &= framing != Framing::Close && (is_11 || framing != Framing::Chunked);
        Ok(Terms { framing, keep })
    }

    /// Writes the status line and the fields, without the empty line.
    pub fn write(&self, out: &mut BytesMut) {
        out.reserve(512);
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(itoa::Buffer::new().format(self.status).as_bytes());
        out.put_u8(b' ');
        let status = http::StatusCode::from_u16(self.status).ok();
        out.put_slice(status.and_then(|status| status.canonical_reason()).unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        self.fields.write(out);
    }
}

/// A length that is said several times must be the same each time.
fn length<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, &'static str> {
    let mut known = None;
    for value in values {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let number = number.ok_or("its Content-Length is not a number")?;
        if known.is_some_and(|known| known != number) {
            return Err("it has several lengths");
        }
        known = Some(number);
    }
    Ok(known)
}

/// Reads the head of a request that was screened; nothing where it is none.
pub fn request(head: &Bytes) -> Option<http::request::Parts> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut read = httparse::Request::new(&mut []);
    if !read.parse_with_uninit_headers(head, &mut fields).ok()?.is_complete() {
        return None;
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(read.method?.as_bytes()).ok()?;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(read.path?.as_bytes())).ok()?;
    parts.version = if read.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = HeaderMap::with_capacity(read.headers.len());
    for field in read.headers.iter() {
        let (name, value) = shared(head, field)?;
        headers.append(name, value);
    }
    parts.headers = headers;
    Some(parts)
}

fn shared(head: &Bytes, field: &httparse::Header<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
    let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).ok()?;
    Some((name, value))
}

/// Whether a client's connection may be used again, as far as its request says (RFC 9112 §9.3).
pub fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let says = |wanted: &[u8]| lists(headers, CONNECTION, wanted);
    if version == Version::HTTP_11 { !says(b"close") } else { says(b"keep-alive") && !says(b"close") }
}

/// Whether a list field names a token.
fn lists(headers: &HeaderMap, name: impl AsHeaderName, wanted: &[u8]) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<(Reply, Terms), &'static str> {
        Reply::read(&Bytes::copy_from_slice(head.as_bytes()))
    }

    #[test]
    fn where_a_body_ends_is_told_by_its_head() {
        let terms = |framing, keep| Ok(Terms { framing, keep });
        for (head, expected) in [
            ("200 OK\r\nContent-Length: 5\r\n", terms(Framing::Length(5), true)),
            ("200 \r\ncontent-length: 5\r\nContent-Length: 5\r\n", terms(Framing::Length(5), true)),
            ("200 OK\r\nTransfer-Encoding: Chunked\r\n", terms(Framing::Chunked, true)),
            ("200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n", terms(Framing::Length(5), false)),
            ("200 OK\r\n", terms(Framing::Close, false)),
            ("204 No Content\r\nContent-Length: 5\r\n", terms(Framing::Length(0), true)),
            ("100 Continue\r\n", terms(Framing::Length(0), true)),
            ("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", Err("it has several lengths")),
            ("200 OK\r\nContent-Length: -5\r\n", Err("its Content-Length is not a number")),
            ("200 OK\r\nContent-Length: 99999999999999999999\r\n", Err("its Content-Length is not a number")),
            (
                "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Err("its head has both Content-Length and Transfer-Encoding"),
            ),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", Err("its transfer coding is not chunked")),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err("its transfer coding is not chunked"),
            ),
            ("200 OK\r\nno colon\r\n", Err("its head is malformed")),
            ("020 OK\r\n", Err("its status is none")),
            ("200 OK\r\nX: a\nY: b\r\n", Err("a line of its head ends without a CR")),
            (
                "200 OK\r\nContent-Length: 5\r\nConnection: close, keep-alive\r\n",
                terms(Framing::Length(5), false),
            ),
        ] {
            assert_eq!(read(&format!("HTTP/1.1 {head}\r\n")).map(|(_, terms)| terms), expected, "{head:?}");
        }
        let old =
            |head: &str| read(&format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{head}\r\n")).unwrap().1.keep;
        assert!(!old("") && old("Connection: keep-alive\r\n"));
        let chunked = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
        assert!(!read(chunked).unwrap().1.keep);
    }

    #[test]
    fn a_head_is_written_as_it_was_read() {
        let text = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nx-a: b\r\n\r\n";
        let (reply, _) = read(text).unwrap();
        let mut out = BytesMut::new();
        reply.write(&mut out);
        assert_eq!(out, text.strip_suffix("\r\n").unwrap());
    }

    #[test]
    fn a_request_is_read_and_says_whether_its_connection_is_kept() {
        let parts = |text: &str| request(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let read = parts("POST /v1/x?y=z HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\n\r\n");
        assert_eq!((read.method.as_str(), read.uri.path(), read.uri.query()), ("POST", "/v1/x", Some("y=z")));
        assert_eq!(read.headers.get_all("x-a").iter().count(), 2);
        for (version, connection, kept) in [
            ("1.1", "", true),
            ("1.1", "Connection: TE, close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let read = parts(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
            assert_eq!(keeps(read.version, &read.headers), kept, "{version} {connection}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_came() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
        for seen in 0..28 {
            assert_eq!(head_end(head, seen), Some(27), "{seen}");
        }
        assert_eq!(head_end(b"a\nb\n\nc", 0), Some(5));
        assert_eq!(head_end(b"a\r\nb\r\n", 0), None);
    }

    #[test]
    fn a_stride_grows_with_what_comes_and_shrinks_at_once() {
        let mut stride = Stride::default();
        for (came, next) in [(10, 4), (4096, 16), (16_384, 64), (65_536, 64), (40_000, 64), (100, 4)] {
            stride.came(came);
            assert_eq!(stride.size(), next << 10, "{came}");
        }
    }

    #[test]
    fn a_field_is_set_once() {
        let mut fields = Fields::new();
        fields.append(CONNECTION, HeaderValue::from_static("a"));
        fields.set(CONNECTION, HeaderValue::from_static("b"));
        assert_eq!(fields.iter().count(), 1);
        assert_eq!(fields.text(&CONNECTION), Some("b"));
        fields.retain(|name| name != "connection");
        assert!(!fields.contains(&CONNECTION));
    }
}
