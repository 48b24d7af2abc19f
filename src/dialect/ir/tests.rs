//! The law under events that no decoder would tell, and the shape of conversations.

use super::*;
use crate::dialect::usage::{Input, Usage};
use crate::error::Kind;

/// What a law lets out, one word an event.
fn told(events: impl IntoIterator<Item = Event<'static>>) -> Vec<String> {
    let (mut law, mut told) = (Law::default(), Vec::new());
    for event in events {
        law.push(event, &mut |event| told.push(word(&event)));
    }
    assert!(law.is_over());
    told
}

fn word(event: &Event<'_>) -> String {
    match event {
        Event::Start(_) => "start".to_owned(),
        Event::Open { block, kind: Block::ToolCall { name, .. } } => format!("open {block} {}", name.plain()),
        Event::Open { block, kind: Block::Text } => format!("open {block}"),
        Event::Open { block, .. } => format!("open {block} other"),
        Event::Delta { block, text } => format!("{block} {}", text.plain()),
        Event::Attach { block, .. } => format!("attach {block}"),
        Event::Close { block } => format!("close {block}"),
        Event::Usage(usage) => format!("usage {:?}", usage.input.total),
        Event::Finish(finish) => format!("{:?}", finish.stop),
        Event::End => "end".to_owned(),
        Event::Failed(error) => format!("failed {}", error.private),
        Event::KeepAlive => "alive".to_owned(),
    }
}

fn text(block: u32) -> Event<'static> {
    Event::Open { block, kind: Block::Text }
}

fn tool(block: u32, name: &'static str) -> Event<'static> {
    Event::Open { block, kind: Block::ToolCall { id: Text::from("i"), name: Text::from(name) } }
}

fn delta(block: u32, text: &'static str) -> Event<'static> {
    Event::Delta { block, text: Text::from(text) }
}

fn close(block: u32) -> Event<'static> {
    Event::Close { block }
}

fn finish(stop: Stop) -> Event<'static> {
    Event::Finish(Finish::new(stop, Origin::Chat, Text::from("raw")))
}

fn seal(block: u32) -> Event<'static> {
    let what = Attachment::Signature { origin: Origin::Gemini, text: Text::from("s") };
    Event::Attach { block, what }
}

fn usage(total: u64) -> Event<'static> {
    Event::Usage(Usage { input: Input { total: Some(total), ..Input::default() }, ..Usage::default() })
}

#[test]
fn blocks_are_told_one_after_the_other() {
    let events = [
        tool(7, "f"),
        text(3),
        delta(7, "{"),
        delta(3, "a"),
        tool(5, "g"),
        delta(3, "b"),
        close(3),
        delta(7, "}"),
        seal(5),
        usage(1),
        close(7),
        delta(5, "1"),
        finish(Stop::End),
        usage(2),
        Event::End,
    ];
    let expected = [
        "start",
        "open 0 f",
        "0 {",
        "0 }",
        "close 0",
        "open 1",
        "1 ab",
        "close 1",
        "open 2 g",
        "attach 2",
        "2 1",
        "close 2",
        "usage Some(2)",
        "ToolCalls",
    ];
    assert_eq!(told(events), expected);
}

#[test]
fn calls_of_one_id_come_apart() {
    let mut fold = Fold::default();
    [tool(0, "f"), tool(1, "g"), finish(Stop::ToolCalls), Event::End]
        .into_iter()
        .for_each(|event| fold.push(event));
    let ids = fold.finish().unwrap().blocks.into_iter().map(|whole| match whole.block {
        Block::ToolCall { id, .. } => id.plain().into_owned(),
        block => panic!("{block:?}"),
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["i", ""]);
}

#[test]
fn nothing_empty_is_told_but_a_call_without_arguments() {
    let events = [
        text(0),
        delta(0, ""),
        close(0),
        tool(1, "f"),
        close(1),
        tool(2, "g"),
        text(3),
        finish(Stop::Length),
        Event::End,
    ];
    assert_eq!(
        told(events),
        ["start", "open 0 f", "0 {}", "close 0", "open 1 g", "1 {}", "close 1", "Length"]
    );
    assert_eq!(told([finish(Stop::End), Event::End]), ["start", "End"]);
}

#[test]
fn a_call_that_stands_for_the_answer_is_text() {
    let events = [tool(0, FALLBACK_TOOL), delta(0, "{}"), finish(Stop::ToolCalls), Event::End];
    assert_eq!(told(events), ["start", "open 0", "0 {}", "close 0", "End"]);
    let both = [tool(0, FALLBACK_TOOL), delta(0, "{}"), tool(1, "f"), finish(Stop::ToolCalls), Event::End];
    assert_eq!(told(both).last().unwrap(), "ToolCalls");
}

#[test]
fn what_makes_no_sense_fails_once_and_for_all() {
    let cases: [(&[Event<'static>], &str); 6] = [
        (&[Event::End], "the stream ended without its terminal event"),
        (&[delta(1, "a")], "block 1 is added to, but not open"),
        (&[text(0), delta(0, "a"), text(0)], "block 0 begins twice"),
        (&[text(0), close(0), delta(0, "a")], "block 0 is added to, but not open"),
        (&[finish(Stop::End), text(0)], "there is more after the end of the reply"),
        (&[tool(0, "f"), text(1), close(1), delta(1, "a")], "block 1 is added to after its end"),
    ];
    for (events, why) in cases {
        let after = [text(9), delta(9, "x"), finish(Stop::End), Event::End, Event::KeepAlive];
        let told = told(events.iter().cloned().chain(after));
        assert_eq!(told.last().unwrap(), &format!("failed {why}"));
        assert_eq!(told.iter().filter(|word| word.starts_with("failed")).count(), 1);
    }
}

#[test]
fn any_events_become_a_lawful_stream() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut events = Vec::new();
        for _ in 0..random.usize(..14) {
            let block = random.u32(..3);
            events.push(match random.u8(..12) {
                0 => Event::Start(Start::default()),
                1 | 2 => text(block),
                3 | 4 => tool(block, "f"),
                5 | 6 => delta(block, "x"),
                7 | 8 => close(block),
                9 => seal(block),
                10 => usage(4),
                _ if random.u8(..4) == 0 => finish(Stop::End),
                _ => Event::KeepAlive,
            });
        }
        events.push(Event::End);
        keeps_the_law(&told(events.clone()), &events);
    }
}

/// Checks a told stream against the law, with a reader that shares nothing with it.
fn keeps_the_law(told: &[String], events: &[Event<'_>]) {
    let told: Vec<&str> = told.iter().map(String::as_str).filter(|word| *word != "alive").collect();
    let (mut open, mut next, mut over) = (None, 0_u32, false);
    for (index, word) in told.iter().enumerate() {
        assert!(!over, "{word} after the end: {events:?}");
        let mut words = word.split(' ');
        match words.next().unwrap() {
            "start" => assert_eq!(index, 0),
            "open" => {
                assert_eq!((open, words.next()), (None, Some(next.to_string().as_str())), "{told:?}");
                open = Some(next);
                next += 1;
            }
            "close" => assert_eq!(open.take().map(|block| block.to_string()).as_deref(), words.next()),
            "attach" => assert_eq!(open.map(|block| block.to_string()).as_deref(), words.next()),
            "usage" => assert_eq!((open, index + 2), (None, told.len())),
            "failed" => over = true,
            "End" | "ToolCalls" => {
                assert_eq!(open, None);
                over = true;
            }
            block => assert_eq!(open.map(|block| block.to_string()).as_deref(), Some(block), "{told:?}"),
        }
    }
    assert!(over, "{told:?}");
}

#[test]
fn what_waits_is_bounded() {
    let mut law = Law::default();
    let mut failed = 0;
    let mut out = |event: Event<'_>| failed += usize::from(matches!(event, Event::Failed(_)));
    law.push(tool(0, "f"), &mut out);
    law.push(text(1), &mut out);
    let chunk = "x".repeat(1 << 20);
    for _ in 0..20 {
        law.push(Event::Delta { block: 1, text: Text::new(chunk.as_str()) }, &mut out);
    }
    assert_eq!(failed, 1);
}

#[test]
fn a_failed_reply_folds_to_its_error() {
    let mut fold = Fold::default();
    fold.push(Event::Failed(reported(br#"{"error":{"message":"Slow down","type":"rate_limit_error"}}"#)));
    let error = fold.finish().unwrap_err();
    assert_eq!((error.kind, error.public.as_ref()), (Kind::RateLimited, "Slow down"));
    let secret = reported(br#"{"error":{"message":"Incorrect API key sk-1","code":"invalid_api_key"}}"#);
    assert!(!secret.public.contains("sk-1"));
    assert_eq!(Fold::default().finish().unwrap_err().kind, Kind::UpstreamFailed);
}

#[test]
fn turns_join_what_one_side_says_and_put_results_first() {
    let said = |role, parts: Vec<Content<'static>>| Message {
        role,
        parts: parts.into_iter().map(Part::from).collect(),
    };
    let word = |text| Content::Text(Text::from(text));
    let result = |id| {
        Content::ToolResult(ToolResult { id: Text::from(id), content: Vec::new(), outcome: Outcome::Success })
    };
    let call = |id| {
        let arguments = Arguments::Text(Text::from(""));
        Content::ToolCall(ToolCall { id: Text::from(id), name: Text::from("f"), arguments, signature: None })
    };
    let messages = [
        said(Role::Assistant, vec![call("a"), call("b")]),
        said(Role::User, vec![word("so"), result("b")]),
        said(Role::User, vec![result("a")]),
    ];
    assert!(check_results(&messages, node::Path::Root.member("messages"), 0).is_ok());
    let turns = turns(&messages);
    assert_eq!(turns.len(), 2);
    let order: Vec<&Content<'_>> = turns[1].parts.iter().map(|part| &part.content).collect();
    assert_eq!(order, [&result("b"), &result("a"), &word("so")]);
    let error = check_results(&messages[1..], node::Path::Root.member("messages"), 0).unwrap_err();
    assert_eq!(error.public, "messages[0]: the tool result for 'b' has no tool call before it");
}

#[test]
fn calls_are_the_models_and_results_are_not() {
    let call = Content::ToolCall(ToolCall {
        id: "a".into(),
        name: "f".into(),
        arguments: Arguments::Text(Text::default()),
        signature: None,
    });
    let result =
        Content::ToolResult(ToolResult { id: "a".into(), content: Vec::new(), outcome: Outcome::Success });
    let message = |role, content: &Content<'static>| Message { role, parts: vec![content.clone().into()] };
    for (roles, expected) in [
        ([Role::Assistant, Role::User], None),
        (
            [Role::User, Role::User],
            Some("messages[0]: only the model calls tools; give this message its role"),
        ),
        (
            [Role::Assistant, Role::Assistant],
            Some("messages[1]: the model gives no tool results; give this message another role"),
        ),
    ] {
        let messages = [message(roles[0], &call), message(roles[1], &result)];
        assert_eq!(
            check_results(&messages, node::Path::Root.member("messages"), 0)
                .err()
                .map(|error| error.public.into_owned())
                .as_deref(),
            expected
        );
    }
}

#[test]
fn arguments_take_both_forms() {
    let forms = |arguments: Arguments<'_>| {
        let (mut object, mut string) = (Vec::new(), Vec::new());
        let is_object = arguments.object_into(&mut object);
        arguments.quote_into(&mut string);
        (is_object, String::from_utf8(object).unwrap(), String::from_utf8(string).unwrap())
    };
    let text = |text| forms(Arguments::Text(Text::from(text)));
    let own = |is_object, object: &str, string: &str| (is_object, object.to_owned(), string.to_owned());
    assert_eq!(text(""), own(true, "{}", "\"{}\""));
    assert_eq!(text("{\"a\":1}"), own(true, "{\"a\":1}", "\"{\\\"a\\\":1}\""));
    assert_eq!(text("{\r\n \"a\":\n1}").1, "{ \"a\":1}");
    assert_eq!(forms(Arguments::Object(Json::checked("{\n}"))).1, "{}");
    assert_eq!(text("[1"), own(false, "{\"input\":\"[1\"}", "\"[1\""));
    assert_eq!(forms(Arguments::Object(Json::checked("{}"))), own(true, "{}", "\"{}\""));
}

#[test]
fn a_media_type_ends_no_data_url_early() {
    let source = |kind| Source::of_base64(kind, Text::from("QQ=="), node::Path::Root.member("data"));
    assert!(source("audio/pcm;rate=16000").is_ok());
    for bad in ["imag;x/g", "/png", "image/", "image", "ima ge/png", ";image/png", ""] {
        assert!(source(bad).is_err(), "{bad:?}");
    }
    let error = source("image/png;base64,QUFB").unwrap_err();
    assert_eq!(error.public, "data: must come with one media type, such as image/png");
}
