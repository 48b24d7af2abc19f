//! Clients that look at every reply, and at when it began.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::http1::{Head, Incoming};

/// What every reply must say: a token for each word.
pub(crate) const TEXT: &str =
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";
/// What is asked, as long as it is: the engine takes its time for it.
const PROMPT: &str = "Count from one to sixteen in words, one after the other, with a blank between two of them, \
                      and do say nothing else, please, neither before that nor after it";
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a reply is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As a stream, of chat.
    Stream,
    /// Whole, of the older API: so that the simulator can tell the two by their paths.
    Whole,
}

impl Kind {
    /// The path it is asked at.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Stream => "/v1/chat/completions",
            Self::Whole => "/v1/completions",
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) model: &'static str,
    pub(crate) kind: Kind,
    /// The caller's name, which is in its key too.
    pub(crate) caller: &'static str,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) number: u64,
    pub(crate) ask: Ask,
    /// When it was to be sent.
    pub(crate) due: Instant,
    /// From then to its first content; of a whole reply, and of a refusal, to its end.
    pub(crate) first: Duration,
    /// From then to its end.
    pub(crate) took: Duration,
    pub(crate) end: End,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With all that it must say.
    Served,
    /// With an error status, and a `retry-after` or not.
    Refused { status: u16, after: bool },
    /// With anything else.
    Broken(String),
}

impl Sample {
    pub(crate) fn is_served(&self) -> bool {
        self.end == End::Served
    }

    pub(crate) fn ended(&self) -> Instant {
        self.due + self.took
    }
}

/// The key of a caller.
pub(crate) fn key(caller: &str) -> String {
    format!("{caller}-0123456789abcdef")
}

/// How the request of that number is named in the log.
pub(crate) const ID: &str = "strain-";

/// Clients that share their connections.
pub(crate) struct Clients {
    addr: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Clients {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, idle: Mutex::default() }
    }

    /// Asks, and looks at the answer.
    pub(crate) async fn ask(self: Arc<Self>, ask: Ask, number: u64, due: Instant) -> Sample {
        let mut first = None;
        let end = match timeout(PATIENCE, self.exchange(ask, number, &mut first)).await {
            Ok(Ok(end)) => end,
            Ok(Err(fault)) => End::Broken(fault.to_string()),
            Err(_) => End::Broken("no end".to_owned()),
        };
        let took = due.elapsed();
        Sample { number, ask, due, first: first.map_or(took, |at| at.duration_since(due)), took, end }
    }

    async fn exchange(&self, ask: Ask, number: u64, first: &mut Option<Instant>) -> Result<End, Fault> {
        let mut stream = self.connection().await?;
        stream.write_all(request(ask, number).as_bytes()).await?;
        let (mut reply, mut head) = (Incoming::new(), Vec::new());
        let mut buffer = [0; 8192];
        loop {
            let size = stream.read(&mut buffer).await?;
            let read = buffer.get(..size).filter(|read| !read.is_empty());
            let read = read.ok_or_else(|| Fault::Lost("the connection ended within a reply".to_owned()))?;
            if head.is_empty() || !is_served(&head) {
                head.extend_from_slice(read);
                if let Some(refused) = refused(&head)? {
                    self.keep(stream, Head::read(&head).is_some_and(|head| head.close));
                    return Ok(refused);
                }
                if is_served(&head) {
                    reply.take(&head)?;
                }
            } else {
                reply.take(read)?;
            }
            if ask.kind == Kind::Stream && first.is_none() && has_content(&reply.body) {
                *first = Some(Instant::now());
            }
            if reply.is_whole() {
                break;
            }
        }
        self.keep(stream, reply.close);
        let said = match ask.kind {
            Kind::Stream => streamed(&reply.body),
            Kind::Whole => whole(&reply.body),
        };
        Ok(match said {
            Ok(text) if text == TEXT => End::Served,
            Ok(text) => End::Broken(format!("it says {text:?}")),
            Err(why) => End::Broken(why),
        })
    }

    async fn connection(&self) -> io::Result<TcpStream> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(stream) = kept {
            return Ok(stream);
        }
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn keep(&self, stream: TcpStream, close: bool) {
        if !close {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    }
}

fn request(ask: Ask, number: u64) -> String {
    let body = match ask.kind {
        Kind::Stream => format!(
            "{{\"model\":\"{}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}",
            ask.model
        ),
        Kind::Whole => format!("{{\"model\":\"{}\",\"prompt\":\"{PROMPT}\"}}", ask.model),
    };
    let (path, key, length) = (ask.kind.path(), key(ask.caller), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n\
         x-request-id: {ID}{number}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Whether there is a whole head, of an answer.
fn is_served(bytes: &[u8]) -> bool {
    Head::read(bytes).is_some_and(|head| head.status() == Some(200))
}

/// An error reply, once it is whole.
fn refused(bytes: &[u8]) -> Result<Option<End>, Fault> {
    let Some(head) = Head::read(bytes) else { return Ok(None) };
    let Some(status) = head.status() else { return Err(Fault::Damaged("no status line".to_owned())) };
    let length = head.length.unwrap_or_default();
    if status == 200 || bytes.len() < head.size + length {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(bytes.get(..head.size).unwrap_or_default()).to_ascii_lowercase();
    Ok(Some(End::Refused { status, after: text.contains("\r\nretry-after: ") }))
}

/// Whether an event says anything.
fn has_content(body: &[u8]) -> bool {
    const CONTENT: &[u8] = b"\"content\":\"";
    memchr::memmem::find_iter(body, CONTENT)
        .any(|at| !matches!(body.get(at + CONTENT.len()), None | Some(b'"')))
}

/// What a stream says.
fn streamed(body: &[u8]) -> Result<String, String> {
    let (mut text, mut is_done) = (String::new(), false);
    for event in String::from_utf8_lossy(body).lines().filter_map(|line| line.strip_prefix("data: ")) {
        if event == "[DONE]" {
            is_done = true;
            continue;
        }
        let event = read(event.as_bytes())?;
        text += event.pointer("/choices/0/delta/content").and_then(Value::as_str).unwrap_or_default();
    }
    if is_done { Ok(text) } else { Err("a stream without its end".to_owned()) }
}

/// What a whole reply says.
fn whole(body: &[u8]) -> Result<String, String> {
    Ok(read(body)?.pointer("/choices/0/text").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn read(json: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
    match value.pointer("/error/message") {
        None => Ok(value),
        Some(message) => Err(format!("an error in a 200: {message}")),
    }
}
