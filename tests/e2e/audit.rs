//! The audit log: what is in it after a day of good and bad callers, and that no change of it goes unseen.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::dialects::Dialect;
use crate::support::scripted::{Scripted, Turn, answer, json as reply};
use crate::support::{Edge, post, soon};

const KEYS: [(&str, &str); 3] = [
    ("ALICE", "key-of-alice-0123456789"),
    ("FOREBAY_AUDIT_KEY", "key-of-the-audit-log-0123"),
    ("ADMIN", "key-of-the-admin-0123456789"),
];

async fn site(audit: &str) -> (Edge, Scripted) {
    let upstream = Scripted::start(|_| Turn::Say(answer("x"))).await;
    let config = format!(
        "clusters: {{c: {{provider: vllm, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
         models: {{m: {{deployments: [{{cluster: c}}]}}, other: {{deployments: [{{cluster: c}}]}}}}\n\
         keys: {{alice: {{key: env:ALICE, models: [m], max_body: 4KiB}}}}\n\
         admin: {{address: \"127.0.0.1:${{METRICS_PORT}}\", token: env:ADMIN}}\n\
         routes:\n  - {{name: all, path: /}}\n\
         \x20 - {{name: told, path: /told, policy: {{audit_prompts: true, max_tools: 0}}}}\n\
         server: {{lame_duck: 0s}}\naudit: {audit}\n",
        upstream.addr
    );
    (Edge::start_with(&config, &KEYS).await, upstream)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'l>(lines: &'l [Value], event: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

fn verify(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["audit", "verify"])
        .args(arguments)
        .envs(KEYS)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn who_did_what_is_there_and_cannot_be_changed_unseen() {
    let (mut edge, _upstream) =
        site("{file: audit.jsonl, key: env:FOREBAY_AUDIT_KEY, key_use: all, per_minute: 2, sync: 0s}").await;
    let file = edge.directory().join("audit.jsonl");
    let alice = format!("authorization: Bearer {}\r\n", KEYS[0].1);
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "I am jane@example.com"}]}).to_string();
    let chat = Dialect::Chat.path();
    assert_eq!(edge.connect().await.ask(&post(chat, &alice, &body)).await.status, 200);
    // A flood of wrong keys.
    for _ in 0..10 {
        let wrong = "x-api-key: a-guess-0123456789\r\n";
        assert_eq!(edge.connect().await.ask(&post(chat, wrong, &body)).await.status, 401);
    }
    let told = format!("/told{chat}");
    assert_eq!(edge.connect().await.ask(&post(&told, &alice, &body)).await.status, 200);
    let tools = json!({"model": "m", "messages": [], "tools": [{}]}).to_string();
    assert_eq!(edge.connect().await.ask(&post(&told, &alice, tools)).await.status, 400);
    // Operators, with and without the token.
    let resume = |fields: &str, more: &str| {
        post("/endpoints/resume", fields, format!(r#"{{"endpoint":"http://10.9.9.9:1"{more}}}"#))
    };
    let mut admin = crate::support::Client::try_connect(edge.admin).await.unwrap();
    let token = format!("authorization: Bearer {}\r\n", KEYS[2].1);
    assert_eq!(admin.ask(&resume(&token, r#","secret":"never-told""#)).await.status, 400);
    assert_eq!(admin.ask(&resume(&token, "")).await.status, 404);
    let mut admin = crate::support::Client::try_connect(edge.admin).await.unwrap();
    assert_eq!(admin.ask(&resume("", "")).await.status, 401);
    edge.signal("TERM");
    assert!(edge.ended().await.success());

    let lines = lines(&file);
    assert_eq!((&lines[0]["event"], &lines[0]["mac"]), (&json!("file"), &json!("hmac-sha256")));
    assert_eq!(lines[1]["event"], "start");
    assert_eq!(lines[1]["configuration"].as_str().unwrap().len(), 64);
    assert_eq!(lines.last().unwrap()["event"], "stop");
    let failed = of(&lines, "auth_failed");
    assert_eq!(failed.len(), 2);
    assert_eq!((&failed[0]["header"], &failed[0]["address"]), (&json!("x-api-key"), &json!("127.0.0.1")));
    let more: Vec<_> = of(&lines, "more").into_iter().filter(|line| line["of"] == "auth_failed").collect();
    assert_eq!(more[0]["count"], 8);
    assert_eq!(of(&lines, "key_use").iter().filter(|line| line["principal"] == "alice").count(), 2);
    let refused = of(&lines, "refused");
    assert!(refused[0]["rule"].as_str().unwrap().starts_with("rule max_tools"), "{refused:?}");
    assert_eq!(
        (&refused[0]["principal"], &refused[0]["route"], &refused[0]["status"]),
        (&json!("alice"), &json!("told"), &json!(400))
    );
    let prompts = of(&lines, "prompt");
    assert_eq!(prompts.len(), 2, "only of the route that has them told");
    assert_eq!(prompts[0]["text"], "I am [EMAIL]");
    let act = of(&lines, "admin")[1];
    assert_eq!(
        (&act["by"], &act["status"], &act["what"]),
        (&json!("token"), &json!(404), &json!("endpoint=\"http://10.9.9.9:1\""))
    );
    assert_eq!(of(&lines, "admin_refused").len(), 1);
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in KEYS.iter().map(|(_, secret)| *secret).chain(["a-guess-0123456789", "never-told", "jane"]) {
        assert!(!text.contains(secret), "{secret} is in the audit log");
    }

    let path = file.to_str().unwrap();
    let key = ["--key", "env:FOREBAY_AUDIT_KEY"];
    let (whole, said) = verify(&[&[path], &key[..]].concat());
    assert!(whole, "{said}");
    let (_, anchor) = said.trim().rsplit_once("the last is ").unwrap();
    assert!(
        edge.said().contains(&format!("audit: anchor {anchor}")),
        "the log has the last hash: {}",
        edge.said()
    );
    assert!(!verify(&[path]).0, "a key is needed");
    std::fs::write(&file, text.replacen("alice", "mallory", 1)).unwrap();
    let (whole, said) = verify(&[&[path], &key[..]].concat());
    assert!(!whole && said.contains("line "), "{said}");
    let cut = text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    std::fs::write(&file, cut).unwrap();
    assert!(verify(&[&[path], &key[..]].concat()).0);
    let (whole, said) = verify(&[&[path], &key[..], &["--anchor", anchor]].concat());
    assert!(!whole && said.contains("cut off"), "{said}");
}

#[tokio::test]
async fn the_lines_are_sent_to_who_wants_them_until_they_are_taken() {
    let sink = Scripted::start(|asked| Turn::Say(reply(if asked.number == 0 { 503 } else { 204 }, ""))).await;
    let (edge, _upstream) = site(&format!(
        "{{http: {{url: \"http://{}/in\", token: env:ADMIN, linger: 10ms}}, key_use: all}}",
        sink.addr
    ))
    .await;
    let alice = format!("authorization: Bearer {}\r\n", KEYS[0].1);
    let asked = post(Dialect::Chat.path(), &alice, Dialect::Chat.ask("m", false));
    assert_eq!(edge.connect().await.ask(&asked).await.status, 200);
    soon("the line of the use", async {
        while !sink.received().iter().skip(1).any(|text| text.contains("\"key_use\"")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let received = sink.received();
    let (first, second) = (&received[0], &received[1]);
    assert!(first.starts_with("POST /in HTTP/1.1\r\n") && first.contains("application/x-ndjson"), "{first}");
    let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(first), body(second), "what was not taken comes again, and first");
    let file = edge.directory().join("received");
    let taken: String = received[1..].iter().map(|text| body(text)).collect();
    std::fs::write(&file, &taken).unwrap();
    let (whole, said) = verify(&[file.to_str().unwrap()]);
    assert!(whole, "{said}");
}

#[tokio::test]
async fn what_a_key_may_not_do_is_there_and_whose_key_is_changed() {
    let (mut edge, _upstream) = site("{file: audit.jsonl, per_minute: 100, sync: 0s}").await;
    let file = edge.directory().join("audit.jsonl");
    let alice = format!("authorization: Bearer {}\r\n", KEYS[0].1);
    let chat = Dialect::Chat.path();
    for (model, status) in [("other", 404), ("nothing", 404)] {
        let asked = post(chat, &alice, Dialect::Chat.ask(model, false));
        assert_eq!(edge.connect().await.ask(&asked).await.status, status, "{model}");
    }
    let long = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(5000)}]}).to_string();
    assert_eq!(edge.connect().await.ask(&post(chat, &alice, long)).await.status, 413);
    let mut admin = crate::support::Client::try_connect(edge.admin).await.unwrap();
    let token = format!("authorization: Bearer {}\r\n", KEYS[2].1);
    admin.ask(&post("/keys/disable", &token, r#"{"name":"alice"}"#)).await;
    edge.signal("TERM");
    assert!(edge.ended().await.success());

    let lines = lines(&file);
    let refused = of(&lines, "refused");
    let rules: Vec<&str> = refused.iter().map(|line| line["rule"].as_str().unwrap()).collect();
    assert_eq!(rules.len(), 2, "what nobody has is no permission's doing: {rules:?}");
    assert!(rules[0].starts_with("rule models") && rules[1].starts_with("rule max_body"), "{rules:?}");
    assert_eq!((&refused[0]["principal"], &refused[0]["model"]), (&json!("alice"), &json!("other")));
    assert_eq!(of(&lines, "admin")[0]["what"], "name=\"alice\"");
}

#[tokio::test]
async fn a_second_process_does_not_touch_the_log() {
    let (mut edge, _upstream) = site("{file: audit.jsonl, sync: 0s}").await;
    let file = edge.directory().join("audit.jsonl");
    let before = std::fs::read_to_string(&file).unwrap();
    let config = edge.directory().join("second.yaml");
    // Both at once, so that they differ.
    let held = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [edges, admins] = held.map(|held| held.local_addr().unwrap());
    let free = format!("listeners: [{{address: \"{edges}\"}}]\nadmin: {{address: \"{admins}\"}}\n");
    std::fs::write(
        &config,
        format!(
            "{free}clusters: {{c: {{provider: vllm, endpoints: [\"http://127.0.0.1:1\"]}}}}\n\
             models: {{m: {{deployments: [{{cluster: c}}]}}}}\naudit: {{file: audit.jsonl}}\n"
        ),
    )
    .unwrap();
    let second = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["run", config.to_str().unwrap()])
        .current_dir(edge.directory())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another process"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    edge.signal("TERM");
    assert!(edge.ended().await.success());
    assert!(verify(&[file.to_str().unwrap()]).0);
}
