//! What a body may look like, as data, and the words in which each provider says that it does not.

use super::family::Family;
use super::refusal::Refusal;
use serde_json::{Map, Value};

/// The shape of a value. `null` stands for a member that is not there.
#[derive(Debug)]
pub(crate) enum Shape {
    Any,
    Text,
    Number,
    Whole,
    Flag,
    /// An object of any members.
    Object,
    /// One of these texts.
    Choice(&'static [&'static str]),
    List(&'static Self),
    /// An object whose members are all of that shape.
    Map(&'static Self),
    /// An object of these members.
    Members(&'static [(&'static str, Self)]),
    /// An object of exactly one of these members.
    Union(&'static [(&'static str, Self)]),
    /// One of these shapes, which differ in their JSON type.
    Either(&'static [Self]),
    /// A member that must be there.
    Must(&'static Self),
    /// A shape that holds itself.
    Same(&'static Self),
}

/// Where a body is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Mismatch {
    path: String,
    wrong: Wrong,
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Kind {
        wanted: String,
        found: Value,
    },
    Unknown(String),
    Missing,
    /// None of the members of a union, or several.
    Union,
}

/// Checks a body.
///
/// # Errors
///
/// The refusal names the first place that is wrong.
pub(crate) fn check(body: &Value, shape: &Shape, family: Family) -> Result<(), Refusal> {
    fits(body, shape, family, "").map_err(|mismatch| mismatch.refusal(family))
}

fn fits(value: &Value, shape: &Shape, family: Family, path: &str) -> Result<(), Mismatch> {
    let right = match shape {
        Shape::Any => true,
        Shape::Text => value.is_string(),
        Shape::Number => value.is_number(),
        // Protobuf's JSON writes large numbers as text.
        Shape::Whole if family.takes_snake_case() && value.is_string() => {
            value.as_str().is_some_and(|text| text.parse::<i64>().is_ok())
        }
        Shape::Whole => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Shape::Flag => value.is_boolean(),
        Shape::Object => value.is_object(),
        // Protobuf's JSON does not mind the case of an enum.
        Shape::Choice(all) if family.takes_snake_case() => {
            value.as_str().is_some_and(|text| all.iter().any(|one| one.eq_ignore_ascii_case(text)))
        }
        Shape::Choice(all) => value.as_str().is_some_and(|text| all.contains(&text)),
        Shape::Same(inner) | Shape::Must(inner) => return fits(value, inner, family, path),
        Shape::List(inner) => match value {
            Value::Array(items) => {
                let mut items = items.iter().enumerate();
                return items
                    .try_for_each(|(at, item)| fits(item, inner, family, &item_path(path, at, family)));
            }
            _ => false,
        },
        Shape::Map(inner) => match value {
            Value::Object(members) => {
                let mut members = members.iter();
                return members.try_for_each(|(name, item)| fits(item, inner, family, &join(path, name)));
            }
            _ => false,
        },
        Shape::Members(known) | Shape::Union(known) => match value {
            Value::Object(members) => {
                let is_union = matches!(shape, Shape::Union(_));
                return fit_members(members, known, is_union, family, path);
            }
            _ => false,
        },
        Shape::Either(all) => match all.iter().find(|shape| shape.kind() == kind_of(value)) {
            Some(shape) => return fits(value, shape, family, path),
            None => false,
        },
    };
    if right {
        return Ok(());
    }
    let wrong = Wrong::Kind { wanted: shape.kind().into(), found: value.clone() };
    Err(Mismatch { path: path.into(), wrong })
}

fn fit_members(
    members: &Map<String, Value>,
    known: &'static [(&'static str, Shape)],
    is_union: bool,
    family: Family,
    path: &str,
) -> Result<(), Mismatch> {
    let named = |name: &str| {
        let name = if family.takes_snake_case() { camel(name) } else { name.into() };
        known.iter().find(|(known, _)| *known == name)
    };
    let mut seen = 0;
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        match named(name) {
            Some((known, shape)) => {
                seen += 1;
                fits(value, shape, family, &join(path, known))?;
            }
            // What is said to the simulator itself.
            None if path.is_empty() && name == "sim" => {}
            None if family.refuses_unknown() => {
                return Err(Mismatch { path: path.into(), wrong: Wrong::Unknown(name.clone()) });
            }
            None => {}
        }
    }
    let is_there = |name: &str| {
        let mut members = members.iter().filter(|(_, value)| !value.is_null());
        members.any(|(member, _)| named(member).is_some_and(|(known, _)| *known == name))
    };
    let missing = known.iter().find(|(name, shape)| matches!(shape, Shape::Must(_)) && !is_there(name));
    if let Some((name, _)) = missing {
        return Err(Mismatch { path: join(path, name), wrong: Wrong::Missing });
    }
    if is_union && seen != 1 {
        return Err(Mismatch { path: path.into(), wrong: Wrong::Union });
    }
    Ok(())
}

impl Shape {
    /// The JSON type of its values.
    fn kind(&self) -> &'static str {
        match self {
            Self::Any => "value",
            Self::Text | Self::Choice(_) => "string",
            Self::Number => "number",
            Self::Whole => "integer",
            Self::Flag => "boolean",
            Self::Object | Self::Map(_) | Self::Members(_) | Self::Union(_) => "object",
            Self::List(_) => "array",
            Self::Either(all) => all.first().map_or("value", Self::kind),
            Self::Must(inner) | Self::Same(inner) => inner.kind(),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn item_path(path: &str, at: usize, family: Family) -> String {
    if matches!(family, Family::Google | Family::Cohere) {
        format!("{path}[{at}]")
    } else {
        format!("{path}.{at}")
    }
}

/// A name in camel case.
pub(crate) fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

impl Mismatch {
    fn refusal(self, family: Family) -> Refusal {
        let message = self.message(family);
        let refusal = Refusal::invalid(message, None);
        match (family, self.wrong) {
            (Family::Bedrock, Wrong::Kind { .. }) => refusal.coded("SerializationException"),
            _ => refusal.about(self.path),
        }
    }

    fn message(&self, family: Family) -> String {
        let path = &self.path;
        match (family, &self.wrong) {
            (Family::Google, Wrong::Kind { wanted, found }) => {
                format!("Invalid value at '{path}' (TYPE_{}), {found}", wanted.to_uppercase())
            }
            (Family::Google, Wrong::Unknown(name)) => {
                let at = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
                format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.")
            }
            (Family::Google, Wrong::Missing | Wrong::Union) => {
                format!(
                    "* GenerateContentRequest.{path}: required oneof field 'data' must have one initialized field"
                )
            }
            (Family::Bedrock, Wrong::Kind { wanted, found }) => {
                format!(
                    "{}_VALUE can not be converted to a {wanted} at {path}",
                    kind_of(found).to_uppercase()
                )
            }
            (Family::Bedrock, Wrong::Missing) => format!(
                "1 validation error detected: Value at '{path}' failed to satisfy constraint: Member must not be null"
            ),
            (Family::Bedrock, _) => {
                format!(
                    "The format of the value at {path} is invalid. Provide a json object for the field and try again."
                )
            }
            (Family::Cohere, Wrong::Kind { wanted, found }) => {
                format!(
                    "invalid type: parameter {path} is of type {} but should be of type {wanted}.",
                    kind_of(found)
                )
            }
            (Family::Cohere, Wrong::Unknown(name)) => {
                format!("unknown field: parameter '{}' is not a valid field", join(path, name))
            }
            (Family::Cohere, _) => format!("invalid request: {path} is required"),
            (Family::Ollama, Wrong::Kind { wanted, found }) => format!(
                "json: cannot unmarshal {} into Go struct field .{path} of type {wanted}",
                kind_of(found)
            ),
            (Family::Ollama, _) => format!("{path} is required"),
            (_, Wrong::Kind { wanted, .. }) => format!("{path}: Input should be a valid {wanted}"),
            (_, Wrong::Unknown(name)) => format!("{}: Extra inputs are not permitted", join(path, name)),
            (_, Wrong::Missing) => format!("{path}: Field required"),
            (_, Wrong::Union) => format!("{path}: Input tag does not match any of the expected tags"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    static TREE: Shape = Shape::Members(&[("leaf", Shape::Text), ("kids", Shape::List(&Shape::Same(&TREE)))]);
    static BODY: Shape = Shape::Members(&[
        ("topK", Shape::Whole),
        ("mode", Shape::Choice(&["a", "b"])),
        ("tree", Shape::Same(&TREE)),
        ("part", Shape::Union(&[("x", Shape::Text), ("y", Shape::Object)])),
        ("text", Shape::Either(&[Shape::Text, Shape::List(&Shape::Text)])),
        ("need", Shape::Must(&Shape::Map(&Shape::Flag))),
    ]);

    fn said(body: Value, family: Family) -> Option<String> {
        let mut body = body;
        body["need"] = body.get("need").cloned().unwrap_or_else(|| json!({}));
        let refusal = check(&body, &BODY, family).err()?;
        assert_eq!(refusal.status, 400);
        refusal.body(Family::Ollama, None)["error"].as_str().map(str::to_owned)
    }

    #[test]
    fn what_fits_passes_and_what_does_not_is_named() {
        for body in [
            json!({}),
            json!({"topK": 3, "mode": "A", "text": "x", "part": {"y": {}}, "sim": 1}),
            json!({"text": ["x"], "tree": {"kids": [{"leaf": "x", "kids": []}]}, "topK": null}),
        ] {
            assert_eq!(said(body.clone(), Family::Google), None, "{body}");
        }
        assert_eq!(said(json!({"top_k": "3", "x": 1}), Family::Bedrock), None);
        for (body, family, part) in [
            (json!({"top_k": 3.5}), Family::Google, "Invalid value at 'topK' (TYPE_INTEGER), 3.5"),
            (json!({"x": 1}), Family::Google, "Unknown name \"x\": Cannot find field."),
            (json!({"tree": {"kids": [{"leaf": 1}]}}), Family::Google, "'tree.kids[0].leaf'"),
            (json!({"tree": {"kids": [{"leaf": 1}]}}), Family::Anthropic, "tree.kids.0.leaf: Input should"),
            (json!({"topK": "3"}), Family::Bedrock, "STRING_VALUE can not be converted to a integer at topK"),
            (json!({"part": {}}), Family::Bedrock, "value at part is invalid"),
            (json!({"part": {"x": "", "y": {}}}), Family::Bedrock, "value at part is invalid"),
            (json!({"mode": "c"}), Family::Anthropic, "mode: Input should be a valid string"),
            (json!({"top_k": 1}), Family::Cohere, "unknown field: parameter 'top_k'"),
            (json!({"text": 1}), Family::Ollama, "cannot unmarshal number into Go struct field .text"),
            (json!({"need": {"a": 1}}), Family::Anthropic, "need.a: Input should be a valid boolean"),
            (json!({"need": null}), Family::Anthropic, "need: Field required"),
        ] {
            let message = said(body.clone(), family).unwrap_or_else(|| panic!("{body} passed"));
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
