//! Ollama's `api/embed`.

use serde::Deserialize;

use super::{Asked, Vectors};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Notes, broken, reported};
use crate::error::Error;

pub(super) fn request(asked: &Asked<'_>, model: &str, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    if asked.input_type.is_some() {
        notes.dropped("input_type", "the upstream does not ask what a text is for")?;
    }
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.string("model", model);
    let mut texts = object.array("input");
    asked.texts.iter().for_each(|text| text.quote_into(texts.item()));
    texts.end();
    if let Some(dimensions) = asked.dimensions {
        object.count("dimensions", dimensions);
    }
    // A text that is too long is an error unless it may be cut, as at OpenAI.
    object.boolean("truncate", asked.truncate.as_ref().is_some_and(|how| *how != *"NONE"));
    object.end();
    Ok(out)
}

pub(super) fn reply(body: &[u8]) -> Result<Vectors<'_>, Error> {
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(broken)?;
    if reply.embeddings.get().is_none() {
        return Err(reported(body));
    }
    Ok(Vectors { vectors: reply.embeddings.items(), tokens: reply.prompt_eval_count.count() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply<'a> {
    #[serde(borrow)]
    embeddings: Raw<'a>,
    #[serde(borrow)]
    prompt_eval_count: Raw<'a>,
}
