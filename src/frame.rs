//! Wire framings: bounded, incremental, byte-exact readers and writers that know nothing of what they carry.

pub mod chunked;
pub mod eventstream;
pub mod http1;
pub mod ndjson;
pub mod sse;
