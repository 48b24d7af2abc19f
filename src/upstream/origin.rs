//! The address of an endpoint, as written in the configuration.

use std::fmt;
use std::net::IpAddr;

/// Scheme, host, port and path prefix of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path put before each operation's, without a slash at its end; may be empty.
    pub prefix: String,
}

/// Why a URL is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOrigin(pub &'static str);

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Origin {
    /// Reads `http://host[:port][/path]` or `https://...`. A URL without a path gets `default_prefix`.
    ///
    /// # Errors
    /// Says what is wrong with the URL.
    pub fn parse(url: &str, default_prefix: &str) -> Result<Self, BadOrigin> {
        let uri: http::Uri = url.parse().map_err(|_| BadOrigin("not a URL; write http://host:port"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(BadOrigin("the URL must begin with http:// or https://")),
        };
        if uri.query().is_some() {
            return Err(BadOrigin("the URL must have no query"));
        }
        let authority = uri.authority().ok_or(BadOrigin("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(BadOrigin("credentials do not belong in a URL; use api_key"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(BadOrigin("the URL has no host"));
        }
        let port =
            match authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
                None => {
                    if tls {
                        443
                    } else {
                        80
                    }
                }
                Some(port) => port
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or(BadOrigin("the port is not between 1 and 65535"))?,
            };
        let path = uri.path().trim_end_matches('/');
        let prefix = if path.is_empty() { default_prefix } else { path };
        Ok(Self { tls, host, port, prefix: prefix.to_owned() })
    }

    /// The host as an IP address, where it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The same place on another host: one address of a name.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Self {
        Self { host: ip.to_string(), ..self.clone() }
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_operators_write() {
        let node = Origin::parse("http://10.0.0.1:8000", "/v1").unwrap();
        assert_eq!((node.host.as_str(), node.port, node.prefix.as_str()), ("10.0.0.1", 8000, "/v1"));
        let cloud = Origin::parse("https://api.groq.com/openai/v1/", "/v1").unwrap();
        assert_eq!((cloud.port, cloud.prefix.as_str()), (443, "/openai/v1"));
        assert_eq!(cloud.authority(), "api.groq.com");
        let six = Origin::parse("http://[::1]:8080", "").unwrap();
        assert_eq!((six.host.as_str(), six.authority().as_str()), ("::1", "[::1]:8080"));
        assert_eq!(six.to_string(), "http://[::1]:8080");
    }

    #[test]
    fn refuses_what_is_no_origin() {
        for bad in [
            "10.0.0.1:8000",
            "ftp://x",
            "http://",
            "http://u:p@h",
            "http://h/p?q=1",
            "h t t p",
            "http://h:70000",
            "http://h:x",
            "http://h:",
        ] {
            assert!(Origin::parse(bad, "").is_err(), "{bad}");
        }
    }
}
