//! A chain that shows every change.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::verify::{Anchor, Verifier, Whole};
use super::*;
use crate::meter::journal::Sync;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn spec(&self, key: Option<&str>) -> Spec {
        let file =
            FileSpec { path: self.0.join("audit.jsonl"), sync: Sync::Always, rotate: u64::MAX, keep: None };
        Spec {
            file: Some(file),
            http: None,
            key: key.map(Secret::new),
            key_use: KeyUse::First,
            anchor: None,
            per_minute: 3,
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0.join("audit.jsonl")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn request<'a>(principal: &'a str, model: &'a str) -> Request<'a> {
    let address = Some("10.1.2.3".parse().unwrap());
    Request { id: "req-1", address, principal, route: "main", path: "/v1/x", model, status: 401 }
}

fn checked(texts: &[&str], keys: &[&str], anchors: &[&str]) -> Result<Whole, String> {
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
    let anchors: Vec<Anchor> = anchors.iter().map(|anchor| anchor.parse().unwrap()).collect();
    let mut verifier = Verifier::new(&keys, anchors);
    for (number, text) in texts.iter().enumerate() {
        verifier.file(&number.to_string(), Cursor::new(text.as_bytes()))?;
    }
    verifier.finish()
}

/// What three acts and a flood of wrong keys leave behind.
fn written(folder: &Folder, key: Option<&str>) -> String {
    let audit = Audit::start(&folder.spec(key), None).unwrap();
    audit.started("0123");
    (0..50).for_each(|_| audit.unknown(request("", "m"), "x-api-key", "the API key is not valid here"));
    for _ in 0..3 {
        audit.used(request("alice", "m"));
    }
    audit.refused(request("alice", "forged\",\"seq\":1}\n{\u{2028}\u{1b}"), "rule max_messages");
    audit.act(Act {
        address: None,
        by: "token",
        method: "POST",
        path: "/endpoints/drain",
        what: "endpoint=x",
        status: 200,
    });
    audit.stop();
    folder.text()
}

fn events(text: &str) -> Vec<String> {
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone();
    text.lines().map(|line| event(line).as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_happens_is_noted_and_a_flood_is_summed_up() {
    let folder = Folder::new("events");
    let text = written(&folder, None);
    assert_eq!(
        events(&text),
        [
            "file",
            "start",
            "auth_failed",
            "auth_failed",
            "auth_failed",
            "key_use",
            "refused",
            "admin",
            "more",
            "stop"
        ]
    );
    let more: serde_json::Value = serde_json::from_str(text.lines().nth(8).unwrap()).unwrap();
    assert_eq!(
        (&more["of"], &more["from"], &more["count"]),
        (&"auth_failed".into(), &"10.1.2.3".into(), &47.into())
    );
    let refused: serde_json::Value = serde_json::from_str(text.lines().nth(6).unwrap()).unwrap();
    assert_eq!(refused["model"], "forged\",\"seq\":1}\n{\u{2028}\u{1b}", "a model's name is told as it was");
    assert!(!text.contains('\u{2028}') && !text.contains('\u{1b}'));
    let whole = checked(&[&text], &[], &[]).unwrap();
    assert_eq!((whole.lines, whole.first, whole.last), (10, 0, 9));
}

#[test]
fn every_change_of_a_line_shows() {
    for key in [None, Some("a-key-of-the-audit-log")] {
        let folder = Folder::new(if key.is_some() { "keyed" } else { "plain" });
        let text = written(&folder, key);
        let keys: Vec<&str> = key.into_iter().collect();
        assert!(checked(&[&text], &keys, &[]).is_ok());
        let lines: Vec<&str> = text.lines().collect();
        let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        for number in 0..lines.len() {
            // Any byte of it.
            for at in (0..lines[number].len()).step_by(7) {
                let mut bytes = lines[number].as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                let mut others = lines.clone();
                others[number] = &changed;
                assert!(checked(&[&joined(&others)], &keys, &[]).is_err(), "{number}, {at}: {changed}");
            }
            // Taken out; but for the last, which only an anchor shows.
            let mut fewer = lines.clone();
            fewer.remove(number);
            assert_eq!(
                checked(&[&joined(&fewer)], &keys, &[]).is_ok(),
                number + 1 == lines.len(),
                "{number}"
            );
            // Put in twice, put elsewhere.
            let mut more = lines.clone();
            more.insert(number, lines[number]);
            assert!(checked(&[&joined(&more)], &keys, &[]).is_err());
            if number + 1 < lines.len() {
                let mut other = lines.clone();
                other.swap(number, number + 1);
                assert!(checked(&[&joined(&other)], &keys, &[]).is_err());
            }
        }
        assert!(checked(&[text.trim_end()], &keys, &[]).unwrap_err().contains("cut"));
    }
}

#[test]
fn an_end_that_was_cut_off_shows_against_an_anchor() {
    let folder = Folder::new("anchor");
    let text = written(&folder, None);
    let whole = checked(&[&text], &[], &[]).unwrap().to_string();
    let anchor = whole.rsplit_once("the last is ").unwrap().1.to_owned();
    assert!(checked(&[&text], &[], &[&anchor]).is_ok());
    let cut = text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    assert!(checked(&[&cut], &[], &[]).is_ok());
    assert!(checked(&[&cut], &[], &[&anchor]).unwrap_err().contains("cut off"));
    let other = format!("3:{}", "0".repeat(64));
    assert!(checked(&[&text], &[], &[&other]).unwrap_err().contains("made anew"));
}

#[test]
fn without_the_key_nobody_makes_the_chain_anew() {
    let folder = Folder::new("forged");
    let text = written(&folder, Some("the-right-key"));
    assert!(checked(&[&text], &["a-wrong-key"], &[]).is_err());
    assert!(checked(&[&text], &[], &[]).unwrap_err().contains("--key"));
    assert!(checked(&[&text], &["an-older-key", "the-right-key"], &[]).is_ok());
    // A chain that anyone could have made is none where a key is known.
    let other = Folder::new("forger");
    let forged = written(&other, None);
    assert!(checked(&[&forged], &[], &[]).is_ok());
    assert!(checked(&[&forged], &["the-right-key"], &[]).unwrap_err().contains("anyone"));
}

#[test]
fn a_chain_goes_on_over_processes_and_files() {
    let folder = Folder::new("files");
    let mut spec = folder.spec(None);
    for round in 0..4 {
        // Every line is enough for another file, in every other process.
        spec.file.as_mut().unwrap().rotate = if round % 2 == 0 { 1 } else { u64::MAX };
        let audit = Audit::start(&spec, None).unwrap();
        audit.started("0123");
        audit.used(request("alice", "m"));
        audit.stop();
    }
    let mut files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_none_or(|end| end != "lock"));
    files.sort_by_key(|path| (path.extension().is_some_and(|end| end == "jsonl"), path.clone()));
    assert!(files.len() > 2, "{files:?}");
    let texts: Vec<String> =
        files.iter().map(|path: &std::path::PathBuf| fs::read_to_string(Path::new(path)).unwrap()).collect();
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let whole = checked(&all, &[], &[]).unwrap();
    assert_eq!(whole.first, 0);
    assert!(checked(&all[1..], &[], &[]).unwrap().to_string().contains("in other files"));
    let mut gap = all.clone();
    gap.remove(1);
    assert!(checked(&gap, &[], &[]).is_err(), "a file that is missing shows");
}
