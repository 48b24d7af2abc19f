//! The tree against the JSON Schema: unknown keys, missing keys, wrong types, values out of their set or range.
//!
//! serde stops at its first error; this walk finds all of them and knows where each stands. What comes out always
//! deserialises: whatever is wrong was reported and is left out or replaced, so that the checks that follow can still
//! look at the rest.

use serde_json::{Map, Value};

use super::diagnostic::{Diagnostic, Diagnostics, Path, Place, nearest};
use super::source::{Data, Entry, Form, Node, Scalar};
use super::value::{self, KIND};

/// The tree as a value of the schema. Everything that is wrong is reported.
pub(super) fn conform(tree: &Node, schema: &Value, diagnostics: &mut Diagnostics) -> Value {
    let mut walk = Walk { root: schema, diagnostics };
    let path = Path::root();
    walk.value(tree, schema, &path).unwrap_or_else(|| walk.placeholder(schema))
}

/// Keys that were once, what took their place, and what to write now.
const FORMER: [(&str, &str, &str); 1] = [(
    "ejection",
    "breaker",
    "write `breaker:` with the same keys; `for` grows with every relapse up to `max_for`, and is 60s if left out",
)];

/// What a schema asks for, `null` aside: that is the same as leaving the key out.
enum Shape<'a> {
    Mapping(&'a Value),
    Sequence(&'a Value),
    /// A string of a kind, or any.
    Text(Option<&'a str>),
    /// One of these strings.
    Choice(Vec<&'a str>),
    Integer(&'a Value),
    Number(&'a Value),
    Boolean,
    /// One of these, told apart by how the value is written.
    Either(Vec<&'a Value>),
}

impl<'a> Shape<'a> {
    fn of(schema: &'a Value, root: &'a Value) -> Self {
        let schema = resolve(schema, root);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Self::Choice(values.iter().filter_map(Value::as_str).collect());
        }
        if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
            return Self::Choice(options.iter().filter_map(|option| option.get("const")?.as_str()).collect());
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            return Self::Either(options.iter().filter(|option| !is_null(option)).collect());
        }
        match type_of(schema) {
            Some("object") => Self::Mapping(schema),
            Some("array") => Self::Sequence(schema),
            Some("integer") => Self::Integer(schema),
            Some("number") => Self::Number(schema),
            Some("boolean") => Self::Boolean,
            _ => Self::Text(schema.get(KIND).and_then(Value::as_str)),
        }
    }

    fn expects(&self) -> String {
        match self {
            Self::Mapping(_) => "a mapping".to_owned(),
            Self::Sequence(_) => "a list".to_owned(),
            Self::Text(Some("duration" | "timer")) => "a duration such as `10s`".to_owned(),
            Self::Text(Some("bytes")) => "a size such as `32MiB`".to_owned(),
            Self::Text(_) => "a string".to_owned(),
            Self::Choice(choices) => format!("one of {}", list(choices)),
            Self::Integer(_) => "a whole number".to_owned(),
            Self::Number(_) => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Either(_) => "a value".to_owned(),
        }
    }
}

/// Follows references, and sees through what only says that a value may be left out.
fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    // Each step goes down in the schema or to a definition; a chain of more would be a cycle.
    for _ in 0..16 {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            match target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
                Some(target) => schema = target,
                None => return schema,
            }
            continue;
        }
        let options = schema.get("anyOf").and_then(Value::as_array);
        let mut real = options.into_iter().flatten().filter(|option| !is_null(option));
        match (real.next(), real.next()) {
            (Some(only), None) => schema = only,
            _ => return schema,
        }
    }
    schema
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

struct Walk<'a> {
    root: &'a Value,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Walk<'a> {
    /// The node as a value of the schema; nothing if there is none, or none that is right.
    fn value(&mut self, node: &Node, schema: &'a Value, path: &Path) -> Option<Value> {
        let shape = Shape::of(schema, self.root);
        match (&node.data, &shape) {
            (Data::Null | Data::Broken, _) => None,
            (_, Shape::Either(options)) => self.either(node, options, path),
            (Data::Mapping(entries), Shape::Mapping(schema)) => {
                Some(self.mapping(entries, &node.place, schema, path))
            }
            (Data::Sequence(nodes), Shape::Sequence(schema)) => {
                Some(self.sequence(nodes, &node.place, schema, path))
            }
            (Data::Scalar(scalar), Shape::Choice(choices)) => {
                self.choice(&scalar.text, choices, &node.place, path)
            }
            (Data::Scalar(scalar), Shape::Text(kind)) => self.text(scalar, *kind, &shape, &node.place, path),
            (Data::Scalar(scalar), Shape::Integer(schema)) => self.integer(scalar, schema, &node.place, path),
            (Data::Scalar(scalar), Shape::Number(schema)) => self.number(scalar, schema, &node.place, path),
            (Data::Scalar(scalar), Shape::Boolean) => match scalar.as_bool() {
                Some(value) => Some(Value::Bool(value)),
                None => {
                    self.wrong(&node.place, path, format!("expected true or false, got {}", got(node)), {
                        let yes =
                            ["yes", "on", "y", "1", "true"].contains(&scalar.text.to_lowercase().as_str());
                        format!("write `{yes}`")
                    })
                }
            },
            _ => self.wrong_type(node, &shape, path),
        }
    }

    fn either(&mut self, node: &Node, options: &[&'a Value], path: &Path) -> Option<Value> {
        let fits = |option: &&&'a Value| {
            let shape = Shape::of(option, self.root);
            match node.data {
                Data::Mapping(_) => matches!(shape, Shape::Mapping(_)),
                Data::Sequence(_) => matches!(shape, Shape::Sequence(_)),
                _ => !matches!(shape, Shape::Mapping(_) | Shape::Sequence(_)),
            }
        };
        if let Some(option) = options.iter().find(fits) {
            return self.value(node, option, path);
        }
        let expected =
            options.iter().map(|option| Shape::of(option, self.root).expects()).collect::<Vec<_>>();
        let message = format!("expected {}, got {}", expected.join(" or "), got(node));
        self.diagnostics.push(Diagnostic::error(node.place.clone(), path.clone(), message));
        None
    }

    fn mapping(&mut self, entries: &[Entry], place: &Place, schema: &'a Value, path: &Path) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return self.names(entries, schema, path);
        };
        let mut out = Map::new();
        for entry in entries {
            let path = path.key(&entry.key);
            match properties.get(&entry.key) {
                None => self.unknown_key(entry, entries, properties, path),
                Some(schema) => {
                    if let Some(value) = self.value(&entry.value, schema, &path) {
                        out.insert(entry.key.clone(), value);
                    }
                }
            }
        }
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some((key, schema)) = key.as_str().and_then(|key| Some((key, properties.get(key)?))) else {
                continue;
            };
            if out.contains_key(key) {
                continue;
            }
            let path = path.key(key);
            if !self.diagnostics.already_wrong(&path) {
                let expects = Shape::of(schema, self.root).expects();
                let why = schema.get("description").and_then(Value::as_str).unwrap_or_default();
                let missing = Diagnostic::error(place.clone(), path, "missing");
                self.diagnostics.push(
                    missing
                        .help(format!("add `{key}`, {expects}: {}", first_sentence(&why.replace('\n', " ")))),
                );
            }
            out.insert(key.to_owned(), self.placeholder(schema));
        }
        Value::Object(out)
    }

    /// A mapping whose keys are names that the user chose.
    fn names(&mut self, entries: &[Entry], schema: &'a Value, path: &Path) -> Value {
        let Some(inner) = schema.get("additionalProperties") else {
            return Value::Object(Map::new());
        };
        let mut out = Map::new();
        for entry in entries {
            let path = path.key(&entry.key);
            let empty = Node { place: entry.place.clone(), data: Data::Mapping(Vec::new()) };
            let node = match (&entry.value.data, Shape::of(inner, self.root)) {
                (Data::Null, Shape::Mapping(_)) => &empty,
                (Data::Null, shape) => {
                    let message = format!("expected {}, got nothing", shape.expects());
                    self.diagnostics.push(Diagnostic::error(entry.place.clone(), path.clone(), message));
                    continue;
                }
                // Missing keys are shown where the name stands, which is the line that people look for.
                _ => &Node { place: entry.place.clone(), data: entry.value.data.clone() },
            };
            let node = if matches!(node.data, Data::Mapping(_)) { node } else { &entry.value };
            let value = self.value(node, inner, &path).unwrap_or_else(|| self.placeholder(inner));
            out.insert(entry.key.clone(), value);
        }
        Value::Object(out)
    }

    fn sequence(&mut self, nodes: &[Node], place: &Place, schema: &'a Value, path: &Path) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (nodes.len() as u64) < least {
            let message = "the list is empty";
            self.diagnostics.push(
                Diagnostic::error(place.clone(), path.clone(), message)
                    .help(format!("give at least {least}")),
            );
        }
        let Some(items) = schema.get("items") else {
            return Value::Array(Vec::new());
        };
        let mut out = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let path = path.index(i);
            if matches!(node.data, Data::Null) {
                let message = format!("expected {}, got nothing", Shape::of(items, self.root).expects());
                self.diagnostics.push(Diagnostic::error(node.place.clone(), path.clone(), message));
            }
            // Never left out: the elements after it would change their index.
            out.push(self.value(node, items, &path).unwrap_or_else(|| self.placeholder(items)));
        }
        Value::Array(out)
    }

    fn choice(&mut self, text: &str, choices: &[&str], place: &Place, path: &Path) -> Option<Value> {
        if choices.contains(&text) {
            return Some(Value::String(text.to_owned()));
        }
        let all = format!("write one of {}", list(choices));
        // Among few short words every word is near another.
        let near = nearest(text, choices.iter().copied()).filter(|_| text.len() > 3 || choices.len() > 4);
        let help = near.map_or(all, |near| format!("did you mean `{near}`?"));
        self.wrong(place, path, format!("unknown value `{text}`"), help)
    }

    fn text(
        &mut self,
        scalar: &Scalar,
        kind: Option<&str>,
        shape: &Shape<'_>,
        place: &Place,
        path: &Path,
    ) -> Option<Value> {
        let measured = matches!(kind, Some("duration" | "timer" | "bytes" | "dollars"));
        if scalar.as_string().is_none() && !measured {
            // The text may be a secret, so that it is not shown.
            let message = format!("expected {}, got a bare number or truth value", shape.expects());
            return self.wrong(place, path, message, "put it in quotes");
        }
        match kind.map_or(Ok(()), |kind| value::check(kind, &scalar.text)) {
            Ok(()) => Some(Value::String(scalar.text.clone())),
            Err(wrong) => self.wrong(place, path, wrong.message, wrong.help),
        }
    }

    fn integer(&mut self, scalar: &Scalar, schema: &Value, place: &Place, path: &Path) -> Option<Value> {
        let Some(number) = scalar.as_integer() else {
            let help = number_help(scalar, scalar.text.trim().parse::<i64>().is_ok(), "100");
            return self.wrong(place, path, format!("expected a whole number, got `{}`", scalar.text), help);
        };
        let (least, most) = integer_bounds(schema);
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let help = match (least, most) {
                (Some(least), Some(most)) => format!("write a whole number from {least} to {most}"),
                (Some(least), None) => format!("write a whole number of at least {least}"),
                (None, most) => format!("write a whole number of at most {}", most.unwrap_or(i64::MAX)),
            };
            return self.wrong(place, path, format!("{number} is out of range"), help);
        }
        Some(Value::from(number))
    }

    fn number(&mut self, scalar: &Scalar, schema: &Value, place: &Place, path: &Path) -> Option<Value> {
        let Some(number) = scalar.as_number() else {
            let help = number_help(scalar, scalar.text.trim().parse::<f64>().is_ok(), "0.5");
            return self.wrong(place, path, format!("expected a number, got `{}`", scalar.text), help);
        };
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let help =
                format!("write a number from {} to {}", least.unwrap_or(f64::MIN), most.unwrap_or(f64::MAX));
            return self.wrong(place, path, format!("{number} is out of range"), help);
        }
        Some(Value::from(number))
    }

    fn unknown_key(&mut self, entry: &Entry, siblings: &[Entry], known: &Map<String, Value>, path: Path) {
        let free = |key: &&str| !siblings.iter().any(|sibling| sibling.key == **key);
        let near = nearest(&entry.key, known.keys().map(String::as_str).filter(free));
        let all = || known.keys().map(String::as_str);
        let former = FORMER.iter().find(|(former, now, _)| *former == entry.key && known.contains_key(*now));
        if let Some((_, now, help)) = former {
            let message = format!("`{now}` has taken its place");
            self.diagnostics.push(Diagnostic::error(entry.place.clone(), path, message).help(*help));
            return;
        }
        let help = match (near, nearest(&entry.key, all())) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(taken)) => format!("remove it: `{taken}` is there already"),
            (None, None) => format!("known keys here: {}", list(&all().collect::<Vec<_>>())),
        };
        self.diagnostics.push(Diagnostic::error(entry.place.clone(), path, "unknown key").help(help));
    }

    fn wrong_type(&mut self, node: &Node, shape: &Shape<'_>, path: &Path) -> Option<Value> {
        let message = format!("expected {}, got {}", shape.expects(), got(node));
        let help = match (shape, &node.data) {
            (Shape::Sequence(_), Data::Scalar(_)) => {
                "write it in brackets: `[a, b]`, or on lines that begin with `- `"
            }
            (Shape::Sequence(_), Data::Mapping(_)) => "begin each element with `- `",
            (Shape::Mapping(_), Data::Sequence(_)) => "write `NAME:` instead of `- `",
            (Shape::Mapping(_), Data::Scalar(_)) => "write its keys on lines below, indented by two spaces",
            _ => "write a single value",
        };
        self.wrong(&node.place, path, message, help)
    }

    fn wrong(
        &mut self,
        place: &Place,
        path: &Path,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<Value> {
        self.diagnostics.push(Diagnostic::error(place.clone(), path.clone(), message).help(help));
        None
    }

    /// Some value that the schema allows, to stand where one is missing or wrong. That was reported, so nothing ever runs with it.
    fn placeholder(&self, schema: &Value) -> Value {
        let resolved = resolve(schema, self.root);
        match Shape::of(resolved, self.root) {
            Shape::Mapping(schema) => {
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                let property = |key: &str| Some(self.placeholder(schema.get("properties")?.get(key)?));
                let entries = required.filter_map(Value::as_str);
                Value::Object(entries.filter_map(|key| Some((key.to_owned(), property(key)?))).collect())
            }
            Shape::Sequence(_) => Value::Array(Vec::new()),
            Shape::Text(_) => {
                let example = resolved.get("examples").and_then(|examples| examples.get(0));
                example.cloned().unwrap_or_else(|| Value::String(String::new()))
            }
            Shape::Choice(choices) => choices.first().map_or(Value::Null, |choice| Value::from(*choice)),
            Shape::Integer(schema) => Value::from(integer_bounds(schema).0.unwrap_or(0)),
            Shape::Number(schema) => schema.get("minimum").cloned().unwrap_or_else(|| Value::from(0)),
            Shape::Boolean => Value::Bool(false),
            Shape::Either(options) => options.first().map_or(Value::Null, |option| self.placeholder(option)),
        }
    }
}

fn integer_bounds(schema: &Value) -> (Option<i64>, Option<i64>) {
    let bound = |name: &str| {
        let bound = schema.get(name)?;
        // A bound given as `1` comes out of the generator as an integer, one computed from a type maybe as a float.
        bound.as_i64().or_else(|| bound.as_f64().map(|bound| bound as i64))
    };
    let of_type = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0), Some(i64::from(u8::MAX))),
        Some("uint16") => (Some(0), Some(i64::from(u16::MAX))),
        Some("uint32") => (Some(0), Some(i64::from(u32::MAX))),
        Some("uint64" | "uint") => (Some(0), None),
        _ => (None, None),
    };
    (bound("minimum").or(of_type.0), bound("maximum").or(of_type.1))
}

fn number_help(scalar: &Scalar, quoted_number: bool, example: &str) -> String {
    if scalar.form == Form::Quoted && quoted_number {
        "remove the quotes".to_owned()
    } else {
        format!("write digits alone, such as `{example}`")
    }
}

fn got(node: &Node) -> String {
    match &node.data {
        Data::Mapping(_) => "a mapping".to_owned(),
        Data::Sequence(_) => "a list".to_owned(),
        Data::Scalar(scalar) if scalar.as_bool().is_some() => format!("`{}`", scalar.text),
        Data::Scalar(scalar) if scalar.as_number().is_some() => "a number".to_owned(),
        Data::Scalar(_) => "a string".to_owned(),
        Data::Null | Data::Broken => "nothing".to_owned(),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or(text).trim_end()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::source;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Its name. It shows."},
                "size": {"type": ["string", "null"], "x-kind": "bytes", "examples": ["1KiB"]},
                "count": {"type": "integer", "format": "uint16", "minimum": 1},
                "share": {"type": "number", "minimum": 0, "maximum": 1},
                "on": {"type": "boolean"},
                "mode": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
                "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Item"}},
                "named": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Item2"}},
            },
            "required": ["name"],
            "$defs": {
                "Mode": {"oneOf": [{"const": "fast"}, {"const": "1.2"}]},
                "Item": {"anyOf": [{"type": "string", "x-kind": "url", "examples": ["http://x"]}, {"$ref": "#/$defs/Item2"}]},
                "Item2": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]},
            },
        })
    }

    fn run(text: &str) -> (Value, String) {
        let mut diagnostics = Diagnostics::new("t");
        let tree = source::parse(text, &|_| None, &mut diagnostics).unwrap();
        let value = conform(&tree, &schema(), &mut diagnostics);
        (value, diagnostics.to_string())
    }

    #[test]
    fn what_is_right_comes_out_typed() {
        let text = "name: x\nsize: 1KiB\ncount: 3\nshare: 0.5\non: true\nmode: 1.2\nitems: [\"http://a\", {url: b}]\nnamed: {a: {url: c}}\n";
        let (value, wrong) = run(text);
        assert_eq!(wrong, "");
        assert_eq!(
            value,
            json!({"name": "x", "size": "1KiB", "count": 3, "share": 0.5, "on": true, "mode": "1.2",
                "items": ["http://a", {"url": "b"}], "named": {"a": {"url": "c"}}})
        );
    }

    #[test]
    fn all_that_is_wrong_is_found_at_once() {
        let (_, wrong) =
            run("nmae: x\nsize: 1KB\ncount: 0\nshare: 2\non: yes\nmode: fats\nitems: []\nnamed: {a: }\n");
        let expected = [
            "t:1:1: error: name: missing",
            "t:1:1: error: nmae: unknown key\n    help: did you mean `name`?",
            "t:2:7: error: size: unknown unit `KB`",
            "t:3:8: error: count: 0 is out of range\n    help: write a whole number from 1 to 65535",
            "t:4:8: error: share: 2 is out of range\n    help: write a number from 0 to 1",
            "t:5:5: error: on: expected true or false, got a string\n    help: write `true`",
            "t:6:7: error: mode: unknown value `fats`\n    help: did you mean `fast`?",
            "t:7:8: error: items: the list is empty",
            "t:8:9: error: named.a.url: missing",
        ];
        for part in expected {
            assert!(wrong.contains(part), "{part}\n--\n{wrong}");
        }
        assert_eq!(wrong.matches("error:").count(), expected.len(), "{wrong}");
    }

    #[test]
    fn wrong_elements_keep_the_index_of_the_others() {
        let (value, wrong) = run("name: x\nitems: [[1], \"http://b\"]\n");
        assert!(
            wrong.contains("t:2:9: error: items[0]: expected a string or a mapping, got a list"),
            "{wrong}"
        );
        assert_eq!(value["items"], json!(["http://x", "http://b"]));
    }

    #[test]
    fn bare_numbers_are_no_strings_and_quoted_ones_no_numbers() {
        let (_, wrong) = run("name: 12\ncount: \"3\"\nsize: 12\n");
        assert!(wrong.contains(
            "name: expected a string, got a bare number or truth value\n    help: put it in quotes"
        ));
        assert!(wrong.contains("count: expected a whole number, got `3`\n    help: remove the quotes"));
        assert!(wrong.contains("size: a size needs a unit\n    help: write `12B`"), "{wrong}");
    }
}
