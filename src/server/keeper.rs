//! The background service that keeps endpoints known: resolved, listed, probed and drained.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use super::callers::{keep_issuer, watch_keys};
use crate::lifecycle::Lifecycle;
use crate::provider::credential::Outside;
use crate::snapshot::Snapshot;
use crate::upstream::cluster::{Cluster, keep_draining};
use crate::upstream::discover::{keep_resolved, resolve_names, watch_file};
use crate::upstream::keys::{Pool, ProviderKey};
use crate::upstream::probe::keep_probing;
use crate::upstream::resolve::Resolver;
use crate::upstream::{fetch, keys, notice};

/// How long readiness waits for the first answers of the name servers.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);
/// How long it waits for the first secrets.
const FIRST_SECRETS: Duration = Duration::from_secs(15);

/// The keeper of every cluster of a snapshot.
pub(super) struct Keeper {
    snapshot: Arc<Snapshot>,
    lifecycle: Arc<Lifecycle>,
}

impl Keeper {
    pub(super) fn new(snapshot: Arc<Snapshot>, lifecycle: Arc<Lifecycle>) -> Self {
        Self { snapshot, lifecycle }
    }

    async fn resolve_all(&self, resolver: &Arc<Resolver>) {
        let mut all = tokio::task::JoinSet::new();
        for cluster in &self.snapshot.clusters {
            let (cluster, resolver) = (Arc::clone(cluster), Arc::clone(resolver));
            all.spawn(async move { resolve_names(&cluster, &resolver).await });
        }
        // A name server that does not answer must not keep the other clusters from serving.
        let _ = tokio::time::timeout(FIRST_ANSWERS, all.join_all()).await;
    }
}

/// Keeps fresh what a cluster's requests are proved with.
async fn keep_credential(cluster: Arc<Cluster>) {
    let what = format!("cluster {}", cluster.name());
    cluster.spec.credential.keep(&what, fetch::outside()).await;
}

/// Looks for the secrets of keys that are still to be fetched, so that what is missing is said before anything is served. A
/// Vault that does not answer must not keep the other clusters from serving.
async fn first_secrets(snapshot: &Snapshot) {
    let mut all = tokio::task::JoinSet::new();
    for (pool, key) in every_key(snapshot).filter(|(_, key)| !key.is_known()) {
        all.spawn(async move { keys::first_look(&pool, &key, &outside_of(&key)).await });
    }
    let _ = tokio::time::timeout(FIRST_SECRETS, all.join_all()).await;
}

/// Every key that may change, with its pool.
fn every_key(snapshot: &Snapshot) -> impl Iterator<Item = (Arc<Pool>, Arc<ProviderKey>)> {
    let pools = snapshot.clusters.iter().filter_map(|cluster| cluster.pool.as_ref());
    pools.flat_map(|pool| pool.keys().iter().map(|key| (Arc::clone(pool), Arc::clone(key))))
}

/// The world as the keeper of a key sees it.
fn outside_of(key: &ProviderKey) -> Outside {
    fetch::outside_trusting(key.authority())
}

/// Waits until an address takes connections: Pingora binds its listeners in its own time, and ready is who listens.
async fn until_listening(mut address: SocketAddr) {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[async_trait]
impl BackgroundService for Keeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let resolver = Resolver::from_system().map(Arc::new).inspect_err(|error| {
            log::error!("names cannot be resolved: {error}");
        });
        if let Ok(resolver) = &resolver {
            self.resolve_all(resolver).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for cluster in &self.snapshot.clusters {
            tasks.spawn(keep_credential(Arc::clone(cluster)));
        }
        first_secrets(&self.snapshot).await;
        for (pool, key) in every_key(&self.snapshot) {
            let outside = outside_of(&key);
            tasks.spawn(keys::keep(pool, key, outside));
        }
        for issuer in self.snapshot.access.issuers() {
            tasks.spawn(keep_issuer(Arc::clone(issuer)));
        }
        for listener in &self.snapshot.listeners {
            until_listening(listener.address).await;
        }
        self.lifecycle.started();
        for cluster in &self.snapshot.clusters {
            if let Ok(resolver) = &resolver {
                tasks.spawn(keep_resolved(Arc::clone(cluster), Arc::clone(resolver)));
            }
            tasks.spawn(watch_file(Arc::clone(cluster)));
            tasks.spawn(keep_probing(Arc::clone(cluster)));
            tasks.spawn(keep_draining(Arc::clone(cluster)));
        }
        if let Some(file) = self.snapshot.access.file() {
            tasks.spawn(watch_keys(Arc::clone(&self.snapshot.access), file.to_owned()));
        }
        if let Some(file) = self.snapshot.drain_file.clone() {
            tasks.spawn(notice::watch(file, self.snapshot.clusters.clone()));
        }
        // Streams that still run while the process drains may yet need another endpoint: the tasks end with it.
        let _ = shutdown.changed().await;
        while tasks.join_next().await.is_some() {}
    }
}
