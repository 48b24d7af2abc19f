//! Where someone is reached: e-mail and IP addresses.

use std::net::Ipv6Addr;

use super::view::{Found, View, is_latin, is_word};

/// The longest part before the `@` (RFC 5321 §4.5.3.1).
const LOCAL: usize = 64;
/// The longest domain.
const DOMAIN: usize = 253;
/// Ends of file names that look like domains: `logo@2x.png`.
const FILES: [&[u8]; 7] = [b"png", b"jpg", b"jpeg", b"gif", b"webp", b"svg", b"avif"];

/// An e-mail address with a domain of at least two labels.
pub(super) fn email(view: &View<'_>, at: usize) -> Found {
    if !view.get(at).is_some_and(|first| is_word(first) || is_latin(first)) {
        return Found::No;
    }
    let mut end = at;
    loop {
        match view.get(end) {
            Some(byte) if is_word(byte) || matches!(byte, b'.' | b'%' | b'+' | b'-' | b'\'') => end += 1,
            Some(byte) if is_latin(byte) => end += 2,
            Some(b'@') if end > at => break,
            Some(_) => return Found::No,
            None if end - at <= LOCAL => return view.cut(),
            None => return Found::No,
        }
        if end - at > LOCAL {
            return Found::No;
        }
    }
    if view.behind(end, 1) == b'.' {
        return Found::No;
    }
    domain(view, at, end)
}

/// The domain behind an `@`.
fn domain(view: &View<'_>, at: usize, sign: usize) -> Found {
    let from = sign + 1;
    let mut end = from;
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    loop {
        match (view.get(end), view.get(end + 1)) {
            (Some(byte), _) if is_label(byte) => end += 1,
            (Some(b'.'), Some(next)) if next.is_ascii_alphanumeric() && end > from => end += 1,
            (Some(b'.'), None) if !view.ends => return Found::More,
            (None, _) if !view.ends && end - from <= DOMAIN => return Found::More,
            _ => break,
        }
        if end - from > DOMAIN {
            return Found::No;
        }
    }
    let name = view.bytes.get(from..end).unwrap_or_default();
    let mut labels: Vec<&[u8]> = name.split(|byte| *byte == b'.').collect();
    let is_top = |label: &[u8]| {
        label.len() >= 2 && (label.iter().all(u8::is_ascii_alphabetic) || label.starts_with(b"xn--"))
    };
    // What follows behind a point and is no part of a name is another thing.
    while let Some(last) = labels.pop_if(|last| !is_top(last)) {
        end -= last.len() + usize::from(!labels.is_empty());
    }
    let (Some((last, before)), next) = (labels.split_last(), view.get(end)) else { return Found::No };
    let is_file = FILES.iter().any(|file| last.eq_ignore_ascii_case(file));
    // `package@1.2.3-beta.rc` is a version.
    let numbers = before.iter().filter(|label| label.iter().all(u8::is_ascii_digit)).count();
    let is_name = before.iter().all(|label| {
        (1..=63).contains(&label.len()) && label.first() != Some(&b'-') && label.last() != Some(&b'-')
    });
    // `git@host:path` is where code is.
    let is_code = next == Some(b':') && view.bytes.get(at..sign) == Some(b"git");
    let follows = next.is_some_and(|byte| matches!(byte, b'_' | b'@'));
    if before.is_empty() || is_file || numbers > 1 || !is_name || is_code || follows {
        return Found::No;
    }
    Found::to(at, end)
}

/// An IPv4 or IPv6 address.
pub(super) fn ip(view: &View<'_>, at: usize) -> Found {
    match four(view, at) {
        Found::No => six(view, at),
        found => found,
    }
}

fn four(view: &View<'_>, at: usize) -> Found {
    if view.is_joined(at) {
        return Found::No;
    }
    let mut place = at;
    for octet in 0..4 {
        if octet > 0 {
            match view.get(place) {
                Some(b'.') => place += 1,
                Some(_) => return Found::No,
                None => return view.cut(),
            }
        }
        let (start, mut value) = (place, 0_u32);
        while let Some(digit) = view.get(place).filter(u8::is_ascii_digit) {
            value = value * 10 + u32::from(digit - b'0');
            place += 1;
            if value > 255 || place - start > 3 {
                return Found::No;
            }
        }
        if place == start {
            return if view.get(place).is_none() { view.cut() } else { Found::No };
        }
    }
    view.closed(at, place)
}

/// The longest text of an IPv6 address, an IPv4 one in it.
const SIX: usize = 45;

fn six(view: &View<'_>, at: usize) -> Found {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    let mut end = at;
    while view.get(end).is_some_and(is_part) {
        end += 1;
        if end - at > SIX {
            return Found::No;
        }
    }
    let run = view.bytes.get(at..end).unwrap_or_default();
    if view.get(end).is_none() && !view.ends {
        // Up to four digits may begin one; after that, there is a colon.
        return if run.len() <= 4 || run.contains(&b':') { Found::More } else { Found::No };
    }
    // What ends a sentence is none of it.
    let text = std::str::from_utf8(run).unwrap_or_default();
    let text = text.trim_end_matches('.');
    let text = text.strip_suffix(':').filter(|rest| !rest.ends_with(':')).unwrap_or(text);
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    if groups < 3 || view.get(end).is_some_and(is_word) || text.parse::<Ipv6Addr>().is_err() {
        return Found::No;
    }
    Found::to(at, at + text.len())
}
