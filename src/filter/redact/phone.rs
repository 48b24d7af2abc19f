//! Telephone numbers. A row of digits alone is none: only what begins with `+` and a country's code, or is written in a way
//! that hardly anything else is.

use smallvec::SmallVec;

use super::number::{Number, number};
use super::view::{Found, View};

/// The most digits of a number in E.164.
const MOST: usize = 15;

pub(super) fn begins(view: &View<'_>, at: usize) -> Found {
    match view.get(at) {
        Some(b'+') => international(view, at),
        Some(b'(') => in_brackets(view, at),
        Some(b'0'..=b'9') if !view.is_joined(at) => national(view, at),
        _ => Found::No,
    }
}

/// `+49 30 1234567`, `+1 (555) 123-4567`, `+44 (0)20 7946 0958`.
fn international(view: &View<'_>, at: usize) -> Found {
    match view.get(at + 1) {
        Some(b'1'..=b'9') if view.behind(at, 1) != b'+' => {}
        Some(_) => return Found::No,
        None => return view.cut(),
    }
    // Where each group of digits ends, and how many digits there are by then.
    let mut groups: SmallVec<[(usize, usize); 8]> = SmallVec::new();
    let (mut place, mut digits, mut dots) = (at + 1, 0, 0);
    loop {
        let start = place;
        while view.get(place).is_some_and(|byte| byte.is_ascii_digit()) {
            place += 1;
        }
        digits += place - start;
        if digits > MOST {
            break;
        }
        groups.push((place, digits));
        let between = view.bytes.get(place..).unwrap_or_default();
        let gap = between.iter().take_while(|byte| matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/'));
        let gap = gap.take(4).count();
        match view.get(place + gap) {
            Some(byte) if byte.is_ascii_digit() && (1..=3).contains(&gap) => {}
            None if gap <= 3 && !view.ends => return Found::More,
            _ => break,
        }
        dots += usize::from(gap == 1 && view.get(place) == Some(b'.'));
        place += gap;
    }
    // A number with a fraction: `+1234567.89`.
    if let [.., (_, before), (_, all)] = groups.as_slice()
        && dots == 1
        && groups.len() == 2
        && all - before < 3
    {
        return Found::No;
    }
    let least = if groups.len() > 1 { 8 } else { 9 };
    // The longest that ends where a number may.
    let fits = groups.iter().rev().filter(|(_, digits)| (least..=MOST).contains(digits));
    fits.map(|(end, _)| view.closed(at, *end)).find(|found| *found != Found::No).unwrap_or(Found::No)
}

/// `(555) 123-4567`.
fn in_brackets(view: &View<'_>, at: usize) -> Found {
    let area = number(view, at + 1, b"", 3);
    match (area.groups.first(), area.cut) {
        (_, true) if area.digits.len() <= 3 => return Found::More,
        (None, _) if view.get(at + 1).is_none() => return view.cut(),
        (Some(group), _) if group.len == 3 => {}
        _ => return Found::No,
    }
    match view.get(at + 4) {
        Some(b')') => {}
        Some(_) => return Found::No,
        None => return view.cut(),
    }
    let from = match view.get(at + 5) {
        None => return view.cut(),
        Some(b' ') => at + 6,
        Some(_) => at + 5,
    };
    let rest = number(view, from, b"-. ", 8);
    if view.get(from).is_none() || (rest.cut && rest.digits.len() <= 7) {
        return view.cut();
    }
    match (rest.shape(2).as_slice(), rest.groups.get(1)) {
        ([3, 4], Some(last)) if is_american(&[area.digits.as_slice(), rest.upto(2)].concat()) => {
            view.closed(at, last.end)
        }
        _ => Found::No,
    }
}

/// `555-123-4567`, `01 23 45 67 89`, `020 7946 0958`, `0171 1234567`, `0049 30 1234567`.
fn national(view: &View<'_>, at: usize) -> Found {
    let number = number(view, at, b" -./", 17);
    if number.cut && number.digits.len() <= 17 {
        return Found::More;
    }
    let groups = (2..=number.groups.len()).rev();
    let fits = groups.filter(|groups| is_national(&number, *groups));
    let ends = fits.filter_map(|groups| number.groups.get(groups - 1));
    ends.map(|last| view.closed(at, last.end)).find(|found| *found != Found::No).unwrap_or(Found::No)
}

fn is_national(number: &Number, groups: usize) -> bool {
    let (digits, shape) = (number.upto(groups), number.shape(groups));
    let Some(separator) = number.separator(groups) else { return false };
    match (digits, shape.as_slice()) {
        (_, [3, 3, 4]) => matches!(separator, b'-' | b'.') && is_american(digits),
        ([1, rest @ ..], [1, 3, 3, 4]) => separator == b'-' && is_american(rest),
        ([0, 1..=9, ..], [2, 2, 2, 2, 2]) => separator != b'/',
        ([0, 1 | 2 | 3 | 7, ..], [3, 4, 4] | [4, 3, 4] | [5, 3, 3]) => matches!(separator, b' ' | b'-'),
        ([0, 1..=9, ..], [3..=5, 6..=8]) => separator != b'.' && (10..=12).contains(&digits.len()),
        ([0, 0, 1..=9, ..], [4..=5, _, ..]) => separator == b' ' && (11..=17).contains(&digits.len()),
        _ => false,
    }
}

/// Whether ten digits are a number of the North American plan: neither area nor exchange begins with 0 or 1.
fn is_american(digits: &[u8]) -> bool {
    matches!(digits, [2..=9, _, _, 2..=9, _, _, _, _, _, _])
}
