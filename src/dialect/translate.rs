//! The table of dialects: any client's to any upstream's, through [`super::ir`].
//!
//! A client's dialect has a row in [`Client`], an upstream's in [`Upstream`]; no pair has any code. To add a dialect,
//! write its folder after the contract of [`super::ir`], and add a line to each `match` below: the compiler names them.

use super::ir::{Event, Fold, Law, Notes, Origin, Reply, ReplyTo, Request, Target};
use super::{Operation, chat, cohere, completions, converse, embed, gemini, messages, ollama, responses};
use crate::error::Error;

mod folding;
mod script;
mod stream;

pub use folding::Folding;
pub use script::Begun;
pub use stream::{Filter, Seen, Stream};

/// A dialect in which clients may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// OpenAI chat completions.
    Chat,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
    /// Gemini `generateContent`.
    Gemini,
    /// Bedrock Converse.
    Converse,
    /// OpenAI's legacy completions.
    Completions,
}

/// A dialect in which upstreams may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// OpenAI chat completions.
    Chat,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
    /// Gemini `generateContent`.
    Gemini,
    /// Bedrock Converse.
    Converse,
    /// Cohere v2.
    Cohere,
    /// Ollama's own API.
    Ollama,
}

impl Client {
    /// Every dialect of clients.
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::Messages, Self::Responses, Self::Gemini, Self::Converse, Self::Completions];

    /// What clients ask in it.
    pub fn operation(self) -> Operation {
        match self {
            Self::Chat => Operation::ChatCompletions,
            Self::Messages => Operation::Messages,
            Self::Responses => Operation::Responses,
            Self::Gemini => Operation::GenerateContent,
            Self::Converse => Operation::Converse,
            Self::Completions => Operation::Completions,
        }
    }

    /// Whose words these are.
    pub fn origin(self) -> Origin {
        match self {
            Self::Chat => Origin::Chat,
            Self::Messages => Origin::Messages,
            Self::Responses => Origin::Responses,
            Self::Gemini => Origin::Gemini,
            Self::Converse => Origin::Converse,
            Self::Completions => Origin::Completions,
        }
    }

    /// Reads a request. Where the path names the model and says whether the reply streams ([`Operation::named`]), the
    /// request lacks both: the caller has to fill in [`Request::model`] and [`Request::delivery`].
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
    pub fn request(self, body: &[u8]) -> Result<Request<'_>, Error> {
        match self {
            Self::Chat => chat::request::decode(body),
            Self::Messages => messages::request::decode(body),
            Self::Responses => responses::request::decode(body),
            Self::Gemini => gemini::request::decode(body),
            Self::Converse => converse::request::decode(body),
            Self::Completions => completions::request::decode(body),
        }
    }

    /// Writes a whole reply.
    pub fn reply(self, reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
        match self {
            Self::Chat => chat::reply::encode(reply, to, notes),
            Self::Messages => messages::reply::encode(reply, to, notes),
            Self::Responses => responses::reply::encode(reply, to, notes),
            Self::Gemini => gemini::reply::encode(reply, to, notes),
            Self::Converse => converse::reply::encode(reply, to, notes),
            Self::Completions => completions::reply::encode(reply, to, notes),
        }
    }

    /// Writes a stream.
    pub fn encoder(self, to: ReplyTo) -> Encoder {
        match self {
            Self::Chat => Encoder::Chat(chat::stream::Encoder::new(to)),
            Self::Messages => Encoder::Messages(messages::stream::Encoder::new(to)),
            Self::Responses => Encoder::Responses(responses::stream::Encoder::new(to)),
            Self::Gemini => Encoder::Gemini(gemini::stream::Encoder::new(to)),
            Self::Converse => Encoder::Converse(converse::stream::Encoder::new(to)),
            Self::Completions => Encoder::Completions(completions::stream::Encoder::new(to)),
        }
    }
}

impl Upstream {
    /// Every dialect of upstreams.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Messages,
        Self::Responses,
        Self::Gemini,
        Self::Converse,
        Self::Cohere,
        Self::Ollama,
    ];

    /// What upstreams are asked in it.
    pub fn operation(self) -> Operation {
        match self {
            Self::Chat => Operation::ChatCompletions,
            Self::Messages => Operation::Messages,
            Self::Responses => Operation::Responses,
            Self::Gemini => Operation::GenerateContent,
            Self::Converse => Operation::Converse,
            Self::Cohere => Operation::CohereChat,
            Self::Ollama => Operation::OllamaChat,
        }
    }

    /// Whose words these are.
    pub fn origin(self) -> Origin {
        match self {
            Self::Chat => Origin::Chat,
            Self::Messages => Origin::Messages,
            Self::Responses => Origin::Responses,
            Self::Gemini => Origin::Gemini,
            Self::Converse => Origin::Converse,
            Self::Cohere => Origin::Cohere,
            Self::Ollama => Origin::Ollama,
        }
    }

    /// The media type of its streams.
    pub fn stream_media(self) -> &'static str {
        self.operation().stream_media()
    }

    /// Writes a request.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
    pub fn request(
        self,
        request: &Request<'_>,
        target: &Target<'_>,
        notes: &mut Notes,
    ) -> Result<Vec<u8>, Error> {
        notes.told_to(request.origin);
        match self {
            Self::Chat => chat::request::encode(request, target, notes),
            Self::Messages => messages::request::encode(request, target, notes),
            Self::Responses => responses::request::encode(request, target, notes),
            Self::Gemini => gemini::request::encode(request, target, notes),
            Self::Converse => converse::request::encode(request, target, notes),
            Self::Cohere => cohere::request::encode(request, target, notes),
            Self::Ollama => ollama::request::encode(request, target, notes),
        }
    }

    /// Reads a whole reply.
    ///
    /// # Errors
    ///
    /// The one that the reply holds; or [`crate::error::Kind::UpstreamFailed`] where it makes no sense.
    pub fn reply(self, body: &[u8]) -> Result<Reply, Error> {
        let mut fold = Fold::default();
        let mut sink = |event: Event<'_>| fold.push(event);
        match self {
            Self::Chat => chat::reply::decode(body, &mut sink),
            Self::Messages => messages::reply::decode(body, &mut sink),
            Self::Responses => responses::reply::decode(body, &mut sink),
            Self::Gemini => gemini::reply::decode(body, &mut sink),
            Self::Converse => converse::reply::decode(body, &mut sink),
            Self::Cohere => cohere::reply::decode(body, &mut sink),
            Self::Ollama => ollama::reply::decode(body, &mut sink),
        }
        fold.finish()
    }

    /// Reads a stream.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::Chat => Decoder::Chat(chat::stream::Decoder::default()),
            Self::Messages => Decoder::Messages(messages::stream::Decoder::default()),
            Self::Responses => Decoder::Responses(responses::stream::Decoder::default()),
            Self::Gemini => Decoder::Gemini(gemini::stream::Decoder::default()),
            Self::Converse => Decoder::Converse(converse::stream::Decoder::default()),
            Self::Cohere => Decoder::Cohere(cohere::stream::Decoder::default()),
            Self::Ollama => Decoder::Ollama(ollama::stream::Decoder::default()),
        }
    }
}

/// Reads an upstream's stream, of any dialect.
#[derive(Debug)]
pub enum Decoder {
    /// Chat.
    Chat(chat::stream::Decoder),
    /// Messages.
    Messages(messages::stream::Decoder),
    /// Responses.
    Responses(responses::stream::Decoder),
    /// Gemini.
    Gemini(gemini::stream::Decoder),
    /// Converse.
    Converse(converse::stream::Decoder),
    /// Cohere.
    Cohere(cohere::stream::Decoder),
    /// Ollama.
    Ollama(ollama::stream::Decoder),
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Chat(decoder) => decoder.push(bytes, sink),
            Self::Messages(decoder) => decoder.push(bytes, sink),
            Self::Responses(decoder) => decoder.push(bytes, sink),
            Self::Gemini(decoder) => decoder.push(bytes, sink),
            Self::Converse(decoder) => decoder.push(bytes, sink),
            Self::Cohere(decoder) => decoder.push(bytes, sink),
            Self::Ollama(decoder) => decoder.push(bytes, sink),
        }
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Chat(decoder) => decoder.finish(sink),
            Self::Messages(decoder) => decoder.finish(sink),
            Self::Responses(decoder) => decoder.finish(sink),
            Self::Gemini(decoder) => decoder.finish(sink),
            Self::Converse(decoder) => decoder.finish(sink),
            Self::Cohere(decoder) => decoder.finish(sink),
            Self::Ollama(decoder) => decoder.finish(sink),
        }
    }
}

/// Writes a client's stream, of any dialect.
#[derive(Debug)]
pub enum Encoder {
    /// Chat.
    Chat(chat::stream::Encoder),
    /// Messages.
    Messages(messages::stream::Encoder),
    /// Responses.
    Responses(responses::stream::Encoder),
    /// Gemini.
    Gemini(gemini::stream::Encoder),
    /// Converse.
    Converse(converse::stream::Encoder),
    /// Completions.
    Completions(completions::stream::Encoder),
}

impl Encoder {
    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Chat(encoder) => encoder.push(event, out),
            Self::Messages(encoder) => encoder.push(event, out),
            Self::Responses(encoder) => encoder.push(event, out),
            Self::Gemini(encoder) => encoder.push(event, out),
            Self::Converse(encoder) => encoder.push(event, out),
            Self::Completions(encoder) => encoder.push(event, out),
        }
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        match self {
            Self::Chat(encoder) => encoder.law(),
            Self::Messages(encoder) => encoder.law(),
            Self::Responses(encoder) => encoder.law(),
            Self::Gemini(encoder) => encoder.law(),
            Self::Converse(encoder) => encoder.law(),
            Self::Completions(encoder) => encoder.law(),
        }
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        match self {
            Self::Chat(encoder) => encoder.notes(),
            Self::Messages(encoder) => encoder.notes(),
            Self::Responses(encoder) => encoder.notes(),
            Self::Gemini(encoder) => encoder.notes(),
            Self::Converse(encoder) => encoder.notes(),
            Self::Completions(encoder) => encoder.notes(),
        }
    }
}

/// How an exchange gets from its client to an upstream and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Both speak the same: bytes pass as they are.
    Verbatim,
    /// Through [`super::ir`].
    Translated {
        /// What the client speaks.
        client: Client,
        /// What the upstream speaks.
        upstream: Upstream,
    },
    /// Embeddings, in another shape.
    Embedded(embed::Upstream),
}

impl Passage {
    /// How `asked` gets to an upstream that speaks all of `spoken`, the best of them first; nothing where it cannot.
    pub fn of(asked: Operation, spoken: &[Operation]) -> Option<Self> {
        if spoken.contains(&asked) {
            return Some(Self::Verbatim);
        }
        if asked == Operation::Embeddings {
            let speaks = |operation: &Operation| {
                embed::Upstream::ALL.into_iter().find(|shape| shape.operation() == *operation)
            };
            return spoken.iter().find_map(speaks).map(Self::Embedded);
        }
        let client = Client::ALL.into_iter().find(|client| client.operation() == asked)?;
        let speaks =
            |operation: &Operation| Upstream::ALL.into_iter().find(|row| row.operation() == *operation);
        let upstream = spoken.iter().find_map(speaks)?;
        Some(Self::Translated { client, upstream })
    }
}

#[cfg(test)]
mod tests;
