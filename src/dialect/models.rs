//! Lists of models, which the same path serves in every family's shape. Bedrock lists models elsewhere.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::Dialect;
use super::error::member;
use crate::moment::rfc3339;

/// Who the models belong to, in OpenAI's shape.
const OWNER: &str = "forebay";

/// The models `ids`, as `dialect` lists them, all on one page. `created` is in seconds of Unix time.
pub fn list<'a>(dialect: Dialect, ids: impl Iterator<Item = &'a str>, created: u64) -> Bytes {
    let mut out = match dialect {
        Dialect::Anthropic => b"{\"data\":[".to_vec(),
        Dialect::Gemini => b"{\"models\":[".to_vec(),
        Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::Converse => {
            b"{\"object\":\"list\",\"data\":[".to_vec()
        }
    };
    let (mut first, mut last) = (None, None);
    for id in ids {
        if first.is_some() {
            out.push(b',');
        }
        entry(&mut out, dialect, id, created);
        first = first.or(Some(id));
        last = Some(id);
    }
    out.push(b']');
    if dialect == Dialect::Anthropic {
        member(&mut out, ",\"has_more\":false,\"first_id\":", first);
        member(&mut out, ",\"last_id\":", last);
    }
    out.push(b'}');
    Bytes::from(out)
}

/// One model, as `dialect` shows it. `created` is in seconds of Unix time.
pub fn one(dialect: Dialect, id: &str, created: u64) -> Bytes {
    let mut out = Vec::with_capacity(128);
    entry(&mut out, dialect, id, created);
    Bytes::from(out)
}

fn entry(out: &mut Vec<u8>, dialect: Dialect, id: &str, created: u64) {
    match dialect {
        Dialect::Anthropic => {
            member(out, "{\"type\":\"model\",\"id\":", Some(id));
            member(out, ",\"display_name\":", Some(id));
            member(out, ",\"created_at\":", Some(&rfc3339(UNIX_EPOCH + Duration::from_secs(created))));
        }
        Dialect::Gemini => {
            member(out, "{\"name\":", Some(&format!("models/{id}")));
            member(out, ",\"displayName\":", Some(id));
            out.extend_from_slice(b",\"supportedGenerationMethods\":[\"generateContent\"]");
        }
        Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::Converse => {
            member(out, "{\"id\":", Some(id));
            out.extend_from_slice(b",\"object\":\"model\",\"created\":");
            out.extend_from_slice(itoa::Buffer::new().format(created).as_bytes());
            member(out, ",\"owned_by\":", Some(OWNER));
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_lists_models() {
        assert_eq!(
            list(Dialect::OpenaiChat, ["a", "b\""].into_iter(), 7),
            r#"{"object":"list","data":[{"id":"a","object":"model","created":7,"owned_by":"forebay"},{"id":"b\"","object":"model","created":7,"owned_by":"forebay"}]}"#
        );
        assert_eq!(list(Dialect::OpenaiResponses, std::iter::empty(), 7), r#"{"object":"list","data":[]}"#);
    }

    #[test]
    fn anthropic_lists_models() {
        assert_eq!(
            list(Dialect::Anthropic, ["a", "b"].into_iter(), 0),
            r#"{"data":[{"type":"model","id":"a","display_name":"a","created_at":"1970-01-01T00:00:00Z"},{"type":"model","id":"b","display_name":"b","created_at":"1970-01-01T00:00:00Z"}],"has_more":false,"first_id":"a","last_id":"b"}"#
        );
        assert_eq!(
            list(Dialect::Anthropic, std::iter::empty(), 0),
            r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
    }

    #[test]
    fn gemini_lists_models_under_their_path() {
        assert_eq!(
            list(Dialect::Gemini, ["a", "b/c"].into_iter(), 7),
            r#"{"models":[{"name":"models/a","displayName":"a","supportedGenerationMethods":["generateContent"]},{"name":"models/b/c","displayName":"b/c","supportedGenerationMethods":["generateContent"]}]}"#
        );
        assert_eq!(list(Dialect::Gemini, std::iter::empty(), 7), r#"{"models":[]}"#);
    }

    #[test]
    fn one_model_is_an_entry_of_the_list() {
        for dialect in [Dialect::OpenaiChat, Dialect::Anthropic, Dialect::Gemini, Dialect::Converse] {
            let one = one(dialect, "m", 1_780_944_532);
            let list = list(dialect, std::iter::once("m"), 1_780_944_532);
            assert!(memchr::memmem::find(&list, &one).is_some());
        }
    }
}
