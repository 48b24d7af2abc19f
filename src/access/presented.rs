//! The credential in a request: it is looked for wherever the SDK of any dialect puts it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The headers that hold a client's key and nothing else.
pub const KEY_HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];
/// The parameter of a query in which Gemini's callers send it.
const PARAMETER: &str = "key";

/// What a request shows for itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// One key or token, however often.
    One(Cow<'a, [u8]>),
    /// Several that differ: what is in front of the edge and the edge itself might each believe another one.
    Several,
    /// A signature of AWS's, which only AWS can verify.
    Signed,
}

/// What stands in these headers and in the query.
pub fn presented<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Presented<'a> {
    let mut found = Presented::Nothing;
    for name in KEY_HEADERS {
        for value in headers.get_all(name) {
            found = found.and(Cow::Borrowed(value.as_bytes().trim_ascii()));
        }
    }
    let mut is_signed = false;
    for value in headers.get_all(AUTHORIZATION) {
        match scheme(value.as_bytes()) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer") => {
                found = found.and(Cow::Borrowed(key));
            }
            Some((scheme, _)) => is_signed |= scheme.to_ascii_uppercase().starts_with(b"AWS4-"),
            None => {}
        }
    }
    for value in query.into_iter().flat_map(in_query) {
        found = found.and(value);
    }
    if found == Presented::Nothing && is_signed { Presented::Signed } else { found }
}

impl<'a> Presented<'a> {
    fn and(self, key: Cow<'a, [u8]>) -> Self {
        match self {
            same if key.is_empty() => same,
            Self::One(first) if first == key => Self::One(first),
            Self::Nothing | Self::Signed => Self::One(key),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// The scheme of an `Authorization` and what stands behind it.
fn scheme(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at_checked(end)?;
    Some((scheme, rest.trim_ascii()))
}

fn in_query(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        is_parameter(name).then(|| unescaped(value))
    })
}

/// Whether a reader of forms takes that for the key's name: an escape hides nothing.
fn is_parameter(name: &str) -> bool {
    name == PARAMETER || (name.contains('%') && *unescaped(name) == *PARAMETER.as_bytes())
}

/// The bytes that a text of a query stands for.
fn unescaped(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = || {
            let pair = std::str::from_utf8(after.get(..2)?).ok().filter(|pair| !pair.starts_with('+'))?;
            u8::from_str_radix(pair, 16).ok()
        };
        match (first, escaped()) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        rest = after;
    }
    Cow::Owned(out)
}

/// A query without the keys in it, which are nobody's business but the edge's.
pub fn without_key(query: &str) -> Cow<'_, str> {
    let is_key = |pair: &str| is_parameter(pair.split_once('=').map_or(pair, |(name, _)| name));
    if !query.split('&').any(is_key) {
        return Cow::Borrowed(query);
    }
    Cow::Owned(query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn found(fields: &[(&'static str, &str)], query: Option<&str>) -> String {
        match presented(&headers(fields), query) {
            Presented::One(key) => String::from_utf8(key.into_owned()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_found_wherever_an_sdk_puts_it() {
        for fields in [
            [("authorization", "Bearer k")],
            [("authorization", "bearer   k ")],
            [("x-api-key", "k")],
            [("api-key", "k")],
            [("x-goog-api-key", "k")],
        ] {
            assert_eq!(found(&fields, None), "k", "{fields:?}");
        }
        for query in ["key=k", "alt=sse&key=k", "key=%6b", "%6bey=k", "key=k&key=k"] {
            assert_eq!(found(&[], Some(query)), "k", "{query}");
        }
        assert_eq!(found(&[], Some("key=a%2Bb+c%zz%")), "a+b c%zz%");
        for query in ["", "key", "key=", "monkey=k", "Key=k", "keys=k"] {
            assert_eq!(found(&[], Some(query)), "Nothing", "{query}");
        }
    }

    #[test]
    fn what_is_no_key_is_nothing() {
        for value in ["Basic k", "Bearer", "Bearer ", "", "k"] {
            assert_eq!(found(&[("authorization", value)], None), "Nothing", "{value}");
        }
        assert_eq!(found(&[("x-api-key", " ")], None), "Nothing");
    }

    #[test]
    fn the_same_twice_is_one_and_two_that_differ_are_refused() {
        let both = |a, b| found(&[("x-api-key", a), ("authorization", b)], None);
        assert_eq!(both("k", "Bearer k"), "k");
        assert_eq!(both("k", "Bearer l"), "Several");
        assert_eq!(both("k", "Bearer "), "k");
        assert_eq!(found(&[("x-api-key", "k"), ("x-api-key", "l")], None), "Several");
        assert_eq!(found(&[("authorization", "Bearer k"), ("authorization", "bearer l")], None), "Several");
        assert_eq!(found(&[("x-goog-api-key", "k")], Some("key=l")), "Several");
        assert_eq!(found(&[("api-key", "k"), ("x-api-key", "l"), ("x-goog-api-key", "k")], None), "Several");
    }

    #[test]
    fn a_signature_of_aws_is_told() {
        const SIGNED: (&str, &str) = ("authorization", "AWS4-HMAC-SHA256 Credential=AKID/x, Signature=00");
        assert_eq!(found(&[SIGNED], None), "Signed");
        assert_eq!(found(&[SIGNED, ("x-api-key", "k")], None), "k");
    }

    #[test]
    fn a_query_is_passed_on_without_its_keys() {
        for (query, passed) in [
            ("alt=sse", "alt=sse"),
            ("key=k", ""),
            ("alt=sse&key=k&x=1", "alt=sse&x=1"),
            ("%6Bey=k&a", "a"),
            ("key&a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(without_key(query), passed);
        }
    }
}
