//! `forebay drain`: takes endpoints of a running edge out of service, through its admin listener.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use http::Method;
use serde_json::{Value, json};

use super::operator::Admin;
use super::say;

/// Take an endpoint out of service: it gets nothing new, and what runs there ends.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// `http://10.0.0.5:8000`, `10.0.0.5:8000`, `10.0.0.5` for every port of that host; each with `CLUSTER/` before it
    /// for that cluster alone.
    endpoint: String,
    /// Only in this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Seconds after which what still runs there is ended. Left out: it may run to its own end.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "resume")]
    deadline: Option<f64>,
    /// Wait until nothing runs there any more; 3 if the deadline had to end anything.
    #[arg(long, conflicts_with = "resume")]
    wait: bool,
    /// Put it back into service instead.
    #[arg(long)]
    resume: bool,
    /// The admin listener. Left out: $METRICS_PORT on the loopback, 9090 unless set. Its token, if it has one, is taken
    /// from $FOREBAY_ADMIN_TOKEN.
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Print what the edge answers, as JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "write a number of seconds".to_owned())
}

/// What the deadline had to end something for.
const CUT: u8 = 3;
/// How often it is asked whether all is over.
const LOOK: Duration = Duration::from_millis(200);

/// Does it, and says what came of it.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(operate(args))
}

async fn operate(args: &Args) -> Result<ExitCode, String> {
    let admin = Admin::new(args.admin.clone())?;
    let mut order = json!({ "endpoint": args.endpoint });
    if let Some(cluster) = &args.cluster {
        order["cluster"] = cluster.as_str().into();
    }
    if let Some(deadline) = args.deadline {
        order["deadline_s"] = deadline.into();
    }
    let path = if args.resume { "/endpoints/resume" } else { "/endpoints/drain" };
    let mut answer = admin.ask(Method::POST, path, order.to_string()).await?;
    let meant: Vec<Value> = places(&answer).cloned().collect();
    let (mut last, mut ended) = (None, Ended::default());
    loop {
        ended.note(&answer);
        let left = left(&answer);
        if last.replace(left) != Some(left) {
            show(args, &answer)?;
        }
        if !args.wait || left == (0, 0) {
            return Ok(if args.wait && ended.any() { CUT.into() } else { ExitCode::SUCCESS });
        }
        tokio::time::sleep(LOOK).await;
        answer = still(admin.ask(Method::GET, "/endpoints", String::new()).await?, &meant)?;
    }
}

/// How many exchanges were ended at each endpoint: the most that was said of it, for one that is gone says nothing more.
#[derive(Debug, Default)]
struct Ended(HashMap<String, u64>);

impl Ended {
    fn note(&mut self, answer: &Value) {
        for place in places(answer) {
            let known = self.0.entry(format!("{}/{}", place["cluster"], place["endpoint"])).or_default();
            *known = (*known).max(place["ended"].as_u64().unwrap_or(0));
        }
    }

    fn any(&self) -> bool {
        self.0.values().any(|ended| *ended > 0)
    }
}

/// Those of the endpoints that were meant. One that is gone has nothing left to wait for.
fn still(answer: Value, meant: &[Value]) -> Result<Value, String> {
    let name = |place: &Value| (place["cluster"].clone(), place["endpoint"].clone());
    let mine = |place: &&Value| meant.iter().any(|known| name(known) == name(place));
    let all: Vec<Value> = places(&answer).filter(mine).cloned().collect();
    match all.iter().find(|place| place["state"] == "serving") {
        Some(place) => Err(format!("{} is back in service: somebody else has resumed it", place["endpoint"])),
        None => Ok(json!({ "endpoints": all })),
    }
}

fn places(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["endpoints"].as_array().into_iter().flatten()
}

/// How many endpoints are not idle yet, and how many exchanges run there.
fn left(answer: &Value) -> (usize, u64) {
    let busy = places(answer).filter(|place| place["state"] != "idle");
    busy.fold((0, 0), |(places, running), place| {
        (places + 1, running + place["in_flight"].as_u64().unwrap_or(0))
    })
}

fn show(args: &Args, answer: &Value) -> Result<(), String> {
    if args.json {
        return say(&answer.to_string());
    }
    places(answer).try_for_each(|place| {
        let text = |key: &str| place[key].as_str().unwrap_or_default().to_owned();
        let (name, state, running) = (text("endpoint"), text("state"), &place["in_flight"]);
        let deadline = place["deadline_in_s"].as_f64().filter(|_| state == "draining");
        let deadline =
            deadline.map_or_else(String::new, |left| format!(", {left:.0} s until they are ended"));
        let ended = place["ended"].as_u64().filter(|ended| *ended > 0);
        let ended = ended.map_or_else(String::new, |ended| format!(", {ended} were ended"));
        say(&format!("{}/{name}: {state}, {running} under way{deadline}{ended}", text("cluster")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ended_is_not_forgotten_when_its_endpoint_is_gone() {
        let mut ended = Ended::default();
        let answer = |places: Value| json!({ "endpoints": places });
        let place =
            |count: u64| json!({"cluster": "gpu", "endpoint": "http://a", "evicted": 4, "ended": count});
        ended.note(&answer(json!([place(0)])));
        assert!(!ended.any(), "what has moved was not ended");
        ended.note(&answer(json!([place(2), place(2)])));
        ended.note(&answer(json!([place(0)])));
        ended.note(&answer(json!([])));
        assert!(ended.any());
        assert_eq!(ended.0.values().sum::<u64>(), 2, "it is one drain, at whichever of the two");
    }
}
