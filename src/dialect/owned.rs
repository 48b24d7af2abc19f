//! What of a Responses exchange belongs to the credential that made it: ids that an API finds its own records by, and
//! reasoning that only it can decrypt. Another credential, or another node, knows nothing of them.
//!
//! Where a model has several such owners, Forebay puts a mark behind each when it passes to the client, and takes it off when
//! it comes back, which nobody else can make: [`crate::provider::seal`] has it.
//! The rest of a reply passes as it is.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::sse::Blocks;
use crate::json::{Edits, splice};

/// What a mark begins with.
pub const SIGN: &str = "_fb1";
/// A whole mark behind its sign, bytes before they are written as characters.
pub const MARK: usize = 12;

/// What an owner marks its own with.
pub trait Mark {
    /// The value with its mark.
    fn mark(&self, value: &str) -> String;
}

/// A value with a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked<'a> {
    /// As its owner knows it.
    pub plain: &'a str,
    /// The mark.
    pub mark: [u8; MARK],
}

impl<'a> Marked<'a> {
    /// Reads a value that has a mark, whoever's.
    pub fn read(value: &'a str) -> Option<Self> {
        let (plain, mark) = value.rsplit_once(SIGN).filter(|(_, mark)| mark.len() == MARK / 3 * 4)?;
        let mark = URL_SAFE_NO_PAD.decode(mark).ok()?.try_into().ok()?;
        Some(Self { plain, mark })
    }
}

/// A value of a request that refers to what an owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Where it stands.
    pub at: &'static str,
    /// The bytes between its quotation marks.
    pub span: Range<usize>,
    /// With its mark; nothing where it has none.
    pub marked: Option<Marked<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    encrypted_content: Option<&'a RawValue>,
}

/// Whether a body may hold a mark: most hold none.
pub fn may_be_marked(body: &[u8]) -> bool {
    memchr::memmem::find(body, SIGN.as_bytes()).is_some()
}

/// A request may refer to something, but it cannot be said to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What a request refers to: the response before it, and every item with a mark.
///
/// # Errors
/// [`Unreadable`] where that cannot be said: members twice, ids with escapes. Then nobody is to be asked.
pub fn references(body: &[u8]) -> Result<Vec<Reference<'_>>, Unreadable> {
    let Some((text, request)) = read::<Request<'_>>(body) else { return Err(Unreadable) };
    let mut found = Vec::new();
    if let Some(value) = request.previous_response_id {
        found.extend(reference(text, "previous_response_id", value)?);
    }
    let input = request.input.filter(|input| input.get().starts_with('['));
    let Some(input) = input else { return Ok(found) };
    let items: Vec<&RawValue> = serde_json::from_str(input.get()).map_err(|_| Unreadable)?;
    for item in items.into_iter().filter(|item| item.get().starts_with('{')) {
        let item: Item<'_> = serde_json::from_str(item.get()).map_err(|_| Unreadable)?;
        for value in [item.id, item.encrypted_content].into_iter().flatten() {
            found.extend(reference(text, "input", value)?.filter(|reference| reference.marked.is_some()));
        }
    }
    Ok(found)
}

/// What a value refers to; nothing where it is no string: its upstream will say what is wrong with it.
fn reference<'a>(
    text: &'a str,
    at: &'static str,
    value: &RawValue,
) -> Result<Option<Reference<'a>>, Unreadable> {
    if !value.get().starts_with('"') {
        return Ok(None);
    }
    let span = inside(text, value).ok_or(Unreadable)?;
    let marked = text.get(span.clone()).and_then(Marked::read);
    Ok(Some(Reference { at, span, marked }))
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
}

/// A whole reply with everything marked that belongs to its owner.
pub fn marked_reply(body: &Bytes, seal: &impl Mark) -> Bytes {
    let mut edits = Edits::new();
    if let Some((text, _)) = read::<Response<'_>>(body) {
        response(text, text, seal, &mut edits);
    }
    if edits.is_empty() { body.clone() } else { splice(body, &edits).concat().into() }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<(&'a str, T)> {
    let text = std::str::from_utf8(body).ok()?;
    Some((text, serde_json::from_str(text).ok()?))
}

/// The bytes between the quotation marks of a value of `text`; nothing where it is no string, or one with escapes, which no
/// id is.
fn inside(text: &str, value: &RawValue) -> Option<Range<usize>> {
    let start = value.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let string = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!string.contains('\\')).then(|| start + 1..start + 1 + string.len())
}

fn is(value: Option<&RawValue>, wanted: &str) -> bool {
    value.is_some_and(|value| value.get().trim_matches('"') == wanted)
}

fn mark(text: &str, value: Option<&RawValue>, seal: &impl Mark, edits: &mut Edits) {
    if let Some(span) = value.and_then(|value| inside(text, value))
        && let Some(plain) = text.get(span.clone()).filter(|plain| !plain.is_empty())
    {
        // Values do not overlap.
        let _ = edits.push(span, seal.mark(plain));
    }
}

/// Marks what is in a response, which is the part `object` of `text`.
fn response(text: &str, object: &str, seal: &impl Mark, edits: &mut Edits) {
    let Ok(read) = serde_json::from_str::<Response<'_>>(object) else { return };
    mark(text, read.id, seal, edits);
    mark(text, read.previous_response_id, seal, edits);
    let items = read.output.and_then(|output| serde_json::from_str::<Vec<Item<'_>>>(output.get()).ok());
    items.unwrap_or_default().iter().for_each(|found| item(text, found, seal, edits));
}

/// Marks what is in an item. Of ids only those of reasoning are looked up by their owner.
fn item(text: &str, item: &Item<'_>, seal: &impl Mark, edits: &mut Edits) {
    if is(item.kind, "reasoning") {
        mark(text, item.id, seal, edits);
    }
    mark(text, item.encrypted_content, seal, edits);
}

/// An event larger than this passes without marks, bytes.
const LONGEST: usize = 8 << 20;

/// Marks what is in a stream on its way to the client. An event is let out when it is whole.
#[derive(Debug)]
pub struct Marking<M> {
    seal: M,
    blocks: Blocks,
    held: Held,
}

/// The event whose end has not come.
#[derive(Debug)]
enum Held {
    /// What there is of it.
    Part(Vec<u8>),
    /// It is too large to be held, and has been let out so far.
    Passing,
}

impl<M: Mark> Marking<M> {
    /// For a stream of that owner's.
    pub fn new(seal: M) -> Self {
        Self { seal, blocks: Blocks::default(), held: Held::Part(Vec::new()) }
    }

    /// Takes the next chunk, and gives what the client is sent of the stream: the same bytes where nothing is marked.
    pub fn push(&mut self, chunk: &Bytes) -> Bytes {
        let mut out = Vec::new();
        // What passes as it is, and was not copied yet.
        let mut kept = 0;
        let mut start = usize::from(self.blocks.owes_lf(chunk));
        while let Some(end) = self.blocks.end(chunk, start) {
            let part = chunk.get(start..end).unwrap_or_default();
            let marked = match std::mem::replace(&mut self.held, Held::Part(Vec::new())) {
                Held::Passing => None,
                Held::Part(held) if held.is_empty() => marked_block(part, &self.seal),
                Held::Part(mut held) => {
                    held.extend_from_slice(part);
                    Some(marked_block(&held, &self.seal).unwrap_or(held))
                }
            };
            if let Some(marked) = marked {
                out.extend_from_slice(chunk.get(kept..start).unwrap_or_default());
                out.extend_from_slice(&marked);
                kept = end;
            }
            start = end;
        }
        let rest = chunk.get(start..).unwrap_or_default();
        let passes = match &mut self.held {
            Held::Passing => true,
            Held::Part(held) if held.len() + rest.len() <= LONGEST => {
                held.extend_from_slice(rest);
                false
            }
            Held::Part(held) => {
                out.append(held);
                self.held = Held::Passing;
                true
            }
        };
        let end = if passes { chunk.len() } else { start };
        if out.is_empty() {
            return chunk.slice(kept..end);
        }
        out.extend_from_slice(chunk.get(kept..end).unwrap_or_default());
        out.into()
    }

    /// The stream is over: what is left of it.
    pub fn finish(&mut self) -> Bytes {
        match &mut self.held {
            Held::Part(held) => std::mem::take(held).into(),
            Held::Passing => Bytes::new(),
        }
    }
}

/// An event with its marks; nothing where it has none.
fn marked_block(block: &[u8], seal: &impl Mark) -> Option<Vec<u8>> {
    // Pieces of text, which are nearly all, are not looked into.
    let has = |part: &str| memchr::memmem::find(block, part.as_bytes()).is_some();
    if !has("\"response\"") && !has("\"item\"") && !has("response.reasoning") {
        return None;
    }
    let data = memchr::memmem::find(block, b"data:")? + 5;
    let text = std::str::from_utf8(block).ok()?;
    let end = text.get(data..)?.find(['\r', '\n']).map_or(text.len(), |length| data + length);
    let event: Event<'_> = serde_json::from_str(text.get(data..end)?.trim()).ok()?;
    let mut edits = Edits::new();
    if let Some(object) = event.response {
        response(text, object.get(), seal, &mut edits);
    }
    if let Some(found) = event.item.and_then(|found| serde_json::from_str::<Item<'_>>(found.get()).ok()) {
        item(text, &found, seal, &mut edits);
    }
    if event.kind.is_some_and(|kind| kind.get().starts_with("\"response.reasoning")) {
        mark(text, event.item_id, seal, &mut edits);
    }
    let block = Bytes::copy_from_slice(block);
    (!edits.is_empty()).then(|| splice(&block, &edits).concat())
}

#[cfg(test)]
mod tests;
