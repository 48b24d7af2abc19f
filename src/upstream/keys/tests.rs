use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::upstream::breaker::Policy;
use crate::upstream::breaker::key::Fault;

fn spec(names: &[(&str, u32)]) -> PoolSpec {
    let key = |(name, weight): &(&str, u32)| KeySpec {
        name: (*name).to_owned(),
        weight: *weight,
        origin: Origin::Fixed,
        secret: Some(Secret::new(format!("secret-of-{name}"))),
        since: None,
        limits: Arc::default(),
        rotate_every: None,
    };
    let header = http::header::AUTHORIZATION;
    PoolSpec { header, scheme: "Bearer ", keys: names.iter().map(key).collect() }
}

fn pool(names: &[(&str, u32)]) -> Arc<Pool> {
    Arc::new(Pool::new("c", &spec(names), &Arc::default(), SystemTime::now()))
}

fn wanted(conversation: Option<u64>) -> Wanted<'static> {
    let call = Call { conversation, input: 100, output: Some(50) };
    Wanted { model: "m", call, only: None, tried: &[], trust: Trust::Accepted }
}

fn take(pool: &Arc<Pool>, wanted: &Wanted<'_>, now: Instant) -> Option<String> {
    pool.lend(wanted, now).map(|loan| loan.used().key.name.clone())
}

fn key<'p>(pool: &'p Pool, name: &str) -> &'p Arc<ProviderKey> {
    pool.keys().iter().find(|key| key.name == name).unwrap()
}

fn left(of: Measure, limit: u64, remaining: u64, seconds: u64) -> Quota {
    Quota { of, limit: Some(limit), remaining: Some(remaining), reset: Some(Duration::from_secs(seconds)) }
}

/// The provider says that so many requests are left of a key's.
fn says(pool: &Arc<Pool>, name: &str, remaining: u64, now: Instant) {
    let only = Wanted { only: Some(name), trust: Trust::Any, ..wanted(None) };
    let mut loan = pool.lend(&only, now).unwrap();
    loan.answered(&[left(Measure::Requests, 10, remaining, 60)], now);
}

#[test]
fn weights_split_what_is_no_conversation_and_what_is() {
    let (pool, now) = (pool(&[("a", 3), ("b", 1), ("out", 0)]), Instant::now());
    for conversational in [false, true] {
        let mut seen: HashMap<String, u32> = HashMap::new();
        for number in 0..8000_u64 {
            let conversation = conversational.then(|| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            *seen.entry(take(&pool, &wanted(conversation), now).unwrap()).or_default() += 1;
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!((5700..=6300).contains(&seen["a"]), "{seen:?}");
    }
}

#[test]
fn a_key_that_leaves_moves_its_own_conversations_and_no_other() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1), ("c", 2)]), Instant::now());
    let place =
        || (0..2000).map(|number| take(&pool, &wanted(Some(number)), now).unwrap()).collect::<Vec<_>>();
    let before = place();
    assert_eq!(before, place());
    key(&pool, "b").breaker.refused(&Policy::default(), millis(now), 0.0);
    let without = place();
    let moved = before.iter().zip(&without).filter(|(before, after)| before != after);
    assert!(moved.clone().count() > 300 && moved.clone().all(|(before, _)| before == "b"));
    let to: std::collections::BTreeSet<_> = moved.map(|(_, after)| after.as_str()).collect();
    assert_eq!(to.into_iter().collect::<Vec<_>>(), ["a", "c"], "they are spread over the others");
    key(&pool, "b").breaker.renewed(millis(now));
    assert_eq!(place(), before);
    let same = Arc::new(Pool::new(
        "other",
        &spec(&[("c", 2), ("a", 1), ("b", 1)]),
        &Arc::default(),
        SystemTime::now(),
    ));
    let elsewhere: Vec<_> =
        (0..2000).map(|number| take(&same, &wanted(Some(number)), now).unwrap()).collect();
    assert_eq!(elsewhere, before, "names decide, not places");
}

#[test]
fn a_key_is_left_before_its_rate_is_used_up_and_used_again_after_its_window() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1)]), Instant::now());
    let conversation = (0..).find(|number| take(&pool, &wanted(Some(*number)), now).unwrap() == "a").unwrap();
    let mine = wanted(Some(conversation));
    says(&pool, "a", 2, now);
    let first = pool.lend(&mine, now).unwrap();
    let second = pool.lend(&mine, now).unwrap();
    assert_eq!((first.used().key.name.as_str(), second.used().key.name.as_str()), ("a", "a"));
    assert_eq!(take(&pool, &mine, now).unwrap(), "b", "two are under way");
    drop(first);
    assert_eq!(take(&pool, &mine, now).unwrap(), "a", "one has failed before it was answered");
    drop(second);
    says(&pool, "a", 0, now);
    assert_eq!(take(&pool, &mine, now).unwrap(), "b");
    assert_eq!(take(&pool, &mine, now + Duration::from_secs(61)).unwrap(), "a");
    assert_eq!(take(&pool, &Wanted { model: "other", ..mine }, now).unwrap(), "a", "a rate is a model's");
}

#[test]
fn where_all_are_low_the_best_is_asked() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1), ("c", 1)]), Instant::now());
    for name in ["a", "b", "c"] {
        says(&pool, name, 0, now);
    }
    let now = now + Duration::from_secs(1);
    let mut loan = pool.lend(&Wanted { only: Some("b"), ..wanted(None) }, now).unwrap();
    let tokens = left(Measure::Tokens, 1_000_000, 149, 60);
    let b = [left(Measure::Requests, 10, 9, 60), tokens];
    loan.answered(&b, now);
    for conversation in [None, Some(1), Some(2), Some(3)] {
        assert_eq!(take(&pool, &wanted(conversation), now).unwrap(), "b");
    }
}

#[test]
fn what_is_no_conversation_goes_where_most_is_left() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1)]), Instant::now());
    says(&pool, "a", 2, now);
    says(&pool, "b", 10, now);
    let on_a = (0..4000).filter(|_| take(&pool, &wanted(None), now).unwrap() == "a").count();
    // A tenth is left of the one, nine of the other.
    assert!((280..=520).contains(&on_a), "{on_a}");
}

#[test]
fn a_key_that_rests_or_was_tried_is_left_out_and_the_model_rests_where_all_do() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1)]), Instant::now());
    assert!(!pool.any_rests(now));
    let after = |seconds| now + Duration::from_secs(seconds);
    pool.rest_until(("m", key(&pool, "a")), after(10), now);
    assert!((0..50).all(|number| take(&pool, &wanted(Some(number)), now).unwrap() == "b"));
    assert!(pool.any_rests(now));
    assert_eq!(pool.rests("m", None, now), None);
    assert!(pool.rests("m", Some("a"), now).is_some() && pool.rests("m", Some("b"), now).is_none());
    pool.rest_until(("m", key(&pool, "b")), after(4), now);
    assert_eq!(pool.rests("m", None, now).map(|left| left.as_secs_f64().round()), Some(4.0));
    assert_eq!((take(&pool, &wanted(None), now), pool.rests("other", None, now)), (None, None));
    assert_eq!(take(&pool, &wanted(None), after(5)).unwrap(), "b");
    let tried = [Arc::clone(key(&pool, "b"))];
    assert_eq!(take(&pool, &Wanted { tried: &tried, trust: Trust::Any, ..wanted(None) }, after(5)), None);
    assert_eq!(take(&pool, &Wanted { tried: &tried, ..wanted(None) }, after(11)).unwrap(), "a");
}

#[test]
fn a_refused_key_is_set_aside_alone_tried_by_one_and_used_nevertheless_where_there_is_no_other() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1)]), Instant::now());
    let policy = Policy::default();
    let refuse = |name| key(&pool, name).breaker.refused(&policy, millis(now), 0.0);
    assert!(refuse("a").is_some());
    assert!((0..50).all(|number| take(&pool, &wanted(Some(number)), now).unwrap() == "b"));
    assert!(pool.has_key(millis(now)) && pool.is_well());
    refuse("b");
    assert!(!pool.has_key(millis(now)) && take(&pool, &wanted(None), now).is_none());
    assert!(take(&pool, &Wanted { trust: Trust::Any, ..wanted(None) }, now).is_some());
    let later = now + policy.key + Duration::from_secs(1);
    let mut first = pool.lend(&Wanted { only: Some("a"), ..wanted(None) }, later).unwrap();
    let trial = first.take_trial().unwrap();
    assert!(take(&pool, &Wanted { only: Some("a"), ..wanted(None) }, later).is_none(), "one at a time");
    assert!(trial.passed(millis(later)) && pool.is_well());
    assert_eq!(Fault::Payment.name(), "payment");
}

#[test]
fn a_new_secret_takes_over_and_those_under_way_keep_theirs() {
    let (pool, now) = (pool(&[("a", 1), ("b", 1)]), Instant::now());
    let a = Arc::clone(key(&pool, "a"));
    let only = Wanted { only: Some("a"), ..wanted(None) };
    let old = pool.lend(&only, now).unwrap();
    a.breaker.refused(&Policy::default(), millis(now), 0.0);
    pool.rest_until(("m", &a), now + Duration::from_secs(60), now);
    assert!(take(&pool, &only, now).is_none());
    let since = SystemTime::now() - Duration::from_secs(100);
    assert_eq!(pool.renew(&a, &Secret::new("new-secret"), since, now), Ok(true));
    assert_eq!(pool.renew(&a, &Secret::new("new-secret"), SystemTime::now(), now), Ok(false));
    let new = pool.lend(&only, now).unwrap();
    let sent = |loan: &Loan| loan.header().1.to_str().unwrap().to_owned();
    assert_eq!((sent(&old).as_str(), sent(&new).as_str()), ("Bearer secret-of-a", "Bearer new-secret"));
    assert!(old.used().is_outdated() && !new.used().is_outdated());
    assert!(a.age(SystemTime::now()).unwrap() >= Duration::from_secs(100));
    for wrong in ["", " x", "a\nb", "\u{e9}"] {
        assert!(pool.renew(&a, &Secret::new(wrong), since, now).is_err(), "{wrong:?}");
    }
    assert_eq!(sent(&pool.lend(&only, now).unwrap()), "Bearer new-secret");
    let shown = format!("{pool:?}{new:?}{:?}", spec(&[("a", 1)]));
    assert!(!shown.contains("secret-of") && !shown.contains("new-secret"), "{shown}");
}

#[test]
fn a_lone_key_shares_the_breaker_of_its_cluster_and_counts_nothing() {
    let lone = Arc::new(Key::default());
    let pool = Arc::new(Pool::new("c", &spec(&[("api_key", 1)]), &lone, SystemTime::now()));
    let loan = pool.lend(&wanted(Some(7)), Instant::now()).unwrap();
    assert!(!loan.listens() && Arc::ptr_eq(&loan.used().key.breaker, &lone));
}

#[test]
fn a_key_is_overdue_when_it_is_older_than_it_should_get() {
    let mut spec = spec(&[("a", 1)]);
    let now = SystemTime::now();
    spec.keys[0].since = Some(now - Duration::from_secs(100));
    let overdue = |every: Option<u64>| {
        let mut spec = spec.clone();
        spec.keys[0].rotate_every = every.map(Duration::from_secs);
        Pool::new("c", &spec, &Arc::default(), now).keys()[0].is_overdue(now)
    };
    assert_eq!((overdue(Some(99)), overdue(Some(101)), overdue(None)), (true, false, false));
}

/// What is said of a key: whether it rests, was refused, was tried, and how many requests are left of ten.
type State = (bool, bool, bool, Option<u64>);

proptest! {
    #[test]
    fn a_key_with_room_is_preferred_to_any_without(
        states in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(0_u64..10)), 2..6),
        conversation in proptest::option::of(any::<u64>()),
    ) {
        let names: Vec<String> = (0..states.len()).map(|number| format!("k{number}")).collect();
        let weights: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let (pool, now) = (pool(&weights), Instant::now());
        let mut tried = Vec::new();
        for (name, (rests, refused, was_tried, remaining)) in names.iter().zip(&states) {
            if let Some(remaining) = remaining {
                says(&pool, name, *remaining, now);
            }
            let key = key(&pool, name);
            if *rests {
                pool.rest_until(("m", key), now + Duration::from_secs(9), now);
            }
            if *refused {
                key.breaker.refused(&Policy::default(), millis(now), 0.0);
            }
            if *was_tried {
                tried.push(Arc::clone(key));
            }
        }
        let usable = |(rests, refused, tried, _): &State| !rests && !refused && !tried;
        let has_room = |state: &State| usable(state) && state.3.is_none_or(|left| left > 0);
        let taken = pool.lend(&Wanted { tried: &tried, ..wanted(conversation) }, now);
        let taken = taken.map(|loan| states[loan.used().key.index]);
        prop_assert_eq!(taken.is_some(), states.iter().any(usable));
        if let Some(taken) = taken {
            prop_assert!(usable(&taken));
            prop_assert_eq!(has_room(&taken), states.iter().any(has_room));
        }
    }
}
