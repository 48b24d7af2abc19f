//! Whole completions, and what they share with streams.

use serde::Deserialize;

use crate::dialect::chat::reply::usage_into;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Attachment, Block, Finish, Notes, Reply, ReplyTo, Start, Stop, Text, Whole};

/// Writes a whole completion.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut body = Object::begin(&mut out);
    head_into(&mut body, &reply.start, to);
    let mut choices = body.array("choices");
    let mut choice = choices.object();
    let said: Vec<&Whole> = reply.blocks.iter().filter(|whole| is_said(&whole.block)).collect();
    let texts: Vec<Text<'_>> = said.iter().map(|whole| whole.text()).collect();
    choice.text("text", &Text::join(&texts, ""));
    choice.count("index", 0);
    let lists = said.iter().flat_map(|whole| &whole.attached).filter_map(Attachment::logprobs);
    logprobs_into(&mut choice, lists, &mut 0);
    choice.string("finish_reason", finish_reason(&reply.finish));
    choice.end();
    choices.end();
    if let Some(usage) = &reply.usage {
        usage_into(body.object("usage"), usage);
    }
    body.end();
    for whole in &reply.blocks {
        unsaid(&whole.block, notes);
        whole.attached.iter().for_each(|what| unsaid_beside(what, notes));
    }
    out
}

/// Writes `id`, `object`, `created` and `model`.
pub(super) fn head_into(body: &mut Object<'_>, start: &Start<'_>, to: &ReplyTo) {
    let id = start.id.plain();
    match id.starts_with("cmpl-") {
        true => body.string("id", &id),
        false => body.string("id", &format!("cmpl-{}", if to.id.is_empty() { &id } else { to.id.as_str() })),
    }
    body.string("object", "text_completion");
    body.count("created", start.created.unwrap_or(to.created));
    match to.model.as_str() {
        "" => body.text("model", &start.model),
        model => body.string("model", model),
    }
}

/// Whether a block is part of the text: there is one place for all that is said.
pub(super) fn is_said(block: &Block<'_>) -> bool {
    matches!(block, Block::Text | Block::Refusal)
}

/// Notes a block that completions have no words for.
pub(super) fn unsaid(block: &Block<'_>, notes: &mut Notes) {
    let what = match block {
        Block::Text | Block::Refusal => return,
        Block::Reasoning(_) | Block::Redacted { .. } => "reasoning".into(),
        Block::ToolCall { .. } => "tool call".into(),
        Block::Opaque(opaque) => opaque.kind.plain(),
    };
    notes.unsaid(format_args!("reply: {what}"), "has no equal in completions");
}

/// Notes an attachment that completions have no words for.
pub(super) fn unsaid_beside(what: &Attachment<'_>, notes: &mut Notes) {
    let what = match what {
        Attachment::Logprobs(_) => return,
        Attachment::Signature { .. } => "signature".into(),
        Attachment::Opaque(opaque) => opaque.kind.plain(),
    };
    notes.unsaid(format_args!("reply: {what}"), "has no equal in completions");
}

/// What completions call the end.
pub(super) fn finish_reason(finish: &Finish<'_>) -> &'static str {
    match finish.stop {
        Stop::End | Stop::Sequence | Stop::ToolCalls | Stop::Paused | Stop::Malformed => "stop",
        Stop::Length => "length",
        Stop::Filtered => "content_filter",
    }
}

// === Log probabilities ===

/// A token, as chat and Responses have it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Token<'a> {
    #[serde(borrow)]
    token: Raw<'a>,
    #[serde(borrow)]
    logprob: Raw<'a>,
    #[serde(borrow)]
    top_logprobs: Raw<'a>,
}

/// Writes `logprobs`: four lists with an entry for each token. `offset` counts the characters of the tokens so far.
pub(super) fn logprobs_into<'l>(
    choice: &mut Object<'_>,
    lists: impl Iterator<Item = &'l str>,
    offset: &mut u64,
) {
    let read =
        |list| serde_json::from_str(list).map(|list: Raw<'l>| list.items::<Token<'l>>()).unwrap_or_default();
    let tokens: Vec<Token<'_>> = lists.flat_map(read).filter(|token| token.token.text().is_some()).collect();
    if tokens.is_empty() {
        return choice.raw("logprobs", "null");
    }
    let number = |raw: Raw<'l>| raw.get().filter(|raw| raw.parse::<f64>().is_ok()).unwrap_or("null");
    let mut logprobs = choice.object("logprobs");
    let mut list = logprobs.array("tokens");
    tokens.iter().filter_map(|token| token.token.text()).for_each(|text| text.quote_into(list.item()));
    list.end();
    let mut list = logprobs.array("token_logprobs");
    tokens.iter().for_each(|token| list.item().extend_from_slice(number(token.logprob).as_bytes()));
    list.end();
    let mut list = logprobs.array("top_logprobs");
    for token in &tokens {
        let mut alternatives = list.object();
        for other in token.top_logprobs.items::<Token<'_>>() {
            let Some(text) = other.token.text() else { continue };
            alternatives.raw(&text.plain(), number(other.logprob));
        }
        alternatives.end();
    }
    list.end();
    let mut list = logprobs.array("text_offset");
    for text in tokens.iter().filter_map(|token| token.token.text()) {
        list.item().extend_from_slice(itoa::Buffer::new().format(*offset).as_bytes());
        *offset += text.plain().chars().count() as u64;
    }
    list.end();
    logprobs.end();
}
