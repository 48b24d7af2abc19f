//! Which place a request goes to, and which it must not: fallbacks by what failed, residency, and being told why.

use serde_json::json;

use crate::dialects::Dialect;
use crate::support::scripted::{Scripted, Turn, answer, json as reply};
use crate::support::{Edge, Reply, post};

const KEYS: [(&str, &str); 3] =
    [("EU", "key-of-eu-0123456789"), ("ALL", "key-of-all-0123456789"), ("OPS", "key-of-ops-0123456789")];

async fn says(text: &'static str) -> Scripted {
    Scripted::start(move |_| Turn::Say(answer(text))).await
}

async fn refuses(status: u16, body: &'static str) -> Scripted {
    Scripted::start(move |_| Turn::Say(reply(status, body))).await
}

fn cluster(name: &str, upstream: &Scripted, more: &str) -> String {
    let address = upstream.addr;
    format!(
        "  {name}: {{provider: vllm, endpoints: [\"http://{address}\"], health: {{check: none}}{more}}}\n"
    )
}

async fn ask(edge: &Edge, fields: &str, model: &str) -> Reply {
    edge.connect().await.ask(&post("/v1/chat/completions", fields, Dialect::Chat.ask(model, false))).await
}

fn text(reply: &Reply) -> String {
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 8192 tokens","code":"context_length_exceeded"}}"#;
const FILTERED: &str = r#"{"error":{"message":"refused","code":"content_filter"}}"#;

#[tokio::test]
async fn what_a_model_cannot_take_goes_to_the_one_named_for_it() {
    let (small, strict, large) =
        (refuses(400, TOO_LONG).await, refuses(400, FILTERED).await, says("large").await);
    let clusters = [("small", &small), ("strict", &strict), ("large", &large)];
    let clusters: String = clusters.iter().map(|(name, upstream)| cluster(name, upstream, "")).collect();
    let clusters = clusters + &cluster("vectors", &large, ", speaks: [embeddings]");
    let edge = Edge::start(&format!(
        "clusters:\n{clusters}models:\n\
         \x20 small: {{deployments: [{{cluster: small}}], fallback: {{too_long: large}}}}\n\
         \x20 strict: {{deployments: [{{cluster: strict}}], fallback: {{too_long: small, filtered: large}}}}\n\
         \x20 large: {{deployments: [{{cluster: large, model: big}}]}}\n\
         \x20 circle: {{deployments: [{{cluster: small}}], fallback: {{too_long: circle}}}}\n\
         \x20 mute: {{deployments: [{{cluster: small}}], fallback: {{too_long: vectors}}}}\n\
         \x20 vectors: {{deployments: [{{cluster: vectors}}]}}\n\
         \x20 alone: {{deployments: [{{cluster: small}}]}}\n"
    ))
    .await;
    for model in ["small", "strict"] {
        let got = ask(&edge, "", model).await;
        assert_eq!((got.status, text(&got).as_str()), (200, "large"), "{got:?}");
        let line = edge.access(|line| line["model"] == model).await;
        assert_eq!(
            (&line["alias"], &line["attempts"], &line["cluster"]),
            (&json!("large"), &json!(2), &json!("large"))
        );
    }
    assert!(large.received()[0].contains("\"model\":\"big\""));
    // One that cannot be asked for a chat takes none over.
    for model in ["circle", "mute", "alone"] {
        let got = ask(&edge, "", model).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (400, &json!("context_length_exceeded")),
            "{got:?}"
        );
    }
    assert_eq!(small.received().len(), 4, "a circle is gone round once");
    edge.idle().await;
}

#[tokio::test]
async fn what_takes_over_is_a_model_that_the_caller_may_use_there() {
    let (small, large) = (refuses(400, TOO_LONG).await, says("large").await);
    let edge = Edge::start_with(
        &format!(
            "clusters:\n{}{}\
             keys:\n  all: {{key: env:ALL}}\n  eu: {{key: env:EU, models: [small]}}\n\
             models:\n  small: {{deployments: [{{cluster: small}}], fallback: {{too_long: large}}}}\n\
             \x20 large: {{deployments: [{{cluster: large}}]}}\n\
             routes:\n  - {{name: all, path: /}}\n  - {{name: few, path: /few, models: [small]}}\n",
            cluster("small", &small, ""),
            cluster("large", &large, "")
        ),
        &KEYS,
    )
    .await;
    let key = |name: &str| {
        let (_, secret) = KEYS.iter().find(|(known, _)| *known == name).unwrap();
        format!("authorization: Bearer {secret}\r\n")
    };
    assert_eq!(text(&ask(&edge, &key("ALL"), "small").await), "large");
    assert_eq!(ask(&edge, &key("EU"), "small").await.status, 400, "the key may not use it");
    let few = post("/few/v1/chat/completions", &key("ALL"), Dialect::Chat.ask("small", false));
    assert_eq!(edge.connect().await.ask(&few).await.status, 400, "the route does not let it through");
    assert_eq!(large.received().len(), 1);
}

#[tokio::test]
async fn a_request_goes_to_no_region_that_it_must_not() {
    let (eu, us, nowhere) = (says("eu").await, says("us").await, says("nowhere").await);
    let clusters = cluster("us", &us, ", region: us-east-1")
        + &cluster("eu", &eu, ", region: eu-west-1")
        + &cluster("nowhere", &nowhere, "");
    let edge = Edge::start_with(
        &format!(
            "clusters:\n{clusters}\
             keys:\n  eu: {{key: env:EU, regions: {{allow: [eu-*]}}}}\n  all: {{key: env:ALL}}\n\
             models:\n  m: {{deployments: [{{cluster: us}}, {{cluster: nowhere}}, {{cluster: eu, priority: 1}}]}}\n\
             \x20 us-only: {{deployments: [{{cluster: us}}, {{cluster: nowhere, priority: 1}}]}}\n\
             routes:\n  - {{name: all, path: /}}\n  - {{name: abroad, path: /abroad, regions: {{deny: [eu-*]}}}}\n"
        ),
        &KEYS,
    )
    .await;
    let key = |name: &str| {
        let (_, secret) = KEYS.iter().find(|(known, _)| *known == name).unwrap();
        format!("authorization: Bearer {secret}\r\n")
    };
    for _ in 0..10 {
        assert_eq!(text(&ask(&edge, &key("EU"), "m").await), "eu");
        let abroad = post("/abroad/v1/chat/completions", &key("ALL"), Dialect::Chat.ask("m", false));
        assert_eq!(text(&edge.connect().await.ask(&abroad).await), "us");
    }
    let refused = ask(&edge, &key("EU"), "us-only").await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(refused.status == 403 && message.contains("region"), "{refused:?}");
    // Both have a say: what the route denies and the caller does not allow leaves nothing.
    let both = post("/abroad/v1/chat/completions", &key("EU"), Dialect::Chat.ask("m", false));
    assert_eq!(edge.connect().await.ask(&both).await.status, 403);
    assert!(nowhere.received().is_empty(), "who says no region is in none");
}

#[tokio::test]
async fn who_may_know_is_told_where_a_request_went_and_why() {
    let (sick, well) = (refuses(503, "{}").await, says("well").await);
    let clusters = cluster("sick", &sick, "") + &cluster("well", &well, "");
    let edge = Edge::start_with(
        &format!(
            "clusters:\n{clusters}\
             keys:\n  ops: {{key: env:OPS, explain: true}}\n  all: {{key: env:ALL}}\n\
             models:\n  m: {{deployments: [{{cluster: sick}}, {{cluster: well, priority: 1}}]}}\n\
             \x20 s: {{deployments: [{{cluster: sick}}]}}\nretry: {{attempts: 2, delay: 1ms}}\n"
        ),
        &KEYS,
    )
    .await;
    let header = |key: usize, asks: &str| format!("authorization: Bearer {}\r\n{asks}", KEYS[key].1);
    let asks = "x-forebay-explain: 1\r\n";
    let told = ask(&edge, &header(2, asks), "m").await;
    let expected = format!("sick: failed; well at http://{}", well.addr);
    assert_eq!(told.header("x-forebay-explain"), Some(expected.as_str()));
    let failed = ask(&edge, &header(2, asks), "s").await;
    assert!(
        failed.header("x-forebay-explain").unwrap().starts_with("sick: failed; sick: failed; sick at"),
        "{failed:?}"
    );
    for (key, asks) in [(1, asks), (2, "")] {
        assert_eq!(ask(&edge, &header(key, asks), "m").await.header("x-forebay-explain"), None);
    }
    let line = edge.access(|line| line["model"] == "m").await;
    assert_eq!(line["passed"], "sick: failed");
}
