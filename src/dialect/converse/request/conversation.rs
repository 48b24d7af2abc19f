//! Writing the conversation of a Converse request.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::IDS;
use crate::dialect::converse::{FORMATS, format_of};
use crate::dialect::ir::seal::taken_back;
use crate::dialect::ir::target::{MidInstructions, Replay, Taken, ToolIds};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Cache, Content, Message, Notes, Origin, Outcome, Output, Part, Reasoning, Request, Role, Source, Target,
    Text, Thought, ToolCall, ToolResult, Turn, base64_into, turns,
};
use crate::error::Error;

/// The most marks of cacheable prefixes that are taken.
const MARKS: u32 = 4;
/// The longest name of a document, in characters.
const NAME: usize = 200;

/// Writes parts, and counts the marks among them.
pub(super) struct Writer<'r> {
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
    marks: u32,
    /// The names of documents so far, each of which has to be another, and the last number put behind them.
    names: HashMap<String, u64>,
}

impl<'r> Writer<'r> {
    pub(super) fn new(target: &'r Target<'r>, notes: &'r mut Notes) -> Self {
        Self { target, notes, marks: 0, names: HashMap::new() }
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
        let moved = self.moved(rest, place);
        self.messages(body, &moved, request.cache.as_ref())
    }

    /// The conversation with its instructions where the target wants them.
    fn moved<'m>(&mut self, rest: &'m [Message<'m>], place: MidInstructions) -> Cow<'m, [Message<'m>]> {
        let has_instructions = rest.iter().any(|message| message.role.instructs());
        if !has_instructions || place == MidInstructions::InPlace {
            return Cow::Borrowed(rest);
        }
        self.notes.mapped("messages", "instructions inside the conversation are moved");
        let stay = |message: &&Message<'m>| !(place == MidInstructions::Hoist && message.role.instructs());
        let said = |message: &Message<'m>| match message.role {
            Role::Assistant => message.clone(),
            _ => Message { role: Role::User, ..message.clone() },
        };
        Cow::Owned(rest.iter().filter(stay).map(said).collect())
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
        if content != b"[]" {
            body.key("system").extend_from_slice(&content);
        }
        Ok(())
    }

    /// Writes the turns. A turn that says nothing is refused upstream, and so are two of one side in a row, and a
    /// conversation that the model begins.
    fn messages(
        &mut self,
        body: &mut Object<'_>,
        messages: &[Message<'_>],
        cache: Option<&Cache<'_>>,
    ) -> Result<(), Error> {
        let mut said: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut turns = turns(messages);
        let prefill = turns.last().and_then(prefill);
        if let (Some(part), Some(turn)) = (&prefill, turns.last_mut()) {
            turn.parts.pop();
            turn.parts.push(part);
        }
        for turn in turns {
            let role = match turn.role {
                Role::Assistant => "assistant",
                Role::User => "user",
                Role::System | Role::Developer => "system",
            };
            let mut content = self.content(&turn.parts)?;
            if role == "user" {
                self.with_words(&mut content, &turn.parts);
            }
            match said.last_mut() {
                _ if content == b"[]" => {}
                Some((last, before)) if *last == role => {
                    before.pop();
                    before.push(b',');
                    before.extend_from_slice(content.strip_prefix(b"[").unwrap_or(&content));
                }
                _ => said.push((role, content)),
            }
        }
        if said.first().is_some_and(|(role, _)| *role == "assistant") {
            self.notes.mapped("messages", "the upstream wants the user to begin; a word of its stands in");
            said.insert(0, ("user", b"[{\"text\":\"Begin.\"}]".to_vec()));
        }
        if let Some((_, content)) = said.last_mut() {
            let mut mark = Vec::new();
            let mut list = Array::begin(&mut mark);
            self.cache(&mut list, cache);
            list.end();
            if mark != b"[]" {
                content.pop();
                content.push(b',');
                content.extend_from_slice(mark.strip_prefix(b"[").unwrap_or(&mark));
            }
        }
        let mut list = body.array("messages");
        for (role, content) in said {
            let mut message = list.object();
            message.string("role", role);
            message.key("content").extend_from_slice(&content);
            message.end();
        }
        if list.is_empty() {
            return Err(self.notes.nothing_to_answer());
        }
        list.end();
        Ok(())
    }

    /// Adds words to content that has documents and no words, which is refused upstream.
    fn with_words(&mut self, content: &mut Vec<u8>, parts: &[&Part<'_>]) {
        let is_document = |part: &&Part<'_>| matches!(part.content, Content::Document { .. });
        let is_text = |part: &&Part<'_>| matches!(&part.content, Content::Text(text) if !text.is_blank());
        if content != b"[]" && parts.iter().any(is_document) && !parts.iter().any(is_text) {
            self.notes
                .mapped("messages: document", "the upstream wants words beside a document; some are added");
            content.pop();
            content.extend_from_slice(b",{\"text\":\"See the document.\"}]");
        }
    }

    /// Parts as a JSON array.
    fn content(&mut self, parts: &[&Part<'_>]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut list = Array::begin(&mut out);
        for part in parts {
            self.part(&mut list, part)?;
            self.cache(&mut list, part.cache.as_ref());
        }
        list.end();
        Ok(out)
    }

    fn part(&mut self, list: &mut Array<'_>, part: &Part<'_>) -> Result<(), Error> {
        match &part.content {
            // A blank block is refused upstream.
            Content::Text(text) | Content::Refusal(text) if text.is_blank() => {}
            Content::Text(text) | Content::Refusal(text) => {
                let mut block = list.object();
                block.text("text", text);
                block.end();
            }
            Content::Image { source, detail } => {
                if detail.as_ref().is_some_and(|detail| *detail != *"auto") {
                    self.notes
                        .mapped("messages: detail", "the upstream looks at images as closely as it likes");
                }
                self.medium(list, "image", source, self.target.facts.media.images)?;
            }
            Content::Audio(source) => self.medium(list, "audio", source, self.target.facts.media.audio)?,
            Content::Document { source, name } => self.document(list, source, name.as_ref())?,
            Content::ToolCall(call) => self.tool_use(list, call),
            Content::ToolResult(result) => self.tool_result(list, result)?,
            Content::Reasoning(thought) => self.thought(list, thought)?,
            Content::Opaque(opaque) if opaque.origin == Origin::Converse => {
                list.item().extend_from_slice(opaque.json.get().as_bytes());
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                self.notes.dropped(path, "is not known in Converse; leave it out")?;
            }
        }
        Ok(())
    }

    /// Writes a mark after what it marks.
    pub(super) fn cache(&mut self, list: &mut Array<'_>, cache: Option<&Cache<'_>>) {
        let Some(cache) = cache else { return };
        if self.target.facts.cache_marks == Taken::No || self.marks >= MARKS || list.is_empty() {
            return self
                .notes
                .mapped("cache_control", "the upstream takes no more marks of cacheable prefixes");
        }
        self.marks += 1;
        let mut block = list.object();
        let mut mark = block.object("cachePoint");
        mark.string("type", "default");
        match cache.ttl.as_ref().map(|ttl| ttl.plain()).as_deref() {
            Some(ttl @ ("5m" | "1h")) => mark.string("ttl", ttl),
            Some(_) => mark.string("ttl", "1h"),
            None => {}
        }
        mark.end();
        block.end();
    }

    /// Writes an image or sound: its bytes, or where they are in S3. Converse fetches nothing else.
    fn medium(
        &mut self,
        list: &mut Array<'_>,
        kind: &str,
        source: &Source<'_>,
        taken: Taken,
    ) -> Result<(), Error> {
        let format = match source {
            Source::Base64 { media_type, .. } => format_of(media_type),
            Source::Url(uri) | Source::File(Origin::Converse, uri) => in_s3(uri),
            Source::Text(_) | Source::File(..) => None,
        };
        let Some(format) = format.filter(|_| taken == Taken::Yes) else {
            let why = "the upstream's model cannot read this; send it in base64, in a format that it knows";
            return self.notes.dropped(format_args!("messages: {kind}"), why);
        };
        let mut block = list.object();
        let mut medium = block.object(kind);
        medium.string("format", format);
        source_into(medium.object("source"), source);
        medium.end();
        block.end();
        Ok(())
    }

    fn document(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        name: Option<&Text<'_>>,
    ) -> Result<(), Error> {
        let format = match source {
            Source::Base64 { media_type, .. } => format_of(media_type),
            Source::Text(_) => Some("txt"),
            Source::Url(uri) | Source::File(Origin::Converse, uri) => in_s3(uri),
            Source::File(..) => None,
        };
        let Some(format) = format.filter(|_| self.target.facts.media.documents == Taken::Yes) else {
            let why = "the upstream cannot read this document; send it in base64, in a format that it knows";
            return self.notes.dropped("messages: document", why);
        };
        let name = self.name(name);
        let mut block = list.object();
        let mut document = block.object("document");
        document.string("format", format);
        document.string("name", &name);
        source_into(document.object("source"), source);
        document.end();
        block.end();
        Ok(())
    }

    /// A document's name in the characters that are taken, and unlike all before it.
    fn name(&mut self, name: Option<&Text<'_>>) -> String {
        let plain = name.map(Text::plain).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
        let taken: String = plain.chars().map(|c| if is_plain(c) || c == ' ' { c } else { '-' }).collect();
        let words: Vec<&str> = taken.split_whitespace().collect();
        let mut name: String = words.join(" ").chars().take(NAME - 4).collect();
        if name.is_empty() {
            name.push_str("document");
        }
        if !plain.is_empty() && name != plain {
            self.notes.mapped("messages: filename", "is fitted to the characters that the upstream takes");
        }
        let base = name.clone();
        let mut number = self.names.get(&name).copied().unwrap_or(0);
        while self.names.contains_key(&name) {
            number += 1;
            name = format!("{base} {number}");
        }
        self.names.insert(base, number.max(1));
        self.names.insert(name.clone(), 1);
        name
    }

    fn ids(&self) -> ToolIds {
        match self.target.facts.tool_ids {
            ToolIds::Any => IDS,
            ids => ids,
        }
    }

    fn tool_use(&mut self, list: &mut Array<'_>, call: &ToolCall<'_>) {
        let mut block = list.object();
        let mut tool = block.object("toolUse");
        self.ids().write(&mut tool, "toolUseId", &call.id);
        tool.text("name", &call.name);
        if !call.arguments.object_into(tool.key("input")) {
            self.notes.mapped("messages: arguments", "are no JSON object; they are given inside one");
        }
        tool.end();
        block.end();
    }

    fn tool_result(&mut self, list: &mut Array<'_>, result: &ToolResult<'_>) -> Result<(), Error> {
        let parts: Vec<&Part<'_>> = result.content.iter().collect();
        let content = self.content(&parts)?;
        let mut block = list.object();
        let mut tool = block.object("toolResult");
        self.ids().write(&mut tool, "toolUseId", &result.id);
        // Not every model takes a result of nothing.
        let content = if content == b"[]" { b"[{\"json\":{}}]".to_vec() } else { content };
        tool.key("content").extend_from_slice(&content);
        if result.outcome == Outcome::Failure {
            tool.string("status", "error");
        }
        tool.end();
        block.end();
        Ok(())
    }

    /// Only reasoning with a seal that Bedrock passed on is taken, or Claude's from elsewhere.
    fn thought(&mut self, list: &mut Array<'_>, thought: &Reasoning<'_>) -> Result<(), Error> {
        let replays = self.target.facts.replay != Replay::No;
        let own = replays && thought.origin == Origin::Converse;
        let sealed = replays && taken_back(Origin::Converse, thought.origin, self.target);
        match (&thought.text, &thought.signature) {
            (Thought::Redacted(data), _) if own => {
                let mut block = list.object();
                let mut reasoning = block.object("reasoningContent");
                reasoning.text("redactedContent", data);
                reasoning.end();
                block.end();
                Ok(())
            }
            (Thought::Readable(text), Some(seal)) if sealed => {
                let mut block = list.object();
                let mut reasoning = block.object("reasoningContent");
                let mut said = reasoning.object("reasoningText");
                said.text("text", text);
                said.text("signature", seal);
                said.end();
                reasoning.end();
                block.end();
                Ok(())
            }
            _ => self
                .notes
                .dropped("messages: reasoning", "the upstream takes back only reasoning that it sealed"),
        }
    }
}

/// The text that the model is to go on from, without the space at its end, which is refused upstream.
fn prefill<'a>(last: &Turn<'_, 'a>) -> Option<Part<'a>> {
    match last.parts.last() {
        Some(Part { content: Content::Text(text), cache }) if last.role == Role::Assistant => {
            let text = Text::new(text.plain().trim_end().to_owned());
            Some(Part { content: Content::Text(text), cache: cache.clone() })
        }
        _ => None,
    }
}

/// The format of what is in S3, by the end of its name; nothing for what is elsewhere.
fn in_s3(uri: &Text<'_>) -> Option<&'static str> {
    let uri = uri.plain();
    let end = uri.strip_prefix("s3://")?.rsplit_once('.')?.1.to_ascii_lowercase();
    let end = if end == "jpg" { "jpeg" } else { end.as_str() };
    FORMATS.iter().find(|(format, _)| *format == end).map(|(format, _)| *format)
}

fn source_into(mut object: Object<'_>, source: &Source<'_>) {
    match source {
        Source::Base64 { data, .. } => {
            let out = object.key("bytes");
            out.push(b'"');
            base64_into(out, data);
            out.push(b'"');
        }
        Source::Text(text) => object.string("bytes", &STANDARD.encode(text.plain().as_bytes())),
        Source::Url(uri) | Source::File(_, uri) => {
            let mut place = object.object("s3Location");
            place.text("uri", uri);
            place.end();
        }
    }
    object.end();
}
