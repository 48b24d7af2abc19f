//! Finds what tells of a person or opens a door, and puts its name in its place: `[EMAIL]`, `[CARD]`, `[SECRET]`.
//!
//! One pass from left to right over the bytes, without regular expressions: at the beginning of each word the kinds are
//! asked one after the other whether one of theirs begins there, and none looks further than its own longest form, so the
//! time is linear in the text whatever the text is. What has a check digit is believed only if that is right.
//!
//! A [`Redactor`] takes a text in pieces: it holds back only what could still become a match, at most some 4 KiB, and gives
//! the same as for the whole text, wherever it is cut.

mod account;
mod address;
mod body;
mod events;
mod national;
mod number;
mod phone;
mod secrets;
mod view;

pub use body::{redact_body, redact_json, texts};
pub use events::{Events, redact_reply};
use view::{Found, Rest, View, is_word};

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// API keys by their makers' prefixes, private keys in PEM, JSON web tokens.
    Secret,
    /// E-mail addresses.
    Email,
    /// International bank account numbers (ISO 13616), with their check digits.
    Iban,
    /// Payment cards: a known issuer's prefix and length, and the check digit (ISO/IEC 7812).
    Card,
    /// Numbers that a state gives a person: US SSN, UK NINO, German tax id, French NIR, Spanish DNI and NIE, Italian codice
    /// fiscale.
    NationalId,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Telephone numbers: E.164, and national forms that are hardly anything else.
    Phone,
}

impl Kind {
    /// Every kind, in the order in which they are asked.
    pub const ALL: [Self; 7] =
        [Self::Secret, Self::Email, Self::Iban, Self::Card, Self::NationalId, Self::Ip, Self::Phone];

    /// The name used in configuration, answers and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::NationalId => "national_id",
            Self::Ip => "ip",
            Self::Phone => "phone",
        }
    }

    /// What stands in the place of a match.
    fn label(self) -> &'static str {
        match self {
            Self::Secret => "[SECRET]",
            Self::Email => "[EMAIL]",
            Self::Iban => "[IBAN]",
            Self::Card => "[CARD]",
            Self::NationalId => "[NATIONAL_ID]",
            Self::Ip => "[IP]",
            Self::Phone => "[PHONE]",
        }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    /// Those of the list.
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }

    /// Whether it is among them.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }

    /// Their names, for people.
    pub fn names(self) -> String {
        self.iter().map(Kind::name).collect::<Vec<_>>().join(", ")
    }
}

/// The most of a token or of a key that is taken out behind its beginning, bytes: without a bound, one that never ends
/// would take the rest of the text with it.
const RUN: u32 = 16 << 10;

/// What stands before the text at its beginning, and what a label leaves behind.
const BEFORE: [u8; 2] = [b' ', b' '];
const LABEL: [u8; 2] = [b'X', b']'];

/// Takes what it looks for out of a text that comes in pieces.
#[derive(Clone, Debug)]
pub struct Redactor {
    kinds: Kinds,
    /// What could still become a match.
    held: String,
    /// The last two bytes that were let out.
    before: [u8; 2],
    rest: Swallowed,
    found: Kinds,
}

/// What of the text belongs to a match that was let out already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swallowed {
    /// Nothing.
    Nothing,
    /// The rest of a token, at most so many bytes of it.
    Token(u32),
    /// The rest of a key in PEM, at most so many bytes of it.
    Pem(Pem, u32),
}

/// How far a key in PEM has come, with how many hyphens were seen in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pem {
    Body(u8),
    EndLine(u8),
}

impl Redactor {
    /// One that looks for those.
    pub fn new(kinds: Kinds) -> Self {
        Self { kinds, held: String::new(), before: BEFORE, rest: Swallowed::Nothing, found: Kinds::default() }
    }

    /// Takes the next piece of the text, and appends what is free to go.
    pub fn push(&mut self, piece: &str, out: &mut String) {
        if self.held.is_empty() {
            let gone = self.scan(piece, false, out);
            self.held.push_str(piece.get(gone..).unwrap_or_default());
            return;
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        let gone = self.scan(&text, false, out);
        text.drain(..gone);
        self.held = text;
    }

    /// The text is over: appends what was held. Another may begin.
    pub fn finish(&mut self, out: &mut String) {
        let text = std::mem::take(&mut self.held);
        self.scan(&text, true, out);
        (self.before, self.rest) = (BEFORE, Swallowed::Nothing);
    }

    /// What was found so far.
    pub fn found(&self) -> Kinds {
        self.found
    }

    /// Goes over a text, and appends what is free to go. Says how much of the text that was.
    fn scan(&mut self, text: &str, ends: bool, out: &mut String) -> usize {
        let start = self.swallow(text, 0);
        let mut view = View { bytes: text.as_bytes(), base: start, before: self.before, ends };
        let (mut kept, mut at) = (start, start);
        while let Some(byte) = view.get(at) {
            if !view.may_begin(at, byte) {
                at += 1;
                continue;
            }
            match self.find(&view, at) {
                None | Some((_, Found::No)) => at = past(&view, at),
                Some((_, Found::More)) => break,
                Some((kind, Found::Match(len, rest))) => {
                    out.push_str(text.get(kept..at).unwrap_or_default());
                    out.push_str(kind.label());
                    self.found = self.found.and(Kinds::of([kind]));
                    self.rest = match rest {
                        Rest::Nothing => Swallowed::Nothing,
                        Rest::Token => Swallowed::Token(RUN),
                        Rest::Pem => Swallowed::Pem(Pem::Body(0), RUN),
                    };
                    at = self.swallow(text, at + len);
                    kept = at;
                    (view.base, view.before) = (at, LABEL);
                }
            }
        }
        let at = at.min(text.len());
        self.before = [view.behind(at, 2), view.behind(at, 1)];
        out.push_str(text.get(kept..at).unwrap_or_default());
        at
    }

    /// What begins there: the first kind that says so, or that cannot say yet.
    fn find(&self, view: &View<'_>, at: usize) -> Option<(Kind, Found)> {
        self.kinds.iter().map(|kind| (kind, begins(kind, view, at))).find(|(_, found)| *found != Found::No)
    }

    /// Goes over what belongs to the last match. Says where it ends.
    fn swallow(&mut self, text: &str, from: usize) -> usize {
        let mut at = from;
        for byte in text.bytes().skip(from) {
            if self.rest == Swallowed::Nothing || !self.rest.takes(byte) {
                self.rest = Swallowed::Nothing;
                break;
            }
            at += 1;
        }
        if at > from {
            self.before = LABEL;
        }
        at
    }
}

impl Swallowed {
    /// Whether the next byte belongs to the match, too.
    fn takes(&mut self, byte: u8) -> bool {
        match *self {
            Self::Nothing | Self::Token(0) | Self::Pem(_, 0) => false,
            Self::Token(left) => {
                *self = Self::Token(left - 1);
                is_word(byte) || matches!(byte, b'-' | b'.')
            }
            Self::Pem(state, left) => {
                let (next, takes) = state.takes(byte);
                *self = next.map_or(Self::Nothing, |state| Self::Pem(state, left - 1));
                // The last hyphen ends it, and is of it.
                takes
            }
        }
    }
}

impl Pem {
    /// What comes after a byte, nothing at the end; and whether the byte is of the key.
    fn takes(self, byte: u8) -> (Option<Self>, bool) {
        let inside = byte.is_ascii_alphanumeric()
            || byte.is_ascii_whitespace()
            || matches!(byte, b'+' | b'/' | b'=' | b'\\' | b':' | b',' | b'-');
        let next = match (self, byte) {
            (Self::Body(hyphens), b'-') => Some(Self::Body(hyphens.saturating_add(1))),
            (Self::Body(5..), _) => Some(Self::EndLine(0)),
            (Self::Body(_), _) => Some(Self::Body(0)),
            (Self::EndLine(4), b'-') => None,
            (Self::EndLine(hyphens), b'-') => Some(Self::EndLine(hyphens + 1)),
            (Self::EndLine(_), _) => Some(Self::EndLine(0)),
        };
        (next, inside)
    }
}

fn begins(kind: Kind, view: &View<'_>, at: usize) -> Found {
    match kind {
        Kind::Secret => secrets::begins(view, at),
        Kind::Email => address::email(view, at),
        Kind::Iban => account::iban(view, at),
        Kind::Card => account::card(view, at),
        Kind::NationalId => national::begins(view, at),
        Kind::Ip => address::ip(view, at),
        Kind::Phone => phone::begins(view, at),
    }
}

/// Where to look next: behind the word that begins here.
fn past(view: &View<'_>, at: usize) -> usize {
    let word = view.bytes.get(at..).unwrap_or_default().iter().take_while(|byte| is_word(**byte)).count();
    at + word.max(1)
}

/// The text without what is looked for, and what that was; nothing where there is none of it.
pub fn redact(kinds: Kinds, text: &str) -> Option<(String, Kinds)> {
    let mut redactor = Redactor::new(kinds);
    let mut out = String::with_capacity(text.len());
    redactor.scan(text, true, &mut out);
    (!redactor.found.is_empty()).then_some((out, redactor.found))
}

#[cfg(test)]
mod tests;
