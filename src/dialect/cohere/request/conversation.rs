//! Writing the conversation of a Cohere request.

use crate::dialect::ir::target::{Replay, Taken};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{
    Content, Message, Notes, Origin, Outcome, Part, Reasoning, Role, Source, Target, Text, Thought, ToolCall,
    ToolResult, data_url_into,
};
use crate::error::Error;

/// Writes messages, and collects the documents among them.
pub(super) struct Messages<'o, 'r, 'm> {
    pub(super) list: Array<'o>,
    pub(super) target: &'r Target<'r>,
    pub(super) notes: &'r mut Notes,
    /// Texts of documents, with their names.
    pub(super) documents: Vec<Document<'m>>,
}

/// The text of a document, and what it is called.
type Document<'m> = (&'m Text<'m>, Option<&'m Text<'m>>);

impl<'m> Messages<'_, '_, 'm> {
    pub(super) fn all(&mut self, messages: &'m [Message<'m>]) -> Result<(), Error> {
        for message in messages {
            match message.role {
                Role::System | Role::Developer => {
                    self.plain("system", &message.parts.iter().collect::<Vec<_>>())?
                }
                Role::User => self.user(&message.parts)?,
                Role::Assistant => self.assistant(&message.parts)?,
            }
        }
        Ok(())
    }

    /// Tool results are messages of their own, and come first. Media in them follow as the user's.
    fn user(&mut self, parts: &'m [Part<'m>]) -> Result<(), Error> {
        let mut rest: Vec<&'m Part<'m>> = Vec::new();
        for part in parts {
            if let Content::ToolResult(result) = &part.content {
                rest.extend(self.tool_result(result));
            }
        }
        rest.extend(parts.iter().filter(|part| !matches!(part.content, Content::ToolResult(_))));
        if rest.is_empty() { Ok(()) } else { self.plain("user", &rest) }
    }

    /// A message that is nothing but content. A single text is a string; a message of documents alone is none.
    fn plain(&mut self, role: &str, parts: &[&'m Part<'m>]) -> Result<(), Error> {
        let content = self.content(parts)?;
        if !content.is_empty() {
            let mut message = self.list.object();
            message.string("role", role);
            message.key("content").extend_from_slice(&content);
            message.end();
        }
        Ok(())
    }

    fn content(&mut self, parts: &[&'m Part<'m>]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        if let [Part { content: Content::Text(text), cache }] = parts {
            self.unmarked(cache.is_some());
            text.quote_into(&mut out);
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

    fn part(&mut self, list: &mut Array<'_>, part: &'m Part<'m>) -> Result<(), Error> {
        self.unmarked(part.cache.is_some());
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => text_into(list, text),
            Content::Image { source, detail } => self.image(list, source, detail.as_ref())?,
            Content::Document { source: Source::Text(text), name } => {
                self.notes.mapped("messages: document", "is given beside the conversation, to be cited");
                self.documents.push((text, name.as_ref()));
            }
            Content::Document { .. } => {
                let why = "the upstream reads no files; send the document's text";
                self.notes.dropped("messages: document", why)?;
            }
            Content::Audio(_) => {
                return Err(self
                    .notes
                    .refused("messages: audio", "the upstream takes no audio; leave it out"));
            }
            Content::Opaque(opaque) => {
                let path = format!("messages: part of type '{}'", opaque.kind.plain());
                self.notes.dropped(path, "is not known to the upstream; leave it out")?;
            }
            // These stand elsewhere in the message.
            Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {}
        }
        Ok(())
    }

    fn unmarked(&mut self, marked: bool) {
        if marked {
            self.notes.mapped("cache_control", "the upstream decides by itself what it caches");
        }
    }

    fn image(
        &mut self,
        list: &mut Array<'_>,
        source: &Source<'_>,
        detail: Option<&Text<'_>>,
    ) -> Result<(), Error> {
        let media = self.target.facts.media;
        if media.images == Taken::No {
            let why = "the upstream's model takes no images; leave it out";
            return self.notes.dropped("messages: image", why);
        }
        let readable = match source {
            Source::Base64 { .. } => true,
            Source::Url(_) => media.urls == Taken::Yes,
            Source::Text(_) | Source::File(..) => false,
        };
        if !readable {
            let why = "the upstream cannot read this image; send it as a data URL";
            return self.notes.dropped("messages: image", why);
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
        object.end();
        Ok(())
    }

    /// Writes a result, and returns what of it has to follow.
    fn tool_result(&mut self, result: &'m ToolResult<'m>) -> Vec<&'m Part<'m>> {
        let is_told = |part: &&Part<'_>| {
            matches!(&part.content, Content::Text(_) | Content::Document { source: Source::Text(_), .. })
        };
        let (told, rest): (Vec<_>, Vec<_>) = result.content.iter().partition(is_told);
        if !rest.is_empty() {
            self.notes.mapped("messages", "media in a tool result follow it as the user's");
        }
        let mut message = self.list.object();
        message.string("role", "tool");
        self.target.facts.tool_ids.write(&mut message, "tool_call_id", &result.id);
        let error = (result.outcome == Outcome::Failure).then(|| Text::from("Error: "));
        if told.iter().any(|part| matches!(part.content, Content::Document { .. })) {
            let mut list = message.array("content");
            error.iter().for_each(|text| text_into(&mut list, text));
            for part in told {
                match &part.content {
                    Content::Text(text) => text_into(&mut list, text),
                    Content::Document { source: Source::Text(text), name } => {
                        let mut object = list.object();
                        object.string("type", "document");
                        document_into(object.object("document"), text, name.as_ref());
                        object.end();
                    }
                    _ => {}
                }
            }
            list.end();
        } else {
            let texts = told.iter().filter_map(|part| match &part.content {
                Content::Text(text) => Some(text),
                _ => None,
            });
            let text = Text::join(texts, "\n");
            message.text("content", &Text::join(error.iter().chain(Some(&text)), ""));
        }
        message.end();
        rest
    }

    fn assistant(&mut self, parts: &'m [Part<'m>]) -> Result<(), Error> {
        let calls: Vec<&ToolCall<'_>> = parts
            .iter()
            .filter_map(|part| match &part.content {
                Content::ToolCall(call) => Some(call),
                _ => None,
            })
            .collect();
        let thoughts = self.thoughts(parts)?;
        let is_said =
            |part: &&Part<'_>| !matches!(part.content, Content::Reasoning(_) | Content::ToolCall(_));
        let said: Vec<&'m Part<'m>> = parts.iter().filter(is_said).collect();
        let plans = !calls.is_empty();
        let content = match (thoughts.as_slice(), plans) {
            ([], _) | (_, true) => self.content(&said)?,
            (thoughts, false) => {
                let mut out = Vec::new();
                let mut list = Array::begin(&mut out);
                for thought in thoughts {
                    let mut object = list.object();
                    object.string("type", "thinking");
                    object.text("thinking", thought);
                    object.end();
                }
                for part in said {
                    self.part(&mut list, part)?;
                }
                list.end();
                out
            }
        };
        let mut message = self.list.object();
        message.string("role", "assistant");
        if !content.is_empty() {
            message.key("content").extend_from_slice(&content);
        }
        if plans && !thoughts.is_empty() {
            message.text("tool_plan", &Text::join(thoughts, "\n"));
        }
        if plans {
            let mut list = message.array("tool_calls");
            calls.iter().for_each(|call| call_into(list.object(), call, self.target));
            list.end();
        }
        message.end();
        Ok(())
    }

    /// The reasoning that is shown to the model again.
    fn thoughts(&mut self, parts: &'m [Part<'m>]) -> Result<Vec<&'m Text<'m>>, Error> {
        let mut thoughts = Vec::new();
        for part in parts {
            let Content::Reasoning(Reasoning { origin, text, .. }) = &part.content else { continue };
            match (text, self.target.facts.replay) {
                (Thought::Readable(text), Replay::ReasoningContent | Replay::Reasoning | Replay::Details) => {
                    thoughts.push(text);
                }
                (Thought::Readable(text), Replay::Signed) if *origin == Origin::Cohere => thoughts.push(text),
                _ => {
                    let why = "the upstream takes back only reasoning of its own";
                    self.notes.dropped("messages: reasoning", why)?;
                }
            }
        }
        Ok(thoughts)
    }
}

fn call_into(mut object: Object<'_>, call: &ToolCall<'_>, target: &Target<'_>) {
    target.facts.tool_ids.write(&mut object, "id", &call.id);
    object.string("type", "function");
    let mut function = object.object("function");
    function.text("name", &call.name);
    call.arguments.quote_into(function.key("arguments"));
    function.end();
    object.end();
}

fn text_into(list: &mut Array<'_>, text: &Text<'_>) {
    let mut object = list.object();
    object.string("type", "text");
    object.text("text", text);
    object.end();
}

/// Writes a document of text.
pub(super) fn document_into(mut object: Object<'_>, text: &Text<'_>, name: Option<&Text<'_>>) {
    let mut data = object.object("data");
    data.maybe_text("title", name);
    data.text("text", text);
    data.end();
    object.end();
}
