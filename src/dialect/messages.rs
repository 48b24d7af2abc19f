//! Anthropic Messages.
//!
//! Reasoning of other origins has no seal that Anthropic would take. Its seal, or that it has none, goes to clients under
//! a mark ([`super::ir::seal`]).

pub mod reply;
pub mod request;
pub mod stream;

use bytes::Bytes;

use super::ir::{Origin, Text, seal};

/// A seal of `origin` as Messages' clients keep it.
fn sealed<'t>(origin: Origin, seal: &'t Text<'t>) -> Text<'t> {
    seal::sealed(Origin::Messages, origin, seal)
}

/// Whose seal this is, and the seal itself.
fn unsealed(seal: Text<'_>) -> (Origin, Text<'_>) {
    seal::unsealed(Origin::Messages, seal)
}

/// Bytes of a prompt's JSON to a token, in tenths: text of English and code takes about four characters, and some of the
/// bytes are the JSON's own.
const BYTES_PER_TOKEN: usize = 38;

/// What a count of tokens is answered with where the upstream counts none: a guess from the bytes of everything that
/// becomes prompt. It is some 10 to 30 % off either way, more for scripts of several bytes to a letter; it is there
/// because clients fail without an answer, not for money.
pub fn counted(prompt_bytes: usize) -> Bytes {
    let tokens = (prompt_bytes * 10).div_ceil(BYTES_PER_TOKEN);
    Bytes::from(format!("{{\"input_tokens\":{tokens}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_by_its_bytes() {
        assert_eq!(counted(0), r#"{"input_tokens":0}"#);
        assert_eq!(counted(380), r#"{"input_tokens":100}"#);
        assert_eq!(counted(1), r#"{"input_tokens":1}"#);
    }
}
