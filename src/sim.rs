//! A simulator of LLM providers and inference engines: `forebay sim`, and a library for tests.
//!
//! It speaks, over HTTP/1.1 and HTTP/2 without TLS on one port:
//!
//! | API | paths |
//! |---|---|
//! | OpenAI: chat, legacy completions, embeddings, models, Responses | `/v1/...`, `/openai/v1/...` |
//! | Azure OpenAI's dated paths | `/openai/deployments/{deployment}/...?api-version=` |
//! | Anthropic Messages, with `count_tokens` | `/v1/messages`; on Bedrock `/model/{model}/invoke`, `/invoke-with-response-stream`; on Vertex AI `.../publishers/anthropic/models/{model}:rawPredict`, `:streamRawPredict` |
//! | Gemini: `generateContent`, `streamGenerateContent`, `countTokens`, `embedContent`, `batchEmbedContents`, `predict` | `/v1beta/models/{model}:...`, `/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:...` |
//! | Bedrock: `Converse`, `ConverseStream`, `CountTokens` | `/model/{model}/converse`, `/converse-stream`, `/count-tokens` |
//! | Cohere v2: chat, embed, rerank | `/v2/...` |
//! | Ollama: chat, embed, tags, version | `/api/...` |
//!
//! It knows nothing of the edge's translators, and refuses what the real servers refuse: it is their witness.
//! What it says is made up from a seed and the request, so two runs give the same
//! bytes. It stands for an engine (time for prompts and tokens, slots, a queue, a prefix cache), for a provider (latency, rate
//! limits, errors), and it fails on demand ([`Fault`]).
//!
//! A request steers it by headers (or, where a proxy drops those, by a `sim` object in a JSON body):
//!
//! | header | body | meaning |
//! |---|---|---|
//! | `x-sim-text` | `sim.text` | the exact text of the reply |
//! | `x-sim-reasoning` | `sim.reasoning` | the exact text of what is thought before the reply |
//! | `x-sim-tokens` | `sim.tokens` | how many tokens it has |
//! | `x-sim-tool-calls` | `sim.tool_calls` | how many of the offered tools it calls (1) |
//! | `x-sim-fault` | `sim.fault` | what goes wrong, see [`Fault`] |
//!
//! Where a translator drops both, the words of the prompt do as well: `(x-sim-fault: cut=3)`.
//!
//! Besides the APIs there are `/health`, `/metrics` (with vLLM's names), and the simulator's own `/sim/stats`,
//! `/sim/requests`, `/sim/bill` (what each request is charged for) and `POST /sim/reset`.
//!
//! How a request travels: `server` accepts, `http1` or `http2` reads it and writes the reply, `exchange` runs it in
//! between, asking `api` what to say, `provider` and `engine` when, and `fault` what to spoil.

mod api;
mod args;
mod config;
mod engine;
mod exchange;
mod fault;
mod fixed;
mod gzip;
mod http1;
mod http2;
mod provider;
mod replay;
mod server;
mod stats;
#[cfg(test)]
mod tests;
mod text;

pub use args::{Args, run};
pub use config::{Config, EngineConfig, FaultRule, Fixed, Latency, ProviderConfig, Secret, Span};
pub use fault::{Fault, Point};
pub use replay::{Chunking, Recorded, Replay};
pub use stats::{Cancelled, Charge, ModelBill, Request, Stats, StatsSnapshot};

use engine::Engine;
use fastrand::Rng;
use fault::Rule;
use provider::Provider;
use replay::Player;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use text::Digest;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running simulator. Dropping it stops it.
pub struct Sim {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Sim {
    /// Binds `addr` (port 0 takes a free one) and serves from then on, on the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when `config` makes no sense, with what to write instead; else what binding said.
    #[expect(
        clippy::unused_async,
        reason = "it must run inside a runtime, and callers need not change if it waits one day"
    )]
    pub async fn start(config: Config, addr: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(config).map_err(invalid)?);
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(4096)?;
        let addr = listener.local_addr()?;
        let stats = Arc::clone(&shared.stats);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared), stopped));
        Ok(Self { addr, shared, stats, stop: Some(stop), task })
    }

    /// Serves recorded replies on a free port of the loopback address.
    ///
    /// # Errors
    ///
    /// As [`Sim::start`].
    pub async fn start_replay(recorded: Vec<Recorded>, chunking: Chunking) -> io::Result<Self> {
        let config = Config { replay: Some(Replay { recorded, chunking }), ..Config::default() };
        Self::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The counters and the bill, and the way to wait for them.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The latest requests, oldest first (see [`Stats::requests`]).
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.stats.requests()
    }

    /// Whether the configured faults strike from now on; at first they do. Those that a request asks for always do.
    pub fn strikes(&self, on: bool) {
        self.shared.strikes.store(on, Ordering::Release);
    }

    /// Stops listening and closes every connection; both have happened when it returns.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        // It ends by itself now; that it was aborted or panicked changes nothing for the caller.
        let _ = (&mut self.task).await;
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every connection of a simulator shares.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) stats: Arc<Stats>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) provider: Provider,
    rules: Vec<Rule>,
    /// Whether the rules are in force.
    strikes: AtomicBool,
    fixed: Option<fixed::Rendered>,
    player: Option<Player>,
}

impl Shared {
    fn new(mut config: Config) -> Result<Self, String> {
        config.check()?;
        let rules = config.faults.iter().map(Rule::new).collect::<Result<_, _>>()?;
        let fixed = config.fixed.as_ref().map(|fixed| fixed::Rendered::new(&config, fixed));
        let player = config.replay.take().map(Player::new);
        Ok(Self { rules, fixed, player, ..Self::plain(config) })
    }

    /// Without faults, fixed or recorded replies.
    fn plain(config: Config) -> Self {
        let stats = Arc::new(Stats::default());
        Self {
            engine: Arc::new(Engine::new(config.engine.clone(), Arc::clone(&stats))),
            provider: Provider::new(config.provider.clone()),
            stats,
            rules: Vec::new(),
            strikes: AtomicBool::new(true),
            fixed: None,
            player: None,
            config,
        }
    }

    /// The rules in force.
    fn striking(&self) -> &[Rule] {
        if self.strikes.load(Ordering::Acquire) { &self.rules } else { &[] }
    }

    /// The generator for draw number `number`.
    fn draw(&self, number: u64) -> Rng {
        let mut digest = Digest::new(self.config.seed);
        digest.number(number);
        Rng::with_seed(digest.finish())
    }

    /// The recorded or fixed reply to a request, if there is one.
    fn canned(&self, request: &Request, seed: u64) -> Option<api::Reply> {
        if request.path().starts_with("/sim/") {
            return None;
        }
        match (&self.player, &self.fixed) {
            (Some(player), _) => player.next(request, seed),
            (None, Some(fixed)) => fixed.reply(request),
            (None, None) => None,
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
