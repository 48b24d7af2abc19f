//! Writing Gemini requests.

use super::contents::Writer;
use crate::dialect::ir::target::{Knob, Sampling as Takes, Structured, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Admitted, Effort, FALLBACK_TOOL, Function, Leftover, Mode, Notes, Origin, Output, Request, Schema,
    Target, Text, Tool, ToolChoice,
};
use crate::error::Error;

/// The most stop sequences that the API takes.
const STOPS: usize = 5;
/// Where what is left of `generationConfig` stands.
const CONFIG: &str = "generationConfig.";

/// Writes a Gemini request. The model and whether to stream are said by the path.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    Writer { target, notes }.conversation(&mut body, request)?;
    tools(&mut body, request, target, notes)?;
    let mut inside = Vec::new();
    let mut config = Object::begin(&mut inside);
    let limit = target.facts.limit(request.limit, notes);
    if let Some(limit) = limit {
        config.count("maxOutputTokens", limit);
    }
    sampling(&mut config, request, target, notes)?;
    output(&mut config, request, target, notes)?;
    thinking(&mut config, request, target, notes)?;
    let own = request.origin == Origin::Gemini;
    let in_config = |left: &Leftover<'_>| own && left.path.strip_prefix(CONFIG).is_some_and(is_name);
    for left in request.left.iter().filter(|left| in_config(left)) {
        config.json(left.path.trim_start_matches(CONFIG), &left.raw);
    }
    config.end();
    if inside != b"{}" {
        body.key("generationConfig").extend_from_slice(&inside);
    }
    about(&mut body, request, notes)?;
    let at_top = |left: &Leftover<'_>| own && left.top().is_some();
    for left in request.left.iter().filter(|left| at_top(left)) {
        body.json(&left.path, &left.raw);
    }
    body.end();
    request.note_schema_words(notes)?;
    if request.origin == Origin::Responses {
        request.note_display(notes);
    }
    request.note_left(notes, |left| at_top(left) || in_config(left))?;
    Ok(out)
}

fn is_name(path: &str) -> bool {
    !path.contains(['.', '['])
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
    let tools = request.tools_for(Origin::Gemini, notes)?;
    let declares = fallback.is_some() || tools.iter().any(|tool| matches!(tool, Tool::Function(_)));
    if declares || !tools.is_empty() {
        let mut list = body.array("tools");
        if declares {
            let mut tool = list.object();
            declarations(tool.array("functionDeclarations"), &tools, fallback, notes);
            tool.end();
        }
        for tool in tools {
            if let Tool::BuiltIn(opaque) = tool {
                list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
        }
        list.end();
    }
    if request.parallel_tools == Some(false) {
        notes.dropped(
            "parallel_tool_calls",
            "the upstream cannot be held to one call at a time; leave it out",
        )?;
    }
    if declares { choice(body, request, target, notes, fallback.is_some()) } else { Ok(()) }
}

fn declarations(mut list: Array<'_>, tools: &[&Tool<'_>], fallback: Option<&Schema<'_>>, notes: &mut Notes) {
    for tool in tools {
        if let Tool::Function(function) = tool {
            declare(list.object(), function, notes);
        }
    }
    if let Some(schema) = fallback {
        notes.mapped("response_format", "the upstream has no schemas; a tool call stands in");
        let mut function = list.object();
        function.string("name", FALLBACK_TOOL);
        function.string("description", "Gives the answer. Always call this, once.");
        function.json("parametersJsonSchema", &schema.schema);
        function.end();
    }
    list.end();
}

fn declare(mut object: Object<'_>, function: &Function<'_>, notes: &mut Notes) {
    object.text("name", &function.name);
    object.maybe_text("description", function.description.as_ref());
    if let Some(parameters) = &function.parameters {
        object.json("parametersJsonSchema", parameters);
    }
    object.end();
    if function.strict == Some(true) {
        notes.mapped("tools: strict", "the upstream keeps a schema as well as it can");
    }
    if function.cache.is_some() {
        notes.mapped("cache_control", "the upstream decides by itself what it caches");
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
    if (forced || fallback) && target.facts.forced_tools == Taken::No {
        return notes
            .dropped("tool_choice", "the upstream's model cannot be forced to call a tool; use 'auto'");
    }
    let (mode, name) = match &request.tool_choice {
        _ if fallback && request.tools.is_empty() => ("ANY", Some(Text::from(FALLBACK_TOOL))),
        _ if fallback => ("ANY", None),
        None => return Ok(()),
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name.borrowed())),
        Some(ToolChoice::Opaque(opaque)) if opaque.origin == Origin::Gemini => {
            let mut config = body.object("toolConfig");
            config.json("functionCallingConfig", &opaque.json);
            config.end();
            return Ok(());
        }
        Some(ToolChoice::Opaque(_)) => {
            return notes
                .dropped("tool_choice", "is not known in Gemini; use 'auto', 'any' or a tool's name");
        }
    };
    let mut config = body.object("toolConfig");
    let mut calling = config.object("functionCallingConfig");
    calling.string("mode", mode);
    if let Some(name) = name {
        let mut names = calling.array("allowedFunctionNames");
        name.quote_into(names.item());
        names.end();
    }
    calling.end();
    config.end();
    Ok(())
}

// === generationConfig ===

fn sampling(
    config: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    let takes = match target.facts.sampling {
        Takes::Taken => Takes::UpTo(2.0),
        takes => takes,
    };
    let Admitted { temperature, top_p, top_k } = takes.admit(sampling, notes)?;
    let numbers = [
        ("temperature", temperature),
        ("topP", top_p),
        ("frequencyPenalty", sampling.frequency_penalty),
        ("presencePenalty", sampling.presence_penalty),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            config.number(name, value);
        }
    }
    if let Some(top_k) = top_k {
        config.count("topK", top_k);
    }
    if let Some(seed) = sampling.seed {
        config.integer("seed", seed);
    }
    if let Some(logprobs) = sampling.logprobs {
        config.boolean("responseLogprobs", logprobs);
    }
    if let Some(top) = sampling.top_logprobs {
        config.count("logprobs", top);
    }
    sampling.one_reply(notes)?;
    sampling.without(&["logit_bias"], notes)?;
    let most = target.facts.most_stops.unwrap_or(STOPS);
    let stops = sampling.stops_within(Some(most), notes)?;
    if !stops.is_empty() {
        let mut list = config.array("stopSequences");
        for stop in stops {
            stop.quote_into(list.item());
        }
        list.end();
    }
    Ok(())
}

fn output(
    config: &mut Object<'_>,
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
        (Output::Object, _) => config.string("responseMimeType", "application/json"),
        (Output::Schema(schema), Structured::Schema) => {
            config.string("responseMimeType", "application/json");
            config.json("responseJsonSchema", &schema.schema);
        }
    }
    Ok(())
}

/// Writes how much to think: as a level, or, for models before Gemini 3, as a budget. Both together are refused.
fn thinking(
    config: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let asked = &request.thinking;
    let asks = asked.effort.is_some() || asked.mode.is_some();
    let is_omitted = asked.display.as_ref().is_some_and(|display| *display == *"omitted");
    let shows = !is_omitted && asked.mode != Some(Mode::Off) && (asks || asked.display.is_some());
    if target.facts.thinking == Knob::None {
        if asks {
            notes.dropped("reasoning", "the upstream's model cannot be told how much to think")?;
        }
        return Ok(());
    }
    if !asks && !shows {
        return Ok(());
    }
    let mut thinking = config.object("thinkingConfig");
    if target.facts.thinking == Knob::Budget {
        match (asked.mode, asked.effort) {
            (Some(Mode::Off), _) => thinking.count("thinkingBudget", 0),
            (Some(Mode::Budget(tokens)), _) => thinking.count("thinkingBudget", tokens),
            (_, Some(effort)) => thinking.count("thinkingBudget", target.facts.budgets.tokens(effort)),
            (Some(Mode::Adaptive), None) => thinking.integer("thinkingBudget", -1),
            (None, None) => {}
        }
    } else if let Some(level) = level(request, target, notes) {
        thinking.string("thinkingLevel", level);
    }
    if shows {
        thinking.boolean("includeThoughts", true);
    }
    thinking.end();
    Ok(())
}

fn level(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Option<&'static str> {
    let effort = match (request.thinking.mode, request.thinking.effort) {
        (Some(Mode::Off), _) => {
            notes
                .mapped("reasoning", "the upstream's model always thinks; it is told to as little as it can");
            Effort::Minimal
        }
        (_, Some(effort)) => effort,
        (Some(Mode::Budget(tokens)), None) => {
            notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
            target.facts.budgets.effort(tokens)
        }
        (Some(Mode::Adaptive) | None, None) => return None,
    };
    Some(match effort {
        Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High => "HIGH",
        Effort::XHigh | Effort::Max => {
            notes.mapped("reasoning_effort", "the upstream's models take 'high' at most");
            "HIGH"
        }
    })
}

/// What the client says about itself.
fn about(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    if request.user.is_some() {
        notes.dropped("user", "the upstream is not told who the user is; leave it out")?;
    }
    if request.metadata.is_some() {
        notes.dropped("metadata", "is not stored upstream; leave it out")?;
    }
    if request.cache.is_some() {
        notes.mapped("cache_control", "the upstream decides by itself what it caches");
    }
    let Some(tier) = &request.service_tier else { return Ok(()) };
    match (request.origin, tier.plain().as_ref()) {
        (Origin::Gemini, _) => body.text("serviceTier", tier),
        (_, "auto") => {}
        (_, "default" | "standard_only") => body.string("serviceTier", "standard"),
        (_, tier @ ("flex" | "priority")) => body.string("serviceTier", tier),
        _ => notes.dropped("service_tier", "the upstream has no such tier; leave it out")?,
    }
    Ok(())
}
