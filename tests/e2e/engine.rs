//! A real engine behind the edge: llama.cpp's server over a tiny model, where that tool is there. It is sought in the
//! folder that `FOREBAY_TINY_LLM` names, or beside the repository; its packages are those that `scripts/setup test`
//! installs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::dialects::{Dialect, events};
use crate::support::{Client, Edge, post, soon};

/// Writes the model without the part of its template that shows thoughts. Where a template has one, llama.cpp puts an empty
/// thought before an answer that it goes on with, which this model never had when it began.
const MAKE: &str = r#"
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import make_model
thoughts = "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
assert thoughts in make_model.CHAT_TEMPLATE
make_model.CHAT_TEMPLATE = make_model.CHAT_TEMPLATE.replace(thoughts, "")
make_model.write(pathlib.Path(sys.argv[2]))
"#;

/// The tool and its interpreter.
struct Tool {
    folder: PathBuf,
    python: PathBuf,
    model: PathBuf,
}

impl Tool {
    /// Nothing where it is not there, which is said.
    fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let beside = || root.join("../shared/tools/tiny-llm");
        let folder = std::env::var_os("FOREBAY_TINY_LLM").map_or_else(beside, PathBuf::from);
        let python = root.join(".cache/tiny-llm/bin/python");
        if !folder.join("serve.py").is_file() || !python.exists() {
            println!("skipped: no tiny-llm at {} with packages at {}", folder.display(), python.display());
            return None;
        }
        let model = std::env::temp_dir().join(format!("forebay-e2e-{}.gguf", std::process::id()));
        let made = Command::new(&python).args(["-c", MAKE]).arg(&folder).arg(&model).status().unwrap();
        assert!(made.success());
        Some(Self { folder, python, model })
    }

    /// Starts a server.
    fn serve(&self) -> Engine {
        // A port that was free a moment ago may be taken; then it ends and another is tried.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
            let mut child = Command::new(&self.python)
                .arg(self.folder.join("serve.py"))
                .arg(free.port().to_string())
                .arg("--model")
                .arg(&self.model)
                .args(["--context", "8192"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
            let engine = Engine { child, addr: free };
            if line.starts_with("ready") {
                return engine;
            }
        }
        panic!("llama.cpp's server does not start");
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.model);
    }
}

/// A running server; dropping it ends it.
struct Engine {
    child: Child,
    addr: SocketAddr,
}

impl Engine {
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What stands before a server and breaks each connection once so many bytes came back.
async fn cutting(server: SocketAddr, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let ((mut from, mut to), (mut back, mut on)) = (client.into_split(), server.into_split());
                let asking = tokio::spawn(async move { copy(&mut from, &mut on).await });
                let mut left = (&mut back).take(bytes);
                let _ = copy(&mut left, &mut to).await;
                let _ = to.shutdown().await;
                asking.abort();
            });
        }
    });
    addr
}

fn cluster(name: &str, addresses: &[SocketAddr]) -> String {
    let endpoint = |(number, address): (usize, &SocketAddr)| {
        format!("{{url: \"http://{address}\", priority: {number}}}")
    };
    let endpoints: Vec<String> = addresses.iter().enumerate().map(endpoint).collect();
    format!(
        "  {name}: {{provider: llamacpp, continuation: true, balance: priority, health: {{check: none}}, \
         endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

fn models(names: &[String]) -> String {
    let model = |name: &String| format!("  {name}: {{deployments: [{{cluster: {name}, model: tiny}}]}}\n");
    format!("models:\n{}", names.iter().map(model).collect::<String>())
}

fn request(model: &str, tokens: u32) -> Vec<u8> {
    let body = json!({"model": model, "stream": true, "temperature": 0, "max_tokens": tokens, "ignore_eos": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Tell me of rivers."}]});
    post(Dialect::Chat.path(), "", body.to_string())
}

/// The text and the usage of a whole stream.
fn told(body: &[u8]) -> (String, Value) {
    let events = events(body);
    assert_eq!(Dialect::Chat.error_in(&events), None);
    let text =
        events.iter().filter_map(|(_, data)| data["choices"][0]["delta"]["content"].as_str()).collect();
    let usage = events.iter().find(|(_, data)| data["usage"].is_object()).map(|(_, data)| &data["usage"]);
    let of = |key: &str| usage.map(|usage| usage[key].clone()).unwrap_or_default();
    (text, json!([of("prompt_tokens"), of("completion_tokens"), of("total_tokens")]))
}

#[tokio::test]
async fn a_stream_of_llama_cpp_that_is_cut_anywhere_reads_as_if_it_was_not() {
    let Some(tool) = Tool::find() else { return };
    let engine = tool.serve();
    let mut names = vec!["sound".to_owned()];
    let mut clusters = cluster("sound", &[engine.addr]);
    for bytes in [900, 1500, 2700, 4200, 6100, 9000] {
        let name = format!("cut-{bytes}");
        clusters += &cluster(&name, &[cutting(engine.addr, bytes).await, engine.addr]);
        names.push(name);
    }
    let edge = Edge::start(&format!("clusters:\n{clusters}{}", models(&names))).await;
    let mut replies = Vec::new();
    for name in &names {
        let reply = edge.connect().await.ask(&request(name, 60)).await;
        replies.push((name, told(&reply.body)));
    }
    let (_, sound) = &replies[0];
    assert!(sound.0.split_whitespace().count() > 30, "{sound:?}");
    for (name, reply) in &replies[1..] {
        assert_eq!(reply, sound, "{name}");
        let line = edge.access(|line| line["alias"] == name.as_str()).await;
        assert!(line["passed"].as_str().unwrap().contains("continued at"), "{line}");
    }
    edge.idle().await;
}

#[tokio::test]
async fn a_stream_of_a_llama_cpp_that_is_killed_reads_as_if_it_was_not() {
    let Some(tool) = Tool::find() else { return };
    let (mut first, second) = (tool.serve(), tool.serve());
    let clusters = cluster("sound", &[second.addr]) + &cluster("pair", &[first.addr, second.addr]);
    let config = format!("clusters:\n{clusters}{}", models(&["sound".to_owned(), "pair".to_owned()]));
    let edge = Edge::start(&config).await;
    // Long enough to be killed in the midst of it.
    const TOKENS: u32 = 4000;
    let sound = told(&edge.connect().await.ask(&request("sound", TOKENS)).await.body);
    let mut client: Client = edge.connect().await;
    client.send(&request("pair", TOKENS)).await;
    soon("the first words", client.saw("\"content\":\" wheel\"")).await;
    first.kill();
    let reply = client.reply().await;
    assert_eq!(told(&reply.body), sound);
    let line = edge.access(|line| line["alias"] == "pair").await;
    assert_eq!((&line["attempts"], &line["end"]), (&json!(2), &json!("--")), "{line}");
}
