//! Streams of every dialect in which what is looked for is cut in two.

use super::*;
use crate::dialect::ir::{Delivery, Finish, Origin, ReplyTo, Start, Stop};
use crate::dialect::translate::{Client, Stream, Upstream};

fn passed(events: Vec<Event<'_>>) -> Vec<String> {
    let mut filter = Events::new(Kinds::ALL);
    let mut told = Vec::new();
    for event in events {
        filter.pass(event, &mut |event| {
            told.push(match event {
                Event::Delta { block, text } => format!("{block}:{}", text.plain()),
                Event::Attach { .. } => "attached".to_owned(),
                Event::Close { block } => format!("close {block}"),
                Event::Finish(_) => "finish".to_owned(),
                Event::Failed(_) => "failed".to_owned(),
                Event::Open { block, .. } => format!("open {block}"),
                _ => "other".to_owned(),
            });
        });
    }
    told
}

fn delta(block: u32, text: &str) -> Event<'_> {
    Event::Delta { block, text: Text::new(text) }
}

fn open(block: u32) -> Event<'static> {
    Event::Open { block, kind: Block::Text }
}

#[test]
fn a_match_across_events_is_one_and_blocks_do_not_mix() {
    let told = passed(vec![
        Event::Start(Start::default()),
        open(0),
        open(1),
        delta(0, "mail jane@ex"),
        delta(1, "call +49 30 "),
        delta(0, "ample.com now"),
        delta(1, "1234567"),
        Event::Close { block: 0 },
        Event::Finish(Finish::new(Stop::End, Origin::Chat, Text::new("stop"))),
    ]);
    assert_eq!(
        told,
        [
            "other",
            "open 0",
            "open 1",
            "0:mail ",
            "1:call ",
            "0:[EMAIL] ",
            "0:now",
            "close 0",
            "1:[PHONE]",
            "finish"
        ]
    );
}

#[test]
fn arguments_pass_and_what_would_tell_all_the_same_does_not() {
    let signature = || Attachment::Signature { origin: Origin::Messages, text: Text::new("seal") };
    let logprobs = Json::value("[]".to_owned()).unwrap();
    let told = passed(vec![
        Event::Open { block: 0, kind: Block::ToolCall { id: Text::new("i"), name: Text::new("f") } },
        delta(0, "{\"to\":\"a@b.com\"}"),
        open(1),
        delta(1, "x "),
        Event::Attach { block: 1, what: Attachment::Logprobs(logprobs) },
        Event::Close { block: 1 },
        Event::Open { block: 2, kind: Block::Reasoning(Origin::Messages) },
        delta(2, "of a@b.com"),
        Event::Attach { block: 2, what: signature() },
        Event::Close { block: 2 },
        Event::Open { block: 3, kind: Block::Reasoning(Origin::Messages) },
        delta(3, "of nobody"),
        Event::Attach { block: 3, what: signature() },
        Event::Failed(crate::dialect::ir::broken("x")),
    ]);
    assert_eq!(
        told,
        [
            "open 0",
            "0:{\"to\":\"a@b.com\"}",
            "open 1",
            "1:x ",
            "close 1",
            "open 2",
            "2:of ",
            "2:[EMAIL]",
            "close 2",
            "open 3",
            "3:of ",
            "3:nobody",
            "attached",
            "failed",
        ]
    );
}

#[test]
fn halves_of_a_character_that_come_apart_are_one() {
    let told = passed(vec![
        open(0),
        Event::Delta { block: 0, text: Text::Escaped("x \\ud83d".into()) },
        Event::Delta { block: 0, text: Text::Escaped("\\ude00 y".into()) },
        Event::Delta { block: 0, text: Text::Escaped("\\\\ud83d".into()) },
        Event::Close { block: 0 },
    ]);
    assert_eq!(told.concat(), "open 00:x 0:\u{1f600} 0:y\\0:ud83dclose 0");
}

/// What clients of every dialect are told of a stream of chat.
#[test]
fn in_every_dialect_a_client_is_told_the_same() {
    let piece = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let end = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for client in Client::ALL {
        let to = ReplyTo { delivery: Delivery::StreamWithUsage, ..ReplyTo::default() };
        let mut stream = Stream::new(Upstream::Chat, client, to).filtered(Box::new(Events::new(Kinds::ALL)));
        let mut told = Vec::new();
        for text in ["Jane is jane", "@exam", "ple.co", "m, card 4111 1111 ", "1111 1111", "."] {
            stream.push(piece(text).as_bytes(), &mut told);
        }
        stream.push(end.as_bytes(), &mut told);
        stream.finish(&mut told);
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("[EMAIL]") && told.contains("[CARD]"), "{client:?}: {told}");
        for secret in ["jane@", "exam", "4111", "1111"] {
            assert!(!told.contains(secret), "{client:?} is told {secret}: {told}");
        }
        assert!(stream.failure().is_none() && stream.is_over());
    }
}
