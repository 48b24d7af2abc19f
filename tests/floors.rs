//! The house's floors: a module imports only from lower ones, and files and functions stay readable.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its own sources has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, the ground first. A module may use its own floor's neighbours only where listed in [`NEIGHBOURS`].
const FLOORS: &[&[&str]] = &[
    &["error", "secret", "clocks", "lifecycle", "moment", "network", "pattern", "priority"],
    &["json", "frame"],
    &["dialect", "meter"],
    &["store"],
    &["provider", "access", "limit", "upstream", "route", "filter"],
    &["snapshot"],
    &["exchange", "config"],
    &["admin", "server"],
];

/// Pairs on one floor, or one floor up, that are meant.
const NEIGHBOURS: &[(&str, &str)] = &[
    // The access log prints usage, and a dialect never sees a meter.
    ("meter", "dialect"),
    // A deployment is a place in a cluster, which has a provider.
    ("route", "upstream"),
    ("upstream", "provider"),
    // What a principal and a model may use is theirs.
    ("access", "limit"),
    ("route", "limit"),
    ("upstream", "limit"),
    // A route says what its requests must keep to.
    ("route", "filter"),
    // The process shows its state on the admin listener.
    ("server", "admin"),
    // How a line of the log looks is configured.
    ("meter", "snapshot"),
];

/// The most lines of a file before its tests.
const FILE: usize = 600;
/// The most lines of a function.
const FUNCTION: usize = 80;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with its text.
fn files() -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![source()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 40, "the sources are not where they were");
    found
}

/// The top-level module a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(source()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// A file's lines before its tests, and without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .take_while(|(_, line)| line.trim_start() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules named after `crate::` in a line.
fn named(line: &str) -> Vec<String> {
    let after = line.split("crate::").skip(1);
    let first =
        |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    after.map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn a_module_imports_only_from_lower_floors() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let from = module(&path);
        let Some(own) = floor(&from) else { continue };
        for (line, code) in code(&text) {
            for to in named(code).into_iter().filter(|to| *to != from) {
                let lower = floor(&to).is_some_and(|floor| floor < own);
                let meant = NEIGHBOURS.contains(&(from.as_str(), to.as_str()));
                if floor(&to).is_some() && !lower && !meant {
                    wrong.push(format!("{}:{line}: {from} uses {to}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let known = |name: &str| {
        floor(name).is_some()
            || ["main", "lib", "audit", "drain", "key", "operator", "quickstart", "sim", "usage"]
                .contains(&name)
    };
    let homeless: Vec<_> = files().iter().map(|(path, _)| module(path)).filter(|name| !known(name)).collect();
    assert!(homeless.is_empty(), "{homeless:?}");
}

#[test]
fn the_simulator_stands_apart() {
    for (path, text) in files() {
        let from = module(&path);
        for (line, code) in code(&text) {
            let uses_sim = code.contains("crate::sim") && from != "sim";
            assert!(!uses_sim, "{}:{line}: only main may use the simulator", path.display());
            let sim_uses =
                from == "sim" && named(code).iter().any(|to| floor(to).is_some_and(|floor| floor > 2));
            assert!(!sim_uses, "{}:{line}: the simulator uses a higher floor", path.display());
        }
    }
}

#[test]
fn pingora_is_named_where_it_belongs() {
    for (path, text) in files() {
        let allowed = ["server", "exchange", "upstream", "admin"].contains(&module(&path).as_str());
        let pure = [
            "balance.rs",
            "breaker.rs",
            "breaker/gate.rs",
            "breaker/key.rs",
            "breaker/window.rs",
            "origin.rs",
            "discover.rs",
            "resolve.rs",
        ]
        .iter()
        .any(|name| path.ends_with(Path::new("upstream").join(name)));
        for (line, code) in code(&text) {
            // What stands in quotes names a log's target, not a type.
            let code: String = code.split('"').step_by(2).collect();
            let named = code.contains("pingora_core::")
                || code.contains("pingora_proxy::")
                || code.contains("pingora_http::");
            assert!(!named || (allowed && !pure), "{}:{line}: {code}", path.display());
        }
    }
}

#[test]
fn no_file_is_named_for_nothing() {
    let empty = ["utils", "util", "common", "helpers", "helper", "types", "manager", "core", "mod", "misc"];
    for (path, _) in files() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(!empty.contains(&name.as_str()), "{}", path.display());
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let length = code(&text).last().map_or(0, |(line, _)| line);
        if length > FILE {
            wrong.push(format!("{}: {length} lines", path.display()));
        }
        wrong.extend(long_functions(&text).into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Functions over the bound. A function ends at the brace in the column where it began.
fn long_functions(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().take_while(|line| line.trim_start() != "#[cfg(test)]").collect();
    let is_function = |line: &str| {
        let line = line.trim_start();
        let line = ["pub ", "pub(super) ", "pub(crate) ", "async ", "const "]
            .iter()
            .fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
        line.starts_with("fn ")
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
        let close = format!("{}}}", " ".repeat(indent(line)));
        let length = lines[start..].iter().position(|line| **line == close).unwrap_or(0) + 1;
        if length > FUNCTION {
            long.push(format!("line {} has a function of {length} lines", start + 1));
        }
    }
    long
}

#[test]
fn the_bounds_would_be_noticed() {
    let long = format!("    pub async fn f() {{\n{}    }}\n", "        x;\n".repeat(FUNCTION));
    assert_eq!(long_functions(&long).len(), 1);
    assert!(long_functions("fn f() {\n}\n").is_empty());
    assert_eq!(named("use crate::json::{a}; crate::meter::x"), ["json", "meter"]);
}
