//! Routes.

use http::HeaderName;

use super::{Check, Clusters, policy};
use crate::clocks::Overrides;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Config, Loss};
use crate::config::value;
use crate::dialect::ir::Policy;
use crate::meter::series::RouteSeries;
use crate::pattern::{Pattern, Permit};
use crate::priority::Priority;
use crate::provider::credential::Source;
use crate::route::matcher::{Route, Routes, Target};

/// Every route that is right; one for everything where none was written.
pub(super) fn routes(config: &Config, clusters: &Clusters, check: &mut Check<'_>) -> Routes {
    if config.routes.is_empty() {
        return Routes::new(vec![standard(config)]);
    }
    let root = Path::root().key("routes");
    let mut routes = Vec::new();
    for (i, route) in config.routes.iter().enumerate() {
        let path = root.index(i);
        check.name(&path.key("name"), &route.name);
        compare(route, i, config, &path, check);
        if route.raw {
            check_raw(route, &path, config, check);
        } else {
            check_llm(route, &path, config, check);
        }
        routes.extend(compile(route, &path, config, clusters, check));
    }
    Routes::new(routes)
}

fn standard(config: &Config) -> Route {
    Route {
        name: "default".to_owned(),
        hosts: Vec::new(),
        base: String::new(),
        headers: Vec::new(),
        target: Target::Models(everything()),
        compress: true,
        cost: false,
        loss: Policy::Lenient,
        max_body: config.intake.max_body.0,
        clocks: Overrides::default(),
        regions: Permit::default(),
        priority: Priority::default(),
        spill: true,
        policy: None,
        series: RouteSeries::new("default"),
    }
}

fn everything() -> Vec<Pattern> {
    vec![Pattern::Star(String::new(), String::new())]
}

/// Holds a route against those before it.
fn compare(route: &schema::Route, i: usize, config: &Config, path: &Path, check: &mut Check<'_>) {
    for (j, earlier) in config.routes.iter().take(i).enumerate() {
        let line = check.line(&Path::root().key("routes").index(j));
        if earlier.name == route.name {
            let message = format!("`{}` is the name of another route ({line})", route.name);
            check.error(&path.key("name"), message, "give each route a name of its own");
        }
        if conditions(earlier) == conditions(route) {
            let message = format!(
                "never reached: route `{}` ({line}) has the same hosts, path and headers",
                earlier.name
            );
            check.warning(path, message, "change what one of them is for, or remove one");
        }
    }
}

type Conditions<'a> = (Vec<&'a value::HostPattern>, &'a value::PathPrefix, Vec<(String, &'a String)>);

/// What a route asks of a request, in one order.
fn conditions(route: &schema::Route) -> Conditions<'_> {
    let mut hosts: Vec<_> = route.hosts.iter().collect();
    hosts.sort();
    hosts.dedup();
    let headers = route.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    (hosts, &route.path, headers.collect())
}

fn check_raw(route: &schema::Route, path: &Path, config: &Config, check: &mut Check<'_>) {
    match &route.cluster {
        Some(cluster) => check.known_cluster(&path.key("cluster"), cluster, config),
        None => {
            let help = "add `cluster: NAME`, or remove `raw: true`";
            check.error(&path.key("cluster"), "missing: a raw route goes to one cluster", help);
        }
    }
    if route.models.is_some() {
        let help = "remove it, or `raw: true`";
        check.error(&path.key("models"), "a raw route reads no body, so it knows no model", help);
    }
    for key in ["heartbeat", "first_token", "gap"] {
        if check.written(&path.key("clocks").key(key)) {
            let help = "remove it: what passes through a raw route is not read";
            check.warning(&path.key("clocks").key(key), "without effect on a raw route", help);
        }
    }
}

fn check_llm(route: &schema::Route, path: &Path, config: &Config, check: &mut Check<'_>) {
    if route.cluster.is_some() {
        let help = "add `raw: true`, or remove it: `models` says where requests go";
        check.error(&path.key("cluster"), "only a raw route goes straight to a cluster", help);
    }
    if route.strip_path.is_some() {
        let help = "remove it, or add `raw: true`";
        check.warning(&path.key("strip_path"), "without effect on a route that is not raw", help);
    }
    if let Some(models) = &route.models {
        check.known_models(&path.key("models"), models, config);
        if models.is_empty() {
            let help = "name the aliases that it serves, or remove `models` for all";
            check.error(&path.key("models"), "the route serves no model", help);
        }
    }
    if let Some(max_body) = route.max_body
        && max_body > config.intake.held
    {
        let message =
            format!("more than intake.held, {}: such a body could never be held", config.intake.held);
        check.error(&path.key("max_body"), message, "lower it, or raise intake.held");
    }
}

fn compile(
    route: &schema::Route,
    path: &Path,
    config: &Config,
    clusters: &Clusters,
    check: &mut Check<'_>,
) -> Option<Route> {
    let headers = headers(route, &path.key("headers"), check);
    let clocks = check.clocks(&path.key("clocks"), &route.clocks);
    let bound = if route.raw { u64::MAX } else { config.intake.max_body.0 };
    let target = if route.raw {
        let cluster = clusters.get(route.cluster.as_ref()?)?.clone();
        if matches!(cluster.spec.credential, Source::Aws { .. }) {
            let help = "give the cluster an `api_key`: a signature is over the whole body, which a raw route never holds";
            check.error(&path.key("cluster"), "raw requests cannot be signed with AWS credentials", help);
        }
        Target::Raw { cluster, strip: route.strip_path.unwrap_or(true) }
    } else {
        let parse = |patterns: &Vec<value::Pattern>| {
            patterns.iter().filter_map(|pattern| Pattern::parse(&pattern.0)).collect()
        };
        Target::Models(route.models.as_ref().map_or_else(everything, parse))
    };
    Some(Route {
        name: route.name.clone(),
        hosts: route.hosts.iter().filter_map(|host| Pattern::parse(&host.0)).collect(),
        base: route.path.0.trim_end_matches('/').to_owned(),
        headers,
        target,
        compress: route.compress,
        cost: route.cost,
        loss: match route.loss {
            Loss::Lenient => Policy::Lenient,
            Loss::Strict => Policy::Strict,
        },
        max_body: route.max_body.map_or(bound, |size| size.0),
        clocks,
        regions: permit(&route.regions, &path.key("regions"), config, check),
        priority: priority(route.priority),
        spill: route.spill,
        policy: policy::policy(route, path, config, check),
        series: RouteSeries::new(&route.name),
    })
}

/// How important requests are.
pub(super) fn priority(written: schema::Priority) -> Priority {
    match written {
        schema::Priority::Low => Priority::Low,
        schema::Priority::Normal => Priority::Normal,
        schema::Priority::High => Priority::High,
    }
}

/// The regions that are permitted. One that no cluster is in is probably not meant.
pub(super) fn permit(
    regions: &schema::Regions,
    path: &Path,
    config: &Config,
    check: &mut Check<'_>,
) -> Permit {
    let patterns = |written: &[value::Pattern]| -> Vec<Pattern> {
        written.iter().filter_map(|pattern| Pattern::parse(&pattern.0)).collect()
    };
    let permit = Permit { allow: regions.allow.as_deref().map(patterns), deny: patterns(&regions.deny) };
    let known = || config.clusters.values().filter_map(|cluster| cluster.region.as_deref());
    for (i, pattern) in permit.allow.iter().flatten().enumerate() {
        if !known().any(|region| pattern.matches(region)) {
            let help = "write the `region` of a cluster, or give one that";
            check.warning(
                &path.key("allow").index(i),
                format!("no cluster says that it is in {pattern}"),
                help,
            );
        }
    }
    permit
}

fn headers(route: &schema::Route, path: &Path, check: &mut Check<'_>) -> Vec<(HeaderName, String)> {
    let mut headers: Vec<(HeaderName, String)> = Vec::new();
    for (name, value) in &route.headers {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(parsed) => {
                if headers.iter().any(|(other, _)| *other == parsed) {
                    check.error(&path.key(name), "the same header in other letters", "keep one of the two");
                }
                headers.push((parsed, value.clone()));
            }
            Err(_) => {
                let help = "write letters, digits and hyphens, such as `x-team`";
                check.error(&path.key(name), format!("{name:?} is not the name of a header"), help);
            }
        }
    }
    headers
}
