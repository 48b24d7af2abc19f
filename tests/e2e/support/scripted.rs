//! An upstream that says exactly what it is told, right or wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// It listens until the test's runtime ends.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Scripted {
    /// Answers the request of that number, counted over all connections from 0, with those bytes; after none the
    /// connection is closed.
    pub(crate) async fn start(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (script, number, kept) = (Arc::new(script), Arc::new(AtomicUsize::new(0)), Arc::clone(&received));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, number, kept) = (Arc::clone(&script), Arc::clone(&number), Arc::clone(&kept));
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        locked(&kept).push(request);
                        let reply = script(number.fetch_add(1, SeqCst));
                        if reply.is_empty() || stream.write_all(&reply).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr, received }
    }

    /// The requests so far, as they came.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        locked(&self.received).clone()
    }

    /// A cluster of it alone, for every model.
    pub(crate) fn fleet(&self) -> String {
        format!(
            "clusters: {{one: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
             models: {{\"*\": {{deployments: [{{cluster: one}}]}}}}\n",
            self.addr
        )
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// A request with its body, which must have a length if there is one.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
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
    Some(bytes)
}

/// A chat completion that says `text`, with its length.
pub(crate) fn answer(text: &str) -> Vec<u8> {
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"finish_reason\":\"stop\",\
         \"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}}}]}}"
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}
