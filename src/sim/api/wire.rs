//! How replies travel: their media types, and the framing of the events in a stream.

use super::Header;
use crate::frame::eventstream::{Value as Text, message};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use serde_json::Value;

/// What a reply that succeeded is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    /// Server-sent events.
    Events,
    /// AWS's frames.
    Frames,
    /// AWS's frames, around the events of a model's own API.
    Chunks,
    /// A JSON value a line.
    Lines,
}

impl Media {
    /// Whether a text in an event stands there as it is. In a frame it is summed up, or encoded.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Self::Frames | Self::Chunks)
    }

    pub(crate) fn headers(self) -> Vec<Header> {
        let kind = match self {
            Self::Json => "application/json",
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Frames | Self::Chunks => "application/vnd.amazon.eventstream",
            Self::Lines => "application/x-ndjson",
        };
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        match self {
            Self::Events => headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))),
            Self::Chunks => headers.push((
                HeaderName::from_static("x-amzn-bedrock-content-type"),
                HeaderValue::from_static("application/json"),
            )),
            Self::Json | Self::Frames | Self::Lines => {}
        }
        headers
    }
}

/// One server-sent event; `name` is its `event:` line.
pub(crate) fn sse(name: Option<&str>, data: &Value) -> Bytes {
    let mut out = Vec::with_capacity(256);
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    // Writing a `Value` to memory cannot fail: its keys are strings and a Vec takes all.
    let _ = serde_json::to_writer(&mut out, data);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// One server-sent event as Google ends its lines.
pub(crate) fn crlf_sse(data: &Value) -> Bytes {
    format!("data: {data}\r\n\r\n").into()
}

/// A line.
pub(crate) fn line(data: &Value) -> Bytes {
    format!("{data}\n").into()
}

/// A frame with an event of that name.
pub(crate) fn frame(name: &str, payload: &Value) -> Bytes {
    framed("event", ":event-type", name, payload)
}

/// A frame that ends a stream with an exception of that name.
pub(crate) fn exception(name: &str, text: &str) -> Bytes {
    framed("exception", ":exception-type", name, &serde_json::json!({"message": text}))
}

fn framed(kind: &str, key: &str, name: &str, payload: &Value) -> Bytes {
    let headers = [
        (key, Text::Text(name)),
        (":content-type", Text::Text("application/json")),
        (":message-type", Text::Text(kind)),
    ];
    let mut out = Vec::with_capacity(256);
    // Only a payload beyond the format's 24 MiB fails, and then the stream ends as one that broke.
    let _ = message(&mut out, &headers, payload.to_string().as_bytes());
    out.into()
}
