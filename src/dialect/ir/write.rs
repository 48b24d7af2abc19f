//! Writing JSON straight into a buffer.

use super::{Json, Text};
use crate::json::quote_into;

/// An object being written. It is closed by [`Object::end`].
#[derive(Debug)]
#[must_use = "an object that is not ended lacks its brace"]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    next: u8,
}

impl<'o> Object<'o> {
    /// Opens an object at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        Self { out, next: b'{' }
    }

    /// Writes a member's name, and lets its value be written.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.next);
        self.next = b',';
        // Some names come from the wire.
        if name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.out.push(b'"');
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"\":");
        } else {
            quote_into(self.out, name);
            self.out.push(b':');
        }
        self.out
    }

    /// Writes a string that needs no escapes or gets them.
    pub fn string(&mut self, name: &str, value: &str) {
        quote_into(self.key(name), value);
    }

    /// Writes a text.
    pub fn text(&mut self, name: &str, value: &Text<'_>) {
        value.quote_into(self.key(name));
    }

    /// Writes a text, if there is one.
    pub fn maybe_text(&mut self, name: &str, value: Option<&Text<'_>>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Writes a value that is JSON already.
    pub fn json(&mut self, name: &str, value: &Json<'_>) {
        self.key(name).extend_from_slice(value.get().as_bytes());
    }

    /// Writes a value that is JSON already.
    pub fn raw(&mut self, name: &str, value: &str) {
        self.key(name).extend_from_slice(value.as_bytes());
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }

    /// Writes a count.
    pub fn count(&mut self, name: &str, value: u64) {
        self.raw(name, itoa::Buffer::new().format(value));
    }

    /// Writes a whole number.
    pub fn integer(&mut self, name: &str, value: i64) {
        self.raw(name, itoa::Buffer::new().format(value));
    }

    /// Writes a finite number.
    pub fn number(&mut self, name: &str, value: f64) {
        self.raw(name, &value.to_string());
    }

    /// Writes an object.
    pub fn object(&mut self, name: &str) -> Object<'_> {
        Object::begin(self.key(name))
    }

    /// Writes an array.
    pub fn array(&mut self, name: &str) -> Array<'_> {
        Array::begin(self.key(name))
    }

    /// Closes the object. What may follow it can be written to what is returned.
    pub fn end(self) -> &'o mut Vec<u8> {
        if self.next == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
        self.out
    }
}

/// An array being written. It is closed by [`Array::end`].
#[derive(Debug)]
#[must_use = "an array that is not ended lacks its bracket"]
pub struct Array<'o> {
    out: &'o mut Vec<u8>,
    next: u8,
}

impl<'o> Array<'o> {
    /// Opens an array at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        Self { out, next: b'[' }
    }

    /// Lets the next item be written.
    pub fn item(&mut self) -> &mut Vec<u8> {
        self.out.push(self.next);
        self.next = b',';
        self.out
    }

    /// Writes an object.
    pub fn object(&mut self) -> Object<'_> {
        Object::begin(self.item())
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.next == b'['
    }

    /// Closes the array.
    pub fn end(self) {
        self.end_or("[]");
    }

    /// Closes the array. Where nothing was written, this JSON stands in its place.
    pub fn end_or(self, otherwise: &str) {
        if self.is_empty() {
            self.out.extend_from_slice(otherwise.as_bytes());
        } else {
            self.out.push(b']');
        }
    }
}

/// Arrays as one; nothing where there is none.
pub fn join<'l>(lists: impl Iterator<Item = &'l str>) -> Option<String> {
    let inside = |list: &'l str| list.trim().strip_prefix('[')?.strip_suffix(']').map(str::trim);
    let items: Vec<&str> = lists.filter_map(inside).filter(|items| !items.is_empty()).collect();
    (!items.is_empty()).then(|| format!("[{}]", items.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_joined() {
        assert_eq!(join(["[1, 2]", " [ ] ", "[[3]]"].into_iter()).as_deref(), Some("[1, 2,[3]]"));
        assert_eq!(join(["[]"].into_iter()), None);
    }

    #[test]
    fn what_is_written_is_json() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.string("a", "x\"y");
        object.number("b", 0.7);
        object.number("c", 1.0);
        object.integer("d", -3);
        object.object("e").end();
        let mut array = object.array("f");
        array.object().end();
        array.item().extend_from_slice(b"1");
        array.end();
        object.array("g").end();
        object.array("i").end_or("\"\"");
        object.boolean("h", true);
        object.raw("j\":0,\"", "null");
        object.end();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"a":"x\"y","b":0.7,"c":1,"d":-3,"e":{},"f":[{},1],"g":[],"i":"","h":true,"j\":0,\"":null}"#
        );
    }
}
