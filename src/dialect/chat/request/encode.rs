//! Writing chat requests.

use super::conversation::Messages;
use super::strict::strict;
use crate::dialect::ir::target::{Knob, LimitName, Structured, Taken};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Admitted, Delivery, Effort, FALLBACK_TOOL, Function, Leftover, Mode, Notes, Origin, Output, Request,
    Schema, Target, Text, Tool, ToolChoice,
};
use crate::error::Error;

/// The longest `user` that OpenAI takes, in bytes.
const USER: usize = 64;

/// Writes a chat request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    body.string("model", target.model);
    let mut messages = Messages { list: body.array("messages"), target, notes };
    messages.all(&request.messages)?;
    messages.list.end();
    tools(&mut body, request, target, notes)?;
    output(&mut body, request, target, notes)?;
    sampling(&mut body, request, target, notes)?;
    limit(&mut body, request, target, notes);
    thinking(&mut body, request, target, notes)?;
    about(&mut body, request, notes)?;
    let is_marked = |tool: &Tool<'_>| matches!(tool, Tool::Function(Function { cache: Some(_), .. }));
    if request.cache.is_some() || request.tools.iter().any(is_marked) {
        notes.mapped("cache_control", "the upstream decides by itself what it caches");
    }
    request.note_display(notes);
    if request.delivery != Delivery::Whole {
        body.boolean("stream", true);
        body.raw("stream_options", "{\"include_usage\":true}");
    }
    let own = |left: &Leftover<'_>| match request.origin {
        Origin::Chat => left.top().is_some(),
        Origin::Responses => left.is_openais(),
        _ => false,
    };
    let is_verbosity =
        |left: &Leftover<'_>| request.origin == Origin::Responses && left.path == "text.verbosity";
    for left in &request.left {
        if own(left) {
            body.json(&left.path, &left.raw);
        } else if is_verbosity(left) {
            body.json("verbosity", &left.raw);
        }
    }
    body.end();
    request.note_left(notes, |left| own(left) || is_verbosity(left))?;
    Ok(out)
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
    let tools = request.tools_for(Origin::Chat, notes)?;
    // An empty list is refused upstream.
    if tools.is_empty() && fallback.is_none() {
        return Ok(());
    }
    let mut list = body.array("tools");
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                let strict = strict(function, request.origin, notes);
                function_into(list.object(), function, strict);
            }
            Tool::BuiltIn(opaque) => list.item().extend_from_slice(opaque.json.get().as_bytes()),
        }
    }
    if let Some(schema) = fallback {
        fallback_into(list.object(), schema);
    }
    list.end();
    if fallback.is_some() {
        notes.mapped("response_format", "the upstream has no schemas; a tool call stands in");
        request.note_schema_words(notes)?;
    }
    choice(body, request, target, notes, fallback.is_some())?;
    if let Some(parallel) = request.parallel_tools {
        body.boolean("parallel_tool_calls", parallel);
    }
    Ok(())
}

fn function_into(mut object: Object<'_>, tool: &Function<'_>, strict: Option<bool>) {
    object.string("type", "function");
    let mut function = object.object("function");
    function.text("name", &tool.name);
    function.maybe_text("description", tool.description.as_ref());
    if let Some(parameters) = &tool.parameters {
        function.json("parameters", parameters);
    }
    if let Some(strict) = strict {
        function.boolean("strict", strict);
    }
    function.end();
    object.end();
}

fn fallback_into(mut object: Object<'_>, schema: &Schema<'_>) {
    object.string("type", "function");
    let mut function = object.object("function");
    function.string("name", FALLBACK_TOOL);
    function.string("description", "Gives the answer. Always call this, once.");
    function.json("parameters", &schema.schema);
    function.end();
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
        notes.dropped("tool_choice", "the upstream's model cannot be forced to call a tool; use 'auto'")?;
        return Ok(());
    }
    let named = |body: &mut Object<'_>, name: &Text<'_>| {
        let mut choice = body.object("tool_choice");
        choice.string("type", "function");
        let mut function = choice.object("function");
        function.text("name", name);
        function.end();
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
        Some(ToolChoice::Opaque(opaque)) if opaque.origin == Origin::Chat => {
            body.json("tool_choice", &opaque.json);
        }
        Some(ToolChoice::Opaque(_)) => {
            notes.dropped("tool_choice", "is not known in chat; use 'auto', 'any' or a tool's name")?;
        }
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
            notes
                .dropped("response_format", "the upstream's model has no structured output; ask in words")?;
        }
        (Output::Object, _) => body.raw("response_format", "{\"type\":\"json_object\"}"),
        (Output::Schema(schema), Structured::Schema) => {
            let mut format = body.object("response_format");
            format.string("type", "json_schema");
            let mut of = format.object("json_schema");
            // Chat demands a name.
            match &schema.name {
                Some(name) => of.text("name", name),
                None => of.string("name", "answer"),
            }
            of.maybe_text("description", schema.description.as_ref());
            of.json("schema", &schema.schema);
            // Elsewhere a schema is always kept.
            match schema.strict {
                Some(strict) => of.boolean("strict", strict),
                None if request.origin != Origin::Chat => of.boolean("strict", true),
                None => {}
            }
            of.end();
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
    let Admitted { temperature, top_p, top_k } = target.facts.sampling.admit(sampling, notes)?;
    let numbers = [
        ("temperature", temperature),
        ("top_p", top_p),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            body.number(name, value);
        }
    }
    match (top_k, target.facts.top_k) {
        (Some(top_k), Taken::Yes) => body.count("top_k", top_k),
        (Some(_), Taken::No) => notes.dropped("top_k", "is not known to the upstream; leave it out")?,
        (None, _) => {}
    }
    if let Some(seed) = sampling.seed {
        body.integer("seed", seed);
    }
    if let Some(bias) = &sampling.logit_bias {
        body.json("logit_bias", bias);
    }
    if let Some(logprobs) = sampling.logprobs {
        body.boolean("logprobs", logprobs);
    }
    if let Some(top) = sampling.top_logprobs {
        body.count("top_logprobs", top);
    }
    sampling.one_reply(notes)?;
    let stops = sampling.stops_within(target.facts.most_stops, notes)?;
    if !stops.is_empty() {
        let mut list = body.array("stop");
        for stop in stops {
            stop.quote_into(list.item());
        }
        list.end();
    }
    Ok(())
}

fn limit(body: &mut Object<'_>, request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) {
    let Some(limit) = target.facts.limit(request.limit, notes) else { return };
    let name = match target.facts.limit_name {
        LimitName::MaxTokens => "max_tokens",
        LimitName::MaxCompletionTokens => "max_completion_tokens",
    };
    body.count(name, limit);
}

fn thinking(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let thinking = &request.thinking;
    let budgets = target.facts.budgets;
    let effort = match (thinking.effort, thinking.mode) {
        (_, Some(Mode::Off)) => None,
        (Some(effort), _) => Some(effort),
        (None, Some(Mode::Budget(tokens))) => {
            notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
            Some(budgets.effort(tokens))
        }
        (None, Some(Mode::Adaptive)) => {
            notes.mapped("thinking", "the upstream's model decides by itself how much to think");
            None
        }
        (None, None) => None,
    };
    let asks = effort.is_some() || thinking.mode.is_some();
    match (target.facts.thinking, thinking.mode, effort) {
        (Knob::None, ..) if asks => {
            notes.dropped("reasoning", "the upstream's model cannot be told how much to think")?;
        }
        (Knob::Effort, Some(Mode::Off), _) => body.string("reasoning_effort", "none"),
        (Knob::Effort, _, Some(effort)) => body.string("reasoning_effort", effort.name()),
        (Knob::Budget, mode, effort) if asks => {
            let mut reasoning = body.object("reasoning");
            budget_into(&mut reasoning, mode, effort, |effort| budgets.tokens(effort));
            reasoning.end();
        }
        _ => {}
    }
    Ok(())
}

/// OpenRouter's `reasoning`.
fn budget_into(
    reasoning: &mut Object<'_>,
    mode: Option<Mode>,
    effort: Option<Effort>,
    tokens: impl Fn(Effort) -> u64,
) {
    match (mode, effort) {
        (Some(Mode::Off), _) => reasoning.boolean("enabled", false),
        (Some(Mode::Budget(budget)), _) => reasoning.count("max_tokens", budget),
        (_, Some(effort)) => reasoning.count("max_tokens", tokens(effort)),
        _ => reasoning.boolean("enabled", true),
    }
}

/// What the client says about itself.
fn about(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    if let Some(user) = &request.user {
        let plain = user.plain();
        if plain.len() <= USER {
            body.string("user", &plain);
        } else {
            notes.mapped("user", "is longer than the upstream takes; a hash stands for it");
            body.string("user", &format!("{:016x}", crate::dialect::ir::digest(plain.as_bytes())));
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
