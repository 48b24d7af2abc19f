//! `forebay usage`: sums the ledger's files up.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args as ClapArgs, ValueEnum};
use forebay::meter::ledger::sum::{By, Query, Sums};
use forebay::moment::read_rfc3339;

use super::{environment, load, say};

/// Sum up what was spent, from the ledger's files, exactly.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The configuration, whose ledger it is. Left out: that of the environment.
    file: Option<PathBuf>,
    /// The directory of the ledger's files, instead.
    #[arg(long, conflicts_with = "file")]
    directory: Option<PathBuf>,
    /// Not before this day or moment, in UTC: 2026-11-21, or 2026-11-21T09:00:00Z.
    #[arg(long, value_parser = moment)]
    since: Option<SystemTime>,
    /// Before this moment, or to the end of this day.
    #[arg(long)]
    until: Option<String>,
    /// What is summed up apart, with commas between: day, month, principal, team, organisation, model, upstream_model,
    /// cluster, provider, key, route, operation, known.
    #[arg(long, value_delimiter = ',', default_value = "day,principal,model")]
    by: Vec<By>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A list of objects.
    Json,
    /// Comma-separated values.
    Csv,
}

const DAY: Duration = Duration::from_secs(86_400);

fn moment(text: &str) -> Result<SystemTime, String> {
    let whole = || read_rfc3339(&format!("{text}T00:00:00Z"));
    let help =
        || format!("`{text}` is no day such as 2026-11-21, and no moment such as 2026-11-21T09:00:00Z");
    read_rfc3339(text).or_else(whole).ok_or_else(help)
}

/// The end of what is asked for: a day counts as a whole.
fn end(text: &str) -> Result<SystemTime, String> {
    moment(text).map(|at| if text.contains('T') { at } else { at + DAY })
}

pub(super) fn run(args: Args) -> Result<(), String> {
    let directory = match args.directory {
        Some(directory) => directory,
        None => directory_of(args.file)?,
    };
    let until = args.until.as_deref().map(end).transpose()?;
    let query = Query { since: args.since, until, by: args.by };
    let sums = Sums::of(&directory, &query).map_err(|error| unreadable(&directory, &error))?;
    match args.format {
        Format::Text => say(&sums.text()),
        Format::Json => say(&format!("{:#}", sums.json())),
        Format::Csv => say(&sums.csv()),
    }
}

fn directory_of(file: Option<PathBuf>) -> Result<PathBuf, String> {
    let configured = load(file)?.snapshot.ledger.directory;
    configured.ok_or_else(|| {
        let hint = if environment("STATE_DIRECTORY").is_none() { ", or `server.state`" } else { "" };
        format!("the configuration keeps no files of the ledger: add `ledger.directory`{hint}, or give --directory")
    })
}

fn unreadable(directory: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", directory.display())
}
