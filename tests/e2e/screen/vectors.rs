//! Raw requests and what becomes of each.
//!
//! The first 115 are the ones that nginx, HAProxy, Envoy and a bare Pingora proxy were measured with, in the groups in
//! which those four agreed or differed (P N H E: refused or forwarded by each). The others are where this screen
//! itself was, or could be, too lax.

/// A request as it is sent.
pub(super) struct Vector {
    pub(super) name: &'static str,
    pub(super) raw: Vec<u8>,
    pub(super) verdict: Verdict,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered with this status, the connection is closed, and no upstream hears of it.
    Refused(u16),
    /// The upstream gets one request, without anything in it that two servers could read in two ways.
    Forwarded,
}

use Verdict::{Forwarded, Refused};

const BAD: Verdict = Refused(400);

/// What every chunked or counted body in here holds.
pub(super) const JSON: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

fn raw(name: &'static str, raw: impl Into<Vec<u8>>, verdict: Verdict) -> Vector {
    Vector { name, raw: raw.into(), verdict }
}

/// A request line before fields that nothing is wrong with.
fn line(name: &'static str, line: impl AsRef<[u8]>, verdict: Verdict) -> Vector {
    raw(name, [line.as_ref(), b"\r\nHost: edge\r\n\r\n"].concat(), verdict)
}

/// A GET of something on the raw route.
fn path(name: &'static str, path: impl AsRef<[u8]>, verdict: Verdict) -> Vector {
    line(name, [b"GET /raw", path.as_ref(), b" HTTP/1.1"].concat(), verdict)
}

/// A GET on the raw route with these fields, which are whole lines.
fn fields(name: &'static str, fields: impl AsRef<[u8]>, verdict: Verdict) -> Vector {
    let line = b"GET /raw/v1/models HTTP/1.1\r\nHost: edge\r\n".as_slice();
    raw(name, [line, fields.as_ref(), b"\r\n"].concat(), verdict)
}

/// A GET on the raw route with this in the place of the Host field.
fn host(name: &'static str, host: &str, verdict: Verdict) -> Vector {
    raw(name, format!("GET /raw/v1/models HTTP/1.1\r\n{host}\r\n"), verdict)
}

/// A chat with these fields and a body of one kind or another.
fn chat(name: &'static str, fields: &str, body: &str, verdict: Verdict) -> Vector {
    let line = "POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\n";
    raw(name, [line, fields, "\r\n", body].concat(), verdict)
}

/// A chat with the body's length written thus.
fn length(name: &'static str, value: &str, verdict: Verdict) -> Vector {
    chat(name, &format!("Content-Length:{value}\r\n"), JSON, verdict)
}

/// A chat with a well-chunked body and this Transfer-Encoding.
fn coding(name: &'static str, value: &str, verdict: Verdict) -> Vector {
    chat(name, &format!("Transfer-Encoding:{value}\r\n"), &well_chunked(), verdict)
}

/// A chat with a body in chunks written thus; `{}` stands for the JSON and `#` for its length.
fn chunks(name: &'static str, body: &str, verdict: Verdict) -> Vector {
    let body = body.replace('#', &format!("{:x}", JSON.len())).replace("{}", JSON);
    chat(name, "Transfer-Encoding: chunked\r\n", &body, verdict)
}

fn well_chunked() -> String {
    format!("{:x}\r\n{JSON}\r\n0\r\n\r\n", JSON.len())
}

fn many(count: usize) -> String {
    (0..count).map(|number| format!("X-{number}: 1\r\n")).collect()
}

fn sized(name: &str, size: usize) -> String {
    format!("{name}: {}\r\n", "x".repeat(size))
}

/// The 115 vectors that the references were measured with.
pub(super) fn measured() -> Vec<Vector> {
    [where_references_differ(), what_all_forward(), what_all_refuse()].into_iter().flatten().collect()
}

/// What at least one of the four treats in another way than the others.
fn where_references_differ() -> Vec<Vector> {
    let own_length = format!("Content-Length: {}\r\n", JSON.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        // F F F R
        line("long-method", format!("{} /raw/v1/models HTTP/1.1", "A".repeat(5000)), BAD),
        raw("http10-nohost", "GET /raw/v1/models HTTP/1.0\r\n\r\n", BAD),
        fields("upgrade-ws", "Connection: upgrade\r\nUpgrade: websocket\r\n", Forwarded),
        chat(
            "upgrade-post-cl",
            &format!("Connection: upgrade\r\nUpgrade: x\r\n{own_length}"),
            JSON,
            Forwarded,
        ),
        // F F R R
        path("utf8-url", "/é", BAD),
        path("fragment", "/v1/models#there", BAD),
        fields("hdrs-200", many(200), Refused(431)),
        // F R F F
        coding("te-tab-value", "\tchunked", Forwarded),
        path("pct-null", "/a%00b", BAD),
        host("host-empty", "Host:\r\n", BAD),
        line("trace", "TRACE /raw/v1/models HTTP/1.1", Refused(405)),
        fields("hdr-9k", sized("X-Long", 9 << 10), Forwarded),
        path("url-9k", format!("/{}", "a".repeat(9 << 10)), Refused(414)),
        // F R F R
        chat("cl+te", &format!("{own_length}{chunked}"), &well_chunked(), BAD),
        chat("te+cl", &format!("{chunked}{own_length}"), &well_chunked(), BAD),
        chat("dup-cl-same", &own_length.repeat(2), JSON, BAD),
        host("no-host", "", BAD),
        host("host-path", "Host: edge/v1\r\n", BAD),
        host("host-comma", "Host: edge, other\r\n", BAD),
        line("asterisk-get", "GET * HTTP/1.1", BAD),
        // F R R R
        chat("te-dup", &chunked.repeat(2), &well_chunked(), BAD),
        coding("te-gzip-chunked", " gzip, chunked", Refused(501)),
        coding("te-leading-comma", " , chunked", BAD),
        path("nul-url", "/a\0b", BAD),
        path("space-url", "/a b", BAD),
        fields("hdr-70k", sized("X-Long", 70 << 10), Refused(431)),
        // R F F F
        chunks("chunk-data-lf", "#\r\n{}\n0\r\n\r\n", BAD),
        host("host-userinfo", "Host: user@edge\r\n", BAD),
        // R F F R
        chunks("chunk-ext-lf", "#;a\nb\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-size-lf", "#\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-final-lf", "#\r\n{}\r\n0\n\n", BAD),
        fields("ctl-value", "X-A: a\x01b\r\n", BAD),
        line("ver-1.2", "GET /raw/v1/models HTTP/1.2", Refused(505)),
        fields("conn-nominate-host", "Connection: close, host\r\n", BAD),
        // R F R F
        chunks("chunk-ext-64k", &format!("#;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(64 << 10)), BAD),
        line("absform-mismatch", "GET http://other/raw/v1/models HTTP/1.1", BAD),
        // R F R R
        fields("no-colon", "X-A\r\n", BAD),
        raw("http09", "GET /raw/v1/models\r\n\r\n", BAD),
        fields("hdrs-300", many(300), Refused(431)),
        fields("nonascii-name", "X-é: a\r\n", BAD),
        // R R F F
        fields("obsfold", "X-A: a\r\n b\r\n", BAD),
        fields("tab-line", "X-A: a\r\n\tb\r\n", BAD),
        // R R F R
        chat("te-obsfold", "Transfer-Encoding:\r\n chunked\r\n", &well_chunked(), BAD),
        raw(
            "te-http10",
            format!("POST /v1/chat/completions HTTP/1.0\r\nHost: edge\r\n{chunked}\r\n{}", well_chunked()),
            BAD,
        ),
        fields("nul-value", "X-A: a\0b\r\n", BAD),
        line("absform-file", "GET file:///raw/v1/models HTTP/1.1", BAD),
        line("connect", "CONNECT edge:443 HTTP/1.1", Refused(405)),
        line("ver-2.0", "GET /raw/v1/models HTTP/2.0", Refused(505)),
        // R R R F
        chunks("chunk-spill", "3\r\n{}\r\n0\r\n\r\n", BAD),
        fields("barecr-value", "X-A: a\rb\r\n", BAD),
        host("dup-host", "Host: edge\r\nHost: edge\r\n", BAD),
    ]
}

/// What all four forward.
fn what_all_forward() -> Vec<Vector> {
    let own_length = format!("Content-Length: {}\r\n", JSON.len());
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                  Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n";
    let nominating = |name: &str| format!("Connection: keep-alive, {name}\r\n{own_length}");
    vec![
        fields("get", "", Forwarded),
        length("post", &format!(" {}", JSON.len()), Forwarded),
        coding("chunked", " chunked", Forwarded),
        chunks("chunk-ext", "#;name=value\r\n{}\r\n0\r\n\r\n", Forwarded),
        chunks("chunk-ext-bare", "#;\r\n{}\r\n0\r\n\r\n", Forwarded),
        chunks("chunk-size-trailing-space", "# \r\n{}\r\n0\r\n\r\n", Forwarded),
        chunks("chunk-ext-unquoted", "#;a=\"b\r\n{}\r\n0\r\n\r\n", Forwarded),
        chunks("trailer-cl", "#\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n", Forwarded),
        raw("lf-lines", "GET /raw/v1/models HTTP/1.1\nHost: edge\n\n", BAD),
        path("path-backslash", "/a\\b", BAD),
        path("path-dots", "/../v1/models", BAD),
        path("path-pct-dots", "/%2e%2e/v1/models", BAD),
        path("path-slashes", "//v1/models", BAD),
        path("path-pct-slash", "/a%2fb", BAD),
        path("path-pct-crlf", "/a%0d%0ab", BAD),
        line("double-space", "GET  /raw/v1/models HTTP/1.1", BAD),
        line("absform-match", "GET http://edge/raw/v1/models HTTP/1.1", Forwarded),
        raw(
            "body-on-get",
            format!("GET /raw/v1/models HTTP/1.1\r\nHost: edge\r\n{own_length}\r\n{JSON}"),
            Forwarded,
        ),
        raw(
            "body-on-head",
            format!("HEAD /raw/v1/models HTTP/1.1\r\nHost: edge\r\n{own_length}\r\n{JSON}"),
            Forwarded,
        ),
        chat("expect", &format!("Expect: 100-continue\r\n{own_length}"), JSON, Forwarded),
        fields("forged-forwarding", forged, Forwarded),
        fields("underscore-name", "X_A: a\r\n", BAD),
        fields("nonascii-value", "X-A: é\r\n", Forwarded),
        raw("leading-crlf", "\r\n\r\nGET /raw/v1/models HTTP/1.1\r\nHost: edge\r\n\r\n", Forwarded),
        chat("conn-nominate-authorization", &nominating("authorization"), JSON, Forwarded),
        chat("conn-nominate-cl", &nominating("content-length"), JSON, Forwarded),
    ]
}

/// What all four refuse.
fn what_all_refuse() -> Vec<Vector> {
    let own = JSON.len();
    let two_lengths = format!("Content-Length: {own}\r\nContent-Length: 3\r\n");
    vec![
        length("cl-minus", &format!(" -{own}"), BAD),
        length("cl-plus", &format!(" +{own}"), BAD),
        length("cl-hex", &format!(" {own:#x}"), BAD),
        length("cl-list", &format!(" {own}, {own}"), BAD),
        length("cl-list-differing", &format!(" {own}, 3"), BAD),
        chat("dup-cl-differing", &two_lengths, JSON, BAD),
        length("cl-overflow", " 18446744073709551617", BAD),
        length("cl-empty", "", BAD),
        length("cl-inner-space", " 1 2", BAD),
        length("cl-letters", " many", BAD),
        chat("cl-space-colon", &format!("Content-Length : {own}\r\n"), JSON, BAD),
        coding("te-unknown", " xchunked", BAD),
        coding("te-vertical-tab", " \x0bchunked", BAD),
        chat("te-space-colon", "Transfer-Encoding : chunked\r\n", &well_chunked(), BAD),
        coding("te-identity", " identity", Refused(501)),
        coding("te-chunked-gzip", " chunked, gzip", Refused(501)),
        coding("te-chunked-twice", " chunked, chunked", BAD),
        coding("te-quoted", " \"chunked\"", BAD),
        chunks("chunk-0x", "0x#\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-plus", "+#\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-minus", "-#\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-underscore", "0_#\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-no-size", "\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-overflow", "10000000000000000#\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-letters", "xy\r\n{}\r\n0\r\n\r\n", BAD),
        chunks("chunk-leading-space", " #\r\n{}\r\n0\r\n\r\n", BAD),
        fields("name-empty", ": a\r\n", BAD),
        fields("name-space", "X A: a\r\n", BAD),
        fields("name-space-colon", "X-A : a\r\n", BAD),
        fields("name-ctl", "X-\x01A: a\r\n", BAD),
        host("first-field-indented", " X-A: a\r\nHost: edge\r\n", BAD),
        line("method-ctl", "G\x01T /raw/v1/models HTTP/1.1", BAD),
        line("method-none", " /raw/v1/models HTTP/1.1", BAD),
        line("ver-other-protocol", "GET /raw/v1/models HTTQ/1.1", BAD),
        line("ver-lower-case", "GET /raw/v1/models http/1.1", BAD),
        line("ver-no-minor", "GET /raw/v1/models HTTP/1", Refused(505)),
        host("host-space", "Host: ed ge\r\n", BAD),
        host("host-port", "Host: edge:99999999\r\n", BAD),
    ]
}

/// What the references were not asked.
pub(super) fn more() -> Vec<Vector> {
    vec![
        // A bare LF, CR or form feed at either end of a value, where trimming white space would hide it.
        fields("value-leading-lf", "X-A:\nX-B: b\r\n", BAD),
        chat("value-leading-lf-te", "X-A:\nTransfer-Encoding: chunked\r\n", &well_chunked(), BAD),
        chat("te-leading-lf", "Transfer-Encoding:\nX-A: chunked\r\n", &well_chunked(), BAD),
        fields("value-trailing-cr", "X-A: a\r\r\n", BAD),
        fields("value-leading-cr", "X-A:\ra\r\n", BAD),
        fields("value-form-feed", "X-A: \x0ca\r\n", BAD),
        coding("te-form-feed", " \x0cchunked", BAD),
        length("cl-trailing-cr", &format!(" {}\r", JSON.len()), BAD),
        length("cl-form-feed", &format!(" {}\x0c", JSON.len()), BAD),
        host("host-trailing-cr", "Host: edge\r\r\n", BAD),
        // Pingora refuses these itself, on the way up.
        fields("connection-colon", "Connection: keep:alive\r\n", BAD),
        fields("connection-non-ascii", "Connection: é\r\n", BAD),
        fields("connection-many", "Connection: a, b, c, d, e, f, g, h, i, j, k\r\n", BAD),
        fields("connection-nominates-chain", "Connection: X-Forwarded-For\r\n", BAD),
        path("query-quote", "/v1/models?a=\"b", BAD),
        path("path-pct-slash-in-name", "/v1/models/a%2Fb", BAD),
        path("del-url", "/a\x7fb", BAD),
        path("path-broken-escape", "/a%4", BAD),
        path("path-dot", "/./v1/models", BAD),
        path("path-pct-backslash", "/a%5cb", BAD),
        fields("expect-other", "Expect: 200-ok\r\n", Refused(417)),
        fields("dup-authorization", "Authorization: a\r\nAuthorization: b\r\n", BAD),
        fields("underscore-cl", "Content_Length: 5\r\n", BAD),
        chunks("chunk-end-missing", "#\r\n{}0\r\n\r\n", BAD),
        chunks("trailer-te", "#\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", Forwarded),
    ]
}
