use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::*;

/// 2026-11-21T09:08:07Z
const NOW: Duration = Duration::from_secs(1_795_252_087);
/// 2015-08-30T12:36:00Z, the time of AWS's suite.
const THEN: Duration = Duration::from_secs(1_440_938_160);

// AWS's public example credentials.
const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN//+==";

/// A request, and what botocore 1.44.5 signed it with.
struct Own {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    query: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    region: &'static str,
    service: &'static str,
    token: bool,
    names: &'static str,
    signature: &'static str,
}

const OWN: &[Own] = &[
    Own {
        method: "POST",
        host: "bedrock-runtime.us-east-1.amazonaws.com",
        path: "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse",
        query: "",
        headers: &[("content-type", "application/json")],
        body: "{\"messages\":[]}",
        region: "us-east-1",
        service: "bedrock",
        token: false,
        names: "content-type;host;x-amz-date",
        signature: "f63bb99635ddd2669c9f37610124daeb471005beb836f9427f08190baf1dd1b6",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime.us-east-1.amazonaws.com",
        path: "/model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse",
        query: "",
        headers: &[("content-type", "application/json")],
        body: "{\"messages\":[]}",
        region: "us-east-1",
        service: "bedrock",
        token: false,
        names: "content-type;host;x-amz-date",
        signature: "92d5e17427c9d415cb5a2ddc726c63394f25042345fff411297aaecf9d76ff42",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime.eu-west-3.amazonaws.com",
        path: "/model/arn%3Aaws%3Abedrock%3Aeu-west-3%3A123456789012%3Ainference-profile%2Feu.amazon.nova-2-lite-v1%3A0/converse-stream",
        query: "",
        headers: &[("content-type", "application/json"), ("accept", "application/vnd.amazon.eventstream")],
        body: "{}",
        region: "eu-west-3",
        service: "bedrock",
        token: true,
        names: "accept;content-type;host;x-amz-date;x-amz-security-token",
        signature: "d0c62b543584a94496fd6ff7bd6935e6ba51ecbca0a67803e7c1ca4f3e3cc882",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime.us-west-2.amazonaws.com",
        path: "/model/arn%3Aaws%3Abedrock%3Aus-west-2%3A123456789012%3Aapplication-inference-profile%2Fa1b2c3/invoke-with-response-stream",
        query: "",
        headers: &[
            ("content-type", "application/json"),
            ("x-amzn-bedrock-guardrailidentifier", "g1"),
            ("x-amzn-bedrock-trace", "ENABLED"),
        ],
        body: "{\"anthropic_version\":\"bedrock-2023-05-31\"}",
        region: "us-west-2",
        service: "bedrock",
        token: true,
        names: "content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-guardrailidentifier;x-amzn-bedrock-trace",
        signature: "cd1cd57d40c89f66a81c944e7b4693ce95a022b6134c4edc3ac0b1299ce96603",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        path: "/model/us.meta.llama3-1-70b-instruct-v1%3A0/count-tokens",
        query: "",
        headers: &[("content-type", "application/json")],
        body: "{\"input\":{}}",
        region: "us-gov-west-1",
        service: "bedrock",
        token: false,
        names: "content-type;host;x-amz-date",
        signature: "9efc276d0d822c38beabcfe26b332ed8e4fb29e98c725d2fc20a3e8b06efec8f",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime.cn-north-1.amazonaws.com.cn",
        path: "/model/custom%20model~1/invoke",
        query: "",
        headers: &[
            ("content-type", "application/json; charset=utf-8"),
            ("user-agent", "forebay"),
            ("expect", "100-continue"),
            ("x-amzn-trace-id", "Root=1"),
        ],
        body: "{\"text\":\"hé\"}",
        region: "cn-north-1",
        service: "bedrock",
        token: false,
        names: "content-type;host;x-amz-date",
        signature: "1ea2578e9131886f4c4f278d7ea0bb37ba5b758ec701b9767908f69b6202a1b8",
    },
    Own {
        method: "POST",
        host: "bedrock-mantle.us-east-2.api.aws",
        path: "/openai/v1/chat/completions",
        query: "",
        headers: &[("content-type", "application/json")],
        body: "{\"model\":\"openai.gpt-oss-120b\"}",
        region: "us-east-2",
        service: "bedrock-mantle",
        token: true,
        names: "content-type;host;x-amz-date;x-amz-security-token",
        signature: "086b2e345adf2a97194164cdab821c794e74229256fd39c03379784a64d7dd64",
    },
    Own {
        method: "GET",
        host: "bedrock.us-east-1.amazonaws.com",
        path: "/foundation-models",
        query: "byProvider=Anthropic&byInferenceType=ON_DEMAND&a=&a=1&A=z%3Dy%20x",
        headers: &[],
        body: "",
        region: "us-east-1",
        service: "bedrock",
        token: false,
        names: "host;x-amz-date",
        signature: "46c72bba388249cd262ccab71c65b59db22c129d61003bed949256b2c6954001",
    },
    Own {
        method: "POST",
        host: "sts.eu-central-1.amazonaws.com",
        path: "/",
        query: "",
        headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
        body: "Action=AssumeRole&Version=2011-06-15",
        region: "eu-central-1",
        service: "sts",
        token: false,
        names: "content-type;host;x-amz-date",
        signature: "913ec05e4a61660c7aa878e248408553b396ff112e2314db71dc7b5a7848c398",
    },
    Own {
        method: "GET",
        host: "localhost:4566",
        path: "//a/./b/../c%2F..//d/",
        query: "",
        headers: &[],
        body: "",
        region: "us-east-1",
        service: "bedrock",
        token: false,
        names: "host;x-amz-date",
        signature: "0cb0a90d8df54a03d5ed37de7bb548743dcf77257c20bde3c0850ed17de6bcd9",
    },
    Own {
        method: "PUT",
        host: "bedrock-runtime.us-east-1.amazonaws.com",
        path: "/model/x/..",
        query: "",
        headers: &[("x-amz-meta", "  two   spaces  "), ("content-length", "2")],
        body: "{}",
        region: "us-east-1",
        service: "bedrock",
        token: false,
        names: "content-length;host;x-amz-date;x-amz-meta",
        signature: "3b56829670ce6263d760a06845c59070a75f179441e41d573b6e24f801360f12",
    },
    Own {
        method: "POST",
        host: "bedrock-runtime.us-east-1.amazonaws.com",
        path: "/model/%E6%A8%A1%E5%9E%8B@1,2(3)/converse",
        query: "z=1&y=~&y=%2B&y=-",
        headers: &[("content-type", "application/json")],
        body: "[]",
        region: "us-east-1",
        service: "bedrock",
        token: true,
        names: "content-type;host;x-amz-date;x-amz-security-token",
        signature: "a6421b45760e955d77b99020e3acf9015bd11d6793e5187aea171a42177516cd",
    },
];

fn map<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let named = |name: &str| HeaderName::try_from(name).unwrap();
    headers
        .into_iter()
        .map(|(name, value)| (named(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

#[test]
fn own_cases_are_signed_as_botocore_signs_them() {
    for own in OWN {
        let headers = map(own.headers.iter().copied());
        let request = Request {
            method: own.method,
            host: own.host,
            path: own.path,
            query: own.query,
            headers: &headers,
            payload: Payload::of([own.body.as_bytes()]),
        };
        let token = own.token.then(|| Secret::new(TOKEN));
        let credentials = Credentials { id: ID.into(), secret: Secret::new(SECRET), token };
        let scope = Scope { region: own.region, service: own.service, segments: Segments::Resolved };
        let signed = sign(&request, &credentials, &scope, UNIX_EPOCH + NOW);
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20261121/{}/{}/aws4_request, SignedHeaders={}, Signature={}",
            own.region, own.service, own.names, own.signature
        );
        assert_eq!(signed.authorization, expected, "{} {}", own.method, own.path);
        assert_eq!(signed.date, "20261121T090807Z");
        assert_eq!(signed.token.as_ref().map(Secret::expose), own.token.then_some(TOKEN));
        assert!(!format!("{signed:?} {credentials:?}").contains("EXAMPLETOKEN"));
    }
}

#[test]
fn a_body_in_pieces_has_the_hash_of_the_whole() {
    let whole = Payload::of([b"{\"model\":\"x\"}".as_slice()]);
    assert_eq!(Payload::of([b"{\"model\"".as_slice(), b"", b":\"x\"}"]), whole);
    assert_ne!(Payload::of([]), whole);
}

#[test]
fn what_a_signature_brings_replaces_what_the_request_has() {
    let bare = HeaderMap::new();
    let full = map([
        ("host", "elsewhere"),
        ("authorization", "Bearer sk-1"),
        ("x-amz-date", "20000101T000000Z"),
        ("x-amz-security-token", "old"),
        ("connection", "close"),
    ]);
    let signed = |headers: &HeaderMap| {
        let payload = Payload::of([]);
        let request = Request { method: "GET", host: "h", path: "/", query: "", headers, payload };
        let credentials = Credentials { id: ID.into(), secret: Secret::new(SECRET), token: None };
        let scope = Scope { region: "r", service: "s", segments: Segments::Resolved };
        sign(&request, &credentials, &scope, UNIX_EPOCH + NOW).authorization
    };
    assert_eq!(signed(&full), signed(&bare));
}

#[test]
fn escapes_are_undone_only_where_they_are_whole() {
    for (text, expected) in
        [("a%2Fb", "a/b"), ("%zz%4", "%zz%4"), ("%+1", "%+1"), ("%", "%"), ("%25%41", "%A"), ("é", "é")]
    {
        assert_eq!(decoded(text), expected.as_bytes(), "{text}");
    }
}

// === AWS's suite ===

#[derive(Deserialize)]
struct Context {
    credentials: Keys,
    normalize: bool,
    #[serde(default)]
    omit_session_token: bool,
    region: String,
    service: String,
    sign_body: bool,
    timestamp: String,
    expiration_in_seconds: u32,
}

#[derive(Deserialize)]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// A case: its settings, and the request as it is written down.
struct Case {
    context: Context,
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    host: String,
    body: String,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let context: Context =
            serde_json::from_str(&fs::read_to_string(folder.join("context.json")).unwrap()).unwrap();
        assert_eq!(context.timestamp, "2015-08-30T12:36:00Z");
        // A value that goes on in the next line is one value.
        let text = fs::read_to_string(folder.join("request.txt")).unwrap().replace("\n ", " ");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        // The targets of the suite may hold spaces.
        let target = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
        let (method, target) = target.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = map(lines.map(|line| line.split_once(':').unwrap()));
        let host = headers["host"].to_str().unwrap().to_owned();
        let [method, path, query, body] = [method, path, query, body].map(str::to_owned);
        Self { context, method, path, query, headers, host, body }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            payload: Payload::of([self.body.as_bytes()]),
        }
    }

    fn scope(&self) -> Scope<'_> {
        let segments = if self.context.normalize { Segments::Resolved } else { Segments::Kept };
        Scope { region: &self.context.region, service: &self.context.service, segments }
    }

    fn credentials(&self) -> Credentials {
        let keys = &self.context.credentials;
        Credentials {
            id: keys.access_key_id.clone(),
            secret: Secret::new(&*keys.secret_access_key),
            token: keys.token.as_ref().filter(|_| !self.context.omit_session_token).map(Secret::new),
        }
    }
}

/// The files of a case that begin with `form`.
fn expected(folder: &Path, form: &str) -> HashMap<&'static str, String> {
    ["canonical-request", "string-to-sign", "signature", "signed-request"]
        .into_iter()
        .map(|name| (name, fs::read_to_string(folder.join(format!("{form}-{name}.txt"))).unwrap()))
        .collect()
}

fn check_header_form(folder: &Path) {
    let (mut case, expected) = (Case::read(folder), expected(folder, "header"));
    if case.context.sign_body {
        let hash = HeaderValue::try_from(hex(&case.request().payload.0)).unwrap();
        case.headers.insert("x-amz-content-sha256", hash);
    }
    let (request, scope, credentials) = (case.request(), case.scope(), case.credentials());
    let signed = sign(&request, &credentials, &scope, UNIX_EPOCH + THEN);
    let mut headers = signable(&request);
    headers.insert("x-amz-date", Cow::Borrowed(signed.date.as_bytes()));
    if let Some(token) = &signed.token {
        headers.insert("x-amz-security-token", Cow::Borrowed(token.expose().as_bytes()));
    }
    let canonical = canonical(&request, scope.segments, &headers);
    let case = folder.display();
    assert_eq!(str::from_utf8(&canonical).unwrap(), expected["canonical-request"], "{case}");
    assert_eq!(string_to_sign(&canonical, &scope, &signed.date), expected["string-to-sign"], "{case}");
    assert!(signed.authorization.ends_with(&format!("Signature={}", expected["signature"])), "{case}");
    let line = format!("Authorization:{}", signed.authorization);
    assert!(expected["signed-request"].lines().any(|found| found == line), "{case}: {line}");
}

/// The suite's other form, a signature in the query, which nothing here sends: the same steps on other input.
fn check_query_form(folder: &Path) {
    let (mut case, expected) = (Case::read(folder), expected(folder, "query"));
    let (date, credentials) = (stamp(UNIX_EPOCH + THEN), case.credentials());
    let names = names(&signable(&case.request()));
    let mut parameters = vec![
        ("X-Amz-Algorithm", ALGORITHM.to_owned()),
        ("X-Amz-Credential", format!("{}/{}", credentials.id, case.scope().at(&date))),
        ("X-Amz-Date", date.clone()),
        ("X-Amz-Expires", case.context.expiration_in_seconds.to_string()),
        ("X-Amz-SignedHeaders", names),
    ];
    parameters.extend(credentials.token.iter().map(|token| ("X-Amz-Security-Token", token.expose().into())));
    for (name, value) in parameters {
        write!(case.query, "&{name}={}", encoded(value.as_bytes(), b"")).unwrap();
    }
    let (request, scope) = (case.request(), case.scope());
    let canonical = canonical(&request, scope.segments, &signable(&request));
    let text = string_to_sign(&canonical, &scope, &date);
    let case = folder.display();
    assert_eq!(str::from_utf8(&canonical).unwrap(), expected["canonical-request"], "{case}");
    assert_eq!(text, expected["string-to-sign"], "{case}");
    assert_eq!(signature(&text, &credentials.secret, &scope, &date), expected["signature"], "{case}");
}

#[test]
fn the_suite_of_aws_passes() {
    let suite = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/aws_sigv4"));
    let Ok(folders) = fs::read_dir(suite) else {
        println!("skipped: no signing suite at {}", suite.display());
        return;
    };
    let cases: Vec<_> = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    for case in &cases {
        check_header_form(case);
        check_query_form(case);
    }
    println!("{} cases", cases.len());
    assert!(!cases.is_empty());
}
