//! What an exchange will probably use, before it is known.
//!
//! A prompt's tokens are guessed from its bytes: [`FIRST_RATIO`] to begin with, and then as many bytes to a token as the
//! model's prompts have had of late, which makes up for languages and tokenisers. Files inside it, as base64, count as
//! [`FILE`] tokens each, for providers bill pictures by their size and not by their bytes; they are known by the members
//! that they stand in. A reply's tokens are what the
//! request allows, times the choices it asks for, or what the model's replies have had on average.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Demand;
use crate::dialect::usage::Usage;

/// Bytes of a prompt's JSON to a token, in thousandths, before anything is known of a model.
const FIRST_RATIO: u64 = 3800;
/// The tokens of a reply before anything is known of a model.
const FIRST_REPLY: u64 = 500;
/// What a file inside a prompt counts as.
const FILE: u64 = 1000;
/// How long a string must be to be a file.
const LONG: usize = 2048;
/// The weight of what is known already against one exchange more.
const MEMORY: u64 = 15;

/// What is known of a model's use.
#[derive(Debug)]
pub struct Forecast {
    /// Thousandths of a byte to a token.
    ratio: AtomicU64,
    /// Sixteenths of a token.
    reply: AtomicU64,
}

impl Default for Forecast {
    fn default() -> Self {
        Self { ratio: AtomicU64::new(FIRST_RATIO), reply: AtomicU64::new(FIRST_REPLY * 16) }
    }
}

/// What of a request tells how much it will use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Bytes of text that become prompt.
    pub text: u64,
    /// Files inside it.
    pub files: u64,
    /// The most tokens of the reply that the request allows.
    pub most: Option<u64>,
    /// How many choices it asks for.
    pub choices: u64,
}

impl Prompt {
    /// What a body tells of which so many bytes become prompt.
    pub fn new(body: &[u8], prompt_bytes: usize, most: Option<u64>, choices: Option<u64>) -> Self {
        // A body that is small holds no files.
        let (files, bytes) = if prompt_bytes > LONG { files(body) } else { (0, 0) };
        let text = prompt_bytes.saturating_sub(bytes) as u64;
        Self { text, files, most, choices: choices.unwrap_or(1).max(1) }
    }
}

/// How many strings of a body are files, and their bytes: long ones in the members in which dialects carry files. What
/// stands anywhere else is text, whatever it looks like: who writes it would else pay for a file.
fn files(body: &[u8]) -> (u64, usize) {
    let (mut count, mut bytes, mut from) = (0, 0, 0);
    for quote in memchr::memchr_iter(b'"', body) {
        let text = body.get(from..quote).unwrap_or_default();
        if text.len() >= LONG && is_file(body.get(..from).unwrap_or_default(), text) {
            count += 1;
            bytes += text.len();
        }
        from = quote + 1;
    }
    (count, bytes)
}

/// Whether a string is a file, by the member whose value it is.
fn is_file(before: &[u8], text: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let back = |bytes: &[u8]| bytes.len() - bytes.iter().rev().take_while(|byte| blank(byte)).count();
    let Some(before) = before.strip_suffix(b"\"") else { return false };
    let Some(before) = before.get(..back(before)).and_then(|before| before.strip_suffix(b":")) else {
        return false;
    };
    let Some(before) = before.get(..back(before)).and_then(|before| before.strip_suffix(b"\"")) else {
        return false;
    };
    let name = before.rsplit(|byte| *byte == b'"').next().unwrap_or_default();
    match name {
        b"data" | b"file_data" | b"bytes" | b"b64_json" => text.iter().take(256).all(u8::is_ascii_graphic),
        b"url" | b"image_url" => text.starts_with(b"data:"),
        _ => false,
    }
}

impl Forecast {
    /// The tokens that the prompt will probably have, and the reply.
    pub fn tokens(&self, prompt: &Prompt) -> (u64, u64) {
        let ratio = self.ratio.load(Relaxed).max(1);
        let input = prompt.text.saturating_mul(1000).div_ceil(ratio) + prompt.files * FILE;
        let reply = prompt.most.unwrap_or_else(|| self.reply.load(Relaxed).div_ceil(16));
        (input, reply.saturating_mul(prompt.choices))
    }

    /// What it will probably use, its money left open.
    pub fn demand(&self, prompt: &Prompt) -> Demand {
        let (input, reply) = self.tokens(prompt);
        Demand { tokens: input.saturating_add(reply), money: 0 }
    }

    /// Such a prompt has used so much.
    pub fn learn(&self, prompt: &Prompt, usage: &Usage) {
        // Small prompts are mostly templates, and files are no text.
        if let Some(input) = usage.input.total.filter(|input| *input >= 50 && prompt.files == 0) {
            let ratio = (prompt.text.saturating_mul(1000) / input).clamp(500, 20_000);
            mix(&self.ratio, ratio);
        }
        if let Some(reply) = usage.output.total {
            mix(&self.reply, (reply / prompt.choices).saturating_mul(16));
        }
    }
}

/// Two that learn at once may lose one of what they learn: it is an average.
fn mix(known: &AtomicU64, new: u64) {
    let before = known.load(Relaxed);
    known.store((before.saturating_mul(MEMORY).saturating_add(new)) / (MEMORY + 1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::usage::{Input, Output};

    fn usage(input: u64, output: u64) -> Usage {
        Usage {
            input: Input { total: Some(input), ..Input::default() },
            output: Output { total: Some(output), ..Output::default() },
            ..Usage::default()
        }
    }

    fn prompt(text: u64, most: Option<u64>) -> Prompt {
        Prompt { text, files: 0, most, choices: 1 }
    }

    #[test]
    fn a_request_that_says_how_much_it_allows_is_believed() {
        let forecast = Forecast::default();
        assert_eq!(forecast.tokens(&prompt(3800, Some(70))), (1000, 70));
        assert_eq!(forecast.tokens(&prompt(0, None)), (0, FIRST_REPLY));
        let two = Prompt { choices: 2, ..prompt(0, Some(70)) };
        assert_eq!(forecast.demand(&two).tokens, 140);
        assert_eq!(forecast.tokens(&prompt(0, Some(u64::MAX))).1, u64::MAX);
    }

    #[test]
    fn a_models_ways_are_learnt() {
        let forecast = Forecast::default();
        for _ in 0..200 {
            forecast.learn(&prompt(2000, None), &usage(1000, 40));
        }
        let (input, reply) = forecast.tokens(&prompt(2000, None));
        assert!((950..=1050).contains(&input), "{input}");
        assert!((40..=45).contains(&reply), "{reply}");
        // What nobody can believe changes little.
        forecast.learn(&prompt(2000, None), &usage(u64::MAX / 2, 40));
        assert!(forecast.tokens(&prompt(2000, None)).0 < 1200);
    }

    #[test]
    fn a_file_is_no_text() {
        let data = "QUJD".repeat(10_000);
        let body = format!(r#"{{"messages":[{{"text":"{}"}},{{"data":"{data}"}}]}}"#, "word ".repeat(600));
        let prompt = Prompt::new(body.as_bytes(), body.len(), Some(1), None);
        assert_eq!(prompt.files, 1);
        let chinese = format!(r#"{{"text":"{}"}}"#, "天地玄黄宇宙洪荒".repeat(500));
        assert_eq!(
            Prompt::new(chinese.as_bytes(), chinese.len(), None, None).files,
            0,
            "no blanks, and no file"
        );
        assert!((3000..3200).contains(&prompt.text), "{}", prompt.text);
    }
}
