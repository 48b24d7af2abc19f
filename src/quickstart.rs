//! `forebay run --quickstart`: an edge with a simulated fleet behind it, so that the first request works without any
//! API key. A provider whose key is in the environment is real.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use forebay::config;
use forebay::sim::{Config, EngineConfig, Sim};

/// Nodes of the simulated GPU cluster.
const NODES: usize = 3;

/// What one cloud is in the quick start.
struct Cloud {
    name: &'static str,
    /// The variable that makes it real.
    key: &'static str,
    /// The aliases that lead to it.
    aliases: &'static [&'static str],
    /// Whether it is simulated when it is not real.
    simulated: bool,
}

const CLOUDS: &[Cloud] = &[
    Cloud {
        name: "openai",
        key: "OPENAI_API_KEY",
        aliases: &["gpt-4o", "gpt-*", "o3*", "o4*", "text-embedding-3-small", "text-embedding-*"],
        simulated: true,
    },
    Cloud {
        name: "anthropic",
        key: "ANTHROPIC_API_KEY",
        aliases: &["claude-sonnet-5", "claude-*"],
        simulated: true,
    },
    Cloud { name: "google", key: "GOOGLE_API_KEY", aliases: &["gemini-*"], simulated: false },
    Cloud { name: "mistral", key: "MISTRAL_API_KEY", aliases: &["mistral-*"], simulated: false },
    Cloud { name: "groq", key: "GROQ_API_KEY", aliases: &["groq/*"], simulated: false },
    Cloud { name: "deepseek", key: "DEEPSEEK_API_KEY", aliases: &["deepseek-*"], simulated: false },
    Cloud { name: "xai", key: "XAI_API_KEY", aliases: &["grok-*"], simulated: false },
    Cloud { name: "openrouter", key: "OPENROUTER_API_KEY", aliases: &["openrouter/*"], simulated: false },
];

impl Cloud {
    fn is_real(&self) -> bool {
        std::env::var(self.key).is_ok_and(|key| !key.is_empty())
    }
}

/// Starts the fleet and serves in front of it.
pub(crate) fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let fleet = runtime.block_on(start_fleet()).map_err(|error| error.to_string())?;
    let text = configuration(&fleet);
    let loaded = config::load_text(&text, Path::new("quickstart"), &super::environment)
        .map_err(|diagnostics| diagnostics.to_string())?;
    introduce(&loaded.snapshot)?;
    super::serve(loaded)
}

/// The simulators, which live as long as they are held.
struct Fleet {
    nodes: Vec<Sim>,
    cloud: Sim,
}

async fn start_fleet() -> std::io::Result<Fleet> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let engine =
        EngineConfig { decode_tps: Some(50.0), prefill_tps: Some(5000.0), ..EngineConfig::default() };
    let config = |seed, models: &[&str]| Config {
        seed,
        models: models.iter().map(|name| (*name).to_owned()).collect(),
        engine: engine.clone(),
        ..Config::default()
    };
    let mut nodes = Vec::new();
    for seed in 0..NODES as u64 {
        nodes.push(Sim::start(config(seed, &["llama-3"]), anywhere).await?);
    }
    let cloud = Sim::start(config(99, &["gpt-4o", "claude-sonnet-5"]), anywhere).await?;
    Ok(Fleet { nodes, cloud })
}

/// The configuration in front of the fleet, as anyone could have written it.
fn configuration(fleet: &Fleet) -> String {
    let mut clusters = String::new();
    let mut models = String::new();
    let nodes: Vec<_> = fleet.nodes.iter().map(|node| format!("\"http://{}\"", node.addr())).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(clusters, "  gpu: {{provider: simulator, endpoints: [{}]}}", nodes.join(", "));
    let _ = writeln!(models, "  llama-3: {{deployments: [{{cluster: gpu}}]}}");
    for cloud in CLOUDS.iter().filter(|cloud| cloud.is_real() || cloud.simulated) {
        let _ = if cloud.is_real() {
            writeln!(
                clusters,
                "  {}: {{provider: {}, api_key: \"env:{}\"}}",
                cloud.name, cloud.name, cloud.key
            )
        } else {
            let at = fleet.cloud.addr();
            writeln!(clusters, "  {}: {{provider: simulator, endpoints: [\"http://{at}\"]}}", cloud.name)
        };
        for alias in cloud.aliases {
            let _ = match alias.strip_suffix("/*") {
                Some(_) => writeln!(
                    models,
                    "  \"{alias}\": {{deployments: [{{cluster: {}, model: \"*\"}}]}}",
                    cloud.name
                ),
                None => writeln!(models, "  \"{alias}\": {{deployments: [{{cluster: {}}}]}}", cloud.name),
            };
        }
    }
    format!(
        "listeners:\n  - address: \"${{SERVER_HOST:-127.0.0.1}}:${{SERVER_PORT:-8080}}\"\n\
         admin: {{address: \"127.0.0.1:${{METRICS_PORT:-9090}}\"}}\n\
         log: {{format: text}}\nanonymous: true\nclusters:\n{clusters}models:\n{models}"
    )
}

/// Says what is real, what is simulated, and what to try.
fn introduce(snapshot: &forebay::snapshot::Snapshot) -> Result<(), String> {
    let base = snapshot.listeners.first().map(|listener| listener.address.to_string()).unwrap_or_default();
    let mut text = String::from("Forebay with a simulated fleet\n\n");
    let _ = writeln!(text, "  {:<22} simulated: {NODES} GPU nodes", "llama-3");
    for cloud in CLOUDS.iter().filter(|cloud| cloud.is_real() || cloud.simulated) {
        let kind = if cloud.is_real() {
            format!("real: {}, with {}", cloud.name, cloud.key)
        } else {
            format!("simulated; set {} to make it real", cloud.key)
        };
        let _ = writeln!(text, "  {:<22} {kind}", cloud.aliases.first().copied().unwrap_or_default());
    }
    let hello = "{\"role\":\"user\",\"content\":\"Hello\"}";
    let _ = write!(
        text,
        "\nTry:\n\
         \x20 curl -s http://{base}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\":\"gpt-4o\",\"messages\":[{hello}]}}'\n\
         \x20 curl -sN http://{base}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\":\"llama-3\",\"stream\":true,\"messages\":[{hello}]}}'\n\
         \x20 curl -sN http://{base}/v1/messages -H 'anthropic-version: 2023-06-01' -d '{{\"model\":\"claude-sonnet-5\",\"max_tokens\":64,\"stream\":true,\"messages\":[{hello}]}}'\n\n\
         SDKs: base_url=\"http://{base}/v1\" for OpenAI's, \"http://{base}\" for Anthropic's; any api_key.\n\
         Health and metrics: http://{}/health and /metrics. Stop with Ctrl-C.\n",
        snapshot.admin.address
    );
    super::say(&text)
}
