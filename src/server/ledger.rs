//! The ledger's start, with the sinks that need more than a file.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use crate::meter::ledger::{Http, Ledger, Send, Spec};
use crate::upstream::fetch::{Call, Fetcher};

/// The most that may wait for standard output, bytes.
const STDOUT: u64 = 8 << 20;
/// How long whoever takes records may take for a batch.
const LIMIT: Duration = Duration::from_secs(10);
/// The most of an answer that is read, bytes.
const ANSWER: usize = 64 << 10;

/// Starts the ledger, if there is to be one.
///
/// # Errors
/// Says why it cannot be kept.
pub(super) fn start(spec: &Spec) -> Result<Option<Arc<Ledger>>, String> {
    if !spec.is_on() {
        return Ok(None);
    }
    let mut sends: Vec<(&'static str, u64, Send)> = Vec::new();
    if spec.stdout {
        sends.push(("stdout", STDOUT, Box::new(to_stdout)));
    }
    if let Some(http) = &spec.http {
        sends.push(("http", http.buffer, to_http(http)?));
    }
    let place = spec.directory.as_ref().map_or_else(String::new, |directory| directory.display().to_string());
    let ledger = Ledger::start(spec, sends).map_err(|error| format!("the ledger {place}: {error}"))?;
    if !place.is_empty() {
        log::info!("what is spent is recorded in {place}");
    }
    Ok(Some(ledger))
}

fn to_stdout(lines: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(lines).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn to_http(http: &Http) -> Result<Send, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let fetcher = Fetcher::new("ledger", |_| true);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    if let Some(token) = &http.token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| "the token of ledger.http cannot be sent".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let url = http.url.clone();
    Ok(Box::new(move |lines: &[u8]| {
        let call = Call {
            method: Method::POST,
            url: url.clone(),
            headers: headers.clone(),
            body: Bytes::copy_from_slice(lines),
            limit: LIMIT,
            most: ANSWER,
        };
        match runtime.block_on(fetcher.call(call))?.status {
            200..=299 => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }))
}
