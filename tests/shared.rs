//! Limits that nodes share, against real Redis servers that each test starts for itself.
//!
//! Several nodes run in one process here, each with its own book, connection and thread.

#[cfg(test)]
#[path = "shared/node.rs"]
mod node;
#[cfg(test)]
#[path = "shared/outage.rs"]
mod outage;
#[cfg(test)]
#[path = "shared/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "support/redis.rs"]
mod server;
#[cfg(test)]
#[path = "shared/steady.rs"]
mod steady;
#[cfg(test)]
#[path = "shared/topology.rs"]
mod topology;
