//! Digits in groups.

use smallvec::SmallVec;

use super::view::View;

/// Digits in groups, as `4111 1111` or `555-123`.
#[derive(Debug, Default)]
pub(super) struct Number {
    /// The digits, as their values.
    pub(super) digits: SmallVec<[u8; 24]>,
    /// The groups.
    pub(super) groups: SmallVec<[Group; 8]>,
    /// Whether the text ended before it was known where the number does.
    pub(super) cut: bool,
}

/// A group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// How many digits it has.
    pub(super) len: usize,
    /// What stands before it; 0 before the first.
    pub(super) before: u8,
    /// Where it ends in the text.
    pub(super) end: usize,
    /// How many digits there are up to its end.
    pub(super) upto: usize,
}

/// Reads digits with one of `separators` between groups of them, up to `most` digits.
pub(super) fn number(view: &View<'_>, from: usize, separators: &[u8], most: usize) -> Number {
    let mut number = Number::default();
    let (mut at, mut before) = (from, 0);
    loop {
        let start = at;
        while let Some(digit) = view.get(at).filter(u8::is_ascii_digit) {
            if number.digits.len() > most {
                return number;
            }
            number.digits.push(digit - b'0');
            at += 1;
        }
        if at == start {
            return number;
        }
        number.groups.push(Group { len: at - start, before, end: at, upto: number.digits.len() });
        match (view.get(at), view.get(at + 1)) {
            (Some(byte), Some(next)) if separators.contains(&byte) && next.is_ascii_digit() => {
                (before, at) = (byte, at + 1);
            }
            (None, _) => {
                number.cut = !view.ends;
                return number;
            }
            (Some(byte), None) => {
                number.cut = !view.ends && separators.contains(&byte);
                return number;
            }
            _ => return number,
        }
    }
}

impl Number {
    /// The lengths of the first groups.
    pub(super) fn shape(&self, groups: usize) -> SmallVec<[usize; 8]> {
        self.groups.iter().take(groups).map(|group| group.len).collect()
    }

    /// What stands between the first groups, if it is the same everywhere; 0 for a single group.
    pub(super) fn separator(&self, groups: usize) -> Option<u8> {
        let mut between = self.groups.iter().take(groups).skip(1).map(|group| group.before);
        let first = between.next().unwrap_or(0);
        between.all(|other| other == first).then_some(first)
    }

    /// The digits of the first groups.
    pub(super) fn upto(&self, groups: usize) -> &[u8] {
        let upto = groups.checked_sub(1).and_then(|last| self.groups.get(last)).map_or(0, |group| group.upto);
        self.digits.get(..upto).unwrap_or_default()
    }
}
