//! Where the bytes of a medium are, as clients write it.

use std::borrow::Cow;

use super::{Origin, Source, Text, node};
use crate::error::Error;

impl<'a> Source<'a> {
    /// What a URL denotes: a place, or, where it is a `data:` URL (RFC 2397), the bytes themselves.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming `path`, where it is neither, or a `data:` URL has no type or is not in
    /// base64.
    pub fn of_url(url: Text<'a>, path: node::Path<'_>) -> Result<Self, Error> {
        if !is_data_url(&url) {
            return Self::at(url, path);
        }
        let split = |url: &str| {
            let (head, data) = url.get(5..)?.split_once(',')?;
            let media_type = head.strip_suffix(";base64")?.split(';').next()?;
            let start = url.len() - data.len();
            let is_whole = is_base64(data) && media_type.contains('/');
            is_whole.then(|| (usual_type(media_type.into()).into_owned(), start))
        };
        let plain = url.into_plain();
        let Some((media_type, start)) = split(&plain) else {
            return Err(path.fault("must be an http URL, or a data URL in base64: data:<type>;base64,<data>"));
        };
        let data = match plain {
            Cow::Borrowed(plain) => Cow::Borrowed(plain.get(start..).unwrap_or_default()),
            Cow::Owned(mut plain) => Cow::Owned(plain.split_off(start)),
        };
        Self::of_base64(media_type, Text::Plain(data), path)
    }

    /// A place: on the web, or in a store that one provider alone reads.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming `path`, where it is none that an upstream could read.
    pub fn at(url: Text<'a>, path: node::Path<'_>) -> Result<Self, Error> {
        let plain = url.plain();
        let (scheme, place) = plain.split_once("://").unwrap_or_default();
        let is_sane = place.starts_with(|first: char| first.is_alphanumeric() || first == '[')
            && !plain.contains(|c: char| c.is_whitespace() || c.is_control());
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if is_sane => {}
            "gs" if is_sane => return Ok(Self::File(Origin::Gemini, Text::new(plain.into_owned()))),
            "s3" if is_sane => return Ok(Self::File(Origin::Converse, Text::new(plain.into_owned()))),
            _ => {
                let why = "must be an http URL, or a data URL in base64: data:<type>;base64,<data>";
                return Err(path.fault(why));
            }
        }
        drop(plain);
        Ok(Self::Url(url))
    }

    /// The same, which has to be a picture if its type is known.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming `path`, where it is something else.
    pub fn picture(self, path: node::Path<'_>) -> Result<Self, Error> {
        match &self {
            Self::Base64 { media_type, .. } if !media_type.starts_with("image/") => {
                Err(path.wants("a picture, such as image/png"))
            }
            _ => Ok(self),
        }
    }

    /// The bytes themselves, in base64.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming `path`, where it is none, or its media type holds a comma, at which the
    /// type of a `data:` URL ends.
    pub fn of_base64(
        media_type: impl Into<Cow<'a, str>>,
        data: Text<'a>,
        path: node::Path<'_>,
    ) -> Result<Self, Error> {
        let (media_type, data) = (usual_type(media_type.into()), data.into_plain());
        if media_type.contains(',') || !is_media_type(&media_type) {
            return Err(path.fault("must come with one media type, such as image/png"));
        }
        if !is_base64(&data) {
            return Err(path.wants("base64"));
        }
        Ok(Self::Base64 { media_type, data })
    }
}

/// Whether this is a `data:` URL.
pub fn is_data_url(url: &Text<'_>) -> bool {
    let (Text::Escaped(start) | Text::Plain(start)) = url;
    start.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Whether this is a media type, with or without parameters: two names (RFC 6838 §4.2) with a slash between.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !name.is_empty() && name.bytes().all(plain)
    };
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    essence.split_once('/').is_some_and(|(family, name)| is_name(family) && is_name(name))
}

/// A media type as upstreams want it: in lower case, and under its registered name.
pub(super) fn usual_type(media_type: Cow<'_, str>) -> Cow<'_, str> {
    let lower = match media_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(media_type.to_ascii_lowercase()),
        false => media_type,
    };
    if lower == "image/jpg" { Cow::Borrowed("image/jpeg") } else { lower }
}

/// Whether `data` is made of base64's letters and padding (RFC 4648 §4), and is not empty.
fn is_base64(data: &str) -> bool {
    let letters = data.trim_end_matches('=');
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !letters.is_empty()
        && data.len().is_multiple_of(4)
        && data.len() - letters.len() <= 2
        && letters.bytes().all(is_letter)
}
