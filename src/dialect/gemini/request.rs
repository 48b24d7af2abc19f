//! Gemini requests.

use crate::dialect::ir::node::{Fields, Node, Path};
use crate::dialect::ir::{
    Delivery, Effort, Function, Json, Leftover, Mode, Opaque, Origin, Output, Request, Sampling, Schema,
    Text, Thinking, Tool, ToolChoice,
};
use crate::error::Error;

mod contents;
mod encode;
mod parts;

pub use encode::encode;

use super::schema::json_schema;

type Left<'a> = Vec<Leftover<'a>>;

/// Reads a Gemini request. Its path says what the body does not: the caller fills in `model` and `delivery`.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    read(&Node::parse(body)?, Path::Root)
}

/// Reads the request that stands at `path`.
pub(super) fn read<'a>(document: &Node<'a>, path: Path<'_>) -> Result<Request<'a>, Error> {
    let mut fields = document.fields(path)?;
    let mut left = Vec::new();
    let messages = parts::conversation(&mut fields, &mut left)?;
    let tools = tools(&mut fields, &mut left)?;
    let tool_choice = tool_choice(&mut fields, &mut left)?;
    let config = config(&mut fields, &mut left)?;
    let request = Request {
        origin: Origin::Gemini,
        model: fields.text("model")?.unwrap_or_default(),
        messages,
        tools,
        tool_choice,
        parallel_tools: None,
        output: config.output,
        sampling: config.sampling,
        limit: config.limit,
        thinking: config.thinking,
        cache: None,
        service_tier: either(&mut fields, ("serviceTier", "service_tier"), Fields::text)?,
        user: None,
        metadata: None,
        delivery: Delivery::Whole,
        left: Vec::new(),
    };
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

/// Takes a member by its name, or by the one in snake case, which the API takes as well.
fn either<'n, 'a, T>(
    fields: &mut Fields<'n, 'a>,
    (camel, snake): (&'static str, &'static str),
    take: impl Fn(&mut Fields<'n, 'a>, &'static str) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let first = take(fields, camel)?;
    let second = take(fields, snake)?;
    Ok(first.or(second))
}

// === Tools ===

fn tools<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Vec<Tool<'a>>, Error> {
    let here = fields.path;
    let path = here.member("tools");
    let mut tools = Vec::new();
    for (index, node) in fields.array("tools")?.unwrap_or_default().iter().enumerate() {
        let path = path.item(index);
        let mut fields = node.fields(path)?;
        let within = path.member("functionDeclarations");
        let declared = either(&mut fields, ("functionDeclarations", "function_declarations"), Fields::array)?;
        for (index, node) in declared.unwrap_or_default().iter().enumerate() {
            tools.push(Tool::Function(function(node, within.item(index), left)?));
        }
        // Every other member is a tool of Google's own.
        let mut built_in = Vec::new();
        fields.leave(&mut built_in);
        for tool in built_in {
            let Some(kind) = tool.path.rsplit_once('.').map(|(_, kind)| kind.to_owned()) else { continue };
            let json = Json::object(format!("{{\"{kind}\":{}}}", tool.raw.get()).into());
            let json = json.ok_or_else(|| path.fault("holds a tool whose name is none"))?;
            tools.push(Tool::BuiltIn(Opaque::new(Origin::Gemini, Text::new(kind), json)));
        }
    }
    Ok(tools)
}

fn function<'a>(node: &Node<'a>, path: Path<'_>, left: &mut Left<'a>) -> Result<Function<'a>, Error> {
    let mut fields = node.fields(path)?;
    let tool = Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        parameters: schema(
            &mut fields,
            ("parametersJsonSchema", "parameters_json_schema"),
            ("parameters", "parameters"),
        )?,
        strict: None,
        cache: None,
    };
    fields.leave(left);
    Ok(tool)
}

/// A schema by either of its two names: the one of a JSON schema, or the one of a schema in Gemini's own words.
fn schema<'a>(
    fields: &mut Fields<'_, 'a>,
    json: (&'static str, &'static str),
    (camel, snake): (&'static str, &'static str),
) -> Result<Option<Json<'a>>, Error> {
    let path = fields.path;
    if let Some(schema) = either(fields, json, Fields::object)? {
        return Ok(Some(schema));
    }
    let own = match fields.take(camel)? {
        None if camel != snake => fields.take(snake)?,
        found => found,
    };
    let Some(own) = own else { return Ok(None) };
    json_schema(own).map(Some).ok_or_else(|| path.member(camel).wants("an object"))
}

fn tool_choice<'a>(
    fields: &mut Fields<'_, 'a>,
    left: &mut Left<'a>,
) -> Result<Option<ToolChoice<'a>>, Error> {
    let here = fields.path;
    let path = here.member("toolConfig");
    let Some(node) = either(fields, ("toolConfig", "tool_config"), Fields::take)? else { return Ok(None) };
    let mut config = node.fields(path)?;
    let within = path.member("functionCallingConfig");
    let calling = either(&mut config, ("functionCallingConfig", "function_calling_config"), Fields::take)?;
    config.leave(left);
    let Some(node) = calling else { return Ok(None) };
    let mut calling = node.fields(within)?;
    let mode = calling.text("mode")?.unwrap_or_default();
    let names = either(&mut calling, ("allowedFunctionNames", "allowed_function_names"), Fields::array)?;
    let names = names.unwrap_or_default();
    calling.leave(left);
    let mode = mode.plain().to_ascii_uppercase();
    let choice = match mode.as_str() {
        "" | "MODE_UNSPECIFIED" => return Ok(None),
        "NONE" => ToolChoice::None,
        // A choice among some of the tools, which nobody else has.
        "ANY" | "AUTO" | "VALIDATED" if names.len() > 1 || (mode != "ANY" && !names.is_empty()) => {
            ToolChoice::Opaque(Opaque::new(Origin::Gemini, "functionCallingConfig", node.json()))
        }
        "AUTO" | "VALIDATED" => ToolChoice::Auto,
        "ANY" => match names {
            [name] => ToolChoice::Named(name.text(within.member("allowedFunctionNames"))?),
            _ => ToolChoice::Required,
        },
        _ => return Err(within.member("mode").wants("'AUTO', 'ANY', 'NONE' or 'VALIDATED'")),
    };
    Ok(Some(choice))
}

// === generationConfig ===

/// What `generationConfig` says.
#[derive(Default)]
struct Config<'a> {
    output: Output<'a>,
    sampling: Sampling<'a>,
    limit: Option<u64>,
    thinking: Thinking<'a>,
}

fn config<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Config<'a>, Error> {
    let here = fields.path;
    let path = here.member("generationConfig");
    let Some(node) = either(fields, ("generationConfig", "generation_config"), Fields::take)? else {
        return Ok(Config::default());
    };
    let mut fields = node.fields(path)?;
    let config = Config {
        output: output(&mut fields)?,
        sampling: sampling(&mut fields)?,
        limit: either(&mut fields, ("maxOutputTokens", "max_output_tokens"), Fields::count)?,
        thinking: thinking(&mut fields, left)?,
    };
    fields.leave(left);
    Ok(config)
}

/// The shape of the reply. A type that is not known is left over.
fn output<'a>(fields: &mut Fields<'_, 'a>) -> Result<Output<'a>, Error> {
    let names = ("responseMimeType", "response_mime_type");
    let kind = either(fields, names, Fields::text)?.unwrap_or_default();
    let schema = schema(
        fields,
        ("responseJsonSchema", "response_json_schema"),
        ("responseSchema", "response_schema"),
    )?;
    match (kind.plain().as_ref(), schema) {
        ("application/json" | "", Some(schema)) => {
            Ok(Output::Schema(Schema { name: None, description: None, schema, strict: None }))
        }
        ("application/json", None) => Ok(Output::Object),
        ("text/plain" | "", None) => Ok(Output::Text),
        _ => {
            fields.give_back(names.0);
            fields.give_back(names.1);
            Ok(Output::Text)
        }
    }
}

fn sampling<'a>(fields: &mut Fields<'_, 'a>) -> Result<Sampling<'a>, Error> {
    let here = fields.path;
    let path = here.member("stopSequences");
    let stops = either(fields, ("stopSequences", "stop_sequences"), Fields::array)?.unwrap_or_default();
    let stops = stops.iter().enumerate().map(|(index, node)| node.text(path.item(index)));
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: either(fields, ("topP", "top_p"), Fields::number)?,
        top_k: top_k(fields)?,
        frequency_penalty: either(fields, ("frequencyPenalty", "frequency_penalty"), Fields::number)?,
        presence_penalty: either(fields, ("presencePenalty", "presence_penalty"), Fields::number)?,
        seed: fields.integer("seed")?,
        logit_bias: None,
        logprobs: either(fields, ("responseLogprobs", "response_logprobs"), Fields::boolean)?,
        top_logprobs: fields.count("logprobs")?,
        replies: either(fields, ("candidateCount", "candidate_count"), Fields::count)?,
        stops: stops.collect::<Result<_, _>>()?,
    })
}

/// `topK`, which SDKs write as a float.
fn top_k(fields: &mut Fields<'_, '_>) -> Result<Option<u64>, Error> {
    let path = fields.path;
    let Some(number) = either(fields, ("topK", "top_k"), Fields::number)? else { return Ok(None) };
    let is_count = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    let count = is_count.then_some(number as u64);
    count.map(Some).ok_or_else(|| path.member("topK").wants("a whole number that is not negative"))
}

/// How much to think. A level that is not known is left over.
fn thinking<'a>(fields: &mut Fields<'_, 'a>, left: &mut Left<'a>) -> Result<Thinking<'a>, Error> {
    let here = fields.path;
    let path = here.member("thinkingConfig");
    let Some(node) = either(fields, ("thinkingConfig", "thinking_config"), Fields::take)? else {
        return Ok(Thinking::default());
    };
    let mut fields = node.fields(path)?;
    let names = ("thinkingLevel", "thinking_level");
    let level = either(&mut fields, names, Fields::text)?;
    let effort = level.as_ref().and_then(|level| Effort::named(&level.plain().to_ascii_lowercase()));
    if effort.is_none() {
        fields.give_back(names.0);
        fields.give_back(names.1);
    }
    let budget = either(&mut fields, ("thinkingBudget", "thinking_budget"), Fields::integer)?;
    let mode = match budget {
        None => None,
        Some(0) => Some(Mode::Off),
        Some(tokens) => Some(u64::try_from(tokens).map_or(Mode::Adaptive, Mode::Budget)),
    };
    let shown = either(&mut fields, ("includeThoughts", "include_thoughts"), Fields::boolean)?;
    fields.leave(left);
    let display = shown.map(|shown| Text::new(if shown { "summarized" } else { "omitted" }));
    Ok(Thinking { mode, effort, display })
}
