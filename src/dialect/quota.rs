//! What the headers of a reply say of rates: how much may be asked, how much is left, and when it is all there again.
//!
//! | dialect | headers | reset |
//! |---|---|---|
//! | OpenAI's | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | a span, `6m0s`; seconds at Azure |
//! | Anthropic's | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` | a time of RFC 3339 |
//! | Gemini, Converse | none | |
//!
//! Sources: the rate limit pages of OpenAI, Anthropic and Azure OpenAI; recorded traffic.

use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use super::Dialect;
use crate::moment::{digits, read_rfc3339, rfc3339};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens of any kind.
    Tokens,
    /// Tokens of prompts.
    Input,
    /// Tokens of replies.
    Output,
}

impl Measure {
    const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Input, Self::Output];

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Input => "input-tokens",
            Self::Output => "output-tokens",
        }
    }
}

/// What is said of one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it is a rate of.
    pub of: Measure,
    /// How much may be asked in a window.
    pub limit: Option<u64>,
    /// How much of that is left.
    pub remaining: Option<u64>,
    /// After how long all of it is there again.
    pub reset: Option<Duration>,
}

/// The longest window of a rate.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What is said of every rate.
pub type Quotas = SmallVec<[Quota; 4]>;

/// What one header says.
#[derive(Clone, Copy)]
enum Says {
    Limit,
    Remaining,
    Reset,
}

const SAYS: [(&str, Says); 3] =
    [("limit", Says::Limit), ("remaining", Says::Remaining), ("reset", Says::Reset)];

/// Whether a header, by its name in lower case, speaks of rates in any dialect.
pub fn is_quota(name: &str) -> bool {
    name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")
}

/// Reads what the headers of a reply say that came at `now`. Names are in lower case. Nonsense is passed over: Azure says
/// `-1` where it means nothing.
pub fn read<'h>(headers: impl Iterator<Item = (&'h str, &'h str)>, now: SystemTime) -> Quotas {
    let mut quotas = Quotas::new();
    for (name, value) in headers {
        let Some((of, says)) = named(name) else { continue };
        let at = quotas.iter().position(|quota| quota.of == of).unwrap_or_else(|| {
            quotas.push(Quota { of, limit: None, remaining: None, reset: None });
            quotas.len() - 1
        });
        let Some(quota) = quotas.get_mut(at) else { continue };
        match says {
            Says::Limit => quota.limit = value.trim().parse().ok(),
            Says::Remaining => quota.remaining = value.trim().parse().ok(),
            Says::Reset => quota.reset = reset(value.trim(), now),
        }
    }
    quotas.retain(|quota| quota.limit.is_some() || quota.remaining.is_some());
    quotas
}

fn named(name: &str) -> Option<(Measure, Says)> {
    let says = |word: &str| SAYS.iter().find(|(known, _)| *known == word).map(|(_, says)| *says);
    let measure = |word: &str| Measure::ALL.into_iter().find(|measure| measure.name() == word);
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (word, of) = rest.split_once('-')?;
        return Some((measure(of)?, says(word)?));
    }
    let (of, word) = name.strip_prefix("anthropic-ratelimit-")?.rsplit_once('-')?;
    Some((measure(of)?, says(word)?))
}

/// A reset in any of its forms: a time, seconds, or a span such as `1h2m3.5s` or `12ms`. What is further off than
/// [`LONGEST`] is nonsense, and might be no time at all.
fn reset(text: &str, now: SystemTime) -> Option<Duration> {
    let reset = match (read_rfc3339(text), text.parse::<f64>()) {
        (Some(time), _) => time.duration_since(now).unwrap_or_default(),
        (None, Ok(seconds)) => Duration::try_from_secs_f64(seconds).ok()?,
        (None, Err(_)) => Duration::try_from_secs_f64(span(text)?).ok()?,
    };
    (reset <= LONGEST).then_some(reset)
}

fn span(text: &str) -> Option<f64> {
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let (unit, next) =
            after.split_at_checked(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()))?;
        let worth = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * worth;
        rest = next;
    }
    (!text.is_empty()).then_some(seconds)
}

/// Tells the headers, by name and value, that tell clients of `dialect` the same, at `now`.
pub fn tell(quotas: &[Quota], dialect: Dialect, now: SystemTime, mut say: impl FnMut(&'static str, &str)) {
    let mut number = itoa::Buffer::new();
    let mut text = String::new();
    for quota in quotas {
        let Some([limit, remaining, reset]) = names(quota.of, dialect) else { continue };
        for (name, count) in [(limit, quota.limit), (remaining, quota.remaining)] {
            if let Some(count) = count {
                say(name, number.format(count));
            }
        }
        match (quota.reset, dialect) {
            (None, _) => {}
            (Some(span), Dialect::Anthropic) => say(reset, &rfc3339(now + span)),
            (Some(span), _) => {
                text.clear();
                put_span(&mut text, span);
                say(reset, &text);
            }
        }
    }
}

/// The names of the headers of a rate: its limit, what remains, its reset.
fn names(of: Measure, dialect: Dialect) -> Option<[&'static str; 3]> {
    match (dialect, of) {
        (Dialect::Anthropic, Measure::Requests) => Some([
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ]),
        (Dialect::Anthropic, Measure::Tokens) => Some([
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ]),
        (Dialect::Anthropic, Measure::Input) => Some([
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ]),
        (Dialect::Anthropic, Measure::Output) => Some([
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ]),
        (Dialect::OpenaiChat | Dialect::OpenaiResponses, Measure::Requests) => Some([
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ]),
        (Dialect::OpenaiChat | Dialect::OpenaiResponses, Measure::Tokens) => {
            Some(["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"])
        }
        (Dialect::OpenaiChat | Dialect::OpenaiResponses, Measure::Input | Measure::Output)
        | (Dialect::Gemini | Dialect::Converse, _) => None,
    }
}

/// Appends a span as OpenAI writes it: `6m0s`, `1.5s`, `12ms`.
fn put_span(text: &mut String, span: Duration) {
    let mut number = itoa::Buffer::new();
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if seconds == 0 {
        text.push_str(number.format(millis));
        text.push_str(if millis == 0 { "s" } else { "ms" });
        return;
    }
    if seconds >= 3600 {
        text.push_str(number.format(seconds / 3600));
        text.push('h');
    }
    if seconds >= 60 {
        text.push_str(number.format(seconds / 60 % 60));
        text.push('m');
    }
    text.push_str(number.format(seconds % 60));
    if millis > 0 {
        text.push('.');
        digits(text, millis.into(), 3);
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('s');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const OPENAI: [(&str, &str); 6] = [
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-remaining-requests", "4999"),
        ("x-ratelimit-reset-requests", "12ms"),
        ("x-ratelimit-limit-tokens", "40000"),
        ("x-ratelimit-remaining-tokens", "39000"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    const ANTHROPIC: [(&str, &str); 6] = [
        ("anthropic-ratelimit-requests-limit", "5000"),
        ("anthropic-ratelimit-requests-remaining", "4999"),
        ("anthropic-ratelimit-requests-reset", "1970-01-01T00:01:00Z"),
        ("anthropic-ratelimit-input-tokens-limit", "7"),
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        ("anthropic-ratelimit-input-tokens-reset", "1970-01-01T00:00:01Z"),
    ];

    fn headers(quotas: &[Quota], dialect: Dialect, now: SystemTime) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        tell(quotas, dialect, now, |name, value| headers.push((name.to_owned(), value.to_owned())));
        headers
    }

    fn told(said: &[(&'static str, &'static str)], dialect: Dialect) -> Vec<(String, String)> {
        headers(&read(said.iter().copied(), at(0)), dialect, at(0))
    }

    fn as_span(span: Duration) -> String {
        let mut text = String::new();
        put_span(&mut text, span);
        text
    }

    #[test]
    fn a_reset_beyond_any_clock_is_nonsense() {
        for text in ["1e19", "18446744073709551615", "9999999999h", "9999-12-31T00:00:00Z", "-1"] {
            let told = [("x-ratelimit-limit-requests", "5"), ("x-ratelimit-reset-requests", text)];
            let quotas = read(told.into_iter(), at(1_800_000_000));
            assert_eq!((quotas[0].limit, quotas[0].reset), (Some(5), None), "{text}");
            for dialect in [Dialect::Anthropic, Dialect::OpenaiChat] {
                assert_eq!(headers(&quotas, dialect, at(1_800_000_000)).len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn a_dialect_reads_back_what_it_writes() {
        for (written, dialect) in [(&OPENAI, Dialect::OpenaiChat), (&ANTHROPIC, Dialect::Anthropic)] {
            let told = told(written, dialect);
            let told: Vec<(&str, &str)> = told.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(told, written.to_vec());
        }
    }

    #[test]
    fn another_dialects_names_are_told_and_what_it_lacks_is_not() {
        let as_anthropic = told(&OPENAI, Dialect::Anthropic);
        assert!(as_anthropic.contains(&("anthropic-ratelimit-requests-remaining".into(), "4999".into())));
        assert!(
            as_anthropic
                .contains(&("anthropic-ratelimit-tokens-reset".into(), "1970-01-01T00:06:00Z".into()))
        );
        let as_openai = told(&ANTHROPIC, Dialect::OpenaiResponses);
        let names: Vec<&str> = as_openai.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        );
        assert_eq!(as_openai[2].1, "1m0s");
        assert!(told(&OPENAI, Dialect::Gemini).is_empty() && told(&OPENAI, Dialect::Converse).is_empty());
    }

    #[test]
    fn every_form_of_a_reset_is_read() {
        for (text, millis) in [
            ("12ms", Some(12)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("59", Some(59_000)),
            ("0", Some(0)),
            ("1970-01-01T00:00:30Z", Some(20_000)),
            ("1970-01-01T00:00:01Z", Some(0)),
            ("-1", None),
            ("soon", None),
            ("1d", None),
            ("5x", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(reset(text, at(10)).map(|reset| reset.as_millis()), millis, "{text}");
        }
        for (millis, text) in
            [(0, "0s"), (12, "12ms"), (1500, "1.5s"), (60_000, "1m0s"), (3_723_500, "1h2m3.5s")]
        {
            assert_eq!(as_span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn nonsense_says_nothing() {
        let odd = [
            ("x-ratelimit-limit-requests", "-1"),
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-key", "abc"),
            ("x-ratelimit-limit-tokens-minute", "5"),
            ("x-ratelimit-reset-tokens", "1s"),
            ("content-type", "x"),
        ];
        assert!(read(odd.into_iter(), at(0)).is_empty());
    }
}
