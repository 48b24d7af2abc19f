//! Whose conventions hold for errors, keys and headers.

/// A company, or a program, with ways of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    OpenAi,
    /// Azure OpenAI on its dated paths: OpenAI's bodies behind Microsoft's gateway.
    Azure,
    Anthropic,
    /// Anthropic's models on Vertex AI: Anthropic's words, but Google's for keys, quotas and names.
    VertexClaude,
    /// Gemini, on Google AI Studio and on Vertex AI.
    Google,
    /// Amazon Bedrock's runtime.
    Bedrock,
    Cohere,
    /// Ollama's native API.
    Ollama,
}

/// How a reply is numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// A prefix and letters.
    Prefixed(&'static str),
    /// A UUID.
    Uuid,
}

impl Family {
    /// The header that carries a reply's number; some send none.
    pub(crate) fn request_id(self) -> Option<(&'static str, Number)> {
        match self {
            Self::OpenAi => Some(("x-request-id", Number::Prefixed("req_"))),
            Self::Azure => Some(("apim-request-id", Number::Uuid)),
            Self::Anthropic | Self::VertexClaude => Some(("request-id", Number::Prefixed("req_"))),
            Self::Bedrock => Some(("x-amzn-requestid", Number::Uuid)),
            Self::Cohere => Some(("x-debug-trace-id", Number::Prefixed(""))),
            Self::Google | Self::Ollama => None,
        }
    }

    /// Whether a member that nobody knows is an error. AWS's protocol and Go's decoder pass over it.
    pub(crate) fn refuses_unknown(self) -> bool {
        !matches!(self, Self::Bedrock | Self::Ollama)
    }

    /// Whether members may be written in snake case as well: so protobuf's JSON reads them.
    pub(crate) fn takes_snake_case(self) -> bool {
        self == Self::Google
    }
}
