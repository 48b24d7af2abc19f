//! Replies without what is looked for, whole or streamed.

use smallvec::SmallVec;

use super::{Kinds, Redactor, redact_json};
use crate::dialect::ir::{Attachment, Block, Event, Fold, Json, Opaque, Reply, Text};
use crate::dialect::translate::Filter;
use crate::error::Error;

/// Takes what it looks for out of a reply's events. A match across two of them is one; of each block only what could still
/// become a match is held back.
///
/// Answers, refusals and readable thoughts are looked through, and what only one dialect knows. Calls of tools are left as
/// they are: they are for a program. How likely tokens were is left out, for it says them all; so is the seal of a thought
/// that was changed.
#[derive(Debug)]
pub struct Events {
    kinds: Kinds,
    /// The blocks of text that are open.
    open: SmallVec<[Open; 2]>,
}

/// A block of text.
#[derive(Debug)]
struct Open {
    number: u32,
    redactor: Redactor,
    /// The first half of a character beyond the basic plane, as JSON escapes it, whose other half comes with the next event.
    half: String,
}

impl Events {
    /// For those kinds.
    pub fn new(kinds: Kinds) -> Self {
        Self { kinds, open: SmallVec::new() }
    }

    fn block(&mut self, number: u32) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.number == number)
    }

    /// Lets out what is held of a block.
    fn flush(&mut self, block: u32, out: &mut dyn FnMut(Event<'_>)) {
        let mut text = String::new();
        if let Some(open) = self.block(block) {
            let half = std::mem::take(&mut open.half);
            open.redactor.push(&Text::Escaped(half.into()).plain(), &mut text);
            open.redactor.finish(&mut text);
        }
        if !text.is_empty() {
            out(Event::Delta { block, text: Text::new(text) });
        }
    }

    fn open(&mut self, block: u32, kind: Block<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let kind = match kind {
            Block::Text | Block::Refusal | Block::Reasoning(_) => {
                let redactor = Redactor::new(self.kinds);
                self.open.push(Open { number: block, redactor, half: String::new() });
                kind
            }
            Block::Opaque(opaque) => Block::Opaque(self.without(opaque)),
            Block::Redacted { .. } | Block::ToolCall { .. } => kind,
        };
        out(Event::Open { block, kind });
    }

    fn delta(&mut self, block: u32, text: &Text<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let Some(open) = self.block(block) else {
            return out(Event::Delta { block, text: text.borrowed() });
        };
        let mut free = String::new();
        if open.half.is_empty() && !ends_in_half(text) {
            open.redactor.push(&text.plain(), &mut free);
        } else {
            let mut whole = std::mem::take(&mut open.half);
            text.escape_into(&mut whole);
            let whole = Text::Escaped(whole.into());
            let escaped = whole.escaped();
            let end = escaped.len() - if ends_in_half(&whole) { HALF } else { 0 };
            let (now, later) = escaped.split_at_checked(end).unwrap_or((escaped, ""));
            later.clone_into(&mut open.half);
            open.redactor.push(&Text::Escaped(now.into()).plain(), &mut free);
        }
        if !free.is_empty() {
            out(Event::Delta { block, text: Text::new(free) });
        }
    }

    fn attach(&mut self, block: u32, what: Attachment<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let what = match what {
            Attachment::Logprobs(_) => return,
            Attachment::Opaque(opaque) => Attachment::Opaque(self.without(opaque)),
            Attachment::Signature { .. } => {
                // A seal comes after what it is of.
                self.flush(block, out);
                if self.block(block).is_some_and(|open| !open.redactor.found().is_empty()) {
                    return;
                }
                what
            }
        };
        out(Event::Attach { block, what });
    }

    fn without<'o>(&self, opaque: Opaque<'o>) -> Opaque<'o> {
        let changed = redact_json(self.kinds, opaque.json.get());
        match changed.and_then(|(json, _)| Json::value(json)) {
            Some(json) => Opaque { json, ..opaque },
            None => opaque,
        }
    }
}

/// The length of `\ud83d`, bytes.
const HALF: usize = 6;

/// Whether a text ends in the first half of a pair that JSON writes a character beyond the basic plane with.
fn ends_in_half(text: &Text<'_>) -> bool {
    let escaped = text.escaped().as_bytes();
    let Some((before, last)) = escaped.len().checked_sub(HALF).and_then(|at| escaped.split_at_checked(at))
    else {
        return false;
    };
    // An escaped backslash before `ud83d` is no escape of it.
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
    let is_first = matches!(last, [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]);
    is_first && backslashes % 2 == 0
}

impl Filter for Events {
    fn pass(&mut self, event: Event<'_>, out: &mut dyn FnMut(Event<'_>)) {
        match event {
            Event::Open { block, kind } => self.open(block, kind, out),
            Event::Delta { block, text } => self.delta(block, &text, out),
            Event::Attach { block, what } => self.attach(block, what, out),
            Event::Close { block } => {
                self.flush(block, out);
                self.open.retain(|open| open.number != block);
                out(Event::Close { block });
            }
            Event::Finish(_) | Event::End | Event::Failed(_) => {
                let blocks: SmallVec<[u32; 2]> = self.open.iter().map(|open| open.number).collect();
                blocks.into_iter().for_each(|block| self.flush(block, out));
                self.open.clear();
                out(event);
            }
            Event::Start(_) | Event::Usage(_) | Event::KeepAlive => out(event),
        }
    }
}

/// A whole reply without what is looked for.
///
/// # Errors
/// [`crate::error::Kind::UpstreamFailed`] where the reply makes no sense.
pub fn redact_reply(kinds: Kinds, reply: Reply) -> Result<Reply, Error> {
    if kinds.is_empty() {
        return Ok(reply);
    }
    let (mut filter, mut fold) = (Events::new(kinds), Fold::default());
    reply.events(&mut |event| filter.pass(event, &mut |event| fold.push(event)));
    fold.finish()
}

#[cfg(test)]
mod tests;
