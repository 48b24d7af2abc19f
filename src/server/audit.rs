//! The audit log of the process: its file, and whoever else is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use crate::meter::audit::{self, HttpSpec, Spec};
use crate::meter::journal::{Post, Tee};
use crate::upstream::fetch::{Call, Fetcher};

/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of an answer that is read, bytes.
const ANSWER: usize = 64 << 10;

/// Starts it, if there is to be one, with the process's first line: `configuration` is the fingerprint of the one in force.
///
/// # Errors
/// Says why it cannot be written.
pub(super) fn start(spec: Option<&Spec>, configuration: &str) -> Result<(), String> {
    let Some(spec) = spec else { return Ok(()) };
    let failed = |error: std::io::Error| {
        let file = spec.file.as_ref().map(|file| file.path.display().to_string()).unwrap_or_default();
        format!("the audit log cannot be written: {file}: {error}")
    };
    let tee = spec.http.as_ref().map(|http| Tee::start("audit", http.shipping, post(http)));
    audit::init(spec, tee.transpose().map_err(failed)?).map_err(failed)?;
    if let Some(audit) = audit::on() {
        audit.started(configuration);
    }
    Ok(())
}

/// What sends a batch.
fn post(http: &HttpSpec) -> Box<Post> {
    let fetcher = Arc::new(Fetcher::new("audit", |_| true));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let shown = http.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
    if let Some(mut value) = shown.and_then(|shown| HeaderValue::try_from(shown).ok()) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let url = http.url.clone();
    Box::new(move |body: Bytes| {
        let (fetcher, headers, url) = (Arc::clone(&fetcher), headers.clone(), url.clone());
        Box::pin(async move {
            let call = Call { method: Method::POST, url, headers, body, limit: PATIENCE, most: ANSWER };
            match fetcher.call(call).await {
                Ok(got) if (200..300).contains(&got.status) => Ok(()),
                Ok(got) => Err(format!("it answered with status {}", got.status)),
                Err(why) => Err(why),
            }
        })
    })
}
