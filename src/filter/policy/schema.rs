//! What a whole body must look like, as a JSON Schema.

use std::error::Error as Wrong;
use std::fmt;

use boon::{Compiler, Draft, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::{Map, Value as Json};

use super::refused;
use crate::dialect::ir::node::{Node, Value};
use crate::error::Error;

/// A schema, ready to be asked.
///
/// The time that a check takes is bounded: patterns are matched in linear time, and bodies over a bound are refused unread.
pub struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
    most: usize,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Nothing is fetched: a schema is all in its own file.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, _: &str) -> Result<Json, Box<dyn Wrong>> {
        Err("a schema may refer to nothing outside of its file".into())
    }
}

/// What the schema's file is called where errors speak of it.
const NAME: &str = "forebay:///schema";

impl Schema {
    /// Reads a schema of any draft from 4 on; 2020-12 where it does not say. Bodies over `most` bytes do not fit it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(text: &str, most: usize) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.use_loader(Box::new(Nowhere));
        compiler.set_default_draft(Draft::V2020_12);
        compiler.add_resource(NAME, json).map_err(|error| error.to_string())?;
        let index = compiler.compile(NAME, &mut schemas).map_err(|error| format!("{error:#}"))?;
        Ok(Self { schemas, index, most })
    }

    /// Holds a body of that many bytes against it.
    ///
    /// # Errors
    /// [`crate::error::Kind::InvalidRequest`] with the JSON pointer of the first thing that does not fit.
    pub(super) fn check(&self, body: &Node<'_>, bytes: usize) -> Result<(), Error> {
        if bytes > self.most {
            let most = self.most;
            let why = format!("is larger than the {most} bytes that this route checks");
            return Err(refused("body", why, "schema.max_body"));
        }
        let value = read(body, &mut String::new())?;
        let Err(wrong) = self.schemas.validate(&value, self.index) else { return Ok(()) };
        let leaf = first(&wrong);
        let pointer = leaf.instance_location.to_string();
        let field = if pointer.is_empty() { "body" } else { &pointer };
        Err(refused(field, format!("does not fit the schema of this route: {}", unmet(&leaf.kind)), "schema"))
    }
}

/// What is not met, without the value that does not meet it, which would stand in the log.
fn unmet(kind: &ErrorKind<'_, '_>) -> String {
    match kind {
        ErrorKind::Pattern { want, .. } => format!("it does not match the pattern `{want}`"),
        ErrorKind::Format { want, .. } => format!("it is not a valid {want}"),
        ErrorKind::ContentEncoding { want, .. } => format!("it is not encoded as {want}"),
        ErrorKind::ContentMediaType { want, .. } => format!("it is not of the media type {want}"),
        ErrorKind::PropertyName { .. } => "a member has a name that is not allowed".to_owned(),
        ErrorKind::AdditionalProperties { .. } => "it has members that are not allowed".to_owned(),
        ErrorKind::Minimum { want, .. } => format!("it must be at least {want}"),
        ErrorKind::Maximum { want, .. } => format!("it must be at most {want}"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("it must be more than {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("it must be less than {want}"),
        ErrorKind::MultipleOf { want, .. } => format!("it must be a multiple of {want}"),
        // The others tell of the schema, of types and of counts.
        other => other.to_string(),
    }
}

/// The first that is wrong in itself, not for what is in it.
fn first<'e, 's, 'v>(wrong: &'e ValidationError<'s, 'v>) -> &'e ValidationError<'s, 'v> {
    let mut leaf = wrong;
    while let Some(cause) = leaf.causes.first() {
        leaf = cause;
    }
    leaf
}

/// A value as the checker wants it. A member that is there twice is refused: of two readers, each could believe another.
fn read(node: &Node<'_>, pointer: &mut String) -> Result<Json, Error> {
    Ok(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(is) => Json::Bool(*is),
        // One that is too large for a float fits no bound.
        Value::Number => serde_json::from_str(node.raw)
            .map_err(|_| refused(place(pointer), "is a number that cannot be read", "schema"))?,
        Value::String => {
            Json::String(node.as_text().map(|text| text.into_plain().into_owned()).unwrap_or_default())
        }
        Value::Array(items) => {
            let mut all = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                all.push(below(item, &index.to_string(), pointer)?);
            }
            Json::Array(all)
        }
        Value::Object(members) => {
            let mut all = Map::with_capacity(members.len());
            for (key, member) in members {
                let name = key.plain().into_owned();
                let value = below(member, &name.replace('~', "~0").replace('/', "~1"), pointer)?;
                if all.insert(name, value).is_some() {
                    let why = format!("`{}` is given more than once; send it once", key.plain());
                    return Err(refused(place(pointer), why, "schema"));
                }
            }
            Json::Object(all)
        }
    })
}

fn below(node: &Node<'_>, step: &str, pointer: &mut String) -> Result<Json, Error> {
    let before = pointer.len();
    pointer.push('/');
    pointer.push_str(step);
    let value = read(node, pointer);
    pointer.truncate(before);
    value
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "body" } else { pointer }
}
