//! The store that all nodes share: Redis or Valkey, one server, one behind sentinels, or a cluster.
//!
//! A [`Client`] has a thread of its own, which connects, watches and connects again; whoever asks the store never does. Each
//! command has a hard deadline ([`Spec::deadline`]). After some in a row that were late, or at once where the connection is
//! lost, a breaker opens: the store is *away* ([`Client::is_up`]), nobody is made to wait for it, and only the thread goes on
//! trying, until it answers in time again.
//!
//! What is kept there is the business of those who use it: [`crate::limit::remote`] keeps counts.

mod breaker;
mod client;
mod link;

use std::fmt;
use std::time::Duration;

pub use client::{Away, Client, Script};
pub use redis::Value;

use crate::secret::Secret;

/// Where the store is, and how it is spoken to.
#[derive(Clone)]
pub struct Spec {
    /// `redis://HOST:PORT/DB`, `rediss://` with TLS, or `unix:///PATH`: of one server, of all sentinels, or of some nodes of a
    /// cluster. They may hold a user and a password.
    pub urls: Vec<Secret>,
    /// What answers there.
    pub kind: Kind,
    /// The user, where the URLs name none.
    pub username: Option<String>,
    /// The password, where the URLs hold none.
    pub password: Option<Secret>,
    /// The same of sentinels, which have users of their own.
    pub sentinel_password: Option<Secret>,
    /// The number of the database, where the URLs name none. A cluster has only the first.
    pub database: Option<u32>,
    /// A certificate authority to believe instead of the system's, PEM.
    pub authority: Option<Vec<u8>>,
    /// The longest that a command may take.
    pub deadline: Duration,
    /// How many late answers in a row are too many.
    pub failures: u32,
    /// The wait before the store is tried again.
    pub pause: Duration,
    /// What the names of all keys begin with.
    pub prefix: String,
}

/// What answers at the URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One server; of several URLs, the first that is no replica.
    Single,
    /// Sentinels that know where the primary is, by the name that it has there.
    Sentinel(String),
    /// Nodes of a cluster.
    Cluster,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            kind: Kind::Single,
            username: None,
            password: None,
            sentinel_password: None,
            database: None,
            authority: None,
            deadline: Duration::from_millis(5),
            failures: 3,
            pause: Duration::from_millis(500),
            prefix: "forebay:".to_owned(),
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("kind", &self.kind).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Whether a text can be the URL of a store.
pub fn is_url(text: &str) -> bool {
    link::read_url(text).is_ok()
}
