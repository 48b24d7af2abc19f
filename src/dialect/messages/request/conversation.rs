//! Writing the conversation of a Messages request.

use crate::dialect::ir::seal::taken_back;
use crate::dialect::ir::target::{MidInstructions, Replay, Taken, ToolIds};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Cache, Content, Message, Notes, Origin, Outcome, Output, Part, Reasoning, Request, Role, Source, Target,
    Text, Thought, ToolCall, ToolResult, base64_into, turns,
};
use crate::error::Error;

/// The most marks of cacheable prefixes that are taken.
const MARKS: u32 = 4;

/// Writes parts, and counts the marks among them.
pub(super) struct Writer<'r> {
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
    marks: u32,
}

fn message_into(list: &mut Array<'_>, role: &str, content: &[u8]) {
    let mut message = list.object();
    message.string("role", role);
    message.key("content").extend_from_slice(content);
    message.end();
}

impl<'r> Writer<'r> {
    pub(super) fn new(target: &'r Target<'r>, notes: &'r mut Notes) -> Self {
        Self { target, notes, marks: 0 }
    }

    /// Writes `system` and `messages`.
    pub(super) fn conversation(&mut self, body: &mut Object<'_>, request: &Request<'_>) -> Result<(), Error> {
        let messages = &request.messages;
        let head = messages.iter().take_while(|message| message.role.instructs()).count();
        let (head, rest) = messages.split_at_checked(head).unwrap_or_default();
        let place = self.target.facts.mid_instructions;
        let hoists = place == MidInstructions::Hoist;
        let hoisted = rest.iter().filter(|message| hoists && message.role.instructs());
        let parts: Vec<&Part<'_>> = head.iter().chain(hoisted).flat_map(|message| &message.parts).collect();
        self.system(body, &parts, request)?;
        let stay = |message: &&Message<'_>| !(hoists && message.role.instructs());
        if rest.iter().any(|message| message.role.instructs()) && place != MidInstructions::InPlace {
            self.notes.mapped("messages", "instructions inside the conversation are moved");
        }
        let mut list = body.array("messages");
        for turn in turns(rest.iter().filter(stay)) {
            let role = match turn.role {
                Role::Assistant => "assistant",
                Role::System | Role::Developer if place == MidInstructions::InPlace => "system",
                Role::User | Role::System | Role::Developer => "user",
            };
            let content = self.content(&turn.parts)?;
            // A turn that says nothing is refused upstream.
            if content.is_empty() {
                continue;
            }
            if list.is_empty() && role == "assistant" {
                self.notes
                    .mapped("messages", "the upstream wants the user to begin; a word of its stands in");
                message_into(&mut list, "user", b"\"Begin.\"");
            }
            message_into(&mut list, role, &content);
        }
        if list.is_empty() {
            return Err(self.notes.nothing_to_answer());
        }
        list.end();
        Ok(())
    }

    fn system(
        &mut self,
        body: &mut Object<'_>,
        parts: &[&Part<'_>],
        request: &Request<'_>,
    ) -> Result<(), Error> {
        let words;
        let mut parts = parts.to_vec();
        if matches!(request.output, Output::Object) {
            self.notes.mapped("response_format", "the upstream has no JSON mode; it is asked for in words");
            words = Part::from(Content::Text(Text::from("Answer with one JSON object and nothing else.")));
            parts.push(&words);
        }
        let content = self.content(&parts)?;
        if !content.is_empty() {
            body.key("system").extend_from_slice(&content);
        }
        Ok(())
    }

    /// Parts as JSON: a string where a text is alone, and nothing where there are none.
    fn content(&mut self, parts: &[&Part<'_>]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        if let [Part { content: Content::Text(text), cache: None }] = parts {
            if !text.is_blank() {
                text.quote_into(&mut out);
            }
            return Ok(out);
        }
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
        let cache = part.cache.as_ref();
        match &part.content {
            // A blank block is refused upstream.
            Content::Text(text) | Content::Refusal(text) if text.is_blank() => {}
            Content::Text(text) | Content::Refusal(text) => {
                let mut block = list.object();
                block.string("type", "text");
                block.text("text", text);
                self.end(block, cache);
            }
            Content::Image { source, detail } => {
                if detail.as_ref().is_some_and(|detail| *detail != *"auto") {
                    self.notes
                        .mapped("messages: detail", "the upstream looks at images as closely as it likes");
                }
                self.image(list, source, cache)?;
            }
            Content::Document { source, name } => self.document(list, source, name.as_ref(), cache)?,
            Content::Audio(_) => {
                return Err(self
                    .notes
                    .refused("messages: audio", "the upstream takes no audio; leave it out"));
            }
            Content::ToolCall(call) => self.tool_use(list, call, cache),
            Content::ToolResult(result) => self.tool_result(list, result, cache)?,
            Content::Reasoning(thought) => self.thought(list, thought)?,
            Content::Opaque(opaque) if opaque.origin == Origin::Messages => {
                list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                self.notes.dropped(path, "is not known in Messages; leave it out")?;
            }
        }
        Ok(())
    }

    /// Ends a block, after its mark.
    fn end(&mut self, mut block: Object<'_>, cache: Option<&Cache<'_>>) {
        self.cache(&mut block, cache);
        block.end();
    }

    pub(super) fn cache(&mut self, object: &mut Object<'_>, cache: Option<&Cache<'_>>) {
        let Some(cache) = cache else { return };
        if self.target.facts.cache_marks == Taken::No || self.marks >= MARKS {
            return self
                .notes
                .mapped("cache_control", "the upstream takes no more marks of cacheable prefixes");
        }
        self.marks += 1;
        let mut mark = object.object("cache_control");
        mark.string("type", "ephemeral");
        match cache.ttl.as_ref().map(|ttl| ttl.plain()).as_deref() {
            Some(ttl @ ("5m" | "1h")) => mark.string("ttl", ttl),
            Some(_) => mark.string("ttl", "1h"),
            None => {}
        }
        mark.end();
    }

    fn image(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        cache: Option<&Cache<'_>>,
    ) -> Result<(), Error> {
        if self.target.facts.media.images == Taken::No {
            return self
                .notes
                .dropped("messages: image", "the upstream's model takes no images; leave it out");
        }
        if matches!(source, Source::Text(_)) || !self.reads(source) {
            let why = "the upstream cannot read this image; send it in base64";
            return self.notes.dropped("messages: image", why);
        }
        let mut block = list.object();
        block.string("type", "image");
        source_into(block.object("source"), source);
        self.end(block, cache);
        Ok(())
    }

    fn document(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        name: Option<&Text<'_>>,
        cache: Option<&Cache<'_>>,
    ) -> Result<(), Error> {
        if self.target.facts.media.documents == Taken::No || !self.reads(source) {
            let why = "the upstream cannot read this document; send its text, or leave it out";
            return self.notes.dropped("messages: document", why);
        }
        let mut block = list.object();
        block.string("type", "document");
        source_into(block.object("source"), source);
        block.maybe_text("title", name);
        self.end(block, cache);
        Ok(())
    }

    /// Whether the upstream can get at the bytes.
    fn reads(&self, source: &Source<'_>) -> bool {
        match source {
            Source::Base64 { .. } | Source::Text(_) | Source::File(Origin::Messages, _) => true,
            Source::Url(_) => self.target.facts.media.urls == Taken::Yes,
            Source::File(..) => false,
        }
    }

    fn ids(&self) -> ToolIds {
        match self.target.facts.tool_ids {
            // The API takes these characters alone.
            ToolIds::Any => ToolIds::Plain(128),
            ids => ids,
        }
    }

    fn tool_use(&mut self, list: &mut Array<'_>, call: &ToolCall<'_>, cache: Option<&Cache<'_>>) {
        let mut block = list.object();
        block.string("type", "tool_use");
        self.ids().write(&mut block, "id", &call.id);
        block.text("name", &call.name);
        if !call.arguments.object_into(block.key("input")) {
            self.notes.mapped("messages: arguments", "are no JSON object; they are given inside one");
        }
        self.end(block, cache);
    }

    fn tool_result(
        &mut self,
        list: &mut Array<'_>,
        result: &ToolResult<'_>,
        cache: Option<&Cache<'_>>,
    ) -> Result<(), Error> {
        let parts: Vec<&Part<'_>> = result.content.iter().collect();
        let content = self.content(&parts)?;
        let mut block = list.object();
        block.string("type", "tool_result");
        self.ids().write(&mut block, "tool_use_id", &result.id);
        if !content.is_empty() {
            block.key("content").extend_from_slice(&content);
        }
        if result.outcome == Outcome::Failure {
            block.boolean("is_error", true);
        }
        self.end(block, cache);
        Ok(())
    }

    /// Only reasoning with Anthropic's own seal is taken, which Bedrock passes on as it is.
    fn thought(&mut self, list: &mut Array<'_>, thought: &Reasoning<'_>) -> Result<(), Error> {
        let replays = self.target.facts.replay != Replay::No;
        let own = replays && thought.origin == Origin::Messages;
        let sealed = replays && taken_back(Origin::Messages, thought.origin, self.target);
        match (&thought.text, &thought.signature) {
            (Thought::Redacted(data), _) if own => {
                let mut block = list.object();
                block.string("type", "redacted_thinking");
                block.text("data", data);
                block.end();
                Ok(())
            }
            (Thought::Readable(text), Some(signature)) if sealed => {
                let mut block = list.object();
                block.string("type", "thinking");
                block.text("thinking", text);
                block.text("signature", signature);
                block.end();
                Ok(())
            }
            _ => self
                .notes
                .dropped("messages: reasoning", "the upstream takes back only reasoning that it sealed"),
        }
    }
}

fn source_into(mut object: Object<'_>, source: &Source<'_>) {
    match source {
        Source::Base64 { media_type, data } => {
            object.string("type", "base64");
            object.string("media_type", media_type);
            let out = object.key("data");
            out.push(b'"');
            base64_into(out, data);
            out.push(b'"');
        }
        Source::Text(text) => {
            object.string("type", "text");
            object.string("media_type", "text/plain");
            object.text("data", text);
        }
        Source::Url(url) => {
            object.string("type", "url");
            object.text("url", url);
        }
        Source::File(_, id) => {
            object.string("type", "file");
            object.text("file_id", id);
        }
    }
    object.end();
}
