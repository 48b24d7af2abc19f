//! Byte edits over a body that is shared and never copied.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

/// One change: the bytes at `span` become `with`. An empty span inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes of the original that go.
    pub span: Range<usize>,
    /// What comes in their place.
    pub with: Bytes,
}

/// Edits of one body, sorted and free of overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits(SmallVec<[Edit; 2]>);

impl Edits {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an edit at its place. Insertions at one offset keep the order in which they were pushed and come before a
    /// replacement that begins there.
    ///
    /// Returns false, and changes nothing, where the edit overlaps one that is already there.
    #[must_use]
    pub fn push(&mut self, span: Range<usize>, with: impl Into<Bytes>) -> bool {
        let place = self.0.partition_point(|edit| (edit.span.start, edit.span.end) <= (span.start, span.end));
        let follows = place.checked_sub(1).and_then(|before| self.0.get(before));
        let clear = span.start <= span.end
            && follows.is_none_or(|before| before.span.end <= span.start)
            && self.0.get(place).is_none_or(|after| span.end <= after.span.start);
        if clear {
            self.0.insert(place, Edit { span, with: with.into() });
        }
        clear
    }

    /// The edits in the order of their spans.
    pub fn iter(&self) -> std::slice::Iter<'_, Edit> {
        self.0.iter()
    }

    /// Whether the body stays as it is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The edited body, as slices of the original with the new pieces between them. No piece is empty. A span that
/// reaches past the body is cut to it.
pub fn splice(body: &Bytes, edits: &Edits) -> SmallVec<[Bytes; 5]> {
    let mut pieces = SmallVec::new();
    let mut kept = 0;
    for edit in edits.iter() {
        let start = edit.span.start.min(body.len());
        if kept < start {
            pieces.push(body.slice(kept..start));
        }
        if !edit.with.is_empty() {
            pieces.push(edit.with.clone());
        }
        kept = edit.span.end.min(body.len());
    }
    if kept < body.len() {
        pieces.push(body.slice(kept..));
    }
    pieces
}

/// The length in bytes of a body of `len` bytes after its edits.
pub fn spliced_len(len: usize, edits: &Edits) -> usize {
    edits.iter().fold(len, |total, edit| {
        let gone = edit.span.end.min(len) - edit.span.start.min(len);
        total - gone + edit.with.len()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Applies edits from the back, on a copy.
    fn naive(body: &[u8], edits: &Edits) -> Vec<u8> {
        let mut out = body.to_vec();
        let edits: Vec<_> = edits.iter().cloned().collect();
        for edit in edits.into_iter().rev() {
            out.splice(edit.span, edit.with);
        }
        out
    }

    fn overlaps(a: &Range<usize>, b: &Range<usize>) -> bool {
        a.start < b.end && b.start < a.end
    }

    proptest! {
        #[test]
        fn splicing_equals_rewriting(
            body in proptest::collection::vec(any::<u8>(), 0..60),
            wanted in proptest::collection::vec((0..61usize, 0..20usize, "[a-z]{0,6}"), 0..8),
        ) {
            let body = Bytes::from(body);
            let mut edits = Edits::new();
            for (start, len, with) in wanted {
                let start = start.min(body.len());
                let span = start..(start + len).min(body.len());
                let clash = edits.iter().any(|edit| overlaps(&edit.span, &span));
                let taken = edits.push(span, with);
                prop_assert!(!(clash && taken));
            }
            let pieces = splice(&body, &edits);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let whole = pieces.concat();
            prop_assert_eq!(spliced_len(body.len(), &edits), whole.len());
            prop_assert_eq!(whole, naive(&body, &edits));
        }
    }

    #[test]
    fn the_original_is_not_copied() {
        let body = Bytes::from_static(b"{\"model\":\"a\",\"messages\":[]}");
        let mut edits = Edits::new();
        assert!(edits.push(9..12, "\"other\""));
        let pieces = splice(&body, &edits);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0].as_ptr(), body.as_ptr());
        assert_eq!(pieces[2].as_ptr(), body.slice(12..).as_ptr());
        assert_eq!(pieces.concat(), b"{\"model\":\"other\",\"messages\":[]}");
    }

    #[test]
    fn overlapping_edits_are_refused() {
        let mut edits = Edits::new();
        assert!(edits.push(2..6, "x"));
        assert!(!edits.push(5..7, "y"));
        assert!(!edits.push(3..3, "z"));
        assert!(!edits.push(0..9, "w"));
        assert!(edits.push(6..6, "after") && edits.push(2..2, "before"));
        let body = Bytes::from_static(b"0123456789");
        assert_eq!(splice(&body, &edits).concat(), b"01beforexafter6789");
    }

    #[test]
    fn a_span_past_the_body_is_cut() {
        let mut edits = Edits::new();
        assert!(edits.push(2..9, "x"));
        let body = Bytes::from_static(b"abc");
        assert_eq!(splice(&body, &edits).concat(), b"abx");
        assert_eq!(spliced_len(3, &edits), 3);
    }
}
