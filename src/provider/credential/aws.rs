//! The AWS credential chain: the first source that is configured is the one that counts, and if it fails the others are
//! not tried, so that nobody calls as someone else by accident.
//!
//! | | source | configured by |
//! |---|---|---|
//! | 1 | environment | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` |
//! | 2 | profile | `AWS_PROFILE` (else `default`) in `~/.aws/credentials` and `~/.aws/config`, or where `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` point: keys, or a role with `source_profile`, `credential_source` or `web_identity_token_file` |
//! | 3 | web identity | `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`, `AWS_ROLE_SESSION_NAME` |
//! | 4 | container | `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `_FULL_URI`, with `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `_TOKEN` |
//! | 5 | instance | IMDSv2, unless `AWS_EC2_METADATA_DISABLED` is true |
//!
//! **Not covered**, and refused with an error that says so where a profile asks for it: IAM Identity Center (`sso_*`),
//! `aws login` (`login_session`), `credential_process`, and roles with `mfa_serial`. IMDSv1 is never asked.
//!
//! Source: "Standardized credential providers" in the AWS SDKs and Tools Reference Guide; botocore 1.44.5.

mod metadata;
mod profile;
mod sts;

use std::path::PathBuf;

use serde::Deserialize;

use super::{Error, Expiring, Outside, json, needed, setting};
use crate::moment::read_rfc3339;
use crate::provider::sigv4::Credentials;
use crate::secret::Secret;

/// Looks through the chain and asks the first source that is configured.
///
/// # Errors
/// Says which source was found and why it gives nothing, or that there is none.
pub async fn obtain(outside: &Outside) -> Result<Expiring<Credentials>, Error> {
    let source = find(outside)?;
    let last_resort = matches!(source, Source { base: Base::Instance, ref roles } if roles.is_empty());
    resolve(source, outside).await.map_err(|error| match error {
        Error::Unreachable { .. } if last_resort => Error::Nowhere { looked: NOT_ON_EC2 },
        error => error,
    })
}

const NOT_ON_EC2: &str = "AWS_ACCESS_KEY_ID, a profile, AWS_WEB_IDENTITY_TOKEN_FILE, a container's service and the \
                          instance metadata service, which does not answer";
const NO_EC2: &str = "AWS_ACCESS_KEY_ID, a profile, AWS_WEB_IDENTITY_TOKEN_FILE and a container's service; the \
                      instance's is switched off by AWS_EC2_METADATA_DISABLED";

/// The region that the environment or the profile names.
///
/// # Errors
/// A profile file that cannot be read.
pub fn region(outside: &Outside) -> Result<Option<String>, Error> {
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| outside.variable(name));
    match named {
        Some(region) => Ok(Some(region)),
        None => profile::region(outside),
    }
}

/// A source, as it is configured: the roles are taken one with the credentials of the one before.
#[derive(Debug)]
struct Source {
    base: Base,
    roles: Vec<Role>,
}

/// What gives credentials by itself.
#[derive(Debug)]
enum Base {
    /// Keys that stand there.
    Keys(Credentials),
    /// A role, taken with a token from a file.
    WebIdentity { role: Role, token: PathBuf },
    /// The service beside a container.
    Container(metadata::Container),
    /// The metadata service of an EC2 instance.
    Instance,
}

impl From<Base> for Source {
    fn from(base: Base) -> Self {
        Self { base, roles: Vec::new() }
    }
}

/// A role to take.
#[derive(Debug)]
struct Role {
    arn: String,
    session: String,
    external_id: Option<String>,
    /// Seconds.
    duration: Option<String>,
}

/// What a session is named that nobody names: CloudTrail shows it.
const SESSION: &str = "forebay";

fn find(outside: &Outside) -> Result<Source, Error> {
    if let Some(keys) = environment(outside)? {
        return Ok(keys.into());
    }
    if let Some(source) = profile::find(outside)? {
        return Ok(source);
    }
    if let Some(identity) = web_identity(outside)? {
        return Ok(identity.into());
    }
    if let Some(container) = metadata::Container::find(outside)? {
        return Ok(Base::Container(container).into());
    }
    let disabled = outside.variable("AWS_EC2_METADATA_DISABLED");
    if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(Error::Nowhere { looked: NO_EC2 });
    }
    Ok(Base::Instance.into())
}

fn environment(outside: &Outside) -> Result<Option<Base>, Error> {
    let Some(id) = outside.variable("AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let secret = outside
        .variable("AWS_SECRET_ACCESS_KEY")
        .ok_or_else(|| setting("AWS_SECRET_ACCESS_KEY", "is not set, though AWS_ACCESS_KEY_ID is"))?;
    let token = outside.variable("AWS_SESSION_TOKEN").map(Secret::new);
    Ok(Some(Base::Keys(Credentials { id, secret: Secret::new(secret), token })))
}

fn web_identity(outside: &Outside) -> Result<Option<Base>, Error> {
    let Some(token) = outside.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
    let arn = outside
        .variable("AWS_ROLE_ARN")
        .ok_or_else(|| setting("AWS_ROLE_ARN", "is not set, though AWS_WEB_IDENTITY_TOKEN_FILE is"))?;
    let session = outside.variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned());
    let role = Role { arn, session, external_id: None, duration: None };
    Ok(Some(Base::WebIdentity { role, token: token.into() }))
}

async fn resolve(source: Source, outside: &Outside) -> Result<Expiring<Credentials>, Error> {
    let mut held = match source.base {
        Base::Keys(keys) => Expiring { value: keys, expires: None },
        Base::WebIdentity { role, token } => sts::with_web_identity(&role, &token, outside).await?,
        Base::Container(container) => container.ask(outside).await?,
        Base::Instance => metadata::instance(outside).await?,
    };
    for role in &source.roles {
        held = sts::assume(role, &held.value, outside).await?;
    }
    Ok(held)
}

/// What the services beside a container and of an instance answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

/// Reads such an answer.
fn read(whom: &'static str, text: &Secret) -> Result<Expiring<Credentials>, Error> {
    let document: Document = json(whom, text)?;
    if let Some(code) = document.code.filter(|code| code != "Success") {
        let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric()).take(60).collect();
        return Err(Error::Malformed { whom, why: format!("has the code {code}, not Success").into() });
    }
    let id = needed(whom, "AccessKeyId", document.access_key_id)?;
    Ok(Expiring {
        value: Credentials {
            id: id.expose().to_owned(),
            secret: needed(whom, "SecretAccessKey", document.secret_access_key)?,
            token: Some(needed(whom, "Token", document.token)?),
        },
        expires: Some(end(whom, &needed(whom, "Expiration", document.expiration)?)?),
    })
}

fn end(whom: &'static str, text: &Secret) -> Result<std::time::SystemTime, Error> {
    read_rfc3339(text.expose())
        .ok_or_else(|| Error::Malformed { whom, why: "has an expiration that is no time".into() })
}

#[cfg(test)]
mod tests;
