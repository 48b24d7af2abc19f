//! One request and its reply, whatever carries them: what is waited for, made, spoiled and billed.
//!
//! ```text
//! begin ─► reply(): latency ─► chance, limits ─► line ─► prefill ─► (stall) ─► Reply
//!                                                                               │
//!          finish() ◄── End ◄── next(): (stall, error event) ─► pace ─► event ◄─┘
//! ```
//!
//! Dropping an exchange that was not finished means that the client left: it is counted by its phase, its slot is
//! free at once, and what was made is billed.

use super::Shared;
use super::api::family::{Family, Number};
use super::api::refusal::Refusal;
use super::api::{self, Body, Event, Events, Job, Kind, Pace, Reply, Routed, Stream, Usage};
use super::engine::{Full, Slot};
use super::fault::{Break, Fault, Faults, Point};
use super::gzip::{Gzip, gzip};
use super::stats::{Charge, Counter, ModelBill, Request};
use super::text::{id, uuid};
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderName, HeaderValue, header};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request being answered.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    pub(crate) faults: Faults,
    family: Family,
    rng: Rng,
    source: Source,
    stream: Option<Running>,
    phase: Phase,
    slot: Option<Slot>,
    bill: ModelBill,
    charge: Charge,
    /// Events handed out.
    sent: u64,
}

/// Where the reply comes from.
enum Source {
    /// A recorded or fixed reply, sent as it is.
    Canned(Option<Reply>),
    /// A reply that needs no engine.
    Ready(Option<Reply>),
    Job(Arc<Job>),
}

/// A body being sent piece by piece.
struct Running {
    events: Events,
    pace: Pacing,
    gzip: Option<Gzip>,
}

enum Pacing {
    Engine,
    Every { interval: Duration, due: Option<tokio::time::Instant> },
}

/// What a client that leaves now would miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Prefilling,
    Decoding,
    Stalled,
    Ended,
}

/// The next piece of a streamed body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Piece(Bytes),
    End,
    Break(Break),
}

impl Exchange {
    /// Takes a request in: counts it, keeps it, finds what it wants and what is to go wrong.
    pub(crate) fn begin(shared: &Arc<Shared>, request: Request) -> Self {
        let number = shared.stats.add(Counter::Requests, 1);
        let request = Arc::new(request);
        shared.stats.record(&request, shared.config.record, shared.config.record_body);
        let mut rng = shared.draw(number);
        let (source, faults) = find_source(shared, &request, &mut rng);
        Self {
            shared: Arc::clone(shared),
            faults,
            family: api::family(&request),
            rng,
            source,
            stream: None,
            phase: Phase::Queued,
            slot: None,
            bill: ModelBill::default(),
            charge: Charge {
                id: request.header("x-request-id").unwrap_or_default().to_owned(),
                ..Charge::default()
            },
            sent: 0,
        }
    }

    /// Waits for the reply. A body that is a stream is then had from [`Exchange::next`], after
    /// [`Exchange::open`].
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.make_reply().await;
        self.phase = Phase::Decoding;
        self.stall(Point::Head).await;
        self.spoil(&mut reply);
        self.shared.stats.status(reply.status);
        self.charge.status = reply.status;
        if !matches!(self.source, Source::Canned(_)) {
            self.number(&mut reply);
        }
        reply
    }

    fn number(&mut self, reply: &mut Reply) {
        let Some((name, number)) = self.family.request_id() else { return };
        let number = match number {
            Number::Prefixed(prefix) => id(&mut self.rng, prefix, 24),
            Number::Uuid => uuid(&mut self.rng),
        };
        if let Ok(value) = HeaderValue::try_from(number) {
            reply.headers.push((HeaderName::from_static(name), value));
        }
    }

    /// The body if it is whole; a stream is kept for [`Exchange::next`].
    pub(crate) fn open(&mut self, body: Body) -> Option<Bytes> {
        let stream = match body {
            Body::Whole(bytes) => return Some(bytes),
            Body::Stream(stream) => stream,
        };
        let pace = match stream.pace {
            Pace::Engine => Pacing::Engine,
            Pace::Every(interval) => Pacing::Every { interval, due: None },
        };
        let gzip = self.faults.has(Fault::Gzip).then(Gzip::default);
        self.stream = Some(Running { events: stream.events, pace, gzip });
        None
    }

    /// The next piece of a stream, when it is due.
    pub(crate) async fn next(&mut self) -> Next {
        if let Some(how) = self.faults.break_at(self.sent) {
            return Next::Break(how);
        }
        self.stall(Point::Event(self.sent)).await;
        if let Some(error) = self.error_event() {
            self.sent += 1;
            return Next::Piece(self.pack(error));
        }
        match self.due_event().await {
            Some(event) if event.kind == Kind::Last && self.faults.has(Fault::NoDone) => self.trailer(),
            Some(event) => {
                let garbled = self.faults.has(Fault::BadEvent(self.sent));
                self.sent += 1;
                Next::Piece(self.pack(if garbled { garble(&event.bytes) } else { event.bytes }))
            }
            None => self.trailer(),
        }
    }

    /// The reply was written to its end.
    pub(crate) fn finish(mut self) {
        self.end(Counter::Completed);
    }

    /// A fault of ours ended the reply.
    pub(crate) fn broken(mut self) {
        self.end(Counter::Broken);
    }

    async fn make_reply(&mut self) -> Reply {
        if let Some(reply) = self.fault_reply() {
            return reply;
        }
        let job = match &mut self.source {
            Source::Canned(reply) | Source::Ready(reply) => {
                return reply.take().unwrap_or_else(|| Refusal::server("Asked twice.").reply(self.family));
            }
            Source::Job(job) => Arc::clone(job),
        };
        let mut reply = match self.admit(&job).await {
            Ok(()) => self.run(&job).await,
            Err((refusal, retry_after)) => refusal.after(retry_after).reply(self.family),
        };
        self.shared.provider.headers(self.family, Instant::now(), &mut reply.headers);
        reply
    }

    /// The provider's door: latency, errors by chance, limits; then the engine's line.
    async fn admit(&mut self, job: &Job) -> Result<(), (Refusal, Option<u64>)> {
        let provider = &self.shared.provider;
        let latency = provider.latency(&mut self.rng);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if let Some(status) = provider.chance(&mut self.rng) {
            return Err((Refusal::simulated(status), provider.retry_after(status)));
        }
        if let Err(wait) = provider.take(job.prompt().tokens, Instant::now()) {
            return Err((Refusal::simulated(429), Some(wait.as_secs_f64().ceil() as u64)));
        }
        match self.shared.engine.admit().await {
            Ok(slot) => self.slot = Some(slot),
            Err(Full) => return Err((Refusal::overloaded(503), provider.retry_after(503))),
        }
        Ok(())
    }

    /// The engine at work: the prompt, and for a reply in one piece all its tokens.
    async fn run(&mut self, job: &Job) -> Reply {
        self.phase = Phase::Prefilling;
        let prompt = job.prompt();
        let mut cached = 0;
        if let Some(slot) = &mut self.slot {
            cached = slot.lookup(prompt);
            slot.prefill(prompt, cached).await;
        }
        self.phase = Phase::Decoding;
        self.bill =
            ModelBill { calls: 1, prompt_tokens: prompt.tokens, cached_tokens: cached, output_tokens: 0 };
        self.shared.stats.add(Counter::PromptTokens, prompt.tokens);
        self.shared.stats.add(Counter::CachedTokens, cached);
        let rendered = job.render(&self.shared.config, Usage { prompt: prompt.tokens, cached });
        let mut left = rendered.tokens;
        while left > 0 {
            let stroke = self.slot.as_ref().map_or(left, Slot::stroke).min(left);
            self.decode(stroke).await;
            left -= stroke;
        }
        Reply { status: 200, headers: rendered.media.headers(), body: rendered.body }
    }

    async fn decode(&mut self, tokens: u64) {
        if let Some(slot) = &mut self.slot {
            slot.decode(tokens).await;
        }
        self.bill.output_tokens += tokens;
        self.shared.stats.add(Counter::OutputTokens, tokens);
    }

    async fn due_event(&mut self) -> Option<Event> {
        let running = self.stream.as_mut()?;
        match &mut running.pace {
            Pacing::Every { interval, due } => {
                if let Some(due) = due
                    && !interval.is_zero()
                {
                    tokio::time::sleep_until(*due).await;
                }
                *due = Some(due.unwrap_or_else(tokio::time::Instant::now) + *interval);
                running.events.next()
            }
            Pacing::Engine => {
                let event = running.events.next()?;
                if let Kind::Tokens(n) = event.kind {
                    self.decode(n).await;
                }
                Some(event)
            }
        }
    }

    async fn stall(&mut self, point: Point) {
        let Some(ms) = self.faults.stall_at(point) else { return };
        let phase = std::mem::replace(&mut self.phase, Phase::Stalled);
        match ms {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
        self.phase = phase;
    }

    /// The whole reply that a fault puts in place of the real one.
    fn fault_reply(&self) -> Option<Reply> {
        let retry_after = self.faults.find(|fault| match *fault {
            Fault::RetryAfter(seconds) => Some(seconds),
            _ => None,
        });
        self.faults.find(|fault| match *fault {
            Fault::Status(status) => Some(Refusal::simulated(status).after(retry_after).reply(self.family)),
            Fault::Html(status) => Some(html(status)),
            Fault::Quota => Some(Refusal::quota().after(retry_after).reply(self.family)),
            Fault::ErrorBody => Some(Reply { status: 200, ..Refusal::simulated(500).reply(self.family) }),
            _ => None,
        })
    }

    /// Faults that change the body as a whole.
    fn spoil(&self, reply: &mut Reply) {
        if self.faults.is_empty() {
            return;
        }
        if self.faults.has(Fault::Gzip) {
            reply.headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        if self.faults.has(Fault::EmptyBody) {
            reply.body = Body::Whole(Bytes::new());
        }
        match &mut reply.body {
            Body::Whole(bytes) => {
                if self.faults.has(Fault::Gzip) {
                    *bytes = gzip(bytes);
                }
                if self.faults.splits_body() {
                    reply.body = halves(bytes);
                }
            }
            Body::Stream(stream) if self.faults.has(Fault::EmptyStream) => {
                stream.events = Box::new(std::iter::empty())
            }
            Body::Stream(_) => {}
        }
    }

    /// The error event that a fault puts here; nothing but the end comes after it.
    fn error_event(&mut self) -> Option<Bytes> {
        let running = self.stream.as_mut()?;
        let due = |fault: &Fault| matches!(fault, Fault::ErrorEvent(n) if *n <= self.sent).then_some(());
        self.faults.find(due)?;
        let Source::Job(job) = &self.source else { return None };
        if !job.is_stream() || running.events.next().is_none() {
            return None;
        }
        running.events = Box::new(std::iter::empty());
        Some(job.error_event(&self.shared.config, self.sent))
    }

    fn pack(&mut self, bytes: Bytes) -> Bytes {
        match self.stream.as_mut().and_then(|running| running.gzip.as_mut()) {
            Some(gzip) => gzip.block(&bytes),
            None => bytes,
        }
    }

    /// What comes after the last event: the end of the compressed form, if it is compressed, and the end.
    fn trailer(&mut self) -> Next {
        let Some(mut running) = self.stream.take() else { return Next::End };
        match running.gzip.take() {
            Some(gzip) => Next::Piece(gzip.finish()),
            None => Next::End,
        }
    }

    // The slot is free before anybody can see the exchange counted as over.
    fn end(&mut self, counter: Counter) {
        self.phase = Phase::Ended;
        self.slot = None;
        if let (Source::Job(job), 1..) = (&self.source, self.bill.calls) {
            self.shared.stats.bill(job.model(), self.bill);
            self.charge.model = job.model().to_owned();
        }
        let whole = matches!(counter, Counter::Completed);
        let charge = Charge { whole, bill: self.bill, ..std::mem::take(&mut self.charge) };
        if !matches!(self.source, Source::Ready(_)) {
            self.shared.stats.charge(charge, self.shared.config.record);
        }
        self.shared.stats.add(counter, 1);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        match self.phase {
            Phase::Ended => {}
            Phase::Queued => self.end(Counter::LeftQueued),
            Phase::Prefilling => self.end(Counter::LeftPrefilling),
            Phase::Decoding => self.end(Counter::LeftDecoding),
            Phase::Stalled => self.end(Counter::LeftStalled),
        }
    }
}

fn find_source(shared: &Shared, request: &Request, rng: &mut Rng) -> (Source, Faults) {
    if let Some(reply) = shared.canned(request, rng.u64(..)) {
        let faults = find_faults(shared, request, None, rng).unwrap_or_default();
        return (Source::Canned(Some(reply)), faults);
    }
    let mut routed = api::route(shared, request);
    let asked = match &mut routed {
        Routed::Job(job) => job.knobs().fault.take(),
        Routed::Reply(_) => None,
    };
    let faults = match find_faults(shared, request, asked, rng) {
        Ok(faults) => faults,
        Err(help) => {
            let reply = Refusal::invalid(help, None).reply(api::family(request));
            return (Source::Ready(Some(reply)), Faults::default());
        }
    };
    match routed {
        Routed::Reply(reply) => (Source::Ready(Some(reply)), faults),
        Routed::Job(mut job) => {
            job.knobs().huge = faults.find(|fault| match *fault {
                Fault::HugeEvent(bytes) => Some(bytes),
                _ => None,
            });
            (Source::Job(Arc::from(job)), faults)
        }
    }
}

/// What the request asks for, by header or body, and what the rules add.
fn find_faults(
    shared: &Shared,
    request: &Request,
    asked: Option<String>,
    rng: &mut Rng,
) -> Result<Faults, String> {
    let path = request.path();
    if path.starts_with("/sim/") {
        return Ok(Faults::default());
    }
    let mut faults = match asked.as_deref().or_else(|| request.header("x-sim-fault")) {
        Some(list) => Faults::parse(list)?,
        None => Faults::default(),
    };
    for rule in shared.striking() {
        if let Some(more) = rule.strike(path, api::is_model_call(request), rng.f64()) {
            faults.extend(more);
        }
    }
    Ok(faults)
}

/// An event whose last brace is another sign: JSON that does not end, and in a frame a sum that does not hold.
fn garble(event: &Bytes) -> Bytes {
    let mut bytes = event.to_vec();
    if let Some(brace) = bytes.iter_mut().rev().find(|byte| **byte == b'}') {
        *brace = b'<';
    }
    bytes.into()
}

/// A body in two pieces, its length still announced.
fn halves(body: &Bytes) -> Body {
    let (first, second) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
    let events = Box::new([first, second].into_iter().map(Event::frame));
    Body::Stream(Stream { events, length: Some(body.len() as u64), pace: Pace::Engine })
}

fn html(status: u16) -> Reply {
    let body = format!(
        "<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>Error {status}</h1>\
         <p>This page stands for what a balancer in front of the API says.</p></body></html>\n"
    );
    let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
    Reply { status, headers, body: Body::Whole(body.into()) }
}
