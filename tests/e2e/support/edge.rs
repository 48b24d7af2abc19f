//! The edge as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::client::{Client, Reply, get};
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
        Self::start_with(config, &[]).await
    }

    /// As [`Self::start`], with these variables in its environment.
    pub(crate) async fn start_with(config: &str, env: &[(&str, &str)]) -> Self {
        for _ in 0..ATTEMPTS {
            let mut edge = Self::spawn(config, env);
            if soon("the edge's readiness", edge.is_ready()).await {
                return edge;
            }
        }
        panic!("no port stays free");
    }

    fn spawn(config: &str, env: &[(&str, &str)]) -> Self {
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
            .envs(env.iter().copied())
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

    /// Where its configuration is, and what it writes.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A connection to the edge.
    pub(crate) async fn connect(&self) -> Client {
        Client::try_connect(self.addr).await.unwrap()
    }

    /// Waits for a line of the access log.
    pub(crate) async fn access(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        soon("a line of the access log", self.log.accesses(1, &wanted)).await.remove(0)
    }

    /// Waits for so many lines of the access log.
    pub(crate) async fn accesses(&self, count: usize) -> Vec<Value> {
        soon("lines of the access log", self.log.accesses(count, &|_| true)).await
    }

    /// What operators are answered.
    pub(crate) async fn look(&self, path: &str) -> Reply {
        Client::try_connect(self.admin).await.unwrap().ask(&get(path, "")).await
    }

    /// Waits until `/snapshot` is as wanted.
    pub(crate) async fn snapshot(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let snapshot = self.look("/snapshot").await.json();
                if wanted(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        soon(what, look).await
    }

    /// Waits until no exchange is counted at any endpoint.
    pub(crate) async fn idle(&self) {
        let is_idle = |endpoint: &Value| endpoint["in_flight"] == 0;
        self.snapshot("the end of all exchanges", |all| endpoints(all).all(is_idle)).await;
    }

    /// Sends it a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success(), "the edge takes signals");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the edge's end", self.log.closed()).await;
        self.child.wait().unwrap()
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        self.log.text()
    }

    /// The sum of the samples of a family of `/metrics` that have all these labels.
    pub(crate) async fn total(&self, family: &str, labels: &[&str]) -> f64 {
        let reply = self.look("/metrics").await;
        let text = String::from_utf8(reply.body).unwrap();
        let values = text.lines().filter_map(|line| {
            let (sample, value) = line.strip_prefix(family)?.rsplit_once(' ')?;
            let meant = sample.is_empty() || sample.starts_with('{');
            (meant && labels.iter().all(|label| sample.contains(label)))
                .then(|| value.parse::<f64>().unwrap())
        });
        values.sum()
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

    /// The first `count` lines of the access log that are wanted.
    async fn accesses(&self, count: usize, wanted: &impl Fn(&Value) -> bool) -> Vec<Value> {
        let (mut changed, mut read, mut found) = (self.count.subscribe(), 0, Vec::new());
        loop {
            changed.borrow_and_update();
            let fresh: Vec<String> = self.lines.lock().unwrap()[read..].to_vec();
            read += fresh.len();
            let lines = fresh.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found.extend(lines.filter(|line| line["log"] == "access" && wanted(line)));
            if found.len() >= count {
                found.truncate(count);
                return found;
            }
            changed.changed().await.unwrap();
        }
    }
}

/// Every endpoint of a `/snapshot`.
pub(crate) fn endpoints(snapshot: &Value) -> impl Iterator<Item = &Value> {
    let clusters = snapshot["clusters"].as_array().unwrap();
    clusters.iter().flat_map(|cluster| cluster["endpoints"].as_array().unwrap())
}

/// Two addresses that were free a moment ago, of those that the system gives to nobody who does not name them: a test
/// that starts many servers at once would else take them before the edge does.
fn free_addresses() -> [SocketAddr; 2] {
    let bound = [(); 2].map(|()| {
        loop {
            // Below the ports that Linux gives out by default (`net.ipv4.ip_local_port_range`).
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", fastrand::u16(10_000..32_000))) {
                break listener;
            }
        }
    });
    bound.map(|listener| listener.local_addr().unwrap())
}
