//! What a failed attempt means for the next: whether there may be one, where, and when.
//!
//! | what happened | cause | the next attempt |
//! |---|---|---|
//! | no connection, a stale one, a stream refused | [`Cause::Unsent`] | anywhere but there, at once |
//! | the connection broke, nonsense came, the reply was cut before its first content | [`Cause::Broken`] | another endpoint at once, the same after a wait |
//! | a clock ran out before the first content | [`Cause::Slow`] | as above |
//! | the endpoint was taken out of service before the first content | [`Cause::Evicted`] | anywhere but there, at once |
//! | 408, 5xx, 529, an error event before any content | [`Cause::Failed`] | as above |
//! | 429 for a rate | [`Cause::Limited`] | another deployment at once, this one when its time has come |
//! | 429 for a quota or money, 402, a refused credential, a model that is not there | [`Cause::Unserved`] | another deployment |
//! | any other 4xx | none | none: it is the client's own doing |

use std::time::{Duration, SystemTime};

use http::HeaderName;
use http::header::RETRY_AFTER;

use super::relay::Answer;
use crate::dialect::error::{Meaning, UpstreamError};
use crate::error::{Error, Kind, Retry};
use crate::frame::http1::Fields;
use crate::snapshot::Cause;
use crate::upstream::breaker::key::Fault;

/// An attempt that failed before its client was told anything of it.
pub(super) struct Failed {
    /// What the client is told if nothing better is found.
    pub(super) error: Error,
    /// Why another attempt may help; nothing where none can.
    pub(super) cause: Option<Cause>,
    /// How long the upstream asks to be left alone.
    pub(super) wait: Option<Duration>,
    /// What the upstream itself answered, which can be passed on as it is.
    pub(super) answer: Option<Answer>,
    /// What another model may be able to take.
    pub(super) beyond: Option<Beyond>,
}

/// What a model cannot take, and another may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// The prompt is longer than its context.
    TooLong,
    /// A content policy refuses it.
    Filtered,
}

/// What another model may be able to take of what an upstream refused with that status.
pub(super) fn beyond_of(status: u16, said: Option<&UpstreamError>) -> Option<Beyond> {
    match said?.meaning(status) {
        Meaning::ContextLength => Some(Beyond::TooLong),
        Meaning::ContentFilter => Some(Beyond::Filtered),
        _ => None,
    }
}

impl From<Error> for Box<Failed> {
    fn from(error: Error) -> Self {
        let cause = match (error.retry, error.kind) {
            (Retry::Never, _) => None,
            (Retry::Elsewhere, _) => Some(Cause::Unsent),
            (Retry::Moved, _) => Some(Cause::Evicted),
            (Retry::Again, Kind::UpstreamTimeout) => Some(Cause::Slow),
            (Retry::Again, _) => Some(Cause::Broken),
        };
        Self::new(Failed { error, cause, wait: None, answer: None, beyond: None })
    }
}

/// Why another attempt may help after an answer with that status; nothing where none can.
pub(super) fn cause_of(status: u16, said: Option<&UpstreamError>) -> Option<Cause> {
    let meaning = said.map_or(Meaning::Other, |said| said.meaning(status));
    match (status, meaning) {
        (_, Meaning::ContextLength | Meaning::ContentFilter) => None,
        (402, _) | (429, Meaning::Quota) => Some(Cause::Unserved),
        (429, _) => Some(Cause::Limited),
        (401 | 403, _) | (404, Meaning::UnknownModel) => Some(Cause::Unserved),
        (408 | 424 | 498 | 500 | 502..=599, _) => Some(Cause::Failed),
        _ => None,
    }
}

/// Whether an answer with that status refuses the credential as such, and why.
pub(super) fn fault_of(status: u16, said: Option<&UpstreamError>) -> Option<Fault> {
    let meaning = said.map_or(Meaning::Other, |said| said.meaning(status));
    match (status, meaning) {
        (_, Meaning::ContextLength | Meaning::ContentFilter | Meaning::UnknownModel) => None,
        (401 | 403, _) => Some(Fault::Credential),
        (402, _) => Some(Fault::Payment),
        (429, Meaning::Quota) => Some(Fault::Quota),
        _ => None,
    }
}

/// The longest wait that an upstream is believed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long the upstream asks to be left alone. Nothing and less is no answer: Azure says so where it means seconds.
pub(super) fn wait_of(fields: &Fields, body: &[u8]) -> Option<Duration> {
    const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let millis = fields.text(&RETRY_AFTER_MS).and_then(number).map(|millis| millis / 1000.0);
    let seconds = || fields.text(&RETRY_AFTER).and_then(|text| number(text).or_else(|| until(text)));
    let positive = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
    let found = millis.filter(positive).or_else(|| seconds().filter(positive));
    let found = found.or_else(|| retry_info(body).filter(positive))?;
    Some(Duration::try_from_secs_f64(found).unwrap_or(LONGEST).min(LONGEST))
}

/// The seconds until a date as HTTP writes it (RFC 9110 §5.6.7).
fn until(date: &str) -> Option<f64> {
    let at = httpdate::parse_http_date(date.trim()).ok()?;
    Some(at.duration_since(SystemTime::now()).ok()?.as_secs_f64())
}

/// The delay of Google's `RetryInfo`, seconds: `"retryDelay": "34.4s"`.
fn retry_info(body: &[u8]) -> Option<f64> {
    let at = memchr::memmem::find(body, b"\"retryDelay\"")?;
    let rest = std::str::from_utf8(body.get(at + 12..)?.get(..40.min(body.len() - at - 12))?).ok()?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once("s\"")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::dialect::error::read;

    #[test]
    fn every_answer_has_its_cause() {
        let quota = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
        let model = r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#;
        let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
        for (status, body, expected) in [
            (400, "{}", None),
            (400, long, None),
            (413, "{}", None),
            (422, "{}", None),
            (404, "{}", None),
            (404, model, Some(Cause::Unserved)),
            (401, "{}", Some(Cause::Unserved)),
            (402, "{}", Some(Cause::Unserved)),
            (403, "{}", Some(Cause::Unserved)),
            (408, "{}", Some(Cause::Failed)),
            (429, "{}", Some(Cause::Limited)),
            (429, quota, Some(Cause::Unserved)),
            (500, "<html>", Some(Cause::Failed)),
            (500, long, None),
            (501, "{}", None),
            (503, "{}", Some(Cause::Failed)),
            (529, "{}", Some(Cause::Failed)),
        ] {
            assert_eq!(cause_of(status, read(body.as_bytes(), None).as_ref()), expected, "{status} {body}");
        }
        let beyond = |status, body: &str| beyond_of(status, read(body.as_bytes(), None).as_ref());
        let filtered = r#"{"error":{"message":"refused","code":"content_filter"}}"#;
        assert_eq!(
            (beyond(400, long), beyond(400, filtered)),
            (Some(Beyond::TooLong), Some(Beyond::Filtered))
        );
        assert_eq!((beyond(400, "{}"), beyond(429, quota)), (None, None));
    }

    #[test]
    fn a_wait_is_read_in_every_form_and_nought_is_none() {
        let wait = |fields: &[(&'static str, &'static str)], body: &str| {
            let fields: Fields = fields
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            wait_of(&fields, body.as_bytes()).map(|wait| wait.as_millis())
        };
        assert_eq!(wait(&[("retry-after", "7")], ""), Some(7000));
        assert_eq!(wait(&[("retry-after", "0.5")], ""), Some(500));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "250")], ""), Some(250));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "0")], ""), Some(1000));
        assert_eq!(wait(&[("retry-after", "0")], ""), None);
        assert_eq!(wait(&[("retry-after", "-3")], ""), None);
        assert_eq!(wait(&[("retry-after", "soon")], ""), None);
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], ""), None);
        assert_eq!(wait(&[("retry-after", "1e300")], ""), Some(LONGEST.as_millis()));
        let google = r#"{"error":{"details":[{"@type":"RetryInfo","retryDelay": "34.4s"}]}}"#;
        assert_eq!(wait(&[], google), Some(34_400));
        assert_eq!(wait(&[], r#"{"retryDelay"#), None);
    }
}
