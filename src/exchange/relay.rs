//! Moves a reply to the client: a stream event by event, a whole reply in one piece, an upstream's error as it is or
//! in the client's dialect.

mod clocks;
mod failure;
mod flow;
mod stream;
mod whole;

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use smallvec::SmallVec;

use super::attempt::Upstream;
use super::carry::Carry;
use super::client::{Client, Sent};
use super::context::Context;
use crate::clocks::Clocks;
use crate::dialect::Operation;
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;
use crate::meter::access_log::When;
use crate::meter::series::DeploymentSeries;
use crate::upstream::cluster::Outcome;

/// What a reply is relayed with.
pub struct Terms {
    /// What was asked.
    pub operation: Operation,
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
}

/// Relays what the upstream answered.
///
/// # Errors
/// What went wrong before anything was committed to the client, and after it in a whole reply. A stream that breaks
/// after its head is ended here, with an error event.
pub async fn relay(
    upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let Some(head) = upstream.response() else {
        return Err(Error::gateway(Kind::Internal, "the reply has no head"));
    };
    let status = head.status;
    let media = head.fields.get(&CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_stream = terms.carry.is_stream(media);
    let is_coded = head
        .fields
        .get(&CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    context.upstream_id = upstream_id(head);
    context.phase = When::FirstToken;
    match (status, is_stream) {
        (400.., _) => failure::failure(upstream, client, context, terms, status).await,
        _ if is_coded => unfit(upstream, "the upstream compressed its reply, which it was asked not to"),
        (204 | 205, _) => unfit(upstream, "the upstream answered without a body"),
        (_, true) => stream::stream(upstream, client, context, terms).await,
        (300..400, _) => unfit(upstream, "the upstream answered with a redirect, which is not followed"),
        _ if client.sent() == Sent::Stream => {
            unfit(upstream, "the upstream answered a stream with a whole reply")
        }
        _ => whole::whole(upstream, client, context, terms).await,
    }
}

/// The upstream answered with what no client can be given.
fn unfit(mut upstream: Upstream, why: &'static str) -> Result<(), Error> {
    upstream.judge(Outcome::Bad);
    Err(Error::upstream(Kind::UpstreamFailed, why).because(&upstream.endpoint().name))
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
