//! Clusters: addresses, credentials, and how their health is known.

mod admission;
mod credential;
mod endpoints;
mod headers;
mod health;

use std::sync::Arc;
use std::time::Duration;

use super::provider::Known;
use super::{Check, Clusters};
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Balance, Config, Speaks};
use crate::dialect::Operation;
use crate::dialect::form::Form;
use crate::limit::{Book, Subject};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::upstream::balance::Strategy;
use crate::upstream::breaker::Policy;
use crate::upstream::cluster::{Cluster, ClusterSpec};
use crate::upstream::hedge::{After, Hedging};
use crate::upstream::link::Links;
use credential::Site;

/// Every cluster that is right.
pub(super) fn clusters(config: &Config, book: &Book, check: &mut Check<'_>) -> Clusters {
    let root = Path::root().key("clusters");
    if config.clusters.is_empty() && !check.diagnostics.has_errors() {
        let help = "add `clusters:`; conf/forebay.yaml is a small configuration to begin with";
        check.error(&root, "there is nowhere to send anything", help);
    }
    let known = Known::new(config, check);
    let seal = seal(config, check);
    let mut clusters = Clusters::new();
    for (name, cluster) in &config.clusters {
        let path = root.key(name);
        check.name(&path, name);
        if let Some(compiled) = compile((name, book), cluster, (&known, seal.as_ref()), &path, check) {
            clusters.insert(name.clone(), Arc::new(compiled));
        }
    }
    clusters
}

/// What ids are signed with, where that is configured.
fn seal(config: &Config, check: &mut Check<'_>) -> Option<Secret> {
    let path = Path::root().key("server").key("seal");
    let reference = config.server.seal.as_ref()?;
    check.warn_of_literal(&path, reference);
    check.secret(&path, reference)
}

fn compile(
    (name, book): (&str, &Book),
    cluster: &schema::Cluster,
    (known, seal): (&Known, Option<&Secret>),
    path: &Path,
    check: &mut Check<'_>,
) -> Option<Cluster> {
    let breaker = breaker(&cluster.breaker, &path.key("breaker"), check);
    let hedge = cluster.hedge.as_ref().map(|hedge| hedging(hedge, &path.key("hedge"), check));
    if let Some(idle) = cluster.pool.idle {
        check.positive(&path.key("pool").key("idle"), idle);
    }
    let ca = endpoints::certificate_authority(cluster, &path.key("tls").key("ca"), check);
    let clocks = check.clocks(&path.key("clocks"), &cluster.clocks);
    if check.wrong_below(&path.key("provider")) {
        return None;
    }
    let row = known.find(&cluster.provider, &path.key("provider"), check)?;
    let site = Site::of(cluster, &row, path, check);
    let form = credential::form(cluster, &row, path, check);
    let (admission, spill) = admission::both(cluster, path, check);
    let template = endpoints::template(cluster, &row, &prefix(&row, &form, &site), &path.key("tls"), check);
    let endpoints = endpoints::endpoints(cluster, &row, &site.location(), &template, path, check);
    let discovery = endpoints::discovery(cluster, &template, &endpoints, path, check);
    let (headers, added) = headers::headers(cluster, &row, path, check);
    let credential = credential::source(cluster, &row, &site, &added, path, check);
    credential::in_the_clear(&credential, &endpoints, path, check);
    endpoints::tls_effect(cluster, &endpoints, path, check);
    let probing = health::probing(cluster, &row, &headers, path, check);
    let speaks = speaks(cluster, &row, &path.key("speaks"), check);
    let limits = super::limits::limits(&cluster.limits, &path.key("limits"), check);
    let continues = continues(cluster, &row, &speaks, &path.key("continuation"), check);
    if check.diagnostics.has_errors() {
        return None;
    }
    let spec = ClusterSpec {
        name: name.to_owned(),
        region: site.region(),
        speaks,
        form,
        fold: cluster.fold.unwrap_or(row.fold),
        continues,
        seal: credential::seal(name, seal, &headers),
        headers,
        credential,
        endpoints,
        discovery,
        strategy: strategy(cluster.balance),
        breaker,
        admission,
        spill,
        limits: book.bind(&Subject::Cluster(name.into()), &limits),
        hedge,
        probing,
        pool_idle: cluster.pool.idle.map_or(row.idle, |idle| idle.0),
        clocks,
        provider: row,
    };
    let links = Links::new(&spec.name, cluster.pool.size as usize, spec.pool_idle, ca.as_deref());
    Some(Cluster::new(spec, links))
}

/// When endpoints and keys are left alone.
fn breaker(breaker: &schema::Breaker, path: &Path, check: &mut Check<'_>) -> Policy {
    for (key, period) in [("for", breaker.period), ("window", breaker.window), ("key_for", breaker.key_for)] {
        check.positive(&path.key(key), period);
    }
    if breaker.max_for < breaker.period {
        let message = format!("less than `for`, {}", breaker.period);
        check.error(&path.key("max_for"), message, "write a longer time, or the same to let it never grow");
    }
    Policy {
        failures: breaker.failures,
        failure_rate: breaker.failure_rate,
        min_outcomes: breaker.min_outcomes,
        window: breaker.window.0,
        open: breaker.period.0,
        longest: breaker.max_for.0,
        tries: breaker.tries,
        successes: breaker.successes,
        slow_start: breaker.slow_start.0,
        max_share: breaker.max_share,
        key: breaker.key_for.0,
    }
}

/// When second attempts are made beside slow ones.
fn hedging(hedge: &schema::Hedge, path: &Path, check: &mut Check<'_>) -> Hedging {
    let learned = [("percentile", hedge.percentile.is_some()), ("min_delay", hedge.min_delay.is_some())];
    for (key, _) in learned.iter().filter(|(_, is_there)| *is_there && hedge.delay.is_some()) {
        let message = format!("{key} and delay exclude each other");
        check.error(
            &path.key(key),
            message,
            "keep `delay` for a fixed time, or the others for one that is learned",
        );
    }
    if let Some(delay) = hedge.delay {
        check.positive(&path.key("delay"), delay);
    }
    let share = hedge.percentile.unwrap_or(95.0) / 100.0;
    let least = hedge.min_delay.map_or(Duration::from_millis(50), |least| least.0);
    let after = hedge.delay.map_or(After::Share(share, least), |delay| After::Fixed(delay.0));
    Hedging { after, budget: (hedge.budget * 1000.0).round() as u32 }
}

/// The path before every operation's, of an address that has none.
fn prefix(row: &Provider, form: &Form, site: &Site) -> String {
    match form {
        // The v1 API stands below the dated one.
        Form::Deployments { .. } => "/openai".to_owned(),
        _ => row.address.path(&site.location()).unwrap_or_else(|| row.prefix.to_string()),
    }
}

/// What the cluster can be asked.
fn speaks(cluster: &schema::Cluster, row: &Provider, path: &Path, check: &mut Check<'_>) -> Vec<Operation> {
    match &cluster.speaks {
        Some(named) => operations(named, path, check),
        None => row.speaks.to_vec(),
    }
}

/// Whether streams that break off are gone on with, which is not for every engine.
fn continues(
    cluster: &schema::Cluster,
    row: &Provider,
    speaks: &[Operation],
    path: &Path,
    check: &mut Check<'_>,
) -> bool {
    if !cluster.continuation {
        return false;
    }
    if !row.continues {
        let message = format!("`{}` cannot go on with an answer that another began", row.name);
        check.error(path, message, "leave it out; vllm, sglang and llamacpp can");
    } else if !speaks.contains(&Operation::ChatCompletions) {
        let message = "an answer is gone on with in chat, which the cluster does not speak";
        check.error(path, message, "add `chat_completions` to `speaks`, or leave it out");
    }
    true
}

/// The operations of those names.
pub(super) fn operations(named: &[Speaks], path: &Path, check: &mut Check<'_>) -> Vec<Operation> {
    if named.is_empty() {
        check.error(
            path,
            "the cluster can be asked nothing",
            "name what its API speaks, or leave `speaks` out",
        );
    }
    let operation = |speaks: &Speaks| match speaks {
        Speaks::ChatCompletions => Operation::ChatCompletions,
        Speaks::Completions => Operation::Completions,
        Speaks::Embeddings => Operation::Embeddings,
        Speaks::Responses => Operation::Responses,
        Speaks::Messages => Operation::Messages,
        Speaks::CountTokens => Operation::CountTokens,
        Speaks::GenerateContent => Operation::GenerateContent,
        Speaks::GeminiCount => Operation::GeminiCount,
        Speaks::Converse => Operation::Converse,
        Speaks::CohereChat => Operation::CohereChat,
        Speaks::OllamaChat => Operation::OllamaChat,
        Speaks::Rerank => Operation::Rerank,
        Speaks::CohereEmbed => Operation::CohereEmbed,
        Speaks::GeminiEmbed => Operation::GeminiEmbed,
        Speaks::VertexEmbed => Operation::VertexEmbed,
        Speaks::OllamaEmbed => Operation::OllamaEmbed,
    };
    named.iter().map(operation).collect()
}

fn strategy(balance: Balance) -> Strategy {
    match balance {
        Balance::LeastConnections => Strategy::LeastConnections,
        Balance::RoundRobin => Strategy::RoundRobin,
        Balance::Priority => Strategy::Priority,
        Balance::Latency => Strategy::Latency,
        Balance::Random => Strategy::Random,
    }
}
