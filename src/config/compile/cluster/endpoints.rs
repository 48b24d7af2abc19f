//! Where a cluster's endpoints are, and how they are spoken with.

use crate::config::compile::{Check, listener, plain};
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Discover};
use crate::config::value;
use crate::provider::{Kind, Location, Missing, Provider};
use crate::upstream::discover::{Discovery, read_list};
use crate::upstream::endpoint::{EndpointSpec, HttpVersion, TlsPolicy};
use crate::upstream::origin::Origin;

/// What all endpoints of the cluster have in common.
pub(super) fn template(
    cluster: &schema::Cluster,
    row: &Provider,
    prefix: &str,
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
        None if row.kind == Kind::Cloud => HttpVersion::Auto,
        None => HttpVersion::One,
    };
    EndpointSpec {
        origin: Origin { tls: false, host: String::new(), port: 80, prefix: prefix.to_owned() },
        weight: 1,
        priority: 0,
        http,
        tls: TlsPolicy { server_name: cluster.tls.server_name.clone(), verify: cluster.tls.verify },
    }
}

pub(super) fn endpoints(
    cluster: &schema::Cluster,
    row: &Provider,
    location: &Location<'_>,
    template: &EndpointSpec,
    path: &Path,
    check: &mut Check<'_>,
) -> Vec<EndpointSpec> {
    let at = |origin: &Origin, weight, priority| {
        let mut origin = origin.clone();
        if origin.prefix.is_empty() {
            template.origin.prefix.clone_into(&mut origin.prefix);
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
        let usual = match row.address.url(location) {
            Ok(url) => Origin::parse(&url, &template.origin.prefix).ok(),
            Err(missing) => {
                unplaced(row, missing, path, check);
                None
            }
        };
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

/// Says what the address of a cluster would follow from.
fn unplaced(row: &Provider, missing: Missing, path: &Path, check: &mut Check<'_>) {
    let (key, message, help) = match (missing, row.kin) {
        (Missing::Region, _) => {
            ("region", "missing: the address follows from it", "add `region`, such as `us-east-1`")
        }
        (Missing::Project, _) => {
            ("project", "missing: it is part of every path", "add `project`, the id of your project")
        }
        (Missing::Address, kin) => {
            let help = match kin {
                "azure" => "add `base_url`, such as `https://NAME.openai.azure.com`",
                "azure-foundry" | "azure-anthropic" => {
                    "add `base_url`, such as `https://NAME.services.ai.azure.com`"
                }
                _ => "add `endpoints`, such as `[\"http://10.0.0.1:8000\"]`",
            };
            ("endpoints", "", help)
        }
    };
    if check.wrong_below(&path.key("base_url")) {
        return;
    }
    let message = match message {
        "" => format!("provider `{}` has no address of its own", row.name),
        message => message.to_owned(),
    };
    check.error(&path.key(key), message, help);
}

pub(super) fn discovery(
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
        Err(e) => check.warning(path, format!("{}: {}", file.display(), plain(&e)), help),
    }
}

pub(super) fn tls_effect(
    cluster: &schema::Cluster,
    endpoints: &[EndpointSpec],
    path: &Path,
    check: &mut Check<'_>,
) {
    let set = cluster.tls.ca.is_some() || cluster.tls.server_name.is_some() || !cluster.tls.verify;
    if set && !endpoints.is_empty() && !endpoints.iter().any(|endpoint| endpoint.origin.tls) {
        let help = "write `https://` in the URLs, or remove `tls`";
        check.warning(&path.key("tls"), "without effect: no endpoint's URL is https", help);
    }
}

pub(super) fn certificate_authority(
    cluster: &schema::Cluster,
    path: &Path,
    check: &mut Check<'_>,
) -> Option<String> {
    authority(cluster.tls.ca.as_ref()?, path, check)
}

/// The file of an authority's certificate.
pub(super) fn authority(file: &str, path: &Path, check: &mut Check<'_>) -> Option<String> {
    let file = check.file(file);
    listener::read_chain(&file, path, check)?;
    match file.to_str() {
        Some(file) => Some(file.to_owned()),
        None => {
            check.error(path, "the path is not UTF-8", "move the file to a path that is");
            None
        }
    }
}
