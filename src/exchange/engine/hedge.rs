//! A second attempt beside one that is slow. Whichever has something to stay with first is stayed with; the other is
//! dropped, which closes its connection and leaves its endpoint without a judgement: to be slower than another is no
//! failure.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ask, Outbound, attempt, limits, noted, set_out};
use crate::exchange::client::Client;
use crate::exchange::context::Context;
use crate::exchange::relay::{Opened, Terms};
use crate::exchange::retry::{Hedged, Plan};
use crate::exchange::verdict::Failed;
use crate::meter::metrics::METRICS;
use crate::route::alias::Deployment;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::hedge::Hedging;

/// What an attempt comes to.
type Reached = Result<Opened, Box<Failed>>;

/// The second attempt, with all that is its own.
struct Second<'p> {
    deployment: &'p Deployment,
    terms: Terms,
    client: Client<'static>,
    context: Context,
}

/// A second attempt under way.
struct Running<'p> {
    deployment: &'p Deployment,
    endpoint: Arc<Endpoint>,
    work: Pin<Box<dyn Future<Output = (Second<'p>, Reached)> + Send + 'p>>,
}

/// How two attempts ended.
enum Ended<'p> {
    /// The first came to this, and the second was not waited for.
    First(Reached),
    /// The second failed, and the first came to this.
    Failed(Reached, Second<'p>, Box<Failed>),
    /// The second has something to stay with. The first may have failed before.
    Second(Option<Box<Failed>>, Second<'p>, Opened),
}

impl Ended<'_> {
    /// What became of the second attempt.
    fn hedged(&self) -> Hedged {
        match self {
            Self::First(_) => Hedged::Lost,
            Self::Failed(..) => Hedged::Failed,
            Self::Second(..) => Hedged::Won,
        }
    }
}

/// Makes the attempt that was set out, and another one beside it should it be slow. Where that one is stayed with,
/// deployment, terms and context are its own from then on.
pub(super) async fn race<'p>(
    ask: &'p Ask<'_>,
    plan: &mut Plan<'p>,
    (hedging, deadline): (Hedging, Instant),
    (deployment, terms, outbound): (&mut &'p Deployment, &mut Terms, Outbound),
    client: &mut Client<'_>,
    context: &mut Context,
) -> Reached {
    let first = *deployment;
    let began = context.timeline.tried;
    let delay = first.waits.as_ref().and_then(|waits| hedging.delay(waits, ask.asked.stream));
    let endpoint = Arc::clone(outbound.flight.endpoint());
    // The first attempt has the client and the context for itself as long as it runs.
    let own = delay.map(|delay| (delay, client.stand_in(), context.beside()));
    first.cluster.hedges.pay_in(hedging.budget);
    let mut running = None;
    let ended = {
        let mut work = pin!(attempt(ask, outbound, terms, client, context));
        let alone = match own {
            None => Some(work.as_mut().await),
            Some((delay, client, context)) => {
                let alone = tokio::time::timeout(delay, work.as_mut()).await.ok();
                if alone.is_none() {
                    running = begin(ask, plan, (first, &endpoint), (client, context), deadline).await;
                }
                alone
            }
        };
        match (alone, &mut running) {
            (Some(reached), _) => Ended::First(reached),
            (None, None) => Ended::First(work.await),
            (None, Some(second)) => both(work, second).await,
        }
    };
    learn(ask, &ended, (first, &endpoint), began.elapsed());
    let second = running.as_ref().map(|running| (running.deployment, Arc::clone(&running.endpoint)));
    let ended = last_hope(ask, ended, running, terms, client, context).await;
    let hedged = ended.hedged();
    let reached = stay(ask, ended, plan, (deployment, terms), client, context);
    if let Some((at, endpoint)) = second {
        context.attempts += 1;
        METRICS.hedges.with_label_values(&[first.cluster.name(), hedged.name()]).inc();
        plan.hedged(first, hedged, (at, &endpoint));
    }
    reached
}

/// Notes how long the first attempt took. One that was overtaken would have taken longer still: without it, a slow place
/// would be known by its quick replies alone.
fn learn(ask: &Ask<'_>, ended: &Ended<'_>, (first, endpoint): (&Deployment, &Endpoint), took: Duration) {
    let is_overtaken = matches!(ended, Ended::Second(None, ..));
    if ask.asked.stream && is_overtaken {
        endpoint.first_token(took);
        first.cluster.first_token(took, Instant::now());
    }
    if let Some(waits) = &first.waits
        && (is_overtaken || matches!(ended, Ended::First(Ok(_)) | Ended::Failed(Ok(_), ..)))
    {
        waits.of(ask.asked.stream).note(took);
    }
}

/// Sends the request to another place, if there is one that is well and the budget allows for it.
async fn begin<'p>(
    ask: &'p Ask<'_>,
    plan: &Plan<'p>,
    (first, endpoint): (&'p Deployment, &Arc<Endpoint>),
    (client, mut context): (Client<'static>, Context),
    deadline: Instant,
) -> Option<Running<'p>> {
    let now = Instant::now();
    let model = |place: &Deployment| place.model.resolve(&context.starred);
    // What would have to be fetched first is late already.
    let takes = |place: &Deployment| ask.asked.urls(&place.cluster.spec, model(place).as_deref()).is_empty();
    let (deployment, flight) = plan.beside(first, endpoint, now, takes).filter(|_| now < deadline)?;
    let model = model(deployment);
    limits::reserve_at(deployment, flight.key(), &mut context).await.ok()?;
    let written = ask.asked.write(&deployment.cluster.spec, model.as_deref(), &context.id).ok()?;
    if !first.cluster.hedges.take() {
        log::debug!("cluster {}: no budget is left for a second attempt", first.cluster.name());
        return None;
    }
    let endpoint = Arc::clone(flight.endpoint());
    let (terms, outbound) =
        set_out(ask, (deployment, flight), (model, written), (deadline, now), &mut context);
    let mut second = Second { deployment, terms, client, context };
    let work = Box::pin(async move {
        let Second { terms, client, context, .. } = &mut second;
        let reached = attempt(ask, outbound, terms, client, context).await;
        (second, reached)
    });
    Some(Running { deployment, endpoint, work })
}

/// Lets both go on until one has something to stay with, or the first has failed.
async fn both<'p>(mut first: Pin<&mut impl Future<Output = Reached>>, second: &mut Running<'p>) -> Ended<'p> {
    let (second, reached) = tokio::select! {
        biased;
        reached = first.as_mut() => return Ended::First(reached),
        done = second.work.as_mut() => done,
    };
    match reached {
        Ok(opened) => Ended::Second(None, second, opened),
        Err(failed) => Ended::Failed(first.await, second, failed),
    }
}

/// Where the first attempt failed and another may help, the second is that other, as long as the client waits for it.
/// Where it is not needed, it ends here.
async fn last_hope<'p>(
    ask: &Ask<'_>,
    ended: Ended<'p>,
    running: Option<Running<'p>>,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &Context,
) -> Ended<'p> {
    match (ended, running) {
        (Ended::First(Err(failed)), Some(second)) if failed.cause.is_some() => {
            let asks = (ask.asked.operation, context.id.as_str());
            match client.kept_awake(terms.clocks.heartbeat, asks, second.work).await {
                Ok((second, Ok(opened))) => Ended::Second(Some(failed), second, opened),
                Ok((second, Err(too))) => Ended::Failed(Err(failed), second, too),
                Err(gone) => Ended::First(Err(gone.into())),
            }
        }
        (ended, _) => ended,
    }
}

/// Stays with one of the two, and notes what failed of the other.
fn stay<'p>(
    ask: &Ask<'_>,
    ended: Ended<'p>,
    plan: &mut Plan<'p>,
    (deployment, terms): (&mut &'p Deployment, &mut Terms),
    client: &mut Client<'_>,
    context: &mut Context,
) -> Reached {
    let now = Instant::now();
    let (second, reached) = match ended {
        Ended::First(reached) => return reached,
        // What the second was refused for, no further attempt would mend.
        Ended::Failed(Err(failed), second, refused) if failed.cause.is_some() && refused.cause.is_none() => {
            noted(plan, deployment, &failed, context, now);
            (second, Err(refused))
        }
        Ended::Failed(reached, second, failed) => {
            noted(plan, second.deployment, &failed, &second.context, now);
            return reached;
        }
        Ended::Second(failed, second, opened) => {
            if let Some(failed) = failed {
                noted(plan, deployment, &failed, context, now);
            }
            if let Some(waits) = &second.deployment.waits {
                waits.of(ask.asked.stream).note(second.context.timeline.tried.elapsed());
            }
            (second, Ok(opened))
        }
    };
    client.write_within(second.terms.clocks.client_write);
    *deployment = second.deployment;
    *terms = second.terms;
    context.adopt(second.context);
    reached
}
