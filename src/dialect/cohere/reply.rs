//! Whole Cohere replies.

use serde::Deserialize;

use super::blocks::{Blocks, Content, Counts, ToolCall, end};
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Event, Start, broken, reported};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let reply: Reply<'_> = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(error) => return sink(Event::Failed(broken(error))),
    };
    let Some(message) = reply.message.object::<Message<'_>>() else {
        // An error's message is a string.
        return sink(Event::Failed(reported(body)));
    };
    sink(Event::Start(Start { id: reply.id.text().unwrap_or_default(), ..Start::default() }));
    let mut blocks = Blocks::default();
    blocks.plan(message.tool_plan.text(), sink);
    for (index, content) in (0..).zip(message.content.items::<Content<'_>>()) {
        blocks.content(index, &content, sink);
    }
    for citation in message.citations.items::<Raw<'_>>() {
        blocks.citation(citation, sink);
    }
    for (index, call) in (0..).zip(message.tool_calls.items::<ToolCall<'_>>()) {
        blocks.call(index, &call, sink);
        blocks.end_call(index, sink);
    }
    if let Some(usage) = reply.usage.object::<Counts<'_>>().and_then(|counts| counts.usage()) {
        sink(Event::Usage(usage));
    }
    match reply.finish_reason.some_text().map(|raw| end(raw, body)) {
        Some(Ok(finish)) => sink(Event::Finish(finish)),
        Some(Err(error)) => return sink(Event::Failed(error)),
        None => {}
    }
    sink(Event::End);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    message: Raw<'a>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    tool_plan: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Raw<'a>,
    #[serde(borrow)]
    citations: Raw<'a>,
}
