//! Writing Messages requests.

use serde::Deserialize;

use super::conversation::Writer;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::target::{Knob, Sampling as Takes, Structured, Taken};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Admitted, Budgets, Delivery, Effort, FALLBACK_TOOL, Function, Json, Leftover, Mode, Notes, Origin,
    Output, Request, Target, Text, Tool, ToolChoice,
};
use crate::error::Error;

/// The fewest tokens of thinking that may be asked for.
const LEAST_BUDGET: u64 = 1024;

/// Writes a Messages request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    body.string("model", target.model);
    let limit = target.facts.limit(request.limit, notes).unwrap_or(target.facts.default_limit);
    body.count("max_tokens", limit);
    let mut writer = Writer::new(target, notes);
    tools(&mut body, request, &mut writer)?;
    writer.conversation(&mut body, request)?;
    writer.cache(&mut body, request.cache.as_ref());
    let thinks = thinking(&mut body, request, target, limit, notes)?;
    sampling(&mut body, request, target, thinks, notes)?;
    about(&mut body, request, notes)?;
    if request.delivery != Delivery::Whole {
        body.boolean("stream", true);
    }
    let own = |left: &Leftover<'_>| request.origin == Origin::Messages && left.top().is_some();
    for left in request.left.iter().filter(|left| own(left)) {
        body.json(&left.path, &left.raw);
    }
    body.end();
    request.note_call_seals(notes)?;
    request.note_schema_words(notes)?;
    request.note_left(notes, own)?;
    Ok(out)
}

// === Tools ===

/// Whether a tool call is forced, by the client or because it stands for the reply.
fn forces(request: &Request<'_>, target: &Target<'_>) -> bool {
    let by_client = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    (by_client && !request.tools.is_empty()) || falls_back(request, target)
}

fn falls_back(request: &Request<'_>, target: &Target<'_>) -> bool {
    matches!((&request.output, target.facts.structured), (Output::Schema(_), Structured::Tool))
}

fn tools(body: &mut Object<'_>, request: &Request<'_>, writer: &mut Writer<'_>) -> Result<(), Error> {
    let tools = request.tools_for(Origin::Messages, writer.notes)?;
    if tools.is_empty() && !falls_back(request, writer.target) {
        return Ok(());
    }
    let mut list = body.array("tools");
    for tool in tools {
        match tool {
            Tool::Function(function) => tool_into(list.object(), function, writer)?,
            Tool::BuiltIn(opaque) => list.item().extend_from_slice(opaque.json.get().as_bytes()),
        }
    }
    if let (Output::Schema(schema), true) = (&request.output, falls_back(request, writer.target)) {
        writer.notes.mapped("response_format", "the upstream has no schemas; a tool call stands in");
        let mut tool = list.object();
        tool.string("name", FALLBACK_TOOL);
        tool.string("description", "Gives the answer. Always call this, once.");
        schema_into(&mut tool, Some(&schema.schema), writer.notes)?;
        tool.end();
    }
    list.end();
    choice(body, request, writer)
}

fn tool_into(mut tool: Object<'_>, function: &Function<'_>, writer: &mut Writer<'_>) -> Result<(), Error> {
    tool.text("name", &function.name);
    tool.maybe_text("description", function.description.as_ref());
    schema_into(&mut tool, function.parameters.as_ref(), writer.notes)?;
    if let Some(true) = function.strict {
        tool.boolean("strict", true);
    }
    writer.cache(&mut tool, function.cache.as_ref());
    tool.end();
    Ok(())
}

/// Writes the schema of a tool's input, which has to be one of an object.
fn schema_into(tool: &mut Object<'_>, schema: Option<&Json<'_>>, notes: &mut Notes) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Raw<'a>,
    }
    let Some(schema) = schema else {
        tool.raw("input_schema", "{\"type\":\"object\",\"properties\":{}}");
        return Ok(());
    };
    let kind = serde_json::from_str::<Typed<'_>>(schema.get()).ok().and_then(|typed| typed.kind.get());
    match kind {
        Some("\"object\"") => tool.json("input_schema", schema),
        Some(_) => return Err(notes.refused("tools: parameters.type", "must be 'object'")),
        None => {
            let inside = schema.get().trim_start().strip_prefix('{').unwrap_or("}");
            let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
            tool.raw("input_schema", &["{\"type\":\"object\"", comma, inside].concat());
        }
    }
    Ok(())
}

fn choice(body: &mut Object<'_>, request: &Request<'_>, writer: &mut Writer<'_>) -> Result<(), Error> {
    let forced = forces(request, writer.target);
    if forced && writer.target.facts.forced_tools == Taken::No {
        let why = "the upstream's model cannot be forced to call a tool; use 'auto'";
        return writer.notes.dropped("tool_choice", why);
    }
    let fallback = falls_back(request, writer.target);
    let (kind, name) = match &request.tool_choice {
        _ if fallback && request.tools.is_empty() => ("tool", Some(Text::from(FALLBACK_TOOL))),
        _ if fallback => ("any", None),
        None if request.parallel_tools == Some(false) => ("auto", None),
        None => return Ok(()),
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.borrowed())),
        Some(ToolChoice::Opaque(_)) => {
            return writer.notes.dropped("tool_choice", "is not known in Messages; use a tool's name");
        }
    };
    let mut choice = body.object("tool_choice");
    choice.string("type", kind);
    choice.maybe_text("name", name.as_ref());
    if let (Some(parallel), true) = (request.parallel_tools, kind != "none") {
        choice.boolean("disable_parallel_tool_use", !parallel);
    }
    choice.end();
    Ok(())
}

// === Parameters ===

/// Whether the model was told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinks {
    Yes,
    No,
}

/// Writes `thinking` and `output_config`.
fn thinking(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    limit: u64,
    notes: &mut Notes,
) -> Result<Thinks, Error> {
    let asked = &request.thinking;
    let asks = asked.effort.is_some() || asked.mode.is_some();
    let wants = asks && asked.mode != Some(Mode::Off);
    let mut effort = asked.effort;
    let mut thinks = Thinks::No;
    if asks && target.facts.thinking == Knob::None {
        notes.dropped("reasoning", "the upstream's model cannot be told how much to think")?;
        effort = None;
    } else if wants && forces(request, target) {
        notes.dropped("reasoning", "the upstream's model does not think where a tool call is forced")?;
        effort = None;
    } else if asked.mode == Some(Mode::Off) {
        body.raw("thinking", "{\"type\":\"disabled\"}");
    } else if wants && target.facts.thinking == Knob::Budget {
        effort = effort.filter(|_| request.origin == Origin::Messages);
        thinks = budget(body, request, target, limit, notes)?;
    } else if wants {
        if let Some(Mode::Budget(tokens)) = asked.mode {
            notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
            effort = effort.or_else(|| Some(target.facts.budgets.effort(tokens)));
        }
        // Effort alone says nothing of thinking in Messages itself.
        if asked.mode.is_some() || request.origin != Origin::Messages {
            let mut thinking = body.object("thinking");
            thinking.string("type", "adaptive");
            display(&mut thinking, request);
            thinking.end();
            thinks = Thinks::Yes;
        }
    }
    output_config(body, request, target, effort, notes)?;
    Ok(thinks)
}

/// Writes a budget of thinking, which has to be below the bound on output.
fn budget(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    limit: u64,
    notes: &mut Notes,
) -> Result<Thinks, Error> {
    let tokens = match (request.thinking.mode, request.thinking.effort) {
        (Some(Mode::Budget(tokens)), _) => tokens,
        (_, effort) => target.facts.budgets.tokens(effort.unwrap_or(Effort::Medium)),
    };
    let most = limit.saturating_sub(1);
    if most < LEAST_BUDGET {
        notes.dropped("reasoning", "the bound on output leaves no room to think; raise it above 1024")?;
        return Ok(Thinks::No);
    }
    let taken = Budgets::fit(tokens, limit).clamp(LEAST_BUDGET, most);
    if taken != tokens {
        notes.mapped("reasoning", "the budget is fitted to the bound on output");
    }
    let mut thinking = body.object("thinking");
    thinking.string("type", "enabled");
    thinking.count("budget_tokens", taken);
    display(&mut thinking, request);
    thinking.end();
    Ok(Thinks::Yes)
}

/// Writes how the reasoning is shown. Elsewhere it is shown in some form, or not at all.
fn display(thinking: &mut Object<'_>, request: &Request<'_>) {
    match &request.thinking.display {
        Some(shown) if request.origin == Origin::Messages || *shown == *"omitted" => {
            thinking.text("display", shown);
        }
        Some(_) => thinking.string("display", "summarized"),
        None => {}
    }
}

fn output_config(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    effort: Option<Effort>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let schema = match (&request.output, target.facts.structured) {
        (Output::Schema(schema), Structured::Schema) => Some(&schema.schema),
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
    let mut config = body.object("output_config");
    if let Some(schema) = schema {
        let mut format = config.object("format");
        format.string("type", "json_schema");
        format.json("schema", schema);
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

fn sampling(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    thinks: Thinks,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    let takes = match (target.facts.sampling, thinks) {
        // A model that thinks takes none.
        (Takes::Refused, _) | (_, Thinks::Yes) => Takes::Refused,
        (Takes::Taken, Thinks::No) => Takes::UpTo(1.0),
        (takes, Thinks::No) => takes,
    };
    let Admitted { temperature, top_p, top_k } = takes.admit(sampling, notes)?;
    for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
        if let Some(value) = value {
            body.number(name, value);
        }
    }
    if let Some(top_k) = top_k {
        body.count("top_k", top_k);
    }
    sampling.one_reply(notes)?;
    let missing = ["frequency_penalty", "presence_penalty", "seed", "logit_bias", "logprobs", "top_logprobs"];
    sampling.without(&missing, notes)?;
    let stops = sampling.stops_within(target.facts.most_stops, notes)?;
    if stops.iter().any(Text::is_blank) {
        notes.dropped("stop", "the upstream takes no stop sequence of white space; leave it out")?;
    }
    if stops.iter().any(|stop| !stop.is_blank()) {
        let mut list = body.array("stop_sequences");
        for stop in stops.iter().filter(|stop| !stop.is_blank()) {
            stop.quote_into(list.item());
        }
        list.end();
    }
    Ok(())
}

/// What the client says about itself.
fn about(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    if let Some(user) = &request.user {
        let mut metadata = body.object("metadata");
        metadata.text("user_id", user);
        metadata.end();
    }
    if request.metadata.is_some() {
        notes.dropped("metadata", "is not stored upstream; leave it out")?;
    }
    let Some(tier) = &request.service_tier else { return Ok(()) };
    match (request.origin, tier.plain().as_ref()) {
        (Origin::Messages, _) | (_, "auto") => body.text("service_tier", tier),
        (Origin::Chat | Origin::Responses, "default") => body.string("service_tier", "standard_only"),
        _ => notes.dropped("service_tier", "the upstream has no such tier; leave it out")?,
    }
    Ok(())
}
