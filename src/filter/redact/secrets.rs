//! What opens doors: keys by the prefixes that their makers gave them for being found, private keys, web tokens.

use super::view::{Found, Rest, View, is_word};

/// A maker's form of a key.
struct Form {
    prefix: &'static [u8],
    /// What else than letters and digits stands in it.
    also: &'static [u8],
    /// The least that stands behind the prefix.
    least: usize,
}

const fn form(prefix: &'static [u8], also: &'static [u8], least: usize) -> Form {
    Form { prefix, also, least }
}

const FORMS: [Form; 26] = [
    // Forebay's own.
    form(b"fb-", b"", 40),
    form(b"sk-", b"_-", 20),
    form(b"sk_live_", b"", 16),
    form(b"sk_test_", b"", 16),
    form(b"rk_live_", b"", 16),
    form(b"whsec_", b"", 24),
    form(b"AKIA", b"", 16),
    form(b"ASIA", b"", 16),
    form(b"ghp_", b"", 36),
    form(b"gho_", b"", 36),
    form(b"ghu_", b"", 36),
    form(b"ghs_", b"", 36),
    form(b"ghr_", b"", 36),
    form(b"github_pat_", b"_", 22),
    form(b"glpat-", b"_-", 20),
    form(b"xoxa-", b"-", 10),
    form(b"xoxb-", b"-", 10),
    form(b"xoxp-", b"-", 10),
    form(b"xoxr-", b"-", 10),
    form(b"xoxs-", b"-", 10),
    form(b"xapp-", b"-", 10),
    form(b"AIza", b"_-", 35),
    form(b"hf_", b"", 30),
    form(b"npm_", b"", 36),
    form(b"gsk_", b"", 40),
    form(b"xai-", b"", 40),
];

/// How much of a word is looked at before it is believed; the rest of it goes with it.
const ENOUGH: usize = 256;
/// The least of each part of a web token, bytes.
const PART: usize = 8;
/// The most of a part that is looked at, bytes.
const LONG: usize = 2048;

pub(super) fn begins(view: &View<'_>, at: usize) -> Found {
    match view.get(at) {
        Some(b'-') => pem(view, at),
        Some(b'e') => token(view, at),
        Some(byte) if byte.is_ascii_alphabetic() => {
            let forms = FORMS.iter().filter(|form| form.prefix.first() == Some(&byte));
            forms.map(|form| key(view, at, form)).find(|found| *found != Found::No).unwrap_or(Found::No)
        }
        _ => Found::No,
    }
}

fn key(view: &View<'_>, at: usize, form: &Form) -> Found {
    match view.has(at, form.prefix) {
        None => return Found::More,
        Some(false) => return Found::No,
        Some(true) => {}
    }
    let from = at + form.prefix.len();
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || form.also.contains(&byte);
    let mut end = from;
    while view.get(end).is_some_and(inside) && end - from < ENOUGH {
        end += 1;
    }
    if view.get(end).is_none() && end - from < ENOUGH && !view.ends {
        return Found::More;
    }
    let body = view.bytes.get(from..end).unwrap_or_default();
    let is_amazons = form.prefix.ends_with(b"IA");
    let is_random = body.iter().any(u8::is_ascii_digit) && body.iter().any(u8::is_ascii_alphabetic);
    let fits = match is_amazons {
        true => body.len() == form.least && body.iter().all(|byte| !byte.is_ascii_lowercase()),
        false => body.len() >= form.least,
    };
    // Only of one that is longer than was looked at there is a rest.
    let rest = if end - from == ENOUGH { Rest::Token } else { Rest::Nothing };
    if fits && is_random { Found::Match(end - at, rest) } else { Found::No }
}

/// A JSON web token: three parts of base64url, the first of which begins an object (`{"`).
fn token(view: &View<'_>, at: usize) -> Found {
    match view.has(at, b"eyJ") {
        None => return Found::More,
        Some(false) => return Found::No,
        Some(true) => {}
    }
    let mut place = at;
    for part in 0..3 {
        let start = place;
        while view.get(place).is_some_and(|byte| is_word(byte) || byte == b'-') && place - start < LONG {
            place += 1;
        }
        let long = place - start;
        match view.get(place) {
            None if long < LONG && !view.ends => return Found::More,
            _ if long < PART => return Found::No,
            _ if part == 2 && long < LONG => return Found::to(at, place),
            Some(b'.') => place += 1,
            // One whose part is longer than is looked at is believed by its beginning.
            _ if long == LONG => break,
            _ => return Found::No,
        }
    }
    Found::Match(place - at, Rest::Token)
}

/// The first line of a private key (RFC 7468, and the forms before it). The rest of it goes with it.
fn pem(view: &View<'_>, at: usize) -> Found {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const KEY: &[u8] = b"PRIVATE KEY";
    /// The longest label: `ENCRYPTED PRIVATE KEY BLOCK` and the like.
    const LABEL: usize = 40;
    match view.has(at, BEGIN) {
        _ if view.behind(at, 1) == b'-' => return Found::No,
        None => return Found::More,
        Some(false) => return Found::No,
        Some(true) => {}
    }
    let from = at + BEGIN.len();
    let mut end = from;
    while view.get(end).is_some_and(|byte| byte.is_ascii_uppercase() || byte == b' ') && end - from <= LABEL {
        end += 1;
    }
    let label = view.bytes.get(from..end).unwrap_or_default();
    match view.has(end, b"-----") {
        None => Found::More,
        Some(true) if label.windows(KEY.len()).any(|part| part == KEY) => {
            Found::Match(end + 5 - at, Rest::Pem)
        }
        _ => Found::No,
    }
}
