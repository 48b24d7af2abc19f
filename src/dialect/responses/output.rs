//! Output items out of blocks.
//!
//! Texts in a row are parts of one message; every other block is an item. What is complete is kept, because the last
//! event of a stream holds all of it again. A whole reply is that last event's response.

use super::Seal;
use crate::dialect::error::openai_object;
use crate::dialect::ir::write::{Object, join};
use crate::dialect::ir::{
    Attachment, Block, Event, Finish, Notes, Opaque, Origin, ReplyTo, Start, Text, update,
};
use crate::dialect::stream::heartbeat;
use crate::dialect::usage::Usage;
use crate::dialect::{Dialect, Operation};
use crate::error::Error;

mod parts;
mod response;

use parts::{ANSWER, Call, Message, Part, REFUSAL, Reasoning, SUMMARY, inside};
use response::{Head, Status};

/// Writes the events of a response.
#[derive(Debug)]
pub(super) struct Output {
    to: ReplyTo,
    head: Head,
    /// The number of the next event.
    sequence: u64,
    /// How many items are complete, and their JSON, with commas between.
    count: u64,
    items: Vec<u8>,
    current: Current,
    usage: Option<Usage>,
    notes: Notes,
}

/// The item that is open.
#[derive(Debug)]
enum Current {
    None,
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
}

impl Output {
    pub(super) fn new(to: ReplyTo) -> Self {
        Self {
            to,
            head: Head::default(),
            sequence: 0,
            count: 0,
            items: Vec::new(),
            current: Current::None,
            usage: None,
            notes: Notes::default(),
        }
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The whole response, once all its events were taken.
    pub(super) fn whole(&self, finish: &Finish<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.items.len() + 1024);
        self.response_into(Object::begin(&mut out), Status::of(finish));
        out
    }

    /// Takes the next lawful event, and appends what the client is sent.
    pub(super) fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { text, .. } if text.is_empty() => {}
            Event::Delta { text, .. } => self.delta(&text, out),
            Event::Attach { what, .. } => self.attach(what, out),
            Event::Close { .. } => self.close(out),
            Event::Usage(usage) => update(self.usage.get_or_insert_default(), usage),
            Event::Finish(finish) => self.finish(&finish, out),
            Event::Failed(error) => self.failed(&error, out),
            Event::KeepAlive => out.extend_from_slice(heartbeat(Operation::Responses)),
            Event::End => {}
        }
    }

    // === The response ===

    fn start(&mut self, start: &Start<'_>, out: &mut Vec<u8>) {
        let id = start.id.plain();
        let to = &self.to;
        self.head = Head {
            id: match id.starts_with("resp_") {
                true => id.into_owned(),
                false => format!("resp_{}", if to.id.is_empty() { &id } else { to.id.as_str() }),
            },
            model: if to.model.is_empty() { start.model.plain().into_owned() } else { to.model.clone() },
            created: start.created.unwrap_or(to.created),
        };
        self.lifecycle("response.created", Status::InProgress, out);
        self.lifecycle("response.in_progress", Status::InProgress, out);
        self.usage = start.usage;
    }

    fn finish(&mut self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let status = Status::of(finish);
        self.end_message(status.name(), out);
        let name = match status {
            Status::Incomplete(_) => "response.incomplete",
            _ => "response.completed",
        };
        self.lifecycle(name, status, out);
    }

    /// The error in the form that makes SDKs raise, and then the response as far as it came.
    fn failed(&mut self, error: &Error, out: &mut Vec<u8>) {
        if self.head.id.is_empty() {
            self.start(&Start::default(), out);
        }
        let mut event = self.begin("error", out);
        openai_object(event.key("error"), Dialect::OpenaiResponses, error);
        end(event);
        self.lifecycle("response.failed", Status::Failed(error), out);
    }

    fn lifecycle(&mut self, kind: &str, status: Status<'_>, out: &mut Vec<u8>) {
        let mut event = self.begin(kind, out);
        self.response_into(event.object("response"), status);
        end(event);
    }

    // === Blocks ===

    fn open(&mut self, kind: Block<'_>, out: &mut Vec<u8>) {
        let words = match kind {
            Block::Text => ANSWER,
            Block::Refusal => REFUSAL,
            other => return self.open_item(other, out),
        };
        if !matches!(self.current, Current::Message(_)) {
            self.added(
                out,
                &|item, id| {
                    item.string("id", id);
                    item.string("type", "message");
                    item.string("status", "in_progress");
                    item.string("role", "assistant");
                    item.raw("content", "[]");
                },
                "msg",
            );
            self.current = Current::Message(Message::default());
        }
        let part = Part::new(words, String::new());
        self.part_event(part.words.added_part, "msg", self.parts(), &part, out);
        if let Current::Message(message) = &mut self.current {
            message.part = Some(part);
        }
    }

    fn open_item(&mut self, kind: Block<'_>, out: &mut Vec<u8>) {
        self.end_message("completed", out);
        match kind {
            Block::Text | Block::Refusal => {}
            Block::Reasoning(_) => self.begin_reasoning(out),
            Block::Redacted { origin, data } => {
                self.begin_reasoning(out);
                self.seal(&Seal::Redacted(origin, data));
            }
            Block::ToolCall { id, name } => self.begin_call(&id, name, out),
            Block::Opaque(opaque) if opaque.origin == Origin::Responses => self.opaque(&opaque, out),
            Block::Opaque(opaque) => self.unsaid(&opaque.kind),
        }
    }

    fn begin_reasoning(&mut self, out: &mut Vec<u8>) {
        self.added(
            out,
            &|item, id| {
                item.string("id", id);
                item.string("type", "reasoning");
                item.raw("summary", "[]");
            },
            "rs",
        );
        self.current = Current::Reasoning(Reasoning::default());
    }

    fn begin_call(&mut self, id: &Text<'_>, name: Text<'_>, out: &mut Vec<u8>) {
        let id = match id.is_empty() {
            true => format!("call_{}_{}", self.to.id, self.count),
            false => id.plain().into_owned(),
        };
        let call = Call { id, name: name.into_owned(), arguments: String::new(), seal: None };
        self.added(out, &|item, id| call.item(item, id, "in_progress"), "fc");
        self.current = Current::Call(call);
    }

    /// An item of a tool of the provider's, which is complete when it comes.
    fn opaque(&mut self, opaque: &Opaque<'_>, out: &mut Vec<u8>) {
        let json = opaque.json.one_line();
        for kind in ["response.output_item.added", "response.output_item.done"] {
            let index = self.count;
            let mut event = self.begin(kind, out);
            event.count("output_index", index);
            event.raw("item", &json);
            end(event);
        }
        self.keep(json.as_bytes());
    }

    fn delta(&mut self, text: &Text<'_>, out: &mut Vec<u8>) {
        let (index, count) = (self.parts(), self.count);
        match &mut self.current {
            Current::None => {}
            Current::Message(Message { part: None, .. }) => {}
            Current::Message(Message { part: Some(part), .. }) => {
                text.escape_into(&mut part.text);
                let kind = part.words.delta;
                let id = self.item_id("msg", count);
                self.text_event(kind, &id, ("content_index", index), text, out);
            }
            Current::Reasoning(reasoning) => {
                let is_first = reasoning.text.is_empty();
                text.escape_into(&mut reasoning.text);
                let (kind, name, added) = (SUMMARY.delta, SUMMARY.index, SUMMARY.added_part);
                let empty = Reasoning::part(String::new());
                if is_first {
                    self.part_event(added, "rs", 0, &empty, out);
                }
                let id = self.item_id("rs", count);
                self.text_event(kind, &id, (name, 0), text, out);
            }
            Current::Call(call) => {
                text.escape_into(&mut call.arguments);
                let id = self.item_id("fc", count);
                let mut event = self.begin("response.function_call_arguments.delta", out);
                event.string("item_id", &id);
                event.count("output_index", count);
                event.text("delta", text);
                end(event);
            }
        }
    }

    fn attach(&mut self, what: Attachment<'_>, out: &mut Vec<u8>) {
        let place = (self.item_id("msg", self.count), self.count, self.parts());
        match (what, &mut self.current) {
            (Attachment::Signature { origin, text }, Current::Reasoning(_)) => {
                self.seal(&Seal::Signature(origin, text));
            }
            (Attachment::Signature { origin, text }, Current::Call(call)) => {
                call.seal = Some(Seal::Call(origin, text).write());
            }
            (Attachment::Signature { .. }, _) => self.unsaid(&Text::from("signature of an answer")),
            (Attachment::Opaque(opaque), Current::Message(Message { part: Some(part), .. }))
                if opaque.origin == Origin::Responses =>
            {
                let json = opaque.json.one_line().into_owned();
                let index = part.annotations.len() as u64;
                let mut event = self.begin("response.output_text.annotation.added", out);
                event.string("item_id", &place.0);
                event.count("output_index", place.1);
                event.count("content_index", place.2);
                event.count("annotation_index", index);
                event.raw("annotation", &json);
                end(event);
                if let Current::Message(Message { part: Some(part), .. }) = &mut self.current {
                    part.annotations.push(json);
                }
            }
            (Attachment::Logprobs(list), Current::Message(Message { part: Some(part), .. }))
                if part.words.part == ANSWER.part =>
            {
                let list = list.one_line();
                part.logprobs = join(part.logprobs.as_deref().into_iter().chain([&*list]));
            }
            (Attachment::Logprobs(_), _) => self.unsaid(&Text::from("logprobs")),
            (Attachment::Opaque(opaque), _) => self.unsaid(&opaque.kind),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.current, Current::None) {
            Current::None => {}
            Current::Message(message) => self.close_part(message, out),
            Current::Reasoning(reasoning) => self.close_reasoning(&reasoning, out),
            Current::Call(call) => self.close_call(&call, out),
        }
    }

    /// The message goes on: another text may follow.
    fn close_part(&mut self, mut message: Message, out: &mut Vec<u8>) {
        if let Some(part) = message.part.take() {
            self.text_done(&part, "msg", message.count, out);
            if message.count > 0 {
                message.parts.push(b',');
            }
            part.write(Object::begin(&mut message.parts));
            message.count += 1;
        }
        self.current = Current::Message(message);
    }

    fn close_reasoning(&mut self, reasoning: &Reasoning, out: &mut Vec<u8>) {
        if !reasoning.text.is_empty() {
            self.text_done(&Reasoning::part(reasoning.text.clone()), "rs", 0, out);
        }
        self.done("rs", out, &|item, id| {
            item.string("id", id);
            item.string("type", "reasoning");
            reasoning.sections_into(item);
            if let Some(seal) = &reasoning.seal {
                item.string("encrypted_content", seal);
            }
        });
    }

    /// The seal of a call follows it in an item of its own.
    fn close_call(&mut self, call: &Call, out: &mut Vec<u8>) {
        let (id, index) = (self.item_id("fc", self.count), self.count);
        let mut event = self.begin("response.function_call_arguments.done", out);
        event.string("item_id", &id);
        event.count("output_index", index);
        event.string("name", &call.name.plain());
        event.text("arguments", &inside(&call.arguments));
        end(event);
        self.done("fc", out, &|item, id| call.item(item, id, "completed"));
        if let Some(seal) = &call.seal {
            self.begin_reasoning(out);
            if let Current::Reasoning(reasoning) = &mut self.current {
                reasoning.seal = Some(seal.clone());
            }
            self.close(out);
        }
    }

    /// Ends the message that is open, if one is.
    fn end_message(&mut self, status: &str, out: &mut Vec<u8>) {
        if let Current::Message(message) = std::mem::replace(&mut self.current, Current::None) {
            self.done("msg", out, &|item, id| {
                item.string("id", id);
                item.string("type", "message");
                item.string("status", status);
                item.string("role", "assistant");
                let content = item.key("content");
                content.push(b'[');
                content.extend_from_slice(&message.parts);
                content.push(b']');
            });
        }
    }

    fn seal(&mut self, seal: &Seal<'_>) {
        if let Current::Reasoning(reasoning) = &mut self.current {
            reasoning.seal = Some(seal.write());
        }
    }

    fn unsaid(&mut self, kind: &Text<'_>) {
        self.notes.unsaid(format_args!("reply: {}", kind.plain()), "has no equal in Responses");
    }

    // === Events ===

    /// How many parts of the open message are complete.
    fn parts(&self) -> u64 {
        match &self.current {
            Current::Message(message) => message.count,
            _ => 0,
        }
    }

    fn item_id(&self, prefix: &str, index: u64) -> String {
        let id = self.head.id.strip_prefix("resp_").unwrap_or(&self.head.id);
        format!("{prefix}_{id}_{index}")
    }

    /// Begins an event: its name, its type and its number.
    fn begin<'o>(&mut self, kind: &str, out: &'o mut Vec<u8>) -> Object<'o> {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut event = Object::begin(out);
        event.string("type", kind);
        event.count("sequence_number", self.sequence);
        self.sequence += 1;
        event
    }

    fn added(&mut self, out: &mut Vec<u8>, write: &dyn Fn(&mut Object<'_>, &str), prefix: &str) {
        let (id, index) = (self.item_id(prefix, self.count), self.count);
        let mut event = self.begin("response.output_item.added", out);
        event.count("output_index", index);
        let mut item = event.object("item");
        write(&mut item, &id);
        item.end();
        end(event);
    }

    fn done(&mut self, prefix: &str, out: &mut Vec<u8>, write: &dyn Fn(&mut Object<'_>, &str)) {
        let (id, index) = (self.item_id(prefix, self.count), self.count);
        let mut whole = Vec::new();
        let mut item = Object::begin(&mut whole);
        write(&mut item, &id);
        item.end();
        let mut event = self.begin("response.output_item.done", out);
        event.count("output_index", index);
        event.key("item").extend_from_slice(&whole);
        end(event);
        self.keep(&whole);
    }

    /// Keeps an item for the end.
    fn keep(&mut self, item: &[u8]) {
        if self.count > 0 {
            self.items.push(b',');
        }
        self.items.extend_from_slice(item);
        self.count += 1;
    }

    fn part_event(&mut self, kind: &str, prefix: &str, at: u64, part: &Part, out: &mut Vec<u8>) {
        let (id, index) = (self.item_id(prefix, self.count), self.count);
        let mut event = self.begin(kind, out);
        event.string("item_id", &id);
        event.count("output_index", index);
        event.count(part.words.index, at);
        part.write(event.object("part"));
        end(event);
    }

    fn text_event(
        &mut self,
        kind: &str,
        id: &str,
        (name, at): (&str, u64),
        text: &Text<'_>,
        out: &mut Vec<u8>,
    ) {
        let index = self.count;
        let mut event = self.begin(kind, out);
        event.string("item_id", id);
        event.count("output_index", index);
        event.count(name, at);
        event.text("delta", text);
        if kind == ANSWER.delta {
            event.raw("logprobs", "[]");
        }
        end(event);
    }

    fn text_done(&mut self, part: &Part, prefix: &str, at: u64, out: &mut Vec<u8>) {
        let (id, index) = (self.item_id(prefix, self.count), self.count);
        let mut event = self.begin(part.words.done, out);
        event.string("item_id", &id);
        event.count("output_index", index);
        event.count(part.words.index, at);
        event.text(part.words.member, &inside(&part.text));
        if part.words.part == ANSWER.part {
            event.raw("logprobs", part.logprobs.as_deref().unwrap_or("[]"));
        }
        end(event);
        self.part_event(part.words.done_part, prefix, at, part, out);
    }
}

fn end(event: Object<'_>) {
    event.end().extend_from_slice(b"\n\n");
}
