//! Ollama's own API, `/api/chat`: an upstream's dialect alone.
//!
//! A stream is lines of JSON, and a whole reply is one such line. Tool calls come whole; most servers give them no id,
//! so each client's encoder makes one from the exchange's. A message is one text with images beside it: texts are
//! joined, and images must be in base64. `keep_alive` and the options that chat has no word for (`min_p`,
//! `repeat_penalty`, `repeat_last_n`, `num_ctx`, `num_keep`) pass from a chat request as they are.

pub mod reply;
pub mod request;
pub mod stream;

#[cfg(test)]
mod tests;
