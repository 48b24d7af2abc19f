//! Requests: what a client's becomes in Gemini, and what Gemini's becomes elsewhere.

use super::*;
use crate::dialect::ir::target::{Knob, MidInstructions, Replay, Structured, Taken};
use crate::dialect::ir::{Loss, Policy};

/// The cases of every dialect, in chat's words.
#[rustfmt::skip]
pub(in crate::dialect) const CHAT: &[Asked] = &[
    ("text", r#"{"model":"c","messages":[{"role":"user","content":"Hi \"there\" \u00e9😀"}],"temperature":2.5,"top_p":0.9,"max_tokens":5,"stop":["A","B","C","D"," "],"seed":7,"n":1,"user":"u1","service_tier":"flex","logprobs":true,"top_logprobs":2,"frequency_penalty":0.5}"#),
    ("multi-turn", r#"{"model":"c","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello "},{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"go on: "}],"stream":true}"#),
    ("system", r#"{"model":"c","messages":[{"role":"system","content":"Be brief."},{"role":"developer","content":[{"type":"text","text":"And kind."}]},{"role":"user","content":"Hi"},{"role":"system","content":"Now in French."},{"role":"user","content":"Go"}]}"#),
    ("tools", r#"{"model":"c","messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"strict":true}},{"type":"function","function":{"name":"now"}}],"tool_choice":"auto","parallel_tool_calls":false}"#),
    ("parallel tools and their results, out of order", r#"{"model":"c","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"},"extra_content":{"google":{"thought_signature":"c2VhbA=="}}},{"id":"call.2","type":"function","function":{"name":"weather","arguments":""}}]},{"role":"tool","tool_call_id":"call.2","content":"{\"sky\":\"rain\"}"},{"role":"tool","tool_call_id":"call_1","content":"sun"},{"role":"user","content":"So?"}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{}}}}]}"#),
    ("tool history without tools, broken arguments, empty result", r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":[{"id":"x","type":"function","function":{"name":"g","arguments":"{\"a\":"}}]},{"role":"tool","tool_call_id":"x","content":""}]}"#),
    ("forced tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"reasoning_effort":"high"}"#),
    ("required tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"required"}"#),
    ("no tool", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"none"}"#),
    ("image", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"text","text":"See"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"high"}},{"type":"image_url","image_url":{"url":"https://x.org/a.JPG?b=1"}}]}]}"#),
    ("audio", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]}"#),
    ("document", r#"{"model":"c","messages":[{"role":"user","content":[{"type":"file","file":{"filename":"my_report (1).pdf","file_data":"data:application/pdf;base64,JVBERi0="}},{"type":"file","file":{"filename":"my_report (1).pdf","file_data":"data:application/pdf;base64,JVBERi0="}}]}]}"#),
    ("structured output", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"p","description":"A point.","schema":{"type":"object","properties":{"x":{"type":"number"}},"required":["x"],"additionalProperties":false},"strict":true}}}"#),
    ("JSON", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_object"}}"#),
    ("reasoning", r#"{"model":"c","messages":[{"role":"user","content":"2+2?"},{"role":"assistant","reasoning_details":[{"type":"reasoning.text","text":"Adding.","signature":"c2VhbA==","format":"google-gemini-v1"},{"type":"reasoning.text","text":"Mine.","signature":"other","format":"anthropic-claude-v1"}],"content":"4"},{"role":"user","content":"And 3+3?"}],"reasoning_effort":"xhigh"}"#),
    ("no reasoning", r#"{"model":"c","messages":[{"role":"user","content":"?"}],"reasoning_effort":"none"}"#),
    ("refusal", r#"{"model":"c","messages":[{"role":"user","content":"?"},{"role":"assistant","content":null,"refusal":"No."},{"role":"user","content":"Why?"}]}"#),
    ("empty texts, and the model first", r#"{"model":"c","messages":[{"role":"system","content":" "},{"role":"assistant","content":"Welcome."},{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"Hi"}]}]}"#),
    ("cache marks", r#"{"model":"c","messages":[{"role":"system","content":[{"type":"text","text":"Long.","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]}"#),
    ("what is not known", r#"{"model":"c","messages":[{"role":"user","content":"Hi","name":"Bob"}],"metadata":{"team":"a b","odd":"ä"},"store":true,"logit_bias":{"1":2},"n":3}"#),
];

/// The same, in Gemini's.
#[rustfmt::skip]
const GEMINI: &[Asked] = &[
    ("text", r#"{"contents":[{"parts":[{"text":"Hi"}]}],"generationConfig":{"temperature":0.7,"topP":0.9,"topK":40.0,"maxOutputTokens":5,"stopSequences":["END"],"seed":7,"candidateCount":1,"frequencyPenalty":0.1,"presencePenalty":0.2,"responseLogprobs":true,"logprobs":3},"serviceTier":"flex"}"#),
    ("snake case", r#"{"contents":[{"role":"user","parts":[{"inline_data":{"mime_type":"image/jpeg","data":"_9j-"}},{"text":"?"}]}],"system_instruction":{"parts":[{"text":"Be brief."}]},"generation_config":{"max_output_tokens":5,"stop_sequences":["END"]},"tool_config":{"function_calling_config":{"mode":"any","allowed_function_names":["f"]}},"tools":[{"function_declarations":[{"name":"f"}]}]}"#),
    ("multi-turn", r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]},{"role":"model","parts":[{"text":"Hello"}]},{"role":"user","parts":[{"text":"a"},{"text":"b"}]}]}"#),
    ("tools in Gemini's own words", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"tools":[{"functionDeclarations":[{"name":"f","description":"F.","parameters":{"type":"OBJECT","properties":{"a":{"type":"STRING","nullable":true},"b":{"type":"ARRAY","items":{"type":"INTEGER"}}},"required":["a"]}},{"name":"g","parametersJsonSchema":{"type":"object","$defs":{}}}],"googleSearch":{}},{"codeExecution":{}}],"toolConfig":{"functionCallingConfig":{"mode":"AUTO"}}}"#),
    ("several tools allowed", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"tools":[{"functionDeclarations":[{"name":"f"},{"name":"g"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f","g"]}}}"#),
    ("calls without ids", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"c2VhbA=="},{"functionCall":{"name":"f"}},{"functionCall":{"id":"own","name":"g","args":{}}}]},{"role":"function","parts":[{"functionResponse":{"name":"g","response":{"result":"three"}}},{"functionResponse":{"name":"f","response":{"n":1}}},{"functionResponse":{"name":"f","response":{"error":"no"}}}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"four"},"parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]}},{"text":"Go on"}]}]}"#),
    ("media", r#"{"contents":[{"role":"user","parts":[{"fileData":{"fileUri":"gs://b/a.png","mimeType":"image/png"}},{"fileData":{"fileUri":"https://x.org/a.pdf","mimeType":"application/pdf","displayName":"a"}},{"inlineData":{"mimeType":"audio/mpeg","data":"SUQz"}},{"inlineData":{"mimeType":"application/pdf","data":"JVBERi0="}},{"inlineData":{"mimeType":"video/mp4","data":"AAAA"}},{"text":"?"}]}]}"#),
    ("structured output", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT","properties":{"x":{"type":"NUMBER"}}}}}"#),
    ("JSON", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"responseMimeType":"application/json"}}"#),
    ("thinking by level", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW","includeThoughts":true}}}"#),
    ("thinking by budget", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"maxOutputTokens":4096,"thinkingConfig":{"thinkingBudget":2048}}}"#),
    ("no thinking", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}"#),
    ("dynamic thinking", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}}"#),
    ("thoughts and seals come back", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]},{"role":"model","parts":[{"text":"Let ","thought":true},{"text":"me.","thought":true},{"text":"","thought":true,"thoughtSignature":"Zm9yZWJheTptZXNzYWdlczpFcTA9"},{"text":"4","thoughtSignature":"b3du"},{"executableCode":{"language":"PYTHON","code":"1"}}]},{"role":"user","parts":[{"text":"More"}]}]}"#),
    ("what is Gemini's own", r#"{"contents":[{"role":"user","parts":[{"text":"?"}]}],"safetySettings":[{"category":"HARM_CATEGORY_HARASSMENT","threshold":"BLOCK_NONE"}],"cachedContent":"cachedContents/1","labels":{"a":"b"},"generationConfig":{"responseModalities":["TEXT"],"mediaResolution":"MEDIA_RESOLUTION_LOW"}}"#),
];

#[test]
fn requests_become_what_the_golden_file_says() {
    let facts = Facts::default();
    let mut told = carried(Wire::Chat, CHAT, &[Wire::Gemini], &facts);
    told.push_str(&carried(Wire::Gemini, GEMINI, &ALL, &facts));
    golden("gemini/tests/requests.golden", &told, include_str!("requests.golden"));
}

/// What of a request stands under `pointer` in what Gemini is sent.
fn part(body: &str, facts: &Facts, pointer: &str) -> Value {
    let request = Wire::Chat.read(body.as_bytes()).unwrap();
    let written = Wire::Gemini.write(&request, facts, &mut Notes::default()).unwrap();
    serde_json::from_str::<Value>(&written).unwrap().pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn facts_of_a_model_decide() {
    let asks = r#"{"model":"c","messages":[{"role":"user","content":"?"}],"reasoning_effort":"low"}"#;
    let off = asks.replace("low", "none");
    let thinking = "/generationConfig/thinkingConfig";
    let older = Facts { thinking: Knob::Budget, ..Facts::default() };
    let none = Facts { thinking: Knob::None, ..Facts::default() };
    assert_eq!(part(asks, &Facts::default(), thinking)["thinkingLevel"], "LOW");
    assert_eq!(part(asks, &older, thinking)["thinkingBudget"], 2048);
    assert_eq!(part(&off, &older, thinking)["thinkingBudget"], 0);
    assert_eq!(part(&off, &Facts::default(), thinking), serde_json::json!({"thinkingLevel": "MINIMAL"}));
    assert_eq!(part(asks, &none, thinking), Value::Null);
    let shaped = r#"{"model":"c","messages":[{"role":"user","content":"?"}],"response_format":{"type":"json_schema","json_schema":{"name":"p","schema":{"type":"object"}}}}"#;
    let by_tool = Facts { structured: Structured::Tool, ..Facts::default() };
    assert_eq!(part(shaped, &by_tool, "/tools/0/functionDeclarations/0/name"), "forebay_answer");
    assert_eq!(
        part(shaped, &by_tool, "/toolConfig/functionCallingConfig/allowedFunctionNames/0"),
        "forebay_answer"
    );
    let system = CHAT.iter().find(|(name, _)| *name == "system").unwrap().1;
    let hoist = Facts { mid_instructions: MidInstructions::Hoist, ..Facts::default() };
    assert_eq!(part(system, &hoist, "/systemInstruction/parts/2/text"), "Now in French.");
    assert_eq!(part(system, &Facts::default(), "/contents/0/parts/1/text"), "Now in French.");
    // A model that does not seal its calls is not shown the word for a lost seal.
    let history = CHAT.iter().find(|(name, _)| name.starts_with("tool history")).unwrap().1;
    assert_eq!(
        part(history, &Facts::default(), "/contents/1/parts/0/thoughtSignature"),
        "skip_thought_signature_validator"
    );
    assert_eq!(part(history, &older, "/contents/1/parts/0/thoughtSignature"), Value::Null);
    let reasoning = CHAT.iter().find(|(name, _)| *name == "reasoning").unwrap().1;
    let forgets = Facts { replay: Replay::No, ..Facts::default() };
    assert_eq!(part(reasoning, &forgets, "/contents/1/parts/0/text"), "4");
    let image = CHAT.iter().find(|(name, _)| *name == "image").unwrap().1;
    let mut blind = Facts::default();
    blind.media.images = Taken::No;
    assert_eq!(part(image, &blind, "/contents/0/parts").as_array().unwrap().len(), 1);
}

#[test]
fn a_strict_route_refuses_what_it_would_drop() {
    for (body, path) in [
        (r#"{"model":"c","messages":[{"role":"user","content":"?"}],"logit_bias":{"1":2}}"#, "logit_bias: "),
        (r#"{"model":"c","messages":[{"role":"user","content":"?"}],"store":true}"#, "store: "),
        (r#"{"model":"c","messages":[{"role":"user","content":"?"}],"metadata":{"a":"b"}}"#, "metadata: "),
    ] {
        let request = Wire::Chat.read(body.as_bytes()).unwrap();
        let mut notes = Notes::new(Policy::Strict);
        let error = Wire::Gemini.write(&request, &Facts::default(), &mut notes).unwrap_err();
        assert!(error.public.starts_with(path), "{}", error.public);
        assert_eq!(notes.list().last().unwrap().loss, Loss::Refused);
    }
}

#[test]
fn a_wrong_request_is_refused_by_its_path() {
    refused(
        Wire::Gemini,
        &[
            ("{}", "contents: is required"),
            (r#"{"contents":[]}"#, "contents: must hold at least one content"),
            (r#"{"contents":[{"role":"bot","parts":[]}]}"#, "contents[0].role: must be 'user' or 'model'"),
            (r#"{"contents":[{"parts":[{"text":3}]}]}"#, "contents[0].parts[0].text: must be a string"),
            (r#"{"contents":[{"parts":[{}]}]}"#, "contents[0].parts[0]: must hold something, such as 'text'"),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"data":"QQ=="}}]}]}"#,
                "contents[0].parts[0].inlineData.mimeType: is required",
            ),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"*"}}]}]}"#,
                "contents[0].parts[0].inlineData.data: must be base64",
            ),
            (
                r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#,
                "contents[0].parts[0].functionResponse.name: no functionCall before it waits for this result",
            ),
            (
                r#"{"contents":[{"parts":[{"functionResponse":{"id":"x","name":"f","response":{}}}]}]}"#,
                "contents[0].parts[0].functionResponse.name: no functionCall before it waits for this result",
            ),
            (
                r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"}}]},{"parts":[{"functionResponse":{"name":"f","response":[]}}]}]}"#,
                "contents[1].parts[0].functionResponse.response: must be an object",
            ),
            (
                r#"{"contents":[{"parts":[{"text":"a"}]}],"tools":[{"functionDeclarations":[{}]}]}"#,
                "tools[0].functionDeclarations[0].name: is required",
            ),
            (
                r#"{"contents":[{"parts":[{"text":"a"}]}],"toolConfig":{"functionCallingConfig":{"mode":"X"}}}"#,
                "toolConfig.functionCallingConfig.mode: must be 'AUTO', 'ANY', 'NONE' or 'VALIDATED'",
            ),
            (
                r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"topK":1.5}}"#,
                "generationConfig.topK: must be a whole number that is not negative",
            ),
        ],
    );
}

#[test]
fn a_seal_that_other_clients_kept_comes_back_to_its_call() {
    // A client of Messages keeps the seal on the thought before the call.
    let body = r#"{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"?"},{"role":"assistant","content":[
        {"type":"thinking","thinking":"Hm.","signature":"forebay:gemini:c2VhbA=="},{"type":"tool_use","id":"a","name":"f","input":{}},
        {"type":"tool_use","id":"b","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"},
        {"type":"tool_result","tool_use_id":"b","content":"2","is_error":true}]}]}"#;
    let request = Wire::Messages.read(body.as_bytes()).unwrap();
    let mut notes = Notes::default();
    let written = Wire::Gemini.write(&request, &Facts::default(), &mut notes).unwrap();
    assert_eq!(
        written,
        "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"?\"}]},{\"role\":\"model\",\"parts\":[\
         {\"text\":\"Hm.\",\"thought\":true},{\"functionCall\":{\"name\":\"f\",\"args\":{}},\"thoughtSignature\":\"c2VhbA==\"},\
         {\"functionCall\":{\"name\":\"f\",\"args\":{}}}]},{\"role\":\"user\",\"parts\":[\
         {\"functionResponse\":{\"name\":\"f\",\"response\":{\"result\":\"1\"}}},\
         {\"functionResponse\":{\"name\":\"f\",\"response\":{\"error\":\"2\"}}}]}],\"generationConfig\":{\"maxOutputTokens\":9}}"
    );
    assert!(notes.list().is_empty(), "{:?}", notes.list());
}
