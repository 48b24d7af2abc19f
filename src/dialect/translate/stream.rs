//! A stream on its way from an upstream of one dialect to a client of another.

use super::script::{Begun, Script};
use super::{Client, Decoder, Encoder, Upstream};
use crate::dialect::ir::{Block, Event, Finish, Notes, Origin, ReplyTo, Stop, Text, update};
use crate::dialect::usage::{Input, Usage};
use crate::error::Error;

/// Stands between what an upstream says and what the client is told.
pub trait Filter: std::fmt::Debug + Send {
    /// Takes the next event, and lets out what becomes of it and of those before it.
    fn pass(&mut self, event: Event<'_>, out: &mut dyn FnMut(Event<'_>));
}

/// A stream on its way from an upstream to a client.
#[derive(Debug)]
pub struct Stream {
    decoder: Decoder,
    encoder: Encoder,
    seen: Seen,
    /// What was told, where another upstream may have to go on with it.
    script: Option<Box<Script>>,
    filter: Option<Box<dyn Filter>>,
}

/// What the upstream said so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Pieces of text, reasoning or tool calls.
    pub content: u32,
    /// Tokens used, as reported last.
    pub usage: Option<Usage>,
}

impl Seen {
    pub(super) fn note(&mut self, event: &Event<'_>) {
        match event {
            // That a text begins is not yet a word of it.
            Event::Open { kind: Block::Text | Block::Refusal | Block::Reasoning(_), .. } => {}
            Event::Delta { text, .. } if text.is_empty() => {}
            Event::Open { .. } | Event::Delta { .. } => self.content += 1,
            Event::Usage(usage) => update(self.usage.get_or_insert_default(), *usage),
            Event::Start(start) => self.usage = self.usage.or(start.usage),
            _ => {}
        }
    }
}

impl Stream {
    /// A stream of `upstream` that answers `client`.
    pub fn new(upstream: Upstream, client: Client, to: ReplyTo) -> Self {
        Self {
            decoder: upstream.decoder(),
            encoder: client.encoder(to),
            seen: Seen::default(),
            script: None,
            filter: None,
        }
    }

    /// Has every event go through a filter. What is kept for another upstream is what was said, not what became of it.
    #[must_use]
    pub fn filtered(mut self, filter: Box<dyn Filter>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Keeps the text that the client is told from now on, so that another upstream can go on with it.
    pub fn keep(&mut self) {
        self.script = Some(Box::default());
    }

    /// What another upstream is to go on with; nothing where the answer is over.
    ///
    /// # Errors
    ///
    /// Why no other could.
    pub fn begun(&self) -> Result<Option<Begun<'_>>, &'static str> {
        match &self.script {
            Some(script) => script.begun(),
            None => Err("what was said was not kept"),
        }
    }

    /// Another upstream of that dialect goes on with what was said. What came of the last one's next event is gone with it.
    pub fn go_on(&mut self, upstream: Upstream) {
        if let Some(script) = &mut self.script {
            script.go_on();
            self.decoder = upstream.decoder();
        }
    }

    /// What all upstreams together have used, and what of it is known while one has yet to go on; nothing where nothing is.
    pub fn usage(&self) -> Option<Usage> {
        let Some(script) = self.script.as_ref().filter(|script| script.is_continued()) else {
            return self.seen.usage;
        };
        let (used, mut all) = (script.used(), self.seen.usage.unwrap_or_default());
        all.input.total = all.input.total.or(used.input.total);
        all.output.total = all.output.total.max(used.output.total);
        Some(all)
    }

    /// What the upstreams so far have used of what was kept; nothing where nothing was.
    pub fn used(&self) -> Option<Usage> {
        self.script.as_ref().map(|script| script.used())
    }

    /// What the present upstream reports of its own prompt, where it goes on with what another began: the client is told of
    /// the first one's alone.
    pub fn prompt(&self) -> Option<Input> {
        self.script.as_ref().filter(|script| script.is_continued()).map(|script| script.prompt())
    }

    /// The memory of what is kept, bytes.
    pub fn kept(&self) -> usize {
        self.script.as_ref().map_or(0, |script| script.size())
    }

    /// Keeps nothing more, and forgets what was kept: there is no memory for it.
    pub fn forget(&mut self) {
        if let Some(script) = &mut self.script {
            script.forget();
        }
    }

    /// Whether the upstream has said all: only usage and the end may follow.
    pub fn is_said(&self) -> bool {
        self.encoder.law().is_finished()
    }

    /// All that was allowed is said, though the upstream could not say so: appends the end.
    pub fn complete(&mut self, out: &mut Vec<u8>) {
        let usage = self.used().unwrap_or_default();
        let finish = Finish::new(Stop::Length, Origin::Chat, Text::new("length"));
        for event in [Event::Usage(usage), Event::Finish(finish), Event::End] {
            say(event, &mut self.seen, &mut self.filter, &mut self.encoder, out);
        }
    }

    /// Takes the upstream's next bytes, and appends what the client is sent.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { decoder, encoder, seen, script, filter } = self;
        decoder.push(bytes, &mut |event| {
            tell(event, script, &mut |event| say(event, seen, filter, encoder, out))
        });
    }

    /// The upstream closed the stream: appends the end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let Self { decoder, encoder, seen, script, filter } = self;
        decoder.finish(&mut |event| tell(event, script, &mut |event| say(event, seen, filter, encoder, out)));
    }

    /// The exchange failed: appends what tells the client, unless it was told the end already.
    pub fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        say(Event::Failed(error.clone()), &mut self.seen, &mut self.filter, &mut self.encoder, out);
    }

    /// Whether the client has been sent the end.
    pub fn is_over(&self) -> bool {
        self.encoder.law().is_over()
    }

    /// Why the stream failed, if it did. The client has been told.
    pub fn failure(&self) -> Option<&Error> {
        self.encoder.law().failure()
    }

    /// What the upstream said so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What could not be said.
    pub fn notes(&self) -> &Notes {
        self.encoder.notes()
    }
}

fn tell<'e>(event: Event<'e>, script: &mut Option<Box<Script>>, out: &mut impl FnMut(Event<'e>)) {
    match script {
        None => out(event),
        Some(script) => script.pass(event, out),
    }
}

fn say(
    event: Event<'_>,
    seen: &mut Seen,
    filter: &mut Option<Box<dyn Filter>>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    seen.note(&event);
    match filter {
        None => encoder.push(event, out),
        Some(filter) => filter.pass(event, &mut |event| encoder.push(event, out)),
    }
}
