//! The audit log.

use super::Check;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Config};
use crate::config::value::{SecretRef, Timer};
use crate::meter::audit::{HttpSpec, KeyUse, Spec};
use crate::meter::journal::{FileSpec, Shipping, Sync};
use crate::secret::Secret;

/// The audit log; nothing where it goes nowhere.
pub(super) fn audit(config: &Config, check: &mut Check<'_>) -> Option<Spec> {
    let (written, path) = (&config.audit, Path::root().key("audit"));
    if written.rotate.0 < 1 << 10 {
        check.error(&path.key("rotate"), "too small", "write at least `1KiB`");
    }
    let key = written.key.as_ref().and_then(|key| secret(key, &path.key("key"), check));
    let http = written.http.as_ref().and_then(|http| compile(http, &path.key("http"), check));
    let file = written.file.as_deref().map(|file| FileSpec {
        path: check.file(file),
        sync: if written.sync.0.is_zero() { Sync::Always } else { Sync::Within(written.sync.0) },
        rotate: written.rotate.0,
        keep: written.keep.map(|keep| keep as usize),
    });
    if file.is_none() && http.is_none() {
        for key in ["key", "key_use", "sync", "rotate", "keep", "anchor", "per_minute"] {
            if check.written(&path.key(key)) {
                let help = "add `file` or `http`";
                check.warning(&path.key(key), "without effect: the audit log goes nowhere", help);
            }
        }
        return None;
    }
    Some(Spec {
        file,
        http,
        key,
        key_use: match written.key_use {
            schema::KeyUse::Off => KeyUse::Off,
            schema::KeyUse::First => KeyUse::First,
            schema::KeyUse::All => KeyUse::All,
        },
        anchor: match written.anchor {
            Timer::Off => None,
            Timer::Every(period) => Some(period.0),
        },
        per_minute: written.per_minute,
    })
}

fn compile(http: &schema::AuditHttp, path: &Path, check: &mut Check<'_>) -> Option<HttpSpec> {
    let token = match &http.token {
        Some(token) => Some(secret(token, &path.key("token"), check)?),
        None => None,
    };
    if http.buffer < http.batch {
        let message = format!("less than a batch, {}", http.batch);
        check.error(&path.key("buffer"), message, "write a size of many batches, such as `16MiB`");
    }
    let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let shipping = Shipping { batch: size(http.batch.0), linger: http.linger.0, buffer: size(http.buffer.0) };
    Some(HttpSpec { url: http.url.to_string(), token, shipping })
}

fn secret(reference: &SecretRef, path: &Path, check: &mut Check<'_>) -> Option<Secret> {
    check.warn_of_literal(path, reference);
    check.secret(path, reference)
}
