//! Clusters: addresses, credentials, and how their health is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{Check, Clusters, listener};
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Balance, Config, Discover, Speaks};
use crate::config::value::{self, SecretRef};
use crate::dialect::Operation;
use crate::provider::{self, Auth, FreeProbe, Provider};
use crate::upstream::balance::Strategy;
use crate::upstream::cluster::{Cluster, ClusterSpec};
use crate::upstream::discover::{Discovery, read_list};
use crate::upstream::ejection::Ejection;
use crate::upstream::endpoint::{EndpointSpec, HttpVersion, TlsPolicy};
use crate::upstream::link::Links;
use crate::upstream::origin::Origin;
use crate::upstream::probe::{self, HttpCheck, Probing};

/// Every cluster that is right.
pub(super) fn clusters(config: &Config, check: &mut Check<'_>) -> Clusters {
    let root = Path::root().key("clusters");
    if config.clusters.is_empty() && !check.diagnostics.has_errors() {
        let help = "add `clusters:`; conf/forebay.yaml is a small configuration to begin with";
        check.error(&root, "there is nowhere to send anything", help);
    }
    let mut clusters = Clusters::new();
    for (name, cluster) in &config.clusters {
        let path = root.key(name);
        check.name(&path, name);
        if let Some(compiled) = compile(name, cluster, &path, check) {
            clusters.insert(name.clone(), Arc::new(compiled));
        }
    }
    clusters
}

fn compile(name: &str, cluster: &schema::Cluster, path: &Path, check: &mut Check<'_>) -> Option<Cluster> {
    check.positive(&path.key("ejection").key("for"), cluster.ejection.period);
    if let Some(idle) = cluster.pool.idle {
        check.positive(&path.key("pool").key("idle"), idle);
    }
    let ca = certificate_authority(cluster, &path.key("tls").key("ca"), check);
    let clocks = check.clocks(&path.key("clocks"), &cluster.clocks);
    if check.wrong_below(&path.key("provider")) {
        return None;
    }
    let Some(row) = provider::find(cluster.provider.name()) else {
        let message = format!("provider `{}` is not supported yet", cluster.provider.name());
        check.error(
            &path.key("provider"),
            message,
            "use `compatible` and its base_url if it speaks OpenAI's API",
        );
        return None;
    };
    let template = template(cluster, row, &path.key("tls"), check);
    let endpoints = endpoints(cluster, row, &template, path, check);
    let discovery = discovery(cluster, &template, &endpoints, path, check);
    let headers = headers(cluster, row, path, check);
    tls_effect(cluster, &endpoints, path, check);
    let probing = probing(cluster, row, &headers, path, check);
    if check.diagnostics.has_errors() {
        return None;
    }
    let spec = ClusterSpec {
        name: name.to_owned(),
        provider: row,
        speaks: speaks(cluster, row, &path.key("speaks"), check),
        headers,
        endpoints,
        discovery,
        strategy: strategy(cluster.balance),
        ejection: Ejection {
            failures: cluster.ejection.failures,
            duration: cluster.ejection.period.0,
            max_share: cluster.ejection.max_share,
        },
        probing,
        pool_idle: cluster.pool.idle.map_or(row.idle, |idle| idle.0),
        clocks,
    };
    let links = Links::new(&spec.name, cluster.pool.size as usize, spec.pool_idle, ca.as_deref());
    Some(Cluster::new(spec, links))
}

/// What the cluster can be asked.
fn speaks(cluster: &schema::Cluster, row: &Provider, path: &Path, check: &mut Check<'_>) -> Vec<Operation> {
    let Some(named) = &cluster.speaks else { return row.speaks.to_vec() };
    if named.is_empty() {
        check.error(
            path,
            "the cluster can be asked nothing",
            "name what its API speaks, or leave `speaks` out",
        );
    }
    let operation = |speaks: &Speaks| match speaks {
        Speaks::ChatCompletions => Operation::ChatCompletions,
        Speaks::Completions => Operation::Completions,
        Speaks::Embeddings => Operation::Embeddings,
        Speaks::Responses => Operation::Responses,
        Speaks::Messages => Operation::Messages,
        Speaks::CountTokens => Operation::CountTokens,
        Speaks::GenerateContent => Operation::GenerateContent,
        Speaks::Converse => Operation::Converse,
        Speaks::CohereChat => Operation::CohereChat,
        Speaks::OllamaChat => Operation::OllamaChat,
    };
    named.iter().map(operation).collect()
}

fn strategy(balance: Balance) -> Strategy {
    match balance {
        Balance::LeastConnections => Strategy::LeastConnections,
        Balance::RoundRobin => Strategy::RoundRobin,
        Balance::Priority => Strategy::Priority,
        Balance::Latency => Strategy::Latency,
        Balance::Random => Strategy::Random,
    }
}

// === endpoints ===

/// What all endpoints of the cluster have in common.
fn template(
    cluster: &schema::Cluster,
    row: &Provider,
    tls_path: &Path,
    check: &mut Check<'_>,
) -> EndpointSpec {
    if let Some(name) = &cluster.tls.server_name
        && name.parse::<value::HostPattern>().is_err()
    {
        let help = "write the host name that the certificate is for";
        check.error(&tls_path.key("server_name"), format!("{name:?} is not a host name"), help);
    }
    if !cluster.tls.verify {
        let help =
            "give the authority that signed the certificate as `ca`, and the name it is for as `server_name`";
        check.warning(&tls_path.key("verify"), "anyone on the way can read keys and prompts", help);
    }
    let http = match cluster.http {
        Some(schema::HttpVersion::Http1) => HttpVersion::One,
        Some(schema::HttpVersion::Http2) => HttpVersion::Two,
        Some(schema::HttpVersion::Auto) => HttpVersion::Auto,
        None if cluster.provider.is_node() => HttpVersion::One,
        None => HttpVersion::Auto,
    };
    EndpointSpec {
        origin: Origin { tls: false, host: String::new(), port: 80, prefix: row.prefix.to_owned() },
        weight: 1,
        priority: 0,
        http,
        tls: TlsPolicy { server_name: cluster.tls.server_name.clone(), verify: cluster.tls.verify },
    }
}

fn endpoints(
    cluster: &schema::Cluster,
    row: &Provider,
    template: &EndpointSpec,
    path: &Path,
    check: &mut Check<'_>,
) -> Vec<EndpointSpec> {
    let at = |origin: &Origin, weight, priority| {
        let mut origin = origin.clone();
        if origin.prefix.is_empty() {
            row.prefix.clone_into(&mut origin.prefix);
        }
        EndpointSpec { origin, weight, priority, ..template.clone() }
    };
    let list = path.key("endpoints");
    if let Some(url) = &cluster.base_url {
        if !cluster.endpoints.is_empty() {
            let help = "keep `base_url` for one address, or `endpoints` for several";
            check.error(&path.key("base_url"), "base_url and endpoints exclude each other", help);
        }
        return vec![at(&url.0, 1, 0)];
    }
    if cluster.endpoints.is_empty() {
        if cluster.discover.as_ref().is_some_and(|discover| discover.file.is_some()) {
            return Vec::new();
        }
        let usual = row.base_url.and_then(|url| Origin::parse(url, row.prefix).ok());
        if usual.is_none() && !check.wrong_below(&path.key("base_url")) {
            let message = format!("provider `{}` has no address of its own", row.name);
            let help = match cluster.provider {
                schema::Provider::Azure => "add `base_url`, such as `https://NAME.openai.azure.com`",
                schema::Provider::Bedrock => {
                    "add `base_url`, such as `https://bedrock-runtime.us-east-1.amazonaws.com`"
                }
                _ => "add `endpoints`, such as `[\"http://10.0.0.1:8000\"]`",
            };
            check.error(&list, message, help);
        }
        return usual.iter().map(|origin| at(origin, 1, 0)).collect();
    }
    let mut specs: Vec<EndpointSpec> = Vec::new();
    for (i, endpoint) in cluster.endpoints.iter().enumerate() {
        let spec = at(&endpoint.url().0, endpoint.weight(), endpoint.priority());
        if let Some(first) = specs.iter().position(|other| other.origin == spec.origin) {
            let message = format!("{} is there already ({})", spec.origin, check.line(&list.index(first)));
            check.error(&list.index(i), message, "raise the weight of the first instead");
        }
        specs.push(spec);
    }
    if specs.iter().all(|spec| spec.weight == 0) {
        check.error(&list, "every endpoint has weight 0, so none is in service", "give one a weight above 0");
    }
    specs
}

fn discovery(
    cluster: &schema::Cluster,
    template: &EndpointSpec,
    endpoints: &[EndpointSpec],
    path: &Path,
    check: &mut Check<'_>,
) -> Discovery {
    let path = path.key("discover");
    match &cluster.discover {
        None => Discovery::Static,
        Some(Discover { dns: true, file: Some(_), .. }) => {
            check.error(&path, "dns and file exclude each other", "keep one of them");
            Discovery::Static
        }
        Some(Discover { dns: true, file: None, .. }) => {
            if endpoints.iter().all(|endpoint| endpoint.origin.ip().is_some()) && !endpoints.is_empty() {
                let help = "write host names in `endpoints`, or remove it";
                check.warning(&path.key("dns"), "without effect: no endpoint has a host name", help);
            }
            Discovery::Dns
        }
        Some(Discover { dns: false, file: Some(file), refresh }) => {
            check.positive(&path.key("refresh"), *refresh);
            if cluster.base_url.is_some() || !cluster.endpoints.is_empty() {
                let help = "write the other endpoints into the file too";
                check.error(&path.key("file"), "the file takes the place of every other endpoint", help);
            }
            let file = check.file(file);
            listed(&file, template, &path.key("file"), check);
            Discovery::File { path: file, refresh: refresh.0, template: Box::new(template.clone()) }
        }
        Some(Discover { dns: false, file: None, .. }) => {
            let help = "add `dns: true` or `file: PATH`, or remove it";
            check.warning(&path, "without effect: it says neither dns nor file", help);
            Discovery::Static
        }
    }
}

/// Reads the endpoints file once, to find what is wrong with it now rather than later.
fn listed(file: &std::path::Path, template: &EndpointSpec, path: &Path, check: &mut Check<'_>) {
    let help = "write one endpoint a line: `URL [weight=N] [priority=N]`";
    match std::fs::read_to_string(file) {
        Ok(text) => {
            if let Err(why) = read_list(&text, template) {
                check.error(path, format!("{}: {why}", file.display()), help);
            }
        }
        // Whoever writes it may come later.
        Err(e) => check.warning(path, format!("{}: {}", file.display(), super::plain(&e)), help),
    }
}

fn tls_effect(cluster: &schema::Cluster, endpoints: &[EndpointSpec], path: &Path, check: &mut Check<'_>) {
    let set = cluster.tls.ca.is_some() || cluster.tls.server_name.is_some() || !cluster.tls.verify;
    if set && !endpoints.is_empty() && !endpoints.iter().any(|endpoint| endpoint.origin.tls) {
        let help = "write `https://` in the URLs, or remove `tls`";
        check.warning(&path.key("tls"), "without effect: no endpoint's URL is https", help);
    }
}

fn certificate_authority(cluster: &schema::Cluster, path: &Path, check: &mut Check<'_>) -> Option<String> {
    let file = check.file(cluster.tls.ca.as_ref()?);
    listener::read_chain(&file, path, check)?;
    match file.to_str() {
        Some(file) => Some(file.to_owned()),
        None => {
            check.error(path, "the path is not UTF-8", "move the file to a path that is");
            None
        }
    }
}

// === headers ===

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

/// The credential, and what the configuration adds.
fn headers(
    cluster: &schema::Cluster,
    row: &Provider,
    path: &Path,
    check: &mut Check<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = added(&cluster.headers, &path.key("headers"), check);
    let (name, scheme) = match row.auth {
        Auth::Bearer => (http::header::AUTHORIZATION, "Bearer "),
        Auth::Header(name) => (HeaderName::from_static(name), ""),
    };
    let by_hand = headers.iter().any(|(other, _)| *other == name);
    let path = path.key("api_key");
    let Some(reference) = &cluster.api_key else {
        if !cluster.provider.is_node() && !by_hand {
            let variable = format!("{}_API_KEY", row.name.to_ascii_uppercase());
            let message = format!("missing: provider `{}` serves nobody without a key", row.name);
            check.error(&path, message, format!("add `api_key: env:{variable}`"));
        }
        return headers;
    };
    if by_hand {
        let message = format!("the header `{name}` is set in `headers` too");
        check.error(&path, message, "keep one of the two");
    }
    check.warn_of_literal(&path, reference);
    if let Some(secret) = check.secret(&path, reference) {
        let text = zeroize::Zeroizing::new(format!("{scheme}{}", secret.expose()));
        match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            Err(_) => {
                check.error(&path, "the key cannot be sent in a header", "check it for invisible characters")
            }
        }
    }
    headers
}

fn added(
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

// === health ===

fn probing(
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
    let free_path = match row.probe {
        FreeProbe::Get(path) => Some(path),
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
