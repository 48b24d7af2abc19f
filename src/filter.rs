//! What a route makes of requests and replies beside sending them: it takes out what must not be seen, refuses what is not
//! allowed, and says what every request is to begin with.

pub mod policy;
pub mod redact;
