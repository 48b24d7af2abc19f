//! Credentials that expire: where they come from, and how they stay fresh without an exchange waiting for them.
//!
//! A source ([`aws`], [`google`]; [`vault`], for keys that stand elsewhere) finds out once what is configured and asks for a credential; [`Refreshed`] keeps what
//! it got, asks again ahead of expiry, and says why where that fails. Neither opens a socket: whoever uses them gives
//! an [`Outside`], through which they see the environment, files, the time and HTTP.

pub mod aws;
pub mod google;
mod proof;
mod refresh;
pub mod vault;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::DeserializeOwned;

use crate::error::Kind;
use crate::secret::Secret;
pub use proof::{Headers, Proof, Proved, Source};
pub use refresh::Refreshed;

/// How long a token endpoint on the internet may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of a service's own words that goes into an error, in characters.
const WORDS: usize = 300;

/// A credential and when it ends.
#[derive(Clone, Debug)]
pub struct Expiring<T> {
    /// The credential.
    pub value: T,
    /// When it ends; `None` where nothing says so.
    pub expires: Option<SystemTime>,
}

/// A request to a service that gives credentials.
///
/// It must be sent as it is: through no proxy where the host is an address, and a redirect must not be followed, for it
/// would carry the secrets elsewhere.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An absolute URL.
    pub url: String,
    /// The headers, less `host` and `content-length`. Those that are secret are marked sensitive.
    pub headers: HeaderMap,
    /// The body, which may hold a signed assertion.
    pub body: Secret,
    /// How long it may take from the first packet to the last byte of the reply.
    pub timeout: Duration,
}

/// What such a service answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, which must be text.
    pub body: Secret,
}

/// Sends a [`Request`]; where no reply comes, says why.
pub type Fetch = dyn Fn(Request) -> Pin<Box<dyn Future<Output = Result<Reply, String>> + Send>> + Send + Sync;

/// Reads a variable of the environment. An empty one is as good as none.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Reads a small file.
pub type File = dyn Fn(&Path) -> io::Result<String> + Send + Sync;

/// What a source sees of the world.
pub struct Outside {
    /// The environment.
    pub variable: Box<Variable>,
    /// The file system.
    pub file: Box<File>,
    /// HTTP.
    pub fetch: Box<Fetch>,
    /// The time of day.
    pub now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Outside {
    /// The same, in which that profile of AWS is the one to use: keys in the environment count no more.
    #[must_use]
    fn with_profile(self, profile: String) -> Self {
        let rest = self.variable;
        let variable = move |name: &str| match name {
            "AWS_PROFILE" => Some(profile.clone()),
            "AWS_ACCESS_KEY_ID" => None,
            name => rest(name),
        };
        Self { variable: Box::new(variable), ..self }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The path in a variable, or one below the home directory.
    fn path(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let home = || self.variable("HOME").map(PathBuf::from);
        match self.variable(variable) {
            None => home().map(|home| home.join(below_home)),
            Some(path) => match path.strip_prefix("~/") {
                Some(rest) => home().map(|home| home.join(rest)),
                None => Some(path.into()),
            },
        }
    }

    /// The text of a file, or nothing where there is none.
    fn optional(&self, path: &Path) -> Result<Option<String>, Error> {
        match (self.file)(path) {
            Ok(text) => Ok(Some(text)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(Error::Setting { at: path.display().to_string(), why: why.to_string().into() }),
        }
    }

    /// The text of a file that must be there.
    fn required(&self, path: &Path) -> Result<Secret, Error> {
        let text = (self.file)(path).map_err(|why| setting(path.display(), why.to_string()))?;
        Ok(Secret::new(text))
    }

    /// Sends a request to `whom` and gives the body of a good reply. `says` finds the service's own words in a bad one.
    async fn ask(
        &self,
        whom: &'static str,
        request: Request,
        says: fn(&str) -> Option<String>,
    ) -> Result<Secret, Error> {
        let url = request.url.clone();
        let secrets: Vec<HeaderValue> =
            request.headers.values().filter(|value| value.is_sensitive()).cloned().collect();
        let reply = (self.fetch)(request).await.map_err(|why| Error::Unreachable { whom, url, why })?;
        if (200..300).contains(&reply.status) {
            return Ok(reply.body);
        }
        let mut words = says(reply.body.expose()).unwrap_or_default();
        // A service may say back what it was sent.
        for secret in secrets.iter().filter_map(|value| value.to_str().ok()) {
            words = words.replace(secret, "***");
        }
        let says = words.chars().filter(|c| !c.is_control()).take(WORDS).collect();
        Err(Error::Refused { whom, status: reply.status, says })
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

impl Request {
    fn get(url: String, timeout: Duration) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Secret::new(""), timeout }
    }

    /// A form, with what it holds percent-encoded.
    fn form(url: String, fields: &[(&str, &str)]) -> Self {
        let encoded =
            |(name, value): &(&str, &str)| format!("{name}={}", super::sigv4::encoded(value.as_bytes(), b""));
        let body = fields.iter().map(encoded).collect::<Vec<_>>().join("&");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, form)]);
        Self { method: Method::POST, url, headers, body: Secret::new(body), timeout: PATIENCE }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Adds a secret header. `at` says where its value is from.
    fn with_secret(mut self, name: &'static str, value: &Secret, at: &str) -> Result<Self, Error> {
        let mut header = HeaderValue::from_str(value.expose())
            .map_err(|_| setting(at, "it holds characters that a header cannot carry"))?;
        header.set_sensitive(true);
        self.headers.insert(HeaderName::from_static(name), header);
        Ok(self)
    }
}

/// Reads JSON. The parser's own words are kept back: they may quote a secret.
fn json<T: DeserializeOwned>(whom: &'static str, text: &Secret) -> Result<T, Error> {
    serde_json::from_str(text.expose()).map_err(|error| Error::Malformed {
        whom,
        why: format!("is not the JSON expected, at line {}, column {}", error.line(), error.column()).into(),
    })
}

/// What a reply must have, as a secret.
fn needed(whom: &'static str, name: &str, value: Option<String>) -> Result<Secret, Error> {
    match value.map(Secret::new).filter(|secret| !secret.is_empty()) {
        // It goes into a header, sooner or later.
        Some(secret) if secret.expose().bytes().all(|byte| (0x20..0x7f).contains(&byte)) => Ok(secret),
        Some(_) => {
            let why = format!("has a `{name}` with characters that cannot be sent");
            Err(Error::Malformed { whom, why: why.into() })
        }
        None => Err(Error::Malformed { whom, why: format!("has no `{name}`").into() }),
    }
}

// === Error ===

/// Why there is no credential. No variant holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nothing is configured anywhere.
    Nowhere {
        /// Where it was looked for.
        looked: &'static str,
    },
    /// What is configured is a source that is not supported.
    Unsupported {
        /// Where it is configured.
        at: String,
        /// What it is, and what to use in its place.
        what: &'static str,
    },
    /// A file or variable is missing or wrong.
    Setting {
        /// Which.
        at: String,
        /// How.
        why: Cow<'static, str>,
    },
    /// The service did not answer.
    Unreachable {
        /// Which service.
        whom: &'static str,
        /// Where it should be.
        url: String,
        /// Why not.
        why: String,
    },
    /// The service said no.
    Refused {
        /// Which service.
        whom: &'static str,
        /// The status of its reply.
        status: u16,
        /// Its own words, cut to a line.
        says: String,
    },
    /// The service's reply is not what it should be.
    Malformed {
        /// Which service.
        whom: &'static str,
        /// How.
        why: Cow<'static, str>,
    },
    /// What the service gave has ended already.
    Ended,
}

fn setting(at: impl fmt::Display, why: impl Into<Cow<'static, str>>) -> Error {
    Error::Setting { at: at.to_string(), why: why.into() }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere { looked } => write!(f, "no credential is configured; looked for {looked}"),
            Self::Unsupported { at, what } => write!(f, "{at}: {what}"),
            Self::Setting { at, why } => write!(f, "{at}: {why}"),
            Self::Unreachable { whom, url, why } => write!(f, "no answer from {whom} at {url}: {why}"),
            Self::Refused { whom, status, says } if says.is_empty() => write!(f, "{whom} answered {status}"),
            Self::Refused { whom, status, says } => write!(f, "{whom} answered {status}: {says}"),
            Self::Malformed { whom, why } => write!(f, "the reply of {whom} {why}"),
            Self::Ended => f.write_str(
                "the credential obtained has ended already; see that this machine's clock is right",
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<&Error> for crate::error::Error {
    /// Nothing was sent to the provider, so another may be tried; why, is for the log alone.
    fn from(error: &Error) -> Self {
        Self::gateway(Kind::UpstreamFailed, "the gateway has no valid credential for the upstream provider")
            .because(error)
            .elsewhere()
    }
}

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
