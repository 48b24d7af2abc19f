//! Members taken out of an object, and others put in, as edits.

use super::scanner::Scanner;
use super::{Fault, decode};
use crate::json::Edits;

/// The edits that take every member with a name in `gone` out of `body`, and put `members`, each a `"name":value`, at
/// its start.
///
/// # Errors
///
/// A [`Fault`] where the body is no object.
pub fn reshape(body: &[u8], gone: &[&str], members: &[Vec<u8>]) -> Result<Edits, Fault> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault { at: error.valid_up_to(), what: crate::json::What::NotUtf8 })?;
    let mut scanner = Scanner::new(text, 0);
    scanner.head()?;
    let insert_at = scanner.at + 1;
    let mut found = Vec::new();
    scanner.members(|name, at, span| {
        let goes = decode(name).is_some_and(|name| gone.contains(&&*name));
        found.push((at..span.end, goes));
        Ok(())
    })?;
    // A member goes with the comma behind it; those at the end go with the comma before them.
    let kept = found.iter().rposition(|(_, goes)| !goes).map_or(0, |last| last + 1);
    let mut edits = Edits::new();
    let mut add = |span, with: Vec<u8>| {
        let taken = edits.push(span, with);
        debug_assert!(taken, "members overlap");
    };
    let mut inserted = members.join(&b',');
    if kept > 0 && !inserted.is_empty() {
        inserted.push(b',');
    }
    add(insert_at..insert_at, inserted);
    for pair in found.get(..kept).unwrap_or_default().windows(2) {
        if let [(member, true), (next, _)] = pair {
            add(member.start..next.start, Vec::new());
        }
    }
    if let (Some((first, _)), Some((last, _))) = (found.get(kept), found.last()) {
        let before = kept.checked_sub(1).and_then(|before| found.get(before));
        let start = before.map_or(first.start, |(member, _)| member.end);
        add(start..last.end, Vec::new());
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::json::splice;

    fn reshaped(body: &str, gone: &[&str], members: &[&str]) -> String {
        let members: Vec<Vec<u8>> = members.iter().map(|member| member.as_bytes().to_vec()).collect();
        let edits = reshape(body.as_bytes(), gone, &members).unwrap();
        String::from_utf8(splice(&Bytes::copy_from_slice(body.as_bytes()), &edits).concat()).unwrap()
    }

    #[test]
    fn members_go_and_come_wherever_they_stand() {
        for (body, expected) in [
            (r#"{"model":"m","x":1}"#, r#"{"v":1,"x":1}"#),
            (r#"{"x":1,"model":"m"}"#, r#"{"v":1,"x":1}"#),
            (r#"{"x":1,"stream":true,"model":"m"}"#, r#"{"v":1,"x":1}"#),
            (r#"{"stream":true , "model" : "m"}"#, r#"{"v":1}"#),
            (
                r#"{"stream":true,"x":[1,{"model":2}],"model":"m","y":2}"#,
                r#"{"v":1,"x":[1,{"model":2}],"y":2}"#,
            ),
            (r#"{"mod\u0065l":"m","x":1}"#, r#"{"v":1,"x":1}"#),
            ("{}", r#"{"v":1}"#),
            (r#"{"x":1}"#, r#"{"v":1,"x":1}"#),
        ] {
            assert_eq!(reshaped(body, &["model", "stream"], &[r#""v":1"#]), expected, "{body}");
        }
        assert_eq!(reshaped(r#"{"x":1}"#, &["x"], &[]), "{}");
    }

    #[test]
    fn what_is_left_is_the_object_without_them() {
        let names = ["a", "model", "b", "stream", "c"];
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..2000 {
            let mut members: Vec<&str> = names.iter().copied().filter(|_| rng.bool()).collect();
            rng.shuffle(&mut members);
            let space = ["", " ", "\n\t"][rng.usize(..3)];
            let text: Vec<String> =
                members.iter().map(|name| format!("{space}\"{name}\"{space}:1")).collect();
            let body = format!("{{{}{space}}}", text.join(","));
            let read: Value =
                serde_json::from_str(&reshaped(&body, &["model", "stream"], &[r#""v":2"#, r#""w":3"#]))
                    .unwrap();
            let mut expected = json!({"v": 2, "w": 3});
            for name in members.iter().filter(|name| name.len() == 1) {
                expected[*name] = json!(1);
            }
            assert_eq!(read, expected, "{body}");
        }
    }
}
