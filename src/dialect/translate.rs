//! The table of dialects: any client's to any upstream's, through [`super::ir`].
//!
//! A client's dialect has a row in [`Client`], an upstream's in [`Upstream`]; no pair has any code. To add a dialect,
//! write its folder after the contract of [`super::ir`], and add a line to each `match` below: the compiler names them.

use super::ir::{Event, Fold, Notes, Origin, Reply, ReplyTo, Request, Target};
use super::{chat, messages};
use crate::error::Error;

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

    /// Whose words these are.
    pub fn origin(self) -> Origin {
        match self {
            Self::Chat => Origin::Chat,
            Self::Messages => Origin::Messages,
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

    /// Whether the stream has ended.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Chat(encoder) => encoder.is_over(),
            Self::Messages(encoder) => encoder.is_over(),
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

/// A stream on its way from an upstream to a client.
#[derive(Debug)]
pub struct Stream {
    decoder: Decoder,
    encoder: Encoder,
}

impl Stream {
    /// A stream of `upstream` that answers `client`.
    pub fn new(upstream: Upstream, client: Client, to: ReplyTo) -> Self {
        Self { decoder: upstream.decoder(), encoder: client.encoder(to) }
    }

    /// Takes the upstream's next bytes, and appends what the client is sent.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { decoder, encoder } = self;
        decoder.push(bytes, &mut |event| encoder.push(event, out));
    }

    /// The upstream closed the stream: appends the end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let Self { decoder, encoder } = self;
        decoder.finish(&mut |event| encoder.push(event, out));
    }

    /// Whether the client has been sent the end.
    pub fn is_over(&self) -> bool {
        self.encoder.is_over()
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        self.encoder.notes()
    }
}

#[cfg(test)]
mod tests;
