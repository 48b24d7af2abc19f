//! The store that nodes share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Period, SecretRef};

/// What nodes share.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// A Redis or Valkey in which limits are counted for all nodes. Left out: each node counts for itself.
    pub redis: Option<Redis>,
}

/// A Redis or Valkey.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://HOST:PORT`, `rediss://HOST:PORT` with TLS, or `unix:///PATH`: of the server, of all sentinels, or of some
    /// nodes of a cluster. `env:NAME` or `file:PATH` where one holds a password.
    pub urls: Vec<SecretRef>,
    /// What answers there.
    pub kind: RedisKind,
    /// The name by which sentinels know the primary.
    pub master: Option<String>,
    /// The user, where the URLs name none.
    pub username: Option<String>,
    /// The password, where the URLs hold none: `env:NAME` or `file:PATH`.
    pub password: Option<SecretRef>,
    /// The password of the sentinels themselves: `env:NAME` or `file:PATH`.
    pub sentinel_password: Option<SecretRef>,
    /// A PEM file with the authorities that vouch for the servers' certificates. Left out: the system's. A relative path
    /// starts at the configuration file.
    pub ca: Option<String>,
    /// The number of the database. A cluster has only 0.
    pub database: u32,
    /// The longest that an exchange waits for an answer. Then each limit's `outage` decides.
    pub deadline: Period,
    /// After how many late answers in a row nobody waits any more until it answers in time again.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// How long it is left alone then before it is tried again.
    pub pause: Period,
    /// What the names of all keys begin with. Nodes share what they count under the same.
    pub prefix: String,
    /// How many nodes there are: by so many a limit is divided while the store is away. Left out: as many as were heard of
    /// last.
    #[schemars(range(min = 1, max = 10000))]
    pub nodes: Option<u32>,
    /// The most of a limit that all nodes together take ahead of use, where it is leased: it may be exceeded by so much, and
    /// a node may refuse while so much is left at others.
    #[schemars(range(min = 0, max = 1))]
    pub slice: f64,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            kind: RedisKind::Single,
            master: None,
            username: None,
            password: None,
            sentinel_password: None,
            ca: None,
            database: 0,
            deadline: Period(std::time::Duration::from_millis(5)),
            failures: 3,
            pause: Period(std::time::Duration::from_millis(500)),
            prefix: "forebay:".to_owned(),
            nodes: None,
            slice: 0.1,
        }
    }
}

/// What answers at the URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisKind {
    /// One server; of several URLs the first that is no replica.
    Single,
    /// Sentinels, which know where the primary is.
    Sentinel,
    /// Nodes of a cluster.
    Cluster,
}
