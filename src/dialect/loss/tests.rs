use super::*;
use crate::dialect::ir::Loss;

fn table() -> Table {
    Table::of(|provider, model| facts(find(provider).unwrap(), model))
}

#[test]
fn no_field_is_lost_without_a_word() {
    let mut silent = Vec::new();
    for row in table().requests {
        let lost = row.fates.iter().filter(|(_, fate)| *fate == Fate::Silent);
        silent.extend(lost.map(|(upstream, _)| format!("{:?} to {upstream:?}: {}", row.client, row.field)));
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn no_part_of_a_reply_is_lost_without_a_word() {
    let mut silent = Vec::new();
    for row in table().replies {
        let lost = row.fates.iter().filter(|(_, fate)| {
            !matches!(fate, Fate::Exact | Fate::Mapped(_) | Fate::Dropped(_) | Fate::Untold(_))
        });
        silent.extend(
            lost.map(|(client, fate)| format!("{:?} to {client:?}: {} {fate:?}", row.upstream, row.field)),
        );
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// What clients can ask only of an upstream of their own dialect: their decoders refuse it.
const REFUSED: [(Client, &str); 9] = [
    (Client::Responses, "background: true"),
    (Client::Responses, "conversation"),
    (Client::Responses, "input[]: item_reference"),
    (Client::Responses, "previous_response_id"),
    (Client::Responses, "prompt"),
    (Client::Responses, "store: true"),
    (Client::Completions, "prompt: an array of several"),
    (Client::Completions, "prompt: tokens"),
    (Client::Completions, "suffix"),
];

#[test]
fn every_sample_is_a_request_of_its_client() {
    for client in Client::ALL {
        for probe in requests::probes(client) {
            let (without, with) = probe.documents(requests::base(client));
            assert_ne!(without, with, "{client:?}: {}", probe.field);
            let read = client.request(with.to_string().as_bytes()).map(|_| ());
            let refused = REFUSED.contains(&(client, probe.field));
            assert_eq!(read.is_err(), refused, "{client:?}: {}: {read:?}", probe.field);
            assert!(client.request(without.to_string().as_bytes()).is_ok(), "{client:?}: {}", probe.field);
        }
        let mut fields: Vec<_> = requests::probes(client).iter().map(|probe| probe.field).collect();
        fields.sort_unstable();
        assert!(fields.is_sorted_by(|one, next| one < next), "{client:?} names a field twice");
    }
}

#[test]
fn strict_refuses_what_lenient_drops_and_nothing_else() {
    for client in Client::ALL {
        for probe in requests::probes(client) {
            let document = probe.documents(requests::base(client)).1;
            for (upstream, provider, model) in TYPICAL {
                let facts = facts(find(provider).unwrap(), model);
                let target = Target { model, facts: &facts };
                let sent = |policy| asked(client, upstream, &target, &document, policy);
                let what = format!("{client:?} to {upstream:?}: {}", probe.field);
                match (sent(Policy::Lenient), sent(Policy::Strict)) {
                    (Ok(lenient), strict) => {
                        let dropped = lenient.notes.iter().find(|note| note.loss == Loss::Dropped);
                        let said = dropped.map(|note| format!("{}: {}", note.path, note.why));
                        assert_eq!(strict.err().map(|error| error.public.into_owned()), said, "{what}");
                    }
                    (Err(lenient), strict) => {
                        assert_eq!(strict.err().map(|error| error.public), Some(lenient.public), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_needs_no_trace_leaves_none() {
    let table = table();
    for client in Client::ALL {
        for probe in requests::probes(client).iter().filter(|probe| probe.anyway.is_some()) {
            let row =
                table.requests.iter().find(|row| row.client == client && row.field == probe.field).unwrap();
            let needed = row.fates.iter().any(|(_, fate)| *fate == Fate::Mapped(probe.anyway));
            assert!(needed, "{client:?}: {} leaves a trace everywhere", probe.field);
        }
    }
}

#[test]
fn every_upstream_has_a_model_that_stands_for_it() {
    assert_eq!(TYPICAL.map(|(upstream, ..)| upstream), Upstream::ALL);
}

#[test]
fn a_table_for_a_terminal_holds_what_is_asked_for() {
    let table = table();
    let pair = table.text(Some(Client::Chat), Some(Upstream::Messages));
    assert!(pair.starts_with("Requests of Chat to Messages\n"), "{pair}");
    assert!(pair.contains("\nlogit_bias ") && pair.contains("has no equal in the upstream's dialect"));
    assert!(!pair.contains("Gemini"));
    let own = table.text(Some(Client::Chat), Some(Upstream::Chat));
    assert_eq!(own, "Chat to Chat passes verbatim: nothing is lost.\n");
    let all = table.text(None, None);
    assert_eq!((all.matches("Requests of").count(), all.matches("Replies of").count()), (6, 7));
    assert!(all.lines().all(|line| line.len() == line.trim_end().len()));
}

#[test]
fn the_page_is_what_the_code_does() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dialects.md");
    let told = page(&table());
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &told).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (told, committed)) in told.lines().zip(committed.lines()).enumerate() {
        assert_eq!(told, committed, "{} line {}", path.display(), line + 1);
    }
    assert!(told == committed, "{} ends elsewhere; write it anew with FOREBAY_BLESS=1", path.display());
}
