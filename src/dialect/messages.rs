//! Anthropic Messages.
//!
//! Reasoning of other origins has no seal that Anthropic would take. Its seal, or that it has none, goes to clients under
//! a mark ([`super::ir::seal`]).

pub mod reply;
pub mod request;
pub mod stream;

use super::ir::{Origin, Text, seal};

/// A seal of `origin` as Messages' clients keep it.
fn sealed<'t>(origin: Origin, seal: &'t Text<'t>) -> Text<'t> {
    seal::sealed(Origin::Messages, origin, seal)
}

/// Whose seal this is, and the seal itself.
fn unsealed(seal: Text<'_>) -> (Origin, Text<'_>) {
    seal::unsealed(Origin::Messages, seal)
}
