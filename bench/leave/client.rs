//! Clients that ask, and wait in the phase that they are to leave in.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Phase;
use crate::edge::PATIENCE;

/// What clients speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1: a client leaves by closing its connection.
    One,
    /// HTTP/2: a client leaves by resetting its stream.
    Two,
}

impl Speaks {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "1.1",
            Self::Two => "2",
        }
    }
}

/// One that waits; dropping it is its leaving.
#[expect(dead_code, reason = "what is held is held to be dropped")]
pub(crate) enum Client {
    One(TcpStream),
    /// Without a head yet.
    Asking(ResponseFuture),
    Reading(RecvStream),
}

/// Those of one phase.
pub(crate) struct Clients {
    pub(crate) clients: Vec<Client>,
    /// HTTP/2 connections, which outlive their streams.
    _connections: Vec<SendRequest<Bytes>>,
}

const PATH: &str = "/v1/chat/completions";
/// Streams on a connection of HTTP/2, fewer than a server allows by default.
const STREAMS: usize = 50;

impl Clients {
    /// Opens so many, each in that phase as far as it can see.
    pub(crate) async fn open(
        addr: SocketAddr,
        phase: &Phase,
        speaks: Speaks,
        model: &str,
        count: usize,
    ) -> io::Result<Self> {
        let (mut clients, mut connections) = (Vec::with_capacity(count), Vec::new());
        let body = format!(
            "{{\"model\":\"m{model}\",\"stream\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"Say something.\"}}]}}",
            phase.stream
        );
        for number in 0..count {
            if speaks == Speaks::One {
                clients.push(in_time(one(addr, phase, &body)).await?);
                continue;
            }
            if number % STREAMS == 0 {
                let stream = TcpStream::connect(addr).await?;
                // Else the kernel holds the reset back until what went before it is acknowledged.
                stream.set_nodelay(true)?;
                let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                connections.push(sender);
            }
            if let Some(sender) = connections.last() {
                clients.push(in_time(two(sender, phase, &body)).await?);
            }
        }
        Ok(Self { clients, _connections: connections })
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await?
}

async fn one(addr: SocketAddr, phase: &Phase, body: &str) -> io::Result<Client> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (fault, length) = (phase.fault, body.len());
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         x-sim-fault: {fault}\r\nx-sim-text: canary sings\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    if let Some(wanted) = phase.sees {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            if stream.read_buf(&mut seen).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(Client::One(stream))
}

async fn two(sender: &SendRequest<Bytes>, phase: &Phase, body: &str) -> io::Result<Client> {
    let mut sender = sender.clone().ready().await.map_err(io::Error::other)?;
    let request = Request::post(format!("http://edge{PATH}"))
        .header("content-type", "application/json")
        .header("x-sim-fault", phase.fault)
        .header("x-sim-text", "canary sings")
        .body(())
        .map_err(io::Error::other)?;
    let (response, mut upload) = sender.send_request(request, false).map_err(io::Error::other)?;
    upload.send_data(Bytes::copy_from_slice(body.as_bytes()), true).map_err(io::Error::other)?;
    let Some(wanted) = phase.sees else { return Ok(Client::Asking(response)) };
    let mut body = response.await.map_err(io::Error::other)?.into_body();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let Some(piece) = body.data().await else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let piece = piece.map_err(io::Error::other)?;
        let _ = body.flow_control().release_capacity(piece.len());
        seen.extend_from_slice(&piece);
    }
    Ok(Client::Reading(body))
}
