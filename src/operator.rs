//! What the verbs for operators ask of a running edge, through its admin listener.

use std::time::Duration;

use bytes::Bytes;
use forebay::upstream::fetch::{Call, Fetcher, Got};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::environment;

/// How long the edge may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of an answer that is read, bytes.
const ANSWER: usize = 16 << 20;

/// The admin listener of a running edge.
pub(super) struct Admin {
    base: String,
    token: Option<HeaderValue>,
    fetcher: Fetcher,
}

impl Admin {
    /// At that address, or where the edge listens if nothing else is said.
    pub(super) fn new(address: Option<String>) -> Result<Self, String> {
        let port = || environment("METRICS_PORT").filter(|port| !port.is_empty());
        let address = address.unwrap_or_else(|| format!("127.0.0.1:{}", port().as_deref().unwrap_or("9090")));
        let base = if address.contains("://") { address } else { format!("http://{address}") };
        let token = environment("FOREBAY_ADMIN_TOKEN").filter(|token| !token.is_empty()).map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| "$FOREBAY_ADMIN_TOKEN holds characters that no token has".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, token: token.transpose()?, fetcher: Fetcher::new("admin", |_| true) })
    }

    /// Asks, and reads the answer.
    pub(super) async fn ask(&self, method: Method, path: &str, body: String) -> Result<Value, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        let url = format!("{}{path}", self.base);
        let call = Call { method, url, headers, body: Bytes::from(body), limit: PATIENCE, most: ANSWER };
        let got = self.fetcher.call(call).await;
        let Got { status, body, .. } =
            got.map_err(|why| format!("the admin listener at {} cannot be asked: {why}", self.base))?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| {
            format!(
                "{} answered {status} with something else than JSON: is it the admin listener?",
                self.base
            )
        })?;
        if status == 200 {
            return Ok(answer);
        }
        let why = answer["error"].as_str().unwrap_or("it does not say why");
        let known: Vec<&str> =
            answer["known"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let known =
            if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) };
        Err(format!("{why}{known} ({status})"))
    }
}
