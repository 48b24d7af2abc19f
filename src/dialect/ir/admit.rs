//! What encoders do alike with a request's parameters: keep what the target takes, and note the rest.

use std::borrow::Cow;

use super::target::{Facts, Sampling as Takes, ToolIds};
use super::write::Object;
use super::{Content, Notes, Origin, Output, Request, Sampling, Text};
use crate::error::Error;

/// The sampling parameters that a target takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admitted {
    /// `temperature`
    pub temperature: Option<f64>,
    /// `top_p`
    pub top_p: Option<f64>,
    /// `top_k`
    pub top_k: Option<u64>,
}

impl Takes {
    /// What of the temperature, `top_p` and `top_k` may be sent.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn admit(self, sampling: &Sampling<'_>, notes: &mut Notes) -> Result<Admitted, Error> {
        let Sampling { temperature, top_p, top_k, .. } = *sampling;
        match self {
            Self::Taken => Ok(Admitted { temperature, top_p, top_k }),
            Self::UpTo(most) => {
                if temperature.is_some_and(|temperature| temperature > most) {
                    notes.mapped("temperature", "is clamped to the most that the upstream takes");
                }
                let temperature = temperature.map(|temperature| temperature.min(most));
                Ok(Admitted { temperature, top_p, top_k })
            }
            Self::Refused => {
                let given = [
                    ("temperature", temperature.is_some()),
                    ("top_p", top_p.is_some()),
                    ("top_k", top_k.is_some()),
                ];
                for (name, _) in given.into_iter().filter(|(_, given)| *given) {
                    notes.dropped(name, "the upstream's model takes no sampling parameters; leave it out")?;
                }
                Ok(Admitted::default())
            }
        }
    }
}

impl<'a> Sampling<'a> {
    /// Notes that more than one reply is asked for, where one is all there can be.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn one_reply(&self, notes: &mut Notes) -> Result<(), Error> {
        match self.replies {
            Some(replies) if replies > 1 => {
                notes.dropped("n", "only one reply can be given across dialects; ask once for each")
            }
            _ => Ok(()),
        }
    }

    /// The stop sequences that may be sent.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn stops_within(&self, most: Option<usize>, notes: &mut Notes) -> Result<&[Text<'a>], Error> {
        match most.and_then(|most| self.stops.get(..most)) {
            Some(stops) if stops.len() < self.stops.len() => {
                notes.dropped("stop", "the upstream takes fewer stop sequences; send fewer")?;
                Ok(stops)
            }
            _ => Ok(&self.stops),
        }
    }

    /// Notes the parameters that no dialect but OpenAI's has.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn without(&self, names: &[&'static str], notes: &mut Notes) -> Result<(), Error> {
        let given = |name: &str| match name {
            "frequency_penalty" => self.frequency_penalty.is_some_and(|penalty| penalty != 0.0),
            "presence_penalty" => self.presence_penalty.is_some_and(|penalty| penalty != 0.0),
            "seed" => self.seed.is_some(),
            "logit_bias" => self.logit_bias.is_some(),
            "logprobs" => self.logprobs == Some(true),
            "top_logprobs" => self.top_logprobs.is_some_and(|top| top > 0),
            "top_k" => self.top_k.is_some(),
            _ => false,
        };
        for name in names.iter().filter(|name| given(name)) {
            notes.dropped(name, "has no equal in the upstream's dialect; leave it out")?;
        }
        Ok(())
    }
}

impl Request<'_> {
    /// Notes how reasoning was to be shown, where that cannot be said. `auto` leaves it to the upstream anyway.
    pub fn note_display(&self, notes: &mut Notes) {
        let path = match self.origin {
            Origin::Responses => "reasoning.summary",
            Origin::Gemini => "generationConfig.thinkingConfig.includeThoughts",
            _ => "thinking.display",
        };
        if self.thinking.display.as_ref().is_some_and(|display| *display != *"auto") {
            notes.mapped(path, "the upstream shows its reasoning in its own way");
        }
    }

    /// Notes the seals on tool calls, where they cannot be shown to the model again.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn note_call_seals(&self, notes: &mut Notes) -> Result<(), Error> {
        let mut parts = self.messages.iter().flat_map(|message| &message.parts);
        let is_sealed =
            |content: &Content<'_>| matches!(content, Content::ToolCall(call) if call.signature.is_some());
        if parts.any(|part| is_sealed(&part.content)) {
            notes.dropped("messages: seal of a tool call", "the upstream takes back only what it sealed")?;
        }
        Ok(())
    }

    /// Notes what is said of a reply's schema, where nothing but the schema itself can be.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`].
    pub fn note_schema_words(&self, notes: &mut Notes) -> Result<(), Error> {
        match &self.output {
            Output::Schema(schema) if schema.description.is_some() => {
                let why = "the upstream takes the schema alone; describe it inside the schema";
                notes.dropped("response_format: description", why)
            }
            _ => Ok(()),
        }
    }
}

impl Facts {
    /// The bound on output to send, if one is asked for.
    pub fn limit(&self, asked: Option<u64>, notes: &mut Notes) -> Option<u64> {
        let most = self.most_output.unwrap_or(u64::MAX);
        if asked.is_some_and(|asked| asked > most) {
            notes.mapped("max_tokens", "is clamped to the most that the upstream's model writes");
        }
        asked.map(|asked| asked.min(most))
    }
}

impl ToolIds {
    /// Writes a tool call's id. One that is not taken becomes another, the same for a call and its result.
    pub fn write(self, object: &mut Object<'_>, name: &str, id: &Text<'_>) {
        match self {
            Self::Any => object.text(name, id),
            Self::Plain(_) | Self::Exactly(_) => object.string(name, &self.fit(&id.plain())),
        }
    }

    /// An id that is taken: `id` itself, or one made from it.
    pub fn fit(self, id: &str) -> Cow<'_, str> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let fits = match self {
            Self::Any => true,
            Self::Plain(most) => !id.is_empty() && id.len() <= most && id.bytes().all(is_plain),
            Self::Exactly(len) => id.len() == len && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        };
        match self {
            _ if fits => Cow::Borrowed(id),
            Self::Any => Cow::Borrowed(id),
            Self::Plain(most) => Cow::Owned(format!("call_{}", letters(id, 16)).chars().take(most).collect()),
            Self::Exactly(len) => Cow::Owned(letters(id, len)),
        }
    }
}

/// Letters and digits made from a text, the same every time.
fn letters(text: &str, len: usize) -> String {
    const LETTERS: [char; 36] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    let mut rest = digest(text.as_bytes());
    let mut next = || {
        let letter = usize::try_from(rest % 36).ok().and_then(|at| LETTERS.get(at));
        // Mixed again, so that a long result does not end in the same letter.
        rest = digest(&rest.to_le_bytes());
        letter.copied().unwrap_or('a')
    };
    (0..len).map(|_| next()).collect()
}

/// A stable 64-bit digest (FNV-1a, mixed at the end): names things, and protects nothing.
pub fn digest(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_does_not_fit_becomes_the_same_other_one() {
        assert_eq!(ToolIds::Any.fit("a b"), "a b");
        assert_eq!(ToolIds::Plain(64).fit("toolu_01-x"), "toolu_01-x");
        assert_eq!(ToolIds::Exactly(9).fit("abcDEF123"), "abcDEF123");
        for (ids, id) in
            [(ToolIds::Plain(12), "call.1"), (ToolIds::Plain(64), ""), (ToolIds::Exactly(9), "call_12345")]
        {
            let made = ids.fit(id);
            assert_eq!(made, ids.fit(id));
            assert_ne!(made, ids.fit("call_other"));
            assert_eq!(ids.fit(&made), made, "a made id fits");
        }
    }
}
