//! The life of one request.
//!
//! An LLM exchange is the list of steps in `run`, which [`serve`] calls; what a raw route matches goes through Pingora's
//! own pipeline, into which [`Edge`] hangs the steps of [`raw`].

pub mod admit;
mod affinity;
pub mod attempt;
pub mod bill;
mod bring;
pub mod carry;
pub mod client;
pub mod compress;
pub mod context;
mod conversation;
pub mod engine;
pub mod explain;
pub mod guard;
pub mod headers;
pub mod http1;
pub mod intake;
mod limits;
pub mod listing;
mod permit;
mod police;
pub mod pressure;
pub mod raw;
pub mod reject;
pub mod relay;
mod resume;
pub mod retry;
pub mod screen;
pub mod serve;
pub mod session;
mod shield;
mod verdict;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::dialect::ir::Policy;
use crate::dialect::{self, Operation};
use crate::error::{Error, Kind};
use crate::json::Envelope;
use crate::limit::Prompt;
use crate::meter::ledger::Ledger;
use crate::meter::metrics::METRICS;
use crate::route::alias::Alias;
use crate::snapshot::Snapshot;
use admit::{Wanted, admit, identify, route};
use carry::Asked;
use client::{Client, Sent};
use context::Context;
use engine::{Ask, reach};
use intake::{Body, Budget};
use listing::{list_models, unknown_model};
use pressure::Pressure;
use reject::answer_failure;
use session::Session as Downstream;
use verdict::Failed;

/// What every exchange shares.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Where what is spent is recorded, where it is.
    pub ledger: OnceLock<Arc<Ledger>>,
    /// Since when the process serves, for model lists.
    started: SystemTime,
    budget: Arc<Budget>,
    pressure: Arc<Pressure>,
    shield: shield::Shield,
    live: AtomicUsize,
    closing: AtomicBool,
}

/// Counts an exchange while it lives.
#[derive(Debug)]
struct Live {
    shared: Arc<Shared>,
    /// Whether this is the one that counts: an exchange of two attempts at once is one.
    counts: bool,
}

impl Live {
    /// For another attempt of the same exchange.
    fn again(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), counts: false }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.counts {
            self.shared.live.fetch_sub(1, Relaxed);
            METRICS.http.in_flight.dec();
        }
    }
}

impl Shared {
    /// What exchanges on that configuration share.
    pub fn new(snapshot: Arc<Snapshot>) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::new(snapshot),
            ledger: OnceLock::new(),
            started: SystemTime::now(),
            budget: Arc::default(),
            pressure: Arc::default(),
            shield: shield::Shield::default(),
            live: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        })
    }

    fn enter(self: &Arc<Self>) -> Live {
        self.live.fetch_add(1, Relaxed);
        METRICS.http.in_flight.inc();
        Live { shared: Arc::clone(self), counts: true }
    }

    /// Lets an exchange in, unless the process is too near its bounds for one of its importance.
    fn admit(&self, context: &Context) -> Result<(), Error> {
        if self.ledger.get().is_some_and(|ledger| ledger.is_full()) {
            let public = "the gateway cannot record what is spent; try again in a moment";
            return Err(Error::gateway(Kind::Overloaded, public).after(1));
        }
        self.pressure.watch(context.snapshot.process.overload);
        self.pressure.admit(context.priority)
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

/// What a request meets whose route was of another kind when its head was looked at: the client's next try goes the
/// right way.
fn moved() -> Error {
    Error::gateway(Kind::Overloaded, "the routes have just changed; try again").after(1)
}

/// Runs one exchange, step by step.
async fn run(shared: &Arc<Shared>, session: &mut Downstream<'_>, context: &mut Context) -> Result<(), Error> {
    admit(shared, session, context)?;
    let Some(Wanted { operation, query, named }) = route(session.head(), context)? else {
        return Err(moved());
    };
    identify(session, context).await?;
    shared.admit(context)?;
    if operation == Operation::Models {
        return list_models(shared, session, context).await;
    }
    let mut body = receive(shared, session, context).await?;
    body.bytes = affinity::unmarked(operation, body.bytes, context)?;
    body.bytes = permit::request(operation, body.bytes, named.as_ref(), context)?;
    if context.route.as_ref().is_some_and(|route| route.policy.is_some()) {
        body.bytes = police::enforce(operation, body.bytes, context)?;
    }
    let envelope =
        Envelope::parse(&body.bytes).map_err(|fault| dialect::request::fault_error(operation, fault))?;
    dialect::request::check(operation, &envelope)?;
    let (model, stream) = match &named {
        Some(named) => (named.model.as_str(), named.stream),
        None => {
            (envelope.model.as_ref().map_or("", |model| model.text.as_ref()), envelope.stream == Some(true))
        }
    };
    let alias = find_alias(operation, model, context)?;
    if !alias.carries(operation) {
        return count_here(session, (&envelope, body.bytes.len()), context).await;
    }
    affinity::check(operation, &body.bytes, &alias, context)?;
    context.tally.prompt = prompt_tokens(&envelope, body.bytes.len());
    limits::reserve(&alias, || prompt(operation, &envelope, &body.bytes), context).await?;
    let clocks = context.snapshot.clocks.with(&context.overrides()).with(&alias.clocks);
    let now = context.timeline.received.unwrap_or(context.timeline.began);
    let betas = betas(operation, session.head());
    let mut client = Client::new(session.again(), context.dialect, clocks.client_write, now);
    client.quotas = context.used.quotas(now);
    let policy = context.route.as_ref().map_or(Policy::Lenient, |route| route.loss);
    let stream = stream && operation.streams();
    let asked = Asked::new(operation, &body.bytes, &envelope, (model, stream), policy, betas.as_deref());
    let asked = asked.redacting(police::of_replies(context));
    let reached = reach(Ask { asked, query, alias, clocks: &clocks }, &mut client, context).await;
    // Nothing is sent again from here on: a stream does not hold its prompt.
    drop(envelope);
    drop(body);
    client.told = context.explained();
    let done = match reached {
        Ok((opened, terms)) => opened.deliver(&mut client, context, &terms).await,
        Err(failed) => give_up(failed, &mut client, context).await,
    };
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    context.ended = client.sent() == Sent::All;
    done
}

/// What a client of Messages wants to try out, for upstreams that read it in the body.
fn betas(operation: Operation, head: &http::request::Parts) -> Option<String> {
    if operation != Operation::Messages {
        return None;
    }
    let listed = head.headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    Some(listed.collect::<Vec<_>>().join(",")).filter(|betas| !betas.is_empty())
}

/// A guess at the tokens of a request's prompt.
fn prompt_tokens(envelope: &Envelope<'_>, size: usize) -> u64 {
    dialect::count::tokens(prompt_bytes(envelope, size))
}

fn prompt_bytes(envelope: &Envelope<'_>, size: usize) -> usize {
    // A request of Gemini's may be wrapped in another member, in which nothing is looked at.
    if envelope.prompt_bytes > 0 { envelope.prompt_bytes } else { size }
}

/// What tells how much a request will use.
fn prompt(operation: Operation, envelope: &Envelope<'_>, body: &[u8]) -> Prompt {
    let choices = dialect::request::replies(operation, envelope, body);
    Prompt::new(body, prompt_bytes(envelope, body.len()), envelope.max_tokens, choices)
}

/// Answers for an upstream that counts no tokens.
async fn count_here(
    session: &mut Downstream<'_>,
    (envelope, size): (&Envelope<'_>, usize),
    context: &mut Context,
) -> Result<(), Error> {
    let write = context.snapshot.clocks.client_write;
    let mut client = Client::new(session.again(), context.dialect, write, Instant::now());
    let tokens = prompt_tokens(envelope, size);
    client.json(200, &context.id, dialect::count::guess(context.dialect, tokens)).await?;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    Ok(())
}

/// Tells the client how the last attempt failed: in the upstream's own words where they can be passed on.
async fn give_up(failed: Box<Failed>, client: &mut Client<'_>, context: &mut Context) -> Result<(), Error> {
    // A heartbeat may have begun the client's stream since it was answered.
    let Some(answer) = failed.answer.filter(|_| client.sent() == Sent::Nothing) else {
        return Err(failed.error);
    };
    context.note = failed.error.private;
    answer.deliver(client, context, failed.cause.is_some()).await
}

async fn receive(
    shared: &Shared,
    session: &mut Downstream<'_>,
    context: &mut Context,
) -> Result<Body, Error> {
    let bounds = context.snapshot.intake;
    let of_route = context.route.as_ref().map_or(bounds.max_body, |route| route.max_body);
    let max_body = permit::body_bound(context, of_route);
    let read = intake::read(session, &bounds, max_body, &shared.budget).await;
    if read.is_err() {
        // What is left of the body is not waited for.
        session.close();
    }
    let body = read.map_err(|error| permit::body_error(context, of_route, error))?;
    context.tally.bytes_in = body.wire;
    context.timeline.received = Some(Instant::now());
    Ok(body)
}

fn find_alias(operation: Operation, name: &str, context: &mut Context) -> Result<Arc<Alias>, Error> {
    context.model = name.chars().take(256).collect();
    let (alias, starred) = context.snapshot.aliases.find(name).ok_or_else(|| unknown_model(name))?;
    permit::model(name, context)?;
    let (alias, starred) = (Arc::clone(alias), starred.to_owned());
    context.starred = starred;
    context.alias = Some(Arc::clone(&alias));
    let counts = operation.counts().is_some_and(|counted| alias.carries(counted));
    if !alias.carries(operation) && !counts {
        let why = format!("the model `{}` cannot be asked for {} here", context.model, operation.name());
        return Err(Error::client(Kind::InvalidRequest, why).param("model"));
    }
    Ok(alias)
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
        match raw::begin(&self.shared, session, context).await {
            Ok(()) => Ok(false),
            Err(error) => {
                let broken = answer_failure(&mut Downstream::Pingora(session), context, &error).await;
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
        raw::peer(context).await
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<bytes::Bytes>,
        _: bool,
        context: &mut Context,
    ) -> pingora_core::Result<()> {
        raw::pass_body(session, context)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora_core::Result<()> {
        raw::request(session, head, context)?;
        raw::prove(head, context).await
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora_core::Result<()> {
        raw::reply(session, head, context)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<bytes::Bytes>,
        _: bool,
        context: &mut Context,
    ) -> pingora_core::Result<Option<Duration>> {
        raw::pass_reply(context).map(|()| None)
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
        if let Some(guarded) = guard::Guarded::of(&session.downstream_session) {
            guarded.next();
        }
        let head = session.req_header();
        context.settle(&head.method, head.uri.path());
        police::audited(context, head);
    }
}
