//! Seals of one dialect in the places of another.
//!
//! A client keeps what it is given and sends it back. A seal that its dialect's own vendor did not make goes to it as
//! `forebay:<origin>:<seal>`, so that it is known when it comes back, and never reaches a vendor that did not make it.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{STANDARD as LETTERS, URL_SAFE as URL_LETTERS};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::{Origin, Target, Text};

/// What tells reasoning that only its origin can read from a seal, where a dialect has one place for both.
pub const REDACTED: &str = "redacted:";

const MARK: &str = "forebay:";
/// How [`MARK`] begins in base64.
const MARK_IN_BASE64: &str = "Zm9yZWJheT";

/// What seals call the origin of reasoning.
const ORIGINS: [(Origin, &str); 8] = [
    (Origin::Chat, "chat"),
    (Origin::Completions, "completions"),
    (Origin::Responses, "responses"),
    (Origin::Messages, "messages"),
    (Origin::Gemini, "gemini"),
    (Origin::Converse, "converse"),
    (Origin::Cohere, "cohere"),
    (Origin::Ollama, "ollama"),
];

/// A seal of `origin` under its mark.
pub fn marked(origin: Origin, seal: &Text<'_>) -> String {
    let name = ORIGINS.iter().find(|(named, _)| *named == origin).map_or("", |(_, name)| name);
    format!("{MARK}{name}:{}", seal.plain())
}

/// Whose seal is under a mark, and the seal; nothing where there is no mark.
pub fn unmarked(text: &Text<'_>) -> Option<(Origin, Text<'static>)> {
    let (Text::Escaped(start) | Text::Plain(start)) = text;
    if !start.starts_with(MARK) {
        return None;
    }
    let plain = text.plain();
    let (name, seal) = plain.strip_prefix(MARK)?.split_once(':')?;
    let (origin, _) = ORIGINS.iter().find(|(_, known)| *known == name)?;
    Some((*origin, Text::Plain(Cow::Owned(seal.to_owned()))))
}

/// A seal of `origin` as clients of `own` keep it: under its mark, unless it is their own vendor's.
pub fn sealed<'t>(own: Origin, origin: Origin, seal: &'t Text<'_>) -> Text<'t> {
    if origin == own { seal.borrowed() } else { Text::new(marked(origin, seal)) }
}

/// Whose seal it is that a client of `own` sends back, and the seal itself.
pub fn unsealed(own: Origin, seal: Text<'_>) -> (Origin, Text<'_>) {
    unmarked(&seal).unwrap_or((own, seal))
}

/// Whether an upstream of `own` takes back reasoning that `origin` sealed: if it did so itself, or if both are Claude.
/// Anthropic's seals hold on every platform (its manual, "extended thinking"), and on Bedrock no other model has any.
pub fn taken_back(own: Origin, origin: Origin, target: &Target<'_>) -> bool {
    let claudes = |origin| matches!(origin, Origin::Messages | Origin::Converse);
    origin == own || (claudes(own) && claudes(origin) && target.is_claude())
}

/// The same as [`marked`], for a place that holds base64.
pub fn marked_base64(origin: Origin, seal: &Text<'_>) -> String {
    STANDARD.encode(marked(origin, seal))
}

/// The same as [`unmarked`], for a place that holds base64. SDKs decode it and write it anew, some with the letters
/// for URLs.
pub fn unmarked_base64(text: &Text<'_>) -> Option<(Origin, Text<'static>)> {
    let (Text::Escaped(start) | Text::Plain(start)) = text;
    if !start.starts_with(MARK_IN_BASE64) {
        return None;
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let plain = text.plain();
    let bytes = [&LETTERS, &URL_LETTERS]
        .iter()
        .find_map(|letters| GeneralPurpose::new(letters, config).decode(plain.as_bytes()).ok())?;
    unmarked(&Text::new(String::from_utf8(bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ir::Facts;

    #[test]
    fn what_claude_sealed_is_taken_by_claude_anywhere() {
        use Origin::{Converse, Gemini, Messages};
        let facts = Facts::default();
        let claude = Target { model: "eu.anthropic.claude-sonnet-4-6", facts: &facts };
        let other = Target { model: "amazon.nova-2-lite-v1:0", facts: &facts };
        for (own, origin) in [(Messages, Converse), (Converse, Messages)] {
            assert!(taken_back(own, origin, &claude) && !taken_back(own, origin, &other));
            assert!(taken_back(own, own, &other) && !taken_back(own, Gemini, &claude));
        }
        assert!(!taken_back(Gemini, Messages, &claude));
    }

    #[test]
    fn a_marked_seal_comes_back_and_another_is_left_alone() {
        for (origin, _) in ORIGINS {
            for seal in ["", "a:b", "Eq+/0==", "é~\u{10ffff}"] {
                let expected = Some((origin, Text::new(seal)));
                assert_eq!(unmarked(&Text::new(marked(origin, &Text::new(seal)))), expected);
                let base64 = marked_base64(origin, &Text::new(seal));
                assert_eq!(unmarked_base64(&Text::new(base64.as_str())), expected);
                let text = Text::new(seal);
                let kept = sealed(Origin::Messages, origin, &text);
                assert_eq!(kept.plain() == seal, origin == Origin::Messages);
                assert_eq!(unsealed(Origin::Messages, kept), (origin, text.borrowed()));
                let url = base64.replace('+', "-").replace('/', "_");
                assert_eq!(unmarked_base64(&Text::new(url.trim_end_matches('='))), expected);
            }
        }
        for foreign in ["", "forebay", "forebay:nobody:x", "EpEgCo4g", "Zm9yZWJheT!"] {
            assert_eq!((unmarked(&Text::new(foreign)), unmarked_base64(&Text::new(foreign))), (None, None));
        }
    }
}
