//! Moves a reply to the client: a stream event by event, a whole reply in one piece, an upstream's error as it is or
//! in the client's dialect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use prometheus::local::LocalHistogram;
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::attempt::Upstream;
use super::client::{Client, Sent};
use super::context::Context;
use super::{compress, headers};
use crate::clocks::Clocks;
use crate::dialect::Operation;
use crate::dialect::stream::error_event;
use crate::dialect::usage::{End, ReplyTap, StreamTap};
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::frame::sse::is_whole;
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::meter::series::DeploymentSeries;
use crate::upstream::cluster::Outcome;

/// What a reply is relayed with.
pub struct Terms {
    /// What was asked.
    pub operation: Operation,
    /// The clocks in force.
    pub clocks: Clocks,
    /// When the exchange must be over.
    pub deadline: Instant,
    /// Whether usage was asked for by Forebay alone, so that the client must not see it.
    pub strip: bool,
    /// Whether whole replies may be compressed.
    pub compress: bool,
    /// The deployment's series.
    pub series: Arc<DeploymentSeries>,
}

/// Relays what the upstream answered.
///
/// # Errors
/// What went wrong before anything was committed to the client, and after it in a whole reply. A stream that breaks
/// after its head is ended here, with an error event.
pub async fn relay(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let Some(head) = upstream.response() else {
        return Err(Error::gateway(Kind::Internal, "the reply has no head"));
    };
    let status = head.status;
    let media = head.fields.get(&CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_stream = media.starts_with(b"text/event-stream");
    let is_coded = head
        .fields
        .get(&CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    context.upstream_id = upstream_id(head);
    context.phase = When::FirstToken;
    match (status, is_stream) {
        (400.., _) => failure(upstream, client, context, terms, status).await,
        _ if is_coded => {
            upstream.judge(Outcome::Bad);
            Err(Error::upstream(
                Kind::UpstreamFailed,
                "the upstream compressed its reply, which it was asked not to",
            )
            .because(&upstream.endpoint().name))
        }
        (204 | 205, _) => {
            upstream.judge(Outcome::Bad);
            Err(Error::upstream(Kind::UpstreamFailed, "the upstream answered without a body")
                .because(&upstream.endpoint().name))
        }
        (_, true) => stream(upstream, client, context, terms).await,
        (300..400, _) => {
            upstream.judge(Outcome::Bad);
            Err(Error::upstream(
                Kind::UpstreamFailed,
                "the upstream answered with a redirect, which is not followed",
            )
            .because(&upstream.endpoint().name))
        }
        _ if client.sent() == Sent::Stream => {
            Err(Error::upstream(Kind::UpstreamFailed, "the upstream answered a stream with a whole reply"))
        }
        _ => whole(upstream, client, context, terms).await,
    }
}

fn upstream_id(head: &Reply) -> String {
    let is_id = |name: &str| matches!(name, "x-request-id" | "request-id" | "apim-request-id");
    let value = head.fields.iter().find(|(name, _)| is_id(name.as_str())).map(|(_, value)| value);
    value.and_then(|value| value.to_str().ok()).filter(|id| id.len() <= 128).unwrap_or_default().to_owned()
}

/// What happened next in a stream.
enum Next {
    Chunk(Option<Bytes>),
    Broken(Error),
    Gone(Error),
    Tick,
}

/// The clocks of a stream. One timer serves them all: it is set to the earliest, and only when it fires is it worked
/// out what is due, so that an event costs no timer.
struct StreamClocks<'a> {
    clocks: &'a Clocks,
    tried: Instant,
    sent: Instant,
    deadline: Instant,
    timer: std::pin::Pin<Box<Sleep>>,
}

/// What is due when the timer fires.
enum Due {
    Nothing,
    Heartbeat,
    Slow(&'static str),
}

impl<'a> StreamClocks<'a> {
    fn new(terms: &'a Terms, tried: Instant, sent: Instant) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { clocks: &terms.clocks, tried, sent, deadline: terms.deadline, timer }
    }

    /// Works out what is due and sets the timer to what is next. `last_token` is the last content, `last_sent` the
    /// last byte to the client.
    fn due(&mut self, last_token: Option<Instant>, last_sent: Instant) -> Due {
        let now = Instant::now();
        let content = match last_token {
            None => (self.sent + self.clocks.first_token, "the upstream's first token did not come in time"),
            Some(last) => (last + self.clocks.gap, "the upstream's stream fell silent"),
        };
        let attempt = (self.tried + self.clocks.attempt, "the attempt took too long");
        let exchange = (self.deadline, "the exchange took too long");
        let limits = [content, attempt, exchange];
        if let Some((_, why)) = limits.iter().find(|(at, _)| *at <= now) {
            return Due::Slow(why);
        }
        let heartbeat = self.clocks.heartbeat.map(|silence| last_sent + silence);
        let beat = heartbeat.is_some_and(|at| at <= now);
        let next = limits.iter().map(|(at, _)| *at).chain(heartbeat.filter(|_| !beat)).min();
        let next = match (beat, self.clocks.heartbeat) {
            (true, Some(silence)) => next.map(|at| at.min(now + silence)),
            _ => next,
        };
        self.timer.as_mut().reset(next.unwrap_or(self.deadline).into());
        if beat { Due::Heartbeat } else { Due::Nothing }
    }
}

/// Times between events, kept aside until the stream is over: an event costs no shared counter.
struct Gaps {
    inter_token: LocalHistogram,
    added: LocalHistogram,
    last: Option<Instant>,
}

impl Gaps {
    /// Notes content that was read at `read`. Says whether it is the first.
    fn token(&mut self, read: Instant) -> bool {
        match self.last.replace(read) {
            Some(last) => {
                self.inter_token.observe(read.saturating_duration_since(last).as_secs_f64());
                false
            }
            None => true,
        }
    }

    fn new(series: &DeploymentSeries) -> Self {
        Self {
            inter_token: series.inter_token().local(),
            added: METRICS.http.added.event.local(),
            last: None,
        }
    }
}

async fn stream(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    context.tally.stream = true;
    let mut tap = StreamTap::new(terms.operation, terms.strip);
    METRICS.http.streams.inc();
    let ended = pump(&mut upstream, client, context, terms, &mut tap).await;
    METRICS.http.streams.dec();
    context.tally.usage = tap.usage();
    match ended {
        Ok(()) => {
            upstream.judge(Outcome::Good);
            client.end().await?;
            drain(upstream).await;
            Ok(())
        }
        Err(error) if client.sent() == Sent::Stream && error.kind != Kind::ClientGone => {
            cut(client, context, terms, &tap, &error).await;
            drop(upstream);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Ends a stream that broke, in a way that no client can take for its proper end.
async fn cut(client: &mut Client<'_>, context: &Context, terms: &Terms, tap: &StreamTap, error: &Error) {
    if let Some(place) = &context.place {
        METRICS.upstream.cut_streams.with_label_values(&[place.cluster.name()]).inc();
    }
    // Inside an event there is no place for another: only breaking the connection is unmistakable.
    if tap.at_boundary() {
        let event = error_event(terms.operation, error, &context.id, tap.mark());
        // A client that has left meanwhile needs no ending.
        if client.write(event).await.is_ok() {
            let _ = client.end().await;
        }
    }
}

async fn pump(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    tap: &mut StreamTap,
) -> Result<(), Error> {
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let mut clocks = StreamClocks::new(terms, context.timeline.tried, sent);
    let mut gaps = Gaps::new(&terms.series);
    loop {
        let next = tokio::select! {
            biased;
            read = upstream.body() => match read {
                Ok(chunk) => Next::Chunk(chunk),
                Err(error) => Next::Broken(error),
            },
            gone = client.gone() => Next::Gone(gone),
            () = clocks.timer.as_mut() => Next::Tick,
        };
        match next {
            // An HTTP/2 stream may end with an empty frame, which is no reply.
            Next::Chunk(Some(chunk)) if chunk.is_empty() => {}
            Next::Chunk(Some(chunk)) => {
                let waited = context.timeline.first_token.is_none();
                forward(&chunk, upstream, client, context, tap, &mut gaps).await?;
                if waited && context.timeline.first_token.is_some() {
                    // The timer was set for the first token: from now on the gap is shorter.
                    clocks.due(context.timeline.last_token, client.last);
                }
                if tap.is_closed() {
                    return ending(tap, client, upstream).await;
                }
            }
            Next::Chunk(None) => return ending(tap, client, upstream).await,
            Next::Broken(error) => return broken(tap, client, error).await,
            Next::Gone(gone) => return Err(gone),
            Next::Tick => match clocks.due(context.timeline.last_token, client.last) {
                Due::Nothing => {}
                Due::Heartbeat if tap.at_boundary() => client.heartbeat(terms.operation, &context.id).await?,
                Due::Heartbeat => {}
                Due::Slow(why) => return Err(upstream.slow(why)),
            },
        }
    }
}

/// Passes one chunk on.
async fn forward(
    chunk: &Bytes,
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    tap: &mut StreamTap,
    gaps: &mut Gaps,
) -> Result<(), Error> {
    let read = Instant::now();
    let mut pieces: SmallVec<[Bytes; 2]> = SmallVec::new();
    let seen = tap.push(chunk, &mut |piece| pieces.push(piece));
    if client.sent() == Sent::Nothing {
        client.begin_stream(headers::reply(upstream.take_response()?, &context.id)).await?;
    }
    if seen.content > 0 {
        if gaps.token(read) {
            first_token(context, upstream, read);
        }
        context.timeline.token(read);
        context.tally.tokens += u64::from(seen.content);
    }
    client.write(joined(pieces)).await?;
    client.last = Instant::now();
    gaps.added.observe(client.last.saturating_duration_since(read).as_secs_f64());
    Ok(())
}

/// Notes how long the first token took.
fn first_token(context: &mut Context, upstream: &Upstream, read: Instant) {
    context.phase = When::Data;
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let took = read.saturating_duration_since(sent);
    upstream.endpoint().first_token(took);
    if let Some(series) = context.place.as_ref().and_then(|place| place.series.as_ref()) {
        series.first_token().observe(took.as_secs_f64());
    }
}

/// One piece to write: nearly always there is but one.
fn joined(mut pieces: SmallVec<[Bytes; 2]>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.pop().unwrap_or_default(),
        _ => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}

/// The stream is over: was it whole?
async fn ending(tap: &mut StreamTap, client: &mut Client<'_>, upstream: &mut Upstream) -> Result<(), Error> {
    let end = flush(tap, client).await?;
    let name = &upstream.endpoint().name;
    match end {
        End::Complete => Ok(()),
        // The upstream has told the client itself; nothing is to be added.
        End::Failed => {
            log::debug!("{name} reported an error inside its stream");
            upstream.judge(Outcome::Bad);
            Ok(())
        }
        End::Truncated => {
            let error =
                Error::upstream(Kind::UpstreamFailed, "the upstream ended its stream before it was complete")
                    .because(format!("{name}: the stream has no terminal event"));
            upstream.judge(Outcome::Bad);
            Err(error)
        }
    }
}

async fn broken(tap: &mut StreamTap, client: &mut Client<'_>, error: Error) -> Result<(), Error> {
    match flush(tap, client).await? {
        // All that mattered had come before the connection broke.
        End::Complete | End::Failed => Ok(()),
        End::Truncated => Err(error),
    }
}

async fn flush(tap: &mut StreamTap, client: &mut Client<'_>) -> Result<End, Error> {
    let mut pieces: SmallVec<[Bytes; 2]> = SmallVec::new();
    let end = tap.finish(&mut |piece| pieces.push(piece));
    if client.sent() == Sent::Stream {
        client.write(joined(pieces)).await?;
    }
    Ok(end)
}

/// How long the end of a reply whose content is complete is waited for, to keep its connection.
const TAIL: Duration = Duration::from_millis(200);

/// Reads the end of a body whose content has passed, and keeps the connection if it comes.
async fn drain(mut upstream: Upstream) {
    let tail = async { while let Ok(Some(_)) = upstream.body().await {} };
    if tokio::time::timeout(TAIL, tail).await.is_ok() {
        upstream.release().await;
    }
}

/// Replies up to this size are read whole before the client is sent anything: one that breaks off is then an error
/// with a status, not a cut connection.
const HELD: usize = 1 << 20;

async fn whole(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let mut tap = ReplyTap::new(terms.operation);
    let mut pieces: SmallVec<[Bytes; 2]> = SmallVec::new();
    let (mut size, mut complete) = (0, false);
    while size < HELD {
        let Some(chunk) = next_piece(&mut upstream, client, terms).await? else {
            complete = true;
            break;
        };
        tap.push(&chunk);
        size += chunk.len();
        pieces.push(chunk);
    }
    context.phase = When::Data;
    let read = Instant::now();
    context.timeline.token(read);
    let mut head = upstream.take_response()?;
    let length = head.fields.get(&CONTENT_LENGTH).cloned();
    head = headers::reply(head, &context.id);
    if complete {
        finish_whole(upstream, client, terms, head, joined(pieces)).await?;
    } else {
        let length = length.as_ref().and_then(|value| value.to_str().ok());
        client.begin_whole(head, length).await?;
        stream_whole(upstream, client, context, terms, pieces, &mut tap).await?;
    }
    context.tally.usage = tap.finish();
    let took = read.elapsed();
    context.timeline.own += took;
    METRICS.http.added.reply.observe(took.as_secs_f64());
    Ok(())
}

async fn finish_whole(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    terms: &Terms,
    mut head: Reply,
    body: Bytes,
) -> Result<(), Error> {
    // A whole reading is for replies whose end is only the connection's; for the others the last byte tells.
    let cut = if upstream.ends_by_close() { !is_whole(&body) } else { is_open(&body) };
    if cut {
        upstream.judge(Outcome::Bad);
        return Err(Error::upstream(Kind::UpstreamFailed, "the upstream broke off its reply")
            .because(format!("{}: the body ends in the middle", upstream.endpoint().name)));
    }
    upstream.judge(Outcome::Good);
    let coding = terms.compress.then(|| compress::choose(client.headers(), &head, body.len())).flatten();
    let body = match coding {
        Some(coding) => compress::compress(coding, &mut head, body),
        None => body,
    };
    upstream.release().await;
    client.whole(head, body).await
}

/// Whether a body begins a JSON object that it does not end: its length was announced too short.
fn is_open(body: &[u8]) -> bool {
    body.trim_ascii().starts_with(b"{") && !body.trim_ascii().ends_with(b"}")
}

/// A reply too large to be held goes on as it comes. If it breaks off, so does the client's.
async fn stream_whole(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    pieces: SmallVec<[Bytes; 2]>,
    tap: &mut ReplyTap,
) -> Result<(), Error> {
    for piece in pieces {
        client.write(piece).await?;
    }
    while let Some(chunk) = next_piece(&mut upstream, client, terms).await? {
        context.timeline.token(Instant::now());
        tap.push(&chunk);
        client.write(chunk).await?;
    }
    upstream.judge(Outcome::Good);
    upstream.release().await;
    client.end().await
}

/// The next piece of a whole reply, under the gap clock and as long as the client is there.
async fn next_piece(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    terms: &Terms,
) -> Result<Option<Bytes>, Error> {
    let limit = terms.clocks.gap.min(terms.deadline.saturating_duration_since(Instant::now()));
    match client.unless_gone(async { Ok(tokio::time::timeout(limit, upstream.body()).await) }).await? {
        Ok(piece) => piece,
        Err(_) => Err(upstream.slow("the upstream's reply fell silent")),
    }
}

/// The most of an upstream's error that is read, bytes.
const ERROR_BODY: usize = 256 << 10;
/// How long it may take.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// An upstream's error goes to the client as it is, if it is JSON and the client's own doing or limit. What is wrong
/// with our credential is ours, and a page of HTML is nothing an SDK can read: both become errors of our own.
async fn failure(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    status: u16,
) -> Result<(), Error> {
    upstream.judge(if matches!(status, 500 | 502..=599) { Outcome::Bad } else { Outcome::Neutral });
    count_failure(&upstream, status);
    let body = match client
        .unless_gone(async { Ok(tokio::time::timeout(ERROR_TIME, gather(&mut upstream)).await) })
        .await?
    {
        Ok(body) => body?,
        Err(_) => return Err(upstream.slow("the upstream's answer did not come in time")),
    };
    let name = Arc::clone(upstream.endpoint());
    let mut head = headers::reply(upstream.take_response()?, &context.id);
    let readable = is_whole(&body) && matches!(body.first(), Some(b'{' | b'['));
    if readable {
        upstream.release().await;
    }
    let ours = matches!(status, 401 | 403) && has_credential(context);
    let said = crate::dialect::error::read(&body, None).map(|said| said.message).unwrap_or_default();
    let private = format!("{} answered {status}: {}", name.name, truncated(&said));
    match () {
        () if readable && !ours && client.sent() == Sent::Nothing => {
            headers::put(&mut head, CONTENT_TYPE, "application/json");
            context.note = private;
            client.whole(head, body).await
        }
        _ if ours => Err(Error::upstream(
            Kind::UpstreamFailed,
            "the upstream did not accept this gateway's credential",
        )
        .because(private)),
        _ => Err(Error::upstream(kind_of(status), public_of(status, &said)).because(private)),
    }
    .inspect(|()| log::debug!("{:?} failed with {status}", terms.operation))
}

fn count_failure(upstream: &Upstream, status: u16) {
    let kind = match status {
        429 => "rate",
        401 | 403 => "credential",
        400..=499 => "refused",
        _ => "failed",
    };
    let cluster = upstream.cluster();
    METRICS.upstream.errors.with_label_values(&[cluster.spec.provider.name, cluster.name(), kind]).inc();
}

async fn gather(upstream: &mut Upstream) -> Result<Bytes, Error> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = upstream.body().await? {
        if whole.len() + chunk.len() > ERROR_BODY {
            return Err(Error::upstream(
                Kind::UpstreamFailed,
                "the upstream's error is too large to be passed on",
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn has_credential(context: &Context) -> bool {
    context.place.as_ref().is_some_and(|place| !place.cluster.spec.headers.is_empty())
}

/// The kind whose status is nearest to an upstream's.
fn kind_of(status: u16) -> Kind {
    match status {
        404 => Kind::UnknownModel,
        408 | 504 => Kind::UpstreamTimeout,
        413 => Kind::TooLarge,
        429 => Kind::RateLimited,
        503 | 529 => Kind::Overloaded,
        400..=499 => Kind::InvalidRequest,
        _ => Kind::UpstreamFailed,
    }
}

fn public_of(status: u16, said: &str) -> String {
    match truncated(said) {
        "" => format!("the upstream answered with status {status} and nothing that can be passed on"),
        said => format!("the upstream answered with status {status}: {said}"),
    }
}

/// The start of a message, as much as a log line or an error should hold.
fn truncated(text: &str) -> &str {
    let end = (0..=500.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}
