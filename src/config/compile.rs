//! From the schema to what runs: everything that a schema cannot say is checked here, all of it in one go.

mod access;
mod audit;
mod cluster;
mod limits;
mod listener;
mod model;
mod money;
mod policy;
mod provider;
mod route;
mod store;

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Diagnostics, Path, Place, Severity, nearest};
use super::schema::{self, Clocks, Config, Listener, LogFormat, LogLevel};
use super::source::{Data, Node, Origin};
use super::value::{Period, SecretRef, Timer};
use crate::clocks::{self, Overrides};
use crate::limit::{Book, Everyones};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::snapshot::{Cause, Causes, Intake, Log, Media, Overload, Process, Retry, Snapshot};
use crate::upstream::cluster::Cluster;
use crate::upstream::fetch::{self, Fetcher};

/// What a configuration refers to.
pub(super) struct Surroundings<'a> {
    /// The environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths start.
    pub(super) directory: PathBuf,
    /// Where systemd puts credentials.
    pub(super) credentials: Option<PathBuf>,
}

/// Clusters that are right, by name.
type Clusters = BTreeMap<String, Arc<Cluster>>;

/// Checks `config`, whose text is `tree`, and builds what runs, unless something was found that makes it unusable.
pub(super) fn compile(
    config: &Config,
    tree: &Node,
    surroundings: &Surroundings<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Snapshot> {
    let mut check = Check { tree, surroundings, diagnostics };
    let listeners = listener::listeners(config, &mut check);
    let admin = listener::admin(config, &mut check);
    check.intake(config);
    let clocks = clocks::Clocks::default().with(&check.clocks(&Path::root().key("clocks"), &config.clocks));
    let book = Arc::new(Book::shared(store::remote(config, &mut check)));
    let everyones =
        limits::limits(&config.limits.principal, &Path::root().key("limits").key("principal"), &mut check);
    check.positive(&Path::root().key("server").key("overload").key("delay"), config.server.overload.delay);
    let state = state(config, &check);
    let access = access::access(config, state.as_deref(), &mut check);
    let clusters = cluster::clusters(config, &book, &mut check);
    let aliases = model::aliases(config, (&clusters, &book), &mut check);
    let audit = audit::audit(config, &mut check);
    let routes = route::routes(config, &clusters, &mut check);
    check.unused_clusters(config);
    let prices = money::prices(config, &mut check);
    let ledger = money::ledger(config, state.as_deref(), &mut check);
    limits::forgotten(config, ledger.as_ref(), &mut check);
    if check.diagnostics.has_errors() {
        return None;
    }
    Some(Snapshot {
        listeners,
        admin,
        drain_file: config.server.drain_file.as_deref().map(|file| check.file(file)),
        state,
        process: Process {
            threads: config.server.threads as usize,
            lame_duck: config.server.lame_duck.0,
            drain: config.server.drain.0,
            overload: overload(&config.server.overload),
        },
        log: log(config),
        audit,
        intake: Intake {
            max_body: config.intake.max_body.0,
            timeout: config.intake.body_timeout.0,
            held: config.intake.held.0,
            decode: config.intake.decode,
            max_ratio: config.intake.max_ratio,
        },
        media: media(config),
        clocks,
        retry: retry(&config.retry),
        ledger: ledger?,
        prices: prices?,
        access: Arc::new(access),
        book,
        everyones: Everyones::new(everyones),
        shield: limits::shield(&config.limits.address),
        clusters: clusters.into_values().collect(),
        aliases,
        routes,
    })
}

/// Where the process keeps what must outlive it: as configured, or where systemd says.
fn state(config: &Config, check: &Check<'_>) -> Option<PathBuf> {
    let written = config.server.state.as_deref().map(|directory| check.file(directory));
    // Systemd lists several with colons between them.
    let systemd = || {
        let listed = (check.surroundings.env)("STATE_DIRECTORY")?;
        listed.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
    };
    written.or_else(systemd)
}

/// How files that a request names by URL are brought in.
fn media(config: &Config) -> Option<Media> {
    let media = &config.intake.media;
    let networks = listener::networks(&media.networks);
    let allowed = move |ip| fetch::is_public(ip) || networks.iter().any(|network| network.contains(ip));
    media.fetch.then(|| Media {
        fetcher: Arc::new(Fetcher::new("media", allowed)),
        most: usize::try_from(media.max_size.0).unwrap_or(usize::MAX),
        limit: media.timeout.0,
    })
}

fn log(config: &Config) -> Log {
    let level = match config.log.level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let format = match config.log.format {
        LogFormat::Json => crate::snapshot::LogFormat::Json,
        LogFormat::Text => crate::snapshot::LogFormat::Text,
    };
    Log { format, level: level.to_owned(), access: config.log.access }
}

fn overload(written: &schema::Overload) -> Overload {
    Overload { memory: written.memory.map(|size| size.0), files: written.files, delay: written.delay.0 }
}

/// The checks under way: what is being checked, and what was found.
struct Check<'a> {
    tree: &'a Node,
    surroundings: &'a Surroundings<'a>,
    diagnostics: &'a mut Diagnostics,
}

impl Check<'_> {
    /// Reports an error, unless the value is known to be wrong already.
    fn error(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if !self.diagnostics.already_wrong(path) {
            let place = self.tree.place_of(path);
            self.diagnostics.push(Diagnostic::error(place, path.clone(), message).help(help));
        }
    }

    /// Reports something that is allowed and probably not meant.
    fn warning(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if !self.diagnostics.already_wrong(path) {
            let place = self.tree.place_of(path);
            self.diagnostics.push(Diagnostic::warning(place, path.clone(), message).help(help));
        }
    }

    /// Whether an error was found in the value at this path, or in a part of it.
    fn wrong_below(&self, path: &Path) -> bool {
        let error = |found: &&Diagnostic| found.severity == Severity::Error && path.covers(&found.path);
        self.diagnostics.already_wrong(path) || self.diagnostics.iter().any(|found| error(&found))
    }

    /// Whether something was written at this path.
    fn written(&self, path: &Path) -> bool {
        self.tree.find(path).is_ok_and(|node| !matches!(node.data, Data::Null))
    }

    /// Where something stands, for pointing back at it.
    fn line(&self, path: &Path) -> String {
        match self.tree.place_of(path) {
            Place::File { line, .. } => format!("line {line}"),
            Place::Variable(name) => format!("${name}"),
            Place::Nowhere => "the default".to_owned(),
        }
    }

    /// Refuses a name that would not do in logs and metrics.
    fn name(&mut self, path: &Path, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let help = "write up to 64 letters, digits, `_`, `-` and `.`: it shows in logs and metrics";
            self.error(path, format!("{name:?} is not a name"), help);
        }
    }

    fn positive(&mut self, path: &Path, period: Period) {
        if period.0.is_zero() {
            self.error(path, "zero is too short", "write a time above zero");
        }
    }

    /// The secret itself, or nothing and a diagnostic.
    fn secret(&mut self, path: &Path, reference: &SecretRef) -> Option<Secret> {
        let secret = match reference {
            SecretRef::Literal(secret) => secret.clone(),
            SecretRef::Env(name) => match (self.surroundings.env)(name) {
                Some(value) => Secret::new(value),
                None => {
                    let help = format!("set {name} in the environment of the process");
                    self.error(path, format!("the environment variable {name} is not set"), help);
                    return None;
                }
            },
            SecretRef::File(file) => self.secret_file(path, file)?,
            SecretRef::Vault(_) => {
                let help =
                    "write `env:NAME` or `file:PATH`; `api_key` and `keys` of clusters can be in a Vault";
                self.error(path, "this cannot be read from a Vault", help);
                return None;
            }
        };
        let text = secret.expose();
        if secret.is_empty() {
            self.error(path, "the secret is empty", "put the secret where this points to");
            return None;
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            let help = "check it for line breaks, spaces at its ends and other invisible characters";
            self.error(path, "the secret holds characters that no secret has", help);
            return None;
        }
        Some(secret)
    }

    /// Warns of a secret that stands in the file itself. One that `${NAME}` brought in does not.
    fn warn_of_literal(&mut self, path: &Path, reference: &SecretRef) {
        let in_file = self
            .tree
            .find(path)
            .is_ok_and(|node| matches!(&node.data, Data::Scalar(scalar) if scalar.origin == Origin::Text));
        if matches!(reference, SecretRef::Literal(_)) && in_file {
            let help = "write `env:NAME` or `file:PATH`, and change the secret if others could read the file";
            self.warning(path, "a secret stands in the configuration", help);
        }
    }

    fn secret_file(&mut self, path: &Path, file: &FilePath) -> Option<Secret> {
        const MOST: u64 = 64 << 10;
        let file = self.credential(file);
        let read = std::fs::metadata(&file).and_then(|metadata| {
            if metadata.len() > MOST {
                return Err(std::io::Error::other("larger than 64 KiB"));
            }
            std::fs::read_to_string(&file)
        });
        match read {
            Ok(text) => Some(Secret::new(text)),
            Err(e) => {
                let help = "give a path that this user can read; a relative one is sought in systemd's credentials directory, then beside the configuration";
                self.error(path, format!("{}: {}", file.display(), plain(&e)), help);
                None
            }
        }
    }

    /// Where a file with a secret is.
    fn credential(&self, file: &FilePath) -> PathBuf {
        let credential = self.surroundings.credentials.as_ref().map(|directory| directory.join(file));
        match credential {
            Some(credential) if credential.exists() => credential,
            _ => self.surroundings.directory.join(file),
        }
    }

    /// Where any other file is.
    fn file(&self, file: &str) -> PathBuf {
        self.surroundings.directory.join(file)
    }

    /// Warns of patterns that no alias can ever match.
    fn known_models(&mut self, path: &Path, patterns: &[super::value::Pattern], config: &Config) {
        for (i, wanted) in patterns.iter().enumerate() {
            let aliases = config.models.keys().map(String::as_str);
            if !config.models.keys().any(|alias| overlap(&wanted.0, alias)) {
                let help = match nearest(&wanted.0, aliases) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "add it to `models`, or remove it here".to_owned(),
                };
                self.warning(&path.index(i), format!("no alias matches `{wanted}`"), help);
            }
        }
    }

    /// The cluster of that name, or a diagnostic. The name is known even if the cluster is wrong in itself.
    fn known_cluster(&mut self, path: &Path, name: &str, config: &Config) {
        if !config.clusters.contains_key(name) {
            let help = match nearest(name, config.clusters.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to `clusters`; there are: {}", list(config.clusters.keys())),
            };
            self.error(path, format!("there is no cluster `{name}`"), help);
        }
    }

    fn intake(&mut self, config: &Config) {
        let path = Path::root().key("intake");
        self.positive(&path.key("body_timeout"), config.intake.body_timeout);
        if config.intake.max_body.0 == 0 {
            self.error(&path.key("max_body"), "no body fits", "write a size above zero, such as `32MiB`");
        } else if config.intake.held < config.intake.max_body {
            let message =
                format!("less than max_body, {}: such a body could never be held", config.intake.max_body);
            self.error(&path.key("held"), message, "write a size of several bodies, such as `1GiB`");
        }
    }

    /// Checks clocks, and gives those that are set.
    fn clocks(&mut self, path: &Path, clocks: &Clocks) -> Overrides {
        let all = [
            ("connect", clocks.connect),
            ("tls", clocks.tls),
            ("write", clocks.write),
            ("head", clocks.head),
            ("first_token", clocks.first_token),
            ("gap", clocks.gap),
            ("attempt", clocks.attempt),
            ("exchange", clocks.exchange),
            ("client_write", clocks.client_write),
        ];
        for (key, period) in all {
            if let Some(period) = period {
                self.positive(&path.key(key), period);
            }
        }
        if let Some(Timer::Every(period)) = clocks.heartbeat
            && period.0 < Duration::from_millis(100)
        {
            self.error(&path.key("heartbeat"), "too often", "write at least `100ms`, or `off`");
        }
        if let (Some(attempt), Some(exchange)) = (clocks.attempt, clocks.exchange)
            && attempt > exchange
        {
            let message = format!("longer than the whole exchange, {exchange}, which ends it");
            self.warning(&path.key("attempt"), message, "raise `exchange` too");
        }
        let time = |period: Option<Period>| period.map(|period| period.0);
        Overrides {
            connect: time(clocks.connect),
            tls: time(clocks.tls),
            write: time(clocks.write),
            head: time(clocks.head),
            first_token: time(clocks.first_token),
            gap: time(clocks.gap),
            attempt: time(clocks.attempt),
            exchange: time(clocks.exchange),
            client_write: time(clocks.client_write),
            heartbeat: clocks.heartbeat.map(|timer| match timer {
                Timer::Off => None,
                Timer::Every(period) => Some(period.0),
            }),
        }
    }

    /// Warns of an edge that spends its owner's money for anyone, unless that was written on purpose.
    fn open_to_everyone(&mut self, config: &Config) {
        let paid =
            config.clusters.values().any(|cluster| cluster.api_key.is_some() || !cluster.keys.is_empty());
        let path = Path::root().key("keys");
        let from_file = matches!(self.tree.place, Place::File { .. });
        if !paid || !from_file || self.written(&path) {
            return;
        }
        let standard = [Listener::default()];
        let listeners = if config.listeners.is_empty() { &standard[..] } else { &config.listeners };
        if let Some(open) = listeners.iter().find(|listener| !listener.address.0.ip().is_loopback()) {
            let message =
                format!("anyone who can reach {} can spend the api_keys of your clusters", open.address);
            let help = "add `keys`, listen on 127.0.0.1, or write `anonymous: true` if that is meant";
            self.warning(&path, message, help);
        }
    }

    fn unused_clusters(&mut self, config: &Config) {
        // What is wrong there may be what names the cluster.
        if self.wrong_below(&Path::root().key("models")) || self.wrong_below(&Path::root().key("routes")) {
            return;
        }
        let deployments = config.models.values().flat_map(|model| &model.deployments);
        let mut used: Vec<&str> = deployments.map(|deployment| deployment.cluster.as_str()).collect();
        used.extend(config.routes.iter().filter_map(|route| route.cluster.as_deref()));
        for name in config.clusters.keys().filter(|name| !used.contains(&name.as_str())) {
            let path = Path::root().key("clusters").key(name);
            let help = "name it in a deployment of `models`, or in a raw route; or remove it";
            self.warning(&path, "nothing is ever sent to this cluster", help);
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// An I/O error without the number that the system gives it.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether some name matches both patterns. For two patterns with a star each it is whether their beginnings and
/// their ends agree.
fn overlap(a: &str, b: &str) -> bool {
    match (a.split_once('*'), b.split_once('*')) {
        (None, None) => a == b,
        (Some(_), None) => Pattern::parse(a).is_some_and(|pattern| pattern.matches(b)),
        (None, Some(_)) => Pattern::parse(b).is_some_and(|pattern| pattern.matches(a)),
        (Some((a, a_end)), Some((b, b_end))) => {
            (a.starts_with(b) || b.starts_with(a)) && (a_end.ends_with(b_end) || b_end.ends_with(a_end))
        }
    }
}

fn retry(retry: &schema::Retry) -> Retry {
    let cause = |cause: &schema::Cause| match cause {
        schema::Cause::Unsent => Cause::Unsent,
        schema::Cause::Broken => Cause::Broken,
        schema::Cause::Slow => Cause::Slow,
        schema::Cause::Failed => Cause::Failed,
        schema::Cause::Limited => Cause::Limited,
        schema::Cause::Unserved => Cause::Unserved,
        schema::Cause::Evicted => Cause::Evicted,
    };
    Retry {
        attempts: retry.attempts,
        delay: retry.delay.0,
        max_delay: retry.max_delay.0,
        budget: (retry.budget * 1000.0) as u32,
        causes: Causes::of(retry.on.iter().map(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_one_name_matches_both() {
        for (a, b) in
            [("gpt-*", "gpt-4"), ("gpt-4", "*"), ("gpt-*", "*-mini"), ("a", "a"), ("gpt-4*", "gpt-*")]
        {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("gpt-*", "claude-*"), ("a", "b"), ("*-mini", "*-large"), ("gpt-*", "o1")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
