//! What comes before a body is read: the screen's verdict, the route, the operation, the caller.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::context::Context;
use super::headers::{X_FOREBAY_EXPLAIN, X_FOREBAY_PRIORITY};
use super::session::Session;
use super::{Shared, headers, permit, screen};
use crate::access::certificate::Names;
use crate::access::presented::{Presented, presented, without_key};
use crate::access::token::Fault;
use crate::access::{Access, Caller, Denied, Principal};
use crate::dialect::{Dialect, Operation, versionless};
use crate::error::{Error, Kind};
use crate::meter::metrics::{METRICS, status_label};
use crate::priority::Priority;
use crate::route::matcher::Target;
use crate::snapshot::{HeadBounds, Listener, Shield, Snapshot};

/// The verdict of the screen, the exchange's id and the client's address.
pub(super) fn admit(shared: &Shared, session: &mut Session<'_>, context: &mut Context) -> Result<(), Error> {
    context.id = headers::request_id(&session.head().headers);
    let listener = listener(session, &context.snapshot);
    let bounds = listener.map(|listener| listener.head).unwrap_or_default();
    let verdict = session.verdict().unwrap_or_else(|| over_h2(session.head(), &bounds).err());
    if let Some((error, dialect)) = verdict {
        context.dialect = dialect;
        METRICS.http.screened.with_label_values(&[status_label(error.kind.status())]).inc();
        session.close();
        return Err(error);
    }
    let trusted = listener.map_or(&[][..], |listener| &listener.trusted_proxies);
    (context.client, context.forwarded) =
        headers::client_address(&session.head().headers, session.peer(), trusted);
    let bounds = context.snapshot.shield;
    if let Some(client) = context.client.filter(|_| bounds != Shield::default()) {
        context.dialect = dialect_before_route(session.head());
        context.counted = shared.shield.admit(bounds, client)?;
    }
    let keepalive = listener.map_or(Duration::from_secs(60), |listener| listener.keepalive);
    if shared.closing.load(Relaxed) {
        session.close();
    } else {
        session.keep_for(keepalive);
    }
    Ok(())
}

/// Screens a request over HTTP/2; one over HTTP/1 went through its guard.
fn over_h2(head: &Parts, bounds: &HeadBounds) -> Result<(), (Error, Dialect)> {
    screen::h2(head, bounds).map_err(|error| (error, dialect_before_route(head)))
}

/// The dialect of errors before a route is found.
fn dialect_before_route(head: &Parts) -> Dialect {
    let dialect = screen::dialect_at(head.uri.path().as_bytes());
    dialect.unwrap_or_else(|| dialect_of(&head.headers))
}

fn listener<'a>(session: &Session<'_>, snapshot: &'a Snapshot) -> Option<&'a Listener> {
    // Nearly always there is but one, and asking a connection for its own address is a system call.
    if let [only] = snapshot.listeners.as_slice() {
        return Some(only);
    }
    let port = session.port()?;
    snapshot.listeners.iter().find(|listener| listener.address.port() == port)
}

/// The dialect that a client's headers betray, for errors before its path is known.
fn dialect_of(headers: &HeaderMap) -> Dialect {
    let has = |name: &str| headers.contains_key(name);
    match () {
        () if has("anthropic-version") || has("x-api-key") => Dialect::Anthropic,
        () if has("x-goog-api-key") => Dialect::Gemini,
        () => Dialect::OpenaiChat,
    }
}

/// What a request asks for.
pub(super) struct Wanted {
    pub(super) operation: Operation,
    /// The query with its question mark; empty without one.
    pub(super) query: String,
    /// What the path says that other dialects say in the body.
    pub(super) named: Option<Named>,
}

/// The model that a path names, and whether the reply streams.
pub(super) struct Named {
    pub(super) model: String,
    pub(super) stream: bool,
}

/// Finds the route, and on one for models the operation; `None` on a raw one.
pub(super) fn route(head: &Parts, context: &mut Context) -> Result<Option<Wanted>, Error> {
    let host = host_of(&head.uri, head.headers.get(HOST)).to_ascii_lowercase();
    let path = head.uri.path();
    let route = context.snapshot.routes.find(&host, path, &head.headers).map(Arc::clone);
    let Some(route) = route else {
        context.dialect = dialect_of(&head.headers);
        return Err(unknown_path(&head.method, path));
    };
    let rest = route.rest(path).unwrap_or_default().to_owned();
    let is_raw = matches!(route.target, Target::Raw { .. });
    context.route = Some(route);
    if is_raw {
        context.dialect = dialect_of(&head.headers);
        return Ok(None);
    }
    let is_model = versionless(&rest).starts_with("/models/");
    let named = Operation::named(&rest);
    let found = match &named {
        Some(named) => Some(named.operation),
        None if is_model => Some(Operation::Models),
        None => Operation::at(&rest),
    };
    context.dialect = match found {
        Some(operation) if operation != Operation::Models => operation.dialect(),
        _ => dialect_of(&head.headers),
    };
    let Some(operation) = found else { return Err(unknown_path(&head.method, path)) };
    context.operation = Some(operation);
    if head.method.as_str() != operation.method() {
        let why = format!("{} {path} is not allowed; use {}", head.method, operation.method());
        return Err(Error::client(Kind::MethodNotAllowed, why));
    }
    let alt = |query: &str| query.split('&').any(|pair| pair == "alt=sse");
    if operation == Operation::GenerateContent
        && named.as_ref().is_some_and(|named| named.stream)
        && !head.uri.query().is_some_and(alt)
    {
        let why = "streams are sent as server-sent events alone; ask for them with `alt=sse`";
        return Err(Error::client(Kind::InvalidRequest, why));
    }
    // A key in it is the edge's: no upstream is to see it.
    let query = head.uri.query().map(without_key).filter(|query| !query.is_empty());
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let named = named.map(|named| Named { model: named.model.into_owned(), stream: named.stream });
    Ok(Some(Wanted { operation, query, named }))
}

/// The host that a request names, without its port.
pub(super) fn host_of<'a>(uri: &'a http::Uri, field: Option<&'a HeaderValue>) -> &'a str {
    let named = uri.host().or_else(|| field?.to_str().ok()).unwrap_or_default();
    let end = match named.rfind(':') {
        Some(colon) if !named.ends_with(']') => colon,
        _ => named.len(),
    };
    named.get(..end).unwrap_or_default()
}

fn unknown_path(method: &Method, path: &str) -> Error {
    Error::client(Kind::UnknownPath, format!("nothing is served at {method} {path}"))
}

/// How long the keys of a token's issuer are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// When one whose identity provider is away may try again, seconds: about when that is asked anew.
const AWAY: u32 = 10;

/// Finds out who is calling, and what that one may not.
#[expect(clippy::needless_pass_by_ref_mut, reason = "a shared session could not be kept across the wait")]
pub(super) async fn identify(session: &mut Session<'_>, context: &mut Context) -> Result<(), Error> {
    let found = match look(session, context) {
        Err(Denied::Later(issuer, _)) => {
            // Seldom, and all the longer.
            Box::pin(async { issuer.refreshed(SystemTime::now(), PATIENCE).await }).await;
            look_again(session, context)
        }
        found => found,
    };
    let principal = found.map_err(|denied| tell(&denied))?;
    context.principal = Some(Arc::clone(&principal));
    permit::way(&principal, context)?;
    let head = session.head();
    context.explain = head.headers.contains_key(X_FOREBAY_EXPLAIN) && principal.may_know();
    context.priority = priority(head, context);
    Ok(())
}

fn look(session: &Session<'_>, context: &Context) -> Result<Arc<Principal>, Denied> {
    with_caller(session, context, |access, caller| access.identify(caller, SystemTime::now()))
}

fn look_again(session: &Session<'_>, context: &Context) -> Result<Arc<Principal>, Denied> {
    with_caller(session, context, |access, caller| access.identify_now(caller, SystemTime::now()))
}

fn with_caller<T>(
    session: &Session<'_>,
    context: &Context,
    asks: impl FnOnce(&Access, &Caller<'_>) -> T,
) -> T {
    let (access, head) = (&context.snapshot.access, session.head());
    let tls = if access.knows_certificates() { session.tls() } else { None };
    let caller = Caller {
        headers: &head.headers,
        query: key_in_query(head, context.operation.is_none()),
        certificate: tls.as_ref().and_then(|tls| tls.extension.get::<Names>()),
        address: context.client,
    };
    asks(access, &caller)
}

/// The query in which a caller's key may stand. What a raw route carries may have another use for a parameter of that
/// name: there it is read only where no header holds a key.
pub(super) fn key_in_query(head: &Parts, is_raw: bool) -> Option<&str> {
    let query = head.uri.query()?;
    let in_header = || presented(&head.headers, None) != Presented::Nothing;
    (!is_raw || !in_header()).then_some(query)
}

/// What a caller is told who is not known. All that is wrong with a key has one answer.
fn tell(denied: &Denied) -> Error {
    METRICS.access.failures.with_label_values(&[denied.reason()]).inc();
    let refused = |why: &'static str| Error::policy(Kind::Unauthenticated, why);
    let error = match denied {
        Denied::Missing => {
            refused("no API key was sent; send one as `Authorization: Bearer KEY` or `x-api-key: KEY`")
        }
        Denied::Several => refused("two API keys were sent that differ; send one"),
        Denied::Signed => refused(
            "signatures of AWS cannot be verified here; send an API key as `Authorization: Bearer KEY` or \
             `x-api-key: KEY`",
        ),
        Denied::Shielded(left) => {
            let seconds = u32::try_from(left.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
            let why = "too many wrong API keys came from this address; try again later";
            Error::policy(Kind::RateLimited, why).after(seconds)
        }
        Denied::Unfit(Fault::Scope) => {
            Error::policy(Kind::Forbidden, "the token lacks a scope that is needed here")
        }
        Denied::Unfit(_) => Error::policy(Kind::Forbidden, "the token names no team that may call here"),
        Denied::Away => {
            let why = "the identity provider of this token cannot be asked for its keys; try again later";
            Error::gateway(Kind::Overloaded, why).after(AWAY)
        }
        Denied::Wrong(_) | Denied::Later(..) => refused("the API key is not valid here"),
    };
    let whose = denied.whose().map_or("", |name| name);
    error.because(format_args!("{} {whose}", denied.reason()))
}

/// How important a request is: as its caller's key says, or its route. It may say less of itself.
fn priority(head: &Parts, context: &Context) -> Priority {
    let of_principal = context.principal.as_ref().and_then(|principal| principal.priority());
    let of_route = || context.route.as_ref().map(|route| route.priority);
    let own = of_principal.or_else(of_route).unwrap_or_default();
    let said = head.headers.get(X_FOREBAY_PRIORITY).and_then(|value| value.to_str().ok());
    said.and_then(|name| Priority::named(name.trim())).map_or(own, |said| said.min(own))
}
