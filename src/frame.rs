//! Wire framings: bounded, incremental, byte-exact readers and writers that know nothing of what they carry.

pub mod sse;
