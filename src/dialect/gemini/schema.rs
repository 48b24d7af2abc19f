//! Schemas in Gemini's own words: a subset of OpenAPI 3.0, whose types are in capitals and whose `null` is a flag.

use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::{Array, Object};
use crate::dialect::ir::{Json, Text};

/// A schema in Gemini's own words as a JSON schema. What both have in common passes as it is.
pub(super) fn json_schema(schema: &Node<'_>) -> Option<Json<'static>> {
    let mut out = Vec::with_capacity(schema.raw.len());
    write(&mut out, schema);
    Json::object(String::from_utf8(out).ok()?.into())
}

fn write(out: &mut Vec<u8>, node: &Node<'_>) {
    let Value::Object(members) = &node.value else {
        out.extend_from_slice(node.raw.as_bytes());
        return;
    };
    let member = |name: &str| members.iter().find(|(key, _)| *key == *name).map(|(_, node)| node);
    let nullable = member("nullable").is_some_and(|node| matches!(node.value, Value::Bool(true)));
    let mut object = Object::begin(out);
    for (key, node) in members {
        let name = key.plain();
        match (name.as_ref(), &node.value) {
            ("nullable" | "propertyOrdering" | "property_ordering", _) => {}
            ("type", Value::String) => {
                kind(object.key("type"), &node.as_text().unwrap_or_default(), nullable)
            }
            ("properties", Value::Object(properties)) => {
                let mut inner = object.object("properties");
                for (name, node) in properties {
                    inner_key(&mut inner, name, node);
                }
                inner.end();
            }
            ("items", _) => write(object.key("items"), node),
            ("anyOf" | "any_of", Value::Array(items)) => {
                let mut list = object.array("anyOf");
                for item in items {
                    write(list.item(), item);
                }
                list.end();
            }
            (name, _) => {
                let camel = CAMEL.iter().find(|(snake, _)| *snake == name).map_or(name, |(_, camel)| camel);
                number_or_raw(object.key(camel), camel, node);
            }
        }
    }
    object.end();
}

fn inner_key(object: &mut Object<'_>, name: &Text<'_>, node: &Node<'_>) {
    write(object.key(&name.plain()), node);
}

/// Members whose names JSON schema has in camel case alone.
const CAMEL: [(&str, &str); 6] = [
    ("min_items", "minItems"),
    ("max_items", "maxItems"),
    ("min_length", "minLength"),
    ("max_length", "maxLength"),
    ("min_properties", "minProperties"),
    ("max_properties", "maxProperties"),
];

/// Protobuf writes whole numbers of 64 bits as strings; JSON schema wants numbers.
fn number_or_raw(out: &mut Vec<u8>, name: &str, node: &Node<'_>) {
    let counts = name.starts_with("min") || name.starts_with("max");
    let text = node.as_text().filter(|_| counts);
    match text.as_ref().map(|text| text.plain()).filter(|text| text.parse::<u64>().is_ok()) {
        Some(digits) => out.extend_from_slice(digits.as_bytes()),
        None => out.extend_from_slice(node.raw.as_bytes()),
    }
}

fn kind(out: &mut Vec<u8>, name: &Text<'_>, nullable: bool) {
    let name = Text::new(name.plain().to_ascii_lowercase());
    if !nullable {
        return name.quote_into(out);
    }
    let mut list = Array::begin(out);
    name.quote_into(list.item());
    list.item().extend_from_slice(b"\"null\"");
    list.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_api_becomes_json_schema() {
        let node = Node::parse(
            br#"{"type":"OBJECT","properties":{"type":{"type":"STRING","enum":["A"],"nullable":true},"l\u00e9":{"type":"array",
            "min_items":"2","items":{"type":"INTEGER","format":"int32","minimum":1}}},"required":["type"],
            "propertyOrdering":["type"],"anyOf":[{"type":"NUMBER"}],"x":{"type":"KEPT"}}"#,
        )
        .unwrap();
        assert_eq!(
            json_schema(&node).unwrap().get(),
            "{\"type\":\"object\",\"properties\":{\"type\":{\"type\":[\"string\",\"null\"],\"enum\":[\"A\"]},\
             \"lé\":{\"type\":\"array\",\"minItems\":2,\"items\":{\"type\":\"integer\",\"format\":\"int32\",\"minimum\":1}}},\
             \"required\":[\"type\"],\"anyOf\":[{\"type\":\"number\"}],\"x\":{\"type\":\"KEPT\"}}"
        );
    }
}
