//! Brings in the pictures and documents that a request names by URL, for upstreams that take them as data alone.
//!
//! It is off unless configured: whoever may ask for a URL makes the edge connect to it. So only the public internet is
//! asked, and what the configuration names besides; the address that is looked at is the one that is connected to, and
//! every redirect is looked at anew.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use crate::dialect::ir::media::{Kind, Medium};
use crate::error::{Error, Kind as Failure};
use crate::snapshot::Media;
use crate::upstream::fetch::{Call, Got};

/// The most URLs of one request.
const URLS: usize = 20;
/// The most redirects that are followed.
const REDIRECTS: usize = 3;

/// What is at those URLs.
///
/// # Errors
/// [`Failure::InvalidRequest`] naming the first URL at which nothing is that could be sent on.
pub(super) async fn bring(
    urls: Vec<(String, Kind)>,
    media: &Media,
) -> Result<HashMap<String, Medium>, Error> {
    if urls.len() > URLS {
        return Err(invalid(format!("more than {URLS} files are named by URL; send some as data")));
    }
    let (until, mut left) = (Instant::now() + media.limit, media.most);
    let mut found = HashMap::with_capacity(urls.len());
    for (url, kind) in urls {
        let medium = match one(&url, kind, (media, left), until).await {
            Ok((medium, size)) => {
                left -= size.min(left);
                medium
            }
            Err(why) => {
                let shown = shown(&url);
                return Err(invalid(format!("the file at {shown} cannot be had: {why}; send it as data")));
            }
        };
        found.insert(url, medium);
    }
    Ok(found)
}

/// A URL as it may be logged: who may open it, and its signature, are nobody else's business.
fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let plain = match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => plain.to_owned(),
    };
    plain.chars().take(200).collect()
}

fn invalid(public: String) -> Error {
    Error::client(Failure::InvalidRequest, public)
}

async fn one(
    url: &str,
    kind: Kind,
    (media, most): (&Media, usize),
    until: Instant,
) -> Result<(Medium, usize), String> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let got = media.fetcher.call(Call {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: until.saturating_duration_since(Instant::now()),
            most,
        });
        let got = got.await?;
        match got.status {
            200 => return Ok((medium(&got, kind)?, got.body.len())),
            301 | 302 | 303 | 307 | 308 => url = next(&url, &got)?,
            status => return Err(format!("its host answered {status}")),
        }
    }
    Err("its host redirects too often".to_owned())
}

/// Where a redirect leads (RFC 9110 §10.2.2).
fn next(url: &str, got: &Got) -> Result<String, String> {
    let to = got.fields.text(&LOCATION).ok_or("its host redirects to nowhere")?;
    if to.starts_with("http://") || to.starts_with("https://") {
        return Ok(to.to_owned());
    }
    let base: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    match (base.scheme_str(), base.authority()) {
        (Some(scheme), Some(host)) if to.starts_with("//") && !host.as_str().is_empty() => {
            Ok(format!("{scheme}:{to}"))
        }
        (Some(scheme), Some(host)) if to.starts_with('/') => Ok(format!("{scheme}://{host}{to}")),
        _ => Err("its host redirects in a way that is not followed".to_owned()),
    }
}

fn medium(got: &Got, kind: Kind) -> Result<Medium, String> {
    let coding = got.fields.text(&CONTENT_ENCODING).unwrap_or("identity");
    if !coding.eq_ignore_ascii_case("identity") {
        return Err("its host compressed it unasked".to_owned());
    }
    if got.body.is_empty() {
        return Err("it is empty".to_owned());
    }
    let said = got.fields.text(&CONTENT_TYPE).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = sniffed(&got.body).map_or(said, str::to_owned);
    if !kind.takes(&media_type) {
        return Err(format!("it is not {}", kind.name()));
    }
    Ok(Medium { media_type, data: STANDARD.encode(&got.body) })
}

/// The type that the first bytes tell: hosts often say a wrong one, and providers check.
fn sniffed(body: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 5] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"%PDF-", "application/pdf"),
    ];
    let is_webp = body.starts_with(b"RIFF") && body.get(8..12) == Some(b"WEBP");
    let known = MAGIC.iter().find(|(magic, _)| body.starts_with(magic)).map(|(_, media)| *media);
    known.or_else(|| is_webp.then_some("image/webp"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::frame::http1::Fields;

    fn got(fields: &[(http::HeaderName, &'static str)], body: &[u8]) -> Got {
        let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Got { status: 200, fields: fields.collect::<Fields>(), body: body.to_vec() }
    }

    #[test]
    fn the_bytes_tell_their_type_before_their_host_does_and_must_fit_their_place() {
        let of = |kind, said, body: &[u8]| {
            medium(&got(&[(CONTENT_TYPE, said)], body), kind).map(|medium| medium.media_type)
        };
        assert_eq!(of(Kind::Image, "text/plain", b"\x89PNG\r\n\x1a\n...").as_deref(), Ok("image/png"));
        assert_eq!(of(Kind::Image, "application/x", b"RIFF\0\0\0\0WEBPVP8 ").as_deref(), Ok("image/webp"));
        assert_eq!(of(Kind::Document, "Text/Plain; charset=utf-8", b"hello").as_deref(), Ok("text/plain"));
        assert_eq!(of(Kind::Audio, "audio/wav", b"RIFF").as_deref(), Ok("audio/wav"));
        assert_eq!(of(Kind::Image, "text/html", b"<html>"), Err("it is not a picture".to_owned()));
        assert!(of(Kind::Document, "application/json", b"{}").is_err());
        assert!(of(Kind::Image, "image/png", b"").is_err());
        let coded = [(CONTENT_TYPE, "image/png"), (CONTENT_ENCODING, "gzip")];
        assert!(medium(&got(&coded, b"x"), Kind::Image).is_err());
    }

    #[test]
    fn no_secret_of_a_url_is_shown() {
        assert_eq!(shown("https://user:pass@h.test/a/b?X-Signature=s#f"), "https://h.test/a/b");
        assert_eq!(shown("https://h.test?k=s"), "https://h.test/");
    }

    #[test]
    fn a_redirect_leads_where_it_says() {
        let to = |to| next("https://a.test/x/y?z", &got(&[(LOCATION, to)], b""));
        assert_eq!(to("https://b.test/").as_deref(), Ok("https://b.test/"));
        assert_eq!(to("/q").as_deref(), Ok("https://a.test/q"));
        assert_eq!(to("//b.test/q").as_deref(), Ok("https://b.test/q"));
        for bad in ["q", "ftp://x/", ""] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }
}
