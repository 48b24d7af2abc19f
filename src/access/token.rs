//! Tokens that an identity provider has signed (JWT, RFC 7519, as RFC 8725 wants them treated).
//!
//! A signature is checked once: a token that was found good is known by its hash until it ends, or the provider's keys
//! change. The keys are fetched ahead by whoever keeps the issuer; nothing here waits.

pub mod claims;
pub mod jwks;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use super::grants::{Grants, Group, Principal};
use super::key::Hash;
use claims::{Claims, Groups, Places};
use jwks::{Algorithm, Keys};

/// The largest token that is looked at, bytes.
pub const LARGEST: usize = 8 << 10;

/// Why a token is not good. What the client is told is less than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no token, or one that is encrypted or asks for what is not understood.
    Malformed,
    /// It says that it is signed in a way that is not allowed, or that its key is not for.
    Algorithm,
    /// Nobody whose keys are known has issued it.
    Issuer,
    /// It is signed with a key that the issuer does not have, as far as is known.
    UnknownKey,
    /// The signature is not the key's.
    Signature,
    /// It has ended, or does not say when it will.
    Expired,
    /// It is not good yet.
    Early,
    /// It is for somebody else.
    Audience,
    /// It does not say who bears it.
    Name,
    /// It lacks a scope.
    Scope,
    /// It names no team or organisation that is known.
    Group,
}

impl Fault {
    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Issuer => "token_issuer",
            Self::UnknownKey => "token_key",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::Early => "token_early",
            Self::Audience => "token_audience",
            Self::Name => "token_name",
            Self::Scope => "token_scope",
            Self::Group => "token_group",
        }
    }
}

/// What is configured of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerSpec {
    /// Its name in logs, metrics and the names of principals.
    pub name: Arc<str>,
    /// What its tokens say in `iss`.
    pub issuer: String,
    /// Where its keys are; nothing where its own discovery document says it.
    pub jwks: Option<String>,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// All of these must be in `scope` or `scp`.
    pub scopes: Vec<String>,
    /// How far its clock may be off.
    pub skew: Duration,
    /// How often its keys are fetched.
    pub refresh: Duration,
    /// The least time between two fetches, whoever wants one.
    pub least: Duration,
    /// Where the claims are that matter.
    pub places: Places,
    /// The groups that a token may name.
    pub groups: Groups,
    /// Whose its bearers are that name none.
    pub group: Option<Arc<Group>>,
    /// What its bearers are permitted.
    pub grants: Grants,
}

/// An identity provider, its keys, and its tokens that were found good.
#[derive(Debug)]
pub struct Issuer {
    /// What is configured of it.
    pub spec: IssuerSpec,
    keys: ArcSwap<Keys>,
    /// Goes up with every change of the keys: what was verified with others is verified anew.
    generation: AtomicU64,
    good: Good,
    /// Somebody wants the keys fetched.
    wanted: Notify,
    /// Goes up with every fetch that has ended, and says when it began.
    fetched: watch::Sender<Option<SystemTime>>,
    /// Whether the last fetch failed.
    away: AtomicBool,
}

impl Issuer {
    /// An issuer whose keys are not known yet.
    pub fn new(spec: IssuerSpec) -> Self {
        Self {
            spec,
            keys: ArcSwap::default(),
            generation: AtomicU64::new(0),
            good: Good::default(),
            wanted: Notify::new(),
            fetched: watch::Sender::new(None),
            away: AtomicBool::new(false),
        }
    }

    /// Takes over a set of keys; one without any changes nothing. Says how many there are.
    ///
    /// # Errors
    /// Says why it cannot be used.
    pub fn learn(&self, document: &[u8]) -> Result<usize, String> {
        let keys = Keys::read(document)?;
        let count = keys.count();
        if *self.keys.load_full() != keys {
            self.keys.store(Arc::new(keys));
            self.generation.fetch_add(1, Relaxed);
        }
        Ok(count)
    }

    /// A fetch that began then has ended, well or not.
    pub fn note_fetch(&self, began: SystemTime, well: bool) {
        self.away.store(!well, Relaxed);
        self.fetched.send_replace(Some(began));
    }

    /// Whether it could not be asked for its keys when that was last tried.
    pub fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    /// Waits until somebody wants the keys fetched.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Has the keys fetched again, unless that was just done, and waits for it no longer than `limit`. Says whether it
    /// was.
    pub async fn refreshed(&self, now: SystemTime, limit: Duration) -> bool {
        let mut fetched = self.fetched.subscribe();
        let just = |began: SystemTime| now.duration_since(began).is_ok_and(|gone| gone < self.spec.least);
        if fetched.borrow_and_update().is_some_and(just) {
            return false;
        }
        self.wanted.notify_one();
        matches!(tokio::time::timeout(limit, fetched.changed()).await, Ok(Ok(())))
    }

    /// The bearer of a token that was found good before and still is.
    pub(super) fn known(&self, hash: &Hash, now: SystemTime) -> Option<Arc<Principal>> {
        self.good.find(hash, self.generation.load(Relaxed), now)
    }

    /// The bearer of a token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(
        &self,
        parts: &Parts<'_>,
        hash: &Hash,
        now: SystemTime,
    ) -> Result<Arc<Principal>, Fault> {
        // Before the keys: what is verified with old ones must not count as verified with new ones.
        let generation = self.generation.load(Relaxed);
        let algorithm = Algorithm::named(&parts.head.alg).ok_or(Fault::Algorithm)?;
        if !self.spec.algorithms.contains(&algorithm) {
            return Err(Fault::Algorithm);
        }
        let keys = self.keys.load();
        let id = parts.head.kid.as_deref();
        if !keys.has(id) {
            return Err(Fault::UnknownKey);
        }
        let mut fitting = keys.fitting(id, algorithm).peekable();
        fitting.peek().ok_or(Fault::Algorithm)?;
        if !fitting.any(|key| key.verifies(algorithm, parts.signed, &parts.signature)) {
            return Err(Fault::Signature);
        }
        let ends = self.check_times(&parts.claims, now)?;
        self.check_audience(&parts.claims)?;
        let principal = Arc::new(claims::principal(&self.spec, &parts.claims)?);
        self.good.keep(*hash, Kept { principal: Arc::clone(&principal), ends, generation }, now);
        Ok(principal)
    }

    /// When the token ends, clocks that differ allowed for.
    fn check_times(&self, claims: &Claims, now: SystemTime) -> Result<SystemTime, Fault> {
        let time = |name: &str| claims.get(name).map(|value| value.as_f64().and_then(moment));
        let skew = self.spec.skew;
        let ends = time("exp").flatten().and_then(|at| at.checked_add(skew)).ok_or(Fault::Expired)?;
        if ends <= now {
            return Err(Fault::Expired);
        }
        let from = now.checked_add(skew).ok_or(Fault::Early)?;
        for name in ["nbf", "iat"] {
            match time(name) {
                Some(Some(at)) if at <= from => {}
                None => {}
                Some(_) => return Err(Fault::Early),
            }
        }
        Ok(ends)
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Fault> {
        let ours = |name: &str| self.spec.audiences.iter().any(|audience| audience == name);
        let meant = match claims.get("aud") {
            Some(serde_json::Value::String(name)) => ours(name),
            Some(serde_json::Value::Array(names)) => {
                names.iter().filter_map(serde_json::Value::as_str).any(ours)
            }
            _ => false,
        };
        if meant { Ok(()) } else { Err(Fault::Audience) }
    }
}

/// A time as a token has it: seconds since 1970, fractions allowed.
fn moment(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A token taken apart, and not believed yet.
pub(super) struct Parts<'a> {
    head: Head,
    claims: Claims,
    /// What the signature is of.
    signed: &'a [u8],
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What must be understood, which nothing is (RFC 7515 §4.1.11).
    crit: Option<serde_json::Value>,
    /// Where a claim set is a token itself.
    cty: Option<String>,
}

/// Whether something looks like a token rather than a key: three parts, the first of which begins an object.
pub(super) fn looks_like_token(text: &[u8]) -> bool {
    text.starts_with(b"ey") && text.iter().filter(|byte| **byte == b'.').count() == 2
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Fault::Malformed`].
    pub(super) fn of(token: &'a [u8]) -> Result<Self, Fault> {
        Self::read(token).ok_or(Fault::Malformed)
    }

    fn read(token: &'a [u8]) -> Option<Self> {
        let at = token.iter().rposition(|byte| *byte == b'.')?;
        let (signed, signature) = (token.get(..at)?, token.get(at + 1..)?);
        let middle = signed.iter().position(|byte| *byte == b'.')?;
        let (head, claims) = (signed.get(..middle)?, signed.get(middle + 1..)?);
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
        let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
        if head.crit.is_some() || head.cty.is_some() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        Some(Self { head, claims, signed, signature: decode(signature)? })
    }

    /// Who says to have issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

/// How many tokens are kept in each part of what is known.
const KEPT: usize = 1024;
/// How many parts there are, each with a lock of its own.
const PARTS: usize = 16;

/// Tokens that were found good.
#[derive(Debug, Default)]
struct Good {
    parts: [Mutex<HashMap<Hash, Kept>>; PARTS],
}

#[derive(Debug)]
struct Kept {
    principal: Arc<Principal>,
    ends: SystemTime,
    generation: u64,
}

impl Good {
    fn part(&self, hash: &Hash) -> Option<MutexGuard<'_, HashMap<Hash, Kept>>> {
        let [first, ..] = hash.0;
        let part = self.parts.get(usize::from(first) % PARTS)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, hash: &Hash, generation: u64, now: SystemTime) -> Option<Arc<Principal>> {
        let part = self.part(hash)?;
        let kept = part.get(hash).filter(|kept| kept.generation == generation && now < kept.ends)?;
        Some(Arc::clone(&kept.principal))
    }

    fn keep(&self, hash: Hash, kept: Kept, now: SystemTime) {
        let Some(mut part) = self.part(&hash) else { return };
        if part.len() >= KEPT {
            part.retain(|_, other| other.generation == kept.generation && now < other.ends);
        }
        if part.len() >= KEPT {
            // Any other: it is verified again when it comes again.
            if let Some(other) = part.keys().next().copied() {
                part.remove(&other);
            }
        }
        part.insert(hash, kept);
    }
}
