//! Which endpoint someone means who names one.

use std::net::{IpAddr, SocketAddr};

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::origin::Origin;

/// Endpoints, as they are named by people and by what runs beside the edge: `http://10.0.0.5:8000`, `10.0.0.5:8000`,
/// `10.0.0.5` for every port of that host, and each of them with the name of a cluster before it: `gpu/10.0.0.5:8000`.
/// A path behind it is of no account; only behind the name of a host without a port it would be taken for one, and the host
/// for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    cluster: Option<String>,
    /// Whether TLS is spoken; any where it was not said.
    tls: Option<bool>,
    host: String,
    /// Any where it was not said.
    port: Option<u16>,
}

impl Wanted {
    /// Reads a name.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (cluster, place) = match text.split_once('/') {
            // The name of a cluster has no colon, and is no address.
            Some((head, rest)) if !head.contains(':') && head.parse::<IpAddr>().is_err() => {
                (Some(head.to_owned()), rest)
            }
            _ => (None, text),
        };
        let wrong = |why: &str| format!("`{text}` names no endpoint: {why}");
        let (tls, at) = match place.split_once("://") {
            Some(("http", at)) => (Some(false), at),
            Some(("https", at)) => (Some(true), at),
            Some(_) => return Err(wrong("the URL must begin with http:// or https://")),
            None => (None, place),
        };
        let at = at.split('/').next().unwrap_or_default();
        let scheme = if tls == Some(true) { "https" } else { "http" };
        let origin =
            Origin::parse(&format!("{scheme}://{at}"), "").map_err(|error| wrong(&error.to_string()))?;
        let has_port = at.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = (has_port || tls.is_some()).then_some(origin.port);
        Ok(Self { cluster, tls, host: origin.host.to_ascii_lowercase(), port })
    }

    /// The same, in that cluster alone.
    #[must_use]
    pub fn within(self, cluster: String) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Whether it is that endpoint of that cluster: by its own host, or by the one address that its name resolves to.
    pub fn means(&self, cluster: &Cluster, endpoint: &Endpoint) -> bool {
        let origin = &endpoint.spec.origin;
        let is_address = || match endpoint.addresses()[..] {
            [one] => self.host.parse().is_ok_and(|ip| SocketAddr::new(ip, origin.port) == one),
            _ => false,
        };
        self.cluster.as_deref().is_none_or(|name| name == cluster.name())
            && self.tls.is_none_or(|tls| tls == origin.tls)
            && self.port.is_none_or(|port| port == origin.port)
            && (origin.host.eq_ignore_ascii_case(&self.host) || is_address())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::cluster;
    use super::*;

    #[test]
    fn an_endpoint_is_named_in_many_ways() {
        let urls = [
            "http://10.0.0.5:8000/api",
            "https://10.0.0.5:8443",
            "http://[fd00::1]:80",
            "http://Node.lan:81",
        ];
        let cluster = cluster("gpu", &urls);
        let endpoints = cluster.endpoints();
        let address = "10.0.0.9:81".parse().unwrap();
        endpoints[3].resolved(&[address]);
        let named = |text: &str| {
            let wanted = Wanted::parse(text).unwrap();
            let meant = (0..urls.len()).filter(|index| wanted.means(&cluster, &endpoints[*index]));
            meant.map(|index| index.to_string()).collect::<String>()
        };
        for (text, meant) in [
            ("http://10.0.0.5:8000", "0"),
            ("http://10.0.0.5:8000/api", "0"),
            ("10.0.0.5:8000", "0"),
            ("gpu/10.0.0.5:8000", "0"),
            ("gpu/http://10.0.0.5:8000", "0"),
            ("10.0.0.5", "01"),
            ("gpu/10.0.0.5", "01"),
            ("10.0.0.5/v1", "01"),
            ("gpu/10.0.0.5/v1", "01"),
            ("cloud/10.0.0.5/v1", ""),
            ("https://10.0.0.5:8000", ""),
            ("https://10.0.0.5", ""),
            ("cloud/10.0.0.5", ""),
            ("10.0.0.50", ""),
            ("[fd00::1]", "2"),
            ("http://[fd00::1]", "2"),
            ("[fd00::1]:81", ""),
            ("node.LAN:81", "3"),
            ("10.0.0.9:81", "3"),
        ] {
            assert_eq!(named(text), meant, "{text}");
        }
        endpoints[3].resolved(&[address, "10.0.0.8:81".parse().unwrap()]);
        assert_eq!(named("10.0.0.9:81"), "", "a name of many nodes is not one of them");
        let elsewhere = Wanted::parse("10.0.0.5").unwrap().within("x".into());
        assert!(!elsewhere.means(&cluster, &endpoints[0]));
    }

    #[test]
    fn what_is_no_name_is_told() {
        for text in ["", "gpu/", "ftp://x", "fd00::1", "a b", "x:99999", "u@h", "http://"] {
            assert!(Wanted::parse(text).is_err(), "{text}");
        }
    }
}
