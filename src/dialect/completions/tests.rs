use serde_json::{Value, json};

use super::*;
use crate::dialect::ir::{Content, Delivery, Notes, Reply, ReplyTo};
use crate::dialect::translate::{Client, Stream, Upstream};
use crate::frame::sse;

const CHAT: &str = r#"{"id":"chatcmpl-1","created":5,"model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Yes é","reasoning_content":"Hm."},"logprobs":{"content":[{"token":"Yes","logprob":-0.5,"bytes":null,"top_logprobs":[{"token":"Yes","logprob":-0.5,"bytes":null},{"token":"\"No\"","logprob":-2,"bytes":null}]},{"token":" é","logprob":-1e-3,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

fn to(delivery: Delivery) -> ReplyTo {
    ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery }
}

fn chat() -> Reply {
    Upstream::Chat.reply(CHAT.as_bytes()).unwrap()
}

fn fault(body: &str) -> String {
    request::decode(body.as_bytes()).unwrap_err().public.into_owned()
}

#[test]
fn a_prompt_becomes_a_message_in_any_of_its_forms() {
    for body in [
        r#"{"model":"m","prompt":"Hi é"}"#,
        r#"{"model":"m","prompt":["Hi \u00e9"],"suffix":"","best_of":1}"#,
    ] {
        let read = request::decode(body.as_bytes()).unwrap();
        assert_eq!(read.messages.len(), 1);
        let [part] = read.messages[0].parts.as_slice() else { panic!("{read:?}") };
        assert_eq!(part.content, Content::Text("Hi é".into()));
        assert!(read.left.is_empty() && read.limit.is_none());
    }
}

#[test]
fn what_needs_the_same_api_upstream_is_refused_by_name() {
    for (member, expected) in [
        (
            r#""prompt":["a","b"]"#,
            "prompt: the upstream of this model takes one prompt at a time; ask once for each",
        ),
        (r#""prompt":[1,2]"#, "prompt: the upstream of this model takes no tokens; send the prompt as text"),
        (
            r#""prompt":[[1],[2]]"#,
            "prompt: the upstream of this model takes no tokens; send the prompt as text",
        ),
        (r#""prompt":[]"#, "prompt: must hold a prompt"),
        (r#""prompt":{}"#, "prompt: must be a string or an array of strings"),
        (r#""x":1"#, "prompt: is required"),
        (r#""prompt":"a","suffix":7"#, "suffix: must be a string"),
        (
            r#""prompt":"a","suffix":"b""#,
            "suffix: the upstream of this model cannot write what stands before a text; put all of it in 'prompt'",
        ),
        (r#""prompt":"a","logprobs":true"#, "logprobs: must be a whole number that is not negative"),
    ] {
        assert_eq!(fault(&format!(r#"{{"model":"m",{member}}}"#)), expected);
    }
    let read = request::decode(br#"{"model":"m","prompt":"a","echo":true,"best_of":3}"#).unwrap();
    let left: Vec<&str> = read.left.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(left, ["echo", "best_of"]);
}

#[test]
fn a_reply_is_a_completion_with_its_likelihoods() {
    let mut notes = Notes::default();
    let told = Client::Completions.reply(&chat(), &to(Delivery::Whole), &mut notes);
    let expected = json!({"id": "cmpl-x1", "object": "text_completion", "created": 5, "model": "m",
        "choices": [{"text": "Yes é", "index": 0, "logprobs": {"tokens": ["Yes", " é"], "token_logprobs": [-0.5, -1e-3],
            "top_logprobs": [{"Yes": -0.5, "\"No\"": -2}, {}], "text_offset": [0, 3]}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}});
    assert_eq!(serde_json::from_slice::<Value>(&told).unwrap(), expected);
    let noted: Vec<&str> = notes.list().iter().map(|note| note.path.as_str()).collect();
    assert_eq!(noted, ["reply: reasoning"]);
}

#[test]
fn a_stream_tells_the_same_in_pieces() {
    let chunks = [
        r#"{"id":"chatcmpl-1","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":"Yes"},"logprobs":{"content":[{"token":"Yes","logprob":-0.5,"top_logprobs":[]}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":" é"},"logprobs":{"content":[{"token":" é","logprob":-1,"top_logprobs":[]}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
        "[DONE]",
    ];
    let mut stream = Stream::new(Upstream::Chat, Client::Completions, to(Delivery::StreamWithUsage));
    let mut sent = Vec::new();
    chunks.iter().for_each(|chunk| stream.push(format!("data: {chunk}\n\n").as_bytes(), &mut sent));
    stream.finish(&mut sent);
    let (mut told, mut reader) = (Vec::new(), sse::Reader::default());
    reader.push(&sent, &mut |event| told.push(String::from_utf8(event.data.into_owned()).unwrap())).unwrap();
    assert_eq!(told.pop().as_deref(), Some("[DONE]"));
    let told: Vec<Value> = told.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(told.iter().all(|chunk| chunk["id"] == "cmpl-x1" && chunk["object"] == "text_completion"));
    let (usage, choices) = told.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    let text: String = choices.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "Yes é");
    let offsets =
        choices.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"][0].as_u64());
    assert_eq!(offsets.collect::<Vec<_>>(), [0, 3]);
    assert_eq!(choices.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(choices.iter().all(|chunk| chunk["usage"].is_null()));
}
