//! Moves a stream to the client, event by event.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::clocks::{Due, StreamClocks};
use super::flow::{Flow, Let};
use super::gaps::{Counted, Gaps};
use super::whole::Made;
use super::{Answer, Opened, Terms, joined};
use crate::dialect::ir::{Notes, ReplyTo};
use crate::dialect::translate;
use crate::dialect::usage::{End, Usage};
use crate::error::{Error, Kind, Retry};
use crate::exchange::attempt::Upstream;
use crate::exchange::client::{Client, Sent};
use crate::exchange::context::Context;
use crate::exchange::headers;
use crate::exchange::intake::Share;
use crate::exchange::resume::{self, Rest, Why};
use crate::exchange::verdict::Failed;
use crate::filter::redact::redact_reply;
use crate::meter::access_log::When;
use crate::meter::metrics::METRICS;
use crate::meter::timeline::Timeline;
use crate::snapshot::Cause;
use crate::upstream::cluster::Outcome;
use crate::upstream::endpoint::Moving;

/// A stream under way.
pub(in crate::exchange) struct Streaming {
    upstream: Upstream,
    flow: Flow,
    /// What was let out, and not sent.
    held: Let,
    gaps: Gaps,
    /// How the upstream's stream ended, once it has.
    over: Option<Over>,
    clocks: StreamClocks,
    kept: Kept,
    _counted: Counted,
}

/// The memory of what the client was told, which is kept for whoever goes on with it.
enum Kept {
    /// Nothing is.
    Nothing,
    /// So much of the budget, and the budget's bound.
    Share(Box<Share>, u64),
}

/// By how much that memory grows, bytes.
const STEP: u64 = 16 << 10;

impl Kept {
    /// Has the flow keep what the client is told, if there is memory for it.
    fn new(flow: &mut Flow, context: &Context) -> Self {
        match context.share(STEP) {
            Ok(share) => {
                flow.keep();
                Self::Share(Box::new(share), context.snapshot.intake.held)
            }
            Err(_) => Self::Nothing,
        }
    }

    /// Takes what the flow keeps by now, or has it forgotten.
    fn grow(&mut self, flow: &mut Flow) {
        if let Self::Share(share, held) = self
            && share.grow((flow.kept() as u64).next_multiple_of(STEP), *held).is_err()
        {
            flow.forget();
            *self = Self::Nothing;
        }
    }
}

/// How an upstream's stream ended.
enum Over {
    /// It closed it, or said its last.
    Closed,
    /// It broke.
    Broken(Error),
}

/// The most of a stream that is held before its first content, bytes.
const HELD: usize = 256 << 10;

/// Reads a stream up to its first content. The client is told nothing but heartbeats.
pub(super) async fn open(
    upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<Opened, Box<Failed>> {
    let mut flow = Flow::new(terms.operation, &terms.carry);
    let kept = match &terms.resume {
        Some(_) => Kept::new(&mut flow, context),
        None => Kept::Nothing,
    };
    let mut streaming = Streaming::new(upstream, terms, context, flow, kept);
    while streaming.is_silent() {
        streaming.step(client, context, terms).await?;
    }
    if streaming.gaps.last.is_none()
        && let Some(failed) = streaming.failed_at_once(context)
    {
        return Err(failed.unless(streaming, client, &context.id));
    }
    Ok(Opened::Stream(streaming))
}

/// Reads a stream to its end, and makes a whole reply of it. The client is told nothing meanwhile, so that one that breaks
/// off is a case for another attempt.
pub(super) async fn fold(
    upstream: Upstream,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
    (dialect, asked, to): (translate::Upstream, translate::Client, ReplyTo),
) -> Result<Opened, Box<Failed>> {
    let mut streaming = Streaming::new(upstream, terms, context, Flow::folding(dialect), Kept::Nothing);
    while streaming.over.is_none() {
        streaming.step(client, context, terms).await?;
    }
    if let Some(failed) = streaming.failed_at_once(context) {
        return Err(failed.unless(streaming, client, &context.id));
    }
    let Streaming { mut upstream, flow, .. } = *streaming;
    context.bill.complete(flow.usage());
    let whole = flow.whole().and_then(|reply| redact_reply(terms.carry.redacts(), reply));
    let reply = whole.map_err(Error::again)?;
    let head = upstream.take_response()?;
    upstream.judge(Outcome::Good);
    drain(upstream).await;
    let mut notes = Notes::default();
    let body = asked.reply(&reply, &to, &mut notes).into();
    context.lose(&notes);
    Ok(Opened::Made(Box::new(Made { head, body, usage: reply.usage })))
}

/// A failure before the first content.
struct AtOnce {
    error: Error,
    cause: Option<Cause>,
    /// Whether the upstream's own words can be passed on.
    is_told: bool,
}

impl AtOnce {
    /// What is left of the stream is its words: nothing of the attempt stays while another is made.
    fn unless(self, mut streaming: Box<Streaming>, client: &Client<'_>, id: &str) -> Box<Failed> {
        let passes = self.is_told && client.sent() == Sent::Nothing;
        let head = streaming.upstream.take_response().ok().filter(|_| passes);
        let body = joined(std::mem::take(&mut streaming.held));
        let answer = head.map(|head| Answer::Stream { head: headers::reply(head, id), body });
        Box::new(Failed { error: self.error, cause: self.cause, wait: None, answer, beyond: None })
    }
}

/// Relays the rest of a stream. One that breaks after its head is ended here, with an error event.
pub(super) async fn deliver(
    mut streaming: Streaming,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    context.tally.stream = true;
    let moved = streaming.pump(client, context, terms).await;
    if terms.resume.is_some() {
        // What is seldom done is not part of every stream's memory.
        return Box::pin(resumed(streaming, moved, client, context, terms)).await;
    }
    conclude(streaming, moved, client, context, terms).await
}

/// Has others go on with a stream for as long as it breaks off, and ends it.
async fn resumed(
    mut streaming: Streaming,
    mut moved: Result<(), Error>,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let begun = context.timeline;
    let mut own: Option<Box<Terms>> = None;
    let done = loop {
        let present = own.as_deref().unwrap_or(terms);
        let Some(why) = streaming.lost(&moved) else {
            break conclude(streaming, moved, client, context, present).await;
        };
        let error = moved.err().unwrap_or_else(|| streaming.broken());
        let Streaming { upstream, mut flow, kept, _counted, .. } = streaming;
        context.bill.prompt(flow.prompt());
        context.part_entry(flow.used(), &error);
        let moving = (why == Why::Evicted).then(|| Moving::from(upstream.endpoint()));
        // The place is free, and what is still to come from there is for nobody.
        drop(upstream);
        let rest = match flow.begun() {
            Ok(Some(begun)) => resume::elsewhere(why, Ok(begun), terms, client, context).await,
            Ok(None) => Ok(Rest::Nowhere),
            Err(cannot) => resume::elsewhere(why, Err(cannot), terms, client, context).await,
        };
        context.tally.usage = flow.usage();
        match rest {
            Ok(Rest::Elsewhere(upstream, next)) => {
                drop(moving);
                // What it made is its own, whoever makes the rest.
                if let Some(used) = flow.used() {
                    present.series.count(&used.less(&context.tally.settled));
                    context.tally.settled = used;
                }
                flow.go_on(resume::DIALECT);
                streaming = *Streaming::new(*upstream, &next, context, flow, kept);
                moved = streaming.pump(client, context, &next).await;
                own = Some(next);
            }
            Ok(Rest::Said) => {
                context.phase = When::Data;
                break complete(flow, client, context).await;
            }
            Ok(Rest::Nowhere) => {
                if let Some(moving) = moving {
                    moving.ended();
                }
                context.phase = When::Data;
                cut(client, context, present, &mut flow, &error).await;
                break Err(error);
            }
            Err(gone) => break Err(gone),
        }
    };
    // The client's stream began with its first part.
    let Timeline { last_token, own, .. } = context.timeline;
    context.timeline = Timeline { last_token: last_token.or(begun.last_token), own, ..begun };
    done
}

/// Ends a stream of which all is said that was allowed.
async fn complete(mut flow: Flow, client: &mut Client<'_>, context: &mut Context) -> Result<(), Error> {
    let mut told = Let::new();
    flow.complete(&mut told);
    context.tally.usage = flow.usage();
    if let Some(notes) = flow.notes() {
        context.lose(notes);
    }
    client.write(joined(told)).await?;
    client.end().await
}

/// Ends a stream that nothing more comes of.
async fn conclude(
    mut streaming: Streaming,
    moved: Result<(), Error>,
    client: &mut Client<'_>,
    context: &mut Context,
    terms: &Terms,
) -> Result<(), Error> {
    let ended = match moved {
        Ok(()) => streaming.finish(client, context, terms).await,
        // Nothing is missing but the end, and perhaps what it came to.
        Err(error) if error.kind != Kind::ClientGone && streaming.flow.is_said() => {
            log::debug!("{}: the end of a reply that was said did not come: {error}", context.id);
            streaming.finish(client, context, terms).await
        }
        Err(error) => {
            streaming.upstream.ended_by(&error);
            Err(error)
        }
    };
    context.tally.usage = streaming.flow.usage();
    context.bill.prompt(streaming.flow.prompt());
    if let Some(notes) = streaming.flow.notes() {
        context.lose(notes);
    }
    match ended {
        Ok(()) => {
            streaming.upstream.judge(Outcome::Good);
            client.end().await?;
            drain(streaming.upstream).await;
            Ok(())
        }
        Err(error) if client.sent() == Sent::Stream && error.kind != Kind::ClientGone => {
            cut(client, context, terms, &mut streaming.flow, &error).await;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Ends a stream that broke, in a way that no client can take for its proper end.
async fn cut(client: &mut Client<'_>, context: &Context, terms: &Terms, flow: &mut Flow, error: &Error) {
    if let Some(place) = &context.place {
        METRICS.upstream.cut_streams.with_label_values(&[place.cluster.name()]).inc();
    }
    // Inside an event there is no place for another: only breaking the connection is unmistakable.
    if let Some(event) = flow.fail(terms.operation, error, &context.id) {
        // A client that has left meanwhile needs no ending.
        if client.write(event).await.is_ok() {
            let _ = client.end().await;
        }
    }
}

/// What happened next in a stream.
enum Next {
    Chunk(Option<Bytes>),
    Broken(Error),
    Gone(Error),
    Tick,
}

impl Streaming {
    /// The beginning of a stream.
    fn new(upstream: Upstream, terms: &Terms, context: &Context, flow: Flow, kept: Kept) -> Box<Self> {
        let (held, gaps) = (Let::new(), Gaps::new(&terms.series));
        let clocks = StreamClocks::new(terms, upstream.endpoint(), &context.timeline);
        Box::new(Self { upstream, flow, held, gaps, over: None, clocks, kept, _counted: Counted::new() })
    }

    /// Whether nothing has come that is worth telling.
    fn is_silent(&self) -> bool {
        let held: usize = self.held.iter().map(Bytes::len).sum();
        self.gaps.last.is_none() && self.over.is_none() && held < HELD
    }

    /// Why another is to go on with it; nothing where it is over, or its client is gone.
    fn lost(&self, moved: &Result<(), Error>) -> Option<Why> {
        let is_over = matches!(self.flow.begun(), Ok(None)) || self.flow.is_closed();
        match moved {
            _ if is_over => None,
            Ok(()) => Some(Why::Broken),
            // The exchange's own time is up where no other attempt would do better.
            Err(error) if error.kind == Kind::UpstreamTimeout && error.retry == Retry::Again => {
                Some(Why::Slow)
            }
            Err(error) if error.retry == Retry::Moved => Some(Why::Evicted),
            Err(_) => None,
        }
    }

    /// The error for a stream that ended before its end.
    fn broken(&mut self) -> Error {
        self.upstream.judge(Outcome::Bad);
        match self.over.take() {
            Some(Over::Broken(error)) => error,
            Some(Over::Closed) | None => truncated(&self.upstream.endpoint().name),
        }
    }

    /// Relays to where nothing more comes.
    async fn pump(
        &mut self,
        client: &mut Client<'_>,
        context: &mut Context,
        terms: &Terms,
    ) -> Result<(), Error> {
        self.send(client, context, terms).await?;
        while self.over.is_none() {
            self.step(client, context, terms).await?;
            if !self.held.is_empty() {
                self.send(client, context, terms).await?;
                self.gaps.sent();
            }
        }
        Ok(())
    }

    /// Waits for what happens next, and takes it in.
    async fn step(
        &mut self,
        client: &mut Client<'_>,
        context: &mut Context,
        terms: &Terms,
    ) -> Result<(), Error> {
        let next = tokio::select! {
            biased;
            read = self.upstream.body() => match read {
                Ok(chunk) => Next::Chunk(chunk),
                Err(error) => Next::Broken(error),
            },
            gone = client.gone() => Next::Gone(gone),
            () = self.clocks.tick() => Next::Tick,
        };
        match next {
            // An HTTP/2 stream may end with an empty frame, which is no reply.
            Next::Chunk(Some(chunk)) if chunk.is_empty() => {}
            Next::Chunk(Some(chunk)) => {
                if self.take(&chunk, context) {
                    // The timer was set for the first token: from now on the gap is shorter.
                    self.clocks.due(context.timeline.last_token, client.last);
                }
            }
            Next::Chunk(None) => self.over = Some(Over::Closed),
            Next::Broken(error) => self.over = Some(Over::Broken(error)),
            Next::Gone(gone) => return Err(gone),
            Next::Tick => match self.clocks.due(context.timeline.last_token, client.last) {
                Due::Nothing => {}
                Due::Heartbeat if self.flow.at_boundary() => {
                    client.heartbeat(terms.operation, &context.id).await?;
                }
                Due::Heartbeat => {}
                Due::Slow(why) => return Err(self.upstream.slow(why)),
                Due::Evicted => return Err(self.upstream.evicted()),
                Due::Late => return Err(self.upstream.late("the exchange took too long")),
            },
        }
        Ok(())
    }

    /// Takes one chunk in. Says whether it held the first content.
    fn take(&mut self, chunk: &Bytes, context: &mut Context) -> bool {
        let read = Instant::now();
        self.gaps.read = read;
        let content = self.flow.push(chunk, &mut self.held);
        self.kept.grow(&mut self.flow);
        let mut first = false;
        if content > 0 {
            first = self.gaps.token(read);
            if first {
                first_token(context, &mut self.upstream, read);
                // The prompt, where the upstream says it first.
                context.bill.reported(self.used(context));
            }
            context.timeline.token(read);
            context.tally.tokens += u64::from(content);
            context.bill.counted(content);
        }
        if self.flow.is_closed() {
            self.over = Some(Over::Closed);
        }
        first
    }

    /// What was reported of this part.
    fn used(&self, context: &Context) -> Option<Usage> {
        self.flow.usage().map(|usage| usage.less(&context.tally.settled))
    }

    /// Sends what is held, and before the first of it the head.
    async fn send(&mut self, client: &mut Client<'_>, context: &Context, terms: &Terms) -> Result<(), Error> {
        let pieces = std::mem::take(&mut self.held);
        if pieces.is_empty() {
            return Ok(());
        }
        if client.sent() == Sent::Nothing {
            let mut head = headers::reply(self.upstream.take_response()?, &context.id);
            terms.carry.mark(&mut head, true);
            client.begin_stream(head).await?;
        }
        client.write(joined(pieces)).await?;
        client.last = self.gaps.read;
        Ok(())
    }

    /// The stream is over: was it whole?
    async fn finish(
        &mut self,
        client: &mut Client<'_>,
        context: &mut Context,
        terms: &Terms,
    ) -> Result<(), Error> {
        let end = self.flow.finish(&mut self.held);
        if end == End::Complete {
            context.bill.complete(self.used(context));
        }
        self.send(client, context, terms).await?;
        let name = &self.upstream.endpoint().name;
        let (told, broken) = (self.flow.failure().cloned(), self.over.take());
        match (end, broken) {
            // All that mattered had come before the connection broke, if it did.
            (End::Complete, _) => Ok(()),
            (End::Failed, Some(Over::Broken(error))) if told.is_some() => Err(error),
            // The upstream has told the client itself, or the translation has; nothing is to be added.
            (End::Failed, _) => {
                log::debug!("{name} reported an error inside its stream");
                self.upstream.judge(Outcome::Bad);
                told.map_or(Ok(()), Err)
            }
            (End::Truncated, Some(Over::Broken(error))) => Err(error),
            (End::Truncated, _) => {
                let error = truncated(name);
                self.upstream.judge(Outcome::Bad);
                Err(error)
            }
        }
    }

    /// What went wrong with a stream that is over before its first content, if anything did.
    fn failed_at_once(&mut self, context: &mut Context) -> Option<AtOnce> {
        let over = self.over.as_ref()?;
        let end = self.flow.finish(&mut self.held);
        context.bill.reported(self.flow.usage());
        let at_once = |error, cause, is_told| Some(AtOnce { error, cause, is_told });
        match (end, over, self.flow.failure()) {
            (End::Complete, ..) => None,
            (_, Over::Broken(error), _) => at_once(error.clone(), Some(Cause::Broken), false),
            (End::Truncated, ..) => {
                self.upstream.judge(Outcome::Bad);
                at_once(truncated(&self.upstream.endpoint().name), Some(Cause::Broken), false)
            }
            (End::Failed, _, told) => {
                let is_told = told.is_none();
                let error = told.cloned().unwrap_or_else(|| self.reported());
                let cause = match error.kind {
                    Kind::InvalidRequest => None,
                    Kind::RateLimited => Some(Cause::Limited),
                    _ => Some(Cause::Failed),
                };
                let fault = if cause == Some(Cause::Failed) { Outcome::Bad } else { Outcome::Neutral };
                self.upstream.judge(fault);
                context.note = format!("{}: {}", self.upstream.endpoint().name, error.public);
                at_once(error, cause, is_told)
            }
        }
    }

    /// The error that the upstream put into its stream in the client's own dialect.
    fn reported(&self) -> Error {
        let said: Vec<u8> = self.held.iter().flat_map(|piece| piece.iter().copied()).collect();
        let data = said.split(|byte| *byte == b'\n').rev().find_map(|line| line.strip_prefix(b"data:"));
        crate::dialect::ir::reported(data.unwrap_or_default().trim_ascii())
    }
}

fn truncated(name: &str) -> Error {
    Error::upstream(Kind::UpstreamFailed, "the upstream ended its stream before it was complete")
        .because(format!("{name}: the stream has no terminal event"))
}

/// Notes how long the first token took.
fn first_token(context: &mut Context, upstream: &mut Upstream, read: Instant) {
    context.phase = When::Data;
    let sent = context.timeline.sent.unwrap_or(context.timeline.began);
    let took = read.saturating_duration_since(sent);
    upstream.first_token(took, read);
    if let Some(series) = context.place.as_ref().and_then(|place| place.series.as_ref()) {
        series.first_token().observe(took.as_secs_f64());
    }
}

/// How long the end of a reply whose content is complete is waited for, to keep its connection.
const TAIL: Duration = Duration::from_millis(200);

/// Reads the end of a body whose content has passed, and keeps the connection if it comes. Where it has not come yet, the
/// exchange does not wait for it.
async fn drain(mut upstream: Upstream) {
    let at_once = tokio::time::timeout(Duration::ZERO, tail(&mut upstream)).await;
    if at_once.is_ok() {
        return upstream.release().await;
    }
    upstream.leave();
    tokio::spawn(async move {
        if tokio::time::timeout(TAIL, tail(&mut upstream)).await.is_ok() {
            upstream.release().await;
        }
    });
}

async fn tail(upstream: &mut Upstream) {
    while let Ok(Some(_)) = upstream.body().await {}
}
