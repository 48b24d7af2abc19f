//! The edge as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::client::{Client, get};
use super::soon;

/// A running edge; dropping it ends it.
pub(crate) struct Edge {
    child: Child,
    directory: PathBuf,
    log: Arc<Log>,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    /// Where operators do.
    pub(crate) admin: SocketAddr,
}

/// What the edge has said on standard error.
struct Log {
    lines: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

/// How often a port that was free a moment ago may turn out to be taken.
const ATTEMPTS: usize = 5;
/// How often it is looked whether the edge is ready.
const LOOK: Duration = Duration::from_millis(10);

impl Edge {
    /// Runs `forebay run` on this configuration and waits until it is ready. Listeners that are written out must take
    /// `${SERVER_PORT}`.
    pub(crate) async fn start(config: &str) -> Self {
        for _ in 0..ATTEMPTS {
            let mut edge = Self::spawn(config);
            if soon("the edge's readiness", edge.is_ready()).await {
                return edge;
            }
        }
        panic!("no port stays free");
    }

    fn spawn(config: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("forebay-e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("forebay.yaml");
        std::fs::write(&file, config).unwrap();
        let [addr, admin] = free_addresses();
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .arg("run")
            .arg(&file)
            .env_clear()
            .env("SERVER_HOST", "127.0.0.1")
            .env("SERVER_PORT", addr.port().to_string())
            .env("METRICS_PORT", admin.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        Self { child, directory, log, addr, admin }
    }

    /// False if one of its ports was taken meanwhile.
    async fn is_ready(&mut self) -> bool {
        loop {
            let ready = match Client::try_connect(self.admin).await {
                Ok(mut admin) => admin.ask(&get("/health/ready", "")).await.status == 200,
                Err(_) => false,
            };
            // Whoever answered may be another test's edge: then this one has ended.
            match self.child.try_wait().unwrap() {
                None if ready => return true,
                None => tokio::time::sleep(LOOK).await,
                Some(status) => {
                    let said = soon("the log's end", self.log.closed()).await;
                    assert!(said.contains("cannot listen on"), "the edge ended with {status}:\n{said}");
                    return false;
                }
            }
        }
    }

    /// A connection to the edge.
    pub(crate) async fn connect(&self) -> Client {
        Client::try_connect(self.addr).await.unwrap()
    }

    /// Waits for a line of the access log.
    pub(crate) async fn access(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let is_wanted = |line: &Value| line["log"] == "access" && wanted(line);
        soon("a line of the access log", self.log.find(is_wanted)).await
    }

    /// A sample of `/metrics`, by its name and labels as they are printed.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let reply = Client::try_connect(self.admin).await.unwrap().ask(&get("/metrics", "")).await;
        let text = String::from_utf8(reply.body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{sample} is not in:\n{text}")).parse().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
        if std::thread::panicking() {
            println!("what the edge said:\n{}", self.log.text());
        }
    }
}

impl Log {
    fn follow(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Self { lines: Mutex::default(), count: watch::Sender::new(0) });
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines.lock().unwrap().push(line);
                writer.count.send_modify(|count| *count += 1);
            }
            writer.count.send_replace(usize::MAX);
        });
        log
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    async fn closed(&self) -> String {
        self.count.subscribe().wait_for(|count| *count == usize::MAX).await.unwrap();
        self.text()
    }

    async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let (mut count, mut seen) = (self.count.subscribe(), 0);
        loop {
            count.borrow_and_update();
            let fresh: Vec<String> = self.lines.lock().unwrap()[seen..].to_vec();
            seen += fresh.len();
            let parsed = fresh.iter().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(found) = parsed.into_iter().find(&wanted) {
                return found;
            }
            count.changed().await.unwrap();
        }
    }
}

/// Two addresses that were free a moment ago.
fn free_addresses() -> [SocketAddr; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    bound.map(|listener| listener.local_addr().unwrap())
}
