//! The events of Anthropic Messages.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Claude, Counts, kind};
use super::{Carries, Finish, Usage};
use crate::frame::sse::Event;

static SIGNATURE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"signature_delta\""));
static CITATIONS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"citations_delta\""));

/// How far a Messages stream has come.
#[derive(Debug)]
pub(super) struct Messages {
    finish: Finish,
    usage: Claude,
}

impl Default for Messages {
    fn default() -> Self {
        Self { finish: Finish::Open, usage: Claude::default() }
    }
}

impl Messages {
    pub(super) fn event(&mut self, event: &Event<'_>) -> Carries {
        match kind(event).as_ref() {
            b"content_block_delta" if is_content(&event.data) => return Carries::Content,
            b"message_start" => {
                if let Ok(Start { message: Some(message) }) = serde_json::from_slice(&event.data) {
                    self.report(&message);
                }
            }
            b"message_delta" => {
                if let Ok(report) = serde_json::from_slice(&event.data) {
                    self.report(&report);
                }
            }
            b"message_stop" if self.finish == Finish::Open => self.finish = Finish::Done,
            b"error" => self.finish = Finish::Failed,
            _ => {}
        }
        Carries::Other
    }

    pub(super) fn finish(&self) -> Finish {
        self.finish
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.usage()
    }

    fn report(&mut self, report: &Report<'_>) {
        if let Some(counts) = report.usage.and_then(Counts::read) {
            self.usage.update(&counts);
        }
    }
}

/// Whether a delta is text, thinking or tool input, and not a signature or a citation.
fn is_content(data: &[u8]) -> bool {
    SIGNATURE.find(data).is_none() && CITATIONS.find(data).is_none()
}

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(borrow)]
    message: Option<Report<'a>>,
}

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}
