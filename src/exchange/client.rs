//! The client's side of an exchange: what was committed to it, and whether it is still there.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::headers;
use super::session::Session;
use crate::dialect::quota::Quotas;
use crate::dialect::{Dialect, Operation};
use crate::error::Error;
use crate::frame::http1::Reply;

/// What the client was sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: any answer is still possible.
    Nothing,
    /// The head of a stream.
    Stream,
    /// The head of a whole reply.
    Whole,
    /// Everything.
    All,
}

/// Who is at the other end.
enum End<'a> {
    /// The client itself.
    Session(Session<'a>),
    /// Nobody: it has the client's headers, never leaves, and what it is sent goes nowhere.
    Nobody(Box<HeaderMap>),
}

/// The client of one exchange.
pub struct Client<'a> {
    end: End<'a>,
    dialect: Dialect,
    sent: Sent,
    /// The status sent; 0 before.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: u64,
    /// When something was last sent.
    pub last: Instant,
    /// What the head is to tell of where the request went.
    pub told: Option<String>,
    /// What the head is to tell of the limits in force, in place of what an upstream says of its own.
    pub(super) quotas: Option<Box<Quotas>>,
    /// Whether a write was begun and its end not seen.
    writing: bool,
}

impl<'a> Client<'a> {
    /// The client behind `session`, who speaks `dialect` and was sent nothing yet. Every write may take as long as
    /// `write`. It is `now`.
    pub fn new(mut session: Session<'a>, dialect: Dialect, write: Duration, now: Instant) -> Self {
        session.write_within(write);
        let end = End::Session(session);
        Self {
            end,
            dialect,
            sent: Sent::Nothing,
            status: 0,
            bytes: 0,
            last: now,
            told: None,
            quotas: None,
            writing: false,
        }
    }

    /// One in its place, for an attempt beside the one that it waits for.
    pub(super) fn stand_in(&self) -> Client<'static> {
        Client {
            end: End::Nobody(Box::new(self.headers().clone())),
            dialect: self.dialect,
            sent: self.sent,
            status: self.status,
            bytes: self.bytes,
            last: self.last,
            told: None,
            quotas: None,
            writing: false,
        }
    }

    /// Every write from now on may take as long as `limit`.
    pub fn write_within(&mut self, limit: Duration) {
        if let End::Session(session) = &mut self.end {
            session.write_within(limit);
        }
    }

    /// What was sent.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        match &self.end {
            End::Session(session) => &session.head().headers,
            End::Nobody(headers) => headers,
        }
    }

    /// Waits until the client has left. May be dropped and called again.
    pub async fn gone(&mut self) -> Error {
        match &mut self.end {
            End::Session(session) => session.gone().await,
            End::Nobody(_) => std::future::pending().await,
        }
    }

    /// Runs `work` unless the client leaves first; then `work` is dropped.
    ///
    /// # Errors
    /// Those of `work`, and [`crate::error::Kind::ClientGone`].
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => done,
            gone = self.gone() => Err(gone),
        }
    }

    /// Runs `work` unless the client leaves first. A client of `operation` is kept awake meanwhile, with something that
    /// says nothing after each `silence`. `id` is the exchange's.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub(super) async fn kept_awake<T>(
        &mut self,
        silence: Option<Duration>,
        (operation, id): (Operation, &str),
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let mut work = pin!(work);
        loop {
            let at = silence.map(|silence| self.last + silence);
            let due = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                gone = self.gone() => return Err(gone),
                () = due => {}
            }
            self.heartbeat(operation, id).await?;
        }
    }

    /// Sends the head of a stream.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn begin_stream(&mut self, mut head: Reply) -> Result<(), Error> {
        headers::as_stream(&mut head);
        self.head(head, Sent::Stream).await
    }

    /// Sends the head of a reply whose body follows in pieces. `length` is what its upstream says of its length.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn begin_whole(&mut self, mut head: Reply, length: Option<&str>) -> Result<(), Error> {
        if let Some(length) = length {
            headers::put(&mut head, CONTENT_LENGTH, length);
        }
        self.head(head, Sent::Whole).await
    }

    /// Sends a whole reply.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn whole(&mut self, mut head: Reply, body: Bytes) -> Result<(), Error> {
        headers::put(&mut head, CONTENT_LENGTH, itoa::Buffer::new().format(body.len()));
        self.head(head, Sent::Whole).await?;
        self.bytes += body.len() as u64;
        self.put(body, true).await?;
        self.sent = Sent::All;
        Ok(())
    }

    /// Sends a piece of a body.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.bytes += piece.len() as u64;
        self.put(piece, false).await
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn end(&mut self) -> Result<(), Error> {
        self.put(Bytes::new(), true).await?;
        self.sent = Sent::All;
        Ok(())
    }

    /// Sends `body` with that status in the client's dialect.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn json(&mut self, status: u16, id: &str, body: Bytes) -> Result<(), Error> {
        let mut head = headers::status(status, id);
        headers::put(&mut head, CONTENT_TYPE, "application/json");
        self.whole(head, body).await
    }

    /// Commits to a stream before the upstream has answered, so that a first comment can keep the connection alive.
    ///
    /// # Errors
    /// [`crate::error::Kind::ClientGone`].
    pub async fn heartbeat(&mut self, operation: Operation, id: &str) -> Result<(), Error> {
        let beat = crate::dialect::stream::heartbeat(operation);
        self.last = Instant::now();
        // Some dialects have nothing that says nothing: their clients have to wait in silence.
        if beat.is_empty() {
            return Ok(());
        }
        if self.sent == Sent::Nothing {
            self.begin_stream(headers::status(200, id)).await?;
        }
        self.write(Bytes::from_static(beat)).await
    }

    async fn head(&mut self, mut head: Reply, sent: Sent) -> Result<(), Error> {
        if self.dialect == Dialect::Anthropic {
            headers::name_for_anthropic(&mut head);
        }
        if let Some(told) = self.told.take() {
            headers::put(&mut head, headers::X_FOREBAY_EXPLAIN, &told);
        }
        if let Some(quotas) = self.quotas.take() {
            headers::put_quotas(&mut head, &quotas, self.dialect);
        }
        self.status = head.status;
        self.sent = sent;
        match &mut self.end {
            End::Session(session) => session.begin(head).await,
            End::Nobody(_) => Ok(()),
        }
    }

    async fn put(&mut self, piece: Bytes, last: bool) -> Result<(), Error> {
        let End::Session(session) = &mut self.end else { return Ok(()) };
        // A write that an attempt had under way when another overtook it. What follows half an event would be read as
        // the rest of it.
        if self.writing && !session.resumes() {
            return Err(Error::client_gone().because("it did not read the whole of what it was last sent"));
        }
        self.writing = true;
        let written = session.write(piece, last).await;
        self.writing = false;
        written
    }
}
