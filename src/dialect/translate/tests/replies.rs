//! Replies: what each upstream's reply becomes in each client's dialect, whole and streamed, and the laws of both.
//!
//! What clients are sent stands in `replies.golden`, as it is on the wire. `FOREBAY_BLESS=1` writes it anew; read the
//! difference before it is committed. Gemini and Converse have golden files of their own.

use std::fmt::Write;

use super::*;
use crate::dialect::gemini::tests::frames;
use crate::dialect::ir::{Block, Stop};

/// A reply of an upstream, streamed and, where it can be, whole.
struct Case {
    name: &'static str,
    upstream: Upstream,
    /// The data of its events.
    stream: &'static [&'static str],
    whole: Option<&'static str>,
}

const HEAD: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;
const CLOSE: [&str; 3] = [
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"content_block_stop","index":2}"#,
];
const ENDED: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}"#;
const CALLED: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}"#;
const USED: &str = r#"{"choices":[],"usage":{"prompt_tokens":14,"completion_tokens":9,"total_tokens":23,"prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}"#;

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "text", upstream: Upstream::Chat, stream: &[
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hi \u00e9"},"finish_reason":null}]}"#,
        r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"\n😀\""},"finish_reason":null}]}"#,
        r#"{"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, USED, "[DONE]"],
        whole: Some(r#"{"id":"chatcmpl-1","object":"chat.completion","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Hi é\n😀\""},"finish_reason":"stop"}],"usage":{"prompt_tokens":14,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}"#) },
    Case { name: "parallel tools, interleaved, with text first", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":"Let me see."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","function":{"name":"g","arguments":"{"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":2,"id":"call_c","function":{"name":"h"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"call_a","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_b","type":"function","function":{"name":"g","arguments":"{}"}},{"id":"call_c","type":"function","function":{"name":"h","arguments":""}}]},"finish_reason":"stop"}]}"#) },
    Case { name: "calls that are all numbered 0, whole in their chunks, and a name that comes late", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"aaaaaaaaa","function":{"name":"f","arguments":"{}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"bbbbbbbbb","function":{"arguments":"{\"b\":"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"bbbbbbbbb","function":{"name":"g","arguments":"2}"}}]},"finish_reason":"tool_calls"}]}"#],
        whole: None },
    Case { name: "reasoning", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"2+"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"2"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"4"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"4","reasoning":"2+2"},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#) },
    Case { name: "refusal", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","refusal":"No"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"refusal":"."},"finish_reason":"stop"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"No."},"finish_reason":"stop"}]}"#) },
    Case { name: "stop sequence", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}]}"#) },
    Case { name: "empty", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"content_filter"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"content_filter"}]}"#) },
    Case { name: "an error inside", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"content":"a"}}]}"#,
        r#"{"error":{"message":"The server is overloaded.","type":"service_unavailable_error","code":"server_is_overloaded"}}"#, "[DONE]"],
        whole: None },
    Case { name: "broken off", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"content":"a"}}]}"#], whole: None },
    Case { name: "no chunk", upstream: Upstream::Chat, stream: &[r#"{"id":"x","choices":[{"#], whole: None },
    Case { name: "text after the end", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"b"}}]}"#], whole: None },
    Case { name: "a seal of Gemini's", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"seal"}}}]},"finish_reason":"tool_calls"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"seal"}}}]},"finish_reason":"tool_calls"}]}"#) },
    Case { name: "the answer as a tool call", upstream: Upstream::Chat, stream: &[
        r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"forebay_answer","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}]}"#, "[DONE]"],
        whole: Some(r#"{"id":"x","created":3,"model":"g","choices":[{"index":0,"message":{"tool_calls":[{"id":"c","function":{"name":"forebay_answer","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}]}"#) },
    Case { name: "text", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#, r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi é"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\n\ud83d\ude00"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","x":1}}"#, r#"{"type":"new_event"}"#, CLOSE[0], ENDED, STOP],
        whole: Some(r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"Hi é\n😀"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":9}}"#) },
    Case { name: "thinking and tools", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#, CLOSE[0],
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#, CLOSE[1],
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"g","input":{}}}"#, CLOSE[2], CALLED, STOP],
        whole: Some(r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}},{"type":"tool_use","id":"toolu_2","name":"g","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":9}}"#) },
    Case { name: "redacted thinking and a citation", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"xx"}}"#, CLOSE[0],
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"So."}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"s"}}}"#, CLOSE[1], ENDED, STOP],
        whole: Some(r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"redacted_thinking","data":"xx"},{"type":"text","text":"So.","citations":[{"type":"char_location","cited_text":"s"}]}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":9}}"#) },
    Case { name: "stop sequence", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#, CLOSE[0],
        r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"input_tokens":6,"output_tokens":9,"output_tokens_details":{"thinking_tokens":0}}}"#, STOP],
        whole: None },
    Case { name: "refusal", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","category":"cyber"}},"usage":{"output_tokens":0}}"#, STOP],
        whole: None },
    Case { name: "a tool of the provider's", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}"#, CLOSE[0],
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}"#, CLOSE[1],
        r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn"},"usage":{"output_tokens":9}}"#, STOP],
        whole: None },
    Case { name: "an error inside", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#], whole: None },
    Case { name: "no message_stop", upstream: Upstream::Messages, stream: &[HEAD, ENDED], whole: None },
    Case { name: "a delta of no block", upstream: Upstream::Messages, stream: &[HEAD,
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"a"}}"#, ENDED, STOP], whole: None },
    Case { name: "a head that is the whole turn", upstream: Upstream::Messages, stream: &[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":9}}}"#, STOP],
        whole: Some(r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":9}}"#) },
];

fn wire(case: &Case) -> Vec<u8> {
    case.stream.iter().flat_map(|data| format!("data: {data}\n\n").into_bytes()).collect()
}

#[test]
fn clients_are_sent_what_the_golden_file_says() {
    let mut told = String::new();
    for case in CASES {
        for client in [Client::Chat, Client::Messages] {
            let stream = streamed(case.upstream, client, Delivery::StreamWithUsage, [wire(case).as_slice()]);
            let title = format!("=== {}: {:?} to {client:?}", case.name, case.upstream);
            write!(told, "{title}, streamed\n{}", String::from_utf8(stream).unwrap()).unwrap();
            if let Some(whole) = case.whole {
                let mut notes = Notes::default();
                let reply = client.reply(
                    &case.upstream.reply(whole.as_bytes()).unwrap(),
                    &to(Delivery::Whole),
                    &mut notes,
                );
                let noted: Vec<&str> = notes.list().iter().map(|note| note.path.as_str()).collect();
                writeln!(told, "{title}, whole, without {noted:?}\n{}\n", String::from_utf8(reply).unwrap())
                    .unwrap();
            }
        }
    }
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dialect/translate/tests/replies.golden");
        std::fs::write(path, &told).unwrap();
        return;
    }
    for (line, (told, golden)) in told.lines().zip(include_str!("replies.golden").lines()).enumerate() {
        assert_eq!(told, golden, "line {}", line + 1);
    }
    assert_eq!(told.len(), include_str!("replies.golden").len());
}

#[test]
fn a_stream_adds_up_to_the_whole_reply() {
    for case in CASES {
        let Some(whole) = case.whole else { continue };
        let mut whole = case.upstream.reply(whole.as_bytes()).unwrap();
        let mut stream = folded(case.upstream, &wire(case)).unwrap();
        // The head of a stream knows less of usage.
        (whole.start.usage, stream.start.usage) = (None, None);
        assert_eq!(stream, whole, "{}", case.name);
    }
}

#[test]
fn a_reply_tells_the_events_it_was_made_of() {
    for case in CASES {
        let Ok(reply) = folded(case.upstream, &wire(case)) else { continue };
        let mut fold = Fold::default();
        reply.events(&mut |event| fold.push(event));
        assert_eq!(fold.finish().unwrap(), reply, "{}", case.name);
    }
}

#[test]
fn every_split_gives_the_same() {
    for case in CASES {
        for ends in ["\n", "\r\n", "\r"] {
            let wire = String::from_utf8(wire(case)).unwrap().replace('\n', ends);
            for client in Client::ALL {
                let whole = streamed(case.upstream, client, Delivery::Stream, [wire.as_bytes()]);
                for cut in 0..wire.len() {
                    let (a, b) = wire.as_bytes().split_at(cut);
                    assert!(
                        streamed(case.upstream, client, Delivery::Stream, [a, b]) == whole,
                        "{} at {cut}",
                        case.name
                    );
                }
                let bytes = streamed(case.upstream, client, Delivery::Stream, wire.as_bytes().chunks(1));
                assert!(bytes == whole, "{} in bytes", case.name);
            }
        }
    }
}

#[test]
fn a_thousand_deltas_arrive_in_order() {
    let mut random = fastrand::Rng::with_seed(11);
    let words: Vec<String> = (0..1000).map(|index| format!("{index} ")).collect();
    let chat =
        |word: &String| json!({"id": "x", "choices": [{"index": 0, "delta": {"content": word}}]}).to_string();
    let mut wire: String = words.iter().map(|word| format!("data: {}\n\n", chat(word))).collect();
    wire.push_str(
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    );
    for client in readable() {
        let whole = streamed(Upstream::Chat, client, Delivery::StreamWithUsage, [wire.as_bytes()]);
        let reply = folded(upstream_of(client), &whole).unwrap();
        assert_eq!(reply.blocks.len(), 1);
        assert_eq!(reply.blocks[0].text().plain(), words.concat());
        for _ in 0..20 {
            let (mut rest, mut pieces) = (wire.as_bytes(), Vec::new());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(random.usize(1..200).min(rest.len()));
                pieces.push(piece);
                rest = next;
            }
            assert!(streamed(Upstream::Chat, client, Delivery::StreamWithUsage, pieces) == whole);
        }
    }
}

#[test]
fn what_a_client_is_sent_reads_as_the_same_reply() {
    for case in CASES {
        let Ok(reply) = folded(case.upstream, &wire(case)) else { continue };
        for client in readable() {
            let out = streamed(case.upstream, client, Delivery::StreamWithUsage, [wire(case).as_slice()]);
            let again = folded(upstream_of(client), &out).unwrap();
            let texts = |reply: &Reply| -> String {
                let readable = reply.blocks.iter().filter(|whole| !matches!(whole.block, Block::Opaque(_)));
                readable.map(|whole| whole.text().plain().into_owned()).collect()
            };
            assert_eq!(texts(&again), texts(&reply), "{} to {client:?}", case.name);
            let same =
                |stop: Stop| if matches!(stop, Stop::Sequence | Stop::Paused) { Stop::End } else { stop };
            let refused = reply.blocks.iter().any(|whole| matches!(whole.block, Block::Refusal));
            if !refused {
                assert_eq!(same(again.finish.stop), same(reply.finish.stop), "{} to {client:?}", case.name);
            }
        }
    }
}

#[test]
fn no_bytes_upset_a_stream() {
    let mut random = fastrand::Rng::with_seed(5);
    for case in CASES {
        for _ in 0..300 {
            let mut bytes = wire(case);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"{}[]\",:\n"[random.usize(..8)]),
                }
            }
            for client in Client::ALL {
                lawful(
                    client,
                    &streamed(case.upstream, client, Delivery::StreamWithUsage, [bytes.as_slice()]),
                );
            }
        }
    }
}

/// Checks what SDKs rely on: a head first, blocks that are opened once, in order and closed, and one end.
pub(super) fn lawful(client: Client, stream: &[u8]) {
    match client {
        Client::Chat => {
            let told = events(stream);
            assert_eq!(told.last().unwrap().1, "[DONE]");
            let chunks: Vec<&Value> =
                told.iter().map(|(_, data)| data).filter(|data| data.is_object()).collect();
            let failed = chunks.last().is_some_and(|chunk| chunk.get("error").is_some());
            let choices: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).collect();
            let roles = choices.iter().filter(|choice| choice["delta"]["role"] == "assistant").count();
            assert!(roles == usize::from(!choices.is_empty()), "{chunks:?}");
            let ends = choices.iter().filter(|choice| choice["finish_reason"].is_string()).count();
            assert_eq!(ends, usize::from(!failed));
            let mut next = 0;
            for call in choices.iter().flat_map(|choice| choice["delta"]["tool_calls"].as_array()).flatten() {
                if call.get("id").is_some() {
                    assert_eq!(call["index"], next);
                    assert_eq!(call["function"]["arguments"], "");
                    next += 1;
                }
                assert!(call["index"].as_u64().unwrap() < next);
            }
        }
        Client::Responses => responses::tests::lawful(stream),
        Client::Messages => {
            let (told, mut open, mut next, mut ended) = (events(stream), None, 0, 0);
            for (index, (name, data)) in told.iter().filter(|(name, _)| name != "ping").enumerate() {
                assert_eq!(data["type"], name.as_str());
                assert_eq!(ended, 0, "{name} after the end");
                match name.as_str() {
                    "message_start" => assert_eq!(index, 0),
                    "content_block_start" => {
                        assert_eq!((open, data["index"].as_u64()), (None, Some(next)));
                        open = Some(next);
                        next += 1;
                    }
                    "content_block_delta" => assert_eq!(data["index"].as_u64(), open),
                    "content_block_stop" => assert_eq!(data["index"].as_u64(), open.take()),
                    "message_delta" => assert_eq!(open, None),
                    _ => ended += 1,
                }
            }
            assert_eq!(ended, 1);
        }
        Client::Gemini => {
            let told = events(stream);
            let ends = |(_, data): &(String, Value)| {
                let reason = &data["candidates"][0]["finishReason"];
                reason.is_string() || data["error"].is_object() || data["promptFeedback"].is_object()
            };
            assert!(told.iter().all(|(name, data)| name.is_empty() && data.is_object()));
            assert_eq!(told.iter().position(ends), Some(told.len() - 1));
        }
        Client::Converse => lawful_converse(&frames(stream)),
        Client::Completions => {
            let mut told = events(stream).into_iter().map(|(_, data)| data);
            assert_eq!(told.next_back().unwrap(), "[DONE]");
            let (errors, chunks): (Vec<Value>, Vec<Value>) = told.partition(|data| data["error"].is_object());
            assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
            let ended = |chunk: &&Value| chunk["choices"][0]["finish_reason"].is_string();
            assert_eq!(chunks.iter().filter(ended).count() + errors.len(), 1);
        }
    }
}

/// Text and reasoning have no event for their start.
fn lawful_converse(told: &[(String, String)]) {
    let (mut open, mut next) = (None, 0);
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    let blocks = match kinds.as_slice() {
        ["messageStart", blocks @ .., "messageStop", "metadata"] => {
            assert!(blocks.last().is_none_or(|last| *last == "contentBlockStop"));
            blocks.len()
        }
        ["messageStart", blocks @ .., last] if last.ends_with("Exception") => blocks.len(),
        [last] if last.ends_with("Exception") => 0,
        kinds => panic!("{kinds:?}"),
    };
    for (kind, payload) in told.iter().skip(1).take(blocks) {
        let data: Value = serde_json::from_str(payload).unwrap();
        let index = data["contentBlockIndex"].as_u64();
        let begins = kind == "contentBlockStart" || (kind == "contentBlockDelta" && open.is_none());
        if begins {
            assert_eq!((open, index), (None, Some(next)));
            (open, next) = (Some(next), next + 1);
        }
        match kind.as_str() {
            "contentBlockStart" => {}
            "contentBlockDelta" => assert_eq!(index, open),
            "contentBlockStop" => {
                // An empty block is only ended.
                let ended = open.take().or_else(|| (index == Some(next)).then_some(next));
                next = next.max(ended.unwrap() + 1);
                assert_eq!(index, ended);
            }
            kind => panic!("{kind}"),
        }
    }
}
