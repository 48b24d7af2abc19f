//! The forms in which one dialect is asked for at different clouds: the same bodies and events, at other paths, with a
//! member more or less, in other frames.
//!
//! | form | path, below the base | body | stream |
//! |---|---|---|---|
//! | [`Form::Own`] | the dialect's | as it is | as it is |
//! | [`Form::Deployments`] | `/deployments/{model}/chat/completions?api-version=...` | as it is | as it is |
//! | [`Form::Dated`] | the dialect's, `?api-version=...` | as it is | as it is |
//! | [`Form::Vertex`] | `/models/{model}:rawPredict`, `:streamRawPredict` | no `model`; `anthropic_version` | as it is |
//! | [`Form::Invoke`] | `/model/{model}/invoke`, `/invoke-with-response-stream` | no `model`, no `stream`; `anthropic_version`, `anthropic_beta` | in AWS's frames ([`Unframed`]) |
//!
//! Sources: the data plane reference of Azure OpenAI; "Claude on Vertex AI" and "Claude on Amazon Bedrock" of Anthropic,
//! and its SDKs for both.

mod unframed;

use std::borrow::Cow;

use super::Operation;
use super::named::escaped;
use crate::json::envelope::reshape;
use crate::json::{Edits, Fault, quote};

pub use unframed::Unframed;

/// The form in which an API takes what it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As the dialect's own vendor has it.
    #[default]
    Own,
    /// Azure OpenAI's dated API, in which a model is a deployment and part of the path.
    Deployments {
        /// The version asked for, `2024-10-21`.
        version: String,
    },
    /// With a version of the API in the query, as Azure AI Foundry has it.
    Dated {
        /// The version asked for, `2024-05-01-preview`.
        version: String,
    },
    /// Anthropic Messages on Google's Vertex AI.
    Vertex,
    /// Anthropic Messages through `InvokeModel` of Amazon Bedrock.
    Invoke,
}

impl Form {
    /// The path at which `operation` is asked of `model`, below the base; where a query belongs to it, with that.
    pub fn path(&self, operation: Operation, model: &str, stream: bool) -> Cow<'static, str> {
        let path = match (self, operation) {
            (Self::Deployments { version }, _) => deployment(version, operation, model),
            (Self::Dated { version }, _) => format!("{}?api-version={version}", operation.path()),
            (Self::Vertex, Operation::CountTokens) => "/models/count-tokens:rawPredict".to_owned(),
            (Self::Vertex, Operation::Messages) => {
                let verb = if stream { "streamRawPredict" } else { "rawPredict" };
                format!("/models/{}:{verb}", escaped(model, "@"))
            }
            (Self::Invoke, Operation::Messages) => {
                let verb = if stream { "invoke-with-response-stream" } else { "invoke" };
                format!("/model/{}/{verb}", escaped(model, ""))
            }
            _ => return operation.path_of(model, stream),
        };
        Cow::Owned(path)
    }

    /// Whether the path holds all of the query that the upstream reads.
    pub fn has_query(&self) -> bool {
        matches!(self, Self::Deployments { .. } | Self::Dated { .. })
    }

    /// Whether a request has to be edited.
    pub fn reshapes(&self, operation: Operation) -> bool {
        match self {
            Self::Own | Self::Deployments { .. } | Self::Dated { .. } => false,
            Self::Vertex => matches!(operation, Operation::Messages | Operation::CountTokens),
            Self::Invoke => operation == Operation::Messages,
        }
    }

    /// What changes in the body of such a request, which is for `model`. `betas` is the client's `anthropic-beta`.
    ///
    /// # Errors
    ///
    /// A [`Fault`] where the body is no object.
    pub fn edits(
        &self,
        operation: Operation,
        (body, model): (&[u8], &str),
        betas: Option<&str>,
    ) -> Result<Edits, Fault> {
        let version = |version: &str| format!("\"anthropic_version\":\"{version}\"").into_bytes();
        let (gone, members): (&[&str], _) = match self {
            Self::Vertex if operation == Operation::CountTokens => {
                let named = [&b"\"model\":"[..], &quote(model)].concat();
                (&["anthropic_version", "model"], vec![version(VERTEX), named])
            }
            Self::Vertex => (&["anthropic_version", "model"], vec![version(VERTEX)]),
            Self::Invoke => {
                let mut members = vec![version(INVOKE)];
                members.extend(betas.and_then(beta_member));
                (&["anthropic_version", "anthropic_beta", "model", "stream"], members)
            }
            Self::Own | Self::Deployments { .. } | Self::Dated { .. } => (&[], Vec::new()),
        };
        reshape(body, gone, &members)
    }

    /// Whether a reply of that media type comes in frames that have to be taken off.
    pub fn frames(&self, media: &str) -> bool {
        *self == Self::Invoke && media.starts_with(Operation::Converse.stream_media())
    }

    /// Whether errors come in the cloud's own shape, which is not the dialect's.
    pub fn has_own_errors(&self) -> bool {
        matches!(self, Self::Vertex | Self::Invoke)
    }
}

const VERTEX: &str = "vertex-2023-10-16";
const INVOKE: &str = "bedrock-2023-05-31";

fn deployment(version: &str, operation: Operation, model: &str) -> String {
    match operation {
        // Responses name the deployment in their body.
        Operation::Responses => format!("/responses?api-version={version}"),
        _ => format!("/deployments/{}{}?api-version={version}", escaped(model, ""), operation.path()),
    }
}

/// What a header lists, as a member: Bedrock does not read the header.
fn beta_member(betas: &str) -> Option<Vec<u8>> {
    let names = betas.split(',').map(str::trim).filter(|name| !name.is_empty());
    let quoted: Vec<_> = names.map(quote).collect();
    if quoted.is_empty() {
        return None;
    }
    let mut member = b"\"anthropic_beta\":[".to_vec();
    member.extend_from_slice(&quoted.join(&b','));
    member.push(b']');
    Some(member)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::json::splice;

    #[test]
    fn paths_are_those_of_the_clouds() {
        use Operation::{ChatCompletions, CountTokens, Embeddings, Messages, Responses};
        let dated = Form::Deployments { version: "2024-10-21".to_owned() };
        let claude = "anthropic.claude-sonnet-4-5-20250929-v1:0";
        for (form, operation, model, stream, path) in [
            (
                &dated,
                ChatCompletions,
                "my gpt",
                true,
                "/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
            ),
            (&dated, Embeddings, "ada", false, "/deployments/ada/embeddings?api-version=2024-10-21"),
            (&dated, Responses, "gpt", false, "/responses?api-version=2024-10-21"),
            (
                &Form::Vertex,
                Messages,
                "claude-opus-4@20250514",
                false,
                "/models/claude-opus-4@20250514:rawPredict",
            ),
            (&Form::Vertex, Messages, "claude", true, "/models/claude:streamRawPredict"),
            (&Form::Vertex, CountTokens, "claude", false, "/models/count-tokens:rawPredict"),
            (
                &Form::Invoke,
                Messages,
                claude,
                false,
                "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke",
            ),
            (&Form::Invoke, Messages, "arn:x/y", true, "/model/arn%3Ax%2Fy/invoke-with-response-stream"),
            (&Form::Own, Messages, "claude", true, "/messages"),
        ] {
            assert_eq!(form.path(operation, model, stream), path);
        }
    }

    #[test]
    fn bodies_lose_what_the_path_says_and_name_their_version() {
        let body = br#"{"model":"m","stream":true,"anthropic_version":"x","messages":[]}"#;
        let edited = |form: &Form, operation, betas| {
            let edits = form.edits(operation, (body, "there"), betas).unwrap();
            String::from_utf8(splice(&Bytes::from_static(body), &edits).concat()).unwrap()
        };
        assert_eq!(
            edited(&Form::Vertex, Operation::Messages, Some("a")),
            r#"{"anthropic_version":"vertex-2023-10-16","stream":true,"messages":[]}"#
        );
        assert_eq!(
            edited(&Form::Vertex, Operation::CountTokens, None),
            r#"{"anthropic_version":"vertex-2023-10-16","model":"there","stream":true,"messages":[]}"#
        );
        assert_eq!(
            edited(&Form::Invoke, Operation::Messages, Some("a, b\",,c")),
            r#"{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["a","b\"","c"],"messages":[]}"#
        );
        assert_eq!(
            edited(&Form::Invoke, Operation::Messages, Some(" ")),
            r#"{"anthropic_version":"bedrock-2023-05-31","messages":[]}"#
        );
    }
}
