//! What is found and what is not, kind by kind; and the laws of finding.

use proptest::prelude::*;

use super::*;

/// The text without that kind.
fn without(kind: Kind, text: &str) -> String {
    redact(Kinds::of([kind]), text).map_or_else(|| text.to_owned(), |(text, _)| text)
}

/// Each of these is one match, wherever it stands.
fn is_found(kind: Kind, texts: &[&str]) {
    for text in texts {
        assert_eq!(without(kind, text), kind.label(), "{text}");
        for (before, after) in
            [("see ", " or"), ("(", ")"), ("\"", "\","), ("x: ", "."), ("\u{4f60}", "\u{597d}"), ("\n", "\n")]
        {
            let around = format!("{before}{text}{after}");
            assert_eq!(without(kind, &around), format!("{before}{}{after}", kind.label()), "{around}");
        }
    }
}

fn is_left(kind: Kind, texts: &[&str]) {
    for text in texts {
        assert_eq!(without(kind, text), *text);
        assert_eq!(without(kind, &format!("a {text} b")), format!("a {text} b"));
    }
}

#[test]
fn emails() {
    is_found(
        Kind::Email,
        &[
            "a@b.com",
            "first.last+tag@sub.example.co.uk",
            "o'brien_x%y@ex-ample.org",
            "m\u{fc}ller@example.de",
            "12345@163.com",
            "UPPER@EXAMPLE.COM",
            "x@xn--bcher-kva.xn--p1ai",
            "4111111111111111@example.com",
        ],
    );
    is_left(
        Kind::Email,
        &[
            "user@localhost",
            "@handle",
            "a @ b.com",
            "logo@2x.png",
            "lodash@4.17.21",
            "react@18.0.0-rc.alpha",
            "git@github.com:me/repo.git",
            "a@b",
            "a@.com",
            "a@-b.com",
            "a@b-.com",
            "a@b.c",
            "@app.route",
            "user@example.com@other",
        ],
    );
    assert_eq!(without(Kind::Email, "mail a@b.com, c@d.org."), "mail [EMAIL], [EMAIL].");
    assert_eq!(without(Kind::Email, r#"{"x":"line\na@b.com\tc"}"#), r#"{"x":"line\n[EMAIL]\tc"}"#);
}

#[test]
fn cards() {
    is_found(
        Kind::Card,
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "4222222222222",
        ],
    );
    is_left(
        Kind::Card,
        &[
            // A wrong check digit, no issuer, a wrong length, groups that nobody prints.
            "4111111111111112",
            "1234567812345670",
            "0000000000000000",
            "41111111111111111111",
            "411111111111",
            "41 11 11 11 11 11 11 11",
            "4111 1111-1111 1111",
            "0.4111111111111111",
            "4111111111111111.5",
            "id_4111111111111111",
            "4111111111111111a",
            "2024-11-22 10:20:30",
            "1700000000000000",
        ],
    );
    assert_eq!(without(Kind::Card, "4111 1111 1111 1111 12/27"), "[CARD] 12/27");
    assert_eq!(without(Kind::Card, "[4111111111111111,5555555555554444]"), "[[CARD],[CARD]]");
}

#[test]
fn ibans() {
    is_found(
        Kind::Iban,
        &[
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "GB29 NWBK 6016 1331 9268 19",
            "FR1420041010050500013M02606",
            "NO9386011117947",
            "NL91ABNA0417164300",
            "CH93 0076 2011 6238 5295 7",
            "MT84MALT011000012345MTLCAST001S",
        ],
    );
    is_left(
        Kind::Iban,
        &[
            "DE89370400440532013001",
            "XX89370400440532013000",
            "DE8937040044053201300",
            "DE893704004405320130000",
            "DE89370400440532013000X",
            "DE and so on, twenty more letters",
        ],
    );
}

#[test]
fn national_ids() {
    is_found(
        Kind::NationalId,
        &[
            // United States, United Kingdom.
            "123-45-6789",
            "AB123456C",
            "AB 12 34 56 C",
            // Germany, France, Spain, Italy.
            "86095742719",
            "86 095 742 719",
            "65929970489",
            "185057800608491",
            "1 85 05 78 006 084 91",
            "12345678Z",
            "12345678-Z",
            "X1234567L",
            "RSSMRA85T10A562S",
        ],
    );
    is_left(
        Kind::NationalId,
        &[
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
            "123-45-67890",
            "2024-11-22",
            "GB123456C",
            "AB123456E",
            "DA123456C",
            "86095742718",
            "12345678901",
            "185057800608492",
            "185137800608436",
            "12345678A",
            "X1234567A",
            "RSSMRA85T10A562A",
            "RSSMRA85Z10A562S",
            "11-22-33",
        ],
    );
}

#[test]
fn phones() {
    is_found(
        Kind::Phone,
        &[
            "+4930123456789",
            "+49 30 1234567",
            "+1 (555) 234-5678",
            "+44 (0)20 7946 0958",
            "+33 1 23 45 67 89",
            "+1.415.555.2671",
            "(415) 555-2671",
            "(415)555-2671",
            "415-555-2671",
            "415.555.2671",
            "1-800-555-2671",
            "01 23 45 67 89",
            "020 7946 0958",
            "07700 900123",
            "0171 1234567",
            "0049 30 1234567",
        ],
    );
    is_left(
        Kind::Phone,
        &[
            "4155552671",
            "+12",
            "+1234567.89",
            "1+1234567890",
            "2024-11-22",
            "192.168.100.1",
            "115-555-2671",
            "415-155-2671",
            "200 300 4000",
            "978-3-16-148410-0",
            "1.2.3",
            "01 23 45",
            "415-555-26711",
            "(see 415)",
        ],
    );
}

#[test]
fn addresses() {
    is_found(
        Kind::Ip,
        &["192.168.0.1", "8.8.8.8", "2001:db8::8a2e:370:7334", "fe80::1:2:3", "2001:db8:0:0:1:0:0:1"],
    );
    is_left(
        Kind::Ip,
        &["256.1.1.1", "1.2.3", "1.2.3.4.5", "10:20:30", "a::b", "std::vec", "::", "face", "1.2.3.4a"],
    );
}

#[test]
fn secrets() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQ==\n-----END PRIVATE KEY-----";
    let token =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    is_found(
        Kind::Secret,
        &[
            "sk-proj-abcdefghijklmnop1234567890",
            "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWx-0123456789",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB",
            "xoxb-123456789012-abcdefABCDEF",
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "glpat-abcdefghij0123456789",
            token,
            key,
        ],
    );
    is_left(
        Kind::Secret,
        &[
            "sk-learn",
            "sk-a-very-long-kebab-case-name-without-digits",
            "AKIA1234",
            "AKIAiosfodnn7example",
            "ghp_short1",
            "eyJhbGci.x",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----",
            "----- BEGIN",
        ],
    );
    let escaped = key.replace('\n', "\\n");
    assert_eq!(without(Kind::Secret, &format!("{{\"k\":\"{escaped}\"}}")), "{\"k\":\"[SECRET]\"}");
    // One that is cut takes nothing with it that is no key.
    assert_eq!(
        without(Kind::Secret, "-----BEGIN RSA PRIVATE KEY-----\nMIIE \u{2026} and more"),
        "[SECRET]\u{2026} and more"
    );
    let long = format!("sk-{}1 end", "a".repeat(5000));
    assert_eq!(
        without(Kind::Secret, &long),
        "sk-".to_owned() + &"a".repeat(5000) + "1 end",
        "no digit near its beginning"
    );
    let long = format!("sk-1{} end", "a".repeat(5000));
    assert_eq!(without(Kind::Secret, &long), "[SECRET] end");
}

/// Texts in which what is looked for is likely.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a@b.com".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("+49 30 1234567".to_owned()),
        Just("415-555-2671".to_owned()),
        Just("DE89370400440532013000".to_owned()),
        Just("123-45-6789".to_owned()),
        Just("192.168.0.1".to_owned()),
        Just("sk-abcdefghijklmnop1234567890".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----".to_owned()),
        Just("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN".to_owned()),
        Just("86095742719".to_owned()),
        "[0-9 .+()-]{0,12}",
        "[a-z@.: \\n-]{0,8}",
        "[A-Z0-9_=/]{0,6}",
        ".{0,6}",
        Just("\u{fc}\u{4f60}\u{1f600}".to_owned()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn in_pieces(kinds: Kinds, text: &str, cuts: &[usize]) -> String {
    let mut redactor = Redactor::new(kinds);
    let (mut out, mut from) = (String::new(), 0);
    for cut in cuts {
        let to = text.floor_char_boundary(from + cut);
        redactor.push(text.get(from..to).unwrap_or_default(), &mut out);
        from = to;
        assert!(redactor.held.len() <= 3 * 2048 + 256, "too much is held: {}", redactor.held.len());
    }
    redactor.push(text.get(from..).unwrap_or_default(), &mut out);
    redactor.finish(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_text_in_pieces_gives_what_the_whole_gives(
        text in texts(),
        cuts in proptest::collection::vec(0..6usize, 0..60),
    ) {
        let whole = redact(Kinds::ALL, &text).map_or_else(|| text.clone(), |(text, _)| text);
        prop_assert_eq!(in_pieces(Kinds::ALL, &text, &cuts), whole);
    }

    #[test]
    fn what_was_redacted_stays_as_it_is(pieces in proptest::collection::vec(texts(), 0..4)) {
        let text = pieces.join(" ");
        if let Some((once, _)) = redact(Kinds::ALL, &text) {
            let twice = redact(Kinds::ALL, &once);
            prop_assert!(twice.is_none(), "{:?} became {:?}, and then {:?}", text, once, twice);
        }
    }

    #[test]
    fn what_holds_nothing_stays_as_it_is(text in "[a-zA-Z ,;!?\\n\u{e4}\u{4f60}]{0,200}") {
        prop_assert_eq!(redact(Kinds::ALL, &text), None);
        prop_assert_eq!(in_pieces(Kinds::ALL, &text, &[1; 200]), text);
    }

    #[test]
    fn no_bytes_upset_it(text in any::<String>(), cuts in proptest::collection::vec(0..4usize, 0..40)) {
        in_pieces(Kinds::ALL, &text, &cuts);
    }
}

#[test]
fn only_what_could_become_a_match_is_held() {
    let mut redactor = Redactor::new(Kinds::ALL);
    let mut out = String::new();
    for (piece, told) in [
        ("Write to ", "Write to "),
        ("jane", ""),
        (" or", "jane "),
        (" a", "or "),
        ("nn@", ""),
        ("example", ""),
        (".com", ""),
        (", then", "[EMAIL], "),
        (".", ""),
        (" Bye!", "then. Bye!"),
        (" a", " "),
    ] {
        out.clear();
        redactor.push(piece, &mut out);
        assert_eq!(out, told, "{piece}");
    }
    out.clear();
    redactor.finish(&mut out);
    assert_eq!(out, "a");
}

#[test]
fn time_is_linear_in_the_text() {
    for text in ["a.", "1 ", "1", "a@", "-", "+1", "eyJ", "(2", "a@b.", "AB12", "::", "DE89 "] {
        let text = text.repeat(20_000);
        let began = std::time::Instant::now();
        let _ = redact(Kinds::ALL, &text);
        let took = began.elapsed();
        // Some 40 KB without optimisation: what were quadratic would take minutes.
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }
}
