//! The shipped rows.
//!
//! Sources: each provider's API reference and official SDK, as of November 2026. A cloud is probed by connecting
//! only: a request would count towards its rate limits.

use std::time::Duration;

use super::{Auth, FreeProbe, Provider};
use crate::dialect::Operation::{
    self, ChatCompletions, CohereChat, Completions, Converse, CountTokens, Embeddings, GenerateContent,
    Messages, OllamaChat, Responses,
};

const CHAT: &[Operation] = &[ChatCompletions];
const CHAT_EMBEDDINGS: &[Operation] = &[ChatCompletions, Embeddings];
const OPENAI: &[Operation] = &[ChatCompletions, Completions, Embeddings, Responses];
const ANTHROPIC: &[Operation] = &[Messages, CountTokens];
const EVERY: &[Operation] = &[ChatCompletions, Completions, Embeddings, Responses, Messages, CountTokens];

const CLOUD: Provider = Provider {
    name: "",
    base_url: None,
    prefix: "/v1",
    auth: Auth::Bearer,
    speaks: CHAT_EMBEDDINGS,
    probe: FreeProbe::Connect,
    idle: Duration::from_secs(55),
    headers: &[],
};

const NODE: Provider = Provider {
    speaks: OPENAI,
    probe: FreeProbe::Get("/health"),
    // uvicorn, which most engines run on, closes an idle connection after 5 s.
    idle: Duration::from_secs(4),
    ..CLOUD
};

/// Every shipped provider.
pub static PROVIDERS: &[Provider] = &[
    Provider { name: "openai", base_url: Some("https://api.openai.com/v1"), speaks: OPENAI, ..CLOUD },
    Provider {
        name: "anthropic",
        base_url: Some("https://api.anthropic.com/v1"),
        auth: Auth::Header("x-api-key"),
        speaks: ANTHROPIC,
        headers: &[("anthropic-version", "2023-06-01")],
        ..CLOUD
    },
    Provider {
        name: "azure",
        prefix: "/openai/v1",
        auth: Auth::Header("api-key"),
        speaks: &[ChatCompletions, Embeddings, Responses],
        ..CLOUD
    },
    Provider {
        name: "google",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta/openai"),
        ..CLOUD
    },
    Provider {
        name: "gemini",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        prefix: "/v1beta",
        auth: Auth::Header("x-goog-api-key"),
        speaks: &[GenerateContent],
        ..CLOUD
    },
    Provider { name: "bedrock-converse", prefix: "", speaks: &[Converse], ..CLOUD },
    Provider { name: "bedrock", prefix: "/openai/v1", speaks: CHAT, ..CLOUD },
    Provider { name: "cohere", base_url: Some("https://api.cohere.ai/compatibility/v1"), ..CLOUD },
    Provider {
        name: "cohere-v2",
        base_url: Some("https://api.cohere.com"),
        prefix: "",
        speaks: &[CohereChat],
        ..CLOUD
    },
    Provider { name: "mistral", base_url: Some("https://api.mistral.ai/v1"), ..CLOUD },
    Provider {
        name: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        speaks: &[ChatCompletions, Responses],
        ..CLOUD
    },
    Provider {
        name: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        speaks: &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        ..CLOUD
    },
    Provider {
        name: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        speaks: &[ChatCompletions, Responses],
        ..CLOUD
    },
    Provider {
        name: "xai",
        base_url: Some("https://api.x.ai/v1"),
        speaks: &[ChatCompletions, Responses],
        ..CLOUD
    },
    Provider {
        name: "together",
        base_url: Some("https://api.together.xyz/v1"),
        speaks: &[ChatCompletions, Completions, Embeddings],
        ..CLOUD
    },
    Provider {
        name: "fireworks",
        base_url: Some("https://api.fireworks.ai/inference/v1"),
        speaks: &[ChatCompletions, Completions, Embeddings],
        ..CLOUD
    },
    Provider {
        name: "perplexity",
        base_url: Some("https://api.perplexity.ai"),
        prefix: "",
        speaks: CHAT,
        ..CLOUD
    },
    Provider { name: "vllm", speaks: EVERY, ..NODE },
    Provider { name: "sglang", ..NODE },
    // llama.cpp holds a thread for every idle connection and closes it after 5 s.
    Provider { name: "llamacpp", speaks: EVERY, idle: Duration::from_secs(3), ..NODE },
    Provider {
        name: "ollama",
        speaks: &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        probe: FreeProbe::Get("/api/version"),
        ..NODE
    },
    Provider {
        name: "ollama-native",
        prefix: "",
        speaks: &[OllamaChat],
        probe: FreeProbe::Get("/api/version"),
        ..NODE
    },
    Provider {
        name: "lmstudio",
        speaks: &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        probe: FreeProbe::Get("/v1/models"),
        ..NODE
    },
    Provider { name: "tgi", speaks: &[ChatCompletions, Completions], ..NODE },
    Provider {
        name: "triton",
        speaks: &[ChatCompletions, Completions, Embeddings],
        probe: FreeProbe::Get("/health/ready"),
        ..NODE
    },
    Provider { name: "compatible", speaks: EVERY, ..CLOUD },
    Provider { name: "simulator", speaks: EVERY, idle: Duration::from_secs(30), ..NODE },
];

/// The row of that name.
pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable_by_its_own_name_and_speaks_something() {
        for row in PROVIDERS {
            assert!(std::ptr::eq(find(row.name).unwrap(), row), "{} is there twice", row.name);
            assert!(!row.speaks.is_empty());
            assert!(!row.prefix.ends_with('/'));
        }
        assert!(find("nobody").is_none());
    }
}
