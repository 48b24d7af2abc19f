//! Anthropic Messages.

use super::{DEFAULT, Probe};

/// One tool.
const TOOL: &str = r#"{"tools":[{"name":"f","description":"Does.","input_schema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}"#;
/// A user's message in blocks.
const BLOCKS: &str = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#;
/// A turn of the model's, and the user's next.
const TURN: &str = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"text","text":"Yes"}]},{"role":"user","content":"So?"}]}"#;
/// A call and its result.
const CALL: &str = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"text","text":"Yes"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"ok"}]}],"tools":[{"name":"f","description":"Does.","input_schema":{"type":"object","properties":{}}}]}"#;
/// A document.
const DOCUMENT: &str = r#"{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}},{"type":"text","text":"Hi"}]}]}"#;

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::top("system", "/system", r#""Be brief.""#),
    Probe::top("system[]: several blocks", "/system", r#"[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind."}]"#),
    Probe::within("system[].cache_control", "/system/0/cache_control", r#"{"type":"ephemeral"}"#, r#"{"system":[{"type":"text","text":"Be brief."}]}"#),
    Probe::within("system[]: billing header of Claude Code", "/system/1", r#"{"type":"text","text":"x-anthropic-billing-header: cc_version=1"}"#, r#"{"system":[{"type":"text","text":"Be brief."}]}"#).anyway("says nothing to a model, and is left out on purpose"),
    Probe::within("messages[]: role `assistant`", "/messages/1", r#"{"role":"assistant","content":"Yes"}"#, r#"{"messages":[{"role":"user","content":"Hi"}]}"#),
    Probe::within("messages[]: role `system`", "/messages/3", r#"{"role":"system","content":"Be brief."}"#, TURN),
    Probe::within("messages[].content[]: text", "/messages/0/content/1", r#"{"type":"text","text":"Now."}"#, BLOCKS),
    Probe::within("messages[].content[].citations", "/messages/1/content/0/citations", r#"[{"type":"char_location","cited_text":"x","document_index":0,"document_title":"t","start_char_index":0,"end_char_index":1}]"#, TURN),
    Probe::within("messages[].content[]: image, base64", "/messages/0/content/1", r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}"#, BLOCKS),
    Probe::within("messages[].content[]: image, url", "/messages/0/content/1", r#"{"type":"image","source":{"type":"url","url":"https://h/x.png"}}"#, BLOCKS),
    Probe::within("messages[].content[]: image, file", "/messages/0/content/1", r#"{"type":"image","source":{"type":"file","file_id":"file_1"}}"#, BLOCKS),
    Probe::within("messages[].content[].transformations", "/messages/0/content/0/transformations", r#"{"resize":"auto"}"#, r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},{"type":"text","text":"Hi"}]}]}"#),
    Probe::within("messages[].content[]: document, PDF", "/messages/0/content/1", r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}}"#, BLOCKS),
    Probe::within("messages[].content[]: document, url", "/messages/0/content/1", r#"{"type":"document","source":{"type":"url","url":"https://h/a.pdf"}}"#, BLOCKS),
    Probe::within("messages[].content[]: document, text", "/messages/0/content/1", r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"Once."}}"#, BLOCKS),
    Probe::within("messages[].content[]: document, content", "/messages/0/content/1", r#"{"type":"document","source":{"type":"content","content":[{"type":"text","text":"Once."}]}}"#, BLOCKS),
    Probe::within("messages[].content[].title", "/messages/0/content/0/title", r#""a""#, DOCUMENT),
    Probe::within("messages[].content[].context", "/messages/0/content/0/context", r#""b""#, DOCUMENT),
    Probe::within("messages[].content[].citations.enabled", "/messages/0/content/0/citations", r#"{"enabled":true}"#, DOCUMENT),
    Probe::within("messages[].content[]: search_result", "/messages/0/content/1", r#"{"type":"search_result","source":"https://h/","title":"t","content":[{"type":"text","text":"Once."}]}"#, BLOCKS),
    Probe::within("messages[].content[]: thinking, sealed", "/messages/1/content/0", r#"{"type":"thinking","thinking":"Hm.","signature":"c2VhbA=="}"#, TURN),
    Probe::within("messages[].content[]: redacted_thinking", "/messages/1/content/1", r#"{"type":"redacted_thinking","data":"c2VhbA=="}"#, TURN),
    Probe::within("messages[].content[]: tool_use", "/messages/1/content/2", r#"{"type":"tool_use","id":"toolu_2","name":"f","input":{"a":2}}"#, CALL),
    Probe::within("messages[].content[].caller", "/messages/1/content/1/caller", r#"{"type":"direct"}"#, CALL),
    Probe::within("messages[].content[]: tool_result", "/messages/2/content/0/content", r#""other""#, CALL),
    Probe::within("messages[].content[].is_error", "/messages/2/content/0/is_error", "true", CALL),
    Probe::within("messages[].content[]: tool_result with an image", "/messages/2/content/0/content", r#"[{"type":"text","text":"ok"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]"#, CALL),
    Probe::within("messages[].content[]: tool_result with a tool_reference", "/messages/2/content/0/content", r#"[{"type":"text","text":"ok"},{"type":"tool_reference","tool_name":"f"}]"#, CALL),
    Probe::within("messages[].content[]: server_tool_use", "/messages/1/content/1", r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}}"#, TURN),
    Probe::within("messages[].content[]: container_upload", "/messages/0/content/1", r#"{"type":"container_upload","file_id":"file_1"}"#, BLOCKS),
    Probe::within("messages[].content[].cache_control", "/messages/0/content/0/cache_control", r#"{"type":"ephemeral"}"#, BLOCKS),
    Probe::within("messages[].content[].cache_control, with ttl", "/messages/0/content/0/cache_control", r#"{"type":"ephemeral","ttl":"1h"}"#, BLOCKS),
    Probe::top("cache_control", "/cache_control", r#"{"type":"ephemeral"}"#),
    // Tools.
    Probe::within("tools[]", "/tools/1", r#"{"name":"g","description":"Does.","input_schema":{"type":"object","properties":{}}}"#, TOOL),
    Probe::within("tools[].description", "/tools/0/description", r#""Does more.""#, TOOL),
    Probe::within("tools[].input_schema", "/tools/0/input_schema", r#"{"type":"object","properties":{"b":{"type":"string"}}}"#, TOOL),
    Probe::within("tools[].strict", "/tools/0/strict", "true", TOOL),
    Probe::within("tools[].cache_control", "/tools/0/cache_control", r#"{"type":"ephemeral"}"#, TOOL),
    Probe::within("tools[].input_examples", "/tools/0/input_examples", r#"[{"a":1}]"#, TOOL),
    Probe::within("tools[].defer_loading", "/tools/0/defer_loading", "true", TOOL),
    Probe::within("tools[].allowed_callers", "/tools/0/allowed_callers", r#"["direct"]"#, TOOL),
    Probe::within("tools[].eager_input_streaming", "/tools/0/eager_input_streaming", "true", TOOL),
    Probe::within("tools[]: of the provider's", "/tools/1", r#"{"type":"web_search_20250305","name":"web_search"}"#, TOOL),
    Probe::within("tool_choice: auto", "/tool_choice", r#"{"type":"auto"}"#, TOOL).anyway(DEFAULT),
    Probe::within("tool_choice: none", "/tool_choice", r#"{"type":"none"}"#, TOOL),
    Probe::within("tool_choice: any", "/tool_choice", r#"{"type":"any"}"#, TOOL),
    Probe::within("tool_choice: tool", "/tool_choice", r#"{"type":"tool","name":"f"}"#, TOOL),
    Probe::within("tool_choice.disable_parallel_tool_use", "/tool_choice", r#"{"type":"auto","disable_parallel_tool_use":true}"#, TOOL),
    // The shape of the reply.
    Probe::top("output_config.format: json_schema", "/output_config/format", r#"{"type":"json_schema","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}"#),
    Probe::top("output_config.effort", "/output_config/effort", r#""high""#),
    // How it is made.
    Probe::top("max_tokens", "/max_tokens", "500"),
    Probe::top("temperature", "/temperature", "0.5"),
    Probe::top("top_p", "/top_p", "0.5"),
    Probe::top("top_k", "/top_k", "5"),
    Probe::top("stop_sequences", "/stop_sequences", r#"["END"]"#),
    Probe::top("thinking: adaptive", "/thinking", r#"{"type":"adaptive"}"#),
    Probe::top("thinking: enabled", "/thinking", r#"{"type":"enabled","budget_tokens":2048}"#),
    Probe::top("thinking: disabled", "/thinking", r#"{"type":"disabled"}"#),
    Probe::top("thinking: between_tools", "/thinking", r#"{"type":"between_tools"}"#),
    Probe::within("thinking.display", "/thinking/display", r#""omitted""#, r#"{"thinking":{"type":"enabled","budget_tokens":2048}}"#),
    Probe::top("service_tier: auto", "/service_tier", r#""auto""#).anyway(DEFAULT),
    Probe::top("service_tier: standard_only", "/service_tier", r#""standard_only""#),
    Probe::top("speed", "/speed", r#""fast""#),
    // Around it.
    Probe::top("stream", "/stream", "true"),
    Probe::top("metadata.user_id", "/metadata", r#"{"user_id":"u1"}"#),
    Probe::top("container", "/container", r#""container_1""#),
    Probe::top("inference_geo", "/inference_geo", r#""us""#),
    Probe::top("mcp_servers", "/mcp_servers", r#"[{"type":"url","url":"https://h/","name":"x"}]"#),
    Probe::top("context_management", "/context_management", r#"{"edits":[{"type":"clear_tool_uses_20250919"}]}"#),
    Probe::top("diagnostics", "/diagnostics", r#"{"x":true}"#),
    Probe::top("user_profile_id", "/user_profile_id", r#""up_1""#),
    Probe::top("workspace_id", "/workspace_id", r#""w_1""#),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
