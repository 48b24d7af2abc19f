//! HTTP/2 without TLS, by prior knowledge. Faults are put in HTTP/2's own terms: a reset is RST_STREAM, a cut is
//! an early end of the stream, and GOAWAY closes the connection.

use super::Shared;
use super::api::family::Family;
use super::api::refusal::Refusal;
use super::api::{Body, Reply};
use super::exchange::{Exchange, Next};
use super::fault::{Break, Fault};
use super::stats::{Counter, Request};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderValue, Response, Version, header};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Serves one connection, its preface not yet read.
pub(crate) async fn run(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: &Arc<Shared>,
    number: u64,
) -> io::Result<()> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(10_000);
    let mut connection = builder.handshake::<_, Bytes>(io).await.map_err(io::Error::other)?;
    let (breaks, mut broken) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    // Kept, as dropping one would reset it, and it is the connection that is to break.
    let mut cut_off = Vec::new();
    loop {
        tokio::select! {
            // In this order: polling the connection writes what is queued, which a break would throw away.
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let stream = Stream { shared: Arc::clone(shared), number, breaks: breaks.clone() };
                    streams.spawn(stream.serve(request, respond));
                }
                Some(Err(_)) | None => return Ok(()),
            },
            Some(command) = broken.recv() => match command {
                Command::Reset(mut stream, reason) => stream.send_reset(reason),
                Command::Goaway(stream) => {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    cut_off.push(stream);
                }
                Command::Vanish(_kept) => std::future::pending().await,
            },
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
        }
    }
}

/// What one stream needs of its connection.
struct Stream {
    shared: Arc<Shared>,
    number: u64,
    breaks: mpsc::UnboundedSender<Command>,
}

/// What a stream asks of its connection, to be done when all that was sent before is written.
enum Command {
    Reset(SendStream<Bytes>, Reason),
    Goaway(SendStream<Bytes>),
    /// Nothing more is read or written.
    Vanish(SendResponse<Bytes>),
}

/// The client reset the stream, or the connection is no more.
struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Stream {
    async fn serve(self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let body = match read_body(&mut body, self.shared.config.max_body).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let reply = Refusal::too_large(self.shared.config.max_body).reply(Family::OpenAi);
                let _ = self.refuse(reply, respond).await;
                return;
            }
            Err(Gone) => {
                self.shared.stats.add(Counter::Receiving, 1);
                return;
            }
        };
        let mut headers = head.headers;
        if let Some(authority) = head.uri.authority()
            && let Ok(value) = HeaderValue::try_from(authority.as_str())
        {
            headers.entry(header::HOST).or_insert(value);
        }
        let request = Request {
            method: head.method,
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            version: Version::HTTP_2,
            headers,
            body_len: body.len(),
            body,
            connection: self.number,
        };
        let exchange = Exchange::begin(&self.shared, request);
        // An error means that the client left; the exchange, dropped, has counted it.
        let _ = self.respond(exchange, respond).await;
    }

    async fn respond(&self, mut exchange: Exchange, mut respond: SendResponse<Bytes>) -> Result<(), Gone> {
        let faults = &exchange.faults;
        if [Fault::Refuse, Fault::ResetBeforeHead, Fault::GarbageHead].iter().any(|fault| faults.has(*fault))
        {
            let refuse = faults.has(Fault::Refuse);
            respond.send_reset(if refuse { Reason::REFUSED_STREAM } else { Reason::INTERNAL_ERROR });
            exchange.broken();
            return Ok(());
        }
        if faults.has(Fault::Vanish) {
            self.break_off(Command::Vanish(respond));
            exchange.broken();
            return Ok(());
        }
        let reply = tokio::select! {
            biased;
            reply = exchange.reply() => reply,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Err(Gone),
        };
        let slow = exchange.faults.find(|fault| match *fault {
            Fault::SlowHead(ms) => Some(ms),
            _ => None,
        });
        if let Some(ms) = slow {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let wrong = exchange.faults.find(|fault| match *fault {
            Fault::WrongLength(by) => Some(by),
            _ => None,
        });
        let head = head(&reply, wrong).map_err(|_| Gone)?;
        let body = exchange.open(reply.body);
        let mut stream = respond.send_response(head, false)?;
        if exchange.faults.has(Fault::ResetAfterHead) {
            self.break_off(Command::Reset(stream, Reason::INTERNAL_ERROR));
            exchange.broken();
            return Ok(());
        }
        match body {
            Some(body) => {
                send(&mut stream, body, exchange.faults.pause()).await?;
                stream.send_data(Bytes::new(), true)?;
                exchange.finish();
                Ok(())
            }
            None => self.send_stream(exchange, stream).await,
        }
    }

    async fn refuse(&self, reply: Reply, mut respond: SendResponse<Bytes>) -> Result<(), Gone> {
        let head = head(&reply, None).map_err(|_| Gone)?;
        let mut stream = respond.send_response(head, false)?;
        if let Body::Whole(body) = reply.body {
            send(&mut stream, body, None).await?;
        }
        stream.send_data(Bytes::new(), true)?;
        // The rest of the request is not wanted.
        self.break_off(Command::Reset(stream, Reason::NO_ERROR));
        Ok(())
    }

    fn break_off(&self, command: Command) {
        // A connection that no longer listens is broken already.
        let _ = self.breaks.send(command);
    }

    async fn send_stream(&self, mut exchange: Exchange, mut stream: SendStream<Bytes>) -> Result<(), Gone> {
        let pause = exchange.faults.pause();
        loop {
            let next = tokio::select! {
                biased;
                next = exchange.next() => next,
                _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Gone),
            };
            match next {
                Next::Piece(piece) => send(&mut stream, piece, pause).await?,
                Next::End => {
                    stream.send_data(Bytes::new(), true)?;
                    exchange.finish();
                    return Ok(());
                }
                Next::Break(how) => {
                    match how {
                        Break::Cut => stream.send_data(Bytes::new(), true)?,
                        Break::Reset | Break::BadChunk => {
                            self.break_off(Command::Reset(stream, Reason::INTERNAL_ERROR));
                        }
                        Break::Goaway => self.break_off(Command::Goaway(stream)),
                    }
                    exchange.broken();
                    return Ok(());
                }
            }
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// The request's body; `None` if it is longer than `bound`.
async fn read_body(body: &mut RecvStream, bound: usize) -> Result<Option<Bytes>, Gone> {
    let mut whole = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if whole.len() + data.len() > bound {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

fn head(reply: &Reply, wrong: Option<i64>) -> http::Result<Response<()>> {
    let mut builder = Response::builder().status(reply.status).header(header::SERVER, "forebay-sim");
    for (name, value) in &reply.headers {
        builder = builder.header(name, value);
    }
    let length = match &reply.body {
        Body::Whole(bytes) => Some(bytes.len() as u64),
        Body::Stream(stream) => stream.length,
    };
    let length = match (length, wrong) {
        (Some(length), by) => Some(length.saturating_add_signed(by.unwrap_or(0))),
        (None, Some(by)) => Some(if by > 0 { 1 << 30 } else { by.unsigned_abs() }),
        (None, None) => None,
    };
    if let Some(length) = length {
        builder = builder.header(header::CONTENT_LENGTH, length);
    }
    builder.body(())
}

/// Sends as the client's window allows; with a pause, byte by byte, with it after each.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, pause: Option<Duration>) -> Result<(), Gone> {
    while !data.is_empty() {
        let want = if pause.is_some() { 1 } else { data.len() };
        stream.reserve_capacity(want);
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Gone),
        };
        let n = room.min(want);
        if n > 0 {
            stream.send_data(data.split_to(n), false)?;
        }
        match pause {
            None => {}
            // Lets the connection write and the client read: unread frames of no size look like an attack.
            Some(Duration::ZERO) => tokio::task::yield_now().await,
            Some(pause) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Gone),
            },
        }
    }
    Ok(())
}
