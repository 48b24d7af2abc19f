//! Idle HTTP/1 connections.
//!
//! Pingora's pool spawns a task and arms a timer for every connection that it takes back, and asks the kernel for its
//! peer when it gives it out: a tenth of an exchange's cost. Here a connection lies in a list. That its peer has closed
//! it is seen when it is taken, at the cost of a look at its readiness, and by a sweep that goes round while there are
//! any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::http1::Http1;

/// How many sweeps a connection outlives.
const SWEEPS: u64 = 4;

/// The idle connections of a cluster.
#[derive(Debug)]
pub(super) struct Pool {
    /// The most that are kept of one peer.
    most: usize,
    /// How long one is kept.
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By peer; the one used last is used next.
    lists: HashMap<u64, Vec<Idle>>,
    /// Sweeps so far.
    sweeps: u64,
    /// Whether the sweep goes round.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    /// The sweeps there had been when it came.
    since: u64,
}

impl Pool {
    pub(super) fn new(most: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self { most, idle, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open connection to that peer.
    pub(super) fn take(&self, peer: u64) -> Option<Box<Http1>> {
        loop {
            let mut idle = self.lock().lists.get_mut(&peer)?.pop()?;
            if idle.connection.is_idle() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection to that peer, unless it cannot be used again or there are enough.
    pub(super) fn put(self: &Arc<Self>, peer: u64, mut connection: Box<Http1>) {
        if !connection.is_free() || self.most == 0 {
            return;
        }
        let mut state = self.lock();
        let since = state.sweeps;
        let list = state.lists.entry(peer).or_default();
        if list.len() >= self.most {
            return;
        }
        list.push(Idle { connection, since });
        if !std::mem::replace(&mut state.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle / SWEEPS as u32));
        }
    }

    /// Closes what was idle for too long, or is closed already. Says whether anything is left.
    fn sweep(&self) -> bool {
        let mut state = self.lock();
        state.sweeps += 1;
        let now = state.sweeps;
        state.lists.retain(|_, list| {
            // A connection that came between two sweeps is at most as old as the sweeps since then.
            list.retain_mut(|idle| now - idle.since < SWEEPS && idle.connection.is_idle());
            !list.is_empty()
        });
        state.swept = !state.lists.is_empty();
        state.swept
    }
}

async fn sweep(pool: Weak<Pool>, pause: Duration) {
    loop {
        tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::http1::Wire;
    use super::*;

    async fn connection(gauge: &IntGauge) -> (Box<Http1>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Box::new(Http1::new(Wire::Plain(client.unwrap()), gauge)), server.unwrap().0)
    }

    fn gauge() -> IntGauge {
        IntGauge::new("open", "connections").unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_by_its_own_peer_alone() {
        let (pool, gauge) = (Pool::new(4, Duration::from_secs(60)), gauge());
        let (connection, _server) = connection(&gauge).await;
        pool.put(7, connection);
        assert!(pool.take(8).is_none());
        assert!(pool.take(7).is_some());
        assert!(pool.take(7).is_none());
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_were_asked_for() {
        let (pool, gauge) = (Pool::new(2, Duration::from_secs(60)), gauge());
        let mut servers = Vec::new();
        for _ in 0..3 {
            let (connection, server) = connection(&gauge).await;
            pool.put(7, connection);
            servers.push(server);
        }
        assert_eq!(gauge.get(), 2);
    }

    #[tokio::test]
    async fn what_the_peer_has_closed_is_swept_away() {
        let (pool, gauge) = (Pool::new(4, Duration::from_millis(40)), gauge());
        let (connection, server) = connection(&gauge).await;
        pool.put(7, connection);
        drop(server);
        let swept = async {
            while gauge.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), swept).await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_in_time_and_no_sooner_than_three_sweeps() {
        let (pool, gauge) = (Pool::new(4, Duration::from_secs(3600)), gauge());
        let (connection, _server) = connection(&gauge).await;
        pool.put(7, connection);
        assert!((0..3).all(|_| pool.sweep()));
        assert_eq!(gauge.get(), 1);
        assert!(!pool.sweep());
        assert_eq!(gauge.get(), 0);
    }
}
