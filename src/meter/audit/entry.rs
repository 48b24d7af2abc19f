//! A line under construction.

use std::time::SystemTime;

use crate::meter::access_log::quote;
use crate::moment::rfc3339_millis;

/// The most of a text that a line holds, characters: what is longer is cut.
const TEXT: usize = 512;

/// The members of a line, less its number and its hash.
#[derive(Debug)]
pub(super) struct Entry(String);

impl Entry {
    /// Something that happened.
    pub(super) fn new(event: &'static str, now: SystemTime) -> Self {
        let mut members = String::with_capacity(320);
        members.push_str("\"ts\":");
        quote(&mut members, &rfc3339_millis(now));
        Self(members).text("event", event)
    }

    /// A text; nothing where it is empty.
    #[must_use]
    pub(super) fn text(self, name: &'static str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        match value.char_indices().nth(TEXT) {
            None => self.long(name, value),
            Some((end, _)) => self.long(name, &format!("{}...", value.get(..end).unwrap_or_default())),
        }
    }

    /// A text of any length.
    #[must_use]
    pub(super) fn long(mut self, name: &'static str, value: &str) -> Self {
        self.name(name);
        quote(&mut self.0, value);
        self
    }

    /// A number.
    #[must_use]
    pub(super) fn number(mut self, name: &'static str, value: u64) -> Self {
        self.name(name);
        self.0.push_str(itoa::Buffer::new().format(value));
        self
    }

    /// The members.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn name(&mut self, name: &'static str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }
}
