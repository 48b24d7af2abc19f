//! What a caller who is known may not ask for. A request of one without bounds is not looked at.

use bytes::Bytes;

use super::admit::Named;
use super::context::Context;
use super::listing::unknown_model;
use crate::access::Principal;
use crate::dialect::Operation;
use crate::dialect::ir::target::LimitName;
use crate::dialect::permission::{Length, brings_tools, hold_to};
use crate::dialect::request::fault_error;
use crate::error::{Blame, Error, Kind};
use crate::json::{Envelope, splice};
use crate::meter::metrics::METRICS;
use crate::provider::facts::facts;

/// Refuses a caller who may not take this route, or not ask for that there. Models may always be listed: only those are
/// that a caller may use.
///
/// # Errors
/// [`Kind::Forbidden`].
pub(super) fn way(principal: &Principal, context: &Context) -> Result<(), Error> {
    if let Some(route) = &context.route
        && !principal.may_take(&route.name)
    {
        return Err(refuse("route", format!("this API key may not use the route `{}`", route.name)));
    }
    let operation = context.operation;
    let counted = operation.and_then(Operation::counts);
    let may = operation == Some(Operation::Models)
        || principal.may_ask(operation)
        || counted.is_some_and(|counted| principal.may_ask(Some(counted)));
    if may {
        return Ok(());
    }
    let name = operation.map_or("raw", Operation::name);
    Err(refuse("endpoint", format!("this API key may not ask for {name}")))
}

/// The largest body that a caller may send, bytes.
pub(super) fn body_bound(context: &Context, route: u64) -> u64 {
    let own = context.principal.as_ref().and_then(|principal| principal.max_body());
    own.map_or(route, |own| own.min(route))
}

/// What is wrong with a body that was not read. One that is larger than its caller's own bound, but not than its route's, is
/// refused by that.
pub(super) fn body_error(context: &Context, route: u64, error: Error) -> Error {
    if error.kind != Kind::TooLarge || body_bound(context, route) >= route {
        return error;
    }
    METRICS.access.refusals.with_label_values(&["body"]).inc();
    let public = error.public.clone();
    Error { blame: Blame::Policy, ..error }.because(format!("rule max_body: {public}"))
}

/// Whether the caller may use a model, and on this route.
pub(super) fn may_use(name: &str, context: &Context) -> bool {
    context.route.as_ref().is_some_and(|route| route.allows(name))
        && context.principal.as_ref().is_some_and(|principal| principal.may_use(name))
}

/// Refuses a model that the caller may not use, or not on this route. The client is told the same as of one that does not
/// exist.
///
/// # Errors
/// [`Kind::UnknownModel`].
pub(super) fn model(name: &str, context: &Context) -> Result<(), Error> {
    if may_use(name, context) {
        return Ok(());
    }
    METRICS.access.refusals.with_label_values(&["model"]).inc();
    let error = Error { blame: Blame::Policy, ..unknown_model(name) };
    Err(error.because("rule models: the caller may not use it, or not on this route"))
}

/// The request as its caller may ask it: with the length of the answer said, where that has a bound. `named` is what the
/// path names. A body that cannot be read stays as it is: whoever reads it next says why.
///
/// # Errors
/// [`Kind::Forbidden`] for tools, [`Kind::InvalidRequest`] for too long an answer.
pub(super) fn request(
    operation: Operation,
    body: Bytes,
    named: Option<&Named>,
    context: &Context,
) -> Result<Bytes, Error> {
    let Some(principal) = &context.principal else { return Ok(body) };
    let (tools, most) = (principal.may_bring_tools(), principal.max_output());
    if tools && most.is_none() {
        return Ok(body);
    }
    let Ok(envelope) = Envelope::parse(&body) else { return Ok(body) };
    let fault = |fault| fault_error(operation, fault);
    if !tools && brings_tools(operation, &body).map_err(fault)? {
        return Err(refuse("tools", "this API key may not use `tools`".to_owned()).param("tools"));
    }
    let Some(most) = most else { return Ok(body) };
    let in_body = envelope.model.as_ref().map_or("", |model| model.text.as_ref());
    let model = named.map_or(in_body, |named| named.model.as_str());
    match hold_to(operation, &body, most, name_in_chat(model, context)).map_err(fault)? {
        Length::Within => Ok(body),
        Length::Set(edits) => Ok(splice(&body, &edits).concat().into()),
        Length::Over { field } => {
            METRICS.access.refusals.with_label_values(&["output"]).inc();
            let why = format!("{field} is too large: this API key may ask for at most {most} tokens");
            Err(Error::policy(Kind::InvalidRequest, why).param(field))
        }
    }
}

/// What the first place that a model may go to calls the bound of an answer in chat.
fn name_in_chat(model: &str, context: &Context) -> &'static str {
    let place = context.snapshot.aliases.find(model);
    let place = place.and_then(|(alias, starred)| Some((alias.deployments.first()?, starred)));
    let Some((first, starred)) = place else { return "max_completion_tokens" };
    let there = first.model.resolve(starred);
    match facts(&first.cluster.spec.provider, there.as_deref().unwrap_or(model)).limit_name {
        LimitName::MaxTokens => "max_tokens",
        LimitName::MaxCompletionTokens => "max_completion_tokens",
    }
}

fn refuse(permission: &'static str, why: String) -> Error {
    METRICS.access.refusals.with_label_values(&[permission]).inc();
    Error::policy(Kind::Forbidden, why)
}
