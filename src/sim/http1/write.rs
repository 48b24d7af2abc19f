//! Writing replies, rightly or wrongly framed.

use crate::sim::api::Header;
use crate::sim::fault::{Fault, Faults};
use bytes::BytesMut;
use http::{StatusCode, Version};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How the client is to know where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Framing {
    /// By length where it is known, else in chunks; unless a fault has it otherwise.
    pub(super) fn choose(faults: &Faults, length: Option<u64>, version: Version) -> Self {
        let spoiled = faults.find(|fault| match (*fault, length) {
            (Fault::CloseDelimited, _) => Some(Self::Close),
            (Fault::BadChunk(_), _) => Some(Self::Chunked),
            (Fault::WrongLength(by), Some(length)) => Some(Self::Length(length.saturating_add_signed(by))),
            // A stream has no length to be off from: one it will not reach, or one it will pass.
            (Fault::WrongLength(by), None) => {
                Some(Self::Length(if by > 0 { 1 << 30 } else { by.unsigned_abs() }))
            }
            _ => None,
        });
        match (spoiled, length) {
            (Some(framing), _) => framing,
            (None, Some(length)) => Self::Length(length),
            (None, None) if version == Version::HTTP_10 => Self::Close,
            (None, None) => Self::Chunked,
        }
    }
}

/// The bytes of a head.
pub(super) fn head(status: u16, headers: &[Header], framing: Framing, keep_alive: bool) -> BytesMut {
    let mut out = BytesMut::with_capacity(512);
    let mut number = itoa::Buffer::new();
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    for part in
        ["HTTP/1.1 ", number.format(status), " ", reason.unwrap_or("Unassigned"), "\r\nserver: forebay-sim"]
    {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
            out.extend_from_slice(part);
        }
    }
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            out.extend_from_slice(number.format(length).as_bytes());
        }
        Framing::Chunked => out.extend_from_slice(b"\r\ntransfer-encoding: chunked"),
        Framing::Close => {}
    }
    if !keep_alive {
        out.extend_from_slice(b"\r\nconnection: close");
    }
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// The writing side of a connection.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) stream: &'a TcpStream,
    /// Write every byte by itself, and wait so long after each.
    pub(super) pause: Option<Duration>,
}

impl Wire<'_> {
    /// Writes all of `bytes`.
    pub(super) async fn send(self, bytes: &[u8]) -> io::Result<()> {
        match self.pause {
            Some(pause) => self.one_by_one(bytes, pause).await,
            None => self.write(bytes).await,
        }
    }

    /// Writes a head and its body with one call where that is worth the copy.
    pub(super) async fn send_both(self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if body.len() > 64 << 10 {
            self.send(head).await?;
            return self.send(body).await;
        }
        let mut both = Vec::with_capacity(head.len() + body.len());
        both.extend_from_slice(head);
        both.extend_from_slice(body);
        self.send(&both).await
    }

    /// Writes a head, byte by byte with a pause after each if so asked.
    pub(super) async fn dribble(self, head: &[u8], pause: Option<Duration>) -> io::Result<()> {
        match pause {
            Some(pause) => self.one_by_one(head, pause).await,
            None => self.send(head).await,
        }
    }

    async fn one_by_one(self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.write(std::slice::from_ref(byte)).await?;
            if pause.is_zero() {
                // Lets the reader run, so that bytes are not merged in its buffer when both share a thread.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Writes one piece of a body.
    pub(super) async fn piece(self, piece: &[u8], framing: Framing) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if framing != Framing::Chunked {
            return self.send(piece).await;
        }
        let mut chunk = Vec::with_capacity(piece.len() + 16);
        chunk.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await
    }

    /// Ends a body.
    pub(super) async fn end(self, framing: Framing) -> io::Result<()> {
        if framing == Framing::Chunked { self.send(b"0\r\n\r\n").await } else { Ok(()) }
    }

    /// Writes a body that is there as a whole.
    pub(super) async fn whole(self, body: &[u8], framing: Framing) -> io::Result<()> {
        self.piece(body, framing).await?;
        self.end(framing).await
    }

    async fn write(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_choose_the_framing() {
        let choose =
            |faults: &str, length| Framing::choose(&Faults::parse(faults).unwrap(), length, Version::HTTP_11);
        assert_eq!(choose("", Some(5)), Framing::Length(5));
        assert_eq!(choose("", None), Framing::Chunked);
        assert_eq!(choose("wrong_length=short", Some(25)), Framing::Length(15));
        assert_eq!(choose("wrong_length=long", Some(25)), Framing::Length(35));
        assert_eq!(choose("wrong_length=short", None), Framing::Length(10));
        assert_eq!(choose("close_delimited", Some(5)), Framing::Close);
        assert_eq!(choose("bad_chunk=1", Some(5)), Framing::Chunked);
        assert_eq!(Framing::choose(&Faults::default(), None, Version::HTTP_10), Framing::Close);
    }

    #[test]
    fn heads_are_well_formed() {
        let out = head(529, &[], Framing::Length(3), false);
        let text = "HTTP/1.1 529 Unassigned\r\nserver: forebay-sim\r\ncontent-length: 3\r\nconnection: close\r\n\r\n";
        assert_eq!(std::str::from_utf8(&out).unwrap(), text);
    }
}
