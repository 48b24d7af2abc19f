//! Writing the conversation of a chat request.

use crate::dialect::chat::format_of;
use crate::dialect::ir::target::{Instructions, MidInstructions, Replay, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Cache, Content, Message, Notes, Origin, Outcome, Part, Reasoning, Role, Source, Target, Text, Thought,
    ToolCall, ToolResult, data_url_into,
};
use crate::error::Error;

/// Writes messages.
pub(super) struct Messages<'o, 'r> {
    pub(super) list: Array<'o>,
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
}

impl Messages<'_, '_> {
    pub(super) fn all(&mut self, messages: &[Message<'_>]) -> Result<(), Error> {
        let head = messages.iter().take_while(|message| message.role.instructs()).count();
        let (head, rest) = messages.split_at_checked(head).unwrap_or_default();
        let place = self.target.facts.mid_instructions;
        let hoisted = rest.iter().filter(|message| message.role.instructs());
        for message in head.iter().chain(hoisted.filter(|_| place == MidInstructions::Hoist)) {
            self.instructions(message)?;
        }
        for message in rest {
            match (message.role, place) {
                (Role::System | Role::Developer, MidInstructions::InPlace) => self.instructions(message)?,
                (Role::System | Role::Developer, MidInstructions::Hoist) => {
                    self.notes.mapped("messages", "instructions are moved to the head of the conversation");
                }
                (Role::System | Role::Developer, MidInstructions::IntoUser) => {
                    self.notes
                        .mapped("messages", "instructions inside the conversation are given as the user's");
                    self.user(&message.parts)?;
                }
                (Role::User, _) => self.user(&message.parts)?,
                (Role::Assistant, _) => self.assistant(&message.parts)?,
            }
        }
        Ok(())
    }

    fn instructions(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let role = match (self.target.facts.instructions, message.role) {
            (Instructions::AsGiven, Role::Developer) | (Instructions::Developer, _) => "developer",
            _ => "system",
        };
        let marks = self.target.facts.cache_marks == Taken::Yes;
        let texts: Option<Vec<&Text<'_>>> = message
            .parts
            .iter()
            .map(|part| match part {
                Part { content: Content::Text(text), cache } if cache.is_none() || !marks => Some(text),
                _ => None,
            })
            .collect();
        // Many hosts' templates take instructions as one text alone.
        if let Some(texts) = texts.filter(|texts| texts.len() > 1) {
            let joined = Part::from(Content::Text(Text::join(texts, "\n\n")));
            return self.plain(role, &[&joined]);
        }
        let parts: Vec<&Part<'_>> = message.parts.iter().collect();
        self.plain(role, &parts)
    }

    /// A message that is nothing but content.
    fn plain(&mut self, role: &str, parts: &[&Part<'_>]) -> Result<(), Error> {
        let mut message = Object::begin(self.list.item());
        message.string("role", role);
        let result = Writer { target: self.target, notes: self.notes }.content(&mut message, parts);
        message.end();
        result
    }

    /// Tool results are messages of their own, and come first. What of them is no text follows as the user's.
    fn user(&mut self, parts: &[Part<'_>]) -> Result<(), Error> {
        let mut rest: Vec<&Part<'_>> = Vec::new();
        for part in parts {
            if let Content::ToolResult(result) = &part.content {
                rest.extend(self.tool_result(result)?);
            }
        }
        rest.extend(parts.iter().filter(|part| !matches!(part.content, Content::ToolResult(_))));
        if rest.is_empty() && !parts.is_empty() { Ok(()) } else { self.plain("user", &rest) }
    }

    fn tool_result<'p, 'a>(&mut self, result: &'p ToolResult<'a>) -> Result<Vec<&'p Part<'a>>, Error> {
        let (texts, rest): (Vec<_>, Vec<_>) =
            result.content.iter().partition(|part| matches!(part.content, Content::Text(_)));
        if !rest.is_empty() {
            self.notes.mapped("messages", "media in a tool result follow it as the user's");
        }
        let mut message = Object::begin(self.list.item());
        message.string("role", "tool");
        self.target.facts.tool_ids.write(&mut message, "tool_call_id", &result.id);
        let texts = texts.iter().filter_map(|part| match &part.content {
            Content::Text(text) => Some(text),
            _ => None,
        });
        let text = match result.outcome {
            Outcome::Success => Text::join(texts, "\n"),
            Outcome::Failure => Text::join([&Text::from("Error: "), &Text::join(texts, "\n")], ""),
        };
        message.text("content", &text);
        message.end();
        Ok(rest)
    }

    fn assistant(&mut self, parts: &[Part<'_>]) -> Result<(), Error> {
        let Self { list, target, notes } = self;
        let mut message = Object::begin(list.item());
        message.string("role", "assistant");
        let is_content = |part: &&Part<'_>| {
            !matches!(part.content, Content::Reasoning(_) | Content::ToolCall(_) | Content::Refusal(_))
        };
        let content: Vec<&Part<'_>> = parts.iter().filter(is_content).collect();
        let mut writer = Writer { target, notes };
        if content.is_empty() {
            message.raw("content", "null");
        } else {
            writer.content(&mut message, &content)?;
        }
        for part in parts {
            if let Content::Refusal(refusal) = &part.content {
                message.text("refusal", refusal);
                break;
            }
        }
        writer.reasoning(&mut message, parts)?;
        writer.tool_calls(&mut message, parts);
        message.end();
        Ok(())
    }
}

/// Writes parts of a message.
struct Writer<'r> {
    target: &'r Target<'r>,
    notes: &'r mut Notes,
}

impl Writer<'_> {
    /// A single text is written as a string, which every host takes.
    fn content(&mut self, message: &mut Object<'_>, parts: &[&Part<'_>]) -> Result<(), Error> {
        let marks = self.target.facts.cache_marks == Taken::Yes;
        match parts {
            [] => message.string("content", ""),
            [Part { content: Content::Text(text), cache }] if cache.is_none() || !marks => {
                self.unmarked(cache.as_ref());
                message.text("content", text);
            }
            parts => {
                let mut list = message.array("content");
                for part in parts {
                    self.part(&mut list, part)?;
                }
                // Where none of them has a place here, hosts want a text all the same.
                list.end_or("\"\"");
            }
        }
        Ok(())
    }

    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>) -> Result<(), Error> {
        match &part.content {
            Content::Text(text) => {
                let mut object = list.object();
                object.string("type", "text");
                object.text("text", text);
                self.cache(&mut object, part.cache.as_ref());
                object.end();
            }
            Content::Image { source, detail } => {
                self.image(list, source, detail.as_ref(), part.cache.as_ref())?;
            }
            Content::Audio(source) => self.audio(list, source)?,
            Content::Document { source, name } => self.document(list, source, name.as_ref())?,
            Content::Refusal(refusal) => {
                let mut object = list.object();
                object.string("type", "refusal");
                object.text("refusal", refusal);
                object.end();
            }
            Content::Opaque(opaque) if opaque.origin == Origin::Chat => {
                list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                self.notes.dropped(path, "is not known in chat; leave it out")?;
            }
            // These stand elsewhere in the message.
            Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {}
        }
        Ok(())
    }

    fn image(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        detail: Option<&Text<'_>>,
        cache: Option<&Cache<'_>>,
    ) -> Result<(), Error> {
        let media = self.target.facts.media;
        if media.images == Taken::No {
            return self
                .notes
                .dropped("messages: image", "the upstream's model takes no images; leave it out");
        }
        match source {
            Source::Url(_) if media.urls == Taken::No => {
                let why = "the upstream fetches no URLs; send the image as a data URL";
                return self.notes.dropped("messages: image", why);
            }
            Source::File(..) | Source::Text(_) => {
                let why = "the upstream cannot read this file; send the image as a data URL";
                return self.notes.dropped("messages: image", why);
            }
            Source::Url(_) | Source::Base64 { .. } => {}
        }
        let mut object = list.object();
        object.string("type", "image_url");
        let mut image = object.object("image_url");
        match source {
            Source::Base64 { media_type, data } => data_url_into(image.key("url"), media_type, data),
            Source::Url(url) | Source::Text(url) | Source::File(_, url) => image.text("url", url),
        }
        image.maybe_text("detail", detail);
        image.end();
        self.cache(&mut object, cache);
        object.end();
        Ok(())
    }

    fn audio(&mut self, list: &mut Array<'_>, source: &Source<'_>) -> Result<(), Error> {
        let (Source::Base64 { media_type, data }, Taken::Yes) = (source, self.target.facts.media.audio)
        else {
            let why = "the upstream's model takes no such audio; leave it out";
            return self.notes.dropped("messages: audio", why);
        };
        let format = media_type.strip_prefix("audio/").unwrap_or(media_type);
        let mut object = list.object();
        object.string("type", "input_audio");
        let mut audio = object.object("input_audio");
        audio.string("data", data);
        audio.string("format", if format == "mpeg" { "mp3" } else { format });
        audio.end();
        object.end();
        Ok(())
    }

    fn document(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        name: Option<&Text<'_>>,
    ) -> Result<(), Error> {
        if let Source::Text(text) = source {
            self.notes.mapped("messages: document", "a text document is given as text");
            let mut object = list.object();
            object.string("type", "text");
            object.text("text", text);
            object.end();
            return Ok(());
        }
        let is_known =
            matches!(source, Source::Base64 { .. } | Source::File(Origin::Chat | Origin::Responses, _));
        if !is_known || self.target.facts.media.documents == Taken::No {
            let why = "the upstream cannot read this document; send its text, or leave it out";
            return self.notes.dropped("messages: document", why);
        }
        let mut object = list.object();
        object.string("type", "file");
        let mut file = object.object("file");
        match source {
            Source::Base64 { media_type, data } => {
                // OpenAI wants a name beside the data.
                match name {
                    Some(name) => file.text("filename", name),
                    None => file.string("filename", "document.pdf"),
                }
                data_url_into(file.key("file_data"), media_type, data);
            }
            Source::File(_, id) | Source::Url(id) | Source::Text(id) => file.text("file_id", id),
        }
        file.end();
        object.end();
        Ok(())
    }

    fn cache(&mut self, object: &mut Object<'_>, cache: Option<&Cache<'_>>) {
        let Some(cache) = cache else { return };
        if self.target.facts.cache_marks == Taken::No {
            return self.unmarked(Some(cache));
        }
        let mut mark = object.object("prompt_cache_breakpoint");
        mark.string("mode", "explicit");
        match cache.ttl.as_ref().map(|ttl| ttl.plain()).as_deref() {
            Some(ttl @ ("30m" | "12h")) => mark.string("ttl", ttl),
            Some("1h") => mark.string("ttl", "12h"),
            _ => {}
        }
        mark.end();
    }

    fn unmarked(&mut self, cache: Option<&Cache<'_>>) {
        if cache.is_some() {
            self.notes.mapped("cache_control", "the upstream decides by itself what it caches");
        }
    }

    fn reasoning(&mut self, message: &mut Object<'_>, parts: &[Part<'_>]) -> Result<(), Error> {
        let thoughts: Vec<&Reasoning<'_>> = parts
            .iter()
            .filter_map(|part| match &part.content {
                Content::Reasoning(thought) => Some(thought),
                _ => None,
            })
            .collect();
        if thoughts.is_empty() {
            return Ok(());
        }
        let readable = || {
            let texts = thoughts.iter().filter_map(|thought| match &thought.text {
                Thought::Readable(text) => Some(text),
                Thought::Redacted(_) => None,
            });
            Text::join(texts, "\n")
        };
        match self.target.facts.replay {
            Replay::ReasoningContent => message.text("reasoning_content", &readable()),
            Replay::Reasoning => message.text("reasoning", &readable()),
            Replay::Details => details(message, &thoughts),
            Replay::Signed | Replay::No => {
                let why = "the upstream takes no earlier reasoning back";
                self.notes.dropped("messages: reasoning", why)?;
            }
        }
        Ok(())
    }

    fn tool_calls(&self, message: &mut Object<'_>, parts: &[Part<'_>]) {
        let mut calls = parts.iter().filter_map(|part| match &part.content {
            Content::ToolCall(call) => Some(call),
            _ => None,
        });
        let Some(first) = calls.next() else { return };
        let mut list = message.array("tool_calls");
        for call in std::iter::once(first).chain(calls) {
            self.tool_call(list.object(), call);
        }
        list.end();
    }

    fn tool_call(&self, mut object: Object<'_>, call: &ToolCall<'_>) {
        self.target.facts.tool_ids.write(&mut object, "id", &call.id);
        object.string("type", "function");
        let mut function = object.object("function");
        function.text("name", &call.name);
        call.arguments.quote_into(function.key("arguments"));
        function.end();
        if let Some((Origin::Gemini, signature)) = &call.signature {
            signature_into(&mut object, signature);
        }
        object.end();
    }
}

/// Writes Gemini's seal on a tool call where Google's own route has it.
pub(in super::super) fn signature_into(object: &mut Object<'_>, signature: &Text<'_>) {
    let mut extra = object.object("extra_content");
    let mut google = extra.object("google");
    google.text("thought_signature", signature);
    google.end();
    extra.end();
}

fn details(message: &mut Object<'_>, thoughts: &[&Reasoning<'_>]) {
    let mut list = message.array("reasoning_details");
    for (index, thought) in (0..).zip(thoughts) {
        let mut object = list.object();
        match &thought.text {
            Thought::Readable(text) => {
                object.string("type", "reasoning.text");
                object.text("text", text);
            }
            Thought::Redacted(data) => {
                object.string("type", "reasoning.encrypted");
                object.text("data", data);
            }
        }
        object.maybe_text("signature", thought.signature.as_ref());
        object.string("format", format_of(thought.origin));
        object.count("index", index);
        object.end();
    }
    list.end();
}
