//! A JSON document as a tree that borrows: what request decoders read.
//!
//! One pass over the bytes builds it; strings keep their escapes, and every node knows its own text, so that a schema
//! or a part nobody understands can be passed on untouched. [`Fields`] takes an object apart by name: an error names
//! the path of what is wrong, and what nobody took is left over under its name.

use std::fmt;

use memchr::memchr2;
use smallvec::{SmallVec, smallvec};

use super::{Json, Leftover, Text};
use crate::error::{Error, Kind};

/// How deep objects and arrays may be nested, as in [`crate::json::envelope`].
const DEPTH: usize = crate::json::envelope::DEPTH as usize;

/// One value.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The value's text, without white space around it.
    pub raw: &'a str,
    /// What it is.
    pub value: Value<'a>,
}

/// What a node is. Strings and numbers are read from the node's text when they are wanted.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object, its members in the order in which they came.
    Object(Vec<(Text<'a>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// Reads a whole document.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] with the offset, where `bytes` are not one JSON value in UTF-8.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.valid_up_to(), "not UTF-8"))?;
        let mut parser = Parser { text, at: 0 };
        let node = parser.value(0)?;
        parser.space();
        if parser.at == text.len() { Ok(node) } else { Err(invalid(parser.at, "expected the end")) }
    }

    /// The value's text.
    pub fn json(&self) -> Json<'a> {
        Json::checked(self.raw)
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The text of a string.
    pub fn as_text(&self) -> Option<Text<'a>> {
        matches!(self.value, Value::String).then(|| Text::of_json(self.raw)).flatten()
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Opens an object to be taken apart.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming `path`, where this is no object.
    pub fn fields<'n>(&'n self, path: Path<'n>) -> Result<Fields<'n, 'a>, Error> {
        match &self.value {
            Value::Object(members) => Ok(Fields { members, taken: smallvec![false; members.len()], path }),
            _ => Err(path.wants("an object")),
        }
    }

    /// The text of a string at `path`.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming `path`, where this is no string.
    pub fn text(&self, path: Path<'_>) -> Result<Text<'a>, Error> {
        self.as_text().ok_or_else(|| path.wants("a string"))
    }

    /// The items of an array at `path`.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming `path`, where this is no array.
    pub fn array(&self, path: Path<'_>) -> Result<&[Self], Error> {
        self.as_array().ok_or_else(|| path.wants("an array"))
    }
}

fn invalid(at: usize, what: &str) -> Error {
    Error::client(Kind::InvalidRequest, format!("invalid JSON at byte {at}: {what}"))
}

// === Where a value stands ===

/// The place of a value in its document, as `messages[0].content[1].text`.
#[derive(Clone, Copy, Debug)]
pub enum Path<'p> {
    /// The document.
    Root,
    /// A member of an object.
    Member(&'p Self, &'static str),
    /// An item of an array.
    Item(&'p Self, usize),
}

impl<'p> Path<'p> {
    /// The member `name` of the object here.
    pub fn member(&'p self, name: &'static str) -> Self {
        Self::Member(self, name)
    }

    /// The item at `index` of the array here.
    pub fn item(&'p self, index: usize) -> Self {
        Self::Item(self, index)
    }

    /// The error for a value of another type than the one wanted.
    pub fn wants(self, what: &str) -> Error {
        self.fault(format_args!("must be {what}"))
    }

    /// The error for a value that is wrong.
    pub fn fault(self, what: impl fmt::Display) -> Error {
        let error = Error::client(Kind::InvalidRequest, format!("{self}: {what}"));
        match self.top() {
            Some(top) => error.param(top),
            None => error,
        }
    }

    /// The member of the document in which this stands.
    fn top(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Member(Self::Root, name) => Some(name),
            Self::Member(parent, _) | Self::Item(parent, _) => parent.top(),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("body"),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

// === Taking an object apart ===

/// The members of an object, each to be taken at most once. `null` counts as absent.
#[derive(Debug)]
pub struct Fields<'n, 'a> {
    members: &'n [(Text<'a>, Node<'a>)],
    taken: SmallVec<[bool; 16]>,
    /// Where the object stands.
    pub path: Path<'n>,
}

impl<'n, 'a> Fields<'n, 'a> {
    /// Takes a member of any type.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] where it is there twice, so that two readers could disagree about it.
    pub fn take(&mut self, name: &'static str) -> Result<Option<&'n Node<'a>>, Error> {
        let mut found = None;
        for ((key, node), taken) in self.members.iter().zip(&mut self.taken) {
            if key == name {
                if found.is_some() {
                    return Err(self.path.member(name).fault("is given more than once"));
                }
                *taken = true;
                found = Some(node);
            }
        }
        Ok(found.filter(|node| !node.is_null()))
    }

    /// Takes a member that must be there.
    ///
    /// # Errors
    ///
    /// As [`Self::take`], and where it is absent.
    pub fn need(&mut self, name: &'static str) -> Result<&'n Node<'a>, Error> {
        let found = self.take(name)?;
        found.ok_or_else(|| self.path.member(name).fault("is required"))
    }

    /// Takes a string. The errors here and below are as of [`Self::take`], and where the type is another.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn text(&mut self, name: &'static str) -> Result<Option<Text<'a>>, Error> {
        let path = self.path;
        self.take(name)?.map(|node| node.text(path.member(name))).transpose()
    }

    /// Takes a string that must be there.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn need_text(&mut self, name: &'static str) -> Result<Text<'a>, Error> {
        let path = self.path;
        self.need(name)?.text(path.member(name))
    }

    /// Takes `true` or `false`.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        let Some(node) = self.take(name)? else { return Ok(None) };
        match node.value {
            Value::Bool(value) => Ok(Some(value)),
            _ => Err(self.path.member(name).wants("a boolean")),
        }
    }

    /// Takes a whole number that is not negative.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn count(&mut self, name: &'static str) -> Result<Option<u64>, Error> {
        let Some(node) = self.take(name)? else { return Ok(None) };
        let count = node.raw.parse().ok().filter(|_| matches!(node.value, Value::Number));
        count.map(Some).ok_or_else(|| self.path.member(name).wants("a whole number that is not negative"))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn integer(&mut self, name: &'static str) -> Result<Option<i64>, Error> {
        let Some(node) = self.take(name)? else { return Ok(None) };
        let integer = node.raw.parse().ok().filter(|_| matches!(node.value, Value::Number));
        integer.map(Some).ok_or_else(|| self.path.member(name).wants("a whole number"))
    }

    /// Takes a number.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, Error> {
        let Some(node) = self.take(name)? else { return Ok(None) };
        let number = node.raw.parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.filter(|_| matches!(node.value, Value::Number));
        number.map(Some).ok_or_else(|| self.path.member(name).wants("a number"))
    }

    /// Takes an array.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn array(&mut self, name: &'static str) -> Result<Option<&'n [Node<'a>]>, Error> {
        let path = self.path;
        self.take(name)?.map(|node| node.array(path.member(name))).transpose()
    }

    /// Takes an object as it stands.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the member.
    pub fn object(&mut self, name: &'static str) -> Result<Option<Json<'a>>, Error> {
        let Some(node) = self.take(name)? else { return Ok(None) };
        match node.value {
            Value::Object(_) => Ok(Some(node.json())),
            _ => Err(self.path.member(name).wants("an object")),
        }
    }

    /// Gives a member back that was taken and could not be understood: it will be left over.
    pub fn give_back(&mut self, name: &'static str) {
        for ((key, _), taken) in self.members.iter().zip(&mut self.taken) {
            *taken &= !(key == name);
        }
    }

    /// Ends the taking: what nobody took is left over. A `null` says nothing, so it is no loss.
    pub fn leave(self, left: &mut Vec<Leftover<'a>>) {
        for ((key, node), _) in self.members.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            if !node.is_null() {
                let path = match self.path {
                    Path::Root => key.plain().into_owned(),
                    path => format!("{path}.{}", key.plain()),
                };
                left.push(Leftover { path, raw: node.json() });
            }
        }
    }
}

// === The parser ===

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        self.space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                self.string()?;
                Value::String
            }
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(invalid(self.at, "expected a value")),
        };
        Ok(Node { raw: self.since(start), value })
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        let mut members = Vec::new();
        self.enter(depth)?;
        while !self.ends(b'}', members.is_empty())? {
            self.space();
            let start = self.at;
            self.string()?;
            let key = Text::of_json(self.since(start)).unwrap_or_default();
            self.space();
            self.expect(b':')?;
            members.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        let mut items = Vec::new();
        self.enter(depth)?;
        while !self.ends(b']', items.is_empty())? {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    /// Goes over the opening bracket.
    fn enter(&mut self, depth: usize) -> Result<(), Error> {
        if depth >= DEPTH {
            return Err(invalid(self.at, "nested too deep"));
        }
        self.at += 1;
        Ok(())
    }

    /// Goes over what comes before the next item: the closing bracket, or a comma unless the item is the first.
    fn ends(&mut self, close: u8, first: bool) -> Result<bool, Error> {
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(false)
    }

    /// Goes over a string.
    fn string(&mut self) -> Result<(), Error> {
        self.expect(b'"')?;
        loop {
            let rest = self.rest();
            let Some(end) = memchr2(b'"', b'\\', rest) else {
                return Err(invalid(self.text.len(), "a string does not end"));
            };
            let (run, after) = rest.split_at(end);
            // Not `any`: a loop without a way out runs on many bytes at once.
            if run.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
                return Err(invalid(self.at, "a control character in a string must be escaped"));
            }
            self.at += end + 1;
            if after.first() == Some(&b'"') {
                return Ok(());
            }
            let len = match after.get(1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
                Some(b'u') if after.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 5,
                _ => return Err(invalid(self.at, "unknown escape in a string")),
            };
            self.at += len;
        }
    }

    /// Goes over a number (RFC 8259 §6).
    fn number(&mut self) -> Result<Value<'a>, Error> {
        let start = self.at;
        self.over(b"-");
        let whole = self.at;
        let digits = self.digits();
        let leading_zero = self.text.as_bytes().get(whole) == Some(&b'0') && digits > 1;
        let mut good = digits > 0 && !leading_zero;
        if self.over(b".") {
            good &= self.digits() > 0;
        }
        if self.over(b"eE") {
            self.over(b"+-");
            good &= self.digits() > 0;
        }
        if good { Ok(Value::Number) } else { Err(invalid(start, "malformed number")) }
    }

    /// Goes over one of `bytes`, if it is next.
    fn over(&mut self, bytes: &[u8]) -> bool {
        let next = self.peek().is_some_and(|byte| bytes.contains(&byte));
        self.at += usize::from(next);
        next
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Error> {
        if self.rest().starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(invalid(self.at, "expected a value"))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(invalid(self.at, &format!("expected '{}'", char::from(byte))))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as serde has it.
    fn tree(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number => serde_json::from_str(node.raw).unwrap(),
            Value::String => node.as_text().unwrap().plain().into_owned().into(),
            Value::Array(items) => items.iter().map(tree).collect(),
            Value::Object(members) => {
                members.iter().map(|(key, node)| (key.plain().into_owned(), tree(node))).collect()
            }
        }
    }

    fn agrees(text: &[u8]) {
        let ours = Node::parse(text);
        match serde_json::from_slice::<serde_json::Value>(text) {
            Ok(theirs) => assert_eq!(tree(&ours.unwrap()), theirs),
            // Serde refuses lone surrogates, which pass here as they came, and numbers beyond a float.
            Err(_)
                if text.windows(2).any(|pair| pair == b"\\u")
                    || text.contains(&b'e')
                    || text.contains(&b'E') => {}
            Err(error) => assert!(ours.is_err(), "{error}: {}", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn the_parser_agrees_with_serde() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "[,1]",
            "[1 2]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "01",
            "-",
            "1.",
            ".5",
            "1.0",
            "-0",
            "12 ",
            "nul",
            "true",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\"#,
            "[[]]",
            "{}x",
            "\u{feff}{}",
            r#" { "a" : [ 1 , -2.5 , "x\ny" , null , { "b" : false } ] } "#,
        ] {
            agrees(text.as_bytes());
        }
        agrees(b"\"\xff\"");
        let deep = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(Node::parse(deep(DEPTH).as_bytes()).is_ok());
        assert!(Node::parse(deep(DEPTH + 1).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(text in "[\\[\\]{}:,\"\\\\0-9a-u .+-]{0,24}") {
            agrees(text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_taken_is_left_over_under_its_path() {
        let node = Node::parse(br#"{"a":1,"b":{"c":true,"d":null},"e":"x"}"#).unwrap();
        let mut fields = node.fields(Path::Root).unwrap();
        assert_eq!(fields.count("a").unwrap(), Some(1));
        let inside = fields.take("b").unwrap().unwrap();
        let mut left = Vec::new();
        let path = fields.path.member("b");
        inside.fields(path).unwrap().leave(&mut left);
        assert_eq!(fields.text("e").unwrap().unwrap().plain(), "x");
        fields.give_back("e");
        fields.leave(&mut left);
        let named: Vec<_> = left.iter().map(|left| (left.path.as_str(), left.raw.get())).collect();
        assert_eq!(named, [("b.c", "true"), ("e", "\"x\"")]);
    }

    #[test]
    fn an_error_names_the_path() {
        let node = Node::parse(br#"{"a":[{"b":1,"b":2,"c":-1,"d":1.5}]}"#).unwrap();
        let mut fields = node.fields(Path::Root).unwrap();
        let items = fields.array("a").unwrap().unwrap();
        let (root, array);
        root = fields.path;
        array = root.member("a");
        let mut item = items[0].fields(array.item(0)).unwrap();
        assert_eq!(item.take("b").unwrap_err().public, "a[0].b: is given more than once");
        let error = item.count("c").unwrap_err();
        assert_eq!(
            (error.public.as_ref(), error.param.as_deref()),
            ("a[0].c: must be a whole number that is not negative", Some("a"))
        );
        assert!(item.integer("d").is_err() && item.number("d").unwrap() == Some(1.5));
        assert_eq!(item.need_text("e").unwrap_err().public, "a[0].e: is required");
    }
}
