//! What the dialects of [`super::natives`] say when something is wrong: with a request, with a provider, in a stream.

use super::natives::{NATIVES, events};
use super::*;

/// Asks for each of these, and expects a refusal with that in its words.
async fn refuses(path: &str, cases: &[(Value, &str)]) {
    let sim = sim(|_| {}).await;
    for (body, part) in cases {
        let got = ask(&sim, path, "", body).await;
        let said = got.json();
        let places = ["/error/message", "/message", "/error"];
        let message = places.iter().find_map(|place| said.pointer(place)?.as_str());
        assert_eq!(got.status, 400, "{path} {body}: {got:?}");
        assert!(message.unwrap_or_default().contains(part), "{path} {body}: {said}");
    }
}

#[tokio::test]
async fn gemini_refuses_what_it_does_not_know() {
    let said = json!({"role": "user", "parts": [{"text": "hi"}]});
    let called = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
    let both = json!({"text": "x", "inlineData": {"mimeType": "a/b", "data": ""}});
    let schema = json!({"type": "object", "$schema": "x"});
    let declared = json!([{"functionDeclarations": [{"name": "f", "parameters": schema}]}]);
    let stops = json!({"stopSequences": ["1", "2", "3", "4", "5", "6"]});
    let cases = [
        (json!({}), "contents"),
        (json!({"contents": "hi"}), "Invalid value at 'contents' (TYPE_ARRAY), \"hi\""),
        (json!({"contents": [said], "temperature": 1}), "Unknown name \"temperature\": Cannot find field."),
        (json!({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}), "valid role: user, model"),
        (json!({"contents": [said, called, said]}), "number of function response parts"),
        (json!({"contents": [{"parts": [both]}]}), "one kind of data"),
        (json!({"contents": [said], "generationConfig": stops}), "at most 5"),
        (
            json!({"contents": [said], "tools": declared}),
            "Unknown name \"$schema\" at 'tools[0].functionDeclarations[0].parameters'",
        ),
    ];
    refuses("/v1beta/models/m:generateContent", &cases).await;
}

#[tokio::test]
async fn gemini_3_wants_its_signatures_back() {
    let sim = sim(|config| {
        config.strict = true;
        config.models = vec!["gemini-3-sim".into()];
    })
    .await;
    for (signature, status) in [(json!("any"), 200), (Value::Null, 400)] {
        let call = json!({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": signature});
        let response = json!({"functionResponse": {"name": "f", "response": {}}});
        let contents = json!([
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [call]},
            {"role": "user", "parts": [response]},
        ]);
        let path = "/v1beta/models/gemini-3-sim:generateContent";
        assert_eq!(ask(&sim, path, "", &json!({"contents": contents})).await.status, status);
    }
}

#[tokio::test]
async fn converse_refuses_turns_that_do_not_fit() {
    let user = json!({"role": "user", "content": [{"text": "hi"}]});
    let used =
        json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]});
    let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]});
    let one = |content: Value| json!({"messages": [{"role": "user", "content": [content]}]});
    let inference = |inference: Value| json!({"messages": [user], "inferenceConfig": inference});
    let cases = [
        (json!({}), "Value at 'messages' failed to satisfy constraint: Member must not be null"),
        (inference(json!({"maxTokens": "1"})), "STRING_VALUE can not be converted"),
        (inference(json!({"temperature": 1.5})), "inferenceConfig.temperature"),
        (json!({"messages": [user, user]}), "must alternate"),
        (json!({"messages": [used]}), "must start with a user message"),
        (one(json!({"text": " "})), "messages.0.content.0 is blank"),
        (one(json!({"type": "text"})), "messages.0.content.0 is invalid"),
        (
            one(json!({"text": "x", "image": {"format": "png", "source": {"bytes": ""}}})),
            "messages.0.content.0 is invalid",
        ),
        (json!({"messages": [user, used, user]}), "toolConfig field must be defined"),
        (
            json!({"messages": [user, used, user], "toolConfig": tools}),
            "Expected toolResult blocks at messages.2.content for the following Ids: t",
        ),
    ];
    refuses("/model/m/converse", &cases).await;
}

#[tokio::test]
async fn invoke_refuses_what_belongs_elsewhere() {
    let body = |more: Value| {
        let mut body = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1});
        body["messages"] = json!([{"role": "user", "content": "hi"}]);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let cases = [
        (body(json!({"anthropic_version": null})), "anthropic_version: Field required"),
        (body(json!({"anthropic_version": "2023-06-01"})), "bedrock-2023-05-31"),
        (body(json!({"stream": true})), "stream: Extra inputs are not permitted"),
        (body(json!({"model": "m"})), "model: Extra inputs are not permitted"),
        (body(json!({"max_tokens": null})), "max_tokens: Field required"),
        (body(json!({"messages": "hi"})), "messages: Input should be a valid array"),
    ];
    refuses("/model/m/invoke", &cases).await;
}

#[tokio::test]
async fn cohere_and_ollama_refuse_what_they_cannot_read() {
    let chat = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let told = json!([{"role": "tool", "tool_call_id": "x", "content": "y"}]);
    let cohere = [
        (json!({"messages": []}), "model is required"),
        (chat(json!({"messages": []})), "must not be empty"),
        (chat(json!({"stop": ["x"]})), "unknown field: parameter 'stop' is not a valid field"),
        (chat(json!({"tool_choice": "auto"})), "tool_choice"),
        (
            chat(json!({"temperature": "1"})),
            "parameter temperature is of type string but should be of type number",
        ),
        (chat(json!({"messages": told})), "tool call id not found"),
    ];
    refuses("/v2/chat", &cohere).await;
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]);
    let ollama = [
        (json!({"messages": []}), "model is required"),
        (chat(json!({"messages": parts})), "messages.0.content of type string"),
        (chat(json!({"options": {"stop": "x"}})), "options.stop of type array"),
    ];
    refuses("/api/chat", &ollama).await;
}

#[tokio::test]
async fn errors_have_the_shape_of_their_provider() {
    let sim = sim(|_| {}).await;
    let places = [
        (
            "gemini",
            "/error/status",
            ["INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"],
        ),
        (
            "converse",
            "",
            [
                "ValidationException",
                "ResourceNotFoundException",
                "ThrottlingException",
                "InternalServerException",
                "ServiceUnavailableException",
            ],
        ),
        (
            "invoke",
            "",
            [
                "ValidationException",
                "ResourceNotFoundException",
                "ThrottlingException",
                "InternalServerException",
                "ServiceUnavailableException",
            ],
        ),
        ("rawPredict", "", ["", "", "", "", ""]),
        ("cohere", "", ["", "", "", "", ""]),
        ("ollama", "", ["", "", "", "", ""]),
    ];
    for (native, (name, place, wanted)) in NATIVES.iter().zip(places) {
        assert_eq!(native.name, name);
        for (status, wanted) in [400, 404, 429, 500, 503].into_iter().zip(wanted) {
            for stream in [false, true] {
                let fault = format!("x-sim-fault: status={status};retry_after=7\r\n");
                let got = native.ask(&sim, stream, &fault, |_| {}).await;
                assert_eq!(got.status, status, "{name} {got:?}");
                let said = got.json();
                let message = match name {
                    "gemini" => &said["error"]["message"],
                    "rawPredict" => &said["error"]["message"],
                    "ollama" => &said["error"],
                    _ => &said["message"],
                };
                assert!(message.is_string(), "{name} {said}");
                if !place.is_empty() {
                    assert_eq!(said.pointer(place), Some(&json!(wanted)), "{said}");
                } else if !wanted.is_empty() {
                    assert_eq!(got.header("x-amzn-errortype"), Some(wanted));
                }
                let waits = got.header("retry-after") == Some("7")
                    || said.to_string().contains("\"retryDelay\":\"7s\"");
                assert!(waits, "{name} {got:?}");
            }
        }
    }
}

#[tokio::test]
async fn keys_and_models_are_asked_for_as_each_provider_does() {
    let sim = sim(|config| {
        config.api_key = Some("right".into());
        config.strict = true;
    })
    .await;
    let signed = "AWS4-HMAC-SHA256 Credential=right/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=x";
    for (name, header, wrong, unknown) in [
        ("gemini", "x-goog-api-key: right", 400, 404),
        ("converse", &format!("authorization: {signed}"), 403, 400),
        ("invoke", "authorization: Bearer right", 403, 400),
        ("rawPredict", "authorization: Bearer right", 401, 404),
        ("cohere", "authorization: Bearer right", 401, 404),
        ("ollama", "authorization: Bearer right", 401, 404),
    ] {
        let native = NATIVES.iter().find(|native| native.name == name).unwrap();
        let status =
            async |header: &str| native.ask(&sim, false, &format!("{header}\r\n"), |_| {}).await.status;
        assert_eq!(status(&header.replace("right", "wrong")).await, wrong, "{name}");
        assert_eq!(status(header).await, unknown, "{name}");
    }
}

#[tokio::test]
async fn a_stream_breaks_as_its_dialect_does() {
    let sim = sim(|_| {}).await;
    for native in &NATIVES {
        let say = "x-sim-text: one two three four\r\nx-sim-fault: ";
        let whole = events(&native.ask(&sim, true, "x-sim-text: one two three four\r\n", |_| {}).await);
        let got = native.ask(&sim, true, &format!("{say}error_event=2\r\n"), |_| {}).await;
        let told = events(&got);
        assert_eq!((told.len(), &told[..2]), (3, &whole[..2]), "{}", native.name);
        let (name, error) = &told[2];
        let right = match native.name {
            "gemini" => error["error"]["status"] == "UNAVAILABLE",
            "converse" | "invoke" => name == "modelStreamErrorException" && error["message"].is_string(),
            "rawPredict" => name == "error" && error["error"]["type"] == "overloaded_error",
            "cohere" => name == "message-end" && error["delta"]["finish_reason"] == "ERROR",
            _ => error["error"].is_string(),
        };
        assert!(right, "{}: {error}", native.name);
        let got = native.ask(&sim, true, &format!("{say}no_done\r\n"), |_| {}).await;
        // Cohere's stream ends with `[DONE]`, which is no event here.
        let lost = usize::from(native.name != "cohere");
        assert_eq!(events(&got).len(), whole.len() - lost, "{}", native.name);
        let intact = native.ask(&sim, true, "x-sim-text: one two three four\r\n", |_| {}).await;
        let broken = native.ask(&sim, true, &format!("{say}bad_event=1\r\n"), |_| {}).await;
        let differ = intact.body.iter().zip(&broken.body).filter(|(one, other)| one != other).count();
        assert_eq!((differ, intact.body.len()), (1, broken.body.len()), "{}", native.name);
        for stream in [false, true] {
            let got = native.ask(&sim, stream, "x-sim-fault: one_byte\r\n", |_| {}).await;
            assert_eq!(got.status, 200, "{}", native.name);
        }
    }
}
