//! The clocks of a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Terms;
use crate::clocks::Clocks;
use crate::meter::timeline::Timeline;
use crate::upstream::endpoint::{Endpoint, Eviction};

/// The clocks of a stream. One timer serves them all: it is set to the earliest, and only when it fires is it worked
/// out what is due, so that an event costs no timer.
pub(super) struct StreamClocks {
    /// To the first content.
    first_token: Duration,
    /// Between two pieces of it.
    gap: Duration,
    attempt: Duration,
    heartbeat: Option<Duration>,
    tried: Instant,
    sent: Instant,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// The end of the endpoint's own time.
    eviction: Eviction,
}

/// What is due when the timer fires.
pub(super) enum Due {
    Nothing,
    Heartbeat,
    Slow(&'static str),
    /// The exchange is over its time.
    Late,
    /// The endpoint is: it is taken out of service.
    Evicted,
}

impl StreamClocks {
    /// The clocks of a stream that comes from there.
    pub(super) fn new(terms: &Terms, endpoint: &Arc<Endpoint>, timeline: &Timeline) -> Self {
        let Clocks { first_token, gap, attempt, heartbeat, .. } = terms.clocks;
        Self {
            first_token,
            gap,
            attempt,
            heartbeat,
            tried: timeline.tried,
            sent: timeline.sent.unwrap_or(timeline.began),
            deadline: terms.deadline,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            eviction: Eviction::of(endpoint),
        }
    }

    /// Waits until something may be due. May be dropped and called again.
    pub(super) async fn tick(&mut self) {
        poll_fn(|context| match self.eviction.has_come(context) {
            true => Poll::Ready(()),
            false => self.timer.as_mut().poll(context),
        })
        .await;
    }

    /// Works out what is due and sets the timer to what is next. `last_token` is the last content, `last_sent` the
    /// last byte to the client.
    pub(super) fn due(&mut self, last_token: Option<Instant>, last_sent: Instant) -> Due {
        if self.eviction.is_over() {
            return Due::Evicted;
        }
        let now = Instant::now();
        let content = match last_token {
            None => (self.sent + self.first_token, "the upstream's first token did not come in time"),
            Some(last) => (last + self.gap, "the upstream's stream fell silent"),
        };
        let attempt = (self.tried + self.attempt, "the attempt took too long");
        let limits = [content, attempt];
        if self.deadline <= now {
            return Due::Late;
        }
        if let Some((_, why)) = limits.iter().find(|(at, _)| *at <= now) {
            return Due::Slow(why);
        }
        let heartbeat = self.heartbeat.map(|silence| last_sent + silence);
        let beat = heartbeat.is_some_and(|at| at <= now);
        let ends = limits.iter().map(|(at, _)| *at).chain([self.deadline]);
        let next = ends.chain(heartbeat.filter(|_| !beat)).min();
        let next = match (beat, self.heartbeat) {
            (true, Some(silence)) => next.map(|at| at.min(now + silence)),
            _ => next,
        };
        self.timer.as_mut().reset(next.unwrap_or(self.deadline).into());
        if beat { Due::Heartbeat } else { Due::Nothing }
    }
}
