//! Another endpoint goes on with a stream that broke off, so that its client sees one.
//!
//! Only where a cluster is configured to, for a request that can be gone on with exactly ([`crate::dialect::chat::resume`]),
//! and as long as the client was told nothing but text ([`crate::dialect::translate::Stream::begun`]). The request is kept
//! for such a stream alone.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use super::attempt::Upstream;
use super::carry::Outgoing;
use super::client::Client;
use super::context::{Context, Place};
use super::conversation;
use super::engine::{Ask, Outbound, begin, clocks, pause, queue, sticky_value};
use super::intake::Share;
use super::limits;
use super::relay::{self, Terms};
use super::retry::{Lost, Next, Plan, Rules, Tried};
use super::verdict::Failed;
use crate::dialect::translate::{self, Begun};
use crate::dialect::{Operation, chat};
use crate::error::{Error, Kind};
use crate::meter::metrics::METRICS;
use crate::route::alias::{Alias, Deployment, Named};
use crate::snapshot::Cause;
use crate::upstream::http1::Pieces;
use crate::upstream::keys::Call;

/// How often others may go on with one stream.
const TIMES: u32 = 3;

/// What it takes to ask for the rest of a stream.
pub(super) struct Resume {
    /// The request, as it was sent in chat.
    body: Pieces,
    /// The client's query.
    query: String,
    /// The model that it was sent for.
    model: String,
    /// The memory of it.
    _share: Share,
}

/// Why a stream is to be gone on with elsewhere. Whatever else takes a stream from its endpoint is one more of these, which
/// the relay tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its connection broke, or it ended before its end.
    Broken,
    /// It fell silent.
    Slow,
    /// Its endpoint is taken out of service.
    Evicted,
}

impl Why {
    /// In the words of the log.
    fn name(self) -> &'static str {
        match self {
            Self::Broken => "broke off",
            Self::Slow => "fell silent",
            Self::Evicted => "had to leave",
        }
    }

    /// In the words of the retry policy.
    fn cause(self) -> Cause {
        match self {
            Self::Broken => Cause::Broken,
            Self::Slow => Cause::Slow,
            Self::Evicted => Cause::Evicted,
        }
    }
}

/// What becomes of a stream that broke off.
pub(super) enum Rest {
    /// Another endpoint goes on with it, on these terms.
    Elsewhere(Box<Upstream>, Box<Terms>),
    /// There is none: all that was allowed is said, and only the end is missing.
    Said,
    /// It ends here.
    Nowhere,
}

impl Resume {
    /// What is to be kept of a request for `deployment`; nothing where there is no memory for it.
    pub(super) fn new(
        ask: &Ask<'_>,
        sent: &Outgoing,
        deployment: &Deployment,
        context: &Context,
    ) -> Option<Box<Self>> {
        let share = context.share(sent.length as u64).ok()?;
        let model = model(deployment, context);
        Some(Box::new(Self { body: sent.pieces.clone(), query: ask.query.clone(), model, _share: share }))
    }

    /// The request for the rest; nothing where all that was allowed is said.
    fn request(&self, begun: &Begun<'_>) -> Result<Option<Vec<u8>>, &'static str> {
        let mut body = BytesMut::with_capacity(self.body.iter().map(|piece| piece.len()).sum());
        self.body.iter().for_each(|piece| body.extend_from_slice(piece));
        match chat::resume::request(&body, begun.text, begun.tokens)? {
            Some(_) if begun.times >= TIMES => Err("it broke off too often"),
            asked => Ok(asked),
        }
    }

    /// Whether a deployment can go on with what another began.
    fn fits(&self, deployment: &Deployment, context: &Context) -> bool {
        let spec = &deployment.cluster.spec;
        spec.continues
            && spec.speaks.contains(&Operation::ChatCompletions)
            && model(deployment, context) == self.model
    }
}

/// The model's name at a deployment.
fn model(deployment: &Deployment, context: &Context) -> String {
    deployment.model.resolve(&context.starred).unwrap_or_else(|| context.model.clone())
}

/// Looks for an endpoint that goes on with what its client was told of a stream.
///
/// # Errors
/// [`Kind::ClientGone`].
pub(super) async fn elsewhere(
    why: Why,
    begun: Result<Begun<'_>, &'static str>,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<Rest, Error> {
    let (Some(resume), Some(alias), Some(place)) =
        (&terms.resume, context.alias.clone(), context.place.clone())
    else {
        return Ok(Rest::Nowhere);
    };
    let name = place.cluster.name().to_owned();
    let is_first = begun.is_ok_and(|begun| begun.times == 0);
    let (outcome, told, rest) = match begun.and_then(|begun| resume.request(&begun)) {
        Err(cannot) => ("refused", format!("{name}: {}, {cannot}", why.name()), Rest::Nowhere),
        Ok(None) => {
            let told = format!("{name}: {}, all the tokens that it may have are there", why.name());
            ("complete", told, Rest::Said)
        }
        Ok(Some(body)) => {
            let lost =
                Lost { cluster: &place.cluster, endpoint: &place.endpoint, cause: why.cause(), is_first };
            let seeking = Seeking { resume, body, terms };
            let found = seeking.find(&lost, &alias, client, context).await?;
            match found {
                Some((upstream, terms)) => {
                    let at = upstream.cluster().name();
                    let told = format!("{name}: {}, continued at {at}", why.name());
                    ("continued", told, Rest::Elsewhere(Box::new(upstream), Box::new(terms)))
                }
                None => {
                    let told = format!("{name}: {}, not continued", why.name());
                    // It is that place's stream that is cut, not one's that was asked in vain.
                    context.place = Some(place);
                    ("failed", told, Rest::Nowhere)
                }
            }
        }
    };
    METRICS.continuations.with_label_values(&[&*name, outcome]).inc();
    log::debug!("{}: {told}", context.id);
    context.story = if context.story.is_empty() { told } else { format!("{}; {told}", context.story) };
    Ok(rest)
}

/// The search for an endpoint that goes on.
struct Seeking<'s> {
    resume: &'s Resume,
    /// The request for the rest.
    body: Vec<u8>,
    /// Those of the stream that broke off.
    terms: &'s Terms,
}

impl Seeking<'_> {
    /// Tries one place after another, as the first time, within what is left of attempts, budget and time. `lost` is where
    /// the stream broke off.
    async fn find(
        self,
        lost: &Lost<'_>,
        alias: &Arc<Alias>,
        client: &mut Client<'_>,
        context: &mut Context,
    ) -> Result<Option<(Upstream, Terms)>, Error> {
        let mut now = Instant::now();
        let sticky = sticky_value(alias, client.headers(), context);
        let snapshot = Arc::clone(&context.snapshot);
        let (model, starred) = (context.model.clone(), context.starred.clone());
        let named = Named { model: &model, starred: &starred };
        let plan = {
            let permitted = |cluster: &_| context.permits(cluster);
            let (retry, deadline) = (snapshot.retry, self.terms.deadline);
            let call = Call { input: conversation::tokens(self.body.len()), ..Call::default() };
            let rules = Rules { named, call, retry, deadline, spills: context.spills(), explained: false };
            Plan::new(alias, (self.terms.operation, sticky.as_deref()), &permitted, rules, now)
        };
        let mut plan =
            plan.resuming(context.attempts, lost, |deployment| self.resume.fits(deployment, context));
        let beat = (self.terms.operation, self.terms.clocks.heartbeat);
        loop {
            let (deployment, flight) = match plan.next(now) {
                Next::Try(deployment, flight) => (deployment, flight),
                Next::Wait(wait) => {
                    context.used.leave_place();
                    pause(beat, client, context, wait).await?;
                    now = Instant::now();
                    continue;
                }
                Next::Queue(index, gate) => {
                    context.used.leave_place();
                    let turn = queue(beat, gate, self.terms.deadline, client, context).await?;
                    let before = std::mem::replace(&mut now, Instant::now());
                    plan.turned(index, turn, now.saturating_duration_since(before));
                    continue;
                }
                Next::Over(_) => return Ok(None),
            };
            if let Err(no_room) = limits::reserve_at(deployment, flight.key(), context).await {
                plan.has_no_room(deployment, no_room, now);
                continue;
            }
            let (endpoint, key) = (Arc::clone(flight.endpoint()), flight.key().cloned());
            context.begin_attempt(now);
            context.place = Some(Place {
                cluster: Arc::clone(&deployment.cluster),
                endpoint: Arc::clone(&endpoint),
                key: key.clone(),
                model: deployment.model.resolve(&context.starred),
                series: Some(Arc::clone(&deployment.series)),
            });
            let terms = self.terms(deployment, alias, context);
            client.write_within(terms.clocks.client_write);
            // A pooled connection to a node that is ailing is seldom sound.
            let outbound = Outbound { flight, request: self.outgoing(deployment), fresh: true };
            let failed = match self.attempt(outbound, &terms, client, context).await {
                Ok(upstream) => return Ok(Some((upstream, terms))),
                Err(failed) if failed.error.kind == Kind::ClientGone => return Err(failed.error),
                Err(failed) => failed,
            };
            log::debug!("{}: attempt {} failed: {}", context.id, context.attempts, failed.error);
            now = Instant::now();
            let connected = context.timeline.connected.is_some();
            // No failure is an answer here: all that another place may do better is tried.
            let cause = failed.cause.or(Some(Cause::Unserved));
            let tried = Tried { endpoint: &endpoint, key: key.as_ref() };
            if !plan.failed(deployment, tried, connected, (cause, failed.wait), now) {
                return Ok(None);
            }
        }
    }

    async fn attempt(
        &self,
        outbound: Outbound,
        terms: &Terms,
        client: &mut Client<'_>,
        context: &mut Context,
    ) -> Result<Upstream, Box<Failed>> {
        let reached = match begin(&self.resume.query, outbound, terms, client, context).await {
            Ok(upstream) => relay::rest(upstream, client, context, terms).await,
            Err(failed) => Err(failed),
        };
        reached.inspect_err(|failed| context.fail_entry(&failed.error, failed.cause))
    }

    fn outgoing(&self, deployment: &Deployment) -> Outgoing {
        let path = deployment.cluster.spec.form.path(Operation::ChatCompletions, &self.resume.model, true);
        let body = Bytes::from(self.body.clone());
        Outgoing { path, length: body.len(), pieces: smallvec![body] }
    }

    fn terms(&self, deployment: &Deployment, alias: &Alias, context: &Context) -> Terms {
        Terms {
            operation: self.terms.operation,
            stream: true,
            clocks: clocks(deployment, alias, context),
            deadline: self.terms.deadline,
            carry: self.terms.carry.clone(),
            compress: self.terms.compress,
            series: Arc::clone(&deployment.series),
            resume: None,
        }
    }
}

/// What the rest of a stream comes in.
pub(super) const DIALECT: translate::Upstream = translate::Upstream::Chat;
