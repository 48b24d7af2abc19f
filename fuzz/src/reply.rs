//! Whole replies: what an upstream's decoder takes, every client can be told, and its own dialect can read.

use crate::dialect::ir::{Block, Delivery, Fold, Notes, Reply, ReplyTo};
use crate::dialect::translate::{Client, Upstream};
use crate::{choices, is_json, pick, shown};

pub(crate) fn run(data: &[u8]) {
    let ([upstream], body) = choices(data);
    let upstream = pick(&Upstream::ALL, upstream);
    let Ok(reply) = upstream.reply(body) else { return };
    let mut fold = Fold::default();
    reply.events(&mut |event| fold.push(event));
    assert_eq!(fold.finish().ok().as_ref(), Some(&reply), "a reply told is the reply");
    let to = ReplyTo { model: "m".to_owned(), id: "x1".to_owned(), created: 7, delivery: Delivery::Whole };
    for client in Client::ALL {
        let sent = client.reply(&reply, &to, &mut Notes::default());
        assert!(is_json(&sent), "{upstream:?} for {client:?}: {}", shown(&sent));
        let own = Upstream::ALL.into_iter().find(|upstream| upstream.operation() == client.operation());
        if let Some(own) = own {
            let read = own.reply(&sent).map(|read| said(&read));
            assert_eq!(read.ok(), Some(said(&reply)), "{upstream:?} for {client:?}: {}", shown(&sent));
        }
    }
}

/// What no dialect of a conversation lacks: the words of the answer, and the names of the tools that are called.
pub(crate) fn said(reply: &Reply) -> (String, Vec<String>) {
    let (mut words, mut calls) = (String::new(), Vec::new());
    for whole in &reply.blocks {
        match &whole.block {
            Block::Text | Block::Refusal => words += &whole.text().plain(),
            // One without a name is nobody's.
            Block::ToolCall { name, .. } if !name.is_empty() => calls.push(name.plain().into_owned()),
            _ => {}
        }
    }
    (words, calls)
}
