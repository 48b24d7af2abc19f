//! `GET /v1/models` and `GET /v1/models/{id}`, in OpenAI's shape, in Anthropic's or in Google's, and `GET /api/tags`.

use super::Env;
use super::family::Family;
use super::refusal::Refusal;
use crate::sim::stats::Request;
use serde_json::{Value, json};

/// The list; for Anthropic one page of it.
pub(crate) fn list(env: &Env<'_>) -> Result<Value, Refusal> {
    let models = &env.config.models;
    Ok(match env.place.family {
        Family::Anthropic => {
            let (page, more) = page(models, env.request)?;
            json!({
                "data": page.iter().map(|id| anthropic(id)).collect::<Vec<_>>(),
                "has_more": more,
                "first_id": page.first(),
                "last_id": page.last(),
            })
        }
        Family::Google => json!({"models": models.iter().map(|id| google(id)).collect::<Vec<_>>()}),
        _ => json!({"object": "list", "data": models.iter().map(|id| openai(id)).collect::<Vec<_>>()}),
    })
}

/// One model, by the last part of its path.
pub(crate) fn one(env: &Env<'_>) -> Result<Value, Refusal> {
    let id = env.place.model.as_deref().unwrap_or_default();
    if !env.config.models.iter().any(|model| model == id) {
        return Err(Refusal::unknown_model(env.place.family, id));
    }
    Ok(match env.place.family {
        Family::Anthropic => anthropic(id),
        Family::Google => google(id),
        _ => openai(id),
    })
}

/// Ollama's list.
pub(crate) fn tags(env: &Env<'_>) -> Value {
    let model = |id: &String| {
        json!({
            "name": id,
            "model": id,
            "modified_at": "2026-01-01T00:00:00Z",
            "size": 2_019_393_189_u64,
            "digest": format!("{:064x}", id.len()),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "sim",
                "families": ["sim"],
                "parameter_size": "3B",
                "quantization_level": "Q4_K_M",
            },
        })
    };
    json!({"models": env.config.models.iter().map(model).collect::<Vec<_>>()})
}

fn page<'a>(models: &'a [String], request: &Request) -> Result<(&'a [String], bool), Refusal> {
    let limit = match request.member("limit").map(str::parse::<usize>) {
        None => 20,
        Some(Ok(limit @ 1..=1000)) => limit,
        Some(_) => return Err(Refusal::invalid("`limit` must be a number from 1 to 1000.", Some("limit"))),
    };
    let place = |name| request.member(name).and_then(|id| models.iter().position(|model| model == id));
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

fn google(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"),
        "version": "001",
        "displayName": id,
        "description": "A simulated model.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
    })
}
