//! Ollama streams.

use super::reply::Wire;
use crate::dialect::ir::{Event, broken};
use crate::frame::ndjson;

/// Reads an Ollama stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: ndjson::Reader,
    wire: Wire,
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        if let Err(error) = reader.push(bytes, &mut |line| wire.line(line, sink)) {
            sink(Event::Failed(broken(error)));
        }
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire } = self;
        std::mem::take(reader).finish(&mut |line| wire.line(line, sink));
        sink(Event::End);
    }
}
