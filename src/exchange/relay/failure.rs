//! Tells the client of an upstream's error: as it is, or in the client's dialect.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::Terms;
use crate::error::{Error, Kind};
use crate::exchange::attempt::Upstream;
use crate::exchange::carry::Carry;
use crate::exchange::client::{Client, Sent};
use crate::exchange::context::Context;
use crate::exchange::headers;
use crate::frame::sse::is_whole;
use crate::meter::metrics::METRICS;
use crate::upstream::cluster::Outcome;

/// The most of an upstream's error that is read, bytes.
const ERROR_BODY: usize = 256 << 10;
/// How long it may take.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// An upstream's error goes to the client as it is, if it is JSON and the client's own doing or limit. What is wrong
/// with our credential is ours, and a page of HTML is nothing an SDK can read: both become errors of our own.
pub(super) async fn failure(
    mut upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    status: u16,
) -> Result<(), Error> {
    upstream.judge(if matches!(status, 500 | 502..=599) { Outcome::Bad } else { Outcome::Neutral });
    count_failure(&upstream, status);
    let body = match client
        .unless_gone(async { Ok(tokio::time::timeout(ERROR_TIME, gather(&mut upstream)).await) })
        .await?
    {
        Ok(body) => body?,
        Err(_) => return Err(upstream.slow("the upstream's answer did not come in time")),
    };
    let name = Arc::clone(upstream.endpoint());
    let mut head = headers::reply(upstream.take_response()?, &context.id);
    let readable = is_whole(&body) && matches!(body.first(), Some(b'{' | b'['));
    if readable {
        upstream.release().await;
    }
    let ours = matches!(status, 401 | 403) && has_credential(context);
    let said = crate::dialect::error::read(&body, None).map(|said| said.message).unwrap_or_default();
    let private = format!("{} answered {status}: {}", name.name, truncated(&said));
    log::debug!("{:?} failed with {status}", terms.operation);
    if ours {
        let public = "the upstream did not accept this gateway's credential";
        return Err(Error::upstream(Kind::UpstreamFailed, public).because(private));
    }
    if matches!(terms.carry, Carry::Translated { .. }) {
        let retry_after = head.fields.text(&RETRY_AFTER).and_then(|value| value.parse().ok());
        return Err(translated(status, said, retry_after).because(private));
    }
    if !readable || client.sent() != Sent::Nothing {
        return Err(Error::upstream(kind_of(status), public_of(status, &said)).because(private));
    }
    headers::put(&mut head, CONTENT_TYPE, "application/json");
    context.note = private;
    client.whole(head, body).await
}

/// What an upstream of another dialect said, for the client's own to say.
fn translated(status: u16, said: String, retry_after: Option<u32>) -> Error {
    let public = if said.is_empty() { public_of(status, &said) } else { said };
    let kind = kind_of(status);
    let error = match kind {
        Kind::InvalidRequest | Kind::TooLarge | Kind::UnknownModel => Error::client(kind, public),
        _ => Error::upstream(kind, public),
    };
    match retry_after {
        Some(seconds) => error.after(seconds),
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
    METRICS.upstream.errors.with_label_values(&[cluster.spec.provider.name, cluster.name(), kind]).inc();
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
    context.place.as_ref().is_some_and(|place| !place.cluster.spec.headers.is_empty())
}

/// The kind whose status is nearest to an upstream's.
fn kind_of(status: u16) -> Kind {
    match status {
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
