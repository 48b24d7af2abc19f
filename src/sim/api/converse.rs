//! Bedrock's `Converse` and `ConverseStream`, and its `CountTokens`.

use super::ask::{Answer, Ask, Finish, Thinking, Tool, ToolCall, Want};
use super::chat::{tools, want_calls};
use super::family::Family;
use super::refusal::Refusal;
use super::shape::{Shape, check};
use super::wire::{exception, frame};
use super::{
    Call, Env, Event, FAILED, Kind, Media, Rendered, Usage, add_content, add_message, limit, model_of,
    strings,
};
use crate::sim::config::Config;
use crate::sim::text::{BLOCK, Prompt, sign};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request.
pub(crate) struct Converse {
    ask: Ask,
    /// Whether it marks something to be cached, so that what is new is reported as written.
    writes_cache: bool,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Converse, Refusal> {
    let ask = read(body, env)?;
    let writes_cache = env.request.body.windows(12).any(|bytes| bytes == b"\"cachePoint\"");
    Ok(Converse { ask, writes_cache })
}

/// The reply to `CountTokens`, which holds the request to be counted.
pub(crate) fn count(body: &Value, env: &Env<'_>) -> Result<Value, Refusal> {
    let inner =
        body.pointer("/input/converse").ok_or_else(|| Refusal::invalid("input.converse is missing", None))?;
    Ok(json!({"inputTokens": read(inner, env)?.prompt.tokens}))
}

fn read(body: &Value, env: &Env<'_>) -> Result<Ask, Refusal> {
    check(body, &BODY, Family::Bedrock)?;
    let model = model_of(body, env)?;
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    check_turns(messages, body.get("toolConfig").is_some())?;
    if env.config.strict {
        check_signatures(messages)?;
    }
    let inference = body.get("inferenceConfig").cloned().unwrap_or_else(|| json!({}));
    for key in ["temperature", "topP"] {
        if inference.get(key).and_then(Value::as_f64).is_some_and(|n| !(0.0..=1.0).contains(&n)) {
            return Err(Refusal::invalid(
                format!(
                    "1 validation error detected: Value at 'inferenceConfig.{key}' failed to satisfy constraint: Member must have value less than or equal to 1"
                ),
                None,
            ));
        }
    }
    let mut prompt = Prompt::new(env.config.seed, &model);
    if let Some(tools) = body.get("toolConfig") {
        prompt.text(&tools.to_string());
    }
    if let Some(system) = body.get("system") {
        add_content(&mut prompt, system);
    }
    messages.iter().for_each(|message| add_message(&mut prompt, message));
    let thinking = body.pointer("/additionalModelRequestFields/thinking/type").and_then(Value::as_str);
    Ok(Ask {
        max_tokens: limit(&inference, "maxTokens")?,
        stops: strings(inference.get("stopSequences")),
        want: want(body, messages),
        thinking: Thinking::shown_if(matches!(thinking, Some("enabled" | "adaptive"))),
        ..Ask::new(model, prompt, body, env)
    })
}

fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    message.get("content").and_then(Value::as_array).into_iter().flatten()
}

fn ids<'v>(message: &'v Value, kind: &str) -> Vec<&'v str> {
    blocks(message).filter_map(|block| block.get(kind)?.get("toolUseId")?.as_str()).collect()
}

/// Turns that alternate from the user's on, no empty text, and a result for every use of a tool.
fn check_turns(messages: &[Value], has_tools: bool) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::invalid(message, None));
    let mut asked: Vec<&str> = Vec::new();
    let mut last = "assistant";
    for (turn, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if role != "system" {
            if turn == 0 && role != "user" {
                return refuse("A conversation must start with a user message. Try again with a conversation that starts with a user message.".into());
            }
            if role == last {
                return refuse("A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again.".into());
            }
            last = role;
        }
        if blocks(message).next().is_none() {
            return refuse(format!(
                "The content field in the Message object at messages.{turn} is empty. Add a ContentBlock object to the content field and try again."
            ));
        }
        for (at, block) in blocks(message).enumerate() {
            if block.get("text").and_then(Value::as_str).is_some_and(|text| text.trim().is_empty()) {
                return refuse(format!(
                    "The text field in the ContentBlock object at messages.{turn}.content.{at} is blank. Add text to the text field, and try again."
                ));
            }
        }
        let (mut answered, uses) = (ids(message, "toolResult"), ids(message, "toolUse"));
        if !(has_tools || answered.is_empty() && uses.is_empty()) {
            return refuse(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
                    .into(),
            );
        }
        answered.sort_unstable();
        asked.sort_unstable();
        if answered != asked {
            return refuse(format!(
                "Expected toolResult blocks at messages.{turn}.content for the following Ids: {}",
                asked.join(", ")
            ));
        }
        asked = uses;
    }
    Ok(())
}

/// Thoughts come back as they were sent, or not at all.
fn check_signatures(messages: &[Value]) -> Result<(), Refusal> {
    for (turn, message) in messages.iter().enumerate() {
        for (at, block) in blocks(message).enumerate() {
            let Some(thought) = block.pointer("/reasoningContent/reasoningText") else { continue };
            let text = thought.get("text").and_then(Value::as_str).unwrap_or_default();
            if thought.get("signature").and_then(Value::as_str) != Some(&sign(text)) {
                let place = format!("messages.{turn}.content.{at}");
                let message = format!(
                    "The model returned the following errors: {place}: Invalid `signature` in `thinking` block"
                );
                return Err(Refusal::invalid(message, None));
            }
        }
    }
    Ok(())
}

fn want(body: &Value, messages: &[Value]) -> Want {
    let answered = messages.last().is_some_and(|last| !ids(last, "toolResult").is_empty());
    let listed = body.pointer("/toolConfig/tools").and_then(Value::as_array).into_iter().flatten();
    let listed: Value = listed.filter_map(|tool| tool.get("toolSpec").cloned()).collect();
    let offered: Vec<Tool> = tools(Some(&listed), |tool| tool);
    let choice = body.pointer("/toolConfig/toolChoice");
    let named = choice.and_then(|choice| choice.pointer("/tool/name")).and_then(Value::as_str);
    let any = named.is_some() || choice.is_some_and(|choice| choice.get("any").is_some());
    if let Some(want) = want_calls(offered, named, if any { "any" } else { "auto" }, answered) {
        return want;
    }
    match body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema").and_then(Value::as_str) {
        Some(schema) => Want::Json(serde_json::from_str(schema).ok()),
        None => Want::Text,
    }
}

static BODY: Shape = Shape::Members(&[
    ("messages", Shape::Must(&Shape::List(&MESSAGE))),
    (
        "system",
        Shape::List(&Shape::Union(&[
            ("text", Shape::Text),
            ("cachePoint", CACHE_POINT),
            ("guardContent", Shape::Object),
        ])),
    ),
    (
        "inferenceConfig",
        Shape::Members(&[
            ("maxTokens", Shape::Whole),
            ("temperature", Shape::Number),
            ("topP", Shape::Number),
            ("stopSequences", Shape::List(&Shape::Text)),
        ]),
    ),
    (
        "toolConfig",
        Shape::Members(&[
            ("tools", Shape::Must(&Shape::List(&TOOL))),
            (
                "toolChoice",
                Shape::Union(&[
                    ("auto", Shape::Object),
                    ("any", Shape::Object),
                    ("tool", Shape::Members(&[("name", Shape::Must(&Shape::Text))])),
                ]),
            ),
        ]),
    ),
    ("guardrailConfig", Shape::Object),
    ("additionalModelRequestFields", Shape::Object),
    ("additionalModelResponseFieldPaths", Shape::List(&Shape::Text)),
    ("promptVariables", Shape::Object),
    ("requestMetadata", Shape::Map(&Shape::Text)),
    ("performanceConfig", Shape::Object),
    (
        "serviceTier",
        Shape::Members(&[(
            "type",
            Shape::Must(&Shape::Choice(&["priority", "default", "flex", "reserved"])),
        )]),
    ),
    (
        "outputConfig",
        Shape::Members(&[
            (
                "textFormat",
                Shape::Members(&[
                    ("type", Shape::Must(&Shape::Choice(&["json_schema"]))),
                    ("structure", Shape::Must(&Shape::Union(&[("jsonSchema", JSON_SCHEMA)]))),
                ]),
            ),
            ("effort", Shape::Text),
        ]),
    ),
]);

const JSON_SCHEMA: Shape = Shape::Members(&[
    ("schema", Shape::Must(&Shape::Text)),
    ("name", Shape::Text),
    ("description", Shape::Text),
]);

const CACHE_POINT: Shape = Shape::Members(&[
    ("type", Shape::Must(&Shape::Choice(&["default"]))),
    ("ttl", Shape::Choice(&["5m", "1h"])),
]);

static MESSAGE: Shape = Shape::Members(&[
    ("role", Shape::Must(&Shape::Choice(&["user", "assistant", "system"]))),
    ("content", Shape::Must(&Shape::List(&BLOCK_SHAPE))),
]);

const SOURCE: Shape = Shape::Union(&[
    ("bytes", Shape::Text),
    ("s3Location", Shape::Object),
    ("text", Shape::Text),
    ("content", Shape::List(&Shape::Object)),
]);

const MEDIA: Shape = Shape::Members(&[
    ("format", Shape::Must(&Shape::Text)),
    ("name", Shape::Text),
    ("source", Shape::Must(&SOURCE)),
    ("context", Shape::Text),
    ("citations", Shape::Object),
]);

static BLOCK_SHAPE: Shape = Shape::Union(&[
    ("text", Shape::Text),
    ("image", MEDIA),
    ("document", MEDIA),
    ("video", MEDIA),
    ("audio", MEDIA),
    (
        "toolUse",
        Shape::Members(&[
            ("toolUseId", Shape::Must(&Shape::Text)),
            ("name", Shape::Must(&Shape::Text)),
            ("input", Shape::Must(&Shape::Object)),
            ("type", Shape::Text),
        ]),
    ),
    (
        "toolResult",
        Shape::Members(&[
            ("toolUseId", Shape::Must(&Shape::Text)),
            (
                "content",
                Shape::Must(&Shape::List(&Shape::Union(&[
                    ("text", Shape::Text),
                    ("json", Shape::Any),
                    ("image", MEDIA),
                    ("document", MEDIA),
                    ("video", MEDIA),
                    ("searchResult", Shape::Object),
                ]))),
            ),
            ("status", Shape::Choice(&["success", "error"])),
            ("type", Shape::Text),
        ]),
    ),
    ("guardContent", Shape::Object),
    ("cachePoint", CACHE_POINT),
    (
        "reasoningContent",
        Shape::Union(&[
            (
                "reasoningText",
                Shape::Members(&[("text", Shape::Must(&Shape::Text)), ("signature", Shape::Text)]),
            ),
            ("redactedContent", Shape::Text),
        ]),
    ),
    ("citationsContent", Shape::Object),
    ("searchResult", Shape::Object),
]);

static TOOL: Shape = Shape::Union(&[
    (
        "toolSpec",
        Shape::Members(&[
            ("name", Shape::Must(&Shape::Text)),
            ("description", Shape::Text),
            ("inputSchema", Shape::Must(&Shape::Union(&[("json", Shape::Object)]))),
            ("strict", Shape::Flag),
        ]),
    ),
    ("systemTool", Shape::Object),
    ("cachePoint", CACHE_POINT),
]);

impl Call for Converse {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let answer = self.ask.only_answer(config);
        let tokens = answer.tokens();
        let bill = self.bill(usage, tokens);
        if self.ask.stream {
            let events = stream(answer, bill);
            return Rendered::stream(
                Media::Frames,
                events.map(|(name, payload, kind)| Event { bytes: padded(name, payload), kind }),
            );
        }
        let whole = json!({
            "output": {"message": {"role": "assistant", "content": content(&answer)}},
            "stopReason": stop_reason(&answer),
            "usage": bill,
            "metrics": {"latencyMs": 10 * tokens},
        });
        Rendered::whole(&whole, tokens)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        exception("modelStreamErrorException", FAILED)
    }
}

impl Converse {
    fn bill(&self, usage: Usage, output: u64) -> Value {
        let whole_blocks = usage.prompt / BLOCK * BLOCK;
        let written = if self.writes_cache { whole_blocks.saturating_sub(usage.cached) } else { 0 };
        json!({
            "inputTokens": usage.prompt - usage.cached - written,
            "outputTokens": output,
            "totalTokens": usage.prompt + output,
            "cacheReadInputTokens": usage.cached,
            "cacheWriteInputTokens": written,
        })
    }
}

/// An event with the padding that hides how long its text is.
fn padded(name: &str, mut payload: Value) -> Bytes {
    payload["p"] = json!("abcdefghijklm");
    frame(name, &payload)
}

fn content(answer: &Answer) -> Value {
    let thought = (!answer.reasoning.is_empty()).then(|| {
        let thought = answer.reasoning.concat();
        json!({"reasoningContent": {"reasoningText": {"text": thought, "signature": sign(&thought)}}})
    });
    let text = (!answer.text.is_empty()).then(|| json!({"text": answer.full_text()}));
    let calls = answer.calls.iter().map(|call| {
        let mut used = tool_use(call);
        used["input"] = call.input();
        json!({"toolUse": used})
    });
    thought.into_iter().chain(text).chain(calls).collect()
}

fn tool_use(call: &ToolCall) -> Value {
    json!({"toolUseId": format!("tooluse_{}", call.id), "name": call.name})
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
    }
}

type Piece = (&'static str, Value, Kind);

/// The events. Only uses of tools have a start; what the usage was comes after the end.
fn stream(answer: Answer, bill: Value) -> impl Iterator<Item = Piece> + Send {
    let start = ("messageStart", json!({"role": "assistant"}), Kind::Frame);
    let stop = ("messageStop", json!({"stopReason": stop_reason(&answer)}), Kind::Frame);
    let latency = 10 * answer.tokens();
    let metadata = ("metadata", json!({"usage": bill, "metrics": {"latencyMs": latency}}), Kind::Last);
    let signature = json!({"reasoningContent": {"signature": sign(&answer.reasoning.concat())}});
    let (thoughts, texts) = (usize::from(!answer.reasoning.is_empty()), usize::from(!answer.text.is_empty()));
    let thought = (thoughts > 0).then(|| {
        let deltas = answer.reasoning.into_iter();
        let deltas =
            deltas.map(|token| delta(0, &json!({"reasoningContent": {"text": token}}), Kind::Tokens(1)));
        deltas.chain([delta(0, &signature, Kind::Frame), end(0)])
    });
    let text = (texts > 0).then(|| {
        let deltas = answer.text.into_iter();
        deltas
            .map(move |token| delta(thoughts, &json!({"text": token}), Kind::Tokens(1)))
            .chain([end(thoughts)])
    });
    let calls = answer.calls.into_iter().enumerate();
    let calls = calls.flat_map(move |(at, call)| call_events(thoughts + texts + at, call));
    let blocks = thought.into_iter().flatten().chain(text.into_iter().flatten()).chain(calls);
    std::iter::once(start).chain(blocks).chain([stop, metadata])
}

fn call_events(at: usize, call: ToolCall) -> impl Iterator<Item = Piece> + Send {
    let start = json!({"contentBlockIndex": at, "start": {"toolUse": tool_use(&call)}});
    let deltas = call.arguments.into_iter();
    let deltas = deltas.map(move |piece| delta(at, &json!({"toolUse": {"input": piece}}), Kind::Tokens(1)));
    std::iter::once(("contentBlockStart", start, Kind::Tokens(1))).chain(deltas).chain([end(at)])
}

fn delta(at: usize, delta: &Value, kind: Kind) -> Piece {
    ("contentBlockDelta", json!({"contentBlockIndex": at, "delta": delta}), kind)
}

fn end(at: usize) -> Piece {
    ("contentBlockStop", json!({"contentBlockIndex": at}), Kind::Frame)
}
