//! Stands between a client's connection and Pingora's HTTP/1 session.
//!
//! It holds a request's head back until it is whole, screens it as it came off the wire, and only then lets Pingora
//! read it. So one deadline covers the whole head (Pingora's is per read, and one byte every few seconds lives for
//! ever), its size is bounded before it is buffered, and every refusal is answered by Forebay in the client's dialect:
//! a refused head is replaced by a harmless one, and the verdict waits here for the exchange to pick it up.
//!
//! It also follows a body to its exact end, and keeps what a client sends ahead (the next request, pipelined) away from
//! the present exchange, which would otherwise be aborted by Pingora's watch for a client that leaves. A body that is
//! not well chunked ends in a read error, and again the verdict waits here.

mod ahead;
pub mod direct;

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Peek, Shutdown, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::screen::{self, Framing};
use crate::dialect::Dialect;
use crate::error::{Error, Kind};
use crate::frame::chunked::{Chunks, Fault};
use crate::frame::http1::{Stride, head_end};
use crate::snapshot::HeadBounds;
use crate::upstream::wrap::identify_by_inner;

/// What Pingora reads in the place of a refused head.
const HARMLESS: &[u8] = b"GET /refused HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
/// RFC 9113 §3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What one read asks of the connection while a head is collected.
const READ: usize = 4096;
/// How long a refused client may go on sending before the connection is closed under it, so that it can read the
/// answer: closing at once would reset the connection and take the answer with it.
const LINGER: Duration = Duration::from_secs(2);

/// Where the connection is between two requests.
///
/// ```text
/// Idle -> Head -> Body -> Idle ...          Head -> Refused, Body -> Refused
/// Idle -> Through (HTTP/2)                  Body -> Through (upgraded)
/// ```
enum Phase {
    /// Between two requests; nothing of the next was read.
    Idle,
    /// A head is being collected.
    Head(Pin<Box<Sleep>>),
    /// `head` bytes of a screened head are let through, then the body.
    Body { head: usize, rest: Rest },
    /// The harmless head is let through, unless the real one was, then nothing.
    Refused { given: usize },
    /// Everything is let through.
    Through,
}

/// What is still to come of a body.
enum Rest {
    /// This many bytes.
    Length(u64),
    /// What its chunks say.
    Chunks(Chunks),
}

struct State {
    phase: Phase,
    /// Read from the connection, not yet let through.
    held: BytesMut,
    /// How much of it was looked through for the end of a head.
    seen: usize,
    /// Whether so much was sent ahead that it was thrown away: the connection can carry no other request.
    flooded: bool,
    stride: Stride,
    verdict: Option<Error>,
    /// What the head that was refused betrays of its sender.
    dialect: Dialect,
}

/// The guarded connection.
pub struct Guarded {
    inner: Stream,
    bounds: HeadBounds,
    /// Whether HTTP/2 by prior knowledge is taken.
    h2c: bool,
    /// What waits to be written, where writes come in small pieces.
    corked: Option<BytesMut>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

impl Guarded {
    /// Guards an HTTP/1 connection that has just been accepted.
    pub fn new(inner: Stream, bounds: HeadBounds, h2c: bool) -> Self {
        let state = State {
            phase: Phase::Idle,
            held: BytesMut::new(),
            seen: 0,
            flooded: false,
            stride: Stride::default(),
            verdict: None,
            dialect: Dialect::OpenaiChat,
        };
        Self { inner, bounds, h2c, corked: None, state: Mutex::new(state) }
    }

    /// The guard of an HTTP/1 session's connection.
    pub fn of(session: &ServerSession) -> Option<&Self> {
        session.as_http1()?.stream().as_any().downcast_ref()
    }

    /// Why the present request was refused, if it was.
    pub fn verdict(&self) -> Option<Error> {
        self.lock().verdict.clone()
    }

    /// The dialect of the client whose head was refused, as far as that head betrays it.
    pub fn dialect(&self) -> Dialect {
        self.lock().dialect
    }

    /// The present request is over: what comes next is a head. A body that was not read to its end stays where it
    /// is, since the connection is closed then.
    pub fn next(&self) {
        let mut state = self.lock();
        state.seen = 0;
        if matches!(state.phase, Phase::Body { head: 0, rest: Rest::Length(0) }) {
            state.phase = Phase::Idle;
        }
    }

    /// The connection was upgraded: what comes next is no HTTP.
    pub fn let_through(&self) {
        let mut state = self.lock();
        if state.verdict.is_none() {
            state.phase = Phase::Through;
        }
    }

    /// Whether what is written waits for a flush. Pingora writes a head, a chunk's size and its data apart; Forebay's own
    /// session puts them together by itself.
    pub fn cork(&mut self, corked: bool) {
        self.corked = corked.then(BytesMut::new);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&mut self) -> (&mut Stream, &mut State, HeadBounds) {
        (&mut self.inner, self.state.get_mut().unwrap_or_else(PoisonError::into_inner), self.bounds)
    }
}

/// Reads from the connection into what is held. Says how many bytes came; 0 is the end.
fn fill(
    inner: &mut Stream,
    held: &mut BytesMut,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut chunk = [std::mem::MaybeUninit::<u8>::uninit(); READ];
    let size = most.min(READ);
    let mut read = ReadBuf::uninit(&mut chunk[..size]);
    ready!(Pin::new(inner).poll_read(cx, &mut read))?;
    held.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

impl State {
    /// Collects a head and screens it. Ready once the phase is another than `Idle` and `Head`, or at the end of input.
    fn collect(
        &mut self,
        inner: &mut Stream,
        bounds: HeadBounds,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // RFC 9112 §2.2: an empty line before the request line is ignored.
            while self.held.starts_with(b"\r\n") {
                self.held.advance(2);
                self.seen = 0;
            }
            if self.held.is_empty() {
                self.phase = Phase::Idle;
            }
            if let Some(end) = head_end(&self.held, self.seen) {
                self.seen = 0;
                self.judge(end, &bounds);
                return Poll::Ready(Ok(()));
            }
            self.seen = self.held.len();
            if self.held.len() > bounds.bytes {
                self.refuse(Error::client(Kind::HeadTooLarge, "the head of the request is too large"));
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() && !matches!(self.phase, Phase::Head(_)) {
                self.phase = Phase::Head(Box::pin(tokio::time::sleep(bounds.timeout)));
            }
            match fill(inner, &mut self.held, bounds.bytes + 1, cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    let Phase::Head(deadline) = &mut self.phase else { return Poll::Pending };
                    ready!(deadline.as_mut().poll(cx));
                    self.refuse(Error::client(
                        Kind::ClientTimeout,
                        "the head of the request came too slowly",
                    ));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn judge(&mut self, end: usize, bounds: &HeadBounds) {
        if end > bounds.bytes {
            return self.refuse(Error::client(Kind::HeadTooLarge, "the head of the request is too large"));
        }
        let rest = match screen::head(&self.held[..end], bounds) {
            Ok(Framing::Length(length)) => Rest::Length(length),
            Ok(Framing::Chunked) => Rest::Chunks(Chunks::begin()),
            Err(error) => return self.refuse(error),
        };
        self.phase = Phase::Body { head: end, rest };
    }

    /// Lets a chunked body through as far as its end. What was read beyond it is held.
    fn pass_chunks(
        &mut self,
        inner: &mut Stream,
        out: &mut ReadBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Phase::Body { rest: Rest::Chunks(chunks), .. } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let followed = if self.held.is_empty() {
            let before = out.filled().len();
            ready!(Pin::new(inner).poll_read(cx, out))?;
            let followed = chunks.advance(&out.filled()[before..]);
            let end = before + followed.as_ref().map_or(0, |size| *size);
            self.held.extend_from_slice(&out.filled()[end..]);
            out.set_filled(end);
            followed
        } else {
            let most = self.held.len().min(out.remaining());
            let followed = chunks.advance(&self.held[..most]);
            give(&mut self.held, followed.as_ref().map_or(0, |size| *size), out);
            followed
        };
        match followed {
            Ok(_) if chunks.ended() => self.phase = Phase::Body { head: 0, rest: Rest::Length(0) },
            Ok(_) => {}
            Err(fault) => {
                let error = malformed(fault);
                self.break_off(error.clone());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A body turned out to be malformed: nothing more is let through.
    fn break_off(&mut self, error: Error) {
        self.held = BytesMut::new();
        self.verdict = Some(error);
        self.phase = Phase::Refused { given: HARMLESS.len() };
    }

    fn refuse(&mut self, error: Error) {
        self.dialect = screen::dialect(&self.held);
        self.held = BytesMut::new();
        self.verdict = Some(error);
        self.phase = Phase::Refused { given: 0 };
    }
}

/// What is answered to a head that passed the screen and still cannot be read.
pub fn unreadable() -> Error {
    Error::client(Kind::InvalidRequest, "the request is malformed")
}

fn malformed(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(why) => Error::client(Kind::InvalidRequest, why),
        Fault::Trailers => {
            Error::client(Kind::HeadTooLarge, "the trailer section of the request is too large")
        }
    }
}

/// Gives out what is held, at most `most` bytes. Says how many.
fn give(held: &mut BytesMut, most: usize, out: &mut ReadBuf<'_>) -> usize {
    let size = most.min(held.len()).min(out.remaining());
    out.put_slice(&held[..size]);
    held.advance(size);
    if held.is_empty() {
        // A head's buffer is not kept for the length of a stream.
        *held = BytesMut::new();
    }
    size
}

/// Reads at most `most` bytes straight into `out`. Says how many.
fn read_at_most(
    inner: &mut Stream,
    most: usize,
    out: &mut ReadBuf<'_>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let before = out.filled().len();
    if out.remaining() <= most {
        ready!(Pin::new(inner).poll_read(cx, out))?;
        return Poll::Ready(Ok(out.filled().len() - before));
    }
    let mut limited = ReadBuf::new(out.initialize_unfilled_to(most));
    ready!(Pin::new(inner).poll_read(cx, &mut limited))?;
    let size = limited.filled().len();
    out.advance(size);
    Poll::Ready(Ok(size))
}

/// Watches for the end of the input while an exchange runs, and keeps what the client sends ahead for later.
fn read_ahead(
    inner: &mut Stream,
    held: &mut BytesMut,
    flooded: &mut bool,
    bounds: HeadBounds,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        if ready!(fill(inner, held, READ, cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        // More than a head was sent ahead. That the client leaves is seen only by reading on, so what comes is thrown
        // away, and the connection is closed after the present exchange.
        *flooded |= held.len() > bounds.bytes;
        if *flooded {
            *held = BytesMut::new();
        }
    }
}

/// Reads and forgets what a refused client goes on sending.
fn discard(inner: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut held = BytesMut::new();
    loop {
        if ready!(fill(inner, &mut held, READ, cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        held.clear();
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (inner, state, bounds) = self.parts();
        if matches!(state.phase, Phase::Idle | Phase::Head(_)) {
            ready!(state.collect(inner, bounds, cx))?;
        }
        if matches!(state.phase, Phase::Body { head: 0, rest: Rest::Chunks(_) }) {
            return state.pass_chunks(inner, out, cx);
        }
        let held = &mut state.held;
        match &mut state.phase {
            // The end of the input, before a head or within one.
            Phase::Idle | Phase::Head(_) => {}
            Phase::Refused { given } if *given < HARMLESS.len() => {
                let size = (HARMLESS.len() - *given).min(out.remaining());
                out.put_slice(&HARMLESS[*given..*given + size]);
                *given += size;
            }
            Phase::Refused { .. } => return discard(inner, cx),
            Phase::Body { head, .. } if *head > 0 => *head -= give(held, *head, out),
            Phase::Body { rest: Rest::Length(0), .. } => {
                return read_ahead(inner, held, &mut state.flooded, bounds, cx);
            }
            Phase::Body { rest: Rest::Length(left), .. } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let size = if held.is_empty() {
                    ready!(read_at_most(inner, most, out, cx))?
                } else {
                    give(held, most, out)
                };
                *left -= size as u64;
            }
            // Handled above.
            Phase::Body { rest: Rest::Chunks(_), .. } => {}
            Phase::Through if held.is_empty() => return Pin::new(inner).poll_read(cx, out),
            Phase::Through => {
                give(held, usize::MAX, out);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What waits is sent without being asked for once it is as large as this, bytes.
const CORK: usize = 16 << 10;

/// Sends what waits.
fn poll_uncork(inner: &mut Stream, corked: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !corked.is_empty() {
        let sent = ready!(Pin::new(&mut *inner).poll_write(cx, corked))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        corked.advance(sent);
    }
    // An idle connection holds no memory.
    *corked = BytesMut::new();
    Poll::Ready(Ok(()))
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, corked, .. } = &mut *self;
        if let Some(corked) = corked {
            if corked.len() + bytes.len() <= CORK {
                corked.extend_from_slice(bytes);
                return Poll::Ready(Ok(bytes.len()));
            }
            ready!(poll_uncork(inner, corked, cx))?;
        }
        Pin::new(inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, corked, .. } = &mut *self;
        if let Some(corked) = corked {
            ready!(poll_uncork(inner, corked, cx))?;
        }
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Peek for Guarded {
    /// Waits for as much as tells HTTP/2 by prior knowledge from HTTP/1, under the deadline of a head. What is read
    /// stays held.
    async fn try_peek(&mut self, wanted: &mut [u8]) -> io::Result<bool> {
        if !self.h2c {
            return Ok(false);
        }
        let (inner, state, bounds) = self.parts();
        let deadline = tokio::time::sleep_until(Instant::now() + bounds.timeout);
        tokio::pin!(deadline);
        while state.held.len() < H2_PREFACE.len() && H2_PREFACE.starts_with(&state.held) {
            let begun = !state.held.is_empty();
            let read = std::future::poll_fn(|cx| fill(inner, &mut state.held, READ, cx));
            tokio::select! {
                size = read => if size? == 0 { break },
                () = &mut deadline, if begun => break,
            }
        }
        if state.held.starts_with(H2_PREFACE) {
            state.phase = Phase::Through;
        }
        let size = wanted.len().min(state.held.len());
        wanted[..size].copy_from_slice(&state.held[..size]);
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        let _ = self.flush().await;
        Shutdown::shutdown(&mut *self.inner).await;
        let unread = {
            let state = self.lock();
            let at_end = matches!(state.phase, Phase::Body { head: 0, rest: Rest::Length(0) } | Phase::Idle);
            !(at_end && state.held.is_empty())
        };
        if unread {
            let mut waste = [0; READ];
            let _ = tokio::time::timeout(LINGER, async {
                while matches!(self.inner.read(&mut waste).await, Ok(size) if size > 0) {}
            })
            .await;
        }
    }
}

identify_by_inner!(Guarded);

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    fn guarded(h2c: bool) -> (DuplexStream, Guarded) {
        let (client, server) = tokio::io::duplex(1 << 16);
        (client, Guarded::new(Box::new(server), HeadBounds::default(), h2c))
    }

    async fn read(guarded: &mut Guarded, size: usize) -> String {
        let mut bytes = vec![0; size];
        let size = guarded.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..size].to_vec()).unwrap()
    }

    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

    #[tokio::test]
    async fn a_head_is_let_through_whole_and_the_next_request_waits() {
        let (mut client, mut guarded) = guarded(false);
        client.write_all(format!("\r\n{HEAD}abcGET / HTTP/1.1\r\nHost: b\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(read(&mut guarded, 4096).await, HEAD);
        assert_eq!(read(&mut guarded, 4096).await, "abc");
        let ahead = std::future::poll_fn(|cx| {
            let mut byte = [0];
            Poll::Ready(Pin::new(&mut guarded).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
        });
        assert!(ahead.await, "the next request is no part of this one");
        guarded.next();
        assert_eq!(read(&mut guarded, 4096).await, "GET / HTTP/1.1\r\nHost: b\r\n\r\n");
        assert!(guarded.verdict().is_none());
    }

    #[tokio::test]
    async fn every_split_of_a_head_gives_the_same() {
        for split in 1..HEAD.len() + 3 {
            let (mut client, mut guarded) = guarded(false);
            let bytes = format!("{HEAD}abc").into_bytes();
            let (first, second) = bytes.split_at(split);
            client.write_all(first).await.unwrap();
            let (reader, writer) = tokio::join!(
                async {
                    let mut all = String::new();
                    while all.len() < HEAD.len() + 3 {
                        all += &read(&mut guarded, 4096).await;
                    }
                    all
                },
                client.write_all(second)
            );
            writer.unwrap();
            assert_eq!(reader.as_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn a_refused_head_is_replaced_and_its_verdict_kept() {
        let (mut client, mut guarded) = guarded(false);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut guarded, 4096).await.as_bytes(), HARMLESS);
        assert_eq!(guarded.verdict().unwrap().kind, Kind::InvalidRequest);
        client.write_all(b"anything").await.unwrap();
        drop(client);
        assert_eq!(read(&mut guarded, 4096).await, "", "what follows is discarded up to its end");
    }

    #[tokio::test]
    async fn a_head_over_its_bound_is_refused_before_it_ends() {
        let (mut client, mut guarded) = guarded(false);
        let flood = tokio::spawn(async move {
            let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
            let _ = client.write_all(&[b'x'; 40_000]).await;
            client
        });
        assert_eq!(read(&mut guarded, 4096).await.as_bytes(), HARMLESS);
        assert_eq!(guarded.verdict().unwrap().kind, Kind::HeadTooLarge);
        drop(flood.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_covers_the_whole_head() {
        let (mut client, mut guarded) = guarded(false);
        let drip = tokio::spawn(async move {
            for byte in HEAD.bytes() {
                if client.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            client
        });
        let began = Instant::now();
        assert_eq!(read(&mut guarded, 4096).await.as_bytes(), HARMLESS);
        assert_eq!(guarded.verdict().unwrap().kind, Kind::ClientTimeout);
        assert_eq!(began.elapsed().as_secs(), 10);
        drip.abort();
    }

    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// What is read until as many bytes came, or an error.
    async fn read_all(guarded: &mut Guarded, size: usize) -> io::Result<String> {
        let (mut all, mut piece) = (Vec::new(), [0; 7]);
        while all.len() < size {
            let size = guarded.read(&mut piece).await?;
            all.extend_from_slice(&piece[..size]);
        }
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn what_is_sent_behind_chunks_waits_however_it_is_split() {
        let (body, ahead) = ("3\r\nabc\r\n0\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n");
        let first = [CHUNKED, body].concat();
        let bytes = [&first, ahead].concat().into_bytes();
        for split in 1..bytes.len() {
            let (mut client, mut guarded) = guarded(false);
            let (early, late) = bytes.split_at(split);
            client.write_all(early).await.unwrap();
            let (request, sent) = tokio::join!(read_all(&mut guarded, first.len()), client.write_all(late));
            sent.unwrap();
            assert_eq!(request.unwrap(), first, "{split}");
            guarded.next();
            assert_eq!(read_all(&mut guarded, ahead.len()).await.unwrap(), ahead, "{split}");
        }
    }

    #[tokio::test]
    async fn bad_chunks_are_a_read_error_and_their_verdict_is_kept() {
        for body in ["\r\nabc", "3;a\nb\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n"] {
            for at_once in [true, false] {
                let (mut client, mut guarded) = guarded(false);
                let begin = if at_once { [CHUNKED, body].concat() } else { CHUNKED.to_owned() };
                client.write_all(begin.as_bytes()).await.unwrap();
                assert_eq!(read_all(&mut guarded, CHUNKED.len()).await.unwrap(), CHUNKED);
                assert!(guarded.verdict().is_none());
                client.write_all(body.as_bytes()).await.unwrap();
                let error = read_all(&mut guarded, 100).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{body:?}");
                assert_eq!(guarded.verdict().unwrap().kind, Kind::InvalidRequest, "{body:?}");
                drop(client);
                assert_eq!(read(&mut guarded, 100).await, "", "what follows is discarded");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_line_in_pieces_begins_no_head() {
        let (mut client, mut guarded) = guarded(false);
        client.write_all(b"\r").await.unwrap();
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.write_all(b"\n").await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            client.write_all(HEAD.as_bytes()).await.unwrap();
        };
        let (request, ()) = tokio::join!(read(&mut guarded, 4096), late);
        assert_eq!(request, HEAD);
    }

    #[tokio::test]
    async fn what_is_corked_leaves_with_the_flush_or_when_it_is_much() {
        let (mut client, mut guarded) = guarded(false);
        guarded.cork(true);
        let mut seen = vec![0; 64 << 10];
        guarded.write_all(b"head ").await.unwrap();
        guarded.write_all(b"body").await.unwrap();
        guarded.flush().await.unwrap();
        let size = client.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..size], b"head body");
        guarded.write_all(b"first").await.unwrap();
        guarded.write_all(&[b'x'; CORK]).await.unwrap();
        client.read_exact(&mut seen[..5 + CORK]).await.unwrap();
        assert!(seen.starts_with(b"firstx"));
        guarded.cork(false);
        guarded.write_all(b"at once").await.unwrap();
        let size = client.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..size], b"at once");
    }

    #[tokio::test]
    async fn a_preface_is_recognised_where_it_is_allowed() {
        let (mut client, mut through) = guarded(true);
        client.write_all(H2_PREFACE).await.unwrap();
        client.write_all(b"frames").await.unwrap();
        let mut seen = [0; 24];
        assert!(through.try_peek(&mut seen).await.unwrap());
        assert_eq!(seen, H2_PREFACE);
        assert_eq!(read(&mut through, 4096).await.as_bytes()[..24], *H2_PREFACE);
        let (mut client, mut plain) = guarded(true);
        client.write_all(HEAD.as_bytes()).await.unwrap();
        assert!(plain.try_peek(&mut seen).await.unwrap());
        assert_ne!(seen, H2_PREFACE);
        assert_eq!(read(&mut plain, 4096).await, HEAD);
    }
}
