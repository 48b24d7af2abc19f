//! The store that nodes share.

use std::sync::Arc;

use super::{Check, plain};
use crate::config::diagnostic::Path;
use crate::config::schema::{Config, Redis, RedisKind};
use crate::config::value::SecretRef;
use crate::limit::Remote;
use crate::limit::remote::Spec;
use crate::secret::Secret;
use crate::store::{self, Kind};

/// What limits are shared through; it does not connect before it is started.
pub(super) fn remote(config: &Config, check: &mut Check<'_>) -> Option<Arc<Remote>> {
    let redis = config.store.redis.as_ref()?;
    let path = Path::root().key("store").key("redis");
    let urls = urls(redis, &path, check);
    let kind = kind(redis, &path, check);
    check.positive(&path.key("deadline"), redis.deadline);
    check.positive(&path.key("pause"), redis.pause);
    let is_plain = |c: char| c.is_ascii_graphic() && c != '{' && c != '}';
    if redis.prefix.len() > 64 || !redis.prefix.chars().all(is_plain) {
        let help = "write up to 64 letters, digits and signs, and no braces: Redis reads those in clusters";
        check.error(&path.key("prefix"), "not a prefix of keys", help);
    }
    let authority = authority(redis, &path.key("ca"), check);
    let mut secret = |key: &str, reference: &Option<SecretRef>| {
        let path = path.key(key);
        let reference = reference.as_ref()?;
        check.warn_of_literal(&path, reference);
        check.secret(&path, reference)
    };
    let (password, sentinel_password) =
        (secret("password", &redis.password), secret("sentinel_password", &redis.sentinel_password));
    let store = store::Spec {
        urls,
        kind: kind?,
        username: redis.username.clone(),
        password,
        sentinel_password,
        database: Some(redis.database).filter(|number| *number > 0),
        authority,
        deadline: redis.deadline.0,
        failures: redis.failures,
        pause: redis.pause.0,
        prefix: redis.prefix.clone(),
    };
    let nodes = redis.nodes.map(u64::from);
    Some(Remote::new(Spec { store, slice: redis.slice, nodes, ..Spec::default() }))
}

fn urls(redis: &Redis, path: &Path, check: &mut Check<'_>) -> Vec<Secret> {
    let path = path.key("urls");
    if redis.urls.is_empty() {
        check.error(&path, "there is no URL", "write where it is, such as `[redis://10.0.0.7:6379]`");
    }
    let mut urls = Vec::new();
    for (i, reference) in redis.urls.iter().enumerate() {
        let path = path.index(i);
        let Some(url) = check.secret(&path, reference) else { continue };
        if !store::is_url(url.expose()) {
            check.error(
                &path,
                "not a URL of Redis",
                "write `redis://HOST:PORT`, `rediss://HOST:PORT` or `unix:///PATH`",
            );
        }
        // `user:password@host`, or `:password@host`.
        let user = url.expose().split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        if user.is_some_and(|(user, _)| user.contains(':')) {
            check.warn_of_literal(&path, reference);
        }
        urls.push(url);
    }
    urls
}

fn kind(redis: &Redis, path: &Path, check: &mut Check<'_>) -> Option<Kind> {
    match (redis.kind, &redis.master) {
        (RedisKind::Sentinel, Some(master)) => return Some(Kind::Sentinel(master.clone())),
        (RedisKind::Sentinel, None) => {
            let help = "write the name that `sentinel monitor` gives the primary";
            check.error(&path.key("master"), "sentinels are asked for a primary by its name", help);
            return None;
        }
        (RedisKind::Single | RedisKind::Cluster, Some(_)) => {
            check.error(
                &path.key("master"),
                "only sentinels know names",
                "write `kind: sentinel`, or remove it",
            );
            return None;
        }
        (RedisKind::Single, None) => return Some(Kind::Single),
        (RedisKind::Cluster, None) => {}
    }
    if redis.database > 0 {
        check.error(&path.key("database"), "a cluster has only database 0", "remove it");
    }
    Some(Kind::Cluster)
}

fn authority(redis: &Redis, path: &Path, check: &mut Check<'_>) -> Option<Vec<u8>> {
    let file = check.file(redis.ca.as_ref()?);
    match std::fs::read(&file) {
        Ok(text) => Some(text),
        Err(error) => {
            let help = "give a PEM file that this user can read";
            check.error(path, format!("{}: {}", file.display(), plain(&error)), help);
            None
        }
    }
}
