//! Goldens and laws of Ollama.

use serde_json::json;

use crate::dialect::ir::Facts;
use crate::dialect::ir::target::{Knob, Replay, Structured, Taken};
use crate::dialect::responses::tests::{
    Asked, CHAT, CLIENTS, Case, Found, Wire, asked, golden, keeps_the_laws, no_bytes_upset,
    nothing_upsets_requests, survives_recordings, told,
};

/// What only Ollama does.
#[rustfmt::skip]
const OWN: &[Asked] = &[
    ("results with images, text documents, thinking of its own", r#"{"model":"c","max_tokens":9,"system":[{"type":"text","text":"One."},{"type":"text","text":"Two."}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"z"}},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"forebay:ollama:"},{"type":"text","text":"See."},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},{"type":"text","text":"So?"}]}],"thinking":{"type":"adaptive"},"top_k":5}"#),
];

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "text, unicode", stream: &[
        r#"{"model":"qwen3","created_at":"2026-11-21T10:00:00.123456789Z","message":{"role":"assistant","content":"Hi \u00e9"},"done":false}"#,
        r#"{"model":"qwen3","created_at":"2026-11-21T10:00:00.2Z","message":{"role":"assistant","content":"\n😀\""},"done":false}"#,
        r#"{"model":"qwen3","created_at":"2026-11-21T10:00:00.3Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":1,"prompt_eval_count":14,"eval_count":9}"#],
        whole: Some(r#"{"model":"qwen3","created_at":"2026-11-21T10:00:00.3Z","message":{"role":"assistant","content":"Hi é\n😀\""},"done":true,"done_reason":"stop","prompt_eval_count":14,"eval_count":9}"#) },
    Case { name: "thinking and parallel tools without ids", stream: &[
        r#"{"model":"qwen3","message":{"role":"assistant","content":"","thinking":"2+"},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":"","thinking":"2"},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":"See."},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"f","arguments":{}}}]},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_x","function":{"index":2,"name":"g","arguments":{"b":[1,"é"]}}}]},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":14,"eval_count":9}"#],
        whole: Some(r#"{"model":"qwen3","message":{"role":"assistant","content":"See.","thinking":"2+2","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"f","arguments":{}}},{"id":"call_x","function":{"name":"g","arguments":{"b":[1,"é"]}}}]},"done":true,"done_reason":"stop","prompt_eval_count":14,"eval_count":9}"#) },
    Case { name: "length, a cached prompt that is not counted", stream: &[
        r#"{"model":"qwen3","message":{"role":"assistant","content":"Onc"},"done":false}"#,
        r#"{"model":"qwen3","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","eval_count":1}"#],
        whole: Some(r#"{"model":"qwen3","message":{"role":"assistant","content":"Onc"},"done":true,"done_reason":"length","eval_count":1}"#) },
    Case { name: "empty", stream: &[r#"{"model":"qwen3","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#],
        whole: Some(r#"{"model":"qwen3","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#) },
    Case { name: "an error before anything", stream: &[r#"{"error":"model 'x' not found"}"#], whole: None },
    Case { name: "an error inside", stream: &[
        r#"{"model":"qwen3","message":{"role":"assistant","content":"On"},"done":false}"#, r#"{"error":"it broke"}"#], whole: None },
    Case { name: "broken off", stream: &[r#"{"model":"qwen3","message":{"role":"assistant","content":"On"},"done":false}"#], whole: None },
];

#[test]
fn requests_become_what_the_golden_file_says() {
    let mut all = asked(Wire::Chat, CHAT, Wire::Ollama, &Facts::default());
    all += &asked(Wire::Messages, OWN, Wire::Ollama, &Facts::default());
    golden(&all, "ollama/tests/requests.golden", include_str!("tests/requests.golden"));
}

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    golden(
        &told(Wire::Ollama, CASES, &CLIENTS),
        "ollama/tests/replies.golden",
        include_str!("tests/replies.golden"),
    );
}

#[test]
fn replies_keep_the_laws() {
    keeps_the_laws(Wire::Ollama, CASES);
    no_bytes_upset(Wire::Ollama, CASES);
    nothing_upsets_requests(Wire::Chat, CHAT, &[Wire::Ollama]);
}

#[test]
fn calls_without_ids_get_the_same_ones_each_time() {
    let wire = Wire::Ollama.stream(CASES[1].stream);
    for client in CLIENTS {
        let reply = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let sent = client.sent(Wire::Ollama, pieces);
            String::from_utf8(sent).unwrap()
        };
        let once = reply(&mut std::iter::once(wire.as_slice()));
        assert_eq!(reply(&mut wire.chunks(3)), once);
        let whole = Wire::Ollama.whole(CASES[1].whole.unwrap().as_bytes()).unwrap();
        let whole = String::from_utf8(client.say(&whole, &mut Default::default())).unwrap();
        for id in ["x1_0", "x1_1", "x1_2", "x1_3", "x1_4"] {
            assert_eq!(whole.contains(id), once.contains(id), "{client:?} {id}");
        }
        assert!(once.contains("call_x"));
    }
}

#[test]
fn facts_shape_a_request() {
    let body = r#"{"model":"c","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
        {"type":"text","text":"?"}]},{"role":"assistant","content":"4","reasoning_content":"hm"},{"role":"user","content":"x"}],
        "response_format":{"type":"json_object"},"reasoning_effort":"low","max_tokens":9000}"#;
    let mut facts = Facts {
        structured: Structured::No,
        thinking: Knob::Budget,
        replay: Replay::ReasoningContent,
        most_output: Some(4096),
        ..Facts::default()
    };
    facts.media.images = Taken::No;
    let (sent, notes) = Wire::Chat.asked(body, Wire::Ollama, &facts);
    let expected = json!({"model": "u", "messages": [{"role": "user", "content": "?"},
        {"role": "assistant", "content": "4", "thinking": "hm"}, {"role": "user", "content": "x"}],
        "think": true, "options": {"num_predict": 4096}, "stream": false});
    assert_eq!(sent, expected);
    assert_eq!(
        notes,
        ["dropped messages: image", "dropped response_format", "mapped reasoning", "mapped max_tokens"]
    );
    let facts = Facts { thinking: Knob::None, ..facts };
    let (sent, notes) = Wire::Chat.asked(body, Wire::Ollama, &facts);
    assert!(sent.get("think").is_none() && notes.iter().any(|note| note == "dropped reasoning"));
}

#[test]
fn recorded_replies_lose_nothing_on_their_way() {
    // None is recorded yet: the recorded servers were asked in chat.
    survives_recordings(Wire::Ollama, (0, 0), |_, _| Found::default());
}
