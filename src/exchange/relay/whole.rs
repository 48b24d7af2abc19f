//! Moves a whole reply to the client: in one piece where it is small enough to be held.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use smallvec::SmallVec;

use super::{Terms, joined};
use crate::dialect::ir::{Notes, ReplyTo};
use crate::dialect::translate;
use crate::dialect::usage::ReplyTap;
use crate::error::{Error, Kind};
use crate::exchange::attempt::Upstream;
use crate::exchange::carry::Carry;
use crate::exchange::client::Client;
use crate::exchange::context::Context;
use crate::exchange::{compress, headers};
use crate::frame::http1::Reply;
use crate::frame::sse::is_whole;
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::upstream::cluster::Outcome;

/// Replies up to this size are read whole before the client is sent anything: one that breaks off is then an error
/// with a status, not a cut connection.
const HELD: usize = 1 << 20;

/// Relays a whole reply.
pub(super) async fn whole(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    if let Carry::Translated { upstream: dialect, client: asked, to, .. } = &terms.carry {
        return translated(upstream, client, context, terms, (*dialect, *asked, to)).await;
    }
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
    note_own(context, read);
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

/// The largest reply that is translated, bytes: it is held twice meanwhile.
const TRANSLATED: usize = 32 << 20;

/// Relays a reply in the client's own dialect.
async fn translated(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    (dialect, asked, to): (translate::Upstream, translate::Client, &ReplyTo),
) -> Result<(), Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = next_piece(&mut upstream, client, terms).await? {
        if body.len() + piece.len() > TRANSLATED {
            upstream.judge(Outcome::Bad);
            return Err(Error::upstream(
                Kind::UpstreamFailed,
                "the upstream's reply is too large to be translated",
            ));
        }
        body.extend_from_slice(&piece);
    }
    context.phase = When::Data;
    let read = Instant::now();
    context.timeline.token(read);
    let reply = dialect.reply(&body).inspect_err(|_| upstream.judge(Outcome::Bad))?;
    context.tally.usage = reply.usage;
    let mut notes = Notes::default();
    let body: Bytes = asked.reply(&reply, to, &mut notes).into();
    let mut head = headers::reply(upstream.take_response()?, &context.id);
    terms.carry.mark(&mut head, "application/json");
    finish_whole(upstream, client, terms, head, body).await?;
    note_own(context, read);
    Ok(())
}

/// Notes the time that Forebay took for a reply.
fn note_own(context: &mut Context, read: Instant) {
    let took = read.elapsed();
    context.timeline.own += took;
    METRICS.http.added.reply.observe(took.as_secs_f64());
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
