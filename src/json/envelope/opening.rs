//! What all requests of a conversation have in common: how it began. Nothing of it is kept but a number.

use std::ops::Range;

use super::scanner::Scanner;
use super::{Envelope, KEYS, Key, decode};

/// The most that is read of the instructions, and of each message up to the first of the user, bytes.
const READ: usize = 4096;
/// The most messages before the first of the user.
const MESSAGES: usize = 8;

impl Envelope<'_> {
    /// A number that is the same for every request of one conversation, and for hardly any other: of the `prompt_cache_key`
    /// that the client sends for that purpose, or else of its user, the instructions, and the messages up to the first of
    /// the user. Nothing where there is no prompt.
    ///
    /// It is the same on every node. It is no secret, and no proof of anything: two conversations may well share it.
    pub fn opening(&self, body: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(body).ok()?;
        let value = |name: &str| self.span(name).and_then(|span| text.get(span));
        let named = |key: Key| value(KEYS.get(key as usize)?);
        let mut hash = Hash::default();
        if let Some(key) = named(Key::Cache).filter(|key| key.starts_with('"')) {
            return Some(opening_of(key.as_bytes()));
        }
        hash.add(self.user.as_deref().unwrap_or_default().as_bytes());
        for instructions in ["system", "instructions"].into_iter().filter_map(value) {
            hash.add(beginning(instructions));
        }
        let list =
            ["messages", "contents", "input", "prompt"].into_iter().find_map(|name| self.span(name))?;
        match text.as_bytes().get(list.start) {
            Some(b'[') => messages(text, list, &mut hash),
            _ => hash.add(beginning(text.get(list)?)),
        }
        Some(hash.end())
    }
}

/// The same of a conversation's name.
pub fn opening_of(name: &[u8]) -> u64 {
    let mut hash = Hash::default();
    hash.add(name);
    hash.end()
}

/// Takes in the messages up to the first of the user.
fn messages(text: &str, list: Range<usize>, hash: &mut Hash) {
    let mut count = 0;
    // The body was checked when it was read: a fault cannot be.
    let _ = Scanner::new(text, list.start).items(|item| {
        count += 1;
        let is_users = is_of_user(text, &item);
        hash.add(beginning(text.get(item).unwrap_or_default()));
        !is_users && count < MESSAGES
    });
}

/// Whether a message is the user's, or one of a kind that has no roles.
fn is_of_user(text: &str, item: &Range<usize>) -> bool {
    if text.as_bytes().get(item.start) != Some(&b'{') {
        return true;
    }
    let mut role = None;
    let _ = Scanner::new(text, item.start).members(|name, _, span| {
        if decode(name).as_deref() == Some("role") {
            role = text.get(span);
        }
        Ok(())
    });
    role.is_none_or(|role| role == "\"user\"")
}

/// The beginning of a value, less what changes while a conversation goes on: clients of Messages move the `cache_control`
/// of their first message to a later one, and what closes the value then follows at once.
fn beginning(value: &str) -> &[u8] {
    let value = value.as_bytes();
    let read = value.get(..READ).unwrap_or(value);
    let end = memchr::memmem::find(read, b"\"cache_control\"").unwrap_or(read.len());
    let read = read.get(..end).unwrap_or(read);
    let closes = |byte: &u8| b"\",]} \t\r\n".contains(byte);
    read.get(..read.iter().rposition(|byte| !closes(byte)).map_or(0, |last| last + 1)).unwrap_or(read)
}

/// A quick hash of bytes, the same on every machine. Who wants two conversations on one key can have that by writing them
/// alike, so that it need not withstand anyone.
#[derive(Default)]
struct Hash(u64);

/// Odd, with about as many ones as zeros: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.mix(u64::from_le_bytes(last));
        // So that what is in one part is not mistaken for what is in another.
        self.mix(bytes.len() as u64);
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }

    fn end(self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        folded ^ (folded >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(body: &str) -> Option<u64> {
        Envelope::parse(body.as_bytes()).unwrap().opening(body.as_bytes())
    }

    const FIRST: &str =
        r#"{"model":"m","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"}]}"#;

    #[test]
    fn a_conversation_that_goes_on_has_the_opening_that_it_began_with() {
        let later = r#"{"stream":true,"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},
            {"role":"assistant","content":"Ho"},{"role":"user","content":"Well?"}],"model":"m"}"#;
        assert_eq!(opening(FIRST), opening(later));
        for other in [
            FIRST.replace("Hi", "Ha"),
            FIRST.replace("kind", "rude"),
            FIRST.replace("\"model\"", "\"user\":\"ann\",\"model\""),
        ] {
            assert_ne!(opening(FIRST), opening(&other), "{other}");
        }
        let sorted =
            |more: &str| format!(r#"{{"messages":[{{"content":"Hi","role":"user"}}{more}],"model":"m"}}"#);
        assert_eq!(opening(&sorted("")), opening(&sorted(r#",{"content":"Ho","role":"assistant"}"#)));
    }

    #[test]
    fn a_mark_of_the_cache_that_moves_on_changes_nothing() {
        let with = r#"{"system":"S","messages":[{"role":"user","content":[{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}}]}]}"#;
        let without = r#"{"system":"S","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},
            {"role":"assistant","content":"Ho"}]}"#;
        assert_eq!(opening(with), opening(without));
    }

    #[test]
    fn a_client_that_names_its_conversation_is_believed() {
        let named = |key: &str, said: &str| {
            format!(r#"{{"prompt_cache_key":"{key}","messages":[{{"role":"user","content":"{said}"}}]}}"#)
        };
        assert_eq!(opening(&named("a", "one")), opening(&named("a", "two")));
        assert_ne!(opening(&named("a", "one")), opening(&named("b", "one")));
    }

    #[test]
    fn every_dialect_has_one_and_what_has_no_prompt_has_none() {
        for body in [
            r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#,
            r#"{"contents":[{"parts":[{"text":"Hi"}]}]}"#,
            r#"{"input":"Hi","instructions":"S"}"#,
            r#"{"input":[{"role":"user","content":"Hi"}]}"#,
            r#"{"prompt":"Hi"}"#,
        ] {
            assert_ne!(opening(body), None, "{body}");
            assert_ne!(opening(body), opening(&body.replace("Hi", "Ho")), "{body}");
        }
        assert_eq!(opening(r#"{"model":"m"}"#), None);
        let list = |last: &str| {
            format!(r#"{{"messages":[{{"role":"system","content":"{}"}},{last}]}}"#, "x".repeat(9000))
        };
        assert_ne!(
            opening(&list(r#"{"role":"user","content":"a"}"#)),
            opening(&list(r#"{"role":"user","content":"b"}"#))
        );
    }
}
