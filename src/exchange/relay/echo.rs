//! Upstreams that repeat our credential in what they say of a failure.

use bytes::Bytes;
use memchr::memmem;

use crate::exchange::context::Context;
use crate::frame::http1::Reply;
use crate::upstream::keys::KeyUse;

/// What stands in its place.
const INSTEAD: &[u8] = b"***";
/// What is shorter is no credential, and could stand anywhere.
const SHORTEST: usize = 8;

/// An upstream's error without the credential that it was sent, for the client and for the log.
pub(super) fn without_credential(mut head: Reply, body: Bytes, context: &Context) -> (Reply, Bytes) {
    let Some(place) = &context.place else { return (head, body) };
    let fixed = place.cluster.spec.headers.iter().map(|(_, value)| value);
    let sensitive = fixed.filter(|value| value.is_sensitive()).chain(place.key.as_ref().map(KeyUse::value));
    let mut body = body;
    for value in sensitive {
        let secret = secret(value.as_bytes());
        if secret.len() < SHORTEST {
            continue;
        }
        let finder = memmem::Finder::new(secret);
        let telling: Vec<_> = head
            .fields
            .iter()
            .filter(|(_, value)| finder.find(value.as_bytes()).is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if !telling.is_empty() {
            head.fields.retain(|name| !telling.iter().any(|told| told.as_str() == name));
        }
        if finder.find(&body).is_some() {
            body = replaced(&body, &finder, secret.len()).into();
        }
    }
    (head, body)
}

/// The credential in a header's value, behind its scheme.
fn secret(value: &[u8]) -> &[u8] {
    value.iter().rposition(|byte| *byte == b' ').and_then(|space| value.get(space + 1..)).unwrap_or(value)
}

fn replaced(body: &[u8], finder: &memmem::Finder<'_>, length: usize) -> Vec<u8> {
    let (mut out, mut kept) = (Vec::with_capacity(body.len()), 0);
    for at in finder.find_iter(body) {
        out.extend_from_slice(body.get(kept..at).unwrap_or_default());
        out.extend_from_slice(INSTEAD);
        kept = at + length;
    }
    out.extend_from_slice(body.get(kept..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_and_the_rest_stays() {
        assert_eq!(secret(b"Bearer sk-1"), b"sk-1");
        assert_eq!(secret(b"sk-1"), b"sk-1");
        let finder = memmem::Finder::new(b"secret-key");
        assert_eq!(replaced(b"a secret-key, secret-key!", &finder, 10), b"a ***, ***!");
    }
}
