//! What is seen from outside: metrics, the access log, and the times they are made of.

pub mod access_log;
pub mod audit;
pub mod journal;
pub mod logger;
pub mod metrics;
pub mod series;
pub mod timeline;
