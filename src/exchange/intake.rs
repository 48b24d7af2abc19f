//! Reads a request body into one buffer, within its bounds.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use http::Version;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http::request::Parts;

use super::session::Session;
use crate::error::{Error, Kind};
use crate::meter::metrics::METRICS;
use crate::snapshot::Intake;

/// The bytes of request bodies held at once, of all exchanges.
#[derive(Debug, Default)]
pub struct Budget {
    held: AtomicU64,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    size: u64,
}

impl Share {
    /// No bytes yet.
    pub fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), size: 0 }
    }

    /// Grows to `size` bytes if the budget of `bound` bytes has room.
    pub(super) fn grow(&mut self, size: u64, bound: u64) -> Result<(), Error> {
        let more = size.saturating_sub(self.size);
        let held = self.budget.held.fetch_add(more, Relaxed) + more;
        if held > bound && more > 0 {
            self.budget.held.fetch_sub(more, Relaxed);
            return Err(Error::gateway(
                Kind::Overloaded,
                "too many large requests are under way; try again in a moment",
            )
            .after(1));
        }
        METRICS.http.held_bytes.add(i64::try_from(more).unwrap_or(i64::MAX));
        self.size += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.size, Relaxed);
        METRICS.http.held_bytes.sub(i64::try_from(self.size).unwrap_or(i64::MAX));
    }
}

/// A request body and its share of the budget.
#[derive(Debug)]
pub struct Body {
    /// The body, decoded.
    pub bytes: Bytes,
    /// What came over the wire, bytes.
    pub wire: u64,
    _share: Share,
}

/// Reads the body of the present request.
///
/// # Errors
/// 400 for broken framing, 413 over `max_body`, 415 for a coding that is not read, 408 over the deadline, 503 over the budget, and
/// [`Kind::ClientGone`].
pub async fn read(
    session: &mut Session<'_>,
    bounds: &Intake,
    max_body: u64,
    budget: &Arc<Budget>,
) -> Result<Body, Error> {
    let coding = Coding::of(session.head(), bounds)?;
    let declared = declared_length(session.head());
    if declared.is_some_and(|length| length > max_body) {
        return Err(too_large(max_body));
    }
    let mut share = Share::none(budget);
    session.read_within(bounds.timeout);
    ask_for_body(session).await?;
    let gather = gather(session, declared, max_body, bounds.held, &mut share);
    let raw = match tokio::time::timeout(bounds.timeout, gather).await {
        Ok(raw) => raw?,
        Err(_) => return Err(too_slow()),
    };
    let wire = raw.len() as u64;
    let bytes = match coding {
        Coding::Identity => raw,
        coding => decode(coding, &raw, bounds, max_body, &mut share)?,
    };
    Ok(Body { bytes, wire, _share: share })
}

pub(super) fn declared_length(head: &Parts) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn too_large(max_body: u64) -> Error {
    Error::client(Kind::TooLarge, format!("the body of the request is larger than {max_body} bytes"))
}

pub(super) fn too_slow() -> Error {
    Error::client(Kind::ClientTimeout, "the body of the request came too slowly")
}

/// Asks for the body where the client waits for that (RFC 9110 §10.1.1; HTTP/1.0 knows no interim replies).
async fn ask_for_body(session: &mut Session<'_>) -> Result<(), Error> {
    let head = session.head();
    if !head.headers.contains_key(EXPECT) || head.version == Version::HTTP_10 {
        return Ok(());
    }
    session.go_on().await
}

/// Reads to the end. A body that comes in one piece is not copied.
async fn gather(
    session: &mut Session<'_>,
    declared: Option<u64>,
    max_body: u64,
    budget: u64,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let mut whole: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    loop {
        let Some(chunk) = session.body().await? else { break };
        if chunk.is_empty() {
            continue;
        }
        let size = (joined.len() + whole.as_ref().map_or(0, Bytes::len) + chunk.len()) as u64;
        if size > max_body {
            return Err(too_large(max_body));
        }
        share.grow(size, budget)?;
        match whole.take() {
            None if joined.is_empty() => whole = Some(chunk),
            first => {
                if let Some(first) = first {
                    // What was announced counts once it comes: announcing costs a client nothing.
                    let expected = declared.and_then(|length| usize::try_from(length).ok());
                    let known = first.len() + chunk.len();
                    joined.reserve(expected.unwrap_or(known * 4).min(known * 16).max(known));
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&chunk);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| joined.freeze()))
}

/// How a request body is compressed (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn of(head: &Parts, bounds: &Intake) -> Result<Self, Error> {
        let mut named = head.headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = named.next() else { return Ok(Self::Identity) };
        let coding = match value.as_bytes().to_ascii_lowercase().as_slice() {
            b"identity" | b"" => Self::Identity,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"br" => Self::Brotli,
            b"zstd" => Self::Zstd,
            _ => return Err(unsupported()),
        };
        if named.next().is_some() || (coding != Self::Identity && !bounds.decode) {
            return Err(unsupported());
        }
        Ok(coding)
    }
}

fn unsupported() -> Error {
    Error::client(
        Kind::UnsupportedMedia,
        "this content coding is not accepted; send the body with gzip, deflate, br or zstd, or uncompressed",
    )
}

/// Bodies below this may grow by any ratio: a few kilobytes of blanks compress very well and harm nobody.
const FREE: u64 = 1 << 20;

fn decode(
    coding: Coding,
    raw: &Bytes,
    bounds: &Intake,
    max_body: u64,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let by_ratio = (raw.len() as u64).saturating_mul(bounds.max_ratio.into()).max(FREE);
    let bound = max_body.min(by_ratio);
    let broken = |error: std::io::Error| {
        Error::client(Kind::InvalidRequest, "the compressed body of the request cannot be decoded")
            .because(error)
    };
    let mut reader: Box<dyn Read> = match coding {
        Coding::Identity => return Ok(raw.clone()),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&raw[..])),
        // What is called deflate is the zlib format; some clients send it bare.
        Coding::Deflate if raw.first().is_some_and(|byte| byte & 0x0f == 8) => {
            Box::new(flate2::read::ZlibDecoder::new(&raw[..]))
        }
        Coding::Deflate => Box::new(flate2::read::DeflateDecoder::new(&raw[..])),
        Coding::Brotli => Box::new(brotli::Decompressor::new(&raw[..], 4096)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&raw[..]).map_err(broken)?),
    };
    let mut whole = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let size = reader.read(&mut piece).map_err(broken)?;
        if size == 0 {
            return Ok(whole.into());
        }
        if (whole.len() + size) as u64 > bound {
            return Err(too_large(bound));
        }
        share.grow((raw.len() + whole.len() + size) as u64, bounds.held)?;
        whole.extend_from_slice(&piece[..size]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    const BOUNDS: Intake = Intake {
        max_body: 1 << 30,
        timeout: Duration::from_secs(1),
        held: 1 << 40,
        decode: true,
        max_ratio: 20,
    };

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn unpack(coding: Coding, raw: &Bytes, max_body: u64) -> Result<Bytes, Kind> {
        let mut share = Share::none(&Arc::default());
        decode(coding, raw, &BOUNDS, max_body, &mut share).map_err(|error| error.kind)
    }

    #[test]
    fn every_coding_is_decoded() {
        let text = b"{\"model\":\"m\"}".repeat(50);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&text).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(&text).unwrap();
        let mut br = Vec::new();
        brotli::CompressorWriter::new(&mut br, 4096, 5, 22).write_all(&text).unwrap();
        for (coding, raw) in [
            (Coding::Identity, text.clone().into()),
            (Coding::Gzip, gzip(&text)),
            (Coding::Deflate, zlib.finish().unwrap().into()),
            (Coding::Deflate, bare.finish().unwrap().into()),
            (Coding::Brotli, br.into()),
            (Coding::Zstd, zstd::encode_all(&text[..], 3).unwrap().into()),
        ] {
            assert_eq!(unpack(coding, &raw, 1 << 20).unwrap(), text, "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_its_ratio_and_by_the_largest_body() {
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert_eq!(unpack(Coding::Gzip, &bomb, 1 << 30), Err(Kind::TooLarge));
        assert_eq!(unpack(Coding::Gzip, &gzip(&vec![b' '; 900_000]), 1 << 30).unwrap().len(), 900_000);
        assert_eq!(unpack(Coding::Gzip, &gzip(&[b' '; 2000]), 1000), Err(Kind::TooLarge));
        assert_eq!(unpack(Coding::Gzip, &Bytes::from_static(b"no gzip"), 1000), Err(Kind::InvalidRequest));
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Arc::default();
        let mut first = Share::none(&budget);
        first.grow(600, 1000).unwrap();
        let mut second = Share::none(&budget);
        assert_eq!(second.grow(500, 1000).unwrap_err().kind, Kind::Overloaded);
        second.grow(400, 1000).unwrap();
        drop(first);
        second.grow(1000, 1000).unwrap();
        drop(second);
        assert_eq!(budget.held.load(Relaxed), 0);
    }
}
