//! Compresses whole JSON replies for clients that accept it. Streams are never compressed: that would delay them.

use std::io::Write;

use super::headers::put;
use crate::frame::http1::Reply;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};

/// Replies up to this size are not worth it, bytes.
const SMALL: usize = 1024;

/// A content coding that clients accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// In the order of our preference: the cheapest for its size first.
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// The coding for a reply of `size` bytes, if it is JSON, not coded yet, large enough, and the client accepts one.
pub fn choose(client: &HeaderMap, reply: &Reply, size: usize) -> Option<Coding> {
    let is_json = reply.fields.get(&CONTENT_TYPE)?.as_bytes().starts_with(b"application/json");
    if size <= SMALL || !is_json || reply.fields.contains(&CONTENT_ENCODING) {
        return None;
    }
    let accepted = client.get(ACCEPT_ENCODING)?.to_str().ok()?;
    let mut best: Option<(u16, Coding)> = None;
    for coding in Coding::ALL {
        let weight = weight(accepted, coding.name());
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// The weight of a coding in thousandths (RFC 9110 §12.5.3); 0 where it is not accepted.
fn weight(accepted: &str, coding: &str) -> u16 {
    let mut any = 0;
    for item in accepted.split(',') {
        let mut parts = item.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let quality =
            parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        let thousandths = (quality.unwrap_or(0.0_f32).clamp(0.0, 1.0) * 1000.0) as u16;
        if name.eq_ignore_ascii_case(coding) {
            return thousandths;
        }
        if name == "*" {
            any = thousandths;
        }
    }
    any
}

/// Compresses `body` and says so in `head`. If that fails, which only a lack of memory can cause, it goes as it is.
pub fn compress(coding: Coding, head: &mut Reply, body: Bytes) -> Bytes {
    put(head, VARY, "accept-encoding");
    match encoded(coding, &body) {
        Ok(packed) if packed.len() < body.len() => {
            put(head, CONTENT_ENCODING, coding.name());
            packed.into()
        }
        _ => body,
    }
}

fn encoded(coding: Coding, body: &[u8]) -> std::io::Result<Vec<u8>> {
    match coding {
        Coding::Zstd => zstd::bulk::compress(body, 1),
        Coding::Brotli => {
            let mut packed = Vec::with_capacity(body.len() / 2);
            let mut writer = brotli::CompressorWriter::new(&mut packed, 4096, 3, 20);
            writer.write_all(body)?;
            drop(writer);
            Ok(packed)
        }
        Coding::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(
                Vec::with_capacity(body.len() / 2),
                flate2::Compression::fast(),
            );
            writer.write_all(body)?;
            writer.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::HeaderValue;

    use super::*;

    fn chosen(accept: &str, size: usize, media: &str) -> Option<Coding> {
        let client = [(ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap())].into_iter().collect();
        let mut reply = Reply::new(200);
        put(&mut reply, CONTENT_TYPE, media);
        choose(&client, &reply, size)
    }

    #[test]
    fn the_clients_weights_decide_and_then_our_preference() {
        let json = "application/json; charset=utf-8";
        assert_eq!(chosen("gzip, deflate, br, zstd", 2000, json), Some(Coding::Zstd));
        assert_eq!(chosen("gzip;q=1.0, br;q=0.5", 2000, json), Some(Coding::Gzip));
        assert_eq!(chosen("*;q=0.1, zstd;q=0", 2000, json), Some(Coding::Brotli));
        assert_eq!(chosen("identity", 2000, json), None);
        assert_eq!(chosen("gzip;q=x", 2000, json), None);
        assert_eq!(chosen("gzip", 1024, json), None);
        assert_eq!(chosen("gzip", 2000, "text/event-stream"), None);
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let body = Bytes::from("{\"a\":\"text\"}".repeat(500));
        for coding in Coding::ALL {
            let mut head = Reply::new(200);
            let packed = compress(coding, &mut head, body.clone());
            assert_eq!(head.fields.text(&CONTENT_ENCODING).unwrap(), coding.name());
            let mut back = Vec::new();
            match coding {
                Coding::Zstd => back = zstd::decode_all(&packed[..]).unwrap(),
                Coding::Brotli => {
                    brotli::Decompressor::new(&packed[..], 4096).read_to_end(&mut back).unwrap();
                }
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
                }
            }
            assert_eq!(back, body);
        }
    }
}
