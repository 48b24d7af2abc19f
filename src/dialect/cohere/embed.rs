//! Embeddings: an OpenAI request to Cohere's `v2/embed`, and the reply back.
//!
//! Cohere wants to know what a text is for. OpenAI has no word for that, so a client may say it in `input_type`, and
//! without it a text is taken for one to be searched (`search_document`). `truncate` passes too. Both of OpenAI's
//! encodings are made here out of Cohere's floats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{Notes, Text, broken, reported};
use crate::error::Error;

/// The most texts in one request.
const TEXTS: usize = 96;

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As an array of numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// Writes Cohere's request for `model` out of OpenAI's, and tells how the client wants its vectors.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong, or cannot be carried.
pub fn request(body: &[u8], model: &str, notes: &mut Notes) -> Result<(Vec<u8>, Encoding), Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    fields.need_text("model")?;
    let encoding = encoding(&mut fields)?;
    let mut out = Vec::with_capacity(body.len() + 128);
    let mut object = Object::begin(&mut out);
    object.string("model", model);
    texts(&mut fields, object.array("texts"))?;
    let kind = fields.text("input_type")?.unwrap_or_else(|| Text::from("search_document"));
    object.text("input_type", &kind);
    object.raw("embedding_types", "[\"float\"]");
    if let Some(dimensions) = fields.count("dimensions")? {
        object.count("output_dimension", dimensions);
    }
    object.maybe_text("truncate", fields.text("truncate")?.as_ref());
    object.end();
    let mut left = Vec::new();
    fields.leave(&mut left);
    for left in &left {
        notes.dropped(&left.path, "is not known to the upstream's dialect; leave it out")?;
    }
    Ok((out, encoding))
}

fn encoding(fields: &mut Fields<'_, '_>) -> Result<Encoding, Error> {
    match fields.text("encoding_format")? {
        None => Ok(Encoding::Float),
        Some(word) if word == *"float" => Ok(Encoding::Float),
        Some(word) if word == *"base64" => Ok(Encoding::Base64),
        Some(_) => Err(Path::Root.member("encoding_format").wants("'float' or 'base64'")),
    }
}

fn texts(fields: &mut Fields<'_, '_>, mut list: Array<'_>) -> Result<(), Error> {
    let path = Path::Root.member("input");
    let input = fields.need("input")?;
    match &input.value {
        Value::String => input.text(path)?.quote_into(list.item()),
        Value::Array(items) if items.is_empty() => return Err(path.fault("must hold at least one text")),
        Value::Array(items) if items.len() > TEXTS => {
            return Err(path.fault("the upstream takes at most 96 texts at once; send fewer"));
        }
        Value::Array(items) => {
            for (index, node) in items.iter().enumerate() {
                let text = node.as_text().ok_or_else(|| {
                    path.item(index).fault("must be a string: the upstream takes no token ids")
                })?;
                text.quote_into(list.item());
            }
        }
        _ => return Err(path.wants("a string or an array of strings")),
    }
    list.end();
    Ok(())
}

/// Writes OpenAI's reply out of Cohere's. `model` is the model's name as the client is to see it.
///
/// # Errors
///
/// [`crate::error::Kind::UpstreamFailed`] where the reply holds no vectors.
pub fn reply(body: &[u8], model: &str, encoding: Encoding) -> Result<Vec<u8>, Error> {
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(broken)?;
    let Some(embeddings) = reply.embeddings.object::<Embeddings<'_>>() else { return Err(reported(body)) };
    let mut out = Vec::with_capacity(body.len());
    let mut object = Object::begin(&mut out);
    object.string("object", "list");
    let mut list = object.array("data");
    for (index, vector) in (0..).zip(embeddings.float.items::<&RawValue>()) {
        let mut item = list.object();
        item.string("object", "embedding");
        item.count("index", index);
        match encoding {
            Encoding::Float => item.raw("embedding", vector.get()),
            Encoding::Base64 => item.string("embedding", &base64(vector)?),
        }
        item.end();
    }
    if list.is_empty() {
        return Err(broken("there are no embeddings in the reply"));
    }
    list.end();
    object.string("model", model);
    let meta = reply.meta.object::<Meta<'_>>().unwrap_or_default();
    let units = meta.billed_units.object::<Units<'_>>().unwrap_or_default();
    let tokens = units.input_tokens.count().unwrap_or(0);
    let mut usage = object.object("usage");
    usage.count("prompt_tokens", tokens);
    usage.count("total_tokens", tokens);
    usage.end();
    object.end();
    Ok(out)
}

fn base64(vector: &RawValue) -> Result<String, Error> {
    let numbers: Vec<f32> = serde_json::from_str(vector.get()).map_err(broken)?;
    Ok(STANDARD.encode(numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Tree, json};

    use super::*;
    use crate::dialect::ir::Policy;

    fn sent(body: &str) -> Result<(Tree, Encoding, Vec<String>), Error> {
        let mut notes = Notes::new(Policy::Lenient);
        let (sent, encoding) = request(body.as_bytes(), "embed-v4.0", &mut notes)?;
        let noted = notes.list().iter().map(|note| note.path.clone()).collect();
        Ok((serde_json::from_slice(&sent).unwrap(), encoding, noted))
    }

    #[test]
    fn a_request_becomes_coheres() {
        let (body, encoding, noted) = sent(
            r#"{"model":"m","input":["a","b\n"],"dimensions":256,"encoding_format":"base64","user":"u"}"#,
        )
        .unwrap();
        let expected = json!({"model": "embed-v4.0", "texts": ["a", "b\n"], "input_type": "search_document",
            "embedding_types": ["float"], "output_dimension": 256});
        assert_eq!((body, encoding, noted), (expected, Encoding::Base64, vec!["user".to_owned()]));
        let (body, encoding, noted) =
            sent(r#"{"model":"m","input":"a","input_type":"search_query","truncate":"END"}"#).unwrap();
        assert_eq!((encoding, noted.len()), (Encoding::Float, 0));
        assert_eq!((&body["texts"], &body["input_type"]), (&json!(["a"]), &json!("search_query")));
    }

    #[test]
    fn what_cannot_be_embedded_is_refused_with_its_path() {
        let many = format!(r#"{{"model":"m","input":[{}"x"]}}"#, "\"x\",".repeat(TEXTS));
        for (body, expected) in [
            (r#"{"model":"m"}"#, "input: is required"),
            (r#"{"model":"m","input":[[1,2]]}"#, "input[0]: must be a string"),
            (r#"{"model":"m","input":[1]}"#, "input[0]: must be a string"),
            (r#"{"model":"m","input":[]}"#, "input: must hold"),
            (r#"{"model":"m","input":"x","encoding_format":"int8"}"#, "encoding_format: must be"),
            (r#"{"model":"m","input":"x","dimensions":-1}"#, "dimensions: must be"),
            (&many, "input: the upstream takes at most 96"),
        ] {
            let error = sent(body).unwrap_err();
            assert!(error.public.starts_with(expected), "{}", error.public);
        }
    }

    #[test]
    fn a_reply_becomes_openais_in_both_encodings() {
        let body = br#"{"id":"x","texts":["a","b"],"embeddings":{"float":[[0.5,-1],[3e-1,2]]},"meta":{"billed_units":{"input_tokens":10}}}"#;
        let read =
            |encoding| -> Tree { serde_json::from_slice(&reply(body, "m", encoding).unwrap()).unwrap() };
        let expected = json!({"object": "list", "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1]},
            {"object": "embedding", "index": 1, "embedding": [0.3, 2]}],
            "model": "m", "usage": {"prompt_tokens": 10, "total_tokens": 10}});
        assert_eq!(read(Encoding::Float), expected);
        let bytes =
            STANDARD.decode(read(Encoding::Base64)["data"][1]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0.3_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat());
    }

    #[test]
    fn recorded_vectors_arrive_unchanged() {
        let recordings = crate::dialect::responses::tests::recorded_at("/v2/embed");
        if recordings.is_empty() {
            println!("skipped: there are no recordings beside this checkout");
        }
        for (file, body) in recordings {
            let document: Tree = serde_json::from_slice(&body).unwrap();
            let vectors = document["embeddings"]["float"].as_array().unwrap();
            let read =
                |encoding| -> Tree { serde_json::from_slice(&reply(&body, "m", encoding).unwrap()).unwrap() };
            let (floats, bytes) = (read(Encoding::Float), read(Encoding::Base64));
            assert_eq!(floats["data"].as_array().unwrap().len(), vectors.len(), "{file}");
            assert!(floats["usage"]["prompt_tokens"].as_u64().unwrap() > 0, "{file}");
            for (index, vector) in vectors.iter().enumerate() {
                assert_eq!(floats["data"][index]["embedding"], *vector, "{file}");
                let bytes = STANDARD.decode(bytes["data"][index]["embedding"].as_str().unwrap()).unwrap();
                let numbers = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
                let expected =
                    vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
                assert!(numbers.eq(expected), "{file}");
            }
        }
    }

    #[test]
    fn a_reply_without_vectors_is_an_error() {
        for body in ["{", "{}", r#"{"embeddings":{"float":[]}}"#, r#"{"embeddings":{"float":[["x"]]}}"#] {
            assert!(reply(body.as_bytes(), "m", Encoding::Base64).is_err(), "{body}");
        }
        let error = reply(br#"{"message":"invalid texts"}"#, "m", Encoding::Float).unwrap_err();
        assert_eq!(error.public, "invalid texts");
    }
}
