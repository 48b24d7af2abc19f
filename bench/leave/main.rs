//! How soon an upstream notices that a client has left: opens many exchanges, leaves them in a phase, one after the
//! other and all at once, and looks whether anything of them stays.

mod client;
#[path = "../edge.rs"]
#[expect(dead_code, reason = "memory is for another benchmark")]
mod edge;
mod site;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use forebay::sim::{Config, Sim};
use rustix::process::{Resource, getrlimit, setrlimit};

use client::{Clients, Speaks};
use edge::{Edge, PATIENCE};

/// How soon an upstream notices that a client has left.
#[derive(Parser)]
struct Cli {
    /// The program that is measured.
    #[arg(long, default_value = "target/release/forebay")]
    forebay: PathBuf,
    /// Exchanges of each phase that are left one after the other, and as many again that are left at once.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
}

/// A moment to leave in.
struct Phase {
    name: &'static str,
    /// What the simulator does to keep exchanges in it.
    fault: &'static str,
    stream: bool,
    /// What the client has seen in it.
    sees: Option<&'static str>,
}

const PHASES: &[Phase] = &[
    Phase { name: "before the head", fault: "stall=head", stream: true, sees: None },
    Phase { name: "before the first token", fault: "stall=0", stream: true, sees: None },
    Phase { name: "mid-stream", fault: "stall=3", stream: true, sees: Some("canary") },
    Phase { name: "whole, before the head", fault: "stall=head", stream: false, sees: None },
    Phase { name: "whole, mid-body", fault: "stall=1", stream: false, sees: None },
];

/// What the upstream speaks, which is also its model.
const UPSTREAMS: [&str; 2] = ["1.1", "2"];
/// What is asked for, median and worst.
const TARGET: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run(&cli))) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "leave: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line at once. If nobody reads it, nobody misses it.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says in how many phases the target was missed.
async fn run(cli: &Cli) -> io::Result<usize> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let sim = Sim::start(Config::default(), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let edge = site::start(&cli.forebay, sim.addr()).await?;
    let bench = Bench { sim: &sim, edge: &edge };
    // What is opened once and for all is open when files are counted.
    for upstream in UPSTREAMS {
        for phase in PHASES {
            bench.leave(phase, Speaks::One, upstream, 8).await?;
        }
    }
    let files = site::files_at_rest(&edge, None).await?;
    say("| client | upstream | phase | median, ms | worst, ms | all at once, ms |");
    say("|---|---|---|--:|--:|--:|");
    let mut missed = 0;
    for upstream in UPSTREAMS {
        for speaks in [Speaks::One, Speaks::Two] {
            for phase in PHASES {
                let times = bench.leave(phase, speaks, upstream, cli.streams).await?;
                missed += usize::from(times.worst > TARGET);
                say(&times.row(phase, speaks, upstream));
                site::files_at_rest(&edge, Some(files)).await?;
            }
        }
    }
    say(&format!("\nTarget: {} ms, median and worst; missed in {missed} phases.", TARGET.as_millis()));
    say(&format!(
        "Nothing stayed: every gauge is at zero, and no more than the {files} files from before are open."
    ));
    Ok(missed)
}

/// The upstream, and the edge before it.
struct Bench<'a> {
    sim: &'a Sim,
    edge: &'a Edge,
}

/// From a client's leaving to the upstream's notice.
struct Times {
    median: Duration,
    worst: Duration,
    /// Until the last was noticed, where all left at once.
    together: Duration,
}

impl Bench<'_> {
    async fn leave(
        &self,
        phase: &Phase,
        speaks: Speaks,
        upstream: &str,
        streams: usize,
    ) -> io::Result<Times> {
        let opened = self.open(phase, speaks, upstream, streams).await?;
        let mut times = Vec::with_capacity(streams);
        let mut gone = self.sim.stats().snapshot().cancelled.total();
        for client in opened.clients {
            gone += 1;
            times.push(self.noticed(gone, client).await?);
        }
        times.sort_unstable();
        let opened = self.open(phase, speaks, upstream, streams).await?;
        let together = self.noticed(gone + streams as u64, opened.clients).await?;
        let (median, worst) = (times.get(streams / 2).copied(), times.last().copied());
        Ok(Times { median: median.unwrap_or_default(), worst: worst.unwrap_or_default(), together })
    }

    /// Opens so many exchanges, and waits until all are in that phase.
    async fn open(
        &self,
        phase: &Phase,
        speaks: Speaks,
        upstream: &str,
        streams: usize,
    ) -> io::Result<Clients> {
        let heads = site::heads(self.edge, upstream).await?;
        let requests = self.sim.stats().snapshot().requests;
        let opened = Clients::open(self.edge.addr, phase, speaks, upstream, streams).await?;
        let asked = requests + streams as u64;
        self.sim.stats().wait_until(|stats| stats.requests == asked, PATIENCE).await.map_err(|stats| {
            io::Error::other(format!("{}: only {} of {asked} requests came", phase.name, stats.requests))
        })?;
        let came = heads + if phase.fault == "stall=head" { 0 } else { streams as u64 };
        edge::until("the heads of all replies", async || Ok(site::heads(self.edge, upstream).await? == came))
            .await?;
        Ok(opened)
    }

    /// Drops what is `left`, and waits until so many clients were seen to be gone.
    async fn noticed<T>(&self, gone: u64, left: T) -> io::Result<Duration> {
        let began = Instant::now();
        drop(left);
        let seen = self.sim.stats().wait_until(|stats| stats.cancelled.total() == gone, PATIENCE).await;
        seen.map_err(|stats| {
            io::Error::other(format!("only {} of {gone} were noticed", stats.cancelled.total()))
        })?;
        Ok(began.elapsed())
    }
}

impl Times {
    fn row(&self, phase: &Phase, speaks: Speaks, upstream: &str) -> String {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, worst, together) = (millis(self.median), millis(self.worst), millis(self.together));
        let client = speaks.name();
        format!(
            "| HTTP/{client} | HTTP/{upstream} | {} | {median:.2} | {worst:.2} | {together:.1} |",
            phase.name
        )
    }
}
