//! Deterministic words: how text is cut into tokens, and how replies are made up.
//!
//! A token is one word with the white space before it, so a test that fixes the reply's text knows its
//! tokens: `"one two three"` is three. A word of more than [`MAX_WORD`] bytes counts once for every
//! started [`MAX_WORD`] bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Longest piece of a word that still counts as one token, in bytes (a piece ends at a character).
pub(crate) const MAX_WORD: usize = 64;

/// How many prompt tokens one block of the prefix cache covers.
pub(crate) const BLOCK: u64 = 16;

/// The tokens of `text`, in order; joined again they are `text`.
pub(crate) fn tokens(text: &str) -> Tokens<'_> {
    Tokens { rest: text }
}

/// Iterator of [`tokens`].
pub(crate) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let mut word = None;
        let mut end = self.rest.len();
        for (at, c) in self.rest.char_indices() {
            match (word, c.is_whitespace()) {
                (None, true) => {}
                (None, false) => word = Some(at),
                (Some(_), true) => {
                    end = at;
                    break;
                }
                (Some(start), false) if at - start >= MAX_WORD => {
                    end = at;
                    break;
                }
                (Some(_), false) => {}
            }
        }
        let (token, rest) = self.rest.split_at_checked(end)?;
        if rest.trim_start().is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        self.rest = rest;
        Some(token)
    }
}

/// A running hash that is the same on every machine and in every version of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x51_7c_c1_b7_27_22_0a_95)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last));
        self.mix(bytes.len() as u64);
    }

    pub(crate) fn number(&mut self, n: u64) {
        self.mix(n);
    }

    /// The hash so far, well spread (the finaliser of SplitMix64).
    pub(crate) fn finish(self) -> u64 {
        let mut z = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// What a prompt comes to: its length, its identity, and the chained block hashes a prefix cache keys on.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) tokens: u64,
    pub(crate) blocks: Vec<u64>,
    digest: Digest,
}

impl Prompt {
    /// An empty prompt; `salt` keeps the prompts of different models apart.
    pub(crate) fn new(seed: u64, salt: &str) -> Self {
        let mut digest = Digest::new(seed);
        digest.write(salt.as_bytes());
        Self { tokens: 0, blocks: Vec::new(), digest }
    }

    /// Adds text, a token for every word.
    pub(crate) fn text(&mut self, text: &str) {
        for token in tokens(text) {
            self.push(token.as_bytes());
        }
    }

    /// Adds `n` tokens that stand for something other than words (a role, an image).
    pub(crate) fn fill(&mut self, mark: &[u8], n: u64) {
        for _ in 0..n {
            self.push(mark);
        }
    }

    /// Adds the tokens of an answer that is to be gone on with. They say nothing of what is asked.
    pub(crate) fn begun(&mut self, text: &str) {
        self.tokens += tokens(text).count() as u64;
    }

    /// A number that depends on every token.
    pub(crate) fn identity(&self) -> u64 {
        self.digest.finish()
    }

    pub(crate) fn push(&mut self, token: &[u8]) {
        self.digest.write(token);
        self.tokens += 1;
        if self.tokens.is_multiple_of(BLOCK) {
            self.blocks.push(self.digest.finish());
        }
    }
}

/// `n` tokens of word salad; joined they read like sentences.
pub(crate) fn salad(rng: &mut Rng, n: u64) -> Vec<String> {
    let mut out = Vec::with_capacity(usize::try_from(n).unwrap_or_default());
    let mut sentence = 0;
    for at in 0..n {
        let mut word = String::from(if at == 0 { "" } else { " " });
        let chosen = WORDS.get(rng.usize(..WORDS.len())).copied().unwrap_or("water");
        if sentence == 0 {
            word.extend(chosen.chars().take(1).flat_map(char::to_uppercase));
            word.extend(chosen.chars().skip(1));
        } else {
            word.push_str(chosen);
        }
        sentence += 1;
        if at + 1 == n || (sentence > 5 && rng.u8(..4) == 0) {
            word.push('.');
            sentence = 0;
        }
        out.push(word);
    }
    out
}

/// `text` cut every `chars` characters: how JSON is streamed, where words say little.
pub(crate) fn pieces(text: &str, chars: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut piece = String::new();
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % chars == 0 {
            out.push(std::mem::take(&mut piece));
        }
        piece.push(c);
    }
    if !piece.is_empty() {
        out.push(piece);
    }
    out
}

/// An identifier: `prefix` and `len` letters and digits.
pub(crate) fn id(rng: &mut Rng, prefix: &str, len: usize) -> String {
    let mut out = String::with_capacity(prefix.len() + len);
    out.push_str(prefix);
    out.extend((0..len).map(|_| rng.alphanumeric()));
    out
}

/// The signature of a text that was thought: whoever sends the text back must send this with it.
pub(crate) fn sign(text: &str) -> String {
    let mut digest = Digest::new(0);
    digest.write(text.as_bytes());
    STANDARD.encode(format!("forebay-sim-{:016x}", digest.finish()))
}

/// A UUID.
pub(crate) fn uuid(rng: &mut Rng) -> String {
    let digits = format!("{:032x}", rng.u128(..));
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// A value that fits the JSON Schema `schema` as far as it says: types, enums, constants, objects, arrays,
/// bounds of numbers, and the first branch of a union. References are not followed: they give a string.
pub(crate) fn sample(rng: &mut Rng, schema: &Value, depth: u8) -> Value {
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(value) = schema.get("enum").and_then(Value::as_array).and_then(|all| all.first()) {
        return value.clone();
    }
    let union = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(key));
    if let Some(branch) = union.and_then(Value::as_array).and_then(|all| all.first()) {
        return if depth == 0 { Value::Null } else { sample(rng, branch, depth - 1) };
    }
    match schema_type(schema).map(str::to_ascii_lowercase).as_deref() {
        Some("object") => sample_object(rng, schema, depth),
        Some("array") => sample_array(rng, schema, depth),
        Some("integer") => json!(bounded(rng, schema)),
        Some("number") => json!(bounded(rng, schema) as f64 + 0.5),
        Some("boolean") => json!(rng.bool()),
        Some("null") => Value::Null,
        _ => json!(WORDS.get(rng.usize(..WORDS.len())).copied().unwrap_or("water")),
    }
}

fn schema_type(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => Some(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ if schema.get("properties").is_some() => Some("object"),
        _ => None,
    }
}

fn sample_object(rng: &mut Rng, schema: &Value, depth: u8) -> Value {
    let mut out = Map::new();
    if depth > 0 {
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            out.insert(name.clone(), sample(rng, inner, depth - 1));
        }
    }
    Value::Object(out)
}

fn sample_array(rng: &mut Rng, schema: &Value, depth: u8) -> Value {
    let Some(inner) = schema.get("items").filter(|_| depth > 0) else {
        return json!([]);
    };
    let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 16);
    Value::Array((0..least).map(|_| sample(rng, inner, depth - 1)).collect())
}

fn bounded(rng: &mut Rng, schema: &Value) -> i64 {
    let low = schema.get("minimum").and_then(Value::as_i64).unwrap_or(0);
    let high = schema.get("maximum").and_then(Value::as_i64).unwrap_or_else(|| low.saturating_add(99));
    rng.i64(low..=high.max(low))
}

const WORDS: [&str; 64] = [
    "water",
    "gate",
    "river",
    "stone",
    "the",
    "a",
    "turbine",
    "slowly",
    "under",
    "light",
    "over",
    "café",
    "field",
    "and",
    "even",
    "flow",
    "quiet",
    "of",
    "morning",
    "naïve",
    "signal",
    "into",
    "bridge",
    "seven",
    "with",
    "copper",
    "turns",
    "東京",
    "spring",
    "held",
    "by",
    "level",
    "against",
    "wheel",
    "winter",
    "to",
    "pressure",
    "open",
    "straße",
    "channel",
    "from",
    "north",
    "where",
    "pool",
    "deep",
    "carries",
    "🌊",
    "measured",
    "load",
    "between",
    "clear",
    "steady",
    "wide",
    "in",
    "Ωmega",
    "valley",
    "drawn",
    "past",
    "each",
    "hour",
    "falls",
    "rising",
    "smörgås",
    "home",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_words_and_join_to_the_text() {
        for text in ["one two three", "  lead", "trail \n", "a\n\nb", "", "   ", "日本 語", &"x".repeat(200)]
        {
            assert_eq!(tokens(text).collect::<String>(), text);
        }
        assert_eq!(tokens("one two three").collect::<Vec<_>>(), ["one", " two", " three"]);
        assert_eq!(tokens("end \n").collect::<Vec<_>>(), ["end \n"]);
        assert_eq!(tokens(&"x".repeat(129)).count(), 3);
    }

    #[test]
    fn salad_is_the_same_for_the_same_seed() {
        let one = salad(&mut Rng::with_seed(7), 40);
        assert_eq!(one, salad(&mut Rng::with_seed(7), 40));
        assert_ne!(one, salad(&mut Rng::with_seed(8), 40));
        assert_eq!(one.len(), 40);
        assert_eq!(tokens(&one.concat()).count(), 40);
    }

    #[test]
    fn prompts_share_the_blocks_of_a_shared_prefix() {
        let start = "word ".repeat(40);
        let prompt = |tail: &str| {
            let mut prompt = Prompt::new(1, "m");
            prompt.text(&format!("{start}{tail}"));
            prompt
        };
        let (one, two) = (prompt("left side of it"), prompt("right side of it"));
        assert_eq!(one.tokens, 44);
        assert_eq!(one.blocks, two.blocks);
        assert_ne!(one.identity(), two.identity());
        assert_ne!(Prompt::new(1, "m").identity(), Prompt::new(1, "n").identity());
    }

    #[test]
    fn a_sample_fits_its_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["c", "f"]},
                "days": {"type": "integer", "minimum": 3, "maximum": 3},
                "tags": {"type": "array", "items": {"type": ["null", "boolean"]}, "minItems": 2},
                "kind": {"anyOf": [{"const": "x"}, {"type": "null"}]},
            },
        });
        let value = sample(&mut Rng::with_seed(1), &schema, 8);
        assert!(value["city"].is_string());
        assert_eq!(value["unit"], "c");
        assert_eq!(value["days"], 3);
        assert_eq!(value["tags"].as_array().unwrap().len(), 2);
        assert!(value["tags"][1].is_boolean());
        assert_eq!(value["kind"], "x");
    }

    #[test]
    fn pieces_join_to_the_text() {
        assert_eq!(pieces("añbcde", 4), ["añbc", "de"]);
        assert!(pieces("", 4).is_empty());
    }
}
