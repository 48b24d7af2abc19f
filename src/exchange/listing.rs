//! Model lists, from the configuration: no upstream is asked.

use std::time::UNIX_EPOCH;

use pingora_core::protocols::http::ServerSession;

use super::Shared;
use super::client::Client;
use super::context::Context;
use crate::dialect;
use crate::error::{Error, Kind};

/// Answers with the models that the caller may use, or with one of them.
pub(super) async fn list_models(
    shared: &Shared,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<(), Error> {
    let usable = |name: &str| {
        context.principal.as_ref().is_some_and(|principal| principal.may_use(name))
            && context.route.as_ref().is_some_and(|route| route.allows(name))
    };
    let created = shared.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = session.req_header().uri.path().to_owned();
    let body = match path.split_once("/models/") {
        None => {
            let names =
                context.snapshot.aliases.listed().iter().map(String::as_str).filter(|name| usable(name));
            dialect::models::list(context.dialect, names, created)
        }
        Some((_, name)) if usable(name) && context.snapshot.aliases.find(name).is_some() => {
            dialect::models::one(context.dialect, name, created)
        }
        Some((_, name)) => return Err(unknown_model(name)),
    };
    let mut client = Client::new(session, context.dialect, context.snapshot.clocks.client_write);
    client.json(200, &context.id, body).await?;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    Ok(())
}

pub(super) fn unknown_model(name: &str) -> Error {
    // A name is echoed as text of a JSON string, and only as much of it as anyone would want to read.
    let name: String = name.chars().take(128).collect();
    Error::client(
        Kind::UnknownModel,
        format!("the model `{name}` does not exist or you do not have access to it"),
    )
    .param("model")
}
