//! Gemini `generateContent` and `streamGenerateContent`, as Google AI Studio and Vertex AI have them.
//!
//! The model, and whether the reply streams, are said by the path: [`request::decode`] leaves [`Request::model`] empty
//! and [`Request::delivery`] at its default, for the caller to fill in. A stream is server-sent events without a
//! terminal event; it is over when the upstream closes it.
//!
//! # Seals
//!
//! Gemini seals a part, not a thought: a `thoughtSignature` stands on a function call, on text, or on an empty text.
//! What it stands on has to come back with it. Other dialects have a place for seals on reasoning alone, so a reply's
//! seal is told as that of the thought before the part, or of an empty one. Going back, a function call takes the seal
//! of the thought before it, and what is left of seals stands on empty texts.
//!
//! Seals of other origins stand on the thought itself, in base64, under a mark of Forebay's.
//!
//! # Why a model stopped
//!
//! | [`Stop`] | Gemini |
//! |---|---|
//! | [`Stop::End`], [`Stop::Sequence`], [`Stop::ToolCalls`] | `STOP` |
//! | [`Stop::Length`] | `MAX_TOKENS` |
//! | [`Stop::Filtered`] | `SAFETY`, `RECITATION`, `LANGUAGE`, `BLOCKLIST`, `PROHIBITED_CONTENT`, `SPII`, `MODEL_ARMOR`, `IMAGE_*`; or `promptFeedback` without candidates |
//! | [`Stop::Paused`] | `CONTINUATION` |
//! | [`Stop::Malformed`] | `MALFORMED_FUNCTION_CALL`, `UNEXPECTED_TOOL_CALL`, `TOO_MANY_TOOL_CALLS`, `MISSING_THOUGHT_SIGNATURE`, `MALFORMED_RESPONSE` |
//! | an error | `OTHER` |
//!
//! Sources: the API's reference, the types of google-genai 3.4, and recorded traffic.

mod partial;
pub mod reply;
pub mod request;
mod schema;
mod speech;
pub mod stream;

#[cfg(test)]
pub(super) mod tests;

use super::Dialect;
use super::ir::write::Object;
#[cfg(doc)]
use super::ir::{Request, Stop};
use crate::error::{Error, Kind};

/// The body of an error, as the API writes it: `{"error":{"code","message","status","details"}}`.
pub fn error(error: &Error) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut body = Object::begin(&mut out);
    let mut object = body.object("error");
    object.count("code", u64::from(super::error::status(Dialect::Gemini, error.kind)));
    object.string("message", &error.public);
    object.string("status", status(error.kind));
    if error.param.is_some() || error.retry_after.is_some() {
        let mut details = object.array("details");
        if let Some(param) = &error.param {
            let mut detail = details.object();
            detail.string("@type", "type.googleapis.com/google.rpc.BadRequest");
            let mut violations = detail.array("fieldViolations");
            let mut violation = violations.object();
            violation.string("field", param);
            violation.string("description", &error.public);
            violation.end();
            violations.end();
            detail.end();
        }
        if let Some(seconds) = error.retry_after {
            let mut detail = details.object();
            detail.string("@type", "type.googleapis.com/google.rpc.RetryInfo");
            detail.string("retryDelay", &format!("{seconds}s"));
            detail.end();
        }
        details.end();
    }
    object.end();
    body.end();
    out
}

/// The name of a kind of error (google.rpc.Code).
fn status(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest
        | Kind::TooLarge
        | Kind::TargetTooLong
        | Kind::UnsupportedMedia
        | Kind::ExpectationFailed
        | Kind::Misdirected
        | Kind::HeadTooLarge => "INVALID_ARGUMENT",
        Kind::Unauthenticated => "UNAUTHENTICATED",
        Kind::Forbidden => "PERMISSION_DENIED",
        Kind::UnknownPath | Kind::UnknownModel => "NOT_FOUND",
        Kind::RateLimited | Kind::QuotaSpent => "RESOURCE_EXHAUSTED",
        Kind::ClientGone => "CANCELLED",
        Kind::ClientTimeout | Kind::UpstreamTimeout => "DEADLINE_EXCEEDED",
        Kind::MethodNotAllowed | Kind::NotImplemented | Kind::VersionNotSupported => "UNIMPLEMENTED",
        Kind::Overloaded => "UNAVAILABLE",
        Kind::Internal | Kind::UpstreamFailed => "INTERNAL",
    }
}
