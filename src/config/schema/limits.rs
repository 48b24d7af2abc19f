//! How much anyone may use.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::Dollars;

/// How much callers may use whose own keys do not say.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// What each principal may use of which its own `limits` say nothing. Whoever calls without a key is a principal by the
    /// address, an IPv6 one by its /64.
    pub principal: Quota,
    /// What any one address may send, before anything else is looked at. It is a shield, and counts about right: it may
    /// take a few addresses for one.
    pub address: Shield,
}

/// What one address may send.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shield {
    /// Requests each second.
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
    /// Requests under way at once.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
}

/// How much may be used. A rate lets as much through at once as it says, and after that as fast as it says. What is
/// reached is answered with 429 and the time after which there is room.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests each second.
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u64>,
    /// Requests each minute.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u64>,
    /// Requests each day.
    #[schemars(range(min = 1))]
    pub requests_per_day: Option<u64>,
    /// Tokens each second, of prompts and replies. What a request may use is reserved before it is sent: a guess of its
    /// prompt, and the `max_tokens` it allows, or what the model's replies have on average. Then what it used counts.
    #[schemars(range(min = 1))]
    pub tokens_per_second: Option<u64>,
    /// Tokens each minute.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// Tokens each day.
    #[schemars(range(min = 1))]
    pub tokens_per_day: Option<u64>,
    /// Requests under way at once.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u64>,
    /// Money.
    pub budget: Allowance,
    /// Where it is counted if there is a store that all nodes share (leased).
    pub sharing: Option<Sharing>,
    /// What is done while that store does not answer (fail_open).
    pub outage: Option<Outage>,
}

/// How much money may be spent, in US dollars, by the prices of `prices`. Days and months are those of UTC.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allowance {
    /// Each day.
    pub day: Option<Dollars>,
    /// Each month.
    pub month: Option<Dollars>,
    /// In all.
    pub total: Option<Dollars>,
    /// What is done when it is spent.
    pub spent: Spent,
    /// What is done with models that have no known price: a budget cannot hold for them.
    pub unpriced: Unpriced,
    /// The shares of it at which a warning is logged, from 0 to 1.
    pub warn_at: Vec<f64>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            day: None,
            month: None,
            total: None,
            spent: Spent::Refuse,
            unpriced: Unpriced::Refuse,
            warn_at: vec![0.8, 0.95],
        }
    }
}

/// What is done when a budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spent {
    /// Requests are refused with 429, and SDKs are told not to try again.
    #[default]
    Refuse,
    /// A warning is logged, and they are served.
    Warn,
}

/// What is done with models without a known price where there is a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unpriced {
    /// They are refused with 403, unless the budget only warns.
    #[default]
    Refuse,
    /// They are served, and cost the budget nothing.
    Serve,
}

/// Where a limit is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each node takes slices of what is left ahead of use, so that no request waits for the store.
    #[default]
    Leased,
    /// The store is asked for every request.
    Exact,
    /// Each node counts for itself.
    Local,
}

/// What is done while the shared store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Each node lets its share through.
    #[default]
    FailOpen,
    /// Nothing is let through.
    FailClosed,
}

/// Limits for some models alone, by the name that clients send; a name may hold one `*`.
pub type ModelQuotas = BTreeMap<String, Quota>;
