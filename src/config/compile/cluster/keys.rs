//! Keys of clusters that are several, or that change while they are used; and the Vault that they may be in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use super::endpoints::authority;
use super::headers::bearing;
use crate::config::compile::Check;
use crate::config::compile::limits::limits;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Config};
use crate::config::value::SecretRef;
use crate::limit::{Book, Subject};
use crate::provider::Provider;
use crate::provider::credential::vault::{Login, Source, Vault};
use crate::upstream::keys::{KeySpec, Origin, PoolSpec, bearer};

/// The name of a key that is a cluster's only one.
const LONE: &str = "api_key";

/// Whether what is written there may be another secret tomorrow.
pub(super) fn changes(reference: &SecretRef) -> bool {
    matches!(reference, SecretRef::File(_) | SecretRef::Vault(_))
}

/// A key that no header can bear.
pub(super) fn unsendable(path: &Path, check: &mut Check<'_>) {
    check.error(path, "the key cannot be sent in a header", "check it for invisible characters");
}

/// The keys of a cluster; nothing where it has none, or one that never changes.
pub(super) fn pool(
    cluster: &schema::Cluster,
    row: &Provider,
    (vault, book): (Option<&Arc<Vault>>, (&str, &Book)),
    path: &Path,
    check: &mut Check<'_>,
) -> Option<PoolSpec> {
    let (header, scheme) = bearing(row);
    let (lone, several) = (path.key("api_key"), path.key("keys"));
    if cluster.keys.is_empty() {
        let reference = cluster.api_key.as_ref().filter(|reference| changes(reference))?;
        let key = key((LONE, 1, None), reference, (scheme, vault), &lone, check)?;
        return Some(PoolSpec { header, scheme, keys: vec![key] });
    }
    if cluster.api_key.is_some() {
        let help = "keep `api_key` for one key, or `keys` for several";
        check.error(&lone, "api_key and keys exclude each other", help);
    }
    let mut keys: Vec<KeySpec> = Vec::new();
    for (index, written) in cluster.keys.iter().enumerate() {
        let path = several.index(index);
        check.name(&path.key("name"), &written.name);
        if let Some(first) = cluster.keys.iter().take(index).position(|other| other.name == written.name) {
            let message = format!("the same name as that of {}", check.line(&several.index(first)));
            check.error(&path.key("name"), message, "give each key a name of its own");
        }
        if let Some(every) = written.rotate_every {
            check.positive(&path.key("rotate_every"), every);
        }
        let limits = limits(&written.limits, &path.key("limits"), check);
        let (cluster, book) = book;
        let subject = Subject::ProviderKey(cluster.into(), written.name.as_str().into());
        let limits = book.bind(&subject, &limits);
        let about = (written.name.as_str(), written.weight, written.rotate_every.map(|every| every.0));
        let path = path.key("key");
        check.warn_of_literal(&path, &written.key);
        let Some(key) = key(about, &written.key, (scheme, vault), &path, check) else { continue };
        let key = KeySpec { limits, ..key };
        let is_same = |other: &&KeySpec| match (&other.secret, &key.secret) {
            (Some(other), Some(own)) => other.expose() == own.expose(),
            _ => false,
        };
        if let Some(first) = keys.iter().find(is_same) {
            let message = format!("the same key as `{}`", first.name);
            check.warning(&path, message, "remove one of the two: its rates and its money are the same");
        }
        keys.push(key);
    }
    if cluster.keys.iter().all(|key| key.weight == 0) {
        check.error(&several, "every key has weight 0, so none is in service", "give one a weight above 0");
    }
    Some(PoolSpec { header, scheme, keys })
}

fn key(
    (name, weight, rotate_every): (&str, u32, Option<Duration>),
    reference: &SecretRef,
    (scheme, vault): (&'static str, Option<&Arc<Vault>>),
    path: &Path,
    check: &mut Check<'_>,
) -> Option<KeySpec> {
    let (origin, secret, since) = match reference {
        SecretRef::Vault(place) => {
            let Some(vault) = vault else {
                let help = "add `vault:` with its `address` and a `token`";
                check.error(path, "it is in a Vault, and there is none", help);
                return None;
            };
            (Origin::Vault(Arc::clone(vault), place.clone()), None, None)
        }
        SecretRef::File(file) => {
            let secret = check.secret(path, reference)?;
            let file = check.credential(file);
            let since = std::fs::metadata(&file).and_then(|about| about.modified()).ok();
            (Origin::File(file), Some(secret), since)
        }
        SecretRef::Env(_) | SecretRef::Literal(_) => {
            (Origin::Fixed, Some(check.secret(path, reference)?), Some(SystemTime::now()))
        }
    };
    if secret.as_ref().is_some_and(|secret| bearer(scheme, secret).is_none()) {
        unsendable(path, check);
    }
    Some(KeySpec {
        name: name.to_owned(),
        weight,
        origin,
        secret,
        since,
        rotate_every,
        limits: Arc::default(),
    })
}

/// The Vault, where there is one.
pub(super) fn vault(config: &Config, check: &mut Check<'_>) -> Option<Arc<Vault>> {
    let path = Path::root().key("vault");
    let written = config.vault.as_ref()?;
    check.positive(&path.key("refresh"), written.refresh);
    check.positive(&path.key("timeout"), written.timeout);
    let logins = logins(written, &path, check);
    if logins.is_empty() && !check.wrong_below(&path) {
        let help = "add `token: env:VAULT_TOKEN`, `kubernetes` or `app_role`";
        check.error(&path, "there is no way to log in", help);
    }
    if let Some(namespace) = &written.namespace
        && http::HeaderValue::from_str(namespace).is_err()
    {
        check.error(&path.key("namespace"), "not a namespace", "write visible ASCII characters");
    }
    let origin = &written.address.0;
    let is_here = origin.host == "localhost" || origin.ip().is_some_and(|ip| ip.is_loopback());
    if !origin.tls && !is_here {
        check.error(&path.key("address"), "keys would cross the network in the clear", "write `https://`");
    }
    let is_used = |cluster: &schema::Cluster| {
        let keys = cluster.keys.iter().map(|key| &key.key).chain(&cluster.api_key);
        keys.into_iter().any(|key| matches!(key, SecretRef::Vault(_)))
    };
    if !config.clusters.values().any(is_used) {
        check.warning(
            &path,
            "without effect: no cluster's key is in it",
            "remove it, or write `vault:MOUNT/PATH#FIELD`",
        );
    }
    let ca = written.ca.as_ref().and_then(|file| authority(file, &path.key("ca"), check));
    Some(Arc::new(Vault {
        address: written.address.to_string().trim_end_matches('/').to_owned(),
        namespace: written.namespace.clone(),
        ca,
        logins,
        refresh: written.refresh.0,
        timeout: written.timeout.0,
        token: Mutex::default(),
    }))
}

fn logins(written: &schema::Vault, path: &Path, check: &mut Check<'_>) -> Vec<Login> {
    let mut logins = Vec::new();
    if let Some(token) = &written.token {
        logins.extend(source(token, &path.key("token"), check).map(Login::Token));
    }
    if let Some(schema::VaultKubernetes { role, mount, token_file }) = &written.kubernetes {
        let (mount, role) = (mount.clone(), role.clone());
        logins.push(Login::Kubernetes { mount, role, file: check.file(token_file) });
    }
    if let Some(schema::VaultAppRole { role_id, secret_id, mount }) = &written.app_role {
        let secret_id = source(secret_id, &path.key("app_role").key("secret_id"), check);
        let (mount, role_id) = (mount.clone(), role_id.clone());
        logins.extend(secret_id.map(|secret_id| Login::AppRole { mount, role_id, secret_id }));
    }
    logins
}

/// A secret for Vault, which a file may have anew.
fn source(reference: &SecretRef, path: &Path, check: &mut Check<'_>) -> Option<Source> {
    check.warn_of_literal(path, reference);
    let secret = check.secret(path, reference)?;
    Some(match reference {
        SecretRef::File(file) => Source::File(check.credential(file)),
        _ => Source::Fixed(secret),
    })
}
