//! Each API, streamed and not, as its official clients read it.

use super::*;
use base64::Engine as _;

const SAY: &str = "x-sim-text: one two three\r\n";

#[tokio::test]
async fn chat_whole() {
    let sim = sim(|_| {}).await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        let got = ask(&sim, path, SAY, &chat("hi there")).await;
        assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
        assert!(got.header("x-ratelimit-remaining-tokens").is_some() && got.header("x-request-id").is_some());
        let body = got.json();
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(body["choices"][0]["message"]["content"], "one two three");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["prompt_tokens"], 4, "two words, a role and an end");
        assert_eq!(
            (&body["usage"]["completion_tokens"], &body["usage"]["total_tokens"]),
            (&json!(3), &json!(7))
        );
        assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    }
}

#[tokio::test]
async fn chat_stream_keeps_the_hard_rules() {
    let sim = sim(|_| {}).await;
    let mut body = streamed(chat("hi"));
    body["stream_options"] = json!({"include_usage": true});
    body["n"] = json!(2);
    let got = ask(&sim, "/v1/chat/completions", "", &body).await;
    assert_eq!(got.events().last().unwrap().1, "[DONE]");
    assert!(got.events().iter().all(|(name, _)| name.is_empty()));
    let chunks = got.chunks();
    let ids: std::collections::HashSet<_> =
        chunks.iter().map(|chunk| chunk["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let (usage, rest) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert!(rest.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    for index in 0..2 {
        let mine: Vec<_> =
            rest.iter().map(|chunk| &chunk["choices"][0]).filter(|c| c["index"] == index).collect();
        assert_eq!(mine[0]["delta"]["role"], "assistant");
        assert!(mine[1..].iter().all(|choice| choice["delta"].get("role").is_none()));
        let (last, before) = mine.split_last().unwrap();
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("stop")));
        assert!(before.iter().all(|choice| choice["finish_reason"].is_null()));
    }
    let tokens =
        rest.iter().filter(|c| c["choices"][0]["delta"]["content"].as_str().is_some_and(|t| !t.is_empty()));
    assert_eq!(usage["usage"]["completion_tokens"], tokens.count());
}

#[tokio::test]
async fn a_stream_says_what_the_whole_reply_says() {
    let sim = sim(|_| {}).await;
    let whole = ask(&sim, "/v1/chat/completions", "", &chat("same")).await.json();
    let got = ask(&sim, "/v1/chat/completions", "", &streamed(chat("same"))).await;
    let text: String = got
        .chunks()
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(whole["id"], got.chunks()[0]["id"]);
    assert!(got.chunks().iter().all(|chunk| chunk.get("usage").is_none()), "nobody asked for usage");
}

#[tokio::test]
async fn chat_calls_tools() {
    let sim = sim(|_| {}).await;
    let mut body = chat("weather?");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": tool()}}]);
    let whole = ask(&sim, "/v1/chat/completions", "", &body).await.json();
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string() && arguments["days"].is_i64());

    let got = ask(&sim, "/v1/chat/completions", "x-sim-tool-calls: 2\r\n", &streamed(body.clone())).await;
    let deltas: Vec<Value> =
        got.chunks().iter().map(|c| c["choices"][0]["delta"]["tool_calls"][0].clone()).collect();
    let starts: Vec<_> = deltas.iter().filter(|d| d.get("id").is_some()).collect();
    assert_eq!(starts.len(), 2);
    assert!(starts.iter().all(|d| d["function"]["arguments"] == "" && d["type"] == "function"));
    for index in 0..2 {
        let mine = deltas.iter().filter(|d| d["index"] == index);
        let json: String = mine.map(|d| d["function"]["arguments"].as_str().unwrap().to_owned()).collect();
        assert!(serde_json::from_str::<Value>(&json).unwrap().is_object());
    }
    body["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "tool", "tool_call_id": "c", "content": "sunny"}));
    let answered = ask(&sim, "/v1/chat/completions", "", &body).await.json();
    assert_eq!(answered["choices"][0]["finish_reason"], "stop");
    body["tool_choice"] = json!("none");
    body["messages"] = json!([{"role": "user", "content": "x"}]);
    let none = ask(&sim, "/v1/chat/completions", "", &body).await.json();
    assert!(none["choices"][0]["message"]["content"].is_string());
}

#[tokio::test]
async fn chat_writes_json_and_stops_at_limits() {
    let sim = sim(|_| {}).await;
    let mut body = chat("json");
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "w", "schema": tool()}});
    let got = ask(&sim, "/v1/chat/completions", "", &body).await.json();
    let value: Value =
        serde_json::from_str(got["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(value["days"].is_i64());
    let mut short = chat("short");
    short["max_completion_tokens"] = json!(2);
    let got = ask(&sim, "/v1/chat/completions", SAY, &short).await.json();
    assert_eq!(got["choices"][0]["message"]["content"], "one two");
    assert_eq!(got["choices"][0]["finish_reason"], "length");
    let got = ask(&sim, "/v1/chat/completions", "x-sim-tokens: 9\r\n", &chat("nine")).await.json();
    assert_eq!(got["usage"]["completion_tokens"], 9);
    let mut inner = chat("inner");
    inner["sim"] = json!({"text": "from the body", "tokens": 3});
    let got = ask(&sim, "/v1/chat/completions", "", &inner).await.json();
    assert_eq!(got["choices"][0]["message"]["content"], "from the body");
}

#[tokio::test]
async fn completions() {
    let sim = sim(|_| {}).await;
    let mut body = json!({"model": "m", "prompt": ["a b", [1, 2, 3]], "echo": true});
    let got = ask(&sim, "/v1/completions", SAY, &body).await.json();
    assert_eq!(got["object"], "text_completion");
    assert_eq!(got["choices"][0]["text"], "a bone two three");
    assert_eq!(got["choices"][1]["text"], "<1><2><3>one two three");
    assert_eq!((&got["usage"]["prompt_tokens"], &got["usage"]["completion_tokens"]), (&json!(7), &json!(6)));
    body["stream"] = json!(true);
    body["echo"] = json!(false);
    body["stream_options"] = json!({"include_usage": true});
    let got = ask(&sim, "/v1/completions", SAY, &body).await;
    let texts: Vec<_> = got
        .chunks()
        .iter()
        .filter(|c| c["choices"][0]["index"] == 1)
        .map(|c| c["choices"][0]["text"].clone())
        .collect();
    assert_eq!(texts, ["one", " two", " three", ""]);
    assert_eq!(got.chunks().last().unwrap()["usage"]["total_tokens"], 13);
    assert_eq!(got.events().last().unwrap().1, "[DONE]");
}

#[tokio::test]
async fn embeddings() {
    let sim = sim(|_| {}).await;
    let body = json!({"model": "e", "input": ["one two", [7, 8, 9], "one two"], "dimensions": 5});
    let floats = ask(&sim, "/v1/embeddings", "", &body).await.json();
    assert_eq!((&floats["object"], &floats["usage"]["prompt_tokens"]), (&json!("list"), &json!(7)));
    let vector = |at: usize| -> Vec<f64> {
        floats["data"][at]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    assert_eq!(vector(0).len(), 5);
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));
    assert!((vector(0).iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    let mut base64 = body.clone();
    base64["encoding_format"] = json!("base64");
    let base64 = ask(&sim, "/embeddings", "", &base64).await.json();
    let encoded = base64["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    let decoded: Vec<f64> =
        bytes.chunks(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap()))).collect();
    assert!(decoded.iter().zip(vector(0)).all(|(a, b)| (a - b).abs() < 1e-6));
    let one = ask(&sim, "/v1/embeddings", "", &json!({"model": "e", "input": "x"})).await.json();
    assert_eq!(one["data"][0]["embedding"].as_array().unwrap().len(), 64);
}

#[tokio::test]
async fn models_in_both_shapes() {
    let sim = sim(|config| config.models = ["a", "b", "c"].map(String::from).into()).await;
    let openai = get(&sim, "/v1/models", "").await.json();
    assert_eq!((&openai["object"], &openai["data"][1]["id"]), (&json!("list"), &json!("b")));
    assert_eq!(get(&sim, "/v1/models/c", "").await.json()["object"], "model");
    assert_eq!(get(&sim, "/v1/models/nope", "").await.json()["error"]["code"], "model_not_found");
    let version = "anthropic-version: 2023-06-01\r\n";
    let page = get(&sim, "/v1/models?limit=2", version).await.json();
    assert_eq!(
        (&page["first_id"], &page["last_id"], &page["has_more"]),
        (&json!("a"), &json!("b"), &json!(true))
    );
    let page = get(&sim, "/v1/models?after_id=b", version).await.json();
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["type"]), (&json!("c"), &json!("model")));
    assert_eq!(get(&sim, "/v1/models/nope", version).await.json()["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn messages_whole_and_counted() {
    let sim = sim(|_| {}).await;
    let mut body = message("hi there");
    body["system"] = json!([{"type": "text", "text": "be brief"}]);
    let got = ask(&sim, "/v1/messages?beta=true", SAY, &body).await;
    assert!(got.header("anthropic-ratelimit-requests-limit").is_some() && got.header("request-id").is_some());
    let whole = got.json();
    assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(whole["content"], json!([{"type": "text", "text": "one two three", "citations": null}]));
    assert_eq!((&whole["stop_reason"], &whole["usage"]["output_tokens"]), (&json!("end_turn"), &json!(3)));
    assert_eq!(whole["usage"]["input_tokens"], 6);
    let count = ask(&sim, "/v1/messages/count_tokens", "", &body).await.json();
    assert_eq!(count, json!({"input_tokens": 6}));
    body["stop_sequences"] = json!(["two"]);
    let stopped = ask(&sim, "/v1/messages", SAY, &body).await.json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("two"))
    );
}

#[tokio::test]
async fn messages_stream_in_order() {
    let sim = sim(|_| {}).await;
    let got = ask(&sim, "/v1/messages", SAY, &streamed(message("hi"))).await;
    let names: Vec<_> = got.events().into_iter().map(|(name, _)| name).collect();
    let wanted = "message_start content_block_start ping content_block_delta content_block_delta \
                  content_block_delta content_block_stop message_delta message_stop";
    assert_eq!(names.join(" "), wanted);
    let chunks = got.chunks();
    assert!(chunks.iter().zip(&names).all(|(chunk, name)| chunk["type"] == *name));
    assert_eq!(chunks[0]["message"]["content"], json!([]));
    assert!(chunks[0]["message"]["usage"]["input_tokens"].is_u64());
    assert_eq!(chunks[7]["usage"]["output_tokens"], 3);
    assert_eq!(chunks[7]["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn messages_use_tools() {
    let sim = sim(|_| {}).await;
    let mut body = message("weather?");
    body["tools"] = json!([{"name": "weather", "input_schema": tool()}]);
    let whole = ask(&sim, "/v1/messages", "", &body).await.json();
    assert_eq!(
        (&whole["stop_reason"], &whole["content"][0]["name"]),
        (&json!("tool_use"), &json!("weather"))
    );
    assert!(whole["content"][0]["input"]["days"].is_i64());
    let got = ask(&sim, "/v1/messages", "x-sim-tool-calls: 2\r\n", &streamed(body.clone())).await;
    let chunks = got.chunks();
    let starts: Vec<_> = chunks.iter().filter(|c| c["type"] == "content_block_start").collect();
    assert_eq!(starts.iter().map(|c| c["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(starts[0]["content_block"]["input"], json!({}));
    assert!(starts[0]["content_block"]["id"].as_str().unwrap().starts_with("toolu_"));
    let deltas = chunks.iter().filter(|c| c["index"] == 1 && c["type"] == "content_block_delta");
    let json: String = deltas.map(|c| c["delta"]["partial_json"].as_str().unwrap().to_owned()).collect();
    assert!(serde_json::from_str::<Value>(&json).unwrap()["city"].is_string());
    let result =
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sun"}]});
    body["messages"].as_array_mut().unwrap().push(result);
    assert_eq!(ask(&sim, "/v1/messages", "", &body).await.json()["stop_reason"], "end_turn");
}

#[tokio::test]
async fn responses_whole_and_counted() {
    let sim = sim(|_| {}).await;
    let body = json!({"model": "m", "input": "hi there", "instructions": "be brief", "max_output_tokens": 2});
    let whole = ask(&sim, "/v1/responses", SAY, &body).await.json();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["output"][0]["content"][0]["text"], "one two");
    assert_eq!((&whole["usage"]["input_tokens"], &whole["usage"]["output_tokens"]), (&json!(6), &json!(2)));
    for key in
        ["parallel_tool_calls", "tool_choice", "tools", "temperature", "top_p", "text", "metadata", "error"]
    {
        assert!(whole.get(key).is_some(), "{key}");
    }
    let count = ask(&sim, "/v1/responses/input_tokens", "", &body).await.json();
    assert_eq!(count, json!({"object": "response.input_tokens", "input_tokens": 6}));
}

#[tokio::test]
async fn responses_stream_in_order() {
    let sim = sim(|_| {}).await;
    let got = ask(
        &sim,
        "/v1/responses",
        "x-sim-text: a b\r\n",
        &json!({"model": "m", "input": "x", "stream": true}),
    )
    .await;
    let names: Vec<_> = got.events().into_iter().map(|(name, _)| name).collect();
    let wanted = "response.created response.in_progress response.output_item.added response.content_part.added \
                  response.output_text.delta response.output_text.delta response.output_text.done \
                  response.content_part.done response.output_item.done response.completed";
    assert_eq!(names.join(" "), wanted);
    let chunks = got.chunks();
    for (number, (chunk, name)) in chunks.iter().zip(&names).enumerate() {
        assert_eq!((&chunk["sequence_number"], &chunk["type"]), (&json!(number), &json!(name)));
    }
    assert_eq!(chunks[2]["item"]["content"], json!([]));
    assert_eq!(chunks[9]["response"]["output"][0], chunks[8]["item"]);
    assert_eq!(chunks[9]["response"]["id"], chunks[0]["response"]["id"]);
    assert!(!got.text().contains("[DONE]"));
}

#[tokio::test]
async fn responses_call_functions() {
    let sim = sim(|_| {}).await;
    let tools = json!([{"type": "function", "name": "weather", "parameters": tool(), "strict": true}]);
    let body =
        json!({"model": "m", "input": [{"role": "user", "content": "x"}], "tools": tools, "stream": true});
    let got = ask(&sim, "/v1/responses", "", &body).await;
    let chunks = got.chunks();
    let of = |name: &str| chunks.iter().filter(|c| c["type"] == name).collect::<Vec<_>>();
    let (added, done) =
        (&of("response.output_item.added")[0]["item"], &of("response.output_item.done")[0]["item"]);
    assert_eq!((&added["type"], &added["arguments"]), (&json!("function_call"), &json!("")));
    assert_ne!(added["id"], added["call_id"]);
    assert_eq!((&added["id"], &added["call_id"]), (&done["id"], &done["call_id"]));
    let deltas = of("response.function_call_arguments.delta");
    let joined: String = deltas.iter().map(|c| c["delta"].as_str().unwrap()).collect();
    assert_eq!(of("response.function_call_arguments.done")[0]["arguments"], joined);
    assert_eq!(done["arguments"], joined);
    assert_eq!(&of("response.completed")[0]["response"]["output"][0], done);
    let input = json!([{"type": "function_call_output", "call_id": "c", "output": "sun"}]);
    let body = json!({"model": "m", "input": input, "tools": body["tools"]});
    assert_eq!(ask(&sim, "/v1/responses", "", &body).await.json()["output"][0]["type"], "message");
}

#[tokio::test]
async fn errors_speak_the_dialect() {
    let sim = sim(|config| {
        config.api_key = Some("secret".into());
        config.strict = true;
        config.models = vec!["m".into()];
        config.context_tokens = Some(50);
    })
    .await;
    let key = "authorization: Bearer secret\r\nanthropic-version: 2023-06-01\r\n";
    let openai = ask(&sim, "/v1/chat/completions", "", &chat("x")).await;
    assert_eq!((openai.status, &openai.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let anthropic = ask(&sim, "/v1/messages", "x-api-key: wrong\r\n", &message("x")).await;
    assert_eq!((anthropic.status, &anthropic.json()["error"]["type"]), (401, &json!("authentication_error")));
    assert_eq!(anthropic.header("x-should-retry"), Some("false"));
    for header in ["authorization: Bearer secret", "x-api-key: secret", "api-key: secret"] {
        assert_eq!(ask(&sim, "/v1/chat/completions", &format!("{header}\r\n"), &chat("x")).await.status, 200);
    }
    let lost = get(&sim, "/v1/nothing", key.split_inclusive("\r\n").next().unwrap()).await;
    assert_eq!((lost.status, &lost.json()["error"]["type"]), (404, &json!("invalid_request_error")));
    assert_eq!(get(&sim, "/v1/chat/completions", key).await.status, 405);
    let mut client = Client::new(&sim).await;
    client.send(post("/v1/messages", key, "{nope")).await;
    let broken = client.reply().await;
    assert_eq!((broken.status, &broken.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    let unknown =
        ask(&sim, "/v1/messages", key, &json!({"model": "other", "max_tokens": 1, "messages": [{}]})).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["type"]), (404, &json!("not_found_error")));
    let long = ask(&sim, "/v1/messages", key, &message(&"word ".repeat(60))).await;
    assert!(
        long.json()["error"]["message"].as_str().unwrap().starts_with("prompt is too long: 62 tokens > 50")
    );
    let no_limit = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(ask(&sim, "/v1/messages", key, &no_limit).await.status, 400);
    let no_version = ask(&sim, "/v1/messages", "x-api-key: secret\r\n", &message("x")).await;
    assert!(no_version.json()["error"]["message"].as_str().unwrap().contains("anthropic-version"));
    let none = ask(&sim, "/v1/chat/completions", key, &json!({"messages": []})).await;
    assert_eq!((none.status, none.json()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let requests = [
        ("/v1/chat/completions", streamed(chat("a"))),
        ("/v1/messages", streamed(message("b"))),
        ("/v1/responses", json!({"model": "m", "input": "c", "stream": true})),
        ("/v1/embeddings", json!({"model": "m", "input": "d"})),
    ];
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let sim = sim(|config| config.seed = seed).await;
        let mut all = Vec::new();
        for (path, body) in &requests {
            let got = ask(&sim, path, "", body).await;
            all.push((got.head, got.body));
        }
        runs.push(all);
    }
    assert_eq!(runs[0], runs[1]);
    for (one, other) in runs[0].iter().zip(&runs[2]) {
        assert_ne!(one.1, other.1);
    }
}

#[tokio::test]
async fn its_own_pages() {
    let sim = sim(|_| {}).await;
    assert_eq!(get(&sim, "/health", "").await.json(), json!({"status": "ok"}));
    ask(&sim, "/v1/chat/completions", "x-mark: 7\r\nx-api-key: hidden\r\n", &chat("hi")).await;
    until(&sim, |s| s.completed == 2).await;
    let stats = get(&sim, "/sim/stats", "").await.json();
    assert_eq!((&stats["models"]["m"]["calls"], &stats["statuses"]["200"]), (&json!(1), &json!(2)));
    let metrics = get(&sim, "/metrics", "").await.text();
    assert!(
        metrics.contains("\nvllm:prompt_tokens_total{engine=\"0\",model_name=\"sim-model\"} 3\n"),
        "{metrics}"
    );
    let seen = get(&sim, "/sim/requests", "").await.json();
    assert_eq!(seen[1]["target"], "/v1/chat/completions");
    assert!(seen[1]["headers"].as_array().unwrap().contains(&json!(["x-mark", "7"])));
    assert!(seen[1]["headers"].as_array().unwrap().contains(&json!(["x-api-key", "***"])));
    assert_eq!(sim.requests()[1].header("x-api-key"), Some("hidden"));
    let reset = ask(&sim, "/sim/reset", "", &json!({})).await;
    assert_eq!(reset.json(), json!({"reset": true}));
    assert_eq!(sim.stats().snapshot().models.len(), 0);
}
