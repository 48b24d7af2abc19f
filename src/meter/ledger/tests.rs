use std::fs;
use std::sync::mpsc;

use super::*;
use crate::dialect::usage::{Input, Output};
use crate::meter::ledger::sum::{By, Query, Sums};
use crate::moment::read_rfc3339;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-ledger-of-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn spec(&self) -> Spec {
        Spec {
            directory: Some(self.0.clone()),
            sync: Sync::Every(Duration::from_millis(50)),
            size: 2_000,
            age: Duration::from_secs(3600),
            keep: None,
            stdout: false,
            http: None,
        }
    }

    fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        replay(&self.0, Position::default(), &mut |entry| ids.push(entry.id.clone())).unwrap();
        ids
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn facts(id: &str, principal: &str) -> Facts {
    Facts {
        exchange: id.to_owned(),
        attempt: 1,
        began: read_rfc3339(NOON).unwrap(),
        payer: Payer { principal: principal.to_owned(), tags: vec!["a\"b".to_owned()], ..Payer::default() },
        route: "main".to_owned(),
        operation: "messages",
        cluster: "c".to_owned(),
        endpoint: "http://10.0.0.1".to_owned(),
        provider: "anthropic".to_owned(),
        key: "k".to_owned(),
        alias: "m*".to_owned(),
        asked: "m".to_owned(),
        model: "claude".to_owned(),
        quote: Quote::Unknown,
        prompt: 12,
    }
}

fn ending(ts: &str, cost: Option<u64>) -> Ending {
    let usage = Usage {
        input: Input { total: Some(10), cached: Some(4), written: None },
        output: Output { total: Some(5), reasoning: Some(2) },
        ..Usage::default()
    };
    Ending {
        at: read_rfc3339(ts).unwrap(),
        usage: Some(usage),
        known: Known::Reported,
        cost: cost.map(|cost| Money::picodollars(cost.into())),
        status: 200,
        end: (Who::Nobody, When::End),
        upstream_id: "up-1".to_owned(),
    }
}

const NOON: &str = "2026-11-21T12:00:00Z";
const LIMIT: Duration = Duration::from_secs(30);

fn spent(ledger: &Ledger, subject: &str) -> u128 {
    ledger.spending.spent(subject, read_rfc3339(NOON).unwrap()).total.count()
}

#[test]
fn what_is_handed_over_is_written_summed_up_and_read_again() {
    let folder = Folder::new("all");
    let ledger = Ledger::start(&folder.spec(), Vec::new()).unwrap();
    for number in 0..100_u64 {
        ledger.begin(facts(&format!("r{number}"), "alice")).end(ending(NOON, Some(number)));
    }
    ledger.begin(facts("free", "bob")).end(ending("2026-11-22T00:00:00Z", None));
    assert!(ledger.close(LIMIT));
    assert_eq!(spent(&ledger, "key:alice"), 4950);
    drop(ledger);
    assert_eq!(folder.ids().len(), 101);
    assert!(list(&folder.0).unwrap().len() > 1, "it was over the size of a file");

    let by = vec![By::Day, By::Principal];
    let sums = Sums::of(&folder.0, &Query { by, ..Query::default() }).unwrap();
    let alice = sums.row(&["2026-11-21", "alice"]).unwrap();
    assert_eq!((alice.attempts, alice.input, alice.output), (100, 1000, 500));
    assert_eq!((alice.unpriced, alice.cost.count()), (0, 4950));
    assert_eq!(sums.row(&["2026-11-22", "bob"]).unwrap().unpriced, 1);
    assert!(sums.csv().starts_with("day,principal,attempts,unpriced,"), "{}", sums.csv());
    assert_eq!(sums.json()[0]["cost_usd"], "0.00000000495");
    assert!(sums.text().contains("total"), "{}", sums.text());
    let until = read_rfc3339("2026-11-22T00:00:00Z");
    let early = Sums::of(&folder.0, &Query { until, ..Query::default() }).unwrap();
    assert_eq!(early.total().attempts, 100);

    // The next process goes on where the last one stopped, and counts nothing twice.
    for _ in 0..2 {
        let ledger = again(&folder);
        let on = ledger.spending.spent_on("key:alice", |model| model == "m", read_rfc3339(NOON).unwrap());
        assert_eq!(on.total.count(), 4950);
        for subject in ["model:m*", "cluster:c", "provider_key:c/k"] {
            assert_eq!(spent(&ledger, subject), 4950, "{subject}");
        }
        assert!(ledger.close(LIMIT));
    }
    fs::remove_file(folder.0.join("spending.json")).unwrap();
    assert_eq!(spent(&again(&folder), "key:alice"), 4950, "it is all in the ledger");
}

/// The last one's lock goes with its thread.
fn again(folder: &Folder) -> Arc<Ledger> {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        match Ledger::start(&folder.spec(), Vec::new()) {
            Ok(ledger) => return ledger,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_is_under_way_at_the_end_is_recorded_once() {
    let folder = Folder::new("cut");
    let ledger = Ledger::start(&folder.spec(), Vec::new()).unwrap();
    let under_way = ledger.begin(facts("cut", "alice"));
    under_way.made(7);
    ledger.begin(facts("over", "alice")).end(ending(NOON, Some(1)));
    ledger.cut();
    under_way.end(ending(NOON, Some(1)));
    assert!(ledger.close(LIMIT));
    let mut all = Vec::new();
    replay(&folder.0, Position::default(), &mut |entry| all.push(entry.clone())).unwrap();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((all[0].id.as_str(), all[0].known.as_str(), all[0].end.as_str()), ("cut", "estimated", "GD"));
    assert_eq!((all[0].input_tokens, all[0].output_tokens, all[0].cost), (Some(12), Some(7), None));
    assert_eq!((all[1].id.as_str(), all[1].tags.as_slice()), ("over", &["a\"b".to_owned()][..]));
}

#[test]
fn what_is_cut_is_recorded_as_far_as_it_was_told() {
    let folder = Folder::new("told");
    let ledger = Ledger::start(&folder.spec(), Vec::new()).unwrap();
    let price = serde_json::from_str::<crate::meter::price::Row>(r#"{"input":"1","output":"2"}"#).unwrap();
    let quote = Quote::At(Arc::new(price.price().unwrap()));
    let begin = |id: &str, operation, status| {
        let ticket = ledger.begin(Facts { operation, quote: quote.clone(), ..facts(id, "alice") });
        ticket.answered(status);
        ticket.made(7);
        ticket
    };
    let said = |output| Usage {
        input: Input { total: Some(100), ..Input::default() },
        output: Output { total: output, ..Output::default() },
        ..Usage::default()
    };
    let _raw = begin("1", RAW, 200);
    let _refused = begin("2", "messages", 429);
    let counted = begin("3", "messages", 200);
    counted.reported(Some(said(None)), false);
    let whole = begin("4", "messages", 200);
    whole.reported(Some(said(Some(3))), true);
    ledger.cut();
    assert!(ledger.close(LIMIT));
    let mut all = Vec::new();
    replay(&folder.0, Position::default(), &mut |entry| all.push(entry.clone())).unwrap();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let is: Vec<_> = all
        .iter()
        .map(|entry| {
            (entry.known.as_str(), entry.status, entry.input_tokens, entry.output_tokens, entry.cost)
        })
        .collect();
    let counted = ("counted", 200, Some(100), Some(7), Some(114_000_000));
    let reported = ("reported", 200, Some(100), Some(3), Some(106_000_000));
    assert_eq!(
        is,
        [("unknown", 200, None, None, None), ("refused", 429, None, None, Some(0)), counted, reported]
    );
}

#[test]
fn a_sink_that_fails_is_tried_again_and_loses_nothing() {
    let folder = Folder::new("sink");
    let (told, hears) = mpsc::channel();
    let mut refusals = 2;
    let send: Send = Box::new(move |lines| {
        if refusals > 0 {
            refusals -= 1;
            return Err("it is down".to_owned());
        }
        told.send(lines.to_vec()).map_err(|error| error.to_string())
    });
    let ledger = Ledger::start(&folder.spec(), vec![("http", 1 << 20, send)]).unwrap();
    for number in 0..10 {
        ledger.begin(facts(&format!("r{number}"), "alice")).end(ending(NOON, Some(1)));
    }
    let mut got: Vec<u8> = Vec::new();
    while got.iter().filter(|byte| **byte == b'\n').count() < 10 {
        got.extend(hears.recv_timeout(LIMIT).unwrap());
    }
    assert!(ledger.close(LIMIT));
    let ids: Vec<String> =
        got.split(|byte| *byte == b'\n').filter_map(Entry::read).map(|entry| entry.id).collect();
    assert_eq!(ids, folder.ids());
}

#[test]
fn what_a_sink_has_no_room_for_is_counted() {
    let folder = Folder::new("spill");
    let spilled = || METRICS.money.spilled.with_label_values(&["stdout"]).get();
    let (_open, never) = mpsc::channel::<()>();
    let send: Send = Box::new(move |_| never.recv_timeout(LIMIT).map_err(|error| error.to_string()));
    let ledger = Ledger::start(&folder.spec(), vec![("stdout", 300, send)]).unwrap();
    for number in 0..20 {
        ledger.begin(facts(&format!("r{number}"), "alice")).end(ending(NOON, Some(1)));
    }
    let deadline = std::time::Instant::now() + LIMIT;
    while spilled() < 19 {
        assert!(std::time::Instant::now() < deadline, "{}", spilled());
        std::thread::yield_now();
    }
}
