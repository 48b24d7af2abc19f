//! Places in JSON documents: laying one over another, and putting a value somewhere.

use serde_json::{Map, Value};

/// Lays `over` over a document: objects member by member, anything else as a whole.
pub(super) fn lay(document: &mut Value, over: &Value) {
    match (document, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (name, value) in over {
                lay(members.entry(name).or_insert(Value::Null), value);
            }
        }
        (document, over) => *document = over.clone(),
    }
}

/// Puts a value at a JSON pointer. Objects on the way are made; one place beyond an array's end adds to it.
pub(super) fn put(document: &mut Value, at: &str, value: Value) {
    let mut here = document;
    for step in at.split('/').skip(1) {
        here = match here {
            Value::Array(items) => {
                let Ok(index) = step.parse::<usize>() else { return };
                if index == items.len() {
                    items.push(Value::Null);
                }
                let Some(item) = items.get_mut(index) else { return };
                item
            }
            here => {
                if !here.is_object() {
                    *here = Value::Object(Map::new());
                }
                let Some(members) = here.as_object_mut() else { return };
                members.entry(step).or_insert(Value::Null)
            }
        };
    }
    *here = value;
}

/// Whether two values say the same: numbers by what they count, the rest as it is.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let in_other =
                |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(in_other)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_put_where_the_pointer_says() {
        let mut document = json!({"a": [{"b": 1}], "c": "x"});
        put(&mut document, "/a/0/d", json!(2));
        put(&mut document, "/a/1", json!(3));
        put(&mut document, "/e/f", json!(true));
        put(&mut document, "/a/7", json!("nowhere"));
        assert_eq!(document, json!({"a": [{"b": 1, "d": 2}, 3], "c": "x", "e": {"f": true}}));
        lay(&mut document, &json!({"a": [], "e": {"g": 1}}));
        assert_eq!(document, json!({"a": [], "c": "x", "e": {"f": true, "g": 1}}));
    }

    #[test]
    fn numbers_are_the_same_by_what_they_count() {
        assert!(same(&json!({"a": [1]}), &json!({"a": [1.0]})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": 2})) && !same(&json!("1"), &json!(1)));
    }
}
