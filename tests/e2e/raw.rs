//! Raw routes: anything at all passes, as it is, with our credential in the place of the client's.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use bytes::Bytes;
use forebay::sim::{Config, Sim};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::dialects::Dialect;
use crate::support::h2client::H2Client;
use crate::support::{DEADLINE, Edge, cluster_of, get, listener, post, sim, soon};

/// An edge whose `/raw` is this cluster, with settings of its own.
async fn edge_of(addresses: &[SocketAddr], cluster: &str, route: &str) -> Edge {
    let routes =
        format!("routes: [{{name: llm}}, {{name: raw, path: /raw, raw: true, cluster: sim, {route}}}]\n");
    Edge::start(&[listener("h2c: true"), cluster_of(addresses, cluster), routes].concat()).await
}

async fn site(cluster: &str, route: &str) -> (Edge, Sim) {
    let sim = sim(Config { record_body: 64 << 20, ..Config::default() }).await;
    (edge_of(&[sim.addr()], cluster, route).await, sim)
}

const SIZE: usize = 5 << 20;

/// A form with a file of all bytes in it.
fn form() -> Vec<u8> {
    let mut body = b"--b\r\ncontent-disposition: form-data; name=file; filename=a.bin\r\n\r\n".to_vec();
    let mut number = 1_u32;
    body.extend((0..SIZE).map(|_| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 24) as u8
    }));
    body.extend_from_slice(b"\r\n--b--\r\n");
    body
}

const LADEN: &str = "Authorization: Bearer canary-client\r\nx-api-key: canary-client\r\nCookie: canary=1\r\n";
const FORM: &str = "Content-Type: multipart/form-data; boundary=b\r\n";

/// What is to arrive of [`form`], however it was sent.
fn assert_arrived(sim: &Sim, form: &[u8], how: &str) {
    let received = sim.requests();
    let [request] = received.as_slice() else { panic!("{how}: one request: {}", received.len()) };
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/v1/files?purpose=a%20b&x"),
        "{how}"
    );
    assert!(request.body == form, "{how}: {} of {} bytes", request.body_len, form.len());
    assert_eq!(request.header("authorization"), Some("Bearer canary-ours"), "{how}");
    assert_eq!(request.header("content-type"), Some("multipart/form-data; boundary=b"), "{how}");
    let all = format!("{:?}", request.headers);
    assert!(!all.contains("canary-client") && request.header("cookie").is_none(), "{how}: {all}");
}

#[tokio::test]
async fn an_upload_streams_through_as_it_is() {
    let form = form();
    for http in ["1.1", "2"] {
        let (edge, sim) = site(&format!("api_key: canary-ours, http: \"{http}\""), "").await;
        let path = "/raw/v1/files?purpose=a%20b&x";
        let length = form.len();
        let sized =
            format!("POST {path} HTTP/1.1\r\nHost: edge\r\n{LADEN}{FORM}Content-Length: {length}\r\n\r\n");
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: edge\r\n{LADEN}{FORM}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
        );
        for (how, request) in [
            ("with its length", [sized.as_bytes(), &form].concat()),
            ("in a chunk", [chunked.as_bytes(), &form, b"\r\n0\r\n\r\n"].concat()),
        ] {
            sim.stats().reset();
            let reply = edge.connect().await.ask(&request).await;
            assert_eq!(reply.status, 404, "the simulator knows no files: {reply:?}");
            assert!(reply.json()["error"]["message"].is_string());
            assert_arrived(&sim, &form, how);
        }
        sim.stats().reset();
        let request = Request::post(format!("http://edge{path}"))
            .header("authorization", "Bearer canary-client")
            .header("cookie", "canary=1")
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Bytes::from(form.clone()))
            .unwrap();
        let reply = H2Client::connect(edge.addr).await.ask(request).await;
        assert_eq!(reply.status, 404, "{reply:?}");
        assert_arrived(&sim, &form, "over HTTP/2");
        for line in edge.accesses(3).await {
            let bytes = (line["bytes_in"].as_u64().unwrap(), line["bytes_out"].as_u64().unwrap());
            assert_eq!(bytes, (length as u64, reply.body.len() as u64), "{line}");
            assert_eq!(
                (line["operation"].as_str(), line["route"].as_str()),
                (Some("raw"), Some("raw")),
                "{line}"
            );
            assert_eq!((line["end"].as_str(), line["attempts"].as_u64()), (Some("--"), Some(1)), "{line}");
        }
        edge.idle().await;
    }
}

#[tokio::test]
async fn paths_are_stripped_or_kept_and_a_version_is_not_put_twice() {
    for (route, path, target) in [
        ("", "/raw/v1/files/f-1/content?a=b", "/v1/files/f-1/content?a=b"),
        ("", "/raw/files", "/v1/files"),
        ("strip_path: true", "/raw/v1/batches", "/v1/batches"),
        ("strip_path: false", "/raw/files", "/v1/raw/files"),
    ] {
        let (edge, sim) = site("", route).await;
        edge.connect().await.ask(&get(path, "")).await;
        assert_eq!(sim.requests()[0].target, target, "{route} {path}");
    }
}

#[tokio::test]
async fn every_method_passes() {
    let (edge, sim) = site("", "").await;
    for method in ["DELETE", "PUT", "PATCH", "OPTIONS"] {
        let request =
            format!("{method} /raw/v1/files/f HTTP/1.1\r\nHost: edge\r\nContent-Length: 3\r\n\r\nabc");
        let reply = edge.connect().await.ask(request.as_bytes()).await;
        assert!(matches!(reply.status, 404 | 405), "{method}: {reply:?}");
        let last = sim.requests().last().unwrap().clone();
        assert_eq!((last.method.as_str(), &last.body[..]), (method, &b"abc"[..]));
    }
}

#[tokio::test]
async fn a_raw_route_asks_for_a_key_where_there_are_keys() {
    let sim = sim(Config::default()).await;
    let edge = Edge::start(&format!(
        "{}keys: {{alice: {{key: canary-key}}}}\nroutes: [{{name: raw, path: /raw, raw: true, cluster: sim}}]\n",
        cluster_of(&[sim.addr()], "")
    ))
    .await;
    for fields in ["", "Authorization: Bearer canary-wrong\r\n"] {
        let reply = edge.connect().await.ask(&get("/raw/v1/models", fields)).await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(reply.json()["error"]["message"].is_string());
    }
    assert_eq!(sim.stats().snapshot().requests, 0);
    let reply =
        edge.connect().await.ask(&get("/raw/v1/models", "Authorization: Bearer canary-key\r\n")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(edge.access(|line| line["status"] == 200).await["principal"], "alice");
    assert!(sim.requests()[0].header("authorization").is_none(), "the client's key stays here");
}

#[tokio::test]
async fn a_raw_body_is_bounded_where_its_route_says_so() {
    let (edge, sim) = site("", "max_body: 64KiB").await;
    let body = vec![b'x'; (64 << 10) + 1];
    let reply = edge.connect().await.ask(&post("/raw/v1/files", "", &body)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let chunked = [
        format!(
            "POST /raw/v1/files HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            body.len()
        )
        .as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let reply = edge.connect().await.ask(&chunked).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let reply = edge.connect().await.ask(&post("/raw/v1/files", "", &body[..64 << 10])).await;
    assert_eq!(reply.status, 404, "what fits, passes: {reply:?}");
    let whole = sim.requests().iter().filter(|request| request.body_len > 64 << 10).count();
    assert_eq!(whole, 0);
}

// === Upstreams that fail ===

fn dead() -> SocketAddr {
    StdListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_even_with_a_body() {
    let sim = sim(Config { record_body: 64 << 20, ..Config::default() }).await;
    let edge =
        edge_of(&[dead(), sim.addr()], "balance: priority, breaker: {failures: 0, failure_rate: 0}", "")
            .await;
    let form = form();
    let reply = edge.connect().await.ask(&post("/raw/v1/files", "", &form)).await;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert!(sim.requests()[0].body == form);
    assert_eq!(edge.access(|_| true).await["attempts"], 2);
    edge.idle().await;
}

#[tokio::test]
async fn where_all_endpoints_are_dead_it_says_so_in_json() {
    let edge = edge_of(&[dead(), dead()], "", "").await;
    for request in [get("/raw/v1/files", ""), post("/raw/v1/files", "", form())] {
        let mut client = edge.connect().await;
        let _ = client.try_send(&request).await;
        let reply = client.reply().await;
        assert!(matches!(reply.status, 502 | 503), "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let said = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(!said.contains("127.0.0.1"), "{said}");
    }
    for line in edge.accesses(2).await {
        assert!(line["end"].as_str().unwrap().starts_with('U'), "{line}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_raw_reply_that_breaks_off_is_not_made_whole() {
    let (edge, _sim) = site("breaker: {failures: 0, failure_rate: 0}", "").await;
    for (fault, stream) in [
        ("cut=1", false),
        ("reset=1", false),
        ("cut=3", true),
        ("bad_chunk=3", true),
        ("wrong_length=long", false),
    ] {
        let request = post(
            "/raw/v1/chat/completions",
            &format!("x-sim-fault: {fault}\r\n"),
            Dialect::Chat.ask("m", stream),
        );
        let mut client = edge.connect().await;
        client.send(&request).await;
        let reply = client.reply_or_end().await;
        let broken = reply.as_ref().is_none_or(|reply| reply.status >= 500 || !reply.whole);
        assert!(broken, "{fault}: {reply:?}");
        edge.idle().await;
    }
    for fault in ["reset_before_head", "garbage_head", "switching"] {
        let request = post(
            "/raw/v1/chat/completions",
            &format!("x-sim-fault: {fault}\r\n"),
            Dialect::Chat.ask("m", false),
        );
        let reply = edge.connect().await.ask(&request).await;
        assert_eq!(reply.status, 502, "{fault}: {reply:?}");
        edge.idle().await;
    }
}

#[tokio::test]
async fn a_raw_request_that_is_not_answered_in_time_is_a_504() {
    let (edge, sim) = site("", "clocks: {head: 250ms, gap: 250ms}").await;
    let request =
        post("/raw/v1/chat/completions", "x-sim-fault: stall=head\r\n", Dialect::Chat.ask("m", false));
    let reply = edge.connect().await.ask(&request).await;
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(edge.access(|_| true).await["end"], "uH");
    sim.stats().wait_until(|stats| stats.cancelled.total() == 1, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_raw_stream_is_passed_on_as_it_comes_and_a_client_that_leaves_stops_it() {
    let (edge, sim) = site("", "").await;
    let fields = "x-sim-fault: stall=3\r\nx-sim-text: canary sings\r\n";
    for number in 1..=20 {
        let mut client = edge.connect().await;
        client.send(&post("/raw/v1/chat/completions", fields, Dialect::Chat.ask("m", true))).await;
        client.saw("canary").await;
        drop(client);
        let noticed = sim
            .stats()
            .wait_until(|stats| stats.cancelled.total() == number, Duration::from_millis(500))
            .await;
        assert!(noticed.is_ok(), "the upstream works on for nobody: {noticed:?}");
    }
    for line in edge.accesses(20).await {
        assert_eq!(line["end"], "CD", "{line}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_its_upload_ends_it_upstream() {
    let (edge, sim) = site("", "").await;
    let request = post("/raw/v1/files", "", form());
    for number in 1..=5 {
        let mut client = edge.connect().await;
        client.send(&request[..request.len() / 2]).await;
        sim.stats().wait_until(|stats| stats.connections_open == 1, DEADLINE).await.unwrap();
        drop(client);
        let noticed = sim
            .stats()
            .wait_until(|stats| stats.cancelled.receiving == number, Duration::from_millis(500))
            .await;
        assert!(noticed.is_ok(), "{noticed:?}");
    }
    edge.idle().await;
}

// === Upgrades ===

/// An upstream that switches protocols and then says everything back, in capitals; `bye` ends it.
async fn echo() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (told, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo_one(stream, told.clone()));
        }
    });
    (addr, heads)
}

async fn echo_one(mut stream: TcpStream, told: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let _ = told.send(String::from_utf8(head).unwrap());
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello";
    stream.write_all(switch).await.unwrap();
    let mut bytes = vec![0; 64 << 10];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(size) => {
                let said = bytes[..size].to_ascii_uppercase();
                stream.write_all(&said).await.unwrap();
                if said.ends_with(b"BYE") {
                    break;
                }
            }
        }
    }
    let _ = told.send("closed".to_owned());
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\
    Authorization: Bearer canary-client\r\n";

#[tokio::test]
async fn a_websocket_goes_both_ways_until_either_side_closes() {
    let (addr, mut heads) = echo().await;
    let edge = edge_of(&[addr], "api_key: canary-ours", "").await;
    for ends in ["server", "client"] {
        let mut client = edge.connect().await;
        client.send(&get("/raw/v1/realtime?model=m", UPGRADE)).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
        assert_eq!(head.header("sec-websocket-accept"), Some("x"));
        let asked = soon("the upgrade's head", heads.recv()).await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("get /v1/realtime?model=m http/1.1\r\n"), "{asked}");
        assert!(asked.contains("upgrade: websocket") && asked.contains("bearer canary-ours"), "{asked}");
        assert!(!asked.contains("canary-client"), "{asked}");
        client.saw("hello").await;
        for number in 0..50 {
            client.send(format!("message {number};").as_bytes()).await;
            client.saw(&format!("MESSAGE {number};")).await;
        }
        // More at once than any buffer on the way holds.
        client.send("x".repeat(300_000).as_bytes()).await;
        client.send(b"end;").await;
        client.saw("END;").await;
        if ends == "server" {
            client.send(b"bye").await;
            let rest = client.rest().await;
            assert!(rest.ends_with(b"BYE"));
        } else {
            drop(client);
        }
        assert_eq!(soon("the upstream's end", heads.recv()).await.unwrap(), "closed");
    }
    for line in edge.accesses(2).await {
        assert_eq!(line["status"], 101, "{line}");
        assert!(
            line["bytes_in"].as_u64().unwrap() > 300_000 && line["bytes_out"].as_u64().unwrap() > 300_000,
            "{line}"
        );
    }
    edge.idle().await;
}
