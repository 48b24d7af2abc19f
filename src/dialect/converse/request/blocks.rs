//! Reading the conversation of a Converse request.

use super::Left;
use crate::dialect::converse::type_of;
use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::seal::{unmarked_base64, unsealed};
use crate::dialect::ir::{
    Arguments, Cache, Content, Leftover, Message, Opaque, Origin, Outcome, Part, Reasoning, Role, Source,
    Text, Thought, ToolCall, ToolResult, check_results,
};
use crate::error::Error;

/// The instructions and the messages.
pub(super) fn conversation<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Vec<Message<'a>>, Error> {
    let mut messages = Vec::new();
    let path = Path::Root.member("system");
    if let Some(node) = fields.take("system")? {
        messages.push(Message { role: Role::System, parts: content(node, path, left)? });
    }
    let path = Path::Root.member("messages");
    let items = fields.need("messages")?.array(path)?;
    if items.is_empty() {
        return Err(path.fault("must hold at least one message"));
    }
    let head = messages.len();
    for (index, node) in items.iter().enumerate() {
        messages.push(message(node, path.item(index), left)?);
    }
    check_results(&messages, path, head)?;
    Ok(messages)
}

fn message<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Message<'a>, Error> {
    let mut fields = node.fields(path)?;
    let role = match fields.need_text("role")?.plain().as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(path.member("role").wants("'user', 'assistant' or 'system'")),
    };
    let parts = content(fields.need("content")?, path.member("content"), left)?;
    fields.leave(left);
    Ok(Message { role, parts })
}

fn content<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Vec<Part<'a>>, Error> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for (index, node) in node.array(path)?.iter().enumerate() {
        let path = path.item(index);
        let mut fields = node.fields(path)?;
        if let Some(cache) = cache(&mut fields)? {
            match parts.last_mut() {
                Some(part) => part.cache = Some(cache),
                None => left.push(Leftover { path: path.to_string(), raw: node.json() }),
            }
            continue;
        }
        parts.push(part(node, fields, left)?.into());
    }
    Ok(parts)
}

/// The mark that the prompt up to here is worth caching, which is a block of its own.
pub(super) fn cache<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Cache<'a>>, Error> {
    let path = fields.path;
    let Some(node) = fields.take("cachePoint")? else { return Ok(None) };
    let ttl = node.fields(path.member("cachePoint"))?.text("ttl")?;
    Ok(Some(Cache { ttl }))
}

/// A block, which holds one member.
fn part<'a>(node: &Node<'a>, mut fields: Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let here = fields.path;
    let mut content = None;
    if let Some(text) = fields.text("text")? {
        content = Some(Content::Text(text));
    } else if let Some(node) = fields.take("toolUse")? {
        content = tool_use(node, here.member("toolUse"), left)?;
    } else if let Some(node) = fields.take("toolResult")? {
        content = tool_result(node, here.member("toolResult"), left)?;
    } else if let Some(node) = fields.take("json")? {
        content = Some(Content::Text(Text::Plain(node.raw.into())));
    } else if let Some(node) = fields.take("reasoningContent")? {
        content = reasoning(node, here.member("reasoningContent"), left)?;
    } else if let Some(node) = fields.take("citationsContent")? {
        content = Some(cited(node, here.member("citationsContent"), left)?);
    } else if let Some(node) = fields.take("guardContent")? {
        content = guarded(node, here.member("guardContent"), left)?;
    } else {
        for name in ["image", "audio", "document"] {
            if let Some(node) = fields.take(name)? {
                content = medium(node, here.member(name), name, left)?;
            }
        }
    }
    match content {
        Some(content) => {
            // Some writers put a `type` beside the one member that a block has.
            fields.text("type")?;
            fields.leave(left);
            Ok(content)
        }
        None => opaque(node, here),
    }
}

/// A block that only Converse has, under the name of its member.
fn opaque<'a>(node: &Node<'a>, path: Path<'_>) -> Result<Content<'a>, Error> {
    let kind = match &node.value {
        Value::Object(members) => members.first().map(|(name, _)| name.clone()),
        _ => None,
    };
    let kind = kind.ok_or_else(|| path.fault("must hold something, such as 'text'"))?;
    Ok(Content::Opaque(Opaque::new(Origin::Converse, kind, node.json())))
}

/// A call; nothing if the provider itself ran the tool.
fn tool_use<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Option<Content<'a>>, Error> {
    let mut fields = node.fields(path)?;
    if fields.text("type")?.is_some_and(|kind| kind == *"server_tool_use") {
        return Ok(None);
    }
    let (id, name) = (fields.need_text("toolUseId")?, fields.need_text("name")?);
    let arguments = match fields.object("input")? {
        Some(input) => Arguments::Object(input),
        None => Arguments::Text(Text::default()),
    };
    fields.leave(left);
    Ok(Some(Content::ToolCall(ToolCall { id, name, arguments, signature: None })))
}

/// A result; nothing if the provider itself ran the tool, whose results have a type.
fn tool_result<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    left: &mut Left<'a>,
) -> Result<Option<Content<'a>>, Error> {
    let mut fields = node.fields(path)?;
    if fields.text("type")?.is_some_and(|kind| kind != *"tool_result") {
        return Ok(None);
    }
    let id = fields.need_text("toolUseId")?;
    let content = content(fields.need("content")?, path.member("content"), left)?;
    let outcome = match fields.text("status")? {
        Some(status) if status == *"error" => Outcome::Failure,
        _ => Outcome::Success,
    };
    fields.leave(left);
    Ok(Some(Content::ToolResult(ToolResult { id, content, outcome })))
}

fn reasoning<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Option<Content<'a>>, Error> {
    let mut fields = node.fields(path)?;
    if let Some(data) = fields.text("redactedContent")? {
        let (origin, data) = unmarked_base64(&data).unwrap_or((Origin::Converse, data));
        let text = Thought::Redacted(data);
        return Ok(Some(Content::Reasoning(Reasoning { origin, text, signature: None })));
    }
    let within = path.member("reasoningText");
    let Some(node) = fields.take("reasoningText")? else { return Ok(None) };
    let mut said = node.fields(within)?;
    let text = Thought::Readable(said.text("text")?.unwrap_or_default());
    let seal = said.text("signature")?.unwrap_or_default();
    let (origin, seal) = unsealed(Origin::Converse, seal);
    said.leave(left);
    fields.leave(left);
    let signature = Some(seal).filter(|seal| !seal.is_empty());
    Ok(Some(Content::Reasoning(Reasoning { origin, text, signature })))
}

/// An answer with what it cites: its text. The citations are left over.
fn cited<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let mut fields = node.fields(path)?;
    let text = joined(&mut fields)?;
    fields.leave(left);
    Ok(Content::Text(text))
}

/// The texts of a member `content`, as one.
fn joined<'a>(fields: &mut Fields<'_, 'a>) -> Result<Text<'a>, Error> {
    let here = fields.path;
    let path = here.member("content");
    let mut texts = Vec::new();
    for (index, node) in fields.array("content")?.unwrap_or_default().iter().enumerate() {
        texts.extend(node.fields(path.item(index))?.text("text")?);
    }
    match <[Text<'a>; 1]>::try_from(texts) {
        Ok([text]) => Ok(text),
        Err(texts) => Ok(Text::join(&texts, "")),
    }
}

/// Text that guardrails look at: the text. What they look for is left over.
fn guarded<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Option<Content<'a>>, Error> {
    let within = path.member("text");
    let Some(node) = node.fields(path)?.take("text")? else { return Ok(None) };
    let mut fields = node.fields(within)?;
    let text = fields.need_text("text")?;
    fields.leave(left);
    Ok(Some(Content::Text(text)))
}

/// A medium; nothing if it is somewhere that only Converse knows.
fn medium<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    kind: &str,
    left: &mut Left<'a>,
) -> Result<Option<Content<'a>>, Error> {
    let mut fields = node.fields(path)?;
    let family = if kind == "document" { "application" } else { kind };
    let format = fields.text("format")?.unwrap_or_default();
    let media_type = type_of(&format.plain(), family);
    let name = if kind == "document" { fields.text("name")? } else { None };
    let within = path.member("source");
    let mut source = fields.need("source")?.fields(within)?;
    let of = if let Some(bytes) = source.text("bytes")? {
        Source::of_base64(media_type, bytes, within.member("bytes"))?
    } else if let Some(node) = source.take("s3Location")? {
        let path = within.member("s3Location");
        let mut place = node.fields(path)?;
        let uri = place.need_text("uri")?;
        place.leave(left);
        Source::File(Origin::Converse, uri)
    } else if let Some(text) = source.text("text")? {
        Source::Text(text)
    } else {
        let text = joined(&mut source)?;
        if text.is_empty() {
            return Ok(None);
        }
        Source::Text(text)
    };
    source.leave(left);
    fields.leave(left);
    Ok(Some(match kind {
        "image" => Content::Image { source: of, detail: None },
        "audio" => Content::Audio(of),
        _ => Content::Document { source: of, name },
    }))
}
