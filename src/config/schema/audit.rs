//! Who did what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Period, SecretRef, Size, Timer, Url};

/// The audit log: administrative acts, callers that nobody knows, what rules refused, uses of keys. Its lines are chained, so
/// that none can be changed unseen: `forebay audit verify FILE`. Without `file` and `http` there is none.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file that lines are added to. Its folder must be there. A relative path starts at the configuration file.
    pub file: Option<String>,
    /// How long after a line it is synced to the disk, at the latest; `0s` is at once.
    pub sync: Period,
    /// From which size on another file is begun. The old one gets a number behind its name.
    pub rotate: Size,
    /// How many old files are kept. Left out: all.
    #[schemars(range(min = 1))]
    pub keep: Option<u32>,
    /// Whom the lines are sent to as well, or instead.
    pub http: Option<AuditHttp>,
    /// What the chain's hashes are made with, so that nobody else can make the chain anew: `env:NAME` or `file:PATH`. Left
    /// out: anyone who can write the file can.
    pub key: Option<SecretRef>,
    /// Which uses of keys are noted.
    pub key_use: KeyUse,
    /// How often the last hash goes to the log, where it proves later that nothing was cut off the end; or `off`.
    pub anchor: Timer,
    /// How many refusals of one address or principal have lines of their own in a minute; the others are counted in one.
    #[schemars(range(min = 1, max = 10000))]
    pub per_minute: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            file: None,
            sync: Period::seconds(1),
            rotate: Size(64 << 20),
            keep: None,
            http: None,
            key: None,
            key_use: KeyUse::First,
            anchor: Timer::Every(Period::seconds(600)),
            per_minute: 10,
        }
    }
}

/// Whom the audit log is sent to: batches of lines as `application/x-ndjson`, by POST, until they are taken with a status of
/// 2xx.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditHttp {
    /// Where to.
    pub url: Url,
    /// What is sent as `authorization: Bearer TOKEN`: `env:NAME` or `file:PATH`.
    pub token: Option<SecretRef>,
    /// The most of a batch.
    #[serde(default = "AuditHttp::batch")]
    pub batch: Size,
    /// How long a line may wait for others.
    #[serde(default = "AuditHttp::linger")]
    pub linger: Period,
    /// The most that waits while nobody takes it; then the oldest is dropped, and counted.
    #[serde(default = "AuditHttp::buffer")]
    pub buffer: Size,
}

impl AuditHttp {
    fn batch() -> Size {
        Size(256 << 10)
    }

    fn linger() -> Period {
        Period::seconds(1)
    }

    fn buffer() -> Size {
        Size(16 << 20)
    }
}

/// Which uses of keys are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// None.
    Off,
    /// The first of each principal in an hour.
    First,
    /// All: a line an exchange.
    All,
}
