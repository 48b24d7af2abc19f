//! Who may use how much: requests, tokens, requests under way, and money.
//!
//! [`Limits`] is what is configured of one [`Subject`]: a key, a team, an organisation, a model, a cluster. The [`Book`]
//! keeps a [`Meter`] for each of its limits, under a name that a change of the configuration does not touch, so that
//! nobody's count begins anew with it.
//!
//! # Reserve, settle, abandon
//!
//! What an exchange will use is not known before it is over, so what it may use is taken beforehand, of every meter that it
//! counts on, or of none: that is a [`Hold`]. Once something was sent upstream, the hold is *settled* with what was really
//! used; one that is dropped before is *abandoned*, and leaves no trace. A hold that was never settled although something
//! was sent stays counted as it was reserved: an error here costs a caller a few tokens, not the operator money.
//!
//! All of it is one call, [`Hold::reserve`], which waits only where a limit is shared and the store has to be asked; then
//! [`Hold::sent`] and [`Hold::settle`], which never wait.
//!
//! # Shared limits
//!
//! A book that has a [`Remote`] ([`Book::shared`]) shares its limits with the other nodes, but for those that are
//! [`Sharing::Local`]. [`Remote::start`] connects, once the process serves; [`Remote::leave`] gives back what is ahead of use,
//! once it is drained. The rest of this page holds for shared limits too; [`remote`] says what differs.
//!
//! # Rates and budgets
//!
//! A rate is kept by the generic cell rate algorithm (ITU-T I.371), one atomic number for each: as much as the limit at
//! once, and after that as fast as the limit says. Over any window of its period, it lets through at most twice the limit,
//! and over a long time never more than the limit. A budget is money of a calendar day, month or all time, in UTC.

mod book;
mod budget;
mod forecast;
mod hold;
mod meter;
mod rate;
pub mod remote;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::pattern::Pattern;
pub use book::{Book, Bound};
pub use budget::Budget;
pub use forecast::{Forecast, Prompt};
pub use hold::{Demand, Hold, Used};
pub use meter::{Meter, Refused};
pub use rate::{Pace, Rate};
pub use remote::Remote;

/// Now, by the clocks that limits go by.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Nanoseconds since the process began: what rates go by.
    pub nanos: u64,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Now {
    /// The moment at which the monotonic clock showed that.
    pub fn at(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*EPOCH);
        Self {
            nanos: since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into()),
        }
    }

    /// What days and months go by. Only budgets ask for it.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// There will be enough after that time.
    Wait(Duration),
    /// There never will: more was asked at once than there can be, or it is spent for good.
    Never,
    /// The store in which it is counted does not answer, and nothing is let through without it ([`Outage::Closed`]): no
    /// fault of the caller's.
    Away,
}

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How much there is when nothing is used.
    pub limit: u64,
    /// How much is left.
    pub remaining: u64,
    /// After how long all of it is there again.
    pub reset: Duration,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens: those of the prompt, cached ones included, and those of the reply.
    Tokens,
    /// Requests under way.
    Concurrency,
    /// Picodollars: millionths of a millionth.
    Money,
}

impl Measure {
    /// The name used in errors, logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
            Self::Money => "budget",
        }
    }
}

/// The time that a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// A day: of 24 hours for a rate, of the calendar for a budget.
    Day,
    /// A month of the calendar.
    Month,
    /// All time.
    Ever,
}

impl Per {
    /// The name used in errors, logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Month => "month",
            Self::Ever => "ever",
        }
    }

    /// The period of a rate.
    pub fn period(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Day => 86_400,
            Self::Month => 30 * 86_400,
            Self::Ever => u64::from(u32::MAX),
        })
    }
}

/// Who or what a limit is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A principal.
    Key(Arc<str>),
    /// A team.
    Team(Arc<str>),
    /// An organisation.
    Organisation(Arc<str>),
    /// A model alias, whoever asks for it.
    Model(Arc<str>),
    /// A cluster.
    Cluster(Arc<str>),
    /// A key of a cluster, by both names.
    ProviderKey(Arc<str>, Arc<str>),
    /// Whoever calls from an address without a key.
    Address(Arc<str>),
}

impl Subject {
    /// The kind, for metric labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Team(_) => "team",
            Self::Organisation(_) => "organisation",
            Self::Model(_) => "model",
            Self::Cluster(_) => "cluster",
            Self::ProviderKey(..) => "provider_key",
            Self::Address(_) => "address",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProviderKey(cluster, key) => write!(f, "{}:{cluster}/{key}", self.kind()),
            Self::Key(name)
            | Self::Team(name)
            | Self::Organisation(name)
            | Self::Model(name)
            | Self::Cluster(name)
            | Self::Address(name) => write!(f, "{}:{name}", self.kind()),
        }
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What is counted.
    pub measure: Measure,
    /// In what time. Without meaning for [`Measure::Concurrency`].
    pub per: Per,
    /// How much of it: more than nothing.
    pub most: u64,
    /// What is done when it is reached.
    pub reached: Reached,
    /// Where it is counted.
    pub sharing: Sharing,
}

/// What is done when a limit is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Whether more is refused; otherwise it is only told.
    pub refuse: bool,
    /// Whether what has no known price is served all the same. Of budgets only.
    pub serves_unpriced: bool,
    /// The shares at which it is told beforehand, from 0 to 1, rising. Of budgets only.
    pub tell_at: Arc<[f64]>,
}

impl Default for Reached {
    fn default() -> Self {
        Self { refuse: true, serves_unpriced: false, tell_at: Arc::default() }
    }
}

/// Where a limit is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// By each node for itself, also where there is a store that all share.
    Local,
    /// In the shared store, if there is one: each node takes slices of it ahead of use.
    #[default]
    Leased,
    /// In the shared store, if there is one: it is asked by each exchange.
    Exact,
}

/// What is done while the shared store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outage {
    /// Each node lets through its share.
    #[default]
    Open,
    /// Nothing is let through.
    Closed,
}

/// What is configured of one subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// What holds for all its requests together.
    pub all: Vec<Limit>,
    /// What holds for those alone that ask for such models, besides.
    pub models: Vec<(Pattern, Vec<Limit>)>,
    /// What is done while the shared store does not answer.
    pub outage: Outage,
}

/// What is configured of everyone who has no limits of their own, and of whom there are as many as come.
#[derive(Debug, Default)]
pub struct Everyones {
    /// The limits of each.
    pub limits: Limits,
    known: Mutex<HashMap<Subject, Arc<Bound>>>,
}

/// How many of those who came last are known.
const KNOWN: usize = 16_384;

impl Everyones {
    /// Those of whom that is configured.
    pub fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// The meters of one of them.
    pub fn of(&self, subject: Subject, book: &Book) -> Arc<Bound> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            // Their counts are in the book.
            known.clear();
        }
        let new = |subject: &Subject| book.bind(subject, &self.limits);
        Arc::clone(known.entry(subject).or_insert_with_key(new))
    }
}

impl Limits {
    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.models.is_empty()
    }
}
