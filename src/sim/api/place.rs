//! What a path denotes: an API, and for those that name their model there, the model and whether the reply streams.

use super::family::Family;
use crate::sim::stats::Request;
use http::Method;

/// One thing that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
    Embeddings,
    Responses,
    InputTokens,
    Messages,
    CountTokens,
    /// Anthropic's bodies on Bedrock's `invoke`.
    Invoke,
    /// Anthropic's bodies on Vertex AI's `rawPredict`.
    RawPredict,
    Models,
    Model,
    Generate,
    GenerateCount,
    EmbedContent,
    BatchEmbedContents,
    /// Embeddings on Vertex AI, of the older kind.
    Predict,
    Converse,
    ConverseCount,
    CohereChat,
    CohereEmbed,
    CohereRerank,
    OllamaChat,
    OllamaEmbed,
    OllamaTags,
    OllamaVersion,
}

impl Api {
    /// Whether it is asked by that method.
    pub(crate) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Models | Self::Model | Self::OllamaTags | Self::OllamaVersion => {
                matches!(*method, Method::GET | Method::HEAD)
            }
            _ => *method == Method::POST,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) api: Api,
    pub(crate) family: Family,
    /// The model, without escapes, where the path names it.
    pub(crate) model: Option<String>,
    /// Whether the reply streams, where the path says so.
    pub(crate) stream: Option<bool>,
}

impl Place {
    /// The place a request names; nothing if this simulator has none there.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let path = request.path();
        bedrock(path).or_else(|| azure(path)).or_else(|| google(path)).or_else(|| plain(path, request))
    }

    /// The conventions for a request: those of its place, or those that its path and headers hint at.
    pub(crate) fn family(request: &Request) -> Family {
        if let Some(place) = Self::of(request) {
            return place.family;
        }
        let hints = [
            ("/model/", Family::Bedrock),
            ("/v1beta", Family::Google),
            ("/v1/projects/", Family::Google),
            ("/v2/", Family::Cohere),
            ("/api/", Family::Ollama),
            ("/openai/deployments/", Family::Azure),
        ];
        let path = request.path();
        let hinted = hints.iter().find(|(start, _)| path.starts_with(start)).map(|(_, family)| *family);
        hinted.unwrap_or_else(|| by_headers(path, request))
    }
}

/// `/model/{model}/...`: the model is one segment, in which `/` and `:` may be escaped.
fn bedrock(path: &str) -> Option<Place> {
    let (model, verb) = path.strip_prefix("/model/")?.split_once('/')?;
    let (api, stream) = match verb {
        "converse" => (Api::Converse, Some(false)),
        "converse-stream" => (Api::Converse, Some(true)),
        "count-tokens" => (Api::ConverseCount, Some(false)),
        "invoke" => (Api::Invoke, Some(false)),
        "invoke-with-response-stream" => (Api::Invoke, Some(true)),
        _ => return None,
    };
    Some(Place { api, family: Family::Bedrock, model: Some(unescaped(model)?), stream })
}

/// `/openai/deployments/{deployment}/...`, where a deployment stands for a model, and `/openai/responses`.
fn azure(path: &str) -> Option<Place> {
    if path == "/openai/responses" {
        return Some(Place { api: Api::Responses, family: Family::Azure, model: None, stream: None });
    }
    let (model, rest) = path.strip_prefix("/openai/deployments/")?.split_once('/')?;
    let api = match rest {
        "chat/completions" => Api::Chat,
        "completions" => Api::Completions,
        "embeddings" => Api::Embeddings,
        _ => return None,
    };
    Some(Place { api, family: Family::Azure, model: Some(unescaped(model)?), stream: None })
}

/// `/{version}/models/{model}:{verb}`, with Vertex AI's names before `models` or without.
fn google(path: &str) -> Option<Place> {
    let (rest, verb) = path.rsplit_once(':')?;
    let rest = VERSIONS.iter().find_map(|version| rest.strip_prefix(version))?;
    let (publisher, name) = match rest.strip_prefix("/projects/") {
        Some(rest) => {
            let (_project, rest) = rest.split_once("/locations/")?;
            let (_location, rest) = rest.split_once("/publishers/")?;
            rest.split_once("/models/")?
        }
        None => match rest.strip_prefix("/publishers/") {
            Some(rest) => rest.split_once("/models/")?,
            None => ("google", rest.strip_prefix("/models/").or_else(|| rest.strip_prefix("/tunedModels/"))?),
        },
    };
    let (family, api, stream) = match (publisher, verb) {
        ("google", "generateContent") => (Family::Google, Api::Generate, false),
        ("google", "streamGenerateContent") => (Family::Google, Api::Generate, true),
        ("google", "countTokens") => (Family::Google, Api::GenerateCount, false),
        ("google", "embedContent") => (Family::Google, Api::EmbedContent, false),
        ("google", "batchEmbedContents") => (Family::Google, Api::BatchEmbedContents, false),
        ("google", "predict") => (Family::Google, Api::Predict, false),
        ("anthropic", "rawPredict") => (Family::VertexClaude, Api::RawPredict, false),
        ("anthropic", "streamRawPredict") => (Family::VertexClaude, Api::RawPredict, true),
        _ => return None,
    };
    Some(Place { api, family, model: Some(unescaped(name)?), stream: Some(stream) })
}

/// The longer ones first: one may begin another.
const VERSIONS: [&str; 4] = ["/v1beta1", "/v1beta", "/v1alpha", "/v1"];

/// The APIs whose paths are always the same.
fn plain(path: &str, request: &Request) -> Option<Place> {
    let (family, api) = match path {
        "/v2/chat" => (Family::Cohere, Api::CohereChat),
        "/v2/embed" => (Family::Cohere, Api::CohereEmbed),
        "/v2/rerank" => (Family::Cohere, Api::CohereRerank),
        "/api/chat" => (Family::Ollama, Api::OllamaChat),
        "/api/embed" => (Family::Ollama, Api::OllamaEmbed),
        "/api/tags" => (Family::Ollama, Api::OllamaTags),
        "/api/version" => (Family::Ollama, Api::OllamaVersion),
        _ => {
            let resource = resource(path);
            let api = match resource {
                "/chat/completions" => Api::Chat,
                "/completions" => Api::Completions,
                "/embeddings" => Api::Embeddings,
                "/responses" => Api::Responses,
                "/responses/input_tokens" => Api::InputTokens,
                "/messages" => Api::Messages,
                "/messages/count_tokens" => Api::CountTokens,
                "/models" => Api::Models,
                _ => {
                    let model = unescaped(resource.strip_prefix("/models/")?)?;
                    let family = by_headers(path, request);
                    return Some(Place { api: Api::Model, family, model: Some(model), stream: None });
                }
            };
            (by_headers(path, request), api)
        }
    };
    Some(Place { api, family, model: None, stream: None })
}

/// The path without the version before it.
fn resource(path: &str) -> &str {
    let starts = ["/openai/v1", "/anthropic/v1", "/v1beta/openai", "/v1beta", "/v1"];
    let rest = starts.iter().find_map(|start| path.strip_prefix(start));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// Paths that several share are told apart by what their clients send.
fn by_headers(path: &str, request: &Request) -> Family {
    let has = |name| request.headers.contains_key(name);
    if resource(path).starts_with("/messages") || has("anthropic-version") {
        Family::Anthropic
    } else if path.starts_with("/v1beta/") || has("x-goog-api-key") || has("x-goog-api-client") {
        Family::Google
    } else {
        Family::OpenAi
    }
}

/// A name without its percent escapes; nothing where they are none, or where nothing is left.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('%') {
        let (digits, next) = after.split_at_checked(2)?;
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = next;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue, Version};

    fn request(target: &str, header: Option<&'static str>) -> Request {
        let mut headers = HeaderMap::new();
        if let Some(name) = header {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        Request {
            method: Method::POST,
            target: target.into(),
            version: Version::HTTP_11,
            headers,
            body: Vec::new().into(),
            body_len: 0,
            connection: 0,
        }
    }

    #[test]
    fn a_path_names_an_api_and_perhaps_its_model() {
        let vertex = "/v1/projects/p/locations/l/publishers";
        for (path, api, family, model, stream) in [
            ("/v1/chat/completions", Api::Chat, Family::OpenAi, None, None),
            ("/openai/v1/responses?x=1", Api::Responses, Family::OpenAi, None, None),
            (
                "/openai/deployments/my%20gpt/chat/completions?api-version=1",
                Api::Chat,
                Family::Azure,
                Some("my gpt"),
                None,
            ),
            ("/openai/responses?api-version=1", Api::Responses, Family::Azure, None, None),
            ("/messages/count_tokens", Api::CountTokens, Family::Anthropic, None, None),
            ("/v1beta/models/g:generateContent", Api::Generate, Family::Google, Some("g"), Some(false)),
            (
                "/v1/models/g:streamGenerateContent?alt=sse",
                Api::Generate,
                Family::Google,
                Some("g"),
                Some(true),
            ),
            ("/v1beta/models", Api::Models, Family::Google, None, None),
            ("/v1beta/models/g:countTokens", Api::GenerateCount, Family::Google, Some("g"), Some(false)),
            (
                &format!("{vertex}/google/models/g:embedContent"),
                Api::EmbedContent,
                Family::Google,
                Some("g"),
                Some(false),
            ),
            (
                &format!("{vertex}/anthropic/models/claude%40001:streamRawPredict"),
                Api::RawPredict,
                Family::VertexClaude,
                Some("claude@001"),
                Some(true),
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3A%3A1%3Aprofile%2Fx/converse-stream",
                Api::Converse,
                Family::Bedrock,
                Some("arn:aws:bedrock::1:profile/x"),
                Some(true),
            ),
            ("/model/a:0/invoke", Api::Invoke, Family::Bedrock, Some("a:0"), Some(false)),
            ("/api/chat", Api::OllamaChat, Family::Ollama, None, None),
            ("/v2/rerank", Api::CohereRerank, Family::Cohere, None, None),
        ] {
            let model = model.map(str::to_owned);
            assert_eq!(Place::of(&request(path, None)), Some(Place { api, family, model, stream }), "{path}");
        }
    }

    #[test]
    fn what_is_nowhere_still_has_a_family() {
        for (path, header, family) in [
            ("/model//converse", None, Family::Bedrock),
            ("/model/a%2/converse", None, Family::Bedrock),
            ("/v1beta/fly", None, Family::Google),
            ("/v2/fly", None, Family::Cohere),
            ("/api/fly", None, Family::Ollama),
            ("/v1/fly", Some("anthropic-version"), Family::Anthropic),
            ("/v1/fly", Some("x-goog-api-key"), Family::Google),
            ("/v1/fly", None, Family::OpenAi),
        ] {
            let request = request(path, header);
            assert_eq!((Place::of(&request), Place::family(&request)), (None, family), "{path}");
        }
    }
}
