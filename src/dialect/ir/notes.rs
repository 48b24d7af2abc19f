//! What a translation could not carry.

use std::fmt;

use super::{Origin, names};
use crate::error::{Error, Kind};

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// It says the same in other words, or nearly: a number was clamped, a position moved.
    Mapped,
    /// It is gone, and the reply may differ for it.
    Dropped,
    /// The request cannot be served without it.
    Refused,
}

impl Loss {
    /// The name used in headers, logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
        }
    }
}

/// What a route does about losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// A field that would be dropped makes the request fail.
    Strict,
    /// A field may be dropped, and the client is told.
    #[default]
    Lenient,
}

/// One loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The field, by its path in the client's request or the upstream's reply.
    pub path: String,
    /// What became of it.
    pub loss: Loss,
    /// Why, in words for the client.
    pub why: &'static str,
}

/// The losses of one translation, and what is to be done about them.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    policy: Policy,
    /// In whose words fields are named: those of encoders where nothing is said.
    client: Option<Origin>,
    list: Vec<Note>,
}

/// The most notes kept: a conversation of thousands of turns repeats itself.
const MOST: usize = 64;

impl Notes {
    /// No losses yet, under `policy`.
    pub fn new(policy: Policy) -> Self {
        Self { policy, client: None, list: Vec::new() }
    }

    /// From here on, fields of a request are named as `client` does.
    pub fn told_to(&mut self, client: Origin) {
        self.client = Some(client);
    }

    /// The losses so far, in order, each path and reason once.
    pub fn list(&self) -> &[Note] {
        &self.list
    }

    /// Notes that a field says the same in other words.
    pub fn mapped(&mut self, path: impl fmt::Display, why: &'static str) {
        self.add(self.own(path), Loss::Mapped, why);
    }

    /// Notes that a field of a request is left out.
    ///
    /// # Errors
    ///
    /// [`Kind::InvalidRequest`] naming the field, under [`Policy::Strict`].
    pub fn dropped(&mut self, path: impl fmt::Display, why: &'static str) -> Result<(), Error> {
        if self.policy == Policy::Strict {
            return Err(self.refused(path, why));
        }
        self.add(self.own(path), Loss::Dropped, why);
        Ok(())
    }

    /// Notes that a field is left out, whose path is already as the client wrote it.
    ///
    /// # Errors
    ///
    /// As [`Self::dropped`].
    pub fn left_out(&mut self, path: &str, why: &'static str) -> Result<(), Error> {
        let client = self.client.take();
        let result = self.dropped(path, why);
        self.client = client;
        result
    }

    /// Notes that something of a reply is left out. There is nobody left to refuse.
    pub fn unsaid(&mut self, path: impl fmt::Display, why: &'static str) {
        self.add(path.to_string(), Loss::Dropped, why);
    }

    /// The error for a field without which the request makes no sense.
    pub fn refused(&mut self, path: impl fmt::Display, why: &'static str) -> Error {
        let path = self.own(path);
        let error = Error::client(Kind::InvalidRequest, format!("{path}: {why}"));
        self.add(path, Loss::Refused, why);
        error
    }

    /// The error for a conversation of which nothing is left for a model to answer: it had but instructions, or parts that
    /// were dropped.
    pub fn nothing_to_answer(&mut self) -> Error {
        self.refused("messages", "hold nothing for the upstream's model to answer; add a message of the user")
    }

    /// The client's own name of a field.
    fn own(&self, path: impl fmt::Display) -> String {
        let path = path.to_string();
        self.client.map(|client| names::named(client, &path).into_owned()).unwrap_or(path)
    }

    fn add(&mut self, path: String, loss: Loss, why: &'static str) {
        let note = Note { path, loss, why };
        if self.list.len() < MOST && !self.list.contains(&note) {
            self.list.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_policy_turns_a_drop_into_a_refusal() {
        let mut notes = Notes::new(Policy::Strict);
        let error = notes.dropped("seed", "has no equal upstream").unwrap_err();
        assert_eq!(
            (error.kind, error.public.as_ref()),
            (Kind::InvalidRequest, "seed: has no equal upstream")
        );
        assert_eq!(notes.list()[0].loss, Loss::Refused);
        notes.mapped("temperature", "is clamped to 1");
        assert_eq!(notes.list().len(), 2);
    }

    #[test]
    fn a_lenient_policy_remembers_each_loss_once() {
        let mut notes = Notes::new(Policy::Lenient);
        for _ in 0..3 {
            notes.dropped("seed", "has no equal upstream").unwrap();
        }
        (0..200).for_each(|index| notes.unsaid(index, "x"));
        assert_eq!((notes.list().len(), notes.list()[0].loss), (MOST, Loss::Dropped));
    }
}
