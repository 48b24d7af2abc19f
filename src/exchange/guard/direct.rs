//! The connection as Forebay's own HTTP/1 session reads it: the head as it was screened, the body as data.

use std::io;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{Guarded, Phase, Rest, read_ahead};
use crate::dialect::Dialect;
use crate::error::Error;

/// What came instead of a piece of a body.
#[derive(Debug)]
pub enum Unread {
    /// The body is malformed.
    Malformed(Error),
    /// The connection broke, or ended too soon.
    Gone(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Guarded {
    /// Takes the screened head that is ready, or says why there is none.
    ///
    /// # Errors
    /// Why it was refused, and the dialect of who sent it.
    pub fn take_head(&mut self) -> Result<Bytes, (Error, Dialect)> {
        let (_, state, _) = self.parts();
        if let Some(error) = &state.verdict {
            return Err((error.clone(), state.dialect));
        }
        let Phase::Body { head, .. } = &mut state.phase else { return Ok(Bytes::new()) };
        let size = std::mem::take(head).min(state.held.len());
        let taken = state.held.split_to(size).freeze();
        if state.held.is_empty() {
            state.held = BytesMut::new();
        }
        Ok(taken)
    }

    /// The next piece of the body, `None` at its end. May be dropped and called again.
    ///
    /// # Errors
    /// [`Unread`].
    pub async fn body(&mut self) -> Result<Option<Bytes>, Unread> {
        let (inner, state, _) = self.parts();
        loop {
            let Phase::Body { head: 0, rest } = &mut state.phase else { return Ok(None) };
            if matches!(rest, Rest::Length(0)) {
                return Ok(None);
            }
            if !state.held.is_empty() {
                let piece = match rest.take(&mut state.held) {
                    Ok(piece) => piece,
                    Err(error) => {
                        state.break_off(error.clone());
                        return Err(Unread::Malformed(error));
                    }
                };
                if state.held.is_empty() {
                    state.held = BytesMut::new();
                }
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
                continue;
            }
            state.held.reserve(state.stride.size());
            match inner.read_buf(&mut state.held).await? {
                0 => return Err(Unread::Gone(io::ErrorKind::UnexpectedEof.into())),
                size => state.stride.came(size),
            }
        }
    }

    /// Whether the whole body was read, and nothing was refused or thrown away.
    pub fn is_read(&self) -> bool {
        let state = self.lock();
        !state.flooded && matches!(state.phase, Phase::Body { head: 0, rest: Rest::Length(0) })
    }

    /// Whether no more than that is left to read of the body.
    pub fn is_nearly_read(&self, most: usize) -> bool {
        let state = self.lock();
        match &state.phase {
            Phase::Body { rest: Rest::Length(left), .. } => !state.flooded && *left <= most as u64,
            _ => false,
        }
    }

    /// Waits until the client leaves. What it sends ahead is kept for later. May be dropped and called again.
    ///
    /// # Errors
    /// Those of a connection that breaks.
    pub async fn gone(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let (inner, state, bounds) = self.parts();
            if matches!(state.phase, Phase::Body { head: 0, rest: Rest::Length(0) }) {
                read_ahead(inner, &mut state.held, &mut state.flooded, bounds, cx)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl Rest {
    /// Takes data out of what was read. A chunked body that ends becomes one of which nothing is to come.
    fn take(&mut self, held: &mut BytesMut) -> Result<Bytes, Error> {
        match self {
            Self::Length(left) => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(held.len());
                *left -= size as u64;
                Ok(held.split_to(size).freeze())
            }
            Self::Chunks(chunks) => {
                let data = chunks.take(held).map_err(super::malformed)?;
                if chunks.ended() {
                    *self = Self::Length(0);
                }
                Ok(data)
            }
        }
    }
}
