//! Anthropic's events out of the frames in which Bedrock's `InvokeModelWithResponseStream` wraps them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::dialect::Operation;
use crate::dialect::converse::stream::reported;
use crate::dialect::ir::broken;
use crate::dialect::stream::error_event;
use crate::dialect::usage::Mark;
use crate::error::Error;
use crate::frame::eventstream::{Message, Reader};
use crate::frame::sse;

/// Turns frames that are cut anywhere into the server-sent events that Anthropic's own API would have sent.
#[derive(Debug, Default)]
pub struct Unframed {
    reader: Reader,
}

/// A frame of the type `chunk`.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

/// An event of Anthropic's, as far as it has to be known.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

impl Unframed {
    /// Reads the next bytes of the stream, and appends the events that end in them.
    ///
    /// # Errors
    ///
    /// Where the bytes are no frames, or hold no events.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut result = Ok(());
        let read = self.reader.push(bytes, &mut |message| {
            if result.is_ok() {
                result = event(&message, out);
            }
        });
        read.map_err(broken)?;
        result
    }

    /// The stream is over.
    ///
    /// # Errors
    ///
    /// Where it ended inside a frame.
    pub fn finish(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.reader).finish().map_err(broken)
    }
}

fn event(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    if let Some(error) = reported(message) {
        out.extend_from_slice(&error_event(Operation::Messages, &error, "", Mark::default()));
        return Ok(());
    }
    if message.headers.text(":event-type") != Some("chunk") {
        return Ok(());
    }
    let chunk: Chunk<'_> = serde_json::from_slice(message.payload).map_err(broken)?;
    let data = STANDARD.decode(&*chunk.bytes).map_err(broken)?;
    let named: Named<'_> = serde_json::from_slice(&data).map_err(broken)?;
    sse::event(out, Some(&named.r#type), &data);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::eventstream::{Value, message};

    fn chunk(data: &str) -> Vec<u8> {
        let payload = format!("{{\"bytes\":\"{}\",\"p\":\"abcdefgh\"}}", STANDARD.encode(data));
        frame(":event-type", "chunk", "event", payload.as_bytes())
    }

    fn frame(name: &str, class: &str, kind: &str, payload: &[u8]) -> Vec<u8> {
        let headers = [
            (name, Value::Text(class)),
            (":content-type", Value::Text("application/json")),
            (":message-type", Value::Text(kind)),
        ];
        let mut out = Vec::new();
        message(&mut out, &headers, payload).unwrap();
        out
    }

    const EVENTS: [&str; 2] =
        [r#"{"type":"message_start","message":{"id":"m"}}"#, r#"{"type":"message_stop"}"#];

    #[test]
    fn frames_become_events_wherever_they_are_cut() {
        let bytes: Vec<u8> = EVENTS.iter().flat_map(|event| chunk(event)).collect();
        let expected = format!(
            "event: message_start\ndata: {}\n\nevent: message_stop\ndata: {}\n\n",
            EVENTS[0], EVENTS[1]
        );
        for at in 0..bytes.len() {
            let (mut unframed, mut out) = (Unframed::default(), Vec::new());
            unframed.push(&bytes[..at], &mut out).unwrap();
            unframed.push(&bytes[at..], &mut out).unwrap();
            unframed.finish().unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "cut at {at}");
        }
    }

    #[test]
    fn an_exception_is_an_error_event() {
        let exception =
            frame(":exception-type", "throttlingException", "exception", br#"{"message":"slow down"}"#);
        let mut out = Vec::new();
        Unframed::default().push(&exception, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("event: error\ndata: {\"type\":\"error\""), "{out}");
        assert!(out.contains("rate_limit_error") && out.contains("slow down"), "{out}");
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        let mut broken = chunk(EVENTS[0]);
        *broken.last_mut().unwrap() ^= 1;
        let bad_base64 = frame(":event-type", "chunk", "event", br#"{"bytes":"*"}"#);
        for bytes in [broken, bad_base64, chunk("{}"), chunk("no json")] {
            assert!(Unframed::default().push(&bytes, &mut Vec::new()).is_err());
        }
        let mut cut = Unframed::default();
        cut.push(&chunk(EVENTS[0])[..20], &mut Vec::new()).unwrap();
        assert!(cut.finish().is_err());
        let mut out = Vec::new();
        Unframed::default().push(&frame(":event-type", "news", "event", b"{}"), &mut out).unwrap();
        assert!(out.is_empty(), "events of another type are passed over");
    }
}
