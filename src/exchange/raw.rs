//! Raw routes: anything that is no LLM exchange (files, audio, batches, a WebSocket) goes through Pingora's own
//! pipeline, with the same access, balancing and accounting. Bodies of any size stream through without being held.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::{Error as PingoraError, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use pingora_timeout::timeout;

use super::admit::{admit, identify, key_in_query, route};
use super::context::{Context, Place};
use super::guard::Guarded;
use super::headers::{self, Wire};
use super::intake;
use super::limits;
use super::permit;
use super::reject::reject;
use super::screen;
use super::session::{Session as Downstream, unread};
use super::{Shared, moved};
use crate::access::grants::Known;
use crate::access::presented::without_key;
use crate::error::{Error, Kind};
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::provider::credential::Proved;
use crate::route::matcher::Target;
use crate::upstream::cluster::{Cluster, Outcome};
use crate::upstream::endpoint::InFlight;
use crate::upstream::keys::{self, Call, Loan, Trust};

/// Lets a request in that goes to a raw route: what comes before a body, as for an LLM exchange.
///
/// # Errors
/// Those of each step.
pub async fn begin(shared: &Shared, session: &mut ServerSession, context: &mut Context) -> Result<(), Error> {
    admit(shared, &mut Downstream::Pingora(session), context)?;
    match route(session.req_header(), context)? {
        None => prepare(shared, session, context).await,
        Some(_) => Err(moved()),
    }
}

/// Checks who is calling, and how much comes, before anything is passed on.
async fn prepare(shared: &Shared, session: &mut ServerSession, context: &mut Context) -> Result<(), Error> {
    // The screen lets the names of models have them, but here it is an upstream that would read them.
    if screen::hides_slash(session.req_header().uri.path().as_bytes()) {
        session.set_keepalive(None);
        return Err(Error::client(Kind::InvalidRequest, "the path hides a slash in an escape"));
    }
    identify(&mut Downstream::Pingora(session), context).await?;
    shared.admit(context)?;
    limits::reserve_raw(context).await?;
    let most = max_body(context);
    if intake::declared_length(session.req_header()).is_some_and(|length| length > most) {
        return Err(intake::too_large(most));
    }
    let clocks = context.snapshot.clocks.with(&context.overrides());
    session.set_write_timeout(Some(clocks.client_write));
    // Interim responses of the upstream are not passed on: a flood of them would be, too.
    session.set_ignore_info_resp(true);
    // However long the whole upload takes, it must go on.
    session.set_read_timeout(Some(context.snapshot.intake.timeout));
    Ok(())
}

/// The bound of a request's body, bytes.
fn max_body(context: &Context) -> u64 {
    permit::body_bound(context, context.route.as_ref().map_or(u64::MAX, |route| route.max_body))
}

/// Stops an upload whose length was not declared once it is over its bound.
pub fn pass_body(session: &Session, context: &Context) -> pingora_core::Result<()> {
    if session.downstream_session.body_bytes_read() as u64 > max_body(context) {
        return Err(PingoraError::explain(TOO_LARGE, "the body is over the bound of its route"));
    }
    Ok(())
}

const TOO_LARGE: ErrorType = ErrorType::HTTPStatus(413);

fn target(context: &Context) -> Option<(Arc<Cluster>, bool)> {
    match &context.route.as_ref()?.target {
        Target::Raw { cluster, strip } => Some((Arc::clone(cluster), *strip)),
        Target::Models(_) => None,
    }
}

/// The endpoint of the next try.
pub async fn peer(context: &mut Context) -> pingora_core::Result<Box<HttpPeer>> {
    let none = |why: &'static str| PingoraError::explain(ErrorType::HTTPStatus(503), why);
    let (cluster, _) = target(context).ok_or_else(|| none("no raw route"))?;
    context.attempts += 1;
    context.phase = When::Connect;
    let now = Instant::now();
    let key = loan(&cluster, now).ok_or_else(|| none("there is no key"))?;
    let flight = cluster
        .pick(now, &mut fastrand::Rng::new(), &context.tried)
        .ok_or_else(|| none("no endpoint is left"))?
        .keyed(key);
    limits::reserve_raw_at(&cluster, flight.key(), context).await.map_err(|error| {
        let status = error.kind.status();
        context.failure = Some(error);
        PingoraError::explain(ErrorType::HTTPStatus(status), "a limit of the upstream is reached")
    })?;
    let endpoint = Arc::clone(flight.endpoint());
    let handle = endpoint.peer().ok_or_else(|| none("the endpoint's name is not resolved"))?;
    let clocks = context.snapshot.clocks.with(&cluster.spec.clocks).with(&context.overrides());
    let mut peer = Box::new(handle.peer.clone());
    peer.options.connection_timeout = Some(clocks.connect);
    peer.options.total_connection_timeout = Some(clocks.connect + clocks.tls);
    peer.options.read_timeout = Some(clocks.head.max(clocks.gap));
    peer.options.write_timeout = Some(clocks.write);
    peer.options.idle_timeout = Some(cluster.spec.pool_idle);
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
    let labels = [&*cluster.spec.provider.name, cluster.name(), "raw"];
    METRICS.upstream.requests.with_label_values(&labels).inc();
    context.place = Some(Place { cluster, endpoint, key: flight.key().cloned(), model: None, series: None });
    context.raw = Some(flight);
    Ok(peer)
}

/// A key for a request whose model is not known, where the cluster's are several or change; nothing where there is none.
#[expect(clippy::option_option, reason = "none is needed, or there is none")]
fn loan(cluster: &Cluster, now: Instant) -> Option<Option<Box<Loan>>> {
    let Some(pool) = &cluster.pool else { return Some(None) };
    let of = |trust| {
        let wanted = keys::Wanted { model: "", call: Call::default(), only: None, tried: &[], trust };
        pool.lend(&wanted, now).map(Box::new)
    };
    of(Trust::Accepted).or_else(|| of(Trust::Any)).map(Some)
}

/// Makes the client's request fit for the endpoint.
pub fn request(
    session: &Session,
    head: &mut RequestHeader,
    context: &mut Context,
) -> pingora_core::Result<()> {
    let (Some((cluster, strip)), Some(place)) = (target(context), &context.place) else { return Ok(()) };
    let client = session.req_header();
    let path = client.uri.path();
    let rest = context.route.as_ref().filter(|_| strip).and_then(|route| route.rest(path)).unwrap_or(path);
    let query = passed_query(client, context);
    let rest = if strip { without_version(rest, &place.endpoint.spec.origin.prefix) } else { rest };
    let full = [&place.endpoint.spec.origin.prefix, rest, &query].concat();
    let full = if full.starts_with('/') { full } else { format!("/{full}") };
    let wire = if head.version == http::Version::HTTP_2 { Wire::Two } else { Wire::One };
    let uri: http::Uri = full
        .parse()
        .map_err(|_| PingoraError::explain(ErrorType::HTTPStatus(400), "the path cannot be passed on"))?;
    head.set_uri(uri);
    headers::address(head, &place.endpoint, wire)
        .map_err(|error| PingoraError::explain(ErrorType::InternalError, error.to_string()))?;
    let key = context.raw.as_ref().and_then(InFlight::loan);
    headers::raw_request(head, (&cluster, key), &context.id, &context.forwarded);
    // What only looks is not billed; what is upgraded may be.
    if client.method == http::Method::POST || client.headers.contains_key(http::header::UPGRADE) {
        context.open_entry(None);
    } else {
        context.send_free();
    }
    context.timeline.sent = Some(Instant::now());
    context.phase = When::Head;
    Ok(())
}

/// The client's query with its question mark, less the key that its caller was known by; empty without one.
fn passed_query(client: &RequestHeader, context: &Context) -> String {
    let Some(query) = client.uri.query() else { return String::new() };
    let named = context.principal.as_ref().is_some_and(|principal| principal.known != Known::Anonymous);
    let is_read = named && key_in_query(client, true).is_some();
    let query = if is_read { without_key(query) } else { query.into() };
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

/// Proves the request, where that takes more than the cluster's headers.
pub async fn prove(head: &mut RequestHeader, context: &Context) -> pingora_core::Result<()> {
    let Some((cluster, _)) = target(context) else { return Ok(()) };
    let limit = context.snapshot.clocks.with(&cluster.spec.clocks).connect;
    let proof = match timeout(limit, cluster.spec.credential.proof()).await {
        Ok(Ok(proof)) => proof,
        Ok(Err(why)) => return Err(PingoraError::explain(ErrorType::InternalError, why.to_string())),
        Err(_) => {
            return Err(PingoraError::explain(ErrorType::InternalError, "the credential is not there yet"));
        }
    };
    // A token proves any request: what it is asked for need not be known.
    let nothing = Proved { host: "", path: "", query: "", body: &[] };
    for (name, value) in proof.headers(&nothing, SystemTime::now()) {
        head.insert_header(name, value)?;
    }
    Ok(())
}

/// A client's `/v1` is the cluster's own where its prefix ends with it: it is not put there twice.
fn without_version<'a>(rest: &'a str, prefix: &str) -> &'a str {
    if prefix.ends_with("/v1") { rest.strip_prefix("/v1").unwrap_or(rest) } else { rest }
}

/// Makes the endpoint's reply fit for the client.
pub fn reply(
    session: &Session,
    head: &mut ResponseHeader,
    context: &mut Context,
) -> pingora_core::Result<()> {
    let expected = match head.status.as_u16() {
        101 => session.downstream_session.is_upgrade_req(),
        status => (100..600).contains(&status),
    };
    if !expected {
        judge(context, Outcome::Bad);
        return Err(PingoraError::explain(
            ErrorType::InvalidHTTPHeader,
            "the upstream's status makes no sense",
        ));
    }
    if head.status.as_u16() == 101
        && let Some(guarded) = Guarded::of(&session.downstream_session)
    {
        guarded.let_through();
    }
    context.timeline.head = Some(Instant::now());
    context.phase = When::Data;
    context.status = head.status.as_u16();
    context.bill.answered(context.status);
    headers::raw_reply(head, &context.id);
    judge(
        context,
        match context.status {
            500 | 502..=599 => Outcome::Bad,
            // It says nothing of the endpoint, and whether the credential is accepted again cannot be told from it.
            401..=403 | 429 => Outcome::Neutral,
            _ => Outcome::Good,
        },
    );
    Ok(())
}

/// Ends a reply whose endpoint's time is over.
pub fn pass_reply(context: &Context) -> pingora_core::Result<()> {
    if let Some(place) = context.place.as_ref().filter(|place| place.endpoint.is_evicting()) {
        METRICS.drains.evicted.with_label_values(&[place.cluster.name()]).inc();
        place.endpoint.count_ended();
        return Err(PingoraError::explain(
            ErrorType::ConnectionClosed,
            "its endpoint is taken out of service",
        ));
    }
    Ok(())
}

/// The endpoint could not be reached: another may be.
pub fn not_connected(context: &mut Context, mut error: Box<PingoraError>) -> Box<PingoraError> {
    judge(context, Outcome::Bad);
    if let Some(place) = &context.place {
        context.tried.push(Arc::clone(&place.endpoint));
    }
    error.set_retry(context.attempts < context.snapshot.retry.attempts);
    error
}

fn judge(context: &mut Context, outcome: Outcome) {
    if let (Some(place), Some(flight)) = (&context.place, &mut context.raw) {
        place.cluster.report(flight, outcome, Instant::now);
    }
}

/// Answers for a request that could not be passed on. Says the status, 0 where the client has left.
pub async fn failed(session: &mut Session, error: &PingoraError, context: &mut Context) -> u16 {
    let upstream = |kind, public| Error::upstream(kind, public).because(error);
    let told = match (error.etype(), error.esource()) {
        (ErrorType::Custom("cut"), _) => return 0,
        (ErrorType::HTTPStatus(429), _) if context.failure.is_some() => {
            context.failure.take().unwrap_or_else(Error::client_gone)
        }
        (&TOO_LARGE, _) => intake::too_large(max_body(context)).because(error),
        (_, ErrorSource::Downstream) => unread(&session.downstream_session, error),
        (ErrorType::HTTPStatus(503), _) => {
            upstream(Kind::Overloaded, "no upstream is available for this route; try again in a moment")
                .after(1)
        }
        (ErrorType::HTTPStatus(400), _) => {
            Error::client(Kind::InvalidRequest, "the request cannot be passed on")
        }
        (ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::TLSHandshakeTimedout, _) => {
            upstream(Kind::UpstreamTimeout, "the upstream did not answer in time")
        }
        _ => upstream(Kind::UpstreamFailed, "the upstream failed"),
    };
    let mut downstream = Downstream::Pingora(&mut session.downstream_session);
    let untold = downstream.begun().is_none();
    if untold {
        downstream.close();
        // A client that has left needs no answer, and the connection ends with it.
        let _ = reject(&mut downstream, context, &told).await;
    }
    let status = told.kind.status();
    context.failure.get_or_insert(told);
    if untold { status } else { 0 }
}

/// Takes over what Pingora counted of a raw exchange.
pub fn count(session: &Session, context: &mut Context) {
    if context.raw.is_some() {
        context.tally.bytes_in = session.downstream_session.body_bytes_read() as u64;
        context.tally.bytes_out = session.downstream_session.body_bytes_sent() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::without_version;

    #[test]
    fn a_version_is_not_put_twice() {
        assert_eq!(without_version("/v1/files", "/v1"), "/files");
        assert_eq!(without_version("/v1/files", ""), "/v1/files");
        assert_eq!(without_version("/files", "/openai/v1"), "/files");
    }
}
