//! Moves a stream to the client, event by event.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::local::LocalHistogram;
use smallvec::SmallVec;

use super::clocks::{Due, StreamClocks};
use super::{Terms, joined};
use crate::dialect::stream::error_event;
use crate::dialect::usage::{End, StreamTap};
use crate::error::{Error, Kind};
use crate::exchange::attempt::Upstream;
use crate::exchange::client::{Client, Sent};
use crate::exchange::context::Context;
use crate::exchange::headers;
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::meter::series::DeploymentSeries;
use crate::upstream::cluster::Outcome;

/// What happened next in a stream.
enum Next {
    Chunk(Option<Bytes>),
    Broken(Error),
    Gone(Error),
    Tick,
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

/// Relays a stream. One that breaks after its head is ended here, with an error event.
pub(super) async fn stream(
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
