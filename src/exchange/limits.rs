//! How much an exchange may use: taken of every limit that it counts on before anything is sent, and settled when it is
//! over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderName;
use smallvec::SmallVec;

use super::bill::picodollars;
use super::context::Context;
use super::headers;
use super::relay::X_SHOULD_RETRY;
use super::retry::NoRoom;
use crate::access::grants::Known;
use crate::dialect::quota::{self, Quota, Quotas};
use crate::dialect::usage::{Input, Output, Usage};
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::limit::{Bound, Demand, Forecast, Hold, Measure, Now, Prompt, Refused, Short, Subject, Used};
use crate::meter::price::Quote;
use crate::route::alias::{Alias, Deployment, Named};
use crate::upstream::cluster::Cluster;
use crate::upstream::keys::KeyUse;

/// What is known of an exchange's use.
#[derive(Debug, Default)]
pub(super) struct Use {
    /// What of the request tells how much it will use.
    prompt: Prompt,
    /// What the model's exchanges use.
    forecast: Option<Arc<Forecast>>,
    /// What was taken of the limits of whoever asks, and of the model.
    hold: Hold,
    /// What was taken of those of the place where the next attempt goes. Once something is sent, it is the attempt's.
    next_place: Option<Hold>,
    /// Whether it may go only where its price is known: a budget that must hold is counted on.
    needs_price: bool,
    /// What had no room.
    refused: Option<Box<Refused>>,
}

/// An SDK does not wait for longer before it tries again, and would try at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// When the store of limits that does not answer is asked again.
const AWAY: Duration = Duration::from_secs(1);

impl Use {
    /// Takes what an exchange will probably use of each limit, or nothing of any.
    ///
    /// # Errors
    /// What has no room.
    async fn take<'b>(
        &mut self,
        bounds: impl Iterator<Item = &'b Arc<Bound>>,
        (model, demand): (&'b str, &Demand),
        now: Now,
    ) -> Result<(), Error> {
        let meters = bounds.flat_map(|bound| bound.meters(model));
        self.hold.reserve(meters, demand, now).await.map_err(|refused| self.refuse(refused))
    }

    /// What whoever asks is told, now and in the head of the refusal.
    fn refuse(&mut self, refused: Box<Refused>) -> Error {
        let error = refusal(&refused);
        self.refused = Some(refused);
        error
    }

    /// It has failed: what was taken and not used is there for the client's next try before it hears of it.
    pub(super) fn abandon(&mut self) {
        self.hold.abandon();
        self.next_place = None;
    }

    /// It waits before its next attempt: nothing is kept from others meanwhile.
    pub(super) fn leave_place(&mut self) {
        self.next_place = None;
    }

    /// Whether any limit is counted on.
    pub(super) fn is_limited(&self) -> bool {
        !self.hold.is_empty() || self.next_place.is_some()
    }

    /// What is sent from now on counts. Gives what was taken for the attempt at its place.
    pub(super) fn sent(&mut self) -> Hold {
        self.hold.sent();
        let mut hold = self.next_place.take().unwrap_or_default();
        hold.sent();
        hold
    }

    /// What an attempt beside knows of it: the rest stays here.
    pub(super) fn beside(&self) -> Self {
        let forecast = self.forecast.clone();
        Self { prompt: self.prompt, forecast, needs_price: self.needs_price, ..Self::default() }
    }

    /// The limits that are in force, as its client is told of them.
    pub(super) fn quotas(&self, now: Instant) -> Option<Box<Quotas>> {
        if self.hold.is_empty() {
            return None;
        }
        let now = Now::at(now);
        let of = [(quota::Measure::Requests, Measure::Requests), (quota::Measure::Tokens, Measure::Tokens)];
        let told = of.into_iter().filter_map(|(of, measure)| {
            let standing = self.hold.standing(measure, now)?;
            let (limit, remaining) = (Some(standing.limit), Some(standing.remaining));
            Some(Quota { of, limit, remaining, reset: Some(standing.reset) })
        });
        let told: Quotas = told.collect();
        (!told.is_empty()).then(|| Box::new(told))
    }
}

/// Takes of every limit what an exchange of that model will probably use.
///
/// # Errors
/// 429 where there is no room; nothing was taken then.
pub(super) async fn reserve(
    alias: &Alias,
    prompt: impl FnOnce() -> Prompt,
    context: &mut Context,
) -> Result<(), Error> {
    let callers = callers(context);
    if !is_limited(&callers, alias) {
        return Ok(());
    }
    context.used.prompt = prompt();
    context.used.forecast = Some(Arc::clone(&alias.forecast));
    context.tally.prompt = alias.forecast.tokens(&context.used.prompt).0;
    let bounds = || callers.iter().chain([&alias.limits]);
    context.used.needs_price = bounds().any(|bound| bound.needs_price(&context.model));
    let demand = demand_of(alias, bounds().any(|bound| bound.counts_money()), context)?;
    let now = context.timeline.received.unwrap_or(context.timeline.began);
    context.used.take(bounds(), (&context.model, &demand), Now::at(now)).await
}

/// Takes of the limits of an alias that takes over, and of those of whoever asks for that model alone: the others are
/// taken already.
///
/// # Errors
/// As [`reserve`].
pub(super) async fn take_over(
    alias: &Alias,
    prompt: impl FnOnce() -> Prompt,
    context: &mut Context,
) -> Result<(), Error> {
    let callers = callers(context);
    if !is_limited(&callers, alias) && context.used.forecast.is_none() {
        return Ok(());
    }
    if context.used.forecast.is_none() {
        context.used.prompt = prompt();
    }
    context.used.forecast = Some(Arc::clone(&alias.forecast));
    let counts_money = callers.iter().chain([&alias.limits]).any(|bound| bound.counts_money());
    context.used.needs_price |= callers.iter().any(|bound| bound.needs_price(&alias.name))
        || alias.limits.needs_price(&context.model);
    let demand = demand_of(alias, counts_money, context)?;
    let own = callers.iter().flat_map(|bound| bound.besides(&alias.name, &context.model));
    let meters = own.chain(alias.limits.meters(&context.model));
    let took = context.used.hold.reserve(meters, &demand, Now::at(Instant::now())).await;
    took.map_err(|refused| context.used.refuse(refused))
}

/// Whether whoever asks for an alias counts on any limit.
fn is_limited(callers: &[Arc<Bound>], alias: &Alias) -> bool {
    let at_place = |place: &Deployment| place.cluster.is_limited();
    !callers.is_empty() || !alias.limits.is_empty() || alias.deployments.iter().any(at_place)
}

/// What a request for an alias will probably use.
///
/// # Errors
/// 403 where a budget must hold and no place of the alias has a price.
fn demand_of(alias: &Alias, counts_money: bool, context: &Context) -> Result<Demand, Error> {
    let places = if counts_money { alias.deployments.as_slice() } else { &[] };
    if context.used.needs_price && !places.iter().any(|place| quote(place, context) != Quote::Unknown) {
        return Err(unpriced(&context.model));
    }
    Ok(demand(&alias.forecast, places, &context.used.prompt, context))
}

/// What a model costs at a place.
fn quote(place: &Deployment, context: &Context) -> Quote {
    let named = Named { model: &context.model, starred: &context.starred };
    context.snapshot.prices.find(place.cluster.seller(), &place.model.name(named))
}

fn unpriced(model: &str) -> Error {
    let public = format!(
        "nobody knows what the model `{model}` costs, and there is a budget to keep to; ask whoever runs this gateway to \
         add it to `prices`, or to say `unpriced: serve` of the budget"
    );
    Error::policy(Kind::Forbidden, public)
}

/// What a request will probably use at the dearest of those places: so a budget holds wherever it goes.
fn demand(forecast: &Forecast, places: &[Deployment], prompt: &Prompt, context: &Context) -> Demand {
    let (input, output) = forecast.tokens(prompt);
    let usage = Usage {
        input: Input { total: Some(input), ..Input::default() },
        output: Output { total: Some(output), ..Output::default() },
        ..Usage::default()
    };
    let cost = |place: &Deployment| quote(place, context).cost(&usage).map_or(0, picodollars);
    Demand { tokens: input.saturating_add(output), money: places.iter().map(cost).max().unwrap_or(0) }
}

/// Takes a request of every limit of whoever asks, where nothing is known of what it asks for.
///
/// # Errors
/// As [`reserve`].
pub(super) async fn reserve_raw(context: &mut Context) -> Result<(), Error> {
    let callers = callers(context);
    if callers.is_empty() {
        return Ok(());
    }
    // What it costs is not known: it is not begun with nothing left.
    let demand = Demand { tokens: 0, money: 1 };
    context.used.take(callers.iter(), ("", &demand), Now::at(Instant::now())).await
}

/// Takes of the limits of the cluster where a raw request goes, and of the key that it uses there.
///
/// # Errors
/// 429 where there is no room.
pub(super) async fn reserve_raw_at(
    cluster: &Cluster,
    key: Option<&KeyUse>,
    context: &mut Context,
) -> Result<(), Error> {
    context.used.next_place = None;
    let bounds = [Some(&cluster.spec.limits), key.map(|used| &used.key.limits)];
    let meters = bounds.into_iter().flatten().flat_map(|bound| bound.meters(""));
    let (mut hold, demand) = (Hold::default(), Demand { tokens: 0, money: 1 });
    let took = hold.reserve(meters, &demand, Now::at(Instant::now())).await;
    took.map_err(|refused| context.used.refuse(refused))?;
    context.used.next_place = Some(hold);
    Ok(())
}

/// The limits of whoever asks: their own, their team's, its organisation's.
fn callers(context: &Context) -> Callers {
    let mut callers = Callers::new();
    let Some(principal) = &context.principal else { return callers };
    let snapshot = &context.snapshot;
    match principal.known {
        Known::Anonymous if snapshot.everyones.is_empty() => {}
        Known::Anonymous => {
            callers.push(snapshot.everyones.of(Subject::Address(context.tenant()), &snapshot.book));
        }
        Known::Key | Known::Token | Known::Certificate => {
            let own = principal.limits(&snapshot.book, &snapshot.everyones.limits);
            let groups = principal.groups().map(|group| group.limits(&snapshot.book));
            let all = std::iter::once(own).chain(groups);
            callers.extend(all.filter(|bound| !bound.is_empty()).cloned());
        }
    }
    callers
}

type Callers = SmallVec<[Arc<Bound>; 3]>;

/// Takes of the limits of the cluster where the next attempt goes, and of the key that it uses there.
///
/// # Errors
/// Which has no room, and for how long; nothing was taken then.
pub(super) async fn reserve_at<'k>(
    deployment: &Deployment,
    key: Option<&'k KeyUse>,
    context: &mut Context,
) -> Result<(), NoRoom<'k>> {
    context.used.next_place = None;
    if context.used.needs_price && quote(deployment, context) == Quote::Unknown {
        return Err(NoRoom::There(Duration::MAX));
    }
    let bounds = [Some(&deployment.cluster.spec.limits), key.map(|used| &used.key.limits)];
    let bounds = || bounds.into_iter().flatten();
    if bounds().all(|bound| bound.is_empty()) {
        return Ok(());
    }
    let places =
        if bounds().any(|bound| bound.counts_money()) { std::slice::from_ref(deployment) } else { &[] };
    let demand = context
        .used
        .forecast
        .as_ref()
        .map(|forecast| demand(forecast, places, &context.used.prompt, context));
    let mut hold = Hold::default();
    let meters = bounds().flat_map(|bound| bound.meters(&context.model));
    let took = hold.reserve(meters, &demand.unwrap_or_default(), Now::at(Instant::now())).await;
    took.map_err(|refused| {
        let wait = match refused.short {
            Short::Wait(wait) => wait,
            Short::Away => AWAY,
            Short::Never => Duration::MAX,
        };
        match (&refused.meter.subject, key) {
            (Subject::ProviderKey(..), Some(used)) => NoRoom::WithKey(used, wait),
            _ => NoRoom::There(wait),
        }
    })?;
    context.used.next_place = Some(hold);
    Ok(())
}

/// What an exchange used is known now: what its attempts did.
pub(super) fn settle(context: &mut Context, now: Instant) {
    if context.used.hold.is_empty() && context.used.forecast.is_none() {
        return;
    }
    if let (Some(forecast), Some(usage), None) =
        (&context.used.forecast, &context.tally.usage, &context.failure)
    {
        forecast.learn(&context.used.prompt, usage);
    }
    let used = context.bill.used();
    // An attempt beside may have sent something where the first could not.
    if used.is_some() {
        context.used.hold.sent();
    }
    // What was sent and is never billed has used a request, and nothing else.
    context.used.hold.settle(&used.unwrap_or(NOTHING), Now::at(now));
}

/// No tokens, and no money.
pub(super) const NOTHING: Used = Used { tokens: Some(0), money: Some(0) };

/// What whoever asks is told where there is no room.
fn refusal(refused: &Refused) -> Error {
    let Refused { meter, asked, short } = refused;
    let limit = &meter.limit;
    let of = match &meter.subject {
        Subject::Key(name) => format!("the key `{name}`"),
        Subject::Team(name) => format!("the team `{name}`"),
        Subject::Organisation(name) => format!("the organisation `{name}`"),
        Subject::Model(name) => format!("the model `{name}`"),
        Subject::Address(_) => "callers without a key".to_owned(),
        Subject::Cluster(_) | Subject::ProviderKey(..) => "the upstream".to_owned(),
    };
    let on = meter.models.as_ref().map(|models| format!(" for `{models}`")).unwrap_or_default();
    let per = limit.per.name();
    let what = match limit.measure {
        Measure::Money => {
            let period =
                if limit.per == crate::limit::Per::Ever { String::new() } else { format!(" of the {per}") };
            format!("the budget{period} of {of}{on} is spent")
        }
        Measure::Concurrency => {
            format!("{} requests of {of}{on} are under way, which is all there may be", limit.most)
        }
        measure => format!("the limit of {} {} a {per} of {of}{on} is reached", limit.most, measure.name()),
    };
    if *short == Short::Away {
        let what = "limits cannot be counted at the moment, and nothing is let through uncounted";
        return Error::gateway(Kind::Overloaded, what).after(1);
    }
    let kind = if limit.measure == Measure::Money { Kind::QuotaSpent } else { Kind::RateLimited };
    match short {
        Short::Wait(wait) => {
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            Error::policy(kind, format!("{what}; try again in {seconds} s")).after(seconds)
        }
        Short::Never if limit.measure == Measure::Tokens => Error::policy(
            kind,
            format!(
                "{what}: this request alone may use {asked}; allow fewer with its maximum of tokens, or send less"
            ),
        ),
        Short::Never | Short::Away => {
            Error::policy(kind, format!("{what}; ask whoever runs this gateway for more"))
        }
    }
}

/// Tells in the head of a refusal when there is room again, and how the limits stand, in the names that its SDK reads.
pub(super) fn tell(context: &Context, head: &mut Reply) {
    const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
    let Some(refused) = &context.used.refused else { return };
    let wait = match refused.short {
        Short::Wait(wait) => Some(wait),
        Short::Away => return,
        Short::Never => None,
    };
    if let Some(wait) = wait.filter(|wait| *wait <= PATIENCE) {
        let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        headers::put(head, RETRY_AFTER_MS, itoa::Buffer::new().format(millis));
    } else {
        headers::put(head, X_SHOULD_RETRY, "false");
    }
    if refused.meter.limit.measure == Measure::Money {
        headers::put(head, X_SHOULD_RETRY, "false");
    }
    let of = match refused.meter.limit.measure {
        Measure::Requests => quota::Measure::Requests,
        Measure::Tokens => quota::Measure::Tokens,
        Measure::Concurrency | Measure::Money => return,
    };
    if let Some(standing) = refused.meter.standing(Now::at(Instant::now())) {
        let told = Quota {
            of,
            limit: Some(standing.limit),
            remaining: Some(standing.remaining),
            reset: Some(standing.reset),
        };
        headers::put_quotas(head, &[told], context.dialect);
    }
}
