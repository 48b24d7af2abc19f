//! Holds requests against their route's policy, and tells the audit log what became of an exchange.

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::context::Context;
use crate::access::KEY_HEADERS;
use crate::dialect::Operation;
use crate::error::{Blame, Error, Kind};
use crate::filter::redact::Kinds;
use crate::meter::audit::{self, Audit};
use crate::meter::metrics::METRICS;

/// The body as it goes on: held against the route's policy, and changed as that says.
///
/// # Errors
/// What the policy refuses.
pub(super) fn enforce(operation: Operation, body: Bytes, context: &Context) -> Result<Bytes, Error> {
    let Some(route) = context.route.as_ref().map(Arc::clone) else { return Ok(body) };
    let Some(policy) = &route.policy else { return Ok(body) };
    if policy.prompts
        && let Some(audit) = audit::on()
    {
        audit.prompt(request(context, ""), &policy.told(operation, &body));
    }
    let applied = policy.apply(operation, &body)?;
    count("request", applied.found);
    Ok(applied.body.unwrap_or(body))
}

/// What is taken out of the exchange's replies.
pub(super) fn of_replies(context: &Context) -> Kinds {
    let policy = context.route.as_ref().and_then(|route| route.policy.as_ref());
    policy.map_or_else(Kinds::default, |policy| policy.redact.reply)
}

/// Counts what was taken out.
fn count(side: &str, found: Kinds) {
    found.iter().for_each(|kind| METRICS.redactions.with_label_values(&[side, kind.name()]).inc());
}

/// Tells the audit log what became of an exchange.
pub(super) fn audited(context: &Context, head: &Parts) {
    if let Some(audit) = audit::on() {
        tell(audit, context, head);
    }
}

fn tell(audit: &Audit, context: &Context, head: &Parts) {
    let about = request(context, head.uri.path());
    match &context.failure {
        Some(error) if error.kind == Kind::Unauthenticated && error.blame == Blame::Policy => {
            audit.unknown(about, shown_in(head), said(error));
        }
        Some(error) if error.blame == Blame::Policy => audit.refused(about, said(error)),
        _ if matches!(about.principal, "" | "anonymous") => {}
        _ => audit.used(about),
    }
}

fn said(error: &Error) -> &str {
    if error.private.is_empty() { &error.public } else { &error.private }
}

fn request<'a>(context: &'a Context, path: &'a str) -> audit::Request<'a> {
    audit::Request {
        id: &context.id,
        address: context.client,
        principal: context.principal.as_ref().map_or("", |principal| &*principal.name),
        route: context.route.as_ref().map_or("", |route| route.name.as_str()),
        path,
        model: &context.model,
        status: context.status,
    }
}

/// The header in which a caller showed a credential.
fn shown_in(head: &Parts) -> &'static str {
    let own = KEY_HEADERS.into_iter().find(|name| head.headers.contains_key(*name));
    let bearer = head.headers.contains_key(AUTHORIZATION).then_some("authorization");
    own.or(bearer).unwrap_or_default()
}
