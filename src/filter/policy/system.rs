//! The system prompt that a route sets, or puts before the client's own, in each client's dialect.

use bytes::Bytes;

use super::{Members, member, not_an_object, refused};
use crate::dialect::Operation;
use crate::dialect::ir::node::{Node, Value};
use crate::error::Error;
use crate::json::{Edits, quote};

/// What the model is told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// This, and nothing of what the client says in its place.
    Set(String),
    /// This, and then what the client says.
    Prefix(String),
}

/// What stands between the route's prompt and the client's.
const BETWEEN: &str = "\n\n";

impl System {
    /// What changes in a body.
    ///
    /// # Errors
    /// [`crate::error::Kind::InvalidRequest`] where there is no place for it, or where what is there cannot be read.
    pub(super) fn edits(&self, operation: Operation, body: &Bytes) -> Result<Edits, Error> {
        let node = Node::parse(body)?;
        let mut change = Change { body, edits: Edits::new() };
        let root = match &node.value {
            // Where Google's counting has the whole request.
            Value::Object(members) => member(members, "generateContentRequest").unwrap_or(&node),
            _ => return Err(not_an_object()),
        };
        let Value::Object(members) = &root.value else { return Err(not_an_object()) };
        match operation {
            Operation::ChatCompletions => self.chat(members, &mut change)?,
            Operation::Responses => {
                self.text("instructions", root, members, &mut change)?;
                self.drop_others("input", members, &mut change);
            }
            Operation::Messages | Operation::CountTokens => {
                self.parts("system", r#"{"type":"text","text":"#, root, members, &mut change)?;
                self.drop_others("messages", members, &mut change);
            }
            Operation::Converse => self.parts("system", r#"{"text":"#, root, members, &mut change)?,
            Operation::GenerateContent | Operation::GeminiCount => self.gemini(root, members, &mut change)?,
            Operation::Completions => {
                let why = "this route tells the model how to behave, for which legacy completions have no place; ask chat \
                           completions";
                return Err(refused("prompt", why, "system"));
            }
            _ => {}
        }
        Ok(change.edits)
    }

    fn prompt(&self) -> &str {
        match self {
            Self::Set(text) | Self::Prefix(text) => text,
        }
    }

    /// The prompt as one part of several.
    fn part(&self, open: &str) -> String {
        format!("{open}{}}}", String::from_utf8_lossy(&quote(self.prompt())))
    }

    /// Chat has it among the messages. One that is there first is added to: some engines want no second.
    fn chat(&self, members: &Members<'_>, change: &mut Change<'_>) -> Result<(), Error> {
        let Some(list) = member(members, "messages") else { return Ok(()) };
        let items = list.as_array().ok_or_else(|| refused("messages", "must be an array", "system"))?;
        let own = self.part(r#"{"role":"system","content":"#);
        if let Self::Set(_) = self {
            let others = items.iter().filter(|item| !instructs(item)).map(|item| item.raw.to_owned());
            let all: Vec<String> = std::iter::once(own).chain(others).collect();
            change.replace(list, format!("[{}]", all.join(",")));
            return Ok(());
        }
        let content = items.first().filter(|item| instructs(item)).and_then(|item| match &item.value {
            Value::Object(members) => member(members, "content"),
            _ => None,
        });
        match content.map(|content| (content, &content.value)) {
            Some((content, Value::String)) => change.before_text(content, self.prompt()),
            Some((content, Value::Array(parts))) => {
                change.first(content, parts.is_empty(), self.part(r#"{"type":"text","text":"#));
            }
            _ => change.first(list, items.is_empty(), own),
        }
        Ok(())
    }

    /// A text of its own.
    fn text(
        &self,
        name: &'static str,
        root: &Node<'_>,
        members: &Members<'_>,
        change: &mut Change<'_>,
    ) -> Result<(), Error> {
        let own = String::from_utf8_lossy(&quote(self.prompt())).into_owned();
        match (member(members, name), self) {
            (None, _) => change.member(root, members, name, &own),
            (Some(node), Self::Set(_)) => change.replace(node, own),
            (Some(node), Self::Prefix(_)) if matches!(node.value, Value::String) => {
                change.before_text(node, self.prompt());
            }
            (Some(_), Self::Prefix(_)) => return Err(refused(name, "must be a string", "system")),
        }
        Ok(())
    }

    /// A text, or parts of one.
    fn parts(
        &self,
        name: &'static str,
        open: &str,
        root: &Node<'_>,
        members: &Members<'_>,
        change: &mut Change<'_>,
    ) -> Result<(), Error> {
        let own = self.part(open);
        match (member(members, name).map(|node| (node, &node.value)), self) {
            (None, _) => change.member(root, members, name, &format!("[{own}]")),
            (Some((node, _)), Self::Set(_)) => change.replace(node, format!("[{own}]")),
            (Some((node, Value::String)), Self::Prefix(_)) => change.before_text(node, self.prompt()),
            (Some((node, Value::Array(parts))), Self::Prefix(_)) => change.first(node, parts.is_empty(), own),
            _ => return Err(refused(name, "must be a text or an array of parts", "system")),
        }
        Ok(())
    }

    /// Gemini has it as a content of parts, under either of two names.
    fn gemini(&self, root: &Node<'_>, members: &Members<'_>, change: &mut Change<'_>) -> Result<(), Error> {
        const NAMES: [&str; 2] = ["systemInstruction", "system_instruction"];
        let own = self.part(r#"{"text":"#);
        let whole = format!(r#"{{"parts":[{own}]}}"#);
        let [first, second] = NAMES.map(|name| member(members, name));
        if first.is_some() && second.is_some() {
            return Err(refused(NAMES[0], "is given under two names; send it once", "system"));
        }
        let Some(node) = first.or(second) else {
            change.member(root, members, NAMES[0], &whole);
            return Ok(());
        };
        let parts = match &node.value {
            Value::Object(members) => member(members, "parts"),
            _ => None,
        };
        match (self, parts.map(|parts| (parts, &parts.value))) {
            (Self::Set(_), _) => change.replace(node, whole),
            (Self::Prefix(_), Some((parts, Value::Array(items)))) => {
                change.first(parts, items.is_empty(), own)
            }
            _ => return Err(refused(NAMES[0], "must have an array of parts", "system")),
        }
        Ok(())
    }

    /// Where the prompt is set, nobody else's stands among the messages either.
    fn drop_others(&self, name: &str, members: &Members<'_>, change: &mut Change<'_>) {
        let Some(list) = member(members, name).filter(|_| matches!(self, Self::Set(_))) else { return };
        let items = list.as_array().unwrap_or_default();
        if items.iter().any(instructs) {
            let kept: Vec<&str> = items.iter().filter(|item| !instructs(item)).map(|item| item.raw).collect();
            change.replace(list, format!("[{}]", kept.join(",")));
        }
    }
}

/// Whether a message is one of instructions: by any of its roles, where it has several, for a reader may believe either.
fn instructs(message: &Node<'_>) -> bool {
    let Value::Object(members) = &message.value else { return false };
    let mut roles = members.iter().filter(|(key, _)| key == "role").filter_map(|(_, role)| role.as_text());
    roles.any(|role| matches!(role.plain().as_ref(), "system" | "developer"))
}

/// Edits under way. What they are about does not overlap.
struct Change<'b> {
    body: &'b Bytes,
    edits: Edits,
}

impl Change<'_> {
    fn at(&self, node: &Node<'_>) -> usize {
        node.raw.as_ptr().addr() - self.body.as_ptr().addr()
    }

    fn replace(&mut self, node: &Node<'_>, with: String) {
        let start = self.at(node);
        let _ = self.edits.push(start..start + node.raw.len(), with);
    }

    fn insert(&mut self, at: usize, with: Vec<u8>) {
        let _ = self.edits.push(at..at, with);
    }

    /// Puts a text before the one of a string.
    fn before_text(&mut self, node: &Node<'_>, text: &str) {
        let quoted = quote(&format!("{text}{BETWEEN}"));
        let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        self.insert(self.at(node) + 1, inside.to_vec());
    }

    /// Puts an item first in an array.
    fn first(&mut self, list: &Node<'_>, is_empty: bool, item: String) {
        let item = if is_empty { item } else { item + "," };
        self.insert(self.at(list) + 1, item.into_bytes());
    }

    /// Puts a member into an object that lacks it, or has a `null` in its place.
    fn member(&mut self, object: &Node<'_>, members: &Members<'_>, name: &str, value: &str) {
        if let Some((_, null)) = members.iter().find(|(key, _)| key == name) {
            return self.replace(null, value.to_owned());
        }
        let comma = if members.is_empty() { "" } else { "," };
        self.insert(self.at(object) + 1, format!("\"{name}\":{value}{comma}").into_bytes());
    }
}
