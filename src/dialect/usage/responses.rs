//! The events of OpenAI Responses.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Count, Counts, kind};
use super::{Carries, Finish, Mark, Usage};
use crate::frame::sse::Event;

static SEQUENCE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"sequence_number\""));

/// How far a Responses stream has come.
#[derive(Debug)]
pub(super) struct Responses {
    finish: Finish,
    /// Whether the response itself ended, and not only an error was told.
    closed: bool,
    usage: Option<Usage>,
    sequence: Option<u64>,
    head: Option<Head>,
}

/// The response that a stream is about, as its first event has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `id`.
    pub id: String,
    /// `model`.
    pub model: String,
    /// `created_at`, in seconds of Unix time.
    pub created_at: u64,
}

impl Default for Responses {
    fn default() -> Self {
        Self { finish: Finish::Open, closed: false, usage: None, sequence: None, head: None }
    }
}

impl Responses {
    pub(super) fn event(&mut self, event: &Event<'_>) -> Carries {
        self.sequence = sequence(&event.data).or(self.sequence);
        let kind = kind(event);
        match kind.as_ref() {
            kind if kind.ends_with(b".delta") => return Carries::Content,
            b"response.created" => {
                let response =
                    serde_json::from_slice(&event.data).ok().and_then(|Told { response }| response);
                self.head = response.map(Head::from);
            }
            b"response.completed" | b"response.incomplete" => self.close(Finish::Done, &event.data),
            b"response.failed" | b"response.cancelled" => self.close(Finish::Failed, &event.data),
            b"error" => self.finish = Finish::Failed,
            _ => {}
        }
        Carries::Other
    }

    pub(super) fn finish(&self) -> Finish {
        self.finish
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub(super) fn mark(&self) -> Mark<'_> {
        Mark { sequence: self.sequence, response: self.head.as_ref() }
    }

    fn close(&mut self, finish: Finish, data: &[u8]) {
        self.closed = true;
        if self.finish == Finish::Open {
            self.finish = finish;
        }
        let response = serde_json::from_slice(data).ok().and_then(|Told { response }| response);
        let usage = response.and_then(|response| Counts::read(response.usage?)?.openai());
        self.usage = usage.or(self.usage);
    }
}

/// The `sequence_number` of an event. Strings cannot hold the key unescaped, so the first one found is it.
fn sequence(data: &[u8]) -> Option<u64> {
    let at = SEQUENCE.find(data)?;
    let after = data.get(at + SEQUENCE.needle().len()..)?.trim_ascii_start();
    let value = after.strip_prefix(b":")?.trim_ascii_start();
    let digits = value.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    created_at: Count,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl From<Response<'_>> for Head {
    fn from(response: Response<'_>) -> Self {
        let text = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
        };
        Self {
            id: text(response.id),
            model: text(response.model),
            created_at: response.created_at.0.unwrap_or(0),
        }
    }
}
