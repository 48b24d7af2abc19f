//! Looking at a request's head before Pingora reads it.

use std::io;

use pingora_core::protocols::Peek;

use super::{Guarded, H2_PREFACE, Phase};

impl Guarded {
    /// Waits until a screened or refused head is there; `false` at the end of the input. May be dropped and called
    /// again.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn head_ready(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| {
            let (inner, state, bounds) = self.parts();
            match state.phase {
                Phase::Idle | Phase::Head(_) => state.collect(inner, bounds, cx),
                _ => std::task::Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok(!matches!(self.lock().phase, Phase::Idle | Phase::Head(_)))
    }

    /// Waits for as much as tells HTTP/2 by prior knowledge from HTTP/1.
    pub async fn is_h2(&mut self) -> bool {
        let mut seen = [0; H2_PREFACE.len()];
        matches!(self.try_peek(&mut seen).await, Ok(true)) && seen == H2_PREFACE
    }

    /// Whether nothing of a next request has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.lock().phase, Phase::Idle)
    }

    /// Shows the head that is ready and was screened; nothing of one that was refused.
    pub fn show_head<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let state = self.lock();
        match state.phase {
            Phase::Body { head, .. } if head > 0 => state.held.get(..head).map(look),
            _ => None,
        }
    }
}
