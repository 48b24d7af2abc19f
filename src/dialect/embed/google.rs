//! Google's: `batchEmbedContents` of AI Studio, `predict` of Vertex AI.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Asked, Vectors};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Notes, broken, reported};
use crate::error::Error;

/// What a text is for, in Cohere's words and in Google's.
const TASKS: [(&str, &str); 4] = [
    ("search_document", "RETRIEVAL_DOCUMENT"),
    ("search_query", "RETRIEVAL_QUERY"),
    ("classification", "CLASSIFICATION"),
    ("clustering", "CLUSTERING"),
];

/// What the texts are for; Google's own words pass.
fn task(asked: &Asked<'_>, notes: &mut Notes) -> Option<String> {
    let said = asked.input_type.as_ref()?.plain();
    let Some((_, task)) = TASKS.iter().find(|(word, _)| *word == said) else {
        return Some(said.into_owned());
    };
    notes.mapped("input_type", "is called otherwise by the upstream");
    Some((*task).to_owned())
}

pub(super) fn batch(asked: &Asked<'_>, model: &str, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    if asked.truncate.is_some() {
        notes.dropped("truncate", "the upstream always cuts a text that is too long")?;
    }
    let (task, model) = (task(asked, notes), format!("models/{model}"));
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let mut requests = object.array("requests");
    for text in &asked.texts {
        let mut request = requests.object();
        request.string("model", &model);
        let mut content = request.object("content");
        let mut parts = content.array("parts");
        let mut part = parts.object();
        part.text("text", text);
        part.end();
        parts.end();
        content.end();
        if let Some(task) = &task {
            request.string("taskType", task);
        }
        if let Some(dimensions) = asked.dimensions {
            request.count("outputDimensionality", dimensions);
        }
        request.end();
    }
    requests.end();
    object.end();
    Ok(out)
}

pub(super) fn predict(asked: &Asked<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let task = task(asked, notes);
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let mut instances = object.array("instances");
    for text in &asked.texts {
        let mut instance = instances.object();
        instance.text("content", text);
        if let Some(task) = &task {
            instance.string("task_type", task);
        }
        instance.end();
    }
    instances.end();
    let mut parameters = object.object("parameters");
    if let Some(dimensions) = asked.dimensions {
        parameters.count("outputDimensionality", dimensions);
    }
    // A text that is too long is an error unless it may be cut, as at OpenAI.
    let cuts = asked.truncate.as_ref().is_some_and(|how| *how != *"NONE");
    parameters.boolean("autoTruncate", cuts);
    parameters.end();
    object.end();
    Ok(out)
}

pub(super) fn embeddings(body: &[u8]) -> Result<Vectors<'_>, Error> {
    let reply: Batch<'_> = serde_json::from_slice(body).map_err(broken)?;
    if reply.embeddings.get().is_none() {
        return Err(reported(body));
    }
    let embeddings = reply.embeddings.items::<Embedding<'_>>();
    Ok(Vectors { vectors: embeddings.into_iter().filter_map(|one| one.values).collect(), tokens: None })
}

pub(super) fn predictions(body: &[u8]) -> Result<Vectors<'_>, Error> {
    let reply: Predicted<'_> = serde_json::from_slice(body).map_err(broken)?;
    if reply.predictions.get().is_none() {
        return Err(reported(body));
    }
    let (mut vectors, mut tokens) = (Vec::new(), None);
    for prediction in reply.predictions.items::<Prediction<'_>>() {
        let embedding = prediction.embeddings.object::<Embedding<'_>>().unwrap_or_default();
        let statistics = embedding.statistics.object::<Statistics<'_>>().unwrap_or_default();
        tokens = statistics.token_count.count().map(|count| count + tokens.unwrap_or(0)).or(tokens);
        vectors.extend(embedding.values);
    }
    Ok(Vectors { vectors, tokens })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Batch<'a> {
    #[serde(borrow)]
    embeddings: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Embedding<'a> {
    #[serde(borrow)]
    values: Option<&'a RawValue>,
    #[serde(borrow)]
    statistics: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Predicted<'a> {
    #[serde(borrow)]
    predictions: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics<'a> {
    #[serde(borrow)]
    token_count: Raw<'a>,
}
