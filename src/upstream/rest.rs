//! Which models of a credential are left alone because their rate or quota is used up: never another model of the same key,
//! and never the host, unless it is an engine of one's own, or asked without a key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::breaker::millis;
use super::endpoint::Endpoint;

/// The rests of a cluster's models, by their names there.
#[derive(Debug)]
pub struct Rests {
    /// Whose the rate is.
    bucket: Bucket,
    /// When the last of them is over, milliseconds of [`millis`]. Nearly always that is past, and nothing else is looked at.
    latest: AtomicU64,
    until: Mutex<HashMap<String, u64>>,
}

/// Whose a rate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bucket {
    /// The key's: of all endpoints together.
    Key,
    /// Each endpoint's: of engines of one's own, or where no key is sent, it is a node that is busy, and another may not be.
    Endpoint,
}

/// No more models are remembered: names come from clients where an alias has a star.
const MODELS: usize = 4096;

impl Rests {
    /// Nothing rests yet. `by_node` says whether a rate is a node's, not a key's.
    pub fn new(by_node: bool) -> Self {
        let bucket = if by_node { Bucket::Endpoint } else { Bucket::Key };
        Self { bucket, latest: AtomicU64::new(0), until: Mutex::default() }
    }

    /// The model is left alone until then, or longer if it was to be already, by what was said at that endpoint.
    pub fn until(&self, (model, endpoint): (&str, &Endpoint), at: Instant, now: Instant) {
        let (at, now) = (millis(at), millis(now));
        let name = self.name(model, endpoint);
        let mut until = self.lock();
        if until.len() >= MODELS {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MODELS || until.contains_key(&name) {
            let known = until.entry(name).or_default();
            *known = at.max(*known);
            self.latest.fetch_max(at, Relaxed);
        }
    }

    /// How much longer the model is left alone, wherever it could be asked.
    pub fn left<'m>(
        &self,
        model: &dyn Fn() -> Cow<'m, str>,
        endpoints: &[Arc<Endpoint>],
        now: Instant,
    ) -> Option<Duration> {
        let model = model();
        match self.bucket {
            Bucket::Key => self.of(&model, now),
            Bucket::Endpoint => {
                let of = |endpoint: &Arc<Endpoint>| self.of(&self.name(&model, endpoint), now);
                // Whichever is over first ends the rest; one that does not rest has ended it.
                endpoints.iter().map(of).min()?
            }
        }
    }

    /// Adds the endpoints at which the model is left alone while it is not at others.
    pub fn leave_out<'m>(
        &self,
        model: &dyn Fn() -> Cow<'m, str>,
        endpoints: &[Arc<Endpoint>],
        now: Instant,
        out: &mut impl Extend<Arc<Endpoint>>,
    ) {
        if self.bucket == Bucket::Key {
            return;
        }
        let model = model();
        let rests = |endpoint: &&Arc<Endpoint>| self.of(&self.name(&model, endpoint), now).is_some();
        out.extend(endpoints.iter().filter(rests).cloned());
    }

    /// Whether any model is left alone: nearly always none is.
    pub fn any(&self, now: Instant) -> bool {
        let latest = self.latest.load(Relaxed);
        latest > 0 && latest > millis(now)
    }

    fn of(&self, name: &str, now: Instant) -> Option<Duration> {
        let until = *self.lock().get(name)?;
        let left = until.saturating_sub(millis(now));
        (left > 0).then(|| Duration::from_millis(left))
    }

    fn name(&self, model: &str, endpoint: &Endpoint) -> String {
        match self.bucket {
            Bucket::Key => model.to_owned(),
            Bucket::Endpoint => format!("{model} {}", endpoint.name),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // A rest that a panic left unwritten is one that another refusal writes.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::tests::endpoint;
    use super::*;

    fn fleet() -> Vec<Arc<Endpoint>> {
        vec![endpoint("http://127.0.0.1:1", 1, 0), endpoint("http://127.0.0.1:2", 1, 0)]
    }

    fn left(rests: &Rests, model: &'static str, fleet: &[Arc<Endpoint>], now: Instant) -> Option<u64> {
        rests.left(&|| model.into(), fleet, now).map(|left| left.as_secs_f64().round() as u64)
    }

    #[test]
    fn a_model_of_a_key_rests_and_no_other_and_not_for_ever() {
        let (rests, now, fleet) = (Rests::new(false), Instant::now(), fleet());
        let after = |seconds| now + Duration::from_secs(seconds);
        let left = |model, now| left(&rests, model, &fleet, now);
        assert_eq!(left("a", now), None);
        rests.until(("a", &fleet[0]), after(10), now);
        rests.until(("a", &fleet[1]), after(2), now);
        rests.until(("b", &fleet[0]), after(5), now);
        assert_eq!((left("a", now), left("b", now), left("c", now)), (Some(10), Some(5), None));
        assert_eq!((left("a", after(6)), left("b", after(6))), (Some(4), None));
        assert_eq!(left("a", after(11)), None);
        let mut out = Vec::new();
        rests.leave_out(&|| "a".into(), &fleet, now, &mut out);
        assert!(out.is_empty(), "a key's rate is no endpoint's");
    }

    #[test]
    fn without_a_key_an_endpoint_rests_and_the_model_only_where_all_do() {
        let (rests, now, fleet) = (Rests::new(true), Instant::now(), fleet());
        rests.until(("a", &fleet[0]), now + Duration::from_secs(10), now);
        assert_eq!(left(&rests, "a", &fleet, now), None);
        let out = |model: &'static str| {
            let mut out = Vec::new();
            rests.leave_out(&|| model.into(), &fleet, now, &mut out);
            out.iter().map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!((out("a"), out("b")), (vec![fleet[0].name.clone()], vec![]));
        rests.until(("a", &fleet[1]), now + Duration::from_secs(4), now);
        assert_eq!(left(&rests, "a", &fleet, now), Some(4));
    }

    #[test]
    fn the_names_that_are_remembered_are_bounded() {
        let (rests, now, fleet) = (Rests::new(false), Instant::now(), fleet());
        for number in 0..2 * MODELS {
            rests.until((&format!("m{number}"), &fleet[0]), now + Duration::from_secs(10), now);
        }
        let known = || rests.lock().len();
        assert_eq!(known(), MODELS);
        let later = now + Duration::from_secs(20);
        rests.until(("new", &fleet[0]), later + Duration::from_secs(10), later);
        assert_eq!((known(), left(&rests, "new", &fleet, later)), (1, Some(10)));
    }
}
