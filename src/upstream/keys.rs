//! The keys of a cluster: several, of which each attempt takes one, or one that changes while it is used.
//!
//! Which is taken: not one that was refused and is set aside, rests for the model after a 429, or was tried by this exchange
//! already. Of the others not one whose provider has just said that too little is left of its rates (`levels`), unless
//! that is true of all; then the one of which most is left. Among those with room a conversation has its own by a
//! rendezvous hash over the configured weights: every node finds the same one without asking anybody, and a key that leaves
//! or comes back moves its own share and no other. What is no conversation is drawn by weight and by what is left.
//!
//! A cluster whose one key never changes has no pool: its key is one of its headers.

mod levels;
mod loan;
mod renew;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use prometheus::IntCounter;
use zeroize::Zeroizing;

use super::breaker::key::{Key, Trial};
use super::breaker::millis;
use crate::dialect::quota::{Measure, Quota};
use crate::limit::Bound;
use crate::meter::metrics::METRICS;
use crate::provider::credential::vault::{self, Vault};
use crate::secret::Secret;
use levels::{Level, Levels, Need};
use loan::Booked;
pub use loan::Loan;
pub use renew::{first_look, keep};

/// What is configured of a pool.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// The header that bears a key.
    pub header: HeaderName,
    /// What stands before the key in it.
    pub scheme: &'static str,
    /// At least one.
    pub keys: Vec<KeySpec>,
}

/// What is configured of a key.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// Its name in configuration, logs and metric labels. It says nothing of the secret.
    pub name: String,
    /// Its share of the requests relative to its neighbours; 0 takes none.
    pub weight: u32,
    /// Where its secret is.
    pub origin: Origin,
    /// The secret to begin with; nothing where it is still to be fetched.
    pub secret: Option<Secret>,
    /// Since when it is what it is, as far as that can be told.
    pub since: Option<SystemTime>,
    /// How old it may get before it should be another.
    pub rotate_every: Option<Duration>,
    /// How much of it may be used.
    pub limits: Arc<Bound>,
}

/// Where a secret is.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Where it is read once, when the process starts.
    Fixed,
    /// In a file that is looked at again and again.
    File(PathBuf),
    /// In a Vault, which is asked again and again.
    Vault(Arc<Vault>, vault::Place),
}

/// A key of a pool.
#[derive(Debug)]
pub struct ProviderKey {
    /// Its configured name.
    pub name: String,
    /// Its share relative to its neighbours.
    pub weight: u32,
    /// Whether it is accepted.
    pub breaker: Arc<Key>,
    /// How old it may get before it should be another.
    pub rotate_every: Option<Duration>,
    /// How much of it may be used.
    pub limits: Arc<Bound>,
    /// Attempts that were made with it.
    attempts: IntCounter,
    index: usize,
    /// What it draws with.
    seed: u64,
    origin: Origin,
    bearer: ArcSwapOption<Bearer>,
    /// Whether its origin could be read when it was last looked at.
    readable: AtomicBool,
}

/// A secret, ready to be sent.
#[derive(Debug)]
struct Bearer {
    value: HeaderValue,
    /// Since when it is the key's.
    since: SystemTime,
}

/// The keys of a cluster.
#[derive(Debug)]
pub struct Pool {
    cluster: String,
    header: HeaderName,
    scheme: &'static str,
    keys: Vec<Arc<ProviderKey>>,
    levels: Mutex<Levels>,
    /// When the last rest is over, milliseconds of [`millis`]. Nearly always that is past, and nothing else is looked at.
    latest: AtomicU64,
}

/// What is known of a request before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The same number for all requests of a conversation; nothing for what is none.
    pub conversation: Option<u64>,
    /// About how many tokens its prompt has.
    pub input: u64,
    /// How many tokens its reply may have, where that is said.
    pub output: Option<u64>,
}

/// The tokens of a reply of which nothing is said.
const REPLY: u64 = 256;
/// The most tokens that a reply will likely have: bounds are mostly set far beyond what comes.
const LIKELY: u64 = 1024;

impl From<Call> for Need {
    fn from(call: Call) -> Self {
        let output = call.output.unwrap_or(REPLY);
        Self { requests: 1, input: call.input, output, likely: output.min(LIKELY) }
    }
}

/// Which keys will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that are accepted, or due to be tried.
    Accepted,
    /// Those that were refused too, where there is no other.
    Any,
}

/// What is wanted of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The model, as it is called there.
    pub model: &'a str,
    /// The request.
    pub call: Call,
    /// The one key that can be asked, where it is no matter of choice.
    pub only: Option<&'a str>,
    /// Keys that failed this exchange already.
    pub tried: &'a [Arc<ProviderKey>],
    /// Whether one that was refused will do.
    pub trust: Trust,
}

/// A key with the secret that it had when it was taken.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// The key.
    pub key: Arc<ProviderKey>,
    bearer: Arc<Bearer>,
}

impl KeyUse {
    /// The secret as it is sent.
    pub fn value(&self) -> &HeaderValue {
        &self.bearer.value
    }

    /// Whether the key has had another secret since.
    pub fn is_outdated(&self) -> bool {
        self.key.bearer.load().as_ref().is_none_or(|now| !Arc::ptr_eq(now, &self.bearer))
    }
}

impl ProviderKey {
    /// Whether there is a secret.
    pub fn is_known(&self) -> bool {
        self.bearer.load().is_some()
    }

    /// Whether its origin could be read when it was last looked at.
    pub fn is_readable(&self) -> bool {
        self.readable.load(Relaxed)
    }

    /// The authorities that are trusted where its secret is.
    pub fn authority(&self) -> Option<&str> {
        match &self.origin {
            Origin::Vault(vault, _) => vault.ca.as_deref(),
            Origin::Fixed | Origin::File(_) => None,
        }
    }

    /// How old its secret is.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let since = self.bearer.load().as_ref()?.since;
        Some(now.duration_since(since).unwrap_or_default())
    }

    /// Whether its secret should have been replaced.
    pub fn is_overdue(&self, now: SystemTime) -> bool {
        let age = self.age(now);
        self.rotate_every.zip(age).is_some_and(|(every, age)| age > every)
    }

    /// Whether it is one of these.
    fn is_among(&self, keys: &[Arc<Self>]) -> bool {
        keys.iter().any(|key| std::ptr::eq(&**key, self))
    }

    /// Its draw for a number that is evenly drawn from 0 to 1; the lowest wins. As in [`crate::route::alias`].
    fn draw(&self, uniform: f64, share: f64) -> f64 {
        -uniform.max(f64::MIN_POSITIVE).ln() / (f64::from(self.weight) * share)
    }
}

/// A number as good as any for two, from 0 to 1; the same on every machine (the finaliser of SplitMix64).
fn uniform(one: u64, other: u64) -> f64 {
    let mut mixed = one ^ other.rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
}

/// A number for a name: FNV-1a.
fn seed(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The least that a key's share of the requests shrinks to while there is room.
const LEAST: f64 = 0.05;

impl Pool {
    /// The pool of that cluster. `lone` is the breaker of the cluster's credential: a pool's only key is just that.
    pub fn new(cluster: &str, spec: &PoolSpec, lone: &Arc<Key>, now: SystemTime) -> Self {
        let is_one = spec.keys.len() == 1;
        let key = |(index, key): (usize, &KeySpec)| {
            let bearer = key.secret.as_ref().and_then(|secret| bearer(spec.scheme, secret));
            let bearer = bearer.map(|value| Arc::new(Bearer { value, since: key.since.unwrap_or(now) }));
            Arc::new(ProviderKey {
                name: key.name.clone(),
                weight: key.weight,
                breaker: if is_one { Arc::clone(lone) } else { Arc::default() },
                rotate_every: key.rotate_every,
                limits: Arc::clone(&key.limits),
                attempts: METRICS.keys.attempts.with_label_values(&[cluster, key.name.as_str()]),
                index,
                seed: seed(&key.name),
                origin: key.origin.clone(),
                bearer: ArcSwapOption::new(bearer),
                readable: AtomicBool::new(true),
            })
        };
        Self {
            cluster: cluster.to_owned(),
            header: spec.header.clone(),
            scheme: spec.scheme,
            keys: spec.keys.iter().enumerate().map(key).collect(),
            levels: Mutex::new(Levels::new(spec.keys.len())),
            latest: AtomicU64::new(0),
        }
    }

    /// Its keys.
    pub fn keys(&self) -> &[Arc<ProviderKey>] {
        &self.keys
    }

    /// The header that bears a key.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whether there is a choice.
    pub fn is_several(&self) -> bool {
        self.keys.len() > 1
    }

    /// Whether any key is accepted, or due to be tried.
    pub fn has_key(&self, now: u64) -> bool {
        self.keys.iter().any(|key| key.weight > 0 && key.is_known() && key.breaker.admits(now))
    }

    /// Whether any key is accepted.
    pub fn is_well(&self) -> bool {
        self.keys.iter().any(|key| key.weight > 0 && key.is_known() && key.breaker.is_accepted())
    }

    /// A secret to ask for something that is no exchange: a health check.
    pub fn any(&self) -> Option<HeaderValue> {
        let well = self.keys.iter().find(|key| key.is_known() && key.breaker.is_accepted());
        let key = well.or_else(|| self.keys.iter().find(|key| key.is_known()))?;
        key.bearer.load().as_ref().map(|bearer| bearer.value.clone())
    }

    /// Takes a key for an attempt; nothing where there is none that will do.
    pub fn lend(self: &Arc<Self>, wanted: &Wanted<'_>, now: Instant) -> Option<Loan> {
        let now = millis(now);
        let (key, booked) = if self.is_several() {
            let need = Need::from(wanted.call);
            let mut levels = self.levels();
            let mut of = levels.of(wanted.model, now);
            let known = of.as_ref().map_or(&[][..], |(_, known)| &**known);
            let key = self.choose(known, need, wanted, now)?;
            if let Some(level) = of.as_mut().and_then(|(_, known)| known.get_mut(key.index)) {
                level.book(need);
            }
            (key, of.map(|(model, _)| Booked { model, need, sent: now }))
        } else {
            let only = self.keys.first().filter(|key| !key.is_among(wanted.tried));
            (only.filter(|key| is_only(key, wanted.only))?, None)
        };
        let bearer = key.bearer.load_full();
        // From here on the loan gives back what is booked, also where there is no secret.
        let loan = bearer.map(|bearer| KeyUse { key: Arc::clone(key), bearer });
        let Some(used) = loan else {
            self.settle(key.index, booked.as_ref());
            return None;
        };
        key.attempts.inc();
        let trial = self.trial(key, now);
        Some(Loan { pool: Arc::clone(self), used, trial, booked })
    }

    /// Tries one of several keys that was refused. The only key of a cluster is tried with its endpoint.
    fn trial(&self, key: &ProviderKey, now: u64) -> Option<Trial> {
        if !self.is_several() || key.breaker.is_accepted() {
            return None;
        }
        let trial = key.breaker.enter(now);
        if trial.is_some() {
            log::info!("cluster {}: its key {} is tried again", self.cluster, key.name);
        }
        trial
    }

    /// The best key by what is known of each; nothing is known where `known` is shorter.
    fn choose(
        &self,
        known: &[Level],
        need: Need,
        wanted: &Wanted<'_>,
        now: u64,
    ) -> Option<&Arc<ProviderKey>> {
        let blank = Level::default();
        let usable = |key: &&Arc<ProviderKey>| {
            let trusted = wanted.trust == Trust::Any || key.breaker.admits(now);
            let rests = known.get(key.index).is_some_and(|level| level.rest(now).is_some());
            key.weight > 0
                && trusted
                && !rests
                && key.is_known()
                && !key.is_among(wanted.tried)
                && is_only(key, wanted.only)
        };
        let rank = |key: &Arc<ProviderKey>| {
            let room = known.get(key.index).unwrap_or(&blank).room(need, now);
            if room < 0.0 {
                return (true, -room);
            }
            let draw = match wanted.call.conversation {
                Some(conversation) => key.draw(uniform(conversation, key.seed), 1.0),
                None => key.draw(fastrand::f64(), room.max(LEAST)),
            };
            (false, draw)
        };
        let ranked = self.keys.iter().filter(usable).map(|key| (rank(key), key));
        let best = ranked.min_by(|((a_low, a), _), ((b_low, b), _)| a_low.cmp(b_low).then(a.total_cmp(b)));
        best.map(|(_, key)| key)
    }

    /// Whether any model is left alone with any key: nearly always none is.
    pub fn any_rests(&self, now: Instant) -> bool {
        let latest = self.latest.load(Relaxed);
        latest > 0 && latest > millis(now)
    }

    /// How much longer a model is left alone, whichever of the keys that are accepted it is asked with; with `only`, of
    /// that key.
    pub fn rests(&self, model: &str, only: Option<&str>, now: Instant) -> Option<Duration> {
        let now = millis(now);
        let mut levels = self.levels();
        let usable = |key: &&Arc<ProviderKey>| {
            key.weight > 0 && key.is_known() && key.breaker.admits(now) && is_only(key, only)
        };
        let left = |key: &Arc<ProviderKey>| {
            let level = levels.known(model, key.index);
            level.and_then(|level| level.rest(now)).map(Duration::from_millis)
        };
        // Whichever is over first ends the rest; one that does not rest has ended it.
        self.keys.iter().filter(usable).map(left).min().flatten()
    }

    /// A model is left alone with that key until then.
    pub fn rest_until(&self, (model, key): (&str, &ProviderKey), at: Instant, now: Instant) {
        let at = millis(at);
        let mut levels = self.levels();
        let Some((_, known)) = levels.of(model, millis(now)) else { return };
        if let Some(level) = known.get_mut(key.index) {
            level.rest_until(at);
            self.latest.fetch_max(at, Relaxed);
        }
    }

    /// Gives a key a new secret, where it is one; attempts under way keep theirs. Says whether it is another than before.
    ///
    /// # Errors
    /// Why it cannot be a secret.
    pub fn renew(
        &self,
        key: &ProviderKey,
        secret: &Secret,
        since: SystemTime,
        now: Instant,
    ) -> Result<bool, &'static str> {
        let text = secret.expose();
        if secret.is_empty() {
            return Err("it is empty");
        }
        let value = bearer(self.scheme, secret).filter(|_| text.trim() == text);
        let value = value.ok_or("it holds characters that no key has")?;
        let before = key.bearer.load();
        if before.as_ref().is_some_and(|before| before.value == value) {
            return Ok(false);
        }
        let is_first = before.is_none();
        key.bearer.store(Some(Arc::new(Bearer { value, since })));
        self.levels().forget(key.index);
        let was_aside = key.breaker.renewed(millis(now));
        if !is_first {
            METRICS.keys.rotations.with_label_values(&[self.cluster.as_str(), key.name.as_str()]).inc();
        }
        let aside = if was_aside { ", and it is used again" } else { "" };
        log::info!("cluster {}: its key {} has a new secret{aside}", self.cluster, key.name);
        Ok(true)
    }

    fn settle(&self, key: usize, booked: Option<&Booked>) {
        let Some(Booked { model, need, .. }) = booked else { return };
        if let Some(level) = self.levels().known(model, key) {
            level.settle(*need);
        }
    }

    /// What is known of a key's rates, for those who run the edge: for each model, how much longer it is left alone, and
    /// what was last said of each rate.
    pub fn known(&self, key: &ProviderKey, now: Instant) -> Vec<Known> {
        let now = millis(now);
        let levels = self.levels();
        let known = levels.by_model(key.index).map(|(model, level)| Known {
            model: model.to_owned(),
            in_flight: level.open.requests,
            rests: level.rest(now).map(Duration::from_millis),
            rates: Measure::ALL
                .into_iter()
                .filter_map(|of| Some((of, level.reading(of, now)?)))
                .map(|(of, reading)| Quota {
                    of,
                    limit: Some(reading.limit),
                    remaining: Some(reading.left),
                    reset: Some(Duration::from_millis(reading.until.saturating_sub(now))),
                })
                .collect(),
        });
        known
            .filter(|known| known.in_flight > 0 || known.rests.is_some() || !known.rates.is_empty())
            .collect()
    }

    fn levels(&self) -> MutexGuard<'_, Levels> {
        // What a panic left half counted fades with its window.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a key for a model.
#[derive(Clone, Debug)]
pub struct Known {
    /// The model, as it is called there.
    pub model: String,
    /// Attempts that were not answered yet.
    pub in_flight: u64,
    /// How much longer it is left alone.
    pub rests: Option<Duration>,
    /// What was last said of its rates.
    pub rates: Vec<Quota>,
}

fn is_only(key: &ProviderKey, only: Option<&str>) -> bool {
    only.is_none_or(|only| key.name == only)
}

/// What a secret is sent as; nothing where it cannot be sent.
pub fn bearer(scheme: &str, secret: &Secret) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme}{}", secret.expose()));
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
