//! How much an exchange may use: taken of every limit that it counts on before anything is sent, and settled when it is
//! over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderName;

use super::context::Context;
use super::headers;
use super::relay::X_SHOULD_RETRY;
use crate::dialect::quota::{self, Quota, Quotas};
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::limit::{Bound, Demand, Forecast, Hold, Measure, Now, Prompt, Refused, Short, Subject, Used};
use crate::route::alias::{Alias, Deployment};

/// What is known of an exchange's use.
#[derive(Debug, Default)]
pub(super) struct Use {
    /// What of the request tells how much it will use.
    prompt: Prompt,
    /// What the model's exchanges use.
    forecast: Option<Arc<Forecast>>,
    /// What was taken of the limits of whoever asks, and of the model.
    hold: Hold,
    /// What was taken of those of the place where the present attempt goes.
    at_place: Hold,
    /// What was taken for an attempt that has not begun.
    next_place: Option<Hold>,
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
        now: &Now,
    ) -> Result<(), Error> {
        let meters = bounds.flat_map(|bound| bound.meters(model));
        self.hold.reserve(meters, demand, now).await.map_err(|refused| {
            let error = refusal(&refused);
            self.refused = Some(refused);
            error
        })
    }

    /// It has failed: what was taken and not used is there for the client's next try before it hears of it.
    pub(super) fn abandon(&mut self) {
        self.hold.abandon();
        self.at_place.abandon();
    }

    /// What is sent from now on counts.
    pub(super) fn sent(&mut self) {
        self.hold.sent();
        self.at_place.sent();
    }

    /// What an attempt beside knows of it: the rest stays here.
    pub(super) fn beside(&self) -> Self {
        Self { prompt: self.prompt, forecast: self.forecast.clone(), ..Self::default() }
    }

    /// Something was sent for it elsewhere, by an attempt beside.
    pub(super) fn adopt(&mut self, beside: Self) {
        self.hold.sent();
        self.at_place = beside.at_place;
    }

    /// An attempt begins with what was taken for it. What the last one took is free again: it has failed, and what failed is
    /// not billed.
    pub(super) fn begin_attempt(&mut self) {
        if let Some(next) = self.next_place.take() {
            self.at_place.settle(&NOTHING, &Now::at(Instant::now()));
            self.at_place = next;
        }
    }

    /// The limits that are in force, as its client is told of them.
    pub(super) fn quotas(&self) -> Option<Box<Quotas>> {
        if self.hold.is_empty() {
            return None;
        }
        let now = Now::at(Instant::now());
        let of = [(quota::Measure::Requests, Measure::Requests), (quota::Measure::Tokens, Measure::Tokens)];
        let told = of.into_iter().filter_map(|(of, measure)| {
            let standing = self.hold.standing(measure, &now)?;
            let (limit, remaining) = (Some(standing.limit), Some(standing.remaining));
            Some(Quota { of, limit, remaining, reset: Some(standing.reset) })
        });
        let told: Quotas = told.collect();
        (!told.is_empty()).then(|| Box::new(told))
    }
}

const NOTHING: Used = Used { tokens: Some(0), money: Some(0) };

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
    let places = alias.deployments.iter().map(|deployment| &deployment.cluster.spec.limits);
    if callers.iter().chain([&alias.limits]).chain(places).all(|bound| bound.is_empty()) {
        return Ok(());
    }
    let prompt = prompt();
    let demand = alias.forecast.demand(&prompt);
    let now = Now::at(Instant::now());
    context.used.prompt = prompt;
    context.used.forecast = Some(Arc::clone(&alias.forecast));
    let bounds = callers.iter().chain([&alias.limits]);
    context.used.take(bounds, (&context.model, &demand), &now).await
}

/// Takes a request of every limit of whoever asks, where nothing is known of what it asks for.
///
/// # Errors
/// As [`reserve`].
pub(super) async fn reserve_raw(context: &mut Context) -> Result<(), Error> {
    let callers = callers(context);
    if callers.iter().all(|bound| bound.is_empty()) {
        return Ok(());
    }
    context.used.take(callers.iter(), ("", &Demand::default()), &Now::at(Instant::now())).await
}

/// The limits of whoever asks.
fn callers(context: &Context) -> [Arc<Bound>; 1] {
    let Some(principal) = &context.principal else { return [Arc::default()] };
    let limits = &context.snapshot.nameless;
    if principal.name != "anonymous" || limits.is_empty() {
        return [Arc::clone(&principal.limits)];
    }
    [context.snapshot.book.bind(&Subject::Address(context.tenant()), limits)]
}

/// Takes of the limits of the cluster where the next attempt goes.
///
/// # Errors
/// How long there is no room; nothing was taken then.
pub(super) async fn reserve_at(deployment: &Deployment, context: &mut Context) -> Result<(), Duration> {
    let bound = &deployment.cluster.spec.limits;
    if bound.is_empty() && context.used.at_place.is_empty() {
        return Ok(());
    }
    let demand = context.used.forecast.as_ref().map(|forecast| forecast.demand(&context.used.prompt));
    let mut hold = Hold::default();
    let now = Now::at(Instant::now());
    let took = hold.reserve(bound.meters(&context.model), &demand.unwrap_or_default(), &now).await;
    took.map_err(|refused| match refused.short {
        Short::Wait(wait) => wait,
        Short::Away => AWAY,
        Short::Never => Duration::MAX,
    })?;
    context.used.next_place = Some(hold);
    Ok(())
}

/// What an exchange used is known now.
pub(super) fn settle(context: &mut Context) {
    if context.used.hold.is_empty() && context.used.at_place.is_empty() && context.used.forecast.is_none() {
        return;
    }
    let used = Used { tokens: tokens(context), money: None };
    if let (Some(forecast), Some(usage), None) =
        (&context.used.forecast, &context.tally.usage, &context.failure)
    {
        forecast.learn(&context.used.prompt, usage);
    }
    let now = Now::at(Instant::now());
    context.used.hold.settle(&used, &now);
    context.used.at_place.settle(&used, &now);
}

/// The tokens of an exchange: as they were reported, or as they were counted, the prompt by its estimate.
fn tokens(context: &Context) -> Option<u64> {
    let prompt = || {
        let forecast = context.used.forecast.as_ref();
        forecast.map_or(0, |forecast| forecast.tokens(&context.used.prompt).0)
    };
    match (&context.tally.usage, &context.failure) {
        (Some(usage), _) => {
            let output = usage.output.total.unwrap_or(context.tally.tokens);
            Some(usage.input.total.unwrap_or_else(prompt).saturating_add(output))
        }
        // An upstream that answers with an error bills nothing.
        (None, _)
            if context.timeline.head.is_some() && context.tally.tokens == 0 && context.status >= 400 =>
        {
            Some(0)
        }
        // It worked on the prompt at least.
        (None, _) => Some(prompt().saturating_add(context.tally.tokens)),
    }
}

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
    if let Some(standing) = refused.meter.standing(&Now::at(Instant::now())) {
        let told = Quota {
            of,
            limit: Some(standing.limit),
            remaining: Some(standing.remaining),
            reset: Some(standing.reset),
        };
        headers::put_quotas(head, &[told], context.dialect);
    }
}
