//! Requests: what a Responses client's becomes elsewhere, and what others' become in Responses.

use super::*;
use crate::dialect::ir::target::{
    Instructions, Knob, MidInstructions, Replay, Sampling, Structured, Taken, ToolIds,
};
use crate::error::Kind;

/// The cases of every dialect, in chat's words.
#[rustfmt::skip]
pub(in crate::dialect) const CHAT: &[Asked] = &[
    ("text, unicode", r#"{"model":"c","messages":[{"role":"user","content":"Hi \"there\" \u00e9😀"}],"temperature":1.5,"top_p":1,"max_tokens":5,"stop":["A"," "],"seed":7,"n":1,"user":"u1","service_tier":"flex","logprobs":true,"top_logprobs":2,"frequency_penalty":0.5,"presence_penalty":-1}"#),
    ("multi-turn", r#"{"model":"c","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"a"},{"role":"user","content":"b"}],"stream":true}"#),
    ("system", r#"{"model":"c","messages":[{"role":"system","content":"Be brief."},{"role":"developer","content":[{"type":"text","text":"And"},{"type":"text","text":"kind."}]},{"role":"user","content":"Hi"},{"role":"system","content":"Now in French."},{"role":"user","content":"Go"}]}"#),
    ("tools", r#"{"model":"c","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}},{"type":"function","function":{"name":"now"}},{"type":"custom","custom":{"name":"c"}}],"tool_choice":"auto","parallel_tool_calls":false}"#),
    ("parallel tools and their results", r#"{"model":"c","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me see.","reasoning_content":"Two.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}},{"id":"call_2","type":"function","function":{"name":"now","arguments":""}}]},{"role":"tool","tool_call_id":"call_2","content":"{\"at\":\"noon\"}"},{"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"sun"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]},{"role":"user","content":"So?"}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{}},"strict":true}}]}"#),
    ("broken arguments, empty result", r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":[{"id":"x","type":"function","function":{"name":"g","arguments":"{\"a\":"}}]},{"role":"tool","tool_call_id":"x","content":""}]}"#),
    ("forced tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"g","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"reasoning_effort":"high"}"#),
    ("required tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"required"}"#),
    ("no tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"none"}"#),
    ("image", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"text","text":"See"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"high"}},{"type":"image_url","image_url":{"url":"https://x.org/a.jpg"}}]}]}"#),
    ("audio", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]}"#),
    ("document", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"file","file":{"file_id":"file-1"}},{"type":"text","text":"Read."}]}]}"#),
    ("structured output", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"p","description":"A point.","schema":{"type":"object","properties":{"x":{"type":"number"}}},"strict":true}},"verbosity":"low"}"#),
    ("JSON", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_object"}}"#),
    ("reasoning", r#"{"model":"c","messages":[{"role":"user","content":"2+2?"},{"role":"assistant","reasoning_details":[{"type":"reasoning.text","text":"Adding.","signature":"rs_1:gAA=","format":"openai-responses-v1"},{"type":"reasoning.encrypted","data":"rs_2:gBB=","format":"openai-responses-v1"},{"type":"reasoning.text","text":"Not mine.","signature":"other","format":"anthropic-claude-v1"}],"content":"4"},{"role":"user","content":"And 3+3?"}],"reasoning_effort":"minimal"}"#),
    ("no reasoning", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"reasoning_effort":"none"}"#),
    ("refusal", r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":null,"refusal":"No."},{"role":"user","content":"Why?"}]}"#),
    ("cache marks", r#"{"model":"c","messages":[{"role":"system","content":[{"type":"text","text":"Long.","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]}"#),
    ("members of other dialects", r#"{"model":"c","messages":[{"role":"user","content":"Hi","name":"Bob"}],"metadata":{"team":"a"},"store":true,"logit_bias":{"1":2},"n":3,"top_k":3,"prompt_cache_key":"k","keep_alive":"5m","min_p":0.1,"num_ctx":4096,"documents":[{"id":"d","data":{"text":"t"}}],"citation_options":{"mode":"fast"}}"#),
];

#[rustfmt::skip]
const MESSAGES: &[Asked] = &[
    ("a conversation with thinking, tools and marks", r#"{"model":"c","max_tokens":3000,"system":[{"type":"text","text":"One."},{"type":"text","text":"Two.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"words"}},{"type":"document","source":{"type":"url","url":"https://x.org/a.pdf"}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"forebay:responses:rs_1:gAA="},{"type":"redacted_thinking","data":"forebay:responses:rs_2:gBB="},{"type":"text","text":"Let me"},{"type":"text","text":"see."},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"text","text":"And?"},{"type":"tool_result","tool_use_id":"toolu_1","is_error":true,"content":[{"type":"text","text":"no"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"thinking":{"type":"enabled","budget_tokens":2048},"stop_sequences":["END"],"metadata":{"user_id":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"service_tier":"standard_only","top_k":5,"stream":true}"#),
    ("structured output, adaptive thinking unseen", r#"{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"?"}],"thinking":{"type":"adaptive","display":"omitted"},"output_config":{"effort":"max","format":{"type":"json_schema","schema":{"type":"object"}}}}"#),
    ("foreign seals", r#"{"model":"c","max_tokens":99,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"text","text":"x"}]}],"thinking":{"type":"disabled"}}"#),
];

#[rustfmt::skip]
const RESPONSES: &[Asked] = &[
    ("text", r#"{"model":"c","input":"Hi \u00e9😀","instructions":"Be brief.","temperature":0.7,"top_p":0.9,"max_output_tokens":50,"user":"u1","store":false,"truncation":"disabled","stream":true,"stream_options":{"include_obfuscation":false}}"#),
    ("multi-turn, system", r#"{"model":"c","input":[{"role":"developer","content":"Be kind."},{"role":"user","content":[{"type":"input_text","text":"Hi"}]},{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]},{"role":"system","content":"In French."},{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#),
    ("tools", r#"{"model":"c","input":"?","tools":[{"type":"function","name":"weather","description":"Tells.","parameters":{"type":"object","properties":{}},"strict":true},{"type":"function","name":"now","parameters":null,"strict":null},{"type":"web_search"},{"type":"custom","name":"sql"}],"tool_choice":"auto","parallel_tool_calls":false}"#),
    ("parallel tools and their results", r#"{"model":"c","input":[{"role":"user","content":"?"},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"One."},{"type":"summary_text","text":"Two."}],"encrypted_content":"gAA="},{"type":"message","role":"assistant","content":"See."},{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\":1}","status":"completed"},{"type":"function_call","call_id":"call_2","name":"g","arguments":""},{"type":"function_call_output","call_id":"call_2","output":"two"},{"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"one"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]},{"role":"user","content":"So?"}],"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]}"#),
    ("forced tool", r#"{"model":"c","input":"?","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":{"type":"function","name":"f"}}"#),
    ("allowed tools", r#"{"model":"c","input":"?","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}}"#),
    ("image, document, audio", r#"{"model":"c","input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.org/a.png","detail":"low"},{"type":"input_image","file_id":"file-1","detail":"auto"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="},{"type":"input_file","file_url":"https://x.org/a.pdf"},{"type":"input_file","file_id":"file-2"},{"type":"input_text","text":"Read.","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]}]}"#),
    ("structured output", r#"{"model":"c","input":"?","text":{"format":{"type":"json_schema","name":"p","schema":{"type":"object"},"strict":true},"verbosity":"low"}}"#),
    ("JSON", r#"{"model":"c","input":"?","text":{"format":{"type":"json_object"}}}"#),
    ("reasoning", r#"{"model":"c","input":[{"role":"user","content":"?"},{"type":"reasoning","id":"rs_x1_0","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"forebay:messages:c2ln"},{"type":"reasoning","id":"rs_x1_1","summary":[],"encrypted_content":"forebay:messages:redacted:xx"},{"type":"reasoning","id":"rs_2","summary":[],"content":[{"type":"reasoning_text","text":"raw"}],"encrypted_content":null},{"type":"reasoning","id":"rs_3","summary":[],"encrypted_content":"gAA="},{"type":"message","role":"assistant","phase":"final_answer","content":[{"type":"output_text","text":"4","annotations":[{"type":"url_citation"}]}]},{"role":"user","content":"ok"}],"reasoning":{"effort":"xhigh","summary":"detailed"},"include":["reasoning.encrypted_content","message.output_text.logprobs","file_search_call.results"],"top_logprobs":2}"#),
    ("no reasoning", r#"{"model":"c","input":"?","reasoning":{"effort":"none"}}"#),
    ("the seal of a call", r#"{"model":"c","input":[{"role":"user","content":"?"},{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"reasoning","id":"rs_x1_1","summary":[],"encrypted_content":"forebay:gemini:call:c2VhbA=="},{"type":"function_call_output","call_id":"call_1","output":"1"}]}"#),
    ("refusal", r#"{"model":"c","input":[{"role":"user","content":"?"},{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"No."}]},{"role":"user","content":"Please"}]}"#),
    ("items of the provider's", r#"{"model":"c","input":[{"role":"user","content":"?"},{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search"}},{"type":"message","role":"assistant","content":"x"},{"type":"mcp_approval_response","approve":true,"approval_request_id":"r"},{"role":"user","content":[{"type":"input_video","url":"v"}]}],"max_tool_calls":3,"truncation":"auto","metadata":{"a":"b"},"service_tier":"default","prompt_cache_key":"k"}"#),
];

fn facts() -> Facts {
    Facts { thinking: Knob::Effort, ..Facts::default() }
}

#[test]
fn requests_become_what_the_golden_file_says() {
    let mut told = asked(Wire::Chat, CHAT, Wire::Responses, &facts());
    told += &asked(Wire::Messages, MESSAGES, Wire::Responses, &facts());
    for upstream in [Wire::Chat, Wire::Messages, Wire::Responses] {
        told += &asked(Wire::Responses, RESPONSES, upstream, &facts());
    }
    golden(&told, "responses/tests/requests.golden", include_str!("requests.golden"));
}

#[test]
fn what_is_sent_is_read_back_as_the_same() {
    for (name, body) in RESPONSES {
        let (once, _) = Wire::Responses.asked(body, Wire::Responses, &facts());
        let again = once.to_string();
        let (twice, notes) = Wire::Responses.asked(&again, Wire::Responses, &facts());
        assert_eq!((&twice, notes.as_slice()), (&once, [].as_slice()), "{name}");
    }
    for (name, body) in CHAT {
        let (once, notes) = Wire::Chat.asked(body, Wire::Responses, &facts());
        if notes.is_empty() {
            let (back, noted) = Wire::Responses.asked(&once.to_string(), Wire::Chat, &facts());
            let (own, _) = Wire::Chat.asked(body, Wire::Chat, &facts());
            for field in
                ["messages", "tools", "tool_choice", "response_format", "temperature", "reasoning_effort"]
            {
                // Defaults are said here.
                let said = [",\"strict\":false", ",\"detail\":\"auto\""];
                let strip = |body: &Value| {
                    let value = body.get(field).map(Value::to_string);
                    value.map(|value| said.iter().fold(value, |value, default| value.replace(default, "")))
                };
                assert_eq!(strip(&back), strip(&own), "{name}: {field}, {noted:?}");
            }
        }
    }
}

#[test]
fn facts_shape_a_request() {
    let body = r#"{"model":"c","max_tokens":99999,"temperature":0.5,"top_k":3,"user":"u","messages":[
        {"role":"system","content":"s"},{"role":"user","content":"?"},{"role":"assistant","content":null,"reasoning_content":"hm",
        "tool_calls":[{"id":"a.b","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"a.b","content":"1"},{"role":"system","content":"t"},{"role":"user","content":[
        {"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}],"reasoning_effort":"low",
        "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}"#;
    let facts = Facts {
        most_output: Some(1000),
        sampling: Sampling::Refused,
        tool_ids: ToolIds::Plain(64),
        instructions: Instructions::Developer,
        mid_instructions: MidInstructions::Hoist,
        structured: Structured::Tool,
        replay: Replay::ReasoningContent,
        cache_marks: Taken::No,
        thinking: Knob::None,
        ..Facts::default()
    };
    let (sent, notes) = Wire::Chat.asked(body, Wire::Responses, &facts);
    let id = sent["input"][4]["call_id"].clone();
    let expected = serde_json::json!({"model": "u", "input": [
        {"role": "developer", "content": "s"}, {"role": "developer", "content": "t"}, {"role": "user", "content": "?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": id, "output": "1"},
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
        "tools": [{"type": "function", "name": "forebay_answer", "description": "Gives the answer. Always call this, once.",
            "parameters": {"type": "object"}, "strict": false}],
        "tool_choice": {"type": "function", "name": "forebay_answer"}, "max_output_tokens": 1000, "user": "u", "store": false});
    assert_eq!(sent, expected);
    assert!(id.as_str().unwrap().starts_with("call_"));
    let expected = [
        "mapped messages",
        "mapped cache_control",
        "mapped response_format",
        "dropped temperature",
        "dropped top_k",
        "mapped max_tokens",
        "dropped reasoning",
    ];
    assert_eq!(notes, expected);
}

/// A request with these items.
fn items(items: &str) -> String {
    format!(r#"{{"model":"m","input":[{items}]}}"#)
}

/// A request with this member.
fn with(member: &str) -> String {
    format!(r#"{{"model":"m","input":"x",{member}}}"#)
}

#[test]
fn what_asks_for_memory_is_refused_by_its_name() {
    for (member, param) in [
        (r#""previous_response_id":"resp_1""#, "previous_response_id"),
        (r#""conversation":"conv_1""#, "conversation"),
        (r#""conversation":{"id":"conv_1"}"#, "conversation"),
        (r#""prompt":{"id":"pmpt_1"}"#, "prompt"),
        (r#""background":true"#, "background"),
        (r#""store":true"#, "store"),
    ] {
        let body = with(member);
        let error = Wire::Responses.read(body.as_bytes()).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (Kind::InvalidRequest, Some(param)), "{member}");
        assert!(
            error.public.starts_with(&format!("{param}: the upstream of this model keeps no responses; "))
        );
    }
    for member in [r#""previous_response_id":null"#, r#""background":false"#, r#""store":false"#] {
        assert!(Wire::Responses.read(with(member).as_bytes()).is_ok(), "{member}");
    }
}

#[test]
fn bad_requests_are_refused_with_their_path() {
    for (body, expected) in [
        (r#"{"model":"m"}"#.to_owned(), "input: is required"),
        (r#"{"model":"m","input":3}"#.to_owned(), "input: must be a string or an array"),
        (r#"{"input":"x"}"#.to_owned(), "model: is required"),
        (items(""), "input: must hold at least one item"),
        (items("3"), "input[0]: must be an object"),
        (items(r#"{"role":"robot","content":"x"}"#), "input[0].role: must be one of"),
        (items(r#"{"role":"user"}"#), "input[0].content: is required"),
        (
            items(r#"{"role":"user","content":[{"type":"input_text"}]}"#),
            "input[0].content[0].text: is required",
        ),
        (
            items(r#"{"role":"user","content":[{"type":"input_image","image_url":"data:image/png,xx"}]}"#),
            "input[0].content[0].image_url: must be",
        ),
        (
            items(r#"{"role":"user","content":[{"type":"input_file"}]}"#),
            "input[0].content[0]: needs 'file_data'",
        ),
        (
            items(r#"{"role":"user","content":[{"type":"input_file","file_data":"<>"}]}"#),
            "input[0].content[0].file_data: must be base64",
        ),
        (items(r#"{"type":"function_call","name":"f"}"#), "input[0].call_id: is required"),
        (
            items(r#"{"type":"function_call_output","call_id":"c","output":"x"}"#),
            "input[0].call_id: there is no function_call with this id before it",
        ),
        (
            items(r#"{"role":"user","content":"x"},{"type":"item_reference","id":"msg_1"}"#),
            "input[1]: the upstream of this model keeps no items; send the item itself",
        ),
        (items(r#"{"type":"reasoning","summary":[{}]}"#), "input[0].summary[0].text: is required"),
        (with(r#""tools":[{"name":"f"}]"#), "tools[0].type: is required"),
        (with(r#""tools":[{"type":"function"}]"#), "tools[0].name: is required"),
        (
            with(r#""tools":[{"type":"function","name":"f","parameters":[]}]"#),
            "tools[0].parameters: must be an object",
        ),
        (with(r#""tool_choice":"any""#), "tool_choice: must be"),
        (with(r#""text":{"format":{"type":"json_schema","name":"x"}}"#), "text.format.schema: is required"),
        (with(r#""text":{"format":{"type":"xml"}}"#), "text.format.type: must be"),
        (with(r#""include":[3]"#), "include[0]: must be a string"),
        (with(r#""max_output_tokens":-1"#), "max_output_tokens: must be"),
        (with(r#""store":1"#), "store: must be a boolean"),
        (with(r#""temperature":1,"temperature":2"#), "temperature: is given more than once"),
    ] {
        let error = Wire::Responses.read(body.as_bytes()).unwrap_err();
        assert!(error.public.starts_with(expected), "{body}: {}", error.public);
        assert_eq!(error.kind, Kind::InvalidRequest);
    }
}

#[test]
fn nothing_upsets_the_decoder() {
    let upstreams = [Wire::Chat, Wire::Messages, Wire::Responses, Wire::Cohere, Wire::Ollama];
    nothing_upsets_requests(Wire::Responses, RESPONSES, &upstreams);
}
