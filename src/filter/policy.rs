//! What a route's requests must keep to, and what is put into them or taken out.
//!
//! Everything is checked on the body as the client sent it, in the client's dialect, and everything that is refused is 400
//! and names the field. What is taken out is taken out before the route's own system prompt is put in.

mod parameters;
mod schema;
mod system;

use std::collections::HashSet;

use bytes::Bytes;

use super::redact::{Kinds, redact_body, texts};
use crate::dialect::ir::Text;
use crate::dialect::ir::node::{Node, Value};
use crate::dialect::{Operation, count, request};
use crate::error::{Error, Kind};
use crate::json::Envelope;
use crate::json::splice::splice;
pub use parameters::{Bounds, Parameters};
pub use schema::Schema;
pub use system::System;

/// What a route's requests must keep to.
#[derive(Debug, Default)]
pub struct Policy {
    /// How much of it there may be.
    pub most: Most,
    /// What may be asked for besides.
    pub parameters: Parameters,
    /// What the model is told first.
    pub system: Option<System>,
    /// What the whole body must look like.
    pub schema: Option<Schema>,
    /// What is taken out.
    pub redact: Redact,
    /// Whether prompts are told to the audit log, without what tells of persons.
    pub prompts: bool,
}

/// How much of a request there may be; nothing for no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    /// Messages of the conversation.
    pub messages: Option<u64>,
    /// Tokens of the prompt, as [`count::tokens`] guesses them.
    pub input_tokens: Option<u64>,
    /// Tools.
    pub tools: Option<u64>,
}

/// What is taken out of requests and replies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redact {
    /// Of requests.
    pub request: Kinds,
    /// Of replies.
    pub reply: Kinds,
    /// What is done about a request that holds any.
    pub action: Action,
}

/// What is done about a request that holds what it must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It is taken out.
    #[default]
    Redact,
    /// The request is refused.
    Refuse,
}

/// What became of a request.
#[derive(Debug)]
pub struct Applied {
    /// Its body; nothing where it stays as it was.
    pub body: Option<Bytes>,
    /// What was taken out.
    pub found: Kinds,
}

/// The most of a prompt that is told to the audit log, bytes.
const TOLD: usize = 16 << 10;

impl Policy {
    /// Holds a request against it.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`] naming what is not allowed; [`Kind::Forbidden`] for what must not be sent at all.
    pub fn apply(&self, operation: Operation, body: &Bytes) -> Result<Applied, Error> {
        let envelope = Envelope::parse(body).map_err(|fault| request::fault_error(operation, fault))?;
        let node = Node::parse(body)?;
        let Value::Object(members) = &node.value else { return Err(not_an_object()) };
        once(members)?;
        // Gemini's counting may have the whole request in another member, in which nothing was looked at.
        let prompt = if envelope.prompt_bytes > 0 { envelope.prompt_bytes } else { body.len() };
        self.most.check(operation, members, prompt)?;
        self.parameters.check(members)?;
        if !self.redact.reply.is_empty() {
            parameters::one_choice(members)?;
        }
        if let Some(schema) = &self.schema {
            schema.check(&node, body.len())?;
        }
        let (redacted, found) = self.redact.apply(operation, body)?;
        let system = match &self.system {
            None => None,
            Some(system) => {
                let body = redacted.as_ref().unwrap_or(body);
                let edits = system.edits(operation, body)?;
                (!edits.is_empty()).then(|| splice(body, &edits).concat().into())
            }
        };
        Ok(Applied { body: system.or(redacted), found })
    }

    /// What the audit log is told of a prompt: its texts without what tells of persons, up to a bound.
    pub fn told(&self, operation: Operation, body: &Bytes) -> String {
        // A little more than is told is looked through, so that nothing is cut in its midst.
        let mut text = texts(operation, body, TOLD + 4096).unwrap_or_default();
        if let Some((without, _)) = super::redact::redact(Kinds::ALL, &text) {
            text = without;
        }
        let end = text.floor_char_boundary(TOLD);
        text.truncate(end);
        text
    }
}

impl Redact {
    fn apply(self, operation: Operation, body: &Bytes) -> Result<(Option<Bytes>, Kinds), Error> {
        if self.request.is_empty() {
            return Ok((None, Kinds::default()));
        }
        match redact_body(self.request, operation, body)? {
            None => Ok((None, Kinds::default())),
            Some((body, found)) if self.action == Action::Redact => Ok((Some(body), found)),
            Some((_, found)) => {
                let names = found.names();
                let why = format!(
                    "the request holds what must not be sent on this route ({names}); take it out and send it again"
                );
                Err(Error::policy(Kind::Forbidden, why).because(format!("rule redact.request: {names}")))
            }
        }
    }
}

impl Most {
    fn check(&self, operation: Operation, members: &Members<'_>, prompt_bytes: usize) -> Result<(), Error> {
        let field = conversation(operation);
        let wrapped =
            member(members, "generateContentRequest").filter(|_| operation == Operation::GeminiCount);
        let members = match wrapped.map(|request| &request.value) {
            Some(Value::Object(members)) => members,
            _ => members,
        };
        if let Some(most) = self.messages
            && operation != Operation::Rerank
            && let Some(node) = member(members, field)
        {
            let count = node.as_array().map_or(1, <[_]>::len);
            bound(field, "messages", count as u64, most, "max_messages")?;
        }
        if let Some(most) = self.tools {
            let (name, count) = tools(members);
            bound(name, "tools", count as u64, most, "max_tools")?;
        }
        if let Some(most) = self.input_tokens {
            bound(
                field,
                "tokens of input, as they are estimated,",
                count::tokens(prompt_bytes),
                most,
                "max_input_tokens",
            )?;
        }
        Ok(())
    }
}

fn bound(field: &str, what: &str, count: u64, most: u64, rule: &'static str) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(refused(field, format!("{count} {what} are more than the {most} that this route allows"), rule))
}

/// The error for a field that breaks a rule.
fn refused(field: &str, why: impl std::fmt::Display, rule: &'static str) -> Error {
    let public = format!("{field}: {why}");
    Error::policy(Kind::InvalidRequest, public.clone())
        .param(field.to_owned())
        .because(format!("rule {rule}: {public}"))
}

fn not_an_object() -> Error {
    Error::client(Kind::InvalidRequest, "the body must be a JSON object")
}

/// The members of a body.
type Members<'a> = [(Text<'a>, Node<'a>)];

/// Refuses a body in which a member is there twice: of two readers, each could believe another.
fn once(members: &Members<'_>) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(members.len());
    for (key, _) in members {
        let name = key.plain();
        if !seen.insert(name.clone()) {
            return Err(refused(&name, "is given more than once; send it once", "once"));
        }
    }
    Ok(())
}

fn member<'n, 'a>(members: &'n Members<'a>, name: &str) -> Option<&'n Node<'a>> {
    members.iter().find(|(key, node)| key == name && !node.is_null()).map(|(_, node)| node)
}

/// What the conversation is called. Other dialects' names for it are nothing that counts.
fn conversation(operation: Operation) -> &'static str {
    match operation {
        Operation::GenerateContent | Operation::GeminiCount => "contents",
        Operation::Responses | Operation::Embeddings => "input",
        Operation::Completions => "prompt",
        Operation::Rerank => "documents",
        _ => "messages",
    }
}

/// Where the first tools are, and how many there are in all places.
fn tools(members: &Members<'_>) -> (&'static str, usize) {
    let inside = |name: &str| match member(members, name).map(|config| &config.value) {
        Some(Value::Object(members)) => member(members, "tools"),
        _ => None,
    };
    let places = [
        ("tools", member(members, "tools")),
        ("toolConfig.tools", inside("toolConfig")),
        ("additionalModelRequestFields.tools", inside("additionalModelRequestFields")),
        ("functions", member(members, "functions")),
    ];
    let counted = places.map(|(name, node)| (name, node.map_or(0, listed)));
    let first = counted.iter().find(|(_, count)| *count > 0).map_or("tools", |(name, _)| name);
    (first, counted.iter().map(|(_, count)| count).sum())
}

/// How many tools there are in a place: Protobuf's JSON takes one for a list of one.
fn listed(node: &Node<'_>) -> usize {
    node.as_array().map_or_else(|| declared(node), |items| items.iter().map(declared).sum())
}

/// How many functions an item declares: Gemini has many in one.
fn declared(tool: &Node<'_>) -> usize {
    let Value::Object(members) = &tool.value else { return 1 };
    let declared =
        member(members, "functionDeclarations").or_else(|| member(members, "function_declarations"));
    declared.map_or(1, |declared| declared.as_array().map_or(1, <[_]>::len))
}

#[cfg(test)]
mod tests;
