//! Whether a JSON text is whole, without reading it: for texts too large to be held.

/// Follows the brackets of a JSON text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Balance {
    /// How many are open.
    depth: u32,
    /// Whether the last byte was inside a string, and whether it was a backslash that escapes the next.
    string: Option<bool>,
}

impl Balance {
    /// Takes the next bytes of the text.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.string = match (self.string, byte) {
                (Some(true), _) => Some(false),
                (Some(false), b'\\') => Some(true),
                (Some(false), b'"') => None,
                (Some(false), _) => Some(false),
                (None, b'"') => Some(false),
                (None, byte) => {
                    match byte {
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    None
                }
            };
        }
    }

    /// Whether the text has begun something that it has not ended.
    pub fn is_open(&self) -> bool {
        self.depth > 0 || self.string.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_text_is_noticed() {
        let text = br#"{"a":["}",{"b":"\\\"]"}],"c":"\\"}"#;
        for cut in 1..text.len() {
            let mut balance = Balance::default();
            text[..cut].iter().for_each(|byte| balance.push(&[*byte]));
            assert!(balance.is_open(), "{cut}");
            balance.push(&text[cut..]);
            assert!(!balance.is_open(), "{cut}");
        }
    }
}
