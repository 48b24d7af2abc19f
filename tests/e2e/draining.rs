//! An endpoint that is taken out of service gets nothing new, and what runs there ends well, or at its deadline.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::sim::{Config, EngineConfig, FaultRule};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Notify;

use crate::dialects::{Dialect, events};
use crate::support::edge::endpoints;
use crate::support::scripted::{Scripted, Turn, answer};
use crate::support::{Client, DEADLINE, Edge, Reply, cluster_of, get, heard, listener, post, sim, soon};

/// A node that answers with its name; a stream of its says no more than its first word until it is let go.
struct Node {
    node: Scripted,
    let_go: Arc<Notify>,
}

impl Node {
    async fn start(name: &'static str) -> Self {
        let let_go = Arc::new(Notify::new());
        let gate = Arc::clone(&let_go);
        let node = Scripted::start(move |asked| {
            if !asked.text.contains("\"stream\":true") {
                return Turn::Say(answer(name));
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            let says = |what: &str| {
                format!(
                    "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,{what}}}]}}\n\n"
                )
            };
            let first = says("\"delta\":{\"role\":\"assistant\",\"content\":\"first\"}");
            let last = says("\"delta\":{\"content\":\"last\"},\"finish_reason\":\"stop\"");
            Turn::Held(head.to_owned() + &first, Arc::clone(&gate), last + "data: [DONE]\n\n")
        });
        Self { node: node.await, let_go }
    }

    fn addr(&self) -> SocketAddr {
        self.node.addr
    }
}

/// What the command says, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `forebay drain` against that edge.
async fn drain(edge: &Edge, token: &str, args: &[&str]) -> Said {
    let command = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("drain")
        .args(args)
        .env_clear()
        .env("METRICS_PORT", edge.admin.port().to_string())
        .env("FOREBAY_ADMIN_TOKEN", token)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("the command's end", command).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn ask(stream: bool) -> Vec<u8> {
    post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", stream))
}

/// Who answers.
async fn who(edge: &Edge) -> String {
    let reply = edge.connect().await.ask(&ask(false)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

async fn order(edge: &Edge, what: &str, fields: &str, body: impl AsRef<[u8]>) -> Reply {
    let request = post(&format!("/endpoints/{what}"), fields, body);
    Client::try_connect(edge.admin).await.unwrap().ask(&request).await
}

/// What `/endpoints` says of that address.
async fn place(edge: &Edge, addr: SocketAddr) -> Value {
    let all = edge.look("/endpoints").await.json();
    let name = format!("http://{addr}");
    let found = all["endpoints"].as_array().unwrap().iter().find(|place| place["endpoint"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {all}")).clone()
}

/// Waits until that address drains, or does no more.
async fn drains(edge: &Edge, addr: SocketAddr, draining: bool) {
    let name = format!("http://{addr}");
    let of = |place: &&Value| place["endpoint"] == name;
    edge.snapshot("the drain", |all| endpoints(all).find(of).unwrap()["draining"] == draining).await;
}

const FIRST: &str = "balance: priority";

#[tokio::test]
async fn a_drained_endpoint_gets_nothing_new_and_what_runs_there_ends_whole() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let edge = Arc::new(Edge::start(&cluster_of(&[a.addr(), b.addr()], FIRST)).await);
    assert_eq!(who(&edge).await, "a");
    let mut stream = edge.connect().await;
    stream.send(&ask(true)).await;
    stream.saw("first").await;
    let waits = tokio::spawn({
        let (edge, addr) = (Arc::clone(&edge), a.addr().to_string());
        async move { drain(&edge, "", &[&addr, "--wait"]).await }
    });
    drains(&edge, a.addr(), true).await;
    for _ in 0..10 {
        assert_eq!(who(&edge).await, "b");
    }
    let shown = place(&edge, a.addr()).await;
    assert_eq!((&shown["state"], &shown["in_flight"]), (&"draining".into(), &1.into()), "{shown}");
    assert_eq!(shown["deadline_in_s"], Value::Null, "{shown}");
    assert_eq!(place(&edge, b.addr()).await["state"], "serving");
    let health = edge.look("/health").await.json();
    assert_eq!((&health["providers"][0]["draining"], &health["status"]), (&1.into(), &"healthy".into()));
    let sample = format!("forebay_endpoint_draining{{cluster=\"sim\",endpoint=\"http://{}\"}}", a.addr());
    assert_eq!(edge.metric(&sample).await, 1.0);
    assert!(!waits.is_finished(), "the stream still runs");
    a.let_go.notify_one();
    let reply = stream.reply().await;
    assert!(reply.whole && String::from_utf8_lossy(&reply.body).contains("data: [DONE]"), "{reply:?}");
    let said = waits.await.unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("draining, 1 under way") && said.out.contains("idle, 0 under way"), "{said:?}");
    assert_eq!(place(&edge, a.addr()).await["state"], "idle");
    assert_eq!(who(&edge).await, "b");
    let back = drain(&edge, "", &[&a.addr().to_string(), "--resume", "--json"]).await;
    let shown: Value = serde_json::from_str(&back.out).unwrap();
    assert_eq!((back.code, &shown["endpoints"][0]["state"]), (Some(0), &"serving".into()), "{back:?}");
    assert_eq!(who(&edge).await, "a");
    assert_eq!(edge.metric(&sample).await, 0.0);
    for line in ["is drained (operator): 1 under way", "is idle after", "is back in service"] {
        heard(&edge, line, 1).await;
    }
}

#[tokio::test]
async fn a_deadline_ends_what_is_left_in_the_clients_own_words() {
    for dialect in Dialect::ALL {
        let (a, b) = (sim(Config::default()).await, sim(Config::default()).await);
        // Nothing but the deadline wakes a silent stream.
        let settings = "balance: priority, clocks: {heartbeat: off}";
        let edge = Edge::start(&cluster_of(&[a.addr(), b.addr()], settings)).await;
        let mut stream = edge.connect().await;
        let fields = "x-sim-fault: stall=5\r\nx-sim-text: canary sings on and on\r\n";
        stream.send(&post(dialect.path(), fields, dialect.ask("m", true))).await;
        stream.saw("canary").await;
        let began = Instant::now();
        let address = format!("http://{}", a.addr());
        let args = [address.as_str(), "--deadline", "1", "--wait"];
        let (said, (reply, took)) = tokio::join!(drain(&edge, "", &args), async {
            let reply = stream.reply().await;
            (reply, began.elapsed())
        });
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.out.contains("1 were ended"), "{said:?}");
        assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&took), "{dialect:?}: {took:?}");
        let message = dialect.error_in(&events(&reply.body));
        assert!(reply.whole && message.is_some_and(|text| text.contains("out of service")), "{reply:?}");
        let line = edge.access(|_| true).await;
        assert_eq!((&line["end"], &line["attempts"]), (&"UD".into(), &1.into()), "{line}");
        a.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
        edge.idle().await;
        assert_eq!(edge.metric("forebay_evicted_total{cluster=\"sim\"}").await, 1.0);
        heard(&edge, "1 exchanges are evicted", 1).await;
    }
}

#[tokio::test]
async fn what_has_said_nothing_yet_moves_at_the_deadline() {
    // However small the budget is, and whatever else must not be sent twice.
    let retry = "retry: {on: [evicted], budget: 0, delay: 0s}\n";
    for stream in [true, false] {
        for fault in ["stall=head", "stall=0"] {
            let (a, b) = (sim(Config::default()).await, Node::start("b").await);
            b.let_go.notify_one();
            let settings = "balance: priority, clocks: {heartbeat: off}";
            let edge = Edge::start(&(cluster_of(&[a.addr(), b.addr()], settings) + retry)).await;
            let mut client = edge.connect().await;
            let fields = format!("x-sim-fault: {fault}\r\n");
            client.send(&post(Dialect::Chat.path(), &fields, Dialect::Chat.ask("m", stream))).await;
            a.stats().wait_until(|stats| stats.active == 1, DEADLINE).await.unwrap();
            let address = a.addr().to_string();
            let args = [address.as_str(), "--deadline", "0.3", "--wait"];
            let (said, reply) = tokio::join!(drain(&edge, "", &args), client.reply());
            assert_eq!(said.code, Some(0), "what has moved was not ended: {said:?}");
            let shown = place(&edge, a.addr()).await;
            assert_eq!((&shown["evicted"], &shown["ended"]), (&1.into(), &0.into()), "{shown}");
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(reply.status == 200 && reply.whole, "{fault} {stream}: {reply:?}");
            assert!(text.contains(if stream { "last" } else { "\"b\"" }), "{fault} {stream}: {text}");
            let line = edge.access(|_| true).await;
            assert_eq!((&line["attempts"], &line["passed"]), (&2.into(), &"sim: evicted".into()), "{line}");
            a.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
            edge.idle().await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_another_endpoint_goes_on_with_was_not_ended() {
    let rule = FaultRule { fault: "stall=5".into(), ..FaultRule::default() };
    let a = sim(Config { faults: vec![rule], ..Config::default() }).await;
    let b = sim(Config::default()).await;
    let settings = "balance: priority, continuation: true, clocks: {heartbeat: off}";
    let edge = Edge::start(&cluster_of(&[a.addr(), b.addr()], settings)).await;
    let mut stream = edge.connect().await;
    stream.send(&post(Dialect::Chat.path(), "x-sim-tokens: 20\r\n", Dialect::Chat.ask("m", true))).await;
    stream.saw("\"content\"").await;
    let address = a.addr().to_string();
    let args = [address.as_str(), "--deadline", "0.3", "--wait"];
    let (said, reply) = tokio::join!(drain(&edge, "", &args), stream.reply());
    assert!(reply.whole && String::from_utf8_lossy(&reply.body).contains("data: [DONE]"), "{reply:?}");
    assert_eq!(said.code, Some(0), "{said:?}");
    let shown = place(&edge, a.addr()).await;
    assert_eq!((&shown["evicted"], &shown["ended"]), (&1.into(), &0.into()), "{shown}");
    let line = edge.access(|_| true).await;
    assert!(line["passed"].as_str().unwrap().contains("had to leave, continued at"), "{line}");
}

#[tokio::test]
async fn where_all_drain_another_deployment_takes_over_or_the_client_is_told_when_to_come_back() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let cluster = |name: &str, addr| {
        format!("{name}: {{provider: simulator, endpoints: [\"http://{addr}\"], health: {{check: none}}}}")
    };
    let config = format!(
        "clusters: {{{}, {}}}\nmodels: {{m: {{deployments: [{{cluster: first}}, {{cluster: spare, priority: 1}}]}}}}\n\
         routes: [{{name: llm}}, {{name: raw, path: /raw, raw: true, cluster: first}}]\n",
        cluster("first", a.addr()),
        cluster("spare", b.addr())
    );
    let edge = Edge::start(&config).await;
    assert_eq!(who(&edge).await, "a");
    let first = format!("first/{}", a.addr());
    assert_eq!(drain(&edge, "", &[&first]).await.code, Some(0));
    for _ in 0..5 {
        assert_eq!(who(&edge).await, "b");
    }
    assert_eq!(edge.look("/health").await.json()["status"], "degraded");
    let raw = post("/raw/v1/chat/completions", "", Dialect::Chat.ask("m", false));
    let refused = edge.connect().await.ask(&raw).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    let ip = drain(&edge, "", &["127.0.0.1", "--cluster", "spare", "--wait"]).await;
    assert_eq!(ip.code, Some(0), "{ip:?}");
    let refused = edge.connect().await.ask(&ask(false)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    assert!(Dialect::Chat.refusal(&refused).unwrap().contains("no upstream is available"), "{refused:?}");
    let line = edge.access(|line| line["status"] == 503 && line["path"] == Dialect::Chat.path()).await;
    assert!(line["passed"].as_str().unwrap().contains("spare: draining"), "{line}");
    assert_eq!(a.node.received().len(), 1);
}

#[tokio::test]
async fn raw_routes_know_of_drains_and_deadlines() {
    let engine = EngineConfig { decode_tps: Some(100.0), ..EngineConfig::default() };
    let a = sim(Config { engine, ..Config::default() }).await;
    let b = Node::start("b").await;
    let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
    let edge = Edge::start(&(listener("") + &cluster_of(&[a.addr(), b.addr()], FIRST) + routes)).await;
    let mut stream = edge.connect().await;
    let fields = "x-sim-tokens: 100000\r\n";
    stream.send(&post("/raw/v1/chat/completions", fields, Dialect::Chat.ask("m", true))).await;
    stream.saw("data:").await;
    let body = format!("{{\"endpoint\":\"{}\",\"deadline_s\":0.5}}", a.addr());
    assert_eq!(order(&edge, "drain", "", body).await.status, 200);
    let new = post("/raw/v1/chat/completions", "", Dialect::Chat.ask("m", false));
    for _ in 0..5 {
        let reply = edge.connect().await.ask(&new).await;
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "b", "{reply:?}");
    }
    let reply = stream.reply().await;
    assert!(!reply.whole, "what is cut must not look complete: {reply:?}");
    assert_eq!(place(&edge, a.addr()).await["ended"], 1);
    a.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
    edge.idle().await;
}

#[tokio::test]
async fn a_file_drains_what_it_names_for_as_long_as_it_does() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let directory = std::env::temp_dir().join(format!("forebay-drain-file-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("drain");
    let settings = format!("server: {{drain_file: \"{}\"}}\n", file.display());
    let edge = Edge::start(&(cluster_of(&[a.addr(), b.addr()], FIRST) + &settings)).await;
    assert_eq!(who(&edge).await, "a", "a file that is not there drains nothing");
    let say = |text: String| {
        let fresh = directory.join("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, &file).unwrap();
    };
    let mut stream = edge.connect().await;
    stream.send(&ask(true)).await;
    stream.saw("first").await;
    say(format!("# the cloud wants it back\nwhat: is this\n{} deadline=1s\n", a.addr()));
    drains(&edge, a.addr(), true).await;
    assert_eq!(who(&edge).await, "b");
    let shown = place(&edge, a.addr()).await;
    assert_eq!(shown["by"], "file", "{shown}");
    let reply = stream.reply().await;
    assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    let said = drain(&edge, "", &[&a.addr().to_string(), "--resume"]).await;
    assert!(said.code == Some(1) && said.err.contains("server.drain_file"), "{said:?}");
    // Who drains it, too, takes back no more than that.
    let address = a.addr().to_string();
    assert_eq!(drain(&edge, "", &[&address]).await.code, Some(0));
    assert_eq!(place(&edge, a.addr()).await["by"], "operator and file");
    let said = drain(&edge, "", &[&address, "--resume"]).await;
    assert!(said.code == Some(1) && said.err.contains("server.drain_file"), "{said:?}");
    assert_eq!(place(&edge, a.addr()).await["by"], "file");
    heard(&edge, "line 2", 1).await;
    say(String::new());
    drains(&edge, a.addr(), false).await;
    assert_eq!(who(&edge).await, "a");
    std::fs::remove_dir_all(&directory).unwrap();
}

// === The listener, and who may use it ===

#[tokio::test]
async fn nothing_drains_for_whoever_has_no_right_to_it() {
    let a = Node::start("a").await;
    let admin = "admin: {address: \"127.0.0.1:${METRICS_PORT}\", token: env:TOKEN}\n";
    let config = cluster_of(&[a.addr()], FIRST) + admin;
    let edge = Edge::start_with(&config, &[("TOKEN", "canary-0123456789")]).await;
    let (token, json) = ("Authorization: Bearer canary-0123456789\r\n", "{\"endpoint\":\"127.0.0.1\"}");
    for path in ["/health", "/metrics", "/snapshot", "/endpoints"] {
        let refused = edge.look(path).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
    }
    assert_eq!(edge.look("/health/live").await.status, 200);
    let page = format!("{token}Origin: http://{}\r\n", edge.admin);
    for (fields, status) in [("", 401), ("Authorization: Bearer canary\r\n", 401), (page.as_str(), 403)] {
        assert_eq!(order(&edge, "drain", fields, json).await.status, status, "{fields}");
    }
    let form = format!(
        "POST /endpoints/drain HTTP/1.1\r\nHost: edge\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{token}\r\n{json}",
        json.len()
    );
    assert_eq!(Client::try_connect(edge.admin).await.unwrap().ask(form.as_bytes()).await.status, 415);
    assert_eq!(who(&edge).await, "a");
    for (token, code) in [("", 1), ("canary", 1), ("canary-0123456789", 0)] {
        let said = drain(&edge, token, &["127.0.0.1"]).await;
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(code == 0 || said.err.contains("401"), "{said:?}");
    }
    assert_eq!(edge.connect().await.ask(&ask(false)).await.status, 503);
    assert!(!edge.said().contains("canary-0123456789"));
}

#[tokio::test]
async fn nonsense_is_refused_and_does_no_harm() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let edge = Edge::start(&cluster_of(&[a.addr(), b.addr()], FIRST)).await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"endpoint\":7}",
        "{\"endpoint\":\"\"}",
        "{\"endpoint\":\"ftp://x\"}",
        "{\"endpoint\":\"127.0.0.1\",\"deadline_s\":-1}",
        "{\"endpoint\":\"127.0.0.1\",\"deadline_s\":1e300}",
        "{\"endpoint\":\"127.0.0.1\",\"deadline\":1}",
        "{\"endpoint\":\"127.0.0.1\"} {}",
        "\u{0}\u{1}",
    ] {
        let refused = order(&edge, "drain", "", body).await;
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert!(refused.json()["error"].is_string(), "{refused:?}");
    }
    let deep = format!("{{\"endpoint\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(order(&edge, "drain", "", deep).await.status, 400);
    let unknown = order(&edge, "drain", "", "{\"endpoint\":\"10.9.9.9:1\"}").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["known"][0], format!("sim/http://{}", a.addr()));
    let elsewhere = order(&edge, "drain", "", "{\"endpoint\":\"127.0.0.1\",\"cluster\":\"gpu\"}").await;
    assert_eq!(elsewhere.status, 404, "{elsewhere:?}");
    assert_eq!(edge.look("/endpoints/drain").await.status, 405);
    assert_eq!(order(&edge, "elsewhere", "", "{}").await.status, 405);

    // A body that is far too large, and one that does not come.
    let mut large = Client::try_connect(edge.admin).await.unwrap();
    if large.try_send(&post("/endpoints/drain", "", vec![b' '; 20 << 20])).await.is_ok()
        && let Some(refused) = large.reply_or_end().await
    {
        assert_eq!(refused.status, 413, "{refused:?}");
    }
    let mut slow = Client::try_connect(edge.admin).await.unwrap();
    slow.send(b"POST /endpoints/drain HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let mut next = Client::try_connect(edge.admin).await.unwrap();
    assert_eq!(next.ask(&get("/health/live", "")).await.status, 200, "others are not kept waiting");
    assert_eq!(slow.reply().await.status, 408);
    for place in edge.look("/endpoints").await.json()["endpoints"].as_array().unwrap() {
        assert_eq!(place["state"], "serving", "{place}");
    }
    assert_eq!(who(&edge).await, "a");
}

#[tokio::test]
async fn the_command_says_what_is_wrong() {
    let a = Node::start("a").await;
    let edge = Edge::start(&cluster_of(&[a.addr()], FIRST)).await;
    let addr = a.addr().to_string();
    for (args, code, says) in [
        (&["10.9.9.9:1"][..], 1, addr.as_str()),
        (&["ftp://x"], 1, "http://"),
        (&[&addr, "--admin", "127.0.0.1:1"], 1, "cannot be asked"),
        (&[&addr, "--admin", &edge.addr.to_string()], 1, "(404)"),
        (&[], 2, "Usage"),
        (&[&addr, "--deadline", "soon"], 2, "seconds"),
        (&[&addr, "--resume", "--wait"], 2, "cannot be used"),
    ] {
        let said = drain(&edge, "", args).await;
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        assert!(said.err.contains(says) && said.out.is_empty(), "{args:?}: {said:?}");
    }
}
