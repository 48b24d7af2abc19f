//! Streams that another upstream goes on with.

use super::*;
use crate::dialect::chat::resume;

fn chunk(delta: &Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "g",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn role() -> String {
    chunk(&json!({"role": "assistant", "content": ""}))
}

fn text(text: &str) -> String {
    chunk(&json!({"content": text}))
}

fn end(prompt: u64, output: u64) -> String {
    let finish = json!({"id": "chatcmpl-2", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"id": "chatcmpl-2", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}});
    format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

fn stream(client: Client) -> Stream {
    let mut stream = Stream::new(Upstream::Chat, client, to(Delivery::StreamWithUsage));
    stream.keep();
    stream
}

/// What a client is sent where the first upstream breaks off in the midst of an event, and a second goes on.
fn resumed(client: Client, first: &str, second: &str) -> (Vec<u8>, Option<String>) {
    let (mut stream, mut out) = (stream(client), Vec::new());
    stream.push(first.as_bytes(), &mut out);
    stream.push(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"never", &mut out);
    stream.begun().unwrap().unwrap();
    stream.go_on(Upstream::Chat);
    stream.push(second.as_bytes(), &mut out);
    stream.finish(&mut out);
    (out, stream.failure().map(|error| error.private.to_string()))
}

#[test]
fn a_client_of_any_dialect_sees_one_stream() {
    let words = ["One", " two", " é\n", "four", " five."];
    for client in Client::ALL {
        let all: String = words.iter().map(|word| text(word)).collect();
        let whole = [role(), all, end(9, 5)].concat();
        let expected = streamed(Upstream::Chat, client, Delivery::StreamWithUsage, [whole.as_bytes()]);
        for at in [1, 2, 4, 5] {
            let part = |words: &[&str]| words.iter().map(|word| text(word)).collect::<String>();
            let first = role() + &part(&words[..at]);
            let at_end = end(9 + at as u64, 5 - at as u64);
            let second = [role(), part(&words[at..]), at_end].concat();
            let (told, failure) = resumed(client, &first, &second);
            assert_eq!(failure, None);
            assert_eq!(events(&told), events(&expected), "{client:?} after {at}");
        }
    }
}

#[test]
fn blanks_at_the_end_of_the_text_come_again_and_are_told_once() {
    let first = [role(), text("One"), text(" two"), text("\n"), text("\n")].concat();
    let mut begun = stream(Client::Chat);
    begun.push(first.as_bytes(), &mut Vec::new());
    let so_far = begun.begun().unwrap().unwrap();
    assert_eq!((so_far.text, so_far.tokens, so_far.times), ("One two", Some(2), 0));
    let expected = {
        let whole = first.clone() + &text("Three") + &end(9, 5);
        events(&streamed(Upstream::Chat, Client::Chat, Delivery::StreamWithUsage, [whole.as_bytes()]))
    };
    // Cut differently, too.
    for again in [["\n", "\n", "Three"], ["\n\n", "", "Three"], ["\n", "", "\nThree"]] {
        let second = [role(), again.map(text).concat(), end(11, 3)].concat();
        let (told, failure) = resumed(Client::Chat, &first, &second);
        assert_eq!((failure, events(&told)), (None, expected.clone()), "{again:?}");
    }
    for other in [vec![" Three"], vec!["\n", "Three"], vec![]] {
        let second = role() + &other.into_iter().map(text).collect::<String>() + &end(11, 3);
        let (told, failure) = resumed(Client::Chat, &first, &second);
        assert!(failure.is_some_and(|why| why.contains("began another")));
        assert!(!String::from_utf8(told).unwrap().contains("Three"));
    }
}

#[test]
fn a_third_goes_on_with_what_a_second_went_on_with() {
    let (mut stream, mut out) = (stream(Client::Chat), Vec::new());
    let parts = [
        [role(), text("One"), text(" two"), text("\n")].concat(),
        // It has only begun to say the blanks again.
        role(),
        [role(), text("\n"), text("Three")].concat(),
        [role(), text(" four"), end(12, 1)].concat(),
    ];
    let mut seen = Vec::new();
    for part in &parts {
        stream.push(part.as_bytes(), &mut out);
        if let Ok(Some(begun)) = stream.begun() {
            seen.push((begun.text.to_owned(), begun.tokens, begun.times));
            stream.go_on(Upstream::Chat);
        }
    }
    stream.finish(&mut out);
    assert_eq!(stream.failure().map(|error| error.private.to_string()), None);
    let expected = [("One two", Some(2), 0), ("One two", Some(2), 1), ("One two\nThree", Some(4), 2)];
    assert_eq!(seen, expected.map(|(text, tokens, times)| (text.to_owned(), tokens, times)));
    let told = String::from_utf8(out).unwrap();
    let said: String = events(told.as_bytes())
        .iter()
        .filter_map(|(_, data)| data["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, "One two\nThree four");
    let usage = stream.seen().usage.unwrap();
    assert_eq!((usage.input.total, usage.output.total), (Some(8), Some(5)), "the prompt is the client's own");
}

#[test]
fn what_is_more_than_text_is_not_gone_on_with() {
    let call =
        json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a"}}]});
    let sure = json!({"content": "x"});
    let logprobs = format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": sure, "logprobs": {"content": [{"token": "x", "logprob": -1.0}]}}]})
    );
    for (first, why) in [
        (text("Let me see.") + &chunk(&call), "a tool was being called"),
        (chunk(&json!({"reasoning_content": "Hm."})), "the model had thought before it spoke"),
        (chunk(&json!({"reasoning_content": "Hm."})) + &text("So"), "the model had thought before it spoke"),
        (chunk(&json!({"refusal": "No"})), "the answer holds more than text"),
        (logprobs, "the answer holds more than text"),
        (text("\n"), "nothing was said"),
        (text("a\u{fffd}"), "the text holds a character that cannot be read"),
        (
            text(&"x".repeat(1 << 19)) + &text(&"x".repeat(1 << 19)) + &text("x"),
            "the text is too long to be kept",
        ),
    ] {
        let mut stream = stream(Client::Chat);
        stream.push((role() + &first).as_bytes(), &mut Vec::new());
        assert_eq!(stream.begun().map(|_| ()), Err(why));
        // What is complete needs nobody to go on with it, whatever it is.
        stream.push(end(3, 2).as_bytes(), &mut Vec::new());
        assert_eq!(stream.begun().map(|begun| begun.is_none()), Ok(true), "{why}");
    }
}

#[test]
fn the_rest_may_call_a_tool_but_not_think() {
    let first = [role(), text("Let me"), text(" see.")].concat();
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]});
    let (told, failure) = resumed(Client::Messages, &first, &[role(), chunk(&call), end(9, 4)].concat());
    assert_eq!(failure, None);
    let names: Vec<_> =
        events(&told).into_iter().map(|(_, data)| data["content_block"]["type"].clone()).collect();
    assert_eq!(names.iter().filter(|name| !name.is_null()).collect::<Vec<_>>(), ["text", "tool_use"]);
    let thought = chunk(&json!({"reasoning_content": "Hm."}));
    let (_, failure) = resumed(Client::Messages, &first, &[role(), thought, end(9, 4)].concat());
    assert!(failure.is_some());
}

#[test]
fn the_request_for_the_rest_is_one_that_chat_reads() {
    let asked =
        resume::request(br#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#, "He", Some(1));
    let read = asked.unwrap().unwrap();
    let read = Client::Chat.request(&read).unwrap();
    assert_eq!(read.messages.len(), 2);
    assert!(resume::obstacle(&read).is_some(), "it is asked but once");
}

/// A chunk of text that tells the tokens so far.
fn counted(text: &str, tokens: u64) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": tokens}});
    format!("data: {chunk}\n\n")
}

#[test]
fn no_more_tokens_are_taken_for_said_than_may_be_and_none_where_nobody_knows() {
    for (pieces, most) in [
        (vec![text("One"), text(" two"), text("\n")], Some(2)),
        (vec![text("One two")], None),
        (vec![text("One"), text("\n\nTwo")], None),
        (vec![text("incomprehensibilities")], None),
        // It may be one for each byte.
        (vec![text("One"), text(" \u{1f600}")], Some(5)),
        (vec![counted("One two three", 4)], Some(4)),
        (vec![text("One two"), counted(" three", 4)], Some(4)),
        (vec![counted("One two", 3), text(" three")], Some(4)),
        (vec![counted("One two", 3), text(" three four")], None),
        // The blanks come again, and are not spent.
        (vec![counted("One two", 3), counted("\n", 4), counted("\n", 5)], Some(3)),
        // One that counts nothing on the way does not count at all.
        (vec![counted("One", 0), counted(" two", 0)], Some(2)),
    ] {
        let mut stream = stream(Client::Chat);
        stream.push((role() + &pieces.concat()).as_bytes(), &mut Vec::new());
        assert_eq!(stream.begun().unwrap().unwrap().tokens, most, "{pieces:?}");
    }
}

#[test]
fn what_is_said_up_to_its_bound_is_ended_for_its_length() {
    for client in Client::ALL {
        let said = [role(), counted("One", 1), counted(" two", 2)].concat();
        let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]});
        let whole = said.clone() + &format!("data: {finish}\n\n") + &format!("data: {}\n\n", "[DONE]");
        let expected = streamed(Upstream::Chat, client, Delivery::StreamWithUsage, [whole.as_bytes()]);
        let (mut stream, mut out) = (stream(client), Vec::new());
        stream.push(said.as_bytes(), &mut out);
        stream.complete(&mut out);
        assert!(stream.is_over() && stream.failure().is_none());
        assert_eq!(events(&out), events(&expected), "{client:?}");
    }
}
