//! Cohere's `v2/embed`.

use serde::Deserialize;

use super::{Asked, Vectors};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Text, reported};
use crate::error::Error;

pub(super) fn request(asked: &Asked<'_>, model: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.string("model", model);
    let mut texts = object.array("texts");
    asked.texts.iter().for_each(|text| text.quote_into(texts.item()));
    texts.end();
    let searched = Text::from("search_document");
    object.text("input_type", asked.input_type.as_ref().unwrap_or(&searched));
    object.raw("embedding_types", "[\"float\"]");
    if let Some(dimensions) = asked.dimensions {
        object.count("output_dimension", dimensions);
    }
    object.maybe_text("truncate", asked.truncate.as_ref());
    object.end();
    out
}

pub(super) fn reply(body: &[u8]) -> Result<Vectors<'_>, Error> {
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(crate::dialect::ir::broken)?;
    let Some(embeddings) = reply.embeddings.object::<Embeddings<'_>>() else { return Err(reported(body)) };
    let meta = reply.meta.object::<Meta<'_>>().unwrap_or_default();
    let units = meta.billed_units.object::<Units<'_>>().unwrap_or_default();
    Ok(Vectors { vectors: embeddings.float.items(), tokens: units.input_tokens.count() })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply<'a> {
    #[serde(borrow)]
    embeddings: Raw<'a>,
    #[serde(borrow)]
    meta: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Embeddings<'a> {
    #[serde(borrow)]
    float: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta<'a> {
    #[serde(borrow)]
    billed_units: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Units<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
}
