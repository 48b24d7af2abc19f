//! The configuration file as it is written: every key, its type and its default.
//!
//! These types are the manual: their doc comments become the descriptions of the JSON Schema that `forebay schema`
//! prints. Nothing below the configuration sees them; `config::compile` turns them into what runs.

mod access;
mod audit;
mod credential;
mod fleet;
mod limits;
mod money;
mod policy;
mod provider;
mod store;
mod traffic;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::*;
pub use audit::*;
pub use credential::*;
pub use fleet::*;
pub use limits::*;
pub use money::*;
pub use policy::*;
pub use provider::*;
pub use store::*;
pub use traffic::*;

use super::value::{Address, Network, Period, Size};

/// Forebay's configuration. Every part may be left out but `clusters` and `models`, without which there is nowhere
/// to send anything.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Forebay configuration")]
pub struct Config {
    /// Where clients connect. Left out: one plain listener on $SERVER_HOST:$SERVER_PORT, 0.0.0.0:8080 unless set.
    pub listeners: Vec<Listener>,
    /// The listener for operators: health, metrics, the snapshot in use, and what drains.
    pub admin: Admin,
    /// The process.
    pub server: Server,
    /// What is logged.
    pub log: Log,
    /// Who did what, and who was refused.
    pub audit: Audit,
    /// Bounds on what clients send.
    pub intake: Intake,
    /// How long anything may take. The same keys stand in clusters, routes and models; the most specific that is set
    /// wins: model, then route, then cluster, then these.
    #[serde(default = "Clocks::standard")]
    pub clocks: Clocks,
    /// What is tried again.
    pub retry: Retry,
    /// How much callers may use.
    pub limits: Limits,
    /// What nodes share: a Redis in which limits are counted.
    pub store: Store,
    /// Virtual keys by the name of the principal that each denotes. The name shows in logs and metrics, the key
    /// itself nowhere.
    pub keys: BTreeMap<String, Key>,
    /// Whether a request without a virtual key is served. Left out: true until there is the first key of any kind.
    pub anonymous: Option<bool>,
    /// Who may call, beside `keys`.
    pub access: Access,
    /// Teams by name. A key, a token or a certificate may belong to one.
    pub teams: BTreeMap<String, Group>,
    /// Organisations by name. A team may belong to one.
    pub organisations: BTreeMap<String, Group>,
    /// Providers that Forebay does not know, or knows otherwise, by name.
    pub providers: BTreeMap<String, Provider>,
    /// The HashiCorp Vault that keys of clusters are read from which are written as `vault:MOUNT/PATH#FIELD`.
    pub vault: Option<Vault>,
    /// Upstreams by name: a cloud API, or endpoints that share a balancing and health policy.
    pub clusters: BTreeMap<String, Cluster>,
    /// Model aliases by what clients send as `model`. An alias may hold one `*`; an exact alias wins over any
    /// pattern, and the pattern with the most letters over others.
    pub models: BTreeMap<String, Model>,
    /// What things cost.
    pub prices: Prices,
    /// Where what is spent is recorded.
    pub ledger: Ledger,
    /// What is served under which hosts and paths. The most specific route wins, whatever the order. Left out: one
    /// route for everything at `/`.
    pub routes: Vec<Route>,
}

/// An address that clients connect to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// IP address and port. `0.0.0.0` is every IPv4 interface, `[::]` every interface.
    pub address: Address,
    /// Serve TLS here, with these certificates. Left out: plain HTTP.
    pub tls: Option<ListenerTls>,
    /// Serve HTTP/2 without TLS to clients that begin with its preface. For a mesh or a load balancer that speaks
    /// h2c; HTTP/1.1 stays served.
    pub h2c: bool,
    /// How long an idle connection is kept for its next request. Raise it above the idle time of a load balancer
    /// in front, or that one meets closed connections.
    pub keepalive: Period,
    /// How many requests one connection may carry before it is closed, so that load balancers in front even out.
    #[schemars(range(min = 1))]
    pub keepalive_requests: u32,
    /// How long a whole request head may take to arrive. It bounds clients that send a byte now and then.
    pub head_timeout: Period,
    /// The largest request head: request line and headers together.
    pub max_head: Size,
    /// The most headers of a request.
    #[schemars(range(min = 1, max = 256))]
    pub max_headers: u32,
    /// Peers whose `x-forwarded-*` and `forwarded` headers are believed: your load balancers. From anyone else they
    /// are dropped.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: Address(([0, 0, 0, 0], 8080).into()),
            tls: None,
            h2c: false,
            keepalive: Period::seconds(75),
            keepalive_requests: 10_000,
            head_timeout: Period::seconds(10),
            max_head: Size(32 << 10),
            max_headers: 100,
            trusted_proxies: Vec::new(),
        }
    }
}

/// TLS on a listener: HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates; the client's SNI chooses. The first one serves clients that name no host or an unknown one.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// A PEM file of the authorities whose certificates clients may show; `access.certificates` says whose they are. Left
    /// out: none is asked for. A relative path starts at the configuration file.
    pub client_ca: Option<String>,
    /// Whether clients must show one, where `client_ca` is set.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// A PEM file of the certificate and then its intermediates. A relative path starts at the configuration file.
    pub cert: String,
    /// A PEM file of the private key. A relative path is sought in systemd's credentials directory first.
    pub key: String,
    /// The host names this certificate is for. Left out: those it holds itself.
    pub names: Option<Vec<super::value::HostPattern>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and later.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    V13,
}

/// The listener for operators.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// IP address and port. Without a token it has no authentication: keep it on the loopback or a private network. Left
    /// out: $METRICS_PORT on the loopback, 9090 unless set.
    pub address: Address,
    /// What callers must send as `authorization: Bearer TOKEN`, but for `/health/live`, `/health/ready` and
    /// `/health/startup`: `env:NAME` or `file:PATH`. Without one nothing can be drained from another machine.
    pub token: Option<super::value::SecretRef>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Address(([127, 0, 0, 1], 9090).into()), token: None }
    }
}

/// The process.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads; 0 is one for each core.
    #[schemars(range(max = 1024))]
    pub threads: u32,
    /// After SIGTERM: how long `/health/ready` says no while new connections are still taken, so that load
    /// balancers notice in time. Make it longer than two of their health checks.
    pub lame_duck: Period,
    /// After that: how long exchanges in flight may take to end. What is left then is cut.
    pub drain: Period,
    /// Near these bounds requests are refused with 503, those of priority `low` from nine tenths on, those of `normal` at
    /// the bound, and never those of `high`.
    pub overload: Overload,
    /// What is signed with that only one upstream knows, such as the ids of responses, where a model has several: `env:NAME`
    /// or `file:PATH`, the same on all nodes. Left out: it comes from each cluster's own key, and changes with that.
    pub seal: Option<super::value::SecretRef>,
    /// A file of endpoints that are to be drained, for what runs beside the edge and hears that a node is going away. A
    /// line is an endpoint as `forebay drain` takes it, and `deadline=30s` behind it if what still runs there is to be
    /// ended; `#` begins a comment. It is looked at every second and need not be there. What leaves it is put back into
    /// service. A relative path starts at the configuration file.
    pub drain_file: Option<String>,
    /// A directory for what must outlive the process, such as keys made through the admin listener. Left out: systemd's
    /// `StateDirectory`, else nothing is kept. A relative path starts at the configuration file.
    pub state: Option<String>,
}

/// The bounds of the process.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// Resident memory. Left out: nine tenths of the control group's (systemd's `MemoryMax`), or of the machine's.
    pub memory: Option<Size>,
    /// The share of the files that the process may open (`LimitNOFILE`), connections among them.
    #[schemars(range(min = 0.1, max = 1))]
    pub files: f64,
    /// How late the event loop may be with what is due.
    pub delay: Period,
}

impl Default for Overload {
    fn default() -> Self {
        Self { memory: None, files: 0.9, delay: Period::millis(500) }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: 0,
            lame_duck: Period::seconds(2),
            drain: Period::seconds(600),
            overload: Overload::default(),
            seal: None,
            drain_file: None,
            state: None,
        }
    }
}

/// What is logged, on standard error.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` for machines, `text` for people.
    pub format: LogFormat,
    /// The least important level that is logged. $RUST_LOG, where set, wins.
    pub level: LogLevel,
    /// Whether there is one line for each exchange.
    pub access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: LogLevel::Info, access: true }
    }
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Words.
    Text,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing is logged.
    Off,
    /// What needs somebody's attention.
    Error,
    /// What may soon.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

/// Bounds on what clients send. Requests on raw routes are not held, and only `max_body` bounds them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// The largest request body, after decoding. Images in base64 are what makes them large.
    pub max_body: Size,
    /// How long a whole request body may take to arrive.
    pub body_timeout: Period,
    /// The bytes of request bodies held at once, all exchanges together; over it, new ones are refused with 503. It
    /// bounds the memory of the process.
    pub held: Size,
    /// Decode request bodies in gzip, deflate, br and zstd. If false they are refused with 415.
    pub decode: bool,
    /// How many times larger a decoded body may be than its coded form. It stops decompression bombs.
    #[schemars(range(min = 1, max = 10000))]
    pub max_ratio: u32,
    /// Files that a request names by URL.
    pub media: Media,
}

/// Pictures and documents that a request names by URL, for upstreams that take them as data alone.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Fetch them. If false, such a part is left out of what the upstream is sent, or the request refused, as the route's
    /// `loss` says.
    pub fetch: bool,
    /// The most that all of one request's may have together. They count towards `held`.
    pub max_size: Size,
    /// How long all of one request's may take together.
    pub timeout: Period,
    /// Private networks that may be asked. Besides these, only addresses of the public internet are, whatever a name
    /// resolves to and wherever a redirect leads.
    pub networks: Vec<Network>,
}

impl Default for Media {
    fn default() -> Self {
        Self { fetch: false, max_size: Size(20 << 20), timeout: Period::seconds(10), networks: Vec::new() }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            max_body: Size(32 << 20),
            body_timeout: Period::seconds(60),
            held: Size(1 << 30),
            decode: true,
            max_ratio: 100,
            media: Media::default(),
        }
    }
}

/// Attempts after the first: a failure of one upstream is none of the client's as long as it was told nothing.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How many attempts an exchange may make, the first included; 1 turns retries off.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// The longest wait before the second attempt, where no other endpoint or deployment is left; it doubles with each.
    /// The wait is drawn at random from nothing to that. Another place is tried at once.
    pub delay: Period,
    /// No wait is longer. An upstream that asks for more is not waited for: the client is told.
    pub max_delay: Period,
    /// The share of a cluster's requests that may be sent again, so that retries do not finish off what is overloaded.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget: f64,
    /// What is tried again.
    pub on: Vec<Cause>,
}

/// Why another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The request never reached the upstream: no connection, or one that had been closed.
    Unsent,
    /// The connection broke before the first content. The upstream may have worked on the request, and may bill it.
    Broken,
    /// A clock ran out before the first content. It may be billed, too.
    Slow,
    /// The upstream answered with 408, 5xx or 529, or began with an error event.
    Failed,
    /// The upstream answered with 429.
    Limited,
    /// This upstream cannot serve it: no quota, no money, a credential that is refused, a model that is not there.
    Unserved,
    /// The endpoint was drained, and its deadline came before the first content.
    Evicted,
}

impl Default for Retry {
    fn default() -> Self {
        use Cause::{Broken, Evicted, Failed, Limited, Slow, Unsent, Unserved};
        Self {
            attempts: 3,
            delay: Period::millis(250),
            max_delay: Period::seconds(5),
            budget: 0.1,
            on: vec![Unsent, Broken, Slow, Failed, Limited, Unserved, Evicted],
        }
    }
}
