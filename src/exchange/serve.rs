//! Serves one request outside Pingora's proxy pipeline, which costs every open stream some 16 KiB that an LLM exchange has
//! no use for. Only what a raw route matches is left to the pipeline.

use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;

use super::admit::host_of;
use super::context::Context;
use super::guard::Guarded;
use super::reject::answer_failure;
use super::{Shared, run};
use crate::route::matcher::Target;
use crate::snapshot::Snapshot;

/// Serves the request that `session` is about to read, which no raw route matches. Gives the connection back if it can
/// carry another.
pub async fn serve(shared: &Arc<Shared>, mut session: ServerSession) -> Option<ReusedHttpStream> {
    match session.read_request().await {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            // The guard lets through only what it has screened, so this is a connection that broke.
            log::debug!("a request could not be read: {error}");
            return None;
        }
    }
    let mut context = Context::new(shared, Instant::now());
    let kept = answer(shared, &mut session, &mut context).await;
    if let Some(guarded) = Guarded::of(&session) {
        guarded.next();
    }
    let head = session.req_header();
    context.settle(&head.method, head.uri.path());
    drop(context);
    if !kept {
        return None;
    }
    let settings = HttpPersistentSettings::for_session(&session);
    let reusable = session.finish().await.ok().flatten()?;
    Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
}

/// Runs the exchange and answers what went wrong. Says whether the connection is still in order.
async fn answer(shared: &Arc<Shared>, session: &mut ServerSession, context: &mut Context) -> bool {
    let Err(error) = run(shared, session, context).await else { return true };
    let broken = answer_failure(session, context, &error).await;
    context.failure = Some(error);
    broken.is_none()
}

/// Whether a screened HTTP/1 head is for a raw route.
pub fn is_raw_head(snapshot: &Snapshot, head: &[u8]) -> bool {
    if !snapshot.routes.any_raw() {
        return false;
    }
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(head).is_err() {
        return false;
    }
    let named = request.headers.iter().filter_map(|field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    });
    let headers: HeaderMap = named.collect();
    let uri: http::Uri = request.path.and_then(|target| target.parse().ok()).unwrap_or_default();
    is_raw(snapshot, &uri, &headers)
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
