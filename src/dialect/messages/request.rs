//! Messages requests.

use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::{
    Arguments, Cache, Content, Delivery, Effort, Function, Json, Leftover, Message, Mode, Opaque, Origin,
    Outcome, Output, Part, Reasoning, Request, Role, Sampling, Schema, Source, Text, Thinking, Thought, Tool,
    ToolCall, ToolChoice, ToolResult, check_results,
};
use crate::error::Error;

mod conversation;
mod encode;

pub use encode::encode;

type Left<'a> = Vec<Leftover<'a>>;

/// Reads a Messages request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let mut left = Vec::new();
    let mut messages = system(&mut fields, &mut left)?;
    let head = messages.len();
    messages.extend(conversation_of(&mut fields, &mut left)?);
    check_results(&messages, Path::Root.member("messages"), head)?;
    let (tool_choice, parallel_tools) = tool_choice(&mut fields, &mut left)?;
    let (output, effort) = output_config(&mut fields, &mut left)?;
    let request = Request {
        origin: Origin::Messages,
        model: fields.need_text("model")?,
        messages,
        tools: tools(&mut fields, &mut left)?,
        tool_choice,
        parallel_tools,
        output,
        sampling: sampling(&mut fields)?,
        limit: limit(&mut fields)?,
        thinking: thinking(&mut fields, effort, &mut left)?,
        cache: cache(&mut fields)?,
        service_tier: fields.text("service_tier")?,
        user: user(&mut fields, &mut left)?,
        metadata: None,
        delivery: match fields.boolean("stream")? {
            Some(true) => Delivery::StreamWithUsage,
            _ => Delivery::Whole,
        },
        left: Vec::new(),
    };
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

// === Messages ===

fn system<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Message<'a>>, Error> {
    let Some(node) = fields.take("system")? else { return Ok(Vec::new()) };
    let mut parts = content(node, Path::Root.member("system"), left)?;
    // Claude Code's first block says who pays. It says nothing to a model, and changes with every request, which
    // would defeat any cache of prefixes.
    let bills = |part: &Part<'_>| matches!(&part.content, Content::Text(text) if text.plain().starts_with("x-anthropic-billing-header"));
    parts.retain(|part| !bills(part));
    Ok(vec![Message { role: Role::System, parts }])
}

fn conversation_of<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Message<'a>>, Error> {
    let path = Path::Root.member("messages");
    let items = fields.need("messages")?.array(path)?;
    if items.is_empty() {
        return Err(path.fault("must hold at least one message"));
    }
    items.iter().enumerate().map(|(index, node)| message(node, path.item(index), left)).collect()
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
    match &node.value {
        Value::String => Ok(vec![Content::Text(node.text(path)?).into()]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, node)| part(node, path.item(index), left)).collect()
        }
        _ => Err(path.wants("a string or an array of blocks")),
    }
}

fn part<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Part<'a>, Error> {
    let mut fields = node.fields(path)?;
    let kind = fields.need_text("type")?;
    let content = match kind.plain().as_ref() {
        "text" => Some(Content::Text(fields.need_text("text")?)),
        "image" => match source(&mut fields, left)? {
            Some(source) => {
                Some(Content::Image { source: source.picture(path.member("source"))?, detail: None })
            }
            None => None,
        },
        "document" => {
            let name = fields.text("title")?;
            source(&mut fields, left)?.map(|source| Content::Document { source, name })
        }
        "tool_use" => Some(tool_use(&mut fields)?),
        "tool_result" => Some(tool_result(&mut fields, left)?),
        "thinking" => Some(thought(&mut fields)?),
        "redacted_thinking" => {
            let (origin, data) = super::unsealed(fields.need_text("data")?);
            let text = Thought::Redacted(data);
            Some(Content::Reasoning(Reasoning { origin, text, signature: None }))
        }
        _ => None,
    };
    let Some(content) = content else {
        return Ok(Content::Opaque(Opaque { origin: Origin::Messages, kind, json: node.json() }).into());
    };
    let cache = cache(&mut fields)?;
    fields.leave(left);
    Ok(Part { content, cache })
}

/// Where a medium is; nothing if it is somewhere that only Messages knows.
fn source<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<Source<'a>>, Error> {
    let path = fields.path;
    let path = path.member("source");
    let mut source = fields.need("source")?.fields(path)?;
    let kind = source.need_text("type")?;
    let of = match kind.plain().as_ref() {
        "base64" => {
            let media_type = source.need_text("media_type")?.into_plain();
            Source::of_base64(media_type, source.need_text("data")?, path.member("data"))?
        }
        "url" => Source::of_url(source.need_text("url")?, path.member("url"))?,
        "file" => Source::File(Origin::Messages, source.need_text("file_id")?),
        "text" => {
            source.text("media_type")?;
            Source::Text(source.need_text("data")?)
        }
        _ => return Ok(None),
    };
    source.leave(left);
    Ok(Some(of))
}

fn tool_use<'a>(fields: &mut Fields<'_, 'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let (id, name) = (fields.need_text("id")?, fields.need_text("name")?);
    let input = fields.object("input")?.ok_or_else(|| path.member("input").fault("is required"))?;
    Ok(Content::ToolCall(ToolCall { id, name, arguments: Arguments::Object(input), signature: None }))
}

fn tool_result<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Content<'a>, Error> {
    let path = fields.path;
    let id = fields.need_text("tool_use_id")?;
    let content = match fields.take("content")? {
        Some(node) => content(node, path.member("content"), left)?,
        None => Vec::new(),
    };
    let outcome = match fields.boolean("is_error")? {
        Some(true) => Outcome::Failure,
        _ => Outcome::Success,
    };
    Ok(Content::ToolResult(ToolResult { id, content, outcome }))
}

fn thought<'a>(fields: &mut Fields<'_, 'a>) -> Result<Content<'a>, Error> {
    let text = Thought::Readable(fields.need_text("thinking")?);
    let (origin, signature) = super::unsealed(fields.text("signature")?.unwrap_or_default());
    let signature = Some(signature).filter(|signature| !signature.is_empty());
    Ok(Content::Reasoning(Reasoning { origin, text, signature }))
}

fn cache<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Cache<'a>>, Error> {
    let path = fields.path;
    let Some(node) = fields.take("cache_control")? else { return Ok(None) };
    let ttl = node.fields(path.member("cache_control"))?.text("ttl")?;
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
    let kind = fields.text("type")?;
    if let Some(kind) = kind.filter(|kind| *kind != *"custom") {
        return Ok(Tool::BuiltIn(Opaque { origin: Origin::Messages, kind, json: node.json() }));
    }
    let tool = Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        parameters: Some(schema(&mut fields, "input_schema")?),
        strict: fields.boolean("strict")?,
        cache: cache(&mut fields)?,
    };
    fields.leave(left);
    Ok(Tool::Function(tool))
}

/// A JSON schema, which has to be there.
fn schema<'a>(fields: &mut Fields<'_, 'a>, name: &'static str) -> Result<Json<'a>, Error> {
    let path = fields.path;
    fields.object(name)?.ok_or_else(|| path.member(name).fault("is required"))
}

/// Whether a tool must be called, and whether several may be at once.
fn tool_choice<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<(Option<ToolChoice<'a>>, Option<bool>), Error> {
    let path = Path::Root.member("tool_choice");
    let Some(node) = fields.take("tool_choice")? else { return Ok((None, None)) };
    let mut choice = node.fields(path)?;
    let of = match choice.need_text("type")?.plain().as_ref() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.need_text("name")?),
        _ => return Err(path.member("type").wants("'auto', 'any', 'tool' or 'none'")),
    };
    let parallel = choice.boolean("disable_parallel_tool_use")?.map(|disabled| !disabled);
    choice.leave(left);
    Ok((Some(of), parallel))
}

// === Parameters ===

fn sampling<'a>(fields: &mut Fields<'_, 'a>) -> Result<Sampling<'a>, Error> {
    let path = Path::Root.member("stop_sequences");
    let stops = fields.array("stop_sequences")?.unwrap_or_default();
    let stops = stops.iter().enumerate().map(|(index, node)| node.text(path.item(index)));
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stops: stops.collect::<Result<_, _>>()?,
        ..Sampling::default()
    })
}

fn limit(fields: &mut Fields<'_, '_>) -> Result<Option<u64>, Error> {
    let limit = fields.count("max_tokens")?;
    limit.map(Some).ok_or_else(|| Path::Root.member("max_tokens").fault("is required"))
}

/// The shape of the reply, and how hard to think about it.
fn output_config<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<(Output<'a>, Option<Effort>), Error> {
    let path = Path::Root.member("output_config");
    let Some(node) = fields.take("output_config")? else { return Ok((Output::Text, None)) };
    let mut config = node.fields(path)?;
    let word = config.text("effort")?;
    let effort = word.as_ref().and_then(|word| Effort::named(&word.plain()));
    if word.is_some() && effort.is_none() {
        config.give_back("effort");
    }
    let within = path.member("format");
    let mut output = Output::Text;
    if let Some(node) = config.take("format")? {
        let mut format = node.fields(within)?;
        if format.need_text("type")? != *"json_schema" {
            return Err(within.member("type").wants("'json_schema'"));
        }
        let schema = schema(&mut format, "schema")?;
        output = Output::Schema(Schema { name: None, description: None, schema, strict: None });
        format.leave(left);
    }
    config.leave(left);
    Ok((output, effort))
}

fn thinking<'a>(
    fields: &mut Fields<'_, 'a>,
    effort: Option<Effort>,
    left: &mut Left<'a>,
) -> Result<Thinking<'a>, Error> {
    let path = Path::Root.member("thinking");
    let Some(node) = fields.take("thinking")? else { return Ok(Thinking { effort, ..Thinking::default() }) };
    let mut thinking = node.fields(path)?;
    let mode = match thinking.need_text("type")?.plain().as_ref() {
        "enabled" => {
            let tokens = thinking.count("budget_tokens")?;
            Mode::Budget(tokens.ok_or_else(|| path.member("budget_tokens").fault("is required"))?)
        }
        // Thinking between tools is what an adaptive model does anyway.
        "adaptive" | "between_tools" => Mode::Adaptive,
        "disabled" => Mode::Off,
        _ => return Err(path.member("type").wants("'enabled', 'adaptive', 'between_tools' or 'disabled'")),
    };
    let display = thinking.text("display")?;
    thinking.leave(left);
    Ok(Thinking { mode: Some(mode), effort, display })
}

fn user<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<Text<'a>>, Error> {
    let path = Path::Root.member("metadata");
    let Some(node) = fields.take("metadata")? else { return Ok(None) };
    let mut metadata = node.fields(path)?;
    let user = metadata.text("user_id")?;
    metadata.leave(left);
    Ok(user)
}
