//! Writing the items of `input`.

use crate::dialect::ir::target::{Instructions, MidInstructions, Replay, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Cache, Content, Message, Notes, Origin, Outcome, Part, Reasoning, Role, Source, Target, Text, Thought,
    ToolCall, ToolResult, data_url_into,
};
use crate::dialect::responses::unsealed;
use crate::error::Error;

/// Writes items.
pub(super) struct Input<'o, 'r> {
    pub(super) list: Array<'o>,
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
}

impl Input<'_, '_> {
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
                    let why = "instructions inside the conversation are given as the user's";
                    self.notes.mapped("messages", why);
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
        let parts: Vec<&Part<'_>> = message.parts.iter().collect();
        self.message(role, &parts)
    }

    /// A message that is nothing but content. A single text is written as a string.
    fn message(&mut self, role: &str, parts: &[&Part<'_>]) -> Result<(), Error> {
        if let [Part { content: Content::Text(text), cache: None }] = parts {
            let mut message = self.list.object();
            message.string("role", role);
            message.text("content", text);
            message.end();
            return Ok(());
        }
        let content = self.content(parts)?;
        if !content.is_empty() {
            let mut message = self.list.object();
            message.string("role", role);
            message.key("content").extend_from_slice(&content);
            message.end();
        }
        Ok(())
    }

    /// Results of tools come first.
    fn user(&mut self, parts: &[Part<'_>]) -> Result<(), Error> {
        for part in parts {
            match &part.content {
                Content::ToolResult(result) => self.tool_result(result)?,
                Content::Opaque(opaque) if is_item(part) => {
                    self.list.item().extend_from_slice(opaque.json.get().as_bytes());
                }
                _ => {}
            }
        }
        let said = |part: &&Part<'_>| !matches!(part.content, Content::ToolResult(_)) && !is_item(part);
        let rest: Vec<&Part<'_>> = parts.iter().filter(said).collect();
        if rest.is_empty() { Ok(()) } else { self.message("user", &rest) }
    }

    fn tool_result(&mut self, result: &ToolResult<'_>) -> Result<(), Error> {
        let is_text = |part: &Part<'_>| matches!(part.content, Content::Text(_));
        let failed = result.outcome == Outcome::Failure;
        let mark = Part::from(Content::Text(Text::from("Error: ")));
        let texts = result.content.iter().filter_map(|part| match &part.content {
            Content::Text(text) => Some(text),
            _ => None,
        });
        let output = if result.content.iter().all(is_text) {
            let text = Text::join(texts, "\n");
            let text = if failed { Text::join([&Text::from("Error: "), &text], "") } else { text };
            let mut output = Vec::new();
            text.quote_into(&mut output);
            output
        } else {
            let parts: Vec<&Part<'_>> = failed.then_some(&mark).into_iter().chain(&result.content).collect();
            self.content(&parts)?
        };
        let mut item = self.list.object();
        item.string("type", "function_call_output");
        self.target.facts.tool_ids.write(&mut item, "call_id", &result.id);
        match output.as_slice() {
            [] => item.string("output", ""),
            output => item.key("output").extend_from_slice(output),
        }
        item.end();
        Ok(())
    }

    /// What the model said in a row becomes items again, in its order.
    fn assistant(&mut self, parts: &[Part<'_>]) -> Result<(), Error> {
        let mut said: Vec<&Part<'_>> = Vec::new();
        for part in parts {
            if matches!(part.content, Content::Text(_) | Content::Refusal(_)) {
                said.push(part);
                continue;
            }
            self.said(&mut said);
            match &part.content {
                Content::ToolCall(call) => self.call(call),
                Content::Reasoning(thought) => self.reasoning(thought)?,
                Content::Opaque(opaque) if is_item(part) => {
                    self.list.item().extend_from_slice(opaque.json.get().as_bytes());
                }
                Content::Opaque(opaque) => self.unknown(&opaque.kind)?,
                _ => {
                    let why = "the upstream takes no media as the model's; leave it out";
                    self.notes.dropped("messages: media of the assistant", why)?;
                }
            }
        }
        self.said(&mut said);
        Ok(())
    }

    /// Writes the answer so far as a message of the model.
    fn said(&mut self, parts: &mut Vec<&Part<'_>>) {
        if parts.is_empty() {
            return;
        }
        let mut message = self.list.object();
        message.string("role", "assistant");
        if let [Part { content: Content::Text(text), .. }] = parts.as_slice() {
            message.text("content", text);
        } else {
            message.string("type", "message");
            let mut content = message.array("content");
            for part in parts.iter() {
                let mut object = content.object();
                if let Content::Text(text) = &part.content {
                    object.string("type", "output_text");
                    object.text("text", text);
                } else if let Content::Refusal(text) = &part.content {
                    object.string("type", "refusal");
                    object.text("refusal", text);
                }
                object.end();
            }
            content.end();
        }
        message.end();
        parts.clear();
    }

    fn call(&mut self, call: &ToolCall<'_>) {
        let mut item = self.list.object();
        item.string("type", "function_call");
        self.target.facts.tool_ids.write(&mut item, "call_id", &call.id);
        item.text("name", &call.name);
        call.arguments.quote_into(item.key("arguments"));
        item.end();
    }

    /// Sealed reasoning goes back to who sealed it; open models' servers take any text.
    fn reasoning(&mut self, thought: &Reasoning<'_>) -> Result<(), Error> {
        let own = thought.origin == Origin::Responses;
        match (self.target.facts.replay, &thought.text, &thought.signature) {
            (Replay::Signed, Thought::Readable(text), Some(seal)) if own => self.sealed(Some(text), seal),
            (Replay::Signed, Thought::Redacted(seal), _) if own => self.sealed(None, seal),
            (Replay::ReasoningContent | Replay::Reasoning | Replay::Details, Thought::Readable(text), _) => {
                let mut item = self.list.object();
                item.string("type", "reasoning");
                item.raw("summary", "[]");
                let mut list = item.array("content");
                section(list.object(), "reasoning_text", text);
                list.end();
                item.end();
            }
            _ => {
                let why = "the upstream takes back only reasoning that it sealed";
                self.notes.dropped("messages: reasoning", why)?;
            }
        }
        Ok(())
    }

    fn sealed(&mut self, text: Option<&Text<'_>>, seal: &Text<'_>) {
        let (id, encrypted) = unsealed(seal);
        let mut item = self.list.object();
        item.string("type", "reasoning");
        if let Some(id) = id {
            item.string("id", &id);
        }
        let mut list = item.array("summary");
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            section(list.object(), "summary_text", text);
        }
        list.end();
        item.string("encrypted_content", &encrypted);
        item.end();
    }

    // === Parts ===

    /// Parts as JSON; nothing where none can be said.
    fn content(&mut self, parts: &[&Part<'_>]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut list = Array::begin(&mut out);
        for part in parts {
            self.part(&mut list, part)?;
        }
        let is_empty = list.is_empty();
        list.end();
        if is_empty {
            out.clear();
        }
        Ok(out)
    }

    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>) -> Result<(), Error> {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                let mut object = list.object();
                object.string("type", "input_text");
                object.text("text", text);
                self.end(object, part.cache.as_ref());
            }
            Content::Image { source, detail } => self.image(list, source, detail.as_ref(), part)?,
            Content::Document { source, name } => self.document(list, source, name.as_ref(), part)?,
            Content::Audio(source) => self.audio(list, source)?,
            Content::Opaque(opaque) if opaque.origin == Origin::Responses => {
                list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
            Content::Opaque(opaque) => self.unknown(&opaque.kind)?,
            // These are items.
            Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {}
        }
        Ok(())
    }

    fn unknown(&mut self, kind: &Text<'_>) -> Result<(), Error> {
        let path = format!("messages: part of type '{}'", kind.plain());
        self.notes.dropped(path, "is not known in Responses; leave it out")
    }

    /// Ends a part, after its mark.
    fn end(&mut self, mut object: Object<'_>, cache: Option<&Cache<'_>>) {
        match (cache, self.target.facts.cache_marks) {
            (None, _) => {}
            (Some(_), Taken::No) => {
                self.notes.mapped("cache_control", "the upstream decides by itself what it caches");
            }
            (Some(cache), Taken::Yes) => {
                let mut mark = object.object("prompt_cache_breakpoint");
                mark.string("mode", "explicit");
                match cache.ttl.as_ref().map(|ttl| ttl.plain()).as_deref() {
                    Some(ttl @ ("30m" | "12h")) => mark.string("ttl", ttl),
                    Some("1h") => mark.string("ttl", "12h"),
                    _ => {}
                }
                mark.end();
            }
        }
        object.end();
    }

    fn image(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        detail: Option<&Text<'_>>,
        part: &Part<'_>,
    ) -> Result<(), Error> {
        if self.target.facts.media.images == Taken::No {
            return self
                .notes
                .dropped("messages: image", "the upstream's model takes no images; leave it out");
        }
        if matches!(source, Source::Text(_)) || !self.reads(source) {
            let why = "the upstream cannot read this image; send it as a data URL";
            return self.notes.dropped("messages: image", why);
        }
        let mut object = list.object();
        object.string("type", "input_image");
        match source {
            Source::Base64 { media_type, data } => data_url_into(object.key("image_url"), media_type, data),
            Source::Url(url) | Source::Text(url) => object.text("image_url", url),
            Source::File(_, id) => object.text("file_id", id),
        }
        match detail {
            Some(detail) => object.text("detail", detail),
            None => object.string("detail", "auto"),
        }
        self.end(object, part.cache.as_ref());
        Ok(())
    }

    fn document(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        name: Option<&Text<'_>>,
        part: &Part<'_>,
    ) -> Result<(), Error> {
        if let Source::Text(text) = source {
            self.notes.mapped("messages: document", "a text document is given as text");
            let mut object = list.object();
            object.string("type", "input_text");
            object.text("text", text);
            self.end(object, part.cache.as_ref());
            return Ok(());
        }
        if self.target.facts.media.documents == Taken::No || !self.reads(source) {
            let why = "the upstream cannot read this document; send its text, or leave it out";
            return self.notes.dropped("messages: document", why);
        }
        let mut object = list.object();
        object.string("type", "input_file");
        match source {
            Source::Base64 { media_type, data } => {
                // OpenAI wants a name beside the data.
                match name {
                    Some(name) => object.text("filename", name),
                    None => object.string("filename", "document.pdf"),
                }
                data_url_into(object.key("file_data"), media_type, data);
            }
            Source::Url(url) | Source::Text(url) => object.text("file_url", url),
            Source::File(_, id) => object.text("file_id", id),
        }
        self.end(object, part.cache.as_ref());
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

    /// Whether the upstream can get at the bytes. Chat's files are of the same provider.
    fn reads(&self, source: &Source<'_>) -> bool {
        match source {
            Source::Base64 { .. } | Source::Text(_) => true,
            Source::File(origin, _) => matches!(origin, Origin::Responses | Origin::Chat),
            Source::Url(_) => self.target.facts.media.urls == Taken::Yes,
        }
    }
}

/// Whether this is an item of Responses' own. Parts of messages that nobody knows are called `input_...`.
fn is_item(part: &Part<'_>) -> bool {
    match &part.content {
        Content::Opaque(opaque) => {
            opaque.origin == Origin::Responses && !opaque.kind.plain().starts_with("input_")
        }
        _ => false,
    }
}

/// Writes a text of a reasoning item.
fn section(mut object: Object<'_>, kind: &str, text: &Text<'_>) {
    object.string("type", kind);
    object.text("text", text);
    object.end();
}
