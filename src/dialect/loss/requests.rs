//! The fields of requests, by the client's dialect: what each official API names.

use super::Probe;
use crate::dialect::translate::Client;

mod chat;
mod completions;
mod converse;
mod gemini;
mod messages;
mod responses;

/// Why what is the default needs no trace.
const DEFAULT: &str = "is what the upstream does where nothing is said";
/// Why a schema's name needs no trace.
const LABEL: &str = "is a label, and schemas have none there";
/// Why it needs no trace whether a schema is kept.
const KEPT: &str = "a schema is always kept there";

/// The fields of a client's request.
pub(super) fn probes(client: Client) -> &'static [Probe] {
    match client {
        Client::Chat => chat::PROBES,
        Client::Messages => messages::PROBES,
        Client::Responses => responses::PROBES,
        Client::Gemini => gemini::PROBES,
        Client::Converse => converse::PROBES,
        Client::Completions => completions::PROBES,
    }
}

/// The least that can be asked.
pub(super) fn base(client: Client) -> &'static str {
    match client {
        Client::Chat => r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#,
        Client::Messages => r#"{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"Hi"}]}"#,
        Client::Responses => r#"{"model":"m","input":[{"role":"user","content":"Hi"}]}"#,
        Client::Gemini => r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#,
        Client::Converse => r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#,
        Client::Completions => r#"{"model":"m","prompt":"Hi"}"#,
    }
}
