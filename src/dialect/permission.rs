//! What of a request a permission may be about: whether it brings tools, and how long an answer it asks for.
//!
//! Both are looked for in the client's own body, in every spelling that a reader behind Forebay could take for them: what
//! is decided here must not be read otherwise there.

use std::ops::Range;

use super::Operation;
use crate::json::envelope::{Member, members};
use crate::json::{Edits, Fault, What};

/// Whether a request brings tools, or has the provider use some of its own.
///
/// # Errors
///
/// A [`Fault`] where the body is no object.
pub fn brings_tools(operation: Operation, body: &[u8]) -> Result<bool, Fault> {
    let names: &[&str] = match operation {
        Operation::Converse => &["toolconfig"],
        Operation::Messages | Operation::CountTokens => &["tools", "mcpservers"],
        // Some upstreams of chat search the web for a `plugins` or a `search_parameters`.
        Operation::ChatCompletions => {
            &["tools", "functions", "websearchoptions", "plugins", "searchparameters"]
        }
        _ => &["tools"],
    };
    let says_something = |span: &Range<usize>| {
        let value = body.get(span.clone()).unwrap_or_default();
        let value: Vec<u8> =
            value.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(5).collect();
        !matches!(value.as_slice(), b"null" | b"[]" | b"false")
    };
    let brings = |among: &[Member<'_>], names: &[&str]| {
        among.iter().any(|(name, span)| names.contains(&&*folded(name)) && says_something(span))
    };
    let found = members(body, None)?;
    if brings(&found, names) {
        return Ok(true);
    }
    if operation == Operation::Converse {
        // What stands in it is put into the model's own request.
        for (_, span) in found.iter().filter(|(name, _)| folded(name) == "additionalmodelrequestfields") {
            if body.get(span.start) == Some(&b'{')
                && brings(&members(body, Some(span.start))?, &["tools", "toolconfig", "mcpservers"])
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What a bound on the length of an answer makes of a request.
#[derive(Debug)]
pub enum Length {
    /// It asks for no more, or for nothing that has a length.
    Within,
    /// It asks for more.
    Over {
        /// In this field.
        field: &'static str,
    },
    /// It says nothing: so it is told to.
    Set(Edits),
}

/// Where a dialect says how many tokens an answer may have: the object, if it is not the body, and the names there.
struct Place {
    object: Option<&'static str>,
    /// The one to set first.
    names: [&'static str; 2],
}

impl Place {
    /// Chat has two names, of which each upstream takes `chat`.
    fn of(operation: Operation, chat: &'static str) -> Option<Self> {
        let other = if chat == "max_tokens" { "max_completion_tokens" } else { "max_tokens" };
        let (object, names) = match operation {
            Operation::ChatCompletions => (None, [chat, other]),
            Operation::Completions | Operation::Messages => (None, ["max_tokens", "max_tokens"]),
            Operation::Responses => (None, ["max_output_tokens", "max_output_tokens"]),
            Operation::GenerateContent => (Some("generationConfig"), ["maxOutputTokens", "maxOutputTokens"]),
            Operation::Converse => (Some("inferenceConfig"), ["maxTokens", "maxTokens"]),
            _ => return None,
        };
        Some(Self { object, names })
    }
}

/// Holds a request to answers of at most `most` tokens. In chat, what says so is called `chat` where it has to be set.
///
/// # Errors
///
/// A [`Fault`] where the body is no object, what should hold the bound is none, or either is there twice: of two readers,
/// each could believe another.
pub fn hold_to(operation: Operation, body: &[u8], most: u64, chat: &'static str) -> Result<Length, Fault> {
    let Some(place) = Place::of(operation, chat) else { return Ok(Length::Within) };
    let [first, other] = place.names;
    let top = members(body, None)?;
    let mut holders: Vec<Range<usize>> = Vec::new();
    let mut bounds = Vec::new();
    match place.object {
        None => bounds.extend(spans(&top, &place.names)),
        Some(object) => {
            for (_, span) in top.iter().filter(|(name, _)| folded(name) == folded(object)) {
                if body.get(span.start) == Some(&b'{') {
                    bounds.extend(spans(&members(body, Some(span.start))?, &place.names));
                }
                holders.push(span.clone());
            }
        }
    }
    if let Some((second, object)) = holders.get(1).zip(place.object) {
        return Err(Fault { at: second.start, what: What::Duplicate(object) });
    }
    for name in [first, other] {
        if let Some((_, second)) = bounds.iter().filter(|(found, _)| folded(name) == *found).nth(1) {
            return Err(Fault { at: second.start, what: What::Duplicate(name) });
        }
    }
    let mut empty = None;
    let mut is_bound = false;
    for (_, span) in bounds {
        match body.get(span.clone()).map(<[u8]>::trim_ascii) {
            Some(b"null") | None => empty = Some(span),
            Some(value) if !is_within(value, most) => return Ok(Length::Over { field: first }),
            Some(_) => is_bound = true,
        }
    }
    if is_bound {
        return Ok(Length::Within);
    }
    Ok(Length::Set(set(body, &place, (&top, &holders), empty, most)))
}

/// The edit that sets a bound where there is none.
fn set(
    body: &[u8],
    place: &Place,
    (top, holders): (&[Member<'_>], &[Range<usize>]),
    empty: Option<Range<usize>>,
    most: u64,
) -> Edits {
    let [name, _] = place.names;
    let mut edits = Edits::new();
    let member = format!("\"{name}\":{most}");
    let start = body.iter().position(|byte| *byte == b'{').map_or(0, |brace| brace + 1);
    let (span, text) = match (empty, place.object, holders.first()) {
        (Some(null), ..) => (null, most.to_string()),
        (None, Some(_), Some(holder)) if body.get(holder.start) == Some(&b'{') => {
            let inside = body.get(holder.start + 1..holder.end).unwrap_or_default();
            let is_empty = inside.trim_ascii() == b"}";
            (holder.start + 1..holder.start + 1, followed(member, is_empty))
        }
        (None, Some(_), Some(holder)) => (holder.clone(), format!("{{{member}}}")),
        (None, Some(object), None) => {
            (start..start, followed(format!("\"{object}\":{{{member}}}"), top.is_empty()))
        }
        (None, None, _) => (start..start, followed(member, top.is_empty())),
    };
    // There is but one edit.
    let _ = edits.push(span, text);
    edits
}

/// A member as it stands before others.
fn followed(mut member: String, is_last: bool) -> String {
    if !is_last {
        member.push(',');
    }
    member
}

/// The members of those names, with their names folded.
fn spans(among: &[Member<'_>], names: &[&'static str]) -> Vec<(String, Range<usize>)> {
    let all = among.iter().map(|(name, span)| (folded(name), span.clone()));
    all.filter(|(name, _)| names.iter().any(|wanted| folded(wanted) == *name)).collect()
}

/// A name as it is compared: Protobuf's JSON takes `max_output_tokens` for `maxOutputTokens`, and Go's any case.
fn folded(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Whether a number, which Protobuf's JSON lets be a text, is no larger. What is no number is not within anything.
fn is_within(value: &[u8], most: u64) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match text.parse::<u64>() {
        Ok(asked) => asked <= most,
        #[expect(clippy::cast_precision_loss, reason = "no bound is near 2^53")]
        Err(_) => text.parse::<f64>().is_ok_and(|asked| asked >= 0.0 && asked <= most as f64),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::json::splice;

    #[test]
    fn tools_are_seen_however_they_are_brought() {
        use Operation::{ChatCompletions, Converse, GenerateContent, Messages, Responses};
        for (operation, body) in [
            (ChatCompletions, r#"{"tools":[{"type":"function"}]}"#),
            (ChatCompletions, r#"{"functions":[{"name":"f"}]}"#),
            (ChatCompletions, r#"{"web_search_options":{}}"#),
            (ChatCompletions, r#"{"t\u006fols":[{}]}"#),
            (ChatCompletions, r#"{"tools":[],"x":1,"tools":[1]}"#),
            (Messages, r#"{"tools":[{"name":"f"}]}"#),
            (Messages, r#"{"mcp_servers":[{"url":"x"}]}"#),
            (Responses, r#"{"tools":[{"type":"web_search"}]}"#),
            (GenerateContent, r#"{"tools":[{"googleSearch":{}}]}"#),
            (GenerateContent, r#"{"tools":{"googleSearch":{}}}"#),
            (Converse, r#"{"toolConfig":{"tools":[{}]}}"#),
            (Converse, r#"{"additionalModelRequestFields":{"tools":[{"type":"web_search_20250305"}]}}"#),
            (Converse, r#"{"additionalModelRequestFields":{"mcp_servers":[{"url":"x"}]}}"#),
            (ChatCompletions, r#"{"plugins":[{"id":"web"}]}"#),
            (ChatCompletions, r#"{"search_parameters":{"mode":"on"}}"#),
        ] {
            assert!(brings_tools(operation, body.as_bytes()).unwrap(), "{body}");
        }
        for (operation, body) in [
            (ChatCompletions, r#"{"messages":[{"tools":[1]}]}"#),
            (ChatCompletions, r#"{"tools": [ ]}"#),
            (ChatCompletions, r#"{"tools":null,"functions":[]}"#),
            (GenerateContent, r#"{"toolConfig":{"functionCallingConfig":{}}}"#),
            (Converse, r#"{"additionalModelRequestFields":{"top_k":1,"tools":[]}}"#),
            (Messages, "{}"),
        ] {
            assert!(!brings_tools(operation, body.as_bytes()).unwrap(), "{body}");
        }
    }

    fn held(operation: Operation, body: &str, chat: &'static str) -> String {
        match hold_to(operation, body.as_bytes(), 100, chat).unwrap() {
            Length::Within => "within".to_owned(),
            Length::Over { field } => format!("over {field}"),
            Length::Set(edits) => {
                let made = splice(&Bytes::copy_from_slice(body.as_bytes()), &edits).concat();
                let _: Value = serde_json::from_slice(&made).unwrap();
                String::from_utf8(made).unwrap()
            }
        }
    }

    #[test]
    fn what_asks_for_too_much_is_told_in_every_spelling() {
        use Operation::{ChatCompletions, Converse, GenerateContent, Messages, Responses};
        for (operation, body) in [
            (ChatCompletions, r#"{"max_tokens":101}"#),
            (ChatCompletions, r#"{"max_tokens":1,"max_completion_tokens":101}"#),
            (ChatCompletions, r#"{"max_tokens":1e9}"#),
            (ChatCompletions, r#"{"max_tokens":-1}"#),
            (ChatCompletions, r#"{"max_tokens":"many"}"#),
            (Messages, r#"{"max_tokens":101}"#),
            (Responses, r#"{"max_output_tokens":101}"#),
            (GenerateContent, r#"{"generationConfig":{"maxOutputTokens":101}}"#),
            (GenerateContent, r#"{"generation_config":{"max_output_tokens":"101"}}"#),
            (Converse, r#"{"inferenceConfig":{"maxTokens":101}}"#),
        ] {
            let said = held(operation, body, "max_tokens");
            assert!(said.starts_with("over "), "{body}: {said}");
        }
        for (operation, body) in [
            (ChatCompletions, r#"{"max_completion_tokens":100}"#),
            (Messages, r#"{"max_tokens":1}"#),
            (GenerateContent, r#"{"generationConfig":{"maxOutputTokens":"100"}}"#),
            (Converse, r#"{"inferenceConfig":{"maxTokens":9.9e1}}"#),
            (Operation::Embeddings, r#"{"max_tokens":101}"#),
        ] {
            assert_eq!(held(operation, body, "max_tokens"), "within", "{body}");
        }
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        use Operation::{Converse, GenerateContent};
        for (operation, body, twice) in [
            (Converse, r#"{"inferenceConfig":{"maxTokens":1,"maxTokens":null}}"#, "maxTokens"),
            (Converse, r#"{"inferenceConfig":{"maxTokens":1},"inferenceConfig":{}}"#, "inferenceConfig"),
            (
                GenerateContent,
                r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":null}}"#,
                "maxOutputTokens",
            ),
            (
                GenerateContent,
                r#"{"generationConfig":{"maxOutputTokens":1},"generation_config":null}"#,
                "generationConfig",
            ),
        ] {
            let fault = hold_to(operation, body.as_bytes(), 100, "max_tokens").unwrap_err();
            assert_eq!(fault.what, What::Duplicate(twice), "{body}");
        }
    }

    #[test]
    fn what_says_nothing_is_told_to() {
        use Operation::{ChatCompletions, Converse, GenerateContent, Messages, Responses};
        for (operation, body, made) in [
            (ChatCompletions, r#"{"model":"m"}"#, r#"{"max_tokens":100,"model":"m"}"#),
            (ChatCompletions, " { } ", r#" {"max_tokens":100 } "#),
            (ChatCompletions, r#"{"max_completion_tokens":null}"#, r#"{"max_completion_tokens":100}"#),
            (Messages, "{}", r#"{"max_tokens":100}"#),
            (Responses, r#"{"x":1}"#, r#"{"max_output_tokens":100,"x":1}"#),
            (
                GenerateContent,
                r#"{"contents":[]}"#,
                r#"{"generationConfig":{"maxOutputTokens":100},"contents":[]}"#,
            ),
            (
                GenerateContent,
                r#"{"generationConfig":{}}"#,
                r#"{"generationConfig":{"maxOutputTokens":100}}"#,
            ),
            (
                GenerateContent,
                r#"{"generation_config":{"temperature":1}}"#,
                r#"{"generation_config":{"maxOutputTokens":100,"temperature":1}}"#,
            ),
            (
                GenerateContent,
                r#"{"generationConfig":null}"#,
                r#"{"generationConfig":{"maxOutputTokens":100}}"#,
            ),
            (
                Converse,
                r#"{"inferenceConfig":{"maxTokens":null}}"#,
                r#"{"inferenceConfig":{"maxTokens":100}}"#,
            ),
        ] {
            assert_eq!(held(operation, body, "max_tokens"), made);
        }
        let modern = held(ChatCompletions, r#"{"x":1}"#, "max_completion_tokens");
        assert_eq!(modern, r#"{"max_completion_tokens":100,"x":1}"#);
    }
}
