//! The store is killed, frozen, slow, flushed: nobody waits, the policy holds, and counts agree afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use forebay::limit::remote::Spec;
use forebay::limit::{Bound, Demand, Limit, Measure, Outage, Per, Sharing, Short, Used};
use forebay::meter::metrics::METRICS;

use crate::node::{Node, PATIENT, burst, limit, now, reserve, spec};
use crate::proxy::Proxy;
use crate::server::{Server, eventually};

/// How long an exchange may wait.
const DEADLINE: Duration = Duration::from_millis(5);

/// Three nodes, as configured: what one of them lets through alone is a third. They notice an outage within the deadline;
/// the machine that runs the tests may be late itself, so that the store is found again by several tries.
fn strict(url: forebay::secret::Secret) -> Spec {
    Spec { nodes: Some(3), ..spec(url, DEADLINE) }
}

fn money(amount: u64) -> Demand {
    Demand { tokens: 0, money: amount }
}

/// Spends so much at a node, whatever the store does. Says whether it was let through.
async fn spend(bound: &Bound, amount: u64) -> bool {
    let Ok(mut hold) = reserve(bound, money(amount)).await else { return false };
    hold.settle(&Used { tokens: None, money: Some(amount) }, now());
    true
}

/// How often exchanges waited in this process.
fn waits() -> u64 {
    METRICS.store.wait.get_sample_count()
}

/// The policy of an outage, at a node whose store is away from now on: no exchange waits, `Open` lets through a third, and
/// `Closed` nothing.
async fn policy_holds(node: &Node) {
    eventually("the breaker opens", || !node.remote.is_up());
    let before = waits();
    let exact = limit(Measure::Requests, Per::Day, 99, Sharing::Exact);
    let open = node.bind(std::slice::from_ref(&exact));
    assert_eq!(burst(&[open], 200).await, [33]);
    let closed = node.bind_with(&[exact], Outage::Closed);
    let refused = reserve(&closed, Demand::default()).await.unwrap_err();
    assert_eq!(refused.short, Short::Away);
    let places = node.bind(&[limit(Measure::Concurrency, Per::Second, 6, Sharing::Leased)]);
    let (first, _second) =
        (reserve(&places, Demand::default()).await, reserve(&places, Demand::default()).await);
    assert!(first.is_ok() && reserve(&places, Demand::default()).await.is_err());
    drop(first);
    assert!(reserve(&places, Demand::default()).await.is_ok());
    assert_eq!(waits(), before, "an exchange waited for a store that is away");
}

/// The store is back, and knows of a budget what was spent in all, and of a rate what was let through.
fn agrees(nodes: &[Node], server: &Server, spent: u64) {
    for node in nodes {
        eventually("the store is back", || node.remote.is_up());
    }
    eventually("the store knows what was spent", || server.level("budget") == Some(spent as f64));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.level("budget"), Some(spent as f64), "nothing counts twice");
}

/// Spends at all nodes before, during and after an outage.
async fn spending_agrees(server: &mut Server, url: forebay::secret::Secret, outage: Fault<'_>) {
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&strict(url.clone()))).collect();
    for node in &nodes {
        eventually("it is up", || node.remote.is_up());
    }
    let budget = limit(Measure::Money, Per::Ever, 1_000_000, Sharing::Exact);
    let bounds: Vec<_> = nodes.iter().map(|node| node.bind(std::slice::from_ref(&budget))).collect();
    let mut spent = 0;
    for bound in bounds.iter().cycle().take(30) {
        spent += if spend(bound, 1000).await { 1000 } else { 0 };
    }
    eventually("the store knows of it", || server.level("budget") == Some(spent as f64));
    outage.begin(server);
    for bound in bounds.iter().cycle().take(30) {
        spent += if spend(bound, 1000).await { 1000 } else { 0 };
    }
    assert!(spent >= 50_000, "a third of what is left is let through at each node: {spent}");
    policy_holds(&nodes[0]).await;
    outage.end(server);
    agrees(&nodes, server, spent);
    let requests = server.level("requests").unwrap();
    let now = (server.time() - 1_700_000_000_000_000) as f64;
    // 33 requests of 99 a day were let through alone.
    let debt = (requests - now) / (86_400e6 / 99.0);
    assert!((32.9..=33.1).contains(&debt), "{debt} requests are known");
}

/// What happens to the store.
enum Fault<'p> {
    Killed,
    Frozen,
    Slow(&'p Proxy),
}

impl Fault<'_> {
    fn begin(&self, server: &mut Server) {
        match self {
            Self::Killed => {
                server.cli(&["SAVE"]);
                server.kill();
            }
            Self::Frozen => server.signal("STOP"),
            Self::Slow(proxy) => proxy.slow(Duration::from_millis(100)),
        }
    }

    fn end(&self, server: &mut Server) {
        match self {
            Self::Killed => server.again(),
            Self::Frozen => server.signal("CONT"),
            Self::Slow(proxy) => proxy.slow(Duration::ZERO),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let mut server = Server::start(&[]);
    let url = server.url();
    spending_agrees(&mut server, url, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen() {
    let mut server = Server::start(&[]);
    let url = server.url();
    spending_agrees(&mut server, url, Fault::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slowed_by_100_ms() {
    let mut server = Server::start(&[]);
    let proxy = Proxy::to(server.port).await;
    spending_agrees(&mut server, proxy.url(), Fault::Slow(&proxy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_deadline() {
    let server = Server::start(&[]);
    let mut spec = strict(server.url());
    // The breaker stays closed, so that everybody asks a store that does not answer.
    spec.store.failures = u32::MAX;
    let node = Node::start(&spec);
    eventually("it is up", || node.remote.is_up());
    let bound = node.bind(&[limit(Measure::Requests, Per::Day, 1_000_000, Sharing::Exact)]);
    server.signal("STOP");
    let (before, sum) = (waits(), METRICS.store.wait.get_sample_sum());
    for _ in 0..100 {
        assert!(reserve(&bound, Demand::default()).await.is_ok());
    }
    let asked = waits() - before;
    let mean = (METRICS.store.wait.get_sample_sum() - sum) / asked as f64;
    server.signal("CONT");
    // What is beyond the deadline is the timer's, which has milliseconds, and the machine's.
    assert_eq!(asked, 100);
    assert!((0.005..0.015).contains(&mean), "{mean} s on average");
}

#[tokio::test(flavor = "multi_thread")]
async fn away_at_the_start_is_no_failure() {
    let port = crate::server::free_port();
    let url = forebay::secret::Secret::new(format!("redis://127.0.0.1:{port}"));
    let node = Node::start(&strict(url));
    policy_holds(&node).await;
    let _server = Server::at(port, &[]);
    eventually("it is found", || node.remote.is_up());
}

/// Several spend at each node all the time.
struct Load {
    is_over: Arc<AtomicBool>,
    spent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(nodes: &[Node], limits: &[Limit]) -> Self {
        let (is_over, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for bound in nodes.iter().flat_map(|node| std::iter::repeat_n(node.bind(limits), 4)) {
            let (is_over, spent) = (Arc::clone(&is_over), Arc::clone(&spent));
            tasks.push(tokio::spawn(async move {
                while !is_over.load(Relaxed) {
                    assert!(spend(&bound, 1000).await, "nothing is short");
                    spent.fetch_add(1000, Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        Self { is_over, spent, tasks }
    }

    async fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.spent.load(Relaxed)
    }
}

/// After all nodes have left, the store knows exactly what was spent, and no place is held.
async fn the_bill_is_right(nodes: &[Node], server: &Server, spent: u64) {
    for node in nodes {
        eventually("the store is up", || node.remote.is_up());
    }
    // What was told and not heard is told again within a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for node in nodes {
        eventually("the store is up", || node.remote.is_up());
        node.remote.leave().await;
    }
    assert_eq!(server.level("budget"), Some(spent as f64));
    let key = server.cli(&["KEYS", "*concurrency*"]);
    let held = server.cli(&["HVALS", key.trim()]);
    assert!(held.lines().all(|count| count.starts_with("0 ")), "places are held: {held}");
}

fn generous(sharing: Sharing) -> [Limit; 3] {
    [
        limit(Measure::Money, Per::Ever, 1_000_000_000, sharing),
        limit(Measure::Concurrency, Per::Second, 1000, Sharing::Exact),
        limit(Measure::Requests, Per::Minute, 10_000_000, sharing),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_under_load() {
    for sharing in [Sharing::Leased, Sharing::Exact] {
        let server = Server::start(&[]);
        let nodes = Node::several(3, &spec(server.url(), PATIENT));
        let load = Load::start(&nodes, &generous(sharing));
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.cli(&["FLUSHALL"]);
            server.cli(&["SCRIPT", "FLUSH"]);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let spent = load.end().await;
        the_bill_is_right(&nodes, &server, spent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_killed_under_load() {
    for sharing in [Sharing::Leased, Sharing::Exact] {
        let mut server = Server::start(&[]);
        let nodes = Node::several(3, &Spec { nodes: None, ..strict(server.url()) });
        let load = Load::start(&nodes, &generous(sharing));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.signal("STOP");
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.signal("CONT");
        }
        eventually("it is found", || nodes.iter().all(|node| node.remote.is_up()));
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        // It has forgotten everything.
        server.again();
        eventually("it is found", || nodes.iter().all(|node| node.remote.is_up()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let spent = load.end().await;
        the_bill_is_right(&nodes, &server, spent).await;
    }
}
