//! What is not an API of models: health, metrics, and the simulator's own pages under `/sim/`.

use super::{Body, Reply, json_reply};
use crate::sim::Shared;
use crate::sim::stats::{Counter, Request};
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

/// The reply to one of these pages; `None` if the path is none of them.
pub(crate) fn reply(shared: &Shared, request: &Request) -> Option<Reply> {
    let read = matches!(request.method, Method::GET | Method::HEAD);
    match request.path() {
        "/health" | "/ping" if read => Some(json_reply(200, &json!({"status": "ok"}))),
        "/metrics" if read => Some(text_reply(metrics(shared))),
        "/sim/stats" if read => {
            Some(json_reply(200, &serde_json::to_value(shared.stats.snapshot()).unwrap_or_default()))
        }
        "/sim/requests" if read => Some(json_reply(200, &requests(shared))),
        "/sim/bill" if read => {
            Some(json_reply(200, &serde_json::to_value(shared.stats.charges()).unwrap_or_default()))
        }
        "/sim/reset" if request.method == Method::POST => {
            shared.stats.reset();
            Some(json_reply(200, &json!({"reset": true})))
        }
        _ => None,
    }
}

fn text_reply(text: String) -> Reply {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Reply { status: 200, headers: vec![(header::CONTENT_TYPE, kind)], body: Body::Whole(text.into()) }
}

/// The engine's gauges and counters under the names vLLM gives them.
fn metrics(shared: &Shared) -> String {
    let stats = &shared.stats;
    let kv = shared.engine.kv_usage();
    let count = |counter| stats.get(counter) as f64;
    let rows = [
        ("vllm:num_requests_running", "gauge", "Requests in the batch.", count(Counter::Active)),
        ("vllm:num_requests_waiting", "gauge", "Requests waiting for a slot.", count(Counter::Queued)),
        ("vllm:gpu_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1 (old name).", kv),
        ("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1.", kv),
        (
            "vllm:prefix_cache_queries_total",
            "counter",
            "Prompt tokens looked up.",
            count(Counter::PrefixQueries),
        ),
        ("vllm:prefix_cache_hits_total", "counter", "Prompt tokens found.", count(Counter::CachedTokens)),
        ("vllm:prompt_tokens_total", "counter", "Prompt tokens read.", count(Counter::PromptTokens)),
        ("vllm:generation_tokens_total", "counter", "Tokens generated.", count(Counter::OutputTokens)),
        ("vllm:request_success_total", "counter", "Replies written to their end.", count(Counter::Completed)),
    ];
    let model = shared.config.models.first().map_or("sim-model", String::as_str);
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    rows.iter()
        .map(|(name, kind, help, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{engine=\"0\",model_name=\"{model}\"}} {value}\n")
        })
        .collect()
}

/// The kept requests, credentials left out: this page may end in a log. The library shows them whole.
fn requests(shared: &Shared) -> Value {
    let all = shared.stats.requests();
    let one = |request: &Request| {
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| match name.as_str() {
                "authorization" | "x-api-key" | "api-key" | "x-goog-api-key" | "cookie" => {
                    json!([name.as_str(), "***"])
                }
                _ => json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]),
            })
            .collect();
        json!({
            "method": request.method.as_str(),
            "target": request.target,
            "version": format!("{:?}", request.version),
            "connection": request.connection,
            "headers": headers,
            "body_len": request.body_len,
            "body": String::from_utf8_lossy(&request.body),
        })
    };
    Value::Array(all.iter().map(|request| one(request)).collect())
}
