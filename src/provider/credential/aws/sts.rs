//! The Security Token Service: credentials for a role.

use std::path::Path;

use http::{HeaderValue, Uri};

use super::super::{Error, Expiring, Outside, Request, setting};
use super::{Role, end, region};
use crate::provider::sigv4::{self, Credentials, Payload, Scope, Segments};
use crate::secret::Secret;

const WHOM: &str = "AWS STS";

/// Takes `role` with the token in a file, which whoever runs the workload keeps fresh. Nothing is signed.
pub(super) async fn with_web_identity(
    role: &Role,
    token: &Path,
    outside: &Outside,
) -> Result<Expiring<Credentials>, Error> {
    let token = outside.required(token)?;
    let mut fields = fields("AssumeRoleWithWebIdentity", role);
    fields.push(("WebIdentityToken", token.expose()));
    let place = Place::find(outside)?;
    read(&outside.ask(WHOM, Request::form(place.url, &fields), message).await?)
}

/// Takes `role` with the credentials of another.
pub(super) async fn assume(
    role: &Role,
    with: &Credentials,
    outside: &Outside,
) -> Result<Expiring<Credentials>, Error> {
    let mut fields = fields("AssumeRole", role);
    fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    let place = Place::find(outside)?;
    let request = signed(Request::form(place.url.clone(), &fields), &place, with, outside)?;
    read(&outside.ask(WHOM, request, message).await?)
}

fn fields<'a>(action: &'static str, role: &'a Role) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![
        ("Action", action),
        ("Version", "2011-06-15"),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session.as_str()),
    ];
    fields.extend(role.duration.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    fields
}

/// Where STS is, and the region its requests are signed for.
struct Place {
    url: String,
    region: String,
}

impl Place {
    fn find(outside: &Outside) -> Result<Self, Error> {
        let region = region(outside)?;
        let fips =
            outside.variable("AWS_USE_FIPS_ENDPOINT").is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let url = match (outside.variable("AWS_ENDPOINT_URL_STS"), &region) {
            (Some(url), _) => format!("{}/", url.trim_end_matches('/')),
            (None, None) => "https://sts.amazonaws.com/".to_owned(),
            (None, Some(region)) => {
                let end = if region.starts_with("cn-") { ".cn" } else { "" };
                let fips = if fips { "-fips" } else { "" };
                format!("https://sts{fips}.{region}.amazonaws.com{end}/")
            }
        };
        Ok(Self { url, region: region.unwrap_or_else(|| "us-east-1".to_owned()) })
    }
}

fn signed(request: Request, place: &Place, with: &Credentials, outside: &Outside) -> Result<Request, Error> {
    let uri: Uri = place.url.parse().map_err(|_| setting("AWS_ENDPOINT_URL_STS", "is no URL"))?;
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let to_sign = sigv4::Request {
        method: request.method.as_str(),
        host,
        path: uri.path(),
        query: "",
        headers: &request.headers,
        payload: Payload::of([request.body.expose().as_bytes()]),
    };
    let scope = Scope { region: &place.region, service: "sts", segments: Segments::Resolved };
    let signed = sigv4::sign(&to_sign, with, &scope, (outside.now)());
    let date = HeaderValue::try_from(signed.date).map_err(|_| setting("the clock", "is out of range"))?;
    let mut request = request;
    request.headers.insert("x-amz-date", date);
    if let Some(token) = &signed.token {
        request = request.with_secret("x-amz-security-token", token, "the session token")?;
    }
    request.with_secret(
        "authorization",
        &Secret::new(signed.authorization),
        "the access key's id or the region",
    )
}

// === XML ===

fn read(text: &Secret) -> Result<Expiring<Credentials>, Error> {
    let whole = only(text.expose(), "Credentials")?;
    let value = |name| plain(only(whole, name)?, name);
    Ok(Expiring {
        value: Credentials {
            id: value("AccessKeyId")?.expose().to_owned(),
            secret: value("SecretAccessKey")?,
            token: Some(value("SessionToken")?),
        },
        expires: Some(end(WHOM, &value("Expiration")?)?),
    })
}

fn only<'a>(xml: &'a str, name: &str) -> Result<&'a str, Error> {
    let missing = || Error::Malformed { whom: WHOM, why: format!("has not one `{name}`").into() };
    element(xml, name).ok_or_else(missing)
}

/// The words of an error reply.
fn message(text: &str) -> Option<String> {
    let error = element(text, "Error")?;
    let code = element(error, "Code")?;
    Some(format!("{code}: {}", element(error, "Message").unwrap_or_default()))
}

/// What stands in the one element of that name. STS writes no attributes in it, and nests none in its own kind.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let (_, after) = xml.split_once(&start)?;
    let (inner, rest) = after.split_once(&end)?;
    (!inner.contains(&start) && !rest.contains(&start)).then_some(inner)
}

/// The text of an element that holds nothing else. Keys, tokens and times need no entities.
fn plain(text: &str, name: &str) -> Result<Secret, Error> {
    let text = text.trim();
    if text.is_empty() || text.contains(['<', '&']) {
        let why = format!("has a `{name}` that is not plain text").into();
        return Err(Error::Malformed { whom: WHOM, why });
    }
    Ok(Secret::new(text))
}
