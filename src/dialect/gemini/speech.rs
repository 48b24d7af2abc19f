//! Events as Gemini's parts.

use crate::dialect::gemini::reply::BESIDE;
use crate::dialect::ir::seal::{REDACTED, marked_base64};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Arguments, Attachment, Block, Event, Finish, Notes, Opaque, Origin, ReplyTo, Start, Stop, Text,
};
use crate::dialect::usage::Usage;

/// Turns events into parts. A part of text is as large as the delta it came in; a call is whole.
#[derive(Debug, Default)]
pub(super) struct Speech {
    pub(super) notes: Notes,
    current: Current,
    /// A seal of Gemini's that waits for the part it stands on.
    seal: Option<Text<'static>>,
    /// What belongs to the candidate rather than to a part of it.
    beside: Vec<Opaque<'static>>,
    tone: Tone,
}

/// The block that is open.
#[derive(Debug, Default)]
enum Current {
    #[default]
    None,
    Text,
    Thought,
    Call(Call),
}

/// A call, and its arguments so far as the inside of a JSON string.
#[derive(Debug)]
struct Call {
    id: Text<'static>,
    name: Text<'static>,
    arguments: String,
    seal: Option<Text<'static>>,
}

/// Whether the model gave its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tone {
    #[default]
    Answer,
    /// It said why it would not.
    Refusal,
}

impl Speech {
    /// Takes the next event, and tells of the parts that it completes.
    pub(super) fn hear(&mut self, event: &Event<'_>, tell: &mut impl FnMut(&[u8])) {
        match event {
            Event::Open { kind, .. } => self.open(kind, tell),
            Event::Delta { text, .. } => self.delta(text, tell),
            Event::Attach { what, .. } => self.attach(what, tell),
            Event::Close { .. } => {
                if let Current::Call(call) = std::mem::take(&mut self.current) {
                    self.call(call, tell);
                }
            }
            Event::Finish(_) => self.flush(tell),
            _ => {}
        }
    }

    fn open(&mut self, kind: &Block<'_>, tell: &mut impl FnMut(&[u8])) {
        if !matches!(kind, Block::ToolCall { .. }) {
            self.flush(tell);
        }
        self.current = match kind {
            Block::Text => Current::Text,
            Block::Refusal => {
                self.tone = Tone::Refusal;
                Current::Text
            }
            Block::Reasoning(_) => Current::Thought,
            Block::Redacted { origin, data } => {
                sealed_thought(*origin, &Text::new(format!("{REDACTED}{}", data.plain())), tell);
                Current::None
            }
            Block::ToolCall { id, name } => {
                let (id, name) = (id.clone().into_owned(), name.clone().into_owned());
                Current::Call(Call { id, name, arguments: String::new(), seal: None })
            }
            Block::Opaque(opaque) if opaque.origin != Origin::Gemini => {
                self.unsaid(&opaque.kind);
                Current::None
            }
            Block::Opaque(opaque) if BESIDE.iter().any(|name| opaque.kind == **name) => {
                self.beside.push(opaque.clone().into_owned());
                Current::None
            }
            Block::Opaque(opaque) => {
                tell(opaque.json.one_line().as_bytes());
                Current::None
            }
        };
    }

    fn delta(&mut self, text: &Text<'_>, tell: &mut impl FnMut(&[u8])) {
        if text.is_empty() {
            return;
        }
        match &mut self.current {
            Current::Text => part(tell, |part| part.text("text", text)),
            Current::Thought => part(tell, |part| {
                part.text("text", text);
                part.boolean("thought", true);
            }),
            Current::Call(call) => text.escape_into(&mut call.arguments),
            Current::None => {}
        }
    }

    fn attach(&mut self, what: &Attachment<'_>, tell: &mut impl FnMut(&[u8])) {
        match (what, &mut self.current) {
            (Attachment::Signature { origin: Origin::Gemini, text }, Current::Call(call)) => {
                call.seal = Some(text.clone().into_owned());
            }
            (Attachment::Signature { origin: Origin::Gemini, text }, _) => {
                self.seal = Some(text.clone().into_owned());
            }
            (Attachment::Signature { origin, text }, Current::Call(call)) => {
                call.seal = Some(Text::new(marked_base64(*origin, text)));
            }
            (Attachment::Signature { origin, text }, _) => sealed_thought(*origin, text, tell),
            (Attachment::Opaque(opaque), _) if opaque.origin == Origin::Gemini => {
                self.beside.push(opaque.clone().into_owned());
            }
            (Attachment::Opaque(opaque), _) => self.unsaid(&opaque.kind),
            (Attachment::Logprobs(_), _) => self.unsaid(&Text::from("logprobs")),
        }
    }

    fn unsaid(&mut self, what: &Text<'_>) {
        self.notes.unsaid(format_args!("reply: {}", what.plain()), "has no equal in Gemini");
    }

    fn call(&mut self, call: Call, tell: &mut impl FnMut(&[u8])) {
        let before = self.seal.take();
        let arguments = Arguments::Text(Text::Escaped(call.arguments.into()));
        let mut is_object = true;
        part(tell, |part| {
            let mut function = part.object("functionCall");
            if !call.id.is_empty() {
                function.text("id", &call.id);
            }
            function.text("name", &call.name);
            is_object = arguments.object_into(function.key("args"));
            function.end();
            part.maybe_text("thoughtSignature", call.seal.or(before).as_ref());
        });
        if !is_object {
            self.notes.unsaid("reply: arguments", "are no JSON object; they are given inside one");
        }
    }

    /// Tells of a seal that no part has taken: it stands on an empty text.
    fn flush(&mut self, tell: &mut impl FnMut(&[u8])) {
        if let Some(seal) = self.seal.take() {
            part(tell, |part| {
                part.string("text", "");
                part.text("thoughtSignature", &seal);
            });
        }
    }
}

/// A seal of another origin, which stands on its thought.
fn sealed_thought(origin: Origin, seal: &Text<'_>, tell: &mut impl FnMut(&[u8])) {
    part(tell, |part| {
        part.string("text", "");
        part.boolean("thought", true);
        part.string("thoughtSignature", &marked_base64(origin, seal));
    });
}

fn part(tell: &mut impl FnMut(&[u8]), write: impl FnOnce(&mut Object<'_>)) {
    let mut out = Vec::with_capacity(128);
    let mut object = Object::begin(&mut out);
    write(&mut object);
    object.end();
    tell(&out);
}

// === What whole replies and streams share ===

/// Writes `modelVersion` and `responseId`.
pub(super) fn head_into(body: &mut Object<'_>, start: &Start<'_>, to: &ReplyTo) {
    match to.model.as_str() {
        "" => body.text("modelVersion", &start.model),
        model => body.string("modelVersion", model),
    }
    match (start.id.is_empty(), to.id.as_str()) {
        (false, _) => body.text("responseId", &start.id),
        (true, id) => body.string("responseId", id),
    }
}

/// Writes the candidate that ends a reply, with the parts that `parts` adds to its content; or what a blocked prompt
/// has in its place.
pub(super) fn end_into(
    body: &mut Object<'_>,
    finish: &Finish<'_>,
    speech: &Speech,
    parts: impl FnOnce(&mut Object<'_>),
) {
    let own = finish.details.as_ref().filter(|details| details.origin == Origin::Gemini);
    if let Some(feedback) = own.filter(|own| own.kind == *"promptFeedback") {
        return body.raw("promptFeedback", &feedback.json.one_line());
    }
    let mut list = body.array("candidates");
    let mut candidate = list.object();
    let mut content = candidate.object("content");
    parts(&mut content);
    content.string("role", "model");
    content.end();
    match finish.raw_of(Origin::Gemini) {
        Some(raw) => candidate.text("finishReason", raw),
        None => candidate.string("finishReason", finish_reason(finish, speech.tone)),
    }
    candidate.count("index", 0);
    if let Some(message) = own.filter(|own| own.kind == *"finishMessage") {
        candidate.raw("finishMessage", &message.json.one_line());
    }
    for name in BESIDE {
        // What is said again replaces what was said before.
        if let Some(opaque) = speech.beside.iter().rfind(|opaque| opaque.kind == *name) {
            candidate.raw(name, &opaque.json.one_line());
        }
    }
    candidate.end();
    list.end();
}

fn finish_reason(finish: &Finish<'_>, tone: Tone) -> &'static str {
    match finish.stop {
        Stop::End if tone == Tone::Refusal => "SAFETY",
        Stop::End | Stop::Sequence | Stop::ToolCalls => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Filtered => "SAFETY",
        Stop::Paused => "CONTINUATION",
        Stop::Malformed => "MALFORMED_FUNCTION_CALL",
    }
}

/// Writes usage. Thoughts are not part of the candidates' tokens.
pub(super) fn usage_into(mut object: Object<'_>, usage: &Usage) {
    let Usage { input, output, .. } = usage;
    let (prompt, said) = (input.total.unwrap_or(0), output.total.unwrap_or(0));
    object.count("promptTokenCount", prompt);
    object.count("candidatesTokenCount", said.saturating_sub(output.reasoning.unwrap_or(0)));
    object.count("totalTokenCount", prompt.saturating_add(said));
    let more = [("cachedContentTokenCount", input.cached), ("thoughtsTokenCount", output.reasoning)];
    for (name, count) in more {
        if let Some(count) = count {
            object.count(name, count);
        }
    }
    object.end();
}
