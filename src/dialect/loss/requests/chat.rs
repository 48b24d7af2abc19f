//! OpenAI chat completions.

use super::{DEFAULT, KEPT, LABEL, Probe};

/// One tool, and words that call for it.
const TOOL: &str = r#"{"tools":[{"type":"function","function":{"name":"f","description":"Does.","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}]}"#;
/// A user's message in parts.
const PARTS: &str = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#;
/// A turn of the model's, and the user's next.
const TURN: &str = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes"},{"role":"user","content":"So?"}]}"#;
/// A call and its result.
const CALL: &str = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"call_1","content":"ok"}],"tools":[{"type":"function","function":{"name":"f","description":"Does.","parameters":{"type":"object","properties":{}}}}]}"#;
/// Replies of a given shape.
const FORMAT: &str = r#"{"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}}"#;

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::within("messages[]: role `system`", "/messages/0", r#"{"role":"system","content":"Be brief."}"#, r#"{"messages":[{"role":"user","content":"x"},{"role":"user","content":"Hi"}]}"#),
    Probe::within("messages[]: role `developer`", "/messages/0", r#"{"role":"developer","content":"Be brief."}"#, r#"{"messages":[{"role":"user","content":"x"},{"role":"user","content":"Hi"}]}"#),
    Probe::within("messages[]: role `system` after the head", "/messages/3", r#"{"role":"system","content":"Be brief."}"#, TURN),
    Probe::within("messages[]: role `assistant`", "/messages/1", r#"{"role":"assistant","content":"Yes"}"#, r#"{"messages":[{"role":"user","content":"Hi"}]}"#),
    Probe::within("messages[].name", "/messages/0/name", r#""ann""#, PARTS),
    Probe::within("messages[].refusal", "/messages/1/refusal", r#""No.""#, r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null},{"role":"user","content":"So?"}]}"#),
    Probe::within("messages[].audio", "/messages/1/audio", r#"{"id":"audio_1"}"#, TURN),
    Probe::within("messages[].function_call", "/messages/1/function_call", r#"{"name":"f","arguments":"{}"}"#, TURN),
    Probe::within("messages[].reasoning_content", "/messages/1/reasoning_content", r#""Hm.""#, TURN),
    Probe::within("messages[].reasoning", "/messages/1/reasoning", r#""Hm.""#, TURN),
    Probe::within("messages[].reasoning_details[]: sealed by Anthropic", "/messages/1/reasoning_details", r#"[{"type":"reasoning.text","text":"Hm.","signature":"c2VhbA==","format":"anthropic-claude-v1","index":0}]"#, TURN),
    Probe::within("messages[].annotations", "/messages/1/annotations", r#"[{"type":"url_citation","url_citation":{"url":"https://h/","title":"t","start_index":0,"end_index":1}}]"#, TURN),
    Probe::within("messages[].tool_calls[]", "/messages/1/tool_calls/1", r#"{"id":"call_2","type":"function","function":{"name":"f","arguments":"{\"a\":2}"}}"#, CALL),
    Probe::within("messages[].tool_calls[]: custom", "/messages/1/tool_calls/1", r#"{"id":"call_2","type":"custom","custom":{"name":"f","input":"x"}}"#, CALL),
    Probe::within("messages[].tool_calls[].extra_content.google.thought_signature", "/messages/1/tool_calls/0/extra_content", r#"{"google":{"thought_signature":"c2VhbA=="}}"#, CALL),
    Probe::within("messages[].tool_calls[].extra_content: other", "/messages/1/tool_calls/0/extra_content", r#"{"other":{"x":1}}"#, CALL),
    Probe::within("messages[]: role `tool`", "/messages/2/content", r#""other""#, CALL),
    Probe::within("messages[]: role `tool`, several parts", "/messages/2/content", r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#, CALL),
    Probe::within("messages[].content[]: text", "/messages/0/content/1", r#"{"type":"text","text":"Now."}"#, PARTS),
    Probe::within("messages[].content[]: image_url, data URL", "/messages/0/content/1", r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}"#, PARTS),
    Probe::within("messages[].content[]: image_url, http URL", "/messages/0/content/1", r#"{"type":"image_url","image_url":{"url":"https://h/x.png"}}"#, PARTS),
    Probe::within("messages[].content[].image_url.detail", "/messages/0/content/0/image_url/detail", r#""low""#, r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}},{"type":"text","text":"Hi"}]}]}"#),
    Probe::within("messages[].content[]: input_audio", "/messages/0/content/1", r#"{"type":"input_audio","input_audio":{"format":"wav","data":"UklGRg=="}}"#, PARTS),
    Probe::within("messages[].content[]: file, PDF", "/messages/0/content/1", r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}"#, PARTS),
    Probe::within("messages[].content[].file.filename", "/messages/0/content/0/file/filename", r#""b.pdf""#, r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"text","text":"Hi"}]}]}"#),
    Probe::within("messages[].content[]: file, file_id", "/messages/0/content/1", r#"{"type":"file","file":{"file_id":"file-1"}}"#, PARTS),
    Probe::within("messages[].content[]: refusal", "/messages/1/content", r#"[{"type":"refusal","refusal":"No."}]"#, TURN),
    Probe::within("messages[].content[]: of another type", "/messages/0/content/1", r#"{"type":"video_url","video_url":{"url":"https://h/x.mp4"}}"#, PARTS),
    Probe::within("messages[].content[].prompt_cache_breakpoint", "/messages/0/content/0/prompt_cache_breakpoint", r#"{"mode":"explicit"}"#, PARTS),
    Probe::within("messages[].content[].prompt_cache_breakpoint, with ttl", "/messages/0/content/0/prompt_cache_breakpoint", r#"{"mode":"explicit","ttl":"30m"}"#, PARTS),
    Probe::within("messages[].content[].cache_control", "/messages/0/content/0/cache_control", r#"{"type":"ephemeral"}"#, PARTS),
    // Tools.
    Probe::within("tools[]: function", "/tools/1", r#"{"type":"function","function":{"name":"g","description":"Does.","parameters":{"type":"object","properties":{}}}}"#, TOOL),
    Probe::within("tools[].function.description", "/tools/0/function/description", r#""Does more.""#, TOOL),
    Probe::within("tools[].function.parameters", "/tools/0/function/parameters", r#"{"type":"object","properties":{"b":{"type":"string"}}}"#, TOOL),
    Probe::within("tools[].function.strict", "/tools/0/function/strict", "true", TOOL),
    Probe::within("tools[]: custom", "/tools/1", r#"{"type":"custom","custom":{"name":"g"}}"#, TOOL),
    Probe::within("tools[].cache_control", "/tools/0/cache_control", r#"{"type":"ephemeral"}"#, TOOL),
    Probe::within("tool_choice: auto", "/tool_choice", r#""auto""#, TOOL).anyway(DEFAULT),
    Probe::within("tool_choice: none", "/tool_choice", r#""none""#, TOOL),
    Probe::within("tool_choice: required", "/tool_choice", r#""required""#, TOOL),
    Probe::within("tool_choice: a function", "/tool_choice", r#"{"type":"function","function":{"name":"f"}}"#, TOOL),
    Probe::within("tool_choice: allowed_tools", "/tool_choice", r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}"#, TOOL),
    Probe::within("parallel_tool_calls: false", "/parallel_tool_calls", "false", TOOL),
    Probe::within("parallel_tool_calls: true", "/parallel_tool_calls", "true", TOOL).anyway(DEFAULT),
    Probe::top("functions", "/functions", r#"[{"name":"f","parameters":{"type":"object","properties":{}}}]"#),
    Probe::top("function_call", "/function_call", r#""auto""#),
    // The shape of the reply.
    Probe::top("response_format: json_object", "/response_format", r#"{"type":"json_object"}"#),
    Probe::top("response_format: json_schema", "/response_format", r#"{"type":"json_schema","json_schema":{"name":"w","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}"#),
    Probe::within("response_format.json_schema.name", "/response_format/json_schema/name", r#""w""#, FORMAT).anyway(LABEL),
    Probe::within("response_format.json_schema.description", "/response_format/json_schema/description", r#""What.""#, FORMAT),
    Probe::within("response_format.json_schema.strict: true", "/response_format/json_schema/strict", "true", FORMAT).anyway(KEPT),
    Probe::within("response_format.json_schema.strict: false", "/response_format/json_schema/strict", "false", FORMAT).anyway(KEPT),
    Probe::top("modalities", "/modalities", r#"["text","audio"]"#),
    Probe::top("audio", "/audio", r#"{"voice":"alloy","format":"wav"}"#),
    Probe::top("verbosity", "/verbosity", r#""low""#),
    Probe::top("prediction", "/prediction", r#"{"type":"content","content":"x"}"#),
    // How it is made.
    Probe::top("max_completion_tokens", "/max_completion_tokens", "500"),
    Probe::top("max_tokens", "/max_tokens", "500"),
    Probe::top("temperature", "/temperature", "0.5"),
    Probe::top("temperature: above 1", "/temperature", "1.5"),
    Probe::top("top_p", "/top_p", "0.5"),
    Probe::top("top_k", "/top_k", "5"),
    Probe::top("min_p", "/min_p", "0.1"),
    Probe::top("frequency_penalty", "/frequency_penalty", "0.5"),
    Probe::top("presence_penalty", "/presence_penalty", "0.5"),
    Probe::top("repetition_penalty", "/repetition_penalty", "1.1"),
    Probe::top("seed", "/seed", "7"),
    Probe::top("logit_bias", "/logit_bias", r#"{"50256":-100}"#),
    Probe::top("logprobs", "/logprobs", "true"),
    Probe::within("top_logprobs", "/top_logprobs", "2", r#"{"logprobs":true}"#),
    Probe::top("n", "/n", "2"),
    Probe::top("stop", "/stop", r#"["END"]"#),
    Probe::top("reasoning_effort", "/reasoning_effort", r#""high""#),
    Probe::top("reasoning_effort: minimal", "/reasoning_effort", r#""minimal""#),
    Probe::top("reasoning_effort: none", "/reasoning_effort", r#""none""#),
    Probe::top("service_tier: default", "/service_tier", r#""default""#).anyway(DEFAULT),
    Probe::top("service_tier: flex", "/service_tier", r#""flex""#),
    Probe::top("service_tier: priority", "/service_tier", r#""priority""#),
    // Around it.
    Probe::top("stream", "/stream", "true"),
    Probe::within("stream_options.include_usage", "/stream_options/include_usage", "true", r#"{"stream":true}"#),
    Probe::within("stream_options.include_obfuscation: true", "/stream_options/include_obfuscation", "true", r#"{"stream":true}"#),
    Probe::within("stream_options.include_obfuscation: false", "/stream_options/include_obfuscation", "false", r#"{"stream":true}"#).anyway("a translated stream is never padded"),
    Probe::top("store: true", "/store", "true"),
    Probe::top("store: false", "/store", "false").anyway("nothing is stored"),
    Probe::top("metadata", "/metadata", r#"{"k":"v"}"#),
    Probe::top("user", "/user", r#""u1""#),
    Probe::top("safety_identifier", "/safety_identifier", r#""u1""#),
    Probe::top("prompt_cache_key", "/prompt_cache_key", r#""k""#),
    Probe::top("prompt_cache_options", "/prompt_cache_options", r#"{"mode":"implicit"}"#),
    Probe::top("prompt_cache_retention", "/prompt_cache_retention", r#""24h""#),
    Probe::top("web_search_options", "/web_search_options", r#"{"search_context_size":"low"}"#),
    Probe::top("moderation", "/moderation", r#"{"model":"omni-moderation-latest"}"#),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
