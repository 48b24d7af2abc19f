//! Model lists, from the configuration: no upstream is asked.

use std::time::{Instant, UNIX_EPOCH};

use super::Shared;
use super::client::Client;
use super::context::Context;
use super::session::Session;
use crate::dialect;
use crate::error::{Error, Kind};

/// Answers with the models that the caller may use, or with one of them.
pub(super) async fn list_models(
    shared: &Shared,
    session: &mut Session<'_>,
    context: &mut Context,
) -> Result<(), Error> {
    let usable = |name: &str| {
        context.principal.as_ref().is_some_and(|principal| principal.may_use(name))
            && context.route.as_ref().is_some_and(|route| route.allows(name))
    };
    let created = shared.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = session.head().uri.path();
    let rest = context.route.as_ref().and_then(|route| route.rest(path)).unwrap_or(path);
    let named = rest.split_once("/models/").map(|(_, name)| unescaped(name));
    let body = match named.as_deref() {
        None => {
            let names =
                context.snapshot.aliases.listed().iter().map(String::as_str).filter(|name| usable(name));
            dialect::models::list(context.dialect, names, created)
        }
        Some(name) if usable(name) && context.snapshot.aliases.find(name).is_some() => {
            dialect::models::one(context.dialect, name, created)
        }
        Some(name) => return Err(unknown_model(name)),
    };
    let write = context.snapshot.clocks.client_write;
    let mut client = Client::new(session.again(), context.dialect, write, Instant::now());
    client.json(200, &context.id, body).await?;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    Ok(())
}

/// A name as it is meant: SDKs escape what they put into a path. The screen has refused broken escapes.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
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

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_name_is_unescaped_once() {
        for (name, meant) in [
            ("plain", "plain"),
            ("org%2Fname", "org/name"),
            ("tag%3a1", "tag:1"),
            ("%C3%A9", "\u{e9}"),
            ("%ff", "\u{fffd}"),
            ("a%2525", "a%25"),
            ("50%", "50%"),
        ] {
            assert_eq!(unescaped(name), meant);
        }
    }
}
