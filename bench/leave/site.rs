//! The edge before one upstream, which has a cluster of its own for each version of HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::UPSTREAMS;
use crate::edge::{Edge, until};

/// Runs the edge before that upstream.
///
/// # Errors
/// As [`Edge::start`].
pub(crate) async fn start(program: &Path, upstream: SocketAddr) -> io::Result<Edge> {
    let mut config = "clusters:\n".to_owned();
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
    Edge::start(program, &config, |_| {}).await
}

/// How many replies have begun to come from the upstream of that version.
///
/// # Errors
/// Where the edge cannot be asked.
pub(crate) async fn heads(edge: &Edge, http: &str) -> io::Result<u64> {
    edge.total("llm_provider_latency_seconds_count", &format!("cluster=\"c{http}\"")).await
}

/// Waits until nothing is counted any more, and no more files are open than `before`. Says how many are.
///
/// # Errors
/// What has leaked.
pub(crate) async fn files_at_rest(edge: &Edge, before: Option<usize>) -> io::Result<usize> {
    edge.at_rest().await?;
    // Idle connections are kept for a second, and looked for as often.
    match before {
        Some(before) => until("the end of its connections", async || Ok(edge.files()? <= before)).await?,
        None => tokio::time::sleep(Duration::from_secs(5)).await,
    }
    edge.files()
}
