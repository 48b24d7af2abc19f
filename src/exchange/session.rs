//! A client's request and the way back to it, over whichever version of HTTP it came.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{GetSocketDigest, Ssl};
use pingora_http::ResponseHeader;

use super::guard::Guarded;
use super::guard::direct::Unread;
use super::http1::Http1;
use crate::dialect::{Dialect, Operation};
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;

/// A client's session.
pub enum Session<'s> {
    /// Over HTTP/1, served by Forebay itself.
    Own(&'s mut Http1),
    /// Of Pingora: over HTTP/2, or on a raw route.
    Pingora(&'s mut ServerSession),
}

impl Session<'_> {
    /// The same session for a shorter while.
    pub fn again(&mut self) -> Session<'_> {
        match self {
            Self::Own(session) => Session::Own(session),
            Self::Pingora(session) => Session::Pingora(session),
        }
    }

    /// The head of the request.
    pub fn head(&self) -> &http::request::Parts {
        match self {
            Self::Own(session) => session.head(),
            Self::Pingora(session) => session.req_header(),
        }
    }

    /// The guard's verdict on an HTTP/1 request, and the dialect of who sent it; `None` for one that it never saw.
    pub fn verdict(&self) -> Option<Option<(Error, Dialect)>> {
        match self {
            Self::Own(session) => Some(session.refusal()),
            Self::Pingora(session) => {
                let guarded = Guarded::of(session)?;
                Some(guarded.verdict().map(|error| (error, guarded.dialect())))
            }
        }
    }

    /// The address at the other end of the connection.
    pub fn peer(&self) -> Option<IpAddr> {
        let address = match self {
            Self::Own(session) => session.connection().get_socket_digest()?.peer_addr()?.as_inet().copied(),
            Self::Pingora(session) => session.client_addr()?.as_inet().copied(),
        };
        address.map(|address: SocketAddr| address.ip())
    }

    /// What the connection's TLS says, and with it the names in the client's certificate.
    pub fn tls(&self) -> Option<Arc<SslDigest>> {
        match self {
            Self::Own(session) => session.connection().get_ssl_digest(),
            Self::Pingora(session) => session.digest()?.ssl_digest.clone(),
        }
    }

    /// The port that the connection came to.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Own(session) => {
                Some(session.connection().get_socket_digest()?.local_addr()?.as_inet()?.port())
            }
            Self::Pingora(session) => Some(session.server_addr()?.as_inet()?.port()),
        }
    }

    /// The connection is closed after this exchange.
    pub fn close(&mut self) {
        match self {
            Self::Own(session) => session.close(),
            Self::Pingora(session) => session.set_keepalive(None),
        }
    }

    /// How long the connection waits for another request. Forebay's own session leaves that to who serves it.
    pub fn keep_for(&mut self, keepalive: Duration) {
        if let Self::Pingora(session) = self
            && session.get_keepalive().is_some()
        {
            session.set_keepalive(Some(keepalive.as_secs().max(1)));
        }
    }

    /// How long each read of the body may take, where nothing else bounds it.
    pub fn read_within(&mut self, limit: Duration) {
        if let Self::Pingora(session) = self {
            session.set_read_timeout(Some(limit));
        }
    }

    /// Every write from now on may take as long as `limit`.
    pub fn write_within(&mut self, limit: Duration) {
        match self {
            Self::Own(session) => session.write_within(limit),
            Self::Pingora(session) => session.set_write_timeout(Some(limit)),
        }
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// Why it cannot be read: it is malformed, it came too slowly, or its client has left.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Own(session) => session.guarded().body().await.map_err(|unread| match unread {
                Unread::Malformed(error) => error,
                Unread::Gone(error) => Error::client_gone().because(error),
            }),
            Self::Pingora(session) => {
                let read = session.read_request_body().await;
                read.map_err(|error| unread(session, &error))
            }
        }
    }

    /// Says that the body may come (RFC 9110 §10.1.1).
    ///
    /// # Errors
    /// [`Kind::ClientGone`].
    pub async fn go_on(&mut self) -> Result<(), Error> {
        match self {
            Self::Own(session) => session.go_on().await,
            Self::Pingora(session) => {
                // Pingora takes this for a reply that the client did not wait for, and would close the connection
                // after it.
                let keepalive = session.get_keepalive();
                session.write_continue_response().await.map_err(gone)?;
                session.set_keepalive(keepalive);
                Ok(())
            }
        }
    }

    /// Waits until the client has left. May be dropped and called again.
    pub async fn gone(&mut self) -> Error {
        let left = match self {
            Self::Own(session) => session.guarded().gone().await.map_err(|error| error.to_string()),
            Self::Pingora(session) => {
                session.read_body_or_idle(true).await.map(drop).map_err(|error| error.to_string())
            }
        };
        let gone = Error::client_gone();
        match left {
            Ok(()) => gone,
            Err(why) => gone.because(why),
        }
    }

    /// Begins the reply. Where no length is set, it is framed as the client's version of HTTP has it.
    ///
    /// # Errors
    /// [`Kind::ClientGone`].
    pub async fn begin(&mut self, reply: Reply) -> Result<(), Error> {
        let is_stream = reply.fields.get(&CONTENT_TYPE).is_some_and(is_stream);
        match self {
            Self::Own(session) => {
                session.begin_reply(reply, is_stream);
                Ok(())
            }
            Self::Pingora(session) => {
                let is_11 = session.req_header().version == Version::HTTP_11;
                session.write_response_header(head(reply, is_11)?).await.map_err(gone)
            }
        }
    }

    /// Sends a piece of the body, and with the last one its end.
    ///
    /// # Errors
    /// [`Kind::ClientGone`].
    pub async fn write(&mut self, piece: Bytes, last: bool) -> Result<(), Error> {
        match self {
            Self::Own(session) => session.write(piece, last).await,
            Self::Pingora(session) => session.write_response_body(piece, last).await.map_err(gone),
        }
    }

    /// Whether a write of something small that was dropped half way is gone on with by the next. Pingora does not say how
    /// much of a piece went out over HTTP/2 before its client's window was full.
    pub fn resumes(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// The status that the client was sent, and whether it began a stream of events. An interim reply leaves room for
    /// any, unless it is the end of HTTP.
    pub fn begun(&self) -> Option<(u16, bool)> {
        match self {
            Self::Own(session) => session.begun(),
            Self::Pingora(session) => {
                let is_reply = |status: StatusCode| {
                    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
                };
                let head = session.response_written().filter(|head| is_reply(head.status))?;
                let media = head.headers.get(CONTENT_TYPE);
                Some((head.status.as_u16(), media.is_some_and(is_stream)))
            }
        }
    }
}

/// Whether a media type is that of a stream.
fn is_stream(media: &HeaderValue) -> bool {
    Operation::ALL.iter().any(|operation| media.as_bytes().starts_with(operation.stream_media().as_bytes()))
}

/// A head as Pingora writes it.
fn head(reply: Reply, is_11: bool) -> Result<Box<ResponseHeader>, Error> {
    let invalid = |error: Box<pingora_core::Error>| {
        Error::gateway(Kind::Internal, "the reply has no valid head").because(error)
    };
    let mut head = ResponseHeader::build_no_case(reply.status, Some(12)).map_err(invalid)?;
    for (name, value) in reply.fields.iter() {
        head.append_header(name.clone(), value.clone()).map_err(invalid)?;
    }
    if is_11 && !reply.fields.contains(&CONTENT_LENGTH) {
        head.insert_header(TRANSFER_ENCODING, "chunked").map_err(invalid)?;
    }
    Ok(Box::new(head))
}

fn gone(error: Box<pingora_core::Error>) -> Error {
    Error::client_gone().because(error)
}

/// Why a body cannot be read: it is malformed, it stopped, or its client has left.
pub(super) fn unread(session: &ServerSession, error: &pingora_core::Error) -> Error {
    if let Some(verdict) = Guarded::of(session).and_then(Guarded::verdict) {
        return verdict.because(error);
    }
    match error.etype() {
        ErrorType::ReadTimedout => super::intake::too_slow().because(error),
        // By name, because Pingora keeps these to itself. The guard is stricter, so that none is to be expected.
        ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd") | ErrorType::InvalidHTTPHeader => {
            Error::client(Kind::InvalidRequest, "the request is malformed").because(error)
        }
        _ => Error::client_gone().because(error),
    }
}
