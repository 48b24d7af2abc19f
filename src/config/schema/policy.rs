//! What a route's requests must keep to, and what is put into them or taken out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::Size;

/// What a route's requests must keep to. What does not is refused with 400 in the client's dialect, which names the field and
/// what is allowed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoutePolicy {
    /// The most messages of a conversation.
    #[schemars(range(min = 1))]
    pub max_messages: Option<u64>,
    /// The most tokens of a prompt, by the estimate that `count_tokens` is answered with where an upstream counts none: the
    /// bytes of its JSON, pictures in base64 included.
    #[schemars(range(min = 1))]
    pub max_input_tokens: Option<u64>,
    /// The most tools.
    pub max_tools: Option<u64>,
    /// What may be asked for beside the conversation.
    pub parameters: Parameters,
    /// What the model is told first.
    pub system: Option<SystemPrompt>,
    /// A JSON Schema of the whole body.
    pub schema: Option<BodySchema>,
    /// What tells of persons or opens doors, and is taken out.
    pub redact: Redact,
    /// Tell the audit log the texts of each request, without what tells of persons, up to 16 KiB.
    pub audit_prompts: bool,
}

/// Parameters of requests. A name is the same in every dialect: letter case, `_` and `-` do not count, the members of
/// `generationConfig` and `inferenceConfig` count as if they stood in the body, and `max_tokens` stands for
/// `max_completion_tokens` and `max_output_tokens` too, `stop` for `stop_sequences`, `n` for `candidateCount`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Only these, besides the model, the conversation and `stream`. Left out: all, those that nobody knows among them.
    pub allow: Option<Vec<String>>,
    /// None of these.
    pub deny: Vec<String>,
    /// The bounds of numbers. A dot leads into an object: `thinking.budget_tokens`. One that a request leaves out is not
    /// bounded.
    pub bounds: BTreeMap<String, NumberBounds>,
}

/// Between what a number must be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NumberBounds {
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
}

/// What the model is told first: one of both.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemPrompt {
    /// This, and nothing of what the client says in its place.
    pub set: Option<String>,
    /// This, and then what the client says.
    pub prefix: Option<String>,
}

/// A JSON Schema of the whole body, of any draft from 4 on. It may refer to nothing outside of its file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodySchema {
    /// A file of JSON. A relative path starts at the configuration file.
    pub file: String,
    /// The largest body that is checked; a larger one is refused. It bounds the time that a check takes.
    #[serde(default = "BodySchema::max_body")]
    pub max_body: Size,
}

impl BodySchema {
    fn max_body() -> Size {
        Size(1 << 20)
    }
}

/// What is taken out: its kind stands in its place, such as `[EMAIL]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redact {
    /// Of the texts of requests.
    pub request: Vec<RedactKind>,
    /// Of replies, streams among them. They are then read and written anew, also where both sides speak the same dialect.
    pub reply: Vec<RedactKind>,
    /// What is done about a request that holds any.
    pub action: RedactAction,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedactKind {
    /// API keys by their makers' prefixes, private keys, web tokens.
    Secret,
    /// E-mail addresses.
    Email,
    /// Bank accounts.
    Iban,
    /// Payment cards.
    Card,
    /// US SSN, UK NINO, German tax id, French NIR, Spanish DNI and NIE, Italian codice fiscale.
    NationalId,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Telephone numbers.
    Phone,
}

/// What is done about a request that holds what it must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedactAction {
    /// It is taken out.
    #[default]
    Redact,
    /// The request is refused with 403, which names the kind.
    Refuse,
}
