//! Responses requests.

use crate::dialect::ir::node::{Fields, Node, Path};
use crate::dialect::ir::{
    Delivery, Effort, Function, Leftover, Message, Mode, Opaque, Origin, Output, Request, Role, Sampling,
    Schema, Text, Thinking, Tool, ToolChoice,
};
use crate::error::Error;

mod encode;
mod input;
mod items;

pub use encode::encode;

type Left<'a> = Vec<Leftover<'a>>;

/// Reads a Responses request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong, or of what asks for memory.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let mut left = Vec::new();
    stateless(&mut fields)?;
    let mut messages = instructions(&mut fields)?;
    messages.extend(items::input(&mut fields, &mut left)?);
    let request = Request {
        origin: Origin::Responses,
        model: fields.need_text("model")?,
        messages,
        tools: tools(&mut fields, &mut left)?,
        tool_choice: tool_choice(&mut fields, &mut left)?,
        parallel_tools: fields.boolean("parallel_tool_calls")?,
        output: output(&mut fields, &mut left)?,
        sampling: sampling(&mut fields, &mut left)?,
        limit: fields.count("max_output_tokens")?,
        thinking: thinking(&mut fields, &mut left)?,
        cache: None,
        service_tier: fields.text("service_tier")?,
        user: user(&mut fields)?,
        metadata: fields.object("metadata")?,
        delivery: delivery(&mut fields, &mut left)?,
        left: Vec::new(),
    };
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

/// Refuses what only an upstream with a memory can serve.
fn stateless(fields: &mut Fields<'_, '_>) -> Result<(), Error> {
    let refused = |name: &'static str, what: &str| {
        let why = format!("the upstream of this model keeps no responses; {what}");
        Err(Path::Root.member(name).fault(why))
    };
    for name in ["previous_response_id", "conversation"] {
        if fields.take(name)?.is_some() {
            return refused(name, "send the whole conversation in 'input'");
        }
    }
    if fields.take("prompt")?.is_some() {
        return refused("prompt", "send the prompt's text in 'input'");
    }
    if fields.boolean("background")? == Some(true) {
        return refused("background", "ask for a stream instead");
    }
    if fields.boolean("store")? == Some(true) {
        return refused("store", "leave it out or set it to false");
    }
    Ok(())
}

fn instructions<'a>(fields: &mut Fields<'_, 'a>) -> Result<Vec<Message<'a>>, Error> {
    let text = fields.text("instructions")?;
    let message = |text| Message { role: Role::System, parts: vec![items::text(text)] };
    Ok(text.map(message).into_iter().collect())
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
        return Ok(Tool::BuiltIn(Opaque::new(Origin::Responses, kind, node.json())));
    }
    let tool = Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        parameters: fields.object("parameters")?,
        strict: fields.boolean("strict")?,
        cache: None,
    };
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
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(path.wants("'auto', 'none', 'required' or an object")),
        };
    }
    let mut choice = node.fields(path)?;
    let kind = choice.need_text("type")?;
    if kind != *"function" {
        return Ok(Some(ToolChoice::Opaque(Opaque::new(Origin::Responses, kind, node.json()))));
    }
    let name = choice.need_text("name")?;
    choice.leave(left);
    Ok(Some(ToolChoice::Named(name)))
}

// === Parameters ===

fn output<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Output<'a>, Error> {
    let path = Path::Root.member("text");
    let Some(node) = fields.take("text")? else { return Ok(Output::Text) };
    let mut text = node.fields(path)?;
    let node = text.take("format")?;
    text.leave(left);
    let within = path.member("format");
    let Some(node) = node else { return Ok(Output::Text) };
    let mut format = node.fields(within)?;
    let kind = format.need_text("type")?;
    let output = match kind.plain().as_ref() {
        "text" => Output::Text,
        "json_object" => Output::Object,
        "json_schema" => {
            let of = format.object("schema")?;
            Output::Schema(Schema {
                name: format.text("name")?,
                description: format.text("description")?,
                schema: of.ok_or_else(|| within.member("schema").fault("is required"))?,
                strict: format.boolean("strict")?,
            })
        }
        _ => return Err(within.member("type").wants("'text', 'json_object' or 'json_schema'")),
    };
    format.leave(left);
    Ok(output)
}

fn sampling<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Sampling<'a>, Error> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        logprobs: include(fields, left)?,
        top_logprobs: fields.count("top_logprobs")?,
        ..Sampling::default()
    })
}

/// What is to be told beside the answer. Seals of reasoning always are.
fn include<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<bool>, Error> {
    let path = Path::Root.member("include");
    let mut logprobs = None;
    for (index, node) in fields.array("include")?.unwrap_or_default().iter().enumerate() {
        let path = path.item(index);
        match node.text(path)?.plain().as_ref() {
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => logprobs = Some(true),
            _ => left.push(Leftover { path: path.to_string(), raw: node.json() }),
        }
    }
    Ok(logprobs)
}

/// How much to think, and what is shown of it. A word that is not known is left over.
fn thinking<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Thinking<'a>, Error> {
    let path = Path::Root.member("reasoning");
    let Some(node) = fields.take("reasoning")? else { return Ok(Thinking::default()) };
    let mut reasoning = node.fields(path)?;
    let word = reasoning.text("effort")?.map(Text::into_plain);
    let mode = word.as_ref().filter(|word| *word == "none").map(|_| Mode::Off);
    let effort = word.as_ref().and_then(|word| Effort::named(word));
    if word.is_some() && mode.is_none() && effort.is_none() {
        reasoning.give_back("effort");
    }
    let old = reasoning.text("generate_summary")?;
    let display = reasoning.text("summary")?.or(old);
    reasoning.leave(left);
    Ok(Thinking { mode, effort, display })
}

/// Who the client's own user is, by the new name or the old one.
fn user<'a>(fields: &mut Fields<'_, 'a>) -> Result<Option<Text<'a>>, Error> {
    let new = fields.text("safety_identifier")?;
    let old = fields.text("user")?;
    Ok(new.or(old))
}

fn delivery<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Delivery, Error> {
    // To fail where the context is full is what every upstream does.
    if fields.text("truncation")?.is_some_and(|word| word != *"disabled") {
        fields.give_back("truncation");
    }
    if let Some(node) = fields.take("stream_options")? {
        let mut options = node.fields(Path::Root.member("stream_options"))?;
        // Padding hides the length of tokens on the wire; a translated stream has none.
        if options.boolean("include_obfuscation")? == Some(true) {
            options.give_back("include_obfuscation");
        }
        options.leave(left);
    }
    Ok(match fields.boolean("stream")? {
        Some(true) => Delivery::StreamWithUsage,
        _ => Delivery::Whole,
    })
}
