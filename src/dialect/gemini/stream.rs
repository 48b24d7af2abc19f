//! Gemini streams: server-sent events (`alt=sse`), each a reply of its own.

use memchr::memchr_iter;
use serde_json::value::RawValue;

use super::reply::Wire;
use super::speech::{Speech, end_into, head_into, usage_into};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Event, Finish, Law, Notes, ReplyTo, Start, broken};
use crate::dialect::usage::Usage;
use crate::frame::sse;

/// Reads a Gemini stream that is cut anywhere.
#[derive(Debug)]
pub struct Decoder {
    reader: sse::Reader,
    wire: Wire,
    form: Form,
}

/// What the upstream sends. Some errors come as bare JSON over several lines, and a reply may come whole.
#[derive(Debug)]
enum Form {
    /// Events; the last byte was this.
    Events(u8),
    /// JSON that begins a line, up to the end.
    Bare(Vec<u8>),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { reader: sse::Reader::default(), wire: Wire::default(), form: Form::Events(b'\n') }
    }
}

impl Decoder {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire, form } = self;
        let (events, rest) = match form {
            Form::Bare(_) => (&[][..], bytes),
            Form::Events(last) => {
                let at = bare_at(*last, bytes).unwrap_or(bytes.len());
                *last = bytes.last().copied().unwrap_or(*last);
                bytes.split_at_checked(at).unwrap_or((bytes, &[]))
            }
        };
        if let Err(error) = reader.push(events, &mut |event| one(wire, &event, sink)) {
            return sink(Event::Failed(broken(error)));
        }
        if rest.is_empty() {
            return;
        }
        if let Form::Events(_) = form {
            *form = Form::Bare(Vec::new());
        }
        if let Form::Bare(bare) = form {
            if bare.len() + rest.len() > sse::LIMIT {
                return sink(Event::Failed(broken("too much JSON stands where events should")));
            }
            bare.extend_from_slice(rest);
        }
    }

    /// The upstream closed the stream, which is how Gemini ends it.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { reader, wire, form } = self;
        std::mem::take(reader).finish(&mut |event| one(wire, &event, sink));
        if let Form::Bare(bare) = form {
            match serde_json::from_slice::<Vec<&RawValue>>(bare) {
                Ok(items) => items.iter().for_each(|item| wire.chunk(item.get().as_bytes(), sink)),
                Err(_) => wire.chunk(bare, sink),
            }
        }
        wire.end(sink);
    }
}

/// Where a line begins with JSON, which no line of an event does.
fn bare_at(last: u8, bytes: &[u8]) -> Option<usize> {
    let is_bare = |at: usize| matches!(bytes.get(at), Some(b'{' | b'['));
    if last == b'\n' && is_bare(0) {
        return Some(0);
    }
    memchr_iter(b'\n', bytes).map(|end| end + 1).find(|start| is_bare(*start))
}

fn one(wire: &mut Wire, event: &sse::Event<'_>, sink: &mut impl FnMut(Event<'_>)) {
    match event.data.trim_ascii() {
        b"" | b"[DONE]" => {}
        data => wire.chunk(data, sink),
    }
}

// === Writing ===

/// Writes a Gemini stream.
#[derive(Debug, Default)]
pub struct Encoder {
    law: Law,
    writer: Writer,
}

#[derive(Debug, Default)]
struct Writer {
    to: ReplyTo,
    /// All of an event after its candidates.
    tail: Vec<u8>,
    speech: Speech,
    usage: Option<Usage>,
}

impl Encoder {
    /// Writes an answer for `to`.
    pub fn new(to: ReplyTo) -> Self {
        Self { law: Law::default(), writer: Writer { to, ..Writer::default() } }
    }

    /// Takes the next event, and appends what the client is sent.
    pub fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        let Self { law, writer } = self;
        law.push(event, &mut |event| writer.event(&event, out));
    }

    /// The law that it keeps, which knows whether the stream is over, and why.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        &self.writer.speech.notes
    }
}

impl Writer {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if let Event::Start(start) = event {
            self.start(start);
        }
        let Self { speech, tail, .. } = self;
        speech.hear(event, &mut |part| {
            out.extend_from_slice(b"data: {\"candidates\":[{\"content\":{\"parts\":[");
            out.extend_from_slice(part);
            out.extend_from_slice(b"],\"role\":\"model\"},\"index\":0}]");
            out.extend_from_slice(tail);
        });
        match event {
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish(finish) => self.finish(finish, out),
            Event::Failed(error) => sse::event(out, None, &super::error(error)),
            // Google's SDKs take a comment for JSON, so there is nothing to send while the upstream is silent.
            _ => {}
        }
    }

    fn start(&mut self, start: &Start<'_>) {
        let mut head = Vec::new();
        let mut object = Object::begin(&mut head);
        head_into(&mut object, start, &self.to);
        object.end();
        let members = head.strip_prefix(b"{").unwrap_or(&head);
        self.tail = [b",", members, b"\n\n"].concat();
    }

    fn finish(&self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let mut last = Vec::new();
        let mut body = Object::begin(&mut last);
        end_into(&mut body, finish, &self.speech, |content| {
            content.raw("parts", "[{\"text\":\"\"}]");
        });
        if let Some(usage) = &self.usage {
            usage_into(body.object("usageMetadata"), usage);
        }
        body.end();
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(last.strip_suffix(b"}").unwrap_or(&last));
        out.extend_from_slice(&self.tail);
    }
}
