//! Error bodies: what a client is shown in its own dialect, and what an upstream's body says.
//!
//! | [`Kind`] | OpenAI type / code | Anthropic type | Gemini status | Converse class |
//! |---|---|---|---|---|
//! | invalid request | `invalid_request_error` | `invalid_request_error` | `INVALID_ARGUMENT` | `ValidationException` |
//! | unauthenticated | `invalid_request_error` / `invalid_api_key` | `authentication_error` | `UNAUTHENTICATED` | `UnrecognizedClientException` |
//! | unknown model | `invalid_request_error` / `model_not_found` | `not_found_error` | `NOT_FOUND` | `ResourceNotFoundException` |
//! | rate limited | `requests` / `rate_limit_exceeded` | `rate_limit_error` | `RESOURCE_EXHAUSTED` | `ThrottlingException` |
//! | quota spent | `insufficient_quota` / `insufficient_quota` | `rate_limit_error` | `RESOURCE_EXHAUSTED` | `ThrottlingException` |
//! | overloaded | `service_unavailable_error` / `server_is_overloaded` | `overloaded_error` | `UNAVAILABLE` | `ServiceUnavailableException` |
//! | upstream failed | `server_error` | `api_error` | `INTERNAL` | `InternalServerException` |
//!
//! Converse has the class in a header: [`class`].

use bytes::Bytes;
use serde_json::Value;

use super::{Dialect, converse, gemini};
use crate::error::{Error, Kind};
use crate::json::quote_into;

/// The longest message kept from an upstream, in bytes.
const MESSAGE: usize = 2048;

/// The HTTP status that `dialect`'s API answers an error of `kind` with.
pub fn status(dialect: Dialect, kind: Kind) -> u16 {
    match (dialect, kind) {
        (Dialect::OpenaiResponses, Kind::UnknownModel) => 400,
        (Dialect::Anthropic, Kind::Overloaded) => 529,
        (Dialect::Anthropic | Dialect::Gemini | Dialect::Converse, Kind::UpstreamFailed) => 500,
        // AWS has these so: it knows no 401, and a model that takes too long is a 408.
        (Dialect::Converse, Kind::Unauthenticated) => 403,
        (Dialect::Converse, Kind::UpstreamTimeout) => 408,
        _ => kind.status(),
    }
}

/// The class of an error, for the header `x-amzn-errortype`, in the dialect that has it there.
pub fn class(dialect: Dialect, kind: Kind) -> Option<&'static str> {
    (dialect == Dialect::Converse).then(|| converse::class(kind))
}

/// The JSON body of an error, as `dialect`'s API writes it. Only Anthropic's names the request.
pub fn render(dialect: Dialect, error: &Error, request_id: &str) -> Bytes {
    let mut out = Vec::with_capacity(256);
    match dialect {
        Dialect::Anthropic => {
            out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
            quote_into(&mut out, anthropic_type(error.kind));
            member(&mut out, ",\"message\":", Some(&error.public));
            member(&mut out, "},\"request_id\":", Some(request_id));
            out.push(b'}');
        }
        Dialect::OpenaiChat | Dialect::OpenaiResponses => {
            out.extend_from_slice(b"{\"error\":");
            openai_object(&mut out, dialect, error);
            out.push(b'}');
        }
        Dialect::Gemini => out = gemini::error(error),
        Dialect::Converse => out = converse::error(error),
    }
    Bytes::from(out)
}

/// Appends the `error` object of the OpenAI dialects.
pub(super) fn openai_object(out: &mut Vec<u8>, dialect: Dialect, error: &Error) {
    let (class, code) = openai_type(error.kind);
    let implied = match (dialect, error.kind) {
        (Dialect::OpenaiResponses, Kind::UnknownModel) => Some("model"),
        _ => None,
    };
    member(out, "{\"message\":", Some(&error.public));
    member(out, ",\"type\":", Some(class));
    member(out, ",\"param\":", error.param.as_deref().or(implied));
    member(out, ",\"code\":", code);
    out.push(b'}');
}

/// Appends `lead`, then `value` as a JSON string, or `null`.
pub(super) fn member(out: &mut Vec<u8>, lead: &str, value: Option<&str>) {
    out.extend_from_slice(lead.as_bytes());
    match value {
        Some(value) => quote_into(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// The `type` and `code` of OpenAI's errors.
pub(super) fn openai_type(kind: Kind) -> (&'static str, Option<&'static str>) {
    const INVALID: &str = "invalid_request_error";
    match kind {
        Kind::InvalidRequest
        | Kind::UnknownPath
        | Kind::TargetTooLong
        | Kind::UnsupportedMedia
        | Kind::ExpectationFailed
        | Kind::Misdirected
        | Kind::HeadTooLarge
        | Kind::ClientGone
        | Kind::NotImplemented
        | Kind::VersionNotSupported => (INVALID, None),
        Kind::Unauthenticated => (INVALID, Some("invalid_api_key")),
        Kind::Forbidden => (INVALID, Some("insufficient_permissions")),
        Kind::UnknownModel => (INVALID, Some("model_not_found")),
        Kind::MethodNotAllowed => (INVALID, Some("method_not_supported")),
        Kind::ClientTimeout => (INVALID, Some("request_timeout")),
        Kind::TooLarge => (INVALID, Some("request_too_large")),
        Kind::RateLimited => ("requests", Some("rate_limit_exceeded")),
        Kind::QuotaSpent => ("insufficient_quota", Some("insufficient_quota")),
        Kind::Internal | Kind::UpstreamFailed => ("server_error", None),
        Kind::UpstreamTimeout => ("server_error", Some("timeout")),
        Kind::Overloaded => ("service_unavailable_error", Some("server_is_overloaded")),
    }
}

/// The `type` of Anthropic's errors.
fn anthropic_type(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest
        | Kind::MethodNotAllowed
        | Kind::ClientTimeout
        | Kind::TargetTooLong
        | Kind::UnsupportedMedia
        | Kind::ExpectationFailed
        | Kind::Misdirected
        | Kind::HeadTooLarge
        | Kind::ClientGone
        | Kind::NotImplemented
        | Kind::VersionNotSupported => "invalid_request_error",
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::UnknownPath | Kind::UnknownModel => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::RateLimited | Kind::QuotaSpent => "rate_limit_error",
        Kind::Internal | Kind::UpstreamFailed => "api_error",
        Kind::Overloaded => "overloaded_error",
        Kind::UpstreamTimeout => "timeout_error",
    }
}

// === What upstreams say ===

/// What an upstream's error body says. For logs, and for judging whether another attempt may help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The message, cut to a few KiB; empty if the body has none.
    pub message: String,
    /// The error's type, whatever the upstream calls it.
    pub class: Option<String>,
    /// The error's code; numbers are written out.
    pub code: Option<String>,
}

/// What an upstream's error means, where status alone does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The prompt is longer than the model takes.
    ContextLength,
    /// The account's money or quota is used up; waiting seconds does not help.
    Quota,
    /// Too many requests or tokens for now.
    RateLimit,
    /// The upstream has no capacity left.
    Overloaded,
    /// The credential is refused.
    Credential,
    /// The upstream has no such model.
    UnknownModel,
    /// Input or output was blocked by a content policy.
    ContentFilter,
    /// None of these.
    Other,
}

/// Reads an upstream's error body, of any of the shapes seen in the wild: OpenAI's, Anthropic's, Gemini's (also inside
/// an array), an `error` string, a bare `message`, FastAPI's `detail`, or plain text. `errortype` is the value of
/// `x-amzn-errortype`, which is where AWS puts the class.
///
/// Returns nothing for a body that says nothing: empty, or a page of HTML.
pub fn read(body: &[u8], errortype: Option<&str>) -> Option<UpstreamError> {
    let mut found = match serde_json::from_slice::<Value>(body) {
        Ok(value) => in_json(&value),
        Err(_) => in_text(body),
    };
    if let Some(class) = errortype.and_then(|value| value.split(':').next()).filter(|class| !class.is_empty())
    {
        found.class = Some(class.to_owned());
    }
    let says_something = !found.message.is_empty() || found.class.is_some() || found.code.is_some();
    says_something.then_some(found)
}

impl UpstreamError {
    /// What the error means, by its code and type, and by the words that upstreams without codes use.
    pub fn meaning(&self, status: u16) -> Meaning {
        let names = [self.code.as_deref(), self.class.as_deref()];
        let is = |wanted: &[&str]| names.iter().flatten().any(|name| wanted.contains(name));
        let message = self.message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        if is(CONTEXT_CODES) || (matches!(status, 400 | 413 | 422) && says(CONTEXT_WORDS)) {
            Meaning::ContextLength
        } else if status == 402 || is(QUOTA_CODES) {
            Meaning::Quota
        } else if is(&["content_filter", "content_policy_violation"]) {
            Meaning::ContentFilter
        } else if is(&["model_not_found"]) || (status == 404 && says(&["model"])) {
            Meaning::UnknownModel
        } else if matches!(status, 503 | 529) || is(OVERLOAD_CODES) {
            Meaning::Overloaded
        } else if status == 429 || is(&["rate_limit_exceeded", "rate_limit_error", "ThrottlingException"]) {
            Meaning::RateLimit
        } else if matches!(status, 401 | 403) || is(&["invalid_api_key", "authentication_error"]) {
            Meaning::Credential
        } else {
            Meaning::Other
        }
    }
}

const CONTEXT_CODES: &[&str] =
    &["context_length_exceeded", "exceed_context_size_error", "TOO_MANY_TOKENS", "too_many_prompt_tokens"];

const CONTEXT_WORDS: &[&str] = &[
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "context window",
    "maximum context length",
    "input token count",
    "too many tokens",
];

const QUOTA_CODES: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_error",
    "billing_hard_limit_reached",
    "enforced_spend_limit_reached",
];

const OVERLOAD_CODES: &[&str] = &[
    "server_is_overloaded",
    "overloaded_error",
    "overloaded",
    "unavailable_error",
    "ServiceUnavailableException",
];

fn in_json(value: &Value) -> UpstreamError {
    // Gemini's OpenAI-compatible route wraps the object in an array of one.
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    let inner = value.get("error");
    let object = inner.filter(|inner| inner.is_object()).unwrap_or(value);
    let message = match inner {
        Some(Value::String(message)) => Some(message.clone()),
        _ => ["message", "detail"].into_iter().find_map(|key| object.get(key).and_then(message_of)),
    };
    // A flat error's `type` may be Anthropic's envelope tag; that says nothing.
    let class =
        ["type", "status", "error_type", "__type"].into_iter().find_map(|key| name_of(object.get(key)?));
    let detail = object.pointer("/details/error_code").and_then(name_of);
    UpstreamError {
        message: message.map(cut).unwrap_or_default(),
        class: class.filter(|class| class != "error"),
        code: detail.or_else(|| object.get("code").and_then(name_of)),
    }
}

/// A message that is a string, or FastAPI's list of objects with `msg`.
fn message_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(|entry| entry.get("msg")?.as_str()).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        _ => None,
    }
}

/// A name, or a number in its place.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn in_text(body: &[u8]) -> UpstreamError {
    let text = String::from_utf8_lossy(body.get(..body.len().min(2 * MESSAGE)).unwrap_or_default());
    let text = text.trim();
    let message = if text.starts_with('<') { String::new() } else { cut(text.to_owned()) };
    UpstreamError { message, ..UpstreamError::default() }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE));
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(dialect: Dialect, error: &Error) -> Value {
        serde_json::from_slice(&render(dialect, error, "req_1")).unwrap()
    }

    #[test]
    fn errors_are_worded_as_each_api_does() {
        let unknown = Error::client(Kind::UnknownModel, "The model `x\"` does not exist");
        assert_eq!(
            rendered(Dialect::OpenaiChat, &unknown),
            json!({"error": {"message": "The model `x\"` does not exist", "type": "invalid_request_error",
                "param": null, "code": "model_not_found"}})
        );
        assert_eq!(
            rendered(Dialect::OpenaiResponses, &unknown),
            json!({"error": {"message": "The model `x\"` does not exist", "type": "invalid_request_error",
                "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(
            rendered(Dialect::Anthropic, &unknown),
            json!({"type": "error", "error": {"type": "not_found_error", "message": "The model `x\"` does not exist"},
                "request_id": "req_1"})
        );
        let param = Error::client(Kind::InvalidRequest, "no").param("stream");
        assert_eq!(rendered(Dialect::OpenaiChat, &param)["error"]["param"], "stream");
    }

    #[test]
    fn gemini_has_the_status_in_the_body_and_converse_the_class_in_a_header() {
        let failed = Error::upstream(Kind::UpstreamFailed, "m").after(3);
        assert_eq!(
            rendered(Dialect::Gemini, &failed),
            json!({"error": {"code": 500, "message": "m", "status": "INTERNAL", "details": [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}]}})
        );
        assert_eq!(rendered(Dialect::Converse, &failed), json!({"message": "m"}));
        assert_eq!(class(Dialect::Converse, Kind::UpstreamFailed), Some("InternalServerException"));
        assert_eq!(class(Dialect::Gemini, Kind::UpstreamFailed), None);
    }

    #[test]
    fn members_stand_in_the_order_of_the_real_apis() {
        let error = Error::policy(Kind::RateLimited, "slow");
        assert_eq!(
            render(Dialect::OpenaiChat, &error, "r"),
            r#"{"error":{"message":"slow","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        );
        assert_eq!(
            render(Dialect::Anthropic, &error, "r"),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"},"request_id":"r"}"#
        );
    }

    #[test]
    fn statuses_differ_where_the_apis_do() {
        assert_eq!(status(Dialect::OpenaiChat, Kind::UnknownModel), 404);
        assert_eq!(status(Dialect::OpenaiResponses, Kind::UnknownModel), 400);
        assert_eq!(status(Dialect::Anthropic, Kind::UnknownModel), 404);
        assert_eq!(status(Dialect::Anthropic, Kind::Overloaded), 529);
        assert_eq!(status(Dialect::OpenaiChat, Kind::Overloaded), 503);
        assert_eq!(status(Dialect::Gemini, Kind::UpstreamFailed), 500);
        assert_eq!(status(Dialect::Converse, Kind::UpstreamTimeout), 408);
        assert_eq!(status(Dialect::Converse, Kind::Unauthenticated), 403);
    }

    #[test]
    fn every_shape_of_upstream_error_is_read() {
        for (body, message, class, code) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":null}}"#, "m", Some("t"), None),
            (r#"{"error":{"message":"m","code":401}}"#, "m", None, Some("401")),
            (r#"{"error":{"code":"RateLimitReached","message":"m"}}"#, "m", None, Some("RateLimitReached")),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"c"}},"request_id":null}"#,
                "m",
                Some("rate_limit_error"),
                Some("c"),
            ),
            (
                r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#,
                "m",
                Some("INVALID_ARGUMENT"),
                Some("400"),
            ),
            (r#"{"code":"invalid-argument","error":"m"}"#, "m", None, Some("invalid-argument")),
            (r#"{"error":"m","error_type":"overloaded"}"#, "m", Some("overloaded"), None),
            (r#"{"object":"error","message":"m","type":"t","code":1800}"#, "m", Some("t"), Some("1800")),
            (r#"{"id":"1","message":"m"}"#, "m", None, None),
            (r#"{"detail":"m"}"#, "m", None, None),
            (r#"{"detail":[{"loc":["body"],"msg":"m"},{"msg":"n"}]}"#, "m; n", None, None),
            ("upstream connect error", "upstream connect error", None, None),
        ] {
            let found = read(body.as_bytes(), None).unwrap();
            assert_eq!(
                (found.message.as_str(), found.class.as_deref(), found.code.as_deref()),
                (message, class, code),
                "{body}"
            );
        }
        let aws = read(br#"{"message":"m"}"#, Some("ThrottlingException:http://x/")).unwrap();
        assert_eq!(aws.class.as_deref(), Some("ThrottlingException"));
        assert_eq!(read(b"<html><h1>502</h1></html>", None), None);
        assert_eq!(read(b"", None), None);
        assert_eq!(read(b"{}", None), None);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let body = format!("x{}", "é".repeat(MESSAGE));
        let found = read(body.as_bytes(), None).unwrap();
        assert_eq!(found.message.len(), MESSAGE - 1);
    }

    #[test]
    fn meanings_go_beyond_the_status() {
        let meaning = |status, body: &str| read(body.as_bytes(), None).unwrap().meaning(status);
        assert_eq!(meaning(429, r#"{"error":{"message":"m","code":"insufficient_quota"}}"#), Meaning::Quota);
        assert_eq!(
            meaning(429, r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#),
            Meaning::RateLimit
        );
        assert_eq!(
            meaning(400, r#"{"error":{"message":"Prompt is too long: 9 > 8"}}"#),
            Meaning::ContextLength
        );
        assert_eq!(meaning(529, r#"{"error":{"message":"m"}}"#), Meaning::Overloaded);
        assert_eq!(meaning(401, r#"{"detail":"m"}"#), Meaning::Credential);
        assert_eq!(meaning(404, r#"{"error":"model 'x' not found"}"#), Meaning::UnknownModel);
        assert_eq!(meaning(400, r#"{"detail":"m"}"#), Meaning::Other);
    }
}
