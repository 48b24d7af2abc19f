#![expect(clippy::print_stdout, reason = "a report is what this program is for")]
//! What translating a large request costs, beside parsing it to a tree: `cargo run --release --example translate`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use forebay::dialect::ir::{Facts, Notes, Policy, Target};
use forebay::dialect::translate::{Client, Upstream};
use serde_json::{Value, json};

/// The size of the request, bytes.
const SIZE: usize = 1 << 20;
/// How often each is done; the fastest counts.
const TIMES: usize = 40;

fn main() {
    for client in [Client::Chat, Client::Messages] {
        let body = request();
        let parse = fastest(|| {
            let tree: Value = serde_json::from_slice(black_box(&body)).unwrap_or_default();
            black_box(tree);
        });
        println!("{client:?}: parsing {} KiB to a tree takes {parse:?}", body.len() >> 10);
        for upstream in
            Upstream::ALL.into_iter().filter(|upstream| upstream.operation() != client.operation())
        {
            let facts = Facts::default();
            let target = Target { model: "m", facts: &facts };
            let took = fastest(|| {
                let mut notes = Notes::new(Policy::Lenient);
                let request = client.request(black_box(&body));
                let written = request.and_then(|request| upstream.request(&request, &target, &mut notes));
                assert!(black_box(written).is_ok(), "the request is translated");
            });
            println!("  to {upstream:?}: {took:?}, {:.2} of it", took.as_secs_f64() / parse.as_secs_f64());
        }
    }
}

/// A long conversation, as both dialects read it.
fn request() -> Vec<u8> {
    let said = "The quick brown fox\njumps over the \"lazy\" dog: caf\u{e9}. ".repeat(20);
    let turn = |number: usize| {
        let role = if number.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": [{"type": "text", "text": said}]})
    };
    let turns = SIZE / (said.len() + 60);
    let messages: Vec<Value> = (0..turns | 1).map(turn).collect();
    json!({"model": "m", "max_tokens": 100, "messages": messages}).to_string().into_bytes()
}

fn fastest(work: impl Fn()) -> Duration {
    let once = || {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..TIMES).map(|_| once()).min().unwrap_or_default()
}
