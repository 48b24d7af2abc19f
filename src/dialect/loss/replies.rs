//! The parts of replies, by the upstream's dialect.

use super::Probe;
use crate::dialect::translate::Upstream;

/// Of counts.
const COUNT: &str = "the client's dialect has no such count";
/// Of what is said of the end.
const END: &str = "the client's dialect has one word for all such ends";
/// Of further replies.
const ONE: &str = "only one is ever asked for";
/// Of what a translated request cannot ask for.
const UNASKED: &str = "is never asked for across dialects";

/// The least that can be answered.
pub(super) fn base(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Chat => {
            r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}"#
        }
        Upstream::Messages => {
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":9}}"#
        }
        Upstream::Responses => {
            r#"{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"g","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"usage":{"input_tokens":9,"output_tokens":9,"total_tokens":18}}"#
        }
        Upstream::Gemini => {
            r#"{"responseId":"r1","modelVersion":"g","candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":9,"totalTokenCount":18}}"#
        }
        Upstream::Converse => {
            r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":9,"outputTokens":9,"totalTokens":18},"metrics":{"latencyMs":1}}"#
        }
        Upstream::Cohere => {
            r#"{"id":"r1","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]},"usage":{"billed_units":{"input_tokens":9,"output_tokens":9},"tokens":{"input_tokens":9,"output_tokens":9}}}"#
        }
        Upstream::Ollama => {
            r#"{"model":"g","created_at":"2026-11-21T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":9}"#
        }
    }
}

/// The parts of an upstream's reply.
pub(super) fn probes(upstream: Upstream) -> &'static [Probe] {
    match upstream {
        Upstream::Chat => CHAT,
        Upstream::Messages => MESSAGES,
        Upstream::Responses => RESPONSES,
        Upstream::Gemini => GEMINI,
        Upstream::Converse => CONVERSE,
        Upstream::Cohere => COHERE,
        Upstream::Ollama => OLLAMA,
    }
}

#[rustfmt::skip]
const CHAT: &[Probe] = &[
    Probe::top("text", "/choices/0/message/content", r#""Other""#),
    Probe::top("tool call", "/choices/0/message/tool_calls", r#"[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]"#),
    Probe::top("custom tool call", "/choices/0/message/tool_calls", r#"[{"id":"call_1","type":"custom","custom":{"name":"f","input":"x"}}]"#),
    Probe::top("reasoning text", "/choices/0/message/reasoning_content", r#""Hm.""#),
    Probe::top("signature of reasoning", "/choices/0/message/reasoning_details", r#"[{"type":"reasoning.text","text":"Hm.","signature":"c2VhbA==","format":"anthropic-claude-v1","index":0}]"#),
    Probe::top("redacted reasoning", "/choices/0/message/reasoning_details", r#"[{"type":"reasoning.encrypted","data":"c2VhbA==","format":"anthropic-claude-v1","index":0}]"#),
    Probe::top("annotations", "/choices/0/message/annotations", r#"[{"type":"url_citation","url_citation":{"url":"https://h/","title":"t","start_index":0,"end_index":1}}]"#),
    Probe::top("logprobs", "/choices/0/logprobs", r#"{"content":[{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":[]}]}"#),
    Probe::top("refusal", "/choices/0/message/refusal", r#""No.""#),
    Probe::top("audio", "/choices/0/message/audio", r#"{"id":"a","data":"AA==","transcript":"Hi","expires_at":1}"#).anyway(UNASKED),
    Probe::top("finish: length", "/choices/0/finish_reason", r#""length""#),
    Probe::top("finish: content_filter", "/choices/0/finish_reason", r#""content_filter""#),
    Probe::top("finish: tool_calls", "/choices/0/finish_reason", r#""tool_calls""#).anyway("what counts is whether a tool was called"),
    Probe::top("stop sequence that was met", "/choices/0/stop_reason", r#""END""#).anyway(END),
    Probe::top("several choices", "/choices/1", r#"{"index":1,"message":{"role":"assistant","content":"Ho"},"finish_reason":"stop"}"#).anyway(ONE),
    Probe::top("usage: output", "/usage/completion_tokens", "10"),
    Probe::top("usage: cached", "/usage/prompt_tokens_details", r#"{"cached_tokens":3}"#).anyway(COUNT),
    Probe::top("usage: written to the cache", "/usage/prompt_tokens_details", r#"{"cache_write_tokens":3}"#).anyway(COUNT),
    Probe::top("usage: reasoning", "/usage/completion_tokens_details", r#"{"reasoning_tokens":3}"#).anyway(COUNT),
];

#[rustfmt::skip]
const MESSAGES: &[Probe] = &[
    Probe::top("text", "/content/0/text", r#""Other""#),
    Probe::top("tool call", "/content/1", r#"{"type":"tool_use","id":"toolu_1","name":"f","input":{}}"#),
    Probe::top("tool of the provider's", "/content/1", r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}}"#),
    Probe::top("reasoning text", "/content", r#"[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"Hi"}]"#),
    Probe::within("signature of reasoning", "/content/0/signature", r#""c2VhbA==""#, r#"{"content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"Hi"}]}"#),
    Probe::top("redacted reasoning", "/content/1", r#"{"type":"redacted_thinking","data":"c2VhbA=="}"#),
    Probe::top("citations", "/content/0/citations", r#"[{"type":"char_location","cited_text":"x","document_index":0,"document_title":"t","start_char_index":0,"end_char_index":1}]"#),
    Probe::top("finish: max_tokens", "/stop_reason", r#""max_tokens""#),
    Probe::top("finish: refusal", "/stop_reason", r#""refusal""#),
    Probe::top("finish: pause_turn", "/stop_reason", r#""pause_turn""#).anyway(END),
    Probe::within("stop sequence that was met", "/stop_sequence", r#""END""#, r#"{"stop_reason":"stop_sequence"}"#).anyway(END),
    Probe::within("stop_details", "/stop_details", r#"{"type":"refusal","category":"cyber","explanation":"x"}"#, r#"{"stop_reason":"refusal"}"#).anyway(END),
    Probe::top("usage: output", "/usage/output_tokens", "10"),
    Probe::top("usage: cached", "/usage/cache_read_input_tokens", "3").anyway(COUNT),
    Probe::top("usage: written to the cache", "/usage/cache_creation_input_tokens", "3").anyway(COUNT),
    Probe::top("usage: reasoning", "/usage/output_tokens_details", r#"{"thinking_tokens":3}"#).anyway(COUNT),
];

#[rustfmt::skip]
const RESPONSES: &[Probe] = &[
    Probe::top("text", "/output/0/content/0/text", r#""Other""#),
    Probe::top("tool call", "/output/1", r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{}","status":"completed"}"#),
    Probe::top("custom tool call", "/output/1", r#"{"type":"custom_tool_call","id":"ctc_1","call_id":"call_1","name":"f","input":"x"}"#),
    Probe::top("tool of the provider's", "/output/1", r#"{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}}"#),
    Probe::top("reasoning text", "/output/1", r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}]}"#),
    Probe::within("signature of reasoning", "/output/1/encrypted_content", r#""c2VhbA==""#, r#"{"output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[]}]},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}]}]}"#),
    Probe::top("redacted reasoning", "/output/1", r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"c2VhbA=="}"#),
    Probe::top("annotations", "/output/0/content/0/annotations", r#"[{"type":"url_citation","url":"https://h/","title":"t","start_index":0,"end_index":1}]"#),
    Probe::top("logprobs", "/output/0/content/0/logprobs", r#"[{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":[]}]"#),
    Probe::top("refusal", "/output/0/content/0", r#"{"type":"refusal","refusal":"No."}"#),
    Probe::within("finish: max_output_tokens", "/status", r#""incomplete""#, r#"{"incomplete_details":{"reason":"max_output_tokens"}}"#),
    Probe::within("finish: content_filter", "/status", r#""incomplete""#, r#"{"incomplete_details":{"reason":"content_filter"}}"#),
    Probe::top("usage: output", "/usage/output_tokens", "10"),
    Probe::top("usage: cached", "/usage/input_tokens_details", r#"{"cached_tokens":3}"#).anyway(COUNT),
    Probe::top("usage: written to the cache", "/usage/input_tokens_details", r#"{"cache_write_tokens":3}"#).anyway(COUNT),
    Probe::top("usage: reasoning", "/usage/output_tokens_details", r#"{"reasoning_tokens":3}"#).anyway(COUNT),
];

#[rustfmt::skip]
const GEMINI: &[Probe] = &[
    Probe::top("text", "/candidates/0/content/parts/0/text", r#""Other""#),
    Probe::top("tool call", "/candidates/0/content/parts/1", r#"{"functionCall":{"name":"f","args":{}}}"#),
    Probe::top("tool of the provider's", "/candidates/0/content/parts/1", r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#),
    Probe::top("reasoning text", "/candidates/0/content/parts/1", r#"{"text":"Hm.","thought":true}"#),
    Probe::top("signature of text", "/candidates/0/content/parts/0/thoughtSignature", r#""c2VhbA==""#),
    Probe::within("signature of a tool call", "/candidates/0/content/parts/0/thoughtSignature", r#""c2VhbA==""#, r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP"}]}"#),
    Probe::top("image", "/candidates/0/content/parts/1", r#"{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}"#),
    Probe::top("groundingMetadata", "/candidates/0/groundingMetadata", r#"{"groundingChunks":[{"web":{"uri":"https://h/","title":"t"}}]}"#),
    Probe::top("citationMetadata", "/candidates/0/citationMetadata", r#"{"citationSources":[{"uri":"https://h/"}]}"#),
    Probe::top("logprobsResult", "/candidates/0/logprobsResult", r#"{"chosenCandidates":[{"token":"Hi","logProbability":-0.1}]}"#),
    Probe::top("finish: MAX_TOKENS", "/candidates/0/finishReason", r#""MAX_TOKENS""#),
    Probe::top("finish: SAFETY", "/candidates/0/finishReason", r#""SAFETY""#),
    Probe::within("finishMessage", "/candidates/0/finishMessage", r#""x""#, r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hi"}]},"finishReason":"SAFETY"}]}"#).anyway(END),
    Probe::top("safetyRatings", "/candidates/0/safetyRatings", r#"[{"category":"HARM_CATEGORY_HARASSMENT","probability":"LOW"}]"#),
    Probe::top("several candidates", "/candidates/1", r#"{"index":1,"content":{"role":"model","parts":[{"text":"Ho"}]},"finishReason":"STOP"}"#).anyway(ONE),
    Probe::top("usage: output", "/usageMetadata/candidatesTokenCount", "10"),
    Probe::top("usage: cached", "/usageMetadata/cachedContentTokenCount", "3").anyway(COUNT),
    Probe::top("usage: reasoning", "/usageMetadata/thoughtsTokenCount", "3").anyway(COUNT),
];

#[rustfmt::skip]
const CONVERSE: &[Probe] = &[
    Probe::top("text", "/output/message/content/0/text", r#""Other""#),
    Probe::top("tool call", "/output/message/content/1", r#"{"toolUse":{"toolUseId":"t1","name":"f","input":{}}}"#),
    Probe::top("tool of the provider's", "/output/message/content/1", r#"{"toolUse":{"toolUseId":"t","name":"nova_grounding","type":"server_tool_use","input":{"q":1}}}"#),
    Probe::top("reasoning text", "/output/message/content/1", r#"{"reasoningContent":{"reasoningText":{"text":"Hm."}}}"#),
    Probe::within("signature of reasoning", "/output/message/content/0/reasoningContent/reasoningText/signature", r#""c2VhbA==""#, r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Hm."}}},{"text":"Hi"}]}}}"#),
    Probe::top("redacted reasoning", "/output/message/content/1", r#"{"reasoningContent":{"redactedContent":"c2VhbA=="}}"#),
    Probe::within("citations", "/output/message/content/0/citationsContent/citations", r#"[{"title":"t"}]"#, r#"{"output":{"message":{"role":"assistant","content":[{"citationsContent":{"content":[{"text":"Hi"}]}}]}}}"#),
    Probe::top("image", "/output/message/content/1", r#"{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}"#),
    Probe::top("finish: max_tokens", "/stopReason", r#""max_tokens""#),
    Probe::top("finish: guardrail_intervened", "/stopReason", r#""guardrail_intervened""#),
    Probe::within("stop sequence that was met", "/additionalModelResponseFields", r#"{"stop_sequence":"END"}"#, r#"{"stopReason":"stop_sequence"}"#).anyway(END),
    Probe::top("trace", "/trace", r#"{"guardrail":{"actionReason":"x"}}"#).anyway("is the log's of the provider"),
    Probe::top("usage: output", "/usage/outputTokens", "10"),
    Probe::top("usage: cached", "/usage/cacheReadInputTokens", "3").anyway(COUNT),
    Probe::top("usage: written to the cache", "/usage/cacheWriteInputTokens", "3").anyway(COUNT),
];

#[rustfmt::skip]
const COHERE: &[Probe] = &[
    Probe::top("text", "/message/content/0/text", r#""Other""#),
    Probe::top("tool call", "/message/tool_calls", r#"[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]"#),
    Probe::top("tool plan", "/message/tool_plan", r#""I will.""#),
    Probe::top("reasoning text", "/message/content/1", r#"{"type":"thinking","thinking":"Hm."}"#),
    Probe::top("citations", "/message/citations", r#"[{"start":0,"end":1,"text":"H","sources":[{"type":"document","id":"d"}]}]"#),
    Probe::top("logprobs", "/logprobs", r#"[{"token_ids":[1],"text":"Hi","logprobs":[-0.1]}]"#).anyway(UNASKED),
    Probe::top("finish: MAX_TOKENS", "/finish_reason", r#""MAX_TOKENS""#),
    Probe::top("finish: STOP_SEQUENCE", "/finish_reason", r#""STOP_SEQUENCE""#).anyway(END),
    Probe::top("usage: output", "/usage/tokens/output_tokens", "10"),
    Probe::top("usage: cached", "/usage/cached_tokens", "3").anyway(COUNT),
];

#[rustfmt::skip]
const OLLAMA: &[Probe] = &[
    Probe::top("text", "/message/content", r#""Other""#),
    Probe::top("tool call", "/message/tool_calls", r#"[{"function":{"name":"f","arguments":{}}}]"#),
    Probe::top("reasoning text", "/message/thinking", r#""Hm.""#),
    Probe::top("logprobs", "/logprobs", r#"[{"token":"Hi","logprob":-0.1}]"#).anyway(UNASKED),
    Probe::top("images", "/message/images", r#"["iVBORw0KGgo="]"#).anyway(UNASKED),
    Probe::top("finish: length", "/done_reason", r#""length""#),
    Probe::top("usage: output", "/eval_count", "10"),
];
