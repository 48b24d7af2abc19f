//! The keys of providers, as JSON and as metrics. Nothing of a secret is in either.

use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::{breaker_state, number};
use crate::dialect::quota::Quota;
use crate::meter::metrics::METRICS;
use crate::snapshot::Snapshot;
use crate::upstream::breaker::millis;
use crate::upstream::cluster::Cluster;
use crate::upstream::keys::{Known, Pool, ProviderKey};

/// The state of a key that has no secret yet.
const UNKNOWN: i64 = 3;

/// Takes the state of keys into the metrics, as of a scrape.
pub(super) fn observe(snapshot: &Snapshot) {
    let now = SystemTime::now();
    for family in [&METRICS.keys.state, &METRICS.keys.readable, &METRICS.keys.overdue] {
        family.reset();
    }
    METRICS.keys.age.reset();
    for cluster in &snapshot.clusters {
        for key in cluster.pool.iter().flat_map(|pool| pool.keys()) {
            let labels = [cluster.name(), key.name.as_str()];
            let state = if key.is_known() { number(&key.breaker.look()) } else { UNKNOWN };
            METRICS.keys.state.with_label_values(&labels).set(state);
            METRICS.keys.readable.with_label_values(&labels).set(key.is_readable().into());
            METRICS.keys.overdue.with_label_values(&labels).set(key.is_overdue(now).into());
            if let Some(age) = key.age(now) {
                METRICS.keys.age.with_label_values(&labels).set(age.as_secs_f64());
            }
        }
    }
}

/// The state of a cluster's credential, as a number: of several keys, the best.
pub(super) fn best(cluster: &Cluster) -> i64 {
    let Some(pool) = cluster.choice() else { return number(&cluster.key.look()) };
    // What is tried again is better than what is set aside.
    let rank = |state: &i64| [0, 2, 1].get(usize::try_from(*state).unwrap_or(0)).copied().unwrap_or(0);
    pool.keys().iter().map(|key| number(&key.breaker.look())).min_by_key(rank).unwrap_or(0)
}

/// The keys of a cluster.
pub(super) fn dump(pool: &Pool, now: Instant) -> Value {
    pool.keys().iter().map(|key| about(pool, key, now)).collect()
}

fn about(pool: &Pool, key: &ProviderKey, now: Instant) -> Value {
    let time = SystemTime::now();
    let state = if key.is_known() {
        breaker_state(&key.breaker.look(), millis(now))
    } else {
        json!({ "state": "no secret" })
    };
    json!({
        "name": key.name,
        "weight": key.weight,
        "breaker": state,
        "readable": key.is_readable(),
        "age_s": key.age(time).map(|age| age.as_secs()),
        "overdue": key.is_overdue(time),
        "models": pool.known(key, now).iter().map(|known| (known.model.clone(), level(known))).collect::<Map<_, _>>(),
    })
}

fn level(known: &Known) -> Value {
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    let rate = |quota: &Quota| {
        let told =
            json!({ "limit": quota.limit, "remaining": quota.remaining, "left_ms": quota.reset.map(millis) });
        (quota.of.name().to_owned(), told)
    };
    json!({
        "in_flight": known.in_flight,
        "rests_ms": known.rests.map(millis),
        "rates": known.rates.iter().map(rate).collect::<Map<_, _>>(),
    })
}
