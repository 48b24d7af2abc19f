//! Writing the conversation of a Gemini request.

use std::borrow::Cow;

use crate::dialect::ir::target::{Knob, MidInstructions, Replay, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Cache, Calls, Content, Json, Message, Notes, Origin, Outcome, Part, Reasoning, Request, Role, Source,
    Target, Text, Thought, ToolCall, ToolResult, Turn, base64_into, turns,
};
use crate::error::Error;

/// What Google documents to stand for a seal that was lost: a model that seals its calls refuses one without.
const NO_SEAL: &str = "skip_thought_signature_validator";

/// Types of files by the ends of their names. Vertex AI demands a type beside a URL.
const KINDS: [(&str, &str); 12] = [
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".webp", "image/webp"),
    (".gif", "image/gif"),
    (".heic", "image/heic"),
    (".pdf", "application/pdf"),
    (".txt", "text/plain"),
    (".mp3", "audio/mpeg"),
    (".wav", "audio/wav"),
    (".mp4", "video/mp4"),
    (".webm", "video/webm"),
];

/// Writes parts.
pub(super) struct Writer<'r> {
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
}

/// The parts of one content, as they are written.
struct Parts<'o, 's> {
    list: Array<'o>,
    /// A seal that waits for the part it stands on.
    seal: Option<&'s Text<'s>>,
    first_call: FirstCall,
}

/// Whether a call was written: only the first of a turn has to be sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstCall {
    ToCome,
    Written,
}

impl Writer<'_> {
    /// Writes `systemInstruction` and `contents`.
    pub(super) fn conversation(&mut self, body: &mut Object<'_>, request: &Request<'_>) -> Result<(), Error> {
        let messages = &request.messages;
        let head = messages.iter().take_while(|message| message.role.instructs()).count();
        let (head, rest) = messages.split_at_checked(head).unwrap_or_default();
        let hoists = self.target.facts.mid_instructions == MidInstructions::Hoist;
        let hoisted = rest.iter().filter(|message| hoists && message.role.instructs());
        let instructions: Vec<&Part<'_>> =
            head.iter().chain(hoisted).flat_map(|message| &message.parts).collect();
        let written = self.parts(&instructions)?;
        if written != b"[]" {
            let mut system = body.object("systemInstruction");
            system.key("parts").extend_from_slice(&written);
            system.end();
        }
        let rest = self.without_instructions(rest, hoists);
        let mut list = body.array("contents");
        let turns = turns(rest.iter());
        let mut calls = Calls::default();
        for turn in &turns {
            self.turn(&mut list, turn, &calls)?;
            calls.add(turn.parts.iter().copied());
        }
        if list.is_empty() {
            return Err(self.notes.nothing_to_answer());
        }
        list.end();
        Ok(())
    }

    /// The conversation with its instructions as words of the user: Gemini has no other place for them.
    fn without_instructions<'m, 'a>(
        &mut self,
        rest: &'m [Message<'a>],
        hoists: bool,
    ) -> Cow<'m, [Message<'a>]> {
        if !rest.iter().any(|message| message.role.instructs()) {
            return Cow::Borrowed(rest);
        }
        self.notes.mapped("messages", "instructions inside the conversation are moved");
        let stay = rest.iter().filter(|message| !(hoists && message.role.instructs()));
        let said = |message: &Message<'a>| match message.role {
            Role::Assistant => message.clone(),
            _ => Message { role: Role::User, ..message.clone() },
        };
        Cow::Owned(stay.map(said).collect())
    }

    /// Writes what one side says. Results stand apart from everything else, in the order of their calls: what has no
    /// id is told apart by its order.
    fn turn(&mut self, list: &mut Array<'_>, turn: &Turn<'_, '_>, calls: &Calls<'_>) -> Result<(), Error> {
        let is_result = |part: &&Part<'_>| matches!(part.content, Content::ToolResult(_));
        let (mut results, others): (Vec<&Part<'_>>, Vec<&Part<'_>>) =
            turn.parts.iter().partition(|part| is_result(part));
        results.sort_by_cached_key(|part| match &part.content {
            Content::ToolResult(result) => calls.order(&result.id),
            _ => None,
        });
        if !results.is_empty() {
            let mut content = list.object();
            content.string("role", "user");
            let mut parts = content.array("parts");
            for part in results {
                if let Content::ToolResult(result) = &part.content {
                    self.unmarked(part.cache.as_ref());
                    self.function_response(parts.object(), result, calls)?;
                }
            }
            parts.end();
            content.end();
        }
        let written = self.parts(&others)?;
        if written != b"[]" {
            let mut content = list.object();
            content.string("role", if turn.role == Role::Assistant { "model" } else { "user" });
            content.key("parts").extend_from_slice(&written);
            content.end();
        }
        Ok(())
    }

    fn parts(&mut self, parts: &[&Part<'_>]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut written = Parts { list: Array::begin(&mut out), seal: None, first_call: FirstCall::ToCome };
        for part in parts {
            self.unmarked(part.cache.as_ref());
            self.part(&mut written, part)?;
        }
        written.flush();
        written.list.end();
        Ok(out)
    }

    fn part<'s>(&mut self, parts: &mut Parts<'_, 's>, part: &'s Part<'s>) -> Result<(), Error> {
        if !matches!(part.content, Content::ToolCall(_)) {
            parts.flush();
        }
        match &part.content {
            Content::Text(text) | Content::Refusal(text) if text.is_empty() => {}
            Content::Text(text) | Content::Refusal(text) => text_into(parts.list.object(), text),
            Content::Image { source, detail } => {
                if detail.as_ref().is_some_and(|detail| *detail != *"auto") {
                    self.notes
                        .mapped("messages: detail", "the upstream looks at images as closely as it likes");
                }
                self.medium(&mut parts.list, source, "image", self.target.facts.media.images)?;
            }
            Content::Audio(source) => {
                self.medium(&mut parts.list, source, "audio", self.target.facts.media.audio)?;
            }
            Content::Document { source, name } => {
                if name.is_some() {
                    self.notes.mapped("messages: filename", "the upstream is not told the names of files");
                }
                self.medium(&mut parts.list, source, "document", self.target.facts.media.documents)?;
            }
            Content::ToolCall(call) => self.function_call(parts, call),
            // These were written before.
            Content::ToolResult(_) => {}
            Content::Reasoning(thought) => self.thought(parts, thought)?,
            Content::Opaque(opaque) if opaque.origin == Origin::Gemini => {
                parts.list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                self.notes.dropped(path, "is not known in Gemini; leave it out")?;
            }
        }
        Ok(())
    }

    fn unmarked(&mut self, cache: Option<&Cache<'_>>) {
        if cache.is_some() {
            self.notes.mapped("cache_control", "the upstream decides by itself what it caches");
        }
    }

    fn medium(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        kind: &str,
        taken: Taken,
    ) -> Result<(), Error> {
        let readable = match source {
            Source::Base64 { .. } | Source::Text(_) | Source::File(Origin::Gemini, _) => true,
            Source::Url(_) => self.target.facts.media.urls == Taken::Yes,
            Source::File(..) => false,
        };
        if taken == Taken::No || !readable {
            let why = "the upstream's model cannot read this; send it in base64, or leave it out";
            return self.notes.dropped(format_args!("messages: {kind}"), why);
        }
        let mut part = list.object();
        match source {
            Source::Text(text) => part.text("text", text),
            Source::Base64 { media_type, data } => {
                let mut inline = part.object("inlineData");
                inline.string("mimeType", media_type);
                let out = inline.key("data");
                out.push(b'"');
                base64_into(out, data);
                out.push(b'"');
                inline.end();
            }
            Source::Url(uri) | Source::File(_, uri) => {
                let mut file = part.object("fileData");
                if let Some(kind) = kind_of(&uri.plain()) {
                    file.string("mimeType", kind);
                }
                file.text("fileUri", uri);
                file.end();
            }
        }
        part.end();
        Ok(())
    }

    fn function_call<'s>(&mut self, parts: &mut Parts<'_, 's>, call: &'s ToolCall<'s>) {
        let before = parts.seal.take();
        let own =
            call.signature.as_ref().filter(|(origin, _)| *origin == Origin::Gemini).map(|(_, seal)| seal);
        let mut part = parts.list.object();
        let mut function = part.object("functionCall");
        function.text("name", &call.name);
        if !call.arguments.object_into(function.key("args")) {
            self.notes.mapped("messages: arguments", "are no JSON object; they are given inside one");
        }
        function.end();
        // The models that take levels of thinking are those that demand seals.
        let demands = self.target.facts.thinking == Knob::Effort && parts.first_call == FirstCall::ToCome;
        match own.or(before) {
            Some(seal) => part.text("thoughtSignature", seal),
            None if demands => part.string("thoughtSignature", NO_SEAL),
            None => {}
        }
        parts.first_call = FirstCall::Written;
        part.end();
    }

    /// Writes a result, which has to be an object, with its media beside it.
    fn function_response(
        &mut self,
        mut part: Object<'_>,
        result: &ToolResult<'_>,
        calls: &Calls<'_>,
    ) -> Result<(), Error> {
        let Some(name) = calls.name(&result.id) else {
            return Err(self.notes.refused("messages: tool result", "has no tool call before it"));
        };
        let is_text = |part: &&Part<'_>| matches!(part.content, Content::Text(_) | Content::Refusal(_));
        let (texts, media): (Vec<&Part<'_>>, Vec<&Part<'_>>) = result.content.iter().partition(is_text);
        let texts: Vec<&Text<'_>> = texts
            .into_iter()
            .filter_map(|part| match &part.content {
                Content::Text(text) | Content::Refusal(text) => Some(text),
                _ => None,
            })
            .collect();
        let mut response = part.object("functionResponse");
        response.text("name", name);
        match (texts.as_slice(), result.outcome) {
            ([text], Outcome::Success) if let Some(object) = Json::object(text.plain()) => {
                response.json("response", &object);
            }
            (texts, outcome) => {
                let mut object = response.object("response");
                let name = if outcome == Outcome::Failure { "error" } else { "result" };
                object.text(name, &Text::join(texts.iter().copied(), "\n"));
                object.end();
            }
        }
        let media = self.parts(&media)?;
        if media != b"[]" {
            response.key("parts").extend_from_slice(&media);
        }
        response.end();
        part.end();
        Ok(())
    }

    /// Writes a thought. Only what Gemini sealed is shown to it again.
    fn thought<'s>(&mut self, parts: &mut Parts<'_, 's>, thought: &'s Reasoning<'s>) -> Result<(), Error> {
        let own = thought.origin == Origin::Gemini && self.target.facts.replay != Replay::No;
        match (&thought.text, &thought.signature) {
            (Thought::Readable(text), Some(seal)) if own => {
                if !text.is_empty() {
                    let mut part = parts.list.object();
                    part.text("text", text);
                    part.boolean("thought", true);
                    part.end();
                }
                parts.seal = Some(seal);
                Ok(())
            }
            _ => self
                .notes
                .dropped("messages: reasoning", "the upstream takes back only reasoning that it sealed"),
        }
    }
}

impl Parts<'_, '_> {
    /// Writes the seal that waits on an empty text.
    fn flush(&mut self) {
        if let Some(seal) = self.seal.take() {
            let mut part = self.list.object();
            part.string("text", "");
            part.text("thoughtSignature", seal);
            part.end();
        }
    }
}

fn text_into(mut part: Object<'_>, text: &Text<'_>) {
    part.text("text", text);
    part.end();
}

fn kind_of(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?.to_ascii_lowercase();
    KINDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, kind)| *kind)
}
