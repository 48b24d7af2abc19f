//! HTTP/1.1 with an endpoint, one exchange after another on a connection.
//!
//! Pingora's own HTTP/1 client sends the head of a request before its body, keeps 64 KiB for the body of a reply, and
//! copies every piece of it once more. Here a small request leaves in one write, and a piece of a reply is the memory
//! that it was read into. What a reply may look like is narrower, too: whatever two readers could take for two
//! messages is an error.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::Stream;
use pingora_timeout::timeout;
use prometheus::IntGauge;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::link::Broken;
use crate::frame::chunked::Chunks;
use crate::frame::http1::{Framing, Reply, Stride, Terms, head_end};

/// The parts of a request body, in their order.
pub type Pieces = SmallVec<[Bytes; 5]>;

/// What carries the bytes: a socket as it is, or what Pingora's connector has made of one.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Stream),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Counts an open connection.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Where the reply is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// No final head was read.
    Head,
    /// This many bytes of the body are to come.
    Length(u64),
    /// What its chunks say is to come.
    Chunks(Chunks),
    /// Everything up to the end of the connection.
    Close,
    /// Nothing: the connection may be used again, or not.
    Done { keep: bool },
}

/// A connection, and where the reply on it is.
pub struct Http1 {
    wire: Wire,
    /// Read, and not yet given out.
    input: BytesMut,
    place: Place,
    /// What the last head said.
    terms: Terms,
    /// Whether the request was answered before all of it was sent.
    cut_short: bool,
    stride: Stride,
    _open: Open,
}

/// What came of an attempt to write.
enum Step {
    Wrote(usize),
    Read(usize),
}

impl std::fmt::Debug for Http1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1").field("place", &self.place).finish_non_exhaustive()
    }
}

/// How long the answer of a peer that takes no more of a request is looked for.
const EARLY: Duration = Duration::from_millis(200);
/// The largest head that is read, bytes.
const HEAD: usize = 64 << 10;
/// Requests up to this size leave in one write, bytes: copying is cheaper than another write.
const JOINED: usize = 32 << 10;

impl Http1 {
    pub(super) fn new(wire: Wire, open: &IntGauge) -> Self {
        open.inc();
        let terms = Terms { framing: Framing::Length(0), keep: true };
        let place = Place::Done { keep: true };
        let (input, stride) = (BytesMut::new(), Stride::default());
        Self { wire, input, place, terms, cut_short: false, stride, _open: Open(open.clone()) }
    }

    /// Sends a request. `head` ends with its empty line; each write may take as long as `limit`. Where the peer answers
    /// before it has taken everything, the rest is not sent.
    ///
    /// # Errors
    /// [`Broken::Closed`] where the connection does not take it, [`Broken::Slow`] where it does not in time.
    pub async fn send(&mut self, mut head: BytesMut, body: Pieces, limit: Duration) -> Result<(), Broken> {
        (self.place, self.cut_short) = (Place::Head, false);
        let size = head.len() + body.iter().map(Bytes::len).sum::<usize>();
        if size <= JOINED {
            head.reserve(size - head.len());
            body.iter().for_each(|piece| head.extend_from_slice(piece));
            self.push(&head, limit).await?;
        } else {
            self.push(&head, limit).await?;
            for piece in body {
                if self.cut_short {
                    return Ok(());
                }
                self.push(&piece, limit).await?;
            }
        }
        match timeout(limit, self.wire.flush()).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => Err(Broken::Slow),
        }
    }

    /// Writes all of `bytes`, unless the peer answers meanwhile.
    async fn push(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.cut_short {
            match timeout(limit, self.step(rest)).await {
                Ok(Ok(Step::Wrote(size))) => rest = rest.get(size..).unwrap_or_default(),
                Ok(Ok(Step::Read(0))) => return Err(Broken::ended()),
                Ok(Ok(Step::Read(_))) => self.cut_short = self.is_answered(),
                Ok(Err(error)) if self.answers_yet().await => {
                    log::debug!("a request was answered before it was sent whole: {error}");
                    self.cut_short = true;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Broken::Slow),
            }
        }
        Ok(())
    }

    /// Writes what the peer takes, or reads what it says instead.
    async fn step(&mut self, bytes: &[u8]) -> io::Result<Step> {
        std::future::poll_fn(|cx| {
            match Pin::new(&mut self.wire).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(wrote) => return Poll::Ready(wrote.map(Step::Wrote)),
                Poll::Pending => {}
            }
            self.poll_fill(cx).map_ok(Step::Read)
        })
        .await
    }

    /// Whether a final answer has begun to come. Interim ones are passed over.
    fn is_answered(&mut self) -> bool {
        const STATUS: usize = b"HTTP/1.1 ".len();
        while self.input.get(STATUS) == Some(&b'1') {
            let Some(end) = head_end(&self.input, 0) else { return false };
            self.input.advance(end);
        }
        self.input.len() > STATUS
    }

    /// Whether a peer that takes no more has answered before: it may refuse a body for its size.
    async fn answers_yet(&mut self) -> bool {
        let reading = async {
            while !self.is_answered() {
                if !matches!(self.fill().await, Ok(size) if size > 0) {
                    return false;
                }
            }
            true
        };
        matches!(timeout(EARLY, reading).await, Ok(true))
    }

    /// The next head, an interim one too. May be dropped and called again.
    ///
    /// # Errors
    /// [`Broken::Closed`] where the connection ended before a byte of it, [`Broken::Rude`] where it is none.
    pub async fn head(&mut self) -> Result<Reply, Broken> {
        let mut seen = 0;
        let end = loop {
            if let Some(end) = head_end(&self.input, seen) {
                break end;
            }
            if self.input.len() > HEAD {
                return Err(Broken::Rude("its head is too large"));
            }
            seen = self.input.len();
            if self.fill().await? == 0 {
                let untouched = self.input.is_empty();
                return Err(if untouched { Broken::ended() } else { Broken::Rude("its head breaks off") });
            }
        };
        let (reply, mut terms) = Reply::read(&self.input.split_to(end).freeze()).map_err(Broken::Rude)?;
        if reply.status >= 200 {
            // What was not sent of a request would be read as the next.
            terms.keep &= !self.cut_short;
            self.terms = terms;
            self.place = match terms.framing {
                Framing::Length(0) => Place::Done { keep: terms.keep },
                Framing::Length(left) => Place::Length(left),
                Framing::Chunked => Place::Chunks(Chunks::begin()),
                Framing::Close => Place::Close,
            };
        }
        Ok(reply)
    }

    /// Whether the peer said in its last head that the connection ends with its reply.
    pub fn closes(&self) -> bool {
        !self.terms.keep
    }

    /// The next piece of the body, `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Broken`] where it breaks off or is not well framed.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(piece) = self.take()? {
                return Ok(Some(piece));
            }
            if matches!(self.place, Place::Done { .. }) {
                return Ok(None);
            }
            if self.fill().await? == 0 {
                if !matches!(self.place, Place::Close) {
                    return Err(Broken::ended());
                }
                self.place = Place::Done { keep: false };
            }
        }
    }

    /// What of the body has been read already.
    fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let piece = match &mut self.place {
            Place::Head | Place::Done { .. } => return Ok(None),
            Place::Length(left) => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left -= size as u64;
                if *left == 0 {
                    self.place = Place::Done { keep: self.terms.keep };
                }
                self.input.split_to(size).freeze()
            }
            Place::Chunks(chunks) => {
                let piece = chunks.take(&mut self.input)?;
                if chunks.ended() {
                    self.place = Place::Done { keep: self.terms.keep };
                }
                piece
            }
            Place::Close => self.input.split().freeze(),
        };
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// Reads what has come. Says how many bytes; 0 is the end.
    async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let size = if self.stride.size() > Stride::LEAST {
            self.input.reserve(self.stride.size());
            ready!(pin!(self.wire.read_buf(&mut self.input)).poll(cx))?
        } else {
            // Small reads go over the stack, so that a stream that waits holds no buffer, and the next event is not
            // read into memory that has left the processor's cache.
            let mut chunk = [MaybeUninit::uninit(); Stride::LEAST];
            let mut read = ReadBuf::uninit(&mut chunk);
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut read))?;
            self.input.extend_from_slice(read.filled());
            read.filled().len()
        };
        self.stride.came(size);
        Poll::Ready(Ok(size))
    }

    /// Whether the end of the body is told only by the end of the connection, so that a cut looks like an end.
    pub fn ends_by_close(&self) -> bool {
        self.terms.framing == Framing::Close
    }

    /// Whether another request may be sent: the last reply was read to its end, and nothing came after it.
    pub(super) fn is_free(&mut self) -> bool {
        let free = matches!(self.place, Place::Done { keep: true }) && self.input.is_empty();
        if free {
            // An idle connection holds no memory.
            self.input = BytesMut::new();
        }
        free
    }

    /// Whether an idle connection still is: the peer has neither closed it nor said anything unasked.
    pub(super) fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let mut out = ReadBuf::new(&mut byte);
        Pin::new(&mut self.wire).poll_read(&mut Context::from_waker(Waker::noop()), &mut out).is_pending()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection, and its other end.
    async fn pair() -> (Http1, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let gauge = IntGauge::new("open", "connections").unwrap();
        (Http1::new(Wire::Plain(client.unwrap()), &gauge), server.unwrap().0)
    }

    const LIMIT: Duration = Duration::from_secs(5);

    async fn send(http1: &mut Http1, body: &[&'static [u8]]) {
        let head = BytesMut::from(&b"POST / HTTP/1.1\r\n\r\n"[..]);
        let body = body.iter().map(|piece| Bytes::from_static(piece)).collect();
        http1.send(head, body, LIMIT).await.unwrap();
    }

    /// The body of a reply that comes as `pieces`, each once the one before was read.
    async fn reply(pieces: &[&[u8]]) -> (Result<Vec<u8>, Broken>, bool) {
        let (mut http1, mut server) = pair().await;
        send(&mut http1, &[]).await;
        let sending = async {
            for piece in pieces {
                server.write_all(piece).await.unwrap();
                server.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            server.shutdown().await.unwrap();
        };
        let reading = async {
            let mut whole = Vec::new();
            while http1.head().await?.status < 200 {}
            while let Some(piece) = http1.body().await? {
                whole.extend_from_slice(&piece);
            }
            Ok(whole)
        };
        let (whole, ()) = tokio::join!(reading, sending);
        (whole, http1.is_free())
    }

    #[tokio::test]
    async fn every_framing_is_read_at_every_split() {
        let long = "x".repeat(3000);
        for (text, body, free) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_owned(), "abc".to_owned(), true),
            ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), String::new(), true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na".to_owned(),
                "a".into(),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                    .to_owned(),
                "abcde".to_owned(),
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nabc".to_owned(), "abc".to_owned(), false),
            (
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3000\r\n\r\n{long}"),
                long,
                false,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP".to_owned(), "abc".to_owned(), false),
        ] {
            for split in 0..text.len().min(120) {
                let (first, second) = text.as_bytes().split_at(split);
                let (read, kept) = reply(&[first, second]).await;
                assert_eq!(String::from_utf8(read.unwrap()).unwrap(), body, "{split}");
                // What follows the reply may not have come yet when the connection is given up.
                assert!(kept == free || text.ends_with("HTTP"), "{text:.60} {split}");
            }
        }
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_no_reply_is_told_apart() {
        let of = |text: &'static str| async move { reply(&[text.as_bytes()]).await.0.unwrap_err() };
        assert!(matches!(of("").await, Broken::Closed(_)));
        assert!(matches!(of("HTTP/1.1 200 OK\r\nContent-").await, Broken::Rude(_)));
        assert!(matches!(of("SSH-2.0-x\r\n\r\n").await, Broken::Rude(_)));
        assert!(matches!(of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await, Broken::Closed(_)));
        assert!(matches!(
            of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await,
            Broken::Closed(_)
        ));
        assert!(matches!(
            of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await,
            Broken::Rude(_)
        ));
        let large: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000)).into());
        assert!(matches!(of(large).await, Broken::Rude("its head is too large")));
    }

    #[tokio::test]
    async fn a_small_request_is_one_piece_and_a_large_one_arrives_whole() {
        let (mut http1, mut server) = pair().await;
        send(&mut http1, &[b"ab", b"c"]).await;
        let mut seen = [0; 100];
        let size = server.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..size], b"POST / HTTP/1.1\r\n\r\nabc");
        let large: &'static [u8] = Box::leak(vec![b'x'; 1 << 20].into_boxed_slice());
        let mut all = vec![0; 19 + 2 * large.len()];
        let body = [large, large];
        let (read, ()) = tokio::join!(server.read_exact(&mut all), send(&mut http1, &body));
        read.unwrap();
        assert!(all.starts_with(b"POST") && all[19..].iter().all(|byte| *byte == b'x'));
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_all_was_sent_is_read_and_ends_the_connection() {
        for closes in [false, true] {
            let (mut http1, mut server) = pair().await;
            let large = Bytes::from(vec![b'x'; 20 << 20]);
            let head = BytesMut::from(&b"POST / HTTP/1.1\r\n\r\n"[..]);
            let serving = async {
                let mut some = [0; 100];
                server.read_exact(&mut some).await.unwrap();
                let interim = "HTTP/1.1 100 Continue\r\n\r\n";
                let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
                server.write_all([interim, answer].concat().as_bytes()).await.unwrap();
                if closes {
                    server.shutdown().await.unwrap();
                }
            };
            let (sent, ()) = tokio::join!(http1.send(head, Pieces::from_iter([large]), LIMIT), serving);
            sent.unwrap();
            assert_eq!(http1.head().await.unwrap().status, 413);
            assert_eq!(http1.body().await.unwrap().unwrap(), "no");
            assert!(http1.body().await.unwrap().is_none() && !http1.is_free());
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_slow_and_one_that_goes_on_is_not() {
        let (mut http1, mut server) = pair().await;
        let large = || Pieces::from_iter([Bytes::from(vec![b'x'; 20 << 20])]);
        let limit = Duration::from_millis(300);
        let (sent, ()) = tokio::join!(http1.send(BytesMut::from(&b"P"[..]), large(), limit), async {});
        assert!(matches!(sent, Err(Broken::Slow)));
        let (mut http1, mut other) = pair().await;
        std::mem::swap(&mut server, &mut other);
        let taking = async {
            let (mut taken, mut piece) = (0, vec![0; 1 << 20]);
            while taken < 20 << 20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                taken += server.read(&mut piece).await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(http1.send(BytesMut::from(&b"P"[..]), large(), limit), taking);
        assert!(sent.is_ok(), "in all it took longer than the limit of one write");
    }

    #[tokio::test]
    async fn small_pieces_hold_little_memory() {
        let (mut http1, mut server) = pair().await;
        send(&mut http1, &[]).await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        http1.head().await.unwrap();
        for _ in 0..50 {
            server.write_all(b"x").await.unwrap();
            let piece = http1.body().await.unwrap().unwrap();
            let held = BytesMut::from(piece).capacity();
            assert!(held <= 64, "{held} bytes for one");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_that_its_peer_closed_or_spoke_on_is_none() {
        for spoken in [None, Some(&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..])] {
            let (mut http1, mut server) = pair().await;
            assert!(http1.is_free() && http1.is_idle());
            if let Some(spoken) = spoken {
                server.write_all(spoken).await.unwrap();
            } else {
                drop(server);
            }
            http1.wire_readable().await;
            assert!(!http1.is_idle());
        }
    }

    impl Http1 {
        async fn wire_readable(&self) {
            let Wire::Plain(stream) = &self.wire else { return };
            stream.readable().await.unwrap();
        }
    }
}
