//! How a cluster's endpoints are checked.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::headers::added;
use crate::config::compile::Check;
use crate::config::diagnostic::Path;
use crate::config::schema;
use crate::provider::{FreeProbe, Provider};
use crate::upstream::probe::{self, HttpCheck, Probing};

pub(super) fn probing(
    cluster: &schema::Cluster,
    row: &Provider,
    cluster_headers: &[(HeaderName, HeaderValue)],
    path: &Path,
    check: &mut Check<'_>,
) -> Probing {
    let (path, health) = (path.key("health"), &cluster.health);
    check.positive(&path.key("timeout"), health.timeout);
    if health.interval.0 < Duration::from_millis(100) {
        check.error(&path.key("interval"), "too often", "write at least `100ms`");
    }
    let free_path = match &row.probe {
        FreeProbe::Get(path) => Some(&**path),
        FreeProbe::Connect => None,
    };
    let kind = health.check.unwrap_or_else(|| match free_path {
        Some(_) => schema::Check::Http,
        None if health.path.is_some() => schema::Check::Http,
        None => schema::Check::Tls,
    });
    let headers = added(&health.headers, &path.key("headers"), check);
    let probe = match kind {
        schema::Check::None => probe::Check::Off,
        schema::Check::Tcp => probe::Check::Tcp,
        schema::Check::Tls => probe::Check::Connect,
        schema::Check::Http => {
            http_check(health, free_path, cluster_headers, headers, &path, check).unwrap_or(probe::Check::Off)
        }
    };
    if kind != schema::Check::Http {
        for key in ["path", "method", "headers", "status", "body"] {
            if check.written(&path.key(key)) {
                let help = "add `check: http`, or remove it";
                check.warning(&path.key(key), "without effect: the check asks for nothing", help);
            }
        }
    }
    Probing {
        check: probe,
        interval: health.interval.0,
        jitter: health.jitter,
        timeout: health.timeout.0,
        rise: health.rise,
        fall: health.fall,
    }
}

fn http_check(
    health: &schema::Health,
    free_path: Option<&str>,
    cluster_headers: &[(HeaderName, HeaderValue)],
    mut headers: Vec<(HeaderName, HeaderValue)>,
    path: &Path,
    check: &mut Check<'_>,
) -> Option<probe::Check> {
    let Some(target) = health.path.as_deref().or(free_path) else {
        let help = "add `path`, such as `/v1/models`; see that it costs nothing";
        check.error(&path.key("path"), "missing: the provider has no path that is known to be free", help);
        return None;
    };
    if !target.starts_with('/') || target.parse::<http::uri::PathAndQuery>().is_err() || target.contains(' ')
    {
        check.error(
            &path.key("path"),
            format!("{target:?} is not a path"),
            "write a path that begins with `/`",
        );
    }
    let Ok(method) = Method::from_bytes(health.method.to_ascii_uppercase().as_bytes()) else {
        let message = format!("{:?} is not a method", health.method);
        check.error(&path.key("method"), message, "write `GET`, `HEAD` or `POST`");
        return None;
    };
    if method == Method::HEAD && health.body.is_some() {
        check.error(&path.key("body"), "a reply to HEAD has no body", "use `method: GET`");
    }
    for (name, value) in cluster_headers {
        if !headers.iter().any(|(other, _)| other == name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    Some(probe::Check::Http(HttpCheck {
        method,
        path: target.to_owned(),
        headers,
        statuses: health.status.clone(),
        body: health.body.clone(),
    }))
}
