//! One request over HTTP/1 on a guarded connection, and its reply.
//!
//! Pingora's own session would parse the screened head again into two more copies, keep a buffer for each body, and
//! write a reply's head apart from what follows. Here a head waits for the first piece of its body, and leaves with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_timeout::timeout;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::guard::Guarded;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::frame::http1::{self, Reply};

/// What was sent of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but interim replies.
    Nothing,
    /// The head, which may still wait in the buffer; the body goes on.
    Body(Framing),
    /// Everything.
    Done,
}

/// How the body of the reply is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By its length, of which so many bytes are left.
    Length(u64),
    /// By its last chunk.
    Chunks,
    /// By the end of the connection.
    Close,
    /// It must not be sent at all: the answer to a HEAD.
    Hidden,
}

/// One request and its reply.
pub struct Http1 {
    guarded: Box<Guarded>,
    head: http::request::Parts,
    /// Why the request was refused, and the dialect of who sent it.
    refusal: Option<(Error, Dialect)>,
    place: Place,
    /// The status sent, and whether it began a stream.
    begun: Option<(u16, bool)>,
    keep: bool,
    write: Duration,
    out: BytesMut,
}

/// Pieces up to this size are copied behind their framing, bytes; larger ones are written on their own.
const JOINED: usize = 16 << 10;
/// The most of an unread body that is read to keep a connection, bytes.
const SKIPPED: usize = 64 << 10;
/// How long that may take.
const SKIP_TIME: Duration = Duration::from_secs(1);

impl Http1 {
    /// The request whose head is ready on that connection.
    pub fn begin(mut guarded: Box<Guarded>) -> Self {
        let taken = guarded.take_head();
        let (mut head, ()) = http::Request::new(()).into_parts();
        let refusal = match taken {
            Ok(bytes) => match http1::request(&bytes) {
                Some(read) => {
                    head = read;
                    None
                }
                // What the screen lets through can be read; whatever cannot is refused all the same.
                None => Some((super::guard::unreadable(), Dialect::OpenaiChat)),
            },
            Err(refusal) => Some(refusal),
        };
        let keep = refusal.is_none() && http1::keeps(head.version, &head.headers);
        Self {
            guarded,
            head,
            refusal,
            place: Place::Nothing,
            begun: None,
            keep,
            write: Duration::from_secs(60),
            out: BytesMut::new(),
        }
    }

    /// The head of the request.
    pub fn head(&self) -> &http::request::Parts {
        &self.head
    }

    /// The connection.
    pub fn guarded(&mut self) -> &mut Guarded {
        &mut self.guarded
    }

    /// Why the request was refused, and the dialect of who sent it.
    pub fn refusal(&self) -> Option<(Error, Dialect)> {
        self.refusal.clone()
    }

    /// The connection as Pingora knows it.
    pub fn connection(&self) -> &Guarded {
        &self.guarded
    }

    /// The status sent, and whether it began a stream of events.
    pub fn begun(&self) -> Option<(u16, bool)> {
        self.begun
    }

    /// The connection is closed after this exchange.
    pub fn close(&mut self) {
        self.keep = false;
    }

    /// Every write from now on may take as long as `limit`.
    pub fn write_within(&mut self, limit: Duration) {
        self.write = limit;
    }

    /// Says that the body may come (RFC 9110 §15.2.1).
    ///
    /// # Errors
    /// [`Error::client_gone`].
    pub async fn go_on(&mut self) -> Result<(), Error> {
        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.flush(None).await
    }

    /// Begins the reply. Nothing is sent before its first piece, or its end.
    pub fn begin_reply(&mut self, mut reply: Reply, is_stream: bool) {
        let length = reply.fields.text(&CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let framing = match length {
            Some(length) => Framing::Length(length),
            None if self.head.version == Version::HTTP_11 => Framing::Chunks,
            None => Framing::Close,
        };
        if framing == Framing::Chunks {
            reply.fields.set(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        self.keep &= framing != Framing::Close && self.can_keep();
        reply.fields.set(DATE, get_cached_date());
        let connection = if self.keep { "keep-alive" } else { "close" };
        reply.fields.set(CONNECTION, HeaderValue::from_static(connection));
        reply.write(&mut self.out);
        self.out.extend_from_slice(b"\r\n");
        let hidden = self.head.method == Method::HEAD;
        self.place = Place::Body(if hidden { Framing::Hidden } else { framing });
        self.begun = Some((reply.status, is_stream));
    }

    /// Whether the connection can carry another request as far as the body of this one goes: it is read, or little of it
    /// is left and it was not promised to be read by asking for it.
    fn can_keep(&self) -> bool {
        let waits = self.head.headers.contains_key(EXPECT) && self.head.version == Version::HTTP_11;
        self.guarded.is_read() || (self.guarded.is_nearly_read(SKIPPED) && !waits)
    }

    /// Sends a piece of the body, and with the last one its end.
    ///
    /// # Errors
    /// [`Error::client_gone`].
    pub async fn write(&mut self, piece: Bytes, last: bool) -> Result<(), Error> {
        let Place::Body(framing) = self.place else { return Ok(()) };
        let piece = match framing {
            Framing::Hidden => Bytes::new(),
            Framing::Length(left) => {
                let size = piece.len() as u64;
                // Fewer or more bytes than were announced would be read as something else.
                self.keep &= if last { size == left } else { size <= left };
                self.place = Place::Body(Framing::Length(left.saturating_sub(size)));
                piece
            }
            Framing::Chunks | Framing::Close => piece,
        };
        if last {
            self.place = Place::Done;
        }
        match framing {
            Framing::Chunks => self.chunk(piece, last).await,
            _ => self.send(piece).await,
        }
    }

    async fn chunk(&mut self, piece: Bytes, last: bool) -> Result<(), Error> {
        let size = piece.len();
        if size > 0 {
            self.out.reserve(24 + size.min(JOINED));
            put_hex(&mut self.out, size);
            self.out.put_slice(b"\r\n");
        }
        if size > JOINED {
            self.flush(Some(piece)).await?;
        } else {
            self.out.extend_from_slice(&piece);
        }
        if size > 0 {
            self.out.put_slice(b"\r\n");
        }
        if last {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush(None).await
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        if piece.len() > JOINED {
            return self.flush(Some(piece)).await;
        }
        self.out.extend_from_slice(&piece);
        self.flush(None).await
    }

    /// Sends what waits, and then `rest`. May be dropped and gone on with where there is no `rest`: what was sent waits no
    /// more, and what was not leaves ahead of the next write.
    async fn flush(&mut self, rest: Option<Bytes>) -> Result<(), Error> {
        // Nearly always the connection takes it at once, and no timer is needed.
        let at_once = std::future::poll_fn(|cx| Poll::Ready(self.poll_out(cx))).await;
        let sent = match at_once {
            Poll::Ready(Ok(())) if rest.is_none() => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            _ => self.push(rest).await,
        };
        // What was cut short cannot be followed by another reply.
        self.keep &= sent.is_ok();
        // A buffer that has just been used is in the processor's cache; one kept from the last event is not.
        self.out = BytesMut::new();
        sent.map_err(|error| Error::client_gone().because(error))
    }

    /// Sends what waits, and then `rest`, in the connection's own time. Each write may take as long as the client is given.
    async fn push(&mut self, rest: Option<Bytes>) -> io::Result<()> {
        while !self.out.is_empty() {
            let size = some(&mut *self.guarded, &self.out, self.write).await?;
            self.out.advance(size);
        }
        let mut rest = rest.unwrap_or_default();
        while !rest.is_empty() {
            let size = some(&mut *self.guarded, &rest, self.write).await?;
            rest.advance(size);
        }
        timeout(self.write, self.guarded.flush()).await.map_err(|_| slow())?
    }

    /// Sends what waits, as far as the connection takes it.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut *self.guarded).poll_write(cx, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                size => self.out.advance(size),
            }
        }
        Pin::new(&mut *self.guarded).poll_flush(cx)
    }

    /// The connection for the next request, if it is in order.
    pub async fn finish(mut self) -> Option<Box<Guarded>> {
        let ended = self.place == Place::Done && self.keep && self.out.is_empty();
        if ended && (self.guarded.is_read() || self.skip().await) {
            self.guarded.next();
            return Some(self.guarded);
        }
        pingora_core::protocols::Shutdown::shutdown(&mut *self.guarded).await;
        None
    }

    /// Reads what is left of a small body that nobody wanted.
    async fn skip(&mut self) -> bool {
        let skipping = async {
            let mut size = 0;
            while size < SKIPPED {
                match self.guarded.body().await {
                    Ok(Some(piece)) => size += piece.len(),
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        };
        matches!(timeout(SKIP_TIME, skipping).await, Ok(true))
    }
}

/// Sends some of these bytes, within that time. Says how many.
async fn some(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], limit: Duration) -> io::Result<usize> {
    match timeout(limit, stream.write(bytes)).await.map_err(|_| slow())?? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        size => Ok(size),
    }
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not read what it is sent")
}

/// Writes a number in hexadecimal digits.
fn put_hex(out: &mut BytesMut, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (number >> (place * 4)) & 0xf;
        out.put_u8(b"0123456789abcdef"[digit]);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;
    use crate::snapshot::HeadBounds;

    /// A request on a connection, and the client's end of it.
    async fn ask(head: &str) -> (Http1, DuplexStream) {
        ask_within(head, 1 << 20).await
    }

    /// The same on a connection that holds so many bytes that its client has not read.
    async fn ask_within(head: &str, room: usize) -> (Http1, DuplexStream) {
        let (mut client, server) = tokio::io::duplex(room);
        client.write_all(head.as_bytes()).await.unwrap();
        let mut guarded = Box::new(Guarded::new(Box::new(server), HeadBounds::default(), false));
        assert!(guarded.head_ready().await.unwrap());
        (Http1::begin(guarded), client)
    }

    /// What the client reads of a reply to that request, and whether its connection is kept.
    async fn reply(request: &str, length: Option<&'static str>, pieces: &[&'static str]) -> (String, bool) {
        let (mut http1, mut client) = ask(request).await;
        let mut reply = Reply::new(200);
        if let Some(length) = length {
            reply.fields.append(CONTENT_LENGTH, HeaderValue::from_static(length));
        }
        http1.begin_reply(reply, false);
        for piece in pieces {
            http1.write(Bytes::from_static(piece.as_bytes()), false).await.unwrap();
        }
        http1.write(Bytes::new(), true).await.unwrap();
        let kept = http1.finish().await;
        let is_kept = kept.is_some();
        drop(kept);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("date: "), "{head}");
        // That a body is shorter than announced is only known behind its head.
        assert!(head.contains(if is_kept { "keep-alive" } else { "close" }) || length == Some("9"), "{head}");
        (body.to_owned(), is_kept)
    }

    #[tokio::test]
    async fn a_body_is_framed_as_its_client_can_read_it() {
        const NEW: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        const OLD: &str = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        for (request, length, pieces, body, kept) in [
            (NEW, Some("3"), &["ab", "c"][..], "abc", true),
            (
                NEW,
                None,
                &["abc", "0123456789abcdef0"],
                "3\r\nabc\r\n11\r\n0123456789abcdef0\r\n0\r\n\r\n",
                true,
            ),
            (NEW, None, &[], "0\r\n\r\n", true),
            (OLD, Some("3"), &["abc"], "abc", true),
            (OLD, None, &["abc"], "abc", false),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Some("3"), &["abc"], "", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("1"), &["a"], "a", false),
            (NEW, Some("9"), &["abc"], "abc", false),
        ] {
            assert_eq!(
                reply(request, length, pieces).await,
                (body.to_owned(), kept),
                "{request:?} {length:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_head_leaves_with_the_first_piece() {
        let (mut http1, mut client) = ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        http1.begin_reply(Reply::new(200), true);
        assert_eq!(http1.begun(), Some((200, true)));
        http1.write(Bytes::from_static(b"data: 1\n\n"), false).await.unwrap();
        let mut seen = vec![0; 4096];
        let size = client.read(&mut seen).await.unwrap();
        let text = String::from_utf8_lossy(&seen[..size]);
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n9\r\ndata: 1\n\n\r\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_write_that_is_dropped_half_way_repeats_nothing_and_loses_nothing() {
        let (mut http1, mut client) = ask_within("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 64).await;
        http1.begin_reply(Reply::new(200), true);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut writing =
                Box::pin(http1.write(Bytes::from_static(b": still here, still here\n\n"), false));
            assert!(writing.as_mut().poll(&mut context).is_pending(), "its client reads nothing");
            // It goes on after a while, and waits again.
            let mut some = [0; 40];
            let size = client.read(&mut some).await.unwrap();
            seen.extend_from_slice(&some[..size]);
            assert!(writing.as_mut().poll(&mut context).is_pending());
        }
        let rest = tokio::spawn(async move {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            rest
        });
        http1.write(Bytes::from_static(b"data: 1\n\n"), true).await.unwrap();
        drop(http1.finish().await);
        seen.extend(rest.await.unwrap());
        let text = String::from_utf8(seen).unwrap();
        let beat = "1a\r\n: still here, still here\n\n\r\n";
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, beat.repeat(3) + "9\r\ndata: 1\n\n\r\n0\r\n\r\n");
    }

    #[tokio::test]
    async fn a_small_unread_body_is_skipped_and_a_large_one_ends_the_connection() {
        for (size, kept) in [(10, true), (SKIPPED + 1, false)] {
            let head =
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size));
            let (mut http1, _client) = ask(&head).await;
            let mut reply = Reply::new(401);
            reply.fields.append(CONTENT_LENGTH, HeaderValue::from_static("0"));
            http1.begin_reply(reply, false);
            http1.write(Bytes::new(), true).await.unwrap();
            assert_eq!(http1.finish().await.is_some(), kept);
        }
    }

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, 65_535, usize::MAX] {
            let mut out = BytesMut::new();
            put_hex(&mut out, number);
            assert_eq!(out, format!("{number:x}"));
        }
    }
}
