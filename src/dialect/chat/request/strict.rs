//! Whether the arguments of a function must keep its schema.

use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::{Function, Notes, Origin, Text};

/// Whether a function's schema is kept. In Responses it is unless it says otherwise, and a schema that leaves members
/// open is closed there; chat refuses such a one, so that it stays as it is and is not kept.
pub(super) fn strict(function: &Function<'_>, origin: Origin, notes: &mut Notes) -> Option<bool> {
    if function.strict.is_some() || origin != Origin::Responses {
        return function.strict;
    }
    let schema = function.parameters.as_ref().and_then(|json| Node::parse(json.get().as_bytes()).ok());
    let can_be = schema.is_some_and(|schema| member(&schema, "properties").is_some() && is_closed(&schema));
    if !can_be {
        notes.mapped(
            "tools[].strict",
            "is true by default only for a schema that names and demands all members",
        );
    }
    can_be.then_some(true)
}

fn member<'n, 'a>(schema: &'n Node<'a>, wanted: &str) -> Option<&'n Node<'a>> {
    members(schema).iter().find(|(name, _)| name == wanted).map(|(_, node)| node)
}

fn members<'n, 'a>(node: &'n Node<'a>) -> &'n [(Text<'a>, Node<'a>)] {
    match &node.value {
        Value::Object(members) => members,
        _ => &[],
    }
}

/// Whether every object of a schema demands all of its members and takes no others.
fn is_closed(schema: &Node<'_>) -> bool {
    let named = member(schema, "properties").map(members).unwrap_or_default();
    let required = member(schema, "required").and_then(Node::as_array).unwrap_or_default();
    let is_required = |name: &Text<'_>| required.iter().any(|node| node.as_text().as_ref() == Some(name));
    let is_object =
        !named.is_empty() || member(schema, "type").is_some_and(|kind| kind.raw.contains("\"object\""));
    let more = member(schema, "additionalProperties").map(|more| &more.value);
    let holds = !is_object
        || (matches!(more, Some(Value::Bool(false))) && named.iter().all(|(name, _)| is_required(name)));
    holds
        && members(schema).iter().all(|(name, node)| match name.plain().as_ref() {
            "properties" | "$defs" | "definitions" => members(node).iter().all(|(_, node)| is_closed(node)),
            "items" => is_closed(node),
            "anyOf" => node.as_array().unwrap_or_default().iter().all(is_closed),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_closed_if_every_object_in_it_is() {
        let inner = r#"{"type":"object","properties":{"b":{"type":"string"}},"required":["b"],"additionalProperties":false}"#;
        for (schema, expected) in [
            (inner.to_owned(), true),
            (inner.replace(r#"["b"]"#, "[]"), false),
            (inner.replace("false", "true"), false),
            (inner.replace(r#","additionalProperties":false"#, ""), false),
            (inner.replace(r#"{"type":"string"}"#, inner), true),
            (inner.replace(r#"{"type":"string"}"#, r#"{"type":["object","null"]}"#), false),
            (inner.replace(r#"{"type":"string"}"#, r#"{"type":"array","items":{"type":"object"}}"#), false),
            (
                inner.replace(r#"{"type":"string"}"#, r#"{"anyOf":[{"type":"null"},{"type":"object"}]}"#),
                false,
            ),
        ] {
            assert_eq!(is_closed(&Node::parse(schema.as_bytes()).unwrap()), expected, "{schema}");
        }
    }
}
