//! OpenAI Responses.

use super::{DEFAULT, KEPT, LABEL, Probe};

/// One tool.
const TOOL: &str = r#"{"tools":[{"type":"function","name":"f","description":"Does.","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}]}"#;
/// A user's message in parts.
const PARTS: &str = r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}]}"#;
/// A turn of the model's, and the user's next.
const TURN: &str = r#"{"input":[{"role":"user","content":"Hi"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Yes"}]},{"role":"user","content":"So?"}]}"#;
/// A call and its result.
const CALL: &str = r#"{"input":[{"role":"user","content":"Hi"},{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"},{"type":"function_call_output","call_id":"call_1","output":"ok"}],"tools":[{"type":"function","name":"f","description":"Does.","parameters":{"type":"object","properties":{}}}]}"#;
/// Replies of a given shape.
const FORMAT: &str = r#"{"text":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}}"#;
/// Why an item's own fields need no trace.
const OF_ITEMS: &str = "an item's id and state say nothing to an upstream that keeps no items";

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::top("instructions", "/instructions", r#""Be brief.""#),
    Probe::top("input: a text", "/input", r#""Now.""#),
    Probe::within("input[]: role `system`", "/input/0", r#"{"role":"system","content":"Be brief."}"#, r#"{"input":[{"role":"user","content":"x"},{"role":"user","content":"Hi"}]}"#),
    Probe::within("input[]: role `developer`", "/input/0", r#"{"role":"developer","content":"Be brief."}"#, r#"{"input":[{"role":"user","content":"x"},{"role":"user","content":"Hi"}]}"#),
    Probe::within("input[]: role `assistant`", "/input/1", r#"{"role":"assistant","content":"Yes"}"#, r#"{"input":[{"role":"user","content":"Hi"}]}"#),
    Probe::within("input[].phase", "/input/1/phase", r#""commentary""#, TURN),
    Probe::within("input[].id", "/input/1/id", r#""msg_1""#, TURN).anyway(OF_ITEMS),
    Probe::within("input[].status", "/input/1/status", r#""completed""#, TURN).anyway(OF_ITEMS),
    Probe::within("input[].content[]: input_text", "/input/0/content/1", r#"{"type":"input_text","text":"Now."}"#, PARTS),
    Probe::within("input[].content[]: input_image, data URL", "/input/0/content/1", r#"{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}"#, PARTS),
    Probe::within("input[].content[]: input_image, http URL", "/input/0/content/1", r#"{"type":"input_image","image_url":"https://h/x.png"}"#, PARTS),
    Probe::within("input[].content[]: input_image, file_id", "/input/0/content/1", r#"{"type":"input_image","file_id":"file-1"}"#, PARTS),
    Probe::within("input[].content[].detail", "/input/0/content/0/detail", r#""low""#, r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="},{"type":"input_text","text":"Hi"}]}]}"#),
    Probe::within("input[].content[]: input_file, file_data", "/input/0/content/1", r#"{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}"#, PARTS),
    Probe::within("input[].content[]: input_file, file_url", "/input/0/content/1", r#"{"type":"input_file","file_url":"https://h/a.pdf"}"#, PARTS),
    Probe::within("input[].content[]: input_file, file_id", "/input/0/content/1", r#"{"type":"input_file","file_id":"file-1"}"#, PARTS),
    Probe::within("input[].content[].detail of a file", "/input/0/content/0/detail", r#""low""#, r#"{"input":[{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="},{"type":"input_text","text":"Hi"}]}]}"#),
    Probe::within("input[].content[]: input_audio", "/input/0/content/1", r#"{"type":"input_audio","input_audio":{"format":"wav","data":"UklGRg=="}}"#, PARTS),
    Probe::within("input[].content[]: output_text", "/input/1/content/1", r#"{"type":"output_text","text":"Now."}"#, TURN),
    Probe::within("input[].content[].annotations", "/input/1/content/0/annotations", r#"[{"type":"url_citation","url":"https://h/","title":"t","start_index":0,"end_index":1}]"#, TURN),
    Probe::within("input[].content[].logprobs", "/input/1/content/0/logprobs", r#"[{"token":"Yes","logprob":-0.1,"bytes":[89],"top_logprobs":[]}]"#, TURN).anyway("is no part of what was said"),
    Probe::within("input[].content[]: refusal", "/input/1/content/1", r#"{"type":"refusal","refusal":"No."}"#, TURN),
    Probe::within("input[].content[].prompt_cache_breakpoint", "/input/0/content/0/prompt_cache_breakpoint", r#"{"mode":"explicit"}"#, PARTS),
    Probe::within("input[]: function_call", "/input/2", r#"{"type":"function_call","call_id":"call_2","name":"f","arguments":"{\"a\":2}"}"#, CALL),
    Probe::within("input[].namespace", "/input/1/namespace", r#""n""#, CALL),
    Probe::within("input[]: function_call_output", "/input/2/output", r#""other""#, CALL),
    Probe::within("input[]: function_call_output with an image", "/input/2/output", r#"[{"type":"input_text","text":"ok"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]"#, CALL),
    Probe::within("input[]: reasoning, summary", "/input/1", r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}]}"#, r#"{"input":[{"role":"user","content":"Hi"},{"role":"user","content":"So?"},{"role":"user","content":"Now."}]}"#),
    Probe::within("input[]: reasoning, encrypted_content", "/input/1", r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"c2VhbA=="}"#, r#"{"input":[{"role":"user","content":"Hi"},{"role":"user","content":"So?"},{"role":"user","content":"Now."}]}"#),
    Probe::within("input[]: custom_tool_call", "/input/3", r#"{"type":"custom_tool_call","call_id":"c","name":"f","input":"x"}"#, TURN),
    Probe::within("input[]: web_search_call", "/input/3", r#"{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}}"#, TURN),
    Probe::within("input[]: compaction", "/input/3", r#"{"type":"compaction","encrypted_content":"x"}"#, TURN),
    Probe::within("input[]: item_reference", "/input/3", r#"{"type":"item_reference","id":"msg_1"}"#, TURN),
    // Tools.
    Probe::within("tools[]: function", "/tools/1", r#"{"type":"function","name":"g","description":"Does.","parameters":{"type":"object","properties":{}}}"#, TOOL),
    Probe::within("tools[].description", "/tools/0/description", r#""Does more.""#, TOOL),
    Probe::within("tools[].parameters", "/tools/0/parameters", r#"{"type":"object","properties":{"b":{"type":"string"}}}"#, TOOL),
    Probe::within("tools[].strict: true", "/tools/0/strict", "true", TOOL),
    Probe::within("tools[].strict: by default, of a schema that can be kept", "/tools/1", r#"{"type":"function","name":"g","parameters":{"type":"object","properties":{},"additionalProperties":false}}"#, TOOL),
    Probe::within("tools[].strict: false", "/tools/0/strict", "false", TOOL).anyway(DEFAULT),
    Probe::within("tools[].defer_loading", "/tools/0/defer_loading", "true", TOOL),
    Probe::within("tools[].output_schema", "/tools/0/output_schema", r#"{"type":"object"}"#, TOOL),
    Probe::within("tools[]: custom", "/tools/1", r#"{"type":"custom","name":"g"}"#, TOOL),
    Probe::within("tools[]: web_search", "/tools/1", r#"{"type":"web_search"}"#, TOOL),
    Probe::within("tool_choice: auto", "/tool_choice", r#""auto""#, TOOL).anyway(DEFAULT),
    Probe::within("tool_choice: none", "/tool_choice", r#""none""#, TOOL),
    Probe::within("tool_choice: required", "/tool_choice", r#""required""#, TOOL),
    Probe::within("tool_choice: a function", "/tool_choice", r#"{"type":"function","name":"f"}"#, TOOL),
    Probe::within("tool_choice: allowed_tools", "/tool_choice", r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#, TOOL),
    Probe::within("parallel_tool_calls: false", "/parallel_tool_calls", "false", TOOL),
    Probe::within("parallel_tool_calls: true", "/parallel_tool_calls", "true", TOOL).anyway(DEFAULT),
    Probe::top("max_tool_calls", "/max_tool_calls", "3"),
    // The shape of the reply.
    Probe::top("text.format: json_object", "/text", r#"{"format":{"type":"json_object"}}"#),
    Probe::top("text.format: json_schema", "/text", r#"{"format":{"type":"json_schema","name":"w","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}"#),
    Probe::within("text.format.name", "/text/format/name", r#""w""#, FORMAT).anyway(LABEL),
    Probe::within("text.format.description", "/text/format/description", r#""What.""#, FORMAT),
    Probe::within("text.format.strict: false", "/text/format/strict", "false", FORMAT).anyway(KEPT),
    Probe::top("text.verbosity", "/text/verbosity", r#""low""#),
    // How it is made.
    Probe::top("max_output_tokens", "/max_output_tokens", "500"),
    Probe::top("temperature", "/temperature", "0.5"),
    Probe::top("top_p", "/top_p", "0.5"),
    Probe::top("include: message.output_text.logprobs", "/include", r#"["message.output_text.logprobs"]"#),
    Probe::top("include: reasoning.encrypted_content", "/include", r#"["reasoning.encrypted_content"]"#).anyway("what seals reasoning is always told"),
    Probe::top("include: another", "/include", r#"["file_search_call.results"]"#),
    Probe::within("top_logprobs", "/top_logprobs", "2", r#"{"include":["message.output_text.logprobs"]}"#),
    Probe::top("reasoning.effort", "/reasoning", r#"{"effort":"high"}"#),
    Probe::top("reasoning.effort: none", "/reasoning", r#"{"effort":"none"}"#),
    Probe::within("reasoning.summary", "/reasoning/summary", r#""detailed""#, r#"{"reasoning":{"effort":"high"}}"#),
    Probe::within("reasoning.mode", "/reasoning/mode", r#""x""#, r#"{"reasoning":{"effort":"high"}}"#),
    Probe::top("service_tier: default", "/service_tier", r#""default""#).anyway(DEFAULT),
    Probe::top("service_tier: flex", "/service_tier", r#""flex""#),
    Probe::top("service_tier: priority", "/service_tier", r#""priority""#),
    Probe::top("truncation: auto", "/truncation", r#""auto""#),
    Probe::top("truncation: disabled", "/truncation", r#""disabled""#).anyway("is what every upstream does"),
    // Around it.
    Probe::top("stream", "/stream", "true"),
    Probe::within("stream_options.include_obfuscation: true", "/stream_options/include_obfuscation", "true", r#"{"stream":true}"#),
    Probe::within("stream_options.include_obfuscation: false", "/stream_options/include_obfuscation", "false", r#"{"stream":true}"#).anyway("a translated stream is never padded"),
    Probe::top("store: true", "/store", "true"),
    Probe::top("store: false", "/store", "false").anyway("nothing is stored"),
    Probe::top("background: true", "/background", "true"),
    Probe::top("previous_response_id", "/previous_response_id", r#""resp_1""#),
    Probe::top("conversation", "/conversation", r#""conv_1""#),
    Probe::top("prompt", "/prompt", r#"{"id":"pmpt_1"}"#),
    Probe::top("metadata", "/metadata", r#"{"k":"v"}"#),
    Probe::top("user", "/user", r#""u1""#),
    Probe::top("safety_identifier", "/safety_identifier", r#""u1""#),
    Probe::top("prompt_cache_key", "/prompt_cache_key", r#""k""#),
    Probe::top("prompt_cache_options", "/prompt_cache_options", r#"{"mode":"implicit"}"#),
    Probe::top("prompt_cache_retention", "/prompt_cache_retention", r#""24h""#),
    Probe::top("context_management", "/context_management", r#"[{"type":"compaction"}]"#),
    Probe::top("moderation", "/moderation", r#"{"model":"omni-moderation-latest"}"#),
    Probe::top("image", "/image", r#"{"x":1}"#),
    Probe::top("background_options", "/background_options", r#"{"x":1}"#),
    Probe::top("access_programs", "/access_programs", r#"["x"]"#),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
