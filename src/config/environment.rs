//! A configuration without a file, from the variables that users of such gateways expect.
//!
//! | variable | becomes |
//! |---|---|
//! | `SERVER_HOST`, `SERVER_PORT` | `listeners[0].address`, also beside a file that has no `listeners` |
//! | `METRICS_PORT` | the port of `admin.address`, also beside a file that has no `admin` |
//! | `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GOOGLE_API_KEY` | a cluster each, and aliases for its models |
//! | `AZURE_API_KEY` with `AZURE_ENDPOINT` | a cluster `azure` |
//! | `AWS_BEARER_TOKEN_BEDROCK`, or AWS credentials, with `AWS_REGION` | a cluster `bedrock`, through Converse |
//! | `CUSTOM_ENDPOINTS`, `CUSTOM_API_KEYS`, `CUSTOM_MODELS` | comma lists, the first of one belonging to the first of the others: a cluster each |
//! | `MAX_RETRIES` | `retry.attempts`, less the first one |
//! | `RETRY_DELAY` (seconds) | `retry.delay` |
//! | `CIRCUIT_BREAKER_THRESHOLD` | `breaker.failures` of every cluster; 0 turns its `failure_rate` off too |
//! | `CIRCUIT_BREAKER_TIMEOUT` (seconds) | `breaker.for` of every cluster; `breaker.max_for` too where it is longer than that |
//! | `HEALTH_CHECK_INTERVAL` (seconds) | `health.interval` of every cluster |
//! | `ENDPOINT_TIMEOUT` (seconds) | `clocks.head` and `clocks.first_token`: how long a client waits without anything; a stream is never cut for its length |
//! | `REDIS_URL` | `store.redis.urls` |
//! | `RATE_LIMIT_PER_MINUTE` | `limits.principal.requests_per_minute` |
//!
//! What comes out is the same tree that a file gives, and goes the same way through schema and checks; only that its
//! places are variables.

use super::diagnostic::{Diagnostic, Diagnostics, Path, Place};
use super::schema::Breaker;
use super::source::{Data, Entry, Form, Node, Origin, Scalar};

/// What stands for the name of the file in diagnostics.
pub const NAME: &str = "environment";

/// The environment, read one variable at a time. An empty variable is as good as none.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

const PROVIDERS: [Known; 3] = [
    Known {
        name: "openai",
        key: "OPENAI_API_KEY",
        aliases: &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*"],
    },
    Known { name: "anthropic", key: "ANTHROPIC_API_KEY", aliases: &["claude-*"] },
    Known { name: "google", key: "GOOGLE_API_KEY", aliases: &["gemini-*"] },
];

/// A provider that needs nothing but its key.
struct Known {
    name: &'static str,
    key: &'static str,
    aliases: &'static [&'static str],
}

/// The configuration that the environment describes.
pub fn tree(env: Env<'_>, diagnostics: &mut Diagnostics) -> Node {
    let mut fleet = Fleet::default();
    for known in &PROVIDERS {
        if set(env, known.key).is_some() {
            fleet.cluster(
                known.name,
                known.key,
                vec![
                    ("provider", scalar(known.key, known.name)),
                    ("api_key", scalar(known.key, &format!("env:{}", known.key))),
                ],
            );
            for alias in known.aliases {
                fleet.alias(alias, known.key, known.name, None);
            }
        }
    }
    azure(env, &mut fleet, diagnostics);
    custom(env, &mut fleet, diagnostics);
    bedrock(env, &mut fleet, diagnostics);
    if fleet.clusters.is_empty() && !diagnostics.has_errors() {
        diagnostics.push(nothing_configured());
    }
    fleet.catch_all();
    let mut root = policy(env);
    root.push(("clusters", mapping(fleet.with_policy(env))));
    root.push(("models", mapping(fleet.models)));
    let mut tree = Node { place: Place::Nowhere, data: Data::Mapping(entries(root)) };
    fill(&mut tree, env);
    tree
}

/// Puts the addresses that the environment names into a tree that says nothing of its own.
pub fn fill(tree: &mut Node, env: Env<'_>) {
    let Data::Mapping(root) = &mut tree.data else {
        return;
    };
    root.retain(|entry| !matches!(entry.value.data, Data::Null));
    let missing = |root: &[Entry], key: &str| !root.iter().any(|entry| entry.key == key);
    let (host, port) = (set(env, "SERVER_HOST"), set(env, "SERVER_PORT"));
    if missing(root, "listeners") && (host.is_some() || port.is_some()) {
        let name = if port.is_some() { "SERVER_PORT" } else { "SERVER_HOST" };
        let host = match host.as_deref() {
            None => "0.0.0.0".to_owned(),
            Some("localhost") => "127.0.0.1".to_owned(),
            Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            Some(host) => host.to_owned(),
        };
        let address = format!("{host}:{}", port.as_deref().unwrap_or("8080"));
        let listener = mapping(entries(vec![("address", scalar(name, &address))]));
        let list = Node { place: variable(name), data: Data::Sequence(vec![listener]) };
        root.extend(entries(vec![("listeners", list)]));
    }
    if missing(root, "admin")
        && let Some(port) = set(env, "METRICS_PORT")
    {
        let address = scalar("METRICS_PORT", &format!("127.0.0.1:{port}"));
        root.extend(entries(vec![("admin", mapping(entries(vec![("address", address)])))]));
    }
}

fn azure(env: Env<'_>, fleet: &mut Fleet, diagnostics: &mut Diagnostics) {
    match (set(env, "AZURE_API_KEY"), set(env, "AZURE_ENDPOINT")) {
        (Some(_), Some(endpoint)) => fleet.cluster(
            "azure",
            "AZURE_API_KEY",
            vec![
                ("provider", scalar("AZURE_API_KEY", "azure")),
                ("api_key", scalar("AZURE_API_KEY", "env:AZURE_API_KEY")),
                ("base_url", scalar("AZURE_ENDPOINT", &endpoint)),
            ],
        ),
        (Some(_), None) => diagnostics.push(
            wrong("AZURE_API_KEY", "set without AZURE_ENDPOINT")
                .help("set AZURE_ENDPOINT to your resource, such as https://NAME.openai.azure.com"),
        ),
        (None, Some(_)) => diagnostics
            .push(wrong("AZURE_ENDPOINT", "set without AZURE_API_KEY").help("set AZURE_API_KEY to its key")),
        (None, None) => {}
    }
}

/// Bedrock, with an API key or with AWS credentials, through Converse, which reaches every model there.
fn bedrock(env: Env<'_>, fleet: &mut Fleet, diagnostics: &mut Diagnostics) {
    const TOKEN: &str = "AWS_BEARER_TOKEN_BEDROCK";
    const SIGNING: [&str; 4] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let has_token = set(env, TOKEN).is_some();
    let signing = || SIGNING.into_iter().find(|name| set(env, name).is_some());
    let Some(from) = Some(TOKEN).filter(|_| has_token).or_else(signing) else { return };
    let Some(region) = set(env, "AWS_REGION").or_else(|| set(env, "AWS_DEFAULT_REGION")) else {
        // On a machine in AWS its credentials may be meant for something else, which must not stop the rest.
        let is_meant = has_token || fleet.clusters.is_empty();
        let severity = if is_meant { Diagnostic::error } else { Diagnostic::warning };
        let message = "set without AWS_REGION".to_owned();
        let help = "set AWS_REGION, such as us-east-1";
        diagnostics.push(severity(variable(from), Path::root(), message).help(help));
        return;
    };
    let mut fields =
        vec![("provider", scalar(from, "bedrock-converse")), ("region", scalar("AWS_REGION", &region))];
    if has_token {
        fields.push(("api_key", scalar(TOKEN, &format!("env:{TOKEN}"))));
    }
    fleet.cluster("bedrock", from, fields);
}

fn custom(env: Env<'_>, fleet: &mut Fleet, diagnostics: &mut Diagnostics) {
    let list = |name: &str| -> Vec<String> {
        let value = set(env, name).unwrap_or_default();
        if value.is_empty() {
            Vec::new()
        } else {
            value.split(',').map(|part| part.trim().to_owned()).collect()
        }
    };
    let urls = list("CUSTOM_ENDPOINTS");
    let (keys, models) = (list("CUSTOM_API_KEYS"), list("CUSTOM_MODELS"));
    for (name, list) in [("CUSTOM_API_KEYS", &keys), ("CUSTOM_MODELS", &models)] {
        if !list.is_empty() && list.len() != urls.len() {
            let message = format!("a list of {}, but CUSTOM_ENDPOINTS is one of {}", list.len(), urls.len());
            let help = "give one for each endpoint, in the same order; one may be empty, as in `a,,c`";
            diagnostics.push(wrong(name, &message).help(help));
        }
    }
    for (i, url) in urls.iter().enumerate() {
        let name = if urls.len() == 1 { "custom".to_owned() } else { format!("custom-{}", i + 1) };
        let mut fields = vec![
            ("provider", scalar("CUSTOM_ENDPOINTS", "compatible")),
            ("base_url", scalar("CUSTOM_ENDPOINTS", url)),
        ];
        if let Some(key) = keys.get(i).filter(|key| !key.is_empty()) {
            fields.push(("api_key", scalar("CUSTOM_API_KEYS", key)));
        }
        fleet.cluster(&name, "CUSTOM_ENDPOINTS", fields);
        if let Some(model) = models.get(i).filter(|model| !model.is_empty()) {
            fleet.alias(model, "CUSTOM_MODELS", &name, None);
        }
    }
}

/// Everything that is neither a cluster nor a model.
fn policy(env: Env<'_>) -> Vec<(&'static str, Node)> {
    let mut root = Vec::new();
    let mut retry = Vec::new();
    if let Some(retries) = set(env, "MAX_RETRIES") {
        let attempts = retries.parse::<u32>().map_or(retries, |retries| (u64::from(retries) + 1).to_string());
        retry.push(("attempts", scalar("MAX_RETRIES", &attempts)));
    }
    retry.extend(seconds(env, "RETRY_DELAY").map(|delay| ("delay", delay)));
    root.push(("retry", mapping(entries(retry))));
    if let Some(timeout) = seconds(env, "ENDPOINT_TIMEOUT") {
        let clocks = vec![("head", timeout.clone()), ("first_token", timeout)];
        root.push(("clocks", mapping(entries(clocks))));
    }
    if set(env, "REDIS_URL").is_some() {
        // It may hold a password.
        let url = scalar("REDIS_URL", "env:REDIS_URL");
        let urls = Node { place: variable("REDIS_URL"), data: Data::Sequence(vec![url]) };
        let redis = mapping(entries(vec![("urls", urls)]));
        root.push(("store", mapping(entries(vec![("redis", redis)]))));
    }
    if let Some(rate) = set(env, "RATE_LIMIT_PER_MINUTE").filter(|rate| rate != "0") {
        let rate = scalar("RATE_LIMIT_PER_MINUTE", &rate);
        let principal = mapping(entries(vec![("requests_per_minute", rate)]));
        root.push(("limits", mapping(entries(vec![("principal", principal)]))));
    }
    root
}

/// Clusters and models as they come together.
#[derive(Default)]
struct Fleet {
    clusters: Vec<Entry>,
    models: Vec<Entry>,
}

impl Fleet {
    /// Adds a cluster, and the alias `NAME/*` that reaches any of its models.
    fn cluster(&mut self, name: &str, variable_name: &str, fields: Vec<(&'static str, Node)>) {
        self.clusters.push(entry(name, variable_name, mapping(entries(fields))));
        self.alias(&format!("{name}/*"), variable_name, name, Some("*"));
    }

    /// Adds a deployment to an alias, which may be new.
    fn alias(&mut self, alias: &str, variable_name: &str, cluster: &str, model: Option<&str>) {
        let mut fields = vec![("cluster", scalar(variable_name, cluster))];
        fields.extend(model.map(|model| ("model", scalar(variable_name, model))));
        let deployment = mapping(entries(fields));
        if let Some(deployments) = self.deployments(alias) {
            deployments.push(deployment);
            return;
        }
        let list = Node { place: variable(variable_name), data: Data::Sequence(vec![deployment]) };
        self.models.push(entry(alias, variable_name, mapping(entries(vec![("deployments", list)]))));
    }

    fn deployments(&mut self, alias: &str) -> Option<&mut Vec<Node>> {
        let model = self.models.iter_mut().find(|entry| entry.key == alias)?;
        match &mut model.value.data {
            Data::Mapping(fields) => match &mut fields.first_mut()?.value.data {
                Data::Sequence(deployments) => Some(deployments),
                _ => None,
            },
            _ => None,
        }
    }

    /// With one cluster there is no question where an unknown name goes.
    fn catch_all(&mut self) {
        if let [only] = self.clusters.as_slice() {
            let (name, place) = (only.key.clone(), only.place.clone());
            if let Place::Variable(variable_name) = place {
                self.alias("*", &variable_name, &name, None);
            }
        }
    }

    /// The clusters, each with what the environment says of all of them.
    fn with_policy(&self, env: Env<'_>) -> Vec<Entry> {
        let mut clusters = self.clusters.clone();
        for cluster in &mut clusters {
            let Data::Mapping(fields) = &mut cluster.value.data else {
                continue;
            };
            let breaker = breaker(env);
            if !breaker.is_empty() {
                fields.extend(entries(vec![("breaker", mapping(entries(breaker)))]));
            }
            if let Some(interval) = seconds(env, "HEALTH_CHECK_INTERVAL") {
                fields.extend(entries(vec![("health", mapping(entries(vec![("interval", interval)])))]));
            }
        }
        clusters
    }
}

/// What the environment says of every cluster's breaker.
fn breaker(env: Env<'_>) -> Vec<(&'static str, Node)> {
    const THRESHOLD: &str = "CIRCUIT_BREAKER_THRESHOLD";
    let mut fields = Vec::new();
    if let Some(failures) = set(env, THRESHOLD) {
        if failures == "0" {
            fields.push(("failure_rate", scalar(THRESHOLD, "0")));
        }
        fields.push(("failures", scalar(THRESHOLD, &failures)));
    }
    const TIMEOUT: &str = "CIRCUIT_BREAKER_TIMEOUT";
    if let Some(period) = seconds(env, TIMEOUT) {
        let longest = Breaker::default().max_for.0.as_secs_f64();
        let is_longer =
            set(env, TIMEOUT).and_then(|text| text.parse().ok()).is_some_and(|own: f64| own > longest);
        if is_longer {
            fields.push(("max_for", period.clone()));
        }
        fields.push(("for", period));
    }
    fields
}

fn nothing_configured() -> Diagnostic {
    let message = "no provider and no endpoint is configured";
    Diagnostic::error(Place::Nowhere, Path::root(), message).help(
        "set at least one of OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY,\n\
         AZURE_API_KEY with AZURE_ENDPOINT, AWS_BEARER_TOKEN_BEDROCK with AWS_REGION, CUSTOM_ENDPOINTS,\n\
         or give a configuration file; conf/forebay.yaml is a small one",
    )
}

fn set(env: Env<'_>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A variable in seconds as a duration. Anything that is not a number is left for the schema to judge, so that
/// `500ms` works too.
fn seconds(env: Env<'_>, name: &str) -> Option<Node> {
    let value = set(env, name)?;
    let text = match value.parse::<f64>() {
        Ok(seconds) if (0.0..1e9).contains(&seconds) => format!("{}ms", (seconds * 1000.0).round()),
        _ => value,
    };
    Some(scalar(name, &text))
}

fn wrong(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(variable(name), Path::root(), message)
}

fn variable(name: &str) -> Place {
    Place::Variable(name.to_owned())
}

fn scalar(name: &str, text: &str) -> Node {
    let scalar = Scalar { text: text.to_owned(), form: Form::Plain, origin: Origin::Environment };
    Node { place: variable(name), data: Data::Scalar(scalar) }
}

fn mapping(entries: Vec<Entry>) -> Node {
    let place = entries.first().map(|entry| entry.value.place.clone()).unwrap_or_default();
    Node { place, data: Data::Mapping(entries) }
}

fn entries(fields: Vec<(&str, Node)>) -> Vec<Entry> {
    let entry = |(key, value): (&str, Node)| Entry { key: key.to_owned(), place: value.place.clone(), value };
    fields.into_iter().map(entry).collect()
}

fn entry(key: &str, name: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), place: variable(name), value }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Loaded, load, load_text};
    use crate::provider::credential::Source;
    use crate::route::alias::UpstreamModel;

    fn read(variables: &[(&str, &str)]) -> Result<Loaded, String> {
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        load(None, &env).map_err(|diagnostics| diagnostics.to_string())
    }

    fn goes_to(loaded: &Loaded, model: &str) -> Option<(String, Option<String>)> {
        let (alias, star) = loaded.snapshot.aliases.find(model)?;
        let deployment = alias.deployments.first()?;
        Some((deployment.cluster.name().to_owned(), deployment.model.resolve(star)))
    }

    #[test]
    fn one_key_is_a_whole_configuration() {
        let loaded = read(&[("OPENAI_API_KEY", "sk-1")]).unwrap();
        let snapshot = &loaded.snapshot;
        assert!(loaded.warnings.is_empty());
        assert_eq!(snapshot.listeners[0].address, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(snapshot.admin.address, "127.0.0.1:9090".parse().unwrap());
        for model in ["gpt-5", "o3-mini", "anything"] {
            assert_eq!(goes_to(&loaded, model), Some(("openai".into(), None)), "{model}");
        }
        assert_eq!(goes_to(&loaded, "openai/gpt-5"), Some(("openai".into(), Some("gpt-5".into()))));
    }

    #[test]
    fn several_providers_share_no_catch_all() {
        let loaded = read(&[
            ("ANTHROPIC_API_KEY", "sk-1"),
            ("GOOGLE_API_KEY", "sk-2"),
            ("AZURE_API_KEY", "sk-3"),
            ("AZURE_ENDPOINT", "https://x.openai.azure.com/"),
            ("AWS_BEARER_TOKEN_BEDROCK", "sk-4"),
            ("AWS_REGION", "eu-west-1"),
        ])
        .unwrap();
        assert_eq!(goes_to(&loaded, "claude-opus-5"), Some(("anthropic".into(), None)));
        assert_eq!(goes_to(&loaded, "gemini-3-pro"), Some(("google".into(), None)));
        assert_eq!(goes_to(&loaded, "azure/gpt-5"), Some(("azure".into(), Some("gpt-5".into()))));
        assert_eq!(goes_to(&loaded, "llama"), None);
        let origin = |name: &str| {
            let cluster = loaded.snapshot.clusters.iter().find(|cluster| cluster.name() == name).unwrap();
            let origin = cluster.spec.endpoints[0].origin.clone();
            format!("{origin}{}", origin.prefix)
        };
        assert_eq!(origin("azure"), "https://x.openai.azure.com/openai/v1");
        assert_eq!(origin("bedrock"), "https://bedrock-runtime.eu-west-1.amazonaws.com");
    }

    #[test]
    fn custom_endpoints_of_one_model_share_its_alias() {
        let loaded = read(&[
            ("CUSTOM_ENDPOINTS", "http://10.0.0.1:8000/v1, http://10.0.0.2:8000/v1"),
            ("CUSTOM_API_KEYS", ",sk-2"),
            ("CUSTOM_MODELS", "llama,llama"),
        ])
        .unwrap();
        let (alias, _) = loaded.snapshot.aliases.find("llama").unwrap();
        let clusters: Vec<_> = alias.deployments.iter().map(|deployment| deployment.cluster.name()).collect();
        assert_eq!(clusters, ["custom-1", "custom-2"]);
        assert_eq!(alias.deployments[0].model, UpstreamModel::AsSent);
        let headers = |i: usize| loaded.snapshot.clusters[i].spec.headers.len();
        assert_eq!((headers(0), headers(1)), (0, 1));
    }

    #[test]
    fn policies_are_taken_over() {
        let loaded = read(&[
            ("OPENAI_API_KEY", "sk-1"),
            ("SERVER_HOST", "localhost"),
            ("SERVER_PORT", "9000"),
            ("METRICS_PORT", "9001"),
            ("MAX_RETRIES", "4"),
            ("RETRY_DELAY", "0.25"),
            ("CIRCUIT_BREAKER_THRESHOLD", "7"),
            ("CIRCUIT_BREAKER_TIMEOUT", "900"),
            ("HEALTH_CHECK_INTERVAL", "45"),
            ("ENDPOINT_TIMEOUT", "90"),
            ("RATE_LIMIT_PER_MINUTE", "0"),
            ("REDIS_URL", "redis://:secret@10.0.0.7/2"),
        ])
        .unwrap();
        let snapshot = &loaded.snapshot;
        assert_eq!(snapshot.listeners[0].address, "127.0.0.1:9000".parse().unwrap());
        let urls = &snapshot.book.remote().unwrap().client().spec().urls;
        assert_eq!(urls[0].expose(), "redis://:secret@10.0.0.7/2");
        assert_eq!(snapshot.admin.address, "127.0.0.1:9001".parse().unwrap());
        assert_eq!((snapshot.retry.attempts, snapshot.retry.delay), (5, Duration::from_millis(250)));
        assert_eq!(
            (snapshot.clocks.head, snapshot.clocks.first_token),
            (Duration::from_secs(90), Duration::from_secs(90))
        );
        let spec = &snapshot.clusters[0].spec;
        assert_eq!((spec.breaker.failures, spec.probing.interval), (7, Duration::from_secs(45)));
        let longest = Duration::from_secs(900);
        assert_eq!(
            (spec.breaker.open, spec.breaker.longest, spec.breaker.failure_rate),
            (longest, longest, 0.5)
        );
        let off = read(&[("OPENAI_API_KEY", "sk-1"), ("CIRCUIT_BREAKER_THRESHOLD", "0")]).unwrap();
        let breaker = off.snapshot.clusters[0].spec.breaker;
        assert_eq!((breaker.failures, breaker.failure_rate, breaker.open.as_secs()), (0, 0.0, 60));
    }

    #[test]
    fn addresses_hold_beside_a_file_that_names_none() {
        let env = |name: &str| (name == "SERVER_PORT").then(|| "9000".to_owned());
        let fleet = "clusters: {a: {provider: vllm, endpoints: [\"http://10.0.0.1:8000\"]}}\nmodels: {m: {deployments: [{cluster: a}]}}\n";
        let address = |text: &str| {
            load_text(text, std::path::Path::new("t.yaml"), &env).unwrap().snapshot.listeners[0].address
        };
        assert_eq!(address(fleet), "0.0.0.0:9000".parse().unwrap());
        let own = format!("{fleet}listeners: [{{address: 127.0.0.1:7000}}]\n");
        assert_eq!(address(&own), "127.0.0.1:7000".parse().unwrap());
    }

    #[test]
    fn aws_credentials_need_a_region_and_are_no_error_beside_others() {
        let signed = read(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_REGION", "eu-west-1")]).unwrap();
        let spec = &signed.snapshot.clusters[0].spec;
        assert_eq!((spec.name.as_str(), spec.headers.len()), ("bedrock", 0));
        assert!(matches!(&spec.credential, Source::Aws { region, .. } if region == "eu-west-1"));
        let alone = read(&[("AWS_ACCESS_KEY_ID", "AKIA")]).unwrap_err();
        assert!(alone.contains("$AWS_ACCESS_KEY_ID: error:") && alone.contains("AWS_REGION"), "{alone}");
        let beside = read(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("OPENAI_API_KEY", "sk-1")]).unwrap();
        assert!(beside.warnings.to_string().contains("$AWS_ACCESS_KEY_ID: warning:"));
    }
}
