//! The table of dialects: any client's to any upstream's, through [`super::ir`].
//!
//! A client's dialect has a row in [`Client`], an upstream's in [`Upstream`]; no pair has any code. To add a dialect,
//! write its folder after the contract of [`super::ir`], and add a line to each `match` below: the compiler names them.

use super::ir::{Event, Fold, Law, Notes, Origin, Reply, ReplyTo, Request, Target};
use super::{Operation, chat, messages};
use crate::error::Error;

mod stream;

pub use stream::{Seen, Stream};

/// A dialect in which clients may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// OpenAI chat completions.
    Chat,
    /// Anthropic Messages.
    Messages,
}

/// A dialect in which upstreams may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// OpenAI chat completions.
    Chat,
    /// Anthropic Messages.
    Messages,
}

impl Client {
    /// Every dialect of clients.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Messages];

    /// What clients ask in it.
    pub fn operation(self) -> Operation {
        match self {
            Self::Chat => Operation::ChatCompletions,
            Self::Messages => Operation::Messages,
        }
    }

    /// Whose words these are.
    pub fn origin(self) -> Origin {
        match self {
            Self::Chat => Origin::Chat,
            Self::Messages => Origin::Messages,
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
    pub fn request(self, body: &[u8]) -> Result<Request<'_>, Error> {
        match self {
            Self::Chat => chat::request::decode(body),
            Self::Messages => messages::request::decode(body),
        }
    }

    /// Writes a whole reply.
    pub fn reply(self, reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
        match self {
            Self::Chat => chat::reply::encode(reply, to, notes),
            Self::Messages => messages::reply::encode(reply, to, notes),
        }
    }

    /// Writes a stream.
    pub fn encoder(self, to: ReplyTo) -> Encoder {
        match self {
            Self::Chat => Encoder::Chat(chat::stream::Encoder::new(to)),
            Self::Messages => Encoder::Messages(messages::stream::Encoder::new(to)),
        }
    }
}

impl Upstream {
    /// Every dialect of upstreams.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Messages];

    /// What upstreams are asked in it.
    pub fn operation(self) -> Operation {
        match self {
            Self::Chat => Operation::ChatCompletions,
            Self::Messages => Operation::Messages,
        }
    }

    /// Whose words these are.
    pub fn origin(self) -> Origin {
        match self {
            Self::Chat => Origin::Chat,
            Self::Messages => Origin::Messages,
        }
    }

    /// The media type of its streams.
    pub fn stream_media(self) -> &'static str {
        match self {
            Self::Chat | Self::Messages => "text/event-stream",
        }
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
        match self {
            Self::Chat => chat::request::encode(request, target, notes),
            Self::Messages => messages::request::encode(request, target, notes),
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
        }
        fold.finish()
    }

    /// Reads a stream.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::Chat => Decoder::Chat(chat::stream::Decoder::default()),
            Self::Messages => Decoder::Messages(messages::stream::Decoder::default()),
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
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Chat(decoder) => decoder.push(bytes, sink),
            Self::Messages(decoder) => decoder.push(bytes, sink),
        }
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Chat(decoder) => decoder.finish(sink),
            Self::Messages(decoder) => decoder.finish(sink),
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
}

impl Encoder {
    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Chat(encoder) => encoder.push(event, out),
            Self::Messages(encoder) => encoder.push(event, out),
        }
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        match self {
            Self::Chat(encoder) => encoder.law(),
            Self::Messages(encoder) => encoder.law(),
        }
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        match self {
            Self::Chat(encoder) => encoder.notes(),
            Self::Messages(encoder) => encoder.notes(),
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
}

impl Passage {
    /// How `asked` gets to an upstream that speaks all of `spoken`, the best of them first; nothing where it cannot.
    pub fn of(asked: Operation, spoken: &[Operation]) -> Option<Self> {
        if spoken.contains(&asked) {
            return Some(Self::Verbatim);
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
