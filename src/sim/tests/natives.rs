//! The dialects that have one home each: Gemini, Converse, Anthropic on other clouds, Cohere and Ollama.

use super::*;
use crate::frame::eventstream::{Message, Reader};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

type Change = fn(&mut Value);

/// A dialect, and how its replies are read.
pub(super) struct Native {
    pub(super) name: &'static str,
    whole: &'static str,
    stream: &'static str,
    /// A request for the text of the parameter, without tools.
    body: fn(&str) -> Value,
    /// Offers the tool of [`tool`] under the name `weather`.
    offer: Change,
    /// Asks for at most two tokens.
    limit: Change,
    /// What a whole reply says.
    read: fn(&Value) -> Said,
    /// What the events of a stream say.
    fold: fn(&[(String, Value)]) -> Said,
    /// The reasons for the end of a text, of a text cut short, and of calls.
    ends: [&'static str; 3],
}

/// What a reply comes to.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Said {
    text: String,
    thought: String,
    calls: Vec<(String, Value)>,
    end: String,
    /// Of the prompt, of the reply.
    tokens: (u64, u64),
}

pub(super) const NATIVES: [Native; 6] = [
    Native {
        name: "gemini",
        whole: "/v1beta/models/m:generateContent",
        stream: "/v1beta/models/m:streamGenerateContent?alt=sse",
        body: |text| json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        offer: |body| {
            body["tools"] =
                json!([{"functionDeclarations": [{"name": "weather", "parameters_json_schema": tool()}]}]);
        },
        limit: |body| body["generationConfig"] = json!({"max_output_tokens": 2}),
        read: gemini,
        fold: |events| {
            let mut all = Said::default();
            for (_, event) in events {
                let said = gemini(event);
                all.text += &said.text;
                all.thought += &said.thought;
                all.calls.extend(said.calls);
                (all.end, all.tokens) = (said.end, said.tokens);
            }
            all
        },
        ends: ["STOP", "MAX_TOKENS", "STOP"],
    },
    Native {
        name: "converse",
        whole: "/model/m/converse",
        stream: "/model/m/converse-stream",
        body: |text| json!({"messages": [{"role": "user", "content": [{"text": text}]}]}),
        offer: |body| {
            let spec = json!({"name": "weather", "inputSchema": {"json": tool()}});
            body["toolConfig"] = json!({"tools": [{"toolSpec": spec}]});
        },
        limit: |body| body["inferenceConfig"] = json!({"maxTokens": 2}),
        read: |reply| {
            let mut said = Said { end: text(&reply["stopReason"]), ..Said::default() };
            said.tokens = (number(&reply["usage"]["inputTokens"]), number(&reply["usage"]["outputTokens"]));
            for block in reply["output"]["message"]["content"].as_array().unwrap() {
                said.text += &text(&block["text"]);
                said.thought += &text(&block["reasoningContent"]["reasoningText"]["text"]);
                if block["toolUse"].is_object() {
                    said.calls.push((text(&block["toolUse"]["name"]), block["toolUse"]["input"].clone()));
                }
            }
            said
        },
        fold: converse,
        ends: ["end_turn", "max_tokens", "tool_use"],
    },
    Native {
        name: "invoke",
        whole: "/model/m/invoke",
        stream: "/model/m/invoke-with-response-stream",
        body: |text| anthropic("bedrock-2023-05-31", text),
        offer: |body| body["tools"] = json!([{"name": "weather", "input_schema": tool()}]),
        limit: |body| body["max_tokens"] = json!(2),
        read: messages,
        fold: folded_messages,
        ends: ["end_turn", "max_tokens", "tool_use"],
    },
    Native {
        name: "rawPredict",
        whole: "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict",
        stream: "/v1/projects/p/locations/l/publishers/anthropic/models/m:streamRawPredict",
        body: |text| anthropic("vertex-2023-10-16", text),
        offer: |body| body["tools"] = json!([{"name": "weather", "input_schema": tool()}]),
        limit: |body| body["max_tokens"] = json!(2),
        read: messages,
        fold: folded_messages,
        ends: ["end_turn", "max_tokens", "tool_use"],
    },
    Native {
        name: "cohere",
        whole: "/v2/chat",
        stream: "/v2/chat",
        body: |text| json!({"model": "m", "messages": [{"role": "user", "content": text}]}),
        offer: function,
        limit: |body| body["max_tokens"] = json!(2),
        read: |reply| {
            let mut said = Said { end: text(&reply["finish_reason"]), ..Said::default() };
            said.tokens = tokens(&reply["usage"]["tokens"]);
            for part in reply["message"]["content"].as_array().into_iter().flatten() {
                said.text += &text(&part["text"]);
                said.thought += &text(&part["thinking"]);
            }
            for call in reply["message"]["tool_calls"].as_array().into_iter().flatten() {
                let arguments = serde_json::from_str(&text(&call["function"]["arguments"])).unwrap();
                said.calls.push((text(&call["function"]["name"]), arguments));
            }
            said
        },
        fold: cohere,
        ends: ["COMPLETE", "MAX_TOKENS", "TOOL_CALL"],
    },
    Native {
        name: "ollama",
        whole: "/api/chat",
        stream: "/api/chat",
        body: |text| json!({"model": "m", "messages": [{"role": "user", "content": text}]}),
        offer: function,
        limit: |body| body["options"] = json!({"num_predict": 2}),
        read: ollama,
        fold: |events| {
            let mut all = Said::default();
            for (_, event) in events {
                let said = ollama(event);
                all.text += &said.text;
                all.thought += &said.thought;
                all.calls.extend(said.calls);
                (all.end, all.tokens) = (said.end, said.tokens);
            }
            all
        },
        ends: ["stop", "length", "stop"],
    },
];

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn tokens(usage: &Value) -> (u64, u64) {
    (number(&usage["input_tokens"]), number(&usage["output_tokens"]))
}

fn anthropic(version: &str, text: &str) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    json!({"anthropic_version": version, "max_tokens": 100, "messages": messages})
}

fn function(body: &mut Value) {
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": tool()}}]);
}

fn gemini(reply: &Value) -> Said {
    let candidate = &reply["candidates"][0];
    let usage = &reply["usageMetadata"];
    let output = number(&usage["candidatesTokenCount"]) + number(&usage["thoughtsTokenCount"]);
    let mut said = Said { end: text(&candidate["finishReason"]), ..Said::default() };
    said.tokens = (number(&usage["promptTokenCount"]), output);
    for part in candidate["content"]["parts"].as_array().unwrap() {
        let kind = if part["thought"] == true { &mut said.thought } else { &mut said.text };
        *kind += &text(&part["text"]);
        if part["functionCall"].is_object() {
            said.calls.push((text(&part["functionCall"]["name"]), part["functionCall"]["args"].clone()));
        }
    }
    said
}

fn converse(events: &[(String, Value)]) -> Said {
    let mut said = Said::default();
    let mut arguments = String::new();
    for (name, event) in events {
        let delta = &event["delta"];
        said.text += &text(&delta["text"]);
        said.thought += &text(&delta["reasoningContent"]["text"]);
        arguments += &text(&delta["toolUse"]["input"]);
        match name.as_str() {
            "contentBlockStart" => said.calls.push((text(&event["start"]["toolUse"]["name"]), Value::Null)),
            "contentBlockStop" if !arguments.is_empty() => {
                let input = serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
                said.calls.last_mut().unwrap().1 = input;
            }
            "messageStop" => said.end = text(&event["stopReason"]),
            "metadata" => {
                let usage = &event["usage"];
                said.tokens = (number(&usage["inputTokens"]), number(&usage["outputTokens"]));
            }
            _ => {}
        }
    }
    said
}

fn messages(reply: &Value) -> Said {
    let mut said = Said { end: text(&reply["stop_reason"]), ..Said::default() };
    said.tokens = tokens(&reply["usage"]);
    for block in reply["content"].as_array().unwrap() {
        said.text += &text(&block["text"]);
        said.thought += &text(&block["thinking"]);
        if block["type"] == "tool_use" {
            said.calls.push((text(&block["name"]), block["input"].clone()));
        }
    }
    said
}

fn folded_messages(events: &[(String, Value)]) -> Said {
    let mut said = Said::default();
    let mut arguments = String::new();
    for (_, event) in events {
        let delta = &event["delta"];
        said.text += &text(&delta["text"]);
        said.thought += &text(&delta["thinking"]);
        arguments += &text(&delta["partial_json"]);
        match event["type"].as_str().unwrap() {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                said.calls.push((text(&event["content_block"]["name"]), Value::Null));
            }
            "content_block_stop" if !arguments.is_empty() => {
                let input = serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
                said.calls.last_mut().unwrap().1 = input;
            }
            "message_delta" => {
                said.end = text(&delta["stop_reason"]);
                said.tokens = tokens(&event["usage"]);
            }
            _ => {}
        }
    }
    said
}

fn cohere(events: &[(String, Value)]) -> Said {
    let mut said = Said::default();
    let mut arguments = String::new();
    for (name, event) in events {
        assert_eq!(event["type"], name.as_str());
        let message = &event["delta"]["message"];
        said.text += &text(&message["content"]["text"]);
        said.thought += &text(&message["content"]["thinking"]);
        let function = &message["tool_calls"]["function"];
        arguments += &text(&function["arguments"]);
        match name.as_str() {
            "tool-call-start" => said.calls.push((text(&function["name"]), Value::Null)),
            "tool-call-end" => {
                let input = serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
                said.calls.last_mut().unwrap().1 = input;
            }
            "message-end" => {
                said.end = text(&event["delta"]["finish_reason"]);
                said.tokens = tokens(&event["delta"]["usage"]["tokens"]);
            }
            _ => {}
        }
    }
    said
}

fn ollama(line: &Value) -> Said {
    let message = &line["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let calls = calls.map(|call| (text(&call["function"]["name"]), call["function"]["arguments"].clone()));
    Said {
        text: text(&message["content"]),
        thought: text(&message["thinking"]),
        calls: calls.collect(),
        end: text(&line["done_reason"]),
        tokens: (number(&line["prompt_eval_count"]), number(&line["eval_count"])),
    }
}

/// The events of a stream, whatever frames them: names and payloads, without `[DONE]`.
pub(super) fn events(got: &Got) -> Vec<(String, Value)> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    match got.header("content-type").unwrap() {
        "application/x-ndjson" => {
            got.text().lines().map(|line| (String::new(), json(line.as_bytes()))).collect()
        }
        "application/vnd.amazon.eventstream" => {
            let mut told = Vec::new();
            let tell = &mut |message: Message<'_>| {
                let name = message.headers.text(":event-type");
                let name = name.or_else(|| message.headers.text(":exception-type")).unwrap().to_owned();
                let payload = json(message.payload);
                match payload["bytes"].as_str() {
                    Some(inner) => told.push((name, json(&STANDARD.decode(inner).unwrap()))),
                    None => told.push((name, payload)),
                }
            };
            let mut reader = Reader::default();
            reader.push(&got.body, tell).unwrap();
            reader.finish().unwrap();
            told
        }
        _ => {
            let body = got.text().replace("\r\n", "\n").into_bytes();
            let events = Got { body, ..got.clone() }.events();
            let events = events.into_iter().filter(|(_, data)| data != "[DONE]");
            events.map(|(name, data)| (name, json(data.as_bytes()))).collect()
        }
    }
}

impl Native {
    pub(super) async fn ask(
        &self,
        sim: &Sim,
        stream: bool,
        headers: &str,
        change: impl Fn(&mut Value),
    ) -> Got {
        let mut body = (self.body)("hi there");
        if self.whole == self.stream {
            body["stream"] = json!(stream);
        }
        change(&mut body);
        ask(sim, if stream { self.stream } else { self.whole }, headers, &body).await
    }

    /// What is said whole and in a stream, which is the same.
    async fn said(&self, sim: &Sim, headers: &str, change: impl Fn(&mut Value)) -> Said {
        let whole = self.ask(sim, false, headers, &change).await;
        let stream = self.ask(sim, true, headers, &change).await;
        assert_eq!((whole.status, stream.status), (200, 200), "{}: {whole:?} {stream:?}", self.name);
        let said = (self.read)(&whole.json());
        assert_eq!((self.fold)(&events(&stream)), said, "{}", self.name);
        said
    }
}

#[tokio::test]
async fn a_text_is_said_with_its_end_and_its_price() {
    let sim = sim(|_| {}).await;
    for native in &NATIVES {
        let said = native.said(&sim, "x-sim-text: one two three\r\n", |_| {}).await;
        let expected = Said {
            text: "one two three".into(),
            end: native.ends[0].into(),
            tokens: (4, 3),
            ..Said::default()
        };
        assert_eq!(said, expected, "{}", native.name);
        let said = native.said(&sim, "x-sim-text: one two three\r\n", native.limit).await;
        assert_eq!((said.text.as_str(), said.end.as_str()), ("one two", native.ends[1]), "{}", native.name);
    }
}

#[tokio::test]
async fn tools_are_called_and_thoughts_told() {
    let sim = sim(|_| {}).await;
    for native in &NATIVES {
        let headers = "x-sim-reasoning: it may rain\r\nx-sim-tool-calls: 2\r\n";
        let said = native.said(&sim, headers, native.offer).await;
        assert_eq!((said.thought.as_str(), said.end.as_str()), ("it may rain", native.ends[2]));
        assert_eq!(said.calls.len(), 2, "{}", native.name);
        for (name, arguments) in said.calls {
            assert_eq!(name, "weather", "{}", native.name);
            assert!(arguments["city"].is_string() && arguments["days"].is_i64(), "{arguments}");
        }
    }
}

#[tokio::test]
async fn thoughts_are_shown_to_those_who_ask() {
    let sim = sim(|_| {}).await;
    let asks: [(&str, Change); 6] = [
        ("gemini", |body| body["generationConfig"] = json!({"thinking_config": {"include_thoughts": true}})),
        ("converse", |body| {
            body["additionalModelRequestFields"] =
                json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
        }),
        ("invoke", |body| body["thinking"] = json!({"type": "adaptive"})),
        ("rawPredict", |body| body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024})),
        ("cohere", |body| body["thinking"] = json!({"type": "enabled"})),
        ("ollama", |body| body["think"] = json!("high")),
    ];
    for (native, (name, think)) in NATIVES.iter().zip(asks) {
        assert_eq!(native.name, name);
        assert_eq!(native.said(&sim, "", |_| {}).await.thought, "", "{name}");
        let said = native.said(&sim, "", think).await;
        assert!(!said.thought.is_empty() && !said.text.is_empty(), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn what_was_thought_comes_back_as_it_was_sent() {
    let sim = sim(|config| {
        config.strict = true;
        config.models = vec!["m".into()];
    })
    .await;
    let native = NATIVES.iter().find(|native| native.name == "converse").unwrap();
    let reply = native.ask(&sim, false, "x-sim-reasoning: so then\r\n", |_| {}).await.json();
    for (forge, status) in [(false, 200), (true, 400)] {
        let got = native.ask(&sim, false, "", |body| {
            let mut said = reply["output"]["message"].clone();
            if forge {
                said["content"][0]["reasoningContent"]["reasoningText"]["signature"] = json!("forged");
            }
            let messages = body["messages"].as_array_mut().unwrap();
            messages.push(said);
            messages.push(json!({"role": "user", "content": [{"text": "and then?"}]}));
        });
        let got = got.await;
        assert_eq!(got.status, status, "{got:?}");
    }
}

#[tokio::test]
async fn gemini_streams_an_array_where_events_are_not_asked_for() {
    let sim = sim(|_| {}).await;
    let body = (NATIVES[0].body)("hi");
    let got = ask(&sim, "/v1/models/m:streamGenerateContent", "x-sim-text: one two\r\n", &body).await;
    assert_eq!(got.header("content-type"), Some("application/json"));
    let replies = got.json();
    assert_eq!(replies.as_array().unwrap().len(), 3);
    assert_eq!(replies[2]["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn azure_names_its_deployment_in_the_path_and_filters() {
    let sim = sim(|_| {}).await;
    let path = "/openai/deployments/my-gpt/chat/completions";
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let got = ask(&sim, &format!("{path}?api-version=2024-10-21"), SAY, &body).await;
    assert!(got.header("apim-request-id").is_some(), "{got:?}");
    assert_eq!(
        (&got.json()["model"], &got.json()["choices"][0]["message"]["content"]),
        (&json!("my-gpt"), &json!("one two three"))
    );
    let stream = ask(&sim, &format!("{path}?api-version=2024-10-21"), SAY, &streamed(body.clone())).await;
    let chunks = stream.chunks();
    assert!(chunks[0]["choices"] == json!([]) && chunks[0]["prompt_filter_results"].is_array());
    assert_eq!(chunks[1]["choices"][0]["delta"]["role"], "assistant");
    let got = ask(&sim, path, "", &body).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (404, &json!("404")), "no version");
    let got = ask(&sim, "/openai/deployments/e/embeddings?api-version=1", "", &json!({"input": "x"})).await;
    assert_eq!(got.json()["data"].as_array().unwrap().len(), 1);
}

const SAY: &str = "x-sim-text: one two three\r\n";

#[tokio::test]
async fn vectors_are_the_same_in_every_dialect() {
    let sim = sim(|config| config.embedding_dimensions = 3).await;
    let content = json!({"parts": [{"text": "one two"}]});
    for (path, body, place) in [
        ("/v1/embeddings", json!({"model": "m", "input": "one two"}), "/data/0/embedding"),
        ("/v1beta/models/m:embedContent", json!({"content": content}), "/embedding/values"),
        (
            "/v1/models/m:batchEmbedContents",
            json!({"requests": [{"model": "models/m", "content": content}]}),
            "/embeddings/0/values",
        ),
        (
            "/v1/projects/p/locations/l/publishers/google/models/m:predict",
            json!({"instances": [{"content": "one two", "task_type": "RETRIEVAL_QUERY"}]}),
            "/predictions/0/embeddings/values",
        ),
        (
            "/v2/embed",
            json!({"model": "m", "texts": ["one two"], "input_type": "search_query", "embedding_types": ["float"]}),
            "/embeddings/float/0",
        ),
        ("/api/embed", json!({"model": "m", "input": ["one two"]}), "/embeddings/0"),
    ] {
        let got = ask(&sim, path, "", &body).await;
        let expected = ask(&sim, "/v1/embeddings", "", &json!({"model": "m", "input": "one two"})).await;
        assert_eq!(
            got.json().pointer(place),
            expected.json().pointer("/data/0/embedding"),
            "{path}: {got:?}"
        );
    }
}

#[tokio::test]
async fn what_needs_no_engine() {
    let sim = sim(|config| config.models = vec!["m".into()]).await;
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "one two"}]}]});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "one two"}]}]});
    let documents = json!({"model": "m", "query": "q", "documents": ["a", "b", "c"], "top_n": 2});
    for (path, body, place, expected) in [
        ("/v1beta/models/m:countTokens", gemini.clone(), "/totalTokens", json!(4)),
        ("/v1beta/models/m:countTokens", json!({"generateContentRequest": gemini}), "/totalTokens", json!(4)),
        ("/model/m/count-tokens", json!({"input": {"converse": converse}}), "/inputTokens", json!(4)),
        ("/v2/rerank", documents, "/meta/billed_units/search_units", json!(1)),
    ] {
        let got = ask(&sim, path, "", &body).await;
        assert_eq!(got.json().pointer(place), Some(&expected), "{path}: {got:?}");
    }
    let ranked = json!({"model": "m", "query": "q", "documents": ["a", "b", "c"], "top_n": 2});
    let ranked = ask(&sim, "/v2/rerank", "", &ranked).await.json();
    let score = |at: usize| ranked["results"][at]["relevance_score"].as_f64().unwrap();
    assert!(score(0) >= score(1) && ranked["results"].as_array().unwrap().len() == 2);
    for (path, place, expected) in [
        ("/api/tags", "/models/0/name", "m"),
        ("/v1beta/models", "/models/0/name", "models/m"),
        ("/v1beta/models/m", "/name", "models/m"),
    ] {
        assert_eq!(get(&sim, path, "").await.json().pointer(place), Some(&json!(expected)), "{path}");
    }
    assert!(get(&sim, "/api/version", "").await.json()["version"].is_string());
}

#[tokio::test]
async fn a_prompt_steers_where_nothing_else_comes_through() {
    let sim = sim(|_| {}).await;
    for native in &NATIVES {
        let body = (native.body)("Say it. (x-sim-text: naïve \"words\" 🚀) (x-sim-reasoning: why not)");
        let said = (native.read)(&{
            let mut body = body;
            if native.whole == native.stream {
                body["stream"] = json!(false);
            }
            ask(&sim, native.whole, "", &body).await.json()
        });
        assert_eq!(
            (said.text.as_str(), said.thought.as_str()),
            ("naïve \"words\" 🚀", "why not"),
            "{}",
            native.name
        );
    }
}
