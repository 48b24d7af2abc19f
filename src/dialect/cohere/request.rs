//! Cohere requests.

use crate::dialect::ir::node::Node;
use crate::dialect::ir::target::{Knob, Sampling as Takes, Structured, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Admitted, Budgets, Delivery, FALLBACK_TOOL, Function, Json, Leftover, Mode, Notes, Origin, Output,
    Request, Target, Text, Tool, ToolChoice,
};
use crate::error::Error;

mod conversation;

use conversation::{Messages, document_into};

/// Members of a chat request that are Cohere's own.
const OWN: [&str; 3] = ["citation_options", "safety_mode", "priority"];
/// The most stop sequences.
const STOPS: usize = 5;
/// What `p` may be.
const TOP_P: (f64, f64) = (0.01, 0.99);
/// What a function's schema is where it has none.
const NO_PARAMETERS: &str = "{\"type\":\"object\",\"properties\":{}}";

/// Writes a Cohere request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    body.string("model", target.model);
    let mut messages = Messages { list: body.array("messages"), target, notes, documents: Vec::new() };
    messages.all(&request.messages)?;
    let Messages { list, documents, .. } = messages;
    list.end();
    let given = request.left.iter().find(|left| is_documents(request, left));
    let given = given.map(|left| Node::parse(left.raw.get().as_bytes())).transpose()?;
    let given = given.as_ref().and_then(Node::as_array).unwrap_or_default();
    if !given.is_empty() || !documents.is_empty() {
        let mut list = body.array("documents");
        given.iter().for_each(|node| list.item().extend_from_slice(node.raw.as_bytes()));
        documents.iter().for_each(|(text, name)| document_into(list.object(), text, *name));
        list.end();
    }
    tools(&mut body, request, target, notes)?;
    output(&mut body, request, target, notes)?;
    sampling(&mut body, request, target, notes)?;
    let limit = target.facts.limit(request.limit, notes);
    if let Some(limit) = limit {
        body.count("max_tokens", limit);
    }
    thinking(&mut body, request, target, limit, notes)?;
    unknown(request, notes)?;
    body.boolean("stream", request.delivery != Delivery::Whole);
    let own = |left: &Leftover<'_>| {
        request.origin == Origin::Chat && left.top().is_some_and(|name| OWN.contains(&name))
    };
    for left in request.left.iter().filter(|left| own(left)) {
        body.json(&left.path, &left.raw);
    }
    body.end();
    request.note_call_seals(notes)?;
    request.note_schema_words(notes)?;
    request.note_display(notes);
    request.note_left(notes, |left| own(left) || is_documents(request, left))?;
    Ok(out)
}

/// Whether these are the documents that chat's clients send along.
fn is_documents(request: &Request<'_>, left: &Leftover<'_>) -> bool {
    request.origin == Origin::Chat && left.path == "documents" && left.raw.get().starts_with('[')
}

// === Tools ===

fn tools(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let fallback = match (&request.output, target.facts.structured) {
        (Output::Schema(schema), Structured::Tool) => Some(&schema.schema),
        _ => None,
    };
    let tools = request.tools_for(Origin::Cohere, notes)?;
    // There is no choice of one tool but to offer no other.
    let only = match &request.tool_choice {
        Some(ToolChoice::Named(name)) if fallback.is_none() => Some(name),
        _ => None,
    };
    let offered = |tool: &&Tool<'_>| match tool {
        Tool::Function(function) => only.is_none_or(|name| function.name == *name),
        Tool::BuiltIn(_) => only.is_none(),
    };
    let tools: Vec<&Tool<'_>> = tools.into_iter().filter(offered).collect();
    if tools.is_empty() && fallback.is_none() {
        return Ok(());
    }
    if only.is_some() {
        notes.mapped("tool_choice", "the tool is offered alone, and some tool must be called");
    }
    let mut list = body.array("tools");
    for tool in &tools {
        match tool {
            Tool::Function(function) => function_into(&mut list, function),
            Tool::BuiltIn(opaque) => list.item().extend_from_slice(opaque.json.get().as_bytes()),
        }
    }
    if let Some(schema) = fallback {
        notes.mapped("response_format", "a tool call stands in for a schema");
        fallback_into(&mut list, schema);
    }
    list.end();
    strict(body, &tools, notes);
    choice(body, request, target, notes, fallback.is_some())?;
    if request.parallel_tools == Some(false) {
        notes.dropped("parallel_tool_calls", "the upstream calls as many tools at once as it likes")?;
    }
    Ok(())
}

fn function_into(list: &mut Array<'_>, tool: &Function<'_>) {
    let mut object = list.object();
    object.string("type", "function");
    let mut function = object.object("function");
    function.text("name", &tool.name);
    function.maybe_text("description", tool.description.as_ref());
    match &tool.parameters {
        Some(parameters) => function.json("parameters", parameters),
        None => function.raw("parameters", NO_PARAMETERS),
    }
    function.end();
    object.end();
}

fn fallback_into(list: &mut Array<'_>, schema: &Json<'_>) {
    let mut object = list.object();
    object.string("type", "function");
    let mut function = object.object("function");
    function.string("name", FALLBACK_TOOL);
    function.string("description", "Gives the answer. Always call this, once.");
    function.json("parameters", schema);
    function.end();
    object.end();
}

/// Either all tools are strict here or none is.
fn strict(body: &mut Object<'_>, tools: &[&Tool<'_>], notes: &mut Notes) {
    let is_strict = |tool: &&Tool<'_>| matches!(tool, Tool::Function(Function { strict: Some(true), .. }));
    let strict = tools.iter().filter(|tool| is_strict(tool)).count();
    if strict > 0 && strict == tools.len() {
        body.boolean("strict_tools", true);
    } else if strict > 0 {
        notes.mapped("tools: strict", "the upstream keeps all schemas or none; not all tools ask for it");
    }
}

fn choice(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
    fallback: bool,
) -> Result<(), Error> {
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    match &request.tool_choice {
        _ if (forced || fallback) && target.facts.forced_tools == Taken::No => {
            let why = "the upstream's model cannot be forced to call a tool; use 'auto'";
            notes.dropped("tool_choice", why)?;
        }
        _ if forced || fallback => body.string("tool_choice", "REQUIRED"),
        Some(ToolChoice::None) => body.string("tool_choice", "NONE"),
        Some(ToolChoice::Opaque(_)) => {
            notes.dropped("tool_choice", "is not known to the upstream; use 'auto' or a tool's name")?;
        }
        _ => {}
    }
    Ok(())
}

// === Parameters ===

fn output(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    match (&request.output, target.facts.structured) {
        (Output::Text, _) | (Output::Schema(_), Structured::Tool) => {}
        (_, Structured::No) => {
            let why = "the upstream's model has no structured output; ask in words";
            notes.dropped("response_format", why)?;
        }
        (Output::Object, _) => body.raw("response_format", "{\"type\":\"json_object\"}"),
        (Output::Schema(schema), Structured::Schema) => {
            let mut format = body.object("response_format");
            format.string("type", "json_object");
            format.json("json_schema", &schema.schema);
            format.end();
        }
    }
    Ok(())
}

fn sampling(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    let takes = match target.facts.sampling {
        Takes::Taken => Takes::UpTo(1.0),
        takes => takes,
    };
    let Admitted { temperature, top_p, top_k } = takes.admit(sampling, notes)?;
    let within = |name: &str, value: Option<f64>, (least, most): (f64, f64), notes: &mut Notes| {
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            notes.mapped(name, "is clamped to what the upstream takes");
        }
        value.map(|value| value.clamp(least, most))
    };
    let (frequency, presence) = (sampling.frequency_penalty, sampling.presence_penalty);
    let numbers = [
        ("temperature", temperature),
        ("p", within("top_p", top_p, TOP_P, notes)),
        ("frequency_penalty", within("frequency_penalty", frequency, (0.0, 1.0), notes)),
        ("presence_penalty", within("presence_penalty", presence, (0.0, 1.0), notes)),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            body.number(name, value);
        }
    }
    if let Some(top_k) = top_k {
        body.count("k", top_k);
    }
    if let Some(seed) = sampling.seed {
        body.integer("seed", seed);
    }
    sampling.one_reply(notes)?;
    // It tells them in a shape of its own, which no client reads.
    sampling.without(&["logit_bias", "logprobs", "top_logprobs"], notes)?;
    let most = target.facts.most_stops.unwrap_or(STOPS);
    let stops = sampling.stops_within(Some(most), notes)?;
    if !stops.is_empty() {
        let mut list = body.array("stop_sequences");
        stops.iter().for_each(|stop: &Text<'_>| stop.quote_into(list.item()));
        list.end();
    }
    Ok(())
}

fn thinking(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    limit: Option<u64>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let asked = &request.thinking;
    if asked.mode.is_none() && asked.effort.is_none() {
        return Ok(());
    }
    if target.facts.thinking == Knob::None {
        return notes.dropped("reasoning", "the upstream's model cannot be told how much to think");
    }
    if asked.mode == Some(Mode::Off) {
        body.raw("thinking", "{\"type\":\"disabled\"}");
        return Ok(());
    }
    let mut thinking = body.object("thinking");
    thinking.string("type", "enabled");
    let budget = match (asked.mode, asked.effort) {
        (Some(Mode::Budget(tokens)), _) => Some(tokens),
        (_, Some(effort)) => {
            notes.mapped("reasoning", "an effort becomes a budget of tokens");
            Some(target.facts.budgets.tokens(effort))
        }
        _ => None,
    };
    if let Some(tokens) = budget {
        // What is thought counts as output.
        let fitted = limit.map_or(tokens, |limit| Budgets::fit(tokens, limit));
        if fitted != tokens {
            notes.mapped("reasoning", "the budget is fitted to the bound on output");
        }
        thinking.count("token_budget", fitted);
    }
    thinking.end();
    Ok(())
}

/// Notes what Cohere has no place for.
fn unknown(request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    let is_marked = |tool: &Tool<'_>| matches!(tool, Tool::Function(Function { cache: Some(_), .. }));
    if request.cache.is_some() || request.tools.iter().any(is_marked) {
        notes.mapped("cache_control", "the upstream decides by itself what it caches");
    }
    let tier = request.service_tier.as_ref();
    let given = [
        ("user", request.user.is_some()),
        ("metadata", request.metadata.is_some()),
        ("service_tier", tier.is_some_and(|tier| !matches!(tier.plain().as_ref(), "auto" | "default"))),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        notes.dropped(name, "has no equal in the upstream's dialect; leave it out")?;
    }
    Ok(())
}
