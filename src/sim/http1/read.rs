//! Reading requests.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use std::io;
use tokio::net::TcpStream;

/// Longest head, in bytes, and most headers.
const MAX_HEAD: usize = 256 << 10;
const MAX_HEADERS: usize = 256;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) keep_alive: bool,
    length: Length,
    expects: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
}

/// Why a request could not be read.
#[derive(Debug)]
pub(super) enum Fail {
    Gone,
    Bad(&'static str),
    HeadTooLong,
    BodyTooLong,
}

impl From<io::Error> for Fail {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The next head; `None` when the client closed between requests.
pub(super) async fn read_head(stream: &TcpStream, buffer: &mut BytesMut) -> Result<Option<Head>, Fail> {
    loop {
        // Clients may send empty lines before a request.
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
        }
        if !buffer.is_empty()
            && let Some(head) = parse_head(buffer)?
        {
            return Ok(Some(head));
        }
        if buffer.len() > MAX_HEAD {
            return Err(Fail::HeadTooLong);
        }
        let empty = buffer.is_empty();
        if read_some(stream, buffer).await? == 0 {
            return if empty { Ok(None) } else { Err(Fail::Gone) };
        }
    }
}

/// The body that goes with `head`, decoded. Asks for it first if the client waits to be asked.
pub(super) async fn read_body(
    stream: &TcpStream,
    buffer: &mut BytesMut,
    head: &Head,
    bound: usize,
) -> Result<Bytes, Fail> {
    match head.length {
        Length::Bytes(n) if n > bound as u64 => return Err(Fail::BodyTooLong),
        Length::Bytes(0) => return Ok(Bytes::new()),
        _ => {}
    }
    if head.expects && buffer.is_empty() {
        let wire = super::write::Wire { stream, pause: None };
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    match head.length {
        Length::Bytes(n) => {
            let n = usize::try_from(n).map_err(|_| Fail::BodyTooLong)?;
            fill(stream, buffer, n).await?;
            Ok(buffer.split_to(n).freeze())
        }
        Length::Chunked => read_chunks(stream, buffer, bound).await,
    }
}

async fn read_chunks(stream: &TcpStream, buffer: &mut BytesMut, bound: usize) -> Result<Bytes, Fail> {
    let mut body = BytesMut::new();
    loop {
        let line = read_line(stream, buffer).await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
            return Err(Fail::Bad("The size of a chunk is no hexadecimal number."));
        };
        if size == 0 {
            break;
        }
        if size > bound.saturating_sub(body.len()) {
            return Err(Fail::BodyTooLong);
        }
        fill(stream, buffer, size + 2).await?;
        body.extend_from_slice(&buffer.split_to(size));
        if &buffer.split_to(2)[..] != b"\r\n" {
            return Err(Fail::Bad("A chunk does not end where its size says."));
        }
    }
    while !read_line(stream, buffer).await?.is_empty() {}
    Ok(body.freeze())
}

/// A line without its end.
async fn read_line(stream: &TcpStream, buffer: &mut BytesMut) -> Result<Bytes, Fail> {
    loop {
        if let Some(at) = buffer.iter().position(|byte| *byte == b'\n') {
            let mut line = buffer.split_to(at + 1);
            let end = if line.ends_with(b"\r\n") { at - 1 } else { at };
            return Ok(line.split_to(end).freeze());
        }
        if buffer.len() > 8 << 10 {
            return Err(Fail::Bad("A chunk's first line, or a trailer, is too long."));
        }
        if read_some(stream, buffer).await? == 0 {
            return Err(Fail::Gone);
        }
    }
}

async fn fill(stream: &TcpStream, buffer: &mut BytesMut, n: usize) -> Result<(), Fail> {
    // Not all at once: a length is easily claimed.
    buffer.reserve(n.saturating_sub(buffer.len()).min(1 << 20));
    while buffer.len() < n {
        if read_some(stream, buffer).await? == 0 {
            return Err(Fail::Gone);
        }
    }
    Ok(())
}

async fn read_some(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.reserve(4 << 10);
    loop {
        stream.readable().await?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

fn parse_head(buffer: &mut BytesMut) -> Result<Option<Head>, Fail> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let size = match request.parse(buffer) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fail::HeadTooLong),
        Err(_) => return Err(Fail::Bad("The head of the request is not HTTP/1.")),
    };
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value))
        else {
            return Err(Fail::Bad("A header of the request is malformed."));
        };
        headers.append(name, value);
    }
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| Fail::Bad("The method of the request is malformed."))?;
    let version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let head = Head {
        method,
        target: request.path.unwrap_or_default().to_owned(),
        version,
        keep_alive: keeps_alive(&headers, version),
        length: length(&headers)?,
        expects: has_token(&headers, header::EXPECT, "100-continue"),
        headers,
    };
    buffer.advance(size);
    Ok(Some(head))
}

fn length(headers: &HeaderMap) -> Result<Length, Fail> {
    let chunked = has_token(headers, header::TRANSFER_ENCODING, "chunked");
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next(), chunked) {
        (None, _, true) => Ok(Length::Chunked),
        (None, _, false) if headers.contains_key(header::TRANSFER_ENCODING) => {
            Err(Fail::Bad("The only transfer coding understood is chunked."))
        }
        (None, _, false) => Ok(Length::Bytes(0)),
        (Some(_), _, true) | (Some(_), Some(_), _) => {
            Err(Fail::Bad("The request states its length more than once."))
        }
        (Some(length), None, false) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|text| text.parse().ok());
            number.map(Length::Bytes).ok_or(Fail::Bad("Content-Length is no number."))
        }
    }
}

fn keeps_alive(headers: &HeaderMap, version: Version) -> bool {
    if version == Version::HTTP_10 {
        return has_token(headers, header::CONNECTION, "keep-alive");
    }
    !has_token(headers, header::CONNECTION, "close")
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Head>, Fail> {
        parse_head(&mut BytesMut::from(text))
    }

    #[test]
    fn heads_are_read_with_their_lengths() {
        let head =
            parse("POST /a?b=1 HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\n\r\nrest").unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/a?b=1"));
        assert_eq!((head.length, head.keep_alive, head.expects), (Length::Bytes(12), true, false));
        let head = parse(
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\nConnection: a, Close\r\n\r\n",
        );
        let head = head.unwrap().unwrap();
        assert_eq!((head.length, head.keep_alive, head.expects), (Length::Chunked, false, true));
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().keep_alive);
        assert!(parse("GET / HTTP/1.1\r\nHost:").unwrap().is_none());
    }

    #[test]
    fn unclear_lengths_are_refused() {
        for fields in [
            "content-length: 1\r\ncontent-length: 1",
            "content-length: 1\r\ntransfer-encoding: chunked",
            "content-length: +1",
            "content-length: 1x",
            "transfer-encoding: gzip",
        ] {
            let head = parse(&format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n"));
            assert!(matches!(head, Err(Fail::Bad(_))), "{fields}");
        }
        assert!(matches!(parse("\u{1}\r\n\r\n"), Err(Fail::Bad(_))));
    }
}
