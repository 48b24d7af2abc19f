//! The client: a thread that keeps a connection, and commands with a deadline.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use log::{info, warn};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::Spec;
use super::breaker::Breaker;
use super::link::{self, Found, Link};
use crate::meter::metrics::METRICS;

/// How often a store that nobody asks is asked whether it is there.
const BEAT: Duration = Duration::from_secs(1);

/// The store does not answer, or not in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// A script that the store runs, in Lua.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    /// What the store knows it by: the SHA-1 of its text.
    digest: String,
}

impl Script {
    /// A script with that text.
    pub fn new(text: &'static str) -> Self {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let digest = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, digest }
    }
}

/// A client of the store. It does nothing before it is started.
pub struct Client {
    spec: Spec,
    link: ArcSwapOption<Link>,
    breaker: Breaker,
    /// The breaker opened.
    opened: Notify,
    is_stopped: AtomicBool,
    runtime: OnceLock<Handle>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("spec", &self.spec)
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that is not started.
    pub fn new(spec: Spec) -> Arc<Self> {
        let breaker = Breaker::new(spec.failures);
        Arc::new(Self {
            spec,
            link: ArcSwapOption::empty(),
            breaker,
            opened: Notify::new(),
            is_stopped: AtomicBool::new(false),
            runtime: OnceLock::new(),
        })
    }

    /// How it is spoken to.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Starts the thread that keeps the connection; a second call changes nothing.
    ///
    /// # Errors
    /// Where the thread cannot be made.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if self.runtime.set(runtime.handle().clone()).is_err() {
            return Ok(());
        }
        // Without one, TLS would end the thread. A second call changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        METRICS.store.away.set(1);
        let client = Arc::clone(self);
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut outage = Outage::default();
                while !client.is_stopped.load(Relaxed) {
                    client.keep(&mut outage).await;
                }
            });
        })?;
        Ok(())
    }

    /// Ends the thread, and with it what was spawned there.
    pub fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        self.breaker.open();
        self.opened.notify_one();
    }

    /// Runs something on the client's own thread, once it is started.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(future);
        }
    }

    /// Whether it is worth asking.
    pub fn is_up(&self) -> bool {
        !self.breaker.is_open()
    }

    /// Whether keys that one script uses must be in one slot.
    pub fn is_cluster(&self) -> bool {
        self.spec.kind == super::Kind::Cluster
    }

    /// Runs a script.
    ///
    /// # Errors
    /// Where there is no answer within the deadline, or an error. Whether the script was run is not known then.
    pub async fn run(&self, script: &Script, keys: &[String], args: &[String]) -> Result<Value, Away> {
        let Some(link) = self.link.load_full().filter(|_| self.is_up()) else { return Err(Away) };
        let mut link = Link::clone(&link);
        let asked = async {
            match evaluate(&mut link, ("EVALSHA", &script.digest), keys, args).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    evaluate(&mut link, ("EVAL", script.text), keys, args).await
                }
                done => done,
            }
        };
        let outcome = timeout(self.spec.deadline, asked).await;
        self.judge(outcome)
    }

    fn judge(
        &self,
        outcome: Result<Result<Value, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<Value, Away> {
        let (label, opened) = match &outcome {
            Ok(Ok(_)) => ("ok", false),
            Ok(Err(error)) if is_fatal(error) => ("error", self.breaker.open()),
            Ok(Err(_)) => ("error", self.breaker.failed()),
            Err(_) => ("late", self.breaker.failed()),
        };
        METRICS.store.commands.with_label_values(&[label]).inc();
        match outcome {
            Ok(Ok(value)) => {
                self.breaker.succeeded();
                return Ok(value);
            }
            Ok(Err(error)) if opened => warn!("the shared store fails: {}", plain(&error)),
            Err(_) if opened => warn!("the shared store does not answer within {:?}", self.spec.deadline),
            _ => {}
        }
        if opened {
            METRICS.store.away.set(1);
            self.opened.notify_one();
        }
        Err(Away)
    }

    /// One life of a connection: it is made, tried, kept until the breaker opens; then a pause.
    async fn keep(&self, outage: &mut Outage) {
        match self.find().await {
            Ok(found) => {
                info!("the shared store at {} answers{}", found.place, outage.over());
                self.link.store(Some(Arc::new(found.link)));
                self.breaker.close();
                METRICS.store.away.set(0);
                self.watch().await;
                self.link.store(None);
                *outage = Outage { since: Some(Instant::now()), is_told: true };
            }
            Err(why) => outage.tell(&why),
        }
        sleep(self.spec.pause).await;
    }

    /// A connection that answers in time.
    async fn find(&self) -> Result<Found, String> {
        let mut found = link::connect(&self.spec).await.map_err(|error| plain(&error))?;
        // One of these is a write, which a server that is full, or a replica, does not take.
        let mut write = redis::cmd("SET");
        write.arg(format!("{}probe", self.spec.prefix)).arg(1).arg("PX").arg(1000);
        for probe in [redis::cmd("PING"), write] {
            match timeout(self.spec.deadline, probe.query_async::<Value>(&mut found.link)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(plain(&error)),
                Err(_) => return Err(format!("no answer within {:?}", self.spec.deadline)),
            }
        }
        Ok(found)
    }

    /// Asks now and then whether it is there, until the breaker opens.
    async fn watch(&self) {
        while self.is_up() {
            tokio::select! {
                () = self.opened.notified() => {}
                () = sleep(BEAT) => {
                    let Some(link) = self.link.load_full() else { return };
                    let mut link = Link::clone(&link);
                    let ping = redis::cmd("PING");
                    let outcome = timeout(self.spec.deadline, ping.query_async::<Value>(&mut link)).await;
                    let _ = self.judge(outcome);
                }
            }
        }
    }
}

/// What was said of an outage.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    is_told: bool,
}

impl Outage {
    /// Once for each outage.
    fn tell(&mut self, why: &str) {
        if !self.is_told {
            warn!("the shared store cannot be used: {why}; each node keeps limits for itself until it can");
        }
        self.is_told = true;
        self.since.get_or_insert_with(Instant::now);
    }

    fn over(&mut self) -> String {
        self.is_told = false;
        self.since.take().map(|since| format!(" again after {:.1?}", since.elapsed())).unwrap_or_default()
    }
}

async fn evaluate(
    link: &mut Link,
    (verb, script): (&str, &str),
    keys: &[String],
    args: &[String],
) -> Result<Value, RedisError> {
    let mut cmd: Cmd = redis::cmd(verb);
    cmd.arg(script).arg(keys.len()).arg(keys).arg(args);
    cmd.query_async(link).await
}

/// Whether the connection is of no use any more: it is lost, or leads to a server that takes no writes.
fn is_fatal(error: &RedisError) -> bool {
    let refused = |kind| {
        matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
        )
    };
    error.is_io_error()
        || error.is_connection_dropped()
        || matches!(error.kind(), ErrorKind::Server(kind) if refused(kind))
}

/// An error as a log shows it. Nothing of what was sent is in it.
fn plain(error: &RedisError) -> String {
    match error.detail() {
        Some(detail) if error.kind() != ErrorKind::InvalidClientConfig => {
            format!("{}: {detail}", error.category())
        }
        _ => error.category().to_owned(),
    }
}
