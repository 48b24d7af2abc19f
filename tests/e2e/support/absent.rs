//! Addresses at which nobody serves.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::soon;

/// An address that refuses connections, and that nobody else gets.
pub(crate) struct Closed {
    pub(crate) addr: SocketAddr,
    /// Keeps the address.
    socket: TcpSocket,
}

/// An address that leaves connections unanswered: its queue of them is full.
pub(crate) struct BlackHole {
    pub(crate) addr: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Closed {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { addr: socket.local_addr().unwrap(), socket }
    }
}

impl BlackHole {
    pub(crate) async fn new() -> Self {
        let Closed { addr, socket } = Closed::new();
        let listener = socket.listen(1).unwrap();
        let mut queued = Vec::new();
        let filling = async {
            // On this machine a connection takes no time; one that does not come is not taken any more.
            let connect = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr));
            while let Ok(connected) = connect().await {
                queued.push(connected.unwrap());
            }
        };
        soon("a full queue", filling).await;
        Self { addr, _listener: listener, _queued: queued }
    }
}
