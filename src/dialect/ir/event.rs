//! What a reply says, one fact at a time.

use super::{Json, Opaque, Origin, Text};
use crate::dialect::error::{Meaning, read};
use crate::dialect::usage::Usage;
use crate::error::{Error, Kind};

/// One fact of a reply, whole or streamed.
///
/// A decoder tells them in the order of its wire and gives every block a number of its own choice; [`super::Law`] makes
/// a valid stream of them. Texts are borrowed from the wire, so an event lives as long as the call that tells of it.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The reply begins.
    Start(Start<'a>),
    /// A block begins.
    Open {
        /// The block's number.
        block: u32,
        /// What it is.
        kind: Block<'a>,
    },
    /// More of a block's text: of its answer, refusal or reasoning, or of a tool call's arguments as JSON.
    Delta {
        /// The block's number.
        block: u32,
        /// The text, which follows directly on what came before.
        text: Text<'a>,
    },
    /// Something that belongs to a block beside its text.
    Attach {
        /// The block's number.
        block: u32,
        /// What it is.
        what: Attachment<'a>,
    },
    /// A block is complete.
    Close {
        /// The block's number.
        block: u32,
    },
    /// Tokens used so far. Later reports overwrite earlier ones, count by count.
    Usage(Usage),
    /// The model is done. Usage may still follow, and nothing else.
    Finish(Finish<'a>),
    /// The upstream said its last: `[DONE]`, `message_stop` and their like, or it closed the stream.
    End,
    /// The reply failed. Nothing follows.
    Failed(Error),
    /// The upstream is alive.
    KeepAlive,
}

/// The head of a reply. What the upstream did not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// The upstream's name for the reply.
    pub id: Text<'a>,
    /// The model that answers, as the upstream calls it.
    pub model: Text<'a>,
    /// When the upstream made it, in seconds since 1970.
    pub created: Option<u64>,
    /// What is known of usage already: the prompt's tokens.
    pub usage: Option<Usage>,
}

/// What a block of a reply is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// The answer.
    Text,
    /// Why there is none.
    Refusal,
    /// Reasoning that can be read.
    Reasoning(Origin),
    /// Reasoning that only its origin can read.
    Redacted {
        /// Who can.
        origin: Origin,
        /// The sealed reasoning.
        data: Text<'a>,
    },
    /// A call of one of the client's tools.
    ToolCall {
        /// The call's id; empty where the upstream gives none.
        id: Text<'a>,
        /// The tool's name.
        name: Text<'a>,
    },
    /// A part that only its own dialect has, whole.
    Opaque(Opaque<'a>),
}

/// What a block holds beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// The seal on a reasoning block or a tool call, which its origin wants to see again.
    Signature {
        /// Who made it.
        origin: Origin,
        /// The seal.
        text: Text<'a>,
    },
    /// How likely the tokens of a text were: an array of `{token, logprob, bytes, top_logprobs}`, which both of OpenAI's
    /// dialects have.
    Logprobs(Json<'a>),
    /// Citations and their like, in the words of their origin.
    Opaque(Opaque<'a>),
}

/// How a reply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish<'a> {
    /// In the words of the IR.
    pub stop: Stop,
    /// In those of the upstream, with its dialect; nothing where [`super::Law`] corrected it.
    pub raw: Option<(Origin, Text<'a>)>,
    /// The stop sequence that was met, if it is known.
    pub sequence: Option<Text<'a>>,
    /// More about it, in the words of its origin.
    pub details: Option<Opaque<'a>>,
}

/// Why a model stopped. [`super`] has the table of what each dialect calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// It said all.
    End,
    /// It met a stop sequence.
    Sequence,
    /// The bound on output or the context is full.
    Length,
    /// It called a tool.
    ToolCalls,
    /// Its answer was withheld, by itself or by a filter.
    Filtered,
    /// A tool of the provider's paused; the client is to send the turn back.
    Paused,
    /// It wrote a tool call that nobody can read.
    Malformed,
}

impl Start<'_> {
    /// The same, borrowing from nothing.
    pub fn into_owned(self) -> Start<'static> {
        let Self { id, model, created, usage } = self;
        Start { id: id.into_owned(), model: model.into_owned(), created, usage }
    }
}

impl Block<'_> {
    /// The same, borrowed from this one.
    pub fn borrowed(&self) -> Block<'_> {
        match self {
            Self::Text => Block::Text,
            Self::Refusal => Block::Refusal,
            Self::Reasoning(origin) => Block::Reasoning(*origin),
            Self::Redacted { origin, data } => Block::Redacted { origin: *origin, data: data.borrowed() },
            Self::ToolCall { id, name } => Block::ToolCall { id: id.borrowed(), name: name.borrowed() },
            Self::Opaque(opaque) => Block::Opaque(opaque.borrowed()),
        }
    }

    /// The same, borrowing from nothing.
    pub fn into_owned(self) -> Block<'static> {
        match self {
            Self::Text => Block::Text,
            Self::Refusal => Block::Refusal,
            Self::Reasoning(origin) => Block::Reasoning(origin),
            Self::Redacted { origin, data } => Block::Redacted { origin, data: data.into_owned() },
            Self::ToolCall { id, name } => Block::ToolCall { id: id.into_owned(), name: name.into_owned() },
            Self::Opaque(opaque) => Block::Opaque(opaque.into_owned()),
        }
    }
}

impl Attachment<'_> {
    /// The array, if it tells how likely tokens were.
    pub fn logprobs(&self) -> Option<&str> {
        match self {
            Self::Logprobs(list) => Some(list.get()),
            Self::Signature { .. } | Self::Opaque(_) => None,
        }
    }

    /// The same, borrowed from this one.
    pub fn borrowed(&self) -> Attachment<'_> {
        match self {
            Self::Signature { origin, text } => {
                Attachment::Signature { origin: *origin, text: text.borrowed() }
            }
            Self::Logprobs(list) => Attachment::Logprobs(list.borrowed()),
            Self::Opaque(opaque) => Attachment::Opaque(opaque.borrowed()),
        }
    }

    /// The same, borrowing from nothing.
    pub fn into_owned(self) -> Attachment<'static> {
        match self {
            Self::Signature { origin, text } => Attachment::Signature { origin, text: text.into_owned() },
            Self::Logprobs(list) => Attachment::Logprobs(list.into_owned()),
            Self::Opaque(opaque) => Attachment::Opaque(opaque.into_owned()),
        }
    }
}

impl<'a> Finish<'a> {
    /// An end that the upstream calls `raw`.
    pub fn new(stop: Stop, origin: Origin, raw: Text<'a>) -> Self {
        Self { stop, raw: Some((origin, raw)), sequence: None, details: None }
    }

    /// What `origin` itself called it, if it was `origin` that did.
    pub fn raw_of(&self, origin: Origin) -> Option<&Text<'a>> {
        self.raw.as_ref().filter(|(from, _)| *from == origin).map(|(_, raw)| raw)
    }

    /// The same, borrowed from this one.
    pub fn borrowed(&self) -> Finish<'_> {
        Finish {
            stop: self.stop,
            raw: self.raw.as_ref().map(|(origin, raw)| (*origin, raw.borrowed())),
            sequence: self.sequence.as_ref().map(Text::borrowed),
            details: self.details.as_ref().map(Opaque::borrowed),
        }
    }

    /// The same, borrowing from nothing.
    pub fn into_owned(self) -> Finish<'static> {
        Finish {
            stop: self.stop,
            raw: self.raw.map(|(origin, raw)| (origin, raw.into_owned())),
            sequence: self.sequence.map(Text::into_owned),
            details: self.details.map(Opaque::into_owned),
        }
    }
}

impl<'a> Opaque<'a> {
    /// A part that only `origin` has.
    pub fn new(origin: Origin, kind: impl Into<Text<'a>>, json: Json<'a>) -> Self {
        Self { origin, kind: kind.into(), json }
    }

    /// The same, borrowed from this one.
    pub fn borrowed(&self) -> Opaque<'_> {
        Opaque { origin: self.origin, kind: self.kind.borrowed(), json: self.json.borrowed() }
    }

    /// The same, borrowing from nothing.
    pub fn into_owned(self) -> Opaque<'static> {
        Opaque { origin: self.origin, kind: self.kind.into_owned(), json: self.json.into_owned() }
    }
}

/// Overwrites what is known of usage with a later report, count by count.
pub fn update(usage: &mut Usage, later: Usage) {
    let take = |slot: &mut Option<u64>, count: Option<u64>| *slot = count.or(*slot);
    take(&mut usage.input.total, later.input.total);
    take(&mut usage.input.cached, later.input.cached);
    take(&mut usage.input.written, later.input.written);
    take(&mut usage.output.total, later.output.total);
    take(&mut usage.output.reasoning, later.output.reasoning);
    usage.kinds.update(later.kinds);
}

/// The error for an upstream whose reply makes no sense. `why` is for the log alone.
pub fn broken(why: impl std::fmt::Display) -> Error {
    let public = "the upstream sent a reply that could not be read; try again";
    Error::upstream(Kind::UpstreamFailed, public).because(why)
}

/// What upstreams call an error of the client's own making. Google's `INVALID_ARGUMENT` may mean our key as well.
const INVALID: [&str; 3] = ["invalid_request_error", "BadRequestError", "validationException"];

/// The error that an upstream reports in the midst of a reply, in any of the shapes seen in the wild.
pub fn reported(body: &[u8]) -> Error {
    let Some(reported) = read(body, None) else {
        return broken("the upstream reported an error without words");
    };
    // As an error with a status it would have been 400, unless its own words say otherwise.
    let meaning = reported.meaning(400);
    let names = [reported.class.as_deref(), reported.code.as_deref()];
    let is_the_clients = names.iter().flatten().any(|name| INVALID.contains(name));
    let kind = match meaning {
        Meaning::Other if is_the_clients => Kind::InvalidRequest,
        Meaning::RateLimit | Meaning::Quota => Kind::RateLimited,
        Meaning::Overloaded => Kind::Overloaded,
        Meaning::ContextLength | Meaning::ContentFilter => Kind::InvalidRequest,
        Meaning::Credential | Meaning::UnknownModel | Meaning::Other => Kind::UpstreamFailed,
    };
    // What is said of a credential is said of Forebay's own.
    let public = match (meaning, reported.message.as_str()) {
        (Meaning::Credential, _) | (_, "") => "the upstream reported an error; try again".to_owned(),
        (_, message) => message.to_owned(),
    };
    let class = reported.class.as_deref().or(reported.code.as_deref()).unwrap_or("no class");
    Error::upstream(kind, public).because(format_args!("reported in the stream: {class}"))
}
