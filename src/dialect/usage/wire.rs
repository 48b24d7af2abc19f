//! Types of events and usage objects, as they are on the wire.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Input, Kinds, Output, Usage};
use crate::dialect::ir::lenient::Raw;
use crate::frame::sse::Event;

/// The type of an event: its name, or `type` in its data where the upstream names no events.
pub(super) fn kind<'e>(event: &'e Event<'_>) -> Cow<'e, [u8]> {
    const LEAD: &[u8] = b"{\"type\":\"";
    if !matches!(event.name.as_ref(), b"" | b"message" | b"data") {
        return Cow::Borrowed(&event.name);
    }
    if let Some(rest) = event.data.strip_prefix(LEAD) {
        return Cow::Borrowed(rest.split(|&byte| byte == b'"').next().unwrap_or_default());
    }
    #[derive(serde::Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    match serde_json::from_slice::<Typed<'_>>(&event.data) {
        Ok(typed) => Cow::Owned(typed.kind.into_owned().into_bytes()),
        Err(_) => Cow::Borrowed(b""),
    }
}

/// A usage object of any dialect. Members of unexpected types count as absent.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Counts<'a> {
    prompt_tokens: Count,
    completion_tokens: Count,
    pub(super) input_tokens: Count,
    pub(super) output_tokens: Count,
    pub(super) cache_read_input_tokens: Count,
    pub(super) cache_creation_input_tokens: Count,
    prompt_cache_hit_tokens: Count,
    #[serde(borrow)]
    cache_creation: Raw<'a>,
    #[serde(borrow)]
    cost: Raw<'a>,
    #[serde(borrow)]
    cost_in_usd_ticks: Raw<'a>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
}

/// What `*_tokens_details` hold.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    cache_write_tokens: Count,
    reasoning_tokens: Count,
    thinking_tokens: Count,
}

impl<'a> Counts<'a> {
    /// Reads a usage object; nothing if it is none.
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        object(raw)
    }

    /// The usage of an OpenAI dialect, where totals hold everything. Nothing if it has no total.
    pub(super) fn openai(&self) -> Option<Usage> {
        let (read, made) = (
            self.prompt_tokens_details.or(self.input_tokens_details),
            self.completion_tokens_details.or(self.output_tokens_details),
        );
        let (input, output) = (details(read), details(made));
        let usage = Usage {
            input: Input {
                total: self.prompt_tokens.0.or(self.input_tokens.0),
                cached: input.cached_tokens.0.or(self.prompt_cache_hit_tokens.0),
                written: input.cache_write_tokens.0,
            },
            output: Output {
                total: self.completion_tokens.0.or(self.output_tokens.0),
                reasoning: output.reasoning_tokens.0,
            },
            kinds: Kinds::openai(raw(read), raw(made)).told(self.cost, self.cost_in_usd_ticks),
        };
        (usage.input.total.is_some() || usage.output.total.is_some()).then_some(usage)
    }
}

/// The usage of Anthropic Messages, where `input_tokens` leaves the cache out. Later reports overwrite earlier ones,
/// member by member, because they are cumulative and may hold only what changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claude {
    uncached: Option<u64>,
    cached: Option<u64>,
    written: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    kinds: Kinds,
}

impl Claude {
    pub(super) fn update(&mut self, counts: &Counts<'_>) {
        let take = |slot: &mut Option<u64>, count: Count| *slot = count.0.or(*slot);
        take(&mut self.uncached, counts.input_tokens);
        take(&mut self.cached, counts.cache_read_input_tokens);
        take(&mut self.written, counts.cache_creation_input_tokens);
        take(&mut self.output, counts.output_tokens);
        take(&mut self.thinking, details(counts.output_tokens_details).thinking_tokens);
        self.kinds.update(Kinds::anthropic(counts.cache_creation));
    }

    /// The usage so far. Nothing if there is no total.
    pub(super) fn usage(&self) -> Option<Usage> {
        let cache = self.cached.unwrap_or(0).saturating_add(self.written.unwrap_or(0));
        let usage = Usage {
            input: Input {
                total: self.uncached.map(|uncached| uncached.saturating_add(cache)),
                cached: self.cached,
                written: self.written,
            },
            output: Output { total: self.output, reasoning: self.thinking },
            kinds: self.kinds,
        };
        (usage.input.total.is_some() || usage.output.total.is_some()).then_some(usage)
    }
}

fn raw(value: Option<&RawValue>) -> Raw<'_> {
    value.map(Raw::of).unwrap_or_default()
}

fn details(raw: Option<&RawValue>) -> Details {
    raw.and_then(object).unwrap_or_default()
}

/// Reads an object; nothing if the value is anything else. (Serde would take an array for a struct, by position.)
pub(super) fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// A number of tokens: a non-negative whole number. Anything else reads as absent, and does not spoil its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
        Ok(Count(Some(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
        Ok(Count(value.try_into().ok()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Count, E> {
        // Beyond 2^53 a float no longer holds every integer; no count is that large.
        let whole = value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&value);
        Ok(Count(whole.then_some(value as u64)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_members_do_not_spoil_the_others() {
        let text = r#"{"prompt_tokens":3.0,"completion_tokens":"7","total_tokens":{},"prompt_tokens_details":[1],
            "completion_tokens_details":{"reasoning_tokens":-1,"audio_tokens":null},"cost":{"a":[1]},
            "input_tokens":null,"output_tokens":1.5,"cache_read_input_tokens":true}"#;
        let counts: Counts<'_> = serde_json::from_str(text).unwrap();
        let usage = counts.openai().unwrap();
        assert_eq!(usage.input, Input { total: Some(3), cached: None, written: None });
        assert_eq!(usage.output, Output::default());
    }

    #[test]
    fn no_total_is_no_usage() {
        let counts: Counts<'_> = serde_json::from_str(r#"{"total_tokens":3}"#).unwrap();
        assert_eq!(counts.openai(), None);
        assert_eq!(Claude::default().usage(), None);
    }

    #[test]
    fn the_input_of_claude_is_a_sum_and_later_reports_win() {
        let mut claude = Claude::default();
        for text in [
            r#"{"input_tokens":5,"cache_read_input_tokens":10,"cache_creation_input_tokens":20,"output_tokens":1}"#,
            r#"{"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}"#,
        ] {
            claude.update(&serde_json::from_str(text).unwrap());
        }
        let usage = claude.usage().unwrap();
        assert_eq!(usage.input, Input { total: Some(35), cached: Some(10), written: Some(20) });
        assert_eq!(usage.output, Output { total: Some(9), reasoning: Some(4) });
    }

    #[test]
    fn the_type_of_an_event_is_found_with_and_without_a_name() {
        let read = |block: &str| kind(&Event::read(block.as_bytes()).unwrap()).into_owned();
        assert_eq!(read("event: ping\ndata: {\"type\":\"other\"}\n\n"), b"ping");
        assert_eq!(read("data: {\"type\":\"response.created\",\"x\":1}\n\n"), b"response.created");
        assert_eq!(read("data: {\"item\":{\"type\":\"message\"}, \"type\": \"a\\u0062\"}\n\n"), b"ab");
        assert_eq!(read("event: data\ndata: [DONE]\n\n"), b"");
    }
}
