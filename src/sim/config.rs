//! What a simulator can be told. Every field has a default; unknown fields are errors.

use super::replay::Replay;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// How a simulator behaves. The default answers every API at once, without limits, faults or a key.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Models listed by `GET /v1/models`. Other names are accepted too unless `strict`.
    pub models: Vec<String>,
    /// Start of everything made up: text, ids, dates, draws. The same seed and requests give the same bytes.
    pub seed: u64,
    /// The text of every reply, instead of made-up words.
    pub text: Option<String>,
    /// How many tokens a made-up text has, from `min` to `max`; the request's own limit shortens it.
    pub output_tokens: Span,
    /// The arguments of every call of a tool, by the tool's name, instead of ones made up from its schema.
    pub arguments: BTreeMap<String, Value>,
    /// A key that clients must send (as `Authorization: Bearer`, `x-api-key` or `api-key`).
    pub api_key: Option<Secret>,
    /// Refuse unknown models (404), Messages requests without `anthropic-version`, and conversations that do not fit
    /// together (400), as the real APIs do.
    pub strict: bool,
    /// Longest prompt in tokens; a longer one gets the API's own context-length error.
    pub context_tokens: Option<u64>,
    /// Longest request body in bytes; a longer one gets 413.
    pub max_body: usize,
    /// Length of an embedding when the request names no `dimensions`.
    pub embedding_dimensions: usize,
    /// Put the real time into `created` instead of one derived from seed and request.
    pub wall_clock: bool,
    /// The machine that runs the model.
    pub engine: EngineConfig,
    /// The company around it.
    pub provider: ProviderConfig,
    /// Faults that strike without being asked for by a request.
    pub faults: Vec<FaultRule>,
    /// Close a connection that was idle for so long, in milliseconds.
    pub keep_alive_ms: Option<u64>,
    /// Close a connection after so many requests.
    pub keep_alive_requests: Option<u64>,
    /// How many of the latest requests to keep for tests to read.
    pub record: usize,
    /// How many bytes of each kept request's body to keep.
    pub record_body: usize,
    /// Answer with replies rendered once, for benchmarks.
    pub fixed: Option<Fixed>,
    /// Answer with recorded replies instead of simulated ones.
    pub replay: Option<Replay>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            models: vec!["sim-model".into(), "sim-embedding".into()],
            seed: 0,
            text: None,
            output_tokens: Span { min: 16, max: 48 },
            arguments: BTreeMap::new(),
            api_key: None,
            strict: false,
            context_tokens: None,
            max_body: 64 << 20,
            embedding_dimensions: 64,
            wall_clock: false,
            engine: EngineConfig::default(),
            provider: ProviderConfig::default(),
            faults: Vec::new(),
            keep_alive_ms: None,
            keep_alive_requests: None,
            record: 256,
            record_body: 64 << 10,
            fixed: None,
            replay: None,
        }
    }
}

impl Config {
    /// Looks for values that make no sense; the error says which and what to write.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.models.is_empty() || self.models.iter().any(String::is_empty) {
            return Err("models: name at least one model, and none may be empty".into());
        }
        if self.output_tokens.min > self.output_tokens.max {
            return Err("output_tokens: min must not be above max".into());
        }
        for (name, rate) in [("prefill_tps", self.engine.prefill_tps), ("decode_tps", self.engine.decode_tps)]
        {
            if rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
                return Err(format!(
                    "engine.{name}: write a number of tokens a second above 0, or leave it out"
                ));
            }
        }
        if self.engine.slots == Some(0) {
            return Err("engine.slots: write at least 1, or leave it out for no bound".into());
        }
        if !(self.engine.slowdown.is_finite() && self.engine.slowdown >= 0.0) {
            return Err("engine.slowdown: write 0 or more".into());
        }
        self.provider.check()
    }
}

/// An inclusive range of counts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// The engine: how fast, how many at once, how many may wait.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Prompt tokens read a second; without it prompts take no time.
    pub prefill_tps: Option<f64>,
    /// Tokens a second that one stream gets when alone; without it decoding takes no time.
    pub decode_tps: Option<f64>,
    /// How much each further running request slows all: the rate is divided by `1 + slowdown * (running - 1)`.
    pub slowdown: f64,
    /// Requests that run at once; the rest wait in order. Without it there is no bound.
    pub slots: Option<usize>,
    /// Requests that may wait; the next gets 503. Without it there is no bound.
    pub queue: Option<usize>,
    /// Size of the KV cache in tokens, for the usage gauge only.
    pub kv_tokens: u64,
    /// Blocks of 16 prompt tokens that the prefix cache holds; 0 is no prefix cache.
    pub prefix_blocks: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            prefill_tps: None,
            decode_tps: None,
            slowdown: 0.0,
            slots: None,
            queue: None,
            kv_tokens: 100_000,
            prefix_blocks: 0,
        }
    }
}

/// The provider: latency before anything happens, errors at random, and rate limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// Added before every model call.
    pub latency: Latency,
    /// Share of model calls (0 to 1) that get each of these statuses.
    pub errors: BTreeMap<u16, f64>,
    /// `retry-after` in seconds on 429, 503 and 529 replies; 0 sends none.
    pub retry_after: u64,
    /// Whether model calls carry rate-limit headers.
    pub headers: bool,
    /// A real bucket of requests; the header values are constant without one.
    pub requests_per_minute: Option<u64>,
    /// A real bucket of prompt tokens.
    pub tokens_per_minute: Option<u64>,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            latency: Latency::None,
            errors: BTreeMap::new(),
            retry_after: 1,
            headers: true,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

impl ProviderConfig {
    fn check(&self) -> Result<(), String> {
        let total: f64 = self.errors.values().sum();
        if self.errors.values().any(|rate| !(0.0..=1.0).contains(rate)) || total > 1.0 {
            return Err("provider.errors: write shares from 0 to 1 that sum to at most 1".into());
        }
        if let Some(status) = self.errors.keys().find(|status| !(400..=599).contains(*status)) {
            return Err(format!("provider.errors: {status} is no error status; write 400 to 599"));
        }
        if self.requests_per_minute == Some(0) || self.tokens_per_minute == Some(0) {
            return Err("provider: a limit a minute must be at least 1; leave it out for none".into());
        }
        self.latency.check()
    }
}

/// A distribution of waiting times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// No wait.
    #[default]
    None,
    /// Always the same.
    Fixed(f64),
    /// Every value between the two equally often.
    Uniform {
        /// Shortest.
        min: f64,
        /// Longest.
        max: f64,
    },
    /// Half below the median, with a tail that `sigma` (the deviation of the logarithm) makes long.
    Lognormal {
        /// Median.
        median: f64,
        /// Deviation of the natural logarithm; 0.5 is mild, 1 is wild.
        sigma: f64,
    },
}

impl Latency {
    fn check(self) -> Result<(), String> {
        let good = match self {
            Self::None => true,
            Self::Fixed(ms) => ms.is_finite() && ms >= 0.0,
            Self::Uniform { min, max } => min.is_finite() && max.is_finite() && 0.0 <= min && min <= max,
            Self::Lognormal { median, sigma } => {
                median.is_finite() && sigma.is_finite() && median > 0.0 && sigma >= 0.0
            }
        };
        if good {
            Ok(())
        } else {
            Err("provider.latency: write finite milliseconds from 0, min not above max".into())
        }
    }
}

/// A fault that strikes by itself: always, at a rate, or for the first requests.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Faults as in the `x-sim-fault` header: `name[=argument][;...]` (see [`super::Fault`]).
    pub fault: String,
    /// Share of the requests it strikes, 0 to 1.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Strike the first so many requests only.
    #[serde(default)]
    pub first: Option<u64>,
    /// Paths that start so; without it, every call of a model.
    #[serde(default)]
    pub path: Option<String>,
}

/// Replies rendered once and sent as they are, so that a benchmark measures the proxy and not the simulator.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixed {
    /// Length of a reply that is not a stream, in bytes (about; never under what its fields need).
    pub body_bytes: usize,
    /// Length of each streamed event that carries text, in bytes (about; likewise).
    pub event_bytes: usize,
    /// How many such events.
    pub events: usize,
    /// Time between them in milliseconds; 0 sends them without a pause.
    pub interval_ms: u64,
    /// Put the time of sending, as 19 digits of nanoseconds since 1970, into each event's text; not into AWS's frames.
    pub stamp: bool,
}

impl Default for Fixed {
    fn default() -> Self {
        Self { body_bytes: 340, event_bytes: 180, events: 100, interval_ms: 20, stamp: false }
    }
}

/// A string that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Whether `offered` is the secret.
    pub(crate) fn is(&self, offered: &str) -> bool {
        self.0 == offered
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_say_little_and_nothing_unknown() {
        let config: Config = serde_json::from_str(
            r#"{"seed": 3, "engine": {"slots": 2}, "provider": {"latency": {"lognormal": {"median": 40, "sigma": 0.5}},
                "errors": {"429": 0.1}}, "faults": [{"fault": "cut=3", "rate": 0.5}], "fixed": {"events": 5},
                "api_key": "k"}"#,
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(config.provider.latency, Latency::Lognormal { median: 40.0, sigma: 0.5 });
        assert_eq!(config.fixed.as_ref().unwrap().event_bytes, 180);
        assert_eq!(config.provider.errors[&429], 0.1);
        assert!(!format!("{config:?}").contains("\"k\""));
        assert!(serde_json::from_str::<Config>(r#"{"sed": 3}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"engine": {"slot": 3}}"#).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(bad(|c| c.models.clear()).starts_with("models"));
        assert!(bad(|c| c.engine.slots = Some(0)).starts_with("engine.slots"));
        assert!(bad(|c| c.engine.decode_tps = Some(-1.0)).starts_with("engine.decode_tps"));
        assert!(bad(|c| c.provider.errors = [(429, 0.7), (500, 0.7)].into()).starts_with("provider.errors"));
        assert!(bad(|c| c.provider.errors = [(200, 0.7)].into()).contains("200"));
        assert!(bad(|c| c.provider.latency = Latency::Uniform { min: 3.0, max: 1.0 }).contains("latency"));
        assert!(bad(|c| c.output_tokens = Span { min: 3, max: 1 }).contains("output_tokens"));
    }
}
