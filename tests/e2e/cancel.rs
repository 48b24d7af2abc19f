//! A client that leaves, whenever it does, stops the work for it at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::sim::{Config, EngineConfig, Sim};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::dialects::{Dialect, events};
use crate::support::absent::BlackHole;
use crate::support::{DEADLINE, Edge, cluster_of, listener, post, sim, soon};

/// A moment to leave in.
struct Moment {
    fault: &'static str,
    /// How many tokens it asks for, where that matters; the reply says `canary sings` otherwise.
    tokens: Option<u64>,
    stream: bool,
    /// What the client waits for before it leaves, if it gets to see anything.
    sees: Option<&'static str>,
    /// How the log says that it ended.
    end: &'static str,
    status: u64,
}

const HEAD: Moment =
    Moment { fault: "stall=head", tokens: None, stream: true, sees: None, end: "CH", status: 499 };
const WHOLE: Moment =
    Moment { fault: "stall=head", tokens: None, stream: false, sees: None, end: "CH", status: 499 };
const HALF: Moment =
    Moment { fault: "stall=1", tokens: None, stream: false, sees: None, end: "CT", status: 499 };
const FIRST: Moment =
    Moment { fault: "stall=0", tokens: None, stream: true, sees: None, end: "CT", status: 499 };
const MIDST: Moment =
    Moment { fault: "stall=3", tokens: None, stream: true, sees: Some("canary"), end: "CD", status: 200 };
/// The half of a reply that is too large to be held.
const PASSING: Moment = Moment {
    fault: "stall=1",
    tokens: Some(400_000),
    stream: false,
    sees: Some("assistant"),
    end: "CD",
    status: 200,
};

/// How often each moment is tried.
const RUNS: usize = 30;
/// What is asked for, in the middle of the runs.
const MEDIAN: Duration = Duration::from_millis(50);
/// What a machine that is busy with other tests may take at worst.
const WORST: Duration = Duration::from_millis(500);

async fn site(cluster: &str) -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    (Edge::start(&[listener("h2c: true"), cluster_of(&[sim.addr()], cluster)].concat()).await, sim)
}

impl Moment {
    fn body(&self) -> String {
        Dialect::Chat.ask("m", self.stream)
    }

    /// What tells the simulator what to do.
    fn fields(&self) -> [(&'static str, String); 2] {
        let said = match self.tokens {
            Some(tokens) => ("x-sim-tokens", tokens.to_string()),
            None => ("x-sim-text", "canary sings".to_owned()),
        };
        [("x-sim-fault", self.fault.to_owned()), said]
    }

    /// Waits until the edge is in this moment, for the exchange of that number.
    async fn come(&self, edge: &Edge, sim: &Sim, number: u64) {
        sim.stats().wait_until(|stats| stats.requests == number, DEADLINE).await.unwrap();
        if self.fault == "stall=head" {
            return;
        }
        // The head has come: it is the one thing that can be seen of that from outside.
        let sample = "llm_provider_latency_seconds_count{cluster=\"sim\",provider=\"simulator\"}";
        soon("the head", async { while edge.metric(sample).await < number as f64 {} }).await;
    }
}

/// From the client's leaving to the upstream's notice.
async fn noticed(sim: &Sim, number: u64) -> Duration {
    let left = Instant::now();
    sim.stats().wait_until(|stats| stats.cancelled.total() == number, DEADLINE).await.unwrap();
    left.elapsed()
}

async fn settle(what: &str, moment: &Moment, edge: &Edge, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: noticed upstream after {median:?} in the median, {worst:?} at worst");
    assert!(median <= MEDIAN && worst <= WORST, "{what}: {times:?}");
    edge.idle().await;
    for line in edge.accesses(times.len()).await {
        let seen = (line["end"].as_str().unwrap(), line["status"].as_u64().unwrap());
        assert_eq!(seen, (moment.end, moment.status), "{line}");
    }
}

// === Over HTTP/1 ===

async fn leave(what: &str, moment: &Moment) {
    leave_cluster(what, moment, "").await;
}

async fn leave_cluster(what: &str, moment: &Moment, cluster: &str) {
    let (edge, sim) = site(cluster).await;
    let fields: String = moment.fields().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = post(Dialect::Chat.path(), &fields, moment.body());
    let mut times = Vec::new();
    for number in 1..=RUNS as u64 {
        let mut client = edge.connect().await;
        client.send(&request).await;
        moment.come(&edge, &sim, number).await;
        if let Some(wanted) = moment.sees {
            client.saw(wanted).await;
        }
        drop(client);
        times.push(noticed(&sim, number).await);
    }
    settle(what, moment, &edge, times).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_stops_the_upstream() {
    leave("HTTP/1, stream, before the head", &HEAD).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_whole_reply_stops_the_upstream() {
    leave("HTTP/1, whole reply, before the head", &WHOLE).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_whole_reply_stops_the_upstream() {
    leave("HTTP/1, whole reply, half of it held", &HALF).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_large_reply_on_its_way_stops_the_upstream() {
    leave("HTTP/1, whole reply, half of it passed on", &PASSING).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_event_stops_the_upstream() {
    leave("HTTP/1, stream, before the first event", &FIRST).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_midst_of_a_stream_stops_the_upstream() {
    leave("HTTP/1, stream, in its midst", &MIDST).await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_of_an_http2_upstream() {
    for (what, moment) in [
        ("stream, before the head", &HEAD),
        ("stream, before the first event", &FIRST),
        ("stream, in its midst", &MIDST),
        ("whole reply, before the head", &WHOLE),
        ("whole reply, half of it held", &HALF),
        ("whole reply, half of it passed on", &PASSING),
    ] {
        leave_cluster(&format!("HTTP/2 upstream, {what}"), moment, "http: \"2\"").await;
    }
}

#[tokio::test]
async fn an_http2_connection_whose_last_client_has_left_is_kept_no_longer_than_another() {
    let (edge, sim) = site("http: \"2\", pool: {idle: 300ms}").await;
    let mut client = edge.connect().await;
    client.send(&post(Dialect::Chat.path(), "x-sim-fault: stall=head\r\n", HEAD.body())).await;
    HEAD.come(&edge, &sim, 1).await;
    drop(client);
    noticed(&sim, 1).await;
    // The next exchange has it, and then nobody.
    let reply = edge.connect().await.ask(&post(Dialect::Chat.path(), "", HEAD.body())).await;
    assert_eq!((reply.status, sim.stats().snapshot().connections_accepted), (200, 1), "{reply:?}");
    let mut client = edge.connect().await;
    client.send(&post(Dialect::Chat.path(), "x-sim-fault: stall=head\r\n", HEAD.body())).await;
    HEAD.come(&edge, &sim, 3).await;
    drop(client);
    sim.stats().wait_until(|stats| stats.connections_open == 0, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_while_a_connection_is_made_ends_that() {
    let hole = BlackHole::new().await;
    for http in ["1.1", "2"] {
        let settings = format!("http: \"{http}\", clocks: {{connect: 60s}}");
        let edge = Edge::start(&cluster_of(&[hole.addr], &settings)).await;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let mut client = edge.connect().await;
            client.send(&post(Dialect::Chat.path(), "", HEAD.body())).await;
            let endpoint = async || edge.total("forebay_endpoint_in_flight", &[]).await;
            soon("an attempt", async { while endpoint().await < 1.0 {} }).await;
            drop(client);
            let left = Instant::now();
            soon("its end", async { while endpoint().await > 0.0 {} }).await;
            times.push(left.elapsed());
        }
        let connecting = Moment { end: "CC", ..HEAD };
        settle(&format!("HTTP/{http} upstream, connecting"), &connecting, &edge, times).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_does_not_read_stops_the_upstream() {
    let (edge, sim) = site("").await;
    let fields = "x-sim-fault: huge_event=20000000\r\n";
    for number in 1..=2 {
        let mut client = edge.connect().await;
        client.send(&post(Dialect::Chat.path(), fields, MIDST.body())).await;
        client.saw("data: ").await;
        // It has read but the beginning: the edge waits with the rest.
        drop(client);
        assert!(noticed(&sim, number).await <= WORST);
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_disturbs_nobody_on_the_same_upstream_connection() {
    let engine = EngineConfig { decode_tps: Some(200.0), ..EngineConfig::default() };
    let sim = sim(Config { engine, ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "http: \"2\"")).await;
    let request = post(Dialect::Chat.path(), "x-sim-tokens: 100\r\n", Dialect::Chat.ask("m", true));
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = edge.connect().await;
        client.send(&request).await;
        client.saw("data: ").await;
        clients.push(client);
    }
    assert_eq!(sim.stats().snapshot().connections_accepted, 1, "they share one");
    let stay = clients.split_off(3);
    drop(clients);
    noticed(&sim, 3).await;
    for mut client in stay {
        let reply = client.reply().await;
        assert!(reply.whole && Dialect::Chat.is_complete(&events(&reply.body)), "{reply:?}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_running_stream_stops_its_tokens() {
    let engine = EngineConfig { decode_tps: Some(200.0), ..EngineConfig::default() };
    let sim = sim(Config { engine, ..Config::default() }).await;
    let edge = Edge::start(&cluster_of(&[sim.addr()], "")).await;
    let mut client = edge.connect().await;
    client.send(&post(Dialect::Chat.path(), "x-sim-tokens: 100000\r\n", Dialect::Chat.ask("m", true))).await;
    sim.stats().wait_until(|stats| stats.output_tokens >= 20, DEADLINE).await.unwrap();
    drop(client);
    let took = noticed(&sim, 1).await;
    assert!(took <= WORST, "{took:?}");
    assert_eq!(sim.stats().snapshot().cancelled.decoding, 1);
    let line = edge.access(|_| true).await;
    assert_eq!((line["end"].as_str(), line["status"].as_u64()), (Some("CD"), Some(200)), "{line}");
    edge.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_costs_the_upstream_nothing() {
    let (edge, sim) = site("").await;
    let whole = post(Dialect::Chat.path(), "", Dialect::Chat.ask("m", true));
    for _ in 0..RUNS {
        let mut client = edge.connect().await;
        client.send(&whole[..whole.len() - 20]).await;
        soon("the request's head", async { while edge.metric("forebay_in_flight").await < 1.0 {} }).await;
        drop(client);
        soon("its end", async { while edge.metric("forebay_in_flight").await > 0.0 {} }).await;
    }
    for line in edge.accesses(RUNS).await {
        assert_eq!((line["end"].as_str(), line["status"].as_u64()), (Some("CR"), Some(499)), "{line}");
    }
    assert_eq!(sim.stats().snapshot().connections_accepted, 0);
}

// === Over HTTP/2 ===

/// How a client of HTTP/2 leaves.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// It resets its stream; the connection stays for the next.
    Reset,
    /// It closes the connection.
    Close,
}

/// A connection, and the task that runs it.
type Connection = (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>);

async fn connect(edge: &Edge) -> Connection {
    let stream = TcpStream::connect(edge.addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn send(sender: &SendRequest<Bytes>, moment: &Moment) -> ResponseFuture {
    let mut sender = sender.clone().ready().await.unwrap();
    let mut request = Request::post(format!("http://edge{}", Dialect::Chat.path()));
    for (name, value) in moment.fields() {
        request = request.header(name, value);
    }
    let request = request.body(()).unwrap();
    let (response, mut upload) = sender.send_request(request, false).unwrap();
    upload.send_data(moment.body().into(), true).unwrap();
    response
}

/// The body of a reply in which `wanted` was seen.
async fn read_to(wanted: &str, response: ResponseFuture) -> RecvStream {
    let mut body = soon("a head", response).await.unwrap().into_body();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let piece = soon(wanted, body.data()).await.unwrap().unwrap();
        let _ = body.flow_control().release_capacity(piece.len());
        seen.extend_from_slice(&piece);
    }
    body
}

async fn leave_h2(what: &str, moment: &Moment, way: Way) {
    let (edge, sim) = site("").await;
    let mut times = Vec::new();
    let mut connection = connect(&edge).await;
    for number in 1..=RUNS as u64 {
        let response = send(&connection.0, moment).await;
        moment.come(&edge, &sim, number).await;
        // What is dropped before its end is reset.
        match moment.sees {
            Some(wanted) if way == Way::Reset => drop(read_to(wanted, response).await),
            None if way == Way::Reset => drop(response),
            sees => {
                let body = match sees {
                    Some(wanted) => Ok(read_to(wanted, response).await),
                    None => Err(response),
                };
                connection.1.abort();
                connection = connect(&edge).await;
                drop(body);
            }
        }
        times.push(noticed(&sim, number).await);
    }
    settle(what, moment, &edge, times).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_before_the_head_stops_the_upstream() {
    leave_h2("HTTP/2, stream, before the head", &HEAD, Way::Reset).await;
    leave_h2("HTTP/2, whole reply, before the head", &WHOLE, Way::Reset).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_before_the_first_event_stops_the_upstream() {
    leave_h2("HTTP/2, stream, before the first event", &FIRST, Way::Reset).await;
    leave_h2("HTTP/2, whole reply, half of it held", &HALF, Way::Reset).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_in_its_midst_stops_the_upstream() {
    leave_h2("HTTP/2, whole reply, half of it passed on", &PASSING, Way::Reset).await;
    leave_h2("HTTP/2, stream, in its midst", &MIDST, Way::Reset).await;
}

#[tokio::test]
async fn an_http2_client_that_closes_its_connection_stops_the_upstream() {
    leave_h2("HTTP/2, closed before the head", &HEAD, Way::Close).await;
    leave_h2("HTTP/2, closed in midst of a stream", &MIDST, Way::Close).await;
}
