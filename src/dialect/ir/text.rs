//! Text and JSON as they stood on the wire.
//!
//! Every dialect is JSON, so a text that only passes need not be unescaped and escaped again: [`Text`] keeps the
//! escapes it came with, and is decoded only where its content matters.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::json::{quote, quote_into};

/// A text, in the form in which it came.
///
/// Two texts are equal if they decode to the same characters.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// The inside of a JSON string, without its quotes: escapes stand as they came.
    Escaped(Cow<'a, str>),
    /// The characters themselves.
    Plain(Cow<'a, str>),
}

impl<'a> Text<'a> {
    /// The characters of `plain`.
    pub fn new(plain: impl Into<Cow<'a, str>>) -> Self {
        Self::Plain(plain.into())
    }

    /// The text of a JSON value, if it is a string.
    pub fn of(raw: &'a RawValue) -> Option<Self> {
        Self::of_json(raw.get())
    }

    /// The text of a valid JSON value, if it is a string.
    pub(super) fn of_json(raw: &'a str) -> Option<Self> {
        let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
        Some(Self::Escaped(Cow::Borrowed(inside)))
    }

    /// The characters. Copied only where there are escapes. A lone surrogate, which JSON can write and UTF-8 cannot,
    /// becomes U+FFFD.
    pub fn plain(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Escaped(text) if !text.contains('\\') => Cow::Borrowed(text),
            Self::Escaped(text) => Cow::Owned(unescape(text)),
        }
    }

    /// The characters, as long-lived as the text itself.
    pub fn into_plain(self) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => text,
            Self::Escaped(text) if !text.contains('\\') => text,
            Self::Escaped(text) => Cow::Owned(unescape(&text)),
        }
    }

    /// The inside of the JSON string as which the text came; nothing where it came otherwise.
    pub fn escaped(&self) -> &str {
        match self {
            Self::Escaped(text) => text,
            Self::Plain(_) => "",
        }
    }

    /// Whether there are no characters.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Escaped(text) | Self::Plain(text) => text.is_empty(),
        }
    }

    /// Whether there is nothing but white space.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim_start().is_empty(),
            Self::Escaped(text) => {
                let mut rest = text.trim_start();
                // Only the first character that is none has to be found.
                while let Some(next) = ["\\n", "\\r", "\\t"].iter().find_map(|space| rest.strip_prefix(space))
                {
                    rest = next.trim_start();
                }
                rest.is_empty() || (rest.starts_with("\\u") && unescape(rest).trim_start().is_empty())
            }
        }
    }

    /// Appends the text as a JSON string, quotes included.
    pub fn quote_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => quote_into(out, text),
            Self::Escaped(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
        }
    }

    /// Appends the inside of the text's JSON string to `out`, which can be read back as [`Text::Escaped`].
    pub fn escape_into(&self, out: &mut String) {
        match self {
            Self::Escaped(text) => out.push_str(text),
            Self::Plain(text) => {
                let quoted = quote(text);
                let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
                out.push_str(&String::from_utf8_lossy(inside));
            }
        }
    }

    /// The same text, borrowed from this one.
    pub fn borrowed(&self) -> Text<'_> {
        match self {
            Self::Escaped(text) => Text::Escaped(Cow::Borrowed(text)),
            Self::Plain(text) => Text::Plain(Cow::Borrowed(text)),
        }
    }

    /// The same text, borrowing from nothing.
    pub fn into_owned(self) -> Text<'static> {
        match self {
            Self::Escaped(text) => Text::Escaped(Cow::Owned(text.into_owned())),
            Self::Plain(text) => Text::Plain(Cow::Owned(text.into_owned())),
        }
    }

    /// Several texts as one, with `between` between them.
    pub fn join<'t>(texts: impl IntoIterator<Item = &'t Text<'t>>, between: &str) -> Text<'static> {
        let mut joined = String::new();
        for (index, text) in texts.into_iter().enumerate() {
            if index > 0 {
                Text::new(between).escape_into(&mut joined);
            }
            text.escape_into(&mut joined);
        }
        Text::Escaped(Cow::Owned(joined))
    }
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::Plain(Cow::Borrowed(""))
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.plain() == other.plain()
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.plain() == other
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(plain: &'a str) -> Self {
        Self::new(plain)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Self::of(raw).ok_or_else(|| D::Error::custom("expected a string"))
    }
}

/// A valid JSON value, as it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<'a>(Cow<'a, str>);

impl<'a> Json<'a> {
    /// A JSON value that a parser has seen.
    pub fn of(raw: &'a RawValue) -> Self {
        Self(Cow::Borrowed(raw.get()))
    }

    /// `text`, if it is a JSON object and nothing else.
    pub fn object(text: Cow<'a, str>) -> Option<Self> {
        let is_object = text.trim_start().starts_with('{');
        (is_object && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()).then_some(Self(text))
    }

    /// `text`, if it is one JSON value.
    pub fn value(text: String) -> Option<Self> {
        serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok().then_some(Self(Cow::Owned(text)))
    }

    /// A value that was checked already.
    pub(super) fn checked(raw: impl Into<Cow<'a, str>>) -> Self {
        Self(raw.into())
    }

    /// The value's text.
    pub fn get(&self) -> &str {
        &self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.trim_start().starts_with('{')
    }

    /// The value's text on one line, as an event of a stream needs it. Raw line ends stand only between JSON's
    /// tokens, so they can go.
    pub fn one_line(&self) -> Cow<'_, str> {
        if self.0.contains(['\n', '\r']) {
            Cow::Owned(self.0.replace(['\n', '\r'], ""))
        } else {
            Cow::Borrowed(&self.0)
        }
    }

    /// The same value, borrowed from this one.
    pub fn borrowed(&self) -> Json<'_> {
        Json(Cow::Borrowed(&self.0))
    }

    /// The same value, borrowing from nothing.
    pub fn into_owned(self) -> Json<'static> {
        Json(Cow::Owned(self.0.into_owned()))
    }
}

/// Decodes the inside of a valid JSON string.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('b') => plain.push('\u{8}'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let (decoded, next) = code_point(chars.as_str());
                plain.push(decoded);
                rest = next;
                continue;
            }
            Some(other) => plain.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    plain.push_str(rest);
    plain
}

/// The character written by four hexadecimal digits at the start of `text`, with a second escape after them if they
/// are the first half of a pair; and what follows.
fn code_point(text: &str) -> (char, &str) {
    let (first, rest) = unit(text);
    if (0xd800..0xdc00).contains(&first)
        && let Some(next) = rest.strip_prefix("\\u")
    {
        let (second, after) = unit(next);
        if (0xdc00..0xe000).contains(&second) {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), after);
        }
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

fn unit(text: &str) -> (u32, &str) {
    let digits = text.get(..4).unwrap_or_default();
    let unit = u32::from_str_radix(digits, 16).unwrap_or(0xfffd);
    (unit, text.get(4..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> Text<'_> {
        Text::Escaped(Cow::Borrowed(text))
    }

    #[test]
    fn escapes_are_decoded_only_when_asked_for() {
        let text: Text<'_> = serde_json::from_str(r#""a\n\u00e9\ud83d\ude00\/\"""#).unwrap();
        assert_eq!(text.plain(), "a\né😀/\"");
        let mut out = Vec::new();
        text.quote_into(&mut out);
        assert_eq!(out, br#""a\n\u00e9\ud83d\ude00\/\"""#);
        assert!(serde_json::from_str::<Text<'_>>("3").is_err());
        assert_eq!(escaped(r"\ud83d!").plain(), "\u{fffd}!");
        assert_eq!(escaped(r"\ud83d\ud83d\ude00").plain(), "\u{fffd}😀");
        assert!(escaped(r"\n \t").is_blank() && !escaped(r"\n.").is_blank());
        assert!(
            escaped(r" \u0020\n").is_blank() && !escaped(r"\u0041").is_blank() && !escaped(r"\\").is_blank()
        );
    }

    #[test]
    fn halves_of_a_pair_that_come_apart_are_joined_by_the_fold() {
        let joined = Text::join([&escaped(r"\ud83d"), &escaped(r"\ude00")], "");
        assert_eq!(joined.plain(), "😀");
    }

    proptest! {
        #[test]
        fn a_text_is_the_same_in_both_forms(text in any::<String>(), ascii in any::<bool>()) {
            let mut json = serde_json::to_string(&text).unwrap();
            if ascii {
                json = json.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }).collect();
            }
            let read: Text<'_> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read.plain(), text.as_str());
            let mut escaped = String::new();
            Text::new(text.as_str()).escape_into(&mut escaped);
            prop_assert_eq!(Text::Escaped(Cow::Owned(escaped)), Text::new(text.as_str()));
        }
    }
}
