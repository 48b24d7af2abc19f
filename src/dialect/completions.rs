//! OpenAI's legacy completions, chat's forebear: a prompt, and text that goes on from it.
//!
//! Clients alone speak it here. An upstream that has it too is asked verbatim; any other is asked the prompt as a user's
//! message, so it answers rather than goes on. Parameters, usage and errors are chat's.
//!
//! Source: the `completions` resource of OpenAI's API reference and official SDKs.

pub mod reply;
pub mod request;
pub mod stream;

#[cfg(test)]
mod tests;
