//! What may be asked for beside the conversation.
//!
//! A name is the same in every dialect: letter case, `_` and `-` do not count (`maxTokens` is `max_tokens`), what Google and
//! AWS put into an object of its own counts as if it stood in the body, and the names that dialects have for one thing are
//! one.

use super::{Members, refused};
use crate::dialect::ir::node::{Node, Value};
use crate::error::Error;

/// Which parameters are allowed, and between what bounds.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Only these, if it is said.
    pub allow: Option<Vec<String>>,
    /// None of these.
    pub deny: Vec<String>,
    /// The bounds of numbers, by name. A dot leads into an object: `thinking.budget_tokens`.
    pub bounds: Vec<(String, Bounds)>,
}

/// Between what a number must be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
}

/// Objects of a body whose members are parameters.
const HOLDERS: [&str; 3] = ["generationconfig", "inferenceconfig", "additionalmodelrequestfields"];

/// What every request has, and what other rules are about.
const ALWAYS: [&str; 14] = [
    "model",
    "messages",
    "contents",
    "input",
    "prompt",
    "system",
    "instructions",
    "systeminstruction",
    "stream",
    "streamoptions",
    "query",
    "documents",
    "generationconfig",
    "inferenceconfig",
];

/// The one name of a parameter.
fn canonical(name: &str) -> String {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    match plain.as_str() {
        "maxcompletiontokens" | "maxoutputtokens" => "maxtokens".to_owned(),
        "stopsequences" => "stop".to_owned(),
        "candidatecount" => "n".to_owned(),
        _ => plain,
    }
}

/// A parameter of a request.
struct Parameter<'n, 'a> {
    /// As the client wrote it, with where it stands.
    path: String,
    name: String,
    node: &'n Node<'a>,
}

impl Parameters {
    pub(super) fn check(&self, members: &Members<'_>) -> Result<(), Error> {
        if self.allow.is_none() && self.deny.is_empty() && self.bounds.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(members.len());
        list(members, "", &mut all)?;
        let among = |names: &[String], name: &str| names.iter().any(|known| canonical(known) == name);
        for Parameter { path, name, .. } in &all {
            if among(&self.deny, name) {
                return Err(refused(path, "is not allowed on this route; leave it out", "parameters.deny"));
            }
            let Some(allow) = &self.allow else { continue };
            if !among(allow, name) && !ALWAYS.contains(&name.as_str()) {
                let why = format!(
                    "is not allowed on this route; besides the conversation there may be: {}",
                    allow.join(", ")
                );
                return Err(refused(path, why, "parameters.allow"));
            }
        }
        self.bounds.iter().try_for_each(|(name, bounds)| bounded(&all, name, *bounds))
    }
}

/// Refuses a request for several answers: what is taken out of replies is taken out of one.
pub(super) fn one_choice(members: &Members<'_>) -> Result<(), Error> {
    let mut all = Vec::with_capacity(members.len());
    list(members, "", &mut all)?;
    match all.iter().find(|parameter| parameter.name == "n" && parameter.node.raw != "1") {
        Some(Parameter { path, .. }) => {
            let why = "must be 1 on this route, whose replies are looked through; ask as often as there are to be answers";
            Err(refused(path, why, "redact.reply"))
        }
        None => Ok(()),
    }
}

/// Every parameter of a body, those of its holders among them.
fn list<'n, 'a>(members: &'n Members<'a>, base: &str, all: &mut Vec<Parameter<'n, 'a>>) -> Result<(), Error> {
    for (key, node) in members.iter().filter(|(_, node)| !node.is_null()) {
        let path = format!("{base}{}", key.plain());
        let name = canonical(&key.plain());
        match &node.value {
            Value::Object(inside) if base.is_empty() && HOLDERS.contains(&name.as_str()) => {
                super::once(inside)?;
                list(inside, &format!("{path}."), all)?;
            }
            _ => all.push(Parameter { path, name, node }),
        }
    }
    Ok(())
}

fn bounded(all: &[Parameter<'_, '_>], name: &str, bounds: Bounds) -> Result<(), Error> {
    let (first, inner) = name.split_once('.').map_or((name, None), |(first, inner)| (first, Some(inner)));
    let first = canonical(first);
    for parameter in all.iter().filter(|parameter| parameter.name == first) {
        match inner {
            None => bounds.check(&parameter.path, parameter.node)?,
            Some(inner) => {
                let Value::Object(members) = &parameter.node.value else { continue };
                super::once(members)?;
                let mut below = Vec::new();
                list(members, &format!("{}.", parameter.path), &mut below)?;
                bounded(&below, inner, bounds)?;
            }
        }
    }
    Ok(())
}

impl Bounds {
    fn check(self, path: &str, node: &Node<'_>) -> Result<(), Error> {
        let value = matches!(node.value, Value::Number).then(|| node.raw.parse::<f64>().ok()).flatten();
        let Some(value) = value else {
            return Err(refused(path, format!("must be a number {self}"), "parameters.bounds"));
        };
        if self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max) {
            return Ok(());
        }
        Err(refused(path, format!("must be {self} on this route"), "parameters.bounds"))
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "from {min} to {max}"),
            (Some(min), None) => write!(f, "at least {min}"),
            (None, Some(max)) => write!(f, "at most {max}"),
            (None, None) => f.write_str("of any size"),
        }
    }
}
