//! What of a request's body people wrote: the texts of the conversation, whatever the client's dialect. Ids, names, tool
//! schemas, media and what is sealed are none of it.

use bytes::Bytes;

use super::{Kinds, redact};
use crate::dialect::Operation;
use crate::dialect::ir::Text;
use crate::dialect::ir::node::{Node, Value};
use crate::error::Error;
use crate::json::{Edits, quote, splice};

/// The members of a request that become prompt, in any dialect.
const PROMPT: [&str; 11] = [
    "messages",
    "contents",
    "input",
    "prompt",
    "suffix",
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
    "query",
    "documents",
];

/// The members below them whose strings are text.
const TEXTS: [&str; 8] = ["content", "text", "output", "refusal", "prompt", "query", "title", "context"];

/// The members below them that hold JSON of the client's own, in which every string is text.
const FREE: [&str; 6] = ["args", "response", "json", "variables", "input", "arguments"];

/// What is proved unchanged by a seal, or is no text whatever it looks like.
const LEFT_ALONE: [&str; 9] = [
    "reasoningContent",
    "signature",
    "thoughtSignature",
    "thought_signature",
    "encrypted_content",
    "cache_control",
    "inlineData",
    "inline_data",
    "tools",
];

/// A body without what is looked for, and what that was; nothing where there is none of it. Everything else stays byte by
/// byte.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] where the body is no JSON.
pub fn redact_body(
    kinds: Kinds,
    operation: Operation,
    body: &Bytes,
) -> Result<Option<(Bytes, Kinds)>, Error> {
    let node = Node::parse(body)?;
    let mut taken = Taken { kinds, document: body, edits: Edits::new(), found: Kinds::default() };
    visit(&node, Seal::of(operation), &mut |node, form| taken.take(node, form));
    let Taken { edits, found, .. } = taken;
    Ok((!found.is_empty()).then(|| (splice(body, &edits).concat().into(), found)))
}

/// JSON in which no string holds what is looked for; nothing where there was none of it. What is no JSON is a text.
pub fn redact_json(kinds: Kinds, json: &str) -> Option<(String, Kinds)> {
    let Ok(node) = Node::parse(json.as_bytes()) else { return redact(kinds, json) };
    let mut taken = Taken { kinds, document: json.as_bytes(), edits: Edits::new(), found: Kinds::default() };
    free(&node, &mut |node, form| taken.take(node, form));
    if taken.found.is_empty() {
        return None;
    }
    let whole = splice(&Bytes::copy_from_slice(json.as_bytes()), &taken.edits).concat();
    String::from_utf8(whole).ok().map(|whole| (whole, taken.found))
}

/// The texts of a body, a line each, up to that many bytes.
///
/// # Errors
/// As [`redact_body`].
pub fn texts(operation: Operation, body: &[u8], most: usize) -> Result<String, Error> {
    let node = Node::parse(body)?;
    let mut all = String::new();
    visit(&node, Seal::of(operation), &mut |node, _| {
        let text = node.as_text().map(Text::into_plain).unwrap_or_default();
        let room = most.saturating_sub(all.len() + 1);
        if room > 0 {
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        }
    });
    Ok(all)
}

/// How a dialect marks the model's own thought, whose upstream wants it back as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Messages: a block of type `thinking` or `redacted_thinking`.
    Thinking,
    /// Responses: an item of type `reasoning`.
    Reasoning,
    /// Gemini: a part with `thought: true`.
    Thought,
}

/// Which mark is believed at a place. A client could put one on anything: a reader that does not know it takes the text for
/// what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    /// None: it is no turn of the model's, or the dialect has no mark.
    No,
    /// This one, in turns that say that they are the model's.
    InTurns(Mark),
    /// This one.
    Here(Mark),
}

impl Seal {
    /// What is believed at the top of a request.
    fn of(operation: Operation) -> Self {
        match operation {
            Operation::Messages | Operation::CountTokens => Self::InTurns(Mark::Thinking),
            Operation::GenerateContent | Operation::GeminiCount => Self::InTurns(Mark::Thought),
            Operation::Responses => Self::Here(Mark::Reasoning),
            _ => Self::No,
        }
    }

    /// What is believed below an object. One that names several roles is nobody's.
    fn below(self, members: &Members<'_>) -> Self {
        let mut roles = members.iter().filter(|(key, _)| key == "role").map(|(_, role)| role.as_text());
        let mut is_models = None;
        for role in &mut roles {
            let is = role.is_some_and(|role| matches!(role.plain().as_ref(), "assistant" | "model"));
            is_models = Some(is && is_models.unwrap_or(true));
        }
        match (self, is_models) {
            (Self::InTurns(mark), Some(true)) => Self::Here(mark),
            (_, Some(false)) => Self::No,
            (seal, _) => seal,
        }
    }

    /// Whether an object has the mark.
    fn is_on(self, members: &Members<'_>) -> bool {
        let Self::Here(mark) = self else { return false };
        // Of two members of one name, a reader may believe either.
        let all = |name: &str, is: &dyn Fn(&Node<'_>) -> bool| {
            let mut named = members.iter().filter(|(key, _)| key == name).map(|(_, node)| node).peekable();
            named.peek().is_some() && named.all(is)
        };
        let typed = |types: &[&str]| {
            all("type", &|node| node.as_text().is_some_and(|kind| types.contains(&kind.plain().as_ref())))
        };
        match mark {
            Mark::Thinking => typed(&["thinking", "redacted_thinking"]),
            Mark::Reasoning => typed(&["reasoning"]),
            Mark::Thought => all("thought", &|node| matches!(node.value, Value::Bool(true))),
        }
    }
}

/// How a string is to be read.
#[derive(Clone, Copy)]
enum Form {
    /// As words.
    Text,
    /// As JSON, if it is.
    Json,
}

/// Edits under way.
struct Taken<'d> {
    kinds: Kinds,
    document: &'d [u8],
    edits: Edits,
    found: Kinds,
}

impl Taken<'_> {
    fn take(&mut self, node: &Node<'_>, form: Form) {
        let Some(text) = node.as_text() else { return };
        let changed = match form {
            Form::Text => redact(self.kinds, &text.plain()),
            Form::Json => redact_json(self.kinds, &text.plain()),
        };
        let Some((without, found)) = changed else { return };
        // A node's text is a part of its document.
        let start = node.raw.as_ptr().addr() - self.document.as_ptr().addr();
        if self.edits.push(start..start + node.raw.len(), quote(&without)) {
            self.found = self.found.and(found);
        }
    }
}

/// Goes over the texts of a request.
fn visit<'n, 'a>(body: &'n Node<'a>, seal: Seal, sink: &mut dyn FnMut(&'n Node<'a>, Form)) {
    let Value::Object(members) = &body.value else { return };
    for (key, node) in members {
        match key.plain().as_ref() {
            // Where Google's counting has the whole request.
            "generateContentRequest" => visit(node, seal, sink),
            name if PROMPT.contains(&name) => walk(node, true, seal, sink),
            _ => {}
        }
    }
}

fn walk<'n, 'a>(node: &'n Node<'a>, is_text: bool, seal: Seal, sink: &mut dyn FnMut(&'n Node<'a>, Form)) {
    match &node.value {
        Value::String if is_text => sink(node, Form::Text),
        Value::Array(items) => items.iter().for_each(|item| walk(item, is_text, seal, sink)),
        Value::Object(members) if !seal.is_on(members) => {
            let seal = seal.below(members);
            for (key, member) in members {
                match key.plain().as_ref() {
                    "arguments" if matches!(member.value, Value::String) => sink(member, Form::Json),
                    "data" if is_plain_source(members) => walk(member, true, seal, sink),
                    name if TEXTS.contains(&name) => walk(member, true, seal, sink),
                    name if FREE.contains(&name) => free(member, sink),
                    name if LEFT_ALONE.contains(&name) => {}
                    _ => walk(member, false, seal, sink),
                }
            }
        }
        _ => {}
    }
}

fn free<'n, 'a>(node: &'n Node<'a>, sink: &mut dyn FnMut(&'n Node<'a>, Form)) {
    match &node.value {
        Value::String => sink(node, Form::Text),
        Value::Array(items) => items.iter().for_each(|item| free(item, sink)),
        Value::Object(members) => members.iter().for_each(|(_, member)| free(member, sink)),
        Value::Null | Value::Bool(_) | Value::Number => {}
    }
}

type Members<'a> = [(Text<'a>, Node<'a>)];

fn member<'n, 'a>(members: &'n Members<'a>, name: &str) -> Option<&'n Node<'a>> {
    members.iter().find(|(key, _)| key == name).map(|(_, node)| node)
}

/// Whether it is a document that is written out.
fn is_plain_source(members: &Members<'_>) -> bool {
    member(members, "type").and_then(Node::as_text).is_some_and(|kind| kind.plain() == "text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(operation: Operation, body: &str) -> Option<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (body, _) = redact_body(Kinds::ALL, operation, &body).unwrap()?;
        Some(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn only_what_people_wrote_changes_in_every_dialect() {
        use Operation::{ChatCompletions, Converse, GenerateContent, Messages, Responses};
        for (operation, body, expected) in [
            // Chat.
            (
                ChatCompletions,
                r#"{ "model":"a@b.com", "messages":[ {"role":"user","content":"I am a@b.com"} ],"user":"a@b.com" }"#,
                r#"{ "model":"a@b.com", "messages":[ {"role":"user","content":"I am [EMAIL]"} ],"user":"a@b.com" }"#,
            ),
            (
                ChatCompletions,
                r#"{"messages":[{"content":[{"type":"text","text":"x\n\u0061@b.com"},{"type":"image_url","image_url":{"url":"https://a@b.com/x"}}]}],"tools":[{"function":{"description":"to a@b.com"}}]}"#,
                r#"{"messages":[{"content":[{"type":"text","text":"x\n[EMAIL]"},{"type":"image_url","image_url":{"url":"https://a@b.com/x"}}]}],"tools":[{"function":{"description":"to a@b.com"}}]}"#,
            ),
            (
                ChatCompletions,
                r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a@b.com","function":{"name":"f","arguments":"{\"to\":\"a@b.com\",\"n\":4111111111111111}"}}]},{"role":"tool","tool_call_id":"a@b.com","content":"4111111111111111"}]}"#,
                r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a@b.com","function":{"name":"f","arguments":"{\"to\":\"[EMAIL]\",\"n\":4111111111111111}"}}]},{"role":"tool","tool_call_id":"a@b.com","content":"[CARD]"}]}"#,
            ),
            // Messages.
            (
                Messages,
                r#"{"system":"for a@b.com","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a@b.com","text":"a@b.com","signature":"x"},{"type":"tool_use","id":"a@b.com","input":{"to":["a@b.com"]}},{"type":"tool_result","tool_use_id":"a@b.com","content":[{"type":"text","text":"a@b.com"}]},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a@b.com"}},{"type":"document","source":{"type":"base64","data":"a@b.com"}}]}]}"#,
                r#"{"system":"for [EMAIL]","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a@b.com","text":"a@b.com","signature":"x"},{"type":"tool_use","id":"a@b.com","input":{"to":["[EMAIL]"]}},{"type":"tool_result","tool_use_id":"a@b.com","content":[{"type":"text","text":"[EMAIL]"}]},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"[EMAIL]"}},{"type":"document","source":{"type":"base64","data":"a@b.com"}}]}]}"#,
            ),
            // Responses.
            (
                Responses,
                r#"{"instructions":"a@b.com","input":[{"role":"user","content":[{"type":"input_text","text":"a@b.com"}]},{"type":"reasoning","id":"a@b.com","summary":[{"text":"a@b.com"}]},{"type":"function_call_output","call_id":"a@b.com","output":"a@b.com"}]}"#,
                r#"{"instructions":"[EMAIL]","input":[{"role":"user","content":[{"type":"input_text","text":"[EMAIL]"}]},{"type":"reasoning","id":"a@b.com","summary":[{"text":"a@b.com"}]},{"type":"function_call_output","call_id":"a@b.com","output":"[EMAIL]"}]}"#,
            ),
            (Responses, r#"{"input":"a@b.com"}"#, r#"{"input":"[EMAIL]"}"#),
            (Responses, r#"{"input":["x","a@b.com"]}"#, r#"{"input":["x","[EMAIL]"]}"#),
            // Gemini.
            (
                GenerateContent,
                r#"{"systemInstruction":{"parts":[{"text":"a@b.com"}]},"contents":[{"role":"model","parts":[{"text":"a@b.com"},{"text":"a@b.com","thought":true},{"functionResponse":{"name":"a@b.com","response":{"x":"a@b.com"}}},{"inlineData":{"data":"a@b.com"}}]}]}"#,
                r#"{"systemInstruction":{"parts":[{"text":"[EMAIL]"}]},"contents":[{"role":"model","parts":[{"text":"[EMAIL]"},{"text":"a@b.com","thought":true},{"functionResponse":{"name":"a@b.com","response":{"x":"[EMAIL]"}}},{"inlineData":{"data":"a@b.com"}}]}]}"#,
            ),
            // Converse.
            (
                Converse,
                r#"{"system":[{"text":"a@b.com"}],"messages":[{"content":[{"text":"a@b.com"},{"reasoningContent":{"reasoningText":{"text":"a@b.com"}}},{"toolResult":{"toolUseId":"a@b.com","content":[{"json":{"k":"a@b.com"}}]}}]}]}"#,
                r#"{"system":[{"text":"[EMAIL]"}],"messages":[{"content":[{"text":"[EMAIL]"},{"reasoningContent":{"reasoningText":{"text":"a@b.com"}}},{"toolResult":{"toolUseId":"a@b.com","content":[{"json":{"k":"[EMAIL]"}}]}}]}]}"#,
            ),
        ] {
            assert_eq!(redacted(operation, body).as_deref(), Some(expected));
        }
        assert_eq!(
            redacted(
                ChatCompletions,
                r#"{"messages":[{"content":"nothing of that"}],"metadata":{"a":"a@b.com"}}"#
            ),
            None
        );
    }

    #[test]
    fn nobody_seals_a_text_but_its_own_dialect_in_the_models_turns() {
        use Operation::{ChatCompletions, Converse, GenerateContent, Messages, Responses};
        for (operation, body) in [
            (ChatCompletions, r#"{"messages":[{"role":"user","thought":true,"content":"a@b.com"}]}"#),
            (ChatCompletions, r#"{"messages":[{"role":"assistant","type":"thinking","content":"a@b.com"}]}"#),
            (Converse, r#"{"messages":[{"role":"user","content":[{"text":"a@b.com","thought":true}]}]}"#),
            (Messages, r#"{"messages":[{"role":"user","content":[{"type":"thinking","text":"a@b.com"}]}]}"#),
            (
                Messages,
                r#"{"messages":[{"role":"assistant","role":"user","content":[{"type":"thinking","text":"a@b.com"}]}]}"#,
            ),
            (
                Messages,
                r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","type":"text","text":"a@b.com"}]}]}"#,
            ),
            (Messages, r#"{"system":[{"type":"thinking","text":"a@b.com"}]}"#),
            (
                GenerateContent,
                r#"{"contents":[{"role":"user","parts":[{"text":"a@b.com","thought":true}]}]}"#,
            ),
            (GenerateContent, r#"{"contents":[{"parts":[{"text":"a@b.com","thought":true}]}]}"#),
            (Responses, r#"{"input":[{"role":"user","content":[{"type":"reasoning","text":"a@b.com"}]}]}"#),
        ] {
            let without = redacted(operation, body).unwrap_or_default();
            assert!(without.contains("[EMAIL]"), "{body}: {without}");
        }
    }

    #[test]
    fn a_member_is_known_however_its_name_is_written() {
        let body = r#"{"mess\u0061ges":[{"cont\u0065nt":"a@b.com"}]}"#;
        let redacted = redacted(Operation::ChatCompletions, body);
        assert_eq!(redacted.as_deref(), Some(r#"{"mess\u0061ges":[{"cont\u0065nt":"[EMAIL]"}]}"#));
    }

    #[test]
    fn texts_are_put_together_up_to_a_bound() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"one"},{"content":[{"type":"text","text":"zw\u00f6lf"}]}]}"#;
        assert_eq!(texts(Operation::ChatCompletions, body.as_bytes(), 100).unwrap(), "one\nzw\u{f6}lf");
        assert_eq!(texts(Operation::ChatCompletions, body.as_bytes(), 7).unwrap(), "one\nzw");
        assert!(texts(Operation::ChatCompletions, b"{", 8).is_err());
    }
}
