//! The simulator over real sockets, read by a raw client that sees every byte.

mod apis;
mod engine;
mod faults;
mod h2;
mod natives;
mod recorded;
mod refusals;
mod wire;

use super::{Config, Sim, StatsSnapshot};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes, unless something hangs.
const LONG: Duration = Duration::from_secs(20);

async fn sim(change: impl FnOnce(&mut Config)) -> Sim {
    let mut config = Config::default();
    change(&mut config);
    Sim::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

async fn until(sim: &Sim, reached: impl Fn(&StatsSnapshot) -> bool) -> StatsSnapshot {
    sim.stats().wait_until(reached, LONG).await.unwrap()
}

/// A reply, its body freed from chunks.
#[derive(Debug, Clone)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The events of the body: name and data.
    fn events(&self) -> Vec<(String, String)> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
        text.split_terminator("\n\n")
            .map(|event| match event.split_once('\n') {
                Some((name, data)) => (
                    name.strip_prefix("event: ").unwrap().into(),
                    data.strip_prefix("data: ").unwrap().into(),
                ),
                None => (String::new(), event.strip_prefix("data: ").unwrap().into()),
            })
            .collect()
    }

    /// The events' data as JSON, without `[DONE]`.
    fn chunks(&self) -> Vec<Value> {
        let all = self.events().into_iter().filter(|(_, data)| data != "[DONE]");
        all.map(|(_, data)| serde_json::from_str(&data).unwrap()).collect()
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Closed,
    Reset,
}

/// A client that knows no more HTTP than it must.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn new(sim: &Sim) -> Self {
        Self { stream: TcpStream::connect(sim.addr()).await.unwrap(), buffer: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn post(&mut self, path: &str, headers: &str, body: &Value) {
        self.send(post(path, headers, &body.to_string())).await;
    }

    /// One read; what came of it is appended.
    async fn more(&mut self) -> Result<(), Ending> {
        let mut bytes = [0; 4096];
        match tokio::time::timeout(LONG, self.stream.read(&mut bytes))
            .await
            .expect("the simulator went silent")
        {
            Ok(0) => Err(Ending::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&bytes[..n]);
                Ok(())
            }
            Err(_) => Err(Ending::Reset),
        }
    }

    /// Reads until the bytes so far hold `part`, and gives them all.
    async fn see(&mut self, part: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if text.contains(part) {
                return text;
            }
            self.more().await.unwrap_or_else(|ending| panic!("{ending:?} before {part:?} in {text:?}"));
        }
    }

    /// Everything until the end, and how it ended.
    async fn rest(mut self) -> (Vec<u8>, Ending) {
        loop {
            if let Err(ending) = self.more().await {
                return (self.buffer, ending);
            }
        }
    }

    async fn head(&mut self) -> (u16, String) {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                let head = String::from_utf8(head).unwrap();
                return (head.get(9..12).unwrap().parse().unwrap(), head);
            }
            self.more().await.unwrap();
        }
    }

    /// A reply framed as it should be.
    async fn reply(&mut self) -> Got {
        let (status, head) = self.head().await;
        let mut got = Got { status, head, body: Vec::new() };
        if let Some(length) = got.header("content-length") {
            let length: usize = length.parse().unwrap();
            self.fill(length).await;
            got.body = self.buffer.drain(..length).collect();
            return got;
        }
        assert_eq!(got.header("transfer-encoding"), Some("chunked"), "{}", got.head);
        while let Some(chunk) = self.chunk().await {
            got.body.extend(chunk);
        }
        got
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let at = loop {
            match find(&self.buffer, b"\r\n") {
                Some(at) => break at,
                None => self.more().await.unwrap(),
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..at]).unwrap(), 16).unwrap();
        self.buffer.drain(..at + 2);
        self.fill(size + 2).await;
        let mut chunk: Vec<u8> = self.buffer.drain(..size + 2).collect();
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    async fn fill(&mut self, n: usize) {
        while self.buffer.len() < n {
            self.more().await.unwrap();
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// A request on a connection of its own.
async fn ask(sim: &Sim, path: &str, headers: &str, body: &Value) -> Got {
    let mut client = Client::new(sim).await;
    client.post(path, headers, body).await;
    client.reply().await
}

async fn get(sim: &Sim, path: &str, headers: &str) -> Got {
    let mut client = Client::new(sim).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: sim\r\n{headers}\r\n")).await;
    client.reply().await
}

fn chat(content: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": content}]})
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

fn message(content: &str) -> Value {
    json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}]})
}

fn tool() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}})
}
