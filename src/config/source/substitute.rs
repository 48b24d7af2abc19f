//! `${NAME}`, `${NAME:-default}` and the escape `$${`, inside one scalar.

use crate::config::diagnostic::{Diagnostic, Path, Place};

/// Why a scalar's variables cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The variable is not in the environment and has no default.
    NotSet(String),
    /// What stands between the braces is not the name of a variable.
    BadName(String),
    /// There is a `${` and no `}`.
    Unclosed,
}

impl Problem {
    pub(super) fn diagnostic(self, place: Place, path: Path) -> Diagnostic {
        match self {
            Self::NotSet(name) => {
                Diagnostic::error(place, path, format!("the environment variable {name} is not set"))
                    .help(format!("set it, or give a default: ${{{name}:-value}}"))
            }
            Self::BadName(name) => Diagnostic::error(
                place,
                path,
                format!("`{name}` cannot be the name of an environment variable"),
            )
            .help("write ${NAME} or ${NAME:-default}; for a literal ${ write $${"),
            Self::Unclosed => Diagnostic::error(place, path, "`${` is never closed")
                .help("write ${NAME} or ${NAME:-default}; for a literal ${ write $${"),
        }
    }
}

/// The text with its variables replaced, or `None` where it has none. A default stands in for a variable that is
/// empty as well as for one that is not set, as in a shell.
pub(super) fn substitute(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, Problem> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            replaced.push_str(before);
            replaced.push_str("${");
            rest = after;
            continue;
        }
        replaced.push_str(before);
        let (inner, after) = after.split_once('}').ok_or(Problem::Unclosed)?;
        replaced.push_str(&value(inner, env)?);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(Some(replaced))
}

fn value(inner: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return Err(Problem::BadName(name.to_owned()));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Problem::NotSet(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Option<String>, Problem> {
        substitute(text, &|name| match name {
            "HOST" => Some("example.org".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn names_defaults_and_escapes() {
        for (text, expected) in [
            ("http://${HOST}:${PORT:-80}/x", "http://example.org:80/x"),
            ("${EMPTY:-full}${EMPTY}", "full"),
            ("$${HOST} costs $5", "${HOST} costs $5"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
        ] {
            assert_eq!(run(text), Ok(Some(expected.to_owned())), "{text}");
        }
        assert_eq!(run("$HOST {x}"), Ok(None));
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        assert_eq!(run("${NONE}"), Err(Problem::NotSet("NONE".into())));
        assert_eq!(run("${HOST"), Err(Problem::Unclosed));
        assert_eq!(run("${1A}"), Err(Problem::BadName("1A".into())));
        assert_eq!(run("${}"), Err(Problem::BadName(String::new())));
    }

    #[test]
    fn a_replaced_value_is_not_searched_again() {
        let replaced = substitute("${A}", &|_| Some("${B}".into()));
        assert_eq!(replaced, Ok(Some("${B}".into())));
    }
}
