//! Requests: what a client's becomes in Converse, and what Converse's becomes elsewhere.

use serde_json::Value;

use super::*;
use crate::dialect::ir::target::{Knob, MidInstructions, Structured};
use crate::dialect::ir::{Facts, Notes, Target};

#[rustfmt::skip]
const CONVERSE: &[Asked] = &[
    ("text", r#"{"messages":[{"role":"user","content":[{"text":"Hi \u00e9"}]}],"system":[{"text":"Be brief."}],"inferenceConfig":{"maxTokens":5,"temperature":0.5,"topP":0.9,"stopSequences":["END"]},"additionalModelRequestFields":{"top_k":5,"anthropic_beta":["x"]},"serviceTier":{"type":"flex"},"requestMetadata":{"team":"a"}}"#),
    ("multi-turn", r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]},{"role":"assistant","content":[{"text":"Hello"}]},{"role":"system","content":[{"text":"In French."}]},{"role":"user","content":[{"text":"a"},{"text":"b"}]}]}"#),
    ("tools", r#"{"messages":[{"role":"user","content":[{"text":"?"}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"F.","inputSchema":{"json":{"type":"object"}},"strict":true}},{"cachePoint":{"type":"default"}},{"systemTool":{"name":"nova_grounding"}}],"toolChoice":{"auto":{}}}}"#),
    ("forced tool", r#"{"messages":[{"role":"user","content":[{"text":"?"}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{"type":"object"}}}}],"toolChoice":{"tool":{"name":"f"}}}}"#),
    ("parallel tools and their results", r#"{"messages":[{"role":"user","content":[{"text":"?"}]},{"role":"assistant","content":[{"text":"Let me see."},{"toolUse":{"toolUseId":"tooluse_1","name":"f","input":{"a":1}}},{"toolUse":{"toolUseId":"tooluse_2","name":"g","input":{}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"tooluse_1","content":[{"text":"sun"},{"json":{"n":1}},{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}]}},{"toolResult":{"toolUseId":"tooluse_2","content":[{"text":"no"}],"status":"error"}},{"text":"So?"}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{"type":"object"}}}}]}}"#),
    ("media", r#"{"messages":[{"role":"user","content":[{"text":"See"},{"image":{"format":"jpeg","source":{"bytes":"/9j/"}}},{"image":{"format":"png","source":{"s3Location":{"uri":"s3://b/a.png"}}}},{"document":{"format":"pdf","name":"report","source":{"bytes":"JVBERi0="}}},{"document":{"name":"facts","source":{"text":"Ruby."},"citations":{"enabled":true}}},{"audio":{"format":"mp3","source":{"bytes":"SUQz"}}},{"video":{"format":"mp4","source":{"bytes":"AAAA"}}}]}]}"#),
    ("structured output and effort", r#"{"messages":[{"role":"user","content":[{"text":"?"}]}],"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"name":"p","schema":"{\"type\":\"object\"}"}}},"effort":"high"}}"#),
    ("reasoning", r#"{"messages":[{"role":"user","content":[{"text":"?"}]},{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Hm.","signature":"Eq0="}}},{"reasoningContent":{"redactedContent":"c2Vjcg=="}},{"reasoningContent":{"reasoningText":{"text":"Mine.","signature":"forebay:messages:other"}}},{"text":"4"}]},{"role":"user","content":[{"text":"More"}]}],"inferenceConfig":{"maxTokens":4000,"temperature":1},"additionalModelRequestFields":{"reasoning_config":{"type":"enabled","budget_tokens":2048}}}"#),
    ("cache marks", r#"{"messages":[{"role":"user","content":[{"text":"Long."},{"cachePoint":{"type":"default","ttl":"1h"}},{"text":"Hi"}]}],"system":[{"text":"Long."},{"cachePoint":{"type":"default"}}]}"#),
    ("what is Converse's own", r#"{"messages":[{"role":"user","content":[{"guardContent":{"text":{"text":"Look","qualifiers":["query"]}}}]},{"role":"assistant","content":[{"citationsContent":{"content":[{"text":"Ruby"},{"text":"."}],"citations":[{"title":"facts"}]}},{"toolUse":{"toolUseId":"t","name":"nova_grounding","type":"server_tool_use","input":{}}},{"toolResult":{"toolUseId":"t","type":"nova_grounding_result","status":"success","content":[{"text":"[HIDDEN]"}]}}]},{"role":"user","content":[{"text":"More"}]}],"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"1"},"performanceConfig":{"latency":"optimized"}}"#),
];

#[test]
fn requests_become_what_the_golden_file_says() {
    let facts = Facts::default();
    let mut told = carried(Wire::Chat, CHAT, &[Wire::Converse], &facts);
    told.push_str(&carried(Wire::Converse, CONVERSE, &ALL, &facts));
    golden("converse/tests/requests.golden", &told, include_str!("requests.golden"));
}

/// What of a request in chat stands under `pointer` in what Converse is sent.
fn part(body: &str, model: &str, facts: &Facts, pointer: &str) -> Value {
    let request = Wire::Chat.read(body.as_bytes()).unwrap();
    let written = request::encode(&request, &Target { model, facts }, &mut Notes::default()).unwrap();
    serde_json::from_slice::<Value>(&written).unwrap().pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn facts_of_a_model_decide() {
    const CLAUDE: &str = "us.anthropic.claude-haiku-4-5-20251001-v1:0";
    let asks = r#"{"model":"c","messages":[{"role":"user","content":"?"}],"reasoning_effort":"low","temperature":0.5,"top_k":3}"#;
    let more = "/additionalModelRequestFields";
    let older = Facts { thinking: Knob::Budget, ..Facts::default() };
    assert_eq!(part(asks, "nova", &Facts::default(), "/outputConfig/effort"), "low");
    assert_eq!(part(asks, "nova", &Facts::default(), more), Value::Null);
    assert_eq!(
        part(asks, CLAUDE, &older, more),
        serde_json::json!({"reasoning_config": {"type": "enabled", "budget_tokens": 2048}})
    );
    // A model that thinks takes no temperature, and needs room to answer.
    assert_eq!(part(asks, CLAUDE, &older, "/inferenceConfig"), serde_json::json!({"maxTokens": 16384}));
    let off = asks.replace("low", "none").replace("\"top_k\":3", "\"max_tokens\":9");
    assert_eq!(part(&off, CLAUDE, &older, more), serde_json::json!({"thinking": {"type": "disabled"}}));
    let sampled = r#"{"model":"c","messages":[{"role":"user","content":"?"}],"temperature":1.5}"#;
    assert_eq!(part(sampled, "nova", &older, "/inferenceConfig"), serde_json::json!({"temperature": 1}));
    let shaped = r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"p","schema":{"type":"object"}}}}"#;
    let by_tool = Facts { structured: Structured::Tool, ..Facts::default() };
    assert_eq!(part(shaped, "nova", &by_tool, "/toolConfig/toolChoice/tool/name"), "forebay_answer");
    assert_eq!(part(shaped, "nova", &by_tool, "/outputConfig"), Value::Null);
    let system = CHAT.iter().find(|(name, _)| *name == "system").unwrap().1;
    let hoist = Facts { mid_instructions: MidInstructions::Hoist, ..Facts::default() };
    assert_eq!(part(system, "nova", &hoist, "/system/2/text"), "Now in French.");
    assert_eq!(part(system, "nova", &hoist, "/messages").as_array().unwrap().len(), 1);
    let into = Facts { mid_instructions: MidInstructions::IntoUser, ..Facts::default() };
    assert_eq!(part(system, "nova", &into, "/messages/0/content").as_array().unwrap().len(), 3);
}

#[test]
fn ids_that_do_not_fit_become_the_same_other_ones() {
    let long = "x".repeat(65);
    let body = format!(
        r#"{{"model":"c","messages":[{{"role":"user","content":"?"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"{long}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"{long}","content":"1"}}]}}"#
    );
    let facts = Facts::default();
    let called = part(&body, "nova", &facts, "/messages/1/content/0/toolUse/toolUseId");
    assert_eq!(part(&body, "nova", &facts, "/messages/2/content/0/toolResult/toolUseId"), called);
    assert!(called.as_str().unwrap().len() <= 64 && called != long.as_str());
}

#[test]
fn a_name_that_no_tool_may_have_is_refused() {
    let body =
        r#"{"contents":[{"parts":[{"text":"?"}]}],"tools":[{"functionDeclarations":[{"name":"a.b"}]}]}"#;
    let request = Wire::Gemini.read(body.as_bytes()).unwrap();
    let error = Wire::Converse.write(&request, &Facts::default(), &mut Notes::default()).unwrap_err();
    assert!(error.public.starts_with("tools: 'a.b': "), "{}", error.public);
}

#[test]
fn a_wrong_request_is_refused_by_its_path() {
    refused(
        Wire::Converse,
        &[
            ("{}", "messages: is required"),
            (r#"{"messages":[]}"#, "messages: must hold at least one message"),
            (
                r#"{"messages":[{"role":"bot","content":[]}]}"#,
                "messages[0].role: must be 'user', 'assistant' or 'system'",
            ),
            (r#"{"messages":[{"role":"user","content":"Hi"}]}"#, "messages[0].content: must be an array"),
            (
                r#"{"messages":[{"role":"user","content":[{}]}]}"#,
                "messages[0].content[0]: must hold something, such as 'text'",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"toolResult":{"toolUseId":"x","content":[]}}]}]}"#,
                "messages[0]: the tool result for 'x' has no tool call before it",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"image":{"format":"png","source":{"bytes":"*"}}}]}]}"#,
                "messages[0].content[0].image.source.bytes: must be base64",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"a"}]}],"toolConfig":{"tools":[{"toolSpec":{"name":"f"}}]}}"#,
                "toolConfig.tools[0].toolSpec.inputSchema: is required",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"a"}]}],"toolConfig":{"tools":[],"toolChoice":{}}}"#,
                "toolConfig.toolChoice: must hold 'auto', 'any' or 'tool'",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"a"}]}],"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"x"}}}}}"#,
                "outputConfig.textFormat.structure.jsonSchema.schema: must be a string that holds a JSON object",
            ),
        ],
    );
}
