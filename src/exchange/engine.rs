//! The attempt engine: tries one place after another until one answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use pingora_timeout::timeout;

use super::attempt::Upstream;
use super::carry::{Asked, Carry};
use super::client::Client;
use super::context::{Context, Place};
use super::headers;
use super::relay::Terms;
use super::retry::Plan;
use crate::dialect::translate::Passage;
use crate::error::{Error, Kind, Retry};
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::route::alias::{Alias, Deployment, Sticky};
use crate::upstream::endpoint::InFlight;

/// One exchange, as it came from the client.
pub(super) struct Ask<'a> {
    /// The request.
    pub(super) asked: Asked<'a>,
    /// The query with its question mark; empty without one.
    pub(super) query: String,
    /// The alias that its model means.
    pub(super) alias: &'a Alias,
}

/// Tries one place after another until one answers. Says what is to be relayed, and on what terms.
pub(super) async fn reach(
    ask: Ask<'_>,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(Upstream, Terms), Error> {
    let now = context.timeline.received.unwrap_or(context.timeline.began);
    let sticky = sticky_value(ask.alias, client.headers(), context);
    let retry = context.snapshot.retry;
    let mut plan = Plan::new(ask.alias, ask.asked.operation, sticky.as_deref(), retry, now);
    let mut last = None;
    while let Some((deployment, flight)) = plan.next(now) {
        if last.is_some() {
            let wait = tokio::time::sleep(retry.delay);
            client
                .unless_gone(async {
                    wait.await;
                    Ok(())
                })
                .await?;
        }
        context.attempts += 1;
        context.timeline.restart(if last.is_some() { Instant::now() } else { now });
        let mut terms = terms(&ask, deployment, context);
        let endpoint = Arc::clone(flight.endpoint());
        client.write_within(terms.clocks.client_write);
        let begun = begin(&ask, deployment, flight, &mut terms, client, context).await;
        match begun {
            Ok(upstream) => return Ok((upstream, terms)),

            Err(error) if error.retry == Retry::Elsewhere => {
                log::debug!("{}: attempt {} failed: {error}", context.id, context.attempts);
                // A stale connection says nothing of its endpoint, which is tried again on a fresh one.
                if context.timeline.connected.is_none() {
                    plan.strike(&endpoint);
                }
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::upstream(Kind::Overloaded, "no upstream is available for this model; try again in a moment")
            .after(1)
    }))
}

fn sticky_value(alias: &Alias, headers: &HeaderMap, context: &Context) -> Option<String> {
    match &alias.sticky {
        Sticky::No => None,
        Sticky::Principal => context.principal.as_ref().map(|principal| principal.name.clone()),
        Sticky::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
    }
}

fn terms(ask: &Ask<'_>, deployment: &Deployment, context: &Context) -> Terms {
    let clocks = context
        .snapshot
        .clocks
        .with(&deployment.cluster.spec.clocks)
        .with(&context.overrides())
        .with(&ask.alias.clocks);
    Terms {
        operation: ask.asked.operation,
        clocks,
        deadline: context.timeline.began + clocks.exchange,
        carry: Carry::Verbatim { strip: false },
        compress: context.route.as_ref().is_some_and(|route| route.compress),
        series: Arc::clone(&deployment.series),
    }
}

/// One attempt, up to the response head. Says in the terms how the reply is to be read.
async fn begin(
    ask: &Ask<'_>,
    deployment: &Deployment,
    flight: InFlight,
    terms: &mut Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Upstream, Error> {
    let model = deployment.model.resolve(&context.starred);
    let spec = &deployment.cluster.spec;
    let passage = spec.passage(ask.asked.operation).ok_or_else(unspoken)?;
    let written = ask.asked.write(passage, spec, model.as_deref(), &context.id)?;
    terms.carry = written.carry;
    deployment.series.requests().inc();
    context.place = Some(Place {
        cluster: Arc::clone(&deployment.cluster),
        endpoint: Arc::clone(flight.endpoint()),
        model,
        series: Some(Arc::clone(&deployment.series)),
    });
    context.phase = When::Connect;
    let began = Instant::now();
    let own = began.saturating_duration_since(context.timeline.received.unwrap_or(began));
    context.timeline.own += own;
    METRICS.http.added.request.observe(own.as_secs_f64());
    let (cluster, fresh) = (Arc::clone(&deployment.cluster), context.attempts > 1);
    let mut upstream = client.unless_gone(Upstream::connect(cluster, flight, &terms.clocks, fresh)).await?;
    // Taking a connection from the pool takes no time.
    let connected = if upstream.is_reused() { began } else { Instant::now() };
    context.timeline.connected = Some(connected);
    let head = upstream.request(&headers::Request {
        client: client.headers(),
        operation: written.operation,
        query: if passage == Passage::Verbatim { &ask.query } else { "" },
        is_translated: passage != Passage::Verbatim,
        id: &context.id,
        forwarded: &context.forwarded,
        length: written.length,
    })?;
    let sending = upstream.send(head, written.pieces, &terms.clocks, connected);
    client.unless_gone(sending).await?;
    context.timeline.sent = Some(Instant::now());
    context.phase = When::Head;
    await_head(ask, &mut upstream, terms, client, context).await?;
    Ok(upstream)
}

/// A plan holds only deployments that can be asked.
fn unspoken() -> Error {
    Error::gateway(Kind::Internal, "the deployment cannot be asked this")
}

/// How long the response head is waited for at a stretch: Pingora's cheap timers live until they fire, and those of ten
/// minutes would pile up.
const STRETCH: Duration = Duration::from_secs(2);

/// Waits for the response head under its clocks. A stream's client is kept awake meanwhile: after the heartbeat's
/// silence the head of its stream is committed, with a comment.
async fn await_head(
    ask: &Ask<'_>,
    upstream: &mut Upstream,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(), Error> {
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let is_stream = ask.asked.is_stream();
    let clocks = &terms.clocks;
    let clock = if is_stream { clocks.head.min(clocks.first_token) } else { clocks.head };
    let limit = (sent + clock).min(context.timeline.tried + clocks.attempt).min(terms.deadline);
    let silence = clocks.heartbeat.filter(|_| is_stream);
    let mut beat = silence.map(|silence| sent + silence);
    let mut now = sent;
    while now < limit {
        if let (Some(silence), Some(at)) = (silence, beat)
            && at <= now
        {
            client.heartbeat(ask.asked.operation, &context.id).await?;
            beat = Some(now + silence);
        }
        let until = beat.map_or(limit, |at| at.min(limit));
        let stretch = until.saturating_duration_since(now).min(STRETCH);
        let head = client.unless_gone(async { Ok(timeout(stretch, upstream.head()).await) }).await?;
        now = Instant::now();
        if let Ok(head) = head {
            context.timeline.head = Some(now);
            upstream.cluster().series.latency.observe((now - sent).as_secs_f64());
            return head;
        }
    }
    Err(upstream.slow("the upstream did not answer in time"))
}
