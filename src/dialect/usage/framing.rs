//! Where the events of a stream end.

use crate::frame::eventstream::Cuts;
use crate::frame::sse::Blocks;

/// Finds the ends of events in a stream that passes.
#[derive(Debug)]
pub(super) enum Framing {
    /// Server-sent events.
    Blocks(Blocks),
    /// AWS's messages.
    Cuts(Cuts),
}

impl Framing {
    /// See [`Blocks::owes_lf`]. Messages end where they end.
    pub(super) fn owes_lf(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Blocks(blocks) => blocks.owes_lf(bytes),
            Self::Cuts(_) => false,
        }
    }

    /// The end of the event that `bytes` go on with at offset `at`; nothing where it does not end in `bytes`.
    pub(super) fn end(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        match self {
            Self::Blocks(blocks) => blocks.end(bytes, at),
            Self::Cuts(cuts) => cuts.end(bytes, at),
        }
    }

    /// Whether the bytes seen so far end between two events.
    pub(super) fn at_boundary(&self) -> bool {
        match self {
            Self::Blocks(blocks) => blocks.at_boundary(),
            Self::Cuts(cuts) => cuts.at_boundary(),
        }
    }
}
