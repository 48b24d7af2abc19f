//! Every recorded reply of a dialect we read, decoded, encoded to each client's dialect, and read again.
//!
//! The recordings stand beside the checkout and are no part of the project; without them the test says so and passes.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::dialect::ir::{Block, Stop, Whole};
use crate::dialect::usage::Usage;

/// A recorded reply.
struct Recorded {
    file: String,
    upstream: Upstream,
    body: Vec<u8>,
}

impl Recorded {
    fn is_stream(&self) -> bool {
        [b"data:".as_slice(), b"event:", b":"].iter().any(|start| self.body.starts_with(start))
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
    let (mut streams, mut wholes, mut failed) = (0, 0, Vec::new());
    for recorded in &recordings {
        match recorded.decoded() {
            Ok(reply) => survives(recorded, &reply),
            Err(error) => failed.push(format!("{}: {error}", recorded.file)),
        }
        *(if recorded.is_stream() { &mut streams } else { &mut wholes }) += 1;
    }
    println!(
        "{streams} streams, {wholes} whole replies; {} of them fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(streams > 80 && wholes > 200, "{streams} streams, {wholes} whole replies");
    // One recording splices two messages together, in the midst of a tool call.
    assert!(failed.iter().all(|file| file.contains("spliced-message-start")), "{}", failed.join("\n"));
}

/// Checks that nothing of a reply is lost in any client's dialect, whole and streamed, however it is cut.
fn survives(recorded: &Recorded, reply: &Reply) {
    let Recorded { file, upstream, body } = recorded;
    let expected = kept(reply);
    let (text, reasoning, calls) = naive(recorded);
    assert_eq!((&expected.text, &expected.reasoning), (&text, &reasoning), "{file}");
    assert_eq!(
        expected.calls.iter().map(|(_, name, _)| name).collect::<Vec<_>>(),
        calls.iter().collect::<Vec<_>>()
    );
    for client in Client::ALL {
        let back = upstream_of(client);
        let whole = client.reply(reply, &to(Delivery::Whole), &mut Notes::default());
        let again = back.reply(&whole).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
        assert_eq!(kept(&again).but(&expected), expected, "{file} to {client:?}");
        if recorded.is_stream() {
            let out = streamed(*upstream, client, Delivery::StreamWithUsage, [body.as_slice()]);
            let again = folded(back, &out).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
            assert_eq!(kept(&again).but(&expected), expected, "{file} streamed to {client:?}");
            for size in [1, 7, 100] {
                let cut = streamed(*upstream, client, Delivery::StreamWithUsage, body.chunks(size));
                assert!(cut == out, "{file} to {client:?} in pieces of {size}");
            }
        }
    }
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
    /// What a dialect has to say although nothing is known of it is no loss.
    fn but(mut self, expected: &Self) -> Self {
        let (usage, wanted) = (&mut self.usage, &expected.usage);
        // Some hosts report more from the cache than there was altogether.
        if wanted.input.cached > wanted.input.total && usage.input.cached == usage.input.total {
            usage.input.cached = wanted.input.cached;
        }
        let counts = [
            (&mut usage.input.total, wanted.input.total),
            (&mut usage.input.cached, wanted.input.cached),
            (&mut usage.output.total, wanted.output.total),
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
        usage: reply.usage.unwrap_or_default(),
    }
}

/// What a naive reader, which builds trees, finds in a recording: answer, reasoning, names of calls.
fn naive(recorded: &Recorded) -> (String, String, Vec<String>) {
    let documents: Vec<Value> = if recorded.is_stream() {
        events(&recorded.body).into_iter().map(|(_, data)| data).collect()
    } else {
        vec![serde_json::from_slice(&recorded.body).unwrap()]
    };
    let mut found = (String::new(), String::new(), Vec::new());
    for document in &documents {
        for choice in array(&document["choices"]) {
            let delta = if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] };
            naive_chat(delta, &mut found);
        }
        let blocks = array(&document["content"]).chain(array(&document["message"]["content"]));
        for block in blocks.chain(Some(&document["content_block"])) {
            if block["type"] == "text" {
                found.0.push_str(word(&block["text"]));
            }
            found.1.push_str(word(&block["thinking"]));
            if block["type"] == "tool_use" {
                found.2.push(word(&block["name"]).to_owned());
            }
        }
        found.0.push_str(word(&document["delta"]["text"]));
        found.1.push_str(word(&document["delta"]["thinking"]));
    }
    found
}

fn naive_chat(delta: &Value, (text, reasoning, calls): &mut (String, String, Vec<String>)) {
    text.push_str(word(&delta["content"]));
    for chunk in array(&delta["content"]) {
        text.push_str(word(&chunk["text"]));
        array(&chunk["thinking"]).for_each(|part| reasoning.push_str(word(&part["text"])));
    }
    text.push_str(word(&delta["refusal"]));
    match (word(&delta["reasoning_content"]), word(&delta["reasoning"])) {
        ("", "") => array(&delta["reasoning_details"]).for_each(|detail| {
            reasoning.push_str(word(&detail["text"]));
            reasoning.push_str(word(&detail["summary"]));
        }),
        ("", words) | (words, _) => reasoning.push_str(words),
    }
    let names = array(&delta["tool_calls"]).map(|call| word(&call["function"]["name"]).to_owned());
    calls.extend(names.filter(|name| !name.is_empty()));
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

fn ruby() -> Vec<Recorded> {
    let mut found = Vec::new();
    for path in files(folder("ruby_llm")) {
        let text = fs::read_to_string(&path).unwrap();
        if !(text.contains("/chat/completions") || text.contains("/v1/messages")) {
            continue;
        }
        let recording: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        for interaction in recording["http_interactions"].as_sequence().unwrap() {
            let upstream = match interaction["request"]["uri"].as_str().unwrap().split('?').next().unwrap() {
                uri if uri.ends_with("/chat/completions") => Upstream::Chat,
                uri if uri.ends_with("/v1/messages") => Upstream::Messages,
                _ => continue,
            };
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
            let upstream = match text.lines().next().unwrap_or_default() {
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
                (Value::Object(_), _) => Upstream::Chat,
                (_, Some("message")) => Upstream::Messages,
                _ => continue,
            };
            found.push(Recorded { file, upstream, body: text.into_bytes() });
        }
    }
    found
}
