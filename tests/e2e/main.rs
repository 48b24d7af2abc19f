//! The edge from outside: the real binary, simulated upstreams, clients that speak to it byte by byte.

#[cfg(test)]
mod access;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod affinity;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod clouds;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../support/fixtures.rs"]
mod fixtures;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hedge;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod models;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod raw;
#[cfg(test)]
#[expect(dead_code, reason = "tests/shared needs more of it")]
#[path = "../support/redis.rs"]
mod redis;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod screen;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod support;
#[cfg(test)]
mod translation;
