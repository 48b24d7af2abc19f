//! Streams: whatever an upstream sends, its client gets a stream that its own dialect can read.

use crate::dialect::ir::{Block, Delivery, Event, Fold, Law, Reply, ReplyTo};
use crate::dialect::translate::{Client, Stream, Upstream};
use crate::error::Error;
use crate::reply::said;
use crate::{choices, pick, pieces, shown};

pub(crate) fn run(data: &[u8]) {
    let ([upstream, client, delivery, seed], data) = choices(data);
    let (upstream, client) = (pick(&Upstream::ALL, upstream), pick(&Client::ALL, client));
    let delivery = pick(&[Delivery::StreamWithUsage, Delivery::Stream], delivery);
    let (whole, cut) = (
        sent(upstream, client, delivery, [data].into_iter()),
        sent(upstream, client, delivery, pieces(data, seed)),
    );
    assert_eq!(shown(&whole.0), shown(&cut.0), "{upstream:?} for {client:?}: the split shows");
    assert_eq!(whole.1, cut.1);
    law(upstream, data);
    reads(client, upstream, data, &whole);
}

/// What the client is sent, and whether it was told of a failure.
fn sent<'d>(
    upstream: Upstream,
    client: Client,
    delivery: Delivery,
    pieces: impl Iterator<Item = &'d [u8]>,
) -> (Vec<u8>, bool) {
    let to = ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery };
    let mut stream = Stream::new(upstream, client, to);
    let mut out = Vec::new();
    for piece in pieces {
        stream.push(piece, &mut out);
    }
    stream.finish(&mut out);
    assert!(stream.is_over());
    (out, stream.failure().is_some())
}

/// What the client is sent is read without a fault by the decoder of the same dialect, says what the upstream said, and
/// ends as the client was told.
fn reads(client: Client, upstream: Upstream, data: &[u8], (out, failed): &(Vec<u8>, bool)) {
    let own = Upstream::ALL.into_iter().find(|upstream| upstream.operation() == client.operation());
    let Some(own) = own else { return };
    let read = folded(own, out);
    assert_eq!(read.is_err(), *failed, "{client:?} reads {read:?} of {}", shown(out));
    if let (Ok(read), Ok(meant)) = (read, folded(upstream, data)) {
        assert_eq!(said(&read), said(&meant), "{upstream:?} for {client:?}: {}", shown(out));
    }
}

fn folded(upstream: Upstream, data: &[u8]) -> Result<Reply, Error> {
    let mut fold = Fold::default();
    let mut decoder = upstream.decoder();
    decoder.push(data, &mut |event| fold.push(event));
    decoder.finish(&mut |event| fold.push(event));
    fold.finish()
}

/// The rules of [`Law`], seen from outside.
fn law(upstream: Upstream, data: &[u8]) {
    let mut law = Law::default();
    let mut seen = Seen::default();
    let mut decoder = upstream.decoder();
    decoder.push(data, &mut |event| law.push(event, &mut |event| seen.event(&event)));
    decoder.finish(&mut |event| law.push(event, &mut |event| seen.event(&event)));
    assert!(law.is_over() && seen.over);
}

#[derive(Default)]
struct Seen {
    started: bool,
    over: bool,
    usage: bool,
    open: Option<u32>,
    next: u32,
    /// Of the tool call that is open.
    arguments: Option<String>,
}

impl Seen {
    fn event(&mut self, event: &Event<'_>) {
        assert!(!self.over, "{event:?} after the end");
        if !matches!(event, Event::KeepAlive | Event::Failed(_)) {
            assert_eq!(self.started, !matches!(event, Event::Start(_)), "{event:?}");
        }
        match event {
            Event::Start(_) => self.started = true,
            Event::Open { block, kind } => {
                assert_eq!((self.open, *block), (None, self.next));
                self.open = Some(*block);
                self.next += 1;
                self.arguments = matches!(kind, Block::ToolCall { .. }).then(String::new);
            }
            Event::Delta { block, text } => {
                assert_eq!(self.open, Some(*block));
                assert!(!text.is_empty());
                if let Some(arguments) = &mut self.arguments {
                    text.escape_into(arguments);
                }
            }
            Event::Attach { block, .. } => assert_eq!(self.open, Some(*block)),
            Event::Close { block } => {
                assert_eq!(self.open.take(), Some(*block));
                assert!(self.arguments.take().is_none_or(|arguments| !arguments.is_empty()));
            }
            Event::Usage(_) => assert!(!std::mem::replace(&mut self.usage, true)),
            Event::Finish(_) => {
                assert_eq!(self.open, None);
                self.over = true;
            }
            Event::Failed(_) => self.over = true,
            Event::End => panic!("the law tells no end"),
            Event::KeepAlive => {}
        }
    }
}
