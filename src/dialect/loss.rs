//! What becomes of each field of a client's request at each upstream, and of each part of a reply on its way back: a
//! table that is found by asking the code, so that it cannot say what the code does not do.
//!
//! A probe is a field with a sample of it. It is laid over a minimal document, which is translated twice, with the
//! field and without. What differs in the translation, and what [`Notes`] say of it, is the field's [`Fate`]. A field that
//! makes no difference and of which nothing is said is [`Fate::Silent`]: a defect, and tests see to it that there is none.
//!
//! Pairs that speak the same dialect are left out: bytes pass verbatim there, and nothing is lost.

use serde_json::Value;

use super::ir::{Facts, Loss, Note, Notes, Policy, ReplyTo, Target, Text};
use super::translate::{Client, Upstream};
use crate::error::Error;

mod page;
mod place;
mod replies;
mod requests;

pub use page::{name, page};

/// The provider and the model that stand for each upstream's dialect: models that take nearly all that their dialect
/// can say. Others may take less, as the table of facts says of them.
pub const TYPICAL: [(Upstream, &str, &str); 7] = [
    (Upstream::Chat, "openai", "gpt-5.2-chat-latest"),
    (Upstream::Messages, "anthropic", "claude-sonnet-4-6"),
    (Upstream::Responses, "openai", "gpt-5.2-chat-latest"),
    (Upstream::Gemini, "gemini", "gemini-3-pro-preview"),
    (Upstream::Converse, "bedrock-converse", "anthropic.claude-sonnet-4-6"),
    (Upstream::Cohere, "cohere-v2", "command-a-reasoning-08-2025"),
    (Upstream::Ollama, "ollama-native", "gpt-oss:20b"),
];

/// A field, and a sample of it.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// What the table calls it.
    field: &'static str,
    /// Where it stands: a JSON pointer (RFC 6901). One place beyond an array's end adds to the array.
    at: &'static str,
    /// The sample: JSON.
    value: &'static str,
    /// What else the document has to hold for it: an object.
    context: &'static str,
    /// Why it needs no trace: what it asks for happens anyway; or, in a reply, why a client may do without it.
    anyway: Option<&'static str>,
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives under the same name, at the same place, with the same value.
    Exact,
    /// It arrives in another form, or Forebay itself sees to it. The text says how, where there is more to say.
    Mapped(Option<&'static str>),
    /// It is left out and the client is told so, for this reason; a strict route refuses the request.
    Dropped(&'static str),
    /// The request is refused with this text.
    Refused(String),
    /// The client's dialect has no place for this part of a reply, for this reason, and nobody misses it.
    Untold(&'static str),
    /// It is gone without a word.
    Silent,
}

impl Fate {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Mapped(_) => "mapped",
            Self::Dropped(_) => "dropped",
            Self::Refused(_) => "refused",
            Self::Untold(_) => "untold",
            Self::Silent => "SILENT",
        }
    }

    /// Why, or how, where there is more to say.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Mapped(why) => *why,
            Self::Dropped(why) | Self::Untold(why) => Some(why),
            Self::Refused(why) => Some(why),
            Self::Exact | Self::Silent => None,
        }
    }
}

/// A field of a client's request, and its fate at each upstream of another dialect.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who sends it.
    pub client: Client,
    /// What it is called.
    pub field: &'static str,
    /// What becomes of it.
    pub fates: Vec<(Upstream, Fate)>,
}

/// A part of an upstream's reply, and its fate at each client of another dialect.
#[derive(Clone, Debug)]
pub struct ReplyRow {
    /// Who sends it.
    pub upstream: Upstream,
    /// What it is called.
    pub field: &'static str,
    /// What becomes of it.
    pub fates: Vec<(Client, Fate)>,
}

/// The fates of all fields.
#[derive(Clone, Debug)]
pub struct Table {
    /// Those of requests, by client.
    pub requests: Vec<Row>,
    /// Those of replies, by upstream.
    pub replies: Vec<ReplyRow>,
}

impl Table {
    /// Asks the code. `facts` are those of a model at a provider, by their names: [`TYPICAL`] names them.
    pub fn of(facts: impl Fn(&str, &str) -> Facts) -> Self {
        let targets = TYPICAL.map(|(upstream, provider, model)| (upstream, model, facts(provider, model)));
        let of_client = |client: Client| {
            let targets = &targets;
            requests::probes(client).iter().map(move |probe| {
                let others = targets.iter().filter(|(upstream, ..)| upstream.origin() != client.origin());
                let fates = others.map(|(upstream, model, facts)| {
                    (*upstream, probe.fate(client, *upstream, &Target { model, facts }))
                });
                Row { client, field: probe.field, fates: fates.collect() }
            })
        };
        let of_upstream = |upstream: Upstream| {
            replies::probes(upstream).iter().map(move |probe| {
                let others = Client::ALL.into_iter().filter(|client| client.origin() != upstream.origin());
                let fates = others.map(|client| (client, probe.reply_fate(upstream, client)));
                ReplyRow { upstream, field: probe.field, fates: fates.collect() }
            })
        };
        Self {
            requests: Client::ALL.into_iter().flat_map(of_client).collect(),
            replies: Upstream::ALL.into_iter().flat_map(of_upstream).collect(),
        }
    }
}

/// A translation: what came out, what was said of it, and what Forebay itself does for it.
struct Outcome {
    body: Value,
    notes: Vec<Note>,
    /// What the reply's encoder was told.
    own: String,
}

impl Probe {
    /// A member of the document itself.
    const fn top(field: &'static str, at: &'static str, value: &'static str) -> Self {
        Self { field, at, value, context: "{}", anyway: None }
    }

    /// A field that needs others beside it.
    const fn within(
        field: &'static str,
        at: &'static str,
        value: &'static str,
        context: &'static str,
    ) -> Self {
        Self { field, at, value, context, anyway: None }
    }

    /// The same, where what it asks for happens anyway.
    const fn anyway(self, why: &'static str) -> Self {
        Self { anyway: Some(why), ..self }
    }

    /// The document without the field, and with it.
    fn documents(&self, base: &str) -> (Value, Value) {
        let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
        let mut without = read(base);
        place::lay(&mut without, &read(self.context));
        let mut with = without.clone();
        place::put(&mut with, self.at, read(self.value));
        (without, with)
    }

    /// The field's fate on the way from `client` to `upstream`.
    fn fate(&self, client: Client, upstream: Upstream, target: &Target<'_>) -> Fate {
        let (without, with) = self.documents(requests::base(client));
        let sent = |document: &Value| asked(client, upstream, target, document, Policy::Lenient);
        self.judged(&with, sent(&without), sent(&with))
    }

    /// The part's fate on the way from `upstream` to `client`.
    fn reply_fate(&self, upstream: Upstream, client: Client) -> Fate {
        let (without, with) = self.documents(replies::base(upstream));
        let silent = Self { anyway: None, ..*self };
        let (before, after) = (answered(upstream, client, &without), answered(upstream, client, &with));
        match (silent.judged(&with, before, after), self.anyway) {
            (Fate::Silent, Some(why)) => Fate::Untold(why),
            (fate, _) => fate,
        }
    }

    fn judged(
        &self,
        document: &Value,
        without: Result<Outcome, Error>,
        with: Result<Outcome, Error>,
    ) -> Fate {
        let with = match with {
            Ok(with) => with,
            Err(error) => return Fate::Refused(error.public.into_owned()),
        };
        let Ok(without) = without else { return Fate::Silent };
        let gone = without.notes.iter().find(|note| note.loss == Loss::Dropped).map(|note| note.why);
        let new = |loss: Loss| {
            let mut notes = with.notes.iter().filter(move |note| note.loss == loss);
            notes.find(|note| !without.notes.contains(note)).map(|note| note.why)
        };
        if let Some(why) = new(Loss::Dropped) {
            return Fate::Dropped(why);
        }
        let mapped = new(Loss::Mapped);
        let is_same = |there: &Value| document.pointer(self.at).is_some_and(|here| place::same(here, there));
        if with.body == without.body {
            return match (mapped.or(self.anyway), gone) {
                (Some(why), _) => Fate::Mapped(Some(why)),
                (None, _) if with.own != without.own => Fate::Mapped(Some("Forebay itself sees to it")),
                // What it belongs to is dropped as a whole.
                (None, Some(why)) => Fate::Dropped(why),
                (None, None) => Fate::Silent,
            };
        }
        match with.body.pointer(self.at) {
            Some(there) if mapped.is_none() && is_same(there) => Fate::Exact,
            _ => Fate::Mapped(mapped),
        }
    }
}

/// What `upstream` is asked for a client's request.
fn asked(
    client: Client,
    upstream: Upstream,
    target: &Target<'_>,
    document: &Value,
    policy: Policy,
) -> Result<Outcome, Error> {
    let bytes = document.to_string();
    let mut request = client.request(bytes.as_bytes())?;
    if client.operation().names_model() {
        request.model = Text::from("m");
    }
    let mut notes = Notes::new(policy);
    let sent = upstream.request(&request, target, &mut notes)?;
    Ok(Outcome {
        body: serde_json::from_slice(&sent).unwrap_or_default(),
        notes: notes.list().to_vec(),
        own: format!("{:?}", request.delivery),
    })
}

/// What a client is answered for an upstream's whole reply. A stream is made of the same blocks.
fn answered(upstream: Upstream, client: Client, document: &Value) -> Result<Outcome, Error> {
    let reply = upstream.reply(document.to_string().as_bytes())?;
    let to = ReplyTo { model: "m".to_owned(), id: "0".to_owned(), ..ReplyTo::default() };
    let mut notes = Notes::new(Policy::Lenient);
    let sent = client.reply(&reply, &to, &mut notes);
    Ok(Outcome {
        body: serde_json::from_slice(&sent).unwrap_or_default(),
        notes: notes.list().to_vec(),
        own: String::new(),
    })
}

#[cfg(test)]
use crate::provider::{facts::facts, find};

/// The facts of the model that stands for an upstream's dialect, and its name.
#[cfg(test)]
pub(super) fn typical(upstream: Upstream) -> (&'static str, Facts) {
    let (_, provider, model) = TYPICAL.into_iter().find(|(of, ..)| *of == upstream).unwrap();
    (model, facts(find(provider).unwrap(), model))
}

#[cfg(test)]
mod tests;
