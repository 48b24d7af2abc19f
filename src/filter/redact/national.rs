//! Numbers that a state gives a person.

use super::number::number;
use super::view::{Found, View, is_word};

pub(super) fn begins(view: &View<'_>, at: usize) -> Found {
    let all = [us_ssn, de_tax_id, fr_nir, es_dni, uk_nino, it_codice];
    let is_digit = view.get(at).is_some_and(|byte| byte.is_ascii_digit());
    if is_digit && view.is_joined(at) {
        return Found::No;
    }
    all.iter().map(|form| form(view, at)).find(|found| *found != Found::No).unwrap_or(Found::No)
}

/// United States: `123-45-6789`, with the parts that were never given out.
fn us_ssn(view: &View<'_>, at: usize) -> Found {
    let number = number(view, at, b"-", 9);
    if number.cut && number.digits.len() <= 9 && shapes(&number.shape(3), &[3, 2, 4]) {
        return Found::More;
    }
    let ([3, 2, 4], [a, b, c, d, e, last @ ..]) = (number.shape(3).as_slice(), number.upto(3)) else {
        return Found::No;
    };
    let area = u32::from(*a) * 100 + u32::from(*b) * 10 + u32::from(*c);
    if matches!(area, 0 | 666 | 900..) || (*d, *e) == (0, 0) || last.iter().all(|digit| *digit == 0) {
        return Found::No;
    }
    number.groups.get(2).map_or(Found::No, |group| view.closed(at, group.end))
}

/// Whether groups could still become those.
fn shapes(so_far: &[usize], wanted: &[usize]) -> bool {
    let Some((last, before)) = so_far.split_last() else { return true };
    wanted.starts_with(before) && wanted.get(before.len()).is_some_and(|most| last <= most)
}

/// Germany: the tax id of § 139b AO, eleven digits with a check digit of ISO 7064 (mod 11, 10); one digit of the first ten
/// stands there two or three times, the others at most once.
fn de_tax_id(view: &View<'_>, at: usize) -> Found {
    let number = number(view, at, b" ", 11);
    let groups = number.groups.len().min(4);
    if number.cut && number.digits.len() <= 11 {
        let grouped = shapes(&number.shape(4), &[2, 3, 3, 3]);
        return if grouped || number.groups.len() == 1 { Found::More } else { Found::No };
    }
    let groups = if number.groups.first().is_some_and(|group| group.len == 11) { 1 } else { groups };
    let digits = number.upto(groups);
    if !matches!(number.shape(groups).as_slice(), [11] | [2, 3, 3, 3]) || digits.first() == Some(&0) {
        return Found::No;
    }
    let (check, first) = match digits.split_last() {
        Some((check, first)) if first.len() == 10 => (*check, first),
        _ => return Found::No,
    };
    let times = |digit: u8| first.iter().filter(|other| **other == digit).count();
    let repeated: Vec<usize> = (0..10).map(times).filter(|count| *count > 1).collect();
    if !matches!(repeated.as_slice(), [2 | 3]) {
        return Found::No;
    }
    let product = first.iter().fold(10_u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    if (11 - product) % 10 != u32::from(check) {
        return Found::No;
    }
    number.groups.get(groups - 1).map_or(Found::No, |group| view.closed(at, group.end))
}

/// France: the NIR, sex, year, month, place and order with a key of two digits; `2A` and `2B` are Corsica.
fn fr_nir(view: &View<'_>, at: usize) -> Found {
    if !matches!(view.get(at), Some(b'1'..=b'4' | b'7' | b'8')) {
        return Found::No;
    }
    let (mut text, mut place) = (Vec::with_capacity(15), at);
    while text.len() < 15 {
        match view.get(place) {
            None => return view.cut(),
            Some(b' ') if matches!(text.len(), 1 | 3 | 5 | 7 | 10 | 13) && view.behind(place, 1) != b' ' => {}
            Some(byte) if byte.is_ascii_digit() => text.push(byte),
            Some(byte @ (b'A' | b'B')) if text.len() == 6 && text.last() == Some(&b'2') => text.push(byte),
            Some(_) => return Found::No,
        }
        place += 1;
    }
    let month = text.get(3..5).and_then(decimal).unwrap_or(0);
    let island = match text.get(6) {
        Some(b'A') => 1_000_000,
        Some(b'B') => 2_000_000,
        _ => 0,
    };
    let plain: Vec<u8> = text.iter().map(|byte| if byte.is_ascii_digit() { *byte } else { b'0' }).collect();
    let (Some(body), Some(key)) = (plain.get(..13).and_then(decimal), plain.get(13..).and_then(decimal))
    else {
        return Found::No;
    };
    if !matches!(month, 1..=12 | 20) || key != 97 - (body - island) % 97 {
        return Found::No;
    }
    view.closed(at, place)
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Spain: the DNI, eight digits and a letter that they give; the NIE has X, Y or Z for its first digit.
fn es_dni(view: &View<'_>, at: usize) -> Found {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let (first, from) = match view.get(at) {
        Some(letter @ b'X'..=b'Z') => (u32::from(letter - b'X'), at + 1),
        _ => (0, at),
    };
    let number = number(view, from, b"", 8);
    let wanted = if from == at { 8 } else { 7 };
    if view.get(from).is_none() || (number.cut && number.digits.len() <= wanted) {
        return view.cut();
    }
    if number.digits.len() != wanted {
        return Found::No;
    }
    let mut end = from + wanted;
    if view.get(end) == Some(b'-') {
        end += 1;
    }
    let Some(letter) = view.get(end) else { return view.cut() };
    let value = number.digits.iter().fold(first, |value, digit| value * 10 + u32::from(*digit));
    if LETTERS.get(value as usize % 23) != Some(&letter) {
        return Found::No;
    }
    word(view, at, end + 1)
}

/// The United Kingdom: two letters, six digits, a letter; with the prefixes that were never given out.
fn uk_nino(view: &View<'_>, at: usize) -> Found {
    const NEVER: [&[u8; 2]; 7] = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"];
    let (mut text, mut place) = (Vec::with_capacity(9), at);
    while text.len() < 9 {
        let Some(byte) = view.get(place) else { return view.cut() };
        let fits = match text.len() {
            0 => byte.is_ascii_uppercase() && !b"DFIQUV".contains(&byte),
            1 => byte.is_ascii_uppercase() && !b"DFIOQUV".contains(&byte),
            8 => matches!(byte, b'A'..=b'D'),
            _ => byte.is_ascii_digit(),
        };
        let space = byte == b' ' && matches!(text.len(), 2 | 4 | 6 | 8) && view.behind(place, 1) != b' ';
        match () {
            () if space => {}
            () if fits => text.push(byte),
            () => return Found::No,
        }
        place += 1;
    }
    if NEVER.iter().any(|prefix| text.starts_with(*prefix)) {
        return Found::No;
    }
    word(view, at, place)
}

/// Italy: the codice fiscale, sixteen letters and digits of which the last is a check; where two people would have the same,
/// letters stand for digits.
fn it_codice(view: &View<'_>, at: usize) -> Found {
    const FORM: &[u8; 16] = b"LLLLLLDDMDDLDDDL";
    /// What a letter or digit counts in an odd place, by its value.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let (mut sum, mut check) = (0, 0);
    for (index, form) in FORM.iter().enumerate() {
        let Some(byte) = view.get(at + index) else { return view.cut() };
        let byte = byte.to_ascii_uppercase();
        let fits = match form {
            b'L' => byte.is_ascii_uppercase(),
            b'M' => b"ABCDEHLMPRST".contains(&byte),
            _ => byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte),
        };
        if !fits {
            return Found::No;
        }
        let value = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
        match index {
            15 => check = u32::from(value),
            // Places count from one.
            _ if index % 2 == 0 => sum += ODD.get(usize::from(value)).copied().unwrap_or(0),
            _ => sum += u32::from(value),
        }
    }
    if sum % 26 != check { Found::No } else { word(view, at, at + FORM.len()) }
}

/// A match, if the word ends there.
fn word(view: &View<'_>, at: usize, end: usize) -> Found {
    match view.get(end) {
        None if !view.ends => Found::More,
        Some(byte) if is_word(byte) => Found::No,
        _ => Found::to(at, end),
    }
}
