//! Model aliases and their deployments.

use std::sync::Arc;

use http::HeaderName;

use super::{Check, Clusters};
use crate::config::diagnostic::Path;
use crate::config::schema::{Config, Model};
use crate::config::value;
use crate::limit::{Book, Subject};
use crate::pattern::Pattern;
use crate::route::alias::{Alias, Aliases, Deployment, Fallbacks, Sticky, UpstreamModel};

/// Every alias that is right.
pub(super) fn aliases(
    config: &Config,
    (clusters, book): (&Clusters, &Book),
    check: &mut Check<'_>,
) -> Aliases {
    let root = Path::root().key("models");
    let only_raw = !config.routes.is_empty() && config.routes.iter().all(|route| route.raw);
    if config.models.is_empty() && !only_raw && !config.clusters.is_empty() {
        let name = config.clusters.keys().next().map_or("NAME", String::as_str);
        let help = format!(
            "add `models: {{\"*\": {{deployments: [{{cluster: {name}}}]}}}}` to send every model to one cluster"
        );
        check.error(&root, "no model is served", help);
    }
    let mut aliases = Vec::new();
    for (name, model) in &config.models {
        let path = root.key(name);
        if let Err(wrong) = name.parse::<value::Pattern>() {
            check.error(&path, wrong.message, wrong.help);
        }
        aliases.extend(alias((name, model), &path, config, (clusters, book), check));
    }
    Aliases::new(aliases)
}

fn alias(
    (name, model): (&str, &Model),
    path: &Path,
    config: &Config,
    (clusters, book): (&Clusters, &Book),
    check: &mut Check<'_>,
) -> Option<Alias> {
    let list = path.key("deployments");
    let deployments = deployments(name, model, &list, config, clusters, check);
    if !model.deployments.is_empty() && model.deployments.iter().all(|deployment| deployment.weight == 0) {
        check.error(
            &list,
            "every deployment has weight 0, so none is in service",
            "give one a weight above 0",
        );
    }
    if model.sticky.is_some() && model.deployments.len() == 1 {
        check.warning(
            &path.key("sticky"),
            "without effect: there is one deployment",
            "add another, or remove it",
        );
    }
    if model.sticky == Some(value::Sticky::Principal) && config.keys.is_empty() {
        let help = "add `keys`, or write `header:NAME`";
        check.warning(&path.key("sticky"), "without keys everyone is the same principal", help);
    }
    let sticky = match &model.sticky {
        None => Sticky::No,
        Some(value::Sticky::Principal) => Sticky::Principal,
        Some(value::Sticky::Header(name)) => Sticky::Header(HeaderName::from_bytes(name.0.as_bytes()).ok()?),
    };
    let clocks = check.clocks(&path.key("clocks"), &model.clocks);
    let limits = super::limits::limits(&model.limits, &path.key("limits"), check);
    Some(Alias {
        pattern: Pattern::parse(name)?,
        name: name.to_owned(),
        deployments,
        sticky,
        clocks,
        fallback: fallback(model, &path.key("fallback"), config, check),
        limits: book.bind(&Subject::Model(name.into()), &limits),
        forecast: Arc::default(),
        listed: model.list,
    })
}

/// Which other aliases take over. Each must be there.
fn fallback(model: &Model, path: &Path, config: &Config, check: &mut Check<'_>) -> Fallbacks {
    let named = [("too_long", &model.fallback.too_long), ("filtered", &model.fallback.filtered)];
    for (key, name) in named {
        let served = |name: &String| {
            config.models.keys().any(|alias| Pattern::parse(alias).is_some_and(|alias| alias.matches(name)))
        };
        if let Some(name) = name.as_ref().filter(|name| !served(name)) {
            check.error(
                &path.key(key),
                format!("no alias serves `{name}`"),
                "write the name of one of `models`",
            );
        }
    }
    Fallbacks { too_long: model.fallback.too_long.clone(), filtered: model.fallback.filtered.clone() }
}

fn deployments(
    alias: &str,
    model: &Model,
    list: &Path,
    config: &Config,
    clusters: &Clusters,
    check: &mut Check<'_>,
) -> Vec<Deployment> {
    let mut deployments = Vec::new();
    for (i, deployment) in model.deployments.iter().enumerate() {
        let path = list.index(i);
        check.known_cluster(&path.key("cluster"), &deployment.cluster, config);
        let starred = deployment.model.as_ref().is_some_and(|model| model.0.contains('*'));
        if starred && !alias.contains('*') {
            let help = format!("write the whole name, or make the alias a pattern, such as `{alias}*`");
            check.error(&path.key("model"), "the alias has no `*` that this one could stand for", help);
        }
        let same = |other: &&crate::config::schema::Deployment| {
            other.cluster == deployment.cluster && other.model == deployment.model
        };
        if model.deployments.iter().take(i).find(same).is_some() {
            check.warning(&path, "the same cluster and model again", "raise the weight of the first instead");
        }
        let Some(cluster) = clusters.get(&deployment.cluster) else {
            continue;
        };
        let upstream = deployment.model.as_ref().and_then(|model| Pattern::parse(&model.0));
        let upstream = upstream.map_or(UpstreamModel::AsSent, UpstreamModel::Named);
        deployments.push(Deployment {
            weight: deployment.weight,
            priority: deployment.priority,
            ..Deployment::new(alias, cluster.clone(), upstream)
        });
    }
    deployments
}
