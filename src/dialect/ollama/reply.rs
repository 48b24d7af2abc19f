//! Ollama replies: a line of a stream, or a whole reply as the only one.

use serde::Deserialize;

use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Block, Event, Finish, Origin, Start, Stop, Text, broken, reported};
use crate::dialect::usage::{Input, Output, Usage};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    Wire::default().line(body, sink);
    sink(Event::End);
}

/// How far a reply has come.
#[derive(Debug, Default)]
pub(super) struct Wire {
    stage: Stage,
    next: u32,
    current: Current,
    lines: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    Speaking,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Current {
    #[default]
    None,
    Thought(u32),
    Answer(u32),
}

impl Wire {
    /// Reads a line.
    pub(super) fn line(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.lines += 1;
        let line: Line<'_> = match serde_json::from_slice(data) {
            Ok(line) => line,
            Err(error) => {
                let why = format_args!("line {} is no reply of Ollama's: {error}", self.lines);
                return sink(Event::Failed(broken(why)));
            }
        };
        if line.error.get().is_some() {
            return sink(Event::Failed(reported(data)));
        }
        if self.stage == Stage::Silent {
            self.stage = Stage::Speaking;
            sink(Event::Start(Start { model: line.model.text().unwrap_or_default(), ..Start::default() }));
        }
        let message: Message<'_> = line.message.object().unwrap_or_default();
        self.thought(message.thinking.some_text(), sink);
        self.answer(message.content.some_text(), sink);
        for call in message.tool_calls.items::<ToolCall<'_>>() {
            self.call(&call, sink);
        }
        if line.done.get() == Some("true") {
            line.end(sink);
        }
    }

    fn thought(&mut self, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(text) = text else { return };
        let block = match self.current {
            Current::Thought(block) => block,
            _ => self.begin(Block::Reasoning(Origin::Ollama), sink),
        };
        self.current = Current::Thought(block);
        sink(Event::Delta { block, text });
    }

    fn answer(&mut self, text: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(text) = text else { return };
        let block = match self.current {
            Current::Answer(block) => block,
            _ => self.begin(Block::Text, sink),
        };
        self.current = Current::Answer(block);
        sink(Event::Delta { block, text });
    }

    fn call(&mut self, call: &ToolCall<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let id = call.id.text().unwrap_or_default();
        let function: Function<'_> = call.function.object().unwrap_or_default();
        let name = function.name.text().unwrap_or_default();
        let block = self.begin(Block::ToolCall { id, name }, sink);
        let text = function.arguments.text().or_else(|| function.arguments.get().map(Text::new));
        if let Some(text) = text.filter(|text| *text != *"{}") {
            sink(Event::Delta { block, text });
        }
        sink(Event::Close { block });
    }

    /// Ends the open block and begins another.
    fn begin(&mut self, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        match std::mem::take(&mut self.current) {
            Current::None => {}
            Current::Thought(block) | Current::Answer(block) => sink(Event::Close { block }),
        }
        let block = self.next;
        self.next += 1;
        sink(Event::Open { block, kind });
        block
    }
}

/// What a `done_reason` means.
fn stop(raw: &str) -> Stop {
    match raw {
        "length" => Stop::Length,
        // `load` and `unload` answer a request that asks for nothing.
        _ => Stop::End,
    }
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    message: Raw<'a>,
    #[serde(borrow)]
    done: Raw<'a>,
    #[serde(borrow)]
    done_reason: Raw<'a>,
    #[serde(borrow)]
    prompt_eval_count: Raw<'a>,
    #[serde(borrow)]
    eval_count: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

impl Line<'_> {
    /// Tells of usage and of the end.
    fn end(&self, sink: &mut impl FnMut(Event<'_>)) {
        // A prompt that was cached whole is not counted.
        let (input, output) = (self.prompt_eval_count.count(), self.eval_count.count());
        if input.is_some() || output.is_some() {
            sink(Event::Usage(Usage {
                input: Input { total: input, ..Input::default() },
                output: Output { total: output, ..Output::default() },
                ..Usage::default()
            }));
        }
        let raw = self.done_reason.some_text().unwrap_or_else(|| Text::from("stop"));
        sink(Event::Finish(Finish::new(stop(&raw.plain()), Origin::Ollama, raw)));
        sink(Event::End);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolCall<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    function: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    arguments: Raw<'a>,
}
