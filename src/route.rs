//! Which route an exchange takes, and which deployments a model name stands for.

pub mod alias;
pub mod matcher;
