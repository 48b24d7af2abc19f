//! HTTP/1 by hand, because faults must be put into its very bytes: keep-alive, pipelined requests one after the
//! other, bodies by length or in chunks, `Expect: 100-continue`, HEAD.

mod read;
mod write;

use super::Shared;
use super::api::family::Family;
use super::api::refusal::Refusal;
use super::api::{Body, Reply};
use super::exchange::{Exchange, Next};
use super::fault::{Break, Fault, Faults};
use super::stats::{Counter, Request};
use bytes::{Bytes, BytesMut};
use http::Version;
use read::{Fail, Head, read_body, read_head};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use write::{Framing, Wire};

/// Serves one connection; `buffer` holds what was read of it already.
pub(crate) async fn run(
    stream: TcpStream,
    buffer: BytesMut,
    shared: &Arc<Shared>,
    number: u64,
) -> io::Result<()> {
    let mut connection = Connection { stream, buffer, shared: Arc::clone(shared), number };
    let mut served = 0;
    loop {
        match connection.serve_one(&mut served).await {
            After::Reuse => {}
            After::Close => return connection.stream.shutdown().await,
            After::Drain => return connection.drain().await,
            After::Reset => return connection.stream.set_zero_linger(),
            After::Vanish => std::future::pending().await,
            After::Gone => return Ok(()),
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    shared: Arc<Shared>,
    number: u64,
}

/// What becomes of the connection after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Reuse,
    Close,
    /// Close, but read on for a while so that the client gets to see the reply.
    Drain,
    Reset,
    /// Nothing is read or written any more, and nothing closed.
    Vanish,
    Gone,
}

/// What of a request decides how its reply is framed.
#[derive(Debug, Clone, Copy)]
struct Manner {
    head_only: bool,
    version: Version,
    reuse: bool,
}

impl Connection {
    async fn serve_one(&mut self, served: &mut u64) -> After {
        let head = match self.next_head().await {
            Ok(Some(head)) => head,
            Ok(None) => return After::Gone,
            Err(fail) => return self.fail(fail).await,
        };
        *served += 1;
        let last = self.shared.config.keep_alive_requests.is_some_and(|bound| *served >= bound);
        let manner = Manner {
            head_only: head.method == http::Method::HEAD,
            version: head.version,
            reuse: head.keep_alive && !last,
        };
        let body = match read_body(&self.stream, &mut self.buffer, &head, self.shared.config.max_body).await {
            Ok(body) => body,
            Err(fail) => {
                if matches!(fail, Fail::Gone) {
                    self.shared.stats.add(Counter::Receiving, 1);
                }
                return self.fail(fail).await;
            }
        };
        let exchange = Exchange::begin(&self.shared, self.request(head, body));
        // Boxed to keep idle connections small: most of a connection's life is waiting in `next_head`.
        Box::pin(self.respond(exchange, manner)).await
    }

    async fn next_head(&mut self) -> Result<Option<Head>, Fail> {
        let read = read_head(&self.stream, &mut self.buffer);
        match self.shared.config.keep_alive_ms {
            None => read.await,
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), read).await.unwrap_or(Ok(None)),
        }
    }

    fn request(&self, head: Head, body: Bytes) -> Request {
        Request {
            method: head.method,
            target: head.target,
            version: head.version,
            headers: head.headers,
            body_len: body.len(),
            body,
            connection: self.number,
        }
    }

    /// A request that cannot be read is answered in OpenAI's shape, as its path may not be known.
    async fn fail(&self, fail: Fail) -> After {
        let refusal = match fail {
            Fail::Gone => return After::Gone,
            Fail::Bad(message) => Refusal::invalid(message, None),
            Fail::HeadTooLong => Refusal::simulated(431),
            Fail::BodyTooLong => Refusal::too_large(self.shared.config.max_body),
        };
        let reply = refusal.reply(Family::OpenAi);
        let Body::Whole(body) = reply.body else { return After::Close };
        let head = write::head(reply.status, &reply.headers, Framing::Length(body.len() as u64), false);
        let wire = Wire { stream: &self.stream, pause: None };
        match wire.send_both(&head, &body).await {
            Ok(()) => After::Drain,
            Err(_) => After::Gone,
        }
    }

    /// Reads and forgets for a second at most: a close with unread bytes would reset the reply away.
    async fn drain(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let read_all = async {
            loop {
                self.buffer.clear();
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), read_all).await;
        Ok(())
    }

    async fn respond(&mut self, mut exchange: Exchange, manner: Manner) -> After {
        if let Some(after) = self.instead_of_reply(&exchange.faults).await {
            exchange.broken();
            return after;
        }
        let reply = tokio::select! {
            biased;
            reply = exchange.reply() => reply,
            () = gone(&self.stream, &mut self.buffer) => return After::Gone,
        };
        if self.before_reply(&exchange.faults).await.is_err() {
            return After::Gone;
        }
        // An error while writing means that the client left; dropping the exchange counts it.
        self.send(exchange, reply, manner).await.unwrap_or(After::Gone)
    }

    /// Faults that leave no room for a reply.
    async fn instead_of_reply(&self, faults: &Faults) -> Option<After> {
        if faults.is_empty() {
            return None;
        }
        if faults.has(Fault::Refuse) {
            return Some(After::Close);
        }
        if faults.has(Fault::Vanish) {
            return Some(After::Vanish);
        }
        if faults.has(Fault::ResetBeforeHead) {
            return Some(After::Reset);
        }
        if faults.has(Fault::GarbageHead) {
            let wire = Wire { stream: &self.stream, pause: None };
            let _ = wire.send(b"\x00\x16\x03garbage, not HTTP\r\n\r\n").await;
            return Some(After::Close);
        }
        None
    }

    /// Faults that put other heads before the reply's.
    async fn before_reply(&self, faults: &Faults) -> io::Result<()> {
        let wire = Wire { stream: &self.stream, pause: None };
        let flood = faults.find(|fault| match *fault {
            Fault::InfoFlood(n) => Some(n),
            _ => None,
        });
        for _ in 0..flood.unwrap_or(0) {
            wire.send(b"HTTP/1.1 103 Early Hints\r\nlink: </sim>; rel=preload\r\n\r\n").await?;
        }
        if faults.has(Fault::Switching) {
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: sim\r\n\r\n")
                .await?;
        }
        Ok(())
    }

    async fn send(&mut self, mut exchange: Exchange, reply: Reply, manner: Manner) -> io::Result<After> {
        let length = match &reply.body {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Stream(stream) => stream.length,
        };
        let framing = Framing::choose(&exchange.faults, length, manner.version);
        let wrong = matches!(framing, Framing::Length(n) if Some(n) != length);
        let reuse = manner.reuse && !wrong && framing != Framing::Close;
        let head = write::head(reply.status, &reply.headers, framing, reuse);
        let wire = Wire { stream: &self.stream, pause: exchange.faults.pause() };
        let after = if reuse { After::Reuse } else { After::Close };

        let body = exchange.open(reply.body);
        let bodiless = manner.head_only || matches!(reply.status, 204 | 304);
        let dribble = exchange.faults.find(|fault| match *fault {
            Fault::SlowHead(ms) => Some(Duration::from_millis(ms)),
            // Only what follows the head is slow.
            Fault::SlowBody(_) => Some(Duration::ZERO),
            _ => None,
        });
        let stream_or_slow = body.is_none() || dribble.is_some();
        if bodiless || stream_or_slow || exchange.faults.has(Fault::ResetAfterHead) {
            wire.dribble(&head, dribble).await?;
            if exchange.faults.has(Fault::ResetAfterHead) {
                exchange.broken();
                return Ok(After::Reset);
            }
        }
        match body {
            _ if bodiless => {}
            Some(body) if stream_or_slow => wire.whole(&body, framing).await?,
            Some(body) if framing == Framing::Chunked => {
                wire.send(&head).await?;
                wire.whole(&body, framing).await?;
            }
            Some(body) => wire.send_both(&head, &body).await?,
            None => return self.send_stream(exchange, framing, after).await,
        }
        exchange.finish();
        Ok(after)
    }

    async fn send_stream(
        &mut self,
        mut exchange: Exchange,
        framing: Framing,
        after: After,
    ) -> io::Result<After> {
        loop {
            let next = tokio::select! {
                biased;
                next = exchange.next() => next,
                () = gone(&self.stream, &mut self.buffer) => return Ok(After::Gone),
            };
            let wire = Wire { stream: &self.stream, pause: exchange.faults.pause() };
            match next {
                Next::Piece(piece) => wire.piece(&piece, framing).await?,
                Next::End => {
                    wire.end(framing).await?;
                    exchange.finish();
                    return Ok(after);
                }
                Next::Break(how) => {
                    if how == Break::BadChunk {
                        wire.send(b"zz\r\nnot a chunk\r\n").await?;
                    }
                    exchange.broken();
                    return Ok(if how == Break::Reset { After::Reset } else { After::Close });
                }
            }
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// Returns when the client has left. What it sends meanwhile is kept for later, up to a bound.
async fn gone(stream: &TcpStream, buffer: &mut BytesMut) {
    while buffer.len() < PIPELINED {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read_buf(buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
    std::future::pending().await
}

/// How much of the requests behind the present one is read in advance.
const PIPELINED: usize = 256 << 10;
