//! Brings in the pictures and documents that a request names by URL, for upstreams that take them as data alone.
//!
//! It is off unless configured: whoever may ask for a URL makes the edge connect to it. So only the public internet is
//! asked, and what the configuration names besides; the address that is looked at is the one that is connected to, and
//! every redirect is looked at anew.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use crate::dialect::ir::media::Medium;
use crate::error::{Error, Kind};
use crate::snapshot::Media;
use crate::upstream::fetch::{Call, Got};

/// The most URLs of one request.
const URLS: usize = 20;
/// The most redirects that are followed.
const REDIRECTS: usize = 3;

/// What is at those URLs.
///
/// # Errors
/// [`Kind::InvalidRequest`] naming the first URL at which nothing is that could be sent on.
pub(super) async fn bring(urls: Vec<String>, media: &Media) -> Result<HashMap<String, Medium>, Error> {
    if urls.len() > URLS {
        return Err(invalid(format!("more than {URLS} files are named by URL; send some as data")));
    }
    let until = Instant::now() + media.limit;
    let mut found = HashMap::with_capacity(urls.len());
    for url in urls {
        let medium = one(&url, media, until).await.map_err(|why| {
            let shown: String = url.chars().take(200).collect();
            invalid(format!("the file at {shown} cannot be had: {why}; send it as data"))
        })?;
        found.insert(url, medium);
    }
    Ok(found)
}

fn invalid(public: String) -> Error {
    Error::client(Kind::InvalidRequest, public)
}

async fn one(url: &str, media: &Media, until: Instant) -> Result<Medium, String> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let got = media.fetcher.call(Call {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: until.saturating_duration_since(Instant::now()),
            most: media.most,
        });
        let got = got.await?;
        match got.status {
            200 => return medium(&got),
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

fn medium(got: &Got) -> Result<Medium, String> {
    let said = got.fields.text(&CONTENT_TYPE).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media_type = match sniffed(&got.body) {
        Some(sniffed) => sniffed.to_owned(),
        None if is_taken(&said) => said,
        None => return Err("it is neither a picture nor a document nor sound".to_owned()),
    };
    Ok(Medium { media_type, data: STANDARD.encode(&got.body) })
}

fn is_taken(media_type: &str) -> bool {
    ["image/", "audio/", "text/"].iter().any(|family| media_type.starts_with(family))
        || media_type == "application/pdf"
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
    fn the_bytes_tell_their_type_before_their_host_does() {
        let of =
            |said, body: &[u8]| medium(&got(&[(CONTENT_TYPE, said)], body)).map(|medium| medium.media_type);
        assert_eq!(of("text/plain", b"\x89PNG\r\n\x1a\n...").as_deref(), Ok("image/png"));
        assert_eq!(of("application/octet-stream", b"RIFF\0\0\0\0WEBPVP8 ").as_deref(), Ok("image/webp"));
        assert_eq!(of("Text/Plain; charset=utf-8", b"hello").as_deref(), Ok("text/plain"));
        assert_eq!(of("audio/wav", b"RIFF").as_deref(), Ok("audio/wav"));
        assert!(of("application/json", b"{}").is_err());
        assert!(medium(&got(&[], b"x")).is_err());
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
