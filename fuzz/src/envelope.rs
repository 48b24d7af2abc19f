//! Bodies that pass verbatim: what is spliced in changes what it should, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::json::envelope::{Envelope, reshape};
use crate::json::{Edits, quote, splice, spliced_len};
use crate::{is_json, shown};

/// An object's members as another reader has them; nothing where a name has half a surrogate pair, which it refuses.
fn members(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let read: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    Some(read.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect())
}

fn edited(body: &[u8], edits: &Edits) -> Vec<u8> {
    let out = splice(&Bytes::copy_from_slice(body), edits).concat();
    assert_eq!(out.len(), spliced_len(body.len(), edits));
    out
}

pub(crate) fn run(data: &[u8]) {
    let reshaped = reshape(data, &["model", "stream"], &[b"\"forebay\":1".to_vec()]);
    let Ok(envelope) = Envelope::parse(data) else { return };
    assert!(is_json(data), "an accepted body is no JSON");
    let before = members(data);
    renames(data, &envelope, before.clone());
    inserts(data, &envelope, before.clone());
    let after = edited(data, &reshaped.expect("an object can be reshaped"));
    assert!(is_json(&after), "reshaped: {}", shown(&after));
    if let Some(mut expected) = before {
        expected.retain(|name, _| !["model", "stream", "forebay"].contains(&name.as_str()));
        let mut found = members(&after).expect("what could be read can be read");
        found.remove("forebay");
        assert_eq!(found, expected);
    }
}

/// Puts another model in the place of the one there is.
fn renames(data: &[u8], envelope: &Envelope<'_>, before: Option<BTreeMap<String, String>>) {
    let Some(model) = &envelope.model else { return };
    let mut edits = Edits::new();
    assert!(edits.push(model.span.clone(), quote("an \"other\"")));
    let after = edited(data, &edits);
    let read = Envelope::parse(&after).expect("an edited body is a body");
    assert_eq!(read.model.expect("a model").text, "an \"other\"");
    assert_eq!((read.stream, read.max_tokens, read.n), (envelope.stream, envelope.max_tokens, envelope.n));
    assert_eq!(read.user, envelope.user);
    if let Some(mut expected) = before {
        let said: String = serde_json::from_str(&expected["model"]).expect("a string");
        assert_eq!(said, model.text);
        expected.insert("model".to_owned(), "\"an \\\"other\\\"\"".to_owned());
        assert_eq!(members(&after), Some(expected));
    }
}

/// Puts a member where new ones are put.
fn inserts(data: &[u8], envelope: &Envelope<'_>, before: Option<BTreeMap<String, String>>) {
    let mut edits = Edits::new();
    let member: &[u8] = if envelope.is_empty { b"\"forebay\":1" } else { b"\"forebay\":1," };
    assert!(edits.push(envelope.insert_at..envelope.insert_at, member.to_vec()));
    let after = edited(data, &edits);
    assert!(is_json(&after), "inserted: {}", shown(&after));
    if let Some(mut expected) = before {
        // A member of that name that was there already comes later, and wins.
        expected.entry("forebay".to_owned()).or_insert_with(|| "1".to_owned());
        assert_eq!(members(&after), Some(expected));
    }
}
