//! An HTTP/1 client that hides nothing: what it sends is written out, what it gets is kept apart.

use std::net::SocketAddr;
use std::{fmt, io};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Read, not yet understood.
    held: Vec<u8>,
}

/// What came back.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In their order, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, out of its chunks.
    pub(crate) body: Vec<u8>,
    /// The statuses of the interim replies before it.
    pub(crate) interim: Vec<u16>,
    /// Whether the body came to the end that its framing announced.
    pub(crate) whole: bool,
}

/// A GET. `fields` are whole lines with their ends.
pub(crate) fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: edge\r\n{fields}\r\n").into_bytes()
}

/// A POST of JSON with its length. `fields` are whole lines with their ends.
pub(crate) fn post(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{fields}\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Client {
    pub(crate) async fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to a server that may have closed already.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        soon("sending", self.stream.write_all(bytes)).await
    }

    /// Sends one request and reads its reply.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Reply {
        self.send(request).await;
        self.reply().await
    }

    /// The next reply with its body.
    pub(crate) async fn reply(&mut self) -> Reply {
        soon("a reply", self.read_reply()).await.expect("the connection was closed without a reply")
    }

    /// The next reply, or nothing if the connection ends first.
    pub(crate) async fn reply_or_end(&mut self) -> Option<Reply> {
        soon("a reply or the end", self.read_reply()).await
    }

    /// The next head alone: that of an interim reply, or of one to a HEAD.
    pub(crate) async fn head(&mut self) -> Reply {
        soon("a head", self.read_head()).await.expect("the connection was closed without a head")
    }

    /// Waits until `wanted` has come. What was read stays to be read.
    pub(crate) async fn saw(&mut self, wanted: &str) {
        let found = soon(wanted, self.find(wanted.as_bytes())).await;
        assert!(found.is_some(), "{wanted:?} is not in {:?}", String::from_utf8_lossy(&self.held));
    }

    /// Whether anything has come back yet.
    pub(crate) fn has_reply(&mut self) -> bool {
        !matches!(self.stream.try_read_buf(&mut self.held), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// What comes up to the end of the connection; a reset ends it too.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        soon("the connection's end", async { while self.fill().await {} }).await;
        std::mem::take(&mut self.held)
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        let mut interim = Vec::new();
        loop {
            let mut reply = self.read_head().await?;
            if reply.status < 200 {
                interim.push(reply.status);
                continue;
            }
            reply.interim = interim;
            self.read_body(&mut reply).await;
            return Some(reply);
        }
    }

    async fn read_head(&mut self) -> Option<Reply> {
        let end = self.find(b"\r\n\r\n").await? + 4;
        let head = String::from_utf8(self.held.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Reply { status, headers: lines.filter_map(field).collect(), ..Reply::default() })
    }

    async fn read_body(&mut self, reply: &mut Reply) {
        let length = reply.header("content-length").map(|length| length.parse().unwrap());
        let chunked = reply.header("transfer-encoding").is_some();
        assert!(!(chunked && length.is_some()), "a reply must not be framed twice: {reply:?}");
        match length {
            _ if chunked => reply.whole = self.read_chunks(&mut reply.body).await.is_some(),
            None if matches!(reply.status, 204 | 304) => reply.whole = true,
            None => reply.body = self.rest().await,
            Some(length) => {
                while self.held.len() < length && self.fill().await {}
                reply.whole = self.held.len() >= length;
                reply.body = self.held.drain(..length.min(self.held.len())).collect();
            }
        }
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let end = self.find(b"\r\n").await?;
            let line: Vec<u8> = self.held.drain(..end + 2).collect();
            let size = std::str::from_utf8(&line[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.held.len() < size + 2 {
                if !self.fill().await {
                    body.extend(self.held.drain(..size.min(self.held.len())));
                    return None;
                }
            }
            body.extend(self.held.drain(..size));
            assert_eq!(self.held.drain(..2).as_slice(), b"\r\n", "a chunk ends where its size says");
            if size == 0 {
                return Some(());
            }
        }
    }

    /// Where `wanted` begins in what is held; reads until it is there.
    async fn find(&mut self, wanted: &[u8]) -> Option<usize> {
        let mut from = 0;
        loop {
            if let Some(at) = self.held[from..].windows(wanted.len()).position(|bytes| bytes == wanted) {
                return Some(from + at);
            }
            from = self.held.len().saturating_sub(wanted.len() - 1);
            if !self.fill().await {
                return None;
            }
        }
    }

    /// False at the end.
    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.held).await, Ok(1..))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        write!(f, "{} {:?} {:?} {start}", self.status, self.interim, self.headers)
    }
}

impl Reply {
    /// The one value of a header; there must not be two.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.headers);
        value.map(String::as_str)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }
}
