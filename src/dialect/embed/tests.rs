use serde_json::{Value as Tree, json};

use super::*;
use crate::dialect::ir::Policy;

fn sent(upstream: Upstream, body: &str) -> Result<(Tree, To, Vec<String>), Error> {
    let mut notes = Notes::new(Policy::Lenient);
    let (sent, to) = upstream.request(body.as_bytes(), ("there", "here"), &mut notes)?;
    let noted = notes.list().iter().map(|note| note.path.clone()).collect();
    Ok((serde_json::from_slice(&sent).unwrap(), to, noted))
}

#[test]
fn a_request_becomes_each_upstreams() {
    let body = r#"{"model":"m","input":["a","b\n"],"dimensions":256,"encoding_format":"base64","user":"u","input_type":"search_query","truncate":"END"}"#;
    for (upstream, expected, lost) in [
        (
            Upstream::Cohere,
            json!({"model": "there", "texts": ["a", "b\n"], "input_type": "search_query", "truncate": "END",
                "embedding_types": ["float"], "output_dimension": 256}),
            &["user"][..],
        ),
        (
            Upstream::Gemini,
            json!({"requests": [
                {"model": "models/there", "content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY",
                    "outputDimensionality": 256},
                {"model": "models/there", "content": {"parts": [{"text": "b\n"}]}, "taskType": "RETRIEVAL_QUERY",
                    "outputDimensionality": 256}]}),
            &["truncate", "input_type", "user"],
        ),
        (
            Upstream::Vertex,
            json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"},
                {"content": "b\n", "task_type": "RETRIEVAL_QUERY"}],
                "parameters": {"outputDimensionality": 256, "autoTruncate": true}}),
            &["input_type", "user"],
        ),
        (
            Upstream::Ollama,
            json!({"model": "there", "input": ["a", "b\n"], "dimensions": 256, "truncate": true}),
            &["input_type", "user"],
        ),
    ] {
        let (body, to, noted) = sent(upstream, body).unwrap();
        assert_eq!((body, noted), (expected, lost.iter().map(|&l| l.to_owned()).collect::<Vec<_>>()));
        assert_eq!((to.model.as_str(), to.encoding, to.count), ("here", Encoding::Base64, 2));
    }
    let (body, to, noted) = sent(Upstream::Cohere, r#"{"model":"m","input":"a"}"#).unwrap();
    assert_eq!((&body["texts"], &body["input_type"]), (&json!(["a"]), &json!("search_document")));
    assert_eq!((to.encoding, to.count, noted.len()), (Encoding::Float, 1, 0));
}

#[test]
fn what_cannot_be_embedded_is_refused_with_its_path() {
    let many = format!(r#"{{"model":"m","input":[{}"x"]}}"#, "\"x\",".repeat(96));
    for (body, expected) in [
        (r#"{"model":"m"}"#, "input: is required"),
        (r#"{"model":"m","input":[[1,2]]}"#, "input[0]: must be a string"),
        (r#"{"model":"m","input":[1]}"#, "input[0]: must be a string"),
        (r#"{"model":"m","input":[]}"#, "input: must hold"),
        (r#"{"model":"m","input":"x","encoding_format":"int8"}"#, "encoding_format: must be"),
        (r#"{"model":"m","input":"x","dimensions":-1}"#, "dimensions: must be"),
        (&many, "input: the upstream takes at most 96"),
    ] {
        let error = sent(Upstream::Cohere, body).unwrap_err();
        assert!(error.public.starts_with(expected), "{}", error.public);
    }
    assert!(sent(Upstream::Ollama, &many).is_ok());
}

/// A reply of each upstream, and the tokens that it tells.
const REPLIES: [(Upstream, &str, Option<u64>); 4] = [
    (
        Upstream::Cohere,
        r#"{"id":"x","texts":["a","b"],"embeddings":{"float":[[0.5,-1],[3e-1,2]]},"meta":{"billed_units":{"input_tokens":10}}}"#,
        Some(10),
    ),
    (Upstream::Gemini, r#"{"embeddings":[{"values":[0.5,-1]},{"values":[3e-1,2]}]}"#, None),
    (
        Upstream::Vertex,
        r#"{"predictions":[{"embeddings":{"values":[0.5,-1],"statistics":{"token_count":4,"truncated":false}}},
            {"embeddings":{"values":[3e-1,2],"statistics":{"token_count":6}}}]}"#,
        Some(10),
    ),
    (Upstream::Ollama, r#"{"model":"m","embeddings":[[0.5,-1],[3e-1,2]],"prompt_eval_count":10}"#, Some(10)),
];

fn to(encoding: Encoding, count: usize) -> To {
    To { model: "m".to_owned(), encoding, count }
}

#[test]
fn a_reply_becomes_openais_in_both_encodings() {
    for (upstream, body, tokens) in REPLIES {
        let read = |encoding| -> Tree {
            let (body, usage) = upstream.reply(body.as_bytes(), &to(encoding, 2)).unwrap();
            assert_eq!(usage.and_then(|usage| usage.input.total), tokens, "{upstream:?}");
            serde_json::from_slice(&body).unwrap()
        };
        let told = tokens.unwrap_or(0);
        let expected = json!({"object": "list", "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1]},
            {"object": "embedding", "index": 1, "embedding": [0.3, 2]}],
            "model": "m", "usage": {"prompt_tokens": told, "total_tokens": told}});
        assert_eq!(read(Encoding::Float), expected, "{upstream:?}");
        let bytes =
            STANDARD.decode(read(Encoding::Base64)["data"][1]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0.3_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat());
    }
}

#[test]
fn recorded_vectors_arrive_unchanged() {
    let recordings = crate::dialect::responses::tests::recorded_at("/v2/embed");
    if recordings.is_empty() {
        println!("skipped: there are no recordings beside this checkout");
    }
    for (file, body) in recordings {
        let document: Tree = serde_json::from_slice(&body).unwrap();
        let vectors = document["embeddings"]["float"].as_array().unwrap();
        let read = |encoding| -> Tree {
            let (body, _) = Upstream::Cohere.reply(&body, &to(encoding, vectors.len())).unwrap();
            serde_json::from_slice(&body).unwrap()
        };
        let (floats, bytes) = (read(Encoding::Float), read(Encoding::Base64));
        assert!(floats["usage"]["prompt_tokens"].as_u64().unwrap() > 0, "{file}");
        for (index, vector) in vectors.iter().enumerate() {
            assert_eq!(floats["data"][index]["embedding"], *vector, "{file}");
            let bytes = STANDARD.decode(bytes["data"][index]["embedding"].as_str().unwrap()).unwrap();
            let numbers = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
            let expected = vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
            assert!(numbers.eq(expected), "{file}");
        }
    }
}

#[test]
fn a_reply_without_its_vectors_is_an_error() {
    for (upstream, body, _) in REPLIES {
        for count in [1, 3] {
            assert!(
                upstream.reply(body.as_bytes(), &to(Encoding::Float, count)).is_err(),
                "{upstream:?} {count}"
            );
        }
        for body in ["{", "{}", "[]", "null"] {
            assert!(
                upstream.reply(body.as_bytes(), &to(Encoding::Base64, 1)).is_err(),
                "{upstream:?} {body}"
            );
        }
    }
    for body in [r#"{"embeddings":{"float":[]}}"#, r#"{"embeddings":{"float":[["x"]]}}"#] {
        assert!(Upstream::Cohere.reply(body.as_bytes(), &to(Encoding::Base64, 1)).is_err(), "{body}");
    }
    let error =
        Upstream::Cohere.reply(br#"{"message":"invalid texts"}"#, &to(Encoding::Float, 1)).unwrap_err();
    assert_eq!(error.public, "invalid texts");
}

#[test]
fn a_vector_that_is_none_is_an_error_in_both_encodings() {
    for vector in
        ["[]", "null", "{}", "\"x\"", "[\"x\"]", "[{}]", "[null]", "[1e39]", "[1,-1e39]", "[1e400]", "[[1]]"]
    {
        for (upstream, body) in [
            (Upstream::Cohere, format!(r#"{{"embeddings":{{"float":[{vector}]}}}}"#)),
            (Upstream::Gemini, format!(r#"{{"embeddings":[{{"values":{vector}}}]}}"#)),
            (Upstream::Vertex, format!(r#"{{"predictions":[{{"embeddings":{{"values":{vector}}}}}]}}"#)),
            (Upstream::Ollama, format!(r#"{{"embeddings":[{vector}]}}"#)),
        ] {
            for encoding in [Encoding::Float, Encoding::Base64] {
                let error = upstream.reply(body.as_bytes(), &to(encoding, 1)).unwrap_err();
                assert_eq!(error.kind, crate::error::Kind::UpstreamFailed, "{upstream:?} {body}");
            }
        }
    }
}
