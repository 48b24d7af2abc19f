//! Where money is: payment cards and bank accounts.

use super::number::{Number, number};
use super::view::{Found, View, is_word};

/// The most digits of a card.
const CARD: usize = 19;

/// A payment card: a prefix and a length that an issuer has, the check digit, and groups as they are printed or none.
pub(super) fn card(view: &View<'_>, at: usize) -> Found {
    if !view.get(at).is_some_and(|byte| byte.is_ascii_digit()) || view.is_joined(at) {
        return Found::No;
    }
    let number = number(view, at, b" -", CARD);
    if number.cut && number.digits.len() <= CARD {
        return Found::More;
    }
    // What follows behind a space, such as a date, is another number.
    let fits = (1..=number.groups.len()).rev().filter(|groups| is_card(&number, *groups));
    let ends = fits.filter_map(|groups| number.groups.get(groups - 1));
    ends.map(|last| view.closed(at, last.end)).find(|found| *found != Found::No).unwrap_or(Found::No)
}

fn is_card(number: &Number, groups: usize) -> bool {
    let shape = number.shape(groups);
    let printed = match shape.as_slice() {
        [_] | [4, 4, 4, 4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4..=5] => true,
        _ => return false,
    };
    let digits = number.upto(groups);
    printed && number.separator(groups).is_some() && is_issued(digits) && luhn(digits)
}

/// Whether cards of that prefix have that length.
fn is_issued(digits: &[u8]) -> bool {
    let prefix =
        |count: usize| digits.iter().take(count).fold(0_u32, |value, digit| value * 10 + u32::from(*digit));
    match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(prefix(3), 300..=305 | 309 | 360..=369 | 380..=399),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            matches!(prefix(1), 4)
                || matches!(prefix(2), 50..=58 | 62 | 63 | 65 | 67)
                || matches!(prefix(3), 644..=649)
                || matches!(prefix(4), 2221..=2720 | 3528..=3589 | 6011)
        }
        19 => matches!(prefix(1), 4) || matches!(prefix(2), 62),
        _ => false,
    }
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// The lengths of account numbers by country, of the SWIFT registry of ISO 13616.
const LENGTHS: [(&[u8; 2], usize); 77] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VG", 24),
];

/// A bank account, as one word or in groups of four.
pub(super) fn iban(view: &View<'_>, at: usize) -> Found {
    let mut country = [0; 2];
    for (place, letter) in country.iter_mut().enumerate() {
        match view.get(at + place) {
            Some(byte) if byte.is_ascii_alphabetic() => *letter = byte.to_ascii_uppercase(),
            Some(_) => return Found::No,
            None => return view.cut(),
        }
    }
    let Some((_, length)) = LENGTHS.iter().find(|(known, _)| **known == country) else { return Found::No };
    let (mut seen, mut place, mut rest) = (0, at, Vec::with_capacity(*length));
    while seen < *length {
        match view.get(place) {
            None => return view.cut(),
            Some(b' ') if seen > 0 && seen % 4 == 0 && view.behind(place, 1) != b' ' => {}
            Some(byte)
                if byte.is_ascii_alphanumeric() && ((2..4).contains(&seen) <= byte.is_ascii_digit()) =>
            {
                rest.push(byte.to_ascii_uppercase());
                seen += 1;
            }
            Some(_) => return Found::No,
        }
        place += 1;
    }
    rest.rotate_left(4);
    match view.get(place) {
        None if !view.ends => Found::More,
        Some(byte) if is_word(byte) => Found::No,
        _ if mod_97(&rest) == 1 => Found::to(at, place),
        _ => Found::No,
    }
}

/// What is left of digits and letters, as ISO 7064 reads them, after division by 97.
fn mod_97(text: &[u8]) -> u32 {
    text.iter().fold(0, |left, byte| match byte {
        b'0'..=b'9' => (left * 10 + u32::from(byte - b'0')) % 97,
        _ => (left * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    })
}
