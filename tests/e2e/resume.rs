//! A stream whose node dies in the midst of it is gone on with by another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay::sim::{Config, EngineConfig, FaultRule, Sim};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::dialects::{Dialect, Event, events};
use crate::support::scripted::{Scripted, Turn, json as answer_of};
use crate::support::{Client, DEADLINE, Edge, Reply, cluster_of, post, sim};

/// A simulator that fails every call in that way; the first of them alone where `first` says so.
async fn failing(fault: &str, first: Option<u64>) -> Sim {
    let rule = FaultRule { fault: fault.into(), first, ..FaultRule::default() };
    sim(Config { faults: vec![rule], ..Config::default() }).await
}

/// The first endpoint goes first, and stays in use however often it fails.
const CONTINUED: &str = "balance: priority, breaker: {failures: 0, failure_rate: 0}, continuation: true";

/// What a test asks, in which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Own(Dialect),
    Gemini,
}

const EVERY: [Asked; 4] =
    [Asked::Own(Dialect::Chat), Asked::Own(Dialect::Messages), Asked::Own(Dialect::Responses), Asked::Gemini];

impl Asked {
    fn request(self, model: &str, fields: &str) -> Vec<u8> {
        // What the client is told is the same if the exchange has the same name.
        let fields = format!("x-request-id: same\r\n{fields}");
        match self {
            Self::Own(Dialect::Chat) => {
                let mut body: Value = serde_json::from_str(&Dialect::Chat.ask(model, true)).unwrap();
                body["stream_options"] = json!({"include_usage": true});
                post(Dialect::Chat.path(), &fields, body.to_string())
            }
            Self::Own(dialect) => post(dialect.path(), &fields, dialect.ask(model, true)),
            Self::Gemini => {
                let path = format!("/v1beta/models/{model}:streamGenerateContent?alt=sse");
                let body = json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]});
                post(&path, &fields, body.to_string())
            }
        }
    }

    /// The text of a stream.
    fn text(self, events: &[Event]) -> String {
        let piece = |(name, data): &Event| match self {
            Self::Own(Dialect::Chat) => data["choices"][0]["delta"]["content"].as_str().map(str::to_owned),
            Self::Own(Dialect::Messages) => data["delta"]["text"].as_str().map(str::to_owned),
            Self::Own(Dialect::Responses) if name == "response.output_text.delta" => {
                data["delta"].as_str().map(str::to_owned)
            }
            Self::Own(Dialect::Responses) => None,
            Self::Gemini => data["candidates"][0]["content"]["parts"][0]["text"].as_str().map(str::to_owned),
        };
        events.iter().filter_map(piece).collect()
    }
}

/// The events of a reply without what is of the clock.
fn lasting(reply: &Reply) -> Vec<Event> {
    let mut events = events(&reply.body);
    for (_, data) in &mut events {
        forget(data);
    }
    events
}

fn forget(data: &mut Value) {
    match data {
        Value::Object(members) => {
            members.retain(|name, _| !matches!(name.as_str(), "created" | "created_at" | "completed_at"));
            members.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

async fn ask(edge: &Edge, asked: Asked, model: &str, fields: &str) -> Reply {
    edge.connect().await.ask(&asked.request(model, fields)).await
}

fn requests(sim: &Sim) -> u64 {
    sim.stats().snapshot().requests
}

fn continuations(cluster: &str, outcome: &str) -> String {
    format!("forebay_continuations_total{{cluster=\"{cluster}\",outcome=\"{outcome}\"}}")
}

/// A cluster of these addresses, the first before the others.
fn cluster(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    let endpoint = |(number, address): (usize, &SocketAddr)| {
        format!("{{url: \"http://{address}\", priority: {number}}}")
    };
    let endpoints: Vec<String> = addresses.iter().enumerate().map(endpoint).collect();
    let endpoints = endpoints.join(", ");
    format!("  {name}: {{provider: simulator, endpoints: [{endpoints}], health: {{check: none}}, {more}}}\n")
}

#[tokio::test]
async fn a_broken_stream_is_gone_on_with_without_a_character_lost_or_repeated() {
    const TOKENS: &str = "x-sim-tokens: 20\r\n";
    let good = sim(Config::default()).await;
    let (mut bad, mut clusters, mut models) = (Vec::new(), String::new(), String::new());
    let mut cases = Vec::new();
    for http in ["1.1", "2"] {
        let settings = format!("{CONTINUED}, http: \"{http}\", clocks: {{gap: 500ms}}");
        for fault in ["cut", "reset", "stall"] {
            // A role, tokens, and all tokens but no end.
            for events in [2, 3, 9, 21] {
                let name = format!("{fault}-{events}-h{}", http.replace('.', ""));
                let sim = failing(&format!("{fault}={events}"), None).await;
                clusters += &cluster(&name, &[sim.addr(), good.addr()], &settings);
                models += &format!("  {name}: {{deployments: [{{cluster: {name}, model: m}}]}}\n");
                cases.push(name);
                bad.push(sim);
            }
        }
    }
    clusters += &cluster("sound", &[good.addr()], CONTINUED);
    models += "  sound: {deployments: [{cluster: sound, model: m}]}\n";
    // The model's name stands in a reply.
    let edge = Edge::start(&format!("clusters:\n{clusters}models:\n{models}")).await;
    for (round, asked) in EVERY.into_iter().enumerate() {
        let sound = ask(&edge, asked, "sound", TOKENS).await;
        let expected = lasting(&sound);
        let text = asked.text(&expected);
        assert_eq!(text.split(' ').count(), 20, "{sound:?}");
        let operation = |line: &Value| line["operation"].as_str().unwrap_or_default().to_owned();
        let line = edge.accesses(1 + (cases.len() + 1) * round).await.pop().unwrap();
        assert_eq!(line["alias"], "sound", "{line}");
        for name in &cases {
            let reply = ask(&edge, asked, name, TOKENS).await;
            let told = lasting(&reply);
            assert!(reply.status == 200 && reply.whole, "{asked:?} {name}: {reply:?}");
            assert_eq!(asked.text(&told), text, "{asked:?} {name}");
            let renamed = serde_json::to_string(&told).unwrap().replace(name, "sound");
            assert_eq!(renamed, serde_json::to_string(&expected).unwrap(), "{asked:?} {name}");
            let own = edge.access(|own| own["alias"] == **name && operation(own) == operation(&line)).await;
            assert_eq!((&own["attempts"], &own["end"]), (&json!(2), &json!("--")), "{own}");
            assert!(own["passed"].as_str().unwrap().contains("continued at"), "{own}");
            for key in ["input_tokens", "output_tokens", "events"] {
                assert_eq!(own[key], line[key], "{asked:?} {name} {key}");
            }
        }
    }
    for name in &cases {
        assert_eq!(edge.metric(&continuations(name, "continued")).await, 4.0, "{name}");
    }
    edge.idle().await;
    for sim in &bad {
        sim.stats().wait_until(|stats| stats.active == 0, Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test]
async fn the_bound_on_output_holds_for_all_parts_together() {
    let (bad, good) = (failing("cut=5", Some(1)).await, sim(Config::default()).await);
    let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], CONTINUED)).await;
    let chat = Asked::Own(Dialect::Chat);
    let body = json!({"model": "m", "max_tokens": 10, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Say something."}]});
    let request = post(Dialect::Chat.path(), "x-request-id: same\r\nx-sim-tokens: 20\r\n", body.to_string());
    let replies = [edge.connect().await.ask(&request).await, edge.connect().await.ask(&request).await];
    let [broken, sound] = replies.each_ref().map(lasting);
    assert_eq!(requests(&bad), 2);
    assert_eq!(broken, sound);
    assert_eq!(chat.text(&broken).split(' ').count(), 10);
    let usage = &broken.iter().find(|(_, data)| data["usage"].is_object()).unwrap().1["usage"];
    assert_eq!(usage["completion_tokens"], 10, "{usage}");
    assert!(broken.iter().any(|(_, data)| data["choices"][0]["finish_reason"] == "length"));
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_exactly_ends_with_an_error() {
    let said = json!([{"role": "user", "content": "Say something."}]);
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "messages": said, "stream": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    for (fields, more, refused) in [
        // Known once it is said.
        ("", json!({"tools": tool}), true),
        ("x-sim-reasoning: so then this\r\n", json!({}), true),
        // Known beforehand: such a stream is the upstream's own.
        ("", json!({"n": 2}), false),
        ("", json!({"logprobs": true}), false),
        ("", json!({"response_format": {"type": "json_object"}}), false),
        ("", json!({"presence_penalty": 1}), false),
        ("", json!({"guided_regex": ".*"}), false),
        (
            "",
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
            false,
        ),
    ] {
        let (bad, good) = (failing("reset=4", None).await, sim(Config::default()).await);
        let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], CONTINUED)).await;
        let reply = edge.connect().await.ask(&post(Dialect::Chat.path(), fields, ask(more.clone()))).await;
        let told = events(&reply.body);
        assert!(reply.status == 200 && reply.whole, "{more}: {reply:?}");
        assert!(
            Dialect::Chat.error_in(&told).is_some() && !Dialect::Chat.is_complete(&told),
            "{more}: {reply:?}"
        );
        assert_eq!((requests(&bad), requests(&good)), (1, 0), "{more}");
        if refused {
            assert_eq!(edge.metric(&continuations("sim", "refused")).await, 1.0);
        }
        let line = edge.access(|_| true).await;
        assert_eq!((&line["attempts"], &line["end"]), (&json!(1), &json!("UD")), "{line}");
        edge.idle().await;
    }
}

#[tokio::test]
async fn a_cluster_that_was_not_told_to_does_not_go_on() {
    let (bad, good) = (failing("cut=4", None).await, sim(Config::default()).await);
    let settings = CONTINUED.replace("true", "false");
    let edge = Edge::start(&cluster_of(&[bad.addr(), good.addr()], &settings)).await;
    let reply = ask(&edge, EVERY[0], "m", "").await;
    assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    assert_eq!(requests(&good), 0);
}

#[tokio::test]
async fn it_ends_within_its_attempts_and_repeats_nothing_even_then() {
    let bad = failing("cut=4", None).await;
    let retry = "retry: {attempts: 9, delay: 10ms}\n";
    let edge = Edge::start(&(cluster_of(&[bad.addr()], CONTINUED) + retry)).await;
    let reply = ask(
        &edge,
        EVERY[0],
        "m",
        "x-sim-text: one two three four five six seven eight nine ten eleven twelve thirteen\r\n",
    )
    .await;
    let told = events(&reply.body);
    // Three more, each of which gets as far as the first.
    assert_eq!(EVERY[0].text(&told), "one two three four five six seven eight nine ten eleven twelve");
    assert!(Dialect::Chat.error_in(&told).is_some(), "{reply:?}");
    assert_eq!(requests(&bad), 4);
    let few =
        Edge::start(&(cluster_of(&[bad.addr()], CONTINUED) + "retry: {attempts: 2, delay: 10ms}\n")).await;
    let reply = ask(&few, EVERY[0], "m", "x-sim-tokens: 30\r\n").await;
    assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    assert_eq!(requests(&bad), 6);
    assert_eq!(few.access(|_| true).await["attempts"], 2);
    few.idle().await;
}

#[tokio::test]
async fn another_deployment_of_the_same_model_goes_on_and_one_of_another_does_not() {
    let (bad, good) = (failing("cut=4", None).await, sim(Config::default()).await);
    let broken = sim(Config {
        faults: vec![FaultRule { fault: "status=500".into(), ..FaultRule::default() }],
        ..Config::default()
    });
    let broken = broken.await;
    let clusters = [
        cluster("a", &[bad.addr(), broken.addr()], CONTINUED),
        cluster("b", &[good.addr()], CONTINUED),
        cluster("plain", &[good.addr()], "balance: priority"),
    ]
    .concat();
    let models = "  same: {deployments: [{cluster: a, model: m}, {cluster: b, model: m, priority: 1}]}\n  \
                  other: {deployments: [{cluster: a, model: m}, {cluster: b, model: x, priority: 1}]}\n  \
                  plain: {deployments: [{cluster: a, model: m}, {cluster: plain, model: m, priority: 1}]}\n";
    let retry = "retry: {attempts: 4, delay: 5ms}\n";
    let edge = Edge::start(&format!("clusters:\n{clusters}models:\n{models}{retry}")).await;
    let text = |count: usize| (0..count).map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ");
    let fields = format!("x-sim-text: {}\r\n", text(12));
    let reply = ask(&edge, EVERY[0], "same", &fields).await;
    assert_eq!(EVERY[0].text(&events(&reply.body)), text(12), "{reply:?}");
    let line = edge.access(|_| true).await;
    assert_eq!((&line["cluster"], &line["attempts"]), (&json!("b"), &json!(3)), "{line}");
    for model in ["other", "plain"] {
        let reply = ask(&edge, EVERY[0], model, &fields).await;
        assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{model}: {reply:?}");
    }
    assert_eq!(requests(&good), 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_another_is_sought_ends_the_search() {
    let (bad, silent) = (failing("cut=4", None).await, failing("stall=head", None).await);
    let edge = Edge::start(&cluster_of(&[bad.addr(), silent.addr()], CONTINUED)).await;
    let mut client = edge.connect().await;
    client.send(&EVERY[0].request("m", "x-sim-tokens: 20\r\n")).await;
    silent.stats().wait_until(|stats| stats.requests == 1, Duration::from_secs(10)).await.unwrap();
    drop(client);
    let line = edge.access(|_| true).await;
    assert_eq!(line["attempts"], 2, "{line}");
    edge.idle().await;
}

#[tokio::test]
async fn a_client_is_kept_awake_while_another_begins() {
    let (bad, slow) = (failing("cut=4", None).await, failing("stall=head,900", None).await);
    let settings = format!("{CONTINUED}, clocks: {{heartbeat: 200ms}}");
    let edge = Edge::start(&cluster_of(&[bad.addr(), slow.addr()], &settings)).await;
    let reply = ask(&edge, EVERY[0], "m", "x-sim-tokens: 20\r\n").await;
    assert!(Dialect::Chat.is_complete(&events(&reply.body)), "{reply:?}");
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.lines().filter(|line| line.starts_with(':')).count() >= 2, "{text}");
}

// === Many streams at once ===

/// How many streams a node has that goes away.
const MANY: usize = 30;

/// Where two nodes are on which streams take a while, what as many clients get of them while `away` takes the first from
/// all of them at once, and what a client gets whom nothing disturbs.
async fn moved(away: impl AsyncFnOnce(&Edge, Sim)) -> (Edge, Vec<Reply>, Reply) {
    let engine = || EngineConfig { decode_tps: Some(20.0), ..EngineConfig::default() };
    let node = || sim(Config { engine: engine(), ..Config::default() });
    let (first, other) = (node().await, node().await);
    let edge = Edge::start(&cluster_of(&[first.addr(), other.addr()], CONTINUED)).await;
    let words: Vec<_> = (0..60).map(|number| format!("w{number}")).collect();
    let request = EVERY[0].request("m", &format!("x-sim-text: {}\r\n", words.join(" ")));
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let mut client = edge.connect().await;
        client.send(&request).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.saw("w2").await;
    }
    assert_eq!((requests(&first), requests(&other)), (MANY as u64, 0));
    away(&edge, first).await;
    let mut replies = Vec::new();
    for mut client in clients {
        replies.push(client.reply().await);
    }
    let sound = edge.connect().await.ask(&request).await;
    (edge, replies, sound)
}

#[track_caller]
fn all_alike(replies: &[Reply], sound: &Reply) {
    let text = EVERY[0].text(&events(&sound.body));
    assert_eq!(text.split(' ').count(), 60, "{sound:?}");
    for reply in replies {
        let told = events(&reply.body);
        assert!(reply.whole && Dialect::Chat.is_complete(&told), "{reply:?}");
        assert_eq!(EVERY[0].text(&told), text);
    }
}

#[tokio::test]
async fn all_streams_of_a_node_that_is_evicted_move() {
    let (edge, replies, sound) = moved(async |edge, first| {
        let body = format!("{{\"endpoint\":\"{}\",\"deadline_s\":0.1}}", first.addr());
        let mut admin = Client::try_connect(edge.admin).await.unwrap();
        let reply = admin.ask(&post("/endpoints/drain", "", body)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        first.stats().wait_until(|stats| stats.active == 0, DEADLINE).await.unwrap();
    })
    .await;
    all_alike(&replies, &sound);
    assert_eq!(edge.metric(&continuations("sim", "continued")).await, MANY as f64);
    assert_eq!(edge.metric("forebay_evicted_total{cluster=\"sim\"}").await, MANY as f64);
}

#[tokio::test]
async fn all_streams_of_a_node_that_dies_are_gone_on_with() {
    let (edge, replies, sound) = moved(async |_, first| first.shutdown().await).await;
    all_alike(&replies, &sound);
    assert_eq!(edge.metric(&continuations("sim", "continued")).await, MANY as f64);
}

// === Nodes that say exactly what they are told ===

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const DONE: &str = "data: [DONE]\n\n";

/// A chunk with that text; with the tokens so far, where they are told.
fn says(text: &str, tokens: Option<u64>) -> String {
    let mut chunk = json!({"id": "c", "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    if let Some(tokens) = tokens {
        chunk["usage"] = json!({"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens});
    }
    format!("data: {chunk}\n\n")
}

fn finishes() -> String {
    let chunk = json!({"id": "c", "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    format!("data: {chunk}\n\n")
}

/// A node that says that to whoever asks, and closes the connection.
async fn node(says: String) -> Scripted {
    Scripted::start(move |_| Turn::SayAndClose((HEAD.to_owned() + &says).into_bytes())).await
}

fn asks(more: Value) -> Vec<u8> {
    let mut body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Say something."}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(Dialect::Chat.path(), "x-request-id: same\r\n", body.to_string())
}

/// The body of a request as a node got it.
fn got(node: &Scripted) -> Value {
    let asked = node.received().pop().unwrap();
    serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn a_bound_holds_where_a_piece_is_more_than_one_token() {
    let pieces = |tokens: fn(u64) -> Option<u64>| {
        says("One two three", tokens(3)) + &says(" four five six", tokens(6))
    };
    let rest = says(" seven", Some(1)) + &finishes() + DONE;
    let bound = || asks(json!({"max_tokens": 10}));
    let (first, other) = (node(pieces(Some)).await, node(rest.clone()).await);
    let edge = Edge::start(&cluster_of(&[first.addr, other.addr], CONTINUED)).await;
    let reply = edge.connect().await.ask(&bound()).await;
    assert_eq!(EVERY[0].text(&events(&reply.body)), "One two three four five six seven", "{reply:?}");
    assert_eq!(got(&first)["stream_options"]["continuous_usage_stats"], true);
    assert_eq!(got(&other)["max_tokens"], 4);
    // Without a word of how many tokens there are, nobody knows what is left.
    let (first, other) = (node(pieces(|_| None)).await, node(rest.clone()).await);
    let edge = Edge::start(&cluster_of(&[first.addr, other.addr], CONTINUED)).await;
    let reply = edge.connect().await.ask(&bound()).await;
    assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    assert!(other.received().is_empty());
    assert_eq!(edge.metric(&continuations("sim", "refused")).await, 1.0);
    let reply = edge.connect().await.ask(&asks(json!({}))).await;
    assert!(Dialect::Chat.is_complete(&events(&reply.body)), "nothing is bounded: {reply:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_at_its_bound_is_complete() {
    for asked in EVERY {
        let first = node(says("One two", Some(2)) + &says(" three", Some(3))).await;
        let other = node(says(" never", Some(1)) + &finishes() + DONE).await;
        let edge = Edge::start(&cluster_of(&[first.addr, other.addr], CONTINUED)).await;
        let (path, body) = match asked {
            Asked::Own(Dialect::Chat) => {
                let reply = edge.connect().await.ask(&asks(json!({"max_tokens": 3}))).await;
                let told = events(&reply.body);
                assert!(reply.whole && Dialect::Chat.is_complete(&told), "{reply:?}");
                assert_eq!(EVERY[0].text(&told), "One two three");
                let has = |pointer: &str, value: Value| {
                    told.iter().any(|(_, data)| data.pointer(pointer) == Some(&value))
                };
                assert!(has("/choices/0/finish_reason", json!("length")), "{reply:?}");
                assert!(has("/usage/completion_tokens", json!(3)) && has("/usage/prompt_tokens", json!(7)));
                let line = edge.access(|_| true).await;
                assert_eq!((&line["end"], &line["output_tokens"]), (&json!("--"), &json!(3)), "{line}");
                assert_eq!(edge.metric(&continuations("sim", "complete")).await, 1.0);
                continue;
            }
            Asked::Own(Dialect::Messages) => (
                Dialect::Messages.path(),
                json!({"model": "m", "max_tokens": 3, "stream": true, "messages": [{"role": "user", "content": "Hi"}]}),
            ),
            _ => continue,
        };
        let reply = edge.connect().await.ask(&post(path, "", body.to_string())).await;
        assert!(Dialect::Messages.is_complete(&events(&reply.body)), "{reply:?}");
        assert!(String::from_utf8_lossy(&reply.body).contains("\"max_tokens\""), "{reply:?}");
        assert!(other.received().is_empty());
    }
}

#[tokio::test]
async fn what_is_said_is_complete_whatever_happens_before_its_usage() {
    let never = Arc::new(Notify::new());
    let gate = Arc::clone(&never);
    let first = Scripted::start(move |_| {
        Turn::Held(HEAD.to_owned() + &says("All", Some(1)) + &finishes(), Arc::clone(&gate), String::new())
    })
    .await;
    let other = node(says(" never", Some(1)) + &finishes() + DONE).await;
    let settings = format!("{CONTINUED}, clocks: {{gap: 300ms, heartbeat: off}}");
    let edge = Edge::start(&cluster_of(&[first.addr, other.addr], &settings)).await;
    let silent = edge.connect().await.ask(&asks(json!({}))).await;
    let settings = format!("{CONTINUED}, clocks: {{heartbeat: off}}");
    let patient = Edge::start(&cluster_of(&[first.addr, other.addr], &settings)).await;
    let mut client = patient.connect().await;
    client.send(&asks(json!({}))).await;
    client.saw("All").await;
    let body = format!("{{\"endpoint\":\"{}\",\"deadline_s\":0.1}}", first.addr);
    let mut admin = Client::try_connect(patient.admin).await.unwrap();
    let drained = admin.ask(&post("/endpoints/drain", "", body)).await;
    assert_eq!(drained.status, 200, "{drained:?}");
    for (edge, reply) in [(edge, silent), (patient, client.reply().await)] {
        let told = events(&reply.body);
        assert!(reply.whole && Dialect::Chat.is_complete(&told), "{reply:?}");
        assert!(told.iter().any(|(_, data)| data["usage"]["completion_tokens"] == 1), "{reply:?}");
        assert_eq!(edge.access(|_| true).await["end"], "--");
    }
    assert!(other.received().is_empty());
}

/// Two clusters of one node each, where the second may go on with what the first began.
fn two(first: SocketAddr, other: SocketAddr) -> String {
    let clusters = [cluster("a", &[first], CONTINUED), cluster("b", &[other], CONTINUED)].concat();
    let models = "{m: {deployments: [{cluster: a, model: m}, {cluster: b, model: m, priority: 1}]}}";
    format!("clusters:\n{clusters}models: {models}\nretry: {{attempts: 2, delay: 5ms}}\n")
}

#[tokio::test]
async fn each_deployment_is_billed_for_what_it_made() {
    let first = node(says("One two", Some(2)) + &says(" three", Some(3))).await;
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}});
    let rest =
        says(" four", None) + &says(" five", None) + &finishes() + &format!("data: {usage}\n\n") + DONE;
    let other = node(rest).await;
    let edge = Edge::start(&two(first.addr, other.addr)).await;
    let reply = edge.connect().await.ask(&asks(json!({}))).await;
    assert_eq!(EVERY[0].text(&events(&reply.body)), "One two three four five", "{reply:?}");
    let line = edge.access(|_| true).await;
    assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&json!(7), &json!(5)), "{line}");
    for (cluster, kind, tokens) in [("a", "input", 7.0), ("a", "output", 3.0), ("b", "output", 2.0)] {
        let labels = [format!("cluster=\"{cluster}\""), format!("kind=\"{kind}\"")];
        assert_eq!(
            edge.total("llm_tokens_total", &[&labels[0], &labels[1]]).await,
            tokens,
            "{cluster} {kind}"
        );
    }
    assert_eq!(edge.total("llm_tokens_total", &["cluster=\"b\"", "kind=\"input\""]).await, 0.0);
}

#[tokio::test]
async fn a_cut_is_the_places_that_broke_off() {
    let first = node(says("One two", Some(2))).await;
    let broken = Scripted::start(|_| Turn::Say(answer_of(500, "{}"))).await;
    let edge = Edge::start(&two(first.addr, broken.addr)).await;
    let reply = edge.connect().await.ask(&asks(json!({}))).await;
    assert!(Dialect::Chat.error_in(&events(&reply.body)).is_some(), "{reply:?}");
    let line = edge.access(|_| true).await;
    assert_eq!((&line["cluster"], &line["attempts"]), (&json!("a"), &json!(2)), "{line}");
    assert_eq!(edge.metric("forebay_cut_streams_total{cluster=\"a\"}").await, 1.0);
    assert_eq!(edge.total("forebay_cut_streams_total", &["cluster=\"b\""]).await, 0.0);
    assert_eq!(edge.metric(&continuations("a", "failed")).await, 1.0);
}

#[tokio::test]
async fn what_is_kept_of_streams_is_held_memory() {
    let word = "x".repeat(16 << 10);
    let first = node((0..6).map(|_| says(&word, None)).collect()).await;
    let other = node(says(" five", None) + &finishes() + DONE).await;
    for (held, outcome) in [("128KiB", "refused"), ("1MiB", "continued")] {
        let intake = format!("intake: {{max_body: 16KiB, held: {held}}}\n");
        let edge = Edge::start(&(cluster_of(&[first.addr, other.addr], CONTINUED) + &intake)).await;
        let reply = edge.connect().await.ask(&asks(json!({}))).await;
        assert_eq!(Dialect::Chat.is_complete(&events(&reply.body)), outcome == "continued", "{held}");
        assert_eq!(edge.metric(&continuations("sim", outcome)).await, 1.0, "{held}");
        let line = edge.access(|_| true).await;
        let is_told = line["passed"].as_str().unwrap().contains("no memory");
        assert_eq!(is_told, outcome == "refused", "{line}");
        edge.idle().await;
        assert_eq!(edge.metric("forebay_held_bytes").await, 0.0, "{held}");
    }
}
