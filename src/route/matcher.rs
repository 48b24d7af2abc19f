//! Routes by host, path and headers. Routes are kept with the most specific first, so the first that matches is it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::clocks::Overrides;
use crate::dialect::ir;
use crate::filter::policy::Policy;
use crate::meter::series::RouteSeries;
use crate::pattern::{Pattern, Permit};
use crate::priority::Priority;
use crate::upstream::cluster::Cluster;

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name in logs and metric labels.
    pub name: String,
    /// The hosts it serves, in lower case; empty serves all. `*.example.com` serves every host below it.
    pub hosts: Vec<Pattern>,
    /// The path before each operation's, without a slash at its end; empty for none.
    pub base: String,
    /// Headers that must be there with this value.
    pub headers: Vec<(HeaderName, String)>,
    /// What is done with what it matches.
    pub target: Target,
    /// Whether JSON replies are compressed for clients that accept it.
    pub compress: bool,
    /// Whether whole replies tell what they cost.
    pub cost: bool,
    /// What is done about fields that an upstream of another dialect has no place for.
    pub loss: ir::Policy,
    /// The largest request body, bytes.
    pub max_body: u64,
    /// Clocks of its own.
    pub clocks: Overrides,
    /// The regions that its requests may go to.
    pub regions: Permit,
    /// How important its requests are, where their caller's key does not say.
    pub priority: Priority,
    /// Whether its requests may go to a later deployment because of load.
    pub spill: bool,
    /// What its requests must keep to.
    pub policy: Option<Box<Policy>>,
    /// Its series.
    pub series: RouteSeries,
}

/// What a route does.
#[derive(Debug)]
pub enum Target {
    /// Runs LLM exchanges for the aliases that these patterns allow.
    Models(Vec<Pattern>),
    /// Passes anything on to a cluster.
    Raw {
        /// Where to.
        cluster: Arc<Cluster>,
        /// Whether the base path is taken off before the cluster's prefix is put on.
        strip: bool,
    },
}

impl Route {
    /// What a more specific route has more of: an exact host before a wildcard before none, a longer path, headers.
    fn specificity(&self) -> ((bool, usize), usize, usize) {
        let host = self.hosts.iter().map(Pattern::specificity).max().unwrap_or_default();
        (host, self.base.len(), self.headers.len())
    }

    /// The part of `path` after the base, where it lies below the base.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.base.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    fn matches(&self, host: &str, path: &str, headers: &HeaderMap) -> bool {
        let host_fits = self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host));
        host_fits
            && self.rest(path).is_some()
            && self.headers.iter().all(|(name, value)| {
                headers.get_all(name).iter().any(|sent| sent.as_bytes() == value.as_bytes())
            })
    }

    /// Whether this route lets `model` through.
    pub fn allows(&self, model: &str) -> bool {
        match &self.target {
            Target::Models(patterns) => patterns.iter().any(|pattern| pattern.matches(model)),
            Target::Raw { .. } => true,
        }
    }
}

/// Every route of a configuration.
#[derive(Debug, Default)]
pub struct Routes {
    sorted: Vec<Arc<Route>>,
    any_raw: bool,
}

impl Routes {
    /// Sorts `routes` by how specific they are; equals keep their order.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut sorted: Vec<_> = routes.into_iter().map(Arc::new).collect();
        sorted.sort_by_key(|route| std::cmp::Reverse(route.specificity()));
        let any_raw = sorted.iter().any(|route| matches!(route.target, Target::Raw { .. }));
        Self { sorted, any_raw }
    }

    /// The most specific route that matches. `host` has no port and is in lower case.
    pub fn find(&self, host: &str, path: &str, headers: &HeaderMap) -> Option<&Arc<Route>> {
        self.sorted.iter().find(|route| route.matches(host, path, headers))
    }

    /// Whether any route is raw.
    pub fn any_raw(&self) -> bool {
        self.any_raw
    }

    /// Every route, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.sorted.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, hosts: &[&str], base: &str, headers: &[(&'static str, &str)]) -> Route {
        Route {
            name: name.to_owned(),
            hosts: hosts.iter().map(|host| Pattern::parse(host).unwrap()).collect(),
            base: base.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), (*value).to_owned()))
                .collect(),
            target: Target::Models(vec![Pattern::parse("gpt-*").unwrap()]),
            compress: true,
            cost: false,
            loss: ir::Policy::Lenient,
            max_body: 1,
            clocks: Overrides::default(),
            regions: Permit::default(),
            priority: Priority::default(),
            spill: true,
            policy: None,
            series: RouteSeries::new(name),
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = Routes::new(vec![
            route("all", &[], "", &[]),
            route("eu", &["*.eu.example"], "", &[]),
            route("host", &["api.eu.example"], "", &[]),
            route("canary", &["api.eu.example"], "", &[("x-canary", "1")]),
            route("base", &[], "/team", &[]),
        ]);
        let find = |host: &str, path: &str, canary: bool| {
            let mut headers = HeaderMap::new();
            if canary {
                headers.insert("x-canary", http::HeaderValue::from_static("1"));
            }
            routes.find(host, path, &headers).map(|route| route.name.clone()).unwrap()
        };
        assert_eq!(find("x", "/v1/models", false), "all");
        assert_eq!(find("x", "/team/v1/models", false), "base");
        assert_eq!(find("x", "/teams", false), "all", "a base ends at a segment");
        assert_eq!(find("b.eu.example", "/team", false), "eu");
        assert_eq!(find("api.eu.example", "/", false), "host");
        assert_eq!(find("api.eu.example", "/", true), "canary");
    }

    #[test]
    fn models_are_allowed_by_pattern() {
        let route = route("all", &[], "", &[]);
        assert!(route.allows("gpt-5") && !route.allows("claude"));
    }
}
