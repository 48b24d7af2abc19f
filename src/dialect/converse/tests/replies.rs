//! Replies: what Converse's become elsewhere, and what others' become in Converse.

use serde_json::{Value, json};

use super::*;
use crate::dialect::ir::{Facts, Notes, Stop};

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "text", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"p":"abc","role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Hi \u00e9"},"p":"a"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"\n😀\""}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":0}}"#,
        r#"{"messageStop":{"stopReason":"end_turn"}}"#,
        r#"{"metadata":{"metrics":{"latencyMs":5},"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":23,"cacheReadInputTokens":7,"cacheWriteInputTokens":2}}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi é\n😀\""}]}},"stopReason":"end_turn","metrics":{"latencyMs":5},"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":23,"cacheReadInputTokens":7,"cacheWriteInputTokens":2}}"#) },
    Case { name: "reasoning, sealed and redacted", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"2+"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"2"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"Eq0="}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":0}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"c2Vjcg=="}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":1}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":2,"delta":{"text":"4"}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":2}}"#,
        r#"{"messageStop":{"stopReason":"max_tokens"}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"2+2","signature":"Eq0="}}},{"reasoningContent":{"redactedContent":"c2Vjcg=="}},{"text":"4"}]}},"stopReason":"max_tokens","usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}"#) },
    Case { name: "parallel tools, interleaved, with an empty start", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":0,"start":{}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Let me see."}}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"tooluse_1","name":"f"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{\"a\""}}}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"tooluse_2","name":"g"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":2,"delta":{"toolUse":{"input":""}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":1,"delta":{"toolUse":{"input":":1}"}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":1}}"#, r#"{"contentBlockStop":{"contentBlockIndex":2}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}}"#,
        r#"{"messageStop":{"stopReason":"tool_use"}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[{"type":"text","text":"Let me see."},{"toolUse":{"toolUseId":"tooluse_1","name":"f","input":{"a":1}}},{"toolUse":{"toolUseId":"tooluse_2","name":"g","type":"tool_use","input":{}}}]}},"stopReason":"tool_use","usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}"#) },
    Case { name: "a stop sequence", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"a"}}}"#,
        r#"{"messageStop":{"stopReason":"stop_sequence","additionalModelResponseFields":{"delta":{"stop_sequence":"END"}}}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}}"#], whole: None },
    Case { name: "a guardrail", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"Sorry."}}}"#,
        r#"{"messageStop":{"stopReason":"guardrail_intervened"}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14},"trace":{}}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[{"text":"Sorry."}]}},"stopReason":"guardrail_intervened","usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}"#) },
    Case { name: "citations, a tool of the provider's and an image", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"nova_grounding","type":"server_tool_use"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{\"q\":1}"}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":0}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":1,"start":{"toolResult":{"toolUseId":"t","status":"success"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":1,"delta":{"toolResult":[{"text":"[HIDDEN]"}]}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":1}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":2,"delta":{"text":"Ruby."}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":2,"delta":{"citation":{"title":"facts"}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":2}}"#,
        r#"{"contentBlockStart":{"contentBlockIndex":3,"start":{"image":{"format":"png"}}}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":3,"delta":{"image":{"source":{"bytes":"QQ=="}}}}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":3}}"#,
        r#"{"messageStop":{"stopReason":"end_turn"}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"nova_grounding","type":"server_tool_use","input":{"q":1}}},{"toolResult":{"toolUseId":"t","status":"success","content":[{"text":"[HIDDEN]"}]}},{"citationsContent":{"content":[{"text":"Ruby."}],"citations":[{"title":"facts"}]}},{"image":{"format":"png","source":{"bytes":"QQ=="}}}]}},"stopReason":"end_turn","usage":{"inputTokens":5,"outputTokens":9,"totalTokens":14}}"#) },
    Case { name: "empty", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#, r#"{"messageStop":{"stopReason":"end_turn"}}"#,
        r#"{"metadata":{"usage":{"inputTokens":5,"outputTokens":0,"totalTokens":5}}}"#],
        whole: Some(r#"{"output":{"message":{"role":"assistant","content":[]}},"stopReason":"end_turn","usage":{"inputTokens":5,"outputTokens":0,"totalTokens":5}}"#) },
    Case { name: "an exception at once", upstream: Wire::Converse, stream: &[
        r#"{"validationException":{"message":"The toolConfig field must be defined."}}"#], whole: None },
    Case { name: "an exception inside", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"a"}}}"#,
        r#"{"throttlingException":{"message":"Too many tokens, please wait."}}"#], whole: None },
    Case { name: "no metadata", upstream: Wire::Converse, stream: &[
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"a"}}}"#,
        r#"{"messageStop":{"stopReason":"end_turn"}}"#], whole: None },
    Case { name: "arguments of no call", upstream: Wire::Converse, stream: &[
        r#"{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{}"}}}}"#], whole: None },
];

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    let mut all = told(CASES, &ALL);
    all.push_str(&told(FOREIGN, &[Wire::Converse]));
    golden("converse/tests/replies.golden", &all, include_str!("replies.golden"));
}

#[test]
fn streams_keep_the_law() {
    lawful(CASES, &ALL);
    lawful(FOREIGN, &[Wire::Converse]);
}

#[test]
fn no_bytes_upset_a_stream() {
    survive_noise(CASES, &ALL, 7);
    survive_noise(FOREIGN, &[Wire::Converse], 8);
    survive_noise(GEMINI, &[Wire::Converse], 9);
}

#[test]
fn a_thousand_deltas_arrive_in_order() {
    let words: Vec<String> = (0..1000).map(|index| format!("{index} ")).collect();
    let event = |word: &String| {
        serde_json::json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": word}}})
            .to_string()
    };
    let mut events: Vec<String> = words.iter().map(event).collect();
    events.push(r#"{"messageStop":{"stopReason":"end_turn"}}"#.to_owned());
    events.push(r#"{"metadata":{}}"#.to_owned());
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let bytes = Wire::Converse.stream(&events);
    for client in ALL {
        let sent = client.sent(Wire::Converse, [bytes.as_slice()]);
        let reply = client.folded(&sent).unwrap();
        assert_eq!((reply.blocks.len(), reply.blocks[0].text().plain()), (1, words.concat().into()));
        for size in [13, 97, 4096] {
            assert!(client.sent(Wire::Converse, bytes.chunks(size)) == sent);
        }
    }
}

#[test]
fn exceptions_become_errors_of_their_kind() {
    for (class, kind) in [
        ("throttlingException", Kind::RateLimited),
        ("serviceUnavailableException", Kind::Overloaded),
        ("validationException", Kind::InvalidRequest),
        ("modelTimeoutException", Kind::UpstreamTimeout),
        ("internalServerException", Kind::UpstreamFailed),
        ("modelStreamErrorException", Kind::UpstreamFailed),
        ("accessDeniedException", Kind::UpstreamFailed),
    ] {
        let event = format!("{{\"{class}\":{{\"message\":\"m\"}}}}");
        let error = Wire::Converse.folded(&Wire::Converse.stream(&[&event])).unwrap_err();
        assert_eq!(error.kind, kind, "{class}");
        assert_eq!(error.public == "m", class != "accessDeniedException", "{class}");
    }
}

#[test]
fn a_sum_that_does_not_hold_ends_the_stream() {
    let mut bytes = CASES[0].bytes();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    let error = Wire::Converse.folded(&bytes).unwrap_err();
    assert!(error.private.contains("checksum"), "{}", error.private);
    let cut = CASES[0].bytes();
    let error = Wire::Converse.folded(&cut[..cut.len() - 1]).unwrap_err();
    assert!(error.public.contains("broke off"), "{}", error.public);
}

#[test]
fn input_is_counted_with_the_cache_whether_it_is_told_so_or_not() {
    for (usage, total) in [
        (r#"{"inputTokens":10,"outputTokens":4,"totalTokens":7365,"cacheReadInputTokens":7351}"#, 7361),
        (r#"{"inputTokens":7361,"outputTokens":4,"totalTokens":7365,"cacheReadInputTokens":7351}"#, 7361),
        (r#"{"inputTokens":10,"outputTokens":4,"cacheWriteInputTokens":5}"#, 15),
        (r#"{"inputTokens":10,"outputTokens":4,"totalTokens":14,"cacheReadInputTokens":0}"#, 10),
    ] {
        let body =
            format!(r#"{{"output":{{"message":{{"content":[]}}}},"stopReason":"end_turn","usage":{usage}}}"#);
        assert_eq!(
            Wire::Converse.whole(body.as_bytes()).unwrap().usage.unwrap().input.total,
            Some(total),
            "{usage}"
        );
    }
}

#[test]
fn a_body_that_is_no_reply_is_an_error() {
    let error = Wire::Converse.whole(br#"{"message":"Too slow."}"#).unwrap_err();
    assert_eq!(error.public, "Too slow.");
    assert!(Wire::Converse.whole(b"<html>").is_err());
}

#[test]
fn seals_of_converse_come_back_through_other_clients() {
    let case = CASES.iter().find(|case| case.name == "reasoning, sealed and redacted").unwrap();
    let reply = Wire::Converse.whole(case.whole.unwrap().as_bytes()).unwrap();
    let expected = json!([
        {"reasoningContent": {"reasoningText": {"text": "2+2", "signature": "Eq0="}}},
        {"reasoningContent": {"redactedContent": "c2Vjcg=="}}, {"text": "4"}]);
    for client in [Wire::Chat, Wire::Messages, Wire::Gemini] {
        let said: Value = serde_json::from_slice(&client.say(&reply, &mut Notes::default())).unwrap();
        let body = match client {
            Wire::Chat => json!({"model": "m", "messages": [{"role": "user", "content": "?"}, said["choices"][0]["message"],
                {"role": "user", "content": "!"}]}),
            Wire::Messages => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"},
                {"role": "assistant", "content": said["content"]}, {"role": "user", "content": "!"}]}),
            _ => json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, said["candidates"][0]["content"],
                {"role": "user", "parts": [{"text": "!"}]}]}),
        }
        .to_string();
        let request = client.read(body.as_bytes()).unwrap();
        let mut notes = Notes::default();
        let sent = Wire::Converse.write(&request, &Facts::default(), &mut notes).unwrap();
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(sent["messages"][1]["content"], expected, "{client:?}: {:?}", notes.list());
    }
}

/// What a client of Converse keeps comes back to whom it belongs.
#[test]
fn seals_of_others_come_back_through_a_client_of_converse() {
    let case = FOREIGN.iter().find(|case| case.name.starts_with("thinking")).unwrap();
    let reply = Wire::Messages.folded(&case.bytes()).unwrap();
    assert_eq!(reply.finish.stop, Stop::Sequence);
    let said: Value = serde_json::from_slice(&Wire::Converse.say(&reply, &mut Notes::default())).unwrap();
    let message = &said["output"]["message"];
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"text":"?"}}]}},{message},{{"role":"user","content":[{{"text":"So?"}}]}}]}}"#
    );
    let request = Wire::Converse.read(body.as_bytes()).unwrap();
    let facts = Facts::default();
    let written = Wire::Messages.write(&request, &facts, &mut Notes::default()).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        written["messages"][1]["content"],
        serde_json::json!([{"type": "thinking", "thinking": "2+2", "signature": "Eq0="},
            {"type": "redacted_thinking", "data": "c2Vjcg=="}, {"type": "text", "text": "4"}])
    );
}
