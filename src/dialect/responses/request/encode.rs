//! Writing Responses requests.

use super::input::Input;
use crate::dialect::ir::target::{Knob, Replay, Structured, Taken};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Admitted, Delivery, Effort, FALLBACK_TOOL, Function, Leftover, Mode, Notes, Origin, Output, Request,
    Schema, Target, Text, Tool, ToolChoice, digest,
};
use crate::error::Error;

/// The longest `user` that OpenAI takes, in bytes.
const USER: usize = 64;
/// The smallest bound on output that OpenAI takes, in tokens.
const LEAST_OUTPUT: u64 = 16;

/// Writes a Responses request. It asks the upstream to keep nothing, and for sealed reasoning instead.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    body.string("model", target.model);
    let mut input = Input { list: body.array("input"), target, notes };
    input.all(&request.messages)?;
    if input.list.is_empty() {
        return Err(notes.nothing_to_answer());
    }
    input.list.end();
    tools(&mut body, request, target, notes)?;
    text(&mut body, request, target, notes)?;
    sampling(&mut body, request, target, notes)?;
    limit(&mut body, request, target, notes);
    reasoning(&mut body, request, target, notes)?;
    about(&mut body, request, notes)?;
    if request.cache.is_some() || marked_tools(request) {
        notes.mapped("cache_control", "the upstream decides by itself what it caches");
    }
    include(&mut body, request, target);
    body.boolean("store", false);
    if request.delivery != Delivery::Whole {
        body.boolean("stream", true);
    }
    for left in request.left.iter().filter(|left| carried(request, left)) {
        body.json(&left.path, &left.raw);
    }
    body.end();
    request.note_call_seals(notes)?;
    request.note_left(notes, |left| carried(request, left) || is_verbosity(request, left))?;
    Ok(out)
}

/// Whether a member that is left over is written as it came.
fn carried(request: &Request<'_>, left: &Leftover<'_>) -> bool {
    match request.origin {
        Origin::Responses => left.top().is_some(),
        Origin::Chat => left.is_openais(),
        _ => false,
    }
}

/// Whether this is how long the answer shall be, in the words of chat or of Responses itself.
fn is_verbosity(request: &Request<'_>, left: &Leftover<'_>) -> bool {
    match request.origin {
        Origin::Chat => left.path == "verbosity",
        Origin::Responses => left.path == "text.verbosity",
        _ => false,
    }
}

// === Tools ===

fn tools(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let fallback = match (&request.output, target.facts.structured) {
        (Output::Schema(schema), Structured::Tool) => Some(schema),
        _ => None,
    };
    let tools = request.tools_for(Origin::Responses, notes)?;
    if tools.is_empty() && fallback.is_none() {
        return Ok(());
    }
    let mut list = body.array("tools");
    for tool in tools {
        match tool {
            Tool::Function(function) => function_into(list.object(), function, request.origin),
            Tool::BuiltIn(opaque) => list.item().extend_from_slice(opaque.json.get().as_bytes()),
        }
    }
    if let Some(schema) = fallback {
        notes.mapped("response_format", "the upstream has no schemas; a tool call stands in");
        request.note_schema_words(notes)?;
        fallback_into(list.object(), schema);
    }
    list.end();
    choice(body, request, target, notes, fallback.is_some())?;
    if let Some(parallel) = request.parallel_tools {
        body.boolean("parallel_tool_calls", parallel);
    }
    Ok(())
}

/// Whether any tool ends a prefix that is worth caching, which can be said of content alone.
fn marked_tools(request: &Request<'_>) -> bool {
    request.tools.iter().any(|tool| matches!(tool, Tool::Function(Function { cache: Some(_), .. })))
}

/// Elsewhere a function is not strict unless it says so; here it would be.
fn function_into(mut object: Object<'_>, function: &Function<'_>, origin: Origin) {
    object.string("type", "function");
    object.text("name", &function.name);
    object.maybe_text("description", function.description.as_ref());
    match &function.parameters {
        Some(parameters) => object.json("parameters", parameters),
        None => object.raw("parameters", "{\"type\":\"object\",\"properties\":{}}"),
    }
    match function.strict {
        Some(strict) => object.boolean("strict", strict),
        None if origin == Origin::Responses => {}
        None => object.boolean("strict", false),
    }
    object.end();
}

fn fallback_into(mut object: Object<'_>, schema: &Schema<'_>) {
    object.string("type", "function");
    object.string("name", FALLBACK_TOOL);
    object.string("description", "Gives the answer. Always call this, once.");
    object.json("parameters", &schema.schema);
    object.boolean("strict", false);
    object.end();
}

fn choice(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
    fallback: bool,
) -> Result<(), Error> {
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if (forced || fallback) && target.facts.forced_tools == Taken::No {
        return notes
            .dropped("tool_choice", "the upstream's model cannot be forced to call a tool; use 'auto'");
    }
    let named = |body: &mut Object<'_>, name: &Text<'_>| {
        let mut choice = body.object("tool_choice");
        choice.string("type", "function");
        choice.text("name", name);
        choice.end();
    };
    match &request.tool_choice {
        _ if fallback && request.tools.is_empty() => named(body, &Text::from(FALLBACK_TOOL)),
        _ if fallback => body.string("tool_choice", "required"),
        None => {}
        Some(ToolChoice::Auto) => body.string("tool_choice", "auto"),
        Some(ToolChoice::None) => body.string("tool_choice", "none"),
        Some(ToolChoice::Required) => body.string("tool_choice", "required"),
        Some(ToolChoice::Named(name)) => named(body, name),
        Some(ToolChoice::Opaque(opaque)) if opaque.origin == Origin::Responses => {
            body.json("tool_choice", &opaque.json);
        }
        Some(ToolChoice::Opaque(_)) => {
            notes.dropped("tool_choice", "is not known in Responses; use 'auto' or a tool's name")?;
        }
    }
    Ok(())
}

// === Parameters ===

/// Writes `text`: the shape of the answer, and how long it shall be.
fn text(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let output = match (&request.output, target.facts.structured) {
        (Output::Schema(_), Structured::Tool) => &Output::Text,
        (Output::Object | Output::Schema(_), Structured::No) => {
            let why = "the upstream's model has no structured output; ask in words";
            notes.dropped("response_format", why)?;
            &Output::Text
        }
        (output, _) => output,
    };
    let verbosity = request.left.iter().find(|left| is_verbosity(request, left));
    if matches!(output, Output::Text) && verbosity.is_none() {
        return Ok(());
    }
    let mut text = body.object("text");
    match output {
        Output::Text => {}
        Output::Object => text.raw("format", "{\"type\":\"json_object\"}"),
        Output::Schema(schema) => {
            let mut format = text.object("format");
            format.string("type", "json_schema");
            match &schema.name {
                Some(name) => format.text("name", name),
                None => format.string("name", "answer"),
            }
            format.maybe_text("description", schema.description.as_ref());
            format.json("schema", &schema.schema);
            match (schema.strict, request.origin) {
                (Some(strict), _) => format.boolean("strict", strict),
                (None, Origin::Chat | Origin::Responses) => {}
                // Elsewhere a schema is always kept.
                (None, _) => format.boolean("strict", true),
            }
            format.end();
        }
    }
    if let Some(left) = verbosity {
        text.json("verbosity", &left.raw);
    }
    text.end();
    Ok(())
}

fn sampling(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    let Admitted { temperature, top_p, top_k } = target.facts.sampling.admit(sampling, notes)?;
    for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
        if let Some(value) = value {
            body.number(name, value);
        }
    }
    match (top_k, target.facts.top_k) {
        (Some(top_k), Taken::Yes) => body.count("top_k", top_k),
        (Some(_), Taken::No) => notes.dropped("top_k", "is not known to the upstream; leave it out")?,
        (None, _) => {}
    }
    if let Some(top) = sampling.top_logprobs {
        body.count("top_logprobs", top);
    }
    sampling.one_reply(notes)?;
    sampling.without(&["frequency_penalty", "presence_penalty", "seed", "logit_bias"], notes)?;
    if !sampling.stops.is_empty() {
        notes.dropped("stop", "the upstream's dialect has no stop sequences; leave it out")?;
    }
    Ok(())
}

fn limit(body: &mut Object<'_>, request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) {
    let Some(limit) = target.facts.limit(request.limit, notes) else { return };
    if limit < LEAST_OUTPUT && request.origin != Origin::Responses {
        notes.mapped("max_tokens", "is raised to the least that the upstream takes");
        body.count("max_output_tokens", LEAST_OUTPUT);
    } else {
        body.count("max_output_tokens", limit);
    }
}

fn reasoning(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let asked = &request.thinking;
    let word = match (asked.mode, asked.effort) {
        (Some(Mode::Off), _) => Some("none"),
        (_, Some(effort)) => Some(effort.name()),
        (Some(Mode::Budget(tokens)), None) => {
            notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
            Some(Effort::name(target.facts.budgets.effort(tokens)))
        }
        (Some(Mode::Adaptive) | None, None) => None,
    };
    let summary = summary(request);
    if word.is_none() && summary.is_none() {
        return Ok(());
    }
    if target.facts.thinking == Knob::None {
        return notes.dropped("reasoning", "the upstream's model cannot be told how much to think");
    }
    let mut reasoning = body.object("reasoning");
    if let Some(word) = word {
        reasoning.string("effort", word);
    }
    reasoning.maybe_text("summary", summary.as_ref());
    reasoning.end();
    Ok(())
}

/// What is shown of the reasoning. In the other dialects that show any, it is shown unless they are told not to.
fn summary<'r>(request: &'r Request<'_>) -> Option<Text<'r>> {
    let asked = &request.thinking;
    let shown = asked.display.as_ref();
    match (request.origin, asked.mode) {
        (Origin::Responses, _) => shown.map(Text::borrowed),
        (Origin::Chat, _) | (_, Some(Mode::Off)) => None,
        (_, None) => shown.filter(|shown| **shown != *"omitted").map(|_| Text::from("auto")),
        _ => shown.is_none_or(|shown| *shown != *"omitted").then(|| Text::from("auto")),
    }
}

/// Asks for what is told beside the answer.
fn include(body: &mut Object<'_>, request: &Request<'_>, target: &Target<'_>) {
    let reasons = target.facts.thinking != Knob::None && target.facts.replay == Replay::Signed;
    let logprobs = request.sampling.logprobs == Some(true);
    if !reasons && !logprobs {
        return;
    }
    let mut list = body.array("include");
    if reasons {
        list.item().extend_from_slice(b"\"reasoning.encrypted_content\"");
    }
    if logprobs {
        list.item().extend_from_slice(b"\"message.output_text.logprobs\"");
    }
    list.end();
}

/// What the client says about itself.
fn about(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    if let Some(user) = &request.user {
        let plain = user.plain();
        if plain.len() <= USER {
            body.string("user", &plain);
        } else {
            notes.mapped("user", "is longer than the upstream takes; a hash stands for it");
            body.string("user", &format!("{:016x}", digest(plain.as_bytes())));
        }
    }
    if let Some(metadata) = &request.metadata {
        body.json("metadata", metadata);
    }
    let Some(tier) = &request.service_tier else { return Ok(()) };
    match (request.origin, tier.plain().as_ref()) {
        (Origin::Chat | Origin::Responses, _) | (_, "auto") => body.text("service_tier", tier),
        (Origin::Messages, "standard_only") => body.string("service_tier", "default"),
        _ => notes.dropped("service_tier", "the upstream has no such tier; leave it out")?,
    }
    Ok(())
}
