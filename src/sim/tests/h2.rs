//! The same over HTTP/2 by prior knowledge.

use super::*;
use ::h2::client::{ResponseFuture, SendRequest};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::{Method, Request};

async fn connect(sim: &Sim) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(sim.addr()).await.unwrap();
    let (send, connection) = ::h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

fn start(
    send: &mut SendRequest<Bytes>,
    path: &str,
    fault: &str,
    body: &Value,
) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://sim.test{path}"))
        .header("x-sim-text", "one two three four")
        .header("x-sim-fault", fault)
        .body(())
        .unwrap();
    let (response, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data(body.to_string().into(), true).unwrap();
    (response, stream)
}

async fn read(body: &mut RecvStream) -> (Vec<u8>, Option<::h2::Error>) {
    let mut out = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                out.extend_from_slice(&data);
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            Err(error) => return (out, Some(error)),
        }
    }
    (out, None)
}

async fn strike(sim: &Sim, fault: &str) -> (String, Option<::h2::Error>) {
    let mut send = connect(sim).await;
    let (response, _stream) = start(&mut send, "/v1/chat/completions", fault, &streamed(chat("x")));
    match tokio::time::timeout(LONG, response).await.unwrap() {
        Err(error) => (String::new(), Some(error)),
        Ok(response) => {
            let (bytes, error) = read(&mut response.into_body()).await;
            (String::from_utf8(bytes).unwrap(), error)
        }
    }
}

#[tokio::test]
async fn replies_are_those_of_http1() {
    let sim = sim(|_| {}).await;
    let mut send = connect(&sim).await;
    let (one, _a) = start(&mut send, "/v1/chat/completions", "", &chat("x"));
    let (two, _b) = start(&mut send, "/v1/messages", "", &streamed(message("x")));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(
        (one.status(), one.headers()["content-type"].as_bytes()),
        (http::StatusCode::OK, &b"application/json"[..])
    );
    let (body, _) = read(&mut one.into_body()).await;
    assert_eq!(
        body,
        ask(&sim, "/v1/chat/completions", "x-sim-text: one two three four\r\n", &chat("x")).await.body
    );
    let (body, _) = read(&mut two.into_body()).await;
    let http1 =
        ask(&sim, "/v1/messages", "x-sim-text: one two three four\r\n", &streamed(message("x"))).await;
    assert_eq!(body, http1.body);
    let seen = &sim.requests()[0];
    assert_eq!((seen.version, seen.header("host")), (http::Version::HTTP_2, Some("sim.test")));
    assert_eq!(sim.stats().snapshot().connections_accepted, 3);
}

#[tokio::test]
async fn large_bodies_pass_the_windows() {
    let sim = sim(|_| {}).await;
    let mut send = connect(&sim).await;
    let request = Request::post("http://sim.test/v1/chat/completions")
        .header("x-sim-tokens", "50000")
        .body(())
        .unwrap();
    let (response, mut stream) = send.send_request(request, false).unwrap();
    let mut body = Bytes::from(chat(&"word ".repeat(500_000)).to_string());
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        let piece = body.split_to(room.min(body.len()));
        stream.send_data(piece, body.is_empty()).unwrap();
    }
    let (bytes, error) = read(&mut response.await.unwrap().into_body()).await;
    assert!(error.is_none());
    let reply: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (&reply["usage"]["prompt_tokens"], &reply["usage"]["completion_tokens"]),
        (&json!(500_002), &json!(50_000))
    );
}

#[tokio::test]
async fn faults_in_its_own_terms() {
    let sim = sim(|_| {}).await;
    let reason = |error: &Option<::h2::Error>| error.as_ref().and_then(::h2::Error::reason);
    let (text, error) = strike(&sim, "reset_before_head").await;
    assert_eq!((text.as_str(), reason(&error)), ("", Some(Reason::INTERNAL_ERROR)));
    assert_eq!(reason(&strike(&sim, "refuse").await.1), Some(Reason::REFUSED_STREAM));
    let (text, error) = strike(&sim, "reset=2").await;
    assert_eq!((text.matches("data: ").count(), reason(&error)), (2, Some(Reason::INTERNAL_ERROR)));
    let (text, error) = strike(&sim, "cut=2").await;
    assert!(text.matches("data: ").count() == 2 && error.is_none());
    let (_, error) = strike(&sim, "reset_after_head").await;
    assert_eq!(reason(&error), Some(Reason::INTERNAL_ERROR));
    let (_, error) = strike(&sim, "goaway").await;
    assert!(error.as_ref().is_some_and(|error| error.is_go_away() || error.is_io()), "{error:?}");
    let (text, error) = strike(&sim, "one_byte").await;
    assert!(text.ends_with("data: [DONE]\n\n") && error.is_none(), "{} {error:?}", text.len());
    let (_, error) = strike(&sim, "wrong_length=short").await;
    assert!(error.is_some(), "a length that lies is a protocol error");
    let (text, _) = strike(&sim, "status=529").await;
    assert!(text.contains("server_is_overloaded"));
}

#[tokio::test]
async fn a_reset_or_a_closed_connection_cancels() {
    let sim = sim(|config| config.engine.slots = Some(2)).await;
    let mut send = connect(&sim).await;
    let (response, mut stream) = start(&mut send, "/v1/chat/completions", "stall", &streamed(chat("x")));
    until(&sim, |s| s.active == 1).await;
    stream.send_reset(Reason::CANCEL);
    let seen = until(&sim, |s| s.cancelled.stalled == 1).await;
    assert_eq!(seen.active, 0);
    drop((response, stream));
    let (response, stream) = start(&mut send, "/v1/chat/completions", "stall=2", &streamed(chat("x")));
    let response = response.await.unwrap();
    until(&sim, |s| s.active == 1).await;
    drop((response, stream, send));
    let seen = until(&sim, |s| s.cancelled.stalled == 2 && s.connections_open == 0).await;
    assert_eq!((seen.active, seen.connections_open), (0, 0));
}

#[tokio::test]
async fn bodies_over_the_bound_are_413() {
    let sim = sim(|config| config.max_body = 100).await;
    let mut send = connect(&sim).await;
    let (response, _stream) = start(&mut send, "/v1/chat/completions", "", &chat(&"word ".repeat(100)));
    assert_eq!(response.await.unwrap().status(), 413);
}
