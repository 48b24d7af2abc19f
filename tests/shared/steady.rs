//! Limits hold while the store answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::limit::{Bound, Demand, Measure, Now, Per, Sharing, Short, Used};

use crate::node::{Node, PATIENT, burst, limit, now, reserve, spec};
use crate::server::{Server, eventually};

/// What comes back of a limit of 100 a minute in that many microseconds.
fn comes_back(micros: u64) -> usize {
    (micros / 600_000) as usize
}

fn bind(nodes: &[Node], limits: &[forebay::limit::Limit]) -> Vec<Arc<Bound>> {
    nodes.iter().map(|node| node.bind(limits)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_admit_exactly_the_limit_where_it_is_exact() {
    let server = Server::start(&["--requirepass", "a-canary"]);
    let mut spec = spec(server.url(), PATIENT);
    spec.store.password = Some(forebay::secret::Secret::new("a-canary"));
    let nodes = Node::several(3, &spec);
    let bounds = bind(&nodes, &[limit(Measure::Requests, Per::Minute, 100, Sharing::Exact)]);
    let before = server.time();
    let admitted: usize = burst(&bounds, 1000).await.iter().sum();
    let more = comes_back(server.time() - before);
    assert!((100..=100 + more).contains(&admitted), "{admitted} of 100, and {more} came back meanwhile");
    let refused = reserve(&bounds[0], Demand::default()).await.unwrap_err();
    assert!(matches!(refused.short, Short::Wait(wait) if wait <= Duration::from_millis(600)), "{refused:?}");
    let keys = server.cli(&["KEYS", "*limit*"]);
    assert!(!keys.is_empty() && !keys.contains("alice"), "{keys}");
    for key in keys.lines() {
        assert!(server.cli(&["PTTL", key]).trim().parse::<i64>().unwrap() > 0, "{key} lives for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_keep_within_their_bound_both_ways() {
    let server = Server::start(&[]);
    let nodes = Node::several(3, &spec(server.url(), PATIENT));
    let bounds = bind(&nodes, &[limit(Measure::Requests, Per::Minute, 100, Sharing::Leased)]);
    let before = server.time();
    let admitted: usize = burst(&bounds, 1000).await.iter().sum();
    let more = comes_back(server.time() - before);
    // A tenth of the limit is ahead of use at most, three at each node.
    assert!((91..=109 + more).contains(&admitted), "{admitted} of 100, and {more} came back meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ahead_of_use_is_all_that_goes_over() {
    let server = Server::start(&[]);
    let mut spec = spec(server.url(), PATIENT);
    spec.slice = 0.3;
    let nodes = Node::several(3, &spec);
    let bounds = bind(&nodes, &[limit(Measure::Requests, Per::Second, 300, Sharing::Leased)]);
    // Slices grow with their use.
    for _ in 0..60 {
        for bound in &bounds {
            let _ = reserve(bound, Demand::default()).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = server.time();
    let admitted: usize = burst(&bounds, 1000).await.iter().sum();
    let more = ((server.time() - before) * 300 / 1_000_000) as usize;
    assert!((210..=390 + more).contains(&admitted), "{admitted} of 300, and {more} came back meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lasts_is_not_waited_for() {
    let server = Server::start(&[]);
    let nodes = Node::several(1, &spec(server.url(), PATIENT));
    let bounds = bind(&nodes, &[limit(Measure::Requests, Per::Minute, 1_000_000, Sharing::Leased)]);
    for _ in 0..100 {
        drop(reserve(&bounds[0], Demand::default()).await.unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = |bound: &Bound, now: Now| {
        let (mut hold, demand) = (forebay::limit::Hold::default(), Demand::default());
        let mut reserving = std::pin::pin!(hold.reserve(bound.meters("m"), &demand, now));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        reserving.as_mut().poll(&mut context).is_pending()
    };
    let waited = (0..500).filter(|_| asked(&bounds[0], now())).count();
    assert_eq!(waited, 0, "exchanges asked the store although there was a slice");
}

/// Reserves and settles at all nodes until nothing is let through any more. Gives what was used.
async fn use_up(
    bounds: &[Arc<Bound>],
    demand: Demand,
    use_of: impl Fn(u64) -> u64 + Copy + Send + 'static,
) -> u64 {
    let mut tasks = Vec::new();
    for bound in bounds.iter().flat_map(|bound| std::iter::repeat_n(bound, 8)) {
        let bound = Arc::clone(bound);
        tasks.push(tokio::spawn(async move {
            let (mut used, mut refused_since, mut count) = (0, None, 0);
            loop {
                if let Ok(mut hold) = reserve(&bound, demand).await {
                    count += 1;
                    let amount = use_of(count);
                    hold.settle(&Used { tokens: Some(amount), money: Some(amount) }, now());
                    used += amount;
                    refused_since = None;
                } else if refused_since.get_or_insert_with(Instant::now).elapsed()
                    > Duration::from_millis(600)
                {
                    return used;
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }));
    }
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_limit_holds_to_within_one_reservation() {
    let server = Server::start(&[]);
    let nodes = Node::several(3, &spec(server.url(), PATIENT));
    let bounds = bind(&nodes, &[limit(Measure::Tokens, Per::Day, 100_000, Sharing::Exact)]);
    // Two thirds of what is reserved is used.
    let used = use_up(&bounds, Demand { tokens: 900, money: 0 }, |count| 500 + count % 200).await;
    // A day gives a token back in each 0.9 s.
    assert!((99_100..=100_050).contains(&used), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_to_within_one_reservation_and_the_bill_is_exact() {
    for (sharing, least) in [(Sharing::Exact, 99_100), (Sharing::Leased, 89_100)] {
        let server = Server::start(&[]);
        let nodes = Node::several(3, &spec(server.url(), PATIENT));
        let bounds = bind(&nodes, &[limit(Measure::Money, Per::Ever, 100_000, sharing)]);
        let used = use_up(&bounds, Demand { tokens: 0, money: 900 }, |count| 500 + count % 200).await;
        assert!((least..=100_000).contains(&used), "{sharing:?} {used}");
        for node in &nodes {
            node.remote.leave().await;
        }
        assert_eq!(server.level("budget"), Some(used as f64), "{sharing:?}: all slices were given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_was_reserved_is_paid_for() {
    let server = Server::start(&[]);
    let nodes = Node::several(2, &spec(server.url(), PATIENT));
    let bounds = bind(&nodes, &[limit(Measure::Money, Per::Month, 1000, Sharing::Exact)]);
    let mut hold = reserve(&bounds[0], Demand { tokens: 0, money: 400 }).await.unwrap();
    hold.settle(&Used { tokens: None, money: Some(1500) }, now());
    eventually("the store knows", || server.level("budget") == Some(1500.0));
    let refused = reserve(&bounds[1], Demand { tokens: 0, money: 1 }).await.unwrap_err();
    assert!(matches!(refused.short, Short::Wait(wait) if wait > Duration::from_secs(1)), "{refused:?}");
    let refused = reserve(&bounds[1], Demand { tokens: 0, money: 1001 }).await.unwrap_err();
    assert_eq!(refused.short, Short::Never);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_limits_of_an_exchange_are_taken_or_none() {
    let server = Server::start(&[]);
    let nodes = Node::several(1, &spec(server.url(), PATIENT));
    let bound = nodes[0].bind(&[
        limit(Measure::Requests, Per::Day, 10, Sharing::Exact),
        limit(Measure::Money, Per::Ever, 100, Sharing::Exact),
        limit(Measure::Tokens, Per::Day, 1000, Sharing::Local),
    ]);
    let refused = reserve(&bound, Demand { tokens: 10, money: 100 }).await.map(drop);
    assert!(refused.is_ok());
    let refused = reserve(&bound, Demand { tokens: 10, money: 1 }).await.unwrap_err();
    assert_eq!(refused.meter.limit.measure, Measure::Money);
    let remaining: Vec<_> =
        bound.meters("m").filter_map(|meter| meter.standing(now())).map(|s| s.remaining).collect();
    assert_eq!(remaining, [9, 0, 990], "what came before the refusal was given back");
    // Dropped before anything was sent, it leaves no trace.
    let mut hold = forebay::limit::Hold::default();
    hold.reserve(bound.meters("m"), &Demand { tokens: 10, money: 0 }, now()).await.unwrap();
    drop(hold);
    let requests = bound.meters("m").next().unwrap();
    eventually("it is given back", || requests.standing(now()).is_some_and(|s| s.remaining == 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_shared_and_come_back_from_a_node_that_died() {
    let server = Server::start(&[]);
    let mut spec = spec(server.url(), PATIENT);
    spec.lease = Duration::from_secs(3);
    let nodes = Node::several(2, &spec);
    for (sharing, per) in [(Sharing::Exact, Per::Second), (Sharing::Leased, Per::Minute)] {
        let limits = [limit(Measure::Concurrency, per, 5, sharing)];
        let bounds = bind(&nodes, &limits);
        let mut held = Vec::new();
        for bound in bounds.iter().cycle().take(5) {
            held.push(reserve(bound, Demand::default()).await.unwrap());
        }
        for bound in &bounds {
            assert!(reserve(bound, Demand::default()).await.is_err(), "{sharing:?}: all five are taken");
        }
        drop(held.remove(0));
        let mut again = None;
        let began = Instant::now();
        while again.is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "{sharing:?}: the place is given back");
            tokio::time::sleep(Duration::from_millis(20)).await;
            again = reserve(&bounds[1], Demand::default()).await.ok();
        }
    }
    // A node that dies: its thread ends, and nobody settles anything.
    let dead = Node::start(&spec);
    eventually("it is up", || dead.remote.is_up());
    let limits = [limit(Measure::Concurrency, Per::Day, 2, Sharing::Exact)];
    let of_dead = dead.bind(&limits);
    std::mem::forget(reserve(&of_dead, Demand::default()).await.unwrap());
    std::mem::forget(reserve(&of_dead, Demand::default()).await.unwrap());
    let live = nodes[0].bind(&limits);
    assert!(reserve(&live, Demand::default()).await.is_err());
    dead.remote.client().stop();
    let began = Instant::now();
    while reserve(&live, Demand::default()).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "a dead node's places come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
