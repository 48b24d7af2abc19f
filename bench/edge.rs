//! The edge that is measured, as a process of its own; what it counts, and what it says.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running edge; dropping it ends it.
pub(crate) struct Edge {
    child: Child,
    directory: PathBuf,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
}

/// What must be at zero where nothing runs.
const GAUGES: [&str; 7] = [
    "forebay_in_flight",
    "forebay_streams",
    "forebay_held_bytes",
    "forebay_connections",
    "forebay_endpoint_in_flight",
    "forebay_admission_used",
    "forebay_admission_waiting",
];

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Edge {
    /// Runs it with that configuration, but for the listener, and gives every line of its log to `heard`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub(crate) async fn start(
        program: &Path,
        config: &str,
        mut heard: impl FnMut(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let [addr, admin] = [free_address()?, free_address()?];
        let name = format!("forebay-bench-{}-{}", std::process::id(), addr.port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory)?;
        let file = directory.join("forebay.yaml");
        std::fs::write(&file, format!("listeners: [{{address: \"{addr}\", h2c: true}}]\n{config}"))?;
        let mut child = Command::new(program)
            .arg("run")
            .arg(&file)
            .env("METRICS_PORT", admin.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(log) = child.stderr.take() {
            let lines = BufReader::new(log).lines().map_while(Result::ok);
            std::thread::spawn(move || lines.for_each(|line| heard(&line)));
        }
        let mut edge = Self { child, directory, addr, admin };
        let began = Instant::now();
        while !edge.look("/health/ready").await.is_ok_and(|reply| reply.contains(" 200 ")) {
            if let Some(status) = edge.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended: {status}", program.display())));
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the edge does not become ready"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
    pub(crate) async fn total(&self, name: &str, label: &str) -> io::Result<u64> {
        let text = self.look("/metrics").await?;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let meant = samples
            .filter(|(labels, _)| (labels.is_empty() || labels.starts_with('{')) && labels.contains(label));
        Ok(meant.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Its resident memory, bytes.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
        let kib = line.and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("its memory cannot be read"))
    }

    /// Waits until nothing is counted any more.
    ///
    /// # Errors
    /// What has leaked.
    pub(crate) async fn at_rest(&self) -> io::Result<()> {
        for gauge in GAUGES {
            until(gauge, async || Ok(self.total(gauge, "").await? == 0)).await?;
        }
        Ok(())
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
///
/// # Errors
/// Where it does not become so.
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
