//! The response object, which the first and the last events of a stream hold.

use super::Output;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Finish, Stop};
use crate::dialect::usage::Usage;
use crate::error::{Error, Kind};

/// What a response is known by.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: u64,
}

/// How a response stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    Incomplete(&'static str),
    Failed(&'a Error),
}

impl Status<'_> {
    pub(super) fn of(finish: &Finish<'_>) -> Self {
        match finish.stop {
            Stop::Length => Self::Incomplete("max_output_tokens"),
            Stop::Filtered => Self::Incomplete("content_filter"),
            Stop::End | Stop::Sequence | Stop::ToolCalls | Stop::Paused | Stop::Malformed => Self::Completed,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

impl Output {
    /// Writes the response so far. What it was asked with is not known here, so that is told as it is by default.
    pub(super) fn response_into(&self, mut response: Object<'_>, status: Status<'_>) {
        response.string("id", &self.head.id);
        response.string("object", "response");
        response.count("created_at", self.head.created);
        response.string("status", status.name());
        response.boolean("background", false);
        match status {
            Status::Failed(error) => {
                let mut object = response.object("error");
                object.string("code", error_code(error));
                object.string("message", &error.public);
                object.end();
            }
            _ => response.raw("error", "null"),
        }
        match status {
            Status::Incomplete(reason) => {
                let mut details = response.object("incomplete_details");
                details.string("reason", reason);
                details.end();
            }
            _ => response.raw("incomplete_details", "null"),
        }
        for name in ["instructions", "max_output_tokens"] {
            response.raw(name, "null");
        }
        response.string("model", &self.head.model);
        let output = response.key("output");
        output.push(b'[');
        output.extend_from_slice(&self.items);
        output.push(b']');
        response.boolean("parallel_tool_calls", true);
        response.raw("previous_response_id", "null");
        response.raw("reasoning", "{\"effort\":null,\"summary\":null}");
        response.boolean("store", false);
        response.raw("temperature", "null");
        response.raw("text", "{\"format\":{\"type\":\"text\"}}");
        response.string("tool_choice", "auto");
        response.raw("tools", "[]");
        response.raw("top_p", "null");
        response.string("truncation", "disabled");
        match (&self.usage, status) {
            (Some(usage), Status::Completed | Status::Incomplete(_)) => {
                usage_into(response.object("usage"), usage);
            }
            _ => response.raw("usage", "null"),
        }
        response.raw("user", "null");
        response.raw("metadata", "{}");
        response.end();
    }
}

/// What a response calls an error.
fn error_code(error: &Error) -> &'static str {
    match error.kind {
        Kind::RateLimited | Kind::QuotaSpent => "rate_limit_exceeded",
        Kind::InvalidRequest => "invalid_prompt",
        _ => "server_error",
    }
}

/// Writes usage. SDKs want every count.
fn usage_into(mut object: Object<'_>, usage: &Usage) {
    let Usage { input, output } = usage;
    let (read, written) = (input.total.unwrap_or(0), output.total.unwrap_or(0));
    object.count("input_tokens", read);
    let mut details = object.object("input_tokens_details");
    details.count("cached_tokens", input.cached.unwrap_or(0));
    details.count("cache_write_tokens", input.written.unwrap_or(0));
    details.end();
    object.count("output_tokens", written);
    let mut details = object.object("output_tokens_details");
    details.count("reasoning_tokens", output.reasoning.unwrap_or(0));
    details.end();
    object.count("total_tokens", read.saturating_add(written));
    object.end();
}
