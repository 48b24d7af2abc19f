//! Reading usage, first content and the end out of replies that pass by verbatim.
//!
//! A [`StreamTap`] watches a stream of events, in whichever frames its dialect has them, a [`ReplyTap`] a whole reply. Neither changes a byte, but
//! for one case: where Forebay asked an OpenAI chat stream for usage on its own, the event that carries nothing else
//! is taken out again.
//!
//! The tap is on the path of every token, so it parses little: in chat, the events up to the first content and those
//! with a marker (`"usage"`, `"finish_reason"`, `"error"`); in the named dialects, the few events that carry usage.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Operation;
use crate::frame::eventstream::Cuts;
use crate::frame::sse::{self, Blocks, Event};

mod chat;
mod converse;
mod framing;
mod gemini;
mod kinds;
mod messages;
mod reply;
mod responses;
mod wire;

use framing::Framing;
pub use kinds::{Billed, Kinds};
pub use reply::ReplyTap;
pub use responses::Head;

/// The largest incomplete event a tap that strips holds back, in bytes. A larger one passes.
const HOLD: usize = 256 << 10;
/// The largest incomplete event a tap copies to read it once it is complete, in bytes.
const READ: usize = 1 << 20;
/// How much of an event larger than that is kept: enough for its name and type.
const START: usize = 4 << 10;
/// The capacity kept for the next event that comes in pieces.
const SPARE: usize = 16 << 10;

/// What an exchange used, in tokens, whatever the dialect calls it. Nothing is known where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The prompt.
    pub input: Input,
    /// The reply.
    pub output: Output,
    /// What of both is priced apart.
    pub kinds: Kinds,
}

impl Usage {
    /// What of it is more than `part`, count by count.
    #[must_use]
    pub fn less(&self, part: &Self) -> Self {
        let more = |all: Option<u64>, part: Option<u64>| all.map(|all| all.saturating_sub(part.unwrap_or(0)));
        let (Self { input, output, kinds }, Self { input: read, output: made, kinds: apart }) = (self, part);
        Self {
            input: Input {
                total: more(input.total, read.total),
                cached: more(input.cached, read.cached),
                written: more(input.written, read.written),
            },
            output: Output {
                total: more(output.total, made.total),
                reasoning: more(output.reasoning, made.reasoning),
            },
            kinds: kinds.less(apart),
        }
    }
}

/// Tokens of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// All of them, with those read from and written to the upstream's prompt cache.
    pub total: Option<u64>,
    /// Those read from the cache.
    pub cached: Option<u64>,
    /// Those written to the cache.
    pub written: Option<u64>,
}

/// Tokens of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// All of them, with those of reasoning.
    pub total: Option<u64>,
    /// Those of reasoning.
    pub reasoning: Option<u64>,
}

/// What one pushed chunk held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Events that ended in it, with data.
    pub events: u32,
    /// Those of them that carry text, reasoning or tool calls of the model. Approximate after the first.
    pub content: u32,
    /// How the stream stands after it.
    pub finish: Finish,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model is not done.
    Open,
    /// The model is done. More events may follow: a chat stream's usage and `[DONE]`. See [`StreamTap::is_closed`].
    Done,
    /// The upstream reported an error in the stream.
    Failed,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its dialect has it.
    Complete,
    /// With an error that the upstream itself put into the stream.
    Failed,
    /// Without its terminal event: the upstream broke off.
    Truncated,
}

/// Where an error event has to take up the thread of a stream. Only Responses needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark<'a> {
    /// The `sequence_number` of the last event.
    pub sequence: Option<u64>,
    /// The response that the stream began with.
    pub response: Option<&'a Head>,
}

/// Watches a stream of events on its way to the client.
#[derive(Debug)]
pub struct StreamTap {
    framing: Framing,
    partial: Partial,
    /// What is held back, in a tap that strips.
    hold: Option<Hold>,
    script: Script,
}

/// An event whose end has not come.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// It is too large; `bytes` are its start.
    cut: bool,
}

/// What a tap that strips does with the event it is in.
#[derive(Debug)]
enum Hold {
    /// It is in none.
    Between {
        /// Whether the last one was stripped.
        stripped: bool,
    },
    /// Its pieces so far are held, of this size altogether.
    Held(SmallVec<[Bytes; 4]>, usize),
    /// It is too large to be held.
    Passing,
}

/// The events of a dialect.
#[derive(Debug)]
enum Script {
    Chat(chat::Chat),
    Messages(messages::Messages),
    Responses(responses::Responses),
    Gemini(gemini::Gemini),
    Converse(converse::Converse),
}

/// What an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// Text, reasoning or tool calls of the model.
    Content,
    /// Usage, and nothing else that a client could want.
    UsageAlone,
    /// Anything else.
    Other,
}

impl StreamTap {
    /// A tap at the start of a stream that answers `operation`. With `strip`, chat's usage-only event is taken out.
    pub fn new(operation: Operation, strip: bool) -> Self {
        let script = match operation {
            Operation::Messages | Operation::CountTokens => Script::Messages(messages::Messages::default()),
            Operation::Responses => Script::Responses(responses::Responses::default()),
            Operation::GenerateContent | Operation::GeminiCount => Script::Gemini(gemini::Gemini::default()),
            Operation::Converse => Script::Converse(converse::Converse::default()),
            Operation::ChatCompletions
            | Operation::Completions
            | Operation::Embeddings
            | Operation::Models
            | Operation::Rerank
            // Their streams are never passed on as they are.
            | Operation::CohereChat
            | Operation::OllamaChat
            | Operation::CohereEmbed
            | Operation::GeminiEmbed
            | Operation::VertexEmbed
            | Operation::OllamaEmbed => Script::Chat(chat::Chat::default()),
        };
        let hold = (strip && matches!(script, Script::Chat(_))).then_some(Hold::Between { stripped: false });
        let framing = match script {
            Script::Converse(_) => Framing::Cuts(Cuts::default()),
            _ => Framing::Blocks(Blocks::default()),
        };
        Self { framing, partial: Partial::default(), hold, script }
    }

    /// Takes the next chunk of the stream and lets out what may pass, without copying.
    pub fn push(&mut self, chunk: &Bytes, out: &mut impl FnMut(Bytes)) -> Seen {
        let mut seen = Seen { events: 0, content: 0, finish: Finish::Open };
        let mut start = usize::from(self.framing.owes_lf(chunk));
        let mut done = match self.hold {
            Some(Hold::Between { stripped: true }) => start,
            _ => 0,
        };
        while let Some(end) = self.framing.end(chunk, start) {
            let carries = self.block(chunk.get(start..end).unwrap_or_default());
            seen.events += u32::from(carries.is_some());
            seen.content += u32::from(carries == Some(Carries::Content));
            if let Some(hold) = &mut self.hold
                && hold.end(carries == Some(Carries::UsageAlone), out)
            {
                let_out(chunk, done, start, out);
                done = end;
            }
            start = end;
        }
        self.partial.add(chunk.get(start..).unwrap_or_default());
        match &mut self.hold {
            Some(hold) => hold.rest(chunk, done, start, out),
            None => let_out(chunk, 0, chunk.len(), out),
        }
        seen.finish = self.finish_so_far();
        seen
    }

    /// Ends the stream: lets out what is held, and says how it ended. An event that lacks only its blank line counts.
    ///
    /// Half an event that is still held when the upstream breaks off is dropped: nobody could read it, and without it
    /// an error event can follow ([`Self::at_boundary`]).
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) -> End {
        let partial = std::mem::take(&mut self.partial);
        let lacks_its_end = Event::read(&partial.bytes).is_some_and(|event| sse::is_whole(&event.data));
        let last = (lacks_its_end && !partial.cut).then_some(partial.bytes);
        let carries = last.and_then(|bytes| self.script.block(&bytes));
        let end = match self.finish_so_far() {
            Finish::Open => End::Truncated,
            Finish::Done => End::Complete,
            Finish::Failed => End::Failed,
        };
        let unwanted = match carries {
            Some(carries) => carries == Carries::UsageAlone,
            None => end == End::Truncated,
        };
        if let Some(hold) = &mut self.hold
            && matches!(hold, Hold::Held(..))
            && hold.end(unwanted, out)
        {
            self.framing = Framing::Blocks(Blocks::default());
        }
        end
    }

    /// How the stream stands.
    pub fn finish_so_far(&self) -> Finish {
        match &self.script {
            Script::Chat(chat) => chat.finish(),
            Script::Messages(messages) => messages.finish(),
            Script::Responses(responses) => responses.finish(),
            Script::Gemini(gemini) => gemini.finish(),
            Script::Converse(converse) => converse.finish(),
        }
    }

    /// Whether the last event of the stream has passed (`[DONE]`, `message_stop`, `response.completed` and its like),
    /// so that nothing worth waiting for follows. Gemini has none: its stream ends when the upstream closes it.
    pub fn is_closed(&self) -> bool {
        match &self.script {
            Script::Chat(chat) => chat.is_closed(),
            Script::Messages(messages) => messages.finish() != Finish::Open,
            Script::Responses(responses) => responses.is_closed(),
            Script::Gemini(_) => false,
            Script::Converse(converse) => converse.is_closed(),
        }
    }

    /// Whether the bytes let out so far end between two events, so that another can be put there.
    pub fn at_boundary(&self) -> bool {
        match &self.hold {
            None | Some(Hold::Between { .. }) => self.framing.at_boundary(),
            Some(Hold::Held(..)) => true,
            Some(Hold::Passing) => false,
        }
    }

    /// The usage that was reported last.
    pub fn usage(&self) -> Option<Usage> {
        match &self.script {
            Script::Chat(chat) => chat.usage(),
            Script::Messages(messages) => messages.usage(),
            Script::Responses(responses) => responses.usage(),
            Script::Gemini(gemini) => gemini.usage(),
            Script::Converse(converse) => converse.usage(),
        }
    }

    /// Where [`super::stream::error_event`] has to go on.
    pub fn mark(&self) -> Mark<'_> {
        match &self.script {
            Script::Responses(responses) => responses.mark(),
            Script::Chat(_) | Script::Messages(_) | Script::Gemini(_) | Script::Converse(_) => {
                Mark::default()
            }
        }
    }

    /// Reads the event that ends with `bytes`, and says what it carries, if it has data.
    fn block(&mut self, bytes: &[u8]) -> Option<Carries> {
        if self.partial.bytes.is_empty() {
            return self.script.block(bytes);
        }
        self.partial.add(bytes);
        let Partial { bytes: mut whole, .. } = std::mem::take(&mut self.partial);
        let carries = self.script.block(&whole);
        if whole.capacity() <= SPARE {
            whole.clear();
            self.partial.bytes = whole;
        }
        carries
    }
}

impl Script {
    /// Reads an event, and says what it carries, if it has data.
    fn block(&mut self, bytes: &[u8]) -> Option<Carries> {
        let event = || Event::read(bytes);
        match self {
            Self::Chat(chat) => Some(chat.event(&event()?)),
            Self::Messages(messages) => Some(messages.event(&event()?)),
            Self::Responses(responses) => Some(responses.event(&event()?)),
            Self::Gemini(gemini) => Some(gemini.event(&event()?)),
            Self::Converse(converse) => converse.message(bytes),
        }
    }
}

impl Partial {
    fn add(&mut self, bytes: &[u8]) {
        if self.cut {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > READ {
            self.cut = true;
            self.bytes.truncate(START);
            self.bytes.shrink_to_fit();
        }
    }
}

impl Hold {
    /// The event ends. Lets its held pieces out, or drops them where it is `unwanted`. Returns whether it is stripped.
    fn end(&mut self, unwanted: bool, out: &mut impl FnMut(Bytes)) -> bool {
        let stripped = unwanted && !matches!(self, Self::Passing);
        let before = std::mem::replace(self, Self::Between { stripped });
        if let (Self::Held(pieces, _), false) = (before, stripped) {
            pieces.into_iter().for_each(out);
        }
        stripped
    }

    /// Lets out what of `chunk` may pass from `done` on; from `start` on, it belongs to an event that does not end in
    /// it.
    fn rest(&mut self, chunk: &Bytes, done: usize, start: usize, out: &mut impl FnMut(Bytes)) {
        let more = chunk.len() - start;
        if more == 0 || matches!(self, Self::Passing) {
            return let_out(chunk, done, chunk.len(), out);
        }
        let_out(chunk, done, start, out);
        let (mut pieces, size) = match std::mem::replace(self, Self::Passing) {
            Self::Held(pieces, size) => (pieces, size + more),
            Self::Between { .. } | Self::Passing => (SmallVec::new(), more),
        };
        pieces.push(chunk.slice(start..));
        if size > HOLD {
            pieces.into_iter().for_each(out);
        } else {
            *self = Self::Held(pieces, size);
        }
    }
}

fn let_out(chunk: &Bytes, from: usize, to: usize, out: &mut impl FnMut(Bytes)) {
    if from < to {
        out(chunk.slice(from..to));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a tap says of a stream pushed in pieces.
    #[derive(Debug, PartialEq, Eq)]
    struct Told {
        out: Vec<u8>,
        events: u32,
        content: u32,
        end: End,
        usage: Option<Usage>,
        closed: bool,
    }

    fn tap<'p>(operation: Operation, strip: bool, pieces: impl Iterator<Item = &'p [u8]>) -> Told {
        let mut tap = StreamTap::new(operation, strip);
        let (mut out, mut events, mut content) = (Vec::new(), 0, 0);
        for piece in pieces {
            let seen = tap.push(&Bytes::copy_from_slice(piece), &mut |bytes| out.extend_from_slice(&bytes));
            events += seen.events;
            content += seen.content;
        }
        let end = tap.finish(&mut |bytes| out.extend_from_slice(&bytes));
        Told { out, events, content, end, usage: tap.usage(), closed: tap.is_closed() }
    }

    fn whole(operation: Operation, strip: bool, stream: &str) -> Told {
        tap(operation, strip, std::iter::once(stream.as_bytes()))
    }

    fn chat(stream: &str) -> Told {
        whole(Operation::ChatCompletions, false, stream)
    }

    fn totals(told: &Told) -> (Option<u64>, Option<u64>) {
        let usage = told.usage.unwrap_or_default();
        (usage.input.total, usage.output.total)
    }

    const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hé\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const SPENT: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn a_chat_is_followed_to_its_end() {
        let told = chat(&[ROLE, TEXT, TEXT, STOP, SPENT, DONE].concat());
        assert_eq!((told.events, told.content, told.end, told.closed), (6, 2, End::Complete, true));
        let usage = told.usage.unwrap();
        assert_eq!(usage.input, Input { total: Some(5), cached: Some(3), written: None });
        assert_eq!(usage.output, Output { total: Some(2), reasoning: None });
    }

    #[test]
    fn the_state_goes_from_silence_to_done() {
        let mut tap = StreamTap::new(Operation::ChatCompletions, false);
        let mut push = |text: &'static str| {
            let seen = tap.push(&Bytes::from_static(text.as_bytes()), &mut drop);
            (seen.events, seen.content, seen.finish, tap.is_closed())
        };
        assert_eq!(push(": OPENROUTER PROCESSING\n\n"), (0, 0, Finish::Open, false));
        assert_eq!(push(ROLE), (1, 0, Finish::Open, false));
        assert_eq!(push(TEXT), (1, 1, Finish::Open, false));
        assert_eq!(push(STOP), (1, 0, Finish::Done, false));
        assert_eq!(push(SPENT), (1, 0, Finish::Done, false));
        assert_eq!(push(DONE), (1, 0, Finish::Done, true));
    }

    #[test]
    fn a_chat_without_done_is_complete_once_every_choice_is() {
        assert_eq!(chat(&[ROLE, TEXT, STOP].concat()).end, End::Complete);
        assert_eq!(chat(&[ROLE, TEXT].concat()).end, End::Truncated);
        assert_eq!(chat("").end, End::Truncated);
        assert_eq!(chat(": ping\n\n").end, End::Truncated);
        let second = TEXT.replace("\"index\":0", "\"index\": 1");
        assert_eq!(chat(&[ROLE, TEXT, &second, STOP].concat()).end, End::Truncated);
        let second_stop = STOP.replace("\"index\":0", "\"index\":1");
        assert_eq!(chat(&[ROLE, TEXT, &second, STOP, &second_stop].concat()).end, End::Complete);
        let empty_reason = TEXT.replace("null", "\"\"");
        assert_eq!(chat(&[TEXT, &empty_reason].concat()).end, End::Truncated);
    }

    #[test]
    fn first_content_is_not_the_role() {
        let delta = |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n");
        for silent in [
            "{}",
            "{\"role\":\"assistant\"}",
            "{\"role\":\"assistant\",\"content\":null}",
            "null",
            "{\"content\":\"\",\"tool_calls\":null}",
            "{\"reasoning_content\":\"\"}",
        ] {
            assert_eq!(chat(&delta(silent)).content, 0, "{silent}");
        }
        for content in [
            "{\"content\":\"x\"}",
            "{\"role\":\"assistant\",\"reasoning\":\"x\"}",
            "{\"reasoning_content\":\"\\n\"}",
            "{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}",
            "{\"refusal\":\"x\"}",
            "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}",
        ] {
            assert_eq!(chat(&delta(content)).content, 1, "{content}");
        }
        assert_eq!(chat("data: {\"choices\":[{\"index\":0,\"text\":\"x\"}]}\n\n").content, 1);
        assert_eq!(chat("data: {\"choices\":[{\"index\":0,\"text\":\"\"}]}\n\n").content, 0);
    }

    #[test]
    fn usage_is_read_wherever_it_rides() {
        let with = |member: &str| STOP.replace("]}", &format!("],{member}}}"));
        let usage = "{\"prompt_tokens\":5,\"completion_tokens\":2}";
        for event in [
            with(&format!("\"usage\":{usage}")),
            with(&format!("\"usage\" : {usage}")),
            with(&format!("\"x_groq\":{{\"id\":\"req\",\"usage\":{usage}}}")),
            with(&format!("\"usage\":null,\"x_groq\":{{\"usage\":{usage}}}")),
            with(&format!("\"usage\":{usage},\"timings\":{{\"prompt_n\":9,\"predicted_ms\":1.5}}")),
            STOP.replace("}]", &format!(",\"usage\":{usage}}}]")),
        ] {
            assert_eq!(totals(&chat(&[ROLE, TEXT, &event].concat())), (Some(5), Some(2)), "{event}");
        }
    }

    #[test]
    fn the_last_usage_wins_and_nothing_is_summed() {
        let running = |output| {
            TEXT.replace(
                "\"usage\":null",
                &format!("\"usage\":{{\"prompt_tokens\":8,\"completion_tokens\":{output}}}"),
            )
        };
        let told = chat(&[&running(1), &running(2), &running(3), STOP].concat());
        assert_eq!(totals(&told), (Some(8), Some(3)));
        assert_eq!(told.content, 3);
        let told = chat(&[&running(1), TEXT, STOP].concat());
        assert_eq!(totals(&told), (Some(8), Some(1)));
    }

    #[test]
    fn an_error_in_the_stream_is_a_failure() {
        for event in [
            "data: {\"error\":{\"message\":\"m\",\"code\":502}}\n\n",
            "event: error\ndata: {\"error\":{\"message\":\"m\"}}\n\n",
            "data: {\"id\":\"x\",\"error\":{\"code\":1},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
            "data: {\"object\":\"error\",\"message\":\"m\"}\n\n",
            "data: [{\"error\":{\"code\":400}}]\n\n",
        ] {
            for before in [String::new(), [ROLE, TEXT].concat()] {
                let told = chat(&[&before, event].concat());
                assert_eq!(told.end, End::Failed, "{event}");
                assert_eq!(chat(&[&before, event, DONE].concat()).end, End::Failed);
            }
        }
        let quoted = TEXT.replace("hé", "\\\"error\\\": {");
        assert_eq!(chat(&[TEXT, &quoted, STOP].concat()).end, End::Complete);
        let null = TEXT.replace("\"usage\":null", "\"error\":null");
        assert_eq!(chat(&[TEXT, &null, STOP].concat()).end, End::Complete);
    }

    #[test]
    fn the_last_event_needs_no_blank_line() {
        let stream = [ROLE, TEXT, STOP, SPENT].concat();
        let told = chat(stream.trim_end());
        assert_eq!((totals(&told), told.end), ((Some(5), Some(2)), End::Complete));
        let told = whole(Operation::ChatCompletions, true, stream.trim_end());
        assert_eq!(told.out, [ROLE, TEXT, STOP].concat().as_bytes());
        assert_eq!(totals(&told), (Some(5), Some(2)));
    }

    #[test]
    fn half_an_event_is_dropped_where_that_leaves_room_for_an_error() {
        let half = "data: {\"choices\":[{\"ind";
        let finish = |stream: String, strip| {
            let mut tap = StreamTap::new(Operation::ChatCompletions, strip);
            let mut out = Vec::new();
            tap.push(&Bytes::from(stream), &mut |bytes| out.extend_from_slice(&bytes));
            let end = tap.finish(&mut |bytes| out.extend_from_slice(&bytes));
            (String::from_utf8(out).unwrap(), end, tap.at_boundary())
        };
        assert_eq!(finish([TEXT, half].concat(), true), (TEXT.to_owned(), End::Truncated, true));
        assert_eq!(finish([TEXT, half].concat(), false), ([TEXT, half].concat(), End::Truncated, false));
        assert_eq!(finish([DONE, half].concat(), true), ([DONE, half].concat(), End::Complete, false));
        assert_eq!(finish([TEXT, STOP.trim_end()].concat(), true).0, [TEXT, STOP.trim_end()].concat());
    }

    #[test]
    fn what_we_asked_for_is_taken_out_whole_and_alone() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = [": hi\n\n", ROLE, TEXT, STOP, SPENT, DONE].concat().replace('\n', end);
            let expected = [": hi\n\n", ROLE, TEXT, STOP, DONE].concat().replace('\n', end);
            let told = whole(Operation::ChatCompletions, true, &stream);
            assert_eq!(told.out, expected.as_bytes());
            assert_eq!((totals(&told), told.events), ((Some(5), Some(2)), 5));
            for first in 0..=stream.len() {
                for second in [first, (first + 1).min(stream.len()), stream.len()] {
                    let bytes = stream.as_bytes();
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    let split = tap(Operation::ChatCompletions, true, pieces.into_iter());
                    assert_eq!(split, told, "{end:?} {first} {second}");
                }
            }
        }
    }

    #[test]
    fn usage_beside_choices_stays() {
        let both = STOP.replace("]}", "],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}");
        let filter = "data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}\n\n";
        let stream = [filter, ROLE, TEXT, &both, DONE].concat();
        let told = whole(Operation::ChatCompletions, true, &stream);
        assert_eq!(told.out, stream.as_bytes());
        assert_eq!(totals(&told), (Some(5), Some(2)));
    }

    #[test]
    fn only_an_incomplete_event_waits() {
        let mut tap = StreamTap::new(Operation::ChatCompletions, true);
        let mut push = |text: &str| {
            let mut out = Vec::new();
            tap.push(&Bytes::copy_from_slice(text.as_bytes()), &mut |bytes| out.extend_from_slice(&bytes));
            (String::from_utf8(out).unwrap(), tap.at_boundary())
        };
        assert_eq!(push(&[TEXT, "data: {\"ch"].concat()), (TEXT.to_owned(), true));
        assert_eq!(push("oices\":[]"), (String::new(), true));
        assert_eq!(push("}\n"), (String::new(), true));
        assert_eq!(push(&["\n", TEXT].concat()), (["data: {\"choices\":[]}\n\n", TEXT].concat(), true));
    }

    #[test]
    fn too_large_an_event_passes_even_if_it_should_be_taken_out() {
        let padding = " ".repeat(2 * HOLD);
        let spent = SPENT.replace("\"choices\"", &format!("{padding}\"choices\""));
        let mut tap = StreamTap::new(Operation::ChatCompletions, true);
        let mut out = Vec::new();
        for piece in spent.as_bytes().chunks(HOLD / 3) {
            tap.push(&Bytes::copy_from_slice(piece), &mut |bytes| out.extend_from_slice(&bytes));
        }
        assert!(out == spent.as_bytes());
        assert!(tap.at_boundary());
        assert_eq!(tap.usage().unwrap().input.total, Some(5));
    }

    #[test]
    fn an_event_too_large_to_read_passes_in_bounded_memory() {
        let mut tap = StreamTap::new(Operation::Responses, false);
        let mut passed = 0;
        let mut push = |tap: &mut StreamTap, bytes: &'static [u8]| {
            tap.push(&Bytes::from_static(bytes), &mut |bytes| passed += bytes.len())
        };
        push(
            &mut tap,
            b"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":\"",
        );
        for _ in 0..3000 {
            push(&mut tap, &[b'x'; 1000]);
            assert!(tap.partial.bytes.capacity() <= 4 * READ);
        }
        let seen = push(&mut tap, b"\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n");
        assert_eq!((seen.finish, tap.usage()), (Finish::Done, None));
        assert_eq!(tap.finish(&mut drop), End::Complete);
        assert!(passed > 3_000_000);
    }

    #[test]
    fn a_verbatim_chunk_is_let_out_as_it_is() {
        let chunk = Bytes::from([TEXT, TEXT, "data: {"].concat());
        let mut out = Vec::new();
        StreamTap::new(Operation::ChatCompletions, false).push(&chunk, &mut |bytes| out.push(bytes));
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].as_ptr(), out[0].len()), (chunk.as_ptr(), chunk.len()));
        let mut out = Vec::new();
        let chunk = Bytes::from([TEXT, STOP, SPENT, DONE].concat());
        StreamTap::new(Operation::ChatCompletions, true).push(&chunk, &mut |bytes| out.push(bytes));
        assert_eq!(out.len(), 2);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    }

    const MESSAGE: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\
        \"cache_read_input_tokens\":7,\"cache_creation_input_tokens\":11,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"a\"}}\n\n\
        event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n";
    const STOPPED: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn a_message_is_followed_to_its_end() {
        let told = whole(Operation::Messages, true, &[MESSAGE, STOPPED].concat());
        assert_eq!((told.events, told.content, told.end, told.closed), (8, 1, End::Complete, true));
        let usage = told.usage.unwrap();
        assert_eq!(usage.input, Input { total: Some(23), cached: Some(7), written: Some(11) });
        assert_eq!(usage.output, Output { total: Some(9), reasoning: None });
        assert_eq!(whole(Operation::Messages, false, MESSAGE).end, End::Truncated);
        let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
        assert_eq!(whole(Operation::Messages, false, &[MESSAGE, error].concat()).end, End::Failed);
    }

    #[test]
    fn a_response_is_followed_to_its_end() {
        let begun = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null}}\n\n\
            event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\"}\n\n\
            data: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"a\"}\n\n\
            event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\"}\n\n";
        let end = |kind: &str| {
            format!(
                "event: {kind}\ndata: {{\"sequence_number\":3,\"type\":\"{kind}\",\"response\":{{\"usage\":{{\"input_tokens\":5,\
                \"input_tokens_details\":{{\"cached_tokens\":1,\"cache_write_tokens\":2}},\"output_tokens\":4,\
                \"output_tokens_details\":{{\"reasoning_tokens\":3}}}}}}}}\n\n"
            )
        };
        for (kind, expected) in [
            ("response.completed", End::Complete),
            ("response.incomplete", End::Complete),
            ("response.failed", End::Failed),
        ] {
            let told = whole(Operation::Responses, false, &[begun, &end(kind)].concat());
            assert_eq!((told.events, told.content, told.end, told.closed), (5, 2, expected, true));
            let usage = told.usage.unwrap();
            assert_eq!(usage.input, Input { total: Some(5), cached: Some(1), written: Some(2) });
            assert_eq!(usage.output, Output { total: Some(4), reasoning: Some(3) });
        }
        assert_eq!(whole(Operation::Responses, false, begun).end, End::Truncated);
        let error = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":3,\"error\":{}}\n\n";
        let told = whole(Operation::Responses, false, &[begun, error].concat());
        assert_eq!((told.end, told.closed), (End::Failed, false));
    }

    /// A stream of Gemini's, with an event that only carries a seal, and the usage of each as the sum so far.
    fn gemini(events: &[&str]) -> String {
        events.iter().map(|data| format!("data: {data}\r\n\r\n")).collect()
    }

    const PART: &str = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":1}}"#;
    const SEALED: &str = r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"s"}]}}],"usageMetadata":{"trafficType":"ON_DEMAND"}}"#;
    const LAST: &str = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}],"usageMetadata":
        {"promptTokenCount":5,"candidatesTokenCount":2,"thoughtsTokenCount":3,"cachedContentTokenCount":4}}"#;

    #[test]
    fn a_gemini_stream_is_done_when_every_candidate_is() {
        let last = LAST.replace('\n', " ");
        let stream = |events: &[&str]| whole(Operation::GenerateContent, true, &gemini(events));
        let told = stream(&[SEALED, PART, &last]);
        assert_eq!((told.events, told.content, told.end, told.closed), (3, 2, End::Complete, false));
        let usage = told.usage.unwrap();
        assert_eq!(usage.input, Input { total: Some(5), cached: Some(4), written: None });
        assert_eq!(usage.output, Output { total: Some(5), reasoning: Some(3) });
        let told = stream(&[PART, SEALED]);
        assert_eq!((told.end, totals(&told)), (End::Truncated, (Some(5), Some(1))));
        let second = PART.replace("{\"content\"", "{\"index\":1,\"content\"");
        assert_eq!(stream(&[PART, &second, &last]).end, End::Truncated);
        let open = PART.replace("]}}],", "]},\"finishReason\":\"FINISH_REASON_UNSPECIFIED\"}],");
        assert_eq!(stream(&[&open]).end, End::Truncated);
        assert_eq!(stream(&[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]).end, End::Complete);
        assert_eq!(stream(&[r#"{"promptFeedback":{}}"#]).end, End::Truncated);
        assert_eq!(stream(&[PART, r#"{"error":{"code":503}}"#]).end, End::Failed);
        let cut = gemini(&[PART, &last]);
        assert_eq!(whole(Operation::GenerateContent, true, cut.trim_end()).end, End::Complete);
    }

    /// A stream of Converse's.
    fn converse(events: &[(&str, &str)]) -> Vec<u8> {
        use crate::frame::eventstream::{Value::Text, message};
        let mut out = Vec::new();
        for (kind, payload) in events {
            let (name, class) = match kind.ends_with("Exception") {
                true => (":exception-type", "exception"),
                false => (":event-type", "event"),
            };
            message(&mut out, &[(name, Text(kind)), (":message-type", Text(class))], payload.as_bytes())
                .unwrap();
        }
        out
    }

    const BEGIN: (&str, &str) = ("messageStart", r#"{"role":"assistant"}"#);
    const SAID: (&str, &str) = ("contentBlockDelta", r#"{"delta":{"text":"\"signature\"\n\ndata: x\n\n"}}"#);
    const SIGNED: (&str, &str) = ("contentBlockDelta", r#"{"delta":{"reasoningContent":{"signature":"s"}}}"#);
    const STOPS: (&str, &str) = ("messageStop", r#"{"stopReason":"end_turn"}"#);
    const METERED: (&str, &str) = (
        "metadata",
        r#"{"usage":{"inputTokens":5,"outputTokens":9,"totalTokens":15,"cacheReadInputTokens":1}}"#,
    );

    #[test]
    fn a_converse_stream_is_over_when_its_end_and_its_usage_have_come() {
        let stream = |events: &[(&str, &str)]| {
            let bytes = converse(events);
            let told = tap(Operation::Converse, true, std::iter::once(bytes.as_slice()));
            assert_eq!(told.out, bytes);
            for size in [1, 3, 100] {
                assert_eq!(tap(Operation::Converse, false, bytes.chunks(size)), told);
            }
            told
        };
        for events in [[BEGIN, SAID, SIGNED, STOPS, METERED], [BEGIN, SAID, SIGNED, METERED, STOPS]] {
            let told = stream(&events);
            assert_eq!((told.events, told.content, told.end, told.closed), (5, 1, End::Complete, true));
            let usage = told.usage.unwrap();
            assert_eq!(usage.input, Input { total: Some(6), cached: Some(1), written: None });
            assert_eq!(usage.output, Output { total: Some(9), reasoning: None });
        }
        let told = stream(&[BEGIN, STOPS]);
        assert_eq!((told.end, told.closed, told.usage), (End::Complete, false, None));
        assert_eq!(stream(&[BEGIN, SAID]).end, End::Truncated);
        let told = stream(&[BEGIN, SAID, ("throttlingException", "{}")]);
        assert_eq!((told.end, told.closed), (End::Failed, true));
    }

    #[test]
    fn nothing_is_put_inside_a_message_or_behind_a_broken_one() {
        let bytes = converse(&[BEGIN, SAID]);
        let mut tap = StreamTap::new(Operation::Converse, false);
        let mut ends = Vec::new();
        for (at, byte) in (1..).zip(&bytes) {
            tap.push(&Bytes::copy_from_slice(&[*byte]), &mut drop);
            if tap.at_boundary() {
                ends.push(at);
            }
        }
        assert_eq!(ends, [converse(&[BEGIN]).len(), bytes.len()]);
        let mut broken = bytes;
        broken[2] ^= 1;
        let mut tap = StreamTap::new(Operation::Converse, false);
        let seen = tap.push(&Bytes::from(broken), &mut drop);
        assert_eq!((seen.events, tap.at_boundary(), tap.finish(&mut drop)), (0, false, End::Truncated));
    }

    #[test]
    fn nothing_is_put_inside_an_event() {
        let mut tap = StreamTap::new(Operation::ChatCompletions, false);
        assert!(tap.at_boundary());
        for (piece, boundary) in [
            ("data: {}", false),
            ("\r\n", false),
            ("\r", false),
            ("\n", true),
            (": c\n", false),
            ("\n", true),
        ] {
            tap.push(&Bytes::from_static(piece.as_bytes()), &mut drop);
            assert_eq!(tap.at_boundary(), boundary, "{piece:?}");
        }
    }

    fn stream() -> impl Strategy<Value = String> {
        let event = prop_oneof![
            Just(ROLE.to_owned()),
            Just(TEXT.to_owned()),
            Just(TEXT.replace("\"index\":0", "\"index\":2")),
            Just(STOP.to_owned()),
            Just(SPENT.to_owned()),
            Just(DONE.to_owned()),
            Just(": note\n\n".to_owned()),
            Just("\n".to_owned()),
            Just("data: {\n\ndata: \"error\"}\n\n".to_owned()),
            Just("data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1}}\n\n".to_owned()),
            Just(MESSAGE.to_owned()),
            "[a-z:{}\", ]{0,9}",
        ];
        let ends = proptest::sample::select(vec!["\n", "\r\n", "\r"]);
        (proptest::collection::vec((event, ends), 0..12))
            .prop_map(|events| events.iter().map(|(event, end)| event.replace('\n', end)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn a_tap_says_the_same_of_any_split(
            stream in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
            operation in proptest::sample::select(Operation::ALL.to_vec()),
            strip in any::<bool>(),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            let told = whole(operation, strip, &stream);
            prop_assert_eq!(&tap(operation, strip, pieces), &told);
            prop_assert_eq!(&tap(operation, strip, bytes.chunks(1)), &told);
            if !strip {
                prop_assert_eq!(told.out, bytes);
            }
        }

        #[test]
        fn no_bytes_upset_a_tap(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            strip in any::<bool>(),
            operation in proptest::sample::select(Operation::ALL.to_vec()),
        ) {
            let told = tap(operation, strip, bytes.chunks(7));
            prop_assert!(bytes.starts_with(&told.out));
            prop_assert!(strip || told.out.len() == bytes.len());
        }
    }
}
