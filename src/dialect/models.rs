//! Lists of models, which the same path serves in every family's shape. Bedrock lists models elsewhere.

use bytes::Bytes;

use super::Dialect;
use super::error::member;

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
            member(out, ",\"created_at\":", Some(&rfc3339(created)));
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

/// Seconds of Unix time as RFC 3339 has them, in UTC.
fn rfc3339(seconds: u64) -> String {
    // Days are counted in 400-year eras that begin on 1 March, so that a leap day is the last of its year.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
