//! The law of a stream: whatever a decoder tells, what comes out is valid.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::fold::Whole;
use super::{Attachment, Block, Event, FALLBACK_TOOL, Finish, Start, Stop, Text, broken, update};
use crate::dialect::usage::Usage;
use crate::error::{Error, Kind};

/// How much of blocks that cannot be told yet is kept, in bytes.
const WAITING: usize = 16 << 20;

/// Makes a valid stream of events. What it lets out:
///
/// 1. [`Event::Start`] first, once.
/// 2. Blocks one after the other, numbered from 0 without a gap: opened, added to, closed. A block that comes while
///    another is open waits for it. Empty deltas are left out, and so are empty blocks of text; a tool call without
///    arguments gets `{}`, and one whose id another has loses it. A call of [`FALLBACK_TOOL`] is the answer itself.
/// 3. [`Event::Usage`] at most once, then [`Event::Finish`] once, at the upstream's [`Event::End`]. Calls of tools make
///    a natural end a [`Stop::ToolCalls`].
/// 4. Or [`Event::Failed`], wherever the upstream's events make no sense or break off, or a call names no tool.
/// 5. Nothing after that, and never [`Event::End`]. [`Event::KeepAlive`] may come anywhere before.
#[derive(Debug, Default)]
pub struct Law {
    stage: Stage,
    /// Blocks that are not closed, in the order in which they are told. Only the first is told as it comes.
    blocks: SmallVec<[Slot; 2]>,
    /// How many blocks were told.
    told: u32,
    calls: Calls,
    /// The ids of the calls so far.
    ids: HashSet<String>,
    usage: Option<Usage>,
    waiting: usize,
    failure: Option<Error>,
}

/// How far the stream has come.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Silent,
    Speaking,
    Finished(Finish<'static>),
    Over,
}

/// Which tools were called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Calls {
    #[default]
    None,
    /// Only the one that stands for a reply of a given shape.
    Fallback,
    Client,
}

/// A block that is not closed.
#[derive(Debug)]
struct Slot {
    /// Its decoder's number.
    source: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// First in the row, and not told of: so far it is an empty text.
    Pending(Block<'static>),
    /// First in the row, and told of under this number.
    Open(u32, Content),
    /// Behind another.
    Waiting(Whole),
    /// Behind another, and complete.
    Complete(Whole),
}

/// What was told of an open block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// No text, and none is needed.
    None,
    /// No arguments, and some are needed.
    NoArguments,
    Some,
}

impl Law {
    /// Takes the next event of the upstream and lets out what the client is to be told.
    pub fn push(&mut self, event: Event<'_>, out: &mut impl FnMut(Event<'_>)) {
        if matches!(self.stage, Stage::Over) {
            return;
        }
        let result = match event {
            Event::KeepAlive => {
                out(Event::KeepAlive);
                Ok(())
            }
            Event::Failed(error) => Err(error),
            Event::Usage(usage) => {
                update(self.usage.get_or_insert_default(), usage);
                Ok(())
            }
            Event::End => self.end(out),
            event => self.speak(event, out),
        };
        if let Err(error) = result {
            self.stage = Stage::Over;
            self.blocks.clear();
            self.failure = Some(error.clone());
            out(Event::Failed(error));
        }
    }

    /// Whether nothing more will be told.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the model is done, and only usage and the end may follow.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished(_))
    }

    /// Why the stream failed, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    fn speak(&mut self, event: Event<'_>, out: &mut impl FnMut(Event<'_>)) -> Result<(), Error> {
        match (&self.stage, event) {
            (Stage::Silent, Event::Start(start)) => {
                self.usage = start.usage;
                self.stage = Stage::Speaking;
                out(Event::Start(start));
                return Ok(());
            }
            // Some upstreams repeat it.
            (_, Event::Start(_)) => return Ok(()),
            (Stage::Finished(_), Event::Close { .. }) => return Ok(()),
            (Stage::Finished(_), Event::Delta { text, .. }) if text.is_empty() => return Ok(()),
            (Stage::Finished(_), _) => return Err(broken("there is more after the end of the reply")),
            (Stage::Silent, event) => {
                self.stage = Stage::Speaking;
                out(Event::Start(Start::default()));
                self.tell(event, out)?;
            }
            (_, event) => self.tell(event, out)?,
        }
        Ok(())
    }

    fn tell(&mut self, event: Event<'_>, out: &mut impl FnMut(Event<'_>)) -> Result<(), Error> {
        match event {
            Event::Open { block, kind } => self.open(block, kind, out),
            Event::Delta { text, .. } if text.is_empty() => Ok(()),
            Event::Delta { block, text } => self.delta(block, text, out),
            Event::Attach { block, what } => self.attach(block, what, out),
            Event::Close { block } => {
                self.close(block, out);
                Ok(())
            }
            Event::Finish(finish) => {
                while let Some(first) = self.blocks.first().map(|slot| slot.source) {
                    self.close(first, out);
                }
                self.stage = Stage::Finished(finish.into_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, source: u32, kind: Block<'_>, out: &mut impl FnMut(Event<'_>)) -> Result<(), Error> {
        if self.blocks.iter().any(|slot| slot.source == source) {
            return Err(broken(format_args!("block {source} begins twice")));
        }
        if matches!(&kind, Block::ToolCall { name, .. } if name.is_blank()) {
            return Err(broken("a tool without a name is called"));
        }
        let kind = self.note_call(kind);
        let state = if self.blocks.is_empty() {
            self.begin(kind, out)
        } else {
            State::Waiting(Whole::new(kind.into_owned()))
        };
        self.blocks.push(Slot { source, state });
        Ok(())
    }

    /// Remembers a tool call. One that stands for the answer becomes it.
    fn note_call<'k>(&mut self, kind: Block<'k>) -> Block<'k> {
        match kind {
            Block::ToolCall { name, .. } if name == *FALLBACK_TOOL => {
                if self.calls == Calls::None {
                    self.calls = Calls::Fallback;
                }
                Block::Text
            }
            Block::ToolCall { id, name } => {
                self.calls = Calls::Client;
                Block::ToolCall { id: self.own_id(id), name }
            }
            kind => kind,
        }
    }

    /// A call's id, unless another call has it: a result would be of both. Encoders make one where there is none.
    fn own_id<'k>(&mut self, id: Text<'k>) -> Text<'k> {
        let plain = id.plain();
        let is_own = !plain.is_empty() && self.ids.insert(plain.into_owned());
        if is_own { id } else { Text::default() }
    }

    /// Begins a block that is first in the row.
    fn begin(&mut self, kind: Block<'_>, out: &mut impl FnMut(Event<'_>)) -> State {
        match kind {
            Block::Text | Block::Refusal | Block::Reasoning(_) => State::Pending(kind.into_owned()),
            Block::ToolCall { .. } => State::Open(self.announce(kind, out), Content::NoArguments),
            Block::Redacted { .. } | Block::Opaque(_) => State::Open(self.announce(kind, out), Content::None),
        }
    }

    fn announce(&mut self, kind: Block<'_>, out: &mut impl FnMut(Event<'_>)) -> u32 {
        let block = self.told;
        self.told += 1;
        out(Event::Open { block, kind });
        block
    }

    fn delta(&mut self, source: u32, text: Text<'_>, out: &mut impl FnMut(Event<'_>)) -> Result<(), Error> {
        if let Some(block) = self.number(source, Content::Some, out)? {
            out(Event::Delta { block, text });
            return Ok(());
        }
        let whole = self.whole(source)?;
        let before = whole.len();
        whole.add(&text);
        self.waiting += whole.len() - before;
        if self.waiting > WAITING { Err(broken("too much waits for a block to end")) } else { Ok(()) }
    }

    fn attach(
        &mut self,
        source: u32,
        what: Attachment<'_>,
        out: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Error> {
        match self.number(source, Content::None, out)? {
            Some(block) => out(Event::Attach { block, what }),
            None => self.whole(source)?.attached.push(what.into_owned()),
        }
        Ok(())
    }

    /// The number under which a block is told of; nothing if it has to wait. It is announced if it was not.
    fn number(
        &mut self,
        source: u32,
        content: Content,
        out: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<u32>, Error> {
        let told = self.told;
        let position = self.blocks.iter_mut().position(|slot| slot.source == source);
        let slot = position.and_then(|position| self.blocks.get_mut(position));
        let Some(slot) = slot else {
            return Err(broken(format_args!("block {source} is added to, but not open")));
        };
        match &mut slot.state {
            State::Open(block, before) => {
                if content == Content::Some {
                    *before = Content::Some;
                }
                Ok(Some(*block))
            }
            State::Pending(kind) => {
                out(Event::Open { block: told, kind: kind.borrowed() });
                slot.state = State::Open(told, content);
                self.told += 1;
                Ok(Some(told))
            }
            State::Waiting(_) | State::Complete(_) => Ok(None),
        }
    }

    /// What is kept of a block that waits.
    fn whole(&mut self, source: u32) -> Result<&mut Whole, Error> {
        self.blocks
            .iter_mut()
            .filter(|slot| slot.source == source)
            .find_map(|slot| match &mut slot.state {
                State::Waiting(whole) => Some(whole),
                State::Pending(_) | State::Open(..) | State::Complete(_) => None,
            })
            .ok_or_else(|| broken(format_args!("block {source} is added to after its end")))
    }

    /// Ends a block, and tells what waited for it. To end what is not open does no harm.
    fn close(&mut self, source: u32, out: &mut impl FnMut(Event<'_>)) {
        let Some(position) = self.blocks.iter().position(|slot| slot.source == source) else { return };
        if position > 0 {
            if let Some(Slot { state, .. }) = self.blocks.get_mut(position)
                && let State::Waiting(whole) = state
            {
                let whole = std::mem::replace(whole, Whole::new(Block::Text));
                *state = State::Complete(whole);
            }
            return;
        }
        let Slot { state, .. } = self.blocks.remove(0);
        end_block(&state, out);
        while let Some(Slot { state, .. }) = self.blocks.first_mut() {
            let before = std::mem::replace(state, State::Pending(Block::Text));
            let (whole, complete) = match before {
                State::Waiting(whole) => (whole, false),
                State::Complete(whole) => (whole, true),
                State::Pending(_) | State::Open(..) => return,
            };
            let state = self.release(whole, out);
            if complete {
                end_block(&state, out);
                self.blocks.remove(0);
            } else {
                if let Some(slot) = self.blocks.first_mut() {
                    slot.state = state;
                }
                return;
            }
        }
    }

    /// Tells of a block that waited.
    fn release(&mut self, whole: Whole, out: &mut impl FnMut(Event<'_>)) -> State {
        self.waiting = self.waiting.saturating_sub(whole.len());
        let mut state = self.begin(whole.block.borrowed(), out);
        let text = whole.text();
        if text.is_empty() && whole.attached.is_empty() {
            return state;
        }
        let number = match state {
            State::Open(number, _) => number,
            _ => self.announce(whole.block.borrowed(), out),
        };
        if !text.is_empty() {
            out(Event::Delta { block: number, text });
            state = State::Open(number, Content::Some);
        } else if !matches!(state, State::Open(..)) {
            state = State::Open(number, Content::None);
        }
        for what in &whole.attached {
            out(Event::Attach { block: number, what: what.borrowed() });
        }
        state
    }

    fn end(&mut self, out: &mut impl FnMut(Event<'_>)) -> Result<(), Error> {
        let Stage::Finished(mut finish) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(truncated());
        };
        let corrected = match (self.calls, finish.stop) {
            (Calls::Client, Stop::End | Stop::Sequence) => Some(Stop::ToolCalls),
            (Calls::Fallback, Stop::ToolCalls) => Some(Stop::End),
            _ => None,
        };
        if let Some(stop) = corrected {
            finish = Finish { stop, raw: None, ..finish };
        }
        if let Some(usage) = self.usage {
            out(Event::Usage(usage));
        }
        out(Event::Finish(finish));
        Ok(())
    }
}

/// Tells of the end of a block that was first in the row.
fn end_block(state: &State, out: &mut impl FnMut(Event<'_>)) {
    let State::Open(block, content) = *state else { return };
    if content == Content::NoArguments {
        out(Event::Delta { block, text: Text::from("{}") });
    }
    out(Event::Close { block });
}

/// The error for an upstream that broke off.
pub fn truncated() -> Error {
    let public = "the upstream broke off in the middle of its reply; try again";
    Error::upstream(Kind::UpstreamFailed, public).because("the stream ended without its terminal event")
}
