//! Reading the conversation of a Gemini request.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::{Left, either};
use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::seal::{REDACTED, unmarked_base64};
use crate::dialect::ir::{
    Arguments, Content, Message, Opaque, Origin, Outcome, Part, Reasoning, Role, Source, Text, Thought,
    ToolCall, ToolResult, check_results,
};
use crate::error::Error;

/// Where the Files API keeps what was uploaded to it.
const FILES: &str = "https://generativelanguage.googleapis.com/";

/// The calls so far. Ids are Gemini's own where it gives any, and else the call's number, so that the same conversation
/// has the same ids in every request.
#[derive(Default)]
struct Calls<'a> {
    list: Vec<Call<'a>>,
    /// The first call of each id.
    ids: HashMap<String, usize>,
    /// The calls of each tool, in order, without those at the front that have their result.
    waiting: HashMap<String, VecDeque<usize>>,
}

struct Call<'a> {
    id: Text<'a>,
    result: ResultOf,
}

/// Whether a call has its result.
#[derive(PartialEq, Eq)]
enum ResultOf {
    ToCome,
    Given,
}

impl<'a> Calls<'a> {
    fn begin(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Text<'a> {
        let number = self.list.len();
        let made = || Text::new(format!("call_{number}"));
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(made);
        self.ids.entry(id.plain().into_owned()).or_insert(number);
        self.waiting.entry(name.plain().into_owned()).or_default().push_back(number);
        self.list.push(Call { id: id.clone(), result: ResultOf::ToCome });
        id
    }

    /// The id of the call that a result belongs to: the one it names, or the first of its tool's that has none yet.
    fn end(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Option<Text<'a>> {
        let number = match id.filter(|id| !id.is_empty()) {
            Some(id) => *self.ids.get(&*id.plain())?,
            None => self.first_waiting(name)?,
        };
        let call = self.list.get_mut(number)?;
        call.result = ResultOf::Given;
        Some(call.id.clone())
    }

    fn first_waiting(&mut self, name: &Text<'a>) -> Option<usize> {
        let Self { list, waiting, .. } = self;
        let waiting = waiting.get_mut(&*name.plain())?;
        let waits = |number: usize| list.get(number).is_some_and(|call| call.result == ResultOf::ToCome);
        while let Some(number) = waiting.pop_front() {
            if waits(number) {
                return Some(number);
            }
        }
        None
    }
}

/// The instructions and the contents.
pub(super) fn conversation<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Vec<Message<'a>>, Error> {
    let here = fields.path;
    let mut calls = Calls::default();
    let mut messages = Vec::new();
    if let Some(node) = either(fields, ("systemInstruction", "system_instruction"), Fields::take)? {
        let parts = content(node, here.member("systemInstruction"), &mut calls, left)?.1;
        messages.push(Message { role: Role::System, parts });
    }
    let path = here.member("contents");
    let items = fields.need("contents")?.array(path)?;
    if items.is_empty() {
        return Err(path.fault("must hold at least one content"));
    }
    let head = messages.len();
    for (index, node) in items.iter().enumerate() {
        let (role, parts) = content(node, path.item(index), &mut calls, left)?;
        messages.push(Message { role, parts });
    }
    check_results(&messages, path, head)?;
    Ok(messages)
}

fn content<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    calls: &mut Calls<'a>,
    left: &mut Left<'a>,
) -> Result<(Role, Vec<Part<'a>>), Error> {
    let mut fields = node.fields(path)?;
    let role = match fields.text("role")?.unwrap_or_default().plain().as_ref() {
        // What has no role is the user's; `function` is how results were sent at first.
        "user" | "function" | "" => Role::User,
        "model" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(path.member("role").wants("'user' or 'model'")),
    };
    let within = path.member("parts");
    let mut parts = Vec::new();
    for (index, node) in fields.array("parts")?.unwrap_or_default().iter().enumerate() {
        part(node, within.item(index), &mut parts, calls, left)?;
    }
    fields.leave(left);
    Ok((role, parts))
}

fn part<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    parts: &mut Vec<Part<'a>>,
    calls: &mut Calls<'a>,
    left: &mut Left<'a>,
) -> Result<(), Error> {
    let mut fields = node.fields(path)?;
    let thought = fields.boolean("thought")? == Some(true);
    let seal = either(&mut fields, ("thoughtSignature", "thought_signature"), Fields::text)?;
    let seal = seal.filter(|seal| !seal.is_empty()).map(unsealed);
    if let Some(text) = fields.text("text")? {
        if thought {
            think(parts, text, seal);
        } else {
            parts.extend(Some(text).filter(|text| !text.is_empty()).map(|text| Content::Text(text).into()));
            parts.extend(seal.map(|seal| Content::Reasoning(sealed(Text::default(), seal)).into()));
        }
        fields.leave(left);
        return Ok(());
    }
    let content = if let Some(call) = either(&mut fields, ("functionCall", "function_call"), Fields::take)? {
        Some(function_call(call, path.member("functionCall"), seal, calls, left)?)
    } else if let Some(result) = either(&mut fields, ("functionResponse", "function_response"), Fields::take)?
    {
        Some(function_response(result, path.member("functionResponse"), calls, left)?)
    } else {
        medium(&mut fields, path, left)?
    };
    match content {
        Some(content) => {
            parts.push(content.into());
            fields.leave(left);
        }
        None => parts.push(opaque(node, path)?),
    }
    Ok(())
}

/// A part that only Gemini has, under the name of its first member.
fn opaque<'a>(node: &Node<'a>, path: Path<'_>) -> Result<Part<'a>, Error> {
    let kind = match &node.value {
        Value::Object(members) => {
            members.iter().map(|(name, _)| name).find(|name| **name != *"thoughtSignature")
        }
        _ => None,
    };
    let kind = kind.ok_or_else(|| path.fault("must hold something, such as 'text'"))?.clone();
    Ok(Content::Opaque(Opaque::new(Origin::Gemini, kind, node.json())).into())
}

/// Whose seal this is, and the seal itself.
fn unsealed(seal: Text<'_>) -> (Origin, Text<'_>) {
    unmarked_base64(&seal).unwrap_or((Origin::Gemini, seal))
}

fn sealed<'a>(text: Text<'a>, (origin, seal): (Origin, Text<'a>)) -> Reasoning<'a> {
    Reasoning { origin, text: Thought::Readable(text), signature: Some(seal) }
}

/// Adds a thought. A stream gives it in pieces and its seal last, and SDKs keep the pieces as they came.
fn think<'a>(parts: &mut Vec<Part<'a>>, text: Text<'a>, seal: Option<(Origin, Text<'a>)>) {
    if let Some((origin, seal)) = &seal
        && let Some(data) = seal.plain().strip_prefix(REDACTED)
    {
        let text = Thought::Redacted(Text::new(data.to_owned()));
        let thought = Reasoning { origin: *origin, text, signature: None };
        return parts.push(Content::Reasoning(thought).into());
    }
    let last = parts.last_mut().map(|part| &mut part.content);
    if let Some(Content::Reasoning(Reasoning { origin, text: Thought::Readable(before), signature })) = last
        && signature.is_none()
    {
        *before = Text::join([&*before, &text], "");
        if let Some((whose, seal)) = seal {
            *origin = whose;
            *signature = Some(seal);
        }
        return;
    }
    let thought = match seal {
        Some(seal) => sealed(text, seal),
        None => Reasoning { origin: Origin::Gemini, text: Thought::Readable(text), signature: None },
    };
    parts.push(Content::Reasoning(thought).into());
}

fn function_call<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    signature: Option<(Origin, Text<'a>)>,
    calls: &mut Calls<'a>,
    left: &mut Left<'a>,
) -> Result<Content<'a>, Error> {
    let mut fields = node.fields(path)?;
    let name = fields.need_text("name")?;
    let id = calls.begin(fields.text("id")?, &name);
    let arguments = match fields.object("args")? {
        Some(object) => Arguments::Object(object),
        None => Arguments::Text(Text::default()),
    };
    fields.leave(left);
    Ok(Content::ToolCall(ToolCall { id, name, arguments, signature }))
}

fn function_response<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    calls: &mut Calls<'a>,
    left: &mut Left<'a>,
) -> Result<Content<'a>, Error> {
    let mut fields = node.fields(path)?;
    let name = fields.need_text("name")?;
    let id = calls.end(fields.text("id")?, &name);
    let id =
        id.ok_or_else(|| path.member("name").fault("no functionCall before it waits for this result"))?;
    let (outcome, mut content) = match fields.take("response")? {
        Some(node) => response(node, path.member("response"))?,
        None => (Outcome::Success, Vec::new()),
    };
    let within = path.member("parts");
    for (index, node) in fields.array("parts")?.unwrap_or_default().iter().enumerate() {
        let path = within.item(index);
        let mut fields = node.fields(path)?;
        let part = medium(&mut fields, path, left)?.map(Part::from);
        content.push(match part {
            Some(part) => part,
            None => opaque(node, path)?,
        });
    }
    fields.leave(left);
    Ok(Content::ToolResult(ToolResult { id, content, outcome }))
}

/// What a tool gave back. The API's own words for it are `output` and `error`, Forebay's are `result` and `error`;
/// any other object is the result itself.
fn response<'a>(node: &Node<'a>, path: Path<'_>) -> Result<(Outcome, Vec<Part<'a>>), Error> {
    let Value::Object(members) = &node.value else { return Err(path.wants("an object")) };
    let (outcome, text) = match members.as_slice() {
        [(name, node)] if *name == *"error" => (Outcome::Failure, node.as_text()),
        [(name, node)] if *name == *"result" || *name == *"output" => (Outcome::Success, node.as_text()),
        _ => (Outcome::Success, None),
    };
    match text {
        Some(text) => Ok((outcome, vec![Content::Text(text).into()])),
        None => Ok((Outcome::Success, vec![Content::Text(Text::Plain(Cow::Borrowed(node.raw))).into()])),
    }
}

/// A medium, by its type; nothing if the part is something else, or a film.
fn medium<'a>(
    fields: &mut Fields<'_, 'a>,
    path: Path<'_>,
    left: &mut Left<'a>,
) -> Result<Option<Content<'a>>, Error> {
    if let Some(node) = either(fields, ("inlineData", "inline_data"), Fields::take)? {
        let path = path.member("inlineData");
        let mut data = node.fields(path)?;
        let kind = either(&mut data, ("mimeType", "mime_type"), Fields::text)?;
        let kind = kind.ok_or_else(|| path.member("mimeType").fault("is required"))?.into_plain();
        let bytes = data.need_text("data")?;
        // SDKs in Python write the letters for URLs.
        let bytes = match &bytes {
            Text::Escaped(text) | Text::Plain(text) if text.contains(['-', '_']) => {
                Text::new(text.replace('-', "+").replace('_', "/"))
            }
            _ => bytes,
        };
        let source = Source::of_base64(kind.clone(), bytes, path.member("data"))?;
        let name = file_name(&mut data, &kind)?;
        data.leave(left);
        return Ok(of_kind(&kind, source, name));
    }
    let Some(node) = either(fields, ("fileData", "file_data"), Fields::take)? else { return Ok(None) };
    let path = path.member("fileData");
    let mut data = node.fields(path)?;
    let uri = either(&mut data, ("fileUri", "file_uri"), Fields::text)?;
    let uri = uri.ok_or_else(|| path.member("fileUri").fault("is required"))?;
    let kind = either(&mut data, ("mimeType", "mime_type"), Fields::text)?.unwrap_or_default();
    let name = file_name(&mut data, &kind.plain())?;
    data.leave(left);
    let plain = uri.plain();
    let own = plain.starts_with("gs://") || plain.starts_with(FILES);
    drop(plain);
    let source =
        if own { Source::File(Origin::Gemini, uri) } else { Source::at(uri, path.member("fileUri"))? };
    Ok(of_kind(&kind.plain(), source, name))
}

/// What a document is called. Images and sounds have no names elsewhere: theirs are left over.
fn file_name<'a>(data: &mut Fields<'_, 'a>, kind: &str) -> Result<Option<Text<'a>>, Error> {
    let is_named = !["image/", "audio/"].iter().any(|family| kind.starts_with(family));
    let names = ("displayName", "display_name");
    if is_named { either(data, names, Fields::text) } else { Ok(None) }
}

/// A medium of this type; nothing if other dialects have none like it.
fn of_kind<'a>(kind: &str, source: Source<'a>, name: Option<Text<'a>>) -> Option<Content<'a>> {
    match kind.split('/').next() {
        Some("image") => Some(Content::Image { source, detail: None }),
        Some("audio") => Some(Content::Audio(source)),
        Some("video") => None,
        _ => Some(Content::Document { source, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_result_is_told_as_its_text() {
        let node = Node::parse(b"{\"a\":1}").unwrap();
        let (outcome, parts) = response(&node, Path::Root).unwrap();
        assert_eq!((outcome, parts), (Outcome::Success, vec![Content::Text(Text::new("{\"a\":1}")).into()]));
    }
}
