//! Framing: however a stream is cut, the same is read; and nothing upsets a reader.

use bytes::{Bytes, BytesMut};

use crate::frame::{chunked, eventstream, http1, ndjson, sse};
use crate::{choices, pick, pieces};

pub(crate) fn run(data: &[u8]) {
    let ([which, seed], data) = choices(data);
    let whole = || std::iter::once(data);
    let cut = || pieces(data, seed);
    match which % 5 {
        0 => {
            assert_eq!(events(whole()), events(cut()));
            assert_eq!(blocks(whole()), blocks(cut()));
        }
        1 => assert_eq!(lines(whole()), lines(cut())),
        2 => {
            assert_eq!(messages(whole()), messages(cut()));
            assert_eq!(ends(whole()), ends(cut()));
        }
        3 => {
            assert_eq!(body(whole()), body(cut()));
            assert_eq!(followed(whole()), followed(cut()));
        }
        _ => heads(data, pick(&[0, 1, 2, 7], seed)),
    }
}

/// A limit that an input can reach.
const LIMIT: usize = 512;

/// Events, and whether one was too long. Where one was, how far the reader came before it says so may differ.
fn events<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, sse::TooLong> {
    let mut told = Vec::new();
    let mut tell = |event: sse::Event<'_>| told.push((event.name.into_owned(), event.data.into_owned()));
    let mut reader = sse::Reader::new(LIMIT);
    for piece in pieces {
        reader.push(piece, &mut tell)?;
    }
    reader.finish(&mut tell);
    Ok(told)
}

/// The places at which events end, and whether the stream does so too.
fn blocks<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> (Vec<usize>, bool) {
    let (mut blocks, mut found, mut before) = (sse::Blocks::default(), Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        if blocks.owes_lf(piece) {
            at = 1;
            // It belongs to the event that ended before.
            if let Some(last) = found.last_mut() {
                *last += 1;
            }
        }
        while let Some(end) = blocks.end(piece, at) {
            assert!(end > at && end <= piece.len());
            found.push(before + end);
            at = end;
        }
        before += piece.len();
    }
    (found, blocks.at_boundary())
}

fn lines<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Result<Vec<Vec<u8>>, ndjson::TooLong> {
    let mut told = Vec::new();
    let mut reader = ndjson::Reader::new(LIMIT);
    for piece in pieces {
        reader.push(piece, &mut |line| told.push(line.to_vec()))?;
    }
    reader.finish(&mut |line| told.push(line.to_vec()));
    Ok(told)
}

type Messages = (Vec<(String, Vec<u8>)>, Result<(), eventstream::Broken>);

fn messages<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Messages {
    let mut told = Vec::new();
    let mut tell = |message: eventstream::Message<'_>| {
        let headers: Vec<_> = message.headers.iter().collect();
        let mut again = Vec::new();
        eventstream::message(&mut again, &headers, message.payload).expect("what was read can be written");
        told.push((format!("{headers:?}"), message.payload.to_vec()));
    };
    let mut reader = eventstream::Reader::new(LIMIT);
    for piece in pieces {
        if let Err(broken) = reader.push(piece, &mut tell) {
            return (told, Err(broken));
        }
    }
    (told, reader.finish())
}

fn ends<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> (Vec<usize>, bool) {
    let (mut cuts, mut found, mut before) = (eventstream::Cuts::default(), Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while let Some(end) = cuts.end(piece, at) {
            found.push(before + end);
            at = end;
        }
        before += piece.len();
    }
    (found, cuts.at_boundary())
}

/// The data of a chunked body, how it ended, and what is left for the next message.
fn body<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> (Vec<u8>, Result<bool, chunked::Fault>, usize) {
    let (mut chunks, mut input, mut data) = (chunked::Chunks::begin(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        // Bytes of framing alone give an empty piece, so what it looks at must have gone, or the body have ended.
        while !chunks.ended() && !input.is_empty() {
            match chunks.take(&mut input) {
                Ok(taken) => data.extend_from_slice(&taken),
                Err(fault) => return (data, Err(fault), 0),
            }
        }
    }
    (data, Ok(chunks.ended()), input.len())
}

/// The same by following: how much of the bytes belongs to the body.
fn followed<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Result<(usize, bool), chunked::Fault> {
    let (mut chunks, mut passed) = (chunked::Chunks::begin(), 0);
    for piece in pieces {
        passed += chunks.advance(piece)?;
    }
    Ok((passed, chunks.ended()))
}

fn heads(data: &[u8], step: usize) {
    // The end is found wherever it was looked for before.
    let end = http1::head_end(data, 0);
    let mut from = 0;
    while from < data.len() && step > 0 {
        let upto = (from + step).min(data.len());
        let sofar = http1::head_end(&data[..upto], from);
        assert!(sofar.is_none() || sofar == end, "{sofar:?} and {end:?}");
        if sofar.is_some() {
            break;
        }
        assert!(end.is_none_or(|end| end > upto));
        from = upto;
    }
    let head = Bytes::copy_from_slice(&data[..end.unwrap_or(data.len())]);
    let _ = http1::request(&head);
    let Ok((reply, terms)) = http1::Reply::read(&head) else { return };
    let mut again = BytesMut::new();
    reply.write(&mut again);
    again.extend_from_slice(b"\r\n");
    let (read, same) = http1::Reply::read(&again.freeze()).expect("what was read can be written and read");
    assert_eq!((read.status, same.framing), (reply.status, terms.framing));
    assert!(read.fields.iter().eq(reply.fields.iter()));
}
