//! Makes, changes and ends virtual keys. They are kept in a file of the state directory, as hashes; a key itself is shown
//! once, to whoever had it made.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Answer;
use crate::access::Access;
use crate::access::grants::Rank;
use crate::access::key::{self, Hash};
use crate::access::table::{Entry, Origin, Owner};
use crate::moment::rfc3339;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Makes a principal with a fresh key.
    Create,
    /// Sets what is said of a principal.
    Change,
    /// Takes none of its keys any more.
    Disable,
    /// Takes them again.
    Enable,
    /// Gives it a fresh key; the one before stays good for a while.
    Rotate,
    /// Forgets it.
    Delete,
}

impl Order {
    /// What is ordered at that path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/keys/create" => Some(Self::Create),
            "/keys/change" => Some(Self::Change),
            "/keys/disable" => Some(Self::Disable),
            "/keys/enable" => Some(Self::Enable),
            "/keys/rotate" => Some(Self::Rotate),
            "/keys/delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// How long the key before stays good after a rotation, seconds, where nothing else is said.
const KEPT: u64 = 24 * 3600;
/// The longest that it may.
const LONGEST: u64 = 366 * 24 * 3600;

/// A refusal.
fn wrong(status: StatusCode, why: impl Into<String>) -> Answer {
    Answer::error(status, why)
}

/// The file of keys, of which one change is made at a time.
#[derive(Debug, Default)]
pub(super) struct Store {
    turn: Mutex<()>,
}

/// The principals of the store, as they are written.
type Written = Map<String, Value>;

impl Store {
    /// Does what is asked for, and shows what came of it.
    pub(super) fn obey(&self, order: Order, body: &[u8], access: &Access, now: SystemTime) -> Answer {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        done(order, body, access, now).unwrap_or_else(|refused| refused)
    }
}

fn done(order: Order, body: &[u8], access: &Access, now: SystemTime) -> Result<Answer, Answer> {
    let path = access.store().ok_or_else(|| {
        let why = "there is nowhere to keep keys: set `server.state`, or systemd's `StateDirectory`";
        wrong(StatusCode::CONFLICT, why)
    })?;
    let mut asked: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        wrong(StatusCode::BAD_REQUEST, format!("the body is not what is expected: {error}"))
    })?;
    let name = asked.shift_remove("name").and_then(|name| name.as_str().map(str::to_owned));
    let name = name.ok_or_else(|| wrong(StatusCode::BAD_REQUEST, "`name` is missing"))?;
    let mut all = load(path)?;
    known(order, &name, &all, access)?;
    let mut fresh = None;
    match order {
        Order::Create => {
            let secret = make()?;
            no_hashes(&asked)?;
            asked.insert("hash".to_owned(), Hash::of(secret.as_bytes()).to_string().into());
            all.insert(name.clone(), Value::Object(asked));
            fresh = Some(secret);
        }
        Order::Change => {
            no_hashes(&asked)?;
            alter(&mut all, &name, |principal| {
                principal.extend(asked);
                principal.retain(|_, value| !value.is_null());
            });
        }
        Order::Disable | Order::Enable => {
            nothing_else(&asked)?;
            let enabled = order == Order::Enable;
            alter(&mut all, &name, |principal| drop(principal.insert("enabled".to_owned(), enabled.into())));
        }
        Order::Rotate => {
            let kept = asked.shift_remove("keep_s").map_or(Some(KEPT), |value| value.as_u64());
            let kept = kept.filter(|kept| *kept <= LONGEST);
            let kept = kept.ok_or_else(|| {
                wrong(StatusCode::BAD_REQUEST, "`keep_s` is not between 0 seconds and a year")
            })?;
            let ends = asked.shift_remove("expires");
            nothing_else(&asked)?;
            let secret = make()?;
            alter(&mut all, &name, |principal| rotate(principal, (&secret, ends), now, kept));
            fresh = Some(secret);
        }
        Order::Delete => {
            nothing_else(&asked)?;
            all.shift_remove(&name);
        }
    }
    keep(path, all, access)?;
    let mut shown = shown(access).find(|one| one["name"] == *name).unwrap_or_else(|| json!({ "name": name }));
    if let Some(secret) = fresh {
        shown["key"] = secret.as_str().into();
    }
    Ok(Answer::json(StatusCode::OK, &shown))
}

/// A fresh key. It goes out with the answer and is kept nowhere.
fn make() -> Result<zeroize::Zeroizing<String>, Answer> {
    let secret = key::fresh()
        .map_err(|_| wrong(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random bytes"))?;
    Ok(zeroize::Zeroizing::new(secret.expose().to_owned()))
}

/// Refuses what is somebody else's, or nobody's.
fn known(order: Order, name: &str, all: &Written, access: &Access) -> Result<(), Answer> {
    let table = access.table();
    let mut others = table.owners().filter(|(owner, _)| owner.origin != Origin::Store);
    if let Some((owner, _)) = others.find(|(owner, _)| &*owner.keyed.principal.name == name) {
        let why = format!("`{name}` stands in the {}: change it there", owner.origin.name());
        return Err(wrong(StatusCode::CONFLICT, why));
    }
    match (order, all.contains_key(name)) {
        (Order::Create, true) => {
            let why = format!("there is a principal `{name}`: change it, or rotate its key");
            Err(wrong(StatusCode::CONFLICT, why))
        }
        (Order::Create, false) | (_, true) => Ok(()),
        (_, false) => {
            let known: Vec<&String> = all.keys().collect();
            let why = format!("there is no principal `{name}` in the store");
            Err(Answer::json(StatusCode::NOT_FOUND, &json!({ "error": why, "known": known })))
        }
    }
}

fn no_hashes(asked: &Map<String, Value>) -> Result<(), Answer> {
    match ["key", "hash", "previous"].into_iter().find(|field| asked.contains_key(*field)) {
        Some(field) => {
            let why = format!("`{field}` cannot be set: keys are made here, by `create` and `rotate`");
            Err(wrong(StatusCode::BAD_REQUEST, why))
        }
        None => Ok(()),
    }
}

fn nothing_else(asked: &Map<String, Value>) -> Result<(), Answer> {
    match asked.keys().next() {
        Some(field) => Err(wrong(StatusCode::BAD_REQUEST, format!("`{field}` is not expected here"))),
        None => Ok(()),
    }
}

/// Changes a principal.
fn alter(all: &mut Written, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(Value::Object(principal)) = all.get_mut(name) {
        change(principal);
    }
}

/// Puts a fresh key in the place of the present one, which stays good for so many seconds, and no longer than it would
/// have. The fresh one ends when that would have, unless it is said when it `ends`: `null` is never. Those from before it
/// that have ended go.
fn rotate(
    principal: &mut Map<String, Value>,
    (secret, ends): (&str, Option<Value>),
    now: SystemTime,
    kept: u64,
) {
    let fresh = Hash::of(secret.as_bytes()).to_string();
    let before = principal.insert("hash".to_owned(), fresh.into());
    let soon = rfc3339(now + Duration::from_secs(kept));
    // Texts of this form are in the order of their times.
    let own = principal.get("expires").and_then(Value::as_str).map(str::to_owned);
    let last = [Some(soon), own].into_iter().flatten().min();
    if let Some(ends) = ends {
        principal.shift_remove("expires");
        if !ends.is_null() {
            principal.insert("expires".to_owned(), ends);
        }
    }
    let moment = rfc3339(now);
    let mut previous: Vec<Value> = match principal.shift_remove("previous") {
        Some(Value::Array(previous)) => previous,
        _ => Vec::new(),
    };
    previous.retain(|one| one["expires"].as_str().is_none_or(|ends| *ends > *moment));
    if let Some(before) = before.filter(|_| kept > 0) {
        previous.push(json!({ "hash": before, "expires": last }));
    }
    if !previous.is_empty() {
        principal.insert("previous".to_owned(), Value::Array(previous));
    }
}

// === the file ===

fn load(path: &Path) -> Result<Written, Answer> {
    let failed = |why: String| {
        wrong(StatusCode::INTERNAL_SERVER_ERROR, format!("{} cannot be read: {why}", path.display()))
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let file: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(file["keys"].as_object().cloned().unwrap_or_default())
}

/// Writes the file, and has the edge go by it. What the edge could not read is never written.
fn keep(path: &Path, all: Written, access: &Access) -> Result<(), Answer> {
    let text = format!("{:#}\n", json!({ "keys": all }));
    let keys = access.read(&text, Origin::Store, path).map_err(|why| wrong(StatusCode::BAD_REQUEST, why))?;
    save(path, text.as_bytes()).map_err(|error| {
        let why = format!("{} cannot be written: {error}", path.display());
        wrong(StatusCode::INTERNAL_SERVER_ERROR, why)
    })?;
    for name in access.replace(Origin::Store, keys) {
        log::warn!("{}: `{name}` is passed over: its name or its key is another's", path.display());
    }
    Ok(())
}

/// Writes a file so that it is there whole, before or after, whenever the machine stops.
fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(directory)?;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    // The name, too.
    File::open(directory)?.sync_all()
}

// === what is shown ===

/// Every principal with keys.
pub(super) fn all(access: &Access) -> Value {
    json!({ "keys": shown(access).collect::<Vec<_>>(), "anonymous": access.is_open() })
}

fn shown(access: &Access) -> impl Iterator<Item = Value> + use<> {
    let table = access.table();
    let all: Vec<Value> = table.owners().map(|(owner, entries)| one(owner, &entries)).collect();
    all.into_iter()
}

fn one(owner: &Owner, entries: &[&Entry]) -> Value {
    let principal = &owner.keyed.principal;
    let group =
        |rank| principal.groups().find(|group| group.rank == rank).map(|group| group.name.to_string());
    let metadata: Map<String, Value> =
        principal.metadata.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let keys = entries.iter().map(|entry| {
        json!({
            "hash": entry.kept().hash.to_string(),
            "expires": entry.kept().expires.map(rfc3339),
            "last_used": entry.seen.used().map(rfc3339),
        })
    });
    json!({
        "name": &*principal.name,
        "origin": owner.origin.name(),
        "enabled": owner.keyed.enabled,
        "team": group(Rank::Team),
        "organisation": group(Rank::Organisation),
        "models": principal.grants.models.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tags": principal.tags,
        "metadata": metadata,
        "keys": keys.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_key_before_stays_good_for_a_while_and_no_longer_than_it_would_have() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut principal = Map::new();
        let mut turn = |secret: &str, kept| {
            rotate(&mut principal, (secret, None), now, kept);
            Value::Object(principal.clone())
        };
        let hash = |text: &str| Hash::of(text.as_bytes()).to_string();
        assert_eq!(turn("a", 60), json!({ "hash": hash("a") }), "there was none before");
        let two = turn("b", 60);
        assert_eq!(two["hash"], hash("b"));
        assert_eq!(two["previous"], json!([{ "hash": hash("a"), "expires": "2027-01-15T08:01:00Z" }]));
        let three = turn("c", 0);
        assert_eq!(three["previous"].as_array().unwrap().len(), 1, "the one before ends at once: {three}");
        principal.insert("expires".to_owned(), "2027-01-15T08:00:30Z".into());
        rotate(&mut principal, ("d", None), now, 60);
        assert_eq!(principal["previous"][1]["expires"], "2027-01-15T08:00:30Z");
        assert_eq!(principal["expires"], "2027-01-15T08:00:30Z", "a temporary key stays one");
        rotate(&mut principal, ("n", Some("2028-01-01T00:00:00Z".into())), now, 0);
        assert_eq!(principal["expires"], "2028-01-01T00:00:00Z");
        rotate(&mut principal, ("d", Some(Value::Null)), now, 0);
        assert!(!principal.contains_key("expires"));
        let later = now + Duration::from_secs(3600);
        rotate(&mut principal, ("e", None), later, 60);
        assert_eq!(principal["previous"].as_array().unwrap().len(), 1, "what has ended goes");
    }

    #[test]
    fn a_file_is_written_whole_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("forebay-store-{}", std::process::id()));
        let path = directory.join("state").join("keys.json");
        save(&path, b"one").unwrap();
        save(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        std::fs::remove_dir_all(directory).unwrap();
    }
}
