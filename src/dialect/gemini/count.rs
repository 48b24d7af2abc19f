//! Counting the tokens of a prompt: `:countTokens`.

use serde::Deserialize;

use super::request;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::node::{Node, Path};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Notes, Request, Target};
use crate::error::Error;

/// Where a request goes, whose two forms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Google AI Studio, which takes the request to be counted whole, as `generateContentRequest`.
    Studio,
    /// Vertex AI, which takes its members.
    Vertex,
}

/// Reads what is to be counted, in either form.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] naming the path of what is wrong.
pub fn decode(body: &[u8]) -> Result<Request<'_>, Error> {
    let document = Node::parse(body)?;
    let mut fields = document.fields(Path::Root)?;
    let camel = fields.take("generateContentRequest")?;
    match camel.or(fields.take("generate_content_request")?) {
        Some(node) => request::read(node, Path::Root.member("generateContentRequest")),
        None => request::read(&document, Path::Root),
    }
}

/// Writes what is to be counted.
///
/// # Errors
///
/// As [`request::encode`].
pub fn encode(
    request: &Request<'_>,
    target: &Target<'_>,
    host: Host,
    notes: &mut Notes,
) -> Result<Vec<u8>, Error> {
    let body = request::encode(request, target, notes)?;
    if host == Host::Vertex {
        return Ok(body);
    }
    let mut out = b"{\"generateContentRequest\":{\"model\":".to_vec();
    crate::json::quote_into(&mut out, &format!("models/{}", target.model));
    out.push(b',');
    out.extend_from_slice(body.strip_prefix(b"{").unwrap_or(&body));
    out.push(b'}');
    Ok(out)
}

/// The tokens that a reply counts; nothing if it is none.
pub fn decode_reply(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Counted<'a> {
        #[serde(borrow, default, rename = "totalTokens")]
        total: Raw<'a>,
    }
    serde_json::from_slice::<Counted<'_>>(body).ok()?.total.count()
}

/// Writes a reply.
pub fn encode_reply(tokens: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = Object::begin(&mut out);
    body.count("totalTokens", tokens);
    body.end();
    out
}
