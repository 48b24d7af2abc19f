//! Takes endpoints out of service and puts them back.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use crate::snapshot::Snapshot;
use crate::upstream::cluster::{Cluster, Somewhere};
use crate::upstream::endpoint::{By, Duty, Stage};
use crate::upstream::wanted::Wanted;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Sends nothing new there.
    Drain,
    /// Sends new exchanges there again.
    Resume,
}

impl Order {
    /// What is ordered at that path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/endpoints/drain" => Some(Self::Drain),
            "/endpoints/resume" => Some(Self::Resume),
            _ => None,
        }
    }
}

/// Which endpoints are meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    endpoint: String,
    cluster: Option<String>,
    /// Seconds until what still runs there is ended.
    deadline_s: Option<f64>,
}

/// The longest deadline, seconds.
const LONGEST: f64 = 7.0 * 24.0 * 3600.0;

impl Asked {
    fn deadline(&self, now: Instant) -> Result<Option<Instant>, String> {
        let Some(seconds) = self.deadline_s else { return Ok(None) };
        let limit = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= LONGEST);
        let limit = limit.ok_or("`deadline_s` is not between 0 seconds and a week")?;
        Ok(Some(now + limit))
    }

    fn wanted(&self) -> Result<Wanted, String> {
        let wanted = Wanted::parse(&self.endpoint)?;
        Ok(match &self.cluster {
            Some(cluster) => wanted.within(cluster.clone()),
            None => wanted,
        })
    }
}

/// Does what is asked for, and shows what came of it.
pub(super) fn obey(order: Order, body: &[u8], snapshot: &Snapshot, now: Instant) -> Answer {
    let wrong = |why: String| Answer::error(StatusCode::BAD_REQUEST, why);
    let asked: Asked = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(error) => return wrong(format!("the body is not what is expected: {error}")),
    };
    let (wanted, deadline) = match (asked.wanted(), asked.deadline(now)) {
        (Ok(wanted), Ok(deadline)) => (wanted, deadline),
        (Err(why), _) | (_, Err(why)) => return wrong(why),
    };
    if order == Order::Resume && asked.deadline_s.is_some() {
        return wrong("what is put back into service has no deadline".to_owned());
    }
    let everywhere = places(snapshot);
    let meant: Vec<_> =
        everywhere.iter().filter(|(cluster, place)| wanted.means(cluster, &place.endpoint)).collect();
    if meant.is_empty() {
        return unknown(&asked, &everywhere);
    }
    for (cluster, place) in &meant {
        match order {
            Order::Drain => cluster.drain(&place.endpoint, By::Operator, deadline, now),
            Order::Resume => cluster.resume(&place.endpoint, By::Operator),
        }
    }
    if order == Order::Resume && meant.iter().any(|(_, place)| place.endpoint.is_draining()) {
        let message = "it is in the file `server.drain_file`, which drains it still: take it out there";
        return Answer::error(StatusCode::CONFLICT, message);
    }
    Answer::json(StatusCode::OK, &shown(meant.into_iter(), now))
}

fn unknown(asked: &Asked, everywhere: &[(&Cluster, Somewhere)]) -> Answer {
    let known: Vec<String> = everywhere
        .iter()
        .map(|(cluster, place)| format!("{}/{}", cluster.name(), place.endpoint.name))
        .collect();
    let within =
        asked.cluster.as_ref().map_or_else(String::new, |cluster| format!(" in the cluster `{cluster}`"));
    let message = format!("there is no endpoint `{}`{within}", asked.endpoint);
    Answer::json(StatusCode::NOT_FOUND, &json!({ "error": message, "known": known }))
}

/// Every endpoint.
pub(super) fn all(snapshot: &Snapshot, now: Instant) -> Value {
    shown(places(snapshot).iter(), now)
}

fn places(snapshot: &Snapshot) -> Vec<(&Cluster, Somewhere)> {
    let of = |cluster: &'_ std::sync::Arc<Cluster>| cluster.everywhere();
    snapshot
        .clusters
        .iter()
        .flat_map(|cluster| of(cluster).into_iter().map(move |place| (&**cluster, place)))
        .collect()
}

fn shown<'a>(places: impl Iterator<Item = &'a (&'a Cluster, Somewhere)>, now: Instant) -> Value {
    let all: Vec<Value> = places.map(|(cluster, place)| one(cluster, place, now)).collect();
    json!({ "endpoints": all })
}

fn one(cluster: &Cluster, place: &Somewhere, now: Instant) -> Value {
    let endpoint = &place.endpoint;
    let mut shown = json!({
        "cluster": cluster.name(),
        "endpoint": endpoint.name,
        "state": "serving",
        "in_flight": endpoint.in_flight(),
        "listed": place.listed,
    });
    if let Duty::Draining(draining) = endpoint.duty() {
        let deadline = draining.asked.deadline();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now).as_secs_f64());
        shown["state"] = match draining.stage {
            Stage::Emptying => "draining",
            Stage::Evicting => "evicting",
            Stage::Idle => "idle",
        }
        .into();
        shown["by"] = draining.asked.name().into();
        shown["draining_for_s"] = now.saturating_duration_since(draining.since).as_secs_f64().into();
        shown["deadline_in_s"] = left.into();
        shown["evicted"] = draining.evicted.into();
        shown["ended"] = endpoint.ended().into();
    }
    shown
}
