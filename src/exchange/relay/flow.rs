//! What stands between the chunks of an upstream's stream and those of the client's: a tap where they are the same, a
//! translation where they are not.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::dialect::Operation;
use crate::dialect::ir::{Notes, Reply};
use crate::dialect::owned::Marking;
use crate::dialect::stream::error_event;
use crate::dialect::translate::{self, Begun};
use crate::dialect::usage::{End, Input, StreamTap, Usage};
use crate::error::{Error, Kind};
use crate::exchange::carry::Carry;
use crate::filter::redact::Events;
use crate::provider::seal::Seal;

/// The pieces that one chunk lets out.
pub(super) type Let = SmallVec<[Bytes; 2]>;

/// A stream on its way.
pub(super) enum Flow {
    Verbatim(Box<Verbatim>),
    Translated(Box<translate::Stream>),
    /// Nothing is let out: the client is to have it whole.
    Folded(Box<translate::Folding>),
}

/// A stream that passes as it is, but for marks of what its upstream alone knows.
pub(super) struct Verbatim {
    tap: StreamTap,
    marking: Option<Marking<Seal>>,
}

impl Verbatim {
    fn push(&mut self, chunk: &Bytes, out: &mut Let) -> u32 {
        match &mut self.marking {
            None => self.tap.push(chunk, &mut |piece| out.push(piece)).content,
            Some(marking) => {
                let marked = marking.push(chunk);
                self.tap.push(&marked, &mut |piece| out.push(piece)).content
            }
        }
    }

    fn finish(&mut self, out: &mut Let) -> End {
        if let Some(marking) = &mut self.marking {
            let rest = marking.finish();
            self.tap.push(&rest, &mut |piece| out.push(piece));
        }
        self.tap.finish(&mut |piece| out.push(piece))
    }
}

impl Flow {
    /// A flow at the start of a stream that answers `operation`.
    pub(super) fn new(operation: Operation, carry: &Carry) -> Self {
        match carry {
            Carry::Verbatim { strip, seal, .. } => {
                let marking = seal.as_deref().map(|seal| Marking::new(seal.clone()));
                Self::Verbatim(Box::new(Verbatim { tap: StreamTap::new(operation, *strip), marking }))
            }
            // Embeddings have no streams.
            Carry::Embedded { .. } => {
                Self::Verbatim(Box::new(Verbatim { tap: StreamTap::new(operation, false), marking: None }))
            }
            Carry::Translated { upstream, client, to, redact, .. } => {
                let stream = translate::Stream::new(*upstream, *client, to.clone());
                Self::Translated(Box::new(match redact.is_empty() {
                    true => stream,
                    false => stream.filtered(Box::new(Events::new(*redact))),
                }))
            }
        }
    }

    /// A flow that is put together to a whole reply.
    pub(super) fn folding(upstream: translate::Upstream) -> Self {
        Self::Folded(Box::new(translate::Folding::new(upstream)))
    }

    /// What of the stream had no place in the client's dialect, where it was translated.
    pub(super) fn notes(&self) -> Option<&Notes> {
        match self {
            Self::Translated(stream) => Some(stream.notes()),
            Self::Verbatim(_) | Self::Folded(_) => None,
        }
    }

    /// Takes the next chunk, and lets out what the client is sent. Says how many events had content.
    pub(super) fn push(&mut self, chunk: &Bytes, out: &mut Let) -> u32 {
        match self {
            Self::Verbatim(verbatim) => verbatim.push(chunk, out),
            Self::Translated(stream) => {
                let before = stream.seen().content;
                let mut told = Vec::with_capacity(chunk.len() + 256);
                stream.push(chunk, &mut told);
                if !told.is_empty() {
                    out.push(told.into());
                }
                stream.seen().content - before
            }
            Self::Folded(folding) => {
                let before = folding.seen().content;
                folding.push(chunk);
                folding.seen().content - before
            }
        }
    }

    /// The upstream's stream is over: lets out what was held, and says how it ended.
    pub(super) fn finish(&mut self, out: &mut Let) -> End {
        match self {
            Self::Verbatim(verbatim) => verbatim.finish(out),
            Self::Translated(stream) => {
                let mut told = Vec::new();
                stream.finish(&mut told);
                if !told.is_empty() {
                    out.push(told.into());
                }
                // One that breaks off has been ended with an error by the law of streams.
                if stream.failure().is_some() { End::Failed } else { End::Complete }
            }
            Self::Folded(folding) => {
                folding.finish();
                if folding.failure().is_some() { End::Failed } else { End::Complete }
            }
        }
    }

    /// What tells the client of an error in the midst of its stream; nothing where it cannot be told.
    pub(super) fn fail(&mut self, operation: Operation, error: &Error, id: &str) -> Option<Bytes> {
        match self {
            Self::Verbatim(verbatim) => {
                let tap = &verbatim.tap;
                tap.at_boundary().then(|| error_event(operation, error, id, tap.mark()))
            }
            Self::Translated(stream) => {
                let mut told = Vec::new();
                stream.fail(error, &mut told);
                Some(told.into())
            }
            Self::Folded(_) => None,
        }
    }

    /// Why the stream failed, where the flow itself has told the client.
    pub(super) fn failure(&self) -> Option<&Error> {
        match self {
            Self::Verbatim(_) => None,
            Self::Translated(stream) => stream.failure(),
            Self::Folded(folding) => folding.failure(),
        }
    }

    /// Whether nothing worth waiting for follows.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Verbatim(verbatim) => verbatim.tap.is_closed(),
            Self::Translated(stream) => stream.is_over(),
            Self::Folded(folding) => folding.is_over(),
        }
    }

    /// Whether another event can be put behind what was let out.
    pub(super) fn at_boundary(&self) -> bool {
        match self {
            Self::Verbatim(verbatim) => verbatim.tap.at_boundary(),
            Self::Translated(_) | Self::Folded(_) => true,
        }
    }

    /// Keeps what the client is told, so that another upstream can go on with it.
    pub(super) fn keep(&mut self) {
        if let Self::Translated(stream) = self {
            stream.keep();
        }
    }

    /// The memory of what is kept, bytes.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Translated(stream) => stream.kept(),
            Self::Verbatim(_) | Self::Folded(_) => 0,
        }
    }

    /// Keeps nothing: there is no memory for it.
    pub(super) fn forget(&mut self) {
        if let Self::Translated(stream) = self {
            stream.forget();
        }
    }

    /// What the upstreams so far have used of what was kept; nothing where nothing was.
    pub(super) fn used(&self) -> Option<Usage> {
        match self {
            Self::Translated(stream) => stream.used(),
            Self::Verbatim(_) | Self::Folded(_) => None,
        }
    }

    /// What the present upstream reports of its own prompt, where it goes on with what another began.
    pub(super) fn prompt(&self) -> Option<Input> {
        match self {
            Self::Translated(stream) => stream.prompt(),
            Self::Verbatim(_) | Self::Folded(_) => None,
        }
    }

    /// Whether the upstream has said all that a client of another dialect is told: only usage and the end may follow.
    pub(super) fn is_said(&self) -> bool {
        match self {
            Self::Translated(stream) => stream.is_said(),
            Self::Verbatim(_) | Self::Folded(_) => false,
        }
    }

    /// All that was allowed is said, though no upstream could say so: lets out the end.
    pub(super) fn complete(&mut self, out: &mut Let) {
        if let Self::Translated(stream) = self {
            let mut told = Vec::new();
            stream.complete(&mut told);
            out.push(told.into());
        }
    }

    /// What another upstream is to go on with; nothing where the answer is over.
    ///
    /// # Errors
    /// Why no other could.
    pub(super) fn begun(&self) -> Result<Option<Begun<'_>>, &'static str> {
        match self {
            Self::Translated(stream) => stream.begun(),
            Self::Verbatim(_) | Self::Folded(_) => Ok(None),
        }
    }

    /// Another upstream goes on with it.
    pub(super) fn go_on(&mut self, upstream: translate::Upstream) {
        if let Self::Translated(stream) = self {
            stream.go_on(upstream);
        }
    }

    /// The whole reply, once the stream is over.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn whole(self) -> Result<Reply, Error> {
        match self {
            Self::Folded(folding) => folding.reply(),
            Self::Verbatim(_) | Self::Translated(_) => {
                Err(Error::gateway(Kind::Internal, "the reply is not one to be put together"))
            }
        }
    }

    /// The usage that was reported last.
    pub(super) fn usage(&self) -> Option<Usage> {
        match self {
            Self::Verbatim(verbatim) => verbatim.tap.usage(),
            Self::Translated(stream) => stream.usage(),
            Self::Folded(folding) => folding.seen().usage,
        }
    }
}
