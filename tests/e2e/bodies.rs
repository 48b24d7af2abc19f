//! Request bodies: of every size and framing they arrive whole, coded ones are decoded, and the bounds hold.

use std::io::Write;

use bytes::Bytes;
use forebay::sim::{Chunking, Config, Recorded, Replay, Sim};
use http::Request;

use crate::support::h2client::H2Client;
use crate::support::{Edge, Reply, fleet, listener, post, sim, soon};

/// An edge with these settings, and an upstream that keeps whole bodies and answers without reading them.
async fn site(settings: &str) -> (Edge, Sim) {
    let recorded = Recorded {
        status: 200,
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("content-length".into(), "2".into()),
        ],
        body: b"{}".to_vec(),
        ..Recorded::default()
    };
    let replay = Some(Replay { recorded: vec![recorded], chunking: Chunking::Whole });
    let sim = sim(Config { replay, record_body: 64 << 20, ..Config::default() }).await;
    let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
    let edge = Edge::start(&[&listener("h2c: true"), &fleet(&sim), routes, settings].concat()).await;
    (edge, sim)
}

const CHAT: &str = "/v1/chat/completions";
const SIZES: [usize; 5] = [100, 63 << 10, 65 << 10, 1 << 20, 20 << 20];

/// A chat of exactly this size, no two parts of which look alike.
fn chat(size: usize) -> Bytes {
    let (start, end) = (br#"{"model":"m","messages":[{"role":"user","content":""#, br#""}]}"#);
    let mut body = start.to_vec();
    let mut number = size as u64;
    while body.len() < size - end.len() {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.push(b"0123456789abcdefghijklmnopqrstuv"[(number >> 59) as usize]);
    }
    body.extend_from_slice(end);
    assert_eq!(body.len(), size);
    body.into()
}

/// The same request in chunks of odd sizes.
fn chunked(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut out = head.into_bytes();
    let (mut rest, mut size) = (body, 1);
    while !rest.is_empty() {
        let (chunk, next) = rest.split_at(size.min(rest.len()));
        write!(out, "{:x}\r\n", chunk.len()).unwrap();
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        (rest, size) = (next, (size * 3 + 1) % 100_003);
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// A request over HTTP/2, with its length or without.
fn over_h2(body: &Bytes, with_length: bool) -> Request<Bytes> {
    let mut request = Request::post(format!("http://edge{CHAT}"));
    if with_length {
        request = request.header("content-length", body.len());
    }
    request.body(body.clone()).unwrap()
}

/// The one request that the upstream got has this body, framed by its length.
fn assert_arrived(sim: &Sim, body: &[u8], how: &str) {
    let received = sim.requests();
    let [request] = received.as_slice() else { panic!("{how}: {} requests", received.len()) };
    assert_eq!(request.body_len, body.len(), "{how}");
    assert!(request.body == body, "{how}: the body of {} bytes was altered", body.len());
    sim.stats().reset();
}

/// The error of a dialect, of that status and code, and the end of the connection.
fn assert_refused(reply: &Reply, status: u16, code: Option<&str>) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"].as_str(), code, "{reply:?}");
}

// === Of every size and framing ===

#[tokio::test]
async fn over_http1_bodies_with_a_length_arrive_whole() {
    let (edge, sim) = site("").await;
    let mut client = edge.connect().await;
    for body in SIZES.map(chat) {
        assert_eq!(client.ask(&post(CHAT, "", &body)).await.status, 200);
        assert_arrived(&sim, &body, "with a length");
    }
}

#[tokio::test]
async fn over_http1_bodies_in_chunks_arrive_whole() {
    let (edge, sim) = site("").await;
    let mut client = edge.connect().await;
    for body in SIZES.map(chat) {
        assert_eq!(client.ask(&chunked(CHAT, &body)).await.status, 200);
        assert_arrived(&sim, &body, "in chunks");
    }
}

#[tokio::test]
async fn over_http2_bodies_arrive_whole() {
    let (edge, sim) = site("").await;
    let client = H2Client::connect(edge.addr).await;
    for body in SIZES.map(chat) {
        for with_length in [true, false] {
            let reply = client.ask(over_h2(&body, with_length)).await;
            assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
            assert_arrived(&sim, &body, "over HTTP/2");
        }
    }
}

#[tokio::test]
async fn on_a_raw_route_bodies_over_every_bound_of_the_intake_arrive_whole() {
    let (edge, sim) = site("intake: {max_body: 1KiB, held: 1KiB}\n").await;
    let mut client = edge.connect().await;
    for body in SIZES.map(chat) {
        for request in [post("/raw/v1/files", "", &body), chunked("/raw/v1/files", &body)] {
            assert_eq!(client.ask(&request).await.status, 200);
            assert_arrived(&sim, &body, "on a raw route");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let (edge, sim) = site("").await;
    let body = chat(1000);
    let request = post(CHAT, "Expect: 100-continue\r\n", &body);
    let (head, body_part) = request.split_at(request.len() - body.len());
    let mut client = edge.connect().await;
    client.send(head).await;
    assert_eq!(client.head().await.status, 100);
    client.send(body_part).await;
    let reply = client.reply().await;
    assert_eq!(reply.header("connection"), Some("keep-alive"), "the body was read whole");
    assert_eq!((reply.status, reply.interim), (200, vec![]));
    assert_arrived(&sim, &body, "asked for");
}

#[tokio::test]
async fn an_error_in_a_body_that_was_asked_for_is_answered() {
    let (edge, _sim) = site("").await;
    for (body, status) in [("{", 400), (r#"{"messages":[]}"#, 400)] {
        let request = post(CHAT, "Expect: 100-continue\r\n", body);
        let (head, body_part) = request.split_at(request.len() - body.len());
        let mut client = edge.connect().await;
        client.send(head).await;
        assert_eq!(client.head().await.status, 100);
        client.send(body_part).await;
        let reply = client.reply_or_end().await;
        assert_eq!(reply.map(|reply| reply.status), Some(status), "{body}");
    }
}

// === Codings ===

/// The body in each coding that is read, by the names of HTTP.
fn coded(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let fast = flate2::Compression::fast();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), fast);
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), fast);
    gzip.write_all(body).unwrap();
    zlib.write_all(body).unwrap();
    bare.write_all(body).unwrap();
    let mut br = Vec::new();
    brotli::CompressorWriter::new(&mut br, 4096, 3, 22).write_all(body).unwrap();
    vec![
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", bare.finish().unwrap()),
        ("br", br),
        ("zstd", zstd::encode_all(body, 1).unwrap()),
    ]
}

fn coding(name: &str) -> String {
    format!("Content-Encoding: {name}\r\n")
}

#[tokio::test]
async fn coded_bodies_are_decoded() {
    let (edge, sim) = site("").await;
    let mut client = edge.connect().await;
    for body in [chat(100), chat(300_000)] {
        for (name, bytes) in coded(&body) {
            let reply = client.ask(&post(CHAT, &coding(name), &bytes)).await;
            assert_eq!(reply.status, 200, "{name}: {reply:?}");
            let encoding = sim.requests()[0].header("content-encoding").map(str::to_owned);
            assert_eq!(encoding, None, "{name}");
            assert_arrived(&sim, &body, name);
        }
    }
}

#[tokio::test]
async fn a_bomb_is_refused_in_every_coding() {
    let (edge, sim) = site("").await;
    for (name, bytes) in coded(&vec![b' '; 40 << 20]) {
        let reply = edge.connect().await.ask(&post(CHAT, &coding(name), &bytes)).await;
        assert_refused(&reply, 413, Some("request_too_large"));
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn codings_that_are_not_read_are_refused() {
    let (edge, sim) = site("").await;
    let (body, gzip) = (chat(100), coded(&chat(100)).swap_remove(0).1);
    for (fields, bytes, status) in [
        ("Content-Encoding: compress\r\n", &body[..], 415),
        ("Content-Encoding: gzip, gzip\r\n", &gzip, 415),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", &gzip, 415),
        ("Content-Encoding: gzip\r\n", &body, 400),
        ("Content-Encoding: zstd\r\n", &gzip, 400),
        ("Content-Encoding: gzip\r\n", &gzip[..gzip.len() / 2], 400),
    ] {
        assert_refused(&edge.connect().await.ask(&post(CHAT, fields, bytes)).await, status, None);
    }
    assert_eq!(edge.connect().await.ask(&post(CHAT, &coding("identity"), &body)).await.status, 200);
    assert_eq!(sim.requests().len(), 1);
}

#[tokio::test]
async fn where_decoding_is_off_coded_bodies_are_refused() {
    let (edge, _sim) = site("intake: {decode: false}\n").await;
    for (name, bytes) in coded(&chat(100)) {
        assert_refused(&edge.connect().await.ask(&post(CHAT, &coding(name), bytes)).await, 415, None);
    }
}

// === Bounds ===

#[tokio::test]
async fn a_body_over_its_bound_is_refused() {
    let (edge, sim) = site("intake: {max_body: 64KiB}\n").await;
    for (size, status) in [(64 << 10, 200), ((64 << 10) + 1, 413), (4 << 20, 413)] {
        let body = chat(size);
        for request in [post(CHAT, "", &body), chunked(CHAT, &body)] {
            let mut client = edge.connect().await;
            // The edge may answer before it was sent everything.
            let _ = client.try_send(&request).await;
            let reply = client.reply().await;
            assert_eq!(reply.status, status, "{size}: {reply:?}");
            if status == 413 {
                assert_refused(&reply, 413, Some("request_too_large"));
                assert_eq!(client.rest().await, b"", "the connection is closed");
            }
        }
        for with_length in [true, false] {
            let reply = H2Client::connect(edge.addr).await.ask(over_h2(&body, with_length)).await;
            assert_eq!(reply.status, status, "{size} over HTTP/2: {reply:?}");
        }
    }
    assert_eq!(sim.requests().len(), 4);
}

#[tokio::test]
async fn a_length_over_the_bound_is_refused_before_any_of_the_body_comes() {
    let (edge, _sim) = site("").await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: edge\r\n");
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut client = edge.connect().await;
        client.send(format!("{head}{more}Content-Length: 10000000000\r\n\r\n").as_bytes()).await;
        let reply = client.reply().await;
        assert_refused(&reply, 413, Some("request_too_large"));
        assert!(reply.interim.is_empty(), "the body is not asked for");
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let (edge, sim) = site("intake: {body_timeout: 200ms}\n").await;
    let body = chat(1000);
    for request in [post(CHAT, "", &body), chunked(CHAT, &body)] {
        let mut client = edge.connect().await;
        client.send(&request[..request.len() - 10]).await;
        assert_refused(&client.reply().await, 408, Some("request_timeout"));
        assert_eq!(client.rest().await, b"", "the connection is closed");
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn an_upload_on_a_raw_route_that_stops_is_answered() {
    let (edge, sim) = site("intake: {body_timeout: 200ms}\n").await;
    let body = chat(100_000);
    for request in [post("/raw/v1/files", "", &body), chunked("/raw/v1/files", &body)] {
        let mut client = edge.connect().await;
        client.send(&request[..request.len() - 10]).await;
        assert_refused(&client.reply().await, 408, Some("request_timeout"));
        assert_eq!(client.rest().await, b"", "the connection is closed");
    }
    let whole = sim.requests().iter().filter(|request| request.body_len == body.len()).count();
    assert_eq!(whole, 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_nowhere() {
    let (edge, sim) = site("").await;
    let body = chat(1000);
    for (path, request) in
        [(CHAT, post(CHAT, "", &body)), ("/chat/completions", chunked("/chat/completions", &body))]
    {
        let mut client = edge.connect().await;
        client.send(&request[..request.len() - 10]).await;
        drop(client);
        let line = edge.access(|line| line["path"] == path).await;
        assert_eq!(line["status"], 499, "{line}");
        assert_eq!((&line["end"], &line["attempts"]), (&"CR".into(), &0.into()), "{line}");
    }
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn bodies_held_at_once_are_bounded_and_given_back() {
    let (edge, sim) = site("intake: {max_body: 100KiB, held: 100KiB}\n").await;
    let body = chat(60 << 10);
    let request = post(CHAT, "", &body);
    let mut first = edge.connect().await;
    first.send(&request[..request.len() - 1]).await;
    let held = async { while edge.metric("forebay_held_bytes").await < (body.len() - 1) as f64 {} };
    soon("the first body's share", held).await;
    // What is only announced takes nobody's place.
    let mut idle = edge.connect().await;
    idle.send(&request[..request.len() - body.len()]).await;

    for too_much in [post(CHAT, "", &body), chunked(CHAT, &body)] {
        let mut second = edge.connect().await;
        let _ = second.try_send(&too_much).await;
        let reply = second.reply().await;
        assert_refused(&reply, 503, Some("server_is_overloaded"));
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(
        edge.connect().await.ask(&post(CHAT, "", chat(1000))).await.status,
        200,
        "a small one has room"
    );

    first.send(&request[request.len() - 1..]).await;
    assert_eq!(first.reply().await.status, 200);
    // The exchange gives its share back just after its client has the whole reply.
    let none = async { while edge.metric("forebay_held_bytes").await > 0.0 {} };
    soon("the end of all shares", none).await;
    assert_eq!(edge.connect().await.ask(&request).await.status, 200, "the share was given back");
    assert_eq!(sim.requests().len(), 3);
}
