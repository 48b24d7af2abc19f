//! What every dialect says, in words of none: the one representation between a client's dialect and an upstream's.
//!
//! Where both speak the same dialect, bytes pass verbatim and none of this is used. Elsewhere a dialect has four halves,
//! each of which knows this module and its own wire, and no other dialect:
//!
//! ```text
//! client's bytes ── request::decode ──▶ Request ── request::encode ──▶ upstream's bytes
//! client's bytes ◀─ stream::Encoder ─── Event ◀─── stream::Decoder ─── upstream's bytes, cut anywhere
//! client's bytes ◀─ reply::encode ───── Reply ◀─── reply::decode ───── upstream's bytes, whole
//! ```
//!
//! # The contract of a dialect
//!
//! | function | rules |
//! |---|---|
//! | `request::decode(&[u8]) -> Result<Request<'_>, Error>` | borrows; refuses with the path of what is wrong; what it does not know is left over |
//! | `request::encode(&Request, &Target, &mut Notes) -> Result<Vec<u8>, Error>` | every field is carried, noted or refused; ends with [`Request::note_left`] |
//! | `reply::decode(&[u8], &mut impl FnMut(Event))` | the events of a whole reply, [`Event::End`] last, or [`Event::Failed`] |
//! | `reply::encode(&Reply, &ReplyTo, &mut Notes) -> Vec<u8>` | |
//! | `stream::Decoder::{default, push(&[u8], sink), finish(sink)}` | tells what the wire says, in its order, with block numbers of its own; `finish` at the end of the upstream |
//! | `stream::Encoder::{new(ReplyTo), push(Event, &mut Vec<u8>), notes}` | keeps a [`Law`], and writes only what the law lets out |
//!
//! A decoder need not be careful: [`Law`], which every encoder and [`Fold`] keep, makes a valid stream of what it tells.
//! [`super::translate`] holds the table of dialects.
//!
//! # The shape of a conversation
//!
//! Instructions keep their place as messages of their own role. Tool results stand in messages of the user, as parts;
//! [`turns`] puts them first and joins what one side says in a row, for dialects that alternate.
//!
//! # Seals
//!
//! What a model's vendor sealed has to come back to it unchanged, through a client of any dialect: [`seal`].
//!
//! # Usage
//!
//! Counts are [`crate::dialect::usage::Usage`], the same as the taps of verbatim streams read.
//!
//! # Why a model stopped
//!
//! | [`Stop`] | chat | Messages |
//! |---|---|---|
//! | [`Stop::End`] | `stop` | `end_turn` |
//! | [`Stop::Sequence`] | `stop` | `stop_sequence` |
//! | [`Stop::Length`] | `length` | `max_tokens`, `model_context_window_exceeded` |
//! | [`Stop::ToolCalls`] | `tool_calls`, `function_call` | `tool_use` |
//! | [`Stop::Filtered`] | `content_filter` | `refusal` |
//! | [`Stop::Paused`] | `stop` | `pause_turn` |
//! | [`Stop::Malformed`] | `stop` | `end_turn` |

mod admit;
pub mod event;
pub mod fold;
pub mod law;
pub mod lenient;
pub mod media;
mod names;
pub mod node;
pub mod notes;
pub mod request;
pub mod seal;
mod source;
pub mod target;
pub mod text;
mod turns;
pub mod write;

#[cfg(test)]
mod tests;

pub use admit::{Admitted, digest};
pub use event::{Attachment, Block, Event, Finish, Start, Stop, broken, reported, update};
pub use fold::{Fold, Reply, Whole};
pub use law::{Law, truncated};
pub use notes::{Loss, Note, Notes, Policy};
pub use request::{
    Arguments, Cache, Content, Delivery, Function, Leftover, Message, Mode, Opaque, Outcome, Output, Part,
    Reasoning, ReplyTo, Request, Role, Sampling, Schema, Source, Thinking, Thought, Tool, ToolCall,
    ToolChoice, ToolResult, base64_into, data_url_into,
};
pub use source::is_data_url;
pub use target::{Budgets, Effort, Facts, Target};
pub use text::{Json, Text};
pub use turns::{Calls, Turn, check_results, turns};

/// The name of the tool that stands for a reply of a given shape where an upstream knows only tools. What the model
/// puts into a call of it is the answer: [`Law`] tells it as text.
pub const FALLBACK_TOOL: &str = "forebay_answer";

/// Whose words something is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// OpenAI chat completions and what is compatible with it.
    Chat,
    /// OpenAI's legacy completions.
    Completions,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Gemini `generateContent`.
    Gemini,
    /// Bedrock Converse.
    Converse,
    /// Cohere v2.
    Cohere,
    /// Ollama's own API.
    Ollama,
}
