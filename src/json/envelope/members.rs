//! Every member of an object, for what is seldom looked for.

use std::borrow::Cow;
use std::ops::Range;

use super::scanner::Scanner;
use super::{Fault, decode};
use crate::json::What;

/// A member: its name, decoded, and where its value is in the body.
pub type Member<'a> = (Cow<'a, str>, Range<usize>);

/// The members of the object that begins at `at`, or of the body's own. A name that is no text, for a surrogate in it
/// stands alone, is passed over: nobody else can read it either.
///
/// # Errors
///
/// A [`Fault`] where there is no object.
pub fn members(body: &[u8], at: Option<usize>) -> Result<Vec<Member<'_>>, Fault> {
    let text =
        std::str::from_utf8(body).map_err(|error| Fault { at: error.valid_up_to(), what: What::NotUtf8 })?;
    let mut scanner = Scanner::new(text, at.unwrap_or(0));
    if at.is_none() {
        scanner.head()?;
    }
    let mut found = Vec::new();
    scanner.members(|name, _, span| {
        found.extend(decode(name).map(|name| (name, span)));
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_with_their_names_decoded() {
        let body = br#" {"a":1,"t\u006fols":[{}],"in":{"b": null}}"#;
        let named = |at| -> Vec<(String, String)> {
            let found = members(body, at).unwrap();
            let text = |span: Range<usize>| String::from_utf8(body[span].to_vec()).unwrap();
            found.into_iter().map(|(name, span)| (name.into_owned(), text(span))).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("a", "1"), pair("tools", "[{}]"), pair("in", r#"{"b": null}"#)];
        assert_eq!(named(None), expected);
        let (_, inner) = members(body, None).unwrap().pop().unwrap();
        assert_eq!(named(Some(inner.start)), [pair("b", "null")]);
        assert!(members(b"[1]", None).is_err() && members(b"", None).is_err());
    }
}
