//! Recorded replies, served again byte for byte and cut up as a test likes.

use super::api::{Body, Event, Events, Pace, Reply, Stream};
use super::stats::Request;
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Recorded replies and how to cut them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The replies. A request gets the next one recorded for its path; those without a path serve all paths
    /// that none names. After the last comes the first again.
    pub recorded: Vec<Recorded>,
    /// How each body is cut.
    #[serde(default)]
    pub chunking: Chunking,
}

/// One recorded reply.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The path, without query, that this replies to; `None` for any.
    #[serde(default)]
    pub path: Option<String>,
    /// The status.
    pub status: u16,
    /// The headers, sent as they are except for `content-length`, `transfer-encoding`, `connection` and
    /// `keep-alive`, which the simulator decides: a body whose record says `content-length` and not
    /// `text/event-stream` is sent with its length, any other in chunks.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body (in a file, a string).
    #[serde(default, deserialize_with = "text_as_bytes")]
    pub body: Vec<u8>,
}

/// How a body is cut into writes; with HTTP/1 chunks each piece is one chunk, with HTTP/2 one DATA frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Chunking {
    /// In one piece.
    #[default]
    Whole,
    /// Every so many bytes.
    Every(usize),
    /// One byte at a time.
    OneByte,
    /// Pieces of 1 to 64 bytes at random; the draw hangs on the seed, the request's number and this number.
    Random(u64),
}

/// The recorded replies of a running simulator and how far each path has come.
#[derive(Debug)]
pub(crate) struct Player {
    replay: Replay,
    turns: Vec<AtomicUsize>,
}

impl Player {
    pub(crate) fn new(replay: Replay) -> Self {
        let turns = replay.recorded.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { replay, turns }
    }

    /// The next reply to this request, if any was recorded.
    pub(crate) fn next(&self, request: &Request, seed: u64) -> Option<Reply> {
        let named = self.matching(Some(request.path()));
        let matching = if named.is_empty() { self.matching(None) } else { named };
        // The first of the group keeps its turn.
        let turn = self.turns.get(*matching.first()?)?.fetch_add(1, Ordering::Relaxed);
        let recorded = self.replay.recorded.get(*matching.get(turn % matching.len())?)?;
        Some(reply(recorded, self.replay.chunking, seed))
    }

    fn matching(&self, path: Option<&str>) -> Vec<usize> {
        let all = self.replay.recorded.iter().enumerate();
        all.filter(|(_, recorded)| recorded.path.as_deref() == path).map(|(at, _)| at).collect()
    }
}

fn reply(recorded: &Recorded, chunking: Chunking, seed: u64) -> Reply {
    let mut headers = Vec::with_capacity(recorded.headers.len());
    let (mut sized, mut sse) = (false, false);
    for (name, value) in &recorded.headers {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        match name.as_str() {
            "content-length" => sized = true,
            "transfer-encoding" | "connection" | "keep-alive" => {}
            _ => {
                sse |= name == "content-type" && value.starts_with("text/event-stream");
                let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
                headers.push((name, value));
            }
        }
    }
    let body = Bytes::copy_from_slice(&recorded.body);
    let length = (sized && !sse).then_some(body.len() as u64);
    let stream = Stream { events: pieces(body, chunking, seed), length, pace: Pace::Engine };
    Reply { status: recorded.status, headers, body: Body::Stream(stream) }
}

fn pieces(mut body: Bytes, chunking: Chunking, seed: u64) -> Events {
    let mut rng = Rng::with_seed(seed);
    if let Chunking::Random(more) = chunking {
        rng.seed(seed ^ more.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    Box::new(std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let size = match chunking {
            Chunking::Whole => body.len(),
            Chunking::Every(n) => n.max(1),
            Chunking::OneByte => 1,
            Chunking::Random(_) => rng.usize(1..=64),
        };
        Some(Event::frame(body.split_to(size.min(body.len()))))
    }))
}

fn text_as_bytes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(from).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method, Version};

    fn request(target: &str) -> Request {
        Request {
            method: Method::POST,
            target: target.into(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            body_len: 0,
            connection: 1,
        }
    }

    fn cut(chunking: Chunking) -> Vec<Vec<u8>> {
        let body: Vec<u8> = (0..200).collect();
        let pieces: Vec<_> =
            pieces(body.clone().into(), chunking, 5).map(|event| event.bytes.to_vec()).collect();
        assert_eq!(pieces.concat(), body);
        pieces
    }

    #[test]
    fn pieces_join_to_the_body() {
        assert_eq!(cut(Chunking::Whole).len(), 1);
        assert_eq!(cut(Chunking::Every(64)).len(), 4);
        assert_eq!(cut(Chunking::Every(0)).len(), 200);
        assert_eq!(cut(Chunking::OneByte).len(), 200);
        assert_eq!(cut(Chunking::Random(1)), cut(Chunking::Random(1)));
        assert_ne!(cut(Chunking::Random(1)), cut(Chunking::Random(2)));
    }

    #[test]
    fn paths_choose_and_turns_go_round() {
        let recorded = |path: Option<&str>, status| Recorded {
            path: path.map(Into::into),
            status,
            ..Default::default()
        };
        let all = vec![
            recorded(None, 201),
            recorded(Some("/a"), 202),
            recorded(None, 203),
            recorded(Some("/a"), 204),
        ];
        let player = Player::new(Replay { recorded: all, chunking: Chunking::Whole });
        let status = |target: &str| player.next(&request(target), 0).unwrap().status;
        assert_eq!([status("/a?x"), status("/a"), status("/a")], [202, 204, 202]);
        assert_eq!([status("/b"), status("/c"), status("/b")], [201, 203, 201]);
    }
}
