//! Requests: what each client's request becomes in each upstream's dialect, and what is said of losses.

use super::*;
use crate::dialect::ir::target::{Instructions, MidInstructions, Sampling, ToolIds};

/// A request of a client, and what it becomes with the default facts, with the losses that are noted.
struct Case {
    name: &'static str,
    client: Client,
    body: &'static str,
    chat: (&'static str, &'static [&'static str]),
    messages: (&'static str, &'static [&'static str]),
}

impl Case {
    /// What an upstream is sent, and the losses that are noted, where they are written down.
    fn sent_to(&self, upstream: Upstream) -> Option<(&'static str, &'static [&'static str])> {
        match upstream {
            Upstream::Chat => Some(self.chat),
            Upstream::Messages => Some(self.messages),
            Upstream::Responses
            | Upstream::Gemini
            | Upstream::Converse
            | Upstream::Cohere
            | Upstream::Ollama => None,
        }
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case {
        name: "text",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"Hi"}],"temperature":0.7,"top_p":0.9,"max_tokens":5,"stop":"END","user":"u1","stream":false}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Hi"}],"temperature":0.7,"top_p":0.9,"stop":["END"],"max_completion_tokens":5,"user":"u1"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":5,"messages":[{"role":"user","content":"Hi"}],"temperature":0.7,"top_p":0.9,"stop_sequences":["END"],"metadata":{"user_id":"u1"}}"#, &[]),
    },
    Case {
        name: "multi-turn",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"a"},{"role":"user","content":"b"}],"stream":true,"stream_options":{"include_usage":true}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"a"},{"role":"user","content":"b"}],"stream":true,"stream_options":{"include_usage":true}}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"stream":true}"#, &[]),
    },
    Case {
        name: "system",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"system","content":"Be brief."},{"role":"developer","content":[{"type":"text","text":"And kind."}]},{"role":"user","content":"Hi"},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"system","content":"Be brief."},{"role":"developer","content":"And kind."},{"role":"user","content":"Hi"},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"system":[{"type":"text","text":"Be brief."},{"type":"text","text":"And kind."}],"messages":[{"role":"user","content":"Hi"},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}]}"#, &[]),
    },
    Case {
        name: "tools",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":"auto","parallel_tool_calls":false}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":"auto","parallel_tool_calls":false}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"messages":[{"role":"user","content":"Weather?"}]}"#, &[]),
    },
    Case {
        name: "tool results",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}},{"id":"call_2","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"sun"},{"role":"tool","tool_call_id":"call_2","content":[{"type":"text","text":"rain"}]},{"role":"user","content":"So?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}},{"id":"call_2","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"sun"},{"role":"tool","tool_call_id":"call_2","content":"rain"},{"role":"user","content":"So?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":[{"type":"tool_use","id":"call_1","name":"weather","input":{"city":"Bern"}},{"type":"tool_use","id":"call_2","name":"weather","input":{"city":"Rome"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"sun"},{"type":"tool_result","tool_use_id":"call_2","content":"rain"},{"type":"text","text":"So?"}]}]}"#, &[]),
    },
    Case {
        name: "empty and broken arguments",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":[{"id":"a b","type":"function","function":{"name":"f","arguments":""}},{"id":"x","type":"function","function":{"name":"g","arguments":"{\"a\":"}}]},{"role":"tool","tool_call_id":"a b","content":"1"},{"role":"tool","tool_call_id":"x","content":""}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":[{"id":"a b","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"x","type":"function","function":{"name":"g","arguments":"{\"a\":"}}]},{"role":"tool","tool_call_id":"a b","content":"1"},{"role":"tool","tool_call_id":"x","content":""}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"tool_use","id":"call_ier79s0w6cjyo9tq","name":"f","input":{}},{"type":"tool_use","id":"x","name":"g","input":{"input":"{\"a\":"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_ier79s0w6cjyo9tq","content":"1"},{"type":"tool_result","tool_use_id":"x"}]}]}"#, &["mapped messages: arguments"]),
    },
    Case {
        name: "forced tool",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"weather"}},"reasoning_effort":"high"}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"weather"}},"reasoning_effort":"high"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"tool_choice":{"type":"tool","name":"weather"},"messages":[{"role":"user","content":"?"}]}"#, &["dropped reasoning_effort"]),
    },
    Case {
        name: "required tool",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"now"}}],"tool_choice":"required"}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"now"}}],"tool_choice":"required"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"tools":[{"name":"now","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"any"},"messages":[{"role":"user","content":"?"}]}"#, &[]),
    },
    Case {
        name: "image",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"high"}},{"type":"image_url","image_url":{"url":"https://h/x.jpg"}}]}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"high"}},{"type":"image_url","image_url":{"url":"https://h/x.jpg"}}]}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},{"type":"image","source":{"type":"url","url":"https://h/x.jpg"}}]}]}"#, &["mapped messages: detail"]),
    },
    Case {
        name: "document",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"text","text":"Read."}]}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"text","text":"Read."}]}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="},"title":"a.pdf"},{"type":"text","text":"Read."}]}]}"#, &[]),
    },
    Case {
        name: "structured output",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"w","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"w","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}}"#, &[]),
    },
    Case {
        name: "json mode",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_object"}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_object"}}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"system":"Answer with one JSON object and nothing else.","messages":[{"role":"user","content":"?"}]}"#, &["mapped response_format"]),
    },
    Case {
        name: "reasoning",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"4","reasoning_content":"2+2","reasoning_details":[{"type":"reasoning.text","text":"2+2","signature":"sig","format":"anthropic-claude-v1","index":0},{"type":"reasoning.encrypted","data":"xx","format":"anthropic-claude-v1","index":1}]},{"role":"user","content":"ok"}],"reasoning_effort":"medium","temperature":0.5}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"4"},{"role":"user","content":"ok"}],"temperature":0.5,"reasoning_effort":"medium"}"#, &["dropped messages: reasoning"]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"thinking","thinking":"2+2","signature":"sig"},{"type":"redacted_thinking","data":"xx"},{"type":"text","text":"4"}]},{"role":"user","content":"ok"}],"thinking":{"type":"adaptive"},"output_config":{"effort":"medium"}}"#, &["dropped temperature"]),
    },
    Case {
        name: "no reasoning",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"reasoning_effort":"none"}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"reasoning_effort":"none"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"}],"thinking":{"type":"disabled"}}"#, &[]),
    },
    Case {
        name: "refusal in history",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":null,"refusal":"No."},{"role":"user","content":"Please"}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"},{"role":"assistant","content":null,"refusal":"No."},{"role":"user","content":"Please"}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"text","text":"No."}]},{"role":"user","content":"Please"}]}"#, &[]),
    },
    Case {
        name: "sampling",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"temperature":1.5,"seed":3,"frequency_penalty":0.1,"presence_penalty":0,"logit_bias":{"5":1},"logprobs":true,"top_logprobs":2,"n":2,"stop":["a"," "],"service_tier":"default","metadata":{"k":"v"},"verbosity":"low"}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"temperature":1.5,"frequency_penalty":0.1,"presence_penalty":0,"seed":3,"logit_bias":{"5":1},"logprobs":true,"top_logprobs":2,"stop":["a"," "],"metadata":{"k":"v"},"service_tier":"default","verbosity":"low"}"#, &["dropped n"]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"?"}],"temperature":1,"stop_sequences":["a"],"service_tier":"standard_only"}"#, &["mapped temperature", "dropped n", "dropped frequency_penalty", "dropped seed", "dropped logit_bias", "dropped logprobs", "dropped top_logprobs", "dropped stop", "dropped metadata", "dropped verbosity"]),
    },
    Case {
        name: "cache",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"system","content":[{"type":"text","text":"Long.","prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]},{"role":"user","content":"?"}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"system","content":[{"type":"text","text":"Long.","prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]},{"role":"user","content":"?"}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"system":[{"type":"text","text":"Long.","cache_control":{"type":"ephemeral","ttl":"1h"}}],"messages":[{"role":"user","content":"?"}]}"#, &[]),
    },
    Case {
        name: "unicode",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"é 😀 \u2028 \" \\ \n \u0000"}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"é 😀 \u2028 \" \\ \n \u0000"}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"messages":[{"role":"user","content":"é 😀 \u2028 \" \\ \n \u0000"}]}"#, &[]),
    },
    Case {
        name: "custom tool",
        client: Client::Chat,
        body: r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"custom","custom":{"name":"c"}},{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"tools":[{"type":"custom","custom":{"name":"c"}},{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}]}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":16384,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"messages":[{"role":"user","content":"?"}]}"#, &["dropped tools: 'custom'"]),
    },
    Case {
        name: "text",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"Hi"}],"system":"Be brief.","temperature":0.7,"stop_sequences":["END"],"metadata":{"user_id":"u1"},"stream":true}"#,
        chat: (r#"{"model":"u","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"temperature":0.7,"stop":["END"],"max_completion_tokens":99,"user":"u1","stream":true,"stream_options":{"include_usage":true}}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":99,"system":"Be brief.","messages":[{"role":"user","content":"Hi"}],"temperature":0.7,"stop_sequences":["END"],"metadata":{"user_id":"u1"},"stream":true}"#, &[]),
    },
    Case {
        name: "system blocks",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"text","text":"there","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}],"system":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"system","content":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind.","prompt_cache_breakpoint":{"mode":"explicit"}}]},{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"text","text":"there","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}],"max_completion_tokens":99}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":99,"system":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"text","text":"there","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"system","content":"Now in French."},{"role":"assistant","content":"Salut"}]}"#, &[]),
    },
    Case {
        name: "tools",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"Weather?"}],"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true},{"type":"web_search_20250305","name":"web_search"}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":"required","parallel_tool_calls":false,"max_completion_tokens":99}"#, &["dropped tools: 'web_search_20250305'"]),
        messages: (r#"{"model":"u","max_tokens":99,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true},{"type":"web_search_20250305","name":"web_search"}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"messages":[{"role":"user","content":"Weather?"}]}"#, &[]),
    },
    Case {
        name: "tool results",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":[{"type":"thinking","thinking":"Two.","signature":"sig"},{"type":"text","text":"Let me look."},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Bern"}},{"type":"tool_use","id":"toolu_2","name":"weather","input":{"city":"Rome"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"sun"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},{"type":"tool_result","tool_use_id":"toolu_2","is_error":true,"content":"no such city"},{"type":"text","text":"So?"}]}],"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"tool_choice":{"type":"tool","name":"weather"}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me look.","tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}},{"id":"toolu_2","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},{"role":"tool","tool_call_id":"toolu_1","content":"sun"},{"role":"tool","tool_call_id":"toolu_2","content":"Error: no such city"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}},{"type":"text","text":"So?"}]}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"weather"}},"max_completion_tokens":99}"#, &["dropped messages: reasoning", "mapped messages"]),
        messages: (r#"{"model":"u","max_tokens":99,"tools":[{"name":"weather","description":"Tells the weather.","input_schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}],"tool_choice":{"type":"tool","name":"weather"},"messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":[{"type":"thinking","thinking":"Two.","signature":"sig"},{"type":"text","text":"Let me look."},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Bern"}},{"type":"tool_use","id":"toolu_2","name":"weather","input":{"city":"Rome"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"sun"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},{"type":"tool_result","tool_use_id":"toolu_2","content":"no such city","is_error":true},{"type":"text","text":"So?"}]}]}"#, &[]),
    },
    Case {
        name: "image",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://h/x.jpg"}},{"type":"text","text":"What is it?"}]}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://h/x.jpg"}},{"type":"text","text":"What is it?"}]}],"max_completion_tokens":99}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":99,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://h/x.jpg"}},{"type":"text","text":"What is it?"}]}]}"#, &[]),
    },
    Case {
        name: "document",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":[{"type":"document","title":"a.pdf","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"Plain."}},{"type":"text","text":"Read."}]}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"text","text":"Plain."},{"type":"text","text":"Read."}]}],"max_completion_tokens":99}"#, &["mapped messages: document"]),
        messages: (r#"{"model":"u","max_tokens":99,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="},"title":"a.pdf"},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"Plain."}},{"type":"text","text":"Read."}]}]}"#, &[]),
    },
    Case {
        name: "structured output",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"?"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}},"effort":"low"}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}},"max_completion_tokens":99,"reasoning_effort":"low"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":99,"messages":[{"role":"user","content":"?"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}},"effort":"low"}}"#, &[]),
    },
    Case {
        name: "reasoning",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":9000,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"forebay:chat:"},{"type":"redacted_thinking","data":"xx"},{"type":"text","text":"4"}]},{"role":"user","content":"ok"}],"thinking":{"type":"enabled","budget_tokens":5000}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"4"},{"role":"user","content":"ok"}],"max_completion_tokens":9000,"reasoning_effort":"medium"}"#, &["dropped messages: reasoning", "mapped thinking.budget_tokens"]),
        messages: (r#"{"model":"u","max_tokens":9000,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"redacted_thinking","data":"xx"},{"type":"text","text":"4"}]},{"role":"user","content":"ok"}],"thinking":{"type":"adaptive"},"output_config":{"effort":"medium"}}"#, &["dropped messages: reasoning", "mapped thinking.budget_tokens"]),
    },
    Case {
        name: "no reasoning",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"?"}],"thinking":{"type":"disabled"}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"}],"max_completion_tokens":99,"reasoning_effort":"none"}"#, &[]),
        messages: (r#"{"model":"u","max_tokens":99,"messages":[{"role":"user","content":"?"}],"thinking":{"type":"disabled"}}"#, &[]),
    },
    Case {
        name: "billing header",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"Hi"}],"system":[{"type":"text","text":"x-anthropic-billing-header: a=1"},{"type":"text","text":"One."},{"type":"text","text":"Two."}],"tools":[{"type":"bash_20250124","name":"bash"}]}"#,
        chat: (r#"{"model":"u","messages":[{"role":"system","content":"One.\n\nTwo."},{"role":"user","content":"Hi"}],"max_completion_tokens":99}"#, &["dropped tools: 'bash_20250124'"]),
        messages: (r#"{"model":"u","max_tokens":99,"tools":[{"type":"bash_20250124","name":"bash"}],"system":[{"type":"text","text":"One."},{"type":"text","text":"Two."}],"messages":[{"role":"user","content":"Hi"}]}"#, &[]),
    },
    Case {
        name: "foreign",
        client: Client::Messages,
        body: r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"text","text":"x"}]}],"container":"c1","service_tier":"standard_only","top_k":5,"metadata":{"user_id":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"cache_control":{"type":"ephemeral"}}"#,
        chat: (r#"{"model":"u","messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"text","text":"x"}]}],"max_completion_tokens":99,"user":"33e467bda6b73681","service_tier":"default"}"#, &["dropped messages: part of type 'server_tool_use'", "dropped top_k", "mapped metadata.user_id", "mapped cache_control", "dropped container"]),
        messages: (r#"{"model":"u","max_tokens":99,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"text","text":"x"}]}],"cache_control":{"type":"ephemeral"},"top_k":5,"metadata":{"user_id":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"service_tier":"standard_only","container":"c1"}"#, &[]),
    },
];

fn sent(client: Client, upstream: Upstream, body: &str, facts: &Facts) -> (Value, Vec<String>) {
    let mut notes = Notes::new(Policy::Lenient);
    let request = client.request(body.as_bytes()).unwrap();
    let target = Target { model: "u", facts };
    let bytes = upstream.request(&request, &target, &mut notes).unwrap();
    let named = notes.list().iter().map(|note| format!("{} {}", note.loss.name(), note.path)).collect();
    (serde_json::from_slice(&bytes).unwrap(), named)
}

#[test]
fn every_request_becomes_what_its_upstream_takes() {
    for Case { name, client, body, chat, messages } in CASES {
        for (upstream, (expected, notes)) in [(Upstream::Chat, chat), (Upstream::Messages, messages)] {
            let (body, named) = sent(*client, upstream, body, &facts());
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(body, expected, "{name}: {client:?} to {upstream:?}");
            assert_eq!(named, *notes, "{name}: {client:?} to {upstream:?}");
        }
    }
}

#[test]
fn strict_routes_refuse_what_lenient_ones_drop() {
    for Case { name, client, body, chat, messages } in CASES {
        for (upstream, (_, notes)) in [(Upstream::Chat, chat), (Upstream::Messages, messages)] {
            let request = client.request(body.as_bytes()).unwrap();
            let facts = facts();
            let mut strict = Notes::new(Policy::Strict);
            let result = upstream.request(&request, &Target { model: "u", facts: &facts }, &mut strict);
            let first = notes.iter().find_map(|note| note.strip_prefix("dropped "));
            match (first, result) {
                (None, Ok(_)) => {}
                (Some(path), Err(error)) => {
                    assert!(error.public.starts_with(path), "{name}: {}", error.public)
                }
                (first, result) => panic!("{name} to {upstream:?}: {first:?}, {result:?}"),
            }
        }
    }
}

#[test]
fn what_holds_nothing_to_answer_is_refused_where_nothing_would_be_asked() {
    let only_instructions = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."}]}"#;
    let request = Client::Chat.request(only_instructions.as_bytes()).unwrap();
    for upstream in Upstream::ALL {
        let facts = facts();
        let sent = upstream.request(&request, &Target { model: "u", facts: &facts }, &mut Notes::default());
        let needs = matches!(upstream, Upstream::Messages | Upstream::Gemini | Upstream::Converse);
        let expected = needs.then_some(
            "messages: hold nothing for the upstream's model to answer; add a message of the user",
        );
        assert_eq!(sent.err().map(|error| error.public.into_owned()).as_deref(), expected, "{upstream:?}");
    }
}

#[test]
fn what_is_sent_is_read_back_as_the_same() {
    for case @ Case { name, client, body, .. } in CASES {
        let own = upstream_of(*client);
        let (once, notes) = case.sent_to(own).unwrap();
        if notes.is_empty() {
            let (twice, _) = sent(*client, own, once, &facts());
            assert_eq!(twice, serde_json::from_str::<Value>(once).unwrap(), "{name}");
        }
        // A detour through the other dialect keeps what both can say.
        let other = if *client == Client::Chat { Client::Messages } else { Client::Chat };
        let (first, noted) = case.sent_to(upstream_of(other)).unwrap();
        if noted.is_empty() && notes.is_empty() {
            let body: Value = serde_json::from_str(body).unwrap();
            let (detour, _) = sent(other, own, first, &facts());
            for field in ["temperature", "top_p", "stop_sequences", "stream"] {
                let own = body.get(field).filter(|value| **value != Value::Bool(false));
                assert_eq!(detour.get(field), own, "{name}: {field}");
            }
        }
    }
}

/// The same conversation in the words of each client.
const SPOKEN: [(Client, &str); 4] = [
    (
        Client::Chat,
        r#"{"model":"c","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Weather?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]},{"role":"assistant","content":"I look.",
            "tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}}]},
            {"role":"tool","tool_call_id":"call_1","content":"sun"},{"role":"user","content":"So \u00e9?"}],"tools":[{"type":"function",
            "function":{"name":"weather","description":"Tells.","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}],
            "tool_choice":"required","temperature":0.5,"max_completion_tokens":77,"stop":["END"]}"#,
    ),
    (
        Client::Messages,
        r#"{"model":"c","system":"Be brief.","messages":[{"role":"user","content":[{"type":"text","text":"Weather?"},{"type":"image",
            "source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},{"role":"assistant","content":[{"type":"text",
            "text":"I look."},{"type":"tool_use","id":"call_1","name":"weather","input":{"city":"Bern"}}]},{"role":"user","content":[
            {"type":"tool_result","tool_use_id":"call_1","content":"sun"},{"type":"text","text":"So é?"}]}],"tools":[{"name":"weather",
            "description":"Tells.","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}],"tool_choice":{"type":"any"},
            "temperature":0.5,"max_tokens":77,"stop_sequences":["END"]}"#,
    ),
    (
        Client::Gemini,
        r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"Weather?"},{"inlineData":{
            "mimeType":"image/png","data":"iVBORw0KGgo="}}]},{"role":"model","parts":[{"text":"I look."},{"functionCall":{"id":"call_1",
            "name":"weather","args":{"city":"Bern"}}}]},{"role":"user","parts":[{"functionResponse":{"id":"call_1","name":"weather",
            "response":{"result":"sun"}}},{"text":"So é?"}]}],"tools":[{"functionDeclarations":[{"name":"weather","description":"Tells.",
            "parametersJsonSchema":{"type":"object","properties":{"city":{"type":"string"}}}}]}],"toolConfig":{"functionCallingConfig":{
            "mode":"ANY"}},"generationConfig":{"temperature":0.5,"maxOutputTokens":77,"stopSequences":["END"]}}"#,
    ),
    (
        Client::Converse,
        r#"{"system":[{"text":"Be brief."}],"messages":[{"role":"user","content":[{"text":"Weather?"},{"image":{"format":"png","source":{
            "bytes":"iVBORw0KGgo="}}}]},{"role":"assistant","content":[{"text":"I look."},{"toolUse":{"toolUseId":"call_1","name":"weather",
            "input":{"city":"Bern"}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"call_1","content":[{"text":"sun"}]}},
            {"text":"So é?"}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"weather","description":"Tells.","inputSchema":{"json":{
            "type":"object","properties":{"city":{"type":"string"}}}}}}],"toolChoice":{"any":{}}},"inferenceConfig":{"temperature":0.5,
            "maxTokens":77,"stopSequences":["END"]}}"#,
    ),
];

/// What every dialect can say of a request.
fn essence(request: &Request<'_>) -> Vec<String> {
    use crate::dialect::ir::{Content, Part, Source, Tool, turns};
    fn said(part: &Part<'_>) -> String {
        match &part.content {
            Content::Text(text) => format!("text {}", text.plain()),
            Content::Image { source: Source::Base64 { media_type, data }, .. } => {
                format!("image {media_type} {data}")
            }
            Content::ToolCall(call) => {
                let mut out = Vec::new();
                assert!(call.arguments.object_into(&mut out));
                let arguments: Value = serde_json::from_slice(&out).unwrap();
                format!("call {} {arguments}", call.name.plain())
            }
            Content::ToolResult(result) => {
                let content: Vec<String> = result.content.iter().map(said).collect();
                format!("result {:?} {content:?}", result.outcome)
            }
            other => panic!("{other:?}"),
        }
    }
    let mut told: Vec<String> = Vec::new();
    for turn in turns(&request.messages) {
        told.extend(turn.parts.iter().map(|part| format!("{:?} {}", turn.role, said(part))));
    }
    for tool in &request.tools {
        let Tool::Function(function) = tool else { panic!("{tool:?}") };
        let schema: Value =
            serde_json::from_str(function.parameters.as_ref().map_or("null", |json| json.get())).unwrap();
        told.push(format!("tool {} {schema}", function.name.plain()));
    }
    let sampling = &request.sampling;
    told.push(format!("{:?} {:?} {:?}", request.tool_choice, request.limit, sampling.temperature));
    told.extend(sampling.stops.iter().map(|stop| stop.plain().into_owned()));
    told
}

#[test]
fn every_pair_carries_a_conversation() {
    let facts = Facts { forced_tools: Taken::Yes, ..facts() };
    let (first, body) = SPOKEN[0];
    let expected = essence(&first.request(body.as_bytes()).unwrap());
    for (client, body) in SPOKEN {
        let request = client.request(body.as_bytes()).unwrap();
        assert_eq!(essence(&request), expected, "{client:?}");
        // Responses has no stop sequences; it has cases of its own.
        for (listener, _) in SPOKEN {
            let mut strict = Notes::new(Policy::Strict);
            let target = Target { model: "anthropic.claude", facts: &facts };
            let sent = upstream_of(listener).request(&request, &target, &mut strict).unwrap();
            assert_eq!(strict.list(), [], "{client:?} to {listener:?}");
            let heard = listener.request(&sent).unwrap();
            assert_eq!(essence(&heard), expected, "{client:?} to {listener:?}");
            assert!(heard.left.is_empty(), "{client:?} to {listener:?}: {:?}", heard.left);
        }
    }
}

#[test]
fn facts_shape_a_chat_request() {
    let body = r#"{"model":"c","max_tokens":99999,"system":"s","temperature":0.5,"top_k":3,"thinking":{"type":"enabled",
        "budget_tokens":4096},"stop_sequences":["a","b"],"messages":[{"role":"user","content":"?"},{"role":"assistant",
        "content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"toolu_1","name":"f",
        "input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"1",
        "cache_control":{"type":"ephemeral"}}]},{"role":"system","content":"t"},{"role":"user","content":[{"type":"text",
        "text":"x","cache_control":{"type":"ephemeral"}}]}]}"#;
    let facts = Facts {
        limit_name: LimitName::MaxTokens,
        most_output: Some(1000),
        sampling: Sampling::Refused,
        most_stops: Some(1),
        tool_ids: ToolIds::Exactly(9),
        instructions: Instructions::Developer,
        mid_instructions: MidInstructions::IntoUser,
        thinking: Knob::Budget,
        replay: Replay::ReasoningContent,
        cache_marks: Taken::No,
        ..facts()
    };
    let (sent, notes) = sent(Client::Messages, Upstream::Chat, body, &facts);
    let id = &sent["messages"][2]["tool_calls"][0]["id"];
    assert_eq!(id.as_str().unwrap().len(), 9);
    let expected = json!({"model": "u", "messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "?"},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [{"id": id, "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": id, "content": "1"}, {"role": "user", "content": "t"}, {"role": "user", "content": "x"}],
        "stop": ["a"], "max_tokens": 1000, "reasoning": {"max_tokens": 4096}});
    assert_eq!((sent, notes.contains(&"mapped max_tokens".to_owned())), (expected, true));
    for note in ["dropped temperature", "dropped top_k", "dropped stop_sequences", "mapped cache_control"] {
        assert!(notes.iter().any(|noted| noted == note), "{note} in {notes:?}");
    }
}

#[test]
fn facts_shape_a_messages_request() {
    let body = r#"{"model":"c","max_tokens":3000,"reasoning_effort":"high","messages":[{"role":"user","content":"?"},
        {"role":"system","content":"s"}],"response_format":{"type":"json_schema","json_schema":{"name":"n",
        "schema":{"properties":{}}}}}"#;
    let budget = Facts { thinking: Knob::Budget, mid_instructions: MidInstructions::Hoist, ..facts() };
    let (sent_budget, _) = sent(Client::Chat, Upstream::Messages, body, &budget);
    assert_eq!(sent_budget["thinking"], json!({"type": "enabled", "budget_tokens": 2250}));
    assert_eq!((&sent_budget["system"], sent_budget["messages"].as_array().unwrap().len()), (&json!("s"), 1));
    let tool = Facts { structured: Structured::Tool, ..facts() };
    let (sent_tool, notes) = sent(Client::Chat, Upstream::Messages, body, &tool);
    assert_eq!(sent_tool["tool_choice"], json!({"type": "tool", "name": "forebay_answer"}));
    assert_eq!(sent_tool["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    assert_eq!(notes, ["mapped response_format", "dropped reasoning_effort"]);
    let (sent_chat, _) = sent(Client::Chat, Upstream::Chat, body, &tool);
    assert_eq!(sent_chat["tools"][0]["function"]["name"], "forebay_answer");
    assert_eq!(sent_chat.get("response_format"), None);
}

/// A request with this message.
fn message(message: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":1,"messages":[{message}]}}"#)
}

/// A request with a message of these parts.
fn user(parts: &str) -> String {
    message(&format!(r#"{{"role":"user","content":[{parts}]}}"#))
}

/// A request with this member.
fn with(member: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"x"}}],{member}}}"#)
}

fn refused(client: Client, cases: &[(String, &str)]) {
    for (body, expected) in cases {
        let error = client.request(body.as_bytes()).unwrap_err();
        assert!(error.public.starts_with(expected), "{client:?} {body}: {}", error.public);
        assert_eq!(error.kind, crate::error::Kind::InvalidRequest);
    }
}

#[test]
fn bad_chat_is_refused_with_its_path() {
    let cases = [
        ("{".to_owned(), "invalid JSON at byte 1"),
        ("[]".to_owned(), "body: must be an object"),
        (r#"{"model":"m"}"#.to_owned(), "messages: is required"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), "messages: must hold"),
        (message(r#"{"role":"robot","content":"x"}"#), "messages[0].role: must be one of"),
        (message(r#"{"role":"user","content":3}"#), "messages[0].content: must be a string or an array"),
        (message(r#"{"role":"user"}"#), "messages[0].content: is required"),
        (
            message(r#"{"role":"tool","tool_call_id":"c","content":"x"}"#),
            "messages[0]: the tool result for 'c' has no tool call",
        ),
        (user(r#"{"type":"text"}"#), "messages[0].content[0].text: is required"),
        (
            user(r#"{"type":"image_url","image_url":{"url":"data:image/png,xyz"}}"#),
            "messages[0].content[0].image_url.url: must be an http URL",
        ),
        (
            user(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,%%"}}"#),
            "messages[0].content[0].image_url.url: must be",
        ),
        (user(r#"{"type":"file","file":{}}"#), "messages[0].content[0].file: needs"),
        (with(r#""temperature":"hot""#), "temperature: must be a number"),
        (with(r#""n":-1"#), "n: must be a whole number"),
        (with(r#""temperature":1,"temperature":2"#), "temperature: is given more than once"),
        (
            with(r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#),
            "tools[0].function.parameters: must be an object",
        ),
        (with(r#""tools":[{"function":{}}]"#), "tools[0].type: is required"),
        (with(r#""tool_choice":"maybe""#), "tool_choice: must be"),
        (
            with(r#""response_format":{"type":"json_schema","json_schema":{"name":"x","schema":"no"}}"#),
            "response_format.json_schema.schema: must be an object",
        ),
    ];
    refused(Client::Chat, &cases);
}

#[test]
fn bad_messages_are_refused_with_their_path() {
    let cases = [
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned(), "max_tokens: is required"),
        (message(r#"{"role":"tool","content":"x"}"#), "messages[0].role: must be 'user'"),
        (
            user(r#"{"type":"tool_result","tool_use_id":"t"}"#),
            "messages[0]: the tool result for 't' has no tool call",
        ),
        (
            user(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"<>"}}"#),
            "messages[0].content[0].source.data: must be base64",
        ),
        (
            message(
                r#"{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":"x"}]}"#,
            ),
            "messages[0].content[0].input: must be an object",
        ),
        (with(r#""tools":[{"name":"f"}]"#), "tools[0].input_schema: is required"),
        (with(r#""thinking":{"type":"hard"}"#), "thinking.type: must be"),
        (with(r#""tool_choice":{"type":"tool"}"#), "tool_choice.name: is required"),
    ];
    refused(Client::Messages, &cases);
}

#[test]
fn nothing_upsets_the_decoders() {
    let mut random = fastrand::Rng::with_seed(7);
    for Case { client, body, .. } in CASES {
        for _ in 0..200 {
            let mut bytes = body.as_bytes().to_vec();
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = random.u8(..),
                _ => drop(bytes.remove(at)),
            }
            if let Ok(request) = client.request(&bytes) {
                for upstream in Upstream::ALL {
                    let facts = facts();
                    let mut notes = Notes::new(Policy::Lenient);
                    if let Ok(sent) =
                        upstream.request(&request, &Target { model: "u", facts: &facts }, &mut notes)
                    {
                        let text = String::from_utf8_lossy(&bytes);
                        let read: Result<Value, _> = serde_json::from_slice(&sent);
                        assert!(
                            read.is_ok() || text.contains("\\u"),
                            "{text} became {}",
                            String::from_utf8_lossy(&sent)
                        );
                    }
                }
            }
        }
    }
}
