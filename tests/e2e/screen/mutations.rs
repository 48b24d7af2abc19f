//! Requests that nothing is wrong with, spoiled at random; the same number gives the same requests.

use fastrand::Rng;

use super::vectors::JSON;

/// What is put where it does not belong.
const SPOILS: [&[u8]; 24] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\xff",
    b":",
    b",",
    b";",
    b"%",
    b"/",
    b"..",
    b"#",
    b"\\",
    b"_",
    b"-",
    b"+",
    b"0x",
    b"chunked",
    b"Content-Length: 3\r\n",
];

/// Request number `number`.
pub(super) fn mutated(number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    let mut request = base(&mut rng);
    for _ in 0..rng.usize(1..=3) {
        spoil(&mut request, &mut rng);
    }
    request
}

fn base(rng: &mut Rng) -> Vec<u8> {
    let fields = ["", "X-A: a\r\n", "Connection: keep-alive\r\n", "Cookie: a=b\r\n"][rng.usize(0..4)];
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\n{fields}");
    let length = JSON.len();
    match rng.u8(0..3) {
        0 => format!("{head}Content-Length: {length}\r\n\r\n{JSON}"),
        1 => format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{JSON}\r\n0\r\n\r\n"),
        _ => format!("GET /raw/v1/models?a=b HTTP/1.1\r\nHost: edge\r\n{fields}\r\n"),
    }
    .into_bytes()
}

fn spoil(request: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..request.len());
    match rng.u8(0..4) {
        0 => drop(request.remove(at)),
        1 => request[at] = rng.u8(..),
        2 => drop(request.splice(at..at, SPOILS[rng.usize(0..SPOILS.len())].iter().copied())),
        _ => {
            // A line is repeated somewhere else.
            let lines: Vec<Vec<u8>> =
                request.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let line = lines[rng.usize(0..lines.len())].clone();
            request.splice(at..at, line);
        }
    }
}
