//! The conversation as dialects have it whose sides alternate.

use std::collections::HashSet;

use super::{Content, Message, Part, Role, node};
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

/// Refuses a conversation in which a tool result has no call before it, a call is not the model's, or a result is.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the message.
pub fn check_results(messages: &[Message<'_>]) -> Result<(), Error> {
    let mut calls = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        for part in &message.parts {
            match &part.content {
                Content::ToolCall(_) if message.role != Role::Assistant => {
                    let path = node::Path::Root.member("messages");
                    return Err(path
                        .item(index)
                        .fault("only the model calls tools; give this message its role"));
                }
                Content::ToolResult(_) if message.role == Role::Assistant => {
                    let path = node::Path::Root.member("messages");
                    return Err(path
                        .item(index)
                        .fault("the model gives no tool results; give this message another role"));
                }
                Content::ToolCall(call) => {
                    calls.insert(call.id.plain());
                }
                Content::ToolResult(result) if !calls.contains(&result.id.plain()) => {
                    let id: String = result.id.plain().chars().take(64).collect();
                    let why = format!("the tool result for '{id}' has no tool call before it");
                    let path = node::Path::Root.member("messages");
                    return Err(path.item(index).fault(why));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
