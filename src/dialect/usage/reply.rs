//! Usage in whole replies.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Claude, Count, Counts};
use super::{Kinds, Usage};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::{Dialect, Operation, converse, gemini};

/// The largest reply that is kept whole, in bytes.
const WHOLE: usize = 1 << 20;
/// How much of the end of a larger one is kept, in bytes.
const TAIL: usize = 64 << 10;

/// Watches a JSON reply on its way to the client. It holds references to the reply's chunks, not copies.
#[derive(Debug)]
pub struct ReplyTap {
    operation: Operation,
    chunks: VecDeque<Bytes>,
    kept: usize,
    /// Whether chunks have been let go of.
    cut: bool,
}

impl ReplyTap {
    /// A tap at the start of a reply to `operation`.
    pub fn new(operation: Operation) -> Self {
        Self { operation, chunks: VecDeque::new(), kept: 0, cut: false }
    }

    /// Takes the next chunk of the reply.
    pub fn push(&mut self, chunk: &Bytes) {
        self.kept += chunk.len();
        self.chunks.push_back(chunk.clone());
        self.cut |= self.kept > WHOLE;
        while self.cut
            && let Some(first) = self.chunks.front().map(Bytes::len)
            && self.kept - first >= TAIL
        {
            self.kept -= first;
            self.chunks.pop_front();
        }
    }

    /// The reply is over: what it says was used. Of a reply over a MiB only the end is searched, which is where
    /// embeddings have their usage.
    pub fn finish(mut self) -> Option<Usage> {
        let body = match self.chunks.len() {
            1 => self.chunks.pop_front()?,
            _ => Bytes::from(Vec::from(self.chunks).concat()),
        };
        if self.cut { in_tail(self.operation, &body) } else { in_whole(self.operation, &body) }
    }
}

fn in_whole(operation: Operation, body: &[u8]) -> Option<Usage> {
    let reply: Reply<'_> = serde_json::from_slice(body).ok()?;
    match operation {
        Operation::CountTokens => {
            let (mut claude, mut counts) = (Claude::default(), Counts::default());
            counts.input_tokens = reply.input_tokens;
            claude.update(&counts);
            claude.usage()
        }
        Operation::GenerateContent => usage(operation, reply.usage_metadata?),
        Operation::Rerank => ranked(&reply),
        _ => usage(operation, reply.usage?),
    }
}

/// What a ranking says of itself: engines count tokens, Cohere counts searches.
fn ranked(reply: &Reply<'_>) -> Option<Usage> {
    let billed = reply.meta.object::<Meta<'_>>().map(|meta| Kinds::cohere(meta.billed_units));
    let kinds = billed.filter(|kinds| kinds.billed.is_some());
    let used = reply.usage.and_then(|raw| usage(Operation::Rerank, raw));
    match kinds {
        Some(kinds) => Some(Usage { kinds, ..used.unwrap_or_default() }),
        None => used,
    }
}

/// The last usage object in the end of a reply. Its key cannot stand unescaped inside a string.
fn in_tail(operation: Operation, tail: &[u8]) -> Option<Usage> {
    let key = match operation {
        Operation::GenerateContent => &b"\"usageMetadata\""[..],
        _ => b"\"usage\"",
    };
    let at = memchr::memmem::rfind(tail, key)?;
    let after = tail.get(at + key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    usage(operation, serde_json::Deserializer::from_slice(after).into_iter::<&RawValue>().next()?.ok()?)
}

fn usage(operation: Operation, raw: &RawValue) -> Option<Usage> {
    match operation.dialect() {
        Dialect::Anthropic => {
            let mut claude = Claude::default();
            claude.update(&Counts::read(raw)?);
            claude.usage()
        }
        Dialect::OpenaiChat | Dialect::OpenaiResponses => Counts::read(raw)?.openai(),
        Dialect::Gemini => gemini::reply::usage(Raw::of(raw)),
        Dialect::Converse => converse::reply::usage(Raw::of(raw)),
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, rename = "usageMetadata")]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default)]
    input_tokens: Count,
    #[serde(borrow, default)]
    meta: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta<'a> {
    #[serde(borrow)]
    billed_units: Raw<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::usage::{Input, Output};

    fn tapped(operation: Operation, body: &str, size: usize) -> Option<Usage> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let mut tap = ReplyTap::new(operation);
        let mut at = 0;
        while at < body.len() {
            let end = (at + size).min(body.len());
            tap.push(&body.slice(at..end));
            at = end;
        }
        tap.finish()
    }

    #[test]
    fn only_the_usage_of_the_reply_itself_counts() {
        let body = r#"{"choices":[{"usage":{"prompt_tokens":99}}],"usage":{"prompt_tokens":3,"completion_tokens":4,
            "prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        for size in [1, 7, 1000] {
            let usage = tapped(Operation::ChatCompletions, body, size).unwrap();
            assert_eq!(usage.input, Input { total: Some(3), cached: Some(1), written: None });
            assert_eq!(usage.output, Output { total: Some(4), reasoning: Some(2) });
        }
        assert_eq!(
            tapped(Operation::ChatCompletions, r#"{"choices":[{"usage":{"prompt_tokens":9}}]}"#, 9),
            None
        );
        assert_eq!(tapped(Operation::ChatCompletions, r#"{"usage":null}"#, 9), None);
        assert_eq!(tapped(Operation::ChatCompletions, "not json", 9), None);
        assert_eq!(tapped(Operation::ChatCompletions, "", 9), None);
    }

    #[test]
    fn counting_tokens_counts_input() {
        let usage = tapped(Operation::CountTokens, r#"{"input_tokens":2095}"#, 4).unwrap();
        assert_eq!((usage.input.total, usage.output.total), (Some(2095), None));
    }

    #[test]
    fn gemini_and_converse_report_under_names_of_their_own() {
        let gemini = r#"{"candidates":[{"usageMetadata":{"promptTokenCount":99}}],"usageMetadata":{"promptTokenCount":5,
            "toolUsePromptTokenCount":2,"candidatesTokenCount":3,"thoughtsTokenCount":4,"cachedContentTokenCount":1}}"#;
        let converse = r#"{"output":{"usage":{"inputTokens":99}},"usage":{"inputTokens":4,"outputTokens":7,
            "cacheReadInputTokens":1,"cacheWriteInputTokens":2}}"#;
        for (operation, body, written, reasoning) in [
            (Operation::GenerateContent, gemini, None, Some(4)),
            (Operation::Converse, converse, Some(2), None),
        ] {
            let large = format!("{{\"x\":\"{}\",{}", "x".repeat(WHOLE), body.trim_start_matches('{'));
            for (body, size) in [(body, 1), (body, 1000), (large.as_str(), 70_000)] {
                let usage = tapped(operation, body, size).unwrap();
                assert_eq!(usage.input, Input { total: Some(7), cached: Some(1), written });
                assert_eq!(usage.output, Output { total: Some(7), reasoning });
            }
            assert_eq!(tapped(operation, "{}", 9), None);
        }
    }

    #[test]
    fn of_a_large_reply_the_end_is_read_in_bounded_memory() {
        let vectors = "0.123,".repeat(WHOLE / 3);
        let body =
            format!(r#"{{"data":[{vectors}0],"usage" : {{"prompt_tokens":8,"total_tokens":8}},"id":"x"}}"#);
        for size in [1000, 70_000, body.len()] {
            let usage = tapped(Operation::Embeddings, &body, size).unwrap();
            assert_eq!(usage.input.total, Some(8));
        }
        let mut tap = ReplyTap::new(Operation::Embeddings);
        for _ in 0..3000 {
            tap.push(&Bytes::from_static(&[b'0'; 1000]));
            assert!(tap.kept <= WHOLE + 1000);
        }
        assert!(tap.kept < TAIL + 1000);
    }
}
