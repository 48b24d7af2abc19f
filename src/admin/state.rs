//! What runs, as JSON and as metrics.

mod keys;

use std::time::Instant;

use serde_json::{Value, json};

use crate::access::table::Origin;
use crate::meter::metrics::METRICS;
use crate::route::matcher::Target;
use crate::snapshot::Snapshot;
use crate::upstream::admission::Gate;
use crate::upstream::breaker::{self, State, millis};
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::{Endpoint, Health};
use crate::upstream::spill;

/// A cluster, in the words that monitoring expects.
pub(super) fn provider(cluster: &Cluster, now: Instant) -> Value {
    let endpoints = cluster.endpoints();
    let policy = &cluster.spec.breaker;
    let up = endpoints.iter().filter(|endpoint| endpoint.available(millis(now), policy));
    let draining = endpoints.iter().filter(|endpoint| endpoint.is_draining()).count();
    let latency = up.map(|endpoint| endpoint.probe_latency()).min().unwrap_or_default();
    json!({
        "name": cluster.name(),
        "provider": &*cluster.spec.provider.name,
        "healthy": cluster.available(now),
        "draining": draining,
        "latency_ms": latency.as_secs_f64() * 1000.0,
    })
}

/// Free space where logs and credentials live.
pub(super) fn disk() -> Value {
    match rustix::fs::statvfs("/") {
        Ok(found) => {
            json!({ "free_bytes": found.f_bavail * found.f_frsize, "total_bytes": found.f_blocks * found.f_frsize })
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Takes the state of endpoints into the metrics, as of a scrape.
pub(super) fn observe(snapshot: &Snapshot) {
    let now = millis(Instant::now());
    // An endpoint that is gone must not go on being shown.
    METRICS.upstream.health.reset();
    METRICS.upstream.in_flight.reset();
    METRICS.drains.endpoints.reset();
    METRICS.upstream.average_first_token.reset();
    METRICS.breakers.state.reset();
    METRICS.breakers.key.reset();
    keys::observe(snapshot);
    for family in [&METRICS.admission.used, &METRICS.admission.limit, &METRICS.admission.waiting] {
        family.reset();
    }
    for origin in Origin::ALL {
        let count = snapshot.access.table().owners().filter(|(owner, _)| owner.origin == origin).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        METRICS.access.principals.with_label_values(&[origin.name()]).set(count);
    }
    for cluster in &snapshot.clusters {
        METRICS.breakers.key.with_label_values(&[cluster.name()]).set(keys::best(cluster));
        if let Some(gate) = &cluster.gate {
            let counts = gate.counts();
            let families = [&METRICS.admission.used, &METRICS.admission.limit, &METRICS.admission.waiting];
            for (family, count) in families.into_iter().zip([counts.used, counts.limit, counts.waiting]) {
                family.with_label_values(&[cluster.name()]).set(count.into());
            }
        }
        for endpoint in cluster.endpoints().iter() {
            let (name, at) = (cluster.name(), endpoint.name.as_str());
            let labels = [&*cluster.spec.provider.name, name, at];
            METRICS
                .upstream
                .health
                .with_label_values(&labels)
                .set(endpoint.available(now, &cluster.spec.breaker).into());
            METRICS.breakers.state.with_label_values(&[name, at]).set(number(&endpoint.breaker.look()));
            METRICS.upstream.in_flight.with_label_values(&[name, at]).set(endpoint.in_flight().into());
            METRICS.drains.endpoints.with_label_values(&[name, at]).set(endpoint.is_draining().into());
            let average = endpoint.average_first_token().as_secs_f64();
            METRICS.upstream.average_first_token.with_label_values(&[name, at]).set(average);
        }
    }
}

pub(super) fn dump(snapshot: &Snapshot) -> Value {
    let instant = Instant::now();
    let now = millis(instant);
    json!({
        "listeners": snapshot.listeners.iter().map(|listener| json!({
            "address": listener.address.to_string(),
            "tls": listener.tls.is_some(),
            "h2c": listener.h2c,
        })).collect::<Vec<_>>(),
        "routes": snapshot.routes.iter().map(|route| json!({
            "name": route.name,
            "hosts": route.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "path": route.base,
            "target": match &route.target {
                Target::Models(patterns) => json!({ "models": patterns.iter().map(ToString::to_string).collect::<Vec<_>>() }),
                Target::Raw { cluster, strip } => json!({ "raw": cluster.name(), "strip_path": strip }),
            },
        })).collect::<Vec<_>>(),
        "models": snapshot.aliases.iter().map(|alias| json!({
            "name": alias.name,
            "deployments": alias.deployments.iter().map(|deployment| json!({
                "cluster": deployment.cluster.name(),
                "model": deployment.model.resolve("*"),
                "weight": deployment.weight,
                "priority": deployment.priority,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "clusters": snapshot.clusters.iter().map(|cluster| json!({
            "name": cluster.name(),
            "provider": &*cluster.spec.provider.name,
            "headers": cluster.spec.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "key": breaker_state(&cluster.key.look(), now),
            "keys": cluster.pool.as_ref().map(|pool| keys::dump(pool, instant)),
            "admission": cluster.gate.as_ref().map(|gate| admission(gate)),
            "spill": cluster.spill.as_ref().map(|spill| spill_state(&spill.state(), now)),
            "endpoints": cluster.endpoints().iter().map(|endpoint| place(cluster, endpoint, now)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// The state of a breaker as a number, as Prometheus has it.
fn number(phase: &breaker::Phase) -> i64 {
    match phase.state {
        State::Closed { .. } => 0,
        State::Open { .. } => 1,
        State::HalfOpen { .. } => 2,
    }
}

/// The state of a breaker.
fn breaker_state(phase: &breaker::Phase, now: u64) -> Value {
    match phase.state {
        State::Closed { .. } => json!({ "state": "closed" }),
        State::Open { until } => {
            json!({ "state": "open", "trips": phase.trips, "left_ms": until.saturating_sub(now) })
        }
        State::HalfOpen { trying, passed } => {
            json!({ "state": "half-open", "trips": phase.trips, "trying": trying, "passed": passed })
        }
    }
}

fn admission(gate: &Gate) -> Value {
    let counts = gate.counts();
    json!({
        "in_flight": counts.used,
        "limit": counts.limit,
        "waiting": counts.waiting,
        "expected_wait_ms": gate.expected_wait().as_secs_f64() * 1000.0,
    })
}

fn spill_state(state: &spill::State, now: u64) -> Value {
    match state {
        spill::State::Here => json!({ "state": "here" }),
        spill::State::Away { until, why } => {
            json!({ "state": "away", "why": why.name(), "left_ms": until.saturating_sub(now) })
        }
        spill::State::Trying { .. } => json!({ "state": "trying" }),
    }
}

fn place(cluster: &Cluster, endpoint: &Endpoint, now: u64) -> Value {
    json!({
        "endpoint": endpoint.name,
        "addresses": endpoint.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "weight": endpoint.spec.weight,
        "priority": endpoint.spec.priority,
        "health": if endpoint.health() == Health::Up { "up" } else { "down" },
        "draining": endpoint.is_draining(),
        "breaker": breaker_state(&endpoint.breaker.look(), now),
        "failures": endpoint.breaker.failures(),
        "share": f64::from(endpoint.breaker.share(now, &cluster.spec.breaker)) / 100.0,
        "in_flight": endpoint.in_flight(),
        "first_token_ms": endpoint.average_first_token().as_secs_f64() * 1000.0,
        "probe_ms": endpoint.probe_latency().as_secs_f64() * 1000.0,
    })
}
