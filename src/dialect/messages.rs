//! Anthropic Messages.
//!
//! Reasoning of other origins has no seal that Anthropic would take. Its seal, or that it has none, is written as
//! `forebay:<origin>:<seal>`, so that it is known when the client sends it back, and never reaches Anthropic.

pub mod reply;
pub mod request;
pub mod stream;

use std::borrow::Cow;

use super::ir::{Origin, Text};

const MARK: &str = "forebay:";

/// What seals call the origin of reasoning.
const ORIGINS: [(Origin, &str); 7] = [
    (Origin::Chat, "chat"),
    (Origin::Responses, "responses"),
    (Origin::Messages, "messages"),
    (Origin::Gemini, "gemini"),
    (Origin::Converse, "converse"),
    (Origin::Cohere, "cohere"),
    (Origin::Ollama, "ollama"),
];

/// A seal of `origin` as Messages' clients keep it.
fn sealed<'t>(origin: Origin, seal: &'t Text<'t>) -> Text<'t> {
    match ORIGINS.iter().find(|(named, _)| *named == origin && origin != Origin::Messages) {
        Some((_, name)) => Text::join([&Text::new(format!("{MARK}{name}:")), seal], ""),
        None => seal.borrowed(),
    }
}

/// Whose seal this is, and the seal itself.
fn unsealed(seal: Text<'_>) -> (Origin, Text<'_>) {
    let marked = |seal: &str| {
        let (name, rest) = seal.strip_prefix(MARK)?.split_once(':')?;
        let (origin, _) = ORIGINS.iter().find(|(_, known)| *known == name)?;
        Some((*origin, rest.to_owned()))
    };
    match &seal {
        Text::Escaped(inside) | Text::Plain(inside) if !inside.starts_with(MARK) => (Origin::Messages, seal),
        _ => match marked(&seal.plain()) {
            Some((origin, rest)) => (origin, Text::Plain(Cow::Owned(rest))),
            None => (Origin::Messages, seal),
        },
    }
}
