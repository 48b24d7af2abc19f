//! Where exchanges go: clusters of endpoints, how one is picked, and how their health is known.
//!
//! State that outlives a configuration (in-flight counts, health, pools) lives here. Besides `server` and `exchange`
//! this is the one place that names Pingora types: an endpoint holds its prepared peers, so that no request resolves
//! a name or builds a peer.

pub mod admission;
pub mod balance;
pub mod breaker;
pub mod cluster;
mod connector;
pub mod discover;
pub mod endpoint;
pub mod fetch;
pub mod hedge;
pub mod http1;
pub mod keys;
pub mod link;
pub mod notice;
pub mod origin;
pub mod outgoing;
pub mod pool;
pub mod probe;
pub mod resolve;
pub mod rest;
pub mod spill;
pub mod wanted;
pub mod wrap;
