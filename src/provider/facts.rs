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
use crate::pattern::Pattern;

/// A row: for which providers, for models that begin with what, and what holds for them.
struct Row {
    /// Names of providers; none for every one.
    providers: &'static [&'static str],
    /// Beginnings of models' names, without the vendor before a slash; none for every one.
    models: &'static [&'static str],
    /// What holds for them.
    holds: fn(&mut Facts),
}

/// What models take by the word of a configuration, which goes over the table's.
#[derive(Clone, Debug, Default)]
pub struct Override {
    /// The models that it is about.
    pub models: Vec<Pattern>,
    /// What chat calls the bound on output.
    pub limit_name: Option<LimitName>,
    /// The bound on output where the client gave none and the dialect demands one, tokens.
    pub default_limit: Option<u64>,
    /// The largest bound on output, tokens.
    pub most_output: Option<u64>,
    /// Whether sampling parameters are taken.
    pub sampling: Option<Sampling>,
    /// The most stop sequences.
    pub most_stops: Option<usize>,
    /// How replies of a given shape are asked for.
    pub structured: Option<Structured>,
    /// How much thinking is asked for.
    pub thinking: Option<Knob>,
    /// Whether images are taken.
    pub images: Option<Taken>,
    /// Whether images by URL are taken.
    pub image_urls: Option<Taken>,
    /// Whether documents are taken.
    pub documents: Option<Taken>,
    /// Whether audio is taken.
    pub audio: Option<Taken>,
    /// Whether marks that end a cacheable prefix are taken.
    pub cache_marks: Option<Taken>,
    /// Whether a tool choice that forces a call is taken.
    pub forced_tools: Option<Taken>,
    /// Whether `top_k` is taken.
    pub top_k: Option<Taken>,
}

impl Override {
    fn apply(&self, facts: &mut Facts) {
        fn set<T: Clone>(fact: &mut T, to: &Option<T>) {
            if let Some(to) = to {
                fact.clone_from(to);
            }
        }
        set(&mut facts.limit_name, &self.limit_name);
        set(&mut facts.default_limit, &self.default_limit);
        set(&mut facts.sampling, &self.sampling);
        set(&mut facts.structured, &self.structured);
        set(&mut facts.thinking, &self.thinking);
        set(&mut facts.media.images, &self.images);
        set(&mut facts.media.urls, &self.image_urls);
        set(&mut facts.media.documents, &self.documents);
        set(&mut facts.media.audio, &self.audio);
        set(&mut facts.cache_marks, &self.cache_marks);
        set(&mut facts.forced_tools, &self.forced_tools);
        set(&mut facts.top_k, &self.top_k);
        facts.most_output = self.most_output.or(facts.most_output);
        facts.most_stops = self.most_stops.or(facts.most_stops);
    }
}

/// Hosts of other people's models behind OpenAI's API: they know its older names.
const COMPATIBLE: &[&str] = &[
    "azure-foundry",
    "bedrock",
    "bedrock-mantle",
    "cohere",
    "compatible",
    "deepseek",
    "fireworks",
    "google",
    "groq",
    "llamacpp",
    "lmstudio",
    "localai",
    "mistral",
    "ollama",
    "openrouter",
    "perplexity",
    "sglang",
    "simulator",
    "tensorrt-llm",
    "tgi",
    "together",
    "triton",
    "vertex-openai",
    "vllm",
    "xai",
];
/// Software that people run themselves.
const ENGINES: &[&str] =
    &["llamacpp", "lmstudio", "localai", "ollama", "sglang", "tensorrt-llm", "tgi", "triton", "vllm"];
/// Where Anthropic's models are asked in their own dialect.
const ANTHROPIC: &[&str] =
    &["anthropic", "azure-anthropic", "bedrock-anthropic", "bedrock-mantle-anthropic", "vertex-anthropic"];
/// Where Gemini is asked in its own dialect.
const GEMINI: &[&str] = &["gemini", "vertex"];

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
    Row { providers: &["openai", "azure"], models: &[], holds: |facts| facts.most_stops = Some(4) },
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
    Row { providers: GEMINI, models: &[], holds: |facts| facts.top_k = Taken::Yes },
    Row { providers: GEMINI, models: &["gemini-2.5"], holds: |facts| facts.thinking = Knob::Budget },
    Row {
        providers: GEMINI,
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
        models: &["claude"],
        holds: |facts| {
            facts.thinking = Knob::Budget;
            facts.sampling = Sampling::UpTo(1.0);
            facts.default_limit = 8192;
        },
    },
    Row {
        providers: ANTHROPIC,
        models: &[],
        holds: |facts| {
            facts.sampling = Sampling::Refused;
            facts.tool_ids = ToolIds::Plain(64);
            facts.thinking = Knob::Effort;
        },
    },
    // Older ones take sampling, temperatures up to 1, and think by a number of tokens.
    Row {
        providers: ANTHROPIC,
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
        providers: ANTHROPIC,
        models: &["claude-opus-4-6", "claude-sonnet-4-6"],
        holds: |facts| facts.thinking = Knob::Effort,
    },
    Row {
        providers: ANTHROPIC,
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
        providers: ANTHROPIC,
        models: &["claude-2", "claude-3-haiku", "claude-3-opus", "claude-3-sonnet", "claude-3-5"],
        holds: |facts| {
            facts.thinking = Knob::None;
            facts.default_limit = 4096;
        },
    },
];

/// What a model takes at a provider.
pub fn facts(provider: &Provider, model: &str) -> Facts {
    let name = plain(model);
    let mut facts = Facts::default();
    let matching = ROWS.iter().filter(|row| {
        (row.providers.is_empty() || row.providers.contains(&provider.kin))
            && (row.models.is_empty() || row.models.iter().any(|start| name.starts_with(start)))
    });
    matching.for_each(|row| (row.holds)(&mut facts));
    let named = |row: &&Override| row.models.iter().any(|pattern| pattern.matches(model));
    provider.models.iter().filter(named).for_each(|row| row.apply(&mut facts));
    facts
}

/// The name of a model without its vendor, which stands before a slash, or, at Amazon, before a dot, behind a region.
fn plain(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.split_once("anthropic.").map_or(name, |(_, name)| name)
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
    fn a_model_is_the_same_wherever_it_is_asked() {
        let own = of("anthropic", "claude-sonnet-4-5-20250929");
        for (provider, model) in [
            ("bedrock-anthropic", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
            (
                "bedrock-anthropic",
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ),
            ("vertex-anthropic", "claude-sonnet-4-5@20250929"),
            ("azure-anthropic", "claude-sonnet-4-5"),
        ] {
            let there = of(provider, model);
            assert_eq!((there.sampling, there.thinking), (own.sampling, own.thinking), "{provider} {model}");
        }
        assert_eq!(
            of("bedrock-converse", "eu.anthropic.claude-opus-4-1-20250805-v1:0").thinking,
            Knob::Budget
        );
        assert_eq!(of("bedrock-converse", "amazon.nova-pro-v1:0").thinking, Knob::None);
    }

    #[test]
    fn a_configuration_has_the_last_word() {
        let mut provider = Provider::clone(find("vllm").unwrap());
        provider.name = "mine".into();
        provider.models = vec![Override {
            models: vec![Pattern::parse("llava-*").unwrap()],
            documents: Some(Taken::Yes),
            most_output: Some(512),
            ..Override::default()
        }];
        let seeing = facts(&provider, "llava-7b");
        assert_eq!(
            (seeing.media.documents, seeing.most_output, seeing.top_k),
            (Taken::Yes, Some(512), Taken::Yes)
        );
        assert_eq!(facts(&provider, "llama").media.documents, Taken::No);
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
        assert_eq!((of("azure", "gpt-4o").most_stops, of("vllm", "gpt-4o").most_stops), (Some(4), None));
        assert_eq!(of("mistral", "mistral-large-latest").tool_ids, ToolIds::Exactly(9));
    }
}
