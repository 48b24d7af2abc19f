//! Who may call: keys, teams, identity providers, certificates.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{Check, Surroundings, limits, list, route};
use crate::access::certificate::Rule;
use crate::access::grants::{ANONYMOUS, Endpoints, Grants, Group, Known, Principal, Rank};
use crate::access::key::Hash;
use crate::access::shield::Bound;
use crate::access::table::{Kept, Keyed, Origin};
use crate::access::token::claims::{Groups, Places};
use crate::access::token::jwks::Algorithm;
use crate::access::token::{Issuer, IssuerSpec};
use crate::access::{Access, AccessSpec, Anonymous};
use crate::config::diagnostic::{Diagnostic, Diagnostics, Path, nearest};
use crate::config::schema::{self, Config};
use crate::config::value::{self, KeyHash, Moment, SecretRef, Timer};
use crate::config::{key_path, shape, source};
use crate::dialect::Operation;
use crate::pattern::Pattern;

/// The file of the state directory in which operators' keys are kept.
const STORE: &str = "keys.json";

/// Who may call.
pub(super) fn access(config: &Config, state: Option<&FilePath>, check: &mut Check<'_>) -> Access {
    let groups = groups(config, check);
    let keys = keys(&config.keys, config, &groups, check);
    let root = Path::root().key("access");
    let issuers = config.access.jwt.iter();
    let issuers: Vec<_> = issuers
        .map(|(name, issuer)| self::issuer(name, issuer, &groups, &root.key("jwt").key(name), check))
        .collect();
    alike(config, &root.key("jwt"), check);
    let rules = config.access.certificates.iter().enumerate();
    let certificates: Vec<_> = rules
        .map(|(i, rule)| certificate(rule, config, &groups, &root.key("certificates").index(i), check))
        .collect();
    if !certificates.is_empty() && !config.listeners.iter().any(shows_certificates) {
        let help = "give a listener `tls.client_ca`";
        check.warning(&root.key("certificates"), "no listener asks clients for a certificate", help);
    }
    let file = config.access.keys_file.as_deref().map(|file| check.file(file));
    let store = state.map(|state| state.join(STORE));
    let has_store = store.as_ref().is_some_and(|store| store.exists());
    let anyone = !config.keys.is_empty()
        || file.is_some()
        || has_store
        || !issuers.is_empty()
        || !certificates.is_empty();
    let anonymous = anonymous(config, anyone, store.is_some(), check);
    let guessing = &config.access.guessing;
    let bound = match guessing.window {
        Timer::Off => None,
        Timer::Every(window) => {
            check.positive(&root.key("guessing").key("window"), window);
            Some(Bound { failures: guessing.failures, window: window.0 })
        }
    };
    let reader = Outside {
        config: config.clone(),
        groups,
        directory: check.surroundings.directory.clone(),
        credentials: check.surroundings.credentials.clone(),
    };
    let reader = Box::new(move |text: &str, origin, path: &FilePath| reader.read(text, origin, path));
    let spec = AccessSpec { keys, issuers, certificates, anonymous, bound, file, store, reader };
    let access = Access::new(spec);
    read_outside(&access, check);
    access
}

fn shows_certificates(listener: &schema::Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// Whether callers without a credential are served. `anyone` says whether there is any other caller.
fn anonymous(config: &Config, anyone: bool, has_store: bool, check: &mut Check<'_>) -> Anonymous {
    let path = Path::root().key("anonymous");
    match config.anonymous {
        Some(true) => {
            if anyone {
                let help = "remove `anonymous: true` to ask everyone for a key";
                let message = "a request without a key may use every model, whatever the keys allow";
                check.warning(&path, message, help);
            }
            Anonymous::Always
        }
        Some(false) => {
            if !anyone && !has_store {
                let help = "add keys, or remove `anonymous: false`";
                check.error(&path, "without keys nobody could be served", help);
            }
            Anonymous::Never
        }
        None if anyone => Anonymous::Never,
        None => {
            check.open_to_everyone(config);
            Anonymous::UntilKeys
        }
    }
}

/// Reads what stands in files of its own.
fn read_outside(access: &Access, check: &mut Check<'_>) {
    let files = [(Origin::File, access.file()), (Origin::Store, access.store())];
    for (origin, file) in files.into_iter().filter_map(|(origin, file)| Some((origin, file?))) {
        let path = match origin {
            Origin::Store => Path::root().key("server").key("state"),
            _ => Path::root().key("access").key("keys_file"),
        };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            // There are no keys in it yet.
            Err(error) if origin == Origin::Store && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let help = "give a file that this user can read, with `keys:` in it";
                check.error(&path, format!("{}: {}", file.display(), super::plain(&error)), help);
                continue;
            }
        };
        match access.read(&text, origin, file) {
            Err(why) => check.error(&path, format!("{} cannot be used", file.display()), why),
            Ok(keys) => {
                for name in access.replace(origin, keys) {
                    let message = format!("`{name}` in {} is passed over", file.display());
                    check.warning(&path, message, "its name or its key is another's already");
                }
            }
        }
    }
}

// === groups ===

fn groups(config: &Config, check: &mut Check<'_>) -> Groups {
    let mut groups = Groups::default();
    for (name, written) in &config.organisations {
        let path = Path::root().key("organisations").key(name);
        if written.organisation.is_some() {
            check.error(&path.key("organisation"), "an organisation is part of no other", "remove it");
        }
        let group = group(name, Rank::Organisation, None, written, &path, config, check);
        groups.organisations.insert(name.clone(), Arc::new(group));
    }
    for (name, written) in &config.teams {
        let path = Path::root().key("teams").key(name);
        let wanted = written.organisation.as_deref();
        let parent = wanted.and_then(|wanted| {
            let path = path.key("organisation");
            let known = groups.organisations.get(wanted).cloned();
            if known.is_none() {
                unknown(&path, "organisation", wanted, config.organisations.keys(), check);
            }
            known
        });
        let group = group(name, Rank::Team, parent, written, &path, config, check);
        groups.teams.insert(name.clone(), Arc::new(group));
    }
    groups
}

fn group(
    name: &str,
    rank: Rank,
    parent: Option<Arc<Group>>,
    written: &schema::Group,
    path: &Path,
    config: &Config,
    check: &mut Check<'_>,
) -> Group {
    check.name(path, name);
    let grants = grants(&written.grants, path, config, check);
    Group { name: Arc::from(name), rank, parent, grants, bound: OnceLock::new() }
}

fn unknown<'a>(
    path: &Path,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a String> + Clone,
    check: &mut Check<'_>,
) {
    let help = match nearest(name, known.clone().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add it to `{what}s`; there are: {}", list(known)),
    };
    check.error(path, format!("there is no {what} `{name}`"), help);
}

/// The team of that name, or a diagnostic.
fn team(
    wanted: Option<&String>,
    config: &Config,
    groups: &Groups,
    path: &Path,
    check: &mut Check<'_>,
) -> Option<Arc<Group>> {
    let wanted = wanted?;
    let known = groups.teams.get(wanted).cloned();
    if known.is_none() {
        unknown(path, "team", wanted, config.teams.keys(), check);
    }
    known
}

fn patterns(written: &[value::Pattern]) -> Vec<Pattern> {
    written.iter().filter_map(pattern).collect()
}

fn pattern(written: &value::Pattern) -> Option<Pattern> {
    Pattern::parse(&written.0)
}

fn grants(written: &schema::Grants, path: &Path, config: &Config, check: &mut Check<'_>) -> Grants {
    check.known_models(&path.key("models"), &written.models, config);
    if written.max_body.is_some_and(|size| size.0 == 0) {
        check.error(&path.key("max_body"), "no body fits", "write a size above zero, such as `1MiB`");
    }
    for (i, wanted) in written.routes.iter().flatten().enumerate() {
        let routes = || config.routes.iter().map(|route| route.name.as_str());
        // Without any there is one of that name.
        let fits = |name: &str| pattern(wanted).is_some_and(|pattern| pattern.matches(name));
        let is_there = routes().any(fits) || (config.routes.is_empty() && fits("default"));
        if !is_there {
            let help = match nearest(&wanted.0, routes()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write the `name` of a route".to_owned(),
            };
            check.warning(&path.key("routes").index(i), format!("no route is called `{wanted}`"), help);
        }
    }
    Grants {
        models: patterns(&written.models),
        routes: written.routes.as_deref().map(patterns),
        endpoints: written.endpoints.as_ref().map_or(Endpoints::ALL, |endpoints| {
            Endpoints::of(endpoints.iter().map(|endpoint| operation(*endpoint)))
        }),
        tools: written.tools,
        max_body: written.max_body.map(|size| size.0),
        max_output: written.max_output_tokens.map(u64::from),
        regions: route::permit(&written.regions, &path.key("regions"), config, check),
        priority: written.priority.map(route::priority),
        spill: written.spill,
        limits: limits::of((&written.limits, &written.model_limits), path, check),
        explain: written.explain,
    }
}

fn operation(endpoint: schema::Callable) -> Option<Operation> {
    use schema::Callable;
    Some(match endpoint {
        Callable::ChatCompletions => Operation::ChatCompletions,
        Callable::Completions => Operation::Completions,
        Callable::Embeddings => Operation::Embeddings,
        Callable::Responses => Operation::Responses,
        Callable::Messages => Operation::Messages,
        Callable::GenerateContent => Operation::GenerateContent,
        Callable::Converse => Operation::Converse,
        Callable::Rerank => Operation::Rerank,
        Callable::Raw => return None,
    })
}

// === keys ===

/// Principals by name, below `keys`.
fn keys(
    written: &BTreeMap<String, schema::Key>,
    config: &Config,
    groups: &Groups,
    check: &mut Check<'_>,
) -> Vec<Keyed> {
    let mut taken: Vec<(Hash, String)> = Vec::new();
    let mut all = Vec::new();
    for (name, key) in written {
        let path = Path::root().key("keys").key(name);
        check.name(&path, name);
        if name == ANONYMOUS {
            check.error(&path, "this is the name of everyone without a key", "choose another name");
        }
        let mut grants = grants(&key.grants, &path, config, check);
        let own = (&key.grants.limits, &key.grants.model_limits);
        grants.limits = limits::of_principal(own, &config.limits.principal);
        let group = team(key.team.as_ref(), config, groups, &path.key("team"), check);
        let first = Written { key: key.key.as_ref(), hash: key.hash, expires: key.expires };
        let mut secrets: Vec<_> = first.kept(&path, name, &mut taken, check).into_iter().collect();
        for (i, previous) in key.previous.iter().enumerate() {
            let path = path.key("previous").index(i);
            let other =
                Written { key: previous.key.as_ref(), hash: previous.hash, expires: previous.expires };
            secrets.extend(other.kept(&path, name, &mut taken, check));
        }
        let name: Arc<str> = Arc::from(name.as_str());
        let principal = Principal {
            label: Arc::clone(&name),
            name,
            known: Known::Key,
            group,
            tags: key.tags.clone(),
            metadata: key.metadata.clone().into_iter().collect(),
            grants,
            claimed: None,
            bound: OnceLock::new(),
        };
        all.push(Keyed { principal: Arc::new(principal), secrets, enabled: key.enabled });
    }
    all
}

/// A key as it is written.
struct Written<'a> {
    key: Option<&'a SecretRef>,
    hash: Option<KeyHash>,
    expires: Option<Moment>,
}

impl Written<'_> {
    /// What is kept of it, or nothing and a diagnostic.
    fn kept(
        &self,
        path: &Path,
        name: &str,
        taken: &mut Vec<(Hash, String)>,
        check: &mut Check<'_>,
    ) -> Option<Kept> {
        let (hash, at) = match (self.key, self.hash) {
            (Some(_), Some(_)) => {
                let help = "keep one of the two";
                check.error(&path.key("hash"), "the key itself is written, too", help);
                return None;
            }
            (None, None) => {
                let help = "write `key: env:NAME`, `key: file:PATH` or `hash: sha256:...`; `forebay key new` makes a key";
                check.error(&path.key("key"), "missing: neither the key nor its hash is written", help);
                return None;
            }
            (None, Some(hash)) => (hash.0, path.key("hash")),
            (Some(key), None) => {
                let path = path.key("key");
                let secret = check.secret(&path, key)?;
                check.warn_of_literal(&path, key);
                if secret.expose().len() < 16 {
                    let message = "a key of less than 16 characters can be guessed";
                    check.warning(&path, message, "make one with `forebay key new`");
                }
                (Hash::of(secret.expose().as_bytes()), path)
            }
        };
        if let Some((_, first)) = taken.iter().find(|(other, _)| *other == hash) {
            let message = format!("the same key as that of `{first}`");
            check.error(&at, message, "give each principal a key of its own");
            return None;
        }
        taken.push((hash, name.to_owned()));
        Some(Kept { hash, expires: self.expires.map(|moment| moment.0) })
    }
}

/// What is needed to read keys that stand elsewhere, at any time.
struct Outside {
    config: Config,
    groups: Groups,
    directory: PathBuf,
    credentials: Option<PathBuf>,
}

impl Outside {
    fn read(&self, text: &str, origin: Origin, path: &FilePath) -> Result<Vec<Keyed>, String> {
        let is_store = origin == Origin::Store;
        // What operators send is taken as it is: a `${NAME}` in it must not bring the environment in.
        let env = |name: &str| std::env::var(name).ok().filter(|_| !is_store);
        let mut diagnostics = Diagnostics::new(path.display().to_string());
        let read = self.keys(text, &env, is_store, &mut diagnostics);
        match read {
            Some(keys) if !diagnostics.has_errors() => Ok(keys),
            _ => Err(format!("{diagnostics}{}", diagnostics.summary())),
        }
    }

    fn keys(
        &self,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
        is_store: bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Keyed>> {
        let tree = source::parse(text, env, diagnostics)?;
        let schema = schemars::schema_for!(schema::KeysFile).to_value();
        let value = shape::conform(&tree, &schema, diagnostics);
        let file: schema::KeysFile = match serde_path_to_error::deserialize(value) {
            Ok(file) => file,
            Err(error) => {
                let path = key_path(error.path());
                let place = tree.place_of(&path);
                let wrong = Diagnostic::error(place, path, error.inner().to_string());
                diagnostics.push(wrong);
                return None;
            }
        };
        let surroundings =
            Surroundings { env, directory: self.directory.clone(), credentials: self.credentials.clone() };
        let mut check = Check { tree: &tree, surroundings: &surroundings, diagnostics };
        if is_store {
            no_secrets(&file, &mut check);
        }
        Some(keys(&file.keys, &self.config, &self.groups, &mut check))
    }
}

/// The store holds hashes and nothing else.
fn no_secrets(file: &schema::KeysFile, check: &mut Check<'_>) {
    for (name, key) in &file.keys {
        let path = Path::root().key("keys").key(name);
        let previous = key.previous.iter().any(|previous| previous.key.is_some());
        if key.key.is_some() || previous {
            check.error(&path.key("key"), "a key itself is kept nowhere", "write its `hash`");
        }
    }
}

// === tokens and certificates ===

fn issuer(
    name: &str,
    written: &schema::Issuer,
    groups: &Groups,
    path: &Path,
    check: &mut Check<'_>,
) -> Arc<Issuer> {
    check.name(path, name);
    check.positive(&path.key("refresh"), written.refresh);
    check.positive(&path.key("min_refresh"), written.min_refresh);
    if written.issuer.is_empty() {
        check.error(&path.key("issuer"), "an empty issuer", "write what its tokens say in `iss`");
    }
    if written.jwks.is_none()
        && !written.issuer.starts_with("https://")
        && !written.issuer.starts_with("http://")
    {
        let help = "give `jwks`, where its public keys are";
        check.error(&path.key("jwks"), "missing: the issuer is no URL that could be asked", help);
    }
    if written.audiences.is_empty() {
        let help =
            "name what its tokens must say in `aud`, or those made for any other service are taken here";
        check.error(&path.key("audiences"), "an empty list", help);
    }
    let known = written.team.as_ref().and_then(|team| groups.teams.get(team).cloned());
    if let (Some(wanted), None) = (&written.team, &known) {
        let names: Vec<String> = groups.teams.keys().cloned().collect();
        unknown(&path.key("team"), "team", wanted, names.iter(), check);
    }
    let algorithms = match &written.algorithms {
        None => Algorithm::ALL.to_vec(),
        Some(written) => written.iter().map(|one| algorithm(*one)).collect(),
    };
    Arc::new(Issuer::new(IssuerSpec {
        name: Arc::from(name),
        issuer: written.issuer.clone(),
        jwks: written.jwks.as_ref().map(ToString::to_string),
        audiences: written.audiences.clone(),
        algorithms,
        scopes: written.scopes.clone(),
        skew: written.skew.0,
        refresh: written.refresh.0,
        least: written.min_refresh.0,
        places: Places {
            name: written.name_claim.clone(),
            team: written.team_claim.clone(),
            organisation: written.organisation_claim.clone(),
            models: written.models_claim.clone(),
        },
        groups: groups.clone(),
        group: known,
        grants: Grants::everything(),
    }))
}

/// Refuses two providers that issue the same tokens.
fn alike(config: &Config, path: &Path, check: &mut Check<'_>) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, issuer) in &config.access.jwt {
        if let Some(first) = known.insert(&issuer.issuer, name) {
            let message = format!("the same issuer as that of `{first}`");
            check.error(&path.key(name).key("issuer"), message, "list the audiences of both in one");
        }
    }
}

fn algorithm(written: schema::Algorithm) -> Algorithm {
    use schema::Algorithm as Written;
    match written {
        Written::RS256 => Algorithm::Rs256,
        Written::RS384 => Algorithm::Rs384,
        Written::RS512 => Algorithm::Rs512,
        Written::PS256 => Algorithm::Ps256,
        Written::PS384 => Algorithm::Ps384,
        Written::PS512 => Algorithm::Ps512,
        Written::ES256 => Algorithm::Es256,
        Written::ES384 => Algorithm::Es384,
        Written::ES512 => Algorithm::Es512,
        Written::EdDSA => Algorithm::EdDsa,
    }
}

fn certificate(
    written: &schema::CertificateRule,
    config: &Config,
    groups: &Groups,
    path: &Path,
    check: &mut Check<'_>,
) -> Rule {
    let name = &written.principal;
    check.name(&path.key("principal"), name);
    if name == ANONYMOUS || config.keys.contains_key(name) {
        let help = "choose another name";
        check.error(&path.key("principal"), format!("`{name}` is somebody else already"), help);
    }
    let names = [&written.common_name, &written.organization, &written.dns, &written.uri, &written.email];
    if names.iter().all(|name| name.is_none()) {
        let help = "write `common_name`, `organization`, `dns`, `uri` or `email`";
        check.error(path, "no certificate is meant", help);
    }
    let group = team(written.team.as_ref(), config, groups, &path.key("team"), check);
    let name: Arc<str> = Arc::from(name.as_str());
    let principal = Principal {
        label: Arc::clone(&name),
        name,
        known: Known::Certificate,
        group,
        ..Principal::anonymous()
    };
    let [common, organization, dns, uri, email] = names.map(|name| name.as_ref().and_then(pattern));
    Rule { common, organization, dns, uri, email, principal: Arc::new(principal) }
}
