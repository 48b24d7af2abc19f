//! The listener: accepts, tells HTTP/1 from HTTP/2 by the first bytes, and ends every connection when it ends.

use super::stats::Counter;
use super::{Shared, http1, http2};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Serves until `stop` is sent or dropped; then every connection is closed.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(stream, &shared, &mut connections),
                // Out of descriptors, most likely: closing connections will free some.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = &mut stop => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

fn accept(stream: TcpStream, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let number = shared.stats.add(Counter::ConnectionsAccepted, 1) + 1;
    let mut rng = shared.draw(u64::MAX - number);
    if shared.striking().iter().any(|rule| rule.refuses(rng.f64())) {
        shared.stats.add(Counter::Broken, 1);
        return;
    }
    let open = shared.stats.hold(Counter::ConnectionsOpen);
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        // How a connection ends is its client's affair; what matters of it is in the stats.
        let _ = connection(stream, &shared, number).await;
        drop(open);
    });
}

async fn connection(mut stream: TcpStream, shared: &Arc<Shared>, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(8 << 10);
    loop {
        let seen = buffer.len().min(PREFACE.len());
        match (buffer.get(..seen), PREFACE.get(..seen)) {
            (Some(seen), Some(start)) if seen == start && seen.len() < PREFACE.len() => {}
            (Some(seen), Some(start)) if seen == start => {
                return http2::run(Rewound { before: buffer, stream }, shared, number).await;
            }
            _ => return http1::run(stream, buffer, shared, number).await,
        }
        let read = stream.read_buf(&mut buffer);
        let n = match shared.config.keep_alive_ms {
            None => read.await?,
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), read).await.unwrap_or(Ok(0))?,
        };
        if n == 0 {
            return Ok(());
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with bytes already read put back before it.
struct Rewound {
    before: BytesMut,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let n = self.before.len().min(out.remaining());
        out.put_slice(self.before.get(..n).unwrap_or_default());
        self.before.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
