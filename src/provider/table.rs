//! The shipped rows.
//!
//! Sources: each provider's API reference and official SDK, as of November 2026. A cloud is probed by connecting
//! only: a request would count towards its rate limits.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{Address, Auth, FreeProbe, Kind, Provider};
use crate::dialect::Operation::{
    self, ChatCompletions, CohereChat, CohereEmbed, Completions, Converse, CountTokens, Embeddings,
    GeminiCount, GeminiEmbed, GenerateContent, Messages, OllamaChat, OllamaEmbed, Rerank, Responses,
    VertexEmbed,
};
use crate::dialect::form::Form;

const CHAT: &[Operation] = &[ChatCompletions];
const CHAT_EMBEDDINGS: &[Operation] = &[ChatCompletions, Embeddings];
const CHAT_RESPONSES: &[Operation] = &[ChatCompletions, Responses];
const CHAT_OLD_EMBEDDINGS: &[Operation] = &[ChatCompletions, Completions, Embeddings];
const OPENAI: &[Operation] = &[ChatCompletions, Completions, Embeddings, Responses];
const COHERE: &[Operation] = &[CohereChat, CohereEmbed, Rerank];
const ANTHROPIC: &[Operation] = &[Messages, CountTokens];
const ALL_BUT_COUNT: &[Operation] = &[ChatCompletions, Completions, Embeddings, Responses, Messages];
const EVERY: &[Operation] =
    &[ChatCompletions, Completions, Embeddings, Responses, Messages, CountTokens, Rerank];

/// A cloud that speaks OpenAI's API.
fn cloud(name: &'static str, address: Address) -> Provider {
    Provider {
        name: Cow::Borrowed(name),
        kin: name,
        kind: Kind::Cloud,
        address,
        prefix: "/v1".into(),
        auth: Auth::Bearer,
        speaks: CHAT_EMBEDDINGS.into(),
        form: Form::Own,
        fold: false,
        continues: false,
        counts: false,
        probe: FreeProbe::Connect,
        idle: Duration::from_secs(55),
        headers: Vec::new(),
        models: Vec::new(),
    }
}

/// An address that is the same for all.
fn at(url: &'static str) -> Address {
    Address::Fixed(Cow::Borrowed(url))
}

/// An engine that speaks OpenAI's API.
fn engine(name: &'static str, speaks: &'static [Operation], probe: &'static str) -> Provider {
    Provider {
        kind: Kind::Engine,
        speaks: speaks.into(),
        probe: FreeProbe::Get(probe.into()),
        // uvicorn, which most engines run on, closes an idle connection after 5 s.
        idle: Duration::from_secs(4),
        ..cloud(name, Address::Own)
    }
}

/// An Anthropic API: Anthropic's own, or another's of the same kind.
fn anthropic(name: &'static str, address: Address, key: &'static str) -> Provider {
    Provider { speaks: ANTHROPIC.into(), auth: header(key), headers: vec![version()], ..cloud(name, address) }
}

/// The version of Messages that is asked for.
fn version() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"))
}

fn header(name: &'static str) -> Auth {
    Auth::Header(HeaderName::from_static(name))
}

/// Every shipped provider.
pub static PROVIDERS: LazyLock<Vec<Arc<Provider>>> = LazyLock::new(|| {
    let rows = [openai_clouds(), azure(), google(), amazon(), engines()];
    rows.into_iter().flatten().map(Arc::new).collect()
});

/// OpenAI, Anthropic, and clouds with one address.
fn openai_clouds() -> Vec<Provider> {
    let speaking =
        |name, url, speaks: &'static [Operation]| Provider { speaks: speaks.into(), ..cloud(name, at(url)) };
    vec![
        speaking("openai", "https://api.openai.com/v1", OPENAI),
        anthropic("anthropic", at("https://api.anthropic.com/v1"), "x-api-key"),
        cloud("cohere", at("https://api.cohere.ai/compatibility/v1")),
        Provider { prefix: "/v2".into(), ..speaking("cohere-v2", "https://api.cohere.com/v2", COHERE) },
        cloud("mistral", at("https://api.mistral.ai/v1")),
        speaking("groq", "https://api.groq.com/openai/v1", CHAT_RESPONSES),
        speaking("openrouter", "https://openrouter.ai/api/v1", ALL_BUT_COUNT),
        speaking("deepseek", "https://api.deepseek.com/v1", CHAT_RESPONSES),
        speaking("xai", "https://api.x.ai/v1", CHAT_RESPONSES),
        speaking("together", "https://api.together.xyz/v1", CHAT_OLD_EMBEDDINGS),
        speaking("fireworks", "https://api.fireworks.ai/inference/v1", CHAT_OLD_EMBEDDINGS),
        Provider { prefix: "".into(), ..speaking("perplexity", "https://api.perplexity.ai", CHAT) },
    ]
}

/// Microsoft's: a resource has an address of its own.
fn azure() -> Vec<Provider> {
    let resource = |name, prefix: &'static str, speaks: &'static [Operation]| Provider {
        prefix: prefix.into(),
        auth: header("api-key"),
        speaks: speaks.into(),
        ..cloud(name, Address::Own)
    };
    vec![
        resource("azure", "/openai/v1", &[ChatCompletions, Embeddings, Responses]),
        Provider {
            form: Form::Dated { version: "2024-05-01-preview".to_owned() },
            ..resource("azure-foundry", "/models", CHAT_EMBEDDINGS)
        },
        Provider { prefix: "/anthropic/v1".into(), ..anthropic("azure-anthropic", Address::Own, "api-key") },
    ]
}

/// Google's: AI Studio with a key, Vertex AI with a token.
fn google() -> Vec<Provider> {
    let vertex = |name, below| Provider {
        prefix: "".into(),
        auth: Auth::Google,
        ..cloud(name, Address::Vertex(below))
    };
    vec![
        cloud("google", at("https://generativelanguage.googleapis.com/v1beta/openai")),
        Provider {
            prefix: "/v1beta".into(),
            auth: header("x-goog-api-key"),
            speaks: (&[GenerateContent, GeminiCount, GeminiEmbed]).into(),
            ..cloud("gemini", at("https://generativelanguage.googleapis.com/v1beta"))
        },
        Provider {
            speaks: (&[GenerateContent, GeminiCount, VertexEmbed]).into(),
            ..vertex("vertex", "/publishers/google")
        },
        Provider {
            speaks: ANTHROPIC.into(),
            form: Form::Vertex,
            ..vertex("vertex-anthropic", "/publishers/anthropic")
        },
        Provider { speaks: CHAT.into(), ..vertex("vertex-openai", "/endpoints/openapi") },
    ]
}

/// Amazon's: with AWS credentials or an API key.
fn amazon() -> Vec<Provider> {
    let bedrock = |name, prefix: &'static str, speaks: &'static [Operation]| Provider {
        prefix: prefix.into(),
        auth: Auth::Aws("bedrock"),
        speaks: speaks.into(),
        ..cloud(name, Address::Bedrock)
    };
    let mantle = |name, prefix, speaks| Provider {
        address: Address::Mantle,
        auth: Auth::Aws("bedrock-mantle"),
        ..bedrock(name, prefix, speaks)
    };
    vec![
        bedrock("bedrock", "/openai/v1", CHAT),
        bedrock("bedrock-converse", "", &[Converse]),
        Provider { form: Form::Invoke, ..bedrock("bedrock-anthropic", "", &[Messages]) },
        mantle("bedrock-mantle", "/openai/v1", CHAT_RESPONSES),
        Provider {
            headers: vec![version()],
            ..mantle("bedrock-mantle-anthropic", "/anthropic/v1", &[Messages])
        },
    ]
}

/// Software that people run themselves.
fn engines() -> Vec<Provider> {
    vec![
        Provider { continues: true, counts: true, ..engine("vllm", EVERY, "/health") },
        Provider { continues: true, counts: true, ..engine("sglang", OPENAI, "/health") },
        // llama.cpp holds a thread for every idle connection and closes it after 5 s.
        Provider {
            idle: Duration::from_secs(3),
            fold: true,
            continues: true,
            ..engine("llamacpp", EVERY, "/health")
        },
        engine("ollama", ALL_BUT_COUNT, "/api/version"),
        Provider { prefix: "".into(), ..engine("ollama-native", &[OllamaChat, OllamaEmbed], "/api/version") },
        engine("lmstudio", ALL_BUT_COUNT, "/v1/models"),
        engine("localai", CHAT_OLD_EMBEDDINGS, "/healthz"),
        engine("tgi", &[ChatCompletions, Completions], "/health"),
        engine("triton", CHAT_OLD_EMBEDDINGS, "/health/ready"),
        engine("tensorrt-llm", &[ChatCompletions, Completions], "/health"),
        Provider { kind: Kind::Any, speaks: EVERY.into(), ..cloud("compatible", Address::Own) },
        Provider {
            idle: Duration::from_secs(30),
            continues: true,
            counts: true,
            ..engine("simulator", EVERY, "/health")
        },
    ]
}

/// The row of that name.
pub fn find(name: &str) -> Option<&'static Arc<Provider>> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable_by_its_own_name_and_speaks_something() {
        for row in PROVIDERS.iter() {
            assert!(Arc::ptr_eq(find(&row.name).unwrap(), row), "{} is there twice", row.name);
            assert_eq!(row.kin, row.name);
            assert!(!row.speaks.is_empty());
            assert!(!row.prefix.ends_with('/'));
        }
        assert!(find("nobody").is_none());
    }
}
