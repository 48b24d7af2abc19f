//! Who did what, who was refused, whose keys were used: lines of JSON of which none can be changed, taken out or put in
//! unseen.
//!
//! Each line ends with `hash`, over the hash of the line before and everything in the line before that member: SHA-256, or
//! HMAC-SHA-256 where a key is configured, without which nobody can make the chain anew. A file begins with a line that says
//! how its hashes are made and, in `prev`, the last hash of the file before. [`verify`] says the first line that does not
//! fit. That lines were cut off the end shows where a hash is known from elsewhere: the last one goes to the log every now
//! and then, and when the process ends.
//!
//! No line holds a credential, and none a prompt unless the prompt's route says so. What many can cause is bounded: of one
//! address or principal a few refusals a minute have lines of their own, and the others are a sum.

mod chain;
mod entry;
mod floods;
pub mod verify;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::journal::{FileSpec, Journal, Shipping, Tee};
use crate::network;
use crate::secret::Secret;
pub use chain::fingerprint;
use chain::{Chain, Mac, Noted};
use entry::Entry;
use floods::Floods;

/// What is audited, and where it goes.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The file.
    pub file: Option<FileSpec>,
    /// Whom it is sent to.
    pub http: Option<HttpSpec>,
    /// What hashes are made with.
    pub key: Option<Secret>,
    /// Which uses of keys are noted.
    pub key_use: KeyUse,
    /// How often the last hash goes to the log.
    pub anchor: Option<Duration>,
    /// How many refusals of one address or principal have lines of their own in a minute.
    pub per_minute: u32,
}

/// Whom the lines are sent to, as `application/x-ndjson` by POST.
#[derive(Clone, Debug)]
pub struct HttpSpec {
    /// Where to.
    pub url: String,
    /// What is shown there as `authorization: Bearer`.
    pub token: Option<Secret>,
    /// In what batches.
    pub shipping: Shipping,
}

/// Which uses of keys are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// None.
    Off,
    /// The first of each principal in an hour.
    First,
    /// All.
    All,
}

/// The audit log of the process.
#[derive(Debug)]
pub struct Audit {
    journal: Journal<Noted>,
    tee: Option<Tee>,
    floods: Arc<Mutex<Floods>>,
    key_use: KeyUse,
    /// The present hour, and who was seen in it.
    seen: Mutex<(u64, HashSet<String>)>,
}

/// How many principals are remembered in an hour; the first use of one beyond is not noted.
const SEEN: usize = 65_536;

static AUDIT: OnceLock<Audit> = OnceLock::new();

/// The audit log, if there is one.
pub fn on() -> Option<&'static Audit> {
    AUDIT.get()
}

/// Starts the audit log of the process. `tee` ships its lines, where they are to be shipped.
///
/// # Errors
/// Where its file cannot be opened, or its thread not started.
pub fn init(spec: &Spec, tee: Option<Tee>) -> io::Result<()> {
    let audit = Audit::start(spec, tee)?;
    // The process starts one.
    let _ = AUDIT.set(audit);
    Ok(())
}

/// Notes that the process ends, and waits until all is written.
pub fn stop() {
    if let Some(audit) = on() {
        audit.stop();
    }
}

/// An administrative act.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who came from where.
    pub address: Option<IpAddr>,
    /// By what it was let in: `token`, `loopback`.
    pub by: &'a str,
    /// The method.
    pub method: &'a str,
    /// What it was about.
    pub path: &'a str,
    /// What was asked, in short.
    pub what: &'a str,
    /// What was answered.
    pub status: u16,
}

/// A request that was refused, or let in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The exchange's id.
    pub id: &'a str,
    /// Who came from where.
    pub address: Option<IpAddr>,
    /// Who it was.
    pub principal: &'a str,
    /// The route it took.
    pub route: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// The model that it named.
    pub model: &'a str,
    /// The status that was sent.
    pub status: u16,
}

impl Request<'_> {
    fn put(&self, entry: Entry) -> Entry {
        let mut entry = entry.text("id", self.id);
        if let Some(address) = self.address {
            entry = entry.text("address", &address.to_string());
        }
        entry
            .text("principal", self.principal)
            .text("route", self.route)
            .text("path", self.path)
            .text("model", self.model)
            .number("status", self.status.into())
    }

    /// Whose refusals are counted together.
    fn subject(&self) -> String {
        match (self.principal, self.address) {
            ("" | "anonymous", Some(address)) => network::of(address).to_string(),
            (principal, _) => principal.to_owned(),
        }
    }
}

impl Audit {
    fn start(spec: &Spec, tee: Option<Tee>) -> io::Result<Self> {
        let floods = Arc::new(Mutex::new(Floods::new(spec.per_minute, SystemTime::now())));
        let mac = spec.key.as_ref().map_or(Mac::Plain, Mac::keyed);
        let chain = Chain::new(mac, Arc::clone(&floods), spec.anchor);
        let journal = Journal::start("audit", spec.file.as_ref(), tee.clone(), chain)?;
        let seen = Mutex::new((0, HashSet::new()));
        Ok(Self { journal, tee, floods, key_use: spec.key_use, seen })
    }

    /// The process starts, with a configuration of that fingerprint.
    pub fn started(&self, configuration: &str) {
        let entry = Entry::new("start", SystemTime::now())
            .text("version", env!("CARGO_PKG_VERSION"))
            .number("pid", u64::from(std::process::id()))
            .text("configuration", configuration);
        self.note(entry);
    }

    /// The process ends. Waits until all is written, and what is shipped for two seconds.
    fn stop(&self) {
        self.sums(SystemTime::now(), true).into_iter().for_each(|entry| self.note(entry));
        let last = Entry::new("stop", SystemTime::now()).number("pid", u64::from(std::process::id()));
        self.journal.note(Noted::Last(last.finish()));
        if !self.journal.flush() {
            log::error!("audit: not all that was noted is on the disk");
        }
        if self.tee.as_ref().is_some_and(|tee| !tee.flush(Duration::from_secs(2))) {
            log::error!("audit: not all that was noted is shipped");
        }
    }

    /// Somebody changed something, or tried to.
    pub fn act(&self, act: Act<'_>) {
        let refused = matches!(act.status, 401 | 403);
        let event = if refused { "admin_refused" } else { "admin" };
        let address = act.address.map(|address| address.to_string()).unwrap_or_default();
        let subject = || act.address.map(|address| network::of(address).to_string()).unwrap_or_default();
        if refused && !self.allows(event, &subject()) {
            return;
        }
        let entry = Entry::new(event, SystemTime::now())
            .text("address", &address)
            .text("by", act.by)
            .text("method", act.method)
            .text("path", act.path)
            .text("what", act.what)
            .number("status", act.status.into());
        self.note(entry);
    }

    /// A caller is nobody who is known here. `header` is where a credential was, if there was one.
    pub fn unknown(&self, request: Request<'_>, header: &str, reason: &str) {
        if self.allows("auth_failed", &request.subject()) {
            let entry = request.put(Entry::new("auth_failed", SystemTime::now()));
            self.note(entry.text("header", header).text("reason", reason));
        }
    }

    /// A rule refused a request.
    pub fn refused(&self, request: Request<'_>, rule: &str) {
        if self.allows("refused", &request.subject()) {
            let entry = request.put(Entry::new("refused", SystemTime::now()));
            self.note(entry.text("rule", rule));
        }
    }

    /// A principal was let in.
    pub fn used(&self, request: Request<'_>) {
        let now = SystemTime::now();
        let notes = match self.key_use {
            KeyUse::Off => false,
            KeyUse::All => true,
            KeyUse::First => self.is_first(request.principal, now),
        };
        if notes {
            self.note(request.put(Entry::new("key_use", now)));
        }
    }

    /// The texts of a request on a route that has them noted, without what tells of persons.
    pub fn prompt(&self, request: Request<'_>, text: &str) {
        self.note(request.put(Entry::new("prompt", SystemTime::now())).long("text", text));
    }

    fn is_first(&self, principal: &str, now: SystemTime) -> bool {
        let hour = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 3600;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != hour {
            *seen = (hour, HashSet::new());
        }
        if seen.1.contains(principal) || seen.1.len() >= SEEN {
            return false;
        }
        seen.1.insert(principal.to_owned())
    }

    fn allows(&self, event: &'static str, subject: &str) -> bool {
        self.sums(SystemTime::now(), false).into_iter().for_each(|entry| self.note(entry));
        self.floods.lock().unwrap_or_else(PoisonError::into_inner).allows(event, subject)
    }

    fn sums(&self, now: SystemTime, all: bool) -> Vec<Entry> {
        self.floods.lock().unwrap_or_else(PoisonError::into_inner).sums(now, all)
    }

    fn note(&self, entry: Entry) {
        self.journal.note(Noted::Event(entry.finish()));
    }
}

#[cfg(test)]
mod tests;
