//! An upstream's stream put together to a whole reply.

use super::stream::Seen;
use super::{Decoder, Upstream};
use crate::dialect::ir::{Fold, Reply};
use crate::error::Error;

/// A stream on its way to being a whole reply.
#[derive(Debug)]
pub struct Folding {
    decoder: Decoder,
    fold: Fold,
    seen: Seen,
}

impl Folding {
    /// The beginning of a stream of `upstream`.
    pub fn new(upstream: Upstream) -> Self {
        Self { decoder: upstream.decoder(), fold: Fold::default(), seen: Seen::default() }
    }

    /// Takes the upstream's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { decoder, fold, seen } = self;
        decoder.push(bytes, &mut |event| {
            seen.note(&event);
            fold.push(event);
        });
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self) {
        let Self { decoder, fold, seen } = self;
        decoder.finish(&mut |event| {
            seen.note(&event);
            fold.push(event);
        });
    }

    /// Whether nothing can follow.
    pub fn is_over(&self) -> bool {
        self.fold.law().is_over()
    }

    /// Why the stream failed, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.fold.law().failure()
    }

    /// What the upstream said so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The reply, once the stream was closed.
    ///
    /// # Errors
    ///
    /// As [`Fold::finish`].
    pub fn reply(self) -> Result<Reply, Error> {
        self.fold.finish()
    }
}
