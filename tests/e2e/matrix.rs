//! The fault matrix: whatever goes wrong with an upstream, in a stream and in a whole reply, over HTTP/1.1 and HTTP/2,
//! with another endpoint left, with another deployment left, and with none.
//!
//! [`table`] states what comes of each cell; here it is tried. After each, nothing is in flight, and once the upstream is
//! cured the next exchange succeeds at its first attempt and gets its own reply: no connection of the pool is poisoned.

mod site;
mod table;

use forebay::sim::Sim;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::dialects::{Dialect, events};
use crate::faults::Asker;
use crate::faults::Sees::{self, Answer};
use crate::support::{Edge, Reply, soon};
use site::{Case, SETTINGS, SHORT, Sick, Site};
use table::{BROKEN, Billed, Cell, Row, SILENT, TOLD, UNREACHABLE};

/// Every fault that the matrix has at every request, for whoever looks at something else of it.
pub(crate) fn faults() -> Vec<&'static str> {
    let rows = [UNREACHABLE, BROKEN, TOLD, SILENT].into_iter().flatten();
    let always = |row: &Row| match row.sick {
        Sick::Always(fault) => Some(fault),
        Sick::Pooled(_) | Sick::Refuses | Sick::BlackHole => None,
    };
    rows.filter_map(always).collect()
}

/// Settings and clocks of a cluster in which they strike.
pub(crate) fn settings() -> String {
    format!("{SETTINGS}{SHORT}")
}

#[tokio::test]
async fn no_connection_or_none_that_serves() {
    judge_all(UNREACHABLE, SHORT).await;
}

#[tokio::test]
async fn replies_that_break_off_or_cannot_be_read() {
    judge_all(BROKEN, "").await;
}

#[tokio::test]
async fn errors_that_are_told() {
    judge_all(TOLD, "").await;
}

#[tokio::test]
async fn silence_and_slowness() {
    judge_all(SILENT, SHORT).await;
}

/// Tries all rows at once, streams and whole replies of each on an edge of their own.
async fn judge_all(rows: &'static [Row], clocks: &'static str) {
    let mut judging = JoinSet::new();
    for row in rows {
        judging.spawn(judge_row(row, true, clocks));
        judging.spawn(judge_row(row, false, clocks));
    }
    let wrong: Vec<String> = judging.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Tries the cells of a row one after the other, so that what their edge counts is one cell's.
async fn judge_row(row: &'static Row, stream: bool, clocks: &'static str) -> Vec<String> {
    let Site { edge, cases } = Site::start(row.sick, stream, clocks).await;
    let (kind, courses) = if stream { ("stream", &row.stream) } else { ("whole", &row.whole) };
    let mut wrong = Vec::new();
    for mut case in cases {
        let cell = &courses[case.http as usize][case.left as usize];
        let name = format!("{}, {kind}, HTTP/{:?}, left {:?}", row.sick, case.http, case.left);
        if let Err(found) = judge(&edge, &mut case, row, cell).await {
            wrong.push(format!("{name}: {found}"));
        }
    }
    wrong
}

/// Tries a cell. What is not as it is stated is the error.
async fn judge(edge: &Edge, case: &mut Case, row: &Row, cell: &Cell) -> Result<(), String> {
    let trial = Trial { edge, case };
    if matches!(row.sick, Sick::Pooled(_)) {
        trial.ask("before").await;
        trial.rested().await;
    }
    case.sick.sicken();
    let trial = Trial { edge, case };
    let before = trial.counted().await;
    let (reply, line) = trial.ask("struck").await;
    let [attempts, input, output] = trial.counted().await;
    let counted = [attempts - before[0], input - before[1], output - before[2]];
    let seen = trial.cell(&reply, &line, counted)?;
    if seen != *cell {
        return Err(format!("\n    is  {seen:?}\n    not {cell:?}\n    {reply:?}\n    {line}"));
    }
    trial.rested().await;
    case.sick.cure().await;
    let trial = Trial { edge, case };
    let (reply, line) = trial.ask("after").await;
    if trial.sees("after", &reply) != Answer || line["attempts"] != 1 {
        return Err(format!("what comes after it is not right: {reply:?}\n    {line}"));
    }
    trial.rested().await;
    Ok(())
}

/// One cell being tried.
struct Trial<'a> {
    edge: &'a Edge,
    case: &'a Case,
}

/// What an attempt may fail for, in the words of the log.
const CAUSES: [&str; 6] = ["unsent", "broken", "slow", "failed", "limited", "unserved"];

impl Trial<'_> {
    fn asker(&self) -> Asker<'_> {
        Asker { edge: self.edge, dialect: Dialect::Chat, over_h2: false }
    }

    /// Asks for words of its own, and waits for the line in the log.
    async fn ask(&self, what: &str) -> (Reply, Value) {
        let (name, text) = (&self.case.name, self.words(what));
        let id = format!("{name}.{what}");
        let fields = [("x-request-id", id.as_str()), ("x-sim-text", &text)];
        let reply = self.asker().ask(name, self.case.stream, &fields).await;
        (reply, self.edge.access(|line| line["id"] == id.as_str()).await)
    }

    fn words(&self, what: &str) -> String {
        format!("{} {what} one two three four five six seven eight nine", self.case.name)
    }

    /// What the client sees. An answer to another question is wrong.
    fn sees(&self, what: &str, reply: &Reply) -> Sees {
        match self.asker().sees(self.case.stream, reply) {
            Answer if said(self.case.stream, reply) != self.words(what) => Sees::Wrong,
            seen => seen,
        }
    }

    /// Attempts, and tokens of prompts and of replies, as the metrics have them.
    async fn counted(&self) -> [f64; 3] {
        let model = format!("model=\"{}\"", self.case.name);
        let requests = self.edge.total("llm_provider_requests_total", &[&model]).await;
        let input = self.edge.total("llm_tokens_total", &[&model, "kind=\"input\""]).await;
        let output = self.edge.total("llm_tokens_total", &[&model, "kind=\"output\""]).await;
        [requests, input, output]
    }

    /// What the exchange came to, where its traces agree.
    fn cell(&self, reply: &Reply, line: &Value, counted: [f64; 3]) -> Result<Cell, String> {
        let attempts = line["attempts"].as_u64().unwrap();
        let story = line["passed"].as_str().unwrap_or_default();
        let why = story.split("; ").filter_map(|passed| passed.rsplit_once(": "));
        let causes: Vec<_> =
            why.filter_map(|(_, why)| CAUSES.into_iter().find(|cause| *cause == why)).collect();
        let cause = causes.first().copied().unwrap_or_default();
        let requests = |sim: Option<&Sim>| sim.map_or(0, |sim| sim.stats().snapshot().requests);
        let (billed, tokens) = self.billed(line)?;
        if counted != [attempts as f64, tokens[0] as f64, tokens[1] as f64] {
            return Err(format!("the metrics count {counted:?} of {line}"));
        }
        if causes.iter().any(|other| *other != cause) {
            return Err(format!("attempts failed for several causes: {line}"));
        }
        Ok(Cell {
            sees: self.sees("struck", reply),
            attempts,
            failed: causes.len() as u64,
            cause,
            asked: [requests(self.case.sick.sim()), requests(self.case.spare.as_ref())],
            billed,
        })
    }

    /// Whose tokens the log has, and that they are those that were made for the one call that it made.
    fn billed(&self, line: &Value) -> Result<(Billed, [u64; 2]), String> {
        let tokens = |kind: &str| line[kind].as_u64();
        let (Some(input), Some(output)) = (tokens("input_tokens"), tokens("output_tokens")) else {
            return Ok((Billed::Nobodys, [0, 0]));
        };
        let is_spare = |sim: &&Sim| line["endpoint"] == format!("http://{}", sim.addr());
        let (billed, sim) = match self.case.spare.as_ref().filter(is_spare) {
            Some(sim) => (Billed::Spare, Some(sim)),
            None => (Billed::Sick, self.case.sick.sim()),
        };
        let models = sim.ok_or("tokens of nobody")?.stats().snapshot().models;
        let bills: Vec<_> =
            models.values().map(|bill| (bill.calls, bill.prompt_tokens, bill.output_tokens)).collect();
        match bills[..] {
            [(1, prompt, made)] if (prompt, made) == (input, output) => Ok((billed, [input, output])),
            _ => Err(format!("{bills:?} was made, but counted is {line}")),
        }
    }

    /// Waits until nothing is in flight any more, and no more connections are open than the pools may keep.
    async fn rested(&self) {
        let idle = async {
            for gauge in ["forebay_in_flight", "forebay_streams", "forebay_connections", "forebay_held_bytes"]
            {
                while self.edge.total(gauge, &[]).await > 0.0 {}
            }
            while self.edge.total("forebay_endpoint_in_flight", &[]).await > 0.0 {}
            for name in [self.case.name.clone(), format!("{}b", self.case.name)] {
                let cluster = format!("cluster=\"{name}\"");
                let open = async || self.edge.total("forebay_upstream_connections_open", &[&cluster]).await;
                while open().await > self.case.upstreams() {}
            }
        };
        soon("rest after an exchange", idle).await;
        self.edge.idle().await;
    }
}

/// The text of an answer in the dialect of chat completions.
fn said(stream: bool, reply: &Reply) -> String {
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    match stream {
        true => events(&reply.body).iter().map(|(_, data)| text(&data["choices"][0]["delta"])).collect(),
        false => text(&reply.json()["choices"][0]["message"]),
    }
}
