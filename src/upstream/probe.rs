//! Active health checks that cost nothing: a connection, or a free `GET`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method};
use log::{info, warn};
use pingora_core::upstreams::peer::HttpPeer;

use super::cluster::Cluster;
use super::endpoint::{Endpoint, Health};
use super::http1::Pieces;
use super::link::{Broken, Links, Prepared, lacks_files};
use super::outgoing::Outgoing;

/// What an endpoint has to do to be thought healthy.
#[derive(Clone, Debug)]
pub enum Check {
    /// Nothing: only real traffic judges.
    Off,
    /// Accept a TCP connection.
    Tcp,
    /// Accept a connection, and complete the TLS handshake where the endpoint uses TLS.
    Connect,
    /// Answer a request.
    Http(HttpCheck),
}

/// A request and the answer expected.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// The method.
    pub method: Method,
    /// The target, from the root of the host.
    pub path: String,
    /// Headers, the credential among them where it is needed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The statuses that pass.
    pub statuses: Vec<u16>,
    /// What the body must contain.
    pub body: Option<String>,
}

/// What is checked, and how often.
#[derive(Clone, Debug)]
pub struct Probing {
    /// The check.
    pub check: Check,
    /// Between two checks of an endpoint.
    pub interval: Duration,
    /// The share by which the interval varies at random, 0 to 1, so that nodes are not probed in step.
    pub jitter: f64,
    /// How long one check may take.
    pub timeout: Duration,
    /// Passes in a row after which a failing endpoint is up.
    pub rise: u32,
    /// Failures in a row after which a healthy endpoint is down.
    pub fall: u32,
}

impl Probing {
    /// No checks.
    pub fn off() -> Self {
        Self {
            check: Check::Off,
            interval: Duration::from_secs(10),
            jitter: 0.1,
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// How many checks in a row said otherwise than the endpoint's present state.
#[derive(Clone, Copy, Debug, Default)]
struct Streak(u32);

impl Streak {
    /// Takes in one result; says whether the state turns.
    fn turn(&mut self, now: Health, found: Health, probing: &Probing) -> bool {
        if now == found {
            self.0 = 0;
            return false;
        }
        self.0 += 1;
        let needed = if found == Health::Up { probing.rise } else { probing.fall };
        let turns = self.0 >= needed.max(1);
        if turns {
            self.0 = 0;
        }
        turns
    }
}

/// Checks the endpoints of `cluster` again and again.
pub async fn keep_probing(cluster: Arc<Cluster>) {
    let probing = &cluster.spec.probing;
    if matches!(probing.check, Check::Off) {
        return;
    }
    let mut streaks: HashMap<String, Streak> = HashMap::new();
    loop {
        let endpoints = cluster.endpoints();
        let mut checks = tokio::task::JoinSet::new();
        for endpoint in endpoints.iter() {
            checks.spawn(probe(Arc::clone(&cluster), Arc::clone(endpoint)));
        }
        while let Some(done) = checks.join_next().await {
            let Ok((endpoint, result, took)) = done else { continue };
            // What the process lacks says nothing of the endpoint.
            if result.as_ref().is_err_and(|why| lacks_files(why)) {
                continue;
            }
            let streak = streaks.entry(endpoint.name.clone()).or_default();
            judge(&cluster, &endpoint, streak, &result, took);
        }
        streaks.retain(|name, _| endpoints.iter().any(|endpoint| endpoint.name == *name));
        let spread = 1.0 + probing.jitter * (fastrand::f64() * 2.0 - 1.0);
        tokio::time::sleep(probing.interval.mul_f64(spread.max(0.0))).await;
    }
}

fn judge(
    cluster: &Cluster,
    endpoint: &Endpoint,
    streak: &mut Streak,
    result: &Result<(), String>,
    took: Duration,
) {
    let found = if result.is_ok() { Health::Up } else { Health::Down };
    let now = endpoint.health();
    if !streak.turn(now, found, &cluster.spec.probing) {
        endpoint.probed(now, took);
        return;
    }
    endpoint.probed(found, took);
    match result {
        Ok(()) => info!("cluster {}: {} is up", cluster.name(), endpoint.name),
        Err(why) => warn!("cluster {}: {} is down: {why}", cluster.name(), endpoint.name),
    }
}

type Verdict = (Arc<Endpoint>, Result<(), String>, Duration);

async fn probe(cluster: Arc<Cluster>, endpoint: Arc<Endpoint>) -> Verdict {
    let probing = &cluster.spec.probing;
    let began = Instant::now();
    let result = match tokio::time::timeout(probing.timeout, check(&cluster, &endpoint)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {:?}", probing.timeout)),
    };
    (endpoint, result, began.elapsed())
}

/// An endpoint passes if any of its addresses does.
async fn check(cluster: &Cluster, endpoint: &Endpoint) -> Result<(), String> {
    let mut result = Err("its name is not resolved".to_owned());
    for _ in 0..endpoint.address_count() {
        let Some(handle) = endpoint.peer() else { break };
        result = check_address(cluster, endpoint, &handle).await;
        endpoint.reached(&handle, result.as_ref().map_or_else(|why| lacks_files(why), |()| true));
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn check_address(cluster: &Cluster, endpoint: &Endpoint, handle: &Prepared) -> Result<(), String> {
    let mut peer = handle.peer.clone();
    // A check must prove that a new connection works, so it shares none with the traffic.
    peer.group_key |= 1 << 32;
    match &cluster.spec.probing.check {
        Check::Off => Ok(()),
        Check::Tcp => {
            let address = peer._address.as_inet().copied().ok_or("not an internet address")?;
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|e| e.to_string())
        }
        Check::Connect => cluster.links.connect(&peer).await.map(drop),
        Check::Http(check) => {
            let key = cluster.pool.as_ref().and_then(|pool| Some((pool.header(), pool.any()?)));
            ask(&cluster.links, &peer, endpoint, check, key).await
        }
    }
}

/// A check has a clock of its own, which is shorter.
const PROBE_WRITE: Duration = Duration::from_secs(60);
/// The most of a reply that is searched for the expected text, bytes.
const BODY: usize = 64 * 1024;

async fn ask(
    links: &Links,
    peer: &HttpPeer,
    endpoint: &Endpoint,
    check: &HttpCheck,
    key: Option<(&HeaderName, HeaderValue)>,
) -> Result<(), String> {
    let text = |broken: Broken| broken.to_string();
    let (mut link, _) = links.connect(peer).await?;
    let mut head = Outgoing::new(&check.method, endpoint, [&check.path, "", ""], None);
    head.text("user-agent", "forebay-probe");
    // HTTP/2 has no such field (RFC 9113 §8.2.2).
    if !link.is_h2() {
        head.text("connection", "close");
    }
    if let Some((name, value)) = &key {
        head.set(name, value);
    }
    for (name, value) in &check.headers {
        head.set(name, value);
    }
    let head = link.head_of(&head).map_err(text)?;
    link.send(head, Pieces::new(), PROBE_WRITE).await.map_err(text)?;
    let status = link.head().await.map_err(text)?.status;
    if !check.statuses.contains(&status) {
        return Err(format!("it answered {status} to {} {}", check.method, check.path));
    }
    let Some(expected) = &check.body else { return Ok(()) };
    let mut body = Vec::new();
    while let Some(chunk) = link.body().await.map_err(text)? {
        body.extend_from_slice(&chunk);
        if memchr::memmem::find(&body, expected.as_bytes()).is_some() {
            return Ok(());
        }
        if body.len() > BODY {
            break;
        }
    }
    Err(format!("its answer to {} {} does not contain {expected:?}", check.method, check.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_streak_to_turn_a_state() {
        let probing = Probing { rise: 2, fall: 3, ..Probing::off() };
        let mut streak = Streak::default();
        let turns = |streak: &mut Streak, now, found| streak.turn(now, found, &probing);
        assert!(!turns(&mut streak, Health::Up, Health::Down));
        assert!(!turns(&mut streak, Health::Up, Health::Down));
        assert!(!turns(&mut streak, Health::Up, Health::Up));
        assert!(!turns(&mut streak, Health::Up, Health::Down));
        assert!(!turns(&mut streak, Health::Up, Health::Down));
        assert!(turns(&mut streak, Health::Up, Health::Down));
        assert!(!turns(&mut streak, Health::Down, Health::Up));
        assert!(turns(&mut streak, Health::Down, Health::Up));
    }
}
