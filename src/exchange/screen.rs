//! The strict HTTP screen: what is refused before anything else looks at a request.
//!
//! Pingora 0.9.1 repairs or passes on much that other servers refuse, and parts of it are gone before its first filter
//! runs (a `Content-Length` beside a `Transfer-Encoding`, a NUL in the target). So heads are screened as they came
//! off the wire (RFC 9110, RFC 9112). What reaches an upstream is built anew and holds none of these bytes.

use std::borrow::Cow;

use crate::dialect::{Dialect, Operation};
use crate::error::{Error, Kind};
use crate::snapshot::HeadBounds;

/// How long the body is, as the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; 0 for none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// The largest share of the head's bound that the request target may take.
const TARGET_SHARE: usize = 4;
/// The longest method that any registry knows has 17 letters.
const METHOD: usize = 20;

/// Screens the head of an HTTP/1 request: from the first byte of the request line to the empty line.
///
/// # Errors
/// What is wrong with it; the connection must be closed after the answer.
pub fn head(head: &[u8], bounds: &HeadBounds) -> Result<Framing, Error> {
    let lines = head.strip_suffix(b"\r\n\r\n").ok_or_else(|| bad("lines of the head must end with CRLF"))?;
    let mut lines = Lines { rest: Some(lines) };
    let (version, target) = request_line(lines.next().unwrap_or_default(), bounds)?;
    let mut fields = Fields::default();
    for (count, line) in lines.enumerate() {
        if count >= bounds.fields {
            return Err(Error::client(Kind::HeadTooLarge, "the request has too many header fields"));
        }
        fields.take(line)?;
    }
    fields.finish(version, target)
}

/// Splits at CRLF. A CR or LF on its own stays in its line, where it is found to be no field content.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        match memchr::memmem::find(rest, b"\r\n") {
            Some(at) => {
                self.rest = Some(&rest[at + 2..]);
                Some(&rest[..at])
            }
            None => Some(rest),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn bad(why: &'static str) -> Error {
    Error::client(Kind::InvalidRequest, why)
}

fn request_line<'a>(line: &'a [u8], bounds: &HeadBounds) -> Result<(Version, &'a [u8]), Error> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(verb), Some(uri), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request line must be a method, a target and a version with one space between"));
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        other if other.starts_with(b"HTTP/") => {
            return Err(Error::client(Kind::VersionNotSupported, "only HTTP/1.1 and HTTP/2 are served"));
        }
        _ => return Err(bad("the request line has no HTTP version")),
    };
    method(verb)?;
    if uri.len() > bounds.bytes / TARGET_SHARE {
        return Err(Error::client(Kind::TargetTooLong, "the request target is too long"));
    }
    target(verb, uri)?;
    Ok((version, uri))
}

/// Refuses methods that are no tokens or that no exchange may use.
///
/// # Errors
/// 400 or 405.
pub fn method(method: &[u8]) -> Result<(), Error> {
    if method.is_empty() || method.len() > METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(bad("the request method is not a token"));
    }
    match method {
        b"CONNECT" | b"TRACE" => {
            Err(Error::client(Kind::MethodNotAllowed, "this method is not allowed here"))
        }
        _ => Ok(()),
    }
}

/// The dialect that a head betrays, however bad the head is: by its path, or else by its fields.
pub fn dialect(head: &[u8]) -> Dialect {
    let mut lines = head.split(|byte| *byte == b'\n');
    if let Some(dialect) = lines.next().and_then(dialect_at) {
        return dialect;
    }
    let is_anthropic = |line: &[u8]| {
        [&b"anthropic-version:"[..], b"x-api-key:"]
            .iter()
            .any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
    };
    if lines.any(is_anthropic) { Dialect::Anthropic } else { Dialect::OpenaiChat }
}

/// The dialect of the operation whose path is somewhere in `target`.
pub fn dialect_at(target: &[u8]) -> Option<Dialect> {
    let is_there = |operation: &Operation| {
        let is_bare = *operation == Operation::Models || operation.names_model() || operation.is_upstreams();
        !is_bare && memchr::memmem::find(target, operation.path().as_bytes()).is_some()
    };
    Operation::ALL.into_iter().find(is_there).map(Operation::dialect)
}

/// Refuses targets that different parsers could read differently. Both the origin form and the absolute form pass.
///
/// # Errors
/// 400.
pub fn target(method: &[u8], target: &[u8]) -> Result<(), Error> {
    let Some(path_and_query) = origin_form(target) else {
        return Err(bad("the request target must begin with a slash"));
    };
    let may_stand = |byte: &u8| (0x21..=0x7e).contains(byte) && !b"#\"<>".contains(byte);
    if !path_and_query.iter().all(may_stand) {
        return Err(bad("the request target has a character that must be percent-encoded"));
    }
    let path = path_and_query.split(|byte| *byte == b'?').next().unwrap_or_default();
    if path.iter().any(|byte| b"\\^`{|}".contains(byte)) {
        return Err(bad("the path has a character that must be percent-encoded"));
    }
    let plain = plain(method, path);
    percent(&plain)?;
    let mut segments = plain.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => return Err(bad("the path must not have dot segments")),
            b"" if !last => return Err(bad("the path must not have empty segments")),
            _ => {}
        }
    }
    Ok(())
}

/// The path with the slashes of a model's name in the clear. SDKs escape the name that they ask for, slashes and all;
/// what asks for one is answered here, or sent on under a path that is made anew, so that no upstream could read it in
/// another way.
fn plain<'a>(method: &[u8], path: &'a [u8]) -> Cow<'a, [u8]> {
    let Some(at) = named_at(method, path).filter(|at| hides_slash(&path[*at..])) else { return path.into() };
    let (before, name) = path.split_at(at);
    let mut plain = before.to_vec();
    let mut rest = name;
    while let Some((first, more)) = rest.split_first() {
        let hidden = rest.get(..3).is_some_and(|escape| escape.eq_ignore_ascii_case(b"%2f"));
        plain.push(if hidden { b'/' } else { *first });
        rest = if hidden { &rest[3..] } else { more };
    }
    plain.into()
}

/// Where a path begins to name a model that it asks for: `GET .../models/NAME`, `POST .../models/NAME:generateContent`,
/// or `POST .../model/NAME/converse`.
fn named_at(method: &[u8], path: &[u8]) -> Option<usize> {
    const NAMED: [(&[u8], &[u8], &[u8]); 5] = [
        (b"GET", b"/models/", b""),
        (b"POST", b"/models/", b":generateContent"),
        (b"POST", b"/models/", b":streamGenerateContent"),
        (b"POST", b"/model/", b"/converse"),
        (b"POST", b"/model/", b"/converse-stream"),
    ];
    NAMED
        .iter()
        .filter(|(verb, _, end)| method == *verb && path.ends_with(end))
        .find_map(|(_, before, _)| Some(memchr::memmem::find(path, before)? + before.len()))
}

/// Whether a path has an escaped slash, which nothing but the name of a model may have.
pub fn hides_slash(path: &[u8]) -> bool {
    path.windows(3).any(|escape| escape.eq_ignore_ascii_case(b"%2f"))
}

/// The path and query of a target: itself in origin form, what follows the authority in absolute form.
pub fn origin_form(target: &[u8]) -> Option<&[u8]> {
    if target.starts_with(b"/") {
        return Some(target);
    }
    let (_, rest) = absolute_form(target)?;
    Some(if rest.is_empty() { b"/" } else { rest })
}

/// Authority and the rest of a target in absolute form.
fn absolute_form(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = target.strip_prefix(b"http://").or_else(|| target.strip_prefix(b"https://"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    (is_authority(authority) && !path.starts_with(b"?")).then_some((authority, path))
}

/// Refuses broken escapes, and those that hide what would be refused in the clear.
fn percent(path: &[u8]) -> Result<(), Error> {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let decoded =
            path.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(hex_byte);
        match decoded {
            None => return Err(bad("the path has a broken percent escape")),
            Some(b'/' | b'\\' | b'.' | 0x00..=0x1f | 0x7f) => {
                return Err(bad("the path hides a slash, a dot or a control character in an escape"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn hex_byte(hex: &str) -> Option<u8> {
    hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(hex, 16).ok())?
}

/// The fields that framing and routing depend on.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    content_type: bool,
    authorization: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), Error> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(bad("header fields must not be folded"));
        }
        let colon = memchr::memchr(b':', line).ok_or_else(|| bad("a header field has no colon"))?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || name.contains(&b'_') {
            return Err(bad("a header field has a name that is no token of letters, digits and hyphens"));
        }
        // Trimmed of blanks alone, or a CR or LF on its own would go unseen at either end.
        if value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
            return Err(bad("a header field has a control character"));
        }
        self.note(name, value)
    }

    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Error> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // The first byte tells most fields from the few that matter.
        match name[0].to_ascii_lowercase() {
            b'h' if is(b"host") => once(&mut self.host, value, "the request has several Host fields"),
            b'c' if is(b"content-length") => {
                once(&mut self.length, value, "the request has several Content-Length fields")
            }
            b'c' if is(b"content-type") => {
                flag(&mut self.content_type, "the request has several Content-Type fields")
            }
            b'c' if is(b"connection") => connection(value),
            b't' if is(b"transfer-encoding") => {
                once(&mut self.coding, value, "the request has several Transfer-Encoding fields")
            }
            b'a' if is(b"authorization") => {
                flag(&mut self.authorization, "the request has several Authorization fields")
            }
            b'e' if is(b"expect") => expectation(value),
            _ => Ok(()),
        }
    }

    fn finish(self, version: Version, target: &[u8]) -> Result<Framing, Error> {
        match self.host {
            None => return Err(bad("the request has no Host field")),
            Some(host) if !is_authority(host) => return Err(bad("the Host field is not a host")),
            Some(host) if !same_place(target, host) => {
                return Err(bad("the target and the Host field differ"));
            }
            Some(_) => {}
        }
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(bad("the request has both Content-Length and Transfer-Encoding")),
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) => length_of(length).map(Framing::Length),
            (None, Some(_)) if version == Version::Http10 => Err(bad("HTTP/1.0 has no Transfer-Encoding")),
            (None, Some(coding)) => chunked(coding),
        }
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], why: &'static str) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(why)),
    }
}

fn flag(seen: &mut bool, why: &'static str) -> Result<(), Error> {
    if std::mem::replace(seen, true) { Err(bad(why)) } else { Ok(()) }
}

/// A list of tokens, none of which names a field that is not a hop's own.
fn connection(value: &[u8]) -> Result<(), Error> {
    for name in value.split(|byte| *byte == b',').map(trim) {
        if !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad("Connection is not a list of tokens"));
        }
        if KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            return Err(bad("Connection must not nominate Host or a field of the forwarding chain"));
        }
    }
    Ok(())
}

/// What no Connection field may have removed on the way.
const KEPT: [&[u8]; 4] = [b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"];

/// Without the blanks at either end (RFC 9110 §5.5).
fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(*byte, b' ' | b'\t');
    let Some(first) = value.iter().position(is_text) else { return &[] };
    let last = value.iter().rposition(is_text).unwrap_or(first);
    &value[first..=last]
}

fn expectation(value: &[u8]) -> Result<(), Error> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Error::client(Kind::ExpectationFailed, "the only expectation that is met is 100-continue"))
}

/// Only digits: no sign, no list, no more than a 64-bit number holds.
fn length_of(value: &[u8]) -> Result<u64, Error> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits && value.len() <= 18);
    number.and_then(|text| text.parse().ok()).ok_or_else(|| bad("Content-Length is not a number"))
}

fn chunked(coding: &[u8]) -> Result<Framing, Error> {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let known = |name: &[u8]| {
        let name = trim(name);
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"identity"]
            .iter()
            .any(|k| name.eq_ignore_ascii_case(k))
    };
    if coding.split(|byte| *byte == b',').any(known) {
        return Err(Error::client(Kind::NotImplemented, "the only transfer coding that is read is chunked"));
    }
    Err(bad("Transfer-Encoding is not chunked"))
}

/// RFC 9110 §5.6.2.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A host name or address with an optional port; no user, path, list or space.
pub fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => return false,
        },
        None => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let in_brackets = value.starts_with(b"[");
    let host_fits =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (in_brackets && *byte == b':');
    let port_fits = match port.strip_prefix(b":") {
        None => port.is_empty(),
        Some(digits) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
    };
    !host.is_empty() && host.len() <= 255 && host.iter().all(host_fits) && port_fits
}

/// Whether the authority of an absolute-form target and the Host field name the same place; an origin form has none.
fn same_place(target: &[u8], host: &[u8]) -> bool {
    absolute_form(target).is_none_or(|(authority, _)| authority.eq_ignore_ascii_case(host))
}

/// Screens a request that came over HTTP/2, whose framing the h2 library has checked.
///
/// # Errors
/// As [`head`].
pub fn h2(head: &http::request::Parts, bounds: &HeadBounds) -> Result<(), Error> {
    method(head.method.as_str().as_bytes())?;
    let path = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if path.len() > bounds.bytes / TARGET_SHARE {
        return Err(Error::client(Kind::TargetTooLong, "the request target is too long"));
    }
    target(head.method.as_str().as_bytes(), path.as_bytes())?;
    if head.headers.len() > bounds.fields {
        return Err(Error::client(Kind::HeadTooLarge, "the request has too many header fields"));
    }
    if head.headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(bad("a header field has a name that is no token of letters, digits and hyphens"));
    }
    h2_fields(&head.headers)?;
    let mut hosts = head.headers.get_all(http::header::HOST).iter();
    let (host, authority) = (hosts.next(), head.uri.authority());
    if hosts.next().is_some() {
        return Err(bad("the request has several Host fields"));
    }
    match (authority, host) {
        (None, None) => Err(bad("the request has neither :authority nor Host")),
        (Some(authority), Some(host))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(bad(":authority and Host differ"))
        }
        (Some(authority), _) if !is_authority(authority.as_str().as_bytes()) => {
            Err(bad(":authority is not a host"))
        }
        (None, Some(host)) if !is_authority(host.as_bytes()) => Err(bad("the Host field is not a host")),
        _ => Ok(()),
    }
}

/// The fields that a request over HTTP/2 may have as little as one over HTTP/1.
fn h2_fields(headers: &http::HeaderMap) -> Result<(), Error> {
    let several = |name| headers.get_all(name).iter().nth(1).is_some();
    if several(http::header::AUTHORIZATION) {
        return Err(bad("the request has several Authorization fields"));
    }
    if several(http::header::CONTENT_TYPE) {
        return Err(bad("the request has several Content-Type fields"));
    }
    headers.get_all(http::header::EXPECT).iter().try_for_each(|value| expectation(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(raw: &str) -> Result<Framing, u16> {
        head(raw.as_bytes(), &HeadBounds::default()).map_err(|error| error.kind.status())
    }

    fn get(line_and_fields: &str) -> Result<Framing, u16> {
        verdict(&format!("{line_and_fields}\r\n\r\n"))
    }

    #[test]
    fn what_clients_send_passes() {
        assert_eq!(get("GET / HTTP/1.1\r\nHost: a"), Ok(Framing::Length(0)));
        assert_eq!(
            get("POST /v1/x?q=%20|{ HTTP/1.1\r\nHost: a:80\r\nContent-Length: 12"),
            Ok(Framing::Length(12))
        );
        assert_eq!(
            get("POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: Chunked"),
            Ok(Framing::Chunked)
        );
        assert_eq!(get("GET http://a/x HTTP/1.1\r\nHost: a"), Ok(Framing::Length(0)));
        assert_eq!(
            get("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nX: \u{e9}"),
            Ok(Framing::Length(0))
        );
        assert_eq!(get("GET /a%20b/c HTTP/1.0\r\nHost: a"), Ok(Framing::Length(0)));
    }

    #[test]
    fn targets_that_could_be_read_in_two_ways_are_refused() {
        for target in [
            "*",
            "x",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/%2e%2e/a",
            "/a%2fb",
            "/a%5Cb",
            "/%00",
            "/%0d%0a",
            "/%zz",
            "/%",
            "/a\\b",
            "/a#b",
            "/\u{e9}",
            "/a\u{0}b",
            "/a\u{7f}",
            "http://u@a/",
            "http:///x",
            "ftp://a/x",
            "/<a>",
            "/?<a>",
            "/?a=\"b",
        ] {
            assert_eq!(get(&format!("GET {target} HTTP/1.1\r\nHost: a")), Err(400), "{target:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: a", "a".repeat(9000));
        assert_eq!(get(&long), Err(414));
    }

    #[test]
    fn framing_that_could_be_read_in_two_ways_is_refused() {
        for (fields, status) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
            ("Content-Length: 1\r\nContent-Length: 1", 400),
            ("Content-Length: 1, 1", 400),
            ("Content-Length: +1", 400),
            ("Content-Length: -1", 400),
            ("Content-Length: 0x1", 400),
            ("Content-Length:", 400),
            ("Content-Length: 99999999999999999999", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: , chunked", 400),
            ("Transfer-Encoding: chunked,", 400),
            ("Transfer-Encoding: xchunked", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: identity", 501),
            ("Transfer-Encoding:\u{b}chunked", 400),
            ("Transfer-Encoding : chunked", 400),
            ("X: a\r\n chunked", 400),
            ("Content_Length: 1", 400),
            ("Expect: x", 417),
            ("Connection: close, host", 400),
            ("Authorization: a\r\nAuthorization: b", 400),
            ("Connection: keep:alive", 400),
            ("Connection: \u{e9}", 400),
            ("Connection: x-forwarded-for", 400),
            ("X: a\u{0}", 400),
            ("X:\nY: b", 400),
            ("X: a\r", 400),
            ("X: \u{c}a", 400),
            ("Transfer-Encoding:\nX: chunked", 400),
            ("X: a\rb", 400),
            ("X: a\nY: b", 400),
            ("nocolon", 400),
            (": x", 400),
        ] {
            assert_eq!(get(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}")), Err(status), "{fields:?}");
        }
        assert_eq!(get("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked"), Err(400));
    }

    #[test]
    fn the_name_of_a_model_may_hide_slashes_and_nothing_else() {
        for (line, verdict) in [
            ("GET /v1/models/a%2Fb%2fc", Ok(Framing::Length(0))),
            ("GET /team/models/tag%3A1", Ok(Framing::Length(0))),
            ("POST /v1/models/a%2Fb", Err(400)),
            ("GET /a%2Fb/models/x", Err(400)),
            ("GET /v1/models/..%2Fb", Err(400)),
            ("GET /v1/models/a%2F%2Fb", Err(400)),
            ("GET /v1/models/%2e%2e", Err(400)),
            ("GET /v1/models/a%252Fb%5c", Err(400)),
        ] {
            assert_eq!(get(&format!("{line} HTTP/1.1\r\nHost: a")), verdict, "{line}");
        }
    }

    #[test]
    fn a_bad_head_betrays_its_dialect() {
        for (head, expected) in [
            ("POST /v1/messages HTTP/1.1\nHost: a", Dialect::Anthropic),
            ("POST /x/v1/responses HT", Dialect::OpenaiResponses),
            ("POST /v1/chat/completions HTTP/1.1\r\nX-Api-Key: k", Dialect::OpenaiChat),
            ("GET /v1/models HTTP/1.1\r\nX-API-Key: k", Dialect::Anthropic),
            ("GET /v1/models HTTP/1.1\r\nanthropic-version: x", Dialect::Anthropic),
            ("GET /v1/models HTTP/1.1\r\nX: x-api-key: k", Dialect::OpenaiChat),
            ("", Dialect::OpenaiChat),
        ] {
            assert_eq!(dialect(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn request_lines_hosts_and_bounds() {
        for (raw, status) in [
            ("GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
            ("GET / HTTP/1.1\r\nHost:", 400),
            ("GET / HTTP/1.1\r\nHost: a/b", 400),
            ("GET / HTTP/1.1\r\nHost: a,b", 400),
            ("GET / HTTP/1.1\r\nHost: u@a", 400),
            ("GET  / HTTP/1.1\r\nHost: a", 400),
            ("GET /\r\nHost: a", 400),
            ("GET / HTTP/2.0\r\nHost: a", 505),
            ("GET / HTTP/1.2\r\nHost: a", 505),
            ("TRACE / HTTP/1.1\r\nHost: a", 405),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a", 405),
            ("G T / HTTP/1.1\r\nHost: a", 400),
            ("G\u{0}T / HTTP/1.1\r\nHost: a", 400),
        ] {
            assert_eq!(get(raw), Err(status), "{raw:?}");
        }
        assert_eq!(get(&format!("{} / HTTP/1.1\r\nHost: a", "A".repeat(5000))), Err(400));
        let many: String = (0..101).map(|i| format!("\r\nX{i}: 1")).collect();
        assert_eq!(get(&format!("GET / HTTP/1.1\r\nHost: a{many}")), Err(431));
        assert_eq!(verdict("GET / HTTP/1.1\nHost: a\n\n"), Err(400));
        assert!(
            same_place(b"/x", b"a") && same_place(b"http://A/x", b"a") && !same_place(b"http://b/x", b"a")
        );
    }
}
