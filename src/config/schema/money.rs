//! What things cost, and where what is spent is recorded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::value::{Dollars, Pattern, Period, SecretRef, Size, Url};

/// Prices that Forebay does not know, or knows otherwise. Those of the providers' own models are shipped; nothing is ever
/// fetched.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// A JSON file of prices in the form of the shipped table: `{"rows": [{"providers": ["openai"], "models": ["gpt-5"],
    /// "input": "1.25", "output": "10"}]}`, each price a string. A relative path starts at the configuration file.
    pub file: Option<String>,
    /// Prices by cluster or provider and model. They go before those of the file, and those before the shipped ones; of
    /// several that match, the one with the most letters counts.
    pub rows: Vec<PriceRow>,
    /// Whether the shipped prices are used. If false, every model of a cloud needs a price here, or is unpriced.
    pub shipped: bool,
}

impl Default for Prices {
    fn default() -> Self {
        Self { file: None, rows: Vec::new(), shipped: true }
    }
}

/// What some models cost at some place. All prices are in dollars; those of tokens are for a million. What has no price of
/// its own costs what it is part of: `cached` and `written` as `input`, `reasoning` as `output`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    /// The cluster that it is for. Left out: every cluster of `provider`.
    pub cluster: Option<String>,
    /// The provider that it is for.
    pub provider: Option<String>,
    /// The model's name upstream; one `*` stands for anything.
    pub model: Pattern,
    /// Of the prompt.
    pub input: Option<Dollars>,
    /// Of the prompt, read from the provider's cache.
    pub cached: Option<Dollars>,
    /// Written to the cache.
    pub written: Option<Dollars>,
    /// Written to the cache to be kept for an hour. Left out: as `written`.
    pub written_hour: Option<Dollars>,
    /// Sound in the prompt.
    pub audio_input: Option<Dollars>,
    /// Pictures in the prompt.
    pub image_input: Option<Dollars>,
    /// Of the reply.
    pub output: Option<Dollars>,
    /// Of reasoning.
    pub reasoning: Option<Dollars>,
    /// Sound in the reply.
    pub audio_output: Option<Dollars>,
    /// Pictures in the reply.
    pub image_output: Option<Dollars>,
    /// What tokens cost where the prompt is longer. What it leaves out costs what it costs otherwise.
    pub over: Option<LongPrompt>,
    /// A request, besides its tokens.
    pub request: Option<Dollars>,
    /// A search of a ranking: a query with up to 100 documents.
    pub search: Option<Dollars>,
}

/// What a million tokens of a whole request cost, dollars, where its prompt is longer than so many.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPrompt {
    /// Longer than so many tokens, cached ones among them.
    #[schemars(range(min = 1))]
    pub tokens: u64,
    /// Of the prompt.
    pub input: Option<Dollars>,
    /// Of the prompt, read from the provider's cache.
    pub cached: Option<Dollars>,
    /// Written to the cache.
    pub written: Option<Dollars>,
    /// Written to the cache to be kept for an hour. Left out: as `written`.
    pub written_hour: Option<Dollars>,
    /// Sound in the prompt.
    pub audio_input: Option<Dollars>,
    /// Pictures in the prompt.
    pub image_input: Option<Dollars>,
    /// Of the reply.
    pub output: Option<Dollars>,
    /// Of reasoning.
    pub reasoning: Option<Dollars>,
    /// Sound in the reply.
    pub audio_output: Option<Dollars>,
    /// Pictures in the reply.
    pub image_output: Option<Dollars>,
}

/// The ledger: one record an attempt that may have been billed, whatever came of it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// The directory of its files. Left out: `ledger` below `server.state`; without that there are no files, and what was
    /// spent is forgotten with the process. A relative path starts at the configuration file.
    pub directory: Option<String>,
    /// Whether there are files at all.
    pub files: bool,
    /// When what was written is made sure of on the disk: `interval`, with every batch (`always`), or `never`.
    pub sync: LedgerSync,
    /// How long it may take with `interval`. The death of the machine loses no more than that; that of the process loses
    /// what ended in its last 20 ms.
    pub interval: Period,
    /// The size from which a new file is begun.
    pub rotate_size: Size,
    /// The age from which a new file is begun.
    pub rotate_age: Period,
    /// How long old files are kept. Left out: for ever.
    pub keep: Option<Period>,
    /// Write records to standard output, too.
    pub stdout: bool,
    /// Send records to a URL, too.
    pub http: Option<LedgerHttp>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            directory: None,
            files: true,
            sync: LedgerSync::Interval,
            interval: Period::seconds(1),
            rotate_size: Size(256 << 20),
            rotate_age: Period::seconds(24 * 3600),
            keep: None,
            stdout: false,
            http: None,
        }
    }
}

/// When what was written is made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LedgerSync {
    /// At least once in each `interval` in which something is written.
    Interval,
    /// With every batch: what ends within 20 ms is one.
    Always,
    /// When the system likes.
    Never,
}

/// Where records are sent: lines of JSON by POST, tried again until they are taken. What is taken twice has the same `id`
/// and `attempt`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerHttp {
    /// Where. Any status of 200 to 299 takes them.
    pub url: Url,
    /// What is sent as `authorization: Bearer TOKEN`: `env:NAME` or `file:PATH`.
    pub token: Option<SecretRef>,
    /// How much may wait while nobody takes it. What comes then is counted, and is in the files alone.
    #[serde(default = "buffer")]
    pub buffer: Size,
}

fn buffer() -> Size {
    Size(8 << 20)
}
