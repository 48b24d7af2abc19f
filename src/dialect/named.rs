//! Paths that name the model, and say whether the reply streams.

use std::borrow::Cow;

use super::Operation;

/// The versions of Google's APIs. SDKs differ in which they ask for; the path is the same in all.
const VERSIONS: [&str; 5] = ["", "/v1", "/v1beta", "/v1beta1", "/v1alpha"];

/// What a path denotes that names its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'p> {
    /// What is asked.
    pub operation: Operation,
    /// The model's name, without escapes.
    pub model: Cow<'p, str>,
    /// Whether the reply streams.
    pub stream: bool,
}

impl Operation {
    /// What a path denotes that names its model: the part of the target after the route's base path, without the query.
    ///
    /// | operation | paths |
    /// |---|---|
    /// | Gemini, AI Studio | `/v1beta/models/{model}:generateContent`, `:countTokens`, of any version or none |
    /// | Gemini, Vertex AI | `/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:generateContent`, or from `/publishers` on |
    /// | Converse | `/model/{model}/converse`, in which the model is one segment |
    ///
    /// `:streamGenerateContent` and `/converse-stream` stream. A name that is empty, holds control characters, is no
    /// UTF-8, is badly escaped, or has an empty segment or one of dots is none.
    pub fn named(path: &str) -> Option<Named<'_>> {
        converse(path).or_else(|| generate_content(path))
    }

    /// The path at which an upstream is asked this of `model`, below its base; where a query belongs to it, with that.
    pub fn path_of(self, model: &str, stream: bool) -> Cow<'static, str> {
        let path = match (self, stream) {
            (Self::GenerateContent, false) => format!("/models/{}:generateContent", escaped(model, "/")),
            (Self::GenerateContent, true) => {
                format!("/models/{}:streamGenerateContent?alt=sse", escaped(model, "/"))
            }
            (Self::GeminiCount, _) => format!("/models/{}:countTokens", escaped(model, "/")),
            (Self::GeminiEmbed, _) => format!("/models/{}:batchEmbedContents", escaped(model, "/")),
            (Self::VertexEmbed, _) => format!("/models/{}:predict", escaped(model, "/")),
            (Self::Converse, false) => format!("/model/{}/converse", escaped(model, "")),
            (Self::Converse, true) => format!("/model/{}/converse-stream", escaped(model, "")),
            _ => return Cow::Borrowed(self.path()),
        };
        Cow::Owned(path)
    }
}

fn converse(path: &str) -> Option<Named<'_>> {
    let (name, verb) = path.strip_prefix("/model/")?.split_once('/')?;
    let stream = match verb {
        "converse" => false,
        "converse-stream" => true,
        _ => return None,
    };
    Some(Named { operation: Operation::Converse, model: model(name)?, stream })
}

fn generate_content(path: &str) -> Option<Named<'_>> {
    let (place, verb) = path.rsplit_once(':')?;
    let (operation, stream) = match verb {
        "generateContent" => (Operation::GenerateContent, false),
        "streamGenerateContent" => (Operation::GenerateContent, true),
        "countTokens" => (Operation::GeminiCount, false),
        _ => return None,
    };
    // A version may begin another: what follows it tells.
    let name = VERSIONS.iter().find_map(|version| {
        let rest = place.strip_prefix(version)?;
        project(rest).unwrap_or(rest).strip_prefix("/models/")
    })?;
    Some(Named { operation, model: model(name)?, stream })
}

/// What follows the names that Vertex AI puts before the model's.
fn project(path: &str) -> Option<&str> {
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.');
    let publishers = match path.strip_prefix("/projects/") {
        Some(rest) => {
            let (project, rest) = rest.split_once("/locations/")?;
            let (location, rest) = rest.split_once('/')?;
            (is_name(project) && !project.contains('/') && is_name(location)).then_some(rest)?
        }
        None => path.strip_prefix('/')?,
    };
    publishers.strip_prefix("publishers/google")
}

/// A model's name without its escapes (RFC 3986 §2.1); nothing if it is none.
fn model(escaped: &str) -> Option<Cow<'_, str>> {
    let name = unescaped(escaped)?;
    let is_sound = |segment: &str| !matches!(segment, "" | "." | "..");
    (name.split('/').all(is_sound) && !name.contains(char::is_control)).then_some(name)
}

fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let Some((start, mut rest)) = text.split_once('%') else { return Some(Cow::Borrowed(text)) };
    let mut bytes = start.as_bytes().to_vec();
    loop {
        let (digits, after) = rest.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        match after.split_once('%') {
            Some((plain, next)) => {
                bytes.extend_from_slice(plain.as_bytes());
                rest = next;
            }
            None => {
                bytes.extend_from_slice(after.as_bytes());
                return String::from_utf8(bytes).ok().map(Cow::Owned);
            }
        }
    }
}

/// A name with everything escaped but the unreserved characters (RFC 3986 §2.3) and those in `kept`. A segment of dots
/// is escaped too: it would lead elsewhere.
pub(super) fn escaped(name: &str, kept: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(name.len());
    let mut is_dots = false;
    for (at, byte) in name.bytes().enumerate() {
        if at == 0 || name.as_bytes().get(at - 1) == Some(&b'/') {
            let segment = name.get(at..).and_then(|rest| rest.split('/').next());
            is_dots = matches!(segment, Some("." | ".."));
        }
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
        if (is_plain && !is_dots) || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(HEX[usize::from(digit)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_model() {
        use Operation::{Converse, GenerateContent};
        for (path, operation, model, stream) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", GenerateContent, "gemini-2.5-pro", false),
            ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", GenerateContent, "gemini-2.5-pro", true),
            ("/v1/models/m:generateContent", GenerateContent, "m", false),
            ("/v1alpha/models/m:generateContent", GenerateContent, "m", false),
            ("/models/m:streamGenerateContent", GenerateContent, "m", true),
            ("/v1beta/models/m:countTokens", Operation::GeminiCount, "m", false),
            ("/models/org/m:generateContent", GenerateContent, "org/m", false),
            ("/models/org%2Fm%3a7b:generateContent", GenerateContent, "org/m:7b", false),
            ("/models/qwen:7b:generateContent", GenerateContent, "qwen:7b", false),
            ("/models/%C3%A9%25:generateContent", GenerateContent, "é%", false),
            (
                "/v1/projects/p-1/locations/europe-west4/publishers/google/models/m:generateContent",
                GenerateContent,
                "m",
                false,
            ),
            (
                "/v1beta1/projects/p/locations/global/publishers/google/models/m:streamGenerateContent",
                GenerateContent,
                "m",
                true,
            ),
            ("/v1beta1/publishers/google/models/m:generateContent", GenerateContent, "m", false),
            ("/model/amazon.nova-pro-v1%3A0/converse", Converse, "amazon.nova-pro-v1:0", false),
            ("/model/amazon.nova-pro-v1:0/converse-stream", Converse, "amazon.nova-pro-v1:0", true),
            (
                "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.m/converse",
                Converse,
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.m",
                false,
            ),
            ("/model/converse/converse", Converse, "converse", false),
        ] {
            let expected = Named { operation, model: Cow::Borrowed(model), stream };
            assert_eq!(Operation::named(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_not_quite_right_denotes_nothing() {
        for path in [
            "",
            "/",
            "/v1/chat/completions",
            "/v1beta/models",
            "/v1beta/models/m",
            "/v1beta/models/m:",
            "/v1beta/models/m:embedContent",
            "/v1beta/models/m:generatecontent",
            "/v1beta/models/m:generateContent/",
            "/v1beta/models/m:generateContent?alt=sse",
            "/v1beta/models/m%3AgenerateContent",
            "/v1beta/models/:generateContent",
            "/v1beta/models//m:generateContent",
            "/v1beta/models/m/:generateContent",
            "/v1beta/models/../m:generateContent",
            "/v1beta/models/%2e%2E/m:generateContent",
            "/v1beta/models/a%2F%2Fb:generateContent",
            "/v1beta/models/m%:generateContent",
            "/v1beta/models/m%2:generateContent",
            "/v1beta/models/m%+2:generateContent",
            "/v1beta/models/m%zz:generateContent",
            "/v1beta/models/m%ff:generateContent",
            "/v1beta/models/m%00:generateContent",
            "/v1beta/models/m%0d%0a:generateContent",
            "/v2/models/m:generateContent",
            "/v1betamodels/m:generateContent",
            "/base/v1beta/models/m:generateContent",
            "v1beta/models/m:generateContent",
            "/v1/projects/p/locations/l/publishers/other/models/m:generateContent",
            "/v1/projects/p/locations/l/models/m:generateContent",
            "/v1/projects//locations/l/publishers/google/models/m:generateContent",
            "/v1/projects/../locations/l/publishers/google/models/m:generateContent",
            "/v1/projects/p/q/locations/l/publishers/google/models/m:generateContent",
            "/v1/projects/p/locations//publishers/google/models/m:generateContent",
            "/v1/projects/p/locations/l/x/publishers/google/models/m:generateContent",
            "/v1/publishers/google/google/models/m:generateContent",
            "/model//converse",
            "/model/m",
            "/model/m/",
            "/model/m/invoke",
            "/model/m/converse/",
            "/model/m/converse-stream?x",
            "/model/a/b/converse",
            "/model/%2E%2e/converse",
            "/model/m%/converse",
            "/v1/model/m/converse",
            "/models/m/converse",
        ] {
            assert_eq!(Operation::named(path), None, "{path}");
        }
    }

    #[test]
    fn what_names_its_model_is_at_no_path_of_its_own() {
        for path in ["", "/v1", "/", "/v1/", "/models/m:generateContent", "/model/m/converse"] {
            assert_eq!(Operation::at(path), None, "{path:?}");
        }
        for operation in Operation::ALL {
            let at = Operation::at(operation.path());
            let at_its_own = !operation.names_model() && !operation.is_upstreams();
            assert_eq!(at, at_its_own.then_some(operation));
            let told = operation.path_of("the-model", false);
            assert_eq!(operation.path().is_empty(), told.contains("the-model"), "{told}");
        }
    }

    #[test]
    fn an_upstream_is_asked_at_a_path_with_the_model_in_it() {
        use Operation::{ChatCompletions, Converse, GenerateContent};
        for (operation, model, stream, expected) in [
            (ChatCompletions, "a/b", true, "/chat/completions"),
            (GenerateContent, "gemini-2.5-pro", false, "/models/gemini-2.5-pro:generateContent"),
            (GenerateContent, "org/m:7b", true, "/models/org/m%3A7b:streamGenerateContent?alt=sse"),
            (GenerateContent, "a?b#c d%é", false, "/models/a%3Fb%23c%20d%25%C3%A9:generateContent"),
            (GenerateContent, "../..a/.", false, "/models/%2E%2E/..a/%2E:generateContent"),
            (Converse, "amazon.nova-pro-v1:0", false, "/model/amazon.nova-pro-v1%3A0/converse"),
            (Converse, "a:b/us.c", true, "/model/a%3Ab%2Fus.c/converse-stream"),
            (Converse, "..", false, "/model/%2E%2E/converse"),
        ] {
            assert_eq!(operation.path_of(model, stream), expected);
        }
    }

    #[test]
    fn a_path_that_was_written_is_read_as_the_same() {
        let mut random = fastrand::Rng::with_seed(3);
        let letters: Vec<char> = "ab/:.%?#é😀 -_~+=&".chars().collect();
        for _ in 0..2000 {
            let name: String =
                (0..random.usize(1..9)).map(|_| letters[random.usize(..letters.len())]).collect();
            let is_name = name.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
            for operation in [Operation::GenerateContent, Operation::Converse] {
                for stream in [false, true] {
                    let path = operation.path_of(&name, stream);
                    let path = path.strip_suffix("?alt=sse").unwrap_or(&path);
                    let expected = Named { operation, model: Cow::Borrowed(&name), stream };
                    assert_eq!(Operation::named(path), is_name.then_some(expected), "{path}");
                }
            }
        }
    }
}
