//! Bedrock `Converse` and `ConverseStream`.
//!
//! The model, and whether the reply streams, are said by the path: [`request::decode`] leaves [`Request::model`] empty
//! and [`Request::delivery`] at its default, for the caller to fill in. A stream is made of frames
//! ([`crate::frame::eventstream`]); it is over when both `messageStop` and `metadata` have come.
//!
//! Reasoning of other origins stands under a mark of Forebay's in its signature or its redacted content.
//!
//! # Why a model stopped
//!
//! | [`Stop`] | Converse |
//! |---|---|
//! | [`Stop::End`] | `end_turn` |
//! | [`Stop::Sequence`] | `stop_sequence` |
//! | [`Stop::Length`] | `max_tokens`, `model_context_window_exceeded` |
//! | [`Stop::ToolCalls`] | `tool_use` |
//! | [`Stop::Filtered`] | `content_filtered`, `guardrail_intervened` |
//! | [`Stop::Malformed`] | `malformed_tool_use`, `malformed_model_output` |
//!
//! # Errors
//!
//! The class of an error is in the header `x-amzn-errortype`, or, inside a stream, in the header of its frame
//! ([`class`]); the body is `{"message"}` ([`error`]).
//!
//! Sources: the service model of bedrock-runtime in botocore 1.44, and recorded traffic.

mod own;
pub mod reply;
pub mod request;
pub mod stream;

#[cfg(test)]
mod tests;

use super::ir::write::Object;
#[cfg(doc)]
use super::ir::{Request, Stop};
use crate::error::{Error, Kind};

/// What media are called, and their types; the first name of a type is the one that is written.
const FORMATS: [(&str, &str); 26] = [
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("jpeg", "image/jpg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("mp3", "audio/mpeg"),
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("wav", "audio/x-wav"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/opus"),
    ("mp4", "audio/mp4"),
    ("m4a", "audio/m4a"),
    ("webm", "audio/webm"),
    ("pcm", "audio/pcm"),
];

/// What Converse calls a type of media.
fn format_of(media_type: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(_, known)| known.eq_ignore_ascii_case(media_type)).map(|(format, _)| *format)
}

/// The type of media that Converse calls `format`, of which `family` is the first half where it is not known.
fn type_of(format: &str, family: &str) -> String {
    let is_meant = |known: &str| family == "application" || known.starts_with(family);
    let known = FORMATS.iter().find(|(name, known)| *name == format && is_meant(known));
    known.map_or_else(|| format!("{family}/{format}"), |(_, known)| (*known).to_owned())
}

/// The body of an error.
pub fn error(error: &Error) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut body = Object::begin(&mut out);
    body.string("message", &error.public);
    body.end();
    out
}

/// The class of an error, as `x-amzn-errortype` has it.
pub fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest
        | Kind::MethodNotAllowed
        | Kind::TooLarge
        | Kind::TargetTooLong
        | Kind::UnsupportedMedia
        | Kind::ExpectationFailed
        | Kind::Misdirected
        | Kind::HeadTooLarge
        | Kind::ClientGone
        | Kind::NotImplemented
        | Kind::VersionNotSupported => "ValidationException",
        Kind::Unauthenticated => "UnrecognizedClientException",
        Kind::Forbidden => "AccessDeniedException",
        Kind::UnknownPath | Kind::UnknownModel => "ResourceNotFoundException",
        Kind::RateLimited | Kind::QuotaSpent => "ThrottlingException",
        Kind::Overloaded => "ServiceUnavailableException",
        Kind::ClientTimeout | Kind::UpstreamTimeout => "ModelTimeoutException",
        Kind::Internal | Kind::UpstreamFailed => "InternalServerException",
    }
}
