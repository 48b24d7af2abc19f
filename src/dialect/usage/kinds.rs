//! What of the prompt and the reply is priced apart, in the words of each dialect.

use std::num::NonZeroU64;

use serde::Deserialize;

use crate::dialect::ir::lenient::Raw;
use crate::json::decimal::scaled;

/// Tokens that are priced apart from the others of the prompt or the reply, and what the upstream says of money. Nought
/// is as good as not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Those of what was written to the cache that are kept for an hour, and not for five minutes.
    pub written_hour: u32,
    /// Those of the prompt that are sound.
    pub audio_in: u32,
    /// Those of the prompt that are pictures.
    pub image_in: u32,
    /// Those of the reply that are sound.
    pub audio_out: u32,
    /// Those of the reply that are pictures.
    pub image_out: u32,
    /// What is billed, where that is not what was used.
    pub billed: Option<Billed>,
    /// What the upstream says that it costs, in picodollars.
    pub told: Option<NonZeroU64>,
}

/// What an upstream bills that tells it apart from what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the reply.
    pub output: u32,
    /// Searches: a query with up to 100 documents is one.
    pub searches: u32,
}

impl Kinds {
    /// Those of OpenAI's dialects: the details of the prompt's tokens and of the reply's.
    pub(in super::super) fn openai(input: Raw<'_>, output: Raw<'_>) -> Self {
        let input = input.object::<Media<'_>>().unwrap_or_default();
        let output = output.object::<Media<'_>>().unwrap_or_default();
        Self {
            audio_in: count(input.audio_tokens),
            image_in: count(input.image_tokens),
            audio_out: count(output.audio_tokens),
            image_out: count(output.image_tokens),
            ..Self::default()
        }
    }

    /// With what the upstream says that it costs: OpenRouter in `cost`, Perplexity in its `total_cost`, in dollars; xAI in
    /// `cost_in_usd_ticks`, of which a dollar has 10^10.
    pub(in super::super) fn told(mut self, cost: Raw<'_>, ticks: Raw<'_>) -> Self {
        let dollars = |raw: Raw<'_>| raw.get().and_then(|text| scaled(text, 12));
        let total = || dollars(cost.object::<Cost<'_>>()?.total_cost);
        let ticks = || ticks.get().and_then(|text| scaled(text, 2));
        let said = dollars(cost).or_else(total).or_else(ticks);
        self.told = said.and_then(|said| NonZeroU64::new(u64::try_from(said).ok()?));
        self
    }

    /// Those of Anthropic: `cache_creation`.
    pub(in super::super) fn anthropic(creation: Raw<'_>) -> Self {
        let creation = creation.object::<Creation<'_>>().unwrap_or_default();
        Self { written_hour: count(creation.ephemeral_1h_input_tokens), ..Self::default() }
    }

    /// Those of Bedrock's Converse: `cacheDetails`.
    pub(in super::super) fn bedrock(details: Raw<'_>) -> Self {
        let hours = details.items::<Kept<'_>>().into_iter();
        let hours = hours.filter(|kept| kept.ttl.text().is_some_and(|ttl| ttl == *"1h"));
        let written_hour = hours.fold(0_u32, |sum, kept| sum.saturating_add(count(kept.input_tokens)));
        Self { written_hour, ..Self::default() }
    }

    /// Those of Gemini: the modalities of the prompt and of the candidates.
    pub(in super::super) fn gemini(prompt: Raw<'_>, candidates: Raw<'_>) -> Self {
        let mut kinds = Self::default();
        for (details, audio, image) in [
            (prompt, &mut kinds.audio_in, &mut kinds.image_in),
            (candidates, &mut kinds.audio_out, &mut kinds.image_out),
        ] {
            for part in details.items::<Modality<'_>>() {
                let Some(modality) = part.modality.text() else { continue };
                if modality == *"AUDIO" {
                    *audio = audio.saturating_add(count(part.token_count));
                } else if modality == *"IMAGE" {
                    *image = image.saturating_add(count(part.token_count));
                }
            }
        }
        kinds
    }

    /// Those of Cohere: `billed_units`.
    pub(in super::super) fn cohere(units: Raw<'_>) -> Self {
        let billed = units.object::<Units<'_>>().map(|units| Billed {
            input: count(units.input_tokens),
            output: count(units.output_tokens),
            searches: count(units.search_units),
        });
        Self { billed, ..Self::default() }
    }

    /// Takes in what was reported later, and may hold only what changed.
    pub(in super::super) fn update(&mut self, later: Self) {
        let take = |slot: &mut u32, count: u32| {
            if count > 0 {
                *slot = count;
            }
        };
        take(&mut self.written_hour, later.written_hour);
        take(&mut self.audio_in, later.audio_in);
        take(&mut self.image_in, later.image_in);
        take(&mut self.audio_out, later.audio_out);
        take(&mut self.image_out, later.image_out);
        self.billed = later.billed.or(self.billed);
        self.told = later.told.or(self.told);
    }

    /// What of it is more than `part`.
    pub(super) fn less(&self, part: &Self) -> Self {
        let told = |kinds: &Self| kinds.told.map_or(0, NonZeroU64::get);
        let billed = |all: Billed| {
            let part = part.billed.unwrap_or_default();
            Billed {
                input: all.input.saturating_sub(part.input),
                output: all.output.saturating_sub(part.output),
                searches: all.searches.saturating_sub(part.searches),
            }
        };
        Self {
            written_hour: self.written_hour.saturating_sub(part.written_hour),
            audio_in: self.audio_in.saturating_sub(part.audio_in),
            image_in: self.image_in.saturating_sub(part.image_in),
            audio_out: self.audio_out.saturating_sub(part.audio_out),
            image_out: self.image_out.saturating_sub(part.image_out),
            billed: self.billed.map(billed),
            told: NonZeroU64::new(told(self).saturating_sub(told(part))),
        }
    }
}

fn count(raw: Raw<'_>) -> u32 {
    raw.count().map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Media<'a> {
    #[serde(borrow)]
    audio_tokens: Raw<'a>,
    #[serde(borrow)]
    image_tokens: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cost<'a> {
    #[serde(borrow)]
    total_cost: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Creation<'a> {
    #[serde(borrow)]
    ephemeral_1h_input_tokens: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kept<'a> {
    #[serde(borrow)]
    ttl: Raw<'a>,
    #[serde(borrow)]
    input_tokens: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Modality<'a> {
    #[serde(borrow)]
    modality: Raw<'a>,
    #[serde(borrow)]
    token_count: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Units<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    search_units: Raw<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Raw<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_dialect_says_it_in_its_own_words() {
        let none = Raw::default();
        let openai = Kinds::openai(
            raw(r#"{"audio_tokens":43,"image_tokens":7,"cached_tokens":1}"#),
            raw(r#"{"audio_tokens":5,"image_tokens":"x"}"#),
        );
        assert_eq!((openai.audio_in, openai.image_in, openai.audio_out, openai.image_out), (43, 7, 5, 0));
        let claude = r#"{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":9}"#;
        assert_eq!(Kinds::anthropic(raw(claude)).written_hour, 9);
        let bedrock =
            r#"[{"inputTokens":3,"ttl":"5m"},{"inputTokens":4,"ttl":"1h"},{"inputTokens":5,"ttl":"1h"},7]"#;
        assert_eq!(Kinds::bedrock(raw(bedrock)).written_hour, 9);
        let gemini = Kinds::gemini(
            raw(r#"[{"modality":"TEXT","tokenCount":6},{"modality":"AUDIO","tokenCount":139}]"#),
            raw(r#"[{"modality":"IMAGE","tokenCount":1290},{"modality":"VIDEO","tokenCount":1},{}]"#),
        );
        assert_eq!((gemini.audio_in, gemini.image_in, gemini.image_out), (139, 0, 1290));
        let cohere = Kinds::cohere(raw(r#"{"input_tokens":10,"output_tokens":104,"search_units":2}"#));
        assert_eq!(cohere.billed, Some(Billed { input: 10, output: 104, searches: 2 }));
        assert_eq!(Kinds::openai(none, raw("[1]")), Kinds::default());
    }

    #[test]
    fn what_an_upstream_says_that_it_costs_is_exact() {
        let told =
            |cost: &str, ticks: &str| Kinds::default().told(raw(cost), raw(ticks)).told.map(NonZeroU64::get);
        assert_eq!(told("0.000427", "null"), Some(427_000_000));
        assert_eq!(told(r#"{"input_tokens_cost":1e-05,"total_cost":0.00507}"#, "null"), Some(5_070_000_000));
        assert_eq!(told("null", "6306000"), Some(630_600_000));
        for nothing in ["null", "\"0.1\"", "-1", "{}", "0"] {
            assert_eq!(told(nothing, "null"), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_reported_later_goes_over_and_a_part_is_taken_out() {
        let mut kinds = Kinds { written_hour: 5, audio_in: 1, ..Kinds::default() };
        let later = Kinds { audio_in: 4, told: NonZeroU64::new(9), ..Kinds::default() };
        kinds.update(later);
        assert_eq!((kinds.written_hour, kinds.audio_in, kinds.told), (5, 4, NonZeroU64::new(9)));
        let part = Kinds { audio_in: 3, told: NonZeroU64::new(9), ..Kinds::default() };
        let rest = kinds.less(&part);
        assert_eq!((rest.written_hour, rest.audio_in, rest.told), (5, 1, None));
    }
}
