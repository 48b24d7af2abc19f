//! Writing Converse requests.

use super::conversation::Writer;
use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::target::{Knob, Sampling as Takes, Structured, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Admitted, Budgets, Content, Effort, FALLBACK_TOOL, Function, Leftover, Mode, Notes, Origin, Output,
    Request, Schema, Target, Text, Tool, ToolChoice, digest,
};
use crate::error::Error;

/// The fewest tokens of thinking that may be asked for.
const LEAST_BUDGET: u64 = 1024;
/// The most pairs of metadata, and the longest value, in bytes.
const PAIRS: usize = 16;
const VALUE: usize = 256;
/// The longest name of a tool, in bytes.
const NAME: usize = 64;
/// Where what is left of `additionalModelRequestFields` stands.
const MORE: &str = "additionalModelRequestFields.";

/// Writes a Converse request. The model and whether to stream are said by the path.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    let mut writer = Writer::new(target, notes);
    tools(&mut body, request, &mut writer)?;
    writer.conversation(&mut body, request)?;
    let limit = target.facts.limit(request.limit, notes);
    let mut more = Vec::new();
    let mut fields = Object::begin(&mut more);
    let thinks = thinking(&mut body, &mut fields, request, target, limit, notes)?;
    inference(&mut body, &mut fields, request, target, thinks, limit, notes)?;
    let own = request.origin == Origin::Converse;
    let inside = |left: &Leftover<'_>| own && left.path.strip_prefix(MORE).is_some_and(is_name);
    for left in request.left.iter().filter(|left| inside(left)) {
        fields.json(left.path.trim_start_matches(MORE), &left.raw);
    }
    fields.end();
    if more != b"{}" {
        body.key("additionalModelRequestFields").extend_from_slice(&more);
    }
    about(&mut body, request, notes)?;
    let at_top = |left: &Leftover<'_>| own && left.top().is_some();
    for left in request.left.iter().filter(|left| at_top(left)) {
        body.json(&left.path, &left.raw);
    }
    body.end();
    request.note_call_seals(notes)?;
    request.note_display(notes);
    request.note_left(notes, |left| at_top(left) || inside(left))?;
    Ok(out)
}

fn is_name(path: &str) -> bool {
    !path.contains(['.', '['])
}

// === Tools ===

fn falls_back(request: &Request<'_>, target: &Target<'_>) -> bool {
    matches!((&request.output, target.facts.structured), (Output::Schema(_), Structured::Tool))
}

/// Whether a tool call is forced, by the client or because it stands for the reply.
fn forces(request: &Request<'_>, target: &Target<'_>) -> bool {
    let by_client = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    (by_client && !request.tools.is_empty()) || falls_back(request, target)
}

fn tools(body: &mut Object<'_>, request: &Request<'_>, writer: &mut Writer<'_>) -> Result<(), Error> {
    if request.parallel_tools == Some(false) {
        let why = "the upstream cannot be held to one call at a time; leave it out";
        writer.notes.dropped("parallel_tool_calls", why)?;
    }
    let mut tools = request.tools_for(Origin::Converse, writer.notes)?;
    if matches!(request.tool_choice, Some(ToolChoice::None)) && !tools.is_empty() {
        writer.notes.mapped("tool_choice", "the upstream knows no 'none'; it is not told of the tools");
        tools.clear();
    }
    let fallback = match &request.output {
        Output::Schema(schema) if falls_back(request, writer.target) => Some(schema),
        _ => None,
    };
    let called = request.messages.iter().flat_map(|message| &message.parts);
    let called = called.into_iter().any(|part| matches!(part.content, Content::ToolCall(_)));
    if tools.is_empty() && fallback.is_none() && !called {
        return Ok(());
    }
    let mut config = body.object("toolConfig");
    let mut list = config.array("tools");
    for tool in &tools {
        match tool {
            Tool::Function(function) => {
                spec_into(&mut list, function, writer)?;
                writer.cache(&mut list, function.cache.as_ref());
            }
            Tool::BuiltIn(opaque) => list.item().extend_from_slice(opaque.json.get().as_bytes()),
        }
    }
    if let Some(schema) = fallback {
        writer.notes.mapped("response_format", "the upstream has no schemas; a tool call stands in");
        request.note_schema_words(writer.notes)?;
        let description = "Gives the answer. Always call this, once.";
        stand_in(&mut list, FALLBACK_TOOL, description, schema.schema.get());
    }
    let is_stub = list.is_empty();
    if is_stub {
        writer
            .notes
            .mapped("tools", "the upstream wants tools where some were called; one of no use stands in");
        let description = "Stands for the tools of earlier turns. Never call it.";
        stand_in(&mut list, "none", description, "{\"type\":\"object\",\"properties\":{}}");
    }
    list.end();
    if !is_stub {
        choice(&mut config, request, writer, fallback)?;
    }
    config.end();
    Ok(())
}

fn spec_into(list: &mut Array<'_>, function: &Function<'_>, writer: &mut Writer<'_>) -> Result<(), Error> {
    let name = function.name.plain();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME || !name.bytes().all(is_plain) {
        let path = format!("tools: '{}'", name.chars().take(NAME).collect::<String>());
        return Err(writer
            .notes
            .refused(path, "the upstream takes 1 to 64 letters, digits, '_' and '-' as a name"));
    }
    let mut tool = list.object();
    let mut spec = tool.object("toolSpec");
    spec.text("name", &function.name);
    spec.maybe_text("description", function.description.as_ref().filter(|text| !text.is_empty()));
    let mut schema = spec.object("inputSchema");
    match &function.parameters {
        Some(parameters) => schema.json("json", parameters),
        None => schema.raw("json", "{\"type\":\"object\",\"properties\":{}}"),
    }
    schema.end();
    if let Some(true) = function.strict {
        spec.boolean("strict", true);
    }
    spec.end();
    tool.end();
    Ok(())
}

fn stand_in(list: &mut Array<'_>, name: &str, description: &str, json: &str) {
    let mut tool = list.object();
    let mut spec = tool.object("toolSpec");
    spec.string("name", name);
    spec.string("description", description);
    let mut schema = spec.object("inputSchema");
    schema.raw("json", json);
    schema.end();
    spec.end();
    tool.end();
}

fn choice(
    config: &mut Object<'_>,
    request: &Request<'_>,
    writer: &mut Writer<'_>,
    fallback: Option<&Schema<'_>>,
) -> Result<(), Error> {
    if forces(request, writer.target) && writer.target.facts.forced_tools == Taken::No {
        let why = "the upstream's model cannot be forced to call a tool; use 'auto'";
        return writer.notes.dropped("tool_choice", why);
    }
    let named = |config: &mut Object<'_>, name: &Text<'_>| {
        let mut choice = config.object("toolChoice");
        let mut tool = choice.object("tool");
        tool.text("name", name);
        tool.end();
        choice.end();
    };
    match &request.tool_choice {
        _ if fallback.is_some() && request.tools.is_empty() => named(config, &Text::from(FALLBACK_TOOL)),
        _ if fallback.is_some() => config.raw("toolChoice", "{\"any\":{}}"),
        None | Some(ToolChoice::None) => {}
        Some(ToolChoice::Auto) => config.raw("toolChoice", "{\"auto\":{}}"),
        Some(ToolChoice::Required) => config.raw("toolChoice", "{\"any\":{}}"),
        Some(ToolChoice::Named(name)) => named(config, name),
        Some(ToolChoice::Opaque(_)) => {
            writer
                .notes
                .dropped("tool_choice", "is not known in Converse; use 'auto', 'any' or a tool's name")?;
        }
    }
    Ok(())
}

// === Parameters ===

/// Whether the model was told to think, and in how many tokens at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinks {
    Within(u64),
    No,
}

/// Writes `outputConfig`, and thinking in Claude's words.
fn thinking(
    body: &mut Object<'_>,
    fields: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    limit: Option<u64>,
    notes: &mut Notes,
) -> Result<Thinks, Error> {
    let asked = &request.thinking;
    let asks = asked.effort.is_some() || asked.mode.is_some();
    let mut effort = None;
    let mut thinks = Thinks::No;
    match (target.facts.thinking, asked.mode) {
        _ if !asks => {}
        (Knob::None, _) => {
            notes.dropped("reasoning", "the upstream's model cannot be told how much to think")?;
        }
        (_, Some(Mode::Off)) if target.is_claude() => fields.raw("thinking", "{\"type\":\"disabled\"}"),
        (_, Some(Mode::Off)) => {
            notes.dropped("reasoning", "the upstream's model decides by itself to think")?
        }
        _ if forces(request, target) => {
            notes.dropped("reasoning", "the upstream's model does not think where a tool call is forced")?;
        }
        (Knob::Budget, _) => thinks = budget(fields, request, target, limit, notes)?,
        (Knob::Effort, mode) => {
            effort = asked.effort;
            if let (None, Some(Mode::Budget(tokens))) = (effort, mode) {
                notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
                effort = Some(target.facts.budgets.effort(tokens));
            }
            if mode.is_some() && target.is_claude() {
                fields.raw("thinking", "{\"type\":\"adaptive\"}");
            }
        }
    }
    output_config(body, request, target, effort, notes)?;
    Ok(thinks)
}

/// Writes a budget of thinking, which has to be below the bound on output.
fn budget(
    fields: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    limit: Option<u64>,
    notes: &mut Notes,
) -> Result<Thinks, Error> {
    let tokens = match (request.thinking.mode, request.thinking.effort) {
        (Some(Mode::Budget(tokens)), _) => tokens,
        (_, effort) => target.facts.budgets.tokens(effort.unwrap_or(Effort::Medium)),
    };
    let limit = limit.unwrap_or(target.facts.default_limit);
    let most = limit.saturating_sub(1);
    if most < LEAST_BUDGET {
        notes.dropped("reasoning", "the bound on output leaves no room to think; raise it above 1024")?;
        return Ok(Thinks::No);
    }
    // A budget that does not fit leaves a quarter for the answer.
    let fitted = Budgets::fit(tokens, limit);
    let taken = fitted.clamp(LEAST_BUDGET, most);
    if taken != tokens {
        notes.mapped("reasoning", "the budget is fitted to the bound on output");
    }
    let mut config = fields.object("reasoning_config");
    config.string("type", "enabled");
    config.count("budget_tokens", taken);
    config.end();
    Ok(Thinks::Within(limit))
}

fn output_config(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    effort: Option<Effort>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let schema = match (&request.output, target.facts.structured) {
        (Output::Schema(schema), Structured::Schema) => Some(schema),
        (Output::Schema(_), Structured::No) => {
            notes
                .dropped("response_format", "the upstream's model has no structured output; ask in words")?;
            None
        }
        _ => None,
    };
    if schema.is_none() && effort.is_none() {
        return Ok(());
    }
    let mut config = body.object("outputConfig");
    if let Some(schema) = schema {
        let mut format = config.object("textFormat");
        format.string("type", "json_schema");
        let mut structure = format.object("structure");
        let mut of = structure.object("jsonSchema");
        of.string("schema", schema.schema.get());
        of.maybe_text("name", schema.name.as_ref());
        of.maybe_text("description", schema.description.as_ref());
        of.end();
        structure.end();
        format.end();
    }
    match effort {
        Some(Effort::Minimal) => config.string("effort", Effort::Low.name()),
        Some(effort) => config.string("effort", effort.name()),
        None => {}
    }
    config.end();
    Ok(())
}

fn inference(
    body: &mut Object<'_>,
    fields: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    thinks: Thinks,
    limit: Option<u64>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    let takes = match (target.facts.sampling, thinks) {
        // A model that thinks takes none.
        (Takes::Refused, _) | (_, Thinks::Within(_)) => Takes::Refused,
        (Takes::Taken, Thinks::No) => Takes::UpTo(1.0),
        (takes, Thinks::No) => takes,
    };
    let Admitted { temperature, top_p, top_k } = takes.admit(sampling, notes)?;
    let takes_top_k =
        target.facts.top_k == Taken::Yes || target.is_claude() || request.origin == Origin::Converse;
    match top_k {
        Some(top_k) if takes_top_k => fields.count("top_k", top_k),
        Some(_) => notes.dropped("top_k", "is not known to the upstream; leave it out")?,
        None => {}
    }
    sampling.one_reply(notes)?;
    let missing = ["frequency_penalty", "presence_penalty", "seed", "logit_bias", "logprobs", "top_logprobs"];
    sampling.without(&missing, notes)?;
    let stops = sampling.stops_within(target.facts.most_stops, notes)?;
    let limit = match thinks {
        Thinks::Within(limit) => Some(limit),
        Thinks::No => limit,
    };
    let mut inside = Vec::new();
    let mut config = Object::begin(&mut inside);
    if let Some(limit) = limit {
        config.count("maxTokens", limit);
    }
    for (name, value) in [("temperature", temperature), ("topP", top_p)] {
        if let Some(value) = value {
            config.number(name, value);
        }
    }
    if stops.iter().any(Text::is_blank) {
        notes.dropped("stop", "the upstream takes no stop sequence of white space; leave it out")?;
    }
    if stops.iter().any(|stop| !stop.is_blank()) {
        let mut list = config.array("stopSequences");
        for stop in stops.iter().filter(|stop| !stop.is_blank()) {
            stop.quote_into(list.item());
        }
        list.end();
    }
    config.end();
    if inside != b"{}" {
        body.key("inferenceConfig").extend_from_slice(&inside);
    }
    Ok(())
}

/// What the client says about itself, as far as pairs of texts can hold it.
fn about(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    let node = request.metadata.as_ref().and_then(|metadata| Node::parse(metadata.get().as_bytes()).ok());
    let members = match node.as_ref().map(|node| &node.value) {
        Some(Value::Object(members)) => members.as_slice(),
        _ => &[],
    };
    let mut pairs: Vec<(Text<'_>, Text<'_>)> = Vec::new();
    for (name, node) in members {
        match node.as_text() {
            Some(value) if fits(name) && fits(&value) && pairs.len() < PAIRS => {
                pairs.push((name.clone(), value))
            }
            _ => {
                let path = format!("metadata.{}", name.plain());
                notes.dropped(path, "the upstream takes 16 short plain texts at most; leave it out")?;
            }
        }
    }
    if let Some(user) = request.user.as_ref().filter(|_| pairs.len() < PAIRS) {
        if fits(user) {
            pairs.push((Text::from("user"), user.borrowed()));
        } else {
            notes.mapped("user", "is not what the upstream takes; a hash stands for it");
            pairs.push((Text::from("user"), Text::new(format!("{:016x}", digest(user.plain().as_bytes())))));
        }
    }
    if !pairs.is_empty() {
        let mut metadata = body.object("requestMetadata");
        for (name, value) in pairs {
            metadata.text(&name.plain(), &value);
        }
        metadata.end();
    }
    let Some(tier) = &request.service_tier else { return Ok(()) };
    let tier = match (request.origin, tier.plain().as_ref()) {
        (_, "auto") => return Ok(()),
        (_, "default" | "standard" | "standard_only") => "default",
        (_, "flex") => "flex",
        (_, "priority") => "priority",
        (Origin::Converse, "reserved") => "reserved",
        _ => return notes.dropped("service_tier", "the upstream has no such tier; leave it out"),
    };
    let mut object = body.object("serviceTier");
    object.string("type", tier);
    object.end();
    Ok(())
}

/// Whether a text may stand in metadata.
fn fits(text: &Text<'_>) -> bool {
    let text = text.plain();
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b" :_@$#=/+,-.".contains(&byte);
    !text.is_empty() && text.len() <= VALUE && text.bytes().all(is_taken)
}
