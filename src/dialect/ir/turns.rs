//! The conversation as dialects have it whose sides alternate.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{Content, Message, Part, Role, Text, node};
use crate::error::Error;

/// What one side says in a row, in dialects whose sides alternate.
#[derive(Clone, Debug)]
pub struct Turn<'m, 'a> {
    /// Which side.
    pub role: Role,
    /// What it says: results of tools first, then the rest, in order.
    pub parts: Vec<&'m Part<'a>>,
}

/// The conversation in turns: what one side says in a row is joined, and results of tools come first in their turn.
/// System and developer count as one side.
pub fn turns<'m, 'a>(messages: impl IntoIterator<Item = &'m Message<'a>>) -> Vec<Turn<'m, 'a>>
where
    'a: 'm,
{
    let mut turns: Vec<Turn<'m, 'a>> = Vec::new();
    for message in messages {
        match turns.last_mut() {
            Some(turn) if turn.role == message.role => turn.parts.extend(&message.parts),
            _ => turns.push(Turn { role: message.role, parts: message.parts.iter().collect() }),
        }
    }
    for turn in &mut turns {
        turn.parts.sort_by_key(|part| !matches!(part.content, Content::ToolResult(_)));
    }
    turns
}

/// The calls that a conversation has made up to where an encoder is: where an id comes again, the last one counts.
#[derive(Debug, Default)]
pub struct Calls<'m> {
    named: HashMap<Cow<'m, str>, (usize, &'m Text<'m>)>,
    count: usize,
}

impl<'m> Calls<'m> {
    /// Adds the calls among what the model says.
    pub fn add(&mut self, parts: impl IntoIterator<Item = &'m Part<'m>>) {
        for part in parts {
            if let Content::ToolCall(call) = &part.content {
                self.named.insert(call.id.plain(), (self.count, &call.name));
                self.count += 1;
            }
        }
    }

    /// The name of the tool that was called under `id`, which some dialects want beside its result.
    pub fn name(&self, id: &Text<'_>) -> Option<&'m Text<'m>> {
        self.named.get(&id.plain()).map(|(_, name)| *name)
    }

    /// A number that grows in the order of the calls.
    pub fn order(&self, id: &Text<'_>) -> Option<usize> {
        self.named.get(&id.plain()).map(|(order, _)| *order)
    }
}

/// Refuses a conversation in which a tool result has no call before it, a call is not the model's, or a result is. The
/// list at `path` holds all messages but the first `head`, which the client wrote elsewhere.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the message.
pub fn check_results(messages: &[Message<'_>], path: node::Path<'_>, head: usize) -> Result<(), Error> {
    let mut calls = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let path = path.item(index.saturating_sub(head));
        for part in &message.parts {
            match &part.content {
                Content::ToolCall(_) if message.role != Role::Assistant => {
                    return Err(path.fault("only the model calls tools; give this message its role"));
                }
                Content::ToolResult(_) if message.role == Role::Assistant => {
                    return Err(path.fault("the model gives no tool results; give this message another role"));
                }
                Content::ToolCall(call) => {
                    calls.insert(call.id.plain());
                }
                Content::ToolResult(result) if !calls.contains(&result.id.plain()) => {
                    let id: String = result.id.plain().chars().take(64).collect();
                    let why = format!("the tool result for '{id}' has no tool call before it");
                    return Err(path.fault(why));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
