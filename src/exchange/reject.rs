//! Tells a client what went wrong, as far as what it was sent already leaves room.

use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};

use super::client::Client;
use super::context::Context;
use super::headers;
use super::limits;
use super::relay::{X_AMZN_ERRORTYPE, X_SHOULD_RETRY};
use super::session::Session;
use crate::dialect;
use crate::error::{Error, Kind};
use crate::frame::http1::Reply;

/// Tells the client what went wrong, as far as what it was sent already leaves room. An error means that the
/// connection must be broken, because nothing else would tell.
pub(super) async fn answer_failure(
    session: &mut Session<'_>,
    context: &mut Context,
    error: &Error,
) -> Option<Box<pingora_core::Error>> {
    let cut =
        || Some(pingora_core::Error::explain(pingora_core::ErrorType::Custom("cut"), error.to_string()));
    if context.bill.used().is_none() {
        context.used.abandon();
    }
    if error.kind == Kind::ClientGone {
        return cut();
    }
    let Some((_, is_stream)) = session.begun() else {
        // An answer that was cut short cannot be followed by another.
        return reject(session, context, error).await.err().and_then(|_| cut());
    };
    if is_stream && !context.tally.stream {
        return end_stream(session, context, error).await.err().and_then(|_| cut());
    }
    if context.ended { None } else { cut() }
}

/// Answers with an error, in the client's dialect; inside a stream that has begun, with an error event.
///
/// # Errors
/// [`Kind::ClientGone`] where it could not be sent.
pub(super) async fn reject(
    session: &mut Session<'_>,
    context: &mut Context,
    error: &Error,
) -> Result<(), Error> {
    if error.kind == Kind::ClientGone {
        return Ok(());
    }
    let (mut head, body) = refusal(context, error);
    if let (Kind::MethodNotAllowed, Some(operation)) = (error.kind, context.operation) {
        headers::put(&mut head, ALLOW, operation.method());
    }
    let write = context.snapshot.clocks.client_write;
    let mut client = Client::new(session.again(), context.dialect, write, Instant::now());
    let sent = client.whole(head, body).await;
    (context.status, context.tally.bytes_out) = (client.status, client.bytes);
    sent
}

/// An error as the client's dialect has it.
pub(super) fn refusal(context: &Context, error: &Error) -> (Reply, Bytes) {
    let mut head = headers::status(dialect::error::status(context.dialect, error.kind), &context.id);
    headers::put(&mut head, CONTENT_TYPE, "application/json");
    if let Some(seconds) = error.retry_after {
        headers::put(&mut head, RETRY_AFTER, itoa::Buffer::new().format(seconds));
    }
    if let Some(class) = dialect::error::class(context.dialect, error.kind) {
        headers::put(&mut head, X_AMZN_ERRORTYPE, class);
    }
    if let Some(told) = context.explained() {
        headers::put(&mut head, headers::X_FOREBAY_EXPLAIN, &told);
    }
    limits::tell(context, &mut head);
    if context.attempts > 1 {
        // It was tried again already: SDKs would multiply the attempts.
        headers::put(&mut head, X_SHOULD_RETRY, "false");
    }
    (head, dialect::error::render(context.dialect, error, &context.id))
}

/// Ends a stream that was committed before its upstream failed.
async fn end_stream(session: &mut Session<'_>, context: &mut Context, error: &Error) -> Result<(), Error> {
    let Some(operation) = context.operation else { return Ok(()) };
    let mark = dialect::usage::Mark::default();
    let event = dialect::stream::error_event(operation, error, &context.id, mark);
    context.tally.bytes_out += event.len() as u64;
    session.write(event, true).await
}
