//! Anthropic's bodies on other clouds: Bedrock's `invoke` and Vertex AI's `rawPredict`.
//!
//! The path names the model and says whether the reply streams, and the version stands in the body. Vertex AI suffers
//! `stream` there too, because Anthropic's own SDK sends it.

use super::Env;
use super::family::Family;
use super::messages::{self, Message};
use super::refusal::Refusal;
use super::shape::{Shape, check};
use serde_json::Value;

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Message, Refusal> {
    // The model answers for its body, in Anthropic's words, whatever the cloud makes of them.
    check(body, &BODY, Family::Anthropic)?;
    let wanted = match env.place.family {
        Family::Bedrock if body.get("stream").is_some() => {
            return Err(Refusal::invalid("stream: Extra inputs are not permitted", None));
        }
        Family::Bedrock => "bedrock-2023-05-31",
        _ => "vertex-2023-10-16",
    };
    let version = body.get("anthropic_version").and_then(Value::as_str);
    if version != Some(wanted) && version != Some(CURRENT) {
        return Err(Refusal::invalid(
            format!("anthropic_version: Input should be '{wanted}' or '{CURRENT}'"),
            None,
        ));
    }
    messages::parse(body, env)
}

/// What Anthropic's SDKs send to every cloud since that day.
const CURRENT: &str = "2026-10-21";

static BODY: Shape = Shape::Members(&[
    ("anthropic_version", Shape::Must(&Shape::Text)),
    ("anthropic_beta", Shape::List(&Shape::Text)),
    ("max_tokens", Shape::Must(&Shape::Whole)),
    ("messages", Shape::Must(&Shape::List(&MESSAGE))),
    ("stream", Shape::Flag),
    ("system", CONTENT),
    ("temperature", Shape::Number),
    ("top_p", Shape::Number),
    ("top_k", Shape::Whole),
    ("stop_sequences", Shape::List(&Shape::Text)),
    ("tools", Shape::List(&Shape::Object)),
    ("tool_choice", Shape::Object),
    ("thinking", Shape::Object),
    ("output_config", Shape::Object),
    ("cache_control", Shape::Object),
    ("metadata", Shape::Members(&[("user_id", Shape::Text)])),
]);

static MESSAGE: Shape = Shape::Members(&[
    ("role", Shape::Must(&Shape::Choice(&["user", "assistant", "system"]))),
    ("content", Shape::Must(&CONTENT)),
]);

const CONTENT: Shape = Shape::Either(&[Shape::Text, Shape::List(&Shape::Object)]);
