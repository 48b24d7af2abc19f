use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::Value as Yaml;

use super::*;

/// One header of every type, with the payload `{"a":1}`; made with zlib and read by botocore.
const EVERY_TYPE: &str = "0000006800000051d00c8287017400016601016202f9017303fed4016904fffeee90016c05ffff\
    fffed5fa0e00017906000200ff01780700066772c3bcc39f017708000001a1fb6717ff0175090001\
    02030405060708090a0b0c0d0e0f7b2261223a317de82ba257";
/// The end of a Converse stream, made the same way.
const STOP: &str = "000000590000003076f8427f0b3a6576656e742d7479706507000b6d65737361676553746f700d3a\
    6d6573736167652d747970650700056576656e747b2273746f70526561736f6e223a22656e645f7475726e227d46f749bc";
/// Neither headers nor payload.
const EMPTY: &str = "000000100000000005c248eb7d98c8ff";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn every_type() -> [(&'static str, Value<'static>); 10] {
    [
        ("t", Value::Bool(true)),
        ("f", Value::Bool(false)),
        ("b", Value::Byte(-7)),
        ("s", Value::Short(-300)),
        ("i", Value::Integer(-70_000)),
        ("l", Value::Long(-5_000_000_000)),
        ("y", Value::Bytes(b"\x00\xff")),
        ("x", Value::Text("grüß")),
        ("w", Value::Timestamp(1_795_219_199_999)),
        ("u", Value::Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])),
    ]
}

/// What was told, and how it ended.
type Read = (Vec<(String, Vec<u8>)>, Result<(), Broken>);

fn read_within(limit: usize, pieces: &[&[u8]]) -> Read {
    let mut told = Vec::new();
    let mut tell = |message: Message<'_>| {
        let headers: Vec<_> = message.headers.iter().collect();
        told.push((format!("{headers:?}"), message.payload.to_vec()));
    };
    let mut reader = Reader::new(limit);
    let pushed = pieces.iter().try_for_each(|piece| reader.push(piece, &mut tell));
    let ended = pushed.and_then(|()| reader.finish());
    (told, ended)
}

fn read(pieces: &[&[u8]]) -> Read {
    read_within(PAYLOAD, pieces)
}

/// Reads `stream` cut at every two places, which must all give the same.
fn read_at_every_split(stream: &[u8]) -> Read {
    let whole = read(&[stream]);
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(read(&pieces), whole, "cut at {first} and {second}");
        }
    }
    assert_eq!(read(&stream.chunks(1).collect::<Vec<_>>()), whole);
    whole
}

/// A message whose sums hold, whatever its headers are.
fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    lying((FRAME + headers.len() + payload.len()).try_into().unwrap(), headers, payload)
}

fn lying(total: u32, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = total.to_be_bytes().to_vec();
    out.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    out.extend(hash(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend(hash(&out).to_be_bytes());
    out
}

#[test]
fn every_type_of_header_is_read_and_written() {
    let stream = bytes(EVERY_TYPE);
    let mut reader = Reader::default();
    let mut told = 0;
    reader
        .push(&stream, &mut |message| {
            told += 1;
            assert_eq!(message.headers.iter().collect::<Vec<_>>(), every_type());
            assert_eq!(message.headers.text("x"), Some("grüß"));
            assert_eq!(message.headers.text("b"), None);
            assert_eq!(message.headers.get("nothing"), None);
            assert_eq!(message.payload, b"{\"a\":1}");
        })
        .unwrap();
    assert_eq!((told, reader.finish()), (1, Ok(())));
    let mut out = Vec::new();
    message(&mut out, &every_type(), b"{\"a\":1}").unwrap();
    assert_eq!(out, stream);
    out.clear();
    message(&mut out, &[], b"").unwrap();
    assert_eq!(out, bytes(EMPTY));
}

#[test]
fn every_split_point_gives_the_same_messages() {
    let stream = [bytes(STOP), bytes(EMPTY), bytes(EVERY_TYPE), bytes(EMPTY)].concat();
    let (told, ended) = read_at_every_split(&stream);
    assert_eq!((told.len(), ended), (4, Ok(())));
    assert_eq!(told[0].1, b"{\"stopReason\":\"end_turn\"}");
}

#[test]
fn a_whole_message_is_borrowed() {
    let stream = [bytes(STOP), bytes(EVERY_TYPE)].concat();
    let mut told = Vec::new();
    let mut tell = |message: Message<'_>| told.push(message.payload.as_ptr().addr());
    Reader::default().push(&stream, &mut tell).unwrap();
    let start = stream.as_ptr().addr();
    assert_eq!(told, [start + 60, start + 89 + 93]);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let good = bytes(STOP);
    let before = bytes(EMPTY);
    for at in 0..good.len() {
        let mut stream = [before.clone(), good.clone()].concat();
        stream[before.len() + at] ^= 0x10;
        let (told, ended) = read(&[&stream]);
        assert_eq!(told.len(), 1, "byte {at}");
        let expected = match at {
            0..12 => Broken { offset: 16 + 8, fault: Fault::Prelude },
            _ => Broken { offset: 16 + 85, fault: Fault::Checksum },
        };
        assert_eq!(ended, Err(expected), "byte {at}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_byte() {
    let header = |kind: u8, rest: &[u8]| [b"\x01a".as_slice(), &[kind], rest].concat();
    let good = header(0, b"");
    let wrong = |headers: &[u8]| framed(&[good.clone(), headers.to_vec()].concat(), b"{}");
    let bad = |at: u64, why| (12 + 3 + at, Fault::Header(why));
    for (message, (offset, fault)) in [
        (wrong(&header(10, b"")), bad(0, "has a type that does not exist")),
        (wrong(b"\x00\x00"), bad(0, "has no name")),
        (wrong(b"\x05ab"), bad(0, CUT)),
        (wrong(b"\x01a"), bad(0, CUT)),
        (wrong(b"\x01\xff\x00"), bad(0, "has a name that is not UTF-8")),
        (wrong(&header(7, b"\x00\x01\xff")), bad(0, "has a text that is not UTF-8")),
        (wrong(&header(7, b"\x00\x05abc")), bad(0, CUT)),
        (wrong(&header(6, b"\x00")), bad(0, CUT)),
        (wrong(&header(9, b"123456789012345")), bad(0, CUT)),
        (wrong(&[header(2, b"\x00"), header(5, b"1234567")].concat()), bad(4, CUT)),
        (lying(15, b"", b""), (0, Fault::Length(15))),
        (lying(18, &good, b""), (0, Fault::Length(18))),
        (lying(u32::MAX, b"", b""), (0, Fault::Payload { length: (1 << 32) - 17, limit: PAYLOAD })),
        (framed(&vec![0; HEADERS + 1], b""), (4, Fault::Headers(131_073))),
        (bytes(EVERY_TYPE)[..11].to_vec(), (0, Fault::Truncated)),
        (bytes(EVERY_TYPE)[..103].to_vec(), (0, Fault::Truncated)),
    ] {
        let stream = [bytes(EMPTY), message].concat();
        let (told, ended) = if stream.len() < 200 { read_at_every_split(&stream) } else { read(&[&stream]) };
        assert_eq!(told.len(), 1);
        assert_eq!(ended, Err(Broken { offset: 16 + offset, fault }));
    }
    let broken = Broken { offset: 27, fault: Fault::Header(CUT) };
    assert_eq!(broken.to_string(), "the event stream is broken at byte 27: a header is cut short");
}

#[test]
fn a_message_shorter_than_its_own_frame_is_no_cut() {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(&hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let mut cuts = Cuts::default();
    assert_eq!(cuts.end(&bytes, 0), None);
    assert!(!cuts.at_boundary());
}

#[test]
fn a_payload_is_bounded_before_it_is_held() {
    let message = framed(b"", b"12345");
    assert_eq!(read_within(5, &[&message]).1, Ok(()));
    let fault = Fault::Payload { length: 5, limit: 4 };
    // The prelude alone tells.
    assert_eq!(read_within(4, &[&message[..12]]).1, Err(Broken { offset: 0, fault }));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let (name, text, payload) = ("n".repeat(256), "t".repeat(65_536), vec![0; PAYLOAD + 1]);
    let half = Value::Text(text.strip_prefix("t").unwrap());
    let mut out = b"before".to_vec();
    let mut refused =
        |headers: &[(&str, Value<'_>)], payload: &[u8]| message(&mut out, headers, payload).unwrap_err();
    assert_eq!(refused(&[("", Value::Bool(true))], b""), TooLarge::Name);
    assert_eq!(refused(&[(&name, Value::Bool(true))], b""), TooLarge::Name);
    assert_eq!(refused(&[("a", Value::Text(&text))], b""), TooLarge::Value);
    assert_eq!(refused(&[("a", half), ("b", half), ("c", half)], b""), TooLarge::Headers);
    assert_eq!(refused(&[], &payload), TooLarge::Payload);
    assert_eq!(out, b"before");
}

#[test]
fn any_message_survives_writing_and_any_cut() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.usize(1..5) {
            let payload: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            let headers: Vec<_> = every_type().into_iter().filter(|_| random.bool()).collect();
            message(&mut stream, &headers, &payload).unwrap();
            expected.push((format!("{headers:?}"), payload));
        }
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(random.usize(1..=rest.len().min(64)));
            pieces.push(piece);
            rest = next;
        }
        assert_eq!(read(&pieces), (expected, Ok(())));
    }
}

#[test]
fn random_bytes_are_refused_and_never_told() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..2_000 {
        let stream: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        let (told, ended) = read(&[&stream]);
        assert!(told.is_empty() && ended.is_err());
    }
}

/// Every response body in a recording that is an event stream.
fn recorded(recording: &Yaml) -> Vec<Vec<u8>> {
    let exchanges = recording["http_interactions"].as_sequence().unwrap();
    let replies = exchanges.iter().map(|exchange| &exchange["response"]);
    let streams = replies.filter(|reply| {
        reply["headers"]["Content-Type"][0].as_str() == Some("application/vnd.amazon.eventstream")
    });
    let body = |reply: &Yaml| match &reply["body"]["string"] {
        Yaml::Tagged(tagged) => {
            let text: String = tagged.value.as_str().unwrap().split_whitespace().collect();
            STANDARD.decode(text).unwrap()
        }
        plain => plain.as_str().unwrap().as_bytes().to_vec(),
    };
    streams.map(body).collect()
}

#[test]
fn recorded_streams_are_read_at_every_chunking_and_written_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/ruby_llm");
    let Ok(files) = std::fs::read_dir(folder) else {
        println!("skipped: no recorded traffic at {folder}");
        return;
    };
    let (mut streams, mut messages) = (0, 0);
    for file in files {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        if memchr::memmem::find(&text, b"vnd.amazon.eventstream").is_none() {
            continue;
        }
        for stream in recorded(&serde_yaml::from_slice(&text).unwrap()) {
            let (told, ended) = read(&[&stream]);
            assert_eq!(ended, Ok(()));
            for size in [1, 7, 16, 1000] {
                assert_eq!(read(&stream.chunks(size).collect::<Vec<_>>()), (told.clone(), Ok(())));
            }
            let mut written = Vec::new();
            Reader::default()
                .push(&stream, &mut |told| {
                    let headers: Vec<_> = told.headers.iter().collect();
                    message(&mut written, &headers, told.payload).unwrap();
                })
                .unwrap();
            assert_eq!(written, stream);
            streams += 1;
            messages += told.len();
        }
    }
    println!("{messages} messages in {streams} streams");
    assert!(messages > 0);
}
