//! Clocks, models and routes: what becomes of a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::one;
use super::limits::Quota;
use crate::config::value::{HostPattern, PathPrefix, Pattern, Period, Size, Sticky, Timer};

/// How long anything may take. All are separate; a heartbeat resets none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clocks {
    /// Connecting to an endpoint (5s).
    pub connect: Option<Period>,
    /// The TLS handshake with an endpoint (5s).
    pub tls: Option<Period>,
    /// Each write of the request to an endpoint (30s).
    pub write: Option<Period>,
    /// From the request's end to the reply's head (10m). Engines that queue, and replies that are not streamed, send
    /// no head before they are done.
    pub head: Option<Period>,
    /// From the request's end to the first content token (10m). Reasoning models think for minutes first.
    pub first_token: Option<Period>,
    /// Between one token and the next (2m). A stream silent for longer is taken for dead.
    pub gap: Option<Period>,
    /// One whole attempt (30m).
    pub attempt: Option<Period>,
    /// The whole exchange, every attempt and wait included (1h).
    pub exchange: Option<Period>,
    /// Each write of the reply to the client (60s). A client that reads nothing for longer is dropped.
    pub client_write: Option<Period>,
    /// How long a stream may be silent before the client is sent a comment that keeps proxies on the way from closing
    /// it (15s), or `off`.
    pub heartbeat: Option<Timer>,
}

impl Clocks {
    /// What holds where nothing is set.
    pub fn standard() -> Self {
        let seconds = |seconds| Some(Period::seconds(seconds));
        Self {
            connect: seconds(5),
            tls: seconds(5),
            write: seconds(30),
            head: seconds(600),
            first_token: seconds(600),
            gap: seconds(120),
            attempt: seconds(1800),
            exchange: seconds(3600),
            client_write: seconds(60),
            heartbeat: Some(Timer::Every(Period::seconds(15))),
        }
    }

    /// These clocks, and where one is not set, that of `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            connect: self.connect.or(other.connect),
            tls: self.tls.or(other.tls),
            write: self.write.or(other.write),
            head: self.head.or(other.head),
            first_token: self.first_token.or(other.first_token),
            gap: self.gap.or(other.gap),
            attempt: self.attempt.or(other.attempt),
            exchange: self.exchange.or(other.exchange),
            client_write: self.client_write.or(other.client_write),
            heartbeat: self.heartbeat.or(other.heartbeat),
        }
    }
}

/// A model alias: where requests for it can go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The places a request can go to. Those of the lowest priority number share the requests by weight; the others
    /// follow when all of those are down.
    #[schemars(length(min = 1))]
    pub deployments: Vec<Deployment>,
    /// Give the same client the same deployment each time: `principal`, or `header:NAME` for the value of a header.
    /// For canaries and A/B tests. Left out: each request is shared out anew.
    pub sticky: Option<Sticky>,
    /// How long anything may take for this model.
    #[serde(default)]
    pub clocks: Clocks,
    /// Other models that take over what this one cannot take.
    #[serde(default)]
    pub fallback: Fallback,
    /// How much of it everyone together may use.
    #[serde(default)]
    pub limits: Quota,
    /// Show it in `/v1/models`. A pattern never is.
    #[serde(default = "yes")]
    pub list: bool,
}

/// Models that take over what another cannot take. One that the caller may not use, or not on this
/// route, takes nothing over. It is asked once even where `retry.attempts` is used up.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// The model that is asked where the prompt is longer than this one takes: one of a larger context.
    pub too_long: Option<String>,
    /// The model that is asked where the upstream's content policy refuses the request.
    pub filtered: Option<String>,
}

/// Which regions requests may go to. A cluster has its region from its own `region`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Regions {
    /// Only these, such as `eu-*`. A cluster that says no region is not among them. Left out: all.
    pub allow: Option<Vec<Pattern>>,
    /// None of these; and no cluster that says no region.
    pub deny: Vec<Pattern>,
}

/// A place that an alias can go to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The name of a cluster.
    pub cluster: String,
    /// The model's name there. One `*` stands for what the `*` of the alias matched. Left out: what the client sent.
    pub model: Option<Pattern>,
    /// Its share of the requests, against the weights of the others of its priority. 0 takes it out of service.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// Deployments of a higher number are used only when none of a lower one is left.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub priority: u32,
}

/// What is served under which hosts and paths.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: String,
    /// The hosts it is for: exact, or `*.` and a suffix. Left out: all.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// The path it begins at: clients use it as their `base_url`, with or without `/v1`.
    #[serde(default = "slash")]
    pub path: PathPrefix,
    /// Headers that a request must have, with these values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The aliases that may be asked for here. Left out: all.
    pub models: Option<Vec<Pattern>>,
    /// Pass anything through unread to `cluster`: files, audio, batches, WebSockets. No alias, no translation.
    #[serde(default)]
    pub raw: bool,
    /// Where a raw route goes: the name of a cluster.
    pub cluster: Option<String>,
    /// Take `path` off before the request goes upstream. Left out: true for raw routes; others never keep it.
    pub strip_path: Option<bool>,
    /// What is done where a request goes to an API of another dialect, and holds a field that has no place there.
    #[serde(default)]
    pub loss: Loss,
    /// Compress JSON replies over 1 KiB for clients that accept it. Streams never are.
    #[serde(default = "yes")]
    pub compress: bool,
    /// Tell what a whole reply cost, in dollars, with the header `x-forebay-cost`. A stream's head goes before that is
    /// known, and SDKs read no trailers: look in the access log or the ledger.
    #[serde(default)]
    pub cost: bool,
    /// The largest request body here. Left out: that of `intake`; on a raw route, no bound.
    pub max_body: Option<Size>,
    /// Where its requests may go: data residency. It goes before every other choice.
    #[serde(default)]
    pub regions: Regions,
    /// How important its requests are where not all can go at once, if the caller's key does not say: who goes first, and
    /// who is refused last. A request may say less of itself, with the header `x-forebay-priority`.
    #[serde(default)]
    pub priority: Priority,
    /// Whether its requests may go to a deployment of a higher priority number because of load, as `spill` of a cluster
    /// says. If false they wait, or are refused. Where a cluster fails, they go there all the same.
    #[serde(default = "yes")]
    pub spill: bool,
    /// What its requests must keep to, and what is put into them or taken out.
    pub policy: Option<super::RoutePolicy>,
    /// How long anything may take on this route.
    #[serde(default)]
    pub clocks: Clocks,
}

/// How important a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Work that can wait.
    Low,
    /// Everything else.
    #[default]
    Normal,
    /// Someone waits for it.
    High,
}

/// What is done about fields that cannot be carried from one dialect to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// They are left out, and `x-forebay-dropped` in the reply names them.
    #[default]
    Lenient,
    /// The request is refused with status 400, and the first of them is named.
    Strict,
}

pub(super) fn yes() -> bool {
    true
}

fn slash() -> PathPrefix {
    PathPrefix("/".to_owned())
}
