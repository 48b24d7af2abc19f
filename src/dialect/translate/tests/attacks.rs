//! What was found by attacking a running edge, so that it stays mended.

use std::time::{Duration, Instant};

use super::*;

fn try_sent(
    client: Client,
    upstream: Upstream,
    body: &str,
    policy: Policy,
) -> Result<(Value, Vec<String>), Error> {
    sent_with(client, upstream, body, policy, &facts())
}

fn sent_with(
    client: Client,
    upstream: Upstream,
    body: &str,
    policy: Policy,
    facts: &Facts,
) -> Result<(Value, Vec<String>), Error> {
    let mut notes = Notes::new(policy);
    let request = client.request(body.as_bytes())?;
    let bytes = upstream.request(&request, &Target { model: "u", facts }, &mut notes)?;
    let named = notes.list().iter().map(|note| format!("{} {}", note.loss.name(), note.path)).collect();
    Ok((serde_json::from_slice(&bytes).unwrap(), named))
}

/// A conversation of so many calls, and their results in reverse order.
fn calls(client: Client, count: usize) -> Option<String> {
    let numbers = || 0..count;
    let join = |all: Vec<String>| all.join(",");
    match client {
        Client::Chat => {
            let calls = join(numbers().map(|n| format!(r#"{{"id":"c{n}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#)).collect());
            let results = join(
                numbers()
                    .rev()
                    .map(|n| format!(r#"{{"role":"tool","tool_call_id":"c{n}","content":"x"}}"#))
                    .collect(),
            );
            Some(format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"x"}},{{"role":"assistant","tool_calls":[{calls}]}},{results}]}}"#
            ))
        }
        Client::Gemini => {
            let calls =
                join(numbers().map(|_| r#"{"functionCall":{"name":"f","args":{}}}"#.to_owned()).collect());
            let results = join(
                numbers()
                    .map(|_| r#"{"functionResponse":{"name":"f","response":{"a":1}}}"#.to_owned())
                    .collect(),
            );
            Some(format!(
                r#"{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}},{{"role":"model","parts":[{calls}]}},{{"role":"user","parts":[{results}]}}]}}"#
            ))
        }
        Client::Converse => {
            let files = join(
                numbers()
                    .map(|_| r#"{"document":{"format":"txt","name":"a","source":{"text":"x"}}}"#.to_owned())
                    .collect(),
            );
            Some(format!(r#"{{"messages":[{{"role":"user","content":[{{"text":"x"}},{files}]}}]}}"#))
        }
        _ => None,
    }
}

#[test]
fn twenty_thousand_calls_take_no_time_to_speak_of() {
    for client in Client::ALL {
        let Some(body) = calls(client, 20_000) else { continue };
        for upstream in Upstream::ALL {
            let begun = Instant::now();
            let sent = try_sent(client, upstream, &body, Policy::Lenient);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{client:?} to {upstream:?} took {took:?}");
            sent.unwrap();
        }
    }
}

#[test]
fn results_stand_in_the_order_of_the_calls_that_are_nearest() {
    let turn = |first: &str, second: &str| {
        format!(
            r#"{{"role":"assistant","tool_calls":[
            {{"id":"a","type":"function","function":{{"name":"{first}","arguments":"{{}}"}}}},
            {{"id":"b","type":"function","function":{{"name":"{second}","arguments":"{{}}"}}}}]}},
            {{"role":"tool","tool_call_id":"b","content":"B"}},{{"role":"tool","tool_call_id":"a","content":"A"}}"#
        )
    };
    let (one, two) = (turn("f", "g"), turn("h", "i"));
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}},{one},{two}]}}"#);
    let (sent, _) = try_sent(Client::Chat, Upstream::Gemini, &body, Policy::Lenient).unwrap();
    let name =
        |turn: usize, at: usize| sent["contents"][turn]["parts"][at]["functionResponse"]["name"].clone();
    assert_eq!([name(2, 0), name(2, 1), name(4, 0), name(4, 1)], ["f", "g", "h", "i"]);
}

#[test]
fn a_gemini_stream_that_says_stop_with_every_event_is_told_whole() {
    let event = |text: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},\
             \"finishReason\":\"STOP\"}}]}}\n\n"
        )
    };
    let stream = [event("a"), event("b"), event("c")].concat();
    assert_eq!(folded(Upstream::Gemini, stream.as_bytes()).unwrap().blocks[0].text().plain(), "abc");
    for client in Client::ALL {
        let mut told = Stream::new(Upstream::Gemini, client, to(Delivery::Stream));
        let mut out = Vec::new();
        told.push(stream.as_bytes(), &mut out);
        assert!(!told.is_over(), "{client:?}");
        told.finish(&mut out);
        assert!(told.is_over() && told.failure().is_none(), "{client:?}");
    }
}

#[test]
fn a_call_that_must_be_made_needs_a_tool() {
    for (client, body) in [
        (
            Client::Chat,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":"required"}"#,
        ),
        (
            Client::Chat,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"function","function":{"name":"f"}}}"#,
        ),
        (
            Client::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"any"}}"#,
        ),
        (Client::Responses, r#"{"model":"m","input":"x","tool_choice":"required"}"#),
        (
            Client::Gemini,
            r#"{"contents":[{"parts":[{"text":"x"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}"#,
        ),
        (
            Client::Converse,
            r#"{"messages":[{"role":"user","content":[{"text":"x"}]}],"toolConfig":{"tools":[],"toolChoice":{"any":{}}}}"#,
        ),
    ] {
        let field = match client {
            Client::Gemini => "toolConfig.functionCallingConfig",
            Client::Converse => "toolConfig.toolChoice",
            _ => "tool_choice",
        };
        for upstream in Upstream::ALL {
            let (_, notes) = try_sent(client, upstream, body, Policy::Lenient).unwrap();
            assert!(notes.contains(&format!("dropped {field}")), "{client:?} to {upstream:?}: {notes:?}");
            let error = try_sent(client, upstream, body, Policy::Strict).unwrap_err();
            assert!(error.public.starts_with(&format!("{field}: ")), "{}", error.public);
        }
    }
}

#[test]
fn every_path_is_one_that_the_client_wrote() {
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"high"}"#;
    let gemini =
        r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"topK":3,"stopSequences":["a"]}}"#;
    let converse = r#"{"messages":[{"role":"user","content":[{"text":"x"}]}],"inferenceConfig":{"stopSequences":["a"]}}"#;
    for (client, upstream, body, path) in [
        (Client::Chat, Upstream::Converse, chat, "reasoning_effort"),
        (Client::Gemini, Upstream::Responses, gemini, "generationConfig.topK"),
        (Client::Gemini, Upstream::Responses, gemini, "generationConfig.stopSequences"),
        (Client::Converse, Upstream::Responses, converse, "inferenceConfig.stopSequences"),
    ] {
        let facts = Facts { thinking: Knob::None, ..facts() };
        let (_, notes) = sent_with(client, upstream, body, Policy::Lenient, &facts).unwrap();
        assert!(notes.contains(&format!("dropped {path}")), "{client:?} to {upstream:?}: {notes:?}");
    }
    for (client, body, path) in [
        (
            Client::Messages,
            r#"{"model":"m","max_tokens":1,"system":"s","messages":[{"role":"user","content":"x"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}"#,
            "messages[1]: ",
        ),
        (
            Client::Converse,
            r#"{"system":[{"text":"s"}],"messages":[{"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[]}}]}]}"#,
            "messages[0]: ",
        ),
        (
            Client::Gemini,
            r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"functionCall":{"name":"f"}}]}]}"#,
            "contents[0]: ",
        ),
    ] {
        let error = client.request(body.as_bytes()).unwrap_err();
        assert!(error.public.starts_with(path), "{}", error.public);
    }
}

#[test]
fn a_url_is_one_that_an_upstream_can_read() {
    let chat = |url: &str| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
        )
    };
    let messages = |url: &str| {
        format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{{"type":"image","source":{{"type":"url","url":"{url}"}}}}]}}]}}"#
        )
    };
    let responses = |url: &str| {
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_image","image_url":"{url}"}}]}}]}}"#
        )
    };
    let gemini = |url: &str| {
        format!(
            r#"{{"contents":[{{"parts":[{{"fileData":{{"mimeType":"image/png","fileUri":"{url}"}}}}]}}]}}"#
        )
    };
    for url in [
        "",
        "x",
        "ftp://a/b",
        "file:///etc/passwd",
        "javascript:1",
        "http://",
        "https:///x",
        "http://a b",
        "data:;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,AAA",
        "data:image/png;base64,QQ=",
        "data:image/png,x",
    ] {
        for (client, body, path) in [
            (Client::Chat, chat(url), "messages[0].content[0].image_url.url: "),
            (Client::Messages, messages(url), "messages[0].content[0].source"),
            (Client::Responses, responses(url), "input[0].content[0].image_url: "),
            (Client::Gemini, gemini(url), "contents[0].parts[0].fileData.fileUri: "),
        ] {
            let error = client.request(body.as_bytes()).unwrap_err();
            assert!(error.public.starts_with(path), "{url}: {}", error.public);
        }
    }
    for url in ["https://a.test/x.png", "HTTP://a.test/x", "gs://bucket/x.png", "data:image/png;base64,AAAA"]
    {
        Client::Chat.request(chat(url).as_bytes()).unwrap();
    }
    for upstream in Upstream::ALL {
        let (sent, _) =
            try_sent(Client::Chat, upstream, &chat("data:image/jpg;base64,AAAA"), Policy::Lenient).unwrap();
        assert!(!sent.to_string().contains("image/jpg"), "{sent}");
    }
    let (sent, _) =
        try_sent(Client::Chat, Upstream::Gemini, &chat("gs://bucket/x.png"), Policy::Strict).unwrap();
    assert_eq!(sent["contents"][0]["parts"][0]["fileData"]["fileUri"], "gs://bucket/x.png");
}

#[test]
fn the_words_of_an_upstreams_error_are_kept() {
    for stream in [
        "event: error\ndata: {\"message\":\"out of fuel\"}\n\n",
        "event: error\ndata: {\"code\":7,\"reason\":\"x\",\"detail\":\"out of fuel\"}\n\n",
        "event: error\ndata: out of fuel\n\n",
        "data: {\"message\":\"out of fuel\"}\n\n",
        "data: {\"detail\":\"out of fuel\"}\n\n",
        "data: {\"error\":\"out of fuel\"}\n\n",
    ] {
        for client in Client::ALL {
            let told = streamed(Upstream::Chat, client, Delivery::Stream, [stream.as_bytes()]);
            assert!(String::from_utf8_lossy(&told).contains("out of fuel"), "{client:?}: {stream}");
        }
    }
}

#[test]
fn a_reference_to_reasoning_of_ours_is_a_loss() {
    let body = |id: &str| {
        format!(
            r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{{"type":"item_reference","id":"{id}"}}]}}"#
        )
    };
    for upstream in Upstream::ALL {
        let (_, notes) = try_sent(Client::Responses, upstream, &body("rs_x1_0"), Policy::Lenient).unwrap();
        assert!(notes.contains(&"dropped input[1]".to_owned()), "{upstream:?}: {notes:?}");
        let error = try_sent(Client::Responses, upstream, &body("rs_x1_0"), Policy::Strict).unwrap_err();
        assert!(error.public.starts_with("input[1]: "), "{}", error.public);
    }
    assert!(Client::Responses.request(body("msg_x1_0").as_bytes()).is_err());
}

#[test]
fn a_conversation_that_the_model_begins_is_begun_for_it() {
    let body = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"assistant","content":"Hello"},{"role":"user","content":"x"}]}"#;
    for upstream in [Upstream::Messages, Upstream::Converse] {
        let (sent, notes) = try_sent(Client::Chat, upstream, body, Policy::Strict).unwrap();
        let roles: Vec<&str> =
            sent["messages"].as_array().unwrap().iter().map(|turn| turn["role"].as_str().unwrap()).collect();
        assert_eq!((roles, notes), (vec!["user", "assistant", "user"], vec!["mapped messages".to_owned()]));
    }
}

#[test]
fn reasoning_without_a_seal_is_a_summary_to_responses() {
    let reply = r#"{"id":"x","model":"m","choices":[{"index":0,"message":{"content":"a","reasoning_content":"why"},"finish_reason":"stop"}]}"#;
    let reply = Upstream::Chat.reply(reply.as_bytes()).unwrap();
    let told = Client::Responses.reply(&reply, &to(Delivery::Whole), &mut Notes::default());
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["output"][0]["summary"], json!([{"type": "summary_text", "text": "why"}]));
}

#[test]
fn a_reply_that_is_none_is_an_error() {
    for body in [
        "{}",
        r#"{"id":"r","status":"completed"}"#,
        r#"{"id":"r","output":[]}"#,
        r#"{"output":{},"status":"completed"}"#,
    ] {
        assert!(Upstream::Responses.reply(body.as_bytes()).is_err(), "{body}");
    }
    for (upstream, body) in [
        (
            Upstream::Chat,
            r#"{"choices":[{"message":{"tool_calls":[{"id":"a","function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
        ),
        (
            Upstream::Responses,
            r#"{"status":"completed","output":[{"type":"function_call","call_id":"a","arguments":"{}"}]}"#,
        ),
        (
            Upstream::Messages,
            r#"{"type":"message","role":"assistant","content":[{"type":"tool_use","id":"a","input":{}}],"stop_reason":"tool_use"}"#,
        ),
        (
            Upstream::Gemini,
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"args":{}}}]},"finishReason":"STOP"}]}"#,
        ),
        (
            Upstream::Converse,
            r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"a","input":{}}}]}},"stopReason":"tool_use"}"#,
        ),
        (
            Upstream::Cohere,
            r#"{"id":"x","message":{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"arguments":"{}"}}]},"finish_reason":"TOOL_CALL"}"#,
        ),
        (
            Upstream::Ollama,
            r#"{"model":"m","message":{"role":"assistant","tool_calls":[{"function":{"arguments":{}}}]},"done":true,"done_reason":"stop"}"#,
        ),
    ] {
        let named = match upstream {
            Upstream::Gemini => body.replace("\"args\"", "\"name\":\"f\",\"args\""),
            Upstream::Responses => body.replace("\"call_id\"", "\"name\":\"f\",\"call_id\""),
            Upstream::Messages | Upstream::Converse => body.replace("\"input\"", "\"name\":\"f\",\"input\""),
            _ => body.replace("\"arguments\"", "\"name\":\"f\",\"arguments\""),
        };
        assert_eq!(Upstream::reply(upstream, named.as_bytes()).unwrap().blocks.len(), 1, "{upstream:?}");
        assert!(upstream.reply(body.as_bytes()).is_err(), "{upstream:?}");
    }
}
