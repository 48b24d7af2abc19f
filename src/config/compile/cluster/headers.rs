//! What a cluster's requests carry: the credential, and what the configuration adds.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::keys;
use crate::config::compile::Check;
use crate::config::diagnostic::Path;
use crate::config::schema;
use crate::config::value::{self, SecretRef};
use crate::provider::{Auth, Kind, Provider};
use crate::upstream::keys::bearer;

/// Those that one hop of HTTP sets for itself, or that say whose request it is.
const NOT_YOURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-type",
];

/// The credential, and what the configuration adds, with the names of what it adds.
pub(super) fn headers(
    cluster: &schema::Cluster,
    row: &Provider,
    path: &Path,
    check: &mut Check<'_>,
) -> (Vec<(HeaderName, HeaderValue)>, Vec<HeaderName>) {
    let mut headers = added(&cluster.headers, &path.key("headers"), check);
    let names = headers.iter().map(|(name, _)| name.clone()).collect();
    let (name, scheme) = bearing(row);
    let by_hand = headers.iter().any(|(other, _)| *other == name);
    let is_pooled = !cluster.keys.is_empty();
    let path = path.key(if is_pooled { "keys" } else { "api_key" });
    if cluster.api_key.is_none() && !is_pooled {
        let has_other = matches!(row.auth, Auth::Aws(_) | Auth::Google);
        if row.kind == Kind::Cloud && !has_other && !by_hand {
            let variable = format!("{}_API_KEY", row.name.to_ascii_uppercase().replace('-', "_"));
            let message = format!("missing: provider `{}` serves nobody without a key", row.name);
            check.error(&path, message, format!("add `api_key: env:{variable}`"));
        }
        return (headers, names);
    }
    if by_hand {
        let message = format!("the header `{name}` is set in `headers` too");
        check.error(&path, message, "keep one of the two");
    }
    if let Some(reference) = cluster.api_key.as_ref().filter(|reference| !keys::changes(reference)) {
        check.warn_of_literal(&path, reference);
        if let Some(secret) = check.secret(&path, reference) {
            match bearer(scheme, &secret) {
                Some(value) => headers.push((name, value)),
                None => keys::unsendable(&path, check),
            }
        }
    }
    (headers, names)
}

/// The header that bears a key, and what stands before the key in it.
pub(super) fn bearing(row: &Provider) -> (HeaderName, &'static str) {
    match &row.auth {
        Auth::Bearer | Auth::Aws(_) | Auth::Google => (http::header::AUTHORIZATION, "Bearer "),
        Auth::Header(name) => (name.clone(), ""),
    }
}

pub(super) fn added(
    written: &BTreeMap<String, SecretRef>,
    path: &Path,
    check: &mut Check<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, reference) in written {
        let path = path.key(name);
        let parsed = match name.parse::<value::HeaderName>() {
            Ok(name) => HeaderName::from_bytes(name.0.as_bytes()).ok(),
            Err(wrong) => {
                check.error(&path, wrong.message, wrong.help);
                None
            }
        };
        let Some(name) = parsed else { continue };
        if NOT_YOURS.contains(&name.as_str()) {
            let help = "remove it: Forebay sets it for each request";
            check.error(&path, format!("the header `{name}` cannot be set"), help);
        }
        if headers.iter().any(|(other, _)| *other == name) {
            check.error(&path, "the same header in other letters", "keep one of the two");
        }
        let telling = ["authorization", "cookie", "key", "secret", "token"];
        let sensitive = telling.iter().any(|word| name.as_str().contains(word));
        if sensitive {
            check.warn_of_literal(&path, reference);
        }
        let Some(secret) = check.secret(&path, reference) else { continue };
        match HeaderValue::from_str(secret.expose()) {
            Ok(mut value) => {
                value.set_sensitive(sensitive || !matches!(reference, SecretRef::Literal(_)));
                headers.push((name, value));
            }
            Err(_) => {
                check.error(&path, "the value cannot be sent in a header", "write visible ASCII characters")
            }
        }
    }
    headers
}
