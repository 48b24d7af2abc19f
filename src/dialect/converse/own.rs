//! Blocks that only Converse has: calls of the provider's tools, their results, images that a model made.
//!
//! A stream tells the start of such a block and then the rest; a whole reply tells all at once. Both become a block
//! without the rest: what a call is called with is its text, any other rest is attached to it.

use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Arguments, Attachment, Json, Opaque, Origin, Text};

/// Blocks that come in two parts, and the member that comes later.
const LATER: [(&str, &str); 3] = [("toolUse", "input"), ("toolResult", "content"), ("image", "source")];

/// A block of Converse's own.
#[derive(Debug)]
pub(super) struct Own {
    /// What it is called.
    pub(super) kind: String,
    /// All of it but what comes later, under its name.
    pub(super) start: Json<'static>,
    /// What comes later.
    pub(super) later: Later,
}

/// What comes later of a block.
#[derive(Debug)]
pub(super) enum Later {
    /// Nothing.
    Nothing,
    /// What a tool is called with.
    Input(String),
    /// Anything else, as the delta of a stream has it.
    Delta(Json<'static>),
}

/// Takes a block apart.
pub(super) fn split(raw: &str) -> Option<Own> {
    let node = Node::parse(raw.as_bytes()).ok()?;
    let Value::Object(members) = &node.value else { return None };
    // Some writers put a `type` beside the one member that a block has.
    let (kind, inside) = members.iter().find(|(name, _)| *name != *"type")?;
    let kind = kind.plain().into_owned();
    let member = LATER.iter().find(|(known, _)| *known == kind).map(|(_, member)| *member);
    let mut later = Later::Nothing;
    let mut out = Vec::with_capacity(raw.len());
    let mut block = Object::begin(&mut out);
    match (&inside.value, member) {
        (Value::Object(members), Some(member)) => {
            let mut start = block.object(&kind);
            for (name, node) in members {
                if *name == *member {
                    later = of(member, node);
                } else {
                    start.raw(&name.plain(), node.raw);
                }
            }
            start.end();
        }
        _ => block.raw(&kind, inside.raw),
    }
    block.end();
    let start = Json::object(String::from_utf8(out).ok()?.into())?;
    Some(Own { kind, start, later })
}

fn of(member: &str, node: &Node<'_>) -> Later {
    match member {
        "input" => Later::Input(node.raw.to_owned()),
        "source" => {
            let json = Json::object(format!("{{\"source\":{}}}", node.raw).into());
            json.map_or(Later::Nothing, Later::Delta)
        }
        _ => Later::Delta(node.json().into_owned()),
    }
}

/// Puts a block together again.
pub(super) fn join(out: &mut Vec<u8>, opaque: &Opaque<'_>, attached: &[Attachment<'_>], input: &Text<'_>) {
    let kind = opaque.kind.plain();
    let node = Node::parse(opaque.json.get().as_bytes());
    let inside = match node.as_ref().map(|node| &node.value) {
        Ok(Value::Object(members)) => members.iter().find(|(name, _)| *name == *kind).map(|(_, node)| node),
        _ => None,
    };
    let Some(Value::Object(members)) = inside.map(|node| &node.value) else {
        return out.extend_from_slice(opaque.json.get().as_bytes());
    };
    let mut block = Object::begin(out);
    let mut object = block.object(&kind);
    for (name, node) in members {
        object.raw(&name.plain(), node.raw);
    }
    if !input.is_empty() {
        Arguments::Text(input.borrowed()).object_into(object.key("input"));
    }
    let deltas = attached.iter().filter_map(|what| match what {
        Attachment::Opaque(delta) if delta.origin == Origin::Converse && delta.kind == *kind => {
            Node::parse(delta.json.get().as_bytes()).ok()
        }
        _ => None,
    });
    let mut items = Vec::new();
    for delta in deltas {
        match delta.value {
            Value::Array(content) => items.extend(content.iter().map(|item| item.raw.to_owned())),
            Value::Object(members) => {
                for (name, node) in &members {
                    object.raw(&name.plain(), node.raw);
                }
            }
            _ => {}
        }
    }
    if !items.is_empty() {
        object.raw("content", &format!("[{}]", items.join(",")));
    }
    object.end();
    block.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_taken_apart_can_be_put_together() {
        for raw in [
            r#"{"toolUse":{"toolUseId":"t","name":"n","type":"server_tool_use","input":{"q":"x"}}}"#,
            r#"{"toolResult":{"toolUseId":"t","status":"success","content":[{"text":"a"},{"text":"b"}]}}"#,
            r#"{"image":{"format":"png","source":{"bytes":"QQ=="}}}"#,
            r#"{"guardContent":{"text":{"text":"x"}}}"#,
        ] {
            let own = split(raw).unwrap();
            let opaque = Opaque::new(Origin::Converse, own.kind.as_str(), own.start.borrowed());
            let (attached, input) = match own.later {
                Later::Nothing => (None, String::new()),
                Later::Input(input) => (None, input),
                Later::Delta(json) => (
                    Some(Attachment::Opaque(Opaque::new(Origin::Converse, own.kind.as_str(), json))),
                    String::new(),
                ),
            };
            let mut out = Vec::new();
            join(&mut out, &opaque, attached.as_slice(), &Text::new(input));
            assert_eq!(String::from_utf8(out).unwrap(), raw);
        }
        assert!(split("[]").is_none() && split("{}").is_none() && split("x").is_none());
    }
}
