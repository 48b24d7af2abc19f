//! Who runs an API. A provider is a row of data: where it is, how it is authenticated, what it speaks.

pub mod credential;
pub mod facts;
pub mod sigv4;
mod table;

use std::time::Duration;

use crate::dialect::Operation;

pub use table::{PROVIDERS, find};

/// How a request is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// The key alone in a header of its own.
    Header(&'static str),
}

/// A health check that costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeProbe {
    /// A TCP connection, and a TLS handshake where the endpoint uses TLS.
    Connect,
    /// `GET` on a path below the root of the host, which must answer 200.
    Get(&'static str),
}

/// One row of the table.
#[derive(Debug)]
pub struct Provider {
    /// The name used in configuration, logs and metric labels.
    pub name: &'static str,
    /// Where the API is; `None` where every customer has an address of their own.
    pub base_url: Option<&'static str>,
    /// The path put before each operation's when the configured address has none.
    pub prefix: &'static str,
    /// How requests are authenticated.
    pub auth: Auth,
    /// What the API speaks natively.
    pub speaks: &'static [Operation],
    /// The check used when none is configured.
    pub probe: FreeProbe,
    /// How long an idle connection is kept: less than the peer keeps it.
    pub idle: Duration,
    /// Headers every request needs, unless the client sent them.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Provider {
    /// Whether this is a service on the internet rather than a node of one's own.
    pub fn is_cloud(&self) -> bool {
        self.probe == FreeProbe::Connect
    }
}
