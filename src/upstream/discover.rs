//! Where the endpoints of a cluster are found: the configuration, the DNS, or a file that someone else writes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::cluster::Cluster;
use super::endpoint::{EndpointSpec, TlsPolicy};
use super::origin::Origin;
use super::resolve::Resolver;

/// Where endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// In the configuration alone. A host name is one endpoint, whatever the number of its addresses.
    Static,
    /// Every address of each host name is an endpoint of its own.
    Dns,
    /// A file with one endpoint a line: `URL [weight=N] [priority=N]`; `#` begins a comment.
    File {
        /// The file.
        path: PathBuf,
        /// How often it is looked at.
        refresh: Duration,
        /// What its lines leave out.
        template: Box<EndpointSpec>,
    },
}

/// How long to wait after a name could not be resolved.
const RETRY: Duration = Duration::from_secs(2);

/// Resolves the names of `cluster` once. Returns when they should be resolved again; `None` if it has no names.
pub async fn resolve_names(cluster: &Cluster, resolver: &Resolver) -> Option<Duration> {
    match &cluster.spec.discovery {
        Discovery::Dns => expand_names(cluster, resolver).await,
        Discovery::Static | Discovery::File { .. } => refresh_names(cluster, resolver).await,
    }
}

async fn refresh_names(cluster: &Cluster, resolver: &Resolver) -> Option<Duration> {
    let mut next: Option<Duration> = None;
    for endpoint in cluster.endpoints().iter().filter(|e| e.spec.origin.ip().is_none()) {
        let origin = &endpoint.spec.origin;
        let wait = match resolver.resolve(&origin.host).await {
            Ok(answer) => {
                let addresses: Vec<_> =
                    answer.addresses.iter().map(|ip| SocketAddr::new(*ip, origin.port)).collect();
                endpoint.resolved(&addresses);
                answer.ttl
            }
            Err(why) => {
                warn!("cluster {}: {} cannot be resolved: {why}", cluster.name(), origin.host);
                RETRY
            }
        };
        next = Some(next.map_or(wait, |next| next.min(wait)));
    }
    next
}

async fn expand_names(cluster: &Cluster, resolver: &Resolver) -> Option<Duration> {
    let (mut found, mut next) = (Vec::new(), Duration::MAX);
    for spec in &cluster.spec.endpoints {
        if spec.origin.ip().is_some() {
            found.push(spec.clone());
            continue;
        }
        match resolver.resolve(&spec.origin.host).await {
            Ok(answer) => {
                found.extend(answer.addresses.iter().map(|ip| one_address(spec, spec.origin.at(*ip))));
                next = next.min(answer.ttl);
            }
            Err(why) => {
                warn!("cluster {}: {} cannot be resolved: {why}", cluster.name(), spec.origin.host);
                // The last good set stays whole: half an answer must not halve the fleet.
                return Some(RETRY);
            }
        }
    }
    cluster.replace(found);
    Some(next)
}

/// The endpoint at one address of a name. TLS still expects the name.
fn one_address(spec: &EndpointSpec, origin: Origin) -> EndpointSpec {
    let server_name = spec.tls.server_name.clone().or_else(|| Some(spec.origin.host.clone()));
    EndpointSpec { origin, tls: TlsPolicy { server_name, ..spec.tls.clone() }, ..spec.clone() }
}

/// Reads the endpoints file of `cluster` again and again, and takes over what changed.
pub async fn watch_file(cluster: Arc<Cluster>) {
    let Discovery::File { path, refresh, template } = &cluster.spec.discovery else { return };
    let mut last = String::new();
    loop {
        match tokio::fs::read_to_string(path).await {
            Ok(text) if text == last => {}
            Ok(text) => {
                take_over(&cluster, path, template, &text);
                last = text;
            }
            Err(why) => warn!("cluster {}: cannot read {}: {why}", cluster.name(), path.display()),
        }
        tokio::time::sleep(*refresh).await;
    }
}

fn take_over(cluster: &Cluster, path: &Path, template: &EndpointSpec, text: &str) {
    match read_list(text, template) {
        Ok(specs) => {
            info!("cluster {}: {} endpoints from {}", cluster.name(), specs.len(), path.display());
            cluster.replace(specs);
        }
        Err(why) => warn!("cluster {}: {} is not taken over: {why}", cluster.name(), path.display()),
    }
}

/// Reads the lines of an endpoints file.
///
/// # Errors
/// Names the first line that is wrong; nothing of such a file is used.
pub fn read_list(text: &str, template: &EndpointSpec) -> Result<Vec<EndpointSpec>, String> {
    let mut seen: HashMap<Origin, usize> = HashMap::new();
    let mut specs = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(url) = words.next() else { continue };
        let origin =
            Origin::parse(url, &template.origin.prefix).map_err(|e| format!("line {number}: {e}"))?;
        if let Some(first) = seen.insert(origin.clone(), number) {
            return Err(format!("line {number}: {origin} stands on line {first} already"));
        }
        let mut spec = EndpointSpec { origin, ..template.clone() };
        for word in words {
            set(&mut spec, word).map_err(|e| format!("line {number}: {e}"))?;
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn set(spec: &mut EndpointSpec, word: &str) -> Result<(), String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not name=value"))?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
    match name {
        "weight" => spec.weight = value,
        "priority" => spec.priority = value,
        _ => return Err(format!("`{name}` is unknown; write weight=N or priority=N")),
    }
    Ok(())
}

/// Keeps the names of `cluster` resolved.
pub async fn keep_resolved(cluster: Arc<Cluster>, resolver: Arc<Resolver>) {
    loop {
        let began = Instant::now();
        // A cluster without names may get one from its file.
        let wait = resolve_names(&cluster, &resolver).await.unwrap_or(RETRY);
        tokio::time::sleep_until((began + wait.min(Duration::from_secs(300))).into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::spec;
    use super::*;

    #[test]
    fn reads_a_list_with_weights_and_comments() {
        let list = "# the lab\nhttp://10.0.0.1:8000\n\nhttp://10.0.0.2:8000/api weight=3 priority=1 # new\n";
        let specs = read_list(list, &spec("http://template")).unwrap();
        assert_eq!(specs.len(), 2);
        assert_eq!((specs[0].weight, specs[0].origin.prefix.as_str()), (1, "/v1"));
        assert_eq!((specs[1].weight, specs[1].priority, specs[1].origin.prefix.as_str()), (3, 1, "/api"));
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let template = spec("http://template");
        for (list, says) in [
            ("http://a\nnonsense", "line 2"),
            ("http://a weight=x", "not a number"),
            ("http://a colour=3", "unknown"),
            ("http://a\nhttp://a", "stands on line 1 already"),
        ] {
            let error = read_list(list, &template).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn one_address_of_a_name_still_expects_the_name_in_its_certificate() {
        let spec = spec("https://node.example:8443");
        let one = one_address(&spec, spec.origin.at("10.0.0.7".parse().unwrap()));
        assert_eq!(one.origin.to_string(), "https://10.0.0.7:8443");
        assert_eq!(one.tls.server_name.as_deref(), Some("node.example"));
    }
}
