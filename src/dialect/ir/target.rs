//! What an upstream's model takes: the facts that a request encoder needs beside the request.

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The model's name at the upstream.
    pub model: &'t str,
    /// What it takes.
    pub facts: &'t Facts,
}

impl Target<'_> {
    /// Whether the model is Claude, by its name: what is Claude's own is the same in Anthropic's dialect and in Bedrock's.
    pub fn is_claude(&self) -> bool {
        self.model.contains("anthropic") || self.model.contains("claude")
    }
}

/// What a model at a provider takes. The default is the newest model of the dialect's own vendor; a table of rows by
/// model pattern overrides it. An encoder ignores what its dialect has no use for.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What chat calls the bound on output.
    pub limit_name: LimitName,
    /// The bound on output where the dialect demands one and the client gave none, in tokens.
    pub default_limit: u64,
    /// The largest bound on output that is taken, in tokens.
    pub most_output: Option<u64>,
    /// Whether `temperature`, `top_p` and `top_k` are taken.
    pub sampling: Sampling,
    /// The most stop sequences.
    pub most_stops: Option<usize>,
    /// What a tool call's id may look like.
    pub tool_ids: ToolIds,
    /// What a head instruction's role is called in chat.
    pub instructions: Instructions,
    /// What becomes of instructions in the middle of a conversation.
    pub mid_instructions: MidInstructions,
    /// How replies of a given shape are asked for.
    pub structured: Structured,
    /// How much thinking is asked for.
    pub thinking: Knob,
    /// Tokens of thinking that each effort stands for.
    pub budgets: Budgets,
    /// How earlier reasoning is shown to the model again.
    pub replay: Replay,
    /// Which media are taken.
    pub media: Media,
    /// Whether marks that end a cacheable prefix are taken.
    pub cache_marks: Taken,
    /// Whether a tool choice that forces a call is taken.
    pub forced_tools: Taken,
    /// Whether chat's commonest extension is taken: `top_k`.
    pub top_k: Taken,
    /// Whether `tools` may be left out although the conversation holds tool calls.
    pub tool_history: ToolHistory,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            limit_name: LimitName::MaxCompletionTokens,
            default_limit: 16_384,
            most_output: None,
            sampling: Sampling::Taken,
            most_stops: None,
            tool_ids: ToolIds::Any,
            instructions: Instructions::AsGiven,
            mid_instructions: MidInstructions::InPlace,
            structured: Structured::Schema,
            thinking: Knob::Effort,
            budgets: Budgets::default(),
            replay: Replay::Signed,
            media: Media::default(),
            cache_marks: Taken::Yes,
            forced_tools: Taken::Yes,
            top_k: Taken::No,
            tool_history: ToolHistory::Free,
        }
    }
}

/// Whether a field is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    Yes,
    /// It is left out, and noted.
    No,
}

/// What chat calls the bound on output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// The old name, which most compatible hosts know alone.
    MaxTokens,
    /// The new one, which OpenAI's reasoning models demand.
    MaxCompletionTokens,
}

/// Whether sampling parameters are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// As they come.
    Taken,
    /// With a temperature of at most this.
    UpTo(f64),
    /// Not at all: sending one is an error at the upstream.
    Refused,
}

/// What a tool call's id may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolIds {
    /// As it comes.
    Any,
    /// At most this many of `[a-zA-Z0-9_-]`.
    Plain(usize),
    /// Exactly this many letters and digits.
    Exactly(usize),
}

/// What the role of instructions is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// As the client had it.
    AsGiven,
    /// `system`
    System,
    /// `developer`
    Developer,
}

/// What becomes of instructions that do not stand at the head of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidInstructions {
    /// They stay.
    InPlace,
    /// They join those at the head.
    Hoist,
    /// They become part of the next turn of the user.
    IntoUser,
}

/// How replies of a given shape are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structured {
    /// By schema, as the dialect has it.
    Schema,
    /// By a tool that the model is forced to call, and whose arguments become the reply's text.
    Tool,
    /// Not at all.
    No,
}

/// How much thinking is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    /// By a word.
    Effort,
    /// By a number of tokens.
    Budget,
    /// Not at all.
    None,
}

/// How earlier reasoning is shown to the model again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// With its signature, where it is of the upstream's own dialect; other reasoning is left out. Chat has no place
    /// for it, so nothing is shown there.
    Signed,
    /// As text in `reasoning_content`.
    ReasoningContent,
    /// As text in `reasoning`.
    Reasoning,
    /// With its signature, in chat's `reasoning_details`.
    Details,
    /// Not at all.
    No,
}

/// Whether a conversation with tool calls must come with tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolHistory {
    /// It need not.
    Free,
    /// It must: a stub stands in where there are none.
    NeedsTools,
}

/// Which media are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Images.
    pub images: Taken,
    /// Images and documents that the upstream is to fetch by URL.
    pub urls: Taken,
    /// Documents, such as PDF.
    pub documents: Taken,
    /// Audio.
    pub audio: Taken,
}

impl Default for Media {
    fn default() -> Self {
        Self { images: Taken::Yes, urls: Taken::Yes, documents: Taken::Yes, audio: Taken::Yes }
    }
}

/// How hard to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// As little as there is.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More than much.
    XHigh,
    /// All there is.
    Max,
}

impl Effort {
    /// Every effort, the least first.
    pub const ALL: [Self; 6] = [Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh, Self::Max];

    /// The word for it, which all dialects share.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort that a word stands for.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.name() == name)
    }
}

/// Tokens of thinking that each effort stands for, the least first: a table that reads both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets(pub [u64; 6]);

impl Default for Budgets {
    fn default() -> Self {
        Self([1024, 2048, 4096, 8192, 16_384, 32_768])
    }
}

impl Budgets {
    /// The tokens that `effort` stands for.
    pub fn tokens(&self, effort: Effort) -> u64 {
        let pairs = Effort::ALL.into_iter().zip(self.0);
        pairs.rev().find(|(named, _)| *named <= effort).map_or(0, |(_, tokens)| tokens)
    }

    /// A budget below a bound on output: one that does not fit leaves a quarter for the answer.
    pub fn fit(tokens: u64, limit: u64) -> u64 {
        if tokens < limit { tokens } else { (limit - limit / 4).min(limit.saturating_sub(1)) }
    }

    /// The effort that `tokens` come nearest to from below; the least if they are fewer than its own.
    pub fn effort(&self, tokens: u64) -> Effort {
        let pairs = Effort::ALL.into_iter().zip(self.0);
        pairs.rev().find(|(_, least)| *least <= tokens).map_or(Effort::Minimal, |(effort, _)| effort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_and_budgets_read_both_ways() {
        let budgets = Budgets::default();
        for effort in Effort::ALL {
            assert_eq!(Effort::named(effort.name()), Some(effort));
            assert_eq!(budgets.effort(budgets.tokens(effort)), effort);
        }
        assert_eq!(
            (budgets.effort(0), budgets.effort(5000), budgets.effort(u64::MAX)),
            (Effort::Minimal, Effort::Medium, Effort::Max)
        );
        assert_eq!(Effort::named("none"), None);
        let fitted = [(10, 100), (99, 100), (100, 100), (500, 100), (5, 1), (5, 0)];
        assert_eq!(fitted.map(|(tokens, limit)| Budgets::fit(tokens, limit)), [10, 99, 75, 75, 0, 0]);
    }
}
