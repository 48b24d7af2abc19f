//! Ollama requests.

use crate::dialect::ir::target::{Knob, Replay, Structured, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Admitted, Calls, Content, Delivery, Effort, Function, Leftover, Message, Mode, Notes, Origin, Outcome,
    Output, Part, Reasoning, Request, Role, Source, Target, Text, Thought, Tool, ToolCall, ToolChoice,
    ToolResult, base64_into,
};
use crate::error::Error;

/// Options of Ollama's own that chat's clients send.
const OPTIONS: [&str; 5] = ["min_p", "repeat_penalty", "repeat_last_n", "num_ctx", "num_keep"];

/// Writes an Ollama request.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the field that cannot be carried, where it must be.
pub fn encode(request: &Request<'_>, target: &Target<'_>, notes: &mut Notes) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    let mut body = Object::begin(&mut out);
    body.string("model", target.model);
    let calls = Calls::default();
    let mut messages = Messages { list: body.array("messages"), request, calls, target, notes };
    messages.all()?;
    messages.list.end();
    tools(&mut body, request, notes)?;
    output(&mut body, request, target, notes)?;
    thinking(&mut body, request, target, notes)?;
    options(body.object("options"), request, target, notes)?;
    unknown(request, notes)?;
    // Left out, it would be a stream.
    body.boolean("stream", request.delivery != Delivery::Whole);
    let is_chat = request.origin == Origin::Chat;
    let is_kept = |left: &Leftover<'_>| is_chat && left.path == "keep_alive";
    if let Some(left) = request.left.iter().find(|left| is_kept(left)) {
        body.json("keep_alive", &left.raw);
    }
    body.end();
    request.note_call_seals(notes)?;
    request.note_schema_words(notes)?;
    request.note_display(notes);
    request.note_left(notes, |left| is_kept(left) || is_option(request, left))?;
    Ok(out)
}

fn is_option(request: &Request<'_>, left: &Leftover<'_>) -> bool {
    request.origin == Origin::Chat && OPTIONS.contains(&left.path.as_str())
}

// === The conversation ===

struct Messages<'o, 'r> {
    list: Array<'o>,
    request: &'r Request<'r>,
    calls: Calls<'r>,
    target: &'r Target<'r>,
    notes: &'r mut Notes,
}

/// What a message says: one text, and images beside it.
#[derive(Default)]
struct Said<'p> {
    texts: Vec<&'p Text<'p>>,
    images: Vec<&'p str>,
}

impl<'r> Messages<'_, 'r> {
    fn all(&mut self) -> Result<(), Error> {
        for message in &self.request.messages {
            match message.role {
                Role::System | Role::Developer => {
                    let parts: Vec<&Part<'_>> = message.parts.iter().collect();
                    self.plain("system", &parts, "\n\n")?;
                }
                Role::User => self.user(&message.parts)?,
                Role::Assistant => {
                    self.calls.add(&message.parts);
                    self.assistant(message)?;
                }
            }
        }
        Ok(())
    }

    fn plain(&mut self, role: &str, parts: &[&'r Part<'r>], between: &str) -> Result<(), Error> {
        let said = self.said(parts)?;
        let mut message = self.list.object();
        message.string("role", role);
        message.text("content", &Text::join(said.texts, between));
        if !said.images.is_empty() {
            let mut list = message.array("images");
            for data in said.images {
                let out = list.item();
                out.push(b'"');
                base64_into(out, data);
                out.push(b'"');
            }
            list.end();
        }
        message.end();
        Ok(())
    }

    /// Tool results are messages of their own, and come first. Images in them follow as the user's.
    fn user(&mut self, parts: &'r [Part<'r>]) -> Result<(), Error> {
        let mut rest: Vec<&'r Part<'r>> = Vec::new();
        for part in parts {
            if let Content::ToolResult(result) = &part.content {
                rest.extend(self.tool_result(result));
            }
        }
        rest.extend(parts.iter().filter(|part| !matches!(part.content, Content::ToolResult(_))));
        if rest.is_empty() { Ok(()) } else { self.plain("user", &rest, "\n") }
    }

    fn tool_result(&mut self, result: &'r ToolResult<'r>) -> Vec<&'r Part<'r>> {
        let (texts, rest): (Vec<_>, Vec<_>) =
            result.content.iter().partition(|part| matches!(part.content, Content::Text(_)));
        if !rest.is_empty() {
            self.notes.mapped("messages", "media in a tool result follow it as the user's");
        }
        let texts = texts.iter().filter_map(|part| match &part.content {
            Content::Text(text) => Some(text),
            _ => None,
        });
        let text = match result.outcome {
            Outcome::Success => Text::join(texts, "\n"),
            Outcome::Failure => Text::join([&Text::from("Error: "), &Text::join(texts, "\n")], ""),
        };
        let mut message = self.list.object();
        message.string("role", "tool");
        message.maybe_text("tool_name", self.calls.name(&result.id));
        self.target.facts.tool_ids.write(&mut message, "tool_call_id", &result.id);
        message.text("content", &text);
        message.end();
        rest
    }

    fn assistant(&mut self, message: &'r Message<'r>) -> Result<(), Error> {
        let is_said =
            |part: &&Part<'_>| !matches!(part.content, Content::Reasoning(_) | Content::ToolCall(_));
        let said: Vec<&'r Part<'r>> = message.parts.iter().filter(is_said).collect();
        let said = self.said(&said)?;
        if !said.images.is_empty() {
            self.notes.dropped("messages: image", "the upstream takes no images as the model's")?;
        }
        let thoughts = self.thoughts(&message.parts)?;
        let mut object = self.list.object();
        object.string("role", "assistant");
        object.text("content", &Text::join(said.texts, "\n"));
        if !thoughts.is_empty() {
            object.text("thinking", &Text::join(thoughts, "\n"));
        }
        let mut calls = message.parts.iter().filter_map(|part| match &part.content {
            Content::ToolCall(call) => Some(call),
            _ => None,
        });
        if let Some(first) = calls.next() {
            let mut list = object.array("tool_calls");
            for call in std::iter::once(first).chain(calls) {
                call_into(list.object(), call, self.target, self.notes);
            }
            list.end();
        }
        object.end();
        Ok(())
    }

    /// The reasoning that is shown to the model again.
    fn thoughts(&mut self, parts: &'r [Part<'r>]) -> Result<Vec<&'r Text<'r>>, Error> {
        let mut thoughts = Vec::new();
        for part in parts {
            let Content::Reasoning(Reasoning { origin, text, .. }) = &part.content else { continue };
            match (text, self.target.facts.replay) {
                (Thought::Readable(text), Replay::ReasoningContent | Replay::Reasoning | Replay::Details) => {
                    thoughts.push(text);
                }
                (Thought::Readable(text), Replay::Signed) if *origin == Origin::Ollama => thoughts.push(text),
                _ => {
                    let why = "the upstream takes back only reasoning of its own";
                    self.notes.dropped("messages: reasoning", why)?;
                }
            }
        }
        Ok(thoughts)
    }

    fn said(&mut self, parts: &[&'r Part<'r>]) -> Result<Said<'r>, Error> {
        let mut said = Said::default();
        for part in parts {
            if part.cache.is_some() {
                self.notes.mapped("cache_control", "the upstream decides by itself what it caches");
            }
            match &part.content {
                Content::Text(text) | Content::Refusal(text) => said.texts.push(text),
                Content::Document { source: Source::Text(text), .. } => {
                    self.notes.mapped("messages: document", "a text document is given as text");
                    said.texts.push(text);
                }
                Content::Image { source: Source::Base64 { data, .. }, detail }
                    if self.target.facts.media.images == Taken::Yes =>
                {
                    if detail.is_some() {
                        let why = "the upstream looks at images as closely as it likes";
                        self.notes.mapped("messages: detail", why);
                    }
                    said.images.push(data);
                }
                other => self.left_out(other)?,
            }
        }
        Ok(said)
    }

    fn left_out(&mut self, content: &Content<'_>) -> Result<(), Error> {
        let notes = &mut *self.notes;
        match content {
            Content::Image { .. } => {
                let why = "the upstream takes images in base64 alone, and not with every model";
                notes.dropped("messages: image", why)
            }
            Content::Document { .. } => {
                notes.dropped("messages: document", "the upstream reads no files; send the document's text")
            }
            Content::Audio(_) => {
                Err(notes.refused("messages: audio", "the upstream takes no audio; leave it out"))
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                notes.dropped(path, "is not known to the upstream; leave it out")
            }
            // These are said already, or stand elsewhere in the message.
            Content::Text(_)
            | Content::Refusal(_)
            | Content::ToolCall(_)
            | Content::ToolResult(_)
            | Content::Reasoning(_) => Ok(()),
        }
    }
}

fn call_into(mut object: Object<'_>, call: &ToolCall<'_>, target: &Target<'_>, notes: &mut Notes) {
    target.facts.tool_ids.write(&mut object, "id", &call.id);
    let mut function = object.object("function");
    function.text("name", &call.name);
    if !call.arguments.object_into(function.key("arguments")) {
        notes.mapped("messages: arguments", "are no JSON object; they are given inside one");
    }
    function.end();
    object.end();
}

// === Tools ===

fn tools(body: &mut Object<'_>, request: &Request<'_>, notes: &mut Notes) -> Result<(), Error> {
    let tools = request.tools_for(Origin::Ollama, notes)?;
    if tools.is_empty() {
        return Ok(());
    }
    match &request.tool_choice {
        Some(ToolChoice::None) => {
            notes.mapped("tool_choice", "no tools are offered, so that none is called");
            return Ok(());
        }
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Opaque(_)) => {
            notes.dropped("tool_choice", "the upstream cannot be told which tool to call; use 'auto'")?;
        }
    }
    if request.parallel_tools == Some(false) {
        notes.dropped("parallel_tool_calls", "the upstream calls as many tools at once as it likes")?;
    }
    let mut list = body.array("tools");
    for tool in tools {
        let Tool::Function(tool) = tool else { continue };
        if tool.strict == Some(true) {
            notes.mapped("tools: strict", "the upstream does not check arguments against their schema");
        }
        let mut object = list.object();
        object.string("type", "function");
        let mut function = object.object("function");
        function.text("name", &tool.name);
        function.maybe_text("description", tool.description.as_ref());
        match &tool.parameters {
            Some(parameters) => function.json("parameters", parameters),
            None => function.raw("parameters", "{\"type\":\"object\",\"properties\":{}}"),
        }
        function.end();
        object.end();
    }
    list.end();
    Ok(())
}

// === Parameters ===

/// Writes `format`. No tool can be forced, so a schema is given as one wherever any is taken.
fn output(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    match &request.output {
        Output::Text => {}
        Output::Object | Output::Schema(_) if target.facts.structured == Structured::No => {
            let why = "the upstream's model has no structured output; ask in words";
            notes.dropped("response_format", why)?;
        }
        Output::Object => body.string("format", "json"),
        Output::Schema(schema) => body.json("format", &schema.schema),
    }
    Ok(())
}

/// Writes `think`: a word where the model knows words, else whether.
fn thinking(
    body: &mut Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let asked = &request.thinking;
    let effort = match (asked.effort, asked.mode) {
        (_, Some(Mode::Off)) => None,
        (Some(effort), _) => Some(effort),
        (None, Some(Mode::Budget(tokens))) => {
            notes.mapped("thinking.budget_tokens", "a budget becomes the nearest effort");
            Some(target.facts.budgets.effort(tokens))
        }
        (None, Some(Mode::Adaptive)) => None,
        (None, None) => return Ok(()),
    };
    match (target.facts.thinking, asked.mode, effort) {
        (Knob::None, ..) => {
            notes.dropped("reasoning", "the upstream's model cannot be told how much to think")?;
        }
        (_, Some(Mode::Off), _) => body.boolean("think", false),
        (Knob::Effort, _, Some(Effort::Minimal)) => body.string("think", Effort::Low.name()),
        (Knob::Effort, _, Some(effort)) => body.string("think", effort.name()),
        (Knob::Budget, _, Some(_)) => {
            notes.mapped("reasoning", "the upstream's model thinks as much as it likes");
            body.boolean("think", true);
        }
        (_, _, None) => body.boolean("think", true),
    }
    Ok(())
}

fn options(
    mut options: Object<'_>,
    request: &Request<'_>,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<(), Error> {
    let sampling = &request.sampling;
    if let Some(limit) = target.facts.limit(request.limit, notes) {
        options.count("num_predict", limit);
    }
    let Admitted { temperature, top_p, top_k } = target.facts.sampling.admit(sampling, notes)?;
    let numbers = [
        ("temperature", temperature),
        ("top_p", top_p),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            options.number(name, value);
        }
    }
    if let Some(top_k) = top_k {
        options.count("top_k", top_k);
    }
    if let Some(seed) = sampling.seed {
        options.integer("seed", seed);
    }
    sampling.one_reply(notes)?;
    sampling.without(&["logit_bias", "logprobs", "top_logprobs"], notes)?;
    let stops = sampling.stops_within(target.facts.most_stops, notes)?;
    if !stops.is_empty() {
        let mut list = options.array("stop");
        stops.iter().for_each(|stop| stop.quote_into(list.item()));
        list.end();
    }
    for left in request.left.iter().filter(|left| is_option(request, left)) {
        options.json(&left.path, &left.raw);
    }
    options.end();
    Ok(())
}

/// Notes what Ollama has no place for.
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
