//! Embeddings: what a client asks in OpenAI's shape, at upstreams that have another.
//!
//! | upstream | request | at once | reply |
//! |---|---|---|---|
//! | Cohere | `texts`, `input_type`, `output_dimension`, `truncate` | 96 | `embeddings.float`, tokens |
//! | Gemini | `requests[].content`, `taskType`, `outputDimensionality` | 100 | `embeddings[].values`, no tokens |
//! | Vertex AI | `instances[].content`, `task_type`, `parameters.outputDimensionality` | 250 | `predictions[].embeddings`, tokens |
//! | Ollama | `input`, `dimensions`, `truncate` | any | `embeddings`, tokens |
//!
//! Cohere and Google want to know what a text is for. OpenAI has no word for that, so a client may say it in
//! `input_type`, in Cohere's words; without it, Cohere is told that a text is one to be searched (`search_document`).
//! Both of OpenAI's encodings are made here out of the upstream's numbers.
//!
//! Sources: the API references of OpenAI, Cohere, Google AI Studio, Vertex AI and Ollama.

mod cohere;
mod google;
mod ollama;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::Operation;
use super::ir::node::{Fields, Node, Path, Value};
use super::ir::write::Object;
use super::ir::{Leftover, Notes, Text, broken};
use super::usage::{Input, Usage};
use crate::error::Error;

/// A shape in which upstreams are asked for embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Cohere's `v2/embed`.
    Cohere,
    /// Gemini's `batchEmbedContents`.
    Gemini,
    /// Vertex AI's `predict`.
    Vertex,
    /// Ollama's `api/embed`.
    Ollama,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As an array of numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// What a reply is made with.
#[derive(Clone, Debug)]
pub struct To {
    /// The model's name as the client is to see it.
    pub model: String,
    /// How the client wants its vectors.
    pub encoding: Encoding,
    /// How many texts were sent: so many vectors must come back.
    pub count: usize,
}

/// What a client asks.
struct Asked<'a> {
    texts: Vec<Text<'a>>,
    dimensions: Option<u64>,
    input_type: Option<Text<'a>>,
    truncate: Option<Text<'a>>,
    encoding: Encoding,
    left: Vec<Leftover<'a>>,
}

/// What an upstream answers.
struct Vectors<'a> {
    vectors: Vec<&'a RawValue>,
    tokens: Option<u64>,
}

impl Upstream {
    /// Every shape.
    pub const ALL: [Self; 4] = [Self::Cohere, Self::Gemini, Self::Vertex, Self::Ollama];

    /// What upstreams are asked in it.
    pub fn operation(self) -> Operation {
        match self {
            Self::Cohere => Operation::CohereEmbed,
            Self::Gemini => Operation::GeminiEmbed,
            Self::Vertex => Operation::VertexEmbed,
            Self::Ollama => Operation::OllamaEmbed,
        }
    }

    /// The most texts in one request.
    fn most(self) -> usize {
        match self {
            Self::Cohere => 96,
            Self::Gemini => 100,
            Self::Vertex => 250,
            Self::Ollama => usize::MAX,
        }
    }

    /// Writes the request for `model` out of OpenAI's, and tells what its reply is made with. `named` is the model's name
    /// as the client is to see it.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong, or cannot be carried.
    pub fn request(
        self,
        body: &[u8],
        (model, named): (&str, &str),
        notes: &mut Notes,
    ) -> Result<(Vec<u8>, To), Error> {
        let document = Node::parse(body)?;
        let asked = read(&document, self.most())?;
        let out = match self {
            Self::Cohere => cohere::request(&asked, model),
            Self::Gemini => google::batch(&asked, model, notes)?,
            Self::Vertex => google::predict(&asked, notes)?,
            Self::Ollama => ollama::request(&asked, model, notes)?,
        };
        for left in &asked.left {
            notes.dropped(&left.path, "is not known to the upstream's dialect; leave it out")?;
        }
        let to = To { model: named.to_owned(), encoding: asked.encoding, count: asked.texts.len() };
        Ok((out, to))
    }

    /// Writes OpenAI's reply out of the upstream's, and tells what was used.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::UpstreamFailed`] where the reply holds no vectors.
    pub fn reply(self, body: &[u8], to: &To) -> Result<(Vec<u8>, Option<Usage>), Error> {
        let read = match self {
            Self::Cohere => cohere::reply(body)?,
            Self::Gemini => google::embeddings(body)?,
            Self::Vertex => google::predictions(body)?,
            Self::Ollama => ollama::reply(body)?,
        };
        let input = Input { total: read.tokens, ..Input::default() };
        let usage = read.tokens.map(|_| Usage { input, ..Usage::default() });
        Ok((write(&read, to, body.len())?, usage))
    }
}

fn read<'a>(document: &Node<'a>, most: usize) -> Result<Asked<'a>, Error> {
    let mut fields = document.fields(Path::Root)?;
    fields.need_text("model")?;
    let mut asked = Asked {
        texts: texts(&mut fields, most)?,
        dimensions: fields.count("dimensions")?,
        input_type: fields.text("input_type")?,
        truncate: fields.text("truncate")?,
        encoding: encoding(&mut fields)?,
        left: Vec::new(),
    };
    fields.leave(&mut asked.left);
    Ok(asked)
}

fn encoding(fields: &mut Fields<'_, '_>) -> Result<Encoding, Error> {
    match fields.text("encoding_format")? {
        None => Ok(Encoding::Float),
        Some(word) if word == *"float" => Ok(Encoding::Float),
        Some(word) if word == *"base64" => Ok(Encoding::Base64),
        Some(_) => Err(Path::Root.member("encoding_format").wants("'float' or 'base64'")),
    }
}

fn texts<'a>(fields: &mut Fields<'_, 'a>, most: usize) -> Result<Vec<Text<'a>>, Error> {
    let path = Path::Root.member("input");
    let input = fields.need("input")?;
    match &input.value {
        Value::String => Ok(vec![input.text(path)?]),
        Value::Array(items) if items.is_empty() => Err(path.fault("must hold at least one text")),
        Value::Array(items) if items.len() > most => {
            Err(path.fault(format_args!("the upstream takes at most {most} texts at once; send fewer")))
        }
        Value::Array(items) => {
            let text = |(index, node): (usize, &Node<'a>)| {
                let no_text = || path.item(index).fault("must be a string: the upstream takes no token ids");
                node.as_text().ok_or_else(no_text)
            };
            items.iter().enumerate().map(text).collect()
        }
        _ => Err(path.wants("a string or an array of strings")),
    }
}

fn write(read: &Vectors<'_>, to: &To, size: usize) -> Result<Vec<u8>, Error> {
    if read.vectors.len() != to.count {
        let (came, sent) = (read.vectors.len(), to.count);
        return Err(broken(format_args!("{came} embeddings came for {sent} texts")));
    }
    let mut out = Vec::with_capacity(size);
    let mut object = Object::begin(&mut out);
    object.string("object", "list");
    let mut list = object.array("data");
    for (index, vector) in (0..).zip(&read.vectors) {
        let (numbers, vector) = (numbers(vector)?, vector.get());
        let mut item = list.object();
        item.string("object", "embedding");
        item.count("index", index);
        match to.encoding {
            Encoding::Float => item.raw("embedding", vector),
            Encoding::Base64 => item.string("embedding", &base64(&numbers)),
        }
        item.end();
    }
    list.end();
    object.string("model", &to.model);
    let tokens = read.tokens.unwrap_or(0);
    let mut usage = object.object("usage");
    usage.count("prompt_tokens", tokens);
    usage.count("total_tokens", tokens);
    usage.end();
    object.end();
    Ok(out)
}

/// The numbers of a vector, each of which a client's 32 bits hold.
fn numbers(vector: &RawValue) -> Result<Vec<f32>, Error> {
    let numbers: Vec<f32> = serde_json::from_str(vector.get()).map_err(broken)?;
    if numbers.is_empty() || !numbers.iter().all(|number| number.is_finite()) {
        return Err(broken("an embedding is empty, or holds a number beyond 32 bits"));
    }
    Ok(numbers)
}

fn base64(numbers: &[f32]) -> String {
    STANDARD.encode(numbers.iter().copied().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests;
