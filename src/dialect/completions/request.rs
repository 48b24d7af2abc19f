//! Requests for completions.

use crate::dialect::chat::request::{delivery, stops};
use crate::dialect::ir::node::{Fields, Node, Path, Value};
use crate::dialect::ir::{Content, Message, Origin, Output, Request, Role, Sampling, Text, Thinking};
use crate::error::Error;

/// Reads a request. No bound on output is made up where there is none, although OpenAI's own API then ends after 16
/// tokens: a model that thinks first would say nothing.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong, or of what only an upstream with the same
/// API can serve.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let mut left = Vec::new();
    let prompt = prompt(&mut fields)?;
    as_chat_has_it(&mut fields)?;
    let request = Request {
        origin: Origin::Completions,
        model: fields.need_text("model")?,
        messages: vec![Message { role: Role::User, parts: vec![Content::Text(prompt).into()] }],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tools: None,
        output: Output::Text,
        sampling: sampling(&mut fields)?,
        limit: fields.count("max_tokens")?,
        thinking: Thinking::default(),
        cache: None,
        service_tier: None,
        user: fields.text("user")?,
        metadata: None,
        delivery: delivery(&mut fields, &mut left)?,
        left: Vec::new(),
    };
    fields.leave(&mut left);
    Ok(Request { left, ..request })
}

/// The one prompt.
fn prompt<'a>(fields: &mut Fields<'_, 'a>) -> Result<Text<'a>, Error> {
    let path = Path::Root.member("prompt");
    let node = fields.need("prompt")?;
    let one = match &node.value {
        Value::Array(prompts) => match prompts.as_slice() {
            [] => return Err(path.fault("must hold a prompt")),
            [first, ..] if !matches!(first.value, Value::String) => first,
            [only] => only,
            _ => {
                return Err(
                    path.fault("the upstream of this model takes one prompt at a time; ask once for each")
                );
            }
        },
        _ => node,
    };
    match one.value {
        Value::String => one.text(path),
        Value::Number | Value::Array(_) => {
            Err(path.fault("the upstream of this model takes no tokens; send the prompt as text"))
        }
        _ => Err(path.wants("a string or an array of strings")),
    }
}

/// Takes what chat has no word for where it asks for nothing that a chat does not do, and leaves it where it does.
fn as_chat_has_it(fields: &mut Fields<'_, '_>) -> Result<(), Error> {
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        let why =
            "the upstream of this model cannot write what stands before a text; put all of it in 'prompt'";
        return Err(Path::Root.member("suffix").fault(why));
    }
    if fields.boolean("echo")? == Some(true) {
        fields.give_back("echo");
    }
    if fields.count("best_of")?.is_some_and(|most| most > 1) {
        fields.give_back("best_of");
    }
    Ok(())
}

/// `logprobs` is a number here: that of the alternatives told beside each token.
fn sampling<'a>(fields: &mut Fields<'_, 'a>) -> Result<Sampling<'a>, Error> {
    let alternatives = fields.count("logprobs")?;
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.integer("seed")?,
        logit_bias: fields.object("logit_bias")?,
        logprobs: alternatives.map(|_| true),
        top_logprobs: alternatives.filter(|most| *most > 0),
        replies: fields.count("n")?,
        stops: stops(fields)?,
    })
}
