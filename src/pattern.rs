//! Names with at most one `*`.

/// A literal, or a literal with one `*` that stands for any text, the empty one included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Exactly this.
    Exact(String),
    /// This before the star, and this behind it.
    Star(String, String),
}

impl Pattern {
    /// Reads a pattern; `None` where it has more than one star.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('*') {
            None => Some(Self::Exact(text.to_owned())),
            Some((_, behind)) if behind.contains('*') => None,
            Some((before, behind)) => Some(Self::Star(before.to_owned(), behind.to_owned())),
        }
    }

    /// What the star stands for in `name`: empty for an exact match; `None` where the pattern does not match.
    pub fn matched<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self {
            Self::Exact(exact) => (exact == name).then_some(""),
            Self::Star(before, behind) => name.strip_prefix(before.as_str())?.strip_suffix(behind.as_str()),
        }
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.matched(name).is_some()
    }

    /// Whether every name matches.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Star(before, behind) if before.is_empty() && behind.is_empty())
    }

    /// How much of a name the pattern fixes: the most specific of several that match goes first.
    pub fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(exact) => (true, exact.len()),
            Self::Star(before, behind) => (false, before.len() + behind.len()),
        }
    }
}

/// What names are permitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Only these; nothing for all.
    pub allow: Option<Vec<Pattern>>,
    /// None of these.
    pub deny: Vec<Pattern>,
}

impl Permit {
    /// Whether `name` is permitted. What has no name is permitted only where everything is.
    pub fn permits(&self, name: Option<&str>) -> bool {
        let among = |patterns: &[Pattern]| {
            name.is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
        };
        match (&self.allow, name) {
            (None, None) => self.deny.is_empty(),
            (None, Some(_)) => !among(&self.deny),
            (Some(allow), _) => among(allow) && !among(&self.deny),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Star(before, behind) => write!(f, "{before}*{behind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_permitted_only_where_everything_is() {
        let list = |names: &[&str]| names.iter().filter_map(|name| Pattern::parse(name)).collect::<Vec<_>>();
        let all = Permit::default();
        let eu = Permit { allow: Some(list(&["eu-*"])), deny: list(&["eu-west-2"]) };
        let not_cn = Permit { allow: None, deny: list(&["cn-*"]) };
        for (permit, name, expected) in [
            (&all, None, true),
            (&all, Some("x"), true),
            (&eu, Some("eu-west-1"), true),
            (&eu, Some("eu-west-2"), false),
            (&eu, Some("us-east-1"), false),
            (&eu, None, false),
            (&not_cn, Some("us-east-1"), true),
            (&not_cn, Some("cn-north-1"), false),
            (&not_cn, None, false),
        ] {
            assert_eq!(permit.permits(name), expected, "{permit:?} {name:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let pattern = Pattern::parse("gpt-*-mini").unwrap();
        assert_eq!(pattern.matched("gpt-4o-mini"), Some("4o"));
        assert_eq!(pattern.matched("gpt--mini"), Some(""));
        assert_eq!(pattern.matched("gpt-mini"), None, "the two literals may not overlap");
        assert_eq!(Pattern::parse("*").unwrap().matched("x"), Some("x"));
        assert!(Pattern::parse("a*b*").is_none());
        assert_eq!(Pattern::parse("a").unwrap().matched("a"), Some(""));
        assert!(!Pattern::parse("a").unwrap().matches("ab"));
        assert_eq!(pattern.to_string(), "gpt-*-mini");
    }
}
