//! One of ten nodes falls sick under a steady load.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::sim::EngineConfig;

use crate::client::{Ask, End, Kind, Sample};
use crate::edge::Edge;
use crate::journal::Journal;
use crate::load::{Load, millis, p99};
use crate::node::{Node, Sickness};
use crate::say;

/// How it is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Requests a second, streams and whole replies in turn.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Seconds with all nodes well, and again with one of them sick.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Only ways whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// For how long a breaker opens, if not for as long as it does by itself: short, and it tries again while the load goes
    /// on.
    #[arg(long)]
    open_for: Option<String>,
}

/// A way to be sick.
struct Way {
    name: &'static str,
    sickness: Sickness,
    sees: Sees,
}

/// What clients may see of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// Nothing: it shows before a reply has begun.
    Nothing,
    /// Streams that break: their clients have a part of them already.
    Breaks,
}

const fn way(name: &'static str, sees: Sees, stream: &'static str, whole: &'static str) -> Way {
    Way { name, sickness: Sickness::Fault { stream, whole }, sees }
}

use Sees::{Breaks, Nothing};

/// What the simulator calls them, in streams and in whole replies. A stream's first event has no content, the second has.
const WAYS: &[Way] = &[
    Way { name: "refuses", sickness: Sickness::Closed, sees: Nothing },
    Way { name: "black hole", sickness: Sickness::Hole, sees: Nothing },
    way("connections that vanish", Nothing, "vanish", "vanish"),
    way("reset before the head", Nothing, "reset_before_head", "reset_before_head"),
    way("reset after the head", Nothing, "reset_after_head", "reset_after_head"),
    way("reset after the first event", Nothing, "reset=1", "reset=1"),
    way("reset after the first token", Breaks, "reset=2", "reset=1"),
    way("cut mid-stream", Breaks, "cut=8", "cut=1"),
    way("429", Nothing, "status=429", "status=429"),
    way("500", Nothing, "status=500", "status=500"),
    way("503", Nothing, "status=503", "status=503"),
    way("529", Nothing, "status=529", "status=529"),
    way("error event in a 200", Nothing, "error_event", "error_body"),
    way("empty 200", Nothing, "empty_stream", "empty_body"),
    way("stall before the first token", Nothing, "stall=1", "stall=head"),
    way("stall mid-stream", Breaks, "stall=8", "stall=1"),
    way("one byte a second", Nothing, "slow_body=1000", "slow_body=1000"),
    way("bad chunks", Nothing, "bad_chunk=1", "bad_chunk=1"),
    way("bad chunks mid-stream", Breaks, "bad_chunk=8", "bad_chunk=1"),
    way("wrong length", Nothing, "wrong_length=long", "wrong_length=long"),
];

const NODES: usize = 10;
/// After how many failures in a row the edge leaves a node alone.
const THRESHOLD: usize = 5;
/// The most attempts for each request.
const ATTEMPTS: f64 = 1.1;
/// How often a way is tried whose figures another node spoils that was slow to answer: the machine is not quiet.
const TRIES: usize = 3;
/// How long anything may be silent.
const CLOCK: &str = "300ms";

/// An engine that makes the first token in 20 ms, and a reply in 100.
fn engine() -> EngineConfig {
    EngineConfig { prefill_tps: Some(1700.0), decode_tps: Some(190.0), ..EngineConfig::default() }
}

/// Measures every way. Says which bounds were missed.
pub(crate) async fn run(program: &Path, args: &Args) -> io::Result<Vec<String>> {
    say(
        "| one of ten nodes | left alone after, ms | failures seen before | in flight then | after | attempts a request | p99 first token, ms | added | p99 whole reply, ms | added |",
    );
    say("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut missed = Vec::new();
    for way in WAYS.iter().filter(|way| way.name.contains(&args.only)) {
        let mut seen = observe(program, args, way).await?;
        for _ in 1..TRIES {
            if seen.quiet {
                break;
            }
            seen = observe(program, args, way).await?;
        }
        say(&seen.row(way));
        missed.extend(seen.missed(way).into_iter().map(|what| format!("{}: {what}", way.name)));
    }
    Ok(missed)
}

/// What was seen of one way.
struct Seen {
    well: Vec<Sample>,
    sick: Vec<Sample>,
    fell: Instant,
    /// When it was left alone: more than once where it was tried again meanwhile.
    opened: Vec<Instant>,
    attempts: f64,
    /// Whether the other nodes were all well, and known to be.
    quiet: bool,
}

async fn observe(program: &Path, args: &Args, way: &Way) -> io::Result<Seen> {
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::start(engine(), (number == 0).then_some(way.sickness)).await?);
    }
    let journal = Journal::new();
    let heard = Arc::clone(&journal);
    let edge = Edge::start(program, &config(&nodes, args), move |line| heard.hear(line)).await?;
    let mut load = Load::new(&edge);
    let time = Duration::from_secs_f64(args.seconds);
    // Connections are made, and pages touched.
    load.open(args.rate, Duration::from_millis(500), turns()).await?;
    let well = load.open(args.rate, time, turns()).await?;
    // Nothing is under way: what breaks then is no failure of the edge's.
    let node = nodes.swap_remove(0);
    let name = node.addr().map(|addr| format!("http://{addr} ")).unwrap_or_default();
    let node = node.fall(way.sickness).await?;
    let fell = Instant::now();
    let sick = load.open(args.rate, time, turns()).await?;
    journal.all(load.asked).await?;
    let attempts = journal.attempts(sick.iter().map(|sample| sample.number)) as f64 / sick.len() as f64;
    drop(load);
    drop(node);
    edge.at_rest().await?;
    let (opened, others): (Vec<_>, Vec<_>) =
        journal.opened().into_iter().partition(|(at, said)| *at >= fell && said.contains(&name));
    let opened = opened.into_iter().map(|(at, _)| at).collect();
    let quiet = others.is_empty() && well.iter().all(Sample::is_served);
    Ok(Seen { well, sick, fell, opened, attempts, quiet })
}

/// A stream, a whole reply, and so on.
fn turns() -> impl FnMut() -> Ask {
    let mut stream = false;
    move || {
        stream = !stream;
        Ask { model: "m", kind: if stream { Kind::Stream } else { Kind::Whole }, caller: "anyone" }
    }
}

fn config(nodes: &[Node], args: &Args) -> String {
    let urls: Vec<_> = nodes.iter().filter_map(Node::addr).map(|addr| format!("\"http://{addr}\"")).collect();
    let breaker =
        args.open_for.as_ref().map(|time| format!("breaker: {{for: {time}}}, ")).unwrap_or_default();
    format!(
        "clusters:\n  nodes: {{provider: simulator, endpoints: [{}], health: {{check: none}}, {breaker}\
         clocks: {{connect: {CLOCK}, head: {CLOCK}, first_token: {CLOCK}, gap: {CLOCK}}}}}\n\
         models: {{m: {{deployments: [{{cluster: nodes}}]}}}}\nanonymous: true\n",
        urls.join(", ")
    )
}

/// Failures by when they were.
#[derive(Default)]
struct Failures {
    before: usize,
    then: usize,
    after: usize,
}

impl Seen {
    fn failures(&self) -> Failures {
        let mut failures = Failures::default();
        for sample in self.sick.iter().filter(|sample| !sample.is_served()) {
            match self.opened.first() {
                Some(opened) if sample.due >= *opened => failures.after += 1,
                Some(opened) if sample.ended() > *opened => failures.then += 1,
                _ => failures.before += 1,
            }
        }
        failures
    }

    fn row(&self, way: &Way) -> String {
        let opened = self.opened.first().map_or_else(
            || "never".to_owned(),
            |at| format!("{:.0}", millis(at.saturating_duration_since(self.fell))),
        );
        let Failures { before, then, after } = self.failures();
        let times = [Kind::Stream, Kind::Whole].map(|kind| {
            let p99 = |samples: &[Sample]| {
                let meant = samples.iter().filter(|sample| sample.is_served() && sample.ask.kind == kind);
                millis(p99(meant.map(|sample| sample.first)))
            };
            let (well, sick) = (p99(&self.well), p99(&self.sick));
            format!("{sick:.1} | {:+.1}", sick - well)
        });
        let (name, attempts) = (way.name, self.attempts);
        format!("| {name} | {opened} | {before} | {then} | {after} | {attempts:.3} | {} |", times.join(" | "))
    }

    /// The bounds that it missed.
    fn missed(&self, way: &Way) -> Vec<String> {
        let Failures { before, then, after } = self.failures();
        let (most, in_flight) = if way.sees == Breaks { (THRESHOLD, usize::MAX) } else { (0, 0) };
        // One that tries again whether the node is well can break like any other.
        let tries = if way.sees == Breaks { self.opened.len().saturating_sub(1) } else { 0 };
        let mut missed = Vec::new();
        for (count, bound, when) in [
            (self.well.iter().filter(|sample| !sample.is_served()).count(), 0, "with all nodes well"),
            (before, most, "before the node was left alone"),
            (then, in_flight, "under way as it was"),
            (after, tries, "after that"),
        ] {
            if count > bound {
                missed.push(format!("{count} failures {when}, at most {bound} are allowed"));
            }
        }
        if self.attempts > ATTEMPTS {
            missed.push(format!("{:.3} attempts a request, at most {ATTEMPTS} are allowed", self.attempts));
        }
        if !self.quiet {
            missed.push("a node that is well was too slow: the machine is not quiet".to_owned());
        }
        if !missed.is_empty() {
            missed.push(format!("what clients saw: {}", kinds(self.well.iter().chain(&self.sick))));
        }
        missed
    }
}

/// Failures by their kinds.
fn kinds<'a>(samples: impl Iterator<Item = &'a Sample>) -> String {
    let mut kinds = BTreeMap::<String, usize>::new();
    for sample in samples {
        let kind = match &sample.end {
            End::Served => continue,
            End::Refused { status, .. } => format!("status {status}"),
            End::Broken(why) => why.clone(),
        };
        *kinds.entry(format!("{:?}: {kind}", sample.ask.kind)).or_default() += 1;
    }
    kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect::<Vec<_>>().join("; ")
}
