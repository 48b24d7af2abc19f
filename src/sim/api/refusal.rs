//! Errors in the shape, and with the status, that each API gives them.

use super::family::Family;
use super::{Header, Reply, json_reply};
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use std::borrow::Cow;

/// An error reply before it has a shape.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    code: Option<&'static str>,
    param: Option<Cow<'static, str>>,
    message: String,
    retry_after: Option<u64>,
}

/// The code of an account without money or quota.
const QUOTA: &str = "insufficient_quota";

impl Refusal {
    fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into(), retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { param: param.map(Cow::Borrowed), ..Self::new(400, None, message) }
    }

    /// The same, about a member of the request.
    pub(crate) fn about(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The same, with a code: for Bedrock, the name of an exception.
    pub(crate) fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same, to be asked again after so many seconds.
    pub(crate) fn after(self, seconds: Option<u64>) -> Self {
        Self { retry_after: seconds, ..self }
    }

    pub(crate) fn key(family: Family, absent: bool) -> Self {
        let status = match (family, absent) {
            (Family::Google, true) | (Family::Bedrock, _) => 403,
            (Family::Google, false) => 400,
            _ => 401,
        };
        let message = if absent {
            "No API key was sent. Send the simulator's key in the header that this API uses for it."
        } else {
            "The API key is not the one this simulator was started with."
        };
        Self::new(status, Some("invalid_api_key"), message)
    }

    pub(crate) fn unknown_model(family: Family, model: &str) -> Self {
        let (status, message) = match family {
            Family::Bedrock => (400, "The provided model identifier is invalid.".into()),
            Family::Google => {
                (404, format!("models/{model} is not found, or is not supported for this method."))
            }
            Family::Cohere => {
                (404, format!("model '{model}' not found, make sure the correct model ID was used"))
            }
            Family::Ollama => (404, format!("model '{model}' not found")),
            Family::Azure => (404, format!("The API deployment `{model}` for this resource does not exist.")),
            _ => (404, format!("The model `{model}` does not exist; `GET /v1/models` lists those that do.")),
        };
        Self::new(status, Some("model_not_found"), message).about("model")
    }

    pub(crate) fn unknown_path(method: &Method, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}. This simulator does not serve it.");
        Self::new(404, Some("unknown_url"), message)
    }

    pub(crate) fn method(method: &Method, path: &str) -> Self {
        Self::new(405, Some("method_not_supported"), format!("Not allowed to {method} on {path}."))
    }

    pub(crate) fn context(family: Family, tokens: u64, limit: u64) -> Self {
        let message = match family {
            Family::Anthropic | Family::VertexClaude => {
                format!("prompt is too long: {tokens} tokens > {limit} maximum")
            }
            Family::Google => format!(
                "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit})."
            ),
            Family::Bedrock => "Input is too long for requested model.".into(),
            Family::Cohere => format!("too many tokens: size limit exceeded by {} tokens.", tokens - limit),
            Family::Ollama => {
                format!("prompt too long; exceeded max context length by {} tokens", tokens - limit)
            }
            Family::OpenAi | Family::Azure => {
                format!("The prompt has {tokens} tokens, the model's context holds {limit}.")
            }
        };
        Self::new(400, Some("context_length_exceeded"), message).about("messages")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, None, format!("The request body is over {limit} bytes."))
    }

    pub(crate) fn overloaded(status: u16) -> Self {
        Self::new(status, Some("server_is_overloaded"), "Overloaded")
    }

    /// No money is left, as OpenAI says it.
    pub(crate) fn quota() -> Self {
        Self::new(429, Some(QUOTA), "No quota is left. Look at your plan and your bill.")
    }

    pub(crate) fn server(message: &str) -> Self {
        Self::new(500, None, message)
    }

    /// An error of that status which nobody asked for.
    pub(crate) fn simulated(status: u16) -> Self {
        match status {
            429 => Self::new(status, Some("rate_limit_exceeded"), "Rate limit reached. Try again later."),
            503 | 529 => Self::overloaded(status),
            401 => Self::key(Family::OpenAi, false),
            404 => Self::unknown_model(Family::OpenAi, "simulated"),
            _ => Self::new(status, None, format!("A simulated error of status {status}.")),
        }
    }

    /// The JSON of the error.
    pub(crate) fn body(&self, family: Family, request_id: Option<&str>) -> Value {
        match family {
            Family::VertexClaude if matches!(self.status, 401 | 403 | 404 | 429) => self.google(),
            Family::Anthropic | Family::VertexClaude => json!({
                "type": "error",
                "error": {"type": self.anthropic_type(), "message": self.message},
                "request_id": request_id,
            }),
            Family::Azure if matches!(self.status, 401 | 403 | 404 | 429) => {
                json!({"error": {"code": self.azure_code(), "message": self.message}})
            }
            Family::OpenAi | Family::Azure => json!({
                "error": {
                    "message": self.message,
                    "type": self.openai_type(),
                    "param": self.param,
                    "code": self.code,
                },
            }),
            Family::Google => self.google(),
            Family::Bedrock => json!({"message": self.message}),
            Family::Cohere => {
                let id = request_id.unwrap_or("00000000-0000-0000-0000-000000000000");
                let mut body = json!({"id": id, "message": self.message});
                if self.code == Some("context_length_exceeded") {
                    body["error_type"] = json!("TOO_MANY_TOKENS");
                }
                body
            }
            Family::Ollama => json!({"error": self.message}),
        }
    }

    pub(crate) fn reply(&self, family: Family) -> Reply {
        let mut reply = json_reply(self.status, &self.body(family, None));
        match family {
            Family::Anthropic => {
                let again = matches!(self.status, 408 | 409 | 429) || self.status >= 500;
                reply.headers.push(named("x-should-retry", if again { "true" } else { "false" }));
            }
            Family::Bedrock => reply.headers.push(named("x-amzn-errortype", self.aws_type())),
            _ => {}
        }
        if let Some(seconds) = self.retry_after.filter(|_| family != Family::Google) {
            reply.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        reply
    }

    /// Google says in the body what others say in headers.
    fn google(&self) -> Value {
        let mut details = Vec::new();
        match (self.status, &self.param, self.code) {
            (_, _, Some("invalid_api_key")) => details.push(json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            })),
            (400, Some(param), _) => details.push(json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": param, "description": self.message}],
            })),
            (429, ..) => details.push(json!({
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
            })),
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            let delay = format!("{seconds}s");
            details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}));
        }
        let mut error = json!({"code": self.status, "message": self.message, "status": self.google_status()});
        if !details.is_empty() {
            error["details"] = details.into();
        }
        json!({"error": error})
    }

    fn openai_type(&self) -> &'static str {
        match self.status {
            429 if self.code == Some(QUOTA) => QUOTA,
            429 => "requests",
            503 | 529 => "service_unavailable_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn azure_code(&self) -> Cow<'static, str> {
        match (self.status, self.code) {
            (404, Some("model_not_found")) => "DeploymentNotFound".into(),
            (429, Some(QUOTA)) => QUOTA.into(),
            (429, _) => "RateLimitReached".into(),
            (status, _) => status.to_string().into(),
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            409 => "conflict_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The names of `google.rpc.Code` that go with a status.
    fn google_status(&self) -> &'static str {
        match self.status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            499 => "CANCELLED",
            503 | 529 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        }
    }

    /// The exceptions that the service model of Bedrock's runtime names.
    pub(crate) fn aws_type(&self) -> &'static str {
        match (self.status, self.code) {
            (_, Some(code)) if code.ends_with("Exception") => code,
            (401 | 403, Some("invalid_api_key")) => "UnrecognizedClientException",
            (401 | 403, _) => "AccessDeniedException",
            (404, _) => "ResourceNotFoundException",
            (408, _) => "ModelTimeoutException",
            (424, _) => "ModelErrorException",
            (429, _) => "ThrottlingException",
            (503 | 529, _) => "ServiceUnavailableException",
            (500.., _) => "InternalServerException",
            _ => "ValidationException",
        }
    }
}

fn named(name: &'static str, value: &'static str) -> Header {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_shape() {
        let refusal = Refusal::key(Family::OpenAi, false);
        assert_eq!(refusal.body(Family::OpenAi, None)["error"]["code"], "invalid_api_key");
        let anthropic = refusal.body(Family::Anthropic, Some("req_1"));
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "authentication_error");
        assert_eq!(anthropic["request_id"], "req_1");
        let refusal = Refusal::simulated(429).after(Some(7));
        let said = |family| (refusal.reply(family).headers.len(), refusal.body(family, None));
        let (headers, google) = said(Family::Google);
        assert_eq!((headers, &google["error"]["status"]), (1, &json!("RESOURCE_EXHAUSTED")));
        assert_eq!(google["error"]["details"][1]["retryDelay"], "7s");
        assert_eq!(said(Family::Azure).1["error"]["code"], "RateLimitReached");
        assert_eq!(said(Family::Bedrock).0, 3, "media type, name of the exception, time to wait");
        assert_eq!(
            (said(Family::Bedrock).1, refusal.aws_type()),
            (json!({"message": refusal.message}), "ThrottlingException")
        );
        assert_eq!(said(Family::Cohere).1["message"], refusal.message);
        assert_eq!(said(Family::Ollama).1, json!({"error": refusal.message}));
        assert_eq!(said(Family::VertexClaude).1, google);
    }

    #[test]
    fn simulated_errors_keep_their_status() {
        for status in [400, 401, 404, 408, 429, 500, 502, 503, 529] {
            assert_eq!(Refusal::simulated(status).reply(Family::OpenAi).status, status);
        }
        assert_eq!(
            Refusal::simulated(529).body(Family::Anthropic, None)["error"]["type"],
            "overloaded_error"
        );
        assert_eq!(
            Refusal::simulated(429).body(Family::OpenAi, None)["error"]["code"],
            "rate_limit_exceeded"
        );
    }
}
