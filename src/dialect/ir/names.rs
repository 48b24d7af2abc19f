//! What clients call what a request holds: encoders note losses under chat's names, and a client is told its own.

use std::borrow::Cow;

use super::Origin;

/// A name that encoders use, and what it is called elsewhere. Where a dialect is not listed, it is called the same.
type Row = (&'static str, &'static [(Origin, &'static str)]);

use Origin::{Chat, Completions, Converse, Gemini, Messages, Responses};

const ROWS: &[Row] = &[
    ("messages", &[(Responses, "input"), (Gemini, "contents"), (Completions, "prompt")]),
    ("temperature", &[(Gemini, "generationConfig.temperature"), (Converse, "inferenceConfig.temperature")]),
    ("top_p", &[(Gemini, "generationConfig.topP"), (Converse, "inferenceConfig.topP")]),
    ("top_k", &[(Gemini, "generationConfig.topK"), (Converse, "additionalModelRequestFields.top_k")]),
    (
        "stop",
        &[
            (Messages, "stop_sequences"),
            (Gemini, "generationConfig.stopSequences"),
            (Converse, "inferenceConfig.stopSequences"),
        ],
    ),
    (
        "max_tokens",
        &[
            (Responses, "max_output_tokens"),
            (Gemini, "generationConfig.maxOutputTokens"),
            (Converse, "inferenceConfig.maxTokens"),
        ],
    ),
    ("n", &[(Gemini, "generationConfig.candidateCount")]),
    ("frequency_penalty", &[(Gemini, "generationConfig.frequencyPenalty")]),
    ("presence_penalty", &[(Gemini, "generationConfig.presencePenalty")]),
    ("seed", &[(Gemini, "generationConfig.seed")]),
    ("logprobs", &[(Gemini, "generationConfig.responseLogprobs")]),
    ("top_logprobs", &[(Gemini, "generationConfig.logprobs"), (Completions, "logprobs")]),
    ("tools", &[(Converse, "toolConfig.tools")]),
    ("tool_choice", &[(Gemini, "toolConfig.functionCallingConfig"), (Converse, "toolConfig.toolChoice")]),
    ("parallel_tool_calls", &[(Messages, "tool_choice.disable_parallel_tool_use")]),
    (
        "response_format",
        &[
            (Responses, "text.format"),
            (Messages, "output_config.format"),
            (Gemini, "generationConfig.responseMimeType"),
            (Converse, "outputConfig.textFormat"),
        ],
    ),
    ("reasoning", THINKING),
    ("thinking", THINKING),
    (
        "reasoning_effort",
        &[
            (Responses, "reasoning.effort"),
            (Messages, "output_config.effort"),
            (Gemini, "generationConfig.thinkingConfig.thinkingLevel"),
            (Converse, "additionalModelRequestFields.output_config.effort"),
        ],
    ),
    (
        "thinking.budget_tokens",
        &[
            (Gemini, "generationConfig.thinkingConfig.thinkingBudget"),
            (Converse, "additionalModelRequestFields.thinking.budget_tokens"),
        ],
    ),
    ("thinking.display", &[(Converse, "additionalModelRequestFields.thinking.display")]),
    ("cache_control", &[(Responses, "prompt_cache_breakpoint"), (Converse, "cachePoint")]),
    ("user", &[(Messages, "metadata.user_id")]),
    ("metadata", &[(Converse, "requestMetadata")]),
    ("service_tier", &[(Gemini, "serviceTier"), (Converse, "serviceTier")]),
];

const THINKING: &[(Origin, &str)] = &[
    (Chat, "reasoning_effort"),
    (Messages, "thinking"),
    (Responses, "reasoning"),
    (Gemini, "generationConfig.thinkingConfig"),
    (Converse, "additionalModelRequestFields.thinking"),
];

/// What `origin` calls the field at `path`; what stands behind a colon says more about it.
pub(super) fn named(origin: Origin, path: &str) -> Cow<'_, str> {
    let (name, rest) = path.split_at_checked(path.find(':').unwrap_or(path.len())).unwrap_or((path, ""));
    let own = ROWS.iter().find(|(known, _)| *known == name).and_then(|(_, own)| {
        let (_, own) = own.iter().find(|(dialect, _)| *dialect == origin)?;
        Some(*own)
    });
    match own {
        Some(own) => Cow::Owned(format!("{own}{rest}")),
        None => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_its_own_names() {
        for (origin, path, own) in [
            (Gemini, "top_k", "generationConfig.topK"),
            (Gemini, "messages: image", "contents: image"),
            (Chat, "reasoning", "reasoning_effort"),
            (Chat, "messages: reasoning", "messages: reasoning"),
            (Converse, "stop", "inferenceConfig.stopSequences"),
            (Messages, "stop", "stop_sequences"),
            (Responses, "response_format: description", "text.format: description"),
            (Messages, "container", "container"),
        ] {
            assert_eq!(named(origin, path), own);
        }
        assert!(ROWS.iter().enumerate().all(|(at, row)| ROWS.iter().take(at).all(|other| other.0 != row.0)));
    }
}
