//! Where a cluster is in its cloud, and where the proofs of its requests come from.

use aws_lc_rs::digest::{self, SHA256};
use http::{HeaderName, HeaderValue};

use crate::config::compile::Check;
use crate::config::diagnostic::Path;
use crate::config::schema;
use crate::dialect::form::Form;
use crate::provider::credential::Source;
use crate::provider::{Address, Auth, Location, Provider};
use crate::secret::Secret;
use crate::upstream::endpoint::EndpointSpec;
use crate::upstream::keys::{KeySpec, Origin, PoolSpec, bearer};

/// Where the cluster is, as far as it is said.
pub(super) struct Site {
    region: Option<String>,
    project: Option<String>,
    fips: bool,
}

impl Site {
    pub(super) fn of(cluster: &schema::Cluster, row: &Provider, path: &Path, check: &mut Check<'_>) -> Self {
        let is_vertex = matches!(row.address, Address::Vertex(_));
        let is_amazon = matches!(row.auth, Auth::Aws(_));
        name(cluster.region.as_deref(), &path.key("region"), check);
        name(cluster.project.as_deref(), &path.key("project"), check);
        let idle = [
            ("project", cluster.project.is_some() && !is_vertex),
            ("fips", cluster.fips && row.address != Address::Bedrock),
        ];
        for (key, is_idle) in idle {
            if is_idle {
                let message = format!("without effect: provider `{}` has none", row.name);
                check.warning(&path.key(key), message, "remove it");
            }
        }
        let env = |name| (check.surroundings.env)(name).filter(|value| !value.is_empty());
        let usual = || env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")).filter(|_| is_amazon);
        let told = || cluster.base_url.as_ref().and_then(|url| region_in(&url.0.host));
        Self {
            region: cluster.region.clone().or_else(told).or_else(usual),
            project: cluster.project.clone(),
            fips: cluster.fips,
        }
    }

    /// Where it is, as far as that is known.
    pub(super) fn region(&self) -> Option<String> {
        self.region.clone()
    }

    pub(super) fn location(&self) -> Location<'_> {
        Location { region: self.region.as_deref(), project: self.project.as_deref(), fips: self.fips }
    }
}

/// Refuses what cannot be part of a host's name or a path.
fn name(name: Option<&str>, path: &Path, check: &mut Check<'_>) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if let Some(name) = name.filter(|name| name.is_empty() || !name.bytes().all(plain)) {
        check.error(path, format!("{name:?} is no name"), "write letters, digits and `-`");
    }
}

/// The region in the name of one of Amazon's hosts.
fn region_in(host: &str) -> Option<String> {
    let (service, rest) = host.split_once('.')?;
    let (region, _) = rest.split_once('.')?;
    (service.starts_with("bedrock") && region.contains('-')).then(|| region.to_owned())
}

/// The form in which the cluster is asked.
pub(super) fn form(cluster: &schema::Cluster, row: &Provider, path: &Path, check: &mut Check<'_>) -> Form {
    let path = path.key("api_version");
    name(cluster.api_version.as_deref(), &path, check);
    let Some(version) = cluster.api_version.clone() else { return row.form.clone() };
    match (&row.form, row.kin) {
        (Form::Dated { .. }, _) => Form::Dated { version },
        (_, "azure") => Form::Deployments { version },
        _ => {
            let message = format!("without effect: provider `{}` has no dated API", row.name);
            check.warning(&path, message, "remove it");
            row.form.clone()
        }
    }
}

/// Where the proofs of the cluster's requests come from. `by_hand` are the headers that the configuration puts.
pub(super) fn source(
    cluster: &schema::Cluster,
    row: &Provider,
    site: &Site,
    by_hand: &[HeaderName],
    path: &Path,
    check: &mut Check<'_>,
) -> Source {
    let has_key = cluster.api_key.is_some() || !cluster.keys.is_empty();
    let is_fixed = has_key || by_hand.contains(&http::header::AUTHORIZATION);
    let (profile, file) = (&cluster.credentials.profile, &cluster.credentials.file);
    let idle = [
        ("profile", profile.is_some() && (is_fixed || !matches!(row.auth, Auth::Aws(_)))),
        ("file", file.is_some() && (is_fixed || row.auth != Auth::Google)),
    ];
    for (key, is_idle) in idle {
        if is_idle {
            let help = "remove it; it is for clouds that are used without `api_key`";
            check.warning(&path.key("credentials").key(key), "without effect", help);
        }
    }
    match row.auth {
        Auth::Aws(service) if !is_fixed => {
            let Some(region) = site.region.clone() else {
                let help = "add `region`, such as `us-east-1`, or set AWS_REGION";
                check.error(&path.key("region"), "missing: requests are signed for a region", help);
                return Source::Headers;
            };
            Source::aws(region, service, profile.clone())
        }
        Auth::Google if !is_fixed => {
            let file = file.as_ref().map(|file| check.file(file));
            if let Some(missing) = file.as_ref().filter(|file| !file.is_file()) {
                let message = format!("{}: no such file", missing.display());
                check.error(&path.key("credentials").key("file"), message, "write the path of a key file");
            }
            Source::google(file)
        }
        _ => Source::Headers,
    }
}

/// Warns of secrets that would cross the network in the clear.
pub(super) fn in_the_clear(source: &Source, endpoints: &[EndpointSpec], path: &Path, check: &mut Check<'_>) {
    let is_token = matches!(source, Source::Google { .. });
    let is_open = |spec: &EndpointSpec| {
        let is_here = spec.origin.host == "localhost" || spec.origin.ip().is_some_and(|ip| ip.is_loopback());
        !spec.origin.tls && !is_here
    };
    if is_token && endpoints.iter().any(is_open) {
        let help = "write `https://`";
        check.error(&path.key("base_url"), "an access token would cross the network in the clear", help);
    }
}

/// What a cluster's ids are signed with: from the fleet's own secret, or else from the cluster's keys as they are when the
/// process starts. None of it can be found from what it signs. `keeps` says whether there are such ids. Keys that are not there yet can sign nothing: then what does
/// is made up, and known to no other process.
pub(super) fn seal(
    name: &str,
    secret: Option<&Secret>,
    (headers, keys, keeps): (&[(HeaderName, HeaderValue)], Option<&PoolSpec>, bool),
    path: &Path,
    check: &mut Check<'_>,
) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    context.update(b"forebay seal");
    let changes = |key: &KeySpec| !matches!(key.origin, Origin::Fixed);
    let is_fetched = keys.is_some_and(|pool| pool.keys.iter().any(|key| key.secret.is_none()));
    if secret.is_none()
        && keeps
        && keys.is_some_and(|pool| pool.keys.len() > 1 && pool.keys.iter().any(changes))
    {
        let message = "ids of responses are signed with these keys: where one is replaced, processes that start later do not \
                       know those from before";
        let help = "add `server.seal`, a secret that all nodes share";
        check.warning(&path.key("keys"), message, help);
    }
    match secret {
        Some(secret) => context.update(secret.expose().as_bytes()),
        None if is_fetched => {
            let mut drawn = [0; 32];
            // Without a source of chance no TLS would come about either.
            let _ = aws_lc_rs::rand::fill(&mut drawn);
            context.update(&drawn);
        }
        None => {
            context.update(name.as_bytes());
            let fixed = headers.iter().filter(|(_, value)| value.is_sensitive());
            fixed.for_each(|(_, value)| context.update(value.as_bytes()));
            if let Some(pool) = keys {
                let secrets = pool.keys.iter().filter_map(|key| bearer(pool.scheme, key.secret.as_ref()?));
                secrets.for_each(|value| context.update(value.as_bytes()));
            }
        }
    }
    let mut seal = [0; 32];
    seal.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    seal
}

#[cfg(test)]
mod tests {
    use super::region_in;

    #[test]
    fn a_host_of_amazon_tells_its_region() {
        let region = |host| region_in(host);
        assert_eq!(region("bedrock-runtime.us-east-1.amazonaws.com").as_deref(), Some("us-east-1"));
        assert_eq!(region("bedrock-mantle.eu-west-1.api.aws").as_deref(), Some("eu-west-1"));
        assert_eq!(
            region("bedrock-runtime-fips.us-gov-west-1.amazonaws.com").as_deref(),
            Some("us-gov-west-1")
        );
        assert_eq!(region("127.0.0.1"), None);
        assert_eq!(region("bedrock.example.com"), None);
    }
}
