//! Tells the client of an upstream's error: as it is, or in the client's dialect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::echo::without_credential;
use super::{Answer, Terms, X_AMZN_ERRORTYPE};
use crate::dialect::form::Form;
use crate::dialect::quota::is_quota;
use crate::error::{Error, Kind};
use crate::exchange::attempt::Upstream;
use crate::exchange::client::{Client, Sent};
use crate::exchange::context::Context;
use crate::exchange::headers;
use crate::exchange::reject::refusal;
use crate::exchange::verdict::{Failed, beyond_of, cause_of, fault_of, wait_of};
use crate::frame::http1::Reply;
use crate::frame::sse::is_whole;
use crate::meter::metrics::METRICS;
use crate::provider::credential::Source;
use crate::upstream::cluster::Outcome;

/// The most of an upstream's error that is read, bytes.
const ERROR_BODY: usize = 256 << 10;
/// How long it may take.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// What an upstream's error is to its client. It goes there as it is, if it is JSON and the client's own doing or limit.
/// What is wrong with our credential is ours, and a page of HTML is nothing an SDK can read: both become errors of our
/// own.
pub(super) async fn failure(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &Context,
    terms: &Terms,
    status: u16,
) -> Box<Failed> {
    upstream.judge(if matches!(status, 500 | 502..=599) { Outcome::Bad } else { Outcome::Neutral });
    count_failure(&upstream, status);
    let limit = ERROR_TIME.min(terms.deadline.saturating_duration_since(Instant::now()));
    let body = match read_error(&mut upstream, client, limit).await {
        Ok(body) => body,
        Err(error) if error.kind == Kind::ClientGone => return error.into(),
        // The status says enough.
        Err(error) => {
            log::debug!("the body of an error cannot be read: {error}");
            Bytes::new()
        }
    };
    let name = Arc::clone(upstream.endpoint());
    let head = match upstream.take_response() {
        Ok(head) => head,
        Err(error) => return error.into(),
    };
    let (head, body) = without_credential(head, body, context);
    let is_coded =
        head.fields.text(&CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"));
    // What came compressed unasked can be neither read nor passed on.
    let body = if is_coded { Bytes::new() } else { body };
    let readable = is_whole(&body) && matches!(body.first(), Some(b'{' | b'['));
    if readable {
        upstream.release().await;
    }
    let read = crate::dialect::error::read(&body, head.fields.text(&X_AMZN_ERRORTYPE));
    let (cause, wait) = (cause_of(status, read.as_ref()), wait_of(&head.fields, &body));
    let beyond = beyond_of(status, read.as_ref());
    if let (Some(fault), Some(place)) = (fault_of(status, read.as_ref()), &context.place)
        && has_credential(context)
    {
        place.cluster.refused(fault, place.key.as_ref(), Instant::now());
    }
    let said = read.map(|said| said.message).unwrap_or_default();
    let private = format!("{} answered {status}: {}", name.name, truncated(&said));
    log::debug!("{:?} failed with {status}", terms.operation);
    let ours = matches!(status, 401 | 403) && has_credential(context);
    let foreign = terms.carry.translates() || upstream_form(context).has_own_errors();
    let error = told(status, said, ours, foreign, wait).because(private);
    let passes = !ours && client.sent() == Sent::Nothing && (readable || foreign);
    let answer = passes.then(|| match foreign {
        false => as_it_is(head, body, context),
        true => in_the_clients_words(head, &error, context),
    });
    // What is not there does not come back when it says.
    let wait = wait.filter(|_| !matches!(status, 400..=407));
    Box::new(Failed { error, cause, wait, answer, beyond })
}

/// An error that the client reads as it is.
fn as_it_is(head: Reply, body: Bytes, context: &Context) -> Answer {
    let mut head = headers::reply(head, &context.id);
    headers::put(&mut head, CONTENT_TYPE, "application/json");
    Answer::Error { head, body }
}

/// The same in the client's dialect, and what the upstream says of its rates.
fn in_the_clients_words(upstream: Reply, error: &Error, context: &Context) -> Answer {
    let (mut head, body) = refusal(context, error);
    let mut upstream = headers::reply(upstream, &context.id);
    headers::translate_quotas(&mut upstream, context.dialect);
    for (name, value) in upstream.fields.iter().filter(|(name, _)| is_quota(name.as_str())) {
        head.fields.append(name.clone(), value.clone());
    }
    Answer::Error { head, body }
}

async fn read_error(
    upstream: &mut Upstream,
    client: &mut Client<'_>,
    limit: Duration,
) -> Result<Bytes, Error> {
    let reading = tokio::time::timeout(limit, gather(upstream));
    match client.unless_gone(async { Ok(reading.await) }).await? {
        Ok(body) => body,
        Err(_) => Err(upstream.slow("the upstream's answer did not come in time")),
    }
}

/// What an upstream said, in words for the client's own dialect.
fn told(status: u16, said: String, ours: bool, foreign: bool, wait: Option<Duration>) -> Error {
    if ours {
        let public = "the upstream did not accept this gateway's credential";
        return Error::upstream(Kind::UpstreamFailed, public);
    }
    let in_its_words = foreign && !said.is_empty();
    let public = if in_its_words { said } else { public_of(status, &said) };
    let kind = kind_of(status);
    let error = match kind {
        Kind::InvalidRequest | Kind::TooLarge | Kind::UnknownModel => Error::client(kind, public),
        _ => Error::upstream(kind, public),
    };
    match wait {
        Some(wait) => error.after(u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX)),
        None => error,
    }
}

fn count_failure(upstream: &Upstream, status: u16) {
    let kind = match status {
        429 => "rate",
        401 | 403 => "credential",
        400..=499 => "refused",
        _ => "failed",
    };
    let cluster = upstream.cluster();
    METRICS.upstream.errors.with_label_values(&[&*cluster.spec.provider.name, cluster.name(), kind]).inc();
}

async fn gather(upstream: &mut Upstream) -> Result<Bytes, Error> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = upstream.body().await? {
        if whole.len() + chunk.len() > ERROR_BODY {
            return Err(Error::upstream(
                Kind::UpstreamFailed,
                "the upstream's error is too large to be passed on",
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn has_credential(context: &Context) -> bool {
    context.place.as_ref().is_some_and(|place| {
        let spec = &place.cluster.spec;
        place.key.is_some() || !spec.headers.is_empty() || !matches!(spec.credential, Source::Headers)
    })
}

/// The form in which the upstream was asked.
fn upstream_form(context: &Context) -> &Form {
    context.place.as_ref().map_or(&Form::Own, |place| &place.cluster.spec.form)
}

/// The kind whose status is nearest to an upstream's.
fn kind_of(status: u16) -> Kind {
    match status {
        401 => Kind::Unauthenticated,
        403 => Kind::Forbidden,
        404 => Kind::UnknownModel,
        408 | 504 => Kind::UpstreamTimeout,
        413 => Kind::TooLarge,
        429 => Kind::RateLimited,
        503 | 529 => Kind::Overloaded,
        400..=499 => Kind::InvalidRequest,
        _ => Kind::UpstreamFailed,
    }
}

fn public_of(status: u16, said: &str) -> String {
    match truncated(said) {
        "" => format!("the upstream answered with status {status} and nothing that can be passed on"),
        said => format!("the upstream answered with status {status}: {said}"),
    }
}

/// The start of a message, as much as a log line or an error should hold.
fn truncated(text: &str) -> &str {
    let end = (0..=500.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}
