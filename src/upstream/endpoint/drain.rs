//! Whether an endpoint takes new exchanges, as those who run it say; and the end of what still runs there when its
//! time is over.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
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
    pub asked: Asked,
    /// Since when.
    pub since: Instant,
    /// How far it has come.
    pub stage: Stage,
    /// How many exchanges the deadline has told to leave.
    pub evicted: u32,
}

/// Who asks for a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Someone who runs the edge, or the endpoint's node itself, through the admin listener.
    Operator,
    /// The file of those to drain: it takes it back, too.
    File,
}

impl By {
    /// The name used in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::File => "file",
        }
    }
}

/// When what still runs at a drained endpoint is ended; without one it may run to its own end.
pub type Deadline = Option<Instant>;

/// Who asked for a drain that is under way, each with a deadline. It is over when all of them have taken it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An operator.
    Operator(Deadline),
    /// The file.
    File(Deadline),
    /// Both.
    Both {
        /// The operator's deadline.
        operator: Deadline,
        /// The file's.
        file: Deadline,
    },
}

impl Asked {
    fn new(by: By, deadline: Deadline) -> Self {
        match by {
            By::Operator => Self::Operator(deadline),
            By::File => Self::File(deadline),
        }
    }

    /// The deadline in force. An operator knows better than the file.
    pub fn deadline(self) -> Deadline {
        match self {
            Self::Operator(deadline) | Self::File(deadline) => deadline,
            Self::Both { operator, file } => operator.or(file),
        }
    }

    /// The name used on the admin listener.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator(_) => By::Operator.name(),
            Self::File(_) => By::File.name(),
            Self::Both { .. } => "operator and file",
        }
    }

    /// Whether that one has asked for it.
    pub fn is_by(self, by: By) -> bool {
        !matches!((self, by), (Self::Operator(_), By::File) | (Self::File(_), By::Operator))
    }

    /// The same, where another asks too. Who asks again keeps a deadline unless there is another.
    fn and(self, by: By, deadline: Deadline) -> Self {
        match (self, by) {
            (Self::Operator(known), By::Operator) => Self::Operator(deadline.or(known)),
            (Self::File(known), By::File) => Self::File(deadline.or(known)),
            (Self::Operator(operator), By::File) => Self::Both { operator, file: deadline },
            (Self::File(file), By::Operator) => Self::Both { operator: deadline, file },
            (Self::Both { operator, file }, By::Operator) => {
                Self::Both { operator: deadline.or(operator), file }
            }
            (Self::Both { operator, file }, By::File) => Self::Both { operator, file: deadline.or(file) },
        }
    }

    /// What is left where that one takes it back.
    fn without(self, by: By) -> Option<Self> {
        match (self, by) {
            (Self::Both { file, .. }, By::Operator) => Some(Self::File(file)),
            (Self::Both { operator, .. }, By::File) => Some(Self::Operator(operator)),
            _ => Some(self).filter(|_| !self.is_by(by)),
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
    /// Takes the next turn, if there is one with that many exchanges under way, and others that look for a new place.
    fn turn(&mut self, now: Instant, in_flight: u32, moving: u32) -> Option<Turn> {
        let took = now.saturating_duration_since(self.since);
        let is_due = self.asked.deadline().is_some_and(|deadline| deadline <= now);
        match self.stage {
            Stage::Emptying | Stage::Evicting if in_flight + moving == 0 && took >= SETTLED => {
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

/// The short of a duty.
fn word(duty: Duty) -> u8 {
    match duty {
        Duty::Serving => SERVING,
        Duty::Draining(Draining { stage: Stage::Evicting, .. }) => EVICTING,
        Duty::Draining(_) => DRAINING,
    }
}

/// The duty of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// The short of what the lock holds. Written under the lock alone.
    word: AtomicU8,
    duty: Mutex<Duty>,
    /// Told when the deadline has come.
    evicting: Arc<Notify>,
    tally: Arc<Tally>,
}

/// What became of those that a deadline told to leave, at every endpoint that goes on with the same drain.
#[derive(Debug, Default)]
struct Tally {
    /// They look for another place to go on at.
    moving: AtomicU32,
    /// There was none.
    ended: AtomicU32,
}

impl Drain {
    /// A drain that goes on at another endpoint.
    pub(super) fn like(other: &Self) -> Self {
        let duty = *other.duty();
        let (evicting, tally) = (Arc::default(), Arc::clone(&other.tally));
        Self { word: AtomicU8::new(word(duty)), duty: Mutex::new(duty), evicting, tally }
    }

    fn duty(&self) -> MutexGuard<'_, Duty> {
        // There is nothing behind the lock that a panic could have left half done.
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the duty, and what is seen of it without the lock.
    fn change<T>(&self, change: impl FnOnce(&mut Duty) -> T) -> T {
        let mut duty = self.duty();
        let done = change(&mut duty);
        self.word.store(word(*duty), Ordering::Release);
        done
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
            Duty::Draining(draining) => Some(draining.asked.deadline()?.saturating_duration_since(now)),
            Duty::Serving => None,
        }
    }

    /// How many exchanges the deadline of this drain has ended: those that no other place went on with.
    pub fn ended(&self) -> u32 {
        self.drain.tally.ended.load(Ordering::Acquire)
    }

    /// An exchange that ran here was ended by the drain's deadline.
    pub fn count_ended(&self) {
        self.drain.tally.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes no new exchanges from now on, until whoever asks for it takes it back. Says whether anything has changed.
    pub(in crate::upstream) fn drain(&self, by: By, deadline: Deadline, now: Instant) -> bool {
        self.drain.change(|duty| {
            let before = *duty;
            let draining = match before {
                Duty::Serving => {
                    self.drain.tally.ended.store(0, Ordering::Release);
                    Draining {
                        asked: Asked::new(by, deadline),
                        since: now,
                        stage: Stage::Emptying,
                        evicted: 0,
                    }
                }
                Duty::Draining(known) => Draining { asked: known.asked.and(by, deadline), ..known },
            };
            *duty = Duty::Draining(draining);
            before != *duty
        })
    }

    /// Takes new exchanges again, unless another still wants it drained. Says whether it had not, and does.
    pub(in crate::upstream) fn resume(&self, by: By) -> bool {
        self.drain.change(|duty| {
            let Duty::Draining(draining) = *duty else { return false };
            *duty = match draining.asked.without(by) {
                Some(asked) => Duty::Draining(Draining { asked, ..draining }),
                None => Duty::Serving,
            };
            *duty == Duty::Serving
        })
    }

    /// Takes the next turn of its drain, if there is one. Where the deadline has come, all that runs here is told.
    pub(in crate::upstream) fn take_turn(&self, now: Instant) -> Option<Turn> {
        let turn = self.drain.change(|duty| {
            let Duty::Draining(draining) = duty else { return None };
            let moving = self.drain.tally.moving.load(Ordering::Acquire);
            draining.turn(now, self.in_flight(), moving)
        });
        if let Some(Turn::Evicting(_)) = turn {
            self.drain.evicting.notify_waiters();
        }
        turn
    }
}

/// An exchange that had to leave its endpoint and looks for another. As long as it does, the endpoint is not idle: it is
/// not known whether anything was ended.
#[derive(Debug)]
pub struct Moving(Arc<Endpoint>);

impl Moving {
    /// One that leaves that endpoint.
    pub fn from(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.drain.tally.moving.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(endpoint))
    }

    /// It has found none.
    pub fn ended(self) {
        self.0.count_ended();
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.drain.tally.moving.fetch_sub(1, Ordering::AcqRel);
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
        assert!(endpoint.resume(By::Operator) && endpoint.is_up());
        assert!(!endpoint.resume(By::Operator), "it serves already");
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
        endpoint.resume(By::File);
        assert!(!endpoint.is_evicting() && endpoint.time_left(now).is_none());

        endpoint.drain(By::File, Some(now + SECOND), now);
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Idle(SECOND)));
        assert!(!endpoint.is_evicting(), "there was nothing to end");
        let _late = endpoint.enter(Pass::Beside);
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Evicting(1)));
    }

    #[test]
    fn who_asks_again_moves_a_deadline_and_each_takes_back_what_is_its_own() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let asked = |endpoint: &Endpoint| match endpoint.duty() {
            Duty::Draining(draining) => Some(draining.asked),
            Duty::Serving => None,
        };
        let (soon, late) = (Some(now + SECOND), Some(now + 2 * SECOND));
        endpoint.drain(By::File, soon, now);
        assert!(endpoint.drain(By::Operator, None, now));
        assert_eq!(asked(&endpoint), Some(Asked::Both { operator: None, file: soon }));
        assert_eq!(endpoint.time_left(now), Some(SECOND), "the file's");
        endpoint.drain(By::Operator, late, now);
        assert!(!endpoint.drain(By::Operator, None, now), "who asks again keeps it");
        assert_eq!(endpoint.time_left(now), Some(2 * SECOND), "the operator's");
        assert!(!endpoint.resume(By::Operator) && endpoint.is_draining());
        assert_eq!(asked(&endpoint), Some(Asked::File(soon)));
        assert!(!endpoint.resume(By::Operator) && endpoint.is_draining(), "it is the file's");
        endpoint.drain(By::Operator, None, now);
        assert!(!endpoint.resume(By::File));
        assert_eq!((asked(&endpoint), endpoint.time_left(now)), (Some(Asked::Operator(None)), None));
        assert!(endpoint.resume(By::Operator) && endpoint.is_up());
    }

    #[test]
    fn what_is_seen_without_the_lock_is_what_is_behind_it() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let flight = endpoint.enter(Pass::Beside);
        endpoint.drain(By::Operator, Some(now), now);
        endpoint.take_turn(now);
        endpoint.drain.word.store(SERVING, Ordering::Release);
        let heir = Endpoint::instead_of(endpoint.spec.clone(), &endpoint);
        assert!(heir.is_evicting(), "it goes by what is behind the lock");
        endpoint.drain(By::Operator, None, now);
        assert!(endpoint.is_evicting(), "every change says how it stands");
        drop(flight);
        endpoint.take_turn(now + SECOND);
        assert!(endpoint.is_draining() && !endpoint.is_evicting(), "nothing runs there that has to leave");
    }

    #[test]
    fn it_is_not_idle_before_it_is_known_what_was_ended() {
        let (endpoint, now) = (endpoint("http://127.0.0.1:1", 1, 0), Instant::now());
        let flights = [endpoint.enter(Pass::Beside), endpoint.enter(Pass::Beside)];
        endpoint.drain(By::Operator, Some(now), now);
        assert_eq!(endpoint.take_turn(now), Some(Turn::Evicting(2)));
        let moving = [Moving::from(&endpoint), Moving::from(&endpoint)];
        drop(flights);
        assert_eq!((endpoint.take_turn(now + SECOND), stage(&endpoint)), (None, Some(Stage::Evicting)));
        let [found, lost] = moving;
        drop(found);
        lost.ended();
        let heir = Endpoint::instead_of(endpoint.spec.clone(), &endpoint);
        assert_eq!((endpoint.ended(), heir.ended()), (1, 1));
        assert_eq!(endpoint.take_turn(now + SECOND), Some(Turn::Idle(SECOND)));
        endpoint.resume(By::Operator);
        endpoint.drain(By::Operator, None, now);
        assert_eq!(endpoint.ended(), 0, "another drain");
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
