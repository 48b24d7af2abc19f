//! `GET /v1/models` and `GET /v1/models/{id}`, in OpenAI's shape or in Anthropic's.

use super::refusal::Refusal;
use super::{Family, Reply, family, json_reply};
use crate::sim::Shared;
use crate::sim::stats::Request;
use serde_json::{Value, json};

/// The list; for Anthropic one page of it.
pub(crate) fn list(shared: &Shared, request: &Request) -> Result<Reply, Refusal> {
    let models = &shared.config.models;
    if family(request) == Family::OpenAi {
        let data: Vec<_> = models.iter().map(|id| openai(id)).collect();
        return Ok(json_reply(200, &json!({"object": "list", "data": data})));
    }
    let (page, more) = page(models, request)?;
    Ok(json_reply(
        200,
        &json!({
            "data": page.iter().map(|id| anthropic(id)).collect::<Vec<_>>(),
            "has_more": more,
            "first_id": page.first(),
            "last_id": page.last(),
        }),
    ))
}

/// One model, by the last part of its path.
pub(crate) fn one(shared: &Shared, request: &Request, path: &str) -> Result<Reply, Refusal> {
    let id = path.strip_prefix("/models/").unwrap_or_default();
    if !shared.config.models.iter().any(|model| model == id) {
        return Err(Refusal::unknown_model(id));
    }
    let value = if family(request) == Family::OpenAi { openai(id) } else { anthropic(id) };
    Ok(json_reply(200, &value))
}

fn page<'a>(models: &'a [String], request: &Request) -> Result<(&'a [String], bool), Refusal> {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let member = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit = match member("limit").map(str::parse::<usize>) {
        None => 20,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => return Err(Refusal::invalid("`limit` must be a number from 1 to 1000.", Some("limit"))),
    };
    let place = |name| member(name).and_then(|id| models.iter().position(|model| model == id));
    if let Some(before) = place("before_id") {
        let start = before.saturating_sub(limit);
        return Ok((models.get(start..before).unwrap_or_default(), start > 0));
    }
    let start = place("after_id").map_or(0, |at| at + 1);
    let end = models.len().min(start + limit);
    Ok((models.get(start..end).unwrap_or_default(), end < models.len()))
}

fn openai(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_760_000_000, "owned_by": "forebay-sim"})
}

fn anthropic(id: &str) -> Value {
    json!({
        "type": "model",
        "id": id,
        "display_name": id,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "line": null,
        "deprecated_at": null,
        "retires_at": null,
        "capabilities": null,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    })
}
