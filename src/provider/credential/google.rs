//! OAuth access tokens for Google Cloud, from a service account's key or from the metadata server of a machine there.
//!
//! A key signs a short statement about itself (a JWT, RFC 7519), which the token endpoint exchanges for a token
//! (RFC 7523 §2.1). The metadata server gives the token of the account that the machine runs as.
//!
//! **Not covered**, and refused with an error that says so: `authorized_user` (`gcloud auth application-default
//! login`), `external_account` (workload identity federation) and `impersonated_service_account`.
//!
//! Source: "Using OAuth 2.0 for Server to Server Applications" and "Application Default Credentials" of Google.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::{Error, Expiring, Outside, PATIENCE, Request, json, needed, setting};
use crate::secret::Secret;

/// What a token is for: every Cloud API that the account may use.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long a statement is good, in seconds: the most that Google takes.
const HOUR: u64 = 3600;

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The key in this file.
    File(PathBuf),
    /// The key that `GOOGLE_APPLICATION_CREDENTIALS` points to, or else the one in `gcloud`'s folder, or else the
    /// metadata server.
    Default,
}

/// Obtains a token.
///
/// # Errors
/// Says which file or service gives none, and why.
pub async fn obtain(source: &Source, outside: &Outside) -> Result<Expiring<Secret>, Error> {
    match find(source, outside)? {
        Some(account) => account.exchange(outside).await,
        None => metadata(outside).await.map_err(|error| match error {
            Error::Unreachable { .. } => Error::Nowhere { looked: NOT_ON_GCE },
            error => error,
        }),
    }
}

const NOT_ON_GCE: &str = "GOOGLE_APPLICATION_CREDENTIALS, the credentials in gcloud's folder and the metadata server, \
                          which does not answer";

/// The account whose key is configured; nothing where the metadata server is to be asked.
fn find(source: &Source, outside: &Outside) -> Result<Option<Account>, Error> {
    const NAMED: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let named = match source {
        Source::File(path) => Some(path.clone()),
        Source::Default => outside.variable(NAMED).map(PathBuf::from),
    };
    if let Some(path) = named {
        return Account::read(&path, &outside.required(&path)?).map(Some);
    }
    let Some(path) = outside.path(NAMED, ".config/gcloud/application_default_credentials.json") else {
        return Ok(None);
    };
    let text = outside.optional(&path)?.map(Secret::new);
    text.map(|text| Account::read(&path, &text)).transpose()
}

// === Service account ===

/// A service account with its key.
#[derive(Debug)]
struct Account {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    token_url: String,
}

/// The file that Google hands out.
#[derive(Deserialize)]
struct KeyFile {
    r#type: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl Account {
    fn read(path: &Path, text: &Secret) -> Result<Self, Error> {
        let wrong = |why: &'static str| setting(path.display(), why);
        let file: KeyFile = serde_json::from_str(text.expose())
            .map_err(|error| setting(path.display(), format!("is no key file, at line {}", error.line())))?;
        let pem = file.private_key.map(Secret::new);
        let unsupported = |what| Error::Unsupported { at: path.display().to_string(), what };
        match file.r#type.as_deref() {
            Some("service_account") => {}
            Some("authorized_user") => return Err(unsupported(USER)),
            Some("external_account" | "external_account_authorized_user") => {
                return Err(unsupported(FEDERATED));
            }
            Some("impersonated_service_account") => return Err(unsupported(IMPERSONATED)),
            _ => return Err(wrong("its `type` must be `service_account`")),
        }
        let token_url = file.token_uri.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
        if !token_url.starts_with("https://") {
            return Err(wrong("its `token_uri` must begin with https://"));
        }
        let pem = pem.ok_or_else(|| wrong("it has no `private_key`"))?;
        Ok(Self {
            email: file.client_email.ok_or_else(|| wrong("it has no `client_email`"))?,
            key_id: file.private_key_id,
            key: key(&pem)
                .ok_or_else(|| wrong("its `private_key` is no RSA key in PEM of 2048 bits or more"))?,
            token_url,
        })
    }

    async fn exchange(&self, outside: &Outside) -> Result<Expiring<Secret>, Error> {
        let now = (outside.now)();
        let statement = self.statement(now)?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", statement.expose()),
        ];
        let whom = "Google's token endpoint";
        let request = Request::form(self.token_url.clone(), &fields);
        read(whom, &outside.ask(whom, request, message).await?, now)
    }

    /// The signed statement that asks for a token (RFC 7515 §3.1).
    fn statement(&self, now: SystemTime) -> Result<Secret, Error> {
        let issued = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = Header { alg: "RS256", typ: "JWT", kid: self.key_id.as_deref() };
        let claims =
            Claims { iss: &self.email, scope: SCOPE, aud: &self.token_url, iat: issued, exp: issued + HOUR };
        let mut text = format!("{}.{}", part(&header)?, part(&claims)?);
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| setting("the service account's key", "cannot sign"))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(Secret::new(text))
    }
}

const USER: &str = "a user's login (`authorized_user`) is not supported: a server needs a service account's key \
                    or the metadata server";
const FEDERATED: &str =
    "workload identity federation (`external_account`) is not supported: use a service account's key";
const IMPERSONATED: &str =
    "impersonation (`impersonated_service_account`) is not supported: use the service account's own key";

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

fn part(value: &impl Serialize) -> Result<String, Error> {
    let json =
        serde_json::to_vec(value).map_err(|_| setting("the service account", "cannot be written as JSON"))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn key(pem: &Secret) -> Option<RsaKeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

// === Metadata server ===

const METADATA: &str = "Google's metadata server";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

async fn metadata(outside: &Outside) -> Result<Expiring<Secret>, Error> {
    let host = outside.variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    // It may have to fetch the token itself, so that it gets as long as the token endpoint.
    let request = Request::get(format!("http://{host}{TOKEN}"), PATIENCE).with("metadata-flavor", "Google");
    let now = (outside.now)();
    read(METADATA, &outside.ask(METADATA, request, message).await?, now)
}

// === Replies ===

#[derive(Deserialize)]
struct Token {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<u32>,
}

/// Reads a token that was asked for at `asked` (RFC 6749 §5.1).
fn read(whom: &'static str, text: &Secret, asked: SystemTime) -> Result<Expiring<Secret>, Error> {
    let token: Token = json(whom, text)?;
    let value = needed(whom, "access_token", token.access_token)?;
    let kind = needed(whom, "token_type", token.token_type)?;
    if !kind.expose().eq_ignore_ascii_case("bearer") {
        return Err(Error::Malformed { whom, why: "has a `token_type` that is not Bearer".into() });
    }
    let life =
        token.expires_in.ok_or_else(|| Error::Malformed { whom, why: "has no `expires_in`".into() })?;
    Ok(Expiring { value, expires: Some(asked + Duration::from_secs(life.into())) })
}

/// The words of an error reply (RFC 6749 §5.2).
fn message(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        error: String,
        error_description: Option<String>,
    }
    let problem: Problem = serde_json::from_str(text).ok()?;
    Some(format!("{}: {}", problem.error, problem.error_description.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
