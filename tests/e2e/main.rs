//! The edge from outside: the real binary, simulated upstreams, clients that speak to it byte by byte.

#[cfg(test)]
mod access;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod affinity;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod breaker;
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
mod kinds;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod models;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod raw;
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
mod support;
#[cfg(test)]
mod translation;
