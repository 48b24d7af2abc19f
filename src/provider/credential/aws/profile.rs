//! Shared profile files, `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{Error, Outside, setting};
use super::{Base, Role, SESSION, Source, metadata};
use crate::provider::sigv4::Credentials;
use crate::secret::Secret;

/// The properties of every profile. What stands in both files counts as in the credentials file.
type Profiles = BTreeMap<String, Properties>;
type Properties = BTreeMap<String, Secret>;

/// Properties that ask for something that is not done, and what to do in its place.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("sso_session", SSO),
    ("sso_account_id", SSO),
    ("sso_start_url", SSO),
    ("login_session", "`aws login` is not supported: a server needs keys, a role or a web identity"),
    ("credential_process", "`credential_process` is not supported: no other program is run for credentials"),
];
const MFA: &str = "a role with `mfa_serial` is not supported: nobody is there to type the code";
const SSO: &str =
    "IAM Identity Center (`sso_*`) is not supported: a server needs keys, a role or a web identity";

/// The source that the profile in use describes, if there is a profile and it describes one.
pub(super) fn find(outside: &Outside) -> Result<Option<Source>, Error> {
    let (profiles, named) = (load(outside)?, outside.variable("AWS_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    match profiles.get(name) {
        Some(properties) => source(name, properties, &profiles, outside, &mut Vec::new()),
        None if named.is_some() => Err(missing(name)),
        None => Ok(None),
    }
}

/// The region of the profile in use.
pub(super) fn region(outside: &Outside) -> Result<Option<String>, Error> {
    let name = outside.variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let profiles = load(outside)?;
    Ok(profiles.get(&name).and_then(|properties| text(properties, "region")))
}

fn missing(name: &str) -> Error {
    setting(place(name), "is in neither the credentials file nor the config file")
}

fn place(name: &str) -> String {
    format!("profile `{name}`")
}

fn text(properties: &Properties, name: &str) -> Option<String> {
    properties.get(name).map(|value| value.expose().to_owned()).filter(|value| !value.is_empty())
}

/// The source that one profile describes. `above` are those that rest on it.
fn source<'a>(
    name: &'a str,
    properties: &'a Properties,
    profiles: &'a Profiles,
    outside: &Outside,
    above: &mut Vec<&'a str>,
) -> Result<Option<Source>, Error> {
    let unsupported = |what| Error::Unsupported { at: place(name), what };
    // A profile may rest on its own keys.
    let own_keys = above.last() == Some(&name);
    if let Some(arn) = text(properties, "role_arn").filter(|_| !own_keys) {
        if properties.contains_key("mfa_serial") {
            return Err(unsupported(MFA));
        }
        let role = Role {
            arn,
            session: text(properties, "role_session_name").unwrap_or_else(|| SESSION.to_owned()),
            external_id: text(properties, "external_id"),
            duration: text(properties, "duration_seconds"),
        };
        return role_source(name, role, properties, profiles, outside, above).map(Some);
    }
    if let Some(keys) = keys(name, properties)? {
        return Ok(Some(Base::Keys(keys).into()));
    }
    let found = UNSUPPORTED.iter().find(|(property, _)| properties.contains_key(*property));
    found.map_or(Ok(None), |(_, what)| Err(unsupported(what)))
}

fn role_source<'a>(
    name: &'a str,
    role: Role,
    properties: &'a Properties,
    profiles: &'a Profiles,
    outside: &Outside,
    above: &mut Vec<&'a str>,
) -> Result<Source, Error> {
    if let Some(token) = text(properties, "web_identity_token_file") {
        return Ok(Base::WebIdentity { role, token: token.into() }.into());
    }
    let mut source = match (properties.get("source_profile"), text(properties, "credential_source")) {
        (Some(base), None) => {
            let base = base.expose();
            if above.contains(&base) {
                return Err(setting(place(name), "rests on itself through `source_profile`"));
            }
            let properties = profiles.get(base).ok_or_else(|| missing(base))?;
            above.push(name);
            let source = source(base, properties, profiles, outside, above)?;
            source.ok_or_else(|| setting(place(base), "holds no credentials, though another rests on it"))?
        }
        (None, Some(kind)) => named_base(name, &kind, outside)?.into(),
        _ => {
            let why =
                "`role_arn` needs one of `source_profile`, `credential_source`, `web_identity_token_file`";
            return Err(setting(place(name), why));
        }
    };
    source.roles.push(role);
    Ok(source)
}

fn named_base(name: &str, kind: &str, outside: &Outside) -> Result<Base, Error> {
    match kind {
        // Where it is set, the environment went before the profile.
        "Environment" => {
            Err(setting(place(name), "`credential_source` is Environment, but AWS_ACCESS_KEY_ID is not set"))
        }
        "EcsContainer" => match metadata::Container::find(outside)? {
            Some(container) => Ok(Base::Container(container)),
            None => Err(setting(
                place(name),
                "`credential_source` is EcsContainer, but this is no such container",
            )),
        },
        "Ec2InstanceMetadata" => Ok(Base::Instance),
        _ => Err(setting(
            place(name),
            "`credential_source` must be Environment, EcsContainer or Ec2InstanceMetadata",
        )),
    }
}

fn keys(name: &str, properties: &Properties) -> Result<Option<Credentials>, Error> {
    let (id, secret) = (text(properties, "aws_access_key_id"), properties.get("aws_secret_access_key"));
    match (id, secret) {
        (Some(id), Some(secret)) => {
            let token = properties.get("aws_session_token").cloned();
            Ok(Some(Credentials { id, secret: secret.clone(), token }))
        }
        (None, None) => Ok(None),
        _ => Err(setting(
            place(name),
            "has one of `aws_access_key_id`, `aws_secret_access_key` without the other",
        )),
    }
}

// === Files ===

fn load(outside: &Outside) -> Result<Profiles, Error> {
    let mut profiles = Profiles::new();
    let files = [
        (outside.path("AWS_CONFIG_FILE", ".aws/config"), in_config as fn(&str) -> Option<&str>),
        (outside.path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), in_credentials),
    ];
    for (path, profile) in files {
        if let Some(path) = path {
            add(&path, profile, outside, &mut profiles)?;
        }
    }
    Ok(profiles)
}

/// The profile of a section of the config file, whose other sections are something else.
fn in_config(section: &str) -> Option<&str> {
    match section.split_once(char::is_whitespace) {
        Some(("profile", name)) => Some(name.trim().trim_matches(['"', '\''])),
        _ => (section == "default").then_some(section),
    }
}

/// The profile of a section of the credentials file.
fn in_credentials(section: &str) -> Option<&str> {
    Some(section)
}

/// Adds what stands in a file; what was there is overridden.
fn add(
    path: &Path,
    profile: fn(&str) -> Option<&str>,
    outside: &Outside,
    profiles: &mut Profiles,
) -> Result<(), Error> {
    let Some(file) = outside.optional(path)?.map(Secret::new) else { return Ok(()) };
    let mut section = None;
    for (number, line) in file.expose().lines().enumerate() {
        let wrong = |why: &'static str| setting(format!("{}:{}", path.display(), number + 1), why);
        let nested = line.starts_with([' ', '\t']);
        let line = uncommented(line);
        if line.is_empty() || nested {
            // What is indented belongs to a property that has properties: none of ours.
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or_else(|| wrong("a section must end with `]`"))?;
            section = Some(profile(name.trim()).map(str::to_owned));
            continue;
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| wrong("is neither `[section]` nor `name = value`"))?;
        match &section {
            None => return Err(wrong("stands before the first `[section]`")),
            Some(None) => {}
            Some(Some(profile)) => {
                let properties = profiles.entry(profile.clone()).or_default();
                properties.insert(name.trim().to_ascii_lowercase(), Secret::new(value.trim()));
            }
        }
    }
    Ok(())
}

/// A line without white space around it and without its comment, which begins the line or stands behind a space.
fn uncommented(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return "";
    }
    let ends = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| line.find(mark));
    ends.min().and_then(|end| line.get(..end)).unwrap_or(line).trim_end()
}
