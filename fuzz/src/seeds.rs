//! Inputs to begin with, made of what the golden files of the dialects hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::dialect::ir::{Delivery, ReplyTo};
use crate::dialect::translate::{Client, Stream, Upstream};

/// The longest seed: a thousand deltas teach no more than a hundred.
const MOST: usize = 8 << 10;

/// A folder of golden files: the cases of each, by its dialect's name.
fn cases(folder: &str, dialect: impl std::fmt::Debug) -> Vec<Value> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/dialects");
    let path = golden.join(folder).join(format!("{dialect:?}.json").to_lowercase());
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Value = serde_json::from_slice(&text).expect("a golden file is JSON");
    cases.as_object().map(|cases| cases.values().cloned().collect()).unwrap_or_default()
}

/// Puts what chooses before an input.
fn chosen(choice: &[usize], body: &[u8]) -> Vec<u8> {
    let mut seed: Vec<u8> = choice.iter().map(|byte| *byte as u8).collect();
    seed.extend_from_slice(&body[..body.len().min(MOST)]);
    seed
}

pub(crate) fn bodies() -> Vec<Vec<u8>> {
    requests().into_iter().map(|seed| seed[2..].to_vec()).collect()
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let of = |(index, client): (usize, Client)| {
        let cases = cases("requests", client).into_iter().enumerate();
        cases.map(move |(model, body)| chosen(&[index, model], body.to_string().as_bytes()))
    };
    Client::ALL.into_iter().enumerate().flat_map(of).collect()
}

pub(crate) fn replies() -> Vec<Vec<u8>> {
    let of = |(index, upstream): (usize, Upstream)| {
        let wholes = cases("replies", upstream).into_iter().filter_map(|case| case.get("whole").cloned());
        wholes.map(move |body| chosen(&[index], body.to_string().as_bytes()))
    };
    Upstream::ALL.into_iter().enumerate().flat_map(of).collect()
}

pub(crate) fn errors() -> Vec<Vec<u8>> {
    let of = |upstream| {
        let bodies = cases("replies", upstream).into_iter().filter_map(|case| case.get("error").cloned());
        bodies.map(|body| chosen(&[1], body.to_string().as_bytes()))
    };
    let rates = [
        "x-ratelimit-limit-requests:5\nx-ratelimit-reset-requests:1e19",
        "x-ratelimit-limit-requests:5000\nx-ratelimit-remaining-requests:4999\nx-ratelimit-reset-requests:1h6m0.5s12ms",
        "anthropic-ratelimit-input-tokens-limit:9\nanthropic-ratelimit-input-tokens-reset:2026-11-21T18:00:00Z",
    ];
    let rates = rates.iter().map(|headers| chosen(&[0], headers.as_bytes()));
    Upstream::ALL.into_iter().flat_map(of).chain(rates).collect()
}

pub(crate) fn streams() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, upstream) in Upstream::ALL.into_iter().enumerate() {
        for (number, stream) in wires(upstream).into_iter().enumerate() {
            seeds.push(chosen(&[index, number, number / Client::ALL.len(), number], &stream));
        }
    }
    seeds
}

/// The golden streams of an upstream, as they are on its wire.
fn wires(upstream: Upstream) -> Vec<Vec<u8>> {
    // Frames have sums, which the encoder knows how to make.
    if upstream == Upstream::Converse {
        return wires(Upstream::Chat).iter().map(|stream| translated(stream)).collect();
    }
    let streams = cases("replies", upstream).into_iter().filter_map(|case| case.get("stream").cloned());
    let wire = |events: Value| {
        let mut out = String::new();
        for event in events.as_array().into_iter().flatten().filter(|event| event.get("repeat").is_none()) {
            let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
            out += &match (upstream, event["type"].as_str()) {
                (Upstream::Ollama, _) => format!("{data}\n"),
                (_, Some(name)) => format!("event: {name}\ndata: {data}\n\n"),
                (_, None) => format!("data: {data}\n\n"),
            };
        }
        out.into_bytes()
    };
    streams.map(wire).collect()
}

fn translated(chat: &[u8]) -> Vec<u8> {
    let to = ReplyTo { delivery: Delivery::StreamWithUsage, ..ReplyTo::default() };
    let mut stream = Stream::new(Upstream::Chat, Client::Converse, to);
    let mut out = Vec::new();
    stream.push(chat, &mut out);
    stream.finish(&mut out);
    out
}

/// The words of all dialects, as JSON has them, in the form of the fuzzer's dictionaries.
pub(crate) fn words() -> String {
    let requests = Client::ALL.into_iter().flat_map(|client| cases("requests", client));
    let replies = Upstream::ALL.into_iter().flat_map(|upstream| cases("replies", upstream));
    let mut words = BTreeSet::new();
    requests.chain(replies).for_each(|case| gather(&case, &mut words));
    words.iter().map(|word| format!("\"\\\"{word}\\\"\"\n")).collect()
}

fn gather(value: &Value, words: &mut BTreeSet<String>) {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let mut keep = |text: &str| {
        if !text.is_empty() && text.len() <= 40 && text.bytes().all(is_word) {
            words.insert(text.to_owned());
        }
    };
    match value {
        Value::String(text) => keep(text),
        Value::Array(items) => items.iter().for_each(|item| gather(item, words)),
        Value::Object(members) => {
            members.keys().for_each(|name| keep(name));
            members.values().for_each(|value| gather(value, words));
        }
        _ => {}
    }
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (which, upstream) in [(0, Upstream::Messages), (1, Upstream::Ollama), (2, Upstream::Converse)] {
        seeds.extend(wires(upstream).iter().enumerate().map(|(seed, stream)| chosen(&[which, seed], stream)));
    }
    let more: [(usize, &str); 5] = [
        (0, "\u{feff}: note\r\nevent: a\rdata: 1\r\ndata: 2\n\n\r\rdata: [DONE]"),
        (3, "5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nx: y\r\n\r\nGET /"),
        (3, "0\r\n\r\n"),
        (4, "POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"),
        (4, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"),
    ];
    seeds.extend(more.iter().map(|(which, text)| chosen(&[*which, 1], text.as_bytes())));
    seeds
}
