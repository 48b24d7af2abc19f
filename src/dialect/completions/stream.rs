//! Streams of completions.

use super::reply::{finish_reason, head_into, is_said, logprobs_into, unsaid, unsaid_beside};
use crate::dialect::Operation;
use crate::dialect::chat::reply::usage_into;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Attachment, Delivery, Event, Finish, Law, Notes, ReplyTo, Start, Text};
use crate::dialect::stream::{error_event, heartbeat};
use crate::dialect::usage::{Mark, Usage};

const OPERATION: Operation = Operation::Completions;

/// Writes a stream of completions.
#[derive(Debug)]
pub struct Encoder {
    law: Law,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    to: ReplyTo,
    /// All of a chunk before its choices.
    head: Vec<u8>,
    current: Current,
    /// Characters of the tokens that were told of with their likelihood.
    offset: u64,
    usage: Option<Usage>,
    notes: Notes,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// It is part of the text.
    Said,
    /// There are no words for it.
    Silent,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        let (current, notes) = (Current::Silent, Notes::default());
        let writer = Writer { to, head: Vec::new(), current, offset: 0, usage: None, notes };
        Self { law: Law::default(), writer }
    }

    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        let Self { law, writer } = self;
        law.push(event, &mut |event| writer.event(event, out));
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        &self.writer.notes
    }
}

impl Writer {
    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Open { kind, .. } => {
                unsaid(&kind, &mut self.notes);
                self.current = if is_said(&kind) { Current::Said } else { Current::Silent };
            }
            Event::Delta { text, .. } if self.current == Current::Said => {
                self.chunk(out, &text, |choice| choice.raw("logprobs", "null"), None);
            }
            Event::Attach { what, .. } => self.attach(&what, out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish(finish) => self.finish(&finish, out),
            Event::Failed(error) => {
                out.extend_from_slice(&error_event(OPERATION, &error, &self.to.id, Mark::default()));
            }
            Event::KeepAlive => out.extend_from_slice(heartbeat(OPERATION)),
            Event::Delta { .. } | Event::Close { .. } | Event::End => {}
        }
    }

    fn start(&mut self, start: &Start<'_>) {
        self.head.extend_from_slice(b"data: ");
        let mut body = Object::begin(&mut self.head);
        head_into(&mut body, start, &self.to);
        // The object goes on in every chunk.
        let _ = body.key("choices");
    }

    fn attach(&mut self, what: &Attachment<'_>, out: &mut Vec<u8>) {
        unsaid_beside(what, &mut self.notes);
        if let (Some(list), Current::Said) = (what.logprobs(), self.current) {
            let mut offset = self.offset;
            let list = std::iter::once(list);
            self.chunk(out, &Text::default(), |choice| logprobs_into(choice, list, &mut offset), None);
            self.offset = offset;
        }
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let reason = Some(finish_reason(finish));
        self.chunk(out, &Text::default(), |choice| choice.raw("logprobs", "null"), reason);
        if let (Delivery::StreamWithUsage, Some(usage)) = (self.to.delivery, &self.usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"[],\"usage\":");
            usage_into(Object::begin(out), usage);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn chunk(
        &self,
        out: &mut Vec<u8>,
        text: &Text<'_>,
        logprobs: impl FnOnce(&mut Object<'_>),
        reason: Option<&str>,
    ) {
        out.extend_from_slice(&self.head);
        out.push(b'[');
        let mut choice = Object::begin(out);
        choice.text("text", text);
        choice.count("index", 0);
        logprobs(&mut choice);
        match reason {
            Some(reason) => choice.string("finish_reason", reason),
            None => choice.raw("finish_reason", "null"),
        }
        choice.end();
        out.push(b']');
        if self.to.delivery == Delivery::StreamWithUsage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }
}
