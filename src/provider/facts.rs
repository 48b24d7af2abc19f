//! What a model at a provider takes: the table behind every translated request.
//!
//! Rows are read from the top, and each that matches adds to what those above it say. A model that no row knows is
//! taken for the newest of its family, so that a new one works on the day it appears.
//!
//! Sources: each provider's API reference and the errors its API gives, as of November 2026.

use super::Provider;
use crate::dialect::ir::Facts;
use crate::dialect::ir::target::{
    Instructions, Knob, LimitName, Media, MidInstructions, Replay, Sampling, Structured, Taken, ToolHistory,
    ToolIds,
};

/// A row: for which providers, for models that begin with what, and what holds for them.
struct Row {
    /// Names of providers; none for every one.
    providers: &'static [&'static str],
    /// Beginnings of models' names, without the vendor before a slash; none for every one.
    models: &'static [&'static str],
    /// What holds for them.
    holds: fn(&mut Facts),
}

/// Hosts of other people's models behind OpenAI's API: they know its older names.
const COMPATIBLE: &[&str] = &[
    "bedrock",
    "cohere",
    "compatible",
    "deepseek",
    "fireworks",
    "google",
    "groq",
    "llamacpp",
    "lmstudio",
    "mistral",
    "ollama",
    "openrouter",
    "perplexity",
    "sglang",
    "simulator",
    "tgi",
    "together",
    "triton",
    "vllm",
    "xai",
];
/// Software that people run themselves.
const ENGINES: &[&str] = &["llamacpp", "lmstudio", "ollama", "sglang", "tgi", "triton", "vllm"];

const ROWS: &[Row] = &[
    Row {
        providers: COMPATIBLE,
        models: &[],
        holds: |facts| {
            facts.limit_name = LimitName::MaxTokens;
            facts.instructions = Instructions::System;
            facts.cache_marks = Taken::No;
        },
    },
    Row {
        providers: ENGINES,
        models: &[],
        holds: |facts| {
            facts.top_k = Taken::Yes;
            facts.replay = Replay::ReasoningContent;
            // Chat templates take instructions at the head alone.
            facts.mid_instructions = MidInstructions::IntoUser;
            facts.media = Media { documents: Taken::No, ..Media::default() };
        },
    },
    Row { providers: &["together", "fireworks"], models: &[], holds: |facts| facts.top_k = Taken::Yes },
    Row {
        providers: &["openrouter"],
        models: &[],
        holds: |facts| {
            facts.replay = Replay::Details;
            facts.cache_marks = Taken::Yes;
            facts.top_k = Taken::Yes;
        },
    },
    Row {
        providers: &["mistral"],
        models: &[],
        holds: |facts| {
            facts.tool_ids = ToolIds::Exactly(9);
            facts.sampling = Sampling::UpTo(1.0);
        },
    },
    Row {
        providers: &["deepseek"],
        models: &[],
        holds: |facts| {
            facts.replay = Replay::ReasoningContent;
            facts.media =
                Media { images: Taken::No, urls: Taken::No, documents: Taken::No, audio: Taken::No };
        },
    },
    Row {
        providers: &["deepseek"],
        models: &["deepseek-reasoner"],
        holds: |facts| facts.forced_tools = Taken::No,
    },
    Row {
        providers: &["cohere-v2", "ollama-native"],
        models: &[],
        holds: |facts| {
            facts.top_k = Taken::Yes;
            facts.cache_marks = Taken::No;
            facts.media.documents = Taken::No;
        },
    },
    Row { providers: &["groq"], models: &[], holds: |facts| facts.replay = Replay::Reasoning },
    Row {
        providers: &["ollama", "ollama-native", "llamacpp"],
        models: &[],
        // They are given pictures as bytes, and fetch none.
        holds: |facts| facts.media.urls = Taken::No,
    },
    Row { providers: &["perplexity"], models: &[], holds: |facts| facts.structured = Structured::Schema },
    // OpenAI's models that reason take no sampling, and call instructions by their new name.
    Row {
        providers: &["openai", "azure"],
        models: &["o1", "o3", "o4", "gpt-5", "gpt-6"],
        holds: |facts| {
            facts.sampling = Sampling::Refused;
            facts.instructions = Instructions::Developer;
        },
    },
    Row {
        providers: &["openai", "azure"],
        models: &["gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat"],
        holds: |facts| {
            facts.sampling = Sampling::Taken;
            facts.instructions = Instructions::AsGiven;
        },
    },
    Row {
        providers: &["openai", "azure"],
        models: &["gpt-3", "gpt-4"],
        holds: |facts| facts.thinking = Knob::None,
    },
    // Gemini thinks by a number of tokens in its second family, by a word since, and not at all before.
    Row { providers: &["gemini"], models: &[], holds: |facts| facts.top_k = Taken::Yes },
    Row { providers: &["gemini"], models: &["gemini-2.5"], holds: |facts| facts.thinking = Knob::Budget },
    Row {
        providers: &["gemini"],
        models: &["gemini-1", "gemini-2.0", "gemma"],
        holds: |facts| facts.thinking = Knob::None,
    },
    Row {
        providers: &["bedrock-converse"],
        models: &[],
        holds: |facts| {
            facts.tool_ids = ToolIds::Plain(64);
            facts.tool_history = ToolHistory::NeedsTools;
            facts.media.urls = Taken::No;
            facts.thinking = Knob::None;
            facts.structured = Structured::Tool;
            facts.default_limit = 4096;
        },
    },
    Row {
        providers: &["bedrock-converse"],
        models: &["anthropic.", "us.anthropic.", "eu.anthropic.", "apac.anthropic.", "global.anthropic."],
        holds: |facts| {
            facts.thinking = Knob::Budget;
            facts.sampling = Sampling::UpTo(1.0);
            facts.default_limit = 8192;
        },
    },
    Row {
        providers: &["anthropic"],
        models: &[],
        holds: |facts| {
            facts.sampling = Sampling::Refused;
            facts.tool_ids = ToolIds::Plain(64);
            facts.thinking = Knob::Effort;
        },
    },
    // Older ones take sampling, temperatures up to 1, and think by a number of tokens.
    Row {
        providers: &["anthropic"],
        models: &[
            "claude-2",
            "claude-3",
            "claude-haiku-4",
            "claude-opus-4-0",
            "claude-opus-4-1",
            "claude-opus-4-2",
            "claude-opus-4-5",
            "claude-opus-4-6",
            "claude-sonnet-4",
        ],
        holds: |facts| {
            facts.sampling = Sampling::UpTo(1.0);
            facts.thinking = Knob::Budget;
            facts.default_limit = 8192;
        },
    },
    Row {
        providers: &["anthropic"],
        models: &["claude-opus-4-6", "claude-sonnet-4-6"],
        holds: |facts| facts.thinking = Knob::Effort,
    },
    Row {
        providers: &["anthropic"],
        models: &[
            "claude-2",
            "claude-3",
            "claude-haiku-4-0",
            "claude-opus-4-0",
            "claude-opus-4-1",
            "claude-sonnet-4-0",
            "claude-sonnet-4-2",
        ],
        holds: |facts| facts.structured = Structured::Tool,
    },
    Row {
        providers: &["anthropic"],
        models: &["claude-2", "claude-3-haiku", "claude-3-opus", "claude-3-sonnet", "claude-3-5"],
        holds: |facts| {
            facts.thinking = Knob::None;
            facts.default_limit = 4096;
        },
    },
];

/// What a model takes at a provider.
pub fn facts(provider: &Provider, model: &str) -> Facts {
    let name = model.rsplit('/').next().unwrap_or(model);
    let mut facts = Facts::default();
    let matching = ROWS.iter().filter(|row| {
        (row.providers.is_empty() || row.providers.contains(&provider.name))
            && (row.models.is_empty() || row.models.iter().any(|start| name.starts_with(start)))
    });
    matching.for_each(|row| (row.holds)(&mut facts));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{PROVIDERS, find};

    fn of(provider: &str, model: &str) -> Facts {
        facts(find(provider).unwrap(), model)
    }

    #[test]
    fn rows_name_providers_that_are_there() {
        for name in ROWS.iter().flat_map(|row| row.providers) {
            assert!(PROVIDERS.iter().any(|provider| provider.name == *name), "{name}");
        }
    }

    #[test]
    fn a_later_row_adds_to_an_earlier_one() {
        let old = of("anthropic", "claude-3-5-haiku-20241022");
        assert_eq!((old.sampling, old.thinking, old.default_limit), (Sampling::UpTo(1.0), Knob::None, 4096));
        assert_eq!(of("anthropic", "claude-sonnet-4-5").thinking, Knob::Budget);
        let unknown = of("anthropic", "claude-opus-9");
        assert_eq!((unknown.sampling, unknown.thinking), (Sampling::Refused, Knob::Effort));
    }

    #[test]
    fn names_are_those_the_provider_knows() {
        assert_eq!(of("vllm", "meta-llama/Llama-3.3-70B-Instruct").limit_name, LimitName::MaxTokens);
        assert_eq!(of("openai", "gpt-4o").limit_name, LimitName::MaxCompletionTokens);
        assert_eq!(of("openai", "gpt-5-mini").sampling, Sampling::Refused);
        assert_eq!(of("openai", "gpt-5-chat-latest").sampling, Sampling::Taken);
        assert_eq!(of("mistral", "mistral-large-latest").tool_ids, ToolIds::Exactly(9));
    }
}
