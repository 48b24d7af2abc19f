//! Converse requests.

use crate::dialect::ir::node::{Fields, Node, Path};
use crate::dialect::ir::target::ToolIds;
use crate::dialect::ir::{
    Delivery, Effort, Function, Json, Leftover, Mode, Opaque, Origin, Output, Request, Sampling, Schema,
    Text, Thinking, Tool, ToolChoice,
};
use crate::error::Error;

mod blocks;
mod conversation;
mod encode;

pub use encode::encode;

type Left<'a> = Vec<Leftover<'a>>;

/// What a tool call's id may look like. The service model takes `.` and `:` too, some models do not.
pub(super) const IDS: ToolIds = ToolIds::Plain(64);

/// Reads a Converse request. Its path says what the body does not: the caller fills in `model` and `delivery`.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let mut left = Vec::new();
    let messages = blocks::conversation(&mut fields, &mut left)?;
    let (tools, tool_choice) = tool_config(&mut fields, &mut left)?;
    let (output, effort) = output_config(&mut fields, &mut left)?;
    let (limit, mut sampling) = inference(&mut fields, &mut left)?;
    let (thinking, top_k) = additional(&mut fields, effort, &mut left)?;
    sampling.top_k = top_k;
    let request = Request {
        origin: Origin::Converse,
        model: Text::default(),
        messages,
        tools,
        tool_choice,
        parallel_tools: None,
        output,
        sampling,
        limit,
        thinking,
        cache: None,
        service_tier: tier(&mut fields, &mut left)?,
        user: None,
        metadata: fields.object("requestMetadata")?,
        delivery: Delivery::Whole,
        left: Vec::new(),
    };
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

// === Tools ===

type Tools<'a> = (Vec<Tool<'a>>, Option<ToolChoice<'a>>);

fn tool_config<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Tools<'a>, Error> {
    let path = Path::Root.member("toolConfig");
    let Some(node) = fields.take("toolConfig")? else { return Ok((Vec::new(), None)) };
    let mut config = node.fields(path)?;
    let within = path.member("tools");
    let mut tools = Vec::new();
    for (index, node) in config.array("tools")?.unwrap_or_default().iter().enumerate() {
        tool(node, within.item(index), &mut tools, left)?;
    }
    let choice = choice(&mut config, left)?;
    config.leave(left);
    Ok((tools, choice))
}

fn tool<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    tools: &mut Vec<Tool<'a>>,
    left: &mut Left<'a>,
) -> Result<(), Error> {
    let mut fields = node.fields(path)?;
    if let Some(cache) = blocks::cache(&mut fields)? {
        match tools.last_mut() {
            Some(Tool::Function(function)) => function.cache = Some(cache),
            _ => left.push(Leftover { path: path.to_string(), raw: node.json() }),
        }
        return Ok(());
    }
    let within = path.member("toolSpec");
    let Some(spec) = fields.take("toolSpec")? else {
        let kind = fields.take("systemTool")?.map_or("tool", |_| "systemTool");
        tools.push(Tool::BuiltIn(Opaque::new(Origin::Converse, kind, node.json())));
        return Ok(());
    };
    let mut spec = spec.fields(within)?;
    let name = spec.need_text("name")?;
    let schema = within.member("inputSchema");
    let mut input = spec.need("inputSchema")?.fields(schema)?;
    let parameters = input.object("json")?;
    input.leave(left);
    let function = Function {
        name,
        description: spec.text("description")?,
        parameters: Some(parameters.ok_or_else(|| schema.member("json").fault("is required"))?),
        strict: spec.boolean("strict")?,
        cache: None,
    };
    spec.leave(left);
    fields.leave(left);
    tools.push(Tool::Function(function));
    Ok(())
}

fn choice<'a>(config: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<ToolChoice<'a>>, Error> {
    let here = config.path;
    let path = here.member("toolChoice");
    let Some(node) = config.take("toolChoice")? else { return Ok(None) };
    let mut choice = node.fields(path)?;
    let of = if choice.take("auto")?.is_some() {
        ToolChoice::Auto
    } else if choice.take("any")?.is_some() {
        ToolChoice::Required
    } else if let Some(node) = choice.take("tool")? {
        ToolChoice::Named(node.fields(path.member("tool"))?.need_text("name")?)
    } else {
        return Err(path.fault("must hold 'auto', 'any' or 'tool'"));
    };
    choice.leave(left);
    Ok(Some(of))
}

// === Parameters ===

fn inference<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<(Option<u64>, Sampling<'a>), Error> {
    let path = Path::Root.member("inferenceConfig");
    let Some(node) = fields.take("inferenceConfig")? else { return Ok((None, Sampling::default())) };
    let mut config = node.fields(path)?;
    let within = path.member("stopSequences");
    let stops = config.array("stopSequences")?.unwrap_or_default();
    let stops = stops.iter().enumerate().map(|(index, node)| node.text(within.item(index)));
    let sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        stops: stops.collect::<Result<_, _>>()?,
        ..Sampling::default()
    };
    let limit = config.count("maxTokens")?;
    config.leave(left);
    Ok((limit, sampling))
}

/// What stands in `additionalModelRequestFields` and has a name in other dialects: in the words of Claude, which are
/// those of Messages with an older name for thinking, and in those of Nova. The rest is left over.
fn additional<'a>(
    fields: &mut Fields<'_, 'a>,
    effort: Option<Effort>,
    left: &mut Left<'a>,
) -> Result<(Thinking<'a>, Option<u64>), Error> {
    let path = Path::Root.member("additionalModelRequestFields");
    let mut thinking = Thinking { effort, ..Thinking::default() };
    let Some(node) = fields.take("additionalModelRequestFields")? else { return Ok((thinking, None)) };
    let mut more = node.fields(path)?;
    for name in ["thinking", "reasoning_config", "reasoningConfig"] {
        let Some(node) = more.take(name)? else { continue };
        let within = path.member(name);
        let mut config = node.fields(within)?;
        let kind = config.text("type")?.unwrap_or_default();
        let budget = config.count("budget_tokens")?;
        let word = config.text("maxReasoningEffort")?;
        let effort = word.as_ref().and_then(|word| Effort::named(&word.plain()));
        if word.is_some() && effort.is_none() {
            config.give_back("maxReasoningEffort");
        }
        thinking.effort = effort.or(thinking.effort);
        thinking.mode = match (kind.plain().as_ref(), budget) {
            ("disabled", _) => Some(Mode::Off),
            ("enabled", Some(tokens)) => Some(Mode::Budget(tokens)),
            ("enabled" | "adaptive", None) => Some(Mode::Adaptive),
            _ => return Err(within.member("type").wants("'enabled', 'adaptive' or 'disabled'")),
        };
        config.leave(left);
    }
    let top_k = more.count("top_k")?;
    more.leave(left);
    Ok((thinking, top_k))
}

/// The shape of the reply, and how hard to think about it.
fn output_config<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<(Output<'a>, Option<Effort>), Error> {
    let path = Path::Root.member("outputConfig");
    let Some(node) = fields.take("outputConfig")? else { return Ok((Output::Text, None)) };
    let mut config = node.fields(path)?;
    let word = config.text("effort")?;
    let effort = word.as_ref().and_then(|word| Effort::named(&word.plain()));
    if word.is_some() && effort.is_none() {
        config.give_back("effort");
    }
    let mut output = Output::Text;
    let within = path.member("textFormat");
    if let Some(node) = config.take("textFormat")? {
        let mut format = node.fields(within)?;
        if format.need_text("type")? != *"json_schema" {
            return Err(within.member("type").wants("'json_schema'"));
        }
        output = Output::Schema(schema(&mut format)?);
        format.leave(left);
    }
    config.leave(left);
    Ok((output, effort))
}

/// The schema of a reply, which stands in a string.
fn schema<'a>(format: &mut Fields<'_, 'a>) -> Result<Schema<'a>, Error> {
    let here = format.path;
    let (outer, path);
    outer = here.member("structure");
    path = outer.member("jsonSchema");
    let mut schema = format.need("structure")?.fields(outer)?.need("jsonSchema")?.fields(path)?;
    let text = schema.need_text("schema")?;
    Ok(Schema {
        name: schema.text("name")?,
        description: schema.text("description")?,
        schema: Json::object(text.into_plain())
            .ok_or_else(|| path.member("schema").wants("a string that holds a JSON object"))?,
        strict: None,
    })
}

fn tier<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Option<Text<'a>>, Error> {
    let Some(node) = fields.take("serviceTier")? else { return Ok(None) };
    let mut tier = node.fields(Path::Root.member("serviceTier"))?;
    let kind = tier.need_text("type")?;
    tier.leave(left);
    Ok(Some(kind))
}
