//! Embeddings: OpenAI's `/v1/embeddings`, Gemini's `:embedContent`, `:batchEmbedContents` and, on Vertex AI, `:predict`, Cohere's `/v2/embed` and
//! Ollama's `/api/embed`. The vectors are the same in all.

use super::ask::Ask;
use super::completions::{Input, inputs};
use super::family::Family;
use super::place::Api;
use super::refusal::Refusal;
use super::shape::{Shape, check};
use super::{Call, Env, Rendered, Usage, limit, model_of};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, uuid};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};

/// A request: its inputs and the form of the vectors.
pub(crate) struct Embedding {
    ask: Ask,
    inputs: Vec<Input>,
    dimensions: usize,
    form: Form,
}

/// How the vectors are handed over.
enum Form {
    Floats,
    Base64,
    One,
    Batch,
    Predictions,
    /// With the texts they belong to.
    Cohere(Value),
    Ollama,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Embedding, Refusal> {
    let (inputs, dimensions, form) = match env.place.api {
        Api::EmbedContent => embed_content(body)?,
        Api::BatchEmbedContents => batch_embed_contents(body)?,
        Api::Predict => predict(body)?,
        Api::CohereEmbed => cohere(body)?,
        Api::OllamaEmbed => ollama(body)?,
        _ => openai(body)?,
    };
    let model = model_of(body, env)?;
    let mut prompt = Prompt::new(env.config.seed, &model);
    inputs.iter().for_each(|input| input.add(&mut prompt));
    let ask = Ask { choices: 0, stream: false, ..Ask::new(model, prompt, body, env) };
    let dimensions = dimensions.map_or(env.config.embedding_dimensions, |n| n.min(8192) as usize);
    Ok(Embedding { ask, inputs, dimensions, form })
}

type Read = Result<(Vec<Input>, Option<u64>, Form), Refusal>;

fn openai(body: &Value) -> Read {
    let inputs = body.get("input").and_then(inputs).filter(|all| all.len() <= 2048).ok_or_else(|| {
        Refusal::invalid(
            "`input` must be a string, strings, tokens or lists of tokens (2048 at most).",
            Some("input"),
        )
    })?;
    let form = match body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => Form::Floats,
        Some("base64") => Form::Base64,
        Some(_) => {
            return Err(Refusal::invalid(
                "`encoding_format` is `float` or `base64`.",
                Some("encoding_format"),
            ));
        }
    };
    Ok((inputs, limit(body, "dimensions")?, form))
}

fn embed_content(body: &Value) -> Read {
    check(body, &EMBED, Family::Google)?;
    Ok((vec![text_of(body)], dimensions_of(body), Form::One))
}

fn batch_embed_contents(body: &Value) -> Read {
    check(body, &BATCH, Family::Google)?;
    let requests = body.get("requests").and_then(Value::as_array);
    let inputs = requests.into_iter().flatten().map(text_of).collect();
    let dimensions = requests.and_then(|all| all.first()).and_then(dimensions_of);
    Ok((inputs, dimensions, Form::Batch))
}

fn predict(body: &Value) -> Read {
    check(body, &PREDICT, Family::Google)?;
    let instances = body.get("instances").and_then(Value::as_array).into_iter().flatten();
    let texts = instances.filter_map(|instance| instance.get("content")?.as_str());
    let dimensions = body.get("parameters").and_then(dimensions_of);
    Ok((texts.map(|text| Input::Text(text.into())).collect(), dimensions, Form::Predictions))
}

static PREDICT: Shape = Shape::Members(&[
    (
        "instances",
        Shape::Must(&Shape::List(&Shape::Members(&[
            ("content", Shape::Must(&Shape::Text)),
            ("taskType", Shape::Text),
            ("title", Shape::Text),
        ]))),
    ),
    ("parameters", Shape::Members(&[("outputDimensionality", Shape::Whole), ("autoTruncate", Shape::Flag)])),
]);

fn dimensions_of(body: &Value) -> Option<u64> {
    let names = ["outputDimensionality", "output_dimensionality"];
    let value = names
        .iter()
        .find_map(|name| body.get(name))
        .or_else(|| body.pointer("/embedContentConfig/outputDimensionality"));
    value.and_then(Value::as_u64)
}

fn text_of(request: &Value) -> Input {
    let parts = request.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten();
    Input::Text(parts.filter_map(|part| part.get("text")?.as_str()).collect())
}

static EMBED: Shape = Shape::Members(&[
    ("model", Shape::Text),
    ("content", Shape::Must(&CONTENT)),
    ("taskType", Shape::Text),
    ("title", Shape::Text),
    ("outputDimensionality", Shape::Whole),
    ("autoTruncate", Shape::Flag),
    ("embedContentConfig", Shape::Object),
]);

static CONTENT: Shape = Shape::Members(&[
    ("role", Shape::Text),
    (
        "parts",
        Shape::Must(&Shape::List(&Shape::Members(&[("text", Shape::Text), ("inlineData", Shape::Object)]))),
    ),
]);

static BATCH: Shape = Shape::Members(&[("requests", Shape::Must(&Shape::List(&EMBED)))]);

fn cohere(body: &Value) -> Read {
    check(body, &COHERE, Family::Cohere)?;
    let texts = body.get("texts").cloned().unwrap_or_else(|| json!([]));
    let inputs = inputs(&texts)
        .filter(|all| all.len() <= 96)
        .ok_or_else(|| Refusal::invalid("invalid request: texts must hold 1 to 96 texts", Some("texts")))?;
    let kind = body.get("input_type").and_then(Value::as_str);
    let known = ["search_document", "search_query", "classification", "clustering", "image"];
    if !kind.is_some_and(|kind| known.contains(&kind)) {
        return Err(Refusal::invalid(
            "invalid request: valid input_type must be provided",
            Some("input_type"),
        ));
    }
    Ok((inputs, body.get("output_dimension").and_then(Value::as_u64), Form::Cohere(texts)))
}

static COHERE: Shape = Shape::Members(&[
    ("model", Shape::Must(&Shape::Text)),
    ("texts", Shape::List(&Shape::Text)),
    ("input_type", Shape::Text),
    (
        "embedding_types",
        Shape::List(&Shape::Choice(&["float", "int8", "uint8", "binary", "ubinary", "base64"])),
    ),
    ("output_dimension", Shape::Whole),
    ("max_tokens", Shape::Whole),
    ("truncate", Shape::Choice(&["NONE", "START", "END"])),
    ("priority", Shape::Whole),
    ("inputs", Shape::List(&Shape::Object)),
    ("images", Shape::List(&Shape::Text)),
]);

fn ollama(body: &Value) -> Read {
    check(body, &OLLAMA, Family::Ollama)?;
    let inputs = body.get("input").and_then(inputs);
    let inputs = inputs.ok_or_else(|| Refusal::invalid("invalid input type", Some("input")))?;
    Ok((inputs, limit(body, "dimensions")?, Form::Ollama))
}

static OLLAMA: Shape = Shape::Members(&[
    ("model", Shape::Must(&Shape::Text)),
    ("input", Shape::Must(&Shape::Either(&[Shape::Text, Shape::List(&Shape::Text)]))),
    ("truncate", Shape::Flag),
    ("dimensions", Shape::Whole),
    ("options", Shape::Object),
    ("keep_alive", Shape::Any),
]);

impl Call for Embedding {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    /// Each vector depends on its input, the model and the seed, and has length 1.
    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let vectors = self.inputs.iter().map(|input| {
            let mut prompt = Prompt::new(config.seed, &self.ask.model);
            input.add(&mut prompt);
            unit(&mut Rng::with_seed(prompt.identity()), self.dimensions)
        });
        let mut vectors: Vec<Vec<f32>> = vectors.collect();
        let body = match &self.form {
            Form::Floats => self.openai(vectors.iter().map(|vector| json!(vector)), usage),
            Form::Base64 => {
                self.openai(vectors.iter().map(|vector| json!(STANDARD.encode(bytes_of(vector)))), usage)
            }
            Form::One => json!({"embedding": {"values": vectors.pop()}}),
            Form::Batch => {
                let all: Vec<_> = vectors.iter().map(|vector| json!({"values": vector})).collect();
                json!({"embeddings": all})
            }
            Form::Predictions => {
                let count = usage.prompt / (vectors.len() as u64).max(1);
                let statistics = json!({"token_count": count, "truncated": false});
                let all = vectors
                    .iter()
                    .map(|vector| json!({"embeddings": {"values": vector, "statistics": statistics}}));
                json!({"predictions": all.collect::<Vec<_>>()})
            }
            Form::Cohere(texts) => json!({
                "id": uuid(&mut self.ask.rng(config.seed)),
                "embeddings": {"float": vectors},
                "texts": texts,
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": usage.prompt}},
                "response_type": "embeddings_by_type",
            }),
            Form::Ollama => json!({
                "model": self.ask.model,
                "embeddings": vectors,
                "total_duration": 14_143_917,
                "load_duration": 1_019_500,
                "prompt_eval_count": usage.prompt,
            }),
        };
        Rendered::whole(&body, 0)
    }

    /// No embedding streams.
    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        Bytes::new()
    }
}

impl Embedding {
    fn openai(&self, vectors: impl Iterator<Item = Value>, usage: Usage) -> Value {
        let data = vectors
            .enumerate()
            .map(|(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding}));
        json!({
            "object": "list",
            "data": data.collect::<Vec<_>>(),
            "model": self.ask.model,
            "usage": {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt},
        })
    }
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
