//! JSON for readers: what fits in a line stands in one.

use serde_json::Value;

/// The longest line.
const WIDTH: usize = 118;

/// A document as text.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0, 0);
    out
}

/// Writes a value at a depth, behind so many characters of its line.
fn write(out: &mut String, value: &Value, depth: usize, before: usize) {
    let flat = value.to_string();
    let (open, close, items): (_, _, Vec<(Option<String>, &Value)>) = match value {
        Value::Object(members) => {
            let quoted = |name: &String| Some(Value::from(name.as_str()).to_string());
            ('{', '}', members.iter().map(|(name, value)| (quoted(name), value)).collect())
        }
        Value::Array(items) => ('[', ']', items.iter().map(|item| (None, item)).collect()),
        _ => return out.push_str(&flat),
    };
    if items.is_empty() || flat.chars().count() + depth + before <= WIDTH {
        return out.push_str(&flat);
    }
    out.push(open);
    let last = items.len() - 1;
    for (index, (name, value)) in items.into_iter().enumerate() {
        out.push('\n');
        out.push_str(&" ".repeat(depth + 1));
        let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
        out.push_str(&name);
        write(out, value, depth + 1, name.chars().count());
        out.push_str(if index == last { "" } else { "," });
    }
    out.push('\n');
    out.push_str(&" ".repeat(depth));
    out.push(close);
}
