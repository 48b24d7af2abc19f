//! Tables of prices: the shipped one, and those of operators, in the same form.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Models, Money, Price, RATE, Rates};
use crate::json::decimal::scaled;
use crate::pattern::Pattern;

/// The shipped table. Prices for a million tokens, in dollars, as of the month in its name.
const SHIPPED: &str = include_str!("../../../data/prices-2026-11.json");

/// The shipped prices. They are read once; a unit test reads them, too.
static BOOK: LazyLock<Arc<Book>> = LazyLock::new(|| {
    Arc::new(Book::read(SHIPPED).unwrap_or_else(|wrong| {
        log::error!("the shipped prices cannot be read, so nothing has one: {wrong}");
        Book::default()
    }))
});

/// The shipped prices.
pub fn shipped() -> Arc<Book> {
    Arc::clone(&BOOK)
}

/// Prices by provider.
#[derive(Debug, Default)]
pub struct Book {
    /// Of what day it is.
    pub as_of: String,
    providers: HashMap<String, Models>,
    told_by: HashSet<String>,
}

/// Prices of a row, in dollars for a million tokens, as they are written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tier {
    /// Of the prompt.
    pub input: Option<String>,
    /// Read from the cache. Left out: as `input`.
    pub cached: Option<String>,
    /// Written to the cache. Left out: as `input`.
    pub written: Option<String>,
    /// Written to the cache for an hour. Left out: as `written`.
    pub written_hour: Option<String>,
    /// Sound in the prompt. Left out: as `input`.
    pub audio_input: Option<String>,
    /// Pictures in the prompt. Left out: as `input`.
    pub image_input: Option<String>,
    /// Of the reply.
    pub output: Option<String>,
    /// Of reasoning. Left out: as `output`.
    pub reasoning: Option<String>,
    /// Sound in the reply. Left out: as `output`.
    pub audio_output: Option<String>,
    /// Pictures in the reply. Left out: as `output`.
    pub image_output: Option<String>,
}

/// What a row says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The providers, by their names in Forebay.
    pub providers: Vec<String>,
    /// The models, by their names there; each may hold one `*`.
    pub models: Vec<String>,
    /// What a million tokens cost.
    #[serde(flatten)]
    pub tier: Tier,
    /// What they cost where the prompt is longer.
    pub over: Option<Over>,
    /// A request, dollars.
    pub request: Option<String>,
    /// A search, dollars.
    pub search: Option<String>,
}

/// Prices for longer prompts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Over {
    /// Longer than so many tokens.
    pub tokens: u64,
    /// What a million tokens of the whole request cost then. Left out: as in the row.
    #[serde(flatten)]
    pub tier: Tier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    as_of: String,
    #[serde(default)]
    told_by: HashSet<String>,
    rows: Vec<Map<String, Value>>,
}

/// The keys of a row that are no prices.
const KEYS: [&str; 7] = ["providers", "models", "over", "request", "search", "source", "checked"];
/// The keys of prices.
const PRICES: [&str; 10] = [
    "input",
    "cached",
    "written",
    "written_hour",
    "audio_input",
    "image_input",
    "output",
    "reasoning",
    "audio_output",
    "image_output",
];

/// Reads the rows of a table. A misspelt key would be a price that nobody knows.
fn rows(table: Vec<Map<String, Value>>) -> Result<Vec<Row>, String> {
    let read = |row: Map<String, Value>| {
        let over = row.get("over").and_then(Value::as_object);
        let within = over.into_iter().flat_map(Map::keys).find(|key| *key != "tokens" && !is_price(key));
        if let Some(key) = row.keys().find(|key| !KEYS.contains(&key.as_str()) && !is_price(key)).or(within) {
            return Err(format!("unknown key {key:?} in {}", Value::from(row.clone())));
        }
        serde_json::from_value(Value::from(row)).map_err(|error| error.to_string())
    };
    table.into_iter().map(read).collect()
}

fn is_price(key: &str) -> bool {
    PRICES.contains(&key)
}

impl Tier {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        let Self {
            input,
            cached,
            written,
            written_hour,
            audio_input,
            image_input,
            output,
            reasoning,
            audio_output,
            image_output,
        } = self;
        let all = [
            input,
            cached,
            written,
            written_hour,
            audio_input,
            image_input,
            output,
            reasoning,
            audio_output,
            image_output,
        ];
        all.into_iter().all(Option::is_none)
    }

    /// What it leaves out is as `other` says.
    fn or(&self, other: &Self) -> Self {
        let or = |own: &Option<String>, other: &Option<String>| own.as_ref().or(other.as_ref()).cloned();
        Self {
            input: or(&self.input, &other.input),
            cached: or(&self.cached, &other.cached),
            written: or(&self.written, &other.written),
            written_hour: or(&self.written_hour, &other.written_hour),
            audio_input: or(&self.audio_input, &other.audio_input),
            image_input: or(&self.image_input, &other.image_input),
            output: or(&self.output, &other.output),
            reasoning: or(&self.reasoning, &other.reasoning),
            audio_output: or(&self.audio_output, &other.audio_output),
            image_output: or(&self.image_output, &other.image_output),
        }
    }

    /// The rates, each in picodollars a token.
    ///
    /// # Errors
    /// The key whose price cannot be read.
    fn rates(&self) -> Result<Rates, &'static str> {
        let rate = |key: &'static str, text: &Option<String>, or: u64| match text {
            None => Ok(or),
            Some(text) => scaled(text, RATE).and_then(|rate| u64::try_from(rate).ok()).ok_or(key),
        };
        let input = rate("input", &self.input, 0)?;
        let output = rate("output", &self.output, 0)?;
        let written = rate("written", &self.written, input)?;
        Ok(Rates {
            input,
            cached: rate("cached", &self.cached, input)?,
            written,
            written_hour: rate("written_hour", &self.written_hour, written)?,
            audio_input: rate("audio_input", &self.audio_input, input)?,
            image_input: rate("image_input", &self.image_input, input)?,
            output,
            reasoning: rate("reasoning", &self.reasoning, output)?,
            audio_output: rate("audio_output", &self.audio_output, output)?,
            image_output: rate("image_output", &self.image_output, output)?,
        })
    }
}

impl Row {
    /// The price.
    ///
    /// # Errors
    /// The key whose value is no price.
    pub fn price(&self) -> Result<Price, &'static str> {
        let sum = |key: &'static str, text: &Option<String>| match text {
            None => Ok(Money::ZERO),
            Some(text) => Money::dollars(text).ok_or(key),
        };
        let rates = self.tier.rates()?;
        let over = match &self.over {
            None => Vec::new(),
            Some(over) => vec![(over.tokens, over.tier.or(&self.tier).rates().map_err(|_| "over")?)],
        };
        Ok(Price {
            rates,
            over,
            request: sum("request", &self.request)?,
            search: sum("search", &self.search)?,
        })
    }
}

impl Book {
    /// Reads a table: `as_of`, and `rows` of `providers`, `models` and prices, all prices as strings.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let table: Table = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut providers: HashMap<String, Models> = HashMap::new();
        for row in &rows(table.rows)? {
            let price = row.price().map_err(|key| format!("{:?}: {key} is no price", row.models))?;
            let price = Arc::new(price);
            for model in &row.models {
                let pattern = Pattern::parse(model).ok_or_else(|| format!("{model} has two stars"))?;
                for provider in &row.providers {
                    providers.entry(provider.clone()).or_default().add(&pattern, &price);
                }
            }
        }
        Ok(Self { as_of: table.as_of, providers, told_by: table.told_by })
    }

    /// The price of a model; its region may stand before its name, and Google's collection.
    pub(super) fn find(&self, provider: &str, model: &str) -> Option<&Arc<Price>> {
        let models = self.providers.get(provider)?;
        models.find(model).or_else(|| models.find(unplaced(model)?))
    }

    /// Whether that provider says itself what a reply costs.
    pub(super) fn tells(&self, provider: &str) -> bool {
        self.told_by.contains(provider)
    }

    /// The rows of a table, for whoever has one of their own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn rows(text: &str) -> Result<Vec<Row>, String> {
        let table: Table = serde_json::from_str(text).map_err(|error| error.to_string())?;
        rows(table.rows)
    }
}

/// The model's name without what says where it runs: Bedrock's inference profiles begin with a region, Gemini's full names
/// with `models/`.
fn unplaced(model: &str) -> Option<&str> {
    const REGIONS: [&str; 9] = ["us", "eu", "apac", "global", "jp", "au", "ca", "us-gov", "sa"];
    if let Some(name) = model.strip_prefix("models/") {
        return Some(name);
    }
    let (region, rest) = model.split_once('.')?;
    (REGIONS.contains(&region) && rest.contains('.')).then_some(rest)
}
