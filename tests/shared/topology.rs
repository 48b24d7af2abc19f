//! The store behind sentinels, as a cluster, over TLS and a Unix socket.

use std::sync::Arc;
use std::time::Duration;

use forebay::limit::{Demand, Limits, Measure, Per, Sharing, Subject, Used};
use forebay::secret::Secret;
use forebay::store::Kind;

use crate::node::{Node, PATIENT, burst, limit, now, reserve, spec};
use crate::server::{Server, eventually, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_that_nodes_remember() {
    let mut primary = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    eventually("the replica follows", || {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let sentinel = Server::sentinel(primary.port);
    eventually("the sentinel knows of the replica", || {
        sentinel.cli(&["SENTINEL", "REPLICAS", "edge"]).contains(&replica.port.to_string())
    });
    let mut spec = spec(sentinel.url(), Duration::from_millis(100));
    spec.store.kind = Kind::Sentinel("edge".to_owned());
    spec.nodes = Some(2);
    let nodes = [Node::start(&spec), Node::start(&spec)];
    let budget = [limit(Measure::Money, Per::Ever, 1_000_000, Sharing::Exact)];
    let bounds: Vec<_> = nodes.iter().map(|node| node.bind(&budget)).collect();
    for node in &nodes {
        eventually("it is up", || node.remote.is_up());
    }
    let mut spent = 0;
    let mut spend = async |count: usize| {
        for bound in bounds.iter().cycle().take(count) {
            let mut hold = reserve(bound, Demand { tokens: 0, money: 2000 }).await.unwrap();
            hold.settle(&Used { tokens: None, money: Some(1000) }, now());
            spent += 1000;
        }
        spent
    };
    spend(20).await;
    primary.kill();
    spend(20).await;
    eventually("the replica is promoted", || replica.cli(&["ROLE"]).starts_with("master"));
    for node in &nodes {
        eventually("it is up again", || node.remote.is_up());
    }
    let spent = spend(20).await;
    eventually("the new primary knows all", || replica.level("budget") == Some(f64::from(spent)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_counts_subjects_on_their_own_nodes() {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let servers: Vec<_> = (0..3).map(|_| Server::at(free_port(), &args)).collect();
    let places: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(places.iter().map(String::as_str));
    create.push("--cluster-yes");
    servers[0].cli(&create);
    for server in &servers {
        eventually("the cluster is whole", || server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    }
    let mut spec = spec(servers[0].url(), PATIENT);
    spec.store.kind = Kind::Cluster;
    let nodes = Node::several(3, &spec);
    let subjects: Vec<_> = ["alice", "bob", "carol", "dave"].map(|name| Subject::Key(name.into())).into();
    let per_day = |most| Limits {
        all: vec![limit(Measure::Requests, Per::Day, most, Sharing::Exact)],
        ..Limits::default()
    };
    for subject in &subjects {
        let bounds: Vec<_> = nodes.iter().map(|node| node.book.bind(subject, &per_day(100))).collect();
        assert_eq!(burst(&bounds, 100).await.iter().sum::<usize>(), 100, "{subject}");
    }
    // Where one of two subjects is short, the other gets back what was taken of it.
    let (wide, narrow) = (Subject::Team("wide".into()), Subject::Team("narrow".into()));
    let (wide, narrow) = (nodes[0].book.bind(&wide, &per_day(100)), nodes[0].book.bind(&narrow, &per_day(1)));
    let both = || wide.meters("m").chain(narrow.meters("m"));
    let mut holds = Vec::new();
    for number in 0..5 {
        let mut hold = forebay::limit::Hold::default();
        let took = hold.reserve(both(), &Demand::default(), now()).await;
        hold.sent();
        assert_eq!(took.is_ok(), number == 0);
        holds.push(hold);
    }
    let meter = Arc::clone(wide.meters("m").next().unwrap());
    eventually("only one was taken", || {
        meter.standing(now()).is_some_and(|standing| standing.remaining == 99)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_ones_own() {
    let folder = std::env::temp_dir().join(format!("forebay-shared-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::tls(&cert, &key);
    let url = Secret::new(format!("rediss://localhost:{}", server.port));
    let mut believing = spec(url.clone(), PATIENT);
    believing.store.authority = Some(made.cert.pem().into_bytes());
    let node = Node::start(&believing);
    eventually("it is up", || node.remote.is_up());
    let bound = node.bind(&[limit(Measure::Requests, Per::Day, 10, Sharing::Exact)]);
    assert_eq!(burst(&[bound], 20).await, [10]);
    let doubting = Node::start(&spec(url, PATIENT));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!doubting.remote.is_up(), "nobody vouches for that certificate");
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket() {
    let folder = std::env::temp_dir().join(format!("forebay-shared-unix-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("redis.sock");
    let _server = Server::start(&["--unixsocket", socket.to_str().unwrap()]);
    let node = Node::start(&spec(Secret::new(format!("unix://{}", socket.display())), PATIENT));
    eventually("it is up", || node.remote.is_up());
    let bound = node.bind(&[limit(Measure::Requests, Per::Day, 10, Sharing::Leased)]);
    assert_eq!(burst(&[bound], 20).await, [10]);
    let _ = std::fs::remove_dir_all(folder);
}
