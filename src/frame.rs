//! Wire framings: bounded, incremental, byte-exact readers and writers that know nothing of what they carry.

pub mod chunked;
pub mod http1;
pub mod sse;
