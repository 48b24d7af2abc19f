//! The ledger against the simulator's own bill, attempt by attempt: nothing lost, nothing twice, whatever went wrong and
//! however the process ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use forebay::meter::price::Money;
use forebay::meter::spending::Spending;
use forebay::sim::{Charge, Config, FaultRule, Sim};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::dialects::Dialect;
use crate::matrix;
use crate::support::scripted::{Scripted, Turn, json as reply_of};
use crate::support::{DEADLINE, Edge, cluster_of, fleet, post, sim, soon};

/// A directory for a ledger, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("forebay-e2e-ledger-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// The configuration of a ledger here, with settings of its own, and a price for everything that a simulator says.
    pub(crate) fn config(&self, settings: &str) -> String {
        format!(
            "ledger: {{directory: \"{}\"{settings}}}\n\
             prices: {{rows: [{{provider: simulator, model: \"*\", input: 1, cached: 0.5, output: 2}}]}}\n",
            self.0.display()
        )
    }

    /// Every record, in order.
    fn records(&self) -> Vec<Value> {
        let Ok(files) = forebay::meter::ledger::list(&self.0) else { return Vec::new() };
        let text = files.into_iter().map(|(_, path)| std::fs::read_to_string(path).unwrap());
        let text: String = text.collect();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for so many records.
    async fn wait(&self, count: usize) -> Vec<Value> {
        soon("the records", async {
            loop {
                let records = self.records();
                if records.len() >= count {
                    return records;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

fn count(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or(0)
}

/// What a record costs at the prices above, in picodollars, by its own tokens.
fn worth(record: &Value) -> u64 {
    let cached = count(record, "cached_tokens");
    (count(record, "input_tokens") - cached) * 1_000_000
        + cached * 500_000
        + count(record, "output_tokens") * 2_000_000
}

fn ask(id: &str, model: &str, stream: bool, fields: &str) -> Vec<u8> {
    let fields = format!("x-request-id: {id}\r\n{fields}");
    post(Dialect::Chat.path(), &fields, Dialect::Chat.ask(model, stream))
}

async fn stopped(mut edge: Edge) -> Edge {
    edge.signal("TERM");
    assert!(edge.ended().await.success(), "{}", edge.said());
    edge
}

/// What is known of the records and the charges of one exchange at one endpoint.
type Both<'a> = BTreeMap<(String, String), (Vec<&'a Value>, Vec<Charge>)>;

/// Holds records against what the simulators charge.
fn reconcile(records: &[Value], sims: &[&Sim]) -> usize {
    let mut both = Both::new();
    for record in records {
        let key = (text(record, "id").to_owned(), text(record, "endpoint").to_owned());
        both.entry(key).or_default().0.push(record);
    }
    for sim in sims {
        for charge in sim.stats().charges() {
            let key = (charge.id.clone(), format!("http://{}", sim.addr()));
            both.entry(key).or_default().1.push(charge);
        }
    }
    let mut reported = 0;
    for (key, (records, charges)) in &both {
        let shown = format!("{key:?}\n{records:#?}\n{charges:#?}");
        assert_eq!(records.len(), charges.len(), "an attempt is lost, or there twice: {shown}");
        // Attempts of one exchange at one endpoint are made one after the other, and all end alike.
        let (mut sure, mut made): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for record in records {
            assert_eq!(count(record, "cost"), if is_free(record) { 0 } else { worth(record) }, "{shown}");
            if text(record, "known") == "reported" {
                reported += 1;
                sure.push((count(record, "input_tokens"), count(record, "output_tokens")));
            }
        }
        for charge in charges {
            made.push((charge.bill.prompt_tokens, charge.bill.output_tokens));
        }
        for used in &sure {
            let at = made.iter().position(|made| made == used);
            made.remove(at.unwrap_or_else(|| panic!("{used:?} was never charged: {shown}")));
        }
        let refused = records.iter().filter(|record| is_free(record)).count();
        let free = made.iter().filter(|made| **made == (0, 0)).count();
        assert!(free >= refused, "what was refused was charged: {shown}");
        for record in records.iter().filter(|record| text(record, "known") == "estimated") {
            assert!(count(record, "input_tokens") > 0, "{shown}");
            let most = made.iter().map(|(_, output)| *output).max().unwrap_or(0);
            // A reply that is no stream is taken by its bytes, and so is an error with status 200, which is free.
            let counted = key.0.ends_with("-true") && most > 0;
            assert!(!counted || count(record, "output_tokens") <= most, "{shown}");
        }
    }
    reported
}

fn is_free(record: &Value) -> bool {
    matches!(text(record, "known"), "refused" | "unsent")
}

// === What goes wrong upstream ===

#[tokio::test]
async fn every_fault_of_the_matrix_reconciles() {
    let folder = Folder::new();
    let (mut clusters, mut models, mut sims) = (String::new(), String::new(), Vec::new());
    for fault in matrix::faults() {
        for http in ["1.1", "2"] {
            let rule = FaultRule { fault: fault.into(), ..FaultRule::default() };
            let sick = sim(Config { faults: vec![rule], ..Config::default() }).await;
            let spare = sim(Config::default()).await;
            let name = format!("c{}", sims.len() / 2);
            let [first, second] = [sick.addr(), spare.addr()];
            clusters += &format!(
                "  {name}: {{provider: simulator, http: \"{http}\", endpoints: [{{url: \"http://{first}\", priority: 0}}, \
                 {{url: \"http://{second}\", priority: 1}}], {}}}\n",
                matrix::settings()
            );
            models += &format!("  {name}: {{deployments: [{{cluster: {name}}}]}}\n");
            sims.extend([sick, spare]);
        }
    }
    let config = format!(
        "{}retry: {{attempts: 3, delay: 1ms}}\nclusters:\n{clusters}models:\n{models}",
        folder.config("")
    );
    let edge = std::sync::Arc::new(Edge::start(&config).await);
    let mut asking = JoinSet::new();
    for number in 0..sims.len() / 2 {
        for stream in [true, false] {
            let edge = std::sync::Arc::clone(&edge);
            asking.spawn(async move {
                let model = format!("c{number}");
                let request = ask(&format!("{model}-{stream}"), &model, stream, "");
                let mut client = edge.connect().await;
                client.send(&request).await;
                // What the client sees is the matrix's own matter; some of it is cut.
                let _ = client.reply_or_end().await;
            });
        }
    }
    asking.join_all().await;
    edge.idle().await;
    stopped(std::sync::Arc::into_inner(edge).unwrap()).await;
    let records = folder.records();
    let all: Vec<&Sim> = sims.iter().collect();
    let reported = reconcile(&records, &all);
    assert!(reported > sims.len() / 2, "{reported} of {}", records.len());
    let kinds = ["reported", "estimated", "refused"];
    for kind in kinds {
        assert!(records.iter().any(|record| text(record, "known") == kind), "nothing is {kind}");
    }
    // What is spent is what the records come to.
    let sum: u64 = records.iter().map(|record| count(record, "cost")).sum();
    let spent = Spending::load(&folder.0).unwrap().spent("key:anonymous", SystemTime::now());
    assert_eq!(spent.total, Money::picodollars(sum.into()));
}

#[tokio::test]
async fn a_hedge_that_lost_is_recorded_too() {
    let rule = FaultRule { fault: "stall=head".into(), ..FaultRule::default() };
    let slow = sim(Config { faults: vec![rule], ..Config::default() }).await;
    let (quick, folder) = (sim(Config::default()).await, Folder::new());
    let settings = "balance: priority, breaker: {failures: 1}, hedge: {delay: 50ms}";
    let config = [folder.config(""), cluster_of(&[slow.addr(), quick.addr()], settings)].concat();
    let edge = Edge::start(&config).await;
    let reply = edge.connect().await.ask(&ask("hedged", "m", true, "")).await;
    assert_eq!(reply.status, 200);
    let line = edge.access(|line| line["id"] == "hedged").await;
    let records = folder.wait(2).await;
    slow.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
    assert_eq!(reconcile(&records, &[&slow, &quick]), 1);
    let lost = records.iter().find(|record| text(record, "known") == "estimated").unwrap();
    assert_eq!((text(lost, "end"), count(lost, "status"), count(lost, "attempt")), ("GH", 0, 1), "{lost}");
    let sum: f64 = records.iter().map(|record| count(record, "cost") as f64 / 1e12).sum();
    assert!((line["cost_usd"].as_f64().unwrap() - sum).abs() < 1e-9, "{line}");
    assert_eq!(line["cost_known"], "estimated", "it is as sure as its least sure part");
}

#[tokio::test]
async fn each_part_of_a_stream_that_was_gone_on_with_is_its_own_nodes() {
    let rule = FaultRule { fault: "cut=9".into(), first: Some(1), ..FaultRule::default() };
    let sick = sim(Config { faults: vec![rule], ..Config::default() }).await;
    let (spare, folder) = (sim(Config::default()).await, Folder::new());
    let settings = "balance: priority, breaker: {failures: 0, failure_rate: 0}, continuation: true";
    let config = [folder.config(""), cluster_of(&[sick.addr(), spare.addr()], settings)].concat();
    let edge = Edge::start(&config).await;
    let reply = edge.connect().await.ask(&ask("parts", "m", true, "x-sim-tokens: 20\r\n")).await;
    assert_eq!(reply.status, 200);
    let line = edge.access(|line| line["id"] == "parts").await;
    let records = folder.wait(2).await;
    let known: Vec<&str> = records.iter().map(|record| text(record, "known")).collect();
    assert_eq!(known, ["counted", "reported"], "{records:#?}");
    reconcile(&records, &[&sick, &spare]);
    let made: u64 = records.iter().map(|record| count(record, "output_tokens")).sum();
    assert_eq!(made, line["output_tokens"].as_u64().unwrap(), "{records:#?}");
    let [first, second] = [&records[0], &records[1]].map(|record| text(record, "endpoint").to_owned());
    assert_eq!([first, second], [&sick, &spare].map(|sim| format!("http://{}", sim.addr())));
}

#[tokio::test]
async fn a_client_that_leaves_has_asked_all_the_same() {
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let edge = Edge::start(&[folder.config(""), fleet(&sim)].concat()).await;
    for (id, fault, stream, sees, end) in [
        ("head", "stall=head", true, None, "CH"),
        ("whole", "stall=head", false, None, "CH"),
        ("first", "stall=0", true, None, "CT"),
        ("midst", "stall=3", true, Some("canary"), "CD"),
    ] {
        let before = sim.stats().snapshot().requests;
        let fields = format!("x-sim-fault: {fault}\r\nx-sim-text: canary sings\r\n");
        let mut client = edge.connect().await;
        client.send(&ask(id, "m", stream, &fields)).await;
        sim.stats().wait_until(|stats| stats.requests > before, DEADLINE).await.unwrap();
        if let Some(sees) = sees {
            client.saw(sees).await;
        } else if end == "CT" {
            edge.snapshot("the head", |_| true).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(client);
        edge.access(|line| line["id"] == id).await;
        let records = folder.wait(1).await;
        let record = records.iter().find(|record| text(record, "id") == id);
        let record = match record {
            Some(record) => record.clone(),
            None => folder.wait(records.len() + 1).await.pop().unwrap(),
        };
        assert_eq!((text(&record, "end"), text(&record, "known")), (end, "estimated"), "{record}");
    }
    sim.stats().wait_until(|stats| stats.cancelled.total() == 4, DEADLINE).await.unwrap();
    let records = folder.wait(4).await;
    assert_eq!(reconcile(&records, &[&sim]), 0);
    let midst = records.iter().find(|record| text(record, "id") == "midst").unwrap();
    assert!(count(midst, "output_tokens") > 0, "what passed is counted: {midst}");
}

// === How the process ends ===

#[tokio::test]
async fn told_to_stop_it_loses_nothing_not_even_what_it_cuts() {
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let server = "server: {lame_duck: 0s, drain: 300ms}\n";
    let edge = Edge::start(&[&folder.config(""), server, &fleet(&sim)].concat()).await;
    let mut endless = edge.connect().await;
    endless.send(&ask("cut", "m", true, "x-sim-fault: stall=3\r\nx-sim-text: canary sings\r\n")).await;
    endless.saw("canary").await;
    let mut asking = JoinSet::new();
    for worker in 0..8 {
        let mut client = edge.connect().await;
        asking.spawn(async move {
            for number in 0..50 {
                let request = ask(&format!("w{worker}-{number}"), "m", false, "");
                assert_eq!(client.ask(&request).await.status, 200);
            }
        });
    }
    asking.join_all().await;
    let edge = stopped(edge).await;
    let records = folder.records();
    assert_eq!(records.len(), 401, "{}", edge.said());
    soon("the end of the call", async {
        while sim.stats().charges().len() < 401 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(reconcile(&records, &[&sim]), 400);
    let cut = records.iter().find(|record| text(record, "id") == "cut").unwrap();
    assert_eq!((text(cut, "known"), text(cut, "end")), ("estimated", "GD"), "{cut}");
    assert!(count(cut, "output_tokens") > 0, "{cut}");
}

#[tokio::test]
async fn killed_it_loses_no_more_than_it_says_and_counts_nothing_twice() {
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let config = [folder.config(", interval: 100ms"), fleet(&sim)].concat();
    let (mut records, mut asked) = (Vec::new(), 0);
    for round in 0..3 {
        let mut edge = Edge::start(&config).await;
        let mut client = edge.connect().await;
        for number in 0..20 {
            let request = ask(&format!("r{round}-{number}"), "m", false, "");
            assert_eq!(client.ask(&request).await.status, 200);
        }
        asked += 20;
        // What is written survives the process; how long that takes is bounded.
        records = folder.wait(asked).await;
        edge.signal("KILL");
        edge.ended().await;
        // And what the kill tore is mended.
        let (_, last) = forebay::meter::ledger::list(&folder.0).unwrap().pop().unwrap();
        let mut torn = std::fs::read(&last).unwrap();
        torn.extend_from_slice(b"{\"ts\":\"2026-11-21T00:00:00.000Z\",\"id\":\"to");
        std::fs::write(&last, torn).unwrap();
    }
    assert_eq!(reconcile(&records, &[&sim]), 60);
    stopped(Edge::start(&config).await).await;
    let records = folder.records();
    assert_eq!(records.len(), 60);
    let sum: u64 = records.iter().map(|record| count(record, "cost")).sum();
    let (spending, now) = (Spending::load(&folder.0).unwrap(), SystemTime::now());
    let spent = [
        spending.spent("key:anonymous", now),
        spending.spent_on("key:anonymous", |model| model == "m", now),
        spending.spent("model:*", now),
    ];
    assert!(spent.iter().all(|spent| spent.total == Money::picodollars(sum.into())), "{spent:?}");
}

// === Files, sinks and sums ===

#[tokio::test]
async fn files_are_rotated_and_summed_up_exactly() {
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let edge = Edge::start(&[folder.config(", rotate_size: 4KiB"), fleet(&sim)].concat()).await;
    let mut client = edge.connect().await;
    let mut asked = 0;
    // Each file is begun with a batch, so several are needed.
    for number in 0..60 {
        let model = ["m", "n"][number % 2];
        assert_eq!(client.ask(&ask(&format!("r{number}"), model, false, "")).await.status, 200);
        asked += 1;
        if number % 15 == 14 {
            folder.wait(asked).await;
        }
    }
    drop(client);
    stopped(edge).await;
    assert!(forebay::meter::ledger::list(&folder.0).unwrap().len() > 2);
    let records = folder.records();
    assert_eq!(reconcile(&records, &[&sim]), 60);
    let usage = |format: &str, by: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["usage", "--format", format, "--by", by, "--directory"])
            .arg(&folder.0)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let sums: Value = serde_json::from_str(&usage("json", "upstream_model")).unwrap();
    for (model, row) in ["m", "n"].into_iter().zip(sums.as_array().unwrap()) {
        let mine: Vec<&Value> = records.iter().filter(|record| text(record, "model") == model).collect();
        let sum = |name: &str| mine.iter().map(|record| count(record, name)).sum::<u64>();
        assert_eq!(row["upstream_model"], model);
        assert_eq!((row["attempts"].as_u64(), row["unpriced"].as_u64()), (Some(30), Some(0)), "{row}");
        assert_eq!(row["output_tokens"].as_u64(), Some(sum("output_tokens")), "{row}");
        assert_eq!(row["cost_usd"], Money::picodollars(sum("cost").into()).to_string(), "{row}");
    }
    assert!(usage("csv", "principal").starts_with("principal,attempts,"));
    assert!(usage("text", "day,principal,model").contains("anonymous"));
}

#[tokio::test]
async fn a_sink_that_is_down_gets_everything_once_it_is_back() {
    let taker = Scripted::start(|asked| match asked.number {
        0 => Turn::CloseAfter(Duration::ZERO),
        1 => Turn::Say(reply_of(503, "{}")),
        _ => Turn::Say(reply_of(200, "{}")),
    })
    .await;
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let http = format!(", http: {{url: \"http://{}/records?of=forebay\", token: \"env:TAKER\"}}", taker.addr);
    let http = http.replace("?of=forebay", "");
    let config = [folder.config(&http), fleet(&sim)].concat();
    let edge = Edge::start_with(&config, &[("TAKER", "a-token-for-the-taker")]).await;
    let mut client = edge.connect().await;
    for number in 0..10 {
        assert_eq!(client.ask(&ask(&format!("r{number}"), "m", false, "")).await.status, 200);
    }
    drop(client);
    soon("the records", async {
        while taker.received().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let edge = stopped(edge).await;
    let received = taker.received();
    let mut ids: Vec<String> = Vec::new();
    // The first two were not taken.
    for request in &received[2..] {
        assert!(request.starts_with("POST /records HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer a-token-for-the-taker\r\n"), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let line =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        ids.extend(body.lines().map(line));
    }
    let written: Vec<String> = folder.records().iter().map(|record| text(record, "id").to_owned()).collect();
    assert_eq!(ids, written, "{}", edge.said());
    assert!(!edge.said().contains("a-token-for-the-taker"));
}

// === Where it is seen ===

#[tokio::test]
async fn what_it_cost_is_in_the_log_the_metrics_and_the_header() {
    let (sim, folder) = (sim(Config::default()).await, Folder::new());
    let config = format!(
        "{}clusters:\n  priced: {{provider: simulator, endpoints: [\"http://{at}\"], health: {{check: none}}}}\n  \
         unknown: {{provider: compatible, api_key: \"env:ANY_KEY\", endpoints: [\"http://{at}\"], health: {{check: none}}}}\n\
         models:\n  m: {{deployments: [{{cluster: priced}}]}}\n  u: {{deployments: [{{cluster: unknown}}]}}\n\
         routes: [{{name: told, cost: true}}, {{name: quiet, path: /quiet}}]\nanonymous: true\n",
        folder.config(""),
        at = sim.addr()
    );
    let edge = Edge::start_with(&config, &[("ANY_KEY", "a-key-of-some-length")]).await;
    let reply = edge.connect().await.ask(&ask("told", "m", false, "")).await;
    let usage = reply.json()["usage"].clone();
    let tokens = |name: &str| u128::from(usage[name].as_u64().unwrap());
    let cost =
        Money::picodollars(tokens("prompt_tokens") * 1_000_000 + tokens("completion_tokens") * 2_000_000);
    assert_eq!(reply.header("x-forebay-cost"), Some(cost.to_string().as_str()));
    let line = edge.access(|line| line["id"] == "told").await;
    assert_eq!(line["cost_usd"], cost.to_string().parse::<f64>().unwrap());
    assert_eq!(line["cost_known"], "reported");
    let sample = "forebay_cost_usd_total{cluster=\"priced\",model=\"m\",provider=\"simulator\"}";
    assert!((edge.metric(sample).await - cost.approximate()).abs() < 1e-9);

    let request = String::from_utf8(ask("quiet", "m", false, "")).unwrap().replacen(" /v1", " /quiet/v1", 1);
    let reply = edge.connect().await.ask(request.as_bytes()).await;
    assert_eq!((reply.status, reply.header("x-forebay-cost")), (200, None), "{reply:?}");
    let reply = edge.connect().await.ask(&ask("stream", "m", true, "")).await;
    assert_eq!((reply.status, reply.header("x-forebay-cost")), (200, None), "{reply:?}");

    let reply = edge.connect().await.ask(&ask("unknown", "u", false, "")).await;
    assert_eq!((reply.status, reply.header("x-forebay-cost")), (200, None), "{reply:?}");
    let line = edge.access(|line| line["id"] == "unknown").await;
    assert!(line["cost_usd"].is_null() && line["cost_known"] == "unpriced", "{line}");
    assert_eq!(edge.metric("forebay_unpriced_requests_total{cluster=\"unknown\"}").await, 1.0);
    let records = folder.wait(4).await;
    let unknown = records.iter().find(|record| text(record, "id") == "unknown").unwrap();
    assert_eq!(unknown["cost"], json!(null), "{unknown}");
    assert_eq!(text(unknown, "known"), "reported", "its tokens are known all the same");
}
