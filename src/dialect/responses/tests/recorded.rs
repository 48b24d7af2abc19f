//! Every recorded reply of a dialect, decoded, encoded to each client's dialect, and read again.
//!
//! The recordings stand beside the checkout and are no part of the project; without them the test says so and passes.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A recorded reply.
struct Recorded {
    file: String,
    body: Vec<u8>,
}

/// What a naive reader, which builds trees, finds in a recording: answer, reasoning, names of calls.
pub(in crate::dialect) type Found = (String, String, Vec<String>);

/// Checks that nothing of any recorded reply of `upstream` is lost. `at_least` are the streams and whole replies that
/// there are; `naive` reads their documents.
pub(in crate::dialect) fn survives_recordings(
    upstream: Wire,
    at_least: (usize, usize),
    naive: impl Fn(&[Value], bool) -> Found,
) {
    let recordings: Vec<Recorded> = ruby(upstream).into_iter().chain(vercel(upstream)).collect();
    if recordings.is_empty() {
        println!("skipped: there are no recordings of {upstream:?} beside this checkout");
        return;
    }
    let (mut streams, mut wholes, mut failed) = (0, 0, Vec::new());
    for Recorded { file, body } in &recordings {
        let is_stream = [b"data:".as_slice(), b"event:", b":"].iter().any(|start| body.starts_with(start));
        *(if is_stream { &mut streams } else { &mut wholes }) += 1;
        let reply = if is_stream { upstream.folded(body) } else { upstream.whole(body) };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                failed.push(format!("{file}: {}", error.public));
                continue;
            }
        };
        let documents: Vec<Value> = match is_stream {
            true => events(body).into_iter().map(|(_, data)| data).collect(),
            false => vec![serde_json::from_slice(body).unwrap()],
        };
        let Kept { text, reasoning, calls, .. } = kept(&reply);
        let names: Vec<String> = calls.into_iter().map(|(_, name, _)| name).collect();
        assert_eq!((text, reasoning, names), naive(&documents, is_stream), "{file}");
        survives(file, upstream, &reply, is_stream.then_some(body));
    }
    println!(
        "{upstream:?}: {streams} streams, {wholes} whole replies; {} fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(streams >= at_least.0 && wholes >= at_least.1, "{streams} streams, {wholes} whole replies");
    // One recording is an error, and one holds a line that is no JSON.
    let known = |failed: &String| {
        ["openai-error", "parallel-tool-call-wrapper"].iter().any(|name| failed.contains(name))
    };
    assert!(failed.iter().all(known), "{}", failed.join("\n"));
}

fn survives(file: &str, upstream: Wire, reply: &Reply, stream: Option<&Vec<u8>>) {
    let expected = kept(reply);
    for client in CLIENTS {
        let whole = client.say(reply, &mut Notes::default());
        let again = client.whole(&whole).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
        assert_eq!(kept(&again).but(&expected), expected, "{file} to {client:?}");
        let Some(body) = stream else { continue };
        let out = client.sent(upstream, [body.as_slice()]);
        checked(client, &out);
        let again = client.folded(&out).unwrap_or_else(|error| panic!("{file} to {client:?}: {error}"));
        assert_eq!(kept(&again).but(&expected), expected, "{file} streamed to {client:?}");
        for size in [1, 7, 100] {
            assert!(client.sent(upstream, body.chunks(size)) == out, "{file} to {client:?} by {size}");
        }
    }
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

fn ruby(upstream: Wire) -> Vec<Recorded> {
    let end = match upstream {
        Wire::Chat => "/chat/completions",
        Wire::Messages => "/v1/messages",
        Wire::Responses => "/responses",
        Wire::Cohere => "/v2/chat",
        Wire::Ollama => "/api/chat",
    };
    recorded_at(end).into_iter().map(|(file, body)| Recorded { file, body }).collect()
}

/// The files and bodies of recorded replies to requests whose path ends in `end`.
pub(in crate::dialect) fn recorded_at(end: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files(folder("ruby_llm")) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.contains(end) {
            continue;
        }
        let recording: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        for interaction in recording["http_interactions"].as_sequence().unwrap() {
            let uri = interaction["request"]["uri"].as_str().unwrap().split('?').next().unwrap();
            let response = &interaction["response"];
            if uri.ends_with(end) && response["status"]["code"].as_u64() == Some(200) {
                found.push((path.display().to_string(), bytes(&response["body"]["string"])));
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

fn vercel(upstream: Wire) -> Vec<Recorded> {
    let (start, end) = match upstream {
        Wire::Responses => ("\"response.created\"", "\"type\":\"response.completed\""),
        Wire::Cohere => ("\"message-start\"", "\"type\":\"message-end\""),
        Wire::Chat | Wire::Messages | Wire::Ollama => return Vec::new(),
    };
    let mut found = Vec::new();
    for path in files(folder("vercel_ai")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let file = path.display().to_string();
        if file.ends_with(".chunks.txt") {
            if !text.lines().next().unwrap_or_default().contains(start) {
                continue;
            }
            // Some files hold the replies of a whole conversation, one after the other.
            let lines: Vec<&str> = text.lines().collect();
            for reply in lines.split_inclusive(|line| line.contains(end)) {
                let body: String = reply.iter().map(|line| format!("data: {line}\n\n")).collect();
                found.push(Recorded { file: file.clone(), body: body.into_bytes() });
            }
        } else if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let is_one = match upstream {
                Wire::Responses => value["object"] == "response",
                _ => value["message"].is_object() && value["finish_reason"].is_string(),
            };
            if is_one {
                found.push(Recorded { file, body: text.into_bytes() });
            }
        }
    }
    found
}

#[test]
fn recorded_responses_lose_nothing_on_their_way() {
    survives_recordings(Wire::Responses, (60, 150), |documents, is_stream| {
        let mut found = Found::default();
        for document in documents {
            match is_stream {
                true => naive_event(document, &mut found),
                false => array(&document["output"]).for_each(|item| naive_item(item, &mut found)),
            }
        }
        found
    });
}

fn naive_event(data: &Value, found: &mut Found) {
    let delta = word(&data["delta"]);
    match word(&data["type"]) {
        "response.output_text.delta" | "response.refusal.delta" => found.0.push_str(delta),
        "response.reasoning_text.delta" => found.1.push_str(delta),
        "response.reasoning_summary_text.delta" => {
            found.1.push_str(delta);
        }
        "response.reasoning_summary_part.added" if data["summary_index"] != 0 => found.1.push_str("\n\n"),
        "response.output_item.done" => {
            let mut calls = Found::default();
            naive_item(&data["item"], &mut calls);
            found.2.extend(calls.2);
        }
        _ => {}
    }
}

fn naive_item(item: &Value, (text, reasoning, calls): &mut Found) {
    match word(&item["type"]) {
        "message" => {
            for part in array(&item["content"]) {
                text.push_str(word(&part["text"]));
                text.push_str(word(&part["refusal"]));
            }
        }
        "reasoning" => {
            let sections = array(&item["summary"]).chain(array(&item["content"]));
            reasoning.push_str(&sections.map(|part| word(&part["text"])).collect::<Vec<_>>().join("\n\n"));
        }
        "function_call" | "custom_tool_call" => calls.push(word(&item["name"]).to_owned()),
        _ => {}
    }
}

pub(in crate::dialect) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(in crate::dialect) fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
