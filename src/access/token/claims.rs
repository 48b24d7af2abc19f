//! What a verified token says of its bearer, as a principal.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::{Fault, IssuerSpec};
use crate::access::grants::{Group, Known, Principal};
use crate::pattern::Pattern;

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// Where the claims are that matter here. Each is a name, or a JSON pointer where it begins with a slash.
#[derive(Clone, Debug)]
pub struct Places {
    /// Who the bearer is.
    pub name: String,
    /// Their team: one name or several, of which the first that is known counts.
    pub team: Option<String>,
    /// Their organisation.
    pub organisation: Option<String>,
    /// The models they may use, as patterns.
    pub models: Option<String>,
}

/// The groups of a configuration, by name.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Teams.
    pub teams: HashMap<String, Arc<Group>>,
    /// Organisations.
    pub organisations: HashMap<String, Arc<Group>>,
}

/// The longest name of a bearer, characters.
const LONGEST: usize = 128;

/// The bearer of a token whose signature and times were found in order.
///
/// # Errors
/// Which claim does not permit it.
pub(super) fn principal(spec: &IssuerSpec, claims: &Claims) -> Result<Principal, Fault> {
    let who = at(claims, &spec.places.name).and_then(Value::as_str).unwrap_or_default();
    // A name shows in logs and limits: it must be one that can be read.
    let readable = !who.is_empty() && who.chars().count() <= LONGEST && !who.chars().any(char::is_control);
    if !readable {
        return Err(Fault::Name);
    }
    let scopes = scopes(claims);
    if !spec.scopes.iter().all(|wanted| scopes.contains(&wanted.as_str())) {
        return Err(Fault::Scope);
    }
    let group = group(spec, claims)?;
    let claimed = spec
        .places
        .models
        .as_deref()
        .and_then(|place| at(claims, place))
        .map(|value| words(value).into_iter().filter_map(Pattern::parse).collect());
    let label = group.as_ref().map_or(&spec.name, |group| &group.name);
    Ok(Principal {
        name: Arc::from(format!("{}/{who}", spec.name)),
        label: Arc::clone(label),
        known: Known::Token,
        group,
        tags: Vec::new(),
        metadata: Vec::new(),
        grants: spec.grants.clone(),
        claimed,
        bound: OnceLock::new(),
    })
}

/// The team or organisation that a token names, or else the issuer's own.
fn group(spec: &IssuerSpec, claims: &Claims) -> Result<Option<Arc<Group>>, Fault> {
    let named = |place: &Option<String>, known: &HashMap<String, Arc<Group>>| {
        let value = at(claims, place.as_deref()?)?;
        words(value).into_iter().find_map(|name| known.get(name)).cloned()
    };
    let organisation = named(&spec.places.organisation, &spec.groups.organisations);
    let found = match named(&spec.places.team, &spec.groups.teams) {
        Some(team) => {
            // A team is part of one organisation: a token that puts it into another is not believed.
            let parent = team.parent.as_ref().map(|parent| &parent.name);
            if organisation.is_some_and(|organisation| parent.is_some_and(|name| *name != organisation.name))
            {
                return Err(Fault::Group);
            }
            Some(team)
        }
        None => organisation,
    };
    let asks = spec.places.team.is_some() || spec.places.organisation.is_some();
    match found.or_else(|| spec.group.clone()) {
        None if asks => Err(Fault::Group),
        group => Ok(group),
    }
}

/// The scopes of a token: RFC 8693 §4.2, and the list of Microsoft and Okta.
fn scopes(claims: &Claims) -> Vec<&str> {
    ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).flat_map(words).collect()
}

/// The words of a claim: a text with blanks between them, or a list.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The claim of that name, or at that pointer. A name may hold slashes and dots of its own.
fn at<'a>(claims: &'a Claims, place: &str) -> Option<&'a Value> {
    let Some(path) = place.strip_prefix('/') else { return claims.get(place) };
    let (first, rest) = path
        .split_once('/')
        .map_or((path, ""), |(first, _)| (first, place.get(first.len() + 1..).unwrap_or_default()));
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}
