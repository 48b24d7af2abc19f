//! JSON as bytes: read the few members that routing needs, change a few spans, never build a tree.
//!
//! [`Envelope`] borrows the top-level members of a request body in one strict pass. [`mod@splice`] puts new pieces
//! into the original bytes without copying the rest. Neither knows what a dialect is.

use std::fmt;

use bytes::Bytes;

pub mod balance;
pub mod decimal;
pub mod envelope;
pub mod splice;

pub use envelope::{Envelope, opening_of};
pub use splice::{Edit, Edits, splice, spliced_len};

/// Why a body is not a JSON object that Forebay can route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The offset in the body, in bytes, at which it was noticed.
    pub at: usize,
    /// What is wrong there.
    pub what: What,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// There is nothing but white space.
    Empty,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The body begins with a byte order mark, which RFC 8259 §8.1 forbids.
    ByteOrderMark,
    /// The body is JSON, or begins like it, but not with an object.
    NotObject,
    /// The body ends inside a value.
    Unfinished,
    /// The grammar wants something else here.
    Expected(&'static str),
    /// A string holds a raw control character.
    ControlCharacter,
    /// A backslash is followed by something that is no escape.
    BadEscape,
    /// A number is not written as RFC 8259 §6 has it.
    BadNumber,
    /// Objects and arrays are nested deeper than [`envelope::DEPTH`].
    TooDeep,
    /// There is something after the object.
    Trailing,
    /// A member that Forebay reads is there twice, so that two readers could disagree about it.
    Duplicate(&'static str),
    /// A member differs from one that Forebay reads in letter case alone; some servers would read it as that one.
    Miscased(&'static str),
    /// A member that Forebay reads has a value of another type.
    WrongType {
        /// The member, with its parent's name and a dot before it if it is nested.
        field: &'static str,
        /// What the value must be, with an article.
        wants: &'static str,
    },
}

impl Fault {
    /// The request field at fault, if it is one field's fault.
    pub fn field(self) -> Option<&'static str> {
        match self.what {
            What::Duplicate(field) | What::Miscased(field) | What::WrongType { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.what {
            What::Empty => f.write_str("the body is empty; send a JSON object"),
            What::NotUtf8 => write!(f, "the body is not valid UTF-8 at byte {at}"),
            What::ByteOrderMark => f.write_str("the body begins with a byte order mark; send it without one"),
            What::NotObject => f.write_str("the body must be a JSON object"),
            What::Unfinished => write!(f, "the JSON ends unexpectedly at byte {at}"),
            What::Expected(wants) => write!(f, "invalid JSON at byte {at}: expected {wants}"),
            What::ControlCharacter => {
                write!(f, "invalid JSON at byte {at}: a control character in a string must be escaped")
            }
            What::BadEscape => write!(f, "invalid JSON at byte {at}: unknown escape in a string"),
            What::BadNumber => write!(f, "invalid JSON at byte {at}: malformed number"),
            What::TooDeep => {
                write!(f, "the JSON is nested deeper than {} levels at byte {at}", envelope::DEPTH)
            }
            What::Trailing => write!(f, "unexpected data after the JSON object at byte {at}"),
            What::Duplicate(field) => write!(f, "'{field}' is given more than once; send it once"),
            What::Miscased(field) => {
                write!(f, "a member differs from '{field}' in letter case only; write it as '{field}'")
            }
            What::WrongType { field, wants } => write!(f, "'{field}' must be {wants}"),
        }
    }
}

impl std::error::Error for Fault {}

/// `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 2);
    quote_into(&mut out, text);
    Bytes::from(out)
}

/// Appends `text` as a JSON string, quotes included. Only what RFC 8259 §7 demands is escaped.
pub fn quote_into(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quoted_string_reads_back_as_itself(text in any::<String>()) {
            let quoted = quote(&text);
            prop_assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
        }
    }

    #[test]
    fn every_control_character_is_escaped() {
        let text: String =
            (0..0x20u8).map(char::from).chain(['"', '\\', '\u{7f}', '\u{2028}', 'é']).collect();
        let quoted = quote(&text);
        assert!(quoted.iter().all(|&byte| byte >= 0x20));
        assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
    }

    #[test]
    fn a_fault_names_its_field() {
        let fault = Fault { at: 3, what: What::WrongType { field: "stream", wants: "a boolean" } };
        assert_eq!(fault.field(), Some("stream"));
        assert_eq!(fault.to_string(), "'stream' must be a boolean");
        assert_eq!(Fault { at: 3, what: What::Trailing }.field(), None);
    }
}
