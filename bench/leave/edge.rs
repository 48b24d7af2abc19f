//! The edge as a process, and what it says of itself.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{PATIENCE, UPSTREAMS};

/// A running edge; dropping it ends it.
pub(crate) struct Edge {
    child: Child,
    directory: PathBuf,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
}

/// What must be at zero where nothing runs.
const GAUGES: [&str; 5] = [
    "forebay_in_flight",
    "forebay_streams",
    "forebay_held_bytes",
    "forebay_connections",
    "forebay_endpoint_in_flight",
];

impl Edge {
    /// Runs it before that upstream, which has a cluster of its own for each version of HTTP.
    pub(crate) async fn start(program: &Path, upstream: SocketAddr) -> io::Result<Self> {
        let [addr, admin] = [free_address()?, free_address()?];
        let mut config = format!("listeners: [{{address: \"{addr}\", h2c: true}}]\nclusters:\n");
        for http in UPSTREAMS {
            config += &format!(
                "  c{http}: {{provider: simulator, http: \"{http}\", endpoints: [\"http://{upstream}\"], \
                 health: {{check: none}}, pool: {{idle: 1s}}}}\n"
            );
        }
        config += "models:\n";
        for http in UPSTREAMS {
            config += &format!("  m{http}: {{deployments: [{{cluster: c{http}}}]}}\n");
        }
        let directory = std::env::temp_dir().join(format!("forebay-leave-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let file = directory.join("forebay.yaml");
        std::fs::write(&file, config)?;
        let child = Command::new(program)
            .arg("run")
            .arg(&file)
            .env("METRICS_PORT", admin.port().to_string())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log"))?)
            .spawn()?;
        let edge = Self { child, directory, addr, admin };
        let is_ready =
            async || Ok(edge.look("/health/ready").await.is_ok_and(|reply| reply.contains(" 200 ")));
        until("the edge's readiness", is_ready).await?;
        Ok(edge)
    }

    async fn look(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok(reply)
    }

    /// The sum of a metric's samples that have that label.
    async fn total(&self, name: &str, label: &str) -> io::Result<u64> {
        let text = self.look("/metrics").await?;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let meant = samples
            .filter(|(labels, _)| (labels.is_empty() || labels.starts_with('{')) && labels.contains(label));
        Ok(meant.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
    }

    /// How many replies have begun to come from the upstream of that version.
    pub(crate) async fn heads(&self, http: &str) -> io::Result<u64> {
        self.total("llm_provider_latency_seconds_count", &format!("cluster=\"c{http}\"")).await
    }

    fn files(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Waits until nothing is counted any more, and no more files are open than `before`. Says how many are.
    ///
    /// # Errors
    /// What has leaked.
    pub(crate) async fn files_at_rest(&self, before: Option<usize>) -> io::Result<usize> {
        for gauge in GAUGES {
            until(gauge, async || Ok(self.total(gauge, "").await? == 0)).await?;
        }
        // Idle connections are kept for a second, and looked for as often.
        match before {
            Some(before) => until("the end of its connections", async || Ok(self.files()? <= before)).await?,
            None => tokio::time::sleep(Duration::from_secs(5)).await,
        }
        self.files()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{what} did not come")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
