//! What clients see of the edge under strain, against bounds: one of ten nodes falls sick in every way that there is, and
//! several times as much is asked as the nodes can do. Nodes and clients are in this process.

mod client;
mod crowd;
#[path = "../edge.rs"]
#[expect(dead_code, reason = "open files are for another benchmark")]
mod edge;
#[path = "../load/fault.rs"]
#[expect(dead_code, reason = "faults are not gathered here")]
mod fault;
#[path = "../load/histogram.rs"]
#[expect(dead_code, reason = "there is one histogram for each figure")]
mod histogram;
#[path = "../load/http1.rs"]
#[expect(dead_code, reason = "a reply is not read in place of another")]
mod http1;
mod journal;
mod load;
mod node;
mod sick;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

/// The edge under strain.
#[derive(Parser)]
struct Cli {
    /// The program that is measured.
    #[arg(long, global = true, default_value = "target/release/forebay")]
    forebay: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One of ten nodes falls sick.
    Sick(sick::Args),
    /// More is asked than can be done.
    Crowd(crowd::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run(&cli))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "strain: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether every bound is kept.
async fn run(cli: &Cli) -> io::Result<bool> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let missed = match &cli.verb {
        Verb::Sick(args) => sick::run(&cli.forebay, args).await?,
        Verb::Crowd(args) => crowd::run(&cli.forebay, args).await?,
    };
    say("");
    for bound in &missed {
        say(&format!("Missed: {bound}"));
    }
    if missed.is_empty() {
        say("Every bound is kept.");
    }
    Ok(missed.is_empty())
}

/// Writes a line at once. If nobody reads it, nobody misses it.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
