//! How a cluster's breakers open and close: by what is reported of its attempts.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Cluster;
use crate::meter::metrics::METRICS;
use crate::upstream::balance::Trials;
use crate::upstream::breaker::key::Fault;
use crate::upstream::breaker::{Pass, Reason, millis};
use crate::upstream::endpoint::{Endpoint, InFlight, Outcome};
use crate::upstream::keys::KeyUse;
use crate::upstream::spill;

impl Cluster {
    /// An exchange was counted in.
    pub(super) fn entered(&self, mut flight: InFlight, now: Instant, trials: Trials) -> InFlight {
        flight.endpoint().breaker.advance(|| millis(now), &self.spec.breaker);
        // Whoever sees that the last has come back says so.
        if trials != Trials::None
            && let Ok(_changing) = self.changing.try_lock()
        {
            self.count_sick(millis(now));
        }
        if let Pass::Try { first: true, .. } = *flight.pass() {
            log::info!("cluster {}: {} is tried again", self.name(), flight.endpoint().name);
        }
        if self.key.is_accepted() {
            return flight;
        }
        let trial = self.key.enter(millis(now));
        if trial.is_some() {
            log::info!("cluster {}: its credential is tried again", self.name());
        }
        flight.trying(trial)
    }

    /// Notes how an attempt ended. Only the first word of each counts.
    pub fn report(&self, flight: &mut InFlight, outcome: Outcome, now: impl Fn() -> Instant) {
        if !flight.judge(outcome) {
            return;
        }
        match outcome {
            Outcome::Neutral => {}
            Outcome::Good => {
                self.accepted(flight, &now);
                self.weigh(true, &now);
                self.succeeded(flight, now);
            }
            Outcome::Bad => {
                self.weigh(false, &now);
                self.failed(flight, now());
            }
        }
    }

    /// Notes the outcome for the whole cluster, where its requests may go elsewhere.
    fn weigh(&self, good: bool, now: &impl Fn() -> Instant) {
        if let Some(spill) = &self.spill {
            spill.outcome(good, millis(now()));
        }
    }

    /// The share of its endpoints that take no new exchanges.
    pub(super) fn sick_share(&self, now: u64) -> f64 {
        let endpoints = self.endpoints.load();
        let sick = endpoints.iter().filter(|endpoint| !endpoint.available(now, &self.spec.breaker)).count();
        sick as f64 / endpoints.len().max(1) as f64
    }

    /// Says that what would wait goes elsewhere, or waits again.
    pub(super) fn tell_wait(&self, spares: bool) {
        if spares {
            METRICS.admission.spills.with_label_values(&[self.name(), "wait"]).inc();
        }
        let what = if spares { "what would wait goes elsewhere" } else { "what must wait does so again" };
        log::info!("cluster {}: {what}", self.name());
    }

    /// Says that requests go elsewhere, or come back.
    pub(super) fn tell_spill(&self, state: spill::State) {
        match state {
            spill::State::Here => log::info!("cluster {}: its requests are back", self.name()),
            spill::State::Trying { .. } => {
                log::info!("cluster {}: a tenth of its requests try it", self.name())
            }
            spill::State::Away { why, .. } => {
                METRICS.admission.spills.with_label_values(&[self.name(), why.name()]).inc();
                log::warn!("cluster {}: its requests go elsewhere for a while: {}", self.name(), why.name());
            }
        }
    }

    /// Notes that an attempt goes well so far: what is tried need not wait for the end of a long stream.
    pub fn goes_well(&self, flight: &mut InFlight, now: impl Fn() -> Instant) {
        self.accepted(flight, &now);
        if let Pass::Try { .. } = *flight.pass() {
            self.succeeded(flight, now);
        }
    }

    /// The credential was accepted, if that was in question.
    fn accepted(&self, flight: &mut InFlight, now: &impl Fn() -> Instant) {
        if let Some(trial) = flight.take_trial()
            && trial.passed(millis(now()))
        {
            log::info!("cluster {}: {} is accepted again", self.name(), self.credential(flight.key()));
        }
    }

    /// What its credential is called in the log.
    fn credential(&self, used: Option<&KeyUse>) -> String {
        let named = used.filter(|_| self.choice().is_some());
        named.map_or_else(|| "its credential".to_owned(), |used| format!("its key {}", used.key.name))
    }

    fn succeeded(&self, flight: &mut InFlight, now: impl Fn() -> Instant) {
        let mut pass = *flight.pass();
        let endpoint = flight.endpoint();
        if endpoint.breaker.succeeded(&mut pass, &self.spec.breaker, || millis(now())) {
            let _changing = self.changing();
            self.count_sick(millis(now()));
            log::info!("cluster {}: {} is well again", self.name(), endpoint.name);
        }
        *flight.pass() = pass;
    }

    /// The credential was refused, the one that was used of several. What was refused with a secret that has been replaced
    /// since says nothing of the one after.
    pub fn refused(&self, fault: Fault, used: Option<&KeyUse>, now: Instant) {
        if used.is_some_and(KeyUse::is_outdated) {
            return;
        }
        let breaker = used.map_or(&self.key, |used| &used.key.breaker);
        let Some(time) = breaker.refused(&self.spec.breaker, millis(now), fastrand::f64()) else { return };
        METRICS.breakers.trips.with_label_values(&[self.name(), fault.name()]).inc();
        let seconds = time.as_secs_f64();
        log::error!(
            "cluster {}: {} was refused ({}) and is left alone for {seconds:.1} s where another serves",
            self.name(),
            self.credential(used),
            fault.name()
        );
    }

    fn failed(&self, flight: &mut InFlight, now: Instant) {
        let (now, pass) = (millis(now), *flight.pass());
        let endpoint = flight.endpoint();
        let Some(reason) = endpoint.breaker.failed(pass, &self.spec.breaker, now) else { return };
        let changing = self.changing();
        if reason != Reason::Try && !self.may_open(now) {
            return;
        }
        let Some(time) = endpoint.breaker.open(pass, &self.spec.breaker, now, fastrand::f64()) else {
            return;
        };
        self.count_sick(now);
        drop(changing);
        self.tell_opened(endpoint, reason, time);
    }

    fn tell_opened(&self, endpoint: &Endpoint, reason: Reason, time: Duration) {
        METRICS.breakers.trips.with_label_values(&[self.name(), reason.name()]).inc();
        let why = match reason {
            Reason::Row => "too many failures in a row",
            Reason::Rate => "too large a share of failures",
            Reason::Try => "it failed again when it was tried",
        };
        let seconds = time.as_secs_f64();
        log::warn!("cluster {}: {} is left alone for {seconds:.1} s: {why}", self.name(), endpoint.name);
    }

    /// Whether one endpoint more may be left alone without passing the largest share allowed. What drains is not there
    /// to serve, and its failures are no reason to spare others. Only under the lock.
    fn may_open(&self, now: u64) -> bool {
        let all = self.endpoints.load().iter().filter(|endpoint| !endpoint.is_draining()).count();
        (self.count_sick(now) + 1) as f64 <= all as f64 * self.spec.breaker.max_share
    }

    /// Counts the endpoints that are left alone or tried, and do not drain. Only under the lock.
    pub(super) fn count_sick(&self, now: u64) -> usize {
        let endpoints = self.endpoints.load();
        let is_settled = |endpoint: &Arc<Endpoint>| endpoint.breaker.is_settled(now, &self.spec.breaker);
        self.unsettled.store(!endpoints.iter().all(is_settled), Relaxed);
        let is_sick = |endpoint: &&Arc<Endpoint>| !endpoint.breaker.is_closed() && !endpoint.is_draining();
        endpoints.iter().filter(is_sick).count()
    }

    /// Waits for the turn to change breakers.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        // There is nothing behind the lock that a panic could have left half done.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
