//! Providers that a configuration brings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Speaks;
use crate::config::value::{HeaderName, Pattern, ProviderName, Url};

/// A provider of one's own: a name for what several clusters have in common, or an API that Forebay does not know.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// The known provider that it is like in everything that is not said here. Left out: `compatible`, which is
    /// anything that speaks OpenAI's API; or the known provider of the same name.
    pub like: Option<ProviderName>,
    /// Where the API is.
    pub base_url: Option<Url>,
    /// The header that holds the key alone. Left out: as the provider it is like, most of which take
    /// `Authorization: Bearer KEY`.
    pub key_header: Option<HeaderName>,
    /// What the API can be asked, the best first.
    pub speaks: Option<Vec<Speaks>>,
    /// The path of a free health check, from the root of the host.
    pub health_path: Option<String>,
    /// Headers that every request needs, unless the client sent them. No secrets: those belong to a cluster.
    pub headers: BTreeMap<String, String>,
    /// What its models take, where that differs. Of several that match a model, the later goes over the earlier.
    pub models: Vec<Capabilities>,
}

/// What models take. Everything left out is as the provider's models are known to be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Which models; a name may hold one `*`.
    #[schemars(length(min = 1))]
    pub names: Vec<Pattern>,
    /// What chat completions call the bound on output.
    pub max_tokens_name: Option<MaxTokensName>,
    /// The bound on output where the client gives none and the API demands one, tokens.
    #[schemars(range(min = 1))]
    pub default_max_tokens: Option<u64>,
    /// The largest bound on output, tokens. A larger one is lowered to it.
    #[schemars(range(min = 1))]
    pub most_max_tokens: Option<u64>,
    /// Whether `temperature`, `top_p` and `top_k` are taken.
    pub sampling: Option<bool>,
    /// The highest temperature. A higher one is lowered to it.
    #[schemars(range(min = 0))]
    pub max_temperature: Option<f64>,
    /// Whether `top_k` is taken by chat completions.
    pub top_k: Option<bool>,
    /// The most stop sequences.
    pub most_stops: Option<u32>,
    /// How replies of a given JSON schema are asked for.
    pub structured_output: Option<StructuredOutput>,
    /// How thinking is asked for.
    pub thinking: Option<Thinking>,
    /// Whether images are taken.
    pub images: Option<bool>,
    /// Whether images by URL are taken, which the API fetches.
    pub image_urls: Option<bool>,
    /// Whether documents are taken.
    pub documents: Option<bool>,
    /// Whether audio is taken.
    pub audio: Option<bool>,
    /// Whether marks that end a cacheable prefix are taken.
    pub cache_marks: Option<bool>,
    /// Whether a tool choice that forces a call is taken.
    pub forced_tools: Option<bool>,
}

/// What chat completions call the bound on output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensName {
    /// The old name.
    MaxTokens,
    /// The new name.
    MaxCompletionTokens,
}

/// How replies of a given JSON schema are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// By the schema.
    Schema,
    /// By a tool that the model is made to call.
    Tool,
    /// Not at all.
    None,
}

/// How thinking is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// By a word, such as `high`.
    Effort,
    /// By a number of tokens.
    Budget,
    /// Not at all.
    None,
}
