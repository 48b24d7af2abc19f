//! OpenAI chat completions, and what is compatible with it.
//!
//! Reasoning has no field of its own here. Its text is read from and written to `reasoning_content`, and read from
//! `reasoning`; seals travel in `reasoning_details`, as OpenRouter has them, and in a tool call's
//! `extra_content.google.thought_signature`, as Google's own route has them.

mod blocks;
pub mod reply;
pub mod request;
pub mod resume;
pub mod stream;

use super::ir::Origin;

/// What `reasoning_details` call the origin of a seal.
const FORMATS: [(Origin, &str); 4] = [
    (Origin::Messages, "anthropic-claude-v1"),
    (Origin::Gemini, "google-gemini-v1"),
    (Origin::Responses, "openai-responses-v1"),
    // OpenRouter has no name for this one.
    (Origin::Converse, "amazon-bedrock-converse-v1"),
];

/// The origin that `format` stands for: chat's own where it is unknown.
fn origin_of(format: &str) -> Origin {
    FORMATS.iter().find(|(_, name)| *name == format).map_or(Origin::Chat, |(origin, _)| *origin)
}

/// What `reasoning_details` call `origin`.
fn format_of(origin: Origin) -> &'static str {
    FORMATS.iter().find(|(named, _)| *named == origin).map_or("unknown", |(_, name)| name)
}
