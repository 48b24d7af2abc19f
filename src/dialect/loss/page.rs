//! The table in words: for a terminal, and as a page of the documentation.

use std::fmt::Write;

use super::{Fate, ReplyRow, Row, TYPICAL, Table};
use crate::dialect::ir::Origin;
use crate::dialect::translate::{Client, Upstream};

/// What a dialect is called.
pub fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::Chat => "Chat",
        Origin::Completions => "Completions",
        Origin::Messages => "Messages",
        Origin::Responses => "Responses",
        Origin::Gemini => "Gemini",
        Origin::Converse => "Converse",
        Origin::Cohere => "Cohere",
        Origin::Ollama => "Ollama",
    }
}

/// What fields and parts have in common: a name, and fates in columns.
struct Line<'t> {
    field: &'static str,
    cells: Vec<(Origin, &'t Fate)>,
}

/// What is told of one dialect.
struct Section<'t> {
    of: Origin,
    lines: Vec<Line<'t>>,
}

/// Puts lines of the same dialect together.
fn sections<'t>(lines: impl Iterator<Item = (Origin, Line<'t>)>) -> Vec<Section<'t>> {
    let mut sections: Vec<Section<'t>> = Vec::new();
    for (of, line) in lines.filter(|(_, line)| !line.cells.is_empty()) {
        match sections.last_mut() {
            Some(last) if last.of == of => last.lines.push(line),
            _ => sections.push(Section { of, lines: vec![line] }),
        }
    }
    sections
}

impl Row {
    fn line(&self, upstream: Option<Upstream>) -> (Origin, Line<'_>) {
        let wanted = self.fates.iter().filter(|(of, _)| upstream.is_none_or(|wanted| wanted == *of));
        let cells = wanted.map(|(upstream, fate)| (upstream.origin(), fate)).collect();
        (self.client.origin(), Line { field: self.field, cells })
    }
}

impl ReplyRow {
    fn line(&self, client: Option<Client>) -> (Origin, Line<'_>) {
        let wanted = self.fates.iter().filter(|(of, _)| client.is_none_or(|wanted| wanted == *of));
        let cells = wanted.map(|(client, fate)| (client.origin(), fate)).collect();
        (self.upstream.origin(), Line { field: self.field, cells })
    }
}

impl Table {
    fn requests(&self, client: Option<Client>, upstream: Option<Upstream>) -> Vec<Section<'_>> {
        let rows = self.requests.iter().filter(|row| client.is_none_or(|client| client == row.client));
        sections(rows.map(|row| row.line(upstream)))
    }

    fn replies(&self, client: Option<Client>, upstream: Option<Upstream>) -> Vec<Section<'_>> {
        let rows = self.replies.iter().filter(|row| upstream.is_none_or(|upstream| upstream == row.upstream));
        sections(rows.map(|row| row.line(client)))
    }

    /// The table for a terminal, of one client, one upstream, or all. Where one pair is left, it says why, too.
    pub fn text(&self, client: Option<Client>, upstream: Option<Upstream>) -> String {
        let mut out = String::new();
        for section in self.requests(client, upstream) {
            section.text(&mut out, "Requests of", "to");
        }
        for section in self.replies(client, upstream) {
            section.text(&mut out, "Replies of", "for");
        }
        match (client, upstream) {
            (Some(client), Some(upstream)) if client.origin() == upstream.origin() => {
                format!("{0} to {0} passes verbatim: nothing is lost.\n", name(client.origin()))
            }
            _ => out,
        }
    }
}

impl Section<'_> {
    fn columns(&self) -> Vec<Origin> {
        self.lines.first().map(|line| line.cells.iter().map(|(of, _)| *of).collect()).unwrap_or_default()
    }

    fn text(&self, out: &mut String, title: &str, way: &str) {
        let columns = self.columns();
        let field = self.lines.iter().map(|line| line.field.chars().count()).max().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = match columns.as_slice() {
            [only] => writeln!(out, "{title} {} {way} {}\n", name(self.of), name(*only)),
            columns => {
                let heads: String = columns.iter().map(|of| format!(" {:<9}", name(*of))).collect();
                writeln!(out, "{title} {}\n\n{:field$}{}", name(self.of), "", heads.trim_end())
            }
        };
        for line in &self.lines {
            let cells: String = match line.cells.as_slice() {
                [(_, fate)] => format!(" {:<8} {}", fate.name(), fate.why().unwrap_or_default()),
                cells => cells.iter().map(|(_, fate)| format!(" {:<9}", fate.name())).collect(),
            };
            let _ = writeln!(out, "{:field$}{}", line.field, cells.trim_end());
        }
        out.push('\n');
    }

    fn markdown(&self, out: &mut String, what: &str, field: impl Fn(&str) -> String) {
        let columns = self.columns();
        let heads: String = columns.iter().map(|of| format!(" {} |", name(*of))).collect();
        let _ = writeln!(
            out,
            "### From {}\n\n| {what} |{heads}\n|---|{}",
            name(self.of),
            "---|".repeat(columns.len())
        );
        for line in &self.lines {
            let cells: String = line.cells.iter().map(|(_, fate)| format!(" {} |", fate.name())).collect();
            let _ = writeln!(out, "| {} |{cells}", field(line.field));
        }
        out.push('\n');
        out.push_str(&self.reasons(field));
    }

    /// Why what is dropped or refused is, each reason once.
    fn reasons(&self, field: impl Fn(&str) -> String) -> String {
        let mut reasons: Vec<(&'static str, &str, Vec<&'static str>)> = Vec::new();
        for line in &self.lines {
            for (of, fate) in &line.cells {
                let (Fate::Dropped(_) | Fate::Refused(_), Some(why)) = (fate, fate.why()) else { continue };
                match reasons.iter_mut().find(|(field, text, _)| *field == line.field && *text == why) {
                    Some((.., columns)) => columns.push(name(*of)),
                    None => reasons.push((line.field, why, vec![name(*of)])),
                }
            }
        }
        let tells = |why: &str| !GENERAL.iter().any(|start| why.starts_with(start));
        let line = |(name, why, columns): (&str, &str, Vec<&str>)| {
            format!("- {} ({}): {why}\n", field(name), columns.join(", "))
        };
        let told: String = reasons.into_iter().filter(|(_, why, _)| tells(why)).map(line).collect();
        if told.is_empty() {
            told
        } else {
            format!("Why, where the other dialect does not simply lack it:\n\n{told}\n")
        }
    }
}

/// A field's name in Markdown: the path as code, what is said of it as it is.
fn field(name: &str) -> String {
    let end = name.find([':', ',', ' ']).unwrap_or(name.len());
    match name.split_at_checked(end) {
        Some((path, rest)) if rest.is_empty() || rest.starts_with([':', ',']) || path.contains('[') => {
            format!("`{path}`{rest}")
        }
        _ => name.to_owned(),
    }
}

/// How reasons begin that say nothing but that the other dialect lacks it.
const GENERAL: [&str; 2] = ["is not known ", "has no equal "];

const INTRO: &str = "# Dialects: what arrives, and what does not

A client that speaks one dialect reaches upstreams of every other. This page says, field by field, what becomes of its
request, and of the reply. It is generated: each field is put into a request, which is translated by the code that
serves traffic, and what comes out is compared. `forebay dialects` prints the same.

Where client and upstream speak the same dialect, the body passes verbatim but for the model's name: every field is
exact, and the pair has no column here.

| word | meaning |
|---|---|
| exact | the upstream is sent the same value under the same name, at the same place |
| mapped | it arrives in another form that says the same, or nearly; or Forebay itself sees to it |
| dropped | it is left out. A `lenient` route says so in a response header and the log; a `strict` one refuses the request with 400, naming the field |
| refused | the request is refused with 400, naming the field, whatever the route says |

In replies there is nobody left to refuse: what is dropped is told of in the log. What is `untold` has no place in the
client's dialect, and nothing is said of it: counts, which Forebay's own log and metrics have, and words for the same end.

Models differ. The columns are those of models that take nearly all that their dialect can say; what another one does
not take is dropped or mapped at its deployment, and is told of in the same way.

";

/// The page of the documentation.
pub fn page(table: &Table) -> String {
    let mut out = INTRO.to_owned();
    out.push_str("| column | stands for |\n|---|---|\n");
    for (upstream, provider, model) in TYPICAL {
        let _ = writeln!(out, "| {} | `{model}` at `{provider}` |", name(upstream.origin()));
    }
    out.push_str("\n## Requests\n\n");
    for section in table.requests(None, None) {
        section.markdown(&mut out, "field", field);
    }
    out.push_str("## Replies\n\nColumns are clients.\n\n");
    for section in table.replies(None, None) {
        section.markdown(&mut out, "part", str::to_owned);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
