//! The bytes of the benchmark. Every request has a number that its reply must repeat, so that replies that are mixed
//! up are noticed as well as damaged ones.

use memchr::memmem;

/// The size of a request body, bytes.
pub(crate) const REQUEST: usize = 200;
/// The size of a whole reply's body, bytes.
pub(crate) const REPLY: usize = 340;
/// The size of a stream's content event, bytes.
pub(crate) const EVENT: usize = 180;

/// How many decimal digits nanoseconds since the UNIX epoch have, until the year 2286.
const NANOS: usize = 19;
/// How many digits every other number has.
const NUMBER: usize = 8;
const USER: &[u8] = b"\"user\":\"bench-";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole reply.
    Whole,
    /// A stream of content events and its end.
    Stream {
        /// How many content events.
        events: u32,
        /// The time from one event to the next, microseconds.
        interval: u32,
        /// Whether a usage event comes before the end.
        usage: bool,
    },
}

/// A request, ready to be sent again and again under other numbers.
#[derive(Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Request {
    pub(crate) fn new(model: &str, key: Option<&str>, kind: Kind) -> Self {
        let body = request_body(model, kind);
        let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench.test\r\nuser-agent: forebay-bench/1\r\n{key}\
             accept: application/json\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = [head.as_bytes(), &body].concat();
        let number_at = memmem::rfind(&bytes, USER).map_or(bytes.len(), |at| at + USER.len());
        Self { bytes, number_at }
    }

    /// The request under a number.
    pub(crate) fn numbered(&mut self, number: u32) -> &[u8] {
        decimal(&mut self.bytes, self.number_at, NUMBER, u64::from(number));
        &self.bytes
    }
}

fn request_body(model: &str, kind: Kind) -> Vec<u8> {
    let (stream, tokens, interval) = match kind {
        Kind::Whole => ("", 64, 0),
        Kind::Stream { usage: false, events, interval } => ("\"stream\":true,", events, interval),
        Kind::Stream { usage: true, events, interval } => {
            ("\"stream\":true,\"stream_options\":{\"include_usage\":true},", events, interval)
        }
    };
    let before = format!("{{\"model\":\"{model}\",{stream}\"messages\":[{{\"role\":\"user\",\"content\":\"");
    let after = format!("\"}}],\"max_tokens\":{tokens},\"user\":\"bench-00000000-{interval:08}\"}}");
    padded(&before, &after, REQUEST)
}

/// What the upstream reads in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The number that the reply repeats.
    pub(crate) number: u32,
    /// What is asked for.
    pub(crate) kind: Kind,
}

impl Ask {
    /// Reads a request body; `None` if it is none of ours.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let user = memmem::find(body, USER)? + USER.len();
        let number = number(body, user, NUMBER)?;
        let kind = if memmem::find(body, b"\"stream\":true").is_some() {
            Kind::Stream {
                events: u32::try_from(digits_after(body, b"\"max_tokens\":")?).ok()?,
                interval: u32::try_from(self::number(body, user + NUMBER + 1, NUMBER)?).ok()?,
                usage: memmem::find(body, b"\"include_usage\":true").is_some(),
            }
        } else {
            Kind::Whole
        };
        Some(Self { number: u32::try_from(number).ok()?, kind })
    }
}

/// A whole reply's body, ready to be numbered.
#[derive(Clone)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Reply {
    pub(crate) fn new() -> Self {
        let before = "{\"id\":\"chatcmpl-00000000\",\"object\":\"chat.completion\",\"created\":1700000000,\
                      \"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
        let after = "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\
                     \"usage\":{\"prompt_tokens\":20,\"completion_tokens\":16,\"total_tokens\":36}}";
        Self { bytes: padded(before, after, REPLY), number_at: "{\"id\":\"chatcmpl-".len() }
    }

    pub(crate) fn numbered(&mut self, number: u32) -> &[u8] {
        decimal(&mut self.bytes, self.number_at, NUMBER, u64::from(number));
        &self.bytes
    }
}

/// A stream's content event, ready to be filled in: its stream's number, its place in the stream, when it was sent.
#[derive(Clone)]
pub(crate) struct Event {
    bytes: Vec<u8>,
    place_at: usize,
    sent_at: usize,
}

impl Event {
    pub(crate) fn new(number: u32) -> Self {
        let before = format!(
            "data: {{\"id\":\"chatcmpl-{number:08}\",\"object\":\"chat.completion.chunk\",\"model\":\"bench\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" "
        );
        let after = "\"},\"finish_reason\":null}]}\n\n";
        let bytes = format!("{before}{:0NUMBER$} {:0NANOS$}{after}", 0, 0).into_bytes();
        Self { bytes, place_at: before.len(), sent_at: before.len() + NUMBER + 1 }
    }

    /// The event at a place, sent at a time (nanoseconds since the UNIX epoch).
    pub(crate) fn filled(&mut self, place: u32, sent: u64) -> &[u8] {
        decimal(&mut self.bytes, self.place_at, NUMBER, u64::from(place));
        decimal(&mut self.bytes, self.sent_at, NANOS, sent);
        &self.bytes
    }

    /// When an event was sent, if it is the one at `place` to the byte.
    pub(crate) fn sent(&mut self, place: u32, received: &[u8]) -> Option<u64> {
        let sent = number(received, self.sent_at, NANOS)?;
        (self.filled(place, sent) == received).then_some(sent)
    }
}

/// The events after the content of a stream: its finish, its usage where asked for, its end.
pub(crate) fn ending(number: u32, events: u32, usage: bool) -> Vec<Vec<u8>> {
    let start = format!(
        "data: {{\"id\":\"chatcmpl-{number:08}\",\"object\":\"chat.completion.chunk\",\"model\":\"bench\","
    );
    let finish =
        format!("{start}\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n");
    let total = u64::from(events) + 20;
    let counts = format!(
        "{start}\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":{events},\
         \"total_tokens\":{total}}}}}\n\n"
    );
    let mut all = vec![finish.into_bytes()];
    all.extend(usage.then(|| counts.into_bytes()));
    all.push(b"data: [DONE]\n\n".to_vec());
    all
}

/// Two texts with as much between them as makes `size` bytes.
fn padded(before: &str, after: &str, size: usize) -> Vec<u8> {
    const WORDS: &[u8] = b"the quick brown fox jumps over the lazy dog ";
    let pad = size.saturating_sub(before.len() + after.len());
    let words = WORDS.iter().copied().cycle().take(pad);
    before.bytes().chain(words).chain(after.bytes()).collect()
}

/// Writes a number in `width` digits; what does not fit is left out at the front.
fn decimal(bytes: &mut [u8], at: usize, width: usize, mut value: u64) {
    for digit in bytes.iter_mut().skip(at).take(width).rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The number in the `width` digits at a place.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    std::str::from_utf8(bytes.get(at..at + width)?).ok()?.parse().ok()
}

fn digits_after(bytes: &[u8], key: &[u8]) -> Option<u64> {
    let rest = bytes.get(memmem::find(bytes, key)? + key.len()..)?;
    let width = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(rest, 0, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Kind = Kind::Stream { events: 450, interval: 20_000, usage: true };

    fn body(request: &[u8]) -> &[u8] {
        request.split_at(memmem::find(request, b"\r\n\r\n").unwrap() + 4).1
    }

    #[test]
    fn sizes_are_what_they_are_called() {
        for kind in [Kind::Whole, STREAM] {
            assert_eq!(body(Request::new("bench", None, kind).numbered(7)).len(), REQUEST);
        }
        assert_eq!(Reply::new().numbered(7).len(), REPLY);
        assert_eq!(Event::new(7).filled(1, 1_700_000_000_000_000_000).len(), EVENT);
    }

    #[test]
    fn all_of_it_is_json() {
        let object = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let data = |event: &[u8]| object(event.strip_prefix(b"data: ").unwrap());
        assert_eq!(
            object(body(Request::new("m", None, STREAM).numbered(7)))["user"],
            "bench-00000007-00020000"
        );
        assert_eq!(object(Reply::new().numbered(7))["id"], "chatcmpl-00000007");
        assert_eq!(data(Event::new(7).filled(1, 5))["id"], "chatcmpl-00000007");
        assert_eq!(data(&ending(7, 3, true)[0])["choices"][0]["finish_reason"], "stop");
        assert_eq!(data(&ending(7, 3, true)[1])["usage"]["total_tokens"], 23);
    }

    #[test]
    fn the_upstream_reads_what_clients_ask() {
        let without = Kind::Stream { events: 5, interval: 1, usage: false };
        for kind in [Kind::Whole, STREAM, without] {
            let ask = Ask::read(body(Request::new("bench", None, kind).numbered(12_345))).unwrap();
            assert_eq!(ask, Ask { number: 12_345, kind });
        }
        assert_eq!(Ask::read(b"{\"user\":\"someone\"}"), None);
    }

    #[test]
    fn an_event_is_known_by_its_place_and_stream() {
        let event = Event::new(7).filled(3, 1_234).to_vec();
        assert_eq!(Event::new(7).sent(3, &event), Some(1_234));
        assert_eq!(Event::new(7).sent(4, &event), None);
        assert_eq!(Event::new(8).sent(3, &event), None);
        let (short, _) = event.split_at(EVENT - 1);
        assert_eq!(Event::new(7).sent(3, short), None);
    }

    #[test]
    fn usage_is_in_the_ending_only_where_asked_for() {
        assert_eq!(ending(1, 2, true).len(), 3);
        assert_eq!(ending(1, 2, false).len(), 2);
    }
}
