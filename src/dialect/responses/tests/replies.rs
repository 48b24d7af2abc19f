//! Replies: what an upstream's response becomes in each client's dialect, and what others' become in Responses.

use super::*;

const CREATED: &str = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":3,"model":"g","status":"in_progress","output":[],"usage":null}}"#;
const PROGRESS: &str = r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","status":"in_progress","output":[]}}"#;
const TEXT: [&str; 3] = [
    r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
    r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
    r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hi \u00e9\n😀\"","logprobs":[],"obfuscation":"xx"}"#,
];
const DONE: &str = r#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","status":"completed","incomplete_details":null,"error":null,"output":[],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":23}}}"#;

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "text, usage with cache", stream: &[CREATED, PROGRESS, TEXT[0], TEXT[1], TEXT[2],
        r#"{"type":"response.output_text.done","item_id":"msg_1","output_index":0,"content_index":0,"text":"Hi é\n😀\""}"#,
        r#"{"type":"response.content_part.done","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hi é\n😀\"","annotations":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi é\n😀\"","annotations":[]}]}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","object":"response","created_at":3,"model":"g","status":"completed","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi é\n😀\"","annotations":[]}]}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":23}}"#) },
    Case { name: "reasoning, parallel tools, ids that change on the way", stream: &[CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_a","type":"reasoning","summary":[],"encrypted_content":"half"}}"#,
        r#"{"type":"response.reasoning_summary_part.added","item_id":"rs_b","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_c","output_index":0,"summary_index":0,"delta":"One"}"#,
        r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_c","output_index":0,"summary_index":0,"delta":"."}"#,
        r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_d","output_index":0,"summary_index":1,"delta":"Two."}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"One."},{"type":"summary_text","text":"Two."}],"encrypted_content":"gAA="}}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"f","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"{\"a\":"}"#,
        r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"1}"}"#,
        r#"{"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":1,"arguments":"{\"a\":1}"}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"f","arguments":"{\"a\":1}"}}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_2","type":"function_call","call_id":"call_2","name":"g","arguments":""}}"#,
        r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_2","type":"function_call","call_id":"call_2","name":"g","arguments":""}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"completed","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"One."},{"type":"summary_text","text":"Two."}],"encrypted_content":"gAA="},{"id":"fc_1","type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"},{"id":"fc_2","type":"function_call","call_id":"call_2","name":"g","arguments":""}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "reasoning nobody can read, and an open model's", stream: &[CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAA="}}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"rs_2","type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.content_part.added","item_id":"rs_2","output_index":1,"content_index":0,"part":{"type":"reasoning_text","text":""}}"#,
        r#"{"type":"response.reasoning_text.delta","item_id":"rs_2","output_index":1,"content_index":0,"delta":"hm"}"#,
        r#"{"type":"response.content_part.done","item_id":"rs_2","output_index":1,"content_index":0,"part":{"type":"reasoning_text","text":"hm"}}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"rs_2","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","created_at":3,"status":"completed","model":"g","output":[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAA="},{"id":"rs_2","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "refusal, told by its end alone", stream: &[CREATED,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"refusal","refusal":"No."}]}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"completed","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"refusal","refusal":"No."}]}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "refusal in pieces", stream: &[CREATED, TEXT[0],
        r#"{"type":"response.refusal.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"N"}"#,
        r#"{"type":"response.refusal.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"o."}"#,
        r#"{"type":"response.refusal.done","item_id":"msg_1","output_index":0,"content_index":0,"refusal":"No."}"#, DONE],
        whole: None },
    Case { name: "a tool of the provider's, annotations, two parts, phases", stream: &[CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"ws_1","type":"web_search_call","status":"in_progress"}}"#,
        r#"{"type":"response.web_search_call.searching","output_index":0,"item_id":"ws_1"}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"q"}}}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","role":"assistant","content":[],"phase":"final_answer"}}"#,
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"One"}"#,
        r#"{"type":"response.output_text.annotation.added","item_id":"msg_1","output_index":1,"content_index":0,"annotation_index":0,"annotation":{"type":"url_citation","start_index":0,"end_index":3,"url":"u","title":"t"}}"#,
        r#"{"type":"response.content_part.done","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"One","annotations":[{"type":"url_citation","start_index":0,"end_index":3,"url":"u","title":"t"}],"logprobs":[{"token":"One","logprob":-0.1,"bytes":[79],"top_logprobs":[]}]}}"#,
        r#"{"type":"response.content_part.done","item_id":"msg_1","output_index":1,"content_index":1,"part":{"type":"output_text","text":"Two","annotations":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"One","annotations":[{"type":"url_citation","start_index":0,"end_index":3,"url":"u","title":"t"}]},{"type":"output_text","text":"Two","annotations":[]}]}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"completed","output":[{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"q"}},{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"One","annotations":[{"type":"url_citation","start_index":0,"end_index":3,"url":"u","title":"t"}],"logprobs":[{"token":"One","logprob":-0.1,"bytes":[79],"top_logprobs":[]}]},{"type":"output_text","text":"Two","annotations":[]}]}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "a custom tool", stream: &[CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"ct_1","type":"custom_tool_call","call_id":"call_1","name":"sql","input":""}}"#,
        r#"{"type":"response.custom_tool_call_input.delta","output_index":0,"item_id":"ct_1","delta":"SELECT \"a\""}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"ct_1","type":"custom_tool_call","call_id":"call_1","name":"sql","input":"SELECT \"a\""}}"#, DONE],
        whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"completed","output":[{"id":"ct_1","type":"custom_tool_call","call_id":"call_1","name":"sql","input":"SELECT \"a\""}],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "length, and the items at the end alone", stream: &[CREATED,
        r#"{"type":"response.incomplete","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Onc"}]}],"usage":{"input_tokens":1,"output_tokens":2}}}"#, "[DONE]"],
        whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Onc"}]}],"usage":{"input_tokens":1,"output_tokens":2}}"#) },
    Case { name: "filtered", stream: &[CREATED, TEXT[0], TEXT[2],
        r#"{"type":"response.incomplete","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}}"#],
        whole: None },
    Case { name: "empty", stream: &[CREATED, DONE], whole: Some(r#"{"id":"resp_1","created_at":3,"model":"g","status":"completed","output":[],"usage":{"input_tokens":14,"input_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "an error before anything", stream: &[
        r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null,"sequence_number":0}"#], whole: None },
    Case { name: "an error inside", stream: &[CREATED, TEXT[0], TEXT[1], TEXT[2],
        r#"{"type":"error","sequence_number":5,"error":{"type":"server_error","code":"server_error","message":"it broke"}}"#,
        r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"it broke"}}}"#], whole: None },
    Case { name: "failed", stream: &[CREATED,
        r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"it broke"}}}"#], whole: None },
    Case { name: "broken off", stream: &[CREATED, TEXT[0], TEXT[1], TEXT[2]], whole: None },
];

#[rustfmt::skip]
const CHAT: &[Case] = &[
    Case { name: "reasoning, text, parallel tools", stream: &[
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"2+"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"2"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Let me see."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":"{\"a\""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","function":{"name":"g","arguments":""}},{"index":0,"function":{"arguments":":1}"},"extra_content":{"google":{"thought_signature":"c2VhbA=="}}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":14,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":3}}}"#, "[DONE]"], whole: None },
    Case { name: "refusal, no usage", stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","refusal":"No"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"refusal":"."},"finish_reason":"stop"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"No."},"finish_reason":"stop"}]}"#) },
    Case { name: "length", stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":"Onc"},"finish_reason":"length"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Onc"},"finish_reason":"length"}]}"#) },
    Case { name: "empty", stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":"stop"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":null},"finish_reason":"stop"}]}"#) },
    Case { name: "an error inside", stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":"On"}}]}"#,
        r#"{"error":{"message":"too busy","code":"rate_limit_exceeded"}}"#], whole: None },
];

#[rustfmt::skip]
const MESSAGES: &[Case] = &[
    Case { name: "thinking, a tool, two texts", stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xx"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"One"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"Two","citations":[{"type":"char_location"}]}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
        r#"{"type":"content_block_stop","index":4}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#], whole: None },
    Case { name: "thinking unseen", stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","model":"c","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":0}}"#,
        r#"{"type":"message_stop"}"#],
        whole: Some(r#"{"type":"message","id":"msg_1","model":"c","content":[{"type":"thinking","thinking":"","signature":"c2ln"}],"stop_reason":"refusal","usage":{"input_tokens":5,"output_tokens":0}}"#) },
    Case { name: "stop sequence", stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","model":"c","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#], whole: None },
    Case { name: "an error before anything", stream: &[
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#], whole: None },
];

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    let mut all = told(Wire::Responses, CASES, &CLIENTS);
    all += &told(Wire::Chat, CHAT, &[Wire::Responses]);
    all += &told(Wire::Messages, MESSAGES, &[Wire::Responses]);
    golden(&all, "responses/tests/replies.golden", include_str!("replies.golden"));
}

#[test]
fn replies_keep_the_laws() {
    keeps_the_laws(Wire::Responses, CASES);
}

#[test]
fn no_bytes_upset_a_stream() {
    no_bytes_upset(Wire::Responses, CASES);
    no_bytes_upset(Wire::Chat, CHAT);
    no_bytes_upset(Wire::Messages, MESSAGES);
}

#[test]
fn a_client_reads_other_upstreams_replies_alike() {
    for (upstream, cases) in [(Wire::Chat, CHAT), (Wire::Messages, MESSAGES)] {
        for case in cases {
            let stream = upstream.stream(case.stream);
            let Ok(reply) = upstream.folded(&stream) else { continue };
            let sent = Wire::Responses.sent(upstream, [stream.as_slice()]);
            let again = Wire::Responses.folded(&sent).unwrap();
            assert_eq!(kept(&again).but(&kept(&reply)), kept(&reply), "{}", case.name);
            let whole = Wire::Responses.say(&reply, &mut Notes::default());
            // A whole reply is what its stream ends with.
            let told = events(&sent);
            let mut last = told.last().unwrap().1["response"].clone();
            let mut whole: Value = serde_json::from_slice(&whole).unwrap();
            last["usage"].take();
            whole["usage"].take();
            assert_eq!(last, whole, "{}", case.name);
            for size in [1, 2, 3, 7] {
                assert!(
                    Wire::Responses.sent(upstream, stream.chunks(size)) == sent,
                    "{} by {size}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn seals_come_back_to_who_made_them() {
    for (upstream, cases) in [(Wire::Chat, CHAT), (Wire::Messages, MESSAGES)] {
        let sent = Wire::Responses.sent(upstream, [upstream.stream(cases[0].stream).as_slice()]);
        let told = events(&sent);
        let mut input = told.last().unwrap().1["response"]["output"].as_array().unwrap().clone();
        for (id, output) in [("call_a", "1"), ("call_b", "2"), ("toolu_1", "3")] {
            if input.iter().any(|item| item["call_id"] == id) {
                input.push(
                    serde_json::json!({"type": "function_call_output", "call_id": id, "output": output}),
                );
            }
        }
        let body = serde_json::json!({"model": "m", "input": input}).to_string();
        let facts = Facts { replay: crate::dialect::ir::target::Replay::Signed, ..Facts::default() };
        let (back, notes) = Wire::Responses.asked(&body, upstream, &facts);
        // Messages wants the user to begin, so that a stub of its stands first.
        let said = &back["messages"][usize::from(upstream == Wire::Messages)];
        if upstream == Wire::Messages {
            assert_eq!(
                said["content"][0],
                serde_json::json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"})
            );
            assert_eq!(said["content"][1], serde_json::json!({"type": "redacted_thinking", "data": "xx"}));
            assert_eq!(notes, ["mapped messages"]);
        } else {
            let seal = &said["tool_calls"][0]["extra_content"]["google"]["thought_signature"];
            assert_eq!(
                (seal, notes.as_slice()),
                (&Value::from("c2VhbA=="), ["dropped messages: reasoning".to_owned()].as_slice())
            );
        }
    }
}

#[test]
fn a_thousand_deltas_arrive_in_order() {
    let words: Vec<String> = (0..1000).map(|index| format!("{index} ")).collect();
    let delta = |word: &String| {
        serde_json::json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": word}).to_string()
    };
    let deltas: Vec<String> = words.iter().map(delta).collect();
    let mut all = vec![CREATED, TEXT[0]];
    all.extend(deltas.iter().map(String::as_str));
    all.push(DONE);
    let wire = Wire::Responses.stream(&all);
    for client in CLIENTS {
        let sent = client.sent(Wire::Responses, [wire.as_slice()]);
        checked(client, &sent);
        let reply = client.folded(&sent).unwrap();
        assert_eq!((reply.blocks.len(), reply.blocks[0].text().plain()), (1, words.concat().into()));
        for size in [1, 100, 1000] {
            assert!(client.sent(Wire::Responses, wire.chunks(size)) == sent);
        }
    }
}
