//! The few top-level members of a request body that routing reads, with their places, found in one strict pass.
//!
//! The pass checks the whole body against RFC 8259, so that nothing Forebay forwards can mean one thing to it and
//! another to the upstream:
//!
//! - a member Forebay reads may be there once only, and must be spelled in its exact case: JSON libraries differ in
//!   which of two they take, and Go's folds case;
//! - member names are compared after their escapes are decoded, so `"mod\u0065l"` is `model`;
//! - nesting is bounded by [`DEPTH`], so that no reader behind Forebay can be driven into its stack limit.
//!
//! Where RFC 8259 leaves room, the pass is as lenient as `serde_json` skipping a value: numbers of any size and lone
//! surrogates (`"\ud800"`) pass in members nobody reads. `null` counts as absent.

use std::borrow::Cow;
use std::ops::Range;

use super::{Fault, What};
use scanner::Scanner;

mod members;
mod opening;
mod reshape;
mod scanner;

pub use members::{Member, members};
pub use opening::opening_of;
pub use reshape::reshape;

/// How deep objects and arrays may be nested; the body's own object is the first level. At most 128.
pub const DEPTH: u32 = 128;

/// A borrowed view of a request body.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// `model`.
    pub model: Option<Field<'a>>,
    /// `stream`.
    pub stream: Option<bool>,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, or else what Gemini's `generationConfig`
    /// or Converse's `inferenceConfig` says.
    pub max_tokens: Option<u64>,
    /// `stream_options`.
    pub stream_options: StreamOptions,
    /// `user`, or else `metadata.user_id`, which is its place in Anthropic Messages.
    pub user: Option<Cow<'a, str>>,
    /// `n`: how many choices are asked for.
    pub n: Option<u64>,
    /// The bytes of everything that becomes prompt, in any dialect: conversation, instructions, tools, what is ranked.
    pub prompt_bytes: usize,
    /// Where a new member can be inserted: just after the opening brace.
    pub insert_at: usize,
    /// Whether the object has no members, so that an inserted one takes no comma after it.
    pub is_empty: bool,
    spans: [Option<Range<usize>>; KEYS.len()],
}

/// A string member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Where its value is in the body, quotes included.
    pub span: Range<usize>,
    /// Its value, with escapes decoded.
    pub text: Cow<'a, str>,
}

/// `stream_options`, as far as asking for usage goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOptions {
    /// There is no such member.
    Absent,
    /// The member is `null`, here.
    Null(Range<usize>),
    /// The member is an object.
    Object {
        /// Where it is, braces included.
        span: Range<usize>,
        /// Whether it has no members.
        is_empty: bool,
        /// Its `include_usage`: where the value is, and whether it is `true` (`null` is not).
        include_usage: Option<(Range<usize>, bool)>,
    },
}

impl StreamOptions {
    /// `include_usage`, where it is a boolean or `null`.
    pub fn include_usage(&self) -> Option<bool> {
        match self {
            Self::Object { include_usage: Some((_, wanted)), .. } => Some(*wanted),
            _ => None,
        }
    }
}

impl<'a> Envelope<'a> {
    /// Reads a request body.
    ///
    /// # Errors
    ///
    /// A [`Fault`] where the body is not one JSON object, or where a member Forebay reads is ambiguous or of the
    /// wrong type.
    pub fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body)
            .map_err(|error| Fault { at: error.valid_up_to(), what: What::NotUtf8 })?;
        let mut scanner = Scanner::new(text, 0);
        let mut spans = [const { None }; KEYS.len()];
        scanner.head()?;
        let insert_at = scanner.at + 1;
        let mut members = 0_usize;
        scanner.members(|name, at, span| {
            members += 1;
            note(&mut spans, name, at, span)
        })?;
        scanner.tail()?;
        let found = Found { text, spans: &spans };
        Ok(Self {
            model: found.string(Key::Model)?,
            stream: found.boolean(Key::Stream)?,
            max_tokens: found.max_tokens()?,
            stream_options: found.stream_options()?,
            user: found.user()?,
            n: found.count(Key::N)?,
            prompt_bytes: found.prompt_bytes(),
            insert_at,
            is_empty: members == 0,
            spans,
        })
    }

    /// Where the value of a member that this view reads is, even if it is `null`.
    pub fn span(&self, name: &str) -> Option<Range<usize>> {
        let key = KEYS.iter().position(|key| *key == name)?;
        self.spans.get(key)?.clone()
    }
}

/// The members this view reads, as indices into [`KEYS`].
#[derive(Clone, Copy)]
enum Key {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    StreamOptions,
    User,
    Metadata,
    N,
    /// `prompt_cache_key`.
    Cache,
    /// `generationConfig`, where Gemini has its parameters.
    Generation,
    /// The same by its other name.
    GenerationToo,
    /// `inferenceConfig`, where Converse has its own.
    Inference,
}

/// The names of the members this view reads: first those of [`Key`], in its order, then those that hold prompt.
const KEYS: [&str; 27] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream_options",
    "user",
    "metadata",
    "n",
    "prompt_cache_key",
    "generationConfig",
    "generation_config",
    "inferenceConfig",
    "messages",
    "contents",
    "input",
    "prompt",
    "system",
    "instructions",
    "tools",
    "systemInstruction",
    "system_instruction",
    "toolConfig",
    "functions",
    "query",
    "documents",
    "suffix",
];

/// The first of [`KEYS`] that holds prompt.
const FIRST_PROMPT: usize = Key::Inference as usize + 1;

/// Records the span of one top-level member if it is one of [`KEYS`].
fn note(
    spans: &mut [Option<Range<usize>>; KEYS.len()],
    name: &str,
    at: usize,
    span: Range<usize>,
) -> Result<(), Fault> {
    let Some(name) = decode(name) else { return Ok(()) };
    let is_ascii = name.is_ascii();
    let is_key = |key: &&str| if is_ascii { name.eq_ignore_ascii_case(key) } else { folds_to(&name, key) };
    let Some(index) = KEYS.iter().position(is_key) else { return Ok(()) };
    let (Some(key), Some(slot)) = (KEYS.get(index).copied(), spans.get_mut(index)) else { return Ok(()) };
    if *name != *key {
        return Err(Fault { at, what: What::Miscased(key) });
    }
    if slot.is_some() {
        return Err(Fault { at, what: What::Duplicate(key) });
    }
    *slot = Some(span);
    Ok(())
}

/// Whether a reader that folds the case of Unicode would take `name` for `key`: `ſ` and the Kelvin sign fold to `s`
/// and `k`.
fn folds_to(name: &str, key: &str) -> bool {
    name.chars()
        .map(|letter| match letter {
            'ſ' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .eq(key.chars())
}

/// The members found, and what their values are.
struct Found<'a, 's> {
    text: &'a str,
    spans: &'s [Option<Range<usize>>; KEYS.len()],
}

impl<'a> Found<'a, '_> {
    /// Where the value of `key` is, and its text, unless it is `null`.
    fn value(&self, key: Key) -> Option<(Range<usize>, &'a str)> {
        let span = self.spans.get(key as usize)?.clone()?;
        let text = self.text.get(span.clone())?;
        (text != "null").then_some((span, text))
    }

    fn string(&self, key: Key) -> Result<Option<Field<'a>>, Fault> {
        let Some((span, text)) = self.value(key) else { return Ok(None) };
        let decoded = unquoted(text).and_then(decode);
        let text = decoded.ok_or_else(|| wrong(&span, name(key), "a string"))?;
        Ok(Some(Field { span, text }))
    }

    fn boolean(&self, key: Key) -> Result<Option<bool>, Fault> {
        let Some((span, text)) = self.value(key) else { return Ok(None) };
        boolean(text).map(Some).ok_or_else(|| wrong(&span, name(key), "a boolean"))
    }

    fn count(&self, key: Key) -> Result<Option<u64>, Fault> {
        let Some((span, text)) = self.value(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| wrong(&span, name(key), "a non-negative integer"))
    }

    fn max_tokens(&self) -> Result<Option<u64>, Fault> {
        let bounds = [Key::MaxTokens, Key::MaxCompletionTokens, Key::MaxOutputTokens];
        let said: Option<u64> =
            bounds.into_iter().try_fold(None, |largest, key| Ok(largest.max(self.count(key)?)))?;
        Ok(said.or_else(|| self.max_tokens_inside()))
    }

    /// What Google and AWS put into an object of its own. A number may be a text there; what is neither says nothing here,
    /// and is the upstream's to refuse.
    fn max_tokens_inside(&self) -> Option<u64> {
        const NAMES: [&str; 3] = ["maxOutputTokens", "max_output_tokens", "maxTokens"];
        let mut largest = None;
        for key in [Key::Generation, Key::GenerationToo, Key::Inference] {
            let Some((span, _)) = self.value(key) else { continue };
            let read = self.inside(span, |name, span| {
                if decode(name).is_some_and(|name| NAMES.contains(&name.as_ref())) {
                    let text = self.text.get(span).unwrap_or_default();
                    largest = largest.max(unquoted(text).unwrap_or(text).parse().ok());
                }
                Ok(())
            });
            // It was checked before.
            read.ok()?;
        }
        largest
    }

    fn user(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        if let Some(user) = self.string(Key::User)? {
            return Ok(Some(user.text));
        }
        let Some((span, _)) = self.value(Key::Metadata) else { return Ok(None) };
        let mut user = None;
        self.inside(span, |name, span| {
            if decode(name).as_deref() == Some("user_id") {
                user = self.text.get(span).and_then(unquoted).and_then(decode);
            }
            Ok(())
        })?;
        Ok(user)
    }

    fn stream_options(&self) -> Result<StreamOptions, Fault> {
        let Some(span) = self.spans.get(Key::StreamOptions as usize).cloned().flatten() else {
            return Ok(StreamOptions::Absent);
        };
        match self.text.as_bytes().get(span.start) {
            Some(b'{') => {}
            Some(b'n') => return Ok(StreamOptions::Null(span)),
            _ => return Err(wrong(&span, name(Key::StreamOptions), "an object")),
        }
        const FIELD: &str = "stream_options.include_usage";
        let (mut is_empty, mut include_usage) = (true, None);
        self.inside(span.clone(), |name, value| {
            is_empty = false;
            if decode(name).as_deref() != Some("include_usage") {
                return Ok(());
            }
            if include_usage.is_some() {
                return Err(Fault { at: value.start, what: What::Duplicate(FIELD) });
            }
            let wanted = match self.text.get(value.clone()) {
                Some("null") => false,
                text => text.and_then(boolean).ok_or_else(|| wrong(&value, FIELD, "a boolean"))?,
            };
            include_usage = Some((value, wanted));
            Ok(())
        })?;
        Ok(StreamOptions::Object { span, is_empty, include_usage })
    }

    /// Visits the members of the object at `span`, which has been checked already. Anything else has none.
    fn inside(
        &self,
        span: Range<usize>,
        mut visit: impl FnMut(&'a str, Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.text.as_bytes().get(span.start) != Some(&b'{') {
            return Ok(());
        }
        Scanner::new(self.text, span.start).members(|name, _, span| visit(name, span))
    }

    fn prompt_bytes(&self) -> usize {
        self.spans.iter().skip(FIRST_PROMPT).flatten().map(Range::len).sum()
    }
}

fn name(key: Key) -> &'static str {
    KEYS.get(key as usize).copied().unwrap_or_default()
}

fn wrong(span: &Range<usize>, field: &'static str, wants: &'static str) -> Fault {
    Fault { at: span.start, what: What::WrongType { field, wants } }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// What is between the quotes of a string, if `text` is one.
fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// The text that the inside of a checked string stands for, or nothing if a surrogate in it stands alone.
fn decode(inside: &str) -> Option<Cow<'_, str>> {
    let mut rest = inside;
    let Some((mut plain, mut escape)) = rest.split_once('\\') else { return Some(Cow::Borrowed(inside)) };
    let mut out = String::with_capacity(inside.len());
    loop {
        out.push_str(plain);
        let mut after = escape.chars();
        let letter = match after.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => unicode(&mut after)?,
            literal => literal,
        };
        out.push(letter);
        rest = after.as_str();
        match rest.split_once('\\') {
            Some(split) => (plain, escape) = split,
            None => {
                out.push_str(rest);
                return Some(Cow::Owned(out));
            }
        }
    }
}

/// The character of a `\u` escape whose `\u` has been read, with the second half of a surrogate pair.
fn unicode(after: &mut std::str::Chars<'_>) -> Option<char> {
    let high = hex4(after)?;
    if !(0xd800..0xe000).contains(&high) {
        return char::from_u32(high);
    }
    let (Some('\\'), Some('u')) = (after.next(), after.next()) else { return None };
    let low = hex4(after)?;
    if high >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

fn hex4(after: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |value, _| Some(value * 16 + after.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn read(body: &str) -> Envelope<'_> {
        Envelope::parse(body.as_bytes()).unwrap()
    }

    fn what(body: impl AsRef<[u8]>) -> What {
        Envelope::parse(body.as_ref()).unwrap_err().what
    }

    #[test]
    fn the_members_routing_needs_are_found() {
        let body = r#" {"model": "gpt-\u0034o", "messages": [{"role":"user","content":"hé"}], "stream": true,
            "stream_options": {"include_usage": false, "x": 1}, "max_tokens": 7, "max_completion_tokens": 9,
            "user": "ann", "n": 2, "tools": []} "#;
        let envelope = read(body);
        let model = envelope.model.clone().unwrap();
        assert_eq!(model.text, "gpt-4o");
        assert_eq!(body.get(model.span), Some(r#""gpt-\u0034o""#));
        assert_eq!((envelope.stream, envelope.max_tokens, envelope.n), (Some(true), Some(9), Some(2)));
        assert_eq!(envelope.user.as_deref(), Some("ann"));
        assert_eq!(envelope.stream_options.include_usage(), Some(false));
        assert_eq!(envelope.prompt_bytes, r#"[{"role":"user","content":"hé"}]"#.len() + 2);
        assert_eq!((envelope.insert_at, envelope.is_empty), (2, false));
        let StreamOptions::Object { span, is_empty: false, include_usage: Some((value, false)) } =
            envelope.stream_options
        else {
            panic!("an object with include_usage")
        };
        assert_eq!(body.get(span), Some(r#"{"include_usage": false, "x": 1}"#));
        assert_eq!(body.get(value), Some("false"));
    }

    #[test]
    fn the_length_of_an_answer_is_found_where_each_dialect_has_it() {
        for body in [
            r#"{"max_output_tokens":7}"#,
            r#"{"generationConfig":{"maxOutputTokens":7,"x":1}}"#,
            r#"{"generation_config":{"max_output_tokens":"7"}}"#,
            r#"{"inferenceConfig":{"maxTokens":7}}"#,
        ] {
            assert_eq!(read(body).max_tokens, Some(7), "{body}");
        }
        for body in [r#"{"generationConfig":null}"#, r#"{"inferenceConfig":{"maxTokens":"many"}}"#] {
            assert_eq!(read(body).max_tokens, None, "{body}");
        }
    }

    #[test]
    fn all_that_becomes_prompt_counts() {
        for body in [
            r#"{"systemInstruction":"12345678"}"#,
            r#"{"system_instruction":"12345678"}"#,
            r#"{"toolConfig":"12345678"}"#,
            r#"{"functions":"12345678"}"#,
            r#"{"query":"1234","documents":"1234"}"#,
            r#"{"suffix":"12345678"}"#,
        ] {
            assert!(read(body).prompt_bytes >= 10, "{body}");
        }
    }

    #[test]
    fn null_counts_as_absent_but_keeps_its_place() {
        let envelope =
            read(r#"{"model":null,"stream":null,"max_tokens":null,"stream_options":null,"user":null}"#);
        assert!(envelope.model.is_none() && envelope.stream.is_none() && envelope.user.is_none());
        assert_eq!(envelope.max_tokens, None);
        assert!(matches!(envelope.stream_options, StreamOptions::Null(_)));
        assert_eq!(envelope.span("model"), Some(9..13));
        assert_eq!(envelope.span("top_p"), None);
    }

    #[test]
    fn an_empty_object_has_its_insertion_point() {
        let envelope = read("{ }");
        assert!(envelope.is_empty);
        assert_eq!(envelope.insert_at, 1);
        assert_eq!(envelope.stream_options, StreamOptions::Absent);
    }

    #[test]
    fn the_user_of_messages_is_in_its_metadata() {
        assert_eq!(read(r#"{"metadata":{"user_id":"u\n1"}}"#).user.as_deref(), Some("u\n1"));
        assert_eq!(read(r#"{"metadata":{"user_id":"a"},"user":"b"}"#).user.as_deref(), Some("b"));
        assert_eq!(read(r#"{"metadata":"user_id"}"#).user, None);
        assert_eq!(read(r#"{"metadata":{"user_id":7}}"#).user, None);
    }

    #[test]
    fn no_name_can_hide_from_the_edge() {
        assert_eq!(read(r#"{"mod\u0065l":"m"}"#).model.unwrap().text, "m");
        assert_eq!(what(r#"{"model":"a","mod\u0065l":"b"}"#), What::Duplicate("model"));
        assert_eq!(what(r#"{"model":null,"model":"b"}"#), What::Duplicate("model"));
        assert_eq!(what(r#"{"Model":"a"}"#), What::Miscased("model"));
        assert_eq!(what(r#"{"max_toKens":1}"#), What::Miscased("max_tokens"));
        assert_eq!(what("{\"max_to\u{212a}ens\":1}"), What::Miscased("max_tokens"));
        assert_eq!(what("{\"\u{17f}tream\":true}"), What::Miscased("stream"));
        assert_eq!(
            what(r#"{"stream_options":{"include_usage":true,"include_us\u0061ge":false}}"#),
            What::Duplicate("stream_options.include_usage")
        );
        assert!(
            Envelope::parse(br#"{"top_p":1,"top_p":2,"\ud800":1,"messages":[{"model":"x","model":"y"}]}"#)
                .is_ok()
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_field() {
        for (body, field) in [
            (r#"{"model":7}"#, "model"),
            (r#"{"model":["a"]}"#, "model"),
            (r#"{"model":"\ud800"}"#, "model"),
            (r#"{"stream":"true"}"#, "stream"),
            (r#"{"stream":1}"#, "stream"),
            (r#"{"max_tokens":-1}"#, "max_tokens"),
            (r#"{"max_tokens":1.0}"#, "max_tokens"),
            (r#"{"max_completion_tokens":1e3}"#, "max_completion_tokens"),
            (r#"{"max_output_tokens":"9"}"#, "max_output_tokens"),
            (r#"{"max_tokens":18446744073709551616}"#, "max_tokens"),
            (r#"{"n":{}}"#, "n"),
            (r#"{"user":1}"#, "user"),
            (r#"{"stream_options":true}"#, "stream_options"),
            (r#"{"stream_options":{"include_usage":1}}"#, "stream_options.include_usage"),
        ] {
            let fault = Envelope::parse(body.as_bytes()).unwrap_err();
            assert!(matches!(fault.what, What::WrongType { .. }), "{body}: {fault}");
            assert_eq!(fault.field(), Some(field), "{body}");
        }
        assert_eq!(read(r#"{"max_tokens":18446744073709551615}"#).max_tokens, Some(u64::MAX));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(what(""), What::Empty);
        assert_eq!(what(" \r\n\t"), What::Empty);
        assert_eq!(what("[]"), What::NotObject);
        assert_eq!(what("null"), What::NotObject);
        assert_eq!(what("hello"), What::Expected("an object"));
        assert_eq!(what("\u{feff}{}"), What::ByteOrderMark);
        assert_eq!(what(b"{\"a\":\"\xff\"}"), What::NotUtf8);
        assert_eq!(what("{} {}"), What::Trailing);
        assert_eq!(what("{}\0"), What::Trailing);
    }

    #[test]
    fn values_follow_the_grammar_to_the_letter() {
        for good in [
            "0",
            "-0",
            "-0.0",
            "12",
            "1.5",
            "1e5",
            "1E+5",
            "1e-05",
            "123e999",
            "[]",
            "[ ]",
            "{}",
            "[1,[2,{}],\"\"]",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud800\"",
            "\"\u{7f}\u{2028}\u{10ffff}\"",
            "true",
            "false",
            "null",
            "{\"\":0}",
            " \n\r\t1",
        ] {
            let body = format!("{{\"a\":{good}}}");
            assert!(Envelope::parse(body.as_bytes()).is_ok(), "{body}");
        }
        for bad in [
            "",
            "01",
            "-",
            "-01",
            "+1",
            "1.",
            ".5",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "1a",
            "1 2",
            "NaN",
            "Infinity",
            "-Infinity",
            "nul",
            "nulll",
            "True",
            "tru",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u\"",
            "\"\n\"",
            "\"\0\"",
            "\"\u{1f}\"",
            "'a'",
            "/**/1",
            "1//",
            "\u{a0}1",
            "\u{c}1",
            "1,",
            ",1",
            "]",
            "}",
        ] {
            let body = format!("{{\"a\":{bad}}}");
            assert!(Envelope::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_counted() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        let limit = DEPTH as usize - 1;
        assert!(Envelope::parse(nested(limit).as_bytes()).is_ok());
        assert_eq!(what(nested(limit + 1)), What::TooDeep);
        let objects = format!("{}1{}", "{\"a\":".repeat(limit + 1), "}".repeat(limit + 1));
        assert!(Envelope::parse(objects.as_bytes()).is_ok());
        assert_eq!(what("{\"a\":".repeat(100_000)), What::TooDeep);
    }

    // === The scanner against serde_json ===

    /// The top-level members as serde_json has them, in order, duplicates included.
    struct Members<'a>(Vec<(String, &'a RawValue)>);

    impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }

    /// The deepest nesting of checked JSON.
    fn depth(body: &[u8]) -> u32 {
        let (mut now, mut deepest, mut in_string, mut escaped) = (0, 0, false, false);
        for byte in body {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => {
                    now += 1;
                    deepest = deepest.max(now);
                }
                b'}' | b']' if !in_string => now -= 1,
                _ => {}
            }
        }
        deepest
    }

    /// `Envelope::parse` accepts what serde_json accepts as an object, but for the differences the module documents,
    /// and finds the values where serde_json finds them.
    fn agrees(body: &[u8]) -> Result<(), TestCaseError> {
        let ours = Envelope::parse(body);
        let theirs: Result<Members<'_>, _> = serde_json::from_slice(body);
        match (&ours, &theirs) {
            (Ok(envelope), Ok(members)) => {
                let members: BTreeMap<&str, &RawValue> =
                    members.0.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                for key in KEYS {
                    let theirs = members.get(key).map(|raw| {
                        let start = raw.get().as_ptr().addr() - body.as_ptr().addr();
                        start..start + raw.get().len()
                    });
                    prop_assert_eq!(envelope.span(key), theirs);
                }
                prop_assert_eq!(envelope.is_empty, members.is_empty());
            }
            (Err(fault), Ok(_)) => {
                // Ours alone: a bound on depth, and members that must be clear.
                let allowed = match fault.what {
                    What::TooDeep => depth(body) > DEPTH,
                    _ => fault.field().is_some(),
                };
                prop_assert!(allowed, "{}: {:?}", fault, body);
            }
            // serde_json decodes every member name, and so refuses one with a lone surrogate.
            (Ok(_), Err(error)) => prop_assert!(
                error.to_string().contains("surrogate") || error.to_string().contains("hex escape"),
                "{}",
                error
            ),
            (Err(_), Err(_)) => {}
        }
        Ok(())
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(Into::into),
        ];
        let name = prop_oneof![any::<String>(), proptest::sample::select(&KEYS[..]).prop_map(str::to_owned)];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
                proptest::collection::vec((name.clone(), inner), 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_serde_json_on_json(value in json(), pretty in any::<bool>()) {
            let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            agrees(&body.unwrap())?;
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_json(
            value in json(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
        ) {
            let mut body = serde_json::to_vec(&value).unwrap();
            for (place, byte, how) in damage {
                if body.is_empty() {
                    break;
                }
                let place = place.index(body.len());
                match how {
                    0 => body[place] = byte,
                    1 => body.insert(place, byte),
                    _ => drop(body.remove(place)),
                }
            }
            agrees(&body)?;
        }

        #[test]
        fn agrees_with_serde_json_on_near_json(body in r#"\{("(model|n|a|\\u006e|\\)":)?[\[\]{}",:0-9.eE+\-a-z\\ ]{0,12}\}"#) {
            agrees(body.as_bytes())?;
        }

        #[test]
        fn agrees_with_serde_json_on_anything(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            agrees(&body)?;
        }

        #[test]
        fn strings_decode_as_serde_json_has_them(text in any::<String>(), user in any::<String>()) {
            let body = serde_json::to_string(&serde_json::json!({"model": text, "user": user})).unwrap();
            let envelope = read(&body);
            prop_assert_eq!(envelope.model.unwrap().text, text);
            prop_assert_eq!(envelope.user.unwrap(), user);
        }

        #[test]
        fn escapes_decode_as_serde_json_has_them(body in r#"(a|\\n|\\/|\\\\|\\"|\\u00[0-9a-f]{2}|\\ud83d\\ude00|\\u[cdDe][0-9a-fA-F]{3}|é){0,6}"#) {
            let theirs: Option<String> = serde_json::from_str(&format!("\"{body}\"")).ok();
            prop_assert_eq!(decode(&body).map(Cow::into_owned), theirs);
        }
    }
}
