//! Chat requests.

use std::borrow::Cow;

use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::{
    Arguments, Cache, Content, Delivery, Effort, Function, Leftover, Message, Mode, Opaque, Origin, Outcome,
    Output, Part, Reasoning, Request, Role, Sampling, Schema, Source, Text, Thinking, Thought, Tool,
    ToolCall, ToolChoice, ToolResult, check_results, is_data_url,
};
use crate::error::Error;

mod conversation;
mod encode;
mod strict;

pub(super) use conversation::signature_into;
pub use encode::encode;

type Left<'a> = Vec<Leftover<'a>>;

/// Reads a chat request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let mut left = Vec::new();
    let messages = messages(&mut fields, &mut left)?;
    check_results(&messages, Path::Root.member("messages"), 0)?;
    let request = Request {
        origin: Origin::Chat,
        model: fields.need_text("model")?,
        messages,
        tools: tools(&mut fields, &mut left)?,
        tool_choice: tool_choice(&mut fields, &mut left)?,
        parallel_tools: fields.boolean("parallel_tool_calls")?,
        output: output(&mut fields, &mut left)?,
        sampling: sampling(&mut fields)?,
        limit: limit(&mut fields)?,
        thinking: thinking(&mut fields)?,
        cache: None,
        service_tier: fields.text("service_tier")?,
        user: user(&mut fields)?,
        metadata: fields.object("metadata")?,
        delivery: delivery(&mut fields, &mut left)?,
        left: Vec::new(),
    };
    // Nothing is stored unless it is asked for.
    if fields.boolean("store")? == Some(true) {
        fields.give_back("store");
    }
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

// === Messages ===

fn messages<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Message<'a>>, Error> {
    let path = Path::Root.member("messages");
    let items = fields.need("messages")?.array(path)?;
    if items.is_empty() {
        return Err(path.fault("must hold at least one message"));
    }
    items.iter().enumerate().map(|(index, node)| message(node, path.item(index), left)).collect()
}

fn message<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Message<'a>, Error> {
    let mut fields = node.fields(path)?;
    let role = fields.need_text("role")?;
    let (role, parts) = match role.plain().as_ref() {
        "system" => (Role::System, needed_content(&mut fields, left)?),
        "developer" => (Role::Developer, needed_content(&mut fields, left)?),
        "user" => (Role::User, needed_content(&mut fields, left)?),
        "assistant" => (Role::Assistant, said(&mut fields, left)?),
        "tool" => (Role::User, vec![tool_result(&mut fields, left)?]),
        _ => {
            let wants = "one of 'system', 'developer', 'user', 'assistant' and 'tool'";
            return Err(path.member("role").wants(wants));
        }
    };
    fields.leave(left);
    Ok(Message { role, parts })
}

fn needed_content<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Part<'a>>, Error> {
    let path = fields.path;
    content(fields, left)?.ok_or_else(|| path.member("content").fault("is required"))
}

fn tool_result<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Part<'a>, Error> {
    let id = fields.need_text("tool_call_id")?;
    let content = needed_content(fields, left)?;
    Ok(Content::ToolResult(ToolResult { id, content, outcome: Outcome::Success }).into())
}

/// What the model said: its reasoning, then its answer, then its calls.
fn said<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Part<'a>>, Error> {
    let mut parts = reasoning(fields, left)?;
    parts.extend(content(fields, left)?.unwrap_or_default());
    if let Some(refusal) = fields.text("refusal")?.filter(|refusal| !refusal.is_empty()) {
        parts.push(Content::Refusal(refusal).into());
    }
    let path = fields.path;
    let path = path.member("tool_calls");
    for (index, node) in fields.array("tool_calls")?.unwrap_or_default().iter().enumerate() {
        parts.push(tool_call(node, path.item(index), left)?.into());
    }
    Ok(parts)
}

fn tool_call<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.text("type")?;
    if let Some(kind) = kind.filter(|kind| *kind != *"function") {
        return Ok(Content::Opaque(Opaque { origin: Origin::Chat, kind, json: node.json() }));
    }
    let id = fields.need_text("id")?;
    let within = path.member("function");
    let mut function = fields.need("function")?.fields(within)?;
    let name = function.need_text("name")?;
    let arguments = Arguments::Text(function.text("arguments")?.unwrap_or_default());
    function.leave(left);
    let signature = thought_signature(&mut fields, left)?.map(|text| (Origin::Gemini, text));
    fields.leave(left);
    Ok(Content::ToolCall(ToolCall { id, name, arguments, signature }))
}

/// The seal in `extra_content.google.thought_signature`.
fn thought_signature<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Option<Text<'a>>, Error> {
    let here = fields.path;
    let (extra, google);
    let Some(node) = fields.take("extra_content")? else { return Ok(None) };
    extra = here.member("extra_content");
    let mut members = node.fields(extra)?;
    let node = members.take("google")?;
    members.leave(left);
    let Some(node) = node else { return Ok(None) };
    google = extra.member("google");
    let mut members = node.fields(google)?;
    let seal = members.text("thought_signature")?;
    members.leave(left);
    Ok(seal)
}

/// Reasoning: by its details if there are any, else by its text.
fn reasoning<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Part<'a>>, Error> {
    let content = fields.text("reasoning_content")?;
    let text = fields.text("reasoning")?;
    let path = fields.path;
    let path = path.member("reasoning_details");
    let mut parts: Vec<Part<'a>> = Vec::new();
    for (index, node) in fields.array("reasoning_details")?.unwrap_or_default().iter().enumerate() {
        parts.extend(detail(node, path.item(index), left)?.map(|thought| Content::Reasoning(thought).into()));
    }
    if parts.is_empty()
        && let Some(text) = content.or(text).filter(|text| !text.is_empty())
    {
        let thought = Reasoning { origin: Origin::Chat, text: Thought::Readable(text), signature: None };
        parts.push(Content::Reasoning(thought).into());
    }
    Ok(parts)
}

fn detail<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Option<Reasoning<'a>>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.need_text("type")?;
    let format = fields.text("format")?.unwrap_or_default();
    let origin = super::origin_of(&format.plain());
    let text = match kind.plain().as_ref() {
        "reasoning.text" => Thought::Readable(fields.text("text")?.unwrap_or_default()),
        "reasoning.summary" => Thought::Readable(fields.text("summary")?.unwrap_or_default()),
        "reasoning.encrypted" => Thought::Redacted(fields.need_text("data")?),
        _ => {
            left.push(Leftover { path: path.to_string(), raw: node.json() });
            return Ok(None);
        }
    };
    Ok(Some(Reasoning { origin, text, signature: fields.text("signature")? }))
}

// === Content ===

/// The content of a message, if it has any.
fn content<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<Vec<Part<'a>>>, Error> {
    let path = fields.path;
    let path = path.member("content");
    let Some(node) = fields.take("content")? else { return Ok(None) };
    match &node.value {
        Value::String => Ok(Some(vec![Content::Text(node.text(path)?).into()])),
        Value::Array(items) => {
            let parts = items.iter().enumerate();
            parts.map(|(index, node)| part(node, path.item(index), left)).collect::<Result<_, _>>().map(Some)
        }
        _ => Err(path.wants("a string or an array of parts")),
    }
}

fn part<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Part<'a>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.need_text("type")?;
    let content = match kind.plain().as_ref() {
        "text" => Content::Text(fields.need_text("text")?),
        "refusal" => Content::Refusal(fields.need_text("refusal")?),
        "image_url" => image(&mut fields, left)?,
        "input_audio" => audio(&mut fields, left)?,
        "file" => file(&mut fields, left)?,
        _ => return Ok(Content::Opaque(Opaque { origin: Origin::Chat, kind, json: node.json() }).into()),
    };
    let cache = cache(&mut fields)?;
    fields.leave(left);
    Ok(Part { content, cache })
}

fn image<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let path = path.member("image_url");
    let node = fields.need("image_url")?;
    // Some clients, and Mistral's API, write the URL itself.
    if let Some(url) = node.as_text() {
        return Ok(Content::Image { source: Source::of_url(url, path)?.picture(path)?, detail: None });
    }
    let mut fields = node.fields(path)?;
    let within = path.member("url");
    let source = Source::of_url(fields.need_text("url")?, within)?.picture(within)?;
    let detail = fields.text("detail")?;
    fields.leave(left);
    Ok(Content::Image { source, detail })
}

fn audio<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let path = path.member("input_audio");
    let mut fields = fields.need("input_audio")?.fields(path)?;
    let format = fields.need_text("format")?;
    let source = Source::of_base64(
        format!("audio/{}", format.plain()),
        fields.need_text("data")?,
        path.member("data"),
    )?;
    fields.leave(left);
    Ok(Content::Audio(source))
}

fn file<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let path = path.member("file");
    let mut fields = fields.need("file")?.fields(path)?;
    let source = match (fields.text("file_data")?, fields.text("file_id")?) {
        (Some(data), _) if is_data_url(&data) => Source::of_url(data, path.member("file_data"))?,
        (Some(_), _) => return Err(path.member("file_data").wants("a data URL in base64")),
        (None, Some(id)) => Source::File(Origin::Chat, id),
        (None, None) => return Err(path.fault("needs 'file_data' or 'file_id'")),
    };
    let name = fields.text("filename")?;
    fields.leave(left);
    Ok(Content::Document { source, name })
}

/// The mark at the end of a cacheable prefix: OpenAI's own, or Anthropic's, which hosts of Claude take.
fn cache<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Cache<'a>>, Error> {
    let path = fields.path;
    let own = fields.take("prompt_cache_breakpoint")?;
    let Some(node) = own.or(fields.take("cache_control")?) else { return Ok(None) };
    let ttl = node.fields(path.member("prompt_cache_breakpoint"))?.text("ttl")?;
    Ok(Some(Cache { ttl }))
}

// === Tools ===

fn tools<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Tool<'a>>, Error> {
    let path = Path::Root.member("tools");
    let items = fields.array("tools")?.unwrap_or_default();
    items.iter().enumerate().map(|(index, node)| tool(node, path.item(index), left)).collect()
}

fn tool<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Tool<'a>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.need_text("type")?;
    if kind != *"function" {
        return Ok(Tool::BuiltIn(Opaque { origin: Origin::Chat, kind, json: node.json() }));
    }
    let cache = cache(&mut fields)?;
    let within = path.member("function");
    let mut function = fields.need("function")?.fields(within)?;
    let tool = Function {
        name: function.need_text("name")?,
        description: function.text("description")?,
        parameters: function.object("parameters")?,
        strict: function.boolean("strict")?,
        cache,
    };
    function.leave(left);
    fields.leave(left);
    Ok(Tool::Function(tool))
}

fn tool_choice<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Option<ToolChoice<'a>>, Error> {
    let path = Path::Root.member("tool_choice");
    let Some(node) = fields.take("tool_choice")? else { return Ok(None) };
    if let Some(word) = node.as_text() {
        return match word.plain().as_ref() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(path.wants("'auto', 'none', 'required' or an object")),
        };
    }
    let mut choice = node.fields(path)?;
    let kind = choice.need_text("type")?;
    if kind != *"function" {
        let opaque = Opaque { origin: Origin::Chat, kind, json: node.json() };
        return Ok(Some(ToolChoice::Opaque(opaque)));
    }
    let name = choice.need("function")?.fields(path.member("function"))?.need_text("name")?;
    choice.leave(left);
    Ok(Some(ToolChoice::Named(name)))
}

// === Parameters ===

fn output<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Output<'a>, Error> {
    let path = Path::Root.member("response_format");
    let Some(node) = fields.take("response_format")? else { return Ok(Output::Text) };
    let mut format = node.fields(path)?;
    let kind = format.need_text("type")?;
    let output = match kind.plain().as_ref() {
        "text" => Output::Text,
        "json_object" => Output::Object,
        "json_schema" => {
            let within = path.member("json_schema");
            let mut schema = format.need("json_schema")?.fields(within)?;
            let of = schema.object("schema")?;
            let output = Schema {
                name: schema.text("name")?,
                description: schema.text("description")?,
                schema: of.ok_or_else(|| within.member("schema").fault("is required"))?,
                strict: schema.boolean("strict")?,
            };
            schema.leave(left);
            Output::Schema(output)
        }
        _ => return Err(path.member("type").wants("'text', 'json_object' or 'json_schema'")),
    };
    format.leave(left);
    Ok(output)
}

fn sampling<'a>(fields: &mut Fields<'_, 'a>) -> Result<Sampling<'a>, Error> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.integer("seed")?,
        logit_bias: fields.object("logit_bias")?,
        logprobs: fields.boolean("logprobs")?,
        top_logprobs: fields.count("top_logprobs")?,
        replies: fields.count("n")?,
        stops: stops(fields)?,
    })
}

/// What ends the reply.
pub(in super::super) fn stops<'a>(fields: &mut Fields<'_, 'a>) -> Result<Vec<Text<'a>>, Error> {
    let path = Path::Root.member("stop");
    let Some(node) = fields.take("stop")? else { return Ok(Vec::new()) };
    match &node.value {
        Value::String => Ok(vec![node.text(path)?]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, node)| node.text(path.item(index))).collect()
        }
        _ => Err(path.wants("a string or an array of strings")),
    }
}

/// The bound on output, by its new name or its old one.
fn limit(fields: &mut Fields<'_, '_>) -> Result<Option<u64>, Error> {
    let new = fields.count("max_completion_tokens")?;
    let old = fields.count("max_tokens")?;
    Ok(new.or(old))
}

/// How much to think. A word that is not known is left over.
fn thinking<'a>(fields: &mut Fields<'_, 'a>) -> Result<Thinking<'a>, Error> {
    let Some(word) = fields.text("reasoning_effort")? else { return Ok(Thinking::default()) };
    let word: Cow<'_, str> = word.into_plain();
    if word == "none" {
        return Ok(Thinking { mode: Some(Mode::Off), ..Thinking::default() });
    }
    let effort = Effort::named(&word);
    if effort.is_none() {
        fields.give_back("reasoning_effort");
    }
    Ok(Thinking { effort, ..Thinking::default() })
}

/// Who the client's own user is, by the new name or the old one.
fn user<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Text<'a>>, Error> {
    let new = fields.text("safety_identifier")?;
    let old = fields.text("user")?;
    Ok(new.or(old))
}

/// How the reply is delivered.
pub(in super::super) fn delivery<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Delivery, Error> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let mut usage = None;
    if let Some(node) = fields.take("stream_options")? {
        let mut options = node.fields(Path::Root.member("stream_options"))?;
        usage = options.boolean("include_usage")?;
        // Padding hides the length of tokens on the wire; a translated stream has none.
        if options.boolean("include_obfuscation")? == Some(true) {
            options.give_back("include_obfuscation");
        }
        options.leave(left);
    }
    Ok(match (stream, usage) {
        (false, _) => Delivery::Whole,
        (true, Some(true)) => Delivery::StreamWithUsage,
        (true, _) => Delivery::Stream,
    })
}
