//! What is wrong with a configuration: where, what, and what to write instead.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not do what its author wants.
    Warning,
}

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is a default, or concerns the whole.
    #[default]
    Nowhere,
    /// In an environment variable of this name.
    Variable(String),
    /// In the file.
    File {
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
}

/// The way to a value from the root of the configuration, printed as `clusters.gpu.endpoints[1].weight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into the mapping's value of this key.
    Key(String),
    /// Into this element of the sequence, counted from 0.
    Index(usize),
}

impl Path {
    /// The path of the root.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path and one key more.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// This path and one index more.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `other` is this path or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    f.write_str(if i == 0 { "" } else { "." })?;
                    let bare = |c: char| c.is_ascii_alphanumeric() || "_-*/:".contains(c);
                    if !key.is_empty() && key.chars().all(bare) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where the value at fault was written.
    pub place: Place,
    /// Which value it is; empty for the whole.
    pub path: Path,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Something that makes the configuration unusable.
    pub fn error(place: Place, path: Path, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place, path, message: message.into(), help: None }
    }

    /// Something that is allowed and probably not meant.
    pub fn warning(place: Place, path: Path, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, path, message) }
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All that is wrong with one configuration, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    file: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No diagnostics yet, for what is shown as `file`.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: Vec::new() }
    }

    /// Adds one, at its place in the order of the text. One that was reported already (an alias brings the same text
    /// to several paths) is not repeated.
    pub fn push(&mut self, new: Diagnostic) {
        let same = |old: &Diagnostic| {
            old.place == new.place && old.message == new.message && old.place != Place::Nowhere
        };
        if self.list.iter().any(same) {
            return;
        }
        let key = |d: &Diagnostic| (d.place.clone(), d.severity, d.path.clone());
        let at = self.list.partition_point(|old| key(old) <= key(&new));
        self.list.insert(at, new);
    }

    /// Whether the configuration is unusable.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Whether nothing is wrong at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Whether an error was reported for this path or one above it, which makes what follows from it noise.
    pub fn already_wrong(&self, path: &Path) -> bool {
        self.list
            .iter()
            .any(|d| d.severity == Severity::Error && d.path != Path::root() && d.path.covers(path))
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|d| d.severity == severity).count()
    }

    /// `2 errors, 1 warning`, or nothing where there is nothing.
    pub fn summary(&self) -> String {
        let part = |severity, name: &str| match self.count(severity) {
            0 => None,
            1 => Some(format!("1 {name}")),
            n => Some(format!("{n} {name}s")),
        };
        let parts = [part(Severity::Error, "error"), part(Severity::Warning, "warning")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.list {
            match &diagnostic.place {
                Place::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Place::Variable(name) => write!(f, "${name}: ")?,
                Place::Nowhere => write!(f, "{}: ", self.file)?,
            }
            f.write_str(match diagnostic.severity {
                Severity::Error => "error: ",
                Severity::Warning => "warning: ",
            })?;
            if diagnostic.path != Path::root() {
                write!(f, "{}: ", diagnostic.path)?;
            }
            writeln!(f, "{}", diagnostic.message)?;
            for line in diagnostic.help.iter().flat_map(|help| help.lines()) {
                writeln!(f, "    help: {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The one of `known` that `word` was probably meant to be: at most a third of its letters wrong, missing, too many or
/// swapped with their neighbour.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    let close = |candidate: &'a str| {
        let other = candidate.to_ascii_lowercase().replace('-', "_");
        // `warning` for `warn`, `conn` for `connect`.
        if folded.len().min(other.len()) > 3 && (folded.starts_with(&other) || other.starts_with(&folded)) {
            return Some((1, candidate));
        }
        let distance = distance(&folded, &other);
        let bound = (candidate.chars().count() / 3).max(1);
        (distance <= bound).then_some((distance, candidate))
    };
    known.into_iter().filter_map(close).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Place {
        Place::File { line, column }
    }

    #[test]
    fn paths_read_like_code() {
        let path = Path::root().key("clusters").key("gpu").key("endpoints").index(1).key("weight");
        assert_eq!(path.to_string(), "clusters.gpu.endpoints[1].weight");
        let path = Path::root().key("models").key("gpt-4.1").key("list");
        assert_eq!(path.to_string(), "models.\"gpt-4.1\".list");
    }

    #[test]
    fn they_come_out_in_the_order_of_the_text() {
        let mut diagnostics = Diagnostics::new("a.yaml");
        diagnostics.push(Diagnostic::error(at(9, 1), Path::root().key("z"), "late"));
        diagnostics.push(Diagnostic::warning(at(2, 3), Path::root().key("b"), "careful"));
        diagnostics.push(Diagnostic::error(at(2, 3), Path::root().key("b"), "wrong").help("write c"));
        assert_eq!(
            diagnostics.to_string(),
            "a.yaml:2:3: error: b: wrong\n    help: write c\na.yaml:2:3: warning: b: careful\na.yaml:9:1: error: z: late\n"
        );
        assert_eq!(diagnostics.summary(), "2 errors, 1 warning");
        assert!(diagnostics.already_wrong(&Path::root().key("z").index(0)));
        assert!(!diagnostics.already_wrong(&Path::root().key("y")));
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour() {
        let known = ["balance", "base_url", "endpoints"];
        assert_eq!(nearest("balence", known), Some("balance"));
        assert_eq!(nearest("base-url", known), Some("base_url"));
        assert_eq!(nearest("endopints", known), Some("endpoints"));
        assert_eq!(nearest("balancer", known), Some("balance"));
        assert_eq!(nearest("timeout", known), None);
        assert_eq!(distance("", "abc"), 3);
    }
}
