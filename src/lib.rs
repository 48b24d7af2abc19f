//! Forebay: the L7 edge in front of a fleet of LLM APIs and GPU nodes.

pub mod access;
pub mod admin;
pub mod clocks;
pub mod config;
pub mod dialect;
pub mod error;
pub mod exchange;
pub mod frame;
pub mod json;
pub mod lifecycle;
pub mod meter;
pub mod provider;
pub mod route;
pub mod secret;
pub mod server;
pub mod sim;
pub mod snapshot;
pub mod upstream;
