//! What is refused, in whose words; what is put in, in every dialect.

use serde_json::json;

use super::*;
use crate::filter::redact::Kind as Pii;

fn applied(policy: &Policy, operation: Operation, body: &str) -> Result<String, Error> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let done = policy.apply(operation, &body)?;
    Ok(String::from_utf8(done.body.unwrap_or(body).to_vec()).unwrap())
}

/// The field that a chat request is refused for, and why.
fn refusal(policy: &Policy, operation: Operation, body: &str) -> (String, String) {
    let error = applied(policy, operation, body).unwrap_err();
    assert_eq!((error.blame, error.kind.status()), (crate::error::Blame::Policy, 400), "{error}");
    (error.param.unwrap_or_default().into_owned(), error.public.into_owned())
}

const CHAT: Operation = Operation::ChatCompletions;

#[test]
fn too_much_of_anything_is_refused() {
    let most = Most { messages: Some(2), input_tokens: Some(50), tools: Some(1) };
    let policy = Policy { most, ..Policy::default() };
    let three = r#"{"model":"m","messages":[{},{},{}]}"#;
    assert_eq!(
        refusal(&policy, CHAT, three),
        ("messages".into(), "messages: 3 messages are more than the 2 that this route allows".into())
    );
    let gemini = r#"{"contents":[{},{},{}]}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, gemini).0, "contents");
    let long = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(400)}]}).to_string();
    assert!(refusal(&policy, CHAT, &long).1.contains("tokens of input"));
    let tools = r#"{"model":"m","messages":[],"tools":[{},{}]}"#;
    assert_eq!(refusal(&policy, CHAT, tools).0, "tools");
    let tools = r#"{"contents":[],"tools":[{"functionDeclarations":[{},{}]}]}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, tools).0, "tools");
    let tools = r#"{"messages":[],"toolConfig":{"tools":[{},{}]}}"#;
    assert_eq!(refusal(&policy, Operation::Converse, tools).0, "toolConfig.tools");
    assert!(applied(&policy, CHAT, r#"{"model":"m","messages":[{},{}],"tools":[{}]}"#).is_ok());
    // What another dialect calls so hides nothing.
    let decoys = r#"{"model":"m","messages":[],"contents":[{},{},{}],"tools":[{}],"functions":[{}]}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, decoys).0, "contents");
    assert_eq!(refusal(&policy, CHAT, decoys).0, "tools");
    let wrapped = r#"{"generateContentRequest":{"contents":[{},{},{}]}}"#;
    assert_eq!(refusal(&policy, Operation::GeminiCount, wrapped).0, "contents");
    let hidden = r#"{"messages":[],"tools":[],"toolConfig":{"tools":[{},{}]}}"#;
    assert_eq!(refusal(&policy, Operation::Converse, hidden).0, "toolConfig.tools");
    let one = r#"{"contents":[],"tools":{"functionDeclarations":[{},{}]}}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, one).0, "tools");
}

#[test]
fn the_tokens_of_a_prompt_count_wherever_it_stands() {
    let policy = Policy { most: Most { input_tokens: Some(50), ..Most::default() }, ..Policy::default() };
    let long = "x".repeat(400);
    for (operation, body) in [
        (
            Operation::GenerateContent,
            json!({"contents": [], "systemInstruction": {"parts": [{"text": long}]}}),
        ),
        (Operation::Converse, json!({"messages": [], "toolConfig": {"tools": [{"name": long}]}})),
        (Operation::Rerank, json!({"model": "m", "query": "q", "documents": [long]})),
        (Operation::Completions, json!({"model": "m", "prompt": "a", "suffix": long})),
        (Operation::GeminiCount, json!({"generateContentRequest": {"contents": [long]}})),
    ] {
        let body = body.to_string();
        assert!(refusal(&policy, operation, &body).1.contains("tokens of input"), "{body}");
    }
}

#[test]
fn one_answer_is_looked_through_and_several_are_refused() {
    let redact = Redact { reply: Kinds::of([Pii::Email]), ..Redact::default() };
    let policy = Policy { redact, ..Policy::default() };
    assert_eq!(refusal(&policy, CHAT, r#"{"model":"m","messages":[],"n":2}"#).0, "n");
    let gemini = r#"{"contents":[],"generationConfig":{"candidateCount":3}}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, gemini).0, "generationConfig.candidateCount");
    assert!(applied(&policy, CHAT, r#"{"model":"m","messages":[],"n":1}"#).is_ok());
    assert!(applied(&Policy::default(), CHAT, r#"{"model":"m","messages":[],"n":2}"#).is_ok());
}

#[test]
fn parameters_have_one_name_in_every_dialect() {
    let bounds = |min, max| Bounds { min, max };
    let parameters = Parameters {
        allow: None,
        deny: vec!["logit_bias".into()],
        bounds: vec![
            ("temperature".into(), bounds(Some(0.0), Some(1.0))),
            ("max_tokens".into(), bounds(None, Some(100.0))),
            ("thinking.budget_tokens".into(), bounds(None, Some(1000.0))),
        ],
    };
    let policy = Policy { parameters, ..Policy::default() };
    for (operation, body, field) in [
        (CHAT, r#"{"model":"m","temperature":1.5}"#, "temperature"),
        (CHAT, r#"{"model":"m","Temperature":2}"#, "Temperature"),
        (CHAT, r#"{"model":"m","temperature":"hot"}"#, "temperature"),
        (CHAT, r#"{"model":"m","temperature":-0.1}"#, "temperature"),
        (CHAT, r#"{"model":"m","max_completion_tokens":101}"#, "max_completion_tokens"),
        (CHAT, r#"{"model":"m","LogitBias":{}}"#, "LogitBias"),
        (Operation::Responses, r#"{"model":"m","max_output_tokens":101}"#, "max_output_tokens"),
        (Operation::Messages, r#"{"model":"m","thinking":{"budget_tokens":1001}}"#, "thinking.budget_tokens"),
        (
            Operation::GenerateContent,
            r#"{"generationConfig":{"maxOutputTokens":101}}"#,
            "generationConfig.maxOutputTokens",
        ),
        (
            Operation::GenerateContent,
            r#"{"generation_config":{"temperature":9}}"#,
            "generation_config.temperature",
        ),
        (Operation::Converse, r#"{"inferenceConfig":{"maxTokens":101}}"#, "inferenceConfig.maxTokens"),
        (CHAT, r#"{"model":"m","temperature":0.5,"temperature":2}"#, "temperature"),
        (
            Operation::GenerateContent,
            r#"{"generationConfig":{"temperature":1,"temperature":9}}"#,
            "temperature",
        ),
    ] {
        assert_eq!(refusal(&policy, operation, body).0, field, "{body}");
    }
    assert!(refusal(&policy, CHAT, r#"{"model":"m","temperature":1.5}"#).1.contains("from 0 to 1"));
    for body in
        [r#"{"model":"m","temperature":1,"max_tokens":100,"top_p":7}"#, r#"{"model":"m","temperature":null}"#]
    {
        assert!(applied(&policy, CHAT, body).is_ok(), "{body}");
    }
}

#[test]
fn only_what_is_allowed_may_be_there() {
    let parameters = Parameters { allow: Some(vec!["temperature".into()]), ..Parameters::default() };
    let policy = Policy { parameters, ..Policy::default() };
    let (field, why) = refusal(&policy, CHAT, r#"{"model":"m","messages":[],"x_unknown":1}"#);
    assert_eq!(field, "x_unknown");
    assert!(why.contains("there may be: temperature"), "{why}");
    for (operation, body) in [
        (CHAT, r#"{"model":"m","messages":[],"stream":true,"temperature":1}"#),
        (Operation::GenerateContent, r#"{"contents":[],"generationConfig":{"temperature":1}}"#),
        (Operation::Messages, r#"{"model":"m","system":"x","messages":[]}"#),
    ] {
        assert!(applied(&policy, operation, body).is_ok(), "{body}");
    }
}

#[test]
fn a_prompt_is_put_before_the_clients_in_every_dialect() {
    let policy = Policy { system: Some(System::Prefix("Be \"kind\".".into())), ..Policy::default() };
    for (operation, body, expected) in [
        (
            CHAT,
            r#"{"model":"m","messages":[{"role":"system","content":"Hi"},{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"Be \"kind\".\n\nHi"},{"role":"user","content":"x"}]}"#,
        ),
        (
            CHAT,
            r#"{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"Hi"}]}]}"#,
            r#"{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"Be \"kind\"."},{"type":"text","text":"Hi"}]}]}"#,
        ),
        (
            CHAT,
            r#"{"model":"m","messages":[ {"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"Be \"kind\"."}, {"role":"user","content":"x"}]}"#,
        ),
        (
            CHAT,
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"Be \"kind\"."}]}"#,
        ),
        (
            Operation::Responses,
            r#"{"model":"m","input":"x"}"#,
            r#"{"instructions":"Be \"kind\".","model":"m","input":"x"}"#,
        ),
        (
            Operation::Responses,
            r#"{"model":"m","instructions":"Hi"}"#,
            r#"{"model":"m","instructions":"Be \"kind\".\n\nHi"}"#,
        ),
        (
            Operation::Responses,
            r#"{"model":"m","instructions":null}"#,
            r#"{"model":"m","instructions":"Be \"kind\"."}"#,
        ),
        (
            Operation::Messages,
            r#"{"model":"m","messages":[]}"#,
            r#"{"system":[{"type":"text","text":"Be \"kind\"."}],"model":"m","messages":[]}"#,
        ),
        (
            Operation::Messages,
            r#"{"model":"m","system":"Hi"}"#,
            r#"{"model":"m","system":"Be \"kind\".\n\nHi"}"#,
        ),
        (
            Operation::Messages,
            r#"{"model":"m","system":[{"type":"text","text":"Hi"}]}"#,
            r#"{"model":"m","system":[{"type":"text","text":"Be \"kind\"."},{"type":"text","text":"Hi"}]}"#,
        ),
        (
            Operation::GenerateContent,
            r#"{"contents":[]}"#,
            r#"{"systemInstruction":{"parts":[{"text":"Be \"kind\"."}]},"contents":[]}"#,
        ),
        (
            Operation::GenerateContent,
            r#"{"system_instruction":{"parts":[{"text":"Hi"}]}}"#,
            r#"{"system_instruction":{"parts":[{"text":"Be \"kind\"."},{"text":"Hi"}]}}"#,
        ),
        (Operation::Converse, r#"{}"#, r#"{"system":[{"text":"Be \"kind\"."}]}"#),
        (
            Operation::Converse,
            r#"{"system":[{"text":"Hi"}]}"#,
            r#"{"system":[{"text":"Be \"kind\"."},{"text":"Hi"}]}"#,
        ),
        (Operation::Embeddings, r#"{"model":"m","input":"x"}"#, r#"{"model":"m","input":"x"}"#),
    ] {
        assert_eq!(applied(&policy, operation, body).unwrap(), expected);
    }
    assert_eq!(refusal(&policy, Operation::Completions, r#"{"model":"m","prompt":"x"}"#).0, "prompt");
    assert_eq!(refusal(&policy, Operation::Messages, r#"{"model":"m","system":7}"#).0, "system");
    let two = r#"{"systemInstruction":{"parts":[]},"system_instruction":{"parts":[]}}"#;
    assert_eq!(refusal(&policy, Operation::GenerateContent, two).0, "systemInstruction");
}

#[test]
fn a_prompt_that_is_set_is_the_only_one() {
    let policy = Policy { system: Some(System::Set("Own".into())), ..Policy::default() };
    for (operation, body, expected) in [
        (
            CHAT,
            r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":"x"},{"role":"developer","content":"b"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"Own"},{"role":"user","content":"x"}]}"#,
        ),
        (
            CHAT,
            r#"{"messages":[{"role":"user","role":"system","content":"a"},{"role":"user","content":"x"}]}"#,
            r#"{"messages":[{"role":"system","content":"Own"},{"role":"user","content":"x"}]}"#,
        ),
        (
            Operation::Responses,
            r#"{"model":"m","instructions":"a","input":[{"role":"system","content":"b"},{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","instructions":"Own","input":[{"role":"user","content":"x"}]}"#,
        ),
        (
            Operation::Messages,
            r#"{"model":"m","system":[{"type":"text","text":"a"}]}"#,
            r#"{"model":"m","system":[{"type":"text","text":"Own"}]}"#,
        ),
        (
            Operation::GenerateContent,
            r#"{"systemInstruction":{"parts":[{"text":"a"}]}}"#,
            r#"{"systemInstruction":{"parts":[{"text":"Own"}]}}"#,
        ),
        (Operation::Converse, r#"{"system":[{"text":"a"}]}"#, r#"{"system":[{"text":"Own"}]}"#),
    ] {
        assert_eq!(applied(&policy, operation, body).unwrap(), expected);
    }
}

#[test]
fn what_must_not_be_sent_is_taken_out_or_refused() {
    let kinds = Kinds::of([Pii::Email]);
    let mut policy = Policy { redact: Redact { request: kinds, ..Redact::default() }, ..Policy::default() };
    policy.system = Some(System::Prefix("Ask help@us.com.".into()));
    let body = r#"{"model":"m","messages":[{"role":"system","content":"a@b.com"}]}"#;
    assert_eq!(
        applied(&policy, CHAT, body).unwrap(),
        r#"{"model":"m","messages":[{"role":"system","content":"Ask help@us.com.\n\n[EMAIL]"}]}"#,
        "what the route itself says stays"
    );
    policy.redact.action = Action::Refuse;
    let error = applied(&policy, CHAT, body).unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    assert!(error.public.contains("(email)") && !error.to_string().contains("a@b.com"), "{error}");
}

#[test]
fn a_body_must_fit_the_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "messages": {"maxItems": 2, "items": {"properties": {"role": {"enum": ["user"]}, "content": {"pattern": "^(a+)+$"}}}},
            "metadata": {"required": ["team"]},
            "a/b": {"type": "string"}
        }
    });
    let policy =
        Policy { schema: Some(Schema::new(&schema.to_string(), 1 << 20).unwrap()), ..Policy::default() };
    for (body, field) in [
        (r#"{"model":"m","messages":[{"role":"user"},{"role":"system"}]}"#, "/messages/1/role"),
        (r#"{"model":"m","metadata":{}}"#, "/metadata"),
        (r#"{"model":"m","messages":[{},{},{}]}"#, "/messages"),
        (r#"{"model":"m","a/b":1}"#, "/a~1b"),
        (r#"{"model":"m","metadata":{"x":{"team":1,"team":2}}}"#, "/metadata/x"),
    ] {
        let (named, why) = refusal(&policy, CHAT, body);
        assert_eq!(named, field, "{why}");
    }
    assert!(applied(&policy, CHAT, r#"{"model":"m","messages":[{"role":"user","content":"aa"}]}"#).is_ok());
    // What would take a matcher that goes back for ever is done at once.
    let evil = json!({"model": "m", "messages": [{"content": "a".repeat(100_000) + "b"}]}).to_string();
    assert_eq!(refusal(&policy, CHAT, &evil).0, "/messages/0/content");
    let (_, why) = refusal(&policy, CHAT, r#"{"model":"m","messages":[{"content":"my secret"}]}"#);
    assert!(why.contains("^(a+)+$") && !why.contains("secret"), "the value is not for the log: {why}");
    let small = Policy { schema: Some(Schema::new("{}", 64).unwrap()), ..Policy::default() };
    assert_eq!(refusal(&small, CHAT, &evil).0, "body");
    for wrong in [
        "{",
        r#"{"type":"nothing"}"#,
        r#"{"$ref":"https://example.com/x"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
    ] {
        assert!(Schema::new(wrong, 1).is_err(), "{wrong}");
    }
}

#[test]
fn what_the_audit_log_is_told_names_nobody() {
    let body =
        Bytes::from_static(br#"{"model":"m","messages":[{"content":"I am a@b.com"},{"content":"and so"}]}"#);
    assert_eq!(Policy::default().told(CHAT, &body), "I am [EMAIL]\nand so");
    let long = Bytes::from(json!({"messages": [{"content": "x".repeat(TOLD - 3) + " a@b.com"}]}).to_string());
    let told = Policy::default().told(CHAT, &long);
    assert!(told.len() <= TOLD && !told.contains("a@"), "what is cut is cut after it was looked through");
}
