//! What Forebay itself puts into a stream: heartbeats, and the error that ends it.

use bytes::Bytes;

use super::error::{member, openai_object, openai_type, render};
use super::usage::Mark;
use super::{Dialect, Operation, converse, gemini};
use crate::error::Error;
use crate::frame::sse;
use crate::json::quote;

/// What tells a client between two events that its stream is alive, in a way no SDK takes for data. It is empty where
/// the dialect has nothing of the kind: Google's SDKs take a comment for data, and AWS has no frame that says nothing.
pub fn heartbeat(operation: Operation) -> &'static [u8] {
    match operation.dialect() {
        Dialect::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Dialect::OpenaiChat | Dialect::OpenaiResponses => b": keep-alive\n\n",
        Dialect::Gemini | Dialect::Converse => b"",
    }
}

/// The events that end a stream with an error, as the dialect has them. `mark` is the tap's.
///
/// It must be sent between two events only. Inside one, a reader would join the pieces, so there is nothing better
/// than to break the connection.
pub fn error_event(operation: Operation, error: &Error, request_id: &str, mark: Mark<'_>) -> Bytes {
    let mut out = Vec::with_capacity(512);
    let dialect = operation.dialect();
    match dialect {
        Dialect::OpenaiChat => {
            sse::event(&mut out, None, &render(dialect, error, request_id));
            sse::event(&mut out, None, b"[DONE]");
        }
        Dialect::Anthropic => sse::event(&mut out, Some("error"), &render(dialect, error, request_id)),
        Dialect::OpenaiResponses => {
            let next = mark.sequence.map_or(0, |last| last.saturating_add(1));
            sse::event(&mut out, Some("error"), &response_error(error, next));
            let failed = response_failed(error, next.saturating_add(1), request_id, mark);
            sse::event(&mut out, Some("response.failed"), &failed);
        }
        Dialect::Gemini => sse::event(&mut out, None, &gemini::error(error)),
        Dialect::Converse => converse::stream::exception(&mut out, error),
    }
    Bytes::from(out)
}

/// Responses' `error` event in its nested form, which makes both SDK families raise.
fn response_error(error: &Error, sequence: u64) -> Vec<u8> {
    let mut out = format!("{{\"type\":\"error\",\"sequence_number\":{sequence},\"error\":").into_bytes();
    openai_object(&mut out, Dialect::OpenaiResponses, error);
    out.push(b'}');
    out
}

fn response_failed(error: &Error, sequence: u64, request_id: &str, mark: Mark<'_>) -> Vec<u8> {
    let (class, code) = openai_type(error.kind);
    let minted = format!("resp_{request_id}");
    let (id, model, created_at) = match mark.response {
        Some(head) => (head.id.as_str(), head.model.as_str(), head.created_at),
        None => (minted.as_str(), "", 0),
    };
    let mut out = b"{\"type\":\"response.failed\",\"sequence_number\":".to_vec();
    out.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
    member(&mut out, ",\"response\":{\"id\":", Some(id));
    out.extend_from_slice(b",\"object\":\"response\",\"created_at\":");
    out.extend_from_slice(itoa::Buffer::new().format(created_at).as_bytes());
    member(&mut out, ",\"status\":\"failed\",\"error\":{\"code\":", Some(code.unwrap_or(class)));
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(&quote(&error.public));
    member(&mut out, "},\"incomplete_details\":null,\"model\":", Some(model));
    out.extend_from_slice(b",\"output\":[],\"usage\":null}}");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::usage::{Finish, StreamTap};
    use crate::error::Kind;
    use crate::frame::sse::Event;

    /// The events of `bytes`: their names, and their data as JSON where they are.
    fn events(bytes: &[u8]) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        let mut tell = |event: Event<'_>| {
            let text = String::from_utf8(event.data.to_vec()).unwrap();
            let data = serde_json::from_str(&text).unwrap_or(Value::String(text));
            told.push((String::from_utf8(event.name.to_vec()).unwrap(), data));
        };
        let mut reader = sse::Reader::default();
        reader.push(bytes, &mut tell).unwrap();
        reader.finish(&mut tell);
        told
    }

    fn broken() -> Error {
        Error::upstream(Kind::UpstreamFailed, "the upstream broke off; try again")
    }

    #[test]
    fn a_broken_chat_ends_with_an_error_and_done() {
        let told = events(&error_event(Operation::ChatCompletions, &broken(), "r", Mark::default()));
        let error = json!({"error": {"message": "the upstream broke off; try again", "type": "server_error",
            "param": null, "code": null}});
        assert_eq!(told, [(String::new(), error), (String::new(), json!("[DONE]"))]);
    }

    #[test]
    fn a_broken_message_ends_with_an_error_event() {
        let told = events(&error_event(Operation::Messages, &broken(), "r", Mark::default()));
        let error = json!({"type": "error", "request_id": "r",
            "error": {"type": "api_error", "message": "the upstream broke off; try again"}});
        assert_eq!(told, [("error".to_owned(), error)]);
    }

    #[test]
    fn a_broken_response_goes_on_counting() {
        let mut tap = StreamTap::new(Operation::Responses, false);
        let stream = Bytes::from_static(
            b"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_9\",\
            \"created_at\":1787150252,\"model\":\"m\",\"usage\":null}}\n\nevent: response.output_text.delta\n\
            data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\",\"sequence_number\":41}\n\n",
        );
        tap.push(&stream, &mut drop);
        let told = events(&error_event(Operation::Responses, &broken(), "r", tap.mark()));
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["error", "response.failed"]);
        assert_eq!((&told[0].1["sequence_number"], &told[1].1["sequence_number"]), (&json!(42), &json!(43)));
        assert_eq!(told[0].1["error"]["type"], "server_error");
        let failed = &told[1].1["response"];
        assert_eq!((&failed["id"], &failed["model"]), (&json!("resp_9"), &json!("m")));
        assert_eq!((&failed["status"], &failed["created_at"]), (&json!("failed"), &json!(1_787_150_252)));
        assert_eq!(failed["error"]["code"], "server_error");
    }

    #[test]
    fn a_response_that_never_began_fails_as_one_of_its_own() {
        let told = events(&error_event(Operation::Responses, &broken(), "r1", Mark::default()));
        assert_eq!(told[0].1["sequence_number"], 0);
        assert_eq!(told[1].1["response"]["id"], "resp_r1");
    }

    #[test]
    fn a_broken_gemini_ends_with_an_error_and_a_broken_converse_with_an_exception() {
        let told = events(&error_event(Operation::GenerateContent, &broken(), "r", Mark::default()));
        let error = json!({"error": {"code": 500, "message": "the upstream broke off; try again", "status": "INTERNAL"}});
        assert_eq!(told, [(String::new(), error)]);
        let bytes = error_event(Operation::Converse, &broken(), "r", Mark::default());
        let told = gemini::tests::frames(&bytes);
        let body = r#"{"message":"the upstream broke off; try again"}"#;
        assert_eq!(told, [("modelStreamErrorException".to_owned(), body.to_owned())]);
    }

    #[test]
    fn our_own_error_events_read_as_failures() {
        for operation in Operation::ALL.into_iter().filter(|operation| operation.streams()) {
            let mut tap = StreamTap::new(operation, false);
            let bytes = error_event(operation, &broken(), "r", Mark::default());
            assert_eq!(tap.push(&bytes, &mut drop).finish, Finish::Failed, "{operation:?}");
        }
    }

    #[test]
    fn heartbeats_are_no_data_and_end_at_a_boundary() {
        for operation in Operation::ALL.into_iter().filter(|operation| operation.streams()) {
            let mut tap = StreamTap::new(operation, false);
            let seen = tap.push(&Bytes::from_static(heartbeat(operation)), &mut drop);
            assert_eq!((seen.content, seen.finish), (0, Finish::Open));
            assert!(tap.at_boundary());
        }
        assert!(events(heartbeat(Operation::ChatCompletions)).is_empty());
    }
}
