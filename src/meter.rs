//! What is seen from outside: metrics, the access log, the times they are made of, and what was spent.

pub mod access_log;
pub mod audit;
pub mod journal;
pub mod ledger;
pub mod logger;
pub mod metrics;
pub mod price;
pub mod series;
pub mod spending;
pub mod timeline;
