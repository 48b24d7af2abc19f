//! A string that must never be seen: API keys, virtual keys, credentials in headers.

use std::fmt;

use zeroize::Zeroizing;

/// A secret. It is wiped when dropped, prints as `***`, and has neither `Display` nor `Serialize`: whoever needs
/// the text says so with [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` as a secret, less the line ends that editors and `echo` leave at its end.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = Zeroizing::new(text.into());
        let kept = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(kept);
        Self(text)
    }

    /// The text itself. Never log it, never format it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let secret = Secret::new("sk-live-1");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        assert_eq!(secret.expose(), "sk-live-1");
    }

    #[test]
    fn line_ends_at_the_end_are_not_part_of_it() {
        assert_eq!(Secret::new("a b\r\n\n").expose(), "a b");
        assert!(Secret::new("\n").is_empty());
    }
}
