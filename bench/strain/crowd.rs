//! Several times as much is asked as the nodes can do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use forebay::sim::EngineConfig;

use crate::client::{Ask, End, Kind, Sample, key};
use crate::edge::Edge;
use crate::histogram::Histogram;
use crate::journal::Journal;
use crate::load::{Load, millis, p99};
use crate::node::Node;
use crate::say;

/// How it is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many times as much is asked as the nodes can do.
    #[arg(long, default_value_t = 5.0)]
    times: f64,
    /// Seconds that are measured of it.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of it before.
    #[arg(long, default_value_t = 2.0)]
    warm: f64,
    /// How many may wait for a place.
    #[arg(long, default_value_t = 32)]
    queue: u32,
    /// Only gates whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

/// A way to admit.
struct Gate {
    name: &'static str,
    limit: &'static str,
    bound: Bound,
}

/// Which first tokens of what is admitted may take twice as long as unloaded ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// 99 of 100.
    P99,
    /// The average one: a limit that is sought has to go a little beyond what the nodes have slots for, and what is
    /// beyond it waits there for up to a whole exchange.
    Mean,
}

const GATES: &[Gate] = &[
    Gate { name: "16 places", limit: "16", bound: Bound::P99 },
    Gate { name: "4 to 200 places", limit: "{min: 4, max: 200}", bound: Bound::Mean },
];

const NODES: usize = 2;
const SLOTS: usize = 8;
/// Who asks. The first asks a tenth of all, and is more important than the rest; of these, one asks ten times as much as
/// either of the others.
const CALLERS: [&str; 4] = ["urgent", "greedy", "modest", "frugal"];

/// The least goodput, as a share of the peak.
const GOODPUT: f64 = 0.9;
/// How long the first token of what is admitted may take from then on, in times of an unloaded one's.
const SLOWER: f64 = 2.0;
/// The least that a caller is served, as a share of what the best served of its importance is.
const FAIR: f64 = 0.8;
/// The most that resident memory may grow while it goes on.
const GROWTH: f64 = 1.1;
/// The longest that a refusal may take, 99 of 100, which may have waited in the queue.
const REFUSAL: Duration = Duration::from_secs(1);

/// An engine that reads the prompt in some 30 ms and decodes for some 70 when all its slots are taken.
fn engine() -> EngineConfig {
    EngineConfig {
        prefill_tps: Some(1100.0),
        decode_tps: Some(290.0),
        slowdown: 0.05,
        slots: Some(SLOTS),
        ..EngineConfig::default()
    }
}

/// Measures every way to admit. Says which bounds were missed.
pub(crate) async fn run(program: &Path, args: &Args) -> io::Result<Vec<String>> {
    let mut missed = Vec::new();
    for gate in GATES.iter().filter(|gate| gate.name.contains(&args.only)) {
        let seen = observe(program, args, gate).await?;
        seen.tell(gate);
        missed.extend(seen.missed(gate).into_iter().map(|what| format!("{}: {what}", gate.name)));
    }
    Ok(missed)
}

/// What was seen of one way to admit.
struct Seen {
    /// The most exchanges a second.
    peak: f64,
    unloaded: Vec<Sample>,
    crowd: Vec<Sample>,
    /// What of the crowd is measured.
    measured: (Instant, Instant),
    /// Resident memory, bytes, when that time began and ended.
    memory: (u64, u64),
    /// How many places there were meanwhile, at least and at most.
    places: (u64, u64),
    journal: Arc<Journal>,
}

async fn observe(program: &Path, args: &Args, gate: &Gate) -> io::Result<Seen> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node::start(engine(), None).await?);
    }
    let journal = Journal::new();
    let heard = Arc::clone(&journal);
    let edge = Edge::start(program, &config(&nodes, gate, args), move |line| heard.hear(line)).await?;
    let mut load = Load::new(&edge);
    let peak = peak(&mut load).await?;
    let mut rng = Rng::with_seed(1);
    let unloaded = load.open(peak / 2.0, Duration::from_secs(4), || pick("open", &mut rng)).await?;
    let [warm, time] = [args.warm, args.seconds].map(Duration::from_secs_f64);
    let begins = Instant::now() + warm;
    let crowd = load.open(peak * args.times, warm + time, || pick("gated", &mut rng));
    let (crowd, watched) = tokio::join!(crowd, watch(&edge, begins, begins + time));
    let (memory, places) = watched?;
    journal.all(load.asked).await?;
    drop(load);
    edge.at_rest().await?;
    let measured = (begins, begins + time);
    Ok(Seen { peak, unloaded, crowd: crowd?, measured, memory, places, journal })
}

/// Resident memory when that time begins and ends, and the least and the most places meanwhile.
async fn watch(edge: &Edge, begins: Instant, ends: Instant) -> io::Result<((u64, u64), (u64, u64))> {
    tokio::time::sleep_until(begins.into()).await;
    let (before, mut places) = (edge.memory()?, (u64::MAX, 0));
    while Instant::now() < ends {
        let limit = edge.total("forebay_admission_limit", "cluster=\"gated\"").await?;
        places = (places.0.min(limit), places.1.max(limit));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(((before, edge.memory()?), places))
}

/// The goodput at the best of some numbers of clients that are never idle, without a gate.
async fn peak(load: &mut Load) -> io::Result<f64> {
    let mut rng = Rng::with_seed(2);
    let (mut peak, time) = (0.0, Duration::from_secs(3));
    for clients in [NODES * SLOTS, NODES * SLOTS * 5 / 4, NODES * SLOTS * 3 / 2] {
        let began = Instant::now();
        let samples = load.closed(clients, time, || pick("open", &mut rng)).await?;
        peak = f64::max(peak, goodput(&samples, began + time / 6, began + time));
    }
    Ok(peak)
}

fn pick(model: &'static str, rng: &mut Rng) -> Ask {
    let [urgent, greedy, modest, frugal] = CALLERS;
    let caller = match rng.u8(..40) {
        0..4 => urgent,
        4..34 => greedy,
        34..37 => modest,
        _ => frugal,
    };
    Ask { model, kind: if rng.bool() { Kind::Stream } else { Kind::Whole }, caller }
}

fn config(nodes: &[Node], gate: &Gate, args: &Args) -> String {
    let urls: Vec<_> = nodes.iter().filter_map(Node::addr).map(|addr| format!("\"http://{addr}\"")).collect();
    let admission = format!("{{limit: {}, queue: {}, timeout: 2s}}", gate.limit, args.queue);
    let urls = urls.join(", ");
    let mut config = format!(
        "clusters:\n  open: {{provider: simulator, endpoints: [{urls}], health: {{check: none}}}}\n  \
         gated: {{provider: simulator, endpoints: [{urls}], health: {{check: none}}, admission: {admission}}}\n\
         models:\n  open: {{deployments: [{{cluster: open}}]}}\n  gated: {{deployments: [{{cluster: gated}}]}}\nkeys:\n"
    );
    for name in CALLERS {
        let priority = if name == "urgent" { "high" } else { "normal" };
        config += &format!("  {name}: {{key: {}, priority: {priority}}}\n", key(name));
    }
    config
}

/// Exchanges a second that were served to their end in that time.
fn goodput(samples: &[Sample], from: Instant, to: Instant) -> f64 {
    let is_in = |sample: &&Sample| sample.is_served() && (from..to).contains(&sample.ended());
    samples.iter().filter(is_in).count() as f64 / (to - from).as_secs_f64()
}

impl Seen {
    /// What was asked in the time that is measured.
    fn asked(&self) -> impl Iterator<Item = &Sample> {
        let (from, to) = self.measured;
        self.crowd.iter().filter(move |sample| (from..to).contains(&sample.due))
    }

    fn served(&self, caller: Option<&str>) -> impl Iterator<Item = &Sample> {
        self.asked()
            .filter(move |sample| sample.is_served() && caller.is_none_or(|name| sample.ask.caller == name))
    }

    fn refused(&self) -> impl Iterator<Item = &Sample> {
        self.asked().filter(|sample| matches!(sample.end, End::Refused { .. }))
    }

    fn goodput(&self) -> f64 {
        goodput(&self.crowd, self.measured.0, self.measured.1)
    }

    /// What is not of the wait for a place.
    fn without_wait(&self, sample: &Sample, time: Duration) -> Duration {
        time.saturating_sub(self.journal.queued(sample.number))
    }

    /// A figure of first tokens: without a crowd, in one without the wait for a place, and with it.
    fn first_tokens(&self, figure: fn(Vec<Duration>) -> Duration) -> [Duration; 3] {
        let streams = |sample: &&Sample| sample.ask.kind == Kind::Stream;
        let unloaded = self.unloaded.iter().filter(|sample| sample.is_served()).filter(streams);
        let served: Vec<_> = self.served(None).filter(streams).collect();
        let once_admitted = |sample: &&Sample| self.without_wait(sample, sample.first);
        [
            figure(unloaded.map(|sample| sample.first).collect()),
            figure(served.iter().map(once_admitted).collect()),
            figure(served.iter().map(|sample| sample.first).collect()),
        ]
    }

    /// The same of whole exchanges, 99 of 100.
    fn exchanges(&self) -> [Duration; 3] {
        let unloaded = self.unloaded.iter().filter(|sample| sample.is_served());
        [
            p99(unloaded.map(|sample| sample.took)),
            p99(self.served(None).map(|sample| self.without_wait(sample, sample.took))),
            p99(self.served(None).map(|sample| sample.took)),
        ]
    }

    /// What the least served of those of normal importance got, as a share of what the best served got.
    fn fairness(&self) -> f64 {
        let counts = CALLERS.iter().skip(1).map(|name| self.served(Some(name)).count());
        let (least, most) =
            counts.fold((usize::MAX, 1), |(least, most), count| (least.min(count), most.max(count)));
        least as f64 / most as f64
    }

    fn tell(&self, gate: &Gate) {
        let (goodput, peak) = (self.goodput(), self.peak);
        let asked = self.asked().count() as f64 / (self.measured.1 - self.measured.0).as_secs_f64();
        say(&format!("\n{}\n\n| | |\n|---|--:|", gate.name));
        say(&format!("| peak, exchanges a second | {peak:.0} |"));
        say(&format!("| asked, a second | {asked:.0} |"));
        say(&format!("| goodput, a second | {goodput:.0}, {:.0} % of the peak |", goodput / peak * 100.0));
        for (what, times) in [
            ("mean first token", self.first_tokens(mean)),
            ("p99 first token", self.first_tokens(p99)),
            ("p99 whole exchange", self.exchanges()),
        ] {
            let [unloaded, service, all] = times.map(millis);
            say(&format!("| {what}, unloaded, ms | {unloaded:.1} |"));
            say(&format!("| ... once admitted | {service:.1}, {:.1} times |", service / unloaded));
            say(&format!("| ... with the wait for a place | {all:.1}, {:.1} times |", all / unloaded));
        }
        say(&format!("| places, least and most | {}, {} |", self.places.0, self.places.1));
        self.tell_callers();
        let mut refusals = Histogram::new();
        self.refused().for_each(|sample| refusals.add(sample.took));
        let [median, worst] = [0.5, 0.99].map(|share| refusals.quantile(share) as f64 / 1e6);
        say(&format!("| refused after, median and p99, ms | {median:.1}, {worst:.1} |"));
        let [before, after] = [self.memory.0, self.memory.1].map(|bytes| bytes as f64 / f64::from(1 << 20));
        say(&format!("| resident memory before and after, MiB | {before:.1}, {after:.1} |"));
    }

    fn tell_callers(&self) {
        for name in CALLERS {
            let (asked, served) = (
                self.asked().filter(|sample| sample.ask.caller == name).count(),
                self.served(Some(name)).count(),
            );
            let streams = self.served(Some(name)).filter(|sample| sample.ask.kind == Kind::Stream);
            let first = millis(p99(streams.map(|sample| sample.first)));
            say(&format!(
                "| {name}: served of asked; p99 first token with the wait, ms | {served} of {asked}; {first:.1} |"
            ));
        }
    }

    /// The bounds that it missed.
    fn missed(&self, gate: &Gate) -> Vec<String> {
        let mut missed = Vec::new();
        let mut bound = |kept: bool, what: String| {
            if !kept {
                missed.push(what);
            }
        };
        let share = self.goodput() / self.peak;
        bound(share >= GOODPUT, format!("goodput is {share:.2} of the peak, {GOODPUT} is wanted"));
        let (figure, name): (fn(Vec<Duration>) -> Duration, _) = match gate.bound {
            Bound::P99 => (p99, "p99"),
            Bound::Mean => (mean, "mean"),
        };
        let [unloaded, service, _] = self.first_tokens(figure);
        let slower = service.as_secs_f64() / unloaded.as_secs_f64();
        bound(
            slower <= SLOWER,
            format!("{name} of the first token once admitted is {slower:.2} of an unloaded one's"),
        );
        let fair = self.fairness();
        bound(fair >= FAIR, format!("one caller is served {fair:.2} of what another is, {FAIR} is wanted"));
        let urgent =
            self.asked().filter(|sample| sample.ask.caller == "urgent" && !sample.is_served()).count();
        bound(urgent == 0, format!("{urgent} of the important were not served"));
        let bare =
            self.refused().filter(|sample| sample.end != End::Refused { status: 503, after: true }).count();
        bound(bare == 0, format!("{bare} were refused otherwise than with 503 and when to come again"));
        let broken: Vec<_> =
            self.crowd.iter().filter(|sample| matches!(sample.end, End::Broken(_))).collect();
        let first = broken.first().map(|sample| format!("{:?}", sample.end)).unwrap_or_default();
        bound(broken.is_empty(), format!("{} broke, the first with {first}", broken.len()));
        let late = p99(self.refused().map(|sample| sample.took));
        bound(late <= REFUSAL, format!("p99 of refusals is {:.0} ms", millis(late)));
        let growth = self.memory.1 as f64 / self.memory.0 as f64;
        bound(growth <= GROWTH, format!("resident memory is {growth:.2} of what it was"));
        missed
    }
}

fn mean(times: Vec<Duration>) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(u32::MAX).max(1)
}
