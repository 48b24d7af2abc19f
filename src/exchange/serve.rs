//! Serves one request outside Pingora's proxy pipeline, which costs every open stream some 16 KiB that an LLM exchange has
//! no use for. Only what a raw route matches is left to the pipeline.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HOST;
use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::http::ServerSession;

use super::admit::host_of;
use super::context::Context;
use super::guard::Guarded;
use super::http1::Http1;
use super::reject::answer_failure;
use super::session::Session;
use super::{Shared, police, run};
use crate::frame;
use crate::route::matcher::Target;
use crate::snapshot::Snapshot;

/// Serves the request whose head is ready on an HTTP/1 connection, and that no raw route matches. Gives the connection
/// back if it can carry another; it is the `last` one where it must not.
pub async fn serve(shared: &Arc<Shared>, guarded: Box<Guarded>, last: bool) -> Option<Box<Guarded>> {
    let mut session = Http1::begin(guarded);
    if last {
        session.close();
    }
    let kept = answer(shared, Session::Own(&mut session)).await;
    // What is not in order is broken off: nothing else would tell.
    if kept { session.finish().await } else { None }
}

/// Serves a request over HTTP/2.
pub async fn serve_h2(shared: &Arc<Shared>, mut session: ServerSession) -> Option<ReusedHttpStream> {
    if answer(shared, Session::Pingora(&mut session)).await {
        session.finish().await.ok().flatten()?;
    }
    // Its connection carries its streams by itself.
    None
}

/// Runs the exchange, answers what went wrong, and accounts for it. Says whether the connection is still in order.
async fn answer(shared: &Arc<Shared>, mut session: Session<'_>) -> bool {
    let mut context = Context::new(shared, Instant::now());
    let mut in_order = true;
    if let Err(error) = run(shared, &mut session, &mut context).await {
        in_order = answer_failure(&mut session, &mut context, &error).await.is_none();
        context.failure = Some(error);
    }
    let head = session.head();
    context.settle(&head.method, head.uri.path());
    police::audited(&context, head);
    in_order
}

/// Whether a screened HTTP/1 head is for a raw route.
pub fn is_raw_head(snapshot: &Snapshot, head: &[u8]) -> bool {
    if !snapshot.routes.any_raw() {
        return false;
    }
    let read = frame::http1::request(&Bytes::copy_from_slice(head));
    read.is_some_and(|head| is_raw(snapshot, &head.uri, &head.headers))
}

/// Whether a request is for a raw route.
pub fn is_raw(snapshot: &Snapshot, uri: &http::Uri, headers: &HeaderMap) -> bool {
    if !snapshot.routes.any_raw() {
        return false;
    }
    let host = host_of(uri, headers.get(HOST)).to_ascii_lowercase();
    let route = snapshot.routes.find(&host, uri.path(), headers);
    route.is_some_and(|route| matches!(route.target, Target::Raw { .. }))
}
