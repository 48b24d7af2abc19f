//! Nodes that can fall sick.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use forebay::sim::{Config, EngineConfig, FaultRule, Sim};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{Kind, TEXT};

/// How a node fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sickness {
    /// It takes no connection.
    Closed,
    /// It leaves connections unanswered.
    Hole,
    /// It takes them, and fails so in streams and so in whole replies: see [`forebay::sim::Fault`].
    Fault { stream: &'static str, whole: &'static str },
}

/// A node.
pub(crate) enum Node {
    Running(Sim),
    /// Nobody else gets its address.
    Closed(#[expect(dead_code, reason = "it is held to hold the address")] TcpSocket),
    /// Its queue of connections is full.
    Hole(#[expect(dead_code, reason = "it is held to stay full")] (TcpListener, Vec<TcpStream>)),
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Node {
    /// One that is well, and can fall sick so.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) async fn start(engine: EngineConfig, sickness: Option<Sickness>) -> io::Result<Self> {
        let mut config = Config { text: Some(TEXT.to_owned()), engine, record: 0, ..Config::default() };
        if let Some(Sickness::Fault { stream, whole }) = sickness {
            let rule = |fault: &str, kind: Kind| FaultRule {
                fault: fault.to_owned(),
                path: Some(kind.path().to_owned()),
                ..FaultRule::default()
            };
            config.faults = vec![rule(stream, Kind::Stream), rule(whole, Kind::Whole)];
        }
        let sim = Sim::start(config, LOOPBACK).await?;
        sim.strikes(false);
        Ok(Self::Running(sim))
    }

    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Running(sim) => Some(sim.addr()),
            Self::Closed(_) | Self::Hole(_) => None,
        }
    }

    /// Falls sick.
    ///
    /// # Errors
    /// Where its address cannot be kept.
    pub(crate) async fn fall(self, sickness: Sickness) -> io::Result<Self> {
        let Self::Running(sim) = self else { return Ok(self) };
        let addr = sim.addr();
        match sickness {
            Sickness::Fault { .. } => {
                sim.strikes(true);
                return Ok(Self::Running(sim));
            }
            Sickness::Closed | Sickness::Hole => sim.shutdown().await,
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        if matches!(sickness, Sickness::Closed) {
            return Ok(Self::Closed(socket));
        }
        let listener = socket.listen(1)?;
        let mut queued = Vec::new();
        // On this machine a connection takes no time; one that does not come is not taken any more.
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
            queued.push(connected?);
        }
        Ok(Self::Hole((listener, queued)))
    }
}
