//! OpenAI Responses, without its state.
//!
//! Where a request is translated, nothing upstream remembers an earlier response. So what asks for memory is refused
//! with a 400 that names it, and never dropped: `previous_response_id`, `conversation`, `prompt`, `background: true`,
//! `store: true`, and an input item of type `item_reference`. Routes to an upstream that speaks Responses pass
//! requests verbatim and keep all of them. `store` left out is taken for `false`, which is what replies say.
//!
//! Items become parts: what the model made in a row (reasoning, a message, function calls) is one message, outputs of
//! functions are results in a message of the user. Tools of the provider's and their items are opaque. A function
//! whose `strict` is left out has none: OpenAI itself is strict only where the schema allows it.
//!
//! Reasoning has its seal in `encrypted_content`. OpenAI takes one back only beside the id of its item, so the two
//! are one seal here, `<id>:<encrypted_content>`. Seals that no upstream of Responses made go to clients under
//! Forebay's mark, and so do two other things that have no place of their own: reasoning that only its origin can
//! read, and the seal of a function call, in a reasoning item of its own that follows the call.
//!
//! Readable reasoning is told as a summary, or as the text itself where it comes from models whose own servers tell
//! it so: those behind chat, Cohere and Ollama.

mod items;
mod output;
pub mod reply;
pub mod request;
pub mod stream;

#[cfg(test)]
pub(super) mod tests;

use super::ir::seal::{REDACTED, marked, unmarked};
use super::ir::{Origin, Text};

/// What begins the seal of the function call before it.
const CALL: &str = "call:";

/// What `encrypted_content` holds.
#[derive(Debug, PartialEq, Eq)]
enum Seal<'a> {
    /// The proof that the reasoning beside it is unchanged. It may be all there is of it.
    Signature(Origin, Text<'a>),
    /// The reasoning itself.
    Redacted(Origin, Text<'a>),
    /// The seal of the function call before it.
    Call(Origin, Text<'a>),
}

impl<'a> Seal<'a> {
    /// What the `encrypted_content` of the reasoning item `id` is. `bare` tells that nothing of it can be read.
    fn read(id: Option<&Text<'_>>, encrypted: &Text<'a>, bare: bool) -> Self {
        let Some((origin, seal)) = unmarked(encrypted) else {
            let seal = match id.filter(|id| !id.is_empty()) {
                Some(id) => Text::join([id, &Text::from(":"), encrypted], ""),
                None => encrypted.clone(),
            };
            return if bare {
                Self::Redacted(Origin::Responses, seal)
            } else {
                Self::Signature(Origin::Responses, seal)
            };
        };
        let plain = seal.plain();
        if let Some(data) = plain.strip_prefix(REDACTED) {
            Self::Redacted(origin, Text::new(data.to_owned()))
        } else if let Some(signature) = plain.strip_prefix(CALL) {
            Self::Call(origin, Text::new(signature.to_owned()))
        } else {
            drop(plain);
            Self::Signature(origin, seal)
        }
    }

    /// The same, borrowing from nothing.
    fn into_owned(self) -> Seal<'static> {
        match self {
            Self::Signature(origin, text) => Seal::Signature(origin, text.into_owned()),
            Self::Redacted(origin, text) => Seal::Redacted(origin, text.into_owned()),
            Self::Call(origin, text) => Seal::Call(origin, text.into_owned()),
        }
    }

    /// The same as a client keeps it.
    fn write(&self) -> String {
        match self {
            Self::Signature(origin, text) => marked(*origin, text),
            Self::Redacted(origin, text) => marked(*origin, &Text::join([&Text::from(REDACTED), text], "")),
            Self::Call(origin, text) => marked(*origin, &Text::join([&Text::from(CALL), text], "")),
        }
    }
}

/// The id of the item that an upstream sealed, and what it sealed.
fn unsealed(seal: &Text<'_>) -> (Option<String>, String) {
    let plain = seal.plain();
    match plain.split_once(':') {
        Some((id, encrypted)) => (Some(id.to_owned()), encrypted.to_owned()),
        None => (None, plain.into_owned()),
    }
}
