//! The verbs of the `forebay` binary.
//!
//! Exit codes: 0 for success, 1 for a configuration with errors or a failure to run, 2 for a command line that is
//! not understood, 3 for a drain whose deadline had to end something.

mod audit;
mod drain;
mod key;
mod operator;
mod quickstart;
mod usage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use forebay::config::{self, Loaded};
use forebay::dialect::ir::Facts;
use forebay::dialect::loss::{Table, name as name_of};
use forebay::dialect::translate::{Client, Upstream};
use forebay::exchange::explain::Question;
use forebay::meter::audit::fingerprint;
use forebay::meter::{logger, metrics};
use forebay::provider::facts::facts;
use forebay::{exchange, provider, server, sim};

/// Half the memory of the alternatives for each open stream, at the same speed: see `bench/README.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The L7 edge in front of a fleet of LLM APIs and GPU nodes.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve until told to stop (SIGTERM, SIGINT).
    Run {
        /// The configuration; without one it is taken from the environment (OPENAI_API_KEY and so on).
        file: Option<PathBuf>,
        /// The same, as an option.
        #[arg(short, long, conflicts_with = "file")]
        config: Option<PathBuf>,
        /// Serve an embedded, simulated fleet; providers whose key is in the environment are real.
        #[arg(long, conflicts_with_all = ["file", "config"])]
        quickstart: bool,
    },
    /// Show everything that is wrong with a configuration; 1 if anything is.
    Check {
        /// The configuration; without one the environment is checked.
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Show where a request would go by a configuration, and why, without sending anything.
    Explain {
        /// The configuration; without one it is taken from the environment.
        file: Option<PathBuf>,
        /// The body of the request, as JSON.
        #[arg(long)]
        request: PathBuf,
        /// Its path.
        #[arg(long, default_value = "/v1/chat/completions")]
        path: String,
        /// The host that it names.
        #[arg(long, default_value = "localhost")]
        host: String,
        /// The principal whose it is, by its name in `keys`.
        #[arg(long = "as")]
        principal: Option<String>,
    },
    Drain(drain::Args),
    Audit(audit::Args),
    #[command(alias = "keys")]
    Key(key::Args),
    /// Show what of requests and replies arrives where client and upstream speak different dialects.
    Dialects {
        /// Only for clients of this dialect: chat, messages, responses, gemini, converse.
        #[arg(long, value_parser = client)]
        client: Option<Client>,
        /// Only for upstreams of this dialect: the same, and cohere, ollama. With both, it says why, too.
        #[arg(long, value_parser = upstream)]
        upstream: Option<Upstream>,
    },
    Usage(usage::Args),
    /// Simulate LLM providers and inference engines, with faults on demand.
    Sim(Box<sim::Args>),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run { quickstart: true, .. } => quickstart::run(),
        Verb::Run { file, config, .. } => run(file.or(config)),
        Verb::Check { file } => check(file),
        Verb::Schema => say(&format!("{:#}", config::json_schema())),
        Verb::Explain { file, request, path, host, principal } => explain(
            file,
            &request,
            &Question { host: &host, path: &path, body: &[], principal: principal.as_deref() },
        ),
        Verb::Drain(args) => return ended(drain::run(&args)),
        Verb::Audit(args) => audit::run(args),
        Verb::Key(args) => key::run(&args),
        Verb::Dialects { client, upstream } => say(&dialects(client, upstream)),
        Verb::Usage(args) => usage::run(args),
        Verb::Sim(args) => simulate(*args),
    };
    ended(done.map(|()| ExitCode::SUCCESS))
}

fn ended(done: Result<ExitCode, String>) -> ExitCode {
    done.unwrap_or_else(|why| {
        complain(&why);
        ExitCode::FAILURE
    })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn run(file: Option<PathBuf>) -> Result<(), String> {
    let loaded = load(file)?;
    serve(loaded)
}

fn load(file: Option<PathBuf>) -> Result<Loaded, String> {
    config::load(file.as_deref(), &environment)
        .map_err(|diagnostics| format!("{diagnostics}{}", diagnostics.summary()))
}

/// Runs what was loaded, until the process is told to stop.
fn serve(loaded: Loaded) -> Result<(), String> {
    let log = &loaded.snapshot.log;
    logger::init(log.format, &log.level).map_err(|error| format!("the log cannot be set up: {error}"))?;
    count_panics();
    for warning in loaded.warnings.iter() {
        log::warn!("{}: {}", warning.path, warning.message);
    }
    let written = serde_json::to_string(&loaded.config).map_err(|error| error.to_string())?;
    let done = server::run(Arc::new(loaded.snapshot), &fingerprint(&written));
    forebay::meter::audit::stop();
    logger::flush();
    done
}

fn check(file: Option<PathBuf>) -> Result<(), String> {
    let loaded = load(file)?;
    if loaded.warnings.is_empty() {
        return say("no problems found");
    }
    say(&format!("{}{}", loaded.warnings, loaded.warnings.summary()))
}

fn explain(file: Option<PathBuf>, request: &Path, question: &Question<'_>) -> Result<(), String> {
    let loaded = load(file)?;
    let body = std::fs::read(request).map_err(|error| format!("{}: {error}", request.display()))?;
    say(&exchange::explain::explain(&loaded.snapshot, &Question { body: &body, ..*question })?)
}

fn dialects(client: Option<Client>, upstream: Option<Upstream>) -> String {
    let facts_of = |name: &str, model: &str| {
        provider::find(name).map_or_else(Facts::default, |provider| facts(provider, model))
    };
    Table::of(facts_of).text(client, upstream)
}

fn client(name: &str) -> Result<Client, String> {
    let mut all = Client::ALL.into_iter();
    all.find(|client| name_of(client.origin()).eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name))
}

fn upstream(name: &str) -> Result<Upstream, String> {
    let mut all = Upstream::ALL.into_iter();
    all.find(|upstream| name_of(upstream.origin()).eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> String {
    let known: Vec<String> =
        Upstream::ALL.iter().map(|upstream| name_of(upstream.origin()).to_lowercase()).collect();
    format!("`{name}` is not one of {}", known.join(", "))
}

fn simulate(args: sim::Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.and_then(|runtime| runtime.block_on(sim::run(args))).map_err(|error| error.to_string())
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{}", text.trim_end()).map_err(|error| error.to_string())
}

fn complain(text: &str) {
    // There is nowhere left to report that standard error cannot be written.
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// A panic ends one connection, not the process; it must not go unseen.
fn count_panics() {
    std::panic::set_hook(Box::new(|panic| {
        metrics::METRICS.http.panics.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        log::error!(
            "a panic at {place}, which is a bug of Forebay's: {}",
            panic.payload_as_str().unwrap_or_default()
        );
    }));
}
