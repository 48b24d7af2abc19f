//! The events of OpenAI chat completions and legacy completions.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Count, Counts, object};
use super::{Carries, Finish, Usage};
use crate::frame::sse::Event;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"index\""));

/// How far a chat stream has come.
#[derive(Debug, Default)]
pub(super) struct Chat {
    stage: Stage,
    choices: Choices,
    usage: Option<Usage>,
    /// Whether `[DONE]` has come.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No content yet.
    #[default]
    Silent,
    /// There was content.
    Speaking,
    /// There was an error.
    Failed,
}

/// Which choices there are, one bit each. Those from the 64th on share the last bit.
#[derive(Debug, Default)]
pub(super) struct Choices {
    seen: u64,
    finished: u64,
}

impl Chat {
    pub(super) fn event(&mut self, event: &Event<'_>) -> Carries {
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            self.closed = true;
            return Carries::Other;
        }
        if self.stage == Stage::Speaking && is_plain(data) {
            return Carries::Content;
        }
        match serde_json::from_slice::<Chunk<'_>>(unwrapped(data)) {
            Ok(chunk) => self.chunk(&chunk),
            // Whatever it is, the client will have to deal with it.
            Err(_) => self.content(),
        }
    }

    pub(super) fn finish(&self) -> Finish {
        match self.stage {
            Stage::Failed => Finish::Failed,
            _ if self.closed || self.choices.all_finished() => Finish::Done,
            _ => Finish::Open,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Carries {
        let usage = chunk.usage.or_else(|| chunk.x_groq.and_then(|groq| object::<Groq<'_>>(groq)?.usage));
        self.report(usage);
        if chunk.is_error() {
            self.stage = Stage::Failed;
            return Carries::Other;
        }
        let choices: Option<Vec<Choice<'_>>> =
            chunk.choices.and_then(|choices| serde_json::from_str(choices.get()).ok());
        let mut content = false;
        for choice in choices.iter().flatten() {
            // Some servers write an empty finish reason where they mean none.
            let finished = choice.finish_reason.is_some_and(holds);
            self.choices.note(choice.index.0.unwrap_or(0), finished);
            self.report(choice.usage);
            content |= choice.has_content();
            if choice.finish_reason.is_some_and(|reason| reason.get() == "\"error\"") {
                self.stage = Stage::Failed;
            }
        }
        match choices {
            Some(choices) if choices.is_empty() && usage.is_some_and(holds) => Carries::UsageAlone,
            _ if content => self.content(),
            _ => Carries::Other,
        }
    }

    /// Takes in a usage object. The last one wins: where there are several, each holds the sums so far.
    fn report(&mut self, usage: Option<&RawValue>) {
        let usage = usage.and_then(|usage| Counts::read(usage)?.openai());
        self.usage = usage.or(self.usage);
    }

    fn content(&mut self) -> Carries {
        if self.stage == Stage::Silent {
            self.stage = Stage::Speaking;
        }
        Carries::Content
    }
}

impl Choices {
    pub(super) fn note(&mut self, index: u64, finished: bool) {
        let bit = 1 << index.min(63);
        self.seen |= bit;
        if finished {
            self.finished |= bit;
        }
    }

    pub(super) fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished
    }
}

/// Whether an event in the middle of a stream is no more than another piece of the first choice's content. A key can
/// stand in quotes only outside strings, because quotes inside are escaped.
fn is_plain(data: &[u8]) -> bool {
    all_values(&FINISH, data, |value| value.starts_with(b"null"))
        && all_values(&USAGE, data, |value| value.starts_with(b"null"))
        && all_values(&INDEX, data, |value| value.starts_with(b"0"))
        && ERROR.find(data).is_none()
}

/// Whether `test` holds for what follows every occurrence of a key and its colon.
fn all_values(key: &Finder<'static>, data: &[u8], test: impl Fn(&[u8]) -> bool) -> bool {
    key.find_iter(data).all(|at| {
        let after = data.get(at + key.needle().len()..).unwrap_or_default().trim_ascii_start();
        after.strip_prefix(b":").is_none_or(|value| test(value.trim_ascii_start()))
    })
}

/// Whether a value is there at all: not `null`, and not empty.
fn holds(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}")
}

/// What is in an array of one, which is how Gemini's OpenAI-compatible route wraps errors.
fn unwrapped(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"[").and_then(|data| data.strip_suffix(b"]")).unwrap_or(data)
}

// === The wire ===

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    x_groq: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

impl Chunk<'_> {
    fn is_error(&self) -> bool {
        self.error.is_some_and(holds) || self.object.is_some_and(|object| object.get() == "\"error\"")
    }
}

#[derive(Deserialize)]
struct Groq<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Count,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    /// Some servers put usage here.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    #[serde(borrow)]
    images: Option<&'a RawValue>,
}

impl Choice<'_> {
    fn has_content(&self) -> bool {
        let delta = self.delta.and_then(object::<Delta<'_>>);
        let in_delta = delta.is_some_and(|delta| {
            let members = [
                delta.content,
                delta.reasoning_content,
                delta.reasoning,
                delta.reasoning_details,
                delta.refusal,
                delta.tool_calls,
                delta.function_call,
                delta.audio,
                delta.images,
            ];
            members.into_iter().flatten().any(holds)
        });
        in_delta || self.text.is_some_and(holds)
    }
}
