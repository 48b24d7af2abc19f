//! How each dialect asks, ends a stream, and says that something went wrong.

use serde_json::{Value, json};

use crate::support::Reply;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Messages,
    Responses,
}

use Dialect::{Chat, Messages, Responses};

/// An event of a stream: its name, empty where there is none, and its data.
pub(crate) type Event = (String, Value);

impl Dialect {
    pub(crate) const ALL: [Self; 3] = [Chat, Messages, Responses];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Chat => "/v1/chat/completions",
            Messages => "/v1/messages",
            Responses => "/v1/responses",
        }
    }

    /// A request for that model.
    pub(crate) fn ask(self, model: &str, stream: bool) -> String {
        let said = json!([{"role": "user", "content": "Say something."}]);
        match self {
            Chat => json!({"model": model, "messages": said, "stream": stream}),
            Messages => json!({"model": model, "messages": said, "max_tokens": 64, "stream": stream}),
            Responses => json!({"model": model, "input": said, "stream": stream}),
        }
        .to_string()
    }

    /// Whether a stream of these events is as complete as an SDK wants it.
    pub(crate) fn is_complete(self, events: &[Event]) -> bool {
        match self {
            Chat => {
                let finishes = |(_, data): &Event| data["choices"][0]["finish_reason"].is_string();
                events.iter().any(finishes)
            }
            Messages => events.iter().any(|(name, _)| name == "message_stop"),
            Responses => events.iter().any(|(name, _)| name == "response.completed"),
        }
    }

    /// The message of the error that ends a stream, if these events end with one as the dialect has it.
    pub(crate) fn error_in(self, events: &[Event]) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (name, last) = events.last()?;
        match self {
            Chat => {
                let at = if last == "[DONE]" { events.len().checked_sub(2)? } else { events.len() - 1 };
                text(&events[at].1["error"]["message"])
            }
            Messages => {
                let is_error =
                    name == "error" && last["type"] == "error" && last["error"]["type"].is_string();
                is_error.then(|| text(&last["error"]["message"])).flatten()
            }
            Responses if name == "error" => {
                text(&last["message"]).or_else(|| text(&last["error"]["message"]))
            }
            Responses => {
                let failed = name == "response.failed" && last["response"]["status"] == "failed";
                failed.then(|| text(&last["response"]["error"]["message"])).flatten()
            }
        }
    }

    /// Whether a whole reply is a success of this dialect.
    pub(crate) fn is_answer(self, reply: &Reply) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else { return false };
        match self {
            Chat => body["choices"][0]["message"]["role"] == "assistant",
            Messages => body["type"] == "message",
            Responses => body["object"] == "response" && body["status"] == "completed",
        }
    }

    /// The message of a whole reply that is an error of this dialect.
    pub(crate) fn refusal(self, reply: &Reply) -> Option<String> {
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        let right = match self {
            Chat | Responses => body["error"]["type"].is_string() && body.get("type").is_none(),
            Messages => body["type"] == "error" && body["error"]["type"].is_string(),
        };
        right.then(|| body["error"]["message"].as_str().map(str::to_owned)).flatten()
    }
}

/// The events of a stream; what follows the last blank line is no event.
pub(crate) fn events(body: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(body).into_owned();
    let Some((whole, _)) = text.rsplit_once("\n\n") else { return Vec::new() };
    whole.split("\n\n").filter_map(event).collect()
}

/// One event; nothing for a comment.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = field("data:")?;
    let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    Some((field("event:").unwrap_or_default().to_owned(), data))
}
