//! Recorded traffic, where this checkout has it: beside the repository in `../shared/fixtures`, or in the folder that
//! `FOREBAY_FIXTURES` names. Nothing of it is part of the project, so every test that uses it must pass without it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forebay::dialect::Operation;
use serde_yaml::Value;

/// One recorded request and its reply.
pub(crate) struct Exchange {
    /// The file it is in.
    pub(crate) file: String,
    /// What was asked.
    pub(crate) operation: Operation,
    /// The body of the request.
    pub(crate) request: Vec<u8>,
    /// The status of the reply.
    pub(crate) status: u64,
    /// The body of the reply.
    pub(crate) reply: Vec<u8>,
}

impl Exchange {
    /// Whether the reply is a stream of server-sent events.
    pub(crate) fn is_stream(&self) -> bool {
        [b"data:".as_slice(), b"event:", b":"].iter().any(|start| self.reply.starts_with(start))
    }
}

/// The folder of fixtures called `name`, if there is one.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = env::var_os("FOREBAY_FIXTURES").map_or(beside, PathBuf::from);
    Some(root.join(name)).filter(|folder| folder.is_dir())
}

/// The recorded exchanges of the dialects that are spoken verbatim, in the order of their files.
pub(crate) fn exchanges() -> Option<Vec<Exchange>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder("ruby_llm")?).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    Some(files.iter().flat_map(|file| in_file(file)).collect())
}

fn in_file(file: &Path) -> Vec<Exchange> {
    let text = fs::read_to_string(file).unwrap();
    if !PATHS.iter().any(|(path, _)| text.contains(path)) {
        return Vec::new();
    }
    let recording: Value = serde_yaml::from_str(&text).unwrap();
    let interactions = recording["http_interactions"].as_sequence().unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let exchange = |interaction: &Value| {
        let (request, response) = (&interaction["request"], &interaction["response"]);
        Some(Exchange {
            file: name.clone(),
            operation: operation(request["uri"].as_str()?)?,
            request: bytes(&request["body"]["string"]),
            status: response["status"]["code"].as_u64()?,
            reply: bytes(&response["body"]["string"]),
        })
    };
    interactions.iter().filter_map(exchange).collect()
}

const PATHS: [(&str, Operation); 5] = [
    ("/chat/completions", Operation::ChatCompletions),
    ("/embeddings", Operation::Embeddings),
    ("/responses", Operation::Responses),
    ("/v1/messages", Operation::Messages),
    ("/v1/messages/count_tokens", Operation::CountTokens),
];

/// What a recorded URI asks for. Google's and Amazon's own APIs have none of these paths.
fn operation(uri: &str) -> Option<Operation> {
    let path = uri.split('?').next()?;
    PATHS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, operation)| *operation)
}

/// A recorded body: text, or base64 under the tag `!binary`.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Tagged(tagged) => {
            let text: String = tagged.value.as_str().unwrap().split_whitespace().collect();
            STANDARD.decode(text).unwrap()
        }
        _ => Vec::new(),
    }
}
