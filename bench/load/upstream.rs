//! The upstream: an engine that takes no time to think.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::http1::Head;
use crate::sse::nanos;
use crate::wire::{Ask, Event, Kind, REPLY, Reply, ending};

const WHOLE: &str = "HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
                     content-type: application/json\r\n";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
                        content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
                        transfer-encoding: chunked\r\n\r\n";
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const STRANGE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
const UNCOUNTED: &[u8] = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Answers until the process is ended.
pub(crate) async fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    crate::say(&format!("listening {}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // Connections end as their peers wish, in the middle of a stream too.
        tokio::task::spawn_local(async move { Connection::new(stream).serve().await });
    }
}

struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    reply: Reply,
}

/// A request as far as the answer depends on it.
enum Request {
    Chat(Ask),
    Health,
    Strange,
    Uncounted,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, inbox: Vec::new(), outbox: Vec::new(), reply: Reply::new() }
    }

    async fn serve(mut self) -> io::Result<()> {
        while let Some((request, close)) = self.request().await? {
            match request {
                Request::Chat(Ask { number, kind: Kind::Whole }) => self.whole(number).await?,
                Request::Chat(Ask { number, kind: Kind::Stream { events, interval, usage } }) => {
                    let tick = Duration::from_micros(u64::from(interval.max(1)));
                    self.events(number, events, tick).await?;
                    self.end(number, events, usage).await?;
                }
                Request::Health => self.stream.write_all(HEALTHY).await?,
                Request::Strange => self.stream.write_all(STRANGE).await?,
                Request::Uncounted => return self.stream.write_all(UNCOUNTED).await,
            }
            if close {
                break;
            }
        }
        Ok(())
    }

    /// The next request and whether it is the last; `None` when the peer has left.
    async fn request(&mut self) -> io::Result<Option<(Request, bool)>> {
        loop {
            if let Some((request, close, size)) = read(&self.inbox) {
                self.inbox.drain(..size);
                return Ok(Some((request, close)));
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn whole(&mut self, number: u32) -> io::Result<()> {
        self.outbox.clear();
        write!(self.outbox, "{WHOLE}content-length: {REPLY}\r\n\r\n")?;
        self.outbox.extend_from_slice(self.reply.numbered(number));
        self.stream.write_all(&self.outbox).await
    }

    async fn events(&mut self, number: u32, events: u32, tick: Duration) -> io::Result<()> {
        self.stream.write_all(STREAM).await?;
        let mut event = Event::new(number);
        let mut ticks = steady(tick);
        for place in 0..events {
            self.chunk(event.filled(place, nanos())).await?;
            ticks.tick().await;
        }
        Ok(())
    }

    async fn end(&mut self, number: u32, events: u32, usage: bool) -> io::Result<()> {
        for event in ending(number, events, usage) {
            self.chunk(&event).await?;
        }
        self.stream.write_all(b"0\r\n\r\n").await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outbox.clear();
        write!(self.outbox, "{:x}\r\n", bytes.len())?;
        self.outbox.extend_from_slice(bytes);
        self.outbox.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.outbox).await
    }
}

/// Ticks, the first after one period: even a timer that is due at once takes a millisecond, which the first event must
/// not wait for. Ticks that are missed are not made up for, or events would come in bursts.
fn steady(tick: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + tick, tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The first request in what came, whether it is the last, and its size; `None` while it is not whole.
fn read(bytes: &[u8]) -> Option<(Request, bool, usize)> {
    let head = Head::read(bytes)?;
    let size = head.size + head.length.unwrap_or_default();
    let body = bytes.get(head.size..size)?;
    let request = if head.chunked {
        Request::Uncounted
    } else if head.line.starts_with(b"GET /health ") {
        Request::Health
    } else if head.line.starts_with(b"POST /v1/chat/completions ") {
        Ask::read(body).map_or(Request::Strange, Request::Chat)
    } else {
        Request::Strange
    };
    Some((request, head.close, size))
}
