//! `POST /v1/completions`, the legacy API.

use super::ask::{Answer, Ask, Finish};
use super::family::Family;
use super::refusal::Refusal;
use super::{Call, Env, Event, FAILED, Media, Rendered, Usage, created, flag, limit, model_of, sse, strings};
use crate::sim::config::Config;
use crate::sim::text::{Prompt, id};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request: the prompts it holds and what is wanted of each.
pub(crate) struct Completion {
    /// `choices` counts all prompts' choices together.
    ask: Ask,
    /// The prompts' texts where they are to be repeated, `n` times each.
    echo: Option<Vec<String>>,
}

/// Reads the request.
pub(crate) fn parse(body: &Value, env: &Env<'_>) -> Result<Completion, Refusal> {
    let model = model_of(body, env)?;
    let mut prompt = Prompt::new(env.config.seed, &model);
    let prompts = prompts(body.get("prompt"))?;
    for one in &prompts {
        one.add(&mut prompt);
        prompt.push(b"<end>");
    }
    let n = limit(body, "n")?.unwrap_or(1).min(128);
    let echo = flag(body, "echo").then(|| {
        prompts
            .iter()
            .flat_map(|one| std::iter::repeat_n(one.text(), usize::try_from(n).unwrap_or(1)))
            .collect()
    });
    let ask = Ask {
        include_usage: body.get("stream_options").is_some_and(|options| flag(options, "include_usage")),
        choices: n * prompts.len() as u64,
        // The legacy API stops after 16 tokens unless told otherwise.
        max_tokens: Some(limit(body, "max_tokens")?.unwrap_or(16)),
        stops: strings(body.get("stop")),
        ..Ask::new(model, prompt, body, env)
    };
    Ok(Completion { ask, echo })
}

/// One prompt, as text or as numbers of tokens.
pub(crate) enum Input {
    Text(String),
    Tokens(Vec<u64>),
}

impl Input {
    pub(crate) fn add(&self, prompt: &mut Prompt) {
        match self {
            Self::Text(text) => prompt.text(text),
            Self::Tokens(tokens) => tokens.iter().for_each(|token| prompt.push(&token.to_le_bytes())),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Tokens(tokens) => tokens.iter().map(|token| format!("<{token}>")).collect(),
        }
    }
}

/// A string, strings, tokens, or lists of tokens.
pub(crate) fn inputs(value: &Value) -> Option<Vec<Input>> {
    let tokens =
        |list: &Vec<Value>| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>().map(Input::Tokens);
    match value {
        Value::String(text) => Some(vec![Input::Text(text.clone())]),
        Value::Array(list) if list.first().is_some_and(Value::is_number) => Some(vec![tokens(list)?]),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|one| match one {
                Value::String(text) => Some(Input::Text(text.clone())),
                Value::Array(list) => tokens(list),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn prompts(value: Option<&Value>) -> Result<Vec<Input>, Refusal> {
    let empty = Value::String(String::new());
    let value = value.filter(|value| !value.is_null()).unwrap_or(&empty);
    inputs(value).filter(|all| all.len() <= 128).ok_or_else(|| {
        Refusal::invalid(
            "`prompt` must be a string, strings, tokens or lists of tokens (128 at most).",
            Some("prompt"),
        )
    })
}

impl Call for Completion {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn ask_mut(&mut self) -> &mut Ask {
        &mut self.ask
    }

    fn render(&self, config: &Config, usage: Usage) -> Rendered {
        let ask = &self.ask;
        let mut answers = ask.answers(config);
        let tokens: u64 = answers.iter().map(Answer::tokens).sum();
        for (answer, echo) in answers.iter_mut().zip(self.echo.iter().flatten()) {
            answer.text.insert(0, echo.clone());
        }
        let usage = json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": tokens,
            "total_tokens": usage.prompt + tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
        });
        let stamp = Stamp {
            id: id(&mut ask.rng(config.seed), "cmpl-", 29),
            created: created(config, ask.prompt.identity()),
            model: ask.model.clone(),
        };
        if ask.stream {
            return Rendered::stream(
                Media::Events,
                stream(stamp, answers, ask.include_usage.then_some(usage)),
            );
        }
        let choices =
            answers.iter().enumerate().map(|(index, a)| choice(index, &a.full_text(), Some(finish(a))));
        Rendered::whole(&stamp.object(choices.collect(), Some(usage)), tokens)
    }

    fn error_event(&self, _config: &Config, _sent: u64) -> Bytes {
        sse(None, &Refusal::server(FAILED).body(Family::OpenAi, None))
    }
}

struct Stamp {
    id: String,
    created: u64,
    model: String,
}

impl Stamp {
    fn object(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let (Some(usage), Some(members)) = (usage, object.as_object_mut()) {
            members.insert("usage".into(), usage);
        }
        object
    }
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn finish(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "length" } else { "stop" }
}

/// The chunks: each choice's tokens, choice after choice, with its end; usage; `[DONE]`.
fn stream(stamp: Stamp, answers: Vec<Answer>, usage: Option<Value>) -> impl Iterator<Item = Event> + Send {
    let null = usage.as_ref().map(|_| Value::Null);
    let choices = answers.into_iter().enumerate().flat_map(|(index, answer)| {
        let end = choice(index, "", Some(finish(&answer)));
        let tokens = answer.text.into_iter().map(move |token| (choice(index, &token, None), true));
        tokens.chain([(end, false)])
    });
    let tail = [usage.map(Tail::Usage), Some(Tail::Done)].into_iter().flatten();
    choices.map(Tail::Choice).chain(tail).map(move |piece| match piece {
        Tail::Choice((choice, true)) => Event::token(sse(None, &stamp.object(vec![choice], null.clone()))),
        Tail::Choice((choice, false)) => Event::frame(sse(None, &stamp.object(vec![choice], null.clone()))),
        Tail::Usage(usage) => Event::frame(sse(None, &stamp.object(Vec::new(), Some(usage)))),
        Tail::Done => Event::last(Bytes::from_static(b"data: [DONE]\n\n")),
    })
}

enum Tail {
    Choice((Value, bool)),
    Usage(Value),
    Done,
}
