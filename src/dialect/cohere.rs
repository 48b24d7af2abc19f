//! Cohere's chat, v2: an upstream's dialect alone.
//!
//! What a model plans before it calls tools (`tool_plan`) is told as reasoning, and so is its `thinking`; both have no
//! seal. Text documents of the user become `documents`, which Cohere cites from; citations belong to the answer, in
//! Cohere's own words. `documents`, `citation_options`, `safety_mode` and `priority` of a chat request pass as they
//! are. Of usage, `tokens` counts; `billed_units` leave out what Cohere adds to a prompt, and stand in where there is
//! nothing else.

mod blocks;
pub mod reply;
pub mod request;
pub mod stream;

#[cfg(test)]
mod tests;
