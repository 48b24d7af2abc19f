//! The one error type of an exchange, and the one place with status codes.
//!
//! An [`Error`] says whose fault it was ([`Blame`]), what happened ([`Kind`]), whether another
//! attempt may help ([`Retry`]), what the client is told (`public`) and what only the log is told
//! (`private`). Turning it into a body is the business of the client's dialect
//! ([`crate::dialect::error`]).

use std::borrow::Cow;
use std::fmt;

/// Whose fault an error is. Breakers count [`Blame::Upstream`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something wrong, or left.
    Client,
    /// The upstream failed, refused or fell silent.
    Upstream,
    /// A configured rule refused the exchange.
    Policy,
    /// Forebay itself: a bug, or a resource it ran out of.
    Gateway,
}

impl Blame {
    /// The name used in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
            Self::Gateway => "gateway",
        }
    }
}

/// Whether another attempt at the same exchange may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No: the same request fails everywhere, or it may already have been billed.
    Never,
    /// The request never reached the upstream: another endpoint may be tried at once.
    Elsewhere,
    /// It did, and may have been worked on, but the client was told nothing yet.
    Again,
    /// It did, and the endpoint is taken out of service before it could answer.
    Moved,
}

/// What happened. Every kind has one status; [`crate::dialect::error`] gives it each dialect's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 400: the request is not what the API takes.
    InvalidRequest,
    /// 401: no credential, or one that denotes nobody.
    Unauthenticated,
    /// 403: a known principal asks for what it may not have.
    Forbidden,
    /// 404: no such path.
    UnknownPath,
    /// 404: no such model, or none this principal may use.
    UnknownModel,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 408: the client was too slow to send its request.
    ClientTimeout,
    /// 413: the body is over its bound.
    TooLarge,
    /// 414: the request target is over its bound.
    TargetTooLong,
    /// 415: a content type or coding that cannot be read.
    UnsupportedMedia,
    /// 417: an expectation other than `100-continue`.
    ExpectationFailed,
    /// 421: the request is for a host this listener does not serve.
    Misdirected,
    /// 429: over a rate.
    RateLimited,
    /// 429: what it may spend is spent; to try again does not help.
    QuotaSpent,
    /// 431: the head is over its bound.
    HeadTooLarge,
    /// 499 (never on the wire): the client left.
    ClientGone,
    /// 500: a fault of Forebay's.
    Internal,
    /// 501: something HTTP allows and Forebay does not do.
    NotImplemented,
    /// 502: the upstream could not be reached, or broke the protocol, or refused our credential.
    UpstreamFailed,
    /// 503: no upstream, memory or place in the queue is left.
    Overloaded,
    /// 504: the upstream was too slow.
    UpstreamTimeout,
    /// 505: an HTTP version that is not served.
    VersionNotSupported,
}

impl Kind {
    /// The HTTP status of this kind (RFC 9110 §15; 499 is nginx's and only ever logged).
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownPath | Self::UnknownModel => 404,
            Self::MethodNotAllowed => 405,
            Self::ClientTimeout => 408,
            Self::TooLarge => 413,
            Self::TargetTooLong => 414,
            Self::UnsupportedMedia => 415,
            Self::ExpectationFailed => 417,
            Self::Misdirected => 421,
            Self::RateLimited | Self::QuotaSpent => 429,
            Self::HeadTooLarge => 431,
            Self::ClientGone => 499,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::UpstreamFailed => 502,
            Self::Overloaded => 503,
            Self::UpstreamTimeout => 504,
            Self::VersionNotSupported => 505,
        }
    }
}

/// An exchange that did not end well.
#[derive(Clone, Debug)]
pub struct Error {
    /// Whose fault it is.
    pub blame: Blame,
    /// What happened.
    pub kind: Kind,
    /// Whether another attempt may help.
    pub retry: Retry,
    /// What the client is told: what is wrong and what to do. Never holds a secret or an internal address.
    pub public: Cow<'static, str>,
    /// What only the log is told.
    pub private: String,
    /// The request field at fault, if one is.
    pub param: Option<Cow<'static, str>>,
    /// Seconds after which the client may try again, if that is known.
    pub retry_after: Option<u32>,
}

impl Error {
    fn new(blame: Blame, kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self {
            blame,
            kind,
            retry: Retry::Never,
            public: public.into(),
            private: String::new(),
            param: None,
            retry_after: None,
        }
    }

    /// An error of the client's making.
    pub fn client(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Client, kind, public)
    }

    /// An error of the upstream's making.
    pub fn upstream(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Upstream, kind, public)
    }

    /// A refusal by a configured rule.
    pub fn policy(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Policy, kind, public)
    }

    /// An error of Forebay's own making.
    pub fn gateway(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Gateway, kind, public)
    }

    /// The client left before its exchange was over.
    pub fn client_gone() -> Self {
        Self::client(Kind::ClientGone, "the client closed the connection")
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Adds what only the log is told.
    #[must_use]
    pub fn because(mut self, private: impl fmt::Display) -> Self {
        self.private = private.to_string();
        self
    }

    /// Says that the request never reached the upstream, so that another endpoint may be tried.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.retry = Retry::Elsewhere;
        self
    }

    /// Says that the request may be sent again although it was sent once.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.retry = Retry::Again;
        self
    }

    /// Says that the endpoint is taken out of service, so that what it was at must go on at another.
    #[must_use]
    pub fn moved(mut self) -> Self {
        self.retry = Retry::Moved;
        self
    }

    /// Says when the client may try again.
    #[must_use]
    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {})", self.public, self.kind, self.blame.name())?;
        if !self.private.is_empty() {
            write!(f, ": {}", self.private)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
