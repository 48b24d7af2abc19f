//! Redis servers of a test's own, on free ports of the loopback.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forebay::secret::Secret;

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
    /// What `redis-cli` needs besides the port.
    cli: Vec<String>,
}

/// A port that was free a moment ago, below those that the system gives to whoever asks for any.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(12_000..22_000);
        // A node of a cluster takes the port 10,000 above, too.
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::at(free_port(), args)
    }

    /// A server on that port, with its own folder.
    pub(crate) fn at(port: u16, args: &[&str]) -> Self {
        Self::run(port, args, &["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
    }

    /// A server whose clients speak TLS, with that certificate.
    pub(crate) fn tls(cert: &std::path::Path, key: &std::path::Path) -> Self {
        let port = free_port();
        let text = |path: &std::path::Path| path.display().to_string();
        let (cert, key) = (text(cert), text(key));
        let port_text = port.to_string();
        let tls = ["--port", "0", "--tls-port", &port_text, "--tls-cert-file", &cert, "--tls-key-file", &key];
        let mut server = Self::run(port, &["--tls-auth-clients", "no"], &tls);
        server.cli = vec!["--tls".to_owned(), "--cacert".to_owned(), cert];
        server.answers();
        server
    }

    /// A sentinel of a primary called `edge`.
    pub(crate) fn sentinel(primary: u16) -> Self {
        let port = free_port();
        let folder = folder(port);
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nsentinel monitor edge 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds edge 400\nsentinel failover-timeout edge 2000\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("redis-server")
            .args([file.to_str().unwrap(), "--sentinel"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder, cli: Vec::new() };
        server.answers();
        server
    }

    fn run(port: u16, args: &[&str], base: &[&str]) -> Self {
        let folder = folder(port);
        let child = Command::new("redis-server")
            .args(base)
            .args(["--dir", folder.to_str().unwrap(), "--bind", "127.0.0.1"])
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is there: `scripts/setup test` installs it");
        let password = args.iter().skip_while(|arg| **arg != "--requirepass").nth(1);
        let cli = password.map(|password| vec!["-a".to_owned(), (*password).to_owned()]);
        let server = Self { child, port, folder, cli: cli.unwrap_or_default() };
        if !base.contains(&"--tls-port") {
            server.answers();
        }
        server
    }

    fn answers(&self) {
        eventually("the server answers", || self.cli(&["PING"]).trim() == "PONG");
    }

    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let out = Command::new("redis-cli")
            .args(["-p", &port, "--no-auth-warning"])
            .args(&self.cli)
            .args(args)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("redis://127.0.0.1:{}", self.port))
    }

    /// Now, by the server's clock, microseconds.
    pub(crate) fn time(&self) -> u64 {
        let text = self.cli(&["TIME"]);
        let mut parts = text.split_whitespace().map(|part| part.parse::<u64>().unwrap());
        parts.next().unwrap() * 1_000_000 + parts.next().unwrap()
    }

    /// What stands in the field `t` of the one limit of that measure.
    pub(crate) fn level(&self, measure: &str) -> Option<f64> {
        let keys = self.cli(&["KEYS", &format!("*limit:*:{measure}:*")]);
        let key = keys.lines().next().filter(|key| !key.is_empty())?;
        self.cli(&["HGET", key, "t"]).trim().parse().ok()
    }

    /// Sends the process a signal: STOP, CONT, KILL.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Starts again, on the same port and with what was saved.
    pub(crate) fn again(&mut self) {
        let port = self.port.to_string();
        self.child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--dir", self.folder.to_str().unwrap()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.answers();
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder(port: u16) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("forebay-shared-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
