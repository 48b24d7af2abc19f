//! The attempt engine: tries one place after another until one answers.

mod hedge;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use pingora_timeout::timeout;
use smallvec::SmallVec;

use super::affinity;
use super::attempt::Upstream;
use super::bring::bring;
use super::carry::{Asked, Carry, Outgoing, Written};
use super::client::Client;
use super::context::{Context, Place};
use super::conversation;
use super::headers;
use super::limits;
use super::permit;
use super::relay::{self, Opened, Terms};
use super::resume::Resume;
use super::retry::{Next, Nowhere, Plan, Rules};
use super::verdict::{Beyond, Failed};
use crate::clocks::Clocks;
use crate::dialect::Operation;
use crate::error::{Error, Kind, Retry};
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::provider::credential::{Proof, Source};
use crate::route::alias::{Alias, Deployment, Named, Sticky};
use crate::snapshot::Cause;
use crate::upstream::admission::{Gate, Permit, Refusal};
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::InFlight;

/// One exchange, as it came from the client.
pub(super) struct Ask<'a> {
    /// The request.
    pub(super) asked: Asked<'a>,
    /// The query with its question mark; empty without one.
    pub(super) query: String,
    /// The alias that its model means.
    pub(super) alias: Arc<Alias>,
    /// The clocks before those of any cluster.
    pub(super) clocks: &'a Clocks,
}

/// Tries one place after another until one gives a reply to stay with. What no place of an alias can take goes to the
/// alias that is to take over, if there is one.
pub(super) async fn reach(
    mut ask: Ask<'_>,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(Opened, Terms), Box<Failed>> {
    let deadline = deadline(&ask, client.headers(), context);
    let mut taken_over = SmallVec::<[String; 2]>::new();
    loop {
        let failed = match along(&ask, deadline, client, context).await {
            Ok(reached) => return Ok(reached),
            Err(failed) => failed,
        };
        taken_over.push(ask.alias.name.clone());
        let next = fallback(&ask, &failed, context);
        let Some((next, starred)) = next.filter(|(next, _)| !taken_over.contains(&next.name)) else {
            return Err(failed);
        };
        log::debug!("{}: {} takes over from {}", context.id, next.name, ask.alias.name);
        context.starred = starred;
        let prompt = || super::prompt(ask.asked.operation, ask.asked.envelope, ask.asked.body);
        limits::take_over(&next, prompt, context).await?;
        context.alias = Some(Arc::clone(&next));
        ask.alias = next;
    }
}

/// The alias that takes over what that one cannot take, and what its star stands for. One that cannot be asked this, or
/// that the caller may not use on this route, takes nothing over: the client is told of the failure itself.
fn fallback(ask: &Ask<'_>, failed: &Failed, context: &Context) -> Option<(Arc<Alias>, String)> {
    let named = &ask.alias.fallback;
    let name = match failed.beyond? {
        Beyond::TooLong => named.too_long.as_deref()?,
        Beyond::Filtered => named.filtered.as_deref()?,
    };
    let (next, starred) = context.snapshot.aliases.find(name).filter(|_| permit::may_use(name, context))?;
    let serves = |deployment: &Deployment| {
        let cluster = &deployment.cluster;
        cluster.spec.passage(ask.asked.operation).is_some() && context.permits(cluster)
    };
    next.deployments.iter().any(serves).then(|| (Arc::clone(next), starred.to_owned()))
}

/// Tries one place of the alias after another.
async fn along(
    ask: &Ask<'_>,
    deadline: Instant,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(Opened, Terms), Box<Failed>> {
    let now = context.timeline.received.unwrap_or(context.timeline.began);
    let sticky = sticky_value(&ask.alias, client.headers(), context);
    let mut retry = context.snapshot.retry;
    retry.attempts = retry.attempts.max(1).saturating_sub(context.attempts).max(1);
    let permitted = |cluster: &Cluster| context.permits(cluster);
    let starred = context.starred.clone();
    let named = Named { model: ask.asked.model, starred: &starred };
    let call = conversation::call(&ask.asked, &ask.alias, client.headers());
    let rules = Rules { named, call, retry, deadline, spills: context.spills(), explained: context.explain };
    let wanted = (ask.asked.operation, sticky.as_deref());
    let mut plan = Plan::new(&ask.alias, wanted, &permitted, rules, now);
    if plan.is_empty() {
        let error = match context.owner {
            Some(_) => affinity::out_of_reach(&context.model),
            None => out_of_region(&context.model),
        };
        return Err(error.into());
    }
    if let Some(owner) = &context.owner {
        plan.only_of(owner);
    }
    let reached = follow(ask, &mut plan, (deadline, now), client, context).await;
    let story = plan.story();
    if !story.is_empty() {
        let before = std::mem::take(&mut context.story);
        context.story = if before.is_empty() { story } else { format!("{before}; {story}") };
    }
    reached
}

/// Every place that could serve is somewhere else than the request may go.
fn out_of_region(model: &str) -> Error {
    let public = format!("no upstream of the model `{model}` is in a region that this request may go to");
    Error::policy(Kind::Forbidden, public)
}

async fn follow<'p>(
    ask: &'p Ask<'_>,
    plan: &mut Plan<'p>,
    (deadline, mut now): (Instant, Instant),
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(Opened, Terms), Box<Failed>> {
    let (mut last, mut fresh) = (None, false);
    let beat = (ask.asked.operation, ask.clocks.heartbeat.filter(|_| ask.asked.stream));
    loop {
        let (mut deployment, flight) = match plan.next(now) {
            Next::Try(deployment, flight) => (deployment, flight),
            Next::Wait(wait) => {
                context.used.leave_place();
                pause(beat, client, context, wait).await?;
                now = Instant::now();
                continue;
            }
            Next::Queue(index, gate) => {
                context.used.leave_place();
                // Few exchanges ever wait: what they need is not part of every one's memory.
                let turn = Box::pin(queue(beat, gate, deadline, client, context)).await?;
                let before = std::mem::replace(&mut now, Instant::now());
                plan.turned(index, turn, now.saturating_duration_since(before));
                continue;
            }
            Next::Over(nowhere) => {
                return Err(last.map_or_else(|| no_place(nowhere).into(), |last| over(last, context)));
            }
        };
        if let Err(no_room) = limits::reserve_at(deployment, flight.key(), context).await {
            plan.has_no_room(deployment, no_room, now);
            continue;
        }
        let model = deployment.model.resolve(&context.starred);
        let written = match write(ask, deployment, model.as_deref(), client, context).await {
            Ok(written) => written,
            Err(error) if error.kind == Kind::ClientGone => return Err(error.into()),
            Err(error) => {
                // Another deployment may take what this one has no place for.
                plan.unwritten(deployment);
                last.get_or_insert_with(|| error.into());
                continue;
            }
        };
        let (mut terms, mut outbound) =
            set_out(ask, (deployment, flight), (model, written), (deadline, now), context);
        outbound.fresh = fresh;
        client.write_within(terms.clocks.client_write);
        let reached = match deployment.cluster.spec.hedge {
            None => attempt(ask, outbound, &terms, client, context).await,
            Some(hedging) => {
                let first = (&mut deployment, &mut terms, outbound);
                Box::pin(hedge::race(ask, plan, (hedging, deadline), first, client, context)).await
            }
        };
        let failed = match reached {
            Ok(opened) => return Ok((opened, terms)),
            Err(failed) => failed,
        };
        now = Instant::now();
        if !noted(plan, deployment, &failed, context, now) {
            return Err(over(failed, context));
        }
        // A pooled connection that proved stale is seldom alone.
        fresh = matches!(failed.cause, Some(Cause::Unsent | Cause::Broken));
        last = Some(failed);
    }
}

/// Writes the request for a deployment. What it names by URL is brought in first, if that is allowed and the deployment
/// must have it as data.
async fn write(
    ask: &Ask<'_>,
    deployment: &Deployment,
    model: Option<&str>,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Written, Error> {
    let spec = &deployment.cluster.spec;
    if let Some(media) = context.snapshot.media.clone() {
        let urls = ask.asked.urls(spec, model);
        if !urls.is_empty() {
            let found = Box::pin(client.unless_gone(bring(urls, &media))).await?;
            // Once in the request that was understood, once in what is written.
            let size: usize = found.values().map(|medium| medium.data.len()).sum();
            context.hold(2 * size as u64)?;
            ask.asked.fill(&found);
        }
    }
    ask.asked.write(spec, model, &context.id)
}

/// Begins an attempt: where it goes, on what terms, and with what.
fn set_out(
    ask: &Ask<'_>,
    (deployment, flight): (&Deployment, InFlight),
    (model, written): (Option<String>, Written),
    (deadline, now): (Instant, Instant),
    context: &mut Context,
) -> (Terms, Outbound) {
    context.begin_attempt(now);
    context.place = Some(Place {
        cluster: Arc::clone(&deployment.cluster),
        endpoint: Arc::clone(flight.endpoint()),
        key: flight.key().cloned(),
        model,
        series: Some(Arc::clone(&deployment.series)),
    });
    let (mut terms, request) = terms(ask, deployment, written, deadline, context);
    if let Carry::Verbatim { operation: Operation::Responses, seal, .. } = &mut terms.carry {
        *seal = affinity::seal(&ask.alias, &deployment.cluster, &flight).map(Box::new);
    }
    context.lost = terms.carry.lost().to_owned();
    (terms, Outbound { flight, request, fresh: false })
}

/// Notes how an attempt failed. Says whether another may be made.
fn noted<'p>(
    plan: &mut Plan<'p>,
    deployment: &'p Deployment,
    failed: &Failed,
    context: &Context,
    now: Instant,
) -> bool {
    log::debug!("{}: attempt {} failed: {}", context.id, context.attempts, failed.error);
    let Some(place) = &context.place else { return false };
    let connected = context.timeline.connected.is_some();
    let may = plan.failed(deployment, place.tried(), connected, (failed.cause, failed.wait), now);
    if let Some(cause) = failed.cause.filter(|_| may) {
        METRICS.upstream.failed_attempts.with_label_values(&[place.cluster.name(), cause.name()]).inc();
    }
    may
}

/// That failure is the exchange's: one that had to leave the last place it was at has not found another.
fn over(failed: Box<Failed>, context: &Context) -> Box<Failed> {
    if let Some(place) = context.place.as_ref().filter(|_| failed.error.retry == Retry::Moved) {
        place.endpoint.count_ended();
    }
    failed
}

/// A request on its way to an endpoint.
pub(super) struct Outbound {
    pub(super) flight: InFlight,
    pub(super) request: Outgoing,
    /// Whether no pooled connection is to be used.
    pub(super) fresh: bool,
}

/// When the exchange must be over: a client that waits for a whole reply says how long it does, and an answer after that
/// is for nobody.
fn deadline(ask: &Ask<'_>, headers: &HeaderMap, context: &Context) -> Instant {
    const SAYS: [&str; 3] = ["x-stainless-read-timeout", "x-stainless-timeout", "x-request-timeout"];
    let longest = ask.clocks.exchange;
    let said = SAYS.iter().filter_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse::<f64>().ok());
    let patience = said
        .filter(|seconds| *seconds > 0.0 && !ask.asked.stream)
        .filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .min();
    context.timeline.began + patience.map_or(longest, |patience| patience.min(longest))
}

/// Waits, as long as the client does. A stream's client is kept awake meanwhile.
pub(super) async fn pause(
    (operation, silence): (Operation, Option<Duration>),
    client: &mut Client<'_>,
    context: &Context,
    wait: Duration,
) -> Result<(), Error> {
    client.kept_awake(silence, (operation, &context.id), tokio::time::sleep(wait)).await
}

/// Waits for a place at a gate, as long as the client does: one who leaves is out of the queue at once.
pub(super) async fn queue(
    (operation, silence): (Operation, Option<Duration>),
    gate: &Arc<Gate>,
    deadline: Instant,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Result<Permit, Refusal>, Error> {
    context.phase = When::Queue;
    let now = Instant::now();
    match gate.queue(&context.tenant(), context.priority, (now, deadline)) {
        Ok(waiting) => client.kept_awake(silence, (operation, &context.id), waiting.turn()).await,
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// There is no place to go to: none is healthy, all rest, or all have as much to do as they may.
fn no_place(nowhere: Nowhere) -> Error {
    let seconds = |time: Duration| u32::try_from(time.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX).max(1);
    match nowhere {
        Nowhere::Rests(rest) => {
            let public = "the upstream's rate limit is reached; try again later";
            Error::upstream(Kind::RateLimited, public).after(seconds(rest))
        }
        Nowhere::Full(after) => {
            let public = "as many requests are under way for this model as it can take; try again later";
            Error::policy(Kind::Overloaded, public).after(seconds(after))
        }
        Nowhere::Left => {
            let public = "no upstream is available for this model; try again in a moment";
            Error::upstream(Kind::Overloaded, public).after(1)
        }
    }
}

/// One attempt, up to a reply to stay with.
async fn attempt(
    ask: &Ask<'_>,
    outbound: Outbound,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Opened, Box<Failed>> {
    let reached = match begin(&ask.query, outbound, terms, client, context).await {
        Ok(upstream) => relay::open(upstream, client, context, terms).await,
        Err(failed) => Err(failed),
    };
    reached.inspect_err(|failed| context.fail_entry(&failed.error, failed.cause))
}

pub(super) fn sticky_value(alias: &Alias, headers: &HeaderMap, context: &Context) -> Option<String> {
    match &alias.sticky {
        Sticky::No => None,
        Sticky::Principal => context.principal.as_ref().map(|principal| principal.name.to_string()),
        Sticky::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
    }
}

/// On what terms a deployment is asked, and what.
fn terms(
    ask: &Ask<'_>,
    deployment: &Deployment,
    written: Written,
    deadline: Instant,
    context: &Context,
) -> (Terms, Outgoing) {
    let clocks = clocks(deployment, &ask.alias, context);
    // Whoever waits for a whole reply is sent nothing before.
    let clocks = Clocks { heartbeat: clocks.heartbeat.filter(|_| ask.asked.stream), ..clocks };
    let resume = written.resumes.then(|| Resume::new(ask, &written.outgoing, deployment, context)).flatten();
    let terms = Terms {
        operation: ask.asked.operation,
        stream: ask.asked.stream,
        clocks,
        deadline: deadline.min(context.timeline.began + clocks.exchange),
        carry: written.carry,
        compress: context.route.as_ref().is_some_and(|route| route.compress),
        series: Arc::clone(&deployment.series),
        resume,
    };
    (terms, written.outgoing)
}

/// The clocks in force at a deployment.
pub(super) fn clocks(deployment: &Deployment, alias: &Alias, context: &Context) -> Clocks {
    let clocks = context.snapshot.clocks.with(&deployment.cluster.spec.clocks);
    clocks.with(&context.overrides()).with(&alias.clocks)
}

/// One attempt, up to the response head.
pub(super) async fn begin(
    query: &str,
    outbound: Outbound,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Upstream, Box<Failed>> {
    let Outbound { flight, request, fresh } = outbound;
    terms.series.requests().inc();
    context.phase = When::Connect;
    let began = Instant::now();
    let own = began.saturating_duration_since(context.timeline.tried);
    context.timeline.own += own;
    METRICS.http.added.request.observe(own.as_secs_f64());
    let clocks = terms.clocks.within(terms.deadline.saturating_duration_since(began));
    let Some(place) = &context.place else { return Err(unplaced().into()) };
    let cluster = Arc::clone(&place.cluster);
    let proof = proof(&cluster, client, clocks.connect).await?;
    let connecting = Upstream::connect(Arc::clone(&cluster), flight, (&clocks, terms.deadline), fresh);
    let mut upstream = client.unless_gone(connecting).await?;
    // Taking a connection from the pool takes no time.
    let connected = if upstream.is_reused() { began } else { Instant::now() };
    context.timeline.connected = Some(connected);
    // A query goes where its dialect is spoken; one that names a model has what it needs in its path.
    let has_query =
        terms.carry.translates() || terms.operation.names_model() || cluster.spec.form.has_query();
    let asked = headers::Request {
        client: client.headers(),
        path: &request.path,
        query: if has_query { "" } else { query },
        is_translated: terms.carry.translates(),
        id: &context.id,
        forwarded: &context.forwarded,
        length: request.length,
    };
    let head = upstream.request(&asked, &proof, &request.pieces)?;
    context.open_entry(Some(terms.operation));
    let sending = upstream.send(head, request.pieces, (&clocks, terms.deadline), connected);
    client.unless_gone(sending).await?;
    context.timeline.sent = Some(Instant::now());
    context.phase = When::Head;
    await_head(&mut upstream, terms, client, context).await?;
    Ok(upstream)
}

/// What proves the attempt; without one, another deployment may do better. Whoever keeps credentials fresh may be at it.
async fn proof<'c>(
    cluster: &'c Cluster,
    client: &mut Client<'_>,
    limit: Duration,
) -> Result<Proof<'c>, Box<Failed>> {
    let credential = &cluster.spec.credential;
    if matches!(credential, Source::Headers) {
        return Ok(Proof::None);
    }
    let obtaining = async { Ok(timeout(limit, credential.proof()).await) };
    let obtained = Box::pin(client.unless_gone(obtaining)).await?;
    let error: Error = match obtained {
        Ok(Ok(proof)) => return Ok(proof),
        Ok(Err(why)) => (&*why).into(),
        Err(_) => {
            let public = "the gateway's credential for the upstream provider is not there yet";
            Error::gateway(Kind::UpstreamFailed, public)
        }
    };
    Err(Box::new(Failed { error, cause: Some(Cause::Unserved), wait: None, answer: None, beyond: None }))
}

/// An attempt has its place before it begins.
fn unplaced() -> Error {
    Error::gateway(Kind::Internal, "the attempt has no place to go to")
}

/// Waits for the response head under its clocks. A stream's client is kept awake meanwhile: after the heartbeat's
/// silence the head of its stream is committed, with a comment.
async fn await_head(
    upstream: &mut Upstream,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(), Error> {
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let is_stream = terms.stream;
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
            client.heartbeat(terms.operation, &context.id).await?;
            beat = Some(now + silence);
        }
        let until = beat.map_or(limit, |at| at.min(limit));
        let stretch = upstream.stretch(now, until)?;
        let head = client.unless_gone(async { Ok(timeout(stretch, upstream.head()).await) }).await?;
        now = Instant::now();
        if let Ok(head) = head {
            context.timeline.head = Some(now);
            upstream.cluster().series.latency.observe((now - sent).as_secs_f64());
            return head;
        }
    }
    let why = "the upstream did not answer in time";
    Err(if now >= terms.deadline { upstream.late(why) } else { upstream.slow(why) })
}
