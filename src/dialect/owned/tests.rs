use serde_json::{Value, json};

use super::*;

/// An owner whose marks are its name over and over.
struct Owner(&'static str);

impl Mark for Owner {
    fn mark(&self, value: &str) -> String {
        let mark: Vec<u8> = self.0.bytes().cycle().take(MARK).collect();
        format!("{value}{SIGN}{}", URL_SAFE_NO_PAD.encode(mark))
    }
}

fn seal(owner: &'static str) -> Owner {
    Owner(owner)
}

#[test]
fn what_is_no_whole_mark_is_none() {
    for wrong in ["resp_68", "resp_68_fb1", "resp_68_fb1short", "resp_68_fb1!!!!!!!!!!!!!!!!", ""] {
        assert_eq!(Marked::read(wrong), None, "{wrong}");
    }
    let own = seal("east").mark("a_fb1b");
    assert_eq!(Marked::read(&own).unwrap().plain, "a_fb1b", "the last sign counts");
}

#[test]
fn a_request_refers_to_the_response_before_it_and_to_marked_items() {
    let seal = seal("east");
    let (id, secret, item) = (seal.mark("resp_1"), seal.mark("gAAAA"), seal.mark("rs_1"));
    let body = json!({"model": "m", "previous_response_id": id, "input": [
        {"type": "reasoning", "id": item, "encrypted_content": secret, "summary": []},
        {"type": "message", "id": "msg_1", "role": "user", "content": "Hi"},
        {"type": "item_reference", "id": item},
    ]})
    .to_string();
    let found = references(body.as_bytes()).unwrap();
    let seen: Vec<_> = found.iter().map(|found| (found.at, found.marked.as_ref().unwrap().plain)).collect();
    assert_eq!(
        seen,
        [("previous_response_id", "resp_1"), ("input", "rs_1"), ("input", "gAAAA"), ("input", "rs_1")]
    );
    let plain = br#"{"previous_response_id":"resp_1","input":"Hi"}"#;
    let found = references(plain).unwrap();
    assert!(matches!(found.as_slice(), [Reference { at: "previous_response_id", marked: None, .. }]));
    for nothing in [
        &b"{}"[..],
        b"{\"previous_response_id\":null}",
        b"{\"previous_response_id\":7,\"input\":[1,\"x\"]}",
        b"{\"input\":\"_fb1\"}",
    ] {
        assert_eq!(references(nothing), Ok(Vec::new()), "{}", String::from_utf8_lossy(nothing));
    }
    for unclear in [
        &b"{"[..],
        b"[]",
        b"\xff",
        b"{\"previous_response_id\":\"a\",\"previous_response_id\":\"b\"}",
        b"{\"previous_response_id\":\"resp\\u005f1\"}",
        b"{\"input\":[{\"id\":\"a\",\"id\":\"b\"}]}",
    ] {
        assert_eq!(references(unclear), Err(Unreadable), "{}", String::from_utf8_lossy(unclear));
    }
}

#[test]
fn a_reply_is_marked_where_its_owner_would_look_it_up_and_nowhere_else() {
    let seal = seal("east");
    let body = Bytes::from_static(
        br#"{"id": "resp_2" ,"previous_response_id":"resp_1","metadata":{"id":"x"},"output":[{"type":"reasoning","id":"rs_1","encrypted_content":"gA"},{"type":"message","id":"msg_1","content":[{"type":"output_text","text":"\"id\":\"rs_1\""}]}]}"#,
    );
    let marked = marked_reply(&body, &seal);
    let (before, after): (Value, Value) =
        (serde_json::from_slice(&body).unwrap(), serde_json::from_slice(&marked).unwrap());
    let mut expected = before;
    expected["id"] = json!(seal.mark("resp_2"));
    expected["previous_response_id"] = json!(seal.mark("resp_1"));
    expected["output"][0]["id"] = json!(seal.mark("rs_1"));
    expected["output"][0]["encrypted_content"] = json!(seal.mark("gA"));
    assert_eq!(after, expected);
    for other in [&b"{}"[..], b"nonsense", b"", b"{\"id\":null,\"output\":null}"] {
        assert_eq!(marked_reply(&Bytes::from_static(other), &seal), other);
    }
}

const STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_2\",\"output\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"reasoning\",\"id\":\"rs_1\"}}\n\n",
    "data: {\"type\":\"response.reasoning_summary_text.delta\",\"item_id\":\"rs_1\",\"delta\":\"hm\"}\n\n",
    "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"resp_2\"}\n\n",
    "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"reasoning\",\"id\":\"rs_1\",\"encrypted_content\":\"gA\"}}\r\n\r\n",
    ": a comment\n\n",
    "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_2\",\"output\":[{\"type\":\"reasoning\",\"id\":\"rs_1\",\"encrypted_content\":\"gA\"}]}}\n\n",
);

fn streamed(chunks: &[&[u8]]) -> String {
    let mut marking = Marking::new(seal("east"));
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&marking.push(&Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&marking.finish());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_stream_is_marked_alike_however_it_is_split() {
    let seal = seal("east");
    let mark = |value: &str| format!("\":\"{}\"", seal.mark(value));
    let expected = STREAM
        .replace("id\":\"resp_2\"", &format!("id{}", mark("resp_2")))
        .replace("id\":\"rs_1\"", &format!("id{}", mark("rs_1")))
        .replace("content\":\"gA\"", &format!("content{}", mark("gA")));
    assert_eq!(streamed(&[STREAM.as_bytes()]), expected);
    let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
    assert_eq!(streamed(&bytes), expected);
    for split in 1..STREAM.len() {
        let (one, other) = STREAM.as_bytes().split_at(split);
        assert_eq!(streamed(&[one, other]), expected, "{split}");
    }
}

#[test]
fn what_is_not_marked_is_not_copied() {
    let mut marking = Marking::new(seal("east"));
    let text = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
    let chunk = Bytes::from(text.repeat(3));
    let out = marking.push(&chunk);
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
}

#[test]
fn an_event_too_large_to_be_held_passes_as_it_is() {
    let large = format!(
        "data: {{\"type\":\"x\",\"response\":{{\"id\":\"a\"}},\"y\":\"{}\"}}\n\n",
        "z".repeat(LONGEST + (2 << 20))
    );
    let stream = format!("{large}data: 1\n\n");
    let chunks: Vec<&[u8]> = stream.as_bytes().chunks(1 << 20).collect();
    assert!(streamed(&chunks) == stream);
}
