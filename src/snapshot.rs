//! The immutable view of one configuration that exchanges run on.
//!
//! An exchange keeps the snapshot it began with. What lives longer (counters, health, pools) is held by the clusters,
//! which a later snapshot may share.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::clocks::Clocks;
use crate::limit::{Book, Everyones};
use crate::meter::price::Prices;
use crate::meter::{audit, ledger};
use crate::route::alias::Aliases;
use crate::route::matcher::Routes;
use crate::secret::Secret;
use crate::upstream::cluster::Cluster;
use crate::upstream::fetch::Fetcher;

/// Everything a running Forebay was told.
#[derive(Debug)]
pub struct Snapshot {
    /// Addresses served.
    pub listeners: Vec<Listener>,
    /// The listener for operators.
    pub admin: Admin,
    /// The file of endpoints to drain, if there is one.
    pub drain_file: Option<PathBuf>,
    /// The process.
    pub process: Process,
    /// Logs.
    pub log: Log,
    /// The audit log, if there is one.
    pub audit: Option<audit::Spec>,
    /// Bounds on request bodies.
    pub intake: Intake,
    /// How files that a request names by URL are brought in; nothing where they are not.
    pub media: Option<Media>,
    /// The clocks that nothing more specific sets.
    pub clocks: Clocks,
    /// How often an exchange is tried.
    pub retry: Retry,
    /// Where what must outlive the process is kept, if anywhere.
    pub state: Option<PathBuf>,
    /// Where what is spent is recorded.
    pub ledger: ledger::Spec,
    /// What things cost.
    pub prices: Prices,
    /// Who may call.
    pub access: Arc<Access>,
    /// What is used of every limit. It is the same for every configuration of a process.
    pub book: Arc<Book>,
    /// How much each may use who has no limits of their own; whoever calls without a key, by the address.
    pub everyones: Everyones,
    /// What any one address may send.
    pub shield: Shield,
    /// Clusters, by name.
    pub clusters: Vec<Arc<Cluster>>,
    /// Model names.
    pub aliases: Aliases,
    /// Routes.
    pub routes: Routes,
}

/// What any one address may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shield {
    /// Requests each second.
    pub requests: Option<u32>,
    /// Requests under way at once.
    pub concurrency: Option<u32>,
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// What callers must show; without one anyone may look, and change things where only this machine can call.
    pub token: Option<Secret>,
}

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// TLS, where it is spoken.
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 without TLS is taken, by prior knowledge.
    pub h2c: bool,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    /// How many requests a connection may carry.
    pub keepalive_requests: u32,
    /// Bounds on the head of a request.
    pub head: HeadBounds,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
}

/// Bounds on the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// From its first byte to its last.
    pub timeout: Duration,
    /// Its size, bytes.
    pub bytes: usize,
    /// The number of its fields.
    pub fields: usize,
}

impl Default for HeadBounds {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), bytes: 32 * 1024, fields: 100 }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is used where a client names no host, or one that no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// Whether TLS 1.2 is refused.
    pub only_13: bool,
    /// Whose certificates clients may show, and whether they must; nothing where none is asked for.
    pub clients: Option<ClientCertificates>,
}

/// The certificates that clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities, PEM.
    pub authorities: PathBuf,
    /// Whether who shows none gets no connection.
    pub required: bool,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the leaf first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The host names it is used for; those in the certificate where empty.
    pub names: Vec<String>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1/128` or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                same_prefix(mine.to_bits().into(), other.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                same_prefix(mine.to_bits(), other.to_bits(), 128, self.bits)
            }
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, width: u32, bits: u8) -> bool {
    let rest = width - u32::from(bits);
    a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
}

/// The process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// Worker threads; 0 is one for each core.
    pub threads: usize,
    /// How long connections are still accepted after readiness went off.
    pub lame_duck: Duration,
    /// How long streams may run after that.
    pub drain: Duration,
    /// From when on requests are refused that are not important enough.
    pub overload: Overload,
}

/// The bounds near which the process refuses what is not important.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// Resident memory, bytes; nine tenths of what there is where it is not said.
    pub memory: Option<u64>,
    /// The share of the files that it may open.
    pub files: f64,
    /// How late the event loop may be.
    pub delay: Duration,
}

/// How logs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// `RUST_LOG` syntax, e.g. `info` or `warn,forebay=debug`.
    pub level: String,
    /// Whether each exchange leaves a line.
    pub access: bool,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Bounds on request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// One body, bytes, after decoding.
    pub max_body: u64,
    /// From the head to the last byte of the body.
    pub timeout: Duration,
    /// All bodies held at once, bytes.
    pub held: u64,
    /// Whether compressed bodies are decoded; refused otherwise.
    pub decode: bool,
    /// The most a compressed body may grow by.
    pub max_ratio: u32,
}

/// How files that a request names by URL are brought in.
#[derive(Clone, Debug)]
pub struct Media {
    /// What asks for them.
    pub fetcher: Arc<Fetcher>,
    /// The most that all of one request's may have, bytes.
    pub most: usize,
    /// How long all of one request's may take.
    pub limit: Duration,
}

/// How often an exchange is tried, and when again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// The longest wait before the second attempt where no other place is left; it doubles with each. The wait itself
    /// is drawn at random from nothing to that.
    pub delay: Duration,
    /// No wait is longer.
    pub max_delay: Duration,
    /// The share of a cluster's exchanges that may be tried again, in thousandths.
    pub budget: u32,
    /// What is tried again.
    pub causes: Causes,
}

/// Why another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request never reached the upstream.
    Unsent,
    /// The connection broke, or what came cannot be read.
    Broken,
    /// The upstream was too slow.
    Slow,
    /// The upstream says that it failed.
    Failed,
    /// The upstream has no room in a rate.
    Limited,
    /// This upstream cannot serve it: money, a credential, a model that is not there.
    Unserved,
    /// The endpoint was taken out of service.
    Evicted,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 7] =
        [Self::Unsent, Self::Broken, Self::Slow, Self::Failed, Self::Limited, Self::Unserved, Self::Evicted];

    /// The name used in configuration, logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Broken => "broken",
            Self::Slow => "slow",
            Self::Failed => "failed",
            Self::Limited => "limited",
            Self::Unserved => "unserved",
            Self::Evicted => "evicted",
        }
    }
}

/// A set of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Causes(u8);

impl Causes {
    /// Every cause.
    pub const ALL: Self = Self((1 << Cause::ALL.len()) - 1);

    /// Those of the list.
    pub fn of(causes: impl IntoIterator<Item = Cause>) -> Self {
        Self(causes.into_iter().fold(0, |set, cause| set | 1 << cause as u8))
    }

    /// Whether it is among them.
    pub fn has(self, cause: Cause) -> bool {
        self.0 & 1 << cause as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.1.2.3") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && contains("::/0", "::1"));
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe80::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"), "a mapped address is the address it maps");
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("x").is_none());
    }
}
