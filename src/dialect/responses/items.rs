//! Blocks out of output items.
//!
//! A stream tells an item in pieces, and then whole; a whole reply has only the latter. [`Items`] tells of each piece
//! once: what no piece told is told when the item is done. Items are known by their place alone, because some hosts
//! change their ids on the way.

use serde::Deserialize;
use smallvec::SmallVec;

use super::Seal;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Attachment, Block, Event, Opaque, Origin, Text};

/// The items of a reply so far.
#[derive(Debug, Default)]
pub(super) struct Items {
    next: u32,
    told: SmallVec<[Told; 2]>,
}

/// A block of an item that is not done.
#[derive(Debug)]
struct Told {
    place: Place,
    block: u32,
    state: State,
}

/// Where a block stands: the item's index, and that of the part of a message; 0 for other items.
pub(super) type Place = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of it was said.
    Silent,
    /// Something was, last of this section.
    Speaking(Section),
    Closed,
}

/// A section of reasoning. Other blocks have one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Of the summary.
    Summary(u64),
    /// Of the text.
    Text(u64),
}

impl Items {
    /// Whether there was nothing so far.
    pub(super) fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// An item begins. Only a function call tells anything yet.
    pub(super) fn added(&mut self, index: u64, item: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let item: Item<'_> = item.object().unwrap_or_default();
        if item.kind.text().is_some_and(|kind| kind == *"function_call")
            && let (Some(id), Some(name)) = (item.call_id.some_text(), item.name.some_text())
        {
            self.open((index, 0), Block::ToolCall { id, name }, sink);
        }
    }

    /// More of an answer, a refusal or reasoning.
    pub(super) fn delta(
        &mut self,
        place: Place,
        kind: Block<'_>,
        section: Section,
        text: Option<Text<'_>>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        self.open(place, kind, sink);
        self.say(place, section, text, sink);
    }

    /// More of a function call's arguments. Those of a call that nobody knows the name of wait for its end.
    pub(super) fn arguments(&mut self, index: u64, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        if let (Some(text), Some(_)) = (text, self.find((index, 0))) {
            self.say((index, 0), Section::Text(0), text, sink);
        }
    }

    /// A part of a message is complete.
    pub(super) fn part_done(&mut self, place: Place, part: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let part: Part<'_> = part.object().unwrap_or_default();
        let kind = part.kind.text().unwrap_or_default();
        let (kind, text) = match kind.plain().as_ref() {
            "output_text" | "text" => (Block::Text, part.text.some_text()),
            "refusal" => (Block::Refusal, part.refusal.some_text()),
            _ => return,
        };
        match self.find(place) {
            Some(Told { state: State::Closed, .. }) => return,
            None if text.is_none() => return,
            _ => self.open(place, kind, sink),
        }
        self.say_if_silent(place, text, sink);
        for annotation in part.annotations.items::<Raw<'_>>() {
            self.beside(place, "annotation", annotation, sink);
        }
        if let Some(list) =
            part.logprobs.json().filter(|json| json.get().starts_with('[') && json.get() != "[]")
        {
            self.attach(place, Attachment::Logprobs(list), sink);
        }
        self.close(place, sink);
    }

    /// An item is complete.
    pub(super) fn done(&mut self, index: u64, raw: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let item: Item<'_> = raw.object().unwrap_or_default();
        let kind = item.kind.text().unwrap_or_default();
        let place = (index, 0);
        match kind.plain().as_ref() {
            "message" => {
                for (at, part) in (0..).zip(item.content.items::<Raw<'_>>()) {
                    self.part_done((index, at), part, sink);
                }
            }
            "function_call" => {
                self.open(place, item.call(), sink);
                self.say_if_silent(place, item.arguments.some_text(), sink);
            }
            "custom_tool_call" => {
                self.open(place, item.call(), sink);
                let mut arguments = Vec::new();
                let mut object = Object::begin(&mut arguments);
                object.text("input", &item.input.text().unwrap_or_default());
                object.end();
                self.say_if_silent(place, Some(Text::new(String::from_utf8_lossy(&arguments))), sink);
            }
            "reasoning" => self.reasoning(place, &item, sink),
            _ => {
                if let Some(json) = raw.json() {
                    self.open(place, Block::Opaque(Opaque::new(Origin::Responses, kind, json)), sink);
                }
            }
        }
        for told in self.told.iter().filter(|told| told.place.0 == index && told.state != State::Closed) {
            sink(Event::Close { block: told.block });
        }
        self.told.retain(|told| told.place.0 != index);
    }

    fn reasoning(&mut self, place: Place, item: &Item<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if self.find(place).is_none() {
            let summary = (0..).zip(item.summary.items::<Part<'_>>());
            let summary = summary.map(|(at, part)| (Section::Summary(at), part.text.some_text()));
            let content = (0..).zip(item.content.items::<Part<'_>>());
            let content = content.map(|(at, part)| (Section::Text(at), part.text.some_text()));
            for (section, text) in summary.chain(content) {
                self.delta(place, Block::Reasoning(Origin::Responses), section, text, sink);
            }
        }
        let bare = self.find(place).is_none();
        match item.seal(bare) {
            None | Some(Seal::Call(..)) => {}
            Some(Seal::Signature(origin, text)) => {
                self.open(place, Block::Reasoning(origin), sink);
                self.attach(place, Attachment::Signature { origin, text }, sink);
            }
            Some(Seal::Redacted(origin, data)) => self.open(place, Block::Redacted { origin, data }, sink),
        }
    }

    // === Blocks ===

    fn find(&mut self, place: Place) -> Option<&mut Told> {
        self.told.iter_mut().find(|told| told.place == place)
    }

    /// Opens the block at `place`, if it was not.
    fn open(&mut self, place: Place, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if self.find(place).is_none() {
            let block = self.next;
            self.next += 1;
            self.told.push(Told { place, block, state: State::Silent });
            sink(Event::Open { block, kind });
        }
    }

    /// Sections of reasoning are paragraphs.
    fn say(&mut self, place: Place, section: Section, text: Text<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(told) = self.find(place) else { return };
        let block = told.block;
        if matches!(told.state, State::Speaking(before) if before != section) {
            sink(Event::Delta { block, text: Text::from("\n\n") });
        }
        told.state = State::Speaking(section);
        sink(Event::Delta { block, text });
    }

    fn say_if_silent(&mut self, place: Place, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        if let (Some(Told { state: State::Silent, .. }), Some(text)) = (self.find(place), text) {
            self.say(place, Section::Text(0), text, sink);
        }
    }

    fn attach(&mut self, place: Place, what: Attachment<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(told) = self.find(place) {
            sink(Event::Attach { block: told.block, what });
        }
    }

    /// Attaches something in Responses' own words.
    fn beside(&mut self, place: Place, kind: &'static str, raw: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(json) = raw.json() {
            self.attach(place, Attachment::Opaque(Opaque::new(Origin::Responses, kind, json)), sink);
        }
    }

    fn close(&mut self, place: Place, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(told) = self.find(place) {
            told.state = State::Closed;
            sink(Event::Close { block: told.block });
        }
    }
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    call_id: Raw<'a>,
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    arguments: Raw<'a>,
    #[serde(borrow)]
    input: Raw<'a>,
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    summary: Raw<'a>,
    #[serde(borrow)]
    encrypted_content: Raw<'a>,
}

impl<'a> Item<'a> {
    fn call(&self) -> Block<'a> {
        let (id, name) = (self.call_id.text().unwrap_or_default(), self.name.text().unwrap_or_default());
        Block::ToolCall { id, name }
    }

    fn seal(&self, bare: bool) -> Option<Seal<'a>> {
        let encrypted = self.encrypted_content.some_text()?;
        Some(Seal::read(self.id.text().as_ref(), &encrypted, bare))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    refusal: Raw<'a>,
    #[serde(borrow)]
    annotations: Raw<'a>,
    #[serde(borrow)]
    logprobs: Raw<'a>,
}
