//! Every recorded reply of a dialect we read, decoded, encoded to each client's dialect, and read again.
//!
//! The recordings stand beside the checkout and are no part of the project; without them the test says so and passes.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::*;
use crate::dialect::gemini::tests::{Wire, frames};
use crate::dialect::ir::{Attachment, Block, Stop, Whole};
use crate::dialect::usage::{End, Kinds, ReplyTap, StreamTap, Usage};

/// A recorded reply.
struct Recorded {
    file: String,
    upstream: Upstream,
    body: Vec<u8>,
}

impl Recorded {
    fn is_stream(&self) -> bool {
        self.body.trim_ascii_start().first() != Some(&b'{')
    }

    fn decoded(&self) -> Result<Reply, Error> {
        if self.is_stream() { folded(self.upstream, &self.body) } else { self.upstream.reply(&self.body) }
    }
}

#[test]
fn recorded_replies_lose_nothing_on_their_way() {
    let recordings: Vec<Recorded> = ruby().into_iter().chain(vercel()).collect();
    if recordings.is_empty() {
        println!("skipped: there are no recordings beside this checkout");
        return;
    }
    let (mut counts, mut failed) = ([[0; 2]; Upstream::ALL.len()], Vec::new());
    for recorded in &recordings {
        match recorded.decoded() {
            Ok(reply) => {
                survives(recorded, &reply);
                assert_eq!(tapped(recorded), reply.usage, "{}", recorded.file);
            }
            Err(error) => failed.push(format!("{}: {error}", recorded.file)),
        }
        counts[recorded.upstream as usize][usize::from(recorded.is_stream())] += 1;
    }
    for upstream in [Upstream::Chat, Upstream::Messages, Upstream::Gemini, Upstream::Converse] {
        let [wholes, streams] = counts[upstream as usize];
        println!("{upstream:?}: {wholes} whole replies, {streams} streams");
        assert!(wholes > 60 && streams > 20, "{upstream:?}: {wholes}, {streams}");
    }
    // One recording splices two messages together, in the midst of a tool call.
    assert!(failed.iter().all(|file| file.contains("spliced-message-start")), "{}", failed.join("\n"));
}

/// Checks that nothing of a reply is lost in any client's dialect, whole and streamed, however it is cut.
fn survives(recorded: &Recorded, reply: &Reply) {
    let Recorded { file, upstream, body } = recorded;
    let expected = kept(reply);
    let found = naive(recorded);
    assert_eq!((&expected.text, &expected.reasoning), (&found.text, &found.reasoning), "{file}");
    let names: Vec<&String> = expected.calls.iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, found.calls.iter().collect::<Vec<_>>(), "{file}");
    if let Some(total) = found.total {
        let Usage { input, output, .. } = expected.usage;
        assert_eq!(input.total.unwrap_or(0) + output.total.unwrap_or(0), total, "{file}");
    }
    says_as_a_completion(recorded, reply);
    for client in readable() {
        let back = upstream_of(client);
        let whole = client.reply(reply, &to(Delivery::Whole), &mut Notes::default());
        let again = back.reply(&whole).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
        assert_eq!(kept(&again).but(&expected, client), expected, "{file} to {client:?}");
        if back == *upstream {
            assert_eq!(seals(&again), seals(reply), "{file}");
        }
        if recorded.is_stream() {
            let out = streamed(*upstream, client, Delivery::StreamWithUsage, [body.as_slice()]);
            let again = folded(back, &out).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
            assert_eq!(kept(&again).but(&expected, client), expected, "{file} streamed to {client:?}");
            for size in [1, 7, 100] {
                let cut = streamed(*upstream, client, Delivery::StreamWithUsage, body.chunks(size));
                assert!(cut == out, "{file} to {client:?} in pieces of {size}");
            }
        }
    }
}

/// Completions are no upstream's to read: what they say is compared as it stands.
fn says_as_a_completion(recorded: &Recorded, reply: &Reply) {
    let is_said = |whole: &&Whole| matches!(whole.block, Block::Text | Block::Refusal);
    let text: String =
        reply.blocks.iter().filter(is_said).map(|whole| whole.text().plain().into_owned()).collect();
    let whole = Client::Completions.reply(reply, &to(Delivery::Whole), &mut Notes::default());
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["choices"][0]["text"], text.as_str(), "{}", recorded.file);
    if recorded.is_stream() {
        let out =
            streamed(recorded.upstream, Client::Completions, Delivery::Stream, [recorded.body.as_slice()]);
        let said = events(&out)
            .into_iter()
            .filter_map(|(_, chunk)| chunk["choices"][0]["text"].as_str().map(str::to_owned));
        assert_eq!(said.collect::<String>(), text, "{} streamed", recorded.file);
    }
}

/// The usage that the tap of a verbatim reply reads.
fn tapped(recorded: &Recorded) -> Option<Usage> {
    let operation = recorded.upstream.operation();
    let pieces = recorded.body.chunks(50).map(Bytes::copy_from_slice);
    if !recorded.is_stream() {
        let mut tap = ReplyTap::new(operation);
        pieces.for_each(|piece| tap.push(&piece));
        return tap.finish();
    }
    let mut tap = StreamTap::new(operation, false);
    for piece in pieces {
        tap.push(&piece, &mut drop);
    }
    assert_eq!(tap.finish(&mut drop), End::Complete, "{}", recorded.file);
    tap.usage()
}

/// The seals of a reply.
fn seals(reply: &Reply) -> Vec<String> {
    let attached = reply.blocks.iter().flat_map(|whole| &whole.attached);
    let seal = |what: &Attachment<'_>| match what {
        Attachment::Signature { text, .. } => Some(text.plain().into_owned()),
        Attachment::Logprobs(_) | Attachment::Opaque(_) => None,
    };
    attached.filter_map(seal).collect()
}

/// What must survive.
#[derive(Debug, PartialEq)]
struct Kept {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, Value)>,
    stop: Stop,
    usage: Usage,
}

impl Kept {
    /// What a client's dialect has to say although nothing is known of it is no loss, nor is what it has no word for.
    fn but(mut self, expected: &Self, client: Client) -> Self {
        let (usage, wanted) = (&mut self.usage, &expected.usage);
        match client {
            Client::Gemini => usage.input.written = wanted.input.written,
            Client::Converse => usage.output.reasoning = wanted.output.reasoning,
            Client::Chat | Client::Messages | Client::Responses | Client::Completions => {}
        }
        // Some hosts report more from the cache than there was altogether.
        if wanted.input.cached > wanted.input.total && usage.input.cached == usage.input.total {
            usage.input.cached = wanted.input.cached;
        }
        let counts = [
            (&mut usage.input.total, wanted.input.total),
            (&mut usage.input.cached, wanted.input.cached),
            (&mut usage.input.written, wanted.input.written),
            (&mut usage.output.total, wanted.output.total),
            (&mut usage.output.reasoning, wanted.output.reasoning),
        ];
        for (count, wanted) in counts {
            *count = count.filter(|count| *count > 0 || wanted.is_some());
        }
        // A call without an id gets one.
        for ((id, ..), (wanted, ..)) in self.calls.iter_mut().zip(&expected.calls) {
            if wanted.is_empty() {
                id.clear();
            }
        }
        self
    }
}

fn kept(reply: &Reply) -> Kept {
    let joined = |is: fn(&Block<'_>) -> bool| -> String {
        reply
            .blocks
            .iter()
            .filter(|whole| is(&whole.block))
            .map(|whole| whole.text().plain().into_owned())
            .collect()
    };
    let call = |whole: &Whole| match &whole.block {
        Block::ToolCall { id, name } => {
            let arguments = serde_json::from_str(&whole.text().plain()).unwrap();
            Some((id.plain().into_owned(), name.plain().into_owned(), arguments))
        }
        _ => None,
    };
    Kept {
        text: joined(|block| matches!(block, Block::Text | Block::Refusal)),
        reasoning: joined(|block| matches!(block, Block::Reasoning(_))),
        calls: reply.blocks.iter().filter_map(call).collect(),
        stop: match reply.finish.stop {
            // Chat has one word for all of these.
            Stop::Sequence | Stop::Paused | Stop::Malformed => Stop::End,
            stop => stop,
        },
        // What is priced apart is for Forebay alone.
        usage: Usage { kinds: Kinds::default(), ..reply.usage.unwrap_or_default() },
    }
}

/// What a naive reader, which builds trees, finds in a recording.
#[derive(Default)]
struct Naive {
    text: String,
    reasoning: String,
    calls: Vec<String>,
    /// All tokens, where a dialect's sum can be relied on.
    total: Option<u64>,
}

fn naive(recorded: &Recorded) -> Naive {
    let Recorded { upstream, body, .. } = recorded;
    let documents: Vec<Value> = match (recorded.is_stream(), upstream) {
        (false, _) => vec![serde_json::from_slice(body).unwrap()],
        (true, Upstream::Converse) => {
            frames(body).iter().map(|(_, payload)| serde_json::from_str(payload).unwrap()).collect()
        }
        (true, _) => events(body).into_iter().map(|(_, data)| data).collect(),
    };
    let mut found = Naive::default();
    for document in &documents {
        match upstream {
            Upstream::Gemini => naive_gemini(document, &mut found),
            Upstream::Converse => naive_converse(document, &mut found),
            Upstream::Messages => naive_messages(document, &mut found),
            _ => array(&document["choices"]).for_each(|choice| naive_chat(choice, &mut found)),
        }
    }
    found
}

fn naive_chat(choice: &Value, found: &mut Naive) {
    let delta = if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] };
    found.text.push_str(word(&delta["content"]));
    for chunk in array(&delta["content"]) {
        found.text.push_str(word(&chunk["text"]));
        array(&chunk["thinking"]).for_each(|part| found.reasoning.push_str(word(&part["text"])));
    }
    found.text.push_str(word(&delta["refusal"]));
    match (word(&delta["reasoning_content"]), word(&delta["reasoning"])) {
        ("", "") => array(&delta["reasoning_details"]).for_each(|detail| {
            found.reasoning.push_str(word(&detail["text"]));
            found.reasoning.push_str(word(&detail["summary"]));
        }),
        ("", words) | (words, _) => found.reasoning.push_str(words),
    }
    let names = array(&delta["tool_calls"]).map(|call| word(&call["function"]["name"]).to_owned());
    found.calls.extend(names.filter(|name| !name.is_empty()));
}

fn naive_messages(document: &Value, found: &mut Naive) {
    let blocks = array(&document["content"]).chain(array(&document["message"]["content"]));
    for block in blocks.chain([&document["content_block"]]) {
        if block["type"] == "text" {
            found.text.push_str(word(&block["text"]));
        }
        found.reasoning.push_str(word(&block["thinking"]));
        if block["type"] == "tool_use" {
            found.calls.push(word(&block["name"]).to_owned());
        }
    }
    found.text.push_str(word(&document["delta"]["text"]));
    found.reasoning.push_str(word(&document["delta"]["thinking"]));
}

fn naive_gemini(document: &Value, found: &mut Naive) {
    for part in array(&document["candidates"][0]["content"]["parts"]) {
        let place = if part["thought"] == true { &mut found.reasoning } else { &mut found.text };
        place.push_str(word(&part["text"]));
        found.calls.extend(part["functionCall"]["name"].as_str().map(str::to_owned));
    }
    found.total = document["usageMetadata"]["totalTokenCount"].as_u64().or(found.total);
}

fn naive_converse(document: &Value, found: &mut Naive) {
    let blocks = || array(&document["output"]["message"]["content"]);
    for block in blocks().chain([&document["delta"]]) {
        found.text.push_str(word(&block["text"]));
        array(&block["citationsContent"]["content"])
            .for_each(|cited| found.text.push_str(word(&cited["text"])));
        let thought = &block["reasoningContent"];
        found.reasoning.push_str(word(&thought["reasoningText"]["text"]));
        found.reasoning.push_str(word(&thought["text"]));
    }
    let calls = blocks().chain([&document["start"]]).map(|block| &block["toolUse"]);
    let own = calls.filter(|call| call["type"] != "server_tool_use");
    found.calls.extend(own.filter_map(|call| call["name"].as_str().map(str::to_owned)));
    found.total = document["usage"]["totalTokens"].as_u64().or(found.total);
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

// === The recordings ===

fn folder(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = env::var_os("FOREBAY_FIXTURES").map_or(beside, PathBuf::from);
    Some(root.join(name)).filter(|folder| folder.is_dir())
}

/// The files below a folder, in order.
fn files(folder: Option<PathBuf>) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), Vec::from_iter(folder));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

const PATHS: [(&str, Upstream); 6] = [
    ("/chat/completions", Upstream::Chat),
    ("/v1/messages", Upstream::Messages),
    (":generateContent", Upstream::Gemini),
    (":streamGenerateContent", Upstream::Gemini),
    ("/converse", Upstream::Converse),
    ("/converse-stream", Upstream::Converse),
];

fn ruby() -> Vec<Recorded> {
    let mut found = Vec::new();
    for path in files(folder("ruby_llm")) {
        let text = fs::read_to_string(&path).unwrap();
        if !PATHS.iter().any(|(path, _)| text.contains(path)) {
            continue;
        }
        let recording: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        for interaction in recording["http_interactions"].as_sequence().unwrap() {
            let uri = interaction["request"]["uri"].as_str().unwrap().split('?').next().unwrap();
            let Some((_, upstream)) = PATHS.iter().find(|(path, _)| uri.ends_with(path)) else { continue };
            let upstream = *upstream;
            let response = &interaction["response"];
            if response["status"]["code"].as_u64() == Some(200) {
                let body = bytes(&response["body"]["string"]);
                found.push(Recorded { file: path.display().to_string(), upstream, body });
            }
        }
    }
    found
}

/// A recorded body: text, or base64 under the tag `!binary`.
fn bytes(value: &serde_yaml::Value) -> Vec<u8> {
    match value {
        serde_yaml::Value::String(text) => text.clone().into_bytes(),
        serde_yaml::Value::Tagged(tagged) => {
            let text: String = tagged.value.as_str().unwrap().split_whitespace().collect();
            STANDARD.decode(text).unwrap()
        }
        _ => Vec::new(),
    }
}

fn vercel() -> Vec<Recorded> {
    let mut found = Vec::new();
    for path in files(folder("vercel_ai")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let file = path.display().to_string();
        if file.ends_with(".chunks.txt") {
            if file.contains("vercel_ai/amazon-bedrock/") {
                found.push(Recorded { file, upstream: Upstream::Converse, body: converse(&text) });
                continue;
            }
            let upstream = match text.lines().next().unwrap_or_default() {
                // The folders in it hold other APIs.
                _ if path.parent().is_some_and(|folder| folder.ends_with("google")) => Upstream::Gemini,
                line if line.contains("\"message_start\"") => Upstream::Messages,
                line if line.contains("\"chat.completion.chunk\"") => Upstream::Chat,
                _ => continue,
            };
            // Some files hold the replies of a whole conversation, one after the other.
            let lines: Vec<&str> = text.lines().collect();
            for reply in lines.split_inclusive(|line| line.contains("\"type\":\"message_stop\"")) {
                let body: String = reply.iter().map(|line| format!("data: {line}\n\n")).collect();
                found.push(Recorded { file: file.clone(), upstream, body: body.into_bytes() });
            }
        } else if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let upstream = match (&value["choices"][0]["message"], value["type"].as_str()) {
                _ if value["candidates"].is_array() => Upstream::Gemini,
                _ if value["output"].is_object() => Upstream::Converse,
                (Value::Object(_), _) => Upstream::Chat,
                (_, Some("message")) => Upstream::Messages,
                _ => continue,
            };
            found.push(Recorded { file, upstream, body: text.into_bytes() });
        }
    }
    found
}

/// A stream of these events. Some recordings were written by hand and leave out how a stream ends.
fn converse(text: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    if !text.contains("{\"metadata\":") {
        lines.push(r#"{"metadata":{"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3}}}"#);
    }
    Wire::Converse.stream(&lines)
}
