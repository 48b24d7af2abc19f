//! `POST /v1/embeddings`.

use super::ask::{Ask, Knobs, Want};
use super::completions::{Input, inputs};
use super::refusal::Refusal;
use super::{Env, Rendered, Usage, limit, model_of};
use crate::sim::config::Config;
use crate::sim::text::Prompt;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::{Value, json};

/// A request: its inputs and the form of the vectors.
pub(crate) struct Call {
    pub(crate) ask: Ask,
    inputs: Vec<Input>,
    dimensions: usize,
    base64: bool,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Call, Refusal> {
    let model = model_of(body, env)?;
    let inputs = body.get("input").and_then(inputs).filter(|all| all.len() <= 2048).ok_or_else(|| {
        Refusal::invalid(
            "`input` must be a string, strings, tokens or lists of tokens (2048 at most).",
            Some("input"),
        )
    })?;
    let base64 = match body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Refusal::invalid(
                "`encoding_format` is `float` or `base64`.",
                Some("encoding_format"),
            ));
        }
    };
    let dimensions =
        limit(body, "dimensions")?.map_or(env.config.embedding_dimensions, |n| n.min(8192) as usize);
    let mut prompt = Prompt::new(env.config.seed, &model);
    inputs.iter().for_each(|input| input.add(&mut prompt));
    let ask = Ask {
        model,
        prompt,
        stream: false,
        include_usage: false,
        choices: 0,
        max_tokens: None,
        stops: Vec::new(),
        want: Want::Text,
        knobs: Knobs::read(env.request, Some(body), env.config),
    };
    Ok(Call { ask, inputs, dimensions, base64 })
}

/// The vectors: each depends on its input, the model and the seed, and has length 1.
pub(crate) fn render(call: &Call, config: &Config, usage: Usage) -> Rendered {
    let data = call.inputs.iter().enumerate().map(|(index, input)| {
        let mut prompt = Prompt::new(config.seed, &call.ask.model);
        input.add(&mut prompt);
        let vector = unit(&mut Rng::with_seed(prompt.identity()), call.dimensions);
        let embedding = if call.base64 { json!(STANDARD.encode(bytes_of(&vector))) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let body = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": call.ask.model,
        "usage": {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt},
    });
    Rendered::whole(&body, 0)
}

fn unit(rng: &mut Rng, dimensions: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..dimensions).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| if length > 0.0 { x / length } else { x }).collect()
}

/// As the official SDKs read it: 32-bit floats, little-endian.
fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}
