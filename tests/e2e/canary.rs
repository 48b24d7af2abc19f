//! Secrets that nobody must ever see: each is a string that stands nowhere else, and after a run of everything that goes
//! well and wrong, at the level at which the most is said, every byte that came out is searched for each of them, as it is
//! and as it could be written: base64, URL-encoded, in hexadecimal digits, turned around.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::dialects::Dialect;
use crate::support::scripted::{Scripted, Turn, answer, json as reply};
use crate::support::{Client, Edge, get, post};

const SECRETS: [(&str, &str); 8] = [
    ("PROVIDER", "canary+provider/5f1c9a7e02"),
    ("PROVIDER_HEADER", "canary-header-0b77d1e3f4"),
    ("VIRTUAL", "canary-virtual-77aa01c2d9"),
    ("ADMIN", "canary-admin-c0ffee5bad11"),
    ("SEAL", "canary-seal-19e8d7c6b5a4"),
    ("AUDIT", "canary-audit-a1b2c3d4e5f6"),
    ("SINK", "canary-sink-0f9e8d7c6b5a"),
    ("WRONG", "canary-wrong-guess-31415926"),
];

fn secret(name: &str) -> &'static str {
    SECRETS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// Every way in which a secret could be written.
fn written(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let mut hex = String::new();
    let mut url = String::new();
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    let mut all = vec![secret.to_owned(), hex.to_uppercase(), hex, url, secret.chars().rev().collect()];
    // Base64 of something in which it stands: what of it does not depend on what is around.
    for before in 0..3 {
        let padded = ["x".repeat(before).as_bytes(), bytes].concat();
        for encoded in [STANDARD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let inner = encoded.trim_end_matches('=');
            all.push(inner.chars().skip(4).take(inner.len() - 8).collect());
        }
    }
    all
}

/// What came out somewhere.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// All of a reply.
    async fn ask(&mut self, what: &str, client: &mut Client, request: &[u8]) -> u16 {
        client.send(request).await;
        let Some(reply) = client.reply_or_end().await else { return 0 };
        let head: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        self.add(format!("the head of {what}"), head);
        self.add(format!("the body of {what}"), reply.body.clone());
        reply.status
    }

    fn files(&mut self, folder: &Path, but: &[&str]) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(&path, but);
            } else if !but.iter().any(|name| path.ends_with(name)) {
                self.add(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }

    fn hold_nothing_of(&self, secrets: &[(String, String)]) {
        assert!(self.0.iter().any(|(_, bytes)| bytes.len() > 1000), "something came out");
        for (name, secret) in secrets {
            for form in written(secret) {
                for (place, bytes) in &self.0 {
                    let found = bytes.windows(form.len()).position(|part| part == form.as_bytes());
                    if let Some(at) = found {
                        let around = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
                        panic!("{name} is told as {form} in {place}: {}", String::from_utf8_lossy(around));
                    }
                }
            }
        }
    }
}

/// An upstream that does everything wrong, and repeats what it was sent wherever it can.
async fn echo() -> Scripted {
    Scripted::start(|asked| {
        let line = |name: &str| {
            let head = asked.text.split("\r\n\r\n").next().unwrap();
            let found = head.lines().find_map(|line| {
                let (known, value) = line.split_once(':')?;
                known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            });
            found.unwrap_or_default()
        };
        let echoed = format!("{} {}", line("authorization"), line("x-provider-token"));
        let kind = ["m-good", "m-400", "m-401", "m-403", "m-429", "m-500", "m-html", "m-cut", "m-stream", "m-garbage", "m-redirect"]
            .into_iter()
            .find(|kind| asked.text.contains(&format!("\"{kind}\"")))
            .unwrap_or("m-good");
        let error = json!({"error": {"message": format!("Incorrect API key provided: {echoed}."), "type": "invalid_request_error", "code": "invalid_api_key", "param": echoed}}).to_string();
        let with_header = |status: u16, media: &str, body: &str| {
            format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {media}\r\nx-echo: {echoed}\r\nwww-authenticate: Bearer realm=\"{echoed}\"\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        match kind {
            "m-400" => Turn::Say(with_header(400, "application/json", &error)),
            "m-401" => Turn::Say(with_header(401, "application/json", &error)),
            "m-403" => Turn::Say(with_header(403, "application/json", &error)),
            "m-429" => Turn::Say(with_header(429, "application/json", &error)),
            "m-500" => Turn::Say(with_header(500, "application/json", &error)),
            "m-html" => Turn::Say(with_header(502, "text/html", &format!("<html>{echoed}</html>"))),
            "m-cut" => Turn::SayAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
            "m-garbage" => Turn::SayAndClose(format!("{echoed}\r\n\r\n").into_bytes()),
            "m-redirect" => Turn::Say(reply(302, "{}")),
            "m-stream" => Turn::Say(with_header(401, "text/event-stream", &format!("data: {error}\n\n"))),
            _ => Turn::Say(answer("all is well")),
        }
    })
    .await
}

#[tokio::test]
async fn no_secret_comes_out_anywhere() {
    let (upstream, sink) = (echo().await, Scripted::start(|_| Turn::Say(reply(500, "{}"))).await);
    let folder = std::env::temp_dir().join(format!("forebay-canary-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), &key).unwrap();
    let tls = |name: &str| folder.join(name).display().to_string();
    let (cert_file, key_file) = (tls("cert.pem"), tls("key.pem"));
    let spare = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let config = format!(
        "listeners:\n  - address: \"127.0.0.1:${{SERVER_PORT}}\"\n\
         \x20 - {{address: \"127.0.0.1:${{TLS_PORT}}\", tls: {{certificates: [{{cert: \"${{CERT}}\", key: \"${{KEY}}\"}}]}}}}\n\
         log: {{level: trace}}\n\
         server: {{seal: env:SEAL, lame_duck: 0s}}\n\
         admin: {{address: \"127.0.0.1:${{METRICS_PORT}}\", token: env:ADMIN}}\n\
         keys: {{alice: {{key: env:VIRTUAL, explain: true}}}}\n\
         clusters:\n\
         \x20 c: {{provider: vllm, endpoints: [\"http://{0}\"], speaks: [chat_completions], api_key: env:PROVIDER, headers: {{x-provider-token: env:PROVIDER_HEADER}}, health: {{check: none}}}}\n\
         \x20 d: {{provider: vllm, endpoints: [\"http://{0}\"], speaks: [chat_completions], api_key: env:PROVIDER, health: {{check: none}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: c}}, {{cluster: d, priority: 1}}]}}}}\n\
         retry: {{attempts: 2, delay: 1ms}}\n\
         audit: {{file: audit.jsonl, sync: 0s, key: env:AUDIT, key_use: all, http: {{url: \"http://{1}/\", token: env:SINK, linger: 1ms}}}}\n\
         routes:\n  - {{name: all, path: /}}\n  - {{name: held, path: /held, policy: {{max_tools: 0, audit_prompts: true, redact: {{reply: [email]}}}}}}\n",
        upstream.addr, sink.addr
    );
    let mut env: Vec<(&str, &str)> = SECRETS.to_vec();
    env.extend([("RUST_LOG", "trace"), ("CERT", &cert_file), ("KEY", &key_file), ("TLS_PORT", &spare)]);
    let mut edge = Edge::start_with(&config, &env).await;
    let mut seen = Seen::default();

    let shown = |header: &str, secret: &str| match header {
        "authorization" => format!("authorization: Bearer {secret}\r\nx-forebay-explain: 1\r\n"),
        header => format!("{header}: {secret}\r\nx-forebay-explain: 1\r\n"),
    };
    let kinds = [
        "m-good",
        "m-400",
        "m-401",
        "m-403",
        "m-429",
        "m-500",
        "m-html",
        "m-cut",
        "m-stream",
        "m-garbage",
        "m-redirect",
    ];
    for dialect in Dialect::ALL {
        for kind in kinds {
            for (stream, base) in [(false, ""), (true, ""), (false, "/held")] {
                let asked = post(
                    &format!("{base}{}", dialect.path()),
                    &shown("x-api-key", secret("VIRTUAL")),
                    dialect.ask(kind, stream),
                );
                let what = format!("{dialect:?} {kind} {stream} {base}");
                let status = seen.ask(&what, &mut edge.connect().await, &asked).await;
                assert!(kind != "m-good" || status == 200 || stream, "{what}: {status}");
            }
        }
    }
    // Credentials in every header, right and wrong, twice, and where none belongs.
    for header in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
        for name in ["VIRTUAL", "WRONG"] {
            let body = Dialect::Chat.ask("m-good", false);
            let asked = post("/v1/chat/completions", &shown(header, secret(name)), body);
            seen.ask(&format!("{header} {name}"), &mut edge.connect().await, &asked).await;
        }
    }
    let virtual_key = secret("VIRTUAL");
    for request in [
        get(&format!("/v1/models?key={virtual_key}"), ""),
        get("/v1/models", &shown("authorization", virtual_key)),
        post("/v1/chat/completions", &shown("authorization", virtual_key), "{"),
        post("/v1/nothing", &shown("authorization", virtual_key), "{}"),
        post("/held/v1/chat/completions", &shown("authorization", virtual_key), r#"{"model":"m","messages":[],"tools":[{}]}"#),
        format!("GET / HTTP/1.1\r\nHost: x\r\nauthorization: Bearer {virtual_key}\r\nauthorization: Bearer {virtual_key}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: x\r\nauthorization : Bearer {virtual_key}\r\n\r\n").into_bytes(),
        format!("NONSENSE {virtual_key}\r\n\r\n").into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().replace(virtual_key, "KEY");
        seen.ask(&shown, &mut edge.connect().await, &request).await;
    }
    // Operators.
    for (fields, who) in [
        (shown("authorization", secret("ADMIN")), "the token"),
        (shown("authorization", secret("WRONG")), "a wrong token"),
        (String::new(), "none"),
    ] {
        for path in ["/health", "/health/ready", "/metrics", "/snapshot", "/endpoints", "/nowhere"] {
            let mut admin = Client::try_connect(edge.admin).await.unwrap();
            seen.ask(&format!("{path} with {who}"), &mut admin, &get(path, &fields)).await;
        }
        let mut admin = Client::try_connect(edge.admin).await.unwrap();
        let drain = post("/endpoints/drain", &fields, r#"{"endpoint":"http://10.9.9.9:1"}"#);
        seen.ask(&format!("a drain with {who}"), &mut admin, &drain).await;
    }
    // TLS that fails, so that its errors are told.
    let mut tls = Client::try_connect(([127, 0, 0, 1], spare.parse().unwrap()).into()).await.unwrap();
    let _ = tls.try_send(b"this is no handshake, at all\r\n\r\n").await;
    seen.add("the TLS port", tls.rest().await);

    edge.signal("TERM");
    assert!(edge.ended().await.success());
    let said = edge.said();
    assert!(said.contains("\"TRACE\"") || said.contains("\"DEBUG\""), "the most is said");
    seen.add("the log", said);
    for received in sink.received() {
        // The sink's own token is for the sink.
        let body = received.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        seen.add("what the sink was sent", body);
    }
    seen.files(edge.directory(), &[]);
    // What the commands say of the same configuration.
    let file = edge.directory().join("forebay.yaml");
    let request = edge.directory().join("request.json");
    std::fs::write(&request, Dialect::Chat.ask("m-good", false)).unwrap();
    let commands: [Vec<&std::ffi::OsStr>; 2] = [
        vec!["check".as_ref(), file.as_os_str()],
        vec![
            "explain".as_ref(),
            file.as_os_str(),
            "--request".as_ref(),
            request.as_os_str(),
            "--as".as_ref(),
            "alice".as_ref(),
        ],
    ];
    for arguments in commands {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(&arguments)
            .envs(env.iter().copied())
            .env("SERVER_PORT", "1")
            .env("METRICS_PORT", "2")
            .output()
            .unwrap();
        seen.add(format!("{arguments:?}"), [done.stdout, done.stderr].concat());
    }
    let mut secrets: Vec<(String, String)> =
        SECRETS.iter().map(|(name, secret)| ((*name).to_owned(), (*secret).to_owned())).collect();
    let lines = key.lines().filter(|line| !line.starts_with('-') && line.len() > 30);
    secrets.extend(lines.map(|line| ("the TLS key".to_owned(), line.to_owned())));
    let _ = std::fs::remove_dir_all(&folder);
    seen.hold_nothing_of(&secrets);
}

#[test]
fn a_secret_that_is_told_would_be_found() {
    let secrets = [("S".to_owned(), secret("VIRTUAL").to_owned())];
    for told in [
        secret("VIRTUAL").to_owned(),
        STANDARD.encode(format!("Bearer {}", secret("VIRTUAL"))),
        URL_SAFE_NO_PAD.encode(format!("a{}b", secret("VIRTUAL"))),
    ] {
        let mut seen = Seen::default();
        seen.add("x", "y".repeat(2000));
        seen.add("somewhere", format!("...{told}..."));
        assert!(std::panic::catch_unwind(|| seen.hold_nothing_of(&secrets)).is_err(), "{told}");
    }
}
