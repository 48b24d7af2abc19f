//! Moves a whole reply to the client: in one piece where it is small enough to be held.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use smallvec::SmallVec;

use super::{Opened, Terms, joined};
use crate::dialect::ir::{self, Notes, ReplyTo};
use crate::dialect::owned::marked_reply;
use crate::dialect::translate;
use crate::dialect::usage::{ReplyTap, Usage};
use crate::error::{Error, Kind};
use crate::exchange::attempt::Upstream;
use crate::exchange::carry::Carry;
use crate::exchange::client::{Client, Sent};
use crate::exchange::context::Context;
use crate::exchange::verdict::Failed;
use crate::exchange::{compress, headers};
use crate::filter::redact::redact_reply;
use crate::frame::http1::Reply;
use crate::frame::sse::is_whole;
use crate::json::balance::Balance;
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::upstream::cluster::Outcome;

/// Replies up to this size are read whole before the client is sent anything: one that breaks off is then a case for
/// another attempt, or an error with a status, not a cut connection.
const HELD: usize = 1 << 20;
/// The largest reply that is translated, bytes: it is held twice meanwhile.
const TRANSLATED: usize = 32 << 20;

/// A reply of which all was read, or as much as is held.
pub(in crate::exchange) struct Held {
    upstream: Upstream,
    head: Reply,
    pieces: SmallVec<[Bytes; 2]>,
    content: Content,
    /// When it had been read.
    read: Instant,
}

/// What is held.
enum Content {
    /// All of it, as it is to be sent.
    Whole(Option<Usage>),
    /// The beginning of it.
    Part(ReplyTap),
}

/// Reads a whole reply, or the beginning of a large one.
pub(super) async fn open(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<Opened, Box<Failed>> {
    let bound = match terms.carry {
        Carry::Verbatim { seal: None, .. } => HELD,
        // What is marked must be seen whole, too.
        Carry::Verbatim { .. } | Carry::Translated { .. } | Carry::Embedded { .. } => TRANSLATED,
    };
    let (pieces, complete) = gather(&mut upstream, client, context, terms, bound).await?;
    let read = Instant::now();
    let (pieces, content) = match &terms.carry {
        Carry::Verbatim { .. } => verbatim(&mut upstream, terms, pieces, complete)?,
        _ if !complete => return Err(too_large(&mut upstream).into()),
        Carry::Translated { upstream: dialect, client: asked, to, .. } => {
            let (read, mut notes) = (dialect.reply(&joined(pieces)), Notes::default());
            let read = read.and_then(|reply| redact_reply(terms.carry.redacts(), reply));
            let written = read.map(|reply| (asked.reply(&reply, to, &mut notes), reply.usage));
            context.lose(&notes);
            translated(&mut upstream, written)?
        }
        Carry::Embedded { upstream: shape, to, .. } => {
            translated(&mut upstream, shape.reply(&joined(pieces), to))?
        }
    };
    let head = upstream.take_response()?;
    Ok(Opened::Whole(Box::new(Held { upstream, head, pieces, content, read })))
}

type Contents = (SmallVec<[Bytes; 2]>, Content);

/// A reply that goes on as it is. One that is complete must look like it.
fn verbatim(
    upstream: &mut Upstream,
    terms: &Terms,
    pieces: SmallVec<[Bytes; 2]>,
    complete: bool,
) -> Result<Contents, Error> {
    let mut tap = ReplyTap::new(terms.operation);
    pieces.iter().for_each(|piece| tap.push(piece));
    if !complete {
        return Ok((pieces, Content::Part(tap)));
    }
    let body = joined(pieces);
    if body.trim_ascii().is_empty() {
        upstream.judge(Outcome::Bad);
        return Err(unanswered(upstream).again());
    }
    // A whole reading is for replies whose end is only the connection's; for the others the last byte tells.
    let cut = if upstream.ends_by_close() { !is_whole(&body) } else { is_open(&body) };
    if cut {
        upstream.judge(Outcome::Bad);
        return Err(cut_off(upstream).again());
    }
    if is_error(&body) {
        upstream.judge(Outcome::Bad);
        return Err(ir::reported(&body).because("an error with status 200").again());
    }
    let body = match &terms.carry {
        Carry::Verbatim { seal: Some(seal), .. } => marked_reply(&body, &**seal),
        _ => body,
    };
    Ok((SmallVec::from_iter([body]), Content::Whole(tap.finish())))
}

/// A reply in the client's own dialect, if the upstream's could be read.
fn translated(
    upstream: &mut Upstream,
    reply: Result<(Vec<u8>, Option<Usage>), Error>,
) -> Result<Contents, Error> {
    let (body, usage) = reply.map_err(|error| {
        upstream.judge(Outcome::Bad);
        error.again()
    })?;
    Ok((SmallVec::from_iter([Bytes::from(body)]), Content::Whole(usage)))
}

/// Relays a reply to its end.
pub(super) async fn deliver(
    held: Held,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let Held { upstream, head, pieces, content, read } = held;
    let length = head.fields.get(&CONTENT_LENGTH).cloned();
    let mut head = headers::reply(head, &context.id);
    terms.carry.mark(&mut head, false);
    match content {
        Content::Whole(usage) => {
            context.tally.usage = usage;
            context.bill.complete(usage);
            tell_cost(&mut head, usage, context);
            at_once(upstream, client, terms, head, joined(pieces)).await?;
        }
        Content::Part(mut tap) => {
            let length = length.as_ref().and_then(|value| value.to_str().ok());
            client.begin_whole(head, length).await?;
            let mut balance = Balance::default();
            for piece in pieces {
                balance.push(&piece);
                client.write(piece).await?;
            }
            rest(upstream, client, context, terms, &mut tap, balance).await?;
            context.tally.usage = tap.finish();
            context.bill.complete(context.tally.usage);
        }
    }
    let took = read.elapsed();
    context.timeline.own += took;
    METRICS.http.added.reply.observe(took.as_secs_f64());
    Ok(())
}

/// Tells what a whole reply cost, all attempts together, where the route says so.
fn tell_cost(head: &mut Reply, usage: Option<Usage>, context: &Context) {
    let tells = context.route.as_ref().is_some_and(|route| route.cost);
    if let Some(cost) = usage.filter(|_| tells).and_then(|usage| context.bill.with(&usage)) {
        headers::put(head, headers::X_FOREBAY_COST, &cost.to_string());
    }
}

/// Sends a reply that is complete.
async fn at_once(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    terms: &Terms,
    mut head: Reply,
    body: Bytes,
) -> Result<(), Error> {
    upstream.judge(Outcome::Good);
    let body = compressed(client, terms, &mut head, body);
    upstream.release().await;
    client.whole(head, body).await
}

/// The body as the client is sent it.
fn compressed(client: &Client<'_>, terms: &Terms, head: &mut Reply, body: Bytes) -> Bytes {
    match terms.compress.then(|| compress::choose(client.headers(), head, body.len())).flatten() {
        Some(coding) => compress::compress(coding, head, body),
        None => body,
    }
}

/// A reply that came in another way than the client asked for.
pub(in crate::exchange) struct Made {
    /// Its head, as the upstream sent it.
    pub(super) head: Reply,
    /// Its body, in the client's dialect: whole, or all events of a stream.
    pub(super) body: Bytes,
    /// What was used.
    pub(super) usage: Option<Usage>,
}

/// Relays it.
pub(super) async fn made(
    made: Made,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let mut head = headers::reply(made.head, &context.id);
    terms.carry.mark(&mut head, terms.stream);
    context.tally.usage = made.usage;
    context.bill.complete(made.usage);
    if !terms.stream {
        tell_cost(&mut head, made.usage, context);
        head.fields.set(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = compressed(client, terms, &mut head, made.body);
        return client.whole(head, body).await;
    }
    context.tally.stream = true;
    if client.sent() == Sent::Nothing {
        head.fields.set(CONTENT_TYPE, HeaderValue::from_static(terms.operation.stream_media()));
        client.begin_stream(head).await?;
    }
    client.write(made.body).await?;
    client.end().await
}

/// Reads a whole reply, and makes the stream of it that the client asked for.
pub(super) async fn unfold(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    (dialect, asked, to): (translate::Upstream, translate::Client, ReplyTo),
) -> Result<Opened, Box<Failed>> {
    let (pieces, complete) = gather(&mut upstream, client, context, terms, TRANSLATED).await?;
    if !complete {
        return Err(too_large(&mut upstream).into());
    }
    let body = joined(pieces);
    let read = dialect.reply(&body).and_then(|reply| redact_reply(terms.carry.redacts(), reply));
    let reply = read.map_err(|error| {
        upstream.judge(Outcome::Bad);
        error.again()
    })?;
    let (mut encoder, mut events) = (asked.encoder(to), Vec::with_capacity(body.len()));
    reply.events(&mut |event| encoder.push(event, &mut events));
    context.lose(encoder.notes());
    let head = upstream.take_response()?;
    upstream.judge(Outcome::Good);
    upstream.release().await;
    Ok(Opened::Made(Box::new(Made { head, body: events.into(), usage: reply.usage })))
}

/// Reads a whole reply up to that many bytes. Says whether that was all of it.
async fn gather(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    bound: usize,
) -> Result<(SmallVec<[Bytes; 2]>, bool), Error> {
    let mut pieces: SmallVec<[Bytes; 2]> = SmallVec::new();
    let (mut size, mut complete) = (0, false);
    while size < bound {
        let Some(chunk) = next_piece(upstream, client, terms, context.timeline.tried).await? else {
            complete = true;
            break;
        };
        size += chunk.len();
        context.bill.passed(chunk.len());
        pieces.push(chunk);
    }
    context.phase = When::Data;
    context.timeline.token(Instant::now());
    Ok((pieces, complete))
}

fn too_large(upstream: &mut Upstream) -> Error {
    upstream.judge(Outcome::Bad);
    Error::upstream(Kind::UpstreamFailed, "the upstream's reply is too large to be translated")
}

fn unanswered(upstream: &Upstream) -> Error {
    Error::upstream(Kind::UpstreamFailed, "the upstream answered without a body")
        .because(&upstream.endpoint().name)
}

fn cut_off(upstream: &Upstream) -> Error {
    Error::upstream(Kind::UpstreamFailed, "the upstream broke off its reply")
        .because(format!("{}: the body ends in the middle", upstream.endpoint().name))
}

/// Whether a reply that pretends to be good is an error, in the shape of any dialect that begins with saying so.
fn is_error(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let Some(rest) = body.strip_prefix(b"{") else { return false };
    let said: Vec<u8> = rest.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(20).collect();
    let is_object = said
        .strip_prefix(b"\"error\":")
        .is_some_and(|value| value.starts_with(b"{") || value.starts_with(b"\""));
    is_object || said.starts_with(b"\"type\":\"error\"")
}

/// Whether a body begins a JSON object that it does not end: its length was announced too short.
fn is_open(body: &[u8]) -> bool {
    body.trim_ascii().starts_with(b"{") && !body.trim_ascii().ends_with(b"}")
}

/// A reply too large to be held goes on as it comes. If it breaks off, so does the client's.
async fn rest(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    tap: &mut ReplyTap,
    mut balance: Balance,
) -> Result<(), Error> {
    loop {
        let piece = next_piece(&mut upstream, client, terms, context.timeline.tried).await;
        let Some(chunk) = piece.inspect_err(|error| upstream.ended_by(error))? else { break };
        context.timeline.token(Instant::now());
        context.bill.passed(chunk.len());
        tap.push(&chunk);
        balance.push(&chunk);
        client.write(chunk).await?;
    }
    if balance.is_open() {
        upstream.judge(Outcome::Bad);
        return Err(cut_off(&upstream));
    }
    upstream.judge(Outcome::Good);
    upstream.release().await;
    client.end().await
}

/// The next piece of a whole reply, under the clocks of an attempt that was begun when it was `tried`, and as long as the
/// client is there.
async fn next_piece(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    terms: &Terms,
    tried: Instant,
) -> Result<Option<Bytes>, Error> {
    let now = Instant::now();
    let (exchange, attempt) = (terms.deadline, tried + terms.clocks.attempt);
    let slow = |upstream: &mut Upstream, at| match () {
        () if at >= exchange => upstream.late("the exchange took too long"),
        () if at >= attempt => upstream.slow("the attempt took too long"),
        () => upstream.slow("the upstream's reply fell silent"),
    };
    let left = exchange.min(attempt).saturating_duration_since(now);
    // A timer that is due lets what is ready go first, and what floods is always ready.
    if left.is_zero() {
        return Err(slow(upstream, now));
    }
    let until = now + terms.clocks.gap.min(left);
    loop {
        let stretch = upstream.stretch(Instant::now(), until)?;
        match client.unless_gone(async { Ok(tokio::time::timeout(stretch, upstream.body()).await) }).await? {
            Ok(piece) => return piece,
            Err(_) if Instant::now() < until => {}
            Err(_) => return Err(slow(upstream, Instant::now())),
        }
    }
}
