//! What a request wants, whatever its dialect, and the answer made up for it.

use super::{Env, flag};
use crate::sim::config::Config;
use crate::sim::stats::Request;
use crate::sim::text::{Digest, Prompt, id, pieces, salad, sample, tokens};
use fastrand::Rng;
use memchr::{memchr, memmem};
use serde_json::{Map, Value};

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) choices: u64,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stops: Vec<String>,
    /// The beginning of the answer, where the client has it already.
    pub(crate) begun: Option<String>,
    pub(crate) want: Want,
    pub(crate) thinking: Thinking,
    pub(crate) knobs: Knobs,
}

/// Whether the answer is to be reasoned about in sight of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinking {
    Hidden,
    Shown,
}

impl Thinking {
    pub(crate) fn shown_if(shown: bool) -> Self {
        if shown { Self::Shown } else { Self::Hidden }
    }
}

/// The kind of answer wanted.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// Words.
    Text,
    /// JSON, of this schema if one is given.
    Json(Option<Value>),
    /// Calls of these tools, never empty.
    Calls(Vec<Tool>),
}

/// A tool the client offers.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// What the request tells the simulator itself: by `x-sim-*` headers, by a `sim` object in the body, or in the words of
/// its prompt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knobs {
    /// `x-sim-text`, `sim.text`: the exact text of the answer.
    pub(crate) text: Option<String>,
    /// `x-sim-reasoning`, `sim.reasoning`: the exact text of the reasoning before it, asked for or not.
    pub(crate) reasoning: Option<String>,
    /// `x-sim-tokens`, `sim.tokens`: how many tokens the answer has.
    pub(crate) tokens: Option<u64>,
    /// `x-sim-tool-calls`, `sim.tool_calls`: how many tools are called (1).
    pub(crate) tool_calls: Option<u64>,
    /// `x-sim-fault`, `sim.fault`.
    pub(crate) fault: Option<String>,
    /// Set by the `huge_event` fault: bytes of the first token.
    pub(crate) huge: Option<usize>,
    /// Set by the fixed mode: the tokens themselves.
    pub(crate) exact: Option<Vec<String>>,
}

impl Knobs {
    pub(crate) fn read(request: &Request, body: Option<&Value>, config: &Config) -> Self {
        let inner = body.and_then(|body| body.get("sim"));
        let told =
            |header: &str| request.header(header).map(str::to_owned).or_else(|| told(&request.body, header));
        let text = |header: &str, key: &str| {
            let inner = || inner.and_then(|sim| sim.get(key)).and_then(Value::as_str).map(str::to_owned);
            told(header).or_else(inner)
        };
        let number = |header: &str, key: &str| match told(header) {
            Some(value) => value.trim().parse().ok(),
            None => inner.and_then(|sim| sim.get(key)).and_then(Value::as_u64),
        };
        Self {
            text: text("x-sim-text", "text").or_else(|| config.text.clone()),
            reasoning: text("x-sim-reasoning", "reasoning"),
            tokens: number("x-sim-tokens", "tokens"),
            tool_calls: number("x-sim-tool-calls", "tool_calls"),
            fault: text("x-sim-fault", "fault"),
            huge: None,
            exact: None,
        }
    }
}

/// What the prompt says in place of a header: `(x-sim-text: so)`, the last of them if there are several.
fn told(body: &[u8], header: &str) -> Option<String> {
    memmem::find(body, b"(x-sim-")?;
    let mark = format!("({header}: ");
    let rest = body.get(memmem::rfind(body, mark.as_bytes())? + mark.len()..)?;
    let words = rest.get(..memchr(b')', rest)?)?;
    // They stand in a JSON string, escaped as that has it.
    serde_json::from_slice([b"\"", words, b"\""].concat().as_slice()).ok()
}

/// One choice of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What was thought before, token by token; mostly empty.
    pub(crate) reasoning: Vec<String>,
    /// The text, token by token; empty if there are only calls.
    pub(crate) text: Vec<String>,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolCall {
    /// Without the dialect's prefix.
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, piece by piece; each piece is a token.
    pub(crate) arguments: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    StopSequence(String),
    Length,
    ToolCalls,
}

impl Answer {
    /// Tokens of the answer; the name of a called tool is one.
    pub(crate) fn tokens(&self) -> u64 {
        let calls: u64 = self.calls.iter().map(ToolCall::tokens).sum();
        self.thought() + self.text.len() as u64 + calls
    }

    pub(crate) fn full_text(&self) -> String {
        self.text.concat()
    }

    pub(crate) fn thought(&self) -> u64 {
        self.reasoning.len() as u64
    }
}

impl ToolCall {
    /// The arguments as an object. Those that `max_tokens` cut short are no JSON any more: they are none then.
    pub(crate) fn input(&self) -> Value {
        serde_json::from_str(&self.arguments.concat()).unwrap_or_else(|_| Value::Object(Map::new()))
    }

    /// Its tokens: its name and its arguments.
    pub(crate) fn tokens(&self) -> u64 {
        1 + self.arguments.len() as u64
    }
}

impl Ask {
    /// One answer in words, as long as it gets, streamed if the path or `stream` in the body says so.
    pub(crate) fn new(model: String, prompt: Prompt, body: &Value, env: &Env<'_>) -> Self {
        Self {
            model,
            prompt,
            stream: env.place.stream.unwrap_or_else(|| flag(body, "stream")),
            include_usage: true,
            choices: 1,
            max_tokens: None,
            stops: Vec::new(),
            begun: None,
            want: Want::Text,
            thinking: Thinking::Hidden,
            knobs: Knobs::read(env.request, Some(body), env.config),
        }
    }

    /// A generator for this request: the same for the same seed and prompt, streamed or not.
    pub(crate) fn rng(&self, seed: u64) -> Rng {
        Rng::with_seed(self.prompt.identity() ^ seed)
    }

    /// The answers, one for each choice.
    pub(crate) fn answers(&self, config: &Config) -> Vec<Answer> {
        let mut rng = self.rng(config.seed).fork();
        (0..self.choices).map(|_| self.answer(config, &mut rng)).collect()
    }

    /// The answer of a dialect that has but one.
    pub(crate) fn only_answer(&self, config: &Config) -> Answer {
        self.answer(config, &mut self.rng(config.seed).fork())
    }

    fn answer(&self, config: &Config, rng: &mut Rng) -> Answer {
        if let Some(tokens) = &self.knobs.exact {
            return text_answer(tokens.clone(), None);
        }
        let mut answer = match (&self.knobs.text, &self.want) {
            (Some(text), _) => text_answer(tokens(text).map(str::to_owned).collect(), self.knobs.tokens),
            (None, Want::Calls(tools)) => call_answer(tools, self.knobs.tool_calls, config, rng),
            (None, Want::Json(schema)) => {
                let schema =
                    schema.clone().unwrap_or_else(|| serde_json::json!({"properties": {"answer": {}}}));
                text_answer(pieces(&sample(rng, &schema, 8).to_string(), 6), None)
            }
            (None, Want::Text) => {
                let span = config.output_tokens;
                let n = self.knobs.tokens.unwrap_or_else(|| rng.u64(span.min..=span.max));
                text_answer(salad(rng, n.min(1 << 20)), None)
            }
        };
        answer.reasoning = match (&self.knobs.reasoning, self.thinking) {
            (Some(text), _) => tokens(text).map(str::to_owned).collect(),
            (None, Thinking::Shown) => salad(rng, 8),
            (None, Thinking::Hidden) => Vec::new(),
        };
        if let (Some(bytes), Some(first)) = (self.knobs.huge, answer.text.first_mut()) {
            *first = "x".repeat(bytes);
        }
        self.stop(&mut answer);
        self.go_on(&mut answer);
        self.shorten(&mut answer);
        answer
    }

    /// Leaves out of the answer what the client has of it. After a beginning that is not its own, other words follow.
    fn go_on(&self, answer: &mut Answer) {
        let Some(begun) = &self.begun else { return };
        answer.reasoning.clear();
        answer.text = match answer.full_text().strip_prefix(begun.as_str()) {
            Some(rest) => tokens(rest).map(str::to_owned).collect(),
            None => {
                let mut other = Digest::new(self.prompt.identity());
                other.write(begun.as_bytes());
                salad(&mut Rng::with_seed(other.finish()), answer.text.len() as u64)
            }
        };
    }

    /// Ends the text before the first stop sequence.
    fn stop(&self, answer: &mut Answer) {
        if self.stops.is_empty() {
            return;
        }
        let full = answer.full_text();
        let first = self.stops.iter().filter(|stop| !stop.is_empty());
        let Some((at, stop)) = first.filter_map(|stop| Some((full.find(stop.as_str())?, stop))).min() else {
            return;
        };
        let kept = full.get(..at).unwrap_or_default();
        answer.text = tokens(kept).map(str::to_owned).collect();
        answer.finish = Finish::StopSequence(stop.clone());
    }

    /// Holds the answer to `max_tokens`; a call that does not fit loses the end of its arguments.
    fn shorten(&self, answer: &mut Answer) {
        let Some(max) = self.max_tokens.filter(|max| answer.tokens() > *max) else { return };
        let mut left = usize::try_from(max).unwrap_or(usize::MAX);
        for part in [&mut answer.reasoning, &mut answer.text] {
            part.truncate(left);
            left -= part.len();
        }
        for call in &mut answer.calls {
            left = left.saturating_sub(1);
            call.arguments.truncate(left);
            left -= call.arguments.len();
        }
        answer.finish = Finish::Length;
    }
}

/// `tokens` of text: as given, or exactly `n` of them, repeated from the start if need be.
fn text_answer(tokens: Vec<String>, n: Option<u64>) -> Answer {
    let text = match n {
        Some(n) if !tokens.is_empty() => {
            let n = usize::try_from(n).unwrap_or(usize::MAX).min(1 << 20);
            tokens.iter().cycle().take(n).cloned().collect()
        }
        _ => tokens,
    };
    Answer { reasoning: Vec::new(), text, calls: Vec::new(), finish: Finish::Stop }
}

fn call_answer(tools: &[Tool], n: Option<u64>, config: &Config, rng: &mut Rng) -> Answer {
    let n = usize::try_from(n.unwrap_or(1).clamp(1, 64)).unwrap_or(1);
    let call = |tool: &Tool| {
        let known = config.arguments.get(&tool.name).cloned();
        let arguments = known.unwrap_or_else(|| sample(rng, &tool.schema, 8));
        let arguments = if arguments.is_object() { arguments.to_string() } else { "{}".into() };
        ToolCall { id: id(rng, "", 24), name: tool.name.clone(), arguments: pieces(&arguments, 8) }
    };
    let calls = tools.iter().cycle().take(n).map(call).collect();
    Answer { reasoning: Vec::new(), text: Vec::new(), calls, finish: Finish::ToolCalls }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(want: Want) -> Ask {
        let mut prompt = Prompt::new(0, "m");
        prompt.text("hello there");
        Ask {
            model: "m".into(),
            prompt,
            stream: false,
            include_usage: false,
            choices: 1,
            max_tokens: None,
            stops: Vec::new(),
            begun: None,
            want,
            thinking: Thinking::Hidden,
            knobs: Knobs::default(),
        }
    }

    fn only(ask: &Ask) -> Answer {
        ask.answers(&Config::default()).remove(0)
    }

    #[test]
    fn text_is_as_long_as_asked() {
        let mut asked = ask(Want::Text);
        asked.knobs.tokens = Some(7);
        assert_eq!((only(&asked).tokens(), only(&asked).finish), (7, Finish::Stop));
        asked.max_tokens = Some(3);
        assert_eq!((only(&asked).tokens(), only(&asked).finish), (3, Finish::Length));
        asked.knobs.text = Some("one two".into());
        assert_eq!(only(&asked).text, ["one", " two", "one"]);
    }

    #[test]
    fn a_prompt_may_tell_what_to_do() {
        let body =
            json!({"p": ["(x-sim-text: old) and (x-sim-text: a \"b\" é\u{1F680})", "(x-sim-fault: cut=3)"]});
        let body = body.to_string();
        assert_eq!(told(body.as_bytes(), "x-sim-text").unwrap(), "a \"b\" é\u{1F680}");
        assert_eq!(told(body.as_bytes(), "x-sim-fault").unwrap(), "cut=3");
        assert_eq!(told(body.as_bytes(), "x-sim-tokens"), None);
        assert_eq!(told(b"(x-sim-text: never closed", "x-sim-text"), None);
    }

    #[test]
    fn thoughts_come_before_the_text_and_count_as_it_does() {
        let mut asked = ask(Want::Text);
        asked.knobs.text = Some("one two".into());
        let plain = only(&asked);
        asked.thinking = Thinking::Shown;
        let answer = only(&asked);
        assert_eq!((answer.thought(), answer.tokens(), &answer.text), (8, 10, &plain.text));
        asked.knobs.reasoning = Some("so then".into());
        asked.max_tokens = Some(3);
        let answer = only(&asked);
        assert_eq!((answer.reasoning.concat().as_str(), answer.full_text().as_str()), ("so then", "one"));
        assert_eq!(answer.finish, Finish::Length);
    }

    #[test]
    fn stop_sequences_end_the_text() {
        let mut asked = ask(Want::Text);
        asked.knobs.text = Some("one two three".into());
        asked.stops = vec!["three".into(), "wo".into()];
        let answer = only(&asked);
        assert_eq!(
            (answer.full_text().as_str(), answer.finish),
            ("one t", Finish::StopSequence("wo".into()))
        );
    }

    #[test]
    fn an_answer_goes_on_where_its_beginning_ends() {
        let mut asked = ask(Want::Text);
        asked.knobs.text = Some("one two three four".into());
        asked.begun = Some("one tw".into());
        assert_eq!(only(&asked).text, ["o", " three", " four"]);
        asked.max_tokens = Some(2);
        assert_eq!((only(&asked).text.len(), only(&asked).finish), (2, Finish::Length));
        asked.begun = Some("one two three four".into());
        assert_eq!((only(&asked).text.len(), only(&asked).finish), (0, Finish::Stop));
        asked.begun = Some("no such words".into());
        assert!(!"one two three four".contains(only(&asked).text[0].as_str()), "it is no answer's beginning");
    }

    #[test]
    fn tools_are_called_with_arguments_that_fit() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let tool = |name: &str| Tool { name: name.into(), schema: schema.clone() };
        let mut asked = ask(Want::Calls(vec![tool("a"), tool("b")]));
        asked.knobs.tool_calls = Some(3);
        let answer = only(&asked);
        assert_eq!(answer.calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_ne!(answer.calls[0].id, answer.calls[2].id);
        let arguments: Value = serde_json::from_str(&answer.calls[0].arguments.concat()).unwrap();
        assert!(arguments["n"].is_i64());
        let config = Config { arguments: [("b".into(), json!({"n": -7}))].into(), ..Config::default() };
        assert_eq!(asked.only_answer(&config).calls[1].input(), json!({"n": -7}));
        asked.max_tokens = Some(2);
        assert_eq!((only(&asked).tokens() >= 2, only(&asked).finish), (true, Finish::Length));
    }

    #[test]
    fn json_is_json_and_choices_differ() {
        let mut asked = ask(Want::Json(None));
        let value: Value = serde_json::from_str(&only(&asked).full_text()).unwrap();
        assert!(value["answer"].is_string());
        asked.want = Want::Text;
        asked.choices = 2;
        let answers = asked.answers(&Config::default());
        assert_ne!(answers[0], answers[1]);
        assert_eq!(answers, asked.answers(&Config::default()));
    }
}
