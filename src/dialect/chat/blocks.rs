//! Blocks out of chat's flat deltas.
//!
//! A chat message has no blocks: a delta holds an answer, reasoning and pieces of several tool calls side by side.
//! [`Blocks`] turns each into events of its own. A whole message is one large delta.

use serde::Deserialize;
use smallvec::SmallVec;

use super::origin_of;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Attachment, Block, Event, Opaque, Origin, Text};

/// The part of a message that a delta adds to, or a whole message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Logprobs<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    refusal: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    refusal: Raw<'a>,
    #[serde(borrow)]
    reasoning_content: Raw<'a>,
    #[serde(borrow)]
    reasoning: Raw<'a>,
    #[serde(borrow)]
    reasoning_details: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Raw<'a>,
    #[serde(borrow)]
    function_call: Raw<'a>,
    #[serde(borrow)]
    annotations: Raw<'a>,
}

/// What deltas have added up to so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    current: Current,
    calls: SmallVec<[Call; 1]>,
    next: u32,
}

/// The block that text was added to last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Current {
    #[default]
    None,
    Text(u32),
    Refusal(u32),
    /// Reasoning whose text came in a field of its own. Its seal may repeat the text.
    Reasoning(u32),
    /// Reasoning whose text came in details.
    Detailed(u32),
    /// Reasoning that has got its seal.
    Sealed(u32),
}

/// A tool call.
#[derive(Debug)]
struct Call {
    /// Its number on the wire.
    index: u64,
    id: String,
    state: CallState,
}

#[derive(Debug)]
enum CallState {
    /// Its id or its name have not come; these arguments have, as the inside of a JSON string.
    Waiting { name: String, arguments: String },
    /// It was told of under this number.
    Told(u32),
}

impl Blocks {
    /// Tells what a delta adds.
    pub(super) fn delta(&mut self, delta: &Delta<'_>, sink: &mut impl FnMut(Event<'_>)) {
        self.reasoning(delta, sink);
        match delta.content.get() {
            Some(content) if content.starts_with('[') => self.chunks(delta.content, sink),
            Some(_) => self.text(delta.content.some_text(), sink),
            None => {}
        }
        if let Some(refusal) = delta.refusal.some_text() {
            let block = match self.current {
                Current::Refusal(block) => block,
                _ => self.begin(Block::Refusal, Current::Refusal, sink),
            };
            sink(Event::Delta { block, text: refusal });
        }
        if delta.tool_calls.get().is_some() {
            for (position, call) in (0..).zip(delta.tool_calls.items::<ToolCall<'_>>()) {
                self.call(&call, position, sink);
            }
        }
        if let Some(function) = delta.function_call.object::<Function<'_>>() {
            self.call(&ToolCall { function, ..ToolCall::default() }, 0, sink);
        }
        self.beside("annotations", delta.annotations, sink);
    }

    /// Tells how likely the tokens of the answer were.
    pub(super) fn logprobs(&self, value: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let lists: Logprobs<'_> = value.object().unwrap_or_default();
        let (list, block) = match self.current {
            Current::Text(block) => (lists.content, block),
            Current::Refusal(block) => (lists.refusal, block),
            _ => return,
        };
        if let Some(json) = list.json().filter(|json| json.get().starts_with('[') && json.get() != "[]") {
            sink(Event::Attach { block, what: Attachment::Logprobs(json) });
        }
    }

    /// Tells of something that belongs to the answer beside its text, in chat's own words.
    fn beside(&self, kind: &'static str, value: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(json) = value.json().filter(|json| !matches!(json.get(), "[]" | "{}")) else { return };
        if let Current::Text(block) = self.current {
            let what = Attachment::Opaque(Opaque { origin: Origin::Chat, kind: Text::from(kind), json });
            sink(Event::Attach { block, what });
        }
    }

    /// The message is complete: tells of calls whose id or name never came.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let Self { calls, next, .. } = self;
        calls.iter_mut().for_each(|call| call.tell(next, sink));
    }

    fn text(&mut self, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(text) = text else { return };
        let block = match self.current {
            Current::Text(block) => block,
            _ => self.begin(Block::Text, Current::Text, sink),
        };
        sink(Event::Delta { block, text });
    }

    /// Mistral's content: an array of chunks, of which some are thoughts.
    fn chunks(&mut self, content: Raw<'_>, sink: &mut impl FnMut(Event<'_>)) {
        for chunk in content.items::<Chunk<'_>>() {
            for thought in chunk.thinking.items::<Chunk<'_>>() {
                self.thought(thought.text.some_text(), sink);
            }
            self.text(chunk.text.some_text(), sink);
        }
    }

    /// Reasoning: by its details if they hold any text, else by its text and the seals in its details.
    fn reasoning(&mut self, delta: &Delta<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let details = match delta.reasoning_details.get() {
            Some(_) => delta.reasoning_details.items::<Detail<'_>>(),
            None => Vec::new(),
        };
        if !details.iter().any(|detail| detail.readable().is_some()) {
            let text = delta.reasoning_content.some_text().or_else(|| delta.reasoning.some_text());
            self.thought(text, sink);
        }
        for detail in details {
            let format = detail.format.text().unwrap_or_default();
            let origin = origin_of(&format.plain());
            if let Some(data) = detail.data.some_text() {
                let kind = Block::Redacted { origin, data };
                let block = self.begin(kind, Current::Sealed, sink);
                sink(Event::Close { block });
                self.current = Current::None;
                continue;
            }
            let repeats =
                matches!(self.current, Current::Reasoning(_)) && detail.signature.some_text().is_some();
            if let Some(text) = detail.readable().filter(|_| !repeats) {
                let block = match self.current {
                    Current::Detailed(block) | Current::Reasoning(block) => block,
                    _ => self.begin(Block::Reasoning(origin), Current::Detailed, sink),
                };
                sink(Event::Delta { block, text });
            }
            if let Some(text) = detail.signature.some_text() {
                self.seal(Attachment::Signature { origin, text }, sink);
            }
        }
    }

    fn thought(&mut self, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(text) = text else { return };
        let block = match self.current {
            Current::Reasoning(block) | Current::Detailed(block) => block,
            _ => self.begin(Block::Reasoning(Origin::Chat), Current::Reasoning, sink),
        };
        sink(Event::Delta { block, text });
    }

    fn seal(&mut self, what: Attachment<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let Attachment::Signature { origin, .. } = &what else { return };
        let block = match self.current {
            Current::Reasoning(block) | Current::Detailed(block) => block,
            _ => self.begin(Block::Reasoning(*origin), Current::Detailed, sink),
        };
        sink(Event::Attach { block, what });
        self.current = Current::Sealed(block);
    }

    /// Ends the current block and begins another.
    fn begin(
        &mut self,
        kind: Block<'_>,
        current: impl Fn(u32) -> Current,
        sink: &mut impl FnMut(Event<'_>),
    ) -> u32 {
        self.close(sink);
        let block = self.next;
        self.next += 1;
        self.current = current(block);
        sink(Event::Open { block, kind });
        block
    }

    fn call(&mut self, call: &ToolCall<'_>, position: u64, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(custom) = call.custom.json() {
            // Only chat's own clients know tools whose input is any text. What follows of it comes without an id.
            if call.id.some_text().is_some() {
                let opaque = Opaque::new(Origin::Chat, "custom tool call", custom);
                let block = self.begin(Block::Opaque(opaque), |_| Current::None, sink);
                sink(Event::Close { block });
            }
            return;
        }
        let id = call.id.some_text().map(Text::into_plain).unwrap_or_default();
        let name = call.function.name.some_text().map(Text::into_plain).unwrap_or_default();
        let at = self.find(call.index.count(), position, &id, !name.is_empty());
        if at.is_none() {
            let index = call.index.count().unwrap_or(position);
            let state = CallState::Waiting { name: String::new(), arguments: String::new() };
            self.calls.push(Call { index, id: String::new(), state });
            // What is said after a call is a block of its own.
            self.close(sink);
        }
        let at = at.unwrap_or_else(|| self.calls.len().saturating_sub(1));
        let Self { calls, next, .. } = self;
        let Some(known) = calls.get_mut(at) else { return };
        if known.id.is_empty() {
            known.id.push_str(&id);
        }
        if let CallState::Waiting { name: known, .. } = &mut known.state
            && known.is_empty()
        {
            known.push_str(&name);
        }
        if !known.id.is_empty() && matches!(&known.state, CallState::Waiting { name, .. } if !name.is_empty())
        {
            known.tell(next, sink);
        }
        known.add(call, sink);
    }

    /// The call that a piece belongs to. Some hosts number every call 0, and some number none: a new id begins a new
    /// call.
    fn find(&self, index: Option<u64>, position: u64, id: &str, has_name: bool) -> Option<usize> {
        let by = |test: &dyn Fn(&Call) -> bool| self.calls.iter().rposition(test);
        if !id.is_empty() {
            let same = by(&|call| call.id == id);
            let nameless = by(&|call| call.id.is_empty() && call.index == index.unwrap_or(position));
            return same.or(nameless);
        }
        match index {
            Some(index) => by(&|call| call.index == index),
            None if has_name => None,
            None => self.calls.len().checked_sub(1),
        }
    }

    /// Ends the current block.
    fn close(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        match std::mem::take(&mut self.current) {
            Current::None => {}
            Current::Text(block)
            | Current::Refusal(block)
            | Current::Reasoning(block)
            | Current::Detailed(block)
            | Current::Sealed(block) => sink(Event::Close { block }),
        }
    }
}

impl Call {
    /// Tells of a call that was not told of.
    fn tell(&mut self, next: &mut u32, sink: &mut impl FnMut(Event<'_>)) {
        let block = *next;
        let CallState::Waiting { name, arguments } =
            std::mem::replace(&mut self.state, CallState::Told(block))
        else {
            self.state = CallState::Told(block);
            return;
        };
        *next += 1;
        let kind = Block::ToolCall { id: Text::new(self.id.as_str()), name: Text::new(name) };
        sink(Event::Open { block, kind });
        sink(Event::Delta { block, text: Text::Escaped(arguments.into()) });
    }

    /// Adds arguments and a seal.
    fn add(&mut self, call: &ToolCall<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let text = arguments(call.function.arguments);
        match &mut self.state {
            CallState::Waiting { arguments, .. } => text.escape_into(arguments),
            CallState::Told(block) => {
                sink(Event::Delta { block: *block, text });
                if let Some(text) = call.thought_signature() {
                    let what = Attachment::Signature { origin: Origin::Gemini, text };
                    sink(Event::Attach { block: *block, what });
                }
            }
        }
    }
}

/// The arguments of a call: a string that holds JSON, or, on some hosts, the object itself.
fn arguments(raw: Raw<'_>) -> Text<'_> {
    match (raw.text(), raw.get()) {
        (Some(text), _) => text,
        (None, Some(json)) if json.starts_with('{') => Text::new(json),
        _ => Text::default(),
    }
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolCall<'a> {
    #[serde(borrow)]
    index: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    custom: Raw<'a>,
    #[serde(borrow)]
    function: Function<'a>,
    #[serde(borrow)]
    extra_content: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

impl<'a> ToolCall<'a> {
    fn thought_signature(&self) -> Option<Text<'a>> {
        self.extra_content.object::<Extra<'a>>()?.google.object::<Google<'a>>()?.thought_signature.some_text()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extra<'a> {
    #[serde(borrow)]
    google: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Google<'a> {
    #[serde(borrow)]
    thought_signature: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail<'a> {
    #[serde(borrow)]
    format: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    summary: Raw<'a>,
    #[serde(borrow)]
    data: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
}

impl<'a> Detail<'a> {
    fn readable(&self) -> Option<Text<'a>> {
        self.text.some_text().or_else(|| self.summary.some_text())
    }
}
