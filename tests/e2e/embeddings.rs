//! Embeddings in OpenAI's shape at upstreams of every shape; what else is no conversation: rerank, counts of tokens.

use serde_json::{Value, json};

use crate::support::scripted::{Scripted, Turn, json as answer};
use crate::support::{Edge, post};

const COHERE: &str =
    r#"{"id":"x","embeddings":{"float":[[0.5,-1],[0.25,2]]},"meta":{"billed_units":{"input_tokens":7}}}"#;
const GEMINI: &str = r#"{"embeddings":[{"values":[0.5,-1]},{"values":[0.25,2]}]}"#;
const OLLAMA: &str = r#"{"model":"m","embeddings":[[0.5,-1],[0.25,2]],"prompt_eval_count":7}"#;

fn site(provider: &str, upstream: &Scripted) -> String {
    format!(
        "clusters: {{there: {{provider: {provider}, api_key: env:KEY, base_url: \"http://{}\", http: \"1.1\", health: {{check: none}}}}}}\n\
         models: {{m: {{deployments: [{{cluster: there, model: e-1}}]}}}}\n",
        upstream.addr
    )
}

async fn start(provider: &str, upstream: &Scripted) -> Edge {
    Edge::start_with(&site(provider, upstream), &[("KEY", "a-key-0123456789")]).await
}

fn sent(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn embeddings_come_in_openais_shape_from_everyone() {
    for (provider, path, reply, tokens) in [
        ("cohere-v2", "/v2/embed", COHERE, 7),
        ("gemini", "/v1beta/models/e-1:batchEmbedContents", GEMINI, 0),
        ("ollama-native", "/api/embed", OLLAMA, 7),
    ] {
        let upstream = Scripted::start(move |_| Turn::Say(answer(200, reply))).await;
        let edge = start(provider, &upstream).await;
        for (encoding, first) in [("float", json!([0.5, -1])), ("base64", json!("AAAAPwAAgL8="))] {
            let body = json!({"model": "m", "input": ["a", "b"], "encoding_format": encoding, "user": "u"});
            let got = edge.connect().await.ask(&post("/v1/embeddings", "", body.to_string())).await;
            assert_eq!(got.status, 200, "{provider}: {got:?}");
            let told = got.json();
            assert_eq!((&told["data"][0]["embedding"], &told["model"]), (&first, &json!("m")), "{provider}");
            assert_eq!(
                (&told["usage"]["prompt_tokens"], &told["data"][1]["index"]),
                (&json!(tokens), &json!(1))
            );
            assert_eq!(got.header("x-forebay-dropped"), Some("user"));
        }
        let (line, body) = sent(&upstream.received()[0]);
        assert_eq!(line, format!("POST {path} HTTP/1.1"));
        assert!(body.to_string().contains("\"a\"") && !body.to_string().contains("encoding"), "{body}");
        edge.idle().await;
    }
}

#[tokio::test]
async fn an_upstream_that_loses_a_vector_has_failed() {
    let upstream = Scripted::start(|_| Turn::Say(answer(200, GEMINI))).await;
    let edge = start("gemini", &upstream).await;
    let body = json!({"model": "m", "input": ["a", "b", "c"]}).to_string();
    let got = edge.connect().await.ask(&post("/v1/embeddings", "", body)).await;
    assert_eq!(got.status, 502, "{got:?}");
    let error = r#"{"message":"invalid api token"}"#;
    let refusing = Scripted::start(move |_| Turn::Say(answer(400, error))).await;
    let edge = start("cohere-v2", &refusing).await;
    let body = json!({"model": "m", "input": "a"}).to_string();
    let got = edge.connect().await.ask(&post("/v1/embeddings", "", body)).await;
    assert_eq!((got.status, &got.json()["error"]["message"]), (400, &json!("invalid api token")), "{got:?}");
}

#[tokio::test]
async fn rerank_passes_as_it_is_at_either_path() {
    let upstream =
        Scripted::start(|_| Turn::Say(answer(200, r#"{"results":[{"index":1,"relevance_score":0.9}]}"#)))
            .await;
    let edge = start("cohere-v2", &upstream).await;
    for path in ["/v1/rerank", "/v2/rerank"] {
        let body = json!({"model": "m", "query": "q", "documents": ["a", "b"]}).to_string();
        let got = edge.connect().await.ask(&post(path, "", body)).await;
        assert_eq!(got.json()["results"][0]["index"], 1, "{got:?}");
        let (line, body) = sent(&upstream.received().pop().unwrap());
        assert_eq!((line.as_str(), &body["model"]), ("POST /v2/rerank HTTP/1.1", &json!("e-1")));
    }
}

#[tokio::test]
async fn geminis_tokens_are_counted_by_gemini_or_by_a_guess() {
    let upstream = Scripted::start(|_| Turn::Say(answer(200, r#"{"totalTokens":31}"#))).await;
    let body = json!({"contents": [{"parts": [{"text": "a".repeat(380)}]}]}).to_string();
    let count = post("/v1beta/models/m:countTokens", "", &body);
    let edge = start("gemini", &upstream).await;
    assert_eq!(edge.connect().await.ask(&count).await.json(), json!({"totalTokens": 31}));
    assert_eq!(sent(&upstream.received()[0]).0, "POST /v1beta/models/e-1:countTokens HTTP/1.1");
    let edge = start("openai", &upstream).await;
    let guessed = edge.connect().await.ask(&count).await.json();
    assert!((100..120).contains(&guessed["totalTokens"].as_u64().unwrap()), "{guessed}");
    assert_eq!(upstream.received().len(), 1, "a guess asks nobody");
}
