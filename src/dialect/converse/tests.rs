//! Goldens and laws of Converse.

use super::*;
use crate::dialect::converse;
use crate::dialect::gemini::tests::*;

mod replies;
mod requests;

#[test]
fn errors_are_worded_as_the_api_does() {
    let error = Error::client(Kind::InvalidRequest, "no \"x\"");
    assert_eq!(String::from_utf8(converse::error(&error)).unwrap(), r#"{"message":"no \"x\""}"#);
    assert_eq!(
        (class(Kind::RateLimited), class(Kind::Overloaded)),
        ("ThrottlingException", "ServiceUnavailableException")
    );
}

#[test]
fn formats_and_types_read_both_ways() {
    for (format, media_type) in FORMATS {
        assert_eq!(format_of(media_type), Some(format));
    }
    assert_eq!(type_of("mp4", "audio"), "audio/mp4");
    assert_eq!(type_of("csv", "application"), "text/csv");
    assert_eq!(type_of("tiff", "image"), "image/tiff");
    assert_eq!(format_of("image/tiff"), None);
}
