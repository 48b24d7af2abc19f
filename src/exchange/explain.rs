//! Where a request would go, and why, by the configuration alone: nothing is sent, and what only running tells (health,
//! rests, load) is not known.

use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderMap;

use super::carry::{Asked, Carry, Written};
use crate::access::Principal;
use crate::dialect::translate::Passage;
use crate::dialect::{self, Operation};
use crate::error::Error;
use crate::filter::redact::Kinds;
use crate::json::Envelope;
use crate::route::alias::{Alias, Deployment};
use crate::route::matcher::Route;
use crate::snapshot::Snapshot;

/// A request that is not made.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The host that it names.
    pub host: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// The principal whose it is, by name; nothing for a request without a key.
    pub principal: Option<&'a str>,
}

/// Says where it would go.
///
/// # Errors
/// Why it would be refused, in words for the client.
pub fn explain(snapshot: &Snapshot, question: &Question<'_>) -> Result<String, String> {
    let told = |error: Error| error.public;
    let headers = HeaderMap::new();
    let route = snapshot.routes.find(question.host, question.path, &headers);
    let route = route.ok_or_else(|| format!("no route serves {}{}", question.host, question.path))?;
    let rest = route.rest(question.path).unwrap_or_default();
    let named = Operation::named(rest);
    let operation = named.as_ref().map(|named| named.operation).or_else(|| Operation::at(rest));
    let operation = operation.ok_or_else(|| format!("nothing is served at POST {}", question.path))?;
    let principal = snapshot.access.named(question.principal);
    let principal = principal.ok_or("there is no such principal, or a key is needed: name one of `keys`")?;

    let fault = |fault| told(dialect::request::fault_error(operation, fault));
    let envelope = Envelope::parse(question.body).map_err(fault)?;
    dialect::request::check(operation, &envelope).map_err(told)?;
    let in_body = envelope.model.as_ref().map_or("", |model| model.text.as_ref());
    let model = named.as_ref().map_or(in_body, |named| named.model.as_ref());
    let stream = named.as_ref().map_or_else(|| envelope.stream == Some(true), |named| named.stream);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "route      {}", route.name);
    let _ = writeln!(out, "operation  {}{}", operation.name(), if stream { ", streamed" } else { "" });
    let _ = writeln!(out, "principal  {}", principal.name);
    if !route.allows(model) || !principal.may_use(model) {
        let whom = if route.allows(model) { "the principal" } else { "the route" };
        return Err(format!("{out}the model `{model}` is not one that {whom} may use"));
    }
    let found = snapshot.aliases.find(model);
    let (alias, starred) = found.ok_or_else(|| format!("{out}no alias serves the model `{model}`"))?;
    let _ = writeln!(out, "alias      {} ({} deployments)", alias.name, alias.deployments.len());
    let body = Bytes::copy_from_slice(question.body);
    let policy = route.policy.as_deref();
    if let Some(Err(refused)) = policy.map(|policy| policy.apply(operation, &body)) {
        return Err(format!("{out}the route's policy refuses it: {}", refused.public));
    }
    let redact = policy.map_or_else(Kinds::default, |policy| policy.redact.reply);
    let asked = Asked::new(operation, &body, &envelope, (model, stream), route.loss, None).redacting(redact);
    for index in by_priority(alias) {
        if let Some(deployment) = alias.deployments.get(index) {
            place(&mut out, deployment, starred, &asked, (route, &principal));
        }
    }
    fallbacks(&mut out, alias);
    Ok(out)
}

/// Those of the lowest number first; the others as they stand.
fn by_priority(alias: &Alias) -> Vec<usize> {
    let mut order: Vec<usize> = (0..alias.deployments.len()).collect();
    order.sort_by_key(|index| alias.deployments.get(*index).map(|deployment| deployment.priority));
    order
}

fn place(
    out: &mut String,
    deployment: &Deployment,
    starred: &str,
    asked: &Asked<'_>,
    (route, principal): (&Route, &Principal),
) {
    let spec = &deployment.cluster.spec;
    let model = deployment.model.resolve(starred);
    let _ = writeln!(
        out,
        "\n{} ({}), priority {}, weight {}",
        spec.name, spec.provider.name, deployment.priority, deployment.weight
    );
    let region = spec.region.as_deref();
    if !route.regions.permits(region) || !principal.permits_region(region) {
        let _ =
            writeln!(out, "  passed over: its region, {}, is not permitted", region.unwrap_or("none said"));
        return;
    }
    if deployment.weight == 0 {
        let _ = writeln!(out, "  passed over: it is out of service");
        return;
    }
    let Some(passage) = spec.passage(asked.operation) else {
        let _ = writeln!(out, "  passed over: it cannot be asked for {}", asked.operation.name());
        return;
    };
    let way = match passage {
        Passage::Verbatim => "as it is".to_owned(),
        Passage::Translated { upstream, .. } => format!("translated to {}", upstream.operation().name()),
        Passage::Embedded(shape) => format!("translated to {}", shape.operation().name()),
    };
    match asked.write(spec, model.as_deref(), "explain") {
        Ok(written) => sent(out, &way, &written, deployment),
        Err(error) => {
            let _ = writeln!(out, "  passed over: {way}, it cannot be written: {}", error.public);
        }
    }
}

fn sent(out: &mut String, way: &str, written: &Written, deployment: &Deployment) {
    let _ = writeln!(out, "  {way}, {} bytes", written.outgoing.length);
    for endpoint in deployment.cluster.endpoints().iter() {
        let base = &endpoint.spec.origin.prefix;
        let _ = writeln!(out, "  POST {}{base}{}", endpoint.name, written.outgoing.path);
    }
    if let Some(pool) = deployment.cluster.choice() {
        let keys: Vec<String> =
            pool.keys().iter().map(|key| format!("{} (weight {})", key.name, key.weight)).collect();
        let _ = writeln!(out, "  with one of the keys {}", keys.join(", "));
    }
    let (lost, folds) = match &written.carry {
        Carry::Translated { lost, folds, .. } => (lost.as_str(), *folds),
        Carry::Embedded { lost, .. } => (lost.as_str(), false),
        Carry::Verbatim { .. } => ("", false),
    };
    if !lost.is_empty() {
        let _ = writeln!(out, "  left out: {lost}");
    }
    if folds {
        let _ = writeln!(out, "  asked for as a stream, and put together");
    }
    if written.resumes {
        let _ = writeln!(
            out,
            "  through the intermediate representation: gone on with elsewhere, should it break off"
        );
    }
}

fn fallbacks(out: &mut String, alias: &Alias) {
    let named = [("too long", &alias.fallback.too_long), ("filtered", &alias.fallback.filtered)];
    for (when, name) in named {
        if let Some(name) = name {
            let _ = writeln!(out, "\nwhere it is {when}: the model `{name}`");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_text;

    const CONFIG: &str = r#"
clusters:
  gpu: {provider: vllm, endpoints: ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]}
  eu: {provider: bedrock-converse, region: eu-west-1, keys: [{name: one, key: env:K}, {name: two, key: env:ALL, weight: 2}]}
  cohere: {provider: cohere-v2, api_key: env:K, region: us-east-1}
keys:
  team: {key: env:TEAM, models: ["m*"], regions: {deny: [us-*]}}
  all: {key: env:ALL}
models:
  m:
    deployments:
      - {cluster: cohere, model: command, priority: 1}
      - {cluster: gpu, model: llama, weight: 2}
      - {cluster: eu, model: claude:0, priority: 2}
    fallback: {too_long: big}
  big: {deployments: [{cluster: eu}]}
"#;

    fn asked(principal: Option<&str>, path: &str, body: &str) -> Result<String, String> {
        let env =
            |name: &str| matches!(name, "K" | "TEAM" | "ALL").then(|| format!("{name}-0123456789abcdef"));
        let snapshot = load_text(CONFIG, Path::new("t.yaml"), &env).unwrap().snapshot;
        explain(&snapshot, &Question { host: "edge", path, body: body.as_bytes(), principal })
    }

    const CHAT: &str = r#"{"model":"m","logit_bias":{"1":2},"messages":[{"role":"user","content":"Hi"}]}"#;

    #[test]
    fn every_place_is_told_with_its_reason() {
        let told = asked(Some("all"), "/v1/chat/completions", CHAT).unwrap();
        let gpu = told.find("gpu (vllm), priority 0, weight 2\n  as it is").unwrap();
        let cohere = told.find("cohere (cohere-v2), priority 1").unwrap();
        assert!(gpu < cohere, "{told}");
        for part in [
            "route      default\noperation  chat_completions\nprincipal  all\nalias      m (3 deployments)\n",
            "  POST http://10.0.0.2:8000/v1/chat/completions\n",
            "  translated to cohere_chat",
            "  left out: logit_bias\n",
            "  POST https://bedrock-runtime.eu-west-1.amazonaws.com/model/claude%3A0/converse\n",
            "  with one of the keys one (weight 1), two (weight 2)\n",
            "where it is too long: the model `big`\n",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    }

    #[test]
    fn what_is_not_permitted_is_passed_over() {
        let told = asked(Some("team"), "/v1/chat/completions", CHAT).unwrap();
        assert!(told.contains("passed over: its region, us-east-1, is not permitted"), "{told}");
        assert!(told.contains("passed over: its region, none said, is not permitted"), "{told}");
    }

    #[test]
    fn what_would_be_refused_is_told_as_the_client_would_be() {
        for (principal, path, body, says) in [
            (None, "/v1/chat/completions", CHAT, "principal"),
            (Some("nobody"), "/v1/chat/completions", CHAT, "principal"),
            (Some("all"), "/v1/nothing", CHAT, "nothing is served"),
            (Some("all"), "/v1/chat/completions", "{", "parse"),
            (Some("all"), "/v1/chat/completions", r#"{"model":"x"}"#, "no alias"),
            (Some("team"), "/v1/chat/completions", r#"{"model":"big"}"#, "the principal may use"),
        ] {
            let why = asked(principal, path, body).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
