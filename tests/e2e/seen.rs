//! What operators get to see: metrics, health, the log, the ids and addresses that go along; and what nobody does.

use std::collections::BTreeSet;
use std::io::Read;

use forebay::sim::{Config, Sim};
use serde_json::Value;

use crate::dialects::{Dialect, events};
use crate::support::h2client::H2Client;
use crate::support::{Edge, ONE_TRY, Reply, cluster_of, get, listener, post, sim};

async fn site(settings: &str) -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    (Edge::start(&[&cluster_of(&[sim.addr()], ""), settings, ONE_TRY].concat()).await, sim)
}

async fn ask(edge: &Edge, dialect: Dialect, stream: bool, fields: &str) -> Reply {
    edge.connect().await.ask(&post(dialect.path(), fields, dialect.ask("m", stream))).await
}

// === Metrics ===

/// What `/metrics` says: every sample with its labels, and its value.
async fn samples(edge: &Edge) -> Vec<(String, f64)> {
    let text = String::from_utf8(edge.look("/metrics").await.body).unwrap();
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?} has no value")))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// The sum of a family over all labels that hold `part`.
async fn sum(edge: &Edge, family: &str, part: &str) -> f64 {
    let is_of = |name: &str| name.split('{').next() == Some(family) && name.contains(part);
    samples(edge).await.iter().filter(|(name, _)| is_of(name)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn every_family_is_there_and_counts_what_happened() {
    let (edge, sim) = site("").await;
    for dialect in Dialect::ALL {
        assert_eq!(ask(&edge, dialect, true, "").await.status, 200);
        assert_eq!(ask(&edge, dialect, false, "").await.status, 200);
    }
    ask(&edge, Dialect::Chat, false, "x-sim-fault: reset_before_head;x\r\n").await;
    assert_eq!(ask(&edge, Dialect::Chat, false, "x-sim-fault: status=429\r\n").await.status, 429);
    let mut running = edge.connect().await;
    let fields = "x-sim-fault: stall=3\r\nx-sim-text: canary sings\r\n";
    running.send(&post(Dialect::Chat.path(), fields, Dialect::Chat.ask("m", true))).await;
    running.saw("canary").await;

    let text = String::from_utf8(edge.look("/metrics").await.body).unwrap();
    for (family, kind) in [
        ("http_requests_total", "counter"),
        ("http_request_duration_seconds", "histogram"),
        ("llm_provider_requests_total", "counter"),
        ("llm_provider_errors_total", "counter"),
        ("llm_provider_latency_seconds", "histogram"),
        ("llm_provider_health_status", "gauge"),
        ("llm_tokens_total", "counter"),
        ("llm_time_to_first_token_seconds", "histogram"),
        ("llm_inter_token_latency_seconds", "histogram"),
        ("forebay_in_flight", "gauge"),
        ("forebay_endpoint_in_flight", "gauge"),
        ("forebay_upstream_connections_total", "counter"),
        ("forebay_connections", "gauge"),
        ("forebay_streams", "gauge"),
        ("forebay_added_seconds", "histogram"),
    ] {
        assert!(text.contains(&format!("# TYPE {family} {kind}\n")), "{family} is missing in:\n{text}");
        assert!(text.contains(&format!("# HELP {family} ")), "{family} says nothing of itself");
    }
    assert_eq!(sum(&edge, "http_requests_total", "status=\"200\"").await, 6.0);
    assert_eq!(sum(&edge, "http_requests_total", "status=\"429\"").await, 1.0);
    assert_eq!(sum(&edge, "llm_provider_errors_total", "kind=\"rate\"").await, 1.0);
    assert_eq!(sum(&edge, "llm_time_to_first_token_seconds_count", "").await, 4.0);
    assert!(sum(&edge, "llm_inter_token_latency_seconds_count", "").await > 3.0);
    assert_eq!(sum(&edge, "llm_provider_health_status", "").await, 1.0);
    for gauge in ["forebay_in_flight", "forebay_endpoint_in_flight", "forebay_streams"] {
        assert_eq!(sum(&edge, gauge, "").await, 1.0, "{gauge}");
    }
    let (attempts, requests) =
        (sum(&edge, "llm_provider_requests_total", "").await, sim.stats().snapshot().requests);
    assert_eq!(attempts, requests as f64, "attempts are counted as the upstream saw them");
    let connections = sum(&edge, "forebay_upstream_connections_total", "").await;
    assert_eq!(connections, attempts);
    let new = sum(&edge, "forebay_upstream_connections_total", "kind=\"new\"").await;
    assert_eq!(new, sim.stats().snapshot().connections_accepted as f64);
    drop(running);
    edge.idle().await;
    assert_eq!(sum(&edge, "forebay_client_gone_total", "").await, 1.0);
    let bill = sim.stats().snapshot().models["m"];
    // The exchange that was left reported no usage; the others all did.
    let input = sum(&edge, "llm_tokens_total", "kind=\"input\"").await;
    assert!(input > 0.0 && input < bill.prompt_tokens as f64, "{input} of {bill:?}");
    assert!(sum(&edge, "llm_tokens_total", "kind=\"output\"").await > 0.0);
}

#[tokio::test]
async fn tokens_are_counted_as_they_are_billed() {
    let (edge, sim) = site("").await;
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            assert_eq!(ask(&edge, dialect, stream, "x-sim-tokens: 7\r\n").await.status, 200);
        }
    }
    edge.accesses(6).await;
    let bill = sim.stats().snapshot().models["m"];
    assert_eq!(sum(&edge, "llm_tokens_total", "kind=\"input\"").await, bill.prompt_tokens as f64);
    assert_eq!(sum(&edge, "llm_tokens_total", "kind=\"output\"").await, bill.output_tokens as f64);
    assert_eq!(bill.output_tokens, 42);
    assert!(
        samples(&edge)
            .await
            .iter()
            .all(|(name, value)| !name.starts_with("forebay_unknown_usage") || *value == 0.0)
    );
}

#[tokio::test]
async fn no_client_makes_new_series() {
    let (edge, _sim) = site("").await;
    let odd = async |word: &str| {
        let body = Dialect::Chat.ask(&format!("model-{word}"), false);
        let fields = format!("user-agent: {word}\r\nx-request-id: {word}\r\nopenai-organization: {word}\r\n");
        edge.connect().await.ask(&post(Dialect::Chat.path(), &fields, body)).await;
        edge.connect().await.ask(&get(&format!("/v1/{word}"), "")).await;
        edge.connect().await.ask(&get(&format!("/v1/models/{word}"), "")).await;
        edge.connect().await.ask(format!("{word} / HTTP/1.1\r\nHost: {word}\r\n\r\n").as_bytes()).await;
    };
    odd("FIRST").await;
    edge.accesses(4).await;
    let names = async || samples(&edge).await.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    let before = names().await;
    for number in 0..100 {
        odd(&format!("W{number}X")).await;
    }
    edge.accesses(404).await;
    let after = names().await;
    assert_eq!(before.symmetric_difference(&after).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(!after.iter().any(|name| name.contains("FIRST")), "{after:?}");
}

// === Health ===

#[tokio::test]
async fn health_says_what_monitors_ask_for() {
    let (edge, _sim) = site("").await;
    let reply = edge.look("/health").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let health = reply.json();
    assert_eq!(
        (&health["status"], &health["version"]),
        (&"healthy".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert!(health["uptime_seconds"].is_u64() && health["in_flight"] == 0, "{health}");
    let [provider] = health["providers"].as_array().unwrap().as_slice() else {
        panic!("one provider: {health}")
    };
    assert_eq!((&provider["name"], &provider["healthy"]), (&"sim".into(), &true.into()), "{health}");
    assert!(provider["latency_ms"].is_number(), "{health}");
    assert!(health["dependencies"]["disk"]["free_bytes"].as_u64().unwrap() > 0, "{health}");
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(edge.look(path).await.status, 200, "{path}");
    }
    assert_eq!(edge.look("/nothing").await.status, 404);
}

// === Secrets ===

#[tokio::test]
async fn no_secret_is_shown_where_much_is_logged() {
    keep_secrets("debug").await;
}

#[tokio::test]
async fn no_secret_is_shown_however_much_is_logged() {
    keep_secrets("trace").await;
}

async fn keep_secrets(level: &str) {
    let sim = sim(Config { api_key: Some("canary-upstream".into()), ..Config::default() }).await;
    let cluster = "api_key: \"env:UPSTREAM_KEY\", headers: {x-extra: \"env:EXTRA\"}";
    let config = format!(
        "{}keys: {{alice: {{key: \"env:ALICE_KEY\"}}}}\nroutes: [{{name: llm}}, {{name: raw, path: /raw, raw: true, cluster: sim}}]\n",
        cluster_of(&[sim.addr()], cluster)
    );
    let env = [
        ("UPSTREAM_KEY", "canary-upstream"),
        ("EXTRA", "canary-extra"),
        ("ALICE_KEY", "canary-alice"),
        ("RUST_LOG", level),
    ];
    let edge = Edge::start_with(&[listener("h2c: true"), config].concat(), &env).await;
    let good = "Authorization: Bearer canary-alice\r\nCookie: session=canary-cookie\r\n";
    for dialect in Dialect::ALL {
        assert_eq!(ask(&edge, dialect, true, good).await.status, 200);
        assert_eq!(ask(&edge, dialect, false, "x-api-key: canary-alice\r\n").await.status, 200);
        assert_eq!(ask(&edge, dialect, false, "x-api-key: canary-stranger\r\n").await.status, 401);
    }
    assert_eq!(edge.connect().await.ask(&get("/raw/v1/models", good)).await.status, 200);
    let asked = sim.requests();
    assert!(asked.iter().all(|request| request.header("x-extra") == Some("canary-extra")));
    let request = http::Request::get("http://edge/v1/models").header("authorization", "Bearer canary-alice");
    let h2 = H2Client::connect(edge.addr).await;
    assert_eq!(h2.ask(request.body(bytes::Bytes::new()).unwrap()).await.status, 200);
    edge.idle().await;
    for path in ["/snapshot", "/metrics", "/health"] {
        let said = String::from_utf8(edge.look(path).await.body).unwrap();
        assert!(!said.contains("canary"), "{path}: {said}");
    }
    edge.access(|line| line["path"] == "/v1/models").await;
    let said = edge.said();
    assert!(said.lines().count() > 50, "everything is logged");
    let leaks: Vec<&str> = said.lines().filter(|line| line.contains("canary")).collect();
    assert!(leaks.is_empty(), "{} lines:\n{}", leaks.len(), leaks.join("\n"));
}

// === The log ===

const COMMON: [&str; 24] = [
    "ts",
    "log",
    "id",
    "client",
    "method",
    "path",
    "route",
    "operation",
    "principal",
    "alias",
    "model",
    "cluster",
    "endpoint",
    "status",
    "end",
    "attempts",
    "stream",
    "bytes_in",
    "bytes_out",
    "t_request",
    "t_connect",
    "t_sent",
    "t_head",
    "t_total",
];

#[tokio::test]
async fn a_line_of_the_log_tells_the_whole_exchange() {
    let (edge, sim) = site("").await;
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            let fields = "x-request-id: mine-1\r\nx-sim-tokens: 5\r\n";
            let path = format!("{}?key=canary", dialect.path());
            let body = dialect.ask("m", stream);
            let reply = edge.connect().await.ask(&post(&path, fields, &body)).await;
            assert_eq!(reply.status, 200);
            let line =
                edge.access(|line| line["path"] == dialect.path() && (line["stream"] == 1) == stream).await;
            let missing: Vec<_> = COMMON.iter().filter(|name| line[**name].is_null()).collect();
            assert!(missing.is_empty(), "{missing:?} are missing in {line}");
            assert!(!line.to_string().contains("canary"), "a query may hold a key: {line}");
            assert_eq!((line["id"].as_str(), line["client"].as_str()), (Some("mine-1"), Some("127.0.0.1")));
            assert_eq!((line["alias"].as_str(), line["model"].as_str()), (Some("*"), Some("m")));
            assert_eq!(line["bytes_in"].as_u64(), Some(body.len() as u64), "{line}");
            assert_eq!(line["bytes_out"].as_u64(), Some(reply.body.len() as u64), "{line}");
            assert_eq!(line["output_tokens"].as_u64(), Some(5), "{line}");
            assert!(line["input_tokens"].as_u64().unwrap() > 0 && !line["upstream_id"].is_null(), "{line}");
            let times: Vec<f64> =
                ["t_request", "t_connect", "t_sent", "t_head", "t_first", "t_last", "t_total"]
                    .iter()
                    .map(|name| line[*name].as_f64().unwrap())
                    .collect();
            assert!(times.is_sorted(), "{line}");
            assert!(line["t_own"].as_f64().unwrap() <= line["t_total"].as_f64().unwrap(), "{line}");
            if stream {
                assert!(line["events"].as_u64().unwrap() >= 5, "{line}");
            }
        }
    }
    assert_eq!(sim.stats().snapshot().requests, 6);
}

#[tokio::test]
async fn the_log_can_be_text_or_silent() {
    let (edge, _sim) = site("log: {format: text}\n").await;
    ask(&edge, Dialect::Chat, false, "x-request-id: mine-1\r\n").await;
    let said = async {
        while !edge.said().contains("id=mine-1 ") {
            tokio::task::yield_now().await;
        }
    };
    crate::support::soon("a line in text", said).await;
    let text = edge.said();
    let line = text.lines().find(|line| line.contains("id=mine-1")).unwrap();
    assert!(line.contains(" status=200 end=-- attempts=1 "), "{line}");
    let (edge, _sim) = site("log: {access: false}\n").await;
    ask(&edge, Dialect::Chat, false, "").await;
    edge.signal("TERM");
    let mut edge = edge;
    edge.ended().await;
    assert!(!edge.said().contains("\"access\""), "{}", edge.said());
}

// === Compression ===

fn decoded(reply: &Reply) -> Vec<u8> {
    let body = reply.body.as_slice();
    let mut out = Vec::new();
    match reply.header("content-encoding") {
        None => out.extend_from_slice(body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Some("br") => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::decode_all(body).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    out
}

#[tokio::test]
async fn large_replies_are_compressed_for_those_who_accept_it() {
    let (edge, _sim) = site("routes: [{name: llm}, {name: plain, path: /plain, compress: false}]\n").await;
    let words = "words that come again and again ".repeat(100);
    let ask = async |path: &str, accept: &str, stream: bool, text: &str| {
        let fields = format!("{accept}x-sim-text: {text}\r\n");
        edge.connect().await.ask(&post(path, &fields, Dialect::Chat.ask("m", stream))).await
    };
    let path = Dialect::Chat.path();
    let plain = ask(path, "", false, &words).await;
    assert!(plain.header("content-encoding").is_none() && plain.body.len() > 1024);
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip;q=1, zstd;q=0.5", Some("gzip")),
        ("zstd;q=0, br;q=0, gzip;q=0.1", Some("gzip")),
        ("identity", None),
        ("*;q=0", None),
        ("deflate", None),
    ] {
        let reply = ask(path, &format!("Accept-Encoding: {accept}\r\n"), false, &words).await;
        assert_eq!(reply.header("content-encoding"), coding, "{accept}: {reply:?}");
        assert_eq!(decoded(&reply).len(), plain.body.len(), "{accept}");
        let text: Value = serde_json::from_slice(&decoded(&reply)).unwrap();
        assert_eq!(text["choices"][0]["message"]["content"], words.trim(), "{accept}");
        if coding.is_some() {
            assert!(reply.body.len() < plain.body.len() / 2, "{accept}: {} bytes", reply.body.len());
            assert_eq!(reply.header("vary").map(str::to_ascii_lowercase).as_deref(), Some("accept-encoding"));
        }
    }
    const ANY: &str = "Accept-Encoding: gzip, br, zstd\r\n";
    for (path, stream, text) in [
        ("/plain/v1/chat/completions", false, words.as_str()),
        (path, true, words.as_str()),
        (path, false, "short"),
    ] {
        let reply = ask(path, ANY, stream, text).await;
        assert!(
            reply.status == 200 && reply.header("content-encoding").is_none(),
            "{path} {stream}: {reply:?}"
        );
    }
}

// === Ids and addresses ===

#[tokio::test]
async fn a_request_id_is_kept_or_made_and_told_everywhere() {
    let (edge, sim) = site("").await;
    let long = "x".repeat(129);
    for (sent, kept) in [
        (Some("mine-1"), true),
        (Some("a/b:c@d.e_f"), true),
        (None, false),
        (Some("a b"), false),
        (Some(long.as_str()), false),
    ] {
        sim.stats().reset();
        let fields = sent.map(|id| format!("x-request-id: {id}\r\n")).unwrap_or_default();
        for status in [200, 429] {
            let fault = if status == 200 { "" } else { "x-sim-fault: status=429\r\n" };
            let reply = ask(&edge, Dialect::Chat, false, &[&fields, fault].concat()).await;
            let id = reply.header("x-request-id").unwrap().to_owned();
            assert_eq!((reply.status, Some(id.as_str()) == sent), (status, kept), "{id}");
            assert!(kept || id.starts_with("req_"), "{id}");
            assert_eq!(sim.requests().last().unwrap().header("x-request-id"), Some(id.as_str()));
            assert_eq!(
                edge.access(|line| line["id"] == id.as_str() && line["status"] == status).await["id"],
                id.as_str()
            );
        }
    }
    let refused = edge.connect().await.ask(&post("/v1/messages", "x-request-id: mine-2\r\n", "{")).await;
    assert_eq!(
        (refused.header("x-request-id"), &refused.json()["request_id"]),
        (Some("mine-2"), &"mine-2".into())
    );
}

#[tokio::test]
async fn only_a_trusted_proxy_says_who_the_client_is() {
    for (trusted, client, chain) in [
        ("", "127.0.0.1", "127.0.0.1"),
        ("trusted_proxies: [10.0.0.0/8]", "127.0.0.1", "127.0.0.1"),
        ("trusted_proxies: [127.0.0.0/8]", "6.6.6.6", "6.6.6.6, 127.0.0.1"),
        ("trusted_proxies: [127.0.0.0/8, 6.6.6.0/24]", "5.5.5.5", "5.5.5.5, 6.6.6.6, 127.0.0.1"),
    ] {
        let sim = sim(Config::default()).await;
        let routes = "routes: [{name: llm}, {name: raw, path: /raw, raw: true, cluster: sim}]\n";
        let edge = Edge::start(&[&listener(trusted), &cluster_of(&[sim.addr()], ""), routes].concat()).await;
        let fields = "X-Forwarded-For: 4.4.4.4, nonsense, 5.5.5.5, 6.6.6.6\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.1.1.1\r\n";
        for path in [Dialect::Chat.path(), "/raw/v1/chat/completions"] {
            let body = Dialect::Chat.ask("m", false);
            assert_eq!(edge.connect().await.ask(&post(path, fields, body)).await.status, 200);
            let request = sim.requests().last().unwrap().clone();
            assert_eq!(request.header("x-forwarded-for"), Some(chain), "{trusted} {path}");
            assert!(request.header("forwarded").is_none());
            assert_eq!(edge.access(|line| line["path"] == path).await["client"], client, "{trusted} {path}");
        }
    }
}

// === Usage ===

#[tokio::test]
async fn usage_is_always_asked_for_and_shown_to_those_who_asked() {
    let (edge, sim) = site("").await;
    for (options, shown) in [
        ("", false),
        (r#","stream_options":{"include_usage":false}"#, false),
        (r#","stream_options":{"include_usage":true}"#, true),
    ] {
        sim.stats().reset();
        let id = format!("asked-{shown}-{}", options.len());
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":true{options}}}"#);
        let fields = format!("x-request-id: {id}\r\nx-sim-tokens: 6\r\n");
        let reply = edge.connect().await.ask(&post(Dialect::Chat.path(), &fields, body)).await;
        let events = events(&reply.body);
        assert!(Dialect::Chat.is_complete(&events) && events.last().unwrap().1 == "[DONE]", "{reply:?}");
        let with_usage = events.iter().filter(|(_, data)| data["usage"].is_object()).count();
        let bare =
            events.iter().filter(|(_, data)| data["choices"].as_array().is_some_and(Vec::is_empty)).count();
        assert_eq!((with_usage, bare), (usize::from(shown), usize::from(shown)), "{options}: {reply:?}");
        let upstream: Value = serde_json::from_slice(&sim.requests()[0].body).unwrap();
        assert_eq!(upstream["stream_options"]["include_usage"], true, "{upstream}");
        let line = edge.access(|line| line["id"] == id.as_str()).await;
        assert_eq!(line["output_tokens"], 6, "{line}");
        assert!(line["input_tokens"].as_u64().unwrap() > 0, "{line}");
    }
}
