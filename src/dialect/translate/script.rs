//! What a client was told of an answer, so that another node can go on with it: the text, and what it came to.

use crate::dialect::ir::{Block, Event, Text, broken, update};
use crate::dialect::usage::{Input, Usage};

/// The most text that is kept, bytes.
const TEXT: usize = 1 << 20;

/// What a client was told of an answer.
#[derive(Debug, Default)]
pub(super) struct Script {
    state: State,
    /// The text's block, once it has begun.
    block: Option<u32>,
    text: String,
    /// What is still to come again of the end of the text: blanks, which templates cut off.
    owed: String,
    /// Tokens that earlier nodes made of the text.
    before: Tokens,
    /// The prompt's tokens, where they are known.
    prompt: Option<u64>,
    /// What the present node reports.
    reported: Usage,
    /// The tokens that it said.
    said: Tokens,
    /// Those of them up to the last that is not blank.
    solid: Tokens,
    /// How often another node has gone on.
    times: u32,
}

/// How many tokens a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tokens {
    /// As far as can be told.
    likely: u64,
    /// No more than so many; nothing where nobody knows.
    most: Option<u64>,
}

/// The longest word that is taken for one token, bytes.
const WORD: usize = 16;

impl Tokens {
    const NONE: Self = Self::exactly(0);

    const fn exactly(count: u64) -> Self {
        Self { likely: count, most: Some(count) }
    }

    /// How many tokens a piece of text is of which nothing else is known. Engines that report no usage on the way send one
    /// for each token, but for tokens that are no whole character.
    fn of(piece: &str) -> Self {
        let words = piece.split_whitespace().count();
        let begins_a_line = piece.trim_end().contains('\n');
        let foreign = piece.chars().filter(|char| !char.is_ascii()).map(char::len_utf8).sum::<usize>();
        let is_one = words <= 1 && !(words == 1 && begins_a_line) && piece.trim().len() - foreign <= WORD;
        Self { likely: 1, most: is_one.then(|| foreign.max(1) as u64) }
    }

    fn and(self, more: Self) -> Self {
        let most = self.most.zip(more.most).map(|(known, more)| known + more);
        Self { likely: self.likely + more.likely, most }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::NONE
    }
}

/// How the present node's answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It is text, which another could go on with.
    #[default]
    Telling,
    /// It is to go on with the text of another.
    Joining,
    /// It is complete, or has failed.
    Done,
    /// It holds what no other could go on with.
    Unfit(&'static str),
}

/// What another node is to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun<'s> {
    /// The text so far, but for blanks at its end: many templates cut them off, and they come again.
    pub text: &'s str,
    /// The tokens that it is: no more than so many, and nothing where nobody knows.
    pub tokens: Option<u64>,
    /// How often another node has gone on already.
    pub times: u32,
}

impl Script {
    /// What another node is to go on with; nothing where the answer is over.
    ///
    /// # Errors
    ///
    /// Why no other could.
    pub(super) fn begun(&self) -> Result<Option<Begun<'_>>, &'static str> {
        match self.state {
            State::Done => return Ok(None),
            State::Unfit(why) => return Err(why),
            State::Telling | State::Joining => {}
        }
        let text = self.text.trim_end();
        if text.is_empty() {
            return Err("nothing was said");
        }
        Ok(Some(Begun { text, tokens: self.tokens().most, times: self.times }))
    }

    /// The tokens that the text is, without blanks at its end.
    fn tokens(&self) -> Tokens {
        self.before.and(self.solid)
    }

    /// What all nodes together have used so far, as far as that is known.
    pub(super) fn used(&self) -> Usage {
        let mut used = Usage::default();
        used.input.total = self.prompt;
        used.output.total = Some(self.tokens().likely).filter(|tokens| *tokens > 0);
        used
    }

    /// The prompt of the present node, as it reports it.
    pub(super) fn prompt(&self) -> Input {
        self.reported.input
    }

    /// Whether another node has gone on.
    pub(super) fn is_continued(&self) -> bool {
        self.times > 0
    }

    /// The memory that it takes, bytes.
    pub(super) fn size(&self) -> usize {
        self.text.capacity() + self.owed.capacity()
    }

    /// There is no memory for it any more.
    pub(super) fn forget(&mut self) {
        if matches!(self.state, State::Telling | State::Joining) {
            self.unfit("there is no memory to keep the text in");
        }
    }

    /// Another node goes on.
    pub(super) fn go_on(&mut self) {
        let kept = self.text.trim_end().len();
        self.before = self.tokens();
        let blanks = self.text.split_off(kept);
        self.owed.insert_str(0, &blanks);
        (self.reported, self.said, self.solid) = (Usage::default(), Tokens::NONE, Tokens::NONE);
        self.state = State::Joining;
        self.times += 1;
    }

    /// Notes what the node tells, and lets out what the client is told of it.
    pub(super) fn pass<'e>(&mut self, event: Event<'e>, out: &mut impl FnMut(Event<'e>)) {
        let event = match event {
            Event::Usage(usage) => Event::Usage(self.usage(usage)),
            event => event,
        };
        match self.state {
            State::Joining => self.join(event, out),
            State::Telling => {
                self.note(&event);
                out(event);
            }
            State::Done | State::Unfit(_) => {
                if matches!(event, Event::Finish(_) | Event::End | Event::Failed(_)) {
                    self.state = State::Done;
                }
                out(event);
            }
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(start) => self.prompt = start.usage.and_then(|usage| usage.input.total),
            Event::Open { block, kind: Block::Text } if self.block.is_none() => self.block = Some(*block),
            Event::Delta { block, text } if self.block == Some(*block) => self.add(&text.plain()),
            Event::Finish(_) | Event::End | Event::Failed(_) => self.state = State::Done,
            Event::Open { kind: Block::ToolCall { .. }, .. } => self.unfit("a tool was being called"),
            Event::Open { kind: Block::Reasoning(_) | Block::Redacted { .. }, .. } => {
                self.unfit("the model had thought before it spoke");
            }
            Event::Open { .. } | Event::Attach { .. } => {
                self.unfit("the answer holds more than text");
            }
            Event::Close { .. } | Event::Delta { .. } | Event::Usage(_) | Event::KeepAlive => {}
        }
    }

    fn add(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.text.len() + text.len() > TEXT {
            return self.unfit("the text is too long to be kept");
        }
        // Half of a character that came in two pieces.
        if text.contains('\u{fffd}') {
            return self.unfit("the text holds a character that cannot be read");
        }
        self.said = self.said.and(Tokens::of(text));
        if !text.trim_start().is_empty() {
            self.solid = self.said;
        }
        self.text.push_str(text);
    }

    fn unfit(&mut self, why: &'static str) {
        self.state = State::Unfit(why);
        self.text = String::new();
    }

    /// Takes what a node tells that goes on with another's text: its opening is none to the client, and the blanks that it
    /// says again are not told again.
    fn join<'e>(&mut self, event: Event<'e>, out: &mut impl FnMut(Event<'e>)) {
        match event {
            Event::Start(_) => {}
            Event::Open { block, kind: Block::Text } if self.block == Some(block) => {}
            Event::Delta { block, text } if self.block == Some(block) => {
                let said = text.plain();
                if said.is_empty() {
                    return;
                }
                let same = self.owed.len().min(said.len());
                match (self.owed.get(..same), said.get(..same)) {
                    (Some(owed), Some(again)) if owed == again => {}
                    _ => return self.fail(out),
                }
                self.owed.drain(..same);
                if self.owed.is_empty() {
                    self.state = State::Telling;
                }
                self.add(&said);
                let rest = said.get(same..).unwrap_or_default();
                if !rest.is_empty() {
                    out(Event::Delta { block, text: Text::new(rest.to_owned()) });
                }
            }
            Event::KeepAlive | Event::Usage(_) | Event::Failed(_) => out(event),
            // The model would have said the blanks first.
            _ if !self.owed.is_empty() => self.fail(out),
            Event::Open { kind: Block::ToolCall { .. }, .. } => {
                // It may have the number of the text, which is complete.
                out(Event::Close { block: self.block.unwrap_or_default() });
                self.note(&event);
                out(event);
            }
            Event::Open { .. } => self.fail(out),
            event => {
                self.note(&event);
                out(event);
            }
        }
    }

    fn fail<'e>(&mut self, out: &mut impl FnMut(Event<'e>)) {
        self.state = State::Done;
        out(Event::Failed(broken("the node that was to go on with the answer began another")));
    }

    /// What all nodes together used: the prompt once, and the answer whole. What earlier nodes said is part of the present
    /// node's prompt.
    fn usage(&mut self, usage: Usage) -> Usage {
        update(&mut self.reported, usage);
        if let Some(total) = usage.output.total {
            // Blanks that came since the last word may be part of the count: too many is on the safe side.
            let is_solid = self.solid == self.said || self.solid.most.is_none();
            // Nothing that is said is no token.
            self.said = Tokens::exactly(total.max(self.said.likely));
            if is_solid {
                self.solid = self.said;
            }
        }
        let mut all = usage;
        if self.times == 0 {
            self.prompt = usage.input.total.or(self.prompt);
            return all;
        }
        let prompt = self.prompt.or_else(|| Some(usage.input.total?.saturating_sub(self.before.likely)));
        self.prompt = prompt;
        all.input.total = prompt;
        all.input.cached = usage.input.cached.map(|cached| cached.min(prompt.unwrap_or(cached)));
        all.output.total = usage.output.total.map(|total| total + self.before.likely);
        all
    }
}
