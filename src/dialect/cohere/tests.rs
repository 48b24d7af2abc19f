//! Goldens and laws of Cohere.

use serde_json::Value;

use crate::dialect::ir::Facts;
use crate::dialect::ir::target::{Knob, Replay, Structured, Taken};
use crate::dialect::responses::tests::{
    Asked, CHAT, CLIENTS, Case, Found, Wire, array, asked, golden, keeps_the_laws, no_bytes_upset,
    nothing_upsets_requests, survives_recordings, told, word,
};

/// What only Cohere does.
#[rustfmt::skip]
const OWN: &[Asked] = &[
    ("documents in a result and in a message", r#"{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[{"type":"thinking","thinking":"Plan.","signature":"forebay:cohere:"},{"type":"text","text":"See."},{"type":"tool_use","id":"t1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"x"},{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"y"}}]},{"type":"document","title":"a","source":{"type":"text","media_type":"text/plain","data":"z"}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"Thought.","signature":"forebay:cohere:"},{"type":"text","text":"4"}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"thinking":{"type":"enabled","budget_tokens":2048},"temperature":1,"top_k":5}"#),
];

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "text, unicode, usage with cache", stream: &[
        r#"{"id":"29a","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi \u00e9"}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"\n😀\""}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":2,"output_tokens":1},"tokens":{"input_tokens":14,"output_tokens":9},"cached_tokens":7}}}"#, "[DONE]"],
        whole: Some(r#"{"id":"29a","message":{"role":"assistant","content":[{"type":"text","text":"Hi é\n😀\""}]},"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":2,"output_tokens":1},"tokens":{"input_tokens":14,"output_tokens":9},"cached_tokens":7}}"#) },
    Case { name: "a plan and parallel tools", stream: &[
        r#"{"id":"29b","type":"message-start","delta":{"message":{"role":"assistant"}}}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":" look."}}}"#,
        r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"f_1","type":"function","function":{"name":"f","arguments":""}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a\":"}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"1}"}}}}}"#,
        r#"{"type":"tool-call-end","index":0}"#,
        r#"{"type":"tool-call-start","index":1,"delta":{"message":{"tool_calls":{"id":"g_1","type":"function","function":{"name":"g","arguments":"null"}}}}}"#,
        r#"{"type":"tool-call-end","index":1}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"tokens":{"input_tokens":14,"output_tokens":9}}}}"#],
        whole: Some(r#"{"id":"29b","message":{"role":"assistant","tool_plan":"I will look.","tool_calls":[{"id":"f_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"g_1","type":"function","function":{"name":"g","arguments":"null"}}]},"finish_reason":"TOOL_CALL","usage":{"tokens":{"input_tokens":14,"output_tokens":9}}}"#) },
    Case { name: "thinking and citations", stream: &[
        r#"{"id":"29c","type":"message-start","delta":{"message":{"role":"assistant"}}}"#,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"hm"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"content-start","index":1,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"4."}}}}"#,
        r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"4","sources":[],"content_index":1,"type":"TEXT_CONTENT"}}}}"#,
        r#"{"type":"citation-end","index":0}"#,
        r#"{"type":"content-end","index":1}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"STOP_SEQUENCE","usage":{"tokens":{"input_tokens":14,"output_tokens":9,"reasoning_tokens":3}}}}"#],
        whole: Some(r#"{"id":"29c","message":{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"4."}],"citations":[{"start":0,"end":1,"text":"4","sources":[],"content_index":1,"type":"TEXT_CONTENT"}]},"finish_reason":"STOP_SEQUENCE","usage":{"tokens":{"input_tokens":14,"output_tokens":9,"reasoning_tokens":3}}}"#) },
    Case { name: "length, billed units alone", stream: &[
        r#"{"id":"29d","type":"message-start"}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Onc"}}}}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"MAX_TOKENS","usage":{"billed_units":{"input_tokens":2,"output_tokens":1}}}}"#],
        whole: Some(r#"{"id":"29d","message":{"content":[{"type":"text","text":"Onc"}]},"finish_reason":"MAX_TOKENS","usage":{"billed_units":{"input_tokens":2,"output_tokens":1}}}"#) },
    Case { name: "empty", stream: &[
        r#"{"id":"29e","type":"message-start"}"#, r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#],
        whole: Some(r#"{"id":"29e","message":{"role":"assistant","content":[]},"finish_reason":"COMPLETE"}"#) },
    Case { name: "an error at the end", stream: &[
        r#"{"id":"29f","type":"message-start"}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"On"}}}}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"it broke"}}"#], whole: None },
    Case { name: "a timeout", stream: &[
        r#"{"id":"29g","type":"message-start"}"#, r#"{"type":"message-end","delta":{"finish_reason":"TIMEOUT"}}"#], whole: None },
    Case { name: "an error before anything", stream: &[r#"{"message":"too many tokens: x"}"#], whole: None },
    Case { name: "broken off", stream: &[
        r#"{"id":"29h","type":"message-start"}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"On"}}}}"#], whole: None },
];

#[test]
fn requests_become_what_the_golden_file_says() {
    let facts = Facts { thinking: Knob::Budget, ..Facts::default() };
    let mut all = asked(Wire::Chat, CHAT, Wire::Cohere, &facts);
    all += &asked(Wire::Messages, OWN, Wire::Cohere, &facts);
    golden(&all, "cohere/tests/requests.golden", include_str!("tests/requests.golden"));
}

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    golden(
        &told(Wire::Cohere, CASES, &CLIENTS),
        "cohere/tests/replies.golden",
        include_str!("tests/replies.golden"),
    );
}

#[test]
fn replies_keep_the_laws() {
    keeps_the_laws(Wire::Cohere, CASES);
    no_bytes_upset(Wire::Cohere, CASES);
    nothing_upsets_requests(Wire::Chat, CHAT, &[Wire::Cohere]);
}

#[test]
fn facts_shape_a_request() {
    let body = r#"{"model":"c","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.org/a.png"}},
        {"type":"text","text":"?"}]},{"role":"assistant","content":"4","reasoning_content":"hm"},{"role":"user","content":"x"}],
        "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"reasoning_effort":"low",
        "tools":[{"type":"function","function":{"name":"f"}}],"max_tokens":9000}"#;
    let mut facts = Facts {
        structured: Structured::Tool,
        thinking: Knob::None,
        replay: Replay::Reasoning,
        most_output: Some(4096),
        ..Facts::default()
    };
    facts.media.urls = Taken::No;
    let (sent, notes) = Wire::Chat.asked(body, Wire::Cohere, &facts);
    assert_eq!(sent["tools"][1]["function"]["name"], "forebay_answer");
    assert_eq!((&sent["tool_choice"], &sent["max_tokens"]), (&Value::from("REQUIRED"), &Value::from(4096)));
    let said = serde_json::json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]);
    assert_eq!(sent["messages"][1]["content"], said);
    assert!(sent.get("response_format").is_none() && sent.get("thinking").is_none());
    assert_eq!(
        notes,
        ["dropped messages: image", "mapped response_format", "mapped max_tokens", "dropped reasoning"]
    );
    let facts = Facts { structured: Structured::No, forced_tools: Taken::No, ..facts };
    let body = body.replace("\"reasoning_effort\":\"low\"", "\"tool_choice\":\"required\"");
    let (sent, notes) = Wire::Chat.asked(&body, Wire::Cohere, &facts);
    assert_eq!(sent.get("tool_choice"), None);
    assert!(notes.iter().any(|note| note == "dropped tool_choice"), "{notes:?}");
}

#[test]
fn recorded_replies_lose_nothing_on_their_way() {
    survives_recordings(Wire::Cohere, (14, 50), |documents, _| {
        let mut found = Found::default();
        for document in documents {
            let message = match &document["message"] {
                Value::Object(_) => &document["message"],
                _ => &document["delta"]["message"],
            };
            found.1.push_str(word(&message["tool_plan"]));
            for content in array(&message["content"]).chain(Some(&message["content"])) {
                found.0.push_str(word(&content["text"]));
                found.1.push_str(word(&content["thinking"]));
            }
            for call in array(&message["tool_calls"]).chain(Some(&message["tool_calls"])) {
                found.2.extend(call["function"]["name"].as_str().map(str::to_owned));
            }
        }
        found
    });
}
