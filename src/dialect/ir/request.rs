//! What a client asks for.

use std::borrow::Cow;

#[cfg(doc)]
use super::Policy;
use super::{Effort, Json, Notes, Origin, Text, write};
use crate::error::Error;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The dialect it was asked in.
    pub origin: Origin,
    /// The model's name, as the client has it.
    pub model: Text<'a>,
    /// The conversation so far.
    pub messages: Vec<Message<'a>>,
    /// What the model may call.
    pub tools: Vec<Tool<'a>>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether it may call several at once.
    pub parallel_tools: Option<bool>,
    /// The shape of the reply.
    pub output: Output<'a>,
    /// How the next token is chosen.
    pub sampling: Sampling<'a>,
    /// The most tokens of output, reasoning included.
    pub limit: Option<u64>,
    /// How much to think first.
    pub thinking: Thinking<'a>,
    /// That the whole prompt so far is worth caching.
    pub cache: Option<Cache<'a>>,
    /// At what price and speed, in the words of the dialect.
    pub service_tier: Option<Text<'a>>,
    /// Who the client's own user is.
    pub user: Option<Text<'a>>,
    /// What the client wants stored with the reply: an object.
    pub metadata: Option<Json<'a>>,
    /// How the reply is delivered.
    pub delivery: Delivery,
    /// What the decoder does not know, with its path.
    pub left: Vec<Leftover<'a>>,
}

/// How a reply is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Whole.
    #[default]
    Whole,
    /// As a stream that says nothing of usage, in dialects that need to be asked.
    Stream,
    /// As a stream that ends with usage.
    StreamWithUsage,
}

/// A member of a request that its decoder does not know.
#[derive(Clone, Debug)]
pub struct Leftover<'a> {
    /// Where it stands.
    pub path: String,
    /// What it is.
    pub raw: Json<'a>,
}

/// What both of OpenAI's dialects call the same, and no other dialect knows.
const OPENAIS: [&str; 4] =
    ["prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "moderation"];

impl Leftover<'_> {
    /// The member's name, if it is one of the request itself.
    pub fn top(&self) -> Option<&str> {
        (!self.path.contains(['.', '['])).then_some(self.path.as_str())
    }

    /// Whether both of OpenAI's dialects have it, under the same name.
    pub fn is_openais(&self) -> bool {
        self.top().is_some_and(|name| OPENAIS.contains(&name))
    }
}

// === The conversation ===

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Which side.
    pub role: Role,
    /// What it says.
    pub parts: Vec<Part<'a>>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who set the model up.
    System,
    /// The same, where a dialect tells the application's maker from the platform.
    Developer,
    /// The user, and the tools.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Whether this is a role of instructions.
    pub fn instructs(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub content: Content<'a>,
    /// That the prompt up to here is worth caching.
    pub cache: Option<Cache<'a>>,
}

impl<'a> From<Content<'a>> for Part<'a> {
    fn from(content: Content<'a>) -> Self {
        Self { content, cache: None }
    }
}

/// What a piece of a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Words.
    Text(Text<'a>),
    /// The model's words for why it would not answer.
    Refusal(Text<'a>),
    /// A picture.
    Image {
        /// Where it is.
        source: Source<'a>,
        /// How closely to look, in the words of chat: `low`, `high`, `auto`.
        detail: Option<Text<'a>>,
    },
    /// Sound.
    Audio(Source<'a>),
    /// A file to read.
    Document {
        /// Where it is.
        source: Source<'a>,
        /// What it is called.
        name: Option<Text<'a>>,
    },
    /// A call that the model made.
    ToolCall(ToolCall<'a>),
    /// What came of it.
    ToolResult(ToolResult<'a>),
    /// What the model thought.
    Reasoning(Reasoning<'a>),
    /// A part that only its own dialect has.
    Opaque(Opaque<'a>),
}

/// Where the bytes of a medium are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// Here, in standard base64.
    Base64 {
        /// Such as `image/png`.
        media_type: Cow<'a, str>,
        /// The base64.
        data: Cow<'a, str>,
    },
    /// Here, as text.
    Text(Text<'a>),
    /// At a URL.
    Url(Text<'a>),
    /// At the provider, under an id that only `Origin` knows.
    File(Origin, Text<'a>),
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall<'a> {
    /// The call's id.
    pub id: Text<'a>,
    /// The tool's name.
    pub name: Text<'a>,
    /// What it is called with.
    pub arguments: Arguments<'a>,
    /// The seal that came with it.
    pub signature: Option<(Origin, Text<'a>)>,
}

/// The arguments of a tool call, in either of the forms dialects have them in.
#[derive(Clone, Debug)]
pub enum Arguments<'a> {
    /// A text that should be a JSON object.
    Text(Text<'a>),
    /// A JSON object.
    Object(Json<'a>),
}

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult<'a> {
    /// The call's id.
    pub id: Text<'a>,
    /// The result: text, images, documents.
    pub content: Vec<Part<'a>>,
    /// Whether the tool worked.
    pub outcome: Outcome,
}

/// Whether a tool worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It did, as far as is known.
    #[default]
    Success,
    /// It did not; the result says why.
    Failure,
}

/// What the model thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoning<'a> {
    /// Whose words and seal these are.
    pub origin: Origin,
    /// What can be read of it.
    pub text: Thought<'a>,
    /// The seal that proves it unchanged.
    pub signature: Option<Text<'a>>,
}

/// What can be read of reasoning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thought<'a> {
    /// All, or a summary.
    Readable(Text<'a>),
    /// Nothing: only its origin can.
    Redacted(Text<'a>),
}

/// Something that only one dialect has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque<'a> {
    /// Which one.
    pub origin: Origin,
    /// What the dialect calls it.
    pub kind: Text<'a>,
    /// All of it.
    pub json: Json<'a>,
}

/// A mark at the end of a cacheable prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache<'a> {
    /// How long it is kept, such as `5m`, `30m` or `1h`.
    pub ttl: Option<Text<'a>>,
}

// === Tools and parameters ===

/// Something the model may call.
#[derive(Clone, Debug)]
pub enum Tool<'a> {
    /// A function of the client's.
    Function(Function<'a>),
    /// A tool that only one dialect or provider has.
    BuiltIn(Opaque<'a>),
}

/// A function of the client's.
#[derive(Clone, Debug)]
pub struct Function<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// The JSON schema of its arguments: an object.
    pub parameters: Option<Json<'a>>,
    /// Whether the arguments must keep the schema.
    pub strict: Option<bool>,
    /// That the prompt up to here is worth caching.
    pub cache: Option<Cache<'a>>,
}

/// Whether the model must call a tool.
#[derive(Clone, Debug)]
pub enum ToolChoice<'a> {
    /// As it likes.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(Text<'a>),
    /// In words that only one dialect has.
    Opaque(Opaque<'a>),
}

/// The shape of a reply.
#[derive(Clone, Debug, Default)]
pub enum Output<'a> {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    Object,
    /// JSON that keeps a schema.
    Schema(Schema<'a>),
}

/// The schema of a reply.
#[derive(Clone, Debug)]
pub struct Schema<'a> {
    /// Its name.
    pub name: Option<Text<'a>>,
    /// What it is for.
    pub description: Option<Text<'a>>,
    /// The JSON schema: an object.
    pub schema: Json<'a>,
    /// Whether the reply must keep it.
    pub strict: Option<bool>,
}

/// How the next token is chosen.
#[derive(Clone, Debug, Default)]
pub struct Sampling<'a> {
    /// `temperature`
    pub temperature: Option<f64>,
    /// `top_p`
    pub top_p: Option<f64>,
    /// `top_k`
    pub top_k: Option<u64>,
    /// `frequency_penalty`
    pub frequency_penalty: Option<f64>,
    /// `presence_penalty`
    pub presence_penalty: Option<f64>,
    /// `seed`
    pub seed: Option<i64>,
    /// `logit_bias`: an object.
    pub logit_bias: Option<Json<'a>>,
    /// `logprobs`
    pub logprobs: Option<bool>,
    /// `top_logprobs`
    pub top_logprobs: Option<u64>,
    /// `n`: how many replies.
    pub replies: Option<u64>,
    /// What ends the reply where the model writes it.
    pub stops: Vec<Text<'a>>,
}

/// How much to think first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking<'a> {
    /// Whether, and who decides how much.
    pub mode: Option<Mode>,
    /// How hard.
    pub effort: Option<Effort>,
    /// How the reader sees it, in the words of Messages: `summarized`, `omitted`; or of Responses.
    pub display: Option<Text<'a>>,
}

/// Whether to think, and who decides how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// The model decides.
    Adaptive,
    /// At most this many tokens.
    Budget(u64),
}

/// What the encoder of a reply has to know of the request.
#[derive(Clone, Debug, Default)]
pub struct ReplyTo {
    /// The model's name as the client is to see it; the upstream's own where this is empty.
    pub model: String,
    /// What ids are made from where the upstream gives none.
    pub id: String,
    /// When the exchange began, in seconds since 1970.
    pub created: u64,
    /// How the reply is delivered.
    pub delivery: Delivery,
}

// === What halves share ===

/// Appends bytes in base64 as a JSON string that holds a `data:` URL.
pub fn data_url_into(out: &mut Vec<u8>, media_type: &str, data: &str) {
    let start = out.len();
    crate::json::quote_into(out, media_type);
    // The type's closing quote comes after the data.
    out.pop();
    out.splice(start + 1..start + 1, *b"data:");
    out.extend_from_slice(b";base64,");
    base64_into(out, data);
    out.push(b'"');
}

/// Appends base64, which needs no escapes. What is none is left out: it would break the document.
pub fn base64_into(out: &mut Vec<u8>, data: &str) {
    if data.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.extend(data.bytes().filter(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)));
    } else {
        out.extend_from_slice(data.as_bytes());
    }
}

impl Arguments<'_> {
    /// Appends the arguments as a JSON object on one line; an empty text is `{}`. Returns whether the text was one: where
    /// it was not, it stands in the object under `input`.
    pub fn object_into(&self, out: &mut Vec<u8>) -> bool {
        let text = match self {
            Self::Object(object) => {
                out.extend_from_slice(object.one_line().as_bytes());
                return true;
            }
            Self::Text(text) => text,
        };
        let object = if text.is_blank() { Some(Json::checked("{}")) } else { Json::object(text.plain()) };
        match &object {
            Some(object) => out.extend_from_slice(object.one_line().as_bytes()),
            None => {
                let mut wrapped = write::Object::begin(out);
                wrapped.text("input", text);
                wrapped.end();
            }
        }
        object.is_some()
    }

    /// Appends the arguments as a JSON string that holds JSON.
    pub fn quote_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Object(object) => crate::json::quote_into(out, object.get()),
            Self::Text(text) if text.is_blank() => out.extend_from_slice(b"\"{}\""),
            Self::Text(text) => text.quote_into(out),
        }
    }

    fn plain(&self) -> Cow<'_, str> {
        match self {
            Self::Object(object) => Cow::Borrowed(object.get()),
            Self::Text(text) => text.plain(),
        }
    }
}

impl PartialEq for Arguments<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.plain() == other.plain()
    }
}

impl Eq for Arguments<'_> {}

impl<'a> Request<'a> {
    /// Notes what only the client's dialect knows and no encoder carried. An encoder of the same dialect passes
    /// `carried` for the members that it wrote as they came.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::InvalidRequest`] naming the field, under [`Policy::Strict`].
    pub fn note_left(&self, notes: &mut Notes, carried: impl Fn(&Leftover<'a>) -> bool) -> Result<(), Error> {
        for left in self.left.iter().filter(|left| !carried(left)) {
            notes.left_out(&left.path, "is not known to the upstream's dialect; leave it out")?;
        }
        Ok(())
    }

    /// The tools that `upstream`'s dialect has words for: functions, and its own. Where there are none, a call that must be
    /// made cannot be.
    ///
    /// # Errors
    ///
    /// As [`Notes::dropped`], for the others.
    pub fn tools_for(&self, upstream: Origin, notes: &mut Notes) -> Result<Vec<&Tool<'a>>, Error> {
        let mut tools = Vec::with_capacity(self.tools.len());
        for tool in &self.tools {
            match tool {
                Tool::BuiltIn(opaque) if opaque.origin != upstream => {
                    let path = format!("tools: '{}'", opaque.kind.plain());
                    notes.dropped(path, "is a tool of another provider; leave it out")?;
                }
                tool => tools.push(tool),
            }
        }
        let forces = |choice: &ToolChoice<'_>| !matches!(choice, ToolChoice::Auto | ToolChoice::None);
        if tools.is_empty() && self.tool_choice.as_ref().is_some_and(forces) {
            notes.dropped("tool_choice", "there is no tool to call; send its definition, or leave it out")?;
        }
        Ok(tools)
    }
}
