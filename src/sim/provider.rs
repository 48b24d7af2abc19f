//! The provider model: latency, errors at random, and rate limits with their headers.

use super::api::Header;
use super::api::family::Family;
use super::config::{Latency, ProviderConfig};
use super::stats::locked;
use fastrand::Rng;
use http::{HeaderName, HeaderValue};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The company around the engine.
#[derive(Debug)]
pub(crate) struct Provider {
    config: ProviderConfig,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

impl Provider {
    pub(crate) fn new(config: ProviderConfig) -> Self {
        let bucket = |limit: Option<u64>| limit.map(|limit| Mutex::new(Bucket::new(limit, Instant::now())));
        let (requests, tokens) = (bucket(config.requests_per_minute), bucket(config.tokens_per_minute));
        Self { config, requests, tokens }
    }

    /// How long this call waits before anything happens.
    pub(crate) fn latency(&self, rng: &mut Rng) -> Duration {
        let ms = match self.config.latency {
            Latency::None => return Duration::ZERO,
            Latency::Fixed(ms) => ms,
            Latency::Uniform { min, max } => min + (max - min) * rng.f64(),
            Latency::Lognormal { median, sigma } => median * (sigma * normal(rng)).exp(),
        };
        Duration::try_from_secs_f64(ms.min(86_400_000.0) / 1000.0).unwrap_or_default()
    }

    /// The error this call gets by chance, if it does.
    pub(crate) fn chance(&self, rng: &mut Rng) -> Option<u16> {
        if self.config.errors.is_empty() {
            return None;
        }
        let mut draw = rng.f64();
        self.config.errors.iter().find_map(|(status, rate)| {
            draw -= rate;
            (draw < 0.0).then_some(*status)
        })
    }

    /// Takes one request and `tokens` tokens from the buckets, or says how long until they would be there.
    pub(crate) fn take(&self, tokens: u64, now: Instant) -> Result<(), Duration> {
        let asked = [(&self.requests, 1), (&self.tokens, tokens)];
        let wait = asked.iter().filter_map(|(bucket, n)| Some(locked(bucket.as_ref()?).wait(*n, now))).max();
        match wait {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                for (bucket, n) in asked {
                    if let Some(bucket) = bucket {
                        locked(bucket).take(n);
                    }
                }
                Ok(())
            }
        }
    }

    /// Rate-limit headers in the manner of the API's family.
    pub(crate) fn headers(&self, family: Family, now: Instant, out: &mut Vec<Header>) {
        let names = match family {
            _ if !self.config.headers => return,
            Family::OpenAi | Family::Azure => OPENAI,
            Family::Anthropic => ANTHROPIC,
            // These tell nobody.
            Family::VertexClaude | Family::Google | Family::Bedrock | Family::Cohere | Family::Ollama => {
                return;
            }
        };
        let levels =
            [level(self.requests.as_ref(), 10_000, now), level(self.tokens.as_ref(), 10_000_000, now)];
        let real = self.requests.is_some() || self.tokens.is_some();
        for (names, level) in names.iter().zip(levels) {
            let reset = match (family, real) {
                (Family::Anthropic, true) => rfc3339(SystemTime::now() + level.reset),
                (Family::Anthropic, false) => "2026-01-01T00:00:00Z".into(),
                (Family::Azure, _) => level.reset.as_secs().to_string(),
                (_, true) => format!("{}ms", level.reset.as_millis()),
                (_, false) => "6ms".into(),
            };
            out.push((HeaderName::from_static(names[0]), HeaderValue::from(level.limit)));
            out.push((HeaderName::from_static(names[1]), HeaderValue::from(level.remaining)));
            if let Ok(reset) = HeaderValue::try_from(reset) {
                out.push((HeaderName::from_static(names[2]), reset));
            }
        }
    }

    /// `retry-after` for a reply of this status, in seconds.
    pub(crate) fn retry_after(&self, status: u16) -> Option<u64> {
        (matches!(status, 429 | 503 | 529) && self.config.retry_after > 0).then_some(self.config.retry_after)
    }
}

const OPENAI: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
];
const ANTHROPIC: [[&str; 3]; 2] = [
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    [
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ],
];

/// What the headers tell of one bucket.
struct Level {
    limit: u64,
    remaining: u64,
    reset: Duration,
}

fn level(bucket: Option<&Mutex<Bucket>>, constant: u64, now: Instant) -> Level {
    match bucket {
        None => Level { limit: constant, remaining: constant - 1, reset: Duration::from_millis(6) },
        Some(bucket) => locked(bucket).level(now),
    }
}

/// A bucket that holds a minute's worth and fills steadily.
#[derive(Debug)]
struct Bucket {
    limit: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(limit: u64, now: Instant) -> Self {
        Self { limit: limit as f64, left: limit as f64, at: now }
    }

    /// How long until `n` are there. More than the bucket holds counts as a full bucket.
    fn wait(&mut self, n: u64, now: Instant) -> Duration {
        self.fill(now);
        let short = (n as f64).min(self.limit) - self.left;
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(short * 60.0 / self.limit) }
    }

    fn take(&mut self, n: u64) {
        self.left = (self.left - n as f64).max(0.0);
    }

    fn level(&mut self, now: Instant) -> Level {
        self.fill(now);
        let reset = Duration::from_secs_f64((self.limit - self.left) * 60.0 / self.limit);
        Level { limit: self.limit as u64, remaining: self.left as u64, reset }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.limit / 60.0).min(self.limit);
        self.at = now;
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// A moment as `YYYY-MM-DDThh:mm:ssZ`; the calendar arithmetic counts days in years that begin in March.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(change: impl FnOnce(&mut ProviderConfig)) -> Provider {
        let mut config = ProviderConfig::default();
        change(&mut config);
        Provider::new(config)
    }

    #[test]
    fn buckets_empty_and_fill() {
        let limited = provider(|c| c.requests_per_minute = Some(2));
        let now = Instant::now();
        assert!(limited.take(5, now).is_ok());
        assert!(limited.take(5, now).is_ok());
        assert_eq!(limited.take(5, now).unwrap_err().as_secs_f64().round(), 30.0);
        assert!(limited.take(5, now + Duration::from_secs(31)).is_ok());
        let tokens = provider(|c| c.tokens_per_minute = Some(100));
        assert!(tokens.take(1000, now).is_ok(), "a prompt above the limit passes when the bucket is full");
        assert!(tokens.take(1, now).is_err());
    }

    #[test]
    fn errors_come_at_their_rates() {
        let provider = provider(|c| c.errors = [(429, 0.25), (500, 0.25)].into());
        let mut rng = Rng::with_seed(1);
        let mut seen = [0; 3];
        for _ in 0..4000 {
            match provider.chance(&mut rng) {
                Some(429) => seen[0] += 1,
                Some(500) => seen[1] += 1,
                Some(other) => panic!("{other}"),
                None => seen[2] += 1,
            }
        }
        assert!((900..1100).contains(&seen[0]) && (900..1100).contains(&seen[1]), "{seen:?}");
    }

    #[test]
    fn latencies_have_their_shape() {
        let mut rng = Rng::with_seed(1);
        let mut median = |latency| {
            let provider = provider(|c| c.latency = latency);
            let mut all: Vec<_> =
                (0..2001).map(|_| provider.latency(&mut rng).as_secs_f64() * 1000.0).collect();
            all.sort_by(f64::total_cmp);
            (all[0], all[1000], all[2000])
        };
        assert_eq!(median(Latency::Fixed(5.0)), (5.0, 5.0, 5.0));
        let (low, mid, high) = median(Latency::Uniform { min: 10.0, max: 20.0 });
        assert!(low >= 10.0 && high <= 20.0 && (14.0..16.0).contains(&mid));
        let (low, mid, high) = median(Latency::Lognormal { median: 100.0, sigma: 0.5 });
        assert!(low < 40.0 && (93.0..107.0).contains(&mid) && high > 300.0, "{low} {mid} {high}");
    }

    #[test]
    fn headers_follow_the_family() {
        let names = |family| {
            let mut out = Vec::new();
            provider(|c| c.requests_per_minute = Some(9)).headers(family, Instant::now(), &mut out);
            out
        };
        let openai = names(Family::OpenAi);
        assert_eq!(
            openai[0],
            (HeaderName::from_static("x-ratelimit-limit-requests"), HeaderValue::from(9u64))
        );
        assert_eq!(openai.len(), 6);
        assert_eq!(names(Family::Anthropic)[5].0, "anthropic-ratelimit-tokens-reset");
        let mut none = Vec::new();
        provider(|c| c.headers = false).headers(Family::OpenAi, Instant::now(), &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn dates_are_right() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
