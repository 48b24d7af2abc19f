use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::grants::Known;
use super::key::fresh;
use super::table::Kept;
use super::token::tests::{Signer, claims, issuer, spec as token_spec};
use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn keyed(name: &str, keys: &[(&str, Option<SystemTime>)], enabled: bool) -> Keyed {
    let name: Arc<str> = Arc::from(name);
    let principal = Principal { label: Arc::clone(&name), name, known: Known::Key, ..Principal::anonymous() };
    let kept = |(key, expires): &(&str, Option<SystemTime>)| Kept {
        hash: Hash::of(key.as_bytes()),
        expires: *expires,
    };
    Keyed { principal: Arc::new(principal), secrets: keys.iter().map(kept).collect(), enabled }
}

fn access(keys: Vec<Keyed>, anonymous: Anonymous) -> Access {
    with(keys, anonymous, Vec::new(), Some(Bound { failures: 5, window: Duration::from_secs(60) }))
}

fn with(keys: Vec<Keyed>, anonymous: Anonymous, issuers: Vec<Arc<Issuer>>, bound: Option<Bound>) -> Access {
    let reader: Box<Reader> = Box::new(|_, _, _| Ok(Vec::new()));
    let certificates = Vec::new();
    Access::new(AccessSpec { keys, issuers, certificates, anonymous, bound, file: None, store: None, reader })
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(pair).collect()
}

fn ask(access: &Access, key: &str, from: &str, now: SystemTime) -> Result<String, String> {
    let headers = if key.is_empty() { HeaderMap::new() } else { headers(&[("x-api-key", key)]) };
    let address = from.parse().ok();
    let caller = Caller { headers: &headers, query: None, certificate: None, address };
    let found = access.identify_now(&caller, now);
    found.map(|principal| principal.name.to_string()).map_err(|denied| denied.reason().to_owned())
}

fn ok(name: &str) -> Result<String, String> {
    Ok(name.to_owned())
}

fn refused(reason: &str) -> Result<String, String> {
    Err(reason.to_owned())
}

#[test]
fn a_key_denotes_its_principal_until_it_ends() {
    let keys = vec![
        keyed("app", &[("key-new", None), ("key-old", Some(at(100)))], true),
        keyed("off", &[("key-off", None)], false),
    ];
    let access = access(keys, Anonymous::Never);
    let said = |key: &str, seconds| ask(&access, key, "10.0.0.1", at(seconds));
    assert_eq!(
        (said("key-new", 0), said("key-old", 0)),
        (ok("app"), ok("app")),
        "both while one is replaced"
    );
    assert_eq!((said("key-old", 99), said("key-old", 100)), (ok("app"), refused("expired")));
    assert_eq!(said("key-off", 0), refused("disabled"));
    assert_eq!(said("key-other", 0), refused("unknown"));
    assert_eq!(said("fb-mistaken", 0), refused("mistyped"));
    assert_eq!(said(&"x".repeat(token::LARGEST + 1), 0), refused("oversized"));
    assert_eq!(said("", 0), refused("missing"));
}

#[test]
fn a_fresh_key_is_taken() {
    let key = fresh().unwrap();
    let access = access(vec![keyed("app", &[(key.expose(), None)], true)], Anonymous::Never);
    assert_eq!(ask(&access, key.expose(), "10.0.0.1", at(0)), ok("app"));
}

#[test]
fn the_earlier_origin_has_its_way_and_the_others_are_told() {
    let access = access(vec![keyed("app", &[("a", None)], true)], Anonymous::Never);
    let file = vec![keyed("app", &[("b", None)], true), keyed("other", &[("a", None)], true)];
    assert_eq!(access.replace(Origin::File, file), ["app", "other"]);
    let store = vec![keyed("more", &[("c", None)], true)];
    assert_eq!(access.replace(Origin::Store, store), Vec::<String>::new());
    let said = |key: &str| ask(&access, key, "10.0.0.1", at(0));
    assert_eq!((said("a"), said("b"), said("c")), (ok("app"), refused("unknown"), ok("more")));
    access.replace(Origin::Store, Vec::new());
    assert_eq!(said("c"), refused("unknown"));
}

#[test]
fn what_was_seen_of_a_key_outlives_a_reading_of_its_file() {
    let access = access(Vec::new(), Anonymous::Never);
    let read = || vec![keyed("app", &[("a", None)], true)];
    access.replace(Origin::File, read());
    ask(&access, "a", "10.0.0.1", at(7)).unwrap();
    access.replace(Origin::File, read());
    let table = access.table();
    assert_eq!(table.find(&Hash::of(b"a")).unwrap().seen.used(), Some(at(7)));
}

#[test]
fn callers_without_a_key_are_let_in_until_there_is_one() {
    let until = access(Vec::new(), Anonymous::UntilKeys);
    assert_eq!(ask(&until, "", "10.0.0.1", at(0)), ok("anonymous"));
    assert_eq!(ask(&until, "anything", "10.0.0.1", at(0)), ok("anonymous"));
    until.replace(Origin::Store, vec![keyed("app", &[("a", None)], true)]);
    assert_eq!(ask(&until, "", "10.0.0.1", at(0)), refused("missing"));
    until.replace(Origin::Store, Vec::new());
    assert_eq!(ask(&until, "", "10.0.0.1", at(0)), refused("missing"), "deleting the last key opens nothing");

    let always = access(vec![keyed("app", &[("a", None)], true)], Anonymous::Always);
    let said = |key: &str| ask(&always, key, "10.0.0.1", at(0));
    assert_eq!((said("a"), said("b"), said("")), (ok("app"), ok("anonymous"), ok("anonymous")));
}

#[test]
fn two_keys_that_differ_are_refused_even_if_both_are_good() {
    let access =
        access(vec![keyed("a", &[("a", None)], true), keyed("b", &[("b", None)], true)], Anonymous::Never);
    let said = |fields: &[(&'static str, &str)]| {
        let headers = headers(fields);
        let caller = Caller { headers: &headers, query: None, certificate: None, address: None };
        access.identify(&caller, at(0)).map(|_| ()).map_err(|denied| denied.reason())
    };
    assert_eq!(said(&[("x-api-key", "a"), ("authorization", "Bearer a")]), Ok(()));
    assert_eq!(said(&[("x-api-key", "a"), ("authorization", "Bearer b")]), Err("several"));
}

#[test]
fn an_address_that_guesses_is_shut_out_and_who_was_good_there_is_not() {
    let keys = vec![keyed("app", &[("good", None)], true), keyed("new", &[("unused-here", None)], true)];
    let access = access(keys, Anonymous::Never);
    let said = |key: &str, from: &str, seconds| ask(&access, key, from, at(seconds));
    assert_eq!(said("good", "10.0.0.1", 0), ok("app"));
    for _ in 0..5 {
        assert_eq!(said("guess", "10.0.0.1", 0), refused("unknown"));
    }
    assert_eq!(said("guess", "10.0.0.1", 1), refused("shielded"));
    assert_eq!(said("unused-here", "10.0.0.1", 1), refused("shielded"), "a guess that hits is not told");
    assert_eq!(said("good", "10.0.0.1", 1), ok("app"), "whoever was good there before goes on");
    assert_eq!(said("", "10.0.0.1", 1), refused("missing"), "nothing is no guess");
    assert_eq!(said("unused-here", "10.0.0.2", 1), ok("new"), "from elsewhere it is good");
    assert_eq!(said("unused-here", "10.0.0.1", 60), ok("new"), "the window is over");
}

#[test]
fn requests_without_a_key_are_no_guesses() {
    let access = access(vec![keyed("app", &[("good", None)], true)], Anonymous::Never);
    for _ in 0..50 {
        assert_eq!(ask(&access, "", "10.0.0.1", at(0)), refused("missing"));
    }
    assert_eq!(ask(&access, "good", "10.0.0.1", at(0)), ok("app"));
}

#[test]
fn a_token_and_a_key_are_told_apart() {
    let signer = Signer::p256("a");
    let issuers = vec![Arc::new(issuer(token_spec(), &[&signer]))];
    let access = with(vec![keyed("app", &[("a", None)], true)], Anonymous::Never, issuers, None);
    let said = |key: &str| ask(&access, key, "10.0.0.1", at(0));
    assert_eq!(said(&signer.token(&claims())), ok("corp/alice"));
    assert_eq!(said("a"), ok("app"));
    let mut other = claims();
    other["iss"] = json!("https://evil.example");
    assert_eq!(said(&signer.token(&other)), refused("token_issuer"));
    assert_eq!(said(&Signer::p256("b").token(&claims())), refused("token_key"));
}

#[test]
fn a_good_token_is_taken_from_an_address_that_is_shut_out() {
    let signer = Signer::p256("a");
    let issuers = vec![Arc::new(issuer(token_spec(), &[&signer]))];
    let bound = Some(Bound { failures: 1, window: Duration::from_secs(60) });
    let access = with(Vec::new(), Anonymous::Never, issuers, bound);
    let said = |key: &str| ask(&access, key, "10.0.0.1", at(0));
    let token = signer.token(&claims());
    assert_eq!(said(&token), ok("corp/alice"));
    assert_eq!(said("guess"), refused("unknown"));
    assert_eq!(said(&token), ok("corp/alice"));
    let mut other = claims();
    other["sub"] = json!("bob");
    assert_eq!(said(&signer.token(&other)), refused("shielded"), "no signature is checked for who guesses");
}

/// The least time that a refusal took of many, in which the noise of a busy machine has no part.
fn least(access: &Access, key: &str) -> Duration {
    let headers = headers(&[("x-api-key", key)]);
    let caller = Caller { headers: &headers, query: None, certificate: None, address: None };
    let once = || {
        let began = std::time::Instant::now();
        for _ in 0..50 {
            assert!(access.identify(&caller, at(0)).is_err());
        }
        began.elapsed()
    };
    (0..200).map(|_| once()).min().unwrap()
}

#[test]
fn a_wrong_a_spent_and_a_disabled_key_take_the_same_time() {
    let mut keys: Vec<Keyed> = (0..5000)
        .map(|number| keyed(&format!("p{number}"), &[(&format!("key-{number}"), None)], true))
        .collect();
    keys.push(keyed("off", &[("key-off-0123456789", None)], false));
    keys.push(keyed("old", &[("key-old-0123456789", Some(at(0)))], true));
    let access = access(keys, Anonymous::Never);
    let all = ["key-bad-0123456789", "key-off-0123456789", "key-old-0123456789"];
    let times: Vec<Duration> = all.iter().map(|key| least(&access, key)).collect();
    let (fastest, slowest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*slowest < *fastest * 3 / 2, "{times:?}");
}
