//! Forebay: the L7 edge in front of a fleet of LLM APIs and GPU nodes.

pub mod access;
pub mod clocks;
#[path = "/root/dialect_tmp.rs"]
pub mod dialect;
pub mod error;
pub mod provider;
pub mod route;
pub mod secret;
pub mod snapshot;
pub mod upstream;
