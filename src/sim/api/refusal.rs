//! Errors in the shape, and with the status, that each API gives them.

use super::{Family, Header, Reply, json_reply};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

/// An error reply before it has a shape.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { status: 400, code: None, param, message: message.into() }
    }

    pub(crate) fn key(absent: bool) -> Self {
        let message = if absent {
            "No API key was sent. Send the simulator's key as `Authorization: Bearer`, `x-api-key` or `api-key`."
        } else {
            "The API key is not the one this simulator was started with."
        };
        Self { status: 401, code: Some("invalid_api_key"), param: None, message: message.into() }
    }

    pub(crate) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist; `GET /v1/models` lists those that do.");
        Self { status: 404, code: Some("model_not_found"), param: Some("model"), message }
    }

    pub(crate) fn unknown_path(method: &Method, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}. This simulator does not serve it.");
        Self { status: 404, code: Some("unknown_url"), param: None, message }
    }

    pub(crate) fn method(method: &Method, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}.");
        Self { status: 405, code: Some("method_not_supported"), param: None, message }
    }

    pub(crate) fn context(family: Family, tokens: u64, limit: u64) -> Self {
        let message = match family {
            Family::Anthropic => format!("prompt is too long: {tokens} tokens > {limit} maximum"),
            Family::OpenAi => format!("The prompt has {tokens} tokens, the model's context holds {limit}."),
        };
        Self { status: 400, code: Some("context_length_exceeded"), param: Some("messages"), message }
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self {
            status: 413,
            code: None,
            param: None,
            message: format!("The request body is over {limit} bytes."),
        }
    }

    pub(crate) fn overloaded(status: u16) -> Self {
        Self { status, code: Some("server_is_overloaded"), param: None, message: "Overloaded".into() }
    }

    pub(crate) fn server(message: &str) -> Self {
        Self { status: 500, code: None, param: None, message: message.into() }
    }

    /// An error of that status which nobody asked for.
    pub(crate) fn simulated(status: u16) -> Self {
        match status {
            429 => Self {
                status,
                code: Some("rate_limit_exceeded"),
                param: None,
                message: "Rate limit reached. Try again later.".into(),
            },
            503 | 529 => Self::overloaded(status),
            401 => Self::key(false),
            404 => Self::unknown_model("simulated"),
            _ => Self {
                status,
                code: None,
                param: None,
                message: format!("A simulated error of status {status}."),
            },
        }
    }

    /// The JSON of the error.
    pub(crate) fn body(&self, family: Family, request_id: Option<&str>) -> Value {
        match family {
            Family::Anthropic => json!({
                "type": "error",
                "error": {"type": self.anthropic_type(), "message": self.message},
                "request_id": request_id,
            }),
            Family::OpenAi => json!({
                "error": {
                    "message": self.message,
                    "type": self.openai_type(),
                    "param": self.param,
                    "code": self.code,
                },
            }),
        }
    }

    pub(crate) fn reply(&self, family: Family) -> Reply {
        let mut reply = json_reply(self.status, &self.body(family, None));
        if family == Family::Anthropic {
            let again = matches!(self.status, 408 | 409 | 429) || self.status >= 500;
            reply.headers.push(header("x-should-retry", if again { "true" } else { "false" }));
        }
        reply
    }

    fn openai_type(&self) -> &'static str {
        match self.status {
            429 => "requests",
            503 | 529 => "service_unavailable_error",
            500.. => "server_error",
            _ => "invalid_request_error",
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
}

fn header(name: &'static str, value: &'static str) -> Header {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_shape() {
        let refusal = Refusal::key(false);
        assert_eq!(refusal.body(Family::OpenAi, None)["error"]["code"], "invalid_api_key");
        let anthropic = refusal.body(Family::Anthropic, Some("req_1"));
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "authentication_error");
        assert_eq!(anthropic["request_id"], "req_1");
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
