//! An upstream that says exactly what it is told, right or wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// It listens until the test's runtime ends.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

/// A request that has come whole.
pub(crate) struct Asked<'a> {
    /// How many came before it, over all connections.
    pub(crate) number: usize,
    /// How many came before it on its connection.
    pub(crate) turn: usize,
    /// The request as it came.
    pub(crate) text: &'a str,
}

/// What becomes of a request.
pub(crate) enum Turn {
    /// These bytes, and the connection stays.
    Say(Vec<u8>),
    /// These bytes after so long, and the connection stays.
    SayAfter(Duration, Vec<u8>),
    /// These bytes, and the connection is closed without a warning.
    SayAndClose(Vec<u8>),
    /// The connection is closed after so long.
    CloseAfter(Duration),
    /// The first bytes, the others once they are let go, and the connection is closed.
    Held(String, Arc<Notify>, String),
    /// These bytes one after the other, with a pause before each but the first, and the connection is closed.
    Pieces(Vec<String>, Duration),
}

impl Scripted {
    /// Treats each request as `script` says.
    pub(crate) async fn start(script: impl Fn(Asked<'_>) -> Turn + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<String>>> = Arc::default();
        let (script, number, kept) = (Arc::new(script), Arc::new(AtomicUsize::new(0)), Arc::clone(&received));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, number, kept) = (Arc::clone(&script), Arc::clone(&number), Arc::clone(&kept));
                tokio::spawn(async move {
                    let mut turn = 0;
                    while let Some(text) = read_request(&mut stream).await {
                        let said = script(Asked { number: number.fetch_add(1, SeqCst), turn, text: &text });
                        kept.lock().unwrap().push(text);
                        turn += 1;
                        if !take(said, &mut stream).await {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr, received }
    }

    /// The requests so far, as they came.
    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

/// Whether the connection stays.
async fn take(turn: Turn, stream: &mut TcpStream) -> bool {
    match turn {
        Turn::Say(bytes) => stream.write_all(&bytes).await.is_ok(),
        Turn::SayAfter(time, bytes) => {
            tokio::time::sleep(time).await;
            stream.write_all(&bytes).await.is_ok()
        }
        Turn::SayAndClose(bytes) => {
            let _ = stream.write_all(&bytes).await;
            false
        }
        Turn::CloseAfter(time) => {
            tokio::time::sleep(time).await;
            false
        }
        Turn::Held(first, let_go, rest) => {
            let _ = stream.write_all(first.as_bytes()).await;
            let_go.notified().await;
            let _ = stream.write_all(rest.as_bytes()).await;
            false
        }
        Turn::Pieces(pieces, pause) => {
            for (number, piece) in pieces.iter().enumerate() {
                if number > 0 {
                    tokio::time::sleep(pause).await;
                }
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    break;
                }
            }
            false
        }
    }
}

/// A request with its body, which must have a length if there is one.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let whole = end + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
    while bytes.len() < whole {
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A reply of JSON with its length.
pub(crate) fn json(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A chat completion that says `text`.
pub(crate) fn answer(text: &str) -> Vec<u8> {
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"finish_reason\":\"stop\",\
         \"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}}}]}}"
    );
    json(200, &body)
}
