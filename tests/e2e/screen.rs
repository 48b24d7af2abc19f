//! The strict screen: what is refused, what is forwarded and as what, how long a head may be and take.

mod mutations;
mod vectors;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use forebay::sim::{Config, Request, Sim};

use crate::support::h2client::H2Client;
use crate::support::{Client, Edge, Reply, fleet, get, listener, post, sim, soon};
use vectors::{JSON, Vector, Verdict, measured, more};

/// An edge that serves models, and everything else below `/raw`.
async fn site(settings: &str) -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
    let edge = Edge::start(&[&listener(settings), &fleet(&sim), routes].concat()).await;
    (edge, sim)
}

const HEADERS: &str = "keepalive: 60s";
const CHAT: &str = "/v1/chat/completions";

// === Vectors ===

/// What is wrong with how the edge treats a vector, if anything.
async fn judge(vector: &Vector, edge: &Edge, sim: &Sim) -> Result<(), String> {
    sim.stats().reset();
    let mut client = edge.connect().await;
    // The edge may answer, and close, before it was sent everything.
    let _ = client.try_send(&vector.raw).await;
    match vector.verdict {
        Verdict::Refused(status) => refused(&mut client, status).await?,
        Verdict::Forwarded if vector.raw.starts_with(b"HEAD") => answered(&client.head().await)?,
        Verdict::Forwarded => answered(&client.reply_or_end().await.ok_or("it was not answered")?)?,
    }
    judge_upstream(vector, CHAT, edge, sim).await
}

/// What is wrong with what the upstream has got of a vector, if anything.
async fn judge_upstream(vector: &Vector, path: &str, edge: &Edge, sim: &Sim) -> Result<(), String> {
    // Whatever a vector left on the connections to the upstream, another client's request must not meet it.
    let sentinel = edge.connect().await.ask(&post(path, "x-sim-text: sentinel\r\n", JSON)).await;
    if sentinel.json()["choices"][0]["message"]["content"] != "sentinel" {
        return Err(format!("the next client was answered {sentinel:?}"));
    }
    let wanted = usize::from(vector.verdict == Verdict::Forwarded);
    let received = sim.requests();
    if received.len() != wanted + 1 {
        return Err(format!("the upstream received {} requests beside the sentinel", received.len() - 1));
    }
    received.iter().try_for_each(|request| clean(request, vector.name.starts_with("upgrade")))
}

fn answered(reply: &Reply) -> Result<(), String> {
    // What the simulator does not know is not found there, and that is an answer.
    if matches!(reply.status, 200 | 404) { Ok(()) } else { Err(format!("it was answered {reply:?}")) }
}

async fn refused(client: &mut Client, status: u16) -> Result<(), String> {
    let reply = client.reply_or_end().await.ok_or("the connection was closed without an answer")?;
    if reply.status != status {
        return Err(format!("it was answered {}: {}", reply.status, String::from_utf8_lossy(&reply.body)));
    }
    let is_json = reply.header("content-type") == Some("application/json");
    if !is_json || !reply.json()["error"]["message"].is_string() {
        return Err(format!("the error is not in the dialect: {reply:?}"));
    }
    if !client.rest().await.is_empty() {
        return Err("something follows the error".to_owned());
    }
    Ok(())
}

/// What is wrong with a request as the upstream got it, if anything.
fn clean(request: &Request, upgrades: bool) -> Result<(), String> {
    let count = |name: &str| request.headers.get_all(name).iter().count();
    let dirty = |what: &str| Err(format!("{what}: {request:?}"));
    let hops = ["connection", "upgrade", "keep-alive", "te", "trailer", "proxy-connection"];
    let secret = ["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"];
    let forged = ["forwarded", "x-real-ip", "x-forwarded-host", "x-forwarded-proto"];
    if count("host") != 1 || request.header("host") == Some("edge") {
        return dirty("not exactly one Host, the upstream's own");
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        return dirty("more than one framing");
    }
    if !request.target.starts_with('/') || !request.target.is_ascii() {
        return dirty("the target is not in origin form");
    }
    if count("x-forwarded-for") != 1 || request.header("x-forwarded-for") != Some("127.0.0.1") {
        return dirty("the forwarding chain is not the edge's own");
    }
    let hop = hops.iter().find(|name| !upgrades && count(name) > 0);
    match hop.or_else(|| secret.iter().chain(&forged).find(|name| count(name) > 0)) {
        Some(name) => dirty(&format!("{name} crossed the edge")),
        None => Ok(()),
    }
}

/// How long one vector may take.
const PATIENCE: Duration = Duration::from_secs(5);

async fn judge_all(vectors: &[Vector]) {
    let (edge, sim) = site(HEADERS).await;
    let mut wrong = Vec::new();
    for vector in vectors {
        let judged = tokio::time::timeout(PATIENCE, judge(vector, &edge, &sim)).await;
        if let Err(why) = judged.unwrap_or_else(|_| Err("it hangs".to_owned())) {
            wrong.push(format!("{} should be {:?}: {why}", vector.name, vector.verdict));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

#[tokio::test]
async fn the_measured_vectors_get_their_verdicts() {
    let vectors = measured();
    let names: HashSet<_> = vectors.iter().map(|vector| vector.name).collect();
    assert_eq!((vectors.len(), names.len()), (115, 115), "the references were measured with 115");
    judge_all(&vectors).await;
}

#[tokio::test]
async fn further_vectors_get_their_verdicts() {
    judge_all(&more()).await;
}

/// There a body streams through, so that its head may be gone up before it proves to be bad. But no upstream must get
/// a whole request out of it.
#[tokio::test]
async fn no_bad_body_makes_a_request_on_a_raw_route() {
    const RAW: &str = "/raw/v1/chat/completions";
    let (edge, sim) = site(HEADERS).await;
    let mut wrong = Vec::new();
    for mut vector in measured().into_iter().chain(more()).filter(|vector| vector.raw.starts_with(b"POST")) {
        vector.raw = [format!("POST {RAW}").as_bytes(), &vector.raw[format!("POST {CHAT}").len()..]].concat();
        let judged = tokio::time::timeout(PATIENCE, async {
            sim.stats().reset();
            let mut client = edge.connect().await;
            let _ = client.try_send(&vector.raw).await;
            match vector.verdict {
                Verdict::Refused(_) => drop(client.rest().await),
                Verdict::Forwarded => answered(&client.reply_or_end().await.ok_or("it was not answered")?)?,
            }
            judge_upstream(&vector, RAW, &edge, &sim).await
        });
        if let Err(why) = judged.await.unwrap_or_else(|_| Err("it hangs".to_owned())) {
            wrong.push(format!("{} should be {:?}: {why}", vector.name, vector.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A request over HTTP/2, on a connection of its own.
async fn ask_over_h2(edge: &Edge, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
    let request = http::Request::builder().method(method).uri(format!("http://edge{target}"));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    H2Client::connect(edge.addr).await.ask(request.body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn over_http2_the_same_is_refused() {
    let (edge, sim) = site("h2c: true").await;
    let long = format!("/raw/{}", "a".repeat(9 << 10));
    for (method, target, status) in [
        ("GET", "/raw/../v1/models", 400),
        ("GET", "/raw/%2e%2e/v1/models", 400),
        ("GET", "/raw//v1/models", 400),
        ("GET", "/raw/a%2fb", 400),
        ("GET", "/raw/a%0d%0ab", 400),
        ("GET", long.as_str(), 414),
        ("TRACE", "/raw/v1/models", 405),
    ] {
        let reply = ask_over_h2(&edge, method, target, &[]).await;
        assert_eq!(reply.status, status, "{method} {target}: {reply:?}");
        assert!(reply.json()["error"]["message"].is_string());
    }
    // What is malformed as HTTP/2 is refused below us, without words.
    for field in [("host", "other"), ("content-length", "5")] {
        let reply = ask_over_h2(&edge, "GET", "/raw/v1/models", &[field]).await;
        assert!(matches!(reply.status, 0 | 400), "{field:?}: {reply:?}");
    }
    assert_eq!(sim.requests().len(), 0);
    assert_eq!(ask_over_h2(&edge, "GET", "/raw/v1/models", &[("x-a", "b")]).await.status, 200);
    clean(&sim.requests()[0], false).unwrap();
}

#[tokio::test]
async fn over_http2_the_same_fields_are_refused() {
    let (edge, sim) = site("h2c: true").await;
    let mut wrong = Vec::new();
    for (fields, status) in [
        (&[("x_a", "b")][..], 400),
        (&[("expect", "200-ok")], 417),
        (&[("authorization", "a"), ("authorization", "b")], 400),
        (&[("content-type", "a"), ("content-type", "b")], 400),
    ] {
        let reply = ask_over_h2(&edge, "GET", "/raw/v1/models", fields).await;
        if reply.status != status {
            wrong.push(format!("{fields:?}: {reply:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(sim.requests().len(), 0);
}

// === What is forwarded ===

/// Everything that a client should keep to itself, and what of a request an API reads.
const LADEN: &str = "Authorization: Bearer secret\r\nCookie: a=b\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
                     Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\nForwarded: for=6.6.6.6\r\n\
                     X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nAccept-Encoding: gzip\r\nX-Unknown: 1\r\n\
                     X-Request-Id: mine-1\r\nUser-Agent: sdk/1\r\nIdempotency-Key: k\r\nTraceparent: 00-1-2-01\r\n";

#[tokio::test]
async fn an_exchange_is_forwarded_with_what_an_api_reads_and_nothing_else() {
    let (edge, sim) = site(HEADERS).await;
    let reply = edge.connect().await.ask(&post("/v1/chat/completions?a=b", LADEN, JSON)).await;
    assert_eq!((reply.status, reply.header("x-request-id")), (200, Some("mine-1")));
    let received = sim.requests();
    let [request] = received.as_slice() else { panic!("one request: {received:?}") };
    let mut names: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "traceparent",
        "user-agent",
        "x-forwarded-for",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(request.target, "/v1/chat/completions?a=b");
    assert_eq!(request.header("host"), Some(sim.addr().to_string().as_str()));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.body, JSON);
}

#[tokio::test]
async fn a_raw_request_is_forwarded_without_credentials_cookies_and_hops() {
    let (edge, sim) = site(HEADERS).await;
    let reply = edge.connect().await.ask(&post("/raw/v1/chat/completions?a=b", LADEN, JSON)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let received = sim.requests();
    let [request] = received.as_slice() else { panic!("one request: {received:?}") };
    clean(request, false).unwrap();
    assert!(request.header("x-hop").is_none(), "a nominated field is a hop's: {request:?}");
    assert_eq!((request.header("x-unknown"), request.header("x-request-id")), (Some("1"), Some("mine-1")));
    assert_eq!((request.target.as_str(), &request.body[..]), ("/v1/chat/completions?a=b", JSON.as_bytes()));
}

#[tokio::test]
async fn a_refused_upgrade_leaves_no_way_around_the_screen() {
    let (edge, sim) = site(HEADERS).await;
    let mut client = edge.connect().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let reply = client.ask(&get("/raw/v1/models", upgrade)).await;
    assert_eq!(reply.status, 200, "the simulator does not upgrade: {reply:?}");
    // The connection may be closed now; if it goes on, it goes on with HTTP, which is screened.
    let _ = client.try_send(&get("/raw/v1/files", "X_Y: 1\r\n")).await;
    if let Some(reply) = client.reply_or_end().await {
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    assert_eq!(sim.requests().len(), 1, "the unscreened request went up");
}

// === How long a head may be and take ===

#[tokio::test]
async fn a_head_over_its_bound_is_refused_and_one_under_it_is_not() {
    let (edge, sim) = site("max_head: 4KiB, max_headers: 20").await;
    for (fields, status) in [
        (format!("X: {}\r\n", "x".repeat(3800)), 200),
        (format!("X: {}\r\n", "x".repeat(4096)), 431),
        (format!("X: {}\r\n", "x".repeat(1 << 20)), 431),
        ("X: 1\r\n".repeat(19), 200),
        ("X: 1\r\n".repeat(20), 431),
    ] {
        let mut client = edge.connect().await;
        // A head that is far too long is answered before it was sent whole.
        let _ = client.try_send(&get("/v1/models", &fields)).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{} bytes: {reply:?}", fields.len());
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn one_deadline_covers_the_whole_head_however_it_drips() {
    let (edge, sim) = site("head_timeout: 300ms").await;
    for request in [get("/v1/models", ""), post(CHAT, "", JSON)] {
        let mut client = edge.connect().await;
        let drip = async {
            let (mut tick, mut bytes) = (tokio::time::interval(Duration::from_millis(40)), request.iter());
            for byte in bytes.by_ref() {
                tick.tick().await;
                if client.try_send(&[*byte]).await.is_err() || client.has_reply() {
                    break;
                }
            }
            bytes.len()
        };
        let unsent = soon("the drip's end", drip).await;
        assert!(unsent > 0, "the head was taken whole");
        let reply = client.reply().await;
        assert_eq!(reply.status, 408, "{reply:?}");
        assert_eq!(reply.json()["error"]["code"], "request_timeout");
        assert_eq!(client.rest().await, b"", "the connection is closed");
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn a_connection_without_a_request_is_left_alone_by_the_heads_deadline() {
    let (edge, _sim) = site("head_timeout: 50ms").await;
    let mut idle = edge.connect().await;
    // Another client's slow head has met the same deadline meanwhile.
    let mut slow = edge.connect().await;
    slow.send(b"GET").await;
    assert_eq!(slow.reply().await.status, 408);
    assert_eq!(idle.ask(&get("/v1/models", "")).await.status, 200);
}

// === One connection, several requests ===

/// A chat that is answered with this text.
fn said(text: &str) -> Vec<u8> {
    post(CHAT, &format!("x-sim-text: {text}\r\n"), JSON)
}

/// The same, in chunks.
fn said_in_chunks(text: &str) -> Vec<u8> {
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: edge\r\nx-sim-text: {text}\r\n");
    format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{JSON}\r\n0\r\n\r\n", JSON.len()).into_bytes()
}

/// Sends all of it at once; the replies must be these texts, in their order.
async fn pipeline(requests: &[Vec<u8>], texts: &[&str]) {
    let (edge, sim) = site(HEADERS).await;
    let mut client = edge.connect().await;
    client.send(&requests.concat()).await;
    for text in texts {
        assert_eq!(client.reply().await.json()["choices"][0]["message"]["content"], *text);
    }
    assert_eq!(sim.requests().len(), texts.len());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    pipeline(&[said("first"), said("second"), said("third")], &["first", "second", "third"]).await;
}

#[tokio::test]
async fn what_is_pipelined_behind_chunks_is_answered_in_order() {
    pipeline(&[said("first"), said_in_chunks("second"), said("third")], &["first", "second", "third"]).await;
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_is_refused_and_ends_the_connection() {
    let (edge, sim) = site(HEADERS).await;
    let bad = format!("POST {CHAT} HTTP/1.1\r\nHost: edge\r\nHost: other\r\n\r\n").into_bytes();
    let mut client = edge.connect().await;
    client.send(&[post(CHAT, "", JSON), bad, post(CHAT, "", JSON)].concat()).await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(client.reply().await.status, 400);
    assert_eq!(client.rest().await, b"");
    assert_eq!(sim.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_outlives_an_error_whose_request_was_read_whole() {
    let (edge, sim) = site(HEADERS).await;
    let mut client = edge.connect().await;
    for (body, status) in [("{", 400), (r#"{"messages":[]}"#, 400), (JSON, 200), ("[]", 400), (JSON, 200)] {
        let reply = client.ask(&post(CHAT, "", body)).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
    }
    assert_eq!(client.ask(&get("/v1/nothing", "")).await.status, 404);
    assert_eq!(client.ask(&get("/v1/models", "")).await.status, 200);
    assert_eq!(sim.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_is_closed_after_as_many_requests_as_it_may_carry() {
    let (edge, _sim) = site("keepalive_requests: 3").await;
    let mut client = edge.connect().await;
    let mut served = 0;
    while client.try_send(&get("/v1/models", "")).await.is_ok() && served < 10 {
        match client.reply_or_end().await {
            Some(reply) => assert_eq!(reply.status, 200),
            None => break,
        }
        served += 1;
    }
    assert_eq!(served, 3);
}

// === In whose words ===

#[tokio::test]
async fn a_refusal_is_in_the_clients_dialect() {
    let (edge, _sim) = site(HEADERS).await;
    let smuggling = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
    for (path, fields, anthropic) in [
        (CHAT, "Authorization: Bearer k\r\n", false),
        ("/v1/responses", "Authorization: Bearer k\r\n", false),
        ("/v1/messages", "x-api-key: k\r\nanthropic-version: 2023-06-01\r\n", true),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: edge\r\n{fields}{smuggling}\r\n0\r\n\r\n");
        let mut client = edge.connect().await;
        client.send(request.as_bytes()).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json()["type"] == "error", anthropic, "{path}: {reply:?}");
    }
}

// === Spoiled at random ===

/// What is wrong with how a spoiled request was treated, if anything. It may have become another good one.
async fn judge_mutated(request: &[u8], edge: &Edge, sim: &Sim) -> Result<(), String> {
    sim.stats().reset();
    let mut client = edge.connect().await;
    let _ = client.try_send(request).await;
    let reply = client.reply_or_end().await.ok_or("it was not answered")?;
    let is_json = reply.header("content-type") == Some("application/json");
    if reply.status >= 400 && !(is_json && reply.json()["error"]["message"].is_string()) {
        return Err(format!("the error is not in the dialect: {reply:?}"));
    }
    sim.requests().iter().try_for_each(|request| clean(request, false))
}

/// `FOREBAY_MUTATIONS` sets how many are tried.
#[tokio::test]
async fn spoiled_requests_are_refused_in_words_or_forwarded_clean() {
    let count = std::env::var("FOREBAY_MUTATIONS").map_or(500, |count| count.parse().unwrap());
    let sim = sim(Config::default()).await;
    let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
    let clocks = "intake: {body_timeout: 100ms}\n";
    let edge = Edge::start(&[&listener("head_timeout: 100ms"), &fleet(&sim), routes, clocks].concat()).await;
    let mut wrong = Vec::new();
    for number in 0..count {
        let request = mutations::mutated(number);
        let judged = tokio::time::timeout(Duration::from_secs(2), judge_mutated(&request, &edge, &sim)).await;
        if let Err(why) = judged.unwrap_or_else(|_| Err("it hangs".to_owned())) {
            wrong.push(format!("{number}: {:?}: {why}", String::from_utf8_lossy(&request)));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(edge.metric("forebay_panics_total").await, 0.0);
}
