//! Load for the benchmark, and the upstream that it is answered by: one small binary, so that both sides agree on
//! every byte.
//!
//! - `load upstream` answers chat completions, whole or as a stream, with the send time in every event.
//! - `load json` sends whole exchanges, in a closed loop (as fast as replies come) or an open one (at a given rate,
//!   with latencies from when a request was due, so that a slow proxy cannot hide its queue).
//! - `load sse` holds streams open and measures how long each event was under way.
//!
//! Both clients compare every byte of every reply with what it must be. They print `begin` and `end` on lines of
//! their own around the time that is measured, so that a watcher can read a proxy's CPU time at both, and then a
//! JSON object with what they saw. They exit with 1 if a single reply was lost or damaged.

mod closed;
mod fault;
mod histogram;
mod http1;
mod link;
mod open;
mod phase;
mod sse;
mod upstream;
mod wire;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

/// Load generator and upstream of the benchmark.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer requests; prints the address it listens on.
    Upstream {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Exchanges with whole replies.
    Json(JsonArgs),
    /// Streams of events.
    Sse(SseArgs),
}

/// Where the load goes, and for how long.
#[derive(Args, Clone)]
struct Target {
    /// The proxy, or the upstream itself.
    #[arg(long)]
    addr: SocketAddr,
    /// The model that is asked for.
    #[arg(long, default_value = "bench")]
    model: String,
    /// The key that is sent as a bearer token. Left out: none.
    #[arg(long)]
    key: Option<String>,
    /// Seconds before anything is measured.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Args, Clone)]
struct JsonArgs {
    #[command(flatten)]
    target: Target,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Requests a second over all connections (the open loop). Left out: as many as there are replies.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Args, Clone)]
struct SseArgs {
    #[command(flatten)]
    target: Target,
    /// Streams held open.
    #[arg(long, default_value_t = 200)]
    streams: u32,
    /// Milliseconds from one event of a stream to the next.
    #[arg(long, default_value_t = 20.0)]
    interval_ms: f64,
    /// Seconds over which the streams are opened.
    #[arg(long, default_value_t = 1.0)]
    ramp: f64,
    /// Do not ask for usage, and take it for damage if it comes: for a proxy that asks for it on its own.
    #[arg(long)]
    no_usage: bool,
    /// Seconds, after those that are measured, in which short streams are run beside the others to see how long a
    /// first event takes.
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// How many short streams run at once meanwhile, each on a connection that it keeps.
    #[arg(long, default_value_t = 50)]
    churn_slots: u32,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Upstream { listen } => on_this_thread(upstream::serve(listen)).map(|()| None),
        Verb::Json(args) => match args.rate {
            None => on_this_thread(closed::run(args)),
            Some(rate) => open::run(&args, rate),
        }
        .map(Some),
        Verb::Sse(args) => on_this_thread(sse::run(args)).map(Some),
    };
    match done {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(outcome)) => {
            say(&outcome.seen.to_string());
            if outcome.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            // Where even this cannot be written, the exit status still tells.
            let _ = writeln!(io::stderr(), "load: {error}");
            ExitCode::from(2)
        }
    }
}

/// What a run came to.
struct Outcome {
    /// What was seen, for the report.
    seen: Value,
    /// Whether every reply was whole and right.
    clean: bool,
}

/// Runs a future, and what it spawns, on this thread alone.
fn on_this_thread<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(future))
}

/// Writes a line at once, for whoever waits for it. If nobody reads it any more, nobody misses it.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
