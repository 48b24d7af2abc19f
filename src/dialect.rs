//! The wire protocols that clients and upstreams speak.
//!
//! A [`Dialect`] is a protocol, an [`Operation`] is one thing that can be asked in it. This floor is
//! synchronous and never sees a socket or a provider.

pub mod chat;
pub mod cohere;
pub mod completions;
pub mod converse;
pub mod count;
pub mod embed;
pub mod error;
pub mod form;
pub mod gemini;
pub mod ir;
pub mod loss;
pub mod messages;
pub mod models;
mod named;
pub mod ollama;
pub mod owned;
pub mod permission;
pub mod quota;
pub mod request;
pub mod responses;
pub mod stream;
pub mod translate;
pub mod usage;

pub use named::Named;

/// A wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions, and its neighbours that share errors and model lists: legacy completions, embeddings.
    OpenaiChat,
    /// OpenAI Responses.
    OpenaiResponses,
    /// Anthropic Messages.
    Anthropic,
    /// Gemini `generateContent`.
    Gemini,
    /// Bedrock Converse.
    Converse,
}

/// One thing that can be asked: what a method and a path denote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`
    GenerateContent,
    /// `POST /v1beta/models/{model}:countTokens`
    GeminiCount,
    /// `POST /model/{model}/converse` and `/converse-stream`
    Converse,
    /// `GET /v1/models`
    Models,
    /// `POST /v1/rerank`, of which `POST /v2/rerank` of Cohere is the same.
    Rerank,
    /// `POST /v2/chat` of Cohere. Upstreams are asked it, clients cannot ask it.
    CohereChat,
    /// `POST /api/chat` of Ollama. Upstreams are asked it, clients cannot ask it.
    OllamaChat,
    /// `POST /v2/embed` of Cohere. Upstreams are asked it, clients cannot ask it.
    CohereEmbed,
    /// `POST /v1beta/models/{model}:batchEmbedContents`. Upstreams are asked it, clients cannot ask it.
    GeminiEmbed,
    /// `POST .../models/{model}:predict` of Vertex AI. Upstreams are asked it, clients cannot ask it.
    VertexEmbed,
    /// `POST /api/embed` of Ollama. Upstreams are asked it, clients cannot ask it.
    OllamaEmbed,
}

/// A path without the version that it begins with: OpenAI's, Anthropic's, or Google's.
pub fn versionless(path: &str) -> &str {
    let rest = ["/v1beta", "/v1"].iter().find_map(|version| path.strip_prefix(version));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

impl Operation {
    /// Every operation, in the order in which manuals list them.
    pub const ALL: [Self; 17] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::GeminiCount,
        Self::Converse,
        Self::Models,
        Self::Rerank,
        Self::CohereChat,
        Self::OllamaChat,
        Self::CohereEmbed,
        Self::GeminiEmbed,
        Self::VertexEmbed,
        Self::OllamaEmbed,
    ];

    /// The operation at `path`, which is the part of the target after the route's base path. Both `/v1/x` and `/x`
    /// are taken, because SDKs differ in whether `base_url` holds the `/v1`. A path that names its model is read by
    /// [`Self::named`].
    pub fn at(path: &str) -> Option<Self> {
        if path == "/v2/rerank" {
            return Some(Self::Rerank);
        }
        let path = versionless(path);
        let is_there = |operation: &Self| operation.path() == path && !operation.is_upstreams();
        Self::ALL.into_iter().find(is_there).filter(|_| !path.is_empty())
    }

    /// The path of this operation below `/v1`; empty where it names the model ([`Self::path_of`]).
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::GenerateContent
            | Self::GeminiCount
            | Self::Converse
            | Self::GeminiEmbed
            | Self::VertexEmbed => "",
            Self::Models => "/models",
            Self::Rerank => "/rerank",
            Self::CohereChat => "/chat",
            Self::OllamaChat => "/api/chat",
            Self::CohereEmbed => "/embed",
            Self::OllamaEmbed => "/api/embed",
        }
    }

    /// Whether only upstreams are asked it.
    pub fn is_upstreams(self) -> bool {
        matches!(
            self,
            Self::CohereChat
                | Self::OllamaChat
                | Self::CohereEmbed
                | Self::GeminiEmbed
                | Self::VertexEmbed
                | Self::OllamaEmbed
        )
    }

    /// The name used in configuration, logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::GenerateContent => "generate_content",
            Self::GeminiCount => "gemini_count",
            Self::Converse => "converse",
            Self::Models => "models",
            Self::Rerank => "rerank",
            Self::CohereChat => "cohere_chat",
            Self::OllamaChat => "ollama_chat",
            Self::CohereEmbed => "cohere_embed",
            Self::GeminiEmbed => "gemini_embed",
            Self::VertexEmbed => "vertex_embed",
            Self::OllamaEmbed => "ollama_embed",
        }
    }

    /// The method this operation takes.
    pub fn method(self) -> &'static str {
        match self {
            Self::Models => "GET",
            _ => "POST",
        }
    }

    /// The protocol this operation belongs to. A models list is told apart by its headers, not by its path.
    pub fn dialect(self) -> Dialect {
        match self {
            // No client speaks those that are upstreams' alone.
            Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Models
            | Self::Rerank
            | Self::CohereChat
            | Self::OllamaChat
            | Self::CohereEmbed
            | Self::GeminiEmbed
            | Self::VertexEmbed
            | Self::OllamaEmbed => Dialect::OpenaiChat,
            Self::Responses => Dialect::OpenaiResponses,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::GenerateContent | Self::GeminiCount => Dialect::Gemini,
            Self::Converse => Dialect::Converse,
        }
    }

    /// Whether the operation can answer with a stream.
    pub fn streams(self) -> bool {
        match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::GenerateContent
            | Self::Converse
            | Self::CohereChat
            | Self::OllamaChat => true,
            Self::Embeddings
            | Self::CountTokens
            | Self::GeminiCount
            | Self::Models
            | Self::Rerank
            | Self::CohereEmbed
            | Self::GeminiEmbed
            | Self::VertexEmbed
            | Self::OllamaEmbed => false,
        }
    }

    /// The media type of its streams.
    pub fn stream_media(self) -> &'static str {
        match self {
            Self::Converse => "application/vnd.amazon.eventstream",
            Self::OllamaChat => "application/x-ndjson",
            _ => "text/event-stream",
        }
    }

    /// What a count of tokens is about; nothing where it is none. Tokens are counted for any model that can be asked that:
    /// by its API, or by a guess.
    pub fn counts(self) -> Option<Self> {
        match self {
            Self::CountTokens => Some(Self::Messages),
            Self::GeminiCount => Some(Self::GenerateContent),
            _ => None,
        }
    }

    /// Whether the model, and whether the reply streams, are said by the path, and not by the body.
    pub fn names_model(self) -> bool {
        matches!(self, Self::GenerateContent | Self::GeminiCount | Self::Converse)
    }
}
