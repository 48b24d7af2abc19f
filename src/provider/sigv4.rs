//! AWS Signature Version 4 in the `Authorization` header, as a pure function of a request, credentials and a time.
//!
//! ```text
//! request ─ canonical ─ SHA-256 ─┐
//! time, region, service ─────────┴─ string to sign ─┐
//! secret ─ HMAC: day ─ region ─ service ─ key ──────┴─ HMAC ─ signature
//! ```
//!
//! It is own code on the primitives of `aws-lc-rs`, which is here for TLS already: the scheme is four HMACs over a text
//! that is fully specified, with a public test suite. The crate `aws-sigv4` would bring some twenty more crates
//! (`aws-smithy-*`, a second SHA-2 and HMAC) for the same two hundred lines.
//!
//! A path is encoded once more than it is on the wire: `:` in a model's id is sent as `%3A` and signed as `%253A`.
//!
//! Source: "Signature Version 4 signing process" in the IAM User Guide; AWS's test suite; compared with botocore.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use aws_lc_rs::hmac;
use http::HeaderMap;
use zeroize::Zeroizing;

use crate::moment::rfc3339;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Headers that are not signed: what the next hop may change, and what a signature brings itself.
const UNSIGNED: [&str; 15] = [
    "authorization",
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amz-date",
    "x-amz-security-token",
    "x-amzn-trace-id",
];

/// What AWS knows a caller by.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key's id, which is no secret.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of credentials that expire.
    pub token: Option<Secret>,
}

/// What is called, and how its requests are signed.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The region, `us-east-1`.
    pub region: &'a str,
    /// The service's signing name, `bedrock`.
    pub service: &'a str,
    /// What becomes of `.`, `..` and empty segments of the path.
    pub segments: Segments,
}

/// What becomes of `.`, `..` and empty segments of a path before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// They are resolved, as every service but S3 does.
    Resolved,
    /// They are signed as they are.
    Kept,
}

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The host as it is sent in `Host` or `:authority`: with a port only where it is not the scheme's.
    pub host: &'a str,
    /// The path as it is on the wire.
    pub path: &'a str,
    /// The query as it is on the wire, without `?`. A `+` in it is a plus.
    pub query: &'a str,
    /// The headers. Those that must not be signed may be among them; `host` and those of [`Signed`] are passed over.
    pub headers: &'a HeaderMap,
    /// The hash of the whole body.
    pub payload: Payload,
}

/// The SHA-256 of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload([u8; SHA256_OUTPUT_LEN]);

impl Payload {
    /// The hash of a body that lies in pieces.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for piece in pieces {
            context.update(piece);
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

/// The headers that make a request signed. Each replaces what the request has of that name.
#[derive(Clone, Debug)]
pub struct Signed {
    /// `x-amz-date`
    pub date: String,
    /// `x-amz-security-token`
    pub token: Option<Secret>,
    /// `authorization`
    pub authorization: String,
}

/// Signs `request` at `time`, which AWS lets differ from its own by five minutes.
pub fn sign(request: &Request<'_>, credentials: &Credentials, scope: &Scope<'_>, time: SystemTime) -> Signed {
    let date = stamp(time);
    let mut headers = signable(request);
    headers.insert("x-amz-date", Cow::Borrowed(date.as_bytes()));
    if let Some(token) = &credentials.token {
        headers.insert("x-amz-security-token", Cow::Borrowed(token.expose().as_bytes()));
    }
    let canonical = canonical(request, scope.segments, &headers);
    let text = string_to_sign(&canonical, scope, &date);
    let signature = signature(&text, &credentials.secret, scope, &date);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
        credentials.id,
        scope.at(&date),
        names(&headers),
    );
    Signed { date, token: credentials.token.clone(), authorization }
}

impl Scope<'_> {
    fn at(&self, date: &str) -> String {
        format!("{}/{}/{}/aws4_request", day(date), self.region, self.service)
    }
}

/// A time as `20150830T123600Z`.
fn stamp(time: SystemTime) -> String {
    rfc3339(time).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

fn day(date: &str) -> &str {
    date.split('T').next().unwrap_or_default()
}

// === What is signed ===

/// The headers to be signed, by name, each with its values in one.
type Headers<'a> = BTreeMap<&'a str, Cow<'a, [u8]>>;

fn signable<'a>(request: &Request<'a>) -> Headers<'a> {
    let mut headers = Headers::from([("host", Cow::Borrowed(request.host.as_bytes()))]);
    for name in request.headers.keys().filter(|name| !UNSIGNED.contains(&name.as_str())) {
        let values: Vec<Vec<u8>> =
            request.headers.get_all(name).iter().map(|value| squeezed(value.as_bytes())).collect();
        headers.insert(name.as_str(), Cow::Owned(values.join(b",".as_slice())));
    }
    headers
}

/// A value without white space around it, and with one space for each run of it inside.
fn squeezed(value: &[u8]) -> Vec<u8> {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(b" ".as_slice())
}

fn names(headers: &Headers<'_>) -> String {
    headers.keys().copied().collect::<Vec<_>>().join(";")
}

/// The request in the one form that both sides hash. It holds the session token.
fn canonical(request: &Request<'_>, segments: Segments, headers: &Headers<'_>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(1024));
    let path = match segments {
        Segments::Resolved => resolved(request.path),
        Segments::Kept => request.path.to_owned(),
    };
    for part in [request.method, &encoded(path.as_bytes(), b"/"), &query(request.query)] {
        out.extend_from_slice(part.as_bytes());
        out.push(b'\n');
    }
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    for part in ["\n", &names(headers), "\n", &hex(&request.payload.0)] {
        out.extend_from_slice(part.as_bytes());
    }
    out
}

fn string_to_sign(canonical: &[u8], scope: &Scope<'_>, date: &str) -> String {
    let Payload(hash) = Payload::of([canonical]);
    format!("{ALGORITHM}\n{date}\n{}\n{}", scope.at(date), hex(&hash))
}

fn signature(text: &str, secret: &Secret, scope: &Scope<'_>, date: &str) -> String {
    let first = Zeroizing::new(format!("AWS4{}", secret.expose()));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
    for part in [day(date), scope.region, scope.service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// A path without `.`, `..` and empty segments.
fn resolved(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// A query in order of its names and values, each encoded in the one way that counts.
fn query(query: &str) -> String {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(String, String)> = parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (encoded(&decoded(name), b""), encoded(&decoded(value), b"")))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Text with its percent escapes undone; a `%` that begins none stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, next)) = rest.split_first() {
        let escaped = (*byte == b'%').then(|| next.split_at_checked(2)).flatten();
        let code = escaped.and_then(|(digits, after)| {
            let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, next) = code.unwrap_or((*byte, next));
        out.push(byte);
        rest = next;
    }
    out
}

/// Text with everything percent-encoded but letters, digits, `-._~` (RFC 3986 §2.3) and the bytes in `kept`.
pub(super) fn encoded(text: &[u8], kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte))
            }
            _ if kept.contains(byte) => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests;
