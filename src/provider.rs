//! Who runs an API. A provider is a row of data: where it is, how it is authenticated, what it speaks. Rows are shipped
//! ([`PROVIDERS`]), and a configuration may bring its own, each like a shipped one but for what it says otherwise.

mod address;
pub mod credential;
pub mod facts;
pub mod seal;
pub mod sigv4;
mod table;

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::dialect::Operation;
use crate::dialect::form::Form;
pub use address::{Address, Location, Missing};
use facts::Override;
pub use table::{PROVIDERS, find};

/// How a request is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// The key alone in a header of its own.
    Header(HeaderName),
    /// By a signature with AWS credentials, for the service of that signing name; or, with an API key, as
    /// [`Self::Bearer`].
    Aws(&'static str),
    /// By a Google Cloud access token, which a service account obtains; or, with a token from elsewhere, as
    /// [`Self::Bearer`].
    Google,
}

/// What sort of service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service on the internet: it serves nobody without a credential, and is told nothing of clients.
    Cloud,
    /// Software that people run themselves.
    Engine,
    /// Unknown: it may want a key, and is told nothing of clients.
    Any,
}

/// A health check that costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreeProbe {
    /// A TCP connection, and a TLS handshake where the endpoint uses TLS.
    Connect,
    /// `GET` on a path below the root of the host, which must answer 200.
    Get(Cow<'static, str>),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The name used in configuration, logs and metric labels.
    pub name: Cow<'static, str>,
    /// The shipped row that this is, or is like: under its name stands what models take.
    pub kin: &'static str,
    /// What sort of service it is.
    pub kind: Kind,
    /// Where the API is.
    pub address: Address,
    /// The path put before each operation's when the configured address has none.
    pub prefix: Cow<'static, str>,
    /// How requests are authenticated.
    pub auth: Auth,
    /// What the API speaks natively, the best first.
    pub speaks: Cow<'static, [Operation]>,
    /// The form in which it is asked.
    pub form: Form,
    /// Whether it is better asked for a stream where a client asks for a whole reply: an engine that notices only on a
    /// stream that nobody waits any more.
    pub fold: bool,
    /// Whether its chat goes on with an answer that a request brings the beginning of, without repeating it: by
    /// `continue_final_message` and `add_generation_prompt`.
    pub continues: bool,
    /// Whether its chat tells usage in every event of a stream if asked to, by `continuous_usage_stats` (vLLM's and SGLang's
    /// `StreamOptions`).
    pub counts: bool,
    /// The check used when none is configured.
    pub probe: FreeProbe,
    /// How long an idle connection is kept: less than the peer keeps it.
    pub idle: Duration,
    /// Headers every request needs, unless the client sent them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What its models take, where that differs from those of its kin; the last that matches counts.
    pub models: Vec<Override>,
}
