//! Reading the items of `input`.

use std::collections::HashSet;

use super::Left;
use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::{
    Arguments, Cache, Content, Leftover, Message, Opaque, Origin, Outcome, Part, Reasoning, Role, Source,
    Text, Thought, ToolCall, ToolResult, is_data_url,
};
use crate::dialect::responses::Seal;
use crate::error::Error;

/// Reads `input`: a text, or items.
pub(super) fn input<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Message<'a>>, Error> {
    let path = Path::Root.member("input");
    let node = fields.need("input")?;
    match &node.value {
        Value::String => Ok(vec![Message { role: Role::User, parts: vec![text(node.text(path)?)] }]),
        Value::Array(items) if items.is_empty() => Err(path.fault("must hold at least one item")),
        Value::Array(items) => {
            let mut conversation = Conversation::default();
            for (index, node) in items.iter().enumerate() {
                conversation.item(node, path.item(index), left)?;
            }
            Ok(conversation.messages)
        }
        _ => Err(path.wants("a string or an array of items")),
    }
}

/// A part that is text.
pub(super) fn text(text: Text<'_>) -> Part<'_> {
    Content::Text(text).into()
}

/// The conversation that items add up to.
#[derive(Debug, Default)]
struct Conversation<'a> {
    messages: Vec<Message<'a>>,
    /// The ids of the calls so far.
    calls: HashSet<String>,
}

impl<'a> Conversation<'a> {
    fn item(&mut self, node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<(), Error> {
        let mut fields = node.fields(path)?;
        let kind = fields.text("type")?.unwrap_or_else(|| Text::from("message"));
        match kind.plain().as_ref() {
            "message" => self.message(&mut fields, left)?,
            "function_call" => {
                let call = call(&mut fields)?;
                self.calls.insert(call.id.plain().into_owned());
                self.said(vec![Content::ToolCall(call).into()]);
            }
            "function_call_output" => self.output(&mut fields, left)?,
            "reasoning" => self.reasoning(&mut fields)?,
            "item_reference" => {
                // SDKs refer to reasoning that they were given under an id of ours: it is left out, as a loss.
                if fields.text("id")?.is_some_and(|id| id.plain().starts_with("rs_")) {
                    left.push(Leftover { path: path.to_string(), raw: node.json() });
                    return Ok(());
                }
                let why = "the upstream of this model keeps no items; send the item itself";
                return Err(path.fault(why));
            }
            kind_name => {
                let is_result = kind_name.ends_with("_output") || kind_name.ends_with("_response");
                let kind = kind.borrowed().into_owned();
                let part = Content::Opaque(Opaque::new(Origin::Responses, kind, node.json())).into();
                match is_result {
                    true => self.messages.push(Message { role: Role::User, parts: vec![part] }),
                    false => self.said(vec![part]),
                }
                return Ok(());
            }
        }
        // An item's id and state say nothing to another upstream.
        fields.take("id")?;
        fields.take("status")?;
        fields.leave(left);
        Ok(())
    }

    /// What the model says in a row is one message.
    fn said(&mut self, parts: Vec<Part<'a>>) {
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Assistant => last.parts.extend(parts),
            _ => self.messages.push(Message { role: Role::Assistant, parts }),
        }
    }

    fn message(&mut self, fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<(), Error> {
        let path = fields.path;
        let role = match fields.need_text("role")?.plain().as_ref() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => {
                let wants = "one of 'user', 'assistant', 'system' and 'developer'";
                return Err(path.member("role").wants(wants));
            }
        };
        let parts = content(fields.need("content")?, path.member("content"), left)?;
        match role {
            Role::Assistant => self.said(parts),
            role => self.messages.push(Message { role, parts }),
        }
        Ok(())
    }

    /// Results that follow one another are one message.
    fn output(&mut self, fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<(), Error> {
        let path = fields.path;
        let id = fields.need_text("call_id")?;
        if !self.calls.contains(id.plain().as_ref()) {
            return Err(path.member("call_id").fault("there is no function_call with this id before it"));
        }
        let content = content(fields.need("output")?, path.member("output"), left)?;
        let result = Content::ToolResult(ToolResult { id, content, outcome: Outcome::Success }).into();
        let is_result = |part: &Part<'_>| matches!(part.content, Content::ToolResult(_));
        match self.messages.last_mut() {
            Some(last) if last.parts.last().is_some_and(is_result) => last.parts.push(result),
            _ => self.messages.push(Message { role: Role::User, parts: vec![result] }),
        }
        Ok(())
    }

    fn reasoning(&mut self, fields: &mut Fields<'_, 'a>) -> Result<(), Error> {
        let mut texts = sections(fields, "summary")?;
        texts.extend(sections(fields, "content")?);
        let (id, encrypted) = (fields.text("id")?, fields.text("encrypted_content")?);
        let words = (!texts.is_empty()).then(|| Thought::Readable(Text::join(&texts, "\n\n")));
        let seal = encrypted.filter(|encrypted| !encrypted.is_empty());
        let thought =
            |origin, text, signature| vec![Content::Reasoning(Reasoning { origin, text, signature }).into()];
        let bare = words.is_none();
        match (seal.map(|seal| Seal::read(id.as_ref(), &seal, bare).into_owned()), words) {
            (None, None) => {}
            (None, Some(words)) => self.said(thought(Origin::Responses, words, None)),
            (Some(Seal::Signature(origin, seal)), words) => {
                let words = words.unwrap_or_else(|| Thought::Readable(Text::default()));
                self.said(thought(origin, words, Some(seal)));
            }
            (Some(Seal::Redacted(origin, data)), _) => {
                self.said(thought(origin, Thought::Redacted(data), None));
            }
            (Some(Seal::Call(origin, seal)), _) => self.seal_call(origin, seal),
        }
        Ok(())
    }

    /// Gives the last call back its seal.
    fn seal_call(&mut self, origin: Origin, seal: Text<'a>) {
        let last = self.messages.last_mut().and_then(|message| message.parts.last_mut());
        if let Some(Part { content: Content::ToolCall(call), .. }) = last {
            call.signature = Some((origin, seal));
        }
    }
}

fn call<'a>(fields: &mut Fields<'_, 'a>) -> Result<ToolCall<'a>, Error> {
    Ok(ToolCall {
        id: fields.need_text("call_id")?,
        name: fields.need_text("name")?,
        arguments: Arguments::Text(fields.text("arguments")?.unwrap_or_default()),
        signature: None,
    })
}

/// The texts of reasoning under `name`.
fn sections<'a>(fields: &mut Fields<'_, 'a>, name: &'static str) -> Result<Vec<Text<'a>>, Error> {
    let path = fields.path;
    let path = path.member(name);
    let items = fields.array(name)?.unwrap_or_default().iter().enumerate();
    let texts = items.map(|(index, node)| node.fields(path.item(index))?.need_text("text"));
    texts.filter(|text| text.as_ref().map_or(true, |text| !text.is_empty())).collect()
}

// === Content ===

fn content<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Vec<Part<'a>>, Error> {
    match &node.value {
        Value::String => Ok(vec![text(node.text(path)?)]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, node)| part(node, path.item(index), left)).collect()
        }
        _ => Err(path.wants("a string or an array of parts")),
    }
}

fn part<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Part<'a>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.need_text("type")?;
    let content = match kind.plain().as_ref() {
        "input_text" | "text" => Content::Text(fields.need_text("text")?),
        "output_text" => {
            beside_answer(&mut fields)?;
            Content::Text(fields.need_text("text")?)
        }
        "refusal" => Content::Refusal(fields.need_text("refusal")?),
        "input_image" => image(&mut fields)?,
        "input_file" => file(&mut fields)?,
        "input_audio" => audio(&mut fields, left)?,
        _ => return Ok(Content::Opaque(Opaque::new(Origin::Responses, kind, node.json())).into()),
    };
    let cache = cache(&mut fields)?;
    fields.leave(left);
    Ok(Part { content, cache })
}

/// What stands beside an earlier answer is not said to the model again; it is a loss only where there is any.
fn beside_answer(fields: &mut Fields<'_, '_>) -> Result<(), Error> {
    fields.take("logprobs")?;
    if fields.array("annotations")?.is_some_and(|list| !list.is_empty()) {
        fields.give_back("annotations");
    }
    Ok(())
}

fn image<'a>(fields: &mut Fields<'_, 'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let source = match (fields.text("image_url")?, fields.text("file_id")?) {
        (Some(url), _) => {
            let path = path.member("image_url");
            Source::of_url(url, path)?.picture(path)?
        }
        (None, Some(id)) => Source::File(Origin::Responses, id),
        (None, None) => return Err(path.fault("needs 'image_url' or 'file_id'")),
    };
    Ok(Content::Image { source, detail: fields.text("detail")? })
}

fn file<'a>(fields: &mut Fields<'_, 'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let within = path.member("file_data");
    let (data, url) = (fields.text("file_data")?, fields.text("file_url")?);
    let source = match (data, url, fields.text("file_id")?) {
        (Some(data), ..) if is_data_url(&data) => Source::of_url(data, within)?,
        // Without a type it is a PDF.
        (Some(data), ..) => Source::of_base64("application/pdf", data, within)?,
        (None, Some(url), _) => Source::of_url(url, path.member("file_url"))?,
        (None, None, Some(id)) => Source::File(Origin::Responses, id),
        (None, None, None) => return Err(path.fault("needs 'file_data', 'file_url' or 'file_id'")),
    };
    Ok(Content::Document { source, name: fields.text("filename")? })
}

fn audio<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let path = path.member("input_audio");
    let mut fields = fields.need("input_audio")?.fields(path)?;
    let media_type = format!("audio/{}", fields.need_text("format")?.plain());
    let source = Source::of_base64(media_type, fields.need_text("data")?, path.member("data"))?;
    fields.leave(left);
    Ok(Content::Audio(source))
}

fn cache<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Cache<'a>>, Error> {
    let path = fields.path;
    let Some(node) = fields.take("prompt_cache_breakpoint")? else { return Ok(None) };
    let ttl = node.fields(path.member("prompt_cache_breakpoint"))?.text("ttl")?;
    Ok(Some(Cache { ttl }))
}
