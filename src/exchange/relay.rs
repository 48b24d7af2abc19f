//! Moves a reply to the client: a stream event by event, a whole reply in one piece, an upstream's error as it is or
//! in the client's dialect.
//!
//! It goes in two steps. `open` reads up to the first content, or to the end of what is small, and tells the client
//! nothing but heartbeats; until then another attempt may take over. `Opened::deliver` is the rest.

mod clocks;
mod echo;
mod failure;
mod flow;
mod gaps;
mod stream;
mod whole;

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use smallvec::SmallVec;

use super::attempt::Upstream;
use super::carry::Carry;
use super::client::Client;
use super::context::Context;
use super::headers;
use super::resume::Resume;
use super::verdict::Failed;
use crate::clocks::Clocks;
use crate::dialect::Operation;
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::meter::access_log::When;
use crate::meter::series::DeploymentSeries;
use crate::upstream::cluster::Outcome;
use stream::Streaming;
use whole::{Held, Made};

/// What a reply is relayed with.
pub struct Terms {
    /// What was asked.
    pub operation: Operation,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The clocks in force.
    pub clocks: Clocks,
    /// When the exchange must be over.
    pub deadline: Instant,
    /// How the reply gets to the client.
    pub carry: Carry,
    /// Whether whole replies may be compressed.
    pub compress: bool,
    /// The deployment's series.
    pub series: Arc<DeploymentSeries>,
    /// What another endpoint needs to go on with the stream, where one may.
    pub(super) resume: Option<Box<Resume>>,
}

/// A reply of which enough was read to stay with it.
pub(super) enum Opened {
    /// A stream that has begun to say something.
    Stream(Box<Streaming>),
    /// A whole reply, or the beginning of a large one.
    Whole(Box<Held>),
    /// A whole reply that came as a stream, or a stream that came whole.
    Made(Box<Made>),
}

/// What an upstream answered that may be passed on as it is, but that may be nothing to stay with.
pub(super) enum Answer {
    /// An error with a status.
    Error {
        /// Its head, as the client may see it.
        head: Reply,
        /// Its body.
        body: Bytes,
    },
    /// A stream that begins with an error, and is nothing else.
    Stream {
        /// Its head, as the client may see it.
        head: Reply,
        /// All of it.
        body: Bytes,
    },
}

impl Opened {
    /// Relays the reply to its end.
    ///
    /// # Errors
    /// What went wrong. A stream that breaks is ended here, with an error event.
    pub(super) async fn deliver(
        self,
        client: &mut Client<'_>,
        context: &mut Context,
        terms: &Terms,
    ) -> Result<(), Error> {
        match self {
            Self::Stream(streaming) => stream::deliver(*streaming, client, context, terms).await,
            Self::Whole(held) => whole::deliver(*held, client, context, terms).await,
            Self::Made(made) => whole::made(*made, client, context, terms).await,
        }
    }
}

/// Where AWS puts the class of an error.
pub(super) const X_AMZN_ERRORTYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Tells the official SDKs whether to try again.
pub(super) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl Answer {
    /// Passes it on. Where it was `tried` to find something better, the client is told not to try itself: SDKs would
    /// multiply the attempts.
    ///
    /// # Errors
    /// As [`Opened::deliver`].
    pub(super) async fn deliver(
        self,
        client: &mut Client<'_>,
        context: &mut Context,
        tried: bool,
    ) -> Result<(), Error> {
        match self {
            Self::Error { mut head, body } => {
                if tried && context.attempts > 1 {
                    headers::put(&mut head, X_SHOULD_RETRY, "false");
                }
                client.whole(head, body).await
            }
            Self::Stream { head, body } => {
                context.tally.stream = true;
                client.begin_stream(head).await?;
                client.write(body).await?;
                client.end().await
            }
        }
    }
}

/// Reads what the upstream answers, up to where it is worth staying with.
///
/// # Errors
/// What went wrong; the client was told nothing of it.
pub(super) async fn open(
    upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<Opened, Box<Failed>> {
    let Some(head) = upstream.response() else {
        return Err(Error::gateway(Kind::Internal, "the reply has no head").into());
    };
    let status = head.status;
    let media = head.fields.get(&CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_stream = terms.carry.is_stream(media, terms.stream);
    let is_page = media.starts_with(b"text/html");
    let is_coded = is_coded(head);
    context.upstream_id = upstream_id(head);
    context.phase = When::FirstToken;
    context.bill.answered(status);
    match (status, is_stream) {
        (400.., _) => Err(failure::failure(upstream, client, context, terms, status).await),
        _ if is_coded => unfit(upstream, "the upstream compressed its reply, which it was asked not to"),
        (204 | 205, _) => unfit(upstream, "the upstream answered without a body"),
        (300..400, _) => unfit(upstream, "the upstream answered with a redirect, which is not followed"),
        _ if is_page => unfit(upstream, "the upstream answered with a page of HTML"),
        (_, true) if terms.stream => stream::open(upstream, client, context, terms).await,
        (_, true) => match terms.carry.ends(&context.id, &context.model) {
            // What is seldom done is not part of every stream's memory.
            Some(ends) => Box::pin(stream::fold(upstream, client, context, terms, ends)).await,
            None => stream::open(upstream, client, context, terms).await,
        },
        (_, false) if !terms.stream => whole::open(upstream, client, context, terms).await,
        (_, false) => match terms.carry.ends(&context.id, &context.model) {
            Some(ends) => Box::pin(whole::unfold(upstream, client, context, terms, ends)).await,
            None => unfit(upstream, "the upstream answered a stream with a whole reply"),
        },
    }
}

/// Looks whether the upstream answers with the rest of a stream.
///
/// # Errors
/// What it answers instead.
pub(super) async fn rest(
    upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<Upstream, Box<Failed>> {
    let Some(head) = upstream.response() else {
        return Err(Error::gateway(Kind::Internal, "the reply has no head").into());
    };
    let media = head.fields.get(&CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    context.upstream_id = upstream_id(head);
    context.phase = When::FirstToken;
    context.bill.answered(head.status);
    match (head.status, terms.carry.is_stream(media, true)) {
        (status @ 400.., _) => Err(failure::failure(upstream, client, context, terms, status).await),
        (200, true) if !is_coded(head) => Ok(upstream),
        _ => unfit(upstream, "the upstream answered with no stream that can be gone on with"),
    }
}

/// Whether a reply is compressed.
fn is_coded(head: &Reply) -> bool {
    head.fields
        .get(&CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The upstream answered with what no client can be given.
fn unfit<T>(mut upstream: Upstream, why: &'static str) -> Result<T, Box<Failed>> {
    upstream.judge(Outcome::Bad);
    Err(Error::upstream(Kind::UpstreamFailed, why).because(&upstream.endpoint().name).again().into())
}

fn upstream_id(head: &Reply) -> String {
    let is_id = |name: &str| matches!(name, "x-request-id" | "request-id" | "apim-request-id");
    let value = head.fields.iter().find(|(name, _)| is_id(name.as_str())).map(|(_, value)| value);
    value.and_then(|value| value.to_str().ok()).filter(|id| id.len() <= 128).unwrap_or_default().to_owned()
}

/// One piece to write: nearly always there is but one.
fn joined(mut pieces: SmallVec<[Bytes; 2]>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.pop().unwrap_or_default(),
        _ => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}
