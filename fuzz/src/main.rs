//! Fuzzers of everything that Forebay reads from strangers: one binary, whose target is named by `--target=NAME`.
//!
//! They take the pure floors as modules, and not the crate, so that neither Pingora nor TLS has to be built. A target
//! panics where what it looks at does not keep its promise; `scripts/fuzz` builds and runs them all.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

// The folder makes the files below it find their own modules where they are.
#[path = "../../src"]
mod floors {
    pub mod dialect;
    pub mod error;
    pub mod frame;
    pub mod json;
    pub mod moment;
}
// What they call `crate::json` is this.
use floors::{dialect, error, frame, json, moment};

mod envelope;
mod failure;
mod frames;
mod reply;
mod request;
mod seeds;
mod stream;

/// A target: its name, what it does with an input, and inputs to begin with.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 6] = [
    Target { name: "envelope", run: envelope::run, seeds: seeds::bodies },
    Target { name: "frames", run: frames::run, seeds: seeds::frames },
    Target { name: "request", run: request::run, seeds: seeds::requests },
    Target { name: "stream", run: stream::run, seeds: seeds::streams },
    Target { name: "reply", run: reply::run, seeds: seeds::replies },
    Target { name: "error", run: failure::run, seeds: seeds::errors },
];

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if let Some(run) = CHOSEN.get() {
        run(data);
    }
});

/// The value of `--name=value` on the command line. The fuzzer's own arguments have one dash.
fn argument(name: &str) -> Option<String> {
    std::env::args()
        .find_map(|given| Some(given.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// Chooses the target. With `--seeds=DIR`, writes what every target begins with into folders there, and ends.
fn begin() {
    if let Some(folder) = argument("seeds") {
        for target in &TARGETS {
            let folder = PathBuf::from(&folder).join(target.name);
            fs::create_dir_all(&folder).expect("a folder for seeds");
            for (number, seed) in (target.seeds)().iter().enumerate() {
                fs::write(folder.join(format!("{number:04}")), seed).expect("a seed");
            }
        }
        fs::write(PathBuf::from(folder).join("words"), seeds::words()).expect("a dictionary");
        std::process::exit(0);
    }
    let wanted = argument("target").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == wanted);
    let target = target
        .unwrap_or_else(|| panic!("--target={wanted}: envelope, frames, request, stream, reply or error"));
    CHOSEN.get_or_init(|| target.run);
}

/// The bytes that choose something, and the rest. An input that is too short chooses the first of everything.
fn choices<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    match data.split_first_chunk() {
        Some((chosen, rest)) => (*chosen, rest),
        None => ([0; N], &[]),
    }
}

/// The one of several that a byte stands for.
fn pick<T: Copy>(all: &[T], byte: u8) -> T {
    all[usize::from(byte) % all.len()]
}

/// The same bytes in pieces, which `seed` cuts.
fn pieces(mut data: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        // Numerical Recipes' generator: any will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = if seed % 4 == 0 { 1 } else { 1 + (state >> 24) as usize % 23 };
        let (piece, rest) = data.split_at(most.min(data.len()));
        data = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether this is one JSON value. Numbers of any size and lone surrogates pass.
fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
