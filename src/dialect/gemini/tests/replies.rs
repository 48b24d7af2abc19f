//! Replies: what Gemini's become elsewhere, and what others' become in Gemini.

use super::*;
use crate::dialect::ir::Attachment;

#[rustfmt::skip]
pub(in crate::dialect) const CASES: &[Case] = &[
    Case { name: "text", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi \u00e9"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1,"totalTokenCount":10},"modelVersion":"g","responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"\n😀\""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"totalTokenCount":20,"cachedContentTokenCount":7,"toolUsePromptTokenCount":2,"thoughtsTokenCount":5},"modelVersion":"g","responseId":"r1"}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"text":"Hi é\n😀\""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"totalTokenCount":20,"cachedContentTokenCount":7,"toolUsePromptTokenCount":2,"thoughtsTokenCount":5},"modelVersion":"g","responseId":"r1"}"#) },
    Case { name: "thoughts, then text with its seal on an empty part", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"2+","thought":true}],"role":"model"}}],"usageMetadata":{"trafficType":"ON_DEMAND"},"modelVersion":"g","responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"2","thought":true},{"text":"4"}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"c2VhbA=="}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"thoughtsTokenCount":5,"totalTokenCount":14}}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"text":"2+2","thought":true},{"text":"4","thoughtSignature":"c2VhbA=="}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"thoughtsTokenCount":5,"totalTokenCount":14},"modelVersion":"g","responseId":"r1"}"#) },
    Case { name: "parallel tools, the first one sealed", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true},{"functionCall":{"name":"f","args":{"a":[1,"x"]}},"thoughtSignature":"c2VhbA=="}],"role":"model"}}],"modelVersion":"g","responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"call_7","name":"g"}},{"functionCall":{"name":"f","args":{}}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"role":"model"},"finishReason":"STOP","finishMessage":"Model generated function call(s).","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"totalTokenCount":13}}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true},{"functionCall":{"name":"f","args":{"a":[1,"x"]}},"thoughtSignature":"c2VhbA=="},{"functionCall":{"id":"call_7","name":"g"}},{"functionCall":{"name":"f","args":{}}}],"role":"model"},"finishReason":"STOP","finishMessage":"Model generated function call(s).","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"totalTokenCount":13},"modelVersion":"g","responseId":"r1"}"#) },
    Case { name: "arguments in pieces", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true},"thoughtSignature":"c2VhbA=="}],"role":"model"}}],"responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.c","stringValue":"Bo","willContinue":true}],"willContinue":true}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.c","stringValue":"ston"},{"jsonPath":"$.n[0]","numberValue":1.5}],"willContinue":true}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"g","willContinue":true}}],"role":"model"}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}]}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"c":"Boston","n":[1.5]}},"thoughtSignature":"c2VhbA=="},{"functionCall":{"name":"g"}}],"role":"model"},"finishReason":"STOP"}],"responseId":"r1"}"#) },
    Case { name: "length", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Once"}],"role":"model"},"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1,"totalTokenCount":10},"responseId":"r1"}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"text":"Once"}],"role":"model"},"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1,"totalTokenCount":10},"responseId":"r1"}"#) },
    Case { name: "a filtered answer", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Well"}],"role":"model"}}],"responseId":"r1"}"#,
        r#"{"candidates":[{"finishReason":"SAFETY","index":0,"safetyRatings":[{"category":"X","probability":"HIGH","blocked":true}]}]}"#],
        whole: None },
    Case { name: "a blocked prompt", upstream: Wire::Gemini, stream: &[
        r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"g","responseId":"r1"}"#],
        whole: Some(r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"g","responseId":"r1"}"#) },
    Case { name: "a malformed call", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"Malformed: f(","index":0}],"responseId":"r1"}"#],
        whole: Some(r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"Malformed: f(","index":0}],"responseId":"r1"}"#) },
    Case { name: "code, grounding and an image", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1+1"},"thoughtSignature":"c2VhbA=="},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}},{"text":"Two."}],"role":"model"}}],"responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}],"role":"model"},"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["q"]}}]}"#],
        whole: Some(r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1+1"},"thoughtSignature":"c2VhbA=="},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}},{"text":"Two."},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}],"role":"model"},"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["q"]}}],"responseId":"r1"}"#) },
    Case { name: "empty", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"g","responseId":"r1"}"#],
        whole: Some(r#"{"candidates":[{"content":{"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"g","responseId":"r1"}"#) },
    Case { name: "an error inside", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}],"responseId":"r1"}"#,
        r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#], whole: None },
    Case { name: "an error at once", upstream: Wire::Gemini, stream: &[
        r#"{"error":{"code":429,"message":"Quota.","status":"RESOURCE_EXHAUSTED"}}"#], whole: None },
    Case { name: "a reason that is none", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"finishReason":"OTHER","index":0}],"responseId":"r1"}"#], whole: None },
    Case { name: "no end", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}],"responseId":"r1"}"#], whole: None },
    Case { name: "text after the end", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],"responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"b"}]}}]}"#], whole: None },
    Case { name: "a path that leads nowhere", upstream: Wire::Gemini, stream: &[
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true,"partialArgs":[{"jsonPath":"$[7]","stringValue":"x"}]}}]}}]}"#], whole: None },
];

/// Replies of others, for clients of Gemini and of Converse.
#[rustfmt::skip]
pub(in crate::dialect) const FOREIGN: &[Case] = &[
    Case { name: "reasoning, text and parallel tools", upstream: Wire::Chat, stream: &[
        r#"{"id":"chatcmpl-1","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"Hm"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Let me see."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":"{\"a\""}},{"index":1,"id":"call_b","function":{"name":"g","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":\"\\u00e9\"}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":14,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":3}}}"#, "[DONE]"], whole: None },
    Case { name: "refusal", upstream: Wire::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","refusal":"No."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"], whole: None },
    Case { name: "thinking with a seal, and a stop sequence", upstream: Wire::Messages, stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"2+2"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq0="}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"c2Vjcg=="}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"4"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#], whole: None },
    Case { name: "a tool without arguments, and the context full", upstream: Wire::Messages, stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#], whole: None },
    Case { name: "empty", upstream: Wire::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#, "[DONE]"], whole: None },
    Case { name: "an error inside", upstream: Wire::Messages, stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#], whole: None },
];

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    let mut all = told(CASES, &ALL);
    all.push_str(&told(FOREIGN, &[Wire::Gemini]));
    golden("gemini/tests/replies.golden", &all, include_str!("replies.golden"));
}

#[test]
fn streams_keep_the_law() {
    lawful(CASES, &ALL);
    lawful(FOREIGN, &[Wire::Gemini]);
}

#[test]
fn no_bytes_upset_a_stream() {
    survive_noise(CASES, &ALL, 5);
    survive_noise(FOREIGN, &[Wire::Gemini], 6);
}

#[test]
fn a_thousand_deltas_arrive_in_order() {
    let words: Vec<String> = (0..1000).map(|index| format!("{index} ")).collect();
    let event = |word: &String| {
        serde_json::json!({"candidates": [{"content": {"parts": [{"text": word}]}}], "responseId": "r"})
            .to_string()
    };
    let mut events: Vec<String> = words.iter().map(event).collect();
    events.push(r#"{"candidates":[{"finishReason":"STOP"}]}"#.to_owned());
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let bytes = Wire::Gemini.stream(&events);
    let mut random = fastrand::Rng::with_seed(11);
    for client in ALL {
        let sent = client.sent(Wire::Gemini, [bytes.as_slice()]);
        let reply = client.folded(&sent).unwrap();
        assert_eq!((reply.blocks.len(), reply.blocks[0].text().plain()), (1, words.concat().into()));
        for _ in 0..10 {
            let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(random.usize(1..200).min(rest.len()));
                pieces.push(piece);
                rest = next;
            }
            assert!(client.sent(Wire::Gemini, pieces) == sent);
        }
    }
}

#[test]
fn bare_json_in_the_place_of_events_is_read() {
    let pretty = "[{\r\n  \"error\": {\r\n    \"code\": 503,\r\n    \"message\": \"Busy.\",\r\n    \"status\": \"UNAVAILABLE\"\r\n  }\r\n}\r\n]";
    let first = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\r\n\r\n";
    let array = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n,\n{\"candidates\":[{\"finishReason\":\"STOP\"}]}]";
    for (stream, expected) in [
        (pretty.to_owned(), Err("Busy.")),
        (format!("{first}{pretty}"), Err("Busy.")),
        (array.to_owned(), Ok("a")),
    ] {
        let whole = Wire::Chat.sent(Wire::Gemini, [stream.as_bytes()]);
        for cut in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(cut);
            assert!(Wire::Chat.sent(Wire::Gemini, [a, b]) == whole, "at {cut}");
        }
        let reply = Wire::Gemini.folded(stream.as_bytes());
        match (reply, expected) {
            (Ok(reply), Ok(text)) => assert_eq!(reply.blocks[0].text().plain(), text),
            (Err(error), Err(text)) => assert_eq!(error.public, text),
            (reply, expected) => panic!("{reply:?}, not {expected:?}"),
        }
    }
}

/// The seals that a client of Gemini keeps, sent back in the next request.
#[test]
fn seals_of_others_come_back_through_a_client_of_gemini() {
    let case = FOREIGN.iter().find(|case| case.name.starts_with("thinking")).unwrap();
    let sent = Wire::Gemini.sent(Wire::Messages, [case.bytes().as_slice()]);
    let parts: Vec<Value> = data(&sent)
        .iter()
        .flat_map(|data| {
            let event: Value = serde_json::from_str(data).unwrap();
            event["candidates"][0]["content"]["parts"].as_array().cloned().unwrap_or_default()
        })
        .collect();
    let body = serde_json::json!({"contents": [{"role": "model", "parts": parts}, {"role": "user", "parts": [{"text": "So?"}]}]});
    let body = body.to_string();
    let request = Wire::Gemini.read(body.as_bytes()).unwrap();
    let written = Wire::Messages.write(&request, &Facts::default(), &mut Notes::default()).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        written["messages"][1]["content"],
        serde_json::json!([{"type": "thinking", "thinking": "2+2", "signature": "Eq0="},
            {"type": "redacted_thinking", "data": "c2Vjcg=="}, {"type": "text", "text": "4"}])
    );
}

#[test]
fn an_error_has_the_kind_of_its_code() {
    for (code, message, kind, public) in [
        (429, "Quota.", Kind::RateLimited, "Quota."),
        (503, "Busy.", Kind::Overloaded, "Busy."),
        (504, "Late.", Kind::UpstreamTimeout, "Late."),
        (500, "Oops.", Kind::UpstreamFailed, "Oops."),
        (400, "API key not valid.", Kind::UpstreamFailed, "the upstream reported an error; try again"),
    ] {
        let body =
            serde_json::json!({"error": {"code": code, "message": message, "status": "X"}}).to_string();
        let error = Wire::Gemini.whole(body.as_bytes()).unwrap_err();
        assert_eq!((error.kind, error.public.as_ref()), (kind, public));
        assert_eq!(Wire::Gemini.folded(&Wire::Gemini.stream(&[&body])).unwrap_err().kind, kind);
    }
}

#[test]
fn a_seal_is_told_before_the_call_it_stands_on() {
    let case = CASES.iter().find(|case| case.name.starts_with("parallel")).unwrap();
    let reply = Wire::Gemini.folded(&case.bytes()).unwrap();
    let sealed: Vec<bool> = reply
        .blocks
        .iter()
        .map(|whole| whole.attached.iter().any(|what| matches!(what, Attachment::Signature { .. })))
        .collect();
    assert_eq!(sealed, [true, true, false, false]);
    assert!(matches!(reply.blocks[0].block, Block::Reasoning(_)));
}
