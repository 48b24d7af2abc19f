//! Keeps one credential fresh.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{info, warn};
use tokio::sync::watch;

use super::{Error, Expiring};

/// How far ahead of its end a credential is replaced; half its remaining life where that is less.
const AHEAD: Duration = Duration::from_secs(300);
/// How often a credential without an end is looked up again: its file may have changed.
const RECHECK: Duration = Duration::from_secs(300);
/// The longest sleep: the clock of the day may jump, and a suspended machine counts no sleep.
const NAP: Duration = Duration::from_secs(30);
/// The pause after a first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);

/// A credential that [`Refreshed::keep`] keeps fresh, for any number of exchanges to use.
///
/// ```text
/// Starting ─── obtained ──> Fresh ─── failed ──> Failing, with what it had
///     │                       └──── obtained <──────┘ ↑
///     └───────────────── failed ──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Refreshed<T> {
    state: watch::Sender<State<T>>,
}

#[derive(Debug)]
enum State<T> {
    /// The first attempt is not over.
    Starting,
    /// The last attempt gave this.
    Fresh(Expiring<Arc<T>>),
    /// The last attempt failed; what an earlier one gave may still be good.
    Failing { why: Arc<Error>, last: Option<Expiring<Arc<T>>> },
}

impl<T> State<T> {
    /// What can be said at `now`; nothing where the next attempt has to be waited for.
    fn answer(&self, now: SystemTime) -> Option<Result<Arc<T>, Arc<Error>>> {
        match self {
            Self::Starting => None,
            Self::Fresh(held) => held.at(now).map(Ok),
            Self::Failing { why, last } => {
                let held = last.as_ref().and_then(|held| held.at(now));
                Some(held.ok_or_else(|| Arc::clone(why)))
            }
        }
    }
}

impl<T> Expiring<Arc<T>> {
    fn at(&self, now: SystemTime) -> Option<Arc<T>> {
        self.expires.is_none_or(|end| now < end).then(|| Arc::clone(&self.value))
    }
}

impl<T> Default for Refreshed<T> {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::Starting) }
    }
}

impl<T> Refreshed<T> {
    /// The credential. It waits only where there is none yet, or where the last one ended while its replacement is on
    /// its way; the caller bounds that with a clock of its own.
    ///
    /// # Errors
    /// Says why there is none, as long as that lasts.
    pub async fn get(&self, now: impl Fn() -> SystemTime) -> Result<Arc<T>, Arc<Error>> {
        if let Some(answer) = self.state.borrow().answer(now()) {
            return answer;
        }
        let mut state = self.state.subscribe();
        loop {
            if let Some(answer) = state.borrow_and_update().answer(now()) {
                return answer;
            }
            // The sender is part of `self`, so that waiting cannot fail.
            let _ = state.changed().await;
        }
    }

    /// Why the last attempt failed, if it did: a credential may be served all the same, until it ends.
    pub fn trouble(&self) -> Option<Arc<Error>> {
        match &*self.state.borrow() {
            State::Failing { why, .. } => Some(Arc::clone(why)),
            State::Starting | State::Fresh(_) => None,
        }
    }

    /// Obtains the credential again and again, for ever; to be run once, beside the exchanges. `what` names it in the
    /// log.
    pub async fn keep<F: Future<Output = Result<Expiring<T>, Error>>>(
        &self,
        what: &str,
        obtain: impl Fn() -> F,
        now: impl Fn() -> SystemTime,
    ) {
        let mut pause = PAUSE;
        loop {
            let outcome = obtain().await;
            let due = match self.renew(outcome, now()) {
                Ok(due) => {
                    if pause > PAUSE {
                        info!("{what}: there is a new credential again");
                    }
                    pause = PAUSE;
                    due
                }
                Err(why) => {
                    let due = now() + pause;
                    warn!("{what}: no new credential, next attempt in {} s: {why}", pause.as_secs());
                    pause = PAUSE_LIMIT.min(pause * 2);
                    due
                }
            };
            while let Ok(left) = due.duration_since(now())
                && !left.is_zero()
            {
                tokio::time::sleep(left.min(NAP)).await;
            }
        }
    }

    /// Takes in the outcome of an attempt. Says when the next one is due, or why this one failed.
    fn renew(&self, outcome: Result<Expiring<T>, Error>, now: SystemTime) -> Result<SystemTime, Arc<Error>> {
        match outcome.and_then(|fresh| Ok((due(&fresh, now)?, fresh))) {
            Ok((due, Expiring { value, expires })) => {
                self.state.send_replace(State::Fresh(Expiring { value: Arc::new(value), expires }));
                Ok(due)
            }
            Err(why) => {
                let why = Arc::new(why);
                self.state.send_modify(|state| {
                    let last = match std::mem::replace(state, State::Starting) {
                        State::Starting => None,
                        State::Fresh(held) => Some(held),
                        State::Failing { last, .. } => last,
                    };
                    *state = State::Failing { why: Arc::clone(&why), last };
                });
                Err(why)
            }
        }
    }
}

/// When a credential is to be replaced. However short its life, that is not at once.
fn due<T>(fresh: &Expiring<T>, now: SystemTime) -> Result<SystemTime, Error> {
    let Some(end) = fresh.expires else { return Ok(now + RECHECK) };
    match end.duration_since(now) {
        Ok(left) if !left.is_zero() => Ok((end - AHEAD.min(left / 2)).max(now + PAUSE)),
        _ => Err(Error::Ended),
    }
}

#[cfg(test)]
mod tests;
