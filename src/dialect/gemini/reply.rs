//! Whole Gemini replies, and what they share with streams: every event of a stream is a reply of the same form.

use serde::Deserialize;

use super::partial::{Arguments, Piece};
use super::speech::{Speech, end_into, head_into, usage_into};
use crate::dialect::error::read;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{
    Attachment, Block, Event, Finish, Json, Notes, Opaque, Origin, Reply, ReplyTo, Start, Stop, Text, broken,
    reported,
};
use crate::dialect::usage::{Input, Kinds, Output, Usage};
use crate::error::{Error, Kind};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let mut wire = Wire::default();
    wire.chunk(body, sink);
    wire.end(sink);
}

/// How far a reply has come.
#[derive(Debug, Default)]
pub(super) struct Wire {
    stage: Stage,
    current: Current,
    next: u32,
    chunks: u64,
    /// How the reply ends, as far as was said: some upstreams say so with every event.
    finish: Option<Finish<'static>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    Speaking,
}

/// The block that is open.
#[derive(Debug, Default)]
enum Current {
    #[default]
    None,
    Text(u32),
    Thought(u32),
    /// A call whose arguments come in pieces.
    Call(u32, Arguments),
}

impl Wire {
    /// Reads an event of a stream, or a whole reply.
    pub(super) fn chunk(&mut self, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        self.chunks += 1;
        let chunk: Chunk<'_> = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                let why = format_args!("event {} is no Gemini reply: {error}", self.chunks);
                return sink(Event::Failed(broken(why)));
            }
        };
        if chunk.error.get().is_some() {
            return sink(Event::Failed(failure(data)));
        }
        if self.stage == Stage::Silent {
            self.stage = Stage::Speaking;
            let (id, model) = (chunk.response_id.text(), chunk.model_version.text());
            let start =
                Start { id: id.unwrap_or_default(), model: model.unwrap_or_default(), ..Start::default() };
            sink(Event::Start(start));
        }
        if let Some(usage) = usage(chunk.usage_metadata) {
            sink(Event::Usage(usage));
        }
        let mut candidates = chunk.candidates.iter().flatten().peekable();
        if candidates.peek().is_none() {
            self.blocked(chunk.prompt_feedback);
        }
        for candidate in candidates.filter(|candidate| candidate.index.count().unwrap_or(0) == 0) {
            self.candidate(candidate, data, sink);
        }
    }

    /// A prompt that was blocked gets no candidates.
    fn blocked(&mut self, feedback: Raw<'_>) {
        let reason = feedback.object::<Feedback<'_>>().and_then(|feedback| feedback.block_reason.some_text());
        let Some(raw) = reason.filter(|_| self.finish.is_none()) else { return };
        let mut finish = Finish::new(Stop::Filtered, Origin::Gemini, raw);
        finish.details = feedback.json().map(|json| Opaque::new(Origin::Gemini, "promptFeedback", json));
        self.finish = Some(finish.into_owned());
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let parts =
            candidate.content.as_ref().and_then(|content| content.parts.as_deref()).unwrap_or_default();
        for (index, part) in parts.iter().enumerate() {
            self.part(part, index, data, sink);
        }
        for (kind, value) in candidate.beside() {
            if let Some(json) = value.json().filter(|json| !matches!(json.get(), "{}" | "[]")) {
                self.beside(Opaque::new(Origin::Gemini, kind, json), sink);
            }
        }
        let raw = candidate.finish_reason.some_text().filter(|raw| *raw != *"FINISH_REASON_UNSPECIFIED");
        let Some(raw) = raw else { return };
        let message = candidate.finish_message;
        let Some(stop) = stop(&raw.plain()) else {
            let why = format_args!("finishReason {}: {}", raw.plain(), message.get().unwrap_or("no message"));
            return sink(Event::Failed(broken(why)));
        };
        let mut finish = Finish::new(stop, Origin::Gemini, raw);
        finish.details = message.json().map(|json| Opaque::new(Origin::Gemini, "finishMessage", json));
        self.finish = Some(finish.into_owned());
    }

    /// The upstream closed the stream, which alone tells that nothing follows.
    pub(super) fn end(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(finish) = self.finish.take() {
            self.close(sink);
            sink(Event::Finish(finish));
        }
        sink(Event::End);
    }

    fn part(&mut self, part: &Part<'_>, index: usize, data: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let seal = part.thought_signature.some_text();
        let is_thought = part.thought.get() == Some("true");
        if let Some(text) = part.text.text() {
            if is_thought {
                self.say(text, Block::Reasoning(Origin::Gemini), sink);
            } else {
                self.say(text, Block::Text, sink);
            }
            if let Some(seal) = seal {
                self.seal(seal, sink);
            }
        } else if let Some(call) = part.function_call.object::<FunctionCall<'_>>() {
            self.call(&call, seal, sink);
        } else if let Some(opaque) = opaque(data, index) {
            self.whole(Block::Opaque(opaque), sink);
        }
    }

    /// Adds to the answer or to the thought. An empty text only carries a seal.
    fn say(&mut self, text: Text<'_>, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if text.is_empty() {
            return;
        }
        let block = match (&self.current, &kind) {
            (Current::Text(block), Block::Text) | (Current::Thought(block), Block::Reasoning(_)) => *block,
            _ => {
                let is_text = kind == Block::Text;
                let block = self.begin(kind, sink);
                self.current = if is_text { Current::Text(block) } else { Current::Thought(block) };
                block
            }
        };
        sink(Event::Delta { block, text });
    }

    /// Tells a seal as that of the thought before it, or of an empty one.
    fn seal(&mut self, seal: Text<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let block = match self.current {
            Current::Thought(block) => block,
            _ => self.begin(Block::Reasoning(Origin::Gemini), sink),
        };
        let what = Attachment::Signature { origin: Origin::Gemini, text: seal };
        sink(Event::Attach { block, what });
        sink(Event::Close { block });
        self.current = Current::None;
    }

    fn call(&mut self, call: &FunctionCall<'_>, seal: Option<Text<'_>>, sink: &mut impl FnMut(Event<'_>)) {
        let continues = call.will_continue.get() == Some("true");
        if let Some(name) = call.name.some_text() {
            if let Some(seal) = &seal {
                self.seal(seal.borrowed(), sink);
            }
            let id = call.id.text().unwrap_or_default();
            let block = self.begin(Block::ToolCall { id, name }, sink);
            if let Some(seal) = seal {
                let what = Attachment::Signature { origin: Origin::Gemini, text: seal };
                sink(Event::Attach { block, what });
            }
            if let Some(args) = call.args.json().filter(Json::is_object) {
                sink(Event::Delta { block, text: Text::new(args.get()) });
            }
            self.current = Current::Call(block, Arguments::default());
        } else if !matches!(self.current, Current::Call(..)) && call.args.get().is_some() {
            return sink(Event::Failed(broken("a tool without a name is called")));
        }
        if let Current::Call(_, arguments) = &mut self.current {
            for piece in call.partial_args.items::<Piece<'_>>() {
                if let Err(error) = arguments.add(&piece) {
                    return sink(Event::Failed(error));
                }
            }
        }
        if !continues {
            self.close(sink);
        }
    }

    /// Tells what belongs to the answer beside its text: as part of it, or as a block where no answer is open.
    fn beside(&mut self, opaque: Opaque<'_>, sink: &mut impl FnMut(Event<'_>)) {
        match self.current {
            Current::Text(block) => sink(Event::Attach { block, what: Attachment::Opaque(opaque) }),
            _ => self.whole(Block::Opaque(opaque), sink),
        }
    }

    fn whole(&mut self, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let block = self.begin(kind, sink);
        sink(Event::Close { block });
    }

    /// Ends the open block and begins another.
    fn begin(&mut self, kind: Block<'_>, sink: &mut impl FnMut(Event<'_>)) -> u32 {
        self.close(sink);
        let block = self.next;
        self.next += 1;
        sink(Event::Open { block, kind });
        block
    }

    fn close(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        match std::mem::take(&mut self.current) {
            Current::None => {}
            Current::Text(block) | Current::Thought(block) => sink(Event::Close { block }),
            Current::Call(block, arguments) => {
                if !arguments.is_empty() {
                    sink(Event::Delta { block, text: Text::new(arguments.json()) });
                }
                sink(Event::Close { block });
            }
        }
    }
}

/// The part at `index` of the first candidate, as it stands, under the name of its first member. Parts that are not
/// known are rare, so the reply is read anew for them.
fn opaque(data: &[u8], index: usize) -> Option<Opaque<'_>> {
    let member = |node: &Node<'_>, name: &str| match &node.value {
        Value::Object(members) => members.iter().position(|(key, _)| *key == *name),
        _ => None,
    };
    let mut node = Node::parse(data).ok()?;
    for name in ["candidates", "content", "parts"] {
        let at = member(&node, name)?;
        let Value::Object(mut members) = node.value else { return None };
        node = members.swap_remove(at).1;
        if name == "candidates" {
            let Value::Array(items) = node.value else { return None };
            node = items.into_iter().next()?;
        }
    }
    let part = node.as_array()?.get(index)?;
    let Value::Object(members) = &part.value else { return None };
    let (kind, _) = members.iter().find(|(name, _)| *name != *"thoughtSignature")?;
    Some(Opaque::new(Origin::Gemini, kind.clone(), part.json()))
}

/// The error that a reply reports. Its code is a status of HTTP; a key that is refused is told by its words alone.
fn failure(data: &[u8]) -> Error {
    let mut error = reported(data);
    let code = read(data, None).and_then(|reported| reported.code);
    error.kind = match code.as_deref() {
        Some("429") => Kind::RateLimited,
        Some("503") => Kind::Overloaded,
        Some("504") => Kind::UpstreamTimeout,
        _ => error.kind,
    };
    if error.public.contains("API key") {
        error.private = format!("{}: {}", error.private, error.public);
        error.public = "the upstream reported an error; try again".into();
    }
    error
}

/// What a finish reason means; nothing if it is an error.
fn stop(raw: &str) -> Option<Stop> {
    match raw {
        "OTHER" => None,
        "MAX_TOKENS" => Some(Stop::Length),
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "MODEL_ARMOR" | "NO_IMAGE" => Some(Stop::Filtered),
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => Some(Stop::Malformed),
        "CONTINUATION" => Some(Stop::Paused),
        raw if raw.starts_with("IMAGE_") => Some(Stop::Filtered),
        _ => Some(Stop::End),
    }
}

// === Writing ===

/// Writes a whole reply.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut speech = Speech::default();
    let mut parts = Vec::new();
    reply.events(&mut |event| {
        speech.hear(&event, &mut |part| {
            parts.push(if parts.is_empty() { b'[' } else { b',' });
            parts.extend_from_slice(part);
        });
    });
    for note in speech.notes.list() {
        notes.unsaid(&note.path, note.why);
    }
    let mut out = Vec::with_capacity(512);
    let mut body = Object::begin(&mut out);
    end_into(&mut body, &reply.finish, &speech, |content| {
        if !parts.is_empty() {
            parts.push(b']');
            content.key("parts").extend_from_slice(&parts);
        }
    });
    if let Some(usage) = &reply.usage {
        usage_into(body.object("usageMetadata"), usage);
    }
    head_into(&mut body, &reply.start, to);
    body.end();
    out
}

// === The wire ===

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    usage_metadata: Raw<'a>,
    #[serde(borrow)]
    prompt_feedback: Raw<'a>,
    #[serde(borrow)]
    model_version: Raw<'a>,
    #[serde(borrow)]
    response_id: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Raw<'a>,
    #[serde(borrow)]
    finish_message: Raw<'a>,
    #[serde(borrow)]
    index: Raw<'a>,
    #[serde(borrow)]
    grounding_metadata: Raw<'a>,
    #[serde(borrow)]
    citation_metadata: Raw<'a>,
    #[serde(borrow)]
    url_context_metadata: Raw<'a>,
    #[serde(borrow)]
    logprobs_result: Raw<'a>,
    #[serde(borrow)]
    avg_logprobs: Raw<'a>,
    #[serde(borrow)]
    safety_ratings: Raw<'a>,
    #[serde(borrow)]
    continuation_token: Raw<'a>,
}

/// What a candidate holds beside its content, and is told as something of Gemini's own.
pub(super) const BESIDE: [&str; 7] = [
    "groundingMetadata",
    "citationMetadata",
    "urlContextMetadata",
    "logprobsResult",
    "avgLogprobs",
    "safetyRatings",
    "continuationToken",
];

impl<'a> Candidate<'a> {
    fn beside(&self) -> impl Iterator<Item = (&'static str, Raw<'a>)> {
        BESIDE.into_iter().zip([
            self.grounding_metadata,
            self.citation_metadata,
            self.url_context_metadata,
            self.logprobs_result,
            self.avg_logprobs,
            self.safety_ratings,
            self.continuation_token,
        ])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thought: Raw<'a>,
    #[serde(borrow)]
    thought_signature: Raw<'a>,
    #[serde(borrow)]
    function_call: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FunctionCall<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    args: Raw<'a>,
    #[serde(borrow)]
    partial_args: Raw<'a>,
    #[serde(borrow)]
    will_continue: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Counts<'a> {
    #[serde(borrow)]
    prompt_token_count: Raw<'a>,
    #[serde(borrow)]
    cached_content_token_count: Raw<'a>,
    #[serde(borrow)]
    tool_use_prompt_token_count: Raw<'a>,
    #[serde(borrow)]
    candidates_token_count: Raw<'a>,
    #[serde(borrow)]
    thoughts_token_count: Raw<'a>,
    #[serde(borrow)]
    prompt_tokens_details: Raw<'a>,
    #[serde(borrow)]
    candidates_tokens_details: Raw<'a>,
}

/// The usage that `usageMetadata` report.
pub(in super::super) fn usage(raw: Raw<'_>) -> Option<Usage> {
    raw.object::<Counts<'_>>()?.usage()
}

impl Counts<'_> {
    /// The usage; nothing where only the kind of traffic is said, as Vertex AI does until the last event.
    ///
    /// The prompt's count holds what the cache held, but not what tools of Google's own added to the prompt; and the
    /// candidates' count does not hold the thoughts.
    fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_token_count.count()?;
        let added = self.tool_use_prompt_token_count.count().unwrap_or(0);
        let said = self.candidates_token_count.count();
        let thought = self.thoughts_token_count.count();
        let output = said.unwrap_or(0).saturating_add(thought.unwrap_or(0));
        Some(Usage {
            input: Input {
                total: Some(prompt.saturating_add(added)),
                cached: self.cached_content_token_count.count(),
                written: None,
            },
            output: Output { total: Some(output), reasoning: thought },
            kinds: Kinds::gemini(self.prompt_tokens_details, self.candidates_tokens_details),
        })
    }
}
