//! Cohere's `POST /v2/rerank`.

use crate::sim::api::ask::Ask;
use crate::sim::api::family::Family;
use crate::sim::api::refusal::Refusal;
use crate::sim::api::shape::{Shape, check};
use crate::sim::api::{Call, Env, Rendered, Usage, model_of, strings};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, uuid};
use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};

/// A request.
pub(crate) struct Rerank {
    ask: Ask,
    documents: Vec<String>,
    top: usize,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Rerank, Refusal> {
    check(body, &BODY, Family::Cohere)?;
    let model = model_of(body, env)?;
    let documents = strings(body.get("documents"));
    if documents.is_empty() {
        return Err(Refusal::invalid(
            "invalid request: list of documents must not be empty",
            Some("documents"),
        ));
    }
    let mut prompt = Prompt::new(env.config.seed, &model);
    for text in strings(body.get("query")).iter().chain(&documents) {
        prompt.text(text);
    }
    let top = body.get("top_n").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let top = top.unwrap_or(documents.len());
    let ask = Ask { choices: 0, stream: false, ..Ask::new(model, prompt, body, env) };
    Ok(Rerank { ask, documents, top })
}

static BODY: Shape = Shape::Members(&[
    ("model", Shape::Must(&Shape::Text)),
    ("query", Shape::Must(&Shape::Text)),
    ("documents", Shape::Must(&Shape::List(&Shape::Text))),
    ("top_n", Shape::Whole),
    ("max_tokens_per_doc", Shape::Whole),
    ("priority", Shape::Whole),
]);

impl Call for Rerank {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    /// Scores made up from the query and the document, the best first.
    fn render(&self, config: &Config, _usage: Usage) -> Rendered {
        let seed = self.ask.prompt.identity() ^ config.seed;
        let mut results: Vec<(usize, f64)> = self
            .documents
            .iter()
            .enumerate()
            .map(|(index, document)| {
                let mut prompt = Prompt::new(seed, document);
                prompt.text(document);
                (index, Rng::with_seed(prompt.identity()).f64())
            })
            .collect();
        results.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        results.truncate(self.top);
        let results = results.iter().map(|(index, score)| json!({"index": index, "relevance_score": score}));
        let body = json!({
            "id": uuid(&mut self.ask.rng(config.seed)),
            "results": results.collect::<Vec<_>>(),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        });
        Rendered::whole(&body, 0)
    }

    /// No ranking streams.
    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        Bytes::new()
    }
}
