//! What every test needs: the edge as a process, simulated upstreams, and clients.

pub(crate) mod absent;
pub(crate) mod client;
pub(crate) mod edge;
pub(crate) mod h2client;
pub(crate) mod scripted;

use std::net::SocketAddr;
use std::time::Duration;

use forebay::sim::{Config, Sim};

pub(crate) use client::{Client, Reply, get, post};
pub(crate) use edge::Edge;

/// How long anything that must happen may take, on a machine that is busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The result of `work`, which must come before the deadline.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Waits until the edge has said that so often.
pub(crate) async fn heard(edge: &Edge, what: &str, times: usize) {
    soon(what, async {
        while edge.said().matches(what).count() < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(edge.said().matches(what).count(), times, "{}", edge.said());
}

/// A simulator with these settings, on a free port.
pub(crate) async fn sim(config: Config) -> Sim {
    Sim::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

/// A cluster of that one simulator, for every model. It is not probed, so that it counts the tests' requests only.
pub(crate) fn fleet(sim: &Sim) -> String {
    format!(
        "clusters: {{sim: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\n",
        sim.addr()
    )
}

/// A cluster `sim` of these addresses, with settings of its own, for every model. Where the balance is by priority,
/// the first goes first.
pub(crate) fn cluster_of(addresses: &[SocketAddr], settings: &str) -> String {
    let endpoint = |(number, address): (usize, &SocketAddr)| {
        format!("{{url: \"http://{address}\", priority: {number}}}")
    };
    let endpoints: Vec<String> = addresses.iter().enumerate().map(endpoint).collect();
    let check = if settings.contains("health:") { "" } else { "health: {check: none}, " };
    format!(
        "clusters: {{sim: {{provider: simulator, endpoints: [{}], {check}{settings}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: sim}}]}}}}\n",
        endpoints.join(", ")
    )
}

/// Nothing is sent again that an upstream may have taken: what a test sees is what one attempt did.
pub(crate) const ONE_TRY: &str = "retry: {on: [unsent], delay: 0s}\n";

/// A listener with these settings beside its address.
pub(crate) fn listener(settings: &str) -> String {
    format!("listeners: [{{address: \"127.0.0.1:${{SERVER_PORT}}\", {settings}}}]\n")
}
