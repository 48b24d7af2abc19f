//! Recorded traffic through the verbatim relay: byte for byte, however it is cut, with the usage that it holds.

use std::collections::HashMap;

use forebay::dialect::Operation;
use forebay::sim::{Chunking, Config, Recorded, Replay, Sim};
use serde_json::{Value, json};

use crate::fixtures::{self, Exchange};
use crate::support::{Edge, ONE_TRY, fleet, post, sim};

/// The recorded exchanges that take no longer than this, or nothing and a line that says so.
fn recorded(longest: usize) -> Option<Vec<Exchange>> {
    let Some(mut exchanges) = fixtures::exchanges() else {
        println!("skipped: there are no recordings beside this checkout");
        return None;
    };
    exchanges.retain(|exchange| exchange.reply.len() <= longest && question(exchange).is_some());
    Some(exchanges)
}

fn path(operation: Operation) -> String {
    format!("/v1{}", operation.path())
}

/// An upstream that says what was recorded, in the order of the recordings, and an edge before it.
async fn site(exchanges: &[Exchange], chunking: Chunking) -> (Edge, Sim) {
    let recorded = exchanges.iter().map(|exchange| {
        let media = if exchange.is_stream() { "text/event-stream" } else { "application/json" };
        let mut headers = vec![("content-type".to_owned(), media.to_owned())];
        if !exchange.is_stream() {
            headers.push(("content-length".to_owned(), exchange.reply.len().to_string()));
        }
        let status = exchange.status as u16;
        Recorded { path: Some(path(exchange.operation)), status, headers, body: exchange.reply.clone() }
    });
    let replay = Replay { recorded: recorded.collect(), chunking };
    let kept = Config { record: exchanges.len(), record_body: 64 << 20, ..Config::default() };
    let sim = sim(Config { replay: Some(replay), ..kept }).await;
    let edge = Edge::start(&(fleet(&sim) + ONE_TRY)).await;
    (edge, sim)
}

/// The recorded request, which asks for usage where its dialect lets it; nothing if it is not JSON.
fn question(exchange: &Exchange) -> Option<Vec<u8>> {
    let mut tree: Value = serde_json::from_slice(&exchange.request).ok()?;
    // Some providers have the model in the path.
    tree.as_object_mut()?.entry("model").or_insert(json!("in-the-path"));
    if exchange.operation == Operation::ChatCompletions && tree["stream"] == true {
        tree["stream_options"]["include_usage"] = json!(true);
    }
    Some(tree.to_string().into_bytes())
}

/// Asks every recorded question over one connection and compares all that can be seen.
async fn replay(exchanges: &[Exchange], chunking: Chunking) {
    let (edge, sim) = site(exchanges, chunking).await;
    let mut client = edge.connect().await;
    for (number, exchange) in exchanges.iter().enumerate() {
        let (file, fields) = (&exchange.file, format!("x-request-id: replay-{number}\r\n"));
        let question = question(exchange).unwrap();
        let reply = client.ask(&post(&path(exchange.operation), &fields, &question)).await;
        assert!(reply.whole, "{file}: {reply:?}");
        assert_eq!(u64::from(reply.status), exchange.status, "{file}: {reply:?}");
        assert!(reply.body == exchange.reply, "{file} was altered: {reply:?}");
        let asked = sim.requests().pop().unwrap();
        assert!(asked.body == question, "the question of {file} was altered");
    }
    let lines = edge.accesses(exchanges.len()).await;
    let by_id: HashMap<&str, &Value> =
        lines.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect();
    for (number, exchange) in exchanges.iter().enumerate() {
        let line = by_id[format!("replay-{number}").as_str()];
        assert_eq!(logged(line), usage(exchange), "{}: {line}", exchange.file);
        assert_eq!(line["bytes_out"], exchange.reply.len(), "{}: {line}", exchange.file);
    }
}

// === What was used ===

const COUNTS: [&str; 4] = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"];

/// The counts of a line of the access log.
fn logged(line: &Value) -> [Option<u64>; 4] {
    COUNTS.map(|name| line[name].as_u64())
}

/// The counts of a recording, read from trees.
fn usage(exchange: &Exchange) -> [Option<u64>; 4] {
    let text = String::from_utf8_lossy(&exchange.reply);
    let events: Vec<Value> = if exchange.is_stream() {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    } else {
        serde_json::from_str(&text).into_iter().collect()
    };
    let mut merged = json!({});
    for told in events.iter().flat_map(|event| told(exchange.operation, event)) {
        for (name, value) in told.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            merged[name] = value.clone();
        }
    }
    counts(exchange.operation, &merged)
}

/// Where an event, or a whole reply, may hold usage.
fn told(operation: Operation, event: &Value) -> Vec<&Value> {
    let places: &[&str] = match operation {
        Operation::CountTokens => &[""],
        Operation::Messages => &["/message/usage", "/usage"],
        Operation::Responses => &["/response/usage", "/usage"],
        _ => &["/x_groq/usage", "/usage"],
    };
    places.iter().filter_map(|place| event.pointer(place)).collect()
}

fn counts(operation: Operation, usage: &Value) -> [Option<u64>; 4] {
    let at = |paths: &[&str]| paths.iter().find_map(|path| usage.pointer(path)?.as_u64());
    let mut input = at(&["/prompt_tokens", "/input_tokens"]);
    let mut cached = at(&[
        "/prompt_tokens_details/cached_tokens",
        "/input_tokens_details/cached_tokens",
        "/prompt_cache_hit_tokens",
    ]);
    if matches!(operation, Operation::Messages | Operation::CountTokens) {
        cached = at(&["/cache_read_input_tokens"]);
        let written = at(&["/cache_creation_input_tokens"]);
        input = input.map(|rest| rest + cached.unwrap_or(0) + written.unwrap_or(0));
    }
    let reasoning = at(&[
        "/completion_tokens_details/reasoning_tokens",
        "/output_tokens_details/reasoning_tokens",
        "/output_tokens_details/thinking_tokens",
    ]);
    [input, cached, at(&["/completion_tokens", "/output_tokens"]), reasoning]
}

// === Cut in every way ===

#[tokio::test]
async fn recordings_pass_byte_for_byte_in_one_piece() {
    let Some(exchanges) = recorded(usize::MAX) else { return };
    assert!(exchanges.len() > 400, "{} recordings", exchanges.len());
    replay(&exchanges, Chunking::Whole).await;
}

#[tokio::test]
async fn recordings_pass_byte_for_byte_in_single_bytes() {
    let Some(exchanges) = recorded(20 << 10) else { return };
    replay(&exchanges, Chunking::OneByte).await;
}

#[tokio::test]
async fn recordings_pass_byte_for_byte_in_pieces_of_seven() {
    let Some(exchanges) = recorded(200 << 10) else { return };
    replay(&exchanges, Chunking::Every(7)).await;
}

#[tokio::test]
async fn recordings_pass_byte_for_byte_in_random_pieces() {
    let Some(exchanges) = recorded(usize::MAX) else { return };
    replay(&exchanges, Chunking::Random(1)).await;
}

#[tokio::test]
async fn usage_that_the_client_did_not_ask_for_is_stripped_and_still_logged() {
    let Some(mut exchanges) = recorded(usize::MAX) else { return };
    exchanges.retain(|exchange| exchange.operation == Operation::ChatCompletions && exchange.is_stream());
    let (edge, sim) = site(&exchanges, Chunking::Random(2)).await;
    let mut client = edge.connect().await;
    let mut stripped = 0;
    for exchange in &exchanges {
        let mut question: Value = serde_json::from_slice(&question(exchange).unwrap()).unwrap();
        question.as_object_mut().unwrap().remove("stream_options");
        let reply = client.ask(&post(&path(exchange.operation), "", question.to_string())).await;
        let expected = without_usage(&String::from_utf8_lossy(&exchange.reply));
        assert!(reply.body == expected.as_bytes(), "{}: {reply:?}", exchange.file);
        stripped += usize::from(expected.len() < exchange.reply.len());
        let asked: Value = serde_json::from_slice(&sim.requests().pop().unwrap().body).unwrap();
        question["stream_options"] = json!({"include_usage": true});
        assert_eq!(asked, question, "{}", exchange.file);
    }
    assert!(stripped >= 10, "{stripped} of {} streams have such an event", exchanges.len());
    // One connection carries one exchange after another, so their lines are in order.
    for (line, exchange) in edge.accesses(exchanges.len()).await.iter().zip(&exchanges) {
        assert_eq!(logged(line), usage(exchange), "{}: {line}", exchange.file);
    }
}

/// A stream without the events that hold usage and nothing else.
fn without_usage(stream: &str) -> String {
    let blank = if stream.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    let says_more = |event: &&str| {
        let data = event.trim().strip_prefix("data:").unwrap_or_default();
        let tree: Value = serde_json::from_str(data).unwrap_or_default();
        tree["usage"].is_null() || tree["choices"] != json!([])
    };
    stream.split_inclusive(blank).filter(says_more).collect()
}
