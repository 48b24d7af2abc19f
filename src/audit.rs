//! `forebay audit`: looks whether an audit log is whole.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use forebay::config::value::{SecretRef, Wrong};
use forebay::meter::audit::verify::{Anchor, Verifier};
use forebay::secret::Secret;

use super::{environment, say};

/// Look at an audit log.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether every line is as it was written, and none was put in or taken out; 1 and the first line that does not
    /// fit if not.
    Verify {
        /// The files, the oldest first.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The key that the chain was made with, as in `audit.key`: `env:NAME` or `file:PATH`. Where it was changed, all of
        /// them.
        #[arg(long, value_parser = reference)]
        key: Vec<SecretRef>,
        /// A line that was there once, as the log has it behind `audit: anchor`: `NUMBER:HASH`. It shows whether the end was
        /// cut off.
        #[arg(long)]
        anchor: Vec<Anchor>,
    },
}

fn reference(text: &str) -> Result<SecretRef, String> {
    text.parse().map_err(|wrong: Wrong| wrong.to_string())
}

/// Does it.
pub(super) fn run(args: Args) -> Result<(), String> {
    let Verb::Verify { files, key, anchor } = args.verb;
    let keys = key.iter().map(secret).collect::<Result<Vec<_>, _>>()?;
    let mut verifier = Verifier::new(&keys, anchor);
    for path in files {
        let name = path.display().to_string();
        let file = File::open(&path).map_err(|error| format!("{name}: {error}"))?;
        verifier.file(&name, BufReader::new(file))?;
    }
    say(&verifier.finish()?.to_string())
}

fn secret(reference: &SecretRef) -> Result<Secret, String> {
    match reference {
        SecretRef::Literal(secret) => Ok(secret.clone()),
        SecretRef::Env(name) => environment(name)
            .map(Secret::new)
            .ok_or_else(|| format!("the environment variable {name} is not set")),
        SecretRef::File(path) => {
            let read = std::fs::read_to_string(path);
            read.map(Secret::new).map_err(|error| format!("{}: {error}", path.display()))
        }
        SecretRef::Vault(_) => Err("a key in a Vault is not read here: write it to a file".to_owned()),
    }
}
