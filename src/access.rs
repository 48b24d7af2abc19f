//! Who is calling, and what they may do: a virtual key, a signed token or a certificate denotes a principal.
//!
//! ```text
//! presented ─ one key or token ─┬─ a token: its issuer ──┬─ principal ─ grants of it, its team, its organisation
//!             none: certificate │  a key: the table      │
//!             several: refused  └─ neither: a failure ───┴─ the shield counts it
//! ```
//!
//! Keys come from the configuration, a file that is watched, and a store that operators write through the admin listener;
//! only their hashes are kept. All that is wrong with a key that is not taken has one answer: who guesses does not learn
//! whether it was ever good. The reason is in the log.

pub mod certificate;
pub mod grants;
pub mod key;
pub mod presented;
pub mod shield;
pub mod table;
pub mod token;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;

use certificate::{Names, Rule};
use key::Hash;
use presented::{Presented, presented};
use shield::{Bound, Shield};
use table::{Keyed, Origin, Spent, Table};
use token::{Fault, Issuer, Parts};

pub use grants::{Grants, Principal};
pub use presented::KEY_HEADERS;

/// Reads the text of a file with keys as principals: one that is watched, or the store. The path is for messages.
pub type Reader = dyn Fn(&str, Origin, &Path) -> Result<Vec<Keyed>, String> + Send + Sync;

/// Whether callers without a credential are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// They are.
    Always,
    /// They are not.
    Never,
    /// They are until there is the first key. Deleting the last opens nothing.
    UntilKeys,
}

/// What is configured of who may call.
pub struct AccessSpec {
    /// The principals of the configuration.
    pub keys: Vec<Keyed>,
    /// Identity providers.
    pub issuers: Vec<Arc<Issuer>>,
    /// Whose certificates are whose; the first that fits counts.
    pub certificates: Vec<Rule>,
    /// Whether callers without a credential are served.
    pub anonymous: Anonymous,
    /// How many failures an address may have.
    pub bound: Option<Bound>,
    /// The file of keys that is watched.
    pub file: Option<PathBuf>,
    /// The file in which the admin listener keeps keys.
    pub store: Option<PathBuf>,
    /// How both are read.
    pub reader: Box<Reader>,
}

/// Who may call.
pub struct Access {
    spec: AccessSpec,
    table: ArcSwap<Table>,
    sources: Mutex<[Vec<Keyed>; 3]>,
    anonymous: Arc<Principal>,
    /// Whether callers without a credential are served.
    open: AtomicBool,
    shield: Shield,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("table", &self.table.load()).finish_non_exhaustive()
    }
}

/// What a request shows of its caller.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query, where a key may stand in it.
    pub query: Option<&'a str>,
    /// What the certificate of its connection says.
    pub certificate: Option<&'a Names>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// Why there is no principal.
#[derive(Debug)]
pub enum Denied {
    /// No credential was sent.
    Missing,
    /// Several were sent that differ.
    Several,
    /// A signature was sent that only AWS can verify.
    Signed,
    /// What was sent is not taken. The client is not told why.
    Wrong(Wrong),
    /// The address has failed too often; it may try again after so long.
    Shielded(Duration),
    /// The token may be good, and its issuer cannot be asked for the key that it is signed with.
    Away,
    /// The token is good and does not permit this.
    Unfit(Fault),
    /// The token is signed with a key that its issuer may have by now: it has to be asked.
    Later(Arc<Issuer>, Fault),
}

/// Why a credential is not taken, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It denotes nobody.
    Unknown,
    /// It begins like a key of ours and its checksum is wrong.
    Mistyped,
    /// It is too long to be looked at.
    Oversized,
    /// It is this principal's, who is disabled.
    Disabled(Arc<str>),
    /// It is this principal's, and its time is over.
    Expired(Arc<str>),
    /// It is a token that is not good.
    Token(Fault),
}

impl Denied {
    /// The reason, one of a closed set, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several",
            Self::Signed => "signed",
            Self::Away => "issuer_away",
            Self::Shielded(_) => "shielded",
            Self::Unfit(fault) | Self::Later(_, fault) | Self::Wrong(Wrong::Token(fault)) => fault.name(),
            Self::Wrong(Wrong::Unknown) => "unknown",
            Self::Wrong(Wrong::Mistyped) => "mistyped",
            Self::Wrong(Wrong::Oversized) => "oversized",
            Self::Wrong(Wrong::Disabled(_)) => "disabled",
            Self::Wrong(Wrong::Expired(_)) => "expired",
        }
    }

    /// Whose credential it was, where that is known.
    pub fn whose(&self) -> Option<&Arc<str>> {
        match self {
            Self::Wrong(Wrong::Disabled(name) | Wrong::Expired(name)) => Some(name),
            _ => None,
        }
    }
}

impl Access {
    /// Who may call, by the configuration.
    pub fn new(mut spec: AccessSpec) -> Self {
        let written = std::mem::take(&mut spec.keys);
        let access = Self {
            table: ArcSwap::default(),
            sources: Mutex::default(),
            anonymous: Arc::new(Principal::anonymous()),
            open: AtomicBool::new(spec.anonymous != Anonymous::Never),
            shield: Shield::new(spec.bound),
            spec,
        };
        access.replace(Origin::Written, written);
        access
    }

    /// Takes over the principals of one origin. Says whose of them name or key is an earlier one's.
    pub fn replace(&self, origin: Origin, keys: Vec<Keyed>) -> Vec<String> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = sources.get_mut(origin as usize) {
            *place = keys;
        }
        let [written, file, store] = &*sources;
        let (table, shut) = Table::new([written, file, store], &self.table.load());
        if self.spec.anonymous == Anonymous::UntilKeys && !table.is_empty() {
            self.open.store(false, Relaxed);
        }
        self.table.store(Arc::new(table));
        shut.into_iter().filter(|(of, _)| *of == origin).map(|(_, name)| name).collect()
    }

    /// The keys in force.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Reads a text of keys as the configuration has them.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(&self, text: &str, origin: Origin, path: &Path) -> Result<Vec<Keyed>, String> {
        (self.spec.reader)(text, origin, path)
    }

    /// The file of keys that is to be watched.
    pub fn file(&self) -> Option<&Path> {
        self.spec.file.as_deref()
    }

    /// The file in which operators' keys are kept.
    pub fn store(&self) -> Option<&Path> {
        self.spec.store.as_deref()
    }

    /// The identity providers.
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.spec.issuers
    }

    /// Whether the certificate of a connection can denote anybody.
    pub fn knows_certificates(&self) -> bool {
        !self.spec.certificates.is_empty()
    }

    /// Whether callers without a credential are served.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// The principal of that name; without one, who is let in without a credential.
    pub fn named(&self, name: Option<&str>) -> Option<Arc<Principal>> {
        let Some(name) = name else { return self.is_open().then(|| Arc::clone(&self.anonymous)) };
        let table = self.table.load();
        let of_keys = table.owners().map(|(owner, _)| &owner.keyed.principal);
        let of_certificates = self.spec.certificates.iter().map(|rule| &rule.principal);
        of_keys.chain(of_certificates).find(|principal| &*principal.name == name).cloned()
    }

    /// Who is calling.
    ///
    /// A key in the request goes before the certificate of its connection, which may be that of a proxy in front.
    ///
    /// # Errors
    /// Says why it is nobody. Where callers without a credential are served, so are those whose credential denotes nobody.
    pub fn identify(&self, caller: &Caller<'_>, now: SystemTime) -> Result<Arc<Principal>, Denied> {
        let table = self.table.load();
        let open = self.is_open();
        if open && table.is_empty() && self.spec.issuers.is_empty() && self.spec.certificates.is_empty() {
            return Ok(Arc::clone(&self.anonymous));
        }
        let denied = match presented(caller.headers, caller.query) {
            Presented::One(secret) => match self.known(&table, &secret, caller, now) {
                Err(denied @ (Denied::Wrong(_) | Denied::Shielded(_))) => denied,
                found => return found,
            },
            Presented::Several => return Err(Denied::Several),
            sent => {
                if let Some(principal) = self.certified(caller.certificate) {
                    return Ok(principal);
                }
                if sent == Presented::Signed { Denied::Signed } else { Denied::Missing }
            }
        };
        if open {
            return Ok(Arc::clone(&self.anonymous));
        }
        if let Denied::Wrong(_) = denied {
            self.shield.failed(caller.address, now);
        }
        Err(denied)
    }

    fn certified(&self, names: Option<&Names>) -> Option<Arc<Principal>> {
        let names = names?;
        self.spec.certificates.iter().find(|rule| rule.means(names)).map(|rule| Arc::clone(&rule.principal))
    }

    /// Whose a key or a token is.
    fn known(
        &self,
        table: &Table,
        secret: &[u8],
        caller: &Caller<'_>,
        now: SystemTime,
    ) -> Result<Arc<Principal>, Denied> {
        if secret.len() > token::LARGEST {
            return Err(Denied::Wrong(Wrong::Oversized));
        }
        let blocked = || self.shield.blocked(caller.address, now);
        let hash = Hash::of(secret);
        if !self.spec.issuers.is_empty() && token::looks_like_token(secret) {
            return self.bearer(secret, &hash, &blocked, now);
        }
        let face = table.face(caller.address);
        let found = table.find(&hash);
        // Who used a key from this address before it failed so often is not shut out with whoever else is behind it, and
        // does not wait for the shield's lock. A guess that hits is refused like all others.
        if !found.is_some_and(|entry| entry.seen.is_from(face))
            && let Some(left) = blocked()
        {
            return Err(Denied::Shielded(left));
        }
        let Some(entry) = found else {
            let wrong = if key::is_mistyped(secret) { Wrong::Mistyped } else { Wrong::Unknown };
            return Err(Denied::Wrong(wrong));
        };
        match table.owner(entry, now) {
            (Some(principal), None) => {
                entry.seen.note(face, now);
                Ok(Arc::clone(principal))
            }
            (Some(principal), Some(Spent::Disabled)) => {
                Err(Denied::Wrong(Wrong::Disabled(Arc::clone(&principal.name))))
            }
            (Some(principal), Some(Spent::Expired)) => {
                Err(Denied::Wrong(Wrong::Expired(Arc::clone(&principal.name))))
            }
            (None, _) => Err(Denied::Wrong(Wrong::Unknown)),
        }
    }

    /// Whose a token is. One that was found good before is taken from an address that is shut out, too: nobody guesses one.
    fn bearer(
        &self,
        token: &[u8],
        hash: &Hash,
        blocked: &dyn Fn() -> Option<Duration>,
        now: SystemTime,
    ) -> Result<Arc<Principal>, Denied> {
        if let Some(known) = self.spec.issuers.iter().find_map(|issuer| issuer.known(hash, now)) {
            return Ok(known);
        }
        if let Some(left) = blocked() {
            return Err(Denied::Shielded(left));
        }
        let wrong = |fault| Denied::Wrong(Wrong::Token(fault));
        let parts = Parts::of(token).map_err(wrong)?;
        let named = parts.issuer();
        let issuer = self.spec.issuers.iter().find(|issuer| named == Some(issuer.spec.issuer.as_str()));
        let issuer = issuer.ok_or_else(|| wrong(Fault::Issuer))?;
        issuer.verify(&parts, hash, now).map_err(|fault| match fault {
            Fault::UnknownKey => Denied::Later(Arc::clone(issuer), fault),
            Fault::Scope | Fault::Group => Denied::Unfit(fault),
            fault => wrong(fault),
        })
    }

    /// The same as [`Self::identify`] for a token whose issuer has been asked, or was asked too lately.
    ///
    /// # Errors
    /// As there, but never [`Denied::Later`].
    pub fn identify_now(&self, caller: &Caller<'_>, now: SystemTime) -> Result<Arc<Principal>, Denied> {
        match self.identify(caller, now) {
            Err(Denied::Later(..)) if self.is_open() => Ok(Arc::clone(&self.anonymous)),
            // Not a guess: the issuer may have changed its keys, and its tokens are all that is to hand.
            Err(Denied::Later(issuer, _)) if issuer.is_away() => Err(Denied::Away),
            Err(Denied::Later(_, fault)) => Err(Denied::Wrong(Wrong::Token(fault))),
            found => found,
        }
    }
}

#[cfg(test)]
mod tests;
