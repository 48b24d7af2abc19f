//! The credential services beside a container (ECS, EKS Pod Identity) and of an EC2 instance (IMDSv2).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Uri};
use serde::Deserialize;

use super::super::{Error, Expiring, Outside, Request, setting};
use super::read;
use crate::provider::sigv4::Credentials;
use crate::secret::Secret;

/// How long these services may take: they are one hop away, or not there at all.
const PATIENCE: Duration = Duration::from_secs(1);

// === Container ===

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// The host of [`RELATIVE`] paths.
const ECS: &str = "http://169.254.170.2";
/// The hosts that may be asked without TLS, beside loopback: ECS and EKS.
const PLAIN: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The service beside a container.
#[derive(Debug)]
pub(super) struct Container {
    url: String,
    proof: Proof,
}

/// How a container shows who it is.
#[derive(Debug)]
enum Proof {
    None,
    Token(Secret),
    /// The token changes in the file.
    File(PathBuf),
}

impl Container {
    pub(super) fn find(outside: &Outside) -> Result<Option<Self>, Error> {
        let url = match (outside.variable(RELATIVE), outside.variable(FULL)) {
            (Some(path), _) if path.starts_with('/') => format!("{ECS}{path}"),
            (Some(_), _) => return Err(setting(RELATIVE, "must begin with `/`")),
            (None, Some(url)) => allowed(url)?,
            (None, None) => return Ok(None),
        };
        let file = outside.variable(TOKEN_FILE).map(|path| Proof::File(path.into()));
        let token = || outside.variable(TOKEN).map(|token| Proof::Token(Secret::new(token)));
        Ok(Some(Self { url, proof: file.or_else(token).unwrap_or(Proof::None) }))
    }

    pub(super) async fn ask(&self, outside: &Outside) -> Result<Expiring<Credentials>, Error> {
        let request = Request::get(self.url.clone(), PATIENCE).with("accept", "application/json");
        let request = match &self.proof {
            Proof::None => request,
            Proof::Token(token) => request.with_secret("authorization", token, TOKEN)?,
            Proof::File(path) => {
                request.with_secret("authorization", &outside.required(path)?, TOKEN_FILE)?
            }
        };
        let whom = "the container's credential service";
        read(whom, &outside.ask(whom, request, message).await?)
    }
}

/// A URL that a token may be sent to: any host by TLS, and without it only those that are on this machine.
fn allowed(url: String) -> Result<String, Error> {
    let uri: Uri = url.parse().map_err(|_| setting(FULL, "is no URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let near = || {
        let address: Option<IpAddr> = host.parse().ok();
        let known = |address: &IpAddr| PLAIN.iter().any(|known| known.parse() == Ok(*address));
        host == "localhost" || address.is_some_and(|address| address.is_loopback() || known(&address))
    };
    match uri.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if near() => Ok(url),
        Some("http") => Err(setting(
            FULL,
            "may be without TLS only on a loopback address, 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]",
        )),
        _ => Err(setting(FULL, "must begin with http:// or https://")),
    }
}

/// The words of an error reply.
fn message(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(alias = "Message")]
        message: String,
    }
    serde_json::from_str::<Problem>(text).ok().map(|problem| problem.message)
}

// === Instance ===

const INSTANCE: &str = "the instance metadata service";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Asks IMDSv2: a session token first, which no simple forwarder can be tricked into fetching, then the role's name,
/// then its credentials.
pub(super) async fn instance(outside: &Outside) -> Result<Expiring<Credentials>, Error> {
    let base = instance_address(outside)?;
    let put = Request {
        method: Method::PUT,
        ..Request::get(format!("{base}/latest/api/token"), PATIENCE)
            .with("x-aws-ec2-metadata-token-ttl-seconds", "60")
    };
    let token = outside.ask(INSTANCE, put, message).await?;
    let get = |path: &str| {
        Request::get(format!("{base}{path}"), PATIENCE).with_secret(
            "x-aws-ec2-metadata-token",
            &token,
            INSTANCE,
        )
    };
    let roles = outside.ask(INSTANCE, get(ROLES)?, message).await?;
    let role = roles.expose().lines().next().unwrap_or_default().trim();
    let named = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if role.is_empty() || !role.chars().all(named) {
        let why = "names no role: give the instance a profile with one".into();
        return Err(Error::Malformed { whom: INSTANCE, why });
    }
    let document = outside.ask(INSTANCE, get(&format!("{ROLES}{role}"))?, message).await?;
    read(INSTANCE, &document)
}

fn instance_address(outside: &Outside) -> Result<String, Error> {
    if let Some(url) = outside.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let mode =
        outside.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").map(|mode| mode.to_ascii_lowercase());
    match mode.as_deref() {
        None | Some("ipv4") => Ok("http://169.254.169.254".to_owned()),
        Some("ipv6") => Ok("http://[fd00:ec2::254]".to_owned()),
        Some(_) => Err(setting("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "must be IPv4 or IPv6")),
    }
}
