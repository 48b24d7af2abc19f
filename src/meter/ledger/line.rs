//! A record as a line of JSON, written and read.

use std::time::SystemTime;

use serde::Deserialize;

use super::{Known, Record};
use crate::meter::access_log::Line;
use crate::meter::price::Money;
use crate::moment::rfc3339_millis;
use crate::snapshot::LogFormat;

/// A record as it is read back. What an older version did not write is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// When it ended, RFC 3339.
    pub ts: String,
    /// When it began.
    pub began: String,
    /// The exchange's id.
    pub id: String,
    /// Which of its attempts it is.
    pub attempt: u32,
    /// Who pays.
    pub principal: String,
    /// Its team.
    pub team: String,
    /// The team's organisation.
    pub organisation: String,
    /// What else it is marked with.
    pub tags: Vec<String>,
    /// The route's name.
    pub route: String,
    /// The operation's name.
    pub operation: String,
    /// The cluster's name.
    pub cluster: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// The provider's name.
    pub provider: String,
    /// The name of the provider's key.
    pub key: String,
    /// The model alias's configured name.
    pub alias: String,
    /// The model's name as the client sent it, where that is not the alias's.
    pub asked: String,
    /// The model's name upstream.
    pub model: String,
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Those read from the cache.
    pub cached_tokens: Option<u64>,
    /// Those written to it.
    pub written_tokens: Option<u64>,
    /// Tokens of the reply.
    pub output_tokens: Option<u64>,
    /// Those of reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Picodollars; nothing where nobody knows.
    pub cost: Option<u64>,
    /// How it is known.
    pub known: String,
    /// The upstream's status.
    pub status: u16,
    /// Who ended it, and when.
    pub end: String,
}

impl Entry {
    /// Reads a line.
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line.trim_ascii()).ok()
    }

    /// What it cost.
    pub fn money(&self) -> Option<Money> {
        self.cost.map(|cost| Money::picodollars(cost.into()))
    }
}

/// Appends a record's line, its end included.
pub(super) fn write(record: &Record, out: &mut Vec<u8>) {
    let (facts, ending) = (&record.facts, &record.ending);
    let mut line = Line::new(LogFormat::Json);
    line.text("ts", &rfc3339_millis(ending.at));
    line.text("began", &rfc3339_millis(facts.began));
    line.text("id", &facts.exchange);
    line.number("attempt", facts.attempt.into());
    for (name, value) in [
        ("principal", facts.payer.principal.as_str()),
        ("team", &facts.payer.team),
        ("organisation", &facts.payer.organisation),
        ("route", &facts.route),
        ("operation", facts.operation),
        ("cluster", &facts.cluster),
        ("endpoint", &facts.endpoint),
        ("provider", &facts.provider),
        ("key", &facts.key),
        ("alias", &facts.alias),
        ("asked", &facts.asked),
        ("model", &facts.model),
        ("upstream_id", &ending.upstream_id),
    ] {
        if !value.is_empty() {
            line.text(name, value);
        }
    }
    if !facts.payer.tags.is_empty() {
        line.plain("tags", &serde_json::Value::from(facts.payer.tags.clone()));
    }
    tokens(record, &mut line);
    // More than anything costs does not fit into what readers of JSON hold.
    let cost = ending.cost.map(|cost| u64::try_from(cost.count()).unwrap_or(u64::MAX));
    match (cost, ending.cost) {
        (Some(count), Some(cost)) => {
            line.number("cost", count);
            line.text("cost_usd", &cost.to_string());
        }
        _ => line.plain("cost", &"null"),
    }
    line.text("known", ending.known.name());
    line.number("status", ending.status.into());
    line.text("end", &[ending.end.0.letter(), ending.end.1.letter()].iter().collect::<String>());
    out.extend_from_slice(line.finish().as_bytes());
    out.push(b'\n');
}

fn tokens(record: &Record, line: &mut Line) {
    let Some(usage) = &record.ending.usage else { return };
    let some = |count: u32| Some(u64::from(count)).filter(|count| *count > 0);
    let kinds = &usage.kinds;
    for (name, count) in [
        ("input_tokens", usage.input.total),
        ("cached_tokens", usage.input.cached),
        ("written_tokens", usage.input.written),
        ("written_hour_tokens", some(kinds.written_hour)),
        ("audio_input_tokens", some(kinds.audio_in)),
        ("image_input_tokens", some(kinds.image_in)),
        ("output_tokens", usage.output.total),
        ("reasoning_tokens", usage.output.reasoning),
        ("audio_output_tokens", some(kinds.audio_out)),
        ("image_output_tokens", some(kinds.image_out)),
        ("billed_input_tokens", kinds.billed.and_then(|billed| some(billed.input))),
        ("billed_output_tokens", kinds.billed.and_then(|billed| some(billed.output))),
        ("searches", kinds.billed.and_then(|billed| some(billed.searches))),
    ] {
        if let Some(count) = count {
            line.number(name, count);
        }
    }
}

/// What a record's line is read as, as far as it matters for what is spent.
pub(super) fn spent(record: &Record) -> Entry {
    let (facts, ending) = (&record.facts, &record.ending);
    Entry {
        ts: rfc3339_millis(ending.at),
        began: rfc3339_millis(facts.began),
        principal: facts.payer.principal.clone(),
        team: facts.payer.team.clone(),
        organisation: facts.payer.organisation.clone(),
        cluster: facts.cluster.clone(),
        key: facts.key.clone(),
        alias: facts.alias.clone(),
        asked: facts.asked.clone(),
        cost: ending.cost.map(|cost| u64::try_from(cost.count()).unwrap_or(u64::MAX)),
        ..Entry::default()
    }
}

impl Known {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// A record's time.
pub(super) fn time(ts: &str) -> Option<SystemTime> {
    crate::moment::read_rfc3339(ts)
}
