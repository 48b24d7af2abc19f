//! Goldens and laws of every pair.

use serde_json::{Value, json};

use super::*;
use crate::dialect::ir::target::{Knob, LimitName, Replay, Structured, Taken};
use crate::dialect::ir::{Delivery, Facts, Policy};
use crate::frame::sse;

mod attacks;
mod matrix;
mod recorded;
mod replies;
mod requests;
mod resumed;

fn facts() -> Facts {
    Facts { thinking: Knob::Effort, ..Facts::default() }
}

fn to(delivery: Delivery) -> ReplyTo {
    ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery }
}

/// The events of a stream of server-sent events: their names, and their data as JSON where they are.
fn events(bytes: &[u8]) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    let mut tell = |event: sse::Event<'_>| {
        let text = String::from_utf8(event.data.to_vec()).unwrap();
        let data = serde_json::from_str(&text).unwrap_or(Value::String(text));
        told.push((String::from_utf8(event.name.to_vec()).unwrap(), data));
    };
    let mut reader = sse::Reader::default();
    reader.push(bytes, &mut tell).unwrap();
    reader.finish(&mut tell);
    told
}

/// What a client is sent of a stream that comes in these pieces.
fn streamed<'p>(
    upstream: Upstream,
    client: Client,
    delivery: Delivery,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<u8> {
    let mut stream = Stream::new(upstream, client, to(delivery));
    let mut out = Vec::new();
    for piece in pieces {
        stream.push(piece, &mut out);
    }
    stream.finish(&mut out);
    assert!(stream.is_over());
    out
}

/// The reply that a stream adds up to.
fn folded(upstream: Upstream, stream: &[u8]) -> Result<Reply, Error> {
    let mut fold = Fold::default();
    let mut decoder = upstream.decoder();
    decoder.push(stream, &mut |event| fold.push(event));
    decoder.finish(&mut |event| fold.push(event));
    fold.finish()
}

/// The upstream that speaks what a client does.
fn upstream_of(client: Client) -> Upstream {
    let mut all = Upstream::ALL.into_iter();
    all.find(|upstream| upstream.operation() == client.operation()).expect("a dialect of both")
}

/// The clients whose dialect upstreams speak too, so that what they are sent can be read back.
fn readable() -> impl Iterator<Item = Client> {
    let is_spoken =
        |client: &Client| Upstream::ALL.iter().any(|upstream| upstream.origin() == client.origin());
    Client::ALL.into_iter().filter(is_spoken)
}

#[test]
fn what_is_asked_passes_verbatim_or_by_translation_or_not_at_all() {
    use Operation::{ChatCompletions, Completions, Converse, CountTokens, GenerateContent, Messages};
    let translated = |client, upstream| Some(Passage::Translated { client, upstream });
    for (asked, spoken, passage) in [
        (GenerateContent, &[ChatCompletions, GenerateContent][..], Some(Passage::Verbatim)),
        (GenerateContent, &[CountTokens, Messages], translated(Client::Gemini, Upstream::Messages)),
        (ChatCompletions, &[Converse], translated(Client::Chat, Upstream::Converse)),
        (Converse, &[GenerateContent], translated(Client::Converse, Upstream::Gemini)),
        (Completions, &[ChatCompletions, Completions], Some(Passage::Verbatim)),
        (Completions, &[Messages], translated(Client::Completions, Upstream::Messages)),
        (ChatCompletions, &[Completions], None),
        (CountTokens, &[Messages], None),
        (Messages, &[CountTokens], None),
    ] {
        assert_eq!(Passage::of(asked, spoken), passage, "{asked:?} to {spoken:?}");
    }
}

#[test]
fn each_row_of_the_table_is_a_dialect_of_its_own() {
    for (index, client) in Client::ALL.into_iter().enumerate() {
        assert_eq!(client as usize, index);
        assert!(client.operation().streams());
    }
    for (index, client) in readable().enumerate() {
        let upstream = upstream_of(client);
        assert_eq!((client as usize, upstream as usize, Upstream::ALL[index]), (index, index, upstream));
        assert_eq!(client.origin(), upstream.origin());
    }
    let alone: Vec<Client> =
        Client::ALL.into_iter().filter(|client| !readable().any(|other| other == *client)).collect();
    assert_eq!(alone, [Client::Completions]);
}
