//! A client's connection.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fault::Fault;
use crate::http1::Incoming;

/// How much is read at once, bytes.
const READ: usize = 4096;

/// A connection with at most one request on it.
pub(crate) struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The reply as far as it has come.
    pub(crate) reply: Incoming,
}

impl Link {
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; READ], reply: Incoming::new() })
    }

    /// Sends a request and forgets the last reply.
    ///
    /// # Errors
    /// Where the connection does not take it.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), Fault> {
        self.reply.reset();
        Ok(self.stream.write_all(request).await?)
    }

    /// Waits for more of the reply.
    ///
    /// # Errors
    /// Where the connection ends, or what comes is no reply.
    pub(crate) async fn more(&mut self) -> Result<(), Fault> {
        match self.stream.read(&mut self.buffer).await? {
            0 => Err(Fault::Lost("the connection ended within a reply".to_owned())),
            size => self.reply.take(self.buffer.get(..size).unwrap_or_default()),
        }
    }
}
