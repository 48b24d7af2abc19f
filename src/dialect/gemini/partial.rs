//! Arguments of a function call that come in pieces: `partialArgs`, each with a path into the arguments and a value.

use serde::Deserialize;
use serde_json::Value;

use crate::dialect::ir::broken;
use crate::dialect::ir::lenient::Raw;
use crate::error::Error;

/// The most that arguments may take, in bytes of text and in values.
const MOST: usize = 16 << 20;
/// How deep a path may go.
const DEPTH: usize = 64;

/// The arguments so far.
#[derive(Debug)]
pub(super) struct Arguments {
    root: Value,
    size: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { root: Value::Object(serde_json::Map::new()), size: 0 }
    }
}

/// One piece.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece<'a> {
    #[serde(borrow, rename = "jsonPath")]
    path: Raw<'a>,
    #[serde(borrow, rename = "stringValue")]
    string: Raw<'a>,
    #[serde(borrow, rename = "numberValue")]
    number: Raw<'a>,
    #[serde(borrow, rename = "boolValue")]
    boolean: Raw<'a>,
    #[serde(borrow, rename = "nullValue")]
    null: Raw<'a>,
}

/// A step of a path.
enum Step<'p> {
    Member(&'p str),
    Item(usize),
}

impl Arguments {
    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The arguments as a JSON object.
    pub(super) fn json(&self) -> String {
        self.root.to_string()
    }

    /// Adds a piece. A string continues the one that stands at its path.
    ///
    /// # Errors
    ///
    /// The reply makes no sense: a path leads nowhere.
    pub(super) fn add(&mut self, piece: &Piece<'_>) -> Result<(), Error> {
        let path = piece.path.text().unwrap_or_default();
        let path = path.plain();
        let place = self.place(&path)?;
        let added = match (piece.string.text(), piece.number.get().or_else(|| piece.boolean.get())) {
            (Some(text), _) => {
                let text = text.plain();
                match place {
                    Value::String(before) => before.push_str(&text),
                    place => *place = Value::String(text.as_ref().to_owned()),
                }
                text.len()
            }
            (None, Some(raw)) => {
                *place = serde_json::from_str(raw).unwrap_or(Value::Null);
                raw.len()
            }
            // `nullValue` is written as `"NULL_VALUE"` or as `null`, which is as good as nothing.
            (None, None) => {
                *place = Value::Null;
                0
            }
        };
        self.size = self.size.saturating_add(added).saturating_add(path.len()).saturating_add(1);
        if self.size > MOST { Err(broken("the arguments of a call are too large")) } else { Ok(()) }
    }

    fn place(&mut self, path: &str) -> Result<&mut Value, Error> {
        let steps =
            steps(path).ok_or_else(|| broken("a piece of a call's arguments has a path that is none"))?;
        let mut place = &mut self.root;
        for step in steps {
            place = match step {
                Step::Member(name) => {
                    if !place.is_object() {
                        *place = Value::Object(serde_json::Map::new());
                    }
                    place.as_object_mut().map(|members| members.entry(name).or_insert(Value::Null))
                }
                Step::Item(index) => {
                    if !place.is_array() {
                        *place = Value::Array(Vec::new());
                    }
                    place.as_array_mut().and_then(|items| item(items, index))
                }
            }
            .ok_or_else(|| broken("a piece of a call's arguments goes beyond the end of an array"))?;
        }
        Ok(place)
    }
}

/// The item at `index`, which is there or is the next.
fn item(items: &mut Vec<Value>, index: usize) -> Option<&mut Value> {
    if index == items.len() {
        items.push(Value::Null);
    }
    items.get_mut(index)
}

/// The steps of a path such as `$.a[0].b` or `$['a'][0]` (RFC 9535, of which only names and indexes occur).
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEPTH {
            return None;
        }
        let step;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, next) = after.split_at_checked(end)?;
            (step, rest) = (Step::Member(name), next);
        } else {
            let inside = rest.strip_prefix('[')?;
            let quote = inside.chars().next().filter(|first| matches!(first, '\'' | '"'));
            (step, rest) = match quote {
                Some(quote) => {
                    let (name, next) = inside.get(1..)?.split_once(quote)?;
                    (Step::Member(name), next.strip_prefix(']')?)
                }
                None => {
                    let (index, next) = inside.split_once(']')?;
                    (Step::Item(index.parse().ok()?), next)
                }
            };
        }
        steps.push(step);
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(pieces: &[&str]) -> Result<String, Error> {
        let mut arguments = Arguments::default();
        for piece in pieces {
            arguments.add(&serde_json::from_str(piece).unwrap())?;
        }
        Ok(arguments.json())
    }

    #[test]
    fn pieces_add_up() {
        let json = added(&[
            r#"{"jsonPath":"$.a[0].b","stringValue":"x","willContinue":true}"#,
            r#"{"jsonPath":"$.a[0].b","stringValue":"y\n"}"#,
            r#"{"jsonPath":"$.a[0].n","numberValue":0.5}"#,
            r#"{"jsonPath":"$.a[1]","boolValue":true}"#,
            r#"{"jsonPath":"$['c.d'][\"e\"]","nullValue":"NULL_VALUE"}"#,
        ]);
        assert_eq!(json.unwrap(), r#"{"a":[{"b":"xy\n","n":0.5},true],"c.d":{"e":null}}"#);
        assert_eq!(added(&[]).unwrap(), "{}");
    }

    #[test]
    fn a_path_that_leads_nowhere_is_an_error() {
        for path in ["a", "", "$[9999999999]", "$.a[1]", "$.a[x]", "$.a[0", "$['a", "$x"] {
            let piece = format!(r#"{{"jsonPath":"{path}","stringValue":"x"}}"#);
            assert!(added(&[&piece]).is_err(), "{path}");
        }
        let deep = format!(r#"{{"jsonPath":"${}","numberValue":1}}"#, ".a".repeat(DEPTH + 1));
        assert!(added(&[&deep]).is_err());
    }
}
