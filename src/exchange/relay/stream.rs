//! Moves a stream to the client, event by event.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::local::LocalHistogram;

use super::clocks::{Due, StreamClocks};
use super::flow::{Flow, Let};
use super::{Terms, joined};
use crate::dialect::usage::End;
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
    let mut flow = Flow::new(terms.operation, &terms.carry);
    METRICS.http.streams.inc();
    let ended = pump(&mut upstream, client, context, terms, &mut flow).await;
    METRICS.http.streams.dec();
    context.tally.usage = flow.usage();
    match ended {
        Ok(()) => {
            upstream.judge(Outcome::Good);
            client.end().await?;
            drain(upstream).await;
            Ok(())
        }
        Err(error) if client.sent() == Sent::Stream && error.kind != Kind::ClientGone => {
            cut(client, context, terms, &mut flow, &error).await;
            drop(upstream);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Ends a stream that broke, in a way that no client can take for its proper end.
async fn cut(client: &mut Client<'_>, context: &Context, terms: &Terms, flow: &mut Flow, error: &Error) {
    if let Some(place) = &context.place {
        METRICS.upstream.cut_streams.with_label_values(&[place.cluster.name()]).inc();
    }
    // Inside an event there is no place for another: only breaking the connection is unmistakable.
    if let Some(event) = flow.fail(terms.operation, error, &context.id) {
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
    flow: &mut Flow,
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
                forward(&chunk, upstream, client, context, terms, flow, &mut gaps).await?;
                if waited && context.timeline.first_token.is_some() {
                    // The timer was set for the first token: from now on the gap is shorter.
                    clocks.due(context.timeline.last_token, client.last);
                }
                if flow.is_closed() {
                    return ending(upstream, client, context, terms, flow).await;
                }
            }
            Next::Chunk(None) => return ending(upstream, client, context, terms, flow).await,
            Next::Broken(error) => return broken(upstream, client, context, terms, flow, error).await,
            Next::Gone(gone) => return Err(gone),
            Next::Tick => match clocks.due(context.timeline.last_token, client.last) {
                Due::Nothing => {}
                Due::Heartbeat if flow.at_boundary() => {
                    client.heartbeat(terms.operation, &context.id).await?
                }
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
    terms: &Terms,
    flow: &mut Flow,
    gaps: &mut Gaps,
) -> Result<(), Error> {
    let read = Instant::now();
    let mut pieces = Let::new();
    let content = flow.push(chunk, &mut pieces);
    if content > 0 {
        if gaps.token(read) {
            first_token(context, upstream, read);
        }
        context.timeline.token(read);
        context.tally.tokens += u64::from(content);
    }
    deliver(pieces, upstream, client, context, terms, flow).await?;
    gaps.added.observe(client.last.saturating_duration_since(read).as_secs_f64());
    Ok(())
}

/// Sends pieces of the stream, and before the first of them its head.
async fn deliver(
    pieces: Let,
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &Context,
    terms: &Terms,
    flow: &Flow,
) -> Result<(), Error> {
    if pieces.is_empty() {
        return Ok(());
    }
    if client.sent() == Sent::Nothing {
        // What failed before it began is no stream: the client is still to get a status of its own.
        if let Some(error) = flow.failure() {
            return Err(error.clone());
        }
        let mut head = headers::reply(upstream.take_response()?, &context.id);
        terms.carry.mark(&mut head, "text/event-stream; charset=utf-8");
        client.begin_stream(head).await?;
    }
    client.write(joined(pieces)).await?;
    client.last = Instant::now();
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
async fn ending(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &Context,
    terms: &Terms,
    flow: &mut Flow,
) -> Result<(), Error> {
    let end = flush(upstream, client, context, terms, flow).await?;
    let name = &upstream.endpoint().name;
    match end {
        End::Complete => Ok(()),
        // The upstream has told the client itself, or the translation has; nothing is to be added.
        End::Failed => {
            log::debug!("{name} reported an error inside its stream");
            upstream.judge(Outcome::Bad);
            flow.failure().map_or(Ok(()), |error| Err(error.clone()))
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

async fn broken(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &Context,
    terms: &Terms,
    flow: &mut Flow,
    error: Error,
) -> Result<(), Error> {
    match flush(upstream, client, context, terms, flow).await? {
        // All that mattered had come before the connection broke.
        End::Complete => Ok(()),
        End::Failed if flow.failure().is_none() => Ok(()),
        End::Failed | End::Truncated => Err(error),
    }
}

/// Sends what the flow held.
async fn flush(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    context: &Context,
    terms: &Terms,
    flow: &mut Flow,
) -> Result<End, Error> {
    let mut pieces = Let::new();
    let end = flow.finish(&mut pieces);
    deliver(pieces, upstream, client, context, terms, flow).await?;
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
