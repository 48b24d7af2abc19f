//! The life of one request.
//!
//! [`Edge`] hangs it into Pingora: an LLM exchange is run whole inside `request_filter`, by the list of steps in
//! [`run`]; what a raw route matches goes on through Pingora's own pipeline, in [`raw`].

pub mod attempt;
pub mod client;
pub mod compress;
pub mod context;
pub mod guard;
pub mod headers;
pub mod intake;
pub mod raw;
pub mod relay;
pub mod retry;
pub mod screen;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header::{ALLOW, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Method};
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::access::Denied;
use crate::dialect::{self, Dialect, Operation};
use crate::error::{Error, Kind};
use crate::json::Envelope;
use crate::json::splice::{splice, spliced_len};
use crate::meter::access_log::When;
use crate::meter::metrics::{METRICS, status_label};
use crate::route::alias::{Alias, Deployment, Sticky};
use crate::route::matcher::Target;
use crate::snapshot::{Listener, Snapshot};
use attempt::Upstream;
use client::{Client, Sent};
use context::{Context, Place};
use intake::{Body, Budget};
use relay::Terms;
use retry::Plan;

/// What every exchange shares.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Since when the process serves, for model lists.
    started: SystemTime,
    budget: Arc<Budget>,
    live: AtomicUsize,
    closing: AtomicBool,
}

/// Counts an exchange while it lives.
#[derive(Debug)]
struct Live {
    shared: Arc<Shared>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.live.fetch_sub(1, Relaxed);
        METRICS.in_flight.dec();
    }
}

impl Shared {
    /// What exchanges on that configuration share.
    pub fn new(snapshot: Arc<Snapshot>) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::new(snapshot),
            started: SystemTime::now(),
            budget: Arc::default(),
            live: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        })
    }

    fn enter(self: &Arc<Self>) -> Live {
        self.live.fetch_add(1, Relaxed);
        METRICS.in_flight.inc();
        Live { shared: Arc::clone(self) }
    }

    /// Exchanges under way.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// From now on every connection is closed after its present exchange.
    pub fn close_connections(&self) {
        self.closing.store(true, Relaxed);
    }
}

/// Forebay as Pingora sees it.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
}

impl Edge {
    /// The edge over what its exchanges share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// How a request is served.
enum Served {
    /// It was answered.
    Here,
    /// Pingora's pipeline is to pass it on.
    Raw,
}

/// Runs one exchange, step by step.
async fn run(
    shared: &Arc<Shared>,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<Served, Error> {
    admit(shared, session, context)?;
    let Asked { operation, query } = match route(session, context)? {
        Some(asked) => asked,
        None => return raw::prepare(session, context).map(|()| Served::Raw),
    };
    identify(session, context)?;
    if operation == Operation::Models {
        list_models(shared, session, context).await?;
        return Ok(Served::Here);
    }
    let body = receive(shared, session, context).await?;
    let envelope =
        Envelope::parse(&body.bytes).map_err(|fault| dialect::request::fault_error(operation, fault))?;
    dialect::request::check(operation, &envelope)?;
    let alias = find_alias(operation, &envelope, context)?;
    let clocks = context.snapshot.clocks.with(&overrides(context)).with(&alias.clocks);
    let mut client = Client::new(session, clocks.client_write);
    let ask = Ask { operation, query, body: &body, envelope: &envelope, alias: &alias };
    let done = exchange(&ask, &mut client, context).await;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    context.ended = client.sent() == Sent::All;
    done.map(|()| Served::Here)
}

/// The verdict of the screen, the exchange's id and the client's address.
fn admit(shared: &Shared, session: &mut ServerSession, context: &mut Context) -> Result<(), Error> {
    let head = session.req_header();
    context.id = headers::request_id(&head.headers);
    context.dialect = dialect_of(&head.headers);
    let listener = listener(session, &context.snapshot);
    let bounds = listener.map(|listener| listener.head).unwrap_or_default();
    let verdict = match session.as_http1() {
        Some(h1) => h1.stream().as_any().downcast_ref::<guard::Guarded>().and_then(guard::Guarded::verdict),
        None => screen::h2(&session.req_header().as_owned_parts(), &bounds).err(),
    };
    if let Some(error) = verdict {
        METRICS.screened.with_label_values(&[status_label(error.kind.status())]).inc();
        session.set_keepalive(None);
        return Err(error);
    }
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    let trusted = listener.map_or(&[][..], |listener| &listener.trusted_proxies);
    (context.client, context.forwarded) =
        headers::client_address(&session.req_header().headers, peer, trusted);
    let keepalive = listener.map_or(Duration::from_secs(60), |listener| listener.keepalive);
    if shared.closing.load(Relaxed) {
        session.set_keepalive(None);
    } else if session.get_keepalive().is_some() {
        session.set_keepalive(Some(keepalive.as_secs().max(1)));
    }
    Ok(())
}

fn listener<'a>(session: &ServerSession, snapshot: &'a Snapshot) -> Option<&'a Listener> {
    // Nearly always there is but one, and asking a connection for its own address is a system call.
    if let [only] = snapshot.listeners.as_slice() {
        return Some(only);
    }
    let port = session.server_addr()?.as_inet()?.port();
    snapshot.listeners.iter().find(|listener| listener.address.port() == port)
}

/// The dialect that a client's headers betray, for errors before its path is known.
fn dialect_of(headers: &HeaderMap) -> Dialect {
    let anthropic = headers.contains_key("anthropic-version") || headers.contains_key("x-api-key");
    if anthropic { Dialect::Anthropic } else { Dialect::OpenaiChat }
}

/// What a request asks for.
struct Asked {
    operation: Operation,
    query: String,
}

/// Finds the route, and on one for models the operation; `None` on a raw one.
fn route(session: &ServerSession, context: &mut Context) -> Result<Option<Asked>, Error> {
    let head = session.req_header();
    let host = host_of(head).to_ascii_lowercase();
    let path = head.uri.path();
    let route = context.snapshot.routes.find(&host, path, &head.headers).map(Arc::clone);
    let Some(route) = route else {
        return Err(unknown_path(&head.method, path));
    };
    let rest = route.rest(path).unwrap_or_default().to_owned();
    let is_raw = matches!(route.target, Target::Raw { .. });
    context.route = Some(route);
    if is_raw {
        return Ok(None);
    }
    let is_model = rest.trim_start_matches("/v1").starts_with("/models/");
    let found = if is_model { Some(Operation::Models) } else { Operation::at(&rest) };
    let Some(operation) = found else { return Err(unknown_path(&head.method, path)) };
    if operation != Operation::Models {
        context.dialect = operation.dialect();
    }
    context.operation = Some(operation);
    if head.method.as_str() != operation.method() {
        let why = format!("{} {path} is not allowed; use {}", head.method, operation.method());
        return Err(Error::client(Kind::MethodNotAllowed, why));
    }
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(Some(Asked { operation, query }))
}

/// The host that a request names, without its port.
fn host_of(head: &RequestHeader) -> &str {
    let named = head.uri.host().or_else(|| head.headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    let end = match named.rfind(':') {
        Some(colon) if !named.ends_with(']') => colon,
        _ => named.len(),
    };
    named.get(..end).unwrap_or_default()
}

fn unknown_path(method: &Method, path: &str) -> Error {
    Error::client(Kind::UnknownPath, format!("nothing is served at {method} {path}"))
}

fn identify(session: &ServerSession, context: &mut Context) -> Result<(), Error> {
    let principal = context.snapshot.access.identify(&session.req_header().headers);
    context.principal = Some(principal.map_err(|denied| match denied {
        Denied::Missing => Error::policy(
            Kind::Unauthenticated,
            "no API key was sent; send one as `Authorization: Bearer KEY` or `x-api-key: KEY`",
        ),
        Denied::Unknown => Error::policy(Kind::Unauthenticated, "the API key is not valid here"),
    })?);
    Ok(())
}

/// Answers with the models that the caller may use, or with one of them.
async fn list_models(
    shared: &Shared,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<(), Error> {
    let usable = |name: &str| {
        context.principal.as_ref().is_some_and(|principal| principal.may_use(name))
            && context.route.as_ref().is_some_and(|route| route.allows(name))
    };
    let created = shared.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = session.req_header().uri.path().to_owned();
    let body = match path.split_once("/models/") {
        None => {
            let names =
                context.snapshot.aliases.listed().iter().map(String::as_str).filter(|name| usable(name));
            dialect::models::list(context.dialect, names, created)
        }
        Some((_, name)) if usable(name) && context.snapshot.aliases.find(name).is_some() => {
            dialect::models::one(context.dialect, name, created)
        }
        Some((_, name)) => return Err(unknown_model(name)),
    };
    let mut client = Client::new(session, context.snapshot.clocks.client_write);
    client.json(200, &context.id, body).await?;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    Ok(())
}

fn unknown_model(name: &str) -> Error {
    // A name is echoed as text of a JSON string, and only as much of it as anyone would want to read.
    let name: String = name.chars().take(128).collect();
    Error::client(
        Kind::UnknownModel,
        format!("the model `{name}` does not exist or you do not have access to it"),
    )
    .param("model")
}

async fn receive(shared: &Shared, session: &mut ServerSession, context: &mut Context) -> Result<Body, Error> {
    let bounds = context.snapshot.intake;
    let max_body = context.route.as_ref().map_or(bounds.max_body, |route| route.max_body);
    let read = intake::read(session, &bounds, max_body, &shared.budget).await;
    if read.is_err() {
        // What is left of the body is not waited for.
        session.set_keepalive(None);
    }
    let body = read?;
    context.tally.bytes_in = body.wire;
    context.timeline.received = Some(Instant::now());
    Ok(body)
}

fn find_alias(
    operation: Operation,
    envelope: &Envelope<'_>,
    context: &mut Context,
) -> Result<Arc<Alias>, Error> {
    let name = envelope.model.as_ref().map_or("", |model| model.text.as_ref());
    context.model = name.chars().take(256).collect();
    let allowed = context.route.as_ref().is_some_and(|route| route.allows(name))
        && context.principal.as_ref().is_some_and(|principal| principal.may_use(name));
    let found = context.snapshot.aliases.find(name).filter(|_| allowed);
    let (alias, starred) =
        found.map(|(alias, star)| (Arc::clone(alias), star.to_owned())).ok_or_else(|| unknown_model(name))?;
    context.starred = starred;
    context.alias = Some(Arc::clone(&alias));
    if !alias.speaks(operation) {
        let why = format!("the model `{}` cannot be asked for {} here", context.model, operation.name());
        return Err(Error::client(Kind::InvalidRequest, why).param("model"));
    }
    Ok(alias)
}

fn overrides(context: &Context) -> crate::clocks::Overrides {
    context.route.as_ref().map(|route| route.clocks).unwrap_or_default()
}

/// One exchange, as it came from the client.
struct Ask<'a> {
    operation: Operation,
    query: String,
    body: &'a Body,
    envelope: &'a Envelope<'a>,
    alias: &'a Alias,
}

/// Tries one place after another until one answers, and relays its answer.
async fn exchange(ask: &Ask<'_>, client: &mut Client<'_>, context: &mut Context) -> Result<(), Error> {
    let now = Instant::now();
    let sticky = sticky_value(ask.alias, client.headers(), context);
    let retry = context.snapshot.retry;
    let mut plan = Plan::new(ask.alias, ask.operation, sticky.as_deref(), retry, now);
    let mut last = None;
    while let Some((deployment, flight)) = plan.next(Instant::now()) {
        if last.is_some() {
            client.unless_gone(async { Ok(tokio::time::sleep(retry.delay).await) }).await?;
        }
        context.attempts += 1;
        context.timeline.restart();
        let terms = terms(ask, deployment, context);
        let endpoint = Arc::clone(flight.endpoint());
        let begun = begin(ask, deployment, flight, &terms, client, context).await;
        match begun {
            Ok((upstream, strip)) => {
                return relay::relay(upstream, client, context, &Terms { strip, ..terms }).await;
            }
            Err(error) if error.retry == crate::error::Retry::Elsewhere => {
                log::debug!("{}: attempt {} failed: {error}", context.id, context.attempts);
                // A stale connection says nothing of its endpoint, which is tried again on a fresh one.
                if context.timeline.connected.is_none() {
                    plan.strike(&endpoint);
                }
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::upstream(Kind::Overloaded, "no upstream is available for this model; try again in a moment")
            .after(1)
    }))
}

fn sticky_value(alias: &Alias, headers: &HeaderMap, context: &Context) -> Option<String> {
    match &alias.sticky {
        Sticky::No => None,
        Sticky::Principal => context.principal.as_ref().map(|principal| principal.name.clone()),
        Sticky::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
    }
}

fn terms(ask: &Ask<'_>, deployment: &Deployment, context: &Context) -> Terms {
    let clocks = context
        .snapshot
        .clocks
        .with(&deployment.cluster.spec.clocks)
        .with(&overrides(context))
        .with(&ask.alias.clocks);
    Terms {
        operation: ask.operation,
        clocks,
        deadline: context.timeline.began + clocks.exchange,
        strip: false,
        compress: context.route.as_ref().is_some_and(|route| route.compress),
    }
}

/// One attempt, up to the response head. Says also whether usage is to be stripped from the reply.
async fn begin(
    ask: &Ask<'_>,
    deployment: &Deployment,
    flight: crate::upstream::endpoint::InFlight,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(Upstream, bool), Error> {
    let model = deployment.model.resolve(&context.starred);
    let rewrite = dialect::request::edits(ask.operation, ask.envelope, model.as_deref(), true);
    let length = spliced_len(ask.body.bytes.len(), &rewrite.edits);
    let pieces = splice(&ask.body.bytes, &rewrite.edits);
    count_attempt(deployment, ask.alias);
    context.place = Some(Place {
        cluster: Arc::clone(&deployment.cluster),
        endpoint: Arc::clone(flight.endpoint()),
        model,
    });
    context.phase = When::Connect;
    let began = Instant::now();
    let connecting = Upstream::connect(&deployment.cluster, flight, &terms.clocks);
    let mut upstream = client.unless_gone(connecting).await?;
    let connected = Instant::now();
    context.timeline.connected = Some(connected);
    let own = began.saturating_duration_since(context.timeline.received.unwrap_or(began));
    context.timeline.own += own;
    METRICS.added.with_label_values(&["request"]).observe(own.as_secs_f64());
    let client_headers = client.headers().clone();
    let request = headers::Request {
        client: &client_headers,
        operation: ask.operation,
        query: &ask.query,
        id: &context.id,
        forwarded: &context.forwarded,
        length,
    };
    client.unless_gone(upstream.send(&request, joined_if_small(pieces, length), &terms.clocks)).await?;
    context.timeline.sent = Some(Instant::now());
    context.phase = When::Head;
    await_head(ask, &mut upstream, terms, client, context).await?;
    Ok((upstream, rewrite.asked == dialect::request::Asked::Forebay))
}

type Pieces = smallvec::SmallVec<[bytes::Bytes; 5]>;

/// Below this size copying a body is cheaper than another write to the socket, bytes.
const COPY: usize = 32 << 10;

fn joined_if_small(pieces: Pieces, length: usize) -> Pieces {
    if pieces.len() <= 1 || length > COPY {
        return pieces;
    }
    let mut whole = bytes::BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    smallvec::smallvec![whole.freeze()]
}

fn count_attempt(deployment: &Deployment, alias: &Alias) {
    let labels = [deployment.cluster.spec.provider.name, deployment.cluster.name(), alias.name.as_str()];
    METRICS.provider_requests.with_label_values(&labels).inc();
}

/// Waits for the response head under its clocks. A stream's client is kept awake meanwhile: after the heartbeat's
/// silence the head of its stream is committed, with a comment.
async fn await_head(
    ask: &Ask<'_>,
    upstream: &mut Upstream,
    terms: &Terms,
    client: &mut Client<'_>,
    context: &mut Context,
) -> Result<(), Error> {
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let is_stream = ask.operation.streams() && ask.envelope.stream == Some(true);
    let mut clock = terms.clocks.head;
    if is_stream {
        clock = clock.min(terms.clocks.first_token);
    }
    let limit = (sent + clock).min(sent + terms.clocks.attempt).min(terms.deadline);
    let heartbeat = terms.clocks.heartbeat.filter(|_| is_stream);
    loop {
        let beat = heartbeat.map_or(limit, |silence| Instant::now() + silence);
        let waited = client.unless_gone(async {
            Ok(tokio::time::timeout_at(beat.min(limit).into(), upstream.head()).await)
        });
        match waited.await? {
            Ok(head) => {
                head?;
                break;
            }
            Err(_) if Instant::now() >= limit => {
                return Err(upstream.slow("the upstream did not answer in time"));
            }
            Err(_) => client.heartbeat(ask.operation, &context.id).await?,
        }
    }
    let now = Instant::now();
    context.timeline.head = Some(now);
    let cluster = upstream.cluster();
    let labels = [cluster.spec.provider.name, cluster.name()];
    METRICS.provider_latency.with_label_values(&labels).observe((now - sent).as_secs_f64());
    Ok(())
}

/// Answers with an error, in the client's dialect; inside a stream that has begun, with an error event.
async fn reject(session: &mut ServerSession, context: &mut Context, error: &Error) {
    if error.kind == Kind::ClientGone {
        return;
    }
    let status = dialect::error::status(context.dialect, error.kind);
    let body = dialect::error::render(context.dialect, error, &context.id);
    let Ok(mut head) = headers::status(status, &context.id) else { return };
    headers::put(&mut head, CONTENT_TYPE, "application/json");
    if let Some(seconds) = error.retry_after {
        headers::put(&mut head, RETRY_AFTER, itoa::Buffer::new().format(seconds));
    }
    if let (Kind::MethodNotAllowed, Some(operation)) = (error.kind, context.operation) {
        headers::put(&mut head, ALLOW, operation.method());
    }
    let mut client = Client::new(session, context.snapshot.clocks.client_write);
    // A client that has left needs no answer.
    let _ = client.whole(head, body).await;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
}

/// Ends a stream that was committed before its upstream failed.
async fn end_stream(session: &mut ServerSession, context: &mut Context, error: &Error) {
    let Some(operation) = context.operation else { return };
    let mark = dialect::usage::Mark::default();
    let event = dialect::stream::error_event(operation, error, &context.id, mark);
    context.tally.bytes_out += event.len() as u64;
    // A client that has left needs no ending.
    let _ = session.write_response_body(event, true).await;
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(&self.shared, Instant::now())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> pingora_core::Result<bool> {
        let session = &mut *session.downstream_session;
        match run(&self.shared, session, context).await {
            Ok(Served::Raw) => Ok(false),
            Ok(Served::Here) => Ok(true),
            Err(error) => {
                let broken = answer_failure(session, context, &error).await;
                context.failure = Some(error);
                broken.map_or(Ok(true), Err)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        context: &mut Context,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        raw::peer(context)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora_core::Result<()> {
        raw::request(session, head, context)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora_core::Result<()> {
        raw::reply(head, context)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut Context,
        error: Box<pingora_core::Error>,
    ) -> Box<pingora_core::Error> {
        raw::not_connected(context, error)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &pingora_core::Error,
        context: &mut Context,
    ) -> FailToProxy {
        let error_code = raw::failed(session, error, context).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &pingora_core::Error) -> bool {
        // Every exchange leaves its own line.
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&pingora_core::Error>, context: &mut Context) {
        raw::count(session, context);
        if let Some(h1) = session.downstream_session.as_http1()
            && let Some(guarded) = h1.stream().as_any().downcast_ref::<guard::Guarded>()
        {
            guarded.next();
        }
        let head = session.req_header();
        context.settle(&head.method, head.uri.path());
    }
}

/// Tells the client what went wrong, as far as what it was sent already leaves room. An error means that the
/// connection must be broken, because nothing else would tell.
async fn answer_failure(
    session: &mut ServerSession,
    context: &mut Context,
    error: &Error,
) -> Option<Box<pingora_core::Error>> {
    let cut =
        || Some(pingora_core::Error::explain(pingora_core::ErrorType::Custom("cut"), error.to_string()));
    if error.kind == Kind::ClientGone {
        return cut();
    }
    let Some(head) = session.response_written() else {
        reject(session, context, error).await;
        return None;
    };
    let is_stream = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|media| media.as_bytes().starts_with(b"text/event-stream"));
    if is_stream && !context.tally.stream {
        end_stream(session, context, error).await;
        return None;
    }
    if context.ended { None } else { cut() }
}
