//! Whether an endpoint takes new exchanges, as those who run it say; and the end of what still runs there when its
//! time is over.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::Endpoint;

/// Whether new exchanges may be sent to an endpoint, as those who run it say. Its health is another matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// They may.
    #[default]
    Serving,
    /// They may not; what runs there goes on.
    Draining(Draining),
}

/// A drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Who asked for it.
    pub by: By,
    /// Since when.
    pub since: Instant,
    /// When what still runs there is ended; without one it may run to its own end.
    pub deadline: Option<Instant>,
    /// How far it has come.
    pub stage: Stage,
    /// How many exchanges the deadline has ended.
    pub evicted: u32,
}

/// Who asked for a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Someone who runs the edge, or the endpoint's node itself, through the admin listener.
    Operator,
    /// The file of those to drain: it takes it back, too.
    File,
}

impl By {
    /// The name used in logs and on the admin listener.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::File => "file",
        }
    }
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Exchanges may still run, to their own ends.
    Emptying,
    /// The deadline has come: what still runs has been told to end.
    Evicting,
    /// Nothing runs there any more.
    Idle,
}

/// A turn that a drain has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing runs there any more, after that time.
    Idle(Duration),
    /// The deadline has come, with so many exchanges under way.
    Evicting(u32),
}

/// Who picked an endpoint before it drained may not be counted in yet: before that, idle means nothing.
const SETTLED: Duration = Duration::from_millis(20);

impl Draining {
    /// Takes the next turn, if there is one with that many exchanges under way.
    fn turn(&mut self, now: Instant, in_flight: u32) -> Option<Turn> {
        let took = now.saturating_duration_since(self.since);
        let is_due = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.stage {
            Stage::Emptying | Stage::Evicting if in_flight == 0 && took >= SETTLED => {
                self.stage = Stage::Idle;
                Some(Turn::Idle(took))
            }
            Stage::Emptying | Stage::Idle if in_flight > 0 && is_due => {
                self.stage = Stage::Evicting;
                self.evicted += in_flight;
                Some(Turn::Evicting(in_flight))
            }
            Stage::Idle if in_flight > 0 => {
                self.stage = Stage::Emptying;
                None
            }
            _ => None,
        }
    }
}

/// What a pick and a stream look at, instead of waiting for a lock.
const SERVING: u8 = 0;
const DRAINING: u8 = 1;
const EVICTING: u8 = 2;

/// The duty of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// The short of what the lock holds.
    word: AtomicU8,
    duty: Mutex<Duty>,
    /// Told when the deadline has come.
    evicting: Arc<Notify>,
}

impl Drain {
    /// A drain that goes on at another endpoint.
    pub(super) fn like(other: &Self) -> Self {
        let (word, duty) = (other.word.load(Ordering::Acquire), *other.duty());
        Self { word: AtomicU8::new(word), duty: Mutex::new(duty), evicting: Arc::default() }
    }

    fn duty(&self) -> MutexGuard<'_, Duty> {
        // There is nothing behind the lock that a panic could have left half done.
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// Whether it takes new exchanges, as those who run it say.
    pub fn duty(&self) -> Duty {
        *self.drain.duty()
    }

    /// Whether no new exchange may be sent here.
    pub fn is_draining(&self) -> bool {
        self.drain.word.load(Ordering::Relaxed) != SERVING
    }

    /// Whether what runs here must end.
    pub fn is_evicting(&self) -> bool {
        self.drain.word.load(Ordering::Acquire) == EVICTING
    }

    /// How long what runs here may go on; `None` where that has no end.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        if !self.is_draining() {
            return None;
        }
        match self.duty() {
            Duty::Draining(draining) => Some(draining.deadline?.saturating_duration_since(now)),
            Duty::Serving => None,
        }
    }

    /// Takes no new exchanges from now on. A drain that is under way is the operator's where either was, and keeps its
    /// deadline unless there is another. Says whether anything has changed.
    pub(in crate::upstream) fn drain(&self, by: By, deadline: Option<Instant>, now: Instant) -> bool {
        let mut duty = self.drain.duty();
        let before = *duty;
        let draining = match before {
            Duty::Serving => Draining { by, since: now, deadline, stage: Stage::Emptying, evicted: 0 },
            Duty::Draining(known) => {
                let by = if by == By::Operator { by } else { known.by };
                Draining { by, deadline: deadline.or(known.deadline), ..known }
            }
        };
        *duty = Duty::Draining(draining);
        if before == Duty::Serving {
            self.drain.word.store(DRAINING, Ordering::Release);
        }
        before != *duty
    }

    /// Takes new exchanges again. Says whether it had not.
    pub(in crate::upstream) fn resume(&self) -> bool {
        let mut duty = self.drain.duty();
        self.drain.word.store(SERVING, Ordering::Release);
        std::mem::take(&mut *duty) != Duty::Serving
    }

    /// Takes the next turn of its drain, if there is one. Where the deadline has come, all that runs here is told.
    pub(in crate::upstream) fn take_turn(&self, now: Instant) -> Option<Turn> {
        let mut duty = self.drain.duty();
        let Duty::Draining(draining) = &mut *duty else { return None };
        let turn = draining.turn(now, self.in_flight());
        if let Some(Turn::Evicting(_)) = turn {
            self.drain.word.store(EVICTING, Ordering::Release);
            self.drain.evicting.notify_waiters();
        }
        turn
    }
}

/// The end of an endpoint's time, for whoever waits for other things, too.
pub struct Eviction {
    endpoint: Arc<Endpoint>,
    /// The place in the list of those who are told.
    place: Option<Pin<Box<OwnedNotified>>>,
}

impl fmt::Debug for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Eviction").field(&self.endpoint.name).finish()
    }
}

impl Eviction {
    /// The end of that endpoint's time.
    pub fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), place: None }
    }

    /// Whether it has come, for whoever does not wait for it.
    pub fn is_over(&self) -> bool {
        self.endpoint.is_evicting()
    }

    /// Whether it has come; if not, the task that asks first is woken when it does. To ask again costs a look.
    pub fn has_come(&mut self, context: &mut Context<'_>) -> bool {
        if self.place.is_none() {
            let mut place = Box::pin(Arc::clone(&self.endpoint.drain.evicting).notified_owned());
            // Whether it was told already shows below.
            let _ = place.as_mut().poll(context);
            self.place = Some(place);
        }
        self.endpoint.is_evicting()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::endpoint;
    use super::*;
    use crate::upstream::breaker::Pass;

    const SECOND: Duration = Duration::from_secs(1);

    fn stage(endpoint: &Endpoint) -> Option<Stage> {
        match endpoint.duty() {
            Duty::Draining(draining) => Some(draining.stage),
            Duty::Serving => None,
        }
    }

    #[test]
    fn a_drain_ends_when_nothing_runs_any_more() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let flight = endpoint.enter(Pass::Beside);
        assert!(endpoint.is_up() && !endpoint.is_draining());
        assert!(endpoint.drain(By::Operator, None, now));
        assert!(!endpoint.is_up() && endpoint.is_draining());
        assert!(!endpoint.drain(By::Operator, None, now + SECOND), "it drains already");
        assert_eq!((endpoint.take_turn(now + SECOND), stage(&endpoint)), (None, Some(Stage::Emptying)));
        drop(flight);
        assert_eq!(endpoint.take_turn(now), None, "who has just picked it is not counted in yet");
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Idle(SECOND)));
        assert_eq!((endpoint.take_turn(now + SECOND), stage(&endpoint)), (None, Some(Stage::Idle)));
        assert!(endpoint.resume() && endpoint.is_up());
        assert!(!endpoint.resume(), "it serves already");
        assert_eq!(endpoint.take_turn(now + SECOND), None);
    }

    #[test]
    fn a_deadline_ends_what_runs_and_only_what_runs() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let flights = [endpoint.enter(Pass::Beside), endpoint.enter(Pass::Beside)];
        endpoint.drain(By::File, Some(now + SECOND), now);
        assert_eq!(endpoint.time_left(now), Some(SECOND));
        assert_eq!((endpoint.take_turn(now + SECOND / 2), endpoint.is_evicting()), (None, false));
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Evicting(2)));
        assert!(endpoint.is_evicting() && endpoint.is_draining());
        assert_eq!(endpoint.take_turn(now + SECOND), None, "it comes once");
        drop(flights);
        assert_eq!(endpoint.take_turn(now + 2 * SECOND), Some(Turn::Idle(2 * SECOND)));
        assert!(matches!(endpoint.duty(), Duty::Draining(Draining { evicted: 2, stage: Stage::Idle, .. })));
        endpoint.resume();
        assert!(!endpoint.is_evicting() && endpoint.time_left(now).is_none());

        endpoint.drain(By::File, Some(now + SECOND), now);
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Idle(SECOND)));
        assert!(!endpoint.is_evicting(), "there was nothing to end");
        let _late = endpoint.enter(Pass::Beside);
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Evicting(1)));
    }

    #[test]
    fn who_asks_again_moves_the_deadline_and_an_operator_owns_the_drain() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let by = |endpoint: &Endpoint| match endpoint.duty() {
            Duty::Draining(draining) => Some((draining.by, draining.deadline)),
            Duty::Serving => None,
        };
        endpoint.drain(By::File, Some(now + SECOND), now);
        assert!(endpoint.drain(By::Operator, None, now));
        assert_eq!(by(&endpoint), Some((By::Operator, Some(now + SECOND))));
        endpoint.drain(By::File, Some(now + 2 * SECOND), now);
        assert_eq!(by(&endpoint), Some((By::Operator, Some(now + 2 * SECOND))));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_once_and_whoever_comes_late_sees_it_at_once() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let _flight = endpoint.enter(Pass::Beside);
        let wait = |endpoint: &Arc<Endpoint>| {
            let mut eviction = Eviction::of(endpoint);
            std::future::poll_fn(move |context| match eviction.has_come(context) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            })
        };
        let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(wait(&endpoint))).collect();
        tokio::task::yield_now().await;
        endpoint.drain(By::Operator, Some(now), now);
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        endpoint.take_turn(now);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        wait(&endpoint).await;
    }
}
